//! Servers of others that tests start as processes: programs that are fetched once, by the ordinary client of their registry
//! and in a pinned version, into the cache folder of the user.
//!
//! Where Go, Python or npm is missing, or the registry, a test says so in one line and ends; with `CI=true` it fails.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that is fetched once.
pub struct Program {
    pub what: &'static str,
    /// Below the cache folder.
    pub folder: &'static str,
    /// The program, below that folder.
    pub file: &'static str,
    /// Names one that is there already.
    pub variable: &'static str,
    pub fetch: fn(&Path) -> Result<(), String>,
}

pub fn done(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{program} is needed to get it ({e})"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = stderr.lines().rev().take(3).collect();
    Err(format!("{program}: {}", tail.into_iter().rev().collect::<Vec<_>>().join(" ")))
}

impl Program {
    fn find(&self) -> Option<PathBuf> {
        let why = match self.locate() {
            Ok(program) => return Some(program),
            Err(why) => why,
        };
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing: {why}", self.what);
        // Not eprintln: the test harness would keep the line to itself.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: this needs {}, which is missing: {why}", self.what);
        None
    }

    fn locate(&self) -> Result<PathBuf, String> {
        if let Some(program) = std::env::var_os(self.variable).map(PathBuf::from) {
            let missing = || format!("{} is {}, which is no file", self.variable, program.display());
            return if program.is_file() { Ok(program) } else { Err(missing()) };
        }
        let cache = mongokeep::sandbox::cache_dir().map_err(|e| e.to_string())?;
        std::fs::create_dir_all(&cache).map_err(|e| e.to_string())?;
        // Tests run in several processes; one fetches, the others wait.
        let lock = File::create(cache.join(format!("{}.lock", self.folder))).map_err(|e| e.to_string())?;
        lock.lock().map_err(|e| e.to_string())?;
        let folder = cache.join(self.folder);
        // Written last: what was interrupted does not look whole.
        let whole = folder.join(".whole");
        if !whole.is_file() {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
            (self.fetch)(&folder)?;
            File::create(&whole).map_err(|e| e.to_string())?;
        }
        Ok(folder.join(self.file))
    }
}

pub async fn find(program: &'static Program) -> Option<PathBuf> {
    tokio::task::spawn_blocking(|| program.find()).await.unwrap()
}

/// A port that was free a moment ago, and that the system gives to nobody: none of these servers says which one it took
/// of its own, and some take seconds to begin.
pub fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], mongokeep::sandbox::free_port().unwrap()).into()
}
