//! Names of services, storages, backups and schedules, and folders below a storage's prefix.

use crate::error::{Error, Result};

/// Checks a name against `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`; `field` names the flag in the error.
pub fn check(field: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let head = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if head && name.len() <= 100 && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{} is not a name", super::text::quoted(name)))
        .hint("a name begins with a letter or digit and holds up to 100 letters, digits, dots, dashes and underscores"))
}

/// Checks the name of a backup that is there: one that another tool made may be a time, or the path of a folder.
pub fn check_backup(field: &str, name: &str) -> Result<()> {
    if !name.is_empty() && check_folder(field, name).is_ok() {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{} is not the name of a backup", super::text::quoted(name)))
        .hint("mongokeep backup list names those there are"))
}

/// Checks a folder: relative, of `/`-separated parts, none of them empty, `.` or `..`, without control characters.
/// An empty folder is the storage's own root.
pub fn check_folder(field: &str, folder: &str) -> Result<()> {
    if folder.is_empty() {
        return Ok(());
    }
    let why = if folder.starts_with('/') || folder.starts_with('\\') {
        "a folder is relative to the storage, so it cannot begin with a slash"
    } else if folder.split('/').any(|part| part == ".." || part == ".") {
        "a folder cannot contain . or .."
    } else if folder.split('/').any(str::is_empty) {
        "has two slashes in a row, or one at its beginning or end"
    } else if folder.contains('\\') || folder.chars().any(char::is_control) {
        "a folder cannot contain backslashes or control characters"
    } else if folder.len() > 400 {
        "a folder is at most 400 bytes long"
    } else {
        return Ok(());
    };
    Err(Error::invalid(field, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "nightly-2026.11_21", &"a".repeat(100)] {
            assert!(check("name", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "é", "a\u{1b}", &"a".repeat(101)] {
            assert!(check("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders() {
        for good in ["", "prod", "prod/eu west", "a..b"] {
            assert!(check_folder("folder", good).is_ok(), "{good}");
        }
        for bad in ["/etc", "..", "a/../b", "a//b", "a/", "./a", "a\\b", "a\nb"] {
            assert!(check_folder("folder", bad).is_err(), "{bad}");
        }
    }
}
