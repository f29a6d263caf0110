//! How much is on its way to a storage at once.
//!
//! Over a long line a part waits for its answer longer than it takes to send, so that several must be under way to fill the
//! line; over a slow one each further part only takes memory, and is lost when the line breaks. So the number follows what the
//! line does (`pace`), between two and what a person allows. All writers of a job share it, and all its readers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

mod buffers;
mod pace;

use buffers::Buffers;
use pace::Pace;

/// Parts on their way at once at most, unless a person says otherwise.
pub const MOST_PARTS: usize = 16;

/// What may be on its way at once, of one opened storage.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// Parts of uploads. `None`: the parts of an object follow each other, so that more of them at once gain nothing.
    pub uploads: Option<Slots>,
    /// Ranges that are fetched before they are asked for.
    pub downloads: Slots,
}

impl InFlight {
    /// Parts of one object may be on their way at once.
    pub fn of_parts() -> Self {
        Self { uploads: Some(Slots::new(MOST_PARTS)), downloads: Slots::new(MOST_PARTS) }
    }

    /// The parts of one object follow each other.
    pub fn one_after_another() -> Self {
        Self { uploads: None, downloads: Slots::new(MOST_PARTS) }
    }

    /// From now on at most so many at once in each direction.
    pub fn allow(&self, most: usize) {
        self.downloads.allow(most);
        if let Some(uploads) = &self.uploads {
            uploads.allow(most);
        }
    }
}

/// Places for parts on their way, whose number follows what the line does. Clones are the same places.
#[derive(Debug, Clone)]
pub struct Slots(Arc<State>);

#[derive(Debug)]
struct State {
    permits: Arc<Semaphore>,
    inner: Mutex<Inner>,
    buffers: Buffers,
}

#[derive(Debug)]
struct Inner {
    pace: Pace,
    /// Permits that there are, free or taken: as many as the pace says, and more while some of them are still taken.
    there: usize,
    taken: usize,
    most_taken: usize,
}

/// The place of one part. Given back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    permit: Option<OwnedSemaphorePermit>,
    since: Instant,
}

impl Slots {
    pub fn new(most: usize) -> Self {
        let pace = Pace::new(most);
        let there = pace.limit();
        let inner = Inner { pace, there, taken: 0, most_taken: 0 };
        let permits = Arc::new(Semaphore::new(there));
        Self(Arc::new(State { permits, inner: Mutex::new(inner), buffers: Buffers::default() }))
    }

    /// Waits for a place; whoever came first is first.
    pub async fn slot(&self) -> Slot {
        if let Some(slot) = self.try_slot() {
            return slot;
        }
        self.wanted();
        let permits = Arc::clone(&self.0.permits);
        // Nobody closes it.
        let permit = permits.acquire_owned().await.ok();
        self.took(permit)
    }

    /// A place, where one is free.
    pub fn try_slot(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.0.permits).try_acquire_owned().ok()?;
        Some(self.took(Some(permit)))
    }

    /// Somebody waits for the line, and might not with more places.
    pub fn wanted(&self) {
        self.inner().pace.wanted();
    }

    /// How many places there are now.
    pub fn limit(&self) -> usize {
        self.inner().pace.limit()
    }

    /// How many were taken at once at most.
    pub fn most_taken(&self) -> usize {
        self.inner().most_taken
    }

    /// An empty buffer with room for `bytes`, to gather a part in.
    pub fn buffer(&self, bytes: usize) -> BytesMut {
        self.0.buffers.take(bytes)
    }

    fn allow(&self, most: usize) {
        let mut inner = self.inner();
        inner.pace.allow(most);
        self.fit(&mut inner);
    }

    fn took(&self, permit: Option<OwnedSemaphorePermit>) -> Slot {
        let mut inner = self.inner();
        inner.taken += 1;
        inner.most_taken = inner.most_taken.max(inner.taken);
        Slot { slots: self.clone(), permit, since: Instant::now() }
    }

    /// Makes as many permits as the pace says, as far as they are not taken.
    fn fit(&self, inner: &mut Inner) {
        let limit = inner.pace.limit();
        if limit > inner.there {
            self.0.permits.add_permits(limit - inner.there);
            inner.there = limit;
        } else if limit < inner.there {
            inner.there -= self.0.permits.forget_permits(inner.there - limit);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// So many bytes have arrived. The place is still taken.
    pub fn arrived(&self, bytes: usize) {
        let mut inner = self.slots.inner();
        inner.pace.arrived(bytes, self.since.elapsed());
        self.slots.fit(&mut inner);
    }

    /// All of `part` has arrived. Its memory is kept for the next one, where it is a [`Slots::buffer`] of `bytes`.
    pub fn part_arrived(self, part: Bytes, bytes: usize) {
        self.arrived(part.len());
        let most = self.slots.limit();
        self.slots.0.buffers.give_back(part, bytes, most);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut inner = self.slots.inner();
        inner.taken -= 1;
        let Some(permit) = self.permit.take() else { return };
        if inner.there > inner.pace.limit() {
            permit.forget();
            inner.there -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_given_back_and_shrink_as_they_are() {
        let slots = Slots::new(16);
        let start = slots.limit();
        let taken: Vec<Slot> = (0..start).map(|_| slots.try_slot().unwrap()).collect();
        assert!(slots.try_slot().is_none());
        slots.allow(2);
        assert_eq!(slots.limit(), 2);
        drop(taken);
        let again = [slots.slot().await, slots.slot().await];
        assert!(slots.try_slot().is_none(), "two are there, and no more");
        slots.allow(3);
        assert_eq!(slots.limit(), 2, "allowed is not needed");
        drop(again);
        assert_eq!(slots.most_taken(), start);
        assert_eq!(slots.inner().taken, 0);
    }
}
