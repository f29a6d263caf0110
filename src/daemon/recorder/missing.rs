//! Slices that somebody removes while their service is recorded: looked for when recording begins, and once a day.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracing::warn;

use super::super::env::Env;
use crate::artifact::slice;
use crate::domain::key::Key;
use crate::domain::pitr::{Archive, Slice};
use crate::domain::text::counted;
use crate::engine::pitr::reconcile::{Catalogue, reconcile};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectInfo, Storage};
use crate::store::SlicingWanted;

const EVERY: Duration = Duration::from_secs(24 * 3600);
/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(600);
/// Slices that are read from the catalogue in one go.
const BATCH: usize = 1000;

/// Looks for ever. What is missing leaves the catalogue, which tells it and asks for a base.
pub async fn look_for_missing(env: Env, storage: Arc<dyn Storage>, wanted: SlicingWanted) -> Infallible {
    loop {
        let pause = match look_at_all(&env, &*storage, &wanted).await {
            Ok(()) => EVERY,
            Err(e) => {
                warn!(service = wanted.service, "slices that are missing are not looked for: {e}");
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn look_at_all(env: &Env, storage: &dyn Storage, wanted: &SlicingWanted) -> Result<()> {
    for (archive, newest) in env.store.recorded_into(wanted).await? {
        look_at(env, storage, &archive, &newest).await?;
    }
    Ok(())
}

/// Errors: `Interrupted` when the newest slice is gone.
async fn look_at(env: &Env, storage: &dyn Storage, archive: &Archive, newest: &Slice) -> Result<()> {
    // Without that one it may be another disk that is mounted there, which is no reason to forget what the right one holds.
    // The recorder finds it, and tells it.
    if storage.stat(&Key::new(&*newest.key)?).await?.is_none() {
        return Err(Error::new(
            ErrorKind::Interrupted,
            format!("{} is not in storage {}", newest.key, archive.storage),
        ));
    }
    let folder = slice::folder(archive)?;
    let mut known = Known { env, archive, folder: folder.as_str().to_owned() };
    reconcile(storage, &folder, &mut known).await.map(drop)
}

struct Known<'a> {
    env: &'a Env,
    archive: &'a Archive,
    folder: String,
}

#[async_trait]
impl Catalogue for Known<'_> {
    async fn keys(&mut self, after: Option<&str>) -> Result<Vec<String>> {
        let (place, folder, after) = (self.archive.storage.clone(), self.folder.clone(), after.map(str::to_owned));
        self.env.store.with(move |store| store.slice_keys(&place, &folder, after.as_deref(), BATCH)).await
    }

    async fn missing(&mut self, keys: Vec<String>) -> Result<()> {
        let (slices, storage) = (counted(keys.len() as u64, "slice"), &self.archive.storage);
        warn!(storage, "no longer there: {slices}, such as {}", keys.first().map_or("", String::as_str));
        self.env.store.forget_slices(storage, &keys).await
    }

    /// The recorder finds those that are newer than what is known; the others are for `storage sync`.
    async fn found(&mut self, _: Vec<ObjectInfo>) -> Result<()> {
        Ok(())
    }
}
