//! What is looked for in a page, which may hold a log of thousands of lines.

use tui_input::Input;

use super::list::Filter;

/// A search in the page that is open.
#[derive(Debug, Clone, Default)]
pub struct Search {
    pub input: Input,
    /// Keys go into it.
    pub typing: bool,
    /// The hit that is selected.
    pub at: usize,
}

impl Search {
    pub fn is_empty(&self) -> bool {
        self.input.value().is_empty()
    }

    /// The lines that hold what is looked for.
    pub fn hits<'a>(&self, lines: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
        let filter = Filter { input: self.input.clone() };
        if filter.is_empty() {
            return Vec::new();
        }
        lines.into_iter().enumerate().filter(|(_, line)| filter.lets_through([*line])).map(|(at, _)| at).collect()
    }
}

/// The places of `needle` in `text`, in bytes; case makes no difference for ASCII.
pub fn places(text: &str, needle: &str) -> Vec<(usize, usize)> {
    let (long, short) = (text.as_bytes(), needle.as_bytes());
    if short.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut from = 0;
    while from + short.len() <= long.len() {
        let end = from + short.len();
        if long[from..end].eq_ignore_ascii_case(short) && text.is_char_boundary(from) && text.is_char_boundary(end) {
            found.push((from, end));
            from = end;
        } else {
            from += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_found_whatever_their_case() {
        let search = Search { input: Input::new("dump".to_owned()), ..Search::default() };
        assert_eq!(search.hits(["Dump of shop", "done", "the dump"]), [0, 2]);
        assert!(Search::default().hits(["a"]).is_empty());
        assert_eq!(places("Dump, dump", "DUMP"), [(0, 4), (6, 10)]);
        assert_eq!(places("日本日", "日"), [(0, 3), (6, 9)]);
    }
}
