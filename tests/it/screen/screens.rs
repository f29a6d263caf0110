//! What each screen, dialog, empty and error state looks like at 80x24 and 160x50.

use insta::assert_snapshot;
use mongokeep::domain::job::{JobKind, JobState};
use mongokeep::error::ErrorKind;
use mongokeep::tui::model::{Look, Model};
use mongokeep::tui::msg::{Msg, Problem, Reply};
use mongokeep::tui::update::update;

use crate::support::screen::*;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (160, 50);

/// The full model after some keys, at both sizes.
fn both(name: &str, prepare: impl Fn(&mut Model)) {
    for (size, suffix) in [(SMALL, "80x24"), (LARGE, "160x50")] {
        let mut model = full(Look::default(), size);
        prepare(&mut model);
        assert_snapshot!(format!("{name}_{suffix}"), shown(&model));
    }
}

fn problem(kind: ErrorKind, message: &str, hint: &str) -> Problem {
    Problem { kind, field: None, message: message.into(), hint: Some(hint.into()) }
}

#[test]
fn backups() {
    both("backups", |_| {});
}

#[test]
fn restores() {
    both("restores", |m| drop(keys(m, "l")));
}

#[test]
fn jobs() {
    both("jobs", |m| drop(keys(m, "l l j j j")));
}

#[test]
fn storage() {
    both("storage", |m| drop(keys(m, "3")));
}

#[test]
fn services() {
    both("services", |m| drop(keys(m, "4")));
}

#[test]
fn settings() {
    both("general", |m| drop(keys(m, "4 l")));
    both("notifications", |m| drop(keys(m, "4 l l")));
    both("appearance", |m| drop(keys(m, "4 l l l")));
    both("keys", |m| drop(keys(m, "4 l l l l")));
    both("about", |m| {
        m.about = vec![("Settings".into(), "/home/me/.config/mongokeep/config.toml".into())];
        keys(m, "4 h");
    });
}

#[test]
fn schedules() {
    both("schedules", |m| {
        let effects = keys(m, "2");
        look_ahead(m, effects);
    });
    for (name, open) in [("timeline_day", "2 j j t"), ("timeline_week", "2 j j t w")] {
        let mut model = full(Look::default(), SMALL);
        let effects = keys(&mut model, open);
        look_ahead(&mut model, effects);
        assert_snapshot!(name, shown(&model));
    }
    both("timeline_of_a_week", |m| {
        let effects = keys(m, if m.size == LARGE { "2 j w" } else { "2 j t w" });
        look_ahead(m, effects);
    });
    both("create_schedule", |m| {
        let effects = keys(m, "2 j j n");
        look_ahead(m, effects);
        reply(
            m,
            Reply::ServiceChecked {
                name: "orders-rs".into(),
                model: mongokeep::domain::backup::Model::Logical,
                result: Ok(check_report(true)),
            },
        );
        keys(m, "Tab Tab Tab Tab Tab Tab Tab");
    });
    both("edit_schedule", |m| {
        let effects = keys(m, "2 j e");
        look_ahead(m, effects);
    });
    both("details_schedule", |m| {
        keys(m, "2 j j Enter");
        reply(m, Reply::RetentionPlanned { schedule: "nightly-orders".into(), result: Ok(Box::new(retention_plan())) });
    });
    both("delete_schedule", |m| drop(keys(m, "2 j j d")));
    let mut off = full(Look::default(), SMALL);
    let mut snapshot = full_snapshot();
    snapshot.settings = vec![("backup.enabled".into(), "false".into())];
    for schedule in &mut snapshot.schedules {
        schedule.next_at = None;
    }
    snapshot.schedules[2].paused_by = Some(53);
    update(&mut off, Msg::Snapshot(Box::new(snapshot)));
    keys(&mut off, "2");
    assert_snapshot!("schedules_held", shown(&off));
}

#[test]
fn first_start() {
    for (size, suffix) in [(SMALL, "80x24"), (LARGE, "160x50")] {
        assert_snapshot!(format!("first_start_{suffix}"), shown(&empty(size)));
    }
    for (name, at) in [("empty_schedules", "2"), ("empty_storage", "3"), ("empty_services", "4"), ("empty_jobs", "l l")]
    {
        let mut model = empty(SMALL);
        keys(&mut model, at);
        assert_snapshot!(name, shown(&model));
    }
    assert_snapshot!("before_the_store_was_read", shown(&model(Look::default(), SMALL)));
}

#[test]
fn backup_management_off() {
    let mut model = model(Look::default(), SMALL);
    let mut snapshot = empty_snapshot();
    snapshot.settings = vec![("backup.enabled".into(), "false".into())];
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    assert_snapshot!(shown(&model));
}

#[test]
fn forms() {
    both("add_service", |m| drop(keys(m, "4 n")));
    both("add_storage_s3", |m| {
        keys(m, "3 n");
        type_text(m, "s3-us");
        keys(m, "Tab Right Tab");
    });
    for (kind, ways) in [("azure", "Tab Right Right Tab"), ("gcs", "Tab Right Right Right Tab")] {
        both(&format!("add_storage_{kind}"), |m| {
            keys(m, "3 n");
            type_text(m, "cloud");
            keys(m, ways);
        });
    }
    both("create_backup", |m| {
        keys(m, "j n");
        reply(m, Reply::NameSuggested { service: "orders-rs".into(), result: Ok("orders-rs-20261121-1502".into()) });
        reply(
            m,
            Reply::ServiceChecked {
                name: "orders-rs".into(),
                model: mongokeep::domain::backup::Model::Logical,
                result: Ok(check_report(false)),
            },
        );
        reply(m, Reply::FreeSpace { name: "s3-eu".into(), result: Ok(None) });
    });
    both("create_backup_advanced", |m| {
        keys(m, "j n Tab Tab Tab Tab Tab Enter");
        reply(
            m,
            Reply::ServiceChecked {
                name: "orders-rs".into(),
                model: mongokeep::domain::backup::Model::Logical,
                result: Ok(check_report(true)),
            },
        );
    });
    both("form_with_errors", |m| {
        keys(m, "4 n");
        type_text(m, "no good");
        keys(m, "Tab");
        type_text(m, "http://x");
        keys(m, "Tab");
    });
    both("restore", |m| drop(keys(m, "j r")));
    both("setting", |m| drop(keys(m, "4 l j Enter")));
    both("setting_typed", |m| {
        keys(m, "4 l j j Enter Up Up Up Tab");
        type_text(m, "2");
    });
    both("setting_theme", |m| drop(keys(m, "4 l l l Enter")));
}

#[test]
fn dialogs() {
    both("delete", |m| {
        keys(m, "j d");
        let result = Ok(delete_plans("nightly-20261120"));
        reply(m, Reply::DeletePlanned { backup: "nightly-20261120".into(), result });
    });
    both("cancel", |m| drop(keys(m, "c")));
    both("cancel_restore", |m| {
        let mut snapshot = full_snapshot();
        snapshot.jobs = vec![job(53, JobKind::Restore, "nightly-20261120", JobState::Running, 3)].into();
        update(m, Msg::Snapshot(Box::new(snapshot)));
        keys(m, "l c");
    });
    both("plan", |m| {
        keys(m, "j r Ctrl-S");
        let (request, result) = planned();
        reply(m, Reply::RestorePlanned { request, result });
        type_text(m, "orders");
    });
    both("palette", |m| {
        keys(m, "Ctrl-P");
        type_text(m, "stor");
    });
    both("help", |m| drop(keys(m, "?")));
}

#[test]
fn pages() {
    both("details_running", |m| drop(keys(m, "Enter")));
    both("details_good", |m| {
        keys(m, "j Enter");
        reply(m, Reply::Manifest { backup: "nightly-20261120".into(), result: Ok(Box::new(contents())) });
        keys(m, "PgDn");
    });
    both("details_failed_job", |m| drop(keys(m, "l l j j j Enter")));
    both("details_storage", |m| drop(keys(m, "3 j Enter")));
    both("details_service", |m| drop(keys(m, "4 Enter")));
    both("check", |m| {
        keys(m, "4 t");
        reply(
            m,
            Reply::ServiceChecked {
                name: "orders-rs".into(),
                model: mongokeep::domain::backup::Model::Logical,
                result: Ok(check_report(false)),
            },
        );
    });
    both("messages", |m| {
        let result = Err(problem(ErrorKind::Conflict, "archive holds 4 backups", "delete or move them first"));
        reply(m, Reply::StorageRemoved { name: "archive".into(), result });
        keys(m, "m");
    });
}

#[test]
fn errors() {
    both("lost_store", |m| {
        update(m, Msg::StoreLost(problem(ErrorKind::Transient, "mongokeep.db: disk I/O error", "look at the disk")));
    });
    both("no_daemon", |m| drop(update(m, Msg::Daemon(daemon(false)))));
    let mut model = full(Look::default(), (50, 12));
    model.dirty = true;
    assert_snapshot!("too_small", shown(&model));
}

#[test]
fn looks() {
    let ascii = Look { ascii: true, ..Look::default() };
    assert_snapshot!("ascii_backups", shown(&full(ascii, LARGE)));
    let mut model = full(ascii, SMALL);
    keys(&mut model, "j n");
    assert_snapshot!("ascii_create_backup", shown(&model));
    let mut model = full(ascii, SMALL);
    let effects = keys(&mut model, "2 j j t w");
    look_ahead(&mut model, effects);
    assert_snapshot!("ascii_timeline", shown(&model));
    let read_only = Look { read_only: true, ..Look::default() };
    assert_snapshot!("read_only", shown(&full(read_only, SMALL)));
    let mut model = full(Look::default(), SMALL);
    keys(&mut model, "/");
    type_text(&mut model, "nightly");
    assert_snapshot!("filter", shown(&model));
}
