//! The folder of a filesystem storage.

use std::path::PathBuf;

use crate::domain::job::{Job, JobKind, JobState};
use crate::domain::storage::StorageLocation;
use crate::error::{Result, own_io};
use crate::storage::backends::{self, filesystem};
use crate::storage::filesystem::mark::Mark;
use crate::store::Store;

/// Whether the folder of a storage is the one that was written to before; whose disk is not mounted is another one, and looks
/// empty.
///
/// Errors: `Unreachable` where it is not.
pub fn recognize(store: &Store, location: &StorageLocation) -> Result<()> {
    let Some(path) = backends::local_folder(&location.config)? else { return Ok(()) };
    let (Some(found), Some(known)) = (backends::mark(&location.config)?, store.folder_mark(&location.name, &path)?)
    else {
        return Ok(());
    };
    // Empty: a person says that it is.
    if found == Mark::Empty || found == Mark::Of(known) {
        return Ok(());
    }
    Err(filesystem::not_mounted(&path, &found))
}

/// Makes the folder of a storage ready to be written to, and marks it, so that it is known again.
///
/// Errors: as [`prepare`]; a folder that cannot be written to.
pub fn claim(store: &Store, location: &StorageLocation) -> Result<()> {
    prepare(store, location)?;
    mark(store, location)
}

/// Marks the folder of a storage, if it is there.
///
/// Errors: `Unreachable` for another folder; one that cannot be written to.
pub fn mark(store: &Store, location: &StorageLocation) -> Result<()> {
    recognize(store, location)?;
    let Some(path) = backends::local_folder(&location.config)?.filter(|path| path.exists()) else { return Ok(()) };
    let known = store.folder_mark(&location.name, &path)?;
    match filesystem::write_mark(&path, known.clone())? {
        Mark::Of(id) if known.as_ref() != Some(&id) => store.set_folder_mark(&location.name, &path, &id),
        _ => Ok(()),
    }
}

/// Makes the folder of a storage that was never used. Once it holds backups, a folder that is missing is a disk that is
/// not mounted, and filling the disk below it would look like a backup.
///
/// Errors: `Unreachable` for a folder that is not the one that was written to before; one that cannot be made.
pub fn prepare(store: &Store, location: &StorageLocation) -> Result<()> {
    let Some(path) = backends::local_folder(&location.config)? else { return Ok(()) };
    recognize(store, location)?;
    if path.exists() || was_used(store, location)? {
        return Ok(());
    }
    crate::config::create_private(&path).map_err(|e| {
        let hint =
            "give the storage a folder that the user of the daemon may create, or create this one as another user";
        own_io(format!("creating the folder {} of storage {}", path.display(), location.name), e).hint(hint)
    })
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
