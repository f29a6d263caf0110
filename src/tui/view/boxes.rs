//! Boxes above the page: questions, the plan of a restore, the palette.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::text::{first_lines, fit, put, spinner, typed, wrap};
use super::{form_box, is_small, place_cursor, popup};
use crate::domain::restore::{CollectionKind, PlannedAction, PlannedNamespace, RestorePlan};
use crate::domain::text::{bytes, count, counted, duration, escape};
use crate::tui::model::{Confirm, Layer, Model, Palette, Review, Then};
use crate::tui::palette as commands;

/// A question with its buttons.
pub fn confirm(frame: &mut Frame, model: &Model, confirm: &Confirm, area: Rect) {
    let theme = &model.theme;
    let lines: Vec<String> = confirm.lines.iter().map(|line| model.say(line)).collect();
    // A key or a path is compared as a whole: the box is as wide as that needs.
    let longest = lines.iter().flat_map(|line| line.split(' ')).map(UnicodeWidthStr::width).max().unwrap_or(0);
    let longest = u16::try_from(longest + 4).unwrap_or(u16::MAX);
    let width = 66.max(longest).min(area.width.saturating_sub(4));
    let inner_width = usize::from(width.saturating_sub(4));
    let mut text: Vec<String> = lines.iter().flat_map(|line| wrap(line, inner_width)).collect();
    if let Some(typed) = &confirm.typed {
        let label = confirm.buttons.last().map_or("", |button| &button.label);
        text.extend(wrap(&format!("For {label:?} type {}:", escape(&typed.name)), inner_width));
        let cursor = if confirm.asks_for_name() { "▏" } else { "" };
        text.push(format!("{}{cursor}", fit(&escape(&typed.text), inner_width.saturating_sub(1)).trim_end()));
        if typed.wrong {
            text.push(format!("✗ {}", wrong_name(&typed.text)));
        }
    }
    let mut buttons: Vec<Span> = Vec::new();
    for (i, button) in confirm.buttons.iter().enumerate() {
        let focused = i == confirm.focus;
        let style = match (focused, &button.then) {
            (true, Then::Nothing) => theme.button_focused,
            (true, _) => theme.danger_focused,
            _ => theme.button,
        };
        let mark = if focused { "▌" } else { " " };
        buttons.push(Span::styled(format!("{mark}[ {} ]", button.label), style));
    }
    // One below the other where they have no room side by side.
    let is_wide = buttons.iter().map(|b| b.content.width() + 1).sum::<usize>() > inner_width + 1;
    let buttons: Vec<Line> = match is_wide {
        true => buttons.into_iter().map(Line::from).collect(),
        false => vec![Line::from(buttons.into_iter().flat_map(|b| [b, Span::raw(" ")]).collect::<Vec<_>>())],
    };
    let rows = buttons.len() as u16;
    // A title that says it all has no blank line for a text below it.
    let blank = if text.is_empty() { 0 } else { 1 };
    let height = (text.len() as u16 + 3 + blank + rows).min(area.height.saturating_sub(2));
    let inner = popup(frame, model, area, width, height, &escape(&confirm.title));
    let room = usize::from(inner.height.saturating_sub(1 + rows));
    let mut lines = vec![Line::raw("")];
    lines.extend(first_lines(text, room.saturating_sub(1)).into_iter().map(Line::raw));
    put(frame, lines, inner);
    let y = inner.bottom().saturating_sub(rows);
    put(frame, buttons, Rect { y, height: rows, ..inner });
}

/// Where the plan of a restore is drawn: the size of its box.
fn review_size(model: &Model, area: Rect) -> (u16, u16) {
    if is_small(model.size) {
        return (area.width, area.height);
    }
    (area.width.saturating_sub(6).min(110), area.height.saturating_sub(2))
}

/// How far the open plan can be scrolled.
pub fn review_overflow(model: &Model) -> usize {
    let Some(Layer::Review(review)) = model.layers.last() else { return 0 };
    // As the line about store or daemon leaves it.
    let top = match (super::chrome::banner_text(model).is_some(), is_small(model.size)) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 3,
    };
    let area = Rect { x: 0, y: top, width: model.size.0, height: model.size.1.saturating_sub(3 + top) };
    let (width, height) = review_size(model, area);
    let (width, height) = (usize::from(width.saturating_sub(4)), usize::from(height.saturating_sub(2)));
    let room = height.saturating_sub(below_plan(model, review, width, height).len() + 3);
    plan_lines(model, &review.plan, width).len().saturating_sub(room)
}

/// What stands between the plan and the field, on at most half of the box: why it was not queued, and what to type.
/// A name that is longer than a line goes on in the next one, since nobody can type what is cut.
fn below_plan(model: &Model, review: &Review, width: usize, height: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let mut question = Vec::new();
    let name = escape(review.plan.target());
    if review.plan.is_by_hand() {
        return vec![Line::styled("The steps are yours to do. Esc goes back.", theme.warn)];
    }
    let source = match &review.plan.point_in_time {
        Some(replay) => &replay.service,
        None => &review.plan.from_service,
    };
    if review.plan.overwrites() && source == review.plan.target() {
        let text = format!("Data in {name} will be replaced, and {name} is where the backup comes from.");
        question.extend(wrap(&text, width));
    } else if review.plan.overwrites() {
        question.extend(wrap(&format!("Data in {name} will be replaced."), width));
    }
    question.extend(wrap(&format!("Type {name} to confirm:"), width));
    let mut lines: Vec<Line> = Vec::new();
    if let Some(problem) = &review.error {
        let why = wrap(&format!("✗ {}", model.say(&problem.message)), width);
        lines.extend(why.into_iter().map(|part| Line::styled(part, theme.error)));
        let hint = problem.hint.as_ref().map(|hint| wrap(&model.say(hint), width)).unwrap_or_default();
        lines.extend(hint.into_iter().map(|part| Line::styled(part, theme.command)));
    }
    lines.truncate((height / 2).saturating_sub(question.len()));
    lines.extend(question.into_iter().map(|part| Line::styled(part, theme.warn)));
    lines
}

/// The plan of a restore, whole, and the field for the target's name.
pub fn review(frame: &mut Frame, model: &Model, review: &Review, area: Rect) {
    let theme = &model.theme;
    let (width, height) = review_size(model, area);
    let title = match &review.plan.point_in_time {
        Some(replay) => {
            format!("Restore a moment of {} into {}", escape(&replay.service), escape(review.plan.target()))
        }
        None => format!("Restore {} into {}", escape(&review.plan.backup), escape(review.plan.target())),
    };
    let inner = form_box(frame, model, area, width, height, &title);
    let lines = plan_lines(model, &review.plan, usize::from(inner.width));
    let below = below_plan(model, review, usize::from(inner.width), usize::from(inner.height));
    // The rule above them, the field, and what Enter does.
    let plan_height = inner.height.saturating_sub(below.len() as u16 + 3);
    let total = lines.len();
    let room = usize::from(plan_height);
    let from = review.scroll.min(total.saturating_sub(room));
    let more = total.saturating_sub(from + room);
    let shown: Vec<Line> = lines.into_iter().skip(from).take(room).collect();
    put(frame, shown, Rect { height: plan_height, ..inner });
    let y = inner.y + plan_height;
    let more = if more > 0 { format!("─ {}, Down ", counted(more as u64, "more line")) } else { String::new() };
    let rule = format!("{more}{}", "─".repeat(usize::from(inner.width).saturating_sub(more.width())));
    let field_width = usize::from(inner.width).saturating_sub(2).min(50);
    let (field, cursor) = typed(&review.typed, field_width);
    if review.plan.is_by_hand() {
        let lines: Vec<Line> = std::iter::once(Line::styled(rule, theme.border)).chain(below).collect();
        put(frame, lines, Rect { y, height: inner.bottom().saturating_sub(y), ..inner });
        return;
    }
    let last = if review.submitting {
        Line::styled(format!("{} queueing", spinner(model)), theme.running)
    } else if review.is_confirmed() {
        Line::from(vec![Span::styled("✓ Enter", theme.ok), Span::raw(" starts the restore")])
    } else if review.wrong {
        Line::styled(format!("✗ {}", wrong_name(review.typed.value())), theme.error)
    } else {
        Line::styled("nothing is written before that", theme.dim)
    };
    let field_y = y + 1 + below.len() as u16;
    let mut lines = vec![Line::styled(rule, theme.border)];
    lines.extend(below);
    lines.extend([Line::from(Span::styled(field, theme.input_focused)), last]);
    put(frame, lines, Rect { y, height: inner.bottom().saturating_sub(y), ..inner });
    place_cursor(frame, inner.x + cursor, field_y);
}

/// What is said of a name that was typed and is another one.
fn wrong_name(typed: &str) -> &'static str {
    if typed.is_empty() { "type the name first; Esc goes back" } else { "that is another name; Esc goes back" }
}

/// How many there will be: of a moment only those of its base are known beforehand.
fn documents(plan: &RestorePlan, ns: &PlannedNamespace) -> String {
    match (ns.documents, &plan.point_in_time) {
        (Some(n), None) => counted(n, "document"),
        (Some(n), Some(_)) => format!("{} in the base", count(n)),
        (None, _) if ns.uncounted => "documents not counted".into(),
        (None, _) => "all from the oplog".into(),
    }
}

fn plan_lines(model: &Model, plan: &RestorePlan, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let mut lines = Vec::new();
    // Nothing of it may be cut: it is what a person agrees to.
    let mut fact = |label: &str, value: String| {
        for (i, part) in wrap(&value, width.saturating_sub(14)).into_iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            lines.push(Line::from(vec![Span::styled(format!("{label:<14}"), theme.dim), Span::raw(part)]));
        }
    };
    if let Some(replay) = &plan.point_in_time {
        let at = super::text::when_exactly(model, replay.until_at);
        fact("As of", format!("{at}, {}", replay.until.within_second()));
        let base = super::text::when_exactly(model, replay.base.consistent_at_ts.to_datetime());
        fact("Base", format!("{} of {base}", escape(&replay.base.backup)));
        let bytes = bytes(replay.bytes);
        let slices = counted(replay.slices, "slice");
        let place = escape(&replay.archive.storage);
        let entries = match replay.entries {
            0 => String::new(),
            1 => ", at most 1 entry of the oplog".to_owned(),
            n => format!(", at most {} entries of the oplog", count(n)),
        };
        fact(
            "Then",
            match replay.archive.is_by_engine() {
                true => format!("the oplog that its engine recorded in {place}"),
                false => format!("{slices}, {bytes}{entries}, from {place}"),
            },
        );
        fact("Takes", format!("about {}", duration(replay.expected_seconds)));
    } else {
        fact("From", format!("{} of {}", escape(&plan.backup), escape(&plan.from_service)));
    }
    if let Some(ts) = plan.consistent_at_ts.filter(|_| plan.point_in_time.is_none()) {
        fact("As of", format!("{}  ({ts})", super::text::when_exactly(model, ts.to_datetime())));
    }
    let target = format!("{}, MongoDB {}", escape(plan.target()), escape(&plan.target_version));
    fact("Into", format!("{target}, FCV {}", escape(&plan.target_fcv)));
    if let Some(first) = &plan.safety_backup {
        fact("Safety backup", format!("first, as {} in {}", escape(&first.name), escape(&first.storage)));
    }
    let replaced = plan.namespaces.iter().filter(|n| n.action == PlannedAction::Replace).count();
    let created = plan.namespaces.len() - replaced;
    match &plan.files {
        None => fact("In short", format!("{created} created, {replaced} replaced, {} dropped", plan.dropped.len())),
        Some(files) => {
            if let Some(why) = &files.only_by_hand {
                fact("By hand", format!("mongokeep does not do this by itself: {}", model.say(why)));
            } else {
                let (needed, free) = (bytes(files.bytes), bytes(files.free_bytes));
                fact("In short", format!("{}, {needed}; {free} free there", counted(files.files, "file")));
            }
            if let (Some(old), None) = (&files.replaces, &files.only_by_hand) {
                fact("Replaces", format!("the data in {}", escape(&files.dir)));
                fact("Old files", format!("in {} until the restored server answers", escape(old)));
            }
            for (n, step) in files.steps.iter().enumerate() {
                fact(&format!("Step {}", n + 1), escape(step));
            }
            for (n, line) in files.by_hand.iter().enumerate() {
                let label = if files.only_by_hand.is_some() { "To know" } else { "Afterwards" };
                fact(if n == 0 { label } else { "" }, escape(line));
            }
        }
    }
    for warning in &plan.warnings {
        for part in wrap(&format!("! {}", escape(warning)), width) {
            lines.push(Line::styled(part, theme.warn));
        }
    }
    lines.push(Line::raw(""));
    for ns in &plan.namespaces {
        let (word, style) = match ns.action {
            PlannedAction::Create => ("+ create", theme.ok),
            PlannedAction::Replace => ("! replace", theme.warn),
        };
        let name = if ns.from == ns.to {
            escape(&ns.to.to_string())
        } else {
            format!("{} → {}", escape(&ns.from.to_string()), escape(&ns.to.to_string()))
        };
        let what = match (ns.kind, ns.replaces_documents) {
            (CollectionKind::View, _) => "view".to_owned(),
            (_, old) => {
                let there = old.map_or_else(String::new, |old| format!(", {} there now", count(old)));
                format!("{}{there}", documents(plan, ns))
            }
        };
        lines.extend(named(Span::styled(word, style), &Span::raw(name), Span::styled(what, theme.dim), width));
    }
    for ns in &plan.dropped {
        let name = Span::raw(escape(&ns.to_string()));
        lines.extend(named(Span::styled("✗ drop", theme.error), &name, Span::default(), width));
    }
    if plan.users_and_roles {
        let of = if plan.users_of.is_empty() {
            "of all databases".to_owned()
        } else {
            format!("of {}", escape(&plan.users_of.join(", ")))
        };
        let name = Span::raw(format!("users and roles {of}"));
        lines.extend(named(Span::styled("! replace", theme.warn), &name, Span::default(), width));
    }
    for ns in &plan.untouched {
        let name = Span::styled(escape(&ns.to_string()), theme.dim);
        lines.extend(named(Span::styled("  keep", theme.dim), &name, Span::default(), width));
    }
    for left in &plan.left_out {
        for part in wrap(&format!("- left out {}: {}", escape(&left.what), model.say(&left.why)), width) {
            lines.push(Line::styled(part, theme.warn));
        }
    }
    lines
}

/// What becomes of something, its name, and at the end of the line what is known of it. A name that is too long for one
/// line goes on below itself.
fn named(word: Span<'static>, name: &Span<'_>, what: Span<'static>, width: usize) -> Vec<Line<'static>> {
    const INDENT: usize = 11;
    let room = width.saturating_sub(INDENT);
    let mut parts = wrap(&name.content, room);
    let last = parts.last().map_or(0, |part| part.width());
    if what.width() > 0 && last + 1 + what.width() > room {
        parts.push(String::new());
    }
    let pad = room.saturating_sub(parts.last().map_or(0, |part| part.width()) + what.width());
    let pad_word = " ".repeat(INDENT.saturating_sub(word.width()));
    let mut lines: Vec<Line> = parts
        .into_iter()
        .map(|part| Line::from(vec![Span::raw(" ".repeat(INDENT)), Span::styled(part, name.style)]))
        .collect();
    if let Some(first) = lines.first_mut() {
        first.spans.splice(..1, [word, Span::raw(pad_word)]);
    }
    if let Some(last) = lines.last_mut().filter(|_| what.width() > 0) {
        last.spans.extend([Span::raw(" ".repeat(pad)), what]);
    }
    lines
}

/// All actions by name.
pub fn palette(frame: &mut Frame, model: &Model, palette: &Palette, area: Rect) {
    let theme = &model.theme;
    let found = commands::matches(model);
    let width = 92.min(area.width.saturating_sub(4));
    let height = 18.min(area.height.saturating_sub(4));
    let inner = popup(frame, model, area, width, height, "Commands");
    let field_width = usize::from(inner.width).saturating_sub(2);
    let (typed, cursor) = typed(&palette.input, field_width);
    let field = Line::from(vec![Span::styled("> ", theme.key), Span::styled(typed, theme.input_focused)]);
    put(frame, field, Rect { height: 1, ..inner });
    place_cursor(frame, inner.x + 2 + cursor, inner.y);
    let rows = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
    let room = usize::from(rows.height).max(1);
    let selected = palette.selected.min(found.len().saturating_sub(1));
    let from = (selected + 1).saturating_sub(room);
    let mut lines = Vec::new();
    for (i, action) in found.iter().enumerate().skip(from).take(room) {
        let keys = fit(&model.keymap.all(*action), 14);
        let why = commands::why_not(model, *action);
        let mark = if i == selected { "▸ " } else { "  " };
        let style = if i == selected { theme.selected } else { theme.text };
        let rest = usize::from(inner.width).saturating_sub(2 + 15);
        let title_style = if why.is_some() { theme.disabled } else { theme.text };
        let title = fit(action.title(), rest);
        let why = why.map(|w| fit(&format!("  {w}"), rest.saturating_sub(title.width()))).unwrap_or_default();
        let pad = " ".repeat(rest.saturating_sub(title.width() + why.width()));
        lines.push(
            Line::from(vec![
                Span::styled(mark, theme.accent),
                Span::styled(title, title_style),
                Span::styled(why, theme.warn),
                Span::raw(pad),
                Span::styled(format!("{keys:>15}"), theme.key),
            ])
            .style(style),
        );
    }
    if lines.is_empty() {
        lines.push(Line::styled("  no action is called like that", theme.dim));
    }
    put(frame, lines, rows);
}
