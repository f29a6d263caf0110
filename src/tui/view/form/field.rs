//! A row that is typed: its text around the cursor, and beside it what is known or wrong about that text.

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::super::preview;
use super::super::text::{fit, from_column, take_columns};
use super::label;
use crate::domain::field::FieldKind;
use crate::domain::text::escape;
use crate::domain::uri;
use crate::tui::form::{Form, Row};
use crate::tui::forms::{TIME, in_words};
use crate::tui::model::Model;
use crate::tui::moment;

/// The row, and the column of the text cursor in it.
pub(super) fn line(model: &Model, form: &Form, row: &Row, focused: bool, width: usize) -> (Line<'static>, Option<u16>) {
    let theme = &model.theme;
    let label_width = label::width(form);
    let why_dimmed = form.why_dimmed(row);
    let mut spans = label::spans(model, form, row, focused);
    let room = width.saturating_sub(label_width);
    // The focused field says it below the rows, in full.
    let error = row
        .error
        .as_ref()
        .map(|why| if focused { "✗".to_owned() } else { format!("✗ {}", model.say(&in_words(form, why))) });
    let (note, note_style) = match (error, row.field.key, &form.preview) {
        (Some(error), _, _) => (error, theme.error),
        // What is wrong with the focused one is said whole below the rows.
        (None, "cron", Some(preview)) if focused && preview.words.is_err() => ("!".to_owned(), theme.warn),
        (None, "cron", Some(preview)) => preview::line_words(model, preview),
        (None, TIME, _) => (zone_words(model, form), theme.dim),
        (None, _, _) if row.removes => ("✗ removed when you save".to_owned(), theme.warn),
        (None, _, _) if row.may_be_removed() => ("stored".to_owned(), theme.dim),
        _ => match why_dimmed.filter(|why| !why.is_empty()) {
            Some(why) => (format!("← {why}"), theme.dim),
            None => (String::new(), theme.dim),
        },
    };
    // That of a time stays as it is while the zone beside it comes and goes.
    let field_width = match note.as_str() {
        // The reason needs the room more than the field does.
        _ if (row.error.is_some() && !focused) || (why_dimmed.is_some() && !note.is_empty()) => {
            (row.value().width().clamp(8, 26) + 2).min(room)
        }
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
    let style = if why_dimmed.is_some() {
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
    (Line::from(spans), why_dimmed.is_none().then_some(cursor))
}

/// Of a connection string only the password is a secret.
fn is_uri(row: &Row) -> bool {
    row.field.key == "uri"
}

/// `in Europe/Paris`: the zone in which a time is read that names none itself.
fn zone_words(model: &Model, form: &Form) -> String {
    let Some(pane) = form.moment.as_ref().filter(|_| moment::is_local(form.text(TIME))) else {
        return String::new();
    };
    format!("in {}", pane.zone(model.zone, model.local_zone).name())
}
