//! The core of what is promised, on every MongoDB version the tests know, and restores between them.
//!
//! `cargo test --test alone -- 4.4.2` runs what concerns one version; a case is called `matrix::4.4.2::round_trip`, or
//! `matrix::4.4.2->5.0.4::round_trip` where a backup of the first is restored into the second. A version that cannot be had is
//! named in a line, and its cases end there; with `CI=true` they fail.
//!
//! To add a case: an `async fn(Ground)` in a module of its subject, and one line in [`cases`]. Its `Ground` is two
//! running replica sets of one member each, without authentication, that hold nothing yet (the oplog does hold what
//! earlier cases did). Cases that need other servers start them by themselves, with the `mongod` of the ground. Cases
//! run one at a time. `MONGOKEEP_MONGOD_4_4_2` and so on name servers that need not be fetched.

mod checks;
mod data;
mod demo;
mod export;
mod ground;
mod moments;
mod round_trip;
mod under_writes;
mod updates;
mod users;

pub use ground::strike;
use ground::{Case, between, on};
use libtest_mimic::Trial;

/// Every version the tests know, oldest first.
const ALL: [&str; 5] = ["4.4.2", "5.0.4", "6.0.5", "6.0.27", "7.0.11"];

/// Every case of the matrix, as a test.
pub fn trials() -> Vec<Trial> {
    cases().into_iter().map(ground::trial).collect()
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(on(ALL, "round_trip", round_trip::same_version));
    cases.extend(between(upwards(), "round_trip", round_trip::newer_version));
    cases.extend(between(downwards(), "refused", round_trip::older_version));
    let one_moment = under_writes::is_the_state_of_one_moment;
    cases.extend(on(ALL, "a_backup_under_writes_is_the_state_of_one_moment", one_moment));
    cases.extend(on(ALL, "moments_come_back", moments::come_back));
    cases.extend(between(upwards_by_one(), "moments_come_back", moments::come_back));
    let kept = users::are_kept_with_the_built_in_roles;
    cases.extend(on(ALL, "users_are_kept_with_the_built_in_roles", kept));
    cases.extend(between([("4.4.2", "6.0.27")], "users_are_kept_with_the_built_in_roles", kept));
    cases.extend(on(ALL, "an_export_is_taken_by_mongorestore", export::is_taken_by_mongorestore));
    cases.extend(on(["4.4.2", "5.0.4", "6.0.5", "6.0.27"], "the_demo_agrees", demo::agrees));
    cases.extend(on(["4.4.2", "5.0.4", "6.0.5", "6.0.27"], "updates_of_every_form", updates::of_every_form));
    // Updates of paths, which 4.4 alone writes, into each that is newer.
    let from_4_4 = [("4.4.2", "5.0.4"), ("4.4.2", "6.0.27"), ("4.4.2", "7.0.11")];
    cases.extend(between(from_4_4, "updates_of_every_form", updates::of_every_form));
    let named = checks::majority_reads_that_are_off_are_named;
    cases.extend(on(["4.4.2"], "majority_reads_that_are_off_are_named", named));
    cases
}

/// From each version into the next one.
fn upwards_by_one() -> Vec<(&'static str, &'static str)> {
    ALL.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The same, and from the oldest into the newest.
fn upwards() -> Vec<(&'static str, &'static str)> {
    let mut pairs = upwards_by_one();
    pairs.push((ALL[0], ALL[ALL.len() - 1]));
    pairs
}

/// Into the release before.
fn downwards() -> Vec<(&'static str, &'static str)> {
    vec![("5.0.4", "4.4.2"), ("6.0.5", "5.0.4"), ("7.0.11", "6.0.27")]
}
