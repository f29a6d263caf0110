//! Finding what PBM left in a storage.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::chunks;
use super::open::read_manifest;
use crate::artifact::foreign::piece_of;
use crate::artifact::layout::BackupRoot;
use crate::domain::key::Key;
use crate::engine::foreign::{Discovered, ForeignArchive, ForeignBackup, ForeignTool};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectInfo, Storage};

/// Backups that are read at once.
const AT_ONCE: usize = 4;

const SUFFIX: &str = ".pbm.json";

/// Percona Backup for MongoDB.
pub struct Pbm;

#[async_trait]
impl ForeignTool for Pbm {
    /// PBM writes `.pbm.init` when it is given a storage.
    async fn is_here(&self, storage: &dyn Storage, folder: &str) -> Result<bool> {
        let key = if folder.is_empty() { Key::new(".pbm.init") } else { Key::new(format!("{folder}/.pbm.init")) };
        match key {
            Ok(key) => Ok(storage.stat(&key).await?.is_some()),
            // So deep that nothing lies in it.
            Err(_) => Ok(false),
        }
    }

    /// Its backups are named by their time.
    fn has(&self, name: &str) -> bool {
        let is_time = name.len() == 20 && chrono::DateTime::parse_from_rfc3339(name).is_ok();
        is_time || name == chunks::FOLDER || name == ".pbm.restore"
    }

    fn owns(&self, _: &str, path: &str) -> bool {
        match path.split_once('/') {
            Some((folder, _)) => self.has(folder),
            None => path.starts_with(".pbm.") || path.ends_with(SUFFIX),
        }
    }

    fn is_archive(&self, folder: &Key) -> bool {
        folder.as_str().rsplit('/').nth(1) == Some(chunks::FOLDER)
    }

    async fn discover(
        &self,
        storage: &dyn Storage,
        storage_name: &str,
        folder: &str,
        _: &[ObjectInfo],
    ) -> Result<Discovered> {
        let prefix = if folder.is_empty() { None } else { Some(Key::new(folder)?) };
        let mut names = Vec::new();
        let mut recorded: BTreeMap<String, Recorded> = BTreeMap::new();
        let mut listing = storage.list(prefix.as_ref()).await?;
        while let Some(object) = listing.try_next().await? {
            let path = match &prefix {
                Some(prefix) => object.key.below(prefix),
                None => Some(object.key.as_str()),
            };
            let Some(path) = path else { continue };
            if let Some(name) = path.strip_suffix(SUFFIX).filter(|name| !name.contains('/')) {
                names.push(name.to_owned());
                continue;
            }
            let (first, _) = piece_of(path);
            if let Some((set, _)) = chunks::of_archive(first) {
                let first = first.to_owned();
                *recorded.entry(set.to_owned()).or_default().sizes.entry(first).or_default() += object.size;
            }
        }
        drop(listing);
        let reads = names.into_iter().map(|name| async move {
            let read = match BackupRoot::pbm(folder, &name) {
                Ok(root) => read_manifest(storage, &root).await,
                Err(e) => Err(Error::new(ErrorKind::Unsupported, e.full())),
            };
            match read {
                // What cannot be reached now may be sound: nothing is concluded from it.
                Err(e) if e.is_retryable() || e.kind() == ErrorKind::Cancelled => Err(e),
                read => Ok(ForeignBackup { name, read }),
            }
        });
        let backups = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let place = storage.place();
        let archives = recorded.into_iter().map(|(set, recorded)| {
            let slices = recorded.sizes.into_iter().filter_map(|(path, size)| {
                let (_, span) = chunks::of_archive(&path)?;
                let key = if folder.is_empty() { Key::new(path) } else { Key::new(format!("{folder}/{path}")) };
                Some(chunks::slice(&key.ok()?, span, size))
            });
            Ok(ForeignArchive {
                archive: chunks::archive(storage_name, &place, folder, &set),
                key: chunks::archive_key(folder, &set)?,
                slices: slices.collect(),
                service: set,
            })
        });
        Ok(Discovered { backups, archives: archives.collect::<Result<_>>()?, ..Discovered::default() })
    }
}

/// The chunks of one replica set, by their paths: bytes of all pieces.
#[derive(Default)]
struct Recorded {
    sizes: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_its_own() {
        for own in ["2026-11-29T21:05:15Z", "pbmPitr", ".pbm.restore"] {
            assert!(Pbm.has(own), "{own}");
        }
        for other in ["2026-11-29", "backups", "prod", "2026-11-29T21:05:15+01:00"] {
            assert!(!Pbm.has(other), "{other}");
        }
        assert!(Pbm.is_archive(&Key::new("a/pbmPitr/rs0").unwrap()));
        assert!(!Pbm.is_archive(&Key::new("pbmPitr/rs0/20261129").unwrap()));
        assert!(!Pbm.is_archive(&Key::new("a/oplog/rs0-0123").unwrap()));
    }
}
