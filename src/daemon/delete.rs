//! A delete job: exactly the objects that a manifest or an attempt names, never a prefix.

use futures_util::StreamExt;

use super::blocking;
use super::runner::Env;
use super::task::open_storage;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Manifest;
use crate::domain::key::Key;
use crate::engine::logical::discard;
use crate::engine::{Context, stored};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

const AT_ONCE: usize = 16;

pub async fn run(env: &Env, ctx: &Context, name: &str, keep_files: bool) -> Result<()> {
    if keep_files {
        ctx.meter.info("the files stay where they are");
        return Ok(());
    }
    let (store, wanted) = (env.store.clone(), name.to_owned());
    let backup = blocking(move || store.backup(&wanted)).await?;
    let (_, storage) = open_storage(env, ctx, &backup.storage).await?;
    let root = BackupRoot::new(&backup.folder, &backup.name)?;
    let hint = format!("mongokeep backup delete {name} --keep-files --yes removes the record alone");
    // Asked by `stat`: a storage that is not there at all is an error, and not a missing manifest.
    let outcome = async {
        if storage.stat(&root.manifest()?).await?.is_some() {
            let manifest = stored::read_manifest(storage.as_ref(), &root).await?;
            whole(ctx, storage.as_ref(), &root, &manifest).await
        } else {
            unfinished(ctx, storage.as_ref(), &root).await
        }
    };
    outcome.await.map_err(|e| if e.hint_text().is_none() { e.hint(hint) } else { e })
}

/// The manifest first, so that what is being taken apart is no backup any more; `attempt.json` last, so that a delete
/// that is interrupted can go on.
async fn whole(ctx: &Context, storage: &dyn Storage, root: &BackupRoot, manifest: &Manifest) -> Result<()> {
    let collections = manifest.collections.iter().flat_map(|c| c.parts.iter().chain([&c.metadata]));
    let objects: Vec<_> = collections.chain(&manifest.oplog).collect();
    // Every name is checked before the first object goes.
    let keys: Vec<Key> = objects.iter().map(|o| root.key().join(&o.path)).collect::<Result<_>>()?;
    ctx.meter.set_totals(manifest.size_bytes, keys.len() as u64 + 2, 0);
    ctx.meter.set_phase("delete");
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    storage.delete(&root.manifest()?).await?;
    ctx.meter.object_done();
    ctx.meter.info("the manifest is deleted: it is no backup any more");
    let mut deletes = futures_util::stream::iter(keys.iter().zip(&objects))
        .map(|(key, object)| async move { storage.delete(key).await.map(|()| object.size) })
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
    ctx.meter.info(format!("deleted {} objects", keys.len() + 2));
    Ok(())
}

/// What an interrupted backup or delete left. Whose it is does not matter any more: a person asked for it by name.
async fn unfinished(ctx: &Context, storage: &dyn Storage, root: &BackupRoot) -> Result<()> {
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
    let gone = discard(storage, root, &attempt.attempt_id, &attempt.home_id).await?;
    ctx.meter.info(format!("deleted {gone} objects of an attempt that was not finished"));
    Ok(())
}
