//! What stands in the place of a list that has no rows: what belongs there, and the way to it.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::text::ago;
use crate::domain::text::escape;
use crate::tui::action::Action;
use crate::tui::model::{Model, Tab};

/// What an empty place says, in the area `page`: what belongs here, and the key that brings it.
pub fn draw(frame: &mut Frame, model: &Model, page: Rect) {
    let theme = &model.theme;
    let tab = model.tab();
    let list = model.list(tab);
    let key = |action| Span::styled(model.keymap.first(action), theme.key);
    let press = |action, text: &'static str| Line::from(vec![Span::raw("Press "), key(action), Span::raw(text)]);
    let title = |text: &'static str| Line::styled(text, theme.title);
    let plain = |text: &str| Line::raw(text.to_owned());
    let dim = |text: &str| Line::styled(text.to_owned(), theme.dim);
    let mut lines: Vec<Line> = vec![Line::raw("")];
    if !model.loaded {
        lines.push(match &model.lost {
            Some(problem) => Line::styled(model.say(&problem.message), theme.error),
            None => dim("Reading the store…"),
        });
    } else if list.total > 0 {
        lines.push(plain("Nothing matches the filter."));
        lines.push(Line::from(vec![key(Action::Back), Span::styled(" clears it", theme.dim)]));
    } else {
        match tab {
            Tab::Backups if !model.backups_enabled() => {
                lines.extend([
                    title("Backup management is off"),
                    Line::raw(""),
                    plain("Nobody and no schedule can start a backup until it is turned on:"),
                    Line::raw(""),
                    Line::styled(model.commands("  mongokeep settings set backup.enabled true"), theme.command),
                    Line::raw(""),
                    dim("or in Settings (4), General: backup.enabled"),
                ]);
            }
            Tab::Backups => lines.extend(first_steps(model, usize::from(page.height).saturating_sub(1))),
            Tab::Restores => lines.extend([
                title("Nothing was restored yet"),
                Line::raw(""),
                Line::from(vec![Span::raw("Select a backup and press "), key(Action::Restore), Span::raw(".")]),
                dim("A restore shows its whole plan first, and asks for the name of the target."),
            ]),
            Tab::Jobs => lines.extend([
                title("No jobs yet"),
                Line::raw(""),
                plain("Backups, restores, verifications and deletions appear here with their logs."),
            ]),
            Tab::Storages => lines.extend([
                title("No storage location yet"),
                Line::raw(""),
                press(Action::AddStorage, " to add a folder of this machine, or a bucket of S3, Azure or Google."),
            ]),
            Tab::Services => lines.extend([
                title("No service yet"),
                Line::raw(""),
                press(Action::AddService, " to add a MongoDB replica set by its connection string."),
            ]),
            Tab::Schedules => lines.extend(first_schedule(model)),
            Tab::About => lines.extend(about(model)),
            Tab::General | Tab::Notifications | Tab::Appearance | Tab::Keys => lines.push(dim("Nothing here.")),
        }
    }
    let area = Rect { x: page.x + 1, width: page.width.saturating_sub(2), ..page };
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

/// The way from nothing to the first backup, with what is done ticked off.
/// `room`: where there are fewer lines than all of it needs, what is to be done is there without what else is said.
fn first_steps(model: &Model, room: usize) -> Vec<Line<'static>> {
    /// The title, three steps of two lines, Enter, and what stands between them.
    const WHOLE: usize = 10;
    /// The title, one line for each step, Enter.
    const SHORTEST: usize = 5;
    let theme = &model.theme;
    let services = !model.data.services.is_empty();
    let storages = !model.data.storages.is_empty();
    let next = match (services, storages) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    let steps = [
        (services, "Add a service: a MongoDB replica set", "4 n", "its connection string is kept encrypted"),
        (storages, "Add a storage: a folder or a bucket", "3 n", "where backups are kept"),
        (false, "Make the first backup", "n", "it can be verified and restored from here"),
    ];
    let title = if services && storages { "No backup yet" } else { "Three steps to the first backup" };
    let is_short = room < WHOLE;
    let mut lines = vec![Line::styled(title, theme.title)];
    if !is_short {
        lines.push(Line::raw(""));
    }
    if model.look.read_only {
        lines.push(read_only(model));
        return lines;
    }
    for (i, (done, text, keys, why)) in steps.into_iter().enumerate() {
        let (sign, style) = if done {
            ("✓", theme.ok)
        } else if i == next {
            ("▸", theme.accent)
        } else {
            ("○", theme.disabled)
        };
        let style_text = if i == next { theme.text } else { theme.dim };
        lines.push(Line::from(vec![
            Span::styled(format!("{sign} {}  ", i + 1), style),
            Span::styled(format!("{text:<42}"), style_text),
            Span::styled(if done { String::new() } else { format!("press {keys}") }, theme.key),
        ]));
        if !is_short || (i == next && room > SHORTEST) {
            lines.push(Line::styled(format!("     {why}"), theme.dim));
        }
    }
    if !is_short {
        lines.push(Line::raw(""));
    }
    lines.push(Line::from(vec![
        Span::styled("Enter", theme.key),
        Span::styled(" begins with the step that is marked", theme.dim),
    ]));
    lines
}

fn read_only(model: &Model) -> Line<'static> {
    Line::styled("This session is read-only: it shows what others do.", model.theme.warn)
}

/// What leads to the first schedule.
fn first_schedule(model: &Model) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let services = !model.data.services.is_empty();
    let storages = !model.data.storages.is_empty();
    let mut lines = vec![
        Line::styled("No schedule yet", theme.title),
        Line::raw(""),
        Line::raw("A schedule makes backups by itself and keeps as many of them as you say."),
        Line::raw("It can also retry failed runs automatically: Retry, under Advanced."),
        Line::raw(""),
    ];
    if model.look.read_only {
        lines.push(read_only(model));
        return lines;
    }
    let step = match (services, storages) {
        (false, _) => "adds a service first: the replica set to back up",
        (true, false) => "adds a storage first: the place for the backups",
        (true, true) => "creates the first one: what, when, and how many to keep",
    };
    let both = services && storages;
    let create = if both { format!("Enter {}", model.keymap.first(Action::CreateSchedule)) } else { "Enter".into() };
    lines.push(Line::from(vec![Span::styled(create, theme.key), Span::styled(format!("  {step}"), theme.dim)]));
    lines
}

fn about(model: &Model) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let mut lines = vec![
        Line::from(vec![
            Span::styled("mongokeep ", theme.title),
            Span::raw(env!("CARGO_PKG_VERSION")),
            Span::styled("  backs up MongoDB from a terminal", theme.dim),
        ]),
        Line::raw(""),
    ];
    let mut fact = |label: &str, value: String| {
        lines.push(Line::from(vec![Span::styled(format!("{label:<14}"), theme.dim), Span::raw(value)]));
    };
    for (label, value) in &model.about {
        fact(label, escape(value));
    }
    match &model.daemon {
        Some(d) if d.running => {
            let pid = d.pid.map_or(String::new(), |p| format!(", process {p}"));
            let version = d.version.as_deref().unwrap_or("unknown version");
            let since = d.started_at.map_or(String::new(), |t| format!(", started {}", ago(model, t)));
            fact("Daemon", format!("runs, {}{pid}{since}", escape(version)));
        }
        Some(_) => fact("Daemon", "does not run; it is started when there is something to do".into()),
        None => fact("Daemon", "not asked yet".into()),
    }
    fact("Time zone", model.zone.name().to_owned());
    fact("Licence", env!("CARGO_PKG_LICENSE").to_owned());
    lines
}
