//! Reading stored objects back: storage, checksum, decryption, decompression, documents.
//!
//! Bytes stream through bounded channels: an async task feeds what the storage sends to a blocking thread, which
//! hashes, decrypts, decompresses and cuts it into batches of whole documents. What one reader holds is a few batches, whatever
//! the size of the object. A reader never hands over the end of an object that is not what was written: size, checksum
//! and counts are compared before the last batch is followed by `None`.

use std::cell::RefCell;
use std::io::{self, Read};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::bson::{self, frame_length};
use super::codec::{Decoder, is_encrypted};
use super::foreign::{self, ForeignObject};
use super::keys::Keys;
use super::manifest::ObjectEntry;
use crate::domain::key::Key;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{self, Storage};

/// Chunks between the storage and the blocking thread. A chunk is what the storage's stream yields, at most
/// [`CHUNK`] after it was cut.
const CHUNKS_AHEAD: usize = 4;
const CHUNK: usize = 1 << 20;

/// Whole documents that lie one after another.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each document ends.
    ends: Vec<usize>,
}

impl Batch {
    pub fn documents(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|n| &self.bytes[self.range(n)])
    }

    fn range(&self, n: usize) -> Range<usize> {
        (if n == 0 { 0 } else { self.ends[n - 1] })..self.ends[n]
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All documents of the batch, concatenated.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// How an object is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// A batch ends at about this many bytes; a single larger document is a batch of its own.
    pub batch_bytes: usize,
    /// ... or after this many documents.
    pub batch_documents: usize,
    /// Check the inner structure of every document too, not only where each ends.
    pub check_structure: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { batch_bytes: 4 << 20, batch_documents: 10_000, check_structure: false }
    }
}

/// The documents of one stored object, in batches.
pub struct Documents {
    /// `None` is the end; a channel that only closes says nothing of it.
    batches: mpsc::Receiver<Result<Option<Batch>>>,
    ended: bool,
}

impl Documents {
    /// Begins to read `entry`, stored under `key`, with the `keys` that open it. Must be called within a tokio runtime.
    /// Dropping the result ends the work behind it.
    pub fn open(storage: Arc<dyn Storage>, key: Key, entry: &ObjectEntry, keys: &Keys, options: ReadOptions) -> Self {
        Self::open_at(storage, key, 0, entry, keys, options)
    }

    /// The same for the bytes of an object from `offset` on, which are those that `entry` describes.
    pub fn open_at(
        storage: Arc<dyn Storage>,
        key: Key,
        offset: u64,
        entry: &ObjectEntry,
        keys: &Keys,
        options: ReadOptions,
    ) -> Self {
        let range = (offset > 0).then(|| offset..offset.saturating_add(entry.size));
        let object = Object { key: key.clone(), place: storage.place(), expected: Expected::Written(entry.clone()) };
        Self::begin(storage, object, range, keys.clone(), options)
    }

    /// Begins to read an object that another tool wrote, stored under `key` and perhaps in further pieces.
    pub fn open_foreign(storage: Arc<dyn Storage>, key: Key, foreign: &ForeignObject, options: ReadOptions) -> Self {
        let object = Object { key, place: storage.place(), expected: Expected::Foreign(foreign.clone()) };
        Self::begin(storage, object, None, Keys::default(), options)
    }

    fn begin(
        storage: Arc<dyn Storage>,
        object: Object,
        range: Option<Range<u64>>,
        keys: Keys,
        options: ReadOptions,
    ) -> Self {
        let (chunks, source) = mpsc::channel(CHUNKS_AHEAD);
        let (sink, batches) = mpsc::channel(1);
        match &object.expected {
            Expected::Written(entry) => {
                let key = object.key.clone();
                drop(tokio::spawn(feed(storage, key, range, entry.size, chunks)));
            }
            Expected::Foreign(foreign) => {
                drop(tokio::spawn(feed_pieces(storage, object.key.clone(), foreign.size, chunks)));
            }
        }
        tokio::task::spawn_blocking(move || {
            let end = cut(&object, source, &keys, options, &sink).map(|()| None);
            // A receiver that is gone wants no end either.
            let _ = sink.blocking_send(end);
        });
        Self { batches, ended: false }
    }

    /// The next batch; `None` after the last, when the object was exactly what the manifest says.
    /// Errors: `Corrupt` (naming the object), what the storage reported, or `Internal` when reading died. Nothing comes after.
    pub async fn next(&mut self) -> Option<Result<Batch>> {
        if self.ended {
            return None;
        }
        let next = match self.batches.recv().await {
            Some(next) => next.transpose(),
            None => Some(Err(Error::new(ErrorKind::Internal, "reading a stored object stopped unexpectedly"))),
        };
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The object being read, for messages and the comparison at its end.
struct Object {
    key: Key,
    place: String,
    expected: Expected,
}

/// What an object must turn out to be.
enum Expected {
    Written(ObjectEntry),
    /// As far as the tool that wrote it says.
    Foreign(ForeignObject),
}

impl Expected {
    /// Whether so much can no longer be right.
    fn is_exceeded_by(&self, documents: u64, bytes: u64) -> bool {
        match self {
            Self::Written(entry) => documents > entry.documents || bytes > entry.uncompressed,
            Self::Foreign(foreign) => foreign.uncompressed.is_some_and(|most| bytes > most),
        }
    }

    /// What is wrong with an object that was read to its end.
    fn contradicted_by(&self, read: &Outcome) -> Option<String> {
        let size = match self {
            Self::Written(entry) => entry.size,
            Self::Foreign(foreign) => foreign.size,
        };
        if read.stored != size {
            return Some(format!("{} bytes are stored, {size} were written", read.stored));
        }
        let (documents, bytes) = (read.documents, read.bytes);
        match self {
            // A slice of the oplog that is encrypted has none: its encryption authenticates it.
            Self::Written(entry) if read.blake3 != entry.blake3 && !(entry.blake3.is_empty() && read.authenticated) => {
                Some("its checksum does not match".into())
            }
            Self::Written(entry) if documents != entry.documents || bytes != entry.uncompressed => Some(format!(
                "it holds {documents} documents of {bytes} bytes, the manifest says {} of {}",
                entry.documents, entry.uncompressed
            )),
            Self::Written(_) => None,
            Self::Foreign(foreign) => match (foreign.uncompressed, foreign.crc64) {
                (Some(expected), _) if bytes != expected => {
                    Some(format!("it holds {bytes} bytes of documents, its metadata says {expected}"))
                }
                (_, Some(crc64)) if read.crc64 != crc64 => Some("its checksum does not match".into()),
                _ => None,
            },
        }
    }
}

/// What an object turned out to hold.
struct Outcome {
    stored: u64,
    documents: u64,
    bytes: u64,
    blake3: String,
    /// It was encrypted, and each of its bytes is what was encrypted.
    authenticated: bool,
    crc64: u64,
}

impl Object {
    fn corrupt(&self, why: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Corrupt, format!("{} in {} is damaged: {why}", self.key, escape(&self.place)))
    }

    /// Nothing is known of it without an identity, and nothing is said of it.
    fn locked(&self) -> Error {
        let what = format!("{} in {} is encrypted, and no identity was given", self.key, escape(&self.place));
        Error::new(ErrorKind::Unauthenticated, what)
    }

    /// What the storage reported, if it did.
    fn storage_error(&self, source: &Shared) -> Option<Error> {
        let error = source.0.borrow_mut().error.take()?;
        Some(match error.kind() {
            ErrorKind::NotFound => {
                Error::new(ErrorKind::Corrupt, format!("{} is missing in {}", self.key, escape(&self.place)))
            }
            _ => error.context(format!("reading {}", self.key)),
        })
    }
}

/// Sends the bytes of an object, in chunks of bounded size, until they end, fail, or nobody listens any more. How many
/// were sent; `None`: no more are to come. `size`: what is expected.
async fn feed(
    storage: Arc<dyn Storage>,
    key: Key,
    range: Option<Range<u64>>,
    size: u64,
    chunks: mpsc::Sender<Result<Bytes>>,
) -> Option<u64> {
    let mut stream = match storage::read_ahead(storage, &key, range, size).await {
        Ok(stream) => stream,
        Err(error) => {
            let _ = chunks.send(Err(error)).await;
            return None;
        }
    };
    let mut sent = 0_u64;
    while let Some(next) = stream.next().await {
        match next {
            Ok(mut bytes) => {
                while !bytes.is_empty() {
                    let piece = bytes.split_to(bytes.len().min(CHUNK));
                    sent += piece.len() as u64;
                    chunks.send(Ok(piece)).await.ok()?;
                }
            }
            Err(error) => {
                let _ = chunks.send(Err(error)).await;
                return None;
            }
        }
    }
    Some(sent)
}

/// The same of an object in several pieces, as far as `size` bytes need them.
async fn feed_pieces(storage: Arc<dyn Storage>, key: Key, size: u64, chunks: mpsc::Sender<Result<Bytes>>) {
    let (mut sent, mut number) = (0, 0);
    while number == 0 || sent < size {
        let piece = match foreign::piece(&key, number) {
            Ok(piece) => piece,
            Err(error) => {
                let _ = chunks.send(Err(error)).await;
                return;
            }
        };
        // An empty piece would follow itself for ever.
        match feed(storage.clone(), piece, None, size - sent, chunks.clone()).await {
            Some(n) if n > 0 => sent += n,
            _ => return,
        }
        number += 1;
    }
}

/// The stored bytes as a [`Read`] that hashes what passes; a storage's error is kept aside, because a decompressor
/// passes only `io::Error` on.
struct Hashing {
    source: mpsc::Receiver<Result<Bytes>>,
    chunk: Bytes,
    hasher: blake3::Hasher,
    size: u64,
    error: Option<Error>,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.source.blocking_recv() {
                Some(Ok(chunk)) => {
                    self.hasher.update(&chunk);
                    self.size += chunk.len() as u64;
                    self.chunk = chunk;
                }
                Some(Err(error)) => {
                    self.error = Some(error);
                    return Err(io::Error::other("the storage failed"));
                }
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len());
        buffer[..n].copy_from_slice(&self.chunk.split_to(n));
        Ok(n)
    }
}

/// The same for the decoder, while the rest of this is at hand, too. Of one thread.
#[derive(Clone)]
struct Shared(Rc<RefCell<Hashing>>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

/// Fills `buffer` as far as the source goes.
fn read_full(source: &mut impl Read, mut buffer: &mut [u8]) -> io::Result<usize> {
    let mut total = 0;
    while !buffer.is_empty() {
        match source.read(buffer) {
            Ok(0) => break,
            Ok(n) => {
                total += n;
                buffer = &mut buffer[n..];
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(total)
}

fn cut(
    object: &Object,
    source: mpsc::Receiver<Result<Bytes>>,
    keys: &Keys,
    options: ReadOptions,
    sink: &mpsc::Sender<Result<Option<Batch>>>,
) -> Result<()> {
    let source = Hashing { source, chunk: Bytes::new(), hasher: blake3::Hasher::new(), size: 0, error: None };
    let shared = Shared(Rc::new(RefCell::new(source)));
    let authenticated = match &object.expected {
        Expected::Written(_) => is_encrypted(object.key.file_name()),
        Expected::Foreign(_) => false,
    };
    if authenticated && keys.is_empty() {
        return Err(object.locked());
    }
    let decoder = match &object.expected {
        Expected::Written(_) => Decoder::of(object.key.file_name(), shared.clone(), keys),
        Expected::Foreign(foreign) => Decoder::new(foreign.encoded, shared.clone()),
    };
    let mut input = match decoder {
        Ok(input) => input,
        Err(e) => return Err(object.storage_error(&shared).unwrap_or_else(|| object.corrupt(e))),
    };
    let (mut documents, mut bytes, mut is_more) = (0u64, 0u64, false);
    let mut crc64 = match &object.expected {
        Expected::Foreign(ForeignObject { crc64: Some(_), .. }) => Some(crc_fast::Digest::new(CrcAlgorithm::Crc64Xz)),
        _ => None,
    };
    let ended = cut_batches(object, &mut input, options, |batch| {
        documents += batch.len() as u64;
        bytes += batch.bytes.len() as u64;
        // Not to its end, which may be far: a little can hold very much.
        is_more = object.expected.is_exceeded_by(documents, bytes);
        if let Some(crc64) = &mut crc64 {
            crc64.update(batch.bytes());
        }
        !is_more && sink.blocking_send(Ok(Some(batch))).is_ok()
    });
    if let Some(error) = object.storage_error(&shared) {
        return Err(error);
    }
    if is_more {
        return Err(object.corrupt("it holds more than was written"));
    }
    if !ended? {
        return Ok(());
    }
    // Whatever follows the last frame belongs to the object's checksum too.
    drop(input);
    io::copy(&mut shared.clone(), &mut io::sink()).map_err(|e| object.corrupt(e))?;
    let source = shared.0.borrow();
    let outcome = Outcome {
        stored: source.size,
        documents,
        bytes,
        blake3: source.hasher.finalize().to_hex().to_string(),
        authenticated,
        crc64: crc64.map_or(0, |crc64| crc64.finalize()),
    };
    match object.expected.contradicted_by(&outcome) {
        Some(why) => Err(object.corrupt(why)),
        None => Ok(()),
    }
}

/// Cuts `input` into batches until its end (`true`), or until `send` has no receiver any more (`false`).
fn cut_batches(
    object: &Object,
    input: &mut impl Read,
    options: ReadOptions,
    mut send: impl FnMut(Batch) -> bool,
) -> Result<bool> {
    let unreadable = |e: io::Error| object.corrupt(e);
    let mut bytes: Vec<u8> = Vec::with_capacity(options.batch_bytes);
    // Documents of `bytes` that are whole so far.
    let mut ends: Vec<usize> = Vec::new();
    let mut position = 0u64;
    loop {
        // Fill up, then cut what is whole.
        let filled = bytes.len();
        let mut want = options.batch_bytes.max(filled + 4);
        let whole = ends.last().copied().unwrap_or(0);
        if let Some(head) = bytes.get(whole..whole + 4)
            && let Ok(length) = frame_length(head)
        {
            want = want.max(whole + length);
        }
        bytes.resize(want, 0);
        let got = read_full(input, &mut bytes[filled..]).map_err(unreadable)?;
        bytes.truncate(filled + got);
        let mut at = whole;
        while at + 4 <= bytes.len() && ends.len() < options.batch_documents {
            let length = frame_length(&bytes[at..])
                .map_err(|e| object.corrupt(format!("document at {}: {e}", position + at as u64)))?;
            let Some(document) = bytes.get(at..at + length) else { break };
            let sound = if options.check_structure {
                bson::check(document)
            } else if document[length - 1] != 0 {
                Err(bson::Malformed { why: "no closing zero", offset: length - 1 })
            } else {
                Ok(())
            };
            sound.map_err(|e| object.corrupt(format!("document at {}: {e}", position + at as u64)))?;
            at += length;
            ends.push(at);
        }
        if ends.is_empty() {
            if got == 0 {
                return if bytes.is_empty() { Ok(true) } else { Err(object.corrupt("it ends within a document")) };
            }
            continue;
        }
        position += at as u64;
        let mut rest = Vec::with_capacity(options.batch_bytes);
        rest.extend_from_slice(&bytes[at..]);
        bytes.truncate(at);
        if !send(Batch { bytes: std::mem::replace(&mut bytes, rest), ends: std::mem::take(&mut ends) }) {
            return Ok(false);
        }
    }
}

/// Reads a small object as a whole, compares it with what was written and decodes it: metadata, at most a few MiB.
pub async fn read_small(storage: &dyn Storage, key: &Key, entry: &ObjectEntry, keys: &Keys) -> Result<Vec<u8>> {
    let object = Object { key: key.clone(), place: storage.place(), expected: Expected::Written(entry.clone()) };
    let bytes = read_whole(storage, key, 64 << 20).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::Corrupt, format!("{key} is missing in {}", escape(&object.place))),
        _ => e,
    })?;
    if bytes.len() as u64 != entry.size {
        return Err(object.corrupt(format!("{} bytes are stored, {} were written", bytes.len(), entry.size)));
    }
    if blake3::hash(&bytes).to_hex().as_str() != entry.blake3 {
        return Err(object.corrupt("its checksum does not match"));
    }
    if !is_encrypted(key.file_name()) {
        return Ok(bytes);
    }
    if keys.is_empty() {
        return Err(object.locked());
    }
    let mut plain = Vec::new();
    let decoder = Decoder::of(key.file_name(), &bytes[..], keys).map_err(|e| object.corrupt(e))?;
    decoder.take(entry.uncompressed.saturating_add(1)).read_to_end(&mut plain).map_err(|e| object.corrupt(e))?;
    if plain.len() as u64 != entry.uncompressed {
        return Err(object.corrupt("it holds more or less than was written"));
    }
    Ok(plain)
}

/// Reads an object of at most `limit` bytes as a whole.
pub async fn read_whole(storage: &dyn Storage, key: &Key, limit: usize) -> Result<Vec<u8>> {
    let mut stream = storage.get(key, None).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| e.context(format!("reading {key}")))?;
        if bytes.len() + chunk.len() > limit {
            return Err(Error::new(ErrorKind::Corrupt, format!("{key} is larger than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
