//! A storage that writes no more than so many bytes a second.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Key, ObjectInfo, PutMode, Storage, Unfinished, Upload};
use crate::error::Result;

/// Stored bytes per second, shared by all clones: one for each job, whatever number of objects it writes at once.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<State>);

#[derive(Debug)]
struct State {
    /// Zero: no limit.
    bytes_per_second: watch::Sender<u64>,
    /// When the bytes let through so far are paid for.
    paid_at: Mutex<Instant>,
}

impl Limiter {
    /// A limit of zero is taken as one.
    pub fn new(limit: Option<u64>) -> Self {
        let bytes_per_second = watch::Sender::new(rate(limit));
        Self(Arc::new(State { bytes_per_second, paid_at: Mutex::new(Instant::now()) }))
    }

    /// Another limit from now on. Who waits by the old one goes on at once.
    pub fn set(&self, limit: Option<u64>) {
        let new = rate(limit);
        self.0.bytes_per_second.send_if_modified(|old| {
            let is_new = *old != new;
            if is_new {
                *self.paid_at() = Instant::now();
                *old = new;
            }
            is_new
        });
    }

    /// Waits until `bytes` may be sent. They go at once and whole (a part is one request), and whoever comes next
    /// waits for them: the rate holds on average, not within a part.
    async fn take(&self, bytes: usize) {
        let mut limit = self.0.bytes_per_second.subscribe();
        let bytes_per_second = *limit.borrow_and_update();
        if bytes_per_second == 0 {
            return;
        }
        let cost = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
        let turn = {
            let mut paid_at = self.paid_at();
            // Time in which nothing was sent is not saved up.
            let turn = (*paid_at).max(Instant::now());
            *paid_at = turn + cost;
            turn
        };
        tokio::select! {
            () = tokio::time::sleep_until(turn) => {}
            Ok(()) = limit.changed() => {}
        }
    }

    fn paid_at(&self) -> MutexGuard<'_, Instant> {
        self.0.paid_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rate(limit: Option<u64>) -> u64 {
    limit.map_or(0, |bytes_per_second| bytes_per_second.max(1))
}

/// Holds back what is written to `inner`. Below [`super::retry::Retrying`], so that repeated bytes count too.
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

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()> {
        self.limiter.take(body.len()).await;
        self.inner.put(key, body, mode).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let inner = self.inner.upload(key).await?;
        Ok(Box::new(ThrottledUpload { inner, limiter: self.limiter.clone() }))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.inner.get(key, range).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.inner.stat(key).await
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        self.inner.list(prefix).await
    }

    async fn list_folders(&self, prefix: Option<&Key>) -> Result<Vec<String>> {
        self.inner.list_folders(prefix).await
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

    #[tokio::test]
    async fn clones_share_one_rate() {
        let limiter = Limiter::new(Some(1_000_000));
        let began = Instant::now();
        let takers = (0..5).map(|_| {
            let limiter = limiter.clone();
            async move { limiter.take(100_000).await }
        });
        futures_util::future::join_all(takers).await;
        // The first goes at once, the other four wait for those before them.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(400), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }

    #[tokio::test]
    async fn idle_time_is_not_saved_up() {
        let limiter = Limiter::new(Some(1_000_000));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        for _ in 0..3 {
            limiter.take(100_000).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn another_limit_counts_at_once() {
        let limiter = Limiter::new(Some(1));
        limiter.take(1_000_000).await;
        let waiting = tokio::spawn({
            let limiter = limiter.clone();
            async move { limiter.take(10).await }
        });
        // Counted as waiting once its own bytes are paid for, too.
        let weeks = Duration::from_secs(1_000_005);
        while *limiter.paid_at() < Instant::now() + weeks {
            tokio::task::yield_now().await;
        }
        limiter.set(None);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        limiter.set(Some(1_000_000));
        let began = Instant::now();
        limiter.take(200_000).await;
        limiter.take(1).await;
        assert!(began.elapsed() >= Duration::from_millis(200), "what was let through without a limit costs nothing");
        assert!(began.elapsed() < Duration::from_secs(3));
    }
}
