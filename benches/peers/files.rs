//! Physical backups beside what copies the same files (`tar` through `zstd`, at the same level and with as many threads),
//! and beside the stock tools. The stock tools read documents alone; the files hold indexes and the oplog, too.

use std::process::{Command, Stdio};

use mongodb::bson::{Document, doc};
use mongokeep::domain::backup::Compression;
use mongokeep::sandbox::{ReplicaSet, Server, ServerOptions};

use crate::measure::{self, Sample, median};
use crate::stage::Stage;
use crate::{Peers, Scale, data, table};

const TAR: &str = "tar, zstd";
const MONGODUMP: &str = "mongodump --gzip";
/// Of so many documents one is changed.
const CHANGED: u64 = 100;

pub fn run(peers: &Peers, scale: &Scale) -> Vec<String> {
    let stage = Stage::new();
    let set = stage.service("bench");
    eprintln!("seeding");
    stage.runtime.block_on(async { data::seed(&set.client().await.unwrap(), scale.scale).await });
    let rows = there_and_back(&stage, &set, peers, scale.rounds);
    stage.finish(vec![set]);
    rows
}

fn there_and_back(stage: &Stage, set: &ReplicaSet, peers: &Peers, rounds: usize) -> Vec<String> {
    let uri = set.uri();
    let (mut tar, mut stock, mut own, mut second): (Vec<Sample>, Vec<Sample>, Vec<Sample>, Vec<Sample>) =
        Default::default();
    let (mut sent, mut locked, mut held) = (Vec::new(), Vec::new(), Vec::new());
    let dump = stage.path("dump");
    let daemon = stage.daemon();
    for round in 0..rounds {
        eprintln!("files {}/{rounds}", round + 1);
        stage.settle(set);
        tar.extend(archive(stage, set));
        stage.settle(set);
        let _ = std::fs::remove_dir_all(&dump);
        let mut command = peers.tools.mongodump();
        command.args(["--uri", &uri, "--oplog", "--gzip", "--quiet", "--out"]).arg(&dump);
        stock.push(measure::run(command));
        // What the round before left in the folder would be shared.
        for name in ["first", "second"] {
            if round > 0 {
                stage.mongokeep(&["backup", "delete", name, "--yes"]);
            }
        }
        held = hashes(stage, set);
        stage.settle(set);
        own.push(make(stage, "first"));
        let first = stage.mongokeep(&["backup", "show", "first"]);
        locked.push(first["locked_millis"].as_f64().unwrap() / 1e3);
        change(stage, set, round);
        stage.settle(set);
        second.push(make(stage, "second"));
        let new = |backup: &serde_json::Value| backup["new_bytes"].as_f64().unwrap();
        sent.push(new(&stage.mongokeep(&["backup", "show", "second"])) / new(&first));
    }
    let peak = stage.stop(daemon);
    let mut rows = Vec::new();
    if tar.is_empty() {
        eprintln!("there is no zstd (or no tar) here: the copy is not compared with them");
    } else {
        rows.push(table::seconds("physical backup, wall", TAR, &tar, &own, "1.20"));
    }
    rows.push(table::seconds("physical backup, wall", MONGODUMP, &stock, &own, "0.15"));
    rows.push(table::alone("physical backup, peak memory", &format!("{:.0} MiB", table::mib(peak)), ""));
    rows.push(table::alone("server locked, without clones", &format!("{:.2} s", median(locked)), ""));
    rows.push(table::seconds("after 1 % in a row changed, wall", "the first", &own, &second, "0.50"));
    rows.push(format!("| after 1 % in a row changed, sent | the first | | | {:.3} | 0.30 |", median(sent)));

    let daemon = stage.daemon();
    let (mut stock, mut whole, mut unchecked): (Vec<Sample>, Vec<Sample>, Vec<Sample>) = Default::default();
    for round in 0..rounds {
        eprintln!("restore of files {}/{rounds}", round + 1);
        stage.settle(set);
        whole.push(restore(stage, set, round, &held, &[]));
        stage.settle(set);
        unchecked.push(restore(stage, set, round, &held, &["--no-check"]));
        stage.settle(set);
        let mut command = peers.tools.mongorestore();
        command.args(["--uri", &uri, "--gzip", "--oplogReplay", "--drop", "--quiet"]).arg(&dump);
        stock.push(measure::run(command));
    }
    stage.stop(daemon);
    rows.push(table::seconds(
        "restore until it answers, every collection validated",
        "mongorestore",
        &stock,
        &whole,
        "0.20",
    ));
    // As mongorestore does it: nobody looks at what was restored.
    rows.push(table::seconds("the same with --no-check", "mongorestore", &stock, &unchecked, "0.20"));
    rows
}

fn make(stage: &Stage, name: &str) -> Sample {
    let create = ["backup", "create", "--service", "bench", "--storage", "disk", "--model", "physical", "--name", name];
    measure::run(stage.command(&[&create[..], &["--wait"]].concat()))
}

/// The same files in one archive; `None` where the programs are missing.
fn archive(stage: &Stage, set: &ReplicaSet) -> Option<Sample> {
    let is_there = |program: &str| {
        let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    if !is_there("tar") || !is_there("zstd") {
        return None;
    }
    let Compression::Zstd(level) = Compression::default() else { return None };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // A file that grows while it is read is no failure here: it is what such a copy does.
    let line = "tar --warning=no-file-changed -C \"$0\" -cf - . | zstd -q -f -$1 -T$2 -o \"$3\"";
    let mut command = Command::new("sh");
    command.args(["-c", line]).arg(set.server(0).unwrap().dbpath());
    command.args([level.to_string(), threads.to_string()]).arg(stage.path("files.tar.zst"));
    Some(measure::run(command))
}

/// Changes one of a hundred documents, as applications do: those that belong together. Spread over all, each page of the
/// server's files would hold one.
fn change(stage: &Stage, set: &ReplicaSet, round: usize) {
    stage.runtime.block_on(async {
        let database = set.client().await.unwrap().database(data::DATABASE);
        for name in ["orders", "events"] {
            let collection = database.collection::<Document>(name);
            let count = collection.estimated_document_count().await.unwrap();
            let from = i64::try_from(count / CHANGED * (10 * round as u64 % CHANGED)).unwrap();
            let those = doc! {"_id": {"$gte": from, "$lt": from + i64::try_from(count / CHANGED).unwrap()}};
            collection.update_many(those, doc! {"$set": {"changed": round as i64}}).await.unwrap();
        }
    });
}

fn hashes(stage: &Stage, set: &ReplicaSet) -> Vec<String> {
    stage.runtime.block_on(async { data::hashes(&set.client().await.unwrap(), data::DATABASE).await })
}

/// Restores into a folder, starts a server on it, and waits until it is a primary. `held`: what it must hold then; a fast
/// restore of something else is worth nothing.
fn restore(stage: &Stage, set: &ReplicaSet, round: usize, held: &[String], options: &[&str]) -> Sample {
    let name = format!("restored{round}");
    let folder = stage.path(&name);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let member = format!("127.0.0.1:{port}");
    let start = std::time::Instant::now();
    let words = ["restore", "first", "--to-data-dir", folder.to_str().unwrap(), "--member", &member, "--yes", "--wait"];
    let program = set.mongod().path.to_str().unwrap();
    let mut sample = measure::run(stage.command(&[&words[..], &["--mongod", program], options].concat()));
    stage.runtime.block_on(async {
        let args = ["--replSet", set.name()].map(str::to_owned).to_vec();
        let options =
            ServerOptions { name: name.clone(), port: Some(port), args, cache_gb: 2.0, ..ServerOptions::default() };
        let server = Server::start(set.mongod(), &stage.scratch, &options).await.unwrap();
        let client = server.client().unwrap();
        loop {
            let hello = client.database("admin").run_command(doc! {"hello": 1}).await.unwrap();
            if hello.get_bool("isWritablePrimary").unwrap() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        sample.seconds = start.elapsed().as_secs_f64();
        stage.explain_last_job();
        assert_eq!(data::hashes(&client, data::DATABASE).await, held, "what was restored differs");
        server.stop().await.unwrap();
    });
    std::fs::remove_dir_all(folder).unwrap();
    sample
}
