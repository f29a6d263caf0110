//! `storage check`: everything that a storage holds, compared with its manifests and with what the catalogue knows.
//!
//! One listing of the storage goes by, in the order of the keys, and beside it the manifests in the same order: sizes come
//! from the listing, no data is read, and memory does not grow with the number of objects (but 100 bytes for each block
//! that the manifests of one folder name). What the listing does not have is looked at itself before it is called
//! missing. Nothing is written here; what a person confirmed is removed by [`repair`].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::domain::pitr::Gap;
use crate::domain::storage_check::{Amount, Finding, FindingKind, Findings, RepairPlan, StorageReport};
use crate::domain::text::{count, escape};
use crate::engine::Context;
use crate::engine::find::{Found, InStorage, find, with_manifest};
use crate::engine::foreign::ForeignFolder;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Key, ObjectInfo, Storage};

mod backups;
mod blocks;
mod oplog;
pub mod repair;
mod strangers;
mod uploads;

use backups::{Open, Standing, open};
use blocks::Blocks;
use oplog::Archives;
use strangers::Strangers;

/// Manifests that are read before the listing comes to their objects.
const READ_AHEAD: usize = 4;
/// Objects that are looked at at once.
const LOOKS_AT_ONCE: usize = 16;

/// A backup's place: its folder and its name.
pub type Place = (String, String);

/// What the catalogue of this home knows of a storage.
#[derive(Debug, Default)]
pub struct Known {
    pub home_id: String,
    /// Every attempt at a backup that this home ever began.
    pub attempts: HashSet<String>,
    /// Backups that a job works on, or that are being deleted: what is found of them is nobody else's business.
    pub at_work: BTreeSet<Place>,
    /// Good backups in our own order of things.
    pub good: BTreeSet<Place>,
    /// Good backups that other tools made.
    pub good_foreign: BTreeSet<Place>,
    /// Every backup of this storage in the catalogue, good or not.
    pub backups: BTreeSet<Place>,
    /// Gaps in what is recorded there, with the folder and the service.
    pub gaps: Vec<(String, String, Gap)>,
}

/// The slices of recorded oplog that the catalogue has in a storage.
#[async_trait]
pub trait KnownSlices: Send + Sync {
    /// The folders of archives that mongokeep recorded.
    async fn folders(&self) -> Result<Vec<Key>>;

    /// The keys of a folder after `after`, in order: the next of them, or none.
    async fn keys(&self, folder: &Key, after: Option<&str>) -> Result<Vec<String>>;
}

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
    let InStorage { backups: mut found, archives: _, foreign } = find(storage).await?;
    let listed: BTreeSet<Place> = found.iter().map(|f| (f.folder.clone(), f.name.clone())).collect();
    let unlisted: Vec<Place> = known.good.difference(&listed).cloned().collect();
    let there = with_manifest(storage, unlisted.clone()).await?;
    let mut pass = Pass::new(storage, known, &foreign);
    for place in unlisted.iter().filter(|(folder, name)| !there.iter().any(|f| (&f.folder, &f.name) == (folder, name)))
    {
        pass.gone(place, "it is no longer in the storage");
    }
    found.extend(there);
    pass.foreign_backups(name).await?;
    pass.walk(ctx, found, slices).await?;
    let uploads = uploads::check(storage, &mut pass).await?;
    for (folder, service, gap) in &known.gaps {
        let (from, to) = (gap.from_ts.to_datetime().to_rfc3339(), gap.to_ts.to_datetime().to_rfc3339());
        let what = format!("{}: from {from} to {to}: {}", escape(service), escape(&gap.reason));
        let remedy = "moments in it cannot be restored; a base snapshot after it begins anew";
        pass.findings.push(Finding::new(FindingKind::Gap, folder, None, what).of(0, 0).remedy(remedy));
    }
    let mut plan = pass.plan;
    plan.made_at = chrono::Utc::now();
    let report = pass.findings.report(name, pass.backups, pass.seen, uploads, plan);
    Ok(Checked { report, damaged: pass.damaged })
}

/// What is known half way.
struct Pass<'a> {
    storage: &'a dyn Storage,
    known: &'a Known,
    foreign: &'a [ForeignFolder],
    findings: Findings,
    plan: RepairPlan,
    damaged: Vec<(Place, String)>,
    /// Whose each backup is, by the key of its root and a slash.
    standing: BTreeMap<String, Standing>,
    seen: Amount,
    backups: u64,
    blocks: Blocks,
    /// The folders in which no block can be removed now.
    held_up: BTreeSet<String>,
    strangers: Strangers,
}

impl<'a> Pass<'a> {
    fn new(storage: &'a dyn Storage, known: &'a Known, foreign: &'a [ForeignFolder]) -> Self {
        Self {
            storage,
            known,
            foreign,
            findings: Findings::default(),
            plan: RepairPlan::default(),
            damaged: Vec::new(),
            standing: BTreeMap::new(),
            seen: Amount::default(),
            backups: 0,
            blocks: Blocks::default(),
            held_up: BTreeSet::new(),
            strangers: Strangers::default(),
        }
    }

    /// A good backup of the catalogue is not there.
    fn gone(&mut self, place: &Place, why: &str) {
        let (folder, name) = place;
        if self.known.at_work.contains(place) {
            return;
        }
        let remedy = "is its disk mounted, or was it deleted by hand? restore from another backup";
        self.findings.push(Finding::new(FindingKind::MissingBackup, folder, Some(name), why).of(0, 0).remedy(remedy));
        self.damage(place.clone(), why.to_owned());
    }

    fn damage(&mut self, place: Place, why: String) {
        if self.known.good.contains(&place) || self.known.good_foreign.contains(&place) {
            self.damaged.push((place, why));
        }
    }

    /// What other tools made: whether it can still be read, as far as its description says.
    async fn foreign_backups(&mut self, storage_name: &str) -> Result<()> {
        let mut there = BTreeSet::new();
        for folder in self.foreign {
            for backup in folder.discover(self.storage, storage_name).await?.backups {
                let place = (folder.folder.clone(), backup.name.clone());
                there.insert(place.clone());
                self.backups += 1;
                let Err(e) = backup.read else { continue };
                // What is not for us to restore is as its tool left it.
                if e.kind() == ErrorKind::Unsupported {
                    continue;
                }
                let finding = Finding::new(
                    FindingKind::UnreadableManifest,
                    &folder.folder,
                    Some(&backup.name),
                    escape(&e.full()),
                );
                self.findings.push(finding.of(0, 0).remedy("use another backup"));
                self.damage(place, e.full());
            }
        }
        for place in self.known.good_foreign.difference(&there) {
            self.gone(place, "it is no longer in the storage");
        }
        Ok(())
    }

    /// Goes along the listing and the backups, both in the order of the keys.
    async fn walk(&mut self, ctx: &Context, mut found: Vec<Found>, slices: &dyn KnownSlices) -> Result<()> {
        let storage = self.storage;
        // As the keys of their objects are ordered: `a-b/` comes before `a/`.
        found.sort_by_cached_key(|f| format!("{}/", f.key()));
        let known = self.known;
        let mut opened = stream::iter(found).map(|found| open(storage, known, found)).buffered(READ_AHEAD);
        let mut present: Option<Open> = opened.try_next().await?;
        let mut archives = Archives::new(storage, slices).await?;
        ctx.meter.set_phase("listing the storage");
        let mut listing = storage.list(None).await?;
        while let Some(object) = listing.try_next().await? {
            self.seen.add(1, object.size);
            ctx.meter.object_done();
            // Backups whose objects have all gone by.
            while let Some(open) = present.take_if(|open| open.is_before(&object.key)) {
                self.close(open).await?;
                present = opened.try_next().await?;
            }
            self.close_blocks(Some(&object.key)).await?;
            match &mut present {
                Some(open) if open.holds(&object.key) => open.object(object, &mut self.findings, &mut self.plan),
                _ => self.beside(object, &mut archives).await?,
            }
        }
        while let Some(open) = present.take() {
            self.close(open).await?;
            present = opened.try_next().await?;
        }
        self.close_blocks(None).await?;
        archives.end(&mut self.findings).await?;
        std::mem::take(&mut self.strangers).end(&mut self.findings);
        Ok(())
    }

    /// An object that is below no backup of ours.
    async fn beside(&mut self, object: ObjectInfo, archives: &mut Archives<'_>) -> Result<()> {
        let of_other_tool = |folder: &ForeignFolder| match folder.folder.as_str() {
            "" => folder.owns(object.key.as_str()),
            path => {
                object.key.as_str().strip_prefix(path).and_then(|p| p.strip_prefix('/')).is_some_and(|p| folder.owns(p))
            }
        };
        if self.foreign.iter().any(of_other_tool) || self.blocks.object(&object) {
            return Ok(());
        }
        if let Some(object) = archives.object(object, &mut self.findings).await? {
            self.strangers.object(object, &mut self.findings);
        }
        Ok(())
    }

    /// All objects of a backup were seen.
    async fn close(&mut self, open: Open) -> Result<()> {
        let place = (open.found.folder.clone(), open.found.name.clone());
        self.backups += u64::from(open.is_backup());
        let closed = open.close(self.storage, self.known, &mut self.findings, &mut self.plan).await?;
        if let Some(why) = closed.damage {
            self.damage(place.clone(), why);
        }
        self.standing.insert(closed.prefix, closed.standing);
        if closed.holds_blocks_up.is_some() {
            self.held_up.insert(place.0.clone());
        }
        self.blocks.backup(&place, closed.blocks, closed.holds_blocks_up)?;
        Ok(())
    }

    /// The blocks of folders that lie before `key` have all gone by.
    async fn close_blocks(&mut self, key: Option<&Key>) -> Result<()> {
        while let Some((folder, done)) = self.blocks.done_before(key) {
            let damaged = done.close(self.storage, &folder, &mut self.findings, &mut self.plan).await?;
            for (name, why) in damaged {
                self.damage((folder.clone(), name), why);
            }
        }
        Ok(())
    }
}

/// Which of `objects` (key and size) are missing or of another size, asked of each; `None`: it is missing.
async fn confirmed<T: Send>(
    storage: &dyn Storage,
    objects: Vec<(Key, u64, T)>,
) -> Result<Vec<(Key, u64, T, Option<u64>)>> {
    let looks = objects.into_iter().map(|(key, size, of)| async move {
        let found = storage.stat(&key).await?.map(|object| object.size);
        Ok::<_, Error>((found != Some(size)).then_some((key, size, of, found)))
    });
    let looks: Vec<Option<_>> = stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
    Ok(looks.into_iter().flatten().collect())
}

/// What is wrong with an object that should have `size` bytes.
fn missing_words(found: Option<u64>, size: u64) -> String {
    match found {
        None => "it is missing".to_owned(),
        Some(found) => format!("it has {} of {} bytes", count(found), count(size)),
    }
}
