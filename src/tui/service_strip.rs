//! The strip above the backups: one line for each service, what needs a person first.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::model::Model;
use super::recording::{self, Trouble};
use crate::domain::backup::{Backup, BackupState};
use crate::domain::job::{Job, JobKind, JobState};
use crate::domain::warning::WarningKind;

/// How many of its last backups a service's spark line shows.
pub const SPARKS: usize = 30;

/// How a service is protected, the worst first: the strip is sorted by it, and counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its last backup failed, it is unreachable, or its recording has stopped.
    Failing,
    /// It has a backup, but not what its schedules promise.
    Late,
    /// No backup of it was ever good.
    Unprotected,
    Well,
}

impl Standing {
    pub const ALL: [Self; 4] = [Self::Failing, Self::Late, Self::Unprotected, Self::Well];

    pub fn word(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Late => "late",
            Self::Unprotected => "unprotected",
            Self::Well => "ok",
        }
    }
}

/// What the strip says about a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripRow {
    pub service: String,
    pub standing: Standing,
    pub last_good: Option<DateTime<Utc>>,
    /// The newest backup that ended did not end well.
    pub last_failed: bool,
    /// The schedule whose last run failed, while a newer backup of the service is good.
    pub failed_schedule: Option<String>,
    /// What failed is being tried again.
    pub retrying: bool,
    /// Sizes of the last backups, oldest first; `None` for one that failed.
    pub sizes: Vec<Option<u64>>,
    /// When the next of its schedules is due.
    pub next: Option<DateTime<Utc>>,
}

/// One row for each service, the worst first. Runs when data change, and once a minute: it looks at every backup once.
pub fn rows(model: &Model) -> Vec<StripRow> {
    let mut rows: Vec<StripRow> = model
        .data
        .services
        .iter()
        .map(|s| StripRow {
            service: s.name.clone(),
            standing: Standing::Well,
            last_good: s.last_good_backup_at,
            last_failed: false,
            failed_schedule: None,
            retrying: false,
            sizes: Vec::new(),
            next: None,
        })
        .collect();
    let at: HashMap<&str, usize> = model.data.services.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    // Backups come newest first, so that the first few of each service are its last ones.
    for backup in model.data.backups.iter() {
        let Some(row) = at.get(backup.service.as_str()).and_then(|i| rows.get_mut(*i)) else { continue };
        if row.sizes.len() >= SPARKS {
            continue;
        }
        if let Some(size) = size_of_run(backup) {
            row.last_failed |= size.is_none() && row.sizes.is_empty();
            row.sizes.push(size);
        }
    }
    // A run may fail before there is a backup of it.
    for warning in &model.data.warnings {
        if matches!(warning.kind, WarningKind::RunFailed | WarningKind::BackupFailed)
            && let Some(i) = warning.service.as_deref().and_then(|service| at.get(service))
            && let Some(row) = rows.get_mut(*i)
        {
            // The newest backup may be a good one of another schedule: then it has to be said which one failed.
            if !row.last_failed {
                row.failed_schedule.clone_from(&warning.schedule);
            }
            row.last_failed = true;
        }
    }
    // A failure is not made good by beginning to try again.
    for job in model.unfinished().filter(|job| job.kind == JobKind::Backup && tries_again(job)) {
        if let Some(row) = job.service.as_deref().and_then(|name| at.get(name)).and_then(|i| rows.get_mut(*i)) {
            (row.last_failed, row.retrying) = (true, true);
        }
    }
    for schedule in model.data.schedules.iter().filter(|s| s.enabled) {
        if let Some(row) = at.get(schedule.service.as_str()).and_then(|i| rows.get_mut(*i)) {
            row.next = row.next.into_iter().chain(schedule.next_at).min();
        }
    }
    for row in &mut rows {
        row.sizes.reverse();
        row.standing = standing(model, row);
    }
    sort(&mut rows);
    rows
}

/// Whether a job has failed before, and is not done.
fn tries_again(job: &Job) -> bool {
    match job.state {
        JobState::WaitingRetry => true,
        JobState::Running => job.attempt > 1,
        JobState::Queued => job.attempt > 0 && job.started_at.is_some(),
        JobState::Succeeded | JobState::Failed | JobState::Cancelled | JobState::Skipped | JobState::Missed => false,
    }
}

fn sort(rows: &mut [StripRow]) {
    rows.sort_by(|a, b| (a.standing, a.last_good, &a.service).cmp(&(b.standing, b.last_good, &b.service)));
}

/// Takes in that a service was lost or is back. A thousand may be lost at once, and then nobody looks at every backup a
/// thousand times.
pub fn stand_anew(model: &mut Model, service: &str) {
    let Some(i) = model.strip.iter().position(|row| row.service == service) else { return };
    let Some(now) = model.strip.get(i).map(|row| standing(model, row)) else { return };
    if let Some(row) = model.strip.get_mut(i).filter(|row| row.standing != now) {
        row.standing = now;
        sort(&mut model.strip);
    }
}

/// What a run is in a line of sizes: `Some(None)` for one that failed, `None` for one that has not ended.
pub fn size_of_run(backup: &Backup) -> Option<Option<u64>> {
    match backup.state {
        BackupState::Succeeded => Some(Some(backup.size_bytes.unwrap_or(0))),
        BackupState::Failed | BackupState::Incomplete => Some(None),
        BackupState::Running | BackupState::Deleting => None,
    }
}

fn standing(model: &Model, row: &StripRow) -> Standing {
    let trouble = model.pitr(&row.service).and_then(|status| recording::trouble(model, status));
    let of_it = model.data.warnings.iter().filter(|w| w.service.as_ref() == Some(&row.service));
    let late = |kind| match kind {
        WarningKind::Stale
        | WarningKind::Damaged
        | WarningKind::RunMissed
        | WarningKind::Overdue
        | WarningKind::PitrGap
        | WarningKind::PitrLag
        | WarningKind::PitrStopped
        | WarningKind::PitrHeld => true,
        // Counted as failing, or not about what a service can be restored to.
        WarningKind::RunFailed
        | WarningKind::BackupFailed
        | WarningKind::DeletionFailed
        | WarningKind::StorageFull
        | WarningKind::StateCopy
        | WarningKind::NoDaemon
        | WarningKind::ManagementOff
        | WarningKind::NotificationFailed => false,
    };
    // One that nobody backs up is no worse for being away.
    let is_used = row.last_good.is_some() || model.data.schedules.iter().any(|s| s.enabled && s.service == row.service);
    let is_lost = is_used && model.lost_service(&row.service).is_some();
    if row.last_failed || trouble == Some(Trouble::Stopped) || is_lost {
        Standing::Failing
    } else if row.last_good.is_none() {
        Standing::Unprotected
    } else if trouble.is_some() || of_it.map(|w| w.kind).any(late) {
        Standing::Late
    } else {
        Standing::Well
    }
}

/// A line of the strip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StripLine<'a> {
    /// How many services stand how.
    Counts(Vec<(Standing, usize)>),
    Service(&'a StripRow),
    /// Services without any backup, which say no more than that.
    Unprotected(Vec<&'a StripRow>),
}

impl StripLine<'_> {
    /// How many services it is about.
    pub fn services(&self) -> usize {
        match self {
            Self::Counts(_) => 0,
            Self::Service(_) => 1,
            Self::Unprotected(rows) => rows.len(),
        }
    }
}

/// The lines for the rows of [`rows`]: how many stand how, then what needs somebody first.
pub fn lines(rows: &[StripRow]) -> Vec<StripLine<'_>> {
    let mut lines = Vec::new();
    if rows.len() > 1 {
        let count = |standing| (standing, rows.iter().filter(|r| r.standing == standing).count());
        lines.push(StripLine::Counts(Standing::ALL.map(count).into_iter().filter(|(_, n)| *n > 0).collect()));
    }
    let bare: Vec<&StripRow> = rows.iter().filter(|r| r.standing == Standing::Unprotected).collect();
    for row in rows {
        match lines.last_mut() {
            _ if row.standing != Standing::Unprotected || bare.len() == 1 => lines.push(StripLine::Service(row)),
            Some(StripLine::Unprotected(of)) => of.push(row),
            _ => lines.push(StripLine::Unprotected(vec![row])),
        }
    }
    lines
}

/// `▁▂▃✗▂`: heights against the largest.
pub fn spark(sizes: &[Option<u64>]) -> String {
    let most = sizes.iter().flatten().copied().max().unwrap_or(0).max(1);
    let height = |n: u64| ['▁', '▂', '▃', '▄', '▅', '▆', '▇'][(n as u128 * 6 / most as u128) as usize];
    sizes.iter().map(|size| size.map_or('✗', height)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spark_line_shows_sizes_and_failures() {
        assert_eq!(spark(&[Some(0), Some(50), None, Some(100)]), "▁▄✗▇");
        assert_eq!(spark(&[]), "");
        assert_eq!(spark(&[Some(u64::MAX)]), "▇");
    }
}
