//! Every kind of collection, option and index comes back as it was.

use mongodb::bson::{Bson, Document, doc};
use mongokeep::domain::restore::RestoreRequest;

use crate::support::compare;
use crate::support::pair::{Pair, request};
use crate::support::recording::{Recording, folder};

async fn run(client: &mongodb::Client, db: &str, command: Document) -> Document {
    let shown = command.to_string();
    client.database(db).run_command(command).await.unwrap_or_else(|e| panic!("{shown}: {e}"))
}

async fn insert(client: &mongodb::Client, db: &str, name: &str, documents: Vec<Document>) {
    let documents: Vec<Bson> = documents.into_iter().map(Bson::Document).collect();
    run(client, db, doc! {"insert": name, "documents": documents, "bypassDocumentValidation": true}).await;
}

/// One of each, in database `d`.
async fn make_all(client: &mongodb::Client) {
    let make = async |command: Document| drop(run(client, "d", command).await);
    make(doc! {"create": "collated", "collation": {"locale": "de", "strength": 2}}).await;
    make(doc! {"create": "valid", "validator": {"a": {"$gt": 0}}, "validationLevel": "moderate", "validationAction": "error"}).await;
    make(doc! {"create": "clustered", "clusteredIndex": {"key": {"_id": 1}, "unique": true, "name": "by id"}}).await;
    make(doc! {"create": "clustered and capped", "clusteredIndex": {"key": {"_id": 1}, "unique": true}}).await;
    make(doc! {"convertToCapped": "clustered and capped", "size": 4096}).await;
    make(doc! {"collMod": "clustered and capped", "cappedMax": 10}).await;
    make(doc! {"create": "images", "changeStreamPreAndPostImages": {"enabled": true}}).await;
    make(doc! {"create": "capped", "capped": true, "size": 8192, "max": 40}).await;
    make(doc! {"create": "series", "timeseries": {"timeField": "t", "metaField": "m", "granularity": "minutes"}, "expireAfterSeconds": 1_000_000_000i64}).await;
    make(doc! {"create": "empty"}).await;
    make(doc! {"create": "view", "viewOn": "valid", "pipeline": [{"$match": {"a": {"$regex": "^x"}}}], "collation": {"locale": "fr"}}).await;
    make(doc! {"create": "view of view", "viewOn": "view", "pipeline": [], "collation": {"locale": "fr"}}).await;
    insert(client, "d", "collated", (0..50).map(|n| doc! {"_id": format!("Ä{n}"), "n": n}).collect()).await;
    insert(client, "d", "valid", vec![doc! {"_id": 1, "a": -5, "u": 1}, doc! {"_id": 2, "a": "xyz", "u": 2}]).await;
    insert(client, "d", "clustered", (0..50).map(|n| doc! {"_id": n}).collect()).await;
    // More than its bounds: out of a clustered collection nothing rolls.
    insert(client, "d", "clustered and capped", (0..70).rev().map(|n| doc! {"_id": n, "p": "x".repeat(100)}).collect())
        .await;
    insert(client, "d", "capped", (0..70).map(|n| doc! {"_id": n, "p": "x".repeat(100)}).collect()).await;
    insert(client, "d", "system.js", vec![doc! {"_id": "f", "value": "1"}]).await;
    insert(client, "d", "images", vec![doc! {"_id": {"z": 1, "a": 2}}]).await;
    let now = mongodb::bson::DateTime::now();
    insert(client, "d", "series", (0..200).map(|n| doc! {"t": now, "m": {"s": n % 7}, "v": f64::from(n)}).collect())
        .await;
    let indexes = async |name: &str, specs: Vec<Document>| {
        let specs: Vec<Bson> = specs.into_iter().map(Bson::Document).collect();
        drop(run(client, "d", doc! {"createIndexes": name, "indexes": specs}).await);
    };
    indexes(
        "collated",
        vec![
            doc! {"key": {"n": 1}, "name": "inherits"},
            doc! {"key": {"n": 1, "x": 1}, "name": "simple", "collation": {"locale": "simple"}},
            doc! {"key": {"n": -1}, "name": "other", "collation": {"locale": "fr"}},
        ],
    )
    .await;
    indexes(
        "valid",
        vec![
            doc! {"key": {"a": 1}, "name": "hidden", "hidden": true, "sparse": true},
            doc! {"key": {"b": 1}, "name": "partial", "partialFilterExpression": {"b": {"$gt": 5i64}}},
            doc! {"key": {"c": "text", "d": 1}, "name": "text", "weights": {"c": 3}, "default_language": "german"},
            doc! {"key": {"_id": "hashed"}, "name": "hashed id"},
            doc! {"key": {"$**": 1}, "name": "wild", "wildcardProjection": {"q": 0}},
            doc! {"key": {"g": "2dsphere"}, "name": "geo"},
            doc! {"key": {"when": 1}, "name": "ttl", "expireAfterSeconds": 1_000_000},
            doc! {"key": {"u": 1.0}, "name": "prepared", "prepareUnique": true},
        ],
    )
    .await;
    indexes("series", vec![doc! {"key": {"m.s": 1, "t": -1}, "name": "by sensor"}]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_from_its_parts() {
    let pair = Pair::start().await;
    make_all(&pair.from).await;
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("d").await;
    let expected = compare::state(&pair.from).await;
    let manifest = recording.end(&folder(pair.dir.path()).await, "parts").await;
    pair.restore(&manifest, &request()).await.unwrap();
    compare::assert_same(&expected, &compare::state(&pair.to).await, "created");
    // Once more over what is there, with something in it that must go.
    for name in ["valid", "capped", "system.js"] {
        insert(&pair.to, "d", name, vec![doc! {"_id": "stray"}]).await;
    }
    let mut request = request();
    request.exact = true;
    pair.restore(&manifest, &request).await.unwrap();
    compare::assert_same(&expected, &compare::state(&pair.to).await, "replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_from_the_oplog_alone() {
    let pair = Pair::start().await;
    let recording = Recording::begin(&pair.from).await;
    make_all(&pair.from).await;
    // Changes of definitions, each in its own way of writing it into an oplog.
    let change = async |command: Document| drop(run(&pair.from, "d", command).await);
    change(doc! {"collMod": "valid", "validator": {"a": {"$lt": 9}}, "validationLevel": "strict"}).await;
    change(doc! {"collMod": "valid", "index": {"name": "hidden", "hidden": false}}).await;
    change(doc! {"collMod": "valid", "index": {"keyPattern": {"when": 1}, "expireAfterSeconds": 2_000_000i64}}).await;
    change(doc! {"collMod": "valid", "index": {"name": "prepared", "unique": true}}).await;
    change(doc! {"collMod": "images", "changeStreamPreAndPostImages": {"enabled": false}}).await;
    change(doc! {"collMod": "capped", "cappedSize": 16384}).await;
    change(doc! {"collMod": "series", "expireAfterSeconds": "off", "timeseries": {"granularity": "hours"}}).await;
    change(doc! {"collMod": "view", "viewOn": "collated", "pipeline": [{"$limit": 5}]}).await;
    change(doc! {"dropIndexes": "valid", "index": "geo"}).await;
    change(doc! {"convertToCapped": "images", "size": 100_000}).await;
    pair.round_trip(recording, "oplog").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capped_collection_that_rolled_over_keeps_its_order() {
    let pair = Pair::start().await;
    run(&pair.from, "d", doc! {"create": "capped", "capped": true, "size": 1 << 20, "max": 50}).await;
    let write = async |from: i32, to: i32| {
        insert(&pair.from, "d", "capped", (from..to).map(|n| doc! {"_id": n}).collect()).await
    };
    write(0, 40).await;
    let mut recording = Recording::begin(&pair.from).await;
    // All of these are in the oplog; the first ones have rolled out before the collection is read.
    write(40, 200).await;
    recording.read("d", "capped").await;
    write(200, 230).await;
    pair.round_trip(recording, "rolled").await;

    // Rolled over between the position the member promised and the reading itself. Replayed, document 0 would take the
    // place that a delete has made, and document 1 would have to go for document 2.
    run(&pair.from, "d", doc! {"create": "three", "capped": true, "size": 20480, "max": 3}).await;
    let mut recording = Recording::begin(&pair.from).await;
    for n in 0..4 {
        insert(&pair.from, "d", "three", vec![doc! {"_id": n}]).await;
    }
    run(&pair.from, "d", doc! {"delete": "three", "deletes": [{"q": {"_id": 2}, "limit": 1}]}).await;
    recording.read_database("d").await;
    recording.promise_only_what_was_before_the_oplog();
    pair.round_trip(recording, "promised").await;

    // Read while it rolled over, and nothing came since: more was read than it ever held.
    run(&pair.from, "d", doc! {"create": "busy", "capped": true, "size": 20480, "max": 3}).await;
    let put = async |ids: std::ops::Range<i32>| {
        for n in ids {
            insert(&pair.from, "d", "busy", vec![doc! {"_id": n}]).await;
        }
    };
    put(0..3).await;
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("d").await;
    put(3..5).await;
    recording.read_on("d", "busy").await;
    pair.round_trip(recording, "busy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_indexes_hold_only_at_the_end() {
    let pair = Pair::start().await;
    let c = pair.from.database("d").collection::<Document>("c");
    c.insert_many((0..20).map(|n| doc! {"_id": n, "u": n})).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    // The value moves from one document to another: replayed over what was read later, it would stand twice.
    c.delete_one(doc! {"_id": 3}).await.unwrap();
    c.update_one(doc! {"_id": 4}, doc! {"$set": {"u": 3}}).await.unwrap();
    c.insert_one(doc! {"_id": 30, "u": 4}).await.unwrap();
    run(&pair.from, "d", doc! {"createIndexes": "c", "indexes": [{"key": {"u": 1}, "name": "u", "unique": true}]})
        .await;
    // One that fails leaves nothing behind.
    c.insert_many([doc! {"_id": 40, "u": 40, "w": 1}, doc! {"_id": 41, "u": 41, "w": 1}]).await.unwrap();
    let failing = doc! {"createIndexes": "c", "indexes": [{"key": {"w": 1}, "name": "w", "unique": true}]};
    assert!(pair.from.database("d").run_command(failing).await.is_err());
    pair.round_trip(recording, "unique").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names() {
    let pair = Pair::start().await;
    let long = "l".repeat(220);
    let names =
        ["a b", "50%", "%2F", "\u{1b}[31mred", "日本", "a/b", "d.o.t.s", "+plus", "back\\slash", "new\nline", &long];
    for (n, name) in names.iter().enumerate() {
        insert(&pair.from, "odd-db_é", name, vec![doc! {"_id": n as i32}]).await;
    }
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("odd-db_é").await;
    for name in names {
        insert(&pair.from, "odd-db_é", name, vec![doc! {"_id": "later"}]).await;
    }
    pair.round_trip(recording, "odd").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_is_left_out_on_request_and_named() {
    let pair = Pair::start().await;
    let long_ago = mongodb::bson::DateTime::from_millis(1_000_000);
    run(&pair.from, "d", doc! {"createIndexes": "c", "indexes": [{"key": {"t": 1}, "name": "ttl", "expireAfterSeconds": 1_000_000_000}, {"key": {"x": 1}, "name": "x"}]}).await;
    run(
        &pair.from,
        "d",
        doc! {"create": "series", "timeseries": {"timeField": "t"}, "expireAfterSeconds": 1_000_000_000i64},
    )
    .await;
    insert(&pair.from, "d", "c", vec![doc! {"_id": 1, "x": long_ago}]).await;
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("d").await;
    let manifest = recording.end(&folder(pair.dir.path()).await, "ttl").await;
    let mut request = request();
    let plan = pair.plan(&manifest, &request).await.unwrap();
    assert!(plan.warnings.iter().any(|w| w.contains("2 collections have expiring documents")), "{plan:?}");
    request.no_ttl = true;
    let report = pair.restore(&manifest, &request).await.unwrap();
    let named: Vec<&str> = report.left_out.iter().map(|l| l.what.as_str()).collect();
    assert_eq!(named, ["index ttl of d.c", "expiry of d.series"]);
    let state = compare::state(&pair.to).await;
    assert_eq!(state["d.c"].indexes.keys().collect::<Vec<_>>(), ["_id_", "x"]);
    assert!(!state["d.series"].options.contains_key("expireAfterSeconds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_documents() {
    let pair = Pair::start().await;
    let c = pair.from.database("d").collection::<Document>("c");
    let largest = |id: i32| {
        let empty = doc! {"_id": id, "pad": ""}.to_vec().unwrap().len();
        doc! {"_id": id, "pad": "x".repeat(16_777_216 - empty)}
    };
    for document in [doc! {"_id": 0}, largest(1), doc! {"_id": 2}, largest(3), doc! {"_id": 4}] {
        c.insert_one(document).await.unwrap();
    }
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    c.insert_one(largest(5)).await.unwrap();
    c.replace_one(doc! {"_id": 4}, largest(4)).await.unwrap();
    c.update_one(doc! {"_id": 2}, doc! {"$set": {"pad": largest(2).get_str("pad").unwrap()}}).await.unwrap();
    pair.round_trip(recording, "largest").await;
}

/// Views of the target that go, or become others, have collations that the new ones may not be on, or below.
#[tokio::test(flavor = "multi_thread")]
async fn views_that_go_do_not_stand_in_the_way_of_others() {
    let pair = Pair::start().await;
    let view =
        |name: &str, on: &str, locale: &str| doc! {"create": name, "viewOn": on, "collation": {"locale": locale}};
    insert(&pair.from, "d", "c", vec![doc! {"_id": 1}]).await;
    for (name, on) in [("a", "gone"), ("m", "n"), ("n", "c"), ("z", "m")] {
        run(&pair.from, "d", view(name, on, "fr")).await;
    }
    for (name, on) in [("gone", "c"), ("n", "c"), ("m", "n"), ("over", "a"), ("under", "z")] {
        run(&pair.to, "d", view(name, on, "de")).await;
    }
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("d").await;
    let expected = compare::state(&pair.from).await;
    let manifest = recording.end(&folder(pair.dir.path()).await, "views").await;
    pair.restore(&manifest, &RestoreRequest { exact: true, ..request() }).await.unwrap();
    compare::assert_same(&expected, &compare::state(&pair.to).await, "views");
}

/// An application that goes on writing makes a collection anew as soon as it is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_anew_while_it_is_replaced_is_replaced() {
    let pair = Pair::start().await;
    let names: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
    for name in &names {
        insert(&pair.from, "d", name, vec![doc! {"_id": "restored"}]).await;
    }
    let mut recording = Recording::begin(&pair.from).await;
    let writer = tokio::spawn({
        let (db, names) = (pair.to.database("d"), names.clone());
        async move {
            for n in 0.. {
                for name in &names {
                    let _ = db.collection::<Document>(name).insert_one(doc! {"_id": n}).await;
                }
            }
        }
    });
    recording.read_database("d").await;
    let manifest = recording.end(&folder(pair.dir.path()).await, "busy").await;
    let there = async || pair.to.database("d").list_collection_names().await.unwrap().len();
    while there().await < names.len() {
        tokio::task::yield_now().await;
    }
    let plan = pair.plan(&manifest, &request()).await.unwrap();
    assert!(plan.warnings.iter().any(|w| w.starts_with("stop what writes to target first")), "{plan:?}");
    pair.execute(&manifest, &request(), &plan).await.unwrap();
    writer.abort();
    for name in &names {
        let found =
            pair.to.database("d").collection::<Document>(name).find_one(doc! {"_id": "restored"}).await.unwrap();
        assert!(found.is_some(), "{name}");
    }
}
