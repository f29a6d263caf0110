//! Keys of objects: relative paths that cannot leave their root.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// A relative path of `/`-separated parts, none of them empty, `.` or `..`, without control characters or backslashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Checks and takes `text`.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let bad = text.is_empty()
            || text.len() > 1024
            || text.contains('\\')
            || text.chars().any(char::is_control)
            || text.split('/').any(|part| part.is_empty() || part == "." || part == ".." || part.len() > 255);
        if bad {
            let shown = crate::domain::text::quoted(&text);
            return Err(Error::new(ErrorKind::Invalid, format!("{shown} is not an object key")));
        }
        Ok(Self(text))
    }

    /// This key with `part` (which may hold slashes) below it.
    pub fn join(&self, part: &str) -> Result<Self> {
        Self::new(format!("{}/{part}", self.0))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last slash.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Whether it lies in `folder` itself, and not in a folder within it.
    pub fn is_directly_in(&self, folder: &Key) -> bool {
        self.below(folder).is_some_and(|rest| !rest.contains('/'))
    }

    /// This key relative to `base`, when it lies below it.
    pub fn below(&self, base: &Key) -> Option<&str> {
        self.0.strip_prefix(base.as_str())?.strip_prefix('/')
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        Self::new(String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_leave_its_root() {
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\nb", &"x".repeat(256)] {
            assert!(Key::new(bad).is_err(), "{bad}");
        }
        let base = Key::new("a/b").unwrap();
        assert!(base.join("../c").is_err());
        assert_eq!(base.join("c").unwrap().below(&base), Some("c"));
        assert_eq!(Key::new("a/bc").unwrap().below(&base), None);
    }
}
