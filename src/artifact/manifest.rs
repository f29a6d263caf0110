//! The manifest: written last, it makes the objects before it a backup.
//!
//! Readers ignore fields they do not know and refuse a newer major version. The last field, `checksum`, is the
//! BLAKE3 of every byte before it, so that a flipped byte of the manifest itself is found. It is one flat object: an
//! envelope, which is the same for every engine, and beside it the fields of the engine that made the backup.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::backup::{BackupType, ChainLink, Compression, Model};
use crate::domain::encryption::Encryption;
use crate::domain::namespace::Selection;
use crate::domain::restore::LeftOut;
use crate::domain::service::EngineKind;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

use super::checksummed_json;
use super::layout::FORMAT_VERSION;

/// What every engine says of a backup: who made it, when, of which server, and which moment it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
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
    /// The data with the oplog applied is the replica set's state after this position.
    pub consistent_at_ts: Timestamp,
    pub selection: Selection,
    pub compression: Compression,
    /// Whom its objects are encrypted to. Sizes and checksums of objects are those of what is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    pub left_out: Vec<LeftOut>,
    /// Documents, bytes of BSON and bytes stored, of all collections and the oplog.
    pub documents: u64,
    pub uncompressed_bytes: u64,
    pub size_bytes: u64,
    /// Of `size_bytes`: what was sent for this backup, where a part of it may have been there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_bytes: Option<u64>,
    /// How long the server was locked against writes for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_millis: Option<u64>,
    /// The name that Percona Backup for MongoDB gave what it made for us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pbm_name: Option<String>,
    /// Of an increment, or the base of some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainLink>,
    /// BLAKE3 of all bytes before this field's name. Filled in when it is written.
    #[serde(default, skip_serializing)]
    pub checksum: String,
}

/// One stored object. `path` is relative to the backup's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEntry {
    pub path: String,
    /// Bytes as stored.
    pub size: u64,
    /// BLAKE3 of the bytes as stored, in hex.
    pub blake3: String,
    /// Bytes of BSON (or JSON) before compression and encryption.
    pub uncompressed: u64,
    /// Documents in it; 0 for metadata.
    pub documents: u64,
}

/// A manifest as it was read: what every engine says in the same way, and the rest, which only its engine understands.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub envelope: Envelope,
    bytes: Arc<[u8]>,
}

impl Manifest {
    /// Reads and checks a stored manifest; `place` names it in errors.
    ///
    /// Errors: `Unsupported` for a newer format, `Corrupt` for anything else that is not what was written.
    pub fn from_bytes(place: &str, bytes: &[u8]) -> Result<Self> {
        let envelope = checksummed_json::from_bytes(place, bytes, FORMAT_VERSION)?;
        Ok(Self { envelope, bytes: bytes.into() })
    }

    /// What an engine made of the description of another tool, which is not ours to check: `body` holds the envelope, too.
    pub fn of_other_tool(envelope: Envelope, body: &impl Serialize) -> Result<Self> {
        let failed = |e| Error::new(ErrorKind::Internal, "presenting the backup of another tool").source(e);
        Ok(Self { envelope, bytes: serde_json::to_vec(body).map_err(failed)?.into() })
    }

    /// All of it, as the engine that wrote it knows it.
    ///
    /// Errors: `Corrupt` when it lacks what that engine writes.
    pub fn body<B: DeserializeOwned>(&self) -> Result<B> {
        serde_json::from_slice(&self.bytes).map_err(|e| {
            let what = format!("the manifest of backup {} is not what it should be", escape(&self.envelope.name));
            Error::new(ErrorKind::Corrupt, what).source(e).hint("use another backup")
        })
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
    /// Of an attempt that uses blocks which others may remove: when it was last known to be alive. It is renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<DateTime<Utc>>,
    /// Of an attempt that PBM works for: the backup that PBM makes, by PBM's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pbm_name: Option<String>,
}
