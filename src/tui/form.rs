//! A form made of described fields: which rows there are, where the cursor is, what is wrong with what was typed.
//!
//! A form knows nothing of screens or of what is done with its values.

use tui_input::InputRequest;

pub use super::form_row::{ADD, Choice, DimmedIf, Offers, Row, STORED, split};
use super::keymap::Chord;
use super::model::Load;
use super::moment::MomentPane;
use super::preview::Preview;
use crate::client::{Holdings, Values};
use crate::domain::field::FieldKind;
use crate::domain::service::{CheckItem, EngineProposal, ServiceInfo};

/// What a form is for; decides its title, its button and what submitting does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    AddService,
    EditService(String),
    AddStorage,
    EditStorage(String),
    /// A backup now, or a schedule: the first row decides.
    Create,
    EditSchedule(String),
    Restore(Source),
    /// Of a backup that is encrypted.
    Verify(String),
    /// A dotted key.
    Setting(String),
}

/// What a restore was begun from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Backup(String),
    /// The past of a service.
    Service(String),
}

/// Where the cursor can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    Row(usize),
    Advanced,
    Cancel,
    /// Tries what was typed, and stores nothing.
    Try,
    Submit,
}

#[derive(Debug, Clone)]
pub struct Form {
    pub purpose: Purpose,
    pub rows: Vec<Row>,
    pub focus: Item,
    pub advanced_open: bool,
    /// Waiting for the answer to what was submitted.
    pub submitting: bool,
    /// Submitted, and sent on once its prerequisites are checked.
    pub waits_for_check: bool,
    /// Under which number it was submitted the last time.
    pub ticket: u64,
    /// The row of the form below that this one was opened from, to make what is picked there.
    pub asked_by: Option<&'static str>,
    /// What the submission came back with.
    pub error: Option<super::msg::Problem>,
    /// The engine that fits what was found behind the connection string, while the form has another one.
    pub proposal: Option<Box<EngineProposal>>,
    /// The test of a storage that is not saved.
    pub draft: Option<Draft>,
    /// How the last try of what is in it went.
    pub trial: Option<Box<Trial>>,
    /// What the schedule in it would do.
    pub preview: Option<Box<Preview>>,
    /// The moment that a restore goes back to.
    pub moment: Option<Box<MomentPane>>,
}

/// A test of a storage that is still in its form.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Under which number it was asked for.
    pub ticket: u64,
    /// What was typed then.
    pub values: Values,
    /// It is saved when it passes.
    pub saves: bool,
    /// What it holds; `None`: nobody has asked for it.
    pub holds: Option<Load<Holdings>>,
}

/// A try of a service that is still in its form.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Under which number it was asked for.
    pub ticket: u64,
    pub outcome: Load<(ServiceInfo, Vec<CheckItem>)>,
}

/// What a key did to a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    /// The value of the row with this key changed.
    Changed(&'static str),
    Submit,
    Close,
    /// Enter on "add one" in the row with this key.
    AddOne(&'static str),
    /// Enter in a row that has a list to choose from.
    List(&'static str),
    /// Try what is in it.
    Try,
    /// Take the time that was proposed instead of one that collides.
    TakeFreeSlot,
    /// Take the engine that was proposed.
    TakeEngine,
}

impl Form {
    pub fn new(purpose: Purpose, rows: Vec<Row>) -> Self {
        let mut form = Self {
            purpose,
            rows,
            focus: Item::Cancel,
            advanced_open: false,
            submitting: false,
            waits_for_check: false,
            ticket: 0,
            asked_by: None,
            error: None,
            proposal: None,
            draft: None,
            trial: None,
            preview: None,
            moment: None,
        };
        form.focus = form.items().first().copied().unwrap_or(Item::Cancel);
        form
    }

    pub fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.field.key == key)
    }

    pub fn row_mut(&mut self, key: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|r| r.field.key == key)
    }

    /// The text of a row; empty when there is none.
    pub fn text(&self, key: &str) -> &str {
        self.row(key).map_or("", |r| r.value().trim())
    }

    /// The place of the cursor at a row.
    pub fn row_at(&self, key: &str) -> Option<Item> {
        self.rows.iter().position(|r| r.field.key == key).map(Item::Row)
    }

    /// Whether a row applies with what is in the other rows.
    pub fn applies(&self, row: &Row) -> bool {
        !row.hidden
            && row.only_if.is_none_or(|(key, value)| self.text(key) == value)
            && row.only_with.is_none_or(|key| !self.text(key).is_empty())
    }

    /// Why a row is dimmed: it is shown, but the cursor passes it by and it is not submitted. Empty where the row
    /// explains itself; `None` for a row that is not dimmed.
    pub fn why_dimmed<'a>(&self, row: &'a Row) -> Option<&'a str> {
        let holds = |rule: &&DimmedIf| rule.when.iter().all(|(key, value)| self.text(key) == *value);
        row.disabled.as_deref().or_else(|| row.dimmed_if.iter().find(holds).map(|rule| rule.why))
    }

    /// What was wrong in a row does not matter while the row is dimmed.
    pub fn forget_errors_of_dimmed(&mut self) {
        let dimmed: Vec<bool> = self.rows.iter().map(|row| self.why_dimmed(row).is_some()).collect();
        for (row, _) in self.rows.iter_mut().zip(dimmed).filter(|(_, is_dimmed)| *is_dimmed) {
            row.error = None;
        }
    }

    pub fn has_advanced(&self) -> bool {
        self.rows.iter().any(|r| r.field.advanced && self.applies(r))
    }

    /// Positions of the rows that are drawn, in order.
    pub fn visible(&self) -> Vec<usize> {
        (0..self.rows.len())
            .filter(|i| self.applies(&self.rows[*i]) && (!self.rows[*i].field.advanced || self.advanced_open))
            .collect()
    }

    /// Where the cursor can go, in order.
    pub fn items(&self) -> Vec<Item> {
        let open = |i: &usize| self.why_dimmed(&self.rows[*i]).is_none();
        let visible = self.visible();
        let (advanced, plain): (Vec<usize>, Vec<usize>) =
            visible.into_iter().partition(|i| self.rows[*i].field.advanced);
        let mut items: Vec<Item> = plain.into_iter().filter(open).map(Item::Row).collect();
        if self.has_advanced() {
            items.push(Item::Advanced);
            items.extend(advanced.into_iter().filter(open).map(Item::Row));
        }
        items.push(Item::Cancel);
        if self.has_try() {
            items.push(Item::Try);
        }
        items.push(Item::Submit);
        items
    }

    /// The row with the cursor.
    pub fn focused(&self) -> Option<&Row> {
        match self.focus {
            Item::Row(i) => self.rows.get(i),
            _ => None,
        }
    }

    /// Whether keys are text here.
    pub fn is_typing(&self) -> bool {
        self.focused().is_some_and(|r| !r.is_choice())
    }

    /// Something was typed or picked that Esc would lose.
    pub fn is_dirty(&self) -> bool {
        self.rows.iter().any(Row::is_changed) || self.moment.as_ref().is_some_and(|m| m.moved)
    }

    /// Moves the cursor; the row that is left is checked.
    pub fn step(&mut self, forward: bool) {
        if let Item::Row(i) = self.focus {
            self.rows[i].validate();
            self.rows[i].is_typed_in = false;
        }
        let items = self.items();
        let at = items.iter().position(|i| *i == self.focus).unwrap_or(0);
        let next = if forward { (at + 1) % items.len() } else { (at + items.len() - 1) % items.len() };
        self.focus = items[next];
    }

    /// Checks all rows; the cursor goes to the first wrong one.
    pub fn validate(&mut self) -> bool {
        let is_open = |row: &Row| self.applies(row) && self.why_dimmed(row).is_none();
        let applying: Vec<usize> = (0..self.rows.len()).filter(|i| is_open(&self.rows[*i])).collect();
        for i in &applying {
            self.rows[*i].validate();
        }
        let wrong = applying.into_iter().find(|i| self.rows[*i].error.is_some());
        if let Some(i) = wrong {
            self.advanced_open |= self.rows[i].field.advanced;
            self.focus = Item::Row(i);
        }
        wrong.is_none()
    }

    /// Puts an error of the client at the row it names, or below the form.
    pub fn fail(&mut self, problem: super::msg::Problem) {
        self.submitting = false;
        let named = problem.field.as_deref().and_then(|key| self.rows.iter().position(|row| row.field.is_called(key)));
        match named {
            Some(i) => {
                let names = [self.rows[i].field.name(), self.rows[i].field.flag(), self.rows[i].field.key.to_owned()];
                let why = names.iter().find_map(|name| problem.message.strip_prefix(&format!("{name}: ")));
                self.rows[i].error = Some(why.unwrap_or(&problem.message).to_owned());
                self.advanced_open |= self.rows[i].field.advanced;
                self.focus = Item::Row(i);
                // The row says the rest.
                let rest = |hint| super::msg::Problem { message: String::new(), hint: Some(hint), ..problem.clone() };
                self.error = problem.hint.clone().map(rest);
            }
            None => self.error = Some(problem),
        }
    }

    /// What is submitted: rows that apply and are not empty. Rows whose key begins with `_` only explain.
    pub fn values(&self) -> Values {
        self.rows
            .iter()
            .filter(|r| self.applies(r) && self.why_dimmed(r).is_none() && !r.field.key.starts_with('_'))
            .filter_map(|r| {
                let text = r.value().trim();
                let texts = match r.field.kind {
                    FieldKind::List => split(text),
                    // A password may begin or end with a space.
                    FieldKind::Secret => vec![r.value().to_owned()],
                    _ => vec![text.to_owned()],
                };
                // In an edit, what was emptied must be told from what is not to change.
                let emptied = text.is_empty() && self.is_edit() && (r.field.kind != FieldKind::Secret || r.removes);
                let texts = if emptied { vec![String::new()] } else { texts };
                ((emptied || !text.is_empty()) && text != ADD).then(|| (r.field.key.to_owned(), texts))
            })
            .collect()
    }

    /// Whether what is in it is tested, step by step, before it is saved.
    pub fn can_be_tested(&self) -> bool {
        matches!(self.purpose, Purpose::AddStorage | Purpose::EditStorage(_))
    }

    /// Whether it has a button that tries it.
    pub fn has_try(&self) -> bool {
        matches!(self.purpose, Purpose::AddService | Purpose::EditService(_)) || self.can_be_tested()
    }

    /// Whether it changes something that is there. Each purpose by name, so that a new one has to decide.
    fn is_edit(&self) -> bool {
        match self.purpose {
            Purpose::EditService(_) | Purpose::EditStorage(_) | Purpose::EditSchedule(_) => true,
            Purpose::AddService
            | Purpose::AddStorage
            | Purpose::Create
            | Purpose::Restore(_)
            | Purpose::Verify(_)
            | Purpose::Setting(_) => false,
        }
    }

    /// Text from a paste goes into the row with the cursor; it is never taken for keys.
    pub fn paste(&mut self, text: &str) -> Outcome {
        if !self.is_typing() || self.submitting {
            return Outcome::Nothing;
        }
        let Item::Row(i) = self.focus else { return Outcome::Nothing };
        let row = &mut self.rows[i];
        row.touch();
        row.removes = false;
        for c in text.trim_end_matches(['\r', '\n']).chars().filter(|c| !c.is_control()) {
            row.input.handle(InputRequest::InsertChar(c));
        }
        row.error = None;
        Outcome::Changed(row.field.key)
    }

    /// What a key does here.
    pub fn key(&mut self, chord: Chord) -> Outcome {
        use crossterm::event::KeyCode;
        if chord.code == KeyCode::Esc {
            return Outcome::Close;
        }
        if self.submitting {
            return Outcome::Nothing;
        }
        match (chord.code, chord.ctrl) {
            (KeyCode::Up | KeyCode::Down, false) if self.focused().is_some_and(|row| row.is_tall) => {
                let Item::Row(i) = self.focus else { return Outcome::Nothing };
                let code = if chord.code == KeyCode::Up { KeyCode::Left } else { KeyCode::Right };
                return self.pick(i, Chord { code, ..chord });
            }
            (KeyCode::Tab | KeyCode::Down, false) => self.step(true),
            (KeyCode::BackTab | KeyCode::Up, false) => self.step(false),
            (KeyCode::Char('s'), true) => return self.submit(),
            (KeyCode::Char('t'), true) if self.preview.is_some() => return Outcome::TakeFreeSlot,
            (KeyCode::Char('t'), true) if self.has_try() && self.proposal.is_none() => {
                self.error = None;
                return if self.validate() { Outcome::Try } else { Outcome::Nothing };
            }
            (KeyCode::Char('t'), true) if self.proposal.is_some() => return Outcome::TakeEngine,
            (KeyCode::Enter, _) => return self.enter(),
            (KeyCode::Left | KeyCode::Right, false)
                if matches!(self.focus, Item::Cancel | Item::Try | Item::Submit) =>
            {
                let items = self.items();
                let buttons: Vec<Item> =
                    items.into_iter().filter(|i| !matches!(i, Item::Row(_) | Item::Advanced)).collect();
                let at = buttons.iter().position(|i| *i == self.focus).unwrap_or(0);
                let by = if chord.code == KeyCode::Right { 1 } else { buttons.len() - 1 };
                self.focus = buttons[(at + by) % buttons.len()];
            }
            (code, _) => {
                return match self.focus {
                    Item::Row(i) if self.rows[i].is_choice() => self.pick(i, chord),
                    Item::Row(i) => self.type_into(i, chord),
                    Item::Advanced if matches!(code, KeyCode::Char(' ') | KeyCode::Right | KeyCode::Left) => {
                        self.advanced_open = !self.advanced_open;
                        Outcome::Nothing
                    }
                    _ => Outcome::Nothing,
                };
            }
        }
        Outcome::Nothing
    }

    fn enter(&mut self) -> Outcome {
        match self.focus {
            Item::Cancel => Outcome::Close,
            Item::Submit => self.submit(),
            Item::Try => {
                let is_valid = self.validate();
                if is_valid { Outcome::Try } else { Outcome::Nothing }
            }
            Item::Advanced => {
                self.advanced_open = !self.advanced_open;
                Outcome::Nothing
            }
            Item::Row(i) if self.rows[i].value() == ADD && self.rows[i].is_choice() => {
                Outcome::AddOne(self.rows[i].field.key)
            }
            Item::Row(i) if self.rows[i].offers().is_some() => Outcome::List(self.rows[i].field.key),
            Item::Row(_) => {
                self.step(true);
                // After the last row comes the button that does it, not the one that gives up.
                if self.focus == Item::Cancel {
                    self.focus = Item::Submit;
                }
                Outcome::Nothing
            }
        }
    }

    fn submit(&mut self) -> Outcome {
        self.error = None;
        if self.validate() { Outcome::Submit } else { Outcome::Nothing }
    }

    fn pick(&mut self, i: usize, chord: Chord) -> Outcome {
        use crossterm::event::KeyCode;
        if chord.ctrl || chord.alt {
            return Outcome::Nothing;
        }
        let row = &mut self.rows[i];
        let before = row.value().to_owned();
        match chord.code {
            KeyCode::Right | KeyCode::Char(' ' | 'l') => row.cycle(true),
            KeyCode::Left | KeyCode::Char('h') => row.cycle(false),
            _ => {}
        }
        if row.value() == before {
            return Outcome::Nothing;
        }
        row.error = None;
        Outcome::Changed(row.field.key)
    }

    fn type_into(&mut self, i: usize, chord: Chord) -> Outcome {
        let row = &mut self.rows[i];
        let Some(request) = edit(chord) else { return Outcome::Nothing };
        if row.may_be_removed() {
            // A key that is held down, or pressed once too often to clear what was typed, must not decide about a secret.
            let removes = match request {
                InputRequest::DeletePrevChar => row.removes || !row.is_typed_in,
                InputRequest::DeleteNextChar => false,
                _ => row.removes,
            };
            if removes != row.removes {
                row.removes = removes;
                row.error = None;
                return Outcome::Changed(row.field.key);
            }
        }
        let mut input = row.input.clone();
        input.handle(request);
        if input.value() == row.value() {
            row.input = input;
            return Outcome::Nothing;
        }
        row.touch();
        row.input = input;
        row.error = None;
        row.removes = false;
        Outcome::Changed(row.field.key)
    }
}

/// The editing keys of every text field.
pub fn edit(chord: Chord) -> Option<InputRequest> {
    use crossterm::event::KeyCode;
    // Not its letter: whoever presses Alt-f means a word, and gets neither.
    if chord.alt {
        return None;
    }
    Some(match (chord.code, chord.ctrl) {
        (KeyCode::Char('a'), true) | (KeyCode::Home, _) => InputRequest::GoToStart,
        (KeyCode::Char('e'), true) | (KeyCode::End, _) => InputRequest::GoToEnd,
        (KeyCode::Char('u'), true) => InputRequest::DeleteFromStart,
        (KeyCode::Char('k'), true) => InputRequest::DeleteTillEnd,
        (KeyCode::Char('w'), true) => InputRequest::DeletePrevWord,
        (KeyCode::Char('h'), true) | (KeyCode::Backspace, _) => InputRequest::DeletePrevChar,
        (KeyCode::Char('d'), true) | (KeyCode::Delete, _) => InputRequest::DeleteNextChar,
        (KeyCode::Left, true) => InputRequest::GoToPrevWord,
        (KeyCode::Right, true) => InputRequest::GoToNextWord,
        (KeyCode::Left, false) => InputRequest::GoToPrevChar,
        (KeyCode::Right, false) => InputRequest::GoToNextChar,
        (KeyCode::Char(c), false) => InputRequest::InsertChar(c),
        _ => return None,
    })
}
