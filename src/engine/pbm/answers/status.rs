//! `pbm status`.

use serde::Deserialize;

use super::lenient::{Moment, error_text, null_is_default};
use super::words::{Role, Status};

/// The sections that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct StatusAnswer {
    pub cluster: Option<Vec<ReplicaSet>>,
    pub pitr: Option<PitrState>,
    pub running: Option<Running>,
    pub backups: Option<StorageState>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ReplicaSet {
    #[serde(rename = "rs")]
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub nodes: Vec<Node>,
}

/// A member of a replica set, and its agent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Node {
    pub host: String,
    /// The version of its agent, `v2.15.0`. Empty: there is none.
    #[serde(default, deserialize_with = "null_is_default")]
    pub agent: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub role: Role,
    /// Empty unless it was asked for.
    #[serde(default, deserialize_with = "null_is_default")]
    pub prio_pitr: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub prio_backup: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub ok: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub errors: Vec<String>,
}

const LOST: &str = "lost agent";

impl Node {
    /// An agent is there and gave a sign of life within PBM's 30 seconds.
    pub fn has_live_agent(&self) -> bool {
        !self.agent.is_empty() && !self.errors.iter().any(|error| error.starts_with(LOST))
    }

    /// When the agent that was lost was last alive (`lost agent, last heartbeat: 1795945488`).
    pub fn last_heartbeat(&self) -> Option<Moment> {
        let lost = self.errors.iter().find(|error| error.starts_with(LOST))?;
        let (_, seconds) = lost.rsplit_once(": ")?;
        seconds.trim().parse().ok().map(Moment::Unix)
    }
}

/// Whether the oplog is recorded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct PitrState {
    /// It is switched on.
    #[serde(default, deserialize_with = "null_is_default")]
    pub conf: bool,
    /// It is at work.
    #[serde(default, deserialize_with = "null_is_default")]
    pub run: bool,
    /// `sh1/127.0.0.1:29019`: who records.
    #[serde(default, deserialize_with = "null_is_default")]
    pub nodes: Vec<String>,
    #[serde(default, deserialize_with = "error_text")]
    pub error: Option<String>,
}

/// The operation that holds the lock. PBM says `{}` when there is none, and goes on to name one whose agents are dead.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Running {
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(default, rename = "opID", deserialize_with = "null_is_default")]
    pub op_id: String,
    /// Of a backup its name; of a restore the name of the *backup* that is restored.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(rename = "startTS")]
    pub start: Option<Moment>,
    /// For people: `snapshot backup`, `oplog backup`, or a status.
    #[serde(default, deserialize_with = "null_is_default")]
    pub status: String,
}

impl Running {
    pub fn is_none(&self) -> bool {
        self.kind.is_empty() && self.op_id.is_empty()
    }
}

/// The storage of PBM, and what it holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StorageState {
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub path: String,
    pub region: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub snapshot: Vec<Snapshot>,
    #[serde(default, rename = "pitrChunks", deserialize_with = "null_is_default")]
    pub chunks: Chunks,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Chunks {
    #[serde(default, rename = "pitrChunks", deserialize_with = "null_is_default")]
    pub ranges: Vec<ChunkRange>,
    /// Bytes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub size: i64,
}

/// A range of the recorded oplog without a gap.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ChunkRange {
    pub range: StartEnd,
    #[serde(default, rename = "noBaseSnapshot", deserialize_with = "null_is_default")]
    pub no_base_snapshot: bool,
    #[serde(default, deserialize_with = "error_text")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StartEnd {
    pub start: Moment,
    pub end: Moment,
}

/// A backup in a list.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Snapshot {
    pub name: String,
    /// The further storage it is in; none: the main one.
    pub profile: Option<String>,
    #[serde(default, rename = "nss", deserialize_with = "null_is_default")]
    pub namespaces: Vec<String>,
    /// Bytes; `pbm list` does not say it.
    pub size: Option<i64>,
    /// `error` also for one that is incompatible with this cluster, and for one whose files are missing.
    pub status: Status,
    #[serde(default, deserialize_with = "error_text")]
    pub error: Option<String>,
    #[serde(rename = "restoreTo")]
    pub restore_to: Option<Moment>,
    #[serde(default, rename = "pbmVersion", deserialize_with = "null_is_default")]
    pub pbm_version: String,
    /// `logical`, `physical`, `incremental`, `external`.
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// The backup it is an increment of; empty: it is a base.
    #[serde(default, rename = "src", deserialize_with = "null_is_default")]
    pub source: String,
}

impl StorageState {
    pub fn backup(&self, name: &str) -> Option<&Snapshot> {
        self.snapshot.iter().find(|snapshot| snapshot.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::answer;

    #[test]
    fn a_fresh_cluster_has_null_where_nothing_is() {
        let fresh: StatusAnswer = answer("status-fresh");
        assert_eq!(fresh.cluster.unwrap().len(), 3);
        let backups = fresh.backups.unwrap();
        assert_eq!((backups.kind.as_str(), backups.path.as_str()), ("FS", "/srv/backup/pbmstore"));
        assert!(backups.snapshot.is_empty() && backups.chunks.ranges.is_empty());
        let pitr = fresh.pitr.unwrap();
        assert!(!pitr.conf && !pitr.run && pitr.nodes.is_empty());
        assert!(fresh.running.unwrap().is_none());
        let shown: StatusAnswer = answer("status-fresh-priority");
        assert_eq!(shown.cluster.unwrap()[0].nodes[0].prio_backup, "0.5");
    }

    #[test]
    fn a_running_backup_is_named_with_its_operation() {
        let status: StatusAnswer = answer("status-running");
        let running = status.running.unwrap();
        assert_eq!((running.kind.as_str(), running.name.as_str()), ("backup", "2026-11-29T09:19:46Z"));
        assert_eq!((running.op_id.as_str(), running.status.as_str()), ("6b0bee333165509810c1475b", "oplog backup"));
        let backups = status.backups.unwrap();
        let backup = backups.backup("2026-11-29T09:19:46Z").unwrap();
        assert!(backup.status == Status::DumpDone && !backup.status.is_final());
        assert!(status.cluster.unwrap().iter().all(|set| set.nodes.iter().all(Node::has_live_agent)));
    }

    /// The same backup is `starting` for `describe-backup`, for ever.
    #[test]
    fn cancelled_stuck_and_failed_backups_keep_their_reason() {
        let cancelled: StatusAnswer = answer("cancel-status");
        let backups = cancelled.backups.unwrap();
        let backup = backups.backup("2026-11-29T09:27:57Z").unwrap();
        assert!(backup.status == Status::Canceled && backup.size.is_none());
        let stuck: StatusAnswer = answer("physical-status");
        let stuck = stuck.backups.unwrap();
        let backup = stuck.backup("2026-11-29T09:37:15Z").unwrap();
        assert_eq!((backup.status.clone(), backup.kind.as_str()), (Status::Error, "physical"));
        assert!(backup.error.as_deref().unwrap().starts_with("Backup stuck at `starting` stage"));
        let profile: StatusAnswer = answer("status-with-profile");
        assert!(profile.backups.unwrap().snapshot.iter().any(|s| s.profile.as_deref() == Some("second")));
    }

    #[test]
    fn lost_agents_are_told_from_agents_that_were_never_there() {
        let node = |name: &str| {
            let status: StatusAnswer = answer(name);
            let mut nodes = status.cluster.unwrap().into_iter().flat_map(|set| set.nodes);
            nodes.find(|node| node.host == "127.0.0.1:29020").unwrap()
        };
        let lost = node("agentdead-status-40s");
        assert!(!lost.has_live_agent() && lost.agent == "v2.15.0");
        assert_eq!(lost.last_heartbeat(), Some(Moment::Unix(1_795_945_488)));
        let gone = node("agentdead-status-2min");
        assert!(!gone.has_live_agent() && gone.agent.is_empty() && gone.role == Role::Unsaid);
        assert_eq!(gone.last_heartbeat(), None);
        assert!(node("agentback-status").has_live_agent());
    }

    #[test]
    fn recording_is_on_at_work_and_in_trouble() {
        let on: StatusAnswer = answer("pitr-status");
        let pitr = on.pitr.unwrap();
        assert!(pitr.conf && pitr.run && pitr.nodes.len() == 3 && pitr.error.is_none());
        let chunks = on.backups.unwrap().chunks;
        assert_eq!((chunks.ranges[0].range.start.clone(), chunks.size), (Moment::Unix(1_795_943_986), 310_319));
        let waiting: StatusAnswer = answer("pitr-nobase-status");
        let pitr = waiting.pitr.unwrap();
        assert!(pitr.conf && !pitr.run && pitr.error.unwrap().contains("a new backup is required to resume PITR"));
    }

    #[test]
    fn what_is_not_known_is_taken_and_kept() {
        let json = r#"{"cluster":[{"rs":"a","nodes":[{"host":"h:1","role":"REMOVED","new":1,"errors":null},{"host":"h:2","role":null}]}],
            "running":{"type":"defragment","opID":"1","startTS":null},"backups":{"snapshot":[{"name":"n","status":"frozen"}],
            "pitrChunks":{"pitrChunks":[{"range":{"start":1,"end":2},"error":{}}]}},"weather":"fine"}"#;
        let status: StatusAnswer = serde_json::from_str(json).unwrap();
        let node = &status.cluster.unwrap()[0].nodes[0];
        assert!(node.role == Role::Unknown("REMOVED".into()) && !node.ok);
        assert_eq!(status.running.unwrap().kind, "defragment");
        let backups = status.backups.unwrap();
        assert_eq!(backups.snapshot[0].status, Status::Unknown("frozen".into()));
        assert!(backups.chunks.ranges[0].error.is_some());
    }
}
