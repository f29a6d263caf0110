//! What each action does to the model.

use super::{asked, jobs, schedules, search, storage_repair};
use crate::domain::backup::Model as BackupModel;
use crate::tui::action::Action;
use crate::tui::form::Form;
use crate::tui::forms;
use crate::tui::missed::recording_ends;
use crate::tui::model::{
    About, Button, Confirm, Layer, Level, Load, Model, Palette, Report, Screen, SortKey, Tab, Target, Then,
};
use crate::tui::msg::Effect;
use crate::tui::search::Search;
use crate::tui::view;

/// Does `action`, or says why not.
pub fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    if let Some(why) = model.why_not(action) {
        // One word for the key, so that the reason has room on the line.
        let what = if action.short().is_empty() { action.title() } else { action.short() };
        model.emit_about(About::Key, Level::Warn, format!("{what}: {why}"), None);
        return Vec::new();
    }
    let effects = match action {
        Action::Up | Action::Down | Action::Top | Action::Bottom => return go(model, action),
        Action::PageUp | Action::PageDown | Action::HalfUp | Action::HalfDown => return go(model, action),
        Action::ScreenBackups => return screen(model, Screen::Backups),
        Action::ScreenSchedules => return screen(model, Screen::Schedules),
        Action::ScreenStorage => return screen(model, Screen::Storage),
        Action::ScreenSettings => return screen(model, Screen::Settings),
        Action::NextScreen => return step_screen(model, 1),
        Action::PreviousScreen => return step_screen(model, 3),
        Action::NextTab => return step_tab(model, true),
        Action::PreviousTab => return step_tab(model, false),
        Action::Quit => {
            model.quitting = true;
            vec![Effect::Quit]
        }
        Action::Back => back(model),
        Action::Redraw => vec![Effect::Redraw],
        Action::Suspend => vec![Effect::Suspend],
        Action::Help => {
            model.layers.push(Layer::Help { filter: Default::default(), filtering: false, scroll: 0 });
            Vec::new()
        }
        Action::Palette => {
            model.layers.push(Layer::Palette(Palette::default()));
            Vec::new()
        }
        Action::Messages => {
            model.messages_seen();
            if !matches!(model.layers.last(), Some(Layer::Messages { .. })) {
                model.layers.push(Layer::Messages { scroll: 0 });
            }
            Vec::new()
        }
        Action::Filter => {
            match model.layers.last_mut() {
                Some(Layer::Help { filtering, .. }) => *filtering = true,
                Some(Layer::Details { .. }) => model.search = Search { typing: true, ..Search::default() },
                Some(_) => {}
                None => model.filtering = true,
            }
            Vec::new()
        }
        Action::NextHit | Action::PreviousHit => {
            search::step(model, action == Action::NextHit);
            Vec::new()
        }
        Action::FollowLog => {
            model.follows = !model.follows;
            let text = if model.follows { "the page follows its log" } else { "the page no longer follows its log" };
            model.emit(Level::Info, text, None);
            Vec::new()
        }
        Action::InvertFilter => {
            let tab = model.tab();
            model.list_mut(tab).filter.invert();
            model.refresh_tab(tab);
            Vec::new()
        }
        Action::Sort => {
            let at = SortKey::ALL.iter().position(|k| *k == model.sort.key).unwrap_or(0);
            model.sort.key = SortKey::ALL[(at + 1) % SortKey::ALL.len()];
            sorted(model)
        }
        Action::ReverseSort => {
            model.sort.reversed = !model.sort.reversed;
            sorted(model)
        }
        Action::Open => open(model),
        Action::CreateBackup => {
            let service = model.target().and_then(|target| model.service_of(&target));
            let (form, effects) = forms::create(model, service.as_deref(), forms::When::OnDemand);
            push_form(model, Some(form));
            effects
        }
        Action::CreateSchedule
        | Action::EditSchedule
        | Action::SwitchSchedule
        | Action::RunSchedule
        | Action::CopySchedule
        | Action::RemoveSchedule
        | Action::Timeline
        | Action::TimelineSpan
        | Action::CopyScheduleName => schedules::act(model, action),
        Action::OpenService => open_service(model),
        Action::AddStorage => push_form(model, Some(forms::add_storage())),
        Action::AddService => push_form(model, Some(forms::add_service())),
        Action::EditSetting => edit_setting(model),
        Action::TestNotification => match model.channel() {
            Some(channel) => {
                model.layers.push(Layer::Report { report: Report::Notification(channel), scroll: 0 });
                vec![Effect::TestNotification(channel)]
            }
            None => Vec::new(),
        },
        Action::RepairStorage => storage_repair::ask(model),
        // On a page that says what to do, that is what is wanted, and not the name that stands above it.
        Action::CopyRemedy | Action::CopyName | Action::CopyService if let Some(remedy) = model.selected_remedy() => {
            vec![Effect::Copy(remedy)]
        }
        Action::CancelJob => jobs::cancel(model),
        Action::RetryJob | Action::RetryRun => jobs::retry(model),
        _ => match model.target() {
            Some(target) => act_on(model, action, target),
            None => Vec::new(),
        },
    };
    asked(model, effects)
}

fn act_on(model: &mut Model, action: Action, target: Target) -> Vec<Effect> {
    match (action, target) {
        (Action::Restore, Target::Backup(name)) => {
            let form = forms::restore_backup(model, &name);
            push_form(model, form)
        }
        (Action::RestoreService, Target::Service(name)) => {
            let form = forms::restore_service(model, &name);
            push_form(model, Some(form))
        }
        (Action::TakeBase, Target::Service(name)) => {
            model.base_schedule(&name).map(|s| Effect::RunSchedule(s.to_owned())).into_iter().collect()
        }
        (Action::Verify, Target::Backup(name)) => match forms::verify(model, &name) {
            Some(form) => push_form(model, Some(form)),
            None => vec![Effect::Verify(name, None)],
        },
        (Action::DeleteBackup, Target::Backup(name)) => vec![Effect::PlanDelete(name)],
        (Action::Pin, Target::Backup(name)) => {
            let pinned = model.backup(&name).is_some_and(|b| b.pinned);
            vec![Effect::Pin(name, !pinned)]
        }
        (Action::CopyName | Action::CopyService, Target::Backup(name) | Target::Service(name)) => {
            vec![Effect::Copy(name)]
        }
        (Action::CopyStorage, Target::Storage(name)) => {
            let place = model.data.storages.iter().find(|s| s.name == name).map(|s| s.place.clone());
            place.map(Effect::Copy).into_iter().collect()
        }
        (Action::EditStorage, Target::Storage(name)) => {
            let form = forms::edit_storage(model, &name);
            push_form(model, form)
        }
        (Action::TestStorage, Target::Storage(name)) => {
            model.layers.push(Layer::Report { report: Report::Test(name.clone()), scroll: 0 });
            vec![Effect::TestStorage(name)]
        }
        (Action::SyncStorage, Target::Storage(name)) => {
            let (ticket, storage) = (model.next_ticket(), name);
            let report = Report::Sync { storage: storage.clone(), ticket };
            model.layers.push(Layer::Report { report, scroll: 0 });
            vec![Effect::PlanSync { ticket, storage }]
        }
        (Action::CheckStorage, Target::Storage(name)) => {
            model.remedy = 0;
            model.repairs.retain(|storage, repair| *storage != name || !repair.is_checked);
            model.layers.push(Layer::Report { report: Report::Storage(name.clone()), scroll: 0 });
            vec![Effect::CheckStorage(name)]
        }
        (Action::RemoveStorage, Target::Storage(name)) => {
            let line = "Its backups stay where they are; only this machine forgets the place.";
            confirm(model, format!("Remove the storage {name}?"), line, Effect::RemoveStorage(name))
        }
        (Action::EditService, Target::Service(name)) => {
            let form = forms::edit_service(model, &name);
            push_form(model, form)
        }
        (Action::CheckService, Target::Service(name)) => {
            model.remedy = 0;
            model.layers.push(Layer::Report { report: Report::Check(name.clone()), scroll: 0 });
            vec![Effect::CheckService(name, BackupModel::default())]
        }
        (Action::RemoveService, Target::Service(name)) => {
            let line = "Its backups stay; only this machine forgets how to reach it.";
            confirm(model, format!("Remove the service {name}?"), line, Effect::RemoveService(name))
        }
        _ => Vec::new(),
    }
}

fn confirm(model: &mut Model, title: String, line: &str, effect: Effect) -> Vec<Effect> {
    ask(model, title, vec![line.to_owned()], "Remove", effect)
}

/// A question whose first button changes nothing.
pub(super) fn ask(model: &mut Model, title: String, lines: Vec<String>, label: &str, effect: Effect) -> Vec<Effect> {
    model.layers.push(Layer::Confirm(Confirm {
        title,
        lines,
        buttons: vec![
            Button { label: "Cancel".into(), then: Then::Nothing },
            Button { label: label.into(), then: Then::Do(effect) },
        ],
        focus: 0,
        typed: None,
    }));
    Vec::new()
}

pub(super) fn push_form(model: &mut Model, form: Option<Form>) -> Vec<Effect> {
    model.layers.extend(form.map(|f| Layer::Form(Box::new(f))));
    Vec::new()
}

/// Closes exactly one layer: a box, a page, or the filter of the list.
pub(super) fn back(model: &mut Model) -> Vec<Effect> {
    if matches!(model.layers.last(), Some(Layer::Details { .. })) {
        model.follows = false;
        if !std::mem::take(&mut model.search).is_empty() {
            return Vec::new();
        }
    }
    if model.layers.pop().is_some() {
        return Vec::new();
    }
    let tab = model.tab();
    if !model.list(tab).filter.text().is_empty() {
        model.list_mut(tab).filter = Default::default();
        model.refresh_tab(tab);
    } else {
        model.tip = None;
    }
    Vec::new()
}

/// Details of what was just asked for.
pub(super) fn open(model: &mut Model) -> Vec<Effect> {
    if matches!(model.tab(), Tab::General | Tab::Notifications | Tab::Appearance) && model.layers.is_empty() {
        return edit_setting(model);
    }
    if matches!(model.layers.last(), Some(layer) if layer.is_page()) {
        return Vec::new();
    }
    let Some(target) = model.target() else {
        return match model.next_step().filter(|_| model.layers.is_empty()) {
            Some(step) => act(model, step),
            None => Vec::new(),
        };
    };
    let effects = opened(model, &target);
    search::leave(model);
    model.layers.push(Layer::Details { target, scroll: 0 });
    asked(model, effects)
}

/// The page of the service that the row or page belongs to, above what is open.
fn open_service(model: &mut Model) -> Vec<Effect> {
    let Some(name) = model.target().and_then(|target| model.service_of(&target)) else { return Vec::new() };
    let target = Target::Service(name);
    let effects = opened(model, &target);
    search::leave(model);
    model.layers.push(Layer::Details { target, scroll: 0 });
    effects
}

/// What a page has to ask for when it is opened.
fn opened(model: &Model, target: &Target) -> Vec<Effect> {
    match target {
        Target::Backup(name)
            if model.backup(name).is_some_and(|b| b.state == crate::domain::backup::BackupState::Succeeded)
                && !matches!(model.manifests.get(name), Some(Load::Ready(_) | Load::Waiting)) =>
        {
            vec![Effect::Manifest(name.clone())]
        }
        Target::Service(name) => vec![Effect::ServiceInfo(name.clone())],
        Target::Schedule(name) => vec![Effect::PlanRetention(name.clone())],
        _ => Vec::new(),
    }
}

fn edit_setting(model: &mut Model) -> Vec<Effect> {
    let tab = model.tab();
    let Some((key, value)) = model.list(tab).current().and_then(|at| model.data.settings.get(at as usize)).cloned()
    else {
        return Vec::new();
    };
    if model.look.read_only {
        model.emit(Level::Warn, "this session is read-only", None);
        return Vec::new();
    }
    // What has few values is changed on the spot, where it can be seen.
    let next = match (key.as_str(), value.as_str()) {
        (_, "true") => Some("false"),
        (_, "false") => Some("true"),
        _ => None,
    };
    let recorded = model.to_be_recorded();
    if key == "backup.enabled" && next == Some("false") && !recorded.is_empty() {
        let lines = vec![
            "Nothing starts a backup any more, neither a person nor a schedule.".to_owned(),
            recording_ends(recorded),
        ];
        let effect = Effect::SetSetting(key, "false".to_owned());
        return ask(model, "Turn backup management off?".into(), lines, "Turn off", effect);
    }
    match next {
        Some(next) => vec![Effect::SetSetting(key, next.to_owned())],
        None => {
            let form = forms::setting(model, &key);
            push_form(model, form)
        }
    }
}

fn sorted(model: &mut Model) -> Vec<Effect> {
    for tab in [Tab::Backups, Tab::Restores, Tab::Jobs] {
        model.refresh_tab(tab);
    }
    // The order is kept for the next start; a session that may not write keeps it for itself.
    if model.look.read_only { Vec::new() } else { vec![Effect::SetSetting("ui.sort".into(), model.sort.text())] }
}

fn screen(model: &mut Model, to: Screen) -> Vec<Effect> {
    // What was typed goes by Esc alone, which asks.
    if model.has_box() {
        return Vec::new();
    }
    model.layers.clear();
    model.filtering = false;
    model.screen = to;
    Vec::new()
}

fn step_screen(model: &mut Model, by: usize) -> Vec<Effect> {
    let to = Screen::ALL[(model.screen as usize + by) % Screen::ALL.len()];
    screen(model, to)
}

fn step_tab(model: &mut Model, forward: bool) -> Vec<Effect> {
    if !model.layers.is_empty() {
        return Vec::new();
    }
    let tabs = Tab::of(model.screen);
    let at = tabs.iter().position(|t| *t == model.tab()).unwrap_or(0);
    let next = (at + if forward { 1 } else { tabs.len() - 1 }) % tabs.len();
    model.tabs[model.screen as usize] = tabs[next];
    Vec::new()
}

/// Moves the selection of a list, or scrolls the page that is open.
pub(super) fn go(model: &mut Model, action: Action) -> Vec<Effect> {
    let areas = view::Areas::of(model);
    let page_open = model.layers.iter().any(Layer::is_page);
    let height = usize::from(if page_open { areas.page.height } else { areas.rows.height }).max(2);
    let moved = |at: usize| match action {
        Action::Up => at.saturating_sub(1),
        Action::Down => at.saturating_add(1),
        Action::Top => 0,
        Action::Bottom => usize::MAX,
        Action::PageUp => at.saturating_sub(height - 1),
        Action::PageDown => at.saturating_add(height - 1),
        Action::HalfUp => at.saturating_sub(height / 2),
        _ => at.saturating_add(height / 2),
    };
    model.follows = false;
    if select_remedy(model, action, usize::from(areas.page.height), areas.page.width) {
        return Vec::new();
    }
    match model.layers.iter_mut().rev().find(|l| l.is_page()) {
        Some(
            Layer::Details { scroll, .. }
            | Layer::Report { scroll, .. }
            | Layer::Messages { scroll }
            | Layer::Help { scroll, .. },
        ) => *scroll = moved(*scroll),
        _ => {
            let tab = model.tab();
            let to = moved(model.list(tab).selected);
            model.list_mut(tab).moved = true;
            model.select(to);
        }
    }
    Vec::new()
}

/// On the page of a check: moves to the next remedy, and the window with it. Whether there was one to move to, or the page
/// has to scroll; a remedy that comes into the window by that is selected.
fn select_remedy(model: &mut Model, action: Action, height: usize, width: u16) -> bool {
    let lines = view::remedy_lines(model, width);
    let next = match action {
        Action::Up => model.remedy.checked_sub(1),
        Action::Down => Some(model.remedy + 1),
        _ => None,
    };
    let Some(Layer::Report { scroll, .. }) = model.layers.last_mut() else { return false };
    let step = next.and_then(|next| Some((next, lines.get(next)?)));
    if let Some((next, place)) = step {
        // A page that is longer than the window scrolls on until the remedy is near.
        if place.start < *scroll + height + height / 2 && place.end + height / 2 > *scroll {
            model.remedy = next;
            *scroll = (*scroll).min(place.start).max(place.end.saturating_sub(height));
            return true;
        }
    }
    false
}
