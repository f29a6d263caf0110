//! What engines that record the oplog by themselves have of each service, and whether mongokeep switched them on.
//!
//! The daemon asks them now and then. What they said last stands here, so that the window is known without asking.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::recording::{lost, need};
use super::slices::{ArchiveRow, Damaged, bases};
use super::{SlicingWanted, Store, from_json, millis, now, to_json};
use crate::domain::job::{Job, JobState};
use crate::domain::pitr::{Archive, Base, EngineRecord, Gap};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// The recording of one service by its engine.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineRecording {
    pub service: String,
    pub storage: String,
    pub folder: String,
    /// This installation switched it on, or was about to, and has not switched it off since.
    pub switched_on: bool,
    /// What the engine said last.
    pub record: EngineRecord,
}

const COLUMNS: &str = "SELECT service, storage, folder, switched_on, record FROM engine_recordings";

impl Store {
    pub fn engine_recording(&self, service: &str) -> Result<Option<EngineRecording>> {
        self.read(|c| get(c, service))
    }

    /// Those that are switched on, by service.
    pub fn engine_recordings_on(&self) -> Result<Vec<EngineRecording>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{COLUMNS} WHERE switched_on ORDER BY service"))?;
            super::all(statement.query([])?, read)
        })
    }

    /// Notes that the engine of a service is about to be switched on. In another place nothing of the earlier one counts.
    pub fn engine_switched_on(&self, wanted: &SlicingWanted) -> Result<()> {
        let SlicingWanted { service, storage, folder, .. } = wanted;
        let known = self.engine_recording(service)?;
        if known.is_some_and(|k| k.switched_on && (&k.storage, &k.folder) == (storage, folder)) {
            return Ok(());
        }
        self.write(|t| {
            super::jobs::must_exist(t, "storage", storage)?;
            let nothing = to_json(&EngineRecord::default())?;
            t.execute(
                "INSERT INTO engine_recordings (service, storage, folder, switched_on, record, at) VALUES (?1, ?2, ?3, 1, ?4, ?5)
                 ON CONFLICT (service) DO UPDATE SET switched_on = 1,
                     record = CASE WHEN storage = ?2 AND folder = ?3 THEN record ELSE ?4 END, storage = ?2, folder = ?3, at = ?5",
                params![service, storage, folder, nothing, millis(now())],
            )?;
            Ok(())
        })
    }

    /// Notes that it is off, or no longer ours to switch off.
    pub fn engine_switched_off(&self, service: &str) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE engine_recordings SET switched_on = 0 WHERE service = ?1", [service])?;
            Ok(())
        })
    }

    /// Notes what the engine of a service has in its place. A new gap is told, and needs a base after it.
    pub fn engine_recorded(&self, wanted: &SlicingWanted, record: &EngineRecord) -> Result<()> {
        let service = &wanted.service;
        let Some(known) = self.engine_recording(service)? else { return Ok(()) };
        let is_there = (&known.storage, &known.folder) == (&wanted.storage, &wanted.folder);
        // Mostly there is nothing new, which is no reason to write.
        if !is_there || known.record == *record {
            return Ok(());
        }
        self.write(|t| {
            let before = known.record.newest();
            // What is forgotten at its beginning, or was there before this looked, is no news.
            for gap in record.gaps().into_iter().filter(|gap| before.is_some_and(|before| gap.to_ts > before)) {
                if restored_within(t, service, &gap)?.is_none() {
                    lost(t, service, gap.from_ts, gap.to_ts, &gap.reason)?;
                }
            }
            t.execute(
                "UPDATE engine_recordings SET record = ?2, at = ?3 WHERE service = ?1",
                params![service, to_json(record)?, millis(now())],
            )?;
            Ok(())
        })
    }

    /// Notes that nothing more is recorded of a service before there is a base after now. A need that is known is not made
    /// another one.
    pub fn engine_needs_base(&self, service: &str, at: DateTime<Utc>) -> Result<()> {
        if self.base_needed(service)?.is_some() {
            return Ok(());
        }
        self.write(|t| need(t, service, position(at)))
    }

    /// Notes that a restore begins to write into a service whose engine stops recording for it.
    pub fn engine_restores(&self, service: &str, at: DateTime<Utc>) -> Result<()> {
        self.write(|t| need(t, service, position(at)))
    }

    /// The last restore into a service, unless it succeeded: one that is not finished, that failed or was cancelled. What the
    /// service holds then is no base.
    pub fn restore_without_success(&self, service: &str) -> Result<Option<Job>> {
        self.read(|c| {
            let sql = "SELECT max(id) FROM jobs WHERE kind = 'restore' AND service = ?1
                       AND (wrote OR state IN ('queued', 'running', 'waiting_retry'))";
            let last: Option<i64> = c.query_row(sql, [service], |r| r.get(0))?;
            let job = last.map(|id| super::jobs::get(c, id)).transpose()?;
            Ok(job.filter(|job| job.state != JobState::Succeeded))
        })
    }
}

/// The recording of a service as an archive, and the bases that can lead from it.
pub fn source(c: &Connection, service: &str) -> Result<Option<(ArchiveRow, Vec<Base>)>> {
    let Some(EngineRecording { storage, folder, switched_on, record, .. }) = get(c, service)? else { return Ok(None) };
    if !switched_on && record.oldest().is_none() {
        return Ok(None);
    }
    let names: Vec<String> = record.replica_sets.keys().map(|name| escape(name)).collect();
    let gaps = record.gaps().into_iter().map(|gap| {
        Ok(match restored_within(c, service, &gap)? {
            Some(job) => Gap { reason: format!("the engine stopped recording for a restore, job {job}"), ..gap },
            None => gap,
        })
    });
    let mut found = bases(c, service, Some(Archive::BY_ENGINE), Damaged::No)?;
    let sql = "SELECT name FROM backups WHERE service = ?1 AND storage = ?2 AND folder = ?3";
    let mut statement = c.prepare_cached(sql)?;
    let here = statement.query_map([service, &storage, &folder], |r| r.get(0))?;
    let here: BTreeSet<String> = here.collect::<rusqlite::Result<_>>()?;
    found.retain(|base| here.contains(&base.backup));
    let row = ArchiveRow {
        archive: Archive {
            storage,
            folder,
            replica_set: names.join(","),
            replica_set_id: Archive::BY_ENGINE.to_owned(),
        },
        slices: 0,
        size_bytes: 0,
        covered: record.covered(),
        gaps: gaps.collect::<Result<_>>()?,
        marks: Vec::new(),
    };
    Ok(Some((row, found)))
}

/// The services of which an engine has recorded anything.
pub fn services(c: &Connection) -> Result<Vec<String>> {
    let mut statement = c.prepare_cached(COLUMNS)?;
    let all = super::all(statement.query([])?, read)?;
    Ok(all.into_iter().filter(|r| r.record.oldest().is_some()).map(|r| r.service).collect())
}

/// Nothing of a service that is removed is known any more.
pub fn forget(t: &Transaction<'_>, service: &str) -> Result<()> {
    t.execute("DELETE FROM engine_recordings WHERE service = ?1", [service])?;
    Ok(())
}

/// The restore into the service that wrote within a gap.
fn restored_within(c: &Connection, service: &str, gap: &Gap) -> Result<Option<i64>> {
    let millis = |ts: Timestamp| i64::from(ts.t) * 1000;
    let mut statement = c.prepare_cached(
        "SELECT max(id) FROM jobs WHERE kind = 'restore' AND service = ?1 AND wrote AND started_at <= ?3
             AND coalesce(finished_at, ?3) >= ?2",
    )?;
    let within = params![service, millis(gap.from_ts), millis(gap.to_ts)];
    Ok(statement.query_row(within, |r| r.get(0))?)
}

fn position(at: DateTime<Utc>) -> Timestamp {
    Timestamp::new(u32::try_from(at.timestamp()).unwrap_or(u32::MAX), 0)
}

pub fn get(c: &Connection, service: &str) -> Result<Option<EngineRecording>> {
    let mut statement = c.prepare_cached(&format!("{COLUMNS} WHERE service = ?1"))?;
    let row = statement.query_row([service], |r| Ok(read(r))).optional()?;
    row.transpose()
}

fn read(row: &Row<'_>) -> Result<EngineRecording> {
    Ok(EngineRecording {
        service: row.get(0)?,
        storage: row.get(1)?,
        folder: row.get(2)?,
        switched_on: row.get(3)?,
        record: from_json(&row.get::<_, String>(4)?)?,
    })
}
