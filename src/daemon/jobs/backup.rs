//! A backup job: what earlier attempts left is settled, then the engine makes the backup.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::env::Env;
use super::storages::{claim_folder, open_storage};
use super::{Done, JobRunner, Work, block_gc, stopped_unexpectedly};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Manifest;
use crate::control::catalogue_entry::catalogue_entry;
use crate::domain::backup::{BackupRequest, Model};
use crate::domain::service::Service;
use crate::domain::storage::StorageLocation;
use crate::domain::text::escape;
use crate::engine::attempt::discard;
use crate::engine::contract::{BackupOrder, Wanted, must_make};
use crate::engine::{Context, backup_reader, engine};
use crate::error::{ErrorKind, Result};
use crate::storage::{Storage, backends};
use crate::store::{AttemptRecord, CatalogueEntry};

/// The longest an attempt that failed looks at what it left. The next one does it again, as does a delete.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// Makes the backup that was asked for.
pub struct BackupRunner<'a>(pub &'a BackupRequest);

#[async_trait]
impl JobRunner for BackupRunner<'_> {
    async fn attempt(&self, work: &Work) -> Result<Done> {
        run_backup(work, self.0).await.map(Some)
    }

    async fn recover(&self, work: &Work) -> Result<Done> {
        recover_backup(work, self.0).await.map(Some)
    }
}

async fn run_backup(work: &Work, request: &BackupRequest) -> Result<Box<CatalogueEntry>> {
    let Work { env, ctx, claimed, .. } = work;
    let service = env.store.service(&request.service).await?;
    // Nothing that was asked for is replaced by what there is.
    let engine = engine(service.engine, request.model)?;
    claim_folder(env, ctx, &request.storage).await?;
    let (location, storage) = open_storage(env, ctx, &request.storage).await?;
    backends::check_folder(&location.config, &request.folder)?;
    let order = order(work, request, service, &location)?;
    // The storage may have changed since the job was queued.
    let (selection, folder) = (&request.selection, &*request.folder);
    must_make(engine, &Wanted { backup_type: request.backup_type, selection, location: &location.config, folder })?;
    let root = BackupRoot::new(&request.folder, &request.name)?;

    let (name, present) = (request.name.clone(), claimed.attempt_id.clone());
    let earlier = env.store.with(move |store| store.unclean_attempts(&name, Some(&present))).await?;
    if let Some(manifest) = settle(env, ctx, storage.as_ref(), &root, &earlier).await? {
        ctx.meter.info("an earlier attempt had written its manifest before it was interrupted: the backup is complete");
        return Ok(Box::new(catalogue_entry(&manifest.envelope)));
    }

    match engine.backup(ctx, Arc::clone(&storage), &order).await {
        Ok(envelope) => {
            // Others leave no blocks; what there is goes with the next of these, or with a deletion.
            if request.model == Model::Physical {
                block_gc::collect_left(env, ctx, storage.as_ref(), &request.folder).await;
            }
            Ok(Box::new(catalogue_entry(&envelope)))
        }
        // Others go on with it, and nothing of it is to be removed.
        Err(error) if error.kind() == ErrorKind::LeftRunning => Err(error),
        Err(error) => {
            // The engine has cleaned up behind itself; whether all of it worked is seen by trying once more. Once, for a
            // storage that was waited for already is not waited for again.
            let record = AttemptRecord {
                job: claimed.job.id,
                attempt: claimed.job.attempt,
                attempt_id: claimed.attempt_id.clone(),
            };
            let left = [record];
            let settled = async {
                let storage = crate::storage::open(&location.config).await?;
                settle(env, ctx, storage.as_ref(), &root, &left).await
            };
            let settled = tokio::time::timeout(SETTLE_LIMIT, settled).await;
            let why = match settled {
                Ok(Ok(_)) => None,
                Ok(Err(e)) => Some(e.to_string()),
                Err(_) => Some(format!("{} did not answer within {} s", storage.place(), SETTLE_LIMIT.as_secs())),
            };
            if let Some(why) = why {
                ctx.meter.warn(format!("what this attempt wrote is removed before the next one: {why}"));
            }
            Err(error)
        }
    }
}

/// Errors: `Conflict` for a storage whose key was never proven.
fn order(work: &Work, request: &BackupRequest, service: Service, location: &StorageLocation) -> Result<BackupOrder> {
    Ok(BackupOrder {
        service,
        location: location.config.clone(),
        name: request.name.clone(),
        attempt_id: work.claimed.attempt_id.clone(),
        home_id: work.env.home_id.clone(),
        folder: request.folder.clone(),
        selection: request.selection.clone(),
        compression: request.compression,
        encryption: location.config.encryption(&location.name)?,
        schedule: request.schedule.clone(),
        backup_type: request.backup_type,
    })
}

/// Goes on with what others do for the attempt, where somebody does.
async fn adopt(work: &Work, request: &BackupRequest) -> Result<Option<Box<CatalogueEntry>>> {
    let Work { env, ctx, .. } = work;
    let known = async {
        let service = env.store.service(&request.service).await?;
        let engine = engine(service.engine, request.model)?;
        Ok((service, engine, open_storage(env, ctx, &request.storage).await?))
    };
    let known: Result<_> = known.await;
    // What cannot be looked at cannot be gone on with; the next attempt says what is left of this one.
    let Ok((service, engine, (location, storage))) = known else { return Ok(None) };
    let order = order(work, request, service, &location)?;
    let adopted = engine.abandoned_backup(ctx, storage, &order).await?;
    Ok(adopted.map(|envelope| Box::new(catalogue_entry(&envelope))))
}

/// A backup that had come as far as its manifest is complete, and one that others went on with is followed to its end;
/// anything else of it is removed.
async fn recover_backup(work: &Work, request: &BackupRequest) -> Result<Box<CatalogueEntry>> {
    let Work { env, ctx, claimed, .. } = work;
    let failed = match adopt(work, request).await {
        Ok(Some(entry)) => return Ok(entry),
        Ok(None) => None,
        Err(e) if [ErrorKind::Cancelled, ErrorKind::LeftRunning].contains(&e.kind()) => return Err(e),
        // What others made of it is the end of this attempt, as that of its daemon is: another one may succeed.
        Err(e) => {
            ctx.meter.warn(e.full());
            Some(e)
        }
    };
    let settled = async {
        let (_, storage) = open_storage(env, ctx, &request.storage).await?;
        let root = BackupRoot::new(&request.folder, &request.name)?;
        let name = request.name.clone();
        let attempts = env.store.with(move |store| store.unclean_attempts(&name, None)).await?;
        settle(env, ctx, storage.as_ref(), &root, &attempts).await
    };
    match settled.await {
        Ok(Some(manifest)) => {
            ctx.meter.info("its manifest had been written: the backup is complete");
            return Ok(Box::new(catalogue_entry(&manifest.envelope)));
        }
        Ok(None) => ctx.meter.info("what it had written is removed"),
        // Nothing is known; the next attempt, or a delete, looks again before it writes.
        Err(e) => ctx.meter.warn(format!("what it had written could not be removed yet: {e}")),
    }
    match failed.filter(|_| claimed.was_left) {
        Some(e) => Err(e),
        None => Err(stopped_unexpectedly(claimed.job.id)),
    }
}

/// Ends attempts that were interrupted: one that had come as far as its manifest is the backup, whose manifest is
/// returned; what others left is removed.
///
/// Errors: the storage cannot be asked; then nothing is known, and nothing was decided.
async fn settle(
    env: &Env,
    ctx: &Context,
    storage: &dyn Storage,
    root: &BackupRoot,
    attempts: &[AttemptRecord],
) -> Result<Option<Manifest>> {
    if attempts.is_empty() {
        return Ok(None);
    }
    // Asked by `stat`: a storage that is not there at all is an error, and not a missing manifest.
    if storage.stat(&root.manifest()?).await?.is_some() {
        let manifest = backup_reader::read_manifest(storage, root).await?;
        if attempts.iter().any(|a| a.attempt_id == manifest.envelope.attempt_id) {
            return Ok(Some(manifest));
        }
        // Somebody else's backup of that name: ours left nothing it could be confused with.
        return Ok(None);
    }
    let noted = backup_reader::read_attempt(storage, root).await?;
    for attempt in attempts {
        let of_pbm = noted.as_ref().filter(|noted| noted.attempt_id == attempt.attempt_id);
        if let Some(name) = of_pbm.and_then(|noted| noted.pbm_name.as_deref()) {
            let name = escape(name);
            ctx.meter.warn(format!(
                "PBM's backup {name} was begun by an earlier attempt and is left alone: mongokeep storage sync lists it when it \
                 is done, pbm delete-backup {name} removes it"
            ));
        }
        match discard(storage, root, &attempt.attempt_id, &env.home_id).await {
            Ok(_) => {}
            // Another attempt has the name by now, so nothing of this one is there.
            Err(e) if e.kind() == ErrorKind::Conflict => {}
            Err(e) => return Err(e.context("removing what an earlier attempt left")),
        }
        env.store.attempt_clean(attempt.job, attempt.attempt).await?;
    }
    Ok(None)
}
