//! What the check of a service says about the backup in a form: what stops it comes first, and of the storages only the
//! one that is chosen counts.

use super::form::{Form, Purpose};
use super::forms::{ON_DEMAND, WHEN, backup_model};
use super::model::{Load, Model};
use crate::domain::service::{CheckItem, CheckState};
use crate::domain::text::escape;

/// The items of the last check, sorted by what they mean for the backup in `form`; `None` while there is none.
pub fn items(model: &Model, form: &Form) -> Option<Vec<CheckItem>> {
    if !matches!(form.purpose, Purpose::Create | Purpose::EditSchedule(_)) {
        return None;
    }
    let Some(Load::Ready(report)) = model.check(form.text("service"), backup_model(form)) else { return None };
    let mut items = report.items.clone();
    let chosen = form.text("storage");
    if let Some(outcome) = report.storages.get(chosen)
        && let Some(item) = items.iter_mut().find(|item| item.id == "storage")
    {
        match outcome {
            None => {
                (item.state, item.detail) = (CheckState::Pass, format!("{} is writable", escape(chosen)));
                item.remedy.clear();
            }
            Some(why) => {
                (item.state, item.detail) = (CheckState::Fail, format!("{}: {}", escape(chosen), escape(why)));
                let unfit = report.unfit.get(chosen).cloned();
                item.remedy = unfit.unwrap_or_else(|| format!("mongokeep storage test {chosen}"));
            }
        }
    }
    items.sort_by_key(CheckItem::urgency);
    Some(items)
}

/// Why the backup in `form` would fail, as far as the last check knows; empty when nothing speaks against it.
pub fn stoppers(model: &Model, form: &Form) -> Vec<String> {
    let sentence = |item: &CheckItem| format!("{}: {}", escape(&item.title), escape(&item.detail));
    if let Some(items) = items(model, form) {
        return items.iter().filter(|item| item.stops_backups()).map(sentence).collect();
    }
    // A schedule runs later, when its server may be back.
    if !is_done_now(form) {
        return Vec::new();
    }
    let service = form.text("service");
    let lost = model.lost_service(service).map(|lost| &lost.problem);
    let problem = lost.or(match model.check(service, backup_model(form)) {
        Some(Load::Failed(problem)) => Some(problem),
        _ => None,
    });
    problem.iter().map(|problem| format!("{}: {}", escape(service), escape(&problem.message))).collect()
}

/// Whether what is in `form` would be done at once, and is still being checked.
pub fn are_checked_now(model: &Model, form: &Form) -> bool {
    is_done_now(form) && matches!(model.check(form.text("service"), backup_model(form)), Some(Load::Waiting))
}

fn is_done_now(form: &Form) -> bool {
    form.purpose == Purpose::Create && form.text(WHEN) == ON_DEMAND
}
