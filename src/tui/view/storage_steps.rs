//! The steps of the test of a storage, as they end: below the form of one that is not saved.

use ratatui::text::{Line, Span};

use super::storage_holdings;
use super::text::{reason_and_hint, spinner, wrap};
use crate::domain::storage::TestStep;
use crate::domain::text::escape;
use crate::tui::form::{Draft, Form, Purpose};
use crate::tui::forms::in_words;
use crate::tui::model::{Load, Model};
use crate::tui::msg::draft_name;

/// What the last test of a form said and what it holds, or how to begin one, in about `most` lines. A test of other values
/// than are there now says that.
pub fn of_form(model: &Model, form: &Form, width: usize, most: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let dim = |text: &str| wrap(text, width).into_iter().map(move |part| Line::styled(part, theme.dim));
    let Some(draft) = &form.draft else {
        return known(model, form, width)
            .into_iter()
            .chain(dim("It is tested before it is saved; Ctrl-T only tests it."))
            .collect();
    };
    if draft.values != form.values() {
        let text = "Changed since it was tested: it is tested again before it is saved. Ctrl-T only tests it.";
        return dim(text).collect();
    }
    let Some(run) = model.tests.get(&draft_name(draft.ticket)) else { return Vec::new() };
    let passed: Vec<String> = run.steps.iter().filter(|step| step.ok).map(|step| escape(&step.id)).collect();
    let mut lines = Vec::new();
    if !passed.is_empty() {
        let words = wrap(&passed.join(", "), width.saturating_sub(2));
        lines.extend(words.into_iter().enumerate().map(|(i, part)| {
            Line::from(vec![Span::styled(if i == 0 { "✓ " } else { "  " }, theme.ok), Span::styled(part, theme.dim)])
        }));
    }
    let room = most.saturating_sub(lines.len() + 1);
    for step in run.steps.iter().filter(|step| !step.ok) {
        lines.extend(failed(model, form, step, width, room));
    }
    match &run.result {
        None => {
            let then = if draft.saves { "; it is saved when all is well" } else { "" };
            lines.push(Line::styled(format!("{} testing{then}", spinner(model)), theme.running));
        }
        // The answer to the submission comes next.
        Some(Ok(())) if run.passed() && form.submitting => {}
        Some(Ok(())) if run.passed() => {
            lines.push(Line::styled("✓ it can be used; nothing is saved yet", theme.ok));
            lines.extend(found(model, draft, width));
        }
        Some(Ok(())) => {}
        Some(Err(problem)) => {
            let hint = problem.hint.as_deref().map(|hint| model.say(&in_words(form, hint)));
            lines.extend(reason_and_hint(model, &model.say(&in_words(form, &problem.message)), hint, width, room));
        }
    }
    lines
}

/// Why a step failed and what to do about it: the second is what a person came for, and is not cut for the first.
fn failed(model: &Model, form: &Form, step: &TestStep, width: usize, most: usize) -> Vec<Line<'static>> {
    let said = |text: &str| model.say(&in_words(form, text));
    let reason = said(&format!("{}: {}", step.id, step.reason()));
    // A remedy is a command, which the reason names already.
    let hint = step.hint.as_deref().map(said);
    reason_and_hint(model, &reason, hint, width, most)
}

/// What the catalogue knows of the storage that is edited.
fn known(model: &Model, form: &Form, width: usize) -> Vec<Line<'static>> {
    match &form.purpose {
        Purpose::EditStorage(name) => storage_holdings::of_catalogue(model, name, width),
        _ => Vec::new(),
    }
}

/// What was found in the location that has passed its test.
fn found(model: &Model, draft: &Draft, width: usize) -> Vec<Line<'static>> {
    match &draft.holds {
        None => Vec::new(),
        Some(Load::Waiting) => {
            vec![Line::styled(format!("{} reading what it holds, 20 s at most", spinner(model)), model.theme.running)]
        }
        Some(Load::Failed(problem)) => {
            let text = format!("! what it holds cannot be read: {}", model.say(&problem.message));
            wrap(&text, width).into_iter().take(2).map(|part| Line::styled(part, model.theme.warn)).collect()
        }
        Some(Load::Ready(holdings)) => storage_holdings::of_location(model, holdings, width),
    }
}
