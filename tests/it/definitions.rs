//! Definitions are BSON of any form: each comes back to the byte, and what other tools cannot be told is named.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongokeep::artifact::bson::{self, Writer, tag};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::artifact::raw::Raw;
use mongokeep::domain::backup::Compression;
use mongokeep::engine::Limits;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::{OpenBackup, export, plan, restore};
use tokio_util::sync::CancellationToken;

use crate::support;
use crate::support::dumps::{self, Folder};
use crate::support::pair::{Pair, request};
use crate::support::recording::Recording;
use crate::support::tools::Tools;

async fn raw(client: &Client, db: &str, command: Vec<u8>) {
    let command = RawDocumentBuf::from_bytes(command).unwrap();
    let shown = format!("{command:?}");
    client.database(db).run_raw_command(command).await.unwrap_or_else(|e| panic!("{shown}: {e}"));
}

/// A filter that holds one field twice and a text that is not UTF-8, neither of which a decoded document has.
fn odd_filter() -> Vec<u8> {
    let mut w = Writer::default();
    w.document("a", Raw::from(doc! {"$gte": 0}).as_bytes());
    w.document("a", Raw::from(doc! {"$lte": 9}).as_bytes());
    w.raw(tag::STRING, b"t", b"\x02\0\0\0\xfe\0");
    w.finish()
}

fn create(name: &str, option: &str, value: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    w.str("create", name).document(option, value);
    w.finish()
}

fn create_indexes(name: &str, specs: &[Vec<u8>]) -> Vec<u8> {
    let mut w = Writer::default();
    w.str("createIndexes", name).open(tag::ARRAY, "indexes");
    for (n, spec) in specs.iter().enumerate() {
        w.document(&n.to_string(), spec);
    }
    w.finish()
}

fn index(name: &[u8], field: &[u8], filter: Option<&[u8]>) -> Vec<u8> {
    let mut w = Writer::default();
    w.i32("v", 2).open(tag::DOCUMENT, "key").raw(tag::INT32, field, &1_i32.to_le_bytes()).close();
    let mut text = (name.len() as u32 + 1).to_le_bytes().to_vec();
    text.extend(name);
    text.push(0);
    w.raw(tag::STRING, b"name", &text);
    if let Some(filter) = filter {
        w.document("partialFilterExpression", filter);
    }
    w.finish()
}

/// All that was found to be changed, or to make a backup unreadable.
async fn make_all(client: &Client) {
    let db = client.database("d");
    for command in [
        doc! {"create": "v", "viewOn": "plain", "pipeline": [{"$project": {"x": {"$literal": {"$numberLong": "5"}}}}]},
        doc! {"create": "dated", "validator": {"d": {"$eq": {"$date": "yesterday"}}}, "capped": true, "size": 8192},
        doc! {"create": "schema", "validator": {"$jsonSchema": {"properties": {"$oid": {"bsonType": "string"}}}}},
        doc! {"create": "plain", "validator": {"a": {"$type": ["int", "string"]}}, "validationAction": "warn"},
        doc! {"insert": "plain", "documents": [{"_id": 1, "a": 7}]},
        doc! {"createIndexes": "plain", "indexes": [
            {"key": {"a": 1}, "name": "odd", "partialFilterExpression": {"a": {"$gt": {"$numberInt": "5"}}}},
            {"key": {"a": -1}, "name": "even", "partialFilterExpression": {"a": {"$gt": 5}}},
        ]},
    ] {
        db.run_command(command).await.unwrap();
    }
    raw(client, "d", create("twice", "validator", &odd_filter())).await;
    let specs = [
        index(b"odd filter", b"a", Some(&odd_filter())),
        index(b"a name \xff", b"b", None),
        index(b"of a field", b"c\xfe", None),
    ];
    raw(client, "d", create_indexes("twice", &specs)).await;
    // Changed later, so that the oplog holds them in its own way.
    let mut w = Writer::default();
    w.str("collMod", "schema").document("validator", &odd_filter());
    raw(client, "d", w.finish()).await;
    let changed = doc! {"collMod": "v", "viewOn": "twice", "pipeline": [{"$match": {"q": {"$eq": {"$oid": 5}}}}]};
    db.run_command(changed).await.unwrap();
}

/// Options and indexes as bytes, by collection.
async fn definitions(client: &Client) -> BTreeMap<String, Vec<Vec<u8>>> {
    let list = async |command: Document| -> Vec<RawDocumentBuf> {
        let cursor = client.database("d").run_cursor_command(command).await.unwrap();
        cursor.with_type::<RawDocumentBuf>().try_collect().await.unwrap()
    };
    let mut found = BTreeMap::new();
    for entry in list(doc! {"listCollections": 1}).await {
        let name = entry.get_str("name").unwrap().to_owned();
        if name == "system.views" {
            continue;
        }
        let mut all = vec![bson::get(entry.as_bytes(), "options").unwrap().value.to_vec()];
        if entry.get_str("type").unwrap() == "collection" {
            let mut indexes: Vec<Vec<u8>> =
                list(doc! {"listIndexes": &name}).await.iter().map(|i| i.as_bytes().to_vec()).collect();
            indexes.sort();
            all.extend(indexes);
        }
        found.insert(name, all);
    }
    found
}

async fn restored(pair: &Pair, stored: &OpenBackup) -> BTreeMap<String, Vec<Vec<u8>>> {
    let target = pair.server().await.unwrap();
    let confirmed = plan(&CancellationToken::new(), stored, &target, &request()).await.unwrap();
    restore(&support::pair::context(), stored, &target, &request(), &confirmed).await.unwrap();
    definitions(&pair.to).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_definition_comes_back_to_the_byte() {
    let pair = Pair::start().await;
    let recording = Recording::begin(&pair.from).await;
    make_all(&pair.from).await;
    let expected = definitions(&pair.from).await;
    assert_eq!(expected.len(), 5);

    let folder = Folder::new();
    let limits = Limits::default();
    let (ctx, log) = dumps::context(limits);
    let server = dumps::server(&pair.source).await;
    let wanted = dumps::request("whole");
    let manifest = mongokeep::engine::logical::dump(&ctx, Arc::clone(&folder.storage), &server, &wanted).await.unwrap();
    dumps::verify_ok(&folder, &manifest).await;
    let named: Vec<&str> = manifest.not_in_json.iter().map(|l| l.what.as_str()).collect();
    let all = [
        "validator of d.dated",
        "index odd of d.plain",
        "validator of d.schema",
        "validator of d.twice",
        "index odd filter of d.twice",
        "index a name \u{fffd} of d.twice",
        "index of a field of d.twice",
        "view d.v",
    ];
    for what in all {
        assert!(named.contains(&what), "{what} is not among {named:?}");
        let said = format!("only mongokeep restores the {what}");
        assert!(log.lock().unwrap().iter().any(|line| line.contains(&said)), "{said}: {:#?}", log.lock().unwrap());
    }
    assert_eq!(named.len(), all.len(), "{named:?}");
    let stored = OpenBackup::new(Arc::clone(&folder.storage), manifest).unwrap();
    assert_eq!(restored(&pair, &stored).await, expected, "from the metadata");

    pair.to.database("d").drop().await.unwrap();
    let manifest = recording.end(&folder.storage, "oplog").await;
    let stored = OpenBackup::new(Arc::clone(&folder.storage), manifest).unwrap();
    assert_eq!(restored(&pair, &stored).await, expected, "from the oplog");
}

async fn mongorestore(tools: &Tools, pair: &Pair, folder: &std::path::Path) -> String {
    let mut command = tokio::process::Command::from(tools.mongorestore());
    command.args(["--uri", &pair.target.uri()]).arg(folder).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Names of the indexes, and the options, of `d.plain`.
async fn plain(client: &Client) -> (Vec<String>, Document) {
    let db = client.database("d");
    let mut names = db.collection::<Document>("plain").list_index_names().await.unwrap();
    names.sort();
    let listed = db.list_collections().filter(doc! {"name": "plain"}).await.unwrap();
    let listed: Vec<_> = listed.try_collect().await.unwrap();
    (names, mongodb::bson::serialize_to_document(&listed[0].options).unwrap())
}

/// What other tools read is never another thing than what it was: it is there, or it is named.
#[tokio::test(flavor = "multi_thread")]
async fn other_tools_read_what_json_can_say() {
    let Some(tools) = tokio::task::spawn_blocking(Tools::find).await.unwrap() else { return };
    let pair = Pair::start().await;
    make_all(&pair.from).await;
    let folder = Folder::new();
    let wanted = dumps::request("whole");
    let wanted = mongokeep::engine::logical::DumpRequest { compression: Compression::None, ..wanted };
    let manifest: LogicalManifest = dumps::dump_ok(&pair.source, &folder, &wanted, Limits::default()).await;

    let root = BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let to = folder.dir.path().join("export");
    let report = export(&support::pair::context(), Arc::clone(&folder.storage), &root, &to).await.unwrap();
    for what in ["view d.v", "index odd of d.plain", "validator of d.dated", "validator of d.twice"] {
        assert!(report.left_out.iter().any(|l| l.what == what), "{what}: {:?}", report.left_out);
    }
    mongorestore(&tools, &pair, &to).await;
    let (names, options) = plain(&pair.to).await;
    assert_eq!(names, ["_id_", "even"]);
    assert_eq!(options.get_document("validator").unwrap(), &doc! {"a": {"$type": ["int", "string"]}});
    let found = pair.to.database("d").list_collection_names().await.unwrap();
    assert!(!found.contains(&"v".to_owned()) && found.contains(&"dated".to_owned()), "{found:?}");

    // The files of the backup itself, with the bytes in them that are not for other tools.
    pair.to.database("d").drop().await.unwrap();
    let by_hand = folder.dir.path().join("by hand/d");
    std::fs::create_dir_all(&by_hand).unwrap();
    let data = folder.dir.path().join("prod/backups/whole/data/d");
    std::fs::copy(data.join("plain/00000.bson"), by_hand.join("plain.bson")).unwrap();
    for name in ["plain", "dated", "schema", "twice"] {
        let name = format!("{name}.metadata.json");
        assert!(std::fs::read_to_string(data.join(&name)).unwrap().contains("\"mongokeep\":{"), "{name}");
        std::fs::copy(data.join(&name), by_hand.join(&name)).unwrap();
    }
    mongorestore(&tools, &pair, by_hand.parent().unwrap()).await;
    assert_eq!(plain(&pair.to).await, (names, options));
}
