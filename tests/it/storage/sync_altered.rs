//! Manifests that were altered and sealed again: one of them must not take the catalogue or its storage with it.

use mongokeep::domain::backup::BackupState;
use mongokeep::store::{Access, Store};

use super::stand::stand;

#[tokio::test]
async fn what_no_backup_can_be_like_is_named_and_left_out() {
    let stand = stand().await;
    stand.altered("big", |m| m.size_bytes = i64::MAX as u64).await;
    stand
        .altered("bigger", |m| {
            m.size_bytes += i64::MAX as u64;
            m.oplog[0].size += i64::MAX as u64;
        })
        .await;
    stand.altered("many", |m| m.documents = u64::MAX).await;
    stand.altered("late", |m| m.finished_at = "+262142-12-31T00:00:00Z".parse().unwrap()).await;
    stand.altered("early", |m| m.started_at = "-262142-01-01T00:00:00Z".parse().unwrap()).await;
    let report = stand.client.sync_storage("disk").await.unwrap();
    assert_eq!(report.added, ["made"]);
    for name in ["big", "bigger", "many", "late", "early"] {
        let named = report.unreadable.iter().any(|line| line.starts_with(&format!("shop/{name}: ")));
        assert!(named && stand.client.backup(name).is_err(), "{name}: {report:?}");
    }
    let storage = stand.client.storage("disk").unwrap();
    assert_eq!((storage.backups, storage.bytes), (1, stand.artifact.manifest.size_bytes));

    // One that was good is so no longer.
    stand.altered("made", |m| m.size_bytes = i64::MAX as u64).await;
    let report = stand.client.sync_storage("disk").await.unwrap();
    assert_eq!(report.unreadable.len(), 6, "{report:?}");
    assert_eq!(stand.client.backup("made").unwrap().state, BackupState::Incomplete);
}

/// Whatever a catalogue has taken in, by whatever version, its storage can be read.
#[tokio::test]
async fn sums_that_leave_64_bits_fail_nothing() {
    let stand = stand().await;
    stand.client.sync_storage("disk").await.unwrap();
    let file = rusqlite::Connection::open(stand.home.store_file()).unwrap();
    let copy =
        "INSERT INTO backups (name, service, storage, folder, engine, model, type, state, started_at, compression,
                    size_bytes)
                SELECT name || ?1, service, storage, folder, engine, model, type, state, started_at, compression,
                    9223372036854775807 FROM backups WHERE name = 'made'";
    for n in 0..3 {
        assert_eq!(file.execute(copy, [n]).unwrap(), 1);
    }
    let store = Store::open(&stand.home.store_file(), &stand.home.key_file(), Access::Write).unwrap();
    assert_eq!(store.storage_row("disk").unwrap().bytes, i64::MAX as u64);
    assert_eq!(store.storage("disk").unwrap().name, "disk");
}
