use super::*;
use crate::engine::pbm::tests::answer;

fn list(json: &str) -> ListAnswer {
    serde_json::from_str(json).unwrap()
}

/// A cluster of `cfg`, `sh1` and `sh2` that is recorded.
fn recording() -> StatusAnswer {
    answer("pitr-status")
}

fn of(json: &str) -> EngineRecord {
    record_of(&recording(), &list(json)).unwrap()
}

fn spans(record: &EngineRecord) -> Vec<(u32, u32)> {
    record.covered().iter().map(|c| (c.after.ts.t, c.last.ts.t)).collect()
}

#[test]
fn what_is_recorded_of_a_cluster_is_what_all_of_its_replica_sets_have() {
    let list: ListAnswer = answer("pitr-list-full");
    let record = record_of(&recording(), &list).unwrap();
    assert_eq!(record.replica_sets.keys().collect::<Vec<_>>(), ["cfg", "sh1", "sh2"]);
    let (start, end) = (record.covered()[0].after.ts.t, record.covered()[0].last.ts.t);
    // PBM's own range begins a second after its base.
    assert_eq!(list.pitr.ranges[0].range.end, Moment::Unix(i64::from(end)));
    assert!(start < end);
    // Without --full nothing is known of any replica set.
    let bare = record_of(&recording(), &answer("pitr-list")).unwrap();
    assert_eq!(bare.without_any(), ["cfg", "sh1", "sh2"]);
}

#[test]
fn a_gap_of_one_replica_set_is_one_of_the_cluster() {
    let record = of(r#"{"snapshots":[],"pitr":{"on":true,"ranges":[],"rsRanges":{
        "cfg":[{"range":{"start":100,"end":400}}],
        "sh1":[{"range":{"start":100,"end":200}},{"range":{"start":260,"end":390}}],
        "sh2":[{"range":{"start":110,"end":380}}],
        "gone":[{"range":{"start":1,"end":2}}]}}}"#);
    assert_eq!(spans(&record), [(110, 200), (260, 380)]);
    let gaps = record.gaps();
    assert_eq!((gaps.len(), gaps[0].from_ts.t, gaps[0].to_ts.t), (1, 200, 260));
    assert!(gaps[0].reason.ends_with("of sh1"), "{}", gaps[0].reason);
}

/// PBM promises what the others have.
#[test]
fn a_replica_set_without_chunks_leaves_no_window() {
    let json = r#"{"snapshots":[],"pitr":{"on":true,"ranges":[{"range":{"start":101,"end":400}}],"rsRanges":{
        "cfg":[{"range":{"start":100,"end":400}}],"sh1":[{"range":{"start":100,"end":400}}],
        "sh2":[{"range":{"start":0,"end":0}}]}}}"#;
    let record = of(json);
    assert_eq!((spans(&record), record.without_any()), (vec![], vec!["sh2"]));
    let state = state_of("prod", &recording(), record, true, &Redactor::default());
    assert!(state.running && state.error.unwrap().full().contains("of the replica sets sh2"));
    let error = must_reach("prod", &of(json), Timestamp::new(150, 0), Timestamp::new(200, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.full().contains("nothing that every replica set has"), "{error}");
}

#[test]
fn a_range_that_cannot_be_restored_or_read_is_not_counted_on() {
    let damaged =
        of(r#"{"snapshots":[],"pitr":{"on":true,"rsRanges":{"cfg":[{"range":{"start":1,"end":9},"error":"boom"}]}}}"#);
    assert_eq!(damaged.without_any(), ["cfg", "sh1", "sh2"]);
    let odd = r#"{"snapshots":[],"pitr":{"on":true,"rsRanges":{"cfg":[{"range":{"start":"soon","end":"later"}}]}}}"#;
    let error = record_of(&recording(), &list(odd)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn the_way_must_be_whole() {
    let record = of(r#"{"snapshots":[],"pitr":{"on":true,"rsRanges":{
        "cfg":[{"range":{"start":100,"end":400}}],"sh2":[{"range":{"start":100,"end":400}}],
        "sh1":[{"range":{"start":100,"end":200}},{"range":{"start":260,"end":400}}]}}}"#);
    let reach = |base: u32, until: (u32, u32)| {
        must_reach("prod", &record, Timestamp::new(base, 7), Timestamp::new(until.0, until.1))
    };
    assert!(reach(100, (199, u32::MAX)).is_ok() && reach(100, (200, 0)).is_ok());
    assert!(reach(260, (399, u32::MAX)).is_ok());
    for (base, until) in [(100, (200, 1)), (100, (300, 0)), (50, (150, 0)), (300, (400, u32::MAX))] {
        let error = reach(base, until).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{base} {until:?}");
        assert!(error.full().contains("it has 1970-01-01T00:01:40Z to 1970-01-01T00:03:20Z, "), "{error}");
    }
}

#[test]
fn the_state_says_what_is_wrong() {
    let whole = || {
        of(r#"{"snapshots":[],"pitr":{"on":true,"rsRanges":{"cfg":[{"range":{"start":1,"end":9}}],
        "sh1":[{"range":{"start":1,"end":9}}],"sh2":[{"range":{"start":1,"end":9}}]}}}"#)
    };
    let state_with = |status: &StatusAnswer, has_base: bool| {
        let state = state_of("prod", status, whole(), has_base, &Redactor::default());
        let RecordingState { running, begins, error, needs_base, .. } = state;
        let error = error.map(|e| e.full()).unwrap_or_default();
        assert!(!begins || (!running && !error.is_empty() && !needs_base), "what is about to begin does not run");
        ((running, error, needs_base), begins)
    };
    let state = |status: &StatusAnswer| state_with(status, true).0;
    assert_eq!(state(&recording()), (true, String::new(), false));
    let mut status = recording();
    let pitr = |status: &mut StatusAnswer, conf, run, error: Option<&str>| {
        let pitr = status.pitr.as_mut().unwrap();
        (pitr.conf, pitr.run, pitr.error) = (conf, run, error.map(str::to_owned));
    };
    pitr(&mut status, false, false, None);
    assert!(state(&status).1.contains("switched off"));
    pitr(&mut status, true, false, None);
    assert!(!state(&status).0 && state(&status).1.contains("has not begun"));
    assert!(state_with(&status, true).1);
    let (nothing, begins) = state_with(&status, false);
    assert!(nothing.1.contains("begins to record with the first base") && !begins, "{nothing:?}");
    let no_backup =
        "E [rs0/h:1] [pitr] init: catchup: get last backup: no backup found. full backup is required to start PITR";
    pitr(&mut status, true, false, Some(no_backup));
    let (first, begins) = state_with(&status, false);
    assert!(!first.0 && first.1.contains("begins to record with the first base") && !first.2 && !begins, "{first:?}");
    // Of the time before the base: PBM has not looked again.
    let (after, begins) = state_with(&status, true);
    assert!(!after.0 && after.1.contains("has not begun") && begins, "{after:?}");
    pitr(&mut status, true, true, Some(no_backup));
    assert_eq!(state(&status), (true, String::new(), false));
    // Another replica set has another trouble.
    pitr(&mut status, true, false, Some(&format!("{no_backup}; E [sh1/h:1] [pitr] init: boom")));
    let (two, begins) = state_with(&status, true);
    assert!(two.1.ends_with("PBM says: E [sh1/h:1] [pitr] init: boom") && !begins, "{two:?}");
    pitr(&mut status, true, false, Some(no_backup));
    // While it is made, all is well.
    status.running.as_mut().unwrap().kind = "backup".into();
    assert_eq!(state(&status), (true, String::new(), false));
    status.running.as_mut().unwrap().kind = String::new();
    pitr(
        &mut status,
        true,
        true,
        Some(
            "E [rs0/h:1] [pitr] streaming oplog: oplog has insufficient range, some records since the last saved ts {1 2} are missing",
        ),
    );
    let lost = state(&status);
    assert!(!lost.0 && lost.1.contains("insufficient range") && lost.2, "{lost:?}");
    // An error of one node while the others go on.
    pitr(&mut status, true, true, Some("E [sh1/h:1] [pitr] init: boom"));
    let some = state(&status);
    assert!(some.0 && some.1.contains("boom") && !some.2, "{some:?}");
    let restored = state(&StatusAnswer { cluster: recording().cluster, ..answer("pitr-nobase-status") });
    assert!(!restored.0 && restored.2, "{restored:?}");
    let dead: StatusAnswer = answer("agentdead-status-2min");
    let dead = StatusAnswer { pitr: recording().pitr, ..dead };
    let dead = state(&dead);
    assert!(!dead.0 && dead.1.contains("no pbm-agent is alive in the replica sets sh2"), "{dead:?}");
}

#[test]
fn slices_are_told_in_minutes() {
    for (seconds, told) in [(60, 1.0), (5, 0.0833), (10, 0.1667), (90, 1.5), (3600, 60.0)] {
        assert_eq!(minutes(Duration::from_secs(seconds)), told);
    }
}

#[test]
fn the_oldest_base_is_a_whole_backup_of_the_first_storage() {
    let status: StatusAnswer = answer("pitr-nobase-status");
    let snapshots = status.backups.unwrap().snapshot;
    // One is in another storage, one of a part.
    assert_eq!(snapshots.len(), 3);
    assert_eq!(oldest_base(&snapshots), Some(Timestamp::new(1_795_944_697, 0)));
    assert_eq!(oldest_base(&[]), None);
}
