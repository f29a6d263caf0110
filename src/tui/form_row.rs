//! A row of a form: the field, what is in it, what it offers, and what is wrong with it.

use tui_input::Input;

use crate::domain::field::{Field, FieldKind};
use crate::domain::text::escape;

/// Stands in the list of services or storages for "make a new one now".
pub const ADD: &str = "+";

/// What a secret that may be removed is said to be now.
pub const STORED: &str = "stored: it stays while this is empty, and Backspace removes it";

/// What is said of a picked name that stands for nothing any more.
const GONE: &str = " is gone: pick another";

/// One of the words of a choice row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub value: String,
    /// What stands on the screen, when that is not the value.
    pub label: Option<&'static str>,
    /// Why it cannot be taken.
    pub disabled: Option<String>,
}

impl Choice {
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), label: None, disabled: None }
    }

    pub fn disabled(value: impl Into<String>, why: impl Into<String>) -> Self {
        Self { disabled: Some(why.into()), ..Self::new(value) }
    }

    pub fn words(&self) -> &str {
        self.label.unwrap_or(&self.value)
    }
}

/// What a list offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offers {
    Services,
    Storages,
    Backups,
    Zones,
    /// Databases and their collections; several may be taken.
    Namespaces,
}

/// When a row does not apply because of what is in other rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DimmedIf {
    /// The keys of other rows, each with the value it has then.
    pub when: &'static [(&'static str, &'static str)],
    pub why: &'static str,
}

/// A row: the field, and what is in it.
#[derive(Debug, Clone)]
pub struct Row {
    pub field: Field,
    pub input: Input,
    pub error: Option<String>,
    /// Why the row cannot apply, whatever is in the other rows. [`super::form::Form::why_dimmed`] knows about both.
    pub disabled: Option<String>,
    /// Shown, but neither reached nor submitted, while one of these holds.
    pub dimmed_if: &'static [DimmedIf],
    pub choices: Vec<Choice>,
    /// Shown and submitted only while the row with this key has this value.
    pub only_if: Option<(&'static str, &'static str)>,
    /// Shown and submitted only while there is something in the row with this key.
    pub only_with: Option<&'static str>,
    /// Not shown and not submitted: there is nothing to choose.
    pub hidden: bool,
    /// A person changed it; defaults that depend on other rows leave it alone then.
    pub touched: bool,
    /// Its words stand one below the other, and Up and Down go through them.
    pub is_tall: bool,
    /// What it held before a person changed it.
    pub before: Option<String>,
    /// What is stored, as far as it may be shown, where the row of an edit stays empty to keep it.
    pub present: Option<String>,
    /// A secret whose present value is to be removed.
    pub removes: bool,
    /// Something was typed into it since the cursor came to it.
    pub is_typed_in: bool,
    /// Only turned with Left and Right, which is soon done again.
    pub turned: bool,
}

impl Row {
    pub fn new(field: Field) -> Self {
        let choices = match field.kind {
            FieldKind::Choice(words) => words.iter().map(|w| Choice::new(*w)).collect(),
            FieldKind::Bool => ["false", "true"].map(Choice::new).into(),
            _ => Vec::new(),
        };
        let default = match (field.kind, field.default) {
            (FieldKind::Bool, "") => "false",
            (_, default) => default,
        };
        Self {
            field,
            input: Input::new(default.to_owned()),
            error: None,
            disabled: None,
            dimmed_if: &[],
            choices,
            only_if: None,
            only_with: None,
            hidden: false,
            touched: false,
            is_tall: false,
            before: None,
            present: None,
            removes: false,
            is_typed_in: false,
            turned: false,
        }
    }

    /// What it is for; where it holds something that is not in it, what that is.
    pub fn help(&self) -> String {
        match self.present.as_deref() {
            Some(_) if self.removes => format!("it is removed when you save; Delete keeps it; {}", self.field.help),
            // Whoever only clears what was typed here removes nothing else.
            Some(STORED) if self.is_typed_in => {
                format!("now stored: it stays while this is empty; {}", self.field.help)
            }
            Some(present) => format!("now {}; {}", escape(present), self.field.help),
            None => self.field.help.to_owned(),
        }
    }

    /// Whether what is stored of a secret can be removed: it need not be there, and nothing was typed in its place.
    pub fn may_be_removed(&self) -> bool {
        self.field.kind == FieldKind::Secret && self.present.as_deref() == Some(STORED) && self.value().is_empty()
    }

    pub fn value(&self) -> &str {
        self.input.value()
    }

    pub fn set(&mut self, value: impl Into<String>) {
        self.input = Input::new(value.into());
    }

    /// Notes that a person changes it, by typing or by taking something from a list.
    pub fn touch(&mut self) {
        if !self.touched {
            self.before = Some(self.value().to_owned());
        }
        (self.touched, self.turned, self.is_typed_in) = (true, false, true);
    }

    /// Whether there is something in it that closing the form would lose.
    pub fn is_changed(&self) -> bool {
        self.removes || (self.touched && !self.turned && self.before.as_deref() != Some(self.value()))
    }

    /// Rows that are picked from a list, not typed.
    pub fn is_choice(&self) -> bool {
        matches!(
            self.field.kind,
            FieldKind::Choice(_) | FieldKind::Bool | FieldKind::Service | FieldKind::Storage | FieldKind::Backup
        )
    }

    /// What its list offers; `None`: it has none.
    pub fn offers(&self) -> Option<Offers> {
        match (self.field.kind, self.field.key) {
            // All that it offers is on the screen already.
            _ if self.is_tall => None,
            (FieldKind::Service, _) => Some(Offers::Services),
            (FieldKind::Storage, _) => Some(Offers::Storages),
            (FieldKind::Backup, _) => Some(Offers::Backups),
            (FieldKind::Text, "timezone" | "ui.timezone") => Some(Offers::Zones),
            (FieldKind::List, "include" | "exclude") => Some(Offers::Namespaces),
            _ => None,
        }
    }

    /// Rows that offer services or storages, and to add one.
    pub fn picks_a_name(&self) -> bool {
        matches!(self.field.kind, FieldKind::Service | FieldKind::Storage)
    }

    /// Why the name that is picked cannot be taken: there is no such thing any more.
    fn gone(&self) -> Option<String> {
        let is_gone = self.picks_a_name()
            && !["", ADD].contains(&self.value())
            && self.choices.iter().all(|c| c.value != self.value());
        is_gone.then(|| format!("{}{GONE}", escape(self.value())))
    }

    /// Says at the row that what is picked is gone, until it is there again.
    pub fn note_what_is_gone(&mut self) {
        if !self.picks_a_name() {
            return;
        }
        match self.gone() {
            Some(gone) => self.error = Some(gone),
            None if self.error.as_ref().is_some_and(|e| e.ends_with(GONE)) => self.error = None,
            None => {}
        }
    }

    pub(super) fn validate(&mut self) {
        let text = self.value().trim();
        self.error = if self.value() == ADD && self.is_choice() {
            Some("none yet: press Enter to add one".into())
        } else if let Some(gone) = self.gone() {
            Some(gone)
        } else {
            match self.field.kind {
                FieldKind::List => split(text)
                    .iter()
                    .find_map(|t| (self.field.check)(t).err())
                    .or_else(|| (self.field.required && text.is_empty()).then(|| "is needed".to_owned())),
                _ => self.field.validate(text).err(),
            }
        };
    }

    /// Moves to the next word that can be taken.
    pub(super) fn cycle(&mut self, forward: bool) {
        let count = self.choices.len();
        if count == 0 {
            return;
        }
        let at = self.choices.iter().position(|c| c.value == self.value());
        let mut next = at.unwrap_or(if forward { count - 1 } else { 0 });
        for _ in 0..count {
            next = if forward { (next + 1) % count } else { (next + count - 1) % count };
            if self.choices[next].disabled.is_none() {
                let value = self.choices[next].value.clone();
                if value != self.value() {
                    let turned = !self.touched || self.turned;
                    self.touch();
                    self.set(value);
                    self.turned = turned;
                }
                return;
            }
        }
    }
}

/// The parts of a comma-separated row.
pub fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}
