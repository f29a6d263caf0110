//! Clones of a data folder's files on a file system that shares blocks (btrfs, XFS): made in moments, so that a server is
//! locked no longer than that.
//!
//! They lie in a folder of their own below the data folder, where they can be clones, and go when they were read. One that
//! a killed process left is removed by the next.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::data_folder::{Listing, OWN_PREFIX, inside};
use crate::domain::text::escape;
use crate::error::{Result, io};

/// After [`OWN_PREFIX`]: nothing else that mongokeep makes in a data folder is removed here. What a restore has set aside is
/// a server's only data.
const CLONE: &str = "clone-";

/// Where clones can be made. Removed when dropped.
pub struct CloneFolder {
    path: PathBuf,
    /// Held for as long as somebody needs them.
    _lock: File,
}

impl Drop for CloneFolder {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.path) {
            tracing::warn!("{} could not be removed: {e}", self.path.display());
        }
    }
}

/// A place for clones of the files of `folder`; `None` where they cannot be cloned. Blocks.
pub fn prepare(folder: &Path, listing: &Listing, attempt_id: &str) -> Option<CloneFolder> {
    remove_left(folder);
    // What lies on another disk cannot be cloned to this one.
    let first = listing.files.iter().find(|file| file.size > 0)?;
    if listing.files.iter().any(|file| file.device() != first.device()) {
        return None;
    }
    let path = folder.join(format!("{OWN_PREFIX}{CLONE}{attempt_id}"));
    fs::DirBuilder::new().mode(0o700).create(&path).ok()?;
    let made = create(&path.join(".lock")).and_then(|lock| {
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(lock)
    });
    let Ok(lock) = made else {
        let _ = fs::remove_dir_all(&path);
        return None;
    };
    let clones = CloneFolder { path, _lock: lock };
    let probe = clones.path.join(".probe");
    // One that the server has removed meanwhile says nothing about the others.
    let tried = listing.files.iter().filter(|file| file.size > 0).map(|file| {
        let cloned = clone_file(&folder.join(&file.path), &probe);
        let _ = fs::remove_file(&probe);
        cloned
    });
    let is_gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    let cloned =
        tried.into_iter().find(|cloned| !cloned.as_ref().is_err_and(is_gone)).is_some_and(|cloned| cloned.is_ok());
    cloned.then_some(clones)
}

/// Clones every file. Blocks.
///
/// Errors: name the file.
pub fn clone_all(folder: &Path, listing: &Listing, into: &CloneFolder) -> Result<PathBuf> {
    for path in listing.folders.keys().filter(|path| !path.is_empty()) {
        let to = inside(&into.path, path)?;
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&to).map_err(|e| io(shown(&to), e))?;
    }
    for file in &listing.files {
        let (from, to) = (inside(folder, &file.path)?, inside(&into.path, &file.path)?);
        clone_file(&from, &to).map_err(|e| io(format_args!("cloning {}", shown(&from)), e))?;
    }
    Ok(into.path.clone())
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(target_os = "linux")]
fn clone_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let (from, to) = (File::open(from)?, create(to)?);
    Ok(rustix::fs::ioctl_ficlone(&to, &from)?)
}

#[cfg(not(target_os = "linux"))]
fn clone_file(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Removes the clones of processes that are gone.
fn remove_left(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.strip_prefix(OWN_PREFIX).is_some_and(|rest| rest.starts_with(CLONE)) {
            continue;
        }
        let lock = File::open(entry.path().join(".lock"));
        let is_held = lock
            .is_ok_and(|lock| rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err());
        if !is_held && let Err(e) = fs::remove_dir_all(entry.path()) {
            tracing::warn!("{} could not be removed: {e}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::physical::data_folder;

    #[test]
    fn only_clones_that_were_left_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.wt"), "x").unwrap();
        let (left, of_a_restore) = (dir.path().join(".mongokeep-clone-a1"), dir.path().join(".mongokeep-restore/old"));
        fs::create_dir(&left).unwrap();
        fs::create_dir_all(&of_a_restore).unwrap();
        fs::write(of_a_restore.join("a.wt"), "the only data").unwrap();
        drop(prepare(dir.path(), &data_folder::list(dir.path()).unwrap(), "check"));
        assert!(!left.exists() && of_a_restore.join("a.wt").exists());
    }
}
