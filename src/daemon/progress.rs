//! From a meter to the store: how far a job is, and its log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::domain::job::LogLevel;
use crate::engine::Meter;
use crate::store::AsyncStore;

const EVERY: Duration = Duration::from_millis(250);
/// The rate is taken over this long: shorter jumps, longer lags.
const WINDOW: Duration = Duration::from_secs(5);
/// Lines that may wait for the store; more in a quarter of a second help nobody.
const BACKLOG: usize = 4096;

/// The log of a job for lines of which none may be missing: unlike a meter's, they wait until there is room.
#[derive(Clone)]
pub struct Log(mpsc::Sender<(LogLevel, String)>);

impl Log {
    pub async fn warn(&self, line: impl Into<String>) {
        // Nobody listens any more only when the daemon is about to fall.
        let _ = self.0.send((LogLevel::Warn, line.into())).await;
    }
}

/// Samples a meter for one attempt until it is stopped.
pub struct Sampler {
    pub meter: Arc<Meter>,
    pub log: Log,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Sampler {
    pub fn start(store: AsyncStore, job: i64, attempt: u32) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let log = Log(sender.clone());
        let meter = Arc::new(Meter::new(move |level, line| {
            // Full: the line is dropped rather than the work held up.
            let _ = sender.try_send((level, line));
        }));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(sample(store, job, attempt, Arc::clone(&meter), receiver, stopped));
        Self { meter, log, stop, task }
    }

    /// Writes what is left, and returns when it is in the store.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn sample(
    store: AsyncStore,
    job: i64,
    attempt: u32,
    meter: Arc<Meter>,
    mut lines: mpsc::Receiver<(LogLevel, String)>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut history: VecDeque<(Instant, u64)> = VecDeque::from([(Instant::now(), 0)]);
    let mut last = None;
    let mut done = false;
    while !done {
        tokio::select! {
            _ = &mut stopped => done = true,
            () = tokio::time::sleep(EVERY) => {}
        }
        let mut progress = meter.snapshot();
        let now = Instant::now();
        history.push_back((now, progress.bytes_done));
        while history.len() > 2 && history.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            history.pop_front();
        }
        if let Some((from, bytes)) = history.front() {
            let seconds = (now - *from).as_secs_f64();
            if seconds > 0.2 {
                progress.bytes_per_second = (progress.bytes_done.saturating_sub(*bytes) as f64 / seconds) as u64;
            }
        }
        let mut batch = Vec::new();
        while let Ok(line) = lines.try_recv() {
            batch.push(line);
        }
        let present = (progress, meter.phase());
        if batch.is_empty() && last.as_ref() == Some(&present) {
            continue;
        }
        last = Some(present.clone());
        let written = store.with(move |store| {
            if !batch.is_empty() {
                store.append_log(job, attempt, &batch)?;
            }
            store.set_progress(job, &present.0, &present.1)
        });
        if let Err(e) = written.await {
            warn!(job, "progress could not be stored: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand;
    use super::*;
    use crate::domain::backup::{BackupRequest, BackupType, Compression, Model};
    use crate::domain::namespace::Selection;
    use crate::domain::retry::RetryPolicy;

    #[tokio::test]
    async fn no_line_is_missing_of_what_must_be_told_in_full() {
        let (_dir, store) = stand::store();
        let request = BackupRequest {
            name: "one".into(),
            service: "a".into(),
            storage: "t".into(),
            folder: "a".into(),
            model: Model::Logical,
            backup_type: BackupType::Full,
            selection: Selection::default(),
            compression: Compression::default(),
            retry: RetryPolicy::default(),
            schedule: None,
        };
        let job = store.enqueue_backup(&request).unwrap().id;
        let before = store.job_log(job, 0, usize::MAX).unwrap().len();
        let sampler = Sampler::start(AsyncStore::new(store.clone()), job, 1);
        sampler.meter.info("read all");
        let lines = 2 * BACKLOG + 10;
        for n in 0..lines {
            sampler.log.warn(format!("object {n} is damaged")).await;
        }
        sampler.stop().await;
        let told: Vec<String> =
            store.job_log(job, 0, usize::MAX).unwrap().into_iter().skip(before).map(|l| l.message).collect();
        let expected = (0..lines).map(|n| format!("object {n} is damaged"));
        assert_eq!(told, ["read all".to_owned()].into_iter().chain(expected).collect::<Vec<_>>());
    }
}
