//! A check of a storage, with what the catalogue knows of it. The client makes it for a person, before and after a repair.

use async_trait::async_trait;

use crate::domain::command_line::quoted;
use crate::domain::storage_check::StorageReport;
use crate::engine::storage_check::repair::Permits;
use crate::engine::storage_check::{self, Checked, Known, KnownSlices, Place};
use crate::engine::{Context, foreign};
use crate::error::Result;
use crate::storage::{Key, Storage};
use crate::store::{AsyncStore, KnownOfStorage};

/// Slices that are read from the catalogue in one go.
const BATCH: usize = 1000;

/// Compares the storage called `name` with its manifests and the catalogue. With `marks`, what is no longer whole is no
/// longer listed as good; nothing is ever made good here.
///
/// Errors: what the storage and the store report; `Cancelled`.
pub async fn check(
    ctx: &Context,
    store: &AsyncStore,
    storage: &dyn Storage,
    name: &str,
    marks: bool,
) -> Result<StorageReport> {
    let of = name.to_owned();
    let (known, home_id) = store.with(move |store| Ok((store.known_of_storage(&of)?, store.home_id()?))).await?;
    let KnownOfStorage { attempts, at_work, good, good_foreign, backups, names, once_good, gaps } = known;
    let known = Known {
        storage: quoted(name),
        home_id,
        attempts,
        at_work,
        good,
        good_foreign,
        backups,
        names,
        once_good,
        gaps,
    };
    let slices = Slices { store, storage: name.to_owned() };
    let Checked { report, damaged } = storage_check::check(ctx, storage, name, &known, &slices).await?;
    if marks && !damaged.is_empty() {
        let of = name.to_owned();
        let noted = store.with(move |store| {
            damaged.iter().try_for_each(|((folder, backup), why)| store.backup_not_whole(&of, folder, backup, why))
        });
        noted.await?;
    }
    Ok(report)
}

struct Slices<'a> {
    store: &'a AsyncStore,
    storage: String,
}

#[async_trait]
impl KnownSlices for Slices<'_> {
    async fn folders(&self) -> Result<Vec<Key>> {
        let storage = self.storage.clone();
        let folders = self.store.with(move |store| store.archive_folders(&storage)).await?;
        let folders = folders.into_iter().map(Key::new).collect::<Result<Vec<Key>>>()?;
        // What PBM recorded has its own order, and is compared by a sync.
        Ok(folders.into_iter().filter(|folder| !foreign::is_archive(folder)).collect())
    }

    async fn keys(&self, folder: &Key, after: Option<&str>) -> Result<Vec<String>> {
        let (storage, folder, after) = (self.storage.clone(), folder.clone(), after.map(str::to_owned));
        self.store.with(move |store| store.slice_keys(&storage, folder.as_str(), after.as_deref(), BATCH)).await
    }
}

/// What the store says while a storage is repaired.
pub struct StorePermits {
    pub store: AsyncStore,
    pub storage: String,
}

#[async_trait]
impl Permits for StorePermits {
    async fn is_at_work(&self, (folder, name): &Place) -> Result<bool> {
        let (storage, folder, name) = (self.storage.clone(), folder.clone(), name.clone());
        self.store.with(move |store| store.is_at_work(&storage, &folder, &name)).await
    }

    async fn discarded(&self, attempt_id: &str) -> Result<()> {
        let attempt_id = attempt_id.to_owned();
        self.store.with(move |store| store.attempt_discarded(&attempt_id)).await
    }
}
