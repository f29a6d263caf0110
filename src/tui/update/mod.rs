//! The one function that changes the model: `(Model, Msg) -> Vec<Effect>`, without I/O.

use std::collections::HashSet;

use chrono::{DateTime, Timelike, Utc};
use crossterm::event::{KeyEventKind, MouseEventKind};

use super::form::Purpose;
use super::model::{About, Layer, Level, Load, Model, Sort};
use super::msg::{Effect, Msg, Snapshot};
use super::{forms, moment, view};

mod act;
mod jobs;
mod keys;
mod picker;
mod reply;
mod rushed;
mod schedules;
mod search;
mod storage_repair;
mod storage_sync;
mod storage_test;
mod submission;
mod submit;
mod submitted;

pub use storage_repair::why_not as why_no_repair;
pub use storage_sync::waits_for_plan;
pub use storage_test::waits_for_holdings;
pub use submitted::waits;

pub use act::act;

/// Takes in what happened and says what is to be done.
pub fn update(model: &mut Model, msg: Msg) -> Vec<Effect> {
    if is_input(&msg) {
        model.asking = None;
    }
    let mut effects = match msg {
        Msg::Clock(now) => {
            clock(model, now);
            return model.ask_timeline().into_iter().collect();
        }
        Msg::Key(key) | Msg::Rushed(key) if key.kind == KeyEventKind::Release => return Vec::new(),
        Msg::Key(key) => keys::key(model, key.into()),
        Msg::Rushed(key) => rushed::key(model, key.into()),
        Msg::Paste(text) => keys::paste(model, &text),
        Msg::Mouse(event) => keys::mouse(model, event),
        Msg::Resize(width, height) => {
            model.size = (width, height);
            Vec::new()
        }
        Msg::Snapshot(snapshot) => take_snapshot(model, *snapshot),
        Msg::StoreLost(problem) => {
            if model.lost.is_none() {
                model.emit_problem_about(About::Store, "the store", &problem);
            }
            model.lost = Some(problem);
            Vec::new()
        }
        // Two tasks look at the daemon; the same answer twice is nothing to draw.
        Msg::Daemon(status) if model.daemon.as_ref() == Some(&status) && model.daemon_problem.is_none() => {
            return Vec::new();
        }
        Msg::Daemon(status) => {
            // One that does not run is no answer to why it did not start.
            if status.running {
                model.daemon_problem = None;
                model.cause_gone(&About::Daemon);
            }
            model.daemon = Some(status);
            Vec::new()
        }
        Msg::DaemonLost(problem) => {
            if model.daemon_problem.as_ref() != Some(&problem) {
                model.emit_problem_about(About::Daemon, "the daemon", &problem);
            }
            model.daemon_problem = Some(problem);
            Vec::new()
        }
        // What an old watch says is about a service that is another one now.
        Msg::Heard { service, edition, .. } if edition != model.edition(&service) => Vec::new(),
        Msg::Heard { service, heard, .. } => {
            let effects = model.note_reach(&service, heard);
            asked(model, effects)
        }
        Msg::Log { job, lines } => {
            model.take_log(job, lines);
            Vec::new()
        }
        Msg::TestStep { storage, step } => {
            model.tests.entry(storage).or_default().steps.push(step);
            Vec::new()
        }
        Msg::Resumed => vec![Effect::Redraw],
        Msg::Reply(reply) => reply::reply(model, *reply),
    };
    // A theme is seen while it is chosen.
    model.choose_theme();
    settle(model);
    effects.extend(keys::settle_moment(model));
    effects.extend(model.ask_timeline());
    effects.extend(model.ask_free_slot());
    model.dirty = true;
    effects
}

/// Whether somebody did something, to what is on the screen now.
fn is_input(msg: &Msg) -> bool {
    match msg {
        Msg::Key(key) | Msg::Rushed(key) => key.kind != KeyEventKind::Release,
        Msg::Paste(_) => true,
        Msg::Mouse(event) => matches!(event.kind, MouseEventKind::Down(_)),
        _ => false,
    }
}

/// Keeps windows inside what there is, after anything may have changed either.
fn settle(model: &mut Model) {
    let areas = view::Areas::of(model);
    let tab = model.tab();
    let height = usize::from(areas.rows.height);
    model.list_mut(tab).keep_visible(height);
    let most = view::page_length(model, &areas).saturating_sub(usize::from(areas.page.height));
    let page = model.layers.iter_mut().rev().find(|l| l.is_page());
    if let Some(
        Layer::Details { scroll, .. }
        | Layer::Report { scroll, .. }
        | Layer::Messages { scroll }
        | Layer::Help { scroll, .. },
    ) = page
    {
        *scroll = if model.follows { most } else { (*scroll).min(most) };
    }
    // What is copied is what can be seen.
    let remedies = view::remedy_lines(model, areas.page.width);
    if let Some(Layer::Report { scroll, .. }) = model.layers.last() {
        let window = *scroll..*scroll + usize::from(areas.page.height);
        let seen = |place: &std::ops::Range<usize>| place.start < window.end && place.end > window.start;
        if !remedies.get(model.remedy).is_some_and(seen)
            && let Some(at) = remedies.iter().position(seen)
        {
            model.remedy = at;
        }
    }
    if let Some(Layer::Review(_)) = model.layers.last() {
        let most = view::review_overflow(model);
        if let Some(Layer::Review(review)) = model.layers.last_mut() {
            review.scroll = review.scroll.min(most);
        }
    }
}

fn clock(model: &mut Model, now: DateTime<Utc>) {
    let message = model.line_message().cloned();
    let minute = |t: DateTime<Utc>| (t.date_naive(), t.hour(), t.minute());
    let new_minute = minute(model.now) != minute(now);
    // Asked before the clock moves as well: the end of a countdown is a picture of its own.
    let counted = model.counts_down() && model.now.timestamp() != now.timestamp();
    model.now = now;
    let animated = model.is_animated();
    if animated {
        model.frame = model.frame.wrapping_add(1);
    }
    if new_minute && !model.data.pitr.is_empty() {
        // Time alone makes a recording late.
        model.strip = super::service_strip::rows(model);
    }
    model.dirty |= new_minute || animated || counted || message.as_ref() != model.line_message();
}

fn take_snapshot(model: &mut Model, mut snapshot: Snapshot) -> Vec<Effect> {
    let first = !model.loaded;
    if model.lost.take().is_some() {
        model.cause_gone(&About::Store);
        model.emit(Level::Good, "the store can be read again", None);
    }
    announce(model, &snapshot);
    for status in &mut snapshot.pitr {
        status.ranges = moment::joined(std::mem::take(&mut status.ranges));
    }
    model.forget_timeline(&snapshot);
    if let Some(problem) = &snapshot.settings_problem {
        if model.data.settings_problem.as_ref() != Some(problem) {
            model.emit_problem("the settings", problem);
        }
        snapshot.settings = std::mem::take(&mut model.data.settings);
    }
    let others = edited_elsewhere(&model.data, &snapshot);
    // Compared only while somebody looks: progress alone plans nothing anew.
    let same = !schedules::is_planned(model)
        || (model.data.backups == snapshot.backups && model.data.schedules == snapshot.schedules);
    model.data = snapshot;
    for service in &others {
        model.edited(service);
    }
    let there: HashSet<&str> = model.data.services.iter().map(|s| s.name.as_str()).collect();
    model.reach.retain(|name, _| there.contains(name.as_str()));
    model.loaded = true;
    model.zone = zone(model.setting("ui.timezone"), model.local_zone);
    if first && let Some(sort) = Sort::parse(model.setting("ui.sort")) {
        model.sort = sort;
    }
    if first && model.themes.get(model.setting(super::model::THEME)).is_none() {
        let why = model.no_theme(model.setting(super::model::THEME));
        model.emit(Level::Warn, why, Some("choose one in Settings, Appearance".into()));
    }
    model.choose_theme();
    model.take_rates();
    model.refresh_rows();
    refresh_forms(model);
    let mut effects = if same { Vec::new() } else { schedules::plan_again(model) };
    effects.extend(storage_repair::ended(model));
    effects.extend(others.into_iter().map(Effect::ServiceInfo));
    asked(model, effects)
}

/// Services whose connection somebody else has changed since the last look.
fn edited_elsewhere(known: &Snapshot, next: &Snapshot) -> Vec<String> {
    let changed = known.services.iter().filter(|service| {
        next.services.iter().any(|s| s.name == service.name && (&s.uri, s.engine) != (&service.uri, service.engine))
    });
    changed.map(|service| service.name.clone()).collect()
}

/// Says what became of jobs since the last look.
fn announce(model: &mut Model, next: &Snapshot) {
    use crate::domain::job::{Job, JobState};
    // A short job may come and end between two looks; what was there at the first look is no news.
    let newest = model.data.jobs.first().map_or(0, |j| j.id);
    let is_news = |job: &Job| match model.job(job.id) {
        Some(before) => !before.state.is_finished(),
        None => model.loaded && job.id > newest,
    };
    let ended: Vec<Job> = next.jobs.iter().filter(|j| j.state.is_finished() && is_news(j)).cloned().collect();
    for job in ended {
        let what = job.title();
        let about = About::Job(job.id);
        if job.state == JobState::Succeeded {
            model.failures_gone(&job);
        }
        match job.state {
            // Nobody waits for what happens by itself; the lists show it.
            JobState::Succeeded if job.schedule.is_some() => {}
            JobState::Succeeded => model.emit_about(about, Level::Good, format!("{what} is done"), None),
            JobState::Cancelled => model.emit_about(about, Level::Info, format!("{what} was cancelled"), None),
            state => {
                let why = job.error.as_deref().unwrap_or("no reason was given");
                model.emit_about(about, Level::Error, format!("{what} {}: {why}", state.word()), job.hint.clone());
            }
        }
        // A finished verify or restore may have changed what the page shows.
        if let Some(backup) = &job.backup {
            model.manifests.remove(backup);
        }
    }
}

fn zone(setting: &str, local: chrono_tz::Tz) -> chrono_tz::Tz {
    match setting {
        "" | "local" => local,
        name => name.parse().unwrap_or(local),
    }
}

/// The effect of looking at the nodes of `service`. Its page shows that they are asked, until something is known of them.
pub fn look_at_nodes(model: &mut Model, service: String) -> Option<Effect> {
    if !model.clusters.contains_key(&service) {
        model.dirty = true;
    }
    asked(model, vec![Effect::Cluster(service)]).pop()
}

/// Marks what an effect asks for as being on its way, so that nothing is asked for twice.
fn asked(model: &mut Model, effects: Vec<Effect>) -> Vec<Effect> {
    for effect in &effects {
        match effect {
            Effect::CheckService(name, of) => {
                model.checks.insert((name.clone(), *of), Load::Waiting);
            }
            Effect::ServiceInfo(name) if !model.infos.contains_key(name) => {
                model.infos.insert(name.clone(), Load::Waiting);
            }
            Effect::Namespaces(name) => {
                model.namespaces.insert(name.clone(), Load::Waiting);
            }
            Effect::Cluster(name) if !model.clusters.contains_key(name) => {
                model.clusters.insert(name.clone(), Load::Waiting);
            }
            Effect::Manifest(name) => {
                model.manifests.insert(name.clone(), Load::Waiting);
            }
            Effect::PlanRetention(name) if !model.retention.contains_key(name) => {
                model.retention.insert(name.clone(), Load::Waiting);
            }
            Effect::TestNotification(channel) => {
                model.told.insert(channel.word(), Load::Waiting);
            }
            Effect::PlanSync { storage: name, .. } | Effect::CarryOutSync(name, _) => {
                model.syncs.insert(name.clone(), Load::Waiting);
            }
            Effect::CheckStorage(name) => {
                model.storage_checks.insert(name.clone(), Load::Waiting);
            }
            Effect::TestStorage(name) => {
                model.tests.insert(name.clone(), Default::default());
            }
            Effect::TestDraft { ticket, .. } => {
                model.tests.retain(|name, _| !name.starts_with('/'));
                model.tests.insert(crate::tui::msg::draft_name(*ticket), Default::default());
            }
            Effect::PlanDelete(_) | Effect::JobRequest(_) => model.asking = Some(effect.clone()),
            _ => {}
        }
    }
    effects
}

/// The topmost form for a purpose, wherever it lies: pages and boxes may have been opened above it since it asked.
fn form_for(model: &mut Model, is: impl Fn(&Purpose) -> bool) -> Option<&mut super::form::Form> {
    model.layers.iter_mut().rev().find_map(|layer| match layer {
        Layer::Form(form) if is(&form.purpose) => Some(&mut **form),
        _ => None,
    })
}

/// Puts what exists now into the rows of all open forms.
fn refresh_forms(model: &mut Model) {
    let mut layers = std::mem::take(&mut model.layers);
    for layer in &mut layers {
        if let Layer::Form(form) = layer {
            forms::refresh_choices(model, form);
        }
    }
    model.layers = layers;
}
