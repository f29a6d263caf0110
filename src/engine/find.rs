//! Finding what a storage holds, by its folders alone: the backups, the recorded oplog, and what other tools keep there.
//!
//! No part of a backup is listed here, and nothing is concluded from what is not found: a listing may be late.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::debug;

use crate::artifact::layout::BackupRoot;
use crate::domain::backup::place_of;
use crate::domain::key::Key;
use crate::engine::foreign::{self, ForeignFolder};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Folders nested deeper are not looked into: a bucket may hold other things besides backups.
const MAX_DEPTH: usize = 12;
/// Folders looked into at most, those that are still to be looked into and those of backups included; for the same
/// reason.
const MAX_FOLDERS: usize = 200_000;

/// Manifests that are looked for at once.
const LOOKS_AT_ONCE: usize = 16;

/// A folder that looks like a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub folder: String,
    pub name: String,
    /// Without one it is an attempt: it has an `attempt.json`.
    pub has_manifest: bool,
}

impl Found {
    /// The key of its root.
    pub fn key(&self) -> String {
        if self.folder.is_empty() {
            format!("backups/{}", self.name)
        } else {
            format!("{}/backups/{}", self.folder, self.name)
        }
    }

    /// See [`place_of`].
    pub fn place(&self) -> String {
        place_of(&self.folder, &self.name)
    }
}

/// What a storage holds.
pub struct InStorage {
    /// In the order of folder and name.
    pub backups: Vec<Found>,
    /// The folders of recorded oplog, in order.
    pub archives: Vec<Key>,
    /// The folders that other tools back up into.
    pub foreign: Vec<ForeignFolder>,
    /// Folders with so many objects that backups of other tools may be among those that were not looked into.
    pub crowded: BTreeSet<String>,
}

/// Whether `folder` is called as the folder of an archive is: `.../oplog/<replica set>-<its id>`.
pub fn is_archive(folder: &Key) -> bool {
    let mut parts = folder.as_str().rsplit('/');
    let id = parts.next().and_then(|name| name.rsplit_once('-')).map(|(_, id)| id);
    id.is_some_and(|id| id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit())) && parts.next() == Some("oplog")
}

/// Every `<folder>/backups/<name>` that holds a manifest or an attempt, without listing any parts, every
/// `<folder>/oplog/<replica set>-<its id>`, and every folder that another tool backs up into.
///
/// Errors: what the storage reports; `Failed` when it holds so many folders that it cannot be for backups alone.
pub async fn find(storage: &dyn Storage) -> Result<InStorage> {
    let (mut found, mut archives, mut foreign, mut crowded) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    let mut listings = 0;
    // Folders to look into, and whether their children are backups.
    let mut open: Vec<(String, bool, usize)> = vec![(String::new(), false, 0)];
    while let Some((folder, of_backups, depth)) = open.pop() {
        listings += 1;
        if listings + open.len() + found.len() > MAX_FOLDERS {
            return Err(Error::new(ErrorKind::Failed, format!("{} holds too many folders", storage.place()))
                .hint("give the storage a prefix of its own"));
        }
        let prefix = if folder.is_empty() { None } else { Some(Key::new(folder.clone())?) };
        let level = storage.list_level(prefix.as_ref()).await?;
        let names = level.folders;
        if of_backups {
            // A person may call a folder so, and keep archives in it.
            let (beside, are_more) = foreign::among(storage, &folder, &level.objects).await?;
            foreign.extend(beside);
            if are_more || level.has_more {
                crowded.insert(folder.clone());
            }
            continue_below(storage, &folder, &names, depth, &mut open, &mut found).await?;
            continue;
        }
        // Blocks of physical backups are many, and nothing else.
        let objects = if is_of_blocks(&folder) { Vec::new() } else { level.objects };
        let (of_other_tool, are_more) = foreign::in_folder(storage, &folder, &objects).await?;
        if are_more || (level.has_more && !is_of_blocks(&folder)) {
            crowded.insert(folder.clone());
        }
        for name in names.into_iter().filter(|name| !of_other_tool.iter().any(|f| f.has(name))) {
            let below = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            // A name that is no key belongs to somebody else.
            let Ok(key) = Key::new(below.clone()) else { continue };
            if is_archive(&key) {
                archives.push(key);
            } else if depth < MAX_DEPTH {
                open.push((below, name == "backups", depth + 1));
            }
        }
        foreign.extend(of_other_tool);
    }
    found.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    archives.sort();
    Ok(InStorage { backups: found, archives, foreign, crowded })
}

/// `blocks/` and two hex digits.
fn is_of_blocks(folder: &str) -> bool {
    let mut parts = folder.rsplit('/');
    let is_shard = |name: &str| name.len() == 2 && name.bytes().all(|b| b.is_ascii_hexdigit());
    parts.next().is_some_and(is_shard) && parts.next() == Some("blocks")
}

/// The children of a folder called `backups`: a backup each, or a folder of a person who called it so.
async fn continue_below(
    storage: &dyn Storage,
    backups: &str,
    names: &[String],
    depth: usize,
    open: &mut Vec<(String, bool, usize)>,
    found: &mut Vec<Found>,
) -> Result<()> {
    let folder = backups.strip_suffix("backups").unwrap_or(backups).trim_end_matches('/');
    for name in names {
        let Ok(key) = Key::new(format!("{backups}/{name}")) else { continue };
        let Ok(root) = BackupRoot::new(folder, name) else { continue };
        let has_manifest = storage.stat(&root.manifest()?).await?.is_some();
        if has_manifest || storage.stat(&root.attempt()?).await?.is_some() {
            found.push(Found { folder: folder.to_owned(), name: name.clone(), has_manifest });
        } else if depth < MAX_DEPTH {
            debug!(key = %key, "neither manifest nor attempt; looking below");
            open.push((key.as_str().to_owned(), name == "backups", depth + 1));
        }
    }
    Ok(())
}

/// Those of `backups` (folder and name) that have a manifest. Asked of each: a listing may be late or empty, and is no proof
/// that something is gone.
pub async fn with_manifest(storage: &dyn Storage, backups: Vec<(String, String)>) -> Result<Vec<Found>> {
    let looks = backups.into_iter().map(|(folder, name)| async move {
        let root = BackupRoot::new(&folder, &name)?;
        let is_there = storage.stat(&root.manifest()?).await?.is_some();
        Ok::<_, Error>(is_there.then_some(Found { folder, name, has_manifest: true }))
    });
    let there: Vec<Option<Found>> = stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
    Ok(there.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_their_names() {
        let id = "0123456789abcdef01234567";
        let is = |text: String| is_archive(&Key::new(text).unwrap());
        assert!(is(format!("prod/eu/oplog/rs-0-{id}")) && is(format!("oplog/rs-{id}")));
        for other in
            [format!("prod/rs-{id}"), "prod/oplog/rs".into(), format!("oplog/rs-{id}/x"), format!("oplog/{id}")]
        {
            assert!(!is(other.clone()), "{other}");
        }
    }
}
