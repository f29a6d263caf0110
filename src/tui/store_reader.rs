//! The task that reads the store for the screen. It polls a number that changes with the data, often while jobs run and
//! seldom otherwise, and reads the rest when that number has changed. It also reads the log that is on the screen.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};

use super::effects::in_background;
use super::model::{LOG_LINES, Model};
use super::msg::{Msg, Snapshot};
use crate::client::Client;
use crate::domain::clock;
use crate::domain::job::LogLine;
use crate::error::Result;

/// How often the store is looked at while jobs run, and while none does.
const BUSY: Duration = Duration::from_millis(200);
const IDLE: Duration = Duration::from_millis(1_000);
/// How many lines of a log are read at a time.
const LOG_PAGE: usize = 1_000;

/// What the reader of the store has to know about the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Wanted {
    busy: bool,
    /// The job whose log is shown, and the last line the screen has.
    log: Option<(i64, i64)>,
    /// Raised to have the store read at once.
    nudge: u64,
}

/// Hands on what the screen shows now.
pub(super) fn send_wanted(model: &Model, want: &watch::Sender<Wanted>) {
    let log = model.watched_job().map(|id| {
        let last = model.logs.get(&id).and_then(|l| l.back()).map_or(0, |l| l.seq);
        (id, last)
    });
    let busy = model.unfinished().next().is_some();
    want.send_if_modified(|w| {
        // Another job on the screen is a reason to look at once; a longer log is not.
        let other = w.log.map(|l| l.0) != log.map(|l| l.0);
        let next = Wanted { busy, log, nudge: w.nudge + u64::from(other) };
        let wake = other || busy != w.busy;
        *w = next;
        wake
    });
}

/// Reads the store whenever its number changes, and the log that is shown. What records the oplog is the daemon, and
/// one that is killed writes nothing: whether it runs counts as well.
pub(super) async fn poll_store(client: Client, messages: mpsc::Sender<Msg>, mut wanted: watch::Receiver<Wanted>) {
    let mut version = None;
    let mut log_of: Option<(i64, i64)> = None;
    loop {
        let want = *wanted.borrow_and_update();
        let of = client.clone();
        let seen = version;
        let looked = Instant::now();
        let result = in_background(move || {
            let now = (of.data_version()?, settings_stamp(&of), of.daemon_runs().ok());
            if seen == Some(now) {
                return Ok(None);
            }
            let (settings, settings_problem) = match of.settings() {
                Ok(settings) => (settings, None),
                Err(e) => (Vec::new(), Some(e.into())),
            };
            let snapshot = Snapshot {
                services: of.services()?,
                storages: of.storages()?,
                schedules: of.schedules()?,
                pitr: of.pitr_status(None)?,
                // Settings that cannot be read are told of below; the rest is worth showing all the same.
                warnings: of.warnings().unwrap_or_default(),
                backups: Arc::new(of.backups()?),
                jobs: Arc::new(of.jobs()?),
                settings,
                settings_problem,
                read_at: clock::now(),
            };
            Ok(Some((now, snapshot)))
        })
        .await;
        let pause;
        let mut changed = false;
        match result {
            Ok(Some((now, snapshot))) => {
                version = Some(now);
                changed = true;
                // A large catalogue is read less often: no more than a tenth of the time goes into reading.
                pause = (looked.elapsed() * 10).min(Duration::from_secs(5));
                if messages.send(Msg::Snapshot(Box::new(snapshot))).await.is_err() {
                    return;
                }
            }
            Ok(None) => pause = Duration::ZERO,
            Err(problem) => {
                version = None;
                pause = Duration::from_secs(2);
                if messages.send(Msg::StoreLost(problem)).await.is_err() {
                    return;
                }
            }
        }
        if let Some((id, shown)) = want.log {
            let after = log_of.filter(|l| l.0 == id).map_or(shown, |l| l.1.max(shown));
            if changed || log_of.map(|l| l.0) != Some(id) {
                let of = client.clone();
                let read = move || last_lines(after, |after| of.job_log(id, after, LOG_PAGE));
                if let Ok(lines) = in_background(read).await {
                    log_of = Some((id, lines.last().map_or(after, |l| l.seq)));
                    if !lines.is_empty() && messages.send(Msg::Log { job: id, lines }).await.is_err() {
                        return;
                    }
                }
            }
        }
        let interval = if want.busy { BUSY } else { IDLE };
        tokio::select! {
            () = tokio::time::sleep(interval.max(pause)) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// What follows line `after` of a log, as far as the screen keeps it: the end of a long one is what matters, and of one
/// that has ended nothing more is ever read.
fn last_lines(after: i64, mut page: impl FnMut(i64) -> Result<Vec<LogLine>>) -> Result<Vec<LogLine>> {
    let mut lines = VecDeque::new();
    let mut after = after;
    loop {
        let next = page(after)?;
        let is_last = next.len() < LOG_PAGE;
        after = next.last().map_or(after, |line| line.seq);
        lines.extend(next);
        while lines.len() > LOG_LINES {
            lines.pop_front();
        }
        if is_last {
            return Ok(lines.into());
        }
    }
}

/// Changes when the settings file does; they are not part of the store.
fn settings_stamp(client: &Client) -> Option<(SystemTime, u64)> {
    let facts = std::fs::metadata(client.home().settings_file()).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::job::LogLevel;

    #[test]
    fn a_long_log_is_read_to_its_end() {
        let line = |seq: i64| LogLine {
            seq,
            at: DateTime::UNIX_EPOCH,
            attempt: 1,
            level: LogLevel::Info,
            message: String::new(),
        };
        for (length, after, first) in [
            (0, 0, None),
            (7, 0, Some(1)),
            (7, 3, Some(4)),
            (1_000, 0, Some(1)),
            (1_500, 0, Some(1)),
            (9_000, 10, Some(7_001)),
        ] {
            let page = |after: i64| Ok((after + 1..=length).take(LOG_PAGE).map(line).collect());
            let lines = last_lines(after, page).unwrap();
            assert_eq!(lines.first().map(|l| l.seq), first, "{length} after {after}");
            assert_eq!(lines.last().map(|l| l.seq), first.map(|_| length), "{length} after {after}");
        }
        let broken = |_| Err(crate::error::Error::new(crate::error::ErrorKind::Internal, "no"));
        assert!(last_lines(0, broken).is_err());
    }
}
