//! Going along the listing of a storage, and along its backups beside it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::backups::{Open, Standing, open};
use super::blocks::Blocks;
use super::known::{Known, KnownSlices, Place};
use super::oplog::Archives;
use super::strangers::Strangers;
use crate::artifact::layout::STATE_FOLDER;
use crate::domain::storage_check::{Amount, Finding, FindingKind, Findings, RepairPlan};
use crate::domain::text::escape;
use crate::engine::Context;
use crate::engine::find::Found;
use crate::engine::foreign::ForeignFolder;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Key, ObjectInfo, Storage};

/// Manifests that are read before the listing comes to their objects.
const READ_AHEAD: usize = 4;

/// What is known half way.
pub struct Pass<'a> {
    storage: &'a dyn Storage,
    known: &'a Known,
    foreign: &'a [ForeignFolder],
    pub findings: Findings,
    pub plan: RepairPlan,
    pub damaged: Vec<(Place, String)>,
    /// Whose each backup is, by the key of its root and a slash.
    pub standing: BTreeMap<String, Standing>,
    pub seen: Amount,
    pub backups: u64,
    blocks: Blocks,
    /// The folders in which no block can be removed now.
    pub held_up: BTreeSet<String>,
    strangers: Strangers,
}

impl<'a> Pass<'a> {
    pub fn new(storage: &'a dyn Storage, known: &'a Known, foreign: &'a [ForeignFolder]) -> Self {
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
    pub fn gone(&mut self, place: &Place, why: &str) {
        let (folder, name) = place;
        if self.known.at_work.contains(place) {
            return;
        }
        let remedy = "is its disk mounted, or was it deleted by hand? restore from another backup";
        self.findings.push(Finding::new(FindingKind::MissingBackup, folder, Some(name), why).of(0, 0).remedy(remedy));
        self.damage(place.clone(), why.to_owned());
    }

    fn damage(&mut self, place: Place, why: String) {
        if self.known.good.contains(&place) || self.known.good_foreign.contains_key(&place) {
            self.damaged.push((place, why));
        }
    }

    /// What other tools made: whether it can still be read, as far as its description says.
    /// `crowded`: folders of which not every object was looked into.
    pub async fn foreign_backups(&mut self, storage_name: &str, crowded: &BTreeSet<String>) -> Result<()> {
        let mut there = BTreeSet::new();
        for folder in self.foreign {
            let known = self.known;
            let is_known = |name: &str, bytes: u64| {
                known.good_foreign.get(&(folder.folder.clone(), name.to_owned())) == Some(&bytes)
            };
            let found = folder.discover(self.storage, storage_name, &is_known).await?;
            self.backups += found.unchanged.len() as u64;
            there.extend(found.unchanged.into_iter().map(|name| (folder.folder.clone(), name)));
            for backup in found.backups {
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
        let known = self.known;
        for place in known.good_foreign.keys().filter(|place| !there.contains(*place) && !crowded.contains(&place.0)) {
            self.gone(place, "it is no longer in the storage");
        }
        Ok(())
    }

    /// Goes along the listing and the backups, both in the order of the keys.
    pub async fn walk(&mut self, ctx: &Context, mut found: Vec<Found>, slices: &dyn KnownSlices) -> Result<()> {
        let storage = self.storage;
        // As the keys of their objects are ordered: `a-b/` comes before `a/`.
        found.sort_by_cached_key(|f| format!("{}/", f.key()));
        let known = self.known;
        let mut opened = stream::iter(found).map(|found| open(storage, known, found)).buffered(READ_AHEAD);
        let mut present: Option<Open> = opened.try_next().await?;
        let mut archives = Archives::new(storage, &known.storage, slices).await?;
        ctx.meter.set_phase("listing the storage");
        let mut listing = storage.list(None).await?;
        let mut last: Option<Key> = None;
        while let Some(object) = listing.try_next().await? {
            if let Some(before) = last.replace(object.key.clone()).filter(|before| *before > object.key) {
                let (what, before) = (escape(object.key.as_str()), escape(before.as_str()));
                let what = format!("{} lists {what} after {before}, which is not their order", storage.place());
                return Err(Error::new(ErrorKind::Unsupported, what).hint(
                    "nothing can be concluded from such a listing; mongokeep backup verify reads a backup itself",
                ));
            }
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
        // A copy of a store is not part of a backup, and of whichever installation it is, it stays.
        let is_copy = object.key.as_str().split('/').next() == Some(STATE_FOLDER);
        if is_copy || self.foreign.iter().any(|folder| folder.owns(&object.key)) || self.blocks.object(&object) {
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
