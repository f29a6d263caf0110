//! What of each archive can be recovered: its slices beside the bases that they follow.

use std::collections::BTreeMap;

use super::{ArchiveRow, Store};
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
        rows.into_iter()
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
            .collect()
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

/// The gap that the first slice tells of, as long as a base lies in it: nobody misses what led to one that is gone.
fn before(row: &ArchiveRow, bases: &[Base]) -> Option<Gap> {
    let first = row.covered.first()?.after.ts;
    let holds = |gap: &&Gap| {
        let inside = |b: &Base| gap.from_ts <= b.consistent_at_ts && b.consistent_at_ts < first;
        gap.to_ts == first && bases.iter().any(inside)
    };
    row.gaps.iter().find(holds).cloned()
}
