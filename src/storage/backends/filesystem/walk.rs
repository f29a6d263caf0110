//! Listing a tree in key order.
//!
//! Memory: the names of one folder at each level of the path, because a disk does not sort them for us.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use crate::domain::key::Key;

use super::mark::MARK;
use super::root::{TEMPORARY, open_folder, size_of};
use crate::storage::{Level, MOST_FOLDERS, MOST_OBJECTS, ObjectInfo, Unfinished};

/// One name of a folder; a folder's own name ends in a slash, which also puts it where its keys belong
/// (`a-b` comes before `a/b`).
fn entries(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut reader = Dir::read_from(folder)?;
    while let Some(entry) = reader.read() {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some filesystems do not say.
            FileType::Unknown => match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            },
            known => known,
        };
        match kind {
            FileType::Directory => names.push(format!("{name}/")),
            FileType::RegularFile => names.push(name.to_owned()),
            _ => {}
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What a walk is to do next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Go,
    Stop,
}

/// Calls `emit` for every object below `folder`, whose key is `prefix` (empty for the root).
pub(super) fn objects(folder: &OwnedFd, prefix: &str, emit: &mut dyn FnMut(ObjectInfo) -> Step) -> io::Result<Step> {
    for name in entries(folder)? {
        if let Some(below) = name.strip_suffix('/') {
            let path = join(prefix, below);
            // A path that is no key is not ours.
            if Key::new(path.as_str()).is_err() {
                continue;
            }
            match open_folder(folder, below) {
                Ok(inner) => {
                    if objects(&inner, &path, emit)? == Step::Stop {
                        return Ok(Step::Stop);
                    }
                }
                // Removed while we walked.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno.into()),
            }
        } else if !name.starts_with(TEMPORARY)
            && name != MARK
            && let Ok(key) = Key::new(join(prefix, &name))
            && let Some(size) = size_of(folder, &name)?
            && emit(ObjectInfo { key, size }) == Step::Stop
        {
            return Ok(Step::Stop);
        }
    }
    Ok(Step::Go)
}

/// What lies directly in `folder`, whose path is `prefix`; `None` when there are more than [`MOST_FOLDERS`] folders.
pub(super) fn level(folder: &OwnedFd, prefix: &str) -> io::Result<Option<Level>> {
    let mut level = Level::default();
    for name in entries(folder)? {
        let Some(below) = name.strip_suffix('/') else {
            if !name.starts_with(TEMPORARY)
                && let Ok(key) = Key::new(join(prefix, &name))
                && let Some(size) = size_of(folder, &name)?
            {
                if level.objects.len() == MOST_OBJECTS {
                    level.has_more = true;
                } else {
                    level.objects.push(ObjectInfo { key, size });
                }
            }
            continue;
        };
        let inner = match open_folder(folder, below) {
            Ok(inner) => inner,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if objects(&inner, &join(prefix, below), &mut |_| Step::Stop)? == Step::Stop {
            if level.folders.len() == MOST_FOLDERS {
                return Ok(None);
            }
            level.folders.push(below.to_owned());
        }
    }
    level.folders.sort_unstable();
    Ok(Some(level))
}

/// The temporary files below `folder` that were not written to for `age`, until there are `most`.
pub(super) fn temporaries(
    folder: &OwnedFd,
    prefix: &str,
    age: Duration,
    most: usize,
    found: &mut Vec<Unfinished>,
) -> io::Result<()> {
    for name in entries(folder)? {
        if found.len() >= most {
            return Ok(());
        }
        if let Some(below) = name.strip_suffix('/') {
            match open_folder(folder, below) {
                Ok(inner) => temporaries(&inner, &join(prefix, below), age, most, found)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno.into()),
            }
        } else if name.starts_with(TEMPORARY)
            && let Ok(key) = Key::new(join(prefix, &name))
            && let Some((size, written)) = written(folder, &name)?
            && is_old(written, age)
        {
            let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(written));
            found.push(Unfinished { key, size: Some(size), since });
        }
    }
    Ok(())
}

/// Bytes of a file, and the second since 1970 in which it was last written to.
fn written(folder: &OwnedFd, name: &str) -> io::Result<Option<(u64, u64)>> {
    match rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            let number = |n: i64| u64::try_from(n).unwrap_or_default();
            Ok(Some((number(stat.st_size), number(stat.st_mtime))))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Without an age every file is old, whatever the clock of the disk's server says.
fn is_old(written: u64, age: Duration) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    age.is_zero() || written.saturating_add(age.as_secs()) <= now.as_secs()
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}
