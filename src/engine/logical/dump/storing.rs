//! What was read and is on its way to the storage.
//!
//! Over a line whoever read it goes on with the next piece meanwhile: the answers may take longer than reading a small
//! collection does. A disk is waited for, since more at once would not make it faster.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// What all that is on its way may hold in memory, in KiB, besides the parts that have a place of the storage.
const ROOM: u32 = 32 << 10;
/// What the smallest thing takes of it, in KiB. Each has a request under way, and that of its definition: more than 64 of both
/// at once would be more connections than a storage, and this process, stand.
const LEAST: u32 = 1 << 10;

/// Ends everything else when one of it fails. Clones are the same.
#[derive(Clone)]
pub(super) struct Storing {
    room: Arc<Semaphore>,
    running: TaskTracker,
    /// All tasks of the attempt.
    tasks: TaskTracker,
    failure: Arc<Mutex<Option<Error>>>,
    stop: CancellationToken,
    /// KiB that an object of any size holds at most; `None`: nothing is read meanwhile.
    most: Option<u32>,
}

impl Storing {
    pub(super) fn new(storage: &dyn Storage, stop: CancellationToken, tasks: TaskTracker) -> Self {
        let most = storage.in_flight().map(|places| {
            // Where parts have no place of the storage, one is on its way and the next one fills up.
            let parts = if places.uploads.is_some() { 1 } else { 2 };
            u32::try_from((storage.part_size() * parts) >> 10).unwrap_or(u32::MAX).clamp(LEAST, ROOM)
        });
        let room = Arc::new(Semaphore::new(ROOM as usize));
        Self { room, running: TaskTracker::new(), tasks, failure: Arc::default(), stop, most }
    }

    /// Does `work`, which stores at most so many bytes; over a line it goes on by itself as soon as there is room for it, and ends
    /// when the attempt does.
    ///
    /// Errors: `Cancelled`; where it is waited for, its own.
    pub(super) async fn go_on(&self, bytes: u64, work: BoxFuture<'static, Result<()>>) -> Result<()> {
        let Some(most) = self.most else { return work.await };
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        // What is likely to become a part is gathered in the memory of one.
        let needed = if kib > most / 4 { most } else { LEAST.min(most) };
        let room = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Error::cancelled()),
            // Nobody closes it.
            room = Arc::clone(&self.room).acquire_many_owned(needed) => room.ok(),
        };
        let own = self.clone();
        let work = async move {
            let outcome = work.await;
            drop(room);
            if let Err(error) = outcome {
                own.failed(error);
            }
        };
        self.running.spawn(self.tasks.track_future(work));
        Ok(())
    }

    fn failed(&self, error: Error) {
        if error.kind() != ErrorKind::Cancelled {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
        self.stop.cancel();
    }

    /// Waits until all of it is stored. More may follow.
    ///
    /// Errors: the first failure, or `Cancelled`.
    pub(super) async fn all(&self) -> Result<()> {
        self.running.close();
        self.running.wait().await;
        self.running.reopen();
        self.outcome()?;
        if self.stop.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// The first failure, once.
    pub(super) fn outcome(&self) -> Result<()> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}
