//! The screen is truthful at a glance: what fails comes first, nothing is called well that is not, and nothing is done that
//! nobody meant.

use std::sync::Arc;

use chrono::TimeDelta;
use mongokeep::client::EncryptionView;
use mongokeep::domain::backup::{BackupState, BackupType, Model as DataModel};
use mongokeep::domain::service::{CheckItem, CheckReport, CheckState, ServerRole, ServiceInfo};
use mongokeep::domain::warning::{Warning, WarningKind};
use mongokeep::error::ErrorKind;
use mongokeep::tui::form::{Item, Purpose};
use mongokeep::tui::model::{Layer, Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply, Snapshot};
use mongokeep::tui::update::update;

use crate::support::screen::*;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

fn small() -> Model {
    full(Look::default(), SMALL)
}

fn look_again(model: &mut Model, change: impl Fn(&mut Snapshot)) {
    let mut snapshot = pitr_snapshot();
    change(&mut snapshot);
    update(model, Msg::Snapshot(Box::new(snapshot)));
}

fn checked(model: &mut Model, result: CheckReport) -> Vec<Effect> {
    let (name, of) = ("orders-rs".into(), DataModel::Logical);
    reply(model, Reply::ServiceChecked { name, model: of, result: Ok(result) })
}

fn item(id: &str, state: CheckState, remedy: &str) -> CheckItem {
    let (title, detail) = (format!("Title of {id}"), format!("detail of {id}"));
    CheckItem { id: id.into(), title, state, detail, remedy: remedy.into() }
}

/// As of a user with the role `read` alone.
fn of_a_reader() -> CheckReport {
    let mut report = check_report(true);
    report.ok = false;
    report.items = vec![
        item("cluster_label", CheckState::Warn, "label it"),
        item("replica_set", CheckState::Warn, "grant monitor"),
        item("rights_restore", CheckState::Fail, "grant restore"),
        item("rights_backup", CheckState::Fail, "grant backup"),
        item("oplog_window", CheckState::Fail, "grant more"),
    ];
    report
}

fn unreachable() -> Problem {
    Problem {
        kind: ErrorKind::Unreachable,
        field: None,
        message: "connection refused (orders-rs-0.example.net:27017)".into(),
        hint: None,
    }
}

fn heard(model: &mut Model, service: &str, heard: Result<(), Problem>) -> Vec<Effect> {
    let edition = model.edition(service);
    plain(update(model, Msg::Heard { service: service.into(), edition, heard }))
}

#[test]
fn what_stops_a_backup_comes_first_and_is_asked_about() {
    for size in [SMALL, LARGE] {
        let mut model = full(Look::default(), size);
        keys(&mut model, "j n");
        checked(&mut model, of_a_reader());
        let text = shown(&model);
        let line = |what: &str| text.lines().position(|l| l.contains(what));
        let first = line("✗ Title of rights_backup").unwrap_or_else(|| panic!("{text}"));
        assert!(line("✗ Title of oplog_window").unwrap() > first, "{text}");
        assert!(line("Title of cluster_label").is_none_or(|l| l > first), "{text}");
        assert_eq!(text.contains("and 3 more"), size == SMALL, "{text}");
        assert!(text.contains("Back up now anyway"), "{text}");
    }
    let mut model = small();
    keys(&mut model, "j n");
    checked(&mut model, of_a_reader());
    assert_eq!(press(&mut model, "Ctrl-S"), [], "it would fail");
    let text = shown(&model);
    assert!(text.contains("The backup would fail") && text.contains("✗ Title of rights_backup: detail"), "{text}");
    assert!(!text.contains("✗ Title of rights_restore: detail of"), "a backup needs no rights of a restore: {text}");
    // The first button leads back, with everything still in the form.
    assert_eq!(press(&mut model, "Enter"), []);
    assert_eq!(form(&model).text("service"), "orders-rs");
    press(&mut model, "Ctrl-S");
    let effects = keys(&mut model, "Right Enter");
    assert!(matches!(&effects[..], [Effect::CreateBackup(_)]), "{effects:?}");
    assert!(form(&model).submitting);

    // What only a restore needs stops no backup.
    let mut model = small();
    keys(&mut model, "j n");
    checked(&mut model, check_report(false));
    assert!(matches!(&press(&mut model, "Ctrl-S")[..], [Effect::CreateBackup(_)]));
}

#[test]
fn a_backup_is_queued_when_its_check_has_ended() {
    let waiting = || {
        let mut model = small();
        keys(&mut model, "j n");
        assert_eq!(press(&mut model, "Ctrl-S"), [], "nobody knows yet");
        assert!(shown(&model).contains("it begins when nothing speaks against it"), "{}", shown(&model));
        model
    };
    let mut model = waiting();
    let effects = checked(&mut model, check_report(false));
    assert!(matches!(&effects[..], [Effect::CreateBackup(_)]), "{effects:?}");
    let mut model = waiting();
    assert_eq!(checked(&mut model, of_a_reader()), []);
    assert!(shown(&model).contains("The backup would fail"), "{}", shown(&model));
    // Whoever does not want to wait says so.
    let mut model = waiting();
    assert_eq!(press(&mut model, "Ctrl-S"), []);
    assert!(shown(&model).contains("The prerequisites are still being checked"), "{}", shown(&model));
    assert!(matches!(&keys(&mut model, "Right Enter")[..], [Effect::CreateBackup(_)]));
    // What was changed, or left, is not sent by itself.
    for key in ["x", "Esc"] {
        let mut model = waiting();
        put(&mut model, "name", "another");
        press(&mut model, "Ctrl-S");
        press(&mut model, key);
        let effects = checked(&mut model, check_report(false));
        assert!(!effects.iter().any(|e| matches!(e, Effect::CreateBackup(_))), "{key}: {effects:?}");
    }
}

#[test]
fn a_service_that_is_known_to_be_lost_is_not_backed_up_without_a_word() {
    let mut model = small();
    heard(&mut model, "orders-rs", Err(unreachable()));
    keys(&mut model, "j n");
    assert_eq!(press(&mut model, "Ctrl-S"), []);
    let text = shown(&model);
    assert!(text.contains("The backup would fail") && text.contains("orders-rs: connection refused"), "{text}");
}

#[test]
fn what_is_refused_is_not_offered() {
    let unproven = |s: &mut Snapshot| {
        let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".parse().unwrap();
        let encryption =
            EncryptionView { recipients: vec![recipient], passphrase: false, of_passphrase: None, proof: None };
        s.storages.iter_mut().find(|s| s.name == "s3-eu").unwrap().encryption = Some(encryption);
    };
    let report = || {
        let mut report = check_report(false);
        report.items.push(item("storage", CheckState::Fail, "mongokeep storage test s3-eu"));
        report.storages.insert("s3-eu".into(), Some("nobody has shown an identity that opens it".into()));
        report
    };
    let choose = |model: &mut Model| {
        to_row(model, "storage");
        press(model, "Right");
        while form(model).text("storage") != "s3-eu" {
            press(model, "Right");
        }
    };
    for open in ["j n", "2 j j n"] {
        let mut model = small();
        look_again(&mut model, unproven);
        let effects = keys(&mut model, open);
        look_ahead(&mut model, effects);
        choose(&mut model);
        checked(&mut model, report());
        let text = shown(&model);
        assert!(!text.contains("anyway"), "{text}");
        assert_eq!(press(&mut model, "Ctrl-S"), []);
        let text = shown(&model);
        assert!(text.contains("would be refused") && !text.contains("anyway"), "{text}");
        assert!(text.contains("s3-eu: nobody has shown an identity"), "{text}");
        // The other button leads to where the proof is given, and from there back to a new check.
        keys(&mut model, "Right Enter");
        assert_eq!(form(&model).purpose, Purpose::EditStorage("s3-eu".into()));
    }
    let mut model = small();
    look_again(&mut model, unproven);
    keys(&mut model, "j n");
    choose(&mut model);
    checked(&mut model, report());
    let text = shown(&model);
    assert!(text.contains("mongokeep storage edit s3-eu --identity-file FILE"), "{text}");
    assert!(!text.contains("storage test s3-eu"), "a test is no proof: {text}");

    // What the engine of the service cannot write is no more offered.
    let mut model = small();
    keys(&mut model, "j n");
    choose(&mut model);
    let mut unfit = report();
    unfit.unfit.insert("s3-eu".into(), "choose a bucket".into());
    checked(&mut model, unfit);
    assert_eq!(press(&mut model, "Ctrl-S"), []);
    let text = shown(&model);
    assert!(text.contains("The backup would be refused") && !text.contains("anyway"), "{text}");
    assert_eq!(keys(&mut model, "Right Enter"), [], "there is one button");
    assert_eq!(form(&model).text("service"), "orders-rs");
}

#[test]
fn a_storage_that_was_edited_is_checked_anew_for_the_backup_that_waits() {
    let mut model = small();
    keys(&mut model, "j n");
    checked(&mut model, check_report(false));
    let edited = form(&model).text("storage").to_owned();
    let saved = storage(&edited, "s3", "s3://acme-backups/prod");
    let effects = reply_to_key(&mut model, Reply::StorageSaved(Ok(saved)));
    assert!(matches!(&effects[..], [Effect::CheckService(service, _)] if service == "orders-rs"), "{effects:?}");
}

#[test]
fn another_storage_is_not_proposed_without_a_word() {
    let mut model = small();
    look_again(&mut model, |s| {
        for storage in s.storages.iter_mut().filter(|s| s.name == "s3-eu") {
            storage.last_test_error = Some("write: access denied".into());
        }
    });
    keys(&mut model, "j n");
    assert_ne!(form(&model).text("storage"), "s3-eu");
    let text = shown(&model);
    assert!(text.contains("! s3-eu, which took the last one, is not proposed"), "{text}");
}

#[test]
fn the_storage_that_is_chosen_counts_and_the_last_good_one_is_proposed() {
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut model = small();
        let mut snapshot = full_snapshot();
        change(&mut snapshot);
        update(&mut model, Msg::Snapshot(Box::new(snapshot)));
        keys(&mut model, "n");
        model
    };
    assert_eq!(form(&with(&|_| {})).text("storage"), "s3-eu", "its last good backup went there");
    let failed = |s: &mut Snapshot| s.storages[1].last_test_error = Some("no answer".into());
    assert_eq!(form(&with(&failed)).text("storage"), "archive");
    // Without a backup it is no longer the first of the alphabet, whatever came of its test.
    let mut model = with(&|s| {
        s.backups = Arc::default();
        s.storages[0].last_test_error = Some("no such folder".into());
    });
    assert_eq!(form(&model).text("storage"), "s3-eu");
    // Never tested, and found by the check that is made for the form.
    let mut report = check_report(true);
    let words = "writable: archive; s3-eu: no answer";
    report.items.push(CheckItem { detail: words.into(), ..item("storage", CheckState::Warn, "test it") });
    report.storages.insert("s3-eu".into(), Some("no answer".into()));
    report.storages.insert("archive".into(), None);
    checked(&mut model, report.clone());
    assert_eq!(form(&model).text("storage"), "archive");
    assert!(!shown(&model).contains("no answer"), "it is not chosen: {}", shown(&model));
    // What a person picks stays, and is said to fail.
    while form(&model).focused().is_none_or(|row| row.field.key != "storage") {
        press(&mut model, "Tab");
    }
    press(&mut model, "Right");
    assert_eq!(form(&model).text("storage"), "s3-eu");
    checked(&mut model, report);
    assert_eq!(form(&model).text("storage"), "s3-eu");
    let text = shown(&model);
    assert!(text.contains("✗ Title of storage: s3-eu: no answer"), "{text}");
    assert_eq!(press(&mut model, "Ctrl-S"), [], "it would fail");
}

/// Nine that are well, ten that nobody ever backed up, and one whose everything fails.
fn many(s: &mut Snapshot) {
    s.services = (0..10).map(|i| service(&format!("idle-{i}"), None)).collect();
    s.services.extend((0..9).map(|i| service(&format!("well-{i}"), Some(60))));
    s.services.push(service("orders-rs", Some(1)));
    s.backups = Arc::new(vec![
        backup("last", "orders-rs", 1, BackupState::Failed),
        backup("before", "orders-rs", 2, BackupState::Succeeded),
    ]);
    s.jobs = Arc::default();
}

#[test]
fn the_strip_counts_first_and_hides_no_incident() {
    let mut model = with_pitr(Look::default(), SMALL);
    look_again(&mut model, many);
    let text = shown(&model);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[2].trim(), "✗ 1 failing   ! 10 unprotected   ✓ 9 ok", "{text}");
    assert!(lines[3].starts_with(" ✗ orders-rs") && lines[3].contains("failed; last good"), "{text}");
    assert!(lines[4].contains("10 services have no good backup: idle-0, idle-1"), "{text}");
    assert!(lines[13].starts_with(" ✓ well-8"), "the list is short, so that all of them have room: {text}");
    assert!(!text.contains("services ok"), "how they are protected is not known from whether they answer: {text}");
    // A run that failed before there was a backup of it counts as well.
    look_again(&mut model, |s| {
        many(s);
        let warning = Warning::new(WarningKind::RunFailed, "the last run of schedule x failed");
        s.warnings = vec![Warning { service: Some("well-3".into()), ..warning }];
    });
    assert!(shown(&model).contains("✗ 2 failing"), "{}", shown(&model));
}

#[test]
fn the_window_ends_with_the_last_stored_second() {
    let strip = |model: &Model| shown(model).lines().find(|l| l.contains(" orders-rs   ")).unwrap().to_owned();
    let mut model = with_pitr(Look::default(), SMALL);
    // 12 s before 14:02:30 UTC, and the second that is not complete.
    let end = "→ 15:02:17";
    assert!(strip(&model).contains(end), "{}", strip(&model));
    let red = |model: &Model| {
        let terminal = frame(model);
        let buffer = terminal.backend().buffer().clone();
        let at = buffer.content.iter().position(|cell| cell.symbol() == "→").unwrap();
        buffer.content[at].style().fg == model.theme.error.fg
    };
    assert!(!red(&model));
    look_again(&mut model, |s| s.pitr[0].error = Some("no route to host".into()));
    assert!(strip(&model).contains(end) && strip(&model).starts_with(" ✗ "), "{}", strip(&model));
    assert!(red(&model), "a recording that has stopped is red");
    assert!(strip(&model).contains("recording stopped"), "{}", strip(&model));
    look_again(&mut model, |s| s.pitr[0].running = false);
    assert!(strip(&model).contains(end), "{}", strip(&model));
    look_again(&mut model, |_| {});
    heard(&mut model, "orders-rs", Err(unreachable()));
    assert!(strip(&model).contains(end) && strip(&model).contains("unreachable"), "{}", strip(&model));
    heard(&mut model, "orders-rs", Ok(()));
    assert!(strip(&model).contains(end), "{}", strip(&model));
    look_again(&mut model, |s| s.pitr[0].lag_seconds = Some(190));
    assert!(strip(&model).contains(end), "{}", strip(&model));
}

#[test]
fn a_lost_server_is_a_banner_and_a_mark_and_both_go_at_once() {
    let mut model = with_pitr(Look::default(), SMALL);
    update(&mut model, Msg::Clock(now() + TimeDelta::seconds(90)));
    heard(&mut model, "orders-rs", Err(unreachable()));
    let text = shown(&model);
    assert!(text.contains("! orders-rs is unreachable since 15:04:00: connection refused"), "{text}");
    assert!(text.lines().any(|l| l.starts_with(" ✗ orders-rs") && l.contains("unreachable, good 12 h")), "{text}");
    assert!(text.contains("✗ 1 of 2 unreachable"), "{text}");
    keys(&mut model, "4");
    let text = shown(&model);
    assert!(text.lines().any(|l| l.contains("orders-rs") && l.contains("✗ unreachable")), "{text}");
    assert_eq!(heard(&mut model, "orders-rs", Ok(())), []);
    let text = shown(&model);
    assert!(!text.contains("unreachable since") && !text.contains("✗ unreachable"), "{text}");
    assert!(text.contains("answers again"), "{text}");
    // What could not be asked meanwhile is asked again.
    let failed = Reply::ServiceInfo { name: "orders-rs".into(), result: Err(unreachable()) };
    reply(&mut model, failed);
    assert_eq!(heard(&mut model, "orders-rs", Ok(())), [Effect::ServiceInfo("orders-rs".into())]);
}

#[test]
fn a_daemon_that_hangs_is_counted_and_nothing_turns() {
    let mut model = small();
    assert!(model.is_animated());
    let mut silent = daemon(true);
    silent.silent_since = Some(now() - TimeDelta::seconds(12));
    update(&mut model, Msg::Daemon(silent));
    let text = shown(&model);
    assert!(text.contains("the daemon (process 4711) has not answered for 12 s"), "{text}");
    assert!(text.contains("daemon silent") && !text.contains("daemon ok"), "{text}");
    assert!(!model.is_animated(), "spinners stand still");
    let turned = model.frame;
    model.dirty = false;
    update(&mut model, Msg::Clock(now() + TimeDelta::seconds(5)));
    assert!(model.dirty && shown(&model).contains("not answered for 17 s"), "{}", shown(&model));
    assert_eq!(model.frame, turned);
    update(&mut model, Msg::Daemon(daemon(true)));
    assert!(shown(&model).contains("daemon ok") && model.is_animated());
}

#[test]
fn an_answer_counts_for_the_question_that_is_still_asked() {
    let mut model = small();
    let edition = model.edition("orders-rs");
    let old = |answer: Reply| Reply::OfService { service: "orders-rs".into(), edition, reply: Box::new(answer) };
    let lost = || Reply::ServiceInfo { name: "orders-rs".into(), result: Err(unreachable()) };
    reply_to_key(&mut model, old(lost()));
    assert!(shown(&model).contains("orders-rs is unreachable since"));
    // The connection string is corrected: what was known goes, and the service is asked.
    let asked = reply(&mut model, Reply::ServiceSaved(Ok(service("orders-rs", Some(720)))));
    assert_eq!(asked, [Effect::ServiceInfo("orders-rs".into())]);
    assert!(!shown(&model).contains("orders-rs is unreachable since"));
    // The old question is answered late, by a probe and by a watch.
    reply_to_key(&mut model, old(lost()));
    update(&mut model, Msg::Heard { service: "orders-rs".into(), edition, heard: Err(unreachable()) });
    assert!(!shown(&model).contains("orders-rs is unreachable since"), "{}", shown(&model));
    let name = "orders-rs".to_owned();
    reply_to_key(&mut model, old(Reply::ServiceChecked { name, model: DataModel::Logical, result: Ok(of_a_reader()) }));
    assert!(
        model
            .check("orders-rs", DataModel::Logical)
            .is_none_or(|check| !matches!(check, mongokeep::tui::model::Load::Ready(_)))
    );
    // An edit by somebody else is one as well.
    let mut snapshot = full_snapshot();
    snapshot.services[0].uri = "mongodb://elsewhere:27017".into();
    let asked = plain(update(&mut model, Msg::Snapshot(Box::new(snapshot))));
    assert!(asked.contains(&Effect::ServiceInfo("orders-rs".into())), "{asked:?}");
}

#[test]
fn the_remedy_in_view_is_copied() {
    let remedies: Vec<String> = (0..20).map(|i| format!("remedy number {i}")).collect();
    let report = CheckReport {
        items: remedies.iter().enumerate().map(|(i, r)| item(&format!("i{i}"), CheckState::Fail, r)).collect(),
        ok: false,
        ..check_report(true)
    };
    let mut model = small();
    keys(&mut model, "4 t");
    checked(&mut model, report);
    let copied = |model: &mut Model| match &press(model, "y")[..] {
        [Effect::Copy(text)] => text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(copied(&mut model), remedies[0]);
    for remedy in &remedies[1..] {
        press(&mut model, "j");
        let text = shown(&model);
        assert!(text.contains(&format!("▸ {remedy}")), "{remedy}\n{text}");
        assert_eq!(copied(&mut model), *remedy);
    }
    press(&mut model, "k");
    assert_eq!(copied(&mut model), remedies[18]);
    // Whatever is in the window: what is copied is in it.
    for chord in ["g", "PgDn", "PgDn", "G", "PgUp", "Ctrl-U"] {
        press(&mut model, chord);
        let remedy = copied(&mut model);
        assert!(shown(&model).contains(&format!("▸ {remedy}")), "{chord}: {remedy}\n{}", shown(&model));
    }
}

#[test]
fn what_answers_is_not_called_well_when_it_cannot_be_backed_up() {
    let mut model = small();
    keys(&mut model, "4");
    let row = |model: &Model| shown(model).lines().find(|l| l.contains("orders-rs")).unwrap().to_owned();
    assert!(row(&model).contains("✓ answers"));
    let alone = ServiceInfo { role: ServerRole::Standalone, replica_set: None, members: 0, ..info() };
    reply(&mut model, Reply::ServiceInfo { name: "orders-rs".into(), result: Ok(alone) });
    assert!(row(&model).contains("✗ standalone"), "{}", row(&model));
    assert!(shown(&model).contains("1 of 2 not fit for backups"), "{}", shown(&model));
    let router = ServiceInfo { role: ServerRole::Router, replica_set: None, members: 0, ..info() };
    reply(&mut model, Reply::ServiceInfo { name: "orders-rs".into(), result: Ok(router) });
    assert!(row(&model).contains("✗ a mongos"), "{}", row(&model));
    reply(&mut model, Reply::ServiceInfo { name: "orders-rs".into(), result: Ok(info()) });
    checked(&mut model, of_a_reader());
    assert!(row(&model).contains("✗ lacks rights"), "{}", row(&model));
    checked(&mut model, check_report(true));
    assert!(row(&model).contains("✓ answers"), "{}", row(&model));
}

#[test]
fn a_check_of_one_model_does_not_judge_a_service_for_the_other() {
    let mut model = small();
    keys(&mut model, "4");
    let row = |model: &Model| shown(model).lines().find(|l| l.contains("orders-rs")).unwrap().to_owned();
    let physical = |model: &mut Model| {
        let no_edition = CheckReport {
            items: vec![item("pbm_edition", CheckState::Fail, "make logical backups")],
            ok: false,
            ..check_report(true)
        };
        let (name, of) = ("orders-rs".into(), DataModel::Physical);
        reply(model, Reply::ServiceChecked { name, model: of, result: Ok(no_edition) });
    };
    // As a form asks for it that has the physical model chosen.
    physical(&mut model);
    assert!(row(&model).contains("✓ answers"), "{}", row(&model));
    assert!(!shown(&model).contains("not fit for backups"), "{}", shown(&model));
    // A service that a schedule backs up in this model is judged by it, and by no other then.
    look_again(&mut model, |s| {
        s.schedules.iter_mut().filter(|s| s.service == "orders-rs").for_each(|s| s.model = DataModel::Physical);
    });
    assert!(row(&model).contains("✗ check failed"), "{}", row(&model));
    assert!(shown(&model).contains("1 of 2 not fit for backups"), "{}", shown(&model));
    look_again(&mut model, |s| {
        s.schedules.iter_mut().filter(|s| s.service == "orders-rs").for_each(|s| s.enabled = false);
    });
    assert!(row(&model).contains("✓ answers"), "{}", row(&model));
}

#[test]
fn what_is_in_use_is_not_offered_to_be_removed() {
    let mut model = small();
    keys(&mut model, "3 j d");
    assert!(model.layers.is_empty(), "{:?}", model.layers);
    let text = shown(&model);
    assert!(text.contains("in use by the schedules"), "{text}");
    assert!(!text.lines().last().unwrap().contains("d remove"), "{text}");
    let mut model = small();
    keys(&mut model, "4 d");
    assert!(model.layers.is_empty());
    assert!(shown(&model).contains("in use by the schedules"), "{}", shown(&model));
}

#[test]
fn a_second_recording_of_a_service_is_asked_about() {
    let mut model = with_pitr(Look::default(), SMALL);
    look_again(&mut model, |s| {
        for schedule in s.schedules.iter_mut().filter(|s| s.service == "orders-rs") {
            schedule.backup_type = BackupType::Pitr;
        }
    });
    keys(&mut model, "2");
    assert_eq!(press(&mut model, " "), [], "the one that is off is selected");
    let text = shown(&model);
    assert!(text.contains("off first?") && text.contains("records orders-rs already"), "{text}");
    let effects = keys(&mut model, "Right Enter");
    assert!(matches!(&effects[..], [Effect::SwitchSchedule(_, false)]), "the store keeps one alone on: {effects:?}");
    // A new one says it in its form.
    let mut model = with_pitr(Look::default(), LARGE);
    keys(&mut model, "2 j j n");
    while form(&model).focused().is_none_or(|row| row.field.key != "type") {
        press(&mut model, "Tab");
    }
    assert!(!shown(&model).contains("records orders-rs already"));
    press(&mut model, "Right");
    assert!(shown(&model).contains("nightly-orders records orders-rs already"), "{}", shown(&model));
}

#[test]
fn a_size_is_what_is_stored() {
    let mut model = full(Look::default(), (220, 50));
    let cells = |model: &Model, name: &str| {
        shown(model).lines().find(|l| l.contains(name) && l.contains("orders-rs ")).unwrap().to_owned()
    };
    let text = shown(&model);
    assert!(text.contains("SIZE") && text.contains("DATA"), "{text}");
    let running = cells(&model, "▸ nightly-20261121");
    assert!(running.contains("-  318 MB") || running.contains("-    318 MB"), "{running}");
    assert!(cells(&model, "nightly-20261120").contains("505 MB    1.4 GB"), "{}", cells(&model, "nightly-20261120"));
    // Where there is no room for what was read.
    model.size = (70, 20);
    let running = cells(&model, "▸ nightly-20261121");
    assert!(!running.contains("318 MB"), "in one column it is what is stored: {running}");
}

#[test]
fn what_comes_faster_than_a_person_types_decides_nothing() {
    let rush = |model: &mut Model, text: &str| -> Vec<Effect> {
        let chords = text.chars().map(|c| if c == '\r' { "Enter".to_owned() } else { c.to_string() });
        plain(chords.flat_map(|chord| update(model, Msg::Rushed(key(&chord)))).collect())
    };
    // The name of the target with a carriage return, in one write.
    let mut model = small();
    keys(&mut model, "j r Ctrl-S");
    let (request, result) = planned();
    reply(&mut model, Reply::RestorePlanned { request, result });
    assert_eq!(rush(&mut model, "orders-rs\r"), []);
    let text = shown(&model);
    assert!(text.contains("Enter came faster than a person types"), "{text}");
    assert!(matches!(&press(&mut model, "Enter")[..], [Effect::Restore(..)]), "the name is there, its Enter is apart");

    // A question, a form, the list of actions, and what keys of a list change.
    let mut model = small();
    keys(&mut model, "c");
    rush(&mut model, "l\r");
    assert!(matches!(model.layers.last(), Some(Layer::Confirm(c)) if c.focus == 1));
    let mut model = small();
    keys(&mut model, "n");
    checked(&mut model, check_report(true));
    update(&mut model, Msg::Rushed(key("Ctrl-S")));
    assert!(!form(&model).submitting);
    while form(&model).focus != Item::Submit {
        press(&mut model, "Tab");
    }
    assert_eq!(rush(&mut model, "\r"), []);
    assert!(!form(&model).submitting);
    let mut model = small();
    press(&mut model, "Ctrl-P");
    assert_eq!(rush(&mut model, "verify\r"), []);
    assert!(matches!(model.layers.last(), Some(Layer::Palette(_))));
    for (screen, text) in [("1 j", "vpdrn"), ("2", "x Cden"), ("3", "den"), ("4", "denb"), ("4 l", "\r")] {
        let mut model = small();
        keys(&mut model, screen);
        assert_eq!(rush(&mut model, text), [], "{screen}: {text}");
        assert!(model.layers.is_empty(), "{screen}: {:?}", model.layers);
    }
    // Text and movement are what they were.
    let mut model = small();
    keys(&mut model, "4 n");
    rush(&mut model, "orders");
    assert_eq!(form(&model).text("name"), "orders");
    let mut model = small();
    rush(&mut model, "jj");
    assert_eq!(model.list(model.tab()).selected, 2);
}

#[test]
fn what_was_sent_to_a_terminal_is_not_called_copied() {
    let mut model = small();
    reply(&mut model, Reply::Copied { text: "nightly-20261120".into(), result: Ok(()) });
    let text = shown(&model);
    assert!(text.contains("sent to the terminal: nightly-20261120") && !text.contains("copied"), "{text}");
}
