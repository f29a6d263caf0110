//! An export whose documents were read under another form of their `_id`, taken as `mongorestore` takes it: the files
//! first, then each entry of the oplog in a command of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::engine::logical::export;
use support::compare;
use support::pair::{Pair, context};
use support::recording::{folder, other_forms};

fn documents(path: &Path) -> Vec<RawDocumentBuf> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = i32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        all.push(RawDocumentBuf::from_bytes(rest[..length].to_vec()).unwrap());
        rest = &rest[length..];
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_comes_back_in_another_form() {
    let pair = Pair::start().await;
    let recording = other_forms(&pair.from).await;
    let expected = compare::state(&pair.from).await;
    let storage = folder(pair.dir.path()).await;
    let manifest = recording.end(&storage, "forms").await;
    let root = BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let to = pair.dir.path().join("dump");
    export(&context(), storage, &root, &to).await.unwrap();

    let db = pair.to.database("d");
    db.run_command(doc! {"create": "words", "collation": {"locale": "fr", "strength": 1}}).await.unwrap();
    let clustered = doc! {"key": {"_id": 1}, "unique": true};
    db.run_command(doc! {"create": "clustered", "clusteredIndex": clustered}).await.unwrap();
    for name in ["words", "numbers", "clustered"] {
        let documents = documents(&to.join("d").join(format!("{name}.bson")));
        db.collection::<RawDocumentBuf>(name).insert_many(documents).await.unwrap();
    }
    for entry in documents(&to.join("oplog.bson")) {
        let mut entry = Document::try_from(entry).unwrap();
        for field in ["ts", "t", "v", "wall"] {
            entry.remove(field);
        }
        pair.to.database("admin").run_command(doc! {"applyOps": [entry]}).await.unwrap();
    }
    compare::assert_same(&expected, &compare::state(&pair.to).await, "forms");
}
