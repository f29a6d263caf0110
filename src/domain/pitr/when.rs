//! The moment to go back to, as a person gives it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Timelike};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Range;
use crate::domain::text::{escape, quoted};
use crate::domain::timestamp::Timestamp;

/// An RFC 3339 time, an oplog position `T,I`, or `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The end of this second since 1970.
    Second(u32),
    Position(Timestamp),
    Latest,
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if text.contains(',') {
            return text.parse().map(Self::Position);
        }
        // As this program shows a time to people, too: with spaces around the time of day.
        let written = match text.split_whitespace().collect::<Vec<_>>().as_slice() {
            [date, time] => format!("{date}T{time}"),
            [date, time, offset] => format!("{date}T{time}{offset}"),
            _ => text.to_owned(),
        };
        let time = DateTime::parse_from_rfc3339(&written).map_err(|_| {
            format!(
                "{} is neither a time such as 2026-11-21T14:02:03Z, nor an oplog position T,I, nor latest",
                quoted(text)
            )
        })?;
        if time.nanosecond() != 0 {
            return Err("the oplog tells seconds apart, not parts of them; a position T,I is more exact".into());
        }
        u32::try_from(time.timestamp())
            .map(Self::Second)
            .map_err(|_| format!("{} is outside the times that an oplog can have", escape(text)))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Second(t) => {
                f.write_str(&Timestamp::new(*t, 0).to_datetime().to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Self::Position(ts) => ts.fmt(f),
            Self::Latest => f.write_str("latest"),
        }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A moment that cannot be restored, and the nearest that can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    pub before: Option<Timestamp>,
    pub after: Option<Timestamp>,
}

/// The position that restores `when`: every change up to and including it.
///
/// A second must be stored completely: another change of it may still come. Errors: see [`Outside`].
pub fn resolve(when: When, ranges: &[Range]) -> Result<Timestamp, Outside> {
    let wanted = match when {
        When::Latest => {
            return ranges.iter().map(|r| r.to_ts).max().ok_or(Outside { before: None, after: None });
        }
        When::Second(t) => Timestamp::new(t, u32::MAX),
        When::Position(ts) => ts,
    };
    let holds = |r: &Range| {
        r.from_ts <= wanted
            && match when {
                When::Second(t) => t < r.to_ts.t,
                _ => wanted <= r.to_ts,
            }
    };
    if ranges.iter().any(holds) {
        return Ok(wanted);
    }
    Err(Outside {
        before: ranges.iter().filter(|r| r.from_ts <= wanted).map(|r| r.to_ts.min(wanted)).max(),
        after: ranges.iter().filter(|r| r.from_ts > wanted).map(|r| r.from_ts).min(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: (u32, u32), to: (u32, u32)) -> Range {
        Range { from_ts: Timestamp::new(from.0, from.1), to_ts: Timestamp::new(to.0, to.1) }
    }

    #[test]
    fn moments_are_read_and_written() {
        for (text, when) in [
            ("latest", When::Latest),
            ("1790000000,3", When::Position(Timestamp::new(1_790_000_000, 3))),
            ("2026-09-21T14:13:20Z", When::Second(1_790_000_000)),
        ] {
            assert_eq!(text.parse::<When>().unwrap(), when);
            assert_eq!(when.to_string(), text);
        }
        assert_eq!("2026-09-21T16:13:20+02:00".parse::<When>().unwrap(), When::Second(1_790_000_000));
        for shown in ["2026-09-21 16:13:20 +02:00", "2026-09-21 14:13:20Z", "2026-09-21 14:13:20 +00:00"] {
            assert_eq!(shown.parse::<When>().unwrap(), When::Second(1_790_000_000), "{shown}");
        }
        for bad in [
            "2026-09-21 14:13:20",
            "2026-09-21 14:13:20 +00:00 x",
            "",
            "now",
            "2026-09-21",
            "2026-09-21T14:13:20.5Z",
            "1,2,3",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_second_must_be_complete_and_a_position_inside() {
        let ranges = [range((10, 5), (20, 3)), range((30, 1), (40, 1))];
        assert_eq!(resolve(When::Latest, &ranges), Ok(Timestamp::new(40, 1)));
        assert_eq!(resolve(When::Second(10), &ranges), Ok(Timestamp::new(10, u32::MAX)));
        assert_eq!(resolve(When::Second(19), &ranges), Ok(Timestamp::new(19, u32::MAX)));
        let outside = resolve(When::Second(20), &ranges).unwrap_err();
        assert_eq!(outside, Outside { before: Some(Timestamp::new(20, 3)), after: Some(Timestamp::new(30, 1)) });
        assert!(resolve(When::Position(Timestamp::new(20, 3)), &ranges).is_ok());
        assert!(resolve(When::Position(Timestamp::new(20, 4)), &ranges).is_err());
        assert!(resolve(When::Position(Timestamp::new(10, 4)), &ranges).is_err());
        assert_eq!(
            resolve(When::Second(9), &ranges).unwrap_err(),
            Outside { before: None, after: Some(Timestamp::new(10, 5)) }
        );
        assert!(resolve(When::Latest, &[]).is_err());
    }
}
