//! What every engine does, and what it is given for that. The list of them is in [`crate::engine`].

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::attempt::Identity;
use super::blocks::BlockEntry;
use super::context::Context;
use super::recording::OwnRecording;
use crate::artifact::keys::Keys;
use crate::artifact::layout::{BackupRoot, FORMAT_VERSION};
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::domain::backup::{BackupType, Compression, Model};
use crate::domain::clock;
use crate::domain::cluster::Cluster;
use crate::domain::encryption::Encryption;
use crate::domain::key::Key;
use crate::domain::namespace::{Namespace, Selection};
use crate::domain::pitr::{Archive, Slice};
use crate::domain::restore::{CollectionKind, DataFolder, LeftOut, RestorePlan, RestoreRequest};
use crate::domain::service::{CheckItem, ConfigurationPlan, EngineKind, Service};
use crate::domain::storage::StorageConfig;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Makes backups of one kind, reads them back and restores them.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Whether a backup of `service` can be made: tries what a backup does. Takes ten seconds for each connection at most.
    async fn check(&self, ctx: &Context, service: &Service) -> Vec<CheckItem>;

    /// The types of backups that it makes.
    fn backup_types(&self) -> &'static [BackupType] {
        &[BackupType::Full, BackupType::Pitr]
    }

    /// Whether this engine can be told to make such a backup, of one of its types; asked before anything is queued, and
    /// contacts nothing. Callers use [`must_make`].
    ///
    /// Errors: `Unsupported` and `Invalid`, naming what cannot be.
    fn may_make(&self, _: &Wanted<'_>) -> Result<()> {
        Ok(())
    }

    /// The nodes of `service` as the engine sees them, and what they are at. `None`: it works on the server alone.
    ///
    /// Errors: what keeps it from looking.
    async fn cluster(&self, _: &Context, _service: &Service) -> Result<Option<Cluster>> {
        Ok(None)
    }

    /// What giving `service` the configuration for backups in `folder` of `location` would change. Writes nothing.
    ///
    /// Errors: `Unsupported` for an engine that needs none.
    async fn plan_configuration(
        &self,
        _: &Context,
        service: &Service,
        _location: &StorageConfig,
        _folder: &str,
    ) -> Result<ConfigurationPlan> {
        let what =
            format!("service {} has the engine {}, which needs no configuration", service.name, service.engine.word());
        Err(Error::new(ErrorKind::Unsupported, what))
    }

    /// Carries out such a plan, whoever configured it before.
    async fn configure(&self, ctx: &Context, service: &Service, location: &StorageConfig, folder: &str) -> Result<()> {
        self.plan_configuration(ctx, service, location, folder).await.map(drop)
    }

    /// How the oplog of a service is recorded by this engine; `None`: it is mongokeep that records it.
    fn recording(&self) -> Option<&dyn OwnRecording> {
        None
    }

    /// Makes one backup, which is in the storage when this returns.
    ///
    /// Errors: `Conflict` when the name is taken; `Interrupted` when another attempt may succeed; `Cancelled`;
    /// `StorageFull`; what the server or the storage reports. After any of them nothing of the attempt is left in the
    /// storage, unless the storage itself no longer answers, which the log then says. `LeftRunning` when the daemon ends and
    /// others go on with it; then everything is as it was, for [`Engine::abandoned_backup`].
    async fn backup(&self, ctx: &Context, storage: Arc<dyn Storage>, order: &BackupOrder) -> Result<Envelope>;

    /// Goes on with what the attempt of `order` had begun when its process ended, until it is a backup in the storage.
    /// `None`: there is nothing to go on with, and what the attempt left is to be removed.
    ///
    /// Errors: as [`Engine::backup`].
    async fn abandoned_backup(
        &self,
        _: &Context,
        _storage: Arc<dyn Storage>,
        _: &BackupOrder,
    ) -> Result<Option<Envelope>> {
        Ok(None)
    }

    /// Says what restoring `source` into `target` would do. Writes nothing.
    ///
    /// Errors: `Unsupported` for what the target cannot take, `NotFound` and `Invalid` for a request that makes no sense,
    /// `Corrupt` for a damaged backup.
    async fn plan_restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        request: &RestoreRequest,
    ) -> Result<RestorePlan>;

    /// Carries out a plan that was confirmed. `writes` is called once, before the first write to the target.
    ///
    /// Errors: `Conflict` when more would be replaced than was confirmed (nothing is written then); anything later says in
    /// its hint what state the target is in.
    async fn restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        confirmed: Confirmed<'_>,
        writes: &(dyn BeforeWriting + '_),
    ) -> Result<RestoreReport>;

    /// Goes on with the restore that an earlier daemon had begun, under the name `began` that [`BeforeWriting::began`] was given,
    /// until it is done. `None`: it cannot be gone on with, and [`Engine::abandoned_restore`] is asked.
    ///
    /// Errors: as [`Engine::restore`].
    async fn follow_restore(
        &self,
        _: &Context,
        _source: &RestoreSource,
        _target: RestoreTarget<'_>,
        _: &RestorePlan,
        _began: &str,
    ) -> Result<Option<RestoreReport>> {
        Ok(None)
    }

    /// Cleans up behind the attempt `attempt_id` at a restore whose process was killed, as far as that is safe. Says what
    /// was done and what state the target is in; `None`: nothing is known about it.
    ///
    /// Errors: what is left, and how it is removed.
    async fn abandoned_restore(
        &self,
        _: RestoreTarget<'_>,
        _attempt_id: &str,
        _: &RestorePlan,
    ) -> Result<Option<String>> {
        Ok(None)
    }

    /// Reads everything below `root` back. What is wrong with the backup is in the report.
    ///
    /// Errors: what keeps it from looking at all (storage unreachable, no rights, cancelled).
    async fn verify(&self, ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport>;

    /// Writes the backup below `root` to the folder `to`, new or empty, in a form that stock tools read.
    ///
    /// Errors: `Conflict` for a folder that is not empty, `StorageFull`, `NotFound` without a backup, `Corrupt` and
    /// `Unsupported` for one that cannot be resolved. After an error or a cancel nothing is left of what was written, or
    /// the hint says what is.
    async fn export(
        &self,
        ctx: &Context,
        storage: Arc<dyn Storage>,
        root: &BackupRoot,
        to: &Path,
    ) -> Result<ExportReport>;

    /// Every object of a backup but `attempt.json` and the manifest itself: what deleting it removes.
    fn objects(&self, manifest: &Manifest) -> Result<Vec<ObjectEntry>>;

    /// Removes what a backup holds elsewhere than in its objects, before they go. `service`: the one it was made of, where it
    /// is still known. `goes_with`: what may go with the base of a chain of increments, by the engine's names.
    ///
    /// Errors: what keeps it from removing, and whether all of it is still there: `Conflict` for what must not be removed.
    async fn delete_elsewhere(
        &self,
        _: &Context,
        _location: &StorageConfig,
        _storage: &dyn Storage,
        _: &Manifest,
        _service: Option<&Service>,
        _goes_with: &[String],
    ) -> Result<Elsewhere, NotDeleted> {
        Ok(Elsewhere::Nothing)
    }

    /// The blocks that a backup shares with others of its folder. They go when no backup names them.
    fn blocks(&self, _: &Manifest) -> Result<Vec<BlockEntry>> {
        Ok(Vec::new())
    }

    /// The files of which `blocks` (names as in the manifest) are a part, by block.
    fn files_of(&self, _: &Manifest, _blocks: &HashSet<String>) -> Result<BTreeMap<String, Vec<String>>> {
        Ok(BTreeMap::new())
    }

    /// What no backup can be like, as sentences; empty when all is well. Cheap: the catalogue asks before it counts with
    /// what a manifest says.
    fn implausible(&self, manifest: &Manifest) -> Result<Vec<String>>;

    /// What a backup holds, for people.
    fn contents(&self, manifest: &Manifest) -> Result<Contents>;
}

/// What a backup held elsewhere than in its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    Nothing,
    /// It is gone: from now on the backup cannot be restored.
    Gone,
}

/// A deletion that did not come to its end.
#[derive(Debug)]
pub struct NotDeleted {
    pub error: Error,
    /// Nothing of it is gone, and nothing that was asked for removes it later.
    pub is_whole: bool,
}

impl From<Error> for NotDeleted {
    /// Of a failure before anything was asked to go.
    fn from(error: Error) -> Self {
        Self { error, is_whole: true }
    }
}

/// What is asked of an engine, for one backup or for a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub backup_type: BackupType,
    pub selection: &'a Selection,
    pub location: &'a StorageConfig,
    pub folder: &'a str,
}

/// Whether `engine` can be told to make such a backup.
///
/// Errors: `Unsupported` and `Invalid`, naming what cannot be.
pub fn must_make(engine: &dyn Engine, wanted: &Wanted<'_>) -> Result<()> {
    if !engine.backup_types().contains(&wanted.backup_type) {
        let what = format!("this engine and model make no {} backups", wanted.backup_type.word());
        let hint = if wanted.backup_type.is_incremental() {
            "Percona Backup for MongoDB makes increments: a service with the engine pbm, the model physical"
        } else {
            "--type full"
        };
        return Err(Error::of_field(ErrorKind::Unsupported, "type", what).hint(hint));
    }
    engine.may_make(wanted)
}

/// A backup that is to be made.
#[derive(Debug, Clone)]
pub struct BackupOrder {
    pub service: Service,
    /// The storage, for programs that open it themselves.
    pub location: StorageConfig,
    pub name: String,
    /// Names this attempt; the same in `attempt.json` and the manifest.
    pub attempt_id: String,
    pub home_id: String,
    pub folder: String,
    pub selection: Selection,
    pub compression: Compression,
    /// Whom its objects are encrypted to.
    pub encryption: Option<Encryption>,
    pub schedule: Option<String>,
    pub backup_type: BackupType,
}

impl BackupOrder {
    /// What a backup says of itself that follows from its order. The rest is empty.
    pub fn envelope(&self, engine: EngineKind, model: Model, started_at: DateTime<Utc>) -> Envelope {
        Envelope {
            format_version: FORMAT_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.name.clone(),
            attempt_id: self.attempt_id.clone(),
            service: self.service.name.clone(),
            cluster: self.service.cluster.clone(),
            folder: self.folder.clone(),
            schedule: self.schedule.clone(),
            engine,
            model,
            backup_type: self.backup_type,
            server_version: String::new(),
            fcv: String::new(),
            replica_set: String::new(),
            replica_set_id: String::new(),
            member: String::new(),
            started_at,
            finished_at: clock::now(),
            consistent_at_ts: Timestamp::MIN,
            selection: self.selection.clone(),
            compression: self.compression,
            encryption: self.encryption.clone(),
            left_out: Vec::new(),
            documents: 0,
            uncompressed_bytes: 0,
            size_bytes: 0,
            new_bytes: None,
            locked_millis: None,
            pbm_name: None,
            chain: None,
            checksum: String::new(),
        }
    }

    /// Who attempts it.
    pub fn identity(&self, shares_blocks: bool) -> Identity<'_> {
        Identity {
            attempt_id: &self.attempt_id,
            name: &self.name,
            service: &self.service.name,
            home_id: &self.home_id,
            shares_blocks,
        }
    }
}

/// What is restored: a backup, and the recorded oplog that leads from it to a later moment.
pub struct RestoreSource {
    pub storage: Arc<dyn Storage>,
    /// The storage, for programs that open it themselves.
    pub location: StorageConfig,
    pub manifest: Manifest,
    pub tail: Option<OplogTail>,
    /// What opens the backup. None before the engine has looked for them.
    pub keys: Keys,
}

impl RestoreSource {
    /// The position that is restored: every change up to and including it.
    pub fn until(&self) -> Timestamp {
        self.tail.as_ref().map_or(self.manifest.envelope.consistent_at_ts, |tail| tail.until)
    }
}

/// Slices that lead from the moment of a backup to a later one.
pub struct OplogTail {
    pub storage: Arc<dyn Storage>,
    pub archive: Archive,
    /// In the order in which they are read (see `domain::pitr::path`).
    pub slices: Vec<Slice>,
    /// Every change up to and including this position.
    pub until: Timestamp,
    /// What opens the slices. None before the engine has looked for them.
    pub keys: Keys,
}

/// Where a restore writes.
#[derive(Clone, Copy)]
pub enum RestoreTarget<'a> {
    Service(&'a Service),
    /// A folder of this host.
    DataFolder(&'a DataFolder),
}

impl<'a> RestoreTarget<'a> {
    /// `service`: what `request` names, unless it names a folder.
    pub fn of(service: Option<&'a Service>, request: &'a RestoreRequest) -> Result<Self> {
        match (&request.data_folder, service) {
            (Some(folder), _) => Ok(Self::DataFolder(folder)),
            (None, Some(service)) => Ok(Self::Service(service)),
            (None, None) => Err(Error::new(ErrorKind::Internal, "a restore without a target")),
        }
    }

    /// Errors: `Unsupported` for a folder, for engines that write into servers that run.
    pub fn service(self) -> Result<&'a Service> {
        match self {
            Self::Service(service) => Ok(service),
            Self::DataFolder(_) => {
                Err(Error::new(ErrorKind::Unsupported, "a logical backup holds documents and becomes no data folder")
                    .hint("restore it into a service that runs, an empty one if need be: --to SERVICE"))
            }
        }
    }
}

/// A restore that a person has confirmed.
#[derive(Clone, Copy)]
pub struct Confirmed<'a> {
    /// Names the attempt at it.
    pub attempt_id: &'a str,
    pub request: &'a RestoreRequest,
    pub plan: &'a RestorePlan,
}

/// Is told that from now on a target may hold a part of what is written to it.
#[async_trait]
pub trait BeforeWriting: Send + Sync {
    /// Errors: it could not be noted, so that nothing may be written.
    async fn before_writing(&self) -> Result<()>;

    /// Is told what an engine calls what others do for it from now on: the next daemon can follow it.
    ///
    /// Errors: it could not be noted.
    async fn began(&self, name: &str) -> Result<()>;
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    pub namespaces: u64,
    /// Documents loaded from parts.
    pub documents: u64,
    /// Operations of the oplog applied after that.
    pub operations: u64,
    pub left_out: Vec<LeftOut>,
}

/// What `verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// What makes the backup, or a part of it, unusable.
    pub problems: Vec<Problem>,
    /// What is odd and does not touch the backup, such as an object that the manifest does not name.
    pub notes: Vec<Problem>,
    /// Objects looked at, the manifest included.
    pub objects: u64,
    /// Their bytes as stored.
    pub bytes: u64,
    /// Documents read, entries of the oplog included.
    pub documents: u64,
}

impl VerifyReport {
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// The key of the object, relative to the storage.
    pub object: String,
    pub what: String,
}

impl Problem {
    pub fn new(object: &Key, what: impl std::fmt::Display) -> Self {
        Self { object: escape(object.as_str()), what: escape(&what.to_string()) }
    }
}

/// A failure that says something about a backup is given back; one that says nothing ends the check.
pub fn about_the_backup(error: Error) -> Result<Error> {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::NotFound | ErrorKind::Invalid => Ok(error),
        _ => Err(error),
    }
}

/// What was exported, and how it is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReport {
    /// The folder.
    pub to: String,
    /// Collections and time series.
    pub collections: u64,
    pub views: u64,
    /// Documents as they were read; `oplog.bson` adds and removes some.
    pub documents: u64,
    pub oplog_entries: u64,
    /// Bytes written.
    pub bytes: u64,
    pub left_out: Vec<LeftOut>,
    /// What to know before restoring it: what newer servers do not take.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Restores it. Validators are bypassed, because documents older than a validator need not pass it.
    pub command: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    pub envelope: Envelope,
    /// In the order of their names.
    pub namespaces: Vec<HeldNamespace>,
    /// What of the definitions other tools do not find in the metadata files.
    pub not_in_json: Vec<LeftOut>,
    /// Entries in the stored oplog.
    pub oplog_entries: u64,
    /// Transactions that a plain restore discards.
    pub open_transactions: u64,
    /// What it holds instead of documents.
    pub files: Option<HeldFiles>,
}

/// The files of a backup, and the blocks they are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldFiles {
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    pub blocks: u64,
    /// Of them: sent for this backup.
    pub new_blocks: u64,
    pub new_bytes: u64,
    /// How the server was kept from writing meanwhile, in words.
    pub copied: String,
    pub locked_millis: Option<u64>,
    /// The data folder that was copied.
    pub data_folder: String,
}

/// A collection, view or time series, under the name it had when it was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldNamespace {
    pub namespace: Namespace,
    pub kind: CollectionKind,
    /// `None`: whoever made the backup did not count them.
    pub documents: Option<u64>,
    /// Bytes of BSON. `None`: whoever made the backup did not count them.
    pub bytes: Option<u64>,
}
