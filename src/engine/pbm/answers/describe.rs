//! `pbm describe-backup` and `pbm describe-restore`: the only places that say how an operation ended.

use serde::Deserialize;

use super::lenient::{Moment, error_text, null_is_default};
use super::words::Status;

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DescribedBackup {
    pub name: String,
    pub profile: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub opid: String,
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    pub status: Status,
    #[serde(default, deserialize_with = "error_text")]
    pub error: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub namespaces: Vec<String>,
    #[serde(default, rename = "sel_user_and_roles", deserialize_with = "null_is_default")]
    pub users_and_roles: bool,
    /// The moment that it restores; not known before its end.
    #[serde(rename = "last_write_ts")]
    pub last_write: Option<Moment>,
    #[serde(rename = "last_transition_ts")]
    pub last_transition: Option<Moment>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub mongodb_version: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub fcv: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub pbm_version: String,
    /// Bytes; what is there already while it runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub size: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub size_uncompressed: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub replsets: Vec<DescribedSet>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DescribedRestore {
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub opid: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub backup: String,
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    pub status: Status,
    #[serde(default, deserialize_with = "error_text")]
    pub error: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub namespaces: Vec<String>,
    pub start: Option<Moment>,
    pub finish: Option<Moment>,
    /// The moment that was asked for; none: that of the backup.
    #[serde(rename = "ts_to_restore")]
    pub until: Option<Moment>,
    #[serde(rename = "last_transition_ts")]
    pub last_transition: Option<Moment>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub replsets: Vec<DescribedSet>,
}

/// A replica set in either of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DescribedSet {
    pub name: String,
    pub status: Status,
    /// Who backs it up. A restore has all of `nodes`, a physical one.
    #[serde(default, deserialize_with = "null_is_default")]
    pub node: String,
    #[serde(default, deserialize_with = "error_text")]
    pub error: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub size: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub configsvr: bool,
    #[serde(rename = "last_write_ts")]
    pub last_write: Option<Moment>,
    #[serde(rename = "last_transition_ts")]
    pub last_transition: Option<Moment>,
    /// With `--with-collections`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub collections: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub nodes: Vec<DescribedNode>,
    /// Transactions that a restore could not finish, as PBM says them.
    #[serde(default, deserialize_with = "null_is_default")]
    pub partial_txn: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DescribedNode {
    pub name: String,
    pub status: Status,
    #[serde(default, deserialize_with = "error_text")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::answer;

    #[test]
    fn a_backup_is_followed_from_its_start_to_its_end() {
        let running: DescribedBackup = answer("describe-backup-running");
        assert_eq!((running.status.clone(), running.size), (Status::DumpDone, 5795));
        assert_eq!(running.last_write.unwrap().utc(), None);
        assert!(running.replsets.iter().any(|set| set.name == "cfg" && set.configsvr));
        let done: DescribedBackup = answer("describe-backup-done");
        assert!(done.status.is_good() && done.replsets.iter().all(|set| set.status.is_good()));
        assert_eq!(done.last_write, Some(Moment::Unix(1_795_943_985)));
        assert_eq!((done.mongodb_version.as_str(), done.pbm_version.as_str()), ("7.0.11", "2.15.0"));
        let with: DescribedBackup = answer("describe-backup-collections");
        assert!(with.replsets[0].collections.contains(&"shop.notes".to_owned()));
        // No agent had begun.
        let stuck: DescribedBackup = answer("physical-describe");
        assert!(stuck.replsets.is_empty() && !stuck.status.is_final());
        let cancelling: DescribedBackup = answer("cancel-describe-soon");
        assert_eq!(cancelling.status, Status::Running);
    }

    #[test]
    fn a_restore_is_followed_too() {
        let begun: DescribedRestore = answer("describe-restore-pitr-on");
        assert_eq!((begun.status, begun.replsets.len()), (Status::Starting, 2));
        assert_eq!(begun.replsets[0].status, Status::CleanupCluster);
        let done: DescribedRestore = answer("describe-restore-done");
        assert!(done.status.is_good() && done.finish.unwrap().utc() > done.start.unwrap().utc());
        let failed: DescribedRestore = answer("agentdead-restore-describe");
        assert_eq!(failed.status, Status::Error);
        // The replica set whose agent is dead is not even listed.
        assert!(failed.error.unwrap().contains("converge timeout") && failed.replsets.len() == 2);
    }

    #[test]
    fn an_answer_without_a_status_is_no_answer() {
        assert!(serde_json::from_str::<DescribedBackup>(r#"{"name": "n"}"#).is_err());
        let nulls = r#"{"name": "n", "status": "later", "replsets": null, "error": null, "namespaces": null}"#;
        assert_eq!(serde_json::from_str::<DescribedBackup>(nulls).unwrap().status, Status::Unknown("later".into()));
        let node = r#"{"name":"r","status":"partlyDone","replsets":[{"name":"a","status":"partlyDone",
            "partial_txn":[{"x":1}],"nodes":[{"name":"h:1","status":"down","error":"boom"}]}]}"#;
        let restore: DescribedRestore = serde_json::from_str(node).unwrap();
        assert!(restore.status.is_final() && !restore.status.is_good());
        assert_eq!(restore.replsets[0].nodes[0].error.as_deref(), Some("boom"));
    }
}
