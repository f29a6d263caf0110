//! The folder of a filesystem storage.

use std::path::Path;

use crate::domain::storage::{StorageConfig, StorageLocation};
use crate::error::{Result, io};
use crate::store::Store;

/// Makes the folder of a storage that was never used. Once it holds backups, a folder that is missing is a disk that is
/// not mounted, and filling the disk below it would look like a backup.
pub fn prepare(store: &Store, location: &StorageLocation) -> Result<()> {
    let StorageConfig::Filesystem { path } = &location.config else { return Ok(()) };
    let used = store.backups()?.iter().any(|b| b.storage == location.name && b.size_bytes.is_some());
    if used || Path::new(path).exists() {
        return Ok(());
    }
    crate::config::create_private(Path::new(path))
        .map_err(|e| io(format!("creating the folder {path} of storage {}", location.name), e))
}
