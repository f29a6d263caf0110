//! What a sync of a storage found, and what it changed in the catalogue or would change, for its page.

use ratatui::text::{Line, Span};

use super::text::wrap;
use crate::client::{SyncGrade, SyncGroup, SyncedSlices};
use crate::domain::text::{count, counted};
use crate::tui::model::{Model, Synced};

pub fn lines(model: &Model, synced: &Synced, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let Synced { report, changes } = synced;
    let (sign, style, verdict) = match (report.is_ok(), report.planned, changes) {
        (true, true, false) => ("✓", theme.ok, "the catalogue agrees with the storage: there is nothing to change"),
        (true, true, true) => ("!", theme.warn, "nothing was changed yet: this is what a sync finds and would change"),
        (true, false, _) => ("✓", theme.ok, "the catalogue was changed"),
        (false, true, false) => {
            ("✗", theme.error, "the catalogue agrees with the storage, and something is wrong with what is named below")
        }
        (false, true, true) => {
            ("✗", theme.error, "nothing was changed yet, and something is wrong with what is named below")
        }
        (false, false, _) => {
            ("✗", theme.error, "the catalogue was changed, and something is wrong with what is named below")
        }
    };
    let mut lines = Vec::new();
    for (i, part) in wrap(verdict, width.saturating_sub(2)).into_iter().enumerate() {
        let mark = if i == 0 { format!("{sign} ") } else { "  ".to_owned() };
        lines.push(Line::from(vec![Span::styled(mark, style), Span::raw(part)]));
    }
    lines.push(Line::styled(format!("  {} unchanged", counted(report.unchanged, "backup")), theme.dim));
    for SyncGroup { title, grade, lines: names } in report.groups().into_iter().filter(|group| !group.lines.is_empty())
    {
        let (sign, style) = match grade {
            SyncGrade::Good => ("+", theme.ok),
            SyncGrade::Note => ("!", theme.dim),
            SyncGrade::Warn => ("!", theme.warn),
            SyncGrade::Wrong => ("✗", theme.error),
        };
        lines.push(Line::from(vec![
            Span::styled(format!("{sign} "), style),
            Span::styled(format!("{} {title}", names.len()), theme.text),
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
