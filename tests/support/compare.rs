//! What a server holds, as a value that can be compared: every document's bytes, options, index specifications, views.
//!
//! The server's own `dbHash` would do the same, but it waits for prepared transactions, and one may be open for good in
//! a state that was recovered to the middle of it.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, RawDocumentBuf, doc};

/// A collection, time series (its buckets stand for themselves) or view.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    pub kind: String,
    /// Without the UUID.
    pub options: Document,
    /// By name; those still being built are left out.
    pub indexes: BTreeMap<String, Document>,
    pub documents: u64,
    /// BLAKE3 of all documents in order of `_id`, natural order for a capped collection.
    pub hash: String,
}

/// By namespace.
pub type State = BTreeMap<String, Contents>;

/// Everything outside `admin`, `config` and `local`.
pub async fn state(client: &Client) -> State {
    let mut state = State::new();
    for db in client.list_database_names().await.unwrap() {
        if !["admin", "config", "local"].contains(&db.as_str()) {
            state.extend(database(client, &db).await.into_iter().map(|(name, c)| (format!("{db}.{name}"), c)));
        }
    }
    state
}

/// One database, by collection.
pub async fn database(client: &Client, db: &str) -> State {
    database_with(client, db, &mut |_, _| {}).await
}

/// The same; `each` is shown every document with the name of its collection.
pub async fn database_with(client: &Client, db: &str, each: &mut (dyn FnMut(&str, &[u8]) + Send)) -> State {
    let database = client.database(db);
    let mut cursor = database.run_cursor_command(doc! {"listCollections": 1}).await.unwrap();
    let mut state = State::new();
    while let Some(entry) = cursor.try_next().await.unwrap() {
        let name = entry.get_str("name").unwrap().to_owned();
        if name == "system.views" || name == "system.profile" {
            continue;
        }
        let kind = entry.get_str("type").unwrap().to_owned();
        let mut options = entry.get_document("options").unwrap().clone();
        // Marks the target of an `$out` that is under way, for removal at the next start. A restore leaves the mark
        // out on purpose: on a collection that was renamed meanwhile it would cost the data.
        options.remove("temp");
        let (mut indexes, mut documents, mut hash) = (BTreeMap::new(), 0, String::new());
        if kind == "collection" {
            indexes = self::indexes(&database, &name).await;
            let capped = options.get_bool("capped").unwrap_or(false);
            (documents, hash) = hash_documents(&database, &name, capped, each).await;
        }
        state.insert(name, Contents { kind, options, indexes, documents, hash });
    }
    state
}

async fn indexes(database: &mongodb::Database, name: &str) -> BTreeMap<String, Document> {
    let command = doc! {"listIndexes": name, "includeBuildUUIDs": true};
    let mut cursor = database.run_cursor_command(command).await.unwrap();
    let mut indexes = BTreeMap::new();
    while let Some(mut entry) = cursor.try_next().await.unwrap() {
        if entry.contains_key("buildUUID") {
            continue;
        }
        if let Ok(spec) = entry.get_document("spec").cloned() {
            entry = spec;
        }
        // Servers before 4.4 wrote the namespace into the specification.
        entry.remove("ns");
        indexes.insert(entry.get_str("name").unwrap().to_owned(), entry);
    }
    indexes
}

async fn hash_documents(
    database: &mongodb::Database,
    name: &str,
    natural: bool,
    each: &mut (dyn FnMut(&str, &[u8]) + Send),
) -> (u64, String) {
    let order = if natural {
        doc! {"$natural": 1}
    } else {
        doc! {"_id": 1}
    };
    let collection = database.collection::<RawDocumentBuf>(name);
    let mut cursor = collection.find(doc! {}).sort(order).await.unwrap();
    let mut hasher = blake3::Hasher::new();
    let mut documents = 0;
    while cursor.advance().await.unwrap() {
        hasher.update(cursor.current().as_bytes());
        each(name, cursor.current().as_bytes());
        documents += 1;
    }
    (documents, hasher.finalize().to_hex().to_string())
}

/// What differs, a line each; empty when all is equal.
pub fn differences(expected: &State, found: &State) -> Vec<String> {
    let mut lines = Vec::new();
    for (ns, e) in expected {
        let Some(f) = found.get(ns) else {
            lines.push(format!("{ns} ({}, {} documents) is missing", e.kind, e.documents));
            continue;
        };
        if e.kind != f.kind {
            lines.push(format!("{ns}: a {} became a {}", e.kind, f.kind));
        }
        if e.options != f.options {
            lines.push(format!("{ns}: options {} became {}", e.options, f.options));
        }
        if e.documents != f.documents || e.hash != f.hash {
            lines.push(format!("{ns}: {} documents ({}) became {} ({})", e.documents, e.hash, f.documents, f.hash));
        }
        for name in e.indexes.keys().chain(f.indexes.keys()) {
            let (e, f) = (e.indexes.get(name), f.indexes.get(name));
            if e != f {
                lines.push(format!("{ns}: index {name}: {e:?} became {f:?}"));
            }
        }
    }
    for ns in found.keys().filter(|ns| !expected.contains_key(*ns)) {
        lines.push(format!("{ns} was not there before"));
    }
    lines
}

/// Fails, naming what differs.
pub fn assert_same(expected: &State, found: &State, what: &str) {
    let lines = differences(expected, found);
    assert!(lines.is_empty(), "{what}: {} differences:\n{}", lines.len(), lines.join("\n"));
}
