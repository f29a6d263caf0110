//! `storage check`: what a storage holds, compared with its manifests and the catalogue, and the repair of it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Client;
use crate::control::storage_check;
use crate::domain::job::Job;
use crate::domain::storage_check::{RepairPlan, StorageReport};
use crate::engine::{Context, Meter};
use crate::error::Result;
use crate::storage::Opener;
use crate::storage::retry::Backoff;
use crate::store::AsyncStore;

/// A person waits: a page of a long listing may be asked for again, and a server that is down is said to be within seconds.
const BACKOFF: Backoff = Backoff {
    attempts: 4,
    first: Duration::from_millis(250),
    longest: Duration::from_secs(2),
    total: Duration::from_secs(6),
    after_cancel: Duration::from_secs(2),
};

impl Client {
    /// Compares a storage with its manifests and the catalogue: lists it, and reads no data. A backup that lacks something
    /// is no longer listed as good, unless this client may not write.
    ///
    /// Errors: what the storage reports, `Cancelled`; nothing is concluded then.
    pub async fn check_storage(
        &self,
        name: &str,
        meter: Arc<Meter>,
        cancel: CancellationToken,
    ) -> Result<StorageReport> {
        let location = self.location(name).await?;
        self.recognize_folder(&location).await?;
        let opened = Opener::new(&location.config, BACKOFF, cancel.clone()).open(&cancel).await;
        let storage = opened.map_err(|e| e.of_storage(name))?;
        let around = self.surroundings(None).await?;
        let ctx = Context { cancel, meter, around, ..Context::default() };
        let store = AsyncStore::new(self.store.clone());
        let checked = storage_check::check(&ctx, &store, storage.as_ref(), name, !self.is_read_only()).await;
        checked.map_err(|e| e.of_storage(name))
    }

    /// Queues the removal of what the plan of a check names, and starts the daemon.
    pub fn repair_storage(&self, name: &str, plan: &RepairPlan) -> Result<Job> {
        self.must_write()?;
        self.queue(|| self.store.enqueue_repair(name, plan))
    }
}
