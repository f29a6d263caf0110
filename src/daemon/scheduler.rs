//! Schedules become jobs here, when they are due.
//!
//! What becomes of a run is decided in [`crate::domain::due`]; this asks at the right moments and stores the answer. It
//! looks when the next run is due, when the store has changed, when the clock was set back, and once a minute anyway.
//! It never sleeps until a time: the clock is compared again and again, so that neither a machine that slept nor a
//! clock that was set makes it late.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::{error, info, warn};

use crate::config::Settings;
use crate::domain::due::{self, Due, Situation, Verdict};
use crate::domain::retry::parse_duration;
use crate::domain::timeline::Calendar;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ScheduleState, Store};

/// While jobs write how far they are, the store changes all the time.
const BETWEEN_CHANGES: Duration = Duration::from_secs(1);
/// Settings are not in the store, and a mark that is ahead is left alone for a time.
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// A clock that is disciplined goes back a little all the time.
const SET_BACK: TimeDelta = TimeDelta::seconds(1);

/// What is remembered between two looks. Nothing of it matters for what is decided: that is in the store.
pub struct Scheduler {
    /// Since when this daemon has been running.
    since: DateTime<Utc>,
    /// By name, with what they were made of.
    calendars: HashMap<String, (Source, Calendar)>,
    /// Since when marks have been ahead of the clock.
    ahead: HashMap<String, Instant>,
    /// What keeps a schedule from being decided, as it was logged.
    troubles: HashMap<String, String>,
    /// The next run of all.
    wake_at: Option<DateTime<Utc>>,
    last: Option<Look>,
}

#[derive(Clone, Copy)]
struct Look {
    /// Of the store.
    version: u64,
    clock: DateTime<Utc>,
    at: Instant,
}

/// The fields of a schedule that decide when it runs.
#[derive(PartialEq, Eq)]
struct Source(String, String, DateTime<Utc>, String);

impl Scheduler {
    pub fn new(since: DateTime<Utc>) -> Self {
        Self {
            since,
            calendars: HashMap::new(),
            ahead: HashMap::new(),
            troubles: HashMap::new(),
            wake_at: None,
            last: None,
        }
    }

    /// Whether there may be something to do, now that the store has this `version`.
    pub fn is_time(&self, now: DateTime<Utc>, version: u64) -> bool {
        let Some(last) = self.last else { return true };
        let due = self.wake_at.is_some_and(|at| at <= now);
        let changed = version != last.version && last.at.elapsed() >= BETWEEN_CHANGES;
        due || changed || now < last.clock - SET_BACK || last.at.elapsed() >= AT_LEAST_EVERY
    }

    /// Looks next time whatever the time is: something changed that is neither in the store nor on the clock.
    pub fn look_again(&mut self) {
        self.last = None;
    }

    /// Whether a schedule was on when this looked last.
    pub fn is_needed(&self) -> bool {
        !self.calendars.is_empty()
    }

    /// Decides what is due, and returns whether anything was decided. `version` is the store's, from before the call.
    ///
    /// A schedule whose previous run is among the jobs `in_recovery`, which a daemon that died left behind, is left
    /// alone until it is known whether that run goes on. One that cannot be decided is logged and tried again within a
    /// minute; it does not keep the others.
    pub fn decide_due(
        &mut self,
        store: &Store,
        settings: &Settings,
        now: DateTime<Utc>,
        version: u64,
        in_recovery: &HashSet<i64>,
    ) -> Result<bool> {
        self.last = Some(Look { version, clock: now, at: Instant::now() });
        let states = store.schedules_on()?;
        let is_on = |name: &String| states.iter().any(|s| s.schedule.name == *name);
        self.calendars.retain(|name, _| is_on(name));
        self.ahead.retain(|name, _| is_on(name));
        self.troubles.retain(|name, _| is_on(name));
        self.wake_at = None;
        let mut decided = false;
        for state in states.iter().filter(|s| s.unfinished.is_none_or(|job| !in_recovery.contains(&job))) {
            let name = &state.schedule.name;
            match self.decide_one(store, settings, now, state) {
                Ok((any, wake_at)) => {
                    decided |= any;
                    self.wake_at = [self.wake_at, wake_at].into_iter().flatten().min();
                    self.troubles.remove(name);
                }
                Err(e) => {
                    // Once, not with every look.
                    let trouble = e.full();
                    if self.troubles.get(name) != Some(&trouble) {
                        error!(schedule = name, "cannot be decided: {trouble}");
                        self.troubles.insert(name.clone(), trouble);
                    }
                }
            }
        }
        Ok(decided)
    }

    fn decide_one(
        &mut self,
        store: &Store,
        settings: &Settings,
        now: DateTime<Utc>,
        state: &ScheduleState,
    ) -> Result<(bool, Option<DateTime<Utc>>)> {
        let schedule = &state.schedule;
        let name = schedule.name.as_str();
        let ahead_for = if state.decided_until > now {
            self.ahead.entry(name.to_owned()).or_insert_with(Instant::now).elapsed()
        } else {
            self.ahead.remove(name);
            Duration::ZERO
        };
        let situation = Situation {
            now,
            decided_until: state.decided_until,
            grace: grace(settings),
            backup_enabled: settings.backup_enabled(),
            already_reported_off: due::already_reported_off(schedule),
            unfinished: state.unfinished,
            paused_by: schedule.paused_by,
            held_back: None,
            daemon_since: self.since,
            ahead_for: TimeDelta::from_std(ahead_for).unwrap_or(TimeDelta::MAX),
        };
        let calendar = self.calendar(state)?;
        let mut due = due::decide(calendar, &situation);
        if due.decisions.iter().any(|d| matches!(d.verdict, Verdict::Missed(_))) {
            // Only the reason of a missed run depends on it.
            let held_back = store.last_restore_into(&schedule.service)?;
            due = due::decide(calendar, &Situation { held_back, ..situation });
        }
        let Due { decisions, decided_until, pulled_back, wake_at, .. } = due;
        if let Some(pulled_back) = pulled_back {
            if store.pull_back_schedule(name, state.decided_until, decided_until, pulled_back.forget)? {
                warn!(schedule = name, "{}", pulled_back.words);
            }
            self.ahead.remove(name);
        } else if decided_until != state.decided_until {
            let compression = settings.compression();
            let jobs = store.decide_schedule(name, state.decided_until, decided_until, &decisions, compression)?;
            for job in jobs.unwrap_or_default() {
                match &job.error {
                    None => info!(schedule = name, job = job.id, "due, queued"),
                    Some(why) => warn!(schedule = name, job = job.id, state = job.state.word(), "{why}"),
                }
            }
            return Ok((true, wake_at));
        }
        Ok((false, wake_at))
    }

    fn calendar(&mut self, state: &ScheduleState) -> Result<&Calendar> {
        let s = &state.schedule;
        let source = Source(s.cron.clone(), s.timezone.clone(), s.start, s.service.clone());
        if self.calendars.get(&s.name).is_none_or(|(known, _)| *known != source) {
            let calendar = Calendar::of(s, None, None)
                .map_err(|why| Error::new(ErrorKind::Invalid, format!("schedule {}: {why}", s.name)))?;
            self.calendars.insert(s.name.clone(), (source, calendar));
        }
        let (_, calendar) = self.calendars.get(&s.name).ok_or_else(|| Error::not_found("schedule", &s.name))?;
        Ok(calendar)
    }
}

fn grace(settings: &Settings) -> TimeDelta {
    // Checked when it was read.
    let text = settings.get("scheduler.missed_run_grace").unwrap_or_default();
    parse_duration(&text).ok().and_then(|d| TimeDelta::from_std(d).ok()).unwrap_or(TimeDelta::hours(6))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::stand;
    use super::*;
    use crate::config::Home;
    use crate::domain::job::{Job, JobState};
    use crate::domain::schedule::Schedule;
    use crate::store::Outcome;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    struct Stand {
        _dir: tempfile::TempDir,
        store: Store,
        scheduler: Scheduler,
        in_recovery: HashSet<i64>,
    }

    impl Stand {
        /// With a schedule `n` that runs at 02:00 UTC, of which nothing before `begin` is due.
        fn new(begin: &str) -> Self {
            let (dir, store) = stand::store();
            let schedule: Schedule = serde_json::from_value(serde_json::json!({
                "name": "n", "service": "a", "storage": "t", "folder": "a", "type": "full", "model": "logical",
                "compression": null, "cron": "0 2 * * *", "timezone": "UTC", "start": begin, "retention": {},
                "retry": {"mode": "manual", "retries": 0, "interval": 0}, "enabled": true, "created_at": begin,
                "next_at": null, "last": null, "paused_by": null,
            }))
            .unwrap();
            store.add_schedule(&schedule).unwrap();
            // As if it had been added at that time.
            let file = rusqlite::Connection::open(Home::below(dir.path()).store_file()).unwrap();
            file.execute("UPDATE schedules SET decided_until = ?1", [at(begin).timestamp_millis()]).unwrap();
            Self { _dir: dir, store, scheduler: Scheduler::new(at(begin)), in_recovery: HashSet::new() }
        }

        fn look(&mut self, now: &str) -> bool {
            self.look_with(now, &Settings::default())
        }

        fn look_with(&mut self, now: &str, settings: &Settings) -> bool {
            let version = self.store.data_version().unwrap();
            self.scheduler.decide_due(&self.store, settings, at(now), version, &self.in_recovery).unwrap()
        }

        /// When they were due, and what became of them, oldest first.
        fn runs(&self) -> Vec<(String, JobState)> {
            let told = |j: Job| (j.due_at.unwrap().format("%m-%d %H:%M").to_string(), j.state);
            self.store.jobs().unwrap().into_iter().rev().map(told).collect()
        }

        /// Ends the job that is queued, so that the next run is not skipped.
        fn end_job(&self) {
            let claimed = self.store.claim(1).unwrap().unwrap();
            self.store.finish(claimed.job.id, &Outcome::Failed(Error::new(ErrorKind::Denied, "no"))).unwrap();
        }
    }

    fn queued(day: &str) -> (String, JobState) {
        (format!("{day} 02:00"), JobState::Queued)
    }

    #[test]
    fn a_run_is_queued_when_it_is_due_and_only_once() {
        let mut stand = Stand::new("2026-03-01T00:00:00Z");
        assert!(!stand.look("2026-03-01T01:59:59Z"));
        assert_eq!(stand.scheduler.wake_at, Some(at("2026-03-01T02:00:00Z")));
        let version = stand.store.data_version().unwrap();
        assert!(!stand.scheduler.is_time(at("2026-03-01T01:59:59.900Z"), version));
        assert!(stand.scheduler.is_time(at("2026-03-01T02:00:00Z"), version));
        assert!(stand.look("2026-03-01T02:00:00Z"));
        assert!(!stand.look("2026-03-01T02:00:00Z"));
        // Another daemon's scheduler, which knows nothing, finds nothing to do either.
        stand.scheduler = Scheduler::new(at("2026-03-01T02:00:01Z"));
        assert!(!stand.look("2026-03-01T02:00:01Z"));
        assert_eq!(stand.runs(), [queued("03-01")]);
        assert!(stand.look("2026-03-02T02:00:00Z"));
        assert_eq!(stand.runs()[1], ("03-02 02:00".into(), JobState::Skipped));
    }

    #[test]
    fn a_clock_that_is_set_back_is_noticed_and_makes_nothing_twice() {
        let mut stand = Stand::new("2026-03-01T00:00:00Z");
        assert!(stand.look("2026-03-01T02:00:00Z"));
        stand.end_job();
        let version = stand.store.data_version().unwrap();
        stand.look("2026-03-01T02:00:01Z");
        assert!(!stand.scheduler.is_time(at("2026-03-01T02:00:00.5Z"), version));
        assert!(stand.scheduler.is_time(at("2026-03-01T01:00:00Z"), version));
        for now in ["2026-03-01T01:00:00Z", "2026-03-01T02:00:00Z", "2026-03-01T02:00:01Z"] {
            assert!(!stand.look(now), "{now}");
        }
        assert_eq!(stand.runs().len(), 1);
        // A day back, and pulled back: what was made keeps its record.
        stand.look("2026-02-28T12:00:00Z");
        let Some(since) = Instant::now().checked_sub(Duration::from_secs(1_000)) else { return };
        stand.scheduler.ahead.insert("n".into(), since);
        stand.look("2026-02-28T12:00:00Z");
        assert_eq!(stand.store.schedules_on().unwrap()[0].decided_until, at("2026-02-28T12:00:00Z"));
        stand.look("2026-03-01T02:00:00Z");
        assert_eq!(stand.runs(), [("03-01 02:00".into(), JobState::Failed)]);
        assert!(stand.look("2026-03-02T02:00:00Z"));
        assert_eq!(stand.runs()[1], queued("03-02"));
    }

    #[test]
    fn settings_count_at_the_time_of_the_run() {
        let mut stand = Stand::new("2026-03-01T00:00:00Z");
        let settings = |text| Settings::parse(Path::new("config.toml"), text).unwrap();
        let off = settings("backup.enabled = false");
        for day in ["2026-03-01T02:00:00Z", "2026-03-02T02:00:00Z", "2026-03-03T02:00:00Z"] {
            stand.look_with(day, &off);
        }
        assert_eq!(stand.runs(), [("03-01 02:00".into(), JobState::Skipped)]);
        // A night later, with a grace period of minutes.
        stand.look_with("2026-03-04T03:00:00Z", &settings("scheduler.missed_run_grace = '10m'"));
        assert_eq!(stand.runs()[1], ("03-04 02:00".into(), JobState::Missed));
        assert!(stand.look("2026-03-05T07:59:00Z"));
        assert_eq!(stand.runs()[2], queued("03-05"));
    }

    #[test]
    fn a_run_that_is_due_waits_until_the_end_of_one_that_a_dead_daemon_left() {
        let mut stand = Stand::new("2026-03-01T00:00:00Z");
        stand.look("2026-03-01T02:00:00Z");
        let left = stand.store.claim(1).unwrap().unwrap().job.id;
        // The next daemon comes when the next run is due.
        stand.in_recovery.insert(left);
        assert!(!stand.look("2026-03-02T02:10:00Z"));
        let died = Error::new(ErrorKind::Interrupted, "the daemon stopped unexpectedly during this attempt");
        stand.store.finish(left, &Outcome::Failed(died)).unwrap();
        stand.in_recovery.clear();
        assert!(stand.look("2026-03-02T02:10:01Z"));
        assert_eq!(stand.runs()[1], queued("03-02"));
    }

    #[test]
    fn one_schedule_that_cannot_be_read_does_not_keep_the_others() {
        let mut stand = Stand::new("2026-03-01T00:00:00Z");
        let broken = stand.store.schedule("n").unwrap();
        stand
            .store
            .add_schedule(&Schedule { name: "a-broken".into(), timezone: "Mars/Base".into(), ..broken })
            .unwrap();
        assert!(stand.look("2026-03-01T02:00:00Z"));
        assert_eq!(stand.runs(), [queued("03-01")]);
    }
}
