//! Finding what `mongodump` left in a storage.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::open::read_manifest;
use super::{archive, files};
use crate::artifact::layout::BackupRoot;
use crate::domain::key::Key;
use crate::engine::foreign::{Among, Discovered, ForeignBackup, ForeignTool};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectInfo, Storage};

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

    async fn discover(&self, storage: &dyn Storage, _: &str, folder: &str, _: &[ObjectInfo]) -> Result<Discovered> {
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
                Ok(Discovered { backups, ..Discovered::default() })
            }
        }
    }
}

/// The archives of `mongodump`, which lie in any folder.
pub struct MongodumpArchives;

/// Objects that are looked into at once.
const AT_ONCE: usize = 16;
/// ... and of one folder at all: a bucket may hold anything.
const MOST_LOOKED_INTO: usize = 10_000;

/// What is written by us or by a tool under a name that says what it is.
fn is_something_else(key: &Key) -> bool {
    let name = key.file_name();
    [".json", ".json.gz", ".bson", ".bson.gz", ".zst", ".age"].iter().any(|suffix| name.ends_with(suffix))
}

#[async_trait]
impl ForeignTool for MongodumpArchives {
    async fn is_here(&self, _: &dyn Storage, _: &str) -> Result<bool> {
        Ok(false)
    }

    /// By their first bytes: nobody says how an archive is called.
    async fn among(&self, storage: &dyn Storage, objects: &[ObjectInfo]) -> Result<Among> {
        let unknown: Vec<&ObjectInfo> = objects.iter().filter(|object| !is_something_else(&object.key)).collect();
        let are_more = unknown.len() > MOST_LOOKED_INTO;
        let looks = unknown.into_iter().take(MOST_LOOKED_INTO).cloned().map(|object| async move {
            let is_archive = archive::look(storage, &object).await?.is_some();
            Ok::<_, Error>(is_archive.then_some(object))
        });
        let found: Vec<Option<ObjectInfo>> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
        Ok(Among { backups: found.into_iter().flatten().collect(), are_more })
    }

    fn has(&self, _: &str) -> bool {
        false
    }

    fn owns(&self, _: &str, _: &str) -> bool {
        false
    }

    fn is_archive(&self, _: &Key) -> bool {
        false
    }

    async fn discover(&self, storage: &dyn Storage, _: &str, _: &str, objects: &[ObjectInfo]) -> Result<Discovered> {
        let mut backups = Vec::with_capacity(objects.len());
        for object in objects {
            let name = object.key.as_str().to_owned();
            let read = match BackupRoot::mongodump_archive(&name) {
                Ok(root) => read_manifest(storage, &root).await,
                Err(e) => Err(Error::new(ErrorKind::Unsupported, e.full()).hint("give the archive another name")),
            };
            match read {
                Err(e) if e.is_retryable() || e.kind() == ErrorKind::Cancelled => return Err(e),
                // It went meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                read => backups.push(ForeignBackup { name, read }),
            }
        }
        Ok(Discovered { backups, ..Discovered::default() })
    }
}
