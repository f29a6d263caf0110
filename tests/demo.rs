//! The demo without a terminal, as a person starts it: it agrees, says so, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

#[test]
fn the_main_job_agrees_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mongokeep"))
        .args(["-o", "json", "demo", "--headless"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["agreed"], true, "{summary}");
    assert_eq!(summary["differences"], serde_json::json!([]));
    let number = |key: &str| summary[key].as_u64().unwrap();
    assert!(number("documents_compared") > 120_000, "{summary}");
    // The backup ended before the writer did, and began after it.
    assert!(0 < number("changes_in_backup") && number("changes_in_backup") < number("changes_recorded"), "{summary}");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?} stays");
}
