//! What a check of a storage asks the catalogue, and what it writes there: that a backup is no longer whole, what is to be
//! removed, and that nothing is left of an attempt.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rusqlite::{Connection, OptionalExtension};

use super::jobs::{self, NewJob};
use super::{Store, backups};
use crate::domain::job::{Job, JobRequest};
use crate::domain::pitr::Gap;
use crate::domain::retry::RetryPolicy;
use crate::domain::storage_check::RepairPlan;
use crate::error::Result;

/// A backup a job works on, or one that is being deleted. With the table `backups` as `b`.
const AT_WORK: &str = "(b.state IN ('running', 'deleting') OR EXISTS (SELECT 1 FROM jobs j WHERE j.backup = b.name
    AND j.state IN ('queued', 'running', 'waiting_retry')))";

/// Folder and name.
type Place = (String, String);

/// The backups of a storage, and every attempt of this home at any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KnownOfStorage {
    pub attempts: HashSet<String>,
    pub at_work: BTreeSet<Place>,
    pub good: BTreeSet<Place>,
    /// Good ones that other tools made, with their bytes.
    pub good_foreign: BTreeMap<Place, u64>,
    pub backups: BTreeSet<Place>,
    /// The storage and folder of every backup, by its name.
    pub names: BTreeMap<String, Place>,
    /// Those that were good once, whatever they are now.
    pub once_good: BTreeSet<Place>,
    /// Gaps in what is recorded there, with folder and service.
    pub gaps: Vec<(String, String, Gap)>,
}

impl Store {
    /// What the catalogue knows of `storage`.
    pub fn known_of_storage(&self, storage: &str) -> Result<KnownOfStorage> {
        let mut known = self.read(|c| {
            let mut known = KnownOfStorage::default();
            let mut statement = c.prepare_cached(
                "SELECT a.attempt_id FROM attempts a JOIN jobs j ON j.id = a.job
                 WHERE j.kind = 'backup' AND a.attempt_id IS NOT NULL",
            )?;
            for attempt in statement.query_map([], |r| r.get(0))? {
                known.attempts.insert(attempt?);
            }
            let mut statement = c.prepare_cached(&format!(
                "SELECT b.folder, b.name, b.state = 'succeeded', b.consistent_t IS NOT NULL, b.engine = 'native' OR b.pbm_name IS NOT NULL, {AT_WORK}, coalesce(b.size_bytes, 0)
                 FROM backups b WHERE b.storage = ?1"
            ))?;
            let rows = statement.query_map([storage], |r| {
                Ok(((r.get(0)?, r.get(1)?), [r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?], r.get(6)?))
            })?;
            for row in rows {
                let (place, [is_good, was_good, is_own_layout, is_at_work], bytes): (Place, [bool; 4], i64) = row?;
                match (is_good, is_own_layout) {
                    (true, true) => drop(known.good.insert(place.clone())),
                    (true, false) => drop(known.good_foreign.insert(place.clone(), u64::try_from(bytes).unwrap_or(0))),
                    (false, _) => {}
                }
                if was_good {
                    known.once_good.insert(place.clone());
                }
                if is_at_work {
                    known.at_work.insert(place.clone());
                }
                known.backups.insert(place);
            }
            let mut statement = c.prepare_cached("SELECT name, storage, folder FROM backups")?;
            for row in statement.query_map([], |r| Ok((r.get(0)?, (r.get(1)?, r.get(2)?))))? {
                let (name, place) = row?;
                known.names.insert(name, place);
            }
            Ok(known)
        })?;
        for service in self.services_with_slices()? {
            let sources = self.recovery_sources(&service)?;
            for source in sources.iter().filter(|source| source.row.archive.storage == storage) {
                let folder = &source.row.archive.folder;
                known.gaps.extend(source.gaps().into_iter().map(|gap| (folder.clone(), service.clone(), gap)));
            }
        }
        Ok(known)
    }

    /// Whether a job works on a backup of `storage`, or deletes it.
    pub fn is_at_work(&self, storage: &str, folder: &str, name: &str) -> Result<bool> {
        self.read(|c| {
            let sql = format!("SELECT {AT_WORK} FROM backups b WHERE b.name = ?1 AND b.storage = ?2 AND b.folder = ?3");
            let found: Option<bool> = c.query_row(&sql, [name, storage, folder], |r| r.get(0)).optional()?;
            Ok(found.unwrap_or(false))
        })
    }

    /// A good backup lacks something, as somebody just saw. It is no longer listed as good, and stays damaged when it is
    /// found again, until a verification has read all of it.
    pub fn backup_not_whole(&self, storage: &str, folder: &str, name: &str, why: &str) -> Result<()> {
        self.write(|t| backups::not_whole(t, storage, folder, name, why))
    }

    /// Queues the removal of what a person let go.
    ///
    /// Errors: `NotFound` when the storage went away meanwhile.
    pub fn enqueue_repair(&self, storage: &str, plan: &RepairPlan) -> Result<Job> {
        self.write(|t| {
            jobs::must_exist(t, "storage", storage)?;
            jobs::insert(
                t,
                NewJob {
                    request: JobRequest::Repair { storage: storage.to_owned(), plan: Box::new(plan.clone()) },
                    retry: RetryPolicy::default(),
                    service: None,
                    storage: Some(storage),
                    backup: None,
                    schedule: None,
                    // No name of a service has a space: one at a time repairs a storage.
                    occupies: Some(&format!("storage {storage}")),
                    due_at: None,
                },
            )
        })
    }

    /// Nothing is left of an attempt. A record that stood for nothing else goes.
    pub fn attempt_discarded(&self, attempt_id: &str) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE attempts SET clean = 1 WHERE attempt_id = ?1", [attempt_id])?;
            if let Some(backup) = made_by(t, attempt_id)? {
                t.execute(
                    "DELETE FROM backups WHERE name = ?1 AND state = 'incomplete' AND NOT pinned AND NOT EXISTS (
                         SELECT 1 FROM attempts a JOIN jobs j ON j.id = a.job
                         WHERE j.backup = ?1 AND j.kind = 'backup' AND NOT a.clean)",
                    [backup],
                )?;
            }
            Ok(())
        })
    }
}

fn made_by(c: &Connection, attempt_id: &str) -> Result<Option<String>> {
    let sql =
        "SELECT j.backup FROM attempts a JOIN jobs j ON j.id = a.job WHERE a.attempt_id = ?1 AND j.kind = 'backup'";
    Ok(c.query_row(sql, [attempt_id], |r| r.get(0)).optional()?)
}
