//! A storage is tested before it is saved: what its form holds is saved once every step of the test has passed, or when
//! whoever typed it says so although it did not.

use super::submit::{send_waiting, submit};
use crate::domain::storage::TestStep;
use crate::domain::text::escape;
use crate::tui::form::{Draft, Form, Purpose};
use crate::tui::model::{Model, TestRun};
use crate::tui::msg::{Effect, draft_name};

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
    form.draft = Some(Draft { ticket, values: values.clone(), saves });
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

/// Saves the form that waited for the test of this name, if it passed and nothing was changed or opened above it since.
pub(super) fn ended(model: &mut Model, name: &str) -> Vec<Effect> {
    let passed = model.tests.get(name).is_some_and(TestRun::passed);
    let waited = |_: &Model, form: &mut Form| {
        let values = form.values();
        let draft = form.draft.as_mut().filter(|draft| draft_name(draft.ticket) == name);
        draft.is_some_and(|draft| std::mem::take(&mut draft.saves) && passed && draft.values == values)
    };
    send_waiting(model, waited, submit).unwrap_or_default()
}
