//! The folder of a filesystem storage.

use std::path::PathBuf;

use crate::domain::job::{Job, JobKind, JobState};
use crate::domain::storage::StorageLocation;
use crate::error::{Result, own_io};
use crate::storage::backends;
use crate::store::Store;

/// Makes the folder of a storage that was never used. Once it holds backups, a folder that is missing is a disk that is
/// not mounted, and filling the disk below it would look like a backup.
pub fn prepare(store: &Store, location: &StorageLocation) -> Result<()> {
    let Some(path) = backends::local_folder(&location.config)? else { return Ok(()) };
    if path.exists() || was_used(store, location)? {
        return Ok(());
    }
    crate::config::create_private(&path)
        .map_err(|e| own_io(format!("creating the folder {} of storage {}", path.display(), location.name), e))
}

/// The folders that making that of a storage would make, the innermost first.
pub fn missing(location: &StorageLocation) -> Result<Vec<PathBuf>> {
    let Some(path) = backends::local_folder(&location.config)? else { return Ok(Vec::new()) };
    Ok(path.ancestors().take_while(|folder| !folder.exists()).map(PathBuf::from).collect())
}

/// Whether the folder has been there before: a test passed, a copy of the store was written, or a backup was
/// made, even one that is deleted by now.
fn was_used(store: &Store, location: &StorageLocation) -> Result<bool> {
    let tested = matches!(location.last_test, Some((_, None)));
    let keeps_copy = || -> Result<bool> { Ok(store.copy_note()?.storage == location.name) };
    let holds = || -> Result<bool> {
        Ok(store.backups()?.iter().any(|b| b.storage == location.name && b.size_bytes.is_some()))
    };
    let held = || -> Result<bool> {
        let made = |j: &Job| j.kind == JobKind::Backup && j.state == JobState::Succeeded;
        Ok(store.jobs()?.iter().any(|j| made(j) && j.storage.as_deref() == Some(location.name.as_str())))
    };
    let records = || -> Result<bool> {
        let mut found = false;
        for service in store.services_with_slices()? {
            found |= store.archives(&service)?.iter().any(|a| a.storage == location.name);
            found |= store.engine_recording(&service)?.is_some_and(|r| r.storage == location.name);
        }
        Ok(found)
    };
    Ok(tested || keeps_copy()? || holds()? || held()? || records()?)
}
