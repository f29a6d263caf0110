//! Restoring what changed while it was read: whatever was seen before a change or after, the end is the same.

use mongodb::bson::{Bson, Decimal128, Document, Timestamp as T, doc};
use mongokeep::error::ErrorKind;

use crate::support;
use crate::support::compare;
use crate::support::pair::{Pair, request};
use crate::support::recording::{Recording, folder};

#[tokio::test(flavor = "multi_thread")]
async fn changes_during_the_reading_end_up_once() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    let c = db.collection::<Document>("c");
    c.insert_many((0..1000).map(|n| doc! {"_id": n, "v": 0, "list": [1, 2, 3], "sub": {"x": 1}})).await.unwrap();
    db.collection::<Document>("renamed_later").insert_many((0..10).map(|n| doc! {"_id": n})).await.unwrap();
    db.collection::<Document>("dropped_later").insert_one(doc! {"_id": 1}).await.unwrap();
    db.collection::<Document>("overwritten").insert_one(doc! {"_id": "old"}).await.unwrap();

    let mut recording = Recording::begin(&pair.from).await;
    // Before anything is read: changes that are in the parts as well as in the oplog.
    c.update_many(doc! {"_id": {"$lt": 500}}, doc! {"$inc": {"v": 1}, "$push": {"list": 4}}).await.unwrap();
    // Updated, then gone: the update finds nothing when it is replayed.
    c.delete_many(doc! {"_id": {"$lt": 100}}).await.unwrap();
    // An older difference is applied to a newer form of the document.
    c.update_many(doc! {"_id": {"$gte": 400}}, doc! {"$set": {"sub.x": 2}}).await.unwrap();
    c.update_many(doc! {"_id": {"$gte": 450}}, doc! {"$set": {"sub": 5}}).await.unwrap();
    for name in ["c", "renamed_later", "dropped_later", "overwritten"] {
        recording.read("d", name).await;
    }
    c.update_many(doc! {"_id": {"$gte": 900}}, doc! {"$inc": {"v": 1}}).await.unwrap();
    c.insert_many((2000..3000).map(|n| doc! {"_id": n})).await.unwrap();
    c.delete_many(doc! {"_id": {"$gte": 2500}}).await.unwrap();
    c.replace_one(doc! {"_id": 901}, doc! {"_id": 901, "whole": true}).await.unwrap();
    db.collection::<Document>("dropped_later").insert_one(doc! {"_id": 2}).await.unwrap();
    db.collection::<Document>("dropped_later").drop().await.unwrap();
    db.collection::<Document>("renamed_later")
        .create_index(mongodb::IndexModel::builder().keys(doc! {"z": 1}).build())
        .await
        .unwrap();
    let admin = pair.from.database("admin");
    admin
        .run_command(doc! {"renameCollection": "d.renamed_later", "to": "d.overwritten", "dropTarget": true})
        .await
        .unwrap();
    db.collection::<Document>("overwritten").insert_one(doc! {"_id": 77}).await.unwrap();
    // Created within the range, by an aggregation too.
    db.collection::<Document>("fresh").insert_one(doc! {"_id": 1}).await.unwrap();
    c.aggregate([doc! {"$match": {"v": 1}}, doc! {"$out": "out"}]).await.unwrap();
    pair.round_trip(recording, "changes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_ids_of_other_types_stay_in_order() {
    let pair = Pair::start().await;
    let c = pair.from.database("d").collection::<Document>("c");
    c.insert_one(doc! {"_id": "first"}).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    for n in 0..300i32 {
        let forms: [Bson; 4] = [
            n.into(),
            i64::from(n).into(),
            f64::from(n).into(),
            Bson::Decimal128(n.to_string().parse::<Decimal128>().unwrap()),
        ];
        for (i, id) in forms.iter().enumerate() {
            c.insert_one(doc! {"_id": id.clone(), "i": i as i32}).await.unwrap();
            c.update_one(doc! {"_id": id.clone()}, doc! {"$inc": {"i": 10}}).await.unwrap();
            if i < 3 {
                c.delete_one(doc! {"_id": n}).await.unwrap();
            }
        }
    }
    pair.round_trip(recording, "keys").await;
}

/// One batch that changes documents that are there, and some that are not.
#[tokio::test(flavor = "multi_thread")]
async fn what_finds_nothing_takes_nothing_else_with_it() {
    let pair = Pair::start().await;
    let c = pair.from.database("d").collection::<Document>("c");
    c.insert_many((0..100).map(|n| doc! {"_id": n, "v": 0})).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    for n in 0..100 {
        c.update_one(doc! {"_id": n}, doc! {"$inc": {"v": 1}}).await.unwrap();
        c.insert_one(doc! {"_id": 1000 + n}).await.unwrap();
        c.update_one(doc! {"_id": 99 - n}, doc! {"$set": {"w": n}}).await.unwrap();
    }
    c.delete_many(doc! {"_id": {"$mod": [3, 0]}}).await.unwrap();
    recording.read("d", "c").await;
    for n in 0..100 {
        c.update_one(doc! {"_id": n}, doc! {"$inc": {"v": 1}}).await.unwrap();
    }
    pair.round_trip(recording, "misses").await;
}

/// The document that was read has an `_id` equal to that of one which the oplog stores first, and not the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_comes_back_in_another_form() {
    let pair = Pair::start().await;
    let recording = support::recording::other_forms(&pair.from).await;
    pair.round_trip(recording, "forms").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_timestamps_survive() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    let c = db.collection::<Document>("c");
    let zero = T { time: 0, increment: 0 };
    let keep = async |id: i32| {
        // The only way to store one: a replacement by an expression.
        c.insert_one(doc! {"_id": id}).await.unwrap();
        let whole = doc! {"_id": id, "a": zero, "sub": {"t": zero}, "z": zero};
        c.update_one(doc! {"_id": id}, vec![doc! {"$replaceRoot": {"newRoot": {"$literal": whole}}}]).await.unwrap();
    };
    keep(1).await;
    // So that the oplog kept begins after it: the first document comes from the parts alone.
    c.insert_one(doc! {"_id": 0}).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    keep(2).await;
    let stored = c.find_one(doc! {"_id": 2}).await.unwrap().unwrap();
    assert_eq!(stored.get_timestamp("a").unwrap(), zero);
    pair.round_trip(recording, "zeros").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_take_effect_at_their_commit() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    let c = db.collection::<Document>("c");
    c.insert_one(doc! {"_id": 0, "n": 0}).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    let mut session = pair.from.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    c.update_one(doc! {"_id": 0}, doc! {"$inc": {"n": 1}}).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    // Over 16 MiB: several entries.
    session.start_transaction().await.unwrap();
    for id in 1..=24 {
        c.insert_one(doc! {"_id": id, "pad": "x".repeat(1 << 20)}).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    session.start_transaction().await.unwrap();
    c.insert_one(doc! {"_id": "aborted"}).session(&mut session).await.unwrap();
    session.abort_transaction().await.unwrap();
    // A collection created by a transaction.
    session.start_transaction().await.unwrap();
    db.collection::<Document>("made").insert_one(doc! {"_id": 1}).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    // Prepared: one that commits, one that aborts, one that stays open.
    let admin = pair.from.database("admin");
    let majority = doc! {"w": "majority"};
    let prepare = async |n: i32| {
        let mut session = pair.from.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        c.insert_one(doc! {"_id": format!("prepared {n}")}).session(&mut session).await.unwrap();
        let command = doc! {"prepareTransaction": 1, "writeConcern": majority.clone()};
        let reply = admin.run_command(command).session(&mut session).await.unwrap();
        (session, reply.get_timestamp("prepareTimestamp").unwrap())
    };
    let (mut one, at) = prepare(1).await;
    c.insert_one(doc! {"_id": "between"}).await.unwrap();
    let commit = doc! {"commitTransaction": 1, "commitTimestamp": at, "writeConcern": majority.clone()};
    admin.run_command(commit).session(&mut one).await.unwrap();
    let (mut two, _) = prepare(2).await;
    two.abort_transaction().await.unwrap();
    pair.round_trip(recording, "transactions").await;

    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("d").await;
    let expected = compare::state(&pair.from).await;
    let (mut three, _) = prepare(3).await;
    let manifest = recording.end(&folder(pair.dir.path()).await, "open").await;
    pair.restore(&manifest, &request()).await.unwrap();
    three.abort_transaction().await.unwrap();
    compare::assert_same(&expected, &compare::state(&pair.to).await, "an open transaction is left out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_document_is_not_papered_over() {
    let pair = Pair::start().await;
    let c = pair.from.database("d").collection::<Document>("c");
    c.insert_one(doc! {"_id": 1}).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    c.insert_one(doc! {"_id": 2}).await.unwrap();
    c.update_one(doc! {"_id": 2}, doc! {"$set": {"x": 1}}).await.unwrap();
    // Begins too late for the second document's insert.
    let mut late = Recording::begin(&pair.from).await;
    std::mem::swap(&mut late, &mut recording);
    c.update_one(doc! {"_id": 2}, doc! {"$set": {"x": 2}}).await.unwrap();
    let early_parts_with_a_late_oplog = late.with_oplog_of(recording);
    let manifest = early_parts_with_a_late_oplog.end(&folder(pair.dir.path()).await, "lost").await;
    let error = pair.restore(&manifest, &request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.full().contains("lacks a document of d.c"), "{error}");
    assert!(error.hint_text().unwrap().contains("Incomplete: d.c"), "{error:?}");
}

/// Another tool's books on the same server are in its oplog, and in no backup.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_what_no_backup_holds_are_left_out() {
    let pair = Pair::start().await;
    let books = pair.from.database("admin").collection::<Document>("pbmAgents");
    let c = pair.from.database("d").collection::<Document>("c");
    books.insert_one(doc! {"_id": 1, "seen": 0}).await.unwrap();
    c.insert_one(doc! {"_id": 1}).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    books.update_one(doc! {"_id": 1}, doc! {"$inc": {"seen": 1}}).await.unwrap();
    c.insert_one(doc! {"_id": 2}).await.unwrap();
    // A comparison of the members writes commands into the oplog that change nothing.
    // The driver takes its reply, in which `ok` is a boolean, for none.
    let _ = pair.from.database("d").run_command(doc! {"dbCheck": "c"}).await;
    let oplog = pair.from.database("local").collection::<Document>("oplog.rs");
    let began = std::time::Instant::now();
    while oplog.find_one(doc! {"o.dbCheck": {"$exists": true}}).await.unwrap().is_none() {
        assert!(began.elapsed() < std::time::Duration::from_secs(180), "it never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    pair.round_trip(recording, "books").await;
    let admin = pair.to.database("admin").list_collection_names().await.unwrap();
    assert!(!admin.iter().any(|name| name.starts_with("pbm")), "{admin:?}");
}

/// What an insert pushes out of a capped collection depends on its bounds at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_capped_collection_whose_bounds_change() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    let put = async |name: &str, ids: std::ops::Range<i32>| {
        for n in ids {
            db.collection::<Document>(name).insert_one(doc! {"_id": n}).await.unwrap();
        }
    };
    let bound = async |name: &str, max: i32| {
        db.run_command(doc! {"collMod": name, "cappedMax": max}).await.unwrap();
    };
    let before = ["narrow", "narrow_in_bytes", "wide_again"];
    for name in ["shrunk", "grown", "both", "read_late"].iter().chain(&before) {
        db.run_command(doc! {"create": *name, "capped": true, "size": 8192, "max": 6}).await.unwrap();
        put(name, 0..8).await;
    }
    // Before anything is recorded: more than they may hold is there, until the next insert.
    bound("narrow", 2).await;
    let large = doc! {"_id": "large", "p": "x".repeat(4000)};
    db.collection::<Document>("narrow_in_bytes").insert_one(large).await.unwrap();
    db.run_command(doc! {"collMod": "narrow_in_bytes", "cappedSize": 4096}).await.unwrap();
    bound("wide_again", 2).await;
    let mut recording = Recording::begin(&pair.from).await;
    // Before it is read: in its definition, and in the oplog as well.
    bound("read_late", 3).await;
    put("read_late", 8..10).await;
    bound("read_late", 10).await;
    put("read_late", 10..14).await;
    for name in ["shrunk", "grown", "both", "read_late"].iter().chain(&before) {
        recording.read("d", name).await;
    }
    bound("wide_again", 9).await;
    put("wide_again", 8..10).await;
    // All are kept until the next insert.
    bound("shrunk", 2).await;
    put("grown", 8..12).await;
    bound("grown", 20).await;
    put("grown", 12..18).await;
    bound("both", 2).await;
    put("both", 8..10).await;
    bound("both", 5).await;
    put("both", 10..12).await;
    put("read_late", 14..30).await;
    db.run_command(doc! {"create": "new", "capped": true, "size": 8192, "max": 3}).await.unwrap();
    put("new", 0..5).await;
    db.run_command(doc! {"collMod": "new", "cappedMax": 9, "cappedSize": 4096}).await.unwrap();
    put("new", 5..9).await;
    pair.round_trip(recording, "bounds").await;
}

/// The same `_id` again in a capped collection: what was loaded is the older document.
#[tokio::test(flavor = "multi_thread")]
async fn a_capped_document_that_is_deleted_and_inserted_again() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    for name in ["other", "same", "updated"] {
        db.run_command(doc! {"create": name, "capped": true, "size": 8192}).await.unwrap();
        db.collection::<Document>(name).insert_one(doc! {"_id": 0, "n": 0}).await.unwrap();
    }
    let mut recording = Recording::begin(&pair.from).await;
    for name in ["other", "same", "updated"] {
        db.collection::<Document>(name).insert_one(doc! {"_id": 1, "n": 5}).await.unwrap();
    }
    let updated = db.collection::<Document>("updated");
    updated.update_one(doc! {"_id": 1}, doc! {"$set": {"n": 6}}).await.unwrap();
    for name in ["other", "same", "updated"] {
        recording.read("d", name).await;
    }
    for (name, n) in [("other", 23), ("same", 5), ("updated", 7)] {
        let c = db.collection::<Document>(name);
        c.delete_one(doc! {"_id": 1}).await.unwrap();
        c.insert_one(doc! {"_id": 2, "n": 1}).await.unwrap();
        c.insert_one(doc! {"_id": 1, "n": n}).await.unwrap();
    }
    pair.round_trip(recording, "again").await;
}

/// Backups of earlier versions hold a document twice that was deleted and inserted again while they were read.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_parts_twice_is_restored_once() {
    let pair = Pair::start().await;
    let recording = support::recording::doubles(&pair.from).await;
    pair.round_trip(recording, "twice").await;
}

/// The same in a capped collection: by hand, and by going round.
#[tokio::test(flavor = "multi_thread")]
async fn a_capped_document_that_stands_in_the_parts_twice() {
    let pair = Pair::start().await;
    let db = pair.from.database("d");
    for name in ["by_hand", "round"] {
        db.run_command(doc! {"create": name, "capped": true, "size": 8192, "max": 10}).await.unwrap();
        db.collection(name).insert_many((0..8).map(|n| doc! {"_id": n, "n": 0})).await.unwrap();
    }
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("d").await;
    let (by_hand, round) = (db.collection::<Document>("by_hand"), db.collection::<Document>("round"));
    by_hand.update_one(doc! {"_id": 3}, doc! {"$set": {"n": 5, "before": true}}).await.unwrap();
    by_hand.delete_one(doc! {"_id": 3}).await.unwrap();
    by_hand.insert_one(doc! {"_id": 8, "n": 0}).await.unwrap();
    let zero = mongodb::bson::Timestamp { time: 0, increment: 0 };
    by_hand.insert_one(doc! {"_id": 3, "n": 1, "t": zero}).await.unwrap();
    for n in 8..25 {
        round.insert_one(doc! {"_id": n % 13, "n": n}).await.unwrap();
    }
    for name in ["by_hand", "round"] {
        recording.read_on("d", name).await;
    }
    by_hand.insert_one(doc! {"_id": 9, "n": 0}).await.unwrap();
    round.insert_one(doc! {"_id": 12, "n": 100}).await.unwrap();
    pair.round_trip(recording, "capped-twice").await;
}
