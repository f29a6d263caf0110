//! Documents that stand in the parts twice.
//!
//! Backups of earlier versions were read in natural order without a look at what came back meanwhile (see
//! [`super::reinserted`]): a document that was deleted and inserted again under the same `_id` while its collection was
//! read may be there twice. Both changes are in the stored oplog, so that either copy leads to the same end: a load
//! leaves the second out, and an export all of them, for the oplog inserts the document as a whole.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::open_backup::{OpenBackup, parse_uuid};
use super::replay::Destinations;
use crate::domain::restore::CollectionKind;
use crate::engine::Context;
use crate::error::Result;
use crate::mongo::oplog::entry::{Entry, Op, OpKind, Uuid};
use crate::mongo::oplog::key::document_key;

/// Keys that are in memory at once: some 50 MB.
const KEYS: usize = 1_000_000;

/// The documents of a backup that may stand in it twice.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    by_uuid: HashMap<Uuid, HashSet<u128>>,
    /// There are more of them than are remembered.
    uncounted: bool,
}

/// A collection whose parts may hold a document twice.
#[derive(Debug, Clone, Copy)]
struct Doubtful {
    collated: bool,
}

impl Doubles {
    /// Reads the oplog of the backup itself, unless it was made by a version that leaves no doubt.
    pub async fn find(ctx: &Context, stored: &OpenBackup, destinations: &Destinations) -> Result<Self> {
        Self::with_room_for(KEYS, ctx, stored, destinations).await
    }

    async fn with_room_for(
        keys: usize,
        ctx: &Context,
        stored: &OpenBackup,
        destinations: &Destinations,
    ) -> Result<Self> {
        let entries = &stored.manifest.collections;
        let doubtful: HashMap<Uuid, Doubtful> = entries
            .iter()
            .filter(|e| e.kind == CollectionKind::Collection && !e.each_id_once && (e.documents > 1 || !e.counted))
            .filter_map(|e| {
                let uuid = parse_uuid(e.uuid.as_deref()?)?;
                let destination = destinations.by_uuid.get(&uuid).filter(|d| !d.capped)?;
                Some((uuid, Doubtful { collated: destination.collated }))
            })
            .collect();
        if doubtful.is_empty() {
            return Ok(Self::default());
        }
        ctx.meter.set_phase("look for documents that were read twice");
        // Where the deletes are too many for the memory, those of a part of all keys are looked at in each round.
        let (mut rounds, mut round) = (1, 0);
        let mut found = Self::default();
        while round < rounds && !found.uncounted {
            let search = Search { doubtful: doubtful.clone(), rounds, round, keys, ..Search::default() };
            let search = run(ctx, stored, search).await?;
            if search.is_full {
                (rounds, round, found) = (rounds * 8, 0, Self::default());
                continue;
            }
            for (uuid, keys) in search.again {
                found.by_uuid.entry(uuid).or_default().extend(keys);
            }
            found.uncounted = found.by_uuid.values().map(HashSet::len).sum::<usize>() > keys;
            round += 1;
        }
        Ok(found)
    }

    /// Whether a document of the collection may be there twice.
    pub fn may_be_in(&self, uuid: &Uuid) -> bool {
        self.uncounted || self.by_uuid.contains_key(uuid)
    }

    /// Whether not all of them are known.
    pub fn are_uncounted(&self) -> bool {
        self.uncounted
    }

    /// The keys (see [`document_key`]) of documents that the oplog deletes and inserts again.
    pub fn of(&self, uuid: &Uuid) -> Option<&HashSet<u128>> {
        self.by_uuid.get(uuid)
    }
}

#[derive(Default)]
struct Search {
    doubtful: HashMap<Uuid, Doubtful>,
    rounds: u128,
    round: u128,
    keys: usize,
    deleted: HashMap<Uuid, HashSet<u128>>,
    again: HashMap<Uuid, HashSet<u128>>,
    held: usize,
    is_full: bool,
}

async fn run(ctx: &Context, stored: &OpenBackup, search: Search) -> Result<Search> {
    let until = stored.manifest.consistent_at_ts;
    let state = (stored.transactions(), search);
    let (_, search) = stored
        .for_each_entry(&ctx.cancel, state, move |(transactions, search), document| {
            let entry = Entry::parse(document)?;
            if entry.ts > until || search.is_full {
                return Ok(ControlFlow::Break(()));
            }
            transactions.feed(&entry, &mut |_, op| {
                search.take(op);
                Ok(())
            })?;
            Ok(ControlFlow::Continue(()))
        })
        .await?;
    Ok(search)
}

impl Search {
    fn take(&mut self, op: &Op<'_>) {
        let inserts = match op.kind {
            OpKind::Insert => true,
            OpKind::Delete => false,
            OpKind::Update | OpKind::Command | OpKind::Noop => return,
        };
        let (Some(uuid), Some(id)) = (op.ui, op.id()) else { return };
        let Some(doubtful) = self.doubtful.get(&uuid) else { return };
        if inserts && doubtful.collated {
            // Any text may be equal to any other.
            if let Some(deleted) = self.deleted.get_mut(&uuid) {
                self.again.entry(uuid).or_default().extend(std::mem::take(deleted));
            }
            return;
        }
        let key = document_key(&id);
        if key % self.rounds != self.round {
            return;
        }
        if inserts {
            if self.deleted.get(&uuid).is_some_and(|deleted| deleted.contains(&key)) {
                self.again.entry(uuid).or_default().insert(key);
            }
        } else if self.deleted.entry(uuid).or_default().insert(key) {
            self.held += 1;
            self.is_full = self.held > self.keys && self.rounds < 1 << 20;
        }
    }
}
