//! A service: a MongoDB deployment that is backed up, known by its connection string.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::text::{counted, escape};
use super::words::words;

words! {
    /// What makes, or made, backups.
    #[derive(Default)]
    pub enum EngineKind {
        #[default]
        Native => "native",
        Pbm => "pbm",
        /// Folders that it left in a storage are read; no service is backed up with it.
        Mongodump => "mongodump",
    }
}

impl EngineKind {
    /// The words of those that make the backups of a service.
    pub const OF_SERVICES: &'static [&'static str] = &["native", "pbm"];

    /// Whether agents at the nodes of a cluster work for it, so that there is a cluster to look at.
    pub fn has_nodes(self) -> bool {
        match self {
            Self::Native | Self::Mongodump => false,
            Self::Pbm => true,
        }
    }

    /// Whether it writes down how many documents a backup holds.
    pub fn counts_documents(self) -> bool {
        self == Self::Native
    }
}

/// What a person says about a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    pub name: String,
    /// `None` in an edit that leaves the stored one as it is.
    pub uri: Option<Secret>,
    pub cluster: Option<String>,
    pub engine: EngineKind,
    /// `None`: the setting `production_hours`.
    pub production_hours: Option<String>,
    /// Where the data folder of its member on this host lies, if not where the server says.
    pub data_dir: Option<String>,
    /// Command lines that stop and start its member on this host. Both or none.
    pub stop_command: Option<String>,
    pub start_command: Option<String>,
}

impl ServiceSpec {
    /// With everything but its name and its connection string left out.
    pub fn at(name: &str, uri: &str) -> Self {
        Self { name: name.to_owned(), uri: Some(Secret::new(uri)), ..Self::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub uri: Secret,
    /// The cluster label; the default folder of its backups.
    pub cluster: Option<String>,
    pub engine: EngineKind,
    pub created_at: DateTime<Utc>,
    /// See [`ServiceSpec`].
    pub data_dir: Option<String>,
    pub stop_command: Option<String>,
    pub start_command: Option<String>,
}

impl Service {
    /// The folder its backups go to unless told otherwise: the cluster label, else the service's own name.
    pub fn default_folder(&self) -> &str {
        self.cluster.as_deref().filter(|c| !c.is_empty()).unwrap_or(&self.name)
    }
}

/// The result of `service check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    pub service: String,
    /// No item failed.
    pub ok: bool,
    pub items: Vec<CheckItem>,
    /// Of each storage that was tried, why nothing can be written there; `None`: it can. The item `storage` says it in
    /// words, for all of them together.
    #[serde(skip)]
    pub storages: BTreeMap<String, Option<String>>,
    /// What to do about each storage that the engine of the service can never write to.
    #[serde(skip)]
    pub unfit: BTreeMap<String, String>,
}

impl CheckReport {
    /// Its items, the most urgent first; items of one urgency stay in their own order.
    pub fn by_urgency(&self) -> Vec<&CheckItem> {
        let mut items: Vec<&CheckItem> = self.items.iter().collect();
        items.sort_by_key(|item| item.urgency());
        items
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckItem {
    /// Stable, for scripts: `backup_management`, `reachable`, `authenticated`, `replica_set`, `cluster_label`,
    /// `server_version`, `rights_backup`, `rights_restore`, `oplog_window`, `storage`.
    pub id: String,
    pub title: String,
    pub state: CheckState,
    pub detail: String,
    /// A command that can be copied. Empty when nothing is to be done.
    pub remedy: String,
}

/// How soon somebody should look at an item of a check: the order in which items are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Every backup fails for it.
    StopsBackups,
    StopsRestores,
    Warning,
    Skipped,
    Passed,
}

impl CheckItem {
    pub fn urgency(&self) -> Urgency {
        match self.state {
            CheckState::Fail if self.id == "rights_restore" => Urgency::StopsRestores,
            CheckState::Fail => Urgency::StopsBackups,
            CheckState::Warn => Urgency::Warning,
            CheckState::Skip => Urgency::Skipped,
            CheckState::Pass => Urgency::Passed,
        }
    }

    /// Whether a backup fails for this.
    pub fn stops_backups(&self) -> bool {
        self.urgency() == Urgency::StopsBackups
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    Pass,
    Warn,
    Fail,
    Skip,
}

/// What giving a service its engine's configuration would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationPlan {
    pub service: String,
    /// There is none yet.
    pub is_new: bool,
    /// Just this is there already.
    pub is_there: bool,
    pub changes: Vec<ConfigurationChange>,
    /// What people must see to besides.
    pub notes: Vec<String>,
}

/// One setting; `None`: it is not set. Secrets are shown as `***`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationChange {
    pub key: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

/// What a look at the server told, for the form and the list (`MongoDB 6.0.5 · replica set rs0, 3 members`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    pub server_version: String,
    pub fcv: Option<String>,
    pub role: ServerRole,
    pub replica_set: Option<String>,
    pub members: usize,
}

/// What a server is in its deployment, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerRole {
    Standalone,
    /// Of a replica set by itself, or of a shard.
    Member,
    /// Of the config servers of a sharded cluster.
    ConfigServer,
    /// A mongos.
    Router,
}

impl ServiceInfo {
    /// Where a person got to: `replica set rs0, 3 members`.
    pub fn deployment(&self) -> String {
        let set = self.replica_set.as_deref().map(escape).unwrap_or_default();
        let members = format!("{set}, {}", counted(self.members as u64, "member"));
        match self.role {
            ServerRole::Standalone => "not a replica set".to_owned(),
            ServerRole::Member => format!("replica set {members}"),
            ServerRole::ConfigServer => format!("config servers {members}"),
            ServerRole::Router => "a router (mongos)".to_owned(),
        }
    }
}

/// Another engine than the one that was chosen, and where it connects to: what is there is a part of a sharded cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineProposal {
    /// What the service leads to: `leads to a mongos of a sharded cluster`.
    pub found: String,
    pub engine: EngineKind,
    /// The connection string that was given leads elsewhere than the engine needs.
    pub needs_other_uri: bool,
    /// The one to use then, without credentials; `None`: it could not be found out.
    pub uri: Option<String>,
    /// The same with the credentials and options that were given.
    #[serde(skip)]
    pub full: Option<Secret>,
}

impl EngineProposal {
    /// For people, what is said of the service: `leads to a mongos ...`.
    pub fn words(&self) -> String {
        let to = match &self.uri {
            _ if !self.needs_other_uri => ": this connection string will do".to_owned(),
            Some(uri) => format!(": {uri}"),
            None => "; who may run getShardMap on the mongos (role clusterMonitor) sees where they are".to_owned(),
        };
        format!(
            "{}, which is backed up by Percona Backup for MongoDB (engine {}) through the config servers' replica set{to}",
            self.found,
            self.engine.word()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_stop_backups_come_first_and_equals_keep_their_order() {
        let item = |id: &str, state| CheckItem {
            id: id.into(),
            title: String::new(),
            state,
            detail: String::new(),
            remedy: String::new(),
        };
        let items = vec![
            item("reachable", CheckState::Pass),
            item("oplog_window", CheckState::Skip),
            item("rights_restore", CheckState::Fail),
            item("locking", CheckState::Warn),
            item("storage", CheckState::Fail),
            item("names", CheckState::Warn),
        ];
        let service = "orders-rs".into();
        let report = CheckReport { service, ok: false, items, storages: BTreeMap::new(), unfit: BTreeMap::new() };
        let order: Vec<&str> = report.by_urgency().iter().map(|item| item.id.as_str()).collect();
        assert_eq!(order, ["storage", "rights_restore", "locking", "names", "oplog_window", "reachable"]);
        let stopping: Vec<&str> =
            report.items.iter().filter(|item| item.stops_backups()).map(|item| item.id.as_str()).collect();
        assert_eq!(stopping, ["storage"]);
    }
}
