//! Deleting slices that are of no use any more: the objects first, then their rows.
//!
//! Which ones go is asked of the store again for every few, so that a restore that was queued meanwhile keeps what it needs.
//! Only slices that this home wrote go: what another home records is its own business.

use std::sync::Arc;

use futures_util::StreamExt;

use super::blocking;
use super::runner::Env;
use super::task::open_storage;
use crate::domain::key::Key;
use crate::domain::text;
use crate::engine::Context;
use crate::engine::pitr::read_header;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::store::SlicesGoing;

const AT_ONCE: usize = 16;
/// So many are asked for, deleted and forgotten in one go.
const BATCH: usize = 500;

/// What became of a slice that should go.
enum End {
    Gone,
    /// It stays, and why.
    Left(String),
}

/// Deletes all slices of `service` that lead nowhere. An archive that does not let go of them keeps no other from it.
///
/// Errors: the first of a slice that could not be deleted; those before it are gone.
pub async fn run(env: &Env, ctx: &Context, service: &str) -> Result<()> {
    let mut deleted = 0_u64;
    let (mut stuck, mut failed) = (Vec::new(), None);
    let (store, of) = (env.store.clone(), service.to_owned());
    for archive in blocking(move || store.archives_going(&of)).await? {
        // What is chosen counts no more, so that nothing is chosen where nothing can be deleted.
        match open_storage(env, ctx, &archive.storage).await {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(e) => {
                failed.get_or_insert(e);
                stuck.push(archive);
            }
        }
    }
    loop {
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let (store, of, but) = (env.store.clone(), service.to_owned(), stuck.clone());
        let Some(going) = blocking(move || store.slices_going(&of, BATCH, &but)).await? else { break };
        ctx.meter.set_phase(format!("delete recorded oplog of {}", text::escape(service)));
        let archive = going.archive.clone();
        match batch(env, ctx, going).await {
            Ok(gone) => deleted += gone,
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(e) => {
                failed.get_or_insert(e);
                stuck.push(archive);
            }
        }
    }
    if deleted > 0 {
        ctx.meter.info(format!("deleted {} slices of the oplog of {}", text::count(deleted), text::escape(service)));
    }
    failed.map_or(Ok(()), Err)
}

/// How many are gone.
async fn batch(env: &Env, ctx: &Context, going: SlicesGoing) -> Result<u64> {
    let (_, storage) = open_storage(env, ctx, &going.archive.storage).await?;
    let (mut gone, mut left, mut failed) = (Vec::new(), Vec::new(), None);
    let mut ends = futures_util::stream::iter(going.keys)
        .map(|key| {
            let storage: Arc<dyn Storage> = Arc::clone(&storage);
            async move { (one(storage.as_ref(), &env.home_id, &key).await, key) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((end, key)) = ends.next().await {
        match end {
            Ok(End::Gone) => gone.push(key),
            Ok(End::Left(why)) => {
                ctx.meter.warn(format!("{} stays: {why}", text::escape(&key)));
                left.push(key);
            }
            Err(e) => {
                failed.get_or_insert((key, e));
            }
        }
        if failed.is_some() || ctx.cancel.is_cancelled() {
            break;
        }
    }
    drop(ends);
    let deleted = gone.len() as u64;
    let (store, of) = (env.store.clone(), going.archive.storage);
    blocking(move || {
        store.forget_slices(&of, &gone)?;
        store.slices_left_alone(&of, &left)
    })
    .await?;
    match failed {
        Some((key, e)) => Err(e.context(format!("slice {} could not be deleted", text::escape(&key)))),
        None => Ok(deleted),
    }
}

async fn one(storage: &dyn Storage, home_id: &str, key: &str) -> Result<End> {
    let key = Key::new(key)?;
    let Some(object) = storage.stat(&key).await? else { return Ok(End::Gone) };
    match read_header(storage, &key, object.size).await {
        Ok((header, _)) if header.home_id == home_id => {}
        Ok(_) => return Ok(End::Left("another installation recorded it".to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(End::Gone),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
            return Ok(End::Left(format!("nobody can say whose it is: {e}")));
        }
        Err(e) => return Err(e),
    }
    storage.delete(&key).await.map(|()| End::Gone)
}
