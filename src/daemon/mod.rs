//! The daemon: one process for each home that claims jobs, runs them, and tries again by their policy.
//!
//! It lives and dies by its lock. What a daemon that died left behind is found by the next one through the store, and
//! ended before anything else is begun. It must never call a backup good whose manifest it has not written or read.

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Home;
use crate::control::lock;
use crate::error::{Result, io};
use crate::store::{Access, Store};

mod component;
mod env;
mod job_loop;
mod jobs;
mod metrics;
mod notifier;
mod progress;
mod recorder;
pub mod scheduler;
mod service_manager;
#[cfg(test)]
mod stand;
mod state_copy;

/// Runs the daemon of `home` until it is asked to end, or, in the background, has had nothing to do for long.
///
/// Errors: `Conflict` when another one runs.
pub async fn run_daemon(home: &Home, background: bool) -> Result<()> {
    if background {
        // A session of its own: closing the terminal it was started from must not end it.
        rustix::process::setsid().map_err(|e| io("leaving the terminal's session", e.into()))?;
    }
    run(home, job_loop::Ending::signals(background)?).await
}

/// Runs the daemon of `home` inside this process, which does something else besides and keeps its signals, until `stop`.
///
/// Errors: `Conflict` when another one runs.
pub async fn run_daemon_until(home: &Home, stop: CancellationToken) -> Result<()> {
    run(home, job_loop::Ending::Told(stop)).await
}

async fn run(home: &Home, ending: job_loop::Ending) -> Result<()> {
    home.create()?;
    let lock = lock::DaemonLock::acquire(home)?;
    let store = Store::open(&home.store_file(), &home.key_file(), Access::Migrate)?;
    info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), "daemon started");
    let outcome = job_loop::run_jobs(home.clone(), store, lock, ending).await;
    info!("daemon ended");
    outcome
}
