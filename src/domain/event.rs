//! What a notification can be about.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What can be reported, as named in the setting `notify.on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A backup, restore, verification or deletion failed, after its last retry.
    Failure,
    /// A backup, restore or verification succeeded.
    Success,
    /// A run of a schedule was not made: missed, or skipped because the previous one was still going.
    Missed,
    /// Retention could not delete what it should.
    RetentionFailure,
    /// A service has had no good backup for too long.
    Stale,
    /// The disk of a storage is nearly full.
    StorageFull,
    /// A piece of the oplog of a service was lost before it was recorded.
    PitrGap,
    /// Recording the oplog of a service goes on, far behind what happens there.
    PitrLag,
    /// The oplog of a service is to be recorded, and is not.
    PitrStopped,
    /// The same, because another mongokeep does it.
    PitrHeld,
    /// The copy of the store in the storage of `state.backup_storage` could not be brought up to date.
    StateCopy,
    /// Somebody tries whether notifications arrive.
    Test,
}

/// Those that `notify.on` may name.
pub const EVENTS: [Event; 11] = [
    Event::Failure,
    Event::Success,
    Event::Missed,
    Event::RetentionFailure,
    Event::Stale,
    Event::StorageFull,
    Event::PitrGap,
    Event::PitrLag,
    Event::PitrStopped,
    Event::PitrHeld,
    Event::StateCopy,
];

impl Event {
    pub fn word(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Success => "success",
            Self::Missed => "missed",
            Self::RetentionFailure => "retention_failure",
            Self::Stale => "stale",
            Self::StorageFull => "storage_full",
            Self::PitrGap => "pitr_gap",
            Self::PitrLag => "pitr_lag",
            Self::PitrStopped => "pitr_stopped",
            Self::PitrHeld => "pitr_held",
            Self::StateCopy => "state_copy",
            Self::Test => "test",
        }
    }
}

/// Reads `failure, missed`: words of [`EVENTS`] separated by commas.
pub fn parse_events(text: &str) -> Result<BTreeSet<Event>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            EVENTS.into_iter().find(|event| event.word() == word).ok_or_else(|| {
                let all: Vec<_> = EVENTS.iter().map(|event| event.word()).collect();
                format!("{} is none of {}", super::text::quoted(word), all.join(", "))
            })
        })
        .collect()
}
