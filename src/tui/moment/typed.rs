//! A moment as text: typed in the zone of the screen or with one of its own, and written so that it reads the same.

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, Utc};
use chrono_tz::Tz;

use super::walk::position;
use crate::domain::local_time::{Wall, when};
use crate::domain::pitr::{RecoverableRange, When};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;

/// What is odd about a local time that was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// The clock was set back: it came twice, and the first one is taken. The offsets of both, in seconds.
    Twice { first: i32, second: i32 },
    /// The clock was set forward over it.
    Never,
}

const FORMS: [&str; 4] = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];

/// The years that 32 bits of seconds since 1970 reach into.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=2106;

fn local(text: &str) -> Option<NaiveDateTime> {
    FORMS.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
}

/// Whether it depends on the zone what the text means: not with an offset, nor for a position. What is no time yet may
/// become one that does.
pub fn is_local(text: &str) -> bool {
    local(text.trim()).is_some() || parse(text, Tz::UTC).is_err()
}

/// Reads `2026-11-21 14:02:03` in `zone`, the same with an offset or `Z`, an oplog position `T,I`, or `latest`.
pub fn parse(text: &str, zone: Tz) -> Result<(When, Option<Odd>), String> {
    let text = text.trim();
    if let Some(local) = local(text) {
        let outside = || format!("{} is outside the times that an oplog can have", escape(text));
        if !YEARS.contains(&local.year()) {
            return Err(outside());
        }
        let (at, odd) = match when(zone, local) {
            Wall::Once(at) => (at, None),
            Wall::Twice(first, second) => {
                let offset = |at: DateTime<Utc>| at.with_timezone(&zone).offset().fix().local_minus_utc();
                (first, Some(Odd::Twice { first: offset(first), second: offset(second) }))
            }
            Wall::Never(next) => (next, Some(Odd::Never)),
        };
        return Ok((When::Second(u32::try_from(at.timestamp()).map_err(|_| outside())?), odd));
    }
    // A space in place of the T, as people write it.
    let joined = match text.split_once(' ') {
        Some((date, time)) if date.len() == 10 => format!("{date}T{time}"),
        _ => text.to_owned(),
    };
    match joined.parse::<When>() {
        Ok(at) => Ok((at, None)),
        Err(why) if text.contains(',') || why.contains("parts of them") || why.contains("outside") => Err(why),
        Err(_) => Err("write it as 2026-11-21 14:02:03, with Z or an offset if needed, or as T,I, or latest".into()),
    }
}

/// Whether it can be read at all; what it means depends on the zone.
pub fn check(text: &str) -> Result<(), String> {
    parse(text, Tz::UTC).map(drop)
}

/// `2026-11-21 14:02:03` in `zone`; with the offset where the clock showed the same twice.
pub fn write(at: When, zone: Tz) -> String {
    let When::Second(t) = at else { return at.to_string() };
    let local: DateTime<Tz> = Timestamp::new(t, 0).to_datetime().with_timezone(&zone);
    let once = matches!(when(zone, local.naive_local()), Wall::Once(_));
    local.format(if once { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S%:z" }).to_string()
}

/// What the command line takes for it: a time in UTC, or a position. The newest change becomes its position, since a
/// newer one may follow.
pub fn exact_text(ranges: &[RecoverableRange], at: When) -> String {
    match at {
        When::Latest => When::Position(position(ranges, at)).to_string(),
        at => at.to_string(),
    }
}

/// `21 Nov 2026 14:02:03 CET`.
pub fn exactly(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%d %b %Y %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARIS: Tz = Tz::Europe__Paris;

    #[test]
    fn times_are_read_in_their_zone() {
        let second = |text: &str| match parse(text, PARIS) {
            Ok((When::Second(t), odd)) => (Timestamp::new(t, 0).to_datetime().to_rfc3339(), odd),
            other => panic!("{text}: {other:?}"),
        };
        for text in [
            "2026-11-21 15:02:03",
            " 2026-11-21T15:02:03 ",
            "2026-11-21T14:02:03Z",
            "2026-11-21 14:02:03Z",
            "2026-11-21 16:02:03+02:00",
        ] {
            assert_eq!(second(text), ("2026-11-21T14:02:03+00:00".to_owned(), None), "{text}");
        }
        assert_eq!(second("2026-11-21 15:02").0, "2026-11-21T14:02:00+00:00");
        let twice = Some(Odd::Twice { first: 7_200, second: 3_600 });
        assert_eq!(second("2026-10-25 02:30:00"), ("2026-10-25T00:30:00+00:00".to_owned(), twice));
        let in_new_york = parse("2026-11-01 01:30:00", Tz::America__New_York).unwrap().1;
        assert_eq!(in_new_york, Some(Odd::Twice { first: -14_400, second: -18_000 }));
        let half_an_hour = parse("2026-04-05 01:45:00", Tz::Australia__Lord_Howe).unwrap().1;
        assert_eq!(half_an_hour, Some(Odd::Twice { first: 39_600, second: 37_800 }));
        assert_eq!(second("2026-03-29 02:30:00"), ("2026-03-29T01:00:00+00:00".to_owned(), Some(Odd::Never)));
        assert_eq!(parse("latest", PARIS).unwrap().0, When::Latest);
        assert_eq!(parse("17,3", PARIS).unwrap().0, When::Position(Timestamp::new(17, 3)));
    }

    #[test]
    fn a_time_with_an_offset_depends_on_no_zone() {
        for text in ["2026-11-21 15:02:03", " 2026-11-21T15:02 ", "2026-11", "", "soon"] {
            assert!(is_local(text), "{text}");
        }
        for text in ["2026-11-21 15:02:03Z", "2026-11-21T15:02:03+01:00", "17,3", "latest"] {
            assert!(!is_local(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_in_words() {
        for text in ["", "yesterday", "2026-11-21", "21.11.2026 14:02", "2026-13-01 00:00:00", "14:02:03"] {
            assert!(check(text).unwrap_err().contains("write it as"), "{text}");
        }
        assert!(check("2026-11-21T14:02:03.5Z").unwrap_err().contains("seconds"));
        assert!(check("17,x").unwrap_err().contains("number"));
        for text in ["1969-12-31 23:59:59", "2106-02-07 07:28:16", "2107-01-01 00:00", "9999-12-31 23:59:59"] {
            assert!(check(text).unwrap_err().contains("outside"), "{text}");
        }
        // As far as the calendar of chrono goes, and one year further.
        for year in ["+262142", "+262143", "-262143", "-262144", "+99999", "-0001", "0000"] {
            for rest in ["-12-31 23:59:59", "-01-01T00:00"] {
                for zone in [Tz::UTC, PARIS, Tz::America__New_York, Tz::Pacific__Apia] {
                    assert!(parse(&format!("{year}{rest}"), zone).is_err(), "{year}{rest} in {zone}");
                }
            }
        }
        assert_eq!(parse("2106-02-07 06:28:15", Tz::UTC).unwrap().0, When::Second(u32::MAX));
        assert!(!check("\u{1b}[2J").unwrap_err().contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r"[+-]?[0-9]{1,6}-[0-9]{1,2}-[0-9]{1,2}[ T][0-9:]{1,8}") {
            for zone in [Tz::UTC, PARIS, Tz::Asia__Kathmandu] {
                let _ = parse(&text, zone);
            }
        }

        #[test]
        fn what_is_written_reads_the_same(
            t in 1_000_000_000u32..2_100_000_000,
            zone in prop::sample::select(vec![
                Tz::UTC, PARIS, Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Asia__Kathmandu,
            ]),
            near in any::<bool>(),
        ) {
            // Near a night in which European clocks were set back.
            let t = if near { 1_792_890_000 + t % 14_400 - 7_200 } else { t };
            for at in [When::Second(t), When::Position(Timestamp::new(t, 7)), When::Latest] {
                prop_assert_eq!(parse(&write(at, zone), zone).unwrap().0, at);
            }
        }
    }
}
