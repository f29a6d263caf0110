//! An export whose documents were read under another form of their `_id`, taken as `mongorestore` takes it: the files
//! first, then each entry of the oplog in a command of its own.

use std::path::Path;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::engine::logical::{export, verify};

use crate::support::compare;
use crate::support::pair::{Pair, context};
use crate::support::recording::{doubles, folder, other_forms};

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

/// Each entry in a command of its own.
async fn apply(client: &mongodb::Client, oplog: &Path) {
    for entry in documents(oplog) {
        let mut entry = Document::try_from(entry).unwrap();
        for field in ["ts", "t", "v", "wall"] {
            entry.remove(field);
        }
        client.database("admin").run_command(doc! {"applyOps": [entry]}).await.unwrap();
    }
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
    apply(&pair.to, &to.join("oplog.bson")).await;
    compare::assert_same(&expected, &compare::state(&pair.to).await, "forms");
}

/// Of a document that stands in the parts twice the export writes none: the oplog inserts it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_parts_twice_is_exported_once() {
    let pair = Pair::start().await;
    let recording = doubles(&pair.from).await;
    let expected = compare::state(&pair.from).await;
    let storage = folder(pair.dir.path()).await;
    let manifest = recording.end(&storage, "twice").await;
    let root = BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let verified = verify(&context(), storage.clone(), &root).await.unwrap();
    assert!(verified.is_good(), "{:?}", verified.problems);
    let to = pair.dir.path().join("dump");
    let report = export(&context(), storage, &root, &to).await.unwrap();

    let db = pair.to.database("d");
    db.run_command(doc! {"create": "words", "collation": {"locale": "fr", "strength": 1}}).await.unwrap();
    let mut written = 0;
    for name in ["words", "c"] {
        let documents = documents(&to.join("d").join(format!("{name}.bson")));
        written += documents.len() as u64;
        db.collection::<RawDocumentBuf>(name).insert_many(documents).await.unwrap();
    }
    // Six stood in it twice, and of the one in another form under the collation the later stays.
    assert_eq!((manifest.documents, report.documents, written), (1011, 1000, 1000));
    apply(&pair.to, &to.join("oplog.bson")).await;
    compare::assert_same(&expected, &compare::state(&pair.to).await, "twice");
}
