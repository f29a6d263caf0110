//! The tests of the whole, in one binary: linked once, run side by side.
//!
//! What needs the machine for itself, or servers of other versions, is in `tests/alone`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod cli;
mod compatibility;
mod daemon;
mod definitions;
mod dump;
mod encryption;
mod export;
mod members;
mod messages;
mod mongodump;
mod notifications;
mod odd_names;
mod pbm;
mod pbm_layout;
mod physical;
mod pitr;
mod restore;
mod retention;
mod sandbox;
mod schedules;
mod screen;
mod selections;
mod service_check;
mod state_copy;
mod storage;
mod storage_check;
mod store_files;
mod verify_damage;
mod written_before;
