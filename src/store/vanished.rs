//! Slices that are no longer in their storage.
//!
//! Those that retention has deleted are missed by nobody. With any other, what could be restored is less than before: that
//! is a gap as any other, to be told and to be followed by a base.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};

use super::slices::{cover_again, covered, split};
use super::{Store, recording};
use crate::domain::pitr::Coverage;
use crate::error::Result;

impl Store {
    /// Forgets slices that are no longer in `storage`, by their keys. What can no longer be restored of a service whose oplog
    /// is recorded there is told, and a base is asked for.
    pub fn forget_slices(&self, storage: &str, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.write(|t| {
            let mut touched: BTreeMap<i64, Vec<Coverage>> = BTreeMap::new();
            for key in keys {
                let (prefix, name) = split(key)?;
                let mut statement = t.prepare_cached(
                    "DELETE FROM slices WHERE name = ?3 AND archive IN
                         (SELECT id FROM archives WHERE storage = ?1 AND prefix = ?2)
                     RETURNING after_t, after_i, after_term, last_t, last_i, last_term, archive, going",
                )?;
                let mut rows = statement.query(params![storage, prefix, name])?;
                while let Some(row) = rows.next()? {
                    let missed = touched.entry(row.get(6)?).or_default();
                    // Nobody counted on those that were going.
                    if !row.get::<_, bool>(7)? {
                        missed.push(super::slices::piece(row)?);
                    }
                }
            }
            for (archive, missed) in touched {
                if !missed.is_empty() {
                    let before = covered(t, archive)?;
                    cover_again(t, archive)?;
                    note_missed(t, archive, &before, &missed)?;
                }
                t.execute("DELETE FROM archives WHERE id = ?1 AND slices = 0", [archive])?;
            }
            Ok(())
        })
    }
}

/// Tells what is missing of an archive that is recorded into, if anything is that no other slice holds.
fn note_missed(t: &Transaction<'_>, archive: i64, before: &[Coverage], missed: &[Coverage]) -> Result<()> {
    if covered(t, archive)? == *before {
        return Ok(());
    }
    let recorded = "SELECT a.service, a.storage FROM archives a WHERE a.id = ?1 AND EXISTS (
        SELECT 1 FROM schedules s WHERE s.enabled AND s.type = 'pitr'
            AND s.service = a.service AND s.storage = a.storage AND s.folder = a.folder)";
    let mut statement = t.prepare_cached(recorded)?;
    let mut rows = statement.query([archive])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let (service, storage): (String, String) = (row.get(0)?, row.get(1)?);
    let from = missed.iter().map(|piece| piece.after.ts).min();
    let to = missed.iter().map(|piece| piece.last.ts).max();
    let Some((from, to)) = from.zip(to) else { return Ok(()) };
    let reason = format!("slices that were recorded are no longer in storage {storage}");
    recording::lost(t, &service, from, to, &reason)
}
