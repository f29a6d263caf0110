//! Which slices retention takes from the catalogue.
//!
//! As with backups, the rules are looked at anew before anything goes, and only what this home wrote goes. What is chosen
//! stops being counted on in that very transaction, so that no restore is planned over what is being deleted.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::slices::{Damaged, bases, cover_again, covered, read_archive};
use super::{Store, engine_recordings, now, retention};
use crate::domain::pitr::{Archive, Keeps, Useless, useless, window};
use crate::domain::retention::PlannedOplog;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

/// Slices of one archive that are of no use any more, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicesGoing {
    pub archive: Archive,
    pub keys: Vec<String>,
}

/// An archive, with what decides about its slices.
struct Judged {
    id: i64,
    archive: Archive,
    prefix: String,
    useless: Vec<Useless>,
    window: Option<Timestamp>,
}

/// Chosen now: `?1` the archive, `?2..?5` where what is of no use begins and ends.
const CHOSEN: &str = "archive = ?1 AND NOT going AND own IS NOT 0 AND (after_t, after_i) >= (?2, ?3) AND after_t <= ?4
    AND (last_t, last_i) <= (?4, ?5)";

impl Store {
    /// The archives of a service of which slices go.
    pub fn archives_going(&self, service: &str) -> Result<Vec<Archive>> {
        self.read(|c| {
            let mut found = Vec::new();
            for judged in judged(c, service)? {
                if count(c, &judged)?.0 > 0 {
                    found.push(judged.archive);
                }
            }
            Ok(found)
        })
    }

    /// The next slices of a service that go, at most `limit` of them, from none of the archives `but` and none of the keys
    /// `stuck`: those that were chosen before and are not gone yet, or else more. They are to be told by [`Store::forget_slices`] or
    /// [`Store::slices_left_alone`].
    pub fn slices_going(
        &self,
        service: &str,
        limit: usize,
        but: &[Archive],
        stuck: &BTreeSet<String>,
    ) -> Result<Option<SlicesGoing>> {
        self.write(|t| {
            for judged in judged(t, service)?.into_iter().filter(|j| !but.contains(&j.archive)) {
                let key = |name: &String| format!("{}/{name}", judged.prefix);
                let chosen = chosen_before(t, judged.id, limit.saturating_add(stuck.len()))?;
                let mut keys: Vec<String> = chosen.iter().map(key).filter(|key| !stuck.contains(key)).collect();
                keys.truncate(limit);
                if keys.is_empty() {
                    keys = choose(t, &judged, limit)?.iter().map(key).collect();
                }
                if !keys.is_empty() {
                    return Ok(Some(SlicesGoing { archive: judged.archive, keys }));
                }
            }
            Ok(None)
        })
    }

    /// Slices that another home wrote, or that cannot be read: they stay, and are not asked for again.
    pub fn slices_left_alone(&self, storage: &str, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.write(|t| {
            let mut touched = BTreeSet::new();
            let mut statement = t.prepare_cached(
                "UPDATE slices SET own = 0, going = 0
                 WHERE archive IN (SELECT id FROM archives WHERE storage = ?1 AND prefix = ?2) AND name = ?3
                 RETURNING archive",
            )?;
            for key in keys {
                let (prefix, name) = super::slices::split(key)?;
                for archive in statement.query_map([storage, prefix, name], |r| r.get::<_, i64>(0))? {
                    touched.insert(archive?);
                }
            }
            drop(statement);
            touched.into_iter().try_for_each(|archive| cover_again(t, archive))
        })
    }
}

fn chosen_before(t: &Transaction<'_>, archive: i64, limit: usize) -> Result<Vec<String>> {
    let mut statement =
        t.prepare_cached("SELECT name FROM slices WHERE archive = ?1 AND going ORDER BY after_t, after_i LIMIT ?2")?;
    let rows = statement.query_map(params![archive, sql_limit(limit)], |r| r.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn choose(t: &Transaction<'_>, judged: &Judged, limit: usize) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for Useless { from, to } in &judged.useless {
        let mut statement =
            t.prepare_cached(&format!("SELECT name FROM slices WHERE {CHOSEN} ORDER BY after_t, after_i LIMIT ?6"))?;
        let left = sql_limit(limit.saturating_sub(names.len()));
        let rows = statement.query_map(params![judged.id, from.t, from.i, to.t, to.i, left], |r| r.get(0))?;
        names.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    let mut statement = t.prepare_cached("UPDATE slices SET going = 1 WHERE archive = ?1 AND name = ?2")?;
    for name in &names {
        statement.execute(params![judged.id, name])?;
    }
    if !names.is_empty() {
        cover_again(t, judged.id)?;
    }
    Ok(names)
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// How many slices of an archive go, and their bytes.
fn count(c: &Connection, judged: &Judged) -> Result<(u64, u64)> {
    let pair = |r: &rusqlite::Row<'_>| Ok((r.get::<_, i64>(0)? as u64, r.get::<_, i64>(1)? as u64));
    let counted = "SELECT count(*), CAST(total(size_bytes) AS INTEGER) FROM slices WHERE";
    let (mut slices, mut bytes) = c.query_row(&format!("{counted} archive = ?1 AND going"), [judged.id], pair)?;
    for Useless { from, to } in &judged.useless {
        let range = params![judged.id, from.t, from.i, to.t, to.i];
        let more = c.query_row(&format!("{counted} {CHOSEN}"), range, pair)?;
        (slices, bytes) = (slices.saturating_add(more.0), bytes.saturating_add(more.1));
    }
    Ok((slices, bytes))
}

/// Whether any slice of a service goes.
pub fn any(c: &Connection, service: &str) -> Result<bool> {
    for judged in judged(c, service)? {
        if count(c, &judged)?.0 > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What goes of the oplog that a schedule records; `None`: it records none, or nothing yet.
pub fn planned(c: &Connection, schedule: &str) -> Result<Option<PlannedOplog>> {
    let place: Option<(String, String, String)> = c
        .query_row(
            "SELECT service, storage, folder FROM schedules WHERE name = ?1 AND type = 'pitr'",
            [schedule],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
        .optional()?;
    let Some((service, storage, folder)) = place else { return Ok(None) };
    let mut plan: Option<PlannedOplog> = None;
    for judged in judged(c, &service)? {
        if judged.archive.storage != storage || judged.archive.folder != folder {
            continue;
        }
        let plan = plan.get_or_insert(PlannedOplog::default());
        let (slices, bytes) = count(c, &judged)?;
        plan.slices = plan.slices.saturating_add(slices);
        plan.size_bytes = plan.size_bytes.saturating_add(bytes);
        plan.frees_bytes = plan.size_bytes;
        plan.from_ts = plan.from_ts.max(judged.window);
        plan.from = plan.from_ts.map(Timestamp::to_datetime);
    }
    if plan.is_none()
        && let Some((row, bases)) = engine_recordings::source(c, &service)?
        && row.archive.storage == storage
        && row.archive.folder == folder
    {
        // The engine deletes what it recorded: how much of it that is, it says when it does.
        let moments: Vec<Timestamp> = bases.iter().map(|base| base.consistent_at_ts).collect();
        let schedules = keeps(c, &service, &row.archive)?;
        let from_ts = window(&row.covered, &moments, &in_use(c, &service)?, &schedules);
        return Ok(Some(PlannedOplog {
            from: from_ts.map(Timestamp::to_datetime),
            from_ts,
            ..PlannedOplog::default()
        }));
    }
    Ok(plan)
}

fn judged(c: &Connection, service: &str) -> Result<Vec<Judged>> {
    let mut statement = c.prepare_cached(
        "SELECT storage, folder, replica_set, replica_set_id, id, prefix FROM archives
         WHERE service = ?1 AND substr(replica_set_id, 1, length(?2)) <> ?2 ORDER BY id",
    )?;
    // What another tool recorded is its own.
    super::all(statement.query([service, Archive::OF_PBM])?, |row| {
        let (archive, id) = (read_archive(row)?, row.get(4)?);
        let covered = covered(c, id)?;
        // One that is damaged may have been read badly: nothing that leads from it goes for that.
        let all = bases(c, service, Some(&archive.replica_set_id), Damaged::Too)?;
        let moments: Vec<Timestamp> = all.iter().map(|b| b.consistent_at_ts).collect();
        let reading = in_use(c, service)?;
        let schedules = keeps(c, service, &archive)?;
        Ok(Judged {
            id,
            prefix: row.get(5)?,
            useless: useless(&covered, &moments, &reading, &schedules),
            window: window(&covered, &moments, &reading, &schedules),
            archive,
        })
    })
}

/// The moments of the bases of a service that a restore is going to read.
fn in_use(c: &Connection, service: &str) -> Result<Vec<Timestamp>> {
    let mut statement = c.prepare_cached(
        "SELECT b.consistent_t, b.consistent_i FROM jobs j JOIN backups b ON b.name = j.backup
         WHERE j.kind = 'restore' AND j.state IN ('queued', 'running', 'waiting_retry') AND b.service = ?1
             AND b.consistent_t IS NOT NULL",
    )?;
    let rows = statement.query_map([service], |r| Ok(Timestamp::new(r.get(0)?, r.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The schedules that record into an archive, on or off, with what their rules keep.
fn keeps(c: &Connection, service: &str, archive: &Archive) -> Result<Vec<Keeps>> {
    let mut statement = c.prepare_cached(
        "SELECT name FROM schedules WHERE service = ?1 AND storage = ?2 AND folder = ?3 AND type = 'pitr' ORDER BY name",
    )?;
    super::all(statement.query([service, &archive.storage, &archive.folder])?, |row| {
        let name: String = row.get(0)?;
        let (rules, kept) = retention::kept_by_rules(c, &name, now())?;
        let mut moments = Vec::new();
        for backup in kept {
            let at = c.query_row("SELECT consistent_t, consistent_i FROM backups WHERE name = ?1", [&backup], |r| {
                Ok((r.get::<_, Option<u32>>(0)?, r.get::<_, Option<u32>>(1)?))
            })?;
            if let (Some(t), Some(i)) = at {
                moments.push(Timestamp::new(t, i));
            }
        }
        Ok(Keeps { all: rules.keeps_all(), wanted: rules.wanted() as usize, kept: moments })
    })
}
