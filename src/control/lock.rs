//! The daemon's lock: one daemon for each home, and everybody can see which.
//!
//! A process holds the lock exactly as long as it lives, so whether a daemon runs is asked of the operating system,
//! never of a clock or a pid that may belong to somebody else by now.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::Home;
use crate::domain::clock;
use crate::error::{Error, ErrorKind, Result, own_io};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Starting,
    Ready,
    Stopping,
}

/// What the holder says about itself, in the lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub version: String,
    pub started_at: DateTime<Utc>,
    pub stage: Stage,
    /// It shows every [`BEAT`] that it goes on. A version before this one does not.
    #[serde(default)]
    pub beats: bool,
}

/// How often the daemon shows that it goes on: by the time at which its lock file was changed last. A row of the store would
/// have every screen read all of it anew each time.
pub const BEAT: Duration = Duration::from_secs(2);
/// Without a sign of life for so long a daemon hangs, or was stopped.
const SILENCE: Duration = Duration::from_secs(10);

/// Held until dropped.
pub struct DaemonLock {
    file: File,
    holder: Holder,
}

/// Somebody who only looks holds a shared lock for a moment; a daemon that starts just then must not give up.
const LOOKERS: Duration = Duration::from_millis(500);

impl DaemonLock {
    /// Errors: `Conflict` when a daemon runs, naming it.
    pub fn acquire(home: &Home) -> Result<Self> {
        let path = home.lock_file();
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| own_io(path.display(), e))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // A starter must not lie in wait for a daemon to end: it would come to life right after a stop.
                Err(TryLockError::WouldBlock) if began.elapsed() < LOOKERS && only_looked_at(&file) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    let who =
                        read(&mut file).map_or(String::new(), |h| format!(" (pid {}, version {})", h.pid, h.version));
                    return Err(Error::new(ErrorKind::Conflict, format!("another daemon{who} runs for this home"))
                        .hint("mongokeep daemon stop ends it"));
                }
                Err(TryLockError::Error(e)) => return Err(own_io(format!("locking {}", path.display()), e)),
            }
        }
        let holder = Holder {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: clock::now(),
            stage: Stage::Starting,
            beats: true,
        };
        let mut lock = Self { file, holder };
        lock.write()?;
        Ok(lock)
    }

    /// Tells everybody how far the daemon is.
    pub fn set_stage(&mut self, stage: Stage) -> Result<()> {
        self.holder.stage = stage;
        self.write()
    }

    /// Shows that the daemon goes on.
    pub fn beat(&self) -> Result<()> {
        self.file.set_modified(SystemTime::now()).map_err(|e| own_io("the time of the daemon's lock", e))
    }

    fn write(&mut self) -> Result<()> {
        let text = serde_json::to_string(&self.holder)
            .map_err(|e| Error::new(ErrorKind::Internal, "writing the daemon's lock").source(e))?;
        let mut write = || -> std::io::Result<()> {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(text.as_bytes())
        };
        write().map_err(|e| own_io("writing the daemon's lock", e))
    }
}

impl Drop for DaemonLock {
    fn drop(&mut self) {
        // The text is of no use without the lock, and a stale pid invites mistakes.
        let _ = self.file.set_len(0);
    }
}

/// Whether those who keep the lock from being taken only hold it shared.
fn only_looked_at(file: &File) -> bool {
    file.try_lock_shared().is_ok() && file.unlock().is_ok()
}

/// Whoever takes the lock of a daemon that was killed finds its text, and writes its own right after. A text of a process
/// that is not there is believed after this long: the daemon may run in another container, where pids are others.
const STALE: Duration = Duration::from_millis(250);

/// How long nobody may say who holds the lock: a machine with too much to do takes seconds from one line to the next.
const NAMELESS: Duration = Duration::from_secs(10);

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // Who may not signal it knows at least that it is there.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// The daemon that runs for this home, if any.
pub fn holder(home: &Home) -> Result<Option<Holder>> {
    let path = home.lock_file();
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(own_io(path.display(), e)),
    };
    let began = Instant::now();
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(own_io(format!("looking at {}", path.display()), e)),
        }
        if let Some(holder) = read(&mut file)
            && (is_alive(holder.pid) || began.elapsed() > STALE)
        {
            return Ok(Some(holder));
        }
        // It is just writing, or has just taken or left the lock.
        if began.elapsed() > NAMELESS {
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("{} is locked, but nobody says by whom", path.display()),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Since when the daemon gives no sign of life, when that is too long: it holds the lock, and does nothing. Of one that
/// starts or ends nothing is expected.
pub fn silent_since(home: &Home, holder: &Holder) -> Option<DateTime<Utc>> {
    if !holder.beats || holder.stage != Stage::Ready {
        return None;
    }
    let heard = fs::metadata(home.lock_file()).and_then(|facts| facts.modified()).ok()?;
    // A clock that was set back makes nobody silent.
    let silent = SystemTime::now().duration_since(heard).is_ok_and(|since| since >= SILENCE);
    silent.then(|| heard.into())
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_and_everybody_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(dir.path());
        home.create().unwrap();
        assert_eq!(holder(&home).unwrap(), None);
        let mut lock = DaemonLock::acquire(&home).unwrap();
        lock.set_stage(Stage::Ready).unwrap();
        let seen = holder(&home).unwrap().unwrap();
        assert_eq!((seen.pid, seen.stage), (std::process::id(), Stage::Ready));
        let error = DaemonLock::acquire(&home).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.full().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(lock);
        assert_eq!(holder(&home).unwrap(), None);
        DaemonLock::acquire(&home).unwrap();
    }

    #[test]
    fn a_daemon_that_shows_nothing_for_ten_seconds_is_silent() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(dir.path());
        home.create().unwrap();
        let mut lock = DaemonLock::acquire(&home).unwrap();
        let since = |seconds| SystemTime::now() - Duration::from_secs(seconds);
        let silent = |home: &Home| silent_since(home, &holder(home).unwrap().unwrap()).map(|at| at.timestamp());
        lock.file.set_modified(since(60)).unwrap();
        assert_eq!(silent(&home), None, "it is starting");
        lock.set_stage(Stage::Ready).unwrap();
        assert_eq!(silent(&home), None);
        // Asked again when the question came too late for its answer to say anything.
        let in_time = || loop {
            lock.file.set_modified(since(9)).unwrap();
            let asked = Instant::now();
            let answer = silent(&home);
            if answer.is_none() || asked.elapsed() < Duration::from_millis(500) {
                break answer;
            }
        };
        assert_eq!(in_time(), None);
        let long_ago = since(11);
        lock.file.set_modified(long_ago).unwrap();
        assert_eq!(silent(&home), Some(DateTime::<Utc>::from(long_ago).timestamp()));
        lock.beat().unwrap();
        assert_eq!(silent(&home), None);
        // One of an older version never says anything.
        lock.holder.beats = false;
        lock.set_stage(Stage::Ready).unwrap();
        lock.file.set_modified(long_ago).unwrap();
        assert_eq!(silent(&home), None);
    }

    /// A pid that was a daemon's and is nobody's, or somebody else's, must not be signalled.
    #[test]
    fn the_text_of_a_daemon_that_was_killed_is_not_taken_for_that_of_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(dir.path());
        home.create().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let text = |pid: u32| {
            let (version, started_at, stage) = ("1".into(), Utc::now(), Stage::Ready);
            let holder = Holder { pid, version, started_at, stage, beats: false };
            serde_json::to_string(&holder).unwrap()
        };
        let next = fs::OpenOptions::new().create(true).truncate(false).write(true).open(home.lock_file()).unwrap();
        next.lock().unwrap();
        // Once more when the next one was too late with its text: that of the other is believed then.
        let seen = loop {
            fs::write(home.lock_file(), text(child.id())).unwrap();
            let began = Instant::now();
            let (seen, in_time) = std::thread::scope(|scope| {
                let seen = scope.spawn(|| holder(&home).unwrap().unwrap().pid);
                std::thread::sleep(Duration::from_millis(50));
                fs::write(home.lock_file(), text(std::process::id())).unwrap();
                let in_time = began.elapsed() < STALE;
                (seen.join().unwrap(), in_time)
            });
            if in_time {
                break seen;
            }
        };
        assert_eq!(seen, std::process::id());
    }

    #[test]
    fn looking_does_not_keep_a_daemon_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(dir.path());
        home.create().unwrap();
        drop(DaemonLock::acquire(&home).unwrap());
        let looking = File::open(home.lock_file()).unwrap();
        looking.lock_shared().unwrap();
        let starter = {
            let home = home.clone();
            std::thread::spawn(move || DaemonLock::acquire(&home).is_ok())
        };
        std::thread::sleep(Duration::from_millis(50));
        drop(looking);
        assert!(starter.join().unwrap());
    }
}
