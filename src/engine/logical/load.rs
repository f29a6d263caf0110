//! Loading: each collection is created once, as it is at the end, and filled with the documents of its parts.
//!
//! Documents go from a part to the server as bytes, in large raw batches on a few connections; several parts of a
//! collection at once, but a capped collection alone and in order. No secondary index exists yet.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream};
use mongodb::bson::{Document, RawDocumentBuf, doc};
use tokio::sync::OnceCell;

use super::doubles::Doubles;
use super::open_backup::OpenBackup;
use super::plan::{Item, What};
use super::replay::{CappedRules, resize};
use super::restore_state::{RestoreState, Stage};
use super::write::{MIXED_BUCKET, SCRIPTS, Writes};
use crate::artifact::bson::{self, Writer, tag};
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::read::{Batch, Documents, ReadOptions};
use crate::domain::namespace::Namespace;
use crate::domain::text::counted;
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::error::code;
use crate::mongo::oplog::apply::{self, Sent, zero_timestamps};
use crate::mongo::oplog::catalogue::Bounds;
use crate::mongo::oplog::entry::OpKind;
use crate::mongo::topology::number;

/// Bytes of one insert command. The server takes 48 MB in a message, but 16 MB in one document, which this is.
const BATCH_BYTES: usize = 4 << 20;
/// The server takes 100,000 documents in a command.
const BATCH_DOCUMENTS: usize = 50_000;

/// A collection to fill.
pub(super) struct Filling<'a> {
    pub item: &'a Item,
    /// Something of that name exists and is replaced.
    pub replaces: bool,
    pub parts: Vec<&'a ObjectEntry>,
    /// A document may come twice, and either copy will do.
    has_doubles: bool,
    rules: CappedRules,
    counted: bool,
    created: OnceCell<()>,
}

impl<'a> Filling<'a> {
    pub fn new(item: &'a Item, replaces: bool, stored: &'a OpenBackup, doubles: &Doubles, rules: CappedRules) -> Self {
        let (source, has_doubles) = match &item.what {
            What::Collection { uuid, collection } => (collection.source, doubles.may_be_in(uuid)),
            What::View(_) => (None, false),
        };
        let entry = source.and_then(|n| stored.manifest.collections.get(n));
        let parts = entry.map(|e| e.parts.iter().collect()).unwrap_or_default();
        let counted = entry.is_none_or(|e| e.counted);
        Self { item, replaces, parts, has_doubles, rules, counted, created: OnceCell::new() }
    }

    fn is_capped(&self) -> bool {
        matches!(&self.item.what, What::Collection { collection, .. } if collection.is_capped())
    }

    /// Of a capped collection: the bounds it is created with.
    fn bounds(&self, recorded_until: Timestamp) -> Option<Bounds> {
        let What::Collection { collection, .. } = &self.item.what else { return None };
        if !collection.is_capped() {
            return None;
        }
        // There never were more in it than fit where bounds cannot change.
        if self.rules.fixed_bounds {
            return Some(collection.bounds.clone());
        }
        let documents = if self.counted { self.parts.iter().map(|p| p.documents).sum() } else { u64::MAX };
        let bytes = self.parts.iter().map(|p| p.uncompressed).sum();
        Some(match collection.source {
            Some(_) => collection.bounds_to_load(documents, bytes, recorded_until),
            None => collection.bounds.clone(),
        })
    }
}

/// Gives a capped collection, now that it is loaded, the bounds it had when its documents were read.
pub(super) async fn rebound(writes: &Writes, stored: &OpenBackup, filling: &Filling<'_>) -> Result<()> {
    let What::Collection { collection, .. } = &filling.item.what else { return Ok(()) };
    let Some(created) = filling.bounds(stored.manifest.consistent_at_ts) else { return Ok(()) };
    let Some(entry) = collection.source.and_then(|n| stored.manifest.collections.get(n)) else { return Ok(()) };
    if filling.rules.fixed_bounds {
        return Ok(());
    }
    let then = collection.bounds_at(entry.read_from_ts);
    if then == created { Ok(()) } else { resize(writes, &filling.item.to, &then).await }
}

/// Fills all collections. Gives, for each capped collection, the bytes of the last document loaded.
pub(super) async fn load(
    ctx: &Context,
    stored: &OpenBackup,
    writes: &Writes,
    fillings: &[Filling<'_>],
    standing: &RestoreState,
) -> Result<Vec<(Namespace, Vec<u8>)>> {
    // Large parts first: the last one to end decides when all end.
    let mut work: Vec<(&Filling<'_>, Vec<&ObjectEntry>)> = Vec::new();
    for filling in fillings {
        if filling.is_capped() || filling.parts.len() <= 1 {
            work.push((filling, filling.parts.clone()));
        } else {
            work.extend(filling.parts.iter().map(|part| (filling, vec![*part])));
        }
    }
    work.sort_by_key(|(_, parts)| std::cmp::Reverse(parts.iter().map(|p| p.uncompressed).sum::<u64>()));
    let connections = connections(ctx);
    // Boxed one by one: a closure over borrowed arguments would make the whole restore impossible to spawn.
    let mut tasks = Vec::with_capacity(work.len());
    for (filling, parts) in work {
        tasks.push(fill(ctx, stored, writes, filling, parts, standing).boxed());
    }
    let mut running = stream::iter(tasks).buffer_unordered(connections);
    let mut last_of_capped = Vec::new();
    while let Some(done) = running.next().await {
        last_of_capped.extend(done?);
    }
    Ok(last_of_capped)
}

/// Creates the collection, if nobody has, and inserts the parts one after another.
async fn fill(
    ctx: &Context,
    stored: &OpenBackup,
    writes: &Writes,
    filling: &Filling<'_>,
    parts: Vec<&ObjectEntry>,
    standing: &RestoreState,
) -> Result<Option<(Namespace, Vec<u8>)>> {
    let recorded_until = stored.manifest.consistent_at_ts;
    filling.created.get_or_try_init(|| create(writes, filling, recorded_until, standing)).await?;
    let mut last = None;
    for part in parts {
        last = load_part(ctx, stored, writes, filling, part).await?.or(last);
    }
    Ok(last.filter(|_| filling.is_capped()).map(|last| (filling.item.to.clone(), last)))
}

/// Connections that insert at once: more than the machine's cores only take turns.
pub(super) fn connections(ctx: &Context) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    ctx.limits.parallel_collections.clamp(1, cores.max(2))
}

/// Drops what is replaced and creates the collection, empty.
///
/// A capped collection gets such bounds as keep everything that is loaded; see [`rebound`]. The replay sets them as they were
/// at each moment.
async fn create(
    writes: &Writes,
    filling: &Filling<'_>,
    recorded_until: Timestamp,
    standing: &RestoreState,
) -> Result<()> {
    let to = &filling.item.to;
    let What::Collection { collection, .. } = &filling.item.what else { return Ok(()) };
    standing.set(to, Stage::Partial);
    if filling.replaces {
        writes.drop(to).await?;
        if to.collection == SCRIPTS {
            return Ok(());
        }
    }
    let (mut options, converted) = collection.for_create();
    if let Some(bounds) = filling.bounds(recorded_until) {
        bounds.set(&mut options);
    }
    // Nothing may expire while the restore still needs it.
    options.remove("expireAfterSeconds");
    writes.create(to, &options, filling.replaces).await?;
    let Some(Bounds { size, max }) = converted else { return Ok(()) };
    let capping = format!("capping {to}");
    writes.command(&to.db, &capping, doc! {"convertToCapped": to.collection.as_str(), "size": size}).await?;
    if max.is_some() {
        let mut command = doc! {"collMod": to.collection.as_str()};
        command.extend(Bounds { size: None, max }.collmod());
        writes.command(&to.db, &capping, command).await?;
    }
    Ok(())
}

/// Inserts one part; gives its last document.
async fn load_part(
    ctx: &Context,
    stored: &OpenBackup,
    writes: &Writes,
    filling: &Filling<'_>,
    part: &ObjectEntry,
) -> Result<Option<Vec<u8>>> {
    let to = filling.item.storage_namespace();
    let ordered = filling.is_capped();
    let options = ReadOptions { batch_bytes: BATCH_BYTES, batch_documents: BATCH_DOCUMENTS, ..ReadOptions::default() };
    let mut documents = stored.documents(part, options)?;
    ctx.meter.set_phase(format!("restore {}", filling.item.to));
    let mut last = None;
    loop {
        let next = tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
            next = documents.next() => next,
        };
        let Some(batch) = next.transpose()? else { break };
        let bytes = batch.bytes().len() as u64;
        if ordered {
            last = batch.documents().last().map(<[u8]>::to_vec);
        }
        let inserted = match insert(ctx, writes, filling, &to, batch).await {
            Ok(inserted) => inserted,
            Err(error) => return Err(cause(error, &mut documents).await),
        };
        ctx.meter.add_bytes(bytes);
        ctx.meter.add_documents(inserted);
    }
    Ok(last)
}

/// Why an insert failed: damage in the part, if that is what it was, which shows for certain only at the part's end.
async fn cause(error: Error, documents: &mut Documents) -> Error {
    if error.kind() != ErrorKind::Failed {
        return error;
    }
    while let Some(batch) = documents.next().await {
        if let Err(damage) = batch {
            return damage;
        }
    }
    error
}

/// Inserts a batch; gives the number of documents that were not there before.
async fn insert(ctx: &Context, writes: &Writes, filling: &Filling<'_>, to: &Namespace, batch: Batch) -> Result<u64> {
    let (batch, ordered) = (Arc::new(batch), filling.is_capped());
    // Numbers of the documents to insert.
    let mut numbers: Vec<usize> = (0..batch.len()).collect();
    let (mut inserted, mut mixed) = (0, false);
    loop {
        let (collection, part) = (to.collection.clone(), Arc::clone(&batch));
        let prepared = tokio::task::spawn_blocking(move || {
            let (command, repairs) = insert_command(&collection, &part, &numbers, ordered);
            (command, repairs, numbers)
        });
        let (command, mut repairs, sent) = prepared
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "preparing an insert stopped unexpectedly").source(e))?;
        let reply = writes.raw(&to.db, &format!("inserting into {to}"), command).await?;
        let Inserted { count, failures } = Inserted::read(to, &reply)?;
        inserted += count as u64;
        let all = |code: i32| failures.iter().all(|failure| failure.code == code);
        numbers = match failures.first() {
            None if count == sent.len() => Vec::new(),
            // In order the first failure is the only one. The later copy is where it belongs.
            Some(first) if ordered && all(code::DUPLICATE_KEY) => {
                if let Some(document) = sent.get(first.index).and_then(|n| batch.documents().nth(*n)) {
                    put_over(ctx, writes, to, document).await?;
                }
                repairs.retain(|repair| sent.iter().take(first.index).any(|n| *n == repair.number));
                sent.get(first.index + 1..).unwrap_or_default().to_vec()
            }
            _ if ordered || count + failures.len() != sent.len() => return Err(not_inserted(to, count, &failures)),
            // Either copy will do: the oplog deletes it, and inserts the later one as a whole.
            _ if filling.has_doubles && all(code::DUPLICATE_KEY) => Vec::new(),
            _ if !mixed && all(MIXED_BUCKET) => {
                writes.allow_mixed(to).await?;
                mixed = true;
                failures.iter().filter_map(|failure| sent.get(failure.index).copied()).collect()
            }
            _ => return Err(not_inserted(to, count, &failures)),
        };
        repair(ctx, writes, to, &repairs).await?;
        if numbers.is_empty() {
            return Ok(inserted);
        }
    }
}

fn not_inserted(to: &Namespace, count: usize, failures: &[Failure]) -> Error {
    let what = match failures.first() {
        Some(first) => {
            let documents = counted(failures.len() as u64, "document");
            format!("{documents} could not be inserted into {to}; the first: {}", first.why)
        }
        None => format!("only {count} of the documents of a batch were inserted into {to}"),
    };
    Error::new(ErrorKind::Failed, what)
}

/// Puts a document at the end of a capped collection, in the place of another of its `_id` that is there still.
async fn put_over(ctx: &Context, writes: &Writes, to: &Namespace, document: &[u8]) -> Result<()> {
    let mut operation = Writer::with_capacity(document.len() + 64);
    operation.document("o", document);
    let ns: Arc<str> = to.to_string().into();
    let sent = Sent { ts: Timestamp::MIN, ns, kind: OpKind::Insert, key: 0, may_be_missing: true };
    let mut batch = apply::Batch::new(writes.takes);
    batch.push_over(&operation.finish(), sent);
    writes.apply_ops(batch).await?;
    let fields = zero_timestamps(document);
    if fields.is_empty() {
        return Ok(());
    }
    repair(ctx, writes, to, &[Repair { number: 0, document: document.to_vec(), fields }]).await
}

/// The command that inserts these documents of a batch, and those the server will change on the way in.
fn insert_command(collection: &str, batch: &Batch, numbers: &[usize], ordered: bool) -> (Vec<u8>, Vec<Repair>) {
    let mut w = Writer::with_capacity(batch.bytes().len() + batch.len() * 9 + 256);
    w.str("insert", collection).bool("ordered", ordered).bool("bypassDocumentValidation", true);
    w.open(tag::DOCUMENT, "writeConcern").i32("w", 1).close();
    w.open(tag::ARRAY, "documents");
    let mut repairs = Vec::new();
    let mut wanted = numbers.iter().copied().enumerate().peekable();
    for (number, document) in batch.documents().enumerate() {
        let Some((n, _)) = wanted.next_if(|(_, wanted)| *wanted == number) else { continue };
        w.document(&n.to_string(), document);
        let fields = zero_timestamps(document);
        if !fields.is_empty() {
            repairs.push(Repair { number, document: document.to_vec(), fields });
        }
    }
    w.close();
    (w.finish(), repairs)
}

/// A document with top-level fields of `Timestamp(0, 0)`.
struct Repair {
    /// Within its batch.
    number: usize,
    document: Vec<u8>,
    fields: Vec<Vec<u8>>,
}

async fn repair(ctx: &Context, writes: &Writes, to: &Namespace, repairs: &[Repair]) -> Result<()> {
    let ns: Arc<str> = to.to_string().into();
    if let Some(field) = repairs.iter().find_map(|r| apply::cannot_be_mended(&r.fields, writes.takes)) {
        ctx.meter.warn(apply::not_mended(&ns, field));
    }
    for chunk in repairs.chunks(500) {
        let mut batch = apply::Batch::new(writes.takes);
        for Repair { document, fields, .. } in chunk {
            let Some(id) = bson::get(document, "_id") else { continue };
            let sent = Sent {
                ts: Timestamp::MIN,
                ns: ns.clone(),
                kind: OpKind::Update,
                key: 0,
                // It may have rolled out already.
                may_be_missing: true,
            };
            batch.push_repair(&id, fields, sent);
        }
        if !batch.is_empty() {
            writes.apply_ops(batch).await?;
        }
    }
    Ok(())
}

/// What a raw command reports: failed documents are within a reply that is otherwise good.
struct Inserted {
    count: usize,
    failures: Vec<Failure>,
}

struct Failure {
    /// Within the command.
    index: usize,
    code: i32,
    why: String,
}

impl Inserted {
    fn read(to: &Namespace, reply: &RawDocumentBuf) -> Result<Self> {
        let unreadable = || Error::new(ErrorKind::Failed, format!("the reply to inserting into {to} cannot be read"));
        let reply = Document::try_from(reply).map_err(|e| unreadable().source(e))?;
        let whole = |d: &Document, key: &str| d.get(key).and_then(number).map(|n| n as i32);
        let mut failures = Vec::new();
        for failure in reply.get_array("writeErrors").into_iter().flatten().filter_map(|f| f.as_document()) {
            let index = whole(failure, "index").and_then(|n| usize::try_from(n).ok()).ok_or_else(unreadable)?;
            let why = failure.get_str("errmsg").unwrap_or("no reason given").to_owned();
            failures.push(Failure { index, code: whole(failure, "code").unwrap_or(0), why });
        }
        let count = whole(&reply, "n").and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        Ok(Self { count, failures })
    }
}
