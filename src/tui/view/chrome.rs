//! What stands around the lists: screens, banner, tabs, status, keys.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use unicode_width::UnicodeWidthStr;

use super::text::{ago, fit, put, spinner};
use super::{Areas, breadcrumb, service_strip};
use crate::domain::text::{count, counted};
use crate::tui::action::Action;
use crate::tui::form::Form;
use crate::tui::forms;
use crate::tui::model::{Layer, Model, Screen, Tab};
use crate::tui::reach::ServiceLook;

pub fn draw(frame: &mut Frame, model: &Model, areas: &Areas) {
    header(frame, model, areas.header);
    if let Some(text) = banner_text(model) {
        banner(frame, model, &text, areas.banner);
    } else if let Some(tip) = &model.tip {
        put(frame, Text::from(format!(" {tip}")).style(model.theme.tip), areas.banner);
    }
    service_strip::draw(frame, model, areas.strip);
    if model.layers.iter().any(Layer::is_page) {
        let line = format!(" {}", breadcrumb(model).join(" › "));
        let line = Line::styled(fit(&line, usize::from(areas.tabs.width)), model.theme.title);
        put(frame, line, areas.tabs);
        search(frame, model, areas.tabs);
    } else {
        tabs(frame, model, areas.tabs);
    }
    if let Some(side) = areas.side {
        let bar = Rect { x: side.x - 1, width: 1, ..side };
        let lines: Vec<Line> = (0..bar.height).map(|_| Line::styled("│", model.theme.border)).collect();
        put(frame, lines, bar);
    }
    rule(frame, model, areas.status.y.saturating_sub(1), areas.status.width);
    status(frame, model, areas.status);
    keys(frame, model, areas.keys);
}

/// A line about what is wrong with store or daemon.
pub(super) fn banner(frame: &mut Frame, model: &Model, text: &str, area: Rect) {
    let text = fit(&model.commands(text), usize::from(area.width).saturating_sub(2));
    put(frame, Text::from(format!(" {text}")).style(model.theme.banner), area);
}

pub(super) fn rule(frame: &mut Frame, model: &Model, y: u16, width: u16) {
    let line = Line::styled("─".repeat(usize::from(width)), model.theme.border);
    put(frame, line, Rect { x: 0, y, width, height: 1 });
}

/// An entry of the top line: where it begins, its texts, the screen it stands for.
type Entry = (u16, Vec<(String, Style)>, Screen);

fn entries(model: &Model) -> Vec<Entry> {
    let fits = |entries: &Vec<Entry>| {
        entries.last().is_none_or(|e| usize::from(e.0) + width_of(e) <= usize::from(model.size.0))
    };
    // Where there is no room for all, the numbers go first, and then the name of the program.
    let all = entries_from(model, BRAND, true);
    let all = if fits(&all) { all } else { entries_from(model, BRAND, false) };
    if fits(&all) { all } else { entries_from(model, 1, false) }
}

/// The column behind the name of the program.
const BRAND: u16 = 13;

fn width_of((_, texts, _): &Entry) -> usize {
    texts.iter().map(|(t, _)| t.width()).sum()
}

fn entries_from(model: &Model, mut x: u16, has_numbers: bool) -> Vec<Entry> {
    let theme = &model.theme;
    let narrow = model.size.0 < 90;
    let mut out = Vec::new();
    for (i, screen) in Screen::ALL.into_iter().enumerate() {
        let style = if screen == model.screen { theme.tab_active } else { theme.text };
        let mut texts = vec![(format!("{} ", i + 1), theme.key), (screen.title().to_owned(), style)];
        match screen {
            Screen::Backups => {
                let running = model.running_jobs().count();
                let failed = model.failed_jobs();
                if running > 0 {
                    let word = if narrow { "" } else { " running" };
                    texts.push((format!(" ● {running}{word}"), theme.running));
                }
                if failed > 0 {
                    let word = if narrow { "" } else { " failed" };
                    texts.push((format!(" ✗ {failed}{word}"), theme.error));
                }
            }
            Screen::Schedules if has_numbers && !model.data.schedules.is_empty() => {
                texts.push((format!(" {}", model.data.schedules.len()), theme.dim));
            }
            Screen::Storage if has_numbers && !model.data.storages.is_empty() => {
                texts.push((format!(" {}", model.data.storages.len()), theme.dim));
            }
            _ => {}
        }
        let width: usize = texts.iter().map(|(t, _)| t.width()).sum();
        out.push((x, texts, screen));
        x += width as u16 + 3;
    }
    out
}

pub fn screen_at(model: &Model, column: u16) -> Option<Screen> {
    entries(model).into_iter().find_map(|(x, texts, screen)| {
        let width: usize = texts.iter().map(|(t, _)| t.width()).sum();
        (x..x + width as u16).contains(&column).then_some(screen)
    })
}

fn header(frame: &mut Frame, model: &Model, area: Rect) {
    let entries = entries(model);
    let has_brand = entries.first().is_some_and(|(x, _, _)| *x == BRAND);
    let brand = if has_brand { " mongokeep" } else { "" };
    let mut spans = vec![Span::styled(brand, model.theme.title)];
    let mut at = brand.len() as u16;
    for (x, texts, _) in entries {
        spans.push(Span::raw(" ".repeat(usize::from(x.saturating_sub(at)))));
        at = x;
        for (text, style) in texts {
            at += text.width() as u16;
            spans.push(Span::styled(text, style));
        }
    }
    put(frame, Line::from(spans), Rect { height: 1, ..area });
    if model.look.read_only {
        let text = "read-only ";
        let width = text.width() as u16;
        let x = area.right().saturating_sub(width).max(at + 1);
        if x < area.right() {
            let place = Rect { x, y: area.y, width: area.right() - x, height: 1 };
            put(frame, Span::styled(text, model.theme.warn), place);
        }
    }
    rule(frame, model, area.y + 1, area.width);
}

/// Whether a line below the screens' names says something.
pub fn has_banner(model: &Model) -> bool {
    model.tip.is_some() || banner_text(model).is_some()
}

/// What is wrong with the connection to store or daemon, if anything.
pub fn banner_text(model: &Model) -> Option<String> {
    let shown = || if model.loaded { format!("; shown: {}", ago(model, model.data.read_at)) } else { String::new() };
    if let Some(problem) = &model.lost {
        return Some(format!("! the store cannot be read, trying again{}: {}", shown(), problem.message));
    }
    if let Some(problem) = &model.daemon_problem {
        return Some(format!("! the daemon is unreachable, trying again{}: {}", shown(), problem.message));
    }
    if model.daemon_silence().is_some() {
        // Half a sentence does not say what is old.
        let words = |with_pid| Some(format!("! {}: shown as of then", model.silence(with_pid)?));
        return words(true).filter(|whole| whole.width() + 2 <= usize::from(model.size.0)).or_else(|| words(false));
    }
    if let Some(undone) = model.undone().filter(|_| model.daemon.as_ref().is_some_and(|d| !d.running)) {
        return Some(format!("! no daemon runs, {undone}{}", shown()));
    }
    if let Some((lost, why)) = model.lost_words() {
        return Some(format!("! {lost}: {why}"));
    }
    if model.screen == Screen::Schedules && model.loaded && !model.backups_enabled() {
        return Some("! nothing runs: backup management is off (Settings, General, backup.enabled)".into());
    }
    None
}

/// What stands between two tabs.
const BETWEEN: &str = " │ ";

/// The tabs with the columns where they begin, and what stands between them.
fn tab_texts(model: &Model) -> (Vec<(u16, String, Tab)>, &'static str) {
    let tabs = |has_numbers: bool, between: &str| {
        let mut x = 1;
        let mut out = Vec::new();
        for tab in Tab::of(model.screen) {
            let list = model.list(*tab);
            let text = match tab {
                Tab::Backups | Tab::Restores | Tab::Jobs | Tab::Schedules | Tab::Storages | Tab::Services
                    if model.loaded && has_numbers =>
                {
                    format!("{} ({})", tab.title(), count(list.total as u64))
                }
                _ => tab.title().to_owned(),
            };
            let width = text.width();
            out.push((x, text, *tab));
            x += (width + between.width()) as u16;
        }
        (out, usize::from(x) - between.width())
    };
    let (whole, width) = tabs(true, BETWEEN);
    if width <= usize::from(model.size.0) { (whole, BETWEEN) } else { (tabs(false, "  ").0, "  ") }
}

pub fn tab_at(model: &Model, column: u16) -> Option<Tab> {
    tab_texts(model)
        .0
        .into_iter()
        .find(|(x, text, _)| (*x..x + text.width() as u16).contains(&column))
        .map(|(_, _, tab)| tab)
}

fn tabs(frame: &mut Frame, model: &Model, area: Rect) {
    let theme = &model.theme;
    let mut spans = vec![Span::raw(" ")];
    let (texts, between) = tab_texts(model);
    for (i, (_, text, tab)) in texts.into_iter().enumerate() {
        if i > 0 {
            spans.push(Span::styled(between, theme.border));
        }
        spans.push(Span::styled(text, if tab == model.tab() { theme.tab_active } else { theme.dim }));
    }
    let used: usize = spans.iter().map(|s| s.content.width()).sum();
    put(frame, Line::from(spans), area);
    let tab = model.tab();
    let list = model.list(tab);
    let room = usize::from(area.width).saturating_sub(used + 3);
    let filter = &list.filter;
    if model.filtering || !filter.text().is_empty() {
        let found = format!("  {} of {} ", count(list.rows.len() as u64), count(list.total as u64));
        let text = fit(filter.text(), room.saturating_sub(found.width() + 3));
        let width = (text.width() + found.width() + 2) as u16;
        let x = area.right().saturating_sub(width);
        let style = if model.filtering { theme.input_focused } else { theme.input };
        let line = Line::from(vec![
            Span::styled("/", theme.key),
            Span::styled(format!("{text} "), style),
            Span::styled(found, theme.dim),
        ]);
        if model.filtering {
            let cursor = filter.input.visual_cursor().min(text.width()) as u16;
            super::place_cursor(frame, x + 1 + cursor, area.y);
        }
        put(frame, line, Rect { x, width: area.right() - x, ..area });
    } else if matches!(tab, Tab::Backups | Tab::Restores | Tab::Jobs) && list.total > 0 {
        let order = if model.sort.reversed { "↑" } else { "↓" };
        let text = format!("sort: {} {order} ", model.sort.key.word());
        if text.width() <= room {
            let x = area.right() - text.width() as u16;
            let place = Rect { x, width: area.right() - x, ..area };
            put(frame, Span::styled(text, theme.dim), place);
        }
    }
}

/// What is looked for in the page, and which of how many hits is selected.
fn search(frame: &mut Frame, model: &Model, area: Rect) {
    let search = &model.search;
    if !matches!(model.layers.last(), Some(Layer::Details { .. })) || (search.is_empty() && !search.typing) {
        return;
    }
    let theme = &model.theme;
    let found = super::hits(model).len();
    let at = if found == 0 { 0 } else { search.at.min(found - 1) + 1 };
    let place = format!(" {} of {} ", count(at as u64), count(found as u64));
    let text = fit(search.input.value(), usize::from(area.width / 2).saturating_sub(place.width() + 3));
    let width = (text.width() + place.width() + 2) as u16;
    let x = area.right().saturating_sub(width);
    let style = if search.typing { theme.input_focused } else { theme.input };
    let line = Line::from(vec![
        Span::styled("/", theme.key),
        Span::styled(format!("{text} "), style),
        Span::styled(place, theme.dim),
    ]);
    put(frame, line, Rect { x, width, ..area });
    if search.typing {
        super::place_cursor(frame, x + 1 + search.input.visual_cursor().min(text.width()) as u16, area.y);
    }
}

fn status(frame: &mut Frame, model: &Model, area: Rect) {
    let theme = &model.theme;
    let mut spans = vec![Span::raw(" ")];
    let services = model.data.services.len();
    let state = |want: fn(ServiceLook) -> bool| {
        model.data.services.iter().filter(|s| want(model.service_look(&s.name))).count()
    };
    let ok = state(|look| look == ServiceLook::Answers);
    let wrong = state(|look| matches!(look, ServiceLook::Wrong(_) | ServiceLook::Refuses));
    let failed = state(|look| look == ServiceLook::Lost);
    if !model.loaded {
        spans.push(Span::styled("reading the store", theme.dim));
    } else if services == 0 {
        spans.push(Span::styled("no service yet", theme.dim));
    } else if failed > 0 {
        spans.push(Span::styled(format!("✗ {failed} of {services} unreachable"), theme.error));
    } else if wrong > 0 {
        spans.push(Span::styled(format!("✗ {wrong} of {services} not fit for backups"), theme.error));
    } else if ok == services {
        // How they are protected is said above, and not known from this.
        spans.push(Span::styled(format!("✓ {services} reachable"), theme.ok));
    } else {
        spans.push(Span::styled(format!("{}, asking", counted(services as u64, "service")), theme.dim));
    }
    let running: Vec<_> = model.running_jobs().collect();
    let waiting = model.unfinished().count() - running.len();
    if !running.is_empty() {
        spans.push(Span::styled("  │  ", theme.border));
        let mut text = format!("{} {} running", spinner(model), running.len());
        if let [job] = running[..]
            && model.size.0 >= 100
        {
            let percent = super::text::percent(&job.progress);
            text = format!("{} {} {percent}", spinner(model), fit(&job.title(), 40));
        }
        spans.push(Span::styled(text, theme.running));
    }
    if waiting > 0 {
        spans.push(Span::styled(format!("  ◌ {waiting} waiting"), theme.warn));
    }
    let unread = model.unread_errors();
    if unread > 0 {
        spans.push(Span::styled("  │  ", theme.border));
        let text = format!("✗ {} (m)", counted(unread as u64, "message"));
        spans.push(Span::styled(text, theme.error));
    }
    let used: usize = spans.iter().map(|s| s.content.width()).sum();
    let (daemon, style) = match &model.daemon {
        Some(_) if model.daemon_silence().is_some() => ("daemon silent", theme.error),
        Some(d) if d.running => ("daemon ok", theme.ok),
        Some(_) => ("daemon off", theme.dim),
        None => ("", theme.dim),
    };
    let clock = model.now.with_timezone(&model.zone).format("%H:%M").to_string();
    let mut right = Line::from(vec![
        Span::styled(daemon, style),
        Span::raw("   "),
        Span::raw(clock),
        Span::styled(format!(" {} ", model.zone.name()), theme.dim),
    ]);
    // What is wrong is worth more than the name of the zone.
    if used + 1 + right.width() > usize::from(area.width) {
        right.spans.pop();
        right.spans.push(Span::raw(" "));
    }
    let width = (right.width() as u16).min(area.width);
    let room = usize::from(area.width - width).saturating_sub(used + 7);
    if let Some(text) = warning_words(model, room) {
        spans.push(Span::styled("  │  ", theme.border));
        spans.push(Span::styled(text, theme.warn));
    }
    let line = Rect { width: (area.width - width).saturating_sub(1), ..area };
    put(frame, Line::from(spans), line);
    let place = Rect { x: area.right() - width, width, ..area };
    put(frame, right, place);
}

/// The most urgent warning and how many others there are; where there is no room for words, the number.
fn warning_words(model: &Model, room: usize) -> Option<String> {
    /// Fewer columns of a sentence say nothing.
    const LEAST: usize = 22;
    let warnings = &model.data.warnings;
    let first = warnings.first()?;
    let others = if warnings.len() > 1 { format!(" (+{})", warnings.len() - 1) } else { String::new() };
    if room >= LEAST + others.len() {
        return Some(format!("! {}{others}", fit(&model.say(&first.text), room - others.len() - 2)));
    }
    let short = format!("! {} (m)", warnings.len());
    (short.width() <= room).then_some(short)
}

/// The keys that do something here and now.
fn keys(frame: &mut Frame, model: &Model, area: Rect) {
    let fixed: Option<&[(&str, &str)]> = match model.layers.last() {
        Some(Layer::Form(form)) if forms::on_timeline(form) => None,
        Some(Layer::Form(form)) if form.focused().is_some_and(|row| row.offers().is_some()) => {
            Some(match form.is_typing() {
                true => &[
                    ("Enter", "list"),
                    ("Tab", "next"),
                    ("Shift-Tab", "back"),
                    ("Ctrl-S", "submit"),
                    ("F1", "help"),
                    ("Esc", "close"),
                ],
                false => &[
                    ("Enter", "list"),
                    ("Left Right", "choose"),
                    ("Tab", "next"),
                    ("Ctrl-S", "submit"),
                    ("F1", "help"),
                    ("Esc", "close"),
                ],
            })
        }
        Some(Layer::Picker(picker)) if picker.takes_several() => {
            Some(&[("Space", "mark"), ("Enter", "take"), ("Up Down", "move"), ("Esc", "close")])
        }
        Some(Layer::Picker(_)) => Some(&[("Up Down", "choose"), ("Enter", "take"), ("Esc", "close")]),
        Some(Layer::Form(form)) if form.focused().is_some_and(|row| row.is_tall) => {
            Some(&[("Up Down", "choose"), ("Enter", "next"), ("Ctrl-S", "submit"), ("F1", "help"), ("Esc", "close")])
        }
        Some(Layer::Form(form)) if form.is_typing() => {
            Some(&[("Tab", "next"), ("Shift-Tab", "back"), ("Ctrl-S", "submit"), ("F1", "help"), ("Esc", "close")])
        }
        Some(Layer::Form(_)) => {
            Some(&[("Left Right", "choose"), ("Enter", "next"), ("Ctrl-S", "submit"), ("F1", "help"), ("Esc", "close")])
        }
        Some(Layer::Review(review)) if review.plan.is_by_hand() => {
            Some(&[("Up Down", "scroll"), ("Esc", "back to the form")])
        }
        Some(Layer::Review(_)) => Some(&[("Up Down", "scroll"), ("Enter", "restore"), ("Esc", "back to the form")]),
        Some(Layer::Confirm(confirm)) if confirm.asks_for_name() => {
            Some(&[("Left", "back"), ("Enter", "take, once it is typed"), ("Esc", "cancel")])
        }
        Some(Layer::Confirm(confirm)) if confirm.discards() => {
            Some(&[("d Enter", "discard"), ("Left Right", "choose"), ("Esc", "keep editing")])
        }
        Some(Layer::Confirm(_)) => Some(&[("Left Right", "choose"), ("Enter", "take"), ("Esc", "cancel")]),
        Some(Layer::Palette(_)) => Some(&[("Up Down", "choose"), ("Enter", "do it"), ("Esc", "close")]),
        Some(Layer::Help { filtering: true, .. }) => Some(&[("Enter", "keep"), ("Esc", "clear")]),
        Some(Layer::Help { .. }) => Some(&[("/", "filter"), ("j k", "scroll"), ("Esc", "close")]),
        Some(Layer::Details { .. }) if model.search.typing => Some(&[("Enter", "keep"), ("Esc", "clear")]),
        None if model.filtering => Some(&[("Enter", "keep"), ("Esc", "clear"), ("!", "in front inverts")]),
        _ => None,
    };
    let pairs: Vec<(String, &str)> = match (fixed, model.layers.last()) {
        (Some(fixed), _) => fixed.iter().map(|(key, word)| ((*key).to_owned(), *word)).collect(),
        (None, Some(Layer::Form(form))) => moment_keys(model, form),
        (None, _) => {
            let groups = model.groups();
            let page = matches!(model.layers.last(), Some(l) if l.is_page());
            let mut shown: Vec<(String, &str)> = Action::ALL
                .iter()
                .filter(|a| groups.contains(&a.group()) && !a.short().is_empty())
                .filter(|a| !model.is_hidden(**a) && model.why_not(**a).is_none())
                .filter(|a| !page || !matches!(a, Action::Open | Action::Filter | Action::Sort))
                .map(|a| (model.keymap.first(*a), a.short()))
                .collect();
            if page {
                shown.insert(0, ("Esc".into(), "back"));
            }
            shown
        }
    };
    // Help stays at the end even where not all keys have room.
    let width = usize::from(area.width).saturating_sub(1);
    let long = |pair: &(String, &str)| pair.0.width() + pair.1.width() + 3;
    let mut total: usize = pairs.iter().map(long).sum();
    let mut pairs = pairs;
    let essential = |pair: &(String, &str)| ["help", "quit", "close", "back"].contains(&pair.1);
    while total > width {
        let Some(at) = pairs.iter().rposition(|p| !essential(p)) else { break };
        total -= long(&pairs.remove(at));
    }
    let mut spans = vec![Span::raw(" ")];
    for (key, word) in pairs {
        spans.push(Span::styled(key, model.theme.key));
        spans.push(Span::styled(format!(" {word}  "), model.theme.dim));
    }
    put(frame, Line::from(spans), area);
}

/// The keys of the timeline of a restore, and how the form goes on; what is least needed last.
fn moment_keys(model: &Model, form: &Form) -> Vec<(String, &'static str)> {
    let one = |action: Action| (model.keymap.first(action), action.short());
    let pair =
        |back: Action, on: Action| (format!("{} {}", model.keymap.first(back), model.keymap.first(on)), on.short());
    let service = form.moment.as_ref().map_or("", |pane| pane.service.as_str());
    let mut keys = if model.pitr(service).is_some_and(|s| !s.ranges.is_empty()) {
        vec![
            pair(Action::SecondBack, Action::SecondOn),
            pair(Action::MinuteBack, Action::MinuteOn),
            pair(Action::HourBack, Action::HourOn),
            pair(Action::ZoomIn, Action::ZoomOut),
            one(Action::Peak),
            pair(Action::LandmarkBack, Action::LandmarkOn),
            one(Action::OtherZone),
            pair(Action::DayBack, Action::DayOn),
            one(Action::CopyMoment),
            ("Ctrl-S".into(), "submit"),
        ]
    } else if model.may_run_base(service).is_ok() {
        vec![one(Action::TakeBase), ("Tab".into(), "next")]
    } else {
        vec![("Tab".into(), "next")]
    };
    keys.extend([("F1".into(), "help"), ("Esc".into(), "close")]);
    keys
}
