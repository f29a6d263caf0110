//! Point-in-time recovery: the recorded oplog of a replica set, and which moments it can bring back.
//!
//! Slices are contiguous pieces of the oplog. A base is a whole backup. Together they make ranges: from the
//! moment a base is consistent at to the last entry of the slices that follow it without a gap.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::backup::Model;
use super::encryption::Recipient;
use super::timestamp::Timestamp;

mod chain;
mod engine_record;
mod gaps;
mod status;
mod when;
mod window;

pub use chain::{Broken, Coverage, Range, coverage, join, path, ranges};
pub use engine_record::{EngineRecord, Piece};
pub use gaps::gaps;
pub use status::{BEGIN_LIMIT, RecoverableRange, ShownGap, SlicerState, Status, lag_seconds, recoverable};
pub use when::{Outside, When, resolve};
pub use window::{Keeps, Useless, lost, useless, window};

/// A position of the oplog with the election term it was written in. Two histories may share a position, never this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpTime {
    pub ts: Timestamp,
    pub term: i64,
}

impl OpTime {
    /// Whoever recorded it did not write the term down.
    pub const UNKNOWN_TERM: i64 = -1;
}

/// Where the oplog of one replica set is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Archive {
    pub storage: String,
    pub folder: String,
    pub replica_set: String,
    /// ObjectId of the replica set's configuration, in hex: two sets of one name do not mix.
    pub replica_set_id: String,
}

impl Archive {
    /// How the id of a replica set begins whose oplog PBM recorded: PBM does not say which one it is.
    pub const OF_PBM: &'static str = "pbm-";

    /// What stands in the place of the id where the engine of the service records by itself, for all replica sets of the
    /// cluster together: there are no slices then, only what the engine says it has.
    pub const BY_ENGINE: &'static str = "by-engine";

    /// The engine of the service records it, and restores from it.
    pub fn is_by_engine(&self) -> bool {
        self.replica_set_id == Self::BY_ENGINE
    }

    /// Another tool recorded it: it is read and never changed.
    pub fn is_foreign(&self) -> bool {
        self.replica_set_id.starts_with(Self::OF_PBM)
    }
}

/// One stored piece of the oplog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The key of its object, from the root of the storage.
    pub key: String,
    /// It holds every entry after this one ...
    pub after: OpTime,
    /// ... up to and including this one.
    pub last: OpTime,
    pub entries: u64,
    /// Entries that change something.
    pub operations: u64,
    /// Bytes as stored.
    pub size: u64,
    /// Bytes of BSON.
    pub uncompressed: u64,
    /// Where the compressed entries begin within the object, and the BLAKE3 of the bytes from there on.
    pub data_offset: u64,
    pub blake3: String,
    /// Whom it is encrypted to; nobody where it is not. Then it has no checksum, because its encryption authenticates it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<Recipient>,
    pub written_at: DateTime<Utc>,
    /// Why what lies before it is missing; `None` for one that continues, or begins, without a loss.
    pub gap: Option<Gap>,
    pub marks: Vec<Mark>,
    /// How many operations in which second, for those with any.
    pub counts: Vec<(u32, u32)>,
}

/// A piece of the oplog that nobody stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last position that is stored before it.
    pub from_ts: Timestamp,
    /// The position from which on everything is stored again.
    pub to_ts: Timestamp,
    /// A sentence, safe to show.
    pub reason: String,
}

/// Something worth seeing on the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub ts: Timestamp,
    pub kind: MarkKind,
    /// What was restored, safe to show.
    pub text: String,
}

/// What mongokeep notes in the oplog of a service it restores into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    RestoreBegan,
    RestoreEnded,
}

/// A whole logical backup that replay can begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    pub backup: String,
    pub consistent_at_ts: Timestamp,
    /// Changes are replayed into a service after documents, into a folder after files.
    #[serde(default)]
    pub model: Model,
}

/// The moment a restore is asked to go back to. Kept with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointInTime {
    /// The service whose past it is.
    pub service: String,
    pub when: When,
    /// The backup to begin with; `None`: the newest before the moment.
    #[serde(default)]
    pub base: Option<String>,
}

/// So many bytes of documents are loaded, and so many entries replayed, in a second: cautious guesses, for saying
/// whether a person should wait for it or have lunch.
const LOADED_PER_SECOND: u64 = 60_000_000;
const REPLAYED_PER_SECOND: u64 = 50_000;

/// How long a restore may take: the documents of its base, then the entries after it.
pub fn expected_seconds(base_bytes: u64, entries: u64) -> u64 {
    (base_bytes / LOADED_PER_SECOND).saturating_add(entries / REPLAYED_PER_SECOND).max(1)
}

/// The part of a restore's plan that says how the moment is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedReplay {
    pub service: String,
    pub archive: Archive,
    /// Every change up to and including this position.
    pub until: Timestamp,
    /// The second of that position.
    pub until_at: DateTime<Utc>,
    pub base: Base,
    pub slices: u64,
    /// Entries in those slices: at most so many are read.
    pub entries: u64,
    /// Bytes as stored of those slices.
    pub bytes: u64,
    pub expected_seconds: u64,
}
