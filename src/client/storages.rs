//! Storage locations: where backups are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::services::must_be_made;
use super::storage_encryption::{self, EncryptionView};
use super::{Client, StorageView, Values, text};
use crate::config::Settings;
use crate::control::storage_folder;
use crate::domain::backup::BackupState;
use crate::domain::command_line::quoted;
use crate::domain::encryption::words_of;
use crate::domain::field::FieldKind;
use crate::domain::service::EngineKind;
use crate::domain::storage::{StorageConfig, StorageLocation, TestStep};
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result, storage_named};
use crate::storage;
use crate::storage::backends::{self, Alternative, STORAGE_FIELDS};
use crate::store::{StorageRow, Store};

/// How long a disk may take to say whether a folder is there.
const FOLDER_LIMIT: Duration = Duration::from_secs(5);

impl Client {
    pub fn storages(&self) -> Result<Vec<StorageView>> {
        Ok(self.store.storages()?.into_iter().map(|row| self.view(row)).collect())
    }

    pub fn storage(&self, name: &str) -> Result<StorageView> {
        Ok(self.view(self.store.storage_row(name)?))
    }

    /// A sentence about a storage that encrypts nothing and whose newest backup in the catalogue is encrypted.
    pub fn encryption_warning(&self, storage: &StorageView) -> Result<Option<String>> {
        if storage.encryption.is_some() {
            return Ok(None);
        }
        let backups = self.store.backups()?.into_iter();
        let newest = backups.filter(|b| b.storage == storage.name && b.state == BackupState::Succeeded);
        let encryption = newest.max_by_key(|backup| backup.started_at).and_then(|newest| newest.encryption);
        Ok(encryption.map(|encryption| {
            let (name, to) = (&storage.name, words_of(&encryption.recipients));
            let command = format!("mongokeep storage sync {} --dry-run", quoted(name));
            format!(
                "the newest backup in storage {name} is encrypted (to {to}), and the next one would be stored in plain text; \
                 {command} says how to go on encrypting"
            )
        }))
    }

    /// The identity file of the settings.
    fn usual_identity(&self) -> Result<Option<PathBuf>> {
        Ok(Settings::load(&self.home)?.identity_file())
    }

    /// Checks the syntax and contacts nothing.
    pub fn add_storage(&self, values: &Values) -> Result<StorageView> {
        self.must_write()?;
        let (of_encryption, of_type) = storage_encryption::divided(values);
        let mut config = new_config(&of_type)?;
        let name = text(values, "name").ok_or_else(|| Error::invalid("name", "is needed"))?;
        config.encryption =
            storage_encryption::changed(&config.encryption, &of_encryption, name, self.usual_identity()?)?;
        self.store.add_storage(name, &config)?;
        self.copy_soon()?;
        self.storage(name)
    }

    /// Fields that are absent stay as they are; an empty one is removed.
    pub fn edit_storage(&self, name: &str, values: &Values) -> Result<StorageView> {
        self.must_write()?;
        let row = self.store.storage_row(name)?;
        if text(values, "type").is_some_and(|new| new != row.config.kind) {
            return Err(Error::invalid("type", "cannot be changed; add another storage"));
        }
        if text(values, "name").is_some_and(|new| new != name) {
            return Err(Error::invalid("name", "cannot be changed: backups are filed under it"));
        }
        let present = match self.store.storage(name) {
            Ok(location) => location.config,
            // Secrets that are entered again need no old ones, which is how a lost key is got over.
            Err(e) => {
                let fields = backends::fields_of(&row.config.kind);
                let is_secret = |key: &String| fields.iter().any(|f| f.key == *key && f.kind == FieldKind::Secret);
                if !values.keys().any(is_secret) {
                    return Err(e);
                }
                row.config
            }
        };
        let (of_encryption, of_type) = storage_encryption::divided(values);
        let mut config = backends::changed_config(&present, &of_type)?;
        config.encryption =
            storage_encryption::changed(&present.encryption, &of_encryption, name, self.usual_identity()?)?;
        // What a schedule makes there today must go on.
        for schedule in self.store.schedules()?.iter().filter(|schedule| schedule.storage == name) {
            let kind = self.store.service_row(&schedule.service)?.engine;
            if must_be_made(kind, schedule, &present).is_ok() {
                must_be_made(kind, schedule, &config)?;
            }
        }
        self.store.edit_storage(name, &config)?;
        self.copy_soon()?;
        self.storage(name)
    }

    /// `Conflict` while in use, saying by what. Removes nothing from the storage itself.
    pub fn remove_storage(&self, name: &str) -> Result<()> {
        self.must_write()?;
        if Settings::load(&self.home)?.state_storage().as_deref() == Some(name) {
            let what = format!("storage {} keeps the copy of the store (state.backup_storage)", escape(name));
            return Err(Error::new(ErrorKind::Conflict, what)
                .hint("name another one first, or none: mongokeep settings set state.backup_storage \"\""));
        }
        self.store.remove_storage(name)?;
        self.copy_soon()
    }

    /// Finds the server of a storage, and lists, writes, reads and deletes a probe in it; `on_step` is called as each step
    /// ends. How it ended is noted.
    pub async fn test_storage(&self, name: &str, on_step: &(dyn Fn(&TestStep) + Send + Sync)) -> Result<Vec<TestStep>> {
        let location = self.location(name).await?;
        let steps = self.test_location(&location, on_step).await;
        if !self.is_read_only() {
            let kept = steps.clone();
            self.call(move |client| client.keep_test(&location.name, &kept)).await?;
        }
        Ok(steps)
    }

    /// Notes how a test of the storage `name` ended just now.
    pub fn keep_test(&self, name: &str, steps: &[TestStep]) -> Result<()> {
        self.must_write()?;
        let failed: Vec<_> = steps.iter().filter_map(TestStep::failure).collect();
        let failed = Some(failed.join("; ")).filter(|f| !f.is_empty());
        // One that is known to be good is known again.
        if failed.is_none() {
            let location = self.store.storage(name)?;
            // The test of a form removes a folder that it made. Once a storage is known to be good, one that is missing is a
            // disk that is not mounted.
            storage_folder::prepare(&self.store, &location)?;
            storage_folder::mark(&self.store, &location)?;
        }
        self.store.storage_tested(name, failed.as_deref())
    }

    /// The same with what a person typed and did not save; nothing of it is kept. `edited`: the storage that it would change,
    /// whose secrets stand for those that were not typed again.
    ///
    /// Errors: `Invalid`, naming the field.
    pub async fn test_draft(
        &self,
        edited: Option<&str>,
        values: &Values,
        on_step: &(dyn Fn(&TestStep) + Send + Sync),
    ) -> Result<Vec<TestStep>> {
        let location = self.draft(edited, values).await?;
        let made = self.call({
            let location = location.clone();
            move |_| storage_folder::missing(&location)
        });
        let made = made.await?;
        let steps = self.test_location(&location, on_step).await;
        // A folder that is there only for this test goes with it.
        let left = move |_: &Self| {
            for folder in &made {
                let _ = std::fs::remove_dir(folder);
            }
            Ok(())
        };
        self.call(left).await?;
        Ok(steps)
    }

    /// The location that a person typed and did not save.
    pub(super) async fn draft(&self, edited: Option<&str>, values: &Values) -> Result<StorageLocation> {
        let (_, of_type) = storage_encryption::divided(values);
        let config = match edited {
            Some(name) => backends::changed_config(&self.location(name).await?.config, &of_type)?,
            None => new_config(&of_type)?,
        };
        let name = edited.or(text(values, "name")).unwrap_or_default().to_owned();
        Ok(StorageLocation { name, config, created_at: crate::domain::clock::now(), last_test: None })
    }

    async fn test_location(
        &self,
        location: &StorageLocation,
        on_step: &(dyn Fn(&TestStep) + Send + Sync),
    ) -> Vec<TestStep> {
        // What tries it does not know what it is called.
        let named = |step: &TestStep| {
            let detail = match location.name.as_str() {
                "" => step.detail.clone(),
                name => storage_named(&step.detail, name),
            };
            let hint = step.hint.as_deref().map(|hint| match location.name.as_str() {
                "" => hint.to_owned(),
                name => storage_named(hint, name),
            });
            TestStep { detail, hint, ..step.clone() }
        };
        let steps = self.tried_location(location, &|step| on_step(&named(step))).await;
        steps.iter().map(named).collect()
    }

    async fn tried_location(
        &self,
        location: &StorageLocation,
        on_step: &(dyn Fn(&TestStep) + Send + Sync),
    ) -> Vec<TestStep> {
        let address = backends::address(&location.config).ok().flatten();
        let mut steps = match address {
            Some(url) => storage::reach(&url, on_step).await,
            None => Vec::new(),
        };
        if steps.last().is_some_and(|step| !step.ok) {
            return steps;
        }
        let opened = async {
            self.prepare_folder(location).await?;
            storage::open(&location.config).await
        };
        match opened.await {
            Ok(storage) => {
                let (tried, failed) = storage::test_and_judge(storage.as_ref(), on_step).await;
                steps.extend(tried);
                if let Some(step) = other_setting(location, &steps, failed).await {
                    on_step(&step);
                    steps.push(step);
                }
            }
            // What cannot even be opened has failed the test, and is told as that.
            Err(e) => {
                let detail = e.hint_text().map_or_else(|| e.full(), |hint| format!("{} ({hint})", e.full()));
                let hint = e.hint_text().map(str::to_owned);
                let step = TestStep { id: "open".into(), ok: false, detail, seconds: 0.0, remedy: None, hint };
                on_step(&step);
                steps.push(step);
            }
        }
        steps
    }

    /// The configuration of a storage as `engine` judges it: one that has another program write there does by the kind of its
    /// secrets, too.
    ///
    /// Errors: those secrets cannot be read.
    pub(super) fn judged(&self, engine: EngineKind, row: StorageRow) -> Result<StorageConfig> {
        match engine {
            EngineKind::Pbm => Ok(self.store.storage(&row.name)?.config),
            EngineKind::Native | EngineKind::Mongodump => Ok(row.config),
        }
    }

    pub(super) async fn location(&self, name: &str) -> Result<StorageLocation> {
        let name = name.to_owned();
        self.call(move |client| client.store.storage(&name)).await
    }

    /// Makes the folder of a storage that was never used, where this client may.
    pub(super) async fn prepare_folder(&self, location: &StorageLocation) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        self.of_folder(location, storage_folder::prepare).await
    }

    /// See [`storage_folder::recognize`].
    pub(super) async fn recognize_folder(&self, location: &StorageLocation) -> Result<()> {
        self.of_folder(location, storage_folder::recognize).await
    }

    async fn of_folder(
        &self,
        location: &StorageLocation,
        look: fn(&Store, &StorageLocation) -> Result<()>,
    ) -> Result<()> {
        let wanted = location.clone();
        let looked = self.call(move |client| look(&client.store, &wanted));
        tokio::time::timeout(FOLDER_LIMIT, looked).await.unwrap_or_else(|_| {
            let seconds = FOLDER_LIMIT.as_secs();
            let what = format!("the folder of storage {} did not answer within {seconds} s", escape(&location.name));
            Err(Error::new(ErrorKind::Unreachable, what).hint("see whether its disk is mounted and its server runs"))
        })
    }

    fn view(&self, row: StorageRow) -> StorageView {
        let stored_secrets = match row.has_secrets {
            true => self.store.storage(&row.name).ok().map(|location| location.config.secrets.into_keys().collect()),
            false => Some(Vec::new()),
        };
        StorageView {
            place: backends::place(&row.config),
            name: row.name,
            kind: row.config.kind,
            encryption: EncryptionView::of(&row.config.encryption),
            encrypt_to: row.config.encryption.to,
            stored_secrets,
            config: row.config.values,
            backups: row.backups,
            bytes: row.bytes,
            schedules: row.schedules,
            last_test_at: row.tested_at,
            last_test_error: row.test_error,
        }
    }

    /// Free bytes where the storage can tell; for the form.
    pub async fn storage_free_space(&self, name: &str) -> Result<Option<u64>> {
        let location = self.location(name).await?;
        storage::open(&location.config).await?.free_space().await
    }
}

/// Of what describes a new storage, but for its encryption.
fn new_config(values: &Values) -> Result<StorageConfig> {
    let default = STORAGE_FIELDS.iter().find(|f| f.key == "type").map_or("", |f| f.default);
    backends::new_config(text(values, "type").unwrap_or(default), values)
}

/// Where a server refused what was written or read, finds out whether it takes it with another setting, and proposes that.
/// `None` where that cannot be what is wrong, or no other choice works either.
async fn other_setting(location: &StorageLocation, steps: &[TestStep], failed: Option<ErrorKind>) -> Option<TestStep> {
    let last = steps.last().filter(|step| ["write", "read", "range", "parts"].contains(&step.id.as_str()))?;
    let elsewhere = [ErrorKind::Unreachable, ErrorKind::Unauthenticated, ErrorKind::NotFound, ErrorKind::StorageFull];
    if last.ok || failed.is_none_or(|kind| elsewhere.contains(&kind)) {
        return None;
    }
    let began = std::time::Instant::now();
    for Alternative { key, present, word, config } in backends::alternatives(&location.config).ok()? {
        let Ok(storage) = storage::open(&config).await else { continue };
        if storage::probe::takes_both(storage.as_ref()).await.is_ok() {
            let flag = key.replace('_', "-");
            let remedy = format!("mongokeep storage edit {} --{flag} {word}", location.name);
            return Some(TestStep {
                id: key.into(),
                ok: false,
                detail: format!("the server takes objects with {flag} {word}, and not with {present}: {remedy}"),
                seconds: began.elapsed().as_secs_f64(),
                remedy: Some(remedy),
                hint: None,
            });
        }
    }
    None
}
