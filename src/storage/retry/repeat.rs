//! What is tried again, how often, and how long between two attempts.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};

/// How often and how long a call is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Calls in all, the first one included.
    pub attempts: u32,
    /// The first wait; each further one is twice as long.
    pub first: Duration,
    pub longest: Duration,
    /// No attempt begins this much time after the first failure: what a long upload took before is not counted.
    pub total: Duration,
    /// After a cancel nobody can give up a call any more, so that each gets this long for its answer.
    pub after_cancel: Duration,
}

impl Default for Backoff {
    /// Outlasts the restart of a server: about a minute.
    fn default() -> Self {
        Self {
            attempts: 12,
            first: Duration::from_millis(250),
            longest: Duration::from_secs(8),
            total: Duration::from_secs(120),
            after_cancel: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// As often as it takes within `total`.
    pub fn within(total: Duration) -> Self {
        Self { attempts: u32::MAX, total, ..Self::default() }
    }

    /// How long to wait after attempt `attempt` (from 1), or `None` when it was the last. Half of it is random, so
    /// that parts that failed together do not come back together.
    fn wait(&self, attempt: u32, failing_since: Instant) -> Option<Duration> {
        let doubled = self.first.saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX)).min(self.longest);
        let mut random = [0u8; 2];
        // Without randomness the wait is still a wait.
        let _ = aws_lc_rs::rand::fill(&mut random);
        let wait = doubled / 2 + doubled.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX)) / 2;
        (attempt < self.attempts && failing_since.elapsed() + wait <= self.total).then_some(wait)
    }
}

/// Hears of the waits between two attempts: why the call failed, and `None` when a call got through again.
pub type OnWait = Arc<dyn Fn(Option<&Error>) + Send + Sync>;

/// Repeats single calls of one storage.
#[derive(Clone)]
pub(super) struct Repeat {
    pub(super) backoff: Backoff,
    pub(super) cancel: CancellationToken,
    pub(super) place: Arc<str>,
    pub(super) on_wait: OnWait,
}

/// Whether a cancel gives up a call that is running.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnCancel {
    GiveUp,
    Complete,
}

pub(super) fn may_pass(error: &Error) -> bool {
    error.is_retryable() && error.kind() != ErrorKind::StorageFull
}

impl Repeat {
    pub(super) async fn run<T, F>(&self, on_cancel: OnCancel, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut tries = Tries::default();
        loop {
            let error = match self.once(on_cancel, call()).await {
                Err(e) if may_pass(&e) => e,
                other => {
                    self.got_through(&tries);
                    return other;
                }
            };
            self.wait(&mut tries, error).await?;
        }
    }

    pub(super) async fn once<T>(&self, on_cancel: OnCancel, call: impl Future<Output = Result<T>>) -> Result<T> {
        let cleans_up = on_cancel == OnCancel::Complete || self.cancel.is_cancelled();
        let given_up = async {
            self.cancel.cancelled().await;
            if !cleans_up {
                return Error::cancelled();
            }
            tokio::time::sleep(self.backoff.after_cancel).await;
            let seconds = self.backoff.after_cancel.as_secs();
            Error::new(ErrorKind::Transient, format!("{} did not answer within {seconds} s of the cancel", self.place))
        };
        tokio::select! {
            biased;
            error = given_up => Err(error),
            result = call => result,
        }
    }

    /// An answer came that is no reason to wait.
    pub(super) fn got_through(&self, tries: &Tries) {
        if tries.failed > 0 {
            (self.on_wait)(None);
        }
    }

    /// Waits before the next attempt, or says that there is none.
    pub(super) async fn wait(&self, tries: &mut Tries, error: Error) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(error);
        }
        let since = *tries.failing_since.get_or_insert_with(Instant::now);
        tries.failed = tries.failed.saturating_add(1);
        let attempt = tries.failed;
        let Some(wait) = self.backoff.wait(attempt, since) else {
            return Err(if attempt > 1 { error.context(format!("tried {attempt} times")) } else { error });
        };
        tracing::warn!(attempt, %error, "a storage call failed and is repeated");
        (self.on_wait)(Some(&error));
        let waited = self.cancel.run_until_cancelled(tokio::time::sleep(wait)).await;
        waited.ok_or_else(Error::cancelled)
    }
}

/// The failures of one call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    failed: u32,
    failing_since: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_end() {
        let backoff = Backoff::default();
        let now = Instant::now();
        for (attempt, longest) in [(1, 250), (2, 500), (3, 1_000), (6, 8_000), (11, 8_000)] {
            let wait = backoff.wait(attempt, now).unwrap().as_millis();
            assert!((longest / 2..=longest).contains(&wait), "{attempt}: {wait}");
        }
        assert_eq!(backoff.wait(12, now), None);
        let late = Backoff { total: Duration::from_millis(100), ..backoff };
        assert_eq!(late.wait(1, now), None);
        let patient = Backoff::within(Duration::from_secs(60));
        assert!((1..200).all(|attempt| patient.wait(attempt, now).is_some()));
        assert_eq!(patient.wait(3, now - Duration::from_secs(60)), None);
        assert_eq!(Backoff { attempts: 1, ..backoff }.wait(1, now), None);
        assert!(Backoff { attempts: u32::MAX, total: Duration::MAX, ..backoff }.wait(100, now).is_some());
    }
}
