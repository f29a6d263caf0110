//! What says that something in a storage is a backup: its manifest, and the attempt that was begun before it.

use std::collections::HashMap;

use chrono::DateTime;
use futures_util::StreamExt;

use super::{mongodump_layout, pbm_layout};
use crate::artifact::layout::{BackupRoot, Layout};
use crate::artifact::manifest::{Attempt, Manifest, ObjectEntry};
use crate::domain::backup::Owner;
use crate::domain::service::EngineKind;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{self, Storage};

/// A manifest of a million collections is smaller than this.
pub(super) const MANIFEST_LIMIT: usize = 512 << 20;
const ATTEMPT_LIMIT: usize = 1 << 20;

/// Reads and checks a manifest.
///
/// Errors: `NotFound` when there is none, so that there is no backup; `Corrupt` and `Unsupported` when it cannot be used.
pub async fn read_manifest(storage: &dyn Storage, root: &BackupRoot) -> Result<Manifest> {
    match root.layout() {
        Layout::Own => {}
        Layout::Pbm => return pbm_layout::read_manifest(storage, root).await,
        Layout::Mongodump { .. } | Layout::MongodumpArchive => {
            return mongodump_layout::read_manifest(storage, root).await;
        }
    }
    let key = root.manifest()?;
    let bytes = storage::read_all(storage, &key, MANIFEST_LIMIT).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => e.hint(
            "without its manifest it is no backup: is its disk mounted, or was it deleted? mongokeep storage sync STORAGE \
             says what is still there",
        ),
        _ => e,
    })?;
    let place = format!("{}/{key}", storage.place());
    // A large one takes seconds to check and to parse, in which nothing else would go on.
    let parsed = tokio::task::spawn_blocking(move || Manifest::from_bytes(&place, &bytes)).await;
    parsed.map_err(|e| Error::new(ErrorKind::Internal, "reading a manifest broke off").source(e))?
}

/// What a storage holds below the root of a backup, and whose it is.
pub enum Held {
    Nothing,
    Complete(Box<Manifest>, Owner),
    /// An attempt without a manifest: interrupted, or still being written.
    Unfinished(Owner),
    /// There is an attempt, and it cannot be read.
    Unreadable,
}

impl Held {
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Complete(_, owner) | Self::Unfinished(owner) => Some(owner),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// Errors: those of [`read_manifest`], but for a manifest that is not there; what the storage reports.
pub async fn held(storage: &dyn Storage, root: &BackupRoot) -> Result<Held> {
    // Asked by `stat`: a storage that is not there at all is an error, and not a missing manifest.
    if storage.stat(&root.manifest()?).await?.is_some() {
        let manifest = read_manifest(storage, root).await?;
        let envelope = &manifest.envelope;
        let attempt = read_attempt(storage, root).await?.filter(|a| a.attempt_id == envelope.attempt_id);
        let (home_id, host) = attempt.map(|a| (a.home_id, a.host)).unzip();
        let owner = Owner {
            attempt_id: envelope.attempt_id.clone(),
            home_id,
            host,
            service: envelope.service.clone(),
            tool: match (envelope.engine, &envelope.pbm_name) {
                (EngineKind::Native, _) | (EngineKind::Pbm, Some(_)) => None,
                (EngineKind::Pbm, None) => Some("PBM".to_owned()),
                (EngineKind::Mongodump, _) => Some("mongodump".to_owned()),
            },
            started_at: Some(envelope.started_at).filter(|at| *at > DateTime::UNIX_EPOCH),
            complete: true,
            size_bytes: Some(envelope.size_bytes),
        };
        return Ok(Held::Complete(Box::new(manifest), owner));
    }
    if let Some(attempt) = read_attempt(storage, root).await? {
        return Ok(Held::Unfinished(Owner {
            attempt_id: attempt.attempt_id,
            home_id: Some(attempt.home_id),
            host: Some(attempt.host),
            service: attempt.service,
            tool: None,
            started_at: Some(attempt.started_at),
            complete: false,
            size_bytes: None,
        }));
    }
    let is_begun = root.is_folder() && storage.stat(&root.attempt()?).await?.is_some();
    Ok(if is_begun { Held::Unreadable } else { Held::Nothing })
}

/// Whether the manifest and all `objects` that it names are there, in their size.
pub async fn is_all_there(storage: &dyn Storage, root: &BackupRoot, objects: &[ObjectEntry]) -> Result<bool> {
    let mut wanted: HashMap<&str, u64> = objects.iter().map(|object| (object.path.as_str(), object.size)).collect();
    let mut listing = storage.list(Some(root.key())).await?;
    let has_manifest = storage.stat(&root.manifest()?).await?.is_some();
    while let Some(object) = listing.next().await {
        let object = object?;
        let Some(path) = object.key.below(root.key()) else { continue };
        if wanted.get(path) == Some(&object.size) {
            wanted.remove(path);
        }
    }
    Ok(has_manifest && wanted.is_empty())
}

/// Who began to write below `root`, when it says so.
pub async fn read_attempt(storage: &dyn Storage, root: &BackupRoot) -> Result<Option<Attempt>> {
    if !root.is_folder() {
        return Ok(None);
    }
    match storage::read_all(storage, &root.attempt()?, ATTEMPT_LIMIT).await {
        // One that cannot be read was cut off; it says nothing about who wrote it.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
