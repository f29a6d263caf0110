//! What becomes of the runs of a schedule that are due.
//!
//! One pure decision, taken with the time, the schedule and what is going on given from outside, so that a year can be
//! tested in seconds. Its rules:
//!
//! - Every run is decided once. The mark `decided_until` says how far; it moves to the newest run that was decided, and
//!   the caller stores both in one transaction.
//! - A run that is late by no more than the grace period is made now; of several, the newest, and one record lists the
//!   others as missed. One that is later is listed as missed.
//! - A run that finds the one before it unfinished is skipped. One that finds a restore into its service waits for its
//!   end, and is then a late run. With backup management off it is skipped, with one record until it is on again.
//! - A clock that was set back makes nothing twice: nothing is due before the mark. A mark that is ahead by more than
//!   the grace period is a clock that was wrong before or is wrong now. When it is still so after [`SETTLE`], which
//!   gives a machine that starts with a wrong clock the time to set it right, the mark is pulled back to now, so that
//!   no schedule stands still for as long as a clock was ahead. The store then keeps what was already made for a time
//!   that comes again from being made twice; but where the clock was ahead by more than [`FORGET`], those times are
//!   forgotten too, because days without a backup are worse than a second one.

use chrono::{DateTime, TimeDelta, Utc};

use super::retry::format_duration;
use super::schedule::Schedule;
use super::timeline::Calendar;

/// What becomes of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub due_at: DateTime<Utc>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Queued, unless the previous run turns out to be going on still: then it is skipped.
    Run,
    /// With the reason.
    Skipped(String),
    /// With the reason.
    Missed(String),
}

/// What is going on when a schedule is looked at.
#[derive(Debug, Clone)]
pub struct Situation {
    pub now: DateTime<Utc>,
    /// Every run that was due up to here, this moment included, is decided.
    pub decided_until: DateTime<Utc>,
    /// Setting `scheduler.missed_run_grace`.
    pub grace: TimeDelta,
    /// Setting `backup.enabled`.
    pub backup_enabled: bool,
    /// The newest record of the schedule already says that backup management is off.
    pub already_reported_off: bool,
    /// The job of its previous run, if that is not finished.
    pub unfinished: Option<i64>,
    /// The unfinished restore into its service.
    pub paused_by: Option<i64>,
    /// The last restore into its service that ended.
    pub held_back: Option<HeldBack>,
    /// Since when this daemon has been running.
    pub daemon_since: DateTime<Utc>,
    /// For how long the mark has been seen ahead of the clock, by a clock that nobody sets.
    pub ahead_for: TimeDelta,
}

/// A run that is later than this was not made at its time, whatever the grace period.
pub const PROMPT: TimeDelta = TimeDelta::minutes(1);
/// How long a mark that is far ahead is left alone.
pub const SETTLE: TimeDelta = TimeDelta::minutes(15);
/// Runs that were made by a clock which was ahead by more than this do not count as made when their time comes.
pub const FORGET: TimeDelta = TimeDelta::days(1);

/// A restore, and the time in which runs waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack {
    pub job: i64,
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

/// The outcome of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// In the order of their times: at most two.
    pub decisions: Vec<Decision>,
    /// How many runs the record of missed ones stands for, up to [`MOST_COUNTED`].
    pub missed: usize,
    /// Everything up to here is decided now.
    pub decided_until: DateTime<Utc>,
    /// The mark is pulled back.
    pub pulled_back: Option<PullBack>,
    /// When to look again, if nothing changes before. `None`: when something changes.
    pub wake_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullBack {
    /// For the log.
    pub words: String,
    /// What was made for times to come does not count as made.
    pub forget: bool,
}

/// More missed runs are not counted.
pub const MOST_COUNTED: usize = 1_000;

/// How the reason of a run begins that is skipped because backup management is off.
const OFF: &str = "backup management is off";

/// Whether the newest record of `schedule` already says that backup management is off.
pub fn already_reported_off(schedule: &Schedule) -> bool {
    schedule.last.as_ref().is_some_and(|last| last.error.as_deref().is_some_and(|error| error.starts_with(OFF)))
}

/// Decides what becomes of the runs of `calendar` that are due.
pub fn decide(calendar: &Calendar, s: &Situation) -> Due {
    let unchanged = Due {
        decisions: Vec::new(),
        missed: 0,
        decided_until: s.decided_until,
        pulled_back: None,
        wake_at: calendar.next_after(s.decided_until),
    };
    if s.decided_until > s.now {
        return pull_back(calendar, s).unwrap_or(unchanged);
    }
    let Some(newest) = calendar.last_until(s.decided_until, s.now) else { return unchanged };
    if s.paused_by.is_some() {
        return Due { wake_at: None, ..unchanged };
    }
    let decided = Due { decided_until: newest, wake_at: calendar.next_after(newest.max(s.now)), ..unchanged };
    let newest_is = |verdict| Decision { due_at: newest, verdict };
    if !s.backup_enabled {
        let told = || newest_is(Verdict::Skipped(format!("{OFF} (backup.enabled = false)")));
        let decisions = if s.already_reported_off { Vec::new() } else { vec![told()] };
        return Due { decisions, ..decided };
    }
    // Runs before the newest one that nobody decided.
    let earlier = calendar.runs(s.decided_until, newest - TimeDelta::seconds(1)).take(MOST_COUNTED).count();
    let late = s.now - newest;
    if late > s.grace.max(PROMPT) {
        let reason = format!(
            "{}, and it was {} late when the grace period is {}{}",
            absence(s, newest),
            long(late),
            long(s.grace),
            match earlier {
                0 => String::new(),
                1 => "; the run before it was missed too".into(),
                MOST_COUNTED => format!("; {MOST_COUNTED} or more runs before it were missed too"),
                n => format!("; {n} runs before it were missed too"),
            }
        );
        return Due { decisions: vec![newest_is(Verdict::Missed(reason))], missed: earlier + 1, ..decided };
    }
    if let Some(job) = s.unfinished {
        let others = if earlier > 0 { format!(", nor for {earlier} runs before this one") } else { String::new() };
        let reason = format!("the previous run, job {job}, was not finished{others}");
        return Due { decisions: vec![newest_is(Verdict::Skipped(reason))], missed: earlier, ..decided };
    }
    let mut decisions = Vec::new();
    if let Some(due_at) = calendar.last_until(s.decided_until, newest - TimeDelta::seconds(1)) {
        let count = match earlier {
            1 => "only the newest missed run is made".to_owned(),
            MOST_COUNTED => format!("of {MOST_COUNTED} or more missed runs only the newest is made"),
            n => format!("of {} missed runs only the newest is made", n + 1),
        };
        decisions.push(Decision { due_at, verdict: Verdict::Missed(format!("{}; {count}", absence(s, due_at))) });
    }
    decisions.push(newest_is(Verdict::Run));
    Due { decisions, missed: earlier, ..decided }
}

/// What to do about a mark that is ahead of the clock, if anything.
fn pull_back(calendar: &Calendar, s: &Situation) -> Option<Due> {
    let ahead = s.decided_until - s.now;
    // Before a start that is still to come, the mark is ahead and nothing is wrong.
    let waits_for_start = s.decided_until < calendar.start;
    if waits_for_start || ahead <= s.grace || s.ahead_for < SETTLE {
        return None;
    }
    // Nothing is lost as long as no run lies between.
    let next = calendar.next_after(s.now).filter(|at| *at <= s.decided_until)?;
    let words = format!(
        "its runs up to {} are decided, but the clock shows {} less: it was set back. Runs go on from now",
        s.decided_until.format("%Y-%m-%dT%H:%M:%SZ"),
        long(ahead),
    );
    Some(Due {
        decisions: Vec::new(),
        missed: 0,
        decided_until: s.now,
        pulled_back: Some(PullBack { words, forget: ahead > FORGET }),
        wake_at: Some(next),
    })
}

/// Why nobody looked when a run was due.
fn absence(s: &Situation, due_at: DateTime<Utc>) -> String {
    match s.held_back {
        Some(HeldBack { job, from, until }) if (from..=until).contains(&due_at) => {
            format!("restore job {job} held it back")
        }
        _ if due_at < s.daemon_since => "the daemon was not running".into(),
        _ => "the machine slept, or its clock was set forward".into(),
    }
}

/// A length of time in the words of the settings, to the minute when it is long.
fn long(length: TimeDelta) -> String {
    let seconds = u64::try_from(length.num_seconds()).unwrap_or(0);
    match seconds {
        0..600 => format_duration(seconds),
        600..172_800 => {
            let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
            match (hours, minutes) {
                (0, minutes) => format!("{minutes}m"),
                (hours, 0) => format!("{hours}h"),
                (hours, minutes) => format!("{hours}h {minutes}m"),
            }
        }
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
