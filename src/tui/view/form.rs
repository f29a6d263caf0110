//! A form: one column of rows, what is wrong at the row itself, the buttons at the end.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthStr;

use super::text::{fit, skip_columns, spinner, take_columns, wrap};
use super::{check, cluster, moment, place_cursor, popup, preview, storage_steps};
use crate::domain::field::FieldKind;
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::text::{bytes, escape};
use crate::tui::form::{ADD, Form, Item, Purpose, Row, Source};
use crate::tui::forms::{TIME, TIMELINE, is_pitr, is_schedule, is_to_a_moment, submit_label};
use crate::tui::missed::{recorded_twice, recording_ends};
use crate::tui::model::{Load, Model};
use crate::tui::{moment as tui_moment, prerequisites};

/// Columns of the labels: as many as the longest that is shown needs.
fn label_width(form: &Form) -> usize {
    let longest = form.visible().into_iter().map(|i| form.rows[i].field.label.width()).max().unwrap_or(0);
    longest.clamp(10, 24) + 5
}

pub fn draw(frame: &mut Frame, model: &Model, form: &Form, area: Rect) {
    let theme = &model.theme;
    let width =
        if is_to_a_moment(form) { moment::form_width(area.width) } else { 92.min(area.width.saturating_sub(2)) };
    let inner_width = usize::from(width).saturating_sub(4);
    let Body { lines, focus_line, focus_height, cursor } = body(model, form, inner_width);
    let foot = footer(model, form, inner_width);
    let height = (lines.len() + foot.len() + 3) as u16;
    let inner = popup(frame, model, area, width, height, &title(form));
    let room = usize::from(inner.height).saturating_sub(foot.len() + 1);
    // The row with the cursor is always in the window, with the line below it where its help or error stands.
    let last = (focus_line + focus_height.max(2)).min(lines.len());
    let from = last.saturating_sub(room).min(focus_line);
    let cut = lines.len().saturating_sub(from + room);
    let shown: Vec<Line> = lines.into_iter().skip(from).take(room).collect();
    frame.render_widget(Paragraph::new(shown), Rect { height: room as u16, ..inner });
    if from > 0 || cut > 0 {
        let text = if cut > 0 { "more below ↓" } else { "more above ↑" };
        let width = text.width() as u16;
        let x = inner.right().saturating_sub(width + 1);
        let place = Rect { x, y: inner.bottom(), width, height: 1 };
        if place.bottom() <= frame.area().bottom() && place.right() <= frame.area().right() {
            frame.render_widget(Paragraph::new(Span::styled(text, theme.dim)), place);
        }
    }
    let y = inner.y + room as u16;
    let mut foot_lines = foot;
    foot_lines.push(buttons(model, form, inner_width));
    frame.render_widget(Paragraph::new(foot_lines), Rect { y, height: inner.bottom().saturating_sub(y), ..inner });
    if let Some(x) = cursor
        && focus_line >= from
        && focus_line - from < room
    {
        place_cursor(frame, inner.x + x, inner.y + (focus_line - from) as u16);
    }
}

fn title(form: &Form) -> String {
    match &form.purpose {
        Purpose::AddService => "Add a service".into(),
        Purpose::EditService(name) => format!("Edit the service {}", escape(name)),
        Purpose::AddStorage => "Add a storage".into(),
        Purpose::EditStorage(name) => format!("Edit the storage {}", escape(name)),
        Purpose::Create if is_schedule(form) => "Create a schedule".into(),
        Purpose::Create => "Create a backup".into(),
        Purpose::EditSchedule(name) => format!("Edit the schedule {}", escape(name)),
        Purpose::Restore(Source::Service(service)) => format!("Restore {} to a point in time", escape(service)),
        Purpose::Restore(Source::Backup(backup)) => format!("Restore {}", escape(backup)),
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
                focus_height = lines.len() - focus_line;
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
        if let Some(error) = &row.error {
            for part in wrap(&format!("✗ {}", escape(error)), width.saturating_sub(label_width)) {
                lines.push(Line::from(vec![Span::raw(" ".repeat(label_width)), Span::styled(part, theme.error)]));
            }
        } else if focused && !row.field.help.is_empty() {
            for part in wrap(row.field.help, width.saturating_sub(label_width)) {
                lines.push(Line::from(vec![Span::raw(" ".repeat(label_width)), Span::styled(part, theme.dim)]));
            }
        }
        if row.field.key == "cron"
            && let Some(preview) = &form.preview
        {
            let text = preview::next_words(model, preview, width.saturating_sub(label_width));
            if !text.is_empty() {
                let text = fit(&text, width.saturating_sub(label_width));
                lines.push(Line::from(vec![Span::raw(" ".repeat(label_width)), Span::styled(text, theme.accent)]));
            }
        }
    };
    for i in plain {
        draw_row(i, &mut lines);
    }
    if form.has_advanced() {
        let focused = form.focus == Item::Advanced;
        let sign = if form.advanced_open { "▾" } else { "▸" };
        let style = if focused { theme.input_focused } else { theme.text };
        let summary = if form.advanced_open { String::new() } else { advanced_summary(form) };
        let summary = fit(&summary, width.saturating_sub(label_width));
        let at = lines.len();
        lines.push(Line::from(vec![
            Span::styled(format!("{sign} Advanced"), style),
            Span::raw(" ".repeat(label_width.saturating_sub(10))),
            Span::styled(summary, theme.dim),
        ]));
        for i in advanced {
            draw_row(i, &mut lines);
        }
        if focused {
            focus_line = at;
        }
    }
    if matches!(form.focus, Item::Cancel | Item::Submit) {
        focus_line = lines.len().saturating_sub(1);
    }
    Body { lines, focus_line, focus_height, cursor }
}

/// What the folded rows hold: `retry manual · compression zstd:1`.
fn advanced_summary(form: &Form) -> String {
    form.rows
        .iter()
        // A number that is nothing says nothing.
        .filter(|r| r.field.advanced && form.applies(r) && !["", "0"].contains(&r.value()))
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
    let mark = if focused { "▸ " } else { "  " };
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
    let note = match (row.field.key, &form.preview) {
        ("cron", Some(preview)) => preview.words.clone().unwrap_or_default(),
        (TIME, _) => zone_words(model, form),
        _ => row.disabled.as_ref().filter(|why| !why.is_empty()).map_or_else(|| note(model, row), |w| format!("← {w}")),
    };
    // That of a time stays as it is while the zone beside it comes and goes.
    let field_width = if note.is_empty() && row.field.key != TIME { room.min(56) } else { room.min(30) };
    let shown = match row.field.kind {
        // As many signs as were typed, up to a few: the length of a password is nobody's business.
        FieldKind::Secret if !row.value().is_empty() => "•".repeat(row.value().chars().count().min(24)),
        _ => escape(row.value()),
    };
    let scroll = row.input.visual_scroll(field_width.saturating_sub(1));
    let visible: String = if row.field.kind == FieldKind::Secret { shown } else { skip_columns(&shown, scroll) };
    let text: String = take_columns(&visible, field_width);
    let pad = " ".repeat(field_width.saturating_sub(text.width()));
    let style = if row.disabled.is_some() {
        theme.disabled
    } else if focused {
        theme.input_focused
    } else {
        theme.input
    };
    let cursor = match row.field.kind {
        FieldKind::Secret => text.width(),
        _ => row.input.visual_cursor().saturating_sub(scroll),
    };
    spans.push(Span::styled(text + &pad, style));
    if !note.is_empty() {
        spans.push(Span::styled(fit(&format!("  {note}"), room.saturating_sub(field_width)), theme.dim));
    }
    let cursor = (label_width + cursor.min(field_width.saturating_sub(1))) as u16;
    (Line::from(spans), (row.disabled.is_none()).then_some(cursor))
}

/// A row whose words stand one below the other, and what they are about in full.
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
    let help = wrap(row.field.help, room).into_iter();
    lines.extend(help.map(|part| Line::from(vec![indent(), Span::styled(part, theme.dim)])));
    lines
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
        let text = fit(&text, 28);
        let many = row.choices.len() > 1 && row.disabled.is_none();
        let (before, after) = if many && focused { ("← ", " →") } else { ("", "") };
        let note = fit(&format!("  {}", note(model, row)), room.saturating_sub(text.width() + 4));
        let style = if row.disabled.is_some() { theme.disabled } else { taken };
        return vec![
            Span::styled(before, theme.key),
            Span::styled(text, style),
            Span::styled(after, theme.key),
            Span::styled(note, theme.dim),
        ];
    }
    if row.field.kind == FieldKind::Bool {
        let on = row.value() == "true";
        let text = if on { "[x] yes" } else { "[ ] no " };
        return vec![Span::styled(text, taken)];
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
        // Several words may be off for the same reason; saying it once is enough.
        spans.push(Span::styled(fit(&format!("← {}", escape(why)), room.saturating_sub(used)), theme.disabled));
    }
    spans
}

/// What is known about the value of a row.
fn note(model: &Model, row: &Row) -> String {
    let value = row.value();
    match row.field.kind {
        FieldKind::Service => match model.infos.get(value) {
            Some(Load::Ready(info)) => {
                let set = match &info.replica_set {
                    Some(set) => format!(
                        " · replica set {}, {} member{}",
                        escape(set),
                        info.members,
                        super::chrome::plural(info.members)
                    ),
                    None => " · not a replica set".into(),
                };
                format!("MongoDB {}{set}", escape(&info.server_version))
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

/// What stands below the rows: prerequisites, the sentence, the error.
fn footer(model: &Model, form: &Form, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let mut lines = vec![Line::raw("")];
    if matches!(form.purpose, Purpose::Create | Purpose::EditSchedule(_)) {
        lines.extend(check::lines(model, form, width));
    }
    if form.can_be_tested() {
        lines.extend(storage_steps::of_form(model, form, width));
    }
    if let Some(preview) = &form.preview {
        lines.extend(preview::warnings(model, preview, width));
    }
    if let Some(text) = records_again(model, form) {
        lines.extend(wrap(&format!("! {text}"), width).into_iter().map(|part| Line::styled(part, theme.warn)));
    }
    if let Some(service) = ends_recording(model, form) {
        let text = format!("! {}", recording_ends([service]));
        lines.extend(wrap(&text, width).into_iter().map(|part| Line::styled(part, theme.warn)));
    }
    lines.extend(form.proposal.iter().flat_map(|proposal| cluster::proposal(model, proposal, width)));
    if let Some(problem) = &form.error {
        for part in wrap(&format!("✗ {}", escape(&problem.message)), width).into_iter().take(3) {
            lines.push(Line::styled(part, theme.error));
        }
        if let Some(hint) = &problem.hint {
            for part in wrap(&escape(hint), width).into_iter().take(2) {
                lines.push(Line::styled(part, theme.command));
            }
        }
    } else {
        // Where there is little room the timeline says it alone.
        let says_moment = is_to_a_moment(form) && model.size.1 >= 30;
        let moment = says_moment.then(|| moment::sentence(model, form)).flatten();
        let sentences: Vec<String> = moment.into_iter().chain(sentence(form)).collect();
        if !sentences.is_empty() {
            lines.extend(wrap(&sentences.join(" "), width).into_iter().take(4).map(Line::raw));
        }
    }
    lines
}

/// What is to be known before a service is recorded by two schedules.
fn records_again(model: &Model, form: &Form) -> Option<String> {
    let edited = match &form.purpose {
        Purpose::EditSchedule(name) => name.as_str(),
        _ => "",
    };
    // One that is off records nothing, however it is edited.
    let is_on = model.schedule(edited).is_none_or(|schedule| schedule.enabled);
    let by = model.recorded_already(form.text("service"), edited).filter(|_| is_on && is_pitr(form))?;
    Some(recorded_twice(form.text("service"), by))
}

/// The service that is no longer recorded once this edit of a schedule is saved.
fn ends_recording<'a>(model: &'a Model, form: &Form) -> Option<&'a str> {
    let Purpose::EditSchedule(name) = &form.purpose else { return None };
    let schedule = model.schedule(name).filter(|s| model.is_recorded_by_this_alone(s))?;
    (!is_pitr(form) || form.text("service") != schedule.service).then_some(schedule.service.as_str())
}

/// What will happen, in one sentence.
pub fn sentence(form: &Form) -> Option<String> {
    let text = |key: &str| escape(form.text(key));
    match &form.purpose {
        Purpose::Create | Purpose::EditSchedule(_) => {
            let (service, storage) = (form.text("service"), form.text("storage"));
            if service == ADD || storage == ADD || service.is_empty() || storage.is_empty() {
                return Some("A backup needs a service and a storage.".into());
            }
            let folder = if text("folder").is_empty() { String::new() } else { format!("/{}", text("folder")) };
            let what = match (form.text("include").is_empty(), form.text("exclude").is_empty()) {
                (true, true) => "the whole of".to_owned(),
                (false, true) => format!("{} of", text("include")),
                (true, false) => format!("all but {} of", text("exclude")),
                (false, false) => format!("{} without {} of", text("include"), text("exclude")),
            };
            let retry = match form.text("retry") {
                "auto" => {
                    format!(" It is tried again up to {} times, {} apart.", text("retries"), text("retry_interval"))
                }
                _ => String::new(),
            };
            let (service, storage) = (text("service"), text("storage"));
            match &form.preview {
                None => Some(format!("Now {what} {service} is backed up once to {storage}{folder}.{retry}")),
                Some(preview) => {
                    let when = preview::when_words(preview)?;
                    let kept = preview::kept_words(form);
                    Some(if is_pitr(form) {
                        let each = "each change in between is kept";
                        format!("{when} {service} is backed up to {storage}{folder}, {each}, and {kept}.{retry}")
                    } else {
                        format!("{when} {what} {service} is backed up to {storage}{folder}, and {kept}.{retry}")
                    })
                }
            }
        }
        Purpose::Restore(_) => Some("The plan comes first: nothing is written before you have seen it.".into()),
        _ => None,
    }
}

fn buttons(model: &Model, form: &Form, width: usize) -> Line<'static> {
    let theme = &model.theme;
    let style = |item| if form.focus == item { theme.button_focused } else { theme.button };
    let mark = |item| if form.focus == item { "▸" } else { " " };
    let cancel = format!("{}[ Cancel ]", mark(Item::Cancel));
    let stopped = !prerequisites::stoppers(model, form).is_empty();
    let anyway = if stopped { " anyway" } else { "" };
    let submit = format!("{}[ {}{anyway} ]", mark(Item::Submit), submit_label(form));
    let wait = if form.submitting { format!("{} one moment ", spinner(model)) } else { String::new() };
    let pad = width.saturating_sub(cancel.width() + submit.width() + wait.width() + 1);
    Line::from(vec![
        Span::styled(wait, theme.running),
        Span::raw(" ".repeat(pad)),
        Span::styled(cancel, style(Item::Cancel)),
        Span::raw(" "),
        Span::styled(submit, style(Item::Submit)),
    ])
}
