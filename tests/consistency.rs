//! The promise of a backup: whatever is written meanwhile, what is restored is what was there at one moment.
//!
//! `MONGOKEEP_TEST_SEEDS` (12) says how many backups are made, `MONGOKEEP_TEST_DUMP_SECONDS` (10) how slow they are,
//! `MONGOKEEP_TEST_FIRST_SEED` (1) where to begin, to repeat one that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::Timestamp;
use mongokeep::artifact::manifest::Manifest;
use mongokeep::domain::backup::{BackupType, Compression};
use mongokeep::domain::namespace::Selection;
use mongokeep::domain::restore::RestoreRequest;
use mongokeep::domain::secret::Secret;
use mongokeep::engine::logical::{self, DumpRequest};
use mongokeep::engine::{Context, Limits, Meter};
use mongokeep::mongo::Server;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use mongokeep::storage::{Storage, filesystem::Filesystem};
use support::hooked::{Slow, hooked};
use support::oracle::{self, Base};
use support::{compare, writers};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Replica sets that are backed up at the same time.
const LANES: u64 = 2;
const WRITERS: usize = 4;

async fn source() -> ReplicaSet {
    let options = ReplicaSetOptions::default().members(3).test_commands();
    ReplicaSet::start(&support::mongod().await, options).await.unwrap()
}

/// The oracle is right: after the last write it says what the servers themselves hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oracle_agrees_with_the_servers() {
    let set = source().await;
    let client = set.client().await.unwrap();
    writers::seed(&client, 7).await;
    let base = Base::copy(&set).await;
    let writers = writers::Writers::start(&client, 7, WRITERS);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let done = writers.stop().await;
    assert!(done.len() > 15, "the writers did too little: {done:?}");
    let primary = set.wait_for_primary().await.unwrap();
    let direct = set.direct_client(primary).await.unwrap();
    let at = oracle::top_of_oplog(&direct).await;
    let truth = base.recover(&direct, at).await;
    compare::assert_same(&compare::state(&direct).await, &compare::state(&truth.client).await, "the oracle");
}

/// Twelve backups, each made while writers do everything at once, each restored elsewhere and compared with what the
/// server itself recovers to the same position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_writes_is_the_state_of_one_moment() {
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse::<u64>().unwrap());
    let (seeds, first) = (number("MONGOKEEP_TEST_SEEDS", 12), number("MONGOKEEP_TEST_FIRST_SEED", 1));
    let seconds = number("MONGOKEEP_TEST_DUMP_SECONDS", 10);
    let lanes: Vec<_> = (0..LANES.min(seeds))
        .map(|lane| {
            let seeds: Vec<u64> = (first..first + seeds).filter(|seed| seed % LANES.min(seeds) == lane).collect();
            tokio::spawn(run_lane(seeds, Duration::from_secs(seconds)))
        })
        .collect();
    let (mut failures, mut done) = (Vec::new(), BTreeMap::new());
    for lane in lanes {
        let (failed, counts) = lane.await.unwrap();
        failures.extend(failed);
        counts.into_iter().for_each(|(name, n)| *done.entry(name).or_insert(0) += n);
    }
    eprintln!("the writers did {done:?}");
    assert!(failures.is_empty(), "{} backups are not consistent:\n{}", failures.len(), failures.join("\n"));
    // What never happened was not tested.
    if seeds >= 12 {
        let kinds = [
            "aborted prepared transaction",
            "failed unique index",
            "large transaction",
            "out",
            "prepared transaction",
            "rename",
            "rename over",
            "transaction",
            "unique index",
        ];
        for kind in kinds {
            assert!(done.contains_key(kind), "no {kind} succeeded");
        }
    }
}

/// Several seeds on one replica set, one after another. While one is checked, the next is backed up.
async fn run_lane(seeds: Vec<u64>, duration: Duration) -> (Vec<String>, BTreeMap<&'static str, u64>) {
    let set = Arc::new(source().await);
    let target = Arc::new(support::replica_set().await);
    let client = set.client().await.unwrap();
    let (mut failures, mut done) = (Vec::new(), BTreeMap::new());
    let mut checking: Option<tokio::task::JoinHandle<Vec<String>>> = None;
    for seed in seeds {
        writers::clear(&client).await;
        writers::seed(&client, seed).await;
        let base = Base::copy(&set).await;
        let folder = set.scratch().path().join(format!("backup{seed}"));
        std::fs::create_dir(&folder).unwrap();
        let writers = writers::Writers::start(&client, seed, WRITERS);
        let start = Instant::now();
        let dumped = dump(&set, &folder, seed, duration).await;
        let took = start.elapsed();
        writers.stop().await.into_iter().for_each(|(name, n)| *done.entry(name).or_insert(0) += n);
        let manifest = match dumped {
            Ok(manifest) => manifest,
            Err(e) => {
                failures.push(format!("seed {seed}: the backup failed after {took:?}: {e}"));
                continue;
            }
        };
        let at = manifest.consistent_at_ts;
        eprintln!("seed {seed}: backed up in {:.1} s, consistent at {at}", took.as_secs_f64());
        assert!(took > duration.mul_f64(0.6), "seed {seed}: the backup was not slow: {took:?}");
        if let Some(task) = checking.take() {
            failures.extend(task.await.unwrap());
        }
        let (set, target) = (set.clone(), target.clone());
        let check = move || Handle::current().block_on(check(&set, &target, base, folder, manifest, seed));
        checking = Some(tokio::task::spawn_blocking(check));
    }
    if let Some(task) = checking {
        failures.extend(task.await.unwrap());
    }
    (failures, done)
}

fn context(limits: Limits) -> Context {
    Context { cancel: CancellationToken::new(), meter: Arc::new(Meter::silent()), limits }
}

async fn server(set: &ReplicaSet, name: &str) -> Server {
    Server::connect(name, &Secret::new(set.uri()), Duration::from_secs(30)).await.unwrap()
}

async fn dump(set: &ReplicaSet, folder: &Path, seed: u64, duration: Duration) -> mongokeep::error::Result<Manifest> {
    // About 150 writes to the storage, four at a time, each delayed by half of this on average.
    let longest = duration.mul_f64(2.0 * 4.0 / 150.0);
    let folder: Arc<dyn Storage> = Arc::new(Filesystem::new(folder));
    let (storage, _) = hooked(&folder, Slow::new(seed, longest));
    // Small enough that collections are split, and stored in several parts.
    let limits = Limits { split_bytes: 1 << 20, part_bytes: 1 << 20, ..Limits::default() };
    let request = DumpRequest {
        name: format!("seed{seed}"),
        attempt_id: format!("attempt{seed}"),
        home_id: "test".into(),
        service: "source".into(),
        cluster: None,
        folder: String::new(),
        selection: Selection::default(),
        compression: Compression::default(),
        schedule: None,
        backup_type: BackupType::Full,
    };
    logical::dump(&context(limits), storage, &server(set, "source").await, &request).await
}

/// Restores into the empty `target` and says what differs from the truth.
async fn check(
    set: &ReplicaSet,
    target: &ReplicaSet,
    base: Base,
    folder: std::path::PathBuf,
    manifest: Manifest,
    seed: u64,
) -> Vec<String> {
    let live = set.direct_client(set.wait_for_primary().await.unwrap()).await.unwrap();
    let at = Timestamp { time: manifest.consistent_at_ts.t, increment: manifest.consistent_at_ts.i };
    let truth = base.recover(&live, at).await;
    let expected = compare::state(&truth.client).await;
    drop(truth);

    let client = target.client().await.unwrap();
    writers::clear(&client).await;
    let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(&folder));
    let request = RestoreRequest {
        backup: manifest.name.clone(),
        point_in_time: None,
        to: "target".into(),
        include: Vec::new(),
        rename: Vec::new(),
        exact: false,
        no_ttl: false,
        users_and_roles: false,
        safety_backup: false,
    };
    let server = server(target, "target").await;
    let ctx = context(Limits::default());
    let restored = async {
        let stored = logical::Stored::new(storage, manifest)?;
        let plan = logical::plan(&ctx.cancel, &stored, &server, &request).await?;
        logical::restore(&ctx, &stored, &server, &request, &plan).await
    };
    if let Err(e) = restored.await {
        return vec![format!("seed {seed}: the restore failed: {e}")];
    }
    let found = compare::state(&client).await;
    std::fs::remove_dir_all(&folder).unwrap();
    compare::differences(&expected, &found).into_iter().map(|line| format!("seed {seed}: {line}")).collect()
}
