//! What the schedules will do: their coming runs, which of them meet, and where there is room.
//!
//! Jobs of one service wait for each other, so a run that overlaps another begins late. Nothing here decides whether a
//! run is made; that is [`super::due`]'s.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::cron::Cron;
use super::hours::WeeklyHours;
use super::schedule::Schedule;

/// A run that is said to take longer is taken to take so long: nothing further away is looked at.
const LONGEST_SECONDS: u64 = 30 * 24 * 3600;
/// How long a run whose length is not known is taken to be when overlaps are looked for.
pub const ASSUMED_SECONDS: u64 = 600;
/// More runs of one schedule are not listed.
pub const MOST_RUNS: usize = 500;
/// A slot is free when so many runs in it are, or those of so many days.
const LOOK_RUNS: usize = 40;
const LOOK_DAYS: i64 = 35;
/// Slots are so many minutes apart, and looked for up to half a day away.
const SLOT_MINUTES: i32 = 5;
const FURTHEST_MINUTES: i32 = 12 * 60;

/// When a schedule runs, and for how long.
#[derive(Debug, Clone)]
pub struct Calendar {
    pub schedule: String,
    pub service: String,
    pub cron: Cron,
    pub zone: Tz,
    /// Nothing runs before.
    pub start: DateTime<Utc>,
    /// The expected length of a run.
    pub seconds: Option<u64>,
    /// Of the service, read in the zone of the schedule.
    pub hours: Option<WeeklyHours>,
}

/// Serialised, it is an element of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedRun {
    pub schedule: String,
    pub service: String,
    pub at: DateTime<Utc>,
    /// The expected length; `None`: not known, and [`ASSUMED_SECONDS`] are assumed for overlaps.
    pub seconds: Option<u64>,
    /// The schedules of the same service whose runs it meets; its own name when it lasts longer than its own pause.
    pub overlaps: Vec<String>,
    pub in_production_hours: bool,
}

/// The runs of a period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeline {
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
    /// In the order of time.
    pub runs: Vec<PlannedRun>,
    /// Schedules that run more often than is listed.
    pub cut: Vec<String>,
}

/// One run as `schedule next` prints it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NextRun {
    pub at: DateTime<Utc>,
    /// RFC 3339, with the offset of the schedule's zone.
    pub local: String,
    pub overlaps: Vec<String>,
    pub in_production_hours: bool,
}

/// A time of day at which a schedule would have the service to itself, outside production hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FreeSlot {
    /// The line to take, for the same days.
    pub cron: String,
    pub words: String,
    /// How far it is from the present line; negative: earlier. 0: the present line has what it needs.
    pub moved_minutes: i32,
}

impl Calendar {
    /// Errors: what is wrong with the line or zone of the schedule.
    pub fn of(schedule: &Schedule, seconds: Option<u64>, hours: Option<WeeklyHours>) -> Result<Self, String> {
        Ok(Self {
            schedule: schedule.name.clone(),
            service: schedule.service.clone(),
            cron: Cron::parse(&schedule.cron)?,
            zone: zone(&schedule.timezone)?,
            start: schedule.start,
            seconds,
            hours,
        })
    }

    /// The first run after `after`, and not before the start.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.next_after(self.zone, after.max(before(self.start)))
    }

    /// The newest run in `(after, until]` that is not before the start.
    pub fn last_until(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.last_until(self.zone, after.max(before(self.start)), until)
    }

    fn length(&self) -> TimeDelta {
        length(self.seconds.unwrap_or(ASSUMED_SECONDS).max(1))
    }

    fn run(&self, at: DateTime<Utc>, all: &[Calendar]) -> PlannedRun {
        let end = later(at, self.length());
        let meets = |other: &&Calendar| {
            other.service == self.service
                && other.schedule != self.schedule
                && other.next_after(earlier(at, other.length())).is_some_and(|begin| begin < end)
        };
        let mut overlaps: Vec<String> = all.iter().filter(meets).map(|other| other.schedule.clone()).collect();
        // Only what is known to be longer than its pause is said to be.
        if self.seconds.is_some() {
            let previous = self.next_after(earlier(at, self.length())).is_some_and(|begin| begin < at);
            if previous || self.next_after(at).is_some_and(|next| next < end) {
                overlaps.push(self.schedule.clone());
            }
        }
        PlannedRun {
            schedule: self.schedule.clone(),
            service: self.service.clone(),
            at,
            seconds: self.seconds,
            overlaps,
            in_production_hours: self
                .hours
                .as_ref()
                .is_some_and(|hours| hours.touch(self.zone, at, later(at, length(self.seconds.unwrap_or(0))))),
        }
    }

    /// Runs in `(after, until]`.
    pub fn runs(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.next_after(after), |at| self.next_after(*at)).take_while(move |at| *at <= until)
    }
}

/// The zone that a schedule names.
///
/// Errors: a sentence.
pub fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("{} is not a time zone", super::text::quoted(name)))
}

/// What a run is expected to last after those that took so many seconds: their median.
pub fn expected_seconds(lengths: &[u64]) -> Option<u64> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// The runs of all schedules in `[from, until]`.
pub fn timeline(all: &[Calendar], from: DateTime<Utc>, until: DateTime<Utc>) -> Timeline {
    let (mut runs, mut cut) = (Vec::new(), Vec::new());
    for calendar in all {
        let mut times: Vec<_> = calendar.runs(before(from), until).take(MOST_RUNS + 1).collect();
        if times.len() > MOST_RUNS {
            times.truncate(MOST_RUNS);
            cut.push(calendar.schedule.clone());
        }
        runs.extend(times.into_iter().map(|at| calendar.run(at, all)));
    }
    runs.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.schedule.cmp(&b.schedule)));
    Timeline { from, until, runs, cut }
}

/// The next runs of `target` after `after`, at most `count`; `all` are the schedules that are on.
pub fn next_runs(target: &Calendar, all: &[Calendar], after: DateTime<Utc>, count: usize) -> Vec<NextRun> {
    let runs = target.runs(after, DateTime::<Utc>::MAX_UTC).take(count);
    let told = runs.map(|at| {
        let run = target.run(at, all);
        let local = at.with_timezone(&target.zone).to_rfc3339_opts(SecondsFormat::Secs, false);
        NextRun { at, local, overlaps: run.overlaps, in_production_hours: run.in_production_hours }
    });
    told.collect()
}

/// The nearest time of day, on the same days, at which `target` meets no run of another schedule of its service (of
/// those in `all`) and no production hours. `None` when there is none, or its line has no one time of day.
pub fn nearest_free_slot(target: &Calendar, all: &[Calendar], from: DateTime<Utc>) -> Option<FreeSlot> {
    let distances = (0..=FURTHEST_MINUTES).step_by(SLOT_MINUTES as usize);
    distances.flat_map(|distance| [distance, -distance]).find_map(|moved_minutes| {
        let line = target.cron.shifted(moved_minutes)?;
        let cron = Cron::parse(&line).ok()?;
        let moved = Calendar { cron, ..target.clone() };
        let free = |run: PlannedRun| run.overlaps.is_empty() && !run.in_production_hours;
        let mut runs = moved.runs(from, from + TimeDelta::days(LOOK_DAYS)).take(LOOK_RUNS);
        let words = moved.cron.words();
        runs.all(|at| free(moved.run(at, all))).then_some(FreeSlot { cron: line, words, moved_minutes })
    })
}

/// So that what is at this moment comes after it.
fn before(at: DateTime<Utc>) -> DateTime<Utc> {
    earlier(at, TimeDelta::milliseconds(1))
}

fn length(seconds: u64) -> TimeDelta {
    i64::try_from(seconds.min(LONGEST_SECONDS)).ok().and_then(TimeDelta::try_seconds).unwrap_or_default()
}

/// Never past what a date can be.
fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn earlier(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_sub_signed(by).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(schedule: &str, service: &str, line: &str, seconds: Option<u64>) -> Calendar {
        Calendar {
            schedule: schedule.into(),
            service: service.into(),
            cron: Cron::parse(line).unwrap(),
            zone: Tz::Europe__Paris,
            start: DateTime::UNIX_EPOCH,
            seconds,
            hours: None,
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn met(timeline: &Timeline, schedule: &str) -> Vec<Vec<String>> {
        timeline.runs.iter().filter(|r| r.schedule == schedule).map(|r| r.overlaps.clone()).collect()
    }

    #[test]
    fn runs_of_one_service_overlap_by_their_lengths() {
        let hour = Some(3600);
        let all = [
            calendar("nightly", "a", "0 2 * * *", hour),
            // On Sundays, 20 minutes before the other one ends.
            calendar("weekly", "a", "40 2 * * 0", hour),
            calendar("other", "b", "0 2 * * *", hour),
            // Ends when the nightly one begins.
            calendar("before", "a", "0 1 * * *", hour),
        ];
        // Thursday to Sunday, in UTC.
        let plan = timeline(&all, at("2026-11-20T00:00:00Z"), at("2026-11-22T23:00:00Z"));
        assert_eq!(met(&plan, "nightly"), [vec![], vec![], vec!["weekly".to_owned()]]);
        assert_eq!(met(&plan, "weekly"), [["nightly"]]);
        assert!(met(&plan, "other").concat().is_empty() && met(&plan, "before").concat().is_empty());
        assert_eq!(met(&plan, "before").len(), 3);
        assert!(plan.runs.is_sorted_by_key(|r| r.at) && plan.cut.is_empty());
    }

    #[test]
    fn unknown_lengths_are_assumed_and_long_runs_meet_themselves() {
        let all = [
            calendar("x", "a", "0 2 * * *", None),
            calendar("y", "a", "9 2 * * *", None),
            calendar("z", "a", "30 2 * * *", None),
        ];
        let day = |all: &[Calendar]| timeline(all, at("2026-11-20T00:00:00Z"), at("2026-11-20T12:00:00Z"));
        let plan = day(&all);
        assert_eq!((met(&plan, "x"), met(&plan, "z")), (vec![vec!["y".to_owned()]], vec![vec![]]));
        assert_eq!(plan.runs[0].seconds, None);
        let long = [calendar("x", "a", "*/15 * * * *", Some(1000))];
        assert_eq!(met(&day(&long), "x")[5], ["x"]);
        assert!(met(&day(&[calendar("x", "a", "*/5 * * * *", None)]), "x").concat().is_empty());
        assert_eq!((expected_seconds(&[]), expected_seconds(&[9, 1, 5])), (None, Some(5)));
    }

    #[test]
    fn lengths_of_any_size_are_planned_with() {
        let mut endless = calendar("endless", "a", "0 2 * * *", Some(u64::MAX));
        endless.hours = Some(WeeklyHours::parse("08:00-12:00").unwrap());
        let all = [endless, calendar("nightly", "a", "0 3 * * *", None)];
        let plan = timeline(&all, at("2026-11-20T00:00:00Z"), at("2026-11-20T12:00:00Z"));
        assert_eq!(met(&plan, "endless"), [["nightly", "endless"]]);
        assert!(plan.runs[0].in_production_hours);
    }

    #[test]
    fn a_period_is_bounded_and_respects_the_start() {
        let mut often = calendar("often", "a", "*/5 * * * * *", Some(1));
        let week = (at("2026-11-20T00:00:00Z"), at("2026-11-27T00:00:00Z"));
        let plan = timeline(std::slice::from_ref(&often), week.0, week.1);
        assert_eq!((plan.runs.len(), plan.cut), (MOST_RUNS, vec!["often".to_owned()]));
        assert_eq!(plan.runs[0].at, week.0);
        often.start = at("2026-11-20T00:00:05Z");
        assert_eq!(timeline(&[often], week.0, week.1).runs[0].at, at("2026-11-20T00:00:05Z"));
    }

    #[test]
    fn next_runs_say_the_local_time() {
        let mut target = calendar("n", "a", "30 2 * * *", Some(60));
        target.hours = Some(WeeklyHours::parse("Sat 02:00-04:00").unwrap());
        let json = serde_json::to_value(next_runs(
            &target,
            &[calendar("o", "a", "30 2 * * 0", None)],
            at("2026-03-27T12:00:00Z"),
            2,
        ))
        .unwrap();
        assert_eq!(
            json,
            serde_json::json!([
                {"at": "2026-03-28T01:30:00Z", "local": "2026-03-28T02:30:00+01:00", "overlaps": [], "in_production_hours": true},
                {"at": "2026-03-29T01:00:00Z", "local": "2026-03-29T03:00:00+02:00", "overlaps": ["o"], "in_production_hours": false},
            ])
        );
    }

    #[test]
    fn the_nearest_free_slot_meets_nothing() {
        let now = at("2026-11-20T12:00:00Z");
        let mut target = calendar("new", "a", "0 2 * * 1-5", Some(1800));
        let all = [calendar("nightly", "a", "0 2 * * *", Some(3600)), calendar("late", "a", "0 3 * * *", Some(3600))];
        let slot = nearest_free_slot(&target, &all, now).unwrap();
        // Half an hour before the nightly one begins.
        assert_eq!((slot.cron.as_str(), slot.moved_minutes), ("30 1 * * 1-5", -30));
        assert_eq!(slot.words, "on weekdays (Monday to Friday) at 01:30");
        target.hours = Some(WeeklyHours::parse("00:00-01:45").unwrap());
        assert_eq!(nearest_free_slot(&target, &all, now).unwrap().cron, "0 4 * * 1-5");
        target.hours = Some(WeeklyHours::parse("00:00-24:00").unwrap());
        assert_eq!(nearest_free_slot(&target, &all, now), None);
        // Nothing in the way: it can stay; and an hourly line moves its minute.
        assert_eq!(nearest_free_slot(&calendar("n", "b", "0 2 * * *", None), &all, now).unwrap().moved_minutes, 0);
        let hourly = nearest_free_slot(
            &calendar("n", "b", "@hourly", Some(300)),
            &[calendar("o", "b", "@hourly", Some(300))],
            now,
        );
        assert_eq!(hourly.unwrap().cron, "5 * * * *");
    }
}
