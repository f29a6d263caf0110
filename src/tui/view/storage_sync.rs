//! What a sync of a storage found, and what it changed in the catalogue or would change, for its page.

use ratatui::text::{Line, Span};

use super::text::wrap;
use crate::client::{SyncGrade, SyncGroup, SyncedSlices};
use crate::domain::text::{count, counted};
use crate::tui::model::{Model, Synced};

pub fn lines(model: &Model, synced: &Synced, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let Synced { report, changes } = synced;
    let (sign, style, verdict) = match (report.planned, changes) {
        (true, false) => ("✓", theme.ok, "the catalogue agrees with the storage: there is nothing to change"),
        (true, true) => ("!", theme.warn, "nothing was changed yet: this is what a sync finds and would change"),
        (false, _) => ("✓", theme.ok, "the catalogue was changed"),
    };
    let mut lines = vec![
        Line::from(vec![Span::styled(format!("{sign} "), style), Span::raw(verdict)]),
        Line::styled(format!("  {} unchanged", counted(report.unchanged, "backup")), theme.dim),
    ];
    for SyncGroup { title, grade, lines: names } in report.groups() {
        // Nothing is wrong with none.
        let (sign, style) = match grade {
            _ if names.is_empty() => (" ", theme.dim),
            SyncGrade::Good => ("+", theme.ok),
            SyncGrade::Note => ("!", theme.dim),
            SyncGrade::Warn => ("!", theme.warn),
            SyncGrade::Wrong => ("✗", theme.error),
        };
        lines.push(Line::from(vec![
            Span::styled(format!("{sign} "), style),
            Span::styled(format!("{} {title}", names.len()), if names.is_empty() { theme.dim } else { theme.text }),
        ]));
        for name in names {
            let parts = wrap(&model.say(name), width.saturating_sub(4));
            lines.extend(parts.into_iter().map(|part| Line::raw(format!("    {part}"))));
        }
    }
    if report.slices != SyncedSlices::default() {
        let (missing, unchanged) = (count(report.slices.missing), count(report.slices.unchanged));
        let added = if report.planned { "to be added" } else { "added" };
        let many = counted(report.slices.added, "slice");
        let text = format!("{many} of the oplog {added}, {missing} no longer in the storage, {unchanged} unchanged");
        lines.extend(wrap(&text, width.saturating_sub(2)).into_iter().map(|part| Line::raw(format!("  {part}"))));
    }
    for warning in &report.warnings {
        let parts = wrap(&format!("! {}", model.say(warning)), width);
        lines.extend(parts.into_iter().map(|part| Line::styled(part, theme.warn)));
    }
    lines
}
