use std::path::Path;

use serde_json::Value;

use super::*;
use crate::domain::secret::Secret;
use crate::engine::pbm::tests::{StandIn, fixture, refusal};

const BACKUP: &str = "2026-11-29T09:19:46Z";
const NOTHING: &str = r#"{"running":{}}"#;

#[derive(Default)]
struct Seen {
    states: Vec<OperationState>,
    lines: Vec<String>,
    troubles: Vec<String>,
}

impl Watcher for Seen {
    fn progress(&mut self, state: &OperationState) {
        self.states.push(state.clone());
    }

    fn log(&mut self, entry: &LogEntry) {
        self.lines.push(entry.msg.clone());
    }

    fn trouble(&mut self, text: &str) {
        self.troubles.push(text.to_owned());
    }
}

fn quick() -> Pace {
    let short = Duration::from_millis(300);
    let long = Duration::from_secs(30);
    Pace { poll: Duration::from_millis(20), begin: long, stale: long, unreachable: long, cancel: long, lock: short }
}

async fn backup(stand_in: &StandIn, name: &str, pace: Pace, seen: &mut Seen) -> Result<DescribedBackup> {
    let program = Program::new(&stand_in.path(), "prod", &Secret::new("mongodb://h/"));
    Follow {
        program: &program,
        cancel: &CancellationToken::new(),
        leave: &CancellationToken::new(),
        pace,
        watcher: seen,
    }
    .backup(name)
    .await
}

#[tokio::test]
async fn a_backup_is_followed_with_its_log_until_its_lock_is_free() {
    let stand_in = StandIn::new();
    stand_in
        .refuses("describe-backup", "describe-backup-unknown")
        .recorded("describe-backup", "describe-backup-running")
        .answers("describe-backup", &fixture("unreachable"), "", 1)
        .recorded("describe-backup", "describe-backup-done")
        .refuses("status-running", "restore-ask-status-at-once")
        // The lock outlives the end.
        .recorded("status-running", "status-running")
        .answers("status-running", NOTHING, "", 0)
        .recorded("logs", "logs-default");
    let mut seen = Seen::default();
    let done = backup(&stand_in, BACKUP, quick(), &mut seen).await.unwrap();
    assert!(done.status.is_good() && done.size == 56_071);
    assert_eq!(seen.states.len(), 2);
    assert_eq!((seen.states[0].status.clone(), seen.states[0].bytes), (Status::DumpDone, Some(5_795)));
    let logged: Vec<LogEntry> = crate::engine::pbm::tests::answer("logs-default");
    assert_eq!(seen.lines.len(), logged.len(), "each line once, though it was asked three times");
    assert!(seen.troubles.len() == 1 && seen.troubles[0].contains("server selection error"), "{:?}", seen.troubles);
    assert!(stand_in.calls().contains(&format!("logs -e backup/{BACKUP} -t 500 -s I -o json")));
    assert_eq!(stand_in.calls().matches("status -s running").count(), 3);
}

/// PBM reads the storage to describe a backup that is not done.
#[tokio::test]
async fn a_backup_that_failed_with_its_storage_says_what_its_agents_said() {
    let line = |msg: &str| {
        let mut line: Value =
            serde_json::from_str(&fixture("logs-default")).map(|lines: Vec<Value>| lines[0].clone()).unwrap();
        (line["s"], line["msg"]) = (1.into(), msg.into());
        line
    };
    let said =
        serde_json::to_string(&[line("failed to upload oplog"), line("backup: upload to S3: connection refused")])
            .unwrap();
    let down = "Error: check read access: dial tcp 127.0.0.1:9000: connect: connection refused";
    let stand_in = StandIn::new();
    stand_in
        .recorded("describe-backup", "describe-backup-running")
        .answers("describe-backup", "", down, 1)
        .recorded("status-running", "status-running")
        .recorded("status-running", "status-running")
        .answers("status-running", NOTHING, "", 0)
        .answers("logs", "[]", "", 0)
        .answers("logs", &said, "", 0);
    let mut seen = Seen::default();
    let error = backup(&stand_in, BACKUP, quick(), &mut seen).await.unwrap_err();
    let expected = format!("PBM's backup {BACKUP} failed: upload to S3: connection refused");
    assert!(error.full().starts_with(&expected), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "it may be back");
    assert_eq!(seen.states.last().unwrap().status, Status::Error);

    // One that is at work, or was done meanwhile, is not given up.
    let stand_in = StandIn::new();
    stand_in
        .recorded("describe-backup", "describe-backup-running")
        .answers("describe-backup", "", down, 1)
        .recorded("describe-backup", "describe-backup-done")
        .answers("status-running", NOTHING, "", 0)
        .answers("logs", &said, "", 0);
    let done = backup(&stand_in, BACKUP, quick(), &mut Seen::default()).await.unwrap();
    assert!(done.status.is_good());
}

#[tokio::test]
async fn a_cancel_is_passed_on_and_the_end_is_waited_for() {
    let name = "2026-11-29T09:27:57Z";
    let stand_in = StandIn::new();
    stand_in
        .recorded("describe-backup", "cancel-describe-soon")
        .recorded("describe-backup", "cancel-describe-soon")
        .refuses("describe-backup", "cancel-describe")
        .recorded("cancel-backup", "cancel")
        .recorded("status-backups", "cancel-status")
        .answers("status-running", NOTHING, "", 0)
        .answers("logs", "[]", "", 0);
    let program = Program::new(&stand_in.path(), "prod", &Secret::new("mongodb://h/"));
    let (cancel, mut seen) = (CancellationToken::new(), Seen::default());
    cancel.cancel();
    let mut follow = Follow {
        program: &program,
        cancel: &cancel,
        leave: &CancellationToken::new(),
        pace: quick(),
        watcher: &mut seen,
    };
    let error = follow.backup(name).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(stand_in.calls().matches("cancel-backup").count(), 1);
    assert_eq!(seen.states.last().unwrap().status, Status::Canceled);
}

/// Files go before the status changes, which PBM shows as an error then.
#[tokio::test]
async fn a_backup_that_somebody_else_cancelled_says_so() {
    let name = "2026-11-29T09:27:57Z";
    let stand_in = StandIn::new();
    let going = fixture("cancel-status").replace("\"canceled\"", "\"error\"");
    let at = going.find("dump: dump").unwrap();
    let going = format!("{}missed file{}", &going[..at], &going[at + going[at..].find('"').unwrap()..]);
    stand_in
        .recorded("describe-backup", "cancel-describe-soon")
        .refuses("describe-backup", "cancel-describe")
        .answers("status-backups", &going, "", 0)
        .recorded("status-backups", "cancel-status")
        .answers("status-running", NOTHING, "", 0)
        .answers("logs", "[]", "", 0);
    let error = backup(&stand_in, name, quick(), &mut Seen::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.full().contains("was cancelled by somebody else"), "{error}");
}

/// `describe-backup` says `starting` for ever.
#[tokio::test]
async fn a_backup_that_is_stuck_is_named() {
    let stand_in = StandIn::new();
    let held = r#"{"running":{"type":"backup","opID":"6b0bf24ba381737b5541b802","name":"2026-11-29T09:37:15Z"}}"#;
    stand_in
        .recorded("describe-backup", "physical-describe")
        .recorded("status-cluster", "agentback-status")
        .answers("status-running", held, "", 0)
        .recorded("status-backups", "physical-status")
        .answers("logs", "null", "", 0);
    let pace = Pace { stale: Duration::from_millis(100), ..quick() };
    let error = backup(&stand_in, "2026-11-29T09:37:15Z", pace, &mut Seen::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(
        error.full().starts_with("PBM's backup 2026-11-29T09:37:15Z is stuck at starting: Backup stuck"),
        "{error}"
    );
    let stand_in = StandIn::new();
    stand_in
        .recorded("describe-backup", "describe-backup-running")
        .recorded("status-cluster", "agentdead-status-2min")
        .answers("status-running", NOTHING, "", 0)
        .answers("logs", "[]", "", 0);
    let error = backup(&stand_in, BACKUP, pace, &mut Seen::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Interrupted && error.full().contains("no agent is alive in sh2"), "{error}");
}

/// Nothing holds the lock, while the agents are alive.
#[tokio::test]
async fn a_backup_that_nobody_works_on_is_named_too() {
    let stand_in = StandIn::new();
    stand_in
        .recorded("describe-backup", "describe-backup-running")
        .recorded("status-cluster", "agentback-status")
        .answers("status-running", NOTHING, "", 0)
        .answers("logs", "[]", "", 0);
    let pace = Pace { stale: Duration::from_millis(100), ..quick() };
    let error = backup(&stand_in, BACKUP, pace, &mut Seen::default()).await.unwrap_err();
    assert!(error.full().contains("no agent works on it"), "{error}");
    let stand_in = StandIn::new();
    stand_in.refuses("describe-backup", "describe-backup-unknown");
    let pace = Pace { begin: Duration::from_millis(100), ..quick() };
    let error = backup(&stand_in, BACKUP, pace, &mut Seen::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.full().contains("does not know the backup"), "{error}");
}

#[tokio::test]
async fn what_waiting_cannot_mend_ends_it_at_once() {
    let stand_in = StandIn::new();
    stand_in.answers("describe-backup", "", "Error: get: (Unauthorized) not authorized on admin to execute", 1);
    let error = backup(&stand_in, BACKUP, quick(), &mut Seen::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let stand_in = StandIn::new();
    stand_in.refuses("describe-backup", "badpath-describe");
    let pace = Pace { unreachable: Duration::from_millis(100), ..quick() };
    let mut seen = Seen::default();
    let error = backup(&stand_in, BACKUP, pace, &mut seen).await.unwrap_err();
    assert!(error.full().contains("not a directory") && !seen.troubles.is_empty(), "{error}");
}

#[tokio::test]
async fn restores_are_followed_and_partly_done_is_not_done() {
    let stand_in = StandIn::new();
    let partly = r#"{"name":"r","opid":"1","status":"partlyDone","replsets":[{"name":"a","status":"partlyDone"}]}"#;
    stand_in
        .refuses("describe-restore", "restore-ask-describe-at-once")
        .recorded("describe-restore", "describe-restore-pitr-on")
        .recorded("describe-restore", "describe-restore-done")
        .answers("describe-restore", partly, "", 0)
        .answers("status-running", NOTHING, "", 0)
        .answers("logs", "[]", "", 0);
    let program = Program::new(&stand_in.path(), "prod", &Secret::new("mongodb://h/"));
    let (cancel, mut seen) = (CancellationToken::new(), Seen::default());
    let mut follow = Follow {
        program: &program,
        cancel: &cancel,
        leave: &CancellationToken::new(),
        pace: quick(),
        watcher: &mut seen,
    };
    let done = follow.restore("2026-11-29T09:24:25.450987549Z", RestoreKind::Logical).await.unwrap();
    assert_eq!(done.backup, BACKUP);
    let before = stand_in.calls().matches("status -s").count();
    let physical = RestoreKind::Physical { configuration: Path::new("/tmp/pbm.yaml") };
    let error = follow.restore("r", physical).await.unwrap_err();
    assert!(error.full().contains("only partly done: a is partlyDone"), "{error}");
    assert!(stand_in.calls().contains("describe-restore r --config /tmp/pbm.yaml -o json"));
    assert_eq!(stand_in.calls().matches("status -s").count(), before, "no server is asked");
    cancel.cancel();
    let error = Follow {
        program: &program,
        cancel: &cancel,
        leave: &CancellationToken::new(),
        pace: quick(),
        watcher: &mut seen,
    }
    .restore("r", RestoreKind::Logical)
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.hint_text().unwrap().contains("cannot cancel a restore"));
}

#[tokio::test]
async fn the_lock_is_waited_for() {
    let stand_in = StandIn::new();
    stand_in.recorded("status-running", "status-running").answers("status-running", NOTHING, "", 0);
    let program = Program::new(&stand_in.path(), "prod", &Secret::new("mongodb://h/"));
    let (cancel, mut seen) = (CancellationToken::new(), Seen::default());
    let mut follow = Follow {
        program: &program,
        cancel: &cancel,
        leave: &CancellationToken::new(),
        pace: quick(),
        watcher: &mut seen,
    };
    assert!(!follow.until_free(Duration::ZERO).await.unwrap());
    assert!(follow.until_free(Duration::from_secs(20)).await.unwrap());
    assert!(refusal("restore-ask-status-at-once").contains("get restore info: not found"));
}
