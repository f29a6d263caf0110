//! How far a run is: counters that workers raise and the daemon reads.
//!
//! Workers never draw and never write to the store; they add to atomics. Whoever runs the engine samples
//! [`Meter::snapshot`] a few times a second.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::domain::job::{LogLevel, Progress};

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
