//! A table that costs its window, not its rows.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use unicode_width::UnicodeWidthStr;

use super::text::{fit, put};
use crate::tui::list::List;
use crate::tui::model::Model;

/// One column. When there is no room for all, those with the lowest `keep` go first.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub width: u16,
    pub right: bool,
    pub keep: u8,
    /// It takes the columns that are left over; without such a column, the first does.
    pub grow: bool,
}

impl Column {
    pub const fn grow(mut self) -> Self {
        self.grow = true;
        self
    }
}

pub const fn left(title: &'static str, width: u16, keep: u8) -> Column {
    Column { title, width, right: false, keep, grow: false }
}

pub const fn right(title: &'static str, width: u16, keep: u8) -> Column {
    Column { title, width, right: true, keep, grow: false }
}

/// The columns that have room, by position, with their widths.
pub fn widths(columns: &[Column], total: u16) -> Vec<(usize, u16)> {
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let need = |kept: &[usize]| kept.iter().map(|i| columns[*i].width + 2).sum::<u16>();
    while kept.len() > 1 && need(&kept) > total {
        let weakest = kept.iter().copied().filter(|i| *i != 0).min_by_key(|i| columns[*i].keep);
        kept.retain(|i| Some(*i) != weakest);
    }
    let spare = total.saturating_sub(need(&kept));
    let grows = kept.iter().copied().find(|i| columns[*i].grow).unwrap_or(0);
    kept.iter().map(|i| (*i, columns[*i].width + if *i == grows { spare } else { 0 })).collect()
}

/// Draws heading and visible rows; `cells` gives texts and styles of the row at a position of the data.
pub fn draw<F>(frame: &mut Frame, model: &Model, list: &List, heading: Rect, rows: Rect, columns: &[Column], cells: F)
where
    F: Fn(u32) -> Vec<(String, Style)>,
{
    let widths = widths(columns, heading.width.saturating_sub(1));
    let mut spans = vec![Span::raw("  ")];
    for (i, width) in &widths {
        spans.push(Span::styled(cell(columns[*i], columns[*i].title, *width), model.theme.dim));
        spans.push(Span::raw("  "));
    }
    put(frame, Line::from(spans), heading);
    let focused = model.layers.is_empty();
    for y in 0..rows.height {
        let at = list.offset + usize::from(y);
        let Some(row) = list.rows.get(at) else { break };
        let selected = at == list.selected;
        let mark = if selected { "▸ " } else { "  " };
        let texts = cells(*row);
        // What has failed is seen as that, also where the cursor is.
        let is_danger = texts.iter().any(|(_, style)| *style == model.theme.error);
        let mut spans = vec![Span::styled(mark, if is_danger { model.theme.error } else { model.theme.accent })];
        for (i, width) in &widths {
            let (text, style) = texts.get(*i).cloned().unwrap_or_default();
            spans.push(Span::styled(cell(columns[*i], &text, *width), style));
            spans.push(Span::raw("  "));
        }
        let style = match (selected, focused) {
            (true, true) if is_danger => model.theme.selected_danger,
            (true, true) => model.theme.selected,
            (true, false) => model.theme.selected_idle,
            _ => Style::new(),
        };
        let area = Rect { y: rows.y + y, height: 1, ..rows };
        put(frame, Text::from(Line::from(spans)).style(style), area);
    }
}

fn cell(column: Column, text: &str, width: u16) -> String {
    let width = usize::from(width);
    if !column.right {
        return super::text::cell(text, width);
    }
    let text = fit(text, width);
    " ".repeat(width.saturating_sub(text.width())) + &text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_give_way_by_their_weight() {
        let columns = [left("NAME", 10, 9), left("MODEL", 8, 1), right("SIZE", 6, 5)];
        assert_eq!(widths(&columns, 40), [(0, 20), (1, 8), (2, 6)]);
        assert_eq!(widths(&columns, 25), [(0, 15), (2, 6)]);
        assert_eq!(widths(&columns, 3), [(0, 10)]);
    }
}
