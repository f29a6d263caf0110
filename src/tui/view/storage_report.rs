//! What a check of a storage found, for the page of its report; and how its repair went.

use std::ops::Range;

use ratatui::text::{Line, Span};

use super::text::{reason_and_hint, spinner, wrap};
use crate::domain::job::JobState;
use crate::domain::storage_check::{Finding, StorageReport};
use crate::domain::text::{bytes, count, counted};
use crate::tui::action::Action;
use crate::tui::availability::FINDINGS_SHOWN;
use crate::tui::model::Model;

/// The lines of a report, and which of them each remedy takes.
pub fn lines(model: &Model, report: &StorageReport, width: usize) -> (Vec<Line<'static>>, Vec<Range<usize>>) {
    let theme = &model.theme;
    let (sign, style, verdict) = match report.ok {
        true => ("✓", theme.ok, "nothing is wrong with a backup"),
        false => ("✗", theme.error, "something is wrong with what is named below"),
    };
    let mut lines = vec![
        Line::from(vec![Span::styled(format!("{sign} "), style), Span::raw(verdict)]),
        Line::styled(format!("  {}", report.size_words()), theme.dim),
    ];
    lines.extend(removable(model, report, width));
    let mut remedies = Vec::new();
    for group in report.groups() {
        let (sign, style) = if group.kind.is_problem() { ("✗", theme.error) } else { ("!", theme.warn) };
        lines.push(Line::raw(""));
        lines.push(Line::from(vec![Span::styled(format!("{sign} "), style), Span::raw(group.title())]));
        for (finding, remedy) in group.with_remedies(FINDINGS_SHOWN) {
            let parts = wrap(&sentence(model, finding), width.saturating_sub(4));
            lines.extend(parts.into_iter().map(|part| Line::raw(format!("    {part}"))));
            let Some(remedy) = remedy else { continue };
            let (from, is_selected) = (lines.len(), remedies.len() == model.remedy);
            let style = if is_selected { theme.selected } else { theme.command };
            for (i, part) in wrap(&model.say(remedy), width.saturating_sub(6)).into_iter().enumerate() {
                let mark = if i == 0 { "→" } else { " " };
                lines.push(Line::from(vec![
                    Span::styled(format!("    {mark} "), theme.accent),
                    Span::styled(part, style),
                ]));
            }
            remedies.push(from..lines.len());
        }
        if let Some(more) = group.findings.len().checked_sub(FINDINGS_SHOWN).filter(|more| *more > 0) {
            lines.push(Line::styled(format!("    and {} more", count(more as u64)), theme.dim));
        }
    }
    if report.omitted > 0 {
        let text = format!("{} not listed: repair it, and check it again", counted(report.omitted, "more finding"));
        lines.push(Line::raw(""));
        lines.push(Line::styled(text, theme.dim));
    }
    (lines, remedies)
}

/// How much belongs to nothing, and the key that removes it.
fn removable(model: &Model, report: &StorageReport, width: usize) -> Vec<Line<'static>> {
    if report.removable.objects == 0 {
        return Vec::new();
    }
    let (objects, size) = (counted(report.removable.objects, "object"), bytes(report.removable.bytes));
    let text = match model.look.read_only {
        true => format!("{objects} can be removed, which frees {size}: those that are marked"),
        false => {
            let key = model.keymap.first(Action::RepairStorage);
            format!("{objects} can be removed, which frees {size}: {key} shows what goes, and asks")
        }
    };
    wrap(&text, width.saturating_sub(2)).into_iter().map(|part| Line::raw(format!("  {part}"))).collect()
}

fn sentence(model: &Model, finding: &Finding) -> String {
    let size = if finding.bytes > 0 { format!(" ({})", bytes(finding.bytes)) } else { String::new() };
    let mark = if finding.removable { " [removable]" } else { "" };
    format!("{}{size}{mark}: {}", finding.about(), model.commands(&finding.detail))
}

/// What becomes of the repair that was begun on this page.
pub fn repair(model: &Model, storage: &str, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let Some(id) = model.repairs.get(storage).map(|repair| repair.job) else { return Vec::new() };
    let mut lines = match model.job(id) {
        None => vec![Line::styled(format!("{} job {id} is queued to remove it", spinner(model)), theme.running)],
        Some(job) => {
            let (objects, size) = (counted(job.progress.objects_done, "object"), bytes(job.progress.bytes_done));
            match job.state {
                JobState::Succeeded => {
                    let text = format!("✓ job {id} has removed {objects}, which frees {size}; what is left:");
                    wrap(&text, width).into_iter().map(|part| Line::styled(part, theme.ok)).collect()
                }
                JobState::Cancelled => {
                    let text = format!("○ job {id} was cancelled after it had removed {objects}");
                    wrap(&text, width).into_iter().map(|part| Line::styled(part, theme.warn)).collect()
                }
                JobState::Failed => {
                    let why = job.error.as_deref().map_or_else(|| job.state.word().to_owned(), |why| model.say(why));
                    let reason = format!("job {id} has removed {objects} and then failed: {why}");
                    let hint = job.hint.as_deref().map(|hint| model.say(hint));
                    reason_and_hint(model, &reason, hint, width, 8)
                }
                _ => {
                    let text = format!("{} job {id} removes it: {objects}, {size} so far", spinner(model));
                    vec![Line::styled(text, theme.running)]
                }
            }
        }
    };
    lines.push(Line::raw(""));
    lines
}
