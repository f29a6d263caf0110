//! The list that fills a row of a form.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::text::{fit, put, spinner, typed, wrap};
use super::{place_cursor, popup};
use crate::domain::text::count;
use crate::tui::form::{ADD, Form};
use crate::tui::model::Model;
use crate::tui::offers;
use crate::tui::picker::{Entry, Picker};

/// Draws it; `form` is the one below it.
pub fn draw(frame: &mut Frame, model: &Model, picker: &Picker, form: &Form, area: Rect) {
    let theme = &model.theme;
    let entries = offers::entries(picker, model, form);
    let width = 76.min(area.width.saturating_sub(4));
    let most = if area.height > 40 { 30 } else { 18 };
    let height = most.min(area.height.saturating_sub(2));
    let title = if picker.takes_several() { format!("{}: Space marks", picker.title) } else { picker.title.to_owned() };
    let inner = popup(frame, model, area, width, height, &title);
    let found = match &entries {
        Ok(entries) => format!("{} ", count(entries.iter().filter(|e| e.value != ADD).count() as u64)),
        Err(_) => String::new(),
    };
    let (text, cursor) = typed(&picker.input, usize::from(inner.width).saturating_sub(3 + found.width()));
    let field = Line::from(vec![
        Span::styled("/ ", theme.key),
        Span::styled(text, theme.input_focused),
        Span::styled(format!(" {found}"), theme.dim),
    ]);
    put(frame, field, Rect { height: 1, ..inner });
    place_cursor(frame, inner.x + 2 + cursor, inner.y);
    let rows = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
    let width = usize::from(rows.width);
    let lines = match entries {
        Err(why) if why == "one moment" => {
            vec![Line::styled(format!("  {} asking what there is", spinner(model)), theme.running)]
        }
        Err(why) => {
            wrap(&model.say(&why), width.saturating_sub(2)).into_iter().map(|p| Line::styled(p, theme.warn)).collect()
        }
        Ok(entries) if entries.is_empty() => vec![Line::styled("  nothing is called like that", theme.dim)],
        Ok(entries) => window(model, picker, &entries, usize::from(rows.height).max(1), width),
    };
    put(frame, lines, rows);
}

/// The entries around the selected one.
fn window(model: &Model, picker: &Picker, entries: &[Entry], height: usize, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let selected = picker.selected.min(entries.len() - 1);
    let from = (selected + height / 2 + 1).saturating_sub(height).min(entries.len().saturating_sub(height));
    let line = |(i, entry): (usize, &Entry)| {
        let is_selected = i == selected;
        let mark = match picker.takes_several() {
            false => "",
            true if is_marked(picker, entries, i) => "[x] ",
            true => "[ ] ",
        };
        let indent = if entry.is_below { "  " } else { "" };
        let note = entry.off.as_ref().unwrap_or(&entry.note);
        let style = if entry.off.is_some() { theme.disabled } else { theme.text };
        let front = format!("{} {indent}{mark}", if is_selected { "▌" } else { " " });
        let room = width.saturating_sub(front.width());
        // The name matters most.
        let text = fit(&entry.text, room.saturating_sub(2 + note.width().min(room / 2)));
        let note = fit(note, room.saturating_sub(text.width() + 2));
        let pad = " ".repeat(room.saturating_sub(text.width() + note.width()));
        let spans = vec![
            Span::styled(front, theme.accent),
            Span::styled(text, style),
            Span::raw(pad),
            Span::styled(note, theme.dim),
        ];
        Line::from(spans).style(if is_selected { theme.selected } else { theme.text })
    };
    entries.iter().enumerate().skip(from).take(height).map(line).collect()
}

/// Whether an entry is marked, or belongs to a database that is.
fn is_marked(picker: &Picker, entries: &[Entry], at: usize) -> bool {
    let marked = |entry: &Entry| picker.marked.contains(&entry.value);
    let entry = &entries[at];
    let database = entries[..at].iter().rev().find(|e| !e.is_below);
    marked(entry) || (entry.is_below && database.is_some_and(marked))
}
