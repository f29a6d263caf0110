//! What an older server let into a definition and a newer one does not take is known in the plan, and the restore does what
//! the plan says: it never fails at a definition after the documents were loaded.

use std::sync::Arc;

use mongodb::Client;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::domain::restore::RestorePlan;
use mongokeep::engine::Limits;
use mongokeep::engine::contract::ExportReport;
use mongokeep::engine::logical::{OpenBackup, export, plan, restore};
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use tokio_util::sync::CancellationToken;

use crate::support::dumps::{self, Folder};
use crate::support::pair::{context, request};
use crate::support::versions::mongod_of;

/// Long ago: whatever expires goes at once.
const OLD: i64 = 1_000_000_000_000;

async fn start(version: &str) -> Option<(ReplicaSet, Client)> {
    let mongod = mongod_of(version).await?;
    let set = ReplicaSet::start(&mongod, ReplicaSetOptions::default().test_commands()).await.unwrap();
    let client = set.client().await.unwrap();
    Some((set, client))
}

async fn run(client: &Client, command: Document) -> Document {
    let shown = command.to_string();
    client.database("d").run_command(command).await.unwrap_or_else(|e| panic!("{shown}: {e}"))
}

/// A collection `name` of one document, with one index `n`.
async fn make(client: &Client, name: &str, options: Document, index: Option<Document>) {
    let mut create = doc! {"create": name};
    create.extend(options);
    run(client, create).await;
    let old = DateTime::from_millis(OLD);
    run(client, doc! {"insert": name, "documents": [{"_id": 1, "a": old, "p": [1, 2]}]}).await;
    let Some(more) = index else { return };
    let mut spec = doc! {"v": 2, "key": {"a": 1}, "name": "n"};
    spec.extend(more);
    run(client, doc! {"createIndexes": name, "indexes": [spec]}).await;
}

/// Expires after seconds that only `collMod` lets in.
async fn expires_oddly(client: &Client, name: &str, seconds: impl Into<Bson>) {
    make(client, name, doc! {}, Some(doc! {"expireAfterSeconds": 1_000_000_000})).await;
    run(client, doc! {"collMod": name, "index": {"name": "n", "expireAfterSeconds": seconds.into()}}).await;
}

/// All that MongoDB 4.4 lets in.
async fn make_4_4(client: &Client) {
    // Seconds after which the very documents of this test expire at the source too: not while it is read.
    let still = doc! {"setParameter": 1, "ttlMonitorEnabled": false};
    client.database("admin").run_command(still).await.unwrap();
    make(client, "nan", doc! {}, Some(doc! {"expireAfterSeconds": f64::NAN})).await;
    expires_oddly(client, "negative", -1).await;
    expires_oddly(client, "huge", 1_i64 << 40).await;
    expires_oddly(client, "most", i32::MAX).await;
    let capped = doc! {"capped": true, "size": 0};
    make(client, "capped", capped, Some(doc! {"expireAfterSeconds": 5})).await;
    make(client, "images", doc! {"recordPreImages": true}, None).await;
    make(client, "hay", doc! {}, Some(doc! {"key": {"p": "geoHaystack", "a": 1}, "bucketSize": 1})).await;
    make(client, "flags", doc! {}, Some(doc! {"sparse": "x", "background": Bson::Null})).await;
    make(client, "weights", doc! {}, Some(doc! {"weights": {"a": 1}, "bucketSize": 3})).await;
    let types = doc! {
        "bits": "x", "min": "a", "max": "b", "textIndexVersion": "1", "2dsphereIndexVersion": "3",
        "finestIndexedLevel": "1", "coarsestIndexedLevel": "1", "default_language": 5, "language_override": 5,
    };
    make(client, "types", doc! {}, Some(types)).await;
    make(client, "version 1", doc! {"collation": {"locale": "de"}}, Some(doc! {"v": 1})).await;
    // As servers before 3.4 did.
    let names = |mode: &str| doc! {"configureFailPoint": "skipIndexCreateFieldNameValidation", "mode": mode};
    client.database("admin").run_command(names("alwaysOn")).await.unwrap();
    make(client, "unknown", doc! {}, Some(doc! {"safe": true, "w": 1})).await;
    client.database("admin").run_command(names("off")).await.unwrap();
}

/// Backs up `from`, restores into `to`, and waits until whatever would expire there has.
async fn restored(from: &ReplicaSet, to: &ReplicaSet, client: &Client) -> (RestorePlan, ExportReport) {
    let folder = Folder::new();
    let manifest = dumps::dump_ok(from, &folder, &dumps::request("old"), Limits::default()).await;
    let root = BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let exported =
        export(&context(), Arc::clone(&folder.storage), &root, &folder.dir.path().join("export")).await.unwrap();
    let stored = OpenBackup::new(Arc::clone(&folder.storage), manifest).unwrap();
    let target = dumps::server(to).await;
    let confirmed = plan(&CancellationToken::new(), &stored, &target, &request()).await.unwrap();
    let often = doc! {"setParameter": 1, "ttlMonitorSleepSecs": 1};
    client.database("admin").run_command(often).await.unwrap();
    restore(&context(), &stored, &target, &request(), &confirmed).await.unwrap();
    let passes = async || -> i64 {
        let status = client.database("admin").run_command(doc! {"serverStatus": 1}).await.unwrap();
        status.get_document("metrics").unwrap().get_document("ttl").unwrap().get_i64("passes").unwrap()
    };
    let before = passes().await;
    while passes().await < before + 2 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    (confirmed, exported)
}

/// The collections of `d` that hold less or more than their one document.
async fn changed(client: &Client) -> Vec<String> {
    let mut found = Vec::new();
    for name in client.database("d").list_collection_names().await.unwrap() {
        let count = client.database("d").collection::<Document>(&name).count_documents(doc! {}).await.unwrap();
        if count != 1 && !name.starts_with("system.") {
            found.push(format!("{name}: {count}"));
        }
    }
    found
}

/// Options and the index `n` of a collection.
async fn definition(client: &Client, name: &str) -> (Document, Document) {
    let reply = run(client, doc! {"listCollections": 1, "filter": {"name": name}}).await;
    let first = |reply: &Document, key: &str, value: &str| {
        let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        let found = batch.iter().map(|b| b.as_document().unwrap()).find(|d| d.get_str(key).is_ok_and(|v| v == value));
        found.cloned().unwrap_or_default()
    };
    let options = first(&reply, "name", name).get_document("options").unwrap().clone();
    (options, first(&run(client, doc! {"listIndexes": name}).await, "name", "n"))
}

fn whats(plan: &RestorePlan) -> Vec<&str> {
    let mut all: Vec<&str> =
        plan.left_out.iter().map(|l| l.what.as_str()).filter(|w| *w != "users and roles").collect();
    all.sort_unstable();
    all
}

async fn from_4_4_into(version: &str, expected: &[&str]) -> Option<(Client, ReplicaSet, RestorePlan, ExportReport)> {
    let ((source, from), (target, to)) = (start("4.4.2").await?, start(version).await?);
    make_4_4(&from).await;
    let (plan, exported) = restored(&source, &target, &to).await;
    assert_eq!(whats(&plan), expected, "into {version}");
    for what in expected {
        assert!(plan.warnings.iter().any(|w| w.contains(what)), "{what}: {:?}", plan.warnings);
    }
    assert_eq!(changed(&to).await, Vec::<String>::new(), "into {version}");
    Some((to, target, plan, exported))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_4_4_let_in_comes_back_on_4_4() {
    let expected = [
        "safe of index n of d.unknown",
        "the expiry of index n of d.huge",
        "the expiry of index n of d.most",
        "the expiry of index n of d.negative",
        "the size 0 of d.capped",
        "w of index n of d.unknown",
    ];
    let Some((to, _set, _, exported)) = from_4_4_into("4.4.2", &expected).await else { return };
    let nan = definition(&to, "nan").await.1;
    assert!(nan.get_f64("expireAfterSeconds").unwrap().is_nan(), "{nan}");
    assert_eq!(definition(&to, "flags").await.1.get_str("sparse").unwrap(), "x");
    assert!(definition(&to, "images").await.0.get_bool("recordPreImages").unwrap());
    // Nobody knows whether it is restored into a server that would take it for 0.
    assert!(exported.left_out.iter().any(|l| l.what == "the expiry of index n of d.nan"), "{:?}", exported.left_out);
    for (release, what) in [
        ("5.0", "index n of d.hay"),
        ("6.0", "the expiry of index n of d.capped"),
        ("7.0", "recordPreImages of d.images"),
    ] {
        let said = format!("MongoDB {release} and newer do not take {what}");
        assert!(exported.warnings.contains(&said), "{said}: {:?}", exported.warnings);
    }
}

const INTO_5_0: [&str; 21] = [
    "2dsphereIndexVersion of index n of d.types",
    "background of index n of d.flags",
    "bits of index n of d.types",
    "bucketSize of index n of d.weights",
    "coarsestIndexedLevel of index n of d.types",
    "default_language of index n of d.types",
    "finestIndexedLevel of index n of d.types",
    "index n of d.hay",
    "language_override of index n of d.types",
    "max of index n of d.types",
    "min of index n of d.types",
    "safe of index n of d.unknown",
    "sparse of index n of d.flags",
    "textIndexVersion of index n of d.types",
    "the expiry of index n of d.huge",
    "the expiry of index n of d.most",
    "the expiry of index n of d.nan",
    "the expiry of index n of d.negative",
    "the size 0 of d.capped",
    "w of index n of d.unknown",
    "weights of index n of d.weights",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_4_4_let_in_is_changed_for_5_0_as_the_plan_says() {
    let Some((to, _set, ..)) = from_4_4_into("5.0.4", &INTO_5_0).await else { return };
    // MongoDB 5.0.4 takes no number that means never.
    assert!(!definition(&to, "nan").await.1.contains_key("expireAfterSeconds"));
    assert_eq!(definition(&to, "capped").await.0.get_i32("size").unwrap(), 4096);
    assert!(definition(&to, "flags").await.1.get_bool("sparse").unwrap());
    let (options, index) = definition(&to, "version 1").await;
    assert!(options.contains_key("collation") && !index.contains_key("collation"), "{index}");
    assert_eq!(index.get_i32("v").unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_4_4_let_in_is_changed_for_6_0_as_the_plan_says() {
    let mut expected = INTO_5_0.to_vec();
    expected.retain(|what| *what != "the expiry of index n of d.most");
    expected.push("the expiry of index n of d.capped");
    expected.sort_unstable();
    let Some((to, _set, ..)) = from_4_4_into("6.0.5", &expected).await else { return };
    for never in ["nan", "huge", "most"] {
        let index = definition(&to, never).await.1;
        assert_eq!(index.get_i32("expireAfterSeconds").unwrap(), i32::MAX, "{never}: {index}");
    }
    assert!(!definition(&to, "negative").await.1.contains_key("expireAfterSeconds"));
    assert!(definition(&to, "images").await.0.get_bool("recordPreImages").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_6_0_let_in_is_changed_for_7_0_as_the_plan_says() {
    let (Some((source, from)), Some((target, to))) = (start("6.0.5").await, start("7.0.11").await) else { return };
    make(&from, "images", doc! {"recordPreImages": true}, None).await;
    let series = doc! {"timeseries": {"timeField": "t", "metaField": "m"}};
    for (name, index) in [("series", None), ("clash", Some(doc! {"key": {"m": 1, "t": 1}, "name": "n"}))] {
        let mut create = doc! {"create": name};
        create.extend(series.clone());
        run(&from, create).await;
        run(&from, doc! {"insert": name, "documents": [{"t": DateTime::from_millis(OLD), "m": 1}]}).await;
        if let Some(index) = index {
            run(&from, doc! {"createIndexes": name, "indexes": [index]}).await;
        }
    }
    let (plan, _) = restored(&source, &target, &to).await;
    assert_eq!(whats(&plan), ["recordPreImages of d.images"]);
    assert_eq!(changed(&to).await, Vec::<String>::new());
    // The server makes one of its own, which the backup lacks.
    for (name, expected) in [("series", vec![]), ("clash", vec!["n".to_owned()])] {
        let names = to.database("d").collection::<Document>(name).list_index_names().await.unwrap();
        assert_eq!(names, expected, "{name}");
    }
}
