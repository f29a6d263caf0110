//! What of each archive can be recovered: its slices beside the bases that they follow.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::OptionalExtension;

use super::{ArchiveRow, Store, engine_recordings};
use crate::domain::backup::Model;
use crate::domain::pitr::{self, Base, Coverage, Gap, Range};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// An archive with the bases that its slices cover.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoverySource {
    pub row: ArchiveRow,
    /// Oldest first.
    pub bases: Vec<Base>,
    /// The newest base that lies after everything that is stored.
    pub waiting: Option<Base>,
    /// What is missing between a base and the first that was stored after it.
    pub before: Option<Gap>,
}

impl RecoverySource {
    pub fn ranges(&self) -> Vec<Range> {
        pitr::ranges(&self.row.covered, &self.bases)
    }

    pub fn gaps(&self) -> Vec<Gap> {
        let between = pitr::gaps(&self.row.covered, &self.row.gaps);
        self.before.iter().cloned().chain(between).collect()
    }

    /// The last position that is stored.
    pub fn newest(&self) -> Option<Timestamp> {
        self.row.covered.last().map(|c| c.last.ts)
    }

    /// Whether what is being recorded now can be restored into a service: a base lies within its last stretch.
    pub fn has_base_now(&self) -> bool {
        let last = self.row.covered.last();
        let serves = |b: &Base, c: &Coverage| b.model == Model::Logical && c.after.ts <= b.consistent_at_ts;
        last.is_some_and(|c| self.bases.iter().any(|b| serves(b, c)))
    }
}

impl Store {
    /// Those of a service, the one with the newest slice first.
    pub fn recovery_sources(&self, service: &str) -> Result<Vec<RecoverySource>> {
        let rows = self.archive_rows(service)?;
        let mut sources: Vec<RecoverySource> = rows
            .into_iter()
            .map(|row| {
                let all = self.bases(service, Some(&row.archive.replica_set_id))?;
                let newest = row.covered.last().map(|c| c.last.ts);
                let waiting = all
                    .iter()
                    .rfind(|b| b.model == Model::Logical)
                    .filter(|b| newest.is_some_and(|newest| b.consistent_at_ts > newest))
                    .cloned();
                let before = before(&row, &all);
                let mut bases = all;
                bases.retain(|b| row.covered.iter().any(|c| c.holds(b.consistent_at_ts)));
                Ok(RecoverySource { row, bases, waiting, before })
            })
            .collect::<Result<_>>()?;
        if let Some(source) = self.read(|c| engine_recordings::source(c, service))? {
            sources.push(by_engine(source));
            sources.sort_by_key(|source| std::cmp::Reverse(source.newest()));
        }
        Ok(sources)
    }

    /// The last position of a service that is recorded in a place.
    pub fn newest_recorded(&self, service: &str, storage: &str, folder: &str) -> Result<Option<Timestamp>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT s.last_t, s.last_i FROM coverage s JOIN archives a ON a.id = s.archive
                 WHERE a.service = ?1 AND a.storage = ?2 AND a.folder = ?3
                 ORDER BY s.last_t DESC, s.last_i DESC LIMIT 1",
            )?;
            let newest = statement.query_row([service, storage, folder], |r| Ok(Timestamp::new(r.get(0)?, r.get(1)?)));
            let by_engine = engine_recordings::get(c, service)?.filter(|r| r.storage == storage && r.folder == folder);
            Ok(newest.optional()?.max(by_engine.and_then(|r| r.record.newest())))
        })
    }

    /// The services of which anything is recorded, in the order of their names.
    pub fn services_with_slices(&self) -> Result<Vec<String>> {
        self.read(|c| {
            let mut statement =
                c.prepare_cached("SELECT DISTINCT service FROM archives WHERE slices > 0 ORDER BY service")?;
            let rows = statement.query_map([], |r| r.get(0))?;
            let mut names: BTreeSet<String> = rows.collect::<rusqlite::Result<_>>()?;
            names.extend(engine_recordings::services(c)?);
            Ok(names.into_iter().collect())
        })
    }

    /// The moment of the newest base of each replica set that a service was, by its id where that is known.
    pub fn newest_bases(&self, service: &str) -> Result<Vec<(Option<String>, Timestamp)>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT replica_set_id, consistent_t, consistent_i FROM backups
                 WHERE service = ?1 AND state = 'succeeded' AND whole AND engine = 'native' AND model = 'logical'
                     AND consistent_t IS NOT NULL AND verify_error IS NULL
                 ORDER BY consistent_t, consistent_i",
            )?;
            let rows = statement.query_map([service], |r| Ok((r.get(0)?, Timestamp::new(r.get(1)?, r.get(2)?))))?;
            // The last of each is its newest.
            Ok(rows.collect::<rusqlite::Result<BTreeMap<_, _>>>()?.into_iter().collect())
        })
    }
}

/// What the engine recorded begins with its first base.
fn by_engine((row, all): (ArchiveRow, Vec<Base>)) -> RecoverySource {
    let newest = row.covered.last().map(|c| c.last.ts);
    let is_waiting = |b: &&Base| newest.is_none_or(|newest| b.consistent_at_ts > newest);
    let waiting = all.iter().rfind(|b| b.model == Model::Logical).filter(is_waiting).cloned();
    let mut bases = all;
    bases.retain(|b| row.covered.iter().any(|c| c.holds(b.consistent_at_ts)));
    RecoverySource { row, bases, waiting, before: None }
}

/// The gap that the first slice tells of, as long as a base lies in it: nobody misses what led to one that is gone.
fn before(row: &ArchiveRow, bases: &[Base]) -> Option<Gap> {
    let first = row.covered.first()?.after.ts;
    let holds = |gap: &&Gap| {
        let inside = |b: &Base| gap.from_ts <= b.consistent_at_ts && b.consistent_at_ts < first;
        gap.to_ts == first && bases.iter().any(inside)
    };
    row.gaps.iter().find(holds).cloned()
}
