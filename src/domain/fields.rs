//! The fields of every form and command, one entry each.
//!
//! Flags of the command line, rows of the forms, validation, help texts and JSON keys all come from these tables, so
//! that a field is added in one place. A table of typed fields says how a value is read and written, too. They must never hold a rule that needs the store or a server: whether a name
//! is free, or a server answers, is decided where that can be seen.

use super::field::{Field, FieldKind};
use super::typed::Values;
use crate::error::{Error, Result};

mod backups;
mod encryption;
mod restore;
pub mod rules;
mod service;
mod settings;

pub use backups::{BACKUP, BACKUP_FIELDS, SCHEDULE, SCHEDULE_DISABLED, SCHEDULE_FIELDS};
pub use encryption::{ENCRYPTION, ENCRYPTION_FIELDS, EncryptionDraft, IDENTITY_FIELD};
pub use restore::{
    DATA_FOLDER, DATA_FOLDER_FIELDS, FILES, FILES_FIELDS, IDENTITY, IDENTITY_FIELDS, MOMENT, MOMENT_FIELDS, RESTORE,
    RESTORE_FIELDS,
};
pub use service::{SERVICE, SERVICE_FIELDS};
pub use settings::SETTING_FIELDS;

/// Checks `values` against `fields`: every key is known, every required field is there (unless `partial`, for edits),
/// every value is valid, and only lists have several.
///
/// Errors: `Invalid`; the message names the flag.
pub fn check(fields: &[&[Field]], values: &Values, partial: bool) -> Result<()> {
    let all = || fields.iter().flat_map(|f| f.iter());
    for (key, texts) in values {
        let Some(field) = all().find(|f| f.key == key) else {
            return Err(Error::invalid(&key.replace('_', "-"), "does not apply here"));
        };
        if texts.len() > 1 && field.kind != FieldKind::List {
            return Err(Error::invalid(&field.name(), "is given more than once"));
        }
    }
    for field in all() {
        let texts = values.get(field.key).map(Vec::as_slice).unwrap_or_default();
        if texts.is_empty() {
            if field.required && !partial && field.default.is_empty() {
                return Err(invalid(field, "is needed".into()));
            }
            continue;
        }
        for text in texts {
            field.validate(text).map_err(|why| invalid(field, why))?;
        }
    }
    Ok(())
}

fn invalid(field: &Field, why: String) -> Error {
    Error::invalid(&field.name(), why)
}

#[cfg(test)]
mod tests;
