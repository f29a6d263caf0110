//! The daemon: claims jobs, runs them, and tries again by their policy.

use std::time::Duration;

pub mod facts;
pub mod lock;
pub mod start;

/// How long running jobs get to end in order when the daemon is asked to end.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);
