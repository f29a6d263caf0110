//! The promise of a backup: whatever is written meanwhile, what is restored is what was there at one moment.
//!
//! `MONGOKEEP_TEST_SEEDS` (12) says how many backups are made, `MONGOKEEP_TEST_DUMP_SECONDS` (10) how slow they are,
//! `MONGOKEEP_TEST_FIRST_SEED` (1) where to begin, to repeat one that failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use tokio::runtime::Handle;

use crate::consistent;
use crate::oracle::{self, Base};
use crate::support;
use crate::support::{compare, writers};

/// Replica sets that are backed up at the same time.
const LANES: u64 = 2;
const WRITERS: usize = 4;

async fn source() -> ReplicaSet {
    let options = ReplicaSetOptions::default().members(3).test_commands();
    ReplicaSet::start(&support::mongod().await, options).await.unwrap()
}

/// The oracle is right: after the last write it says what the servers themselves hold.
pub async fn the_oracle_agrees_with_the_servers() {
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
pub async fn a_backup_under_writes_is_the_state_of_one_moment() {
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
        let dumped = consistent::slow_dump(&set, &folder, seed, duration).await;
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
        let is_slow = took > duration.mul_f64(0.6) || consistent::is_over_a_line(seed);
        assert!(is_slow, "seed {seed}: the backup was not slow: {took:?}");
        if let Some(task) = checking.take() {
            failures.extend(task.await.unwrap());
        }
        let (set, target) = (set.clone(), target.clone());
        let check = async move {
            let lines = consistent::differences(&set, &target, base, &folder, manifest).await;
            std::fs::remove_dir_all(&folder).unwrap();
            lines.into_iter().map(|line| format!("seed {seed}: {line}")).collect()
        };
        let check = move || Handle::current().block_on(check);
        checking = Some(tokio::task::spawn_blocking(check));
    }
    if let Some(task) = checking {
        failures.extend(task.await.unwrap());
    }
    (failures, done)
}
