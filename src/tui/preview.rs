//! What a schedule would do, while it is still being typed: the meaning of its line, its next runs, and how they fit
//! with those of the others.
//!
//! What belongs to the words before is kept while the answer for those of now is not there, marked as that: nothing may be
//! taken from it.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::form::{Form, Purpose};
use super::model::{Load, Model};
use super::msg::Effect;
use crate::client::Values;
use crate::domain::cron::Cron;
use crate::domain::timeline::{FreeSlot, PlannedRun, Timeline};

/// How many of the next runs are shown.
pub const NEXT_RUNS: usize = 3;
/// How far the other schedules are looked at: a week and what comes once in it, or as far as the second next run.
const AHEAD: TimeDelta = TimeDelta::days(8);
const FURTHEST: TimeDelta = TimeDelta::days(63);
/// What the schedule is called while it has no name.
const NAMELESS: &str = "new-schedule";

#[derive(Debug, Clone)]
pub struct Preview {
    /// What it depends on.
    values: Values,
    /// The meaning of the crontab line, or what is wrong with it.
    pub words: Result<String, String>,
    pub zone: Option<Tz>,
    /// The next runs from the start time on.
    pub next: Vec<DateTime<Utc>>,
    /// Its runs beside those of the others.
    pub runs: Option<Load<Timeline>>,
    /// The nearest time at which they would meet nothing.
    pub free: Option<FreeSlot>,
    /// `runs` and `free` are those of other words: the answer for these is not there yet.
    pub is_old: bool,
    /// The next runs of the last line that made sense, while this one does not.
    pub before: Vec<DateTime<Utc>>,
}

impl Preview {
    /// Reads the line of a form that stands for a schedule.
    pub fn of(model: &Model, form: &Form) -> Self {
        let cron = Cron::parse(form.text("cron"));
        let zone = match form.text("timezone") {
            "" => Some(model.zone),
            "local" => Some(model.local_zone),
            name => name.parse().ok(),
        };
        let start = DateTime::parse_from_rfc3339(form.text("start")).ok().map(|t| t.to_utc());
        let mut next: Vec<DateTime<Utc>> = Vec::new();
        if let (Ok(cron), Some(zone)) = (&cron, zone) {
            // What is due at the very start is made.
            let mut after = start.map_or(model.now, |start| model.now.max(start - TimeDelta::milliseconds(1)));
            while next.len() < NEXT_RUNS
                && let Some(at) = cron.next_after(zone, after)
            {
                next.push(at);
                after = at;
            }
        }
        Self {
            values: values(form),
            words: cron.map(|c| c.words()),
            zone,
            next,
            runs: None,
            free: None,
            is_old: false,
            before: Vec::new(),
        }
    }

    /// Keeps what was known of the words before, so that it stays on the screen while a line is typed.
    pub fn keep(&mut self, known: &Self) {
        self.runs.clone_from(&known.runs);
        self.free.clone_from(&known.free);
        self.is_old = true;
        if self.words.is_err() {
            self.before.clone_from(if known.next.is_empty() { &known.before } else { &known.next });
        }
    }

    /// Whether the runs are those of the same words.
    pub fn is_same(&self, other: &Self) -> bool {
        self.values == other.values
    }

    /// The question how its runs fit with the others; none while the line makes no sense.
    pub fn asks(&self, model: &Model) -> Option<Effect> {
        let second = self.next.get(1).or(self.next.first())?;
        let ahead = (*second - model.now + TimeDelta::days(1)).clamp(AHEAD, FURTHEST);
        let (from, until) = (model.now, model.now + ahead);
        Some(Effect::Preview { from, until, values: self.values.clone() })
    }

    /// Takes in the answer, when it is about the same words.
    pub fn answered(&mut self, values: &Values, runs: Load<Timeline>, free: Option<FreeSlot>) {
        if self.values == *values {
            self.runs = Some(runs);
            self.is_old = false;
            // Where it is already is no proposal.
            self.free = free.filter(|slot| slot.moved_minutes != 0);
        }
    }

    /// What the schedule is called in the timeline.
    fn name(&self) -> &str {
        self.values.get("name").and_then(|texts| texts.first()).map_or(NAMELESS, String::as_str)
    }

    /// Its own runs among the others.
    pub fn own_runs(&self) -> impl Iterator<Item = &PlannedRun> {
        let timeline = match &self.runs {
            Some(Load::Ready(timeline)) => Some(timeline),
            _ => None,
        };
        timeline.into_iter().flat_map(|t| &t.runs).filter(|run| run.schedule == self.name())
    }
}

/// The part of a form's values that decides about runs.
fn values(form: &Form) -> Values {
    const DECIDES: [&str; 7] = ["name", "service", "storage", "model", "cron", "timezone", "start"];
    let mut values: Values = form.values().into_iter().filter(|(key, _)| DECIDES.contains(&key.as_str())).collect();
    let name = match &form.purpose {
        Purpose::EditSchedule(name) => name.clone(),
        _ if form.row("name").is_some_and(|r| !r.value().is_empty() && r.field.validate(r.value()).is_ok()) => {
            form.text("name").to_owned()
        }
        _ => NAMELESS.to_owned(),
    };
    values.insert("name".into(), vec![name]);
    values
}
