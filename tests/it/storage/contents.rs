//! What a location holds is read for the form of its storage, before anything is saved.

use std::path::Path;

use mongokeep::client::{Client, Holdings, Values};
use mongokeep::domain::timestamp::Timestamp;

use super::stand::stand;

fn values(path: &Path) -> Values {
    let values = [("name", "new"), ("type", "filesystem"), ("path", path.to_str().unwrap())];
    values.map(|(key, text)| (key.to_owned(), vec![text.to_owned()])).into()
}

async fn held(client: &Client, path: &Path) -> Holdings {
    client.draft_holdings(None, &values(path)).await.unwrap()
}

#[tokio::test]
async fn the_manifests_of_a_location_say_what_it_holds() {
    let stand = stand().await;
    let path = stand.path();
    let manifest = &stand.artifact.manifest.envelope;
    let at = Some(manifest.consistent_at_ts.to_datetime());
    let whole = Holdings { backups: vec![(at, manifest.size_bytes)], ..Holdings::default() };
    assert_eq!(held(&stand.client, &path).await, whole);
    // Also where it is edited, and by whoever may only look.
    let client = Client::open(&stand.home, true).unwrap();
    let edit = Values::from([("path".to_owned(), vec![path.to_str().unwrap().to_owned()])]);
    assert_eq!(client.draft_holdings(Some("disk"), &edit).await.unwrap(), whole);
    assert!(stand.client.backups().unwrap().is_empty(), "a look changes no catalogue");

    // Attempts without a manifest, manifests that are of no use, and backups of which nothing says when they were made.
    std::fs::create_dir_all(path.join("shop/backups/begun")).unwrap();
    std::fs::write(path.join("shop/backups/begun/attempt.json"), "{}").unwrap();
    std::fs::create_dir_all(path.join("shop/backups/broken")).unwrap();
    std::fs::write(path.join("shop/backups/broken/manifest.json"), "{").unwrap();
    stand
        .altered("undated", |manifest| {
            manifest.envelope.consistent_at_ts = Timestamp::MIN;
            manifest.envelope.started_at = chrono::DateTime::UNIX_EPOCH;
        })
        .await;
    let held = held(&stand.client, &path).await;
    assert_eq!((held.incomplete, held.unreadable, held.is_part), (1, 1, false), "{held:?}");
    let mut dates: Vec<_> = held.backups.iter().map(|(at, _)| *at).collect();
    dates.sort();
    assert_eq!(dates, [None, at]);
}

#[tokio::test]
async fn a_folder_that_is_not_there_holds_nothing_and_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::open(&mongokeep::config::Home::below(&dir.path().join("home")), false).unwrap();
    let path = dir.path().join("new");
    assert_eq!(held(&client, &path).await, Holdings::default());
    assert!(!path.exists());
    // What others left there is held as well.
    let dump = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mongodump");
    assert!(!held(&client, &dump).await.backups.is_empty());
}

#[tokio::test]
async fn what_pbm_made_for_us_is_counted_once() {
    let stand = stand().await;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pbm_layout/v2.15");
    crate::pbm_layout::copy(&fixture, &stand.path().join("shop/pbm"));
    let files = std::fs::read_dir(fixture).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = files.filter_map(|file| Some(file.strip_suffix(".pbm.json")?.to_owned())).collect();
    let many = |held: &Holdings| held.backups.len() + held.unreadable as usize;
    let theirs = held(&stand.client, &stand.path()).await;
    assert!(!names.is_empty() && many(&theirs) > 1, "{theirs:?}");
    for (i, name) in names.iter().enumerate() {
        stand.altered(&format!("driven-{i}"), |manifest| manifest.envelope.pbm_name = Some(name.clone())).await;
    }
    let ours = held(&stand.client, &stand.path()).await;
    assert_eq!(many(&ours), 1 + names.len(), "{ours:?}");
}
