//! The steps of the test of a storage, as they end: below the form of one that is not saved.

use ratatui::text::{Line, Span};

use super::text::{spinner, wrap};
use crate::domain::storage::TestStep;
use crate::domain::text::escape;
use crate::tui::form::Form;
use crate::tui::model::Model;
use crate::tui::msg::draft_name;

/// Lines of what failed, at most: the form has its rows to show.
const MOST_LINES: usize = 4;

/// What the last test of a form said, or how to begin one. One of other values than are there now says that.
pub fn of_form(model: &Model, form: &Form, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let dim = |text: &str| vec![Line::styled(text.to_owned(), theme.dim)];
    let Some(draft) = &form.draft else { return dim("It is tested before it is saved; Ctrl-T only tests it.") };
    if draft.values != form.values() {
        return dim("Changed since it was tested. It is tested again before it is saved; Ctrl-T only tests it.");
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
    let failed = run.steps.iter().filter_map(TestStep::failure);
    for text in failed {
        let parts = wrap(&format!("✗ {}", escape(&text)), width).into_iter().take(MOST_LINES);
        lines.extend(parts.map(|part| Line::styled(part, theme.error)));
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
        }
        Some(Ok(())) => {}
        Some(Err(problem)) => {
            let parts = wrap(&format!("✗ {}", escape(&problem.message)), width).into_iter().take(MOST_LINES);
            lines.extend(parts.map(|part| Line::styled(part, theme.error)));
        }
    }
    lines
}
