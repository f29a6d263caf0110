//! The coming runs as bars on lines of time, one line for each schedule of the list.
//!
//! What is wrong with a run is a sign of its own, so that it is seen without colours and in seven bits.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use unicode_width::UnicodeWidthStr;

use super::Areas;
use super::text::{cell, fit, put, spinner, when};
use crate::domain::text::{count, duration, escape};
use crate::domain::timeline::{PlannedRun, Timeline};
use crate::tui::action::Action;
use crate::tui::model::{Load, Model, Tab};
use crate::tui::timeline::Span as Window;

/// Lines below the lanes: what is to be said about the selected schedule, and what the signs mean.
pub const FOOT: u16 = 4;
/// Lines above the lanes: a rule with the title, and the hours or days.
const HEAD: u16 = 2;
/// At least so many lanes stand below the list.
const FEW: u16 = 3;

/// How high the pane below the list is, on a page of some height.
pub fn height(model: &Model, page: u16) -> u16 {
    let lanes = (model.list(Tab::Schedules).rows.len() as u16).max(FEW);
    (lanes + HEAD + FOOT).min(page / 2)
}

/// The signs of a lane, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Empty,
    Tick,
    Run,
    /// A run whose length nobody knows yet.
    Unknown,
    Unwelcome,
    Overlap,
}

impl Cell {
    fn sign(self) -> char {
        match self {
            Self::Empty => ' ',
            Self::Tick => '·',
            Self::Run => '█',
            Self::Unknown => '◆',
            Self::Unwelcome => '▒',
            Self::Overlap => '!',
        }
    }

    fn style(self, model: &Model) -> Style {
        match self {
            Self::Empty | Self::Tick => model.theme.dim,
            Self::Run | Self::Unknown => model.theme.running,
            Self::Unwelcome => model.theme.warn,
            Self::Overlap => model.theme.error,
        }
    }

    fn of(run: &PlannedRun) -> Self {
        match (run.overlaps.is_empty(), run.in_production_hours, run.seconds) {
            (false, _, _) => Self::Overlap,
            (true, true, _) => Self::Unwelcome,
            (true, false, Some(_)) => Self::Run,
            (true, false, None) => Self::Unknown,
        }
    }
}

/// A stretch of time on a number of columns.
#[derive(Debug, Clone, Copy)]
struct Scale {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    width: usize,
}

impl Scale {
    /// The column of a moment; outside of the stretch there is none.
    fn column(&self, at: DateTime<Utc>) -> Option<usize> {
        let total = (self.until - self.from).num_seconds().max(1);
        let past = (at - self.from).num_seconds();
        (0..total).contains(&past).then(|| (past as usize * self.width) / total as usize)
    }

    /// The columns of a run, at least one.
    fn columns(&self, run: &PlannedRun) -> Option<(usize, usize)> {
        let first = self.column(run.at)?;
        let end = run.at + TimeDelta::seconds(run.seconds.unwrap_or(0).min(1 << 30) as i64);
        // The last second belongs to the run, the moment after it no longer.
        let last = if end > run.at { self.column(end - TimeDelta::seconds(1)) } else { Some(first) };
        Some((first, last.unwrap_or(self.width.saturating_sub(1)).max(first)))
    }
}

/// The lane of one schedule.
fn lane<'a>(scale: Scale, ticks: &[usize], runs: impl Iterator<Item = &'a PlannedRun>) -> Vec<Cell> {
    let mut cells = vec![Cell::Empty; scale.width];
    for tick in ticks {
        if let Some(cell) = cells.get_mut(*tick) {
            *cell = Cell::Tick;
        }
    }
    for run in runs {
        let Some((first, last)) = scale.columns(run) else { continue };
        for cell in cells.iter_mut().take(last + 1).skip(first) {
            *cell = (*cell).max(Cell::of(run));
        }
    }
    cells
}

/// Columns and words of the hours or days.
fn ticks(model: &Model, scale: Scale) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut at = scale.from;
    while at < scale.until {
        let local = at.with_timezone(&model.zone);
        let label = match model.timeline.span {
            Window::Day if local.hour().is_multiple_of(3) => Some(local.format("%H:%M").to_string()),
            Window::Week if local.hour() == 0 => Some(local.format("%a %d").to_string()),
            _ => None,
        };
        if let (Some(label), Some(column)) = (label, scale.column(at)) {
            out.push((column, label));
        }
        at += TimeDelta::hours(1);
    }
    // Where there is room for it: days are what a person looks for.
    if model.timeline.span == Window::Week && out.first().is_none_or(|(column, _)| *column > 4) {
        out.insert(0, (0, "now".to_owned()));
    }
    out
}

/// The pane below the list.
pub fn pane(frame: &mut Frame, model: &Model, area: Rect) {
    if area.height <= HEAD + FOOT {
        return;
    }
    let theme = &model.theme;
    let title = format!("── {} ", title(model));
    let rule = "─".repeat(usize::from(area.width).saturating_sub(title.width()));
    let line = Line::from(vec![Span::styled(title, theme.title), Span::styled(rule, theme.border)]);
    put(frame, line, Rect { height: 1, ..area });
    let heading = Rect { y: area.y + 1, height: 1, ..area };
    let rows = Rect { y: area.y + HEAD, height: area.height - HEAD - FOOT, ..area };
    // The list may be longer than the pane; the selected one is always in it.
    let list = model.list(Tab::Schedules);
    let height = usize::from(rows.height);
    let offset =
        list.offset.max((list.selected + 1).saturating_sub(height)).min(list.rows.len().saturating_sub(height));
    lanes(frame, model, heading, rows, offset);
    foot(frame, model, Rect { y: area.bottom() - FOOT, height: FOOT, ..area });
}

/// In place of the list.
pub fn instead(frame: &mut Frame, model: &Model, areas: &Areas, foot_area: Rect) {
    lanes(frame, model, areas.heading, areas.rows, model.list(Tab::Schedules).offset);
    foot(frame, model, foot_area);
}

fn title(model: &Model) -> String {
    let (span, other) = match model.timeline.span {
        Window::Day => ("The coming day", "week"),
        Window::Week => ("The coming week", "day"),
    };
    format!("{span} ({}: {other})", model.keymap.first(Action::TimelineSpan))
}

/// Heading and lanes, with the names in front.
fn lanes(frame: &mut Frame, model: &Model, heading: Rect, rows: Rect, offset: usize) {
    let theme = &model.theme;
    let name_width = usize::from(heading.width / 4).clamp(12, 28);
    let width = usize::from(heading.width).saturating_sub(name_width + 4);
    let (from, until) = model.timeline_window();
    let scale = Scale { from, until, width };
    let ticks = ticks(model, scale);
    let mut axis = String::new();
    for (column, label) in &ticks {
        // A label that would run into the one before it, or out of the line, is left out.
        let room = axis.width() < *column || axis.is_empty();
        if room && column + label.width() <= width {
            axis.push_str(&" ".repeat(column - axis.width()));
            axis.push_str(label);
        }
    }
    let line = Line::from(vec![
        Span::styled(format!("  {:<name_width$}  ", model.zone.name()), theme.dim),
        Span::styled(axis, theme.dim),
    ]);
    put(frame, line, heading);
    let columns: Vec<usize> = ticks.iter().map(|(column, _)| *column).filter(|column| *column > 0).collect();
    let list = model.list(Tab::Schedules);
    let runs = known(model);
    for y in 0..rows.height {
        let at = offset + usize::from(y);
        let Some(schedule) = list.rows.get(at).and_then(|i| model.data.schedules.get(*i as usize)) else { break };
        let selected = at == list.selected;
        let name = cell(&escape(&schedule.name), name_width);
        let mut spans = vec![
            Span::styled(if selected { "▸ " } else { "  " }, theme.accent),
            Span::styled(format!("{name}  "), if schedule.enabled { theme.text } else { theme.dim }),
        ];
        let cells = lane(scale, &columns, runs.iter().filter(|r| r.schedule == schedule.name));
        if !schedule.enabled {
            spans.push(Span::styled("off", theme.dim));
        } else {
            for group in cells.chunk_by(|a, b| a == b) {
                let signs: String = group.iter().map(|c| c.sign()).collect();
                spans.push(Span::styled(signs, group[0].style(model)));
            }
        }
        let style = match (selected, model.layers.is_empty()) {
            (true, true) => theme.selected,
            (true, false) => theme.selected_idle,
            _ => Style::new(),
        };
        let place = Rect { y: rows.y + y, height: 1, ..rows };
        put(frame, Text::from(Line::from(spans)).style(style), place);
    }
}

fn known(model: &Model) -> &[PlannedRun] {
    match &model.timeline.runs {
        Some(Load::Ready(Timeline { runs, .. })) => runs,
        _ => &[],
    }
}

/// What is to be said about the selected schedule, and the meaning of the signs.
fn foot(frame: &mut Frame, model: &Model, area: Rect) {
    let theme = &model.theme;
    let width = usize::from(area.width);
    let room = usize::from(area.height.saturating_sub(1));
    let mut lines = match &model.timeline.runs {
        Some(Load::Failed(problem)) => vec![Line::styled(format!("✗ {}", model.say(&problem.message)), theme.error)],
        None | Some(Load::Waiting) => {
            vec![Line::styled(format!("{} looking ahead", spinner(model)), theme.running)]
        }
        Some(Load::Ready(timeline)) => said(model, timeline, width, room),
    };
    lines.truncate(room);
    lines.resize(room, Line::raw(""));
    let mut legend = Vec::new();
    for (cell, word) in [
        (Cell::Run, "a run"),
        (Cell::Unknown, "length not known yet"),
        (Cell::Overlap, "overlaps"),
        (Cell::Unwelcome, "in production hours"),
    ] {
        legend.push(Span::styled(format!("{} ", cell.sign()), cell.style(model)));
        legend.push(Span::styled(format!("{word}   "), theme.dim));
    }
    lines.push(Line::from(legend));
    put(frame, lines, area);
}

/// The selected schedule in words: how long, how often, and what is wrong with which run.
fn said(model: &Model, timeline: &Timeline, width: usize, room: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let Some(schedule) = model.target_schedule() else { return Vec::new() };
    let runs: Vec<&PlannedRun> =
        timeline.runs.iter().filter(|r| r.schedule == schedule.name && r.at >= model.now).collect();
    let name = escape(&schedule.name);
    if !schedule.enabled {
        return vec![Line::styled(fit(&format!("{name} is off, so it has no runs"), width), theme.dim)];
    }
    let Some(first) = runs.first() else {
        return vec![Line::styled(fit(&format!("{name} has no run in this time"), width), theme.dim)];
    };
    let long = match first.seconds {
        Some(0) => "less than a second each".to_owned(),
        Some(seconds) => format!("about {} each", duration(seconds)),
        None => "how long is known after the first one".to_owned(),
    };
    let cut = timeline.cut.contains(&schedule.name);
    let many = if cut {
        format!("more than {} runs", count(runs.len() as u64))
    } else if runs.len() == 1 {
        "1 run".to_owned()
    } else {
        format!("{} runs", count(runs.len() as u64))
    };
    let mut lines = vec![Line::raw(fit(&format!("{name}: {many}, {long}, next {}", when(model, first.at)), width))];
    let wrong: Vec<&&PlannedRun> = runs.iter().filter(|r| Cell::of(r) >= Cell::Unwelcome).collect();
    if wrong.is_empty() {
        lines.push(Line::styled(format!("✓ no run of {name} overlaps another, or lies in production hours"), theme.ok));
    }
    let free = model.timeline.free.get(&schedule.name).and_then(Option::as_ref);
    let shown = room.saturating_sub(1 + usize::from(free.is_some())).max(1);
    for (i, run) in wrong.iter().take(shown).enumerate() {
        let more = match i + 1 == shown && wrong.len() > shown {
            true => format!(" ({} such runs)", count(wrong.len() as u64)),
            false => String::new(),
        };
        let text = format!("! {}{more}", what_is_wrong(run, &when(model, run.at)));
        lines.push(Line::styled(fit(&text, width), Cell::of(run).style(model)));
    }
    if let Some(slot) = free.filter(|_| !wrong.is_empty()) {
        let key = model.keymap.first(Action::EditSchedule);
        let text = format!("  free is {} ({key} edits it, Ctrl-T takes that time)", escape(&slot.words));
        lines.push(Line::styled(fit(&text, width), theme.key));
    }
    lines
}

/// `22 Nov 02:00 overlaps weekly-46`, `... lies in production hours`; `at` is the time of the run in words.
pub fn what_is_wrong(run: &PlannedRun, at: &str) -> String {
    let mut parts = Vec::new();
    if !run.overlaps.is_empty() {
        parts.push(format!("overlaps {}", escape(&run.overlaps.join(", "))));
    }
    if run.in_production_hours {
        parts.push("lies in production hours".to_owned());
    }
    format!("{at} {}", parts.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn run(start: &str, seconds: Option<u64>) -> PlannedRun {
        PlannedRun {
            schedule: "a".into(),
            service: "s".into(),
            at: at(start),
            seconds,
            overlaps: Vec::new(),
            in_production_hours: false,
        }
    }

    #[test]
    fn runs_are_as_long_as_they_take() {
        let scale = Scale { from: at("2026-11-21T00:00:00Z"), until: at("2026-11-22T00:00:00Z"), width: 24 };
        let columns = |start: &str, seconds| scale.columns(&run(start, seconds));
        assert_eq!(columns("2026-11-21T02:00:00Z", Some(60)), Some((2, 2)));
        assert_eq!(columns("2026-11-21T02:00:00Z", Some(3_600)), Some((2, 2)));
        assert_eq!(columns("2026-11-21T02:00:00Z", Some(3_601)), Some((2, 3)));
        assert_eq!(columns("2026-11-21T02:30:00Z", None), Some((2, 2)));
        assert_eq!(columns("2026-11-21T23:00:00Z", Some(90_000)), Some((23, 23)), "it goes on beyond the edge");
        assert_eq!(columns("2026-11-20T23:59:59Z", Some(60)), None);
        assert_eq!(columns("2026-11-22T00:00:00Z", Some(60)), None);
    }

    #[test]
    fn what_is_wrong_covers_what_is_not() {
        let scale = Scale { from: at("2026-11-21T00:00:00Z"), until: at("2026-11-22T00:00:00Z"), width: 24 };
        let mut overlapping = run("2026-11-21T02:30:00Z", Some(60));
        overlapping.overlaps = vec!["b".into()];
        let runs = [overlapping, run("2026-11-21T02:00:00Z", Some(7_200)), run("2026-11-21T09:00:00Z", None)];
        let signs: String = lane(scale, &[0, 3, 6], runs.iter()).into_iter().map(Cell::sign).collect();
        assert_eq!(signs.trim_end(), "· !█  ·  ◆");
    }
}
