//! Finding what `mongodump` left in a storage.

use async_trait::async_trait;

use super::files;
use super::open::read_manifest;
use crate::artifact::layout::BackupRoot;
use crate::domain::key::Key;
use crate::engine::foreign::{Discovered, ForeignBackup, ForeignTool};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// The folders of `mongodump`.
pub struct Mongodump;

/// Whether the folder holds a prelude, and whether it is gzipped.
async fn prelude(storage: &dyn Storage, folder: &str) -> Result<Option<bool>> {
    for (name, gzipped) in [("prelude.json", false), ("prelude.json.gz", true)] {
        let key = if folder.is_empty() { Key::new(name) } else { Key::new(format!("{folder}/{name}")) };
        // So deep that nothing lies in it.
        let Ok(key) = key else { return Ok(None) };
        if storage.stat(&key).await?.is_some() {
            return Ok(Some(gzipped));
        }
    }
    Ok(None)
}

#[async_trait]
impl ForeignTool for Mongodump {
    async fn is_here(&self, storage: &dyn Storage, folder: &str) -> Result<bool> {
        Ok(prelude(storage, folder).await?.is_some())
    }

    /// What else lies beside the databases may be anything.
    fn has(&self, _: &str) -> bool {
        false
    }

    fn owns(&self, folder: &str, path: &str) -> bool {
        let db = folder.rsplit('/').next();
        files::read(path, None).is_some() || files::read(path, db).is_some()
    }

    fn is_archive(&self, _: &Key) -> bool {
        false
    }

    async fn discover(&self, storage: &dyn Storage, _: &str, folder: &str) -> Result<Discovered> {
        let Some(gzipped) = prelude(storage, folder).await? else { return Ok(Discovered::default()) };
        let read = match BackupRoot::mongodump(folder, gzipped) {
            Ok(root) => read_manifest(storage, &root).await,
            Err(e) => Err(Error::new(ErrorKind::Unsupported, e.full())
                .hint("let the storage begin one folder higher, so that the dump has a name")),
        };
        match read {
            // What cannot be reached now may be sound: nothing is concluded from it.
            Err(e) if e.is_retryable() || e.kind() == ErrorKind::Cancelled => Err(e),
            read => {
                let name = if folder.is_empty() { "the root of the storage" } else { folder };
                let backups = vec![ForeignBackup { name: name.to_owned(), read }];
                Ok(Discovered { backups, archives: Vec::new() })
            }
        }
    }
}
