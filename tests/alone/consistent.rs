//! Whether a backup that was made while everything changed is the state of one moment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::Timestamp;
use mongokeep::artifact::manifest::Manifest;
use mongokeep::domain::secret::Secret;
use mongokeep::engine::logical;
use mongokeep::engine::{Context, Limits, Meter};
use mongokeep::error::Result;
use mongokeep::mongo::Server;
use mongokeep::sandbox::ReplicaSet;
use mongokeep::storage::{Storage, filesystem::Filesystem};
use tokio_util::sync::CancellationToken;

use crate::oracle::Base;
use crate::support::hooked::{Slow, hooked};
use crate::support::{compare, dumps, pair, writers};

fn context(limits: Limits) -> Context {
    Context { cancel: CancellationToken::new(), meter: Arc::new(Meter::silent()), limits }
}

async fn server(set: &ReplicaSet, name: &str) -> Result<Server> {
    Server::connect(name, &Secret::new(set.uri()), Duration::from_secs(30)).await
}

/// Backs up what [`writers::seed`] made into `folder`, and takes about `duration` for it.
pub async fn slow_dump(set: &ReplicaSet, folder: &Path, seed: u64, duration: Duration) -> Result<Manifest> {
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
    manifest: Manifest,
) -> Vec<String> {
    let live = set.direct_client(set.wait_for_primary().await.unwrap()).await.unwrap();
    let at = Timestamp { time: manifest.consistent_at_ts.t, increment: manifest.consistent_at_ts.i };
    let indexes = base.knows_indexes();
    let truth = base.recover(&live, at).await;
    let expected = compare::state(&truth.client).await;
    drop(truth);

    let client = target.client().await.unwrap();
    writers::clear(&client).await;
    let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(folder));
    let ctx = context(Limits::default());
    let restored = async {
        let stored = logical::Stored::new(storage, manifest)?;
        let (server, request) = (server(target, "target").await?, pair::request());
        let plan = logical::plan(&ctx.cancel, &stored, &server, &request).await?;
        logical::restore(&ctx, &stored, &server, &request, &plan).await
    };
    if let Err(e) = restored.await {
        return vec![format!("the restore failed: {e}")];
    }
    let lines = compare::differences(&expected, &compare::state(&client).await);
    lines.into_iter().filter(|line| indexes || !line.contains(": index ")).collect()
}
