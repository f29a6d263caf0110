//! `storage sync`: the catalogue made to agree with what a storage holds.
//!
//! The storage is the truth. What it holds whole and the catalogue lacks is added; what the catalogue calls good and the
//! storage lacks, or no longer has all of, is no longer called good. Nothing is written to the storage. First a plan is made,
//! which a person may look at; carrying it out changes the catalogue.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Client;
use super::state_copy::StateReport;
use crate::domain::backup::BackupState;
use crate::domain::key::Key;
use crate::engine::find::with_manifest;
use crate::engine::foreign::ForeignArchive;
use crate::error::{ErrorKind, Result};
use crate::storage::{self, Storage};
use crate::store::CatalogueEntry;

/// What `storage sync` found, and what it changed in the catalogue, or would change.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SyncReport {
    pub storage: String,
    /// A plan: nothing was changed.
    pub planned: bool,
    /// Whole backups that the catalogue did not have, or not as good ones.
    pub added: Vec<String>,
    /// In the catalogue, but no longer in the storage.
    pub missing: Vec<String>,
    /// Backups with a manifest that are listed as incomplete, with what they lack.
    pub not_whole: Vec<String>,
    /// Folders without a manifest: a job elsewhere, or what one left.
    pub incomplete: Vec<String>,
    /// Manifests that cannot be read, with why.
    pub unreadable: Vec<String>,
    /// What another tool left and that cannot be restored here, with why. Nothing is wrong with it.
    pub refused: Vec<String>,
    /// Backups that the catalogue has already, from another place: a copy of them. Nothing is wrong with it.
    pub elsewhere: Vec<String>,
    /// Backups that cannot be listed, because another backup in another place has their name.
    pub name_taken: Vec<String>,
    pub unchanged: u64,
    pub slices: SyncedSlices,
    /// What a person should heed, as sentences; commands in them can be copied.
    pub warnings: Vec<String>,
    /// What came back of the store that a copy was made of, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<StateReport>>,
}

/// The same of the recorded oplog, of which there are too many pieces to name each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SyncedSlices {
    pub added: u64,
    pub missing: u64,
    pub unchanged: u64,
}

/// Backups, or what looks like some, of which a sync says the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyncGroup<'a> {
    pub title: &'static str,
    pub grade: SyncGrade,
    /// Not escaped.
    pub lines: &'a [String],
}

/// What a group of a report means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncGrade {
    /// More backups can be restored.
    Good,
    /// For people to know.
    Note,
    /// Something may be wrong, or is only on its way.
    Warn,
    /// Something that should be there is not, or is of no use.
    Wrong,
}

impl SyncReport {
    /// What it says of backups, in the order in which people are shown it; groups may be empty.
    pub fn groups(&self) -> [SyncGroup<'_>; 8] {
        let (added, not_whole) = match self.planned {
            true => ("to be added to the catalogue", "not whole, to be listed as incomplete"),
            false => ("added to the catalogue", "not whole, listed as incomplete"),
        };
        let group = |title, grade, lines| SyncGroup { title, grade, lines };
        [
            group(added, SyncGrade::Good, self.added.as_slice()),
            group("no longer in the storage", SyncGrade::Wrong, &self.missing),
            group(not_whole, SyncGrade::Wrong, &self.not_whole),
            group("without a manifest (running elsewhere, or left behind)", SyncGrade::Warn, &self.incomplete),
            group("with a manifest that cannot be read", SyncGrade::Wrong, &self.unreadable),
            group("not listed, because another backup has the name", SyncGrade::Wrong, &self.name_taken),
            group("already in the catalogue, from another place", SyncGrade::Note, &self.elsewhere),
            group("of another tool, not to be restored here", SyncGrade::Note, &self.refused),
        ]
    }

    /// Whether nothing is wrong. What another host is just writing is incomplete, and nothing is wrong with that.
    pub fn is_ok(&self) -> bool {
        let is_wrong = |group: &SyncGroup<'_>| group.grade == SyncGrade::Wrong && !group.lines.is_empty();
        !self.groups().iter().any(is_wrong) && self.slices.missing == 0
    }
}

/// What a sync would change in the catalogue, and what it found.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncPlan {
    pub report: SyncReport,
    pub(super) steps: Vec<Step>,
    pub(super) changes: bool,
    /// The folders of recorded oplog.
    pub(super) archives: Vec<Key>,
    /// What other tools recorded.
    pub(super) recorded: Vec<ForeignArchive>,
}

impl SyncPlan {
    /// Whether carrying it out would change what the catalogue says.
    pub fn changes_something(&self) -> bool {
        self.changes || self.report.slices.added > 0 || self.report.slices.missing > 0
    }
}

/// One change of the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub change: Change,
    /// What the catalogue said of that place when the change was planned. Where it says something else by now, somebody has been
    /// at work there, and knows better.
    pub seen: Option<BackupState>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// A backup is in the storage. `lacks`: what is missing of it.
    Import { entry: Box<CatalogueEntry>, lacks: Option<String> },
    /// There is a folder without a manifest.
    Incomplete { folder: String, name: String, service: String, why: String },
    /// A backup that the catalogue has is not there, or its manifest is of no use.
    NotGood { folder: String, name: String, why: String },
}

impl Change {
    /// Folder and name.
    fn place(&self) -> (&str, &str) {
        match self {
            Self::Import { entry, .. } => (&entry.folder, &entry.name),
            Self::Incomplete { folder, name, .. } | Self::NotGood { folder, name, .. } => (folder, name),
        }
    }
}

impl Client {
    /// Finds what a storage holds, and what [`Client::carry_out_sync`] would change in the catalogue. Changes nothing.
    ///
    /// Errors: what the storage reports; nothing is concluded then.
    pub async fn plan_sync(&self, name: &str) -> Result<SyncPlan> {
        let (storage, mut plan) = self.look_for_sync(name).await?;
        let storage = storage.as_ref();
        self.compare_slices(storage, name, &plan.archives, &mut plan.report).await?;
        self.compare_chunks(name, &plan.recorded, &mut plan.report).await?;
        Ok(plan)
    }

    /// Carries out a plan. A backup that went since is not added; slices of the oplog are looked for anew.
    ///
    /// Errors: what the storage and the store report; what was changed before stays changed.
    pub async fn carry_out_sync(&self, plan: SyncPlan) -> Result<SyncReport> {
        self.must_write()?;
        let name = plan.report.storage.clone();
        let location = self.location(&name).await?;
        self.recognize_folder(&location).await?;
        let storage = storage::open(&location.config).await.map_err(|e| e.of_storage(&name))?;
        self.carry_out(storage.as_ref(), plan).await
    }

    /// Finds the backups of a storage that the catalogue does not know, and those it knows that are gone or not whole.
    pub async fn sync_storage(&self, name: &str) -> Result<SyncReport> {
        self.must_write()?;
        let (storage, plan) = self.look_for_sync(name).await?;
        self.carry_out(storage.as_ref(), plan).await
    }

    async fn carry_out(&self, storage: &dyn Storage, plan: SyncPlan) -> Result<SyncReport> {
        let SyncPlan { mut report, steps, changes: _, archives, recorded } = plan;
        report.planned = false;
        report.slices = SyncedSlices::default();
        let name = report.storage.clone();
        let gone = gone_since(storage, &steps, &report.added).await?;
        let place = name.clone();
        let taken = self.call(move |client| {
            let (mut not_added, mut taken) = (BTreeSet::new(), Vec::new());
            for step in steps {
                let name = step.change.place().1.to_owned();
                match client.take_step(&place, step, &gone) {
                    Ok(true) => {}
                    Ok(false) => drop(not_added.insert(name)),
                    // Somebody took the name since.
                    Err(e) if e.kind() == ErrorKind::Conflict => {
                        taken.push(e.full());
                        not_added.insert(name);
                    }
                    Err(e) => return Err(e),
                }
            }
            Ok((not_added, taken))
        });
        let (not_added, taken) = taken.await?;
        report.added.retain(|added| !not_added.contains(added));
        report.name_taken.extend(taken);
        self.sync_slices(storage, &name, &archives, &mut report).await?;
        self.sync_chunks(&name, recorded, &mut report).await?;
        Ok(report)
    }

    /// Changes the catalogue of `storage`; false where it says by now something else than was seen. `gone`: folder and name of
    /// what is not to be added any more.
    fn take_step(&self, storage: &str, step: Step, gone: &BTreeSet<(String, String)>) -> Result<bool> {
        let Step { change, seen } = step;
        let (folder, name) = change.place();
        if gone.contains(&(folder.to_owned(), name.to_owned())) {
            return Ok(false);
        }
        let now = match self.store.backup(name) {
            Ok(backup) => (backup.storage == storage && backup.folder == folder).then_some(backup.state),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if now != seen {
            return Ok(false);
        }
        match change {
            Change::Import { entry, lacks: None } => self.store.import_backup(storage, &entry).map(drop)?,
            Change::Import { entry, lacks: Some(why) } => self.store.import_not_whole(storage, &entry, &why)?,
            Change::Incomplete { folder, name, service, why } => {
                self.store.import_incomplete(storage, &folder, &name, &service, &why)?;
                if seen.is_some() {
                    self.store.backup_missing(&name, "its manifest is gone")?;
                }
            }
            Change::NotGood { name, why, .. } => self.store.backup_missing(&name, &why)?,
        }
        Ok(true)
    }
}

/// Those to be `added` whose manifest went since they were looked at: somebody deletes them, and their record went first.
async fn gone_since(storage: &dyn Storage, steps: &[Step], added: &[String]) -> Result<BTreeSet<(String, String)>> {
    let own = steps.iter().filter_map(|step| match &step.change {
        Change::Import { entry, .. } if entry.is_in_own_layout() && added.contains(&entry.name) => {
            Some((entry.folder.clone(), entry.name.clone()))
        }
        _ => None,
    });
    let mut own: BTreeSet<(String, String)> = own.collect();
    for found in with_manifest(storage, own.iter().cloned().collect()).await? {
        own.remove(&(found.folder, found.name));
    }
    Ok(own)
}
