//! A crontab line in words.
//!
//! The words are exact: two lines that fire at different times never read the same. What has no common phrase is
//! spelled out.

use super::Spec;
use super::field::{DAY, HOUR, MINUTE, MONTH, SECOND, Unit, Values, WEEKDAY};

/// More times of day than this are not listed one by one.
const MOST_TIMES: u32 = 4;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) fn describe(spec: &Spec) -> String {
    let days = days(spec);
    match (time(spec), days) {
        (Time::At(times), None) => format!("every day at {times}"),
        (Time::At(times), Some(days)) => format!("{days} at {times}"),
        (Time::Every(often), None) => often,
        (Time::Every(often), Some(days)) => format!("{often} {days}"),
    }
}

/// The time of day.
enum Time {
    /// `02:00 and 14:00`
    At(String),
    /// `every 15 minutes`, `at minutes 5 and 7 of hours 3 to 9`
    Every(String),
}

fn time(spec: &Spec) -> Time {
    let Spec { seconds, minutes, hours, .. } = *spec;
    let on_the_minute = seconds.is_only(0);
    let every_hour = is_all(&HOUR, hours);
    let every_minute = is_all(&MINUTE, minutes);
    if seconds.len() == 1 && minutes.len() * hours.len() <= MOST_TIMES {
        let second = if on_the_minute { String::new() } else { format!(":{:02}", seconds.first()) };
        let times = hours.iter().flat_map(|h| minutes.iter().map(move |m| (h, m)));
        return Time::At(list(times.map(|(h, m)| format!("{h:02}:{m:02}{second}"))));
    }
    if !on_the_minute {
        return Time::Every(match often(&SECOND, seconds) {
            Some(often) if every_minute && every_hour => often,
            _ => format!("{} of {} of {}", at(&SECOND, seconds), of(&MINUTE, minutes), of(&HOUR, hours)),
        });
    }
    let hourly_at = if minutes.len() == 1 { Some(minutes.first()) } else { None };
    Time::Every(match (often(&MINUTE, minutes), hourly_at) {
        (Some(often), _) if every_hour => often,
        (Some(often), _) if is_run(hours) => {
            format!("{often} from {:02}:00 to {:02}:{:02}", hours.first(), hours.last(), minutes.last())
        }
        (_, Some(0)) if every_hour => "every hour".into(),
        (_, Some(minute)) if every_hour => format!("every hour at minute {minute}"),
        (_, Some(minute)) if is_run(hours) => {
            format!("every hour from {:02}:{minute:02} to {:02}:{minute:02}", hours.first(), hours.last())
        }
        (_, Some(minute)) => match even_step(&HOUR, hours) {
            Some(step) => format!("every {step} hours from 00:{minute:02}"),
            None => format!("at minute {minute} of {}", of(&HOUR, hours)),
        },
        _ => format!("{} of {}", at(&MINUTE, minutes), of(&HOUR, hours)),
    })
}

/// The days, or `None` for all of them.
fn days(spec: &Spec) -> Option<String> {
    let in_months = if is_all(&MONTH, spec.months) { None } else { Some(months(spec.months)) };
    let every_day = is_all(&DAY, spec.days);
    let every_weekday = is_all(&WEEKDAY, spec.weekdays);
    let of_month = in_months.as_deref().unwrap_or("each month");
    Some(match (every_day, every_weekday) {
        (true, true) => format!("every day in {}", in_months?),
        (true, false) => match in_months {
            None => format!("on {}", weekdays(spec.weekdays)),
            Some(months) => format!("on {} in {months}", weekdays(spec.weekdays)),
        },
        (false, true) => {
            let rare = if in_months.is_none() && spec.days.first() > 28 { " that has one" } else { "" };
            format!("on {} of {of_month}{rare}", ordinals(spec.days))
        }
        (false, false) if spec.either_day => {
            let also = if in_months.is_some() { " in these months" } else { "" };
            format!("on {} of {of_month} and also on {}{also}", ordinals(spec.days), weekdays(spec.weekdays))
        }
        (false, false) => {
            format!("on {} that are {} of {of_month}", weekdays(spec.weekdays), ordinals(spec.days))
        }
    })
}

fn weekdays(values: Values) -> String {
    if values == Values::new(1..=5) {
        return "weekdays (Monday to Friday)".into();
    }
    // A week is read from Monday to Sunday.
    let monday_first = (1..=7).map(|d| d % 7).filter(|d| values.iter().any(|v| v == *d));
    list(monday_first.map(|d| format!("{}s", WEEKDAYS[d as usize])))
}

fn months(values: Values) -> String {
    list(values.iter().map(|m| MONTHS[m as usize - 1].to_owned()))
}

fn ordinals(values: Values) -> String {
    let ordinal = |n: u32| {
        let ending = match (n % 10, n % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        format!("{n}{ending}")
    };
    list(runs(values).into_iter().map(|(from, to)| {
        if from == to {
            format!("the {}", ordinal(from))
        } else {
            format!("the {} to the {}", ordinal(from), ordinal(to))
        }
    }))
}

/// `every 15 minutes`, when the steps are even also over the end of the hour.
fn often(unit: &Unit, values: Values) -> Option<String> {
    if is_all(unit, values) {
        return Some(format!("every {}", unit.name));
    }
    even_step(unit, values).map(|step| format!("every {step} {}s", unit.name))
}

/// The distance between values that begin at 0 and go on evenly over the end.
fn even_step(unit: &Unit, values: Values) -> Option<u32> {
    let (count, whole) = (values.len(), unit.high + 1);
    let step = whole / count;
    let even = count > 1 && whole.is_multiple_of(count) && values == Values::new((0..whole).step_by(step as usize));
    even.then_some(step)
}

/// `at minutes 5 and 7`
fn at(unit: &Unit, values: Values) -> String {
    if is_all(unit, values) { format!("every {}", unit.name) } else { format!("at {}", named(unit, values)) }
}

/// `every hour`, `hours 3 to 9`
fn of(unit: &Unit, values: Values) -> String {
    if is_all(unit, values) { format!("every {}", unit.name) } else { named(unit, values) }
}

fn named(unit: &Unit, values: Values) -> String {
    let plural = if values.len() == 1 { "" } else { "s" };
    let parts = runs(values).into_iter().map(
        |(from, to)| {
            if from == to { from.to_string() } else { format!("{from} to {to}") }
        },
    );
    format!("{}{plural} {}", unit.name, list(parts))
}

fn is_all(unit: &Unit, values: Values) -> bool {
    values == Values::all(unit)
}

/// One after the other, without a hole.
fn is_run(values: Values) -> bool {
    values.last() - values.first() + 1 == values.len() && values.len() > 1
}

/// The values as ranges; two neighbours stay two.
fn runs(values: Values) -> Vec<(u32, u32)> {
    let mut out: Vec<(u32, u32)> = Vec::new();
    for value in values.iter() {
        match out.last_mut() {
            Some((_, to)) if *to + 1 == value => *to = value,
            _ => out.push((value, value)),
        }
    }
    out.into_iter()
        .flat_map(|(from, to)| if to == from + 1 { vec![(from, from), (to, to)] } else { vec![(from, to)] })
        .collect()
}

/// `a`, `a and b`, `a, b and c`
fn list(parts: impl IntoIterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.into_iter().collect();
    let Some(last) = parts.pop() else { return String::new() };
    if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) }
}
