//! What users of terminal programs expect, one test each. Those about the real terminal (signals, Ctrl-Z, idle bytes,
//! OSC 52, first frame) are in `tui_terminal.rs`.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use mongokeep::client::StorageView;
use mongokeep::domain::backup::{BackupState, BackupType};
use mongokeep::error::{Error, ErrorKind};
use mongokeep::tui::action::{Action, Group};
use mongokeep::tui::common_keys::common_keys;
use mongokeep::tui::form::Item;
use mongokeep::tui::model::{Layer, Load, Look, Model, Screen, Sort, SortKey, Tab};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply, Snapshot};
use mongokeep::tui::update::update;
use mongokeep::tui::view;
use ratatui::style::Modifier;

use crate::support::screen::{self, *};
use crate::support::stopwatch::OwnTime;

const SIZE: (u16, u16) = (80, 24);

fn start() -> Model {
    full(Look::default(), SIZE)
}

/// A catalogue of `n` backups.
fn many(n: usize, size: (u16, u16)) -> Model {
    let mut model = model(Look::default(), size);
    let mut snapshot = full_snapshot();
    snapshot.backups = Arc::new(
        (0..n).map(|i| backup(&format!("b{i:06}"), "orders-rs", i as i64 + 10, BackupState::Succeeded)).collect(),
    );
    snapshot.jobs = Arc::new(Vec::new());
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    model
}

fn problem(message: &str) -> Problem {
    Problem { kind: ErrorKind::Conflict, field: None, message: message.into(), hint: None }
}

fn layers(model: &Model) -> usize {
    model.layers.len()
}

#[test]
fn e01_help_lists_every_active_key_and_filters() {
    for open in ["?", "F1"] {
        let mut model = full(Look::default(), (100, 120));
        press(&mut model, open);
        let text = shown(&model);
        let common = common_keys(&model.keymap, |_| true);
        for action in Action::ALL {
            let row = common.iter().find(|row| row.actions.contains(action));
            let is_said = text.contains(action.title()) || row.is_some_and(|row| text.contains(&row.text));
            assert!(is_said, "{open}: {}", action.name());
            for chord in model.keymap.chords(*action) {
                assert!(text.contains(&chord.to_string()), "{open}: {chord}");
            }
        }
        press(&mut model, "/");
        type_text(&mut model, "palette");
        assert!(!shown(&model).contains(Action::Verify.title()));
        type_text(&mut model, "q");
        assert_eq!(layers(&model), 1, "letters are text in the filter");
    }
}

#[test]
fn help_says_a_key_of_one_meaning_once() {
    let rows = |model: &Model, key: &str| {
        let is_of = |line: &&str| line.get(..20).is_some_and(|keys| keys.split_whitespace().any(|k| k == key));
        shown(model).lines().filter(is_of).map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let mut model = full(Look::default(), (100, 120));
    press(&mut model, "?");
    for key in ["e", "R"] {
        assert_eq!(rows(&model, key).len(), 1, "{key}: {:?}", rows(&model, key));
    }
    // What is deleted is gone, what is removed stays where it is.
    let of_d = rows(&model, "d");
    assert!(of_d.len() == 2 && of_d[0].contains("Delete") && of_d[1].contains("Remove from the list"), "{of_d:?}");
    // First what works here.
    let (screen, text) = ("On several screens  each acts on what its screen lists", shown(&model));
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    assert!(at(screen) < at("Restore the selected backup") && at("Delete the selected") < at("Remove from the list"));
    // What has another meaning elsewhere is said there.
    assert_eq!(rows(&model, "n").len(), 2, "{:?}", rows(&model, "n"));
    assert_eq!(rows(&model, "y").len(), 2, "{:?}", rows(&model, "y"));
    let change = rows(&model, "Space").into_iter().find(|row| row.contains("Change the selected setting"));
    assert!(change.is_some_and(|row| row.starts_with("Space ")), "{}", shown(&model));
    // It is found by what each screen calls it.
    press(&mut model, "/");
    type_text(&mut model, "add_storage");
    assert_eq!(rows(&model, "n").len(), 1, "{}", shown(&model));
    // What this session cannot do is not said.
    let mut model = full(Look { read_only: true, ..Look::default() }, (100, 120));
    press(&mut model, "?");
    assert!(rows(&model, "e").is_empty() && rows(&model, "y").len() == 2, "{}", shown(&model));
}

#[test]
fn e02_movement_works_in_every_list() {
    let mut model = many(200, SIZE);
    let at = |m: &Model| m.list(Tab::Backups).selected;
    for (chord, expected) in [
        ("j", 1),
        ("Down", 2),
        ("k", 1),
        ("Up", 0),
        ("Up", 0),
        ("G", 199),
        ("j", 199),
        ("g", 0),
        ("End", 199),
        ("Home", 0),
    ] {
        press(&mut model, chord);
        assert_eq!(at(&model), expected, "{chord}");
    }
    press(&mut model, "PgDn");
    let page = at(&model);
    assert!(page > 5);
    press(&mut model, "PgUp");
    assert_eq!(at(&model), 0);
    press(&mut model, "Ctrl-D");
    assert!((1..page).contains(&at(&model)));
    press(&mut model, "Ctrl-U");
    assert_eq!(at(&model), 0);
    for (keys_, tab) in [
        ("3", Tab::Storages),
        ("2", Tab::Schedules),
        ("4", Tab::Services),
        ("4 l", Tab::General),
        ("4 l l l l", Tab::Keys),
    ] {
        let mut model = start();
        keys(&mut model, keys_);
        press(&mut model, "j");
        assert_eq!(model.list(tab).selected, 1, "{tab:?}");
        press(&mut model, "G");
        assert_eq!(model.list(tab).selected, model.list(tab).rows.len() - 1, "{tab:?}");
    }
}

#[test]
fn e03_screens_by_number_tab_and_mouse() {
    let mut model = start();
    for (chord, screen) in [
        ("2", Screen::Schedules),
        ("3", Screen::Storage),
        ("4", Screen::Settings),
        ("1", Screen::Backups),
        ("Tab", Screen::Schedules),
        ("Tab", Screen::Storage),
        ("Shift-Tab", Screen::Schedules),
    ] {
        press(&mut model, chord);
        assert_eq!(model.screen, screen, "{chord}");
    }
    let click = |model: &mut Model, column, row| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        update(model, Msg::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }));
    };
    for screen in Screen::ALL {
        let column = shown(&model).lines().next().unwrap().find(screen.title()).unwrap();
        // The sign before "running" takes three bytes for one column.
        let column = shown(&model).lines().next().unwrap()[..column].chars().count() as u16;
        click(&mut model, column, 0);
        assert_eq!(model.screen, screen);
    }
    press(&mut model, "1");
    let row = shown(&model).lines().position(|l| l.contains("before-migration")).unwrap() as u16;
    click(&mut model, 5, row);
    assert_eq!(model.list(Tab::Backups).key.as_deref(), Some("before-migration"));
    click(&mut model, 5, row);
    assert!(matches!(model.layers[..], [Layer::Details { .. }]), "a second click opens");
    // Two clicks that are far apart only select; so does the first click on the row that was selected before.
    keys(&mut model, "Esc g");
    let row = shown(&model).lines().position(|l| l.contains("▸ nightly-20261121")).unwrap() as u16;
    click(&mut model, 5, row);
    update(&mut model, Msg::Clock(now() + chrono::TimeDelta::seconds(1)));
    click(&mut model, 5, row);
    assert_eq!(layers(&model), 0);
}

#[test]
fn e04_esc_closes_one_layer_and_q_is_text_in_a_field() {
    let mut model = start();
    keys(&mut model, "j Enter ?");
    assert_eq!(layers(&model), 2);
    press(&mut model, "Esc");
    assert_eq!(layers(&model), 1);
    press(&mut model, "Esc");
    assert_eq!(layers(&model), 0);
    keys(&mut model, "4 n");
    assert_eq!(type_text(&mut model, "q?1/"), []);
    let Some(Layer::Form(form)) = model.layers.last() else { panic!("the form is gone") };
    assert_eq!(form.text("name"), "q?1/");
    press(&mut model, "Esc");
    assert_eq!(layers(&model), 2, "what was typed is not thrown away unasked");
    press(&mut model, "Esc");
    assert_eq!(layers(&model), 1, "Esc keeps it");
    keys(&mut model, "Esc Enter");
    assert_eq!(layers(&model), 0);
    keys(&mut model, "n Esc");
    assert_eq!(layers(&model), 0, "nothing was typed, nothing is asked");
    press(&mut model, "/");
    type_text(&mut model, "q");
    assert!(!model.quitting);
    assert_eq!(press(&mut model, "Esc"), []);
    assert!(model.list(model.tab()).filter.text().is_empty());
    assert_eq!(press(&mut model, "q"), [Effect::Quit]);
}

#[test]
fn e05_quitting_cancels_nothing() {
    let mut model = start();
    assert!(model.running_jobs().next().is_some());
    assert_eq!(press(&mut model, "q"), [Effect::Quit]);
}

#[test]
fn e06_filter_as_you_type_with_count_and_inversion() {
    let mut model = start();
    press(&mut model, "/");
    type_text(&mut model, "NIGHTLY");
    assert!(shown(&model).contains("3 of 5"));
    press(&mut model, "Enter");
    assert!(!shown(&model).contains("before-migration"));
    press(&mut model, "!");
    assert!(shown(&model).contains("2 of 5") && shown(&model).contains("before-migration"));
    press(&mut model, "Esc");
    assert!(shown(&model).contains("nightly-20261121"));
    press(&mut model, "/");
    type_text(&mut model, "!nightly");
    assert!(shown(&model).contains("2 of 5"));
    type_text(&mut model, "zzz");
    press(&mut model, "Esc");
    press(&mut model, "/");
    type_text(&mut model, "zzz");
    assert!(shown(&model).contains("Nothing matches the filter"));
}

#[test]
fn e07_the_palette_finds_every_action() {
    for action in Action::ALL.iter().filter(|a| **a != Action::Palette) {
        let mut model = full(Look::default(), (140, 40));
        press(&mut model, "Ctrl-P");
        type_text(&mut model, action.title());
        let text = shown(&model);
        let title: String = action.title().chars().take(50).collect();
        let line = text.lines().find(|l| l.contains('▸') && l.contains(&title));
        let line = line.unwrap_or_else(|| panic!("{} is not first:\n{text}", action.name()));
        assert!(line.contains(&model.keymap.first(*action)), "{line}");
    }
    // The running backup cannot be restored; the palette says why, and doing it anyway does nothing but say so.
    let mut model = full(Look::default(), (140, 40));
    press(&mut model, "Ctrl-P");
    type_text(&mut model, Action::Restore.title());
    assert!(shown(&model).contains("only a complete backup can be read back"));
    assert_eq!(press(&mut model, "Enter"), []);
    assert_eq!(layers(&model), 0);
    press(&mut model, "Ctrl-P");
    type_text(&mut model, Action::ScreenStorage.title());
    press(&mut model, "Enter");
    assert_eq!(model.screen, Screen::Storage);
}

#[test]
fn e08_destructive_dialogs_begin_on_cancel() {
    let mut model = start();
    assert_eq!(keys(&mut model, "j d"), [Effect::PlanDelete("nightly-20261120".into())]);
    let planned = |m: &mut Model| {
        let result = Ok(delete_plans("nightly-20261120"));
        reply(m, Reply::DeletePlanned { backup: "nightly-20261120".into(), result });
    };
    planned(&mut model);
    assert_eq!(press(&mut model, "Enter"), [], "Enter alone changes nothing");
    press(&mut model, "d");
    planned(&mut model);
    let delete = |keep_files| Effect::Delete {
        backup: "nightly-20261120".into(),
        keep_files,
        foreign: None,
        increments: Vec::new(),
    };
    assert_eq!(keys(&mut model, "Right Enter"), [delete(true)]);
    press(&mut model, "d");
    planned(&mut model);
    assert_eq!(keys(&mut model, "Right Right Enter"), [delete(false)]);
    // What another installation made goes only once its name was typed.
    press(&mut model, "d");
    let mut plans = delete_plans("nightly-20261120");
    plans.1.foreign = Some(mongokeep::domain::backup::Owner {
        attempt_id: "theirs".into(),
        home_id: Some("0123456789abcdef".into()),
        host: Some("db7".into()),
        service: "orders-rs".into(),
        tool: None,
        started_at: Some(model.now),
        complete: true,
        size_bytes: Some(1),
    });
    reply(&mut model, Reply::DeletePlanned { backup: "nightly-20261120".into(), result: Ok(plans) });
    let text = shown(&model);
    assert!(text.contains("another installation") && text.contains("db7"), "{text}");
    assert_eq!(keys(&mut model, "Right Right Enter"), [], "nothing was typed");
    type_text(&mut model, "nightly-2026112");
    assert_eq!(press(&mut model, "Enter"), [], "not all of it");
    type_text(&mut model, "0");
    let foreign = Some("theirs".to_owned());
    let theirs =
        Effect::Delete { backup: "nightly-20261120".into(), keep_files: false, foreign, increments: Vec::new() };
    assert_eq!(press(&mut model, "Enter"), [theirs]);
    assert_eq!(layers(&model), 0);
    // Neither a step too many nor another chord leads from Cancel to what deletes.
    for away in ["Left", "Up", "h", "k", "Shift-Tab", "Ctrl-L", "Ctrl-J", "Alt-l", "Right Left Left"] {
        press(&mut model, "d");
        planned(&mut model);
        assert_eq!(keys(&mut model, &format!("{away} Enter")), [], "{away}");
        assert_eq!(layers(&model), 0, "{away}");
    }
    // A key that came first was not meant for the question, nor are those that follow.
    for first in ["j", "n", "?"] {
        let mut model = start();
        keys(&mut model, "j d");
        press(&mut model, first);
        let before = layers(&model);
        planned(&mut model);
        assert_eq!(layers(&model), before, "{first}");
    }
    for (open, what) in [("g c", "cancel"), ("2 d", "schedule"), ("3 G d", "storage"), ("4 G d", "service")] {
        let mut model = start();
        // What is in use is not offered to be removed.
        let mut snapshot = full_snapshot();
        snapshot.services.push(service("unused", None));
        snapshot.storages.push(StorageView { backups: 0, ..storage("unused", "filesystem", "/srv/unused") });
        update(&mut model, Msg::Snapshot(Box::new(snapshot)));
        keys(&mut model, open);
        assert!(matches!(model.layers.last(), Some(Layer::Confirm(c)) if c.focus == 0), "{what}");
        assert_eq!(press(&mut model, "Enter"), [], "{what}");
        assert_eq!(layers(&model), 0);
    }
}

#[test]
fn e08_a_restore_needs_the_typed_name_of_the_target() {
    let mut model = start();
    keys(&mut model, "j r");
    let effects = press(&mut model, "Ctrl-S");
    assert!(matches!(&effects[..], [Effect::PlanRestore(r)] if r.to == "orders-rs"), "{effects:?}");
    let (request, result) = planned();
    reply(&mut model, Reply::RestorePlanned { request, result });
    assert_eq!(press(&mut model, "Enter"), []);
    type_text(&mut model, "orders");
    assert_eq!(press(&mut model, "Enter"), [], "half a name is no name");
    type_text(&mut model, "-rs");
    assert!(matches!(&press(&mut model, "Enter")[..], [Effect::Restore(..)]));
    assert_eq!(press(&mut model, "Enter"), [], "it is queued once");
}

#[test]
fn e09_read_only_offers_and_does_nothing_that_changes() {
    let look = Look { read_only: true, ..Look::default() };
    for action in Action::ALL.iter().filter(|a| a.changes()) {
        for at in ["1", "1 j", "1 l l", "2", "3", "4", "4 l", "4 l l"] {
            let mut model = full(look, (140, 40));
            keys(&mut model, at);
            assert!(model.is_hidden(*action), "{}", action.name());
            for chord in model.keymap.all(*action).split(' ') {
                let before = model.screen;
                let effects = press(&mut model, chord);
                let harmless = |e: &Effect| {
                    matches!(
                        e,
                        Effect::Copy(_)
                            | Effect::TestStorage(_)
                            | Effect::CheckStorage(_)
                            | Effect::CheckService(..)
                            | Effect::ServiceInfo(_)
                            | Effect::Timeline { .. }
                            | Effect::FreeSlot(_)
                            | Effect::PlanRetention(_)
                    )
                };
                assert!(effects.iter().all(harmless), "{}: {effects:?}", action.name());
                assert!(!model.layers.iter().any(|l| matches!(l, Layer::Form(_) | Layer::Confirm(_))), "{chord}");
                model.screen = before;
                model.layers.clear();
            }
            press(&mut model, "Ctrl-P");
            type_text(&mut model, action.title());
            let text = shown(&model);
            assert!(!text.contains(&format!("▸ {}", action.title())), "{text}");
        }
    }
}

#[test]
fn e10_failures_stay_in_the_list_and_leave_their_line() {
    let mut model = start();
    reply(&mut model, Reply::StorageRemoved { name: "archive".into(), result: Err(problem("it holds 4 backups")) });
    assert!(shown(&model).contains("it holds 4 backups"));
    model.dirty = false;
    update(&mut model, Msg::Clock(now() + chrono::TimeDelta::seconds(5)));
    assert!(shown(&model).contains("it holds 4 backups"));
    model.dirty = false;
    update(&mut model, Msg::Clock(now() + chrono::TimeDelta::seconds(7)));
    assert!(model.dirty, "the frame without the message is drawn");
    assert!(!shown(&model).contains("it holds 4 backups"));
    assert!(shown(&model).contains("1 message"), "the status line says that there is something");
    press(&mut model, "m");
    assert!(shown(&model).contains("it holds 4 backups"));
}

#[test]
fn e11_sub_views_have_a_breadcrumb() {
    for (open, crumbs) in [
        ("j Enter", "Backups › All backups › nightly-20261120"),
        ("l l Enter", "Backups › Jobs › backup nightly-20261121"),
        ("3 Enter", "Storage › archive"),
        ("3 t", "Storage › test of archive"),
        ("4 Enter", "Settings › Services › orders-rs"),
        ("4 Enter t", "Settings › Services › orders-rs › check of orders-rs"),
        ("m", "Backups › All backups › messages"),
    ] {
        let mut model = start();
        keys(&mut model, open);
        assert!(shown(&model).contains(crumbs), "{open}\n{}", shown(&model));
    }
}

#[test]
fn e12_what_is_lost_is_said_with_the_age_of_what_is_shown() {
    let mut model = start();
    update(&mut model, Msg::Clock(now() + chrono::TimeDelta::minutes(3)));
    update(&mut model, Msg::StoreLost(problem("disk I/O error")));
    let text = shown(&model);
    assert!(text.contains("the store cannot be read, trying again; shown: 3 min ago"), "{text}");
    assert!(text.contains("nightly-20261120"), "what is known stays on the screen");
    update(&mut model, Msg::Snapshot(Box::new(full_snapshot())));
    assert!(!shown(&model).contains("trying again"));

    update(&mut model, Msg::Daemon(daemon(false)));
    assert!(shown(&model).contains("no daemon runs, 1 job waits for one"));
    update(&mut model, Msg::DaemonLost(problem("it did not start")));
    assert!(shown(&model).contains("the daemon is unreachable, trying again"));
    update(&mut model, Msg::Daemon(daemon(true)));
    assert!(!shown(&model).contains("trying again") && shown(&model).contains("daemon ok"));

    let silent = Problem { kind: ErrorKind::Unreachable, ..problem("no answer within 10 s") };
    reply(&mut model, Reply::ServiceInfo { name: "orders-rs".into(), result: Err(silent) });
    assert!(shown(&model).contains("1 of 2 unreachable"));
    reply(&mut model, Reply::ServiceInfo { name: "orders-rs".into(), result: Ok(info()) });
    assert!(shown(&model).contains("2 reachable"));
}

#[test]
fn e12_a_daemon_that_is_gone_is_missed_by_what_is_to_be_recorded() {
    let mut model = with_pitr(Look::default(), SIZE);
    let idle = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = pitr_snapshot();
        snapshot.jobs = Arc::default();
        change(&mut snapshot);
        Msg::Snapshot(Box::new(snapshot))
    };
    update(&mut model, idle(&|_| {}));
    assert!(!model.misses_daemon() && !shown(&model).contains("no daemon"));
    update(&mut model, Msg::Daemon(daemon(false)));
    assert!(model.misses_daemon());
    assert!(
        shown(&model).contains("! no daemon runs, orders-rs is not recorded; shown: just now"),
        "{}",
        shown(&model)
    );
    update(&mut model, Msg::Snapshot(Box::new(pitr_snapshot())));
    assert!(shown(&model).contains("! no daemon runs, 1 job waits for one, orders-rs is not recorded;"));
    update(
        &mut model,
        idle(&|s| {
            s.schedules[1].backup_type = BackupType::Pitr;
        }),
    );
    assert!(shown(&model).contains("! no daemon runs, 2 services are not recorded;"), "{}", shown(&model));
    // Nobody wants it recorded.
    update(&mut model, idle(&|s| s.settings = vec![("backup.enabled".into(), "false".into())]));
    assert!(!model.misses_daemon() && !shown(&model).contains("no daemon"));
    update(
        &mut model,
        idle(&|s| {
            for schedule in &mut s.schedules {
                schedule.enabled = false;
            }
        }),
    );
    assert!(!model.misses_daemon());
    update(&mut model, idle(&|_| {}));
    update(&mut model, Msg::Daemon(daemon(true)));
    assert!(!model.misses_daemon() && !shown(&model).contains("no daemon"));
}

#[test]
fn e13_a_storm_of_resizes_keeps_selection_and_text() {
    let mut model = many(500, SIZE);
    keys(&mut model, "PgDn PgDn j 4 n");
    type_text(&mut model, "half a na");
    let selected = model.list(Tab::Backups).key.clone();
    for i in 0..300u16 {
        update(&mut model, Msg::Resize(i * 7 % 210, i * 13 % 70));
        frame(&model);
    }
    update(&mut model, Msg::Resize(80, 24));
    let Some(Layer::Form(form)) = model.layers.last() else { panic!("the form is gone") };
    assert_eq!(form.text("name"), "half a na");
    keys(&mut model, "Esc Right Enter 1");
    assert_eq!(model.list(Tab::Backups).key, selected);
    let row = format!("▸ {}", selected.unwrap());
    assert!(shown(&model).contains(&row));
}

#[test]
fn e13_below_60x15_nothing_typed_blindly_changes_anything() {
    let mut model = full(Look::default(), (59, 24));
    assert!(shown(&model).contains("needs 60 x 15, this is 59 x 24"));
    assert_eq!(keys(&mut model, "n d c Enter j"), []);
    assert_eq!(layers(&model), 0);
    assert_eq!(press(&mut model, "q"), [Effect::Quit]);
}

#[test]
fn e13_80x24_shows_what_matters() {
    let text = shown(&start());
    for part in
        ["running 62 %", "505 MB", "failed", "verified", "last good 12 h ago", "daemon ok", "15:02", "? help", "q quit"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn e14_without_colour_selection_and_focus_stay_visible() {
    let look = Look { no_color: true, ..Look::default() };
    let mut model = full(look, SIZE);
    let reversed = |model: &Model| {
        let buffer = frame(model).backend().buffer().clone();
        assert!(
            buffer.content.iter().all(|c| c.fg == ratatui::style::Color::Reset && c.bg == ratatui::style::Color::Reset)
        );
        buffer.content.iter().filter(|c| c.modifier.contains(Modifier::REVERSED)).count()
    };
    assert!(reversed(&model) >= 70, "the selected row");
    keys(&mut model, "4 n");
    assert!(reversed(&model) >= 20, "the field with the cursor");
    keys(&mut model, "Esc d");
    assert!(reversed(&model) >= 8, "the button with the focus");
    // A theme that was asked for does not win over NO_COLOR.
    let model = Model::new(look, Some("light".into()), SIZE, now(), chrono_tz::UTC);
    assert!(model.theme.selected.bg.is_none());
}

#[test]
fn e14_ascii_sends_seven_bits_only() {
    let look = Look { ascii: true, ..Look::default() };
    for open in [
        "1",
        "j Enter",
        "l",
        "l l",
        "2",
        "2 t",
        "2 j j Enter",
        "2 n",
        "3",
        "3 n",
        "4",
        "4 l",
        "4 l l l l",
        "4 h",
        "1 n",
        "?",
        "Ctrl-P",
        "m",
        "j r",
        "c",
    ] {
        for size in [(80, 24), (160, 50), (59, 10)] {
            let mut model = full(look, size);
            let mut snapshot = full_snapshot();
            snapshot.services[0].cluster = Some("日本 é \u{1b}[2J".into());
            update(&mut model, Msg::Snapshot(Box::new(snapshot)));
            let effects = keys(&mut model, open);
            look_ahead(&mut model, effects);
            let text = shown(&model);
            assert!(text.is_ascii() && !text.contains('\u{1b}'), "{open} {size:?}\n{text}");
        }
    }
}

#[test]
fn e15_state_is_a_word_and_motion_can_stop() {
    let mut still = full(Look { no_motion: true, ..Look::default() }, SIZE);
    let before = shown(&still);
    still.dirty = false;
    update(&mut still, Msg::Clock(now() + chrono::TimeDelta::seconds(1)));
    assert!(!still.dirty && shown(&still) == before, "nothing moves");
    let mut snapshot = full_snapshot();
    let mut jobs = (*snapshot.jobs).clone();
    jobs[0].progress.bytes_done = 500_000_000;
    snapshot.jobs = Arc::new(jobs);
    update(&mut still, Msg::Snapshot(Box::new(snapshot)));
    assert!(shown(&still).contains("running 99 %"), "progress still does");

    let mut moving = start();
    let mut seen = std::collections::BTreeSet::new();
    for tenth in 1..10 {
        update(&mut moving, Msg::Clock(now() + chrono::TimeDelta::milliseconds(tenth * 120)));
        seen.insert(shown(&moving).lines().find(|l| l.contains("running 62")).unwrap().to_owned());
    }
    assert!(seen.len() > 3, "the spinner turns");
}

#[test]
fn e16_nothing_is_drawn_while_nothing_changes() {
    let mut model = empty(SIZE);
    model.dirty = false;
    for second in 1..29 {
        update(&mut model, Msg::Clock(now() + chrono::TimeDelta::seconds(second)));
        assert!(!model.dirty, "second {second}");
    }
    update(&mut model, Msg::Clock(now() + chrono::TimeDelta::seconds(31)));
    assert!(model.dirty, "the minute of the clock");
}

#[test]
fn e17_a_key_is_a_frame_in_50_ms_with_100_000_backups() {
    // Without optimisation the same code is more than ten times slower, and tests run beside each other.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 1_500 } else { 50 });
    let mut model = many(100_000, (160, 50));
    let mut worst = ("", Duration::ZERO);
    for chord in
        ["j", "G", "k", "PgUp", "g", "PgDn", "o", "O", "/", "9", "9", "7", "Enter", "j", "Enter", "Esc", "Ctrl-P"]
    {
        let began = OwnTime::start();
        press(&mut model, chord);
        let pressed = began.elapsed();
        // The test terminal itself is not what is measured: it compares every cell in debug code.
        let mut terminal = frame(&model);
        let drawing = OwnTime::start();
        terminal.draw(|f| view::draw(f, &model)).unwrap();
        let took = pressed + drawing.elapsed();
        if took > worst.1 {
            worst = (chord, took);
        }
    }
    println!("slowest key: {} {:?}", worst.0, worst.1);
    assert!(worst.1 < limit, "{worst:?}");
}

#[test]
fn e19_copies_and_pastes() {
    let mut model = start();
    assert_eq!(keys(&mut model, "j y"), [Effect::Copy("nightly-20261120".into())]);
    let result = Err("this terminal has no clipboard".into());
    reply(&mut model, Reply::Copied { text: "nightly-20261120".into(), result });
    assert!(shown(&model).contains("not copied: this terminal has no clipboard"));
    assert_eq!(keys(&mut model, "3 j y"), [Effect::Copy("s3://acme-backups/prod".into())]);

    assert_eq!(update(&mut model, Msg::Paste("qd\rn".into())), []);
    assert!(layers(&model) == 0 && !model.quitting, "a paste is never keys");
    keys(&mut model, "4 n");
    update(&mut model, Msg::Paste("orders\r\n".into()));
    press(&mut model, "Tab");
    update(&mut model, Msg::Paste("mongodb://u:p@h/?a=b\n".into()));
    let Some(Layer::Form(form)) = model.layers.last() else { panic!("the form is gone") };
    assert_eq!((form.text("name"), form.text("uri")), ("orders", "mongodb://u:p@h/?a=b"));
    assert!(!shown(&model).contains("u:p"), "a secret is not shown");
}

#[test]
fn e20_order_and_theme_persist_and_forms_keep_their_values() {
    let mut model = start();
    assert_eq!(press(&mut model, "o"), [Effect::SetSetting("ui.sort".into(), "name".into())]);
    assert_eq!(press(&mut model, "O"), [Effect::SetSetting("ui.sort".into(), "-name".into())]);
    let mut again = screen::model(Look::default(), SIZE);
    let mut snapshot = full_snapshot();
    for (key, value) in &mut snapshot.settings {
        match key.as_str() {
            "ui.sort" => *value = "-name".into(),
            "ui.theme" => *value = "light".into(),
            _ => {}
        }
    }
    let dark = again.theme.clone();
    update(&mut again, Msg::Snapshot(Box::new(snapshot)));
    assert_eq!(again.sort, Sort { key: SortKey::Name, reversed: true });
    assert_ne!(again.theme, dark);
    keys(&mut again, "4 l l l");
    // A theme is seen while it is chosen, and Esc goes back to the one before.
    let light = again.theme.clone();
    keys(&mut again, "Enter Down");
    assert_eq!(Some(&again.theme), again.themes.get("colour-blind"));
    press(&mut again, "Esc");
    assert_eq!((layers(&again), &again.theme), (0, &light));
    keys(&mut again, "Enter Down Down");
    let chosen = Effect::SetSetting("ui.theme".into(), "mono".into());
    assert_eq!(press(&mut again, "Ctrl-S"), [chosen]);

    // From the plan back to the form, everything is still there.
    keys(&mut model, "1 g");
    while model.list(Tab::Backups).key.as_deref() != Some("nightly-20261120") {
        press(&mut model, "j");
    }
    keys(&mut model, "r Tab");
    type_text(&mut model, "shop");
    press(&mut model, "Ctrl-S");
    let (request, result) = planned();
    reply(&mut model, Reply::RestorePlanned { request, result });
    press(&mut model, "Esc");
    let Some(Layer::Form(form)) = model.layers.last() else { panic!("the form is gone") };
    assert_eq!(form.text("include"), "shop");
    assert!(!form.submitting);
}

#[test]
fn e21_a_first_start_leads_by_the_hand() {
    let mut model = empty(SIZE);
    assert!(shown(&model).contains("Three steps to the first backup"));
    press(&mut model, "Enter");
    assert!(shown(&model).contains("Add a service"));
    type_text(&mut model, "orders");
    press(&mut model, "Enter");
    type_text(&mut model, "mongodb://127.0.0.1:27017/?replicaSet=rs0");
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::AddService(values)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(values["name"], ["orders"]);
    reply(&mut model, Reply::ServiceSaved(Ok(service("orders", None))));
    assert!(shown(&model).contains("▸ 2  Add a storage"), "{}", shown(&model));

    press(&mut model, "Enter");
    type_text(&mut model, "local");
    keys(&mut model, "Tab Tab");
    type_text(&mut model, "/srv/backups");
    // Without recipients nothing is encrypted.
    let effects = press(&mut model, "Ctrl-S");
    let effects = tested(&mut model, &effects, &[]);
    assert!(matches!(&effects[..], [Effect::AddStorage(v)] if v["path"] == ["/srv/backups"]), "{effects:?}");
    reply(&mut model, Reply::StorageSaved(Ok(storage("local", "filesystem", "/srv/backups"))));

    let effects = press(&mut model, "Enter");
    assert!(effects.contains(&Effect::SuggestName("orders".into())));
    reply(&mut model, Reply::NameSuggested { service: "orders".into(), result: Ok("orders-20261121-1502".into()) });
    assert!(
        matches!(model.check("orders", mongokeep::domain::backup::Model::Logical), Some(Load::Waiting)),
        "prerequisites are checked live"
    );
    checks_pass(&mut model, "orders");
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::CreateBackup(values)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((&values["name"][0], &values["storage"][0]), (&"orders-20261121-1502".into(), &"local".into()));
    assert!(!values.keys().any(|k| k.starts_with('_')));
}

#[test]
fn a_service_or_storage_can_be_added_from_within_the_form() {
    let mut model = start();
    keys(&mut model, "n Tab Tab Tab Tab");
    let focus = |m: &Model| match m.layers.last() {
        Some(Layer::Form(form)) => form.focused().map(|r| r.field.key),
        _ => None,
    };
    assert_eq!(focus(&model), Some("storage"));
    // The last entry of its list.
    keys(&mut model, "Enter PgDn Enter");
    assert_eq!(layers(&model), 2, "a form above the form");
    type_text(&mut model, "s3-us");
    keys(&mut model, "Tab Tab");
    type_text(&mut model, "/x");
    let effects = press(&mut model, "Ctrl-S");
    tested(&mut model, &effects, &[]);
    reply(&mut model, Reply::StorageSaved(Ok(storage("s3-us", "filesystem", "/x"))));
    let Some(Layer::Form(form)) = model.layers.last() else { panic!("the form is gone") };
    assert_eq!(form.text("storage"), "s3-us", "what was added is picked");
}

#[test]
fn what_was_picked_is_never_replaced() {
    let of = |model: &Model, key: &str| match model.layers.last() {
        Some(Layer::Form(form)) => {
            let row = form.row(key).unwrap();
            (row.value().to_owned(), row.error.clone())
        }
        other => panic!("no form on top: {other:?}"),
    };
    let look = |model: &mut Model, change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = full_snapshot();
        change(&mut snapshot);
        update(model, Msg::Snapshot(Box::new(snapshot)));
    };
    // "Add one" stays while jobs make progress.
    let mut model = start();
    keys(&mut model, "n Tab Tab Tab Tab");
    look(&mut model, &|s| s.storages.clear());
    press(&mut model, "Right");
    assert!(shown(&model).contains("+ add a storage, Enter"), "{}", shown(&model));
    look(&mut model, &|s| s.storages.clear());
    assert!(shown(&model).contains("+ add a storage, Enter"), "{}", shown(&model));
    press(&mut model, "Enter");
    assert_eq!(layers(&model), 2, "a form above the form");
    // The target is removed by somebody else, and comes back.
    let mut model = start();
    keys(&mut model, "j r");
    assert_eq!(of(&model, "to"), ("orders-rs".into(), None));
    look(&mut model, &|s| s.services.retain(|s| s.name != "orders-rs"));
    let gone = "orders-rs is gone: pick another".to_owned();
    assert_eq!(of(&model, "to"), ("orders-rs".into(), Some(gone)));
    assert_eq!(press(&mut model, "Ctrl-S"), []);
    assert!(shown(&model).contains("orders-rs is gone"), "{}", shown(&model));
    look(&mut model, &|_| {});
    assert_eq!(of(&model, "to"), ("orders-rs".into(), None));
    assert!(matches!(&press(&mut model, "Ctrl-S")[..], [Effect::PlanRestore(r)] if r.to == "orders-rs"));
    // A backup of a service that this machine does not know: nothing is chosen for anybody.
    let mut model = start();
    look(&mut model, &|s| Arc::make_mut(&mut s.backups)[1].service = "elsewhere".into());
    keys(&mut model, "j r");
    assert_eq!(of(&model, "to").0, "");
    assert!(shown(&model).contains("pick a service"), "{}", shown(&model));
    assert_eq!(press(&mut model, "Ctrl-S"), []);
    assert_eq!(of(&model, "to").1.as_deref(), Some("is needed"));
    press(&mut model, "Right");
    assert!(matches!(&press(&mut model, "Ctrl-S")[..], [Effect::PlanRestore(r)] if r.to == "orders-rs"));
}

#[test]
fn errors_of_the_client_stand_at_their_field() {
    let mut model = start();
    keys(&mut model, "n Tab Tab Tab Tab Tab Tab");
    checks_pass(&mut model, "orders-rs");
    press(&mut model, "Ctrl-S");
    let result = Err(Error::invalid("name", "nightly-20261120 is taken").into());
    reply(&mut model, Reply::Queued { what: "the backup was not queued".into(), result });
    let Some(Layer::Form(form)) = model.layers.last() else { panic!("the form is gone") };
    assert_eq!(form.row("name").unwrap().error.as_deref(), Some("nightly-20261120 is taken"));
    assert!(matches!(form.focus, Item::Row(_)) && !form.submitting);
    press(&mut model, "m");
    press(&mut model, "Ctrl-S");
    let result = Err(problem("orders-rs has a restore running"));
    reply(&mut model, Reply::Queued { what: "the backup was not queued".into(), result });
    assert!(shown(&model).contains("orders-rs has a restore running"));
}

#[test]
fn backup_management_off_hides_create() {
    let mut model = start();
    let mut snapshot = full_snapshot();
    snapshot.settings = vec![("backup.enabled".into(), "false".into())];
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    assert!(!shown(&model).contains("n new"));
    assert_eq!(press(&mut model, "n"), []);
    assert!(shown(&model).contains("mongokeep settings set backup.enabled true"), "{}", shown(&model));
}

#[test]
fn text_from_servers_cannot_reach_the_terminal() {
    let mut model = start();
    let mut snapshot = full_snapshot();
    let evil = "a\u{1b}]52;c;aGk=\u{7}\u{9b}2J\u{202e}b";
    snapshot.services[0].uri = evil.into();
    let mut backups = (*snapshot.backups).clone();
    backups[1].error = Some(evil.into());
    backups[1].server_version = Some(evil.into());
    snapshot.backups = Arc::new(backups);
    let mut jobs = (*snapshot.jobs).clone();
    jobs[0].phase = evil.into();
    jobs[3].error = Some(evil.into());
    snapshot.jobs = Arc::new(jobs);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    reply(&mut model, Reply::StorageRemoved { name: evil.into(), result: Err(problem(evil)) });
    for open in ["1", "Enter", "Esc j Enter", "1 l l j j j Enter", "4 Enter", "4", "m"] {
        keys(&mut model, open);
        let text = shown(&model);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n') && !text.contains('\u{202e}'), "{open}\n{text}");
    }
}

#[test]
fn a_waiting_backup_is_in_the_list_before_it_is_in_the_catalogue() {
    use mongokeep::domain::job::{JobKind, JobState};
    let mut model = start();
    let mut snapshot = full_snapshot();
    let mut jobs = (*snapshot.jobs).clone();
    jobs.insert(0, job(55, JobKind::Backup, "fresh", JobState::Queued, 0));
    snapshot.jobs = Arc::new(jobs);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    let text = shown(&model);
    let line = text.lines().find(|l| l.contains("fresh")).unwrap();
    assert!(line.contains("queued"), "{line}");
    assert!(text.contains("All backups (6)"));
}

#[test]
fn a_job_that_came_and_ended_between_two_looks_is_announced() {
    use mongokeep::domain::job::{JobKind, JobState};
    let mut model = start();
    assert_eq!(model.messages.len(), 0, "what was there before is no news");
    let mut snapshot = full_snapshot();
    let mut jobs = (*snapshot.jobs).clone();
    jobs.insert(0, job(55, JobKind::Verify, "weekly-46", JobState::Succeeded, 0));
    snapshot.jobs = Arc::new(jobs);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    assert!(shown(&model).contains("verify weekly-46 is done"));
}

#[test]
fn what_happens_by_itself_interrupts_only_when_it_fails() {
    use mongokeep::domain::job::{JobKind, JobState};
    let mut model = start();
    let mut snapshot = full_snapshot();
    let mut jobs = (*snapshot.jobs).clone();
    for (id, state) in [(55, JobState::Succeeded), (56, JobState::Failed)] {
        let mut job = job(id, JobKind::Backup, &format!("by-itself-{id}"), state, 0);
        job.schedule = Some("nightly".into());
        jobs.insert(0, job);
    }
    snapshot.jobs = Arc::new(jobs);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    let texts: Vec<&str> = model.messages.iter().map(|m| m.text.as_str()).collect();
    assert!(matches!(texts[..], [one] if one.contains("by-itself-56 failed")), "{texts:?}");
}

#[test]
fn every_group_of_keys_is_reachable() {
    let mut seen = std::collections::BTreeSet::new();
    for open in ["1", "2", "3", "4", "4 l", "4 l l", "4 t"] {
        let mut model = start();
        keys(&mut model, open);
        seen.extend(model.groups());
    }
    // Those of a search work while something is looked for in a page.
    let mut model = start();
    keys(&mut model, "Enter /");
    type_text(&mut model, "a");
    seen.extend(model.groups());
    // Those of the timeline work inside a form only; the help that is asked for there lists them.
    let mut model = start();
    keys(&mut model, "j r");
    seen.extend(model.groups_below());
    assert_eq!(seen.len(), Group::ALL.len());
}

mod sizes {
    use super::*;
    use proptest::prelude::*;

    const PLACES: &[&str] = &[
        "1",
        "j Enter",
        "Enter",
        "l",
        "l l",
        "2",
        "2 j Enter",
        "2 t",
        "2 t w",
        "2 n",
        "2 j e Tab Tab Tab Tab Tab Tab Tab",
        "2 d",
        "3",
        "3 Enter",
        "3 n",
        "3 n Tab Right",
        "3 j t",
        "3 s",
        "3 d",
        "4",
        "4 Enter",
        "4 n",
        "4 t",
        "4 l",
        "4 l j Enter",
        "4 l l",
        "4 l l l",
        "4 h",
        "1 n",
        "1 n Ctrl-S",
        "?",
        "? /",
        "Ctrl-P",
        "m",
        "j r",
        "c",
        "/",
        "n ?",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_size_panics(width in 1u16..200, height in 1u16..60, place in 0..PLACES.len(), ascii: bool, later in (1u16..200, 1u16..60)) {
            let look = Look { ascii, ..Look::default() };
            // Opened at a size where keys work, then squeezed.
            let mut model = full(look, (100, 30));
            keys(&mut model, PLACES[place]);
            reply(&mut model, Reply::ServiceChecked { name: "orders-rs".into(), model: mongokeep::domain::backup::Model::Logical, result: Ok(check_report(false)) });
            if PLACES[place] == "j r" {
                press(&mut model, "Ctrl-S");
                let (request, result) = planned();
                reply(&mut model, Reply::RestorePlanned { request, result });
                keys(&mut model, "Down Down PgDn");
            }
            update(&mut model, Msg::Resize(width, height));
            frame(&model);
            keys(&mut model, "PgDn");
            frame(&model);
            // The model may learn of a new size one frame late.
            model.size = later;
            let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(width, height)).unwrap();
            terminal.draw(|f| view::draw(f, &model)).unwrap();
        }
    }
}

/// An identity is asked for where one is needed and no setting names it, before anything is queued.
#[test]
fn an_encrypted_backup_asks_for_its_identity() {
    use mongokeep::domain::backup::BackupEncryption;
    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let mut model = start();
    let at = model.data.backups.iter().position(|b| b.state == BackupState::Succeeded).unwrap();
    let name = model.data.backups[at].name.clone();
    assert!(mongokeep::tui::forms::verify(&model, &name).is_none());
    Arc::make_mut(&mut model.data.backups)[at].encryption =
        Some(BackupEncryption { recipients: vec![RECIPIENT.parse().unwrap()] });
    let form = mongokeep::tui::forms::verify(&model, &name).expect("a form");
    assert!(form.rows.len() == 1 && form.rows[0].field.required);
    let form = mongokeep::tui::forms::restore_backup(&model, &name).expect("a form");
    assert!(form.rows.iter().any(|row| row.field.key == "identity_file" && row.field.required));
}

/// Settings are named and valued in words; what is picked or typed is what is saved.
#[test]
fn settings_are_labelled_choices() {
    let mut model = full(Look::default(), (160, 50));
    keys(&mut model, "4 l");
    let text = shown(&model);
    for words in ["Compression", "zstd 2, fast", "1 GiB", "no limit", "4 at once"] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(text.contains("off: nothing starts a backup, and no changes are kept for point in time"), "{text}");
    let saves = |model: &mut Model, key: &str, value: &str| {
        assert_eq!(press(model, "Ctrl-S"), [Effect::SetSetting(key.into(), value.into())]);
        reply(model, Reply::SettingSaved { key: key.into(), result: Ok(()) });
    };
    keys(&mut model, "j Enter Down");
    saves(&mut model, "backup.compression", "zstd:6");
    // The last one offered is any other.
    keys(&mut model, "j Enter Up Up Up Tab Ctrl-U");
    type_text(&mut model, "6");
    saves(&mut model, "backup.parallel_collections", "6");
    keys(&mut model, "Enter Up Up Up Tab Ctrl-U");
    type_text(&mut model, "0");
    assert_eq!(press(&mut model, "Ctrl-S"), []);
    assert!(shown(&model).contains("must be a whole number from 1 to 64"), "{}", shown(&model));
}
