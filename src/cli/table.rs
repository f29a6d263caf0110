//! Aligned text for people: tables, and pairs of a label and a value.
//!
//! Every cell is escaped here, so that no caller can forget it: names come from servers, and a control character in
//! one must never reach a terminal.

use unicode_width::UnicodeWidthStr;

use crate::domain::text::escape;

/// A cut column keeps at least this many cells.
const NARROWEST: usize = 8;
const GAP: usize = 2;

#[derive(Clone, Copy)]
pub struct Column {
    title: &'static str,
    right: bool,
    /// May be cut when the terminal is narrow.
    cut: bool,
}

impl Column {
    /// A column that is never cut.
    pub const fn new(title: &'static str) -> Self {
        Self { title, right: false, cut: false }
    }

    /// Numbers, so that digits of one worth stand below each other.
    pub const fn right(title: &'static str) -> Self {
        Self { title, right: true, cut: false }
    }

    /// Long text: the first to be cut on a narrow terminal.
    pub const fn long(title: &'static str) -> Self {
        Self { title, right: false, cut: true }
    }
}

pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row with one text for each column; an empty one is shown as `-`.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |text: String| if text.is_empty() { "-".to_owned() } else { escape(&text) };
        let mut cells: Vec<String> = cells.into_iter().map(cell).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The whole table with its titles, each line ended, not wider than `width` if columns that may be cut allow it.
    pub fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let mut out = String::new();
        let titles: Vec<String> = self.columns.iter().map(|c| c.title.to_owned()).collect();
        for cells in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, column), width) in cells.iter().zip(&self.columns).zip(&widths) {
                let cell = cut(cell, *width);
                let pad = " ".repeat(width.saturating_sub(cell.width()));
                let (before, after) = if column.right { (pad.as_str(), "") } else { ("", pad.as_str()) };
                for part in [before, &cell, after, &" ".repeat(GAP)] {
                    line.push_str(part);
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let widest = |(i, column): (usize, &Column)| {
            self.rows.iter().map(|row| row[i].width()).max().unwrap_or(0).max(column.title.width())
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(widest).collect();
        let Some(limit) = limit else { return widths };
        loop {
            let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            if total <= limit {
                return widths;
            }
            let candidates = (0..widths.len()).filter(|i| self.columns[*i].cut && widths[*i] > NARROWEST);
            let Some(widest) = candidates.max_by_key(|i| widths[*i]) else { return widths };
            widths[widest] -= 1;
        }
    }
}

/// `text` in at most `width` cells, with `…` at the end when something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// Labels and values below each other; an empty value is shown as `-`.
#[derive(Default)]
pub struct Pairs(Vec<(&'static str, String)>);

impl Pairs {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn add(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.0.push((label, value.into()));
        self
    }

    /// Leaves the line out when there is nothing to say.
    #[must_use]
    pub fn some(self, label: &'static str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.add(label, value),
            None => self,
        }
    }

    pub fn render(&self) -> String {
        let width = self.0.iter().map(|(label, _)| label.width()).max().unwrap_or(0);
        let mut out = String::new();
        for (label, value) in &self.0 {
            let value = if value.is_empty() { "-".to_owned() } else { escape(value) };
            out.push_str(&format!("{label:width$}  {value}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new([Column::long("NAME"), Column::right("DOCUMENTS"), Column::new("STATE")]);
        table.row(["shop.日本".into(), "1,204".into(), "done".into()]);
        table.row(["a\u{1b}]0;x\u{7}\n".into(), "7".into(), String::new()]);
        table
    }

    #[test]
    fn columns_line_up_and_control_characters_are_shown_escaped() {
        let text = sample().render(None);
        assert_eq!(
            text,
            "NAME                DOCUMENTS  STATE\n\
             shop.日本               1,204  done\n\
             a\\u{1b}]0;x\\u{7}\\n          7  -\n"
        );
        assert!(!text.contains('\u{1b}'));
        let pairs = Pairs::new().add("name", "a\u{9b}2J").add("size", "").render();
        assert_eq!(pairs, "name  a\\u{9b}2J\nsize  -\n");
    }

    #[test]
    fn a_narrow_terminal_cuts_long_columns_only() {
        let text = sample().render(Some(30));
        assert!(text.lines().all(|l| l.width() <= 30), "{text}");
        assert!(text.contains("a\\u{1b}]0;x…") && text.contains("1,204"), "{text}");
        // Nothing can be cut below the narrowest, and nothing breaks.
        assert!(sample().render(Some(5)).contains("1,204"));
    }

    #[test]
    fn cutting_counts_cells() {
        assert_eq!(["日本語", "abcdef", "abc", "x"].map(|t| cut(t, 4)), ["日…", "abc…", "abc", "x"]);
        assert_eq!(cut("abc", 0), "");
    }
}
