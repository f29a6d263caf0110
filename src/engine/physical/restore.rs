//! Restoring files into a folder: fetched, recovered, looked at, and made a member of a set of its own. Until the last step
//! is done the folder is marked, and after a failure or a cancel it is as empty as it was.

use super::lay_out::lay_out;
use super::plan::{self, Prepared, needed_bytes};
use super::recover::{Configuration, Recovery, set_identity};
use super::target_folder::{self, TargetFolder};
use crate::artifact::layout::BlocksRoot;
use crate::domain::pitr::OpTime;
use crate::domain::restore::DataFolder;
use crate::domain::text::{bytes, count, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::blocking::blocking;
use crate::engine::contract::{BeforeWriting, Confirmed, RestoreReport, RestoreSource};
use crate::error::{Error, ErrorKind, Result};

/// Restores `source` into the folder of a plan that was confirmed.
///
/// Errors: as [`crate::engine::contract::Engine::restore`].
pub(super) async fn into_folder(
    ctx: &Context,
    source: RestoreSource,
    folder: &DataFolder,
    confirmed: Confirmed<'_>,
    writes: &(dyn BeforeWriting + '_),
) -> Result<RestoreReport> {
    let prepared = plan::prepare(&source, folder, confirmed.request).await?;
    let shown = escape(&prepared.dir.to_string_lossy());
    must_fit(&source, &prepared)?;
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    writes.before_writing().await?;
    let target = TargetFolder::claim(&prepared.dir, confirmed.attempt_id, &prepared.manifest.name)?;
    match fill(ctx, &source, &prepared, confirmed).await {
        Ok(until) => {
            target.finish()?;
            let by_hand = confirmed.plan.files.iter().flat_map(|files| &files.by_hand);
            ctx.meter.info(format!("{shown} is at {}", until.in_words()));
            by_hand.for_each(|line| ctx.meter.info(line.clone()));
            Ok(RestoreReport { namespaces: 0, documents: 0, operations: 0, left_out: Vec::new() })
        }
        Err(error) => {
            // A cancel makes many things fail; what counts is that a person asked for it.
            let error = if ctx.cancel.is_cancelled() { Error::cancelled() } else { error };
            ctx.meter.set_phase("removing what was written");
            let removed = blocking("removing what was written", move || target.abandon()).await;
            Err(match removed {
                Ok(()) => with_hint(error, "nothing is left of it in the folder"),
                Err(left) => with_hint(error, &format!("remove what is left in {shown} by hand ({left})")),
            })
        }
    }
}

/// Errors: `StorageFull` when there is no room for the files.
pub(super) fn must_fit(source: &RestoreSource, prepared: &Prepared) -> Result<()> {
    let (free, needed) = (target_folder::free_bytes(&prepared.dir)?, needed_bytes(source, &prepared.manifest));
    if free >= needed {
        return Ok(());
    }
    let shown = escape(&prepared.dir.to_string_lossy());
    let what = format!("{} are free at {shown}, the files need {}", bytes(free), bytes(needed));
    Err(Error::new(ErrorKind::StorageFull, what).hint("nothing was written; make room, or name another folder"))
}

/// A hint that there is already says more.
pub(super) fn with_hint(error: Error, hint: &str) -> Error {
    let hint = match error.hint_text() {
        Some(own) => format!("{own}; {hint}"),
        None => hint.to_owned(),
    };
    error.hint(hint)
}

/// Fetches the files, recovers them and makes them a member of their replica set. Returns the position that they are at.
pub(super) async fn fill(
    ctx: &Context,
    source: &RestoreSource,
    prepared: &Prepared,
    confirmed: Confirmed<'_>,
) -> Result<Timestamp> {
    let Prepared { manifest, mongod, dir, replica_set, members } = prepared;
    let check = !confirmed.request.no_check;
    let root = BlocksRoot::new(&manifest.folder)?;
    lay_out(ctx, &source.storage, &root, manifest, &manifest.opening(source.keys.clone())?, dir).await?;
    let files = count(manifest.files.len() as u64);
    ctx.meter.info(format!("fetched {files} files, {}", bytes(manifest.uncompressed_bytes)));
    let top = OpTime { ts: manifest.consistent_at_ts, term: manifest.consistent_at_term };
    let recovery = Recovery { ctx, mongod, folder: dir, options: &manifest.folder_options, top };
    let recovered = recovery.recover(source.tail.as_ref()).await?;
    let until = recovered.until;
    let configuration = Configuration {
        name: replica_set,
        members,
        identity: set_identity(&manifest.attempt_id, until, replica_set, members),
    };
    let checked = recovery.become_member(&configuration, check, &recovered).await?;
    if check {
        ctx.meter.info(format!("{} collections are valid", count(checked)));
    }
    Ok(until)
}

/// See [`crate::engine::contract::Engine::abandoned_restore`].
pub(super) async fn abandoned(folder: &DataFolder, attempt_id: &str) -> Result<Option<String>> {
    let (dir, attempt) = (std::path::PathBuf::from(&folder.dir), attempt_id.to_owned());
    let shown = escape(&folder.dir);
    let work = move || {
        super::mongod::end_left(&dir);
        target_folder::abandon_left(&dir, &attempt)
    };
    match blocking("removing what was written", work).await {
        Ok(true) => Ok(Some(format!("what it had written to {shown} was removed"))),
        Ok(false) => Ok(Some(format!("it had written nothing to {shown}"))),
        Err(e) => Err(e.hint(format!("remove what is left in {shown} by hand"))),
    }
}
