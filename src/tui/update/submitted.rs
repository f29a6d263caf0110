//! What becomes of a form, or of the plan of a restore, when the answer to its submission is there.
//!
//! Only the one that waits for exactly this answer takes it: one that was opened since has asked for nothing, and the
//! answer to a key is for no form at all.

use super::refresh_forms;
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::job::Job;
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::service::{CheckItem, EngineProposal, ServiceInfo};
use crate::tui::form::{Form, Purpose};
use crate::tui::forms;
use crate::tui::model::{About, Layer, Level, Load, Model, Review};
use crate::tui::msg::{Effect, Problem};

/// The number of a submission; `None`: it was a key.
pub(super) type Ticket = Option<u64>;

fn about(ticket: Ticket) -> About {
    ticket.map_or(About::Nothing, About::Submission)
}

/// Where the form lies that waits for this answer.
fn form_at(model: &Model, ticket: Ticket) -> Option<usize> {
    let waits = |l: &Layer| matches!(l, Layer::Form(form) if form.submitting && ticket == Some(form.ticket));
    model.layers.iter().rposition(waits)
}

/// Whether a form still waits for the answer to its submission.
pub fn waits(model: &Model, ticket: u64) -> bool {
    form_at(model, Some(ticket)).is_some()
}

fn review_at(model: &Model, ticket: Ticket) -> Option<usize> {
    let waits = |l: &Layer| matches!(l, Layer::Review(review) if review.submitting && ticket == Some(review.ticket));
    model.layers.iter().rposition(waits)
}

/// Closes the form that waits for this answer, wherever it lies; gives it with its place.
pub(super) fn close_form(model: &mut Model, ticket: Ticket) -> Option<(usize, Box<Form>)> {
    let at = form_at(model, ticket)?;
    model.cause_gone(&about(ticket));
    match model.layers.remove(at) {
        Layer::Form(form) => Some((at, form)),
        _ => None,
    }
}

/// Puts a failure into the form that waits for this answer.
pub(super) fn fail_form(model: &mut Model, ticket: Ticket, what: &str, problem: Problem) {
    match form_at(model, ticket).and_then(|at| model.layers.get_mut(at)) {
        Some(Layer::Form(form)) => form.fail(problem.clone()),
        // The form was closed meanwhile; the failure must not go with it.
        _ => return model.emit_problem(what, &problem),
    }
    // It stands in the form; the list keeps it, the line would say it twice.
    model.keep_problem(about(ticket), what, &problem);
}

/// How the try of a service went, for the form that asked.
pub(super) fn tried(model: &mut Model, ticket: Ticket, outcome: Load<(ServiceInfo, Vec<CheckItem>)>) {
    let trial = model.layers.iter_mut().rev().find_map(|layer| match layer {
        Layer::Form(form) => form.trial.as_mut().filter(|trial| ticket == Some(trial.ticket)),
        _ => None,
    });
    if let Some(trial) = trial {
        trial.outcome = outcome;
    }
}

/// Shows the engine that fits better in the form that waits for this answer.
pub(super) fn engine_proposed(model: &mut Model, ticket: Ticket, proposal: Box<EngineProposal>) {
    if let Some(Layer::Form(form)) = form_at(model, ticket).and_then(|at| model.layers.get_mut(at)) {
        (form.submitting, form.error, form.proposal) = (false, None, Some(proposal));
    }
}

/// What was added from within a form is picked there, in the row that asked for it.
pub(super) fn pick(model: &mut Model, closed: Option<(usize, Box<Form>)>, name: &str) -> Vec<Effect> {
    refresh_forms(model);
    let Some((at, closed)) = closed else { return Vec::new() };
    let (Some(key), Some(below)) = (closed.asked_by, at.checked_sub(1)) else { return Vec::new() };
    let mut layers = std::mem::take(&mut model.layers);
    let mut effects = Vec::new();
    if let Some(Layer::Form(form)) = layers.get_mut(below)
        && let Some(row) = form.row_mut(key)
    {
        row.set(name);
        (row.touched, row.error) = (true, None);
        effects = forms::changed(model, form, key);
    }
    model.layers = layers;
    effects
}

/// Shows a plan above the form that asked for it, so that Esc goes back to it with everything in it; help that was
/// asked for meanwhile stays above.
pub(super) fn planned(
    model: &mut Model,
    ticket: Ticket,
    request: RestoreRequest,
    result: Result<Box<RestorePlan>, Problem>,
) {
    let plan = match result {
        Ok(plan) => *plan,
        Err(problem) => return fail_form(model, ticket, "the restore was not planned", problem),
    };
    let Some(at) = form_at(model, ticket) else { return };
    if let Some(Layer::Form(form)) = model.layers.get_mut(at) {
        form.submitting = false;
    }
    let review = Review {
        request,
        plan,
        typed: Default::default(),
        scroll: 0,
        submitting: false,
        ticket: 0,
        error: None,
        wrong: false,
    };
    model.layers.insert(at + 1, Layer::Review(Box::new(review)));
}

/// A job was queued, or was not: what asked for it is done with, or says why.
pub(super) fn queued(model: &mut Model, ticket: Ticket, what: &str, result: Result<Job, Problem>) {
    let review = review_at(model, ticket);
    match (result, review) {
        (Ok(job), review) => {
            close_form(model, ticket);
            if let Some(at) = review {
                model.layers.remove(at);
                let is_its_form = |l: &Layer| matches!(l, Layer::Form(f) if matches!(f.purpose, Purpose::Restore(_)));
                if let Some(below) = at.checked_sub(1).filter(|i| model.layers.get(*i).is_some_and(is_its_form)) {
                    model.layers.remove(below);
                }
            }
            let title = job.title();
            let text = format!("{title} is queued as job {}", job.id);
            model.emit_about(About::Job(job.id), Level::Good, text, None);
        }
        (Err(problem), Some(at)) => {
            model.keep_problem(about(ticket), what, &problem);
            if let Some(Layer::Review(review)) = model.layers.get_mut(at) {
                (review.submitting, review.error) = (false, Some(problem));
            }
        }
        (Err(problem), None) => fail_form(model, ticket, what, problem),
    }
}

pub(super) fn setting_saved(model: &mut Model, ticket: Ticket, key: &str, result: Result<(), Problem>) {
    let label = SETTING_FIELDS.iter().find(|f| f.key == key).map_or(key, |f| f.label);
    match result {
        Ok(()) => {
            close_form(model, ticket);
            // The order is kept without a word; it can be seen.
            if key != "ui.sort" {
                model.emit(Level::Good, format!("{label} ({key}) is saved"), None);
            }
        }
        Err(problem) => fail_form(model, ticket, &format!("{label} ({key}) is not saved"), problem),
    }
}
