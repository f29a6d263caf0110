//! The loop: claim what may run, watch what runs, end in order.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::component::Component;
use super::env::Env;
use super::jobs::attempt::{JobStop, make_attempt, recover_attempt};
use super::metrics::metrics;
use super::notifier::notifier;
use super::recorder::recorder;
use super::scheduler::Scheduler;
use super::service_manager::ServiceManager;
use super::state_copy::state_copy;
use crate::config::Home;
use crate::control::STOP_LIMIT;
use crate::control::lock::{BEAT, DaemonLock, Stage};
use crate::domain::clock;
use crate::error::{Result, io};
use crate::store::{Claimed, Store};

/// How often the store is asked whether anybody changed it. The question costs microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A daemon in the background ends after this long without work.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// The share of [`STOP_LIMIT`] granted to a restore that is writing; the rest is for reporting where it was stopped.
const RESTORE_LIMIT: Duration = Duration::from_secs(10);
/// After the store failed (full disk, busy), it is left alone this long.
const PAUSE: Duration = Duration::from_secs(1);

struct JobLoop {
    env: Env,
    lock: DaemonLock,
    tasks: JoinSet<i64>,
    stops: HashMap<i64, JobStop>,
    /// Jobs of a daemon that died, until it is known how they go on.
    in_recovery: HashSet<i64>,
    /// Away while it works.
    scheduler: Option<Scheduler>,
    since: chrono::DateTime<Utc>,
    seen: Option<u64>,
    retry_due: Option<chrono::DateTime<Utc>>,
    idle_since: Instant,
    components: Vec<Component>,
}

/// What ends the loop.
pub enum Ending {
    /// A signal; in the background also that there was nothing to do for long.
    Signals { term: Signal, interrupt: Signal, hangup: Signal, background: bool },
    /// The process that it is a part of.
    Told(CancellationToken),
}

impl Ending {
    /// Listens from now on.
    pub fn signals(background: bool) -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|e| io("listening for signals", e));
        Ok(Self::Signals {
            term: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            // A closed terminal is no reason to end a foreground daemon under nohup; a background one has none.
            hangup: listen(SignalKind::hangup())?,
            background,
        })
    }

    fn goes_idle(&self) -> bool {
        matches!(self, Self::Signals { background: true, .. })
    }

    /// Returns when the loop is to end.
    async fn reached(&mut self) {
        match self {
            Self::Told(stop) => stop.cancelled().await,
            Self::Signals { term, interrupt, hangup, .. } => loop {
                tokio::select! {
                    _ = term.recv() => return,
                    _ = interrupt.recv() => return,
                    _ = hangup.recv() => {}
                }
            },
        }
    }
}

pub async fn run_jobs(home: Home, store: Store, lock: DaemonLock, mut ending: Ending) -> Result<()> {
    let env = Env::new(home, store)?;
    let components = vec![notifier(&env), recorder(&env), metrics(&env), state_copy(&env)];
    let mut job_loop = JobLoop {
        env,
        lock,
        tasks: JoinSet::new(),
        stops: HashMap::new(),
        in_recovery: HashSet::new(),
        scheduler: None,
        since: clock::now(),
        seen: None,
        retry_due: None,
        idle_since: Instant::now(),
        components,
    };
    job_loop.recover().await?;
    job_loop.lock.set_stage(Stage::Ready)?;
    let mut manager = ServiceManager::from_environment();
    manager.ready().await;
    let mut beaten = Instant::now();
    loop {
        if let Err(e) = job_loop.poll_store().await {
            error!("the store: {e}");
            tokio::time::sleep(PAUSE).await;
        }
        if ending.goes_idle() && job_loop.may_go_idle().await {
            info!("nothing to do for {} s", IDLE_LIMIT.as_secs());
            job_loop.end_components().await;
            return Ok(());
        }
        // Here and nowhere else: it says that this loop goes round.
        manager.alive();
        if beaten.elapsed() >= BEAT {
            beaten = Instant::now();
            if let Err(e) = job_loop.lock.beat() {
                warn!("{e}");
            }
        }
        tokio::select! {
            () = ending.reached() => break,
            Some(ended) = job_loop.tasks.join_next() => job_loop.ended(ended),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
    manager.stopping().await;
    job_loop.stop().await
}

impl JobLoop {
    /// Ends what a daemon that died was running. Done beside the loop: a storage that does not answer must not keep
    /// the daemon from answering.
    async fn recover(&mut self) -> Result<()> {
        for claimed in self.env.store.abandoned().await? {
            match claimed.was_left {
                true => info!(job = claimed.job.id, "was left to this daemon"),
                false => warn!(job = claimed.job.id, "its daemon stopped unexpectedly"),
            }
            self.in_recovery.insert(claimed.job.id);
            self.spawn(claimed, true);
        }
        let queued = self.env.store.queue_retentions().await?;
        if queued > 0 {
            info!(jobs = queued, "retention has something to delete");
        }
        Ok(())
    }

    fn spawn(&mut self, claimed: Claimed, abandoned: bool) {
        let id = claimed.job.id;
        let stop = JobStop::default();
        self.stops.insert(id, stop.clone());
        let env = self.env.clone();
        self.tasks.spawn(async move {
            if abandoned {
                recover_attempt(&env, claimed, stop).await;
            } else {
                make_attempt(&env, claimed, stop).await;
            }
            id
        });
    }

    fn ended(&mut self, ended: std::result::Result<i64, tokio::task::JoinError>) {
        match ended {
            Ok(id) => {
                self.stops.remove(&id);
                if self.in_recovery.remove(&id) {
                    self.scheduler.iter_mut().for_each(Scheduler::look_again);
                }
            }
            // Its job is found as abandoned by the next daemon; `make_attempt` catches panics of the work itself.
            Err(e) => {
                error!("a job's task ended early: {e}");
                self.in_recovery.clear();
            }
        }
        self.seen = None;
        self.idle_since = Instant::now();
    }

    /// Looks at the store if it changed or a retry is due: claims, and passes cancels on.
    async fn poll_store(&mut self) -> Result<()> {
        let version = self.env.store.data_version().await?;
        self.schedule(version).await?;
        let due = self.retry_due.is_some_and(|at| at <= clock::now());
        if self.seen == Some(version) && !due {
            return Ok(());
        }
        self.seen = Some(version);
        loop {
            let settings = self.env.settings.clone();
            // A settings file that cannot be read must not stop what is already queued.
            let claimed = self.env.store.with(move |store| store.claim(settings.settings().concurrency()));
            let Some(claimed) = claimed.await? else { break };
            info!(job = claimed.job.id, attempt = claimed.job.attempt, kind = ?claimed.job.kind, "claimed");
            self.spawn(claimed, false);
        }
        for (id, JobStop { cancel, .. }) in &self.stops {
            if !cancel.is_cancelled() && self.env.store.is_cancel_requested(*id).await? {
                info!(job = *id, "cancelling");
                cancel.cancel();
            }
        }
        self.retry_due = self.env.store.next_retry().await?;
        Ok(())
    }

    /// Turns what is due into jobs.
    async fn schedule(&mut self, version: u64) -> Result<()> {
        let mut scheduler = self.scheduler.take().unwrap_or_else(|| Scheduler::new(self.since));
        if !scheduler.is_time(clock::now(), version) {
            self.scheduler = Some(scheduler);
            return Ok(());
        }
        let settings = self.env.settings.clone();
        let in_recovery = self.in_recovery.clone();
        let looked = self.env.store.with(move |store| {
            // With settings that cannot be read the job is queued, and fails for all to see.
            let outcome = scheduler.decide_due(store, &settings.settings(), clock::now(), version, &in_recovery);
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
        let work = self.env.store.with(|store| {
            Ok(store.jobs_unfinished()? + store.schedules_enabled()? + u64::from(!store.outbox_is_empty()?))
        });
        if work.await.is_ok_and(|n| n == 0) {
            return true;
        }
        self.idle_since = Instant::now();
        self.seen = None;
        let _ = self.lock.set_stage(Stage::Ready);
        false
    }

    /// Ends what runs, within [`STOP_LIMIT`]: it is cleaned up and handed back to the next daemon. What others do for a job
    /// is left to them, and followed by the next daemon. A restore that writes gets [`RESTORE_LIMIT`] to finish, because its
    /// target is of no use half way. What does not end by then is abandoned to the next daemon.
    async fn stop(mut self) -> Result<()> {
        info!(jobs = self.tasks.len(), "asked to end");
        self.lock.set_stage(Stage::Stopping)?;
        self.env.stopping.store(true, Ordering::SeqCst);
        let writing = self.env.store.jobs_writing().await.unwrap_or_default();
        // First, and to all: who may leave its work to others does not end it.
        self.stops.values().for_each(|stop| stop.leave.cancel());
        self.stops.iter().filter(|(id, _)| !writing.contains(id)).for_each(|(_, stop)| stop.cancel.cancel());
        let began = Instant::now();
        // They have a while to store what they hold, beside the jobs.
        self.components.iter().for_each(Component::stop);
        if !writing.is_empty() && !self.all_ended(RESTORE_LIMIT).await {
            warn!("a restore that writes is not done after {} s and is cancelled", RESTORE_LIMIT.as_secs());
        }
        self.stops.values().for_each(|stop| stop.cancel.cancel());
        let in_time = self.all_ended(STOP_LIMIT.saturating_sub(began.elapsed())).await;
        // Before the lock is free: the next daemon would do the same.
        self.end_components().await;
        if !in_time {
            warn!("jobs did not end within {} s and are left to the next daemon", STOP_LIMIT.as_secs());
            // They may still be writing until the process is gone, so the lock must not be free before.
            std::mem::forget(self.lock);
        }
        Ok(())
    }

    async fn end_components(&mut self) {
        futures_util::future::join_all(self.components.iter_mut().map(Component::end)).await;
    }

    async fn all_ended(&mut self, limit: Duration) -> bool {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}
