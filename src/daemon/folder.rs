//! The folder of a filesystem storage.

use std::path::Path;

use crate::domain::job::{Job, JobKind, JobState};
use crate::domain::storage::{StorageConfig, StorageLocation};
use crate::error::{Result, own_io};
use crate::store::Store;

/// Makes the folder of a storage that was never used. Once it holds backups, a folder that is missing is a disk that is
/// not mounted, and filling the disk below it would look like a backup.
pub fn prepare(store: &Store, location: &StorageLocation) -> Result<()> {
    let StorageConfig::Filesystem { path } = &location.config else { return Ok(()) };
    if Path::new(path).exists() || was_used(store, location)? {
        return Ok(());
    }
    crate::config::create_private(Path::new(path))
        .map_err(|e| own_io(format!("creating the folder {path} of storage {}", location.name), e))
}

/// Whether the folder has been there before: a test passed, or a backup was made, even one that is deleted by now.
fn was_used(store: &Store, location: &StorageLocation) -> Result<bool> {
    let tested = matches!(location.last_test, Some((_, None)));
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
        }
        Ok(found)
    };
    Ok(tested || holds()? || held()? || records()?)
}
