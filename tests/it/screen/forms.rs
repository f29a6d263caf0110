//! Forms and the answers to what they submit: which form takes an answer, and what becomes of the others.

use mongokeep::domain::job::{Job, JobKind, JobState};
use mongokeep::error::ErrorKind;
use mongokeep::tui::form::{Form, Item, Purpose};
use mongokeep::tui::model::{Layer, Level, Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply};
use mongokeep::tui::update::update;

use crate::support::screen::*;

const SIZE: (u16, u16) = (80, 24);

fn start() -> Model {
    with_pitr(Look::default(), SIZE)
}

fn form_mut(model: &mut Model) -> &mut Form {
    match model.layers.last_mut() {
        Some(Layer::Form(form)) => form,
        other => panic!("no form on top: {other:?}"),
    }
}

fn problem(message: &str) -> Problem {
    Problem {
        kind: ErrorKind::Conflict,
        field: None,
        message: message.into(),
        hint: Some("look at the storage".into()),
    }
}

fn queued(kind: JobKind) -> Reply {
    Reply::Queued { what: "it was not queued".into(), result: Ok(job(60, kind, "x", JobState::Queued, 0)) }
}

fn to_row(model: &mut Model, key: &str) {
    for _ in 0..40 {
        if form(model).focused().is_some_and(|r| r.field.key == key) {
            return;
        }
        press(model, "Tab");
    }
    panic!("{key} cannot be reached");
}

/// What is emptied in an edit is told from what is not to change, whatever is edited.
#[test]
fn a_field_that_is_emptied_in_an_edit_is_submitted_as_empty() {
    for (open, key) in [("2 e", "timezone"), ("3 e", "prefix"), ("4 e", "cluster")] {
        let mut model = start();
        keys(&mut model, open);
        if form(&model).row_at(key).is_none() {
            keys(&mut model, "Esc j e");
        }
        if let Some(bucket) = form_mut(&mut model).row_mut("bucket") {
            bucket.set("acme-backups");
        }
        to_row(&mut model, key);
        form_mut(&mut model).row_mut(key).unwrap().set("before");
        keys(&mut model, "Ctrl-U");
        assert_eq!(form(&model).text(key), "");
        let mut effects = press(&mut model, "Ctrl-S");
        if form(&model).can_be_tested() {
            effects = tested(&mut model, &effects, &[]);
        }
        let (Effect::EditSchedule(_, values) | Effect::EditStorage(_, values) | Effect::EditService(_, values)) =
            &effects[0]
        else {
            panic!("{open}: {effects:?}")
        };
        assert_eq!(values.get(key), Some(&vec![String::new()]), "{open}: {values:?}");
    }
}

#[test]
fn the_answer_to_a_key_closes_no_form() {
    let answers: [fn() -> Reply; 5] = [
        || queued(JobKind::Backup),
        || queued(JobKind::Restore),
        || Reply::ScheduleSaved { edited: false, result: Ok(Box::new(schedule("s", "orders-rs", "0 2 * * *"))) },
        || Reply::ServiceSaved(Ok(service("third", None))),
        || Reply::StorageSaved(Ok(storage("third", "filesystem", "/x"))),
    ];
    for open in ["n", "2 n", "2 j e", "3 n", "4 n", "j r", "4 r", "4 l j Enter"] {
        for submitted in [false, true] {
            for answer in answers {
                let mut model = start();
                keys(&mut model, open);
                if submitted {
                    press(&mut model, "Ctrl-S");
                }
                let (purpose, waits) = (form(&model).purpose.clone(), form(&model).submitting);
                reply_to_key(&mut model, answer());
                assert_eq!((&form(&model).purpose, form(&model).submitting), (&purpose, waits), "{open}");
            }
        }
    }
    // Nor does it fail one, or take a plan away.
    let mut model = start();
    keys(&mut model, "j r Ctrl-S");
    let (request, result) = planned();
    reply(&mut model, Reply::RestorePlanned { request, result });
    type_text(&mut model, "orders");
    reply_to_key(&mut model, queued(JobKind::Restore));
    reply_to_key(&mut model, Reply::Queued { what: "x is not verified".into(), result: Err(problem("it is in use")) });
    assert!(matches!(&model.layers[..], [Layer::Form(_), Layer::Review(r)] if r.error.is_none()));
    type_text(&mut model, "-rs");
    press(&mut model, "Enter");
    reply(&mut model, queued(JobKind::Restore));
    assert!(model.layers.is_empty(), "its own answer does");
}

#[test]
fn a_late_answer_is_not_for_a_form_that_was_opened_since() {
    let mut model = start();
    keys(&mut model, "j r");
    press(&mut model, "Ctrl-S");
    let first = ticket(&model).unwrap();
    keys(&mut model, "Esc r");
    to_row(&mut model, "include");
    type_text(&mut model, "shop.orders");
    press(&mut model, "Ctrl-S");
    let second = ticket(&model).unwrap();
    assert_ne!(first, second);
    let (request, result) = planned();
    reply_to(&mut model, first, Reply::RestorePlanned { request, result });
    assert!(form(&model).submitting, "that was the plan of everything");
    let (request, _) = planned();
    reply_to(&mut model, first, Reply::RestorePlanned { request, result: Err(problem("too late")) });
    assert!(form(&model).submitting && form(&model).error.is_none());
    let (request, result) = planned();
    reply_to(&mut model, second, Reply::RestorePlanned { request, result });
    assert!(matches!(model.layers.last(), Some(Layer::Review(_))));
    // A form that was closed takes no answer, and its failure is not lost.
    let mut model = start();
    let send = |model: &mut Model| {
        let service = form(model).text("service").to_owned();
        checks_pass(model, &service);
        press(model, "Ctrl-S");
    };
    press(&mut model, "n");
    send(&mut model);
    let closed = ticket(&model).unwrap();
    keys(&mut model, "Esc n");
    send(&mut model);
    let what = || "the backup was not queued".to_owned();
    reply_to(&mut model, closed, Reply::Queued { what: what(), result: Err(problem("no room")) });
    assert!(form(&model).submitting && shown(&model).contains("the backup was not queued: no room"));
    reply_to(&mut model, closed, queued(JobKind::Backup));
    assert_eq!(form(&model).purpose, Purpose::Create);
    let present = ticket(&model).unwrap();
    reply_to(&mut model, present, queued(JobKind::Backup));
    assert!(model.layers.is_empty());
}

#[test]
fn what_was_added_is_picked_where_it_was_asked_for() {
    let mut model = start();
    keys(&mut model, "j r");
    to_row(&mut model, "to");
    // The last entry of its list.
    keys(&mut model, "Enter PgDn Enter");
    assert_eq!(form(&model).purpose, Purpose::AddService);
    type_text(&mut model, "staging");
    press(&mut model, "Tab");
    type_text(&mut model, "mongodb://staging.example.net/?replicaSet=rs0");
    press(&mut model, "Ctrl-S");
    reply(&mut model, Reply::ServiceSaved(Ok(service("staging", None))));
    assert_eq!(form(&model).text("to"), "staging");
    let effects = press(&mut model, "Ctrl-S");
    assert!(matches!(&effects[..], [Effect::PlanRestore(r)] if r.to == "staging"), "{effects:?}");
    // One that was added elsewhere is offered, and picked by nobody.
    let mut model = start();
    keys(&mut model, "n");
    reply_to_key(&mut model, Reply::ServiceSaved(Ok(service("another", None))));
    assert_eq!(form(&model).text("service"), "orders-rs");
    assert!(form(&model).row("service").unwrap().choices.iter().any(|c| c.value == "another"));
}

#[test]
fn only_the_page_of_what_is_gone_is_closed() {
    let mut model = start();
    keys(&mut model, "3 j Enter");
    reply_to_key(&mut model, Reply::StorageRemoved { name: "archive".into(), result: Ok(()) });
    assert!(matches!(&model.layers[..], [Layer::Details { .. }]), "the page of another storage");
    press(&mut model, "?");
    reply_to_key(&mut model, Reply::StorageRemoved { name: "s3-eu".into(), result: Ok(()) });
    assert!(matches!(&model.layers[..], [Layer::Help { .. }]), "its own, below help");
    let mut model = start();
    keys(&mut model, "2 j j Enter");
    reply_to_key(&mut model, Reply::ScheduleRemoved { name: "hourly-users".into(), result: Ok(()) });
    assert_eq!(model.layers.len(), 1);
    reply_to_key(&mut model, Reply::ScheduleRemoved { name: "nightly-orders".into(), result: Ok(()) });
    assert_eq!(model.layers.len(), 0);
}

#[test]
fn what_a_setting_can_be_is_on_the_screen_and_needs_no_list() {
    let mut model = start();
    keys(&mut model, "4 l l l Enter");
    assert!(!shown(&model).contains("Enter list"), "{}", shown(&model));
    keys(&mut model, "Down Enter");
    assert!(matches!(&model.layers[..], [Layer::Form(form)] if form.focus == Item::Submit), "{}", shown(&model));
    let effects = press(&mut model, "Enter");
    assert_eq!(plain(effects), [Effect::SetSetting("ui.theme".into(), "light".into())]);
}

#[test]
fn what_stands_in_a_form_is_kept_and_hides_no_message() {
    let mut model = start();
    model.emit(Level::Good, "something else is done", None);
    press(&mut model, "n");
    let service = form(&model).text("service").to_owned();
    checks_pass(&mut model, &service);
    press(&mut model, "Ctrl-S");
    let what = "the backup was not queued".to_owned();
    reply(&mut model, Reply::Queued { what, result: Err(problem("no room")) });
    assert_eq!(model.line_message().unwrap().text, "something else is done");
    let kept = model.messages.back().unwrap();
    assert_eq!((kept.at, kept.text.as_str()), (now(), "the backup was not queued: no room"));
    assert_eq!(kept.hint.as_deref(), Some("look at the storage"));
    assert_eq!(model.unread_errors(), 1);
    for _ in 0..600 {
        press(&mut model, "Ctrl-S");
        let what = "the backup was not queued".to_owned();
        reply(&mut model, Reply::Queued { what, result: Err(problem("no room")) });
    }
    assert_eq!(model.messages.len(), 500);
    let at: Job = job(60, JobKind::Backup, "x", JobState::Queued, 0);
    press(&mut model, "Ctrl-S");
    reply(&mut model, Reply::Queued { what: String::new(), result: Ok(at) });
    update(&mut model, Msg::Clock(now()));
    assert_eq!(model.line_message().unwrap().text, "backup x is queued as job 60");
    assert_eq!(model.unread_errors(), 0, "what was tried again went well");
}

/// The inside of the box of a plan, without borders and line breaks.
fn boxed(model: &Model) -> String {
    let inside = |line: &str| line.split('│').max_by_key(|part| part.len()).unwrap_or_default().trim().to_owned();
    shown(model).lines().map(inside).collect::<Vec<_>>().join(" ")
}

#[test]
fn help_above_a_form_leaves_it_alone() {
    for open in ["n", "j r", "4 r", "4 l j Enter", "j r Ctrl-S"] {
        for key in ["1", "2", "3", "4", "Tab", "Shift-Tab", "S", "m", "q", "n", "Enter", "Ctrl-P", "h", "l", "o", "e"] {
            let mut model = start();
            keys(&mut model, open);
            if open == "j r Ctrl-S" {
                let (request, result) = planned();
                reply(&mut model, Reply::RestorePlanned { request, result });
                // A plan takes F1 for nothing; help stays from the form when the plan comes late.
                model.layers.push(Layer::Help { filter: Default::default(), filtering: false, scroll: 0 });
            } else {
                press(&mut model, "F1");
            }
            let (screen, tab, before) = (model.screen, model.tab(), model.layers.len());
            assert_eq!(press(&mut model, key), [], "{open}, {key}");
            assert_eq!((model.screen, model.tab(), model.layers.len()), (screen, tab, before), "{open}, {key}");
            assert!(matches!(model.layers.last(), Some(Layer::Help { .. })) && !model.quitting);
        }
        // It scrolls, filters and closes.
        let mut model = start();
        keys(&mut model, "n");
        type_text(&mut model, "x");
        keys(&mut model, "F1 j j");
        assert!(matches!(model.layers.last(), Some(Layer::Help { scroll: 2, .. })));
        press(&mut model, "/");
        type_text(&mut model, "palette");
        assert!(shown(&model).contains("palette"));
        keys(&mut model, "Esc F1");
        assert_eq!(model.layers.len(), 1);
        keys(&mut model, "F1 Esc");
        assert_eq!(model.layers.len(), 1);
    }
    // A click on the top line, and the wheel.
    use crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
    let mut model = start();
    keys(&mut model, "n F1");
    let column = shown(&model).lines().next().unwrap().find("Schedules").unwrap() as u16;
    for kind in [MouseEventKind::Down(MouseButton::Left), MouseEventKind::ScrollDown] {
        update(&mut model, Msg::Mouse(MouseEvent { kind, column, row: 0, modifiers: KeyModifiers::NONE }));
    }
    assert!(matches!(&model.layers[..], [Layer::Form(_), Layer::Help { scroll: 1, .. }]), "{:?}", model.layers);
}

#[test]
fn why_a_restore_was_not_queued_is_whole_and_kept() {
    let mut model = start();
    keys(&mut model, "j r Ctrl-S");
    let (request, result) = planned();
    reply(&mut model, Reply::RestorePlanned { request, result });
    type_text(&mut model, "orders-rs");
    press(&mut model, "Enter");
    let why = "the target orders-rs is being restored by job 58, which has not ended yet, and a second restore of the \
               same namespaces would undo what that one has written";
    let hint = "wait for job 58, or cancel it with mongokeep job cancel 58, and look at what it has left behind first";
    let result = Err(Problem { kind: ErrorKind::Conflict, field: None, message: why.into(), hint: Some(hint.into()) });
    reply(&mut model, Reply::Queued { what: "the restore was not queued".into(), result });
    let text = boxed(&model);
    for part in [why, hint, "Type orders-rs to confirm"] {
        assert!(text.contains(part), "{part}\n{}", shown(&model));
    }
    keys(&mut model, "Esc");
    assert!(model.line_message().is_none(), "it stood in the box");
    let kept = model.messages.back().unwrap();
    assert_eq!(
        (kept.text.as_str(), kept.hint.as_deref()),
        (&*format!("the restore was not queued: {why}"), Some(hint))
    );
}

#[test]
fn a_name_of_a_hundred_characters_can_be_read_and_typed() {
    let long = "a-service-with-a-name-".repeat(5)[..100].to_owned();
    for overwrites in [true, false] {
        let mut model = start();
        keys(&mut model, "j r Ctrl-S");
        let (request, result) = planned();
        let mut plan = result.unwrap();
        plan.to_service.clone_from(&long);
        if !overwrites {
            plan.namespaces.clear();
        }
        reply(&mut model, Reply::RestorePlanned { request, result: Ok(plan) });
        let text = boxed(&model).replace(' ', "");
        assert!(text.contains(&format!("Type{long}toconfirm:")), "{}", shown(&model));
        assert_eq!(text.contains(&format!("Datain{long}willbereplaced.")), overwrites);
        type_text(&mut model, &long);
        assert!(shown(&model).contains(&long[60..]), "the end of what is typed:\n{}", shown(&model));
        assert!(matches!(&press(&mut model, "Enter")[..], [Effect::Restore(..)]));
    }
}

#[test]
fn a_chord_is_no_letter_and_a_window_too_small_takes_no_paste() {
    let mut model = start();
    keys(&mut model, "4 n o r d Alt-f Alt-b Ctrl-L Ctrl-Alt-x");
    assert_eq!(form(&model).text("name"), "ord");
    update(&mut model, Msg::Resize(50, 10));
    update(&mut model, Msg::Paste("ers".into()));
    press(&mut model, "x");
    update(&mut model, Msg::Resize(80, 24));
    assert_eq!(form(&model).text("name"), "ord");
    update(&mut model, Msg::Paste("ers".into()));
    assert_eq!(form(&model).text("name"), "orders");
    // A redraw picks nothing, and a chord filters nothing.
    let mut model = start();
    keys(&mut model, "j r");
    to_row(&mut model, "to");
    keys(&mut model, "Ctrl-L Ctrl-H Alt-l");
    assert_eq!(form(&model).text("to"), "orders-rs");
    keys(&mut model, "Esc / Alt-q");
    assert!(model.list(model.tab()).filter.text().is_empty());
}

#[test]
fn the_zone_stands_beside_times_that_are_read_in_it() {
    let mut model = start();
    keys(&mut model, "4 r");
    to_row(&mut model, "_time");
    for (text, is_read_in_it) in [
        ("2026-11-21 14:41:07", true),
        ("2026-11-21T14:41", true),
        ("2026-11-21T13:41:07Z", false),
        ("2026-11-21 14:41:07+01:00", false),
        ("latest", false),
        ("2026-11-2", true),
    ] {
        keys(&mut model, "Ctrl-U Ctrl-K");
        type_text(&mut model, text);
        assert_eq!(shown(&model).contains("in Europe/Paris"), is_read_in_it, "{text}\n{}", shown(&model));
    }
}

/// A form to restore the second backup, which is one of files.
fn restore_files() -> Model {
    let mut model = start();
    keys(&mut model, "j");
    let selected = model.data.backups[1].name.clone();
    for backup in std::sync::Arc::make_mut(&mut model.data.backups) {
        backup.model = mongokeep::domain::backup::Model::Physical;
    }
    keys(&mut model, "r");
    assert_eq!(form(&model).text("backup"), selected);
    model
}

#[test]
fn files_go_over_a_service_or_into_a_folder() {
    let mut model = restore_files();
    let text = shown(&model);
    for words in ["(•) over a service", "( ) into a data folder", "use restore --time"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("Include") && !text.contains("Users and roles"), "documents are not selected: {text}");
    let effects = press(&mut model, "Ctrl-S");
    let over = |r: &mongokeep::domain::restore::RestoreRequest| r.to == "orders-rs" && r.data_folder.is_none();
    assert!(matches!(&effects[..], [Effect::PlanRestore(r)] if over(r)), "{effects:?}");

    let mut model = restore_files();
    to_row(&mut model, "_where");
    press(&mut model, "Right");
    to_row(&mut model, "to_data_dir");
    type_text(&mut model, "/srv/new");
    to_row(&mut model, "member");
    type_text(&mut model, "a:27017, b:27017");
    let effects = press(&mut model, "Ctrl-S");
    let [Effect::PlanRestore(request)] = &effects[..] else { panic!("{effects:?}") };
    let folder = request.data_folder.as_ref().unwrap();
    assert_eq!((folder.dir.as_str(), folder.members.len(), request.to.as_str()), ("/srv/new", 2, ""));
}

#[test]
fn a_plan_for_a_person_is_read_and_not_confirmed() {
    let mut model = restore_files();
    press(&mut model, "Ctrl-S");
    let (request, plan) = planned();
    let mut plan = plan.unwrap();
    plan.files = serde_json::from_value(serde_json::json!({
        "dir": "/data", "replaces": "/data.old", "only_by_hand": "its replica set has 3 members", "mongod": "",
        "mongod_version": "6.0.5", "replica_set": "rs", "members": [], "files": 1, "bytes": 1, "free_bytes": 1,
        "steps": ["stop all members"], "by_hand": ["users are those of the backup"],
    }))
    .unwrap();
    reply(&mut model, Reply::RestorePlanned { request, result: Ok(plan) });
    let text = shown(&model);
    for words in ["does not do this by itself: its replica set", "stop all members", "The steps are yours to do"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    type_text(&mut model, "orders-rs");
    assert!(!matches!(&press(&mut model, "Enter")[..], [Effect::Restore(..)]), "a person does it");
}
