//! Compares what was restored with what it should be, by bytes.
//!
//! What the writer left alone must be as it is in the original; what it changed must be as its own record says for the
//! position at which the backup is consistent.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::{Client, Database};

use super::driver_error::driver;
use super::sample::BALANCE;
use super::writer::Written;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// Collections of `shop` that the writer changes.
const WRITTEN: [&str; 3] = ["carts", "accounts", "transfers"];

/// What agreed, and what did not.
#[derive(Debug, Default)]
pub struct Comparison {
    pub collections: u64,
    pub documents: u64,
    pub indexes: u64,
    /// A sentence for each thing that differs.
    pub differences: Vec<String>,
}

#[derive(PartialEq)]
struct Contents {
    kind: String,
    options: Document,
    indexes: BTreeMap<String, Document>,
    documents: u64,
    hash: blake3::Hash,
}

/// Compares database `restored` with database `original`, except for what the writer changes.
pub async fn databases(client: &Client, original: &str, restored: &str, result: &mut Comparison) -> Result<()> {
    let expected = contents(&client.database(original)).await?;
    let found = contents(&client.database(restored)).await?;
    for (name, e) in &expected {
        let ns = format!("{restored}.{name}");
        let Some(f) = found.get(name) else {
            result.differences.push(format!("{ns} is missing"));
            continue;
        };
        result.collections += 1;
        result.documents += f.documents;
        result.indexes += f.indexes.len() as u64;
        if e.kind != f.kind || e.options != f.options {
            result.differences.push(format!("{ns} has other options"));
        }
        if e.indexes != f.indexes {
            result.differences.push(format!("{ns} has other indexes"));
        }
        if (e.documents, e.hash) != (f.documents, f.hash) && !(original == "shop" && WRITTEN.contains(&name.as_str())) {
            result.differences.push(format!("{ns} has other documents ({}, expected {})", f.documents, e.documents));
        }
    }
    for name in found.keys().filter(|name| !expected.contains_key(*name)) {
        result.differences.push(format!("{restored}.{name} was not in the original"));
    }
    Ok(())
}

/// Compares what the writer changed with its record at `at`.
pub async fn written(
    client: &Client,
    restored: &str,
    written: &Written,
    at: Timestamp,
    result: &mut Comparison,
) -> Result<()> {
    let db = client.database(restored);
    let expected = written.state_at(at);
    let mut left = expected.clone();
    let mut cursor = find(&db, "carts", doc! {"_id": 1}).await?;
    while cursor.advance().await.map_err(|e| driver("reading what was restored", e))? {
        let document = cursor.current();
        let id = document.get_i64("_id").unwrap_or(-1);
        if left.remove(&id) != Some(document.as_bytes()) {
            result.differences.push(format!("{restored}.carts: document {id} is not what was written"));
        }
    }
    result.differences.extend(left.keys().map(|id| format!("{restored}.carts: document {id} is missing")));

    // Every balance follows from the transfers that are there: none is there in part.
    let mut balances: BTreeMap<i32, i64> = BTreeMap::new();
    let mut cursor = find(&db, "transfers", doc! {"_id": 1}).await?;
    let bad = |e: mongodb::bson::error::Error| Error::new(ErrorKind::Corrupt, "reading what was restored").source(e);
    while cursor.advance().await.map_err(|e| driver("reading what was restored", e))? {
        let entry = Document::try_from(cursor.current()).map_err(bad)?;
        let amount = entry.get_i64("amount").unwrap_or(0);
        *balances.entry(entry.get_i32("from").unwrap_or(-1)).or_default() -= amount;
        *balances.entry(entry.get_i32("to").unwrap_or(-1)).or_default() += amount;
    }
    let mut cursor = find(&db, "accounts", doc! {"_id": 1}).await?;
    while cursor.advance().await.map_err(|e| driver("reading what was restored", e))? {
        let account = Document::try_from(cursor.current()).map_err(bad)?;
        let id = account.get_i32("_id").unwrap_or(-1);
        let expected = BALANCE + balances.remove(&id).unwrap_or(0);
        if account.get_i64("balance").unwrap_or(i64::MIN) != expected {
            result.differences.push(format!("{restored}.accounts: account {id} does not agree with its transfers"));
        }
    }
    result.differences.extend(balances.keys().map(|id| format!("{restored}.accounts: account {id} is missing")));
    Ok(())
}

async fn contents(db: &Database) -> Result<BTreeMap<String, Contents>> {
    let fail = |e| driver(format_args!("reading database {}", db.name()), e);
    let mut list = db.run_cursor_command(doc! {"listCollections": 1}).await.map_err(fail)?;
    let mut all = BTreeMap::new();
    while let Some(entry) = list.try_next().await.map_err(fail)? {
        let name = entry.get_str("name").unwrap_or_default().to_owned();
        if name == "system.views" {
            continue;
        }
        let kind = entry.get_str("type").unwrap_or_default().to_owned();
        let options = entry.get_document("options").cloned().unwrap_or_default();
        let mut indexes = BTreeMap::new();
        let (mut documents, mut hasher) = (0, blake3::Hasher::new());
        if kind == "collection" {
            let mut list = db.run_cursor_command(doc! {"listIndexes": &name}).await.map_err(fail)?;
            while let Some(index) = list.try_next().await.map_err(fail)? {
                indexes.insert(index.get_str("name").unwrap_or_default().to_owned(), index);
            }
            let capped = options.get_bool("capped").unwrap_or(false);
            let order = if capped {
                doc! {"$natural": 1}
            } else {
                doc! {"_id": 1}
            };
            let mut cursor = find(db, &name, order).await?;
            while cursor.advance().await.map_err(fail)? {
                hasher.update(cursor.current().as_bytes());
                documents += 1;
            }
        }
        all.insert(name, Contents { kind, options, indexes, documents, hash: hasher.finalize() });
    }
    Ok(all)
}

async fn find(db: &Database, name: &str, order: Document) -> Result<mongodb::Cursor<RawDocumentBuf>> {
    db.collection::<RawDocumentBuf>(name)
        .find(doc! {})
        .sort(order)
        .await
        .map_err(|e| driver(format_args!("reading {}.{name}", db.name()), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::sample;
    use crate::demo::writer::{Errors, Writer};
    use crate::sandbox::{Mongod, ReplicaSet, ReplicaSetOptions};

    /// Everything agrees with itself, and each kind of damage is found.
    #[tokio::test(flavor = "multi_thread")]
    async fn damage_is_found() {
        let mongod = Mongod::find(&|_| {}).await.unwrap();
        let set = ReplicaSet::start(&mongod, ReplicaSetOptions::default()).await.unwrap();
        let client = set.client().await.unwrap();
        sample::fill(&client, &mongod.version).await.unwrap();
        let writer = Writer::start(&client, Errors::Fail);
        writer.wait_for(300).await;
        let record = writer.stop().await.unwrap();
        let compare = async |at: Timestamp| {
            let mut result = Comparison::default();
            for db in sample::DATABASES {
                databases(&client, db, db, &mut result).await.unwrap();
            }
            written(&client, "shop", &record, at, &mut result).await.unwrap();
            result
        };
        let result = compare(Timestamp::MAX).await;
        assert_eq!(result.differences, Vec::<String>::new());
        assert!(result.documents > 120_000 && result.collections > 12, "{result:?}");
        // The newest state is not the state of an earlier moment.
        assert!(!compare(Timestamp::MIN).await.differences.is_empty());

        let shop = client.database("shop");
        shop.collection::<Document>("accounts")
            .update_one(doc! {"_id": 3}, doc! {"$inc": {"balance": 1}})
            .await
            .unwrap();
        assert_eq!(compare(Timestamp::MAX).await.differences.len(), 1);
        shop.collection::<Document>("carts").delete_many(doc! {}).await.unwrap();
        assert!(compare(Timestamp::MAX).await.differences.len() > 10);

        let mut result = Comparison::default();
        databases(&client, "metrics", "files", &mut result).await.unwrap();
        assert!(result.differences.iter().any(|d| d == "files.sessions is missing"), "{result:?}");
        assert!(result.differences.iter().any(|d| d == "files.chunks was not in the original"), "{result:?}");
    }
}
