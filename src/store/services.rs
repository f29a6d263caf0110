//! Services: where they are and how to log in.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::secrets::missing_fields;
use super::{Store, from_word, millis, now, time, word};
use crate::domain::secret::redact_uri;
use crate::domain::service::{EngineKind, Service, ServiceSpec};
use crate::domain::state_copy::give_again;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

/// A service as a list shows it; needs no key.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRow {
    pub name: String,
    pub uri_shown: String,
    pub cluster: Option<String>,
    pub engine: EngineKind,
    pub created_at: DateTime<Utc>,
    pub last_good_backup_at: Option<DateTime<Utc>>,
    pub backups: u64,
    /// `HH:MM-HH:MM`; `None`: the setting.
    pub production_hours: Option<String>,
    /// See [`ServiceSpec`].
    pub data_dir: Option<String>,
    pub stop_command: Option<String>,
    pub start_command: Option<String>,
}

impl ServiceRow {
    /// What a person said about it, without the connection string, which the row does not have.
    pub fn spec(&self) -> ServiceSpec {
        ServiceSpec {
            name: self.name.clone(),
            uri: None,
            cluster: self.cluster.clone(),
            engine: self.engine,
            production_hours: self.production_hours.clone(),
            data_dir: self.data_dir.clone(),
            stop_command: self.stop_command.clone(),
            start_command: self.start_command.clone(),
        }
    }
}

/// The last good backup is one that no verification found damaged. Of a service that has whole ones, only they count: one
/// of some collections says nothing about the others. One of which it is not known (NULL) may be whole.
const COLUMNS: &str = "SELECT name, uri_shown, cluster, engine, created_at,
    (SELECT max(coalesce(consistent_t * 1000, finished_at, started_at)) FROM backups b
     WHERE b.service = services.name AND b.state = 'succeeded' AND b.verify_error IS NULL
     GROUP BY b.whole IS NOT 0 ORDER BY b.whole IS NOT 0 DESC LIMIT 1),
    (SELECT count(*) FROM backups b WHERE b.service = services.name AND b.state NOT IN ('failed', 'incomplete')),
    production_hours,
    data_dir, stop_command, start_command FROM services";

impl Store {
    /// In the order of their names.
    pub fn services(&self) -> Result<Vec<ServiceRow>> {
        self.read(|c| {
            let mut statement = c.prepare_cached(&format!("{COLUMNS} ORDER BY name"))?;
            super::all(statement.query([])?, read)
        })
    }

    pub fn service_row(&self, name: &str) -> Result<ServiceRow> {
        self.read(|c| row_of(c, name))
    }

    /// With its secrets.
    pub fn service(&self, name: &str) -> Result<Service> {
        let row = self.service_row(name)?;
        let sealed: Vec<u8> = self.read(|c| {
            c.query_row("SELECT uri FROM services WHERE name = ?1", [name], |r| r.get(0))
                .optional()?
                .ok_or_else(|| missing(name))
        })?;
        if missing_fields(&sealed).is_some() {
            return Err(not_copied(name));
        }
        let uri = self.key.open(&secret_row(name), &sealed)?;
        Ok(Service {
            name: row.name,
            uri,
            cluster: row.cluster,
            engine: row.engine,
            created_at: row.created_at,
            data_dir: row.data_dir,
            stop_command: row.stop_command,
            start_command: row.start_command,
        })
    }

    /// Errors: `Conflict` for a taken name; `Invalid` without a connection string.
    pub fn add_service(&self, spec: &ServiceSpec) -> Result<()> {
        let name = &spec.name;
        let uri = spec.uri.as_ref().ok_or_else(|| Error::invalid("uri", "is needed"))?;
        self.write(|t| {
            let taken = t.query_row("SELECT 1 FROM services WHERE name = ?1", [name], |_| Ok(())).optional()?;
            if taken.is_some() {
                return Err(Error::new(ErrorKind::Conflict, format!("there is already a service {}", escape(name)))
                    .about_field("name")
                    .hint(format!("choose another name, or change it with mongokeep service edit {}", escape(name))));
            }
            let sealed = self.key.seal(&secret_row(name), uri)?;
            t.execute(
                "INSERT INTO services (name, uri, uri_shown, cluster, engine, created_at, production_hours, data_dir,
                     stop_command, start_command)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    name,
                    sealed,
                    redact_uri(uri.expose()),
                    spec.cluster,
                    word(&spec.engine)?,
                    millis(now()),
                    spec.production_hours,
                    spec.data_dir,
                    spec.stop_command,
                    spec.start_command
                ],
            )?;
            Ok(())
        })
    }

    /// Changes a service in one transaction. `change` gets it without its connection string; unless it puts one in, the
    /// stored one stays.
    pub fn edit_service(&self, name: &str, change: impl FnOnce(&mut ServiceSpec) -> Result<()>) -> Result<()> {
        self.write(|t| {
            let mut spec = row_of(t, name)?.spec();
            change(&mut spec)?;
            t.execute(
                "UPDATE services SET cluster = ?2, engine = ?3, production_hours = ?4, data_dir = ?5, stop_command = ?6,
                     start_command = ?7 WHERE name = ?1",
                params![
                    name,
                    spec.cluster,
                    word(&spec.engine)?,
                    spec.production_hours,
                    spec.data_dir,
                    spec.stop_command,
                    spec.start_command
                ],
            )?;
            if let Some(uri) = &spec.uri {
                let sealed = self.key.seal(&secret_row(name), uri)?;
                t.execute(
                    "UPDATE services SET uri = ?2, uri_shown = ?3 WHERE name = ?1",
                    params![name, sealed, redact_uri(uri.expose())],
                )?;
            }
            Ok(())
        })
    }

    /// What the engine of a service noted for itself; nothing of a service that is not there.
    pub fn engine_note(&self, name: &str) -> Result<Option<String>> {
        self.read(|c| {
            let found = c.query_row("SELECT engine_note FROM services WHERE name = ?1", [name], |r| r.get(0));
            Ok(found.optional()?.flatten())
        })
    }

    pub fn set_engine_note(&self, name: &str, note: &str) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE services SET engine_note = ?2 WHERE name = ?1", [name, note])?;
            Ok(())
        })
    }

    /// A secret that follows from the local key, another one for each purpose.
    pub fn derived_key(&self, purpose: &str) -> Result<[u8; 32]> {
        self.key.derived(purpose)
    }

    /// Errors: `Conflict` while a job or schedule uses it. Its backups stay.
    pub fn remove_service(&self, name: &str) -> Result<()> {
        self.write(|t| {
            let job = super::jobs::unfinished(t, "service = ?1", name)?;
            if let Some(id) = job {
                return Err(Error::new(ErrorKind::Conflict, format!("service {} is in use by job {id}", escape(name)))
                    .hint(format!("wait for it, or end it with mongokeep job cancel {id}")));
            }
            super::schedules::must_be_free(t, "service", name)?;
            super::engine_recordings::forget(t, name)?;
            if t.execute("DELETE FROM services WHERE name = ?1", [name])? == 0 {
                return Err(missing(name));
            }
            Ok(())
        })
    }
}

fn row_of(c: &Connection, name: &str) -> Result<ServiceRow> {
    let mut statement = c.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?;
    let mut rows = statement.query([name])?;
    rows.next()?.map(read).transpose()?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    // Backups and a recorded oplog may name a service that this home does not have: a sync found them.
    let name = escape(name);
    Error::not_found("service", &name)
        .hint(format!("mongokeep service list shows what there is; mongokeep service add {name} --uri-file F adds it"))
}

/// It came back from a copy of a store that held no secrets.
fn not_copied(name: &str) -> Error {
    let name = escape(name);
    let what = format!("the password of service {name} is missing: the copy of the store held no secrets");
    Error::new(ErrorKind::Unauthenticated, what)
        .hint(format!("give its connection string again: {}", give_again("service", &name, &["uri".into()])))
}

pub(super) fn secret_row(name: &str) -> String {
    format!("service/{name}")
}

fn read(row: &Row<'_>) -> Result<ServiceRow> {
    Ok(ServiceRow {
        name: row.get(0)?,
        uri_shown: row.get(1)?,
        cluster: row.get(2)?,
        engine: from_word(row.get(3)?)?,
        created_at: time(row.get(4)?),
        last_good_backup_at: row.get::<_, Option<i64>>(5)?.map(time),
        backups: row.get::<_, i64>(6)? as u64,
        production_hours: row.get(7)?,
        data_dir: row.get(8)?,
        stop_command: row.get(9)?,
        start_command: row.get(10)?,
    })
}
