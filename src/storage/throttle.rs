//! A storage of which no more than so many bytes a second are written or read.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Freeing, InFlight, Key, Level, ObjectInfo, OldVersions, PutMode, Storage, Unfinished, Upload};
use crate::domain::bandwidth::BandwidthLimit;
use crate::error::Result;

/// Bytes per second, both ways together, shared by all clones: one for each job, whatever number of objects it writes or reads
/// at once.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<State>);

#[derive(Debug)]
struct State {
    limit: watch::Sender<BandwidthLimit>,
    paid: Mutex<Paid>,
}

#[derive(Debug)]
struct Paid {
    /// When the bytes let through so far are paid for,
    at: Instant,
    /// by this rate. `None`: no limit.
    rate: Option<u64>,
}

/// How soon another hour with another limit counts for those who wait.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What is read of an object before anybody waits: a manifest must be found at once, also by a job that was cancelled and
/// removes what it wrote.
const SMALL: usize = 64 << 10;

impl Limiter {
    pub fn new(limit: BandwidthLimit) -> Self {
        let paid = Paid { at: Instant::now(), rate: limit.now() };
        Self(Arc::new(State { limit: watch::Sender::new(limit), paid: Mutex::new(paid) }))
    }

    /// Another limit from now on. Who waits by the old one goes on at once.
    pub fn set(&self, limit: BandwidthLimit) {
        self.0.limit.send_if_modified(|old| {
            let is_new = *old != limit;
            *old = limit;
            is_new
        });
    }

    /// Waits until `bytes` may be sent or passed on. They go at once and whole (a part is one request), and whoever comes
    /// next waits for them: the rate holds on average, not within a part.
    async fn take(&self, bytes: usize) {
        let mut limit = self.0.limit.subscribe();
        let Some((turn, own_rate)) = self.charge(bytes) else { return };
        while Instant::now() < turn {
            tokio::select! {
                () = tokio::time::sleep_until(turn.min(Instant::now() + LOOK_AGAIN)) => {}
                Ok(()) = limit.changed() => {}
            }
            let mut paid = self.paid();
            self.at_the_rate_of_now(&mut paid);
            if paid.rate != own_rate {
                return;
            }
        }
    }

    /// Counts `bytes` without waiting for them. Returns when their turn would be, and by which rate; `None`: there is no limit.
    fn charge(&self, bytes: usize) -> Option<(Instant, Option<u64>)> {
        let mut paid = self.paid();
        let now = self.at_the_rate_of_now(&mut paid);
        let bytes_per_second = paid.rate?;
        // Time in which nothing was sent is not saved up.
        let turn = paid.at.max(now);
        paid.at = turn + Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
        Some((turn, paid.rate))
    }

    /// What was let through by another rate costs nothing more. Returns the present.
    fn at_the_rate_of_now(&self, paid: &mut Paid) -> Instant {
        let (now, rate) = (Instant::now(), self.0.limit.borrow().now());
        if paid.rate != rate {
            *paid = Paid { at: now, rate };
        }
        now
    }

    fn paid(&self) -> MutexGuard<'_, Paid> {
        self.0.paid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds back what is written to `inner`, and what is read of it: it is not taken from the line before its turn. Below [`super::retry::Retrying`], so that repeated bytes count too.
#[derive(Clone)]
pub struct Throttled {
    inner: Arc<dyn Storage>,
    limiter: Limiter,
}

impl Throttled {
    pub fn new(inner: Arc<dyn Storage>, limiter: Limiter) -> Self {
        Self { inner, limiter }
    }
}

#[async_trait]
impl Storage for Throttled {
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
        self.limiter.take(body.len()).await;
        self.inner.put(key, body, mode).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let inner = self.inner.upload(key).await?;
        Ok(Box::new(ThrottledUpload { inner, limiter: self.limiter.clone() }))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let stream = self.inner.get(key, range).await?;
        let (limiter, read) = (self.limiter.clone(), Arc::new(AtomicUsize::new(0)));
        Ok(stream
            .then(move |chunk| {
                let (limiter, read) = (limiter.clone(), Arc::clone(&read));
                async move {
                    if let Ok(chunk) = &chunk {
                        match read.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len() {
                            // It counts, and does not wait behind the parts on their way.
                            ..=SMALL => drop(limiter.charge(chunk.len())),
                            _ => limiter.take(chunk.len()).await,
                        }
                    }
                    chunk
                }
            })
            .boxed())
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.inner.stat(key).await
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        self.inner.list(prefix).await
    }

    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level> {
        self.inner.list_level(prefix).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn sweep_older(&self, prefix: &Key, age: Duration) -> Result<u64> {
        self.inner.sweep_older(prefix, age).await
    }

    async fn unfinished(&self, most: usize) -> Result<Option<Vec<Unfinished>>> {
        self.inner.unfinished(most).await
    }

    async fn freeing(&self, key: &Key) -> Result<Option<Freeing>> {
        self.inner.freeing(key).await
    }

    async fn old_versions(&self) -> Result<Option<OldVersions>> {
        self.inner.old_versions().await
    }

    async fn tells_cases_apart(&self) -> Result<bool> {
        self.inner.tells_cases_apart().await
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space().await
    }
}

struct ThrottledUpload {
    inner: Box<dyn Upload>,
    limiter: Limiter,
}

#[async_trait]
impl Upload for ThrottledUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        self.limiter.take(body.len()).await;
        self.inner.part(number, body).await
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        self.inner.finish(parts).await
    }

    async fn abort(&self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> BandwidthLimit {
        BandwidthLimit::parse(text, chrono_tz::Tz::UTC).unwrap()
    }

    #[tokio::test]
    async fn clones_share_one_rate() {
        let limiter = Limiter::new(limit("1MB"));
        let began = Instant::now();
        let takers = (0..5).map(|_| {
            let limiter = limiter.clone();
            async move { limiter.take(100_000).await }
        });
        futures_util::future::join_all(takers).await;
        // The first goes at once, the other four wait for those before them.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(400), "{took:?}");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }

    #[tokio::test]
    async fn idle_time_is_not_saved_up() {
        let limiter = Limiter::new(limit("1MB"));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        for _ in 0..3 {
            limiter.take(100_000).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn another_limit_counts_at_once() {
        let limiter = Limiter::new(limit("1"));
        let began = Instant::now();
        limiter.take(1_000_000).await;
        let waiting = tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.take(10).await }
        });
        // Counted as waiting once its own bytes are paid for, too.
        let weeks = Duration::from_secs(1_000_005);
        while limiter.paid().at < began + weeks {
            tokio::task::yield_now().await;
        }
        limiter.set(limit("0"));
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
        limiter.set(limit("1MB"));
        let began = Instant::now();
        limiter.take(200_000).await;
        limiter.take(1).await;
        assert!(began.elapsed() >= Duration::from_millis(200), "what was let through without a limit costs nothing");
        assert!(began.elapsed() < Duration::from_secs(60), "the weeks are not waited for");
    }
}
