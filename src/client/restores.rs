//! Restores: planned while a person watches, run by the daemon.

use std::path::Path;
use std::sync::Arc;

use super::Client;
use crate::domain::fields::NOT_BUILT;
use crate::domain::job::Job;
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::engine::Meter;
use crate::error::{Error, ErrorKind, Result};

impl Client {
    /// Looks at backup and target and says what a restore would do; writes nothing.
    pub async fn plan_restore(&self, request: &RestoreRequest) -> Result<RestorePlan> {
        self.readable(&request.backup)?;
        Err(Error::new(ErrorKind::Unsupported, format!("restore is {NOT_BUILT}")))
    }

    /// Queues the restore of a plan that was shown and confirmed, and starts the daemon.
    pub fn restore(&self, request: &RestoreRequest, plan: &RestorePlan) -> Result<Job> {
        self.must_write()?;
        self.queue(|| self.store.enqueue_restore(request, plan))
    }

    /// Writes the stock layout of `mongodump` below `to`, which must be empty or absent.
    pub async fn export_backup(&self, name: &str, _to: &Path, _meter: Arc<Meter>) -> Result<()> {
        self.readable(name)?;
        Err(Error::new(ErrorKind::Unsupported, format!("export is {NOT_BUILT}")))
    }
}
