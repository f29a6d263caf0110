//! Backups that are being deleted: what is marked, and what becomes of the mark when a deletion fails.
//!
//! A backup that is to go is not listed as good from the moment that is decided. `state_before` holds what it was until
//! something of it may be gone: as long as it is there, a deletion that fails or is cancelled changes nothing.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::jobs::{self, NewJob};
use super::{Store, backups, from_word};
use crate::domain::backup::{Backup, BackupState};
use crate::domain::job::{Job, JobRequest};
use crate::domain::retry::RetryPolicy;
use crate::error::{Error, ErrorKind, Result};

/// A backup that is to be deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletion {
    pub backup: Backup,
    /// What it was before; `None`: something of it may be gone already.
    pub before: Option<BackupState>,
    /// The attempts of this home that can have written it; anything else of that name is somebody else's.
    pub attempts: Vec<String>,
}

impl Deletion {
    /// Whether the record stands for no files but those of its own attempts: it is what is left of a backup of this home
    /// that failed, or was deleted.
    pub fn owns_nothing(&self) -> bool {
        match self.before {
            Some(BackupState::Failed) | None => true,
            Some(BackupState::Incomplete) => !self.attempts.is_empty(),
            Some(BackupState::Running | BackupState::Succeeded | BackupState::Deleting) => false,
        }
    }
}

impl Store {
    /// Queues the removal of a backup; from now on it is not listed as good. `foreign`: the attempt of another installation
    /// that a person lets go.
    ///
    /// Errors: `Conflict` while a job uses it, for a pinned one, and when other increments than `increments` go with it.
    pub fn enqueue_delete(
        &self,
        name: &str,
        keep_files: bool,
        foreign: Option<&str>,
        increments: &[String],
    ) -> Result<Job> {
        self.write(|t| {
            let backup = backups::get(t, name)?;
            if let Some(id) = jobs::unfinished(t, "backup = ?1", name)? {
                return Err(Error::new(ErrorKind::Conflict, format!("backup {name} is in use by job {id}"))
                    .hint(format!("wait for it, or end it with mongokeep job cancel {id}")));
            }
            if !keep_files && foreign.is_none() {
                chain_may_go(t, &backup, increments)?;
            }
            to_be_deleted(t, name)?;
            jobs::insert(
                t,
                NewJob {
                    request: JobRequest::Delete {
                        backup: name.to_owned(),
                        keep_files,
                        foreign: foreign.map(str::to_owned),
                        increments: increments.to_vec(),
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

    /// What there is to know before a backup is deleted.
    pub fn deletion(&self, name: &str) -> Result<Deletion> {
        self.read(|c| deletion(c, name))
    }

    /// The chain of a backup: its base, when that is another one that is known; and what is based on it, when it is a base,
    /// oldest first.
    pub fn chain_of(&self, name: &str) -> Result<(Option<String>, Vec<Backup>)> {
        self.read(|c| chain_of(c, &backups::get(c, name)?))
    }

    /// What goes with a backup that is deleted, which is the base of a chain or has none, by the names of its engine.
    ///
    /// Errors: `Conflict` for one that is pinned, or that a job uses; with `expected`, when others than those go.
    pub fn chain_may_go(&self, name: &str, expected: Option<&[String]>) -> Result<Vec<String>> {
        self.read(|c| {
            let backup = backups::get(c, name)?;
            let (_, increments) = chain_of(c, &backup)?;
            let known: Vec<String> = increments.iter().map(|increment| increment.name.clone()).collect();
            chain_may_go(c, &backup, expected.unwrap_or(&known))?;
            Ok(increments.into_iter().filter_map(|increment| increment.pbm_name).collect())
        })
    }

    /// Notes that what is based on `base` is gone with it, and that its own files and record are to follow.
    pub fn chain_gone(&self, base: &str) -> Result<()> {
        self.write(|t| {
            let (_, increments) = chain_of(t, &backups::get(t, base)?)?;
            for increment in increments {
                t.execute(
                    "UPDATE backups SET state = 'deleting', state_before = NULL, error = ?3,
                        retired_by = (SELECT retired_by FROM backups WHERE name = ?2) WHERE name = ?1",
                    params![increment.name, base, format!("it was deleted with its base {base}")],
                )?;
            }
            Ok(())
        })
    }

    /// Notes, before anything of it goes, that a backup may be taken apart from now on. What never was a backup stays what
    /// it is.
    pub fn deletion_begins(&self, name: &str) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE backups SET state_before = NULL
                 WHERE name = ?1 AND state = 'deleting' AND state_before NOT IN ('failed', 'incomplete')",
                [name],
            )?;
            Ok(())
        })
    }

    /// Notes that nothing of a backup is gone after all, as somebody just saw.
    pub fn deletion_undone(&self, name: &str) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE backups SET state_before = 'succeeded' WHERE name = ?1 AND state = 'deleting'", [name])?;
            Ok(())
        })
    }
}

/// See [`Store::chain_of`].
fn chain_of(c: &Connection, backup: &Backup) -> Result<(Option<String>, Vec<Backup>)> {
    let Some(chain) = &backup.chain else { return Ok((None, Vec::new())) };
    let mut statement = c.prepare_cached(
        "SELECT name FROM backups WHERE chain_base = ?1 AND storage = ?2 AND folder = ?3 AND name != ?4
         ORDER BY consistent_t, consistent_i, started_at, name",
    )?;
    let names = statement.query_map(params![chain.base, backup.storage, backup.folder, backup.name], |r| r.get(0))?;
    let names: Vec<String> = names.collect::<rusqlite::Result<_>>()?;
    let others = names.iter().map(|name| backups::get(c, name)).collect::<Result<Vec<Backup>>>()?;
    if chain.source.is_none() {
        return Ok((None, others));
    }
    let base = others.into_iter().find(|other| other.chain.as_ref().is_some_and(|link| link.source.is_none()));
    Ok((base.map(|base| base.name), Vec::new()))
}

fn chain_may_go(c: &Connection, base: &Backup, expected: &[String]) -> Result<()> {
    let (_, increments) = chain_of(c, base)?;
    let name = &base.name;
    let refused = |what: String, hint: String| Err(Error::new(ErrorKind::Conflict, what).hint(hint));
    for Backup { name: increment, pinned, .. } in &increments {
        if *pinned {
            let what = format!("backup {increment} is pinned, and is based on {name}");
            return refused(what, format!("mongokeep backup unpin {increment}"));
        }
        if let Some(id) = jobs::unfinished(c, "backup = ?1", increment)? {
            let what = format!("backup {increment}, which is based on {name}, is in use by job {id}");
            return refused(what, format!("wait for it, or end it with mongokeep job cancel {id}"));
        }
    }
    if let Some(new) = increments.iter().find(|increment| !expected.contains(&increment.name)) {
        let what = format!("backup {} is based on {name}, too, which the plan does not name", new.name);
        return refused(what, format!("mongokeep backup delete {name} makes the plan again"));
    }
    Ok(())
}

fn deletion(c: &Connection, name: &str) -> Result<Deletion> {
    let backup = backups::get(c, name)?;
    let before = match backup.state {
        BackupState::Deleting => c
            .query_row("SELECT state_before FROM backups WHERE name = ?1", [name], |r| r.get::<_, Option<String>>(0))
            .optional()?
            .flatten()
            .map(from_word)
            .transpose()?,
        state => Some(state),
    };
    let mut statement = c.prepare_cached(
        "SELECT a.attempt_id FROM attempts a JOIN jobs j ON j.id = a.job WHERE j.backup = ?1 AND j.kind = 'backup'",
    )?;
    let attempts = statement.query_map([name], |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Deletion { backup, before, attempts })
}

/// What retention is going to delete.
pub fn taken(c: &Connection, name: &str) -> Result<Deletion> {
    deletion(c, name)
}

/// From now on it is not listed as good. Takes over what retention could not delete.
///
/// Errors: `Conflict` for one that is pinned, or that retention is deleting.
pub fn to_be_deleted(t: &Transaction<'_>, name: &str) -> Result<()> {
    if backups::get(t, name)?.pinned {
        return Err(Error::new(ErrorKind::Conflict, format!("backup {name} is pinned"))
            .hint(format!("mongokeep backup unpin {name}")));
    }
    if let Some(id) = super::retention::taken(t, name)? {
        return Err(Error::new(ErrorKind::Conflict, format!("backup {name} is being deleted by job {id}")));
    }
    mark(t, name, None)
}

/// Marks a backup that is to go, and forgets why an earlier deletion failed. `job`: of retention.
pub fn mark(t: &Transaction<'_>, name: &str, job: Option<i64>) -> Result<()> {
    t.execute(
        "UPDATE backups SET state_before = CASE WHEN state = 'deleting' THEN state_before ELSE state END,
            error = CASE WHEN coalesce(CASE WHEN state = 'deleting' THEN state_before ELSE state END, 'succeeded')
                = 'succeeded' THEN NULL ELSE error END,
            retired_by = ?2, state = 'deleting' WHERE name = ?1",
        params![name, job],
    )?;
    Ok(())
}

/// A deletion ended without an end: what is whole is what it was before, with the reason; of anything else it is said that
/// it could not be deleted.
pub fn failed(t: &Transaction<'_>, name: &str, why: &str) -> Result<()> {
    let why = format!("could not be deleted: {why}");
    t.execute(
        "UPDATE backups SET
            error = CASE WHEN coalesce(state_before, state) IN ('succeeded', 'deleting') THEN ?2 ELSE error END,
            retired_by = CASE WHEN state_before IS NULL THEN retired_by END,
            state = coalesce(state_before, state), state_before = NULL
         WHERE name = ?1 AND state = 'deleting'",
        params![name, why],
    )?;
    Ok(())
}

/// The same where a person ended it.
pub fn cancelled(t: &Transaction<'_>, name: &str) -> Result<()> {
    t.execute(
        "UPDATE backups SET state = coalesce(state_before, state), state_before = NULL
         WHERE name = ?1 AND state = 'deleting'",
        [name],
    )?;
    Ok(())
}
