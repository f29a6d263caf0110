//! What a check of a storage found, for the page of its report.

use ratatui::text::{Line, Span};

use super::text::wrap;
use crate::domain::command_line::quoted;
use crate::domain::storage_check::{Finding, StorageReport};
use crate::domain::text::{bytes, count, counted, escape};
use crate::tui::theme::Theme;

/// Findings of one kind that are shown; the command line has them all.
const SHOWN: usize = 50;

pub fn lines(theme: &Theme, report: &StorageReport, width: usize) -> Vec<Line<'static>> {
    let (sign, style, verdict) = match report.ok {
        true => ("✓", theme.ok, "nothing is wrong with a backup"),
        false => ("✗", theme.error, "something is wrong with what is named below"),
    };
    let mut lines = vec![
        Line::from(vec![Span::styled(format!("{sign} "), style), Span::raw(verdict)]),
        Line::styled(format!("  {}", report.size_words()), theme.dim),
    ];
    for group in report.groups() {
        let (sign, style) = if group.kind.is_problem() { ("✗", theme.error) } else { ("!", theme.warn) };
        lines.push(Line::raw(""));
        lines.push(Line::from(vec![Span::styled(format!("{sign} "), style), Span::raw(group.title())]));
        for (finding, remedy) in group.with_remedies(SHOWN) {
            let parts = wrap(&sentence(finding), width.saturating_sub(4));
            lines.extend(parts.into_iter().map(|part| Line::raw(format!("    {part}"))));
            let remedy = remedy.map(|remedy| wrap(&format!("→ {}", escape(remedy)), width.saturating_sub(4)));
            let parts = remedy.unwrap_or_default();
            lines.extend(parts.into_iter().map(|part| Line::styled(format!("    {part}"), theme.command)));
        }
        if let Some(more) = group.findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            lines.push(Line::styled(format!("    and {} more", count(more as u64)), theme.dim));
        }
    }
    if report.removable.objects > 0 {
        let (objects, size) = (counted(report.removable.objects, "object"), bytes(report.removable.bytes));
        lines.push(Line::raw(""));
        lines.push(Line::raw(format!("{objects} can be removed, which frees {size}:")));
        let command = format!("  mongokeep storage check {} --repair", quoted(&report.storage));
        lines.push(Line::styled(command, theme.accent));
    }
    lines
}

fn sentence(finding: &Finding) -> String {
    let size = if finding.bytes > 0 { format!(" ({})", bytes(finding.bytes)) } else { String::new() };
    format!("{}{size}: {}", finding.about(), finding.detail)
}
