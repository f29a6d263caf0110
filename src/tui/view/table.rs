//! A table that costs its window, not its rows.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use unicode_width::UnicodeWidthStr;

use super::text::{fit, from_column, put};
use crate::tui::list::List;
use crate::tui::model::Model;

/// One column. When there is no room for all, those with the lowest `keep` go first.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub width: u16,
    /// What it makes do with, before another one goes.
    pub least: u16,
    pub right: bool,
    pub keep: u8,
    /// It tells the rows apart: it is as wide as the longest of them before any other takes what is left over.
    pub is_name: bool,
    /// It takes the columns that are left over; without such a column, the name does.
    pub grow: bool,
    /// Where there is no room for all of its text, the end of it is shown: that of a path tells it from others.
    pub is_end: bool,
}

impl Column {
    pub const fn grow(mut self) -> Self {
        self.grow = true;
        self
    }

    pub const fn end(mut self) -> Self {
        self.is_end = true;
        self
    }

    pub const fn name(mut self) -> Self {
        self.is_name = true;
        self
    }

    pub const fn least(mut self, columns: u16) -> Self {
        self.least = columns;
        self
    }
}

pub const fn left(title: &'static str, width: u16, keep: u8) -> Column {
    Column { title, width, least: width, right: false, keep, is_name: false, grow: false, is_end: false }
}

pub const fn right(title: &'static str, width: u16, keep: u8) -> Column {
    Column { right: true, ..left(title, width, keep) }
}

/// Columns of a name for which others make do with less, or go.
pub const CLAIM: u16 = 40;
/// From this `keep` on, a column is worth the room that a long name may have.
const MATTERS: u8 = 5;
/// Below this many columns each one counts; from it on, a wider list shows all that a narrower one does.
const NARROW: u16 = 90;
/// The widest that a name gets before the others have what they need.
const WIDEST_NAME: u16 = 60;

/// The columns that have room, by position, with their widths. `longest`: the columns of the longest name.
pub fn widths(columns: &[Column], total: u16, longest: u16) -> Vec<(usize, u16)> {
    let longest = longest.min(WIDEST_NAME);
    // A name is worth more than a column beside it, up to a quarter of the room.
    let claim = |c: &Column| if c.is_name { c.least.max(longest.min(total / 4).min(CLAIM)) } else { c.least };
    let mut kept: Vec<(usize, u16)> = columns.iter().map(claim).enumerate().collect();
    let need = |kept: &[(usize, u16)]| kept.iter().map(|(_, width)| width + 2).sum::<u16>();
    while kept.len() > 1 && need(&kept) > total {
        let weakest = kept.iter().map(|(i, _)| *i).filter(|i| *i != 0).min_by_key(|i| columns[*i].keep);
        kept.retain(|(i, _)| Some(*i) != weakest);
    }
    if total < NARROW {
        // What is smaller than the columns that had to go may have room instead of them.
        let is_gone = |i: &usize| columns[*i].keep >= MATTERS && kept.iter().all(|(at, _)| at != i);
        let mut gone: Vec<usize> = (0..columns.len()).filter(is_gone).collect();
        gone.sort_by_key(|i| std::cmp::Reverse(columns[*i].keep));
        for i in gone {
            if need(&kept) + columns[i].least + 2 <= total {
                kept.push((i, columns[i].least));
            }
        }
        kept.sort_unstable();
    }
    let mut spare = total.saturating_sub(need(&kept));
    let mut widen = |width: &mut u16, to: u16| {
        let more = to.saturating_sub(*width).min(spare);
        *width += more;
        spare -= more;
    };
    for (_, width) in kept.iter_mut().filter(|(i, _)| columns[*i].is_name) {
        widen(width, longest);
    }
    for (i, width) in &mut kept {
        widen(width, columns[*i].width);
    }
    let of = |is: fn(&Column) -> bool| kept.iter().position(|(i, _)| is(&columns[*i]));
    let grows = of(|c| c.grow).or_else(|| of(|c| c.is_name)).unwrap_or(0);
    if let Some((_, width)) = kept.get_mut(grows) {
        widen(width, u16::MAX);
    }
    kept
}

/// Draws heading and visible rows; `cells` gives texts and styles of the row at a position of the data.
pub fn draw<F>(frame: &mut Frame, model: &Model, list: &List, heading: Rect, rows: Rect, columns: &[Column], cells: F)
where
    F: Fn(u32) -> Vec<(String, Style)>,
{
    let widths = widths(columns, heading.width.saturating_sub(1), list.longest);
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

/// `nightly-of-the…20261130-0200`: of a name that ends with the moment of its run, that end stays, because it alone tells one
/// run from another. Other names are left as they are.
fn fit_name(name: &str, width: usize) -> String {
    /// `20261130-0200`.
    const MOMENT: usize = 13;
    /// Of the beginning as much must stay.
    const LEAST: usize = 4;
    let end = name.len().checked_sub(MOMENT).and_then(|at| name.split_at_checked(at));
    let is_moment =
        |end: &str| end.bytes().enumerate().all(|(i, b)| if i == 8 { b == b'-' } else { b.is_ascii_digit() });
    match end.filter(|(_, end)| is_moment(end)) {
        Some((begin, end)) if name.width() > width && width >= LEAST + 1 + MOMENT => {
            format!("{}{end}", fit(begin, width - MOMENT))
        }
        _ => name.to_owned(),
    }
}

fn cell(column: Column, text: &str, width: u16) -> String {
    let width = usize::from(width);
    let from = if column.is_end { text.width().saturating_sub(width) } else { 0 };
    let text = &from_column(text, from);
    if !column.right {
        let text = if column.is_name { fit_name(text, width) } else { text.to_owned() };
        return super::text::cell(&text, width);
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
        assert_eq!(widths(&columns, 40, 0), [(0, 20), (1, 8), (2, 6)]);
        assert_eq!(widths(&columns, 25, 0), [(0, 15), (2, 6)]);
        // A small one has room where a wide one had to go, if it matters more than the end of a name.
        let columns = |keep| [left("NAME", 10, 9).name(), left("URI", 30, 6), right("AGE", 4, keep)];
        assert_eq!(widths(&columns(5), 30, 28), [(0, 22), (2, 4)]);
        assert_eq!(widths(&columns(4), 30, 28), [(0, 28)]);
        let columns = columns(5);
        assert_eq!(widths(&columns, 3, 0), [(0, 10)]);
    }

    #[test]
    fn the_end_of_a_path_is_shown() {
        let column = left("WHERE", 8, 1).end();
        assert_eq!(cell(column, "/srv/backups", 8), "…backups");
        assert_eq!(cell(column, "/backups", 8), "/backups");
        assert_eq!(cell(column, "/b", 8), "/b      ");
        // Of a wide character there is all or nothing.
        assert_eq!(cell(column, "/世界世界世", 8), "…世界世 ");
        assert_eq!(cell(left("WHERE", 8, 1), "/srv/backups", 8), "/srv/ba…");
    }

    #[test]
    fn the_moment_of_a_run_stays_in_its_name() {
        let name = "orders-live-20261130-0200";
        assert_eq!(fit_name(name, 25), name);
        assert_eq!(fit_name(name, 21), "orders-…20261130-0200");
        assert_eq!(fit_name(name, 18), "orde…20261130-0200");
        assert_eq!(fit_name(name, 17), name, "the column cuts it at its end");
        for other in ["before-the-migration-of-the-shop", "世界世界世界世界世界世界", "-20261130-020", "weekly-46"]
        {
            assert_eq!(fit_name(other, 20), other);
        }
        assert_eq!(cell(left("NAME", 21, 1).name(), name, 21), "orders-…20261130-0200");
    }

    #[test]
    fn names_get_the_room_before_it_is_left_blank() {
        let columns =
            [left("", 1, 9), left("NAME", 10, 9).name(), left("STATE", 18, 5).least(8), left("URI", 6, 1).grow()];
        // What is left over goes to the name, then to those that made do with less, then to the one that grows.
        assert_eq!(widths(&columns, 60, 24), [(0, 1), (1, 24), (2, 18), (3, 9)]);
        assert_eq!(widths(&columns, 45, 24), [(0, 1), (1, 22), (2, 8), (3, 6)]);
        // Where there is little room, what is known of a row counts as well as its whole name.
        assert_eq!(widths(&columns, 30, 24), [(0, 1), (1, 15), (2, 8)]);
        // For a name that is not that long, nobody else makes do with less.
        assert_eq!(widths(&columns, 60, 8), [(0, 1), (1, 10), (2, 18), (3, 23)]);
        // A sign in front of the names does not grow.
        assert_eq!(widths(&columns[..3], 60, 8), [(0, 1), (1, 35), (2, 18)]);
    }
}
