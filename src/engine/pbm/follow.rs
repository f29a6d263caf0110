//! Follows an operation of PBM until its end.
//!
//! The end is read from `describe-*` alone, and once it is there, the lock is waited for, which PBM holds a little longer. A
//! backup that was cancelled cannot be described any more (its files are gone): its end stands in `pbm status`. An operation
//! whose agents are dead stays as it is for ever, which is noticed here.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::answers::{DescribedBackup, DescribedRestore, LogEntry, Running, Status, StatusAnswer};
use super::cluster::without_live_agent;
use super::failure::Reason;
use super::locks::Lock;
use super::log_lines::TAIL;
use super::operation::{Operation, OperationState};
use super::program::{ASK_LIMIT, Program, Reply};
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

mod course;
mod gave_up;

use course::{Course, cannot_be_cancelled, left_running, missing_files, must_have_begun, unseen};
pub use course::{Pace, RestoreKind, Watcher};

/// Follows operations of one service.
pub struct Follow<'a> {
    pub program: &'a Program,
    pub cancel: &'a CancellationToken,
    /// The daemon ends: PBM goes on, and is not followed any longer.
    pub leave: &'a CancellationToken,
    pub pace: Pace,
    pub watcher: &'a mut dyn Watcher,
}

/// What a look finds.
enum Look<T> {
    Described(T),
    /// PBM knew it, and cannot describe it any more.
    Lost,
    /// It cannot be described any more; `pbm status` says how it ended.
    Ended(Status, Option<String>),
    /// Not known yet.
    NotYet,
}

impl Follow<'_> {
    /// Follows the backup `name` until it is done. On a cancel PBM is asked to cancel it, and its end is waited for; one that
    /// was done before that is returned.
    ///
    /// Errors: `Cancelled`; `LeftRunning` when the daemon ends; `Interrupted`, naming it, for one that gives no sign of life; what PBM says about one that failed.
    pub async fn backup(&mut self, name: &str) -> Result<DescribedBackup> {
        let mut course = Course::new();
        loop {
            let look = match self.look(&["describe-backup", name], &mut course).await? {
                Some(Look::Lost) => self.ended(name, &mut course).await?,
                look => look,
            };
            match look {
                Some(Look::Described(described)) => {
                    let described: DescribedBackup = described;
                    let state = OperationState::of_backup(&described, self.program.redactor());
                    if described.status.is_final() {
                        self.finish(&mut course, state.clone()).await;
                        return match (&described.status, course.cancelled) {
                            (Status::Canceled, Some(_)) => Err(Error::cancelled()),
                            _ => state.must_be_good().map(|()| described),
                        };
                    }
                    self.go_on(&mut course, state).await;
                }
                Some(Look::Ended(status, error)) => {
                    let state = OperationState { status, error, ..unseen(Operation::Backup, name, &course) };
                    self.finish(&mut course, state.clone()).await;
                    return Err(match (&state.status, course.cancelled) {
                        (Status::Canceled, Some(_)) => Error::cancelled(),
                        // It is done for PBM, and cannot be described.
                        (Status::Done, _) => missing_files(name),
                        _ => state.must_be_good().err().unwrap_or_else(|| missing_files(name)),
                    });
                }
                Some(Look::NotYet | Look::Lost) => {}
                None => {
                    if let Some(error) = self.gave_up(name, &mut course).await {
                        return Err(match course.cancelled {
                            Some(_) => Error::cancelled(),
                            None => error,
                        });
                    }
                }
            }
            self.must_go_on(Operation::Backup, name, &mut course).await?;
            self.pause(name, &mut course).await?;
        }
    }

    /// Follows the restore `name` until it is done.
    ///
    /// Errors: as [`Follow::backup`]; `Cancelled` at once, because PBM cannot cancel a restore, which goes on.
    pub async fn restore(&mut self, name: &str, kind: RestoreKind<'_>) -> Result<DescribedRestore> {
        let configuration = match kind {
            RestoreKind::Logical => None,
            RestoreKind::Physical { configuration } => {
                let path = configuration.to_str();
                Some(path.ok_or_else(|| Error::invalid("configuration", "its path is no text"))?)
            }
        };
        let mut arguments = vec!["describe-restore", name];
        arguments.extend(configuration.iter().flat_map(|path| ["--config", path]));
        let mut course = Course::new();
        loop {
            let look = match self.look(&arguments, &mut course).await {
                Err(_) if self.leave.is_cancelled() => return Err(left_running(Operation::Restore, name)),
                look => look.map_err(|e| cannot_be_cancelled(e, name))?,
            };
            if let Some(Look::Described(described)) = look {
                let described: DescribedRestore = described;
                let state = OperationState::of_restore(&described, self.program.redactor());
                let is_over = described.status.is_final();
                if configuration.is_some() {
                    // The servers are down: there is no lock, and no log.
                    self.saw(&mut course, state.clone());
                } else if is_over {
                    self.finish(&mut course, state.clone()).await;
                } else {
                    self.go_on(&mut course, state.clone()).await;
                }
                if is_over {
                    return state.must_be_good().map(|()| described);
                }
            }
            match configuration {
                // PBM itself finds heartbeats in the storage that are too old.
                Some(_) => must_have_begun(Operation::Restore, name, &course, self.pace)?,
                None => self.must_go_on(Operation::Restore, name, &mut course).await?,
            }
            tokio::select! {
                biased;
                () = self.leave.cancelled() => return Err(left_running(Operation::Restore, name)),
                () = self.cancel.cancelled() => return Err(cannot_be_cancelled(Error::cancelled(), name)),
                () = sleep(self.pace.poll) => {}
            }
        }
    }

    /// Waits until no operation holds PBM's lock; after `limit` it goes on, and says whether the lock is free.
    ///
    /// Errors: `Cancelled`.
    pub async fn until_free(&mut self, limit: Duration) -> Result<bool> {
        let began = Instant::now();
        loop {
            if self.is_free().await? {
                return Ok(true);
            }
            if began.elapsed() > limit {
                return Ok(false);
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::cancelled()),
                () = sleep(self.pace.poll) => {}
            }
        }
    }

    /// Whether nothing holds PBM's lock. One that a dead operation left keeps nobody from anything, although PBM goes on to
    /// name it.
    async fn is_free(&self) -> Result<bool> {
        match self.program.locks(self.cancel).await {
            Some(locks) => Ok(locks.iter().all(Lock::is_stale)),
            None => Ok(self.running(self.cancel).await?.is_some_and(|running| running.is_none())),
        }
    }

    /// How long the operation `op_id` has given no sign of life in its locks; `None` for one that lives or has none.
    async fn is_dead(&self, op_id: &str) -> Option<u32> {
        let locks = self.program.locks(&CancellationToken::new()).await?;
        let own: Vec<&Lock> = locks.iter().filter(|lock| lock.op_id == op_id).collect();
        own.iter().all(|lock| lock.is_stale()).then(|| own.iter().map(|lock| lock.silent_seconds).min()).flatten()
    }

    /// One question. `None`: PBM did not answer, which may pass.
    async fn look<T: serde::de::DeserializeOwned>(
        &mut self,
        arguments: &[&str],
        course: &mut Course,
    ) -> Result<Option<Look<T>>> {
        let own = CancellationToken::new();
        // What is cancelled is the backup, and not the question how far it is.
        let cancel = if arguments[0] == "describe-backup" { &own } else { self.cancel };
        let why = match self.program.ask(arguments, ASK_LIMIT, cancel).await {
            Ok(Reply::Answer(answer)) => match answer.parse(arguments[0]) {
                Ok(described) => {
                    course.answered = Instant::now();
                    return Ok(Some(Look::Described(described)));
                }
                Err(e) => e,
            },
            Ok(Reply::Refused(refusal)) => {
                let is_lost = match refusal.reason {
                    Reason::MissingFiles => true,
                    Reason::Unknown => course.seen.is_some(),
                    _ => false,
                };
                match refusal.reason {
                    _ if is_lost && arguments[0] == "describe-backup" => return Ok(Some(Look::Lost)),
                    Reason::MissingFiles | Reason::Unknown => {
                        course.answered = Instant::now();
                        return Ok(Some(Look::NotYet));
                    }
                    _ => self.program.refused(arguments, &refusal),
                }
            }
            Err(e) => e,
        };
        // A storage that does not answer for a while is no end either: agents try again.
        let may_pass = why.is_retryable() || why.kind() == ErrorKind::Failed;
        if !may_pass || course.answered.elapsed() > self.pace.unreachable {
            return Err(why);
        }
        self.watcher.trouble(&why.full());
        Ok(None)
    }

    /// How a backup that cannot be described ended, as `pbm status` says it.
    async fn ended(&mut self, name: &str, course: &mut Course) -> Result<Option<Look<DescribedBackup>>> {
        let Some(status) = self.status("backups").await else { return Ok(None) };
        course.answered = Instant::now();
        let storage = status.backups.as_ref();
        let Some(backup) = storage.and_then(|storage| storage.backup(name)) else {
            let what = format!("PBM does not know the backup {} any more", escape(name));
            return Err(Error::new(ErrorKind::NotFound, what).hint("was it deleted?"));
        };
        let error = backup.error.as_deref().map(|error| self.program.redactor().shown(error));
        // While it is being cancelled, files go before its status changes.
        let is_going = !backup.status.is_final()
            || (backup.status == Status::Error
                && error.as_deref().is_some_and(|e| Reason::of(e) == Reason::MissingFiles));
        let patience = course.cancelled.map_or(self.pace.stale, |_| self.pace.cancel);
        if is_going && course.alive.elapsed() < patience {
            return Ok(Some(Look::NotYet));
        }
        Ok(Some(Look::Ended(backup.status.clone(), error)))
    }

    /// Notes a state, and whether it shows life.
    fn saw(&mut self, course: &mut Course, state: OperationState) {
        if course.seen.as_ref().map(OperationState::steps) != Some(state.steps()) {
            course.alive = Instant::now();
        }
        self.watcher.progress(&state);
        course.seen = Some(state);
    }

    async fn go_on(&mut self, course: &mut Course, mut state: OperationState) {
        state.running = self.running(&CancellationToken::new()).await.ok().flatten();
        self.saw(course, state.clone());
        self.log(course, &state).await;
    }

    /// The last look: the rest of the log, and the lock.
    async fn finish(&mut self, course: &mut Course, state: OperationState) {
        self.saw(course, state.clone());
        self.log(course, &state).await;
        let (began, never) = (Instant::now(), CancellationToken::new());
        while began.elapsed() < self.pace.lock {
            match self.running(&never).await {
                Ok(Some(running)) if running.op_id != state.op_id || running.is_none() => {
                    // What agents log while they let go of the lock.
                    return self.log(course, &state).await;
                }
                _ if self.is_dead(&state.op_id).await.is_some() => return,
                _ => sleep(self.pace.poll).await,
            }
        }
        let what = format!("PBM still holds the lock of its {} {}", state.operation.word(), escape(&state.name));
        self.watcher.trouble(&what);
    }

    /// What holds the lock; `None` when PBM does not say it: right after the start it cannot name the operation.
    async fn running(&self, cancel: &CancellationToken) -> Result<Option<Running>> {
        match self.program.ask(&["status", "-s", "running"], ASK_LIMIT, cancel).await {
            Ok(Reply::Answer(answer)) => {
                Ok(answer.parse::<StatusAnswer>("status").ok().and_then(|status| status.running))
            }
            Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
            _ => Ok(None),
        }
    }

    async fn status(&mut self, section: &str) -> Option<StatusAnswer> {
        let answer = self.program.call(&["status", "-s", section], ASK_LIMIT, &CancellationToken::new()).await;
        match answer.and_then(|answer| answer.parse("status")) {
            Ok(status) => Some(status),
            Err(e) => {
                self.watcher.trouble(&e.full());
                None
            }
        }
    }

    async fn log(&mut self, course: &mut Course, state: &OperationState) {
        let event = format!("{}/{}", state.operation.word(), state.name);
        let tail = TAIL.to_string();
        let arguments = ["logs", "-e", &event, "-t", &tail, "-s", "I"];
        let answer = self.program.call(&arguments, ASK_LIMIT, &CancellationToken::new()).await;
        let lines = match answer.and_then(|answer| answer.parse::<Option<Vec<LogEntry>>>("log")) {
            Ok(lines) => lines.unwrap_or_default(),
            Err(e) => return self.watcher.trouble(&e.full()),
        };
        let (new, missing) = course.lines.new_ones(lines);
        if missing {
            self.watcher.trouble("agents logged more than PBM gave at once: some lines are missing here");
        }
        for mut entry in new {
            entry.msg = self.program.redactor().shown(&entry.msg);
            (entry.rs, entry.node) = (escape(&entry.rs), escape(&entry.node));
            self.watcher.log(&entry);
        }
    }

    /// Errors: `NotFound` for one that never began; `Interrupted` for one that is stuck.
    async fn must_go_on(&mut self, operation: Operation, name: &str, course: &mut Course) -> Result<()> {
        must_have_begun(operation, name, course, self.pace)?;
        if course.seen.is_none() || course.alive.elapsed() < self.pace.stale {
            return Ok(());
        }
        let status = course.seen.as_ref().map(|state| state.status.to_string()).unwrap_or_default();
        let stuck = |why: &str| {
            let what = format!("PBM's {} {} is stuck at {status}: {why}", operation.word(), escape(name));
            let hint = "pbm-agent must run at every node; its own log says why it stopped";
            Error::new(ErrorKind::Interrupted, what).hint(hint)
        };
        if let Some(cluster) = self.status("cluster").await {
            let dead = without_live_agent(&cluster);
            if !dead.is_empty() {
                let dead = dead.iter().map(|set| escape(set)).collect::<Vec<_>>().join(", ");
                return Err(stuck(&format!("no agent is alive in {dead}")));
            }
        }
        let op_id = course.seen.as_ref().map(|state| state.op_id.clone()).unwrap_or_default();
        if let Some(seconds) = self.is_dead(&op_id).await {
            return Err(stuck(&format!("no agent gave a sign of life for {seconds} s")));
        }
        match self.running(&CancellationToken::new()).await.ok().flatten() {
            Some(running) if running.is_none() => return Err(stuck("no agent works on it")),
            Some(running) if !op_id.is_empty() && running.op_id != op_id => {
                return Err(stuck(&format!("PBM is at another operation ({})", escape(&running.kind))));
            }
            _ => {}
        }
        if operation == Operation::Backup
            && let Some(status) = self.status("backups").await
        {
            let backup = status.backups.as_ref().and_then(|storage| storage.backup(name));
            let error = backup.and_then(|backup| backup.error.as_deref());
            if let Some(error) = error.filter(|error| Reason::of(error) == Reason::Stuck) {
                return Err(stuck(&self.program.redactor().shown(error)));
            }
        }
        // The lock is held and agents are alive: a large collection takes its time.
        course.alive = Instant::now();
        Ok(())
    }

    /// Waits for the next look; on a cancel asks PBM to cancel the backup.
    async fn pause(&mut self, name: &str, course: &mut Course) -> Result<()> {
        if course.cancelled.is_none() {
            tokio::select! {
                biased;
                // What a person cancelled is cancelled by the next daemon, too.
                () = self.leave.cancelled() => return Err(left_running(Operation::Backup, name)),
                () = self.cancel.cancelled() => {}
                () = sleep(self.pace.poll) => return Ok(()),
            }
            let never = CancellationToken::new();
            course.cancelled = Some(Instant::now());
            // It cancels whatever backup runs, which is another one when this one has just ended.
            let running = self.running(&never).await.ok().flatten().filter(|running| !running.is_none());
            let own = course.seen.as_ref().map(|state| state.op_id.as_str()).filter(|op_id| !op_id.is_empty());
            if let (Some(running), Some(own)) = (&running, own)
                && running.op_id != own
            {
                return Ok(());
            }
            // PBM says that it has begun to cancel even when there is nothing to cancel.
            if let Err(e) = self.program.call(&["cancel-backup"], ASK_LIMIT, &never).await {
                self.watcher.trouble(&e.full());
            }
        }
        if course.cancelled.is_some_and(|since| since.elapsed() > self.pace.cancel) {
            let seconds = self.pace.cancel.as_secs();
            let what = format!("PBM was asked to cancel the backup {} {seconds} s ago, and it goes on", escape(name));
            return Err(
                Error::new(ErrorKind::Cancelled, what).hint("its agents may be dead: mongokeep service check says")
            );
        }
        sleep(self.pace.poll).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
