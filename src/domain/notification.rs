//! Notifications: what is reported, and where.
//!
//! A notice is made of a snapshot that the store wrote in the transaction that made it true. It must never hold a
//! secret: its texts are those of jobs, which hold none.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use super::event::{EVENTS, Event, parse_events};
use super::job::{JobKind, JobState};
use super::job_kind::Of;
use crate::domain::clock;

/// Where it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Command,
    Webhook,
}

impl Channel {
    pub fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "command" => Ok(Self::Command),
            "webhook" => Ok(Self::Webhook),
            _ => Err("must be command or webhook".into()),
        }
    }
}

/// What the store noted: a job that ended, or something that has been wrong since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Facts {
    Job {
        job: i64,
        kind: JobKind,
        state: JobState,
        attempt: u32,
        service: Option<String>,
        storage: Option<String>,
        backup: Option<String>,
        schedule: Option<String>,
        /// Milliseconds since 1970.
        due_at: Option<i64>,
        error: Option<String>,
        hint: Option<String>,
    },
    Condition {
        event: Event,
        service: Option<String>,
        storage: Option<String>,
        text: String,
        /// It was wrong, and is no longer.
        #[serde(default)]
        over: bool,
    },
}

/// The JSON that a command reads and a webhook receives. Fields are added over time, never renamed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// The same in every attempt to deliver this notice, and different in every other of this home.
    pub id: i64,
    pub event: Event,
    pub at: DateTime<Utc>,
    /// What was told by an earlier notice of this event and service is over.
    pub over: bool,
    /// One sentence for people.
    pub text: String,
    pub host: String,
    pub version: &'static str,
    pub service: Option<String>,
    pub storage: Option<String>,
    pub backup: Option<String>,
    pub schedule: Option<String>,
    pub job: Option<i64>,
    pub kind: Option<JobKind>,
    pub state: Option<JobState>,
    pub attempt: Option<u32>,
    /// When the run of a schedule was due.
    pub due_at: Option<DateTime<Utc>>,
    pub error: Option<String>,
    /// What can be done about it.
    pub hint: Option<String>,
}

impl Notice {
    /// One that says nothing but that it arrived.
    pub fn test(host: &str) -> Self {
        Self {
            id: 0,
            event: Event::Test,
            at: clock::now(),
            over: false,
            text: "a test: notifications of mongokeep arrive".into(),
            host: host.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            service: None,
            storage: None,
            backup: None,
            schedule: None,
            job: None,
            kind: None,
            state: None,
            attempt: None,
            due_at: None,
            error: None,
            hint: None,
        }
    }

    /// `None`: nothing that anybody is told about.
    pub fn of(id: i64, at: DateTime<Utc>, host: &str, facts: Facts) -> Option<Self> {
        let event = event(&facts)?;
        let blank = Self { id, event, at, ..Self::test(host) };
        Some(match facts {
            Facts::Condition { service, storage, text, over, .. } => Self { over, text, service, storage, ..blank },
            Facts::Job { job, kind, state, attempt, service, storage, backup, schedule, due_at, error, hint } => Self {
                text: sentence(
                    kind,
                    state,
                    backup.as_deref(),
                    schedule.as_deref(),
                    storage.as_deref(),
                    service.as_deref(),
                    error.as_deref(),
                ),
                service,
                storage,
                backup,
                schedule,
                job: Some(job),
                kind: Some(kind),
                state: Some(state),
                attempt: Some(attempt.max(1)),
                due_at: due_at.and_then(DateTime::from_timestamp_millis),
                error,
                hint,
                ..blank
            },
        })
    }
}

fn event(facts: &Facts) -> Option<Event> {
    match facts {
        Facts::Condition { event, .. } => Some(*event),
        Facts::Job { kind, state: JobState::Failed, .. } => Some(kind.entry().failure),
        Facts::Job { state: JobState::Missed | JobState::Skipped, .. } => Some(Event::Missed),
        Facts::Job { kind, state: JobState::Succeeded, .. } if kind.entry().reports_success => Some(Event::Success),
        Facts::Job { .. } => None,
    }
}

fn sentence(
    kind: JobKind,
    state: JobState,
    backup: Option<&str>,
    schedule: Option<&str>,
    storage: Option<&str>,
    service: Option<&str>,
    error: Option<&str>,
) -> String {
    let named = |name: Option<&str>| name.map_or_else(String::new, |name| format!(" {name}"));
    let subject = match (state, kind.entry().of) {
        (JobState::Missed | JobState::Skipped, _) => format!("a run of schedule{}", named(schedule)),
        (_, Of::Backup) => format!("{}{}", kind.entry().noun, named(backup)),
        (_, Of::Storage) => format!("{}{}", kind.entry().noun, named(storage)),
        (_, Of::Schedule) => format!("{}{}", kind.entry().noun, named(schedule)),
    };
    let of = match (kind, service) {
        (JobKind::Restore, Some(service)) => format!(" into {service}"),
        (_, Some(service)) => format!(" of {service}"),
        (_, None) => String::new(),
    };
    let ended = match state {
        JobState::Succeeded => "succeeded",
        JobState::Missed => "was missed",
        JobState::Skipped => "was skipped",
        _ => "failed",
    };
    let why = error.map_or_else(String::new, |error| format!(": {error}"));
    format!("{subject}{of} {ended}{why}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn job(kind: &str, state: &str) -> Facts {
        // As the trigger of the store writes it.
        let text = format!(
            r#"{{"what":"job","job":7,"kind":"{kind}","state":"{state}","attempt":2,"service":"orders","storage":"s3",
                "backup":"b1","schedule":"nightly","due_at":1795251245000,"error":"no route","hint":null}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn ends_of_jobs_are_events() {
        let told = |kind: &str, state: &str| {
            Notice::of(3, Utc::now(), "h", job(kind, state)).map(|n| (n.event.word(), n.text))
        };
        for (kind, state, event, text) in [
            ("backup", "failed", "failure", "backup b1 of orders failed: no route"),
            ("restore", "failed", "failure", "the restore of b1 into orders failed: no route"),
            ("delete", "failed", "failure", "the deletion of b1 of orders failed: no route"),
            ("retention", "failed", "retention_failure", "retention of schedule nightly of orders failed: no route"),
            ("backup", "missed", "missed", "a run of schedule nightly of orders was missed: no route"),
            ("backup", "skipped", "missed", "a run of schedule nightly of orders was skipped: no route"),
            ("verify", "succeeded", "success", "the verification of b1 of orders succeeded: no route"),
        ] {
            assert_eq!(told(kind, state), Some((event, text.to_owned())), "{kind} {state}");
        }
        // A deletion that worked, and what a person cancelled, is news to nobody.
        for (kind, state) in [("delete", "succeeded"), ("retention", "succeeded"), ("backup", "cancelled")] {
            assert_eq!(told(kind, state), None, "{kind} {state}");
        }
        let notice = Notice::of(3, Utc::now(), "h", job("backup", "failed")).unwrap();
        assert_eq!((notice.job, notice.attempt), (Some(7), Some(2)));
        assert_eq!(notice.due_at.unwrap().timestamp(), 1_795_251_245);
    }

    #[test]
    fn lists_of_events() {
        assert_eq!(parse_events("failure, stale").unwrap(), BTreeSet::from([Event::Failure, Event::Stale]));
        assert_eq!(parse_events("").unwrap(), BTreeSet::new());
        assert!(parse_events("failure, test").unwrap_err().contains("\"test\" is none of failure"));
    }
}
