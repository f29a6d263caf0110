//! How far a run is: counters that workers raise and the daemon reads.
//!
//! Workers never draw and never write to the store; they add to atomics. Whoever runs the engine samples
//! [`Meter::snapshot`] a few times a second.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::domain::job::{LogLevel, Progress};
use crate::domain::text;
use crate::error::Result;

/// How often a phase that says for how long is renewed.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

type LogSink = Box<dyn Fn(LogLevel, String) + Send + Sync>;

/// Counters, the present phase, and where log lines go.
pub struct Meter {
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    objects_done: AtomicU64,
    objects_total: AtomicU64,
    documents_done: AtomicU64,
    documents_total: AtomicU64,
    phase: Mutex<String>,
    waiting: Mutex<Option<String>>,
    log: LogSink,
}

impl Meter {
    /// A meter whose log lines go to `log`, which must not block.
    pub fn new(log: impl Fn(LogLevel, String) + Send + Sync + 'static) -> Self {
        Self {
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            objects_done: AtomicU64::new(0),
            objects_total: AtomicU64::new(0),
            documents_done: AtomicU64::new(0),
            documents_total: AtomicU64::new(0),
            phase: Mutex::new(String::new()),
            waiting: Mutex::new(None),
            log: Box::new(log),
        }
    }

    /// A meter whose log goes nowhere.
    pub fn silent() -> Self {
        Self::new(|_, _| {})
    }

    /// Sets the expected totals; estimates may be corrected later.
    pub fn set_totals(&self, bytes: u64, objects: u64, documents: u64) {
        self.bytes_total.store(bytes, Relaxed);
        self.objects_total.store(objects, Relaxed);
        self.documents_total.store(documents, Relaxed);
    }

    pub fn add_total_bytes(&self, bytes: u64) {
        self.bytes_total.fetch_add(bytes, Relaxed);
    }

    pub fn add_totals(&self, bytes: u64, objects: u64) {
        self.bytes_total.fetch_add(bytes, Relaxed);
        self.objects_total.fetch_add(objects, Relaxed);
    }

    pub fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Relaxed);
    }

    pub fn add_documents(&self, documents: u64) {
        self.documents_done.fetch_add(documents, Relaxed);
    }

    /// One collection (or other object) is finished.
    pub fn object_done(&self) {
        self.objects_done.fetch_add(1, Relaxed);
    }

    /// Work that must be done again no longer counts as done.
    pub fn take_back(&self, bytes: u64, documents: u64) {
        let less = |counter: &AtomicU64, n: u64| {
            // Saturating: a meter that jumps to the end of u64 would be worse than one that is a little off.
            let _ = counter.fetch_update(Relaxed, Relaxed, |v| Some(v.saturating_sub(n)));
        };
        less(&self.bytes_done, bytes);
        less(&self.documents_done, documents);
    }

    /// What is being done right now, for the screen.
    pub fn set_phase(&self, phase: impl Into<String>) {
        *self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = phase.into();
    }

    /// Does `work` while the phase says what `words` says and, from the first second on, for how long: for what moves no
    /// counter. Returns what came of it, and how long it took.
    pub async fn watched<T>(&self, words: impl Fn() -> String, work: impl Future<Output = T>) -> (T, Duration) {
        let began = Instant::now();
        self.set_phase(words());
        tokio::select! {
            biased;
            done = work => (done, began.elapsed()),
            never = self.count_seconds(words, began) => match never {},
        }
    }

    async fn count_seconds(&self, words: impl Fn() -> String, began: Instant) -> Infallible {
        loop {
            sleep(WATCH_INTERVAL).await;
            let seconds = began.elapsed().as_secs();
            self.set_phase(if seconds == 0 { words() } else { format!("{}, {}", words(), text::duration(seconds)) });
        }
    }

    /// Does one step of a job as [`Meter::watched`] does, and logs how long it took when it succeeded.
    pub async fn step<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let (done, took) = self.watched(|| what.to_owned(), work).await;
        if done.is_ok() {
            self.info(format!("{what} took {}", took_words(took)));
        }
        done
    }

    /// The phase, and what it waits for.
    pub fn phase(&self) -> String {
        let phase = self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        match &*self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            None => phase,
            Some(what) if phase.is_empty() => format!("waiting for {what}"),
            Some(what) => format!("{phase}: waiting for {what}"),
        }
    }

    /// What is waited for (a storage that does not answer), or that nothing is any more. True when that is news.
    pub fn set_waiting(&self, what: Option<String>) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_news = waiting.is_some() != what.is_some();
        *waiting = what;
        is_news
    }

    pub fn info(&self, message: impl Into<String>) {
        (self.log)(LogLevel::Info, message.into());
    }

    pub fn warn(&self, message: impl Into<String>) {
        (self.log)(LogLevel::Warn, message.into());
    }

    /// The counters as they are; `bytes_per_second` is left to the sampler, which knows the time between two looks.
    pub fn snapshot(&self) -> Progress {
        Progress {
            bytes_done: self.bytes_done.load(Relaxed),
            bytes_total: self.bytes_total.load(Relaxed),
            objects_done: self.objects_done.load(Relaxed),
            objects_total: self.objects_total.load(Relaxed),
            documents_done: self.documents_done.load(Relaxed),
            documents_total: self.documents_total.load(Relaxed),
            bytes_per_second: 0,
        }
    }
}

/// How long a step took: `0.4 s`, `2 min`.
pub fn took_words(took: Duration) -> String {
    text::moments(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::{Error, ErrorKind};

    #[tokio::test]
    async fn a_step_says_for_how_long_while_it_lasts_and_how_long_it_took() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        let meter = Meter::new(move |_, line| lines.lock().unwrap().push(line));
        let seen = async {
            let at_first = meter.phase();
            while meter.phase() == at_first {
                sleep(Duration::from_millis(20)).await;
            }
            Ok((at_first, meter.phase()))
        };
        let (at_first, later) = meter.step("recovering", seen).await.unwrap();
        assert_eq!(at_first, "recovering");
        assert!(later.starts_with("recovering, ") && later.ends_with(" s"), "{later}");
        let failed: Result<()> = Err(Error::new(ErrorKind::Failed, "no"));
        assert!(meter.step("starting", async { failed }).await.is_err());
        let said = said.lock().unwrap();
        assert!(said.len() == 1 && said[0].starts_with("recovering took "), "{said:?}");
    }
}
