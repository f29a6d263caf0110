//! Reading a backup of PBM back, to know that it can be restored.
//!
//! Every object of a collection is compared with the size and the CRC-64 that PBM wrote down, the structure of every
//! document is looked at, and the oplog must lead from its first position to its last without a gap, into definitions that
//! can be restored. PBM writes down no checksum of the oplog.

use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream};

use super::open::{open_stored, read_manifest};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::read::ReadOptions;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::engine::contract::{Problem, VerifyReport, about_the_backup};
use crate::engine::logical::{OpenBackup, missed};
use crate::error::{Error, Result};
use crate::mongo::oplog::entry::Entry;
use crate::storage::Storage;

/// Reads everything of the backup at `root` that a restore reads.
///
/// Errors: what keeps it from looking at all. What is wrong with the backup is in the report.
pub async fn verify(ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
    // Nothing is written, so that the work may be dropped at any point.
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(Error::cancelled()),
        report = run(ctx, storage, root) => report,
    }
}

async fn run(ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    ctx.meter.set_phase("read the metadata");
    let read = read_manifest(storage.as_ref(), root).await;
    let opened = match read {
        Ok(manifest) => open_stored(storage, manifest, None).await,
        Err(e) => Err(e),
    };
    let stored = match opened {
        Ok(stored) => stored,
        Err(e) => {
            report.problems.push(Problem::new(&root.manifest()?, about_the_backup(e)?));
            return Ok(report);
        }
    };
    verify_open(ctx, root, &stored).await
}

/// The same of a backup that is open already.
pub async fn verify_open(ctx: &Context, root: &BackupRoot, stored: &OpenBackup) -> Result<VerifyReport> {
    let mut report = VerifyReport { objects: 1, ..VerifyReport::default() };
    ctx.meter.set_phase("read data");
    let parts: Vec<&ObjectEntry> = stored.manifest.collections.iter().flat_map(|c| &c.parts).collect();
    let all = || parts.iter().copied().chain(&stored.manifest.oplog);
    report.bytes = all().map(|o| o.size).fold(0, u64::saturating_add);
    report.objects += all().count() as u64;
    ctx.meter.set_totals(report.bytes, report.objects, 0);
    let mut reads = Vec::with_capacity(parts.len());
    for part in parts {
        reads.push(examine(ctx, stored, part).boxed());
    }
    let mut running = stream::iter(reads).buffer_unordered(ctx.limits.parallel_collections.clamp(1, 8));
    while let Some(outcome) = running.next().await {
        let (documents, problem) = outcome?;
        report.documents += documents;
        report.problems.extend(problem);
    }
    drop(running);
    verify_oplog(ctx, root, stored, &mut report).await?;
    Ok(report)
}

/// The same of its oplog alone, in a `report` that says the rest.
pub async fn verify_oplog(
    ctx: &Context,
    root: &BackupRoot,
    stored: &OpenBackup,
    report: &mut VerifyReport,
) -> Result<()> {
    ctx.meter.set_phase("read the oplog");
    match follow(ctx, stored).await {
        Ok((entries, renamed)) => {
            report.documents += entries;
            report
                .problems
                .extend(renamed.into_iter().map(|what| Problem { object: escape(root.key().as_str()), what }));
        }
        Err(e) => report.problems.push(Problem::new(&root.manifest()?, about_the_backup(e)?)),
    }
    stored.manifest.oplog.iter().for_each(|o| {
        ctx.meter.add_bytes(o.size);
        ctx.meter.object_done();
    });
    report.problems.sort();
    Ok(())
}

/// Reads one object to its end: its documents, and what is wrong with it.
async fn examine(ctx: &Context, stored: &OpenBackup, object: &ObjectEntry) -> Result<(u64, Option<Problem>)> {
    let options = ReadOptions { batch_bytes: 1 << 20, check_structure: true, ..ReadOptions::default() };
    let mut documents = 0;
    let mut batches = stored.documents(object, options)?;
    let mut problem = None;
    while let Some(batch) = batches.next().await {
        match batch {
            Ok(batch) => {
                documents += batch.len() as u64;
                ctx.meter.add_documents(batch.len() as u64);
            }
            Err(e) => problem = Some(Problem::new(&stored.root.key().join(&object.path)?, about_the_backup(e)?)),
        }
    }
    ctx.meter.add_bytes(object.size);
    ctx.meter.object_done();
    Ok((documents, problem))
}

/// Reads the oplog to its end, and what every collection is after it. Gives the number of entries, and
/// which collections PBM may have missed.
async fn follow(ctx: &Context, stored: &OpenBackup) -> Result<(u64, Vec<String>)> {
    let entries = stored.for_each_entry(&ctx.cancel, 0_u64, |entries, document| {
        Entry::parse(document)?;
        *entries += 1;
        Ok(ControlFlow::Continue(()))
    });
    let entries = entries.await?;
    let survey = stored.survey(&ctx.cancel, stored.manifest.consistent_at_ts).await?;
    Ok((entries, survey.renamed.iter().map(|(name, ts)| missed(name, *ts)).collect()))
}
