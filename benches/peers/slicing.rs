//! Whether recording keeps up: an oplog full of entries, and how soon all of them are stored.

use std::time::Instant;

use crate::replay::newest;
use crate::stage::{Stage, wait};
use crate::{Peers, Scale, changes, table};

const ENTRIES: f64 = 1_000_000.0;

pub fn run(_: &Peers, scale: &Scale) -> Vec<String> {
    let count = (ENTRIES * scale.scale) as u32;
    let stage = Stage::new();
    let source = stage.service("source");
    let client = stage.runtime.block_on(async { source.client().await.unwrap() });
    stage.runtime.block_on(changes::seed(&client));
    stage.mongokeep(&["settings", "set", "pitr.slice_seconds", "5"]);
    let daemon = stage.daemon();
    let schedule = ["schedule", "add", "pitr", "--type", "pitr", "--service", "source", "--storage", "disk"];
    stage.mongokeep(&[&schedule[..], &["--cron", "0 0 1 1 *"]].concat());
    wait("the oplog to be recorded", || stage.mongokeep(&["pitr", "status"])[0]["running"] == true);
    stage.mongokeep(&["schedule", "run", "pitr", "--wait"]);
    stage.mongokeep(&["schedule", "disable", "pitr"]);
    stage.stop(daemon);
    eprintln!("making {count} entries");
    stage.runtime.block_on(changes::updates(&client, count));
    let end = stage.runtime.block_on(newest(&client));
    stage.settle(&source);
    // The first slice that goes on where the last one ended is stored at the latest after these seconds, full or not.
    let daemon = stage.daemon();
    let start = Instant::now();
    stage.mongokeep(&["schedule", "enable", "pitr"]);
    let reached = || {
        let ranges = stage.mongokeep(&["pitr", "status"])[0]["ranges"].as_array().cloned().unwrap_or_default();
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default() as u32;
        ranges.iter().any(|r| (number(&r["to_ts"]["t"]), number(&r["to_ts"]["i"])) >= (end.time, end.increment))
    };
    wait("the oplog to be recorded", reached);
    let seconds = start.elapsed().as_secs_f64();
    let peak = table::mib(stage.stop(daemon));
    let rate = f64::from(count) / seconds;
    let rows = vec![
        table::alone("entries of the oplog recorded per second, at least", &format!("{rate:.0}"), "30,000"),
        table::alone("the same, peak memory of the daemon", &format!("{peak:.0} MiB"), "128 MiB"),
    ];
    stage.finish(vec![source]);
    rows
}
