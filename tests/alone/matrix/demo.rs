//! The program itself, as a person runs its demo without a terminal: its daemon backs up, verifies and restores on this
//! version, agrees, says so, and leaves nothing behind.

use serde_json::{Value, json};

use super::ground::Ground;

pub async fn agrees(ground: Ground) {
    let temporary = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_mongokeep"))
        .args(["-o", "json", "demo", "--headless"])
        .env("MONGOKEEP_MONGOD", &ground.source.mongod.path)
        .env("TMPDIR", temporary.path())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["agreed"], true, "{summary}");
    assert_eq!(summary["differences"], json!([]));
    let number = |key: &str| summary[key].as_u64().unwrap();
    assert!(number("documents_compared") > 120_000, "{summary}");
    // The backup ended before the writer did, and began after it.
    assert!(0 < number("changes_in_backup") && number("changes_in_backup") < number("changes_recorded"), "{summary}");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?} stays");
}
