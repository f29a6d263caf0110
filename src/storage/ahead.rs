//! Reading a large object in ranges, several of which are fetched before they are asked for: a line on which each answer
//! takes long is full all the same.
//!
//! The range that is read next needs no place of its own and passes as it comes, as without this: whoever reads several objects
//! in turn never waits for a place that one of them holds. What is fetched ahead takes a place, and its memory, until it is
//! passed on.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::in_flight::{Slot, Slots};
use super::{Key, Storage};
use crate::error::{Error, ErrorKind, Result};

/// Streams an object, or the bytes `range` of it, as [`Storage::get`] does, with ranges fetched ahead where that helps.
/// `size` is what the object is expected to have; what it has is read.
pub async fn read_ahead(
    storage: Arc<dyn Storage>,
    key: &Key,
    range: Option<Range<u64>>,
    size: u64,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let piece = storage.part_size() as u64;
    let slots = storage.in_flight().map(|in_flight| in_flight.downloads.clone());
    let expected = range.as_ref().map_or(size, |range| range.end.saturating_sub(range.start));
    let Some(slots) = slots.filter(|_| expected >= 2 * piece) else { return storage.get(key, range).await };
    let at = range.as_ref().map_or(0, |range| range.start);
    let first = storage.get(key, Some(at..at + piece));
    let (first, end) = match range {
        Some(range) => (first.await, range.end),
        // Its size as it is now; the answer to both comes at the same time.
        None => match tokio::join!(first, storage.stat(key)) {
            (first, Ok(Some(object))) => (first, object.size),
            (_, Ok(None)) => return storage.get(key, None).await,
            (_, Err(e)) => return Err(e),
        },
    };
    let first = match first {
        Ok(first) => first,
        // It is far shorter than expected: whoever reads it says so.
        Err(e) if e.kind() == ErrorKind::Corrupt && at == 0 => return storage.get(key, None).await,
        Err(e) => return Err(e),
    };
    let ahead = Ahead {
        storage,
        key: key.clone(),
        slots,
        piece,
        next: at + piece,
        end,
        current: Some(Current::Passing(first)),
        fetching: VecDeque::new(),
    };
    let chunks = stream::try_unfold(ahead, |mut ahead| async move {
        let chunk = ahead.chunk().await?;
        Ok(chunk.map(|chunk| (chunk, ahead)))
    });
    Ok(chunks.boxed())
}

struct Ahead {
    storage: Arc<dyn Storage>,
    key: Key,
    slots: Slots,
    /// Bytes of a range.
    piece: u64,
    /// Where the first range begins that nobody fetches yet.
    next: u64,
    end: u64,
    current: Option<Current>,
    /// In order.
    fetching: VecDeque<AbortOnDropHandle<Result<Fetched>>>,
}

/// The range that is passed on.
enum Current {
    Passing(BoxStream<'static, Result<Bytes>>),
    Fetched(Fetched),
}

struct Fetched {
    chunks: VecDeque<Bytes>,
    _slot: Slot,
}

impl Ahead {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            self.fetch();
            let chunk = match &mut self.current {
                Some(Current::Passing(stream)) => stream.next().await.transpose()?,
                Some(Current::Fetched(fetched)) => fetched.chunks.pop_front(),
                None => None,
            };
            if chunk.is_some() {
                return Ok(chunk);
            }
            // Its place is given back before another one is looked for.
            self.current = None;
            match self.fetching.pop_front() {
                Some(fetching) => {
                    if !fetching.is_finished() {
                        self.slots.wanted();
                    }
                    let fetched = fetching.await.map_err(|e| {
                        Error::new(ErrorKind::Internal, "fetching a range stopped unexpectedly").source(e)
                    });
                    self.current = Some(Current::Fetched(fetched??));
                }
                None if self.next < self.end => {
                    self.slots.wanted();
                    let range = self.take();
                    self.current = Some(Current::Passing(self.storage.get(&self.key, Some(range)).await?));
                }
                None => return Ok(None),
            }
        }
    }

    /// Begins to fetch as much as there are places for.
    fn fetch(&mut self) {
        while self.next < self.end
            && let Some(slot) = self.slots.try_slot()
        {
            let range = self.take();
            let (storage, key) = (Arc::clone(&self.storage), self.key.clone());
            let fetch = async move {
                let length = (range.end - range.start) as usize;
                let chunks: VecDeque<Bytes> = storage.get(&key, Some(range)).await?.try_collect().await?;
                slot.arrived(length);
                Ok(Fetched { chunks, _slot: slot })
            };
            self.fetching.push_back(AbortOnDropHandle::new(tokio::spawn(fetch)));
        }
    }

    fn take(&mut self) -> Range<u64> {
        let from = self.next;
        self.next = self.end.min(from + self.piece);
        from..self.next
    }
}
