//! What is wrong right now, in words: for the status line, `daemon status` and notifications.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::text;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WarningKind {
    /// A service has had no good backup for too long.
    Stale,
    /// The last run of a schedule failed.
    RunFailed,
    /// The last run of a schedule was missed or skipped.
    RunMissed,
    /// A schedule should have run, and nothing has happened.
    Overdue,
    /// A backup could not be deleted, or not wholly.
    DeletionFailed,
    /// The disk of a storage is nearly full.
    StorageFull,
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
                .map_err(|_| format!("{:?} is not a number of hours", text::escape(hours.trim())))?;
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

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

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
