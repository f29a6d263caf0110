//! The oplog of the time of a backup, captured while the collections are read.
//!
//! Began before the first read, it ends after the last: with it applied, documents that were read at different
//! moments become one state. The first entry must be exactly where it was asked for, and every later one follows
//! from the same cursor: a gap cannot hide.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::manifest::OpenTransaction;
use super::open_transactions::{self, Tracker};
use super::reinserted::Reinserted;
use crate::artifact::bson;
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::write::{DocumentBatch, NamePart, OnObject, PartOptions, PartWriter};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::batches::{Budget, ReadError, Reply};
use crate::mongo::{oplog_source, topology};

/// How long a majority of the set may take to confirm the last change that was read.
const MAJORITY_LIMIT: Duration = Duration::from_secs(120);

/// A transaction of more entries than this is not followed back; none that a server accepts is that long.
const MAX_CHAIN: usize = 100_000;

/// What was captured.
#[derive(Debug)]
pub struct Captured {
    pub parts: Vec<ObjectEntry>,
    pub entries: u64,
    pub from: Timestamp,
    /// Position of the last entry: the backup is consistent there.
    pub to: Timestamp,
    pub open: Vec<OpenTransaction>,
}

/// Where the captured parts go.
#[derive(Clone)]
pub struct Destination {
    pub options: PartOptions,
    /// Part 0 is kept for what had to be fetched from before the beginning.
    pub name: NamePart,
    pub on_object: OnObject,
}

impl DocumentBatch for Reply {
    fn visit(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let broken = |e: bson::Malformed| Error::new(ErrorKind::Failed, "the server's reply is damaged").source(e);
        for element in bson::elements(self.array()?).map_err(broken)? {
            each(element.map_err(broken)?.value)?;
        }
        Ok(())
    }
}

/// How far to capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    pub at: Timestamp,
    /// Whether it ends there.
    pub is_end: bool,
}

/// What a capture is told, and tells, while it runs.
pub struct Course {
    /// Hears when the first entry was seen to be where it should.
    pub ready: oneshot::Sender<()>,
    pub goal: watch::Receiver<Option<Goal>>,
    /// Hears of each goal that was reached.
    pub reached: watch::Sender<Timestamp>,
    pub reinserted: Arc<Reinserted>,
}

/// Captures from `begin` until an entry at or after the goal that is the end.
pub async fn capture(
    server: Server,
    budget: Budget,
    destination: Destination,
    begin: Timestamp,
    course: Course,
    cancel: CancellationToken,
) -> Result<Captured> {
    let Course { ready, goal: mut goals, reached, reinserted } = course;
    let mut ready = Some(ready);
    let mut entries = oplog_source::follow(&server, &budget, begin, oplog_source::AWAIT);
    let numbers = Arc::new(AtomicU32::new(1));
    let Destination { options, name, on_object } = destination.clone();
    let mut writer = PartWriter::start(options, numbers, name, on_object);
    let mut tracker = Tracker::default();
    let mut count = 0;
    let mut last: Option<Timestamp> = None;
    // Since when nothing has come, though the end is known.
    let mut waits_since = None;
    loop {
        let mut goal = *goals.borrow_and_update();
        if let (Some(Goal { at, is_end }), Some(last)) = (goal, last)
            && last >= at
        {
            if is_end {
                break;
            }
            reached.send_replace(at);
            (goal, waits_since) = (None, None);
        }
        if let Some(Goal { at, .. }) = goal {
            let since = *waits_since.get_or_insert_with(tokio::time::Instant::now);
            if since.elapsed() > MAJORITY_LIMIT {
                return Err(not_reached(&server, &cancel, at).await);
            }
        }
        let reply = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::cancelled()),
            changed = goals.changed(), if goal.is_none() => {
                // Whoever would tell the goal has failed.
                changed.map_err(|_| Error::cancelled())?;
                continue;
            }
            reply = entries.next() => reply.map_err(interrupted)?,
        };
        let Some(reply) = reply else {
            return Err(Error::new(
                ErrorKind::Interrupted,
                format!("service {}: the server closed the cursor on its oplog", server.service()),
            ));
        };
        let before = count;
        reply.visit(&mut |entry| {
            let ts = position(entry)?;
            match last {
                None if ts != begin => return Err(rolled_over(&server, begin, ts)),
                Some(last) if ts <= last => {
                    return Err(Error::new(ErrorKind::Failed, format!("the oplog went back from {last} to {ts}")));
                }
                _ => {}
            }
            tracker.feed(entry, begin);
            reinserted.feed(entry)?;
            last = Some(ts);
            count += 1;
            Ok(())
        })?;
        if last.is_some()
            && let Some(ready) = ready.take()
        {
            let _ = ready.send(());
        }
        writer.write(reply).await?;
        // However long a slow storage took to take it.
        if count > before {
            waits_since = None;
        }
    }
    drop(entries);
    let mut parts = writer.finish().await?;
    let from = roots(&server, &cancel, &tracker, begin).await?;
    let mut open = tracker.open();
    if from < begin {
        let (earlier, more, first) = fetch(&server, &budget, &destination, from, begin, &cancel).await?;
        parts.splice(0..0, earlier);
        count += more;
        for transaction in &mut open {
            // One whose chain leads back before the capture began at its root.
            if let Some(root) =
                first.iter().find(|o| o.lsid == transaction.lsid && o.txn_number == transaction.txn_number)
            {
                transaction.first_ts = root.first_ts;
            }
        }
    }
    Ok(Captured { parts, entries: count, from, to: last.unwrap_or(begin), open })
}

/// Follows the chains of transactions that began before `begin` to their first entries.
async fn roots(server: &Server, cancel: &CancellationToken, tracker: &Tracker, begin: Timestamp) -> Result<Timestamp> {
    let mut from = begin;
    for start in tracker.reach_back() {
        let mut at = Some(start);
        let mut steps = 0;
        while let Some(ts) = at {
            from = from.min(ts);
            steps += 1;
            if steps > MAX_CHAIN {
                return Err(Error::new(ErrorKind::Failed, "a transaction in the oplog has no beginning"));
            }
            let entry = oplog_source::entry_at(server, cancel, ts).await?.ok_or_else(|| {
                Error::new(
                    ErrorKind::Interrupted,
                    format!("service {}: the oplog no longer holds {ts}, where a transaction began", server.service()),
                )
                .hint("the oplog is too small for the transactions that are open so long; see replSetResizeOplog")
            })?;
            at = open_transactions::previous(entry.as_bytes());
        }
    }
    Ok(from)
}

/// Stores `[from, to)` as part 0 and returns its objects, its entries, and the transactions open at its end.
async fn fetch(
    server: &Server,
    budget: &Budget,
    destination: &Destination,
    from: Timestamp,
    to: Timestamp,
    cancel: &CancellationToken,
) -> Result<(Vec<ObjectEntry>, u64, Vec<OpenTransaction>)> {
    let Destination { mut options, name, on_object } = destination.clone();
    // All of it is one object, because only one number comes before the rest.
    options.part_bytes = u64::MAX;
    let mut writer = PartWriter::start(options, Arc::new(AtomicU32::new(0)), name, on_object);
    let mut entries = oplog_source::range(server, budget, from, to);
    let mut tracker = Tracker::default();
    let mut count = 0;
    loop {
        let reply = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::cancelled()),
            reply = entries.next() => reply.map_err(interrupted)?,
        };
        let Some(reply) = reply else { break };
        reply.visit(&mut |entry| {
            let ts = position(entry)?;
            if count == 0 && ts != from {
                return Err(rolled_over(server, from, ts));
            }
            tracker.feed(entry, from);
            count += 1;
            Ok(())
        })?;
        writer.write(reply).await?;
    }
    Ok((writer.finish().await?, count, tracker.open()))
}

fn position(entry: &[u8]) -> Result<Timestamp> {
    let ts = bson::get(entry, "ts").and_then(|e| e.timestamp());
    ts.ok_or_else(|| Error::new(ErrorKind::Failed, "an entry of the oplog has no position"))
}

/// A cursor on the oplog that ends for any reason leaves a gap: the attempt is over, another may succeed.
fn interrupted(failed: ReadError) -> Error {
    let error = failed.error;
    match error.kind() {
        ErrorKind::Denied | ErrorKind::Unauthenticated | ErrorKind::Cancelled | ErrorKind::Unsupported => error,
        ErrorKind::Unreachable => error.context("the member that was read is gone"),
        _ => {
            Error::new(ErrorKind::Interrupted, "the oplog could not be followed to the end of the backup").source(error)
        }
    }
}

fn rolled_over(server: &Server, wanted: Timestamp, got: Timestamp) -> Error {
    let service = escape(server.service());
    Error::new(
        ErrorKind::Interrupted,
        format!("service {service}: the oplog no longer holds {wanted}; its next entry is {got}"),
    )
    .hint("the oplog is too small for the writes during a backup: db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES})")
}

/// Why the end `goal` was not reached: the member does not get on, or no majority confirms what it has.
async fn not_reached(server: &Server, cancel: &CancellationToken, goal: Timestamp) -> Error {
    let (service, host) = (escape(server.service()), escape(server.hosts()));
    let seconds = MAJORITY_LIMIT.as_secs();
    match topology::op_times(server, cancel).await {
        Ok(times) if times.applied < goal => Error::new(
            ErrorKind::Interrupted,
            format!(
                "service {service}: {host} stands still: it had {} and did not reach {goal}, which the set had when the \
                 backup began, within {seconds} s",
                times.applied
            ),
        )
        .hint("rs.status() shows how far each member is; another attempt reads one that gets on"),
        _ => Error::new(
            ErrorKind::Interrupted,
            format!(
                "service {service}: the last change that was read was not committed by a majority within {seconds} s"
            ),
        )
        .hint("is a majority of the replica set's members up, and not far behind? rs.status() shows it"),
    }
}
