//! What the check of a service says about the backup in a form: what stops it comes first, and of the storages only the
//! one that is chosen counts.

use super::form::{Form, Purpose};
use super::forms::{ON_DEMAND, WHEN, backup_model};
use super::model::{Load, Model};
use crate::domain::command_line::quoted;
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
                let is_unproven = unproven(model, form).is_some();
                if is_unproven {
                    item.detail = format!("{}: {UNPROVEN}", escape(chosen));
                }
                item.remedy = unfit.unwrap_or_else(|| match is_unproven {
                    true => format!("mongokeep storage edit {} --identity-file FILE", quoted(chosen)),
                    false => format!("mongokeep storage test {}", quoted(chosen)),
                });
            }
        }
    }
    items.sort_by_key(CheckItem::urgency);
    Some(items)
}

/// What nobody can say yes to: whoever makes backups refuses it.
pub struct Refused {
    pub title: &'static str,
    pub why: String,
    /// The storage whose proof is missing, where that is why.
    pub unproven: Option<String>,
}

const UNPROVEN: &str = "nobody has shown an identity that opens what is kept there";

/// The chosen storage, when nobody has shown that what it keeps can be read again.
fn unproven<'a>(model: &'a Model, form: &Form) -> Option<&'a str> {
    let storage = model.data.storages.iter().find(|storage| storage.name == form.text("storage"))?;
    storage.encryption.as_ref().filter(|encryption| encryption.proof.is_none()).map(|_| storage.name.as_str())
}

/// Why what is in `form` is refused whatever a person says; `None`: it is not, as far as is known.
pub fn refused(model: &Model, form: &Form) -> Option<Refused> {
    if !matches!(form.purpose, Purpose::Create | Purpose::EditSchedule(_)) {
        return None;
    }
    let title = match is_done_now(form) {
        true => "The backup would be refused",
        false => "The schedule would be refused",
    };
    if let Some(storage) = unproven(model, form) {
        let why = format!("{}: {UNPROVEN}. Its form takes the identity as the proof.", escape(storage));
        return Some(Refused { title, why, unproven: Some(storage.to_owned()) });
    }
    let Some(Load::Ready(report)) = model.check(form.text("service"), backup_model(form)) else { return None };
    let chosen = form.text("storage");
    report.unfit.get(chosen)?;
    let why = report.storages.get(chosen).cloned().flatten().unwrap_or_default();
    Some(Refused { title, why: format!("{}: {}", escape(chosen), escape(&why)), unproven: None })
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
