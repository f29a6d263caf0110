//! Backups: asked for, looked at, verified, deleted, exported.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Local;

use super::{Client, DeletePlan, Values, list, text};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Manifest;
use crate::config::Settings;
use crate::domain::backup::{Backup, BackupRequest, BackupState, BackupType, Compression, Model};
use crate::domain::fields::{self, BACKUP_FIELDS};
use crate::domain::job::Job;
use crate::domain::namespace::Selection;
use crate::domain::retry::{RetryMode, RetryPolicy, parse_duration};
use crate::engine::stored;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{self, Storage};

impl Client {
    /// Newest first.
    pub fn backups(&self) -> Result<Vec<Backup>> {
        self.store.backups()
    }

    /// Of which backups it is known whether they hold everything, by name.
    pub fn known_whole(&self) -> Result<BTreeMap<String, bool>> {
        self.store.known_whole()
    }

    pub fn backup(&self, name: &str) -> Result<Backup> {
        self.store.backup(name)
    }

    /// A name that is free now, for the form: `SERVICE-20261121-1402`, in local time.
    pub fn suggest_backup_name(&self, service: &str) -> Result<String> {
        self.free_backup_name(service, "")
    }

    /// `SERVICE-WORDS20261121-1402`.
    pub(super) fn free_backup_name(&self, service: &str, words: &str) -> Result<String> {
        // Room for the time and a number within the 100 characters of a name.
        let service: String = service.chars().take(75 - words.len()).collect();
        let base = format!("{service}-{words}{}", Local::now().format("%Y%m%d-%H%M"));
        for number in 1..1000 {
            let name = if number == 1 { base.clone() } else { format!("{base}-{number}") };
            match self.store.backup(&name) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(name),
                Err(e) => return Err(e),
                Ok(_) => {}
            }
        }
        Err(Error::new(ErrorKind::Conflict, format!("too many backups called {base}")))
    }

    /// Reads the manifest from the storage.
    pub async fn manifest(&self, backup: &str) -> Result<Manifest> {
        let name = backup.to_owned();
        let backup = self.beside(move |client| client.readable(&name)).await?;
        let (_, manifest) = self.opened(&backup).await?;
        Ok(manifest)
    }

    /// Validates and queues a backup, and starts the daemon. Contacts neither server nor storage.
    pub fn create_backup(&self, values: &Values) -> Result<Job> {
        self.must_write()?;
        fields::check(&[BACKUP_FIELDS], values, false)?;
        let needed = |key: &str| text(values, key).ok_or_else(|| Error::invalid(key, "is needed"));
        let (service, storage) = (needed("service")?, needed("storage")?);
        let settings = Settings::load(&self.home)?;
        let service = self.store.service_row(service)?;
        let storage = self.store.storage_row(storage)?;
        self.must_be_enabled()?;
        let name = match text(values, "name") {
            Some(name) => name.to_owned(),
            None => self.suggest_backup_name(&service.name)?,
        };
        let folder = text(values, "folder").or(service.cluster.as_deref()).unwrap_or(&service.name).to_owned();
        storage.config.check_folder(&folder)?;
        let request = BackupRequest {
            folder,
            name,
            service: service.name.clone(),
            storage: storage.name,
            model: Model::Logical,
            backup_type: BackupType::Full,
            selection: Selection { include: list(values, "include")?, exclude: list(values, "exclude")? },
            compression: compression(values, &settings)?,
            retry: retry(values, RetryPolicy::default())?,
            schedule: None,
        };
        // Refuses a path the layout cannot hold before anything is queued.
        BackupRoot::new(&request.folder, &request.name)?;
        match self.store.backup(&request.name) {
            // Queueing says it in full; no daemon need be started for that.
            Ok(_) => return self.store.enqueue_backup(&request),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        self.queue(|| self.store.enqueue_backup(&request))
    }

    /// A pinned backup is not deleted, by hand or by retention.
    pub fn pin_backup(&self, name: &str, pinned: bool) -> Result<Backup> {
        self.must_write()?;
        self.store.pin_backup(name, pinned)
    }

    /// Queues reading every object back.
    pub fn verify_backup(&self, name: &str) -> Result<Job> {
        self.must_write()?;
        self.readable(name)?;
        self.queue(|| self.store.enqueue_verify(name))
    }

    pub fn plan_delete(&self, name: &str, keep_files: bool) -> Result<DeletePlan> {
        let backup = self.store.backup(name)?;
        let mut warnings = Vec::new();
        if backup.pinned {
            warnings.push(format!("it is pinned, and is not deleted before mongokeep backup unpin {name}"));
        }
        if backup.is_good() {
            let whole = self.store.known_whole()?;
            let is_partial = |b: &Backup| whole.get(&b.name) == Some(&false);
            let mut others = self.store.backups()?;
            others.retain(|b| b.service == backup.service && b.is_good() && b.name != name);
            if others.is_empty() {
                warnings.push(format!("it is the only good backup of {}", backup.service));
            } else if !is_partial(&backup) && others.iter().all(is_partial) {
                warnings.push(format!("it is the only good backup that holds all of {}", backup.service));
            }
        }
        warnings.extend(self.lost_with(&backup)?);
        if backup.state == BackupState::Running {
            warnings.push("it is being made; cancel its job first".to_owned());
        }
        if keep_files {
            warnings.push("its files stay; mongokeep storage sync finds it again".to_owned());
        }
        let bytes = if keep_files { 0 } else { backup.size_bytes.unwrap_or(0) };
        Ok(DeletePlan { backup: backup.name, storage: backup.storage, keep_files, bytes, warnings })
    }

    /// Queues the removal of exactly what the backup's manifest names.
    pub fn delete_backup(&self, name: &str, keep_files: bool) -> Result<Job> {
        self.must_write()?;
        self.store.backup(name)?;
        self.queue(|| self.store.enqueue_delete(name, keep_files))
    }

    /// A backup that is good, or why it is not.
    pub(super) fn readable(&self, name: &str) -> Result<Backup> {
        let backup = self.store.backup(name)?;
        match backup.state {
            BackupState::Succeeded => Ok(backup),
            BackupState::Running => Err(Error::new(ErrorKind::Conflict, format!("backup {name} is still being made"))
                .hint("mongokeep job list shows how far it is")),
            BackupState::Deleting => Err(Error::new(ErrorKind::Conflict, format!("backup {name} is being deleted"))),
            BackupState::Failed | BackupState::Incomplete => {
                Err(Error::new(ErrorKind::Conflict, format!("backup {name} is not complete, so it cannot be read"))
                    .hint("mongokeep backup list shows which backups succeeded"))
            }
        }
    }

    pub(super) async fn opened(&self, backup: &Backup) -> Result<(Arc<dyn Storage>, Manifest)> {
        let location = self.location(&backup.storage).await?;
        let storage = storage::open(&location.config).await?;
        let manifest = stored::read_manifest(storage.as_ref(), &BackupRoot::new(&backup.folder, &backup.name)?).await?;
        Ok((storage, manifest))
    }
}

fn compression(values: &Values, settings: &Settings) -> Result<Compression> {
    match text(values, "compression") {
        Some(text) => text.parse().map_err(|why: String| Error::invalid("compression", why)),
        None => Ok(settings.compression()),
    }
}

/// `policy` with what `values` has; an empty one is the default.
pub(super) fn retry(values: &Values, policy: RetryPolicy) -> Result<RetryPolicy> {
    let (mut policy, default) = (policy, RetryPolicy::default());
    match values.get("retry").map(|_| text(values, "retry")) {
        Some(Some("auto")) => policy.mode = RetryMode::Auto,
        Some(_) => policy.mode = default.mode,
        None => {}
    }
    if values.contains_key("retries") {
        policy.retries = default.retries;
    }
    if values.contains_key("retry_interval") {
        policy.interval = default.interval;
    }
    if let Some(retries) = text(values, "retries") {
        policy.retries = retries.parse().map_err(|_| Error::invalid("retries", "is not a number"))?;
    }
    if let Some(interval) = text(values, "retry_interval") {
        policy.interval = parse_duration(interval).map_err(|why| Error::invalid("retry-interval", why))?.as_secs();
    }
    policy.check()?;
    Ok(policy)
}
