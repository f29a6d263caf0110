//! Crontab lines, compared with another implementation (croner) over random lines, zones and years.
//!
//! The two agree on what a line means and differ in part on what a change of the clock does to it. So croner is asked
//! for the times as if there were no zones, and placing them in a zone is done here once more, in the plainest way: by
//! looking at every instant around them. Lines of one fixed time a day, whose rule is the same in both, are compared
//! with croner in the zone itself.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::parser::{CronParser, Seconds, Year};
use mongokeep::domain::cron::Cron;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const CASES: u64 = 100_000;
const SEED: u64 = 20_261_121;
/// Runs that are compared in each case.
const RUNS: usize = 2;

fn field(random: &mut StdRng, low: u32, high: u32, busy: bool) -> String {
    let value = |random: &mut StdRng| random.random_range(low..=high);
    let range = |random: &mut StdRng| {
        let (a, b) = (value(random), value(random));
        (a.min(b), a.max(b))
    };
    match random.random_range(if busy { 0..12 } else { 0..8 }) {
        0..3 => "*".to_owned(),
        3..6 => value(random).to_string(),
        6 => (0..random.random_range(2..5)).map(|_| value(random).to_string()).collect::<Vec<_>>().join(","),
        7 => format!("*/{}", random.random_range(1..=high)),
        8..10 => {
            let (a, b) = range(random);
            format!("{a}-{b}")
        }
        10 => {
            let ((a, b), step) = (range(random), random.random_range(1..=high));
            format!("{a}-{b}/{step}")
        }
        _ => {
            let ((a, b), c) = (range(random), value(random));
            format!("{a}-{b},{c}")
        }
    }
}

fn name(random: &mut StdRng, text: String, words: &[&str], first: usize) -> String {
    // A value that has a name, by its name.
    match text.parse::<usize>() {
        Ok(value) if random.random_bool(0.3) => words.get(value.wrapping_sub(first)).map_or(text, |w| (*w).to_owned()),
        _ => text,
    }
}

const MONTHS: &[&str] = &["jan", "FEB", "mar", "apr", "May", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "Tue", "wed", "thu", "FRI", "sat"];

fn line(random: &mut StdRng) -> String {
    let second = random.random_bool(0.25).then(|| field(random, 0, 59, true));
    let (minute, hour) = (field(random, 0, 59, true), field(random, 0, 23, true));
    let day = field(random, 1, 31, true);
    let month = field(random, 1, 12, false);
    let month = name(random, month, MONTHS, 1);
    let weekday = field(random, 0, 7, true);
    let weekday = name(random, weekday, WEEKDAYS, 0);
    let five = format!("{minute} {hour} {day} {month} {weekday}");
    second.map_or(five.clone(), |s| format!("{s} {five}"))
}

/// croner takes any restricted day fields as alternatives; a field that begins with `*` is one of crontab's that must
/// fit as well, which croner writes with a `+`.
fn for_croner(line: &str) -> String {
    let mut fields: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let at = fields.len() - 3;
    let (day, weekday) = (fields[at].clone(), fields[at + 2].clone());
    if day != "*" && weekday != "*" && (day.starts_with('*') || weekday.starts_with('*')) {
        fields[at + 2] = format!("+{weekday}");
    }
    fields.join(" ")
}

fn every_hour(cron: &croner::Cron) -> bool {
    let noon = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
    (0..24).all(|h| cron.pattern.hour_match(noon.and_hms_opt(h, 0, 0).map(|_| h).unwrap()).unwrap())
}

/// Whether the clocks of `zone` are changed within two days of `at`.
fn is_changed_near(zone: Tz, at: NaiveDateTime) -> bool {
    let offset = |days| {
        let at = at + TimeDelta::days(days);
        zone.offset_from_utc_datetime(&at).fix().local_minus_utc()
    };
    let middle = offset(0);
    [-2, -1, 1, 2].into_iter().any(|days| offset(days) != middle)
}

/// Whether any date of the calendar fits, with the weekdays it has over the years.
fn has_a_day(theirs: &croner::Cron) -> bool {
    use croner::Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    const WEEK: [croner::Weekday; 7] = [Sunday, Monday, Tuesday, Wednesday, Thursday, Friday, Saturday];
    let dates = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap().iter_days().take(28 * 366);
    dates.filter(|d| theirs.pattern.month_match(d.month()).unwrap()).any(|d| {
        let weekday = WEEK[d.weekday().num_days_from_sunday() as usize];
        theirs.pattern.day_match(d.year(), d.month(), d.day(), weekday).unwrap()
    })
}

/// The instants within two days at which the clock shows `local`, found by trying all offsets that are in use.
fn instants(zone: Tz, local: NaiveDateTime) -> Vec<DateTime<Utc>> {
    let offsets: BTreeSet<i64> = (-50..=50)
        .step_by(10)
        .map(|hours| {
            let at = local.and_utc() + TimeDelta::hours(hours);
            (at.with_timezone(&zone).naive_local() - at.naive_utc()).num_seconds()
        })
        .collect();
    let tried = offsets.into_iter().map(|offset| local.and_utc() - TimeDelta::seconds(offset));
    let mut out: Vec<_> = tried.filter(|at| at.with_timezone(&zone).naive_local() == local).collect();
    out.sort();
    out
}

/// The first second after a gap, one after the other.
fn after_gap(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    let mut later = local;
    loop {
        // Clocks are changed at whole minutes.
        later += TimeDelta::seconds(60 - i64::from(later.and_utc().timestamp().rem_euclid(60) as u8));
        if let Some(at) = instants(zone, later).first() {
            return *at;
        }
    }
}

struct Counts {
    compared: u64,
    at_changes: u64,
    in_zone: u64,
    never: u64,
}

fn check(case: u64, counts: &mut Counts) {
    let mut random = StdRng::seed_from_u64(SEED + case);
    let line = line(&mut random);
    let zone = TZ_VARIANTS[random.random_range(0..TZ_VARIANTS.len())];
    let year = random.random_range(1975..2090);
    let start =
        Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap() + TimeDelta::seconds(random.random_range(0..31_536_000));
    // One in ten begins within two days of a change of the clock, if the year still has one.
    let near = |at: &DateTime<Utc>| is_changed_near(zone, at.naive_utc());
    let start = match case % 10 {
        0 => (0..365).map(|days| start + TimeDelta::days(days)).find(near).unwrap_or(start),
        _ => start,
    };
    let what = || format!("case {case}: {line:?} in {zone} after {start}");

    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let theirs = parser.parse(&for_croner(&line)).unwrap_or_else(|e| panic!("{}: croner: {e}", what()));
    let ours = match Cron::parse(&line) {
        Ok(cron) => cron,
        Err(why) => {
            assert!(why.starts_with("never runs"), "{}: {why}", what());
            assert!(!has_a_day(&theirs), "{}: croner finds a run", what());
            counts.never += 1;
            return;
        }
    };
    let every_hour = every_hour(&theirs);
    let local = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();

    let mut at = start;
    for _ in 0..RUNS {
        let Some(found) = ours.next_after(zone, at) else {
            assert!(year > 2050, "{}: nothing found", what());
            return;
        };
        assert!(found > at, "{}: {found} is not after {at}", what());
        // Away from changes the two must agree on what a clock on the wall shows.
        let shown = local(at);
        let expected = theirs.find_next_occurrence(&shown.and_utc(), false).unwrap().naive_utc();
        if !is_changed_near(zone, shown) && !is_changed_near(zone, expected) {
            assert_eq!(local(found), expected, "{}, after {at}", what());
            counts.compared += 1;
        } else {
            assert_eq!(Some(found), placed(&theirs, zone, at, every_hour), "{}, after {at}", what());
            counts.at_changes += 1;
            if theirs.determine_job_type() == croner::JobType::FixedTime && zone != Tz::Pacific__Apia {
                let in_zone = theirs.find_next_occurrence(&at.with_timezone(&zone), false).unwrap().to_utc();
                assert_eq!(found, in_zone, "{}, after {at}: croner in the zone", what());
                counts.in_zone += 1;
            }
        }
        at = found;
    }
}

/// The first run after `at`, from croner's times without a zone and the rules of this program.
fn placed(theirs: &croner::Cron, zone: Tz, at: DateTime<Utc>, every_hour: bool) -> Option<DateTime<Utc>> {
    // Where hours come twice, times before the present one come again, and times after it come before others.
    let margin = TimeDelta::hours(if every_hour { 3 } else { 0 });
    let mut local = at.with_timezone(&zone).naive_local() - margin;
    let mut found: Option<DateTime<Utc>> = None;
    loop {
        local = theirs.find_next_occurrence(&local.and_utc(), false).ok()?.naive_utc();
        let mut candidates = instants(zone, local);
        if !every_hour {
            candidates.truncate(1);
            if candidates.is_empty() {
                candidates.push(after_gap(zone, local));
            }
        }
        found = candidates.into_iter().filter(|c| *c > at).chain(found).min();
        if found.is_some_and(|found| local >= found.with_timezone(&zone).naive_local() + margin) {
            return found;
        }
    }
}

#[test]
fn random_lines_fire_as_croner_says() {
    let threads = 2;
    let counts: Vec<Counts> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let mut counts = Counts { compared: 0, at_changes: 0, in_zone: 0, never: 0 };
                    for case in (worker..CASES).step_by(threads as usize) {
                        check(case, &mut counts);
                    }
                    counts
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let sum = |of: fn(&Counts) -> u64| counts.iter().map(of).sum::<u64>();
    let (compared, at_changes) = (sum(|c| c.compared), sum(|c| c.at_changes));
    let (in_zone, never) = (sum(|c| c.in_zone), sum(|c| c.never));
    eprintln!(
        "{CASES} cases, {compared} runs away from changes of the clock, {at_changes} near them ({in_zone} also in the zone), {never} lines never run"
    );
    // A comparison that skipped its cases would prove nothing.
    assert!(compared > CASES && at_changes > 5_000 && in_zone > 100 && never > 10);
}
