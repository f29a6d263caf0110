//! Where the oplog is taken up again.

use tokio_util::sync::CancellationToken;

use crate::domain::pitr::{Gap, OpTime};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::logical::op_time;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::topology::Reader;
use crate::mongo::{Server, oplog_source, topology};

/// Seconds that another member may be behind the one that is read.
const NEAR: u32 = 60;

/// Where recording begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The next slice holds what comes after this entry.
    pub after: OpTime,
    /// Why something before it is missing.
    pub gap: Option<Gap>,
    /// The member has no entry at the position to go on from; another one may.
    pub lacks: bool,
}

/// Where to go on after the entry `last`, the newest that is stored. `None`: the member does not have it yet.
pub async fn after(server: &Server, cancel: &CancellationToken, last: OpTime) -> Result<Option<Start>> {
    let service = escape(server.service());
    // Before anything is looked for: a member that catches up meanwhile does not lack what it got too late to be found.
    let majority = topology::op_times(server, cancel).await?.majority;
    let entry = oplog_source::entry_at(server, cancel, last.ts).await?;
    let here = entry.map(|entry| position(entry.as_bytes())).transpose()?;
    if here == Some(last) {
        return Ok(Some(Start { after: last, gap: None, lacks: false }));
    }
    if majority < last.ts {
        return Ok(None);
    }
    let reason = if let Some(here) = here {
        let (ts, stored, term) = (last.ts, last.term, here.term);
        format!(
            "service {service} has another history than what was recorded: position {ts} is of term {term}, not {stored}"
        )
    } else {
        let Some(oldest) = oplog_source::oldest(server, cancel).await? else { return Ok(None) };
        let oldest = position(oldest.as_bytes())?;
        if oldest.ts > last.ts {
            format!(
                "the oplog of service {service} rolled over before it was recorded: it begins at {}, the last entry \
                 recorded is {}",
                oldest.ts.to_datetime().format("%Y-%m-%d %H:%M:%S UTC"),
                last.ts.to_datetime().format("%Y-%m-%d %H:%M:%S UTC"),
            )
        } else {
            format!("the oplog of service {service} lacks the entry {} that was recorded from it", last.ts)
        }
    };
    let Start { after, .. } = at(server, cancel, majority).await?;
    let gap = Gap { from_ts: last.ts, to_ts: after.ts, reason };
    Ok(Some(Start { after, gap: Some(gap), lacks: here.is_none() }))
}

/// A member other than the one of `reader` that still has the entry `last`, `service` being all of them. Each keeps as much
/// of the oplog as it has room for: one that was made anew begins with the moment when it was. None that is far behind: it may
/// be cut off from the others.
pub async fn elsewhere(service: &Server, cancel: &CancellationToken, reader: &Reader, last: OpTime) -> Option<Reader> {
    if service.is_direct() {
        return None;
    }
    let majority = topology::op_times(&reader.server, cancel).await.ok()?.majority;
    for member in reader.set.candidates(last.ts).into_iter().filter(|m| m.host != reader.member.host) {
        // One that cannot be asked does not have it, as far as anybody knows.
        let Ok(other) = topology::read_from(service, &reader.set, member).await else { continue };
        let Ok(Some(entry)) = oplog_source::entry_at(&other.server, cancel, last.ts).await else { continue };
        let Ok(times) = topology::op_times(&other.server, cancel).await else { continue };
        let is_near = times.majority.t.saturating_add(NEAR) >= majority.t;
        if is_near && position(entry.as_bytes()).is_ok_and(|here| here == last) {
            return Some(other);
        }
    }
    None
}

/// Where to begin when nothing is stored: at the earliest of the moments `prefer` that the oplog still has, else now.
pub async fn first(server: &Server, cancel: &CancellationToken, mut prefer: Vec<Timestamp>) -> Result<Start> {
    // Asked once: now is before the base on a member that has not reached it, whatever it reaches meanwhile.
    let majority = topology::op_times(server, cancel).await?.majority;
    prefer.sort_unstable();
    for ts in prefer.into_iter().filter(|ts| *ts <= majority) {
        if let Some(entry) = oplog_source::entry_at(server, cancel, ts).await? {
            return Ok(Start { after: position(entry.as_bytes())?, gap: None, lacks: false });
        }
    }
    at(server, cancel, majority).await
}

/// `majority`: the position of the newest entry that no rollback can undo.
async fn at(server: &Server, cancel: &CancellationToken, majority: Timestamp) -> Result<Start> {
    let entry = oplog_source::entry_at(server, cancel, majority).await?.ok_or_else(|| {
        Error::new(
            ErrorKind::Interrupted,
            format!("service {}: the oplog has no entry at {majority}", escape(server.service())),
        )
    })?;
    Ok(Start { after: position(entry.as_bytes())?, gap: None, lacks: false })
}

fn position(entry: &[u8]) -> Result<OpTime> {
    op_time(entry).ok_or_else(|| Error::new(ErrorKind::Failed, "an entry of the oplog has no position"))
}
