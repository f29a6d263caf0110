//! The programs that others back MongoDB up with: the stock tools (`mongodump`, `mongorestore`, `bsondump`), which read
//! what this program writes, and Percona Backup for MongoDB, which it is measured beside.
//!
//! Looked for in the folder that an environment variable names, then on PATH; otherwise built with Go from a pinned
//! commit, once, below `target/`. Where there is no Go either, a test that needs them says so in one line and ends; with
//! `CI=true` it fails, unless the module registry itself does not serve them: nothing in the tree can help that.

#![allow(dead_code)]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const MONGO_TOOLS: Origin = Origin {
    what: "mongodump and mongorestore 100.18.0",
    variable: "MONGOKEEP_MONGO_TOOLS",
    cached: "mongo-tools",
    module: "github.com/mongodb/mongo-tools",
    commit: "21a342dfee6468ad9350d156d25086da64dd03b1",
    programs: &[("mongodump", "mongodump/main"), ("mongorestore", "mongorestore/main"), ("bsondump", "bsondump/main")],
    ldflags: "",
};

const PBM: Origin = Origin {
    what: "pbm and pbm-agent 2.15.0",
    variable: "MONGOKEEP_PBM",
    cached: "pbm",
    module: "github.com/percona/percona-backup-mongodb",
    commit: "9641a911c853ecc79614816c0266cb53819cd5df",
    programs: &[("pbm", "cmd/pbm"), ("pbm-agent", "cmd/pbm-agent")],
    // PBM refuses versions of itself that it does not know, such as none.
    ldflags: "-X github.com/percona/percona-backup-mongodb/pbm/version.version=2.15.0",
};

const AGE: Origin = Origin {
    what: "age and age-keygen 1.2.1",
    variable: "MONGOKEEP_AGE",
    cached: "age",
    module: "filippo.io/age",
    commit: "v1.2.1",
    programs: &[("age", "cmd/age"), ("age-keygen", "cmd/age-keygen")],
    ldflags: "",
};

/// Programs that come from one Go module.
struct Origin {
    what: &'static str,
    variable: &'static str,
    cached: &'static str,
    module: &'static str,
    /// Or a version of the module.
    commit: &'static str,
    /// Name, and package within the module.
    programs: &'static [(&'static str, &'static str)],
    ldflags: &'static str,
}

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
        MONGO_TOOLS.find().map(|folder| Self { folder })
    }
}

/// The programs of age.
pub struct Age {
    folder: PathBuf,
}

impl Age {
    pub fn age(&self) -> Command {
        Command::new(self.folder.join("age"))
    }

    pub fn keygen(&self) -> Command {
        Command::new(self.folder.join("age-keygen"))
    }

    /// Both programs, or `None` after a line that says why not. Blocks while they are built.
    pub fn find() -> Option<Self> {
        AGE.find().map(|folder| Self { folder })
    }
}

pub struct Pbm {
    folder: PathBuf,
}

impl Pbm {
    pub fn pbm(&self) -> Command {
        Command::new(self.folder.join("pbm"))
    }

    pub fn agent(&self) -> Command {
        Command::new(self.folder.join("pbm-agent"))
    }

    /// Both programs, or `None` after a line that says why not. Blocks while they are built.
    pub fn find() -> Option<Self> {
        PBM.find().map(|folder| Self { folder })
    }
}

impl Origin {
    fn find(&self) -> Option<PathBuf> {
        let why = match self.locate() {
            Ok(folder) => return Some(folder),
            Err(why) => why,
        };
        let must_be_there = std::env::var("CI").as_deref() == Ok("true") && !not_served(&why);
        assert!(!must_be_there, "{} are missing: {why}", self.what);
        // Not eprintln: the test harness would keep the line to itself.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: this needs {}, which are missing: {why}", self.what);
        None
    }

    fn locate(&self) -> Result<PathBuf, String> {
        if let Some(folder) = std::env::var_os(self.variable) {
            let folder = PathBuf::from(folder);
            return if self.complete(&folder) {
                Ok(folder)
            } else {
                Err(format!("{} is {}, which lacks some of them", self.variable, folder.display()))
            };
        }
        if let Some(path) = std::env::var_os("PATH")
            && let Some(folder) = std::env::split_paths(&path).find(|folder| self.complete(folder))
        {
            return Ok(folder);
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
            "{}-{}",
            self.cached,
            self.commit.get(..12).unwrap_or(self.commit)
        ));
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        // Tests run in several processes; one builds, the others wait.
        let lock = File::create(folder.join("lock")).map_err(|e| e.to_string())?;
        lock.lock().map_err(|e| e.to_string())?;
        if !self.complete(&folder) {
            self.build(&folder)?;
        }
        Ok(folder)
    }

    fn complete(&self, folder: &Path) -> bool {
        self.programs.iter().all(|(name, _)| folder.join(name).is_file())
    }

    /// A module of its own that requires the pinned commit, and one `go build` for each program.
    fn build(&self, folder: &Path) -> Result<(), String> {
        let module = folder.join("module");
        std::fs::create_dir_all(&module).map_err(|e| e.to_string())?;
        std::fs::write(module.join("go.mod"), "module mongokeep.test/tools\n").map_err(|e| e.to_string())?;
        run(&module, &["get", &format!("{}@{}", self.module, self.commit)])?;
        for (name, package) in self.programs {
            // Built beside its place and renamed: an interrupted build leaves nothing that looks whole.
            let partial = folder.join(format!("{name}.partial"));
            let (out, package) = (partial.to_string_lossy(), format!("{}/{package}", self.module));
            run(&module, &["build", "-mod=mod", "-ldflags", self.ldflags, "-o", &out, &package])?;
            std::fs::rename(&partial, folder.join(name)).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Whether the registry answered that it does not have the module, as against no Go, no network or a failed build.
fn not_served(why: &str) -> bool {
    why.starts_with("go get")
        && ["403 Forbidden", "404 Not Found", "410 Gone"].iter().any(|answer| why.contains(answer))
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
