//! The one validated API that the TUI and the command line call.
//!
//! Reads come from the store; everything that takes long is queued there as a job for the daemon. Methods that talk
//! to a server or storage themselves are async and bounded in time; the others only touch the local store and are
//! fast enough for any thread.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::config::{Home, STATE_STORAGE, Settings};
use crate::control::engine_notes::surroundings;
use crate::control::{lock, start};
use crate::domain::backup::{BackupType, Model, Owner};
use crate::domain::encryption::Recipient;
use crate::domain::job::{Job, JobRequest, LogLine};
use crate::domain::job_kind::OnBackup;
use crate::domain::service::EngineKind;
use crate::engine::Surroundings;
use crate::error::{Error, ErrorKind, Result, io};
use crate::store::{Access, AsyncStore, SchemaState, Store, blocking};

mod backups;
mod contents;
mod deployment;
mod namespaces;
mod notifications;
mod pitr;
mod restores;
mod retention;
mod schedules;
mod services;
mod state_copy;
mod storage_check;
mod storage_contents;
mod storage_encryption;
mod storages;
mod sync;
mod sync_encryption;
mod sync_foreign;
mod sync_plan;
mod sync_slices;
mod timeline;

pub use crate::domain::typed::Values;
pub use crate::engine::contract::{Contents, HeldFiles, HeldNamespace};
pub use crate::mongo::watch::{Heard, Watch};
pub use crate::storage::backends::{STORAGE_FIELDS, fields_of as storage_fields, types as storage_types};
pub use notifications::DeliveryResult;
pub use pitr::ResolvedMoment;
pub use restores::restore_request;
pub use state_copy::{MissingSecret, StateReport};
pub use storage_contents::Holdings;
pub use storage_encryption::{EncryptionView, identity_warning, words_with};
pub use sync::{SyncGrade, SyncGroup, SyncPlan, SyncReport, SyncedSlices};

/// The types of backups that an engine makes of a model; none where there is no such engine.
pub fn backup_types(kind: EngineKind, model: Model) -> &'static [BackupType] {
    crate::engine::engine(kind, model).map_or(&[], |engine| engine.backup_types())
}

/// A service without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceView {
    pub name: String,
    /// With the password as `***`.
    pub uri: String,
    pub cluster: Option<String>,
    pub engine: EngineKind,
    pub created_at: DateTime<Utc>,
    /// The newest backup that succeeded.
    pub last_good_backup_at: Option<DateTime<Utc>>,
    pub backups: u64,
    /// `HH:MM-HH:MM` in which a full backup is unwelcome; `None`: those of the setting `production_hours`.
    pub production_hours: Option<String>,
    /// The texts of its fields, for an edit.
    #[serde(skip)]
    pub fields: Values,
}

/// A storage without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorageView {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `s3://bucket/prefix` or a path.
    pub place: String,
    /// The non-secret configuration by field key (`bucket`, `region`, `path_style`, ...).
    pub config: BTreeMap<String, String>,
    /// `None`: nothing is encrypted.
    pub encryption: Option<EncryptionView>,
    /// The recipients that were named, without that of a passphrase.
    #[serde(skip)]
    pub encrypt_to: Vec<Recipient>,
    /// The keys of the secrets that are stored with it; `None`: they cannot be read now.
    #[serde(skip)]
    pub stored_secrets: Option<Vec<String>>,
    pub backups: u64,
    pub bytes: u64,
    /// How many schedules write to it.
    pub schedules: u64,
    pub last_test_at: Option<DateTime<Utc>>,
    /// None: the last test passed, or there was none.
    pub last_test_error: Option<String>,
}

/// What `backup delete` will remove.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeletePlan {
    pub backup: String,
    pub storage: String,
    pub keep_files: bool,
    /// Bytes that become free.
    pub bytes: u64,
    /// Whose the files in the storage are, when another installation made them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Owner>,
    pub removes: Removes,
    /// Of the base of a chain: the increments that go with it, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub increments: Vec<String>,
    /// Of an increment: the base of its chain, with which alone it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    pub warnings: Vec<String>,
}

/// What a delete does, as far as it is known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Removes {
    RecordAndFiles,
    /// The files stay: a person wants that, or they are not of this record.
    Record,
    /// Nothing, unless a person says that the files of another installation go too.
    NothingYet,
    /// Nothing: another installation may still be writing it.
    Nothing,
    /// Nothing by itself: a chain of increments goes as a whole, with its base.
    NothingAlone,
}

/// `daemon status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DaemonStatus {
    pub running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs_running: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services_sliced: Option<u64>,
    /// Since when it has given no sign of life, when that is longer than it should be: it hangs, or was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<DateTime<Utc>>,
}

/// Cheap to clone; all clones share one store connection.
#[derive(Clone)]
pub struct Client {
    home: Home,
    store: Store,
    /// What is run as the daemon.
    program: Option<PathBuf>,
}

impl Client {
    /// Opens the store of `home`, creating it on first use unless `read_only`. Never starts a daemon.
    ///
    /// A store of an older version is migrated here when no daemon runs; one that runs is named and asked to finish.
    pub fn open(home: &Home, read_only: bool) -> Result<Self> {
        let (file, key) = (home.store_file(), home.key_file());
        let store = if read_only {
            Store::open(&file, &key, Access::Read)?
        } else {
            home.create()?;
            if Store::schema_state(&file)? == SchemaState::Older {
                // Dropped at the end of this block: the next daemon may have it.
                let _lock = lock::DaemonLock::acquire(home).map_err(|e| {
                    e.context("the store has the schema of an older version, whose daemon still runs")
                        .hint("let it finish its jobs, then end it with mongokeep daemon stop")
                })?;
                Store::open(&file, &key, Access::Migrate)?
            } else {
                Store::open(&file, &key, Access::Write)?
            }
        };
        Ok(Self { home: home.clone(), store, program: None })
    }

    /// Runs `program` as the daemon, instead of this program itself.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    pub fn is_read_only(&self) -> bool {
        self.store.is_read_only()
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    /// What stands around the engines that this client asks.
    async fn surroundings(&self, identity_file: Option<&str>) -> Result<Surroundings> {
        let settings = self.call(|client| Settings::load(&client.home)).await?;
        Ok(surroundings(&AsyncStore::new(self.store.clone()), &settings, identity_file))
    }

    /// A number that changes when anybody changed the store: a cheap poll for the screen.
    pub fn data_version(&self) -> Result<u64> {
        self.store.data_version()
    }

    /// Newest first.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        self.store.jobs()
    }

    pub fn job(&self, id: i64) -> Result<Job> {
        self.store.job(id)
    }

    /// What a job was queued to do: whoever repeats it can ask anew for what has to be confirmed.
    pub fn job_request(&self, id: i64) -> Result<JobRequest> {
        self.store.job_request(id)
    }

    /// Lines with `seq > after`, at most `limit`.
    pub fn job_log(&self, id: i64, after: i64, limit: usize) -> Result<Vec<LogLine>> {
        self.store.job_log(id, after, limit)
    }

    /// Ends a job that waits at once; one that runs is ended by the daemon within seconds.
    pub fn cancel_job(&self, id: i64) -> Result<Job> {
        self.must_write()?;
        self.store.cancel_job(id)
    }

    /// Queues a failed or cancelled job again (or ends the wait of one that waits), and starts the daemon.
    pub fn retry_job(&self, id: i64) -> Result<Job> {
        self.must_write()?;
        if self.store.job(id)?.kind.entry().on_backup == OnBackup::Makes {
            self.must_be_enabled()?;
        }
        self.queue(|| self.store.retry_job(id))
    }

    /// Whether a daemon holds the lock of this home. Costs no look at the store.
    pub fn daemon_runs(&self) -> Result<bool> {
        Ok(lock::holder(&self.home)?.is_some())
    }

    pub fn daemon_status(&self) -> Result<DaemonStatus> {
        let Some(holder) = lock::holder(&self.home)? else { return Ok(DaemonStatus::default()) };
        self.status_of(&holder)
    }

    /// Starts the daemon in the background when none runs; returns when it answers.
    pub fn ensure_daemon(&self) -> Result<DaemonStatus> {
        self.must_write()?;
        let program = match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(|e| io("finding this program", e))?,
        };
        self.status_of(&start::ensure(&self.home, &program)?)
    }

    /// Returns when it is gone.
    pub fn stop_daemon(&self) -> Result<()> {
        self.must_write()?;
        start::stop(&self.home).map(drop)
    }

    /// Value of a dotted key as text, or its default.
    pub fn setting(&self, key: &str) -> Result<String> {
        Settings::load(&self.home)?.get(key)
    }

    /// All settings with their present values.
    pub fn settings(&self) -> Result<Vec<(String, String)>> {
        Ok(Settings::load(&self.home)?.all())
    }

    /// What is odd about the settings file, as sentences.
    pub fn settings_warnings(&self) -> Result<Vec<String>> {
        Ok(Settings::load(&self.home)?.warnings)
    }

    pub fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        self.must_write()?;
        if key == STATE_STORAGE {
            self.check_state_storage(value)?;
        }
        Settings::set(&self.home, key, value)?;
        self.copy_soon()
    }

    /// Runs a method that is not async, from code that is: the store may be held by another process for seconds, a daemon
    /// takes its time to start, and a disk that is away may never answer.
    pub async fn call<T: Send + 'static>(&self, call: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let client = self.clone();
        blocking(move || call(&client)).await
    }

    fn status_of(&self, holder: &lock::Holder) -> Result<DaemonStatus> {
        Ok(DaemonStatus {
            running: true,
            pid: Some(holder.pid),
            version: Some(holder.version.clone()),
            started_at: Some(holder.started_at),
            jobs_running: Some(self.store.jobs_running()?),
            services_sliced: Some(self.store.slicers_running()?),
            silent_since: lock::silent_since(&self.home, holder),
        })
    }

    /// Queues something once a daemon is there, and makes sure that it still is afterwards: one that was just ending
    /// for lack of work does not see what was queued.
    fn queue(&self, enqueue: impl FnOnce() -> Result<Job>) -> Result<Job> {
        self.with_daemon(enqueue, |job| format!("job {} is queued", job.id))
    }

    /// The same for any change that needs a daemon afterwards; `done` says in words that it was made.
    fn with_daemon<T>(&self, change: impl FnOnce() -> Result<T>, done: impl FnOnce(&T) -> String) -> Result<T> {
        self.ensure_daemon()?;
        let made = change()?;
        self.ensure_daemon().map_err(|e| e.context(format!("{}, but", done(&made))))?;
        Ok(made)
    }

    fn must_write(&self) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::new(ErrorKind::Denied, "nothing can be changed: --read-only")
                .hint("run it again without --read-only"));
        }
        Ok(())
    }

    fn must_be_enabled(&self) -> Result<()> {
        if Settings::load(&self.home)?.backup_enabled() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "backup management is off (backup.enabled = false)")
            .hint("mongokeep settings set backup.enabled true"))
    }
}

/// The one text of a field, when it is there and not empty.
fn text<'a>(values: &'a Values, key: &str) -> Option<&'a str> {
    values.get(key).and_then(|texts| texts.first()).map(String::as_str).filter(|text| !text.is_empty())
}
