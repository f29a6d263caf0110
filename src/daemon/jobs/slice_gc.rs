//! Deleting slices that are of no use any more: the objects first, then their rows.
//!
//! Which ones go is asked of the store again for every few, so that a restore that was queued meanwhile keeps what it needs.
//! Only slices that this home wrote go: what another home records is its own business.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;

use super::super::env::Env;
use super::storages::open_storage;
use crate::domain::backup::{BackupType, Model};
use crate::domain::key::Key;
use crate::domain::pitr::Archive;
use crate::domain::text;
use crate::engine::pitr::read_header;
use crate::engine::recording::RecordingOrder;
use crate::engine::{Context, engine};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::store::SlicesGoing;

const AT_ONCE: usize = 16;
/// So many are asked for, deleted and forgotten in one go.
const BATCH: usize = 500;
/// A storage that does not let go of so many slices is asked for no more of them in this job.
const STUCK: usize = 5000;

/// After so many failures that may pass, the same: each of them was waited for.
const IN_A_BATCH: usize = 3;

/// What became of a slice that should go.
enum End {
    Gone,
    /// It stays, and why.
    Left(String),
}

/// Deletes all slices of `service` that lead nowhere. What cannot be deleted keeps no other slice from it: a storage that is
/// away is left out, and so is a slice that its storage does not let go.
///
/// Errors: the first of what could not be deleted; all else is gone.
pub async fn delete_useless(env: &Env, ctx: &Context, service: &str) -> Result<()> {
    let mut deleted = 0_u64;
    let (mut away, mut stuck, mut failed) = (BTreeSet::new(), BTreeSet::new(), None);
    let mut archives = env.store.archives_going(service).await?;
    let places: BTreeSet<String> = archives.iter().map(|archive| archive.storage.clone()).collect();
    for place in places {
        // What is chosen counts no more, so that nothing is chosen where nothing can be deleted.
        match open_storage(env, ctx, &place).await {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
            Err(e) => {
                failed.get_or_insert(e);
                away.insert(place);
            }
        }
    }
    loop {
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let but: Vec<Archive> = archives.iter().filter(|archive| away.contains(&archive.storage)).cloned().collect();
        let (of, held) = (service.to_owned(), stuck.clone());
        let going = env.store.with(move |store| store.slices_going(&of, BATCH, &but, &held));
        let Some(going) = going.await? else { break };
        if !archives.contains(&going.archive) {
            archives.push(going.archive.clone());
        }
        ctx.meter.set_phase(format!("delete recorded oplog of {}", text::escape(service)));
        let storage = going.archive.storage.clone();
        let ended = delete_batch(env, ctx, going).await?;
        deleted += ended.gone;
        if ended.failed.iter().filter(|(_, e)| e.is_retryable()).count() >= IN_A_BATCH {
            away.insert(storage.clone());
        }
        for (key, e) in ended.failed {
            if e.kind() == ErrorKind::Cancelled {
                return Err(e);
            }
            if is_away(&e) || stuck.len() >= STUCK {
                away.insert(storage.clone());
            }
            stuck.insert(key);
            failed.get_or_insert(e);
        }
    }
    if deleted > 0 {
        ctx.meter.info(format!(
            "deleted {} of the oplog of {}",
            text::counted(deleted, "slice"),
            text::escape(service)
        ));
    }
    failed.map_or(Ok(()), Err)
}

/// Has the engine of the service of `schedule` delete what it recorded before its oldest base, if it records by itself and
/// the schedule is one that has it recorded.
///
/// Errors: those of the engine; then nothing was deleted.
pub async fn delete_by_engine(env: &Env, ctx: &Context, schedule: &str) -> Result<()> {
    let name = schedule.to_owned();
    let known = env.store.with(move |store| {
        let schedule = match store.schedule(&name) {
            Ok(schedule) => schedule,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if schedule.backup_type != BackupType::Pitr || schedule.retention.keeps_all() {
            return Ok(None);
        }
        let recorded = store.engine_recording(&schedule.service)?;
        let is_here = recorded.is_some_and(|r| r.storage == schedule.storage && r.folder == schedule.folder);
        Ok(is_here.then_some((store.service(&schedule.service)?, store.storage(&schedule.storage)?, schedule.folder)))
    });
    let Some((service, location, folder)) = known.await? else { return Ok(()) };
    let Some(recording) = engine(service.engine, Model::Logical)?.recording() else { return Ok(()) };
    let slice_length = env.settings.settings().slice_length();
    let order = RecordingOrder { service: &service, location: &location.config, folder: &folder, slice_length };
    recording.delete_useless(ctx, &order).await
}

/// Whether it is the storage that fails, and not the one object.
pub fn is_away(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Unreachable | ErrorKind::Unauthenticated)
}

struct Ended {
    gone: u64,
    failed: Vec<(String, Error)>,
}

/// Errors: the storage cannot be opened, or the store fails.
async fn delete_batch(env: &Env, ctx: &Context, going: SlicesGoing) -> Result<Ended> {
    let (_, storage) = match open_storage(env, ctx, &going.archive.storage).await {
        Ok(opened) => opened,
        Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
        Err(e) => {
            // None of them is asked for again in this job.
            let hint = e.hint_text().unwrap_or_default().to_owned();
            let again = |key| (key, Error::new(ErrorKind::Unreachable, e.full()).hint(hint.clone()));
            return Ok(Ended { gone: 0, failed: going.keys.into_iter().map(again).collect() });
        }
    };
    let (mut gone, mut left, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut ends = futures_util::stream::iter(going.keys)
        .map(|key| {
            let storage: Arc<dyn Storage> = Arc::clone(&storage);
            async move { (delete_one(storage.as_ref(), &env.home_id, &key).await, key) }
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
                let e = e.context(format!("slice {} could not be deleted", text::escape(&key)));
                failed.push((key, e));
            }
        }
        let passing = failed.iter().filter(|(_, e)| e.is_retryable()).count();
        if ctx.cancel.is_cancelled() || passing >= IN_A_BATCH || failed.last().is_some_and(|(_, e)| is_away(e)) {
            break;
        }
    }
    drop(ends);
    let deleted = gone.len() as u64;
    let of = going.archive.storage;
    let noted = env.store.with(move |store| {
        store.forget_slices(&of, &gone)?;
        store.slices_left_alone(&of, &left)
    });
    noted.await?;
    Ok(Ended { gone: deleted, failed })
}

async fn delete_one(storage: &dyn Storage, home_id: &str, key: &str) -> Result<End> {
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
