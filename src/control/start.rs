//! Starting a daemon in the background, and ending one.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::lock::{self, Holder, Stage};
use super::log;
use crate::config::Home;
use crate::domain::command_line::OF_THE_SERVICE_MANAGER;
use crate::error::{Error, ErrorKind, Result, own_io};

/// A machine under load may need a while to start a process and migrate a store.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often a daemon is started that ends before it answers.
const TRIES: u32 = 2;
/// Running jobs get [`super::STOP_LIMIT`] to end in order; then the daemon ends by itself.
const STOP_LIMIT: Duration = Duration::from_secs(super::STOP_LIMIT.as_secs() + 15);

/// Returns the daemon of this home, once it answers; starts `program daemon run` when there is none.
///
/// Errors: `Unreachable` when it does not come up, with what it said.
pub fn ensure(home: &Home, program: &Path) -> Result<Holder> {
    let began = Instant::now();
    let mut child: Option<mpsc::Receiver<String>> = None;
    let mut tries = 0;
    loop {
        match lock::holder(home)? {
            Some(holder) if holder.stage == Stage::Ready => return Ok(holder),
            // Starting: soon ready. Stopping: soon gone.
            Some(_) => {}
            None => match &child {
                None => {
                    tries += 1;
                    child = Some(spawn(home, program)?);
                }
                Some(ended) => {
                    if let Ok(status) = ended.try_recv() {
                        // Another one may have been faster; then ours has ended, and theirs is there.
                        // One that has gone again meanwhile is no reason to give up at once.
                        if lock::holder(home)?.is_none() && tries >= TRIES {
                            return Err(not_up(home, &status));
                        }
                        child = None;
                    }
                }
            },
        }
        if began.elapsed() > START_LIMIT {
            return Err(not_up(home, &format!("it did not answer within {} s", START_LIMIT.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn not_up(home: &Home, why: &str) -> Error {
    let said = last_line(&home.log_file()).unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Error::new(ErrorKind::Unreachable, format!("the daemon did not start ({why}){said}"))
        .hint(format!("see {}, or run mongokeep daemon run in the foreground", home.log_file().display()))
}

fn last_line(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(4096))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|l| !l.trim().is_empty()).map(|l| crate::domain::text::escape(l.trim()))
}

/// Starts the process and a thread that tells how it ended.
fn spawn(home: &Home, program: &Path) -> Result<mpsc::Receiver<String>> {
    let log = open_log(&home.log_file())?;
    let mut command = Command::new(program);
    if let Some(root) = home.root() {
        command.arg("--home").arg(root);
    }
    // A daemon that is started by a service is not that service.
    for name in OF_THE_SERVICE_MANAGER {
        command.env_remove(name);
    }
    command
        .args(["daemon", "run", "--background"])
        .current_dir("/")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(log));
    let mut child = command.spawn().map_err(|e| {
        own_io(format!("starting the daemon ({})", program.display()), e).hint("run mongokeep daemon run by yourself")
    })?;
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let status = child.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
        let _ = sender.send(status);
    });
    Ok(receiver)
}

fn open_log(path: &PathBuf) -> Result<fs::File> {
    if fs::metadata(path).is_ok_and(|m| m.len() > log::LIMIT) {
        let _ = fs::rename(path, log::earlier(path));
    }
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(|e| own_io(path.display(), e))
}

/// Asks the daemon to end and returns when it is gone. `false`: there was none.
pub fn stop(home: &Home) -> Result<bool> {
    let Some(first) = lock::holder(home)? else { return Ok(false) };
    let stop = || -> Option<()> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(first.pid).ok()?)?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok()
    };
    // The holder is asked for again right before, so that its pid is that of a live process.
    if lock::holder(home)?.is_some_and(|now| now.pid == first.pid) && stop().is_none() {
        return Err(Error::new(ErrorKind::Unreachable, format!("the daemon (pid {}) cannot be signalled", first.pid))
            .hint("it belongs to another user, or runs in another container; end it there"));
    }
    let began = Instant::now();
    while lock::holder(home)?.is_some_and(|now| now.pid == first.pid) {
        if began.elapsed() > STOP_LIMIT {
            return Err(Error::new(ErrorKind::Unreachable, format!("the daemon (pid {}) does not end", first.pid))
                .hint(format!("kill -9 {} ends it; its jobs go on by their retry policy", first.pid)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(true)
}
