//! A restore job: the plan that was confirmed, carried out.

use async_trait::async_trait;

use super::blocking;
use super::env::Env;
use super::progress::Log;
use super::task::open_storage;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Envelope;
use crate::domain::backup::BackupState;
use crate::domain::pitr::{self, PlannedReplay};
use crate::domain::restore::{LeftOut, RestorePlan, RestoreRequest};
use crate::engine::contract::{BeforeWriting, Confirmed, OplogTail, RestoreSource};
use crate::engine::{Context, backup_reader, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Claimed;

pub async fn run(
    env: &Env,
    ctx: &Context,
    log: &Log,
    claimed: &Claimed,
    request: &RestoreRequest,
    plan: &RestorePlan,
) -> Result<()> {
    let (store, name) = (env.store.clone(), request.backup_of(plan).to_owned());
    let backup = blocking(move || store.backup(&name)).await?;
    plan.check_source(&backup)?;
    if let Some(first) = &plan.safety_backup {
        must_be_good(env, &first.name).await?;
    }
    let (store, name) = (env.store.clone(), request.to.clone());
    let target = blocking(move || store.service(&name)).await?;
    let (_, storage) = open_storage(env, ctx, &backup.storage).await?;
    ctx.meter.set_phase("reading the manifest");
    let manifest =
        backup_reader::read_manifest(storage.as_ref(), &BackupRoot::new(&backup.folder, &backup.name)?).await?;
    let tail = match &plan.point_in_time {
        Some(replay) => Some(tail(env, ctx, &manifest.envelope, replay).await?),
        None => None,
    };
    let source = RestoreSource { storage, manifest, tail };
    if source.manifest.envelope.name != plan.backup || Some(source.until()) != plan.consistent_at_ts {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("backup {} is no longer the one the plan was made for", backup.name),
        )
        .hint("nothing was written; make the plan again"));
    }
    let writes = Writes { env, job: claimed.job.id };
    let engine = engine(backup.engine, backup.model)?;
    let report = engine.restore(ctx, source, &target, Confirmed { request, plan }, &writes).await?;
    ctx.meter.info(format!(
        "restored {} namespaces: {} documents loaded, {} operations of the oplog applied",
        report.namespaces, report.documents, report.operations
    ));
    let (not_asked_for, others): (Vec<&LeftOut>, Vec<&LeftOut>) =
        report.left_out.iter().partition(|left| left.is_not_included());
    if !not_asked_for.is_empty() {
        ctx.meter.info(format!("{} collections of the backup were not included", not_asked_for.len()));
    }
    for left in others {
        log.warn(format!("left out: {}: {}", left.what, left.why)).await;
    }
    Ok(())
}

/// From the first write on a daemon that dies must not be followed by another attempt.
struct Writes<'a> {
    env: &'a Env,
    job: i64,
}

#[async_trait]
impl BeforeWriting for Writes<'_> {
    async fn before_writing(&self) -> Result<()> {
        let (store, id) = (self.env.store.clone(), self.job);
        blocking(move || store.restore_writes(id)).await
    }
}

/// The slices that the plan counts on: as they are now, so that a gap since then is found.
async fn tail(env: &Env, ctx: &Context, base: &Envelope, replay: &PlannedReplay) -> Result<OplogTail> {
    let (_, storage) = open_storage(env, ctx, &replay.archive.storage).await?;
    let (store, replay) = (env.store.clone(), replay.clone());
    let (from, until) = (base.consistent_at_ts, replay.until);
    let found = blocking(move || {
        let slices = store.slices(&replay.service, &replay.archive, from, until)?;
        let path = pitr::path(&slices, from, until).map(|path| path.into_iter().cloned().collect());
        Ok((replay.archive, path))
    });
    let (archive, path) = found.await?;
    let slices = path.map_err(|broken| {
        let what = format!("the recorded oplog goes no further than position {}, the plan needs {until}", broken.at);
        Error::new(ErrorKind::Conflict, what).hint("nothing was written; make the plan again")
    })?;
    Ok(OplogTail { storage, archive, slices, until })
}

/// The safety backup ran before, since its job is older and of the same service; now it must be there.
async fn must_be_good(env: &Env, name: &str) -> Result<()> {
    let (store, wanted) = (env.store.clone(), name.to_owned());
    let why = match blocking(move || store.backup(&wanted)).await {
        Ok(backup) if backup.state == BackupState::Succeeded => return Ok(()),
        Ok(backup) => backup.error.unwrap_or_else(|| "it is not complete".to_owned()),
        Err(e) if e.kind() == ErrorKind::NotFound => "it was cancelled or deleted".to_owned(),
        Err(e) => return Err(e),
    };
    Err(Error::new(ErrorKind::Conflict, format!("there is no safety backup {name} of the target: {why}"))
        .hint("nothing was written to the target; mend the cause and restore again"))
}
