//! The live check of the service in a form: what stops its backup first, each with its remedy.

use ratatui::text::Line;

use super::pages::check_sign;
use super::text::{fit, spinner, wrap};
use crate::domain::service::CheckState;
use crate::domain::text::escape;
use crate::tui::action::Action;
use crate::tui::form::Form;
use crate::tui::forms::backup_model;
use crate::tui::model::{Load, Model};
use crate::tui::prerequisites;

/// How many items of a check are shown with their remedies: the rest is counted.
fn shown_items(model: &Model) -> usize {
    if model.size.1 < 30 { 2 } else { 5 }
}

/// The live check of the chosen service: the sum, and what is wrong with its remedy, what stops the backup first.
pub(super) fn lines(model: &Model, form: &Form, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    match model.check(form.text("service"), backup_model(form)) {
        Some(Load::Waiting) => {
            vec![Line::styled(format!("{} checking the prerequisites", spinner(model)), theme.running)]
        }
        Some(Load::Failed(problem)) => {
            let text = format!("✗ prerequisites: {}", escape(&problem.message));
            wrap(&text, width).into_iter().take(2).map(|part| Line::styled(part, theme.error)).collect()
        }
        Some(Load::Ready(_)) => {
            let items = prerequisites::items(model, form).unwrap_or_default();
            let mut lines = Vec::new();
            let passed = items.iter().filter(|i| i.state == CheckState::Pass).count();
            // What a server is locked for must be known before it is, whole, whether it is a warning or not.
            let lock = items.iter().find(|i| i.id == "locking");
            let wrong: Vec<_> = items
                .iter()
                .filter(|i| matches!(i.state, CheckState::Warn | CheckState::Fail) && i.id != "locking")
                .collect();
            if wrong.is_empty() && lock.is_none_or(|i| i.state == CheckState::Pass) {
                lines.push(Line::styled(format!("✓ all {passed} prerequisites are met"), theme.ok));
            }
            let most = shown_items(model);
            for item in wrong.iter().take(most) {
                let (sign, style) = check_sign(model, item.state);
                let text = format!("{sign} {}: {}", escape(&item.title), escape(&item.detail));
                lines.push(Line::styled(fit(&text, width), style));
                if !item.remedy.is_empty() {
                    lines.push(Line::styled(fit(&format!("  {}", escape(&item.remedy)), width), theme.key));
                }
            }
            if let Some(more) = wrong.len().checked_sub(most).filter(|more| *more > 0) {
                let failed = wrong.iter().skip(most).any(|i| i.state == CheckState::Fail);
                let style = if failed { theme.error } else { theme.warn };
                let key = model.keymap.first(Action::CheckService);
                let text = format!("  and {more} more: {key} on Settings, Services shows all of them");
                lines.push(Line::styled(fit(&text, width), style));
            }
            if let Some(lock) = lock {
                let (sign, style) = check_sign(model, lock.state);
                let text = format!("{sign} {}", escape(&lock.detail));
                lines.extend(wrap(&text, width).into_iter().map(|part| Line::styled(part, style)));
            }
            lines
        }
        None => Vec::new(),
    }
}
