//! How many backups of a schedule are kept.
//!
//! The plan is a value: it is shown by a dry run, tested over random histories, and carried out by the daemon, which
//! makes it anew right before each deletion. It must never let the last good backup of a service go, nor a pinned one,
//! nor one that this schedule did not make.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;

/// Which backups of one schedule stay. A backup stays when any of the rules keeps it; without any rule all stay.
/// JSON: `{"count": 7, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0, "keep_within": 0}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// The newest so many; 0: this rule keeps nothing by itself, and everything when no other rule is given.
    pub count: u32,
    /// The last one of each of the newest so many days (weeks, months, years) that have one, in the zone of the
    /// schedule.
    pub keep_daily: u32,
    pub keep_weekly: u32,
    pub keep_monthly: u32,
    pub keep_yearly: u32,
    /// All that are younger than so many seconds; 0: no such rule.
    pub keep_within: u64,
}

impl Retention {
    /// So many backups the rules want at least, before they let one go.
    pub fn wanted(&self) -> u32 {
        self.count.max(1)
    }

    /// Nothing is ever deleted.
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }

    /// The rules in a few words: `all`, or `last 7, 4 weekly, within 30d`.
    pub fn words(&self) -> String {
        let rules = [
            (self.count, format!("last {}", self.count)),
            (self.keep_daily, format!("{} daily", self.keep_daily)),
            (self.keep_weekly, format!("{} weekly", self.keep_weekly)),
            (self.keep_monthly, format!("{} monthly", self.keep_monthly)),
            (self.keep_yearly, format!("{} yearly", self.keep_yearly)),
        ];
        let mut words: Vec<String> = rules.into_iter().filter(|(n, _)| *n > 0).map(|(_, text)| text).collect();
        if self.keep_within > 0 {
            words.push(format!("within {}", super::retry::format_duration(self.keep_within)));
        }
        if words.is_empty() { "all".into() } else { words.join(", ") }
    }
}

/// A good backup, as far as retention looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodBackup {
    pub name: String,
    pub service: String,
    pub storage: String,
    pub folder: String,
    /// The moment it is consistent at.
    pub at: DateTime<Utc>,
    /// When it was begun: while nothing is written at the server, several backups are consistent at one moment.
    pub started: DateTime<Utc>,
    pub size_bytes: Option<u64>,
    pub pinned: bool,
    /// Made by this home. One that another home made may be deleted by it at any time, so it is nobody's last.
    pub of_home: bool,
    /// Made by this home for the schedule in question; no other goes.
    pub of_schedule: bool,
    /// A base that a gap in the recorded oplog, or a restore, asked for. It takes no other's place: what was before stays
    /// restorable until the next runs have made it old.
    pub asked_for: bool,
    /// A verification found it so. It takes no good one's place, and is nobody's last.
    pub damaged: bool,
    /// Nothing was left out by choice. `None`: it is of a version that did not note it, so it may hold everything.
    pub whole: Option<bool>,
    /// The unfinished job that reads it.
    pub used_by: Option<i64>,
    /// Why it could not be deleted the last time.
    pub error: Option<String>,
    /// Of a chain of increments, which goes as a whole or not at all.
    pub chain: Option<Chained>,
}

/// The chain of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    /// Names the chain in its storage and folder.
    pub base: String,
    pub is_base: bool,
}

/// What becomes of each backup of a schedule, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetentionPlan {
    pub schedule: String,
    pub retention: Retention,
    /// When the plan was made; ages are counted from here.
    pub at: DateTime<Utc>,
    pub backups: Vec<PlannedBackup>,
    /// Those that retention has begun to delete, and that are no backups any more.
    pub deleting: Vec<Deleting>,
    /// Of a schedule that records the oplog: what goes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oplog: Option<PlannedOplog>,
    /// Bytes that become free with the backups that go. Fewer than these have, where their storage keeps what is deleted.
    pub frees_bytes: u64,
    /// What the storages say of that, as sentences.
    pub warnings: Vec<String>,
}

/// What retention deletes of a recorded oplog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PlannedOplog {
    /// Slices that go, and their bytes.
    pub slices: u64,
    pub size_bytes: u64,
    /// What of that becomes free.
    pub frees_bytes: u64,
    /// Where the window begins that can be restored; `None`: nothing goes.
    pub from: Option<DateTime<Utc>>,
    pub from_ts: Option<Timestamp>,
}

/// A backup of which something may be left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleting {
    pub name: String,
    pub storage: String,
    pub folder: String,
    pub size_bytes: Option<u64>,
    /// Why it is not gone yet; `None`: it is being deleted.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedBackup {
    pub name: String,
    pub service: String,
    pub storage: String,
    pub folder: String,
    pub at: DateTime<Utc>,
    pub size_bytes: Option<u64>,
    pub keep: bool,
    /// Why it stays, or why it goes; never empty.
    pub reasons: Vec<String>,
    /// Why it could not be deleted the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl RetentionPlan {
    /// Those that go, oldest first: the order in which they are deleted, so that what is left when deleting stops half
    /// way is always the newest.
    pub fn going(&self) -> impl Iterator<Item = &PlannedBackup> {
        self.backups.iter().rev().filter(|b| !b.keep)
    }
}

/// What stays of the backups that `schedule` made, and why. `good` holds every good backup of the services concerned.
pub fn plan(schedule: &str, retention: Retention, good: &[GoodBackup], now: DateTime<Utc>, zone: Tz) -> RetentionPlan {
    let newest_first = |a: &&GoodBackup, b: &&GoodBackup| (b.at, b.started, &b.name).cmp(&(a.at, a.started, &a.name));
    let mut all: Vec<&GoodBackup> = good.iter().collect();
    all.sort_by(newest_first);
    let mut last: BTreeMap<&str, Last<'_>> = BTreeMap::new();
    for backup in all.iter().filter(|b| b.of_home && !b.damaged) {
        last.entry(&backup.service).or_default().see(backup);
    }
    let own: Vec<&GoodBackup> = all.iter().copied().filter(|b| b.of_schedule).collect();
    let mut reasons: Vec<Vec<String>> = vec![Vec::new(); own.len()];
    if retention.keeps_all() {
        reasons.iter_mut().for_each(|r| r.push("retention keeps all".into()));
    }
    if retention.count > 0 {
        newest(retention.count as usize, &own, &mut reasons);
    }
    type Period = fn(DateTime<Tz>) -> String;
    let periods: [(u32, Period); 4] = [
        (retention.keep_daily, |at| at.format("%Y-%m-%d").to_string()),
        (retention.keep_weekly, |at| format!("week {}-W{:02}", at.iso_week().year(), at.iso_week().week())),
        (retention.keep_monthly, |at| at.format("%Y-%m").to_string()),
        (retention.keep_yearly, |at| at.format("%Y").to_string()),
    ];
    for (limit, period) in periods {
        let mut seen = BTreeSet::new();
        for (backup, reasons) in own.iter().zip(&mut reasons) {
            let period = period(backup.at.with_timezone(&zone));
            if !backup.damaged && !seen.contains(&period) && seen.len() < limit as usize {
                reasons.push(format!("last of {period}"));
                seen.insert(period);
            }
        }
    }
    if retention.keep_within > 0 {
        // Longer than the calendar: everything is younger.
        let since = i64::try_from(retention.keep_within)
            .ok()
            .and_then(TimeDelta::try_seconds)
            .and_then(|within| now.checked_sub_signed(within));
        let words = crate::domain::retry::format_duration(retention.keep_within);
        for (backup, reasons) in own.iter().zip(&mut reasons) {
            if since.is_none_or(|since| backup.at > since) {
                reasons.push(format!("younger than {words}"));
            }
        }
    }
    for (backup, reasons) in own.iter().zip(&mut reasons) {
        if backup.pinned {
            reasons.push("pinned".into());
        }
        reasons.extend(last.get(backup.service.as_str()).and_then(|last| last.why(backup, schedule)));
        if let Some(job) = backup.used_by.filter(|_| reasons.is_empty()) {
            reasons.push(format!("in use by job {job}, goes later"));
        }
    }
    keep_chains(&all, &own, &mut reasons);
    let backups = own.into_iter().zip(reasons).map(|(backup, mut reasons)| {
        let keep = !reasons.is_empty();
        if !keep {
            reasons.push(why_it_goes(&retention));
        }
        PlannedBackup {
            name: backup.name.clone(),
            service: backup.service.clone(),
            storage: backup.storage.clone(),
            folder: backup.folder.clone(),
            at: backup.at,
            size_bytes: backup.size_bytes,
            keep,
            reasons,
            error: backup.error.clone().filter(|_| !keep),
        }
    });
    let (schedule, backups) = (schedule.to_owned(), backups.collect::<Vec<_>>());
    let frees_bytes = backups.iter().filter(|b| !b.keep).filter_map(|b| b.size_bytes).fold(0, u64::saturating_add);
    let (deleting, warnings) = (Vec::new(), Vec::new());
    RetentionPlan { schedule, retention, at: now, backups, deleting, oplog: None, frees_bytes, warnings }
}

/// The last good backups of a service, by name, that no rule lets go.
///
/// The last whole one never does: one that was limited to some collections, or to none by a typing error, replaces
/// nothing. Of those that are newer than it, or of a service that has no whole one, the last that may be whole stays,
/// and the last of the schedule: a schedule may be limited on purpose, and then that is all there is.
#[derive(Default)]
struct Last<'a> {
    whole: Option<&'a str>,
    perhaps: Option<&'a str>,
    of_schedule: Option<&'a str>,
}

impl<'a> Last<'a> {
    /// The good backups of the service come newest first.
    fn see(&mut self, backup: &'a GoodBackup) {
        if self.whole.is_some() {
            return;
        }
        match backup.whole {
            Some(true) => self.whole = Some(&backup.name),
            None => _ = self.perhaps.get_or_insert(&backup.name),
            Some(false) => {}
        }
        if backup.of_schedule {
            self.of_schedule.get_or_insert(&backup.name);
        }
    }

    fn why(&self, backup: &GoodBackup, schedule: &str) -> Option<String> {
        let name = Some(backup.name.as_str());
        if self.whole == name || self.perhaps == name {
            Some(format!("the last good backup of {}", backup.service))
        } else if self.of_schedule == name {
            Some(format!("the last good backup that {schedule} made of {}", backup.service))
        } else {
            None
        }
    }
}

/// Keeps the newest `count` runs, and the bases besides them that are not older.
fn newest(count: usize, own: &[&GoodBackup], reasons: &mut [Vec<String>]) {
    let mut runs = 0;
    for (backup, reasons) in own.iter().zip(reasons) {
        if backup.damaged {
            reasons.push("damaged, counts for nothing, as new as the newest runs".into());
            continue;
        }
        if backup.asked_for {
            reasons.push("made after a gap or a restore, as new as the newest runs".into());
            continue;
        }
        runs += 1;
        reasons.push(format!("newest {runs} of {count}"));
        if runs == count {
            break;
        }
    }
}

/// A chain of increments stays as a whole when any of it stays, and when not all of it is this schedule's.
fn keep_chains(all: &[&GoodBackup], own: &[&GoodBackup], reasons: &mut [Vec<String>]) {
    let of = |b: &GoodBackup| b.chain.as_ref().map(|c| (b.storage.clone(), b.folder.clone(), c.base.clone()));
    let mut held: BTreeMap<(String, String, String), String> = BTreeMap::new();
    for (backup, reasons) in own.iter().zip(reasons.iter()) {
        if let Some(chain) = of(backup).filter(|_| !reasons.is_empty()) {
            held.entry(chain).or_insert_with(|| format!("a chain of increments stays as a whole, for {}", backup.name));
        }
    }
    for other in all.iter().filter(|b| !b.of_schedule) {
        if let Some(chain) = of(other) {
            let why = format!("{} is of its chain of increments, and not of this schedule", other.name);
            held.entry(chain).or_insert(why);
        }
    }
    for (backup, reasons) in own.iter().zip(reasons.iter_mut()).filter(|(_, reasons)| reasons.is_empty()) {
        let Some(chain) = of(backup) else { continue };
        let is_base_there =
            || all.iter().any(|b| b.chain.as_ref().is_some_and(|c| c.is_base) && of(b).as_ref() == Some(&chain));
        match held.get(&chain) {
            Some(why) => reasons.push(why.clone()),
            None if !is_base_there() => reasons.push("the base of its chain of increments is not known here".into()),
            None => {}
        }
    }
}

fn why_it_goes(retention: &Retention) -> String {
    if *retention == (Retention { count: retention.count, ..Retention::default() }) {
        format!("older than the newest {}", retention.count)
    } else {
        "no rule keeps it".into()
    }
}

#[cfg(test)]
mod tests;
