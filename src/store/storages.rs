//! Storage locations: where they are, and the keys to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::secrets::missing_fields;
use super::{Store, from_json, millis, now, time, to_json};
use crate::domain::secret::Secret;
use crate::domain::state_copy::give_again;
use crate::domain::storage::{StorageConfig, StorageLocation};
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

/// A storage as a list shows it; its secrets are left out, so it needs no key.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageRow {
    pub name: String,
    pub config: StorageConfig,
    /// Whether secrets are stored with it.
    pub has_secrets: bool,
    pub created_at: DateTime<Utc>,
    /// Without those that failed.
    pub backups: u64,
    pub bytes: u64,
    /// How many schedules write to it.
    pub schedules: u64,
    pub tested_at: Option<DateTime<Utc>>,
    pub test_error: Option<String>,
}

/// Of another folder it says nothing: a storage may be moved, or its name be used again.
#[derive(Serialize, Deserialize)]
struct FolderMark {
    path: PathBuf,
    mark: String,
}

fn mark_key(name: &str) -> String {
    format!("folder mark of storage {name}")
}

/// `total`, because `sum` fails where it leaves 64 bits, and nothing could be read of a storage any more.
const COLUMNS: &str = "SELECT name, config, secrets IS NOT NULL, created_at,
    (SELECT count(*) FROM backups b WHERE b.storage = storages.name AND b.state NOT IN ('failed', 'incomplete')),
    (SELECT CAST(total(size_bytes) AS INTEGER) FROM backups b WHERE b.storage = storages.name AND b.state = 'succeeded'),
    tested_at, test_error, (SELECT count(*) FROM schedules s WHERE s.storage = storages.name) FROM storages";

impl Store {
    /// In the order of their names.
    pub fn storages(&self) -> Result<Vec<StorageRow>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{COLUMNS} ORDER BY name"))?;
            super::all(statement.query([])?, read)
        })
    }

    pub fn storage_row(&self, name: &str) -> Result<StorageRow> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?;
            let mut rows = statement.query([name])?;
            rows.next()?.map(read).transpose()?.ok_or_else(|| missing(name))
        })
    }

    /// The mark that the folder at `path` of a storage had when it was written to last.
    pub fn folder_mark(&self, name: &str, path: &Path) -> Result<Option<String>> {
        self.read(|c| {
            let noted: Option<String> =
                c.query_row("SELECT value FROM meta WHERE key = ?1", [mark_key(name)], |r| r.get(0)).optional()?;
            let noted: Option<FolderMark> = noted.map(|text| from_json(&text)).transpose()?;
            Ok(noted.filter(|noted| noted.path == path).map(|noted| noted.mark))
        })
    }

    pub fn set_folder_mark(&self, name: &str, path: &Path, mark: &str) -> Result<()> {
        let noted = to_json(&FolderMark { path: path.to_owned(), mark: mark.to_owned() })?;
        self.write(|t| {
            t.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                params![mark_key(name), noted],
            )?;
            Ok(())
        })
    }

    /// With its secrets.
    pub fn storage(&self, name: &str) -> Result<StorageLocation> {
        let row = self.storage_row(name)?;
        let sealed: Option<Vec<u8>> = self.read(|c| {
            c.query_row("SELECT secrets FROM storages WHERE name = ?1", [name], |r| r.get(0))
                .optional()?
                .ok_or_else(|| missing(name))
        })?;
        let mut config = row.config;
        if let Some(fields) = sealed.as_deref().and_then(missing_fields) {
            return Err(not_copied(name, &fields));
        }
        if let Some(sealed) = sealed {
            // A first version wrote a key for each secret there could be.
            let secrets: BTreeMap<String, Option<Secret>> =
                from_json(self.key.open(&secret_row(name), &sealed)?.expose())?;
            config.secrets = secrets.into_iter().filter_map(|(key, secret)| Some((key, secret?))).collect();
        }
        let last_test = row.tested_at.map(|at| (at, row.test_error));
        Ok(StorageLocation { name: row.name, config, created_at: row.created_at, last_test })
    }

    /// Errors: `Conflict` for a taken name.
    pub fn add_storage(&self, name: &str, config: &StorageConfig) -> Result<()> {
        self.write(|t| {
            let taken = t.query_row("SELECT 1 FROM storages WHERE name = ?1", [name], |_| Ok(())).optional()?;
            if taken.is_some() {
                return Err(Error::new(ErrorKind::Conflict, format!("there is already a storage {}", escape(name)))
                    .about_field("name")
                    .hint(format!("choose another name, or change it with mongokeep storage edit {}", escape(name))));
            }
            let (config, secrets) = self.sealed(name, config)?;
            t.execute(
                "INSERT INTO storages (name, config, secrets, created_at) VALUES (?1, ?2, ?3, ?4)",
                params![name, config, secrets, millis(now())],
            )?;
            Ok(())
        })
    }

    /// Replaces the configuration; what the last test said no longer counts.
    pub fn edit_storage(&self, name: &str, config: &StorageConfig) -> Result<()> {
        self.write(|t| {
            if let Some(id) = super::jobs::unfinished(t, "storage = ?1 AND state = 'running'", name)? {
                return Err(Error::new(ErrorKind::Conflict, format!("storage {} is in use by job {id}", escape(name)))
                    .hint(format!("wait for it, or end it with mongokeep job cancel {id}")));
            }
            let (config, secrets) = self.sealed(name, config)?;
            let changed = t.execute(
                "UPDATE storages SET config = ?2, secrets = ?3, tested_at = NULL, test_error = NULL WHERE name = ?1",
                params![name, config, secrets],
            )?;
            if changed == 0 { Err(missing(name)) } else { Ok(()) }
        })
    }

    /// Errors: `Conflict` while a job, a schedule or a backup in the catalogue uses it. Nothing is removed from the storage itself.
    pub fn remove_storage(&self, name: &str) -> Result<()> {
        self.write(|t| {
            if let Some(id) = super::jobs::unfinished(t, "storage = ?1", name)? {
                return Err(Error::new(ErrorKind::Conflict, format!("storage {} is in use by job {id}", escape(name)))
                    .hint(format!("wait for it, or end it with mongokeep job cancel {id}")));
            }
            super::schedules::must_be_free(t, "storage", name)?;
            let (count, first): (i64, Option<String>) =
                t.query_row("SELECT count(*), min(name) FROM backups WHERE storage = ?1", [name], |r| {
                    Ok((r.get(0)?, r.get(1)?))
                })?;
            if let Some(first) = first {
                let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("storage {} is in use by backup {first}{others}", escape(name)),
                )
                .hint("remove their records first: mongokeep backup delete NAME --keep-files leaves the files where they are"));
            }
            if t.execute("DELETE FROM storages WHERE name = ?1", [name])? == 0 {
                return Err(missing(name));
            }
            Ok(())
        })
    }

    /// Notes how a test ended; `error` is `None` when it passed.
    pub fn storage_tested(&self, name: &str, error: Option<&str>) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE storages SET tested_at = ?2, test_error = ?3 WHERE name = ?1",
                params![name, millis(now()), error],
            )?;
            Ok(())
        })
    }

    /// The configuration as it is kept: public JSON, and the encrypted rest when there is any.
    fn sealed(&self, name: &str, config: &StorageConfig) -> Result<(String, Option<Vec<u8>>)> {
        if config.secrets.is_empty() {
            return Ok((to_json(config)?, None));
        }
        let text = Secret::new(to_json(&config.secrets)?);
        Ok((to_json(config)?, Some(self.key.seal(&secret_row(name), &text)?)))
    }
}

fn missing(name: &str) -> Error {
    Error::not_found("storage", escape(name)).hint("mongokeep storage list shows what there is")
}

/// It came back from a copy of a store that held no secrets.
fn not_copied(name: &str, fields: &[String]) -> Error {
    let what = format!("the secrets of storage {} are missing: the copy of the store held none", escape(name));
    Error::new(ErrorKind::Unauthenticated, what)
        .hint(format!("give them again: {}", give_again("storage", name, fields)))
}

pub(super) fn secret_row(name: &str) -> String {
    format!("storage/{name}")
}

fn read(row: &Row<'_>) -> Result<StorageRow> {
    Ok(StorageRow {
        name: row.get(0)?,
        config: from_json(&row.get::<_, String>(1)?)?,
        has_secrets: row.get(2)?,
        created_at: time(row.get(3)?),
        backups: row.get::<_, i64>(4)? as u64,
        bytes: row.get::<_, i64>(5)? as u64,
        tested_at: row.get::<_, Option<i64>>(6)?.map(time),
        test_error: row.get(7)?,
        schedules: row.get::<_, i64>(8)? as u64,
    })
}
