//! What a check of a storage found, for the page of its report.

use ratatui::text::{Line, Span};

use super::text::wrap;
use crate::domain::command_line::quoted;
use crate::domain::storage_check::{Finding, StorageReport};
use crate::domain::text::{bytes, count, escape};
use crate::tui::theme::Theme;

/// Findings of one kind that are shown; the command line has them all.
const SHOWN: usize = 50;

pub fn lines(theme: &Theme, report: &StorageReport, width: usize) -> Vec<Line<'static>> {
    let (sign, style, verdict) = match report.ok {
        true => ("✓", theme.ok, "nothing is wrong with a backup"),
        false => ("✗", theme.error, "something is wrong with what is named below"),
    };
    let (backups, objects) = (count(report.backups), count(report.objects));
    let mut lines = vec![
        Line::from(vec![Span::styled(format!("{sign} "), style), Span::raw(verdict)]),
        Line::styled(format!("  {backups} backups, {objects} objects, {} looked at", bytes(report.bytes)), theme.dim),
    ];
    let mut findings = report.findings.as_slice();
    while let Some(first) = findings.first() {
        let (group, rest) = findings.split_at(findings.iter().take_while(|f| f.kind == first.kind).count());
        findings = rest;
        let (sign, style) = if first.problem { ("✗", theme.error) } else { ("!", theme.warn) };
        lines.push(Line::raw(""));
        lines.push(Line::from(vec![
            Span::styled(format!("{sign} "), style),
            Span::raw(format!("{} {}", count(group.len() as u64), first.kind.title())),
        ]));
        for finding in group.iter().take(SHOWN) {
            let parts = wrap(&sentence(finding), width.saturating_sub(4));
            lines.extend(parts.into_iter().map(|part| Line::raw(format!("    {part}"))));
        }
        if group.len() > SHOWN {
            lines.push(Line::styled(format!("    and {} more", count((group.len() - SHOWN) as u64)), theme.dim));
        }
        if let Some(remedy) = group.iter().find_map(|f| f.remedy.as_ref()) {
            let parts = wrap(&format!("→ {}", escape(remedy)), width.saturating_sub(4));
            lines.extend(parts.into_iter().map(|part| Line::styled(format!("    {part}"), theme.command)));
        }
    }
    if report.removable.objects > 0 {
        let (objects, size) = (count(report.removable.objects), bytes(report.removable.bytes));
        lines.push(Line::raw(""));
        lines.push(Line::raw(format!("{objects} objects can be removed, which frees {size}:")));
        let command = format!("  mongokeep storage check {} --repair", quoted(&report.storage));
        lines.push(Line::styled(command, theme.accent));
    }
    lines
}

fn sentence(finding: &Finding) -> String {
    let about = match (&finding.object, &finding.backup) {
        (Some(object), _) => escape(object),
        (None, Some(backup)) => escape(backup),
        (None, None) => escape(&finding.folder),
    };
    let size = if finding.bytes > 0 { format!(" ({})", bytes(finding.bytes)) } else { String::new() };
    format!("{about}{size}: {}", finding.detail)
}
