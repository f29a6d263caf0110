//! Reading one range of one collection into parts, whatever happens to the collection meanwhile. What was read may still be
//! on its way to the storage then.
//!
//! A collection is followed by its UUID. A rename, a drop or a full capped collection kills the cursor; then the UUID
//! is looked up again. What was read by natural order is read again and replaces its parts, so that no document
//! stands twice; what was read by `_id` goes on behind the last document. See [`super::reinserted`] for what else could
//! make one stand twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use mongodb::bson::RawDocumentBuf;
use tokio_util::sync::CancellationToken;

use super::reinserted::Reinserted;
use super::select::Source;
use super::split::{Id, IdRange};
use crate::artifact::bson::{self, Writer, tag};
use crate::artifact::layout::BackupRoot;
use crate::artifact::write::{DocumentBatch, NamePart, OnObject, PartOptions, PartWriter, PendingParts};
use crate::domain::key::Key;
use crate::domain::restore::CollectionKind;
use crate::domain::text::escape;
use crate::engine::Meter;
use crate::engine::attempt::Claiming;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::batches::{Batches, Budget, ReadError, ReadRequest, Reply, TARGET_BYTES};
use crate::mongo::error::code;
use crate::mongo::namespaces::{self, Size, Uuid};
use crate::mongo::topology;

mod capped;

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
    pub claiming: Claiming,
    pub meter: Arc<Meter>,
    pub cancel: CancellationToken,
    pub reinserted: Arc<Reinserted>,
}

/// How a range ended.
#[derive(Debug)]
pub enum Outcome {
    /// All of it, so many bytes; `None`: nothing of it is needed.
    Read { parts: Option<PendingParts>, bytes: u64 },
    /// The collection was dropped; the oplog holds the drop, and nothing of the range is left in the storage.
    Gone,
}

/// A batch that counts itself when it has been compressed.
struct Counted {
    reply: Reply,
    /// Of its documents so many belong to what is read.
    documents: u64,
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
            if documents == self.documents {
                return Ok(());
            }
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
pub enum Order {
    /// The fastest; the collection is watched meanwhile.
    Natural,
    /// Natural too, up to the document that was the newest when the reading began.
    Capped,
    /// Ascending `_id`: reading can go on behind the last one, and no document comes twice.
    ById,
}

/// The order to read a range in; `again`: natural order did not do.
pub fn order(source: &Source, range: &IdRange, again: bool) -> Order {
    if source.clustered {
        Order::ById
    } else if source.capped {
        Order::Capped
    } else if range.is_whole() && !again {
        Order::Natural
    } else {
        Order::ById
    }
}

/// Why a cursor, or the reading as a whole, ends early.
enum Stop {
    Cursor(ReadError),
    Reading(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Reading(error)
    }
}

impl From<ReadError> for Stop {
    fn from(failed: ReadError) -> Self {
        Self::Cursor(failed)
    }
}

/// Reads `range` of `source` into parts whose numbers are taken from `numbers`.
pub async fn read(
    reading: &Reading,
    source: &Source,
    uuid: Uuid,
    range: &IdRange,
    size: Size,
    numbers: &Arc<AtomicU32>,
    order: Order,
) -> Result<Outcome> {
    let mut range = Range {
        reading,
        source,
        uuid,
        range,
        size,
        numbers,
        order,
        begun: Arc::default(),
        done: Arc::default(),
        received: 0,
        behind: None,
        kills: 0,
    };
    if order == Order::Natural {
        reading.reinserted.begin(uuid, source.collated);
    }
    let outcome = range.read().await?;
    if order == Order::Natural {
        match (&outcome, range.order) {
            (Outcome::Read { .. }, Order::Natural) => {
                let applied = topology::op_times(&reading.server, &reading.cancel).await?.applied;
                reading.reinserted.end(&uuid, applied);
            }
            (Outcome::Read { .. } | Outcome::Gone, _) => reading.reinserted.forget(&uuid),
        }
    }
    Ok(outcome)
}

/// A range that is being read.
struct Range<'a> {
    reading: &'a Reading,
    source: &'a Source,
    uuid: Uuid,
    range: &'a IdRange,
    size: Size,
    numbers: &'a Arc<AtomicU32>,
    order: Order,
    /// The objects that were begun.
    begun: Arc<Mutex<Vec<Key>>>,
    done: Arc<Done>,
    /// Bytes that the server has sent of it.
    received: u64,
    /// Where a cursor by `_id` goes on.
    behind: Option<Id>,
    kills: u32,
}

/// How far a cursor came.
enum Scanned {
    All,
    /// What there was is gone from a capped collection, and nothing of it is needed.
    Nothing,
    /// A capped collection changed in such a way that it must be read again.
    Again,
}

impl Range<'_> {
    async fn read(&mut self) -> Result<Outcome> {
        let (reading, source) = (self.reading, self.source);
        let shown = escape(&source.ns.to_string());
        let mut writer = self.start();
        loop {
            let why = match self.scan(&mut writer).await {
                Ok(Scanned::All) => {
                    return Ok(Outcome::Read { parts: Some(writer.end().await?), bytes: self.received });
                }
                Ok(Scanned::Nothing) => {
                    self.discard(writer).await?;
                    return Ok(Outcome::Read { parts: None, bytes: 0 });
                }
                Ok(Scanned::Again) => {
                    self.kills += 1;
                    let why = Error::new(ErrorKind::Failed, "what was its newest document was deleted meanwhile");
                    if self.kills > MAX_KILLS {
                        return Err(why.context(format!("reading {shown}")));
                    }
                    why
                }
                Err(Stop::Reading(error)) => return Err(error),
                Err(Stop::Cursor(failed)) => {
                    self.kills += 1;
                    if !failed.code.is_some_and(|c| MOVED.contains(&c)) || self.kills > MAX_KILLS {
                        return Err(failed.error);
                    }
                    failed.error
                }
            };
            let now = namespaces::name_of(&reading.server, &reading.cancel, &source.ns.db, self.uuid).await?;
            if now.is_some() && self.order == Order::ById {
                reading.meter.info(format!("{shown}: its cursor was ended ({why}), going on"));
                continue;
            }
            self.discard(writer).await?;
            match now {
                None => {
                    reading.meter.info(format!("{shown} was dropped during the backup; the drop is in its oplog"));
                    return Ok(Outcome::Gone);
                }
                Some(name) => {
                    let now = escape(&format!("{}.{name}", source.ns.db));
                    reading.meter.info(format!("{shown} (now {now}) is read again: {why}"));
                }
            }
            writer = self.start();
            // A collection that moves once may move again; by `_id` every document that was read stays read.
            if self.order == Order::Natural {
                self.order = Order::ById;
            }
        }
    }

    /// Writes what one cursor returns.
    async fn scan(&mut self, writer: &mut PartWriter) -> std::result::Result<Scanned, Stop> {
        let (reading, source) = (self.reading, self.source);
        let mark = match self.order {
            Order::Capped => match capped::newest(reading, source, self.uuid).await? {
                Some(mark) => Some(mark),
                None => return Ok(Scanned::Nothing),
            },
            Order::Natural | Order::ById => None,
        };
        let batch_size = batch_size(self.size);
        let request = ReadRequest {
            db: source.ns.db.clone(),
            command: find(source, self.uuid, self.range, self.behind.as_ref(), self.order, batch_size)?,
            batch_size: Some(batch_size),
            await_time: None,
            doing: format!("reading {}", escape(&source.ns.to_string())),
        };
        let mut batches = Batches::open(&reading.server, &reading.budget, request);
        let mut met = false;
        let ended = loop {
            let reply = match next(reading, &mut batches).await {
                Ok(Some(reply)) => reply,
                Ok(None) => break Ok(()),
                Err(stop) => break Err(stop),
            };
            if self.order == Order::ById
                && let Some(id) = last_id(&reply)?
            {
                self.behind = Some(id);
                self.kills = 0;
            }
            self.received += reply.array()?.len() as u64;
            let until = mark.as_ref().map(|mark| capped::documents_until(reply.array()?, mark)).transpose()?.flatten();
            let (meter, done) = (Arc::clone(&reading.meter), Arc::clone(&self.done));
            writer.write(Counted { reply, documents: until.unwrap_or(u64::MAX), meter, done }).await?;
            met = until.is_some();
            if met {
                break Ok(());
            }
        };
        drop(batches);
        match (mark, ended) {
            (None, ended) => ended.map(|()| Scanned::All),
            (Some(mark), Ok(())) => Ok(match capped::judge(reading, source, self.uuid, &mark, met).await? {
                capped::Verdict::Complete => Scanned::All,
                capped::Verdict::RolledOut => Scanned::Nothing,
                capped::Verdict::Again => Scanned::Again,
            }),
            (Some(mark), Err(Stop::Cursor(failed))) if failed.code == Some(code::CAPPED_POSITION_LOST) => {
                match capped::judge(reading, source, self.uuid, &mark, false).await? {
                    capped::Verdict::RolledOut => Ok(Scanned::Nothing),
                    capped::Verdict::Complete | capped::Verdict::Again => Err(Stop::Cursor(failed)),
                }
            }
            (Some(_), Err(stop)) => Err(stop),
        }
    }

    fn start(&self) -> PartWriter {
        let reading = self.reading;
        let (root, ns, codec) = (reading.root.clone(), self.source.ns.clone(), reading.options.codec.clone());
        let name: NamePart = Arc::new(move |number| root.part(&ns, number, &codec));
        let (claiming, begun) = (reading.claiming.clone(), Arc::clone(&self.begun));
        let on_object: OnObject = Arc::new(move |key| {
            let (claiming, begun) = (claiming.clone(), Arc::clone(&begun));
            async move {
                claiming.claim().await?.began(&key);
                begun.lock().unwrap_or_else(PoisonError::into_inner).push(key);
                Ok(())
            }
            .boxed()
        });
        PartWriter::start(reading.options.clone(), Arc::clone(self.numbers), name, on_object)
    }

    /// Takes back everything that was written of the range.
    async fn discard(&mut self, writer: PartWriter) -> Result<()> {
        writer.abort().await;
        let keys = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        if !keys.is_empty() {
            let claim = self.reading.claiming.claim().await?;
            for key in keys {
                claim.remove(&key).await?;
            }
        }
        self.received = 0;
        let done = std::mem::take(&mut self.done);
        let (bytes, documents) = (done.bytes.load(Ordering::Relaxed), done.documents.load(Ordering::Relaxed));
        self.reading.meter.take_back(bytes, documents);
        Ok(())
    }
}

/// The next reply, unless the backup is cancelled before it.
async fn next(reading: &Reading, batches: &mut Batches) -> std::result::Result<Option<Reply>, Stop> {
    tokio::select! {
        biased;
        () = reading.cancel.cancelled() => Err(Error::cancelled().into()),
        reply = batches.next() => Ok(reply?),
    }
}

/// How many documents make a reply of about [`TARGET_BYTES`].
fn batch_size(size: Size) -> u32 {
    let average = size.bytes.checked_div(size.documents).unwrap_or(0).max(16);
    u32::try_from(TARGET_BYTES as u64 / average).unwrap_or(u32::MAX).clamp(1, 1_000_000)
}

/// A `find` on the collection with this UUID, to be completed.
fn find_by_uuid(uuid: Uuid) -> Writer {
    let mut command = Writer::default();
    let mut name = vec![16, 0, 0, 0, 4];
    name.extend_from_slice(&uuid);
    command.raw(tag::BINARY, b"find", &name);
    command
}

fn command(written: Writer) -> Result<RawDocumentBuf> {
    RawDocumentBuf::from_bytes(written.finish())
        .map_err(|e| Error::new(ErrorKind::Internal, "writing a find command").source(e))
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
    let mut find = find_by_uuid(uuid);
    find.document("filter", &range.filter(behind, plain));
    find.i32("batchSize", i32::try_from(batch_size).unwrap_or(i32::MAX));
    find.open(tag::DOCUMENT, "readConcern").str("level", "local").close();
    match order {
        Order::Natural | Order::Capped => {
            find.open(tag::DOCUMENT, "hint").i32("$natural", 1).close();
        }
        // A clustered collection is in the order of `_id` by itself, and has no index of that name to ask for.
        Order::ById if source.clustered => {}
        Order::ById => {
            find.open(tag::DOCUMENT, "hint").i32("_id", 1).close();
        }
    }
    command(find)
}

fn damaged(e: bson::Malformed) -> Error {
    Error::new(ErrorKind::Failed, "the server's reply is damaged").source(e)
}

/// The `_id` of the last document of a reply; `None` when the reply is empty.
fn last_id(reply: &Reply) -> Result<Option<Id>> {
    match bson::elements(reply.array()?).map_err(damaged)?.last() {
        Some(document) => Ok(Id::of(document.map_err(damaged)?.value)),
        None => Ok(None),
    }
}
