//! The mark of a storage folder: a small file by which it is known again. A mount point whose disk is not mounted has none,
//! and a backup written there would fill another disk and be out of sight as soon as the right one is back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

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

/// The mark of an open folder. Errors: what the disk says.
pub(super) fn read_in(folder: &OwnedFd) -> io::Result<Mark> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, MARK, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Mark::Missing),
        Err(errno) => return Err(errno.into()),
    };
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(match text.split_whitespace().next() {
        None => Mark::Empty,
        Some(id) => Mark::Of(id.to_owned()),
    })
}

/// Marks an open folder as `id`, unless it is marked. Returns its mark.
pub(super) fn write_in(folder: &OwnedFd, id: &str) -> io::Result<Mark> {
    match read_in(folder)? {
        Mark::Of(id) => return Ok(Mark::Of(id)),
        Mark::Empty => rustix::fs::unlinkat(folder, MARK, AtFlags::empty())?,
        Mark::Missing => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(folder, MARK, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        // Somebody else marks it at this moment.
        Err(Errno::EXIST) => return read_in(folder),
        Err(errno) => return Err(errno.into()),
    };
    let text = format!("{id}\nmongokeep keeps backups in this folder, and knows it by this file. Leave it here.\n");
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    rustix::fs::fsync(folder)?;
    Ok(Mark::Of(id.to_owned()))
}
