//! What of each archive can be recovered: its slices beside the bases that they follow.

use super::{ArchiveRow, Store};
use crate::domain::pitr::{self, Base, Gap, Range};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// An archive with the bases that its slices cover.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub row: ArchiveRow,
    /// Oldest first.
    pub bases: Vec<Base>,
    /// The newest base that lies after everything that is stored.
    pub waiting: Option<Base>,
}

impl Line {
    pub fn ranges(&self) -> Vec<Range> {
        pitr::ranges(&self.row.covered, &self.bases)
    }

    pub fn gaps(&self) -> Vec<Gap> {
        pitr::gaps(&self.row.covered, &self.row.gaps)
    }

    /// The last position that is stored.
    pub fn newest(&self) -> Option<Timestamp> {
        self.row.covered.last().map(|c| c.last.ts)
    }

    /// Whether what is being recorded now can be restored: a base lies within its last stretch.
    pub fn has_base_now(&self) -> bool {
        let last = self.row.covered.last();
        last.is_some_and(|c| self.bases.iter().any(|b| c.after.ts <= b.consistent_at_ts))
    }
}

impl Store {
    /// Those of a service, the one with the newest slice first.
    pub fn lines(&self, service: &str) -> Result<Vec<Line>> {
        let rows = self.archive_rows(service)?;
        rows.into_iter()
            .map(|row| {
                let all = self.bases(service, Some(&row.archive.replica_set_id))?;
                let newest = row.covered.last().map(|c| c.last.ts);
                let waiting = all.last().filter(|b| newest.is_some_and(|newest| b.consistent_at_ts > newest)).cloned();
                let mut bases = all;
                bases.retain(|b| row.covered.iter().any(|c| c.holds(b.consistent_at_ts)));
                Ok(Line { row, bases, waiting })
            })
            .collect()
    }
}
