//! A crontab line, with crontab's meaning, over the `cron` crate.
//!
//! The crate counts weekdays from 1, joins the two day fields by AND, and loses or repeats runs where the clock is
//! changed. So a line is read here, given to the crate as plain lists of values, asked for its next times as if there
//! were no time zones, and only then placed in a zone. It must never fire twice at one instant, go backwards, or lose
//! the run of a day.
//!
//! The rules, where crontabs differ:
//!
//! - **The two day fields.** When both are restricted, a day that fits either of them counts. A field that begins with
//!   `*` is not restricted in this sense, also with a step (`*/2`): then a day must fit both. This is what Vixie cron
//!   and its descendants do.
//! - **The clock is set forward** (02:00 becomes 03:00). A run whose time does not exist is made at the first moment
//!   after the gap, once, even if several fall into it.
//! - **The clock is set back** (03:00 becomes 02:00). A run in the hour that comes twice is made the first time only.
//! - **Lines for every hour** (the hour field is `*` or names all hours: `*/15 * * * *`, `@hourly`) go by elapsed time
//!   instead: nothing is added after a gap, and an hour that comes twice has its runs twice, as in Vixie cron.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use self::field::{DAY, HOUR, MINUTE, MONTH, SECOND, Unit, Values, WEEKDAY};
use super::local_time::{self, Wall};
use super::text::escape;

mod field;
mod words;

/// Longer lines are mistakes.
const LONGEST: usize = 250;

/// A crontab line that fires at some time.
#[derive(Debug, Clone)]
pub struct Cron {
    spec: Spec,
    /// The five or six fields, without names such as `@daily`.
    texts: Vec<String>,
    /// A day counts when any of them has it.
    schedules: Vec<cron::Schedule>,
}

/// What the line means, however it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Spec {
    seconds: Values,
    minutes: Values,
    hours: Values,
    days: Values,
    months: Values,
    weekdays: Values,
    /// A day that fits one of `days` and `weekdays` is enough.
    either_day: bool,
}

impl Cron {
    /// Reads five fields (minute, hour, day, month, weekday), six with seconds first, or `@hourly @daily @midnight
    /// @weekly @monthly @yearly @annually`.
    ///
    /// Errors: one short sentence, for an expression that cannot be read and for one that never fires.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} characters"));
        }
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err("cannot contain control characters".into());
        }
        let line = if text.trim_start().starts_with('@') { nickname(text.trim())? } else { text };
        let texts: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        let (second, fields) = match texts.as_slice() {
            fields @ [_, _, _, _, _] => ("0", fields),
            [second, fields @ ..] if fields.len() == 5 => (second.as_str(), fields),
            _ => {
                return Err(format!(
                    "has {} fields, not 5 (minute hour day month weekday) or 6 (with seconds first)",
                    texts.len()
                ));
            }
        };
        let [minute, hour, day, month, weekday] = fields else { return Err("is not a crontab line".into()) };
        let mut spec = Spec {
            seconds: field::parse(&SECOND, second)?,
            minutes: field::parse(&MINUTE, minute)?,
            hours: field::parse(&HOUR, hour)?,
            days: field::parse(&DAY, day)?,
            months: field::parse(&MONTH, month)?,
            weekdays: field::parse(&WEEKDAY, weekday)?,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let (every_day, every_weekday) = (Values::all(&DAY), Values::all(&WEEKDAY));
        if spec.either_day && (spec.days == every_day || spec.weekdays == every_weekday) {
            spec = Spec { days: every_day, weekdays: every_weekday, either_day: false, ..spec };
        }
        let cron = Self { spec, schedules: spec.schedules()?, texts };
        if cron.next_local(DateTime::UNIX_EPOCH.naive_utc()).is_none() {
            return Err("never runs: no month has such a day".into());
        }
        Ok(cron)
    }

    /// The first run after `after`, in the line's meaning for a clock in `zone`. `None` after the year 2100.
    pub fn next_after(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.every_hour() { self.next_elapsed(zone, after) } else { self.next_named(zone, after) }
    }

    /// The newest run in `(after, until]`.
    pub fn last_until(&self, zone: Tz, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let later = |from| self.next_after(zone, from).is_none_or(|at| at > until);
        let mut after = after;
        let mut found = None;
        // Mostly there is one, or none.
        for _ in 0..4 {
            match self.next_after(zone, after).filter(|at| *at <= until) {
                Some(at) => (after, found) = (at, Some(at)),
                None => return found,
            }
        }
        if later(after) {
            return found;
        }
        // From the newest run on there is no later one; before it, there is. Runs are at whole seconds.
        Some(local_time::first_where(after, until, later))
    }

    /// The meaning in words, without the zone: `every day at 02:00`.
    pub fn words(&self) -> String {
        words::describe(&self.spec)
    }

    /// The line whose runs are so many minutes later (earlier, if negative) on the same days. `None` when one of them
    /// would be on another day, and for a line with several minutes, which has no one time to move.
    pub fn shifted(&self, minutes: i32) -> Option<String> {
        if self.spec.minutes.len() != 1 {
            return None;
        }
        let moved = i32::try_from(self.spec.minutes.first()).ok()? + minutes;
        let (carry, minute) = (moved.div_euclid(60), moved.rem_euclid(60));
        let hours: Option<Vec<String>> = self
            .spec
            .hours
            .iter()
            .map(|hour| hour.checked_add_signed(carry).filter(|hour| *hour <= HOUR.high).map(|hour| hour.to_string()))
            .collect();
        let mut texts = self.texts.clone();
        let at = texts.len().checked_sub(5)?;
        *texts.get_mut(at)? = minute.to_string();
        if carry != 0 {
            *texts.get_mut(at + 1)? = hours?.join(",");
        }
        Some(texts.join(" "))
    }

    /// Whether the line goes by elapsed time.
    fn every_hour(&self) -> bool {
        self.spec.hours == Values::all(&HOUR)
    }

    /// Hours with a name come once a day, whatever the clock does.
    fn next_named(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut local = local_time::shown(zone, after);
        if let Some(overlap) = local_time::overlap(zone, after).filter(|o| after >= o.set_back_at) {
            // All of these were made the first time round.
            local = overlap.until - TimeDelta::seconds(1);
        }
        loop {
            local = self.next_local(local)?;
            let at = local_time::first(zone, local);
            if at > after {
                return Some(at);
            }
        }
    }

    fn next_elapsed(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let ahead = self.next_shown(zone, local_time::shown(zone, after), after);
        // Before the clock is set back, what comes next may look earlier on it.
        let again = local_time::overlap(zone, after).filter(|o| after < o.set_back_at).and_then(|overlap| {
            self.next_shown(zone, overlap.from - TimeDelta::seconds(1), overlap.set_back_at - TimeDelta::seconds(1))
        });
        match (ahead, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The first instant after `after` at which a clock shows one of the times that come after `local`.
    fn next_shown(&self, zone: Tz, mut local: NaiveDateTime, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        loop {
            local = self.next_local(local)?;
            match local_time::when(zone, local) {
                Wall::Once(at) | Wall::Twice(at, _) if at > after => return Some(at),
                Wall::Twice(_, at) if at > after => return Some(at),
                Wall::Never(end) => local = local_time::shown(zone, end) - TimeDelta::seconds(1),
                _ => {}
            }
        }
    }

    /// The first matching time after `local`, as if clocks were never changed.
    fn next_local(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let after = local.and_utc();
        self.schedules.iter().filter_map(|s| s.after(&after).next()).min().map(|at| at.naive_utc())
    }
}

impl Spec {
    fn schedules(&self) -> Result<Vec<cron::Schedule>, String> {
        let (every_day, every_weekday) = (Values::all(&DAY), Values::all(&WEEKDAY));
        if self.either_day {
            Ok(vec![self.schedule(self.days, every_weekday)?, self.schedule(every_day, self.weekdays)?])
        } else {
            Ok(vec![self.schedule(self.days, self.weekdays)?])
        }
    }

    /// One expression in the dialect of the crate, which has seconds and counts weekdays from 1.
    fn schedule(&self, days: Values, weekdays: Values) -> Result<cron::Schedule, String> {
        let text = |unit: &Unit, values: Values, shift: u32| {
            if values == Values::all(unit) {
                return "*".to_owned();
            }
            values.iter().map(|v| (v + shift).to_string()).collect::<Vec<_>>().join(",")
        };
        let line = [
            text(&SECOND, self.seconds, 0),
            text(&MINUTE, self.minutes, 0),
            text(&HOUR, self.hours, 0),
            text(&DAY, days, 0),
            text(&MONTH, self.months, 0),
            text(&WEEKDAY, weekdays, 1),
        ]
        .join(" ");
        line.parse().map_err(|_| "is not a crontab line".to_owned())
    }
}

fn nickname(text: &str) -> Result<&'static str, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        _ => return Err(format!("{} is not one of @hourly @daily @weekly @monthly @yearly", escape(text))),
    })
}

#[cfg(test)]
mod tests;
