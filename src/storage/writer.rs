//! Writing an object of unknown size with bounded memory, and reading a small one whole.

use std::sync::Arc;

use blake3::Hasher;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::in_flight::Slots;
use super::{Key, PutMode, Storage, Upload};
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};

/// Parts being stored at once by one writer, unless told otherwise, where the writers do not share places.
pub const IN_FLIGHT: usize = 2;

/// The upload, once it is begun. Closed without one: that failed, and the task that began it says why.
type Begun = watch::Receiver<Option<Arc<dyn Upload>>>;

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the bytes, in hex.
    pub blake3: String,
}

/// Cuts what it is given into parts, stores several of them at once, and computes size and checksum on the way.
/// An object of one part or less is a single `put`.
///
/// Memory: at most `(in_flight + 1) * part_size` bytes, the one being the part that fills up. Where all writers share the
/// places of the storage (see [`Storage::in_flight`]), all of them together have that of the places, and each one part that
/// fills up. When that is reached, [`ObjectWriter::write`] waits.
///
/// After an error only [`ObjectWriter::abort`] makes sense; `finish` aborts by itself when it fails. A writer that is
/// dropped leaves what `sweep` removes.
pub struct ObjectWriter {
    storage: Arc<dyn Storage>,
    key: Key,
    in_flight: usize,
    slots: Option<Slots>,
    part_size: usize,
    /// Less than a part between two calls.
    buffer: BytesMut,
    /// Begun by the first part that is on its way, so that what comes after it is not held up.
    upload: Option<Begun>,
    tasks: JoinSet<Result<()>>,
    /// Parts handed to the upload.
    parts: u32,
    hasher: Hasher,
    size: u64,
}

impl ObjectWriter {
    /// Nothing is stored before a part is full.
    pub fn new(storage: Arc<dyn Storage>, key: Key) -> Self {
        let part_size = storage.part_size().max(1);
        let slots = storage.in_flight().and_then(|in_flight| in_flight.uploads.clone());
        Self {
            storage,
            key,
            in_flight: if slots.is_some() { usize::MAX } else { IN_FLIGHT },
            slots,
            part_size,
            buffer: BytesMut::new(),
            upload: None,
            tasks: JoinSet::new(),
            parts: 0,
            hasher: Hasher::new(),
            size: 0,
        }
    }

    /// How many parts of this object may be on their way at once; at least one.
    #[must_use]
    pub fn in_flight(mut self, parts: usize) -> Self {
        self.in_flight = parts.max(1);
        self
    }

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes `data`, of any size. Fails when an earlier part could not be stored.
    pub async fn write(&mut self, mut data: Bytes) -> Result<()> {
        while !data.is_empty() {
            // A full buffer is sent only when more follows, so that an object of exactly one part stays a `put`.
            if self.buffer.len() == self.part_size {
                let part = std::mem::take(&mut self.buffer).freeze();
                self.send(part).await?;
            }
            if self.buffer.is_empty() && data.len() > self.part_size {
                let part = data.split_to(self.part_size);
                self.count(&part);
                self.send(part).await?;
                continue;
            }
            let piece = data.split_to(data.len().min(self.part_size - self.buffer.len()));
            self.count(&piece);
            self.reserve(piece.len());
            self.buffer.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// Stores what is left and makes the object visible.
    pub async fn finish(mut self) -> Result<Written> {
        match self.complete().await {
            Ok(()) => Ok(Written { size: self.size, blake3: self.hasher.finalize().to_hex().to_string() }),
            Err(e) => {
                // The first error is the one that explains; what cannot be removed now is left to `sweep`.
                if let Err(left) = self.abort().await {
                    tracing::warn!(error = %left, "an unfinished upload could not be removed");
                }
                Err(e)
            }
        }
    }

    /// Stops, and removes what was stored.
    pub async fn abort(mut self) -> Result<()> {
        // One that is being begun would be left for good, were it given up now.
        let upload = match &mut self.upload {
            Some(begun) => of(begun).await,
            None => None,
        };
        // A part that arrives after the upload is gone would be left, too.
        self.tasks.shutdown().await;
        match upload {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> Result<()> {
        let last = std::mem::take(&mut self.buffer).freeze();
        if self.parts == 0 {
            return self.storage.put(&self.key, last, PutMode::Overwrite).await;
        }
        if !last.is_empty() {
            self.send(last).await?;
        }
        while !self.tasks.is_empty() {
            self.wait().await?;
        }
        let upload = match &mut self.upload {
            Some(begun) => of(begun).await,
            None => None,
        };
        match upload {
            Some(upload) => upload.finish(self.parts).await,
            None => Err(Error::new(ErrorKind::Internal, "parts without an upload")),
        }
    }

    fn count(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.size += data.len() as u64;
    }

    /// Grows the buffer by doubling up to exactly one part: a small object costs little, a large one no slack. What is likely to
    /// become a part gets the buffer of one that has arrived.
    fn reserve(&mut self, more: usize) {
        let needed = self.buffer.len() + more;
        if needed <= self.buffer.capacity() {
            return;
        }
        let goal = (self.buffer.capacity() * 2).max(needed).min(self.part_size);
        match &self.slots {
            Some(slots) if self.parts > 0 || goal > self.part_size / 4 => {
                let mut whole = slots.buffer(self.part_size);
                whole.extend_from_slice(&self.buffer);
                self.buffer = whole;
            }
            _ => self.buffer.reserve(goal - self.buffer.len()),
        }
    }

    async fn send(&mut self, part: Bytes) -> Result<()> {
        while self.tasks.len() >= self.in_flight {
            self.wait().await?;
        }
        let slot = match &self.slots {
            Some(slots) => Some(slots.slot().await),
            None => None,
        };
        let mut begun = match &self.upload {
            Some(begun) => begun.clone(),
            None => self.begin(),
        };
        let (number, part_size) = (self.parts, self.part_size);
        self.parts += 1;
        self.tasks.spawn(async move {
            let Some(upload) = of(&mut begun).await else { return Ok(()) };
            upload.part(number, part.clone()).await?;
            if let Some(slot) = slot {
                slot.part_arrived(part, part_size);
            }
            Ok(())
        });
        // What failed is told with the next part, not with the last.
        while let Some(done) = self.tasks.try_join_next() {
            joined(done)?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Begun {
        let (sender, begun) = watch::channel(None);
        let (storage, key) = (Arc::clone(&self.storage), self.key.clone());
        self.tasks.spawn(async move {
            let upload = storage.upload(&key).await?;
            sender.send_replace(Some(Arc::from(upload)));
            Ok(())
        });
        self.upload.insert(begun).clone()
    }

    async fn wait(&mut self) -> Result<()> {
        self.tasks.join_next().await.map_or(Ok(()), joined)
    }
}

fn joined(done: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    done.unwrap_or_else(|e| Err(Error::new(ErrorKind::Internal, "storing a part ended early").source(e)))
}

/// The upload, as soon as there is one; `None`: it could not be begun.
async fn of(begun: &mut Begun) -> Option<Arc<dyn Upload>> {
    begun.wait_for(Option::is_some).await.ok().and_then(|upload| upload.clone())
}

/// Reads a small object whole. More than `limit` bytes is `Corrupt`: what is read this way never grows that large.
pub async fn read_all(storage: &dyn Storage, key: &Key, limit: usize) -> Result<Bytes> {
    let mut stream = storage.get(key, None).await?;
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if body.len() + chunk.len() > limit {
            let limit = text::bytes(limit as u64);
            let what = format!("{}/{key} is larger than the {limit} it can have", storage.place());
            return Err(Error::new(ErrorKind::Corrupt, what));
        }
        if body.is_empty() && body.capacity() == 0 {
            body = BytesMut::from(chunk);
        } else {
            body.extend_from_slice(&chunk);
        }
    }
    Ok(body.freeze())
}
