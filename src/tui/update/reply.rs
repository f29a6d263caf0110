//! What the answers to effects change.

use super::submitted::{self, Ticket, close_form, fail_form};
use super::{asked, form_for, schedules, storage_repair, storage_sync, storage_test, submission};
use crate::client::{DeletePlan, Removes, StorageView};
use crate::domain::text::{bytes, counted, escape};
use crate::error::ErrorKind;
use crate::tui::form::Purpose;
use crate::tui::forms;
use crate::tui::model::{Button, Confirm, Layer, Level, Load, Model, Synced, Target, Then, Typed};
use crate::tui::msg::{Effect, Problem, Reply};

pub(super) fn reply(model: &mut Model, reply: Reply) -> Vec<Effect> {
    match reply {
        Reply::Submitted { ticket, reply } => take(model, Some(ticket), *reply),
        Reply::OfService { service, edition, reply } => match edition == model.edition(&service) {
            true => take(model, None, *reply),
            // It was edited meanwhile: the answer is to a question that nobody asks any more.
            false => asked_again(model, *reply),
        },
        reply => take(model, None, reply),
    }
}

/// Asks anew what an answer that no longer counts was about, where somebody still waits for it.
fn asked_again(model: &mut Model, reply: Reply) -> Vec<Effect> {
    let effect = match reply {
        Reply::ServiceInfo { name, .. } if !model.infos.contains_key(&name) => Effect::ServiceInfo(name),
        Reply::ServiceChecked { name, model: of, .. } if model.check(&name, of).is_none() => {
            Effect::CheckService(name, of)
        }
        _ => return Vec::new(),
    };
    asked(model, vec![effect])
}

fn take(model: &mut Model, ticket: Ticket, reply: Reply) -> Vec<Effect> {
    match reply {
        Reply::Submitted { .. } | Reply::OfService { .. } => {}
        Reply::ServiceSaved(Ok(service)) => {
            let closed = close_form(model, ticket);
            model.emit(Level::Good, format!("service {} is saved", service.name), None);
            model.clusters.remove(&service.name);
            let name = service.name.clone();
            match model.data.services.iter_mut().find(|s| s.name == name) {
                Some(known) => *known = service,
                None => model.data.services.push(service),
            }
            model.edited(&name);
            model.refresh_rows();
            let effects = submitted::pick(model, closed, &name);
            if effects.is_empty() {
                return asked(model, vec![Effect::ServiceInfo(name)]);
            }
            return asked(model, effects);
        }
        Reply::EngineProposed(proposal) => submitted::engine_proposed(model, ticket, proposal),
        Reply::ServiceSaved(Err(problem)) => fail_form(model, ticket, "the service was not saved", problem),
        Reply::StorageSaved(Ok(storage)) => {
            let closed = close_form(model, ticket);
            let name = storage.name.clone();
            let was_encrypted = model.data.storages.iter().any(|s| s.name == name && s.encryption.is_some())
                || closed.as_ref().is_some_and(|(_, form)| forms::ends_encryption(model, form));
            let (level, text) = saved_words(&storage, was_encrypted);
            model.emit(level, text, None);
            let tested = closed.as_ref().and_then(|(_, form)| storage_test::passed(model, form));
            let was_known = model.data.storages.iter().any(|s| s.name == name);
            match model.data.storages.iter_mut().find(|s| s.name == name) {
                Some(known) => *known = storage,
                None => model.data.storages.push(storage),
            }
            model.refresh_rows();
            let mut effects = submitted::pick(model, closed, &name);
            if was_known {
                effects.extend(checks_of_forms(model, &name));
            }
            effects.extend(tested.map(|steps| Effect::KeepTest { name, steps }));
            return asked(model, effects);
        }
        Reply::StorageSaved(Err(problem)) => fail_form(model, ticket, "the storage was not saved", problem),
        Reply::ServiceRemoved { name, result } => {
            removed(model, "service", &Target::Service(name.clone()), &name, result);
        }
        Reply::StorageRemoved { name, result } => {
            removed(model, "storage", &Target::Storage(name.clone()), &name, result);
        }
        Reply::ServiceChecked { name, model: of, mut result } => {
            for item in result.iter_mut().flat_map(|report| &mut report.items) {
                item.remedy = model.commands(&item.remedy);
            }
            model.checks.insert((name.clone(), of), loaded(result));
            let mut layers = std::mem::take(&mut model.layers);
            let mut effects = Vec::new();
            for layer in &mut layers {
                if let Layer::Form(form) = layer
                    && matches!(form.purpose, Purpose::Create)
                    && form.text("service") == name
                {
                    effects.extend(forms::checked(model, form));
                }
            }
            model.layers = layers;
            effects.extend(submission::checked(model, &name));
            return asked(model, effects);
        }
        Reply::ServiceInfo { name, result } => {
            let heard = match &result {
                // Whoever refuses a login is there.
                Err(problem) if problem.kind == ErrorKind::Unreachable => Err(problem.clone()),
                Ok(_) | Err(_) => Ok(()),
            };
            model.infos.insert(name.clone(), loaded(result));
            if heard.is_err() || model.infos.get(&name).is_some_and(|info| matches!(info, Load::Ready(_))) {
                let effects = model.note_reach(&name, heard);
                return asked(model, effects);
            }
        }
        Reply::ClusterSeen { name, result: Ok(Some(cluster)) } => {
            model.clusters.insert(name, Load::Ready(*cluster));
        }
        Reply::ClusterSeen { name, result: Ok(None) } => {
            model.clusters.remove(&name);
        }
        Reply::ClusterSeen { name, result: Err(problem) } => {
            model.clusters.insert(name, Load::Failed(problem));
        }
        Reply::NamespacesListed { service, result } => {
            model.namespaces.insert(service, loaded(result));
        }
        Reply::ServiceTried(result) => submitted::tried(model, ticket, loaded(result)),
        Reply::StorageTested { name, result } => {
            let run = model.tests.entry(name.clone()).or_default();
            run.result = Some(match result {
                Ok(steps) => {
                    run.steps = steps;
                    Ok(())
                }
                Err(problem) => Err(problem),
            });
            let effects = submission::tested(model, &name);
            return asked(model, effects);
        }
        Reply::RepairQueued { storage, result } => storage_repair::queued(model, storage, result),
        Reply::HoldingsRead { ticket, result } => storage_test::holdings_read(model, ticket, result),
        Reply::SyncPlanned { ticket, name, result } => storage_sync::planned(model, ticket, name, result),
        Reply::StorageSynced { name, result } => {
            let synced = result.map(|report| Synced { report, changes: true });
            model.syncs.insert(name, loaded(synced));
        }
        Reply::StorageChecked { name, result } => {
            model.storage_checks.insert(name, loaded(result));
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
        Reply::Queued { what, result } => submitted::queued(model, ticket, &what, result),
        Reply::Manifest { backup, result } => {
            model.take_manifest(backup, loaded(result.map(|m| *m)));
        }
        Reply::DeletePlanned { backup, result: Ok(plans) } => {
            if model.still_asks(&Effect::PlanDelete(backup.clone())) {
                model.layers.push(Layer::Confirm(delete_question(&backup, &plans.0, &plans.1)));
            } else {
                model.emit(Level::Info, format!("{backup} is not deleted: another key came first"), None);
            }
        }
        Reply::DeletePlanned { backup, result: Err(problem) } => {
            model.emit_problem(&format!("{backup} cannot be deleted"), &problem);
        }
        Reply::RestorePlanned { request, result } => submitted::planned(model, ticket, *request, result),
        Reply::Operations { service, from, to, buckets, result } => {
            let form = form_for(model, |p| matches!(p, Purpose::Restore(_)));
            if let Some(pane) = form.and_then(|f| f.moment.as_mut()).filter(|p| p.service == service) {
                pane.counted(from, to, buckets, result);
            }
        }
        Reply::Pinned { backup, result: Ok(pinned) } => {
            let text = if pinned { "is pinned: nothing removes it" } else { "is no longer pinned" };
            model.emit(Level::Good, format!("{backup} {text}"), None);
        }
        Reply::Pinned { backup, result: Err(problem) } => model.emit_problem(&backup, &problem),
        reply @ (Reply::ScheduleSaved { .. }
        | Reply::ScheduleSwitched { .. }
        | Reply::ScheduleCopied { .. }
        | Reply::ScheduleRemoved { .. }
        | Reply::RetentionPlanned { .. }
        | Reply::Timeline(_)
        | Reply::FreeSlot { .. }
        | Reply::Previewed { .. }) => return schedules::reply(model, ticket, reply),
        Reply::Warnings(Ok(warnings)) => {
            model.data.warnings = warnings;
            model.strip = crate::tui::service_strip::rows(model);
        }
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
            model.emit(Level::Info, format!("cancelling job {id}"), None);
        }
        Reply::JobCancelled { id, result: Err(problem) } => model.emit_problem(&format!("job {id}"), &problem),
        Reply::SettingSaved { key, result } => submitted::setting_saved(model, ticket, &key, result),
        Reply::Copied { text, result: Ok(()) } => {
            // A terminal does not say whether it has taken it: the text stands there, to be selected.
            model.emit(Level::Info, format!("sent to the terminal: {}", escape(&text)), None);
        }
        Reply::Copied { text, result: Err(why) } => {
            model.emit(Level::Warn, format!("not copied: {why}"), Some(format!("it is {}", escape(&text))));
        }
    }
    Vec::new()
}

/// That a storage is saved, and what follows from its encryption: it is said once more where it can no longer be overlooked.
fn saved_words(storage: &StorageView, was_encrypted: bool) -> (Level, String) {
    let name = &storage.name;
    match &storage.encryption {
        None if was_encrypted => {
            let next = "it encrypts nothing from now on: the next backup is stored in plain text";
            (Level::Warn, format!("storage {name} is saved; {next}"))
        }
        None => (Level::Good, format!("storage {name} is saved")),
        Some(encryption) if encryption.proof.is_some() => {
            (Level::Good, format!("storage {name} is saved; {}", encryption.loss()))
        }
        Some(encryption) => {
            let next = "no backup begins before an identity is shown: e edits the storage, Proof takes it";
            (Level::Warn, format!("storage {name} is saved; {next}; {}", encryption.loss()))
        }
    }
}

/// Looks once more whether the backups of open forms could be made that go to a storage which was another one until now.
fn checks_of_forms(model: &Model, storage: &str) -> Vec<Effect> {
    let forms = model.layers.iter().filter_map(|layer| match layer {
        Layer::Form(form) if matches!(form.purpose, Purpose::Create | Purpose::EditSchedule(_)) => Some(form),
        _ => None,
    });
    let theirs = forms.filter(|form| form.text("storage") == storage && !form.text("service").is_empty());
    theirs.map(|form| Effect::CheckService(form.text("service").to_owned(), forms::backup_model(form))).collect()
}

pub(super) fn loaded<T>(result: Result<T, Problem>) -> Load<T> {
    match result {
        Ok(value) => Load::Ready(value),
        Err(problem) => Load::Failed(problem),
    }
}

fn removed(model: &mut Model, what: &str, target: &Target, name: &str, result: Result<(), Problem>) {
    match result {
        Ok(()) => {
            model.emit(Level::Good, format!("{what} {name} is removed"), None);
            close_page(model, target);
        }
        Err(problem) => model.emit_problem(&format!("{what} {name} is not removed"), &problem),
    }
}

/// A page about what is gone goes too, wherever it lies.
pub(super) fn close_page(model: &mut Model, gone: &Target) {
    model.layers.retain(|l| !matches!(l, Layer::Details { target, .. } if target == gone));
}

/// The plan of a delete as a question. Nothing goes before a person has left Cancel; and what another installation made does
/// not go before its name was typed.
fn delete_question(backup: &str, record: &DeletePlan, files: &DeletePlan) -> Confirm {
    // What is true of one of the two only stands with that one.
    let only = |of: &DeletePlan, other: &DeletePlan| -> String {
        of.warnings.iter().filter(|w| !other.warnings.contains(w)).map(|w| format!("; {}", escape(w))).collect()
    };
    let storage = escape(&files.storage);
    let mut lines = vec![format!("It is in the storage {storage}.")];
    let delete = |keep_files, foreign| Effect::Delete {
        backup: backup.to_owned(),
        keep_files,
        foreign,
        increments: if keep_files { Vec::new() } else { files.increments.clone() },
    };
    let mut buttons = vec![
        Button { label: "Cancel".into(), then: Then::Nothing },
        Button { label: "Record only".into(), then: Then::Do(delete(true, None)) },
    ];
    let mut typed = None;
    let freed = format!("Record and files: frees {}; the backup cannot be restored any more", bytes(files.bytes));
    match (&files.foreign, files.removes) {
        (None, Removes::NothingAlone) => {
            let base = escape(files.base.as_deref().unwrap_or("its base"));
            lines.push(format!("Its files stay: a chain of increments goes as a whole, with its base {base}."));
        }
        (None, _) => {
            lines.push(format!("{freed}{}.", only(files, record)));
            if !files.increments.is_empty() {
                let names: Vec<String> = files.increments.iter().map(|name| escape(name)).collect();
                lines.push(format!(
                    "! {} based on it go with it: {}.",
                    counted(names.len() as u64, "increment"),
                    names.join(", ")
                ));
            }
            buttons.push(Button { label: "Record and files".into(), then: Then::Do(delete(false, None)) });
        }
        (Some(owner), removes) => {
            lines.push(format!("! The files were made by {}.", owner.whose()));
            match removes {
                Removes::RecordAndFiles => {
                    lines.push(format!("{freed}, there too{}.", only(files, record)));
                    typed = Some(Typed { name: backup.to_owned(), ..Typed::default() });
                    let then = Then::Named(delete(false, Some(owner.attempt_id.clone())));
                    buttons.push(Button { label: "Files of the other installation".into(), then });
                }
                Removes::Record => lines.push("They are not of this record, and stay.".into()),
                Removes::NothingYet | Removes::Nothing | Removes::NothingAlone => {
                    lines.push("They stay: without a manifest it may still be being written.".into());
                }
            }
        }
    }
    lines.push(format!("Record only: it leaves this list{}.", only(record, files)));
    let both = files.warnings.iter().filter(|w| record.warnings.contains(w));
    lines.extend(both.map(|w| format!("! {}", escape(w))));
    Confirm { title: format!("Delete {backup}?"), lines, buttons, focus: 0, typed }
}
