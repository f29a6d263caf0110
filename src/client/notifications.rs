//! What is wrong right now, and whether those who should hear of it can.

use std::time::Instant;

use serde::Serialize;

use super::Client;
use crate::config::Settings;
use crate::control::state_copy::{Pending, pending};
use crate::control::{lock, notify};
use crate::domain::backup::Backup;
use crate::domain::clock;
use crate::domain::job::{Job, JobState};
use crate::domain::notification::{Channel, Event};
use crate::domain::pitr::Status;
use crate::domain::schedule::Schedule;
use crate::domain::text;
use crate::domain::warning::{Warning, WarningKind, stale};
use crate::error::Result;
use crate::store::Condition;

/// How a test of a channel went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeliveryResult {
    pub channel: Channel,
    pub detail: String,
    pub seconds: f64,
}

/// A schedule that is due for this long and did nothing is overdue: the daemon looks several times a minute.
const OVERDUE: chrono::TimeDelta = chrono::TimeDelta::minutes(2);

impl Client {
    /// Sends a test notice from this process, by the settings as they are; 30 s at most.
    ///
    /// Errors: `NotFound` when the channel is not set up; otherwise why it could not be told.
    pub async fn test_notification(&self, channel: Channel) -> Result<DeliveryResult> {
        let settings = self.call(|client| Ok(Settings::load(&client.home)?.notify())).await?;
        let began = Instant::now();
        let detail = notify::test(&settings, channel).await?;
        Ok(DeliveryResult { channel, detail, seconds: began.elapsed().as_secs_f64() })
    }

    /// What a person should look at, the most urgent first. Asks the store only.
    pub fn warnings(&self) -> Result<Vec<Warning>> {
        let settings = Settings::load(&self.home)?;
        let now = clock::now();
        let mut out = Vec::new();
        let on: Vec<Schedule> = self.schedules()?.into_iter().filter(|s| s.enabled).collect();
        let schedules = if on.len() == 1 { "1 schedule is".to_owned() } else { format!("{} schedules are", on.len()) };
        if !on.is_empty() && !settings.backup_enabled() {
            let text = format!("{schedules} on, but backup management is off: nothing starts");
            out.push(Warning::new(WarningKind::ManagementOff, text));
        } else if !on.is_empty() && lock::holder(&self.home)?.is_none() {
            let text = format!("{schedules} on, but no daemon runs that would start a backup");
            out.push(Warning::new(WarningKind::NoDaemon, text));
        }
        let conditions = self.store.conditions()?;
        if conditions.iter().all(|c| c.event != Event::StateCopy) && lock::holder(&self.home)?.is_none() {
            out.extend(pending(&self.store, &settings)?.map(not_copied));
        }
        if settings.backup_enabled() {
            // What has lasted is reported; who looks at the screen wants to know at once.
            let known = |service: &str| {
                let of_recording = [Event::PitrStopped, Event::PitrHeld, Event::PitrLag];
                conditions.iter().any(|c| of_recording.contains(&c.event) && c.subject == service)
            };
            let statuses = self.pitr_status(None)?;
            out.extend(statuses.into_iter().filter(|s| !known(&s.service)).filter_map(not_recorded));
        }
        let after = settings.notify().stale_after;
        for service in self.store.services()? {
            out.extend(stale(&service.name, service.last_good_backup_at, service.created_at, &after, now));
        }
        for backup in self.store.backups_damaged()? {
            let why = backup.verify_error.unwrap_or_default();
            let text = format!("backup {} of {} is damaged: {why}", backup.name, backup.service);
            out.push(Warning {
                service: Some(backup.service),
                storage: Some(backup.storage),
                schedule: backup.schedule,
                backup: Some(backup.name),
                ..Warning::new(WarningKind::Damaged, text)
            });
        }
        for schedule in &on {
            out.extend(of_schedule(schedule));
        }
        for job in self.store.last_backup_jobs()? {
            // Of a run of one that is on, the schedule tells.
            let told = job.schedule.as_ref().is_some_and(|name| on.iter().any(|s| s.name == *name));
            if job.state == JobState::Failed && !told {
                out.push(backup_failed(job));
            }
        }
        let not_deleted = not_deleted(self.store.backups_not_deleted()?);
        for job in self.store.retentions_failed()? {
            // Where a backup says why, nothing more is to be said.
            if not_deleted.iter().all(|w| w.schedule != job.schedule) {
                out.push(retention_failed(job));
            }
        }
        out.extend(not_deleted);
        out.extend(conditions.into_iter().filter_map(lasting));
        for channel in [Channel::Command, Channel::Webhook] {
            if let Some(error) = self.store.outbox_error(channel)? {
                let text = format!("the last notification by {channel} failed: {error}");
                out.push(Warning::new(WarningKind::NotificationFailed, text));
            }
        }
        Ok(out)
    }
}

/// One for each reason: a storage that is away is one trouble, however many backups wait for it.
fn not_deleted(backups: Vec<Backup>) -> Vec<Warning> {
    let mut by_reason: Vec<(String, Vec<Backup>)> = Vec::new();
    for backup in backups {
        let Some(error) = backup.error.clone() else { continue };
        match by_reason.iter_mut().find(|(why, of)| *why == error && of.iter().all(|o| o.storage == backup.storage)) {
            Some((_, same)) => same.push(backup),
            None => by_reason.push((error, vec![backup])),
        }
    }
    let warning = |(why, backups): (String, Vec<Backup>)| {
        let more = backups.len() - 1;
        let backup = backups.into_iter().next()?;
        let others = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        // A version before this one noted the reason alone.
        let why = why.strip_prefix("could not be deleted: ").unwrap_or(&why);
        let text = format!("backup {}{others} in {} could not be deleted: {why}", backup.name, backup.storage);
        Some(Warning {
            service: Some(backup.service),
            storage: Some(backup.storage),
            schedule: backup.schedule,
            backup: Some(backup.name),
            ..Warning::new(WarningKind::DeletionFailed, text)
        })
    };
    by_reason.into_iter().filter_map(warning).collect()
}

/// The store was changed, and nobody is there who copies it.
fn not_copied(pending: Pending) -> Warning {
    let what = format!("the last changes are not in the copy of the store in storage {}", pending.storage);
    let warning = Warning::new(WarningKind::StateCopy, format!("{what}: no daemon runs that would write it"));
    Warning { storage: Some(pending.storage), ..warning }
}

/// A service whose oplog should be recorded, and is not, with the reason that is known of it.
fn not_recorded(status: Status) -> Option<Warning> {
    let error = status.error.filter(|_| !status.schedules.is_empty())?;
    let text = format!("{}: its oplog is not recorded: {error}", status.service);
    Some(Warning { service: Some(status.service), ..Warning::new(WarningKind::PitrStopped, text) })
}

/// What the daemon finds wrong for as long as it lasts. That a service is stale is worked out anew, by the present time.
fn lasting(condition: Condition) -> Option<Warning> {
    let kind = match condition.event {
        Event::StorageFull => {
            let warning = Warning::new(WarningKind::StorageFull, condition.text);
            return Some(Warning { storage: Some(condition.subject), ..warning });
        }
        Event::StateCopy => {
            let warning = Warning::new(WarningKind::StateCopy, condition.text);
            return Some(Warning { storage: Some(condition.subject), ..warning });
        }
        Event::PitrGap => WarningKind::PitrGap,
        Event::PitrLag => WarningKind::PitrLag,
        Event::PitrStopped => WarningKind::PitrStopped,
        Event::PitrHeld => WarningKind::PitrHeld,
        _ => return None,
    };
    Some(Warning { service: Some(condition.subject), ..Warning::new(kind, condition.text) })
}

fn retention_failed(job: Job) -> Warning {
    let why = job.error.map_or_else(String::new, |error| format!(": {error}"));
    let schedule = job.schedule.as_deref().unwrap_or_default();
    let text = format!("retention of {schedule} could not delete all that goes (job {}){why}", job.id);
    Warning {
        service: job.service,
        storage: job.storage,
        schedule: job.schedule,
        backup: None,
        ..Warning::new(WarningKind::DeletionFailed, text)
    }
}

fn backup_failed(job: Job) -> Warning {
    let why = job.error.map_or_else(String::new, |error| format!(": {error}"));
    let text = format!("{}: the last backup failed (job {}){why}", job.service.as_deref().unwrap_or_default(), job.id);
    Warning {
        service: job.service,
        storage: job.storage,
        schedule: job.schedule,
        backup: job.backup,
        ..Warning::new(WarningKind::BackupFailed, text)
    }
}

fn of_schedule(schedule: &Schedule) -> Option<Warning> {
    let name = &schedule.name;
    let warn = |kind, text: String| {
        let (service, storage) = (Some(schedule.service.clone()), Some(schedule.storage.clone()));
        Some(Warning { schedule: Some(name.clone()), service, storage, ..Warning::new(kind, text) })
    };
    if let Some(next) = schedule.next_at.filter(|next| *next + OVERDUE < clock::now()) {
        let late = u64::try_from((clock::now() - next).num_seconds()).unwrap_or(0);
        return warn(WarningKind::Overdue, format!("schedule {name} is overdue by {}", text::duration(late)));
    }
    let last = schedule.last.as_ref()?;
    let why = last.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
    match last.state {
        JobState::Failed => warn(WarningKind::RunFailed, format!("the last run of schedule {name} failed{why}")),
        JobState::Missed => warn(WarningKind::RunMissed, format!("the last run of schedule {name} was missed{why}")),
        JobState::Skipped => warn(WarningKind::RunMissed, format!("the last run of schedule {name} was skipped{why}")),
        _ => None,
    }
}
