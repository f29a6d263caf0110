//! A backup made by hand: collections are read exactly when a test says so, between changes that it makes itself.
//!
//! The program's own dump reads when it happens to; here a test decides what was seen before a change and what after.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongokeep::artifact::codec::Codec;
use mongokeep::artifact::layout::{BackupRoot, FORMAT_VERSION};
use mongokeep::artifact::manifest::{Attempt, Envelope, ObjectEntry};
use mongokeep::domain::backup::{BackupType, Compression, Model};
use mongokeep::domain::key::Key;
use mongokeep::domain::namespace::{Namespace, Selection};
use mongokeep::domain::restore::CollectionKind;
use mongokeep::domain::service::EngineKind;
use mongokeep::domain::storage::StorageConfig;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::manifest::CollectionEntry;
use mongokeep::storage::{PutMode, Storage};

pub async fn folder(path: &Path) -> Arc<dyn Storage> {
    mongokeep::storage::open(&StorageConfig::of("filesystem", [("path", path.to_str().unwrap())])).await.unwrap()
}

/// What was read so far.
pub struct Recording {
    client: Client,
    begin: Timestamp,
    collections: Vec<Recorded>,
    pub compression: Compression,
    pub selection: Selection,
    /// Documents of a part.
    pub part_documents: usize,
}

struct Recorded {
    ns: Namespace,
    kind: CollectionKind,
    uuid: Option<String>,
    options: Document,
    indexes: Vec<Document>,
    documents: Vec<Vec<u8>>,
    read_from: Timestamp,
}

/// The newest position of the oplog.
pub async fn newest(client: &Client) -> Timestamp {
    let oplog = client.database("local").collection::<RawDocumentBuf>("oplog.rs");
    let last = oplog.find_one(doc! {}).sort(doc! {"$natural": -1}).await.unwrap().unwrap();
    let ts = last.get_timestamp("ts").unwrap();
    Timestamp::new(ts.time, ts.increment)
}

fn bson_ts(ts: Timestamp) -> mongodb::bson::Timestamp {
    mongodb::bson::Timestamp { time: ts.t, increment: ts.i }
}

impl Recording {
    /// The oplog is kept from here on.
    pub async fn begin(client: &Client) -> Self {
        Self {
            client: client.clone(),
            begin: newest(client).await,
            collections: Vec::new(),
            compression: Compression::default(),
            selection: Selection::default(),
            part_documents: 400,
        }
    }

    /// The collections of this one with the oplog of another.
    pub fn with_oplog_of(self, other: Self) -> Self {
        Self { begin: other.begin, ..self }
    }

    /// As if each collection had been read in full only up to the beginning of the oplog.
    pub fn promise_only_what_was_before_the_oplog(&mut self) {
        self.collections.iter_mut().for_each(|c| c.read_from = self.begin);
    }

    /// Reads one collection, time series or view as it is now.
    pub async fn read(&mut self, db: &str, name: &str) {
        let read_from = newest(&self.client).await;
        let database = self.client.database(db);
        let info = |name: String| {
            let database = database.clone();
            async move {
                let list = doc! {"listCollections": 1, "filter": {"name": name}};
                database.run_cursor_command(list).await.unwrap().try_next().await.unwrap().unwrap()
            }
        };
        let entry = info(name.into()).await;
        let kind = match entry.get_str("type").unwrap() {
            "view" => CollectionKind::View,
            "timeseries" => CollectionKind::Timeseries,
            _ => CollectionKind::Collection,
        };
        let source =
            if kind == CollectionKind::Timeseries { format!("system.buckets.{name}") } else { name.to_owned() };
        let (mut uuid, mut indexes, mut documents) = (None, Vec::new(), Vec::new());
        if kind != CollectionKind::View {
            let bytes = match info(source.clone()).await.get_document("info").unwrap().get("uuid").unwrap() {
                Bson::Binary(binary) => binary.bytes.clone(),
                other => panic!("{other}"),
            };
            uuid = Some(bytes.iter().map(|b| format!("{b:02x}")).collect());
            let list = database.run_cursor_command(doc! {"listIndexes": name}).await.unwrap();
            indexes = list.try_collect().await.unwrap();
            let mut cursor = database.collection::<RawDocumentBuf>(&source).find(doc! {}).await.unwrap();
            while cursor.advance().await.unwrap() {
                documents.push(cursor.current().as_bytes().to_vec());
            }
        }
        let options = entry.get_document("options").unwrap().clone();
        let ns = Namespace::new(db, name);
        self.collections.push(Recorded { ns, kind, uuid, options, indexes, documents, read_from });
    }

    /// Goes on reading a capped collection: what came since comes after what was read, which may have rolled out by now.
    pub async fn read_on(&mut self, db: &str, name: &str) {
        let ns = Namespace::new(db, name);
        let recorded = self.collections.iter_mut().find(|c| c.ns == ns).unwrap();
        let mut cursor = self.client.database(db).collection::<RawDocumentBuf>(name).find(doc! {}).await.unwrap();
        while cursor.advance().await.unwrap() {
            let document = cursor.current().as_bytes().to_vec();
            if !recorded.documents.contains(&document) {
                recorded.documents.push(document);
            }
        }
    }

    /// Reads everything of a database.
    pub async fn read_database(&mut self, db: &str) {
        for name in self.client.database(db).list_collection_names().await.unwrap() {
            if !name.starts_with("system.") || name == "system.js" {
                self.read(db, &name).await;
            }
        }
    }

    /// Ends the oplog here and stores the backup `name` below `storage`.
    pub async fn end(self, storage: &Arc<dyn Storage>, name: &str) -> LogicalManifest {
        // Of a majority, by an entry of its own.
        let note = doc! {"appendOplogNote": 1, "data": {"end": name}, "writeConcern": {"w": "majority"}};
        self.client.database("admin").run_command(note).await.unwrap();
        let end = newest(&self.client).await;
        let mut store = Store { storage: storage.clone(), root: BackupRoot::new("test", name).unwrap() };
        let mut entries = Vec::new();
        for c in &self.collections {
            let mut parts = Vec::new();
            for (n, chunk) in c.documents.chunks(self.part_documents).enumerate() {
                let key = store.root.part(&c.ns, n as u32, &Codec::new(self.compression)).unwrap();
                parts.push(store.put(key, &chunk.concat(), self.compression, chunk.len()).await);
            }
            let metadata = doc! {
                "options": c.options.clone(),
                "indexes": c.indexes.iter().cloned().map(Bson::Document).collect::<Vec<_>>(),
                "uuid": c.uuid.clone().unwrap_or_default(),
                "collectionName": c.ns.collection.clone(),
                "type": "collection",
            };
            let json = serde_json::to_vec(&Bson::Document(metadata).into_canonical_extjson()).unwrap();
            let metadata = store
                .put(store.root.metadata(&c.ns, &Codec::new(Compression::None)).unwrap(), &json, Compression::None, 0)
                .await;
            entries.push(CollectionEntry {
                namespace: c.ns.clone(),
                kind: c.kind,
                uuid: c.uuid.clone(),
                documents: c.documents.len() as u64,
                bytes: c.documents.iter().map(|d| d.len() as u64).sum(),
                capped: c.options.get_bool("capped").unwrap_or(false),
                each_id_once: false,
                counted: true,
                read_from_ts: c.read_from,
                metadata,
                parts,
            });
        }
        let oplog = self.client.database("local").collection::<RawDocumentBuf>("oplog.rs");
        let range = doc! {"ts": {"$gte": bson_ts(self.begin), "$lte": bson_ts(end)}};
        let mut cursor = oplog.find(range).await.unwrap();
        let mut log = Vec::new();
        while cursor.advance().await.unwrap() {
            log.push(cursor.current().as_bytes().to_vec());
        }
        let mut parts = Vec::new();
        for (n, chunk) in log.chunks(self.part_documents).enumerate() {
            let key = store.root.oplog_part(n as u32, &Codec::new(self.compression)).unwrap();
            parts.push(store.put(key, &chunk.concat(), self.compression, chunk.len()).await);
        }
        let facts = self.client.database("admin").run_command(doc! {"buildInfo": 1}).await.unwrap();
        let (major, minor) = super::release_of(&self.client).await;
        let fcv = format!("{major}.{minor}");
        let manifest = LogicalManifest {
            envelope: Envelope {
                new_bytes: None,
                locked_millis: None,
                pbm_name: None,
                chain: None,
                encryption: None,
                format_version: FORMAT_VERSION,
                tool_version: env!("CARGO_PKG_VERSION").into(),
                name: name.into(),
                attempt_id: "1".into(),
                service: "source".into(),
                cluster: None,
                folder: "test".into(),
                schedule: None,
                engine: EngineKind::Native,
                model: Model::Logical,
                backup_type: BackupType::Full,
                server_version: facts.get_str("version").unwrap().into(),
                fcv,
                replica_set: "rs".into(),
                replica_set_id: String::new(),
                member: String::new(),
                started_at: Utc::now(),
                finished_at: Utc::now(),
                consistent_at_ts: end,
                selection: self.selection,
                compression: self.compression,
                documents: entries.iter().map(|e| e.documents).sum(),
                uncompressed_bytes: entries.iter().map(|e| e.bytes).sum(),
                size_bytes: entries
                    .iter()
                    .flat_map(|e| e.parts.iter().chain([&e.metadata]))
                    .chain(&parts)
                    .map(|o| o.size)
                    .sum(),
                left_out: vec![],
                checksum: String::new(),
            },
            oplog_from_ts: self.begin,
            collections: entries,
            oplog_entries: log.len() as u64,
            oplog: parts,
            open_transactions: vec![],
            not_in_json: vec![],
        };
        let attempt = Attempt {
            renewed_at: None,
            pbm_name: None,
            format_version: FORMAT_VERSION,
            attempt_id: "1".into(),
            name: name.into(),
            service: "source".into(),
            home_id: "test".into(),
            host: "test".into(),
            pid: 1,
            started_at: Utc::now(),
        };
        let attempt = serde_json::to_vec(&attempt).unwrap();
        store.write(&store.root.attempt().unwrap(), attempt).await;
        store.write(&store.root.manifest().unwrap(), manifest.to_bytes().unwrap()).await;
        manifest
    }
}

struct Store {
    storage: Arc<dyn Storage>,
    root: BackupRoot,
}

impl Store {
    async fn put(&mut self, key: Key, plain: &[u8], compression: Compression, documents: usize) -> ObjectEntry {
        let stored = match compression {
            Compression::Zstd(level) => zstd::encode_all(plain, level).unwrap(),
            Compression::Gzip(level) => {
                use std::io::Write;
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Compression::None => plain.to_vec(),
            Compression::Foreign(word) => panic!("nothing is written with {}", word.word()),
        };
        let entry = ObjectEntry {
            path: key.below(self.root.key()).unwrap().to_owned(),
            size: stored.len() as u64,
            blake3: blake3::hash(&stored).to_hex().to_string(),
            uncompressed: plain.len() as u64,
            documents: documents as u64,
        };
        self.write(&key, stored).await;
        entry
    }

    async fn write(&self, key: &Key, bytes: Vec<u8>) {
        self.storage.put(key, Bytes::from(bytes), PutMode::CreateNew).await.unwrap();
    }
}

/// A recording of the database `d` in which documents were read under another form of an `_id` than the one that the
/// oplog stores first: `words` by its collation, `numbers` by their type.
pub async fn other_forms(client: &Client) -> Recording {
    let db = client.database("d");
    db.run_command(doc! {"create": "words", "collation": {"locale": "fr", "strength": 1}}).await.unwrap();
    let clustered = doc! {"key": {"_id": 1}, "unique": true};
    db.run_command(doc! {"create": "clustered", "clusteredIndex": clustered}).await.unwrap();
    let (words, numbers) = (db.collection::<Document>("words"), db.collection::<Document>("numbers"));
    let clustered = db.collection::<Document>("clustered");
    words.insert_one(doc! {"_id": "Noël", "n": 0}).await.unwrap();
    numbers.insert_one(doc! {"_id": 7, "n": 0}).await.unwrap();
    clustered.insert_many((0..8).map(|i| doc! {"_id": format!("gone {i}")})).await.unwrap();
    let mut recording = Recording::begin(client).await;
    // What a clustered collection of 6.0 cannot say that it has already.
    let unspeakable: [Bson; 8] = [
        "a\0b".into(),
        f64::NAN.into(),
        f64::INFINITY.into(),
        1e300.into(),
        5e-324.into(),
        doc! {"a": [0.1]}.into(),
        Bson::Decimal128("1E+6000".parse().unwrap()),
        Bson::Decimal128("1E-6000".parse().unwrap()),
    ];
    clustered.insert_many(unspeakable.iter().map(|id| doc! {"_id": id, "n": 1})).await.unwrap();
    clustered.insert_one(doc! {"_id": 1.5, "n": 1}).await.unwrap();
    // Updates that find nothing, beside it: then every operation is applied by itself.
    clustered.update_many(doc! {"_id": {"$gte": "gone"}}, doc! {"$set": {"n": 1}}).await.unwrap();
    clustered.delete_many(doc! {"_id": {"$gte": "gone"}}).await.unwrap();
    clustered.update_one(doc! {"_id": 1.5}, doc! {"$set": {"n": 2}}).await.unwrap();
    clustered.delete_one(doc! {"_id": 1.5}).await.unwrap();
    let fraction: mongodb::bson::Decimal128 = "1.50".parse().unwrap();
    clustered.insert_one(doc! {"_id": fraction, "n": 3}).await.unwrap();
    let forms: [(Bson, Bson); 3] =
        [("été".into(), 1i32.into()), ("Ete".into(), 1i64.into()), ("ETE".into(), 1.0f64.into())];
    for (n, (word, number)) in (0i32..).zip(&forms) {
        for (collection, id) in [(&words, word), (&numbers, number)] {
            collection.delete_one(doc! {"_id": id}).await.unwrap();
            collection.insert_one(doc! {"_id": id, "n": n}).await.unwrap();
            collection.update_one(doc! {"_id": id}, doc! {"$set": {"deep": n}}).await.unwrap();
            collection.replace_one(doc! {"_id": id}, doc! {"whole": n}).await.unwrap();
            collection.insert_one(doc! {"_id": format!("other {n}")}).await.unwrap();
        }
    }
    words.delete_one(doc! {"_id": "noel"}).await.unwrap();
    words.insert_one(doc! {"_id": "NOEL"}).await.unwrap();
    recording.read_database("d").await;
    recording
}

/// A recording as earlier versions made it: read in natural order, with documents in it twice that were deleted and inserted
/// again meanwhile, under the same `_id` or an equal one.
pub async fn doubles(client: &Client) -> Recording {
    let db = client.database("d");
    db.run_command(doc! {"create": "words", "collation": {"locale": "fr", "strength": 1}}).await.unwrap();
    let (c, words) = (db.collection::<Document>("c"), db.collection::<Document>("words"));
    c.insert_many((0..1000).map(|n| doc! {"_id": n, "n": 0})).await.unwrap();
    // Neighbours that are one number to whoever takes a double for it.
    let large = 1_i64 << 60;
    let nested = |n: Bson| doc! {"a": [n, {"z": -0.0}]};
    c.insert_many([doc! {"_id": large + 1, "n": 0}, doc! {"_id": large + 2, "n": 0}]).await.unwrap();
    c.insert_one(doc! {"_id": nested(1.into())}).await.unwrap();
    words.insert_many(["été", "mer"].map(|id| doc! {"_id": id, "n": 0})).await.unwrap();
    let mut recording = Recording::begin(client).await;
    let set = async |collection: &mongodb::Collection<Document>, id: Bson, n: i32| {
        let change = doc! {"$set": {"n": n, "list": [n]}};
        collection.update_one(doc! {"_id": id}, change).await.unwrap();
    };
    set(&c, 5.into(), 1).await;
    set(&words, "été".into(), 1).await;
    recording.read_database("d").await;
    set(&c, 5.into(), 2).await;
    let one: mongodb::bson::Decimal128 = "1.0".parse().unwrap();
    let again: [(&mongodb::Collection<Document>, Bson, Bson); 6] = [
        (&c, 5.into(), 5.into()),
        (&c, 7.into(), 7.0.into()),
        (&c, 999.into(), 999_i64.into()),
        (&c, (large + 1).into(), (large + 1).into()),
        (&c, nested(1.into()).into(), nested(one.into()).into()),
        (&words, "été".into(), "ETE".into()),
    ];
    for (collection, old, new) in again {
        assert_eq!(collection.delete_one(doc! {"_id": old}).await.unwrap().deleted_count, 1);
        collection.insert_one(doc! {"_id": new.clone(), "came": "back"}).await.unwrap();
        set(collection, new, 3).await;
    }
    for name in ["c", "words"] {
        recording.read_on("d", name).await;
    }
    set(&c, 5.into(), 4).await;
    c.delete_one(doc! {"_id": 999}).await.unwrap();
    recording
}
