//! What the screen says and counts: whom a word means, and what needs somebody.

use std::sync::Arc;

use mongokeep::domain::backup::BackupState;
use mongokeep::domain::job::{JobKind, JobState};
use mongokeep::domain::warning::{Warning, WarningKind};
use mongokeep::error::ErrorKind;
use mongokeep::tui::model::{Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply, Snapshot};
use mongokeep::tui::update::update;

use crate::support::screen::*;

const SIZE: (u16, u16) = (120, 40);

fn with(change: impl FnOnce(&mut Snapshot)) -> Model {
    let mut model = model(Look::default(), SIZE);
    let mut snapshot = full_snapshot();
    change(&mut snapshot);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    model
}

fn line_of(model: &Model, name: &str) -> String {
    let text = shown(model);
    text.lines().find(|l| l.contains(name)).unwrap_or_else(|| panic!("{name} is not in\n{text}")).to_owned()
}

fn lose(model: &mut Model, service: &str) {
    let problem = Problem {
        kind: ErrorKind::Unreachable,
        field: None,
        message: format!("{service}: connection refused"),
        hint: None,
    };
    update(model, Msg::Heard { service: service.into(), edition: 0, heard: Ok(()) });
    update(model, Msg::Heard { service: service.into(), edition: 0, heard: Err(problem) });
}

#[test]
fn the_schedule_that_failed_is_named_beside_a_good_backup() {
    let model = with(|snapshot| {
        let warning = Warning::new(WarningKind::RunFailed, "the last run of schedule nightly failed");
        let of = Warning { service: Some("users-rs".into()), schedule: Some("nightly".into()), ..warning };
        snapshot.warnings = vec![of];
    });
    let line = line_of(&model, "users-rs");
    assert!(line.contains("✗ users-rs") && line.contains("nightly failed") && !line.contains("good"), "{line}");
}

#[test]
fn a_failure_that_is_tried_again_is_not_well() {
    let retried = |state: JobState, attempt: u32| {
        with(|snapshot| {
            let mut job = job(60, JobKind::Backup, "users-retried", state, 5);
            (job.service, job.attempt) = (Some("users-rs".into()), attempt);
            let mut jobs = vec![job];
            jobs.extend(snapshot.jobs.iter().cloned());
            snapshot.jobs = Arc::new(jobs);
        })
    };
    for (state, attempt) in [(JobState::Running, 2), (JobState::WaitingRetry, 1)] {
        let line = line_of(&retried(state, attempt), " users-rs");
        assert!(line.contains("✗ users-rs") && line.contains("failed, tried again"), "{line}");
    }
    let line = line_of(&retried(JobState::Running, 1), " users-rs");
    assert!(!line.contains("tried again"), "{line}");
}

#[test]
fn what_needs_somebody_is_what_is_unreachable_and_no_key() {
    let mut model = with(|_| {});
    // Nothing runs in a backup that is done.
    keys(&mut model, "j c");
    assert!(shown(&model).contains("cancel: nothing runs here"), "{}", shown(&model));
    lose(&mut model, "orders-rs");
    lose(&mut model, "users-rs");
    keys(&mut model, "m");
    let text = shown(&model);
    let (needs, rest) = text.split_once("Messages so far").expect("both parts are there");
    assert!(needs.contains("! 2 services are unreachable"), "{text}");
    assert!(!text.contains("nothing runs here"), "{text}");
    assert_eq!(rest.lines().filter(|l| l.contains("are unreachable")).count(), 1, "{text}");
    assert!(rest.contains("2 services are unreachable: "), "{text}");
}

#[test]
fn a_backup_that_failed_is_not_pinned() {
    let mut model = with(|snapshot| {
        snapshot.backups = Arc::new(vec![backup("broken", "orders-rs", 5, BackupState::Failed)]);
        snapshot.jobs = Arc::new(Vec::new());
    });
    assert!(plain(keys(&mut model, "p")).is_empty());
    assert!(shown(&model).contains("there is nothing to keep"), "{}", shown(&model));
}

#[test]
fn the_edit_of_a_service_shows_where_it_leads_and_tries_it() {
    let mut model = with(|_| {});
    keys(&mut model, "4 e");
    let uri = service("orders-rs", None).uri;
    assert!(uri.contains("mongodb"), "{uri}");
    let text = shown(&model);
    assert!(text.contains("mongodb://backup:***@orders-rs-0") && text.contains("[ Test ]"), "{text}");
    let effects = keys(&mut model, "Shift-Tab Shift-Tab Enter");
    let tried = effects.iter().any(|effect| match effect {
        Effect::TryService { edited: Some(name), .. } => name == "orders-rs",
        _ => false,
    });
    assert!(tried, "{effects:?}\n{}", shown(&model));
}

#[test]
fn commands_on_the_screen_carry_the_home_and_are_copied() {
    let mut model = with(|_| {});
    model.home = Some("/srv/keep".into());
    keys(&mut model, "4 t");
    let mut report = check_report(false);
    // What fails comes first.
    report.items[0].state = mongokeep::domain::service::CheckState::Fail;
    report.items[0].remedy = "mongokeep settings set backup.enabled true".into();
    let name = report.service.clone();
    reply_to_key(&mut model, Reply::ServiceChecked { name, model: Default::default(), result: Ok(report) });
    let command = "mongokeep --home /srv/keep settings set backup.enabled true";
    assert!(shown(&model).contains(command), "{}", shown(&model));
    assert_eq!(plain(keys(&mut model, "y")), [Effect::Copy(command.into())]);
}

/// Whoever says what went wrong may name a command, and so may what a job or a test left.
#[test]
fn every_command_on_the_screen_carries_the_home() {
    let command = "run mongokeep storage check s3-eu";
    let problem = || Problem {
        kind: ErrorKind::Failed,
        field: None,
        message: format!("{command}, says the message"),
        hint: Some(format!("{command}, says the hint")),
    };
    let change = |snapshot: &mut Snapshot| {
        for storage in &mut snapshot.storages {
            storage.last_test_error = Some(format!("{command}, says the test"));
        }
        let jobs = Arc::make_mut(&mut snapshot.jobs);
        for job in jobs.iter_mut().filter(|job| job.state == JobState::Failed) {
            job.error = Some(format!("{command}, says the job"));
            job.hint = Some(format!("{command}, says its hint"));
        }
        for backup in Arc::make_mut(&mut snapshot.backups).iter_mut() {
            backup.error = backup.error.as_ref().map(|_| format!("{command}, says the backup"));
        }
        let warning = Warning::new(WarningKind::Stale, "");
        snapshot.warnings = vec![Warning { text: format!("{command}, says the warning"), ..warning }];
    };
    type Scene = fn(&mut Model, &dyn Fn() -> Problem);
    let scenes: [Scene; 12] = [
        |m, _| drop(keys(m, "m")),
        |m, p| {
            keys(m, "3 v");
            let name = m.storage_checks.keys().next().unwrap().clone();
            reply(m, Reply::StorageChecked { name, result: Err(p()) });
        },
        |m, p| {
            let effects = keys(m, "3 s");
            let [Effect::PlanSync { ticket, storage }] = &effects[..] else { panic!("{effects:?}") };
            reply(m, Reply::SyncPlanned { ticket: *ticket, name: storage.clone(), result: Err(p()) });
        },
        |m, p| {
            keys(m, "3 t");
            let name = m.tests.keys().next().unwrap().clone();
            reply(m, Reply::StorageTested { name, result: Err(p()) });
        },
        |m, _| drop(keys(m, "3 Enter")),
        |m, _| drop(keys(m, "l l j j j Enter")),
        |m, _| drop(keys(m, "j j j Enter")),
        |m, p| {
            keys(m, "4 t");
            reply(m, Reply::ServiceChecked { name: "orders-rs".into(), model: Default::default(), result: Err(p()) });
        },
        |m, p| {
            keys(m, "4 Enter");
            let name = "orders-rs".to_owned();
            reply(m, Reply::ServiceInfo { name, result: Err(p()) });
        },
        |m, p| {
            keys(m, "3 n");
            type_text(m, "new");
            keys(m, "Tab Tab");
            type_text(m, "/srv/new");
            let effects = keys(m, "Ctrl-T");
            let [Effect::TestDraft { ticket, .. }] = &effects[..] else { panic!("{effects:?}") };
            let name = mongokeep::tui::msg::draft_name(*ticket);
            reply(m, Reply::StorageTested { name, result: Err(p()) });
        },
        |m, p| {
            keys(m, "3 e Ctrl-S");
            let effects = keys(m, "Ctrl-T");
            let _ = effects;
            reply(m, Reply::StorageSaved(Err(p())));
        },
        |m, p| {
            keys(m, "j j d");
            reply(m, Reply::DeletePlanned { backup: "nightly-20261120".into(), result: Err(p()) });
        },
    ];
    for (at, scene) in scenes.into_iter().enumerate() {
        for size in [(80, 24), (160, 50)] {
            let mut model = full(Look::default(), size);
            model.home = Some("/srv/keep".into());
            let mut snapshot = full_snapshot();
            change(&mut snapshot);
            update(&mut model, Msg::Snapshot(Box::new(snapshot)));
            scene(&mut model, &problem);
            // What stands in the next line or column is not looked for.
            let text = shown(&model).split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(!text.contains("mongokeep storage check"), "scene {at} at {size:?}: {}", shown(&model));
        }
    }
}

#[test]
fn what_to_do_about_a_failed_job_is_copied_from_its_page() {
    let mut model = with(|_| {});
    keys(&mut model, "G");
    let at = |model: &Model| model.target();
    while !format!("{:?}", at(&model)).contains("nightly-20261119") {
        keys(&mut model, "k");
    }
    keys(&mut model, "Enter");
    assert_eq!(plain(keys(&mut model, "y")), [Effect::Copy("mongokeep storage test s3-eu".into())]);
}

#[test]
fn a_storage_says_which_job_failed_because_of_it() {
    let mut model = with(|snapshot| {
        let mut failed = job(61, JobKind::Backup, "nightly", JobState::Failed, 2);
        failed.error = Some("the storage folder /srv/backups does not exist".into());
        failed.storage = Some("archive".into());
        let mut jobs = vec![failed];
        jobs.extend(snapshot.jobs.iter().cloned());
        snapshot.jobs = Arc::new(jobs);
    });
    keys(&mut model, "3");
    assert!(line_of(&model, "archive").contains("✗ job 61 failed"), "{}", shown(&model));
    while !format!("{:?}", model.target()).contains("archive") {
        keys(&mut model, "j");
    }
    keys(&mut model, "Enter");
    assert!(line_of(&model, "Last job").contains("✗ job 61 failed"), "{}", shown(&model));
}
