//! File systems on which `Orders` and `orders` are one name (FAT, exFAT, most shares of Windows, disks of a Mac).
//!
//! Nothing is overwritten and nothing is mixed there: whoever would write under a name that is there in other letters is
//! refused.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;

use super::root::{Root, TEMPORARY, create_file, open_folder};
use crate::domain::key::Key;
use crate::domain::text::escape;
use crate::error::{self, Error, ErrorKind, Result};
use crate::storage::random_name;

/// Whether names that differ only in case are one name below the root. Tried once, with a file that is gone afterwards.
pub(super) fn are_folded(root: &Root) -> Result<bool> {
    if let Some(known) = root.folds_cases.get() {
        return Ok(*known);
    }
    let what = || format!("writing {}", root.shown());
    let folder = root.open()?;
    let name = format!("{TEMPORARY}{}", random_name()?);
    create_file(&folder, &name).map_err(|e| root.failure(what(), e))?;
    let found = is_there_in_other_letters(root, &folder, &name);
    let _ = rustix::fs::unlinkat(&folder, &name, AtFlags::empty());
    found.map_err(|errno| root.failure(what(), errno.into()))
}

/// Looks for `name`, which is in `folder`, in capital letters.
fn is_there_in_other_letters(root: &Root, folder: &OwnedFd, name: &str) -> rustix::io::Result<bool> {
    if let Some(known) = root.folds_cases.get() {
        return Ok(*known);
    }
    let folded = match rustix::fs::statat(folder, name.to_ascii_uppercase(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => true,
        Err(Errno::NOENT) => false,
        Err(errno) => return Err(errno),
    };
    Ok(*root.folds_cases.get_or_init(|| folded))
}

/// `folder` is that of `key`, and holds the file `temporary`.
///
/// Errors: `Conflict` where a part of `key` is there in other letters, and would be taken for it.
pub(super) fn require_own_name(root: &Root, key: &Key, folder: &OwnedFd, temporary: &str) -> Result<()> {
    let what = || format!("writing {}/{key}", root.shown());
    let folded = is_there_in_other_letters(root, folder, temporary);
    if !folded.map_err(|errno| root.failure(what(), errno.into()))? {
        return Ok(());
    }
    let mut at = root.open()?;
    let (mut parts, mut path) = (key.as_str().split('/').peekable(), String::new());
    while let Some(part) = parts.next() {
        if let Some(other) = in_other_letters(&at, part).map_err(|errno| error::io(what(), errno.into()))? {
            return Err(taken(&what(), &format!("{path}{other}")));
        }
        if parts.peek().is_some() {
            at = open_folder(&at, part).map_err(|errno| root.failure(what(), errno.into()))?;
            path.push_str(part);
            path.push('/');
        }
    }
    Ok(())
}

/// `other` is in the way of what is to be written.
pub(super) fn taken(what: &str, other: &str) -> Error {
    let other = escape(other);
    let why = format!("{what}: {other} is there, and names that differ only in case are one name here");
    Error::new(ErrorKind::Conflict, why)
        .hint("leave one of the two out, or use a file system that tells Orders from orders")
}

/// Whether `folder` holds `name` in exactly these letters.
pub(super) fn is_there_as_written(folder: &OwnedFd, name: &str) -> std::io::Result<bool> {
    let mut reader = Dir::read_from(folder)?;
    while let Some(entry) = reader.read() {
        if entry?.file_name().to_bytes() == name.as_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How `name` is written in `folder`, if that is not as it is written here. `None` also where it is not there at all.
fn in_other_letters(folder: &OwnedFd, name: &str) -> rustix::io::Result<Option<String>> {
    let mut found = None;
    let mut reader = Dir::read_from(folder)?;
    while let Some(entry) = reader.read() {
        let entry = entry?;
        let Ok(there) = entry.file_name().to_str() else { continue };
        if there == name {
            return Ok(None);
        }
        if there.to_lowercase() == name.to_lowercase() {
            found = Some(there.to_owned());
        }
    }
    Ok(found)
}
