//! The tests that take long, in two lanes at once, one after another in each: workloads under which everything must hold, and
//! what is done on every MongoDB version, whose servers its cases share.
//!
//! `cargo test --test alone -- oracle` runs those with that word in their names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod consistency;
mod consistent;
mod matrix;
mod oracle;
mod physical;
mod physical_large;
mod pitr_oracle;
mod storages;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;
mod workload;

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// One test of a lane at a time. Two of the harness's threads take them, because with one it would write the beginning of a
/// line when a test begins, into the lines of the other lane.
static LANES: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];
const WORKLOADS: usize = 0;
const VERSIONS: usize = 1;

/// The test `name`, which is `test` run to its end, when no other of its lane runs.
fn trial<F: Future<Output = ()> + 'static>(lane: usize, name: &str, test: fn() -> F) -> Trial {
    in_lane(lane, name, move || RUNTIME.block_on(test()))
}

fn in_lane(lane: usize, name: &str, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let _turn = LANES[lane].lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        run();
        eprintln!("{:.0} s", began.elapsed().as_secs_f64());
        Ok(())
    })
}

/// Keys, pastes, clicks and sizes at random; fewer in code without optimisation, which is twenty times slower.
fn a_million_events_break_nothing() {
    let each = if cfg!(debug_assertions) { 5_000 } else { 50_000 };
    for seed in 100..120 {
        support::storm::storm(seed, each, 10);
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(2);
    let workloads = vec![
        in_lane(WORKLOADS, "screen::a_million_events_break_nothing", a_million_events_break_nothing),
        trial(
            WORKLOADS,
            "consistency::the_oracle_agrees_with_the_servers",
            consistency::the_oracle_agrees_with_the_servers,
        ),
        trial(
            WORKLOADS,
            "consistency::a_backup_under_writes_is_the_state_of_one_moment",
            consistency::a_backup_under_writes_is_the_state_of_one_moment,
        ),
        trial(
            WORKLOADS,
            "pitr_oracle::every_position_is_restored_as_it_was",
            pitr_oracle::every_position_is_restored_as_it_was,
        ),
        trial(
            WORKLOADS,
            "physical::a_copy_under_writes_is_the_state_of_one_moment",
            physical::a_copy_under_writes_is_the_state_of_one_moment,
        ),
        trial(
            WORKLOADS,
            "storages::ten_thousand_objects_are_listed_in_pages",
            storages::ten_thousand_objects_are_listed_in_pages,
        ),
        trial(WORKLOADS, "storages::an_object_of_5_gib_is_streamed", storages::an_object_of_5_gib_is_streamed),
    ];
    let mut versions = vec![
        trial(VERSIONS, "physical::every_version_is_recovered", physical::every_version_is_recovered),
        trial(
            VERSIONS,
            "physical_large::the_largest_changes_are_recovered_by_every_version",
            physical_large::the_largest_changes_are_recovered_by_every_version,
        ),
    ];
    versions.extend(matrix::trials());
    let others = std::thread::spawn({
        let arguments = arguments.clone();
        move || libtest_mimic::run(&arguments, versions)
    });
    let conclusion = libtest_mimic::run(&arguments, workloads);
    let of_versions = others.join().unwrap();
    matrix::strike();
    conclusion.exit_if_failed();
    of_versions.exit();
}
