//! What a person decided, read as a whole for a copy of it, and put back from one.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Transaction, params};

use super::secrets::{missing_fields, missing_mark};
use super::{Store, from_json, millis, now, to_json, word};
use crate::domain::schedule::Schedule;
use crate::domain::secret::Secret;
use crate::domain::state_copy::{CopiedService, CopiedStorage, CopyNote, Decisions};
use crate::error::Result;

const NOTE: &str = "state_copy";

/// Everything that a person decides, and no more: what follows from jobs changes without anybody deciding anything.
const DECIDED: [&str; 3] = [
    "SELECT name, uri, cluster, engine, production_hours, data_dir, stop_command, start_command
     FROM services ORDER BY name",
    "SELECT name, config, secrets FROM storages ORDER BY name",
    "SELECT name, service, storage, folder, type, model, selection, compression, cron, timezone, start, retention, retry,
     enabled FROM schedules ORDER BY name",
];

/// What came back of a copy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BroughtBack {
    pub services: Vec<String>,
    pub storages: Vec<String>,
    pub schedules: Vec<String>,
    /// What was there already under the same name, and stays as it is: `service a`.
    pub kept: Vec<String>,
    /// The schedules of it that were on, and cannot be: a secret of their service or storage is missing.
    pub switched_off: Vec<String>,
    /// Why a schedule could not come back.
    pub refused: Vec<String>,
}

impl Store {
    /// A number that changes whenever a service, storage or schedule is decided anew. Needs no key.
    pub fn decisions_digest(&self) -> Result<String> {
        self.read(|c| {
            let mut hasher = blake3::Hasher::new();
            for sql in DECIDED {
                let mut statement = c.prepare_cached(sql)?;
                let columns = statement.column_count();
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    for n in 0..columns {
                        let (tag, bytes): (u8, Vec<u8>) = match row.get_ref(n)? {
                            ValueRef::Null => (0, Vec::new()),
                            ValueRef::Integer(number) => (1, number.to_le_bytes().to_vec()),
                            ValueRef::Real(number) => (2, number.to_le_bytes().to_vec()),
                            ValueRef::Text(bytes) => (3, bytes.to_vec()),
                            ValueRef::Blob(bytes) => (4, bytes.to_vec()),
                        };
                        hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
                    }
                }
                hasher.update(b"\n");
            }
            Ok(hasher.finalize().to_hex().to_string())
        })
    }

    /// The services, storages and schedules with the secrets that are here; the settings are not the store's.
    ///
    /// Errors: a secret cannot be decrypted.
    pub fn decisions(&self) -> Result<Decisions> {
        let mut decisions = Decisions::default();
        for row in self.services()? {
            // One whose connection string never came back itself has none to copy.
            let is_here = self.missing_of("services", "uri", &row.name)?.is_none();
            let uri = if is_here { Some(self.service(&row.name)?.uri) } else { None };
            decisions.services.push(CopiedService {
                uri,
                name: row.name,
                uri_shown: row.uri_shown,
                cluster: row.cluster,
                engine: row.engine,
                created_at: row.created_at,
                production_hours: row.production_hours,
                data_dir: row.data_dir,
                stop_command: row.stop_command,
                start_command: row.start_command,
            });
        }
        for row in self.storages()? {
            let (secret_fields, secrets) = match self.missing_of("storages", "secrets", &row.name)? {
                Some(fields) => (fields, BTreeMap::new()),
                None => {
                    let secrets = self.storage(&row.name)?.config.secrets;
                    (secrets.keys().cloned().collect(), secrets)
                }
            };
            let (name, config, created_at) = (row.name, row.config, row.created_at);
            decisions.storages.push(CopiedStorage { name, config, secrets, secret_fields, created_at });
        }
        let decided = |s: Schedule| Schedule { next_at: None, last: None, paused_by: None, ..s };
        decisions.schedules = self.schedules()?.into_iter().map(decided).collect();
        Ok(decisions)
    }

    /// The fields whose secrets never came back from a copy. `table` and `column` are ours.
    fn missing_of(&self, table: &str, column: &str, name: &str) -> Result<Option<Vec<String>>> {
        let sql = format!("SELECT {column} FROM {table} WHERE name = ?1");
        let sealed: Option<Option<Vec<u8>>> =
            self.read(|c| Ok(c.query_row(&sql, [name], |r| r.get(0)).optional()?))?;
        Ok(sealed.flatten().as_deref().and_then(missing_fields))
    }

    /// What was noted of the last copy.
    pub fn copy_note(&self) -> Result<CopyNote> {
        self.read(|c| {
            let noted: Option<String> =
                c.query_row("SELECT value FROM meta WHERE key = ?1", [NOTE], |r| r.get(0)).optional()?;
            noted.map_or_else(|| Ok(CopyNote::default()), |text| from_json(&text))
        })
    }

    pub fn set_copy_note(&self, note: &CopyNote) -> Result<()> {
        self.write(|t| {
            t.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                params![NOTE, to_json(note)?],
            )?;
            Ok(())
        })
    }

    /// Puts back what is not there, in one transaction. No run of a schedule that was due before now is made. This store stays
    /// the one of its own installation: what the other one made is not its to delete.
    pub fn bring_back(&self, decisions: &Decisions) -> Result<BroughtBack> {
        self.write(|t| {
            let mut back = BroughtBack::default();
            let mut without_secrets: BTreeSet<(&str, &str)> = BTreeSet::new();
            for storage in &decisions.storages {
                if exists(t, "storages", &storage.name)? {
                    back.kept.push(format!("storage {}", storage.name));
                    continue;
                }
                let is_missing = storage.secret_fields.iter().any(|key| !storage.secrets.contains_key(key));
                if is_missing {
                    without_secrets.insert(("storage", &storage.name));
                }
                let secrets = match (is_missing, storage.secrets.is_empty()) {
                    (true, _) => Some(missing_mark(&storage.secret_fields)),
                    (false, true) => None,
                    (false, false) => Some(self.sealed_secrets(&storage.name, &storage.secrets)?),
                };
                t.execute(
                    "INSERT INTO storages (name, config, secrets, created_at) VALUES (?1, ?2, ?3, ?4)",
                    params![storage.name, to_json(&storage.config)?, secrets, millis(storage.created_at)],
                )?;
                back.storages.push(storage.name.clone());
            }
            for service in &decisions.services {
                if exists(t, "services", &service.name)? {
                    back.kept.push(format!("service {}", service.name));
                    continue;
                }
                let sealed = match &service.uri {
                    Some(uri) => self.sealed_uri(&service.name, uri)?,
                    None => {
                        without_secrets.insert(("service", &service.name));
                        missing_mark(&[])
                    }
                };
                t.execute(
                    "INSERT INTO services (name, uri, uri_shown, cluster, engine, created_at, production_hours, data_dir,
                         stop_command, start_command)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                    params![
                        service.name,
                        sealed,
                        service.uri_shown,
                        service.cluster,
                        word(&service.engine)?,
                        // It has no good backup that is known here before a sync; it is not stale for that.
                        millis(now()),
                        service.production_hours,
                        service.data_dir,
                        service.stop_command,
                        service.start_command
                    ],
                )?;
                back.services.push(service.name.clone());
            }
            for schedule in &decisions.schedules {
                if exists(t, "schedules", &schedule.name)? {
                    back.kept.push(format!("schedule {}", schedule.name));
                    continue;
                }
                let of = [("service", schedule.service.as_str()), ("storage", schedule.storage.as_str())];
                let is_off = schedule.enabled && of.iter().any(|of| without_secrets.contains(of));
                let wanted = Schedule { enabled: schedule.enabled && !is_off, ..schedule.clone() };
                match super::schedules::insert(t, &wanted) {
                    Ok(()) => {
                        back.schedules.push(schedule.name.clone());
                        back.switched_off.extend(is_off.then(|| schedule.name.clone()));
                    }
                    Err(e) => back.refused.push(format!("schedule {}: {}", schedule.name, e.full())),
                }
            }
            Ok(back)
        })
    }

    fn sealed_secrets(&self, storage: &str, secrets: &BTreeMap<String, Secret>) -> Result<Vec<u8>> {
        self.key.seal(&super::storages::secret_row(storage), &Secret::new(to_json(secrets)?))
    }

    fn sealed_uri(&self, service: &str, uri: &Secret) -> Result<Vec<u8>> {
        self.key.seal(&super::services::secret_row(service), uri)
    }
}

/// `table` is one of ours.
fn exists(t: &Transaction<'_>, table: &str, name: &str) -> Result<bool> {
    let sql = format!("SELECT 1 FROM {table} WHERE name = ?1");
    Ok(t.query_row(&sql, [name], |_| Ok(())).optional()?.is_some())
}
