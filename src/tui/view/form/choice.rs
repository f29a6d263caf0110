//! A row that is picked: its words side by side, one below the other, or one at a time.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::super::text::fit;
use super::{label, note};
use crate::domain::field::FieldKind;
use crate::domain::text::escape;
use crate::tui::form::{ADD, Choice, Form, Row};
use crate::tui::model::Model;

/// A row whose words stand one below the other.
pub(super) fn tall(model: &Model, form: &Form, row: &Row, focused: bool, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let label_width = label::width(form);
    let room = width.saturating_sub(label_width);
    let indent = || Span::raw(" ".repeat(label_width));
    let mut lines = Vec::new();
    for choice in &row.choices {
        let picked = choice.value == row.value();
        let style = if picked && focused { theme.input_focused } else { theme.text };
        let mut spans = if lines.is_empty() { label::spans(model, form, row, focused) } else { vec![indent()] };
        spans.push(Span::styled(fit(&marked(model, choice, picked), room), style));
        lines.push(Line::from(spans));
    }
    lines
}

/// The row with its words in one line.
pub(super) fn line(model: &Model, form: &Form, row: &Row, focused: bool, width: usize) -> Line<'static> {
    let room = width.saturating_sub(label::width(form));
    let is_dimmed = form.why_dimmed(row).is_some();
    let mut spans = label::spans(model, form, row, focused);
    spans.extend(match row.field.kind {
        // What has names that are not known beforehand is shown one at a time.
        FieldKind::Service | FieldKind::Storage | FieldKind::Backup => name(model, row, is_dimmed, focused, room),
        FieldKind::Bool => vec![switch(model, row, focused)],
        _ if words_width(row) > room + 2 => one_word(model, row, focused, room),
        _ => words(model, row, is_dimmed, focused, room),
    });
    Line::from(spans)
}

/// How a word is shown that is picked, or is not.
fn marked(model: &Model, choice: &Choice, picked: bool) -> String {
    let sign = match (picked, model.look.ascii) {
        (true, false) => "(•)",
        (true, true) => "(*)",
        (false, _) => "( )",
    };
    format!("{sign} {}", escape(choice.words()))
}

fn taken(model: &Model, focused: bool) -> Style {
    if focused { model.theme.input_focused } else { model.theme.text }
}

/// The name of a service, storage or backup, and what is known about it.
fn name(model: &Model, row: &Row, is_dimmed: bool, focused: bool, room: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let what = if row.field.kind == FieldKind::Storage { "storage" } else { "service" };
    let text = match row.value() {
        ADD => format!("+ add a {what}, Enter"),
        "" => format!("pick a {what}"),
        name => escape(name),
    };
    // Beside the name stand the arrows and two blank columns.
    let beside = |text: &str| room.saturating_sub(text.width() + 6);
    let short = fit(&text, room.saturating_sub(4).min(28));
    let known = note::words(model, row, beside(&short));
    let text = if known.is_empty() { fit(&text, room.saturating_sub(4).min(60)) } else { short };
    let many = row.choices.len() > 1 && !is_dimmed;
    let (before, after) = if many && focused { ("← ", " →") } else { ("", "") };
    let (note, note_style) = match &row.error {
        Some(why) => (format!("✗ {}", model.say(why)), theme.error),
        None => (known, theme.dim),
    };
    let note = if note.is_empty() { note } else { format!("  {}", fit(&note, beside(&text))) };
    let style = if is_dimmed { theme.disabled } else { taken(model, focused) };
    vec![
        Span::styled(before, theme.key),
        Span::styled(text, style),
        Span::styled(after, theme.key),
        Span::styled(note, note_style),
    ]
}

fn switch(model: &Model, row: &Row, focused: bool) -> Span<'static> {
    let text = if row.value() == "true" { "[x] yes" } else { "[ ] no " };
    Span::styled(text, taken(model, focused))
}

/// Columns that all words take side by side, with the space after each.
fn words_width(row: &Row) -> usize {
    row.choices.iter().map(|c| escape(c.words()).width() + 6).sum()
}

/// All words side by side, and why some of them cannot be taken.
fn words(model: &Model, row: &Row, is_dimmed: bool, focused: bool, room: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let mut spans: Vec<Span> = Vec::new();
    let mut why: Option<&str> = None;
    for choice in &row.choices {
        let picked = choice.value == row.value();
        let style: Style = match (&choice.disabled, picked) {
            (Some(reason), _) => {
                why.get_or_insert(reason);
                theme.disabled
            }
            (None, true) => taken(model, focused),
            (None, false) => theme.text,
        };
        spans.push(Span::styled(marked(model, choice, picked), style));
        spans.push(Span::raw("  "));
    }
    let used: usize = spans.iter().map(|s| s.content.width()).sum();
    if let Some(error) = &row.error {
        spans.push(Span::styled(fit(&format!("✗ {}", model.say(error)), room.saturating_sub(used)), theme.error));
    } else if let Some(why) = why {
        // Several words may be off for the same reason; saying it once is enough. Without room here the hint says it.
        let text = format!("← {}", escape(why));
        // A row that cannot have the focus says it here, as far as there is room.
        if used + text.width() <= room || is_dimmed {
            spans.push(Span::styled(fit(&text, room.saturating_sub(used)), theme.disabled));
        }
    }
    spans
}

/// The word that is taken, and which of how many it is: there is no room for all of them.
fn one_word(model: &Model, row: &Row, focused: bool, room: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let at = row.choices.iter().position(|c| c.value == row.value());
    let word = at.and_then(|at| row.choices.get(at)).map_or_else(|| escape(row.value()), |c| escape(c.words()));
    let (before, after) = if focused { ("← ", " →") } else { ("", "") };
    let place = at.map_or_else(String::new, |at| format!("  {} of {}", at + 1, row.choices.len()));
    let word = fit(&word, room.saturating_sub(4 + place.width()));
    vec![
        Span::styled(before, theme.key),
        Span::styled(word, taken(model, focused)),
        Span::styled(after, theme.key),
        Span::styled(place, theme.dim),
    ]
}
