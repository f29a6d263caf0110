//! A restore job: the plan that was confirmed, carried out.

use async_trait::async_trait;

use super::super::env::Env;
use super::storages::open_storage;
use super::{Done, JobRunner, Work};
use crate::artifact::keys::Keys;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Envelope;
use crate::domain::backup::{BackupState, Model};
use crate::domain::clock;
use crate::domain::pitr::{self, Archive, PlannedReplay};
use crate::domain::restore::{LeftOut, PlannedAction, RestorePlan, RestoreRequest};
use crate::domain::service::Service;
use crate::domain::text::counted;
use crate::engine::contract::{
    BeforeWriting, Confirmed, Engine, OplogTail, RestoreReport, RestoreSource, RestoreTarget,
};
use crate::engine::{Context, backup_reader, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Claimed, NeededBase};

/// Carries out a plan. One that may have begun to write is never tried again by itself.
pub struct RestoreRunner<'a> {
    pub request: &'a RestoreRequest,
    pub plan: &'a RestorePlan,
}

#[async_trait]
impl JobRunner for RestoreRunner<'_> {
    async fn attempt(&self, work: &Work) -> Result<Done> {
        run_restore(work, self.request, self.plan).await.map(|()| None)
    }

    async fn recover(&self, work: &Work) -> Result<Done> {
        if follow(work, self.request, self.plan).await? {
            return Ok(None);
        }
        let error = interrupted(&work.claimed, self.request, self.plan);
        match clean_up(work, self.request, self.plan).await {
            Ok(None) => Err(error),
            Ok(Some(done)) => {
                let what = format!("the daemon stopped unexpectedly during this restore: {done}");
                let again = format!("restore again: {}", self.request.command(self.plan));
                Err(Error::new(ErrorKind::Failed, what).hint(again))
            }
            Err(e) => Err(e.context("the daemon stopped unexpectedly during this restore")),
        }
    }
}

/// What a restore has before its engine is asked.
struct Prepared {
    engine: &'static dyn Engine,
    source: RestoreSource,
    /// The target, unless that is a folder.
    service: Option<Service>,
    /// The service, when its engine stops recording for this.
    by_engine: Option<String>,
}

async fn prepare(work: &Work, request: &RestoreRequest, plan: &RestorePlan) -> Result<Prepared> {
    let Work { env, ctx, .. } = work;
    let backup = env.store.backup(request.backup_of(plan)).await?;
    plan.check_source(&backup)?;
    let service = match request.data_folder {
        None => Some(env.store.service(&request.to).await?),
        Some(_) => None,
    };
    let (location, storage) = open_storage(env, ctx, &backup.storage).await?;
    ctx.meter.set_phase("reading the manifest");
    let root = BackupRoot::of(&backup)?;
    // An archive of mongodump is read to its end for it.
    let reading = ctx.cancel.run_until_cancelled(backup_reader::read_manifest(storage.as_ref(), &root));
    let manifest = reading.await.unwrap_or_else(|| Err(Error::cancelled()))?;
    let tail = match &plan.point_in_time {
        Some(replay) => Some(tail(env, ctx, &manifest.envelope, replay).await?),
        None => None,
    };
    let source = RestoreSource { storage, location: location.config, manifest, tail, keys: Keys::default() };
    if source.manifest.envelope.name != plan.backup || source.until().if_known() != plan.consistent_at_ts {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("backup {} is no longer the one the plan was made for", backup.name),
        )
        .hint("nothing was written; make the plan again"));
    }
    let by_engine = match &service {
        Some(service) if records_itself(service)? => Some(service.name.clone()),
        Some(_) | None => None,
    };
    Ok(Prepared { engine: engine(backup.engine, backup.model)?, source, service, by_engine })
}

async fn run_restore(work: &Work, request: &RestoreRequest, plan: &RestorePlan) -> Result<()> {
    let Work { env, ctx, claimed, .. } = work;
    if let Some(first) = &plan.safety_backup {
        must_be_good(env, &first.name).await?;
    }
    let Prepared { engine, source, service, by_engine } = prepare(work, request, plan).await?;
    let target = RestoreTarget::of(service.as_ref(), request)?;
    let writes = Writes { env, job: claimed.job.id, by_engine: by_engine.as_deref() };
    let confirmed = Confirmed { attempt_id: &claimed.attempt_id, request, plan };
    let report = match engine.restore(ctx, source, target, confirmed, &writes).await {
        Ok(report) => report,
        Err(e) => {
            not_recorded(work, &e, by_engine.as_deref()).await;
            return Err(e);
        }
    };
    restored(work, report, by_engine.as_deref()).await;
    Ok(())
}

/// Says that nothing is recorded after a restore that failed: nobody would want a base of what it left.
async fn not_recorded(work: &Work, error: &Error, by_engine: Option<&str>) {
    let Some(service) = by_engine.filter(|_| error.kind() != ErrorKind::LeftRunning) else { return };
    let (of, id) = (service.to_owned(), work.claimed.job.id);
    let asked = work.env.store.with(move |store| {
        let wrote = store.jobs_writing()?.contains(&id);
        Ok(store.slicing_wanted()?.into_iter().find(|wanted| wrote && wanted.service == of))
    });
    if let Ok(Some(wanted)) = asked.await {
        work.log
            .warn(format!(
                "the engine stopped recording the oplog for this restore, and nothing of {service} is recorded before it is \
                 restored again, or has a new base: mongokeep schedule run {}",
                wanted.schedule
            ))
            .await;
    }
}

/// Goes on with the restore that the engine had begun for a daemon that is gone. Says whether there was one.
async fn follow(work: &Work, request: &RestoreRequest, plan: &RestorePlan) -> Result<bool> {
    let Some(began) = &work.claimed.engine_name else { return Ok(false) };
    let Prepared { engine, source, service, by_engine } = match prepare(work, request, plan).await {
        Ok(prepared) => prepared,
        // What cannot be looked at cannot be followed.
        Err(e) => {
            work.ctx.meter.warn(e.full());
            return Ok(false);
        }
    };
    let target = RestoreTarget::of(service.as_ref(), request)?;
    let followed = engine.follow_restore(&work.ctx, &source, target, plan, began).await;
    if let Err(e) = &followed {
        not_recorded(work, e, by_engine.as_deref()).await;
    }
    let Some(report) = followed? else { return Ok(false) };
    restored(work, report, by_engine.as_deref()).await;
    Ok(true)
}

/// Says what a restore that is done did, and has the oplog recorded again.
async fn restored(work: &Work, report: RestoreReport, by_engine: Option<&str>) {
    let Work { ctx, log, .. } = work;
    let (not_asked_for, others): (Vec<&LeftOut>, Vec<&LeftOut>) =
        report.left_out.iter().partition(|left| left.is_not_included());
    if !not_asked_for.is_empty() {
        ctx.meter.info(format!("not included: {} of the backup", counted(not_asked_for.len() as u64, "collection")));
    }
    for left in others {
        log.warn(format!("left out: {}: {}", left.what, left.why)).await;
    }
    if let Some(service) = by_engine
        && let Err(e) = record_again(work, service).await
    {
        log.warn(format!("a new base is needed before the oplog is recorded again, and could not be queued: {e}"))
            .await;
    }
}

/// Whether the engine of a service records its oplog by itself, and stops that for a restore.
fn records_itself(service: &Service) -> Result<bool> {
    Ok(engine(service.engine, Model::Logical)?.recording().is_some())
}

/// Queues the base after which the engine goes on recording, and says so. The recorder switches it on when it is there.
async fn record_again(work: &Work, service: &str) -> Result<()> {
    let Work { env, log, .. } = work;
    let (settings, of) = (env.settings.clone(), service.to_owned());
    let asked = env.store.with(move |store| {
        let Some(wanted) = store.slicing_wanted()?.into_iter().find(|wanted| wanted.service == of) else {
            return Ok(None);
        };
        let compression = settings.settings().compression();
        let made = store.queue_needed_base(&of, Archive::BY_ENGINE, compression, clock::now())?;
        Ok(Some((wanted.schedule, made)))
    });
    let stopped = "the engine stopped recording the oplog for this restore, and leaves that off";
    let text = match asked.await? {
        None => format!("{stopped}; no point-in-time schedule of {service} is on that would switch it on again"),
        Some((schedule, NeededBase::Queued(job))) => format!(
            "{stopped}: job {} makes a new base by schedule {schedule}, and then it is switched on again",
            job.id
        ),
        Some((schedule, NeededBase::Met | NeededBase::Waits)) => {
            format!("{stopped}: it is switched on again after the next base of schedule {schedule}")
        }
    };
    log.warn(text).await;
    Ok(())
}

/// What the engine can do about a restore that a killed daemon left.
async fn clean_up(work: &Work, request: &RestoreRequest, plan: &RestorePlan) -> Result<Option<String>> {
    let Work { env, claimed, .. } = work;
    let backup = env.store.backup(request.backup_of(plan)).await?;
    let target = match request.data_folder {
        None => Some(env.store.service(&request.to).await?),
        Some(_) => None,
    };
    let target = RestoreTarget::of(target.as_ref(), request)?;
    engine(backup.engine, backup.model)?.abandoned_restore(target, &claimed.attempt_id, plan).await
}

/// Says what the target may look like now.
fn interrupted(claimed: &Claimed, request: &RestoreRequest, plan: &RestorePlan) -> Error {
    let target = plan.target();
    if !claimed.wrote {
        return Error::new(
            ErrorKind::Interrupted,
            "the daemon stopped unexpectedly before this restore wrote anything",
        )
        .hint(format!("restore again: {}", request.command(plan)));
    }
    let replaced = plan.namespaces.iter().filter(|n| n.action == PlannedAction::Replace).count();
    Error::new(
        ErrorKind::Failed,
        format!(
            "the daemon stopped unexpectedly during this restore: the target {target} is incomplete. Each of the {} namespaces of the \
             plan ({replaced} of them replaced) may be missing, partial or complete; all others are as they were",
            plan.namespaces.len()
        ),
    )
    .hint(format!("restore again: {}", request.command(plan)))
}

/// From the first write on a daemon that dies must not be followed by another attempt.
struct Writes<'a> {
    env: &'a Env,
    job: i64,
    /// The service, when its engine stops recording for this.
    by_engine: Option<&'a str>,
}

#[async_trait]
impl BeforeWriting for Writes<'_> {
    async fn before_writing(&self) -> Result<()> {
        if let Some(service) = self.by_engine {
            self.env.store.engine_restores(service, clock::now()).await?;
        }
        self.env.store.restore_writes(self.job).await
    }

    async fn began(&self, name: &str) -> Result<()> {
        self.env.store.engine_began(self.job, name).await
    }
}

/// The slices that the plan counts on: as they are now, so that a gap since then is found.
async fn tail(env: &Env, ctx: &Context, base: &Envelope, replay: &PlannedReplay) -> Result<OplogTail> {
    let (_, storage) = open_storage(env, ctx, &replay.archive.storage).await?;
    let replay = replay.clone();
    let (from, until) = (base.consistent_at_ts, replay.until);
    if replay.archive.is_by_engine() {
        // The engine looks by itself whether it has what leads there.
        let (archive, slices) = (replay.archive.clone(), Vec::new());
        return Ok(OplogTail { storage, archive, slices, until, keys: Keys::default() });
    }
    let found = env.store.with(move |store| {
        let slices = store.slices(&replay.service, &replay.archive, from, until)?;
        let path = pitr::path(&slices, from, until).map(|path| path.into_iter().cloned().collect());
        Ok((replay.archive, path))
    });
    let (archive, path) = found.await?;
    let slices = path.map_err(|broken| {
        let what = format!("the recorded oplog goes no further than position {}, the plan needs {until}", broken.at);
        Error::new(ErrorKind::Conflict, what).hint("nothing was written; make the plan again")
    })?;
    Ok(OplogTail { storage, archive, slices, until, keys: Keys::default() })
}

/// The safety backup ran before, since its job is older and of the same service; now it must be there.
async fn must_be_good(env: &Env, name: &str) -> Result<()> {
    let why = match env.store.backup(name).await {
        Ok(backup) if backup.state == BackupState::Succeeded => return Ok(()),
        Ok(backup) => backup.error.unwrap_or_else(|| "it is not complete".to_owned()),
        Err(e) if e.kind() == ErrorKind::NotFound => "it was cancelled or deleted".to_owned(),
        Err(e) => return Err(e),
    };
    Err(Error::new(ErrorKind::Conflict, format!("there is no safety backup {name} of the target: {why}"))
        .hint("nothing was written to the target; mend the cause and restore again"))
}
