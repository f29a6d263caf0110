//! mongokeep backs up MongoDB from a terminal. One binary is the TUI, the command line and the daemon.
//!
//! # The architecture on one page
//!
//! Five decisions everything follows from:
//!
//! 1. **The store is the interface.** One SQLite file holds services, storages, schedules, jobs and the catalogue.
//!    The TUI and the command line write intents, the daemon claims and runs them and writes progress.
//! 2. **The storage is the truth about backups.** A backup exists if and only if its manifest exists, and the
//!    manifest is written last. The catalogue can be rebuilt from a storage alone.
//! 3. **An open format.** Concatenated BSON in a standard tool's compression, metadata as `mongodump` writes it.
//! 4. **Plan, then execute.** Restore and delete first compute a plan that can be shown, then execute it.
//! 5. **Update returns effects.** The TUI's state changes in one pure function; one driver performs effects.
//!
//! # The rooms, and which way the arrows run
//!
//! Everything may use [`error`] and [`domain`]; besides them and itself, a module uses only what its row says.
//!
//! | module | what it is | may use |
//! |---|---|---|
//! | [`error`] | one error type, which decides exit codes and retries | |
//! | [`domain`] | what things are; no I/O | |
//! | [`config`] | folders and settings | |
//! | [`store`] | SQLite: catalogue, jobs, schedules, services and storages | |
//! | [`storage`] | object stores behind one trait | |
//! | [`artifact`] | the format: layout, manifest, framing; BSON as bytes | storage |
//! | [`mongo`] | everything that speaks to a server | artifact |
//! | [`engine`] | how a backup is made, read back, restored; never sees the store | storage, artifact, mongo |
//! | [`control`] | what daemon and clients share: lock, start, log, delivery of notices | config, store, storage, artifact, engine |
//! | [`daemon`] | the job loop, a runner for each kind of job, the scheduler and what else runs beside | config, store, storage, artifact, mongo, engine, control |
//! | [`client`] | the validated API | config, store, storage, artifact, mongo, engine, control |
//! | [`cli`] | the command line | config, control, client, daemon, engine, tui, demo |
//! | [`tui`] | the screen | config, client, artifact, engine |
//! | [`sandbox`] | throw-away MongoDB servers for the demo, tests and benchmarks | |
//! | [`demo`] | the main job on a throw-away replica set | config, sandbox, client, daemon, engine, tui |
//!
//! `tests/it/architecture.rs` reads this table and checks it against every path in the code. It also finds circles between
//! files: a short list in it names those that are one subject told over several files.
//!
//! # Where a change belongs
//!
//! - **A storage**: its file in `storage/backends`, and its lines in `storage/backends.rs`. Its fields say how flags, forms,
//!   JSON and edits treat it.
//! - **An engine**: its file or folder in `engine`, and its line in `engine/mod.rs`.
//! - **A kind of job**: its entry in `domain/job_kind.rs`, its runner in `daemon/jobs`, and its line in
//!   `daemon/jobs/mod.rs`.
//! - **A field** of a service, backup, schedule, restore or setting: its entry in `domain/fields`.
//!
//! When such a change needs another place, the design is wrong there.

pub mod artifact;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
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
