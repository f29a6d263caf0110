//! A storage that repeats what may succeed later.
//!
//! For jobs, not for a person who waits: those want the first error. What is repeated is decided by
//! [`ErrorKind::is_retryable`], except a full disk: the seconds spent here do not empty it, the retry of the job may.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio_util::sync::CancellationToken;

use super::{Freeing, InFlight, Key, Level, ObjectInfo, OldVersions, PutMode, Storage, Unfinished, Upload, read_all};
use crate::error::{ErrorKind, Result};

mod repeat;
mod streams;

pub use repeat::{Backoff, OnWait};
use repeat::{OnCancel, Repeat, Tries};
use streams::{Listing, Reading};

/// Repeats calls of `inner`, and goes on with a broken stream where it broke.
///
/// When `cancel` fires during a call, the call is given up and fails with `Cancelled`, except calls that clean up
/// (`delete`, `sweep`, `abort`). After that, calls still work, once each: a cancelled job has to remove what it left.
/// They have [`Backoff::after_cancel`] for it, so that a storage that does not answer keeps no cancelled job from ending.
#[derive(Clone)]
pub struct Retrying {
    inner: Arc<dyn Storage>,
    repeat: Repeat,
}

impl Retrying {
    pub fn new(inner: Arc<dyn Storage>, backoff: Backoff, cancel: CancellationToken) -> Self {
        let place = inner.place().into();
        Self { inner, repeat: Repeat { backoff, cancel, place, on_wait: Arc::new(|_| {}) } }
    }

    /// Calls `on_wait` as waits begin and end, so that a person sees what a job waits for. It must not block.
    #[must_use]
    pub fn on_wait(mut self, on_wait: OnWait) -> Self {
        self.repeat.on_wait = on_wait;
        self
    }

    /// Whether `key` holds exactly `body`.
    async fn holds(&self, key: &Key, body: &Bytes) -> bool {
        read_all(self, key, body.len()).await.is_ok_and(|found| found == *body)
    }
}

#[async_trait]
impl Storage for Retrying {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }

    fn in_flight(&self) -> Option<&InFlight> {
        self.inner.in_flight()
    }

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()> {
        let calls = AtomicU32::new(0);
        let outcome = self
            .repeat
            .run(OnCancel::GiveUp, || {
                calls.fetch_add(1, Ordering::Relaxed);
                self.inner.put(key, body.clone(), mode)
            })
            .await;
        match outcome {
            // The object that is in the way may be our own: an earlier call created it and its answer was lost.
            Err(e) if e.kind() == ErrorKind::Conflict && mode == PutMode::CreateNew => {
                if calls.into_inner() > 1 && self.holds(key, &body).await { Ok(()) } else { Err(e) }
            }
            other => other,
        }
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let inner = self.repeat.run(OnCancel::GiveUp, || self.inner.upload(key)).await?;
        Ok(Box::new(RetryingUpload { inner, repeat: self.repeat.clone() }))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let stream = self.repeat.run(OnCancel::GiveUp, || self.inner.get(key, range.clone())).await?;
        let (at, end) = range.map_or((0, None), |r| (r.start, Some(r.end)));
        let reading = Reading {
            repeat: self.repeat.clone(),
            storage: Arc::clone(&self.inner),
            key: key.clone(),
            stream: Some(stream),
            at,
            end,
            tries: Tries::default(),
        };
        let chunks = stream::try_unfold(reading, |mut reading| async move {
            let chunk = reading.next().await?;
            Ok(chunk.map(|chunk| (chunk, reading)))
        });
        Ok(chunks.boxed())
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.stat(key)).await
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        let stream = self.repeat.run(OnCancel::GiveUp, || self.inner.list(prefix)).await?;
        let listing = Listing {
            repeat: self.repeat.clone(),
            storage: Arc::clone(&self.inner),
            prefix: prefix.cloned(),
            stream: Some(stream),
            last: None,
            catching_up: false,
            is_ordered: true,
            tries: Tries::default(),
        };
        let objects = stream::try_unfold(listing, |mut listing| async move {
            let object = listing.next().await?;
            Ok(object.map(|object| (object, listing)))
        });
        Ok(objects.boxed())
    }

    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.list_level(prefix)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.repeat.run(OnCancel::Complete, || self.inner.delete(key)).await
    }

    async fn sweep_older(&self, prefix: &Key, age: Duration) -> Result<u64> {
        self.repeat.run(OnCancel::Complete, || self.inner.sweep_older(prefix, age)).await
    }

    async fn unfinished(&self, most: usize) -> Result<Option<Vec<Unfinished>>> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.unfinished(most)).await
    }

    async fn freeing(&self, key: &Key) -> Result<Option<Freeing>> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.freeing(key)).await
    }

    async fn old_versions(&self) -> Result<Option<OldVersions>> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.old_versions()).await
    }

    async fn tells_cases_apart(&self) -> Result<bool> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.tells_cases_apart()).await
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.free_space()).await
    }
}

struct RetryingUpload {
    inner: Box<dyn Upload>,
    repeat: Repeat,
}

#[async_trait]
impl Upload for RetryingUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.part(number, body.clone())).await
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.finish(parts)).await
    }

    async fn abort(&self) -> Result<()> {
        self.repeat.run(OnCancel::Complete, || self.inner.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// A server that holds the connection and says nothing.
    struct Silent;

    #[async_trait]
    impl Storage for Silent {
        fn place(&self) -> String {
            "silent".into()
        }

        fn part_size(&self) -> usize {
            1
        }

        async fn put(&self, _: &Key, _: Bytes, _: PutMode) -> Result<()> {
            std::future::pending().await
        }

        async fn upload(&self, _: &Key) -> Result<Box<dyn Upload>> {
            std::future::pending().await
        }

        async fn get(&self, _: &Key, _: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
            Ok(stream::pending().boxed())
        }

        async fn stat(&self, _: &Key) -> Result<Option<ObjectInfo>> {
            std::future::pending().await
        }

        async fn list(&self, _: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
            Ok(stream::pending().boxed())
        }

        async fn list_level(&self, _: Option<&Key>) -> Result<Level> {
            std::future::pending().await
        }

        async fn delete(&self, _: &Key) -> Result<()> {
            std::future::pending().await
        }

        async fn sweep_older(&self, _: &Key, _: Duration) -> Result<u64> {
            std::future::pending().await
        }

        async fn free_space(&self) -> Result<Option<u64>> {
            std::future::pending().await
        }
    }

    /// How a call ends that began before the cancel, and one that began after it.
    #[tokio::test]
    async fn a_cancelled_job_waits_for_no_answer_for_ever() {
        let key = Key::new("a").unwrap();
        let backoff = Backoff { after_cancel: Duration::from_millis(20), ..Backoff::default() };
        let cancel = CancellationToken::new();
        let storage = Retrying::new(Arc::new(Silent), backoff, cancel.clone());
        let kind = |e: Error| e.kind();
        let cancelled = async { cancel.cancel() };
        let all = async { tokio::join!(storage.stat(&key), storage.delete(&key), storage.sweep(&key), cancelled) };
        let (looked, deleted, swept, ()) = tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        assert_eq!(looked.map_err(kind), Err(ErrorKind::Cancelled));
        assert_eq!(deleted.map_err(kind), Err(ErrorKind::Transient));
        assert_eq!(swept.map_err(kind), Err(ErrorKind::Transient));
        let all = async {
            tokio::join!(
                storage.stat(&key),
                storage.delete(&key),
                async { storage.list(None).await?.next().await.transpose() },
                read_all(&storage, &key, 10),
            )
        };
        let (looked, deleted, listed, read) = tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        assert!(deleted.as_ref().is_err_and(|e| e.to_string().contains("silent did not answer")), "{deleted:?}");
        let kinds = [looked.map(drop).map_err(kind), listed.map(drop).map_err(kind), read.map(drop).map_err(kind)];
        assert_eq!(kinds, [Err(ErrorKind::Transient); 3]);
    }

    /// A part may be on its way for longer than a failure is waited for.
    #[tokio::test]
    async fn what_a_call_took_before_it_broke_is_not_counted() {
        let total = Duration::from_secs(2);
        let backoff = Backoff { first: Duration::from_millis(1), ..Backoff::within(total) };
        let storage = Retrying::new(Arc::new(Silent), backoff, CancellationToken::new());
        let calls = AtomicU32::new(0);
        let call = || async {
            match calls.fetch_add(1, Ordering::Relaxed) {
                0 => tokio::time::sleep(total * 2).await,
                1..4 => {}
                _ => return Ok(()),
            }
            Err(Error::new(ErrorKind::Unreachable, "reset"))
        };
        storage.repeat.run(OnCancel::GiveUp, call).await.unwrap();
    }
}
