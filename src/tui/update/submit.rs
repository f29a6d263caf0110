//! What the submission of a form asks for.

use super::asked;
use crate::tui::form::{Form, Purpose};
use crate::tui::forms;
use crate::tui::model::{About, Layer, Model};
use crate::tui::msg::{Effect, Problem};

/// Submits the form that a question was asked about.
pub(super) fn submit_below(model: &mut Model) -> Vec<Effect> {
    let mut layers = std::mem::take(&mut model.layers);
    let effects = match layers.last_mut() {
        Some(Layer::Form(form)) if !form.submitting => submit(model, form),
        _ => Vec::new(),
    };
    model.layers = layers;
    asked(model, effects)
}

/// Submits a form: what it asks for is under way, and the form waits for the answer.
pub(super) fn submit(model: &mut Model, form: &mut Form) -> Vec<Effect> {
    let values = forms::schedule_values(form);
    // What it failed for the last time is what is tried again.
    model.cause_gone(&About::Submission(form.ticket));
    (form.submitting, form.ticket) = (true, model.next_ticket());
    let effect = match &form.purpose {
        // Whoever goes on past a proposal has seen it.
        Purpose::AddService if form.proposal.is_some() => Effect::AddServiceAnyway(values),
        Purpose::AddService => Effect::AddService(values),
        Purpose::EditService(name) => Effect::EditService(name.clone(), values),
        Purpose::AddStorage => Effect::AddStorage(values),
        Purpose::EditStorage(name) => Effect::EditStorage(name.clone(), values),
        Purpose::Create if form.text(forms::WHEN) == forms::ON_DEMAND => Effect::CreateBackup(values),
        Purpose::Create => Effect::AddSchedule(values),
        Purpose::EditSchedule(name) => Effect::EditSchedule(name.clone(), values),
        Purpose::Verify(name) => Effect::Verify(name.clone(), Some(form.text("identity_file").to_owned())),
        Purpose::Setting(key) => Effect::SetSetting(key.clone(), forms::setting_value(form, key).to_owned()),
        Purpose::Restore(_) => match forms::restore_request(model, form) {
            Ok(request) => Effect::PlanRestore(Box::new(request)),
            Err(why) => {
                form.fail(Problem { kind: crate::error::ErrorKind::Invalid, field: None, message: why, hint: None });
                return Vec::new();
            }
        },
    };
    vec![Effect::Submitted { ticket: form.ticket, effect: Box::new(effect) }]
}

/// What `send` makes of the form that waited for an answer which is there now, when it lies on top: nothing is sent below
/// something else. `waited` is asked of every form, and has it wait no longer.
pub(super) fn send_waiting<T>(
    model: &mut Model,
    waited: impl Fn(&Model, &mut Form) -> bool,
    send: impl FnOnce(&mut Model, &mut Form) -> T,
) -> Option<T> {
    let mut layers = std::mem::take(&mut model.layers);
    let mut is_due = false;
    for layer in &mut layers {
        // Of the last layer, the one on top, it stays.
        is_due = match layer {
            Layer::Form(form) => waited(model, form),
            _ => false,
        };
    }
    let sent = match layers.last_mut() {
        Some(Layer::Form(form)) if is_due && !form.submitting => Some(send(model, form)),
        _ => None,
    };
    model.layers = layers;
    sent
}
