//! Reading one range of one collection into parts, whatever happens to the collection meanwhile.
//!
//! A collection is followed by its UUID. A rename, a drop or a full capped collection kills the cursor; then the UUID
//! is looked up again. What was read by natural order is read again and replaces its parts, so that no document
//! stands twice; what was read by `_id` goes on behind the last document.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mongodb::bson::RawDocumentBuf;
use tokio_util::sync::CancellationToken;

use super::attempt::Claim;
use super::select::Source;
use super::split::{Id, IdRange};
use crate::artifact::bson::{self, Writer, tag};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::write::{DocumentBatch, NamePart, OnObject, PartOptions, PartWriter};
use crate::domain::key::Key;
use crate::domain::restore::CollectionKind;
use crate::domain::text::escape;
use crate::engine::Meter;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::batches::{Batches, Budget, ReadRequest, Reply, TARGET_BYTES};
use crate::mongo::error::code;
use crate::mongo::namespaces::{self, Size, Uuid};

/// A range whose cursor is killed this often without a single document read is given up.
const MAX_KILLS: u32 = 100;

/// Codes with which the server says that the collection under a cursor has moved or gone (or the cursor itself).
const MOVED: [i32; 6] =
    [code::QUERY_PLAN_KILLED, code::CURSOR_NOT_FOUND, code::CAPPED_POSITION_LOST, code::NAMESPACE_NOT_FOUND, 215, 237];

/// What the readers of one backup share.
pub struct Reading {
    pub server: Server,
    pub budget: Budget,
    pub options: PartOptions,
    pub root: BackupRoot,
    pub claim: Arc<Claim>,
    pub meter: Arc<Meter>,
    pub cancel: CancellationToken,
}

/// How a range ended.
#[derive(Debug)]
pub enum Outcome {
    Read(Vec<ObjectEntry>),
    /// The collection was dropped; the oplog holds the drop, and nothing of the range is left in the storage.
    Gone,
}

/// A batch that counts itself when it has been compressed.
struct Counted {
    reply: Reply,
    meter: Arc<Meter>,
    done: Arc<Done>,
}

#[derive(Default)]
struct Done {
    bytes: AtomicU64,
    documents: AtomicU64,
}

impl DocumentBatch for Counted {
    fn visit(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut bytes, mut documents) = (0, 0);
        self.reply.visit(&mut |document| {
            bytes += document.len() as u64;
            documents += 1;
            each(document)
        })?;
        self.done.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.done.documents.fetch_add(documents, Ordering::Relaxed);
        self.meter.add_bytes(bytes);
        self.meter.add_documents(documents);
        Ok(())
    }
}

/// The order in which a cursor returns documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Natural,
    /// Ascending `_id`: reading can go on behind the last one.
    ById,
}

/// Reads `range` of `source` into parts whose numbers are taken from `numbers`.
pub async fn read(
    reading: &Reading,
    source: &Source,
    uuid: Uuid,
    range: &IdRange,
    size: Size,
    numbers: &Arc<AtomicU32>,
) -> Result<Outcome> {
    let shown = escape(&source.ns.to_string());
    let begun: Arc<Mutex<Vec<Key>>> = Arc::default();
    let mut order = if range.is_whole() && !source.clustered { Order::Natural } else { Order::ById };
    let mut done = Arc::new(Done::default());
    let mut writer = start(reading, source, numbers, &begun);
    // Where a cursor by `_id` goes on.
    let mut behind: Option<Id> = None;
    let mut kills = 0;
    loop {
        let command = find(source, uuid, range, behind.as_ref(), order, batch_size(size))?;
        let request = ReadRequest {
            db: source.ns.db.clone(),
            command,
            batch_size: Some(batch_size(size)),
            await_time: None,
            doing: format!("reading {shown}"),
        };
        let mut batches = Batches::open(&reading.server, &reading.budget, request);
        let failed = loop {
            let reply = tokio::select! {
                biased;
                () = reading.cancel.cancelled() => return Err(Error::cancelled()),
                reply = batches.next() => reply,
            };
            match reply {
                Ok(Some(reply)) => {
                    if order == Order::ById
                        && let Some(id) = last_id(&reply)?
                    {
                        behind = Some(id);
                        kills = 0;
                    }
                    let (meter, done) = (Arc::clone(&reading.meter), Arc::clone(&done));
                    writer.write(Counted { reply, meter, done }).await?;
                }
                Ok(None) => return Ok(Outcome::Read(writer.finish().await?)),
                Err(failed) => break failed,
            }
        };
        drop(batches);
        kills += 1;
        if !failed.code.is_some_and(|c| MOVED.contains(&c)) || kills > MAX_KILLS {
            return Err(failed.error);
        }
        let now = namespaces::name_of(&reading.server, &reading.cancel, &source.ns.db, uuid).await?;
        let resumes = now.is_some() && order == Order::ById;
        if !resumes {
            discard(reading, writer, &begun, &done).await?;
            done = Arc::default();
        } else {
            reading.meter.info(format!("{shown}: its cursor was ended ({}), going on", failed.error));
            continue;
        }
        match now {
            None => {
                reading.meter.info(format!("{shown} was dropped during the backup; the drop is in its oplog"));
                return Ok(Outcome::Gone);
            }
            Some(name) => {
                let now = escape(&format!("{}.{name}", source.ns.db));
                reading.meter.info(format!("{shown} (now {now}) is read again: {}", failed.error));
            }
        }
        writer = start(reading, source, numbers, &begun);
        // A collection that moves once may move again; by `_id` every document that was read stays read.
        if !source.capped {
            order = Order::ById;
        }
    }
}

fn start(reading: &Reading, source: &Source, numbers: &Arc<AtomicU32>, begun: &Arc<Mutex<Vec<Key>>>) -> PartWriter {
    let (root, ns, compression) = (reading.root.clone(), source.ns.clone(), reading.options.compression);
    let name: NamePart = Arc::new(move |number| root.part(&ns, number, compression));
    let (claim, begun) = (Arc::clone(&reading.claim), Arc::clone(begun));
    let on_object: OnObject = Arc::new(move |key| {
        claim.began(key);
        begun.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
    });
    PartWriter::start(reading.options.clone(), Arc::clone(numbers), name, on_object)
}

/// Takes back everything that was written of the range.
async fn discard(reading: &Reading, writer: PartWriter, begun: &Mutex<Vec<Key>>, done: &Done) -> Result<()> {
    writer.abort().await;
    let keys = std::mem::take(&mut *begun.lock().unwrap_or_else(PoisonError::into_inner));
    for key in keys {
        reading.claim.remove(&key).await?;
    }
    let (bytes, documents) = (done.bytes.load(Ordering::Relaxed), done.documents.load(Ordering::Relaxed));
    reading.meter.take_back(bytes, documents);
    Ok(())
}

/// How many documents make a reply of about [`TARGET_BYTES`].
fn batch_size(size: Size) -> u32 {
    let average = size.bytes.checked_div(size.documents).unwrap_or(0).max(16);
    u32::try_from(TARGET_BYTES as u64 / average).unwrap_or(u32::MAX).clamp(1, 1_000_000)
}

fn find(
    source: &Source,
    uuid: Uuid,
    range: &IdRange,
    behind: Option<&Id>,
    order: Order,
    batch_size: u32,
) -> Result<RawDocumentBuf> {
    // The buckets of a time series are clustered by ObjectIds, without an index that `$expr` could use.
    let plain = source.kind == CollectionKind::Timeseries;
    let mut command = Writer::default();
    let mut name = vec![16, 0, 0, 0, 4];
    name.extend_from_slice(&uuid);
    command.raw(tag::BINARY, b"find", &name);
    command.document("filter", &range.filter(behind, plain));
    command.i32("batchSize", i32::try_from(batch_size).unwrap_or(i32::MAX));
    command.open(tag::DOCUMENT, "readConcern").str("level", "local").close();
    match order {
        Order::Natural => {
            command.open(tag::DOCUMENT, "hint").i32("$natural", 1).close();
        }
        // A clustered collection is in the order of `_id` by itself, and has no index of that name to ask for.
        Order::ById if source.clustered => {}
        Order::ById => {
            command.open(tag::DOCUMENT, "hint").i32("_id", 1).close();
        }
    }
    RawDocumentBuf::from_bytes(command.finish())
        .map_err(|e| Error::new(ErrorKind::Internal, "writing a find command").source(e))
}

/// The `_id` of the last document of a reply; `None` when the reply is empty.
fn last_id(reply: &Reply) -> Result<Option<Id>> {
    let broken = |e: bson::Malformed| Error::new(ErrorKind::Failed, "the server's reply is damaged").source(e);
    match bson::elements(reply.array()?).map_err(broken)?.last() {
        Some(document) => Ok(Id::of(document.map_err(broken)?.value)),
        None => Ok(None),
    }
}
