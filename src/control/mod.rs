//! What the daemon and its clients share: who holds the lock, how a daemon is started and ended, where it logs, how a
//! storage's folder is made and a storage checked, how a notice is delivered, what engines are given, what the
//! catalogue keeps of a manifest, and how the store itself is copied and brought back.
//!
//! Neither may know the other: a client that needs something of the daemon finds it here.

use std::time::Duration;

pub mod catalogue_entry;
pub mod engine_notes;
pub mod lock;
pub mod log;
pub mod notify;
pub mod start;
pub mod state_copy;
pub mod storage_check;
pub mod storage_folder;

/// How long running jobs get to end in order when the daemon is asked to end.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);
