//! What an earlier version wrote stays readable: `tests/fixtures/written-by-VERSION` is a storage as that version left it,
//! with a backup that begins a recorded oplog. A change of the format that forgets it fails here.

use std::path::{Path, PathBuf};

use mongodb::bson::{Bson, Document, doc};

use crate::support;
use crate::support::command::{Home, good, json_of};

const BACKUP: &str = "line-20261129-062906";
/// After the changes that were made behind the backup.
const MOMENT: &str = "1795933749,57";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

/// How many documents each collection of `shop` holds, and what changes leave behind.
async fn found(client: &mongodb::Client) -> Document {
    let shop = client.database("shop");
    let mut found = Document::new();
    for name in ["orders", "kinds", "sorts", "ring", "temperatures", "recent"] {
        found.insert(name, shop.collection::<Document>(name).count_documents(doc! {}).await.unwrap() as i64);
    }
    let orders = shop.collection::<Document>("orders");
    found.insert("late", orders.count_documents(doc! {"late": true}).await.unwrap() as i64);
    let mut indexes: Vec<_> = orders.list_index_names().await.unwrap();
    indexes.sort();
    found.insert("indexes", indexes);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_of_version_0_1_0_is_read_verified_and_restored() {
    let home = Home::new();
    let storage = home.dir().join("storage");
    let fixture: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", "written-by-0.1.0"].iter().collect();
    copy(&fixture, &storage);
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    good(&home, &format!("storage add old --type filesystem --path {}", storage.display()));
    good(&home, &format!("service add copy --uri {}", set.uri()));
    let synced = json_of(&home, "storage sync old");
    assert_eq!(synced["added"].as_array().unwrap().len(), 1, "{synced}");
    assert_eq!(synced["unreadable"].as_array().unwrap().len(), 0, "{synced}");
    good(&home, &format!("backup verify {BACKUP}"));

    good(&home, &format!("restore {BACKUP} --to copy --yes --wait"));
    let indexes = Bson::from(vec!["_id_", "at_1", "by text", "n_1"]);
    let base = doc! {
        "orders": 300i64, "kinds": 9i64, "sorts": 0i64, "ring": 20i64, "temperatures": 40i64, "recent": 43i64, "late": 0i64,
        "indexes": indexes.clone(),
    };
    assert_eq!(found(&client).await, base);
    let odd = client.database("odd-name").collection::<Document>("a.b c/d");
    assert_eq!(odd.count_documents(doc! {}).await.unwrap(), 1);

    good(&home, &format!("restore --service live --time {MOMENT} --to copy --exact --yes --wait"));
    let moment = doc! {
        "orders": 291i64, "kinds": 0i64, "sorts": 9i64, "ring": 20i64, "temperatures": 40i64, "recent": 41i64, "late": 41i64,
        "indexes": indexes,
    };
    assert_eq!(found(&client).await, moment);
}
