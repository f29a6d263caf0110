//! The state of one list: what is selected, where the window begins, what the filter lets through.
//!
//! It knows rows only as positions in the data, so that a list of 100,000 costs no more to draw than its window.

use tui_input::Input;

/// A list on a screen.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Positions in the data, in the order shown.
    pub rows: Vec<u32>,
    /// How many there are without the filter.
    pub total: usize,
    pub selected: usize,
    /// The first row drawn.
    pub offset: usize,
    /// Columns of the longest name in its rows; 0 where names are not told apart by it.
    pub longest: u16,
    /// What the selected row is called; keeps the selection when rows come and go.
    pub key: Option<String>,
    pub filter: Filter,
    /// A person has moved the selection.
    pub moved: bool,
}

/// Text typed after `/`.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub input: Input,
}

impl Filter {
    pub fn text(&self) -> &str {
        self.input.value()
    }

    pub fn is_empty(&self) -> bool {
        self.needle().is_empty()
    }

    /// Rows that do not match are shown.
    pub fn inverted(&self) -> bool {
        self.text().starts_with('!')
    }

    pub fn needle(&self) -> &str {
        self.text().strip_prefix('!').unwrap_or(self.text()).trim()
    }

    /// Whether a row with these texts is shown.
    pub fn lets_through<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let needle = self.needle();
        needle.is_empty() || texts.into_iter().any(|text| contains_ignoring_case(text, needle)) != self.inverted()
    }

    pub fn invert(&mut self) {
        let text = match self.text().strip_prefix('!') {
            Some(rest) => rest.to_owned(),
            None => format!("!{}", self.text()),
        };
        self.input = Input::new(text);
    }
}

/// Without allocating for ASCII, which names are: this runs 100,000 times for each key typed.
fn contains_ignoring_case(text: &str, needle: &str) -> bool {
    if text.is_ascii() && needle.is_ascii() {
        let (text, needle) = (text.as_bytes(), needle.as_bytes());
        return text.windows(needle.len()).any(|w| w.eq_ignore_ascii_case(needle));
    }
    text.to_lowercase().contains(&needle.to_lowercase())
}

impl List {
    /// The selected position of the data.
    pub fn current(&self) -> Option<u32> {
        self.rows.get(self.selected).copied()
    }

    /// Moves the window so that the selection lies in it.
    pub fn keep_visible(&mut self, height: usize) {
        let height = height.max(1);
        if self.selected < self.offset {
            self.offset = self.selected;
        } else if self.selected >= self.offset + height {
            self.offset = self.selected + 1 - height;
        }
        self.offset = self.offset.min(self.rows.len().saturating_sub(height));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let filter = |text: &str| Filter { input: Input::new(text.into()) };
        assert!(filter("ORD").lets_through(["nightly", "orders"]));
        assert!(!filter("!ord").lets_through(["orders"]));
        assert!(filter("!ord").lets_through(["users"]));
        assert!(filter("").lets_through(["x"]) && filter("!").lets_through(["x"]));
        assert!(filter("É").lets_through(["été é"]));
    }

    #[test]
    fn the_window_follows_the_selection() {
        let mut list = List { rows: (0..100).collect(), selected: 50, ..List::default() };
        list.keep_visible(10);
        assert_eq!(list.offset, 41);
        list.selected = 0;
        list.keep_visible(10);
        assert_eq!(list.offset, 0);
        list.keep_visible(0);
    }
}
