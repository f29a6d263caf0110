//! What the keys of schedules do, and what the answers about schedules change.

use super::act::{ask, push_form};
use super::form_for;
use super::reply::{close_page, loaded};
use super::submitted::{Ticket, close_form, fail_form};
use crate::domain::backup::{BackupState, BackupType};
use crate::domain::schedule::Schedule;
use crate::domain::text::{count, escape};
use crate::tui::action::Action;
use crate::tui::form::Purpose;
use crate::tui::forms;
use crate::tui::missed::{recorded_twice, recording_ends};
use crate::tui::model::{Layer, Level, Load, Model, Screen, Tab, Target};
use crate::tui::msg::{Effect, Reply};
use crate::tui::view;

/// Does an action of the schedules that is known to be possible.
pub(super) fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    match action {
        Action::CreateSchedule => {
            let service = model.target().and_then(|target| model.service_of(&target));
            let (form, effects) = forms::create(model, service.as_deref(), forms::When::Schedule);
            push_form(model, Some(form));
            return effects;
        }
        Action::Timeline => {
            model.timeline.flipped = !model.timeline.flipped;
            return Vec::new();
        }
        Action::TimelineSpan => {
            // The key that changes the pane brings it as well.
            if model.shows_timeline() {
                model.timeline.span = model.timeline.span.other();
            } else {
                model.timeline.flipped = !model.timeline.flipped;
            }
            return Vec::new();
        }
        _ => {}
    }
    let Some(schedule) = model.target_schedule().cloned() else { return Vec::new() };
    let name = schedule.name.clone();
    match action {
        Action::EditSchedule => {
            let (form, effects) = forms::edit_schedule(model, &schedule);
            push_form(model, Some(form));
            effects
        }
        Action::SwitchSchedule if model.is_recorded_by_this_alone(&schedule) => {
            let title = format!("Switch the schedule {} off?", escape(&name));
            let lines = vec!["It makes no more backups.".to_owned(), recording_ends([schedule.service.as_str()])];
            ask(model, title, lines, "Switch off", Effect::SwitchSchedule(name, false))
        }
        Action::SwitchSchedule
            if !schedule.enabled
                && schedule.backup_type == BackupType::Pitr
                && model.recorded_already(&schedule.service, &name).is_some() =>
        {
            let by = model.recorded_already(&schedule.service, &name).unwrap_or_default();
            let title = format!("Switch the schedule {} off first?", escape(by));
            let lines = vec![
                recorded_twice(&schedule.service, by),
                format!("Then switch {} on: until you do, changes are not kept.", escape(&name)),
            ];
            let effect = Effect::SwitchSchedule(by.to_owned(), false);
            ask(model, title, lines, "Switch off", effect)
        }
        Action::SwitchSchedule => vec![Effect::SwitchSchedule(name, !schedule.enabled)],
        Action::RunSchedule => vec![Effect::RunSchedule(name)],
        Action::CopySchedule => vec![Effect::CopySchedule(name)],
        Action::CopyScheduleName => vec![Effect::Copy(name)],
        Action::RemoveSchedule => {
            let title = format!("Delete the schedule {}?", escape(&name));
            let mut lines = vec!["It makes no more backups.".to_owned(), its_backups(model, &schedule)];
            if model.is_recorded_by_this_alone(&schedule) {
                lines.push(recording_ends([schedule.service.as_str()]));
            }
            ask(model, title, lines, "Delete", Effect::RemoveSchedule(name))
        }
        _ => Vec::new(),
    }
}

/// What becomes of its backups: `Its 7 backups stay, and nothing removes them by itself any more.`
fn its_backups(model: &Model, schedule: &Schedule) -> String {
    let its = model.data.backups.iter().filter(|b| b.schedule.as_deref() == Some(schedule.name.as_str()));
    let kept = its.filter(|b| !matches!(b.state, BackupState::Failed | BackupState::Incomplete)).count();
    match kept {
        0 => "Its backups stay, and nothing removes them by itself any more.".into(),
        1 => "Its 1 backup stays, and nothing removes it by itself any more.".into(),
        n => format!("Its {} backups stay, and nothing removes them by itself any more.", count(n as u64)),
    }
}

fn is_schedule_form(purpose: &Purpose) -> bool {
    matches!(purpose, Purpose::Create | Purpose::EditSchedule(_))
}

/// Takes in an answer about schedules.
pub(super) fn reply(model: &mut Model, ticket: Ticket, reply: Reply) -> Vec<Effect> {
    match reply {
        Reply::ScheduleSaved { edited, result: Ok(schedule) } => {
            close_form(model, ticket);
            let what = if edited { "is saved" } else { "is created" };
            let text = format!("schedule {} {what}: {}", schedule.name, next_words(model, &schedule));
            model.emit(Level::Good, text, None);
            let name = schedule.name.clone();
            know(model, *schedule);
            if !edited {
                select(model, &name);
            }
        }
        Reply::ScheduleSaved { result: Err(problem), .. } => {
            fail_form(model, ticket, "the schedule was not saved", problem);
        }
        Reply::ScheduleSwitched { name, result: Ok(schedule) } => {
            let state = if schedule.enabled { "on" } else { "off" };
            let text = format!("schedule {name} is {state}: {}", next_words(model, &schedule));
            model.emit(Level::Good, text, None);
            know(model, *schedule);
        }
        Reply::ScheduleSwitched { name, result: Err(problem) } => {
            model.emit_problem(&format!("schedule {name} is not switched"), &problem);
        }
        Reply::ScheduleCopied { name, result: Ok(copy) } => {
            let switch = model.keymap.first(Action::SwitchSchedule);
            let text = format!("{name} is copied as {}, which is off: {switch} switches it on", copy.name);
            model.emit(Level::Good, text, None);
            let of = copy.name.clone();
            know(model, *copy);
            // The copy is what a person wants to change next.
            select(model, &of);
        }
        Reply::ScheduleCopied { name, result: Err(problem) } => {
            model.emit_problem(&format!("schedule {name} is not copied"), &problem);
        }
        Reply::ScheduleRemoved { name, result: Ok(()) } => {
            model.emit(Level::Good, format!("schedule {name} is deleted, its backups stay"), None);
            model.data.schedules.retain(|s| s.name != name);
            model.retention.remove(&name);
            close_page(model, &Target::Schedule(name));
            changed(model);
        }
        Reply::ScheduleRemoved { name, result: Err(problem) } => {
            model.emit_problem(&format!("schedule {name} is not deleted"), &problem);
        }
        Reply::RetentionPlanned { schedule, result } => {
            model.retention.insert(schedule, loaded(result.map(|plan| *plan)));
        }
        Reply::Timeline(result) => model.timeline.runs = Some(loaded(result.map(|timeline| *timeline))),
        Reply::FreeSlot { schedule, slot } => {
            model.timeline.free.insert(schedule, slot.filter(|slot| slot.moved_minutes != 0));
        }
        // An answer that is older than what is typed by now is of no use.
        Reply::Previewed { values, result, free } => {
            if let Some(preview) = form_for(model, is_schedule_form).and_then(|form| form.preview.as_mut()) {
                preview.answered(&values, loaded(result.map(|timeline| *timeline)), free);
            }
        }
        _ => {}
    }
    Vec::new()
}

/// Selects what was just made, where its keys are looked for next.
fn select(model: &mut Model, name: &str) {
    let at = model.list(Tab::Schedules).rows.iter().position(|at| model.row_key(Tab::Schedules, *at) == name);
    if let Some(at) = at
        && model.tab() == Tab::Schedules
        && model.layers.is_empty()
    {
        model.list_mut(Tab::Schedules).moved = true;
        model.select(at);
    }
}

/// Puts a schedule that was just saved into the list, before the store is read again.
fn know(model: &mut Model, schedule: Schedule) {
    let name = schedule.name.clone();
    model.retention.remove(&name);
    match model.data.schedules.iter_mut().find(|s| s.name == name) {
        Some(known) => *known = schedule,
        None => {
            model.data.schedules.push(schedule);
            model.data.schedules.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
    changed(model);
}

fn changed(model: &mut Model) {
    model.refresh_rows();
    model.timeline.forget();
}

/// `next 22 Nov 02:00`, or why there is none; while point in time has no base, when it gets one.
fn next_words(model: &Model, schedule: &Schedule) -> String {
    let pitr = schedule.enabled && schedule.backup_type == BackupType::Pitr;
    let has_base = model.pitr(&schedule.service).is_some_and(|s| !s.ranges.is_empty());
    match schedule.next_at {
        Some(at) if pitr && !has_base => {
            let run = model.keymap.first(Action::RunSchedule);
            let place = if model.screen == Screen::Schedules { "" } else { " (on Schedules)" };
            format!("its first base is due {}; {run}{place} takes one at once", view::when(model, at))
        }
        Some(at) => format!("next {}", view::when(model, at)),
        None if !schedule.enabled => "it does not run".into(),
        None => "it does not run any more".into(),
    }
}

/// Whether the page of a schedule is open.
pub(super) fn is_planned(model: &Model) -> bool {
    let open = model.layers.iter().rev().find(|l| l.is_page());
    matches!(open, Some(Layer::Details { target: Target::Schedule(_), .. }))
}

/// Retention is planned anew for the page that is open, after something it looks at has changed.
pub(super) fn plan_again(model: &mut Model) -> Vec<Effect> {
    let open = model.layers.iter().rev().find(|l| l.is_page());
    let Some(Layer::Details { target: Target::Schedule(name), .. }) = open else { return Vec::new() };
    let name = name.clone();
    if matches!(model.retention.get(&name), Some(Load::Waiting)) {
        Vec::new()
    } else {
        vec![Effect::PlanRetention(name)]
    }
}
