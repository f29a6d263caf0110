//! How far an operation of PBM is, in one form for backups and restores, and whether it ended well.

use super::answers::{DescribedBackup, DescribedRestore, DescribedSet, Running, Status};
use super::failure::{NEW_CHAIN, Reason};
use super::redact::Redactor;
use crate::error::{Error, ErrorKind, Result};

/// An operation as PBM describes it. Its texts are fit to be shown, but for the names.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationState {
    pub operation: Operation,
    pub name: String,
    pub op_id: String,
    pub status: Status,
    pub error: Option<String>,
    pub replica_sets: Vec<SetState>,
    /// Of a backup: what is stored already. PBM says nothing of the sort about a restore.
    pub bytes: Option<u64>,
    /// What holds PBM's lock: this operation, or another one.
    pub running: Option<Running>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Backup,
    Restore,
}

impl Operation {
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SetState {
    pub name: String,
    pub status: Status,
    pub error: Option<String>,
    /// The member that does it, of a backup; every member, of a physical restore.
    pub nodes: Vec<NodeState>,
    pub bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    pub name: String,
    pub status: Status,
    pub error: Option<String>,
}

/// The name of a replica set, its status, and those of its nodes.
pub type SetSteps = (String, Status, Vec<Status>);

impl OperationState {
    pub fn of_backup(backup: &DescribedBackup, redactor: &Redactor) -> Self {
        let sets = backup.replsets.iter().map(|set| SetState {
            nodes: Some(&set.node).filter(|node| !node.is_empty()).map(|node| working(node, set)).into_iter().collect(),
            bytes: u64::try_from(set.size).ok(),
            ..SetState::of(set, redactor)
        });
        Self {
            operation: Operation::Backup,
            name: backup.name.clone(),
            op_id: backup.opid.clone(),
            status: backup.status.clone(),
            error: backup.error.as_deref().map(|error| redactor.shown(error)),
            replica_sets: sets.collect(),
            bytes: u64::try_from(backup.size).ok(),
            running: None,
        }
    }

    pub fn of_restore(restore: &DescribedRestore, redactor: &Redactor) -> Self {
        Self {
            operation: Operation::Restore,
            name: restore.name.clone(),
            op_id: restore.opid.clone(),
            status: restore.status.clone(),
            error: restore.error.as_deref().map(|error| redactor.shown(error)),
            replica_sets: restore.replsets.iter().map(|set| SetState::of(set, redactor)).collect(),
            bytes: None,
            running: None,
        }
    }

    /// What makes one state another one: a change of it is a sign of life.
    pub fn steps(&self) -> (Status, Option<u64>, Vec<SetSteps>) {
        let sets = self.replica_sets.iter().map(|set| {
            let nodes = set.nodes.iter().map(|node| node.status.clone()).collect();
            (set.name.clone(), set.status.clone(), nodes)
        });
        (self.status.clone(), self.bytes, sets.collect())
    }

    /// Whether an operation that is at its end did what it should.
    ///
    /// Errors: what PBM says about it, with each replica set that failed; `Failed` for one that is only partly done, that
    /// somebody cancelled, or whose end is a word that is not known.
    pub fn must_be_good(&self) -> Result<()> {
        let what = format!("PBM's {} {}", self.operation.word(), crate::domain::text::escape(&self.name));
        let failed = self.failed_parts();
        if self.status.is_good() && failed.is_empty() {
            return Ok(());
        }
        let mut said: Vec<String> = self.error.iter().cloned().chain(failed).collect();
        // A replica set often repeats what the whole says.
        said.dedup();
        let said = if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) };
        let (kind, what) = match &self.status {
            Status::Done => (ErrorKind::Failed, format!("{what} is done, but not in every part{said}")),
            Status::PartlyDone => (ErrorKind::Failed, format!("{what} is only partly done{said}")),
            Status::Canceled => (ErrorKind::Failed, format!("{what} was cancelled by somebody else{said}")),
            Status::Error => (kind_of(&said), format!("{what} failed{said}")),
            other => (ErrorKind::Failed, format!("{what} is {other}, which is no good end{said}")),
        };
        let error = Error::new(kind, what);
        Err(match Reason::of(&said) {
            Reason::NoChain => error.hint(NEW_CHAIN),
            _ => error,
        })
    }

    fn failed_parts(&self) -> Vec<String> {
        let mut out = Vec::new();
        for set in &self.replica_sets {
            let has_failed = |status: &Status| status.is_final() && !status.is_good();
            let named = |name: &str, status: &Status, error: &Option<String>| {
                let error = error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
                format!("{} is {status}{error}", crate::domain::text::escape(name))
            };
            if has_failed(&set.status) {
                out.push(named(&set.name, &set.status, &set.error));
            }
            let nodes =
                set.nodes.iter().filter(|node| has_failed(&node.status) && self.operation == Operation::Restore);
            out.extend(nodes.map(|node| named(&node.name, &node.status, &node.error)));
        }
        out
    }
}

/// A failure that PBM notes for an operation means what the same words mean elsewhere, as far as waiting may help.
fn kind_of(said: &str) -> ErrorKind {
    let kind = Reason::of(said).kind();
    if kind.is_retryable() || kind == ErrorKind::Denied { kind } else { ErrorKind::Failed }
}

impl SetState {
    fn of(set: &DescribedSet, redactor: &Redactor) -> Self {
        let nodes = set.nodes.iter().map(|node| NodeState {
            name: node.name.clone(),
            status: node.status.clone(),
            error: node.error.as_deref().map(|error| redactor.shown(error)),
        });
        Self {
            name: set.name.clone(),
            status: set.status.clone(),
            error: set.error.as_deref().map(|error| redactor.shown(error)),
            nodes: nodes.collect(),
            bytes: None,
        }
    }
}

fn working(node: &str, set: &DescribedSet) -> NodeState {
    NodeState { name: node.to_owned(), status: set.status.clone(), error: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pbm::tests::answer;

    fn restore(json: &str) -> OperationState {
        OperationState::of_restore(&serde_json::from_str(json).unwrap(), &Redactor::default())
    }

    #[test]
    fn an_end_is_good_only_when_all_of_it_is() {
        let redactor = Redactor::default();
        let done = OperationState::of_backup(&answer("describe-backup-done"), &redactor);
        assert!(done.must_be_good().is_ok());
        assert_eq!((done.bytes, done.replica_sets[0].nodes[0].name.as_str()), (Some(56_071), "127.0.0.1:29019"));
        assert!(OperationState::of_restore(&answer("describe-restore-done"), &redactor).must_be_good().is_ok());
        let mut odd = done.clone();
        odd.replica_sets[1].status = Status::Error;
        odd.replica_sets[1].error = Some("boom".into());
        assert!(odd.must_be_good().unwrap_err().full().contains("sh2 is error: boom"));
        odd.status = Status::Unknown("finished".into());
        assert!(odd.must_be_good().unwrap_err().full().contains("is finished, which is no good end"));
    }

    #[test]
    fn partly_done_says_which_part_is_not() {
        let partly = restore(
            r#"{"name":"r","status":"partlyDone","replsets":[{"name":"a","status":"partlyDone","nodes":[
            {"name":"h:1","status":"done"},{"name":"h:2","status":"error","error":"no room"}]}]}"#,
        );
        let error = partly.must_be_good().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.full(), "PBM's restore r is only partly done: a is partlyDone; h:2 is error: no room");
    }

    #[test]
    fn a_failure_keeps_its_reason() {
        let failed = OperationState::of_restore(&answer("agentdead-restore-describe"), &Redactor::default());
        let error = failed.must_be_good().unwrap_err();
        // An agent that is dead may be back.
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert!(error.full().contains("converge timeout") && error.full().contains("cfg is error"), "{error}");
        assert!(
            restore(r#"{"name":"r","status":"canceled"}"#).must_be_good().unwrap_err().full().contains("cancelled")
        );
        assert_ne!(failed.steps(), restore(r#"{"name":"r","status":"error"}"#).steps());
    }
}
