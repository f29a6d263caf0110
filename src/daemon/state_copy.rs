//! Keeps the copy of the store up to date in the storage that the settings name.
//!
//! No command waits for it. What could not be written is a condition: it is shown, notified and tried again.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::component::Component;
use super::env::Env;
use crate::control::state_copy::{Pending, pending, write_copy};
use crate::domain::notification::Event;
use crate::domain::text::escape;
use crate::error::{ErrorKind, Result};
use crate::store::blocking;

/// How often it is asked whether anything was decided. The question reads a few small tables.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// After a failure, doubled each time. Whatever is decided meanwhile is tried at once.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long the end of the daemon waits for a copy that is being written. The next daemon writes it otherwise.
const END_LIMIT: Duration = Duration::from_secs(5);

pub fn state_copy(env: &Env) -> Component {
    let env = env.clone();
    Component::start("state copy", END_LIMIT, move |stop| keep_copy(env, stop))
}

async fn keep_copy(env: Env, stop: CancellationToken) {
    // What could not be copied, and when it was tried last. What is decided anew is not kept waiting for it.
    let mut failed: Option<(Pending, Instant)> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        match look(&env).await {
            Ok(None) => failed = None,
            Ok(Some(pending)) => {
                let again = failed.as_ref().is_some_and(|(before, _)| *before == pending);
                let waits = again && failed.as_ref().is_some_and(|(_, at)| at.elapsed() < pause);
                if !waits {
                    pause = if again { (pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
                    let is_written = copy(&env, &pending.storage, &stop).await;
                    failed = (!is_written).then(|| (pending, Instant::now()));
                }
            }
            Err(e) => warn!("whether the store has to be copied: {e}"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

/// What is to be copied. Where nothing is, nothing is wrong either.
async fn look(env: &Env) -> Result<Option<Pending>> {
    let settings = env.settings.clone();
    env.store
        .with(move |store| {
            let pending = pending(store, &settings.settings())?;
            if pending.is_none() {
                store.set_conditions(Event::StateCopy, &[], true)?;
            }
            Ok(pending)
        })
        .await
}

/// Whether it was written. Why not is a condition.
async fn copy(env: &Env, storage: &str, stop: &CancellationToken) -> bool {
    let settings = env.settings.clone();
    let outcome = async {
        let settings = blocking(move || Ok(settings.settings())).await?;
        write_copy(&env.store, &settings, stop).await
    };
    let wrong = match outcome.await {
        Ok(note) => {
            info!(storage = note.storage, "the store is copied");
            None
        }
        // The daemon ends; the next one writes it.
        Err(e) if e.kind() == ErrorKind::Cancelled => return false,
        Err(e) => {
            let why = e.hint_text().map_or_else(|| e.full(), |hint| format!("{} ({hint})", e.full()));
            let text =
                format!("the last changes are not in the copy of the store in storage {}: {why}", escape(storage));
            warn!("{text}");
            Some(text)
        }
    };
    let is_written = wrong.is_none();
    let present: Vec<(String, String)> = wrong.into_iter().map(|text| (storage.to_owned(), text)).collect();
    if let Err(e) = env.store.set_conditions(Event::StateCopy, &present, true).await {
        warn!("noting how the copy of the store went: {e}");
    }
    is_written
}
