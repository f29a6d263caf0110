//! `storage sync`: the catalogue made to agree with what a storage holds.
//!
//! The storage is the truth. What it holds and the catalogue lacks is added; what the catalogue calls good and the
//! storage lacks is no longer called good. Nothing is written to the storage.

use std::collections::BTreeSet;

use super::{Client, SyncReport, SyncedSlices};
use crate::artifact::layout::BackupRoot;
use crate::control::catalogue_entry::catalogue_entry;
use crate::domain::backup::BackupState;
use crate::domain::service::EngineKind;
use crate::domain::text::escape;
use crate::engine::backup_reader::{read_attempt, read_manifest};
use crate::engine::engine;
use crate::engine::find::{Found, InStorage, find, with_manifest};
use crate::error::{ErrorKind, Result};
use crate::storage::{self, Storage};

impl Client {
    /// Finds the backups of a storage that the catalogue does not know, and those it knows that are gone.
    pub async fn sync_storage(&self, name: &str) -> Result<SyncReport> {
        self.must_write()?;
        let location = self.location(name).await?;
        self.recognize_folder(&location).await?;
        let storage = storage::open(&location.config).await.map_err(|e| e.of_storage(name))?;
        let mut report = SyncReport {
            storage: name.to_owned(),
            added: Vec::new(),
            missing: Vec::new(),
            incomplete: Vec::new(),
            unreadable: Vec::new(),
            refused: Vec::new(),
            unchanged: 0,
            slices: SyncedSlices::default(),
            state: None,
        };
        let InStorage { backups: mut found, archives, foreign, crowded } =
            find(storage.as_ref()).await.map_err(|e| e.of_storage(name))?;
        found.extend(self.unlisted(storage.as_ref(), name, &found).await?);
        let mut seen = BTreeSet::new();
        for found in &found {
            seen.insert((found.folder.clone(), found.name.clone()));
            self.sync_one(storage.as_ref(), name, found, &mut report).await?;
        }
        let recorded = self.sync_foreign(storage.as_ref(), name, &foreign, &mut seen, &mut report).await?;
        report.refused.extend(crowded.iter().map(|folder| {
            let folder = if folder.is_empty() { "the root of the storage".to_owned() } else { escape(folder) };
            format!("{folder} holds so many objects that archives of mongodump among them may not be found")
        }));
        let place = name.to_owned();
        let forgotten = self.call(move |client| {
            let mut missing = Vec::new();
            for backup in client.store.backups()? {
                let may_be_there = backup.engine == EngineKind::Mongodump && crowded.contains(&backup.folder);
                let known = backup.storage == place && backup.state == BackupState::Succeeded && !may_be_there;
                if known && !seen.contains(&(backup.folder.clone(), backup.name.clone())) {
                    client.store.backup_missing(&backup.name, "it is no longer in the storage")?;
                    missing.push(backup.name);
                }
            }
            Ok(missing)
        });
        report.missing = forgotten.await?;
        self.sync_slices(storage.as_ref(), name, &archives, &mut report).await?;
        self.sync_chunks(name, recorded, &mut report).await?;
        Ok(report)
    }

    /// The good backups of the catalogue that the listing does not have and whose manifest is there all the same: a listing
    /// may be late or empty, and is no proof that something is gone.
    async fn unlisted(&self, storage: &dyn Storage, storage_name: &str, found: &[Found]) -> Result<Vec<Found>> {
        let listed: BTreeSet<(String, String)> = found.iter().map(|f| (f.folder.clone(), f.name.clone())).collect();
        let place = storage_name.to_owned();
        let unlisted = self.call(move |client| {
            let known = client.store.backups()?.into_iter().filter(|b| {
                b.storage == place
                    && (b.engine == EngineKind::Native || b.pbm_name.is_some())
                    && b.state == BackupState::Succeeded
                    && !listed.contains(&(b.folder.clone(), b.name.clone()))
            });
            Ok(known.map(|b| (b.folder, b.name)).collect::<Vec<_>>())
        });
        with_manifest(storage, unlisted.await?).await
    }

    async fn sync_one(
        &self,
        storage: &dyn Storage,
        storage_name: &str,
        found: &Found,
        report: &mut SyncReport,
    ) -> Result<()> {
        let place = found.place();
        let root = BackupRoot::new(&found.folder, &found.name)?;
        let name = found.name.clone();
        let known = match self.call(move |client| client.store.backup(&name)).await {
            Ok(backup) => Some(backup),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let known = known.filter(|b| b.storage == storage_name && b.folder == found.folder);
        if !found.has_manifest {
            if known.as_ref().is_some_and(|b| matches!(b.state, BackupState::Running | BackupState::Deleting)) {
                return Ok(());
            }
            let attempt = read_attempt(storage, &root).await?;
            let why = match &attempt {
                Some(a) => format!("no manifest; begun {} by {} (pid {})", a.started_at.to_rfc3339(), a.host, a.pid),
                None => "no manifest".to_owned(),
            };
            let service = attempt.map_or_else(|| "unknown".to_owned(), |a| a.service);
            let (place_name, folder, name, shown) =
                (storage_name.to_owned(), found.folder.clone(), found.name.clone(), escape(&why));
            let is_known = known.is_some();
            let noted = self.call(move |client| {
                client.store.import_incomplete(&place_name, &folder, &name, &service, &shown)?;
                if is_known { client.store.backup_missing(&name, "its manifest is gone") } else { Ok(()) }
            });
            noted.await?;
            report.incomplete.push(format!("{place}: {}", escape(&why)));
            return Ok(());
        }
        let manifest = match read_manifest(storage, &root).await {
            Ok(manifest) => manifest,
            // What cannot be reached now may be sound: nothing is concluded from it.
            Err(e) if e.is_retryable() => return Err(e),
            Err(e) => return self.unreadable(found, known.is_some(), &place, e.full(), report).await,
        };
        let envelope = &manifest.envelope;
        if envelope.name != found.name || envelope.folder != found.folder {
            report.unreadable.push(format!(
                "{place}: its manifest is that of backup {} in folder {:?}; move it back to where it was made",
                escape(&envelope.name),
                escape(&envelope.folder)
            ));
            return Ok(());
        }
        // The catalogue counts with these: one such manifest would take the lists of all backups with it.
        let implausible = engine(envelope.engine, envelope.model).and_then(|engine| engine.implausible(&manifest));
        let why = match implausible {
            Ok(found) => found.first().map(|what| format!("its manifest cannot be true: {what}")),
            Err(e) => Some(e.full()),
        };
        if let Some(why) = why {
            return self.unreadable(found, known.is_some(), &place, why, report).await;
        }
        let (place_name, facts) = (storage_name.to_owned(), catalogue_entry(envelope));
        match self.call(move |client| client.store.import_backup(&place_name, &facts)).await {
            Ok(true) => report.added.push(found.name.clone()),
            Ok(false) => report.unchanged += 1,
            Err(e) if e.kind() == ErrorKind::Conflict => report.unreadable.push(format!("{place}: {}", e.full())),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Notes a manifest that is of no use, and that the backup is not good any more if it was.
    async fn unreadable(
        &self,
        found: &Found,
        known: bool,
        place: &str,
        why: String,
        report: &mut SyncReport,
    ) -> Result<()> {
        report.unreadable.push(format!("{place}: {why}"));
        if !known {
            return Ok(());
        }
        let name = found.name.clone();
        self.call(move |client| client.store.backup_missing(&name, &why)).await
    }
}
