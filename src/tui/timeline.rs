//! The pane of the coming runs: which stretch of time it shows, and what is known about it.
//!
//! It must never ask for the same twice: the answer holds until a schedule, a run or the hour changes.

use std::collections::HashMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use super::model::{Layer, Load, Model, Screen};
use super::msg::{Effect, Snapshot};
use crate::domain::job::JobKind;
use crate::domain::timeline::{FreeSlot, Timeline};

/// From this height on, and when the screen is wide, the pane stands below the list unless it is put away.
const TALL: u16 = 36;
const WIDE: u16 = 120;

/// How much of the future is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Span {
    #[default]
    Day,
    Week,
}

impl Span {
    pub fn hours(self) -> i64 {
        match self {
            Self::Day => 24,
            Self::Week => 7 * 24,
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Day => Self::Week,
            Self::Week => Self::Day,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct TimelinePane {
    /// A person wants it the other way than the size of the screen has it.
    pub flipped: bool,
    pub span: Span,
    pub runs: Option<Load<Timeline>>,
    /// The nearest free time of the schedules whose runs meet something, as far as it was asked for.
    pub free: HashMap<String, Option<FreeSlot>>,
    /// The stretch that was asked for last.
    asked: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

impl TimelinePane {
    /// Has the runs asked for again.
    pub(super) fn forget(&mut self) {
        self.asked = None;
        self.free.clear();
    }
}

impl Model {
    /// Whether there is room for list and timeline at once.
    pub fn has_room_for_both(&self) -> bool {
        self.size.0 >= WIDE && self.size.1 >= TALL
    }

    /// Whether the pane is on the screen when its list is.
    pub fn shows_timeline(&self) -> bool {
        self.screen == Screen::Schedules
            && !self.layers.iter().any(Layer::is_page)
            && !self.data.schedules.is_empty()
            && self.has_room_for_both() != self.timeline.flipped
    }

    /// What the pane shows: from the hour that has begun to the end of the hour that lies a day or week ahead, so that no
    /// minute of it is missing.
    pub fn timeline_window(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        let local = self.now.with_timezone(&self.zone);
        let hour = local.duration_trunc(TimeDelta::hours(1)).map_or(self.now, |t| t.to_utc());
        (hour, hour + TimeDelta::hours(self.timeline.span.hours() + 1))
    }

    /// The question for the coming runs, when the pane is shown and its answer is missing or old.
    pub(super) fn ask_timeline(&mut self) -> Option<Effect> {
        if !self.shows_timeline() || self.lost.is_some() {
            return None;
        }
        let window = self.timeline_window();
        if self.timeline.asked == Some(window) {
            return None;
        }
        self.timeline.asked = Some(window);
        if !matches!(self.timeline.runs, Some(Load::Ready(_))) {
            self.timeline.runs = Some(Load::Waiting);
        }
        Some(Effect::Timeline { from: window.0, until: window.1 })
    }

    /// The question for a free time of the selected schedule, when its runs meet something.
    pub(super) fn ask_free_slot(&mut self) -> Option<Effect> {
        let name = self.target_schedule().filter(|s| s.enabled && self.shows_timeline())?.name.clone();
        let Some(Load::Ready(timeline)) = &self.timeline.runs else { return None };
        let meets =
            timeline.runs.iter().any(|r| r.schedule == name && (!r.overlaps.is_empty() || r.in_production_hours));
        if !meets || self.timeline.free.contains_key(&name) {
            return None;
        }
        self.timeline.free.insert(name.clone(), None);
        Some(Effect::FreeSlot(name))
    }

    /// Has the runs asked for again when `next` may change them: progress alone does not.
    pub(super) fn forget_timeline(&mut self, next: &Snapshot) {
        let ended = |s: &Snapshot| s.jobs.iter().filter(|j| j.kind == JobKind::Backup && j.state.is_finished()).count();
        let old = &self.data;
        if old.schedules != next.schedules
            || old.services != next.services
            || old.settings != next.settings
            || ended(old) != ended(next)
        {
            self.timeline.forget();
        }
    }
}
