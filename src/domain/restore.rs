//! The request to restore, and the plan that is shown before anything is written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::backup::{Backup, BackupRequest};
use super::command_line::quoted;
use super::namespace::{Namespace, Pattern, Rename};
use super::pitr::{PlannedReplay, PointInTime, When};
use super::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// What `restore` asks for. Kept with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// Empty in a request to go back to a moment: the plan names its base.
    pub backup: String,
    /// The moment to go back to; `None`: that of the backup itself.
    #[serde(default)]
    pub point_in_time: Option<PointInTime>,
    /// The service to write to. Empty for a restore into a data folder.
    pub to: String,
    /// The folder that becomes a server's data folder, instead of a service.
    #[serde(default)]
    pub data_folder: Option<DataFolder>,
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
    /// Files: the server's program that recovers them; `None`: the one that is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mongod: Option<String>,
    /// Files: do not look at every collection before it counts as done.
    #[serde(default)]
    pub no_check: bool,
    /// Replica sets that have other names in the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replset_map: Vec<ReplicaSetMap>,
    /// Where the identity is that opens what is encrypted; `None`: where the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<String>,
}

/// `FROM=TO`: the replica set `from` of a backup is restored into the replica set `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaSetMap {
    pub from: String,
    pub to: String,
}

impl FromStr for ReplicaSetMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() && !to.contains('=') && !text.contains(',') => {
                Ok(Self { from: from.to_owned(), to: to.to_owned() })
            }
            _ => Err("is written FROM=TO, two names of replica sets".into()),
        }
    }
}

impl fmt::Display for ReplicaSetMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.from, self.to)
    }
}

/// A folder of the daemon's host that becomes the data folder of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFolder {
    /// An absolute path; empty or missing.
    pub dir: String,
    /// `None`: the name that the set had.
    #[serde(default)]
    pub replica_set: Option<String>,
    /// `host:port` each. None: `localhost:27017`.
    #[serde(default)]
    pub members: Vec<String>,
}

impl DataFolder {
    /// What stands for it on a command line, such as `--to-data-dir DIR --member HOST:PORT`.
    pub fn flags(&self) -> String {
        let mut words = vec![format!("--to-data-dir {}", quoted(&self.dir))];
        words.extend(self.replica_set.iter().map(|name| format!("--replica-set {}", quoted(name))));
        words.extend(self.members.iter().map(|member| format!("--member {}", quoted(member))));
        words.join(" ")
    }
}

/// What a person asks for with `restore`: a backup, or a service and a moment of its past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreDraft {
    pub backup: String,
    pub to: String,
    pub include: Vec<Pattern>,
    pub rename: Vec<Rename>,
    pub exact: bool,
    pub no_ttl: bool,
    pub users_and_roles: bool,
    pub safety_backup: bool,
    /// The service whose past is restored.
    pub service: String,
    pub time: Option<When>,
    pub base: Option<String>,
    /// See [`DataFolder`].
    pub to_data_dir: Option<String>,
    pub replica_set: Option<String>,
    pub members: Vec<String>,
    pub mongod: Option<String>,
    pub no_check: bool,
    pub replset_map: Vec<ReplicaSetMap>,
    pub identity_file: Option<String>,
}

impl RestoreDraft {
    pub fn request(self) -> RestoreRequest {
        let Self { service, mut base, mut backup, replica_set, members, .. } = self;
        // A backup named besides a moment is its base.
        if self.time.is_some() && !backup.is_empty() {
            base = Some(std::mem::take(&mut backup));
        }
        RestoreRequest {
            point_in_time: self.time.map(|when| PointInTime { service, when, base }),
            backup,
            to: self.to,
            data_folder: self.to_data_dir.map(|dir| DataFolder { dir, replica_set, members }),
            include: self.include,
            rename: self.rename,
            exact: self.exact,
            no_ttl: self.no_ttl,
            users_and_roles: self.users_and_roles,
            safety_backup: self.safety_backup,
            mongod: self.mongod,
            no_check: self.no_check,
            replset_map: self.replset_map,
            identity_file: self.identity_file,
        }
    }
}

impl From<&RestoreRequest> for RestoreDraft {
    fn from(request: &RestoreRequest) -> Self {
        let moment = request.point_in_time.as_ref();
        Self {
            backup: request.backup.clone(),
            to: request.to.clone(),
            include: request.include.clone(),
            rename: request.rename.clone(),
            exact: request.exact,
            no_ttl: request.no_ttl,
            users_and_roles: request.users_and_roles,
            safety_backup: request.safety_backup,
            service: moment.map(|m| m.service.clone()).unwrap_or_default(),
            time: moment.map(|m| m.when),
            base: moment.and_then(|m| m.base.clone()),
            to_data_dir: request.data_folder.as_ref().map(|folder| folder.dir.clone()),
            replica_set: request.data_folder.as_ref().and_then(|folder| folder.replica_set.clone()),
            members: request.data_folder.as_ref().map(|folder| folder.members.clone()).unwrap_or_default(),
            mongod: request.mongod.clone(),
            no_check: request.no_check,
            replset_map: request.replset_map.clone(),
            identity_file: request.identity_file.clone(),
        }
    }
}

/// What a restore will do, computed against the target as it is. Nothing is written before it was confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    pub backup: String,
    pub from_service: String,
    /// Empty for a restore into a data folder.
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
    /// A restore of files: where to, and everything that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<PlannedFiles>,
    /// What to know before confirming (another server version, TTL indexes, a target that differs).
    pub warnings: Vec<String>,
}

/// How files become a server again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFiles {
    /// The data folder that is made.
    pub dir: String,
    /// What is there of a service is kept in this folder until the restored server answers.
    pub replaces: Option<String>,
    /// Why a person has to do the steps; `None`: mongokeep does them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_by_hand: Option<String>,
    /// The program that recovers it.
    pub mongod: String,
    pub mongod_version: String,
    pub replica_set: String,
    pub members: Vec<String>,
    pub files: u64,
    /// Of the files, as they are laid out.
    pub bytes: u64,
    /// Free where they are laid out.
    pub free_bytes: u64,
    /// In their order, as sentences.
    pub steps: Vec<String>,
    /// What is left to a person afterwards, as commands and sentences.
    pub by_hand: Vec<String>,
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
    /// Whoever made the backup did not write down how many documents are in it, so that `documents` says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncounted: bool,
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

/// Why something that nobody asked for is left out.
const NOT_INCLUDED: &str = "not included";

impl LeftOut {
    /// The person chose, and this was not among it.
    pub fn not_included(what: String) -> Self {
        Self { what, why: NOT_INCLUDED.into() }
    }

    /// There may be thousands of these: where people read, they are counted rather than named.
    pub fn is_not_included(&self) -> bool {
        self.why == NOT_INCLUDED
    }
}

impl RestoreRequest {
    /// The command that asks for the same again and shows the plan: with every selection, because without one it would
    /// replace more than was meant. A safety backup is not asked for again: it was made, and another one would hold what
    /// a first attempt left.
    pub fn command(&self, plan: &RestorePlan) -> String {
        let mut words = vec![format!("mongokeep restore {}", plan.origin())];
        match &self.data_folder {
            None => words.push(format!("--to {}", quoted(&self.to))),
            Some(folder) => words.push(folder.flags()),
        }
        words.extend(self.mongod.iter().map(|path| format!("--mongod {}", quoted(path))));
        words.extend(self.identity_file.iter().map(|path| format!("--identity-file {}", quoted(path))));
        words.extend(self.include.iter().map(|p| format!("--include {}", quoted(&p.to_string()))));
        words.extend(self.rename.iter().map(|r| format!("--rename {}", quoted(&r.to_string()))));
        let flags = [
            (self.no_check, "--no-check"),
            (self.exact, "--exact"),
            (self.no_ttl, "--no-ttl"),
            (self.users_and_roles, "--users-and-roles"),
        ];
        words.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.to_owned()));
        words.join(" ")
    }

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

    /// What a person is told before anything else when `source`, the backup that this restores, was found damaged.
    pub fn damage(source: &Backup) -> Option<String> {
        let why = source.verify_error.as_ref()?;
        Some(format!("backup {} is DAMAGED, so restoring it will fail or leave something out: {why}", source.name))
    }

    /// Refuses to give what is there for what a damaged backup may not bring back.
    ///
    /// Errors: `Conflict` when `source`, the backup that this restores, was found damaged and something would be lost.
    pub fn check_source(&self, source: &Backup) -> Result<()> {
        let Some(damage) = Self::damage(source).filter(|_| self.overwrites()) else { return Ok(()) };
        let hint = format!(
            "nothing of {0} is replaced from it; restore it beside what is there (--rename DB=NEW), or into an empty \
             service. If its storage was mended: mongokeep backup verify {1}",
            self.to_service, source.name
        );
        Err(Error::new(ErrorKind::Conflict, damage).hint(hint))
    }

    /// Whether a person has to carry it out.
    pub fn is_by_hand(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.only_by_hand.is_some())
    }

    /// Errors: `Unsupported` for a plan that a person has to carry out.
    pub fn must_be_ours(&self) -> Result<()> {
        let Some(why) = self.files.as_ref().and_then(|files| files.only_by_hand.as_deref()) else { return Ok(()) };
        let what = format!("mongokeep does not restore over {} by itself: {why}", self.to_service);
        Err(Error::new(ErrorKind::Unsupported, what).hint("the plan has the steps to do by hand (--dry-run prints it)"))
    }

    /// Where to: the service, or the data folder.
    pub fn target(&self) -> &str {
        match &self.files {
            Some(files) if self.to_service.is_empty() => &files.dir,
            _ => &self.to_service,
        }
    }

    /// Whether something that exists is replaced or dropped, so that it must be confirmed by typing.
    pub fn overwrites(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.replaces.is_some())
            || !self.dropped.is_empty()
            || self.users_and_roles
            || self.namespaces.iter().any(|n| n.action == PlannedAction::Replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_asked_for_again() {
        let request: RestoreRequest = serde_json::from_value(serde_json::json!({
            "backup": "b", "to": "prod", "include": ["big", "a.*"], "rename": ["big=it's", "a.x=a.y"],
            "exact": true, "no_ttl": true, "users_and_roles": true, "safety_backup": true,
        }))
        .unwrap();
        let plan: RestorePlan = serde_json::from_value(serde_json::json!({
            "backup": "b", "from_service": "s", "to_service": "prod", "consistent_at_ts": null, "target_version": "6.0.5",
            "target_fcv": "6.0", "namespaces": [], "dropped": [], "untouched": [], "left_out": [],
            "users_and_roles": true, "users_of": [], "warnings": [],
        }))
        .unwrap();
        assert_eq!(
            request.command(&plan),
            "mongokeep restore b --to prod --include big --include 'a.*' --rename 'big=it'\\''s' --rename a.x=a.y --exact \
             --no-ttl --users-and-roles"
        );
    }
}
