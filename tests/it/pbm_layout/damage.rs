//! Damage to what PBM left is found before it is restored; nothing of it is deleted unasked.

use super::{Stand, backups};
use crate::support::command::{json_of, run};

/// Inverts a bit of the byte in the middle of an object.
fn damage(stand: &Stand, path: &str) {
    let path = stand.object(path);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_collection_is_found_with_every_compression() {
    let stand = Stand::new("v2.15").await;
    for (compression, name) in backups() {
        let suffix = match compression.as_str() {
            "none" => "",
            "gzip" | "pgzip" => ".gz",
            "snappy" => ".snappy",
            "lz4" => ".lz4",
            "s2" => ".s2",
            _ => ".zst",
        };
        let path = format!("{name}/rs0/shop.orders{suffix}");
        damage(&stand, &path);
        let found = run(&stand.home, &format!("backup verify {name}"));
        assert_eq!(found.code, 1, "{found:?}");
        assert!(found.stderr.contains(&path), "{found:?}");
        let restored = run(&stand.home, &format!("restore {name} --to copy --yes --wait"));
        assert_ne!(restored.code, 0, "{restored:?}");
        std::fs::remove_file(stand.object(&path)).unwrap();
        let found = run(&stand.home, &format!("backup verify {name}"));
        assert!(found.code == 1 && found.stderr.contains("missing"), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_lost_piece_of_the_oplog_is_found() {
    let stand = Stand::new("v2.15").await;
    let (_, name) = &backups()[0];
    let day = std::fs::read_dir(stand.object("pbmPitr/rs0")).unwrap().next().unwrap().unwrap().path();
    let mut chunks: Vec<_> = std::fs::read_dir(day).unwrap().map(|e| e.unwrap().path()).collect();
    chunks.sort();
    let chunk = &chunks[chunks.len() / 2];
    let sound = std::fs::read(chunk).unwrap();
    std::fs::write(chunk, &sound[..sound.len() - 3]).unwrap();
    let line = format!("restore --service rs0 --time latest --base {name} --to copy --yes --wait");
    let broken = run(&stand.home, &line);
    let file = chunk.file_name().unwrap().to_str().unwrap();
    assert!(broken.code == 1 && broken.stderr.contains(file), "{broken:?}");
    std::fs::remove_file(chunk).unwrap();
    let synced = run(&stand.home, "storage sync pbm -o json").json();
    assert_eq!(synced["slices"]["missing"], 1, "{synced}");
    let status = json_of(&stand.home, "pitr status --service rs0");
    assert_eq!(status[0]["ranges"].as_array().unwrap().len(), 2, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_unless_it_is_asked_for() {
    let stand = Stand::new("v2.15").await;
    let (_, name) = &backups()[1];
    let refused = run(&stand.home, &format!("backup delete {name} --yes"));
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(stand.object(&format!("{name}.pbm.json")).exists());
    stand.good(&format!("backup delete {name} --foreign --yes"));
    assert!(!stand.object(&format!("{name}.pbm.json")).exists());
    assert!(!stand.object(&format!("{name}/rs0/meta.pbm")).exists());
    // The others, and the recorded oplog, are as they were.
    let synced = json_of(&stand.home, "storage sync pbm");
    assert_eq!((&synced["unchanged"], &synced["slices"]["missing"]), (&6.into(), &0.into()), "{synced}");
}
