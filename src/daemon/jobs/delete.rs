//! Deleting a backup, for a person or for retention: exactly the objects that a manifest or an attempt names, never a
//! prefix; and only of an attempt of this home, unless a person has seen in the plan whose it is.

use async_trait::async_trait;
use futures_util::StreamExt;

use super::super::env::Env;
use super::storages::open_storage;
use super::{Done, JobRunner, Work, block_gc, slice_gc, stopped_unexpectedly};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Manifest;
use crate::domain::backup::Owner;
use crate::domain::clock;
use crate::domain::key::Key;
use crate::domain::storage::StorageConfig;
use crate::domain::text::counted;
use crate::engine::attempt::discard;
use crate::engine::backup_reader::{self, Held, is_all_there};
use crate::engine::contract::{Elsewhere, NotDeleted};
use crate::engine::{Context, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::store::Deletion;

const AT_ONCE: usize = 16;

/// What became of it.
pub enum End {
    /// Nothing of it is left in the storage.
    Gone,
    /// What the storage holds under its name is of another installation, and was left alone.
    Foreign(Box<Owner>),
}

/// Removes a backup, for a person.
pub struct DeleteRunner<'a> {
    pub backup: &'a str,
    pub keep_files: bool,
    pub foreign: Option<&'a str>,
    /// Of the base of a chain: the increments that go with it.
    pub increments: &'a [String],
}

#[async_trait]
impl JobRunner for DeleteRunner<'_> {
    async fn attempt(&self, work: &Work) -> Result<Done> {
        self.run_delete(&work.env, &work.ctx).await.map(|()| None)
    }

    async fn recover(&self, work: &Work) -> Result<Done> {
        let id = work.claimed.job.id;
        let hint = format!("mongokeep job retry {id} goes on with deleting {}", self.backup);
        Err(stopped_unexpectedly(id).hint(hint))
    }
}

impl DeleteRunner<'_> {
    async fn run_delete(&self, env: &Env, ctx: &Context) -> Result<()> {
        let Self { backup: name, keep_files, foreign, increments } = *self;
        if keep_files {
            ctx.meter.info("the files stay where they are");
            return Ok(());
        }
        let deletion = env.store.deletion(name).await?;
        if foreign.is_none() {
            let (of, expected) = (name.to_owned(), increments.to_vec());
            env.store.with(move |store| store.chain_may_go(&of, Some(&expected))).await?;
        }
        match delete_files(env, ctx, &deletion, foreign).await? {
            End::Gone => {
                self.delete_increments(env, ctx).await?;
                block_gc::collect_after(env, ctx, &deletion.backup.storage, &deletion.backup.folder).await?;
            }
            End::Foreign(owner) if deletion.owns_nothing() => {
                ctx.meter
                    .info(format!("only the record goes: the files of that name are another's ({})", owner.words()));
                return Ok(());
            }
            End::Foreign(owner) => return Err(not_ours(name, &deletion.backup.storage, &owner)),
        }
        // It is gone; what is recorded only to follow it is of no use, but no reason to say that it was not deleted.
        if let Err(e) = slice_gc::delete_useless(env, ctx, &deletion.backup.service).await {
            ctx.meter.warn(format!("the recorded oplog that led from it stays until the next retention: {e}"));
        }
        Ok(())
    }

    /// The engine has deleted them with their base; what mongokeep keeps of them follows.
    async fn delete_increments(&self, env: &Env, ctx: &Context) -> Result<()> {
        for name in self.increments {
            let deletion = match env.store.deletion(name).await {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            if let End::Foreign(owner) = delete_files(env, ctx, &deletion, None).await? {
                return Err(not_ours(name, &deletion.backup.storage, &owner));
            }
            env.store.retired(name).await?;
            ctx.meter.info(format!("{name} went with it"));
        }
        Ok(())
    }
}

fn not_ours(name: &str, storage: &str, owner: &Owner) -> Error {
    let what = format!("backup {name} in {storage} was made by {}, and is left alone", owner.whose());
    Error::new(ErrorKind::Conflict, what).hint(format!("mongokeep backup delete {name} shows what can be removed"))
}

/// Removes what the storage holds of a backup, if it is of this home, or the attempt `foreign`; its record stays.
///
/// Errors: what the storage reports. Whether the backup was taken apart by then is noted in its record.
pub async fn delete_files(env: &Env, ctx: &Context, deletion: &Deletion, foreign: Option<&str>) -> Result<End> {
    let backup = &deletion.backup;
    let (location, storage) = open_storage(env, ctx, &backup.storage).await?;
    let root = BackupRoot::of(backup)?;
    let hint = format!("mongokeep backup delete {} --keep-files removes the record alone", backup.name);
    let outcome = async {
        let looking = ctx.cancel.run_until_cancelled(backup_reader::held(storage.as_ref(), &root));
        let held = match looking.await.unwrap_or_else(|| Err(Error::cancelled())) {
            // It is good no more, whatever else is found.
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                env.store.deletion_begins(&backup.name).await?;
                return Err(e);
            }
            other => other?,
        };
        if let Some(owner) = held.owner().filter(|owner| !owner.is_of(&env.home_id, &deletion.attempts)) {
            if foreign != Some(owner.attempt_id.as_str()) {
                return Ok(End::Foreign(Box::new(owner.clone())));
            }
            // Once its deletion has begun, it has no manifest for that reason.
            if deletion.before.is_some() && owner.may_be_running(clock::now()) {
                return Err(may_be_running(&storage.place(), &root, owner));
            }
            ctx.meter.warn(format!("it was made by {}", owner.whose()));
        }
        match held {
            Held::Complete(manifest, _) => {
                say_what_stays(ctx, storage.as_ref(), &root, &backup.name).await?;
                delete_whole(env, ctx, (&location.config, storage.as_ref()), &root, &manifest, &backup.name).await?
            }
            other => {
                // Without its manifest it is no good one, even if the rest cannot be removed.
                env.store.deletion_begins(&backup.name).await?;
                delete_unfinished(ctx, storage.as_ref(), &root, other).await?;
            }
        }
        Ok(End::Gone)
    };
    outcome.await.map_err(|e: Error| match e.hint_text() {
        // A person who ended it is told that it ended, also where the storage gave no answer any more.
        _ if ctx.cancel.is_cancelled() && e.is_retryable() => {
            Error::cancelled().hint(format!("{e}; delete it again to remove the rest"))
        }
        None => e.hint(hint),
        Some(_) => e,
    })
}

/// Notes what the storage keeps of a backup that is about to be deleted. One that does not say keeps nobody waiting.
async fn say_what_stays(ctx: &Context, storage: &dyn Storage, root: &BackupRoot, name: &str) -> Result<()> {
    let key = root.manifest()?;
    let asked = ctx.cancel.run_until_cancelled(storage.freeing(&key)).await;
    let freeing = asked.and_then(Result::ok).flatten().unwrap_or_default();
    for warning in freeing.warnings() {
        ctx.meter.warn(format!("{name}: {warning}"));
    }
    Ok(())
}

/// Why an attempt of another installation is not removed, even when a person asks for it.
pub fn may_be_running(place: &str, root: &BackupRoot, owner: &Owner) -> Error {
    let what = format!("{place}/{} has no manifest and may still be being written ({})", root.key(), owner.words());
    Error::new(ErrorKind::Conflict, what).hint(format!(
        "the installation that makes it finishes or removes it; if that one is gone for good, remove the folder {} by hand",
        root.key()
    ))
}

/// The manifest first, so that what is being taken apart is no backup any more; `attempt.json` last, so that a delete
/// that is interrupted can go on.
async fn delete_whole(
    env: &Env,
    ctx: &Context,
    (location, storage): (&StorageConfig, &dyn Storage),
    root: &BackupRoot,
    manifest: &Manifest,
    name: &str,
) -> Result<()> {
    let envelope = &manifest.envelope;
    let engine = engine(envelope.engine, envelope.model)?;
    let named = engine.objects(manifest)?;
    // Every name is checked before the first object goes.
    let objects: Vec<(Key, u64)> =
        named.iter().map(|o| Ok((root.key().join(&o.path)?, o.size))).collect::<Result<_>>()?;
    let total = objects.len() as u64 + if root.is_folder() { 2 } else { 1 };
    let before = ctx.meter.snapshot();
    ctx.meter.set_totals(before.bytes_done.saturating_add(envelope.size_bytes), before.objects_done + total, 0);
    ctx.meter.set_phase(format!("delete {}", envelope.name));
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    env.store.deletion_begins(name).await?;
    // Most engines need none, and a lost key is no reason not to delete.
    let service = env.store.service(&envelope.service).await.ok();
    let of = name.to_owned();
    let goes_with = env.store.with(move |store| store.chain_may_go(&of, None)).await;
    let elsewhere = match goes_with {
        Ok(names) => engine.delete_elsewhere(ctx, location, storage, manifest, service.as_ref(), &names).await,
        Err(e) => Err(e.into()),
    };
    let elsewhere = match elsewhere {
        Ok(elsewhere) => elsewhere,
        // Whatever kept it from going, and however soon that passes: what is whole is the good backup that it was.
        Err(NotDeleted { error, is_whole }) => {
            if is_whole {
                env.store.deletion_undone(name).await?;
            }
            return Err(error);
        }
    };
    if elsewhere == Elsewhere::Gone {
        let of = name.to_owned();
        env.store.with(move |store| store.chain_gone(&of)).await?;
    }
    if let Err(e) = storage.delete(&root.manifest()?).await {
        // A lock, or a key that may not delete: then all of it is still there, and it is as good as before.
        if elsewhere == Elsewhere::Nothing && is_all_there(storage, root, &named).await.is_ok_and(|all| all) {
            env.store.deletion_undone(name).await?;
        }
        return Err(e);
    }
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
    if root.is_folder() {
        storage.delete(&root.attempt()?).await?;
        ctx.meter.object_done();
    }
    ctx.meter.info(format!("deleted {}", counted(total, "object")));
    Ok(())
}

/// What an interrupted backup or delete left.
async fn delete_unfinished(ctx: &Context, storage: &dyn Storage, root: &BackupRoot, held: Held) -> Result<()> {
    ctx.meter.set_phase("delete what an attempt left");
    match held {
        Held::Nothing => ctx.meter.info("nothing of it is in the storage"),
        Held::Unfinished(owner) => {
            let home_id = owner.home_id.unwrap_or_default();
            let gone = discard(storage, root, &owner.attempt_id, &home_id).await?;
            ctx.meter.info(format!("deleted {} of an attempt that was not finished", counted(gone, "object")));
        }
        Held::Unreadable => {
            let what = format!("{}/{} cannot be read", storage.place(), root.attempt()?);
            return Err(Error::new(ErrorKind::Corrupt, what)
                .hint(format!("nothing says which objects belong to it; remove the folder {} by hand", root.key())));
        }
        Held::Complete(..) => return Err(Error::new(ErrorKind::Internal, "a backup was taken for an attempt")),
    }
    Ok(())
}
