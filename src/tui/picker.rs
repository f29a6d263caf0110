//! A list to choose from, above the form whose row it fills: typing filters, Enter takes, Esc leaves the row as it was.
//!
//! What it offers is in [`super::offers`].

use tui_input::Input;

use super::form_row::Offers;

/// A list that is open.
#[derive(Debug, Clone)]
pub struct Picker {
    /// The row of the form below that it fills.
    pub key: &'static str,
    pub title: &'static str,
    pub offers: Offers,
    pub input: Input,
    pub selected: usize,
    /// What is marked, of a list of which several may be taken.
    pub marked: Vec<String>,
    /// A person has marked something, or taken a mark away.
    pub has_marked: bool,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: String,
    pub text: String,
    pub note: String,
    /// It belongs to the entry above it that has none.
    pub is_below: bool,
    /// Why it cannot be taken.
    pub off: Option<String>,
}

impl Entry {
    pub fn new(value: impl Into<String>, note: impl Into<String>) -> Self {
        let value = value.into();
        Self { text: crate::domain::text::escape(&value), value, note: note.into(), is_below: false, off: None }
    }
}

impl Picker {
    pub fn takes_several(&self) -> bool {
        self.offers == Offers::Namespaces
    }

    /// Marks the selected entry, or takes its mark away.
    pub fn mark(&mut self, entry: &Entry) {
        if entry.off.is_some() {
            return;
        }
        self.has_marked = true;
        match self.marked.iter().position(|value| *value == entry.value) {
            Some(at) => drop(self.marked.remove(at)),
            None => self.marked.push(entry.value.clone()),
        }
    }

    /// What Enter puts into the row; `None`: what is selected cannot be taken.
    pub fn taken(&self, entry: Option<&Entry>) -> Option<String> {
        if self.takes_several() && (self.has_marked || !self.marked.is_empty()) {
            return Some(self.marked.join(", "));
        }
        entry.filter(|e| e.off.is_none()).map(|e| e.value.clone())
    }
}
