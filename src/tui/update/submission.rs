//! Whether a form may be sent on as it is: what is known to fail is asked about first, and what is still being tried is
//! waited for.

use super::storage_test::{self, Saving};
use super::submit::{send_waiting, submit};
use crate::tui::form::Form;
use crate::tui::forms;
use crate::tui::model::{Button, Confirm, Layer, Model, Then};
use crate::tui::msg::Effect;
use crate::tui::prerequisites;

/// What a submission leads to.
pub(super) enum Submission {
    /// These are under way, or nothing yet: the form waits.
    Sent(Vec<Effect>),
    Asked(Confirm),
}

pub(super) fn of(model: &mut Model, form: &mut Form) -> Submission {
    let stopped = prerequisites::stoppers(model, form);
    if !stopped.is_empty() {
        form.waits_for_check = false;
        let lines = stopped.into_iter().map(|why| format!("✗ {why}")).collect();
        return Submission::Asked(question(form, "The backup would fail", lines));
    }
    if prerequisites::are_checked_now(model, form) {
        if std::mem::replace(&mut form.waits_for_check, true) {
            let lines = vec!["It begins by itself when nothing speaks against it.".to_owned()];
            return Submission::Asked(question(form, "The prerequisites are still being checked", lines));
        }
        return Submission::Sent(Vec::new());
    }
    match storage_test::before_saving(model, form) {
        Saving::Now => Submission::Sent(submit(model, form)),
        Saving::AfterTest(effects) => Submission::Sent(effects),
        Saving::Failed(why) => Submission::Asked(question(form, "The storage did not pass its test", why)),
    }
}

fn question(form: &Form, title: &str, lines: Vec<String>) -> Confirm {
    Confirm {
        title: title.into(),
        lines,
        buttons: vec![
            Button { label: "Back to the form".into(), then: Then::Nothing },
            Button { label: format!("{} anyway", forms::submit_label(form)), then: Then::SubmitForm },
        ],
        focus: 0,
        typed: None,
    }
}

/// The check of `service` has ended: the form on top that waited for it is sent on, or asks. One that something lies above
/// waits no longer: somebody is doing something else.
pub(super) fn checked(model: &mut Model, service: &str) -> Vec<Effect> {
    let waited = |model: &Model, form: &mut Form| {
        let is_checked = form.text("service") == service && !prerequisites::are_checked_now(model, form);
        is_checked && std::mem::take(&mut form.waits_for_check)
    };
    match send_waiting(model, waited, of) {
        Some(Submission::Sent(effects)) => effects,
        Some(Submission::Asked(question)) => {
            model.layers.push(Layer::Confirm(question));
            Vec::new()
        }
        None => Vec::new(),
    }
}
