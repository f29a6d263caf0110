//! What can be restored to any moment, in words: for the strip, the lists, and the pages of services and backups.
//!
//! Ages and lags are told in minutes: an idle screen is drawn once a minute, and must not claim more than it knows.

use chrono::{DateTime, Utc};
use ratatui::style::Style;
use ratatui::text::Span;
use unicode_width::UnicodeWidthStr;

use super::details::Page;
use super::text::{fit, when, when_exactly};
use crate::domain::backup::{Backup, BackupState};
use crate::domain::pitr::{Archive, MarkKind, Status};
use crate::domain::text::{bytes, count, counted, duration, escape};
use crate::tui::action::Action;
use crate::tui::model::Model;
use crate::tui::recording::{Trouble, lag, trouble};

/// `< 1 min`, `3 min`, `2 h 05`.
fn minutes(seconds: u64) -> String {
    match seconds {
        0..60 => "< 1 min".into(),
        60..6_000 => format!("{} min", seconds / 60),
        s => duration(s),
    }
}

fn style(model: &Model, status: &Status) -> Style {
    let theme = &model.theme;
    match trouble(model, status) {
        Some(Trouble::Stopped) => theme.error,
        Some(Trouble::NoBase | Trouble::Behind) => theme.warn,
        None if status.ranges.is_empty() => theme.dim,
        None => theme.ok,
    }
}

/// How far back it goes: `6 d`.
fn reach(model: &Model, status: &Status) -> Option<String> {
    let oldest = status.ranges.first()?;
    Some(match (model.now - oldest.from).num_seconds().max(0) {
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => minutes(s as u64),
    })
}

/// `14:02:18`, with the day when it is another one.
fn second(model: &Model, at: DateTime<Utc>) -> String {
    let (at, now) = (at.with_timezone(&model.zone), model.now.with_timezone(&model.zone));
    at.format(if at.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%d %b %H:%M:%S" }).to_string()
}

/// `1 gap`, when it is not one range.
fn gaps(status: &Status) -> Option<String> {
    let gaps = status.ranges.len().saturating_sub(1);
    (gaps > 0).then(|| counted(gaps as u64, "gap"))
}

/// One line about a service: `recoverable 6 d → now (lag < 1 min)`, with less of it where there is less room. What can
/// still be restored comes before the reason why it is not recorded.
pub fn line(model: &Model, status: Option<&Status>, room: usize) -> (String, Style) {
    let Some(status) = status else { return (fit("no point in time", room), model.theme.dim) };
    let style = style(model, status);
    let trouble = trouble(model, status);
    let stopped = (trouble == Some(Trouble::Stopped)).then(|| match &status.error {
        Some(error) => format!("not recorded: {}", escape(error)),
        None => "not recorded".to_owned(),
    });
    let Some(reach) = reach(model, status) else {
        let text = match (stopped, status.waiting_base.is_some()) {
            (Some(stopped), _) if status.error.is_some() => stopped,
            (Some(stopped), _) => format!("no base yet, {stopped}"),
            (None, true) => "recoverable after the next slice".to_owned(),
            (None, false) => "no base yet".to_owned(),
        };
        return (fit(&text, room), style);
    };
    let lag = lag(model, status).unwrap_or(0);
    // Never "now": what can be restored ends with the last second that is stored.
    let until = status.ranges.last().map(|newest| second(model, newest.to)).unwrap_or_default();
    let whole = format!("recoverable {reach} → {until}");
    let short = format!("{reach} → {until}");
    // What there is no room for is left out, never cut: "recoverable …" says nothing.
    let text = [whole, short].into_iter().find(|text| text.width() <= room).unwrap_or(reach);
    if let Some(stopped) = stopped {
        // Less than its first words says nothing; the sign before the service says that something is wrong.
        let least = text.width() + " (not recorded…".width();
        let text = if least <= room { format!("{text} ({stopped})") } else { text };
        return (fit(&text, room), style);
    }
    let mut notes: Vec<String> = gaps(status).into_iter().collect();
    if status.beginning {
        notes.push("recording begins".to_owned());
    } else if trouble.is_none() {
        notes.push(format!("lag {}", minutes(lag)));
    }
    loop {
        let all = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        let text = format!("{text}{all}");
        if text.width() <= room || notes.pop().is_none() {
            return (fit(&text, room), style);
        }
    }
}

/// The cell of a list of services: `6 d, 1 gap, lag < 1 min`; what there is no room for is left out, never cut.
pub fn cell(model: &Model, status: Option<&Status>) -> (String, Style) {
    const ROOM: usize = 24;
    let Some(status) = status else { return ("-".into(), model.theme.dim) };
    let style = style(model, status);
    let trouble = trouble(model, status);
    if trouble == Some(Trouble::Stopped) {
        return ("! not recorded".into(), style);
    }
    let Some(reach) = reach(model, status) else {
        let text = if status.waiting_base.is_some() { "after the next slice" } else { "! no base yet" };
        return (text.into(), style);
    };
    let is_behind = trouble == Some(Trouble::Behind);
    let sign = if is_behind { "! " } else { "" };
    let gaps = gaps(status).map_or(String::new(), |g| format!(", {g}"));
    let lag = format!(", lag {}", minutes(lag(model, status).unwrap_or(0)));
    // Of one that is behind, by how much is worth more than how many gaps there are.
    let one = if is_behind { &lag } else { &gaps };
    let forms = [format!("{sign}{reach}{gaps}{lag}"), format!("{sign}{reach}{one}")];
    let text = forms.into_iter().find(|text| text.width() <= ROOM).unwrap_or_else(|| format!("{sign}{reach}"));
    (text, style)
}

/// What a schedule that keeps each change comes to: `< 1 min` of lag, `no base`, `stopped`.
pub fn state(model: &Model, status: Option<&Status>) -> (String, Style) {
    let Some(status) = status else { return ("starting".into(), model.theme.dim) };
    let style = style(model, status);
    if status.is_stopped() {
        return ("stopped".into(), style);
    }
    if status.beginning {
        return ("begins".into(), style);
    }
    if status.ranges.is_empty() {
        return ("no base".into(), style);
    }
    (minutes(lag(model, status).unwrap_or(0)), style)
}

/// Why nothing can be restored to a moment, and what changes that.
pub fn nothing_yet(model: &Model, status: &Status) -> String {
    if status.waiting_base.is_some() {
        return "the base is there: the next slice makes its moment recoverable".into();
    }
    let next = model
        .data
        .schedules
        .iter()
        .filter(|s| status.schedules.contains(&s.name))
        .filter_map(|s| Some((s.next_at?, &s.name)))
        .min();
    let take = match model.may_run_base(&status.service) {
        Ok(()) => format!("; {} takes one now", model.keymap.first(Action::TakeBase)),
        Err(_) => String::new(),
    };
    match (next, status.schedules.is_empty()) {
        (Some((at, name)), _) => format!("no base yet: {} is due {}{take}", escape(name), when(model, at)),
        (None, false) => format!("no base yet{take}"),
        (None, true) => "no base yet, and no schedule that takes one is on".into(),
    }
}

/// From and to which seconds a whole backup of the service leads, when any is complete after its moment.
fn seconds_after(model: &Model, backup: &Backup) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let at = backup.consistent_at_ts?;
    let status = model.pitr(&backup.service)?;
    if !status.bases.iter().any(|b| b.backup == backup.name) {
        return None;
    }
    let range = status.ranges.iter().find(|r| (r.from_ts..=r.to_ts).contains(&at))?;
    let from = at.to_datetime();
    // The last second that is stored is not complete: a base whose moment lies in it leads to that moment alone.
    (from <= range.to).then_some((from, range.to))
}

impl Page<'_> {
    /// To which moments a backup leads; one that is not whole leads to none.
    pub(super) fn recoverable_by(&mut self, backup: &Backup) {
        let model = self.model;
        if backup.state != BackupState::Succeeded {
            return;
        }
        let Some((from, to)) = seconds_after(model, backup) else {
            let only = match backup.consistent_at {
                Some(_) => "to the moment it is consistent at",
                None => "to no single moment",
            };
            return self.fact("Recoverable", only);
        };
        let text = format!("any second from {} to {}", when_exactly(model, from), when_exactly(model, to));
        self.fact_styled("Recoverable", Span::styled(text, model.theme.ok));
    }

    /// Everything about the point-in-time recovery of a service.
    pub(super) fn recoverable(&mut self, service: &str) {
        let model = self.model;
        let theme = &model.theme;
        self.heading("Point in time");
        let Some(status) = model.pitr(service) else {
            let key = model.keymap.first(Action::CreateSchedule);
            let text = format!("none: a schedule of that type keeps each change between backups (2, then {key})");
            return self.text(&text, theme.dim);
        };
        for (i, range) in status.ranges.iter().enumerate() {
            let label = if i == 0 { "Recoverable" } else { "and" };
            let (from, to) = (when_exactly(model, range.from), when_exactly(model, range.to));
            let last = i + 1 == status.ranges.len();
            let lag = lag(model, status).filter(|_| last).map_or(String::new(), |s| format!(", lag {}", minutes(s)));
            self.fact_styled(label, Span::styled(format!("from {from} to {to}{lag}"), style(model, status)));
        }
        if status.ranges.is_empty() {
            self.fact_styled("Recoverable", Span::styled(format!("! {}", nothing_yet(model, status)), theme.warn));
        }
        for gap in &status.gaps {
            // What is recorded again before the next base leads to no moment: for a person it belongs to the gap.
            let end = status.ranges.iter().map(|range| range.from).filter(|from| *from >= gap.to).min();
            let (from, to) = (when_exactly(model, gap.from), when_exactly(model, end.unwrap_or(gap.to)));
            let text = format!("! {from} to {to}: {}", model.say(&gap.reason));
            self.fact_styled("Gap", Span::styled(text, theme.warn));
        }
        self.slicing(status);
        let place = status.archive.as_ref().map(|a| {
            let folder = if a.folder.is_empty() { String::new() } else { format!(" / {}", escape(&a.folder)) };
            format!(" in {}{folder}", escape(&a.storage))
        });
        let slices = match status.slices {
            0 if status.archive.as_ref().is_some_and(Archive::is_by_engine) => {
                format!("kept by its engine{}", place.unwrap_or_default())
            }
            0 => "none yet".to_owned(),
            n => format!("{} of {}{}", count(n), bytes(status.size_bytes), place.unwrap_or_default()),
        };
        self.fact("Slices", slices);
        if let Some(newest) = status.bases.last() {
            let at = when_exactly(model, newest.consistent_at_ts.to_datetime());
            self.fact("Bases", format!("{}, the newest {} of {at}", status.bases.len(), escape(&newest.backup)));
        }
        let began = status.marks.iter().rev().filter(|m| m.kind == MarkKind::RestoreBegan);
        for (i, mark) in began.take(3).enumerate() {
            let at = when_exactly(model, mark.ts.to_datetime());
            self.fact(if i == 0 { "Restored" } else { "" }, format!("{at}: {}", escape(&mark.text)));
        }
        if !status.ranges.is_empty() && !model.look.read_only {
            let key = model.keymap.first(Action::RestoreService);
            self.fact("Restore", format!("{key} goes back to any of these moments"));
        }
    }

    fn slicing(&mut self, status: &Status) {
        let model = self.model;
        let theme = &model.theme;
        let (text, style) = match (status.running, status.schedules.is_empty()) {
            (true, _) if status.error.is_some() => ("✗ cannot store what it records", theme.error),
            (true, _) => ("✓ follows the oplog", theme.ok),
            (false, true) => ("off: no schedule of that type is on", theme.dim),
            (false, false) if status.beginning => ("◌ about to begin", theme.running),
            (false, false) => ("✗ stopped: nothing follows the oplog", theme.error),
        };
        self.fact_styled("Recording", Span::styled(text, style));
        if let Some(error) = &status.error {
            self.fact_styled("", Span::styled(escape(error), theme.error));
        }
        if let Some(hint) = status.hint.as_ref().filter(|_| status.error.is_some()) {
            self.fact_styled("What to do", Span::styled(model.say(hint), theme.command));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_told_in_minutes() {
        let told = [0, 59, 60, 125, 5_999, 7_500].map(minutes);
        assert_eq!(told, ["< 1 min", "< 1 min", "1 min", "2 min", "99 min", "2 h 05"]);
    }
}
