//! What a backup holds: every document byte for byte, once; options, indexes and views as they are; the rest named.

use mongodb::bson::{Bson, DateTime, Decimal128, Document, RawDocumentBuf, Timestamp, doc, oid::ObjectId};
use mongokeep::artifact::bson::{Writer, tag};
use mongokeep::domain::restore::CollectionKind;
use mongokeep::engine::Limits;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};

use crate::support;
use crate::support::dumps::{Folder, counted, documents, dump_ok, entry, live, names, request};

/// Inserts documents as bytes, past any library's idea of a document.
async fn insert(client: &mongodb::Client, db: &str, collection: &str, documents: &[Vec<u8>]) {
    let mut command = Writer::default();
    command.str("insert", collection).open(tag::ARRAY, "documents");
    for (i, document) in documents.iter().enumerate() {
        command.document(&i.to_string(), document);
    }
    command.close();
    let command = RawDocumentBuf::from_bytes(command.finish()).unwrap();
    let reply = client.database(db).run_raw_command(command).await.unwrap();
    assert!(reply.get("writeErrors").is_none(), "{reply}");
}

fn odd(id: i32) -> Writer {
    let mut writer = Writer::default();
    writer.i32("_id", id);
    writer
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_bytes() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let mut all = Vec::new();
    let mut twice = odd(1);
    twice.i32("a", 1).i32("a", 2).str("a", "three").raw(tag::INT32, b"", &5_i32.to_le_bytes());
    all.push(twice.finish());
    let mut names = odd(2);
    names.i32("$set", 1).i32("a.b", 2).open(tag::DOCUMENT, "d").i32("$where", 3).i32("x.y.z", 4).close();
    all.push(names.finish());
    let mut text = odd(3);
    text.raw(tag::STRING, b"bad", b"\x03\0\0\0\xff\xfe\0").raw(tag::INT32, b"\xc3\x28", &1_i32.to_le_bytes());
    text.str("escape", "\u{1b}[2J").str("zero", "a\0b");
    all.push(text.finish());
    let mut old = odd(4);
    old.raw(0x06, b"undefined", b"").raw(tag::SYMBOL, b"symbol", b"\x02\0\0\0s\0");
    old.raw(tag::DB_POINTER, b"pointer", b"\x02\0\0\0q\x00123456789012");
    old.raw(tag::CODE_WITH_SCOPE, b"scope", b"\x10\0\0\0\x03\0\0\0f(\0\x05\0\0\0\0");
    old.raw(tag::BINARY, b"old", b"\x05\0\0\0\x02\x01\0\0\0z").raw(tag::REGEX, b"re", b"a\0i\0");
    all.push(old.finish());
    let mut numbers = odd(5);
    numbers.raw(tag::DOUBLE, b"nan", &0x7ff8_0000_dead_beef_u64.to_le_bytes());
    numbers.raw(tag::DOUBLE, b"-nan", &0xfff8_0000_0000_0001_u64.to_le_bytes());
    numbers.raw(tag::DOUBLE, b"-0", &(-0.0_f64).to_le_bytes());
    numbers.raw(tag::DECIMAL, b"decimal", &[7; 16]).raw(0xff, b"min", b"").raw(0x7f, b"max", b"");
    all.push(numbers.finish());
    insert(&client, "odd", "documents", &all).await;
    // As large as the server takes: 16 MiB to the byte.
    let mut large = odd(6);
    let room = (16 << 20) - large.len() - 1 - "text".len() - 2 - 5;
    large.str("text", &"x".repeat(room));
    let large = large.finish();
    assert_eq!(large.len(), 16_777_216);
    insert(&client, "odd", "large", std::slice::from_ref(&large)).await;

    for compression in ["zstd:1", "gzip:6", "none"] {
        let folder = Folder::new();
        let mut request = request("bytes");
        request.compression = compression.parse().unwrap();
        let manifest = dump_ok(&set, &folder, &request, Limits::default()).await;
        let held = documents(&folder, &manifest, &entry(&manifest, "odd.documents").parts).await;
        assert_eq!(held, all, "{compression}");
        let held = documents(&folder, &manifest, &entry(&manifest, "odd.large").parts).await;
        assert!(held.len() == 1 && held[0] == large, "{compression}");
    }
}

/// One `_id` of every type a server accepts, several of some.
fn ids() -> Vec<Vec<u8>> {
    let values: Vec<Bson> = vec![
        Bson::MinKey,
        Bson::Null,
        Bson::Int32(-5),
        Bson::Int64(7),
        Bson::Double(7.5),
        Bson::Double(f64::NAN),
        Bson::Double(f64::NEG_INFINITY),
        "1E+6000".parse::<Decimal128>().unwrap().into(),
        Bson::String(String::new()),
        Bson::String("text".into()),
        Bson::Symbol("symbol".into()),
        Bson::Document(doc! {}),
        Bson::Document(doc! {"a": 1, "b": [1, 2]}),
        Bson::Binary(mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] }),
        Bson::from(mongodb::bson::Uuid::from_bytes([3; 16])),
        Bson::ObjectId(ObjectId::from_bytes([9; 12])),
        Bson::Boolean(false),
        Bson::Boolean(true),
        Bson::DateTime(DateTime::from_millis(-1)),
        Bson::DateTime(DateTime::from_millis(1)),
        Bson::Timestamp(Timestamp { time: 1, increment: 1 }),
        Bson::JavaScriptCode("f()".into()),
        Bson::JavaScriptCodeWithScope(mongodb::bson::JavaScriptCodeWithScope {
            code: "g()".into(),
            scope: doc! {"x": 1},
        }),
        Bson::MaxKey,
    ];
    let mut all: Vec<Vec<u8>> =
        values.into_iter().enumerate().map(|(n, id)| doc! {"_id": id, "n": n as i32}.to_vec().unwrap()).collect();
    // A string that is no UTF-8, and the oldest types of all.
    for (tag, value) in [(tag::STRING, &b"\x03\0\0\0\xff\xfe\0"[..]), (tag::DB_POINTER, b"\x02\0\0\0q\x00123456789012")]
    {
        let mut writer = Writer::default();
        writer.raw(tag, b"_id", value).i32("n", -1);
        all.push(writer.finish());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_collection_holds_every_document_once() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let db = client.database("split");
    insert(&client, "split", "types", &ids()).await;
    // The same under a collation, in which the order of strings is another.
    db.create_collection("collated")
        .collation(
            mongodb::options::Collation::builder()
                .locale("en")
                .strength(mongodb::options::CollationStrength::Secondary)
                .build(),
        )
        .await
        .unwrap();
    let words: Vec<Vec<u8>> =
        (0..500).map(|n| doc! {"_id": format!("{}{n}", ["a", "B", "c", "Z", "é"][n % 5])}.to_vec().unwrap()).collect();
    insert(&client, "split", "collated", &words).await;
    let numbers: Vec<Vec<u8>> = (0..1000).map(|n| doc! {"_id": n, "text": "x".repeat(50)}.to_vec().unwrap()).collect();
    insert(&client, "split", "numbers", &numbers).await;
    db.run_command(doc! {"create": "clustered", "clusteredIndex": {"key": {"_id": 1}, "unique": true}}).await.unwrap();
    insert(&client, "split", "clustered", &numbers[..500]).await;
    db.run_command(doc! {"create": "series", "timeseries": {"timeField": "t", "metaField": "m"}}).await.unwrap();
    let points: Vec<Document> =
        (0..1000).map(|n| doc! {"t": DateTime::from_millis(n * 60_000), "m": n % 97, "v": n}).collect();
    db.collection::<Document>("series").insert_many(points).await.unwrap();

    let folder = Folder::new();
    let limits = Limits { split_bytes: 100, part_bytes: 4000, ..Limits::default() };
    let manifest = dump_ok(&set, &folder, &request("split"), limits).await;
    for (name, stored) in [
        ("types", "types"),
        ("collated", "collated"),
        ("numbers", "numbers"),
        ("clustered", "clustered"),
        ("series", "system.buckets.series"),
    ] {
        let entry = entry(&manifest, &format!("split.{name}"));
        let expected = counted(live(&client, "split", stored).await);
        let held = counted(documents(&folder, &manifest, &entry.parts).await);
        assert_eq!(held.len(), expected.len(), "{name}");
        assert!(held == expected, "{name}: a document stands twice, or as another");
        assert_eq!(entry.documents as usize, expected.len());
        assert!(entry.parts.len() > 3, "{name} was not split: {} parts", entry.parts.len());
    }
    let series = entry(&manifest, "split.series");
    assert_eq!(series.kind, CollectionKind::Timeseries);
    assert!(series.uuid.is_some());
    assert!(!names(&manifest).iter().any(|n| n.contains("system.buckets")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capped_collection_keeps_its_natural_order() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let db = client.database("capped");
    db.run_command(doc! {"create": "ring", "capped": true, "size": 100_000}).await.unwrap();
    // Descending, so that any other order than the natural one shows; more than fits, so that it has wrapped around.
    let all: Vec<Document> = (0..5000).rev().map(|n| doc! {"_id": n, "text": "x".repeat(60)}).collect();
    db.collection::<Document>("ring").insert_many(all).await.unwrap();
    let folder = Folder::new();
    let limits = Limits { split_bytes: 1000, part_bytes: 5000, ..Limits::default() };
    let manifest = dump_ok(&set, &folder, &request("capped"), limits).await;
    let ring = entry(&manifest, "capped.ring");
    assert!(ring.capped && ring.parts.len() > 5 && ring.read_from_ts.t > 0);
    assert_eq!(documents(&folder, &manifest, &ring.parts).await, live(&client, "capped", "ring").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_what_the_server_says() {
    let set = ReplicaSet::start(&support::mongod().await, ReplicaSetOptions::default().test_commands()).await.unwrap();
    let client = set.client().await.unwrap();
    let db = client.database("shop");
    db.run_command(doc! {
        "create": "orders", "collation": {"locale": "fr"}, "validator": {"n": {"$gte": 0_i64}}, "validationLevel": "moderate",
    })
    .await
    .unwrap();
    db.run_command(doc! {"createIndexes": "orders", "indexes": [
        {"key": {"a": 1.0, "b": -1_i64}, "name": "mixed numbers", "hidden": true},
        {"key": {"_id": "hashed"}, "name": "hashed id"},
        {"key": {"s": 1}, "name": "simple", "collation": {"locale": "simple"}},
        {"key": {"e": 1}, "name": "ttl", "expireAfterSeconds": 3600, "partialFilterExpression": {"e": {"$exists": true}}},
    ]})
    .await
    .unwrap();
    db.collection::<Document>("orders").insert_one(doc! {"_id": 1, "n": 1}).await.unwrap();
    db.run_command(doc! {"create": "cheap", "viewOn": "orders", "pipeline": [{"$match": {"n": {"$lt": 5}}}]})
        .await
        .unwrap();
    client.database("empty").create_collection("nothing").await.unwrap();
    client.database("local").run_command(doc! {"insert": "mine", "documents": [{"_id": 1}]}).await.unwrap();
    client.database("admin").run_command(doc! {"createUser": "u", "pwd": "p", "roles": []}).await.unwrap();

    // An index that is still being built looks finished to listIndexes.
    let fail = |mode: &str| doc! {"configureFailPoint": "hangAfterStartingIndexBuild", "mode": mode};
    client.database("admin").run_command(fail("alwaysOn")).await.unwrap();
    let building = tokio::spawn({
        let db = db.clone();
        async move {
            db.run_command(doc! {"createIndexes": "orders", "indexes": [{"key": {"u": 1}, "name": "unfinished"}]}).await
        }
    });
    loop {
        let indexes = db.collection::<Document>("orders").list_index_names().await.unwrap();
        if indexes.iter().any(|n| n == "unfinished") {
            break;
        }
        tokio::task::yield_now().await;
    }
    let folder = Folder::new();
    let manifest = dump_ok(&set, &folder, &request("meta"), Limits::default()).await;
    client.database("admin").run_command(fail("off")).await.unwrap();
    building.await.unwrap().unwrap();

    let read = |ns: &str| {
        let path = folder.dir.path().join("prod/backups/meta").join(&entry(&manifest, ns).metadata.path);
        std::fs::read_to_string(path).unwrap()
    };
    let orders = read("shop.orders");
    for expected in [
        r#""collation":{"locale":"fr","#,
        r#""validator":{"n":{"$gte":{"$numberLong":"0"}}}"#,
        r#""key":{"a":{"$numberDouble":"1.0"},"b":{"$numberLong":"-1"}},"name":"mixed numbers""#,
        r#""hidden":true"#,
        r#""key":{"_id":"hashed"}"#,
        r#""expireAfterSeconds":{"$numberInt":"3600"}"#,
        r#""collectionName":"orders","type":"collection","mongokeep":{"options":""#,
    ] {
        assert!(orders.contains(expected), "{expected} is not in {orders}");
    }
    assert!(!orders.contains("unfinished"), "{orders}");
    assert!(orders.contains(&format!("\"uuid\":\"{}\"", entry(&manifest, "shop.orders").uuid.as_ref().unwrap())));
    let view = read("shop.cheap");
    assert!(view.starts_with(r#"{"options":{"viewOn":"orders","pipeline":[{"$match""#), "{view}");
    assert!(view.contains(r#""indexes":[],"collectionName":"cheap","type":"view","mongokeep":"#), "{view}");
    assert!(manifest.not_in_json.is_empty(), "{:?}", manifest.not_in_json);
    assert_eq!(entry(&manifest, "shop.cheap").kind, CollectionKind::View);
    let nothing = entry(&manifest, "empty.nothing");
    assert!(nothing.parts.is_empty() && nothing.documents == 0);
    assert_eq!(entry(&manifest, "admin.system.users").documents, 1);
    let held = names(&manifest);
    for never in ["admin.system.version", "shop.system.views", "local.oplog.rs", "config.transactions", "local.mine"] {
        assert!(!held.iter().any(|n| n == never), "{never}");
    }
    assert!(manifest.left_out.iter().any(|l| l.what == "local.mine"), "{:?}", manifest.left_out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_takes_what_it_names_and_says_what_it_left() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    for ns in ["a.x", "a.y", "b.x"] {
        let (db, collection) = ns.split_once('.').unwrap();
        client.database(db).collection::<Document>(collection).insert_one(doc! {"_id": 1}).await.unwrap();
    }
    let folder = Folder::new();
    let mut request = request("some");
    request.selection.include = vec!["a".parse().unwrap()];
    request.selection.exclude = vec!["*.y".parse().unwrap()];
    let manifest = dump_ok(&set, &folder, &request, Limits::default()).await;
    assert_eq!(names(&manifest), ["a.x"]);
    let left: Vec<&str> = manifest.left_out.iter().map(|l| l.what.as_str()).collect();
    assert_eq!(left, ["everything but a", "*.y (1 collection)"]);
}
