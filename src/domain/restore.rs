//! The request to restore, and the plan that is shown before anything is written.

use serde::{Deserialize, Serialize};

use super::backup::BackupRequest;
use super::namespace::{Namespace, Pattern, Rename};
use super::pitr::{PlannedReplay, PointInTime};
use super::timestamp::Timestamp;

/// What `restore` asks for. Kept with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// Empty in a request to go back to a moment: the plan names its base.
    pub backup: String,
    /// The moment to go back to; `None`: that of the backup itself.
    #[serde(default)]
    pub point_in_time: Option<PointInTime>,
    /// The service to write to.
    pub to: String,
    #[serde(default)]
    pub include: Vec<Pattern>,
    #[serde(default)]
    pub rename: Vec<Rename>,
    /// Also drop collections of the restored databases that the backup lacks.
    #[serde(default)]
    pub exact: bool,
    /// Leave TTL indexes out, so that the target does not delete what was just recovered.
    #[serde(default)]
    pub no_ttl: bool,
    #[serde(default)]
    pub users_and_roles: bool,
    /// Back the target up first.
    #[serde(default)]
    pub safety_backup: bool,
}

/// What a restore will do, computed against the target as it is. Nothing is written before it was confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    pub backup: String,
    pub from_service: String,
    pub to_service: String,
    /// How the moment asked for is reached from the backup; `None`: the backup's own moment.
    #[serde(default)]
    pub point_in_time: Option<PlannedReplay>,
    pub consistent_at_ts: Option<Timestamp>,
    pub target_version: String,
    pub target_fcv: String,
    pub namespaces: Vec<PlannedNamespace>,
    /// Collections of restored databases that are dropped because of `--exact`.
    pub dropped: Vec<Namespace>,
    /// Collections of restored databases that stay as they are.
    pub untouched: Vec<Namespace>,
    /// What the backup holds and this restore leaves out, with the reason.
    pub left_out: Vec<LeftOut>,
    /// Users and roles are restored: of these databases; empty with `users_and_roles` means all.
    pub users_and_roles: bool,
    pub users_of: Vec<String>,
    /// The backup of the target that is made first. Nothing is restored when it fails.
    #[serde(default)]
    pub safety_backup: Option<Box<BackupRequest>>,
    /// What to know before confirming (another server version, TTL indexes, a target that differs).
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNamespace {
    pub from: Namespace,
    pub to: Namespace,
    pub kind: CollectionKind,
    pub action: PlannedAction,
    /// Documents in the backup; of a restore to a moment, in its base. 0 for a view; `None`: it was made later, and its
    /// documents come from the oplog.
    pub documents: Option<u64>,
    /// Documents in the target now, when it exists.
    pub replaces_documents: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedAction {
    Create,
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectionKind {
    Collection,
    Timeseries,
    View,
}

/// Something that is not in a backup, or not restored, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub what: String,
    pub why: String,
}

impl RestoreRequest {
    /// The backup that is restored by `plan`, the plan of this request.
    pub fn backup_of<'a>(&'a self, plan: &'a RestorePlan) -> &'a str {
        if self.point_in_time.is_some() { &plan.backup } else { &self.backup }
    }
}

impl RestorePlan {
    /// What is restored, as `mongokeep restore` takes it.
    pub fn origin(&self) -> String {
        match &self.point_in_time {
            Some(replay) => format!("--service {} --time {} --base {}", replay.service, replay.until, self.backup),
            None => self.backup.clone(),
        }
    }

    /// Whether something that exists is replaced or dropped, so that it must be confirmed by typing.
    pub fn overwrites(&self) -> bool {
        !self.dropped.is_empty()
            || self.users_and_roles
            || self.namespaces.iter().any(|n| n.action == PlannedAction::Replace)
    }
}
