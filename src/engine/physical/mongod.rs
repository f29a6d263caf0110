//! The server program that recovers a copy: found on this host, and of the same version as the copy.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result, io};

/// How long a program may take to say its version. One that is emulated takes seconds.
const VERSION_LIMIT: Duration = Duration::from_secs(30);
/// Where packages put it, besides the folders of `PATH`.
const PLACES: [&str; 3] = ["/usr/bin/mongod", "/usr/local/bin/mongod", "/opt/mongodb/bin/mongod"];

/// A `mongod` of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mongod {
    pub path: PathBuf,
    /// `6.0.5`.
    pub version: String,
}

/// Finds a `mongod` whose first two numbers are those of `wanted`: `chosen`, or else the first of `PATH`, of the usual
/// places, and of the servers that run on this host.
///
/// Errors: `Unsupported`, naming what was found instead.
pub async fn find(chosen: Option<&Path>, wanted: &str) -> Result<Mongod> {
    let series = series(wanted);
    if let Some(path) = chosen {
        let found = ask(path).await?;
        if self::series(&found.version) == series {
            return Ok(found);
        }
        let what = format!("{} is MongoDB {}, the backup is of {}", shown(path), found.version, escape(wanted));
        return Err(Error::new(ErrorKind::Unsupported, what).hint(format!(
            "files of one series are opened by a mongod of the same: give one of {series} with --mongod PATH"
        )));
    }
    let mut others = Vec::new();
    for path in candidates() {
        match ask(&path).await {
            Ok(found) if self::series(&found.version) == series => return Ok(found),
            Ok(found) => others.push(format!("{} is {}", shown(&path), found.version)),
            Err(_) => {}
        }
    }
    let found = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
    let what = format!("no mongod {series} was found on this host (found: {found})");
    Err(Error::new(ErrorKind::Unsupported, what)
        .hint(format!("install MongoDB {series}, or say where it is: --mongod PATH")))
}

/// `6.0` of `6.0.5`.
pub fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path).map(|folder| folder.join("mongod")).collect();
    found.extend(PLACES.iter().map(PathBuf::from));
    // Servers that run here show their program, if we may see it.
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_process = entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
        if let Some(program) = is_process.then(|| std::fs::read_link(entry.path().join("exe")).ok()).flatten()
            // Some call it mongod-6.0 or the like; what it is it says itself.
            && program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mongod"))
        {
            found.push(program);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|path| path.is_file() && seen.insert(path.clone()));
    found
}

async fn ask(path: &Path) -> Result<Mongod> {
    let failed = |e| io(format_args!("running {} --version", shown(path)), e);
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(VERSION_LIMIT, command.output()).await;
    let said = said
        .map_err(|_| Error::new(ErrorKind::Failed, format!("{} does not say its version", shown(path))))?
        .map_err(failed)?;
    // "db version v6.0.5"
    let text = String::from_utf8_lossy(&said.stdout);
    let version = text.lines().find_map(|line| line.trim().strip_prefix("db version v")).map(str::trim);
    match version {
        Some(version) => Ok(Mongod { path: path.to_owned(), version: escape(version) }),
        None => Err(Error::new(ErrorKind::Unsupported, format!("{} is no mongod", shown(path)))
            .hint("give the server's own program with --mongod PATH")),
    }
}

/// Ends the servers that a killed restore left at work on `folder`. Blocks, for some seconds at most.
pub fn end_left(folder: &Path) {
    use rustix::process::{Pid, Signal, kill_process};
    // Asked of the processes themselves: one that has just started has not written its lock file yet.
    let at_work = || -> Vec<Pid> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_at_work = |entry: &std::fs::DirEntry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let folder = std::os::unix::ffi::OsStrExt::as_bytes(folder.as_os_str());
            words.windows(2).any(|pair| pair[0] == b"--dbpath" && pair[1] == folder)
        };
        let pids = entries.filter(is_at_work).filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        pids.filter_map(Pid::from_raw).collect()
    };
    for _ in 0..100 {
        let left = at_work();
        if left.is_empty() {
            return;
        }
        for pid in left {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
