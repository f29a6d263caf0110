//! What a clock on the wall shows in a zone, and at which instants.
//!
//! Where the clock is set forward some local times do not exist, where it is set back some come twice. Everything that
//! turns local times into instants does it here, so that one rule holds for schedules, production hours and plans.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// When a local time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wall {
    Once(DateTime<Utc>),
    /// The clock was set back: first and second time.
    Twice(DateTime<Utc>, DateTime<Utc>),
    /// The clock was set forward over it; it goes on at this instant.
    Never(DateTime<Utc>),
}

/// No offset from UTC is larger, in any zone at any time.
const WIDEST: TimeDelta = TimeDelta::hours(16);

/// When the clocks of `zone` show `local`.
pub fn when(zone: Tz, local: NaiveDateTime) -> Wall {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => Wall::Once(at.to_utc()),
        LocalResult::Ambiguous(a, b) => Wall::Twice(a.min(b).to_utc(), a.max(b).to_utc()),
        LocalResult::None => {
            // At the ends of the calendar there is no room on both sides, and what has no instant counts as left out.
            let middle = local.and_utc();
            let low = middle.checked_sub_signed(WIDEST).unwrap_or(DateTime::<Utc>::MIN_UTC);
            let high = middle.checked_add_signed(WIDEST).unwrap_or(DateTime::<Utc>::MAX_UTC);
            Wall::Never(first_where(low, high, |at| shown(zone, at) >= local))
        }
    }
}

/// The first moment at which the clocks of `zone` show `local` or later.
pub fn first(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    match when(zone, local) {
        Wall::Once(at) | Wall::Twice(at, _) | Wall::Never(at) => at,
    }
}

/// What the clocks of `zone` show at `at`; at the ends of the calendar, its first or last moment.
pub fn shown(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let end = if offset.local_minus_utc() < 0 { NaiveDateTime::MIN } else { NaiveDateTime::MAX };
    at.naive_utc().checked_add_offset(offset).unwrap_or(end)
}

/// A stretch of local time that comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Its first local time, and the first one after it.
    pub from: NaiveDateTime,
    pub until: NaiveDateTime,
    /// When the clock is set back: the second time begins.
    pub set_back_at: DateTime<Utc>,
}

/// The overlap in which `at` lies, the first or the second time round.
pub fn overlap(zone: Tz, at: DateTime<Utc>) -> Option<Overlap> {
    let Wall::Twice(first, second) = when(zone, shown(zone, at)) else { return None };
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let before = offset(first);
    let set_back_at = first_where(first, second, |at| offset(at) != before);
    let until = set_back_at.naive_utc().checked_add_signed(TimeDelta::seconds(i64::from(before)))?;
    Some(Overlap { from: shown(zone, set_back_at), until, set_back_at })
}

/// The first whole second in `(low, high]` at which `holds`, which does from some moment on and at `high`.
pub fn first_where(
    low: DateTime<Utc>,
    high: DateTime<Utc>,
    mut holds: impl FnMut(DateTime<Utc>) -> bool,
) -> DateTime<Utc> {
    let (mut low, mut high) = (low.timestamp(), high.timestamp());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(DateTime::from_timestamp(middle, 0).unwrap_or_default()) {
            high = middle;
        } else {
            low = middle;
        }
    }
    DateTime::from_timestamp(high, 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn gaps_end_where_the_clock_goes_on() {
        for (zone, gone, end) in [
            ("Europe/Paris", "2026-03-29T02:30:00", "2026-03-29T01:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-04T02:00:00", "2026-10-03T15:30:00Z"),
            ("America/Sao_Paulo", "2018-11-04T00:00:00", "2018-11-04T03:00:00Z"),
            // A whole day that Samoa left out.
            ("Pacific/Apia", "2011-12-30T12:00:00", "2011-12-30T10:00:00Z"),
        ] {
            assert_eq!(when(zone.parse().unwrap(), local(gone)), Wall::Never(utc(end)), "{zone}");
        }
    }

    #[test]
    fn the_ends_of_the_calendar_are_times_like_others() {
        let day = TimeDelta::days(1);
        for zone in ["UTC", "Europe/Paris", "America/New_York", "Pacific/Apia", "Asia/Kathmandu"] {
            let zone: Tz = zone.parse().unwrap();
            for local in [NaiveDateTime::MIN, NaiveDateTime::MAX, NaiveDateTime::MIN + day, NaiveDateTime::MAX - day] {
                let at = first(zone, local);
                assert!((at.naive_utc() - local).abs() <= WIDEST, "{zone} {local} {at}");
                assert!((shown(zone, at) - local).abs() <= WIDEST);
                assert_eq!(overlap(zone, at), None);
            }
            for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
                assert!((shown(zone, at) - at.naive_utc()).abs() <= WIDEST);
            }
        }
    }

    #[test]
    fn overlaps_are_found_from_both_sides() {
        let paris: Tz = "Europe/Paris".parse().unwrap();
        let expected = Overlap {
            from: local("2026-10-25T02:00:00"),
            until: local("2026-10-25T03:00:00"),
            set_back_at: utc("2026-10-25T01:00:00Z"),
        };
        for at in ["2026-10-25T00:00:00Z", "2026-10-25T00:59:59Z", "2026-10-25T01:00:00Z", "2026-10-25T01:59:59Z"] {
            assert_eq!(overlap(paris, utc(at)), Some(expected), "{at}");
        }
        for at in ["2026-10-24T23:59:59Z", "2026-10-25T02:00:00Z"] {
            assert_eq!(overlap(paris, utc(at)), None, "{at}");
        }
        assert_eq!(first(paris, local("2026-10-25T02:30:00")), utc("2026-10-25T00:30:00Z"));
    }
}
