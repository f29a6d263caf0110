//! What systemd is told: that the daemon is ready, that it is ending, and that it is alive.
//!
//! Without a service manager (no `NOTIFY_SOCKET`) nothing is sent. The daemon must never depend on an answer.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

/// How long a service manager that does not read is waited for.
const LIMIT: Duration = Duration::from_secs(2);

pub struct ServiceManager {
    /// How often it wants to hear that the daemon is alive, with room to spare.
    every: Option<Duration>,
    last: Instant,
}

impl ServiceManager {
    pub fn from_environment() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|limit| limit / 3), last: Instant::now() }
    }

    pub async fn ready(&self) {
        send(&[NotifyState::Ready, NotifyState::Status("ready")]).await;
    }

    pub async fn stopping(&self) {
        send(&[NotifyState::Stopping, NotifyState::Status("ending what runs")]).await;
    }

    /// Called by the loop that claims jobs: a daemon that hangs falls silent.
    pub fn alive(&mut self) {
        if self.every.is_some_and(|every| self.last.elapsed() >= every) {
            self.last = Instant::now();
            // Beside the loop, which must not wait for whoever reads this.
            tokio::spawn(send(&[NotifyState::Watchdog]));
        }
    }
}

async fn send(states: &'static [NotifyState<'static>]) {
    let sent = tokio::task::spawn_blocking(move || sd_notify::notify(states));
    match tokio::time::timeout(LIMIT, sent).await {
        Ok(Ok(Err(e))) => warn!("the service manager cannot be notified: {e}"),
        Ok(_) => {}
        Err(_) => warn!("the service manager does not listen"),
    }
}
