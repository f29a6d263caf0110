//! The program itself, as a person runs it: its daemon backs up, verifies and restores on this version, and agrees.

use serde_json::Value;

use crate::ground::Ground;

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
    assert!(summary["documents_compared"].as_u64().unwrap() > 120_000, "{summary}");
}
