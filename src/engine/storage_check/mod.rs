//! `storage check`: everything that a storage holds, compared with its manifests and with what the catalogue knows.
//!
//! One listing of the storage goes by, in the order of the keys, and beside it the manifests in the same order: sizes come
//! from the listing, no data is read, and memory does not grow with the number of objects (but 100 bytes for each block
//! that the manifests of one folder name). What the listing does not have is looked at itself before it is called
//! missing. Nothing is written here; what a person confirmed is removed by [`repair`].

use std::collections::BTreeSet;

use crate::domain::clock;
use crate::domain::storage_check::{Finding, FindingKind, StorageReport};
use crate::domain::text::{counted, escape, utc};
use crate::engine::Context;
use crate::engine::find::{InStorage, find, with_manifest};
use crate::error::{Error, Result};
use crate::storage::Storage;

mod backups;
mod blocks;
mod known;
mod named;
mod oplog;
mod pass;
pub mod repair;
mod strangers;
mod uploads;
pub mod wholeness;

pub use known::{Known, KnownSlices, Place};
use pass::Pass;

/// What a check found, and what it means for the catalogue.
#[derive(Debug)]
pub struct Checked {
    pub report: StorageReport,
    /// Good backups of the catalogue that are no longer whole, and why.
    pub damaged: Vec<(Place, String)>,
}

/// Compares a storage, `name` in the catalogue, with its manifests and with `known`.
///
/// Errors: what the storage reports, from which nothing is concluded; `Cancelled`.
pub async fn check(
    ctx: &Context,
    storage: &dyn Storage,
    name: &str,
    known: &Known,
    slices: &dyn KnownSlices,
) -> Result<Checked> {
    let work = check_all(ctx, storage, name, known, slices);
    // Nothing is written, so that the work may be dropped at any point.
    ctx.cancel.run_until_cancelled(work).await.unwrap_or_else(|| Err(Error::cancelled()))
}

async fn check_all(
    ctx: &Context,
    storage: &dyn Storage,
    name: &str,
    known: &Known,
    slices: &dyn KnownSlices,
) -> Result<Checked> {
    ctx.meter.set_phase("looking for backups");
    let InStorage { backups: mut found, archives: _, foreign, crowded } = find(storage).await?;
    let listed: BTreeSet<Place> = found.iter().map(|f| (f.folder.clone(), f.name.clone())).collect();
    let unlisted: Vec<Place> = known.good.difference(&listed).cloned().collect();
    let there = with_manifest(storage, unlisted.clone()).await?;
    let mut pass = Pass::new(storage, known, &foreign);
    for place in unlisted.iter().filter(|(folder, name)| !there.iter().any(|f| (&f.folder, &f.name) == (folder, name)))
    {
        pass.gone(place, "it is no longer in the storage");
    }
    found.extend(there);
    pass.foreign_backups(name, &crowded).await?;
    pass.walk(ctx, found, slices).await?;
    let uploads = uploads::check(storage, &mut pass).await?;
    if let Some(old) = storage.old_versions().await?.filter(|old| old.versions + old.markers > 0) {
        let (versions, markers) = (counted(old.versions, "old version"), counted(old.markers, "marker"));
        let what = format!("the bucket keeps {versions} and {markers} of deletions");
        let remedy = "a lifecycle rule of the bucket removes them (NoncurrentVersionExpiration); mongokeep never does";
        let finding = Finding::new(FindingKind::OldVersions, "", None, what);
        pass.findings.push(finding.of(old.versions, old.bytes).remedy(remedy));
    }
    for (folder, service, gap) in &known.gaps {
        let (from, to) = (utc(gap.from_ts.to_datetime()), utc(gap.to_ts.to_datetime()));
        let what = format!("{}: from {from} to {to}: {}", escape(service), escape(&gap.reason));
        let remedy = "moments in it cannot be restored; a base snapshot after it begins anew";
        pass.findings.push(Finding::new(FindingKind::Gap, folder, None, what).of(0, 0).remedy(remedy));
    }
    let mut plan = pass.plan;
    plan.made_at = clock::now();
    let report = pass.findings.report(name, pass.backups, pass.seen, uploads, plan);
    Ok(Checked { report, damaged: pass.damaged })
}
