//! Reading all collections of one member: what there is, in which pieces, and what the manifest says of it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use super::{Run, STORING, explaining, outcome_of, stopping};
use crate::artifact::codec::Codec;
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::write::PartOptions;
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::text::{self, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::logical::manifest::CollectionEntry;
use crate::engine::logical::metadata::{self, Description, Written};
use crate::engine::logical::probe;
use crate::engine::logical::read::{self, Outcome, Reading};
use crate::engine::logical::reinserted::Reinserted;
use crate::engine::logical::select::{self, Source};
use crate::engine::logical::split::{self, IdRange};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::batches::Budget;
use crate::mongo::namespaces::{self, Size, Uuid};
use crate::mongo::reader::Reader;
use crate::mongo::topology;
use crate::storage::ObjectWriter;

/// Sizes of collections asked for at once.
const SIZES_AT_ONCE: usize = 4;

/// All collections of a backup, read.
pub(super) struct Collections {
    all: Vec<Arc<Reads>>,
    reading: Arc<Reading>,
    left_out: Vec<LeftOut>,
}

/// A collection while it is being read.
struct Reads {
    source: Source,
    size: Size,
    numbers: Arc<AtomicU32>,
    ranges_left: AtomicUsize,
    gone: AtomicBool,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    metadata: Option<(ObjectEntry, Vec<LeftOut>)>,
    read_from_ts: Option<Timestamp>,
    /// By number of the range.
    parts: BTreeMap<usize, Vec<ObjectEntry>>,
}

/// What was read, and what of it is where.
pub(super) struct ReadCollections {
    pub entries: Vec<CollectionEntry>,
    pub left_out: Vec<LeftOut>,
    /// Of definitions: see `LogicalManifest::not_in_json`.
    pub not_in_json: Vec<LeftOut>,
}

/// One range to read.
struct Unit {
    of: Arc<Reads>,
    number: usize,
    range: IdRange,
    bytes: u64,
    /// It was read before, and is now read by `_id`.
    again: bool,
}

impl Run<'_> {
    pub(super) async fn read_collections(
        &self,
        reader: &Reader,
        budget: &Budget,
        options: &PartOptions,
        reinserted: &Arc<Reinserted>,
    ) -> Result<Collections> {
        let (meter, stop, member) = (&self.ctx.meter, &self.stop, &reader.server);
        meter.set_phase("listing collections");
        let listed = namespaces::list(member, stop).await?;
        let (sources, left_out) = select::select(listed, &self.request.selection)
            .map_err(|e| e.context(format!("service {}", self.request.service)))?;
        if !self.storage.tells_cases_apart().await? {
            select::require_apart(&sources, &self.storage.place())?;
        }
        for pattern in left_out.iter().filter(|left| left.why == select::NO_MATCH) {
            meter.warn(format!("--include {}: {}", pattern.what, pattern.why));
        }
        for left in left_out.iter().filter(|left| left.why == namespaces::NOT_UTF8) {
            meter.warn(format!("{} is NOT in this backup: {}", left.what, left.why));
        }
        let sized: Vec<(Source, Size)> = futures_util::stream::iter(sources)
            .map(|source| async move {
                let size = match source.kind {
                    CollectionKind::View => Size::default(),
                    _ => namespaces::size(member, stop, &source.stored_in()).await?,
                };
                Ok::<_, Error>((source, size))
            })
            .buffered(SIZES_AT_ONCE)
            .try_collect()
            .await?;
        let bytes: u64 = sized.iter().map(|(_, size)| size.bytes).sum();
        let documents: u64 = sized.iter().map(|(_, size)| size.documents).sum();
        meter.set_totals(bytes, sized.len() as u64, documents);
        meter.info(format!(
            "{}, about {}, {}",
            text::counted(sized.len() as u64, "collection"),
            text::counted(documents, "document"),
            text::bytes(bytes)
        ));
        self.require_space(bytes).await?;

        let mut all = Vec::with_capacity(sized.len());
        let mut units = Vec::new();
        for (source, size) in sized {
            let ranges = split::ranges(member, stop, &source, size.bytes, self.ctx.limits.split_bytes).await?;
            let bytes = size.bytes / ranges.len() as u64;
            let reads = Arc::new(Reads {
                source,
                size,
                numbers: Arc::new(AtomicU32::new(0)),
                ranges_left: AtomicUsize::new(ranges.len()),
                gone: AtomicBool::new(false),
                found: Mutex::default(),
            });
            for (number, range) in ranges.into_iter().enumerate() {
                units.push(Unit { of: Arc::clone(&reads), number, range, bytes, again: false });
            }
            all.push(reads);
        }
        let reading = Arc::new(Reading {
            server: member.clone(),
            budget: budget.clone(),
            options: options.clone(),
            root: self.root.clone(),
            claiming: self.claiming.clone(),
            meter: Arc::clone(meter),
            cancel: stop.clone(),
            reinserted: Arc::clone(reinserted),
        });
        self.read_units(&reading, units).await?;
        Ok(Collections { all, reading, left_out })
    }

    async fn read_units(&self, reading: &Arc<Reading>, mut units: Vec<Unit>) -> Result<()> {
        // The largest first, so that the last worker does not begin with the longest piece.
        units.sort_by_key(|unit| std::cmp::Reverse(unit.bytes));
        let queue = Arc::new(Mutex::new(VecDeque::from(units)));
        let mut workers = JoinSet::new();
        for _ in 0..self.ctx.limits.parallel_collections.max(1) {
            let (reading, queue, storing) = (Arc::clone(reading), Arc::clone(&queue), self.storing.clone());
            workers.spawn(stopping(self.stop.clone(), async move {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(unit) = next else { return Ok(()) };
                    if let Some((bytes, store)) = read_unit(&reading, unit).await? {
                        storing.go_on(bytes, store).await?;
                    }
                }
            }));
        }
        let mut first = Ok(());
        while let Some(done) = workers.join_next().await {
            let done = outcome_of(Some(done));
            first = explaining(first, done);
        }
        first
    }

    /// Fails early where the storage is known to be far too small; warns where it may be.
    async fn require_space(&self, bytes: u64) -> Result<()> {
        let Some(free) = self.storage.free_space().await? else { return Ok(()) };
        let (least, likely) = Codec::new(self.request.compression).stored_bytes(bytes);
        let shown = format!("{} is free for {} of documents", text::bytes(free), text::bytes(bytes));
        if free < least {
            let message = format!("{}: {shown}", self.storage.place());
            return Err(Error::new(ErrorKind::StorageFull, message).hint("make room, or choose another storage"));
        }
        if free < likely {
            self.ctx.meter.warn(format!("{}: only {shown}", self.storage.place()));
        }
        Ok(())
    }
}

impl Collections {
    /// Reads those of `found` once more, by `_id`; false where there are none.
    pub(super) async fn read_again(&self, run: &Run<'_>, found: &HashSet<Uuid>) -> Result<bool> {
        if found.is_empty() {
            return Ok(false);
        }
        // What is removed has to be there.
        run.ctx.meter.set_phase(STORING);
        run.storing.all().await?;
        let claim = run.claiming.claim().await?;
        let mut units = Vec::new();
        for reads in &self.all {
            let gone = reads.gone.load(Ordering::Relaxed);
            if gone || reads.source.uuid.is_none_or(|uuid| !found.contains(&uuid)) {
                continue;
            }
            let parts = std::mem::take(&mut reads.found.lock().unwrap_or_else(PoisonError::into_inner).parts);
            let meter = &self.reading.meter;
            meter.info(format!(
                "{} is read again: a document was deleted and inserted again while it was read",
                escape(&reads.source.ns.to_string())
            ));
            for object in parts.into_values().flatten() {
                claim.remove(&self.reading.root.key().join(&object.path)?).await?;
                meter.take_back(object.uncompressed, object.documents);
            }
            let range = IdRange::default();
            units.push(Unit { of: Arc::clone(reads), number: 0, range, bytes: reads.size.bytes, again: true });
        }
        let any = !units.is_empty();
        run.read_units(&self.reading, units).await?;
        Ok(any)
    }

    /// What the manifest says about them.
    pub(super) async fn described(self, run: &Run<'_>) -> Result<ReadCollections> {
        let (entries, not_in_json) = (Vec::with_capacity(self.all.len()), Vec::new());
        let mut read = ReadCollections { entries, left_out: self.left_out, not_in_json };
        for reads in &self.all {
            if let Some((entry, lacks)) = entry(run, reads).await? {
                read.entries.push(entry);
                read.not_in_json.extend(lacks);
            }
        }
        Ok(read)
    }
}

/// What the manifest says about a collection; `None` for one that was dropped while it was read, of which nothing is
/// kept.
async fn entry(run: &Run<'_>, reads: &Reads) -> Result<Option<(CollectionEntry, Vec<LeftOut>)>> {
    let found = std::mem::take(&mut *reads.found.lock().unwrap_or_else(PoisonError::into_inner));
    let parts: Vec<ObjectEntry> = found.parts.into_values().flatten().collect();
    let source = &reads.source;
    // One that is gone is left out, and nothing else may be: whoever stored it would have said why it could not.
    let is_stored = found.metadata.is_some() && reads.ranges_left.load(Ordering::Relaxed) == 0;
    if !is_stored && !reads.gone.load(Ordering::Relaxed) {
        let what = format!("{} was read, and not stored", escape(&source.ns.to_string()));
        return Err(Error::new(ErrorKind::Internal, what));
    }
    let (metadata, lacks) = match found.metadata {
        Some(metadata) if !reads.gone.load(Ordering::Relaxed) => metadata,
        metadata => {
            let claim = run.claiming.claim().await?;
            for object in parts.iter().chain(metadata.as_ref().map(|(object, _)| object)) {
                claim.remove(&run.root.key().join(&object.path)?).await?;
            }
            return Ok(None);
        }
    };
    let entry = CollectionEntry {
        namespace: source.ns.clone(),
        kind: source.kind,
        uuid: source.uuid.map(metadata::hex),
        documents: parts.iter().map(|p| p.documents).sum(),
        bytes: parts.iter().map(|p| p.uncompressed).sum(),
        capped: source.capped,
        counted: true,
        each_id_once: true,
        read_from_ts: found.read_from_ts.unwrap_or_default(),
        metadata,
        parts,
    };
    Ok(Some((entry, lacks)))
}

/// Bytes that were read, and what stores the rest of them.
type Rest = (u64, BoxFuture<'static, Result<()>>);

/// Reads a piece; `None` where there is none.
async fn read_unit(reading: &Arc<Reading>, unit: Unit) -> Result<Option<Rest>> {
    let reads = &unit.of;
    let source = &reads.source;
    if reads.gone.load(Ordering::Relaxed) {
        return Ok(None);
    }
    reading.meter.set_phase(format!("dump {}", escape(&source.ns.to_string())));
    // Changes up to here are in what is read from now on.
    let read_from_ts = topology::op_times(&reading.server, &reading.cancel).await?.majority;
    let describe = async {
        if unit.number > 0 || unit.again {
            return Ok(None);
        }
        let written = describe(reading, source).await?;
        if written.is_none() {
            reads.gone.store(true, Ordering::Relaxed);
        }
        Ok(written)
    };
    let read = async {
        match source.uuid {
            Some(uuid) => {
                let order = read::order(source, &unit.range, unit.again);
                read::read(reading, source, uuid, &unit.range, reads.size, &reads.numbers, order).await
            }
            None if source.kind == CollectionKind::View => Ok(Outcome::Read { parts: None, bytes: 0 }),
            None => {
                let ns = escape(&source.ns.to_string());
                Err(Error::new(ErrorKind::Unsupported, format!("the server gives no UUID for {ns}")))
            }
        }
    };
    let (written, outcome) = tokio::try_join!(describe, read)?;
    let (pending, bytes) = match outcome {
        Outcome::Gone => {
            reads.gone.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        Outcome::Read { parts, bytes } => (parts, bytes),
    };
    let reading = Arc::clone(reading);
    let store = async move {
        let reads = &unit.of;
        let metadata = async {
            match written {
                Some(written) => write_metadata(&reading, &reads.source, written).await.map(Some),
                None => Ok(None),
            }
        };
        let parts = async {
            match pending {
                Some(pending) => pending.stored().await,
                None => Ok(Vec::new()),
            }
        };
        let (metadata, parts) = tokio::try_join!(metadata, parts)?;
        {
            let mut found = reads.found.lock().unwrap_or_else(PoisonError::into_inner);
            if metadata.is_some() {
                found.metadata = metadata;
            }
            found.parts.insert(unit.number, parts);
            found.read_from_ts = Some(found.read_from_ts.map_or(read_from_ts, |ts| ts.min(read_from_ts)));
        }
        if !unit.again && reads.ranges_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            reading.meter.object_done();
        }
        Ok(())
    };
    Ok(Some((bytes, store.boxed())))
}

/// How a collection is defined; `None` when it no longer exists.
async fn describe(reading: &Reading, source: &Source) -> Result<Option<Written>> {
    let indexes = probe::indexes_of(&reading.server, &reading.cancel, source).await?;
    let Some(indexes) = indexes else { return Ok(None) };
    let description = Description {
        ns: &source.ns,
        kind: source.kind,
        uuid: source.uuid,
        options: &source.options,
        indexes: indexes.iter().map(Vec::as_slice).collect(),
    };
    description.with_bytes().map(Some)
}

async fn write_metadata(reading: &Reading, source: &Source, written: Written) -> Result<(ObjectEntry, Vec<LeftOut>)> {
    let Written { json, lacks } = written;
    let uncompressed = json.len() as u64;
    let codec = &reading.options.codec;
    let key = reading.root.metadata(&source.ns, codec)?;
    let stored = codec.uncompressed().encode(&json)?;
    let store = async {
        reading.claiming.claim().await?.began(&key);
        let mut writer = ObjectWriter::new(Arc::clone(&reading.options.storage), key.clone());
        writer.write(stored.into()).await?;
        writer.finish().await
    };
    let written = tokio::select! {
        biased;
        () = reading.cancel.cancelled() => return Err(Error::cancelled()),
        written = store => written?,
    };
    let path = key.below(reading.root.key()).unwrap_or(key.as_str()).to_owned();
    let object = ObjectEntry { path, size: written.size, blake3: written.blake3, uncompressed, documents: 0 };
    Ok((object, lacks))
}
