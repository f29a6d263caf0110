//! The catalogue of backups. A cache of what the storages hold: a row says `succeeded` only after the manifest was
//! written, and can be made again from the manifest.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Store, from_json, from_word, integer, millis, now, time, to_json, word};
use crate::domain::backup::{
    Backup, BackupEncryption, BackupRequest, BackupState, BackupType, ChainLink, Compression, Model,
};
use crate::domain::encryption::Recipient;
use crate::domain::service::EngineKind;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// What a manifest says about a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogueEntry {
    pub name: String,
    pub service: String,
    pub cluster: Option<String>,
    pub folder: String,
    pub schedule: Option<String>,
    pub engine: EngineKind,
    pub model: Model,
    pub backup_type: BackupType,
    pub compression: Compression,
    pub consistent_at_ts: Timestamp,
    pub size_bytes: u64,
    pub uncompressed_bytes: u64,
    /// `None`: it holds files.
    pub documents: Option<u64>,
    pub new_bytes: Option<u64>,
    pub locked_millis: Option<u64>,
    pub pbm_name: Option<String>,
    pub chain: Option<ChainLink>,
    /// Whom its objects are encrypted to.
    pub recipients: Option<Vec<Recipient>>,
    pub started_at: chrono::DateTime<chrono::Utc>,
    pub finished_at: chrono::DateTime<chrono::Utc>,
    pub server_version: String,
    pub fcv: String,
    pub replica_set_id: String,
    /// Nothing was left out by choice. `None`: nobody knows.
    pub whole: Option<bool>,
}

impl CatalogueEntry {
    /// Whether its objects lie as mongokeep lays them: PBM's own and those of mongodump do not.
    pub fn is_in_own_layout(&self) -> bool {
        self.engine == EngineKind::Native || self.pbm_name.is_some()
    }

    /// Whether `known` is the same backup, or a copy of it, wherever that lies.
    pub fn is_the_same_as(&self, known: &Backup) -> bool {
        // The catalogue keeps milliseconds.
        let begun = (self.started_at.timestamp_millis(), known.started_at.timestamp_millis());
        let position = known.consistent_at_ts.unwrap_or(Timestamp::MIN);
        self.name == known.name
            && (self.engine, self.model, &self.service) == (known.engine, known.model, &known.service)
            && (begun.0 == begun.1 && self.consistent_at_ts == position && Some(self.size_bytes) == known.size_bytes)
    }
}

/// How long a backup took that was made here or found in a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLength {
    pub service: String,
    pub schedule: Option<String>,
    pub seconds: u64,
}

/// The last good backup that a schedule made of a service, or a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestBackup {
    pub service: String,
    pub schedule: Option<String>,
    pub started_at: chrono::DateTime<chrono::Utc>,
    pub finished_at: chrono::DateTime<chrono::Utc>,
    pub size_bytes: u64,
}

/// Older backups say nothing about how long one takes today.
const LENGTHS: i64 = 2000;
/// Seconds a backup takes at most. What a manifest tells beyond that is no length to plan with.
const LONGEST: i64 = 30 * 24 * 3600;

const COLUMNS: &str = "SELECT name, service, cluster, storage, folder, engine, model, type, schedule, state, pinned,
    consistent_t, consistent_i, size_bytes, uncompressed_bytes, documents, started_at, finished_at, server_version, fcv,
    compression, error, verified_at, verify_error, new_bytes, locked_millis, pbm_name, recipients,
    chain_base, chain_source FROM backups";

impl Store {
    /// Newest first.
    pub fn backups(&self) -> Result<Vec<Backup>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{COLUMNS} ORDER BY started_at DESC, name"))?;
            super::all(statement.query([])?, read)
        })
    }

    /// How long the newest good backups took, newest first.
    pub fn backup_lengths(&self) -> Result<Vec<BackupLength>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(
                "SELECT service, schedule, min((finished_at - started_at) / 1000, ?2) FROM backups
                 WHERE state = 'succeeded' AND finished_at >= started_at ORDER BY started_at DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([LENGTHS, LONGEST], |r| {
                Ok(BackupLength { service: r.get(0)?, schedule: r.get(1)?, seconds: r.get::<_, i64>(2)? as u64 })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// One for each service and schedule that has a good one, in the order of their names. Where there are whole ones,
    /// it is one of these: by hand a few collections are backed up, too.
    pub fn newest_backups(&self) -> Result<Vec<NewestBackup>> {
        self.read(|c| {
            // SQLite takes the other columns from the row that has the maximum.
            let mut statement = c.prepare_cached(
                "SELECT service, schedule, started_at, max(finished_at), size_bytes FROM backups b
                 WHERE state = 'succeeded' AND finished_at IS NOT NULL AND verify_error IS NULL
                     AND (whole IS NOT 0 OR NOT EXISTS (SELECT 1 FROM backups o
                         WHERE o.service = b.service AND o.schedule IS b.schedule AND o.state = 'succeeded'
                             AND o.finished_at IS NOT NULL AND o.verify_error IS NULL AND o.whole IS NOT 0))
                 GROUP BY service, schedule ORDER BY service, schedule",
            )?;
            let rows = statement.query_map([], |r| {
                Ok(NewestBackup {
                    service: r.get(0)?,
                    schedule: r.get(1)?,
                    started_at: time(r.get(2)?),
                    finished_at: time(r.get(3)?),
                    size_bytes: r.get::<_, i64>(4)? as u64,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Those that could not be deleted: taken apart half way, or still whole.
    pub fn backups_not_deleted(&self) -> Result<Vec<Backup>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!(
                "{COLUMNS} WHERE state IN ('deleting', 'succeeded') AND error IS NOT NULL ORDER BY name"
            ))?;
            super::all(statement.query([])?, read)
        })
    }

    /// Of which backups it is known whether something was left out by choice, by name: `true` for one that is whole.
    pub fn known_whole(&self) -> Result<BTreeMap<String, bool>> {
        self.read(|c| {
            let mut statement = c.prepare_cached("SELECT name, whole FROM backups WHERE whole IS NOT NULL")?;
            let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Those that a verification found damaged.
    pub fn backups_damaged(&self) -> Result<Vec<Backup>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!(
                "{COLUMNS} WHERE state = 'succeeded' AND verify_error IS NOT NULL ORDER BY started_at DESC, name"
            ))?;
            super::all(statement.query([])?, read)
        })
    }

    pub fn backup(&self, name: &str) -> Result<Backup> {
        self.read(|c| get(c, name))
    }

    pub fn pin_backup(&self, name: &str, pinned: bool) -> Result<Backup> {
        self.write(|t| {
            let why = match get(t, name)?.state {
                BackupState::Deleting => {
                    Some(("is being deleted", "it may no longer be whole, so there is nothing to keep"))
                }
                BackupState::Failed | BackupState::Incomplete => {
                    Some(("is not complete", "it cannot be restored, so there is nothing to keep"))
                }
                BackupState::Running | BackupState::Succeeded => None,
            };
            if let Some((why, hint)) = why.filter(|_| pinned) {
                return Err(Error::new(ErrorKind::Conflict, format!("backup {name} {why}")).hint(hint));
            }
            t.execute("UPDATE backups SET pinned = ?2 WHERE name = ?1", params![name, pinned])?;
            if pinned {
                // That it could not be deleted is nobody's trouble any more.
                t.execute("UPDATE backups SET error = NULL WHERE name = ?1 AND state = 'succeeded'", [name])?;
            }
            get(t, name)
        })
    }

    /// Notes how a verification ended; `error` is `None` when nothing was wrong.
    pub fn backup_verified(&self, name: &str, error: Option<&str>) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE backups SET verified_at = ?2, verify_error = ?3 WHERE name = ?1",
                params![name, millis(now()), error],
            )?;
            Ok(())
        })
    }

    /// What [`Store::import_backup`] would do with a backup that was found in `storage`.
    pub fn plan_import(&self, storage: &str, facts: &CatalogueEntry) -> Result<Import> {
        self.read(|c| Ok(plan_import(c, storage, facts)?.0))
    }

    /// Puts a whole backup that was found in `storage` into the catalogue, or brings its row up to date.
    /// Returns whether it was not there as a good one.
    ///
    /// Errors: `Conflict` when the name belongs to a backup elsewhere.
    pub fn import_backup(&self, storage: &str, facts: &CatalogueEntry) -> Result<bool> {
        self.write(|t| Ok(import(t, storage, facts)? == Import::Adds))
    }

    /// The same of a backup with a manifest that lacks something, and why: it is not listed as good, and stays damaged when
    /// it is found whole, until a verification has read all of it.
    ///
    /// Errors: as [`Store::import_backup`].
    pub fn import_not_whole(&self, storage: &str, facts: &CatalogueEntry, why: &str) -> Result<()> {
        self.write(|t| match import(t, storage, facts)? {
            Import::AtWork | Import::Elsewhere(_) => Ok(()),
            Import::Adds | Import::Unchanged => not_whole(t, storage, &facts.folder, &facts.name, why),
        })
    }

    /// Lists a folder without a manifest, so that a person can remove it. Does nothing when the name is known.
    pub fn import_incomplete(&self, storage: &str, folder: &str, name: &str, service: &str, why: &str) -> Result<()> {
        self.write(|t| {
            t.execute(
                "INSERT INTO backups (name, service, storage, folder, engine, model, type, state, started_at, compression,
                    error) VALUES (?1, ?2, ?3, ?4, 'native', 'logical', 'full', 'incomplete', ?5, 'none', ?6)
                 ON CONFLICT (name) DO NOTHING",
                params![name, service, storage, folder, millis(now()), why],
            )?;
            Ok(())
        })
    }

    /// A backup that was good is gone from its storage, as somebody just saw; it is no longer listed as good.
    pub fn backup_missing(&self, name: &str, why: &str) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE backups SET state = 'incomplete', error = ?2 WHERE name = ?1 AND state = 'succeeded'",
                params![name, why],
            )?;
            Ok(())
        })
    }
}

/// What a backup that was found in a storage means for the catalogue.
#[derive(Debug, Clone, PartialEq)]
pub enum Import {
    /// It is not there, or not as a good one.
    Adds,
    /// It is there as a good one; what it says of itself is brought up to date.
    Unchanged,
    /// A job works on it, and knows better.
    AtWork,
    /// The name belongs to this backup, in another place.
    Elsewhere(Box<Backup>),
}

/// With the row that is there, if it is in that place.
fn plan_import(c: &Connection, storage: &str, facts: &CatalogueEntry) -> Result<(Import, Option<Backup>)> {
    let backup = match get(c, &facts.name) {
        Ok(backup) => backup,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok((Import::Adds, None)),
        Err(e) => return Err(e),
    };
    if backup.storage != storage || backup.folder != facts.folder {
        return Ok((Import::Elsewhere(Box::new(backup)), None));
    }
    let is_at_work = super::jobs::unfinished(c, "backup = ?1", &facts.name)?.is_some()
        || super::retention::taken(c, &facts.name)?.is_some();
    let import = match (is_at_work, backup.state) {
        (true, _) => Import::AtWork,
        (false, BackupState::Succeeded) => Import::Unchanged,
        (false, _) => Import::Adds,
    };
    Ok((import, Some(backup)))
}

fn import(t: &Transaction<'_>, storage: &str, facts: &CatalogueEntry) -> Result<Import> {
    let (import, present) = plan_import(t, storage, facts)?;
    match &import {
        Import::AtWork => return Ok(import),
        Import::Elsewhere(backup) => {
            let (name, folder) = (escape(&facts.name), &backup.folder);
            let what =
                format!("the catalogue has another backup {name} (in storage {}, folder {folder:?})", backup.storage);
            return Err(Error::new(ErrorKind::Conflict, what));
        }
        Import::Adds | Import::Unchanged => {}
    }
    if present.is_none() {
        t.execute(
            "INSERT INTO backups (name, service, cluster, storage, folder, engine, model, type, schedule,
                state, started_at, compression) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'succeeded', ?10, ?11)",
            params![
                facts.name,
                facts.service,
                facts.cluster,
                storage,
                facts.folder,
                word(&facts.engine)?,
                word(&facts.model)?,
                word(&facts.backup_type)?,
                facts.schedule,
                millis(facts.started_at),
                facts.compression.to_string(),
            ],
        )?;
    }
    set_facts(t, facts)?;
    Ok(import)
}

/// A good backup is good no longer: it lacks something, as somebody just saw.
pub fn not_whole(t: &Transaction<'_>, storage: &str, folder: &str, name: &str, why: &str) -> Result<()> {
    t.execute(
        "UPDATE backups SET state = 'incomplete', error = ?4, verified_at = ?5, verify_error = ?4
         WHERE name = ?3 AND storage = ?1 AND folder = ?2 AND state = 'succeeded'",
        params![storage, folder, name, why, millis(now())],
    )?;
    Ok(())
}

pub fn get(c: &Connection, name: &str) -> Result<Backup> {
    let mut statement = c.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?;
    let mut rows = statement.query([name])?;
    rows.next()?
        .map(read)
        .transpose()?
        .ok_or_else(|| Error::not_found("backup", escape(name)).hint("mongokeep backup list shows what there is"))
}

/// Reserves the name and shows the backup from the moment it is asked for.
///
/// Errors: `Conflict` for a taken name.
pub fn insert_running(
    t: &Transaction<'_>,
    request: &BackupRequest,
    cluster: Option<&str>,
    engine: EngineKind,
) -> Result<()> {
    let state: Option<String> =
        t.query_row("SELECT state FROM backups WHERE name = ?1", [&request.name], |r| r.get(0)).optional()?;
    if let Some(state) = state {
        let job: Option<i64> = t.query_row(
            "SELECT max(id) FROM jobs WHERE backup = ?1 AND kind = 'backup' AND state IN ('failed', 'cancelled')",
            [&request.name],
            |r| r.get(0),
        )?;
        let hint = match job {
            Some(id) if state == "failed" => {
                format!("try it again with mongokeep job retry {id}, remove it, or choose another name")
            }
            _ => "choose another name with --name".to_owned(),
        };
        return Err(Error::of_field(
            ErrorKind::Conflict,
            "name",
            format!("there is already a backup {}", request.name),
        )
        .hint(hint));
    }
    t.execute(
        "INSERT INTO backups (name, service, cluster, storage, folder, engine, model, type, schedule, state, started_at,
            compression) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'running', ?10, ?11)",
        params![
            request.name,
            request.service,
            cluster,
            request.storage,
            request.folder,
            word(&engine)?,
            word(&request.model)?,
            word(&request.backup_type)?,
            request.schedule,
            millis(now()),
            request.compression.to_string(),
        ],
    )?;
    Ok(())
}

/// Forgets a backup of which nothing is left in its storage, or whose files are nobody's business any more.
pub fn removed(t: &Transaction<'_>, name: &str) -> Result<()> {
    t.execute(
        "UPDATE attempts SET clean = 1 WHERE job IN (SELECT id FROM jobs WHERE backup = ?1 AND kind = 'backup')",
        [name],
    )?;
    t.execute("DELETE FROM backups WHERE name = ?1", [name])?;
    Ok(())
}

/// Makes the row say what the manifest says, and that the backup is good.
pub fn set_facts(t: &Transaction<'_>, facts: &CatalogueEntry) -> Result<()> {
    t.execute(
        "UPDATE backups SET state = 'succeeded', state_before = NULL, retired_by = NULL, error = NULL, service = ?2, cluster = ?3,
            consistent_t = ?4, consistent_i = ?5, size_bytes = ?6, uncompressed_bytes = ?7, documents = ?8,
            started_at = ?9, finished_at = ?10, server_version = ?11, fcv = ?12, compression = ?13, engine = ?14,
            model = ?15, type = ?16, replica_set_id = ?17, whole = ?18, new_bytes = ?19, locked_millis = ?20, pbm_name = ?21,
            recipients = ?22, chain_base = ?23, chain_source = ?24
            WHERE name = ?1",
        params![
            facts.name,
            facts.service,
            facts.cluster,
            facts.consistent_at_ts.t,
            facts.consistent_at_ts.i,
            integer(facts.size_bytes),
            integer(facts.uncompressed_bytes),
            facts.documents.map(integer),
            millis(facts.started_at),
            millis(facts.finished_at),
            facts.server_version,
            facts.fcv,
            facts.compression.to_string(),
            word(&facts.engine)?,
            word(&facts.model)?,
            word(&facts.backup_type)?,
            facts.replica_set_id,
            facts.whole,
            facts.new_bytes.map(integer),
            facts.locked_millis.map(integer),
            facts.pbm_name,
            facts.recipients.as_ref().map(to_json).transpose()?,
            facts.chain.as_ref().map(|chain| &chain.base),
            facts.chain.as_ref().and_then(|chain| chain.source.as_ref()),
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Backup> {
    let position = match (row.get::<_, Option<u32>>(11)?, row.get::<_, Option<u32>>(12)?) {
        // Of a dump without an oplog nobody knows it.
        (Some(t), Some(i)) => Some(Timestamp::new(t, i)).filter(|ts| *ts > Timestamp::MIN),
        _ => None,
    };
    let number = |i: usize| -> Result<Option<u64>> { Ok(row.get::<_, Option<i64>>(i)?.map(|n| n as u64)) };
    Ok(Backup {
        name: row.get(0)?,
        service: row.get(1)?,
        cluster: row.get(2)?,
        storage: row.get(3)?,
        folder: row.get(4)?,
        engine: from_word(row.get(5)?)?,
        model: from_word(row.get(6)?)?,
        backup_type: from_word(row.get(7)?)?,
        schedule: row.get(8)?,
        state: from_word(row.get(9)?)?,
        pinned: row.get(10)?,
        consistent_at: position.map(Timestamp::to_datetime),
        consistent_at_ts: position,
        size_bytes: number(13)?,
        // Nothing in something was not counted.
        uncompressed_bytes: number(14)?.filter(|plain| *plain > 0),
        documents: number(15)?,
        started_at: time(row.get(16)?),
        // A dump without an oplog does not say it.
        finished_at: row.get::<_, Option<i64>>(17)?.filter(|millis| *millis > 0).map(time),
        server_version: row.get(18)?,
        fcv: row.get(19)?,
        compression: Compression::recorded(&row.get::<_, String>(20)?).map_err(super::damaged)?,
        error: row.get(21)?,
        verified_at: row.get::<_, Option<i64>>(22)?.map(time),
        verify_error: row.get(23)?,
        new_bytes: number(24)?,
        locked_millis: number(25)?,
        pbm_name: row.get(26)?,
        chain: match row.get::<_, Option<String>>(28)? {
            Some(base) => Some(ChainLink { base, source: row.get(29)? }),
            None => None,
        },
        encryption: match row.get::<_, Option<String>>(27)? {
            Some(json) => Some(BackupEncryption { recipients: from_json(&json)? }),
            None => None,
        },
    })
}
