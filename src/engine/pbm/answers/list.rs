//! `pbm list` and `pbm list --restore`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::lenient::{Moment, error_text, null_is_default};
use super::status::{ChunkRange, Snapshot};
use super::words::Status;

/// Backups that ended, and what of the oplog is recorded. While PBM reads its storage again it gives a message instead.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ListAnswer {
    #[serde(deserialize_with = "null_is_default")]
    pub snapshots: Vec<Snapshot>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub pitr: ListedPitr,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct ListedPitr {
    #[serde(default, deserialize_with = "null_is_default")]
    pub on: bool,
    /// What every replica set has.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ranges: Vec<ChunkRange>,
    /// What each of them has.
    #[serde(default, rename = "rsRanges", deserialize_with = "ranges_of_sets")]
    pub replica_sets: BTreeMap<String, Vec<ChunkRange>>,
}

fn ranges_of_sets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<ChunkRange>>, D::Error> {
    let sets = Option::<BTreeMap<String, Option<Vec<ChunkRange>>>>::deserialize(deserializer)?;
    Ok(sets.unwrap_or_default().into_iter().map(|(name, ranges)| (name, ranges.unwrap_or_default())).collect())
}

/// One of `pbm list --restore`, which is `null` when there never was one: parse it as `Option<Vec<RestoreEntry>>`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RestoreEntry {
    pub start: Option<Moment>,
    pub status: Status,
    /// `snapshot`, `pitr`, `replay`.
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub snapshot: String,
    #[serde(rename = "start-point-in-time")]
    pub from: Option<Moment>,
    #[serde(rename = "point-in-time")]
    pub until: Option<Moment>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub namespaces: Vec<String>,
    #[serde(default, deserialize_with = "error_text")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::answer;

    #[test]
    fn lists_are_read_with_and_without_backups() {
        assert!(answer::<ListAnswer>("list-empty").snapshots.is_empty());
        let one: ListAnswer = answer("list-one");
        assert!(one.snapshots[0].status.is_good() && one.snapshots[0].size.is_none() && one.pitr.ranges.is_empty());
        let recorded: ListAnswer = answer("pitr-list");
        assert!(recorded.pitr.on);
        assert_eq!(recorded.pitr.ranges[0].range.end, Moment::Unix(1_795_944_214));
        let unbacked = r#"{"snapshots":[],"pitr":{"on":false,"ranges":null,"rsRanges":{"a":null,"b":[{"range":{"start":2,"end":3},
            "noBaseSnapshot":true}]}}}"#;
        let unbacked: ListAnswer = serde_json::from_str(unbacked).unwrap();
        assert!(unbacked.pitr.replica_sets["a"].is_empty() && unbacked.pitr.replica_sets["b"][0].no_base_snapshot);
        // What a deletion prints at its end is a list, too.
        assert_eq!(answer::<ListAnswer>("delete-backup").snapshots.len(), 5);
    }

    #[test]
    fn restores_are_null_or_a_list() {
        assert_eq!(answer::<Option<Vec<RestoreEntry>>>("noconf-noagent-list-restore"), None);
        let restores: Option<Vec<RestoreEntry>> = answer("list-restore-failed");
        let restores = restores.unwrap();
        assert_eq!(restores[0].namespaces, ["shop.notes"]);
        assert!(restores[1].status == Status::Error && restores[1].error.is_some());
    }
}
