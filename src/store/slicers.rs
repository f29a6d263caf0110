//! Whose oplog is to be recorded, and how each recorder does.

use rusqlite::{Row, params};

use super::{Store, millis, time};
use crate::domain::pitr::SlicerState;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// A service whose oplog is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicingWanted {
    pub service: String,
    pub storage: String,
    pub folder: String,
    /// The first of its point-in-time schedules that are on.
    pub schedule: String,
}

impl Store {
    /// One for each service with a point-in-time schedule that is on. All of a service have the same storage and folder.
    pub fn slicing_wanted(&self) -> Result<Vec<SlicingWanted>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT service, storage, folder, min(name) FROM schedules WHERE enabled AND type = 'pitr'
                 GROUP BY service ORDER BY service",
            )?;
            let rows = statement.query_map([], |r| {
                Ok(SlicingWanted { service: r.get(0)?, storage: r.get(1)?, folder: r.get(2)?, schedule: r.get(3)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    pub fn slicer_state(&self, service: &str) -> Result<Option<SlicerState>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT running, stored_t, stored_i, error, hint, at, held FROM slicers WHERE service = ?1",
            )?;
            let mut rows = statement.query([service])?;
            rows.next()?.map(read).transpose()
        })
    }

    /// Writes only what differs, but for the time: most looks find what they found before.
    pub fn set_slicer_state(&self, service: &str, state: &SlicerState) -> Result<()> {
        let known = self.slicer_state(service)?;
        if known.is_some_and(|known| SlicerState { at: state.at, ..known } == *state) {
            return Ok(());
        }
        self.write(|t| {
            t.prepare_cached(
                "INSERT INTO slicers (service, running, stored_t, stored_i, error, hint, at, held)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (service) DO UPDATE SET running = ?2, stored_t = ?3, stored_i = ?4, error = ?5, hint = ?6,
                    at = ?7, held = ?8",
            )?
            .execute(params![
                service,
                state.running,
                state.stored.map(|ts| ts.t),
                state.stored.map(|ts| ts.i),
                state.error.as_deref().map(escape),
                state.hint.as_deref().map(escape),
                millis(state.at),
                state.held,
            ])?;
            Ok(())
        })
    }

    /// No slicer runs: for a daemon that begins, whatever the one before it left behind.
    pub fn slicers_stopped(&self) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE slicers SET running = 0 WHERE running", [])?;
            Ok(())
        })
    }

    /// How many slicers run, when a daemon does.
    pub fn slicers_running(&self) -> Result<u64> {
        self.read(|c| Ok(c.query_row("SELECT count(*) FROM slicers WHERE running", [], |r| r.get::<_, i64>(0))? as u64))
    }
}

fn read(row: &Row<'_>) -> Result<SlicerState> {
    let stored = match (row.get::<_, Option<u32>>(1)?, row.get::<_, Option<u32>>(2)?) {
        (Some(t), Some(i)) => Some(Timestamp::new(t, i)),
        _ => None,
    };
    Ok(SlicerState {
        running: row.get(0)?,
        stored,
        error: row.get(3)?,
        hint: row.get(4)?,
        held: row.get(6)?,
        at: time(row.get(5)?),
    })
}
