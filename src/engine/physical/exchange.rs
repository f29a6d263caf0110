//! Other data in the place of a server's: the files of its data folder are set aside and restored ones put there, and back
//! if need be.
//!
//! Everything happens inside the data folder, in a folder of its own that no backup holds: a data folder is often a file
//! system of its own, so that there is no place beside it that files can be moved to. Files are renamed, never copied. What
//! was done is written down before the next step, so that another process can undo it after a kill. Everything here blocks.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::data_folder::{OWN_PREFIX, is_data, lock_holder, unless_removed};
use super::target_folder::{give, owner_of};
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result, io};

/// After [`OWN_PREFIX`].
const NAME: &str = "restore";
const STATE: &str = "state.json";
/// Below it: what is put in.
const NEW: &str = "new";
const LOCK: &str = "mongod.lock";

/// How far an exchange has come. What a stage names may be half done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The server is at work on its own files.
    Preparing,
    /// It is being stopped.
    Stopping,
    /// Whatever lies in the data folder is the server's own; the rest of it is set aside.
    SettingAside,
    /// All of it is set aside; whatever lies in the data folder is restored.
    PuttingIn,
    /// The restored files are in their place, and a server may have begun to write.
    Starting,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    attempt_id: String,
    backup: String,
    stage: Stage,
}

/// An exchange in a data folder.
#[derive(Debug, Clone)]
pub struct Exchange {
    folder: PathBuf,
    state: State,
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// Where an exchange in `folder` keeps what it needs.
fn own_folder(folder: &Path) -> PathBuf {
    folder.join(format!("{OWN_PREFIX}{NAME}"))
}

/// The same before it is whole.
fn draft_folder(folder: &Path, attempt_id: &str) -> PathBuf {
    folder.join(format!("{OWN_PREFIX}{NAME}-{attempt_id}"))
}

/// Where the server's own files are kept while others are in their place.
pub fn set_aside(folder: &Path) -> PathBuf {
    own_folder(folder).join("old")
}

/// Where the files that take their place are made.
pub fn copy_of(folder: &Path) -> PathBuf {
    own_folder(folder).join(NEW)
}

/// What keeps the files of `folder` from being exchanged; `None`: nothing does.
pub fn obstacle(folder: &Path) -> Result<Option<String>> {
    let own = own_folder(folder);
    if own.exists() {
        return Ok(Some(format!("{} lies there, of a restore that did not come to its end", shown(&own))));
    }
    let device = fs::metadata(folder).map_err(|e| io(shown(folder), e))?.dev();
    for (path, name) in data_of(folder)? {
        // The server is at work, and removes files meanwhile.
        let Some(metadata) = unless_removed(fs::symlink_metadata(&path), &path)? else { continue };
        if metadata.is_symlink() || metadata.dev() != device {
            return Ok(Some(format!("{} lies on another file system", escape(&name))));
        }
    }
    if rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_err() {
        return Ok(Some(format!("the daemon's user may not write to {}", shown(folder))));
    }
    Ok(None)
}

/// The entries of `folder` that are data of a server, with their names.
fn data_of(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| io(shown(folder), e))? {
        let entry = entry.map_err(|e| io(shown(folder), e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(OWN_PREFIX) && is_data(&entry.path(), &name)? {
            found.push((entry.path(), name));
        }
    }
    found.sort();
    Ok(found)
}

impl Exchange {
    /// Begins one: from now on [`Exchange::copy`] is there to be filled.
    ///
    /// Errors: `Conflict` when another was begun.
    pub fn claim(folder: &Path, attempt_id: &str, backup: &str) -> Result<Self> {
        let own = own_folder(folder);
        let taken = || {
            let what = format!("{} is there, of a restore that did not come to its end", shown(&own));
            Error::new(ErrorKind::Conflict, what).hint("look what it holds (old: the data of before), and move it away")
        };
        if own.exists() {
            return Err(taken());
        }
        // Made under a name of the attempt's own, and there as a whole or not at all: nobody could tell whose half a one is.
        let draft = draft_folder(folder, attempt_id);
        let copy = draft.join(NEW);
        let state = State { attempt_id: attempt_id.to_owned(), backup: backup.to_owned(), stage: Stage::Preparing };
        let begun = make(&draft).and_then(|()| {
            state.write(&draft)?;
            make(&copy)?;
            let owner = owner_of(folder)?;
            give(&draft, owner)?;
            give(&copy, owner)?;
            fs::rename(&draft, &own).map_err(|e| match e.kind() {
                std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists => taken(),
                _ => io(format_args!("making {}", shown(&own)), e),
            })?;
            sync(folder)
        });
        if let Err(e) = begun {
            let _ = fs::remove_dir_all(&draft);
            return Err(e);
        }
        Ok(Self { folder: folder.to_owned(), state })
    }

    /// The exchange that `attempt_id` left in `folder`.
    pub fn left(folder: &Path, attempt_id: &str) -> Result<Option<Self>> {
        let draft = draft_folder(folder, attempt_id);
        match fs::remove_dir_all(&draft) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(format_args!("removing {}", shown(&draft)), e));
            }
            _ => {}
        }
        let at = own_folder(folder).join(STATE);
        let body = match fs::read(&at) {
            Ok(body) => body,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(shown(&at), e)),
        };
        let state: State = serde_json::from_slice(&body)
            .map_err(|e| Error::new(ErrorKind::Corrupt, format!("{} cannot be read", shown(&at))).source(e))?;
        Ok((state.attempt_id == attempt_id).then(|| Self { folder: folder.to_owned(), state }))
    }

    pub fn attempt_id(&self) -> &str {
        &self.state.attempt_id
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that is filled with what is put in.
    pub fn copy(&self) -> PathBuf {
        copy_of(&self.folder)
    }

    pub fn stage(&self) -> Stage {
        self.state.stage
    }

    /// Notes that the server is about to be stopped.
    pub fn stopping(mut self) -> Result<Self> {
        self.enter(Stage::Stopping)?;
        Ok(self)
    }

    /// Puts the copy into the place of the server's files. `lock` shows that no server is at work on them.
    /// What it has done when it fails is in [`Exchange::left`].
    pub fn put_in(mut self, lock: &FolderLock) -> Result<Self> {
        lock.is_of(&self.folder)?;
        let old = set_aside(&self.folder);
        make(&old)?;
        self.enter(Stage::SettingAside)?;
        move_data(&self.folder, &old)?;
        self.enter(Stage::PuttingIn)?;
        move_data(&self.copy(), &self.folder)?;
        self.enter(Stage::Starting)?;
        Ok(self)
    }

    /// Puts the server's own files back, wherever [`Exchange::put_in`] was interrupted. What was put in goes.
    pub fn put_back(mut self, lock: &FolderLock) -> Result<Self> {
        lock.is_of(&self.folder)?;
        if self.stage() < Stage::SettingAside {
            return Ok(self);
        }
        let (old, gone) = (set_aside(&self.folder), own_folder(&self.folder).join("gone"));
        make(&gone)?;
        if self.stage() > Stage::SettingAside {
            move_data(&self.folder, &gone)?;
            self.enter(Stage::SettingAside)?;
        }
        // A server that was started on what it was half done with has made files of its own.
        for (path, name) in data_of(&old)? {
            let place = self.folder.join(&name);
            if place.symlink_metadata().is_ok() {
                move_to(&place, &gone.join(&name))?;
            }
            move_to(&path, &place)?;
        }
        sync(&self.folder)?;
        self.enter(Stage::Stopping)?;
        Ok(self)
    }

    /// Removes what the exchange kept, the files that it set aside included.
    pub fn remove(self) -> Result<()> {
        let own = own_folder(&self.folder);
        // The state goes last: what is left is still known for what it is.
        for entry in fs::read_dir(&own).map_err(|e| io(shown(&own), e))? {
            let at = entry.map_err(|e| io(shown(&own), e))?.path();
            if at.is_dir() {
                fs::remove_dir_all(&at).map_err(|e| io(format_args!("removing {}", shown(&at)), e))?;
            }
        }
        fs::remove_dir_all(&own).map_err(|e| io(format_args!("removing {}", shown(&own)), e))
    }

    fn enter(&mut self, stage: Stage) -> Result<()> {
        self.state.stage = stage;
        self.state.write(&own_folder(&self.folder))
    }
}

impl State {
    /// Replaces what the folder `own` of an exchange has.
    fn write(&self, own: &Path) -> Result<()> {
        let body = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::new(ErrorKind::Internal, "the state of an exchange").source(e))?;
        let (at, next) = (own.join(STATE), own.join("state.next"));
        let written = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
            file.write_all(&body)?;
            file.sync_all()?;
            fs::rename(&next, &at)?;
            File::open(own)?.sync_all()
        };
        written().map_err(|e| io(format_args!("writing {}", shown(&at)), e))
    }
}

fn make(folder: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(io(format_args!("making {}", shown(folder)), e)),
        _ => Ok(()),
    }
}

fn move_data(from: &Path, to: &Path) -> Result<()> {
    for (path, name) in data_of(from)? {
        move_to(&path, &to.join(name))?;
    }
    sync(from)?;
    sync(to)
}

fn move_to(from: &Path, to: &Path) -> Result<()> {
    // A folder does not take the place of one that holds something.
    if to.is_dir() {
        fs::remove_dir_all(to).map_err(|e| io(format_args!("removing {}", shown(to)), e))?;
    }
    fs::rename(from, to).map_err(|e| io(format_args!("moving {} to {}", shown(from), shown(to)), e))
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| io(shown(folder), e))
}

/// Shows that no server is at work on a data folder, and keeps one from starting there.
#[derive(Debug)]
pub struct FolderLock {
    folder: PathBuf,
    _held: Option<File>,
}

impl FolderLock {
    /// `None`: a server is at work there.
    pub fn take(folder: &Path) -> Result<Option<Self>> {
        let at = folder.join(LOCK);
        // A server takes it before it opens anything else, and lets go of it last.
        let held = match File::open(&at) {
            Ok(file) => match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Some(file),
                Err(e) if e == rustix::io::Errno::WOULDBLOCK => return Ok(None),
                Err(e) => return Err(io(format_args!("locking {}", shown(&at)), e.into())),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(io(shown(&at), e)),
        };
        if lock_holder(folder).is_some() {
            return Ok(None);
        }
        Ok(Some(Self { folder: folder.to_owned(), _held: held }))
    }

    fn is_of(&self, folder: &Path) -> Result<()> {
        if self.folder == folder {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Internal, "the lock is of another data folder"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn fill(folder: &Path, text: &str) {
        for path in ["WiredTiger", "a.wt", "journal/WiredTigerLog.1", "shop/collection-1.wt"] {
            let at = folder.join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, text).unwrap();
        }
    }

    /// All files but those of the exchange, with what they hold.
    fn held(folder: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut left = vec![folder.to_owned()];
        while let Some(at) = left.pop() {
            for entry in fs::read_dir(&at).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                match path.is_dir() {
                    true if name.starts_with(OWN_PREFIX) => {}
                    true => left.push(path),
                    false => drop(found.insert(name, fs::read_to_string(&path).unwrap())),
                }
            }
        }
        found
    }

    fn scene() -> (tempfile::TempDir, BTreeMap<String, String>) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), "old");
        for (name, text) in [("only-old.wt", "old"), ("mongod.lock", ""), ("keyfile", "secret")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let before = held(dir.path());
        (dir, before)
    }

    #[test]
    fn the_data_is_exchanged_and_what_people_keep_there_stays() {
        let (dir, _) = scene();
        // Killed before it was whole: nobody is kept from another.
        fs::create_dir(draft_folder(dir.path(), "a0")).unwrap();
        assert!(obstacle(dir.path()).unwrap().is_none());
        assert!(Exchange::left(dir.path(), "a0").unwrap().is_none() && !draft_folder(dir.path(), "a0").exists());
        let exchange = Exchange::claim(dir.path(), "a1", "b").unwrap();
        assert!(obstacle(dir.path()).unwrap().unwrap().contains("did not come to its end"));
        assert_eq!(Exchange::claim(dir.path(), "a2", "b").unwrap_err().kind(), ErrorKind::Conflict);
        fill(&exchange.copy(), "new");
        let lock = FolderLock::take(dir.path()).unwrap().unwrap();
        let exchange = exchange.put_in(&lock).unwrap();
        let now = held(dir.path());
        assert!(now.values().all(|text| text != "old"), "{now:?}");
        assert_eq!((now["shop/collection-1.wt"].as_str(), now["keyfile"].as_str()), ("new", "secret"));
        assert!(set_aside(dir.path()).join("only-old.wt").exists());
        exchange.remove().unwrap();
        assert_eq!((held(dir.path()), obstacle(dir.path()).unwrap()), (now, None));
    }

    #[test]
    fn wherever_it_is_interrupted_the_old_data_comes_back() {
        // Moves that are made before it is interrupted: of each stage every one.
        for (stage, moves) in [
            (Stage::Preparing, 0),
            (Stage::Stopping, 0),
            (Stage::SettingAside, 0),
            (Stage::SettingAside, 3),
            (Stage::PuttingIn, 0),
            (Stage::PuttingIn, 2),
            (Stage::Starting, 9),
        ] {
            let (dir, before) = scene();
            let mut exchange = Exchange::claim(dir.path(), "a1", "b").unwrap();
            fill(&exchange.copy(), "new");
            let some = |from: &Path, to: &Path, n: usize| {
                for (path, name) in data_of(from).unwrap().into_iter().take(n) {
                    move_to(&path, &to.join(name)).unwrap();
                }
            };
            let old = set_aside(dir.path());
            if stage >= Stage::SettingAside {
                make(&old).unwrap();
                some(dir.path(), &old, if stage == Stage::SettingAside { moves } else { 99 });
            }
            if stage > Stage::SettingAside {
                some(&exchange.copy(), dir.path(), moves);
            }
            if stage == Stage::SettingAside && moves > 0 {
                // Somebody started the server on it: it makes what is missing, the first of what was moved.
                fs::write(dir.path().join("WiredTiger"), "made anew").unwrap();
            }
            exchange.enter(stage).unwrap();
            drop(exchange);
            assert!(Exchange::left(dir.path(), "another").unwrap().is_none());
            // Interrupted again, and begun again.
            for _ in 0..2 {
                let left = Exchange::left(dir.path(), "a1").unwrap().unwrap();
                let lock = FolderLock::take(dir.path()).unwrap().unwrap();
                left.put_back(&lock).unwrap();
                assert_eq!(held(dir.path()), before, "{stage:?} after {moves}");
            }
            Exchange::left(dir.path(), "a1").unwrap().unwrap().remove().unwrap();
        }
    }

    #[test]
    fn a_folder_at_work_is_not_locked_and_a_part_elsewhere_is_seen() {
        let (dir, _) = scene();
        let first = FolderLock::take(dir.path()).unwrap();
        assert!(first.is_some() && FolderLock::take(dir.path()).unwrap().is_none());
        drop(first);
        assert!(FolderLock::take(dir.path()).unwrap().is_some());
        let elsewhere = tempfile::tempdir().unwrap();
        fill(elsewhere.path(), "x");
        fs::remove_dir_all(dir.path().join("journal")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("journal"), dir.path().join("journal")).unwrap();
        assert_eq!(obstacle(dir.path()).unwrap().unwrap(), "journal lies on another file system");
    }

    #[test]
    fn what_the_server_removes_meanwhile_is_no_obstacle() {
        let (dir, _) = scene();
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let all: Vec<PathBuf> = (0..50).map(|n| dir.path().join(format!("index-{n}.wt"))).collect();
                    all.iter().for_each(|path| fs::write(path, "x").unwrap());
                    all.iter().for_each(|path| fs::remove_file(path).unwrap());
                }
            });
            let looks: Vec<_> = (0..500).map(|_| obstacle(dir.path())).collect();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            for looked in looks {
                assert_eq!(looked.unwrap(), None);
            }
        });
    }

    #[test]
    fn what_root_makes_is_given_to_the_owner_of_the_data() {
        if !rustix::process::geteuid().is_root() {
            // Nobody else may give files away: all are the user's own.
            return;
        }
        let (dir, _) = scene();
        std::os::unix::fs::chown(dir.path(), Some(1234), Some(1235)).unwrap();
        let exchange = Exchange::claim(dir.path(), "a1", "b").unwrap();
        for made in [own_folder(dir.path()), exchange.copy()] {
            let metadata = fs::metadata(made).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1234, 1235));
        }
    }
}
