//! Backups: asked for, looked at, verified, deleted, exported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Local;

use super::restores::identity_path;
use super::{Client, DeletePlan, Removes, Values};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Manifest;
use crate::config::Settings;
use crate::domain::backup::{Backup, BackupDraft, BackupRequest, BackupState, Owner};
use crate::domain::clock;
use crate::domain::command_line::quoted;
use crate::domain::fields::{self, BACKUP, BACKUP_FIELDS};
use crate::domain::job::Job;
use crate::domain::typed;
use crate::engine::contract::{Wanted, must_make};
use crate::engine::{backup_reader, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{self, Freeing, Storage, backends};
use crate::store::Deletion;

/// How long a person waits at most until a storage has said whose a backup is.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(10);

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
        let base = format!("{service}-{words}{}", clock::now().with_timezone(&Local).format("%Y%m%d-%H%M"));
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

    /// Validates and queues a backup, and starts the daemon. Contacts neither server nor storage.
    pub fn create_backup(&self, values: &Values) -> Result<Job> {
        self.must_write()?;
        fields::check(&[BACKUP_FIELDS], values, false)?;
        let mut draft = BackupDraft::default();
        typed::apply(BACKUP, &mut draft, values)?;
        draft.model.check_selection(&draft.selection)?;
        draft.model.check_type(draft.backup_type)?;
        let settings = Settings::load(&self.home)?;
        let service = self.store.service_row(&draft.service)?;
        let storage = self.store.storage_row(&draft.storage)?;
        self.must_be_enabled()?;
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let name = given(draft.name).map_or_else(|| self.suggest_backup_name(&service.name), Ok)?;
        let folder = given(draft.folder).or(service.cluster).unwrap_or_else(|| service.name.clone());
        backends::check_folder(&storage.config, &folder)?;
        let (selection, location) = (&draft.selection, &self.judged(service.engine, storage.clone())?);
        let wanted = Wanted { backup_type: draft.backup_type, selection, location, folder: &folder };
        storage.config.encryption(&storage.name)?;
        must_make(engine(service.engine, draft.model)?, &wanted)?;
        let request = BackupRequest {
            folder,
            name,
            service: service.name,
            storage: storage.name,
            model: draft.model,
            backup_type: draft.backup_type,
            selection: draft.selection,
            compression: draft.compression.unwrap_or_else(|| settings.compression()),
            retry: draft.retry,
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
    ///
    /// `identity_file`: what opens one that is encrypted; `None`: that of the settings.
    pub fn verify_backup(&self, name: &str, identity_file: Option<&str>) -> Result<Job> {
        self.must_write()?;
        self.readable(name)?;
        let identity_file = identity_file.map(identity_path).transpose()?;
        self.queue(|| self.store.enqueue_verify(name, identity_file.as_deref()))
    }

    /// What a delete would remove. Asks the storage whose the files are, for `ASK_LIMIT` at most. `foreign`: those of
    /// another installation are meant, too.
    pub async fn plan_delete(&self, name: &str, keep_files: bool, foreign: bool) -> Result<DeletePlan> {
        let wanted = name.to_owned();
        let (deletion, mut warnings) = self.call(move |client| client.before_delete(&wanted)).await?;
        let backup = &deletion.backup;
        let mut plan = DeletePlan {
            backup: name.to_owned(),
            storage: backup.storage.clone(),
            keep_files,
            bytes: backup.size_bytes.unwrap_or(0),
            foreign: None,
            removes: Removes::RecordAndFiles,
            increments: Vec::new(),
            base: None,
            warnings: Vec::new(),
        };
        let mut frees = true;
        if keep_files {
            (plan.removes, plan.bytes) = (Removes::Record, 0);
            let storage = quoted(&backup.storage);
            warnings.push(format!("its files stay; mongokeep storage sync {storage} finds it again"));
        } else {
            match tokio::time::timeout(ASK_LIMIT, self.owner(backup)).await {
                Ok(Ok((owner, freeing))) => {
                    if let Some(freeing) = freeing {
                        warnings.extend(freeing.warnings());
                        frees = freeing.is_now();
                    }
                    let home_id = self.call(|client| client.store.home_id()).await?;
                    plan.foreign = owner.filter(|owner| !owner.is_of(&home_id, &deletion.attempts));
                }
                Ok(Err(e)) => warnings.push(format!("its storage does not say whose it is, and is asked again: {e}")),
                Err(_) => {
                    let seconds = ASK_LIMIT.as_secs();
                    warnings.push(format!(
                        "storage {} did not answer within {seconds} s, and is asked again",
                        plan.storage
                    ));
                }
            }
        }
        if let Some(owner) = &plan.foreign {
            plan.removes = match (foreign, owner.may_be_running(clock::now())) {
                (true, false) => Removes::RecordAndFiles,
                _ if deletion.owns_nothing() => Removes::Record,
                (_, true) => Removes::Nothing,
                (_, false) => Removes::NothingYet,
            };
            plan.bytes = match plan.removes {
                Removes::RecordAndFiles => owner.size_bytes.unwrap_or(0),
                Removes::Record | Removes::NothingYet | Removes::Nothing | Removes::NothingAlone => 0,
            };
        }
        if !keep_files && plan.foreign.is_none() {
            let wanted = name.to_owned();
            let (base, increments) = self.call(move |client| client.store.chain_of(&wanted)).await?;
            match base.filter(|_| backup.is_good()) {
                Some(base) => (plan.removes, plan.bytes, plan.base) = (Removes::NothingAlone, 0, Some(base)),
                None => {
                    plan.bytes += increments.iter().filter_map(|increment| increment.size_bytes).sum::<u64>();
                    for pinned in increments.iter().filter(|increment| increment.pinned) {
                        warnings.push(format!(
                            "its increment {0} is pinned, and nothing is deleted before mongokeep backup unpin {0}",
                            pinned.name
                        ));
                    }
                    plan.increments = increments.into_iter().map(|increment| increment.name).collect();
                }
            }
        }
        if !frees {
            plan.bytes = 0;
        }
        plan.warnings = warnings;
        Ok(plan)
    }

    /// Whose the files are that the storage holds under the name of a backup, and what deleting them would do; `None`: it
    /// does not say, or holds none.
    async fn owner(&self, backup: &Backup) -> Result<(Option<Owner>, Option<Freeing>)> {
        let location = self.location(&backup.storage).await?;
        let storage = storage::open(&location.config).await.map_err(|e| e.of_storage(&backup.storage))?;
        let root = BackupRoot::of(backup)?;
        let held = backup_reader::held(storage.as_ref(), &root).await.map_err(|e| e.of_storage(&backup.storage))?;
        let freeing = storage.freeing(&root.manifest()?).await?;
        Ok((held.owner().cloned(), freeing))
    }

    fn before_delete(&self, name: &str) -> Result<(Deletion, Vec<String>)> {
        let deletion = self.store.deletion(name)?;
        let backup = &deletion.backup;
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
            } else if !is_partial(backup) && others.iter().all(is_partial) {
                warnings.push(format!("it is the only good backup that holds all of {}", backup.service));
            }
        }
        warnings.extend(self.lost_with(backup)?);
        if backup.state == BackupState::Running {
            warnings.push("it is being made; cancel its job first".to_owned());
        }
        Ok((deletion, warnings))
    }

    /// Queues the removal of exactly what the backup's manifest names, if this home made it. `foreign`: the attempt of another
    /// installation that was named in the plan, and goes too. `increments`: those that the plan says go with it.
    pub fn delete_backup(
        &self,
        name: &str,
        keep_files: bool,
        foreign: Option<&str>,
        increments: &[String],
    ) -> Result<Job> {
        self.must_write()?;
        self.store.backup(name)?;
        self.queue(|| self.store.enqueue_delete(name, keep_files, foreign, increments))
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
        let manifest = backup_reader::read_manifest(storage.as_ref(), &BackupRoot::of(backup)?).await?;
        Ok((storage, manifest))
    }
}
