//! Whether a backup that was made while everything changed is the state of one moment.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{RawDocumentBuf, Timestamp, doc};
use mongokeep::domain::secret::Secret;
use mongokeep::engine::logical;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::{Context, Limits};
use mongokeep::error::Result;
use mongokeep::mongo::Server;
use mongokeep::sandbox::ReplicaSet;
use mongokeep::storage::{Storage, filesystem::Filesystem};

use crate::oracle::Base;
use crate::support::hooked::{Slow, hooked};
use crate::support::writers::{BYTES, FULL_OF_BYTES};
use crate::support::{compare, dumps, pair, release_of, writers};

fn context(limits: Limits) -> Context {
    Context { limits, ..Context::default() }
}

async fn server(set: &ReplicaSet, name: &str) -> Result<Server> {
    Server::connect(name, &Secret::new(set.uri()), Duration::from_secs(30)).await
}

/// Backs up what [`writers::seed`] made into `folder`, and takes about `duration` for it.
pub async fn slow_dump(set: &ReplicaSet, folder: &Path, seed: u64, duration: Duration) -> Result<LogicalManifest> {
    // About 150 writes to the storage, four at a time, each delayed by half of this on average.
    let longest = duration.mul_f64(2.0 * 4.0 / 150.0);
    let folder: Arc<dyn Storage> = Arc::new(Filesystem::new(folder));
    let (storage, _) = hooked(&folder, Slow::new(seed, longest));
    // Small enough that collections are split, and stored in several parts.
    let limits = Limits { split_bytes: 1 << 20, part_bytes: 1 << 20, ..Limits::default() };
    let request = dumps::request(&format!("seed{seed}"));
    logical::dump(&context(limits), storage, &server(set, "source").await?, &request).await
}

/// Restores a backup into the emptied `target` and says what differs from what the server itself recovers to the same
/// position from `base`, which is older (indexes only where the server recovers them).
pub async fn differences(
    set: &ReplicaSet,
    target: &ReplicaSet,
    base: Base,
    folder: &Path,
    manifest: LogicalManifest,
) -> Vec<String> {
    let live = set.direct_client(set.wait_for_primary().await.unwrap()).await.unwrap();
    let at = Timestamp { time: manifest.consistent_at_ts.t, increment: manifest.consistent_at_ts.i };
    let indexes = base.knows_indexes();
    let truth = base.recover(&live, at).await;
    let expected = compare::state(&truth.client).await;
    let uncut = uncut(&truth.client).await;
    drop(truth);

    let client = target.client().await.unwrap();
    writers::clear(&client).await;
    let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(folder));
    let ctx = context(Limits::default());
    let restored = async {
        let stored = logical::OpenBackup::new(storage, manifest)?;
        let (server, request) = (server(target, "target").await?, pair::request());
        let plan = logical::plan(&ctx.cancel, &stored, &server, &request).await?;
        logical::restore(&ctx, &stored, &server, &request, &plan).await
    };
    if let Err(e) = restored.await {
        return vec![format!("the restore failed: {e}")];
    }
    let mut lines = compare::differences(&expected, &compare::state(&client).await);
    lines.retain(|line| indexes || !line.contains(": index "));
    forgive_uncut(&mut lines, uncut, &client, false).await;
    lines
}

/// Takes out the differences of collections full of bytes of which `client` has the newest documents, as many as fit.
/// `or_more`: it was recovered by such a server, too, and drops what does not fit with the next insert.
pub async fn forgive_uncut(
    lines: &mut Vec<String>,
    uncut: BTreeMap<String, Vec<RawDocumentBuf>>,
    client: &Client,
    or_more: bool,
) {
    for (db, before) in uncut {
        let about = format!("{db}.{FULL_OF_BYTES}: {} documents", before.len());
        let found = natural(client, &db).await;
        if newest_that_fit(&before, &found) || (or_more && before.ends_with(&found) && size_of(&found) > BYTES) {
            lines.retain(|line| !line.starts_with(&about));
        }
    }
}

/// The namespaces of collections that a server drops when it becomes primary, because they belong to a command that did not
/// finish.
pub async fn temporary(client: &Client) -> Vec<String> {
    let mut found = Vec::new();
    for db in client.list_database_names().await.unwrap() {
        let of_it = client.database(&db);
        let command = doc! {"listCollections": 1, "filter": {"options.temp": true}};
        let mut cursor = of_it.run_cursor_command(command).await.unwrap();
        while let Some(entry) = cursor.try_next().await.unwrap() {
            found.push(format!("{db}.{}", entry.get_str("name").unwrap()));
        }
    }
    found
}

/// The collections full of bytes by their databases, from a server whose recovery leaves in them what has to go: that of
/// 4.4 does not count bytes (seen on 4.4.2: 49 documents where there was room for 5), and evictions are not in its oplog.
pub async fn uncut(recovered: &Client) -> BTreeMap<String, Vec<RawDocumentBuf>> {
    let mut uncut = BTreeMap::new();
    if release_of(recovered).await < (5, 0) {
        for db in recovered.list_database_names().await.unwrap() {
            if recovered.database(&db).list_collection_names().await.unwrap().iter().any(|n| n == FULL_OF_BYTES) {
                uncut.insert(db.clone(), natural(recovered, &db).await);
            }
        }
    }
    uncut
}

async fn natural(client: &Client, db: &str) -> Vec<RawDocumentBuf> {
    let collection = client.database(db).collection::<RawDocumentBuf>(FULL_OF_BYTES);
    collection.find(doc! {}).sort(doc! {"$natural": 1}).await.unwrap().try_collect().await.unwrap()
}

/// Whether `found` is the end of `all`, as much of it as there is room for.
fn newest_that_fit(all: &[RawDocumentBuf], found: &[RawDocumentBuf]) -> bool {
    let one_more = &all[all.len().saturating_sub(found.len() + 1)..];
    all.ends_with(found) && size_of(found) <= BYTES && (found.len() == all.len() || size_of(one_more) > BYTES)
}

fn size_of(documents: &[RawDocumentBuf]) -> usize {
    documents.iter().map(|d| d.as_bytes().len()).sum()
}
