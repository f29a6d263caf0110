//! Whether a form may be sent on as it is: what is known to fail is asked about first, and what is still being tried is
//! waited for.

use super::storage_test::{self, Saving};
use super::submit::{send_waiting, submit};
use crate::domain::text::escape;
use crate::tui::form::Form;
use crate::tui::forms;
use crate::tui::model::{Button, Confirm, Layer, Model, Then};
use crate::tui::msg::Effect;
use crate::tui::prerequisites::{self, Refused};

/// What a submission leads to.
pub(super) enum Submission {
    /// These are under way, or nothing yet: the form waits.
    Sent(Vec<Effect>),
    Asked(Confirm),
}

pub(super) fn of(model: &mut Model, form: &mut Form) -> Submission {
    if let Some(refused) = prerequisites::refused(model, form) {
        form.waits_for_check = false;
        return Submission::Asked(refusal(refused));
    }
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
        Saving::Now => save(model, form),
        Saving::AfterTest(effects) => Submission::Sent(effects),
        Saving::Failed(mut why) => {
            if forms::lacks_proof(model, form) {
                why.extend(without_proof());
            }
            if forms::ends_encryption(model, form) {
                why.extend(without_encryption());
            }
            Submission::Asked(question(form, "The storage did not pass its test", why))
        }
    }
}

/// Saves what has passed its test. What follows from a storage that encrypts no longer, or whose proof is missing, is known
/// before.
fn save(model: &mut Model, form: &mut Form) -> Submission {
    if forms::ends_encryption(model, form) {
        forms::go_to_encryption(form);
        let label = "Save without encryption";
        return Submission::Asked(confirm("Save it without encryption?", without_encryption(), label.into()));
    }
    if !forms::lacks_proof(model, form) {
        return Submission::Sent(submit(model, form));
    }
    // Whoever goes back means to give it.
    form.focus = form.row_at(forms::PROOF).unwrap_or(form.focus);
    Submission::Asked(confirm("Save it without the proof?", without_proof(), "Save without the proof".into()))
}

/// What follows from a storage that encrypts no longer.
fn without_encryption() -> Vec<String> {
    vec![
        "The next backup is stored in plain text, and so is each change that is recorded from then on: whoever gets at the \
         storage can read them."
            .to_owned(),
        "The backups that are there stay encrypted, and are opened as before.".to_owned(),
    ]
}

/// What follows from a storage of which nobody has shown that it can be read again.
fn without_proof() -> Vec<String> {
    vec![
        "Nobody has shown an identity that opens what it will hold. Until that is done no backup begins, and no change is \
         recorded."
            .to_owned(),
        "Whoever loses the identities of all recipients loses the backups: nobody can read them without one.".to_owned(),
    ]
}

/// The test of this name has ended: the form on top that waited for it is saved if it passed, or asks; one that only tested
/// shows what there is.
pub(super) fn tested(model: &mut Model, name: &str) -> Vec<Effect> {
    let waited = |model: &Model, form: &mut Form| storage_test::waited(model, form, name);
    match send_waiting(model, waited, save) {
        Some(Submission::Sent(effects)) => effects,
        Some(Submission::Asked(question)) => {
            model.layers.push(Layer::Confirm(question));
            Vec::new()
        }
        None => storage_test::look_into(model, name),
    }
}

/// What is refused, and what helps: nothing that a person could say would have it done.
fn refusal(refused: Refused) -> Confirm {
    let mut buttons = vec![Button { label: "Back to the form".into(), then: Then::Nothing }];
    let prove = refused
        .unproven
        .map(|storage| Button { label: format!("Edit {}", escape(&storage)), then: Then::Prove(storage) });
    buttons.extend(prove);
    Confirm { title: refused.title.into(), lines: vec![format!("✗ {}", refused.why)], buttons, focus: 0, typed: None }
}

fn question(form: &Form, title: &str, lines: Vec<String>) -> Confirm {
    confirm(title, lines, format!("{} anyway", forms::submit_label(form)))
}

/// Asks whether the form is sent on all the same; `label` is on the button that does it.
fn confirm(title: &str, lines: Vec<String>, label: String) -> Confirm {
    Confirm {
        title: title.into(),
        lines,
        buttons: vec![
            Button { label: "Back to the form".into(), then: Then::Nothing },
            Button { label, then: Then::SubmitForm },
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
