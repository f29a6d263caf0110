//! The lines below the rows: what is wrong with the field that has the cursor, else what it is for.

use ratatui::text::Line;

use super::super::text::{first_lines, wrap};
use crate::domain::text::escape;
use crate::tui::form::{Form, Item, Row};
use crate::tui::forms::in_words;
use crate::tui::model::Model;

/// Columns in front of the hint.
pub(super) const INDENT: usize = 2;

/// Lines of what is wrong with the focused field, at most.
const WRONG: usize = 6;

/// How many lines the hint of the focused field has: as many as the longest needs, so that no row moves. What is wrong with
/// it has what it needs.
pub(super) fn height(model: &Model, form: &Form, width: usize) -> usize {
    let lines = |i: &usize| wrap(&in_words(form, &form.rows[*i].help()), width.saturating_sub(2)).len();
    let helps = form.visible().iter().map(lines).max().unwrap_or(1).clamp(1, 3);
    let wrong = form.focused().and_then(|row| row.error.as_ref()).map(|error| wrong(model, form, error));
    wrong.map_or(helps, |wrong| wrap(&wrong, width.saturating_sub(2)).len().clamp(helps, WRONG))
}

fn wrong(model: &Model, form: &Form, error: &str) -> String {
    format!("✗ {}", model.say(&in_words(form, error)))
}

/// What is wrong with the focused field, else what it is for.
pub(super) fn lines(model: &Model, form: &Form, width: usize, most: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let (text, style) = match (form.focus, form.focused()) {
        (_, Some(Row { error: Some(error), .. })) => (wrong(model, form, error), theme.error),
        (_, Some(row)) if row.field.key == "cron" && why_no_line(form).is_some() => {
            (why_no_line(form).unwrap_or_default(), theme.warn)
        }
        (_, Some(row)) => {
            let off = words_off(row);
            (if off.is_empty() { in_words(form, &row.help()) } else { off }, theme.dim)
        }
        (Item::Advanced, _) if form.advanced_open => ("Enter folds these rows".to_owned(), theme.dim),
        (Item::Advanced, _) => ("Enter unfolds the rows that are seldom needed".to_owned(), theme.dim),
        _ => (String::new(), theme.dim),
    };
    first_lines(wrap(&text, width.saturating_sub(2)), most).into_iter().map(|part| Line::styled(part, style)).collect()
}

/// Why some words of a row cannot be taken, each reason once. One that begins with its word needs no word in front.
fn words_off(row: &Row) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for choice in &row.choices {
        let Some(why) = choice.disabled.as_deref() else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, words)) => words.push(choice.words()),
            None => reasons.push((why, vec![choice.words()])),
        }
    }
    let parts: Vec<String> = reasons
        .into_iter()
        .map(|(why, words)| match words.iter().any(|word| why.starts_with(word)) {
            true => escape(why),
            false => format!("{}: {}", escape(&words.join(", ")), escape(why)),
        })
        .collect();
    parts.join("; ")
}

/// What is wrong with the crontab line so far.
fn why_no_line(form: &Form) -> Option<String> {
    let why = form.preview.as_ref()?.words.as_ref().err()?;
    Some(format!("! {}", escape(why)))
}
