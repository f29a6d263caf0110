//! The rows of a form, one below the other: those that are seldom needed are folded away.

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::super::text::fit;
use super::super::{moment, preview};
use super::{choice, field, label};
use crate::domain::field::FieldKind;
use crate::domain::text::escape;
use crate::tui::form::{Form, Item};
use crate::tui::forms::TIMELINE;
use crate::tui::model::Model;

/// The rows, where the one with the cursor begins and how many lines it has, and the column of the text cursor.
pub(super) struct Body {
    pub(super) lines: Vec<Line<'static>>,
    pub(super) focus_line: usize,
    pub(super) focus_height: usize,
    pub(super) cursor: Option<u16>,
}

pub(super) fn rows(model: &Model, form: &Form, width: usize) -> Body {
    let theme = &model.theme;
    let label_width = label::width(form);
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
            let mut spans = label::spans(model, form, row, focused);
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
            lines.extend(choice::tall(model, form, row, focused, width));
            if focused {
                focus_height = lines.len() - focus_line;
            }
            return;
        }
        let (line, at) = match row.is_choice() {
            true => (choice::line(model, form, row, focused, width), None),
            false => field::line(model, form, row, focused, width),
        };
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
        let room = width.saturating_sub(label_width);
        let summary = if form.advanced_open { String::new() } else { advanced_summary(form, room) };
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

/// What the folded rows hold: `retry manual · compression zstd:1`. Each of them whole, or not at all.
fn advanced_summary(form: &Form, room: usize) -> String {
    const BETWEEN: &str = " · ";
    let parts: Vec<String> = form
        .rows
        .iter()
        .filter(|r| r.field.advanced && form.applies(r) && form.why_dimmed(r).is_none())
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
        .collect();
    let whole = parts.join(BETWEEN);
    if whole.width() <= room {
        return whole;
    }
    let mut out = String::new();
    for part in parts {
        let next = if out.is_empty() { part } else { format!("{out}{BETWEEN}{part}") };
        if next.width() + BETWEEN.width() + 1 > room {
            break;
        }
        out = next;
    }
    fit(&format!("{out}{BETWEEN}…"), room)
}
