//! What only some versions of MongoDB do: evictions of capped collections and buckets of several types, restored by this
//! program and, from an export, by `mongorestore`.

use std::process::Stdio;

use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::export;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};

use crate::support::dumps::{request as dump_request, start};
use crate::support::hooked::{Gate, hooked};
use crate::support::pair::{Pair, context, request};
use crate::support::recording::folder;
use crate::support::tools::Tools;
use crate::support::versions::mongod_of;
use crate::support::{compare, dumps};

/// A server of each version, or `None` after a line that says which is missing.
async fn pair_of(from: &str, to: &str) -> Option<Pair> {
    let (source, target) = (mongod_of(from).await?, mongod_of(to).await?);
    let (source, target) = tokio::join!(
        ReplicaSet::start(&source, ReplicaSetOptions::default().test_commands()),
        ReplicaSet::start(&target, ReplicaSetOptions::default().test_commands())
    );
    let (source, target) = (source.unwrap(), target.unwrap());
    let (from, to) = (source.client().await.unwrap(), target.client().await.unwrap());
    Some(Pair { source, target, from, to, dir: tempfile::tempdir().unwrap() })
}

/// Backs up while `change` changes what was read by then: all of that is in the oplog only.
async fn changed_after_reading(pair: &Pair, collections: &[&str], change: impl Future<Output = ()>) -> LogicalManifest {
    let storage = folder(pair.dir.path()).await;
    let held: Vec<String> = collections.iter().map(|name| format!("/{name}/")).collect();
    let (gated, gate) = hooked(&storage, Gate::new(&held.iter().map(String::as_str).collect::<Vec<_>>()));
    let limits = Limits { parallel_collections: 20, ..Limits::default() };
    let running = start(&pair.source.uri(), gated, dump_request("b"), limits).await;
    gate.all_held().await;
    change.await;
    gate.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    let own = dumps::Folder { dir: tempfile::tempdir().unwrap(), storage };
    dumps::verify_ok(&own, &manifest).await;
    manifest
}

/// Exports the backup, empties the target, and has `mongorestore` fill it. False without the stock tools.
async fn mongorestored(pair: &Pair, manifest: &LogicalManifest) -> bool {
    let Some(tools) = tokio::task::spawn_blocking(Tools::find).await.unwrap() else { return false };
    for name in pair.to.list_database_names().await.unwrap() {
        if !["admin", "config", "local"].contains(&name.as_str()) {
            pair.to.database(&name).drop().await.unwrap();
        }
    }
    let root = BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let to = pair.dir.path().join("dump");
    let report = export(&context(), folder(pair.dir.path()).await, &root, &to).await.unwrap();
    let command = report.command.strip_prefix("mongorestore ").unwrap();
    let program = tools.mongorestore().get_program().to_string_lossy().into_owned();
    let line = format!("{program} {}", command.replace("--uri URI", &format!("--uri '{}'", pair.target.uri())));
    let output = tokio::process::Command::new("sh").arg("-c").arg(&line).stdin(Stdio::null()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("E11000"), "{line}\n{said}");
    true
}

/// Full ones, by number and by bytes; many inserts at once; ids that come round; one that did not exist before.
async fn capped(from: &str, to: &str) {
    let Some(pair) = pair_of(from, to).await else { return };
    let db = pair.from.database("d");
    let make = async |name: &str, size: i32, max: Option<i32>| {
        let mut command = doc! {"create": name, "capped": true, "size": size};
        command.extend(max.map(|max| ("max".to_owned(), max.into())));
        db.run_command(command).await.unwrap();
    };
    let put = async |name: &str, ids: Vec<i32>, at_once: bool| {
        let documents = ids.into_iter().map(|id| doc! {"_id": id, "n": 0, "text": "x".repeat(60)});
        if at_once {
            db.collection(name).insert_many(documents.collect::<Vec<Document>>()).await.unwrap();
            return;
        }
        for document in documents {
            db.collection(name).insert_one(document).await.unwrap();
        }
    };
    make("full", 8192, Some(20)).await;
    put("full", (0..30).collect(), false).await;
    make("bytes", 8192, None).await;
    put("bytes", (0..200).collect(), true).await;
    make("many", 1 << 20, Some(200)).await;
    put("many", (0..200).collect(), true).await;
    make("round", 8192, Some(10)).await;
    put("round", (0..10).collect(), false).await;
    make("updated", 8192, Some(20)).await;
    put("updated", (0..20).collect(), true).await;
    let all = ["full", "bytes", "many", "round", "updated"];
    let manifest = changed_after_reading(&pair, &all, async {
        put("full", (30..80).collect(), false).await;
        put("bytes", (200..300).collect(), true).await;
        put("many", (200..700).collect(), true).await;
        put("round", (10..57).map(|n| n % 13).collect(), false).await;
        let updated = db.collection::<Document>("updated");
        updated.update_many(doc! {}, doc! {"$set": {"n": 7}}).await.unwrap();
        put("updated", (20..25).collect(), false).await;
        updated.update_many(doc! {"_id": {"$mod": [2, 0]}}, doc! {"$set": {"n": 8}}).await.unwrap();
        make("born", 8192, Some(10)).await;
        put("born", (0..100).collect(), true).await;
    })
    .await;
    let expected = compare::state(&pair.from).await;
    assert_eq!((expected["d.full"].documents, expected["d.many"].documents), (20, 200));
    pair.restore(&manifest, &request()).await.unwrap();
    compare::assert_same(&expected, &compare::state(&pair.to).await, "restored");
    if mongorestored(&pair, &manifest).await {
        compare::assert_same(&expected, &compare::state(&pair.to).await, "mongorestore");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn capped_collections_4_4_2() {
    capped("4.4.2", "4.4.2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capped_collections_4_4_2_to_5_0_4() {
    capped("4.4.2", "5.0.4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capped_collections_5_0_4() {
    capped("5.0.4", "5.0.4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capped_collections_5_0_4_to_6_0_27() {
    capped("5.0.4", "6.0.27").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capped_collections_6_0_27() {
    capped("6.0.27", "6.0.27").await;
}

fn measurement(second: i64, v: impl Into<mongodb::bson::Bson>) -> Document {
    doc! {"t": DateTime::from_millis(1_700_000_000_000 + second * 1000), "m": 1, "v": v.into()}
}

/// A bucket with a number and a text, as servers before 6.0.27 made it.
fn mixed_bucket() -> Document {
    let at = |second: i64| DateTime::from_millis(1_700_000_000_000 + second * 1000);
    doc! {
        "_id": ObjectId::new(),
        "control": {
            "version": 1, "min": {"_id": 1, "t": at(0), "v": 1}, "max": {"_id": 2, "t": at(9), "v": "text"},
        },
        "meta": 1,
        "data": {"_id": {"0": 1, "1": 2}, "t": {"0": at(1), "1": at(9)}, "v": {"0": 1, "1": "text"}},
    }
}

async fn is_mixed(client: &mongodb::Client, name: &str) -> bool {
    let listed = client.database("d").run_command(doc! {"listCollections": 1, "filter": {"name": name}}).await.unwrap();
    listed.to_string().contains("timeseriesBucketsMayHaveMixedSchemaData=true")
}

/// 5.0 lets values of several types into one bucket; 6.0.27 takes such a bucket only where it is told so.
#[tokio::test(flavor = "multi_thread")]
async fn mixed_buckets_of_5_0_4_in_6_0_27() {
    let Some(pair) = pair_of("5.0.4", "6.0.27").await else { return };
    let db = pair.from.database("d");
    for name in ["read", "inserted", "updated", "plain"] {
        let series = doc! {"timeField": "t", "metaField": "m"};
        db.run_command(doc! {"create": name, "timeseries": series}).await.unwrap();
        db.collection(name).insert_one(measurement(0, 1)).await.unwrap();
    }
    let read = db.collection("read");
    read.insert_many([measurement(1, "text"), measurement(2, 2.5)]).await.unwrap();
    let names = ["read", "inserted", "updated", "plain"];
    let manifest = changed_after_reading(&pair, &names, async {
        let hour = 3600 * 24;
        let inserted = db.collection("inserted");
        inserted.insert_many([measurement(hour, "text"), measurement(hour + 1, 2.5)]).await.unwrap();
        db.collection("updated").insert_one(measurement(1, "text")).await.unwrap();
        db.collection("plain").insert_one(measurement(1, 2)).await.unwrap();
    })
    .await;
    pair.restore(&manifest, &request()).await.unwrap();
    let (expected, found) = (compare::state(&pair.from).await, compare::state(&pair.to).await);
    for name in names {
        let ns = format!("d.system.buckets.{name}");
        assert_eq!((expected[&ns].documents, &expected[&ns].hash), (found[&ns].documents, &found[&ns].hash), "{name}");
        assert_eq!(is_mixed(&pair.to, name).await, name != "plain", "{name}");
    }
}

/// Set before the backup or after it was read, set and taken back: it comes back as it is listed.
#[tokio::test(flavor = "multi_thread")]
async fn mixed_buckets_are_allowed_again() {
    for to in ["6.0.27", "7.0.11"] {
        let Some(pair) = pair_of("6.0.27", to).await else { continue };
        let db = pair.from.database("d");
        let allow = async |name: &str, on: bool| {
            let command = doc! {"collMod": name, "timeseriesBucketsMayHaveMixedSchemaData": on};
            db.run_command(command).await.unwrap();
        };
        let put_mixed = async |name: &str| {
            let buckets = db.collection(&format!("system.buckets.{name}"));
            buckets.insert_one(mixed_bucket()).await.unwrap();
        };
        for name in ["before", "after", "taken_back", "never"] {
            let series = doc! {"timeField": "t", "metaField": "m"};
            db.run_command(doc! {"create": name, "timeseries": series}).await.unwrap();
            db.collection(name).insert_one(measurement(0, 1)).await.unwrap();
        }
        allow("before", true).await;
        put_mixed("before").await;
        let manifest = changed_after_reading(&pair, &["before", "after", "taken_back", "never"], async {
            put_mixed("before").await;
            allow("after", true).await;
            put_mixed("after").await;
            allow("taken_back", true).await;
            allow("taken_back", false).await;
        })
        .await;
        let expected = compare::state(&pair.from).await;
        pair.restore(&manifest, &request()).await.unwrap();
        for name in ["before", "after", "taken_back", "never"] {
            assert_eq!(is_mixed(&pair.to, name).await, is_mixed(&pair.from, name).await, "{name}");
        }
        if to == "6.0.27" {
            compare::assert_same(&expected, &compare::state(&pair.to).await, "restored");
            if mongorestored(&pair, &manifest).await {
                compare::assert_same(&expected, &compare::state(&pair.to).await, "mongorestore");
            }
        }
    }
}
