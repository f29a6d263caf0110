//! What a catalogue knows of an archive, compared with what the storage holds of it.
//!
//! Listing and catalogue are walked side by side, both in the order of the names, so that memory does not grow with the
//! number of slices.

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::artifact::slice;
use crate::domain::key::Key;
use crate::error::{Error, Result};
use crate::storage::{ObjectInfo, Storage};

/// Slices that are looked at at once.
const AT_ONCE: usize = 16;
/// Slices that are told in one go.
const BATCH: usize = 1000;

/// What is known of the slices in one folder.
#[async_trait]
pub trait Catalogue: Send {
    /// The keys that are known after `after`, in order: the next of them, or none.
    async fn keys(&mut self, after: Option<&str>) -> Result<Vec<String>>;

    /// Slices that are known, and that the storage no longer has.
    async fn missing(&mut self, keys: Vec<String>) -> Result<()>;

    /// Objects with names of slices that nobody knows yet.
    async fn found(&mut self, objects: Vec<ObjectInfo>) -> Result<()>;
}

/// How many slices are in the storage as they are known, and how many are no longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    pub unchanged: u64,
    pub missing: u64,
}

/// Compares what `catalogue` knows with the folder of an archive.
///
/// Errors: what the storage or the catalogue reports; what was told before stays told.
pub async fn reconcile(storage: &dyn Storage, folder: &Key, catalogue: &mut dyn Catalogue) -> Result<Compared> {
    let mut walk = Walk { storage, catalogue, waiting: Vec::new().into_iter(), last: None, gone: Vec::new() };
    let mut done = Compared::default();
    let mut new = Vec::new();
    let mut known = walk.next().await?;
    let mut listing = storage.list(Some(folder)).await?;
    while let Some(object) = listing.try_next().await? {
        if !object.key.is_directly_in(folder) || slice::positions(object.key.file_name()).is_none() {
            continue;
        }
        while let Some(key) = known.take_if(|key| key.as_str() < object.key.as_str()) {
            done.missing += walk.unlisted(key).await?;
            known = walk.next().await?;
        }
        if known.as_deref() == Some(object.key.as_str()) {
            done.unchanged += 1;
            known = walk.next().await?;
            continue;
        }
        new.push(object);
        if new.len() >= BATCH {
            walk.catalogue.found(std::mem::take(&mut new)).await?;
        }
    }
    while let Some(key) = known {
        done.missing += walk.unlisted(key).await?;
        known = walk.next().await?;
    }
    done.missing += walk.emit().await?;
    walk.catalogue.found(new).await?;
    Ok(done)
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    catalogue: &'a mut dyn Catalogue,
    waiting: std::vec::IntoIter<String>,
    last: Option<String>,
    gone: Vec<String>,
}

impl Walk<'_> {
    /// The next key that is known.
    async fn next(&mut self) -> Result<Option<String>> {
        if self.waiting.as_slice().is_empty() {
            self.waiting = self.catalogue.keys(self.last.as_deref()).await?.into_iter();
        }
        let next = self.waiting.next();
        if next.is_some() {
            self.last.clone_from(&next);
        }
        Ok(next)
    }

    /// A key that is not in the listing. How many were told to be missing.
    async fn unlisted(&mut self, key: String) -> Result<u64> {
        self.gone.push(key);
        if self.gone.len() >= BATCH { self.emit().await } else { Ok(0) }
    }

    /// One that was stored and noted after the listing began is there.
    async fn emit(&mut self) -> Result<u64> {
        let storage = self.storage;
        let looks = std::mem::take(&mut self.gone).into_iter().map(|key| async move {
            let there = storage.stat(&Key::new(&*key)?).await?.is_some();
            Ok::<_, Error>((!there).then_some(key))
        });
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        let mut gone = Vec::new();
        while let Some(key) = looks.try_next().await? {
            gone.extend(key);
        }
        drop(looks);
        let count = gone.len() as u64;
        if count > 0 {
            self.catalogue.missing(gone).await?;
        }
        Ok(count)
    }
}
