//! The folder that becomes a server's data folder: empty before, and empty again when the restore does not come to its end.
//!
//! A mark in it says which attempt works there. It goes last, so that a folder with the mark is never taken for a server's,
//! and one that a killed process left can be emptied without a doubt.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result, io};

/// The name of the mark. A server ignores it, people should not.
const MARK: &str = "mongokeep-restore-is-not-complete.json";

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    attempt_id: String,
    backup: String,
    /// The folder was made by the restore, and goes with it.
    made: bool,
}

/// A folder that is being filled.
#[derive(Debug)]
pub struct TargetFolder {
    path: PathBuf,
    made: bool,
    /// Who owns the files: whoever owns the folder.
    owner: (u32, u32),
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// Errors: `Conflict` for a folder that holds something; `NotFound` where there is no folder to make it in.
pub fn must_be_empty(path: &Path) -> Result<()> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(first) => {
                let first = first.map_err(|e| io(shown(path), e))?;
                let what = format!("{} is not empty: it holds {}", shown(path), shown(Path::new(&first.file_name())));
                Err(Error::new(ErrorKind::Conflict, what).hint("name an empty or a missing folder"))
            }
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            if parent.is_dir() {
                return Ok(());
            }
            Err(Error::new(ErrorKind::NotFound, format!("there is no folder {}", shown(parent)))
                .hint("make it, or name another folder"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            Err(Error::new(ErrorKind::Conflict, format!("{} is no folder", shown(path))).hint("name another one"))
        }
        Err(e) => Err(io(shown(path), e)),
    }
}

/// Bytes that can be written where `path` is, or will be.
pub fn free_bytes(path: &Path) -> Result<u64> {
    let there = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let stat = rustix::fs::statvfs(there).map_err(|e| io(shown(there), e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// User and group of a folder.
pub fn owner_of(folder: &Path) -> Result<(u32, u32)> {
    let metadata = fs::metadata(folder).map_err(|e| io(shown(folder), e))?;
    Ok((metadata.uid(), metadata.gid()))
}

/// Gives a file or folder to `owner`: a daemon that runs as root restores for the server's user.
pub fn give(path: &Path, owner: (u32, u32)) -> Result<()> {
    if !rustix::process::geteuid().is_root() || owner == (0, 0) {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1))
        .map_err(|e| io(format_args!("giving {}", shown(path)), e))
}

impl TargetFolder {
    /// Makes the folder if need be, and marks it.
    ///
    /// Errors: those of [`must_be_empty`]; what the system reports.
    pub fn claim(path: &Path, attempt_id: &str, backup: &str) -> Result<Self> {
        must_be_empty(path)?;
        let made = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(io(format_args!("making {}", shown(path)), e)),
        };
        let mark = Mark { attempt_id: attempt_id.to_owned(), backup: backup.to_owned(), made };
        let body = serde_json::to_vec_pretty(&mark).map_err(|e| Error::new(ErrorKind::Internal, "a mark").source(e))?;
        let at = path.join(MARK);
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at).and_then(|mut file| {
            file.write_all(&body)?;
            file.sync_all()
        });
        if let Err(e) = written {
            let _ = if made { fs::remove_dir(path) } else { fs::remove_file(&at) };
            return Err(io(format_args!("writing {}", shown(&at)), e));
        }
        Ok(Self { path: path.to_owned(), made, owner: owner_of(path)? })
    }

    /// Gives everything below the folder to its owner, and takes the mark away: from now on it is a server's.
    pub fn finish(self) -> Result<()> {
        self.give_below(&self.path)?;
        let mark = self.path.join(MARK);
        fs::remove_file(&mark).map_err(|e| io(shown(&mark), e))?;
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(|e| io(shown(&self.path), e))
    }

    fn give_below(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(|e| io(shown(folder), e))? {
            let entry = entry.map_err(|e| io(shown(folder), e))?;
            give(&entry.path(), self.owner)?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.give_below(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Empties the folder again, and removes it if it was made here.
    pub fn abandon(&self) -> Result<()> {
        empty(&self.path, self.made)
    }
}

/// Everything in it but the mark, then the mark, so that this can be done again when it is interrupted.
fn empty(path: &Path, made: bool) -> Result<()> {
    for entry in fs::read_dir(path).map_err(|e| io(shown(path), e))? {
        let entry = entry.map_err(|e| io(shown(path), e))?;
        if entry.file_name() == MARK {
            continue;
        }
        let at = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_folder { fs::remove_dir_all(&at) } else { fs::remove_file(&at) };
        removed.map_err(|e| io(format_args!("removing {}", shown(&at)), e))?;
    }
    let mark = path.join(MARK);
    fs::remove_file(&mark).map_err(|e| io(shown(&mark), e))?;
    if made {
        fs::remove_dir(path).map_err(|e| io(format_args!("removing {}", shown(path)), e))?;
    }
    Ok(())
}

/// Empties what the attempt `attempt_id` left, whose process is gone. `false`: it left nothing there.
pub fn abandon_left(path: &Path, attempt_id: &str) -> Result<bool> {
    let at = path.join(MARK);
    let body = match fs::read(&at) {
        Ok(body) => body,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(io(shown(&at), e)),
    };
    match serde_json::from_slice::<Mark>(&body) {
        Ok(mark) if mark.attempt_id == attempt_id => empty(path, mark.made).map(|()| true),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_empty_before_and_after() {
        let dir = tempfile::tempdir().unwrap();
        let (there, missing) = (dir.path().join("there"), dir.path().join("missing"));
        fs::create_dir(&there).unwrap();
        for path in [&there, &missing] {
            let target = TargetFolder::claim(path, "a1", "b").unwrap();
            assert_eq!(must_be_empty(path).unwrap_err().kind(), ErrorKind::Conflict);
            fs::create_dir(path.join("journal")).unwrap();
            fs::write(path.join("journal/x"), "x").unwrap();
            target.abandon().unwrap();
            must_be_empty(path).unwrap();
        }
        assert!(there.exists() && !missing.exists());
        assert_eq!(must_be_empty(&dir.path().join("a/b")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn only_what_the_attempt_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::mem::forget(TargetFolder::claim(&path, "a1", "b").unwrap());
        fs::write(path.join("x"), "x").unwrap();
        assert!(!abandon_left(&path, "another").unwrap());
        assert!(path.join("x").exists());
        assert!(abandon_left(&path, "a1").unwrap());
        assert!(!path.exists());
        assert!(!abandon_left(&path, "a1").unwrap());
        let target = TargetFolder::claim(&path, "a2", "b").unwrap();
        fs::write(path.join("WiredTiger"), "x").unwrap();
        target.finish().unwrap();
        assert!(!abandon_left(&path, "a2").unwrap(), "it is a server's now");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    }
}
