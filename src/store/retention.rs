//! What retention takes from the catalogue, one backup at a time.
//!
//! Choosing a backup and taking it is one transaction, in which the plan is made anew: a backup that was pinned, or is
//! read by a restore, or became the last good one since somebody looked, is not taken. One that was taken is not listed
//! as good any more, and stays marked until nothing of it is left, whatever happens in between.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::jobs::{self, NewJob};
use super::{Deletion, Store, backups, deletions, from_json, now, slice_gc, time};
use crate::domain::job::{Job, JobRequest, JobState, LogLevel};
use crate::domain::retention::{Chained, Deleting, GoodBackup, Retention, RetentionPlan, plan};
use crate::domain::retry::{RetryMode, RetryPolicy};
use crate::domain::text::{escape, quoted};
use crate::error::{Error, Result};

/// What could not be deleted is tried again by itself: soon enough to be of use, and not so often that a storage
/// which is down is asked all day. The next run of the schedule tries again too.
const RETRY: RetryPolicy = RetryPolicy { mode: RetryMode::Auto, retries: 3, interval: 3600 };

/// A backup that retention deletes from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Retired {
    pub deletion: Deletion,
    /// Why it goes.
    pub reasons: Vec<String>,
}

struct Rules {
    retention: Retention,
    zone: Tz,
    service: String,
    storage: String,
}

impl Store {
    /// What would go now, and why each other one stays.
    pub fn retention_plan(&self, schedule: &str) -> Result<RetentionPlan> {
        self.read(|c| {
            let rules = rules(c, schedule)?.ok_or_else(|| {
                Error::not_found("schedule", escape(schedule)).hint("mongokeep schedule list shows what there is")
            })?;
            let plan = planned(c, schedule, &rules, now())?;
            Ok(RetentionPlan { deleting: deleting(c, schedule)?, oplog: slice_gc::planned(c, schedule)?, ..plan })
        })
    }

    /// Takes the next backup that goes: those of which deletion has begun first, and those that could not be deleted the last
    /// time behind all others. `skip`: what this job has tried already; `away`: storages that are not to be had. `None`:
    /// nothing is left to do.
    pub fn retire_next(
        &self,
        schedule: &str,
        job: i64,
        skip: &BTreeSet<String>,
        away: &BTreeSet<String>,
    ) -> Result<Option<Retired>> {
        self.write(|t| {
            let mut going = Vec::new();
            for name in leftovers(t, schedule, job)? {
                let backup = backups::get(t, &name)?;
                going.push((backup.error.is_some(), name, backup.storage, vec!["deleting it had begun".to_owned()]));
            }
            if let Some(rules) = rules(t, schedule)? {
                let plan = planned(t, schedule, &rules, now())?;
                forget_reasons(t, &plan)?;
                let planned = plan.going();
                going
                    .extend(planned.map(|b| (b.error.is_some(), b.name.clone(), b.storage.clone(), b.reasons.clone())));
            }
            // Stable: the oldest of each first.
            going.sort_by_key(|(failed, ..)| *failed);
            let next = going.into_iter().find(|(_, name, storage, _)| !skip.contains(name) && !away.contains(storage));
            let Some((_, name, _, reasons)) = next else { return Ok(None) };
            deletions::mark(t, &name, Some(job))?;
            Ok(Some(Retired { deletion: deletions::taken(t, &name)?, reasons }))
        })
    }

    /// Nothing of it is left.
    pub fn retired(&self, name: &str) -> Result<()> {
        self.write(|t| backups::removed(t, name))
    }

    /// It could not be deleted: one that is whole is good again, of one that is not that is said.
    pub fn retire_failed(&self, name: &str, error: &str) -> Result<()> {
        self.write(|t| deletions::failed(t, name, error))
    }

    /// Notes why those that go wait: their storage is away. Returns how many.
    pub fn retire_postponed(&self, schedule: &str, storage: &str, error: &str) -> Result<usize> {
        self.write(|t| {
            let Some(rules) = rules(t, schedule)? else { return Ok(0) };
            let mut waiting = 0;
            for backup in planned(t, schedule, &rules, now())?.going().filter(|b| b.storage == storage) {
                waiting += 1;
                t.execute(
                    "UPDATE backups SET error = ?2 WHERE name = ?1 AND state = 'succeeded'",
                    params![backup.name, format!("could not be deleted: {error}")],
                )?;
            }
            Ok(waiting)
        })
    }

    /// The last retention job of each schedule, where it failed and there is still something to do, by schedule.
    pub fn retentions_failed(&self) -> Result<Vec<Job>> {
        self.read(|c| {
            let mut failed = Vec::new();
            for job in jobs::last_retentions_failed(c)? {
                let Some(schedule) = &job.schedule else { continue };
                if job.state == JobState::WaitingRetry || has_work(c, schedule)? {
                    failed.push(job);
                }
            }
            Ok(failed)
        })
    }

    /// A person ended it, which is said of one that is not whole any more.
    pub fn retire_cancelled(&self, name: &str, error: &str) -> Result<()> {
        self.write(|t| {
            deletions::failed(t, name, error)?;
            t.execute("UPDATE backups SET error = NULL WHERE name = ?1 AND state = 'succeeded'", [name])?;
            Ok(())
        })
    }

    /// What the storage holds under its name is another's: of ours nothing is left, so it is no good one.
    pub fn retire_replaced(&self, name: &str, error: &str) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE backups SET state = 'incomplete', state_before = NULL, retired_by = NULL, error = ?2
                 WHERE name = ?1 AND state = 'deleting'",
                params![name, error],
            )?;
            Ok(())
        })
    }

    /// Queues what a daemon that starts finds to do: deletions that were begun, and what the schedules which are on no
    /// longer keep. Returns how many jobs.
    pub fn queue_retentions(&self) -> Result<usize> {
        self.write(|t| {
            let mut statement = t.prepare(
                "SELECT name FROM schedules WHERE enabled
                 UNION SELECT schedule FROM backups WHERE state = 'deleting' AND retired_by IS NOT NULL
                     AND schedule IS NOT NULL",
            )?;
            let names: Vec<String> = statement.query_map([], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
            let mut queued = 0;
            for name in names {
                queued += usize::from(queue(t, &name)?.is_some());
            }
            Ok(queued)
        })
    }
}

/// Queues a retention job for `schedule` when there is something to delete. One that waits for its retry is tried at
/// once instead.
pub fn queue(t: &Transaction<'_>, schedule: &str) -> Result<Option<Job>> {
    let rules = rules(t, schedule)?;
    if let Some(rules) = &rules {
        forget_reasons(t, &planned(t, schedule, rules, now())?)?;
    }
    if !has_work(t, schedule)? {
        return Ok(None);
    }
    let waiting = jobs::unfinished(t, "kind = 'retention' AND state != 'running' AND schedule = ?1", schedule)?;
    if let Some(id) = waiting {
        let job = jobs::get(t, id)?;
        if job.state == JobState::WaitingRetry {
            t.execute("UPDATE jobs SET state = 'queued', phase = '', next_attempt_at = NULL WHERE id = ?1", [id])?;
            jobs::log(t, id, job.attempt, LogLevel::Info, "the schedule has run again: tried at once")?;
        }
        return Ok(Some(jobs::get(t, id)?));
    }
    let job = jobs::insert(
        t,
        NewJob {
            request: JobRequest::Retention { schedule: schedule.to_owned() },
            retry: RETRY,
            service: rules.as_ref().map(|r| r.service.as_str()),
            storage: rules.as_ref().map(|r| r.storage.as_str()),
            backup: None,
            schedule: Some(schedule),
            occupies: None,
            due_at: None,
        },
    )?;
    Ok(Some(job))
}

/// Whether retention has anything to delete.
fn has_work(c: &Connection, schedule: &str) -> Result<bool> {
    if !leftovers(c, schedule, 0)?.is_empty() {
        return Ok(true);
    }
    let Some(rules) = rules(c, schedule)? else { return Ok(false) };
    Ok(planned(c, schedule, &rules, now())?.going().next().is_some() || slice_gc::any(c, &rules.service)?)
}

/// Why a backup could not be deleted is nobody's trouble any more once it stays.
fn forget_reasons(t: &Transaction<'_>, plan: &RetentionPlan) -> Result<()> {
    for backup in plan.backups.iter().filter(|b| b.keep) {
        t.prepare_cached(
            "UPDATE backups SET error = NULL WHERE name = ?1 AND state = 'succeeded' AND error IS NOT NULL",
        )?
        .execute([&backup.name])?;
    }
    Ok(())
}

/// Those of which deletion has begun, oldest first.
fn deleting(c: &Connection, schedule: &str) -> Result<Vec<Deleting>> {
    let mut statement = c.prepare_cached(
        "SELECT name, storage, folder, size_bytes, error FROM backups WHERE schedule = ?1 AND state = 'deleting'
         ORDER BY started_at, name",
    )?;
    let rows = statement.query_map([schedule], |r| {
        Ok(Deleting {
            name: r.get(0)?,
            storage: r.get(1)?,
            folder: r.get(2)?,
            size_bytes: r.get::<_, Option<i64>>(3)?.map(|n| n as u64),
            error: r.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The running retention job that is deleting the backup `name`.
pub fn taken(c: &Connection, name: &str) -> Result<Option<i64>> {
    Ok(c.query_row(
        "SELECT j.id FROM backups b JOIN jobs j ON j.id = b.retired_by
         WHERE b.name = ?1 AND b.state = 'deleting' AND j.state = 'running'",
        [name],
        |r| r.get(0),
    )
    .optional()?)
}

/// Backups of which deletion has begun and nobody else is at it, oldest first.
fn leftovers(c: &Connection, schedule: &str, job: i64) -> Result<Vec<String>> {
    let mut statement = c.prepare_cached(
        "SELECT name FROM backups b WHERE schedule = ?1 AND state = 'deleting' AND retired_by IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = b.retired_by AND j.id != ?2 AND j.state = 'running')
         ORDER BY started_at, name",
    )?;
    let rows = statement.query_map(params![schedule, job], |r| r.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn rules(c: &Connection, schedule: &str) -> Result<Option<Rules>> {
    let row: Option<(String, String, String, String)> = c
        .query_row("SELECT retention, timezone, service, storage FROM schedules WHERE name = ?1", [schedule], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
        })
        .optional()?;
    let Some((retention, zone, service, storage)) = row else { return Ok(None) };
    let zone = zone.parse().map_err(|_| super::damaged(format!("time zone {}", quoted(&zone))))?;
    Ok(Some(Rules { retention: from_json(&retention)?, zone, service, storage }))
}

/// The names of the backups that the rules of a schedule keep by themselves: what is pinned, or in use, may be kept
/// besides.
pub fn kept_by_rules(c: &Connection, schedule: &str, now: DateTime<Utc>) -> Result<(Retention, Vec<String>)> {
    let Some(rules) = rules(c, schedule)? else { return Ok((Retention::default(), Vec::new())) };
    let mut good = good(c, schedule)?;
    for backup in &mut good {
        (backup.pinned, backup.used_by) = (false, None);
    }
    let plan = plan(schedule, rules.retention, &good, now, rules.zone);
    let kept = plan.backups.into_iter().filter(|b| b.keep && b.service == rules.service).map(|b| b.name);
    Ok((rules.retention, kept.collect()))
}

/// The plan over the good backups of every service that this schedule has backed up. Those it made are those whose job
/// this home ran for it: a backup that another home made, and a sync found, is never its to delete, nor is one of an
/// earlier schedule that was removed and had the same name.
fn planned(c: &Connection, schedule: &str, rules: &Rules, now: DateTime<Utc>) -> Result<RetentionPlan> {
    Ok(plan(schedule, rules.retention, &good(c, schedule)?, now, rules.zone))
}

fn good(c: &Connection, schedule: &str) -> Result<Vec<GoodBackup>> {
    let mut statement = c.prepare_cached(
        "SELECT b.name, b.service, coalesce(b.consistent_t * 1000, b.finished_at, b.started_at), b.size_bytes, b.pinned,
             EXISTS (SELECT 1 FROM jobs j WHERE j.backup = b.name AND j.kind = 'backup' AND j.state = 'succeeded'),
             b.schedule IS ?1 AND EXISTS (SELECT 1 FROM jobs j WHERE j.backup = b.name AND j.kind = 'backup'
                 AND j.schedule IS ?1 AND j.state = 'succeeded'
                 AND j.created_at >= (SELECT created_at FROM schedules WHERE name = ?1)),
             (SELECT min(id) FROM jobs j WHERE j.backup = b.name AND j.state IN ('queued', 'running', 'waiting_retry')),
             b.started_at,
             coalesce((SELECT j.asked_for FROM jobs j WHERE j.backup = b.name AND j.kind = 'backup'
                 AND j.state = 'succeeded' ORDER BY j.id DESC LIMIT 1), 0),
             b.verify_error IS NOT NULL, b.whole, b.storage, b.folder, b.error, b.chain_base, b.chain_source IS NULL
         FROM backups b WHERE b.state = 'succeeded'
             AND b.service IN (SELECT service FROM backups WHERE schedule = ?1 AND state = 'succeeded')",
    )?;
    let rows = statement.query_map([schedule], |r| {
        Ok(GoodBackup {
            name: r.get(0)?,
            service: r.get(1)?,
            at: time(r.get(2)?),
            size_bytes: r.get::<_, Option<i64>>(3)?.map(|n| n as u64),
            pinned: r.get(4)?,
            of_home: r.get(5)?,
            of_schedule: r.get(6)?,
            used_by: r.get(7)?,
            started: time(r.get(8)?),
            asked_for: r.get(9)?,
            damaged: r.get(10)?,
            whole: r.get(11)?,
            storage: r.get(12)?,
            folder: r.get(13)?,
            error: r.get(14)?,
            chain: match r.get::<_, Option<String>>(15)? {
                Some(base) => Some(Chained { base, is_base: r.get(16)? }),
                None => None,
            },
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
