//! What only a daemon does, and whether one is missed: said in the banner, and a reason to start one.

use std::collections::BTreeSet;

use super::model::Model;
use crate::domain::backup::BackupType;
use crate::domain::schedule::Schedule;
use crate::domain::text::escape;

impl Model {
    /// Work waits, or changes are to be recorded, and nobody does it.
    pub fn misses_daemon(&self) -> bool {
        let runs = self.daemon.as_ref().is_some_and(|d| d.running);
        !runs && (self.daemon_problem.is_some() || self.undone().is_some())
    }

    /// What is left undone while no daemon runs: `2 jobs wait for one, orders-rs is not recorded`.
    pub fn undone(&self) -> Option<String> {
        let jobs = match self.unfinished().count() {
            0 => None,
            1 => Some("1 job waits for one".to_owned()),
            n => Some(format!("{n} jobs wait for one")),
        };
        let services = self.to_be_recorded();
        let recording = match services.len() {
            0 => None,
            1 => services.first().map(|s| format!("{} is not recorded", escape(s))),
            n => Some(format!("{n} services are not recorded")),
        };
        let parts: Vec<String> = jobs.into_iter().chain(recording).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// The services whose changes a schedule keeps.
    pub(super) fn to_be_recorded(&self) -> BTreeSet<&str> {
        if !self.backups_enabled() {
            return BTreeSet::new();
        }
        let recording = self.data.schedules.iter().filter(|s| s.enabled && s.backup_type == BackupType::Pitr);
        recording.map(|s| s.service.as_str()).collect()
    }

    /// The schedule that records `service` already, besides the one called `name`.
    pub(super) fn recorded_already(&self, service: &str, name: &str) -> Option<&str> {
        let others = self.data.schedules.iter().filter(|s| s.name != name && s.service == service);
        others.into_iter().find(|s| s.enabled && s.backup_type == BackupType::Pitr).map(|s| s.name.as_str())
    }

    /// Whether a service is no longer recorded without this schedule.
    pub(super) fn is_recorded_by_this_alone(&self, schedule: &Schedule) -> bool {
        let others = self.data.schedules.iter().filter(|s| s.name != schedule.name && s.service == schedule.service);
        let records = |s: &Schedule| s.enabled && s.backup_type == BackupType::Pitr;
        self.backups_enabled() && records(schedule) && !others.into_iter().any(records)
    }
}

/// What follows when nothing records these services any more.
pub(super) fn recording_ends<'a>(services: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = services.into_iter().map(escape).collect();
    let names = names.join(", ");
    format!("Changes of {names} are no longer kept from now on: a gap begins in what can be restored.")
}

/// What a second schedule that records a service comes to.
pub(super) fn recorded_twice(service: &str, by: &str) -> String {
    let (service, by) = (escape(service), escape(by));
    format!("{by} records {service} already, and one schedule at a time does: switch {by} off first.")
}
