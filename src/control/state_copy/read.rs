//! Finding the copies that a storage keeps, and opening one.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;

use super::write::time_of;
use crate::artifact::checksummed_json;
use crate::artifact::identity::{IdentityFile, Locked, open_text};
use crate::artifact::layout::STATE_FOLDER;
use crate::domain::key::Key;
use crate::domain::secret::Secret;
use crate::domain::state_copy::{Decisions, FORMAT_VERSION, StateObject};
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Storage, read_all};

/// A copy is smaller.
const MOST_BYTES: usize = 64 << 20;
/// An installation keeps ten. A folder with more objects is not what it is called.
const MOST_OBJECTS: usize = 100_000;

/// The newest copy of an installation that can be read.
pub struct Found {
    pub key: Key,
    pub object: StateObject,
    /// Newer ones that are no use, with why.
    pub damaged: Vec<String>,
}

/// The newest copy of each installation, in the order of their ids. One of which no copy can be read has its error.
///
/// Errors: what the storage reports.
pub async fn copies(storage: &dyn Storage) -> Result<Vec<(String, Result<Found>)>> {
    let root = Key::new(STATE_FOLDER)?;
    let mut by_home: BTreeMap<String, Vec<Key>> = BTreeMap::new();
    let mut listing = storage.list(Some(&root)).await?;
    let mut count = 0;
    while let Some(object) = listing.try_next().await? {
        count += 1;
        if count > MOST_OBJECTS {
            let what = format!("{}/{STATE_FOLDER} holds more than {MOST_OBJECTS} objects", storage.place());
            return Err(Error::new(ErrorKind::Failed, what));
        }
        let home = object.key.below(&root).and_then(|below| below.split_once('/')).map(|(home, _)| home.to_owned());
        if let Some(home) = home.filter(|_| time_of(object.key.file_name()).is_some()) {
            by_home.entry(home).or_default().push(object.key);
        }
    }
    let mut found = Vec::new();
    for (home, keys) in by_home {
        let newest = newest(storage, &home, keys).await?;
        found.push((home, newest));
    }
    Ok(found)
}

/// Errors: what may pass by itself. The inner one: why none can be read.
async fn newest(storage: &dyn Storage, home: &str, mut keys: Vec<Key>) -> Result<Result<Found>> {
    keys.sort();
    let mut damaged = Vec::new();
    let mut last = Error::new(ErrorKind::NotFound, format!("there is no copy of installation {}", escape(home)));
    for key in keys.into_iter().rev() {
        match read(storage, home, &key).await {
            Ok(object) => return Ok(Ok(Found { key, object, damaged })),
            Err(e) if e.is_retryable() => return Err(e),
            Err(e) => {
                damaged.push(e.full());
                last = e;
            }
        }
    }
    Ok(Err(last))
}

async fn read(storage: &dyn Storage, home: &str, key: &Key) -> Result<StateObject> {
    let bytes = read_all(storage, key, MOST_BYTES).await?;
    let object: StateObject = checksummed_json::from_bytes(key.as_str(), &bytes, FORMAT_VERSION)?;
    if object.home_id != home {
        let what = format!("{} is the copy of installation {}", escape(key.as_str()), escape(&object.home_id));
        return Err(Error::new(ErrorKind::Corrupt, what));
    }
    Ok(object)
}

/// What a copy holds. `identity_file` opens one that is encrypted.
///
/// Errors: `Unauthenticated`, naming whose identity is needed; `Corrupt`.
pub async fn open(object: &StateObject, identity_file: &IdentityFile) -> Result<Decisions> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "the copy of the store is not what it should be");
    let (sealed, encryption) = match (&object.decisions, &object.sealed, &object.encryption) {
        (Some(decisions), None, None) => return Ok(decisions.clone()),
        (None, Some(sealed), Some(encryption)) => (sealed, encryption),
        _ => return Err(corrupt()),
    };
    let locked = Locked { what: "the copy of the store".into(), encryption: encryption.clone() };
    let keys = identity_file.unlock(vec![locked]).await?;
    let text = Secret::new(open_text(sealed, &keys)?);
    // What serde says of a value that is wrong may be a secret.
    serde_json::from_str(text.expose()).map_err(|_| corrupt())
}
