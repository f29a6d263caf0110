//! What is reported while an oplog is followed.

use tokio::sync::mpsc;

use crate::domain::pitr::{Archive, Slice};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};

/// What happens while an oplog is followed.
#[derive(Debug)]
pub enum Event {
    /// Following has begun, on this member, with what comes after this position. `state`: what it is, and how far behind.
    Began { archive: Archive, member: String, after: Timestamp, state: String },
    /// In the storage, durably. Slices that a process which died had stored come first.
    Stored { archive: Archive, slice: Box<Slice> },
    /// A slice could not be stored; it is tried again for as long as it takes.
    StorageAway(Error),
    /// It could be stored after all.
    StorageBack,
    /// Nothing new can be recorded, because the member that is read does not get on.
    Stalled(Error),
    /// It gets on again.
    Moving,
    /// Something to put into the log.
    Warning(String),
}

/// Errors: `Cancelled` when nobody listens any more.
pub async fn emit(events: &mpsc::Sender<Event>, event: Event) -> Result<()> {
    events.send(event).await.map_err(|_| Error::cancelled())
}
