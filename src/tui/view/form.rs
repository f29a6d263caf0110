//! A form: one column of rows, what is wrong at the row itself, the buttons at the end.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::text::{first_lines, fit, from_column, put, spinner, take_columns, wrap};
use super::{form_box, form_foot, is_small, moment, place_cursor, preview};
use crate::domain::field::FieldKind;
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::text::{bytes, escape};
use crate::domain::uri;
use crate::tui::form::{ADD, Form, Item, Purpose, Row, Source};
use crate::tui::forms::{BACKUP, TIME, TIMELINE, is_schedule, is_to_a_moment, submit_label};
use crate::tui::model::{Load, Model};
use crate::tui::{moment as tui_moment, prerequisites};

/// Columns of the labels: as many as the longest that is shown needs.
fn label_width(form: &Form) -> usize {
    let longest = form.visible().into_iter().map(|i| form.rows[i].field.label.width()).max().unwrap_or(0);
    longest.clamp(10, 24) + 5
}

/// How many lines the hint of the focused field has: as many as the longest needs, so that no row moves.
fn hint_lines(form: &Form, width: usize) -> usize {
    let lines = |i: &usize| wrap(&form.rows[*i].help(), width).len();
    form.visible().iter().map(lines).max().unwrap_or(1).clamp(1, 3)
}

pub fn draw(frame: &mut Frame, model: &Model, form: &Form, area: Rect) {
    let theme = &model.theme;
    let width = match is_to_a_moment(form) {
        true => moment::form_width(model.size),
        false => form_width(model.size),
    };
    let inner_width = usize::from(width).saturating_sub(4);
    let Body { lines, focus_line, focus_height, cursor } = body(model, form, inner_width);
    let mut foot = form_foot::lines(model, form, inner_width);
    let hint_width = inner_width.saturating_sub(HINT_INDENT);
    let hints = hint_lines(form, hint_width);
    let hints = if is_to_a_moment(form) && moment::is_low(model) { 1 } else { hints };
    let height = (lines.len() + hints + foot.len() + 3) as u16;
    let inner = form_box(frame, model, area, width, height, &title(form));
    // The rows have at least half of it.
    let high = usize::from(inner.height);
    let most = high.saturating_sub(high / 2 + hints + 1);
    // A sentence that grows while something is typed must not move the rows: it has its place from the beginning.
    let grows = matches!(form.purpose, Purpose::Create | Purpose::EditSchedule(_));
    if grows && is_small(model.size) && lines.len() + hints + 1 + most > high {
        while foot.len() < most {
            foot.push(Line::raw(""));
        }
    }
    let is_low = is_to_a_moment(form) && moment::is_low(model);
    if (is_low || foot.len() > most) && foot.first().is_some_and(|line| line.width() == 0) {
        foot.remove(0);
    }
    if foot.len() > most {
        foot.truncate(most);
        if let Some(last) = foot.last_mut() {
            last.spans.push(Span::raw(" …"));
        }
    }
    let room = high.saturating_sub(foot.len() + hints + 1);
    // The row with the cursor is always in the window.
    let last = (focus_line + focus_height).min(lines.len());
    let from = last.saturating_sub(room).min(focus_line);
    let cut = lines.len().saturating_sub(from + room);
    let shown: Vec<Line> = lines.into_iter().skip(from).take(room).collect();
    let hint_y = inner.y + shown.len() as u16;
    put(frame, shown, Rect { height: room as u16, ..inner });
    if from > 0 || cut > 0 {
        let text = if cut > 0 { " more below ↓ " } else { " more above ↑ " };
        let width = text.width() as u16;
        let x = inner.right().saturating_sub(width + 1);
        let place = Rect { x, y: inner.bottom(), width, height: 1 };
        if place.bottom() <= frame.area().bottom() && place.right() <= frame.area().right() {
            put(frame, Span::styled(text, theme.dim), place);
        }
    }
    let hint = Rect { x: inner.x + HINT_INDENT as u16, y: hint_y, width: hint_width as u16, height: hints as u16 };
    put(frame, hint_text(model, form, hint_width, hints), hint);
    let mut foot_lines = foot;
    foot_lines.push(buttons(model, form, inner_width));
    let y = inner.bottom().saturating_sub(foot_lines.len() as u16);
    put(frame, foot_lines, Rect { y, height: inner.bottom().saturating_sub(y), ..inner });
    if let Some(x) = cursor
        && focus_line >= from
        && focus_line - from < room
    {
        place_cursor(frame, inner.x + x, inner.y + (focus_line - from) as u16);
    }
}

/// Columns in front of the hint.
const HINT_INDENT: usize = 2;

/// How wide a form is on a terminal of some size.
fn form_width(size: (u16, u16)) -> u16 {
    if is_small(size) { size.0 } else { 92.min(size.0.saturating_sub(4)) }
}

/// What is wrong with the focused field, else what it is for.
fn hint_text(model: &Model, form: &Form, width: usize, most: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let (text, style) = match (form.focus, form.focused()) {
        (_, Some(Row { error: Some(error), .. })) => (format!("✗ {}", escape(error)), theme.error),
        (_, Some(row)) if row.field.key == "cron" && why_no_line(form).is_some() => {
            (why_no_line(form).unwrap_or_default(), theme.warn)
        }
        (_, Some(row)) => {
            let offs = row.choices.iter().filter_map(|c| Some((escape(c.words()), c.disabled.as_ref()?)));
            let off: Vec<String> = offs.map(|(word, why)| format!("{word}: {}", escape(why))).collect();
            let help = if off.is_empty() { row.help() } else { off.join("; ") };
            (help, theme.dim)
        }
        (Item::Advanced, _) if form.advanced_open => ("Enter folds these rows".to_owned(), theme.dim),
        (Item::Advanced, _) => ("Enter unfolds the rows that are seldom needed".to_owned(), theme.dim),
        _ => (String::new(), theme.dim),
    };
    first_lines(wrap(&text, width.saturating_sub(2)), most).into_iter().map(|part| Line::styled(part, style)).collect()
}

/// What is wrong with the crontab line so far.
fn why_no_line(form: &Form) -> Option<String> {
    let why = form.preview.as_ref()?.words.as_ref().err()?;
    Some(format!("! {}", escape(why)))
}

pub(super) fn title(form: &Form) -> String {
    match &form.purpose {
        Purpose::AddService => "Add a service".into(),
        Purpose::EditService(name) => format!("Edit the service {}", escape(name)),
        Purpose::AddStorage => "Add a storage".into(),
        Purpose::EditStorage(name) => format!("Edit the storage {}", escape(name)),
        Purpose::Create if is_schedule(form) => "Create a schedule".into(),
        Purpose::Create => "Create a backup".into(),
        Purpose::EditSchedule(name) => format!("Edit the schedule {}", escape(name)),
        Purpose::Restore(Source::Service(service)) => format!("Restore {} to a point in time", escape(service)),
        Purpose::Restore(Source::Backup(_)) => format!("Restore {}", escape(form.text(BACKUP))),
        Purpose::Verify(backup) => format!("Verify {}", escape(backup)),
        Purpose::Setting(key) => {
            let label = SETTING_FIELDS.iter().find(|f| f.key == key).map_or("", |f| f.label);
            format!("{label} ({})", escape(key))
        }
    }
}

/// The rows, where the one with the cursor begins and how many lines it has, and the column of the text cursor.
struct Body {
    lines: Vec<Line<'static>>,
    focus_line: usize,
    focus_height: usize,
    cursor: Option<u16>,
}

fn body(model: &Model, form: &Form, width: usize) -> Body {
    let theme = &model.theme;
    let label_width = label_width(form);
    let mut lines = Vec::new();
    let (mut focus_line, mut focus_height) = (0, 1);
    let mut cursor = None;
    let visible = form.visible();
    let (advanced, plain): (Vec<usize>, Vec<usize>) = visible.into_iter().partition(|i| form.rows[*i].field.advanced);
    let mut draw_row = |i: usize, lines: &mut Vec<Line<'static>>| {
        let row = &form.rows[i];
        let focused = form.focus == Item::Row(i);
        if focused {
            focus_line = lines.len();
        }
        if let Some(pane) = form.moment.as_ref().filter(|_| row.field.key == TIMELINE) {
            let (bar, below) = moment::lines(model, pane, width.saturating_sub(label_width), width);
            let mut spans = label_spans(model, form, row, focused);
            spans.extend(bar);
            lines.push(Line::from(spans));
            lines.extend(below);
            if focused {
                // The time that it stands at is the row below it, and is seen with it on the lowest screens, too.
                focus_height = lines.len() - focus_line + usize::from(moment::is_low(model));
            }
            return;
        }
        if row.is_tall {
            lines.extend(tall(model, form, row, focused, width));
            if focused {
                focus_height = lines.len() - focus_line;
            }
            return;
        }
        let (line, at) = row_line(model, form, row, focused, width);
        if focused {
            cursor = at;
        }
        lines.push(line);
        // Always one line, whatever is typed: what stands below it does not move.
        if row.field.key == "cron"
            && let Some(preview) = &form.preview
        {
            if focused {
                focus_height = 2;
            }
            let room = width.saturating_sub(label_width);
            let (text, style) = preview::next_line(model, preview, room);
            lines.push(Line::from(vec![Span::raw(" ".repeat(label_width)), Span::styled(fit(&text, room), style)]));
        }
    };
    for i in plain {
        draw_row(i, &mut lines);
    }
    if form.has_advanced() {
        let focused = form.focus == Item::Advanced;
        // In seven bits the bar of the focus is a `>`: what is folded is told from it.
        let sign = match (form.advanced_open, model.look.ascii) {
            (true, false) => "▾",
            (false, false) => "▸",
            (true, true) => "-",
            (false, true) => "+",
        };
        let style = if focused { theme.input_focused } else { theme.text };
        let summary = if form.advanced_open { String::new() } else { advanced_summary(form) };
        let summary = fit(&summary, width.saturating_sub(label_width));
        let at = lines.len();
        lines.push(Line::from(vec![
            Span::styled(if focused { "▌" } else { " " }, theme.accent),
            Span::styled(format!("{sign} Advanced"), style),
            Span::raw(" ".repeat(label_width.saturating_sub(11))),
            Span::styled(summary, theme.dim),
        ]));
        for i in advanced {
            draw_row(i, &mut lines);
        }
        if focused {
            focus_line = at;
        }
    }
    if matches!(form.focus, Item::Cancel | Item::Try | Item::Submit) {
        focus_line = lines.len().saturating_sub(1);
    }
    Body { lines, focus_line, focus_height, cursor }
}

/// What the folded rows hold: `retry manual · compression zstd:1`.
fn advanced_summary(form: &Form) -> String {
    form.rows
        .iter()
        .filter(|r| r.field.advanced && form.applies(r) && r.disabled.is_none())
        // A number that is nothing says nothing.
        .filter(|r| !["", "0"].contains(&r.value()))
        .map(|r| {
            let value = match (r.field.kind, r.value()) {
                (FieldKind::Secret, _) => "***",
                (FieldKind::Bool, "true") => "yes",
                (FieldKind::Bool, _) => "no",
                (_, value) => value,
            };
            format!("{} {}", r.field.label.to_lowercase(), escape(value))
        })
        .collect::<Vec<_>>()
        .join(" · ")
}

/// Mark and label of a row, with the space to its value.
fn label_spans(model: &Model, form: &Form, row: &Row, focused: bool) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let label_width = label_width(form);
    let label_style = match (focused, row.disabled.is_some()) {
        (true, _) => theme.accent,
        (_, true) => theme.disabled,
        _ => theme.text,
    };
    let mark = if focused { "▌ " } else { "  " };
    let label = fit(row.field.label, label_width.saturating_sub(4));
    let needed = if row.field.required { "*" } else { " " };
    vec![
        Span::styled(mark, theme.accent),
        Span::styled(label.clone(), label_style),
        Span::styled(needed, theme.warn),
        Span::raw(" ".repeat(label_width.saturating_sub(3 + label.width()))),
    ]
}

fn row_line(model: &Model, form: &Form, row: &Row, focused: bool, width: usize) -> (Line<'static>, Option<u16>) {
    let theme = &model.theme;
    let label_width = label_width(form);
    let mut spans = label_spans(model, form, row, focused);
    let room = width.saturating_sub(label_width);
    if row.is_choice() {
        spans.extend(choice_spans(model, row, focused, room));
        return (Line::from(spans), None);
    }
    // The focused field says it below the rows, in full.
    let error = row.error.as_ref().map(|why| if focused { "✗".to_owned() } else { format!("✗ {}", escape(why)) });
    let (note, note_style) = match (error, row.field.key, &form.preview) {
        (Some(error), _, _) => (error, theme.error),
        // What is wrong with the focused one is said whole below the rows.
        (None, "cron", Some(preview)) if focused && preview.words.is_err() => ("!".to_owned(), theme.warn),
        (None, "cron", Some(preview)) => preview::line_words(model, preview),
        (None, TIME, _) => (zone_words(model, form), theme.dim),
        _ => match row.disabled.as_ref().filter(|why| !why.is_empty()) {
            Some(why) => (format!("← {why}"), theme.dim),
            None => (note(model, row), theme.dim),
        },
    };
    // That of a time stays as it is while the zone beside it comes and goes.
    let field_width = match note.as_str() {
        // The reason needs the room more than the field does.
        _ if row.error.is_some() && !focused => (row.value().width().clamp(8, 26) + 2).min(room),
        "✗" => room.saturating_sub(3).min(56),
        "" if is_uri(row) => room,
        "" if row.field.key != TIME => room.min(56),
        _ => room.min(30),
    };
    let shown = match row.field.kind {
        FieldKind::Secret if is_uri(row) => uri::masked(row.value(), !focused),
        FieldKind::Secret if !row.value().is_empty() => uri::DOTS.to_owned(),
        _ => escape(row.value()),
    };
    let is_hidden = row.field.kind == FieldKind::Secret && !is_uri(row);
    let (shown, at) = if is_uri(row) {
        uri::shorten_secrets(&shown, row.input.visual_cursor())
    } else {
        (shown, row.input.visual_cursor())
    };
    // The cursor stays in the field.
    let scroll = if focused { (at + 1).saturating_sub(field_width) } else { 0 };
    let visible: String = if is_hidden { shown } else { from_column(&shown, scroll) };
    // What goes on beyond the field is seen to go on.
    let text = if !focused || at < scroll + field_width.saturating_sub(1) {
        fit(&visible, field_width)
    } else {
        take_columns(&visible, field_width)
    };
    let pad = " ".repeat(field_width.saturating_sub(text.width()));
    let style = if row.disabled.is_some() {
        theme.disabled
    } else if focused {
        theme.input_focused
    } else {
        theme.input
    };
    let cursor = match row.field.kind {
        FieldKind::Secret if is_hidden => text.width(),
        _ => at.saturating_sub(scroll),
    };
    spans.push(Span::styled(text + &pad, style));
    if !note.is_empty() {
        spans.push(Span::styled(fit(&format!("  {note}"), room.saturating_sub(field_width)), note_style));
    }
    let cursor = (label_width + cursor.min(field_width.saturating_sub(1))) as u16;
    (Line::from(spans), (row.disabled.is_none()).then_some(cursor))
}

/// A row whose words stand one below the other.
fn tall(model: &Model, form: &Form, row: &Row, focused: bool, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let label_width = label_width(form);
    let room = width.saturating_sub(label_width);
    let indent = || Span::raw(" ".repeat(label_width));
    let mut lines = Vec::new();
    for choice in &row.choices {
        let picked = choice.value == row.value();
        let sign = match (picked, model.look.ascii) {
            (true, false) => "(•)",
            (true, true) => "(*)",
            (false, _) => "( )",
        };
        let style = if picked && focused { theme.input_focused } else { theme.text };
        let mut spans = if lines.is_empty() { label_spans(model, form, row, focused) } else { vec![indent()] };
        spans.push(Span::styled(fit(&format!("{sign} {}", escape(choice.words())), room), style));
        lines.push(Line::from(spans));
    }
    lines
}

/// Of a connection string only the password is a secret.
fn is_uri(row: &Row) -> bool {
    row.field.key == "uri"
}

/// `in Europe/Paris`: the zone in which a time is read that names none itself.
fn zone_words(model: &Model, form: &Form) -> String {
    let Some(pane) = form.moment.as_ref().filter(|_| tui_moment::is_local(form.text(TIME))) else {
        return String::new();
    };
    format!("in {}", pane.zone(model.zone, model.local_zone).name())
}

fn choice_spans(model: &Model, row: &Row, focused: bool, room: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let taken = if focused { theme.input_focused } else { theme.text };
    // What has names that are not known beforehand is shown one at a time.
    if matches!(row.field.kind, FieldKind::Service | FieldKind::Storage | FieldKind::Backup) {
        let what = if row.field.kind == FieldKind::Storage { "storage" } else { "service" };
        let text = match row.value() {
            ADD => format!("+ add a {what}, Enter"),
            "" => format!("pick a {what}"),
            name => escape(name),
        };
        let text = fit(&text, room.saturating_sub(4).min(if note(model, row).is_empty() { 60 } else { 28 }));
        let many = row.choices.len() > 1 && row.disabled.is_none();
        let (before, after) = if many && focused { ("← ", " →") } else { ("", "") };
        let (note, note_style) = match &row.error {
            Some(why) => (format!("✗ {}", escape(why)), theme.error),
            None => (note(model, row), theme.dim),
        };
        let note =
            if note.is_empty() { note } else { fit(&format!("  {note}"), room.saturating_sub(text.width() + 4)) };
        let style = if row.disabled.is_some() { theme.disabled } else { taken };
        return vec![
            Span::styled(before, theme.key),
            Span::styled(text, style),
            Span::styled(after, theme.key),
            Span::styled(note, note_style),
        ];
    }
    if row.field.kind == FieldKind::Bool {
        let on = row.value() == "true";
        let text = if on { "[x] yes" } else { "[ ] no " };
        return vec![Span::styled(text, taken)];
    }
    let whole: usize = row.choices.iter().map(|c| escape(c.words()).width() + 6).sum();
    if whole > room + 2 {
        return one_choice(model, row, focused, room);
    }
    let mut spans: Vec<Span> = Vec::new();
    let mut why: Option<&str> = None;
    for choice in &row.choices {
        let picked = choice.value == row.value();
        let sign = match (picked, model.look.ascii) {
            (true, false) => "(•)",
            (true, true) => "(*)",
            (false, _) => "( )",
        };
        let style: Style = match (&choice.disabled, picked) {
            (Some(reason), _) => {
                why.get_or_insert(reason);
                theme.disabled
            }
            (None, true) => taken,
            (None, false) => theme.text,
        };
        spans.push(Span::styled(format!("{sign} {}", escape(choice.words())), style));
        spans.push(Span::raw("  "));
    }
    if let Some(why) = why {
        let used: usize = spans.iter().map(|s| s.content.width()).sum();
        // Several words may be off for the same reason; saying it once is enough. Where it has no room the hint says it.
        let text = format!("← {}", escape(why));
        // A row that cannot have the focus says it here, as far as there is room.
        if used + text.width() <= room || row.disabled.is_some() {
            spans.push(Span::styled(fit(&text, room.saturating_sub(used)), theme.disabled));
        }
    }
    if let Some(error) = &row.error {
        let used: usize = spans.iter().map(|s| s.content.width()).sum();
        spans.push(Span::styled(fit(&format!("✗ {}", escape(error)), room.saturating_sub(used)), theme.error));
    }
    spans
}

/// The word that is taken, and which of how many it is: there is no room for all of them.
fn one_choice(model: &Model, row: &Row, focused: bool, room: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let at = row.choices.iter().position(|c| c.value == row.value());
    let word = at.and_then(|at| row.choices.get(at)).map_or_else(|| escape(row.value()), |c| escape(c.words()));
    let (before, after) = if focused { ("← ", " →") } else { ("", "") };
    let place = at.map_or_else(String::new, |at| format!("  {} of {}", at + 1, row.choices.len()));
    let word = fit(&word, room.saturating_sub(4 + place.width()));
    vec![
        Span::styled(before, theme.key),
        Span::styled(word, if focused { theme.input_focused } else { theme.text }),
        Span::styled(after, theme.key),
        Span::styled(place, theme.dim),
    ]
}

/// What is known about the value of a row.
fn note(model: &Model, row: &Row) -> String {
    let value = row.value();
    match row.field.kind {
        FieldKind::Service => match model.infos.get(value) {
            Some(Load::Ready(info)) => {
                format!("MongoDB {} · {}", escape(&info.server_version), info.deployment())
            }
            Some(Load::Failed(_)) => "unreachable".into(),
            Some(Load::Waiting) => format!("{} asking the server", spinner(model)),
            None => String::new(),
        },
        FieldKind::Storage => {
            let Some(storage) = model.data.storages.iter().find(|s| s.name == value) else { return String::new() };
            let failed = if storage.last_test_error.is_some() { " · ✗ its last test failed" } else { "" };
            match model.free_space.get(value) {
                Some(Some(free)) => format!("{} · {} free{failed}", escape(&storage.place), bytes(*free)),
                Some(None) | None => format!("{}{failed}", escape(&storage.place)),
            }
        }
        _ => String::new(),
    }
}

fn buttons(model: &Model, form: &Form, width: usize) -> Line<'static> {
    let theme = &model.theme;
    let style = |item| if form.focus == item { theme.button_focused } else { theme.button };
    let mark = |item| if form.focus == item { "▌" } else { " " };
    let cancel = format!("{}[ Cancel ]", mark(Item::Cancel));
    let stopped = !prerequisites::stoppers(model, form).is_empty();
    let anyway = if stopped { " anyway" } else { "" };
    let submit = format!("{}[ {}{anyway} ]", mark(Item::Submit), submit_label(form));
    let wait = if form.submitting { format!("{} one moment ", spinner(model)) } else { String::new() };
    let test = if form.has_try() { format!("{}[ Test ] ", mark(Item::Try)) } else { String::new() };
    let pad = width.saturating_sub(cancel.width() + test.width() + submit.width() + wait.width() + 1);
    Line::from(vec![
        Span::styled(wait, theme.running),
        Span::raw(" ".repeat(pad)),
        Span::styled(cancel, style(Item::Cancel)),
        Span::raw(" "),
        Span::styled(test, style(Item::Try)),
        Span::styled(submit, style(Item::Submit)),
    ])
}
