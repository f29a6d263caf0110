//! Positions in the oplog.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// An oplog position: seconds since 1970 and an ordinal within the second. JSON: `{"t": 1790000000, "i": 3}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp {
    pub t: u32,
    pub i: u32,
}

impl Timestamp {
    pub const MIN: Self = Self { t: 0, i: 0 };
    pub const MAX: Self = Self { t: u32::MAX, i: u32::MAX };

    pub fn new(t: u32, i: u32) -> Self {
        Self { t, i }
    }

    /// `None` for [`Self::MIN`], which stands for a position that nobody knows, as of a dump of mongodump without an oplog.
    pub fn if_known(self) -> Option<Self> {
        (self > Self::MIN).then_some(self)
    }

    /// What to say beside its time: the whole second, or which position within it.
    pub fn within_second(self) -> String {
        if self.i == u32::MAX { "the end of that second".into() } else { format!("position {self}") }
    }

    /// For people: the position, or, for the end of a second, that second.
    pub fn in_words(self) -> String {
        match self.i {
            u32::MAX => format!("the end of {}", self.to_datetime().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            _ => format!("oplog position {self}"),
        }
    }

    /// The second this position lies in.
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::from(self.t), 0).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.t, self.i)
    }
}

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (t, i) = text.split_once(',').ok_or("an oplog position is written T,I")?;
        let number = |s: &str| s.trim().parse::<u32>().map_err(|_| format!("{s} is not a number of 32 bits"));
        Ok(Self { t: number(t)?, i: number(i)? })
    }
}
