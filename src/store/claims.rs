//! Jobs as the daemon sees them: claimed, sampled, finished, abandoned.
//!
//! A claim is one transaction, so that no job runs twice. A backup's row becomes good in the transaction that ends its
//! job, never before.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Transaction, params};

use super::{CatalogueEntry, Store, backups, deletions, from_json, jobs, millis, now, random_id, to_json};
use crate::domain::clock;
use crate::domain::job::{Job, JobRequest, JobState, LogLevel, Progress};
use crate::domain::retry::RetryPolicy;
use crate::error::{Error, Result};

/// A job that is now ours to run.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub job: Job,
    pub request: JobRequest,
    /// Names this attempt in the storage.
    pub attempt_id: String,
    /// The target of a restore may already hold a part of what was to be written.
    pub wrote: bool,
    /// A daemon that was stopped in order left it to the next one, because others do it.
    pub was_left: bool,
    /// What the engine calls what it had begun for this attempt.
    pub engine_name: Option<String>,
}

/// An attempt, and whether the storage still holds something of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    pub job: i64,
    pub attempt: u32,
    pub attempt_id: String,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome {
    /// For a backup, with what its manifest says.
    Succeeded(Option<Box<CatalogueEntry>>),
    Failed(Error),
    /// With what there is to know about what was left, such as the target of a restore.
    Cancelled(Option<String>),
    /// The daemon is ending: the next one begins it again, whatever its retry policy, unless a restore had begun to write;
    /// then it has failed, for the reason given.
    HandedBack(Error),
    /// The daemon is ending, and what others do for the job goes on: it keeps running, and the next daemon follows it. What
    /// goes on is in the error.
    LeftRunning(Error),
}

impl Store {
    /// Takes the next job that may run beside those that do, and says in the others' phase what they wait for.
    pub fn claim(&self, concurrency: usize) -> Result<Option<Claimed>> {
        // Most looks find nothing; they should not wait for the write lock, nor write.
        let waiting = self.read(|c| {
            Ok(c.query_row(
                "SELECT count(*) FROM jobs WHERE state = 'queued'
                    OR (state = 'waiting_retry' AND next_attempt_at <= ?1)",
                [millis(clock::now())],
                |r| r.get::<_, i64>(0),
            )?)
        })?;
        if waiting == 0 {
            return Ok(None);
        }
        self.write(|t| claim(t, concurrency))
    }

    /// Notes how far a running job is.
    pub fn set_progress(&self, id: i64, progress: &Progress, phase: &str) -> Result<()> {
        self.write_lightly(|t| {
            t.prepare_cached("UPDATE jobs SET progress = ?2, phase = ?3 WHERE id = ?1 AND state = 'running'")?
                .execute(params![id, to_json(progress)?, crate::domain::text::escape(phase)])?;
            Ok(())
        })
    }

    /// Appends lines to a job's log, in order.
    pub fn append_log(&self, id: i64, attempt: u32, lines: &[(LogLevel, String)]) -> Result<()> {
        self.write_lightly(|t| {
            for (level, message) in lines {
                jobs::log(t, id, attempt, *level, message)?;
            }
            Ok(())
        })
    }

    /// Whether somebody asked to end a running job.
    pub fn is_cancel_requested(&self, id: i64) -> Result<bool> {
        self.read(|c| Ok(c.query_row("SELECT cancel_requested FROM jobs WHERE id = ?1", [id], |r| r.get(0))?))
    }

    /// Notes, before the first write to the target, that it may from now on hold a part of a restore.
    pub fn restore_writes(&self, id: i64) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE jobs SET wrote = 1 WHERE id = ?1", [id])?;
            Ok(())
        })
    }

    /// Notes what the engine calls what it began for the present attempt, so that the next daemon can follow it.
    pub fn engine_began(&self, id: i64, name: &str) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE jobs SET engine_name = ?2 WHERE id = ?1", params![id, name])?;
            Ok(())
        })
    }

    /// Notes that nothing of an attempt is left behind in the storage.
    pub fn attempt_clean(&self, job: i64, attempt: u32) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE attempts SET clean = 1 WHERE job = ?1 AND attempt = ?2", params![job, attempt])?;
            Ok(())
        })
    }

    /// Earlier attempts at the backup called `backup` of which something may be in the storage.
    pub fn unclean_attempts(&self, backup: &str, except: Option<&str>) -> Result<Vec<AttemptRecord>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT a.job, a.attempt, a.attempt_id FROM attempts a JOIN jobs j ON j.id = a.job
                 WHERE j.backup = ?1 AND j.kind = 'backup' AND NOT a.clean AND a.attempt_id IS NOT ?2
                 ORDER BY a.job, a.attempt",
            )?;
            let rows = statement.query_map(params![backup, except], |r| {
                Ok(AttemptRecord { job: r.get(0)?, attempt: r.get(1)?, attempt_id: r.get(2)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Jobs that a daemon which is gone was running. Only the holder of the lock may ask, before it claims anything.
    pub fn abandoned(&self) -> Result<Vec<Claimed>> {
        let ids: Vec<i64> = self.read(|c| {
            let mut statement = c.prepare_cached("SELECT id FROM jobs WHERE state = 'running' ORDER BY id")?;
            let rows = statement.query_map([], |r| r.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })?;
        ids.into_iter().map(|id| self.read(|c| claimed(c, id))).collect()
    }

    /// Ends the present attempt of a job. A failure that may pass by itself is followed by another attempt when the
    /// job's policy has one left, unless its target was already written to.
    pub fn finish(&self, id: i64, outcome: &Outcome) -> Result<Job> {
        self.write(|t| {
            let at = now();
            let claimed = claimed(t, id)?;
            let job = &claimed.job;
            let attempt_error = match outcome {
                Outcome::LeftRunning(goes_on) => {
                    let text = goes_on.full();
                    t.execute("UPDATE jobs SET was_left = 1, phase = ?2 WHERE id = ?1", params![id, text])?;
                    jobs::log(t, id, job.attempt, LogLevel::Warn, &text)?;
                    return jobs::get(t, id);
                }
                Outcome::Succeeded(_) => None,
                Outcome::Failed(error) | Outcome::HandedBack(error) => Some(error.full()),
                Outcome::Cancelled(_) => Some("cancelled".to_owned()),
            };
            t.execute(
                "UPDATE attempts SET finished_at = ?3, error = ?4, clean = (clean OR ?5) WHERE job = ?1 AND attempt = ?2",
                params![id, job.attempt, millis(at), attempt_error, matches!(outcome, Outcome::Succeeded(_))],
            )?;
            match outcome {
                Outcome::LeftRunning(_) => {}
                Outcome::Succeeded(facts) => succeed(t, job, facts.as_deref(), at)?,
                Outcome::Failed(error) => fail(t, &claimed, error, at)?,
                Outcome::HandedBack(error) if claimed.wrote || job.cancel_requested => fail(t, &claimed, error, at)?,
                Outcome::HandedBack(error) => {
                    t.execute(
                        "UPDATE jobs SET state = 'queued', phase = 'handed back to the next daemon' WHERE id = ?1",
                        [id],
                    )?;
                    jobs::log(t, id, job.attempt, LogLevel::Warn, &error.full())?;
                    jobs::log(t, id, job.attempt, LogLevel::Info, "handed back: the next daemon begins it again")?;
                }
                Outcome::Cancelled(left) => {
                    end(t, id, JobState::Cancelled, at, Some("cancelled"), left.as_deref())?;
                    jobs::log(t, id, job.attempt, LogLevel::Info, "cancelled")?;
                    if let Some(left) = left {
                        jobs::log(t, id, job.attempt, LogLevel::Warn, left)?;
                    }
                    jobs::cancelled(t, job)?;
                }
            }
            jobs::get(t, id)
        })
    }

    /// Running jobs whose target may hold a part of what they write.
    pub fn jobs_writing(&self) -> Result<Vec<i64>> {
        self.read(|c| {
            let mut statement = c.prepare_cached("SELECT id FROM jobs WHERE state = 'running' AND wrote")?;
            let rows = statement.query_map([], |r| r.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// When the earliest retry is due.
    pub fn next_retry(&self) -> Result<Option<DateTime<Utc>>> {
        self.read(|c| {
            let at: Option<i64> =
                c.query_row("SELECT min(next_attempt_at) FROM jobs WHERE state = 'waiting_retry'", [], |r| r.get(0))?;
            Ok(at.map(super::time))
        })
    }
}

struct Candidate {
    id: i64,
    state: String,
    occupies: Option<String>,
    backup: Option<String>,
    phase: String,
}

fn claim(t: &Transaction<'_>, concurrency: usize) -> Result<Option<Claimed>> {
    let at = now();
    let candidates: Vec<Candidate> = {
        let mut statement = t.prepare_cached(
            "SELECT id, state, occupies, backup, phase FROM jobs
             WHERE state IN ('running', 'queued') OR (state = 'waiting_retry' AND next_attempt_at <= ?1)
             ORDER BY state = 'running' DESC, id",
        )?;
        let rows = statement.query_map([millis(at)], |r| {
            Ok(Candidate { id: r.get(0)?, state: r.get(1)?, occupies: r.get(2)?, backup: r.get(3)?, phase: r.get(4)? })
        })?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let running = candidates.iter().filter(|c| c.state == "running").count();
    let mut next = None;
    for (i, candidate) in candidates.iter().enumerate() {
        if candidate.state == "running" {
            continue;
        }
        // In the order of their numbers: an earlier job that waits for the same thing goes first.
        let earlier = candidates[..i].iter().find(|other| {
            let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
            same(&other.occupies, &candidate.occupies) || same(&other.backup, &candidate.backup)
        });
        let phase = match earlier {
            Some(other) => format!("waiting for job {}", other.id),
            None if running + usize::from(next.is_some()) >= concurrency => {
                "waiting for a free place (jobs.concurrency)".to_owned()
            }
            None => {
                // The first that may run; another that may will be claimed by the next call.
                next = next.or(Some(candidate.id));
                continue;
            }
        };
        if candidate.phase != phase {
            t.execute("UPDATE jobs SET phase = ?2 WHERE id = ?1", params![candidate.id, phase])?;
        }
    }
    let Some(id) = next else { return Ok(None) };
    let attempt_id = random_id()?;
    t.execute(
        "UPDATE jobs SET state = 'running', attempt = attempt + 1, attempt_id = ?2, wrote = 0, was_left = 0, engine_name = NULL, phase = 'starting',
            started_at = coalesce(started_at, ?3), finished_at = NULL, next_attempt_at = NULL, error = NULL, hint = NULL,
            cancel_requested = 0, progress = ?4 WHERE id = ?1",
        params![id, attempt_id, millis(at), to_json(&Progress::default())?],
    )?;
    let claimed = claimed(t, id)?;
    t.execute(
        "INSERT INTO attempts (job, attempt, attempt_id, started_at, clean) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![id, claimed.job.attempt, attempt_id, millis(at), jobs::makes(&claimed.job).is_none()],
    )?;
    if let Some(name) = jobs::makes(&claimed.job) {
        t.execute(
            "UPDATE backups SET state = 'running', error = NULL, finished_at = NULL, started_at = ?2 WHERE name = ?1",
            params![name, millis(at)],
        )?;
    }
    if let Some(name) = jobs::removes(&claimed.job) {
        // An attempt before this one may have given it back.
        deletions::mark(t, name, None)?;
    }
    Ok(Some(claimed))
}

fn claimed(c: &rusqlite::Connection, id: i64) -> Result<Claimed> {
    let sql = "SELECT attempt_id, wrote, was_left, engine_name FROM jobs WHERE id = ?1";
    let (attempt_id, wrote, was_left, engine_name): (Option<String>, _, _, _) =
        c.query_row(sql, [id], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?;
    Ok(Claimed {
        job: jobs::get(c, id)?,
        request: jobs::request(c, id)?,
        attempt_id: attempt_id.unwrap_or_default(),
        wrote,
        was_left,
        engine_name,
    })
}

fn end(
    t: &Transaction<'_>,
    id: i64,
    state: JobState,
    at: DateTime<Utc>,
    error: Option<&str>,
    hint: Option<&str>,
) -> Result<()> {
    t.execute(
        "UPDATE jobs SET state = ?2, phase = '', finished_at = ?3, next_attempt_at = NULL, error = ?4, hint = ?5
         WHERE id = ?1",
        params![id, super::word(&state)?, millis(at), error, hint],
    )?;
    Ok(())
}

fn succeed(t: &Transaction<'_>, job: &Job, facts: Option<&CatalogueEntry>, at: DateTime<Utc>) -> Result<()> {
    if let Some(facts) = facts {
        backups::set_facts(t, facts)?;
    }
    if let Some(name) = jobs::removes(job) {
        backups::removed(t, name)?;
    }
    jobs::log(t, job.id, job.attempt, LogLevel::Info, "done")?;
    end(t, job.id, JobState::Succeeded, at, None, None)?;
    // In the transaction that makes the backup good: no crash can come between the two.
    if let (Some(_), Some(schedule)) = (jobs::makes(job), &job.schedule) {
        super::retention::queue(t, schedule)?;
    }
    Ok(())
}

fn fail(t: &Transaction<'_>, claimed: &Claimed, error: &Error, at: DateTime<Utc>) -> Result<()> {
    let job = &claimed.job;
    let text = error.full();
    jobs::log(t, job.id, job.attempt, LogLevel::Error, &text)?;
    if let Some(hint) = error.hint_text() {
        jobs::log(t, job.id, job.attempt, LogLevel::Info, hint)?;
    }
    let policy: RetryPolicy =
        from_json(&t.query_row("SELECT retry FROM jobs WHERE id = ?1", [job.id], |r| r.get::<_, String>(0))?)?;
    let again =
        if error.is_retryable() && !claimed.wrote && !job.cancel_requested { policy.next(job.attempt) } else { None };
    if let Some(wait) = again {
        let next = at + TimeDelta::from_std(wait).unwrap_or(TimeDelta::hours(8));
        t.execute(
            "UPDATE jobs SET state = 'waiting_retry', phase = ?2, next_attempt_at = ?3, error = ?4, hint = ?5 WHERE id = ?1",
            params![
                job.id,
                format!("attempt {} of {} failed", job.attempt, policy.retries + 1),
                millis(next),
                text,
                error.hint_text()
            ],
        )?;
        let message = format!("the next attempt begins in {}", crate::domain::text::duration(seconds(wait)));
        jobs::log(t, job.id, job.attempt, LogLevel::Info, &message)?;
    } else {
        end(t, job.id, JobState::Failed, at, Some(&text), error.hint_text())?;
    }
    if let Some(name) = jobs::makes(job) {
        t.execute(
            "UPDATE backups SET state = 'failed', error = ?2, finished_at = ?3 WHERE name = ?1 AND state = 'running'",
            params![name, text, millis(at)],
        )?;
    }
    if let Some(name) = jobs::removes(job) {
        deletions::failed(t, name, &text)?;
    }
    Ok(())
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs()
}
