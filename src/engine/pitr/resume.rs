//! Where the oplog is taken up again.

use tokio_util::sync::CancellationToken;

use crate::domain::pitr::{Gap, OpTime};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::op_time;
use crate::mongo::reader::{self, Reader};
use crate::mongo::{Server, oplog_source, topology};

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

/// Where to go on after the entry `last`, the newest that is stored: where that is not to be had, at `base`, the moment of a
/// base that is newer, or else now. `None`: the member does not have `last` yet.
pub async fn after(
    server: &Server,
    cancel: &CancellationToken,
    last: OpTime,
    base: Option<Timestamp>,
) -> Result<Option<Start>> {
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
        let what = "the last entry recorded is";
        let Some(reason) = why_missing(server, cancel, last.ts, what).await? else { return Ok(None) };
        reason
    };
    let base = base.filter(|base| last.ts < *base);
    let Start { after, .. } = first(server, cancel, base.into_iter().collect()).await?.0;
    let gap = Gap { from_ts: last.ts, to_ts: after.ts, reason };
    Ok(Some(Start { after, gap: Some(gap), lacks: here.is_none() }))
}

/// Why the oplog has no entry at `ts`, of which `what` says in words what it is. `None`: the oplog is empty.
async fn why_missing(server: &Server, cancel: &CancellationToken, ts: Timestamp, what: &str) -> Result<Option<String>> {
    let service = escape(server.service());
    let Some(oldest) = oplog_source::oldest(server, cancel).await? else { return Ok(None) };
    let oldest = position(oldest.as_bytes())?.ts;
    let form = "%Y-%m-%d %H:%M:%S UTC";
    Ok(Some(if oldest > ts {
        let (begins, of) = (oldest.to_datetime().format(form), ts.to_datetime().format(form));
        format!("the oplog of service {service} rolled over before it was recorded: it begins at {begins}, {what} {of}")
    } else {
        format!("the oplog of service {service} lacks the entry {ts}: {what} of that position")
    }))
}

/// A member other than the one of `reader` that still has the entry at `ts` (of the term `term`, if that is known), `service` being all of them. Each keeps as much
/// of the oplog as it has room for: one that was made anew begins with the moment when it was. None that is far behind: it may
/// be cut off from the others.
pub async fn elsewhere(
    service: &Server,
    cancel: &CancellationToken,
    reader: &Reader,
    ts: Timestamp,
    term: Option<i64>,
) -> Option<Reader> {
    if service.is_direct() {
        return None;
    }
    let majority = topology::op_times(&reader.server, cancel).await.ok()?.majority;
    for member in reader.set.candidates(ts).into_iter().filter(|m| m.host != reader.member.host) {
        // One that cannot be asked does not have it, as far as anybody knows.
        let Ok(other) = reader::read_from(service, &reader.set, member).await else { continue };
        let Ok(Some(entry)) = oplog_source::entry_at(&other.server, cancel, ts).await else { continue };
        let Ok(times) = topology::op_times(&other.server, cancel).await else { continue };
        let is_near = times.majority.t.saturating_add(topology::NEAR_SECONDS) >= majority.t;
        if is_near && position(entry.as_bytes()).is_ok_and(|here| term.is_none_or(|term| here.term == term)) {
            return Some(other);
        }
    }
    None
}

/// Where to begin when nothing is stored: at the moment `base` of the newest base, so that it can be followed, or at `gone`,
/// where slices that are no longer there ended, if that is earlier. Where the oplog has neither, now: what is missing of a
/// base is a gap, since it was to be recorded from there on.
pub async fn begin(
    server: &Server,
    cancel: &CancellationToken,
    base: Option<Timestamp>,
    gone: Option<Timestamp>,
) -> Result<Start> {
    let (start, majority) = first(server, cancel, base.into_iter().chain(gone).collect()).await?;
    // A base that the member has not reached yet is one that it will come by.
    let Some(base) = base.filter(|base| *base < start.after.ts && *base <= majority) else { return Ok(start) };
    let what = "the base that it was to follow is";
    let reason = why_missing(server, cancel, base, what).await?.unwrap_or_else(|| "the oplog is empty".to_owned());
    Ok(Start { gap: Some(Gap { from_ts: base, to_ts: start.after.ts, reason }), lacks: true, ..start })
}

/// The earliest of the moments `prefer` that the oplog still has, else now; and how far the member is.
async fn first(server: &Server, cancel: &CancellationToken, mut prefer: Vec<Timestamp>) -> Result<(Start, Timestamp)> {
    // Asked once: now is before the base on a member that has not reached it, whatever it reaches meanwhile.
    let majority = topology::op_times(server, cancel).await?.majority;
    prefer.sort_unstable();
    for ts in prefer.into_iter().filter(|ts| *ts <= majority) {
        if let Some(entry) = oplog_source::entry_at(server, cancel, ts).await? {
            return Ok((Start { after: position(entry.as_bytes())?, gap: None, lacks: false }, majority));
        }
    }
    Ok((at(server, cancel, majority).await?, majority))
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
