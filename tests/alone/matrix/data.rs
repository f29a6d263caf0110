//! Data that is hard to keep, as far as a version knows it.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, RawArrayBuf, RawDocumentBuf, RawJavaScriptCodeWithScope, Timestamp,
    cstr, doc, rawdoc,
};
use mongodb::{Client, Database};

use super::ground::Stand;

/// The databases that [`fill`] makes.
pub const DATABASES: [&str; 3] = ["hard", "odd-é", "plain"];

/// Fills an empty server.
pub async fn fill(stand: &Stand) {
    let client = &stand.client;
    let hard = client.database("hard");
    documents(&hard).await;
    indexes(&hard).await;
    collections(&hard).await;
    if stand.is_at_least("5.0") {
        time_series(&hard).await;
    }
    if stand.is_at_least("6.0") {
        clustered(&hard).await;
    }
    odd_names(&client.database("odd-é")).await;
    many(client).await;
}

async fn run(db: &Database, command: Document) {
    let shown = command.to_string();
    db.run_command(command).await.unwrap_or_else(|e| panic!("{shown}: {e}"));
}

/// As a command: the driver's own insert would look into the documents.
async fn insert(db: &Database, collection: &str, documents: Vec<RawDocumentBuf>) {
    let mut array = RawArrayBuf::new();
    documents.into_iter().for_each(|document| array.push(document));
    let reply = db.run_raw_command(rawdoc! {"insert": collection, "documents": array}).await.unwrap();
    assert!(!reply.contains_key("writeErrors"), "{collection}: {reply}");
}

async fn documents(db: &Database) {
    let ids = [
        Bson::Int32(1),
        Bson::Int64(2),
        Bson::Double(2.5),
        Bson::Double(f64::NAN),
        Bson::Double(f64::NEG_INFINITY),
        Bson::Decimal128("12345678901234567890.5".parse::<Decimal128>().unwrap()),
        Bson::String("text".into()),
        Bson::String("with\0nul".into()),
        Bson::Document(doc! {"b": 1, "a": [2]}),
        Bson::Boolean(true),
        Bson::Null,
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Timestamp(Timestamp { time: 7, increment: 3 }),
        Bson::DateTime(DateTime::from_millis(-1)),
        Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![9; 16] }),
    ];
    let mut documents: Vec<RawDocumentBuf> = Vec::new();
    for id in ids {
        let mut document = RawDocumentBuf::try_from(&doc! {"_id": id}).unwrap();
        document.append(cstr!("a.b"), 1);
        document.append(cstr!("$x"), 2);
        document.append(cstr!(""), 3);
        document.append(cstr!("twice"), 1);
        document.append(cstr!("twice"), 2);
        document.append(cstr!("never"), Timestamp { time: 0, increment: 0 });
        document.append(cstr!("code"), RawJavaScriptCodeWithScope { code: "1".into(), scope: rawdoc! {"x": 1} });
        documents.push(document);
    }
    // Field names with `$` and `.` came with 5.0; before, the server refuses them in an insert.
    let plain = |document: &RawDocumentBuf| {
        let mut plain = RawDocumentBuf::new();
        for element in document.iter() {
            let (key, value) = element.unwrap();
            if !key.as_str().contains(['$', '.']) {
                plain.append(key, value);
            }
        }
        plain
    };
    let mut array = RawArrayBuf::new();
    documents.iter().for_each(|document| array.push(document.clone()));
    let reply = db.run_raw_command(rawdoc! {"insert": "documents", "documents": array}).await;
    if reply.is_ok_and(|reply| !reply.contains_key("writeErrors")) {
        return;
    }
    run(db, doc! {"delete": "documents", "deletes": [{"q": {}, "limit": 0}]}).await;
    insert(db, "documents", documents.iter().map(plain).collect()).await;
}

async fn indexes(db: &Database) {
    run(db, doc! {"create": "indexed"}).await;
    let documents = (0..200).map(|i| {
        rawdoc! {"_id": i, "a": i % 7, "b": [i, i + 1], "t": "some words here", "p": [i % 90, i % 45], "u": i, "d": {"e": i}}
    });
    insert(db, "indexed", documents.collect()).await;
    let indexes = vec![
        doc! {"key": {"a": 1, "b": -1}, "name": "compound"},
        doc! {"key": {"u": 1}, "name": "unique", "unique": true},
        doc! {"key": {"s": 1}, "name": "sparse", "sparse": true},
        doc! {"key": {"a": 1}, "name": "partial", "partialFilterExpression": {"a": {"$gt": 3}}},
        doc! {"key": {"t": "text"}, "name": "text", "weights": {"t": 3}, "default_language": "english"},
        doc! {"key": {"p": "2d"}, "name": "flat", "bits": 20},
        doc! {"key": {"p": "2dsphere"}, "name": "sphere"},
        doc! {"key": {"_id": "hashed"}, "name": "hashed"},
        doc! {"key": {"d.$**": 1}, "name": "wildcard"},
        doc! {"key": {"until": 1}, "name": "ttl", "expireAfterSeconds": 3600},
        doc! {"key": {"a": -1}, "name": "collated", "collation": {"locale": "fr", "strength": 2}},
        doc! {"key": {"h": 1}, "name": "hidden", "hidden": true},
    ];
    run(db, doc! {"createIndexes": "indexed", "indexes": indexes}).await;
    run(db, doc! {"create": "accents", "collation": {"locale": "fr", "strength": 1}}).await;
    insert(db, "accents", ["a", "b", "ça"].into_iter().map(|id| rawdoc! {"_id": id, "x": id}).collect()).await;
    let own = vec![
        doc! {"key": {"x": 1}, "name": "simple", "collation": {"locale": "simple"}},
        doc! {"key": {"y": 1}, "name": "own"},
    ];
    run(db, doc! {"createIndexes": "accents", "indexes": own}).await;
}

async fn collections(db: &Database) {
    run(db, doc! {"create": "capped", "capped": true, "size": 8192, "max": 20}).await;
    for i in 0..50 {
        insert(db, "capped", vec![rawdoc! {"_id": i, "text": "something to fill it with"}]).await;
    }
    let validator = doc! {"$jsonSchema": {"required": ["a"], "properties": {"a": {"bsonType": "int"}}}};
    run(db, doc! {"create": "valid"}).await;
    insert(db, "valid", vec![rawdoc! {"_id": 1, "wrong": true}]).await;
    run(db, doc! {"collMod": "valid", "validator": validator, "validationAction": "error"}).await;
    run(db, doc! {"create": "view", "viewOn": "indexed", "pipeline": [{"$match": {"a": {"$gt": 3}}}]}).await;
    run(db, doc! {"create": "view of a view", "viewOn": "view", "pipeline": []}).await;
    let collation = doc! {"locale": "fr"};
    run(db, doc! {"create": "view with a collation", "viewOn": "capped", "pipeline": [], "collation": collation}).await;
    let compressor = doc! {"wiredTiger": {"configString": "block_compressor=zlib"}};
    run(db, doc! {"create": "empty", "storageEngine": compressor}).await;
    run(db, doc! {"create": "Ünïcode.with dots"}).await;
    insert(db, "Ünïcode.with dots", vec![rawdoc! {"_id": 1}]).await;
    insert(db, "system.js", vec![rawdoc! {"_id": "f", "value": "function() { return 1 }"}]).await;
}

async fn odd_names(db: &Database) {
    let long = "l".repeat(200);
    let names =
        ["a b", "50%", "%2F", "\u{1b}[31mred", "日本", "a/b", "d.o.t.s", "+plus", "back\\slash", "new\nline", &long];
    for name in names {
        insert(db, name, vec![rawdoc! {"_id": name}]).await;
    }
}

async fn time_series(db: &Database) {
    let series = doc! {"timeField": "at", "metaField": "sensor", "granularity": "minutes"};
    run(db, doc! {"create": "series", "timeseries": series, "expireAfterSeconds": 1_000_000_000_i64}).await;
    let readings = (0..300_i64).map(|i| {
        rawdoc! {"at": DateTime::from_millis(1_700_000_000_000 + i * 10_000), "sensor": i as i32 % 3, "v": i as f64}
    });
    insert(db, "series", readings.collect()).await;
}

async fn clustered(db: &Database) {
    let key = doc! {"key": {"_id": 1}, "unique": true, "name": "clustered"};
    run(db, doc! {"create": "clustered", "clusteredIndex": key}).await;
    insert(db, "clustered", (0..50).map(|i| rawdoc! {"_id": i, "x": i}).collect()).await;
    let unique = doc! {"key": {"x": 1}, "name": "prepared", "prepareUnique": true};
    run(db, doc! {"createIndexes": "clustered", "indexes": [unique]}).await;
    let images = doc! {"enabled": true};
    run(db, doc! {"create": "images", "changeStreamPreAndPostImages": images}).await;
    insert(db, "images", vec![rawdoc! {"_id": 1}]).await;
}

/// Enough for several replies of the server, in a collection that is split.
async fn many(client: &Client) {
    let db = client.database("plain");
    let filler = "x".repeat(900);
    for chunk in 0..8 {
        let documents = (0..500).map(|i| rawdoc! {"_id": chunk * 500 + i, "filler": filler.as_str()});
        insert(&db, "many", documents.collect()).await;
    }
}
