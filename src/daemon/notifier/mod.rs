//! Notifications: what there is to report is taken from the store and delivered.
//!
//! No job ever waits for anything here. A notice is in the store until it was delivered, so a channel that is down is tried
//! again, also by the next daemon, and a notice that arrived is not sent a second time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::component::Component;
use super::env::Env;
use crate::config::Settings;
use crate::control::notify::{configured, deliver};
use crate::domain::clock;
use crate::domain::notification::{Channel, Notice};
use crate::engine::attempt::host_name;
use crate::error::Result;
use crate::store::{Store, blocking};

mod conditions;
mod recording;

/// How often the store is asked for a notice.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Between two tries at a channel that is down: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How long the end of the daemon waits for a delivery.
const END_LIMIT: Duration = Duration::from_secs(5);
/// A notice this old is no news any more.
const GIVE_UP: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// Everything that notifies somebody, while the daemon runs.
pub fn notifier(env: &Env) -> Component {
    let env = env.clone();
    Component::start("notifications", END_LIMIT, move |stop| async move {
        tokio::join!(
            deliver_all(&env, Channel::Command, &stop),
            deliver_all(&env, Channel::Webhook, &stop),
            conditions::watch_conditions(&env, &stop),
            recording::watch_recording(&env, &stop),
        );
    })
}

/// Delivers what there is for `channel`, one notice after the other, until `stop`. Finishes the delivery in progress so that
/// it is not repeated.
async fn deliver_all(env: &Env, channel: Channel, stop: &CancellationToken) {
    let host = host_name();
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = match deliver_next(env, channel, &host).await {
            Ok(true) => {
                pause = FIRST_PAUSE;
                Duration::ZERO
            }
            Ok(false) => POLL_INTERVAL,
            Err(e) => {
                match env.store.outbox_failed(channel, &e.full()).await {
                    Ok(0) => {}
                    Ok(dropped) => warn!(%channel, dropped, "too many notices wait; the oldest are dropped"),
                    Err(e) => warn!(%channel, "noting that it cannot be delivered: {e}"),
                }
                warn!(%channel, "{e}; tried again in {} s", pause.as_secs());
                let present = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                present
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Delivers the next notice. `false`: there is none.
async fn deliver_next(env: &Env, channel: Channel, host: &str) -> Result<bool> {
    let Some(pending) = env.store.outbox_next(channel).await? else { return Ok(false) };
    let home = env.home.clone();
    let settings = blocking(move || Settings::load(&home)).await?.notify();
    let (id, at) = (pending.id, pending.at);
    let wanted = Notice::of(id, at, host, pending.facts).filter(|n| settings.on.contains(&n.event));
    if let Some(notice) = wanted.filter(|_| configured(&settings, channel)) {
        match deliver(&settings, channel, &notice).await {
            Ok(how) => info!(%channel, notice = id, event = notice.event.word(), "delivered: {how}"),
            Err(e) if clock::now() - at > GIVE_UP => warn!(%channel, notice = id, "given up: {e}"),
            Err(e) => return Err(e),
        }
    }
    env.store.with(move |store| settle(store, id, channel)).await?;
    Ok(true)
}

/// Reported twice is better than not at all, but not by much: a store that is busy is asked again.
fn settle(store: &Store, id: i64, channel: Channel) -> Result<()> {
    let mut tries = 0;
    loop {
        match store.outbox_done(id, channel) {
            Err(e) if tries < 20 && e.is_retryable() => tries += 1,
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
