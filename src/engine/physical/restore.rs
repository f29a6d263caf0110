//! Restoring files into a folder: fetched, recovered, looked at, and made a member of a set of its own. Until the last step
//! is done the folder is marked, and after a failure or a cancel it is as empty as it was.

use super::lay_out::lay_out;
use super::manifest::PhysicalManifest;
use super::plan::{self, Prepared, needed_bytes};
use super::recover::{Configuration, Recovery};
use super::target_folder::{self, TargetFolder};
use crate::artifact::layout::BlocksRoot;
use crate::domain::pitr::OpTime;
use crate::domain::restore::DataFolder;
use crate::domain::text::{bytes, count, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::blocking::blocking;
use crate::engine::contract::{BeforeWriting, Confirmed, RestoreReport, RestoreSource};
use crate::engine::progress::took_words;
use crate::error::{Error, ErrorKind, Result};

/// Where the log of a server's tables lies.
const JOURNAL: &str = "journal/";

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
    match fill(ctx, &source, &prepared, confirmed, 0).await {
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

/// Fetches the files, recovers them as a member of their replica set, and proves that they are whole. What the caller does then
/// counts as `after` bytes of work. Returns the position that they are at.
pub(super) async fn fill(
    ctx: &Context,
    source: &RestoreSource,
    prepared: &Prepared,
    confirmed: Confirmed<'_>,
    after: u64,
) -> Result<Timestamp> {
    let Prepared { manifest, mongod, dir, replica_set, members } = prepared;
    let check = !confirmed.request.no_check;
    let meter = &ctx.meter;
    // Nobody knows how long a recovery takes. It counts as much as the logs it reads, and the end as one byte, so that the
    // work is not shown as done before it is.
    let (files, logs) = (manifest.uncompressed_bytes, logs_bytes(source, manifest));
    let all = [files, logs, if check { files } else { 0 }, 1, after];
    meter.set_totals(all.into_iter().fold(0, u64::saturating_add), manifest.files.len() as u64, 0);
    let root = BlocksRoot::new(&manifest.folder)?;
    let opening = manifest.opening(source.keys.clone())?;
    let fetching = lay_out(ctx, &source.storage, &root, manifest, &opening, dir);
    let (to_disk, took) = meter.watched(|| "fetching files".to_owned(), fetching).await;
    let to_disk = to_disk?;
    let number = count(manifest.files.len() as u64);
    meter.info(format!("fetched {number} files, {}, in {}", bytes(files), took_words(took)));
    let top = OpTime { ts: manifest.consistent_at_ts, term: manifest.consistent_at_term };
    let wanted = Configuration { name: replica_set, members, attempt_id: &manifest.attempt_id };
    let recovery = Recovery { ctx, mongod, folder: dir, options: &manifest.folder_options, top };
    let recovered = recovery.recover(source.tail.as_ref(), &wanted).await?;
    meter.add_bytes(logs);
    let until = recovered.until;
    recovery.prove(&recovered, check.then_some(files)).await?;
    meter.step("writing files to disk", to_disk.wait()).await?;
    meter.add_bytes(1);
    Ok(until)
}

/// Bytes of the logs that a server reads to recover.
pub(super) fn logs_bytes(source: &RestoreSource, manifest: &PhysicalManifest) -> u64 {
    let journal = manifest.files.iter().filter(|file| file.path.starts_with(JOURNAL)).map(|file| file.size);
    let recorded = source.tail.iter().flat_map(|tail| &tail.slices).map(|slice| slice.uncompressed);
    journal.chain(recorded).fold(0, u64::saturating_add)
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
