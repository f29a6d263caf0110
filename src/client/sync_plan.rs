//! What a sync finds in a storage, and what that means for the catalogue. Nothing is changed here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::sync::{Change, Step, SyncPlan, SyncReport};
use super::{Client, sync_encryption};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Envelope;
use crate::control::catalogue_entry::catalogue_entry;
use crate::domain::backup::{Backup, BackupState};
use crate::domain::command_line::quoted;
use crate::domain::service::EngineKind;
use crate::domain::text::{escape, utc};
use crate::engine::backup_reader::read_attempt;
use crate::engine::find::{Found, InStorage, find, with_manifest};
use crate::engine::pbm::pbm_folder;
use crate::engine::storage_check::wholeness::{self, Held};
use crate::error::Result;
use crate::storage::{self, Storage};
use crate::store::{CatalogueEntry, Import};

/// Folder and name.
pub(super) type Place = (String, String);

/// What PBM calls a backup that it made for us, and where.
pub(super) fn driven(folder: &str, pbm_name: Option<&str>) -> Option<Place> {
    Some((pbm_folder(folder), pbm_name?.to_owned()))
}

/// A plan that is being made.
pub(super) struct Planner<'a> {
    pub client: &'a Client,
    pub storage: &'a dyn Storage,
    pub name: &'a str,
    /// The backups of this storage in the catalogue.
    pub known: BTreeMap<Place, Backup>,
    /// Names that the catalogue has anywhere, or will have.
    pub names: BTreeSet<String>,
    /// What PBM made for us, as PBM calls it: it is listed under the name that it has here.
    pub driven: BTreeSet<Place>,
    /// What is there, so that it is not missing.
    pub seen: BTreeSet<Place>,
    pub report: SyncReport,
    pub steps: Vec<Step>,
    /// Whether one of the steps changes what the catalogue says.
    pub changes: bool,
}

impl Client {
    /// Looks at everything but the recorded oplog.
    pub(super) async fn look_for_sync(&self, name: &str) -> Result<(Arc<dyn Storage>, SyncPlan)> {
        let location = self.location(name).await?;
        self.recognize_folder(&location).await?;
        let storage = storage::open(&location.config).await.map_err(|e| e.of_storage(name))?;
        let place = name.to_owned();
        let known = self.call(move |client| {
            let all = client.store.backups()?;
            let names: BTreeSet<String> = all.iter().map(|backup| backup.name.clone()).collect();
            let known = all.into_iter().filter(|backup| backup.storage == place);
            let known = known.map(|backup| ((backup.folder.clone(), backup.name.clone()), backup));
            Ok((known.collect::<BTreeMap<Place, Backup>>(), names))
        });
        let (known, names) = known.await?;
        let driven = known.values().filter_map(|backup| driven(&backup.folder, backup.pbm_name.as_deref())).collect();
        let mut planner = Planner {
            client: self,
            storage: storage.as_ref(),
            name,
            known,
            names,
            driven,
            seen: BTreeSet::new(),
            report: SyncReport { storage: name.to_owned(), planned: true, ..SyncReport::default() },
            steps: Vec::new(),
            changes: false,
        };
        let InStorage { backups, archives, foreign, crowded } =
            find(storage.as_ref()).await.map_err(|e| e.of_storage(name))?;
        let envelopes = planner.own(backups).await?;
        planner.report.warnings.extend(sync_encryption::warning(name, &location.config.encryption, &envelopes));
        drop(envelopes);
        let recorded = planner.foreign(&foreign).await?;
        planner.report.refused.extend(crowded.iter().map(|folder| {
            let folder = if folder.is_empty() { "the root of the storage".to_owned() } else { escape(folder) };
            format!("{folder} holds so many objects that archives of mongodump among them may not be found")
        }));
        planner.missing(&crowded);
        let Planner { report, steps, changes, .. } = planner;
        Ok((storage, SyncPlan { report, steps, changes, archives, recorded }))
    }
}

impl Planner<'_> {
    /// Backups in our own order of things. Returns what their manifests say.
    async fn own(&mut self, mut found: Vec<Found>) -> Result<Vec<Envelope>> {
        found.extend(self.unlisted(&found).await?);
        self.seen.extend(found.iter().map(|found| (found.folder.clone(), found.name.clone())));
        let (with, without): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|found| found.has_manifest);
        for found in &without {
            self.attempt(found).await?;
        }
        let mut envelopes = Vec::new();
        for (found, held) in wholeness::compare(self.storage, with).await? {
            let place = found.place();
            match held {
                // Somebody deletes it.
                Held::Gone => {}
                Held::Unknown(why) => self.report.unreadable.push(format!("{place}: {why}")),
                Held::Unreadable(why) => {
                    self.report.unreadable.push(format!("{place}: {why}"));
                    self.not_good(&found.folder, &found.name, why);
                }
                Held::Backup { envelope, lacks } => {
                    self.driven.extend(driven(&envelope.folder, envelope.pbm_name.as_deref()));
                    self.import(catalogue_entry(&envelope), &place, lacks).await?;
                    envelopes.push(*envelope);
                }
            }
        }
        Ok(envelopes)
    }

    /// The good backups of the catalogue that the listing does not have and whose manifest is there all the same: a listing
    /// may be late or empty, and is no proof that something is gone.
    async fn unlisted(&self, found: &[Found]) -> Result<Vec<Found>> {
        let listed: BTreeSet<Place> = found.iter().map(|f| (f.folder.clone(), f.name.clone())).collect();
        let unlisted = self.known.iter().filter(|(place, backup)| {
            (backup.engine == EngineKind::Native || backup.pbm_name.is_some())
                && backup.state == BackupState::Succeeded
                && !listed.contains(*place)
        });
        with_manifest(self.storage, unlisted.map(|(place, _)| place.clone()).collect()).await
    }

    /// A folder without a manifest.
    async fn attempt(&mut self, found: &Found) -> Result<()> {
        let known = self.known.get(&(found.folder.clone(), found.name.clone()));
        if known.is_some_and(|backup| matches!(backup.state, BackupState::Running | BackupState::Deleting)) {
            return Ok(());
        }
        let seen = known.map(|backup| backup.state);
        // One whose name is elsewhere is not listed.
        self.changes |= match seen {
            Some(state) => state == BackupState::Succeeded,
            None => self.names.insert(found.name.clone()),
        };
        let attempt = read_attempt(self.storage, &BackupRoot::new(&found.folder, &found.name)?).await?;
        let why = match &attempt {
            Some(a) => {
                let begun = utc(a.started_at);
                escape(&format!("no manifest; begun {begun} by {} (pid {})", a.host, a.pid))
            }
            None => "no manifest".to_owned(),
        };
        self.report.incomplete.push(format!("{}: {why}", found.place()));
        let service = attempt.map_or_else(|| "unknown".to_owned(), |a| a.service);
        let (folder, name) = (found.folder.clone(), found.name.clone());
        self.steps.push(Step { change: Change::Incomplete { folder, name, service, why }, seen });
        Ok(())
    }

    /// A backup that the storage holds, and what it `lacks`. `place`: how it is called in a sentence, not escaped.
    pub async fn import(&mut self, entry: CatalogueEntry, place: &str, lacks: Option<String>) -> Result<()> {
        let (name, asked) = (self.name.to_owned(), entry.clone());
        let import = self.client.call(move |client| client.store.plan_import(&name, &asked)).await?;
        let known = self.known.get(&(entry.folder.clone(), entry.name.clone()));
        match (&import, &lacks) {
            (Import::Elsewhere(other), _) => {
                let (storage, folder) = (escape(&other.storage), escape(&other.folder));
                let of = if folder.is_empty() { String::new() } else { format!(", folder {folder}") };
                if entry.is_the_same_as(other) {
                    self.report.elsewhere.push(format!("{place}: it is listed as one of storage {storage}{of}"));
                } else {
                    self.report.name_taken.push(format!("{place}: the other one is in storage {storage}{of}"));
                }
                return Ok(());
            }
            (Import::AtWork, _) => {
                self.report.unchanged += 1;
                return Ok(());
            }
            (Import::Adds, _) if known.is_none() && !self.names.insert(entry.name.clone()) => {
                self.report.name_taken.push(format!("{place}: the other one is in another folder of this storage"));
                return Ok(());
            }
            (Import::Adds | Import::Unchanged, Some(why)) => {
                self.report.not_whole.push(format!("{place}: {why}"));
                let is_known = |b: &Backup| b.state == BackupState::Incomplete && b.error.as_ref() == Some(why);
                self.changes |= !known.is_some_and(is_known);
            }
            (Import::Adds, None) => {
                self.report.added.push(entry.name.clone());
                self.changes = true;
                if known.is_some_and(|backup| backup.verify_error.is_some()) {
                    let name = &entry.name;
                    self.report.warnings.push(format!(
                        "{} was damaged and has again what its manifest names; it counts as damaged until \
                         mongokeep backup verify {} has read all of it",
                        escape(name),
                        quoted(name)
                    ));
                }
            }
            (Import::Unchanged, None) => self.report.unchanged += 1,
        }
        let seen = known.map(|backup| backup.state);
        self.steps.push(Step { change: Change::Import { entry: Box::new(entry), lacks }, seen });
        Ok(())
    }

    /// A backup in that place is not good any more, if the catalogue has it.
    pub fn not_good(&mut self, folder: &str, name: &str, why: String) {
        if let Some(known) = self.known.get(&(folder.to_owned(), name.to_owned())) {
            self.changes |= known.state == BackupState::Succeeded;
            let change = Change::NotGood { folder: folder.to_owned(), name: name.to_owned(), why };
            self.steps.push(Step { change, seen: Some(known.state) });
        }
    }

    /// What the catalogue calls good and was not seen. `crowded`: folders of which not every object was looked into.
    fn missing(&mut self, crowded: &BTreeSet<String>) {
        for ((folder, name), backup) in &self.known {
            let may_be_there = backup.engine == EngineKind::Mongodump && crowded.contains(folder);
            let is_missing = backup.state == BackupState::Succeeded && !may_be_there;
            if is_missing && !self.seen.contains(&(folder.clone(), name.clone())) {
                let why = "it is no longer in the storage".to_owned();
                let change = Change::NotGood { folder: folder.clone(), name: name.clone(), why };
                self.steps.push(Step { change, seen: Some(backup.state) });
                self.report.missing.push(name.clone());
                self.changes = true;
            }
        }
    }
}
