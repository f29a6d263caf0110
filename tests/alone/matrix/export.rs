//! An export is taken by `mongorestore --oplogReplay`, and what comes of it is what the source held.

use std::process::Stdio;

use mongodb::bson::{Document, doc};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::export;

use super::data;
use super::ground::{Ground, Stand};
use crate::support::recording::{Recording, folder};
use crate::support::tools::Tools;
use crate::support::{compare, pair};

/// What is exported of the source.
async fn recorded(source: &Stand, dir: &std::path::Path) -> LogicalManifest {
    let client = &source.client;
    data::fill(source).await;
    let mut recording = Recording::begin(client).await;
    for db in data::DATABASES {
        recording.read_database(db).await;
    }
    // Only in the oplog.
    let db = client.database("plain");
    let many = db.collection::<Document>("many");
    many.update_many(doc! {"_id": {"$lt": 100}}, doc! {"$set": {"sub.x": 1}, "$unset": {"filler": 1}}).await.unwrap();
    many.delete_many(doc! {"_id": {"$gte": 3900}}).await.unwrap();
    many.replace_one(doc! {"_id": 200}, doc! {"_id": 200, "whole": true}).await.unwrap();
    db.run_command(doc! {"createIndexes": "many", "indexes": [{"key": {"sub.x": 1}, "name": "x"}]}).await.unwrap();
    db.collection::<Document>("later").insert_many((0..50).map(|n| doc! {"_id": n})).await.unwrap();
    let rename = doc! {"renameCollection": "plain.later", "to": "plain.moved"};
    client.database("admin").run_command(rename).await.unwrap();
    recording.end(&folder(dir).await, "b").await
}

pub async fn is_taken_by_mongorestore(ground: Ground) {
    let Some(tools) = tokio::task::spawn_blocking(Tools::find).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let manifest = recorded(&ground.source, dir.path()).await;
    let root = BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let to = dir.path().join("dump");
    let report = export(&pair::context(), folder(dir.path()).await, &root, &to).await.unwrap();
    let command = report.command.strip_prefix("mongorestore ").unwrap();
    let program = tools.mongorestore().get_program().to_string_lossy().into_owned();
    let uri = format!("--uri '{}'", ground.target.set.uri());
    let line = format!("{program} {}", command.replace("--uri URI", &uri));
    let output = tokio::process::Command::new("sh").arg("-c").arg(&line).stdin(Stdio::null()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}\n{said}");
    let (expected, found) = (compare::state(&ground.source.client).await, compare::state(&ground.target.client).await);
    let lines = compare::differences(&expected, &found);
    assert!(lines.is_empty(), "{}\n{said}", lines.join("\n"));
}
