//! A storage is tested before it is saved: what its form holds is saved once every step of the test has passed, or when
//! whoever typed it says so although it did not.

use crate::client::Holdings;
use crate::domain::storage::TestStep;
use crate::domain::text::escape;
use crate::tui::form::{Draft, Form, Purpose};
use crate::tui::model::{Layer, Load, Model, TestRun};
use crate::tui::msg::{Effect, Problem, draft_name};

/// What becomes of a form that is submitted.
pub(super) enum Saving {
    Now,
    /// Once what these begin has passed, or nothing when that is under way.
    AfterTest(Vec<Effect>),
    /// The test of exactly this has failed: lines that say why, for a question.
    Failed(Vec<String>),
}

/// Tests what is in the form of a storage; `saves`: it is saved when all steps have passed.
pub(super) fn test(model: &mut Model, form: &mut Form, saves: bool) -> Vec<Effect> {
    let (ticket, values) = (model.next_ticket(), form.values());
    let edited = match &form.purpose {
        Purpose::EditStorage(name) => Some(name.clone()),
        _ => None,
    };
    form.draft = Some(Draft { ticket, values: values.clone(), saves, holds: None });
    vec![Effect::TestDraft { ticket, edited, values }]
}

/// What has to come before a form is saved.
pub(super) fn before_saving(model: &mut Model, form: &mut Form) -> Saving {
    if !form.can_be_tested() {
        return Saving::Now;
    }
    let values = form.values();
    let Some(draft) = form.draft.as_mut().filter(|draft| draft.values == values) else {
        return Saving::AfterTest(test(model, form, true));
    };
    match model.tests.get(&draft_name(draft.ticket)) {
        Some(run) if run.passed() => Saving::Now,
        Some(run) if run.result.is_some() => Saving::Failed(why(run)),
        Some(_) => {
            draft.saves = true;
            Saving::AfterTest(Vec::new())
        }
        None => Saving::AfterTest(test(model, form, true)),
    }
}

/// The steps of the test that what `form` holds has passed.
pub(super) fn passed(model: &Model, form: &Form) -> Option<Vec<TestStep>> {
    let draft = form.draft.as_ref().filter(|draft| draft.values == form.values())?;
    model.tests.get(&draft_name(draft.ticket)).filter(|run| run.passed()).map(|run| run.steps.clone())
}

fn why(run: &TestRun) -> Vec<String> {
    let failed = run.steps.iter().filter_map(TestStep::failure).map(|why| format!("✗ {why}"));
    let problem = run.result.iter().filter_map(|result| result.as_ref().err()).map(|p| format!("✗ {}", p.message));
    failed.chain(problem).map(|line| escape(&line)).collect()
}

/// Whether the form waited for the test of this name to be saved, which has passed, and nothing was changed since. It waits no
/// longer.
pub(super) fn waited(model: &Model, form: &mut Form, name: &str) -> bool {
    let passed = model.tests.get(name).is_some_and(TestRun::passed);
    let values = form.values();
    let draft = form.draft.as_mut().filter(|draft| draft_name(draft.ticket) == name);
    draft.is_some_and(|draft| std::mem::take(&mut draft.saves) && passed && draft.values == values)
}

/// Reads what the location holds whose test of this name has passed, for the form that only tested it.
pub(super) fn look_into(model: &mut Model, name: &str) -> Vec<Effect> {
    // Whoever has opened something above the form looks at that.
    let is_on_top = matches!(model.layers.last(), Some(Layer::Form(_)));
    if !is_on_top || !model.tests.get(name).is_some_and(TestRun::passed) {
        return Vec::new();
    }
    let form = super::form_for(model, |purpose| matches!(purpose, Purpose::AddStorage | Purpose::EditStorage(_)));
    let Some(form) = form.filter(|form| !form.submitting) else { return Vec::new() };
    let edited = match &form.purpose {
        Purpose::EditStorage(name) => Some(name.clone()),
        _ => None,
    };
    let values = form.values();
    let draft = form.draft.as_mut().filter(|draft| draft_name(draft.ticket) == name && draft.values == values);
    let Some(draft) = draft else { return Vec::new() };
    draft.holds = Some(Load::Waiting);
    vec![Effect::ReadHoldings { ticket: draft.ticket, edited, values }]
}

/// Whether a form still waits to be shown what its location holds.
pub fn waits_for_holdings(model: &Model, ticket: u64) -> bool {
    model.layers.iter().any(|layer| match layer {
        Layer::Form(form) => form.draft.as_ref().is_some_and(|draft| {
            draft.ticket == ticket && draft.holds == Some(Load::Waiting) && draft.values == form.values()
        }),
        _ => false,
    })
}

/// What a location holds, for the form that asked.
pub(super) fn holdings_read(model: &mut Model, ticket: u64, result: Result<Holdings, Problem>) {
    let drafts = model.layers.iter_mut().filter_map(|layer| match layer {
        Layer::Form(form) => form.draft.as_mut(),
        _ => None,
    });
    for draft in drafts.filter(|draft| draft.ticket == ticket) {
        draft.holds = Some(result.clone().map_or_else(Load::Failed, Load::Ready));
    }
}
