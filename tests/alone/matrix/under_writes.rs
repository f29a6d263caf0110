//! A backup that is made while writers do everything at once is the state of one moment.

use std::time::Duration;

use super::ground::Ground;
use crate::consistent;
use crate::oracle::Base;
use crate::support::writers::{self, Writers};

const SEED: u64 = 3;
const WRITERS: usize = 3;
/// How slow the backup is made.
const DURATION: Duration = Duration::from_secs(8);

pub async fn is_the_state_of_one_moment(ground: Ground) {
    let (set, client) = (&ground.source.set, &ground.source.client);
    writers::seed(client, SEED).await;
    let base = Base::copy(set).await;
    let folder = tempfile::tempdir().unwrap();
    let writers = Writers::start(client, SEED, WRITERS);
    let dumped = consistent::slow_dump(set, folder.path(), SEED, DURATION).await;
    let done = writers.stop().await;
    let manifest = dumped.unwrap_or_else(|e| panic!("the backup failed: {}", e.full()));
    let lines = consistent::differences(set, &ground.target.set, base, folder.path(), manifest).await;
    assert!(lines.is_empty(), "{} differences:\n{}", lines.len(), lines.join("\n"));
    // What never happened was not tested.
    assert!(done.len() > 10, "the writers did too little: {done:?}");
}
