//! What says that something in a storage is a backup: its manifest, and the attempt that was begun before it.

use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Attempt, Manifest};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{self, Storage};

/// A manifest of a million collections is smaller than this.
pub(super) const MANIFEST_LIMIT: usize = 512 << 20;
const ATTEMPT_LIMIT: usize = 1 << 20;

/// Reads and checks a manifest.
///
/// Errors: `NotFound` when there is none, so that there is no backup; `Corrupt` and `Unsupported` when it cannot be used.
pub async fn read_manifest(storage: &dyn Storage, root: &BackupRoot) -> Result<Manifest> {
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

/// Who began to write below `root`, when it says so.
pub async fn read_attempt(storage: &dyn Storage, root: &BackupRoot) -> Result<Option<Attempt>> {
    match storage::read_all(storage, &root.attempt()?, ATTEMPT_LIMIT).await {
        // One that cannot be read was cut off; it says nothing about who wrote it.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
