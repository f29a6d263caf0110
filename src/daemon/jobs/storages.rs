//! The storages of a job: opened with calls repeated, and with writes held back to the limit a person set.

use std::sync::Arc;

use super::super::env::Env;
use crate::control::storage_folder;
use crate::domain::storage::StorageLocation;
use crate::domain::text;
use crate::engine::Context;
use crate::error::{Error, Result};
use crate::storage::retry::Backoff;
use crate::storage::throttle::Limiter;
use crate::storage::{Opener, Storage};

/// Opens the storage called `name`.
///
/// Errors: see [`Opener::open`].
pub async fn open_storage(env: &Env, ctx: &Context, name: &str) -> Result<(StorageLocation, Arc<dyn Storage>)> {
    let location = env.store.storage(name).await?;
    let meter = Arc::clone(&ctx.meter);
    let shown = format!("storage {}", text::escape(name));
    let on_wait = Arc::new(move |why: Option<&Error>| {
        let is_news = meter.set_waiting(why.map(|_| shown.clone()));
        match why {
            Some(e) if is_news => meter.warn(format!("waiting for {shown}: {e}")),
            None if is_news => meter.info(format!("{shown} answers again")),
            _ => {}
        }
    });
    let mut opener = Opener::new(&location.config, Backoff::default(), ctx.cancel.clone()).on_wait(on_wait);
    if ctx.limits.bandwidth_limit.is_any() {
        opener = opener.limited(Limiter::new(ctx.limits.bandwidth_limit.clone()));
    }
    let storage = opener.open(&ctx.cancel).await?;
    Ok((location, storage))
}

/// See [`storage_folder::prepare`]. A disk that does not answer keeps a job that is cancelled no longer.
pub async fn prepare_folder(env: &Env, ctx: &Context, storage: &str) -> Result<()> {
    let name = storage.to_owned();
    let prepared = env.store.with(move |store| storage_folder::prepare(store, &store.storage(&name)?));
    ctx.cancel.run_until_cancelled(prepared).await.unwrap_or_else(|| Err(Error::cancelled()))
}
