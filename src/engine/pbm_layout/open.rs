//! From a storage to something that is restored.

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::description::describe;
use super::manifest::{Found, PbmManifest, set_folder};
use super::{buckets, chunks, only_pbm, specs};
use crate::artifact::foreign::ForeignObject;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Manifest;
use crate::domain::key::Key;
use crate::domain::pitr::Slice;
use crate::domain::text::escape;
use crate::engine::backup_reader::MANIFEST_LIMIT;
use crate::engine::contract::{OplogTail, RestoreSource};
use crate::engine::logical::OpenBackup;
use crate::engine::oplog_stream::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{self, Storage};

/// Reads what PBM says of the backup at `root`, and presents it as a manifest.
///
/// What only PBM restores is presented as [`super::OnlyPbm`].
///
/// Errors: `NotFound` when there is none; `Unsupported` when it cannot be restored at all, with the reason; `Corrupt`.
pub async fn read_manifest(storage: &dyn Storage, root: &BackupRoot) -> Result<Manifest> {
    let description = describe(storage, root).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => e.hint("mongokeep storage sync STORAGE says which backups are still there"),
        _ => e,
    })?;
    let place = storage.place();
    let name = root.key().file_name().to_owned();
    let set = match description.restorable() {
        Ok(set) => set.clone(),
        Err(why) if description.is_whole() => return only_pbm::present(storage, root, &description, &why).await,
        Err(why) => return Err(why),
    };
    let folder = root.key().as_str().strip_suffix(&name).unwrap_or_default().trim_end_matches('/').to_owned();
    let mut files = Vec::new();
    let mut listing = storage.list(Some(root.key())).await?;
    while let Some(object) = listing.try_next().await? {
        if let Some(path) = object.key.below(root.key()) {
            files.push((path.to_owned(), object.size));
        }
    }
    let missing = || {
        let what = format!("the PBM backup {} lacks its metadata in {}", escape(&name), escape(&place));
        Error::new(ErrorKind::Corrupt, what).hint("use another backup")
    };
    let of_set = set_folder(&description, &set).ok_or_else(missing)?;
    let has = |file: &str| files.iter().any(|(path, _)| path.strip_prefix(&*of_set) == Some(file));
    let (file, is_bson) = match () {
        () if has("/meta.pbm") => ("meta.pbm", true),
        () if has("/metadata.json") => ("metadata.json", false),
        () => return Err(missing()),
    };
    let key = root.key().join(&format!("{of_set}/{file}"))?;
    let bytes = storage::read_all(storage, &key, MANIFEST_LIMIT).await?;
    // A large one takes seconds, in which nothing else would go on.
    let presented = tokio::task::spawn_blocking(move || {
        let at = format!("{place}/{key}");
        let specs = if is_bson { specs::from_bson(&at, &bytes)? } else { specs::from_json(&at, &bytes)? };
        let (description, set, place, folder) = (&description, &set, &*place, &*folder);
        let found = Found { description, set, place, folder, specs, loses_options: is_bson, files };
        let found = found.into_manifest()?;
        Manifest::of_other_tool(found.logical.envelope.clone(), &found)
    });
    presented.await.map_err(|e| Error::new(ErrorKind::Internal, "reading a manifest stopped unexpectedly").source(e))?
}

/// A backup as the logical engine takes it, with the recorded oplog that follows it.
///
/// Errors: `Corrupt`, `Unsupported` for what cannot be restored.
pub async fn open(source: RestoreSource) -> Result<OpenBackup> {
    open_stored(source.storage, source.manifest, source.tail).await
}

/// The same, of its parts.
pub async fn open_stored(storage: Arc<dyn Storage>, manifest: Manifest, tail: Option<OplogTail>) -> Result<OpenBackup> {
    let found = PbmManifest::of(&manifest)?;
    let root = BackupRoot::pbm(&found.logical.folder, &found.logical.name)?;
    let foreign = found.foreign()?;
    let unknown = found.without_uuid();
    let opened = OpenBackup::of_other_tool(storage, root, found.logical, foreign);
    let opened = match tail {
        Some(tail) => opened.followed_by(tail)?,
        None => opened,
    };
    if unknown.is_empty() { Ok(opened) } else { buckets::identify(opened, unknown).await }
}

/// A chunk of the oplog that PBM recorded.
pub fn chunk(storage: &Arc<dyn Storage>, slice: &Slice) -> Result<Source> {
    let key = Key::new(&*slice.key)?;
    let span = chunks::span(key.file_name(), ".oplog")
        .ok_or_else(|| Error::new(ErrorKind::Internal, format!("{} is no chunk of PBM's oplog", escape(&slice.key))))?;
    let object = ForeignObject {
        path: slice.key.clone(),
        size: slice.size,
        encoded: span.encoded,
        uncompressed: None,
        crc64: None,
    };
    Ok(Source::foreign(Arc::clone(storage), key, object, span.from, span.to))
}
