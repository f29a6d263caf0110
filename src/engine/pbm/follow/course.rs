//! What is told while an operation is followed, how long it may take, and what is remembered of it between two looks.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::text::escape;
use crate::engine::pbm::answers::{LogEntry, Status};
use crate::engine::pbm::failure::Reason;
use crate::engine::pbm::log_lines::LogLines;
use crate::engine::pbm::operation::{Operation, OperationState};
use crate::error::{Error, ErrorKind, Result};

/// How often, and how long at most.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub poll: Duration,
    /// After its start an operation may be unknown for so long: agents have to see it first.
    pub begin: Duration,
    /// Without a sign of life for so long it is looked whether an operation is stuck.
    pub stale: Duration,
    /// PBM may be unreachable for so long.
    pub unreachable: Duration,
    /// A cancelled backup may take so long to end.
    pub cancel: Duration,
    /// The lock may be held so long after the end.
    pub lock: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(2),
            begin: Duration::from_secs(120),
            stale: Duration::from_secs(60),
            unreachable: Duration::from_secs(600),
            cancel: Duration::from_secs(300),
            lock: Duration::from_secs(120),
        }
    }
}

/// Is given what happens. Must not block.
pub trait Watcher: Send + Sync {
    /// How far it is; called after every look.
    fn progress(&mut self, state: &OperationState);
    /// A line of an agent's log, once. Its texts are fit to be shown.
    fn log(&mut self, entry: &LogEntry);
    /// What went wrong with looking, which goes on.
    fn trouble(&mut self, text: &str);
}

/// Where the end of a restore is read.
#[derive(Debug, Clone, Copy)]
pub enum RestoreKind<'a> {
    Logical,
    /// Servers are stopped for it, so that only the storage tells: a file with PBM's configuration, secrets included.
    Physical {
        configuration: &'a Path,
    },
}

/// What is remembered between two looks.
pub(super) struct Course {
    pub(super) began: Instant,
    pub(super) alive: Instant,
    pub(super) answered: Instant,
    pub(super) seen: Option<OperationState>,
    pub(super) lines: LogLines,
    pub(super) cancelled: Option<Instant>,
    /// Looks on end at which no agent was at it, and it could not be described.
    pub(super) idle_looks: u32,
}

impl Course {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let lines = LogLines::default();
        Self { began: now, alive: now, answered: now, seen: None, lines, cancelled: None, idle_looks: 0 }
    }
}

pub(super) fn must_have_begun(operation: Operation, name: &str, course: &Course, pace: Pace) -> Result<()> {
    if course.seen.is_some() || course.began.elapsed() < pace.begin || course.answered.elapsed() > pace.poll * 10 {
        return Ok(());
    }
    let seconds = pace.begin.as_secs();
    let what = format!("PBM does not know the {} {} after {seconds} s", operation.word(), escape(name));
    Err(Error::new(ErrorKind::NotFound, what).hint("pbm-agent must run at every node"))
}

pub(super) fn unseen(operation: Operation, name: &str, course: &Course) -> OperationState {
    course.seen.clone().unwrap_or_else(|| OperationState {
        operation,
        name: name.to_owned(),
        op_id: String::new(),
        status: Status::Init,
        error: None,
        replica_sets: Vec::new(),
        bytes: None,
        running: None,
    })
}

pub(super) fn missing_files(name: &str) -> Error {
    let what = format!("PBM's backup {}: files of it are missing in the storage", escape(name));
    Error::new(Reason::MissingFiles.kind(), what)
}

pub(super) fn cannot_be_cancelled(error: Error, name: &str) -> Error {
    match error.kind() {
        ErrorKind::Cancelled => error.hint(format!("PBM cannot cancel a restore: {} goes on", escape(name))),
        _ => error,
    }
}

/// The daemon ends, and PBM does not.
pub(super) fn left_running(operation: Operation, name: &str) -> Error {
    let what = format!("PBM goes on with its {} {}, and the next daemon follows it", operation.word(), escape(name));
    Error::new(ErrorKind::LeftRunning, what).hint("mongokeep daemon run")
}
