use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::domain::cron::Cron;

fn calendar(line: &str, zone: &str) -> Calendar {
    Calendar {
        schedule: line.into(),
        service: "a".into(),
        cron: Cron::parse(line).unwrap(),
        zone: zone.parse().unwrap(),
        start: at("2026-01-01T00:00:00Z"),
        seconds: None,
        hours: None,
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn situation(decided_until: &str, now: &str) -> Situation {
    Situation {
        now: at(now),
        decided_until: at(decided_until),
        grace: TimeDelta::hours(6),
        backup_enabled: true,
        already_reported_off: false,
        unfinished: None,
        paused_by: None,
        held_back: None,
        daemon_since: at(now),
        ahead_for: TimeDelta::zero(),
    }
}

fn told(due: &Due) -> Vec<String> {
    let line = |d: &Decision| match &d.verdict {
        Verdict::Run => format!("{} run", d.due_at.format("%d %H:%M")),
        Verdict::Skipped(why) => format!("{} skipped: {why}", d.due_at.format("%d %H:%M")),
        Verdict::Missed(why) => format!("{} missed: {why}", d.due_at.format("%d %H:%M")),
    };
    due.decisions.iter().map(line).collect()
}

#[test]
fn a_run_is_made_when_it_is_due_and_not_before() {
    let nightly = calendar("0 2 * * *", "UTC");
    let due = decide(&nightly, &situation("2026-11-20T02:00:00Z", "2026-11-21T01:59:59.999Z"));
    assert_eq!((told(&due), due.wake_at), (vec![], Some(at("2026-11-21T02:00:00Z"))));
    assert_eq!(due.decided_until, at("2026-11-20T02:00:00Z"));
    let due = decide(&nightly, &situation("2026-11-20T02:00:00Z", "2026-11-21T02:00:00Z"));
    assert_eq!((told(&due), due.wake_at), (vec!["21 02:00 run".into()], Some(at("2026-11-22T02:00:00Z"))));
    assert_eq!((due.decided_until, due.missed), (at("2026-11-21T02:00:00Z"), 0));
}

#[test]
fn nothing_runs_before_the_start_and_what_is_due_at_the_start_does() {
    let mut nightly = calendar("0 2 * * *", "UTC");
    nightly.start = at("2026-11-25T02:00:00Z");
    let waiting =
        Situation { ahead_for: TimeDelta::days(1), ..situation("2026-11-25T01:59:59.999Z", "2026-11-21T03:00:00Z") };
    let due = decide(&nightly, &waiting);
    assert_eq!((told(&due), due.wake_at, due.pulled_back), (vec![], Some(nightly.start), None));
    let due = decide(&nightly, &situation("2026-11-20T00:00:00Z", "2026-11-25T02:00:00Z"));
    assert_eq!((told(&due), due.missed), (vec!["25 02:00 run".into()], 0));
}

#[test]
fn missed_runs_are_made_once_within_the_grace_period() {
    let often = calendar("0 */2 * * *", "UTC");
    let due = decide(&often, &situation("2026-11-20T02:00:00Z", "2026-11-20T13:30:00Z"));
    assert_eq!(
        told(&due),
        ["20 10:00 missed: the daemon was not running; of 5 missed runs only the newest is made", "20 12:00 run"]
    );
    assert_eq!((due.missed, due.decided_until), (4, at("2026-11-20T12:00:00Z")));
    let asleep = Situation {
        daemon_since: at("2026-11-01T00:00:00Z"),
        ..situation("2026-11-20T08:00:00Z", "2026-11-20T13:30:00Z")
    };
    assert_eq!(
        told(&decide(&often, &asleep)),
        [
            "20 10:00 missed: the machine slept, or its clock was set forward; only the newest missed run is made",
            "20 12:00 run"
        ]
    );
}

#[test]
fn later_than_the_grace_period_they_are_only_listed() {
    let nightly = calendar("0 2 * * *", "UTC");
    let due = decide(&nightly, &situation("2026-11-20T02:00:00Z", "2026-11-21T08:00:00Z"));
    assert_eq!(told(&due), ["21 02:00 run"]);
    let due = decide(&nightly, &situation("2026-11-18T02:00:00Z", "2026-11-21T08:00:01Z"));
    assert_eq!(
        told(&due),
        [
            "21 02:00 missed: the daemon was not running, and it was 6h late when the grace period is 6h; 2 runs before it were missed too"
        ]
    );
    assert_eq!((due.missed, due.decided_until), (3, at("2026-11-21T02:00:00Z")));
    // However many there were.
    let seconds = calendar("* * * * * *", "UTC");
    let due = decide(&seconds, &situation("2026-01-01T00:00:00Z", "2026-11-21T08:00:00Z"));
    assert_eq!((due.decisions.len(), due.missed), (2, MOST_COUNTED));
    assert!(told(&due)[0].contains("of 1000 or more missed runs"), "{due:?}");
}

#[test]
fn without_a_grace_period_only_late_runs_are_missed() {
    let nightly = calendar("0 2 * * *", "UTC");
    let none = Situation { grace: TimeDelta::zero(), ..situation("2026-11-20T02:00:00Z", "2026-11-21T02:00:00.150Z") };
    assert_eq!(told(&decide(&nightly, &none)), ["21 02:00 run"]);
    let late = Situation { now: at("2026-11-21T02:05:00Z"), ..none };
    assert_eq!(
        told(&decide(&nightly, &late)),
        ["21 02:00 missed: the daemon was not running, and it was 5m late when the grace period is 0s"]
    );
}

#[test]
fn a_run_that_finds_the_previous_one_going_is_skipped() {
    let nightly = calendar("0 2 * * *", "UTC");
    let going = Situation { unfinished: Some(41), ..situation("2026-11-20T02:00:00Z", "2026-11-21T02:00:00Z") };
    assert_eq!(told(&decide(&nightly, &going)), ["21 02:00 skipped: the previous run, job 41, was not finished"]);
    let two = Situation { decided_until: at("2026-11-19T02:00:00Z"), ..going };
    let due = decide(&nightly, &two);
    assert_eq!(
        told(&due),
        ["21 02:00 skipped: the previous run, job 41, was not finished, nor for 1 runs before this one"]
    );
}

#[test]
fn a_restore_holds_runs_back_and_they_are_made_after_it() {
    let nightly = calendar("0 2 * * *", "UTC");
    let paused = Situation { paused_by: Some(7), ..situation("2026-11-20T02:00:00Z", "2026-11-21T02:00:00Z") };
    let due = decide(&nightly, &paused);
    assert_eq!((told(&due), due.decided_until, due.wake_at), (vec![], paused.decided_until, None));
    let held = Some(HeldBack { job: 7, from: at("2026-11-21T01:00:00Z"), until: at("2026-11-21T05:00:00Z") });
    let over = Situation { paused_by: None, held_back: held, now: at("2026-11-21T05:00:00Z"), ..paused };
    assert_eq!(told(&decide(&nightly, &over)), ["21 02:00 run"]);
    let late = Situation { now: at("2026-11-21T09:30:00Z"), ..over };
    assert_eq!(
        told(&decide(&nightly, &late)),
        ["21 02:00 missed: restore job 7 held it back, and it was 7h 30m late when the grace period is 6h"]
    );
}

#[test]
fn with_backup_management_off_one_record_says_so() {
    let often = calendar("*/5 * * * *", "UTC");
    let off = Situation { backup_enabled: false, ..situation("2026-11-20T02:00:00Z", "2026-11-20T02:05:00Z") };
    let due = decide(&often, &off);
    assert_eq!(told(&due), ["20 02:05 skipped: backup management is off (backup.enabled = false)"]);
    let again = Situation {
        already_reported_off: true,
        decided_until: due.decided_until,
        now: at("2026-11-20T02:10:00Z"),
        ..off
    };
    let due = decide(&often, &again);
    assert_eq!((told(&due), due.decided_until), (vec![], at("2026-11-20T02:10:00Z")));
    // Switched on, it makes nothing of what was skipped.
    let on =
        Situation { backup_enabled: true, decided_until: due.decided_until, now: at("2026-11-20T02:14:59Z"), ..again };
    assert_eq!(told(&decide(&often, &on)), Vec::<String>::new());
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_twice_and_does_not_stop_a_schedule_for_good() {
    let nightly = calendar("0 2 * * *", "UTC");
    // Set back by an hour over a run.
    let hour = situation("2026-11-21T02:00:00Z", "2026-11-21T01:30:00Z");
    assert_eq!(told(&decide(&nightly, &hour)), Vec::<String>::new());
    let again = Situation { now: at("2026-11-21T02:00:00Z"), ..hour };
    assert_eq!(
        (told(&decide(&nightly, &again)), decide(&nightly, &again).wake_at),
        (vec![], Some(at("2026-11-22T02:00:00Z")))
    );
    // It had been years ahead.
    let years = situation("2035-01-01T02:00:00Z", "2026-11-21T01:30:00Z");
    assert_eq!(decide(&nightly, &years).pulled_back, None);
    let settled = Situation { ahead_for: SETTLE, ..years };
    let due = decide(&nightly, &settled);
    assert_eq!((told(&due), due.decided_until, due.wake_at), (vec![], settled.now, Some(at("2026-11-21T02:00:00Z"))));
    let pulled = due.pulled_back.unwrap();
    assert!(pulled.forget && pulled.words.contains("2035-01-01T02:00:00Z"), "{pulled:?}");
    // A few hours: what was made meanwhile still counts.
    let hours = Situation { ahead_for: SETTLE, ..situation("2026-11-21T02:00:00Z", "2026-11-20T18:00:00Z") };
    assert!(!decide(&nightly, &hours).pulled_back.unwrap().forget);
    // No run lies between, so nothing is lost by waiting.
    let yearly = calendar("@yearly", "UTC");
    let between = Situation { ahead_for: SETTLE, ..situation("2026-12-24T00:00:00Z", "2026-11-20T18:00:00Z") };
    assert_eq!(decide(&yearly, &between).pulled_back, None);
}

/// One schedule of the simulation, with what the store would know of it.
struct Simulated {
    calendar: Calendar,
    decided_until: DateTime<Utc>,
    recorded: HashSet<DateTime<Utc>>,
    made: Vec<DateTime<Utc>>,
    /// Runs that a record which is not of a run that was made stands for.
    listed: usize,
    /// Runs that the record of another time kept from being made.
    known: usize,
    unfinished_until: Option<DateTime<Utc>>,
    ahead_since: Option<DateTime<Utc>>,
}

/// A year, or more, with a daemon that goes and comes, a machine that sleeps, and a clock that jumps if `jumps`.
struct Simulation {
    random: StdRng,
    schedules: Vec<Simulated>,
    /// True time, which nobody sees, and how far the clock is from it.
    time: DateTime<Utc>,
    offset: TimeDelta,
    daemon_since: DateTime<Utc>,
    absent_since: Option<DateTime<Utc>>,
}

const GRACE: TimeDelta = TimeDelta::hours(6);

impl Simulation {
    fn new(seed: u64) -> Self {
        let begin = at("2026-01-01T00:00:00Z");
        let lines = [
            ("*/30 * * * *", "Europe/Paris"),
            ("@hourly", "Australia/Lord_Howe"),
            ("0 2 * * *", "America/New_York"),
            ("30 2 * * *", "Europe/Paris"),
            ("0 */6 * * *", "America/Havana"),
            ("30 1 * * 1-5", "Europe/London"),
            ("15,45 2 * * 0", "Europe/Berlin"),
            ("0 0 1 * *", "Asia/Kathmandu"),
        ];
        let simulated = |(line, zone): &(&str, &str)| Simulated {
            calendar: calendar(line, zone),
            decided_until: begin,
            recorded: HashSet::new(),
            made: Vec::new(),
            listed: 0,
            known: 0,
            unfinished_until: None,
            ahead_since: None,
        };
        Self {
            random: StdRng::seed_from_u64(seed),
            schedules: lines.iter().map(simulated).collect(),
            time: begin,
            offset: TimeDelta::zero(),
            daemon_since: begin,
            absent_since: None,
        }
    }

    fn clock(&self) -> DateTime<Utc> {
        self.time + self.offset
    }

    /// The daemon looks; returns when it wants to look again, in true time.
    fn look(&mut self, jumps: bool) -> DateTime<Utc> {
        let now = self.clock();
        let mut wake = self.time + TimeDelta::hours(12);
        for s in &mut self.schedules {
            s.unfinished_until = s.unfinished_until.filter(|until| *until > self.time);
            s.ahead_since = if s.decided_until > now { s.ahead_since.or(Some(self.time)) } else { None };
            let situation = Situation {
                now,
                decided_until: s.decided_until,
                grace: GRACE,
                backup_enabled: true,
                already_reported_off: false,
                unfinished: s.unfinished_until.map(|_| 1),
                paused_by: None,
                held_back: None,
                daemon_since: self.daemon_since,
                ahead_for: s.ahead_since.map_or(TimeDelta::zero(), |since| self.time - since),
            };
            let due = decide(&s.calendar, &situation);
            let name = &s.calendar.schedule;
            if let Some(pulled) = &due.pulled_back {
                assert!(jumps, "{name} at {now}: {pulled:?}");
                if pulled.forget {
                    s.recorded.retain(|due_at| *due_at <= now);
                }
                s.decided_until = due.decided_until;
                s.ahead_since = None;
                wake = wake.min(self.time + TimeDelta::seconds(1));
                continue;
            }
            assert!(due.decided_until >= s.decided_until && due.decided_until <= now.max(s.decided_until), "{name}");
            // Each run between the marks is accounted for, once.
            let between = s.calendar.runs(s.decided_until, due.decided_until).take(MOST_COUNTED + 2).count();
            let own = due.decisions.iter().filter(|d| !matches!(d.verdict, Verdict::Missed(_))).count();
            if between <= MOST_COUNTED {
                assert_eq!(between, own + due.missed, "{name} at {now}: {due:?}");
            }
            for Decision { due_at, verdict } in &due.decisions {
                assert!(*due_at > s.decided_until && *due_at <= now, "{name} at {now}: {due:?}");
                assert_eq!(s.calendar.next_after(*due_at - TimeDelta::seconds(1)), Some(*due_at));
                if !s.recorded.insert(*due_at) {
                    s.known += 1;
                    continue;
                }
                let late = now - *due_at;
                match verdict {
                    Verdict::Run => {
                        assert!(late <= GRACE && s.unfinished_until.is_none());
                        // Nothing but an absence makes a run late.
                        let absent = self.absent_since.is_some_and(|since| since <= *due_at);
                        assert!(jumps || absent || late.is_zero(), "{name}: {due_at} made {late} late");
                        s.made.push(*due_at);
                        let minutes = if self.random.random_bool(0.02) { 600 } else { 5 };
                        s.unfinished_until = Some(self.time + TimeDelta::minutes(minutes));
                    }
                    Verdict::Skipped(_) => assert!(s.unfinished_until.is_some()),
                    Verdict::Missed(_) => {}
                }
            }
            s.listed += between - due.decisions.iter().filter(|d| d.verdict == Verdict::Run).count().min(between);
            s.decided_until = due.decided_until;
            // Nothing that is due is left over, unless the mark is ahead.
            assert!(due.wake_at.is_some_and(|at| at > now), "{name} at {now}: {due:?}");
            wake = wake.min(due.wake_at.unwrap() - self.offset);
            if s.ahead_since.is_some() {
                wake = wake.min(self.time + TimeDelta::minutes(1));
            }
        }
        self.absent_since = None;
        wake
    }

    fn run(&mut self, until: DateTime<Utc>, jumps: bool) {
        while self.time < until {
            // Awake for up to three days.
            let awake_until = self.time + TimeDelta::seconds(self.random.random_range(60..260_000));
            while self.time < awake_until {
                let wake = self.look(jumps);
                assert!(wake > self.time);
                self.time = wake.min(awake_until);
            }
            let away = match self.random.random_range(0..10) {
                0..6 => self.random.random_range(1..3_600),
                6..9 => self.random.random_range(3_600..90_000),
                _ => self.random.random_range(90_000..900_000),
            };
            self.absent_since = Some(self.clock());
            match self.random.random_range(0..3) {
                0 => {
                    self.time += TimeDelta::seconds(away);
                    self.daemon_since = self.clock();
                }
                1 => self.time += TimeDelta::seconds(away),
                _ if jumps => self.jump(),
                _ => {}
            }
        }
    }

    fn jump(&mut self) {
        let seconds = match self.random.random_range(0..4) {
            0 => 0,
            1 | 2 => self.random.random_range(-4 * 3_600..4 * 3_600),
            _ => self.random.random_range(-20 * 86_400..20 * 86_400),
        };
        self.offset = TimeDelta::seconds(seconds);
    }
}

#[test]
fn in_a_year_of_downtime_and_sleep_each_run_is_accounted_for_once() {
    for seed in 0..2 {
        let mut world = Simulation::new(seed);
        world.run(at("2027-01-01T00:00:00Z"), false);
        for s in &world.schedules {
            let due = s.calendar.runs(at("2026-01-01T00:00:00Z"), s.decided_until).count();
            assert_eq!(due, s.made.len() + s.listed, "{} with seed {seed}", s.calendar.schedule);
            assert_eq!(s.known, 0, "{} with seed {seed}: two looks at one run", s.calendar.schedule);
            assert!(s.made.is_sorted_by(|a, b| a < b));
            // Most of the time the daemon was there.
            assert!(s.made.len() * 10 > due * 5 && (due < 100 || s.listed > 0), "{} of {due}", s.made.len());
        }
    }
}

#[test]
fn clock_jumps_make_nothing_twice_and_stop_nothing_for_good() {
    let seed = 10;
    let mut world = Simulation::new(seed);
    world.run(at("2027-01-01T00:00:00Z"), true);
    for s in &world.schedules {
        let distinct: HashSet<_> = s.made.iter().collect();
        let again = s.made.len() - distinct.len();
        // Only what a clock that was more than a day ahead had made may come again.
        assert!(again * 4 < s.made.len().max(8), "{} with seed {seed}: {again}", s.calendar.schedule);
    }
    // The clock is right from now on: every run is made at its time, once the marks were pulled back.
    world.offset = TimeDelta::zero();
    world.absent_since = Some(world.clock());
    let settled = world.time + SETTLE + TimeDelta::minutes(2);
    let end = world.time + TimeDelta::days(40);
    while world.time < end {
        let wake = world.look(true);
        world.time = wake;
    }
    for s in &world.schedules {
        // A mark up to the grace period ahead, and what a clock a day ahead had made, is waited for.
        let right = settled + GRACE.max(FORGET);
        let due = s.calendar.runs(right, end - TimeDelta::days(1));
        let lost: Vec<_> = due.filter(|at| !s.recorded.contains(at)).take(3).collect();
        assert!(lost.is_empty(), "{} with seed {seed}: {lost:?}", s.calendar.schedule);
    }
}

#[test]
fn small_clock_jumps_never_make_a_run_twice() {
    let mut world = Simulation::new(77);
    let end = at("2026-07-01T00:00:00Z");
    while world.time < end {
        let jump = world.random.random_range(-3 * 3_600..3 * 3_600);
        let hold = world.time + TimeDelta::seconds(world.random.random_range(60..200_000));
        world.offset = TimeDelta::seconds(jump);
        world.absent_since = Some(world.clock());
        while world.time < hold {
            world.time = world.look(true).min(hold);
        }
    }
    for s in &world.schedules {
        let distinct: HashSet<_> = s.made.iter().collect();
        assert_eq!((distinct.len(), s.known), (s.made.len(), 0), "{}", s.calendar.schedule);
        assert!(s.made.is_sorted());
    }
}
