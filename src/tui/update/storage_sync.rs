//! The sync of a storage: what it would change in the catalogue as a question, and nothing asked where it changes nothing.

use crate::client::{SyncGrade, SyncPlan};
use crate::domain::text::{counted, escape};
use crate::tui::model::{Button, Confirm, Layer, Level, Load, Model, Report, Synced, Then};
use crate::tui::msg::{Effect, Problem};

/// So many of a sort are named; the page below names all.
const NAMED: usize = 3;

fn is_page(layer: &Layer, of: u64) -> bool {
    matches!(layer, Layer::Report { report: Report::Sync { ticket, .. }, .. } if *ticket == of)
}

/// Whether the page is there that asked for the plan of this number.
pub fn waits_for_plan(model: &Model, ticket: u64) -> bool {
    model.layers.iter().any(|layer| is_page(layer, ticket))
}

/// A plan is there: it is shown on the page that asked for it, and asked about where it changes something.
pub(super) fn planned(model: &mut Model, ticket: u64, name: String, result: Result<Box<SyncPlan>, Problem>) {
    // Whoever has left the page, or come to it anew since, did not ask for this one.
    if !waits_for_plan(model, ticket) {
        return;
    }
    let plan = match result {
        Ok(plan) => plan,
        Err(problem) => {
            model.syncs.insert(name, Load::Failed(problem));
            return;
        }
    };
    let changes = plan.changes_something();
    model.syncs.insert(name.clone(), Load::Ready(Synced { report: plan.report.clone(), changes }));
    let is_on_top = model.layers.last().is_some_and(|layer| is_page(layer, ticket));
    match (changes, is_on_top) {
        (false, _) => {}
        (true, true) => model.layers.push(Layer::Confirm(question(name, plan))),
        (true, false) => {
            model.emit(Level::Info, format!("the catalogue of {name} is not changed: its page was covered"), None)
        }
    }
}

fn question(name: String, plan: Box<SyncPlan>) -> Confirm {
    let report = &plan.report;
    // First, so that a small window cuts something else.
    let mut lines = vec!["This changes the catalogue of this machine, and nothing in the storage.".to_owned()];
    for group in report.groups().iter().filter(|g| !g.lines.is_empty() && g.grade != SyncGrade::Note) {
        lines.push(format!("{} {}:", group.lines.len(), group.title));
        lines.extend(group.lines.iter().take(NAMED).map(|line| format!("- {}", escape(line))));
        let more = group.lines.len().saturating_sub(NAMED);
        lines.extend((more > 0).then(|| format!("  and {more} more")));
    }
    let slices = [(report.slices.added, "to be added"), (report.slices.missing, "to be taken out")];
    let slices = slices.into_iter().filter(|(many, _)| *many > 0);
    lines.extend(slices.map(|(many, what)| format!("{} of the oplog {what}", counted(many, "slice"))));
    lines.extend(report.warnings.iter().map(|warning| format!("! {}", escape(warning))));
    Confirm {
        title: format!("Sync the storage {name}?"),
        lines,
        buttons: vec![
            Button { label: "Cancel".into(), then: Then::Nothing },
            Button { label: "Change the catalogue".into(), then: Then::Do(Effect::CarryOutSync(name, plan)) },
        ],
        focus: 0,
        typed: None,
    }
}
