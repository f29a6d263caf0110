//! Jobs as people see them: queued, listed, cancelled, tried again. What the daemon does with them is in `claims`.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Store, backups, deletions, from_json, from_word, millis, now, time, to_json, word};
use crate::domain::backup::{BackupRequest, BackupState};
use crate::domain::job::{Job, JobKind, JobRequest, JobState, LogLevel, LogLine};
use crate::domain::job_kind::OnBackup;
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::retry::RetryPolicy;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

const COLUMNS: &str =
    "SELECT id, kind, state, attempt, service, storage, backup, schedule, progress, phase, created_at,
    started_at, finished_at, next_attempt_at, error, hint, cancel_requested, retry, due_at,
    CASE WHEN kind = 'restore' THEN json_extract(request, '$.plan.point_in_time.until') END FROM jobs";

pub struct NewJob<'a> {
    pub request: JobRequest,
    pub retry: RetryPolicy,
    pub service: Option<&'a str>,
    pub storage: Option<&'a str>,
    pub backup: Option<&'a str>,
    pub schedule: Option<&'a str>,
    pub occupies: Option<&'a str>,
    /// When the run of a schedule was due.
    pub due_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Queues a backup and reserves its name.
    ///
    /// Errors: `Conflict` for a taken name, `NotFound` when service or storage went away meanwhile.
    pub fn enqueue_backup(&self, request: &BackupRequest) -> Result<Job> {
        self.write(|t| insert_backup(t, request, None))
    }

    /// Queues the restore of a plan that was confirmed, behind the safety backup that the plan may ask for.
    ///
    /// Errors: `Conflict` when the name of the safety backup was taken meanwhile; nothing is queued then.
    pub fn enqueue_restore(&self, request: &RestoreRequest, plan: &RestorePlan) -> Result<Job> {
        self.write(|t| {
            let backup = good(t, request.backup_of(plan))?;
            let to = request.data_folder.is_none().then_some(request.to.as_str());
            if let Some(to) = to {
                must_exist(t, "service", to)?;
            }
            if let Some(first) = &plan.safety_backup {
                insert_backup(t, first, None)?;
            }
            insert(
                t,
                NewJob {
                    request: JobRequest::Restore { request: request.clone(), plan: Box::new(plan.clone()) },
                    retry: RetryPolicy::default(),
                    service: Some(to.unwrap_or(&backup.service)),
                    storage: Some(&backup.storage),
                    backup: Some(&backup.name),
                    schedule: None,
                    // A folder is nobody's yet.
                    occupies: to,
                    due_at: None,
                },
            )
        })
    }

    pub fn enqueue_verify(&self, name: &str, identity_file: Option<&str>) -> Result<Job> {
        self.write(|t| {
            let backup = good(t, name)?;
            insert(
                t,
                NewJob {
                    request: JobRequest::Verify {
                        backup: name.to_owned(),
                        identity_file: identity_file.map(str::to_owned),
                    },
                    retry: RetryPolicy::default(),
                    service: Some(&backup.service),
                    storage: Some(&backup.storage),
                    backup: Some(name),
                    schedule: None,
                    occupies: None,
                    due_at: None,
                },
            )
        })
    }

    /// Newest first.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{COLUMNS} ORDER BY id DESC"))?;
            super::all(statement.query([])?, read)
        })
    }

    /// Of each service the backup job that succeeded or failed last, but for one whose failed backup was removed since:
    /// somebody has seen that.
    pub fn last_backup_jobs(&self) -> Result<Vec<Job>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!(
                "{COLUMNS} WHERE id IN (SELECT max(j.id) FROM jobs j JOIN services s ON s.name = j.service
                     WHERE j.kind = 'backup' AND j.state IN ('succeeded', 'failed') GROUP BY j.service)
                 AND EXISTS (SELECT 1 FROM backups b WHERE b.name = jobs.backup) ORDER BY service"
            ))?;
            super::all(statement.query([])?, read)
        })
    }

    pub fn job(&self, id: i64) -> Result<Job> {
        self.read(|c| get(c, id))
    }

    /// What a job was queued to do.
    pub fn job_request(&self, id: i64) -> Result<JobRequest> {
        self.read(|c| request(c, id))
    }

    /// How many jobs a daemon is running.
    pub fn jobs_running(&self) -> Result<u64> {
        self.read(|c| {
            Ok(c.query_row("SELECT count(*) FROM jobs WHERE state = 'running'", [], |r| r.get::<_, i64>(0))? as u64)
        })
    }

    /// Jobs that are not finished, whatever they wait for.
    pub fn jobs_unfinished(&self) -> Result<u64> {
        self.read(|c| {
            Ok(c.query_row(
                "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running', 'waiting_retry')",
                [],
                |r| r.get::<_, i64>(0),
            )? as u64)
        })
    }

    /// Lines with `seq > after`, at most `limit`.
    pub fn job_log(&self, id: i64, after: i64, limit: usize) -> Result<Vec<LogLine>> {
        self.read(|c| {
            get(c, id)?;
            let mut statement = c.prepare_cached(
                "SELECT seq, at, attempt, level, message FROM job_log WHERE job = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            )?;
            let rows = statement.query(params![id, after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
            super::all(rows, |row| {
                Ok(LogLine {
                    seq: row.get(0)?,
                    at: time(row.get(1)?),
                    attempt: row.get(2)?,
                    level: from_word(row.get(3)?)?,
                    message: row.get(4)?,
                })
            })
        })
    }

    /// Ends a job that waits at once; asks the daemon to end one that runs.
    ///
    /// Errors: `Conflict` for one that is finished.
    pub fn cancel_job(&self, id: i64) -> Result<Job> {
        self.write(|t| {
            let job = get(t, id)?;
            match job.state {
                JobState::Running => {
                    t.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?1", [id])?;
                }
                JobState::Queued | JobState::WaitingRetry => {
                    t.execute(
                        "UPDATE jobs SET state = 'cancelled', phase = '', next_attempt_at = NULL, finished_at = ?2,
                            error = 'cancelled', hint = NULL WHERE id = ?1",
                        params![id, millis(now())],
                    )?;
                    log(t, id, job.attempt, LogLevel::Info, "cancelled before it ran")?;
                    cancelled(t, &job)?;
                }
                _ => {
                    return Err(Error::new(ErrorKind::Conflict, format!("job {id} is finished: {}", job.state.word())));
                }
            }
            get(t, id)
        })
    }

    /// Queues a failed or cancelled job again, or ends the wait of one that waits for its retry.
    ///
    /// Errors: `Conflict` for any other state, and when the name of its backup was taken meanwhile.
    pub fn retry_job(&self, id: i64) -> Result<Job> {
        self.write(|t| {
            let job = get(t, id)?;
            match job.state {
                JobState::Failed | JobState::Cancelled | JobState::WaitingRetry => {}
                // It never was a backup, and the moment it was meant for has passed.
                JobState::Skipped | JobState::Missed => {
                    let hint = job.schedule.as_deref().map(run_now).unwrap_or_default();
                    let what =
                        format!("job {id} is a run that was {}: there is nothing to try again", job.state.word());
                    return Err(Error::new(ErrorKind::Conflict, what).hint(hint));
                }
                _ => {
                    return Err(Error::new(ErrorKind::Conflict, format!("job {id} is {}", job.state.word()))
                        .hint("only a failed, cancelled or waiting job can be tried again"));
                }
            }
            let request = request(t, id)?;
            // Its plan was confirmed for what was there then.
            if let (JobRequest::Restore { request, plan }, false) = (&request, job.state == JobState::WaitingRetry) {
                let what = format!("job {id} is a restore: look at its plan as it is now, and confirm that");
                return Err(Error::new(ErrorKind::Conflict, what).hint(request.command(plan)));
            }
            may_run_again(t, &job, &request)?;
            t.execute(
                "UPDATE jobs SET state = 'queued', phase = '', next_attempt_at = NULL, finished_at = NULL, error = NULL,
                    hint = NULL, cancel_requested = 0 WHERE id = ?1",
                [id],
            )?;
            log(t, id, job.attempt, LogLevel::Info, "queued again by a person")?;
            get(t, id)
        })
    }
}

/// Makes what a job works on ready for another attempt.
///
/// Errors: `NotFound` and `Conflict` when that is no longer possible.
fn may_run_again(t: &Transaction<'_>, job: &Job, request: &JobRequest) -> Result<()> {
    let Some(name) = &job.backup else { return Ok(()) };
    match job.kind.entry().on_backup {
        OnBackup::Makes => {
            for (what, of) in [("service", &job.service), ("storage", &job.storage)] {
                must_exist(t, what, of.as_deref().unwrap_or_default())?;
            }
            let state: Option<String> =
                t.query_row("SELECT state FROM backups WHERE name = ?1", [name], |r| r.get(0)).optional()?;
            let latest: Option<i64> = t.query_row(
                "SELECT max(id) FROM jobs WHERE backup = ?1 AND kind = ?2",
                [name, job.kind.word()],
                |r| r.get(0),
            )?;
            match (state.as_deref(), request) {
                // A newer job of the same name owns the row.
                (Some("failed" | "incomplete"), _) if latest == Some(job.id) => {
                    t.execute("UPDATE backups SET state = 'running', error = NULL WHERE name = ?1", [name])?;
                    Ok(())
                }
                (None, JobRequest::Backup(request)) => reserve(t, request),
                _ => Err(Error::new(ErrorKind::Conflict, format!("there is another backup {name} by now"))
                    .hint("create a new backup under another name")),
            }
        }
        OnBackup::Removes => {
            backups::get(t, name)?;
            if let Some(other) = unfinished(t, &format!("backup = ?1 AND id != {}", job.id), name)? {
                return Err(Error::new(ErrorKind::Conflict, format!("backup {name} is in use by job {other}")));
            }
            deletions::to_be_deleted(t, name).map(drop)
        }
        OnBackup::Reads => {
            if let Some(service) = job.service.as_ref().filter(|_| job.kind == JobKind::Restore) {
                must_exist(t, "service", service)?;
            }
            good(t, name).map(drop)
        }
        OnBackup::Nothing => Ok(()),
    }
}

/// What to do about a run that was not made.
pub fn run_now(schedule: &str) -> String {
    format!("mongokeep schedule run {schedule} makes a backup now")
}

/// What becomes of the backup of a job that was cancelled: a new one leaves the catalogue, unless something of it may
/// still be in the storage; one that was to be deleted stays as it was, unless deleting had begun.
pub fn cancelled(t: &Transaction<'_>, job: &Job) -> Result<()> {
    if let Some(name) = makes(job) {
        let dirty: i64 =
            t.query_row("SELECT count(*) FROM attempts WHERE job = ?1 AND NOT clean", [job.id], |r| r.get(0))?;
        if dirty == 0 {
            t.execute("DELETE FROM backups WHERE name = ?1 AND state IN ('running', 'failed')", [name])?;
        } else {
            t.execute(
                "UPDATE backups SET state = 'incomplete', error = 'cancelled; something of it may be in the storage'
                 WHERE name = ?1 AND state IN ('running', 'failed')",
                [name],
            )?;
        }
    }
    if let Some(name) = removes(job) {
        deletions::cancelled(t, name)?;
    }
    Ok(())
}

/// The backup that a job makes.
pub fn makes(job: &Job) -> Option<&String> {
    job.backup.as_ref().filter(|_| job.kind.entry().on_backup == OnBackup::Makes)
}

/// The backup that a job removes.
pub fn removes(job: &Job) -> Option<&String> {
    job.backup.as_ref().filter(|_| job.kind.entry().on_backup == OnBackup::Removes)
}

/// The first unfinished job for which `condition` (with one parameter) holds.
pub fn unfinished(c: &Connection, condition: &str, value: &str) -> Result<Option<i64>> {
    Ok(c.query_row(
        &format!("SELECT min(id) FROM jobs WHERE state IN ('queued', 'running', 'waiting_retry') AND ({condition})"),
        [value],
        |r| r.get(0),
    )?)
}

pub fn get(c: &Connection, id: i64) -> Result<Job> {
    let mut statement = c.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?;
    let mut rows = statement.query([id])?;
    rows.next()?
        .map(read)
        .transpose()?
        .ok_or_else(|| Error::not_found("job", id).hint("mongokeep job list shows what there is"))
}

/// Of each schedule the last retention job, if it failed or waits for its retry, by schedule.
pub fn last_retentions_failed(c: &Connection) -> Result<Vec<Job>> {
    let mut statement = c.prepare_cached(&format!(
        "{COLUMNS} WHERE id IN (SELECT max(id) FROM jobs WHERE kind = 'retention' GROUP BY schedule)
             AND state IN ('failed', 'waiting_retry') ORDER BY schedule"
    ))?;
    super::all(statement.query([])?, read)
}

pub fn request(c: &Connection, id: i64) -> Result<JobRequest> {
    from_json(&c.query_row("SELECT request FROM jobs WHERE id = ?1", [id], |r| r.get::<_, String>(0))?)
}

/// Appends a line to the log of a job. Lines come from servers too, so they are escaped here, once.
pub fn log(t: &Transaction<'_>, id: i64, attempt: u32, level: LogLevel, message: &str) -> Result<()> {
    t.prepare_cached(
        "INSERT INTO job_log (job, seq, at, attempt, level, message)
         VALUES (?1, (SELECT coalesce(max(seq), 0) + 1 FROM job_log WHERE job = ?1), ?2, ?3, ?4, ?5)",
    )?
    .execute(params![id, millis(now()), attempt.max(1), word(&level)?, escape(message)])?;
    Ok(())
}

/// Queues a backup and reserves its name. `due_at`: when the run of its schedule was due.
pub fn insert_backup(t: &Transaction<'_>, request: &BackupRequest, due_at: Option<DateTime<Utc>>) -> Result<Job> {
    must_exist(t, "service", &request.service)?;
    must_exist(t, "storage", &request.storage)?;
    reserve(t, request)?;
    insert(
        t,
        NewJob {
            request: JobRequest::Backup(request.clone()),
            retry: request.retry,
            service: Some(&request.service),
            storage: Some(&request.storage),
            backup: Some(&request.name),
            schedule: request.schedule.as_deref(),
            occupies: Some(&request.service),
            due_at,
        },
    )
}

/// Puts a backup that is about to be made into the catalogue.
fn reserve(t: &Transaction<'_>, request: &BackupRequest) -> Result<()> {
    let (cluster, engine): (Option<String>, String) =
        t.query_row("SELECT cluster, engine FROM services WHERE name = ?1", [&request.service], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })?;
    backups::insert_running(t, request, cluster.as_deref(), from_word(engine)?)
}

pub fn insert(t: &Transaction<'_>, job: NewJob<'_>) -> Result<Job> {
    t.execute(
        "INSERT INTO jobs (kind, state, service, storage, backup, schedule, occupies, request, retry, created_at, due_at)
         VALUES (?1, 'queued', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            word(&job.request.kind())?,
            job.service,
            job.storage,
            job.backup,
            job.schedule,
            job.occupies,
            to_json(&job.request)?,
            to_json(&job.retry)?,
            millis(now()),
            job.due_at.map(millis),
        ],
    )?;
    get(t, t.last_insert_rowid())
}

pub fn must_exist(t: &Transaction<'_>, what: &str, name: &str) -> Result<()> {
    let sql = match what {
        "service" => "SELECT 1 FROM services WHERE name = ?1",
        _ => "SELECT 1 FROM storages WHERE name = ?1",
    };
    t.query_row(sql, [name], |_| Ok(()))
        .optional()?
        .ok_or_else(|| Error::not_found(what, escape(name)).hint(format!("mongokeep {what} list shows what there is")))
}

/// A backup that can be read.
fn good(t: &Transaction<'_>, name: &str) -> Result<crate::domain::backup::Backup> {
    let backup = backups::get(t, name)?;
    if backup.state == BackupState::Succeeded {
        return Ok(backup);
    }
    let state = word(&backup.state)?;
    Err(Error::new(ErrorKind::Conflict, format!("backup {name} is {state}, so there is nothing to read"))
        .hint("mongokeep backup list shows which backups succeeded"))
}

fn read(row: &Row<'_>) -> Result<Job> {
    let when = |i: usize| -> Result<_> { Ok(row.get::<_, Option<i64>>(i)?.map(time)) };
    Ok(Job {
        id: row.get(0)?,
        kind: from_word(row.get(1)?)?,
        state: from_word(row.get(2)?)?,
        attempt: row.get::<_, u32>(3)?.max(1),
        service: row.get(4)?,
        storage: row.get(5)?,
        backup: row.get(6)?,
        schedule: row.get(7)?,
        progress: from_json(&row.get::<_, String>(8)?)?,
        phase: row.get(9)?,
        created_at: time(row.get(10)?),
        started_at: when(11)?,
        finished_at: when(12)?,
        next_attempt_at: when(13)?,
        error: row.get(14)?,
        hint: row.get(15)?,
        cancel_requested: row.get(16)?,
        retry: from_json(&row.get::<_, String>(17)?)?,
        due_at: when(18)?,
        point_in_time: row.get::<_, Option<String>>(19)?.map(|json| from_json(&json)).transpose()?,
    })
}
