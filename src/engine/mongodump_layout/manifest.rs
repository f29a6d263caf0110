//! A folder of `mongodump` as the manifest that a logical backup of ours has, so that everything after that is the same code.
//!
//! Nothing of it is stored: it is made of the metadata files, and of a listing, whenever the backup is read.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::artifact::codec::Encoded;
use crate::artifact::foreign::ForeignObject;
use crate::artifact::layout::FORMAT_VERSION;
use crate::artifact::manifest::{Envelope, ObjectEntry};
use crate::domain::backup::{BackupType, Compression, ForeignCompression, Model};
use crate::domain::namespace::{Namespace, Pattern, Selection};
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::service::EngineKind;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::logical::{CollectionEntry, Definition, Foreign, LogicalManifest};
use crate::engine::pbm_layout::StoredDefinition;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::catalogue::BUCKETS_PREFIX;

/// Said of every dump without an oplog.
pub const NO_MOMENT: &str = "it was made without --oplog: it holds the data of no single moment, and what was written while \
                             mongodump ran may be in it or not";

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DumpManifest {
    #[serde(flatten)]
    pub logical: LogicalManifest,
    /// How the files are read.
    objects: Vec<ForeignObject>,
    /// Which positions the oplog holds, by its path.
    spans: BTreeMap<String, (Timestamp, Timestamp)>,
    /// In the order of the collections.
    definitions: Vec<StoredDefinition>,
    /// Every file of the dump but its prelude.
    pub files: Vec<ObjectEntry>,
    /// It is all in one object.
    pub is_archive: bool,
}

impl DumpManifest {
    /// The time series of which the UUID is not known.
    pub fn without_uuid(&self) -> Vec<Namespace> {
        let of_series = |c: &&CollectionEntry| c.kind != CollectionKind::View && c.uuid.is_none();
        self.logical.collections.iter().filter(of_series).map(|c| c.namespace.clone()).collect()
    }

    /// How its objects and definitions are read.
    pub fn foreign(&self) -> Result<Foreign> {
        let named = self.logical.collections.iter().zip(&self.definitions);
        Ok(Foreign {
            objects: self.objects.iter().map(|o| (o.path.clone(), o.clone())).collect(),
            spans: self.spans.clone(),
            definitions: named.map(|(c, d)| Ok((c.namespace.clone(), d.read()?))).collect::<Result<_>>()?,
            warnings: if self.logical.oplog.is_empty() { vec![NO_MOMENT.to_owned()] } else { Vec::new() },
        })
    }
}

/// A collection, view or time series, as its metadata file says.
pub struct Described {
    pub ns: Namespace,
    pub kind: CollectionKind,
    pub uuid: Option<String>,
    pub definition: Definition,
    /// Path and size of its metadata file.
    pub metadata: (String, u64),
}

/// Documents of a dump.
#[derive(Debug, Clone)]
pub struct DataFile {
    pub path: String,
    pub size: u64,
    /// CRC-64 (ECMA) of the documents, where it was written down.
    pub crc64: Option<u64>,
}

/// An archive that a dump is in.
pub struct InArchive {
    pub size: u64,
    /// Another archive has another one.
    pub identity: String,
}

/// What was found of a dump.
pub struct Found {
    /// The path of its folder or archive.
    pub name: String,
    /// `None`: it is a folder.
    pub archive: Option<InArchive>,
    pub server_version: String,
    pub tool_version: String,
    pub gzipped: bool,
    pub described: Vec<Described>,
    pub documents: BTreeMap<Namespace, DataFile>,
    /// With the first and the last position.
    pub oplog: Option<(DataFile, Timestamp, Timestamp)>,
    /// Path and size, of a folder.
    pub files: Vec<(String, u64)>,
}

impl Found {
    /// Errors: `Corrupt` and `Unsupported` for what cannot be restored as a whole.
    pub fn into_manifest(self) -> Result<DumpManifest> {
        // What is compressed of an archive is all of it, and not its collections.
        let encoded = if self.gzipped && self.archive.is_none() { Encoded::Gzip } else { Encoded::Plain };
        let presented = |file: &DataFile| ForeignObject {
            path: file.path.clone(),
            size: file.size,
            encoded,
            uncompressed: (encoded == Encoded::Plain).then_some(file.size),
            crc64: file.crc64,
        };
        let mut left_out = Vec::new();
        let mut documents = self.documents.clone();
        let mut objects = Vec::new();
        let (mut entries, mut definitions) = (Vec::new(), Vec::new());
        let from = self.oplog.as_ref().map_or(Timestamp::MIN, |(_, first, _)| *first);
        for described in &self.described {
            let ns = &described.ns;
            let stored_as = match described.kind {
                CollectionKind::Timeseries => Namespace::new(&ns.db, format!("{BUCKETS_PREFIX}{}", ns.collection)),
                CollectionKind::Collection | CollectionKind::View => ns.clone(),
            };
            let data = documents.remove(&stored_as);
            if let Some(why) = never_restored(ns) {
                left_out.push(LeftOut { what: escape(&ns.to_string()), why: why.to_owned() });
                continue;
            }
            let (mut parts, mut bytes) = (Vec::new(), 0);
            match (data, described.kind) {
                // A view that was dumped as a collection has its documents: they are its own no more than the view's.
                (_, CollectionKind::View) => {}
                (Some(file), _) => {
                    bytes = file.size;
                    if file.size > 0 {
                        parts.push(object(&file.path, file.size));
                        objects.push(presented(&file));
                    }
                }
                (None, _) => {
                    return Err(self.wrong(&format!("lacks the documents of {}", escape(&ns.to_string()))));
                }
            }
            entries.push(CollectionEntry {
                namespace: ns.clone(),
                kind: described.kind,
                uuid: described.uuid.clone(),
                documents: 0,
                bytes,
                capped: described.definition.options.get_bool("capped").unwrap_or(false),
                each_id_once: false,
                counted: false,
                read_from_ts: from,
                metadata: object(&described.metadata.0, described.metadata.1),
                parts,
            });
            definitions.push(StoredDefinition::new(&described.definition));
        }
        // They have no metadata.
        for ns in documents.extract_if(.., |ns, _| of_one_database(ns)).map(|(ns, _)| ns) {
            left_out.push(LeftOut { what: escape(&ns.to_string()), why: OF_ONE_DATABASE.to_owned() });
        }
        // What is left belongs to nothing that was described.
        if let Some(ns) = documents.keys().next() {
            return Err(self.wrong(&format!("lacks the metadata of {}", escape(&ns.to_string()))));
        }
        let mut uuids: Vec<&str> = entries.iter().filter_map(|c| c.uuid.as_deref()).collect();
        uuids.sort_unstable();
        if uuids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.wrong("has two collections of one UUID"));
        }
        let (mut oplog, mut spans) = (Vec::new(), BTreeMap::new());
        if let Some((file, first, last)) = &self.oplog {
            oplog.push(object(&file.path, file.size));
            spans.insert(file.path.clone(), (*first, *last));
            objects.push(presented(file));
        }
        let files: Vec<ObjectEntry> = self.files.iter().map(|(path, size)| object(path, *size)).collect();
        let bytes = entries.iter().map(|c| c.bytes).fold(0, u64::saturating_add);
        let logical = LogicalManifest {
            envelope: self.envelope(&entries, left_out, bytes)?,
            oplog_from_ts: from,
            collections: entries,
            oplog,
            oplog_entries: 0,
            open_transactions: Vec::new(),
            not_in_json: Vec::new(),
        };
        Ok(DumpManifest { logical, objects, spans, definitions, files, is_archive: self.archive.is_some() })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::new(ErrorKind::Corrupt, format!("the dump in {} {what}", escape(&self.name)))
            .hint("use another backup, or restore what there is with mongorestore")
    }

    fn envelope(&self, entries: &[CollectionEntry], left_out: Vec<LeftOut>, bytes: u64) -> Result<Envelope> {
        // With an oplog everything was dumped: mongodump takes one only then.
        let include = match &self.oplog {
            Some(_) => Vec::new(),
            None => {
                let dbs: BTreeSet<&str> = entries.iter().map(|c| c.namespace.db.as_str()).collect();
                let patterns = dbs.into_iter().map(|db| {
                    db.parse::<Pattern>().map_err(|why| self.wrong(&format!("is of database {}: {why}", escape(db))))
                });
                patterns.collect::<Result<_>>()?
            }
        };
        let mut version = self.server_version.split('.');
        let (Some(major), Some(minor)) = (version.next(), version.next()) else {
            return Err(self.wrong("does not say which server was dumped"));
        };
        let at = self.oplog.as_ref().map_or(Timestamp::MIN, |(_, _, last)| *last);
        // Nothing in it says when it was made, but an oplog.
        let (started_at, finished_at): (DateTime<Utc>, _) = match &self.oplog {
            Some((_, first, last)) => (first.to_datetime(), last.to_datetime()),
            None => (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH),
        };
        let (identity, size_bytes) = match &self.archive {
            Some(archive) => (archive.identity.clone(), archive.size),
            None => {
                let mut identity = blake3::Hasher::new();
                for (path, size) in &self.files {
                    identity.update(format!("{path}\0{size}\0").as_bytes());
                }
                let sizes = self.files.iter().map(|(_, size)| *size);
                (identity.finalize().to_hex().to_string(), sizes.fold(0, u64::saturating_add))
            }
        };
        let folder = match &self.archive {
            Some(_) => self.name.rsplit_once('/').map_or("", |(folder, _)| folder),
            None => &self.name,
        };
        let compression = if self.gzipped { Compression::Foreign(ForeignCompression::Gzip) } else { Compression::None };
        Ok(Envelope {
            format_version: FORMAT_VERSION,
            tool_version: format!("mongodump {}", self.tool_version),
            name: self.name.clone(),
            attempt_id: format!("mongodump-{}", identity.get(..24).unwrap_or_default()),
            service: "mongodump".into(),
            cluster: None,
            folder: folder.to_owned(),
            schedule: None,
            engine: EngineKind::Mongodump,
            model: Model::Logical,
            backup_type: BackupType::Full,
            server_version: self.server_version.clone(),
            fcv: format!("{major}.{minor}"),
            replica_set: String::new(),
            replica_set_id: String::new(),
            member: String::new(),
            started_at,
            finished_at,
            consistent_at_ts: at,
            selection: Selection { include, exclude: Vec::new() },
            encryption: None,
            compression,
            left_out,
            documents: 0,
            uncompressed_bytes: if self.gzipped && self.archive.is_none() { 0 } else { bytes },
            size_bytes,
            new_bytes: None,
            locked_millis: None,
            pbm_name: None,
            chain: None,
            checksum: String::new(),
        })
    }
}

const OF_ONE_DATABASE: &str =
    "users and roles of one database (--dumpDbUsersAndRoles) are restored by mongorestore alone";

fn of_one_database(ns: &Namespace) -> bool {
    ns.collection.starts_with("$admin.system.")
}

/// Why a collection of a dump is not restored here.
fn never_restored(ns: &Namespace) -> Option<&'static str> {
    if of_one_database(ns) {
        return Some(OF_ONE_DATABASE);
    }
    let is_users = ns.db == "admin" && ["system.users", "system.roles"].contains(&ns.collection.as_str());
    let is_kept = is_users || ns.collection == "system.js" || ns.collection.starts_with("system.views");
    if ns.db == "admin" && ns.collection.starts_with("system.") && !is_kept {
        return Some("it belongs to the server");
    }
    if ns.db == "config" || ns.db == "local" { Some("it belongs to the server") } else { None }
}

fn object(path: &str, size: u64) -> ObjectEntry {
    ObjectEntry { path: path.to_owned(), size, blake3: String::new(), uncompressed: size, documents: 0 }
}
