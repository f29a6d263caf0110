//! One attempt at one job, from its claim to its end in the store.
//!
//! What a daemon that stopped unexpectedly was running is ended the same way: a backup that had come as far as its manifest
//! is adopted, anything else of it is removed, and its job goes on by its retry policy.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::super::env::Env;
use super::super::progress::{Log, Sampler};
use super::{Done, Work, runner_of};
use crate::config::Settings;
use crate::control::engine_notes::surroundings;
use crate::domain::job_kind::OnBackup;
use crate::engine::{Context, Limits, Meter};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::throttle::Limiter;
use crate::store::{Claimed, Outcome, blocking};

/// What ends an attempt before its time.
#[derive(Debug, Clone, Default)]
pub struct JobStop {
    /// It is to end, and to clean up behind itself.
    pub cancel: CancellationToken,
    /// The daemon ends: what others do is left to them.
    pub leave: CancellationToken,
}

/// How soon another bandwidth limit counts for a job that runs.
const LOOK_AT_LIMIT: Duration = Duration::from_secs(5);

/// The end of a job is written again and again until the store takes it: without it the job would run twice.
const STORE_PAUSE: Duration = Duration::from_millis(500);
const STORE_TRIES: u32 = 120;

/// Makes the attempt and writes how it ended. Never fails: a failure is an end too.
pub async fn make_attempt(env: &Env, claimed: Claimed, stop: JobStop) {
    let (id, attempt) = (claimed.job.id, claimed.job.attempt);
    let sampler = Sampler::start(env.store.clone(), id, attempt);
    // On a thread of its own: a panic ends this attempt and not the daemon, and what an engine does between two awaits
    // does not hold the others up.
    let storage = claimed.job.storage.clone();
    let (own, handle) = (env.clone(), tokio::runtime::Handle::current());
    let (meter, log) = (Arc::clone(&sampler.meter), sampler.log.clone());
    let attempt = tokio::task::spawn_blocking(move || handle.block_on(attempt_of(own, claimed, stop, meter, log)));
    let result = match attempt.await {
        // What reads and writes a storage does not know what it is called here.
        Ok(result) => result.map_err(|e| match &storage {
            Some(name) => e.of_storage(name),
            None => e,
        }),
        Err(e) => Err(Error::new(ErrorKind::Internal, "the attempt ended by a bug in mongokeep").source(e)),
    };
    sampler.stop().await;
    finish(env, id, result).await;
}

async fn attempt_of(env: Env, claimed: Claimed, stop: JobStop, meter: Arc<Meter>, log: Log) -> Result<Done> {
    let home = env.home.clone();
    let settings = blocking(move || Settings::load(&home)).await?;
    if claimed.job.kind.entry().on_backup == OnBackup::Makes && !settings.backup_enabled() {
        return Err(Error::new(ErrorKind::Conflict, "backup management is off (backup.enabled = false)")
            .hint("mongokeep settings set backup.enabled true"));
    }
    let limits = Limits {
        parallel_collections: settings.parallel_collections(),
        split_bytes: settings.split_bytes(),
        parallel_parts: settings.parallel_parts(),
        storage_wait: settings.storage_wait(),
        read_back: settings.read_back(),
        ..Limits::default()
    };
    let around = surroundings(&env.store, &settings, claimed.request.identity_file());
    let JobStop { cancel, leave } = stop;
    let limiter = Limiter::new(settings.bandwidth_limit());
    let ctx = Context { cancel, leave, meter, limits, limiter: limiter.clone(), around };
    let work = Work { env, ctx, log, claimed };
    let runner = runner_of(&work.claimed.request);
    tokio::select! {
        result = runner.attempt(&work) => result,
        never = follow_limit(&work.env, &limiter) => match never {},
    }
}

/// Keeps `limiter` at what the settings say: an urgent restore is let go without being started again.
async fn follow_limit(env: &Env, limiter: &Limiter) -> Infallible {
    loop {
        tokio::time::sleep(LOOK_AT_LIMIT).await;
        let last_good = env.settings.clone();
        if let Ok(settings) = blocking(move || Ok(last_good.settings())).await {
            limiter.set(settings.bandwidth_limit());
        }
    }
}

/// Ends the attempt that a daemon which is gone was in: it stopped unexpectedly, or left what others do to the next one.
pub async fn recover_attempt(env: &Env, claimed: Claimed, stop: JobStop) {
    let id = claimed.job.id;
    let cancel_requested = claimed.job.cancel_requested;
    let sampler = Sampler::start(env.store.clone(), id, claimed.job.attempt);
    if claimed.was_left {
        sampler.meter.set_phase("following what went on without a daemon");
    } else {
        sampler.meter.set_phase("cleaning up after a daemon that stopped unexpectedly");
        sampler.meter.warn("the daemon that ran this attempt stopped unexpectedly");
    }
    let last_good = env.settings.clone();
    // Settings that cannot be read are no reason to leave something half done.
    let settings = blocking(move || Ok(last_good.settings())).await;
    let around = settings
        .map(|settings| surroundings(&env.store, &settings, claimed.request.identity_file()))
        .unwrap_or_default();
    let JobStop { cancel, leave } = stop;
    let ctx = Context { cancel, leave, meter: Arc::clone(&sampler.meter), around, ..Context::default() };
    let work = Work { env: env.clone(), ctx, log: sampler.log.clone(), claimed };
    let result = runner_of(&work.claimed.request).recover(&work).await;
    drop(work);
    sampler.stop().await;
    // A person who had asked to end it gets that, once it is cleaned up.
    let result = match result {
        Err(e) if e.kind() == ErrorKind::Interrupted && cancel_requested => Err(Error::cancelled()),
        other => other,
    };
    finish(env, id, result).await;
}

/// A cancel is what a person asked for; when the daemon is ending, the job goes back to the queue.
async fn outcome(env: &Env, id: i64, result: Result<Done>) -> Outcome {
    match result {
        Ok(entry) => Outcome::Succeeded(entry),
        Err(e) if e.kind() == ErrorKind::LeftRunning => Outcome::LeftRunning(e),
        Err(e) if e.kind() == ErrorKind::Cancelled => {
            let asked = env.store.is_cancel_requested(id).await.unwrap_or(true);
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
async fn finish(env: &Env, id: i64, result: Result<Done>) {
    let outcome = Arc::new(outcome(env, id, result).await);
    for tried in 0..STORE_TRIES {
        let present = Arc::clone(&outcome);
        match env.store.with(move |store| store.finish(id, &present)).await {
            Ok(job) => {
                info!(job = id, state = ?job.state, error = job.error.as_deref().unwrap_or(""), "ended");
                return;
            }
            Err(e) if tried == 0 => error!(job = id, "its end could not be stored, trying again: {e}"),
            Err(_) => {}
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
    error!(job = id, "its end could not be stored; the next daemon ends it");
}
