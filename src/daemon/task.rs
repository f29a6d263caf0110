//! One attempt at one job, from its claim to its end in the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::env::Env;
use super::progress::{Log, Sampler};
use super::{backup, blocking, delete, restore, retention, verify};
use crate::config::Settings;
use crate::domain::job::JobRequest;
use crate::domain::storage::StorageLocation;
use crate::domain::text;
use crate::engine::{Context, Limits, Meter};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::retry::Backoff;
use crate::storage::throttle::Limiter;
use crate::storage::{Opener, Storage};
use crate::store::{BackupFacts, Claimed, Outcome};

/// The end of a job is written again and again until the store takes it: without it the job would run twice.
const STORE_PAUSE: Duration = Duration::from_millis(500);
const STORE_TRIES: u32 = 120;

/// Runs the attempt and writes how it ended. Never fails: a failure is an end too.
pub async fn run(env: &Env, claimed: Claimed, cancel: CancellationToken) {
    let (id, attempt) = (claimed.job.id, claimed.job.attempt);
    let sampler = Sampler::start(env.store.clone(), id, attempt);
    // On a thread of its own: a panic ends this attempt and not the daemon, and what an engine does between two awaits
    // does not hold the others up.
    let (own, handle) = (env.clone(), tokio::runtime::Handle::current());
    let (what, token, meter, log) = (claimed, cancel, Arc::clone(&sampler.meter), sampler.log.clone());
    let work = tokio::task::spawn_blocking(move || handle.block_on(work(own, what, token, meter, log)));
    let result = match work.await {
        Ok(result) => result,
        Err(e) => Err(Error::new(ErrorKind::Internal, "the attempt ended by a bug in mongokeep").source(e)),
    };
    sampler.stop().await;
    let outcome = outcome(env, id, result).await;
    finish(env, id, outcome).await;
}

async fn work(
    env: Env,
    claimed: Claimed,
    cancel: CancellationToken,
    meter: Arc<Meter>,
    log: Log,
) -> Result<Option<Box<BackupFacts>>> {
    let home = env.home.clone();
    let settings = blocking(move || Settings::load(&home)).await?;
    let limits = Limits {
        parallel_collections: settings.parallel_collections(),
        split_bytes: settings.split_bytes(),
        bandwidth_limit: settings.bandwidth_limit(),
        read_back: settings.read_back(),
        ..Limits::default()
    };
    let ctx = Context { cancel, meter, limits };
    match &claimed.request {
        JobRequest::Backup(request) => backup::run(&env, &ctx, &claimed, request, &settings).await.map(Some),
        JobRequest::Restore { request, plan } => {
            restore::run(&env, &ctx, &log, &claimed, request, plan).await.map(|()| None)
        }
        JobRequest::Delete { backup, keep_files, foreign } => {
            delete::run(&env, &ctx, backup, *keep_files, foreign.as_deref()).await.map(|()| None)
        }
        JobRequest::Verify { backup } => verify::run(&env, &ctx, &log, backup).await.map(|()| None),
        JobRequest::Retention { schedule } => retention::run(&env, &ctx, claimed.job.id, schedule).await.map(|()| None),
    }
}

/// A cancel is what a person asked for; when the daemon is ending, the job goes back to the queue.
pub async fn outcome(env: &Env, id: i64, result: Result<Option<Box<BackupFacts>>>) -> Outcome {
    match result {
        Ok(facts) => Outcome::Succeeded(facts),
        Err(e) if e.kind() == ErrorKind::Cancelled => {
            let store = env.store.clone();
            let asked = blocking(move || store.is_cancel_requested(id)).await.unwrap_or(true);
            if env.stopping.load(Ordering::SeqCst) && !asked {
                let error = Error::new(ErrorKind::Interrupted, "the daemon was stopped during this attempt");
                return Outcome::HandedBack(match e.hint_text() {
                    Some(hint) => error.hint(hint),
                    None => error.hint(format!("mongokeep job retry {id} tries again")),
                });
            }
            Outcome::Cancelled(e.hint_text().map(str::to_owned))
        }
        Err(e) => Outcome::Failed(e),
    }
}

/// Writes the end of an attempt into the store.
pub async fn finish(env: &Env, id: i64, outcome: Outcome) {
    let mut outcome = Some(outcome);
    for tried in 0..STORE_TRIES {
        let store = env.store.clone();
        let Some(present) = outcome.take() else { return };
        // An outcome is not cheap to clone, so it travels there and back.
        let written = tokio::task::spawn_blocking(move || {
            let result = store.finish(id, &present);
            (result, present)
        });
        match written.await {
            Ok((Ok(job), _)) => {
                info!(job = id, state = ?job.state, error = job.error.as_deref().unwrap_or(""), "ended");
                return;
            }
            Ok((Err(e), present)) => {
                if tried == 0 {
                    error!(job = id, "its end could not be stored, trying again: {e}");
                }
                outcome = Some(present);
            }
            Err(e) => {
                error!(job = id, "storing its end failed: {e}");
                return;
            }
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
    error!(job = id, "its end could not be stored; the next daemon ends it");
}

/// The storage called `name`, with calls repeated, and writes held back to the limit a person set.
///
/// Errors: see [`Opener::open`].
pub async fn open_storage(env: &Env, ctx: &Context, name: &str) -> Result<(StorageLocation, Arc<dyn Storage>)> {
    let (store, wanted) = (env.store.clone(), name.to_owned());
    let location = blocking(move || store.storage(&wanted)).await?;
    let meter = Arc::clone(&ctx.meter);
    let shown = format!("storage {}", text::escape(name));
    let on_wait = Arc::new(move |why: Option<&Error>| {
        let is_news = meter.set_waiting(why.map(|_| shown.clone()));
        match why {
            Some(e) if is_news => meter.warn(format!("waiting for {shown}: {e}")),
            None if is_news => meter.info(format!("{shown} answers again")),
            _ => {}
        }
    });
    let mut opener = Opener::new(&location.config, Backoff::default(), ctx.cancel.clone()).telling(on_wait);
    if let Some(limit) = ctx.limits.bandwidth_limit {
        opener = opener.limited(Limiter::new(Some(limit)));
    }
    let storage = opener.open(&ctx.cancel).await?;
    Ok((location, storage))
}

/// See [`super::folder::prepare`]. A disk that does not answer keeps a job that is cancelled no longer.
pub async fn prepare_folder(env: &Env, ctx: &Context, storage: &str) -> Result<()> {
    let (store, name) = (env.store.clone(), storage.to_owned());
    let prepared = blocking(move || super::folder::prepare(&store, &store.storage(&name)?));
    ctx.cancel.run_until_cancelled(prepared).await.unwrap_or_else(|| Err(Error::cancelled()))
}
