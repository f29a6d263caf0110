//! Writing a copy when something was decided.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::super::storage_folder;
use crate::artifact::checksummed_json;
use crate::artifact::identity::seal_text;
use crate::artifact::layout::state_folder;
use crate::config::Settings;
use crate::domain::clock;
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::key::Key;
use crate::domain::secret::Secret;
use crate::domain::state_copy::{CopiedSetting, CopyNote, FORMAT_VERSION, StateObject};
use crate::domain::storage::StorageLocation;
use crate::engine::attempt::host_name;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::retry::Backoff;
use crate::storage::{Opener, PutMode, Storage};
use crate::store::{AsyncStore, Store};

/// So many copies of an installation are kept: what was removed by mistake is in an earlier one.
const KEPT: usize = 10;
/// How their names tell the time. In the order of their bytes they are in the order of time.
const NAME: &str = "%Y%m%dT%H%M%S%3fZ.json";
/// Whoever waits for the copy is the next look of the daemon.
const BACKOFF: Backoff = Backoff {
    attempts: 3,
    first: Duration::from_millis(500),
    longest: Duration::from_secs(2),
    total: Duration::from_secs(20),
    after_cancel: Duration::from_secs(1),
};

/// What is to be copied, and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The storage that the copy goes to.
    pub storage: String,
    /// Of what is decided now.
    digest: String,
}

/// `None`: no copy is wanted, or the last one is of what is decided now.
///
/// Errors: the store cannot be read.
pub fn pending(store: &Store, settings: &Settings) -> Result<Option<Pending>> {
    let Some(storage) = settings.state_storage() else { return Ok(None) };
    let (note, digest) = (store.copy_note()?, digest(store, settings)?);
    Ok((note.storage != storage || note.digest != digest).then_some(Pending { storage, digest }))
}

/// What is decided, as a number.
fn digest(store: &Store, settings: &Settings) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(store.decisions_digest()?.as_bytes());
    for (key, value) in settings.chosen() {
        hasher.update(format!("\n{key}={value}").as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Writes a copy into the storage that the settings name, and notes that it is there.
///
/// Errors: a storage that is not there or cannot be written; `Conflict` for one that encrypts and was not proven.
pub async fn write_copy(store: &AsyncStore, settings: &Settings, cancel: &CancellationToken) -> Result<CopyNote> {
    let Some(name) = settings.state_storage() else {
        return Err(Error::new(ErrorKind::Internal, "no storage for the copy of the store"));
    };
    let (settings, of) = (settings.clone(), name.clone());
    let gathered = store.with(move |store| {
        let location = store.storage(&of)?;
        // Before it is read, so that what is decided meanwhile is copied once more.
        let digest = digest(store, &settings)?;
        let bytes = StateBytes::of(store, &settings, &location)?;
        storage_folder::claim(store, &location)?;
        Ok((location, bytes, digest, state_folder(&store.home_id()?)?))
    });
    let (location, bytes, digest, folder) = gathered.await?;
    let storage = Opener::new(&location.config, BACKOFF, cancel.clone()).open(cancel).await?;
    let written_at = put(storage.as_ref(), &folder, bytes).await?;
    let note = CopyNote { storage: name, digest, written_at: Some(written_at) };
    let noted = note.clone();
    store.with(move |store| store.set_copy_note(&noted)).await?;
    Ok(note)
}

/// A copy, but for its time.
struct StateBytes(StateObject);

impl StateBytes {
    fn of(store: &Store, settings: &Settings, location: &StorageLocation) -> Result<Self> {
        let encryption = location.config.encryption(&location.name)?;
        let mut decisions = store.decisions()?;
        decisions.settings = copied_settings(settings, encryption.is_some());
        let object = StateObject {
            format_version: FORMAT_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            written_at: clock::now(),
            home_id: store.home_id()?,
            host: host_name(),
            storage: location.name.clone(),
            services: decisions.services.len(),
            storages: decisions.storages.len(),
            schedules: decisions.schedules.len(),
            settings: decisions.settings.len(),
            encryption: None,
            sealed: None,
            decisions: None,
        };
        Ok(Self(match encryption {
            Some(encryption) => {
                let text = serde_json::to_string_pretty(&decisions).map(Secret::new);
                let text =
                    text.map_err(|e| Error::new(ErrorKind::Internal, "writing a copy of the store").source(e))?;
                let sealed = seal_text(&encryption, text.expose())?;
                StateObject { sealed: Some(sealed), encryption: Some(encryption), ..object }
            }
            None => StateObject { decisions: Some(decisions.without_secrets()), ..object },
        }))
    }
}

/// The settings of the file. One of which not all may be shown is left out where secrets are.
fn copied_settings(settings: &Settings, with_secrets: bool) -> Vec<CopiedSetting> {
    let copied = settings.chosen().map(|(key, text)| {
        let is_open = SETTING_FIELDS.iter().find(|f| f.key == key).is_some_and(|f| (f.shown)(text) == text);
        CopiedSetting { key: key.to_owned(), value: (with_secrets || is_open).then(|| Secret::new(text)) }
    });
    copied.collect()
}

/// Writes a copy beside the earlier ones, and removes those that are too many.
async fn put(storage: &dyn Storage, folder: &Key, bytes: StateBytes) -> Result<DateTime<Utc>> {
    let before: Vec<Key> = storage.list(Some(folder)).await?.map_ok(|object| object.key).try_collect().await?;
    let mut names: Vec<(DateTime<Utc>, Key)> =
        before.into_iter().filter_map(|key| Some((time_of(key.file_name())?, key))).collect();
    names.sort();
    // The newest is the last by name, even when the clock was set back.
    let after = names.last().map(|(at, _)| *at + TimeDelta::milliseconds(1));
    let now = clock::now();
    let at = after.filter(|after| *after > now).unwrap_or(now);
    let object = StateObject { written_at: at, ..bytes.0 };
    let key = folder.join(&at.format(NAME).to_string())?;
    storage.put(&key, Bytes::from(checksummed_json::to_bytes(&object)?), PutMode::CreateNew).await?;
    let too_many = (names.len() + 1).saturating_sub(KEPT);
    for (_, old) in names.into_iter().take(too_many) {
        // The new one is there, which is what counts. A bucket may hold objects for some days.
        if let Err(e) = storage.delete(&old).await {
            warn!("an old copy of the store stays: {e}");
        }
    }
    Ok(at)
}

/// When the copy of this name was written, if it is one.
pub(super) fn time_of(name: &str) -> Option<DateTime<Utc>> {
    chrono::NaiveDateTime::parse_from_str(name, NAME).ok().map(|at| at.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_time_and_are_in_its_order() {
        let at = DateTime::from_timestamp_millis(1_795_000_000_042).unwrap();
        let name = |at: DateTime<Utc>| at.format(NAME).to_string();
        assert_eq!(time_of(&name(at)), Some(at));
        assert!(name(at) < name(at + TimeDelta::milliseconds(1)));
        assert!(name(at) < name(at + TimeDelta::days(400)));
        for other in ["", "x.json", "20261118T114640042Z", "20261118T114640042Z.json.tmp"] {
            assert_eq!(time_of(other), None, "{other}");
        }
    }
}
