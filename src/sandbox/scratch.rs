//! A temporary folder with processes that live in it, both certain to go.
//!
//! A process cannot clean up after its own `kill -9`, and asking the kernel to kill children with their parent needs
//! unsafe code (and is tied to the thread that started them). So a small shell script stands by: its standard input is
//! a pipe that only we hold. When we end, in whatever way, it reads the end of the pipe, kills what was started in the
//! folder and removes it.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::error::{self, Error, ErrorKind, Result};

/// A process is killed only if its command line names the folder: its id may belong to another one by then.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP QUIT PIPE
dir=$1
pids=
while read -r pid; do pids="$pids $pid"; done
ours() {
    if [ -r "/proc/$1/cmdline" ]; then tr '\0' ' ' <"/proc/$1/cmdline"; else ps -o args= -p "$1" 2>/dev/null; fi |
        grep -qF -- "$dir/"
}
for pid in $pids; do if ours "$pid"; then kill -9 "$pid" 2>/dev/null; fi; done
tries=0
for pid in $pids; do
    while ours "$pid" && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
done
rm -rf -- "$dir"
"#;

/// Dropping it kills what was registered and removes the folder (both a moment later, in the background).
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    watchdog: Mutex<Option<ChildStdin>>,
    child: std::process::Child,
}

impl Scratch {
    /// A new folder, readable by this user only, below the system's temporary folder (`TMPDIR`).
    pub fn new() -> Result<Self> {
        let path = create_folder()?;
        let child = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "mongokeep-sandbox"])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: a Ctrl-C in our terminal must not reach it before we are gone.
            .process_group(0)
            .spawn();
        match child {
            Ok(mut child) => Ok(Self { watchdog: Mutex::new(child.stdin.take()), path, child }),
            Err(e) => {
                let _ = std::fs::remove_dir(&path);
                Err(error::io("starting /bin/sh", e))
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has process `pid`, whose command line names this folder, killed with the folder.
    pub fn register(&self, pid: u32) -> Result<()> {
        let mut guard = self.watchdog.lock().map_err(|_| gone())?;
        let pipe = guard.as_mut().ok_or_else(gone)?;
        writeln!(pipe, "{pid}").map_err(|e| error::io("telling the clean-up script about a process", e))
    }

    /// Removes everything now and returns when it is gone.
    pub async fn remove(mut self) -> Result<()> {
        self.close();
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || self.child.wait())
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "waiting for the clean-up script").source(e))?
            .map_err(|e| error::io("waiting for the clean-up script", e))?;
        if path.exists() {
            return Err(Error::new(ErrorKind::Failed, format!("{} could not be removed", path.display())));
        }
        Ok(())
    }

    fn close(&self) {
        if let Ok(mut guard) = self.watchdog.lock() {
            guard.take();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.close();
        // Not waited for: dropping may happen on an async thread. One script's exit status stays with the system until
        // we end, which costs an entry of the process table and nothing else.
        let _ = self.child.try_wait();
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, "the clean-up script of a temporary folder is gone")
}

fn create_folder() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    let pid = std::process::id();
    for _ in 0..100 {
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        let path = base.join(format!("mongokeep-{pid}-{nanos:09}"));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => std::thread::sleep(Duration::from_micros(50)),
            Err(e) => return Err(error::io(format_args!("creating {}", path.display()), e)),
        }
    }
    Err(Error::new(ErrorKind::Failed, format!("no free name for a folder in {}", base.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_started_in_it_goes_with_it_and_nothing_else() {
        let scratch = Scratch::new().unwrap();
        let dir = scratch.path().to_owned();
        std::fs::write(dir.join("file"), "x").unwrap();
        let spawn = |argument: &str| {
            Command::new("/bin/sh").args(["-c", "while :; do sleep 1; done", argument]).spawn().unwrap()
        };
        let mut ours = spawn(&format!("{}/x", dir.display()));
        let mut other = spawn("elsewhere");
        scratch.register(ours.id()).unwrap();
        scratch.register(other.id()).unwrap();
        let waited = tokio::task::spawn_blocking(move || ours.wait());
        scratch.remove().await.unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(waited.await.unwrap().unwrap().signal(), Some(9));
        assert!(!dir.exists());
        assert!(other.try_wait().unwrap().is_none(), "a process that is not in the folder was killed");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
