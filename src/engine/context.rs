//! What every run of an engine is given.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::progress::Meter;
use super::surroundings::Surroundings;
use crate::domain::bandwidth::BandwidthLimit;
use crate::storage::throttle::Limiter;

/// How long a server is looked for before an attempt fails.
pub const CONNECT_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// What every run of an engine is given.
#[derive(Clone)]
pub struct Context {
    pub cancel: CancellationToken,
    /// The daemon ends. Before `cancel`, so that whoever only follows what others do can leave it to them, and return
    /// `LeftRunning`: the next daemon follows it.
    pub leave: CancellationToken,
    pub meter: Arc<Meter>,
    pub limits: Limits,
    /// Over all uploads and downloads of the job, whatever storages they go to or come from.
    pub limiter: Limiter,
    pub around: Surroundings,
}

impl Default for Context {
    /// Nobody watches, and nobody cancels.
    fn default() -> Self {
        Self {
            cancel: CancellationToken::new(),
            leave: CancellationToken::new(),
            meter: Arc::new(Meter::silent()),
            limits: Limits::default(),
            limiter: Limiter::new(BandwidthLimit::none()),
            around: Surroundings::default(),
        }
    }
}

impl Context {
    /// Whether a person asked to end it. A daemon that ends cancels as well.
    pub fn is_cancelled_by_person(&self) -> bool {
        self.cancel.is_cancelled() && !self.leave.is_cancelled()
    }
}

/// Bounds set by a person (`backup.*` settings).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Cursors (backup) or connections (restore) that move documents at once.
    pub parallel_collections: usize,
    /// A collection above this many bytes is read by several cursors.
    pub split_bytes: u64,
    /// A part ends after about this many bytes of BSON.
    pub part_bytes: u64,
    /// How long a majority of the members may take to confirm what was written.
    pub majority_wait: std::time::Duration,
    /// Parts on their way to a remote storage at once, at most, and the same from there; over all objects of a job.
    pub parallel_parts: usize,
    /// How long a storage that is away is waited for.
    pub storage_wait: std::time::Duration,
    /// Everything that was stored is read back before the manifest is written.
    pub read_back: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel_collections: 4,
            split_bytes: 1 << 30,
            part_bytes: 256 << 20,
            majority_wait: crate::mongo::majority::LIMIT,
            parallel_parts: crate::storage::in_flight::MOST_PARTS,
            storage_wait: crate::storage::retry::Backoff::default().total,
            read_back: false,
        }
    }
}
