//! SQLite: services, storages, schedules, jobs and the catalogue of backups.
//!
//! The store is the interface between the faces and the daemon: a face writes an intent in one transaction, the daemon
//! claims it and writes how far it is. Several processes have it open at once. It must never hold a secret in the
//! clear, and must never be created anew over one that cannot be read.
//!
//! Every call of [`Store`] blocks; async code uses [`AsyncStore`].

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::clock;
use crate::error::{Error, ErrorKind, Result};

mod async_store;
mod backups;
mod claims;
mod deletions;
mod engine_recordings;
mod error;
mod jobs;
mod open;
mod outbox;
mod recording;
mod recoverable;
mod retention;
mod schedules;
mod schema;
mod secrets;
mod services;
mod slice_gc;
mod slicers;
mod slices;
mod state_copy;
mod storage_checks;
mod storages;
mod vanished;

pub use crate::domain::due::{Decision, Verdict};
pub use async_store::{AsyncStore, blocking};
pub use backups::{BackupLength, CatalogueEntry, Import, NewestBackup};
pub use claims::{AttemptRecord, Claimed, Outcome};
pub use deletions::Deletion;
pub use engine_recordings::EngineRecording;
pub use open::{Access, SchemaState};
pub use outbox::{Condition, Pending};
pub use recording::NeededBase;
pub use recoverable::RecoverySource;
pub use retention::Retired;
pub use schedules::ScheduleState;
pub use services::ServiceRow;
pub use slice_gc::SlicesGoing;
pub use slicers::SlicingWanted;
pub use slices::ArchiveRow;
pub use state_copy::BroughtBack;
pub use storage_checks::KnownOfStorage;
pub use storages::StorageRow;

use secrets::LocalKey;

/// An open store. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    key: Arc<LocalKey>,
    read_only: bool,
}

impl Store {
    /// Opens the store in `file`, whose secrets are encrypted under the key in `key_file`.
    ///
    /// A fresh store is created by any [`Access`] that may write; an older schema is migrated only by
    /// [`Access::Migrate`], which is for the holder of the daemon's lock.
    ///
    /// Errors: `NotFound` when it is to be read and there is none; `Unsupported` when a newer version wrote it;
    /// `Conflict` when it has an older schema and this access may not migrate; `Corrupt` when it is damaged.
    pub fn open(file: &Path, key_file: &Path, access: Access) -> Result<Self> {
        let connection = open::open(file, access)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            key: Arc::new(LocalKey::at(key_file)),
            read_only: access == Access::Read,
        })
    }

    /// Whether the schema of the store in `file` is older than, equal to, or newer than what this version knows.
    pub fn schema_state(file: &Path) -> Result<SchemaState> {
        open::schema_state(file)
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// A number that changes when anybody changed the store, this connection included.
    pub fn data_version(&self) -> Result<u64> {
        let connection = self.lock();
        let others: i64 = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        // data_version does not count the changes of its own connection.
        Ok(((others as u64) << 40).wrapping_add(connection.total_changes()))
    }

    /// Identifies this home in what it writes to a storage.
    pub fn home_id(&self) -> Result<String> {
        self.read(|c| Ok(c.query_row("SELECT value FROM meta WHERE key = 'home_id'", [], |row| row.get(0))?))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction rolls it back, so what is behind the lock is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        query(&self.lock())
    }

    /// Runs `change` in one write transaction, which is rolled back when it fails.
    fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        if self.read_only {
            return Err(Error::new(ErrorKind::Denied, "the store was opened read-only")
                .hint("run the command again without --read-only"));
        }
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Like [`Store::write`], for what may be lost when the machine loses power: saves the wait for the disk.
    fn write_lightly<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.lock();
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let outcome = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        connection.pragma_update(None, "synchronous", "FULL")?;
        outcome
    }
}

/// Every row that is left, each turned into a value by `read`.
fn all<T>(mut rows: rusqlite::Rows<'_>, read: impl Fn(&rusqlite::Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(read(row)?);
    }
    Ok(out)
}

/// 32 hex digits that nobody else has.
pub fn random_id() -> Result<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::new(ErrorKind::Internal, "no random numbers"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// A count as a column holds it. What does not fit comes from a description that is not true; the largest number there
/// is says so better than a negative one.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn millis(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis()
}

fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// Now, as precise as it is stored.
fn now() -> DateTime<Utc> {
    time(millis(clock::now()))
}

/// The snake_case word of an enum, as it is stored.
fn word<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        _ => Err(Error::new(ErrorKind::Internal, "a value without a word")),
    }
}

fn from_word<T: DeserializeOwned>(word: String) -> Result<T> {
    let shown = crate::domain::text::quoted(&word);
    serde_json::from_value(serde_json::Value::String(word)).map_err(|_| damaged(format!("unknown word {shown}")))
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Internal, "writing JSON").source(e))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| damaged(e.to_string()))
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the store holds something unreadable: {why}"))
}
