//! Backups made by hand, object by object, without a server: for what reads them back.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, Timestamp as BsonTimestamp, doc};
use mongokeep::artifact::codec::Codec;
use mongokeep::artifact::layout::{BackupRoot, FORMAT_VERSION};
use mongokeep::artifact::manifest::{Attempt, Envelope, ObjectEntry};
use mongokeep::domain::backup::{BackupType, Compression, Model};
use mongokeep::domain::namespace::{Namespace, Selection};
use mongokeep::domain::restore::CollectionKind;
use mongokeep::domain::service::EngineKind;
use mongokeep::domain::storage::StorageConfig;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::manifest::CollectionEntry;
use mongokeep::storage::{Key, ObjectWriter, PutMode, Storage, read_all};
use tempfile::TempDir;

pub type Uuid = [u8; 16];

/// The second all positions of a made backup lie in.
pub const SECOND: u32 = 1_790_000_000;

/// A backup being made, in a folder that is gone when this is dropped.
pub struct Artifact {
    pub storage: Arc<dyn Storage>,
    pub root: BackupRoot,
    pub manifest: LogicalManifest,
    folder: TempDir,
}

/// Position `i` of the made oplog.
pub fn at(i: u32) -> Timestamp {
    Timestamp::new(SECOND, i)
}

/// An entry of the oplog at position `i`; `rest` has `op`, `ns`, `o` and what else it needs.
pub fn entry(i: u32, rest: Document) -> Document {
    let mut entry = rest;
    entry.insert("ts", BsonTimestamp { time: SECOND, increment: i });
    entry.insert("t", 1_i64);
    entry.insert("v", 2_i64);
    entry.insert("wall", mongodb::bson::DateTime::from_millis(i64::from(SECOND) * 1000));
    entry
}

/// An insert, update or delete.
pub fn change(i: u32, op: &str, ns: &str, uuid: Uuid, o: Document) -> Document {
    let mut rest = doc! {"op": op, "ns": ns, "ui": binary(uuid)};
    if op == "u" {
        rest.insert("o2", doc! {"_id": o.get("_id").cloned().unwrap()});
    }
    rest.insert("o", o);
    entry(i, rest)
}

/// A command on a collection.
pub fn command(i: u32, db: &str, uuid: Uuid, o: Document) -> Document {
    entry(i, doc! {"op": "c", "ns": format!("{db}.$cmd"), "ui": binary(uuid), "o": o})
}

/// Nothing, at position `i`.
pub fn noop(i: u32) -> Document {
    entry(i, doc! {"op": "n", "ns": "", "o": {"msg": "periodic noop"}})
}

pub fn binary(uuid: Uuid) -> Bson {
    Bson::from(mongodb::bson::Uuid::from_bytes(uuid))
}

impl Artifact {
    pub async fn new(compression: Compression) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StorageConfig::of("filesystem", [("path", folder.path().to_str().unwrap())]);
        let storage = mongokeep::storage::open(&config).await.unwrap();
        let root = BackupRoot::new("shop", "made").unwrap();
        let now = Utc::now();
        let manifest = LogicalManifest {
            envelope: Envelope {
                new_bytes: None,
                locked_millis: None,
                pbm_name: None,
                chain: None,
                encryption: None,
                format_version: FORMAT_VERSION,
                tool_version: "0.1.0".into(),
                name: "made".into(),
                attempt_id: "attempt-1".into(),
                service: "shop".into(),
                cluster: None,
                folder: "shop".into(),
                schedule: None,
                engine: EngineKind::Native,
                model: Model::Logical,
                backup_type: BackupType::Full,
                server_version: "6.0.5".into(),
                fcv: "6.0".into(),
                replica_set: "rs0".into(),
                replica_set_id: "0123456789abcdef01234567".into(),
                member: "127.0.0.1:27017".into(),
                started_at: now,
                finished_at: now,
                consistent_at_ts: at(1),
                selection: Selection::default(),
                compression,
                left_out: Vec::new(),
                documents: 0,
                uncompressed_bytes: 0,
                size_bytes: 0,
                checksum: String::new(),
            },
            oplog_from_ts: at(1),
            collections: Vec::new(),
            oplog: Vec::new(),
            oplog_entries: 0,
            open_transactions: Vec::new(),
            not_in_json: Vec::new(),
        };
        Self { storage, root, manifest, folder }
    }

    /// The file of an object.
    pub fn path(&self, key: &Key) -> PathBuf {
        self.folder.path().join(key.as_str())
    }

    pub async fn put(&self, key: &Key, bytes: Vec<u8>) -> ObjectEntry {
        let mut writer = ObjectWriter::new(Arc::clone(&self.storage), key.clone());
        writer.write(Bytes::from(bytes.clone())).await.unwrap();
        let written = writer.finish().await.unwrap();
        ObjectEntry {
            path: key.below(self.root.key()).unwrap().to_owned(),
            size: written.size,
            blake3: written.blake3,
            uncompressed: bytes.len() as u64,
            documents: 0,
        }
    }

    pub async fn part(&self, key: &Key, documents: &[Document]) -> ObjectEntry {
        let plain: Vec<u8> = documents.iter().flat_map(|d| d.to_vec().unwrap()).collect();
        let stored = compress(self.manifest.compression, &plain);
        let entry = self.put(key, stored).await;
        ObjectEntry { uncompressed: plain.len() as u64, documents: documents.len() as u64, ..entry }
    }

    /// A collection (or time series, with the documents of its buckets) in parts.
    pub async fn collection(
        &mut self,
        ns: &str,
        kind: CollectionKind,
        uuid: Option<Uuid>,
        definition: Document,
        parts: &[Vec<Document>],
    ) -> &mut CollectionEntry {
        let namespace = Namespace::parse(ns).unwrap();
        let mut stored = Vec::new();
        for (n, documents) in parts.iter().enumerate() {
            let key = self.root.part(&namespace, n as u32, &Codec::new(self.manifest.compression)).unwrap();
            stored.push(self.part(&key, documents).await);
        }
        let uuid = uuid.map(hex);
        let mut metadata = definition;
        if !metadata.contains_key("indexes") {
            metadata.insert("indexes", Vec::<Document>::new());
        }
        if let Some(uuid) = &uuid
            && kind == CollectionKind::Collection
        {
            metadata.insert("uuid", uuid);
        }
        metadata.insert("collectionName", &namespace.collection);
        metadata.insert(
            "type",
            match kind {
                CollectionKind::Collection => "collection",
                CollectionKind::Timeseries => "timeseries",
                CollectionKind::View => "view",
            },
        );
        let json = Bson::Document(metadata.clone()).into_canonical_extjson().to_string();
        let metadata_entry =
            self.put(&self.root.metadata(&namespace, &Codec::new(Compression::None)).unwrap(), json.into_bytes()).await;
        let capped = metadata.get_document("options").is_ok_and(|o| o.get_bool("capped").unwrap_or(false));
        self.manifest.collections.push(CollectionEntry {
            namespace,
            kind,
            uuid,
            documents: stored.iter().map(|p| p.documents).sum(),
            bytes: stored.iter().map(|p| p.uncompressed).sum(),
            capped,
            each_id_once: false,
            counted: true,
            read_from_ts: at(1),
            metadata: metadata_entry,
            parts: stored,
        });
        self.manifest.collections.last_mut().unwrap()
    }

    /// Positions of the first and last entry become those of the manifest.
    pub async fn oplog(&mut self, parts: &[Vec<Document>]) {
        for (n, entries) in parts.iter().enumerate() {
            let key = self.root.oplog_part(n as u32, &Codec::new(self.manifest.compression)).unwrap();
            let part = self.part(&key, entries).await;
            self.manifest.oplog.push(part);
        }
        let position = |d: &Document| {
            let ts = d.get_timestamp("ts").unwrap();
            Timestamp::new(ts.time, ts.increment)
        };
        let entries: Vec<&Document> = parts.iter().flatten().collect();
        self.manifest.oplog_entries = entries.len() as u64;
        self.manifest.oplog_from_ts = position(entries.first().unwrap());
        self.manifest.consistent_at_ts = position(entries.last().unwrap());
    }

    /// Sums up, and writes attempt and manifest.
    pub async fn finish(&mut self) {
        let manifest = &mut self.manifest;
        let of_collections = manifest.collections.iter().flat_map(|c| c.parts.iter().chain([&c.metadata]));
        manifest.size_bytes = of_collections.chain(&manifest.oplog).map(|o| o.size).sum();
        let parts = || manifest.collections.iter().flat_map(|c| &c.parts);
        (manifest.documents, manifest.uncompressed_bytes) =
            (parts().map(|p| p.documents).sum(), parts().map(|p| p.uncompressed).sum());
        let attempt = Attempt {
            renewed_at: None,
            pbm_name: None,
            format_version: FORMAT_VERSION,
            attempt_id: manifest.attempt_id.clone(),
            name: manifest.name.clone(),
            service: manifest.service.clone(),
            home_id: "home".into(),
            host: "host".into(),
            pid: 1,
            started_at: manifest.started_at,
        };
        let attempt = serde_json::to_vec(&attempt).unwrap();
        self.storage.put(&self.root.attempt().unwrap(), attempt.into(), PutMode::Overwrite).await.unwrap();
        self.write_manifest().await;
    }

    /// As it is now, whatever it says.
    pub async fn write_manifest(&self) {
        let bytes = self.manifest.to_bytes().unwrap();
        self.storage.put(&self.root.manifest().unwrap(), bytes.into(), PutMode::Overwrite).await.unwrap();
    }

    /// Keys of all objects of the backup.
    pub async fn objects(&self) -> Vec<Key> {
        let listing = self.storage.list(Some(self.root.key())).await.unwrap();
        listing.map_ok(|o| o.key).try_collect().await.unwrap()
    }

    pub async fn read(&self, key: &Key) -> Vec<u8> {
        read_all(self.storage.as_ref(), key, 1 << 30).await.unwrap().to_vec()
    }

    pub async fn write(&self, key: &Key, bytes: Vec<u8>) {
        self.storage.put(key, bytes.into(), PutMode::Overwrite).await.unwrap();
    }
}

pub fn hex(uuid: Uuid) -> String {
    uuid.iter().map(|b| format!("{b:02x}")).collect()
}

fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    match compression {
        Compression::Zstd(level) => zstd::encode_all(plain, level).unwrap(),
        Compression::Gzip(level) => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Compression::None => plain.to_vec(),
        Compression::Foreign(word) => panic!("nothing is written with {}", word.word()),
    }
}
