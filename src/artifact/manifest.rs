//! The manifest: written last, it makes the objects before it a backup.
//!
//! Readers ignore fields they do not know and refuse a newer major version. The last field, `checksum`, is the
//! BLAKE3 of every byte before it, so that a flipped byte of the manifest itself is found.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::backup::{BackupType, Compression, Model};
use crate::domain::namespace::{Namespace, Selection};
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::service::EngineKind;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

use super::layout::FORMAT_VERSION;
use super::seal;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub tool_version: String,
    pub name: String,
    /// Names one attempt of one backup; the same in `attempt.json`.
    pub attempt_id: String,
    pub service: String,
    pub cluster: Option<String>,
    pub folder: String,
    pub schedule: Option<String>,
    pub engine: EngineKind,
    pub model: Model,
    #[serde(rename = "type")]
    pub backup_type: BackupType,
    pub server_version: String,
    pub fcv: String,
    pub replica_set: String,
    /// ObjectId of the replica set's configuration, in hex.
    pub replica_set_id: String,
    /// The member everything was read from, `host:port`.
    pub member: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    /// First position of the stored oplog.
    pub oplog_from_ts: Timestamp,
    /// The data with the oplog applied is the replica set's state after this position.
    pub consistent_at_ts: Timestamp,
    pub selection: Selection,
    pub compression: Compression,
    pub collections: Vec<CollectionEntry>,
    pub oplog: Vec<ObjectEntry>,
    /// Entries in the stored oplog.
    pub oplog_entries: u64,
    /// Transactions open at `consistent_at_ts`: a plain restore discards them.
    pub open_transactions: Vec<OpenTransaction>,
    pub left_out: Vec<LeftOut>,
    /// Parts of definitions that the Extended JSON of the metadata files cannot say, so that other tools do not find them
    /// there. Our own restore reads the bytes beside it and has them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_in_json: Vec<LeftOut>,
    /// Documents, bytes of BSON and bytes stored, of all collections and the oplog.
    pub documents: u64,
    pub uncompressed_bytes: u64,
    pub size_bytes: u64,
    /// BLAKE3 of all bytes before this field's name. Filled in by [`Manifest::to_bytes`].
    #[serde(default, skip_serializing)]
    pub checksum: String,
}

/// A collection, view or time series, under the name it had when collections were listed. Later renames and drops
/// are in the stored oplog; `uuid` connects the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectionEntry {
    pub namespace: Namespace,
    pub kind: CollectionKind,
    /// 32 hex digits; none for a view. For a time series, of its buckets collection.
    pub uuid: Option<String>,
    pub documents: u64,
    pub bytes: u64,
    pub capped: bool,
    /// No `_id` stands in the parts twice. Backups of earlier versions do not say so: a document that was deleted and
    /// inserted again while it was read may be there twice, and its changes are in the stored oplog.
    #[serde(default)]
    pub each_id_once: bool,
    /// Every change up to this majority-committed position is in the parts. Needed to replay a capped collection,
    /// where an insert that has already rolled out must not come back.
    pub read_from_ts: Timestamp,
    pub metadata: ObjectEntry,
    /// In natural order for a capped collection, in any order otherwise.
    pub parts: Vec<ObjectEntry>,
}

/// One stored object. `path` is relative to the backup's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEntry {
    pub path: String,
    /// Bytes as stored.
    pub size: u64,
    /// BLAKE3 of the bytes as stored, in hex.
    pub blake3: String,
    /// Bytes of BSON (or JSON) before compression.
    pub uncompressed: u64,
    /// Documents in it; 0 for metadata.
    pub documents: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Base64 of the BSON `lsid`.
    pub lsid: String,
    pub txn_number: i64,
    pub first_ts: Timestamp,
    pub prepared: bool,
}

impl Manifest {
    /// The manifest as it is stored, sealed (see [`seal`]).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        seal::to_bytes(self)
    }

    /// Reads and checks a stored manifest; `place` names it in errors.
    ///
    /// Errors: `Unsupported` for a newer format, `Corrupt` for anything else that is not what was written.
    pub fn from_bytes(place: &str, bytes: &[u8]) -> Result<Self> {
        seal::from_bytes(place, bytes, FORMAT_VERSION)
    }
}

/// `attempt.json`: written before anything else, created conditionally, so that two writers never share a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub format_version: u32,
    pub attempt_id: String,
    pub name: String,
    pub service: String,
    /// Identifies the home (store) that runs the job; cleaning up touches only attempts of one's own.
    pub home_id: String,
    pub host: String,
    pub pid: u32,
    pub started_at: DateTime<Utc>,
}
