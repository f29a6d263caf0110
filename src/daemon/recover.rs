//! What a daemon that died was running.
//!
//! A backup that had come as far as its manifest is adopted; anything else of it is removed, and its job goes on by its
//! retry policy. A restore that may have begun to write is never tried again by itself.

use tokio_util::sync::CancellationToken;

use super::backup::settle;
use super::env::Env;
use super::progress::Sampler;
use super::task::{finish, open_storage, outcome};
use super::{blocking, facts, retention};
use crate::artifact::layout::BackupRoot;
use crate::domain::backup::BackupRequest;
use crate::domain::job::JobRequest;
use crate::domain::restore::{PlannedAction, RestorePlan, RestoreRequest};
use crate::engine::{Context, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{AttemptRecord, BackupFacts, Claimed};

/// Ends the attempt that `claimed` was in.
pub async fn recover(env: &Env, claimed: Claimed, cancel: CancellationToken) {
    let id = claimed.job.id;
    let sampler = Sampler::start(env.store.clone(), id, claimed.job.attempt);
    sampler.meter.set_phase("cleaning up after a daemon that stopped unexpectedly");
    sampler.meter.warn("the daemon that ran this attempt stopped unexpectedly");
    let ctx = Context { cancel, meter: std::sync::Arc::clone(&sampler.meter), limits: Limits::default() };
    let result = match &claimed.request {
        JobRequest::Backup(request) => backup(env, &ctx, &claimed, request).await.map(Some),
        JobRequest::Restore { request, plan } => Err(restore(&claimed, request, plan)),
        JobRequest::Delete { backup, .. } => {
            Err(died(id).hint(format!("mongokeep job retry {id} goes on with deleting {backup}")))
        }
        JobRequest::Verify { .. } => Err(died(id)),
        // What was half deleted is finished at once: until then it is in the way of its own record.
        JobRequest::Retention { .. } if claimed.job.cancel_requested => Err(died(id)),
        JobRequest::Retention { schedule } => retention::run(env, &ctx, id, schedule).await.map(|()| None),
    };
    sampler.stop().await;
    // A person who had asked to end it gets that, once it is cleaned up.
    let result = match result {
        Err(e) if e.kind() == ErrorKind::Interrupted && claimed.job.cancel_requested => Err(Error::cancelled()),
        other => other,
    };
    let outcome = outcome(env, id, result).await;
    finish(env, id, outcome).await;
}

fn died(id: i64) -> Error {
    Error::new(ErrorKind::Interrupted, "the daemon stopped unexpectedly during this attempt")
        .hint(format!("mongokeep job retry {id} tries again"))
}

async fn backup(env: &Env, ctx: &Context, claimed: &Claimed, request: &BackupRequest) -> Result<Box<BackupFacts>> {
    let settled = async {
        let (_, storage) = open_storage(env, ctx, &request.storage).await?;
        let root = BackupRoot::new(&request.folder, &request.name)?;
        let (store, name) = (env.store.clone(), request.name.clone());
        let attempts: Vec<AttemptRecord> = blocking(move || store.unclean_attempts(&name, None)).await?;
        settle(env, storage.as_ref(), &root, &attempts).await
    };
    match settled.await {
        Ok(Some(manifest)) => {
            ctx.meter.info("its manifest had been written: the backup is complete");
            Ok(Box::new(facts::of(&manifest.envelope)))
        }
        Ok(None) => {
            ctx.meter.info("what it had written is removed");
            Err(died(claimed.job.id))
        }
        Err(e) => {
            // Nothing is known; the next attempt, or a delete, looks again before it writes.
            ctx.meter.warn(format!("what it had written could not be removed yet: {e}"));
            Err(died(claimed.job.id))
        }
    }
}

/// Says what the target may look like now.
fn restore(claimed: &Claimed, request: &RestoreRequest, plan: &RestorePlan) -> Error {
    let target = &plan.to_service;
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
