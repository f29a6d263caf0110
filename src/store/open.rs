//! Opening, creating and migrating the store file.
//!
//! Three things must never happen: a store that cannot be read is replaced by an empty one, a store is migrated under
//! a daemon that does not know the new schema, and a half-made store is taken for a whole one. So a fresh store is made
//! under another name and put in place when it is complete, and only the holder of the daemon's lock migrates.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::DAMAGED_HINT;
use super::schema::{LATEST, MIGRATIONS};
use crate::error::{Error, ErrorKind, Result, io};

/// What an opener may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is ever written; SQLite itself refuses.
    Read,
    /// Reads and writes; creates a store where there is none, but does not migrate one.
    Write,
    /// Also migrates. Only for the holder of the daemon's lock.
    Migrate,
}

/// How the schema of a store compares with what this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    Missing,
    Older,
    Current,
    Newer,
}

/// How long a write waits for another process's transaction. They take milliseconds; a slow disk may make it seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub fn open(file: &Path, access: Access) -> Result<Connection> {
    if access == Access::Read {
        return open_to_read(file);
    }
    if !file.try_exists().map_err(|e| io(file.display(), e))? {
        create(file)?;
    }
    check_writable(file)?;
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut connection = prepared(connection, file)?;
    match state_of(&connection, file)? {
        SchemaState::Newer => Err(newer(file)),
        SchemaState::Older if access == Access::Migrate => {
            migrate(&mut connection, file)?;
            Ok(connection)
        }
        SchemaState::Older | SchemaState::Missing => Err(Error::new(
            ErrorKind::Conflict,
            format!("the store {} has the schema of an older version", file.display()),
        )
        .hint("it is migrated when the daemon starts: end the old one with mongokeep daemon stop")),
        SchemaState::Current => Ok(connection),
    }
}

/// Looks without changing anything.
pub fn schema_state(file: &Path) -> Result<SchemaState> {
    if !file.try_exists().map_err(|e| io(file.display(), e))? {
        return Ok(SchemaState::Missing);
    }
    let connection = connect_to_read(file)?;
    state_of(&connection, file)
}

fn open_to_read(file: &Path) -> Result<Connection> {
    if !file.try_exists().map_err(|e| io(file.display(), e))? {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no store at {}", file.display()))
            .hint("it is created by the first command without --read-only"));
    }
    let connection = connect_to_read(file)?;
    match state_of(&connection, file)? {
        SchemaState::Newer => Err(newer(file)),
        SchemaState::Older | SchemaState::Missing => Err(Error::new(
            ErrorKind::Conflict,
            format!("the store {} has the schema of an older version", file.display()),
        )
        .hint("run a command without --read-only to migrate it")),
        SchemaState::Current => Ok(connection),
    }
}

fn connect_to_read(file: &Path) -> Result<Connection> {
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let first = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0));
    let connection = match first {
        Ok(_) => connection,
        // In a folder that cannot be written there is no place for the shared-memory file. Without a write-ahead log
        // there is nothing in it either, and nobody who could change the store.
        Err(error) if is_unwritable(&error) && !wal_of(file).exists() => {
            let uri = format!("file:{}?immutable=1", percent_encoded(file));
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(uri, flags).map_err(|e| described(file, e))?
        }
        Err(error) => return Err(described(file, error)),
    };
    connection.pragma_update(None, "query_only", true).map_err(|e| described(file, e))?;
    Ok(connection)
}

fn is_unwritable(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied)
    )
}

fn wal_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

fn percent_encoded(file: &Path) -> String {
    file.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn connect(file: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection =
        Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(|e| described(file, e))?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Sets what every writing connection needs; the first to touch the file's header.
fn prepared(connection: Connection, file: &Path) -> Result<Connection> {
    let set = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // The space of deleted secrets is overwritten.
        connection.pragma_update(None, "secure_delete", true)
    };
    set().map_err(|e| described(file, e))?;
    Ok(connection)
}

/// Names the file, and for a damaged one what SQLite's own check found.
fn described(file: &Path, error: rusqlite::Error) -> Error {
    Error::from(error).context(file.display())
}

fn state_of(connection: &Connection, file: &Path) -> Result<SchemaState> {
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(|e| described(file, e))?;
    let ours = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'jobs', 'backups')", [], |r| {
            r.get::<_, i64>(0)
        })
        .map_err(|e| described(file, e))?;
    if version > LATEST {
        return Ok(SchemaState::Newer);
    }
    if version < 1 || ours < 3 {
        // An empty file, or somebody else's database: not something to write into.
        let check: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).unwrap_or_else(|e| e.to_string());
        let why = if check == "ok" { "it is not a store of mongokeep" } else { check.as_str() };
        return Err(Error::new(ErrorKind::Corrupt, format!("the store {} is damaged: {why}", file.display()))
            .hint(DAMAGED_HINT));
    }
    Ok(if version < LATEST { SchemaState::Older } else { SchemaState::Current })
}

fn newer(file: &Path) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the store {} was written by a newer mongokeep", file.display()))
        .hint("use that version; nothing was changed")
}

/// Says early, and in words, what SQLite would say late and in code.
fn check_writable(file: &Path) -> Result<()> {
    let opened = fs::OpenOptions::new().read(true).write(true).open(file);
    opened.map(drop).map_err(|e| {
        io(format!("the store {} cannot be written", file.display()), e)
            .hint("check its owner and rights, or use --read-only")
    })
}

fn migrate(connection: &mut Connection, file: &Path) -> Result<()> {
    MIGRATIONS.to_latest(connection).map_err(|e| {
        Error::new(ErrorKind::Failed, format!("the store {} could not be migrated", file.display()))
            .source(e)
            .hint("nothing was changed")
    })
}

/// Makes a complete store under another name and puts it in place, unless somebody else was faster.
fn create(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let creating = |what: &Path, e: std::io::Error| {
        io(format!("creating the store {}", what.display()), e)
            .hint("check the owner and the rights of the folder, or give another one with --home DIR")
    };
    // Ends with the handle, also when this process dies.
    let guard = fs::File::open(folder).map_err(|e| creating(file, e))?;
    guard.lock().map_err(|e| creating(file, e))?;
    if file.try_exists().map_err(|e| io(file.display(), e))? {
        return Ok(());
    }
    if wal_of(file).exists() {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("{} is missing, but its write-ahead log is there", file.display()),
        )
        .hint("bring the store back from where it was moved to; a new one would discard the log"));
    }
    let fresh = file.with_extension("db.new");
    for leftover in [fresh.clone(), fresh.with_extension("new-journal")] {
        match fs::remove_file(&leftover) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(creating(&leftover, e)),
            _ => {}
        }
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|f| f.set_permissions(fs::Permissions::from_mode(0o600)))
        .map_err(|e| creating(&fresh, e))?;
    let mut connection = connect(&fresh, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrate(&mut connection, &fresh)?;
    connection.execute("INSERT INTO meta (key, value) VALUES ('home_id', ?1)", [super::random_id()?])?;
    connection.close().map_err(|(_, e)| Error::from(e))?;
    fs::rename(&fresh, file).map_err(|e| creating(file, e))?;
    guard.sync_all().map_err(|e| creating(file, e))
}
