//! The daemon: one process for each home that claims jobs, runs them, and tries again by their policy.
//!
//! It lives and dies by its lock. What a daemon that died left behind is found by the next one through the store, and
//! ended before anything else is begun. It must never call a backup good whose manifest it has not written or read.

use std::time::Duration;

use tracing::info;

use crate::config::Home;
use crate::error::{Error, ErrorKind, Result, io};
use crate::store::{Access, Store};

mod backup;
mod delete;
mod env;
pub mod facts;
pub mod folder;
pub mod lock;
pub mod log;
mod metrics;
pub mod notify;
mod progress;
mod prune;
mod recover;
mod restore;
mod retention;
mod runner;
pub mod scheduler;
mod service_manager;
mod slicer;
#[cfg(test)]
mod stand;
pub mod start;
mod task;
mod verify;

/// How long running jobs get to end in order when the daemon is asked to end.
pub const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Runs the daemon of `home` until it is asked to end, or, in the background, has had nothing to do for long.
///
/// Errors: `Conflict` when another one runs.
pub async fn run(home: &Home, background: bool) -> Result<()> {
    if background {
        // A session of its own: closing the terminal it was started from must not end it.
        rustix::process::setsid().map_err(|e| io("leaving the terminal's session", e.into()))?;
    }
    home.create()?;
    let lock = lock::DaemonLock::acquire(home)?;
    let store = Store::open(&home.store_file(), &home.key_file(), Access::Migrate)?;
    info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), "daemon started");
    let outcome = runner::run(home.clone(), store, lock, background).await;
    info!("daemon ended");
    outcome
}

/// Runs something that blocks (the store, a file) beside the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, "a step of the daemon ended early").source(e))?
}
