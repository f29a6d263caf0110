//! The stock tools (`mongodump`, `mongorestore`, `bsondump`), which read what this program writes.
//!
//! Looked for in the folder `MONGOKEEP_MONGO_TOOLS`, then on PATH; otherwise built with Go from a pinned commit, once,
//! below `target/`. Where there is no Go either, a test that needs them says so in one line and ends; with `CI=true` it
//! fails, unless the module registry itself does not serve the tools: nothing in the tree can help that.
#![allow(dead_code)]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const MODULE: &str = "github.com/mongodb/mongo-tools";
/// 100.18.0
const COMMIT: &str = "21a342dfee6468ad9350d156d25086da64dd03b1";
const NAMES: [&str; 3] = ["mongodump", "mongorestore", "bsondump"];

pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    pub fn mongodump(&self) -> Command {
        self.command("mongodump")
    }

    pub fn mongorestore(&self) -> Command {
        self.command("mongorestore")
    }

    pub fn bsondump(&self) -> Command {
        self.command("bsondump")
    }

    fn command(&self, name: &str) -> Command {
        Command::new(self.folder.join(name))
    }

    /// The tools, or `None` after a line that says why not. Blocks while they are built.
    pub fn find() -> Option<Self> {
        let why = match Self::locate() {
            Ok(tools) => return Some(tools),
            Err(why) => why,
        };
        let must_be_there = std::env::var("CI").as_deref() == Ok("true") && !not_served(&why);
        assert!(!must_be_there, "mongodump and mongorestore are missing: {why}");
        // Not eprintln: the test harness would keep the line to itself.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED: this needs mongodump and mongorestore 100.18.0, which are missing: {why}"
        );
        None
    }

    fn locate() -> Result<Self, String> {
        if let Some(folder) = std::env::var_os("MONGOKEEP_MONGO_TOOLS") {
            let folder = PathBuf::from(folder);
            return complete(&folder)
                .then(|| Self { folder: folder.clone() })
                .ok_or_else(|| format!("MONGOKEEP_MONGO_TOOLS is {}, which lacks some of them", folder.display()));
        }
        if let Some(path) = std::env::var_os("PATH")
            && let Some(folder) = std::env::split_paths(&path).find(|folder| complete(folder))
        {
            return Ok(Self { folder });
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mongo-tools-{}", &COMMIT[..12]));
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        // Tests run in several processes; one builds, the others wait.
        let lock = File::create(folder.join("lock")).map_err(|e| e.to_string())?;
        lock.lock().map_err(|e| e.to_string())?;
        if !complete(&folder) {
            build(&folder)?;
        }
        Ok(Self { folder })
    }
}

/// Whether the registry answered that it does not have the module, as against no Go, no network or a failed build.
fn not_served(why: &str) -> bool {
    why.starts_with("go get")
        && ["403 Forbidden", "404 Not Found", "410 Gone"].iter().any(|answer| why.contains(answer))
}

fn complete(folder: &Path) -> bool {
    NAMES.iter().all(|name| folder.join(name).is_file())
}

/// A module of its own that requires the pinned commit, and one `go build` for each tool.
fn build(folder: &Path) -> Result<(), String> {
    let module = folder.join("module");
    std::fs::create_dir_all(&module).map_err(|e| e.to_string())?;
    std::fs::write(module.join("go.mod"), "module mongokeep.test/tools\n").map_err(|e| e.to_string())?;
    run(&module, &["get", &format!("{MODULE}@{COMMIT}")])?;
    for name in NAMES {
        // Built beside its place and renamed: an interrupted build leaves nothing that looks whole.
        let partial = folder.join(format!("{name}.partial"));
        run(&module, &["build", "-mod=mod", "-o", &partial.to_string_lossy(), &format!("{MODULE}/{name}/main")])?;
        std::fs::rename(&partial, folder.join(name)).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn run(module: &Path, args: &[&str]) -> Result<(), String> {
    let output = Command::new("go")
        .args(args)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .output()
        .map_err(|e| format!("Go is needed to build them (go: {e})"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = stderr.lines().rev().take(3).collect();
    Err(format!("go {}: {}", args[0], tail.into_iter().rev().collect::<Vec<_>>().join(" ")))
}
