//! What SQLite reports, in words that say what to do.

use rusqlite::ErrorCode;

use crate::error::{Error, ErrorKind};

/// What to do about a damaged store. Backups are in the storages, so nothing that matters is lost with it.
pub const DAMAGED_HINT: &str = "nothing was changed. Move the data folder aside, add services and storages again, and \
     run mongokeep storage sync for each storage: the backups are there";

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let (kind, message, hint) = match code {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                (ErrorKind::Corrupt, "the store is damaged", DAMAGED_HINT)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (ErrorKind::Transient, "the store is busy", "try again; another mongokeep holds it for long")
            }
            Some(ErrorCode::DiskFull) => {
                (ErrorKind::StorageFull, "the disk of the store is full", "make room on it, then try again")
            }
            Some(ErrorCode::ReadOnly) => (
                ErrorKind::Denied,
                "the store cannot be written",
                "check the owner and the rights of the data folder (mongokeep settings path), or use --read-only",
            ),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => (
                ErrorKind::Denied,
                "the store cannot be opened",
                "check the owner and the rights of the data folder (mongokeep settings path)",
            ),
            Some(ErrorCode::SystemIoFailure) => {
                (ErrorKind::Failed, "the disk of the store failed", "see the system's log (dmesg)")
            }
            _ => (ErrorKind::Internal, "the store", ""),
        };
        let ours = Error::new(kind, message).source(error);
        if hint.is_empty() { ours } else { ours.hint(hint) }
    }
}
