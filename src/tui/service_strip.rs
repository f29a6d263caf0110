//! The strip above the backups: one line for each service, what needs a person first.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::model::Model;
use super::recording;
use crate::domain::backup::BackupState;

/// How many of its last backups a service's spark line shows.
const SPARKS: usize = 10;

/// What the strip says about a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StripRow {
    pub service: String,
    pub last_good: Option<DateTime<Utc>>,
    /// The newest backup that ended did not end well.
    pub last_failed: bool,
    /// Its changes are not recorded as a schedule wants it.
    pub trouble: bool,
    /// Sizes of the last backups, oldest first; `None` for one that failed.
    pub sizes: Vec<Option<u64>>,
}

impl StripRow {
    /// Such services come first, with a sign of their own.
    pub fn needs_somebody(&self) -> bool {
        self.last_failed || self.last_good.is_none() || self.trouble
    }
}

/// One row for each service. Runs when data change, and once a minute: it looks at every backup once.
pub fn rows(model: &Model) -> Vec<StripRow> {
    let mut rows: Vec<StripRow> = model
        .data
        .services
        .iter()
        .map(|s| StripRow {
            service: s.name.clone(),
            last_good: s.last_good_backup_at,
            last_failed: false,
            trouble: false,
            sizes: Vec::new(),
        })
        .collect();
    let at: HashMap<&str, usize> = model.data.services.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    // Backups come newest first, so that the first few of each service are its last ones.
    for backup in model.data.backups.iter() {
        let Some(row) = at.get(backup.service.as_str()).and_then(|i| rows.get_mut(*i)) else { continue };
        if row.sizes.len() >= SPARKS {
            continue;
        }
        match backup.state {
            BackupState::Succeeded => row.sizes.push(Some(backup.size_bytes.unwrap_or(0))),
            BackupState::Failed | BackupState::Incomplete => {
                row.last_failed |= row.sizes.is_empty();
                row.sizes.push(None);
            }
            BackupState::Running | BackupState::Deleting => {}
        }
    }
    for row in &mut rows {
        row.sizes.reverse();
    }
    for status in model.data.pitr.iter().filter(|s| recording::trouble(model, s).is_some()) {
        if let Some(row) = at.get(status.service.as_str()).and_then(|i| rows.get_mut(*i)) {
            row.trouble = true;
        }
    }
    rows.sort_by_key(|r| (!r.needs_somebody(), r.last_good));
    rows
}

/// `▁▂▃✗▂`: heights against the largest.
pub fn spark(sizes: &[Option<u64>]) -> String {
    let most = sizes.iter().flatten().copied().max().unwrap_or(0).max(1);
    let height = |n: u64| ['▁', '▂', '▃', '▄', '▅', '▆', '▇'][(n as u128 * 6 / most as u128) as usize];
    sizes.iter().map(|size| size.map_or('✗', height)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spark_line_shows_sizes_and_failures() {
        assert_eq!(spark(&[Some(0), Some(50), None, Some(100)]), "▁▄✗▇");
        assert_eq!(spark(&[]), "");
        assert_eq!(spark(&[Some(u64::MAX)]), "▇");
    }
}
