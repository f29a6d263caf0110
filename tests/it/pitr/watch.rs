//! What a daemon tells of the oplogs it records: in notices that begin and end, and in numbers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::Utc;
use mongodb::bson::{Document, doc};
use mongokeep::artifact::layout::FORMAT_VERSION;
use mongokeep::artifact::slice::Header;
use mongokeep::config;
use mongokeep::domain::pitr::OpTime;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::store::{Access, Store};
use serde_json::{Value, json};

use crate::support;
use crate::support::command::Home;

/// The value that `look` finds, as soon as it does.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(240), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A script that keeps what it is told.
fn listen(home: &Home) -> PathBuf {
    let (file, got) = (home.dir().join("hear.sh"), home.dir().join("told"));
    fs::write(&file, format!("#!/bin/sh\ncat >> '{}'\n", got.display())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(home.run(&["settings", "set", "notify.command", file.to_str().unwrap()]).code, 0);
    got
}

/// Event and text of what was told of recording, and whether it was that something is over.
fn told(file: &Path) -> Vec<(String, bool, String)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let notices = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let notices = notices.filter(|n| n["event"].as_str().unwrap().starts_with("pitr_"));
    notices
        .map(|n| {
            assert_eq!(n["service"], "live", "{n}");
            let word = |key: &str| n[key].as_str().unwrap().to_owned();
            (word("event"), n["over"].as_bool().unwrap(), word("text"))
        })
        .collect()
}

/// Waits for the notice that `event` began or is over, the first one after those that `since` counts, and returns its
/// text.
fn heard_since(file: &Path, since: usize, event: &str, over: bool) -> String {
    let found = || told(file).into_iter().skip(since).find(|n| (n.0.as_str(), n.1) == (event, over));
    eventually(&format!("{event} {over} is not told"), found).2
}

fn heard(file: &Path, event: &str, over: bool) -> String {
    heard_since(file, 0, event, over)
}

/// The numbers of a metrics file by their names and labels.
fn number(file: &Path, sample: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned))?;
    Some(line.parse().unwrap())
}

/// The newest slice of the archive in `folder`: of long ago, so that the oplog has rolled over since.
fn slice_of_long_ago(folder: &Path, set: (&str, &str)) {
    let at = |t| OpTime { ts: Timestamp::new(t, 1), term: 1 };
    let data = zstd::encode_all(&b""[..], 1).unwrap();
    let header = Header {
        format_version: FORMAT_VERSION,
        tool_version: "1".into(),
        service: "live".into(),
        replica_set: set.0.into(),
        replica_set_id: set.1.into(),
        member: "h:1".into(),
        server_version: "6.0.5".into(),
        home_id: "another".into(),
        written_at: Utc::now(),
        after: at(1_600_000_000),
        first_ts: at(1_600_000_001).ts,
        last: at(1_600_000_060),
        entries: 1,
        operations: 1,
        uncompressed: 0,
        data_size: data.len() as u64,
        blake3: blake3::hash(&data).to_hex().to_string(),
        encryption: None,
        gap: None,
        marks: Vec::new(),
        counts: Vec::new(),
    };
    let folder = folder.join(format!("{}-{}", set.0, set.1));
    fs::create_dir_all(&folder).unwrap();
    let name = "1600000001-0000000001_1600000060-0000000001.bson.zst";
    fs::write(folder.join(name), [&header.to_frame().unwrap()[..], &data].concat()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_recording_is_told_and_measured() {
    let live = support::replica_set().await;
    let home = Home::ready();
    assert_eq!(home.run_with(&["service", "add", "live", "--uri-file", "-"], &live.uri()).code, 0);
    let client = live.client().await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    orders.insert_one(doc! {"_id": 1}).await.unwrap();
    // An idle server writes every ten seconds only, more seldom than what is told of as a lag below.
    let writer = tokio::spawn(async move {
        loop {
            let _ = orders.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let hello = client.database("admin").run_command(doc! {"replSetGetConfig": 1}).await.unwrap();
    let set = hello.get_document("config").unwrap();
    let id = set.get_document("settings").unwrap().get_object_id("replicaSetId").unwrap().to_hex();
    let oplog = home.dir().join("storage/live/oplog");
    slice_of_long_ago(&oplog, (set.get_str("_id").unwrap(), &id));
    let metrics = home.dir().join("metrics/mongokeep.prom");
    fs::create_dir(metrics.parent().unwrap()).unwrap();
    assert_eq!(home.run(&["settings", "set", "metrics.file", "/etc/passwd"]).code, 2);
    home.good(&format!("settings set metrics.file {}", metrics.display()));
    home.good("settings set pitr.slice_seconds 5");
    // The slice of long ago is a lag until the first new one is stored: it is told before.
    home.good("settings set notify.pitr_seconds 1");
    let file = listen(&home);

    // The oplog rolled over since the newest slice: a gap is told, and a base made without anybody asking for it.
    home.good("schedule add line --service live --storage t --cron @yearly --type pitr");
    let text = heard(&file, "pitr_gap", false);
    assert!(text.starts_with("live: no moment from 2020-09-13 12:27:40 UTC to ") && text.contains("rolled over"));
    assert!(heard(&file, "pitr_gap", true).contains("was made after the gap"));
    let status = eventually("the new line has no range", || {
        let status = home.json("pitr status")[0].clone();
        status["ranges"].as_array().is_some_and(|ranges| !ranges.is_empty()).then_some(status)
    });
    assert_eq!((status["gaps"].as_array().unwrap().len(), &status["hint"]), (1, &Value::Null), "{status}");
    let words = home.good("daemon status");
    assert!(words.contains("recorded oplogs\n  live: recording, lag "), "{words}");

    // The same in numbers, for anybody to read.
    let of = |name: &str| number(&metrics, &format!("mongokeep_pitr_{name}{{service=\"live\"}}"));
    eventually("the range is not measured", || of("recoverable_to_timestamp_seconds"));
    assert_eq!((of("recording"), of("gaps")), (Some(1.0), Some(1.0)));
    assert!(of("slices") >= Some(2.0) && of("slices_bytes") > Some(100.0) && of("lag_seconds") < Some(60.0));
    let from = status["ranges"][0]["from_ts"]["t"].as_f64();
    assert_eq!(of("recoverable_from_timestamp_seconds"), from);
    assert!(of("recoverable_to_timestamp_seconds") >= from);
    let backup =
        |name: &str| number(&metrics, &format!("mongokeep_backup_last_{name}{{service=\"live\",schedule=\"line\"}}"));
    assert!(backup("success_timestamp_seconds") > Some(1.6e9) && backup("size_bytes") > Some(100.0));
    assert!(backup("duration_seconds") >= Some(0.0));
    assert_eq!(fs::metadata(&metrics).unwrap().permissions().mode() & 0o777, 0o644);
    let beside = fs::read_dir(metrics.parent().unwrap()).unwrap().count();
    assert!(beside <= 2, "the file, and perhaps the next one");

    // The storage takes nothing any more: recording goes on, and falls behind.
    heard(&file, "pitr_lag", true);
    home.good("settings set notify.pitr_seconds 4");
    let since = told(&file).len();
    let away = home.dir().join("away");
    fs::rename(&oplog, &away).unwrap();
    fs::write(&oplog, "a file where a folder is needed").unwrap();
    let text = heard_since(&file, since, "pitr_lag", false);
    assert!(text.starts_with("live: recording its oplog is ") && text.contains("behind: "), "{text}");
    let warnings = home.json("daemon status")["warnings"].clone();
    assert!(warnings.to_string().contains("pitr_lag"), "{warnings}");
    fs::remove_file(&oplog).unwrap();
    fs::rename(&away, &oplog).unwrap();
    heard_since(&file, since, "pitr_lag", true);

    // Another one records it.
    home.good("settings set notify.pitr_seconds 8");
    home.good("schedule disable line");
    let sliced = |n: u64| eventually("slicers", || home.json("daemon status")["services_sliced"].eq(&n).then_some(()));
    sliced(0);
    let lease = fs::read_dir(&oplog).unwrap().next().unwrap().unwrap().path().join("lease.json");
    let other = json!({"home_id": "x", "host": "db9", "pid": 77, "service": "live", "renewed_at": Utc::now()});
    fs::write(&lease, other.to_string()).unwrap();
    home.good("schedule enable line");
    let text = heard(&file, "pitr_held", false);
    assert!(text.contains("another mongokeep records this oplog already: on db9, process 77"), "{text}");
    // So long that it is behind when it is recorded again: that passes, and hides nothing.
    eventually("it lags", || home.json("pitr status")[0]["lag_seconds"].as_u64().filter(|lag| *lag > 15));
    fs::remove_file(&lease).unwrap();
    heard(&file, "pitr_held", true);

    // The server cannot be reached, and a daemon that begins anew does not tell it anew.
    let gone = "mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=200";
    assert_eq!(home.run_with(&["service", "edit", "live", "--uri-file", "-"], gone).code, 0);
    let text = heard(&file, "pitr_stopped", false);
    assert!(text.starts_with("live: its oplog is not recorded: "), "{text}");
    home.good("daemon stop");
    assert!(!metrics.exists(), "the numbers of a daemon that is gone");
    assert_eq!(home.run_with(&["service", "edit", "live", "--uri-file", "-"], &live.uri()).code, 0);
    home.good("schedule enable line");
    heard(&file, "pitr_stopped", true);
    sliced(1);
    for event in ["pitr_gap", "pitr_held", "pitr_lag", "pitr_stopped"] {
        let times: Vec<bool> = told(&file).into_iter().filter(|n| n.0 == event).map(|n| n.1).collect();
        let in_turn: Vec<bool> = (0..times.len()).map(|n| n % 2 == 1).collect();
        assert_eq!(times, in_turn, "{event}: once that it is so, and once that it is over");
        // The others may happen more often on a machine that is slow.
        assert!(times.len() == 2 || ["pitr_lag", "pitr_stopped"].contains(&event), "{event}: {times:?}");
    }

    // What is switched off is not over, and nobody is told.
    let count = told(&file).len();
    home.good("schedule disable line");
    sliced(0);
    let paths = config::Home::below(home.path());
    let store = Store::open(&paths.store_file(), &paths.key_file(), Access::Write).unwrap();
    // The disk of the machine may be as full as it likes.
    let of_recording =
        || store.conditions().unwrap().into_iter().filter(|c| c.event.word().starts_with("pitr_")).count();
    eventually("a condition is left", || (of_recording() == 0).then_some(()));
    assert_eq!(told(&file).len(), count);
    writer.abort();
}

/// Somebody clears up in the storage: what is missing is told although nothing of the oplog was missed, and a base follows.
#[tokio::test(flavor = "multi_thread")]
async fn slices_that_somebody_removes_are_told() {
    let live = support::replica_set().await;
    let home = Home::ready();
    assert_eq!(home.run_with(&["service", "add", "live", "--uri-file", "-"], &live.uri()).code, 0);
    let orders = live.client().await.unwrap().database("shop").collection::<Document>("orders");
    home.good("settings set pitr.slice_seconds 5");
    let file = listen(&home);
    home.good("schedule add line --service live --storage t --cron @yearly --type pitr");
    home.good("schedule run line --wait");
    let oplog = home.dir().join("storage/live/oplog");
    let slices = || -> Vec<PathBuf> {
        let archive = fs::read_dir(&oplog).into_iter().flatten().flatten().next();
        let files = archive.into_iter().flat_map(|a| fs::read_dir(a.path()).unwrap()).flatten().map(|e| e.path());
        let mut slices: Vec<PathBuf> = files.filter(|f| f.extension().is_some_and(|e| e == "zst")).collect();
        slices.sort();
        slices
    };
    let base = home.json("backup list")[0]["consistent_at_ts"]["t"].as_u64().unwrap();
    let since = |slices: &[PathBuf]| {
        let begins = |f: &PathBuf| f.file_name().unwrap().to_str().unwrap()[..10].parse::<u64>().unwrap();
        slices.iter().filter(|f| begins(f) > base).cloned().collect::<Vec<_>>()
    };
    let mut n = 0;
    while since(&slices()).len() < 3 {
        orders.insert_one(doc! {"_id": n}).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        n += 1;
    }
    home.good("daemon stop");
    let removed = since(&slices()).remove(1);
    fs::remove_file(&removed).unwrap();
    home.good("schedule enable line");
    let text = heard(&file, "pitr_gap", false);
    assert!(text.contains("slices that were recorded are no longer in storage t"), "{text}");
    assert!(heard(&file, "pitr_gap", true).contains("was made after the gap"));
    let ranges = eventually("the new line has no range", || {
        let ranges = home.json("pitr status")[0]["ranges"].as_array().unwrap().clone();
        (ranges.len() == 2).then_some(ranges)
    });
    let end = ranges[0]["to_ts"]["t"].as_u64().unwrap();
    let gap = removed.file_name().unwrap().to_str().unwrap()[..10].parse::<u64>().unwrap();
    assert!(end <= gap && ranges[1]["from_ts"]["t"].as_u64().unwrap() > gap, "{ranges:?}");
}
