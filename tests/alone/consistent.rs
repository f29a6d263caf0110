//! Whether a backup that was made while everything changed is the state of one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use mongokeep::domain::secret::Secret;
use mongokeep::engine::logical;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::{Context, Limits};
use mongokeep::error::Result;
use mongokeep::mongo::Server;
use mongokeep::sandbox::ReplicaSet;
use mongokeep::storage::{Storage, filesystem::Filesystem};

use crate::oracle::Base;
use crate::support::hooked::{OverALine, Slow, hooked};
use crate::support::writers::{BYTES, FULL_OF_BYTES};
use crate::support::{compare, dumps, pair, release_of, writers};

const ZERO: Timestamp = Timestamp { time: 0, increment: 0 };

fn context(limits: Limits) -> Context {
    Context { limits, ..Context::default() }
}

async fn server(set: &ReplicaSet, name: &str) -> Result<Server> {
    Server::connect(name, &Secret::new(set.uri()), Duration::from_secs(30)).await
}

/// Whether the storage of a seed is at the end of a line: it is read while what was read before is stored, so that a slow storage
/// makes no slow reading.
pub fn is_over_a_line(seed: u64) -> bool {
    seed % 8 == 7
}

/// Backs up what [`writers::seed`] made into `folder`, and takes about `duration` for it, unless [`is_over_a_line`].
pub async fn slow_dump(set: &ReplicaSet, folder: &Path, seed: u64, duration: Duration) -> Result<LogicalManifest> {
    // About 150 writes to the storage, four at a time, each delayed by half of this on average.
    let longest = duration.mul_f64(2.0 * 4.0 / 150.0);
    let folder: Arc<dyn Storage> = Arc::new(Filesystem::new(folder));
    let slow = Slow::new(seed, longest);
    let storage = if is_over_a_line(seed) { hooked(&folder, OverALine::new(slow)).0 } else { hooked(&folder, slow).0 };
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
    let since = now();
    let truth = base.recover(&live, at).await;
    let expected = compare::state(&truth.client).await;
    let uncut = uncut(&truth.client).await;

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
    forgive_rewritten(&mut lines, &expected, &truth.client, &client, since, false).await;
    forgive_order(&mut lines, &expected, [&truth.client, &live], &client).await;
    lines
}

/// Takes out the differences of capped collections that hold the same documents, each after the one before it as one of
/// `orders` has them. What is inserted at once stands in a capped collection of a primary in another order than in its oplog
/// (seen on 4.4.2, 5.0.4 and 6.0.5, with eight that insert), so that its own members differ.
pub async fn forgive_order(lines: &mut Vec<String>, expected: &compare::State, orders: [&Client; 2], client: &Client) {
    for (ns, e) in expected {
        let about = format!("{ns}: {0} documents ({1}) became {0} (", e.documents, e.hash);
        let is_capped = e.options.get_bool("capped").unwrap_or(false);
        if !is_capped || !lines.iter().any(|line| line.starts_with(&about)) {
            continue;
        }
        let mut places = Vec::new();
        for of in orders {
            let ids = ids(of, ns).await;
            places.push(ids.into_iter().enumerate().map(|(at, id)| (id, at)).collect::<BTreeMap<_, _>>());
        }
        let found = ids(client, ns).await;
        let follows = |a: &String, b: &String| {
            places.iter().any(|at| matches!((at.get(a), at.get(b)), (Some(before), Some(after)) if before < after))
        };
        let is_whole = found.iter().all(|id| places[0].contains_key(id)) && found.len() == places[0].len();
        if is_whole && found.windows(2).all(|pair| follows(&pair[0], &pair[1])) {
            lines.retain(|line| !line.starts_with(&about));
        }
    }
}

/// The `_id`s of a collection in natural order.
async fn ids(client: &Client, ns: &str) -> Vec<String> {
    let all = natural(client, ns).await;
    all.iter().map(|d| format!("{:?}", d.get("_id").unwrap())).collect()
}

/// The documents of the collection `ns` that are not the same in both, by their `_id` in order: what each has there.
async fn differing_documents(
    expected: &Client,
    found: &Client,
    ns: &str,
) -> Vec<(String, Option<Document>, Option<Document>)> {
    let (db, name) = ns.split_once('.').unwrap();
    let read = async |client: &Client| -> BTreeMap<String, Document> {
        let documents = client.database(db).collection::<Document>(name).find(doc! {}).await.unwrap();
        let documents: Vec<Document> = documents.try_collect().await.unwrap();
        documents.into_iter().map(|d| (d.get("_id").map(ToString::to_string).unwrap_or_default(), d)).collect()
    };
    let (mut expected, mut found) = (read(expected).await, read(found).await);
    let ids: BTreeSet<String> = expected.keys().chain(found.keys()).cloned().collect();
    let each = ids.into_iter().map(|id| {
        let (e, f) = (expected.remove(&id), found.remove(&id));
        (id, e, f)
    });
    // By their bytes, so that another order of the fields differs too.
    let bytes = |of: &Option<Document>| of.as_ref().map(|d| d.to_vec().unwrap());
    each.filter(|(_, e, f)| bytes(e) != bytes(f)).collect()
}

/// Puts zero in the place of each top-level time of `recovered` that is `since` or later and zero in `other`.
fn put_back_zeros(recovered: &mut Document, other: &Document, since: u32) {
    for (name, value) in recovered.iter_mut() {
        let is_rewritten = matches!(value, Bson::Timestamp(at) if at.time >= since);
        if is_rewritten && other.get(name) == Some(&Bson::Timestamp(ZERO)) {
            *value = Bson::Timestamp(ZERO);
        }
    }
}

/// The present in seconds since 1970.
pub fn now() -> u32 {
    u32::try_from(chrono::Utc::now().timestamp()).unwrap()
}

/// Takes out the differences of collections that a server made when it recovered, and adds to the others what a few of their
/// documents are. Servers of 4.4.2, 5.0.4 and 6.0.5 that replay a replacement put their own present in the place of a top-level
/// `Timestamp(0, 0)`, which 6.0.27 does not: nobody wrote such a time, which is `since` or later, when all writers had ended.
/// `or_found`: `client` was recovered by such a server too, and not the truth alone.
pub async fn forgive_rewritten(
    lines: &mut Vec<String>,
    expected: &compare::State,
    truth: &Client,
    client: &Client,
    since: u32,
    or_found: bool,
) {
    for (ns, e) in expected {
        let about = format!("{ns}: {} documents ({})", e.documents, e.hash);
        if !lines.iter().any(|line| line.starts_with(&about)) {
            continue;
        }
        let mut differing = differing_documents(truth, client, ns).await;
        for (_, expected, found) in &mut differing {
            if let (Some(expected), Some(found)) = (expected, found) {
                put_back_zeros(expected, found, since);
                if or_found {
                    put_back_zeros(found, expected, since);
                }
            }
        }
        // By their bytes: two documents are equal to the driver whatever the order of their fields.
        let bytes = |of: &Option<Document>| of.as_ref().map(|d| d.to_vec().unwrap());
        let others = differing.iter().filter(|(_, expected, found)| bytes(expected) != bytes(found));
        let others: Vec<String> = others.map(|(id, e, f)| format!("{ns}: {id}: {e:?} became {f:?}")).collect();
        // Where no document differs, what differs is their order.
        if others.is_empty() && !differing.is_empty() {
            lines.retain(|line| !line.starts_with(&about));
        }
        lines.extend(others.into_iter().take(4));
    }
}

/// Takes out the differences of collections full of bytes of which `client` has the newest documents, as many as fit.
/// `or_more`: it was recovered by such a server, too, and drops what does not fit with the next insert.
pub async fn forgive_uncut(
    lines: &mut Vec<String>,
    uncut: BTreeMap<String, Vec<RawDocumentBuf>>,
    client: &Client,
    or_more: bool,
) {
    for (ns, before) in uncut {
        let about = format!("{ns}: {} documents", before.len());
        let found = natural(client, &ns).await;
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

/// The collections full of bytes by their namespaces, from a server whose recovery leaves in them what has to go: that of
/// 4.4 does not count bytes (seen on 4.4.2: 49 documents where there was room for 5), and evictions are not in its oplog.
pub async fn uncut(recovered: &Client) -> BTreeMap<String, Vec<RawDocumentBuf>> {
    let mut uncut = BTreeMap::new();
    if release_of(recovered).await < (5, 0) {
        for db in recovered.list_database_names().await.unwrap() {
            if recovered.database(&db).list_collection_names().await.unwrap().iter().any(|n| n == FULL_OF_BYTES) {
                let ns = format!("{db}.{FULL_OF_BYTES}");
                let documents = natural(recovered, &ns).await;
                uncut.insert(ns, documents);
            }
        }
    }
    uncut
}

/// The documents of a collection in natural order.
async fn natural(client: &Client, ns: &str) -> Vec<RawDocumentBuf> {
    let (db, name) = ns.split_once('.').unwrap();
    let collection = client.database(db).collection::<RawDocumentBuf>(name);
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
