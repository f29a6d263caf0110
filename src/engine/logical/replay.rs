//! Replaying the stored oplog's document changes, in batches on two connections.
//!
//! A blocking thread reads entries, puts transactions together and sorts operations into lanes: all operations on one
//! document are in one lane, in order. Definitions need no replaying (collections were created as they are at the end),
//! so that no lane ever waits for another.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mongodb::bson::doc;
use tokio::sync::mpsc;

use super::compatibility::release;
use super::open_backup::OpenBackup;
use super::restore_state::{Replayed, RestoreState};
use super::translate;
use super::write::{Applied, Writes};
use crate::artifact::bson;
use crate::artifact::raw::Raw;
use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::{Context, Meter};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::apply::{self, Batch, Sent};
use crate::mongo::oplog::catalogue::Bounds;
use crate::mongo::oplog::entry::{Entry, Op, OpKind, Uuid, is_bookkeeping};
use crate::mongo::oplog::key::{collection_hash, document_hash};
use crate::mongo::oplog::modifiers::UpdateForms;

/// Two connections keep a server busy; more would only wait for it.
const LANES: usize = 2;

/// Updates of missing documents that are remembered; many more mean that something else is wrong.
const MISSES: usize = 1_000_000;

/// Inserts into capped collections while they were read that are remembered. Only backups of earlier versions, which read
/// on to the end, have more than a few.
const INSERTED_AGAIN: usize = 2_000_000;

/// Where the operations on a collection go.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub ns: Arc<str>,
    pub capped: bool,
    /// Its bounds change on the way.
    pub resized: bool,
    /// Texts that differ may be one `_id`.
    pub collated: bool,
    /// Inserts up to here are in the parts, or have rolled out; other changes up to `read_from` are in the parts.
    pub inserted_until: Timestamp,
    pub read_from: Timestamp,
    /// Of a capped collection: the last insert of each document between the two. Older changes of it are of one that had
    /// the same `_id`.
    pub inserted_again: Arc<HashMap<u64, Timestamp>>,
}

/// The collections to replay into.
#[derive(Debug, Clone, Default)]
pub(super) struct Destinations {
    pub by_uuid: BTreeMap<Uuid, Destination>,
    pub capped: CappedRules,
}

/// What a server does with capped collections.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CappedRules {
    /// Before 6.0 nobody deletes from one: every delete in the oplog (5.0) is an eviction, which `applyOps` refuses and
    /// which comes by itself.
    pub without_deletes: bool,
    /// Before 5.0 the inserts of one command push out nothing, unless each is applied by itself.
    pub one_by_one: bool,
    /// Before 6.0 bounds cannot be changed.
    pub fixed_bounds: bool,
}

impl CappedRules {
    /// Those of MongoDB `version` (tried on 4.4.2, 5.0.4, 6.0.5 and 6.0.27).
    pub fn of(version: &str) -> Result<Self> {
        let release = release(version).ok_or_else(|| {
            let version = crate::domain::text::quoted(version);
            Error::new(ErrorKind::Unsupported, format!("MongoDB {version} is a version of an unknown form"))
        })?;
        let before_6 = release < (6, 0);
        Ok(Self { without_deletes: before_6, one_by_one: release < (5, 0), fixed_bounds: before_6 })
    }
}

impl Destinations {
    pub fn find(&self, op: &Op<'_>) -> Option<(Uuid, &Destination)> {
        if op.ns.ends_with(".system.views") || op.namespace().is_some_and(|ns| is_bookkeeping(&ns)) {
            return None;
        }
        let uuid = op.ui?;
        self.by_uuid.get(&uuid).map(|d| (uuid, d))
    }

    /// Whether a change of a document is not to be applied: it is in the parts, or comes by itself.
    pub fn leaves_out(&self, destination: &Destination, ts: Timestamp, kind: OpKind, key: u64) -> bool {
        if !destination.capped {
            return false;
        }
        match kind {
            OpKind::Insert => ts <= destination.inserted_until,
            OpKind::Delete if self.capped.without_deletes => true,
            _ => ts <= destination.read_from || destination.inserted_again.get(&key).is_some_and(|last| ts < *last),
        }
    }
}

/// Applies every change up to the position [`OpenBackup::until`]. Gives the number of operations; after a failure `standing`
/// knows how far it came.
pub(super) async fn replay(
    ctx: &Context,
    stored: &OpenBackup,
    writes: &Writes,
    destinations: Destinations,
    standing: &RestoreState,
) -> Result<u64> {
    ctx.meter.set_phase("replay the oplog");
    let until = stored.until();
    let watermark = Arc::new(Watermark::default());
    let mut senders = Vec::new();
    let mut lanes = Vec::new();
    for n in 0..LANES {
        // One batch is filled while one waits and one is at the server.
        let (sender, receiver) = mpsc::channel(1);
        senders.push(sender);
        lanes.push(tokio::spawn(lane(writes.clone(), receiver, n, watermark.clone())));
    }
    let (meter, takes, own) = (ctx.meter.clone(), writes.takes, ctx.meter.clone());
    let state = Sorter {
        batches: (0..LANES).map(|_| Batch::new(writes.takes)).collect(),
        senders,
        destinations,
        operations: 0,
        watermark: watermark.clone(),
        takes,
        meter: own,
        not_mended: HashSet::new(),
    };
    let sorted = stored
        .for_each_entry(&ctx.cancel, (stored.transactions(), state), move |(transactions, sorter), document| {
            meter.add_bytes(document.len() as u64);
            let entry = Entry::parse(document)?;
            if entry.ts > until {
                return Ok(ControlFlow::Break(()));
            }
            sorter.watermark.reached(entry.ts);
            transactions.feed(&entry, &mut |ts, op| sorter.take(ts, op))?;
            Ok(ControlFlow::Continue(()))
        })
        .await;
    let ended = match sorted {
        Ok((_, sorter)) => sorter.finish().await,
        Err(e) => Err(e),
    };
    // Why a lane ended says more than that its sender found nobody there.
    let mut missed = HashMap::new();
    let mut failed = None;
    for lane in lanes {
        match lane.await {
            Ok(Ok(misses)) => missed.extend(misses),
            Ok(Err(e)) => failed = failed.or(Some(e)),
            Err(e) => {
                failed = failed.or(Some(Error::new(ErrorKind::Internal, "replaying stopped unexpectedly").source(e)))
            }
        }
    }
    let operations = match failed.map_or(ended, Err) {
        Ok(operations) => operations,
        Err(e) => {
            standing.set_replayed(watermark.before());
            return Err(e);
        }
    };
    standing.set_replayed(Replayed::All(until));
    match missed.into_values().min_by_key(|sent| sent.ts) {
        None => Ok(operations),
        Some(sent) => Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "the backup lacks a document of {} that is updated at oplog position {}, or something else writes to the target \
                 and removed it",
                escape(&sent.ns),
                sent.ts
            ),
        )
        .hint("use another backup")),
    }
}

/// Before which position every change is in the target.
#[derive(Default)]
struct Watermark {
    /// For each lane the first positions of the batches that are not applied yet, oldest first: a few.
    waiting: [Mutex<VecDeque<Timestamp>>; LANES],
    reached: Mutex<Option<Timestamp>>,
}

impl Watermark {
    fn reached(&self, ts: Timestamp) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(ts);
    }

    fn lane(&self, n: usize) -> MutexGuard<'_, VecDeque<Timestamp>> {
        self.waiting[n].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before(&self) -> Replayed {
        let waiting = (0..LANES).filter_map(|n| self.lane(n).front().copied()).min();
        let reached = *self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.or(reached).map_or(Replayed::Nothing, Replayed::Before)
    }
}

/// What a lane does, in order.
enum Work {
    Batch(Batch),
    /// New bounds of a capped collection, whose operations are all in this lane.
    Resize(Arc<str>, Bounds),
}

struct Sorter {
    batches: Vec<Batch>,
    senders: Vec<mpsc::Sender<Work>>,
    destinations: Destinations,
    operations: u64,
    watermark: Arc<Watermark>,
    takes: UpdateForms,
    meter: Arc<Meter>,
    /// Collections of which it was said that a document could not be stored as it was.
    not_mended: HashSet<Arc<str>>,
}

fn lane_is_gone() -> Error {
    Error::new(ErrorKind::Internal, "the replay ended early")
}

impl Sorter {
    fn take(&mut self, ts: Timestamp, op: &Op<'_>) -> Result<()> {
        if op.kind == OpKind::Command {
            return self.command(ts, op);
        }
        if op.kind == OpKind::Noop {
            return Ok(());
        }
        let Some((uuid, destination)) = self.destinations.find(op) else { return Ok(()) };
        let key = op.id().map_or_else(|| collection_hash(&uuid), |id| document_hash(&uuid, &id));
        if self.destinations.leaves_out(destination, ts, op.kind, key) {
            return Ok(());
        }
        let one_lane = destination.capped || destination.collated;
        let spread = if one_lane { collection_hash(&uuid) } else { key };
        let lane = (spread % LANES as u64) as usize;
        let bytes = op.o.len() + op.o2.map_or(0, <[u8]>::len) + 256;
        if self.batches[lane].is_full_for(bytes) {
            let full = std::mem::replace(&mut self.batches[lane], Batch::new(self.takes));
            self.send(lane, Work::Batch(full))?;
        }
        if self.batches[lane].is_empty() {
            self.watermark.lane(lane).push_back(ts);
        }
        let may_be_missing = destination.capped || destination.collated;
        let ns = destination.ns.clone();
        if self.takes == UpdateForms::Modifiers
            && (op.kind == OpKind::Insert || bson::get(op.o, "_id").is_some())
            && let Some(field) = apply::cannot_be_mended(&apply::zero_timestamps(op.o), self.takes)
            && self.not_mended.insert(ns.clone())
        {
            self.meter.warn(apply::not_mended(&ns, field));
        }
        let sent = Sent { ts, ns, kind: op.kind, key, may_be_missing };
        let batch = &mut self.batches[lane];
        batch.one_by_one |= destination.capped && self.destinations.capped.one_by_one;
        batch.push(op, sent).map_err(|e| e.context(format!("oplog position {ts}")))?;
        self.operations += 1;
        Ok(())
    }

    /// Of all commands only one decides which documents there are; what the others do is in the catalogue.
    fn command(&mut self, ts: Timestamp, op: &Op<'_>) -> Result<()> {
        let to = match op.ui.and_then(|uuid| Some((uuid, self.destinations.by_uuid.get(&uuid)?))) {
            Some((uuid, destination)) if destination.resized && ts > destination.read_from => {
                (collection_hash(&uuid) % LANES as u64, destination.ns.clone())
            }
            _ => return Ok(()),
        };
        let o = Raw::from_bytes(op.o.to_vec());
        let Some(bounds) = o.ok().filter(|o| o.contains_key("collMod")).and_then(|o| Bounds::of_collmod(&o)) else {
            return Ok(());
        };
        let (lane, ns) = (to.0 as usize, to.1);
        let before = std::mem::replace(&mut self.batches[lane], Batch::new(self.takes));
        if !before.is_empty() {
            self.send(lane, Work::Batch(before))?;
        }
        self.watermark.lane(lane).push_back(ts);
        self.send(lane, Work::Resize(ns, bounds))
    }

    fn send(&self, lane: usize, work: Work) -> Result<()> {
        self.senders[lane].blocking_send(work).map_err(|_| lane_is_gone())
    }

    async fn finish(mut self) -> Result<u64> {
        for (batch, sender) in self.batches.drain(..).zip(&self.senders) {
            if !batch.is_empty() {
                sender.send(Work::Batch(batch)).await.map_err(|_| lane_is_gone())?;
            }
        }
        Ok(self.operations)
    }
}

/// Sets what a capped collection may hold. What it holds too much goes with the next insert, as it did at the source.
pub(super) async fn resize(writes: &Writes, ns: &Namespace, bounds: &Bounds) -> Result<()> {
    let mut command = doc! {"collMod": ns.collection.as_str()};
    command.extend(bounds.collmod());
    writes.command(&ns.db, &format!("setting the size of {ns}"), command).await.map(drop)
}

/// Sends batches one after another. Gives the updates whose document was missing and did not come (or go) later.
///
/// A document that was deleted before its collection was read is not in the parts, though the oplog still updates it:
/// that update finds nothing, and the delete follows. Without a later delete the document is missing for good.
async fn lane(
    writes: Writes,
    mut work: mpsc::Receiver<Work>,
    number: usize,
    watermark: Arc<Watermark>,
) -> Result<HashMap<u64, Sent>> {
    let mut missed: HashMap<u64, Sent> = HashMap::new();
    while let Some(next) = work.recv().await {
        let batch = match next {
            Work::Batch(batch) => batch,
            Work::Resize(ns, bounds) => {
                if let Some(ns) = Namespace::parse(&ns) {
                    resize(&writes, &ns, &bounds).await?;
                }
                watermark.lane(number).pop_front();
                continue;
            }
        };
        for Applied { sent, ok } in translate::apply(&writes, batch).await? {
            if sent.kind != OpKind::Update {
                missed.remove(&sent.key);
            } else if !ok && !sent.may_be_missing {
                missed.entry(sent.key).or_insert(sent);
                if missed.len() > MISSES {
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        "the backup lacks too many documents that its oplog updates",
                    )
                    .hint("use another backup"));
                }
            }
        }
        watermark.lane(number).pop_front();
    }
    Ok(missed)
}

/// A document that was loaded.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// See [`document_hash`].
    pub key: u64,
    pub document: Vec<u8>,
}

impl Loaded {
    /// `None` for a document without an `_id`.
    pub fn new(uuid: &Uuid, document: Vec<u8>) -> Option<Self> {
        let key = document_hash(uuid, &bson::get(&document, "_id")?);
        Some(Self { key, document })
    }
}

/// The inserts of one `_id` within the oplog.
#[derive(Debug, Clone, Copy, Default)]
struct Inserts {
    first: Option<Timestamp>,
    /// The first that stored what was loaded.
    same: Option<Timestamp>,
}

/// For each capped collection, the position up to which its inserts need no replaying: that of the last document
/// loaded, when its insert is in the oplog. An earlier document that is not there has rolled out.
///
/// The `_id` may be inserted again after a delete. Then it is the insert of just that document; where that cannot be told
/// the oldest, for an insert too many finds its document there, and one too few loses it.
pub(super) async fn inserted_until(
    ctx: &Context,
    stored: &OpenBackup,
    destinations: Destinations,
    last: BTreeMap<Uuid, Loaded>,
) -> Result<Destinations> {
    let mut destinations = destinations;
    if last.is_empty() {
        return Ok(destinations);
    }
    // What was loaded was inserted before the backup ended.
    let until = stored.manifest.consistent_at_ts;
    let state = (stored.transactions(), BTreeMap::<Uuid, Inserts>::new(), last);
    let (_, found, _) = stored
        .for_each_entry(&ctx.cancel, state, move |(transactions, found, last), document| {
            let entry = Entry::parse(document)?;
            if entry.ts > until {
                return Ok(ControlFlow::Break(()));
            }
            transactions.feed(&entry, &mut |ts, op| {
                if op.kind != OpKind::Insert {
                    return Ok(());
                }
                let (Some(uuid), Some(id)) = (op.ui, op.id()) else { return Ok(()) };
                if let Some(loaded) = last.get(&uuid)
                    && loaded.key == document_hash(&uuid, &id)
                {
                    let inserts = found.entry(uuid).or_default();
                    inserts.first.get_or_insert(ts);
                    if loaded.document == op.o {
                        inserts.same.get_or_insert(ts);
                    }
                }
                Ok(())
            })?;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    for (uuid, inserts) in found {
        if let (Some(ts), Some(to)) = (inserts.same.or(inserts.first), destinations.by_uuid.get_mut(&uuid)) {
            to.inserted_until = to.inserted_until.max(ts);
        }
    }
    inserted_again(ctx, stored, destinations).await
}

/// Finds what was inserted into capped collections while they were read: a document of the same `_id` may have been there
/// before, and what happened to that one must not happen to the one that was loaded.
async fn inserted_again(ctx: &Context, stored: &OpenBackup, mut destinations: Destinations) -> Result<Destinations> {
    let windows: HashMap<Uuid, (Timestamp, Timestamp)> = destinations
        .by_uuid
        .iter()
        .filter(|(_, d)| d.capped && d.inserted_until > d.read_from)
        .map(|(uuid, d)| (*uuid, (d.read_from, d.inserted_until)))
        .collect();
    let Some(until) = windows.values().map(|(_, until)| *until).max() else { return Ok(destinations) };
    let state = (stored.transactions(), HashMap::<Uuid, HashMap<u64, Timestamp>>::new(), 0);
    let (_, found, _) = stored
        .for_each_entry(&ctx.cancel, state, move |(transactions, found, held), document| {
            let entry = Entry::parse(document)?;
            if entry.ts > until {
                return Ok(ControlFlow::Break(()));
            }
            transactions.feed(&entry, &mut |ts, op| {
                let (OpKind::Insert, Some(uuid), Some(id)) = (op.kind, op.ui, op.id()) else { return Ok(()) };
                if *held < INSERTED_AGAIN && windows.get(&uuid).is_some_and(|(from, to)| ts > *from && ts <= *to) {
                    let old = found.entry(uuid).or_default().insert(document_hash(&uuid, &id), ts);
                    *held += usize::from(old.is_none());
                }
                Ok(())
            })?;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    for (uuid, inserts) in found {
        if let Some(to) = destinations.by_uuid.get_mut(&uuid) {
            to.inserted_again = Arc::new(inserts);
        }
    }
    Ok(destinations)
}

impl Destination {
    pub fn new(ns: &Namespace, read_from: Timestamp) -> Self {
        Self {
            ns: ns.to_string().into(),
            capped: false,
            resized: false,
            collated: false,
            inserted_until: read_from,
            read_from,
            inserted_again: Arc::default(),
        }
    }
}
