//! The tests that need the machine for themselves, one after another: workloads whose every second counts, and the
//! matrix of MongoDB versions, whose servers are shared by its cases.
//!
//! `cargo test --test alone -- oracle` runs those with that word in their names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod consistency;
mod consistent;
mod matrix;
mod oracle;
mod pitr_oracle;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;
mod workload;

use std::sync::LazyLock;

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The test `name`, which is `test` run to its end.
fn trial<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) -> Trial {
    Trial::test(name, move || {
        RUNTIME.block_on(test());
        Ok(())
    })
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut trials = vec![
        trial("consistency::the_oracle_agrees_with_the_servers", consistency::the_oracle_agrees_with_the_servers),
        trial(
            "consistency::a_backup_under_writes_is_the_state_of_one_moment",
            consistency::a_backup_under_writes_is_the_state_of_one_moment,
        ),
        trial("pitr_oracle::every_position_is_restored_as_it_was", pitr_oracle::every_position_is_restored_as_it_was),
    ];
    trials.extend(matrix::trials());
    let conclusion = libtest_mimic::run(&arguments, trials);
    matrix::strike();
    conclusion.exit();
}
