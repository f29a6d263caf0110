//! Backups of collections that move, go and come while they are read.

use std::collections::BTreeSet;

use mongodb::bson::{Document, Timestamp, doc};
use mongokeep::artifact::bson;
use mongokeep::engine::Limits;
use mongokeep::mongo::namespaces;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::dumps::{self, Folder, counted, documents, entry, fill, live, names, request, start, verify_ok};
use crate::support::hooked::{Gate, hooked};

/// Nothing is in the storage but what the manifest names.
fn assert_no_orphans(folder: &Folder, manifest: &mongokeep::engine::logical::LogicalManifest) {
    let root = format!("{}/backups/{}", manifest.folder, manifest.name);
    let mut expected = vec![format!("{root}/attempt.json"), format!("{root}/manifest.json")];
    let collections = manifest.collections.iter().flat_map(|c| c.parts.iter().chain([&c.metadata]));
    expected.extend(collections.chain(&manifest.oplog).map(|o| format!("{root}/{}", o.path)));
    expected.sort();
    assert_eq!(folder.files(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_that_move_while_they_are_read() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let db = client.database("moves");
    for collection in ["renamed", "dropped", "out", "tocapped"] {
        fill(&client, "moves", collection, 24).await;
    }
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, Gate::new(&["/renamed/", "/dropped/", "/out/", "/tocapped/"]));
    let running = start(&set.uri(), gated, request("moves"), Limits::default()).await;
    gate.all_held().await;
    let rename = doc! {"renameCollection": "moves.renamed", "to": "moves.elsewhere"};
    client.database("admin").run_command(rename).await.unwrap();
    db.run_command(doc! {"drop": "dropped"}).await.unwrap();
    let pipeline = vec![doc! {"$limit": 1}, doc! {"$out": "out"}];
    db.collection::<Document>("elsewhere").aggregate(pipeline).await.unwrap();
    db.run_command(doc! {"convertToCapped": "tocapped", "size": 1_000_000}).await.unwrap();
    db.collection::<Document>("born").insert_one(doc! {"_id": 1}).await.unwrap();
    gate.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    assert_eq!(names(&manifest), ["moves.renamed"], "{log:#?}");
    let renamed = entry(&manifest, "moves.renamed");
    let expected = counted(live(&client, "moves", "elsewhere").await);
    assert_eq!(expected.len(), 240);
    assert!(counted(documents(&folder, &manifest, &renamed.parts).await) == expected, "not every document once");
    assert!(log.iter().any(|l| l.contains("moves.elsewhere") && l.contains("read again")), "{log:#?}");
    assert!(log.iter().any(|l| l.contains("moves.dropped was dropped during the backup")), "{log:#?}");
    assert_no_orphans(&folder, &manifest);
    verify_ok(&folder, &manifest).await;
}

/// A server lists collections before views: a time series that comes or goes meanwhile would show by half.
#[tokio::test(flavor = "multi_thread")]
async fn time_series_that_come_and_go_are_listed_whole_or_not_at_all() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let stop = CancellationToken::new();
    let make_and_drop = |n: usize| {
        let (db, stop) = (client.database("flux"), stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                let create = doc! {"create": format!("ts{n}"), "timeseries": {"timeField": "t"}};
                db.run_command(create).await.unwrap();
                db.run_command(doc! {"drop": format!("ts{n}")}).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
    };
    let tasks: Vec<_> = (0..3).map(make_and_drop).collect();
    let server = dumps::server(&set).await;
    let (mut whole, mut halves) = (0, Vec::new());
    for _ in 0..150 {
        let listing = namespaces::list(&server, &CancellationToken::new()).await.unwrap();
        let of = |prefix: &str| -> BTreeSet<String> {
            let names = listing.entries.iter().filter(|e| e.ns.db == "flux").map(|e| e.ns.collection.as_str());
            names.filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect()
        };
        let (series, buckets) = (of("ts"), of("system.buckets.ts"));
        whole += series.intersection(&buckets).count();
        halves.extend(series.symmetric_difference(&buckets).cloned());
    }
    stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(whole > 0, "no time series was seen");
    assert!(halves.is_empty(), "{halves:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_goes_on_behind_its_last_document() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    fill(&client, "moves", "split", 60).await;
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, Gate::new(&["/split/"]));
    // Few ranges, so that each has more than is read ahead.
    let limits = Limits { split_bytes: 30_100_000, ..Limits::default() };
    let running = start(&set.uri(), gated, request("range"), limits).await;
    gate.all_held().await;
    let rename = doc! {"renameCollection": "moves.split", "to": "moves.elsewhere"};
    client.database("admin").run_command(rename).await.unwrap();
    gate.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    let split = entry(&manifest, "moves.split");
    let expected = counted(live(&client, "moves", "elsewhere").await);
    assert!(counted(documents(&folder, &manifest, &split.parts).await) == expected, "not every document once");
    assert!(log.iter().any(|l| l.contains("moves.split: its cursor was ended") && l.contains("going on")), "{log:#?}");
    assert_no_orphans(&folder, &manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oplog_entry_may_be_larger_than_a_document() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let collection = client.database("large").collection::<Document>("documents");
    collection.insert_one(doc! {"_id": 0}).await.unwrap();
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, Gate::new(&["/documents"]));
    let running = start(&set.uri(), gated, request("large"), Limits::default()).await;
    gate.all_held().await;
    let overhead = doc! {"_id": 1, "text": ""}.to_vec().unwrap().len();
    collection.insert_one(doc! {"_id": 1, "text": "x".repeat((16 << 20) - overhead)}).await.unwrap();
    gate.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    let entries = documents(&folder, &manifest, &manifest.oplog).await;
    assert!(entries.iter().any(|e| e.len() > 16 << 20), "the largest entry is not there");
    verify_ok(&folder, &manifest).await;
}

/// The positions of a backup's oplog, with the command of each entry where it is one.
async fn oplog(folder: &Folder, manifest: &mongokeep::engine::logical::LogicalManifest) -> Vec<(Timestamp, Document)> {
    let entries = documents(folder, manifest, &manifest.oplog).await;
    entries
        .iter()
        .map(|e| {
            let ts = bson::get(e, "ts").unwrap().timestamp().unwrap();
            let entry = Document::from_reader(&mut &e[..]).unwrap();
            (Timestamp { time: ts.t, increment: ts.i }, entry)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_prepared_before_and_committed_during_is_whole() {
    let set = ReplicaSet::start(&support::mongod().await, ReplicaSetOptions::default().test_commands()).await.unwrap();
    let client = set.client().await.unwrap();
    let db = client.database("bank");
    let accounts = db.collection::<Document>("accounts");
    accounts.insert_one(doc! {"_id": 0}).await.unwrap();
    let prepare = async |id: i32| {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        accounts.insert_one(doc! {"_id": id}).session(&mut session).await.unwrap();
        let reply = client.database("admin").run_command(doc! {"prepareTransaction": 1}).session(&mut session).await;
        let at = reply.unwrap().get_timestamp("prepareTimestamp").unwrap();
        (session, at)
    };
    let (mut committed, prepared_at) = prepare(1).await;
    // So that the majority-committed position is behind the prepare, and nothing but the transaction table tells.
    for n in 10..30 {
        accounts.insert_one(doc! {"_id": n}).await.unwrap();
    }
    let folder = Folder::new();
    let (gated, gate) = hooked(&folder.storage, Gate::new(&["/accounts"]));
    let running = start(&set.uri(), gated, request("prepared"), Limits::default()).await;
    gate.all_held().await;
    let (mut open, open_at) = prepare(2).await;
    let commit = doc! {"commitTransaction": 1, "commitTimestamp": prepared_at};
    client.database("admin").run_command(commit).session(&mut committed).await.unwrap();
    gate.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    verify_ok(&folder, &manifest).await;
    let entries = oplog(&folder, &manifest).await;
    assert_eq!(entries[0].0.time, manifest.oplog_from_ts.t);
    assert!(entries[0].0 <= prepared_at, "the oplog begins after the transaction was prepared");
    let has = |ts: Timestamp, command: &str| {
        entries.iter().any(|(at, e)| *at == ts && e.get_document("o").is_ok_and(|o| o.contains_key(command)))
    };
    assert!(has(prepared_at, "applyOps"), "the operations of the transaction are missing");
    assert!(entries.iter().any(|(_, e)| e.get_document("o").is_ok_and(|o| o.contains_key("commitTransaction"))));
    // The other one is open at the end, and said to be.
    assert!(has(open_at, "applyOps"));
    assert_eq!(manifest.open_transactions.len(), 1);
    let left = &manifest.open_transactions[0];
    assert!(left.prepared);
    assert_eq!((left.first_ts.t, left.first_ts.i), (open_at.time, open_at.increment));
    open.abort_transaction().await.unwrap();
    let (first, last) = (manifest.oplog_from_ts, manifest.consistent_at_ts);
    assert_eq!(manifest.oplog_entries as usize, entries.len());
    let end = entries.last().unwrap().0;
    assert!(first < last && (end.time, end.increment) == (last.t, last.i));
}
