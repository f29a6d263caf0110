//! A restore to a moment on the screen: the timeline and its keys, what is typed, what is said where nothing can be
//! restored, and what lists and pages tell of it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use insta::assert_snapshot;
use mongokeep::domain::backup::{BackupState, BackupType};
use mongokeep::domain::pitr::{PointInTime, When};
use mongokeep::domain::retention::PlannedOplog;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::error::ErrorKind;
use mongokeep::tui::form::Item;
use mongokeep::tui::model::{Layer, Look, Model, Tab};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply, Snapshot};
use mongokeep::tui::update::update;

use crate::support::screen::*;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

/// The form on the timeline of orders-rs, its cursor at the newest change.
fn on_timeline(look: Look, size: (u16, u16)) -> Model {
    let mut model = with_pitr(look, size);
    keys_counted(&mut model, "4 r");
    model
}

fn both(name: &str, prepare: impl Fn(&mut Model)) {
    for (size, suffix) in [(SMALL, "80x24"), (LARGE, "160x50")] {
        let mut model = with_pitr(Look::default(), size);
        prepare(&mut model);
        assert_snapshot!(format!("{name}_{suffix}"), shown(&model));
    }
}

fn at(model: &Model) -> When {
    form(model).moment.as_ref().unwrap().at
}

fn to_row(model: &mut Model, key: &str) {
    for _ in 0..20 {
        if form(model).focused().is_some_and(|r| r.field.key == key) {
            return;
        }
        keys_counted(model, "Tab");
    }
    panic!("{key} cannot be reached");
}

/// Types a time in the place of the one that is there.
fn type_time(model: &mut Model, text: &str) {
    to_row(model, "_time");
    keys_counted(model, "Ctrl-U Ctrl-K");
    let effects = type_text(model, text);
    count_operations(model, effects);
}

/// The screen as words, without borders and line breaks.
fn words(model: &Model) -> String {
    shown(model).replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn second(text: &str) -> u32 {
    text.parse::<DateTime<Utc>>().unwrap().timestamp() as u32
}

fn gone(message: &str) -> Problem {
    Problem { kind: ErrorKind::NotFound, field: None, message: message.into(), hint: None }
}

fn look_again(model: &mut Model, change: impl Fn(&mut Snapshot)) {
    let mut snapshot = pitr_snapshot();
    change(&mut snapshot);
    update(model, Msg::Snapshot(Box::new(snapshot)));
}

#[test]
fn the_timeline_shows_what_there_is() {
    both("timeline_newest", |m| keys_counted(m, "4 r"));
    // The accident: a spike in the hour, then in the minute.
    both("timeline_accident", |m| {
        keys_counted(m, "4 r");
        type_time(m, "2026-11-21 14:41:06");
        keys_counted(m, "Shift-Tab + + + +");
    });
    both("timeline_whole_window", |m| keys_counted(m, "4 r - - - - - - < <"));
    both("timeline_at_a_gap", |m| {
        keys_counted(m, "4 r");
        type_time(m, "2026-11-21 03:00:00");
        keys_counted(m, "Shift-Tab < - -");
    });
    both("timeline_typed_outside", |m| {
        keys_counted(m, "4 r");
        type_time(m, "2026-01-01 00:00:00");
    });
    both("timeline_typed_too_late", |m| {
        keys_counted(m, "4 r");
        type_time(m, "2026-11-21 15:30:00");
    });
    both("timeline_typed_wrong", |m| {
        keys_counted(m, "4 r");
        type_time(m, "yesterday");
        keys(m, "Tab");
    });
    both("timeline_empty", |m| {
        look_again(m, |s| s.pitr[0].ranges.clear());
        keys_counted(m, "4 r");
    });
    // From where a wrong restore is undone.
    both("timeline_before_a_restore", |m| keys_counted(m, "4 r [ [ - -"));
    both("plan_of_a_moment", |m| {
        keys_counted(m, "4 r Ctrl-S");
        let (request, result) = planned_moment();
        reply(m, Reply::RestorePlanned { request, result });
    });
    let ascii = Look { ascii: true, ..Look::default() };
    let mut model = on_timeline(ascii, SMALL);
    type_time(&mut model, "2026-11-21 03:00:00");
    keys_counted(&mut model, "Shift-Tab < - -");
    assert!(shown(&model).is_ascii());
    assert_snapshot!("timeline_ascii", shown(&model));
}

#[test]
fn lists_and_pages_tell_of_it() {
    both("services", |m| drop(keys(m, "4")));
    both("service", |m| drop(keys(m, "4 Enter")));
    both("strip", |_| {});
    both("strip_of_many", |m| {
        look_again(m, |s| {
            for i in 0..12 {
                let name = format!("{}-of-the-department-with-a-long-name-{i}", ["billing", "käse-レジ"][i % 2]);
                s.services.push(service(&name, Some(90)));
                let mut status = pitr_status();
                status.running = i % 3 > 0;
                status.error = (i % 3 == 0).then(|| "the storage s3-eu is unreachable: connection refused".into());
                status.service = name;
                s.pitr.push(status);
            }
        });
    });
    both("service_stopped", |m| {
        look_again(m, |s| {
            let status = &mut s.pitr[0];
            (status.running, status.lag_seconds) = (false, Some(4_000));
            status.error = Some("the storage s3-eu is unreachable: connection refused".into());
            status.hint = Some("mongokeep storage test s3-eu".into());
        });
        keys(m, "4 Enter");
    });
    both("service_without_a_base", |m| {
        look_again(m, |s| {
            let status = &mut s.pitr[0];
            status.ranges.clear();
            status.bases.clear();
            status.marks.clear();
            (status.slices, status.size_bytes, status.lag_seconds) = (0, 0, None);
        });
        keys(m, "4 Enter");
    });
    both("schedules", |m| drop(keys(m, "2 j j t t")));
    both("schedule", |m| drop(keys(m, "2 j j Enter")));
    both("base", |m| drop(keys(m, "j Enter")));
    both("backup_or_moment", |m| keys_counted(m, "j r"));
    both("create", |m| {
        let effects = keys(m, "2 n Tab Tab Tab Tab Tab Right");
        look_ahead(m, effects);
    });
}

#[test]
fn only_a_whole_backup_is_said_to_lead_anywhere() {
    let moment_only = "Recoverable to the moment it is consistent at";
    let page = |name: &str, state: BackupState| {
        let mut model = with_pitr(Look::default(), LARGE);
        look_again(&mut model, |s| {
            s.jobs = Arc::default();
            let backups = Arc::make_mut(&mut s.backups);
            backups.retain(|b| b.name == name);
            backups[0].state = state;
        });
        keys(&mut model, "Enter");
        words(&model)
    };
    let good = page("nightly-20261120", BackupState::Succeeded);
    let range = "Recoverable any second from 21 Nov 2026 03:03:30 CET to 21 Nov 2026 15:02:17 CET";
    assert!(good.contains(range), "{good}");
    // Of a service that keeps nothing in between.
    let alone = page("weekly-46", BackupState::Succeeded);
    assert!(alone.contains(moment_only), "{alone}");
    for (name, state) in [
        ("nightly-20261121", BackupState::Running),
        ("nightly-20261119", BackupState::Failed),
        ("nightly-20261119", BackupState::Incomplete),
        ("nightly-20261120", BackupState::Deleting),
    ] {
        let text = page(name, state);
        assert!(text.contains(name) && !text.contains("Recoverable"), "{state:?}: {text}");
    }
    // A base whose moment lies in the last second that is stored, which is not complete, with an older one before it.
    for (second_of_base, leads_on) in [(17, true), (18, false)] {
        let mut model = with_pitr(Look::default(), LARGE);
        look_again(&mut model, |s| {
            let at = now() - TimeDelta::seconds(30 - second_of_base);
            let ts = Timestamp::new(at.timestamp() as u32, 1);
            s.jobs = Arc::default();
            let backups = Arc::make_mut(&mut s.backups);
            backups.retain(|b| b.name == "nightly-20261120");
            (backups[0].consistent_at, backups[0].consistent_at_ts) = (Some(at), Some(ts));
            s.pitr[0].bases[1].consistent_at_ts = ts;
        });
        keys(&mut model, "Enter");
        let text = words(&model);
        let one_second = "Recoverable any second from 21 Nov 2026 15:02:17 CET to 21 Nov 2026 15:02:17 CET";
        assert_eq!((text.contains(one_second), text.contains(moment_only)), (leads_on, !leads_on), "{text}");
    }
}

#[test]
fn retention_says_what_goes_of_the_oplog() {
    let said = |slices: u64, from: Option<DateTime<Utc>>, backups: usize| {
        let mut model = with_pitr(Look::default(), (120, 50));
        keys(&mut model, "2 j j Enter");
        let oplog = PlannedOplog {
            slices,
            size_bytes: slices * 1_000_000,
            frees_bytes: slices * 1_000_000,
            from,
            from_ts: from.map(|at| Timestamp::new(at.timestamp() as u32, 1)),
        };
        let mut plan = retention_plan();
        plan.backups.truncate(backups);
        plan.oplog = Some(oplog);
        reply(&mut model, Reply::RetentionPlanned { schedule: "nightly-orders".into(), result: Ok(Box::new(plan)) });
        words(&model)
    };
    let begins = "the recoverable window begins at 19 Nov 2026 18:03:30 CET";
    let from = Some(ago(2_699));
    for (slices, from, backups, expected) in [
        (1_204, from, 3, format!("The next run deletes 1,204 oplog slices (1.2 GB); {begins} then. 1 of 3 goes")),
        (1, from, 3, format!("The next run deletes 1 oplog slice (1.0 MB); {begins} then.")),
        (0, from, 2, format!("No oplog slice is deleted; {begins}. All 2 stay:")),
        (0, None, 2, "No oplog slice is deleted. All 2 stay:".to_owned()),
        (7, from, 0, format!("The next run deletes 7 oplog slices (7.0 MB); {begins} then. It has no backups yet.")),
    ] {
        let text = said(slices, from, backups);
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
}

#[test]
fn keys_move_the_cursor() {
    let mut model = on_timeline(Look::default(), SMALL);
    assert_eq!(at(&model), When::Latest);
    let newest = second("2026-11-21T14:02:17Z");
    for (chord, expected) in [
        ("Left", newest),
        ("h", newest - 1),
        (",", newest - 61),
        ("Right", newest - 60),
        (".", newest),
        ("<", newest - 3_600),
        (">", newest),
        ("Ctrl-Left", newest - 3_600),
        ("Ctrl-Right", newest),
        ("PgUp", newest - 86_400),
        ("PgDn", newest),
        ("Home", second("2026-11-19T17:03:30Z")),
    ] {
        keys_counted(&mut model, chord);
        assert_eq!(at(&model), When::Second(expected), "{chord}");
        let exact = Timestamp::new(expected, 0).to_datetime().with_timezone(&model.zone);
        let exact = exact.format("%d %b %Y %H:%M:%S CET").to_string();
        assert!(shown(&model).contains(&exact), "{chord}: {exact} is not in\n{}", shown(&model));
    }
    keys_counted(&mut model, "End");
    assert_eq!(at(&model), When::Latest);
    keys_counted(&mut model, "Right");
    assert!(shown(&model).contains("is stored yet"), "{}", shown(&model));
    // Up, Down and Tab belong to the form.
    keys_counted(&mut model, "Down");
    assert_eq!(form(&model).focused().unwrap().field.key, "_time");
}

#[test]
fn a_gap_stops_the_cursor_once_and_says_why() {
    let mut model = on_timeline(Look::default(), LARGE);
    // Half a minute after the second base, which lies at the end of the gap.
    type_time(&mut model, "2026-11-21 03:04:00");
    keys_counted(&mut model, "Shift-Tab ,");
    assert_eq!(at(&model), When::Second(second("2026-11-21T02:03:30Z")));
    let text = shown(&model);
    assert!(text.contains("the oplog had rolled over before it was read"), "{text}");
    keys_counted(&mut model, ",");
    assert_eq!(at(&model), When::Second(second("2026-11-20T21:22:29Z")));
    assert!(shown(&model).contains("rolled over"));
    keys_counted(&mut model, "Left");
    assert!(!shown(&model).contains("rolled over"), "{}", shown(&model));
    // Coming near it by chance says so as well.
    type_time(&mut model, "2026-11-20 22:22:29");
    assert!(shown(&model).contains("rolled over"));
}

#[test]
fn typed_times_are_read_in_the_zone_that_is_shown() {
    let mut model = on_timeline(Look::default(), SMALL);
    for (text, expected) in [
        ("2026-11-21 14:41:07", When::Second(second(ACCIDENT))),
        ("2026-11-21T13:41:07Z", When::Second(second(ACCIDENT))),
        ("latest", When::Latest),
        ("2026-11-21 14:41", When::Second(second(ACCIDENT) - 7)),
    ] {
        type_time(&mut model, text);
        assert_eq!(form(&model).text("_time"), text, "what is being typed stays as it is");
        assert_eq!(at(&model), expected, "{text}");
    }
    let position = format!("{},4", second(ACCIDENT));
    type_time(&mut model, &position);
    assert_eq!(at(&model), When::Position(Timestamp::new(second(ACCIDENT), 4)));
    assert!(shown(&model).contains(&position));
    type_time(&mut model, "2026-11-21 14:41:07");
    keys_counted(&mut model, "Shift-Tab z");
    assert_eq!(form(&model).text("_time"), "2026-11-21 13:41:07");
    assert!(shown(&model).contains("13:41:07 UTC"), "{}", shown(&model));
    type_time(&mut model, "2026-11-21 13:00:00");
    assert_eq!(at(&model), When::Second(second("2026-11-21T13:00:00Z")));
    // The text is put right when it is left.
    type_time(&mut model, "2025-11-21 13:00:00");
    keys_counted(&mut model, "Tab");
    assert_eq!(form(&model).text("_time"), "2026-11-19 17:03:30");
}

#[test]
fn a_moment_that_is_not_stored_yet_is_never_passed() {
    let mut model = on_timeline(Look::default(), SMALL);
    let stored_until = |model: &mut Model, at: DateTime<Utc>, i: u32| {
        look_again(model, |s| {
            let range = s.pitr[0].ranges.last_mut().unwrap();
            (range.to, range.to_ts) = (at - TimeDelta::seconds(1), Timestamp::new(at.timestamp() as u32, i));
            s.pitr[0].slices += 1;
        });
    };
    let asked = |model: &mut Model| {
        let effects = press(model, "Ctrl-S");
        let [Effect::PlanRestore(request)] = &effects[..] else { panic!("{effects:?}") };
        let when = request.point_in_time.as_ref().unwrap().when;
        reply(model, Reply::RestorePlanned { request: request.clone(), result: Err(gone("the slice is gone")) });
        when
    };
    // Half a minute before the accident of which nobody knows yet.
    let wanted = now() + TimeDelta::seconds(30);
    type_time(&mut model, "2026-11-21 15:03:00");
    let last = When::Position(Timestamp::new(second("2026-11-21T14:02:18Z"), 1));
    assert_eq!(at(&model), last);
    let said = "! 21 Nov 2026 15:03:00 CET is not stored yet: the cursor stands at the last change that is, and follows up to there";
    assert!(words(&model).contains(said), "{}", shown(&model));
    assert_eq!(asked(&mut model), last, "a position, which does not move while the plan is read");
    // A slice that ends before it, then one that ends long after it.
    let later = wanted - TimeDelta::seconds(5);
    stored_until(&mut model, later, 4);
    assert_eq!(at(&model), When::Position(Timestamp::new(later.timestamp() as u32, 4)));
    stored_until(&mut model, wanted + TimeDelta::seconds(90), 1);
    assert_eq!(at(&model), When::Second(wanted.timestamp() as u32));
    assert!(!shown(&model).contains("stored yet"), "{}", shown(&model));
    keys_counted(&mut model, "Tab");
    assert_eq!(form(&model).text("_time"), "2026-11-21 15:03:00");
    assert_eq!(asked(&mut model), When::Second(wanted.timestamp() as u32));
    // Typed before anything is stored at all.
    look_again(&mut model, |s| s.pitr[0].ranges.clear());
    type_time(&mut model, "2026-11-21 14:41:06");
    keys_counted(&mut model, "Tab");
    assert_eq!(form(&model).text("_time"), "2026-11-21 14:41:06");
    look_again(&mut model, |_| {});
    assert_eq!(at(&model), When::Second(second(ACCIDENT) - 1));
    // The newest change is for those who ask for it.
    type_time(&mut model, "latest");
    assert_eq!(asked(&mut model), When::Latest);
}

#[test]
fn what_is_no_time_is_said_at_its_row_and_not_submitted() {
    let mut model = on_timeline(Look::default(), SMALL);
    type_time(&mut model, "soon");
    assert_eq!(press(&mut model, "Ctrl-S"), []);
    assert!(shown(&model).contains("✗ write it as 2026-11-21 14:02:03"), "{}", shown(&model));
    // The cursor takes over from what was typed.
    keys_counted(&mut model, "Shift-Tab Left");
    assert_eq!(form(&model).text("_time"), "2026-11-21 15:02:17");
    assert!(matches!(&press(&mut model, "Ctrl-S")[..], [Effect::PlanRestore(_)]));
}

#[test]
fn a_service_is_restored_to_the_moment_of_the_cursor() {
    let mut model = on_timeline(Look::default(), SMALL);
    type_time(&mut model, "2026-11-21 14:41:07");
    keys_counted(&mut model, "Shift-Tab Left");
    assert_eq!(form(&model).focus, form(&model).row_at("_timeline").unwrap());
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::PlanRestore(request)] = &effects[..] else { panic!("{effects:?}") };
    let moment = PointInTime { service: "orders-rs".into(), when: When::Second(second(ACCIDENT) - 1), base: None };
    assert_eq!((request.backup.as_str(), request.to.as_str()), ("", "orders-rs"));
    assert_eq!(request.point_in_time, Some(moment));
    let (request, result) = planned_moment();
    reply(&mut model, Reply::RestorePlanned { request: request.clone(), result });
    let text = shown(&model);
    for part in ["14:41:06 CET", "nightly-20261120", "698 slices", "1,204,311", "about 4 min", "Type orders-rs"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    type_text(&mut model, "orders-rs");
    let effects = press(&mut model, "Enter");
    assert!(
        matches!(&effects[..], [Effect::Restore(r, p)] if *r == request && p.point_in_time.is_some()),
        "{effects:?}"
    );
    let mut job = job(
        60,
        mongokeep::domain::job::JobKind::Restore,
        "nightly-20261120",
        mongokeep::domain::job::JobState::Queued,
        0,
    );
    job.service = Some("orders-rs".into());
    reply(&mut model, Reply::Queued { what: "the restore was not queued".into(), result: Ok(job) });
    assert!(model.layers.is_empty(), "plan and form are done with");
}

#[test]
fn nothing_of_a_plan_is_cut() {
    use mongokeep::domain::namespace::Namespace;
    let long = "a-name-of-a-hundred-characters-".repeat(4)[..100].to_owned();
    let mut model = on_timeline(Look::default(), SMALL);
    press(&mut model, "Ctrl-S");
    let (request, result) = planned_moment();
    let mut plan = result.unwrap();
    let replay = plan.point_in_time.as_mut().unwrap();
    replay.base.backup = format!("base-{long}");
    replay.archive.storage = format!("storage-{long}");
    plan.namespaces[0].to = Namespace::new("shop", format!("replaced-{long}"));
    plan.namespaces[0].from = plan.namespaces[0].to.clone();
    plan.namespaces[1].to = Namespace::new("other", format!("created-{long}"));
    plan.dropped = vec![Namespace::new("shop", format!("dropped-{long}"))];
    plan.untouched = vec![Namespace::new("shop", format!("kept-{long}"))];
    plan.users_and_roles = true;
    plan.users_of = vec![format!("users-{long}")];
    reply(&mut model, Reply::RestorePlanned { request, result: Ok(plan) });
    // Everything that can be reached by scrolling, without the line breaks.
    let page = |model: &Model| -> Vec<String> {
        let text = shown(model);
        text.lines().skip(1).take_while(|l| !l.contains("│ ─")).map(str::to_owned).collect()
    };
    let mut lines = page(&model);
    loop {
        let before = page(&model);
        press(&mut model, "Down");
        let after = page(&model);
        if after == before {
            break;
        }
        lines.extend(after.last().cloned());
        assert!(lines.len() < 100, "{lines:#?}");
    }
    let inside = |line: &String| line.trim_matches(['│', ' ', '─']).trim().to_owned();
    let all: String = lines.iter().map(inside).collect::<Vec<_>>().concat();
    for part in ["base", "storage", "replaced", "created", "dropped", "kept", "users"] {
        assert!(all.contains(&format!("{part}-{long}")), "{part} is cut:\n{all}");
    }
    for part in ["1,204,311 entries", "900,012 there now", "14:41:06 CET", "about 4 min"] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    assert!(!all.contains('…'), "{all}");
}

#[test]
fn a_plan_that_fails_goes_back_to_the_form() {
    let mut model = on_timeline(Look::default(), SMALL);
    press(&mut model, "Ctrl-S");
    let (request, _) = planned_moment();
    reply(&mut model, Reply::RestorePlanned { request, result: Err(gone("the slice is gone")) });
    assert!(shown(&model).contains("the slice is gone"));
    assert!(matches!(&press(&mut model, "Ctrl-S")[..], [Effect::PlanRestore(_)]));
}

#[test]
fn answers_reach_a_form_that_lies_below_something() {
    // The operations of the timeline, while the plan and then help lie above it.
    for above in ["Ctrl-S", "F1"] {
        let mut model = with_pitr(Look::default(), SMALL);
        let asked = keys(&mut model, "4 r");
        let effects = press(&mut model, above);
        if let [Effect::PlanRestore(request)] = &effects[..] {
            reply(&mut model, Reply::RestorePlanned { request: request.clone(), result: planned_moment().1 });
            assert!(matches!(model.layers.last(), Some(Layer::Review(_))));
        }
        count_operations(&mut model, asked);
        keys(&mut model, "Esc");
        let pane = form(&model).moment.as_ref().unwrap();
        assert!(pane.bars().is_some() && pane.operations(&pitr_status().ranges).is_some(), "{above}");
        // And the next question is asked.
        assert!(keys(&mut model, "Left").iter().any(|e| matches!(e, Effect::Operations { .. })), "{above}");
    }
    // The plan, while help lies above the form: it comes right above its form.
    let mut model = on_timeline(Look::default(), SMALL);
    let effects = keys(&mut model, "Ctrl-S F1");
    let [Effect::PlanRestore(request)] = &effects[..] else { panic!("{effects:?}") };
    reply(&mut model, Reply::RestorePlanned { request: request.clone(), result: planned_moment().1 });
    assert!(matches!(&model.layers[..], [Layer::Form(form), Layer::Review(_), Layer::Help { .. }] if !form.submitting));
    press(&mut model, "Esc");
    assert!(shown(&model).contains("Type orders-rs to confirm"), "{}", shown(&model));
    press(&mut model, "Esc");
    // A form that was opened anew since did not ask for it.
    keys_counted(&mut model, "Ctrl-S Esc r");
    reply(&mut model, Reply::RestorePlanned { request: request.clone(), result: planned_moment().1 });
    assert!(matches!(&model.layers[..], [Layer::Form(_)]));
}

#[test]
fn a_backup_or_a_moment_is_one_choice() {
    let mut model = with_pitr(Look::default(), SMALL);
    keys_counted(&mut model, "j r");
    let effects = press(&mut model, "Ctrl-S");
    assert!(
        matches!(&effects[..], [Effect::PlanRestore(r)] if r.backup == "nightly-20261120" && r.point_in_time.is_none())
    );
    let mut model = with_pitr(Look::default(), SMALL);
    keys_counted(&mut model, "j r");
    to_row(&mut model, "exact");
    keys(&mut model, "Space");
    to_row(&mut model, "_what");
    keys_counted(&mut model, "Right Tab");
    assert!(shown(&model).contains("▲"), "{}", shown(&model));
    let effects = press(&mut model, "Ctrl-S");
    let moment = PointInTime { service: "orders-rs".into(), when: When::Latest, base: None };
    assert!(
        matches!(&effects[..], [Effect::PlanRestore(r)] if r.backup.is_empty() && r.point_in_time.as_ref() == Some(&moment) && r.exact),
        "{effects:?}"
    );
    // Without slices there is one way only, and the reason stands beside the other.
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "j r");
    assert!(shown(&model).contains("not recorded"), "{}", shown(&model));
    assert_ne!(form(&model).focus, form(&model).row_at("_what").unwrap());
    keys(&mut model, "Esc 4");
    assert_eq!(press(&mut model, "r"), []);
    assert!(model.layers.is_empty() && shown(&model).contains("nothing keeps the changes"));
}

#[test]
fn retention_and_new_slices_move_what_is_shown() {
    let mut model = on_timeline(Look::default(), SMALL);
    type_time(&mut model, "2026-11-20 18:00:00");
    keys_counted(&mut model, "Tab");
    look_again(&mut model, |s| {
        s.pitr[0].ranges.remove(0);
    });
    assert_eq!(at(&model), When::Second(second("2026-11-21T02:03:30Z")));
    assert_eq!(form(&model).text("_time"), "2026-11-21 03:03:30");
    assert!(shown(&model).contains("no older base"), "{}", shown(&model));
    // All of it goes: the form stays, and says why it can do nothing.
    look_again(&mut model, |s| s.pitr.clear());
    assert_eq!(press(&mut model, "Ctrl-S"), []);
    assert!(shown(&model).contains("no moment of orders-rs can be restored yet"), "{}", shown(&model));
}

#[test]
fn any_size_and_long_names_are_drawn() {
    let long = "a-name-of-a-hundred-characters-".repeat(4)[..100].to_owned();
    for look in [Look::default(), Look { ascii: true, no_color: true, ..Look::default() }] {
        let mut model = on_timeline(look, SMALL);
        look_again(&mut model, |s| {
            for base in &mut s.pitr[0].bases {
                base.backup.clone_from(&long);
            }
            s.pitr[0].gaps[0].reason = format!("{} \u{1b}[2J", "why ".repeat(60));
            s.pitr[0].marks[0].text = long.repeat(3);
        });
        type_time(&mut model, "2026-11-21 03:03:31");
        keys_counted(&mut model, "Shift-Tab , - - - - - - + +");
        for width in (1..200).step_by(7) {
            for height in (1..70).step_by(5) {
                let effects = update(&mut model, Msg::Resize(width, height));
                count_operations(&mut model, effects);
                let text = shown(&model);
                assert!(!text.contains('\u{1b}'));
                assert!(!look.ascii || text.is_ascii());
            }
        }
        update(&mut model, Msg::Resize(80, 24));
        // The name of the base is cut, and what stands behind it is not pushed out.
        let base = format!("base {}", &long[..31]);
        let text = words(&model);
        let (_, rest) = text.split_once(&base).unwrap_or_else(|| panic!("{base} is not in\n{}", shown(&model)));
        assert!(!rest.starts_with(&long[31..32]) && rest.contains(" of 21 Nov 03:03:30"), "{}", shown(&model));
    }
}

#[test]
fn the_cursor_is_seen_without_colours() {
    let look = Look { no_color: true, ascii: true, ..Look::default() };
    let mut model = on_timeline(look, SMALL);
    let text = shown(&model);
    assert!(text.lines().filter(|l| l.contains('^')).count() >= 2, "in the overview, and below the bars:\n{text}");
    // Nothing but signs stands in a lane; in the overview it lies between two times.
    let lane = |text: &str| -> String {
        let line = text.lines().find(|l| l.contains("Timeline")).unwrap_or_default();
        line.chars().skip_while(|c| *c != '*').take_while(|c| *c != '2').collect()
    };
    let all = lane(&text);
    assert!(all.contains('%') && all.contains('*') && all.contains('R'), "gap, base and restore: {all}\n{text}");
    assert!(all.contains('^'), "{all}");
    keys_counted(&mut model, "< <");
    assert_ne!(shown(&model), text);
}

#[test]
fn the_keys_of_the_timeline_are_told() {
    let mut model = on_timeline(Look::default(), LARGE);
    let last = shown(&model).lines().last().unwrap().to_owned();
    for part in ["h l second", ", . min", "< > hour", "PgUp PgDn day", "+ - zoom", "p peak", "[ ] jump", "z zone"] {
        assert!(last.contains(part), "{part}: {last}");
    }
    assert!(last.contains("y copy") && last.contains("Ctrl-S submit") && last.contains("F1 help"), "{last}");
    let mut small = on_timeline(Look::default(), SMALL);
    let keys_there = "h l second  , . min  < > hour  + - zoom  p peak  [ ] jump  F1 help  Esc close";
    assert!(shown(&small).lines().last().unwrap().contains(keys_there), "{}", shown(&small));
    // Where there is nothing to move in, they are not told.
    look_again(&mut small, |s| s.pitr[0].ranges.clear());
    let last = shown(&small).lines().last().unwrap().to_owned();
    assert!(last.contains("x base") && !last.contains("hour"), "{last}");
    press(&mut model, "F1");
    let text = shown(&model);
    let heading = text.lines().find(|l| l.contains("Timeline of a restore")).unwrap();
    assert!(!heading.contains("on other screens"), "{heading}");
    // Its own keys scroll the help.
    keys(&mut model, "PgDn G g");
    keys(&mut model, "Esc");
    assert_eq!(at(&model), When::Latest);
}

#[test]
fn esc_asks_only_when_the_cursor_was_moved() {
    let mut model = on_timeline(Look::default(), SMALL);
    press(&mut model, "Esc");
    assert!(model.layers.is_empty());
    keys_counted(&mut model, "r Left Right Left Esc");
    assert!(model.layers.is_empty(), "a second more or less is soon found again");
    keys_counted(&mut model, "r PgUp Esc");
    assert!(matches!(model.layers.last(), Some(Layer::Confirm(_))));
}

#[test]
fn lag_and_trouble_are_words() {
    let strip = |change: &dyn Fn(&mut Snapshot)| {
        let mut model = with_pitr(Look::default(), SMALL);
        look_again(&mut model, change);
        shown(&model).lines().find(|l| l.contains(" orders-rs   ")).unwrap().to_owned()
    };
    assert!(strip(&|_| {}).contains("recoverable 44 h → 15:02:17 (1 gap)"), "{}", strip(&|_| {}));
    let late = strip(&|s| {
        s.pitr[0].lag_seconds = Some(90);
        s.pitr[0].ranges.remove(0);
    });
    assert!(late.contains("recoverable 11 h → 15:02:17"), "{late}");
    assert!(late.starts_with(" ✓ "), "{late}");
    let behind = strip(&|s| s.pitr[0].lag_seconds = Some(7_500));
    assert!(behind.contains("→ 15:02:17") && behind.starts_with(" ! "), "{behind}");
    let stopped = strip(&|s| {
        s.pitr[0].running = false;
        s.pitr[0].error = Some("access denied".into());
    });
    // What can still be restored is worth more than the whole reason.
    assert!(stopped.contains("recoverable 44 h → 15:02:17"), "{stopped}");
    assert!(stopped.starts_with(" ✗ "), "{stopped}");
    let none = strip(&|s| s.pitr[0].ranges.clear());
    assert!(none.contains("no base yet") && none.starts_with(" ! "), "{none}");
    // A base is there, and the oplog is not stored beyond it.
    let waits = strip(&|s| {
        s.pitr[0].ranges.clear();
        s.pitr[0].waiting_base = s.pitr[0].bases.last().cloned();
        assert!(s.pitr[0].waiting_base.is_some());
    });
    assert!(waits.contains("recoverable after the next slice") && waits.starts_with(" ✓ "), "{waits}");
    // After a base the engine takes a moment to begin: that is neither stopped nor "now".
    let begins = |s: &mut Snapshot| {
        (s.pitr[0].running, s.pitr[0].beginning) = (false, true);
        s.pitr[0].ranges.remove(0);
    };
    let short = strip(&begins);
    assert!(short.contains("→ 15:02:17") && short.starts_with(" ✓ "), "{short}");
    let mut model = with_pitr(Look::default(), LARGE);
    look_again(&mut model, begins);
    assert!(shown(&model).contains("→ 15:02:17 (recording begins)"), "{}", shown(&model));
    keys(&mut model, "4 Enter");
    let page = shown(&model);
    assert!(page.contains("◌ about to begin") && !page.contains("stopped"), "{page}");
    let unwanted = strip(&|s| {
        (s.pitr[0].lag_seconds, s.pitr[0].running) = (Some(90_000), false);
        s.pitr[0].schedules.clear();
    });
    assert!(unwanted.starts_with(" ✓ "), "nobody wants it recorded: {unwanted}");
}

#[test]
fn a_recording_becomes_late_by_time_alone_and_is_not_hidden() {
    let mut model = with_pitr(Look::default(), SMALL);
    // Newer backups of the others stand above it as long as nothing is wrong.
    look_again(&mut model, |s| {
        s.jobs = Default::default();
        s.services.extend((0..3).map(|i| service(&format!("other-{i}"), Some(5_000))));
        s.services.retain(|s| s.name != "users-rs");
    });
    let first = |model: &Model| model.strip[0].service.clone();
    assert_ne!(first(&model), "orders-rs");
    assert!(!shown(&model).contains("! orders-rs"));
    update(&mut model, Msg::Clock(now() + TimeDelta::minutes(15)));
    assert_eq!(first(&model), "orders-rs");
    assert!(model.dirty && shown(&model).contains("! orders-rs"), "{}", shown(&model));
}

#[test]
fn a_list_says_no_half_words() {
    let cell = |minutes: i64, lag: u64, gaps: usize| {
        let mut model = with_pitr(Look::default(), SMALL);
        look_again(&mut model, |s| {
            let ranges = &mut s.pitr[0].ranges;
            ranges[0].from = s.read_at - TimeDelta::minutes(minutes);
            for i in 1..gaps {
                let mut other = ranges[0].clone();
                (other.from_ts.t, other.to_ts.t) = (100 * i as u32, 100 * i as u32 + 50);
                other.from = ranges[0].from;
                ranges.push(other);
            }
            s.pitr[0].lag_seconds = Some(lag);
        });
        keys(&mut model, "4");
        let text = shown(&model);
        text.lines().find(|l| l.contains("orders-rs") && l.contains("answers")).unwrap().trim_end().to_owned()
    };
    for (minutes, lag, gaps, expected) in [
        (2_699, 3, 1, "44 h, 1 gap, lag < 1 min"),
        (88, 3, 1, "88 min, 1 gap"),
        (88, 200, 1, "88 min, 1 gap, lag 3 min"),
        (2_699, 900, 1, "! 44 h, lag 15 min"),
        (2_699, 7_500, 12, "! 44 h, lag 2 h 05"),
        (6_000_000, 7_500_000, 1, "! 4166 d, lag 86 d"),
    ] {
        let text = cell(minutes, lag, gaps);
        assert!(text.ends_with(&format!("  {expected}")), "{expected}\n{text}");
    }
}

#[test]
fn a_lag_of_less_than_a_late_slice_is_usual() {
    let told = |slice: &str, lag: u64| {
        let mut model = with_pitr(Look::default(), LARGE);
        look_again(&mut model, |s| {
            s.settings.retain(|(key, _)| key != "pitr.slice_seconds");
            s.settings.push(("pitr.slice_seconds".into(), slice.into()));
            s.pitr[0].lag_seconds = Some(lag);
        });
        words(&model)
    };
    for (slice, usual, behind) in [("60", 120, 600), ("5", 65, 600), ("3600", 3_660, 3_900), ("", 60, 600)] {
        let text = told(slice, usual);
        assert!(text.contains("→ 15:02:17 (1 gap, lag "), "{slice}: {text}");
        let text = told(slice, behind - 1);
        assert!(text.contains("✓ orders-rs"), "{slice}: {text}");
        let text = told(slice, behind);
        assert!(text.contains("! orders-rs"), "{slice}: {text}");
    }
}

#[test]
fn jumps_lead_to_what_stands_out() {
    let mut model = on_timeline(Look::default(), LARGE);
    let stops = [
        ("2026-11-21T14:02:17Z", "in this second"),
        ("2026-11-21T09:02:29Z", "↺ a restore began 21 Nov 10:02:30: nightly-20261120"),
        ("2026-11-21T02:03:30Z", "base nightly-20261120 of 21 Nov 03:03:30, in this second"),
        ("2026-11-20T21:22:29Z", "the oplog had rolled over"),
        ("2026-11-19T17:03:30Z", "base before-migration of 19 Nov 18:03:30, in this second"),
    ];
    for (stop, said) in stops {
        keys_counted(&mut model, "[");
        assert_eq!(at(&model), When::Second(second(stop)));
        assert!(shown(&model).contains(said), "{said}\n{}", shown(&model));
    }
    keys_counted(&mut model, "[");
    assert!(shown(&model).contains("no older base"), "{}", shown(&model));
    for (stop, _) in stops.iter().rev().skip(1) {
        keys_counted(&mut model, "]");
        assert_eq!(at(&model), When::Second(second(stop)));
    }
    keys_counted(&mut model, "]");
    assert_eq!(at(&model), When::Latest);
}

#[test]
fn the_accident_is_found_by_one_key() {
    for size in [SMALL, LARGE] {
        let mut model = on_timeline(Look::default(), size);
        for _ in 0..12 {
            keys_counted(&mut model, "p");
        }
        assert_eq!(at(&model), When::Second(second(ACCIDENT) - 1));
        assert_eq!(form(&model).moment.as_ref().unwrap().view.step, 1);
        let effects = press(&mut model, "Ctrl-S");
        assert!(matches!(&effects[..], [Effect::PlanRestore(_)]), "{effects:?}");
    }
    // Nothing in view is said, and moves nothing.
    let mut model = with_pitr(Look::default(), SMALL);
    for effect in keys(&mut model, "4 r") {
        if let Effect::Operations { service, from, to, buckets } = effect {
            reply(&mut model, Reply::Operations { service, from, to, buckets, result: Ok(vec![0; buckets]) });
        }
    }
    keys(&mut model, "p");
    assert_eq!(at(&model), When::Latest);
    assert!(shown(&model).contains("! no operation in what is drawn here"), "{}", shown(&model));
    assert!(shown(&model).contains("a column is 1 min, no operation"), "{}", shown(&model));
}

#[test]
fn a_moment_is_copied_as_the_command_line_takes_it() {
    let mut model = on_timeline(Look::default(), SMALL);
    let newest = format!("{},1", second("2026-11-21T14:02:18Z"));
    assert_eq!(press(&mut model, "y"), [Effect::Copy(newest)]);
    keys_counted(&mut model, "Left");
    assert_eq!(press(&mut model, "y"), [Effect::Copy("2026-11-21T14:02:17Z".into())]);
}

#[test]
fn a_base_is_taken_where_it_is_missed() {
    let run = Effect::RunSchedule("nightly-orders".into());
    let mut model = with_pitr(Look::default(), SMALL);
    keys(&mut model, "4");
    while model.list(Tab::Services).key.as_deref() != Some("orders-rs") {
        press(&mut model, "j");
    }
    assert_eq!(press(&mut model, "x"), std::slice::from_ref(&run));
    look_again(&mut model, |s| s.pitr[0].ranges.clear());
    keys_counted(&mut model, "r");
    assert!(words(&model).contains("no base yet: nightly-orders is due 22 Nov 02:00; x takes one now"));
    assert_eq!(press(&mut model, "x"), [run]);
    keys_counted(&mut model, "h Left p");
    // Without a schedule nothing is offered, and the key of the list says why.
    look_again(&mut model, |s| {
        s.pitr[0].ranges.clear();
        s.pitr[0].schedules.clear();
    });
    assert_eq!(press(&mut model, "x"), []);
    assert!(!shown(&model).contains("takes one now"), "{}", shown(&model));
    keys(&mut model, "Esc");
    assert_eq!(press(&mut model, "x"), []);
    assert!(words(&model).contains("no point-in-time schedule of orders-rs is on"), "{}", shown(&model));
}

#[test]
fn the_passing_of_seconds_draws_nothing() {
    let mut model = with_pitr(Look::default(), LARGE);
    look_again(&mut model, |s| s.jobs = Default::default());
    for second in 0..29 {
        model.dirty = false;
        update(&mut model, Msg::Clock(now() + TimeDelta::seconds(second)));
        assert!(!model.dirty, "after {second} s");
    }
    update(&mut model, Msg::Clock(now() + TimeDelta::seconds(90)));
    assert!(model.dirty && shown(&model).contains("lag 1 min"), "{}", shown(&model));
}

#[test]
fn point_in_time_needs_the_whole_of_a_logical_backup() {
    let mut model = with_pitr(Look::default(), (150, 50));
    let effects = keys(&mut model, "2 n");
    look_ahead(&mut model, effects);
    to_row(&mut model, "type");
    keys(&mut model, "Right");
    assert_eq!(form(&model).text("type"), "pitr");
    let text = shown(&model);
    assert!(text.contains("(•) point in time"), "{text}");
    let sentence = "Every day at 02:00, Europe/Paris, the whole of orders-rs is backed up to s3-eu/prod, each change \
                    in between is kept, and all of its backups stay.";
    assert!(words(&model).contains(sentence), "{text}");
    while form(&model).focus != Item::Advanced {
        press(&mut model, "Tab");
    }
    press(&mut model, "Enter");
    let text = shown(&model);
    assert!(
        text.lines().any(|l| l.contains("Include") && l.contains("point in time covers the whole service")),
        "{text}"
    );
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::AddSchedule(values)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(values["type"], ["pitr"]);
    // Nothing was made yet: the store says what it made of it.
    let mut made = schedule("orders-rs-daily-2", "users-rs", "0 2 * * *");
    made.backup_type = BackupType::Pitr;
    reply(&mut model, Reply::ScheduleSaved { edited: false, result: Ok(Box::new(made)) });
    let text = shown(&model);
    let said = "its first base is due 22 Nov 02:00; x takes one at once";
    assert!(words(&model).contains(said), "{text}");
    assert_eq!(model.list(Tab::Schedules).key.as_deref(), Some("orders-rs-daily-2"), "x acts on it");
    assert_eq!(press(&mut model, "x"), [Effect::RunSchedule("orders-rs-daily-2".into())]);
}

#[test]
fn an_edit_to_point_in_time_takes_everything() {
    let mut model = with_pitr(Look::default(), LARGE);
    look_again(&mut model, |s| {
        for schedule in s.schedules.iter_mut().filter(|s| s.name == "orders-rs-daily") {
            schedule.selection.include = vec!["shop.*".parse().unwrap()];
        }
    });
    press(&mut model, "2");
    while model.list(Tab::Schedules).key.as_deref() != Some("orders-rs-daily") {
        press(&mut model, "j");
    }
    let effects = press(&mut model, "e");
    look_ahead(&mut model, effects);
    to_row(&mut model, "type");
    press(&mut model, "Right");
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::EditSchedule(_, values)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((&values["include"], &values["exclude"]), (&vec![String::new()], &vec![String::new()]));
}

#[test]
fn recording_ends_only_after_a_question() {
    let question = "Changes of orders-rs are no longer kept from now on";
    let to_nightly = |model: &mut Model| {
        press(model, "2");
        while model.list(Tab::Schedules).key.as_deref() != Some("nightly-orders") {
            press(model, "j");
        }
    };
    let off = Effect::SwitchSchedule("nightly-orders".into(), false);
    let mut model = with_pitr(Look::default(), SMALL);
    to_nightly(&mut model);
    assert_eq!(press(&mut model, "Space"), []);
    assert!(words(&model).contains(question), "{}", shown(&model));
    assert_eq!(press(&mut model, "Enter"), [], "the question begins on Cancel");
    assert_eq!(keys(&mut model, "Space Right Enter"), std::slice::from_ref(&off));
    press(&mut model, "d");
    assert!(words(&model).contains(question), "{}", shown(&model));
    press(&mut model, "Esc");
    // An edit that makes full backups of it.
    let effects = press(&mut model, "e");
    look_ahead(&mut model, effects);
    assert!(!words(&model).contains(question), "{}", shown(&model));
    to_row(&mut model, "type");
    press(&mut model, "Left");
    assert_eq!(form(&model).text("type"), "full");
    assert!(words(&model).contains(question), "{}", shown(&model));
    keys(&mut model, "Esc Right Enter");
    // Backup management as a whole.
    let setting = Effect::SetSetting("backup.enabled".into(), "false".into());
    for key in ["Enter", "e", "Space"] {
        let mut model = with_pitr(Look::default(), SMALL);
        keys(&mut model, "4 l");
        assert_eq!(press(&mut model, key), [], "{key}");
        assert!(words(&model).contains(question), "{key}: {}", shown(&model));
        assert_eq!(keys(&mut model, "Right Enter"), std::slice::from_ref(&setting), "{key}");
    }
    // Where nothing ends, nothing is asked: another schedule records it too, it is off, or nothing is recorded.
    look_again(&mut model, |s| {
        for schedule in s.schedules.iter_mut().filter(|s| s.service == "orders-rs" && s.enabled) {
            schedule.backup_type = BackupType::Pitr;
        }
    });
    assert_eq!(press(&mut model, "Space"), [off]);
    look_again(&mut model, |s| {
        for schedule in &mut s.schedules {
            schedule.enabled = false;
        }
    });
    assert_eq!(press(&mut model, "Space"), [Effect::SwitchSchedule("nightly-orders".into(), true)]);
    assert_eq!(keys(&mut model, "4 l Enter"), [setting]);
}

#[test]
fn what_is_waited_for_is_said_beside_other_notes() {
    let mut model = with_pitr(Look::default(), LARGE);
    let quiet = |model: &mut Model, effects: Vec<Effect>, here: &dyn Fn() -> Result<Vec<u64>, Problem>| {
        for effect in effects {
            if let Effect::Operations { service, from, to, buckets } = effect {
                let result = if buckets == 1 { here() } else { Ok(vec![0; buckets]) };
                reply(model, Reply::Operations { service, from, to, buckets, result });
            }
        }
    };
    let effects = keys(&mut model, "4 r");
    quiet(&mut model, effects, &|| Err(gone("the slice\u{1b} is gone")));
    assert!(words(&model).contains("operations in this second: not counted: the slice"), "{}", shown(&model));
    assert!(!shown(&model).contains("not counted yet"));
    to_row(&mut model, "_time");
    keys(&mut model, "Ctrl-U Ctrl-K");
    let effects = type_text(&mut model, "2026-11-21 15:03:00");
    quiet(&mut model, effects, &|| Ok(vec![0]));
    let waits = "! 21 Nov 2026 15:03:00 CET is not stored yet";
    assert!(words(&model).contains(waits), "{}", shown(&model));
    keys(&mut model, "Shift-Tab p");
    let text = words(&model);
    assert!(text.contains(waits) && text.contains("! no operation in what is drawn here"), "{}", shown(&model));
}

#[test]
fn an_hour_that_came_twice_is_told_with_its_own_offsets() {
    let mut model = with_pitr(Look::default(), LARGE);
    look_again(&mut model, |s| {
        s.settings.iter_mut().find(|(k, _)| k == "ui.timezone").unwrap().1 = "America/New_York".into();
        s.pitr[0].ranges[0].from = "2026-10-30T00:00:00Z".parse().unwrap();
        s.pitr[0].ranges[0].from_ts = Timestamp::new(second("2026-10-30T00:00:00Z"), 1);
    });
    keys_counted(&mut model, "4 r");
    type_time(&mut model, "2026-11-01 01:30:00");
    let said = "the clock showed that time twice; this is the first, -04:00: with -05:00 behind it, it is the second";
    assert!(words(&model).contains(said), "{}", shown(&model));
    type_time(&mut model, "2026-11-01 01:30:00-05:00");
    assert_eq!(at(&model), When::Second(second("2026-11-01T06:30:00Z")));
    assert!(!words(&model).contains("twice"));
}
