//! An export is taken by `mongorestore --oplogReplay`, and what comes of it is what the source held.

use std::path::Path;
use std::process::Stdio;

use mongodb::Client;
use mongodb::bson::{Document, Timestamp as T, doc};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::engine::Context;
use mongokeep::engine::contract::ExportReport;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::export;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};

use crate::support;
use crate::support::compare;
use crate::support::recording::{Recording, folder};
use crate::support::tools::Tools;

/// Two replica sets of one member, and the stock tools.
struct Pair {
    tools: Tools,
    _source: ReplicaSet,
    target: ReplicaSet,
    from: Client,
    to: Client,
    dir: tempfile::TempDir,
}

impl Pair {
    async fn start() -> Option<Self> {
        let tools = tokio::task::spawn_blocking(Tools::find).await.unwrap()?;
        let mongod = support::mongod().await;
        let start = || ReplicaSet::start(&mongod, ReplicaSetOptions::default().test_commands());
        let (source, target) = tokio::join!(start(), start());
        let (source, target) = (source.unwrap(), target.unwrap());
        let (from, to) = (source.client().await.unwrap(), target.client().await.unwrap());
        Some(Self { tools, _source: source, target, from, to, dir: tempfile::tempdir().unwrap() })
    }

    async fn export(&self, manifest: &LogicalManifest) -> ExportReport {
        let ctx = Context::default();
        let root = BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
        let to = self.dir.path().join(format!("dump of {}", manifest.name));
        export(&ctx, folder(self.dir.path()).await, &root, &to).await.unwrap()
    }

    /// Runs the command that the report gives.
    async fn mongorestore(&self, report: &ExportReport) -> String {
        let command = report.command.strip_prefix("mongorestore ").unwrap();
        let program = self.tools.mongorestore().get_program().to_string_lossy().into_owned();
        let line = format!("{program} {}", command.replace("--uri URI", &format!("--uri '{}'", self.target.uri())));
        let output = tokio::process::Command::new("sh").arg("-c").arg(&line).stdin(Stdio::null()).output();
        let output = output.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}\n{said}");
        said
    }

    /// Ends the recording, exports it, lets the stock tool restore it, and compares everything.
    async fn round_trip(&self, recording: Recording, name: &str) -> ExportReport {
        let expected = compare::state(&self.from).await;
        let manifest = recording.end(&folder(self.dir.path()).await, name).await;
        let report = self.export(&manifest).await;
        let said = self.mongorestore(&report).await;
        let differences = compare::differences(&expected, &compare::state(&self.to).await);
        assert!(differences.is_empty(), "{name}: {}\n{said}", differences.join("\n"));
        report
    }
}

async fn run(db: &mongodb::Database, command: Document) -> Document {
    db.run_command(command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_it_is_read_ends_up_as_it_was() {
    let Some(pair) = Pair::start().await else { return };
    let db = pair.from.database("d");
    let other = pair.from.database("other-é");
    let c = db.collection::<Document>("c");
    c.insert_many((0..1000).map(|n| doc! {"_id": n, "v": 0, "list": [1, 2, 3], "sub": {"x": 1}})).await.unwrap();
    for name in ["renamed later", "dropped", "over/written", "converted", "indexed"] {
        db.collection::<Document>(name).insert_many((0..10).map(|n| doc! {"_id": n, "n": n})).await.unwrap();
    }
    other.collection::<Document>("x%y").insert_one(doc! {"_id": 1}).await.unwrap();
    run(&db, doc! {"create": "events", "timeseries": {"timeField": "at", "metaField": "sensor"}}).await;
    run(&db, doc! {"create": "ring", "capped": true, "size": 8192, "max": 20}).await;
    run(&db, doc! {"create": "collated", "collation": {"locale": "fr", "strength": 1}}).await;
    run(&db, doc! {"create": "clustered", "clusteredIndex": {"key": {"_id": 1}, "unique": true, "name": "by id"}})
        .await;
    run(&db, doc! {"create": "strict", "validator": {"n": {"$gte": 5}}}).await;
    run(&db, doc! {"create": "cheap", "viewOn": "c", "pipeline": [{"$match": {"v": 1}}]}).await;
    let loose = doc! {"insert": "strict", "documents": [{"_id": 1}], "bypassDocumentValidation": true};
    run(&db, loose).await;
    let point =
        |n: i64| doc! {"at": mongodb::bson::DateTime::from_millis(1_790_000_000_000 + n), "sensor": n % 3, "v": n};
    let events = db.collection::<Document>("events");
    let ring = db.collection::<Document>("ring");
    events.insert_many((0..50).map(point)).await.unwrap();
    ring.insert_many((0..30).map(|n| doc! {"_id": n})).await.unwrap();
    let unique = doc! {"key": {"n": 1}, "name": "n", "unique": true};
    run(&db, doc! {"createIndexes": "indexed", "indexes": [unique]}).await;

    let mut recording = Recording::begin(&pair.from).await;
    // In the parts as well as in the oplog.
    c.update_many(doc! {"_id": {"$lt": 500}}, doc! {"$inc": {"v": 1}, "$push": {"list": 4}}).await.unwrap();
    c.delete_many(doc! {"_id": {"$lt": 100}}).await.unwrap();
    c.update_many(doc! {"_id": {"$gte": 400}}, doc! {"$set": {"sub.x": 2}}).await.unwrap();
    c.update_many(doc! {"_id": {"$gte": 450}}, doc! {"$set": {"sub": 5}}).await.unwrap();
    ring.insert_many((30..45).map(|n| doc! {"_id": n})).await.unwrap();
    ring.update_one(doc! {"_id": 27}, doc! {"$set": {"x": 1}}).await.unwrap();
    for name in ["c", "renamed later", "dropped", "over/written", "converted", "indexed", "events"] {
        recording.read("d", name).await;
    }
    for name in ["ring", "collated", "clustered", "strict", "cheap"] {
        recording.read("d", name).await;
    }
    recording.read("other-é", "x%y").await;
    // Only in the oplog.
    c.insert_many((2000..2500).map(|n| doc! {"_id": n})).await.unwrap();
    c.delete_many(doc! {"_id": {"$gte": 2250}}).await.unwrap();
    c.replace_one(doc! {"_id": 901}, doc! {"_id": 901, "whole": true}).await.unwrap();
    ring.insert_many((45..60).map(|n| doc! {"_id": n})).await.unwrap();
    events.insert_many((50..90).map(point)).await.unwrap();
    db.collection::<Document>("dropped").drop().await.unwrap();
    let words = doc! {"key": {"text": "text"}, "name": "words"};
    run(
        &db,
        doc! {"createIndexes": "renamed later", "indexes": [{"key": {"z": 1}, "name": "z", "hidden": true}, words]},
    )
    .await;
    let admin = pair.from.database("admin");
    run(&admin, doc! {"renameCollection": "d.renamed later", "to": "d.over/written", "dropTarget": true}).await;
    db.collection::<Document>("over/written").insert_one(doc! {"_id": 77}).await.unwrap();
    run(&admin, doc! {"renameCollection": "other-é.x%y", "to": "other-é.moved"}).await;
    run(&db, doc! {"convertToCapped": "converted", "size": 100_000}).await;
    run(&db, doc! {"dropIndexes": "indexed", "index": "n"}).await;
    run(&db, doc! {"createIndexes": "indexed", "indexes": [{"key": {"_id": "hashed"}, "name": "hashed"}]}).await;
    run(&db, doc! {"collMod": "strict", "validationLevel": "moderate"}).await;
    db.collection::<Document>("collated").insert_many([doc! {"_id": "été"}, doc! {"_id": "b"}]).await.unwrap();
    db.collection::<Document>("collated").delete_one(doc! {"_id": "ETE"}).await.unwrap();
    db.collection::<Document>("clustered").insert_one(doc! {"_id": 5}).await.unwrap();
    db.collection::<Document>("fresh").insert_one(doc! {"_id": 1}).await.unwrap();
    c.aggregate([doc! {"$match": {"v": 1}}, doc! {"$out": "out"}]).await.unwrap();
    run(&db, doc! {"create": "made empty", "validator": {"a": 1}}).await;
    run(&db, doc! {"create": "second view", "viewOn": "fresh", "pipeline": []}).await;
    run(&db, doc! {"collMod": "cheap", "viewOn": "c", "pipeline": [{"$match": {"v": 2}}]}).await;
    // Stored as they are only by an expression.
    let zero = T { time: 0, increment: 0 };
    let whole = doc! {"_id": 902, "a": zero, "z": {"t": zero}};
    c.update_one(doc! {"_id": 902}, vec![doc! {"$replaceRoot": {"newRoot": {"$literal": whole}}}]).await.unwrap();

    let report = pair.round_trip(recording, "changes").await;
    assert!(report.oplog_entries > 1000, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_take_effect_when_they_committed() {
    let Some(pair) = Pair::start().await else { return };
    let db = pair.from.database("d");
    let c = db.collection::<Document>("c");
    c.insert_one(doc! {"_id": 0, "n": 0}).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    let mut session = pair.from.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    c.update_one(doc! {"_id": 0}, doc! {"$inc": {"n": 1}}).session(&mut session).await.unwrap();
    db.collection::<Document>("made").insert_one(doc! {"_id": 1}).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    // Over 16 MiB: several entries.
    session.start_transaction().await.unwrap();
    for id in 1..=20 {
        c.insert_one(doc! {"_id": id, "pad": "x".repeat(1 << 20)}).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    session.start_transaction().await.unwrap();
    c.insert_one(doc! {"_id": "aborted"}).session(&mut session).await.unwrap();
    session.abort_transaction().await.unwrap();
    let admin = pair.from.database("admin");
    let majority = doc! {"w": "majority"};
    session.start_transaction().await.unwrap();
    c.insert_one(doc! {"_id": "prepared"}).session(&mut session).await.unwrap();
    let prepare = doc! {"prepareTransaction": 1, "writeConcern": majority.clone()};
    let reply = admin.run_command(prepare).session(&mut session).await.unwrap();
    let at = reply.get_timestamp("prepareTimestamp").unwrap();
    c.insert_one(doc! {"_id": "between"}).await.unwrap();
    let commit = doc! {"commitTransaction": 1, "commitTimestamp": at, "writeConcern": majority};
    admin.run_command(commit).session(&mut session).await.unwrap();
    let report = pair.round_trip(recording, "transactions").await;

    // Positions never go back.
    let bytes = std::fs::read(Path::new(&report.to).join("oplog.bson")).unwrap();
    let mut rest = bytes.as_slice();
    let mut last = T { time: 0, increment: 0 };
    while !rest.is_empty() {
        let ts = Document::from_reader(&mut rest).unwrap().get_timestamp("ts").unwrap();
        assert!(ts >= last);
        last = ts;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_changes_is_taken_too() {
    let Some(pair) = Pair::start().await else { return };
    let c = pair.from.database("d").collection::<Document>("c");
    c.insert_many((0..100).map(|n| doc! {"_id": n})).await.unwrap();
    run(&pair.from.database("d"), doc! {"create": "empty"}).await;
    // The longest name there can be is cut in its file's name.
    let long = "é".repeat(100);
    pair.from.database("d").collection::<Document>(&long).insert_one(doc! {"_id": 1}).await.unwrap();
    // The first entry is part of the stored oplog.
    run(&pair.from.database("admin"), doc! {"appendOplogNote": 1, "data": {"quiet": true}}).await;
    let mut recording = Recording::begin(&pair.from).await;
    recording.read_database("d").await;
    let report = pair.round_trip(recording, "quiet").await;
    assert_eq!(report.oplog_entries, 0);
    assert_eq!(std::fs::metadata(Path::new(&report.to).join("oplog.bson")).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_come_with_it() {
    let Some(pair) = Pair::start().await else { return };
    let (admin, d) = (pair.from.database("admin"), pair.from.database("d"));
    d.collection::<Document>("c").insert_one(doc! {"_id": 1}).await.unwrap();
    let reads = doc! {"resource": {"db": "d", "collection": "c"}, "actions": ["find"]};
    run(&d, doc! {"createRole": "reader", "privileges": [reads], "roles": []}).await;
    run(&d, doc! {"createUser": "ann", "pwd": "secret", "roles": ["reader"]}).await;
    run(&admin, doc! {"createUser": "bob", "pwd": "secret", "roles": ["root"]}).await;
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    recording.read("admin", "system.users").await;
    recording.read("admin", "system.roles").await;
    // In the oplog only: one more, one changed, one gone.
    run(&d, doc! {"createUser": "cid", "pwd": "secret", "roles": ["reader"]}).await;
    run(&d, doc! {"updateUser": "ann", "roles": ["read"]}).await;
    run(&admin, doc! {"dropUser": "bob"}).await;
    let expected = compare::database(&pair.from, "admin").await;
    let report = pair.round_trip(recording, "users").await;
    // The role that restores may not replay them.
    let oplog = std::fs::read(Path::new(&report.to).join("oplog.bson")).unwrap();
    assert!(!oplog.windows(12).any(|w| w == b"system.users"));
    let found = compare::database(&pair.to, "admin").await;
    for name in ["system.users", "system.roles"] {
        assert_eq!(expected[name].documents, found[name].documents, "{name}");
        assert_eq!(expected[name].hash, found[name].hash, "{name}");
    }
    assert_eq!(expected["system.users"].documents, 2);
}

/// Without this program: `zstd` and `bsondump` are enough.
#[tokio::test(flavor = "multi_thread")]
async fn parts_are_plain_bson_in_a_standard_compression() {
    let Some(pair) = Pair::start().await else { return };
    let c = pair.from.database("d").collection::<Document>("c");
    c.insert_many((0..1000).map(|n| doc! {"_id": n, "text": "x".repeat(50)})).await.unwrap();
    let mut recording = Recording::begin(&pair.from).await;
    recording.read("d", "c").await;
    let manifest = recording.end(&folder(pair.dir.path()).await, "plain").await;
    let root = pair.dir.path().join("test/backups/plain");
    let parts: Vec<_> = manifest.collections[0].parts.iter().map(|p| root.join(&p.path)).collect();
    assert!(parts.len() > 1);
    let plain: Vec<u8> =
        parts.iter().flat_map(|p| zstd::decode_all(std::fs::File::open(p).unwrap()).unwrap()).collect();
    let zstd = std::process::Command::new("zstd").arg("-dcq").args(&parts).output();
    if let Ok(output) = zstd {
        assert!(output.status.success() && output.stdout == plain);
    }
    let report = pair.export(&manifest).await;
    let exported = Path::new(&report.to).join("d/c.bson");
    assert_eq!(std::fs::read(&exported).unwrap(), plain);
    let dumped = pair.tools.bsondump().arg(&exported).output().unwrap();
    assert!(dumped.status.success());
    assert_eq!(String::from_utf8_lossy(&dumped.stdout).lines().count(), 1000);
}
