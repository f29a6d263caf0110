//! Telling somebody: a command that is run, a webhook that is called.
//!
//! Nothing here is ever waited for by a job. What is to be told is in the store until it was told, so a channel that is
//! down is tried again, also by the next daemon, and a notice that arrived is not sent a second time.

use std::time::Duration;

use chrono::Utc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::blocking;
use super::env::Env;
use crate::config::{Notify, Settings};
use crate::domain::notification::{Channel, Notice};
use crate::engine::attempt::host_name;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

mod command;
mod conditions;
mod recording;
mod webhook;

/// How often the store is asked for something to tell.
const LOOK: Duration = Duration::from_millis(500);
/// Between two tries at a channel that is down: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// How long the end of the daemon waits for what is being told.
const END_LIMIT: Duration = Duration::from_secs(5);
/// A notice this old is no news any more.
const GIVE_UP: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// Everything that tells somebody something, while the daemon runs.
pub struct Telling {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Telling {
    pub fn start(env: &Env) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for channel in [Channel::Command, Channel::Webhook] {
            tasks.spawn(run(env.clone(), channel, stop.clone()));
        }
        tasks.spawn(conditions::watch(env.clone(), stop.clone()));
        tasks.spawn(recording::watch(env.clone(), stop.clone()));
        Self { stop, tasks }
    }

    /// What is just being told is told to its end, if that is soon; the rest is left to the next daemon.
    pub async fn end(&mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_LIMIT, all).await.is_err() {
            warn!("a notification was being delivered; the next daemon may send it again");
            self.tasks.abort_all();
        }
    }
}

/// Tells `channel` what there is to tell, one after the other, until `stop`. What is being told then is told to its end,
/// so that it is not told again.
async fn run(env: Env, channel: Channel, stop: CancellationToken) {
    let host = host_name();
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = match next(&env, channel, &host).await {
            Ok(true) => {
                pause = FIRST_PAUSE;
                Duration::ZERO
            }
            Ok(false) => LOOK,
            Err(e) => {
                let (store, why) = (env.store.clone(), e.full());
                match blocking(move || store.outbox_failed(channel, &why)).await {
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

/// Tells the next notice. `false`: there is none.
async fn next(env: &Env, channel: Channel, host: &str) -> Result<bool> {
    let store = env.store.clone();
    let Some(pending) = blocking(move || store.outbox_next(channel)).await? else { return Ok(false) };
    let home = env.home.clone();
    let settings = blocking(move || Settings::load(&home)).await?.notify();
    let (id, at) = (pending.id, pending.at);
    let wanted = Notice::of(id, at, host, pending.facts).filter(|n| settings.on.contains(&n.event));
    if let Some(notice) = wanted.filter(|_| configured(&settings, channel)) {
        match deliver(&settings, channel, &notice).await {
            Ok(how) => info!(%channel, notice = id, event = notice.event.word(), "delivered: {how}"),
            Err(e) if Utc::now() - at > GIVE_UP => warn!(%channel, notice = id, "given up: {e}"),
            Err(e) => return Err(e),
        }
    }
    let store = env.store.clone();
    blocking(move || settle(&store, id, channel)).await?;
    Ok(true)
}

/// Told twice is better than not at all, but not by much: a store that is busy is asked again.
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

fn configured(settings: &Notify, channel: Channel) -> bool {
    match channel {
        Channel::Command => !settings.command.is_empty(),
        Channel::Webhook => settings.webhook_url.is_some(),
    }
}

/// Tells `channel` that this is a test. Returns what there is to say about how it went.
///
/// Errors: `NotFound` when the channel is not set up.
pub async fn test(settings: &Notify, channel: Channel) -> Result<String> {
    if !configured(settings, channel) {
        let key = match channel {
            Channel::Command => "notify.command",
            Channel::Webhook => "notify.webhook_url",
        };
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no {channel} to tell anything to: {key} is empty"),
        )
        .hint(format!("mongokeep settings set {key} VALUE")));
    }
    deliver(settings, channel, &Notice::test(&host_name())).await
}

async fn deliver(settings: &Notify, channel: Channel, notice: &Notice) -> Result<String> {
    let mut body =
        serde_json::to_vec(notice).map_err(|e| Error::new(ErrorKind::Internal, "writing a notice").source(e))?;
    body.push(b'\n');
    match channel {
        Channel::Command => command::run(&settings.command, body).await,
        Channel::Webhook => {
            let url = settings.webhook_url.as_deref().unwrap_or_default();
            webhook::post(url, settings.webhook_secret_file.as_deref(), body).await
        }
    }
}
