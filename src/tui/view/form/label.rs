//! What stands in front of the value of a row: the mark of the cursor and the label, in one column for all rows.

use ratatui::text::Span;
use unicode_width::UnicodeWidthStr;

use super::super::text::fit;
use crate::tui::form::{Form, Row};
use crate::tui::model::Model;

/// Columns of the labels: as many as the longest that is shown needs.
pub(super) fn width(form: &Form) -> usize {
    let longest = form.visible().into_iter().map(|i| form.rows[i].field.label.width()).max().unwrap_or(0);
    longest.clamp(10, 24) + 5
}

/// Mark and label of a row, with the space to its value.
pub(super) fn spans(model: &Model, form: &Form, row: &Row, focused: bool) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let width = width(form);
    let label_style = match (focused, form.why_dimmed(row).is_some()) {
        (true, _) => theme.accent,
        (_, true) => theme.disabled,
        _ => theme.text,
    };
    let mark = if focused { "▌ " } else { "  " };
    let label = fit(row.field.label, width.saturating_sub(4));
    let needed = if row.field.required { "*" } else { " " };
    vec![
        Span::styled(mark, theme.accent),
        Span::styled(label.clone(), label_style),
        Span::styled(needed, theme.warn),
        Span::raw(" ".repeat(width.saturating_sub(3 + label.width()))),
    ]
}
