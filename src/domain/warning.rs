//! What is wrong right now, in words: for the status line, `daemon status` and notifications.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::notification::Event;
use super::pitr::SlicerState;
use super::text;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// A service has had no good backup for too long.
    Stale,
    /// A verification found a backup damaged.
    Damaged,
    /// The last run of a schedule failed.
    RunFailed,
    /// The last backup of a service failed, and no schedule that is on made it.
    BackupFailed,
    /// The last run of a schedule was missed or skipped.
    RunMissed,
    /// A schedule should have run, and nothing has happened.
    Overdue,
    /// A backup could not be deleted, or not wholly.
    DeletionFailed,
    /// The disk of a storage is nearly full.
    StorageFull,
    /// The copy of the store in a storage is not of what is decided now.
    StateCopy,
    /// A piece of the oplog of a service is lost, and no base was made after it yet.
    PitrGap,
    /// Recording the oplog of a service is far behind.
    PitrLag,
    /// The oplog of a service is not recorded, although it should be.
    PitrStopped,
    /// The same, because another mongokeep records it.
    PitrHeld,
    /// Schedules are on, and no daemon runs that would start them.
    NoDaemon,
    /// Schedules are on, and backup management is off.
    ManagementOff,
    /// Somebody should have been told, and could not be.
    NotificationFailed,
}

/// Something a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    pub kind: WarningKind,
    /// One sentence, safe to show.
    pub text: String,
    pub service: Option<String>,
    pub storage: Option<String>,
    pub schedule: Option<String>,
    pub backup: Option<String>,
}

impl Warning {
    pub fn new(kind: WarningKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), service: None, storage: None, schedule: None, backup: None }
    }
}

/// After how many hours without a good backup a service is stale; 0: never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaleAfter {
    pub hours: u64,
    /// By service, where it is not the same.
    pub of_service: BTreeMap<String, u64>,
}

/// Reads `orders-rs=48, archive=0`: hours by service.
pub fn parse_stale_services(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, hours) = part.split_once('=').ok_or("is written SERVICE=HOURS, separated by commas")?;
            let hours = hours
                .trim()
                .parse::<u32>()
                .map_err(|_| format!("{} is not a number of hours", text::quoted(hours.trim())))?;
            Ok((name.trim().to_owned(), u64::from(hours)))
        })
        .collect()
}

/// Whether the newest good backup of a service, or the service itself when it has none, is too old.
pub fn stale(
    service: &str,
    last_good: Option<DateTime<Utc>>,
    known_since: DateTime<Utc>,
    after: &StaleAfter,
    now: DateTime<Utc>,
) -> Option<Warning> {
    let hours = after.of_service.get(service).copied().unwrap_or(after.hours);
    let limit = hours.checked_mul(3600).filter(|seconds| *seconds > 0)?;
    let age = u64::try_from((now - last_good.unwrap_or(known_since)).num_seconds()).unwrap_or(0);
    if age <= limit {
        return None;
    }
    let text = match last_good {
        Some(_) => format!("{service}: the last good backup is {} old", text::duration(age)),
        None => format!("{service}: no good backup yet, after {}", text::duration(age)),
    };
    Some(Warning { service: Some(service.to_owned()), ..Warning::new(WarningKind::Stale, text) })
}

/// How the recording of an oplog does that should be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recording {
    Well,
    /// Nothing is recorded yet, and it is about to begin.
    Begins,
    /// What is wrong, and a sentence about it.
    Wrong(Event, String),
}

/// `lag`: how long before `now` the last change was that is stored; `None`: nothing is. `limit`: from when on it is behind.
pub fn recording(
    service: &str,
    state: Option<&SlicerState>,
    lag: Option<Duration>,
    limit: Duration,
    now: DateTime<Utc>,
) -> Recording {
    if state.is_some_and(|s| s.is_beginning(now)) {
        return Recording::Begins;
    }
    let why = state.and_then(|s| s.error.as_deref()).map_or_else(String::new, |error| format!(": {error}"));
    if !state.is_some_and(|s| s.running) {
        let event = if state.is_some_and(|s| s.held) { Event::PitrHeld } else { Event::PitrStopped };
        return Recording::Wrong(event, format!("{service}: its oplog is not recorded{why}"));
    }
    match lag.filter(|lag| *lag > limit) {
        Some(lag) => {
            let lag = text::duration(lag.as_secs());
            Recording::Wrong(Event::PitrLag, format!("{service}: recording its oplog is {lag} behind{why}"))
        }
        // Nothing was ever stored, and nothing can be.
        None if lag.is_none() && !why.is_empty() => {
            Recording::Wrong(Event::PitrLag, format!("{service}: nothing of its oplog is recorded yet{why}"))
        }
        None => Recording::Well,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn recording_stops_is_held_or_falls_behind() {
        let at = Utc::now();
        let running = SlicerState { running: true, stored: None, error: None, hint: None, held: false, at };
        let error = Some("no route".to_owned());
        let stopped = SlicerState { running: false, error: error.clone(), ..running.clone() };
        let held = SlicerState { held: true, ..stopped.clone() };
        let away = SlicerState { error, ..running.clone() };
        let look_at = |state, lag: u64, now| {
            let lag = (lag > 0).then(|| Duration::from_secs(lag));
            match recording("a", state, lag, Duration::from_secs(360), now) {
                Recording::Well => ("well".to_owned(), String::new()),
                Recording::Begins => ("begins".to_owned(), String::new()),
                Recording::Wrong(event, text) => (event.word().to_owned(), text),
            }
        };
        let look = |state, lag| look_at(state, lag, at);
        let wrong = |event: &str, text: &str| (event.to_owned(), text.to_owned());
        assert_eq!(look(Some(&running), 360).0, "well");
        assert_eq!(look(Some(&running), 0).0, "well", "nothing is stored yet");
        assert_eq!(look(Some(&away), 100).0, "well", "the oplog waits");
        assert_eq!(look(Some(&away), 0), wrong("pitr_lag", "a: nothing of its oplog is recorded yet: no route"));
        assert_eq!(look(Some(&running), 720), wrong("pitr_lag", "a: recording its oplog is 12 min behind"));
        assert_eq!(look(Some(&away), 720), wrong("pitr_lag", "a: recording its oplog is 12 min behind: no route"));
        assert_eq!(look(Some(&stopped), 9), wrong("pitr_stopped", "a: its oplog is not recorded: no route"));
        assert_eq!(look(Some(&held), 9).0, "pitr_held");
        assert_eq!(look(None, 0), wrong("pitr_stopped", "a: its oplog is not recorded"));
        // It may take a while to begin, and no longer.
        let begins = SlicerState { running: false, ..running.clone() };
        assert_eq!(look_at(Some(&begins), 720, at + TimeDelta::seconds(89)).0, "begins");
        let over = look_at(Some(&begins), 720, at + TimeDelta::seconds(90));
        assert_eq!(over, wrong("pitr_stopped", "a: its oplog is not recorded"));
        assert_eq!(look_at(Some(&stopped), 0, at).0, "pitr_stopped", "what keeps it from that is said at once");
    }

    #[test]
    fn a_service_is_stale_by_its_own_limit() {
        let now = Utc::now();
        let of_service = parse_stale_services("orders=48, archive=0,").unwrap();
        let after = StaleAfter { hours: 10, of_service };
        let at = |hours| Some(now - TimeDelta::hours(hours) - TimeDelta::seconds(1));
        assert_eq!(stale("users", at(9), now, &after, now), None);
        assert_eq!(
            stale("users", at(10), now, &after, now).unwrap().text,
            "users: the last good backup is 10 h 00 old"
        );
        assert_eq!(stale("orders", at(40), now, &after, now), None);
        assert!(stale("orders", at(48), now, &after, now).is_some());
        assert_eq!(stale("archive", None, now - TimeDelta::days(999), &after, now), None);
        // A service that was added a moment ago cannot have a backup yet.
        assert_eq!(stale("new", None, now, &after, now), None);
        assert!(
            stale("new", None, now - TimeDelta::hours(11), &after, now).unwrap().text.contains("no good backup yet")
        );
        // A clock that was set back makes nobody stale.
        assert_eq!(stale("users", Some(now + TimeDelta::days(9)), now, &after, now), None);
        for bad in ["orders", "orders=x", "orders=-1", "=1=2"] {
            assert!(parse_stale_services(bad).is_err(), "{bad}");
        }
    }
}
