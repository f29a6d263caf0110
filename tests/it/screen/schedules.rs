//! Schedules on the screen: what their keys ask for, the one form of everything, the pane of the coming runs.

use std::sync::Arc;

use chrono::TimeDelta;
use mongokeep::client::DeliveryResult;
use mongokeep::domain::backup::Model as BackupModel;
use mongokeep::domain::job::{JobKind, JobState};
use mongokeep::domain::notification::Channel;
use mongokeep::domain::retry::{RetryMode, RetryPolicy};
use mongokeep::domain::warning::{Warning, WarningKind};
use mongokeep::error::{Error, ErrorKind};
use mongokeep::tui::form::Item;
use mongokeep::tui::model::{Look, Model, Tab};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply};
use mongokeep::tui::update::update;

use crate::support::screen::*;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

/// The list of schedules, with the one called `name` selected.
fn on(name: &str, size: (u16, u16)) -> Model {
    let mut model = full(Look::default(), size);
    press(&mut model, "2");
    while model.list(Tab::Schedules).key.as_deref() != Some(name) {
        let before = model.list(Tab::Schedules).selected;
        press(&mut model, "j");
        assert_ne!(model.list(Tab::Schedules).selected, before, "{name} is not in the list");
    }
    model
}

fn problem(message: &str) -> Problem {
    Problem { kind: ErrorKind::Invalid, field: None, message: message.into(), hint: None }
}

#[test]
fn keys_act_on_the_selected_schedule() {
    let mut model = on("nightly-orders", SMALL);
    let name = || "nightly-orders".to_owned();
    assert_eq!(press(&mut model, "Space"), [Effect::SwitchSchedule(name(), false)]);
    assert_eq!(press(&mut model, "x"), [Effect::RunSchedule(name())]);
    assert_eq!(press(&mut model, "C"), [Effect::CopySchedule(name())]);
    assert_eq!(press(&mut model, "y"), [Effect::Copy(name())]);
    assert_eq!(press(&mut model, "Enter"), [Effect::PlanRetention(name())]);
    // The same keys on its page.
    assert_eq!(press(&mut model, "Space"), [Effect::SwitchSchedule(name(), false)]);
    press(&mut model, "Esc");
    assert_eq!(press(&mut model, "R"), [], "its last run did not fail");
    let mut model = on("hourly-users", SMALL);
    assert_eq!(press(&mut model, "R"), [Effect::RetryJob(51)]);
    let mut model = on("before-the-migration-of-the-year", SMALL);
    assert_eq!(press(&mut model, "Space"), [Effect::SwitchSchedule("before-the-migration-of-the-year".into(), true)]);
}

#[test]
fn deleting_begins_on_cancel_and_says_that_backups_stay() {
    let mut model = on("nightly-orders", SMALL);
    press(&mut model, "d");
    assert!(shown(&model).contains("Its backups stay"), "{}", shown(&model));
    assert_eq!(press(&mut model, "Enter"), []);
    assert!(model.layers.is_empty());
    assert_eq!(keys(&mut model, "d Right Enter"), [Effect::RemoveSchedule("nightly-orders".into())]);
    reply(&mut model, Reply::ScheduleRemoved { name: "nightly-orders".into(), result: Ok(()) });
    assert!(shown(&model).contains("Schedules (4)"));
}

#[test]
fn a_copy_is_selected_and_said_to_be_off() {
    let mut model = on("nightly-orders", SMALL);
    press(&mut model, "C");
    let mut copy = schedule("nightly-orders-copy", "orders-rs", "0 2 * * *");
    copy.enabled = false;
    copy.next_at = None;
    reply(&mut model, Reply::ScheduleCopied { name: "nightly-orders".into(), result: Ok(Box::new(copy)) });
    assert_eq!(model.list(Tab::Schedules).key.as_deref(), Some("nightly-orders-copy"));
    assert!(shown(&model).contains("which is off"), "{}", shown(&model));
    assert_eq!(press(&mut model, "Space"), [Effect::SwitchSchedule("nightly-orders-copy".into(), true)]);
}

#[test]
fn one_form_makes_backups_and_schedules_and_keeps_what_was_typed() {
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "j n");
    reply(&mut model, Reply::NameSuggested { service: "orders-rs".into(), result: Ok("orders-rs-now".into()) });
    assert_eq!(form(&model).text("name"), "orders-rs-now");
    put(&mut model, "folder", "elsewhere");
    for _ in 0..20 {
        press(&mut model, "Shift-Tab");
        if form(&model).focused().is_some_and(|r| r.field.key == "_when") {
            break;
        }
    }
    press(&mut model, "Right");
    assert_eq!(form(&model).text("name"), "orders-rs-daily-2", "orders-rs-daily is taken");
    put(&mut model, "retention", "7");
    to_row(&mut model, "_when");
    press(&mut model, "Left");
    assert_eq!(form(&model).text("folder"), "elsewhere");
    checks_pass(&mut model, "orders-rs");
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::CreateBackup(values)] = &effects[..] else { panic!("{effects:?}") };
    assert!(!values.contains_key("retention") && !values.contains_key("cron"), "{values:?}");
    reply(&mut model, Reply::Queued { what: "no".into(), result: Err(problem("not now")) });
    to_row(&mut model, "_when");
    press(&mut model, "Right");
    assert_eq!(form(&model).text("retention"), "7");
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::AddSchedule(values)] = &effects[..] else { panic!("{effects:?}") };
    for (key, value) in [
        ("name", "orders-rs-daily-2"),
        ("service", "orders-rs"),
        ("storage", "s3-eu"),
        ("folder", "elsewhere"),
        ("cron", "0 2 * * *"),
        ("timezone", "Europe/Paris"),
        ("retention", "7"),
        ("type", "full"),
    ] {
        assert_eq!(values[key], [value], "{key}");
    }
    assert!(!values.keys().any(|k| k.starts_with('_')));
    // What is wrong stands at its field.
    let result = Err(Error::invalid("cron", "\"0 2 * * *\" is refused").into());
    reply(&mut model, Reply::ScheduleSaved { edited: false, result });
    assert_eq!(form(&model).row("cron").unwrap().error.as_deref(), Some("\"0 2 * * *\" is refused"));
    press(&mut model, "Ctrl-S");
    let saved = schedule("orders-rs-daily-2", "orders-rs", "0 2 * * *");
    reply(&mut model, Reply::ScheduleSaved { edited: false, result: Ok(Box::new(saved)) });
    assert!(model.layers.is_empty());
    press(&mut model, "2");
    assert!(shown(&model).contains("Schedules (6)"));
}

#[test]
fn what_cannot_be_taken_is_dimmed_with_its_reason() {
    let mut model = on("nightly-orders", LARGE);
    press(&mut model, "n");
    to_row(&mut model, "model");
    let effects = press(&mut model, "Right");
    assert_eq!(form(&model).text("model"), "physical");
    let checked = effects.iter().any(|e| matches!(e, Effect::CheckService(_, BackupModel::Physical)));
    assert!(checked, "what a physical backup needs is tried at once: {effects:?}");
    let text = shown(&model);
    assert!(text.contains("point in time needs the logical model"), "{text}");
    let why = |model: &Model, key: &str| {
        let form = form(model);
        form.why_dimmed(form.row(key).unwrap()).map(str::to_owned)
    };
    assert_eq!(why(&model, "include").as_deref(), Some("a physical backup holds all files"));
    assert_eq!(why(&model, "retries").as_deref(), Some("only with automatic retry"));
    // The reason stands once below the row, too.
    to_row(&mut model, "type");
    assert!(!shown(&model).contains("point in time: point in time"), "{}", shown(&model));
    open_advanced(&mut model);
    to_row(&mut model, "retry");
    press(&mut model, "Right");
    to_row(&mut model, "model");
    press(&mut model, "Left");
    assert_eq!((why(&model, "include"), why(&model, "retries")), (None, None));
}

fn open_advanced(model: &mut Model) {
    while form(model).focus != Item::Advanced {
        press(model, "Tab");
    }
    press(model, "Enter");
}

#[test]
fn what_was_typed_in_a_row_that_is_dimmed_by_now_does_not_count() {
    let mut model = on("nightly-orders", LARGE);
    press(&mut model, "e");
    open_advanced(&mut model);
    put(&mut model, "include", "shop");
    assert!(shown(&model).contains("shop of orders-rs"), "{}", shown(&model));
    to_row(&mut model, "model");
    press(&mut model, "Right");
    assert!(shown(&model).contains("the whole of orders-rs"), "{}", shown(&model));
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::EditSchedule(_, values)] = &effects[..] else { panic!("{effects:?}\n{}", shown(&model)) };
    // An edit leaves what it does not name: the part has to be cleared.
    assert_eq!((&values["model"][..], &values["include"][..]), (&["physical".to_owned()][..], &[String::new()][..]));
}

#[test]
fn presets_and_the_crontab_line_follow_each_other() {
    let mut model = on("nightly-orders", LARGE);
    press(&mut model, "n");
    to_row(&mut model, "_frequency");
    press(&mut model, "Right");
    assert_eq!(form(&model).text("cron"), "0 2 * * 0");
    assert_eq!(form(&model).text("name"), "orders-rs-weekly");
    put(&mut model, "cron", "*/20 8-18 * * 1-5");
    assert_eq!(form(&model).text("_frequency"), "other");
    put(&mut model, "cron", "@never");
    press(&mut model, "Tab");
    assert!(form(&model).row("cron").unwrap().error.is_some(), "said as soon as the row is left");
    put(&mut model, "cron", "0 * * * *");
    assert_eq!(form(&model).text("_frequency"), "hourly");
    put(&mut model, "name", "mine");
    put(&mut model, "cron", "0 2 1 * *");
    assert_eq!(form(&model).text("name"), "mine", "a name that was typed stays");
}

#[test]
fn an_edit_sends_what_was_emptied_and_not_the_name() {
    let mut model = on("hourly-users", LARGE);
    press(&mut model, "e");
    assert_eq!(form(&model).text("keep_daily"), "30");
    assert_eq!(form(&model).text("retry_interval"), "15m");
    assert_eq!(form(&model).text("cron"), "15 8-18 * * 1-5");
    put(&mut model, "folder", "");
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::EditSchedule(name, values)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(name, "hourly-users");
    assert_eq!(values["folder"], [""]);
    assert_eq!(values["keep_monthly"], ["12"]);
    assert!(!values.contains_key("name") && !values.contains_key("_when"));
}

#[test]
fn the_form_looks_ahead_and_takes_only_answers_to_what_is_typed() {
    let mut model = on("nightly-orders", LARGE);
    let effects = press(&mut model, "n");
    let asked = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Preview { .. })).count();
    assert_eq!(asked(&effects), 1, "{effects:?}");
    let old = effects;
    let effects = put(&mut model, "cron", "30 3 * * *");
    assert!(asked(&effects) > 0);
    assert!(shown(&model).contains("every day at 03:30"));
    assert!(
        shown(&model).contains("next  Sun 22 Nov 03:30 · Mon 23 Nov 03:30 · Tue 24 Nov 03:30"),
        "{}",
        shown(&model)
    );
    look_ahead(&mut model, old);
    assert!(!shown(&model).contains("overlaps nightly-orders"), "an old answer is of no use\n{}", shown(&model));
    look_ahead(&mut model, effects);
    assert!(shown(&model).contains("overlaps nightly-orders"), "{}", shown(&model));
    // What does not decide about runs asks nothing.
    assert_eq!(asked(&put(&mut model, "retention", "5")), 0);
    assert!(shown(&model).contains("its last 5 backups stay"), "{}", shown(&model));
}

#[test]
fn the_time_that_is_free_is_taken_with_one_key() {
    let mut model = on("nightly-orders", LARGE);
    let effects = press(&mut model, "n");
    look_ahead(&mut model, effects);
    assert!(shown(&model).contains("Ctrl-T takes"), "{}", shown(&model));
    let effects = press(&mut model, "Ctrl-T");
    assert_eq!(form(&model).text("cron"), "30 4 * * *");
    assert!(effects.iter().any(|e| matches!(e, Effect::Preview { .. })), "it is looked at anew: {effects:?}");
}

#[test]
fn the_pane_is_asked_for_once_and_again_when_something_changes() {
    let mut model = full(Look::default(), LARGE);
    let effects = press(&mut model, "2");
    let [Effect::Timeline { from, until }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(until - from, TimeDelta::hours(25), "to the end of the hour that is a day ahead");
    look_ahead(&mut model, effects);
    assert_eq!(press(&mut model, "j"), []);
    assert_eq!(press(&mut model, "j"), [Effect::FreeSlot("nightly-orders".into())], "its runs overlap others");
    assert_eq!(keys(&mut model, "k j"), [], "asked once");
    assert_eq!(update(&mut model, Msg::Snapshot(Box::new(full_snapshot()))), [], "nothing has changed");
    let effects = press(&mut model, "w");
    assert!(
        matches!(effects[..], [Effect::Timeline { from, until }] if until - from == TimeDelta::days(7) + TimeDelta::hours(1))
    );
    let mut snapshot = full_snapshot();
    snapshot.schedules.pop();
    let effects = update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    assert!(matches!(effects[..], [Effect::Timeline { .. }, Effect::FreeSlot(_)]), "a schedule is gone: {effects:?}");
    let hour = update(&mut model, Msg::Clock(now() + TimeDelta::minutes(58)));
    assert!(matches!(hour[..], [Effect::Timeline { .. }]), "the hour is over: {hour:?}");
    assert_eq!(press(&mut model, "t"), [], "put away, it asks nothing");
    assert!(!shown(&model).contains("The coming"));
    // Where there is no room for both, it takes the place of the list.
    let mut model = on("nightly-orders", SMALL);
    assert!(!shown(&model).contains("length not known"));
    let effects = press(&mut model, "t");
    look_ahead(&mut model, effects);
    assert!(shown(&model).contains("▸ nightly-orders") && shown(&model).contains("overlaps orders-rs-daily"));
    assert!(shown(&model).contains("free is every day at 04:30"), "{}", shown(&model));
    press(&mut model, "j");
    assert!(shown(&model).contains("▸ orders-rs-daily"));
}

#[test]
fn a_retry_counts_down_and_nothing_else_does() {
    let mut model = full(Look { no_motion: true, ..Look::default() }, SMALL);
    let mut snapshot = full_snapshot();
    let mut waiting = job(55, JobKind::Backup, "nightly-20261122", JobState::WaitingRetry, 3);
    waiting.attempt = 2;
    waiting.retry = RetryPolicy { mode: RetryMode::Auto, retries: 3, interval: 900 };
    waiting.next_attempt_at = Some(now() + TimeDelta::seconds(872));
    snapshot.jobs = Arc::new(vec![waiting]);
    update(&mut model, Msg::Snapshot(Box::new(snapshot.clone())));
    assert!(shown(&model).contains("retry 2 of 3 in 14:32"), "{}", shown(&model));
    model.dirty = false;
    update(&mut model, Msg::Clock(now() + TimeDelta::milliseconds(400)));
    assert!(!model.dirty, "the same second");
    update(&mut model, Msg::Clock(now() + TimeDelta::milliseconds(1_000)));
    assert!(model.dirty && shown(&model).contains("in 14:31"), "{}", shown(&model));
    assert_eq!(keys(&mut model, "g R"), [Effect::RetryJob(55)], "nobody has to wait");
    press(&mut model, "Enter");
    assert!(shown(&model).contains("2 of 4, 15 min apart"), "{}", shown(&model));
    update(&mut model, Msg::Clock(now() + TimeDelta::seconds(871)));
    model.dirty = false;
    update(&mut model, Msg::Clock(now() + TimeDelta::seconds(872)));
    assert!(model.dirty && shown(&model).contains("retry 2 of 3 now"), "the end is a picture too\n{}", shown(&model));
    model.dirty = false;
    update(&mut model, Msg::Clock(now() + TimeDelta::seconds(873)));
    assert!(!model.dirty, "after that nothing counts down");
}

#[test]
fn the_page_of_a_service_is_reached_from_what_belongs_to_it() {
    for (open, crumbs) in [
        ("j Enter S", "Backups › All backups › nightly-20261120 › orders-rs"),
        ("2 j j Enter S", "Schedules › nightly-orders › orders-rs"),
        ("4 Enter", "Settings › Services › orders-rs"),
    ] {
        // In one column.
        let mut model = full(Look::default(), (120, 50));
        keys(&mut model, open);
        let text = shown(&model);
        assert!(text.contains(crumbs), "{open}\n{text}");
        let (schedules, backups) = (text.find("Schedules (3)").unwrap(), text.find("\n Backups\n").unwrap());
        assert!(schedules < backups, "{text}");
        assert!(text.contains("● on   nightly-orders") && text.contains("○ off  before-the-migration"), "{text}");
    }
}

#[test]
fn management_off_is_said_where_schedules_are() {
    let mut model = full(Look::default(), SMALL);
    let mut snapshot = full_snapshot();
    snapshot.settings.iter_mut().find(|(k, _)| k == "backup.enabled").unwrap().1 = "false".into();
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    press(&mut model, "2");
    assert!(shown(&model).contains("backup management is off (Settings, General, backup.enabled)"));
    assert_eq!(press(&mut model, "x"), []);
    assert!(shown(&model).contains("mongokeep settings set backup.enabled true"), "{}", shown(&model));
    // A schedule can be made ready meanwhile, a backup cannot.
    press(&mut model, "n");
    to_row(&mut model, "_when");
    press(&mut model, "Left");
    assert_eq!(form(&model).text("_when"), "schedule");
}

#[test]
fn an_empty_list_leads_to_the_first_schedule() {
    let mut model = empty(SMALL);
    press(&mut model, "2");
    assert!(shown(&model).contains("No schedule yet"));
    press(&mut model, "Enter");
    assert!(shown(&model).contains("Add a service"));
    let mut model = full(Look::default(), SMALL);
    let mut snapshot = full_snapshot();
    snapshot.schedules.clear();
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    keys(&mut model, "2 Enter");
    assert!(shown(&model).contains("Create a schedule"));
}

#[test]
fn states_are_words_and_names_cannot_reach_the_terminal() {
    let mut model = full(Look::default(), LARGE);
    let mut snapshot = full_snapshot();
    snapshot.schedules[2].paused_by = Some(53);
    let evil = "a\u{1b}]52;c;aGk=\u{7}\u{9b}2J\u{202e}b";
    snapshot.schedules[0].cron = evil.into();
    snapshot.schedules[0].name = evil.into();
    snapshot.schedules[1].last.as_mut().unwrap().error = Some(evil.into());
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    let effects = press(&mut model, "2");
    look_ahead(&mut model, effects);
    for word in ["● on", "○ off", "‖ paused", "✗ failed", "! missed", "✓ done", "- never ran"] {
        assert!(shown(&model).contains(word), "{word}\n{}", shown(&model));
    }
    for open in ["g", "j", "Enter", "Esc e", "Esc d", "Esc w", "g d"] {
        keys(&mut model, open);
        let text = shown(&model);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n') && !text.contains('\u{202e}'), "{open}\n{text}");
    }
}

fn warning(text: &str) -> Warning {
    Warning::new(WarningKind::Stale, text)
}

#[test]
fn what_needs_somebody_stands_in_the_status_line_and_above_the_messages() {
    let mut snapshot = full_snapshot();
    snapshot.warnings = vec![
        warning("users-rs: the last good backup is 9 d old"),
        warning("the last run of schedule hourly-users failed: a\u{1b}[2J"),
    ];
    let mut model = full(Look::default(), LARGE);
    update(&mut model, Msg::Snapshot(Box::new(snapshot.clone())));
    let status = |model: &Model| shown(model).lines().rev().nth(1).unwrap().to_owned();
    assert!(status(&model).contains("! users-rs: the last good backup is 9 d old (+1)"), "{}", status(&model));
    assert!(status(&model).contains("daemon ok"), "{}", status(&model));
    press(&mut model, "m");
    assert!(shown(&model).contains("! the last run of schedule hourly-users failed: a\\u{1b}[2J"), "{}", shown(&model));
    // Where there is no room for words, the number is there, and the rest of the line as well.
    let mut model = full(Look::default(), SMALL);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    assert!(status(&model).contains("! 2 (m)") && status(&model).contains("daemon ok"), "{}", status(&model));
    reply(&mut model, Reply::Warnings(Ok(Vec::new())));
    assert!(!status(&model).contains("! 2"), "they go by themselves");
}

#[test]
fn each_channel_can_be_tested_and_says_what_came_of_it() {
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "4 l l");
    assert!(shown(&model).contains("notify.command"), "{}", shown(&model));
    assert_eq!(press(&mut model, "t"), []);
    assert!(shown(&model).contains("no notification channel configured"), "{}", shown(&model));
    let mut snapshot = full_snapshot();
    for (key, value) in &mut snapshot.settings {
        match key.as_str() {
            "notify.command" => *value = "/usr/local/bin/tell".into(),
            "notify.webhook_url" => *value = "https://h.io/key".into(),
            _ => {}
        }
    }
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    let screen = shown(&model);
    assert!(screen.contains("https://h.io/...") && !screen.contains("io/key"), "{screen}");
    assert_eq!(press(&mut model, "t"), [Effect::TestNotification(Channel::Command)]);
    assert!(shown(&model).contains("Settings › Notifications › test of the command"), "{}", shown(&model));
    let told = DeliveryResult { channel: Channel::Command, detail: "it ended with 0".into(), seconds: 0.12 };
    reply(&mut model, Reply::NotificationTested { channel: Channel::Command, result: Ok(told) });
    assert!(shown(&model).contains("✓ The command took the notification in 0.1 s."), "{}", shown(&model));
    press(&mut model, "Esc");
    while model.list(Tab::Notifications).key.as_deref() != Some("notify.webhook_url") {
        press(&mut model, "j");
    }
    assert_eq!(press(&mut model, "t"), [Effect::TestNotification(Channel::Webhook)]);
    let result = Err(problem("https://hooks.example.net answered 500"));
    reply(&mut model, Reply::NotificationTested { channel: Channel::Webhook, result });
    assert!(shown(&model).contains("answered 500"), "{}", shown(&model));
}
