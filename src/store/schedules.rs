//! Schedules, and what was decided about each of their runs.
//!
//! Every run that was due is decided exactly once: the job that tells of it and the mark up to which everything is
//! decided change in one transaction, so that neither a crash nor a second daemon makes a run twice or loses one.
//! Whether a schedule is paused is never kept here: it follows from the jobs.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::jobs::{self, NewJob, must_exist, unfinished};
use super::{Store, from_json, from_word, millis, now, time, to_json, word};
use crate::domain::backup::{BackupRequest, BackupType, Compression};
use crate::domain::due::{Decision, HeldBack, Verdict};
use crate::domain::job::{Job, JobRequest, JobState, LogLevel};
use crate::domain::schedule::{LastRun, Schedule};
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

/// A schedule that is on, as the scheduler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleState {
    pub schedule: Schedule,
    /// Every run that was due up to here, this moment included, is decided.
    pub decided_until: DateTime<Utc>,
    /// The run of this schedule that is not finished yet.
    pub unfinished: Option<i64>,
}

const COLUMNS: &str =
    "SELECT s.name, s.service, s.storage, s.folder, s.type, s.model, s.selection, s.compression, s.cron,
    s.timezone, s.start, s.retention, s.retry, s.enabled, s.created_at, s.decided_until,
    (SELECT min(id) FROM jobs j WHERE j.kind = 'restore' AND j.service = s.service
        AND j.state IN ('queued', 'running', 'waiting_retry')),
    l.id, coalesce(l.due_at, l.created_at), l.state, l.backup, l.finished_at, l.error
    FROM schedules s LEFT JOIN jobs l ON l.id = (SELECT max(id) FROM jobs j
        WHERE j.schedule = s.name AND j.kind = 'backup' AND j.created_at >= s.created_at)";

impl Store {
    /// In the order of their names. `next_at` is left to whoever knows the calendar.
    pub fn schedules(&self) -> Result<Vec<Schedule>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{COLUMNS} ORDER BY s.name"))?;
            super::all(statement.query([])?, read)
        })
    }

    pub fn schedule(&self, name: &str) -> Result<Schedule> {
        self.read(|c| get(c, name))
    }

    /// The schedules that are on.
    pub fn schedules_on(&self) -> Result<Vec<ScheduleState>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{COLUMNS} WHERE s.enabled ORDER BY s.name"))?;
            super::all(statement.query([])?, |row| {
                let schedule = read(row)?;
                let unfinished = unfinished_run(c, &schedule.name)?;
                Ok(ScheduleState { schedule, decided_until: time(row.get(15)?), unfinished })
            })
        })
    }

    /// How many schedules are on.
    pub fn schedules_enabled(&self) -> Result<u64> {
        self.read(|c| {
            let count: i64 = c.query_row("SELECT count(*) FROM schedules WHERE enabled", [], |r| r.get(0))?;
            Ok(count as u64)
        })
    }

    /// Runs that were due before now are not made.
    ///
    /// Errors: `Conflict` for a taken name, `NotFound` for a service or storage that is not there.
    pub fn add_schedule(&self, schedule: &Schedule) -> Result<Schedule> {
        self.write(|t| {
            let name = &schedule.name;
            if t.query_row("SELECT 1 FROM schedules WHERE name = ?1", [name], |_| Ok(())).optional()?.is_some() {
                return Err(Error::of_field(
                    ErrorKind::Conflict,
                    "name",
                    format!("there is already a schedule {name}"),
                )
                .hint(format!("choose another name, or change it with mongokeep schedule edit {name}")));
            }
            insert(t, schedule)?;
            get(t, name)
        })
    }

    /// Applies `change` to the schedule as it is now. When it changes the calendar, runs that were due before now are
    /// not made.
    pub fn edit_schedule(&self, name: &str, change: impl FnOnce(&mut Schedule) -> Result<()>) -> Result<Schedule> {
        self.write(|t| {
            let before = get(t, name)?;
            let mut after = before.clone();
            change(&mut after)?;
            after.name.clone_from(&before.name);
            must_exist(t, "service", &after.service)?;
            must_exist(t, "storage", &after.storage)?;
            update(t, &after)?;
            let calendar = |s: &Schedule| (s.cron.clone(), s.timezone.clone(), s.start);
            let turned_on = after.enabled && !before.enabled;
            if turned_on || calendar(&after) != calendar(&before) {
                decided(t, name, now())?;
            }
            get(t, name)
        })
    }

    /// Switched on, it makes no run that was due while it was off.
    pub fn enable_schedule(&self, name: &str, on: bool) -> Result<Schedule> {
        self.edit_schedule(name, |schedule| {
            schedule.enabled = on;
            Ok(())
        })
    }

    /// Its backups and jobs stay and keep its name; a run that is queued or running goes on.
    pub fn remove_schedule(&self, name: &str) -> Result<()> {
        self.write(|t| {
            if t.execute("DELETE FROM schedules WHERE name = ?1", [name])? == 0 {
                return Err(missing(name));
            }
            Ok(())
        })
    }

    /// Errors: `Conflict` while a run of the schedule is not finished.
    pub fn must_have_ended(&self, name: &str) -> Result<()> {
        self.read(|c| must_have_ended(c, name))
    }

    /// Queues a run now, whether the schedule is on or off. `compression` is for a schedule that names none.
    ///
    /// Errors: `Conflict` while the previous run is not finished.
    pub fn run_schedule(&self, name: &str, compression: Compression) -> Result<Job> {
        self.write(|t| {
            let schedule = get(t, name)?;
            must_have_ended(t, name)?;
            queue(t, &schedule, now(), compression)
        })
    }

    /// Records what becomes of the runs that were due after `seen` up to `until`, and that all of them are decided.
    /// A run that has a record already, made before the clock was set back, gets no second one. `None`, and nothing changes, when somebody else decided meanwhile or the schedule is off or gone.
    /// `compression` is for a schedule that names none.
    pub fn decide_schedule(
        &self,
        name: &str,
        seen: DateTime<Utc>,
        until: DateTime<Utc>,
        decisions: &[Decision],
        compression: Compression,
    ) -> Result<Option<Vec<Job>>> {
        self.write(|t| {
            let present: Option<i64> = t
                .query_row("SELECT decided_until FROM schedules WHERE name = ?1 AND enabled", [name], |r| r.get(0))
                .optional()?;
            if present != Some(millis(seen)) {
                return Ok(None);
            }
            let schedule = get(t, name)?;
            let mut jobs = Vec::new();
            for Decision { due_at, verdict } in decisions {
                if is_recorded(t, name, *due_at)? {
                    continue;
                }
                let job = match verdict {
                    Verdict::Run => match unfinished_run(t, name)? {
                        None => queue(t, &schedule, *due_at, compression)?,
                        Some(id) => {
                            let why = format!("the previous run, job {id}, was not finished");
                            note(t, &schedule, *due_at, compression, JobState::Skipped, &why)?
                        }
                    },
                    Verdict::Skipped(why) => note(t, &schedule, *due_at, compression, JobState::Skipped, why)?,
                    Verdict::Missed(why) => note(t, &schedule, *due_at, compression, JobState::Missed, why)?,
                };
                jobs.push(job);
            }
            // A clock that was set back must not make what was decided undecided.
            decided(t, name, until.max(seen))?;
            Ok(Some(jobs))
        })
    }

    /// Takes back that everything up to `seen` is decided: the clock that said so was wrong. With `forget`, what was
    /// made for times after `to` does not count when they come. `false`, and nothing changes, when somebody decided
    /// meanwhile.
    pub fn pull_back_schedule(&self, name: &str, seen: DateTime<Utc>, to: DateTime<Utc>, forget: bool) -> Result<bool> {
        self.write(|t| {
            let changed = t.execute(
                "UPDATE schedules SET decided_until = ?3 WHERE name = ?1 AND decided_until = ?2 AND enabled",
                params![name, millis(seen), millis(to)],
            )?;
            if changed > 0 && forget {
                t.execute(
                    "UPDATE jobs SET due_at = NULL WHERE schedule = ?1 AND due_at > ?2",
                    params![name, millis(to)],
                )?;
            }
            Ok(changed > 0)
        })
    }

    /// The last restore into `service` that ended, from when it was asked for.
    pub fn last_restore_into(&self, service: &str) -> Result<Option<HeldBack>> {
        self.read(|c| {
            let sql = "SELECT id, created_at, finished_at FROM jobs
                       WHERE kind = 'restore' AND service = ?1 AND finished_at IS NOT NULL
                       ORDER BY finished_at DESC LIMIT 1";
            let read = |r: &Row<'_>| Ok(HeldBack { job: r.get(0)?, from: time(r.get(1)?), until: time(r.get(2)?) });
            Ok(c.query_row(sql, [service], read).optional()?)
        })
    }
}

/// Errors: `Conflict` while a run of the schedule is not finished.
fn must_have_ended(c: &Connection, name: &str) -> Result<()> {
    let Some(id) = unfinished_run(c, name)? else { return Ok(()) };
    let what = format!("the previous run of schedule {name} is not finished: job {id}");
    Err(Error::new(ErrorKind::Conflict, what)
        .hint(format!("wait for it with mongokeep job wait {id}, or end it with mongokeep job cancel {id}")))
}

fn is_recorded(t: &Transaction<'_>, name: &str, due_at: DateTime<Utc>) -> Result<bool> {
    let sql = "SELECT 1 FROM jobs WHERE schedule = ?1 AND due_at = ?2 LIMIT 1";
    Ok(t.query_row(sql, params![name, millis(due_at)], |_| Ok(())).optional()?.is_some())
}

/// Refuses to remove a service or storage (`column`) that a schedule names.
pub fn must_be_free(t: &Transaction<'_>, column: &str, name: &str) -> Result<()> {
    let (count, first): (i64, Option<String>) =
        t.query_row(&format!("SELECT count(*), min(name) FROM schedules WHERE {column} = ?1"), [name], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })?;
    let Some(first) = first else { return Ok(()) };
    let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    Err(Error::new(ErrorKind::Conflict, format!("{column} {} is in use by schedule {first}{others}", escape(name)))
        .hint(format!("mongokeep schedule remove {first}, or let it use another one: mongokeep schedule edit {first}")))
}

fn decided(t: &Transaction<'_>, name: &str, until: DateTime<Utc>) -> Result<()> {
    t.execute("UPDATE schedules SET decided_until = ?2 WHERE name = ?1", params![name, millis(until)])?;
    Ok(())
}

/// The run of a schedule that is queued, running or waiting for its retry.
fn unfinished_run(c: &Connection, name: &str) -> Result<Option<i64>> {
    unfinished(c, "schedule = ?1 AND kind = 'backup'", name)
}

/// Queues a run under a name that is free in this very transaction.
pub fn queue(t: &Transaction<'_>, schedule: &Schedule, due_at: DateTime<Utc>, compression: Compression) -> Result<Job> {
    let mut request = request(schedule, due_at, compression);
    let base = request.name.clone();
    let mut number = 1;
    while t.query_row("SELECT 1 FROM backups WHERE name = ?1", [&request.name], |_| Ok(())).optional()?.is_some() {
        number += 1;
        request.name = format!("{base}-{number}");
    }
    jobs::insert_backup(t, &request, Some(due_at))
}

/// Lists a run that is not made, as a job that is finished and never had a backup.
fn note(
    t: &Transaction<'_>,
    schedule: &Schedule,
    due_at: DateTime<Utc>,
    compression: Compression,
    state: JobState,
    why: &str,
) -> Result<Job> {
    let request = request(schedule, due_at, compression);
    let job = jobs::insert(
        t,
        NewJob {
            request: JobRequest::Backup(request),
            retry: schedule.retry,
            service: Some(&schedule.service),
            storage: Some(&schedule.storage),
            backup: None,
            schedule: Some(&schedule.name),
            occupies: None,
            due_at: Some(due_at),
        },
    )?;
    t.execute(
        "UPDATE jobs SET state = ?2, finished_at = created_at, error = ?3, hint = ?4 WHERE id = ?1",
        params![job.id, word(&state)?, escape(why), jobs::run_now(&schedule.name)],
    )?;
    jobs::log(t, job.id, 1, LogLevel::Warn, &format!("{}: {why}", state.word()))?;
    jobs::get(t, job.id)
}

fn request(schedule: &Schedule, due_at: DateTime<Utc>, compression: Compression) -> BackupRequest {
    BackupRequest {
        name: schedule.backup_name(due_at),
        service: schedule.service.clone(),
        storage: schedule.storage.clone(),
        folder: schedule.folder.clone(),
        model: schedule.model,
        backup_type: schedule.backup_type,
        selection: schedule.selection.clone(),
        compression: schedule.compression.unwrap_or(compression),
        retry: schedule.retry,
        schedule: Some(schedule.name.clone()),
    }
}

/// The oplog of a service is recorded once: one schedule at a time does it.
fn must_be_alone(t: &Transaction<'_>, s: &Schedule) -> Result<()> {
    if !s.enabled || s.backup_type != BackupType::Pitr {
        return Ok(());
    }
    let other: Option<(String, String, String)> = t
        .query_row(
            "SELECT name, storage, folder FROM schedules WHERE service = ?1 AND type = 'pitr' AND enabled AND name != ?2
             ORDER BY name LIMIT 1",
            [&s.service, &s.name],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
        .optional()?;
    let Some((other, storage, folder)) = other else { return Ok(()) };
    let what = format!(
        "schedule {other} already records the oplog of {} in storage {storage}, folder {:?}; one schedule at a time does",
        escape(&s.service),
        escape(&folder)
    );
    Err(Error::new(ErrorKind::Conflict, what)
        .hint(format!("switch the other off first: mongokeep schedule disable {other}")))
}

/// A schedule whose name is free. Runs that were due before now are not made. Nothing is left of it when it fails.
pub fn insert(t: &Transaction<'_>, schedule: &Schedule) -> Result<()> {
    must_exist(t, "service", &schedule.service)?;
    must_exist(t, "storage", &schedule.storage)?;
    must_be_alone(t, schedule)?;
    t.execute(
        "INSERT INTO schedules (name, service, storage, folder, type, model, selection, cron, timezone, start,
            retention, retry, enabled, created_at, decided_until)
         VALUES (?1, ?2, ?3, '', '', '', '', '', '', 0, '', '', 0, ?4, ?4)",
        params![schedule.name, schedule.service, schedule.storage, millis(now())],
    )?;
    update(t, schedule)
}

/// Everything a person decides.
fn update(t: &Transaction<'_>, s: &Schedule) -> Result<()> {
    must_be_alone(t, s)?;
    t.execute(
        "UPDATE schedules SET service = ?2, storage = ?3, folder = ?4, type = ?5, model = ?6, selection = ?7,
            compression = ?8, cron = ?9, timezone = ?10, start = ?11, retention = ?12, retry = ?13, enabled = ?14
         WHERE name = ?1",
        params![
            s.name,
            s.service,
            s.storage,
            s.folder,
            word(&s.backup_type)?,
            word(&s.model)?,
            to_json(&s.selection)?,
            s.compression.map(|c| c.to_string()),
            s.cron,
            s.timezone,
            millis(s.start),
            to_json(&s.retention)?,
            to_json(&s.retry)?,
            s.enabled,
        ],
    )?;
    Ok(())
}

pub fn get(c: &Connection, name: &str) -> Result<Schedule> {
    let mut statement = c.prepare_cached(&format!("{COLUMNS} WHERE s.name = ?1"))?;
    let mut rows = statement.query([name])?;
    rows.next()?.map(read).transpose()?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::not_found("schedule", escape(name)).hint("mongokeep schedule list shows what there is")
}

fn read(row: &Row<'_>) -> Result<Schedule> {
    let compression = row.get::<_, Option<String>>(7)?.map(|c| c.parse().map_err(super::damaged)).transpose()?;
    let last = match row.get::<_, Option<i64>>(17)? {
        None => None,
        Some(job) => Some(LastRun {
            at: time(row.get(18)?),
            job,
            state: from_word(row.get(19)?)?,
            backup: row.get(20)?,
            finished_at: row.get::<_, Option<i64>>(21)?.map(time),
            error: row.get(22)?,
        }),
    };
    Ok(Schedule {
        name: row.get(0)?,
        service: row.get(1)?,
        storage: row.get(2)?,
        folder: row.get(3)?,
        backup_type: from_word(row.get(4)?)?,
        model: from_word(row.get(5)?)?,
        selection: from_json(&row.get::<_, String>(6)?)?,
        compression,
        cron: row.get(8)?,
        timezone: row.get(9)?,
        start: time(row.get(10)?),
        retention: from_json(&row.get::<_, String>(11)?)?,
        retry: from_json(&row.get::<_, String>(12)?)?,
        enabled: row.get(13)?,
        created_at: time(row.get(14)?),
        next_at: None,
        last,
        paused_by: row.get(16)?,
    })
}
