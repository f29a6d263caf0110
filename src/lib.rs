//! mongokeep backs up MongoDB from a terminal. One binary is the TUI, the command line and the daemon.
//!
//! # The architecture on one page
//!
//! Five decisions everything follows from:
//!
//! 1. **The store is the interface.** One SQLite file holds services, storages, jobs and the catalogue of backups.
//!    The TUI and the command line write intents, the daemon claims and runs them and writes progress.
//! 2. **The storage is the truth about backups.** A backup exists if and only if its manifest exists, and the
//!    manifest is written last. The catalogue can be rebuilt from a storage alone.
//! 3. **An open format.** Concatenated BSON in a standard tool's compression, metadata as `mongodump` writes it.
//! 4. **Plan, then execute.** Restore and delete first compute a plan that can be shown, then execute it.
//! 5. **Update returns effects.** The TUI's state changes in one pure function; one driver performs effects.
//!
//! # The rooms, and which way the arrows run
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`error`], [`domain`] | what things are; no I/O | nothing else |
//! | [`store`] | SQLite: catalogue, jobs, settings of services and storages | domain |
//! | [`storage`] | object stores behind one trait | domain |
//! | [`artifact`] | the format: layout, manifest, framing | domain |
//! | [`mongo`] | everything that speaks to a server | domain |
//! | [`engine`] | how a backup is made, read back, restored | the above, but never the store |
//! | [`daemon`] | single instance, runner, retry | the above |
//! | [`client`] | the validated API | domain, store, engine, what starts a daemon |
//! | [`cli`], [`tui`] | two faces of the client | domain, client |
//! | [`sandbox`] | throw-away MongoDB servers for the demo, tests and benchmarks | domain |
//! | [`demo`] | the main job on a throw-away replica set | sandbox, client, tui |
//!
//! `tests/architecture.rs` checks these arrows from the `use crate::` lines.

pub mod artifact;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod domain;
pub mod engine;
pub mod error;
pub mod mongo;
pub mod sandbox;
pub mod storage;
pub mod store;
pub mod tui;
