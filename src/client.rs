//! The one validated API that the TUI and the command line call.
//!
//! Reads come from the store; everything that takes long is queued there as a job for the daemon. Methods that talk
//! to a server or storage themselves are async and bounded in time; the others only touch the local store and are
//! fast enough for any thread.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::artifact::manifest::Manifest;
use crate::config::Home;
use crate::domain::backup::Backup;
use crate::domain::job::{Job, LogLine};
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::service::{CheckReport, EngineKind, ServiceInfo};
use crate::domain::storage::TestStep;
use crate::error::{Error, ErrorKind, Result};

/// Texts of fields by key, as a form or the command line collected them; lists have several texts.
pub type Values = BTreeMap<String, Vec<String>>;

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
    pub backups: u64,
    pub bytes: u64,
    pub last_test_at: Option<DateTime<Utc>>,
    /// None: the last test passed, or there was none.
    pub last_test_error: Option<String>,
}

/// What `storage sync` found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SyncReport {
    pub storage: String,
    /// Backups now in the catalogue that were not.
    pub added: Vec<String>,
    /// In the catalogue, but no longer in the storage.
    pub missing: Vec<String>,
    /// Folders without a manifest (a job elsewhere, or one that died), and manifests that cannot be read, with why.
    pub incomplete: Vec<String>,
    pub unreadable: Vec<String>,
    pub unchanged: u64,
}

/// What `backup delete` will remove.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeletePlan {
    pub backup: String,
    pub storage: String,
    pub keep_files: bool,
    /// Bytes that become free.
    pub bytes: u64,
    pub warnings: Vec<String>,
}

/// `daemon status`.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
}

/// Cheap to clone; all clones share one store connection.
#[derive(Clone)]
pub struct Client {}

fn unbuilt<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Internal, "unbuilt"))
}

impl Client {
    /// Opens the store of `home`, creating it on first use unless `read_only`. Never starts a daemon.
    pub fn open(_home: &Home, _read_only: bool) -> Result<Self> {
        unbuilt()
    }

    pub fn is_read_only(&self) -> bool {
        true
    }

    /// A number that changes when anybody changed the store: a cheap poll for the screen.
    pub fn data_version(&self) -> Result<u64> {
        unbuilt()
    }

    pub fn services(&self) -> Result<Vec<ServiceView>> {
        unbuilt()
    }
    pub fn add_service(&self, _values: &Values) -> Result<ServiceView> {
        unbuilt()
    }
    /// Fields that are absent stay as they are.
    pub fn edit_service(&self, _name: &str, _values: &Values) -> Result<ServiceView> {
        unbuilt()
    }
    pub fn remove_service(&self, _name: &str) -> Result<()> {
        unbuilt()
    }
    /// Runs the prerequisites; 10 s at most for each connection.
    pub async fn check_service(&self, _name: &str) -> Result<CheckReport> {
        unbuilt()
    }
    pub async fn service_info(&self, _name: &str) -> Result<ServiceInfo> {
        unbuilt()
    }

    pub fn storages(&self) -> Result<Vec<StorageView>> {
        unbuilt()
    }
    pub fn add_storage(&self, _values: &Values) -> Result<StorageView> {
        unbuilt()
    }
    pub fn edit_storage(&self, _name: &str, _values: &Values) -> Result<StorageView> {
        unbuilt()
    }
    /// `Conflict` while in use, saying by what.
    pub fn remove_storage(&self, _name: &str) -> Result<()> {
        unbuilt()
    }
    /// Writes, reads, lists and deletes a probe; `on_step` is called as each step ends.
    pub async fn test_storage(
        &self,
        _name: &str,
        _on_step: &(dyn Fn(&TestStep) + Send + Sync),
    ) -> Result<Vec<TestStep>> {
        unbuilt()
    }
    pub async fn sync_storage(&self, _name: &str) -> Result<SyncReport> {
        unbuilt()
    }
    /// Free bytes where the storage can tell; for the form.
    pub async fn storage_free_space(&self, _name: &str) -> Result<Option<u64>> {
        unbuilt()
    }

    /// Newest first.
    pub fn backups(&self) -> Result<Vec<Backup>> {
        unbuilt()
    }
    pub fn backup(&self, _name: &str) -> Result<Backup> {
        unbuilt()
    }
    /// A name that is free now, for the form: `SERVICE-20261121-1402`.
    pub fn suggest_backup_name(&self, _service: &str) -> Result<String> {
        unbuilt()
    }
    /// Reads the manifest from the storage.
    pub async fn manifest(&self, _backup: &str) -> Result<Manifest> {
        unbuilt()
    }
    /// Validates and queues a backup, and starts the daemon. Contacts neither server nor storage.
    pub fn create_backup(&self, _values: &Values) -> Result<Job> {
        unbuilt()
    }
    pub fn pin_backup(&self, _name: &str, _pinned: bool) -> Result<Backup> {
        unbuilt()
    }
    pub fn verify_backup(&self, _name: &str) -> Result<Job> {
        unbuilt()
    }
    pub fn plan_delete(&self, _name: &str, _keep_files: bool) -> Result<DeletePlan> {
        unbuilt()
    }
    pub fn delete_backup(&self, _name: &str, _keep_files: bool) -> Result<Job> {
        unbuilt()
    }
    /// Writes the stock layout of `mongodump` below `to`, which must be empty or absent.
    pub async fn export_backup(
        &self,
        _name: &str,
        _to: &Path,
        _meter: std::sync::Arc<crate::engine::Meter>,
    ) -> Result<()> {
        unbuilt()
    }

    /// Looks at backup and target and says what a restore would do; writes nothing.
    pub async fn plan_restore(&self, _request: &RestoreRequest) -> Result<RestorePlan> {
        unbuilt()
    }
    /// Queues the restore of a plan that was shown and confirmed, and starts the daemon.
    pub fn restore(&self, _request: &RestoreRequest, _plan: &RestorePlan) -> Result<Job> {
        unbuilt()
    }

    /// Newest first.
    pub fn jobs(&self) -> Result<Vec<Job>> {
        unbuilt()
    }
    pub fn job(&self, _id: i64) -> Result<Job> {
        unbuilt()
    }
    /// Lines with `seq > after`, at most `limit`.
    pub fn job_log(&self, _id: i64, _after: i64, _limit: usize) -> Result<Vec<LogLine>> {
        unbuilt()
    }
    pub fn cancel_job(&self, _id: i64) -> Result<Job> {
        unbuilt()
    }
    /// Queues a failed or cancelled job again (or ends the wait of one that waits).
    pub fn retry_job(&self, _id: i64) -> Result<Job> {
        unbuilt()
    }

    pub fn daemon_status(&self) -> Result<DaemonStatus> {
        unbuilt()
    }
    /// Starts the daemon in the background when none runs; returns when it answers.
    pub fn ensure_daemon(&self) -> Result<DaemonStatus> {
        unbuilt()
    }
    /// Returns when it is gone.
    pub fn stop_daemon(&self) -> Result<()> {
        unbuilt()
    }

    /// Value of a dotted key as text, or its default.
    pub fn setting(&self, _key: &str) -> Result<String> {
        unbuilt()
    }
    pub fn settings(&self) -> Result<Vec<(String, String)>> {
        unbuilt()
    }
    pub fn set_setting(&self, _key: &str, _value: &str) -> Result<()> {
        unbuilt()
    }
}
