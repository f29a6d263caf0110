//! Blocks that no backup needs any more go after what needed them.

use super::super::env::Env;
use super::storages::open_storage;
use crate::artifact::layout::BlocksRoot;
use crate::engine::Context;
use crate::engine::blocks::{collector, left};
use crate::error::{ErrorKind, Result};
use crate::storage::Storage;

/// Removes the blocks of `folder` that no backup needs. What cannot be removed now is said, and removed by the next that
/// deletes a backup: it is no failure of what was done.
///
/// Errors: `Cancelled`.
pub async fn collect_after(env: &Env, ctx: &Context, storage: &str, folder: &str) -> Result<()> {
    let collecting = async {
        let (_, storage) = open_storage(env, ctx, storage).await?;
        collector::collect(ctx, storage.as_ref(), &BlocksRoot::new(folder)?, &env.home_id).await
    };
    match collecting.await {
        Ok(collected) => {
            if let Some(words) = collected.in_words() {
                ctx.meter.info(words);
            }
            Ok(())
        }
        Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
        Err(e) => {
            ctx.meter.warn(format!("blocks that no backup needs stay until the next backup is deleted: {e}"));
            Ok(())
        }
    }
}

/// The same when an attempt left some.
pub async fn collect_left(env: &Env, ctx: &Context, storage: &dyn Storage, folder: &str) {
    let collecting = async {
        let root = BlocksRoot::new(folder)?;
        if !left::is_noted(storage, &root).await? {
            return Ok(None);
        }
        collector::collect(ctx, storage, &root, &env.home_id).await.map(|collected| collected.in_words())
    };
    match collecting.await {
        Ok(None) => {}
        Ok(Some(words)) => ctx.meter.info(words),
        Err(e) => ctx.meter.warn(format!("blocks that no backup needs stay for now: {e}")),
    }
}
