//! A copy from a server that keeps the files of a checkpoint for whoever has a backup cursor open: nothing is locked.
//!
//! The files of the log up to a position of the oplog are asked for besides, so that the copy is recovered as one made under
//! a lock is: up to that position.

use std::collections::BTreeMap;
use std::path::Path;

use super::backup::{Copied, Run};
use super::copy::Copier;
use super::data_folder::{self, Listing};
use super::index_builds;
use super::local_member::LocalMember;
use super::manifest::CopyMethod;
use crate::domain::pitr::OpTime;
use crate::domain::text::escape;
use crate::engine::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::backup_cursor::{ALIVE_INTERVAL, BackupCursor, CursorFile};

/// The server's list of a checkpoint lacks it, and a server does not start without it.
const STORAGE_OPTIONS: &str = "storage.bson";
/// How often a cursor is opened for a moment at which no index is being built.
const OPEN_TRIES: usize = 30;
/// Files of the log go on growing after they were listed, and the server says how long they were then.
const LOG: &str = "journal/";

impl Run<'_> {
    /// A backup cursor, and the position that a copy of its files can be recovered to; `None` when the server has none.
    ///
    /// Errors: as [`BackupCursor::open`]; `Interrupted` when no moment is found at which its copy can be recovered.
    pub(super) async fn open_cursor(
        &self,
        member: &Server,
        numbers: [u32; 3],
    ) -> Result<Option<(BackupCursor, OpTime)>> {
        for _ in 0..OPEN_TRIES {
            let Some(cursor) = BackupCursor::open(member, &self.stop).await? else { return Ok(None) };
            let top = self.top(member).await?;
            if index_builds::allow_a_copy(member, numbers, Some(cursor.checkpoint), &self.stop).await? {
                return Ok(Some((cursor, top)));
            }
            cursor.close().await;
            index_builds::wait_for_moment(member, numbers, &self.stop).await?;
        }
        Err(index_builds::one_after_another(member))
    }

    /// Copies what `cursor` holds, and the log up to `top`, and closes it.
    ///
    /// Errors: `Interrupted` when the server closed it too soon; `Unsupported` for files outside of the data folder.
    pub(super) async fn copy_cursor(
        &self,
        local: &LocalMember,
        copier: &Copier,
        cursor: BackupCursor,
        top: OpTime,
    ) -> Result<Copied> {
        let meter = &self.ctx.meter;
        meter.info("the server keeps the files of a checkpoint for this backup ($backupCursor): it is not locked");
        let copying = async {
            meter.set_phase("waiting for the server's log");
            let log = cursor.extend(top.ts, &self.stop).await?;
            let (folder, db_path) = (local.folder.clone(), cursor.db_path.clone());
            let files = [cursor.files.clone(), log].concat();
            let listed = move || list(&folder, &db_path, files);
            let listing = blocking("looking at the files of a backup cursor", listed).await?;
            meter.set_phase("copying files");
            let files = copier.copy(&local.folder, listing.files).await?;
            // If the server had closed it, it might have written over what was read.
            cursor.keep(&self.stop).await?;
            if let Some(torn) = files.iter().find(|file| file.torn) {
                return Err(shorter(&torn.found.path));
            }
            Ok((listing.folders, files))
        };
        let keeping = async {
            loop {
                tokio::time::sleep(ALIVE_INTERVAL).await;
                if let Err(e) = cursor.keep(&self.stop).await {
                    return e;
                }
            }
        };
        let outcome = tokio::select! {
            outcome = copying => outcome,
            error = keeping => Err(error),
        };
        cursor.close().await;
        let (folders, files) = outcome?;
        self.whole(CopyMethod::BackupCursor, folders, files, top, None, copier).await
    }
}

/// The files of `folder`, which the server calls `db_path`. Blocks.
fn list(folder: &Path, db_path: &str, files: Vec<CursorFile>) -> Result<Listing> {
    let mut sizes: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for file in files {
        let path = relative(db_path, &file.path)?;
        // A file of the log that has grown is named again.
        let size = sizes.entry(path).or_default();
        *size = file.size.max(*size);
    }
    if !sizes.contains_key(STORAGE_OPTIONS) && folder.join(STORAGE_OPTIONS).exists() {
        sizes.insert(STORAGE_OPTIONS.to_owned(), None);
    }
    let mut listing = Listing::default();
    for (path, size) in sizes {
        let mut found = data_folder::find(folder, &path)?;
        match size {
            Some(size) if found.size < size => return Err(shorter(&path)),
            Some(size) if !path.starts_with(LOG) => found.size = size,
            _ => {}
        }
        listing.files.push(found);
        let mut below = Path::new(&path).parent();
        while let Some(parent) = below {
            let name = parent.to_string_lossy().into_owned();
            listing.folders.insert(name.clone(), data_folder::mode(folder, &name)?);
            below = parent.parent();
        }
    }
    Ok(listing)
}

fn relative(db_path: &str, path: &str) -> Result<String> {
    let below = path.strip_prefix(db_path.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
    match below {
        Some(below) => Ok(below.trim_start_matches('/').to_owned()),
        None if !path.starts_with('/') => Ok(path.to_owned()),
        None => {
            let what = format!(
                "the server's backup cursor names {}, outside of its data folder {}",
                escape(path),
                escape(db_path)
            );
            Err(Error::new(ErrorKind::Unsupported, what))
        }
    }
}

fn shorter(path: &str) -> Error {
    let what = format!("file {} is shorter than the server's backup cursor says", escape(path));
    Error::new(ErrorKind::Interrupted, what).hint("another attempt copies a consistent state again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: Option<u64>) -> CursorFile {
        CursorFile { path: path.to_owned(), size }
    }

    #[test]
    fn tables_end_where_the_checkpoint_does_and_logs_are_read_on() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("a.wt", "12345"), ("journal/WiredTigerLog.1", "12345"), ("storage.bson", "1")] {
            std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        let log = "/data/db/journal/WiredTigerLog.1";
        let files = vec![file("/data/db/a.wt", Some(3)), file(log, Some(2)), file(log, Some(4))];
        let listing = list(dir.path(), "/data/db/", files).unwrap();
        let found: Vec<_> = listing.files.iter().map(|file| (file.path.as_str(), file.size)).collect();
        assert_eq!(found, [("a.wt", 3), ("journal/WiredTigerLog.1", 5), ("storage.bson", 1)]);
        assert_eq!(listing.folders.keys().collect::<Vec<_>>(), ["", "journal"]);
    }

    #[test]
    fn what_cannot_be_the_servers_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.wt"), "1").unwrap();
        let listed = |path: &str, size| list(dir.path(), "/data/db", vec![file(path, size)]).unwrap_err().kind();
        assert_eq!(listed("/data/dbx/a.wt", None), ErrorKind::Unsupported);
        assert_eq!(listed("/data/db/../a.wt", None), ErrorKind::Corrupt);
        assert_eq!(listed("/data/db/a.wt", Some(2)), ErrorKind::Interrupted);
        assert_eq!(listed("/data/db/b.wt", None), ErrorKind::NotFound);
    }
}
