//! A backup of PBM as the manifest that a logical backup of ours has, so that everything after that is the same code.
//!
//! Nothing of it is stored: it is made of PBM's metadata, and of a listing, whenever the backup is read.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::chunks;
use super::description::{Description, ReplicaSet, suffix};
use super::only_pbm::OnlyPbm;
use super::specs::{Spec, SpecKind};
use crate::artifact::codec::Encoded;
use crate::artifact::foreign::{ForeignObject, piece_of};
use crate::artifact::layout::FORMAT_VERSION;
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::artifact::raw::Raw;
use crate::domain::backup::{BackupType, Compression, Model};
use crate::domain::namespace::{Namespace, Pattern, Selection};
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::service::EngineKind;
use crate::domain::text::{counted, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::logical::{CollectionEntry, Definition, Foreign, LogicalManifest, hex};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::catalogue::BUCKETS_PREFIX;

/// Where PBM puts copies of the users and roles, which it restores.
const COPIES: [(&str, &str); 2] = [("pbmRUsers", "system.users"), ("pbmRRoles", "system.roles")];

/// No backup has so many bytes; with more, sums over a few backups would leave 64 bits.
const MOST: u64 = 1 << 61;

/// What PBM loses since 2.8. Nothing in a backup says which index it concerns.
pub const LOST: &str = "PBM keeps neither hidden nor prepareUnique of an index: one that was hidden is restored visible, and \
                        one that was being made unique accepts duplicates again";

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PbmManifest {
    #[serde(flatten)]
    pub logical: LogicalManifest,
    /// How the parts and the oplog are read.
    objects: Vec<ForeignObject>,
    /// Which positions each part of the oplog holds, by its path.
    spans: BTreeMap<String, (Timestamp, Timestamp)>,
    /// In the order of the collections.
    definitions: Vec<StoredDefinition>,
    /// See [`LOST`].
    loses_options: bool,
    /// Everything below the folder of the backup.
    pub files: Vec<ObjectEntry>,
}

/// Options and indexes of a collection, in a manifest that presents the backup of another tool: base64 of the BSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredDefinition {
    options: String,
    indexes: Vec<String>,
}

impl StoredDefinition {
    pub fn new(definition: &Definition) -> Self {
        let text = |raw: &Raw| STANDARD.encode(raw.as_bytes());
        Self { options: text(&definition.options), indexes: definition.indexes.iter().map(text).collect() }
    }

    /// Errors: `Internal`, for what was never one.
    pub fn read(&self) -> Result<Definition> {
        let raw = |text: &String| {
            let broken = || Error::new(ErrorKind::Internal, "a definition that was read is none");
            Raw::from_bytes(STANDARD.decode(text).map_err(|e| broken().source(e))?).map_err(|e| broken().source(e))
        };
        Ok(Definition { options: raw(&self.options)?, indexes: self.indexes.iter().map(raw).collect::<Result<_>>()? })
    }
}

impl PbmManifest {
    /// Errors: `Unsupported`, saying why, for a backup that only PBM restores.
    pub fn of(manifest: &Manifest) -> Result<Self> {
        match OnlyPbm::of(manifest) {
            Some(only_pbm) => Err(only_pbm.refused()),
            None => manifest.body(),
        }
    }

    /// The time series of which the UUID is not known.
    pub fn without_uuid(&self) -> Vec<Namespace> {
        let of_series = |c: &&CollectionEntry| c.kind == CollectionKind::Timeseries && c.uuid.is_none();
        self.logical.collections.iter().filter(of_series).map(|c| c.namespace.clone()).collect()
    }

    /// How its objects and definitions are read.
    pub fn foreign(&self) -> Result<Foreign> {
        let named = self.logical.collections.iter().zip(&self.definitions);
        Ok(Foreign {
            objects: self.objects.iter().map(|o| (o.path.clone(), o.clone())).collect(),
            spans: self.spans.clone(),
            definitions: named.map(|(c, d)| Ok((c.namespace.clone(), d.read()?))).collect::<Result<_>>()?,
            warnings: if self.loses_options { vec![LOST.to_owned()] } else { Vec::new() },
        })
    }
}

/// What was found of a backup.
pub struct Found<'a> {
    pub description: &'a Description,
    pub set: &'a ReplicaSet,
    /// The place of the storage, and PBM's folder in it.
    pub place: &'a str,
    pub folder: &'a str,
    pub specs: Vec<Spec>,
    /// PBM chose which options of indexes it wrote down.
    pub loses_options: bool,
    /// Everything below the folder of the backup: paths and sizes.
    pub files: Vec<(String, u64)>,
}

impl Found<'_> {
    /// Errors: `Corrupt` and `Unsupported` for what cannot be restored as a whole.
    pub fn into_manifest(self) -> Result<PbmManifest> {
        let encoded = self.description.encoded().ok_or_else(|| self.wrong("is compressed in an unknown way"))?;
        let mut sizes: HashMap<&str, u64> = HashMap::new();
        for (path, size) in &self.files {
            let sum = sizes.entry(piece_of(path).0).or_default();
            *sum = sum.saturating_add(*size);
        }
        let set = set_folder(self.description, self.set).ok_or_else(|| self.wrong("lies elsewhere than it says"))?;
        let mut parts = Parts { set: &set, encoded, sizes: &sizes, objects: Vec::new() };
        let mut left_out = Vec::new();
        let sorted = Sorted::new(&self.specs, &mut left_out);
        if self.loses_options {
            let what = "hidden and prepareUnique of indexes".into();
            left_out.push(LeftOut { what, why: "PBM does not keep them".into() });
        }
        let mut entries = Vec::new();
        for kept in &sorted.kept {
            entries.push((self.entry(kept, &mut parts)?, StoredDefinition::new(&kept.definition)));
        }
        let (collections, definitions): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let mut uuids: Vec<&str> = collections.iter().filter_map(|c: &CollectionEntry| c.uuid.as_deref()).collect();
        uuids.sort_unstable();
        if uuids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.wrong("has two collections of one UUID"));
        }
        let (oplog, spans) = self.oplog(&mut parts)?;
        let bytes = collections.iter().map(|c| c.bytes).fold(0, u64::saturating_add);
        let files: Vec<ObjectEntry> = self.files.iter().map(|(path, size)| object(path, *size, 0)).collect();
        let size = files.iter().map(|f| f.size).fold(0, u64::saturating_add);
        if bytes > MOST || size > MOST {
            return Err(self.wrong("has more bytes than there can be"));
        }
        let logical = LogicalManifest {
            envelope: self.envelope(left_out, bytes, size)?,
            oplog_from_ts: self.set.first_write(),
            collections,
            oplog,
            oplog_entries: 0,
            open_transactions: Vec::new(),
            not_in_json: Vec::new(),
        };
        Ok(PbmManifest {
            logical,
            objects: parts.objects,
            spans,
            definitions,
            loses_options: self.loses_options,
            files,
        })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::new(ErrorKind::Corrupt, format!("the PBM backup {} {what}", escape(&self.description.name)))
            .hint("use another backup")
    }

    fn entry(&self, kept: &Kept, parts: &mut Parts<'_>) -> Result<CollectionEntry> {
        let uuid = match (kept.kind, kept.uuid) {
            (CollectionKind::View, _) => None,
            (_, Some(uuid)) => Some(hex(uuid)),
            // See `buckets`.
            (CollectionKind::Timeseries, None) => None,
            (CollectionKind::Collection, None) => {
                let ns = escape(&kept.ns.to_string());
                return Err(self.wrong(&format!("does not say the UUID of {ns}")));
            }
        };
        let data = match kept.bytes {
            0 => Vec::new(),
            bytes => vec![parts.add(&kept.stored_as, bytes, Some(kept.crc64))?],
        };
        Ok(CollectionEntry {
            namespace: kept.ns.clone(),
            kind: kept.kind,
            uuid,
            documents: 0,
            bytes: kept.bytes,
            capped: kept.definition.options.get_bool("capped").unwrap_or(false),
            each_id_once: false,
            counted: false,
            read_from_ts: self.set.first_write(),
            metadata: object(&format!("{}/metadata.json", parts.set), 0, 0),
            parts: data,
        })
    }

    /// The stored oplog: chunks that follow each other, or, before 2.4, one object.
    #[allow(clippy::type_complexity)]
    fn oplog(&self, parts: &mut Parts<'_>) -> Result<(Vec<ObjectEntry>, BTreeMap<String, (Timestamp, Timestamp)>)> {
        let (first, last) = (self.set.first_write(), self.set.last_write());
        let folder = self.set.oplog_name.strip_prefix(&format!("{}/", self.description.name));
        let folder = folder.ok_or_else(|| self.wrong("has its oplog elsewhere"))?;
        let mut found: Vec<(&str, u64, Timestamp, Timestamp, Encoded)> = Vec::new();
        if let Some(size) = parts.sizes.get(folder) {
            found.push((folder, *size, first, last, parts.encoded));
        }
        let below = format!("{folder}/");
        for (path, size) in parts.sizes {
            let Some(span) = path.strip_prefix(&below).and_then(|name| chunks::span(name, "")) else { continue };
            found.push((path, *size, span.from, span.to, span.encoded));
        }
        found.sort_by_key(|(_, _, from, to, _)| (*from, *to));
        let mut at = first;
        for (_, _, from, to, _) in &found {
            if *from > at {
                return Err(self.wrong(&format!("lacks its oplog from {at} to {from}")));
            }
            at = at.max(*to);
        }
        if at < last || found.is_empty() {
            return Err(self.wrong(&format!("lacks its oplog from {at} to {last}")));
        }
        let mut spans = BTreeMap::new();
        let mut objects = Vec::new();
        for (path, size, from, to, encoded) in found {
            spans.insert(path.to_owned(), (from, to));
            objects.push(object(path, size, 0));
            let path = path.to_owned();
            parts.objects.push(ForeignObject { path, size, encoded, uncompressed: None, crc64: None });
        }
        Ok((objects, spans))
    }

    fn envelope(&self, left_out: Vec<LeftOut>, bytes: u64, size: u64) -> Result<Envelope> {
        let d = self.description;
        let at = |seconds: i64| {
            let at = u32::try_from(seconds).ok().and_then(|s| DateTime::<Utc>::from_timestamp(i64::from(s), 0));
            at.ok_or_else(|| self.wrong("was made at a time that cannot be"))
        };
        let compression = d.compression_word().ok_or_else(|| self.wrong("is compressed in an unknown way"))?;
        let patterns = d.namespaces().iter().map(|ns| {
            // What is a star in a name is one in a pattern, too, but for the last.
            ns.parse::<Pattern>().map_err(|why| self.wrong(&format!("is of the namespace {}: {why}", escape(ns))))
        });
        Ok(Envelope {
            format_version: FORMAT_VERSION,
            tool_version: format!("PBM {}", d.pbm_version),
            name: d.name.clone(),
            attempt_id: format!("pbm-{}", d.opid),
            service: self.set.name.clone(),
            cluster: None,
            folder: self.folder.to_owned(),
            schedule: None,
            engine: EngineKind::Pbm,
            model: Model::Logical,
            backup_type: BackupType::Full,
            server_version: d.mongodb_version.clone(),
            fcv: d.fcv.clone(),
            replica_set: self.set.name.clone(),
            replica_set_id: chunks::set_id(self.place, self.folder, &self.set.name),
            member: self.set.node.clone(),
            started_at: at(d.start_ts)?,
            finished_at: at(d.last_transition_ts)?,
            consistent_at_ts: self.set.last_write(),
            selection: Selection { include: patterns.collect::<Result<_>>()?, exclude: Vec::new() },
            compression: compression.map_or(Compression::None, Compression::Foreign),
            encryption: None,
            left_out,
            documents: 0,
            uncompressed_bytes: bytes,
            size_bytes: size,
            new_bytes: None,
            locked_millis: None,
            pbm_name: None,
            chain: None,
            checksum: String::new(),
        })
    }
}

/// The folder of a replica set, below that of the backup.
pub fn set_folder(description: &Description, set: &ReplicaSet) -> Option<String> {
    let below = set.dump_name.strip_prefix(&format!("{}/", description.name))?;
    below.strip_suffix("/metadata.json").filter(|folder| !folder.is_empty()).map(str::to_owned)
}

fn object(path: &str, size: u64, uncompressed: u64) -> ObjectEntry {
    ObjectEntry { path: path.to_owned(), size, blake3: String::new(), uncompressed, documents: 0 }
}

/// The objects of the collections.
struct Parts<'a> {
    set: &'a str,
    encoded: Encoded,
    sizes: &'a HashMap<&'a str, u64>,
    objects: Vec<ForeignObject>,
}

impl Parts<'_> {
    /// One that is not there is found when it is read.
    fn add(&mut self, stored_as: &str, bytes: u64, crc64: Option<u64>) -> Result<ObjectEntry> {
        let path = format!("{}/{stored_as}{}", self.set, suffix(self.encoded));
        let Ok(path) = crate::domain::key::Key::new(path) else {
            let what = format!("PBM stored {} under a name that no storage of ours has", escape(stored_as));
            return Err(Error::new(ErrorKind::Unsupported, what).hint("restore it with pbm restore"));
        };
        let path = path.as_str().to_owned();
        let size = self.sizes.get(path.as_str()).copied().unwrap_or(0);
        let entry = object(&path, size, bytes);
        self.objects.push(ForeignObject { path, size, encoded: self.encoded, uncompressed: Some(bytes), crc64 });
        Ok(entry)
    }
}

/// What is restored, under the name it has then.
struct Kept {
    ns: Namespace,
    kind: CollectionKind,
    uuid: Option<[u8; 16]>,
    definition: Definition,
    /// The name of its object, without what it ends in.
    stored_as: String,
    crc64: u64,
    bytes: u64,
}

impl Kept {
    fn new(ns: Namespace, spec: &Spec, kind: CollectionKind) -> Self {
        Self {
            ns,
            kind,
            uuid: spec.uuid,
            definition: spec.definition.clone(),
            stored_as: spec.ns.to_string(),
            crc64: spec.crc64,
            bytes: spec.bytes,
        }
    }
}

struct Sorted {
    kept: Vec<Kept>,
}

impl Sorted {
    /// Buckets belong to their time series, the copies of users and roles stand for those, and the state of PBM and of the
    /// server itself is not restored.
    fn new(specs: &[Spec], left_out: &mut Vec<LeftOut>) -> Self {
        let by_name: BTreeMap<&Namespace, &Spec> = specs.iter().map(|s| (&s.ns, s)).collect();
        let find = |db: &str, name: &str| by_name.get(&Namespace::new(db, name)).copied();
        let mut kept = Vec::new();
        let mut own_state = 0_u64;
        for spec in specs {
            let (db, name) = (spec.ns.db.as_str(), spec.ns.collection.as_str());
            let of_series = name.strip_prefix(BUCKETS_PREFIX);
            match spec.kind {
                SpecKind::View => kept.push(Kept::new(spec.ns.clone(), spec, CollectionKind::View)),
                SpecKind::Timeseries => {
                    let mut series = Kept::new(spec.ns.clone(), spec, CollectionKind::Timeseries);
                    if let Some(buckets) = find(db, &format!("{BUCKETS_PREFIX}{name}")) {
                        (series.uuid, series.crc64, series.bytes) = (buckets.uuid, buckets.crc64, buckets.bytes);
                    }
                    kept.push(series);
                }
                SpecKind::Collection if db == "admin" => {
                    let copied = COPIES.iter().find(|(copy, users)| *copy == name || *users == name);
                    match copied {
                        Some((copy, users)) if *copy == name => {
                            let mut of = Kept::new(Namespace::new(db, *users), spec, CollectionKind::Collection);
                            if let Some(original) = find(db, users) {
                                (of.uuid, of.definition) = (original.uuid, original.definition.clone());
                            }
                            kept.push(of);
                        }
                        Some((copy, _)) if find(db, copy).is_some() => {}
                        Some(_) => kept.push(Kept::new(spec.ns.clone(), spec, CollectionKind::Collection)),
                        None if name.starts_with("pbm") => own_state += 1,
                        None if name.starts_with("system.") && name != "system.js" => {}
                        None => kept.push(Kept::new(spec.ns.clone(), spec, CollectionKind::Collection)),
                    }
                }
                SpecKind::Collection if of_series.is_some_and(|of| find(db, of).is_some()) => {}
                SpecKind::Collection if of_series.is_some() => left_out.push(LeftOut {
                    what: escape(&spec.ns.to_string()),
                    why: "buckets whose time series PBM did not store".into(),
                }),
                SpecKind::Collection => kept.push(Kept::new(spec.ns.clone(), spec, CollectionKind::Collection)),
            }
        }
        if own_state > 0 {
            let what = format!("{} admin.pbm*", counted(own_state, "collection"));
            left_out.push(LeftOut { what, why: "state of Percona Backup for MongoDB".into() });
        }
        kept.sort_by(|a, b| a.ns.cmp(&b.ns));
        Self { kept }
    }
}
