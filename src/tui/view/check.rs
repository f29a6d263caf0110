//! The check of a service: as a page of its own, and below the form of a backup.

use std::ops::Range;

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::storage_report;
use super::text::{cell, fit, spinner, wrap};
use crate::domain::backup::Model as BackupModel;
use crate::domain::service::{CheckReport, CheckState};
use crate::domain::text::escape;
use crate::tui::action::Action;
use crate::tui::form::Form;
use crate::tui::forms::backup_model;
use crate::tui::model::{Layer, Load, Model, Report};
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
            let then = if form.waits_for_check { "; it begins when nothing speaks against it" } else { "" };
            vec![Line::styled(format!("{} checking the prerequisites{then}", spinner(model)), theme.running)]
        }
        Some(Load::Failed(problem)) => {
            let text = format!("✗ prerequisites: {}", model.say(&problem.message));
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
                let text = format!("{sign} {}: {}", escape(&item.title), model.say(&item.detail));
                lines.push(Line::styled(fit(&text, width), style));
                if !item.remedy.is_empty() {
                    lines.push(Line::styled(fit(&format!("  {}", model.say(&item.remedy)), width), theme.command));
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
                let text = format!("{sign} {}", model.say(&lock.detail));
                lines.extend(wrap(&text, width).into_iter().map(|part| Line::styled(part, style)));
            }
            lines
        }
        None => Vec::new(),
    }
}

/// The page of a check, and which of its lines each remedy takes.
pub(super) fn report_lines(
    model: &Model,
    report: &CheckReport,
    width: usize,
) -> (Vec<Line<'static>>, Vec<Range<usize>>) {
    let theme = &model.theme;
    let mut lines = vec![
        if report.ok {
            Line::styled("✓ Everything that backups of this service need is there.", theme.ok)
        } else {
            Line::styled("✗ Something is missing; each line below says what to do.", theme.error)
        },
        Line::raw(""),
    ];
    let mut remedies = Vec::new();
    let titles = report.items.iter().map(|item| escape(&item.title).width()).max().unwrap_or(0);
    let titles = titles.min(width.saturating_sub(13));
    for item in report.by_urgency() {
        let (sign, style) = check_sign(model, item.state);
        lines.push(Line::from(vec![
            Span::styled(format!("{sign} "), style),
            Span::raw(format!("{}  ", cell(&escape(&item.title), titles))),
            Span::styled(check_word(item.state), style),
        ]));
        for part in wrap(&model.say(&item.detail), width.saturating_sub(4)) {
            if !part.is_empty() {
                lines.push(Line::styled(format!("    {part}"), theme.dim));
            }
        }
        if !item.remedy.is_empty() {
            let from = lines.len();
            let selected = remedies.len() == model.remedy;
            for (i, part) in wrap(&model.say(&item.remedy), width.saturating_sub(6)).into_iter().enumerate() {
                let mark = if selected && i == 0 { "▸" } else { " " };
                let style = if selected { theme.selected } else { theme.command };
                lines.push(Line::from(vec![
                    Span::styled(format!("  {mark} "), theme.accent),
                    Span::styled(part, style),
                ]));
            }
            remedies.push(from..lines.len());
        }
    }
    (lines, remedies)
}

/// The lines of the remedies of the check that is open, made for a page `width` columns wide.
pub fn remedy_lines(model: &Model, width: u16) -> Vec<Range<usize>> {
    // As the page of it leaves room for its bar.
    let width = usize::from(width.saturating_sub(2));
    match model.layers.last() {
        Some(Layer::Report { report: Report::Check(name), .. }) => match model.check(name, BackupModel::default()) {
            Some(Load::Ready(report)) => report_lines(model, report, width).1,
            Some(Load::Waiting | Load::Failed(_)) | None => Vec::new(),
        },
        Some(Layer::Report { report: Report::Storage(name), .. }) => {
            let above = storage_report::repair(model, name, width).len();
            let of = model.checked_storage().map(|report| storage_report::lines(model, report, width).1);
            of.unwrap_or_default().into_iter().map(|place| place.start + above..place.end + above).collect()
        }
        _ => Vec::new(),
    }
}

pub fn check_sign(model: &Model, state: CheckState) -> (&'static str, Style) {
    let theme = &model.theme;
    match state {
        CheckState::Pass => ("✓", theme.ok),
        CheckState::Warn => ("!", theme.warn),
        CheckState::Fail => ("✗", theme.error),
        CheckState::Skip => ("-", theme.dim),
    }
}

fn check_word(state: CheckState) -> &'static str {
    match state {
        CheckState::Pass => "pass",
        CheckState::Warn => "warning",
        CheckState::Fail => "fails",
        CheckState::Skip => "skipped",
    }
}
