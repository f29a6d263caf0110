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

#[async_trait]
impl<C: Catalogue + ?Sized> Catalogue for &mut C {
    async fn keys(&mut self, after: Option<&str>) -> Result<Vec<String>> {
        (**self).keys(after).await
    }

    async fn missing(&mut self, keys: Vec<String>) -> Result<()> {
        (**self).missing(keys).await
    }

    async fn found(&mut self, objects: Vec<ObjectInfo>) -> Result<()> {
        (**self).found(objects).await
    }
}

/// Compares what `catalogue` knows with the folder of an archive.
///
/// Errors: what the storage or the catalogue reports; what was told before stays told.
pub async fn reconcile(storage: &dyn Storage, folder: &Key, catalogue: &mut dyn Catalogue) -> Result<Compared> {
    let mut walk = Reconciliation::begin(storage, folder.clone(), catalogue).await?;
    let mut listing = storage.list(Some(folder)).await?;
    while let Some(object) = listing.try_next().await? {
        walk.seen(object).await?;
    }
    walk.end().await.map(|(compared, _)| compared)
}

/// The comparison while the listing of the folder goes by.
pub struct Reconciliation<'a, C> {
    storage: &'a dyn Storage,
    folder: Key,
    catalogue: C,
    waiting: std::vec::IntoIter<String>,
    last: Option<String>,
    known: Option<String>,
    gone: Vec<String>,
    new: Vec<ObjectInfo>,
    done: Compared,
}

impl<'a, C: Catalogue> Reconciliation<'a, C> {
    pub async fn begin(storage: &'a dyn Storage, folder: Key, catalogue: C) -> Result<Self> {
        let (waiting, done) = (Vec::new().into_iter(), Compared::default());
        let (gone, new) = (Vec::new(), Vec::new());
        let mut begun = Self { storage, folder, catalogue, waiting, last: None, known: None, gone, new, done };
        begun.known = begun.next().await?;
        Ok(begun)
    }

    /// The next object of the folder, in the order of the keys. Returns whether it is called as a slice is.
    pub async fn seen(&mut self, object: ObjectInfo) -> Result<bool> {
        if !object.key.is_directly_in(&self.folder) || slice::positions(object.key.file_name()).is_none() {
            return Ok(false);
        }
        while let Some(key) = self.known.take_if(|key| key.as_str() < object.key.as_str()) {
            self.unlisted(key).await?;
            self.known = self.next().await?;
        }
        if self.known.as_deref() == Some(object.key.as_str()) {
            self.done.unchanged += 1;
            self.known = self.next().await?;
            return Ok(true);
        }
        self.new.push(object);
        if self.new.len() >= BATCH {
            self.catalogue.found(std::mem::take(&mut self.new)).await?;
        }
        Ok(true)
    }

    /// Says what was compared, and gives the catalogue back.
    pub async fn end(mut self) -> Result<(Compared, C)> {
        while let Some(key) = self.known.take() {
            self.unlisted(key).await?;
            self.known = self.next().await?;
        }
        self.emit().await?;
        self.catalogue.found(self.new).await?;
        Ok((self.done, self.catalogue))
    }

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

    /// A key that is not in the listing.
    async fn unlisted(&mut self, key: String) -> Result<()> {
        self.gone.push(key);
        if self.gone.len() >= BATCH { self.emit().await } else { Ok(()) }
    }

    /// One that was stored and noted after the listing began is there.
    async fn emit(&mut self) -> Result<()> {
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
        self.done.missing += gone.len() as u64;
        if gone.is_empty() { Ok(()) } else { self.catalogue.missing(gone).await }
    }
}
