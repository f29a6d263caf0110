//! Restores: planned while a person watches, run by the daemon.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Client;
use crate::domain::fields::NOT_BUILT;
use crate::domain::job::Job;
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::engine::{Meter, logical};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::connect::CHECK_TIMEOUT;

impl Client {
    /// Looks at backup and target and says what a restore would do; writes nothing.
    pub async fn plan_restore(&self, request: &RestoreRequest) -> Result<RestorePlan> {
        check(request)?;
        let backup = self.readable(&request.backup)?;
        let target = self.store.service(&request.to)?;
        let (storage, manifest) = self.opened(&backup).await?;
        let server = Server::connect(&request.to, &target.uri, CHECK_TIMEOUT).await?;
        logical::plan(&CancellationToken::new(), storage, manifest, &server, request).await
    }

    /// Queues the restore of a plan that was shown and confirmed, and starts the daemon.
    pub fn restore(&self, request: &RestoreRequest, plan: &RestorePlan) -> Result<Job> {
        self.must_write()?;
        check(request)?;
        self.readable(&request.backup)?;
        self.queue(|| self.store.enqueue_restore(request, plan))
    }

    /// Writes the stock layout of `mongodump` below `to`, which must be empty or absent.
    pub async fn export_backup(&self, name: &str, _to: &Path, _meter: Arc<Meter>) -> Result<()> {
        self.readable(name)?;
        Err(Error::new(ErrorKind::Unsupported, format!("export is {NOT_BUILT}")))
    }
}

fn check(request: &RestoreRequest) -> Result<()> {
    if request.safety_backup {
        return Err(Error::new(ErrorKind::Unsupported, format!("safety-backup: {NOT_BUILT}"))
            .hint(format!("make a backup of {} yourself first", request.to)));
    }
    Ok(())
}
