//! Storing blocks: each is hashed, and sent if the folder does not have it.
//!
//! Reading must be able to run ahead of a slow storage, because a server may be waiting for it; how far is bounded in
//! bytes. What was handed over is stored when [`Sender::finish`] returns.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use blake3::Hash;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::naming::Naming;
use super::{BlockEntry, Stored};
use crate::artifact::codec::Codec;
use crate::artifact::layout::BlocksRoot;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{PutMode, Storage};

/// Objects on their way at once, where the storage does not say how many.
const PUTS_AT_ONCE: usize = 16;
/// Compressed bytes that wait for the storage, at most.
const WAITING_BYTES: usize = 48 << 20;
/// The same while a server waits for the reading to end (see [`Sender::may_run_ahead`]).
const AHEAD_BYTES: usize = 256 << 20;

/// Sends blocks to one folder of a storage.
pub struct Sender {
    storage: Arc<dyn Storage>,
    root: BlocksRoot,
    codec: Codec,
    naming: Naming,
    /// What the folder has, with what was sent by now.
    known: Mutex<HashMap<Hash, Known>>,
    puts: Arc<Semaphore>,
    /// In KiB, since a semaphore counts in `u32`.
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    failed: Arc<Mutex<Option<Error>>>,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
}

#[derive(Clone, Copy)]
struct Known {
    stored: Stored,
    /// By this sender.
    is_new: bool,
}

/// How many blocks a sender sent, and their bytes as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub blocks: u64,
    pub bytes: u64,
}

impl Sender {
    /// `known`: what the folder has (see [`super::list`]). `stop` ends what is on its way.
    pub fn new(
        storage: Arc<dyn Storage>,
        root: BlocksRoot,
        codec: Codec,
        naming: Naming,
        known: HashMap<Hash, Stored>,
        stop: CancellationToken,
    ) -> Self {
        let known = known.into_iter().map(|(hash, stored)| (hash, Known { stored, is_new: false })).collect();
        Self {
            storage,
            root,
            codec,
            naming,
            known: Mutex::new(known),
            puts: Arc::new(Semaphore::new(PUTS_AT_ONCE)),
            room: Arc::new(Semaphore::new(WAITING_BYTES / 1024)),
            tasks: TaskTracker::new(),
            stop,
            failed: Arc::new(Mutex::new(None)),
            sent: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// Stores `plain` unless it is there. Returns when it was handed over, which waits only while too much is under way.
    /// Blocks the thread for as long as compressing takes: for a thread that may block.
    ///
    /// Errors: an earlier block could not be stored; cancelled.
    pub fn send(&self, runtime: &tokio::runtime::Handle, plain: &[u8]) -> Result<Hash> {
        let hash = self.naming.hash(plain);
        if self.known().contains_key(&hash) {
            return Ok(hash);
        }
        let stored: Bytes = self.codec.encode(plain)?.into();
        let size = stored.len() as u64;
        let state = Stored { size, suffix: self.codec.suffix() };
        match self.known().entry(hash) {
            // Another thread had the same contents.
            Entry::Occupied(_) => return Ok(hash),
            Entry::Vacant(vacant) => drop(vacant.insert(Known { stored: state, is_new: true })),
        }
        let key = self.root.block(&state.entry(&hash).name)?;
        let kibibytes = u32::try_from(stored.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let room = runtime.block_on(self.wait_for_room(kibibytes))?;
        self.sent.fetch_add(1, Relaxed);
        self.sent_bytes.fetch_add(size, Relaxed);
        let (storage, puts, stop, failed) =
            (Arc::clone(&self.storage), Arc::clone(&self.puts), self.stop.clone(), Arc::clone(&self.failed));
        let put = async move {
            let _room = room;
            let work = async {
                let (_one, slot) = match storage.in_flight().and_then(|in_flight| in_flight.uploads.as_ref()) {
                    Some(slots) => (None, Some(slots.slot().await)),
                    None => (Some(puts.acquire().await), None),
                };
                // Two writers of one block write the same.
                storage.put(&key, stored, PutMode::Overwrite).await?;
                if let Some(slot) = slot {
                    slot.arrived(size as usize);
                }
                Ok(())
            };
            let outcome = stop.run_until_cancelled(work).await.unwrap_or_else(|| Err(Error::cancelled()));
            if let Err(error) = outcome {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                stop.cancel();
            }
        };
        self.tasks.spawn_on(put, runtime);
        Ok(hash)
    }

    /// From now on more may wait for the storage, so that whoever reads is done earlier.
    pub fn may_run_ahead(&self) {
        self.room.add_permits((AHEAD_BYTES - WAITING_BYTES) / 1024);
    }

    async fn wait_for_room(&self, kibibytes: u32) -> Result<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.room).acquire_many_owned(kibibytes);
        match self.stop.run_until_cancelled(room).await {
            Some(Ok(room)) => Ok(room),
            Some(Err(_)) | None => Err(self.failure()),
        }
    }

    /// Why this ended: what failed first.
    pub fn failure(&self) -> Error {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(Error::cancelled)
    }

    /// Waits until everything that was handed over is stored.
    pub async fn finish(&self) -> Result<Sent> {
        self.tasks.close();
        self.tasks.wait().await;
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(Sent { blocks: self.sent.load(Relaxed), bytes: self.sent_bytes.load(Relaxed) }),
        }
    }

    /// The entry of a block that was sent or was there.
    pub fn entry(&self, hash: &Hash) -> Result<BlockEntry> {
        let known = self.known();
        let found = known.get(hash).map(|known| known.stored.entry(hash));
        found.ok_or_else(|| Error::new(ErrorKind::Internal, "a block that nobody sent is to be named"))
    }

    /// Of `hash`: whether this sender sent it.
    pub fn is_new(&self, hash: &Hash) -> bool {
        self.known().get(hash).is_some_and(|known| known.is_new)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Hash, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
