//! Deleting a backup, for a person or for retention: exactly the objects that a manifest or an attempt names, never a
//! prefix.

use futures_util::StreamExt;

use super::blocking;
use super::prune;
use super::runner::Env;
use super::task::open_storage;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Manifest;
use crate::domain::backup::Backup;
use crate::domain::key::Key;
use crate::engine::logical::discard;
use crate::engine::{Context, stored};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

const AT_ONCE: usize = 16;

/// Whose backup may be deleted.
pub enum Owner<'a> {
    /// Whoever made it: a person asked for it by name.
    Anybody,
    /// One of these attempts of this home.
    Attempts(&'a [String]),
}

impl Owner<'_> {
    fn allows(&self, attempt_id: &str) -> bool {
        match self {
            Self::Anybody => true,
            Self::Attempts(ids) => ids.iter().any(|id| id == attempt_id),
        }
    }
}

/// A delete job.
pub async fn run(env: &Env, ctx: &Context, name: &str, keep_files: bool) -> Result<()> {
    if keep_files {
        ctx.meter.info("the files stay where they are");
        return Ok(());
    }
    let (store, wanted) = (env.store.clone(), name.to_owned());
    let backup = blocking(move || store.backup(&wanted)).await?;
    files(env, ctx, &backup, &Owner::Anybody).await?;
    // It is gone; what is recorded only to follow it is of no use, but no reason to say that it was not deleted.
    if let Err(e) = prune::run(env, ctx, &backup.service).await {
        ctx.meter.warn(format!("the recorded oplog that led from it stays until the next retention: {e}"));
    }
    Ok(())
}

/// Removes what the storage holds of a backup; its record stays.
///
/// Errors: `Conflict` when `owner` does not allow it; nothing is deleted then.
pub async fn files(env: &Env, ctx: &Context, backup: &Backup, owner: &Owner<'_>) -> Result<()> {
    let (_, storage) = open_storage(env, ctx, &backup.storage).await?;
    let root = BackupRoot::new(&backup.folder, &backup.name)?;
    let hint = format!("mongokeep backup delete {} --keep-files --yes removes the record alone", backup.name);
    // Asked by `stat`: a storage that is not there at all is an error, and not a missing manifest.
    let outcome = async {
        if storage.stat(&root.manifest()?).await?.is_some() {
            let manifest = stored::read_manifest(storage.as_ref(), &root).await?;
            allowed(owner, storage.as_ref(), &root, &manifest.attempt_id)?;
            whole(ctx, storage.as_ref(), &root, &manifest).await
        } else {
            unfinished(ctx, storage.as_ref(), &root, owner).await
        }
    };
    outcome.await.map_err(|e| match e.hint_text() {
        // A person who ended it is told that it ended, also where the storage gave no answer any more.
        _ if ctx.cancel.is_cancelled() && e.is_retryable() => {
            Error::cancelled().hint(format!("{e}; delete it again to remove the rest"))
        }
        None => e.hint(hint),
        Some(_) => e,
    })
}

fn allowed(owner: &Owner<'_>, storage: &dyn Storage, root: &BackupRoot, attempt_id: &str) -> Result<()> {
    if owner.allows(attempt_id) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!("{}/{} was made by another installation and is left alone", storage.place(), root.key()),
    ))
}

/// The manifest first, so that what is being taken apart is no backup any more; `attempt.json` last, so that a delete
/// that is interrupted can go on.
async fn whole(ctx: &Context, storage: &dyn Storage, root: &BackupRoot, manifest: &Manifest) -> Result<()> {
    let collections = manifest.collections.iter().flat_map(|c| c.parts.iter().chain([&c.metadata]));
    let objects: Vec<_> = collections.chain(&manifest.oplog).collect();
    // Every name is checked before the first object goes.
    let objects: Vec<(Key, u64)> =
        objects.into_iter().map(|o| Ok((root.key().join(&o.path)?, o.size))).collect::<Result<_>>()?;
    let total = objects.len() as u64 + 2;
    let before = ctx.meter.snapshot();
    ctx.meter.set_totals(before.bytes_done.saturating_add(manifest.size_bytes), before.objects_done + total, 0);
    ctx.meter.set_phase(format!("delete {}", manifest.name));
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    storage.delete(&root.manifest()?).await?;
    ctx.meter.object_done();
    ctx.meter.info("the manifest is deleted: it is no backup any more");
    let mut deletes = futures_util::stream::iter(objects)
        .map(|(key, size)| async move { storage.delete(&key).await.map(|()| size) })
        .buffer_unordered(AT_ONCE);
    while let Some(deleted) = deletes.next().await {
        ctx.meter.add_bytes(deleted?);
        ctx.meter.object_done();
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled().hint("deleting had begun: delete it again to remove the rest"));
        }
    }
    storage.delete(&root.attempt()?).await?;
    ctx.meter.object_done();
    ctx.meter.info(format!("deleted {total} objects"));
    Ok(())
}

/// What an interrupted backup or delete left.
async fn unfinished(ctx: &Context, storage: &dyn Storage, root: &BackupRoot, owner: &Owner<'_>) -> Result<()> {
    ctx.meter.set_phase("delete what an attempt left");
    let Some(attempt) = stored::read_attempt(storage, root).await? else {
        if storage.stat(&root.attempt()?).await?.is_some() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("{}/{} cannot be read", storage.place(), root.attempt()?),
            )
            .hint(format!("nothing says which objects belong to it; remove the folder {} by hand", root.key())));
        }
        ctx.meter.info("nothing of it is in the storage");
        return Ok(());
    };
    allowed(owner, storage, root, &attempt.attempt_id)?;
    let gone = discard(storage, root, &attempt.attempt_id, &attempt.home_id).await?;
    ctx.meter.info(format!("deleted {gone} objects of an attempt that was not finished"));
    Ok(())
}
