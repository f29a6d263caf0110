//! Reading a whole backup back, to know that it can be restored.
//!
//! Every object is read to its end and compared with what was written: size, checksum, compression, the structure of
//! every document, counts. The manifest must agree with itself, the oplog must be one ascending run from its first
//! position to its last, and the catalogue must come out of it. Nothing is changed, and the first problem does not
//! hide the next.
//!
//! A storage that does not answer says nothing about a backup: it is an error, never a problem of the backup.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;

use super::manifest::{CollectionEntry, LogicalManifest};
use super::metadata::Definition;
use super::open_backup::OpenBackup;
use super::validate::validate;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Attempt, ObjectEntry};
use crate::artifact::read::{Batch, ReadOptions, read_small, read_whole};
use crate::domain::restore::CollectionKind;
use crate::domain::text::{counted, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::backup_reader::MANIFEST_LIMIT;
use crate::engine::contract::{Problem, VerifyReport, about_the_backup};
use crate::engine::unlock::keys_of;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::Entry;
use crate::storage::Storage;

/// Smaller than a restore's: nothing is gained by large batches here, and several readers run at once.
const BATCH_BYTES: usize = 1 << 20;

/// Objects that the manifest does not name are listed up to this many.
const STRAYS_NAMED: usize = 100;

/// Reads everything below `root` back.
///
/// Errors: what keeps it from looking at all (storage unreachable, no rights, cancelled). What is wrong with the backup
/// is in the report.
pub async fn verify(ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
    // Nothing is written, so that the work may be dropped at any point.
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(Error::cancelled()),
        report = run(ctx, storage, root) => report,
    }
}

async fn run(ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    ctx.meter.set_phase("read the manifest");
    let Some(manifest) = manifest(storage.as_ref(), root, &mut report).await? else { return Ok(report) };
    // Without its identity nothing can be said of a backup.
    let keys = keys_of(ctx, &manifest).await?;
    let key = root.manifest()?;
    report.problems.extend(validate(&manifest, root).iter().map(|what| Problem::new(&key, what)));
    attempt(storage.as_ref(), root, &manifest, &mut report).await?;
    let stored = OpenBackup::below(storage, root.clone(), manifest).with_keys(keys);
    examine(ctx, &stored, &mut report).await?;
    strays(&stored, &mut report).await?;
    report.problems.sort();
    Ok(report)
}

/// The same before the manifest is written, from which the objects are only then a backup.
pub(super) async fn read_back(
    ctx: &Context,
    storage: Arc<dyn Storage>,
    root: &BackupRoot,
    manifest: LogicalManifest,
) -> Result<VerifyReport> {
    let stored = OpenBackup::below(storage, root.clone(), manifest);
    let mut report = VerifyReport::default();
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
        examined = examine(ctx, &stored, &mut report) => examined?,
    }
    report.problems.sort();
    Ok(report)
}

/// Reads all that the manifest names.
async fn examine(ctx: &Context, stored: &OpenBackup, report: &mut VerifyReport) -> Result<()> {
    ctx.meter.set_phase("read data");
    let mut work: Vec<Work<'_>> = Vec::new();
    // The oplog is read in order, and so from the start: it is the longest piece of work that cannot be divided.
    work.push(Work::Oplog);
    for collection in &stored.manifest.collections {
        work.push(Work::Metadata(collection));
        work.extend(collection.parts.iter().map(Work::Part));
    }
    let sizes = work.iter().flat_map(|w| w.objects(stored)).map(|o| o.size);
    let (objects, bytes) = sizes.fold((0, 0_u64), |(n, sum), size| (n + 1, sum.saturating_add(size)));
    ctx.meter.set_totals(bytes, objects, stored.manifest.documents);
    report.objects += objects;
    report.bytes = report.bytes.saturating_add(bytes);
    let readers = ctx.limits.parallel_collections.clamp(1, 8);
    let (mut work, mut running) = (work.into_iter(), FuturesUnordered::new());
    running.extend(work.by_ref().take(readers).map(|first| started(first, ctx, stored)));
    let mut replayable = true;
    while let Some(outcome) = running.next().await {
        running.extend(work.next().map(|next| started(next, ctx, stored)));
        let outcome = outcome?;
        report.documents += outcome.documents;
        replayable &= outcome.problems.is_empty() || !outcome.concerns_replay;
        report.problems.extend(outcome.problems);
    }
    drop(running);

    // Of damaged definitions or entries nothing could be said that is not said yet.
    if replayable {
        ctx.meter.set_phase("follow the oplog");
        follow(ctx, stored, report).await?;
    }
    Ok(())
}

/// Boxed: otherwise the compiler does not see that the whole may go to another thread.
fn started<'a>(work: Work<'a>, ctx: &'a Context, stored: &'a OpenBackup) -> BoxFuture<'a, Result<Outcome>> {
    work.run(ctx, stored).boxed()
}

async fn manifest(
    storage: &dyn Storage,
    root: &BackupRoot,
    report: &mut VerifyReport,
) -> Result<Option<LogicalManifest>> {
    let key = root.manifest()?;
    // Whatever fails here, a disk that is not mounted for one, is about the storage and not about the backup.
    if storage.stat(&key).await?.is_none() {
        report.problems.push(Problem::new(&key, "it is missing: nothing without a manifest is a backup"));
        return Ok(None);
    }
    let read = read_whole(storage, &key, MANIFEST_LIMIT).await.and_then(|bytes| {
        report.objects += 1;
        report.bytes += bytes.len() as u64;
        LogicalManifest::from_bytes(key.as_str(), &bytes)
    });
    match read {
        Ok(manifest) => Ok(Some(manifest)),
        Err(e) => {
            report.problems.push(Problem::new(&key, about_the_backup(e)?));
            Ok(None)
        }
    }
}

/// Who wrote the backup matters while it is written. Afterwards the manifest says everything.
async fn attempt(
    storage: &dyn Storage,
    root: &BackupRoot,
    manifest: &LogicalManifest,
    report: &mut VerifyReport,
) -> Result<()> {
    let key = root.attempt()?;
    let what = match read_whole(storage, &key, 1 << 20).await {
        Ok(bytes) => match serde_json::from_slice::<Attempt>(&bytes) {
            Ok(attempt) if attempt.attempt_id == manifest.attempt_id && attempt.name == manifest.name => return Ok(()),
            Ok(_) => "it belongs to another attempt than the manifest".to_owned(),
            Err(e) => format!("it cannot be understood: {e}"),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => "it is missing".to_owned(),
        Err(e) => about_the_backup(e)?.full(),
    };
    report.notes.push(Problem::new(&key, format!("{what}; a restore does not need it")));
    Ok(())
}

/// One piece of the work that is done side by side.
enum Work<'a> {
    Metadata(&'a CollectionEntry),
    Part(&'a ObjectEntry),
    /// All parts of the oplog, one after another.
    Oplog,
}

#[derive(Default)]
struct Outcome {
    documents: u64,
    problems: Vec<Problem>,
    /// Whether a problem here makes it useless to follow the oplog.
    concerns_replay: bool,
}

impl<'a> Work<'a> {
    fn objects(&self, stored: &'a OpenBackup) -> Vec<&'a ObjectEntry> {
        match self {
            Self::Metadata(collection) => vec![&collection.metadata],
            Self::Part(object) => vec![object],
            Self::Oplog => stored.manifest.oplog.iter().collect(),
        }
    }

    async fn run(self, ctx: &Context, stored: &OpenBackup) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        match self {
            Self::Metadata(collection) => {
                outcome.concerns_replay = true;
                if let Err(e) = definition(stored, collection).await {
                    outcome.problem(stored, &collection.metadata, e)?;
                }
                ctx.meter.add_bytes(collection.metadata.size);
                ctx.meter.object_done();
            }
            Self::Part(object) => {
                // Entries of the oplog are none of the documents that the manifest counts.
                let counted = |batch: &Batch| {
                    ctx.meter.add_documents(batch.len() as u64);
                    Ok(())
                };
                if let Err(e) = read(ctx, stored, object, &mut outcome.documents, counted).await {
                    outcome.problem(stored, object, e)?;
                }
            }
            Self::Oplog => oplog(ctx, stored, &mut outcome).await?,
        }
        Ok(outcome)
    }
}

impl Outcome {
    fn problem(&mut self, stored: &OpenBackup, object: &ObjectEntry, error: Error) -> Result<()> {
        let error = about_the_backup(error)?;
        // A path that is no key is what the problem is about.
        self.problems.push(match stored.root.key().join(&object.path) {
            Ok(key) => Problem::new(&key, error),
            Err(_) => Problem::new(&stored.root.manifest()?, error),
        });
        Ok(())
    }
}

/// Reads one object to its end and gives every batch to `look`.
async fn read(
    ctx: &Context,
    stored: &OpenBackup,
    object: &ObjectEntry,
    documents: &mut u64,
    mut look: impl FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    // What is compressed is read as fast as its contents come out: stored bytes are estimated from those.
    let (mut plain, mut counted) = (0_u64, 0_u64);
    let mut result = Ok(());
    let options = ReadOptions { batch_bytes: BATCH_BYTES, check_structure: true, ..ReadOptions::default() };
    match stored.documents(object, options) {
        Err(e) => result = Err(e),
        Ok(mut batches) => {
            while let Some(batch) = batches.next().await {
                match batch {
                    Ok(batch) => {
                        *documents += batch.len() as u64;
                        plain += batch.bytes().len() as u64;
                        let share =
                            u128::from(object.size) * u128::from(plain) / u128::from(object.uncompressed.max(1));
                        let share = u64::try_from(share).unwrap_or(u64::MAX).min(object.size);
                        ctx.meter.add_bytes(share - counted);
                        counted = share;
                        if result.is_ok() {
                            // Damage to the object itself explains more, and is looked for to the end.
                            result = look(&batch);
                        }
                    }
                    Err(e) => {
                        result = Err(e);
                        break;
                    }
                }
            }
        }
    }
    ctx.meter.add_bytes(object.size - counted);
    ctx.meter.object_done();
    result
}

/// The metadata is readable and speaks of the collection that the manifest says.
async fn definition(stored: &OpenBackup, entry: &CollectionEntry) -> Result<()> {
    let key = stored.root.key().join(&entry.metadata.path)?;
    let bytes = read_small(stored.storage.as_ref(), &key, &entry.metadata, &stored.keys).await?;
    let corrupt = |why: String| Error::new(ErrorKind::Corrupt, why);
    Definition::parse(&bytes).map_err(|why| corrupt(format!("it cannot be understood: {why}")))?;
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity {
        collection_name: String,
        uuid: Option<String>,
    }
    let said: Identity =
        serde_json::from_slice(&bytes).map_err(|e| corrupt(format!("it does not say whose it is: {e}")))?;
    if said.collection_name != entry.namespace.collection {
        let (said, expected) = (escape(&said.collection_name), escape(&entry.namespace.to_string()));
        return Err(corrupt(format!("it describes {said}, the manifest says {expected}")));
    }
    // That of a time series is the identity of its buckets, which the stock tools do not write.
    let expected = entry.uuid.as_deref().filter(|_| entry.kind == CollectionKind::Collection);
    match (said.uuid.as_deref(), expected) {
        (Some(said), Some(expected)) if said.eq_ignore_ascii_case(expected) => Ok(()),
        (None, None) => Ok(()),
        _ => Err(corrupt("its UUID is not that of the manifest".into())),
    }
}

/// The oplog's objects, read in order: every entry is one, and they ascend from the first position to the last.
async fn oplog(ctx: &Context, stored: &OpenBackup, outcome: &mut Outcome) -> Result<()> {
    outcome.concerns_replay = true;
    let manifest = &stored.manifest;
    let mut first: Option<Timestamp> = None;
    let mut last: Option<Timestamp> = None;
    for object in &manifest.oplog {
        // Positions of a damaged part say nothing about the next one's.
        let before = (first, last);
        let mut documents = 0;
        let order = |batch: &Batch| {
            for document in batch.documents() {
                let ts = Entry::parse(document)?.ts;
                if let Some(last) = last
                    && ts <= last
                {
                    return Err(Error::new(ErrorKind::Corrupt, format!("position {ts} comes after {last}")));
                }
                first.get_or_insert(ts);
                last = Some(ts);
            }
            Ok(())
        };
        let read = read(ctx, stored, object, &mut documents, order).await;
        outcome.documents += documents;
        if let Err(e) = read {
            outcome.problem(stored, object, e)?;
            (first, last) = before;
        }
    }
    let expected = (Some(manifest.oplog_from_ts), Some(manifest.consistent_at_ts));
    if outcome.problems.is_empty() && !manifest.oplog.is_empty() && (first, last) != expected {
        let show = |ts: Option<Timestamp>| ts.map_or("nothing".to_owned(), |ts| ts.to_string());
        let (from, to) = (manifest.oplog_from_ts, manifest.consistent_at_ts);
        let what = format!("the stored oplog reaches from {} to {}, not from {from} to {to}", show(first), show(last));
        outcome.problems.push(Problem::new(&stored.root.manifest()?, what));
    }
    Ok(())
}

/// What a restore does first: it must be possible to tell what every collection is at the end.
async fn follow(ctx: &Context, stored: &OpenBackup, report: &mut VerifyReport) -> Result<()> {
    if let Err(e) = stored.survey(&ctx.cancel, stored.manifest.consistent_at_ts).await {
        let what = about_the_backup(e)?.context("the stored oplog cannot be replayed");
        report.problems.push(Problem::new(&stored.root.manifest()?, what));
    }
    Ok(())
}

/// Objects of the backup's folder that the manifest does not name: nothing reads or deletes them.
async fn strays(stored: &OpenBackup, report: &mut VerifyReport) -> Result<()> {
    let root = &stored.root;
    let manifest = &stored.manifest;
    let named: std::collections::HashSet<&str> =
        manifest.objects().map(|o| o.path.as_str()).chain(["manifest.json", "attempt.json"]).collect();
    let mut listing = match stored.storage.list(Some(root.key())).await {
        Ok(listing) => listing,
        Err(e) if e.kind() == ErrorKind::Denied => {
            let what = format!("what else lies in this folder cannot be listed: {e}");
            report.notes.push(Problem::new(root.key(), what));
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let mut count = 0;
    while let Some(object) = listing.next().await {
        let key = object?.key;
        if key.below(root.key()).is_some_and(|path| !named.contains(path)) {
            count += 1;
            if count <= STRAYS_NAMED {
                report.notes.push(Problem::new(&key, "the manifest does not name it"));
            }
        }
    }
    if count > STRAYS_NAMED {
        let what = format!("the manifest does not name {}", counted((count - STRAYS_NAMED) as u64, "more object"));
        report.notes.push(Problem::new(root.key(), what));
    }
    Ok(())
}
