//! The manifest of a logical backup: the envelope, and beside it the collections and the oplog.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use crate::artifact::checksummed_json;
use crate::artifact::layout::FORMAT_VERSION;
use crate::artifact::manifest::{Envelope, ObjectEntry};
use crate::domain::namespace::Namespace;
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// An envelope with more in it: it is read as one, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogicalManifest {
    #[serde(flatten)]
    pub envelope: Envelope,
    /// First position of the stored oplog.
    pub oplog_from_ts: Timestamp,
    pub collections: Vec<CollectionEntry>,
    pub oplog: Vec<ObjectEntry>,
    /// Entries in the stored oplog.
    pub oplog_entries: u64,
    /// Transactions open at `consistent_at_ts`: a plain restore discards them.
    pub open_transactions: Vec<OpenTransaction>,
    /// Parts of definitions that the Extended JSON of the metadata files cannot say, so that other tools do not find them
    /// there. Our own restore reads the bytes beside it and has them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_in_json: Vec<LeftOut>,
}

impl LogicalManifest {
    /// The manifest as it is stored, with its checksum (see [`checksummed_json`]).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        checksummed_json::to_bytes(self)
    }

    /// Reads and checks a stored manifest; `place` names it in errors.
    ///
    /// Errors: `Unsupported` for a newer format, `Corrupt` for anything else that is not what was written.
    pub fn from_bytes(place: &str, bytes: &[u8]) -> Result<Self> {
        checksummed_json::from_bytes(place, bytes, FORMAT_VERSION)
    }

    /// Every object of the backup but `attempt.json` and the manifest itself.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectEntry> {
        let of_collections = self.collections.iter().flat_map(|c| c.parts.iter().chain([&c.metadata]));
        of_collections.chain(&self.oplog)
    }
}

impl Deref for LogicalManifest {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.envelope
    }
}

impl DerefMut for LogicalManifest {
    fn deref_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_yes(yes: &bool) -> bool {
    *yes
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
    /// Its documents are counted. Those of other tools' backups are not: `documents` says nothing then.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub counted: bool,
    /// Every change up to this majority-committed position is in the parts. Needed to replay a capped collection,
    /// where an insert that has already rolled out must not come back.
    pub read_from_ts: Timestamp,
    pub metadata: ObjectEntry,
    /// In natural order for a capped collection, in any order otherwise.
    pub parts: Vec<ObjectEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Base64 of the BSON `lsid`.
    pub lsid: String,
    pub txn_number: i64,
    pub first_ts: Timestamp,
    pub prepared: bool,
}
