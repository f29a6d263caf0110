//! The loop: claim what may run, watch what runs, end in order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::env::Env;
use super::lock::{DaemonLock, Stage};
use super::metrics::Metrics;
use super::notify::Telling;
use super::scheduler::Scheduler;
use super::service_manager::ServiceManager;
use super::slicer::Slicers;
use super::{STOP_LIMIT, blocking, recover, task};
use crate::config::Home;
use crate::error::{Result, io};
use crate::store::{Claimed, Store};

/// How often the store is asked whether anybody changed it. The question costs microseconds.
const LOOK: Duration = Duration::from_millis(100);
/// A daemon in the background ends after this long without work.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// Of [`STOP_LIMIT`], so long a restore that writes may go on; the rest is for saying where it was stopped.
const RESTORE_LIMIT: Duration = Duration::from_secs(10);
/// After the store failed (full disk, busy), it is left alone this long.
const PAUSE: Duration = Duration::from_secs(1);

struct Runner {
    env: Env,
    lock: DaemonLock,
    tasks: JoinSet<i64>,
    cancels: HashMap<i64, CancellationToken>,
    /// Jobs of a daemon that died, until it is known how they go on.
    in_recovery: HashSet<i64>,
    /// Away while it works.
    scheduler: Option<Scheduler>,
    since: chrono::DateTime<Utc>,
    seen: Option<u64>,
    retry_due: Option<chrono::DateTime<Utc>>,
    idle_since: Instant,
    telling: Telling,
    slicers: Slicers,
    metrics: Metrics,
}

pub async fn run(home: Home, store: Store, lock: DaemonLock, background: bool) -> Result<()> {
    let env = Env::new(home, store)?;
    let telling = Telling::start(&env);
    let slicers = Slicers::start(&env);
    let metrics = Metrics::start(&env);
    let mut runner = Runner {
        env,
        lock,
        tasks: JoinSet::new(),
        cancels: HashMap::new(),
        in_recovery: HashSet::new(),
        scheduler: None,
        since: Utc::now(),
        seen: None,
        retry_due: None,
        idle_since: Instant::now(),
        telling,
        slicers,
        metrics,
    };
    let listen = |kind| signal(kind).map_err(|e| io("listening for signals", e));
    let (mut term, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    // A closed terminal is no reason to end a foreground daemon under nohup; a background one has none.
    let mut hangup = listen(SignalKind::hangup())?;
    runner.recover().await?;
    runner.lock.set_stage(Stage::Ready)?;
    let mut manager = ServiceManager::from_environment();
    manager.ready().await;
    loop {
        if let Err(e) = runner.look().await {
            error!("the store: {e}");
            tokio::time::sleep(PAUSE).await;
        }
        if background && runner.may_go_idle().await {
            info!("nothing to do for {} s", IDLE_LIMIT.as_secs());
            tokio::join!(runner.telling.end(), runner.slicers.end(), runner.metrics.end());
            return Ok(());
        }
        // Here and nowhere else: it says that this loop goes round.
        manager.alive();
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {}
            Some(ended) = runner.tasks.join_next() => runner.ended(ended),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    manager.stopping().await;
    runner.stop().await
}

impl Runner {
    /// Ends what a daemon that died was running. Done beside the loop: a storage that does not answer must not keep
    /// the daemon from answering.
    async fn recover(&mut self) -> Result<()> {
        let store = self.env.store.clone();
        for claimed in blocking(move || store.abandoned()).await? {
            warn!(job = claimed.job.id, "its daemon stopped unexpectedly");
            self.in_recovery.insert(claimed.job.id);
            self.spawn(claimed, true);
        }
        let store = self.env.store.clone();
        let queued = blocking(move || store.queue_retentions()).await?;
        if queued > 0 {
            info!(jobs = queued, "retention has something to delete");
        }
        Ok(())
    }

    fn spawn(&mut self, claimed: Claimed, abandoned: bool) {
        let id = claimed.job.id;
        let cancel = CancellationToken::new();
        self.cancels.insert(id, cancel.clone());
        let env = self.env.clone();
        self.tasks.spawn(async move {
            if abandoned {
                recover::recover(&env, claimed, cancel).await;
            } else {
                task::run(&env, claimed, cancel).await;
            }
            id
        });
    }

    fn ended(&mut self, ended: std::result::Result<i64, tokio::task::JoinError>) {
        match ended {
            Ok(id) => {
                self.cancels.remove(&id);
                if self.in_recovery.remove(&id) {
                    self.scheduler.iter_mut().for_each(Scheduler::look_again);
                }
            }
            // Its job is found as abandoned by the next daemon; `task::run` catches panics of the work itself.
            Err(e) => {
                error!("a job's task ended early: {e}");
                self.in_recovery.clear();
            }
        }
        self.seen = None;
        self.idle_since = Instant::now();
    }

    /// Looks at the store if it changed or a retry is due: claims, and passes cancels on.
    async fn look(&mut self) -> Result<()> {
        let store = self.env.store.clone();
        let version = blocking(move || store.data_version()).await?;
        self.schedule(version).await?;
        let due = self.retry_due.is_some_and(|at| at <= Utc::now());
        if self.seen == Some(version) && !due {
            return Ok(());
        }
        self.seen = Some(version);
        loop {
            let (store, settings) = (self.env.store.clone(), self.env.settings.clone());
            // A settings file that cannot be read must not stop what is already queued.
            let claimed = blocking(move || store.claim(settings.settings().concurrency()));
            let Some(claimed) = claimed.await? else { break };
            info!(job = claimed.job.id, attempt = claimed.job.attempt, kind = ?claimed.job.kind, "claimed");
            self.spawn(claimed, false);
        }
        for (id, cancel) in &self.cancels {
            let (store, id) = (self.env.store.clone(), *id);
            if !cancel.is_cancelled() && blocking(move || store.is_cancel_requested(id)).await? {
                info!(job = id, "cancelling");
                cancel.cancel();
            }
        }
        let store = self.env.store.clone();
        self.retry_due = blocking(move || store.next_retry()).await?;
        Ok(())
    }

    /// Turns what is due into jobs.
    async fn schedule(&mut self, version: u64) -> Result<()> {
        let mut scheduler = self.scheduler.take().unwrap_or_else(|| Scheduler::new(self.since));
        if !scheduler.is_time(Utc::now(), version) {
            self.scheduler = Some(scheduler);
            return Ok(());
        }
        let (store, settings) = (self.env.store.clone(), self.env.settings.clone());
        let in_recovery = self.in_recovery.clone();
        let looked = blocking(move || {
            // With settings that cannot be read the job is queued, and fails for all to see.
            let outcome = scheduler.look(&store, &settings.settings(), Utc::now(), version, &in_recovery);
            Ok((scheduler, outcome))
        });
        let (scheduler, outcome) = looked.await?;
        self.scheduler = Some(scheduler);
        if outcome? {
            self.seen = None;
        }
        Ok(())
    }

    /// Whether the daemon may end for lack of work. Says that it is going before it looks a last time, so that whoever
    /// queues something meanwhile knows to start another one.
    async fn may_go_idle(&mut self) -> bool {
        if !self.tasks.is_empty() || self.scheduler.as_ref().is_some_and(Scheduler::is_needed) {
            self.idle_since = Instant::now();
        }
        if self.idle_since.elapsed() < IDLE_LIMIT || self.lock.set_stage(Stage::Stopping).is_err() {
            return false;
        }
        let store = self.env.store.clone();
        let work =
            move || Ok(store.jobs_unfinished()? + store.schedules_enabled()? + u64::from(!store.outbox_is_empty()?));
        if blocking(work).await.is_ok_and(|n| n == 0) {
            return true;
        }
        self.idle_since = Instant::now();
        self.seen = None;
        let _ = self.lock.set_stage(Stage::Ready);
        false
    }

    /// Ends what runs, within [`STOP_LIMIT`]: it is cleaned up and handed back to the next daemon. A restore that writes
    /// gets [`RESTORE_LIMIT`] to finish, because its target is of no use half way. What does not end by then is
    /// abandoned to the next daemon.
    async fn stop(mut self) -> Result<()> {
        info!(jobs = self.tasks.len(), "asked to end");
        self.lock.set_stage(Stage::Stopping)?;
        self.env.stopping.store(true, Ordering::SeqCst);
        let store = self.env.store.clone();
        let writing = blocking(move || store.jobs_writing()).await.unwrap_or_default();
        self.cancels.iter().filter(|(id, _)| !writing.contains(id)).for_each(|(_, cancel)| cancel.cancel());
        let began = Instant::now();
        // They have a while to store what they hold, beside the jobs.
        self.slicers.stop();
        if !writing.is_empty() && !self.all_ended(RESTORE_LIMIT).await {
            warn!("a restore that writes is not done after {} s and is cancelled", RESTORE_LIMIT.as_secs());
        }
        self.cancels.values().for_each(CancellationToken::cancel);
        let in_time = self.all_ended(STOP_LIMIT.saturating_sub(began.elapsed())).await;
        // Before the lock is free: the next daemon would do the same.
        tokio::join!(self.telling.end(), self.slicers.end(), self.metrics.end());
        if !in_time {
            warn!("jobs did not end within {} s and are left to the next daemon", STOP_LIMIT.as_secs());
            // They may still be writing until the process is gone, so the lock must not be free before.
            std::mem::forget(self.lock);
        }
        Ok(())
    }

    async fn all_ended(&mut self, limit: Duration) -> bool {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}
