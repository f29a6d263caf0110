//! From a meter to the store: how far a job is, and its log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::blocking;
use crate::domain::job::LogLevel;
use crate::engine::Meter;
use crate::store::Store;

const EVERY: Duration = Duration::from_millis(250);
/// The rate is taken over this long: shorter jumps, longer lags.
const WINDOW: Duration = Duration::from_secs(5);
/// Lines that may wait for the store; more in a quarter of a second help nobody.
const BACKLOG: usize = 4096;

/// Samples a meter for one attempt until it is stopped.
pub struct Sampler {
    pub meter: Arc<Meter>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Sampler {
    pub fn start(store: Store, job: i64, attempt: u32) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let meter = Arc::new(Meter::new(move |level, line| {
            // Full: the line is dropped rather than the work held up.
            let _ = sender.try_send((level, line));
        }));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(sample(store, job, attempt, Arc::clone(&meter), receiver, stopped));
        Self { meter, stop, task }
    }

    /// Writes what is left, and returns when it is in the store.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn sample(
    store: Store,
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
        let store = store.clone();
        let written = blocking(move || {
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
