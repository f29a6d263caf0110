//! The mark of a storage folder: a small file by which it is known again. A mount point whose disk is not mounted has none,
//! and a backup written there would fill another disk and be out of sight as soon as the right one is back.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::root::{create_file, open_file};
use crate::storage::random_name;

/// The file, which is no object.
pub const MARK: &str = ".mongokeep-storage";
/// What is read of it.
const MOST: u64 = 4096;

/// What a folder says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// It never held a storage, or the disk that did is not mounted.
    Missing,
    /// A person made the file, to say that this is the right folder.
    Empty,
    /// Who it is.
    Of(String),
}

/// The mark of the folder at `path`. Errors: `NotFound` where there is no folder; what the disk says.
pub fn read_mark(path: &Path) -> io::Result<Mark> {
    read_in(&rustix::fs::open(path, super::root::FOLDER, rustix::fs::Mode::empty())?)
}

pub(super) fn read_in(folder: &OwnedFd) -> io::Result<Mark> {
    let Some((file, _)) = open_file(folder, MARK)? else { return Ok(Mark::Missing) };
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(match text.split_whitespace().next() {
        None => Mark::Empty,
        Some(id) => Mark::Of(id.to_owned()),
    })
}

/// Marks the folder at `path`, as `id` or with a new one, unless it is marked. Returns its mark.
pub fn write_mark(path: &Path, id: Option<String>) -> crate::error::Result<Mark> {
    let what = || format!("marking the storage folder {}", crate::domain::text::escape(&path.to_string_lossy()));
    let failed = |e: io::Error| super::root::Root::new(path).failure(what(), e);
    let id = id.map_or_else(random_name, Ok)?;
    let write = || -> io::Result<Mark> {
        let folder = rustix::fs::open(path, super::root::FOLDER, rustix::fs::Mode::empty())?;
        match read_in(&folder)? {
            Mark::Of(id) => return Ok(Mark::Of(id)),
            Mark::Empty => rustix::fs::unlinkat(&folder, MARK, rustix::fs::AtFlags::empty())?,
            Mark::Missing => {}
        }
        let mut file = match create_file(folder.as_fd(), MARK) {
            Ok(file) => file,
            // Somebody else marks it at this moment.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return read_in(&folder),
            Err(e) => return Err(e),
        };
        let text = format!("{id}\nmongokeep keeps backups in this folder, and knows it by this file. Leave it here.\n");
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        rustix::fs::fsync(&folder)?;
        Ok(Mark::Of(id.clone()))
    };
    write().map_err(failed)
}
