//! Writing documents as parts: concatenated BSON, cut at a size, each part encoded by itself and stored as one
//! object.
//!
//! Compression and encryption run on a blocking thread; bounded channels stand before and behind it, so that a slow storage slows
//! the reader down instead of filling memory. Documents are copied as bytes and never looked into. A part that was
//! not finished never becomes visible.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::codec::{Codec, Encoder};
use super::manifest::ObjectEntry;
use crate::domain::key::Key;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectWriter, Storage};

/// Documents are gathered to this size before the compressor sees them: a call for each small one would cost more
/// than compressing it.
const STAGING: usize = 256 << 10;

/// Compressed bytes travel to the storage in pieces of about this size.
const PIECE: usize = 256 << 10;
const PIECES_AHEAD: usize = 4;

/// Finished parts that are still being made durable while the next one is written, where the writers share the places of the
/// storage: a short last part does not wait for the answer to the one before it. Elsewhere it is one, for each takes memory.
const FINISHING: usize = 2;

/// Above this size of an upload's parts only one is on its way at once, or several writers would need too much memory; unless
/// they share the places of the storage, which bounds all of them.
const LARGE_UPLOAD_PART: usize = 4 << 20;

/// Documents that came together, such as one reply of a server.
pub trait DocumentBatch: Send + 'static {
    /// Calls `each` with the bytes of every document, in order, and stops at its first error.
    fn visit(&self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;
}

/// Where parts go and how they are made.
#[derive(Clone)]
pub struct PartOptions {
    pub storage: Arc<dyn Storage>,
    /// Root of the backup; entries name their objects relative to it.
    pub root: Key,
    pub codec: Codec,
    /// A part ends after about this many bytes of BSON.
    pub part_bytes: u64,
    /// Gives up at once, wherever it stands; unfinished uploads are left to `Storage::sweep`.
    pub cancel: CancellationToken,
    /// Counts what may still be writing, for whoever removes everything afterwards.
    pub tasks: TaskTracker,
}

/// Gives the key of part `n`.
pub type NamePart = Arc<dyn Fn(u32) -> Result<Key> + Send + Sync>;

/// Hears of every object before its first byte is stored, so that whoever cleans up knows it. Nothing is stored before it
/// has answered, nor after it has failed.
pub type OnObject = Arc<dyn Fn(Key) -> BoxFuture<'static, Result<()>> + Send + Sync>;

enum Message {
    Batch(Box<dyn DocumentBatch>),
    End,
}

/// What the compressor hands on. The first piece after a `PartEnd` begins the next part.
enum Piece {
    Data(Bytes),
    PartEnd { documents: u64, uncompressed: u64 },
    End,
}

/// Writes one stream of documents. Several writers may share `numbers`, so that together they fill one folder.
pub struct PartWriter {
    batches: mpsc::Sender<Message>,
    stored: JoinHandle<Result<Vec<ObjectEntry>>>,
}

impl PartWriter {
    /// Nothing is stored before the first document.
    pub fn start(options: PartOptions, numbers: Arc<AtomicU32>, name: NamePart, on_object: OnObject) -> Self {
        let (batches, incoming) = mpsc::channel(1);
        let (outgoing, pieces) = mpsc::channel(PIECES_AHEAD);
        let (codec, part_bytes) = (options.codec.clone(), options.part_bytes.max(1));
        let compressing = tokio::task::spawn_blocking(move || compress(incoming, outgoing, codec, part_bytes));
        let tasks = options.tasks.clone();
        let stored = tasks.spawn(async move {
            let cancel = options.cancel.clone();
            let stored = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(Error::cancelled()),
                stored = store(options, numbers, name, on_object, pieces) => stored,
            };
            let compressed = compressing
                .await
                .map_err(|e| Error::new(ErrorKind::Internal, "the compressor stopped unexpectedly").source(e))
                .and_then(|r| r);
            // When the storage fails, the compressor only notices that nobody listens any more.
            let entries = stored?;
            compressed?;
            Ok(entries)
        });
        Self { batches, stored }
    }

    /// Hands over a batch; waits while the ones before it are still being compressed and stored. After an error
    /// nothing more can be written, and what was is removed by whoever asked for the parts.
    pub async fn write(&mut self, batch: impl DocumentBatch) -> Result<()> {
        match self.batches.send(Message::Batch(Box::new(batch))).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Ends the last part and returns all of them, in order, when they are durable.
    pub async fn finish(self) -> Result<Vec<ObjectEntry>> {
        self.end().await?.stored().await
    }

    /// Ends the last part. It, and those before it, may still be on their way.
    pub async fn end(mut self) -> Result<PendingParts> {
        if self.batches.send(Message::End).await.is_err() {
            return Err(self.failure().await);
        }
        Ok(PendingParts(self.stored))
    }

    /// Stops. Parts that are already finished stay; the open one does not appear. Returns when nothing writes any more.
    pub async fn abort(self) {
        drop(self.batches);
        let _ = self.stored.await;
    }

    async fn failure(&mut self) -> Error {
        match joined((&mut self.stored).await) {
            Err(e) => e,
            Ok(_) => Error::new(ErrorKind::Internal, "a part ended early"),
        }
    }
}

/// Parts of which nothing more is to come.
#[derive(Debug)]
pub struct PendingParts(JoinHandle<Result<Vec<ObjectEntry>>>);

impl PendingParts {
    /// Returns all of them, in order, when they are durable.
    pub async fn stored(self) -> Result<Vec<ObjectEntry>> {
        joined(self.0.await)
    }
}

fn joined(outcome: std::result::Result<Result<Vec<ObjectEntry>>, tokio::task::JoinError>) -> Result<Vec<ObjectEntry>> {
    outcome.map_err(|e| Error::new(ErrorKind::Internal, "the writer of a part stopped unexpectedly").source(e))?
}

/// Stores pieces as objects until the stream ends.
async fn store(
    options: PartOptions,
    numbers: Arc<AtomicU32>,
    name: NamePart,
    on_object: OnObject,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<Vec<ObjectEntry>> {
    let is_shared = options.storage.in_flight().is_some_and(|all| all.uploads.is_some());
    let most_finishing = if is_shared { FINISHING } else { 1 };
    let mut open: Option<(Key, ObjectWriter)> = None;
    let mut finishing: JoinSet<Result<(usize, ObjectEntry)>> = JoinSet::new();
    let mut entries: Vec<Option<ObjectEntry>> = Vec::new();
    loop {
        match pieces.recv().await {
            Some(Piece::Data(data)) => {
                let (_, writer) = match &mut open {
                    Some(open) => open,
                    None => {
                        let key = name(numbers.fetch_add(1, Ordering::Relaxed))?;
                        on_object(key.clone()).await?;
                        let mut writer = ObjectWriter::new(Arc::clone(&options.storage), key.clone());
                        if !is_shared && options.storage.part_size() > LARGE_UPLOAD_PART {
                            writer = writer.in_flight(1);
                        }
                        open.insert((key, writer))
                    }
                };
                writer.write(data).await?;
            }
            Some(Piece::PartEnd { documents, uncompressed }) => {
                let Some((key, writer)) = open.take() else { continue };
                while finishing.len() >= most_finishing {
                    take(&mut entries, finishing.join_next().await)?;
                }
                let place = entries.len();
                entries.push(None);
                let root = options.root.clone();
                finishing.spawn(options.tasks.track_future(async move {
                    let written = writer.finish().await?;
                    let path = key.below(&root).unwrap_or(key.as_str()).to_owned();
                    let entry =
                        ObjectEntry { path, size: written.size, blake3: written.blake3, uncompressed, documents };
                    Ok((place, entry))
                }));
            }
            Some(Piece::End) => break,
            // Whoever wrote has given up, or the compressor has failed, which then says why. The rest of the backup
            // may go on, so that nothing may be left to a sweep, which would take the other uploads with it.
            None => {
                if let Some((_, writer)) = open {
                    writer.abort().await?;
                }
                while finishing.join_next().await.is_some() {}
                return Ok(Vec::new());
            }
        }
    }
    while let Some(done) = finishing.join_next().await {
        take(&mut entries, Some(done))?;
    }
    Ok(entries.into_iter().flatten().collect())
}

type Finished = std::result::Result<Result<(usize, ObjectEntry)>, tokio::task::JoinError>;

fn take(entries: &mut [Option<ObjectEntry>], done: Option<Finished>) -> Result<()> {
    let Some(done) = done else { return Ok(()) };
    let (place, entry) =
        done.map_err(|e| Error::new(ErrorKind::Internal, "the writer of a part stopped unexpectedly").source(e))??;
    if let Some(slot) = entries.get_mut(place) {
        *slot = Some(entry);
    }
    Ok(())
}

/// Runs on a blocking thread until the batches end.
fn compress(
    mut batches: mpsc::Receiver<Message>,
    pieces: mpsc::Sender<Piece>,
    codec: Codec,
    part_bytes: u64,
) -> Result<()> {
    let mut part: Option<Part> = None;
    loop {
        match batches.blocking_recv() {
            Some(Message::Batch(batch)) => batch.visit(&mut |document| {
                let current = match &mut part {
                    Some(current) => current,
                    None => part.insert(Part::begin(&pieces, &codec)?),
                };
                current.add(document)?;
                if current.uncompressed >= part_bytes
                    && let Some(full) = part.take()
                {
                    full.end(&pieces)?;
                }
                Ok(())
            })?,
            Some(Message::End) => {
                if let Some(last) = part.take() {
                    last.end(&pieces)?;
                }
                return pieces.blocking_send(Piece::End).map_err(|_| unheard());
            }
            None => return Err(Error::cancelled()),
        }
    }
}

fn unheard() -> Error {
    Error::cancelled()
}

/// The part that is being compressed.
struct Part {
    encoder: Encoder<Sink>,
    staging: Vec<u8>,
    documents: u64,
    uncompressed: u64,
}

impl Part {
    fn begin(pieces: &mpsc::Sender<Piece>, codec: &Codec) -> Result<Self> {
        let sink = Sink { pieces: pieces.clone(), buffer: Vec::with_capacity(PIECE) };
        let encoder = codec.encoder(sink)?;
        Ok(Self { encoder, staging: Vec::with_capacity(STAGING), documents: 0, uncompressed: 0 })
    }

    fn add(&mut self, document: &[u8]) -> Result<()> {
        if self.staging.len() + document.len() > STAGING {
            self.encode_staged()?;
        }
        if document.len() >= STAGING {
            self.encoder.write_all(document).map_err(sent)?;
        } else {
            self.staging.extend_from_slice(document);
        }
        self.documents += 1;
        self.uncompressed += document.len() as u64;
        Ok(())
    }

    fn encode_staged(&mut self) -> Result<()> {
        self.encoder.write_all(&self.staging).map_err(sent)?;
        self.staging.clear();
        Ok(())
    }

    fn end(mut self, pieces: &mpsc::Sender<Piece>) -> Result<()> {
        self.encode_staged()?;
        let sink = self.encoder.finish().map_err(sent)?;
        if !sink.buffer.is_empty() {
            pieces.blocking_send(Piece::Data(sink.buffer.into())).map_err(|_| unheard())?;
        }
        let end = Piece::PartEnd { documents: self.documents, uncompressed: self.uncompressed };
        pieces.blocking_send(end).map_err(|_| unheard())
    }
}

/// A write fails only when nobody listens any more, or inside the compressor.
fn sent(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        unheard()
    } else {
        Error::new(ErrorKind::Internal, "compressing a part").source(error)
    }
}

/// Collects compressed bytes and sends them on in pieces.
struct Sink {
    pieces: mpsc::Sender<Piece>,
    buffer: Vec<u8>,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= PIECE {
            let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
            self.pieces.blocking_send(Piece::Data(full.into())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
