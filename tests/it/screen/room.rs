//! What there is room for is shown: names before blank columns, the worst first, and nothing glued to its neighbour.

use chrono::TimeDelta;
use mongokeep::domain::backup::{BackupState, Model as DataModel};
use mongokeep::domain::service::{CheckItem, CheckState};
use mongokeep::error::ErrorKind;
use mongokeep::tui::model::{Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply, Snapshot};
use mongokeep::tui::update::update;

use crate::support::screen::*;

const LOW: (u16, u16) = (60, 15);
const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

fn with(size: (u16, u16), snapshot: Snapshot) -> Model {
    let mut model = full(Look::default(), size);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    model
}

fn line(model: &Model, text: &str) -> String {
    let shown = shown(model);
    shown.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in\n{shown}")).to_owned()
}

/// Many services whose names differ at their ends only, with backups to match.
fn alike() -> Snapshot {
    let mut snapshot = pitr_snapshot();
    let services = (1..=18).map(|i| service(&format!("svc-of-the-second-data-centre-{i:02}"), Some(700)));
    snapshot.services.extend(services);
    let backups = std::sync::Arc::make_mut(&mut snapshot.backups);
    for i in (1..=9).rev() {
        let name = format!("reports-nightly-2026112{i}");
        backups.insert(0, backup(&name, "orders-rs", i64::from(i) * 3, BackupState::Succeeded));
    }
    let jobs = std::sync::Arc::make_mut(&mut snapshot.jobs);
    let of = |b: &mongokeep::domain::backup::Backup| {
        job(90, mongokeep::domain::job::JobKind::Backup, &b.name, mongokeep::domain::job::JobState::Succeeded, 30)
    };
    jobs.extend(backups.iter().filter(|b| b.name.starts_with("reports")).map(of));
    snapshot
}

#[test]
fn a_wide_list_shows_whole_names() {
    for size in [(100, 24), (120, 30), LARGE, (200, 50)] {
        let mut model = with(size, alike());
        keys(&mut model, "4 l");
        if !shown(&model).contains("CONNECTION") && !shown(&model).contains("LAST GOOD") {
            keys(&mut model, "h");
        }
        if size.0 >= 120 {
            line(&model, "svc-of-the-second-data-centre-01");
        }
        let mut model = with(size, alike());
        for tab in ["", "l l"] {
            keys(&mut model, tab);
            for i in 1..=3 {
                line(&model, &format!("reports-nightly-2026112{i} "));
            }
        }
    }
    // Beside the details of the selected one, too.
    let model = with(LARGE, alike());
    assert!(line(&model, "reports-nightly-20261121 ").contains('│'), "{}", shown(&model));
}

#[test]
fn a_narrow_list_shows_what_matters() {
    let model = with(LOW, alike());
    let heading = line(&model, "NAME");
    for column in ["STATE", "SIZE", "AGE"] {
        assert!(heading.contains(column), "{heading}");
    }
    let mut model = full(Look::default(), LOW);
    keys(&mut model, "4");
    let heading = line(&model, "NAME");
    assert!(heading.contains("STATE") && heading.contains("LAST GOOD") && heading.contains("BACKUPS"), "{heading}");
    // The switch of a schedule is one sign wide.
    let mut model = full(Look::default(), LOW);
    keys(&mut model, "2");
    let row = line(&model, "▸ ");
    assert!(row.starts_with(" ▸ ○  before-the-migration"), "{row}");
}

#[test]
fn what_fails_is_the_first_of_a_check() {
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "4");
    let mut report = check_report(false);
    let pass = |i: usize| CheckItem {
        id: format!("pass-{i}"),
        title: format!("User name and password are accepted {}", "!".repeat(i)),
        state: CheckState::Pass,
        detail: "it is".into(),
        remedy: String::new(),
    };
    report.items.splice(0..0, (0..8).map(pass));
    keys(&mut model, "t");
    let reply_to_check =
        Reply::ServiceChecked { name: "orders-rs".into(), model: DataModel::Logical, result: Ok(report) };
    reply(&mut model, reply_to_check);
    let text = shown(&model);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in\n{text}"));
    assert!(at("Rights for a restore") < at("Oplog window") && at("Oplog window") < at("accepted"), "{text}");
    assert!(text.contains("accepted          pass"), "the words of states stand in a column\n{text}");
    // What is copied is what is selected.
    assert_eq!(model.selected_remedy().as_deref(), Some("db.grantRolesToUser(\"backup\", [\"restore\"])"));
    keys(&mut model, "j");
    assert_eq!(model.selected_remedy().as_deref(), Some("db.adminCommand({replSetResizeOplog: 1, size: 16384})"));
}

#[test]
fn the_strip_shows_every_service_where_the_list_is_short() {
    let mut snapshot = full_snapshot();
    snapshot.services.push(service("zebra-rs", Some(100)));
    let model = with(SMALL, snapshot);
    line(&model, "zebra-rs");
    assert!(!shown(&model).contains("more service"), "{}", shown(&model));
    // Where it is long, the rest is counted on a line of its own.
    let mut snapshot = alike();
    for i in 0..20 {
        let backups = std::sync::Arc::make_mut(&mut snapshot.backups);
        backups.push(backup(&format!("old-{i}"), "orders-rs", 20_000 + i, BackupState::Succeeded));
    }
    for size in [LOW, SMALL] {
        let model = with(size, snapshot.clone());
        let more = line(&model, "more services");
        assert!(more.starts_with("────") && more.ends_with("more services ──"), "{more}");
    }
}

#[test]
fn the_strip_shows_whole_names_where_there_is_room() {
    // Some that are recorded and some that are not, as wide as the name and the least of the others are together.
    for (recorded, room) in [(true, 54), (false, 49)] {
        for width in (80..=220).step_by(4) {
            let longest = "orders-of-the-second-data-centre-".repeat(9);
            let name = format!("{}-1", &longest[..usize::from(width) - room - 2]);
            let mut snapshot = if recorded { pitr_snapshot() } else { full_snapshot() };
            snapshot.services = vec![service(&name, Some(700)), service("users-rs", Some(700))];
            for status in &mut snapshot.pitr {
                status.service.clone_from(&name);
            }
            let model = with((width, 30), snapshot);
            let row = line(&model, &format!("{name}  last good 11 h ago"));
            assert!(row.contains(&name), "at {width}: {row}");
            assert!(!recorded || row.contains("44 h → 15:02:17"), "at {width}: {row}");
        }
    }
    // More room shows more of the others, never less of a name.
    for width in (80..=220).step_by(4) {
        let mut snapshot = pitr_snapshot();
        let name = "billing-of-eu-west-1-prod";
        snapshot.services.push(service(name, Some(700)));
        let model = with((width, 40), snapshot);
        line(&model, &format!("{name}  last good 11 h ago"));
        assert_eq!(shown(&model).contains("next 22 Nov 02:00"), width >= 158, "at {width}: {}", shown(&model));
    }
}

#[test]
fn how_much_is_free_is_never_cut() {
    for width in [80, 90, 100, 160] {
        let mut model = full(Look::default(), (width, 30));
        press(&mut model, "n");
        reply(&mut model, Reply::FreeSpace { name: "s3-eu".into(), result: Ok(Some(70_500_000_000)) });
        let row = line(&model, "Storage*");
        assert!(row.contains(" · 70.5 GB free"), "at {width}: {row}");
    }
}

#[test]
fn the_name_of_a_job_shows_its_day_on_a_small_screen() {
    let mut snapshot = full_snapshot();
    let of = |id, name: &str, kind| job(id, kind, name, mongokeep::domain::job::JobState::Succeeded, 30);
    let kind = mongokeep::domain::job::JobKind::Retention;
    snapshot.jobs = std::sync::Arc::new(vec![of(12_345, "orders-live-20261130-0200", kind)]);
    let mut model = with(SMALL, snapshot);
    keys(&mut model, "l l");
    let row = line(&model, "…20261130-0200");
    assert!(row.contains(" 12345 ") && row.contains("retention") && row.contains("✓ done"), "{row}");
}

#[test]
fn a_restore_says_its_target_once_in_the_list_of_jobs() {
    let mut snapshot = full_snapshot();
    let restore =
        job(77, mongokeep::domain::job::JobKind::Restore, "weekly-46", mongokeep::domain::job::JobState::Running, 1);
    std::sync::Arc::make_mut(&mut snapshot.jobs).insert(0, restore);
    for (size, keys_there) in [(SMALL, "l l"), ((160, 50), "l l"), (SMALL, "l")] {
        let mut model = with(size, snapshot.clone());
        keys(&mut model, keys_there);
        // Beside the list stand the details.
        let row = line(&model, " 77 ");
        let row = row.split('│').next().unwrap();
        assert_eq!(row.matches("orders-rs").count(), 1, "{row}");
    }
}

#[test]
fn a_name_with_no_place_to_break_makes_its_dialog_wider() {
    use mongokeep::tui::model::{Button, Confirm, Layer, Then};
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let mut model = full(Look::default(), SMALL);
    model.layers.push(Layer::Confirm(Confirm {
        title: "What?".into(),
        lines: vec![format!("it encrypts to {recipient}, and nobody has shown an identity")],
        buttons: vec![Button { label: "Cancel".into(), then: Then::Nothing }],
        focus: 0,
        typed: None,
    }));
    let row = line(&model, recipient);
    assert!(row.contains(&format!("{recipient},")), "the comma stays with it: {row}");
}

#[test]
fn columns_of_the_strip_do_not_touch() {
    let lost = |model: &mut Model, service: &str| {
        let problem = Problem { kind: ErrorKind::Unreachable, field: None, message: "refused".into(), hint: None };
        let edition = 0;
        update(model, Msg::Heard { service: service.into(), edition, heard: Ok(()) });
        update(model, Msg::Heard { service: service.into(), edition, heard: Err(problem) });
    };
    for width in (60..=220).step_by(4) {
        let mut snapshot = pitr_snapshot();
        snapshot.pitr[0].error = Some("server selection timed out: no primary was found in 30 s".into());
        snapshot.pitr[0].running = false;
        let backups = std::sync::Arc::make_mut(&mut snapshot.backups);
        backups.insert(1, backup("nightly-x", "orders-rs", 2, BackupState::Failed));
        let mut model = with((width, 30), snapshot);
        let row = line(&model, " ✗ orders-rs");
        assert!(row.contains("good 12 h"), "at {width}: {row}");
        let after = row.split("good 12 h").nth(1).unwrap();
        assert!(after.is_empty() || after.starts_with("  "), "at {width}: {row}");
        // Between the sentence about moments and the sizes.
        let sparks = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '✗'];
        if let Some((at, _)) = row.char_indices().skip(3).find(|(_, c)| sparks.contains(c)) {
            assert!(row[..at].ends_with("  "), "at {width}: {row}");
        }
        assert!(!row.contains("recoverable …"), "at {width}: {row}");
        // The age of the last good backup stays when the service is lost.
        lost(&mut model, "orders-rs");
        let row = line(&model, " ✗ orders-rs");
        assert!(row.contains("good 12 h"), "at {width}: {row}");
    }
}

#[test]
fn a_silent_daemon_is_told_above_forms() {
    for size in [LOW, SMALL, (100, 25), LARGE] {
        let mut model = full(Look::default(), size);
        let mut silent = daemon(true);
        silent.pid = Some(3_140_312);
        silent.silent_since = Some(now() - TimeDelta::minutes(65));
        update(&mut model, Msg::Daemon(silent));
        for open in ["", "4 n", "Esc 1 j r"] {
            keys(&mut model, open);
            let said = line(&model, "has not answered for");
            assert!(said.trim_end().ends_with("shown as of then"), "{open} at {size:?}: {said}");
        }
        assert!(shown(&model).contains("┌ Restore"), "{}", shown(&model));
    }
}

#[test]
fn the_next_step_is_on_the_lowest_screen() {
    for (services, step) in [(0, "▸ 1"), (1, "▸ 2"), (3, "▸ 3")] {
        let mut snapshot = empty_snapshot();
        snapshot.services = (0..services).map(|i| service(&format!("service-{i}"), None)).collect();
        if services == 3 {
            snapshot.storages = vec![storage("archive", "filesystem", "/srv/backups")];
        }
        for size in [LOW, SMALL] {
            let mut model = empty(size);
            update(&mut model, Msg::Snapshot(Box::new(snapshot.clone())));
            line(&model, step);
            line(&model, "begins with the step");
        }
    }
}

#[test]
fn a_moment_is_chosen_on_the_lowest_screen() {
    let mut model = with_pitr(Look::default(), LOW);
    let effects = keys(&mut model, "4 r");
    count_operations(&mut model, effects);
    let text = shown(&model);
    let all = line(&model, " all ");
    assert!(all.contains('─') && all.contains('▲'), "{all}");
    assert_eq!(all.matches('[').count(), all.matches(']').count(), "{all}");
    assert!(text.contains("  Time*"), "{text}");
    assert!(!text.contains("at mo…") && !text.contains("at most…"), "{text}");
}

#[test]
fn a_long_connection_string_shows_that_it_begins_earlier() {
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "4 n Tab");
    let uri = "mongodb://backup:wonderland@a.example.net:27017,b.example.net:27017,c.example.net:27017/?replicaSet=rs0";
    let row = |model: &Model| line(model, "▌ ");
    type_text(&mut model, "mongodb://backup:wonderland");
    assert!(row(&model).contains("mongodb://backup:••••••••"), "{}", row(&model));
    assert!(!row(&model).contains("•••••••••"), "as many dots for any password: {}", row(&model));
    keys(&mut model, "Ctrl-U");
    type_text(&mut model, uri);
    assert!(row(&model).contains(" …") && row(&model).contains("replicaSet=rs0"), "{}", row(&model));
    keys(&mut model, "Ctrl-A");
    assert!(row(&model).contains("mongodb://backup:••••••••@a.") && row(&model).contains('…'), "{}", row(&model));
}

#[test]
fn labels_of_a_storage_stand_apart_from_their_values() {
    let mut snapshot = full_snapshot();
    snapshot.storages[1].last_test_error = Some("refused".into());
    let fields = mongokeep::client::storage_fields("s3");
    let config =
        fields.iter().map(|f| (f.key.to_owned(), if f.label.contains("TLS") { "false" } else { "x1" }.to_owned()));
    snapshot.storages[1].config = config.collect();
    let mut model = with(SMALL, snapshot);
    keys(&mut model, "3");
    assert!(
        line(&model, "s3-eu").contains("✗ failed 90 min") || line(&model, "s3-eu").contains("✗ failed 1 h"),
        "{}",
        shown(&model)
    );
    keys(&mut model, "j Enter");
    for field in fields.iter().filter(|f| shown(&model).contains(f.label)) {
        let row = line(&model, field.label);
        let after = row.split(field.label).nth(1).unwrap();
        assert!(after.is_empty() || after.starts_with(' '), "{row}");
    }
    let tls = line(&model, "TLS");
    assert!(tls.contains("  no "), "{tls}");
}

#[test]
fn a_wrong_line_is_explained_whole_and_moves_nothing() {
    let mut model = full(Look::default(), SMALL);
    let effects = keys(&mut model, "2 j j n");
    look_ahead(&mut model, effects);
    to_row(&mut model, "cron");
    let rows = |model: &Model| -> Vec<Option<usize>> {
        let text = shown(model);
        ["Service", "Storage", "Schedule"].iter().map(|label| text.lines().position(|l| l.contains(label))).collect()
    };
    let before = rows(&model);
    for text in ["0 2 * *", "0 0 31 2 *", "*/7 3 1,15 * 1-5", "0 2 * * *"] {
        let effects: Vec<Effect> = put(&mut model, "cron", text);
        look_ahead(&mut model, effects);
        assert_eq!(rows(&model), before, "{text}\n{}", shown(&model));
        if text == "0 0 31 2 *" {
            let shown = shown(&model);
            assert!(shown.contains("! never runs: no month has such a day"), "{shown}");
            assert!(!shown.contains("overlaps nothing"), "{shown}");
        }
    }
}

#[test]
fn seven_bits_tell_an_ellipsis_from_a_dot_and_the_focus_from_a_fold() {
    let mut model = full(Look { ascii: true, ..Look::default() }, SMALL);
    keys(&mut model, "j n");
    while form(&model).focus != mongokeep::tui::form::Item::Advanced {
        keys(&mut model, "Tab");
    }
    let row = line(&model, " Advanced");
    assert!(row.contains(">+ Advanced") || row.contains("> + Advanced"), "{row}");
    keys(&mut model, "Enter");
    assert!(line(&model, " Advanced").contains("- Advanced"), "{}", shown(&model));
    let mut snapshot = full_snapshot();
    snapshot.services.push(service(&"very-long-name-".repeat(8), Some(100)));
    let mut model = model_in_seven_bits(snapshot);
    keys(&mut model, "4");
    assert!(line(&model, "very-long").contains("~ "), "{}", shown(&model));
}

fn model_in_seven_bits(snapshot: Snapshot) -> Model {
    let mut model = full(Look { ascii: true, ..Look::default() }, SMALL);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    model
}

#[test]
fn nothing_of_a_form_stands_beside_the_box_above_it() {
    for size in [LOW, SMALL] {
        let mut model = full(Look::default(), size);
        keys(&mut model, "4 n");
        type_text(&mut model, "prod");
        keys(&mut model, "Esc");
        let text = shown(&model);
        assert!(text.contains("Discard changes?"), "{text}");
        for row in text.lines().take(usize::from(size.1) - 3) {
            let beside = row.split(['│', '┌', '└']).next().unwrap_or_default();
            assert_eq!(beside.trim(), "", "{text}");
            let after = row.rsplit(['│', '┐', '┘']).next().unwrap_or_default();
            assert_eq!(after.trim(), "", "{text}");
        }
    }
}
