//! `storage check`: what a storage holds against its manifests, and the repair of it.

mod blocks;
mod filesystem;
mod s3;

use std::path::Path;

use serde_json::Value;

use crate::support::program::{Home, Ran};

/// The kinds of finding, with the object or the backup each is about.
fn found(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = |f: &Value| if f["object"].is_string() { text(&f["object"]) } else { text(&f["backup"]) };
    report["findings"].as_array().unwrap().iter().map(|f| (text(&f["kind"]), about(f))).collect()
}

fn of_kind(report: &Value, kind: &str) -> Vec<Value> {
    report["findings"].as_array().unwrap().iter().filter(|f| f["kind"] == kind).cloned().collect()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", ran.stdout, ran.stderr))
}

/// Checks `storage`, which must end with `code`.
fn check(home: &Home, storage: &str, code: i32) -> Value {
    let ran = home.run(&["storage", "check", storage]);
    assert_eq!(ran.code, code, "{}\n{}", ran.stdout, ran.stderr);
    json(&ran)
}

fn make(home: &Home, storage: &str, name: &str, folder: &str) {
    let of =
        ["backup", "create", "--service", "src", "--storage", storage, "--name", name, "--folder", folder, "--wait"];
    home.ok(&of);
}

/// The attempt of another installation, with one object of its own.
fn foreign_attempt(at: &Path, name: &str) {
    std::fs::create_dir_all(at.join("data/shop/items")).unwrap();
    let attempt = serde_json::json!({
        "format_version": 1, "attempt_id": "ffff", "name": name, "service": "theirs", "home_id": "another-home",
        "host": "db7.example.com", "pid": 7, "started_at": chrono::Utc::now().to_rfc3339(),
    });
    std::fs::write(at.join("attempt.json"), attempt.to_string()).unwrap();
    std::fs::write(at.join("data/shop/items/00000.bson.zst"), b"not finished").unwrap();
}
