//! Forms that PBM's answers come in: arrays that are `null`, times as numbers and as texts.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};

use crate::domain::text::escape;

/// `null` is nothing. For fields that also have `#[serde(default)]`.
pub fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// An error of PBM: a text, or, where PBM cannot write it, an empty object.
pub fn error_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Option::<serde_json::Value>::deserialize(deserializer)? {
        None => None,
        Some(serde_json::Value::String(text)) if text.is_empty() => None,
        Some(serde_json::Value::String(text)) => Some(text),
        Some(other) => Some(format!("an error that PBM does not name ({other})")),
    })
}

/// A time as PBM says it: seconds since 1970, or a text of RFC 3339. Kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Moment {
    Unix(i64),
    Text(String),
}

impl Moment {
    /// `None` when it is not known yet (PBM says 0 or 1 second then), or a text that is no time.
    pub fn utc(&self) -> Option<DateTime<Utc>> {
        let time = match self {
            Self::Unix(seconds) => DateTime::from_timestamp(*seconds, 0)?,
            Self::Text(text) => DateTime::parse_from_rfc3339(text).ok()?.to_utc(),
        };
        (time.timestamp() > 1).then_some(time)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.utc(), self) {
            (Some(time), _) => f.write_str(&time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            (None, Self::Unix(0 | 1)) => f.write_str("-"),
            (None, Self::Unix(seconds)) => write!(f, "{seconds}"),
            (None, Self::Text(text)) => f.write_str(&escape(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms_and_kept_in_others() {
        let of = |json: &str| serde_json::from_str::<Moment>(json).unwrap();
        let time = of("1795943985").utc().unwrap();
        assert_eq!(of("\"2026-11-29T09:19:45Z\"").utc(), Some(time));
        assert_eq!(of("1795943985").to_string(), "2026-11-29T09:19:45Z");
        for not_yet in ["0", "1", "\"1970-01-01T00:00:01Z\"", "\"soon\""] {
            assert_eq!(of(not_yet).utc(), None, "{not_yet}");
        }
        assert_eq!((of("1").to_string(), of("\"soon\"").to_string()), ("-".into(), "soon".into()));
    }
}
