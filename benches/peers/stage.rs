//! The program under test as a person runs it: commands beside a daemon, in a home of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use mongokeep::sandbox::{Mongod, ReplicaSet, ReplicaSetOptions, Scratch};
use tokio::runtime::Runtime;

use crate::{measure, s3};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mongokeep");
/// Generous: a slow machine is no reason to give up.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Daemon(Child);

pub struct Stage {
    pub runtime: Runtime,
    pub scratch: Scratch,
}

impl Stage {
    /// With a storage `disk`.
    pub fn new() -> Self {
        let stage = Self { runtime: Runtime::new().unwrap(), scratch: Scratch::new().unwrap() };
        let folder = stage.path("storage");
        stage.mongokeep(&["storage", "add", "disk", "--type", "filesystem", "--path", folder.to_str().unwrap()]);
        stage
    }

    /// A replica set of one member that is the service `name`.
    pub fn service(&self, name: &str) -> ReplicaSet {
        let set = self.runtime.block_on(async {
            let mongod = Mongod::find(&|_| {}).await.unwrap();
            let options = ReplicaSetOptions { cache_gb: 2.0, oplog_mb: 4_000, ..Default::default() };
            ReplicaSet::start(&mongod, options).await.unwrap()
        });
        self.mongokeep(&["service", "add", name, "--uri", &set.uri(), "--cluster", name]);
        set
    }

    /// The bucket of the S3 server of the tests as the storage `name`, reached at `address`.
    pub fn bucket(&self, name: &str, address: SocketAddr) {
        let (endpoint, secret) = (format!("http://{address}"), self.path("secret"));
        std::fs::write(&secret, s3::SECRET_KEY).unwrap();
        let (bucket, key, secret) = (s3::BUCKET, s3::ACCESS_KEY, secret.to_str().unwrap());
        self.mongokeep(
            &[
                &["storage", "add", name, "--type", "s3", "--bucket", bucket, "--endpoint", &endpoint][..],
                &["--path-style", "--access-key-id", key, "--secret-access-key-file", secret],
            ]
            .concat(),
        );
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--home").arg(self.home()).args(["-o", "json"]).args(args);
        command
    }

    pub fn mongokeep(&self, args: &[&str]) -> serde_json::Value {
        json(self.command(args))
    }

    /// Prints how long each step of the newest job took.
    pub fn explain_last_job(&self) {
        let jobs = self.mongokeep(&["job", "list"]);
        let Some(id) = jobs.as_array().and_then(|jobs| jobs.first()?["id"].as_i64()) else { return };
        let mut log = Command::new(PROGRAM);
        log.arg("--home").arg(self.home()).args(["job", "log", &id.to_string()]);
        eprintln!("{}", String::from_utf8_lossy(&log.output().unwrap().stdout));
    }

    /// A daemon that has done nothing yet, so that its peak of memory is that of what follows.
    pub fn daemon(&self) -> Daemon {
        // A command that needed one may have started another, whose work would be measured in its place.
        if self.mongokeep(&["daemon", "status"])["running"] == true {
            self.mongokeep(&["daemon", "stop"]);
        }
        let mut command = Command::new(PROGRAM);
        command.arg("--home").arg(self.home()).args(["daemon", "run"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.scratch.register(child.id()).unwrap();
        let mut daemon = Daemon(child);
        while self.mongokeep(&["daemon", "status"])["running"] != true {
            assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon ended");
        }
        daemon
    }

    /// Stops it and returns how many bytes of memory it had at its peak.
    pub fn stop(&self, mut daemon: Daemon) -> u64 {
        let peak = measure::peak_of(daemon.0.id());
        self.mongokeep(&["daemon", "stop"]);
        daemon.0.wait().unwrap();
        peak
    }

    /// What was written before must not be paid for by what comes next.
    pub fn settle(&self, set: &ReplicaSet) {
        self.runtime.block_on(async {
            let client = set.client().await.unwrap();
            client.database("admin").run_command(doc! {"fsync": 1}).await.unwrap();
        });
    }

    pub fn finish(self, sets: Vec<ReplicaSet>) {
        self.mongokeep(&["daemon", "stop"]);
        self.runtime.block_on(async {
            for set in sets {
                set.stop().await.unwrap();
            }
            self.scratch.remove().await.unwrap();
        });
    }
}

/// Runs `command` and reads what it prints.
pub fn json(mut command: Command) -> serde_json::Value {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {stderr}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Asks until `done` says yes.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        // Commands are asked, each a process: not more of them than needed.
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub fn folder_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { folder_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}
