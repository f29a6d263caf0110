//! What can be recovered of a service, and how its slicer does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Archive, Base, Coverage, Gap, Mark, Range, ranges};
use crate::domain::timestamp::Timestamp;

/// How long a recorder may take to begin once nothing keeps it from that. An engine that looks at its configuration every 15
/// seconds, and waits for locks as long, was seen to need up to half a minute.
pub const BEGIN_LIMIT: Duration = Duration::from_secs(90);

/// What a slicer last said of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct SlicerState {
    /// It follows the oplog now.
    pub running: bool,
    /// The last position it stored.
    pub stored: Option<Timestamp>,
    /// Why it does not run, safe to show, and what to do.
    pub error: Option<String>,
    pub hint: Option<String>,
    /// It does not run because another daemon records this oplog.
    pub held: bool,
    /// Since when it has been so.
    pub at: DateTime<Utc>,
}

impl SlicerState {
    /// Whether it is about to begin: nothing keeps it from that, and it has been so for less than [`BEGIN_LIMIT`].
    pub fn is_beginning(&self, now: DateTime<Utc>) -> bool {
        let since = (now - self.at).to_std().unwrap_or_default();
        !self.running && self.error.is_none() && since < BEGIN_LIMIT
    }
}

/// Serialised, it is one object of `pitr status` in the command-line contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    pub service: String,
    pub ranges: Vec<RecoverableRange>,
    pub gaps: Vec<ShownGap>,
    /// Seconds since the last change that is stored: at most so much would be lost now. `None`: nothing is stored.
    pub lag_seconds: Option<u64>,
    pub running: bool,
    /// It does not run yet, and is about to.
    pub beginning: bool,
    pub error: Option<String>,
    pub hint: Option<String>,
    /// The enabled point-in-time schedules of the service.
    pub schedules: Vec<String>,
    /// Where its oplog is kept; `None`: nowhere.
    pub archive: Option<Archive>,
    /// Backups that replay can begin with and that are covered, oldest first.
    pub bases: Vec<Base>,
    /// The newest base that lies after everything that is stored: nothing follows it yet.
    pub waiting_base: Option<Base>,
    pub marks: Vec<Mark>,
    pub slices: u64,
    /// Bytes of all slices as stored.
    pub size_bytes: u64,
}

impl Status {
    /// Whether somebody wants the oplog recorded, and nothing records it, nor is about to.
    pub fn is_stopped(&self) -> bool {
        !self.running && !self.beginning && !self.schedules.is_empty()
    }
}

/// Seconds from the last position that is stored to `now`: none for one of a server whose clock is ahead.
pub fn lag_seconds(stored: Timestamp, now: DateTime<Utc>) -> u64 {
    u64::try_from((now - stored.to_datetime()).num_seconds()).unwrap_or(0)
}

/// A range whose `from` and `to` are whole seconds that can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoverableRange {
    pub from: DateTime<Utc>,
    /// The last second that is stored completely.
    pub to: DateTime<Utc>,
    pub from_ts: Timestamp,
    pub to_ts: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownGap {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub from_ts: Timestamp,
    pub to_ts: Timestamp,
    pub reason: String,
}

/// The ranges of [`ranges`] in which at least one second is complete.
pub fn recoverable(covered: &[Coverage], bases: &[Base]) -> Vec<RecoverableRange> {
    ranges(covered, bases).into_iter().filter_map(shown).collect()
}

fn shown(range: Range) -> Option<RecoverableRange> {
    let Range { from_ts, to_ts } = range;
    let second = |t: u32| Timestamp::new(t, 0).to_datetime();
    (from_ts.t < to_ts.t).then(|| RecoverableRange { from: second(from_ts.t), to: second(to_ts.t - 1), from_ts, to_ts })
}

impl From<&Gap> for ShownGap {
    fn from(gap: &Gap) -> Self {
        Self {
            from: gap.from_ts.to_datetime(),
            to: gap.to_ts.to_datetime(),
            from_ts: gap.from_ts,
            to_ts: gap.to_ts,
            reason: gap.reason.clone(),
        }
    }
}
