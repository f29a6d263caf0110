//! What a check is told of the catalogue, and what its parts share.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::domain::pitr::Gap;
use crate::domain::text::count;
use crate::error::{Error, Result};
use crate::storage::{Key, Storage};

/// Objects that are looked at at once.
pub const LOOKS_AT_ONCE: usize = 16;

/// A backup's place: its folder and its name.
pub type Place = (String, String);

/// What the catalogue of this home knows of a storage.
#[derive(Debug, Default)]
pub struct Known {
    /// What the storage is called, as a command names it.
    pub storage: String,
    pub home_id: String,
    /// Every attempt at a backup that this home ever began.
    pub attempts: HashSet<String>,
    /// Backups that a job works on, or that are being deleted: what is found of them is nobody else's business.
    pub at_work: BTreeSet<Place>,
    /// Good backups in our own order of things.
    pub good: BTreeSet<Place>,
    /// Good backups that other tools made, with their bytes.
    pub good_foreign: BTreeMap<Place, u64>,
    /// Every backup of this storage in the catalogue, good or not.
    pub backups: BTreeSet<Place>,
    /// The storage and folder of every backup in the catalogue, by its name.
    pub names: BTreeMap<String, Place>,
    /// Those that were good once, whatever the catalogue says of them now.
    pub once_good: BTreeSet<Place>,
    /// Gaps in what is recorded there, with the folder and the service.
    pub gaps: Vec<(String, String, Gap)>,
}

/// The slices of recorded oplog that the catalogue has in a storage.
#[async_trait]
pub trait KnownSlices: Send + Sync {
    /// The folders of archives that mongokeep recorded.
    async fn folders(&self) -> Result<Vec<Key>>;

    /// The keys of a folder after `after`, in order: the next of them, or none.
    async fn keys(&self, folder: &Key, after: Option<&str>) -> Result<Vec<String>>;
}

/// Which of `objects` (key and size) are missing or of another size, asked of each; `None`: it is missing.
pub async fn confirmed<T: Send>(
    storage: &dyn Storage,
    objects: Vec<(Key, u64, T)>,
) -> Result<Vec<(Key, u64, T, Option<u64>)>> {
    let looks = objects.into_iter().map(|(key, size, of)| async move {
        let found = storage.stat(&key).await?.map(|object| object.size);
        Ok::<_, Error>((found != Some(size)).then_some((key, size, of, found)))
    });
    let looks: Vec<Option<_>> = stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
    Ok(looks.into_iter().flatten().collect())
}

/// What is wrong with an object that should have `size` bytes.
pub fn missing_words(found: Option<u64>, size: u64) -> String {
    match found {
        None => "it is missing".to_owned(),
        Some(found) => format!("it has {} of {} bytes", count(found), count(size)),
    }
}

/// Behind the first of several that are wrong: how many `more` there are, in brackets, or nothing.
pub fn more_wrong(more: u64, noun: &str) -> String {
    match more {
        0 => String::new(),
        1 => format!(" (and 1 more {noun} is wrong)"),
        more => format!(" (and {} more {noun}s are wrong)", count(more)),
    }
}
