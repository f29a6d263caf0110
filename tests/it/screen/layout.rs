//! Where things stand: the line of messages, forms that do not jump, lists to choose from, wide screens.

use mongokeep::domain::job::{JobKind, JobState};
use mongokeep::domain::namespace::{Namespace, NamespaceSize};
use mongokeep::domain::service::{CheckItem, CheckState};
use mongokeep::error::ErrorKind;
use mongokeep::tui::form::{ADD, Item};
use mongokeep::tui::model::{Layer, Level, Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply};
use mongokeep::tui::update::update;

use crate::support::screen::*;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

/// The line with `text`, and which it is.
fn line_of(model: &Model, text: &str) -> (usize, String) {
    let shown = shown(model);
    let found = shown.lines().enumerate().find(|(_, line)| line.contains(text));
    let (at, line) = found.unwrap_or_else(|| panic!("no {text:?} in\n{shown}"));
    (at, line.to_owned())
}

fn problem(kind: ErrorKind, message: &str) -> Problem {
    Problem { kind, field: None, message: message.into(), hint: None }
}

#[test]
fn a_message_stands_on_a_line_of_its_own_and_covers_nothing() {
    for size in [(60, 15), SMALL, LARGE] {
        for open in ["", "4 n", "j r", "l l j j Enter", "Ctrl-P", "?"] {
            let mut model = full(Look::default(), size);
            keys(&mut model, open);
            let before = shown(&model);
            model.emit(Level::Good, "something of interest is done", None);
            let after = shown(&model);
            let differing: Vec<usize> =
                before.lines().zip(after.lines()).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
            assert_eq!(differing, [usize::from(size.1) - 3], "{open} at {size:?}\n{after}");
        }
    }
    // What is too long says so.
    let mut model = full(Look::default(), SMALL);
    model.emit(Level::Warn, "a sentence ".repeat(20), None);
    assert!(line_of(&model, "a sentence").1.contains('…'));
}

#[test]
fn done_takes_the_place_of_queued() {
    let mut model = full(Look::default(), SMALL);
    let queued = job(60, JobKind::Backup, "nightly-20261122", JobState::Queued, 0);
    reply_to_key(&mut model, Reply::Queued { what: "x".into(), result: Ok(queued) });
    assert!(shown(&model).contains("is queued as job 60"));
    let mut snapshot = full_snapshot();
    let jobs = std::sync::Arc::make_mut(&mut snapshot.jobs);
    jobs.insert(0, job(60, JobKind::Backup, "nightly-20261122", JobState::Succeeded, 0));
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    keys(&mut model, "m");
    let text = shown(&model);
    assert!(text.contains("nightly-20261122 is done") && !text.contains("queued"), "{text}");
}

#[test]
fn the_red_count_goes_when_its_cause_has_gone() {
    let mut model = full(Look::default(), SMALL);
    let heard = |heard| Msg::Heard { service: "orders-rs".into(), edition: 0, heard };
    update(&mut model, heard(Ok(())));
    update(&mut model, heard(Err(problem(ErrorKind::Unreachable, "connection refused"))));
    assert!(shown(&model).contains("✗ 1 message (m)"));
    update(&mut model, heard(Ok(())));
    let text = shown(&model);
    assert!(!text.contains("message (m)"), "{text}");
    // The message itself stays.
    keys(&mut model, "m");
    assert!(shown(&model).contains("orders-rs is unreachable: connection refused"));
    // A failed job no longer counts once another one has done the same.
    let mut model = full(Look::default(), SMALL);
    let with = |good: bool| {
        let mut snapshot = full_snapshot();
        let jobs = std::sync::Arc::make_mut(&mut snapshot.jobs);
        jobs.insert(0, job(60, JobKind::Backup, "a", JobState::Failed, 30));
        if good {
            jobs.insert(0, job(61, JobKind::Backup, "b", JobState::Succeeded, 20));
        }
        Msg::Snapshot(Box::new(snapshot))
    };
    update(&mut model, with(false));
    assert!(line_of(&model, "mongokeep").1.contains("✗ 1"), "{}", shown(&model));
    update(&mut model, with(true));
    assert!(!line_of(&model, "mongokeep").1.contains('✗'), "{}", shown(&model));
}

#[test]
fn a_wrong_name_is_told_where_it_is_typed() {
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "j r Ctrl-S");
    let (request, result) = planned();
    reply(&mut model, Reply::RestorePlanned { request, result });
    type_text(&mut model, "orders");
    assert!(press(&mut model, "Enter").is_empty());
    assert!(shown(&model).contains("✗ that is another name; Esc goes back"));
    assert!(model.line_message().is_none(), "it is told once");
    type_text(&mut model, "-rs");
    assert!(!shown(&model).contains("another name"));
}

#[test]
fn esc_leaves_what_is_unchanged_at_once_and_asks_about_the_rest() {
    for open in ["4 n", "3 n", "j n", "2 j e", "j r"] {
        let mut model = full(Look::default(), SMALL);
        keys(&mut model, open);
        keys(&mut model, "Right Left Right Tab Esc");
        assert!(model.layers.is_empty(), "{open}: Left and Right alone are no change");
        keys(&mut model, "Esc");
    }
    for leave in ["d", "Enter"] {
        let mut model = full(Look::default(), SMALL);
        keys(&mut model, "4 n");
        type_text(&mut model, "prod");
        press(&mut model, "Esc");
        assert!(shown(&model).contains("Discard changes?"));
        press(&mut model, leave);
        assert!(model.layers.is_empty(), "{leave}");
    }
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "4 n");
    type_text(&mut model, "prod");
    keys(&mut model, "Esc Esc");
    assert_eq!(form(&model).text("name"), "prod", "Esc keeps editing");
    keys(&mut model, "Backspace Backspace Backspace Backspace Esc");
    assert!(model.layers.is_empty(), "what was typed was taken back");
}

/// The row of each label that the form shows.
fn label_rows(model: &Model) -> Vec<(String, usize)> {
    let text = shown(model);
    let rows = form(model).visible().into_iter().map(|i| form(model).rows[i].field.label);
    rows.filter_map(|label| {
        let at = text.lines().position(|line| line.contains(&format!(" {label}")))?;
        Some((label.to_owned(), at))
    })
    .collect()
}

#[test]
fn no_row_moves_while_the_cursor_goes_through_a_form() {
    for size in [LARGE, (220, 60)] {
        for open in ["4 n", "3 n", "2 j e", "j r", "j n"] {
            let mut model = full(Look::default(), size);
            let effects = keys(&mut model, open);
            look_ahead(&mut model, effects);
            let before = label_rows(&model);
            assert!(before.len() >= 3, "{open}: {before:?}");
            for _ in 0..form(&model).items().len() {
                press(&mut model, "Tab");
                assert_eq!(label_rows(&model), before, "{open} at {size:?}\n{}", shown(&model));
            }
        }
    }
}

#[test]
fn a_form_fills_a_small_screen_and_stands_apart_on_a_large_one() {
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "4 n");
    let text = shown(&model);
    assert!(text.starts_with("┌ Add a service ─"), "{text}");
    assert!(!text.contains("Backups"), "{text}");
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "4 n");
    let (at, line) = line_of(&model, "┌ Add a service");
    let (left, _) = line.split_once('┌').unwrap();
    assert!(left.ends_with(' ') && at > 0, "{line}");
    let above = shown(&model).lines().nth(at - 1).unwrap().to_owned();
    let above: String = above.chars().skip(left.chars().count() - 1).take(94).collect();
    assert_eq!(above.trim(), "", "one clear row above the box");
    // Only the box on top is drawn.
    type_text(&mut model, "prod");
    press(&mut model, "Esc");
    let text = shown(&model);
    assert!(text.contains("Discard changes?") && !text.contains("Add a service"), "{text}");
}

#[test]
fn help_in_a_form_begins_with_the_keys_of_forms() {
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "4 n F1");
    let (forms, _) = line_of(&model, "Forms");
    let (others, line) = line_of(&model, "Backups and jobs");
    assert!(forms < others && line.contains("not in a form"), "{line}");
    assert!(shown(&model).contains("Submit from any field"));
}

#[test]
fn previews_stay_while_a_line_is_typed() {
    let mut model = full(Look::default(), LARGE);
    let effects = keys(&mut model, "2 j j n");
    look_ahead(&mut model, effects);
    to_row(&mut model, "cron");
    let (next, line) = line_of(&model, "next ");
    assert!(line.contains("22 Nov 02:00"), "{line}");
    let warned = |model: &Model| shown(model).contains("overlaps ");
    assert!(warned(&model), "{}", shown(&model));
    press(&mut model, "Backspace");
    let (before, line) = line_of(&model, "before ");
    assert_eq!(before, next);
    assert!(line.contains("22 Nov 02:00"), "{line}");
    assert!(warned(&model), "{}", shown(&model));
    // What was found for another line cannot be taken.
    press(&mut model, "Ctrl-T");
    assert_eq!(form(&model).text("cron"), "0 2 * *");
    let effects = put(&mut model, "cron", "0 0 31 2 *");
    look_ahead(&mut model, effects);
    assert!(shown(&model).contains("never runs: no month has such a day"), "{}", shown(&model));
}

#[test]
fn names_are_chosen_from_a_list() {
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "j n");
    to_row(&mut model, "service");
    press(&mut model, "Enter");
    let text = shown(&model);
    assert!(text.contains("users-rs") && text.contains("+ add a service"), "{text}");
    type_text(&mut model, "users");
    press(&mut model, "Enter");
    assert_eq!(form(&model).text("service"), "users-rs");
    // Left and Right go through what there is.
    to_row(&mut model, "storage");
    assert!(form(&model).row("storage").unwrap().choices.iter().all(|c| c.value != ADD));
    keys(&mut model, "Enter Esc");
    assert_eq!(form(&model).focused().unwrap().field.key, "storage");
    // The last entry adds one, in a form above this one.
    keys(&mut model, "Enter PgDn Enter");
    assert!(shown(&model).contains("Add a storage"));
    keys(&mut model, "Esc");
    // An edit has what it needs.
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "2 j e Enter");
    assert!(!shown(&model).contains("+ add"), "{}", shown(&model));
    keys(&mut model, "Esc");
    to_row(&mut model, "timezone");
    press(&mut model, "Enter");
    type_text(&mut model, "berlin");
    press(&mut model, "Enter");
    assert_eq!(form(&model).text("timezone"), "Europe/Berlin");
    keys(&mut model, "Esc");
    assert!(shown(&model).contains("Discard changes?"), "what was taken from a list is a change");
}

#[test]
fn another_backup_is_chosen_in_the_form_of_a_restore() {
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "j r");
    to_row(&mut model, "backup");
    press(&mut model, "Enter");
    let text = shown(&model);
    assert!(text.contains("before-migration") && text.contains("505 MB"), "{text}");
    for no in ["weekly-46", "nightly-20261119"] {
        assert!(!text.contains(no), "{no} is of another service, or failed\n{text}");
    }
    type_text(&mut model, "migration");
    press(&mut model, "Enter");
    assert!(shown(&model).contains("Restore before-migration"));
    let effects = press(&mut model, "Ctrl-S");
    assert!(
        matches!(&effects[..], [Effect::PlanRestore(request)] if request.backup == "before-migration"),
        "{effects:?}"
    );
}

#[test]
fn namespaces_are_marked_in_a_tree_with_sizes() {
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "j n");
    while form(&model).focus != Item::Advanced {
        press(&mut model, "Tab");
    }
    press(&mut model, "Enter");
    to_row(&mut model, "include");
    let effects = press(&mut model, "Enter");
    assert_eq!(effects, [Effect::Namespaces("orders-rs".into())]);
    assert!(shown(&model).contains("asking what there is"));
    let one = |db: &str, collection: &str| NamespaceSize {
        namespace: Namespace::new(db, collection),
        documents: Some(1_000),
        bytes: Some(2_000_000),
    };
    let found = vec![one("shop", "orders"), one("shop", "ev*nts"), one("audit", "log")];
    reply(&mut model, Reply::NamespacesListed { service: "orders-rs".into(), result: Ok(found) });
    let (_, line) = line_of(&model, "] shop");
    assert!(line.contains("2 collections") && line.contains("4.0 MB"), "{line}");
    let (_, line) = line_of(&model, "] orders");
    assert!(line.contains("1,000 documents") && line.contains("2.0 MB"), "{line}");
    type_text(&mut model, "ev");
    keys(&mut model, "Space");
    keys(&mut model, "Ctrl-U");
    type_text(&mut model, "log");
    keys(&mut model, "Space Enter");
    assert_eq!(form(&model).text("include"), "shop.ev\\*nts, audit.log");
    let values = form(&model).values();
    assert_eq!(values["include"], ["shop.ev\\*nts", "audit.log"]);
    // A restore asks the backup, not a server.
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "j r");
    to_row(&mut model, "include");
    assert_eq!(press(&mut model, "Enter"), [Effect::Manifest("nightly-20261120".into())]);
    reply(&mut model, Reply::Manifest { backup: "nightly-20261120".into(), result: Ok(Box::new(contents())) });
    assert!(shown(&model).contains("] shop"), "{}", shown(&model));
}

#[test]
fn a_wide_screen_shows_no_less_than_a_narrow_one() {
    let heading = |open: &str, width: u16| -> Vec<String> {
        let mut model = with_pitr(Look::default(), (width, 50));
        keys(&mut model, open);
        let text = shown(&model);
        let columns = ["NAME", "BACKUP, SCHEDULE", "ON "];
        let line = text.lines().find(|line| columns.iter().any(|c| line.trim_start().starts_with(c)));
        let line = line.unwrap_or_else(|| panic!("no heading\n{text}")).split('│').next().unwrap().to_owned();
        line.split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect()
    };
    for open in ["", "l l", "3", "4", "2"] {
        let mut before = Vec::new();
        for width in (100..=220).step_by(5) {
            let now = heading(open, width);
            for column in &before {
                assert!(now.contains(column), "{open:?} at {width}: {column} is missing in {now:?}");
            }
            before = now;
        }
    }
}

#[test]
fn a_wide_screen_uses_its_room() {
    let mut model = with_pitr(Look::default(), (220, 60));
    let text = shown(&model);
    let running = text.lines().find(|l| l.contains("running 62 %") && l.contains("nightly-20261121")).unwrap();
    assert!(running.contains('█'), "a bar beside the state: {running}");
    assert!(text.contains("next 22 Nov 02:00"), "{text}");
    // A page has two columns.
    for (at, rate) in [100u64, 142, 90, 120].into_iter().enumerate() {
        let mut snapshot = pitr_snapshot();
        let jobs = std::sync::Arc::make_mut(&mut snapshot.jobs);
        jobs[0].progress.bytes_per_second = rate * 1_000_000;
        jobs[0].progress.bytes_done += at as u64;
        update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    }
    press(&mut model, "Enter");
    let text = shown(&model);
    assert!(text.contains("Throughput") && text.contains("at most 142 MB/s"), "{text}");
    let both = text.lines().filter(|l| l.split("  │  ").filter(|part| !part.trim().is_empty()).count() == 2).count();
    assert!(both > 5, "{text}");
    assert!(text.contains("shop.orders: 900,000 documents"), "{text}");
}

#[test]
fn a_connection_string_shows_all_but_the_password() {
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "4 n");
    put(&mut model, "name", "prod");
    put(&mut model, "uri", "mongodb://backup:s3cr3t@db-0.example.net:27017/?replicaSet=rs0");
    let text = shown(&model);
    assert!(text.contains("mongodb://backup:••••••••@db-0.example.net:27017/"), "{text}");
    for typed in ["mongodb://backup:s3cr3t", "mongodb://backup:12345", "mongodb://backup:s3c/r3t@h", "s3cr3t"] {
        put(&mut model, "uri", typed);
        for secret in ["s3cr3t", "12345", "s3c", "r3t"] {
            assert!(!shown(&model).contains(secret), "{typed}: {}", shown(&model));
        }
    }
    assert_eq!(form(&model).values()["uri"], ["s3cr3t"]);
}

#[test]
fn a_service_is_tried_before_it_is_saved() {
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "4 n");
    put(&mut model, "name", "prod");
    put(&mut model, "uri", "mongodb://h:27017/?replicaSet=rs0");
    while form(&model).focus != Item::Try {
        press(&mut model, "Tab");
    }
    let effects = update(&mut model, Msg::Key(key("Enter")));
    let [Effect::Submitted { ticket, effect }] = &effects[..] else { panic!("{effects:?}") };
    let Effect::TryService { values, .. } = &**effect else { panic!("{effect:?}") };
    assert_eq!(values["name"], ["prod"]);
    assert!(shown(&model).contains("trying it"));
    let item = |title: &str, state, detail: &str| CheckItem {
        id: title.into(),
        title: title.into(),
        state,
        detail: detail.into(),
        remedy: String::new(),
    };
    let items = vec![
        item("Reachable", CheckState::Pass, "h:27017"),
        item("Rights for backup", CheckState::Fail, "the user may not read shop"),
    ];
    reply_to(&mut model, *ticket, Reply::ServiceTried(Ok((info(), items))));
    let text = shown(&model);
    assert!(text.contains("it answers: MongoDB 6.0.5, replica set rs0, 3 members"), "{text}");
    assert!(text.contains("✗ Rights for backup: the user may not read shop"), "{text}");
    assert!(matches!(model.layers.last(), Some(Layer::Form(_))), "nothing is saved");
    // It was about what stood there.
    put(&mut model, "uri", "mongodb://other");
    assert!(!shown(&model).contains("it answers"));
}

#[test]
fn the_page_of_a_failure_says_what_it_means_and_what_to_do() {
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "l l j j j Enter");
    let text = shown(&model).replace('\n', " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "What happened the storage s3-eu did not answer within 10 s",
        "What it means There is no such backup.",
        "The last good backup of orders-rs is nightly-20261120, 11 h ago.",
        "What to do mongokeep storage test s3-eu",
        "or here: 3, select it, t tests the storage",
        "R retries it",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn a_log_is_searched_and_followed() {
    let mut model = full(Look::default(), SMALL);
    let line = |seq: i64| mongokeep::domain::job::LogLine {
        seq,
        at: ago(1),
        attempt: 1,
        level: mongokeep::domain::job::LogLevel::Info,
        message: if seq % 50 == 0 { format!("Needle {seq}") } else { format!("line {seq}") },
    };
    update(&mut model, Msg::Log { job: 54, lines: (10..200).map(line).collect() });
    keys(&mut model, "Enter /");
    type_text(&mut model, "needle");
    let text = shown(&model);
    assert!(text.contains("/needle") && text.contains("1 of 3") && text.contains("Needle 50"), "{text}");
    keys(&mut model, "Enter n");
    assert!(shown(&model).contains("2 of 3") && shown(&model).contains("Needle 100"));
    keys(&mut model, "N N");
    assert!(shown(&model).contains("3 of 3") && shown(&model).contains("Needle 150"));
    press(&mut model, "Esc");
    assert!(!shown(&model).contains("/needle") && model.layers.len() == 1, "Esc ends the search alone");
    press(&mut model, "f");
    assert!(shown(&model).contains("line 199"), "{}", shown(&model));
    update(&mut model, Msg::Log { job: 54, lines: vec![line(201)] });
    assert!(shown(&model).contains("line 201"), "{}", shown(&model));
    press(&mut model, "k");
    update(&mut model, Msg::Log { job: 54, lines: vec![line(202)] });
    assert!(!shown(&model).contains("line 202"), "whoever scrolls back stays there");
    keys(&mut model, "Esc n");
    assert!(shown(&model).contains("Create a backup"), "n is the key of the list again");
}

#[test]
fn a_restore_over_its_own_source_is_louder() {
    let mut model = full(Look::default(), LARGE);
    keys(&mut model, "j r");
    let loud = "orders-rs is the service that this comes from: what is in it now is overwritten";
    assert!(shown(&model).contains(loud), "{}", shown(&model));
    to_row(&mut model, "to");
    press(&mut model, "Right");
    assert!(!shown(&model).contains("comes from"));
}

#[test]
fn the_last_minutes_of_the_coming_day_are_shown() {
    let mut model = full(Look::default(), LARGE);
    press(&mut model, "2");
    for week in [false, true] {
        let days = if week { 7 } else { 1 };
        let (from, until) = model.timeline_window();
        assert!(from <= now() && until >= now() + chrono::TimeDelta::days(days), "{from} to {until}");
        press(&mut model, "w");
    }
}

#[test]
fn the_timeline_of_a_restore_says_which_axis_is_which() {
    let mut model = with_pitr(Look::default(), SMALL);
    keys_counted(&mut model, "4 r + +");
    let (all, upper) = line_of(&model, "all ");
    let (zoomed, _) = line_of(&model, "zoomed ");
    assert!(all < zoomed && upper.contains('[') && upper.contains(']'), "{}", shown(&model));
    // The chart has at least four rows there.
    assert!(zoomed - all > 4, "{}", shown(&model));
}
