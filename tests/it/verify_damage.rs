//! Whatever happens to a stored backup, `verify` finds it and says where.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use mongokeep::domain::backup::Compression;
use mongokeep::domain::restore::CollectionKind;
use mongokeep::domain::storage::StorageConfig;
use mongokeep::engine::Context;
use mongokeep::engine::contract::VerifyReport;
use mongokeep::engine::logical::verify;
use mongokeep::error::{ErrorKind, Result};
use mongokeep::storage::Key;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::artifact::{Artifact, at, change, command, noop};

const ORDERS: [u8; 16] = [1; 16];
const SERIES: [u8; 16] = [2; 16];

fn context() -> Context {
    Context::default()
}

async fn check(artifact: &Artifact) -> Result<VerifyReport> {
    verify(&context(), Arc::clone(&artifact.storage), &artifact.root).await
}

fn documents(from: i32, count: i32) -> Vec<Document> {
    (from..from + count).map(|i| doc! {"_id": i, "text": format!("number {i}"), "in": {"a": [i, "x"]}}).collect()
}

/// Every kind of object: metadata of a collection, a time series and a view, parts, and an oplog of two parts.
async fn sample(compression: Compression) -> Artifact {
    let mut artifact = Artifact::new(compression).await;
    let index = doc! {"v": 2, "key": {"text": 1}, "name": "text_1"};
    artifact
        .collection(
            "shop.orders",
            CollectionKind::Collection,
            Some(ORDERS),
            doc! {"options": {}, "indexes": [index]},
            &[documents(0, 50), documents(50, 30)],
        )
        .await;
    let series = doc! {"options": {"timeseries": {"timeField": "at"}}};
    artifact.collection("shop.events", CollectionKind::Timeseries, Some(SERIES), series, &[documents(0, 3)]).await;
    let view = doc! {"options": {"viewOn": "orders", "pipeline": []}};
    artifact.collection("shop.cheap", CollectionKind::View, None, view, &[]).await;
    let first = vec![noop(1), change(2, "i", "shop.orders", ORDERS, doc! {"_id": 100})];
    let rename = doc! {"renameCollection": "shop.orders", "to": "shop.moved"};
    let second = vec![command(3, "shop", ORDERS, rename), noop(4)];
    artifact.oplog(&[first, second]).await;
    artifact.finish().await;
    artifact
}

/// The object is named, by at least one problem, and nothing else is but what depends on it.
fn assert_named(report: &VerifyReport, key: &Key, what: &str) {
    let named = report.problems.iter().any(|p| p.object == key.as_str());
    assert!(named, "{what} of {key} was not found: {report:?}");
    assert!(report.problems.iter().all(|p| p.object == key.as_str()), "{what} of {key}: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_backup_is_good() {
    for compression in [Compression::Zstd(1), Compression::Gzip(6), Compression::None] {
        let artifact = sample(compression).await;
        let ctx = context();
        let report = verify(&ctx, Arc::clone(&artifact.storage), &artifact.root).await.unwrap();
        assert!(report.is_good() && report.notes.is_empty(), "{compression}: {report:?}");
        assert_eq!((report.objects, report.documents), (9, 87), "{compression}");
        let progress = ctx.meter.snapshot();
        assert_eq!(progress.bytes_done, progress.bytes_total);
        assert_eq!(progress.objects_done, progress.objects_total);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_changed_byte_is_found_and_named() {
    let mut rng = StdRng::seed_from_u64(5);
    for compression in [Compression::Zstd(1), Compression::Gzip(1), Compression::None] {
        let artifact = sample(compression).await;
        let attempt = artifact.root.attempt().unwrap();
        for key in artifact.objects().await.into_iter().filter(|key| *key != attempt) {
            let sound = artifact.read(&key).await;
            for _ in 0..25 {
                let mut damaged = sound.clone();
                let at = rng.random_range(0..damaged.len());
                damaged[at] ^= rng.random_range(1..=255_u8);
                artifact.write(&key, damaged).await;
                assert_named(&check(&artifact).await.unwrap(), &key, &format!("byte {at}"));
            }
            artifact.write(&key, sound).await;
        }
        assert!(check(&artifact).await.unwrap().is_good());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_a_short_and_a_long_object_are_found_and_named() {
    for compression in [Compression::Zstd(1), Compression::Gzip(1), Compression::None] {
        let artifact = sample(compression).await;
        let attempt = artifact.root.attempt().unwrap();
        for key in artifact.objects().await.into_iter().filter(|key| *key != attempt) {
            let sound = artifact.read(&key).await;
            artifact.storage.delete(&key).await.unwrap();
            let report = check(&artifact).await.unwrap();
            assert_named(&report, &key, "the loss");
            assert!(report.problems.iter().any(|p| p.what.contains("missing")), "{report:?}");
            for length in [0, 1, sound.len() / 2, sound.len() - 1] {
                artifact.write(&key, sound[..length].to_vec()).await;
                assert_named(&check(&artifact).await.unwrap(), &key, &format!("a cut to {length} bytes"));
            }
            // Garbage, a zero byte, and the object itself again, which is a valid stream of frames and documents.
            for tail in [b"more".to_vec(), vec![0], sound.clone()] {
                artifact.write(&key, [sound.clone(), tail].concat()).await;
                assert_named(&check(&artifact).await.unwrap(), &key, "an extension");
            }
            artifact.write(&key, sound).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_wrong_is_listed() {
    let artifact = sample(Compression::Zstd(1)).await;
    let keys = artifact.objects().await;
    let own = [artifact.root.manifest().unwrap(), artifact.root.attempt().unwrap()];
    let damaged: Vec<&Key> = keys.iter().filter(|key| !own.contains(key)).collect();
    for (n, key) in damaged.iter().enumerate() {
        let sound = artifact.read(key).await;
        if n % 2 == 0 {
            artifact.storage.delete(key).await.unwrap()
        } else {
            artifact.write(key, sound[1..].to_vec()).await
        }
    }
    let report = check(&artifact).await.unwrap();
    let named: Vec<&str> = report.problems.iter().map(|p| p.object.as_str()).collect();
    let expected: Vec<&str> = damaged.iter().map(|key| key.as_str()).collect();
    assert_eq!(named, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_belong_is_noted() {
    let artifact = sample(Compression::Zstd(1)).await;
    let stray = artifact.root.key().join("data/shop/orders/00099.bson.zst").unwrap();
    artifact.write(&stray, b"left behind".to_vec()).await;
    artifact.storage.delete(&artifact.root.attempt().unwrap()).await.unwrap();
    let report = check(&artifact).await.unwrap();
    assert!(report.is_good(), "{report:?}");
    let noted: Vec<&str> = report.notes.iter().map(|n| n.object.as_str()).collect();
    assert_eq!(noted, [artifact.root.attempt().unwrap().as_str(), stray.as_str()]);
}

/// Damage that no checksum shows, because it was written like that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_backup_with_right_checksums_is_found() {
    type Change = fn(&mut Artifact);
    let changes: [(&str, Change); 13] = [
        ("2 oplog entries are lost", |a| drop(a.manifest.oplog.pop())),
        ("a collection has another count", |a| a.manifest.collections[0].documents += 1),
        ("the total is another", |a| a.manifest.documents += 10),
        ("the size is another", |a| a.manifest.size_bytes += 1),
        ("it ends after all oplogs", |a| a.manifest.finished_at = "+262142-12-31T00:00:00Z".parse().unwrap()),
        ("an object is named twice", |a| {
            let part = a.manifest.collections[0].parts[0].clone();
            a.manifest.collections[0].parts[1] = part;
        }),
        ("a path leaves the folder", |a| a.manifest.collections[0].parts[0].path = "data/../../secret".into()),
        ("a path is elsewhere", |a| a.manifest.oplog[0].path = "manifest.json".into()),
        ("the oplog should begin earlier", |a| a.manifest.oplog_from_ts = at(0)),
        ("the oplog should reach further", |a| a.manifest.consistent_at_ts = at(9)),
        ("the metadata is of another collection", |a| {
            let other = a.manifest.collections[2].metadata.clone();
            a.manifest.collections[2].metadata = std::mem::replace(&mut a.manifest.collections[0].metadata, other);
        }),
        ("the UUID is another", |a| a.manifest.collections[0].uuid = Some("07".repeat(16))),
        ("the manifest is of another backup", |a| a.manifest.name = "other".into()),
    ];
    for (what, change) in changes {
        let mut artifact = sample(Compression::Zstd(1)).await;
        change(&mut artifact);
        artifact.write_manifest().await;
        assert!(!check(&artifact).await.unwrap().is_good(), "not found: {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oplog_that_does_not_ascend_or_cannot_be_replayed_is_found() {
    let unknown = command(3, "shop", ORDERS, doc! {"inventNewThings": "orders"});
    let stranger = change(3, "i", "shop.strangers", [9; 16], doc! {"_id": 1});
    let cases = [
        ("the same position twice", vec![noop(1), noop(2), noop(2), noop(4)], "oplog"),
        ("a step back", vec![noop(1), noop(3), noop(2), noop(4)], "oplog"),
        ("a command nobody knows", vec![noop(1), unknown, noop(4)], "manifest"),
        ("a collection that is not there", vec![noop(1), stranger, noop(4)], "manifest"),
        ("something else than an entry", vec![noop(1), doc! {"_id": 1}, noop(4)], "oplog"),
    ];
    for (what, entries, place) in cases {
        let mut artifact = Artifact::new(Compression::Zstd(1)).await;
        let definition = doc! {"options": {}};
        artifact
            .collection("shop.orders", CollectionKind::Collection, Some(ORDERS), definition, &[documents(0, 5)])
            .await;
        artifact.oplog(&[entries]).await;
        artifact.finish().await;
        let report = check(&artifact).await.unwrap();
        assert!(report.problems.iter().any(|p| p.object.contains(place)), "{what}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_none_is_found() {
    let mut artifact = Artifact::new(Compression::None).await;
    let key = artifact.root.key().join("data/shop/orders/00000.bson").unwrap();
    // A boolean that is neither true nor false, in a frame that is in order.
    let mut document = doc! {"_id": 1, "b": true}.to_vec().unwrap();
    let at = document.len() - 2;
    document[at] = 7;
    let definition = doc! {"options": {}};
    artifact
        .collection(
            "shop.orders",
            CollectionKind::Collection,
            Some(ORDERS),
            definition,
            &[vec![doc! {"_id": 1, "b": true}]],
        )
        .await;
    let stored = artifact.put(&key, document.clone()).await;
    artifact.manifest.collections[0].parts[0].blake3 = stored.blake3;
    artifact.oplog(&[vec![noop(1)]]).await;
    artifact.finish().await;
    assert_named(&check(&artifact).await.unwrap(), &key, "a boolean");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_is_gone_says_nothing_about_a_backup() {
    let artifact = sample(Compression::Zstd(1)).await;
    let root = artifact.root.clone();
    let folder = artifact.path(root.key());
    let place = folder.ancestors().nth(3).unwrap().to_owned();
    drop(artifact);
    let config = StorageConfig::of("filesystem", [("path", place.to_str().unwrap())]);
    // The folder does not exist, as when a disk is not mounted; then something that is no folder stands there.
    for stands_there in [false, true] {
        if stands_there {
            std::fs::write(&place, b"").unwrap();
        }
        let storage = mongokeep::storage::open(&config).await.unwrap();
        let error = verify(&context(), storage, &root).await.unwrap_err();
        assert!(error.full().contains(place.to_str().unwrap()), "{error}");
    }
    std::fs::remove_file(&place).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_when_told() {
    let artifact = sample(Compression::Zstd(1)).await;
    let ctx = context();
    ctx.cancel.cancel();
    let error = verify(&ctx, Arc::clone(&artifact.storage), &artifact.root).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
