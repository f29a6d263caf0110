//! What an export writes, where, and what it leaves behind when it fails.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mongodb::bson::{Bson, Document, doc};
use mongokeep::domain::backup::Compression;
use mongokeep::domain::restore::CollectionKind;
use mongokeep::engine::Context;
use mongokeep::engine::contract::ExportReport;
use mongokeep::engine::logical::export;
use mongokeep::error::{Error, ErrorKind, Result};

use crate::support;
use crate::support::artifact::{Artifact, at, change, command, entry, hex, noop};

const ORDERS: [u8; 16] = [1; 16];
const SERIES: [u8; 16] = [2; 16];
const RING: [u8; 16] = [3; 16];
const FRESH: [u8; 16] = [4; 16];
const GONE: [u8; 16] = [5; 16];

fn context() -> Context {
    Context::default()
}

async fn run(artifact: &Artifact, to: &Path) -> Result<ExportReport> {
    export(&context(), Arc::clone(&artifact.storage), &artifact.root, to).await
}

fn documents(from: i32, count: i32) -> Vec<Document> {
    (from..from + count).map(|i| doc! {"_id": i, "text": format!("number {i}")}).collect()
}

fn bytes(documents: &[Document]) -> Vec<u8> {
    documents.iter().flat_map(|d| d.to_vec().unwrap()).collect()
}

fn parse(mut bytes: &[u8]) -> Vec<Document> {
    let mut documents = Vec::new();
    while !bytes.is_empty() {
        documents.push(Document::from_reader(&mut bytes).unwrap());
    }
    documents
}

/// Every file below `folder`, by its path within.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            if path.is_dir() {
                assert_eq!(mode, 0o700, "{path:?}");
                folders.push(path);
            } else {
                assert_eq!(mode, 0o600, "{path:?}");
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

fn metadata(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Document {
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&files[name]).unwrap();
    Document::try_from(json).unwrap()
}

/// Changes of every sort between the first read and the end.
async fn sample(compression: Compression) -> Artifact {
    let mut artifact = Artifact::new(compression).await;
    let text = doc! {"v": 2, "key": {"text": 1}, "name": "text_1"};
    let definition = doc! {"options": {"validator": {"n": {"$gte": 0}}}, "indexes": [text]};
    let parts = [documents(0, 50), documents(50, 30)];
    artifact.collection("shop.orders", CollectionKind::Collection, Some(ORDERS), definition, &parts).await;
    let series = doc! {"options": {"timeseries": {"timeField": "at"}}};
    artifact.collection("shop.the series", CollectionKind::Timeseries, Some(SERIES), series, &[documents(0, 3)]).await;
    let capped = doc! {"options": {"capped": true, "size": 4096_i64}};
    artifact.collection("shop.ring", CollectionKind::Collection, Some(RING), capped, &[documents(4, 3)]).await;
    artifact.manifest.collections[2].read_from_ts = at(4);
    artifact.collection("shop.gone", CollectionKind::Collection, Some(GONE), doc! {"options": {}}, &[vec![]]).await;
    let view = doc! {"options": {"viewOn": "orders", "pipeline": [{"$limit": 5}]}};
    artifact.collection("shop.cheap", CollectionKind::View, None, view, &[]).await;

    let lsid = doc! {"id": 1};
    let inserted =
        |id: i32| doc! {"op": "i", "ns": "shop.orders", "ui": support::artifact::binary(ORDERS), "o": {"_id": id}};
    let transaction = |i: u32, o: Document, begins: bool| {
        let previous = mongodb::bson::Timestamp { time: u32::from(!begins), increment: 0 };
        entry(
            i,
            doc! {"op": "c", "ns": "admin.$cmd", "lsid": lsid.clone(), "txnNumber": 1_i64, "o": o,
            "prevOpTime": {"ts": previous, "t": 1_i64}},
        )
    };
    let open = |i: u32| {
        let ops = doc! {"applyOps": [inserted(999)], "partialTxn": true};
        entry(i, doc! {"op": "c", "ns": "admin.$cmd", "lsid": {"id": 2}, "txnNumber": 8_i64, "o": ops})
    };
    let zero = mongodb::bson::Timestamp { time: 0, increment: 0 };
    artifact
        .oplog(&[
            vec![
                noop(1),
                change(2, "i", "shop.orders", ORDERS, doc! {"_id": 100}),
                transaction(3, doc! {"applyOps": [inserted(101)], "partialTxn": true}, true),
                // Read, and rolled out since.
                change(4, "i", "shop.ring", RING, doc! {"_id": 1}),
                change(5, "i", "shop.gone", GONE, doc! {"_id": 1}),
            ],
            vec![
                change(6, "i", "shop.ring", RING, doc! {"_id": 2}),
                // Not in the parts, and older than the last one that is: rolled out.
                change(7, "u", "shop.ring", RING, doc! {"$v": 2, "diff": {}, "_id": 2}),
                change(8, "u", "shop.ring", RING, doc! {"$v": 2, "diff": {"u": {"x": 1}}, "_id": 5}),
                change(9, "i", "shop.ring", RING, doc! {"_id": 6}),
                change(10, "i", "shop.ring", RING, doc! {"_id": 7}),
                change(11, "i", "shop.system.buckets.the series", SERIES, doc! {"_id": 9}),
                command(12, "shop", ORDERS, doc! {"renameCollection": "shop.orders", "to": "sales.mo/ved"}),
                command(13, "sales", FRESH, doc! {"create": "fresh", "collation": {"locale": "de"}}),
                command(14, "sales", FRESH, doc! {"createIndexes": "fresh", "v": 2, "key": {"a": 1}, "name": "a_1"}),
                change(15, "i", "sales.fresh", FRESH, doc! {"_id": 1, "z": zero}),
                transaction(16, doc! {"applyOps": [inserted(102)], "count": 2_i64}, false),
                open(17),
                command(18, "shop", GONE, doc! {"drop": "gone"}),
                change(19, "d", "sales.mo/ved", ORDERS, doc! {"_id": 3}),
            ],
        ])
        .await;
    artifact.finish().await;
    artifact
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_backup_is_exported() {
    for compression in [Compression::Zstd(1), Compression::Gzip(6), Compression::None] {
        let artifact = sample(compression).await;
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("new/dump");
        let report = run(&artifact, &to).await.unwrap();
        let files = files(&to);
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "oplog.bson",
                "prelude.json",
                "sales/fresh.bson",
                "sales/fresh.metadata.json",
                "sales/mo%2Fved.bson",
                "sales/mo%2Fved.metadata.json",
                "shop/cheap.metadata.json",
                "shop/ring.bson",
                "shop/ring.metadata.json",
                "shop/system.buckets.the+series.bson",
                "shop/the+series.metadata.json",
            ]
        );
        assert_eq!(files["sales/mo%2Fved.bson"], bytes(&documents(0, 80)));
        assert_eq!(files["shop/system.buckets.the+series.bson"], bytes(&documents(0, 3)));
        assert_eq!(files["sales/fresh.bson"], b"");
        assert_eq!((report.collections, report.views, report.documents), (4, 1, 86));
        let written: usize = names.iter().filter(|n| **n != "prelude.json").map(|n| files[*n].len()).sum();
        assert_eq!(report.bytes, written as u64);
        assert!(report.left_out.iter().any(|l| l.what.contains("transaction 8")), "{report:?}");
        assert!(report.command.contains("--oplogReplay") && report.command.ends_with("/new/dump"), "{report:?}");

        let prelude: serde_json::Value = serde_json::from_slice(&files["prelude.json"]).unwrap();
        assert_eq!(prelude["ServerVersion"], "6.0.5");
        assert_eq!(
            metadata(&files, "sales/fresh.metadata.json"),
            doc! {
                "options": {"collation": {"locale": "de"}}, "indexes": [{"v": 2, "key": {"a": 1}, "name": "a_1"}],
                "uuid": hex(FRESH), "collectionName": "fresh", "type": "collection",
            }
        );
        let moved = metadata(&files, "sales/mo%2Fved.metadata.json");
        assert_eq!(moved.get_str("collectionName").unwrap(), "mo/ved");
        assert_eq!(moved.get_array("indexes").unwrap().len(), 1);
        let view = metadata(&files, "shop/cheap.metadata.json");
        assert_eq!(view.get_str("type").unwrap(), "view");
        assert!(!view.contains_key("uuid") && !metadata(&files, "shop/the+series.metadata.json").contains_key("uuid"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oplog_holds_changes_of_documents_only() {
    let artifact = sample(Compression::Zstd(1)).await;
    let folder = tempfile::tempdir().unwrap();
    let report = run(&artifact, folder.path()).await.unwrap();
    let entries = parse(&std::fs::read(folder.path().join("oplog.bson")).unwrap());
    assert_eq!(report.oplog_entries, entries.len() as u64);
    let seen: Vec<(u32, &str, &str, Option<&Bson>)> = entries
        .iter()
        .map(|e| {
            let id = if e.get_str("op").unwrap() == "u" { e.get_document("o2") } else { e.get_document("o") };
            let ts = e.get_timestamp("ts").unwrap().increment;
            (ts, e.get_str("op").unwrap(), e.get_str("ns").unwrap(), id.unwrap().get("_id"))
        })
        .collect();
    let id = Bson::Int32;
    assert_eq!(
        seen,
        [
            (2, "i", "sales.mo/ved", Some(&id(100))),
            // The last document of the ring that was read is 6: its update of 5 counts, that of 2 does not.
            (8, "u", "shop.ring", Some(&id(5))),
            (10, "i", "shop.ring", Some(&id(7))),
            (11, "i", "shop.system.buckets.the series", Some(&id(9))),
            (15, "i", "sales.fresh", Some(&id(1))),
            (15, "u", "sales.fresh", Some(&id(1))),
            (16, "i", "sales.mo/ved", Some(&id(101))),
            (16, "i", "sales.mo/ved", Some(&id(102))),
            (19, "d", "sales.mo/ved", Some(&id(3))),
        ]
    );
    for entry in &entries {
        let allowed = ["ts", "t", "v", "op", "ns", "wall", "o", "o2"];
        assert!(entry.keys().all(|key| allowed.contains(&key.as_str())), "{entry}");
        assert_eq!((entry.get_i64("v").unwrap(), entry.get_i64("t").unwrap()), (2, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_use_is_refused_and_left_alone() {
    let artifact = sample(Compression::Zstd(1)).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), b"mine").unwrap();
    let error = run(&artifact, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.full().contains("is not empty"), "{error}");
    let error = run(&artifact, &folder.path().join("mine")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(std::fs::read(folder.path().join("mine")).unwrap(), b"mine");
}

/// Fails, and nothing is left of it but the folder that was there before.
async fn assert_fails_without_a_trace(artifact: &Artifact, what: &str) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("a/dump");
    let error = run(artifact, &to).await.expect_err(what);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{what}: {error:?}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_or_damaged_backup_leaves_nothing_behind() {
    type Change = fn(&mut Artifact);
    let hostile: [(&str, Change); 5] = [
        ("a path that leaves the folder", |a| a.manifest.collections[0].parts[0].path = "data/../../../x".into()),
        ("a database that is a path", |a| a.manifest.collections[2].namespace.db = "../../etc".into()),
        ("a database that is the parent", |a| a.manifest.collections[2].namespace.db = "..".into()),
        ("an absolute database", |a| a.manifest.collections[2].namespace.db = "/tmp/x".into()),
        ("an object named twice", |a| {
            let part = a.manifest.collections[0].parts[0].clone();
            a.manifest.collections[0].parts.push(part);
        }),
    ];
    for (what, change) in hostile {
        let mut artifact = sample(Compression::Zstd(1)).await;
        change(&mut artifact);
        artifact.write_manifest().await;
        let error = assert_fails_without_a_trace(&artifact, what).await;
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid), "{what}: {error:?}");
    }
    // A part and the oplog are damaged where it is seen late.
    for key in ["data/shop/orders/00001.bson.zst", "oplog/00001.bson.zst"] {
        let artifact = sample(Compression::Zstd(1)).await;
        let key = artifact.root.key().join(key).unwrap();
        let mut stored = artifact.read(&key).await;
        let last = stored.len() - 1;
        stored[last] ^= 1;
        artifact.write(&key, stored).await;
        let error = assert_fails_without_a_trace(&artifact, key.as_str()).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.full().contains(key.as_str()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_there_is_told() {
    let artifact = Artifact::new(Compression::Zstd(1)).await;
    let error = assert_fails_without_a_trace(&artifact, "nothing is there").await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// More than any disk holds, as far as the manifest says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_too_small_is_found_before() {
    let mut artifact = sample(Compression::Zstd(1)).await;
    let huge = 1 << 60;
    let collection = &mut artifact.manifest.collections[0];
    collection.bytes += huge;
    collection.parts[0].uncompressed += huge;
    artifact.manifest.uncompressed_bytes += huge;
    artifact.write_manifest().await;
    let error = assert_fails_without_a_trace(&artifact, "a full disk").await;
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.full().contains("free"), "{error}");
}

/// DeliveryResult to stop at different moments, it leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_export_leaves_nothing_behind() {
    let mut artifact = Artifact::new(Compression::Zstd(1)).await;
    let large: Vec<Vec<Document>> = (0..6).map(|n| documents(n * 40_000, 40_000)).collect();
    for (n, uuid) in [[21; 16], [22; 16], [23; 16]].into_iter().enumerate() {
        let ns = format!("shop.large{n}");
        artifact.collection(&ns, CollectionKind::Collection, Some(uuid), doc! {"options": {}}, &large).await;
    }
    artifact.oplog(&[vec![noop(1)]]).await;
    artifact.finish().await;
    let total = artifact.manifest.uncompressed_bytes;
    for share in [0, 20, 70] {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("dump");
        let ctx = context();
        let (cancel, meter) = (ctx.cancel.clone(), Arc::clone(&ctx.meter));
        let when = tokio::spawn(async move {
            while meter.snapshot().bytes_done < total * share / 100 {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
            std::time::Instant::now()
        });
        let error = export(&ctx, Arc::clone(&artifact.storage), &artifact.root, &to).await.unwrap_err();
        assert!(when.await.unwrap().elapsed() < support::stopwatch::at_once());
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{share}");
        if share > 0 {
            assert!(error.hint_text().unwrap().contains("was removed"), "{error:?}");
        }
    }
}
