//! Back to a moment: a small base and many changes after it, by every tool into the same empty replica set.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use mongodb::Client;
use mongodb::bson::{Document, RawDocumentBuf, Timestamp, doc};
use mongokeep::sandbox::ReplicaSet;

use crate::measure::{self, Sample};
use crate::pbm::Pbm;
use crate::stage::{Stage, wait};
use crate::{Peers, Scale, changes, data, table};

/// Single-document updates on a fifth as many documents.
const UPDATES: f64 = 250_000.0;
/// Entries of everything, one in twenty a definition or a transaction.
const MIXED: f64 = 100_000.0;

pub fn updates(peers: &Peers, scale: &Scale) -> Vec<String> {
    let count = (UPDATES * scale.scale) as u32;
    run(peers, scale, &format!("{count} updates"), "0.04", async |client| changes::updates(client, count).await)
}

pub fn mixed(peers: &Peers, scale: &Scale) -> Vec<String> {
    let count = (MIXED * scale.scale) as u32;
    run(peers, scale, &format!("{count} mixed changes"), "0.15", async |client| changes::mixed(client, count).await)
}

fn run(peers: &Peers, scale: &Scale, what: &str, goal: &str, change: impl AsyncFn(&Client)) -> Vec<String> {
    let stage = Stage::new();
    let (source, target) = (stage.service("source"), stage.service("target"));
    let (from, to) = stage.runtime.block_on(async { (source.client().await.unwrap(), target.client().await.unwrap()) });
    let history = History::make(peers, &stage, &source, &from, change);
    let (mut stock, mut own, mut theirs): (Vec<Sample>, Vec<Sample>, Vec<Sample>) = Default::default();
    let daemon = stage.daemon();
    let pbm = peers.pbm.as_ref().map(|p| Pbm::start(p, &target, &stage.path("pbm"), &stage.scratch));
    let check = |who: &str| {
        let hashes = stage.runtime.block_on(data::hashes(&to, changes::DATABASE));
        assert_eq!(hashes, history.hashes, "what {who} restored differs");
        stage.runtime.block_on(async { to.database(changes::DATABASE).drop().await.unwrap() });
        stage.settle(&target);
    };
    for round in 0..scale.rounds {
        eprintln!("{what}: {}/{}", round + 1, scale.rounds);
        let position = format!("{},{}", history.until.time, history.until.increment);
        let restore = ["restore", "--service", "source", "--time", &position, "--to", "target", "--yes", "--wait"];
        own.push(measure::run(stage.command(&restore)));
        check("mongokeep");
        let mut command = peers.tools.mongorestore();
        command.args(["--uri", &target.uri(), "--oplogReplay", "--drop", "--quiet"]).arg(stage.path("dump"));
        stock.push(measure::run(command));
        check("mongorestore");
        if let Some(pbm) = &pbm {
            theirs.push(measure::run(pbm.command(&["restore", "--time", &position, "--yes", "--wait"])));
            check("pbm");
            pbm.settle();
        }
    }
    let what = format!("back to a moment after {what}");
    let mut rows = vec![table::seconds(&what, "mongorestore --oplogReplay", &stock, &own, goal)];
    if let Some(pbm) = pbm {
        rows.push(table::seconds(&what, "pbm restore --time", &theirs, &own, goal));
        pbm.stop();
    }
    let peak = stage.stop(daemon);
    rows.push(table::memory(&format!("{what}, peak memory"), "mongorestore", table::peak(&stock), peak, "256 MiB"));
    stage.finish(vec![source, target]);
    rows
}

/// What everybody has recorded of the same changes.
struct History {
    /// The position to go back to. An accident follows.
    until: Timestamp,
    hashes: Vec<String>,
}

impl History {
    fn make(peers: &Peers, stage: &Stage, source: &ReplicaSet, from: &Client, change: impl AsyncFn(&Client)) -> Self {
        eprintln!("making the bases");
        stage.runtime.block_on(changes::seed(from));
        let pbm = peers.pbm.as_ref().map(|p| Pbm::start(p, source, &stage.path("pbm"), &stage.scratch));
        stage.mongokeep(&["settings", "set", "pitr.slice_seconds", "5"]);
        let daemon = stage.daemon();
        stage.mongokeep(
            &[
                &["schedule", "add", "pitr", "--type", "pitr", "--service", "source", "--storage", "disk"][..],
                &["--cron", "0 0 1 1 *"],
            ]
            .concat(),
        );
        wait("the oplog to be recorded", || stage.mongokeep(&["pitr", "status"])[0]["running"] == true);
        stage.mongokeep(&["schedule", "run", "pitr", "--wait"]);
        if let Some(pbm) = &pbm {
            measure::run(pbm.command(&["backup", "--compression=zstd", "--wait"]));
            pbm.settle();
            pbm.record();
        }
        let dump = stage.path("dump");
        let mut command = peers.tools.mongodump();
        command.args(["--uri", &source.uri(), "--db", changes::DATABASE, "--quiet", "--out"]).arg(&dump);
        measure::run(command);

        eprintln!("making the changes");
        let history = stage.runtime.block_on(async {
            let begin = newest(from).await;
            change(from).await;
            let until = newest(from).await;
            let hashes = data::hashes(from, changes::DATABASE).await;
            write_oplog(from, begin, until, &dump.join("oplog.bson")).await;
            from.database(changes::DATABASE).drop().await.unwrap();
            Self { until, hashes }
        });
        eprintln!("waiting until all of them are recorded");
        let until = history.until;
        wait("the oplog to be recorded", || {
            let ranges = stage.mongokeep(&["pitr", "status"])[0]["ranges"].as_array().cloned().unwrap_or_default();
            let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default() as u32;
            ranges.iter().any(|r| (number(&r["to_ts"]["t"]), number(&r["to_ts"]["i"])) >= (until.time, until.increment))
        });
        stage.mongokeep(&["schedule", "disable", "pitr"]);
        stage.stop(daemon);
        if let Some(pbm) = pbm {
            pbm.end_recording(until.time);
            pbm.stop();
        }
        history
    }
}

pub async fn newest(client: &Client) -> Timestamp {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let last = oplog.find_one(doc! {}).sort(doc! {"$natural": -1}).await.unwrap().unwrap();
    last.get_timestamp("ts").unwrap()
}

/// What `mongodump --oplog` would have written of the changes, and of nothing else: PBM keeps its books in `admin`.
async fn write_oplog(client: &Client, after: Timestamp, until: Timestamp, path: &Path) {
    let oplog = client.database("local").collection::<RawDocumentBuf>("oplog.rs");
    let mut cursor = oplog.find(doc! {"ts": {"$gt": after, "$lte": until}}).await.unwrap();
    let mut file = BufWriter::new(File::create(path).unwrap());
    let own = format!("{}.", changes::DATABASE);
    while cursor.advance().await.unwrap() {
        let entry = cursor.current();
        let ns = entry.get_str("ns").unwrap();
        let transaction = || {
            let nested = entry.get_document("o").and_then(|o| o.get_array("applyOps"));
            let first = nested.ok().and_then(|list| list.into_iter().next()?.ok()?.as_document());
            first.is_some_and(|op| op.get_str("ns").is_ok_and(|ns| ns.starts_with(&own)))
        };
        if ns.starts_with(&own) || (ns == "admin.$cmd" && transaction()) {
            file.write_all(entry.as_bytes()).unwrap();
        }
    }
    file.flush().unwrap();
}
