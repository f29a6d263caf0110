//! The list of schedules, what stands there when it is empty, and everything about one of them.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::details::Page;
use super::lists::type_words;
use super::recoverable;
use super::table::{Column, left, right};
use super::text::{age, ago, cell, countdown, fit, job_state, when, when_exactly};
use crate::domain::backup::{Backup, BackupType};
use crate::domain::cron::Cron;
use crate::domain::job::JobState;
use crate::domain::retention::{PlannedOplog, Retention, RetentionPlan};
use crate::domain::retry::{RetryMode, format_duration};
use crate::domain::schedule::{LastRun, Schedule};
use crate::domain::text::{bytes, count, counted, duration, escape};
use crate::tui::action::Action;
use crate::tui::model::{Load, Model};
use crate::tui::preview::NEXT_RUNS;
use crate::tui::service_strip::{SPARKS, size_of_run, spark};

/// Below this width the switch is a sign only; its word stands in the column of the next run then.
const NARROW: u16 = 90;
/// The width from which on every column has the room it needs.
pub const WHOLE: u16 = 116;
/// Lines below a narrow list, which say in full what its columns cut short.
pub const FOOT: u16 = 3;

/// The columns of a list so many columns wide: beyond what all need, names get half of the room.
pub fn columns(width: u16) -> [Column; 8] {
    let spare = (width.saturating_sub(80) / 3).min(16);
    let (switch, name) = if width < NARROW { (left("", 1, 99), 13) } else { (left("ON", 5, 99), 12 + spare) };
    [
        switch,
        left("NAME", name, 98).name(),
        left("SERVICE", 9 + spare / 4, 7).least(9),
        left("WHAT", 13, 2),
        left("WHEN", 18, 8).grow(),
        left("NEXT", 9, 9),
        left("LAST", 15, 10),
        right("KEEP", 5, 3),
    ]
}

pub fn cells(model: &Model, at: u32, width: u16) -> Vec<(String, Style)> {
    let theme = &model.theme;
    let sign_only = |(text, style): (String, Style)| (text.chars().take(1).collect(), style);
    let Some(schedule) = model.data.schedules.get(at as usize) else { return Vec::new() };
    let text = if schedule.enabled { theme.text } else { theme.dim };
    vec![
        if width < NARROW { sign_only(switch(model, schedule)) } else { switch(model, schedule) },
        (escape(&schedule.name), text),
        (escape(&schedule.service), theme.dim),
        what_and_how(model, schedule),
        (escape(model.when.get(at as usize).map_or("", String::as_str)), text),
        next(model, schedule),
        last(model, schedule),
        (keep(&schedule.retention), theme.dim),
    ]
}

/// Sign and word of the switch.
fn switch(model: &Model, schedule: &Schedule) -> (String, Style) {
    if schedule.enabled { ("● on".into(), model.theme.ok) } else { ("○ off".into(), model.theme.dim) }
}

/// `logical full`.
fn what(schedule: &Schedule) -> String {
    format!("{} {}", schedule.model.word(), type_words(schedule.backup_type))
}

/// Whether its runs are bases between which each change is kept.
fn keeps_each_change(schedule: &Schedule) -> bool {
    schedule.backup_type == BackupType::Pitr && schedule.enabled
}

/// What it makes, and where each change is kept, how that does: `point in time`, or what is wrong with it.
fn what_and_how(model: &Model, schedule: &Schedule) -> (String, Style) {
    if !keeps_each_change(schedule) {
        return (what(schedule), model.theme.dim);
    }
    let (state, style) = recoverable::state(model, model.pitr(&schedule.service));
    // The lag is said on the page of the service; here there is room for a trouble.
    let trouble = ["stopped", "no base"].contains(&state.as_str());
    (if trouble { state } else { type_words(BackupType::Pitr).to_owned() }, style)
}

/// When it runs next, or why it does not.
fn next(model: &Model, schedule: &Schedule) -> (String, Style) {
    let theme = &model.theme;
    if schedule.paused_by.is_some() && schedule.enabled {
        return ("‖ paused".into(), theme.warn);
    }
    match schedule.next_at {
        Some(at) => (until(model, at), theme.text),
        None if schedule.enabled && !model.backups_enabled() => ("! held".into(), theme.warn),
        None if schedule.enabled => ("! never".into(), theme.warn),
        None => ("off".into(), theme.dim),
    }
}

/// What the columns of a narrow list cut short, about the selected schedule.
pub fn foot(model: &Model, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let Some(schedule) = model.target_schedule() else { return Vec::new() };
    let at = model.data.schedules.iter().position(|s| s.name == schedule.name);
    let words = at.and_then(|i| model.when.get(i)).map_or("", String::as_str);
    let mut name = format!("{} backs up {}", escape(&schedule.name), escape(&schedule.service));
    if keeps_each_change(schedule) {
        let room = width.saturating_sub(unicode_width::UnicodeWidthStr::width(name.as_str()) + 2);
        name = format!("{name}: {}", recoverable::line(model, model.pitr(&schedule.service), room).0);
    }
    let next = schedule.next_at.map_or(String::new(), |at| format!(", next {}", when(model, at)));
    let wrong = schedule.last.as_ref().filter(|l| l.state != JobState::Succeeded).and_then(|l| l.error.as_ref());
    let last = match wrong {
        Some(error) => Line::styled(fit(&format!("! {}", escape(error)), width), theme.warn),
        None => {
            let text = format!("{} keeps {}", escape(&schedule.storage), rules(&schedule.retention));
            Line::styled(fit(&text, width), theme.dim)
        }
    };
    vec![
        Line::styled(fit(&name, width), theme.text),
        Line::styled(fit(&format!("{}{next}", escape(words)), width), theme.dim),
        last,
    ]
}

/// `in 12 min`, `in 3 h`, `in 6 d`, `now`.
fn until(model: &Model, at: chrono::DateTime<chrono::Utc>) -> String {
    // Rounded up, as a person waits: a minute that has begun is a minute.
    match (at - model.now).num_seconds() {
        ..=0 => "now".into(),
        s @ 1..3_600 => format!("in {} min", (s + 59) / 60),
        s @ 3_600..172_800 => format!("in {} h", s / 3_600),
        s => format!("in {} d", s / 86_400),
    }
}

/// Sign, word and age of the newest run.
fn last(model: &Model, schedule: &Schedule) -> (String, Style) {
    let theme = &model.theme;
    let Some(last) = &schedule.last else { return ("- never ran".into(), theme.dim) };
    let job = model.job(last.job);
    match (last.state, job) {
        (JobState::WaitingRetry, Some(job)) => {
            let wait = job.next_attempt_at.map_or(String::new(), |at| countdown(model, at));
            (format!("◌ retry {}", wait.trim_start_matches("in ")), theme.warn)
        }
        (JobState::Queued | JobState::Running, Some(job)) => job_state(model, job),
        (state, _) => {
            let (sign, style) = sign(model, state);
            (format!("{sign} {} {}", state.word(), age(model, last.finished_at.unwrap_or(last.at))), style)
        }
    }
}

fn sign(model: &Model, state: JobState) -> (&'static str, Style) {
    let theme = &model.theme;
    match state {
        JobState::Succeeded => ("✓", theme.ok),
        JobState::Failed => ("✗", theme.error),
        JobState::Missed => ("!", theme.warn),
        JobState::Cancelled => ("○", theme.dim),
        JobState::Skipped => ("-", theme.warn),
        JobState::Queued | JobState::Running | JobState::WaitingRetry => ("◌", theme.running),
    }
}

/// `all`, `7`, or `7+` when there are other rules besides the number.
fn keep(retention: &Retention) -> String {
    let only_count = *retention == (Retention { count: retention.count, ..Retention::default() });
    match (retention.keeps_all(), only_count, retention.count) {
        (true, _, _) => "all".into(),
        (_, true, n) => n.to_string(),
        (_, false, 0) => "rules".into(),
        (_, false, n) => format!("{n}+"),
    }
}

/// `the last 7, 4 weeks, 12 months, younger than 30d`: every rule.
pub fn rules(retention: &Retention) -> String {
    if retention.keeps_all() {
        return "all of them".into();
    }
    let mut parts = Vec::new();
    if retention.count > 0 {
        parts.push(format!("the last {}", count(u64::from(retention.count))));
    }
    for (n, what) in [
        (retention.keep_daily, "day"),
        (retention.keep_weekly, "week"),
        (retention.keep_monthly, "month"),
        (retention.keep_yearly, "year"),
    ] {
        if n > 0 {
            parts.push(format!("one for each of {}", counted(n.into(), what)));
        }
    }
    if retention.keep_within > 0 {
        parts.push(format!("those younger than {}", format_duration(retention.keep_within)));
    }
    parts.join(", ")
}

impl Page<'_> {
    /// Everything about a schedule: what is wrong first.
    pub(super) fn schedule(&mut self, name: &str) {
        let model = self.model;
        let theme = &model.theme;
        let Some(schedule) = model.schedule(name) else {
            return self.gone(&format!("The schedule {name} is gone."));
        };
        self.title(name);
        let (state, style) = switch(model, schedule);
        self.fact_styled("State", Span::styled(state, style));
        if let Some(id) = schedule.paused_by.filter(|_| schedule.enabled) {
            let text = format!("‖ paused by the restore of job {id}; it goes on by itself afterwards");
            self.fact_styled("", Span::styled(text, theme.warn));
        }
        if schedule.enabled && !model.backups_enabled() {
            let text = "! backup management is off: nothing runs until backup.enabled is true (Settings, General)";
            self.fact_styled("", Span::styled(text, theme.warn));
        }
        let at = model.data.schedules.iter().position(|s| s.name == name);
        let words = at.and_then(|i| model.when.get(i)).map_or("", String::as_str);
        self.fact("When", escape(words));
        self.fact("Crontab line", format!("{}   in {}", escape(&schedule.cron), escape(&schedule.timezone)));
        self.next_runs(schedule);
        self.last_run(schedule);
        self.last_runs(|b| b.schedule.as_deref() == Some(name));
        self.heading("What");
        self.fact("Service", escape(&schedule.service));
        let folder =
            if schedule.folder.is_empty() { String::new() } else { format!(" / {}", escape(&schedule.folder)) };
        self.fact("Storage", format!("{}{folder}", escape(&schedule.storage)));
        self.fact("Model", format!("{}, {}", schedule.model.word(), type_words(schedule.backup_type)));
        if keeps_each_change(schedule) {
            let (text, style) = recoverable::line(model, model.pitr(&schedule.service), usize::MAX);
            self.fact_styled("Point in time", Span::styled(text, style));
        }
        let patterns = |list: &[crate::domain::namespace::Pattern]| {
            list.iter().map(|p| escape(&p.to_string())).collect::<Vec<_>>().join(", ")
        };
        if !schedule.selection.include.is_empty() {
            self.fact("Included", patterns(&schedule.selection.include));
        }
        if !schedule.selection.exclude.is_empty() {
            self.fact("Excluded", patterns(&schedule.selection.exclude));
        }
        if let Some(compression) = schedule.compression {
            self.fact("Compression", compression.to_string());
        }
        let retry = match schedule.retry.mode {
            RetryMode::Manual => "manual".to_owned(),
            RetryMode::Auto => {
                format!("up to {} times, {} apart", schedule.retry.retries, duration(schedule.retry.interval))
            }
        };
        self.fact("Retry", retry);
        self.fact("Start", when_exactly(model, schedule.start));
        self.fact("Created", when_exactly(model, schedule.created_at));
        self.heading("Retention");
        self.fact("Kept", rules(&schedule.retention));
        match model.retention.get(name) {
            Some(Load::Ready(plan)) => self.retention(plan),
            Some(Load::Waiting) => self.text("Looking at its backups…", theme.dim),
            Some(Load::Failed(problem)) => self.text(&problem.message, theme.error),
            None => self.text("Enter shows what would go, and why each other one stays.", theme.dim),
        }
    }

    fn next_runs(&mut self, schedule: &Schedule) {
        let model = self.model;
        let (zone, cron) = (schedule.timezone.parse::<chrono_tz::Tz>(), Cron::parse(&schedule.cron));
        let (Ok(zone), Ok(cron)) = (zone, cron) else { return };
        if schedule.next_at.is_none() {
            return self.fact("Next runs", "none while it is off");
        }
        let mut after = schedule.next_at.map_or(model.now, |at| at - chrono::TimeDelta::seconds(1));
        for i in 0..NEXT_RUNS {
            let Some(at) = cron.next_after(zone, after) else { break };
            self.fact(if i == 0 { "Next runs" } else { "" }, when_exactly(model, at));
            after = at;
        }
    }

    /// Sizes of the last runs as a line, with a mark for each that failed.
    pub(super) fn last_runs(&mut self, is_of: impl Fn(&Backup) -> bool) {
        let model = self.model;
        let runs = model.data.backups.iter().filter(|b| is_of(b));
        let mut sizes: Vec<Option<u64>> = runs.filter_map(size_of_run).take(SPARKS).collect();
        if sizes.len() < 2 {
            return;
        }
        sizes.reverse();
        let failed = sizes.iter().filter(|size| size.is_none()).count();
        let words = if failed == 0 { String::new() } else { format!(", {failed} failed") };
        let text = format!("{}  the last {}{words}", spark(&sizes), sizes.len());
        self.fact_styled("Sizes", Span::styled(text, model.theme.accent));
    }

    fn last_run(&mut self, schedule: &Schedule) {
        let model = self.model;
        let Some(last) = &schedule.last else { return self.fact("Last run", "it never ran") };
        let job = model.job(last.job).filter(|j| !j.state.is_finished());
        match job {
            Some(job) => {
                let (state, style) = job_state(model, job);
                self.fact_styled("Last run", Span::styled(state, style));
            }
            None => {
                let (sign, style) = sign(model, last.state);
                let text = format!("{sign} {} {}", last.state.word(), ago(model, last.finished_at.unwrap_or(last.at)));
                self.fact_styled("Last run", Span::styled(text, style));
            }
        }
        self.fact("", format!("job {}, due {}", last.job, when_exactly(model, last.at)));
        if let Some(backup) = &last.backup {
            self.fact("", format!("backup {}", escape(backup)));
        }
        self.last_error(last);
    }

    fn last_error(&mut self, last: &LastRun) {
        let model = self.model;
        let Some(error) = &last.error else { return };
        self.fact_styled("Error", Span::styled(escape(error), model.theme.error));
        let job = model.job(last.job);
        if let Some(hint) = job.and_then(|j| j.hint.as_deref()) {
            self.fact_styled("What to do", Span::styled(model.say(hint), model.theme.warn));
        }
        if last.state == JobState::Failed {
            let key = model.keymap.first(Action::RetryRun);
            self.fact("Retry", format!("{key} tries job {} again", last.job));
        }
    }

    /// Which oplog slices the next run deletes, and where the recoverable window begins then.
    fn retention_of_oplog(&mut self, oplog: &PlannedOplog) {
        let model = self.model;
        let goes = match oplog.slices {
            0 => "No oplog slice is deleted".to_owned(),
            1 => format!("The next run deletes 1 oplog slice ({})", bytes(oplog.size_bytes)),
            n => format!("The next run deletes {} oplog slices ({})", count(n), bytes(oplog.size_bytes)),
        };
        let window = oplog.from.map_or_else(String::new, |from| {
            let then = if oplog.slices > 0 { " then" } else { "" };
            format!("; the recoverable window begins at {}{then}", when_exactly(model, from))
        });
        self.text(&format!("{goes}{window}."), model.theme.text);
    }

    /// What would go, and why each other one stays.
    fn retention(&mut self, plan: &RetentionPlan) {
        let model = self.model;
        let theme = &model.theme;
        if let Some(oplog) = &plan.oplog {
            self.retention_of_oplog(oplog);
        }
        for warning in &plan.warnings {
            self.text(&format!("! {}", escape(warning)), theme.warn);
        }
        for backup in &plan.deleting {
            let place = format!("{}/{}", escape(&backup.storage), escape(&backup.folder));
            let why = backup.error.as_ref().map_or_else(String::new, |error| format!(": {}", escape(error)));
            self.text(&format!("✗ {} in {place} is being deleted{why}", escape(&backup.name)), theme.warn);
        }
        if plan.backups.is_empty() {
            return self.text("It has no backups yet.", theme.dim);
        }
        let schedule = model.data.schedules.iter().find(|s| s.name == plan.schedule);
        let going = plan.going().count();
        let text = match going {
            0 => format!("All {} stay:", plan.backups.len()),
            n => format!("{n} of {} go{} next, the others stay:", plan.backups.len(), if n == 1 { "es" } else { "" }),
        };
        self.text(&text, theme.text);
        let name_width = self.width.saturating_sub(34).clamp(12, 44);
        for backup in &plan.backups {
            let (sign, word, style) =
                if backup.keep { ("✓", "stays", theme.ok) } else { ("✗", "goes", theme.warn) };
            let name = cell(&escape(&backup.name), name_width);
            self.lines.push(Line::from(vec![
                Span::styled(format!("{sign} {word:<5} "), style),
                Span::raw(format!("{name}  ")),
                Span::raw(format!("{:>8}  ", backup.size_bytes.map_or("-".into(), bytes))),
                Span::styled(when(model, backup.at), theme.dim),
            ]));
            // Where it is need not be said of those that lie where the schedule puts them now.
            let elsewhere = schedule.is_none_or(|s| s.storage != backup.storage || s.folder != backup.folder);
            let place = elsewhere.then(|| format!("in {}/{}", backup.storage, backup.folder));
            let words: Vec<String> = backup.reasons.iter().chain(&backup.error).chain(&place).cloned().collect();
            for part in super::text::wrap(&self.model.say(&words.join("; ")), self.width.saturating_sub(8)) {
                self.lines.push(Line::styled(format!("        {part}"), theme.dim));
            }
        }
    }

    /// A schedule in one line, for the page of its service.
    pub(super) fn schedule_line(&mut self, at: usize) {
        let model = self.model;
        let Some(schedule) = model.data.schedules.get(at) else { return };
        let (switch, switch_style) = switch(model, schedule);
        let (next, next_style) = next(model, schedule);
        let (last, last_style) = last(model, schedule);
        let words = model.when.get(at).map_or("", String::as_str);
        let rest = self.width.saturating_sub(40);
        let (name_width, when_width) = (rest / 2, rest - rest / 2);
        let cell = |text: &str, width: usize| format!("{}  ", cell(text, width));
        self.lines.push(Line::from(vec![
            Span::styled(cell(&switch, 5), switch_style),
            Span::raw(cell(&escape(&schedule.name), name_width)),
            Span::styled(cell(&escape(words), when_width), model.theme.dim),
            Span::styled(cell(&next, 9), next_style),
            Span::styled(fit(&last, 16), last_style),
        ]));
    }
}
