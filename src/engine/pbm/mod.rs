//! Percona Backup for MongoDB (PBM) as an engine, through its program `pbm`.
//!
//! Where a cluster has outgrown one machine, agents beside every node make its backups, and this module asks them to. What
//! stands here is how PBM is asked and understood:
//!
//! - [`program`] runs `pbm` and reads what it answers, [`failure`] understands what it refuses.
//! - [`answers`] are the types of its answers.
//! - [`configuration`] is the configuration of PBM that a service needs, and [`configured`] reads and writes it.
//! - [`cluster`] says whether a cluster can be backed up.
//! - `nodes` shows a cluster to people, `locks` reads who holds it.
//! - [`follow`] waits for the end of an operation.
//! - `recording` switches PBM's recording of the oplog, and says what of it can be restored.
//!
//! Nothing here trusts an exit code: `pbm` ends with 0 after a backup that was cancelled and a restore that is half done.
//! Nothing replaces a word of PBM that is not known: it is shown as it came, and never counts as done.

pub mod answers;
mod backup;
mod chain;
mod check;
pub mod cluster;
pub mod configuration;
pub mod configured;
pub mod console;
mod delete;
pub mod driven;
pub mod failure;
pub mod follow;
mod held;
mod locks;
pub mod log_lines;
mod nodes;
pub mod operation;
pub mod output;
mod pbm_engine;
pub mod program;
mod recording;
pub mod redact;
mod restore;
pub mod setting_paths;
pub mod storage_section;
pub mod version;
mod watch;

pub use backup::pbm_folder;
pub use pbm_engine::PbmEngine;

#[cfg(test)]
mod tests;
