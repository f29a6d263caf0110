//! The storages of a job: opened with calls repeated, and held back to the limit that a person set.

use std::sync::Arc;

use super::super::env::Env;
use crate::control::storage_folder;
use crate::domain::storage::StorageLocation;
use crate::domain::text;
use crate::engine::Context;
use crate::error::{Error, Result};
use crate::storage::retry::Backoff;
use crate::storage::{Opener, Storage};
use crate::store::Store;

/// Opens the storage called `name`.
///
/// Errors: see [`Opener::open`] and [`storage_folder::recognize`].
pub async fn open_storage(env: &Env, ctx: &Context, name: &str) -> Result<(StorageLocation, Arc<dyn Storage>)> {
    let location = of_store(env, ctx, name, storage_folder::recognize).await?;
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
    let opener = Opener::new(&location.config, Backoff::within(ctx.limits.storage_wait), ctx.cancel.clone());
    let opener = opener.parallel_parts(ctx.limits.parallel_parts).limited(ctx.limiter.clone()).on_wait(on_wait);
    let storage = opener.open(&ctx.cancel).await?;
    Ok((location, storage))
}

/// See [`storage_folder::claim`].
pub async fn claim_folder(env: &Env, ctx: &Context, storage: &str) -> Result<()> {
    of_store(env, ctx, storage, storage_folder::claim).await.map(drop)
}

type Looked = fn(&Store, &StorageLocation) -> Result<()>;

/// The storage called `name`, at whose folder `look` was called. A disk that does not answer keeps a job that is cancelled no
/// longer.
async fn of_store(env: &Env, ctx: &Context, name: &str, look: Looked) -> Result<StorageLocation> {
    let name = name.to_owned();
    let looked = env.store.with(move |store| {
        let location = store.storage(&name)?;
        look(store, &location)?;
        Ok(location)
    });
    ctx.cancel.run_until_cancelled(looked).await.unwrap_or_else(|| Err(Error::cancelled()))
}
