//! Documents that are deleted and inserted again under the same `_id` while they are read: there once in the backup, and
//! as they were at its end once it is restored.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mongodb::Client;
use mongodb::bson::{Bson, Decimal128, Document, doc};
use mongokeep::artifact::bson;
use mongokeep::artifact::read::ReadOptions;
use mongokeep::domain::bandwidth::BandwidthLimit;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::storage::Storage;
use mongokeep::storage::throttle::{Limiter, Throttled};

use crate::support::compare;
use crate::support::dumps::{entry, fill, request as dump_request, start};
use crate::support::hooked::{Gate, hooked};
use crate::support::pair::{Pair, request};
use crate::support::recording::folder;

/// The `_id` of every document in the parts of a collection.
async fn ids(pair: &Pair, manifest: &LogicalManifest, ns: &str) -> Vec<Vec<u8>> {
    let stored = pair.stored(manifest).await.unwrap();
    let mut ids = Vec::new();
    for object in &entry(manifest, ns).parts {
        let mut batches = stored.documents(object, ReadOptions::default()).unwrap();
        while let Some(batch) = batches.next().await {
            ids.extend(batch.unwrap().documents().map(|d| bson::get(d, "_id").unwrap().value.to_vec()));
        }
    }
    ids
}

async fn assert_once(pair: &Pair, manifest: &LogicalManifest, ns: &str, log: &[String]) -> usize {
    let ids = ids(pair, manifest, ns).await;
    let different: BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), different.len(), "{ns} holds a document twice\n{log:#?}");
    assert_eq!(ids.len() as u64, entry(manifest, ns).documents, "{ns}");
    ids.len()
}

async fn replace(client: &Client, collection: &str, old: Bson, new: Bson) {
    let collection = client.database("d").collection::<Document>(collection);
    assert_eq!(collection.delete_one(doc! {"_id": old}).await.unwrap().deleted_count, 1);
    collection.insert_one(doc! {"_id": new, "came": "back"}).await.unwrap();
}

/// Restores the backup and compares it with `expected`, the state at its end.
async fn assert_restores(pair: &Pair, manifest: &LogicalManifest, expected: &compare::State) {
    let report = pair.restore(manifest, &request()).await.unwrap();
    assert_eq!(report.documents, manifest.documents);
    compare::assert_same(expected, &compare::state(&pair.to).await, &manifest.name);
}

/// Behind the cursor, which is held up by its storage: under the same `_id`, under other forms of it, in a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_behind_the_cursor_is_there_once() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    for name in ["same", "number", "committed", "untouched"] {
        fill(&pair.from, "d", name, 24).await;
    }
    // Ranges of `_id`, of which none returns a document twice.
    fill(&pair.from, "d", "split", 70).await;
    let collation = doc! {"locale": "fr", "strength": 1};
    db.run_command(doc! {"create": "words", "collation": collation}).await.unwrap();
    db.collection::<Document>("words").insert_one(doc! {"_id": "été"}).await.unwrap();
    fill(&pair.from, "d", "words", 24).await;
    let nested = |n: Bson| Bson::from(doc! {"a": [n, {"b": -0.0}]});
    db.collection::<Document>("nested").insert_one(doc! {"_id": nested(1.into())}).await.unwrap();
    fill(&pair.from, "d", "nested", 24).await;

    let storage = folder(pair.dir.path()).await;
    let held = ["/same/", "/number/", "/committed/", "/untouched/", "/split/", "/words/", "/nested/"];
    let (gated, gate) = hooked(&storage, Gate::new(&held));
    let limits = Limits { split_bytes: 40 << 20, parallel_collections: 9, ..Limits::default() };
    let running = start(&pair.source.uri(), gated, dump_request("again"), limits).await;
    gate.all_held().await;
    replace(&pair.from, "same", 0.into(), 0.into()).await;
    let zero: Decimal128 = "-0.00".parse().unwrap();
    replace(&pair.from, "number", 0.into(), zero.into()).await;
    replace(&pair.from, "split", 0.into(), 0.into()).await;
    replace(&pair.from, "words", "été".into(), "ETE".into()).await;
    let one: Decimal128 = "1.0".parse().unwrap();
    replace(&pair.from, "nested", nested(1.into()), nested(one.into())).await;
    // Both in one transaction.
    let mut session = pair.from.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let committed = db.collection::<Document>("committed");
    committed.delete_one(doc! {"_id": 0}).session(&mut session).await.unwrap();
    committed.insert_one(doc! {"_id": 0, "came": "back"}).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    let expected = compare::state(&pair.from).await;
    gate.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    for (name, documents) in [
        ("same", 240),
        ("number", 240),
        ("committed", 240),
        ("untouched", 240),
        ("split", 700),
        ("words", 241),
        ("nested", 241),
    ] {
        assert_eq!(assert_once(&pair, &manifest, &format!("d.{name}"), &log).await, documents, "{name}");
    }
    let again = |name: &str| log.iter().any(|l| l.starts_with(&format!("d.{name} is read again")));
    assert!(again("same") && again("number") && again("committed") && again("words") && again("nested"), "{log:#?}");
    assert!(!again("untouched") && !again("split"), "{log:#?}");
    assert_restores(&pair, &manifest, &expected).await;
}

/// As it was found: a slow storage, and one document.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backup_holds_a_document_once() {
    let pair = Pair::start().await;
    let collection = pair.from.database("d").collection::<Document>("c");
    let mut state = 1_u64;
    for batch in 0..20 {
        let documents = (0..1000).map(|n| {
            let text: String = (0..190)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    format!("{state:016x}")
                })
                .collect();
            doc! {"_id": batch * 1000 + n, "text": text}
        });
        collection.insert_many(documents.collect::<Vec<_>>()).await.unwrap();
    }
    let storage = folder(pair.dir.path()).await;
    let slow: Arc<dyn Storage> =
        Arc::new(Throttled::new(storage, Limiter::new(BandwidthLimit::parse("6MB", chrono_tz::Tz::UTC).unwrap())));
    let running = start(&pair.source.uri(), slow, dump_request("slow"), Limits::default()).await;
    while running.ctx.meter.snapshot().bytes_done < 1_000_000 {
        tokio::task::yield_now().await;
    }
    replace(&pair.from, "c", 0.into(), 0.into()).await;
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    assert_eq!(assert_once(&pair, &manifest, "d.c", &log).await, 20_000);
    assert_restores(&pair, &manifest, &compare::state(&pair.from).await).await;
}

/// Without any brake: one writer that deletes and inserts all the time, also into a capped collection of few ids.
#[tokio::test(flavor = "multi_thread")]
async fn writers_that_delete_and_insert_again() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    db.run_command(doc! {"create": "ring", "capped": true, "size": 1 << 20, "max": 500}).await.unwrap();
    let text = "x".repeat(1000);
    for batch in 0..20 {
        let documents = (0..1000).map(|n| doc! {"_id": batch * 1000 + n, "text": &text});
        db.collection("c").insert_many(documents.collect::<Vec<_>>()).await.unwrap();
    }
    db.collection("ring").insert_many((0..500).map(|n| doc! {"_id": n}).collect::<Vec<_>>()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (client, stopped) = (pair.from.clone(), Arc::clone(&stop));
    let writer = tokio::spawn(async move {
        let db = client.database("d");
        let (c, ring) = (db.collection::<Document>("c"), db.collection::<Document>("ring"));
        let mut n = 50;
        while !stopped.load(Ordering::Relaxed) {
            let id = n * 7919 % 20_000;
            c.delete_one(doc! {"_id": id}).await.unwrap();
            c.insert_one(doc! {"_id": id, "text": &text, "n": n}).await.unwrap();
            ring.insert_many((0..10).map(|i| doc! {"_id": (n * 10 + i) % 700, "n": n}).collect::<Vec<_>>())
                .await
                .unwrap();
            n += 1;
        }
    });
    let storage = folder(pair.dir.path()).await;
    for n in 0..3 {
        let request_ = dump_request(&format!("writers{n}"));
        let running = start(&pair.source.uri(), Arc::clone(&storage), request_, Limits::default()).await;
        let (manifest, log) = running.done().await;
        let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
        assert_once(&pair, &manifest, "d.c", &log).await;
        assert_once(&pair, &manifest, "d.ring", &log).await;
        pair.restore(&manifest, &request()).await.unwrap();
        let count = pair.to.database("d").collection::<Document>("c").count_documents(doc! {}).await.unwrap();
        assert!((19_999..=20_000).contains(&count), "{count}");
        let ring = pair.to.database("d").collection::<Document>("ring").count_documents(doc! {}).await.unwrap();
        assert_eq!(ring, 500);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

/// In a capped collection the oldest go, and their `_id` comes again at the other end.
#[tokio::test(flavor = "multi_thread")]
async fn a_capped_collection_is_read_up_to_what_was_its_newest() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    for name in ["turns", "rolls", "loses", "deleted"] {
        db.run_command(doc! {"create": name, "capped": true, "size": 24_100_000, "max": 240}).await.unwrap();
        fill(&pair.from, "d", name, 24).await;
    }
    let storage = folder(pair.dir.path()).await;
    let (gated, gate) = hooked(&storage, Gate::new(&["/turns/", "/rolls/", "/loses/", "/deleted/"]));
    let running = start(&pair.source.uri(), gated, dump_request("ring"), Limits::default()).await;
    gate.all_held().await;
    let put = async |name: &str, ids: std::ops::Range<i32>, came: &str| {
        for id in ids {
            db.collection::<Document>(name).insert_one(doc! {"_id": id, "came": came}).await.unwrap();
        }
    };
    // One goes for it, and comes again.
    put("turns", 1000..1001, "new").await;
    put("turns", 0..1, "back").await;
    // All that was there is gone: once over, and with the ids that were there.
    put("rolls", 1000..1240, "new").await;
    put("rolls", 0..240, "back").await;
    // What the cursor stands on is gone, but not the newest.
    put("loses", 1000..1200, "new").await;
    // The newest is deleted, and comes again.
    let deleted = db.collection::<Document>("deleted");
    deleted.delete_one(doc! {"_id": 239}).await.unwrap();
    deleted.delete_one(doc! {"_id": 0}).await.unwrap();
    put("deleted", 0..1, "back").await;
    put("deleted", 239..240, "back").await;
    let expected = compare::state(&pair.from).await;
    gate.open();
    let (manifest, log) = running.done().await;
    let manifest = manifest.unwrap_or_else(|e| panic!("{e:?} {log:#?}"));
    for name in ["turns", "rolls", "loses", "deleted"] {
        assert_once(&pair, &manifest, &format!("d.{name}"), &log).await;
    }
    assert_eq!(entry(&manifest, "d.rolls").documents, 0, "{log:#?}");
    assert_restores(&pair, &manifest, &expected).await;
}
