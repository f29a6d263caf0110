//! The lines below the rows: what is wrong with the field that has the cursor, else what it is for.

use ratatui::text::Line;

use super::super::text::{first_lines, wrap};
use crate::domain::text::escape;
use crate::tui::form::{Form, Item, Row};
use crate::tui::model::Model;

/// Columns in front of the hint.
pub(super) const INDENT: usize = 2;

/// How many lines the hint of the focused field has: as many as the longest needs, so that no row moves.
pub(super) fn height(form: &Form, width: usize) -> usize {
    let lines = |i: &usize| wrap(&form.rows[*i].help(), width).len();
    form.visible().iter().map(lines).max().unwrap_or(1).clamp(1, 3)
}

/// What is wrong with the focused field, else what it is for.
pub(super) fn lines(model: &Model, form: &Form, width: usize, most: usize) -> Vec<Line<'static>> {
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
