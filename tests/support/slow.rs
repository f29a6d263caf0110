//! A storage that takes its time: the dump that writes to it lasts long, and its reads are spread over that time.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use mongokeep::error::Result;
use mongokeep::storage::{Key, ObjectInfo, PutMode, Storage, Upload};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Delays each write by a random time up to `longest`; everything else passes at once.
pub struct Slow {
    inner: Arc<dyn Storage>,
    delays: Arc<Delays>,
}

struct Delays {
    rng: Mutex<StdRng>,
    longest: Duration,
}

impl Slow {
    pub fn new(inner: Arc<dyn Storage>, seed: u64, longest: Duration) -> Self {
        let delays = Delays { rng: Mutex::new(StdRng::seed_from_u64(seed)), longest };
        Self { inner, delays: Arc::new(delays) }
    }
}

impl Delays {
    async fn wait(&self) {
        let part = self.rng.lock().unwrap().random::<f64>();
        tokio::time::sleep(self.longest.mul_f64(part)).await;
    }
}

#[async_trait]
impl Storage for Slow {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()> {
        self.delays.wait().await;
        self.inner.put(key, body, mode).await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        self.delays.wait().await;
        Ok(Box::new(SlowUpload { inner: self.inner.upload(key).await?, delays: self.delays.clone() }))
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

    async fn sweep(&self, prefix: &Key) -> Result<u64> {
        self.inner.sweep(prefix).await
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space().await
    }
}

struct SlowUpload {
    inner: Box<dyn Upload>,
    delays: Arc<Delays>,
}

#[async_trait]
impl Upload for SlowUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        self.delays.wait().await;
        self.inner.part(number, body).await
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        self.delays.wait().await;
        self.inner.finish(parts).await
    }

    async fn abort(&self) -> Result<()> {
        self.inner.abort().await
    }
}
