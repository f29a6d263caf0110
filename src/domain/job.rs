//! A job: one intent of a person or schedule, run by the daemon in one or more attempts.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::retry::RetryPolicy;
use super::timestamp::Timestamp;

pub use super::job_kind::{JobKind, JobRequest};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Running,
    WaitingRetry,
    Succeeded,
    Failed,
    Cancelled,
    Skipped,
    Missed,
}

impl JobState {
    /// Nothing more will happen by itself.
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::WaitingRetry)
    }

    /// The word on the screen.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::WaitingRetry => "waiting for retry",
            Self::Succeeded => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }
}

/// How far a job is. Totals are estimates until the work is done; 0 means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub objects_done: u64,
    pub objects_total: u64,
    #[serde(default)]
    pub documents_done: u64,
    #[serde(default)]
    pub documents_total: u64,
    /// Bytes a second over the last seconds; 0 while unknown.
    #[serde(default)]
    pub bytes_per_second: u64,
}

impl Progress {
    /// Seconds left at the present rate, when it is known.
    pub fn remaining_seconds(&self) -> Option<u64> {
        let left = self.bytes_total.checked_sub(self.bytes_done)?;
        (self.bytes_per_second > 0 && self.bytes_total > 0).then(|| left.div_ceil(self.bytes_per_second))
    }

    /// 0.0 to 1.0, when a total is known.
    pub fn fraction(&self) -> Option<f64> {
        (self.bytes_total > 0).then(|| (self.bytes_done as f64 / self.bytes_total as f64).min(1.0))
    }
}

/// Serialised, it is the `job` object of the command-line contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: i64,
    pub kind: JobKind,
    pub state: JobState,
    /// Counted from 1; 0 while queued for the first time is shown as 1.
    pub attempt: u32,
    pub service: Option<String>,
    pub storage: Option<String>,
    pub backup: Option<String>,
    pub schedule: Option<String>,
    pub progress: Progress,
    /// What is being done right now (`dump shop.orders`), or what it waits for (`waiting for job 41`).
    pub phase: String,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// When the next attempt starts, in `waiting_retry`.
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub error: Option<String>,
    /// What can be done about the error.
    pub hint: Option<String>,
    pub cancel_requested: bool,
    /// What happens after a failed attempt.
    pub retry: RetryPolicy,
    /// When the run of a schedule was due.
    pub due_at: Option<DateTime<Utc>>,
    /// The position that a restore to a moment goes to; `backup` is its base.
    #[serde(default)]
    pub point_in_time: Option<Timestamp>,
}

impl Job {
    /// What it is in a few words: `backup nightly-1`, `restore of nightly-1 into orders`. Control characters are escaped.
    pub fn title(&self) -> String {
        (self.kind.entry().title)(self)
    }
}

/// One line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Ascending within the job.
    pub seq: i64,
    pub at: DateTime<Utc>,
    pub attempt: u32,
    pub level: LogLevel,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Info,
    Warn,
    Error,
}
