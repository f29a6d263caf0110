//! A folder of a disk from which no path leads out.
//!
//! Every object is reached from the root's own handle, one folder at a time, and a symbolic link on the way is an
//! error: a link planted below the root must never redirect a write or a delete. The root itself may be a link, for
//! a person chose it. A job keeps the handle, so that a disk that is unmounted under it, or a folder that is replaced,
//! does not make the rest of it go somewhere else. What never ends must not: it would keep the disk from being unmounted,
//! and go on for ever where nobody looks any more.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::mark::{MARK, Mark, read_in};

use crate::domain::key::Key;
use crate::domain::text;
use crate::error::{self, Error, ErrorKind, Result};

/// What the name of a file that is not yet an object begins with.
pub(super) const TEMPORARY: &str = ".mongokeep-tmp-";

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// `None`: opened anew for each call.
    handle: Option<OnceLock<OwnedFd>>,
    /// What was found when it was opened first: another folder, or none, may show under the same path later.
    mark: OnceLock<Mark>,
    /// Whether `Orders` and `orders` are one name here; see [`super::cases`].
    pub(super) folds_cases: OnceLock<bool>,
}

impl Root {
    /// Touches nothing yet: the folder is opened by the first call that needs it.
    pub(super) fn new(path: &Path) -> Self {
        Self::of(path, Some(OnceLock::new()))
    }

    /// The same, of which nothing is held open between calls.
    pub(super) fn unheld(path: &Path) -> Self {
        Self::of(path, None)
    }

    fn of(path: &Path, handle: Option<OnceLock<OwnedFd>>) -> Self {
        Self { path: path.to_owned(), handle, mark: OnceLock::new(), folds_cases: OnceLock::new() }
    }

    /// The path, safe to show.
    pub(super) fn shown(&self) -> String {
        text::escape(&self.path.to_string_lossy())
    }

    /// A handle of the root. A root that does not exist is an error and is never created: it may be the mount point of
    /// a disk that is not there, and filling the disk below it would look like a backup.
    pub(super) fn open(&self) -> Result<OwnedFd> {
        let Some(kept) = &self.handle else { return self.open_path() };
        let handle = match kept.get() {
            Some(handle) => handle,
            None => {
                let handle = self.open_path()?;
                kept.get_or_init(|| handle)
            }
        };
        rustix::io::fcntl_dupfd_cloexec(handle, 0).map_err(|errno| self.refuse(errno))
    }

    fn open_path(&self) -> Result<OwnedFd> {
        let folder = open_root(&self.path).map_err(|errno| self.refuse(errno))?;
        let mark = read_in(&folder).map_err(|e| self.failure(format!("opening {}", self.shown()), e))?;
        let first = self.mark.get_or_init(|| mark.clone());
        if matches!(first, Mark::Of(_)) && *first != mark {
            return Err(not_mounted(&self.shown(), &mark));
        }
        Ok(folder)
    }

    fn refuse(&self, errno: Errno) -> Error {
        let shown = self.shown();
        match errno {
            // Not a wrong name: the storage is away, and may be back when its disk is.
            Errno::NOENT => Error::new(ErrorKind::Unreachable, format!("the storage folder {shown} does not exist"))
                .hint(format!("mount the disk it is on, or create it: mkdir -m 700 -p {}", quote(&shown))),
            Errno::NOTDIR => Error::new(ErrorKind::Invalid, format!("{shown} is not a folder"))
                .hint("give the storage the path of a folder"),
            errno => error::io(format!("opening the storage folder {shown}"), errno.into())
                .hint("the user that runs mongokeep needs to read and write it"),
        }
    }

    /// The folder that holds `key`, or `None` when there is none.
    pub(super) fn parent(&self, key: &Key) -> Result<Option<OwnedFd>> {
        match key.as_str().rsplit_once('/') {
            Some((folder, _)) => self.folder(folder),
            None => self.open().map(Some),
        }
    }

    /// The folder `path` below the root, or `None` when there is none.
    pub(super) fn folder(&self, path: &str) -> Result<Option<OwnedFd>> {
        let mut at = self.open()?;
        for name in path.split('/') {
            at = match open_folder(&at, name) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(self.blocked(&at, name, path, errno)),
            };
        }
        Ok(Some(at))
    }

    /// The folder that holds `key`, created with its parents, each of them durably.
    pub(super) fn create_parent(&self, key: &Key) -> Result<OwnedFd> {
        let Some((path, _)) = key.as_str().rsplit_once('/') else { return self.open() };
        // Whoever empties a folder on the way may remove it between two steps; then the way begins again.
        for _ in 0..100 {
            if let Some(folder) = self.try_create(path)? {
                return Ok(folder);
            }
        }
        let what = format!("creating {}/{}", self.shown(), text::escape(path));
        Err(Error::new(ErrorKind::Transient, format!("{what}: a folder on the way is removed again and again"))
            .hint("has the storage folder itself been removed?"))
    }

    /// `None`: a folder on the way has just been removed.
    fn try_create(&self, path: &str) -> Result<Option<OwnedFd>> {
        let mut at = self.open()?;
        for name in path.split('/') {
            at = match open_or_create(&at, name) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(self.blocked(&at, name, path, errno)),
            };
        }
        Ok(Some(at))
    }

    /// Removes the folders above `key` that hold nothing any more, never the root.
    pub(super) fn remove_empty_parents(&self, key: &Key) {
        let mut path = key.as_str();
        while let Some((folder, _)) = path.rsplit_once('/') {
            path = folder;
            let (above, name) = match folder.rsplit_once('/') {
                Some((above, name)) => (self.folder(above), name),
                None => (self.open().map(Some), folder),
            };
            let above = match above {
                Ok(Some(above)) => above,
                Ok(None) => continue,
                Err(_) => return,
            };
            match rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR) {
                Ok(()) => drop(rustix::fs::fsync(&above)),
                Err(Errno::NOENT) => {}
                // Not empty, or not ours to remove: both end here, and neither is an error.
                Err(_) => return,
            }
        }
    }

    fn blocked(&self, at: &OwnedFd, name: &str, path: &str, errno: Errno) -> Error {
        let what = format!("{}/{}", self.shown(), text::escape(path));
        let name = text::escape(name);
        if matches!(errno, Errno::NOTDIR | Errno::LOOP) {
            return match kind_of(at, &name) {
                Some(FileType::Symlink) => {
                    Error::new(ErrorKind::Denied, format!("{what}: {name} is a symbolic link, which is not followed"))
                        .hint("replace the link by a folder, or make the folder it points to a storage of its own")
                }
                _ => Error::new(ErrorKind::Conflict, format!("{what}: {name} is a file where a folder is needed")),
            };
        }
        self.failure(format!("opening {what}"), errno.into())
    }

    /// Bytes that this user can still write.
    pub(super) fn free(&self) -> Result<u64> {
        let stat = rustix::fs::fstatvfs(self.open()?)
            .map_err(|errno| error::io(format!("asking for the free space of {}", self.shown()), errno.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// What went wrong while doing `what`, with what can be done about it.
    pub(super) fn failure(&self, what: String, e: io::Error) -> Error {
        use std::io::ErrorKind as Io;
        match e.kind() {
            Io::StorageFull => {
                let left = self.free().map(|n| format!(", {} free", text::bytes(n))).unwrap_or_default();
                Error::new(ErrorKind::StorageFull, format!("{what}: the disk is full{left}"))
                    .hint("delete old backups, or give the storage a larger disk")
            }
            Io::QuotaExceeded => Error::new(ErrorKind::StorageFull, format!("{what}: the disk quota is used up"))
                .hint("delete old backups, or ask for a larger quota"),
            Io::FileTooLarge => Error::new(ErrorKind::Failed, format!("{what}: larger than a file may be here"))
                .hint("raise the file size limit (ulimit -f) or use another filesystem"),
            Io::PermissionDenied => {
                error::io(what, e).hint("the user that runs mongokeep needs to read and write the storage folder")
            }
            Io::ReadOnlyFilesystem => error::io(what, e).hint(
                "its file system is mounted read-only, on purpose or after an error of the disk (dmesg says which)",
            ),
            Io::NotFound => error::own_io(what, e)
                .hint("was the storage folder emptied while it was written to? Nothing else may delete there"),
            _ => error::io(what, e),
        }
    }
}

/// Another folder than the one that was marked shows under its path.
pub(crate) fn not_mounted(shown: &str, found: &Mark) -> Error {
    let why = match found {
        Mark::Of(_) => "holds another storage",
        Mark::Missing | Mark::Empty => "is not the one that was written to before",
    };
    Error::new(ErrorKind::Unreachable, format!("the storage folder {shown} {why}: is its disk mounted?")).hint(format!(
        "mount it; if this folder is the right one, or takes turns with it, say so: : > {}",
        quote(&format!("{shown}/{MARK}"))
    ))
}

fn quote(path: &str) -> String {
    if path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b)) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

pub(super) fn open_root(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, FOLDER, Mode::empty())
}

fn kind_of(at: &OwnedFd, name: &str) -> Option<FileType> {
    let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

pub(super) fn open_folder(at: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(at, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

fn open_or_create(at: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    match open_folder(at, name) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    match rustix::fs::mkdirat(at, name, Mode::RWXU) {
        Ok(()) => rustix::fs::fsync(at)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    open_folder(at, name)
}

/// Size of the regular file `name`, or `None` when there is no regular file of that name.
pub(super) fn size_of(at: &OwnedFd, name: &str) -> io::Result<Option<u64>> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(Some(stat.st_size as u64)),
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a regular file for reading; `None` when there is none. Never waits for the writer of a pipe.
pub(super) fn open_file(at: &OwnedFd, name: &str) -> io::Result<Option<(File, u64)>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata.len())))
}

/// Creates a file that nobody else has, readable by its owner only.
pub(super) fn create_file(at: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(at, name, flags, Mode::RUSR | Mode::WUSR)?))
}
