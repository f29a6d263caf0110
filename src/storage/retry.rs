//! A storage that repeats what may succeed later.
//!
//! For jobs, not for a person who waits: those want the first error. What is repeated is decided by
//! [`ErrorKind::is_retryable`], except a full disk: the seconds spent here do not empty it, the retry of the job may.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Freeing, InFlight, Key, Level, ObjectInfo, OldVersions, PutMode, Storage, Unfinished, Upload, read_all};
use crate::error::{Error, ErrorKind, Result};

/// How often and how long a call is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Calls in all, the first one included.
    pub attempts: u32,
    /// The first wait; each further one is twice as long.
    pub first: Duration,
    pub longest: Duration,
    /// No attempt begins this much time after the first failure: what a long upload took before is not counted.
    pub total: Duration,
    /// After a cancel nobody can give up a call any more, so that each gets this long for its answer.
    pub after_cancel: Duration,
}

impl Default for Backoff {
    /// Outlasts the restart of a server: about a minute.
    fn default() -> Self {
        Self {
            attempts: 12,
            first: Duration::from_millis(250),
            longest: Duration::from_secs(8),
            total: Duration::from_secs(120),
            after_cancel: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// As often as it takes within `total`.
    pub fn within(total: Duration) -> Self {
        Self { attempts: u32::MAX, total, ..Self::default() }
    }

    /// How long to wait after attempt `attempt` (from 1), or `None` when it was the last. Half of it is random, so
    /// that parts that failed together do not come back together.
    fn wait(&self, attempt: u32, failing_since: Instant) -> Option<Duration> {
        let doubled = self.first.saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX)).min(self.longest);
        let mut random = [0u8; 2];
        // Without randomness the wait is still a wait.
        let _ = aws_lc_rs::rand::fill(&mut random);
        let wait = doubled / 2 + doubled.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX)) / 2;
        (attempt < self.attempts && failing_since.elapsed() + wait <= self.total).then_some(wait)
    }
}

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

/// Hears of the waits between two attempts: why the call failed, and `None` when a call got through again.
pub type OnWait = Arc<dyn Fn(Option<&Error>) + Send + Sync>;

#[derive(Clone)]
struct Repeat {
    backoff: Backoff,
    cancel: CancellationToken,
    place: Arc<str>,
    on_wait: OnWait,
}

/// Whether a cancel gives up a call that is running.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnCancel {
    GiveUp,
    Complete,
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

fn may_pass(error: &Error) -> bool {
    error.is_retryable() && error.kind() != ErrorKind::StorageFull
}

impl Repeat {
    async fn run<T, F>(&self, on_cancel: OnCancel, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut tries = Tries::default();
        loop {
            let error = match self.once(on_cancel, call()).await {
                Err(e) if may_pass(&e) => e,
                other => {
                    self.got_through(&tries);
                    return other;
                }
            };
            self.wait(&mut tries, error).await?;
        }
    }

    async fn once<T>(&self, on_cancel: OnCancel, call: impl Future<Output = Result<T>>) -> Result<T> {
        let cleans_up = on_cancel == OnCancel::Complete || self.cancel.is_cancelled();
        let given_up = async {
            self.cancel.cancelled().await;
            if !cleans_up {
                return Error::cancelled();
            }
            tokio::time::sleep(self.backoff.after_cancel).await;
            let seconds = self.backoff.after_cancel.as_secs();
            Error::new(ErrorKind::Transient, format!("{} did not answer within {seconds} s of the cancel", self.place))
        };
        tokio::select! {
            biased;
            error = given_up => Err(error),
            result = call => result,
        }
    }

    /// An answer came that is no reason to wait.
    fn got_through(&self, tries: &Tries) {
        if tries.failed > 0 {
            (self.on_wait)(None);
        }
    }

    /// Waits before the next attempt, or says that there is none.
    async fn wait(&self, tries: &mut Tries, error: Error) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(error);
        }
        let since = *tries.failing_since.get_or_insert_with(Instant::now);
        tries.failed = tries.failed.saturating_add(1);
        let attempt = tries.failed;
        let Some(wait) = self.backoff.wait(attempt, since) else {
            return Err(if attempt > 1 { error.context(format!("tried {attempt} times")) } else { error });
        };
        tracing::warn!(attempt, %error, "a storage call failed and is repeated");
        (self.on_wait)(Some(&error));
        let waited = self.cancel.run_until_cancelled(tokio::time::sleep(wait)).await;
        waited.ok_or_else(Error::cancelled)
    }
}

/// The failures of one call.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    failed: u32,
    failing_since: Option<Instant>,
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
        let reading =
            Reading { storage: self.clone(), key: key.clone(), stream: Some(stream), at, end, tries: Tries::default() };
        Ok(stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(reading))),
                Ok(None) => None,
                Err(e) => Some((Err(e), None)),
            }
        })
        .boxed())
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.repeat.run(OnCancel::GiveUp, || self.inner.stat(key)).await
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        let stream = self.repeat.run(OnCancel::GiveUp, || self.inner.list(prefix)).await?;
        let listing = Listing {
            storage: self.clone(),
            prefix: prefix.cloned(),
            stream: Some(stream),
            last: None,
            catching_up: false,
            is_ordered: true,
            tries: Tries::default(),
        };
        Ok(stream::unfold(Some(listing), |listing| async move {
            let mut listing = listing?;
            match listing.next().await {
                Ok(Some(object)) => Some((Ok(object), Some(listing))),
                Ok(None) => None,
                Err(e) => Some((Err(e), None)),
            }
        })
        .boxed())
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

/// An object being read, across several streams if need be. Each chunk that arrives gives all attempts back.
struct Reading {
    storage: Retrying,
    key: Key,
    /// None: to be opened again at `at`.
    stream: Option<BoxStream<'static, Result<Bytes>>>,
    at: u64,
    /// None: the end of the object, whatever its size.
    end: Option<u64>,
    tries: Tries,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let repeat = self.storage.repeat.clone();
            match repeat.once(OnCancel::GiveUp, self.try_next()).await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    repeat.got_through(&std::mem::take(&mut self.tries));
                    return Ok(Some(chunk));
                }
                Err(e) if may_pass(&e) => {
                    self.stream = None;
                    repeat.wait(&mut self.tries, e).await?;
                }
                other => return other,
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>> {
        let inner = &self.storage.inner;
        if self.stream.is_none() {
            let end = match self.end {
                Some(end) => end,
                None => match inner.stat(&self.key).await? {
                    Some(object) => object.size,
                    None => return Err(Error::not_found("object", format!("{}/{}", inner.place(), self.key))),
                },
            };
            self.end = Some(end);
            // The last byte arrived, and then the connection broke.
            if self.at >= end {
                return Ok(None);
            }
            self.stream = Some(inner.get(&self.key, Some(self.at..end)).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.next().await.transpose(),
            None => Ok(None),
        }
    }
}

/// A listing, begun again after a break: what was already seen is skipped, which the key order makes possible. A server
/// that keeps another order (s3rver 3.7.1) loses nothing by that; after a break, its listing cannot be gone on with.
struct Listing {
    storage: Retrying,
    prefix: Option<Key>,
    stream: Option<BoxStream<'static, Result<ObjectInfo>>>,
    /// The greatest key so far.
    last: Option<Key>,
    catching_up: bool,
    is_ordered: bool,
    tries: Tries,
}

impl Listing {
    async fn next(&mut self) -> Result<Option<ObjectInfo>> {
        loop {
            let repeat = self.storage.repeat.clone();
            match repeat.once(OnCancel::GiveUp, self.try_next()).await {
                Ok(Some(object)) if self.catching_up && self.last.as_ref().is_some_and(|l| object.key <= *l) => {}
                Ok(Some(object)) => {
                    self.catching_up = false;
                    if self.last.as_ref().is_some_and(|last| object.key <= *last) {
                        self.is_ordered = false;
                    } else {
                        self.last = Some(object.key.clone());
                    }
                    repeat.got_through(&std::mem::take(&mut self.tries));
                    return Ok(Some(object));
                }
                Err(e) if may_pass(&e) && self.is_ordered => {
                    self.stream = None;
                    self.catching_up = true;
                    repeat.wait(&mut self.tries, e).await?;
                }
                other => return other,
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<ObjectInfo>> {
        if self.stream.is_none() {
            self.stream = Some(self.storage.inner.list(self.prefix.as_ref()).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.next().await.transpose(),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let total = Duration::from_millis(300);
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

    #[test]
    fn waits_grow_to_a_bound_and_end() {
        let backoff = Backoff::default();
        let now = Instant::now();
        for (attempt, longest) in [(1, 250), (2, 500), (3, 1_000), (6, 8_000), (11, 8_000)] {
            let wait = backoff.wait(attempt, now).unwrap().as_millis();
            assert!((longest / 2..=longest).contains(&wait), "{attempt}: {wait}");
        }
        assert_eq!(backoff.wait(12, now), None);
        let late = Backoff { total: Duration::from_millis(100), ..backoff };
        assert_eq!(late.wait(1, now), None);
        let patient = Backoff::within(Duration::from_secs(60));
        assert!((1..200).all(|attempt| patient.wait(attempt, now).is_some()));
        assert_eq!(patient.wait(3, now - Duration::from_secs(60)), None);
        assert_eq!(Backoff { attempts: 1, ..backoff }.wait(1, now), None);
        assert!(Backoff { attempts: u32::MAX, total: Duration::MAX, ..backoff }.wait(100, now).is_some());
    }
}
