//! What lies above the lists: pages, and the boxes that ask something.

use tui_input::Input;

use super::form::Form;
use super::msg::{Effect, Problem};
use super::picker::Picker;
use crate::domain::notification::Channel;
use crate::domain::restore::{RestorePlan, RestoreRequest};

/// What a page of details is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    Backup(String),
    Job(i64),
    Storage(String),
    Service(String),
    Schedule(String),
}

/// A yes-or-no question; the first button is always the one that changes nothing. It has the focus, unless what may be
/// lost is only what was typed into a form.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirm {
    pub title: String,
    pub lines: Vec<String>,
    pub buttons: Vec<Button>,
    pub focus: usize,
    /// What has to be typed for a button that says [`Then::Named`].
    pub typed: Option<Typed>,
}

impl Confirm {
    /// Whether it asks about what was typed into a form.
    pub fn discards(&self) -> bool {
        self.buttons.iter().any(|button| button.then == Then::DiscardForm)
    }

    /// Whether the button with the focus wants a name typed.
    pub fn asks_for_name(&self) -> bool {
        self.typed.is_some() && matches!(self.buttons.get(self.focus), Some(Button { then: Then::Named(_), .. }))
    }
}

/// A name that is typed to say that it is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Typed {
    pub name: String,
    pub text: String,
    /// Enter came while the text was another one.
    pub wrong: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Button {
    pub label: String,
    pub then: Then,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// Close the question.
    Nothing,
    Do(Effect),
    /// The same, once the name was typed.
    Named(Effect),
    /// Close the form below as well.
    DiscardForm,
    /// Submit the form below, whatever its check says.
    SubmitForm,
    /// Open the form of this storage where it takes its proof, above the form below.
    Prove(String),
}

/// The plan of a restore, on its way to being confirmed.
#[derive(Debug, Clone)]
pub struct Review {
    pub request: RestoreRequest,
    pub plan: RestorePlan,
    /// What was typed of the target's name.
    pub typed: Input,
    pub scroll: usize,
    pub submitting: bool,
    /// Under which number it was confirmed the last time.
    pub ticket: u64,
    pub error: Option<Problem>,
    /// Enter came while what was typed was another name.
    pub wrong: bool,
}

impl Review {
    /// Whether the name of the target was typed, of a plan that can be carried out.
    pub fn is_confirmed(&self) -> bool {
        !self.plan.is_by_hand() && self.typed.value() == self.plan.target()
    }
}

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Check(String),
    Test(String),
    /// With the number of the plan that it shows.
    Sync {
        storage: String,
        ticket: u64,
    },
    /// Its manifests against its objects.
    Storage(String),
    Notification(Channel),
}

#[derive(Debug, Clone, Default)]
pub struct Palette {
    pub input: Input,
    pub selected: usize,
}

#[derive(Debug, Clone)]
pub enum Layer {
    Details {
        target: Target,
        scroll: usize,
    },
    Report {
        report: Report,
        scroll: usize,
    },
    Messages {
        scroll: usize,
    },
    Help {
        filter: Input,
        filtering: bool,
        scroll: usize,
    },
    Palette(Palette),
    /// Above the form whose row it fills.
    Picker(Box<Picker>),
    Form(Box<Form>),
    Review(Box<Review>),
    Confirm(Confirm),
}

impl Layer {
    /// Layers that take the place of the list; the others are boxes above it.
    pub fn is_page(&self) -> bool {
        matches!(self, Self::Details { .. } | Self::Report { .. } | Self::Messages { .. } | Self::Help { .. })
    }
}
