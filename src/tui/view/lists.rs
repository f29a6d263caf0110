//! The lists behind the tabs, and what stands beside them.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::table::{self, Column, left, right};
use super::text::{age, ago, bar, cell, job_state, put, row_state, spinner, when, wrap};
use super::{Areas, details, empty, recoverable, schedules, timeline};
use crate::client::StorageView;
use crate::domain::backup::{Backup, BackupType};
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::job::{Job, JobKind, JobState};
use crate::domain::text::{bytes, count, counted, escape};
use crate::tui::action::Action;
use crate::tui::model::{BackupRow, Load, Model, Tab};
use crate::tui::reach::ServiceLook;

/// What a state needs: `⠋ running 62 %`, `✗ verify failed`.
const STATE: u16 = 15;

const BACKUPS: &[Column] = &[
    left("NAME", 18, 99).name(),
    left("SERVICE", 12, 7).least(9),
    left("MODEL", 8, 2),
    left("TYPE", 4, 1),
    left("STATE", 18, 10).least(STATE),
    right("SIZE", 8, 8),
    right("DATA", 8, 3),
    left("CONSISTENT AT", 13, 5),
    right("AGE", 6, 9),
];

const JOBS: &[Column] = &[
    left("BACKUP, SCHEDULE", 18, 99).name(),
    right("JOB", 5, 7),
    left("KIND", 9, 8),
    left("SERVICE", 12, 5).least(9),
    left("STATE", 18, 10).least(STATE),
    right("DONE", 8, 4),
    right("ATTEMPT", 7, 2),
    right("AGE", 6, 6),
];

const STORAGES: &[Column] = &[
    left("NAME", 12, 99).name(),
    left("TYPE", 10, 6),
    left("WHERE", 22, 8).grow().end(),
    right("BACKUPS", 7, 3),
    right("HELD", 8, 6),
    left("LAST TEST", 15, 7),
];

const SERVICES: &[Column] = &[
    left("NAME", 16, 99).name(),
    left("STATE", 14, 10),
    left("SERVER", 22, 6),
    left("LAST GOOD", 14, 9).least(11),
    left("RECOVERABLE", 24, 8),
    right("BACKUPS", 7, 5),
    left("CONNECTION", 32, 3).least(16).grow(),
];

const SETTINGS: &[Column] = &[left("SETTING", 22, 99), left("VALUE", 22, 9).grow(), left("KEY", 27, 3)];
const KEYS: &[Column] = &[left("ACTION", 44, 99), left("KEYS", 20, 9), left("WHERE", 18, 3)];

/// How wide the list of a tab has to be to show all of its columns.
pub fn needed(model: &Model, tab: Tab) -> u16 {
    // Of longer names the details beside the list say the rest.
    let longest = model.list(tab).longest.min(table::CLAIM);
    let width = |c: &Column| if c.is_name { c.width.max(longest) } else { c.least };
    let sum = |columns: &[Column]| columns.iter().map(|c| width(c) + 2).sum::<u16>() + 1;
    match tab {
        Tab::Backups => sum(&with_countdown(model, BACKUPS, false)),
        Tab::Restores | Tab::Jobs => sum(&with_countdown(model, JOBS, false)),
        Tab::Storages => sum(STORAGES),
        Tab::Services => sum(SERVICES),
        Tab::Schedules => sum(&schedules::columns(schedules::WHOLE)),
        Tab::General | Tab::Notifications | Tab::Appearance => sum(SETTINGS),
        Tab::Keys => sum(KEYS),
        Tab::About => 0,
    }
}

/// Columns of a bar beside the state of what runs.
const BAR: usize = 10;

/// Whether the list has room for a bar beside the state of what runs.
fn has_bars(model: &Model, tab: Tab, width: u16) -> bool {
    width >= needed(model, tab) + (18 - STATE) + BAR as u16 + 2 && model.running_jobs().next().is_some()
}

/// The state with a bar behind it.
fn with_bar(model: &Model, (text, style): (String, Style), job: Option<&Job>, has_bars: bool) -> (String, Style) {
    let Some(progress) = job.filter(|_| has_bars).map(|j| &j.progress).filter(|p| p.fraction().is_some()) else {
        return (text, style);
    };
    let bar: String = bar(model, progress, BAR).iter().map(|span| span.content.as_ref()).collect();
    (format!("{} {bar}", cell(&text, 17)), style)
}

pub fn draw(frame: &mut Frame, model: &Model, areas: &Areas) {
    let tab = model.tab();
    let list = model.list(tab);
    if list.rows.is_empty() {
        return empty::draw(frame, model, areas.page);
    }
    if let Some(area) = areas.foot {
        let width = usize::from(area.width);
        let lines = if tab == Tab::Schedules { schedules::foot(model, width) } else { setting_foot(model, width) };
        put(frame, lines, area);
    }
    if let Some(area) = areas.timeline {
        if !model.has_room_for_both() {
            return timeline::instead(frame, model, areas, area);
        }
        timeline::pane(frame, model, area);
    }
    let table = |frame: &mut Frame, columns: &[Column], cells: &dyn Fn(u32) -> Vec<(String, Style)>| {
        table::draw(frame, model, list, areas.heading, areas.rows, columns, cells);
    };
    match tab {
        Tab::Backups => {
            let bars = has_bars(model, tab, areas.heading.width);
            table(frame, &with_countdown(model, BACKUPS, bars), &|at| backup_cells(model, at, bars));
        }
        Tab::Restores | Tab::Jobs => {
            let bars = has_bars(model, tab, areas.heading.width);
            table(frame, &with_countdown(model, JOBS, bars), &|at| job_cells(model, at, bars));
        }
        Tab::Storages => table(frame, STORAGES, &|at| storage_cells(model, at)),
        Tab::Services => table(frame, &with_moments(model, SERVICES), &|at| service_cells(model, at)),
        Tab::Schedules => {
            let width = areas.heading.width;
            table(frame, &schedules::columns(width), &|at| schedules::cells(model, at, width));
        }
        Tab::General | Tab::Notifications | Tab::Appearance => table(frame, SETTINGS, &|at| setting_cells(model, at)),
        Tab::Keys => table(frame, KEYS, &|at| key_cells(model, at)),
        Tab::About => {}
    }
    if let Some(side) = areas.side
        && let Some(target) = model.target()
    {
        let inner = Rect { x: side.x + 1, width: side.width.saturating_sub(1), ..side };
        let mut lines = details::lines(model, &target, inner.width);
        // The log is at the end and is what moves; when not all fits, its newest lines stay.
        let room = usize::from(inner.height);
        if lines.len() > room && room > 0 {
            let mut keep = details::LEADING.min(room / 2);
            // A value of several lines stays whole, or goes whole.
            let goes_on = |line: &Line| line.spans.first().is_some_and(|label| label.content.trim().is_empty());
            while keep > 1 && goes_on(&lines[keep]) {
                keep -= 1;
            }
            let tail = lines.split_off(lines.len() - (room - keep - 1));
            lines.truncate(keep);
            lines.push(Line::styled("…  Enter shows everything", model.theme.dim));
            lines.extend(tail);
        }
        put(frame, lines, inner);
    }
}

/// The columns, with room for a countdown or for bars while there are some.
fn with_countdown(model: &Model, columns: &[Column], bars: bool) -> Vec<Column> {
    let counting = model.unfinished().any(|j| j.state == JobState::WaitingRetry);
    let width = if bars { 18 + BAR as u16 } else { 23 };
    let wide = |c: &Column| Column { width, least: width, ..*c };
    let wider = |c: &Column| if (counting || bars) && c.title == "STATE" { wide(c) } else { *c };
    columns.iter().map(wider).collect()
}

/// The columns, without a claim to room for what can be restored to any moment while nothing can.
fn with_moments(model: &Model, columns: &[Column]) -> Vec<Column> {
    let none = model.data.pitr.is_empty();
    let weaker = |c: &Column| if none && c.title == "RECOVERABLE" { Column { keep: 1, ..*c } } else { *c };
    columns.iter().map(weaker).collect()
}

fn backup_cells(model: &Model, at: u32, bars: bool) -> Vec<(String, Style)> {
    let theme = &model.theme;
    let Some(row) = model.backup_row(at) else { return Vec::new() };
    let of_row = match row {
        BackupRow::Backup(_, job) => job,
        BackupRow::Pending(job) => Some(job),
    };
    let state = with_bar(model, row_state(model, row), of_row, bars);
    match row {
        BackupRow::Backup(backup, job) => {
            let running = job.filter(|j| j.kind == crate::domain::job::JobKind::Backup);
            // What is stored is known when all is stored; what was read meanwhile is another number.
            let size = backup.size_bytes.filter(|_| running.is_none()).map_or("-".into(), bytes);
            let data = match running {
                Some(job) => bytes(job.progress.bytes_done),
                None => backup.uncompressed_bytes.map_or("-".into(), bytes),
            };
            // In front, where a long name does not push it out of the column.
            let pin = if backup.pinned { "⚑ " } else { "" };
            vec![
                (format!("{pin}{}", escape(&backup.name)), theme.text),
                (escape(&backup.service), theme.dim),
                (model_word(backup).into(), theme.dim),
                (type_word(backup).into(), theme.dim),
                state,
                (size, theme.text),
                (data, theme.dim),
                (backup.consistent_at.map_or("-".into(), |t| when(model, t)), theme.text),
                (backup.begun_at().map_or("-".into(), |at| age(model, at)), theme.dim),
            ]
        }
        BackupRow::Pending(job) => vec![
            (escape(job.backup.as_deref().unwrap_or("-")), theme.text),
            (escape(job.service.as_deref().unwrap_or("-")), theme.dim),
            ("-".into(), theme.dim),
            ("-".into(), theme.dim),
            state,
            ("-".into(), theme.text),
            (bytes(job.progress.bytes_done), theme.dim),
            ("-".into(), theme.dim),
            (age(model, job.created_at), theme.dim),
        ],
    }
}

pub fn model_word(backup: &Backup) -> &'static str {
    backup.model.word()
}

/// The same in a column: a base snapshot of point-in-time recovery is a base.
fn type_word(backup: &Backup) -> &'static str {
    match backup.backup_type {
        BackupType::Pitr => "base",
        other => type_words(other),
    }
}

/// A type of backups, as a person reads it.
pub fn type_words(of: BackupType) -> &'static str {
    match of {
        BackupType::IncrementalBase => "base",
        BackupType::Incremental => "increment",
        BackupType::Pitr => "point in time",
        BackupType::Full => "full",
    }
}

/// What a job is about: of a restore, what is restored, and to which moment. Where it goes stands in the column of services.
fn what_of(model: &Model, job: &Job) -> String {
    let text = |t: &Option<String>| escape(t.as_deref().unwrap_or("-"));
    let name = text(if job.backup.is_some() { &job.backup } else { &job.schedule });
    if job.kind != JobKind::Restore {
        return name;
    }
    match job.point_in_time {
        Some(ts) => format!("as of {} (base {name})", when(model, ts.to_datetime())),
        None => name,
    }
}

fn job_cells(model: &Model, at: u32, bars: bool) -> Vec<(String, Style)> {
    let theme = &model.theme;
    let Some(job) = model.data.jobs.get(at as usize) else { return Vec::new() };
    let text = |t: &Option<String>| escape(t.as_deref().unwrap_or("-"));
    vec![
        // Retention, and runs that were not made, belong to a schedule and to no backup.
        (what_of(model, job), theme.text),
        (job.id.to_string(), theme.dim),
        (job.kind.word().into(), theme.text),
        (text(&job.service), theme.dim),
        with_bar(model, job_state(model, job), Some(job).filter(|j| !j.state.is_finished()), bars),
        (bytes(job.progress.bytes_done), theme.text),
        (job.attempt.max(1).to_string(), theme.dim),
        (age(model, job.created_at), theme.dim),
    ]
}

/// The newest job with a storage, when the storage made it fail, and no later test has passed.
pub fn failed_job<'a>(model: &'a Model, storage: &StorageView) -> Option<&'a Job> {
    let tested = storage.last_test_at;
    let of_it = |job: &&Job| job.storage.as_deref() == Some(storage.name.as_str()) && job.finished_at.is_some();
    let job = model.data.jobs.iter().find(of_it).filter(|job| job.state == JobState::Failed)?;
    let error = job.error.as_ref()?;
    let names_it = error.contains(&storage.place) || error.contains(&format!("storage {}", storage.name));
    (names_it && tested.is_none_or(|at| job.finished_at.is_some_and(|end| end > at))).then_some(job)
}

fn storage_cells(model: &Model, at: u32) -> Vec<(String, Style)> {
    let theme = &model.theme;
    let Some(storage) = model.data.storages.get(at as usize) else { return Vec::new() };
    let running = model.tests.get(&storage.name).is_some_and(|t| t.result.is_none());
    let test = match (storage.last_test_at, &storage.last_test_error) {
        _ if running => (format!("{} testing", spinner(model)), theme.running),
        _ if let Some(job) = failed_job(model, storage) => (format!("✗ job {} failed", job.id), theme.error),
        // The heading says that it is an age; so it is as short as those of the other lists.
        (Some(at), None) => (format!("✓ ok {}", age(model, at)), theme.ok),
        (Some(at), Some(_)) => (format!("✗ failed {}", age(model, at)), theme.error),
        (None, _) => ("never tested".into(), theme.dim),
    };
    vec![
        (escape(&storage.name), theme.text),
        (escape(&storage.kind), theme.dim),
        (escape(&storage.place), theme.text),
        (count(storage.backups), theme.text),
        (bytes(storage.bytes), theme.text),
        test,
    ]
}

/// Sign, word and server of a service, as far as a look at it told.
pub fn service_state(model: &Model, name: &str) -> ((String, Style), String) {
    let theme = &model.theme;
    let server = match model.infos.get(name) {
        Some(Load::Ready(info)) => {
            let set = match &info.replica_set {
                Some(set) => format!(" {} {}", escape(set), counted(info.members as u64, "member")),
                None => String::new(),
            };
            format!("{}{set}", escape(&info.server_version))
        }
        Some(Load::Failed(_) | Load::Waiting) | None => "-".into(),
    };
    let state = match model.service_look(name) {
        ServiceLook::Answers => ("✓ answers".into(), theme.ok),
        ServiceLook::Wrong(why) => (format!("✗ {why}"), theme.error),
        ServiceLook::Lost => ("✗ unreachable".into(), theme.error),
        ServiceLook::Refuses => ("✗ refuses".into(), theme.error),
        ServiceLook::Asking => (format!("{} asking", spinner(model)), theme.running),
        ServiceLook::NotAsked => ("◌ not asked".into(), theme.dim),
    };
    (state, server)
}

fn service_cells(model: &Model, at: u32) -> Vec<(String, Style)> {
    let theme = &model.theme;
    let Some(service) = model.data.services.get(at as usize) else { return Vec::new() };
    let (state, server) = service_state(model, &service.name);
    let last = match service.last_good_backup_at {
        Some(at) => (ago(model, at), theme.text),
        None => ("never".into(), theme.warn),
    };
    vec![
        (escape(&service.name), theme.text),
        state,
        (server, theme.dim),
        last,
        recoverable::cell(model, model.pitr(&service.name)),
        (count(service.backups), theme.text),
        (escape(&service.uri), theme.dim),
    ]
}

fn setting_cells(model: &Model, at: u32) -> Vec<(String, Style)> {
    let theme = &model.theme;
    let Some((key, value)) = model.data.settings.get(at as usize) else { return Vec::new() };
    let field = SETTING_FIELDS.iter().find(|f| f.key == key);
    let shown = field.map_or_else(|| value.clone(), |field| field.words(value));
    let style = if field.is_some_and(|f| f.default == value) { theme.dim } else { theme.accent };
    vec![(field.map_or("", |f| f.label).into(), theme.text), (escape(&shown), style), (escape(key), theme.dim)]
}

/// Lines below a list of settings.
pub const SETTING_FOOT: u16 = 4;

/// The selected setting in full: what it is, what it is now, and what it is where nobody chose.
fn setting_foot(model: &Model, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let selected = model.list(model.tab()).current().and_then(|at| model.data.settings.get(at as usize));
    let field = selected.and_then(|(key, _)| SETTING_FIELDS.iter().find(|f| f.key == key));
    let (Some((_, value)), Some(field)) = (selected, field) else { return Vec::new() };
    let mut now = format!("{}: {}", field.label, escape(&field.words(value)));
    if field.default != value {
        now = format!("{now}; without a choice {}", field.words(field.default));
    }
    let mut lines: Vec<Line> = vec![Line::styled("─".repeat(width), theme.border)];
    let parts = wrap(&now, width).into_iter().map(|part| Line::styled(part, theme.text));
    lines.extend(parts.chain(wrap(field.help, width).into_iter().map(|part| Line::styled(part, theme.dim))));
    lines.truncate(usize::from(SETTING_FOOT));
    lines
}

fn key_cells(model: &Model, at: u32) -> Vec<(String, Style)> {
    let theme = &model.theme;
    let Some(action) = Action::ALL.get(at as usize) else { return Vec::new() };
    vec![
        (action.title().into(), theme.text),
        (model.keymap.all(*action), theme.key),
        (action.group().title().into(), theme.dim),
    ]
}
