//! What every engine does, and what it is given for that. The list of them is in [`crate::engine`].

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::domain::backup::{BackupType, Compression};
use crate::domain::key::Key;
use crate::domain::namespace::{Namespace, Selection};
use crate::domain::pitr::{Archive, Slice};
use crate::domain::restore::{CollectionKind, LeftOut, RestorePlan, RestoreRequest};
use crate::domain::service::{CheckItem, Service};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::storage::Storage;

/// Makes backups of one kind, reads them back and restores them.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Whether a backup of `service` can be made: tries what a backup does. Takes ten seconds for each connection at most.
    async fn check(&self, service: &Service, cancel: &CancellationToken) -> Vec<CheckItem>;

    /// Makes one backup, which is in the storage when this returns.
    ///
    /// Errors: `Conflict` when the name is taken; `Interrupted` when another attempt may succeed; `Cancelled`;
    /// `StorageFull`; what the server or the storage reports. After any of them nothing of the attempt is left in the
    /// storage, unless the storage itself no longer answers, which the log then says.
    async fn backup(&self, ctx: &Context, storage: Arc<dyn Storage>, order: &BackupOrder) -> Result<Envelope>;

    /// Says what restoring `source` into `target` would do. Writes nothing.
    ///
    /// Errors: `Unsupported` for what the target cannot take, `NotFound` and `Invalid` for a request that makes no sense,
    /// `Corrupt` for a damaged backup.
    async fn plan_restore(
        &self,
        cancel: &CancellationToken,
        source: RestoreSource,
        target: &Service,
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
        target: &Service,
        confirmed: Confirmed<'_>,
        writes: &(dyn BeforeWriting + '_),
    ) -> Result<RestoreReport>;

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

    /// What no backup can be like, as sentences; empty when all is well. Cheap: the catalogue asks before it counts with
    /// what a manifest says.
    fn implausible(&self, manifest: &Manifest) -> Result<Vec<String>>;

    /// What a backup holds, for people.
    fn contents(&self, manifest: &Manifest) -> Result<Contents>;
}

/// A backup that is to be made.
#[derive(Debug, Clone)]
pub struct BackupOrder {
    pub service: Service,
    pub name: String,
    /// Names this attempt; the same in `attempt.json` and the manifest.
    pub attempt_id: String,
    pub home_id: String,
    pub folder: String,
    pub selection: Selection,
    pub compression: Compression,
    pub schedule: Option<String>,
    pub backup_type: BackupType,
}

/// What is restored: a backup, and the recorded oplog that leads from it to a later moment.
pub struct RestoreSource {
    pub storage: Arc<dyn Storage>,
    pub manifest: Manifest,
    pub tail: Option<OplogTail>,
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
}

/// A restore that a person has confirmed.
#[derive(Clone, Copy)]
pub struct Confirmed<'a> {
    pub request: &'a RestoreRequest,
    pub plan: &'a RestorePlan,
}

/// Is told that from now on a target may hold a part of what is written to it.
#[async_trait]
pub trait BeforeWriting: Send + Sync {
    /// Errors: it could not be noted, so that nothing may be written.
    async fn before_writing(&self) -> Result<()>;
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
}

/// A collection, view or time series, under the name it had when it was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldNamespace {
    pub namespace: Namespace,
    pub kind: CollectionKind,
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
}
