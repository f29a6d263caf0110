//! A storage that writes no more than so many bytes a second.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use super::{Key, ObjectInfo, PutMode, Storage, Upload};
use crate::error::Result;

/// Stored bytes per second, shared by all clones: one for each job, whatever number of objects it writes at once.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<State>);

#[derive(Debug)]
struct State {
    bytes_per_second: u64,
    /// When the bytes let through so far are paid for.
    paid_at: Mutex<Instant>,
}

impl Limiter {
    /// Zero is taken as one.
    pub fn new(bytes_per_second: u64) -> Self {
        Self(Arc::new(State { bytes_per_second: bytes_per_second.max(1), paid_at: Mutex::new(Instant::now()) }))
    }

    /// Waits until `bytes` may be sent. They go at once and whole (a part is one request), and whoever comes next
    /// waits for them: the rate holds on average, not within a part.
    async fn take(&self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.0.bytes_per_second as f64);
        let turn = {
            let mut paid_at = self.0.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
            // Time in which nothing was sent is not saved up.
            let turn = (*paid_at).max(Instant::now());
            *paid_at = turn + cost;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
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
        let limiter = Limiter::new(1_000_000);
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
        let limiter = Limiter::new(1_000_000);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        for _ in 0..3 {
            limiter.take(100_000).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(200));
    }
}
