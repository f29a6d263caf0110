//! The files of a server's data folder: which of them a backup holds, and what says that one has changed.
//!
//! The server's data is copied: tables, log, catalogue. What a server makes anew is not (its lock, its diagnostic data,
//! preallocated log files), nor what people keep there beside it, such as a key file or a log. Nothing here is written.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result, io};

/// What mongokeep makes in a data folder is called so; never part of a backup.
pub const OWN_PREFIX: &str = ".mongokeep-";

/// How the file of a table is called.
const TABLE: &str = ".wt";
/// A data folder has two or three levels. More is a link that leads back.
const DEEPEST: usize = 8;
/// A file that was written so shortly before it was read may have been written again in the same tick of the clock.
const SETTLED: Duration = Duration::from_secs(2);

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Relative to the folder.
    pub path: String,
    pub mode: u32,
    pub size: u64,
    stamp: Stamp,
}

/// Changes whenever the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl FoundFile {
    /// Whether `self`, found later, has surely the contents that `earlier` had when somebody began to read it at `read_at`.
    pub fn is_unchanged(&self, earlier: &FoundFile, read_at: SystemTime) -> bool {
        let seconds = earlier.stamp.changed.0.max(earlier.stamp.modified.0);
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let settled = read_at.duration_since(written).is_ok_and(|age| age > SETTLED);
        self.size == earlier.size && self.stamp == earlier.stamp && settled
    }

    pub fn device(&self) -> u64 {
        self.stamp.device
    }
}

/// What a data folder holds, in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Relative paths and modes; the folder itself is the empty path.
    pub folders: BTreeMap<String, u32>,
    pub files: Vec<FoundFile>,
    /// The names of what lies in the folder and is no data of the server.
    pub foreign: Vec<String>,
}

impl Listing {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Lists the folder. Blocks.
///
/// Errors: name what cannot be read.
pub fn list(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    walk(folder, "", 0, &mut listing)?;
    listing.files.sort_by(|a, b| a.path.cmp(&b.path));
    listing.foreign.sort();
    Ok(listing)
}

/// A folder that can be listed may hold files that cannot be read: each of `listing` is opened. One that the server has
/// removed since is no failure. Blocks.
///
/// Errors: name the file.
pub fn must_be_readable(folder: &Path, listing: &Listing) -> Result<()> {
    for file in &listing.files {
        let at = inside(folder, &file.path)?;
        unless_removed(fs::File::open(&at), &at)?;
    }
    Ok(())
}

/// What the system said of `at`; `None` when it is not there: a server removes files and folders while it runs.
pub fn unless_removed<T>(said: std::io::Result<T>, at: &Path) -> Result<Option<T>> {
    match said {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(escape(&at.to_string_lossy()), e)),
    }
}

/// The file `path` below `folder`. Blocks.
///
/// Errors: names it when it cannot be read; `Corrupt` for a path that leads out of the folder.
pub fn find(folder: &Path, path: &str) -> Result<FoundFile> {
    let at = inside(folder, path)?;
    let metadata = fs::metadata(&at).map_err(|e| io(escape(&at.to_string_lossy()), e))?;
    let (mode, size) = (metadata.mode() & 0o7777, metadata.len());
    Ok(FoundFile { path: path.to_owned(), mode, size, stamp: Stamp::of(&metadata) })
}

/// The mode of the folder `path` below `folder`. Blocks.
pub fn mode(folder: &Path, path: &str) -> Result<u32> {
    let at = inside(folder, path)?;
    Ok(fs::metadata(&at).map_err(|e| io(escape(&at.to_string_lossy()), e))?.mode() & 0o7777)
}

fn walk(root: &Path, below: &str, depth: usize, listing: &mut Listing) -> Result<()> {
    let here = root.join(below);
    let shown = || escape(&here.to_string_lossy());
    if depth > DEEPEST {
        let what = format!("{} lies too deep for a data folder", shown());
        return Err(Error::new(ErrorKind::Failed, what).hint("does a link in it lead back to itself?"));
    }
    let (metadata, entries) = match (fs::metadata(&here), fs::read_dir(&here)) {
        // The folder itself must be there.
        (Ok(metadata), Ok(entries)) => (metadata, entries),
        (Err(e), _) | (_, Err(e)) if below.is_empty() || e.kind() != std::io::ErrorKind::NotFound => {
            return Err(io(shown(), e));
        }
        _ => return Ok(()),
    };
    listing.folders.insert(below.to_owned(), metadata.mode() & 0o7777);
    for entry in entries {
        let entry = entry.map_err(|e| io(shown(), e))?;
        let Ok(name) = entry.file_name().into_string() else {
            let what = format!("{} holds a name that is not UTF-8", shown());
            return Err(
                Error::new(ErrorKind::Unsupported, what).hint("no server makes one: move it out of the data folder")
            );
        };
        if is_left_out(below, &name) {
            continue;
        }
        if below.is_empty() && !is_data(&entry.path(), &name)? {
            listing.foreign.push(name);
            continue;
        }
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        // Links are followed: a log or a database may lie on another disk.
        let Some(metadata) = unless_removed(fs::metadata(entry.path()), &entry.path())? else { continue };
        let kind = metadata.file_type();
        if kind.is_dir() {
            walk(root, &path, depth + 1, listing)?;
        } else if kind.is_file() {
            let (mode, size) = (metadata.mode() & 0o7777, metadata.len());
            listing.files.push(FoundFile { path, mode, size, stamp: Stamp::of(&metadata) });
        } else if !(kind.is_socket() || kind.is_fifo()) {
            let what = format!("{} is neither a file nor a folder", escape(&entry.path().to_string_lossy()));
            return Err(Error::new(ErrorKind::Unsupported, what).hint("move it out of the data folder"));
        }
    }
    Ok(())
}

/// What a server makes anew, and what is not its own.
fn is_left_out(below: &str, name: &str) -> bool {
    let preallocated = name.starts_with("WiredTigerPreplog.") || name.starts_with("WiredTigerTmplog.");
    let of_the_server = ["mongod.lock", "diagnostic.data", "_tmp", "lost+found"].contains(&name);
    preallocated || (below.is_empty() && (of_the_server || name.starts_with(OWN_PREFIX)))
}

/// Whether an entry of a data folder is data of its server: one that must lie there when the server starts, and that goes
/// when other data takes its place. Blocks.
///
/// Errors: a folder cannot be looked into, so that nobody knows.
pub fn is_data(path: &Path, name: &str) -> Result<bool> {
    const FOLDERS: [&str; 3] = ["journal", "key.db", "keystore"];
    let of_tables = name.starts_with("WiredTiger") || name.ends_with(TABLE) || name == "storage.bson";
    Ok(of_tables || (path.is_dir() && (FOLDERS.contains(&name) || holds_tables(path, 0)?)))
}

/// A folder of a database (`--directoryperdb`), of tables or of indexes (`--wiredTigerDirectoryForIndexes`).
fn holds_tables(folder: &Path, depth: usize) -> Result<bool> {
    let failed = |e| io(escape(&folder.to_string_lossy()), e);
    let Some(entries) = unless_removed(fs::read_dir(folder), folder)? else { return Ok(false) };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let is_table = entry.file_name().to_string_lossy().ends_with(TABLE);
        if is_table || (depth < 1 && entry.path().is_dir() && holds_tables(&entry.path(), depth + 1)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who has the tables of `folder` open, as the system numbers processes here; `None`: nobody has. Blocks.
pub fn lock_holder(folder: &Path) -> Option<rustix::process::Flock> {
    let file = fs::File::open(folder.join("WiredTiger.lock")).ok()?;
    let question = rustix::process::Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: rustix::process::FlockType::WriteLock,
        offset_type: rustix::process::FlockOffsetType::Set,
    };
    rustix::process::fcntl_getlk(&file, &question).ok().flatten()
}

/// The path of a file of a backup below `root`.
///
/// Errors: `Corrupt` for a path that would lead out of it.
pub fn inside(root: &Path, path: &str) -> Result<PathBuf> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\\']);
    if path.is_empty() || path.split('/').all(is_plain) {
        return Ok(root.join(path));
    }
    Err(Error::new(ErrorKind::Corrupt, format!("{} is no path of a data folder", escape(path)))
        .hint("the manifest was tampered with, or is damaged: use another backup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_makes_anew_is_left_out_and_links_are_followed() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = dir.path();
        for (path, text) in [
            ("WiredTiger", "x"),
            ("mongod.lock", "1"),
            ("diagnostic.data/metrics", "x"),
            ("shop/collection-1.wt", "xyz"),
            (".mongokeep-1/x", "x"),
            ("journal/WiredTigerPreplog.0001", "x"),
            ("keyfile", "secret"),
            ("mongod.log", "x"),
            ("rollback/x/removed.bson", "x"),
            ("other/index/1.wt", "abcd"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::write(other.path().join("collection-2.wt"), "ab").unwrap();
        std::os::unix::fs::symlink(other.path(), root.join("linked")).unwrap();
        let listing = list(root).unwrap();
        let files: Vec<(&str, u64)> = listing.files.iter().map(|f| (f.path.as_str(), f.size)).collect();
        let tables = [("linked/collection-2.wt", 2), ("other/index/1.wt", 4), ("shop/collection-1.wt", 3)];
        assert_eq!(files, [[("WiredTiger", 1)].as_slice(), &tables].concat());
        assert_eq!(
            listing.folders.keys().collect::<Vec<_>>(),
            ["", "journal", "linked", "other", "other/index", "shop"]
        );
        assert_eq!(listing.foreign, ["keyfile", "mongod.log", "rollback"]);
        std::os::unix::fs::symlink(root, root.join("back")).unwrap();
        assert!(list(root).is_err(), "a link that leads back");
    }

    #[test]
    fn a_server_that_removes_files_and_folders_meanwhile_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        fs::write(dir.path().join("stays.wt"), "x").unwrap();
        let (looks, most) = std::thread::scope(|scope| {
            for writer in 0..2 {
                let (root, stop) = (dir.path(), &stop);
                scope.spawn(move || {
                    for n in (0..200).cycle().take_while(|_| !stop.load(relaxed)) {
                        let of_database = root.join(format!("db{writer}-{}", n % 20));
                        let at = of_database.join(format!("collection-{n}.wt"));
                        let _ = fs::create_dir(&of_database);
                        fs::write(&at, "x").unwrap();
                        fs::write(root.join(format!("index-{writer}-{n}.wt")), "x").unwrap();
                        let _ = fs::remove_dir_all(root.join(format!("db{writer}-{}", (n + 10) % 20)));
                        let _ = fs::remove_file(root.join(format!("index-{writer}-{}.wt", (n + 100) % 200)));
                    }
                });
            }
            let (mut looks, mut most) = (0, 0);
            let failed = loop {
                let looked = list(dir.path()).and_then(|listing| {
                    must_be_readable(dir.path(), &listing)?;
                    Ok(listing)
                });
                match looked {
                    Ok(listing) => {
                        assert!(listing.files.iter().any(|file| file.path == "stays.wt"));
                        most = most.max(listing.files.len());
                    }
                    Err(e) => break Some(e),
                }
                looks += 1;
                if looks >= 1000 && most > 50 {
                    break None;
                }
            };
            stop.store(true, relaxed);
            if let Some(e) = failed {
                panic!("after {looks}: {e}");
            }
            (looks, most)
        });
        assert!(looks >= 1000 && most > 50);
        assert!(list(&dir.path().join("not there")).is_err(), "the folder itself must be there");
        let listing = list(dir.path()).unwrap();
        let shut = dir.path().join("stays.wt");
        fs::set_permissions(&shut, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        if fs::File::open(&shut).is_err() {
            let e = must_be_readable(dir.path(), &listing).unwrap_err();
            assert!(e.full().contains("stays.wt"), "{}", e.full());
        }
    }

    #[test]
    fn a_file_is_unchanged_only_when_that_is_sure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.wt");
        fs::write(&path, "one").unwrap();
        let look = || list(dir.path()).unwrap().files.remove(0);
        let first = look();
        let later = SystemTime::now() + Duration::from_secs(60);
        assert!(!look().is_unchanged(&first, SystemTime::now()), "written a moment ago");
        assert!(look().is_unchanged(&first, later));
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, "two").unwrap();
        assert!(!look().is_unchanged(&first, later));
    }

    #[test]
    fn a_path_never_leaves_its_folder() {
        let root = Path::new("/data");
        assert_eq!(inside(root, "journal/WiredTigerLog.1").unwrap(), Path::new("/data/journal/WiredTigerLog.1"));
        for bad in ["../x", "/etc/passwd", "a//b", "a/../b", "a\0b", "."] {
            assert!(inside(root, bad).is_err(), "{bad}");
        }
    }
}
