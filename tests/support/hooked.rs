//! A storage with something in front of its calls: a delay, a gate, a refusal.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use mongokeep::error::{Error, ErrorKind, Result};
use mongokeep::storage::{InFlight, Key, Level, ObjectInfo, PutMode, Storage, Unfinished, Upload};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What stands in front of the calls. Without a body of its own, a call passes at once.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    /// Before an object, or a part of one, is written.
    async fn write(&self, _key: &Key) {}

    /// Before an object, or a part of one, is written: whether the storage takes it.
    fn refuse(&self) -> Result<()> {
        Ok(())
    }

    /// What the storage keeps of the object, or the part of one, that it says it has stored.
    fn keep(&self, _key: &Key, body: Bytes) -> Option<Bytes> {
        Some(body)
    }

    /// Before an object is read.
    async fn read(&self, _key: &Key) {}

    /// Before unfinished uploads are looked for.
    fn sweep(&self) -> Result<()> {
        Ok(())
    }

    /// The places that writers share, of a storage over a line.
    fn in_flight(&self) -> Option<&InFlight> {
        None
    }
}

/// A hook of a storage that is not a disk but at the end of a line.
pub struct OverALine<H> {
    pub inner: H,
    places: InFlight,
}

impl<H: Hook> OverALine<H> {
    pub fn new(inner: H) -> Self {
        Self { inner, places: InFlight::of_parts() }
    }
}

#[async_trait]
impl<H: Hook> Hook for OverALine<H> {
    async fn write(&self, key: &Key) {
        self.inner.write(key).await;
    }

    fn refuse(&self) -> Result<()> {
        self.inner.refuse()
    }

    fn keep(&self, key: &Key, body: Bytes) -> Option<Bytes> {
        self.inner.keep(key, body)
    }

    async fn read(&self, key: &Key) {
        self.inner.read(key).await;
    }

    fn sweep(&self) -> Result<()> {
        self.inner.sweep()
    }

    fn in_flight(&self) -> Option<&InFlight> {
        Some(&self.places)
    }
}

/// `inner` with `hook` in front of it.
pub fn hooked<H: Hook>(inner: &Arc<dyn Storage>, hook: H) -> (Arc<dyn Storage>, Arc<H>) {
    let hook = Arc::new(hook);
    (Arc::new(Hooked { inner: Arc::clone(inner), hook: Arc::clone(&hook) }), hook)
}

struct Hooked<H> {
    inner: Arc<dyn Storage>,
    hook: Arc<H>,
}

#[async_trait]
impl<H: Hook> Storage for Hooked<H> {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }

    fn in_flight(&self) -> Option<&InFlight> {
        self.hook.in_flight()
    }

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()> {
        self.hook.write(key).await;
        self.hook.refuse()?;
        match self.hook.keep(key, body) {
            Some(body) => self.inner.put(key, body, mode).await,
            None => Ok(()),
        }
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        self.hook.write(key).await;
        let inner = self.inner.upload(key).await?;
        Ok(Box::new(HookedUpload { inner, key: key.clone(), hook: Arc::clone(&self.hook) }))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.hook.read(key).await;
        self.inner.get(key, range).await
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
        self.hook.sweep()?;
        self.inner.sweep_older(prefix, age).await
    }

    async fn unfinished(&self, most: usize) -> Result<Option<Vec<Unfinished>>> {
        self.inner.unfinished(most).await
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space().await
    }
}

struct HookedUpload<H> {
    inner: Box<dyn Upload>,
    key: Key,
    hook: Arc<H>,
}

#[async_trait]
impl<H: Hook> Upload for HookedUpload<H> {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        self.hook.write(&self.key).await;
        self.hook.refuse()?;
        match self.hook.keep(&self.key, body) {
            Some(body) => self.inner.part(number, body).await,
            None => Ok(()),
        }
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        self.hook.write(&self.key).await;
        self.inner.finish(parts).await
    }

    async fn abort(&self) -> Result<()> {
        self.inner.abort().await
    }
}

/// Delays each write by a random time up to the longest: the dump that writes lasts long, and its reads are spread
/// over that time.
pub struct Slow {
    rng: Mutex<StdRng>,
    longest: Duration,
}

impl Slow {
    pub fn new(seed: u64, longest: Duration) -> Self {
        Self { rng: Mutex::new(StdRng::seed_from_u64(seed)), longest }
    }
}

#[async_trait]
impl Hook for Slow {
    async fn write(&self, _: &Key) {
        let part = self.rng.lock().unwrap().random::<f64>();
        tokio::time::sleep(self.longest.mul_f64(part)).await;
    }
}

/// Holds back the objects of chosen collections until it is told to let them through.
pub struct Gate {
    /// Keys that contain one of these are held.
    held: Vec<String>,
    open: tokio::sync::watch::Sender<bool>,
    arrived: tokio::sync::watch::Sender<BTreeSet<String>>,
}

impl Gate {
    pub fn new(held: &[&str]) -> Self {
        Self {
            held: held.iter().map(|h| (*h).to_owned()).collect(),
            open: tokio::sync::watch::Sender::new(false),
            arrived: tokio::sync::watch::Sender::default(),
        }
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns when something of each was held back.
    pub async fn all_held(&self) {
        let mut arrived = self.arrived.subscribe();
        let all = arrived.wait_for(|arrived| arrived.len() == self.held.len());
        tokio::time::timeout(Duration::from_secs(180), all).await.expect("nothing is written").unwrap();
    }
}

#[async_trait]
impl Hook for Gate {
    async fn write(&self, key: &Key) {
        if let Some(held) = self.held.iter().find(|h| key.as_str().contains(h.as_str())) {
            self.arrived.send_modify(|arrived| {
                arrived.insert(held.clone());
            });
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
        }
    }
}

/// What a storage does that says "stored" and means something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    Nothing,
    /// Half of it.
    Less,
    /// As many bytes, and one is another.
    Other,
}

/// Lies about the objects whose keys contain a text, as often as it is told to.
pub struct Liar {
    about: &'static str,
    lie: Lie,
    left: Mutex<usize>,
}

impl Liar {
    pub fn new(about: &'static str, lie: Lie, times: usize) -> Self {
        Self { about, lie, left: Mutex::new(times) }
    }

    /// It has lied as often as it should.
    pub fn is_done(&self) -> bool {
        *self.left.lock().unwrap() == 0
    }
}

impl Hook for Liar {
    fn keep(&self, key: &Key, body: Bytes) -> Option<Bytes> {
        let mut left = self.left.lock().unwrap();
        if *left == 0 || !key.as_str().contains(self.about) {
            return Some(body);
        }
        *left -= 1;
        match self.lie {
            Lie::Nothing => None,
            Lie::Less => Some(body.slice(..body.len() / 2)),
            Lie::Other => {
                let mut other = body.to_vec();
                let middle = other.len() / 2;
                other[middle] ^= 1;
                Some(other.into())
            }
        }
    }
}

/// A key that may write, and not look for unfinished uploads.
pub struct NoSweep;

impl Hook for NoSweep {
    fn sweep(&self) -> Result<()> {
        Err(Error::new(ErrorKind::Denied, "the key lacks s3:ListBucketMultipartUploads"))
    }
}
