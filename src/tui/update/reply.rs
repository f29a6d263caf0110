//! What the answers to effects change.

use super::{asked, form_at, form_for, schedules};
use crate::client::DeletePlan;
use crate::domain::text::{bytes, escape};
use crate::tui::form::Purpose;
use crate::tui::model::{Button, Confirm, Layer, Level, Load, Model, Review, Then};
use crate::tui::msg::{Effect, Problem, Reply};
use crate::tui::{forms, view};

pub(super) fn reply(model: &mut Model, reply: Reply) -> Vec<Effect> {
    match reply {
        Reply::ServiceSaved(Ok(service)) => {
            let is = |p: &Purpose| matches!(p, Purpose::AddService | Purpose::EditService(_));
            let added = close_form(model, is) == Some(Purpose::AddService);
            model.tell(Level::Good, format!("service {} is saved", service.name), None);
            model.infos.remove(&service.name);
            model.checks.remove(&service.name);
            let name = service.name.clone();
            match model.data.services.iter_mut().find(|s| s.name == name) {
                Some(known) => *known = service,
                None => model.data.services.push(service),
            }
            model.refresh_rows();
            let effects = pick_in_form(model, "service", &name);
            if effects.is_empty() && added {
                return asked(model, vec![Effect::ServiceInfo(name)]);
            }
            return asked(model, effects);
        }
        Reply::ServiceSaved(Err(problem)) => {
            let is = |p: &Purpose| matches!(p, Purpose::AddService | Purpose::EditService(_));
            fail_form(model, is, "the service was not saved", problem);
        }
        Reply::StorageSaved(Ok(storage)) => {
            close_form(model, |p| matches!(p, Purpose::AddStorage | Purpose::EditStorage(_)));
            model.tell(Level::Good, format!("storage {} is saved", storage.name), None);
            let name = storage.name.clone();
            match model.data.storages.iter_mut().find(|s| s.name == name) {
                Some(known) => *known = storage,
                None => model.data.storages.push(storage),
            }
            model.refresh_rows();
            let effects = pick_in_form(model, "storage", &name);
            return asked(model, effects);
        }
        Reply::StorageSaved(Err(problem)) => {
            let is = |p: &Purpose| matches!(p, Purpose::AddStorage | Purpose::EditStorage(_));
            fail_form(model, is, "the storage was not saved", problem);
        }
        Reply::ServiceRemoved { name, result } => removed(model, "service", &name, result),
        Reply::StorageRemoved { name, result } => removed(model, "storage", &name, result),
        Reply::ServiceChecked { name, result } => {
            model.checks.insert(name, loaded(result));
        }
        Reply::ServiceInfo { name, result } => {
            if let (Err(problem), Some(Load::Ready(_))) = (&result, model.infos.get(&name)) {
                model.tell_problem(&format!("service {name} is lost"), problem);
            } else if let (Ok(_), Some(Load::Failed(_))) = (&result, model.infos.get(&name)) {
                model.tell(Level::Good, format!("service {name} answers again"), None);
            }
            model.infos.insert(name, loaded(result));
        }
        Reply::StorageTested { name, result } => {
            let run = model.tests.entry(name.clone()).or_default();
            run.result = Some(match result {
                Ok(steps) => {
                    run.steps = steps;
                    Ok(())
                }
                Err(problem) => Err(problem),
            });
        }
        Reply::StorageSynced { name, result } => {
            model.syncs.insert(name, loaded(result));
        }
        Reply::FreeSpace { name, result } => {
            if let Ok(free) = result {
                model.free_space.insert(name, free);
            }
        }
        Reply::NameSuggested { service, result: Ok(name) } => {
            if let Some(form) = form_for(model, |p| *p == Purpose::Create)
                && form.text("service") == service
                && form.text(forms::WHEN) == forms::ON_DEMAND
                && let Some(row) = form.row_mut("name").filter(|r| !r.touched)
            {
                row.set(name);
                row.error = None;
            }
        }
        // The name is only a proposal: the client makes one when the row stays empty.
        Reply::NameSuggested { result: Err(_), .. } => {}
        Reply::Queued { what, result } => queued(model, &what, result),
        Reply::Manifest { backup, result } => {
            model.manifests.insert(backup, loaded(result.map(|m| *m)));
        }
        Reply::DeletePlanned { backup, result: Ok(plans) } => {
            if model.still_asks(&Effect::PlanDelete(backup.clone())) {
                model.layers.push(Layer::Confirm(delete_question(&backup, &plans.0, &plans.1)));
            } else {
                model.tell(Level::Info, format!("{backup} is not deleted: another key came first"), None);
            }
        }
        Reply::DeletePlanned { backup, result: Err(problem) } => {
            model.tell_problem(&format!("{backup} cannot be deleted"), &problem);
        }
        Reply::RestorePlanned { request, result } => {
            let is = |p: &Purpose| forms::answers(p, &request);
            match result {
                Ok(plan) => {
                    // A form that was closed and opened again has not asked for this plan.
                    let Some(at) = form_at(model, is) else { return Vec::new() };
                    let Some(Layer::Form(form)) = model.layers.get_mut(at) else { return Vec::new() };
                    if !std::mem::take(&mut form.submitting) {
                        return Vec::new();
                    }
                    let review = Review {
                        request: *request,
                        plan: *plan,
                        typed: Default::default(),
                        scroll: 0,
                        submitting: false,
                        error: None,
                    };
                    // The form stays below the plan, so that Esc goes back to it with everything in it; help that was
                    // asked for meanwhile stays above.
                    model.layers.insert(at + 1, Layer::Review(Box::new(review)));
                }
                Err(problem) => fail_form(model, is, "the restore was not planned", problem),
            }
        }
        Reply::Operations { service, from, to, buckets, result } => {
            let form = form_for(model, |p| matches!(p, Purpose::Restore(_)));
            if let Some(pane) = form.and_then(|f| f.moment.as_mut()).filter(|p| p.service == service) {
                pane.counted(from, to, buckets, result);
            }
        }
        Reply::Pinned { backup, result: Ok(pinned) } => {
            let text = if pinned { "is pinned: nothing removes it" } else { "is no longer pinned" };
            model.tell(Level::Good, format!("{backup} {text}"), None);
        }
        Reply::Pinned { backup, result: Err(problem) } => model.tell_problem(&backup, &problem),
        reply @ (Reply::ScheduleSaved { .. }
        | Reply::ScheduleSwitched { .. }
        | Reply::ScheduleCopied { .. }
        | Reply::ScheduleRemoved { .. }
        | Reply::RetentionPlanned { .. }
        | Reply::Timeline(_)
        | Reply::FreeSlot { .. }
        | Reply::Previewed { .. }) => return schedules::reply(model, reply),
        Reply::Warnings(Ok(warnings)) => model.data.warnings = warnings,
        // The store is watched by others, who say when it is lost.
        Reply::Warnings(Err(_)) => {}
        Reply::NotificationTested { channel, result } => {
            model.told.insert(channel.word(), loaded(result));
        }
        Reply::JobRequested { id, result } => {
            let effects = super::jobs::requested(model, id, result);
            return asked(model, effects);
        }
        Reply::JobCancelled { id, result: Ok(()) } => {
            model.tell(Level::Info, format!("job {id} is asked to stop"), None);
        }
        Reply::JobCancelled { id, result: Err(problem) } => model.tell_problem(&format!("job {id}"), &problem),
        Reply::SettingSaved { key, result } => setting_saved(model, &key, result),
        Reply::Copied { text, result: Ok(()) } => {
            model.tell(Level::Good, format!("copied {}", escape(&text)), None);
        }
        Reply::Copied { text, result: Err(why) } => {
            model.tell(Level::Warn, format!("not copied: {why}"), Some(format!("it is {}", escape(&text))));
        }
    }
    Vec::new()
}

pub(super) fn loaded<T>(result: Result<T, Problem>) -> Load<T> {
    match result {
        Ok(value) => Load::Ready(value),
        Err(problem) => Load::Failed(problem),
    }
}

/// Closes the topmost form for a purpose, wherever it lies: boxes may have been opened above it since.
pub(super) fn close_form(model: &mut Model, is: impl Fn(&Purpose) -> bool) -> Option<Purpose> {
    let at = form_at(model, is)?;
    match model.layers.remove(at) {
        Layer::Form(form) => Some(form.purpose),
        _ => None,
    }
}

pub(super) fn fail_form(model: &mut Model, is: impl Fn(&Purpose) -> bool, what: &str, problem: Problem) {
    match form_for(model, is) {
        Some(form) => form.fail(problem.clone()),
        // The form was closed meanwhile; the failure must not go with it.
        None => return model.tell_problem(what, &problem),
    }
    let (at, text) = (model.now - chrono::TimeDelta::seconds(60), format!("{what}: {}", problem.message));
    // It stands in the form; the list keeps it, a toast would say it twice.
    model.messages.push_back(crate::tui::model::Message { at, level: Level::Error, text, hint: problem.hint });
}

/// What was added from within a form is picked there, also when help was opened above it since.
fn pick_in_form(model: &mut Model, key: &'static str, name: &str) -> Vec<Effect> {
    let mut layers = std::mem::take(&mut model.layers);
    let mut effects = Vec::new();
    let form = layers.iter_mut().rev().find_map(|layer| match layer {
        Layer::Form(form) => Some(form),
        _ => None,
    });
    if let Some(form) = form {
        forms::refresh_choices(model, form);
        if let Some(row) = form.row_mut(key) {
            row.set(name);
            row.error = None;
            effects = forms::changed(model, form, key);
        }
    }
    model.layers = layers;
    effects
}

fn removed(model: &mut Model, what: &str, name: &str, result: Result<(), Problem>) {
    match result {
        Ok(()) => {
            model.tell(Level::Good, format!("{what} {name} is removed"), None);
            // A page about what is gone goes too.
            if matches!(model.layers.last(), Some(Layer::Details { .. })) {
                model.layers.pop();
            }
        }
        Err(problem) => model.tell_problem(&format!("{what} {name} is not removed"), &problem),
    }
}

fn queued(model: &mut Model, what: &str, result: Result<crate::domain::job::Job, Problem>) {
    let is = |p: &Purpose| matches!(p, Purpose::Create);
    match result {
        Ok(job) => {
            let title = view::job_title(&job);
            match job.kind {
                crate::domain::job::JobKind::Backup => {
                    close_form(model, is);
                }
                crate::domain::job::JobKind::Restore => {
                    model.layers.retain(|l| !matches!(l, Layer::Review(_)));
                    close_form(model, |p| matches!(p, Purpose::Restore(_)));
                }
                _ => {}
            }
            model.tell(Level::Good, format!("{title} is queued as job {}", job.id), None);
        }
        Err(problem) => {
            let review = model.layers.iter_mut().rev().find_map(|l| match l {
                Layer::Review(review) if review.submitting => Some(review),
                _ => None,
            });
            if let Some(review) = review {
                review.submitting = false;
                review.error = Some(problem);
            } else {
                let form_waits =
                    model.layers.iter().any(|l| matches!(l, Layer::Form(f) if is(&f.purpose) && f.submitting));
                if form_waits {
                    fail_form(model, is, what, problem);
                } else {
                    model.tell_problem(what, &problem);
                }
            }
        }
    }
}

fn setting_saved(model: &mut Model, key: &str, result: Result<(), Problem>) {
    let is = |p: &Purpose| matches!(p, Purpose::Setting(k) if k == key);
    match result {
        Ok(()) => {
            close_form(model, is);
            // The order is kept without a word; it can be seen.
            if key != "ui.sort" {
                model.tell(Level::Good, format!("{key} is saved"), None);
            }
        }
        Err(problem) if model.layers.iter().any(|l| matches!(l, Layer::Form(f) if is(&f.purpose))) => {
            fail_form(model, is, "the setting was not saved", problem);
        }
        Err(problem) => model.tell_problem(&format!("{key} is not saved"), &problem),
    }
}

/// The plan of a delete as a question. Nothing goes before a person has left Cancel.
fn delete_question(backup: &str, record: &DeletePlan, files: &DeletePlan) -> Confirm {
    // What is true of one of the two only stands with that one.
    let only = |of: &DeletePlan, other: &DeletePlan| -> String {
        of.warnings.iter().filter(|w| !other.warnings.contains(w)).map(|w| format!("; {}", escape(w))).collect()
    };
    let mut lines = vec![
        format!("It is in the storage {}.", escape(&files.storage)),
        format!(
            "Record and files: {} become free, and the backup is gone for good{}.",
            bytes(files.bytes),
            only(files, record)
        ),
        format!("Record only: it leaves this list{}.", only(record, files)),
    ];
    let both = files.warnings.iter().filter(|w| record.warnings.contains(w));
    lines.extend(both.map(|w| format!("! {}", escape(w))));
    let delete = |keep_files| Then::Do(Effect::Delete { backup: backup.to_owned(), keep_files });
    Confirm {
        title: format!("Delete {backup}?"),
        lines,
        buttons: vec![
            Button { label: "Cancel".into(), then: Then::Nothing },
            Button { label: "Record only".into(), then: delete(true) },
            Button { label: "Record and files".into(), then: delete(false) },
        ],
        focus: 0,
    }
}
