//! mongokeep beside the stock tools: the same server, the same data, in turn.
//!
//! `cargo bench --bench peers [-- --quick] [-- --scale N] [-- --rounds N]`. Figures of two machines cannot be compared;
//! the ratios can, roughly. What is measured is what a person waits for: commands from their start to their end, with a
//! daemon that already runs, a filesystem storage and default settings. The stock tools know no S3: of that only the
//! memory is bounded.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/support/s3.rs"]
mod s3;
#[path = "../../tests/support/tools.rs"]
mod tools;

mod data;
mod measure;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use measure::{Sample, median};
use mongodb::bson::doc;
use mongokeep::sandbox::{Mongod, ReplicaSet, ReplicaSetOptions, Scratch};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mongokeep");

struct Arguments {
    /// Of the documents; 1.0 is the data set that the goals are stated for.
    scale: f64,
    rounds: usize,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { scale: 1.0, rounds: 3 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<f64>().ok()).expect("a number follows the option");
        match word.as_str() {
            "--quick" => arguments = Arguments { scale: 0.05, rounds: 1 },
            "--scale" => arguments.scale = number(),
            "--rounds" => arguments.rounds = number() as usize,
            // What cargo itself passes.
            "--bench" => {}
            other => panic!("unknown option {other}; there are --quick, --scale N and --rounds N"),
        }
    }
    arguments
}

fn main() {
    let arguments = arguments();
    let Some(tools) = tools::Tools::find() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::prepare(tools, arguments.scale));
    let rows = bench.run(&runtime, arguments.rounds);
    println!("\n{} documents, {:.0} MB of BSON, medians of {}\n", bench.documents, bench.mb, arguments.rounds);
    println!("| | stock tools | mongokeep | ratio | goal |\n|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    runtime.block_on(bench.finish());
}

struct Daemon(Child);

struct Bench {
    tools: tools::Tools,
    set: ReplicaSet,
    scratch: Scratch,
    documents: u64,
    mb: f64,
    hashes: Vec<String>,
}

impl Bench {
    async fn prepare(tools: tools::Tools, scale: f64) -> Self {
        let mongod = Mongod::find(&|_| {}).await.unwrap();
        let options = ReplicaSetOptions { cache_gb: 2.0, oplog_mb: 4_000, ..Default::default() };
        let set = ReplicaSet::start(&mongod, options).await.unwrap();
        eprintln!("seeding");
        let client = set.client().await.unwrap();
        let (documents, bytes) = data::seed(&client, scale).await;
        eprintln!("seeded {documents} documents, {:.1} MB", bytes as f64 / 1e6);
        let hashes = data::hashes(&client).await;
        let scratch = Scratch::new().unwrap();
        let bench = Self { tools, set, scratch, documents, mb: bytes as f64 / 1e6, hashes };
        bench.mongokeep(&["service", "add", "bench", "--uri", &bench.set.uri(), "--cluster", "bench"]);
        let folder = bench.path("storage");
        bench.mongokeep(&["storage", "add", "disk", "--type", "filesystem", "--path", folder.to_str().unwrap()]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--home").arg(self.path("home")).args(["-o", "json"]).args(args);
        command
    }

    fn mongokeep(&self, args: &[&str]) -> serde_json::Value {
        let output = self.command(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mongokeep {args:?}: {} {stderr}", output.status);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// A daemon that has done nothing yet, so that its peak of memory is that of what follows.
    fn daemon(&self) -> Daemon {
        let mut command = Command::new(PROGRAM);
        command.arg("--home").arg(self.path("home")).args(["daemon", "run"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.scratch.register(child.id()).unwrap();
        let mut daemon = Daemon(child);
        while self.mongokeep(&["daemon", "status"])["running"] != true {
            assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon ended");
        }
        daemon
    }

    /// Stops it and returns how many bytes of memory it had at its peak.
    fn stop(&self, mut daemon: Daemon) -> u64 {
        let peak = measure::peak_of(daemon.0.id());
        self.mongokeep(&["daemon", "stop"]);
        daemon.0.wait().unwrap();
        peak
    }

    fn run(&self, runtime: &tokio::runtime::Runtime, rounds: usize) -> Vec<String> {
        let uri = self.set.uri();
        let (mut stock, mut own): (Vec<Sample>, Vec<Sample>) = Default::default();
        let (dump, mut own_size) = (self.path("dump"), 0);
        let daemon = self.daemon();
        for round in 0..rounds {
            eprintln!("backup {}/{rounds}", round + 1);
            let _ = std::fs::remove_dir_all(&dump);
            self.settle(runtime);
            let mut command = self.tools.mongodump();
            command.args(["--uri", &uri, "--oplog", "--gzip", "--quiet", "--out"]).arg(&dump);
            stock.push(measure::run(command));
            self.settle(runtime);
            let name = format!("round{round}");
            own.push(measure::run(self.command(&[
                "backup",
                "create",
                "--service",
                "bench",
                "--storage",
                "disk",
                "--name",
                &name,
                "--wait",
            ])));
            own_size = self.mongokeep(&["backup", "show", &name])["size_bytes"].as_u64().unwrap();
            if round > 0 {
                self.mongokeep(&["backup", "delete", &name, "--yes"]);
            }
        }
        let peak = self.stop(daemon);
        let mut rows = vec![
            seconds("backup, wall", &stock, &own, "0.30"),
            size("backup, artifact", folder_bytes(&dump), own_size, "1.02"),
            memory("backup, peak memory", &stock, peak),
        ];
        let daemon = self.daemon();
        let (mut stock, mut own): (Vec<Sample>, Vec<Sample>) = Default::default();
        for round in 0..rounds {
            eprintln!("restore {}/{rounds}", round + 1);
            self.settle(runtime);
            let mut command = self.tools.mongorestore();
            command.args(["--uri", &uri, "--gzip", "--oplogReplay", "--drop", "--quiet"]).arg(&dump);
            stock.push(measure::run(command));
            self.same(runtime, "mongorestore");
            self.settle(runtime);
            own.push(measure::run(self.command(&["restore", "round0", "--to", "bench", "--yes", "--wait"])));
            self.same(runtime, "mongokeep");
        }
        rows.push(seconds("restore, wall", &stock, &own, "0.75"));
        rows.push(memory("restore, peak memory", &stock, self.stop(daemon)));
        rows.extend(self.object_storage(runtime));
        let frames: Vec<f64> = (0..rounds.max(3)).map(|_| measure::first_frame(PROGRAM, &self.path("home"))).collect();
        rows.push(format!("| first frame of the screen | | {:.0} ms | | 100 ms |", median(frames) * 1e3));
        rows
    }

    /// Once to a bucket, and back from there. The server is this process.
    fn object_storage(&self, runtime: &tokio::runtime::Runtime) -> [String; 2] {
        eprintln!("object storage");
        let server = runtime.block_on(s3::S3Server::start());
        let (endpoint, secret) = (format!("http://{}", server.address), self.path("secret"));
        std::fs::write(&secret, s3::SECRET_KEY).unwrap();
        let (bucket, key, secret) = (s3::BUCKET, s3::ACCESS_KEY, secret.to_str().unwrap());
        self.mongokeep(
            &[
                &["storage", "add", "bucket", "--type", "s3", "--bucket", bucket, "--endpoint", &endpoint][..],
                &["--path-style", "--access-key-id", key, "--secret-access-key-file", secret],
            ]
            .concat(),
        );
        let once = |what: &str, args: &[&str]| {
            self.settle(runtime);
            let daemon = self.daemon();
            let sample = measure::run(self.command(args));
            let peak = self.stop(daemon) as f64 / f64::from(1 << 20);
            format!("| {what} | | {:.2} s, {peak:.0} MiB | | 256 MiB |", sample.seconds)
        };
        let create = ["backup", "create", "--service", "bench", "--storage", "bucket", "--name", "far", "--wait"];
        let rows = [
            once("backup to S3, peak memory", &create),
            once("restore from S3, peak memory", &["restore", "far", "--to", "bench", "--yes", "--wait"]),
        ];
        self.same(runtime, "mongokeep from S3");
        rows
    }

    /// What was written before must not be paid for by what comes next.
    fn settle(&self, runtime: &tokio::runtime::Runtime) {
        runtime.block_on(async {
            let client = self.set.client().await.unwrap();
            client.database("admin").run_command(doc! {"fsync": 1}).await.unwrap();
        });
    }

    /// A fast restore of something else is worth nothing.
    fn same(&self, runtime: &tokio::runtime::Runtime, who: &str) {
        let hashes = runtime.block_on(async { data::hashes(&self.set.client().await.unwrap()).await });
        assert_eq!(hashes, self.hashes, "what {who} restored differs");
    }

    async fn finish(self) {
        self.mongokeep(&["daemon", "stop"]);
        self.set.stop().await.unwrap();
        self.scratch.remove().await.unwrap();
    }
}

fn seconds(what: &str, stock: &[Sample], own: &[Sample], goal: &str) -> String {
    let (a, b) = (median(stock.iter().map(|s| s.seconds)), median(own.iter().map(|s| s.seconds)));
    format!("| {what} | {a:.2} s | {b:.2} s | {:.2} | {goal} |", b / a)
}

fn size(what: &str, stock: u64, own: u64, goal: &str) -> String {
    let (a, b) = (stock as f64 / 1e6, own as f64 / 1e6);
    format!("| {what} | {a:.0} MB | {b:.0} MB | {:.2} | {goal} |", b / a)
}

/// Of the tool, and of the daemon.
fn memory(what: &str, stock: &[Sample], own: u64) -> String {
    let a = stock.iter().map(|s| s.peak).max().unwrap_or(0) as f64 / f64::from(1 << 20);
    let b = own as f64 / f64::from(1 << 20);
    format!("| {what} | {a:.0} MiB | {b:.0} MiB | {:.2} | 256 MiB |", b / a)
}

fn folder_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { folder_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}
