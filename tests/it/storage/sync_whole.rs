//! What a sync lists as good is whole: what the manifests name is compared with what is there.

use std::fs;
use std::path::PathBuf;

use mongokeep::client::{Client, SyncReport};
use mongokeep::domain::backup::BackupState;
use mongokeep::domain::storage_check::FindingKind;
use mongokeep::engine::Meter;
use tokio_util::sync::CancellationToken;

use super::stand::{Stand, add_disk, stand};

/// The first part of the collection of the backup.
fn part(stand: &Stand) -> PathBuf {
    stand.path().join("shop/backups/made/data/shop/orders/00000.bson.zst")
}

/// A machine that never saw the storage.
fn fresh(stand: &Stand) -> (tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::open(&mongokeep::config::Home::below(&dir.path().join("home")), false).unwrap();
    add_disk(&client, "disk", &stand.path());
    (dir, client)
}

async fn sync(client: &Client) -> SyncReport {
    client.sync_storage("disk").await.unwrap()
}

#[tokio::test]
async fn what_lacks_something_is_listed_as_incomplete_until_it_is_back() {
    let stand = stand().await;
    assert_eq!(sync(&stand.client).await.added, ["made"]);
    let (path, bytes) = (part(&stand), fs::read(part(&stand)).unwrap());
    for (what, damaged) in [("it is missing", None), ("it has", Some([&bytes[..], b"x"].concat()))] {
        match &damaged {
            Some(longer) => fs::write(&path, longer).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        // Where it was good, where it is marked already, and where nobody knows it.
        let (_dir, other) = fresh(&stand);
        for client in [&stand.client, &stand.client, &other] {
            let report = sync(client).await;
            assert!(!report.is_ok() && report.added.is_empty() && report.unreadable.is_empty(), "{report:?}");
            let line = &report.not_whole[0];
            assert!(line.starts_with("shop/made: shop/backups/made/data/") && line.contains(what), "{line}");
            let listed = client.backup("made").unwrap();
            assert_eq!((listed.state, listed.is_good()), (BackupState::Incomplete, false), "{listed:?}");
            assert!(listed.error.unwrap().contains(what));
        }
        fs::write(&path, &bytes).unwrap();
        for client in [&stand.client, &other] {
            let report = sync(client).await;
            assert!(report.is_ok() && report.added == ["made"], "{report:?}");
            assert!(report.warnings[0].contains("mongokeep backup verify made"), "{report:?}");
            // What was damaged is good again when somebody has read all of it.
            let listed = client.backup("made").unwrap();
            assert_eq!((listed.state, listed.is_good()), (BackupState::Succeeded, false), "{listed:?}");
            assert_eq!(sync(client).await.unchanged, 1);
        }
    }
}

#[tokio::test]
async fn a_plan_changes_nothing_and_says_what_would() {
    let stand = stand().await;
    let read_only = || Client::open(&stand.home, true).unwrap();
    let plan = read_only().plan_sync("disk").await.unwrap();
    assert!(plan.report.planned && plan.report.added == ["made"] && plan.changes_something(), "{plan:?}");
    assert!(stand.client.backup("made").is_err(), "a plan changed the catalogue");
    assert!(read_only().carry_out_sync(plan.clone()).await.is_err());

    // What goes before it is carried out is not added.
    let (at, aside) = (stand.path().join("shop/backups/made"), stand.path().join("aside"));
    fs::rename(&at, &aside).unwrap();
    let report = stand.client.carry_out_sync(plan.clone()).await.unwrap();
    assert!(report.added.is_empty() && !report.planned, "{report:?}");
    assert!(stand.client.backup("made").is_err());
    fs::rename(&aside, &at).unwrap();
    assert_eq!(stand.client.carry_out_sync(plan).await.unwrap().added, ["made"]);
    assert!(stand.client.backup("made").unwrap().is_good());

    let plan = stand.client.plan_sync("disk").await.unwrap();
    assert!(!plan.changes_something() && plan.report.unchanged == 1, "{plan:?}");
    fs::remove_file(part(&stand)).unwrap();
    let plan = stand.client.plan_sync("disk").await.unwrap();
    assert!(plan.changes_something() && plan.report.not_whole.len() == 1, "{plan:?}");
    assert!(stand.client.backup("made").unwrap().is_good(), "a plan changed the catalogue");
    stand.client.carry_out_sync(plan).await.unwrap();
    let plan = stand.client.plan_sync("disk").await.unwrap();
    assert!(!plan.changes_something() && plan.report.not_whole.len() == 1, "{plan:?}");
    fs::remove_dir_all(&at).unwrap();
    let (_dir, other) = fresh(&stand);
    let plan = other.plan_sync("disk").await.unwrap();
    assert!(!plan.changes_something() && plan.report.is_ok(), "{plan:?}");
}

/// Between a plan and its confirmation somebody finds out more.
#[tokio::test]
async fn what_changed_since_it_was_planned_stays_as_it_is() {
    let stand = stand().await;
    sync(&stand.client).await;
    let plan = stand.client.plan_sync("disk").await.unwrap();
    fs::remove_file(part(&stand)).unwrap();
    let silent = (std::sync::Arc::new(Meter::silent()), CancellationToken::new());
    assert!(!stand.client.check_storage("disk", silent.0, silent.1).await.unwrap().ok);
    stand.client.carry_out_sync(plan).await.unwrap();
    assert_eq!(stand.client.backup("made").unwrap().state, BackupState::Incomplete, "it was made good again");
}

/// A name has one row, so that only the first of it is listed.
#[tokio::test]
async fn attempts_of_one_name_in_several_folders_change_the_catalogue_once() {
    let stand = stand().await;
    for folder in ["a", "b"] {
        let at = stand.path().join(folder).join("backups/same");
        fs::create_dir_all(&at).unwrap();
        let attempt = serde_json::json!({
            "format_version": 1, "attempt_id": "01", "name": "same", "service": "prod", "home_id": "another", "host": "host-b",
            "pid": 1, "started_at": "2026-11-29T06:29:06Z",
        });
        fs::write(at.join("attempt.json"), attempt.to_string()).unwrap();
    }
    let report = sync(&stand.client).await;
    assert_eq!(report.incomplete.len(), 2, "{report:?}");
    let plan = stand.client.plan_sync("disk").await.unwrap();
    assert!(!plan.changes_something(), "{plan:?}");
}

/// A copy of a storage, or another path to it: nothing is wrong with what is listed already.
#[tokio::test]
async fn what_the_catalogue_has_from_elsewhere_is_named_so() {
    let stand = stand().await;
    sync(&stand.client).await;
    add_disk(&stand.client, "again", &stand.path());
    let report = stand.client.sync_storage("again").await.unwrap();
    assert!(report.is_ok() && report.unreadable.is_empty() && report.unchanged == 0, "{report:?}");
    assert_eq!(report.elsewhere, ["shop/made: it is listed as one of storage disk, folder shop"]);
    assert_eq!(stand.client.backup("made").unwrap().storage, "disk");
    let silent = (std::sync::Arc::new(Meter::silent()), CancellationToken::new());
    let checked = stand.client.check_storage("again", silent.0, silent.1).await.unwrap();
    let unknown = checked.findings.iter().find(|f| f.kind == FindingKind::UnknownBackup).unwrap();
    assert_eq!(unknown.detail, "the catalogue has a backup of this name in storage disk, as shop/made");
    assert!(unknown.remedy.as_ref().unwrap().starts_with("mongokeep storage sync again says"), "{unknown:?}");

    // Another backup of that name.
    stand.altered("made", |manifest| manifest.started_at += chrono::TimeDelta::seconds(1)).await;
    let report = stand.client.sync_storage("again").await.unwrap();
    assert!(!report.is_ok() && report.elsewhere.is_empty(), "{report:?}");
    assert_eq!(report.name_taken, ["shop/made: the other one is in storage disk, folder shop"]);
}
