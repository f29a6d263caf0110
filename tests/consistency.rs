//! The promise of a backup: whatever is written meanwhile, what is restored is what was there at one moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use support::oracle::{self, Base};
use support::{compare, writers};

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
    let writers = writers::Writers::start(&client, 7, 4);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let done = writers.stop().await;
    assert!(done.len() > 15, "the writers did too little: {done:?}");
    let primary = set.wait_for_primary().await.unwrap();
    let direct = set.direct_client(primary).await.unwrap();
    let at = oracle::top_of_oplog(&direct).await;
    let truth = base.recover(&direct, at).await;
    compare::assert_same(&compare::state(&direct).await, &compare::state(&truth.client).await, "the oracle");
}
