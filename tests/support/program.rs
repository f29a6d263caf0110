//! The program with a home of its own, and a replica set to back up.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use mongokeep::sandbox::ReplicaSet;
use serde_json::Value;

/// A home in a temporary folder. Dropped, it ends its daemon.
pub struct Home {
    dir: tempfile::TempDir,
    /// What its commands, and so its daemon, have besides.
    environment: Vec<(&'static str, String)>,
}

pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    pub fn new() -> Self {
        Self::with(Vec::new())
    }

    /// One whose commands, and so its daemon, have `environment` besides.
    pub fn with(environment: Vec<(&'static str, String)>) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), environment }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }

    pub fn home(&self) -> mongokeep::config::Home {
        mongokeep::config::Home::below(&self.path())
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mongokeep"));
        command.env("MONGOKEEP_HOME", self.path()).args(["-o", "json"]).args(args).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must end well, and returns what it printed.
    pub fn ok(&self, args: &[&str]) -> Value {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}\n{}\n{}", ran.stdout, ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", ran.stdout))
    }

    /// The same of a command that says by its exit code that something is wrong.
    pub fn said(&self, args: &[&str]) -> Value {
        let ran = self.run(args);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {} {}", ran.stdout, ran.stderr))
    }

    pub fn add_service(&self, name: &str, uri: &str) {
        let file = self.dir.path().join(format!("{name}.uri"));
        std::fs::write(&file, uri).unwrap();
        self.ok(&["service", "add", name, "--uri-file", file.to_str().unwrap()]);
    }

    pub fn add_storage(&self, name: &str) {
        self.ok(&["storage", "add", name, "--type", "filesystem", "--path", self.storage().to_str().unwrap()]);
    }

    /// Adds the storage `name`: a bucket at `address`.
    #[allow(dead_code)]
    pub fn add_s3(&self, name: &str, address: std::net::SocketAddr, bucket: &str, secret: &str) {
        let file = self.path().join("secret");
        std::fs::write(&file, secret).unwrap();
        let endpoint = format!("http://{address}");
        let of = ["--type", "s3", "--bucket", bucket, "--region", "eu-west-1", "--endpoint", &endpoint, "--path-style"];
        let keys = ["--access-key-id", super::s3::ACCESS_KEY, "--secret-access-key-file", file.to_str().unwrap()];
        self.ok(&[&["storage", "add", name], &of[..], &keys[..]].concat());
    }

    /// Files in the storage, relative to it, without the mark of its folder.
    pub fn files(&self) -> Vec<String> {
        let mut out = Vec::new();
        walk(&self.storage(), &self.storage(), &mut out);
        out.retain(|path| path != mongokeep::storage::filesystem::mark::MARK);
        out.sort();
        out
    }

    pub fn daemon_pid(&self) -> Option<i32> {
        let holder = mongokeep::control::lock::holder(&self.home()).unwrap();
        holder.map(|h| i32::try_from(h.pid).unwrap())
    }

    pub fn client(&self) -> mongokeep::client::Client {
        let client = mongokeep::client::Client::open(&self.home(), false).unwrap();
        client.with_program(PathBuf::from(env!("CARGO_BIN_EXE_mongokeep")))
    }

    pub fn start_daemon(&self) {
        self.client().ensure_daemon().unwrap();
    }

    /// Ends the daemon as a power cut would, and returns when it is gone.
    pub fn kill_daemon(&self) {
        let Some(pid) = self.daemon_pid() else { return };
        let process = rustix::process::Pid::from_raw(pid).unwrap();
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        until("the daemon is gone", || self.daemon_pid() != Some(pid));
    }

    pub fn job(&self, id: i64) -> Value {
        self.ok(&["job", "show", &id.to_string()])
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.path().exists() {
            self.kill_daemon();
        }
    }
}

fn walk(root: &Path, at: &Path, out: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(at) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, out);
        } else {
            out.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// Waits for a condition; four minutes are far longer than any of them takes. Most start a command to look: not so
/// often that what is waited for gets no processor.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(240), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

pub async fn replica_set() -> ReplicaSet {
    // MONGOKEEP_MONGOD, one on PATH, or the pinned one, fetched once.
    let mongod = mongokeep::sandbox::Mongod::find(&|_| {}).await.unwrap();
    ReplicaSet::start(&mongod, mongokeep::sandbox::ReplicaSetOptions::default()).await.unwrap()
}

/// `count` documents of about 1 kB in `<db>.items`.
pub async fn fill(set: &ReplicaSet, db: &str, count: i64) {
    let items = set.client().await.unwrap().database(db).collection("items");
    // Text that does not compress away: a backup of it takes a moment.
    let text = |i: i64| {
        (0..60).map(|k| format!("{:x}", (i * 7919 + k * 104_729).wrapping_mul(2_654_435_761))).collect::<String>()
    };
    let ids: Vec<i64> = (0..count).collect();
    for chunk in ids.chunks(1_000) {
        items.insert_many(chunk.iter().map(|i| doc! {"_id": i, "text": text(*i)})).await.unwrap();
    }
}

pub async fn count(set: &ReplicaSet, db: &str) -> u64 {
    let items = set.client().await.unwrap().database(db).collection::<mongodb::bson::Document>("items");
    items.count_documents(doc! {}).await.unwrap()
}
