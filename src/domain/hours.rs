//! Hours of the week: production hours, in which a backup is unwelcome, and those of a bandwidth limit.
//!
//! Production hours only mark and suggest; nothing is ever kept from running by them.

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::local_time;
use super::text::quoted;

/// `08:00-18:00`, `Mon-Fri 08:00-18:00`, `22:00-02:00` (over midnight), several separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeeklyHours {
    windows: Vec<Window>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// On which days it begins, from Monday.
    days: [bool; 7],
    /// Minutes after midnight; not after `from`: on the next day.
    from: u32,
    until: u32,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl WeeklyHours {
    /// Errors: a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { windows: text.split(',').map(|part| window(part.trim())).collect::<Result<_, _>>()? })
    }

    /// Whether any part of `[from, until)` lies in them, on a clock in `zone`; of an empty stretch, its one moment.
    pub fn touch(&self, zone: Tz, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        // They come every week, so there is nothing new to see after eight days.
        let until = until.max(from + TimeDelta::seconds(1)).min(from + TimeDelta::days(8));
        let (first, last) =
            (local_time::shown(zone, from).date() - Days::new(1), local_time::shown(zone, until).date());
        first.iter_days().take_while(|day| *day <= last).any(|day| {
            self.windows.iter().filter_map(|w| w.on(zone, day)).any(|(begin, end)| begin < until && end > from)
        })
    }
}

impl Window {
    /// From when to when it is on the day it begins.
    fn on(&self, zone: Tz, day: NaiveDate) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        if !*self.days.get(day.weekday().num_days_from_monday() as usize)? {
            return None;
        }
        let midnight = day.and_hms_opt(0, 0, 0)?;
        let until = if self.until > self.from { self.until } else { self.until + 24 * 60 };
        let at = |minutes: u32| local_time::first(zone, midnight + TimeDelta::minutes(i64::from(minutes)));
        Some((at(self.from), at(until)))
    }
}

fn window(text: &str) -> Result<Window, String> {
    let wrong = || format!("{} is not written 08:00-18:00 or Mon-Fri 08:00-18:00", quoted(text));
    let (days, hours) = match text.split_once(' ') {
        Some((days, hours)) => (self::days(days).ok_or_else(wrong)?, hours.trim()),
        None => ([true; 7], text),
    };
    let (from, until) = hours.split_once('-').ok_or_else(wrong)?;
    let (from, until) = (minutes(from).ok_or_else(wrong)?, minutes(until).ok_or_else(wrong)?);
    if from == until || from == 24 * 60 {
        return Err(format!("{} is empty; a whole day is written 00:00-24:00", quoted(text)));
    }
    Ok(Window { days, from, until })
}

/// `Mon`, `Mon-Fri`, also over the end of the week.
fn days(text: &str) -> Option<[bool; 7]> {
    let day = |text: &str| DAYS.iter().position(|day| text.eq_ignore_ascii_case(day));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    let length = (last + 7 - first) % 7;
    let mut out = [false; 7];
    for (i, on) in out.iter_mut().enumerate() {
        *on = (i + 7 - first) % 7 <= length;
    }
    Some(out)
}

fn minutes(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse::<u32>().ok() } else { None }
    };
    let (hour, minute) = (number(hour)?, number(minute).filter(|_| minute.len() == 2)?);
    if minute > 59 || hour > 24 || (hour == 24 && minute > 0) { None } else { Some(hour * 60 + minute) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touches(hours: &str, zone: &str, from: &str, minutes: i64) -> bool {
        let from: DateTime<Utc> = from.parse().unwrap();
        let until = from + TimeDelta::minutes(minutes);
        WeeklyHours::parse(hours).unwrap().touch(zone.parse().unwrap(), from, until)
    }

    #[test]
    fn forms() {
        for good in [
            "08:00-18:30",
            "8:00-18:00",
            "Mon-Fri 08:00-18:00",
            "sat 22:00-02:00",
            "00:00-24:00",
            "Fri-Mon 9:00-10:00",
            "Mon-Fri 08:00-18:00, Sat 10:00-14:00",
        ] {
            assert!(WeeklyHours::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "8-18",
            "08:00",
            "08:00-25:00",
            "08:60-09:00",
            "24:00-08:00",
            "08:00-08:00",
            "Mo 08:00-09:00",
            "08:00-09:00,",
            "08:0-09:00",
        ] {
            assert!(WeeklyHours::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stretch_touches_them_with_any_part() {
        // 2026-11-20 is a Friday; Paris is an hour ahead of UTC.
        let hours = "Mon-Fri 08:00-18:00";
        assert!(touches(hours, "Europe/Paris", "2026-11-20T07:00:00Z", 0));
        assert!(!touches(hours, "Europe/Paris", "2026-11-20T06:59:59Z", 0));
        assert!(touches(hours, "Europe/Paris", "2026-11-20T06:50:00Z", 11));
        assert!(!touches(hours, "Europe/Paris", "2026-11-20T06:50:00Z", 10));
        assert!(touches(hours, "UTC", "2026-11-20T17:59:59Z", 0));
        assert!(!touches(hours, "UTC", "2026-11-20T18:00:00Z", 600));
        assert!(!touches(hours, "UTC", "2026-11-21T12:00:00Z", 600));
        // Over the weekend into Monday, and for weeks.
        assert!(touches(hours, "UTC", "2026-11-20T19:00:00Z", 3 * 24 * 60));
        assert!(touches("Thu 08:00-09:00", "UTC", "2026-11-20T19:00:00Z", 100 * 24 * 60));
    }

    #[test]
    fn they_go_over_midnight_and_over_changes_of_the_clock() {
        let night = "Fri 22:00-02:00";
        assert!(touches(night, "UTC", "2026-11-21T01:59:00Z", 0));
        assert!(!touches(night, "UTC", "2026-11-21T02:00:00Z", 0));
        assert!(!touches(night, "UTC", "2026-11-22T01:00:00Z", 0));
        // 02:30 does not exist in Paris on this day; the hours begin when the clock goes on.
        assert!(touches("02:30-04:00", "Europe/Paris", "2026-03-29T01:00:00Z", 0));
        assert!(!touches("02:30-04:00", "Europe/Paris", "2026-03-29T00:59:59Z", 0));
    }
}
