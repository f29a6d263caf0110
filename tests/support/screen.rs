//! A model with made-up but plausible data, and ways to type into it and look at it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use mongokeep::client::{DaemonStatus, DeletePlan, Removes, ServiceView, StorageView};
use mongokeep::domain::backup::{Backup, BackupState, BackupType, Compression, Model as DataModel};
use mongokeep::domain::cron::Cron;
use mongokeep::domain::fields::SETTING_FIELDS;
use mongokeep::domain::job::{Job, JobKind, JobState, LogLevel, LogLine, Progress};
use mongokeep::domain::pitr::{
    Archive, Base, Mark, MarkKind, PlannedReplay, PointInTime, RecoverableRange, ShownGap, Status, When,
};
use mongokeep::domain::retention::{PlannedBackup, Retention, RetentionPlan};
use mongokeep::domain::retry::{RetryMode, RetryPolicy};
use mongokeep::domain::schedule::{LastRun, Schedule};
use mongokeep::domain::service::{CheckItem, CheckReport, CheckState, EngineKind, ServerRole, ServiceInfo};
use mongokeep::domain::storage::TestStep;
use mongokeep::domain::timeline::{FreeSlot, PlannedRun, Timeline};
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::tui::form::Form;
use mongokeep::tui::keymap::Chord;
use mongokeep::tui::model::{Layer, Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Reply, Snapshot, draft_name};
use mongokeep::tui::update::update;
use mongokeep::tui::view;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// 21 November 2026, 14:02 UTC: all ages are counted from here.
pub fn now() -> DateTime<Utc> {
    "2026-11-21T14:02:30Z".parse().unwrap()
}

pub fn ago(minutes: i64) -> DateTime<Utc> {
    now() - TimeDelta::minutes(minutes)
}

pub fn model(look: Look, size: (u16, u16)) -> Model {
    Model::new(look, None, size, now(), chrono_tz::Europe::Paris)
}

pub fn service(name: &str, last_good_minutes: Option<i64>) -> ServiceView {
    ServiceView {
        name: name.into(),
        uri: format!("mongodb://backup:***@{name}-0.example.net:27017,{name}-1.example.net:27017/?replicaSet=rs0"),
        cluster: Some("prod".into()),
        engine: EngineKind::Native,
        created_at: ago(100_000),
        last_good_backup_at: last_good_minutes.map(ago),
        backups: 4,
        production_hours: None,
        fields: [("cluster", "prod"), ("engine", "native")].map(|(k, v)| (k.to_owned(), vec![v.to_owned()])).into(),
    }
}

pub fn storage(name: &str, kind: &str, place: &str) -> StorageView {
    StorageView {
        name: name.into(),
        kind: kind.into(),
        place: place.into(),
        config: Default::default(),
        encryption: None,
        encrypt_to: Vec::new(),
        stored_secrets: Some(Vec::new()),
        backups: 4,
        bytes: 12_400_000_000,
        schedules: 0,
        last_test_at: Some(ago(90)),
        last_test_error: None,
    }
}

pub fn backup(name: &str, service: &str, minutes: i64, state: BackupState) -> Backup {
    let good = state == BackupState::Succeeded;
    Backup {
        new_bytes: None,
        locked_millis: None,
        pbm_name: None,
        chain: None,
        encryption: None,
        name: name.into(),
        service: service.into(),
        cluster: Some("prod".into()),
        storage: "s3-eu".into(),
        folder: "prod".into(),
        engine: EngineKind::Native,
        model: DataModel::Logical,
        backup_type: BackupType::Full,
        schedule: None,
        state,
        pinned: false,
        consistent_at: good.then(|| ago(minutes - 1)),
        consistent_at_ts: good.then(|| Timestamp::new(ago(minutes - 1).timestamp() as u32, 3)),
        size_bytes: good.then_some(505_000_000),
        uncompressed_bytes: good.then_some(1_449_000_000),
        documents: good.then_some(2_104_311),
        started_at: ago(minutes),
        finished_at: (state != BackupState::Running).then(|| ago(minutes - 1)),
        server_version: Some("6.0.5".into()),
        fcv: Some("6.0".into()),
        compression: Compression::Zstd(1),
        error: (state == BackupState::Failed).then(|| "the storage s3-eu did not answer within 10 s".into()),
        verified_at: None,
        verify_error: None,
    }
}

pub fn job(id: i64, kind: JobKind, backup: &str, state: JobState, minutes: i64) -> Job {
    let finished = state.is_finished();
    Job {
        id,
        kind,
        state,
        attempt: 1,
        service: Some("orders-rs".into()),
        storage: Some("s3-eu".into()),
        backup: Some(backup.into()),
        schedule: None,
        progress: Progress::default(),
        phase: String::new(),
        created_at: ago(minutes),
        started_at: (state != JobState::Queued).then(|| ago(minutes)),
        finished_at: finished.then(|| ago(minutes - 1)),
        next_attempt_at: None,
        error: None,
        hint: None,
        cancel_requested: false,
        retry: Default::default(),
        due_at: None,
        point_in_time: None,
    }
}

pub fn settings() -> Vec<(String, String)> {
    SETTING_FIELDS.iter().map(|f| (f.key.to_owned(), f.default.to_owned())).collect()
}

pub fn empty_snapshot() -> Snapshot {
    Snapshot { settings: settings(), read_at: now(), ..Snapshot::default() }
}

/// Two services, two storages, a running backup, good ones, a failed one, a finished restore.
pub fn full_snapshot() -> Snapshot {
    let mut running = job(54, JobKind::Backup, "nightly-20261121", JobState::Running, 1);
    running.progress = Progress {
        bytes_done: 318_000_000,
        bytes_total: 505_000_000,
        objects_done: 4,
        objects_total: 6,
        documents_done: 1_400_000,
        documents_total: 2_104_311,
        bytes_per_second: 142_000_000,
    };
    running.phase = "dump shop.events".into();
    let mut failed = job(51, JobKind::Backup, "nightly-20261119", JobState::Failed, 2_900);
    failed.error = Some("the storage s3-eu did not answer within 10 s".into());
    failed.hint = Some("mongokeep storage test s3-eu".into());
    let mut verified = backup("before-migration", "orders-rs", 2_700, BackupState::Succeeded);
    verified.verified_at = Some(ago(2_600));
    verified.pinned = true;
    let backups = vec![
        backup("nightly-20261121", "orders-rs", 1, BackupState::Running),
        backup("nightly-20261120", "orders-rs", 720, BackupState::Succeeded),
        verified,
        backup("nightly-20261119", "orders-rs", 2_900, BackupState::Failed),
        backup("weekly-46", "users-rs", 13_000, BackupState::Succeeded),
    ];
    let jobs = vec![
        running,
        job(53, JobKind::Restore, "nightly-20261120", JobState::Succeeded, 300),
        job(52, JobKind::Backup, "nightly-20261120", JobState::Succeeded, 720),
        failed,
        job(50, JobKind::Backup, "weekly-46", JobState::Succeeded, 13_000),
    ];
    Snapshot {
        services: vec![service("orders-rs", Some(720)), service("users-rs", Some(13_000))],
        storages: vec![
            storage("archive", "filesystem", "/srv/backups"),
            storage("s3-eu", "s3", "s3://acme-backups/prod"),
        ],
        schedules: schedules(),
        pitr: Vec::new(),
        warnings: Vec::new(),
        backups: Arc::new(backups),
        jobs: Arc::new(jobs),
        settings: settings(),
        settings_problem: None,
        read_at: now(),
    }
}

pub fn schedule(name: &str, service: &str, cron: &str) -> Schedule {
    Schedule {
        name: name.into(),
        service: service.into(),
        storage: "s3-eu".into(),
        folder: "prod".into(),
        backup_type: BackupType::Full,
        model: DataModel::Logical,
        selection: Default::default(),
        compression: None,
        cron: cron.into(),
        timezone: "Europe/Paris".into(),
        start: ago(40_000),
        retention: Retention { count: 7, ..Retention::default() },
        retry: RetryPolicy { mode: RetryMode::Auto, retries: 3, interval: 900 },
        enabled: true,
        created_at: ago(40_000),
        next_at: Cron::parse(cron).unwrap().next_after(chrono_tz::Europe::Paris, now()),
        last: None,
        paused_by: None,
    }
}

pub fn last(job: i64, state: JobState, minutes: i64) -> LastRun {
    LastRun {
        at: ago(minutes),
        job,
        state,
        backup: (!matches!(state, JobState::Missed | JobState::Skipped)).then(|| format!("run-{job}")),
        finished_at: state.is_finished().then(|| ago(minutes - 1)),
        error: matches!(state, JobState::Failed | JobState::Missed | JobState::Skipped)
            .then(|| "the storage s3-eu did not answer within 10 s".into()),
    }
}

/// One that is well, one that failed, one that is off, one that missed its run, one that never ran.
pub fn schedules() -> Vec<Schedule> {
    let mut nightly = schedule("nightly-orders", "orders-rs", "0 2 * * *");
    nightly.last = Some(last(52, JobState::Succeeded, 720));
    let mut hourly = schedule("hourly-users", "users-rs", "15 8-18 * * 1-5");
    hourly.retention = Retention { keep_daily: 30, keep_monthly: 12, ..Retention::default() };
    hourly.last = Some(last(51, JobState::Failed, 2_900));
    let mut off = schedule("before-the-migration-of-the-year", "orders-rs", "0 6 1 * *");
    off.enabled = false;
    off.next_at = None;
    let mut weekly = schedule("weekly-users", "users-rs", "30 2 * * 0");
    weekly.timezone = "America/New_York".into();
    weekly.retention = Retention::default();
    weekly.last = Some(last(40, JobState::Missed, 10_000));
    let fresh = schedule("orders-rs-daily", "orders-rs", "5 2 * * *");
    vec![off, hourly, nightly, fresh, weekly]
}

/// The runs of [`schedules`] in some stretch, with what is wrong with them.
pub fn timeline(from: DateTime<Utc>, until: DateTime<Utc>) -> Timeline {
    let mut runs = Vec::new();
    for schedule in schedules().iter().filter(|s| s.enabled) {
        let cron = Cron::parse(&schedule.cron).unwrap();
        let mut at = from - TimeDelta::seconds(1);
        while let Some(next) = cron.next_after(schedule.timezone.parse().unwrap(), at).filter(|next| *next < until) {
            let seconds = match schedule.name.as_str() {
                "nightly-orders" => Some(5_400),
                "hourly-users" => Some(300),
                _ => None,
            };
            let overlaps = match schedule.name.as_str() {
                "nightly-orders" => vec!["orders-rs-daily".to_owned()],
                "orders-rs-daily" => vec!["nightly-orders".to_owned()],
                _ => Vec::new(),
            };
            runs.push(PlannedRun {
                schedule: schedule.name.clone(),
                service: schedule.service.clone(),
                at: next,
                seconds,
                overlaps,
                in_production_hours: schedule.name == "hourly-users",
            });
            at = next;
        }
    }
    runs.sort_by_key(|r| r.at);
    Timeline { from, until, runs, cut: Vec::new() }
}

fn free_slot() -> FreeSlot {
    FreeSlot { cron: "30 4 * * *".into(), words: "every day at 04:30".into(), moved_minutes: 150 }
}

/// Answers the questions about coming runs that are among `effects`.
pub fn look_ahead(model: &mut Model, effects: Vec<Effect>) {
    for effect in effects {
        match effect {
            Effect::Timeline { from, until } => {
                let asked = reply(model, Reply::Timeline(Ok(Box::new(timeline(from, until)))));
                look_ahead(model, asked);
            }
            Effect::FreeSlot(schedule) => {
                reply(model, Reply::FreeSlot { schedule, slot: Some(free_slot()) });
            }
            Effect::Preview { from, until, values } => {
                let mut timeline = timeline(from, until);
                let name = values["name"][0].clone();
                for run in timeline.runs.iter_mut().filter(|r| r.schedule == "orders-rs-daily") {
                    run.schedule = name.clone();
                }
                let result = Ok(Box::new(timeline));
                reply(model, Reply::Previewed { values, result, free: Some(free_slot()) });
            }
            _ => {}
        }
    }
}

/// The data with each change of orders-rs kept: two bases, a gap between them, a restore since.
pub fn pitr_snapshot() -> Snapshot {
    let mut snapshot = full_snapshot();
    for schedule in snapshot.schedules.iter_mut().filter(|s| s.name == "nightly-orders") {
        schedule.backup_type = BackupType::Pitr;
    }
    snapshot.pitr = vec![pitr_status()];
    snapshot
}

pub fn pitr_status() -> Status {
    let ts = |at: DateTime<Utc>, i| Timestamp::new(at.timestamp() as u32, i);
    let second = TimeDelta::seconds(1);
    let range = |from: DateTime<Utc>, to: DateTime<Utc>| RecoverableRange {
        from,
        to: to - second,
        from_ts: ts(from, 3),
        to_ts: ts(to, 1),
    };
    let base = |name: &str, at| Base {
        backup: name.into(),
        consistent_at_ts: ts(at, 3),
        model: mongokeep::domain::backup::Model::Logical,
    };
    let (lost, again) = (ago(1_000), ago(760));
    Status {
        service: "orders-rs".into(),
        ranges: vec![range(ago(2_699), lost), range(ago(719), now() - TimeDelta::seconds(12))],
        gaps: vec![ShownGap {
            from: lost,
            to: again,
            from_ts: ts(lost, 1),
            to_ts: ts(again, 1),
            reason: "the oplog had rolled over before it was read".into(),
        }],
        lag_seconds: Some(12),
        running: true,
        beginning: false,
        error: None,
        hint: None,
        schedules: vec!["nightly-orders".into()],
        archive: Some(Archive {
            storage: "s3-eu".into(),
            folder: "prod".into(),
            replica_set: "rs0".into(),
            replica_set_id: "0".repeat(24),
        }),
        bases: vec![base("before-migration", ago(2_699)), base("nightly-20261120", ago(719))],
        waiting_base: None,
        marks: vec![
            Mark { ts: ts(ago(300), 1), kind: MarkKind::RestoreBegan, text: "nightly-20261120".into() },
            Mark { ts: ts(ago(298), 1), kind: MarkKind::RestoreEnded, text: "nightly-20261120".into() },
        ],
        slices: 2_104,
        size_bytes: 1_240_000_000,
    }
}

/// [`full`] with [`pitr_snapshot`].
pub fn with_pitr(look: Look, size: (u16, u16)) -> Model {
    let mut model = full(look, size);
    update(&mut model, Msg::Snapshot(Box::new(pitr_snapshot())));
    model
}

/// The second of the accident: most of all operations are in it.
pub const ACCIDENT: &str = "2026-11-21T13:41:07Z";

/// Answers the questions for operations that are among `effects`, and those that follow from the answers.
pub fn count_operations(model: &mut Model, effects: Vec<Effect>) {
    let accident = ACCIDENT.parse::<DateTime<Utc>>().unwrap().timestamp() as u32;
    // Busier by and by, with quiet moments.
    let usual = |t: u32| if t.is_multiple_of(7) { 0 } else { u64::from(t % 5 + (t / 600) % 9) };
    let in_second = |t: u32| if t == accident { 12_044 } else { usual(t) };
    for effect in effects {
        if let Effect::Operations { service, from, to, buckets } = effect {
            let length = ((to - from) as usize / buckets).max(1);
            // Wide columns are counted by a sample.
            let of = |i: usize| {
                let begin = from + (i * length) as u32;
                let spike = if (begin..begin + length as u32).contains(&accident) { 12_044 } else { 0 };
                usual(begin + 1) * length as u64 + spike
            };
            let counts =
                if buckets == 1 && to == from + 1 { vec![in_second(from)] } else { (0..buckets).map(of).collect() };
            let more = reply(model, Reply::Operations { service, from, to, buckets, result: Ok(counts) });
            count_operations(model, more);
        }
    }
}

/// Presses keys, with the operations of the timeline counted.
pub fn keys_counted(model: &mut Model, chords: &str) {
    let effects = keys(model, chords);
    count_operations(model, effects);
}

/// A plan to go back to a moment.
pub fn planned_moment() -> Planned {
    let (mut request, result) = planned();
    let mut plan = result.unwrap();
    let until = Timestamp::new(ACCIDENT.parse::<DateTime<Utc>>().unwrap().timestamp() as u32 - 1, u32::MAX);
    let status = pitr_status();
    request.backup = String::new();
    request.point_in_time = Some(PointInTime { service: "orders-rs".into(), when: When::Second(until.t), base: None });
    plan.consistent_at_ts = Some(until);
    plan.point_in_time = Some(PlannedReplay {
        service: "orders-rs".into(),
        archive: status.archive.unwrap(),
        until,
        until_at: until.to_datetime(),
        base: status.bases[1].clone(),
        slices: 698,
        entries: 1_204_311,
        bytes: 505_000_000,
        expected_seconds: 245,
    });
    (request, Ok(plan))
}

pub fn daemon(running: bool) -> DaemonStatus {
    DaemonStatus {
        running,
        pid: running.then_some(4711),
        version: running.then(|| "0.1.0".into()),
        started_at: running.then(|| ago(600)),
        jobs_running: running.then_some(1),
        services_sliced: running.then_some(0),
        silent_since: None,
    }
}

pub fn info() -> ServiceInfo {
    ServiceInfo {
        server_version: "6.0.5".into(),
        fcv: Some("6.0".into()),
        role: ServerRole::Member,
        replica_set: Some("rs0".into()),
        members: 3,
    }
}

pub fn check_report(ok: bool) -> CheckReport {
    let item = |id: &str, title: &str, state, detail: &str, remedy: &str| CheckItem {
        id: id.into(),
        title: title.into(),
        state,
        detail: detail.into(),
        remedy: remedy.into(),
    };
    CheckReport {
        storages: [("archive".to_owned(), None), ("s3-eu".to_owned(), None)].into(),
        unfit: std::collections::BTreeMap::new(),
        service: "orders-rs".into(),
        ok,
        items: vec![
            item("reachable", "Reachable", CheckState::Pass, "orders-rs-0.example.net:27017", ""),
            item("replica_set", "Member of a replica set", CheckState::Pass, "rs0, 3 members", ""),
            item(
                "rights_restore",
                "Rights for a restore",
                if ok { CheckState::Pass } else { CheckState::Fail },
                "the user backup may not write to shop",
                if ok { "" } else { "db.grantRolesToUser(\"backup\", [\"restore\"])" },
            ),
            item(
                "oplog_window",
                "Oplog window",
                CheckState::Warn,
                "2 h; a longer backup would fail",
                "db.adminCommand({replSetResizeOplog: 1, size: 16384})",
            ),
        ],
    }
}

pub fn log_lines(job: i64) -> Msg {
    let line = |seq: i64, level, message: &str| LogLine {
        seq,
        at: ago(1) + TimeDelta::seconds(seq),
        attempt: 1,
        level,
        message: message.into(),
    };
    Msg::Log {
        job,
        lines: vec![
            line(1, LogLevel::Info, "reading from orders-rs-2.example.net:27017, a hidden secondary"),
            line(2, LogLevel::Info, "6 collections, 505 MB"),
            line(3, LogLevel::Warn, "the oplog window is 2 h"),
            line(4, LogLevel::Info, "shop.orders: 900,000 documents"),
        ],
    }
}

/// A model that has seen the full data and whose services answer.
pub fn full(look: Look, size: (u16, u16)) -> Model {
    let mut model = model(look, size);
    update(&mut model, Msg::Snapshot(Box::new(full_snapshot())));
    update(&mut model, Msg::Daemon(daemon(true)));
    for name in ["orders-rs", "users-rs"] {
        let reply = Reply::ServiceInfo { name: name.into(), result: Ok(info()) };
        update(&mut model, Msg::Reply(Box::new(reply)));
    }
    update(&mut model, log_lines(54));
    model
}

/// A model without services, storages and backups.
pub fn empty(size: (u16, u16)) -> Model {
    let mut model = model(Look::default(), size);
    update(&mut model, Msg::Snapshot(Box::new(empty_snapshot())));
    update(&mut model, Msg::Daemon(daemon(false)));
    model
}

pub fn key(chord: &str) -> KeyEvent {
    let chord: Chord = chord.parse().unwrap_or_else(|e| panic!("{e}"));
    let mut modifiers = KeyModifiers::NONE;
    if chord.ctrl {
        modifiers |= KeyModifiers::CONTROL;
    }
    if chord.alt {
        modifiers |= KeyModifiers::ALT;
    }
    KeyEvent::new(chord.code, modifiers)
}

/// What was asked for, without the number that a submission carries.
pub fn plain(effects: Vec<Effect>) -> Vec<Effect> {
    let inner = |effect| match effect {
        Effect::Submitted { effect, .. } => *effect,
        effect => effect,
    };
    effects.into_iter().map(inner).collect()
}

/// Presses one key.
pub fn press(model: &mut Model, chord: &str) -> Vec<Effect> {
    plain(update(model, Msg::Key(key(chord))))
}

/// Presses keys, one after the other, separated by spaces.
pub fn keys(model: &mut Model, chords: &str) -> Vec<Effect> {
    chords.split(' ').filter(|c| !c.is_empty()).flat_map(|chord| press(model, chord)).collect()
}

/// Types text, letter by letter.
pub fn type_text(model: &mut Model, text: &str) -> Vec<Effect> {
    let typed = |c| Msg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE));
    plain(text.chars().flat_map(|c| update(model, typed(c))).collect())
}

/// The form on top.
pub fn form(model: &Model) -> &Form {
    match model.layers.last() {
        Some(Layer::Form(form)) => form,
        other => panic!("no form on top: {other:?}"),
    }
}

/// Moves the cursor of the form on top to the row called `key`.
pub fn to_row(model: &mut Model, key: &str) {
    for _ in 0..60 {
        if form(model).focused().is_some_and(|r| r.field.key == key) {
            return;
        }
        press(model, "Tab");
    }
    panic!("{key} cannot be reached");
}

/// Puts `text` in the place of what the row `key` holds.
pub fn put(model: &mut Model, key: &str, text: &str) -> Vec<Effect> {
    to_row(model, key);
    let mut effects = press(model, "Ctrl-U");
    effects.extend(press(model, "Ctrl-K"));
    effects.extend(type_text(model, text));
    effects
}

/// The number under which the topmost form or plan waits for an answer.
pub fn ticket(model: &Model) -> Option<u64> {
    model.layers.iter().rev().find_map(|layer| match layer {
        Layer::Form(form) if form.submitting => Some(form.ticket),
        Layer::Review(review) if review.submitting => Some(review.ticket),
        _ => None,
    })
}

/// An answer; one that may be about a submission is about the one that waits for it.
pub fn reply(model: &mut Model, reply: Reply) -> Vec<Effect> {
    let may_be_waited_for = matches!(
        reply,
        Reply::ServiceSaved(_)
            | Reply::EngineProposed(_)
            | Reply::StorageSaved(_)
            | Reply::ScheduleSaved { .. }
            | Reply::SettingSaved { .. }
            | Reply::RestorePlanned { .. }
            | Reply::Queued { .. }
    );
    match ticket(model).filter(|_| may_be_waited_for) {
        Some(ticket) => reply_to(model, ticket, reply),
        None => reply_to_key(model, reply),
    }
}

/// An answer to what was submitted under a number.
pub fn reply_to(model: &mut Model, ticket: u64, reply: Reply) -> Vec<Effect> {
    reply_to_key(model, Reply::Submitted { ticket, reply: Box::new(reply) })
}

/// An answer to a key in a list, or on a page.
pub fn reply_to_key(model: &mut Model, reply: Reply) -> Vec<Effect> {
    plain(update(model, Msg::Reply(Box::new(reply))))
}

/// The check of a service ends well.
pub fn checks_pass(model: &mut Model, service: &str) -> Vec<Effect> {
    let (name, of) = (service.to_owned(), DataModel::Logical);
    reply(model, Reply::ServiceChecked { name, model: of, result: Ok(check_report(false)) })
}

/// The end of the test of a storage that a form asked for: all steps but `failed` are good.
pub fn tested(model: &mut Model, effects: &[Effect], failed: &[&str]) -> Vec<Effect> {
    let [Effect::TestDraft { ticket, .. }] = effects else { panic!("no test: {effects:?}") };
    let step = |id: &&str| {
        let ok = !failed.contains(id);
        let detail = if ok { String::new() } else { "permission denied".into() };
        TestStep { id: (*id).into(), ok, detail, seconds: 0.01, remedy: None, hint: None }
    };
    let steps = ["resolve", "list", "write", "read", "delete"].iter().map(step).collect();
    reply_to_key(model, Reply::StorageTested { name: draft_name(*ticket), result: Ok(steps) })
}

/// The screen as text, without spaces at the ends of lines.
pub fn shown(model: &Model) -> String {
    let terminal = frame(model);
    let buffer = terminal.backend().buffer().clone();
    let width = usize::from(buffer.area.width);
    buffer
        .content
        .chunks(width.max(1))
        .map(|row| row.iter().map(|c| c.symbol()).collect::<String>().trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

pub fn frame(model: &Model) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(model.size.0, model.size.1)).unwrap();
    terminal.draw(|f| view::draw(f, model)).unwrap();
    terminal
}

/// What retention makes of three backups of `nightly-orders`.
pub fn retention_plan() -> RetentionPlan {
    let backup = |name: &str, minutes, keep, reason: &str| PlannedBackup {
        name: name.into(),
        service: "orders-rs".into(),
        storage: "s3-eu".into(),
        folder: "prod".into(),
        at: ago(minutes),
        size_bytes: Some(505_000_000),
        keep,
        reasons: vec![reason.into()],
        error: None,
    };
    RetentionPlan {
        schedule: "nightly-orders".into(),
        retention: Retention { count: 2, ..Retention::default() },
        at: now(),
        backups: vec![
            backup("nightly-orders-20261121-0200", 780, true, "newest 1 of 2"),
            backup("nightly-orders-20261120-0200", 2_220, true, "newest 2 of 2"),
            backup("nightly-orders-20261119-0200", 3_660, false, "older than the newest 2"),
        ],
        deleting: Vec::new(),
        oplog: None,
        frees_bytes: 505_000_000,
        warnings: Vec::new(),
    }
}

/// How `backup` would be deleted, record only and with its files, in the sentences of the client.
pub fn delete_plans(backup: &str) -> Box<(DeletePlan, DeletePlan)> {
    let plan = |keep_files: bool| {
        let mut warnings = vec!["it is the only good backup of orders-rs".to_owned()];
        if keep_files {
            warnings.push("its files stay; mongokeep storage sync s3-eu finds it again".to_owned());
        }
        let bytes = if keep_files { 0 } else { 505_000_000 };
        let removes = if keep_files { Removes::Record } else { Removes::RecordAndFiles };
        let storage = "s3-eu".into();
        DeletePlan {
            backup: backup.into(),
            storage,
            keep_files,
            bytes,
            foreign: None,
            removes,
            increments: Vec::new(),
            base: None,
            warnings,
        }
    };
    Box::new((plan(true), plan(false)))
}

pub type Planned = (
    Box<mongokeep::domain::restore::RestoreRequest>,
    Result<Box<mongokeep::domain::restore::RestorePlan>, mongokeep::tui::msg::Problem>,
);

/// A restore that replaces, creates, keeps and leaves out.
pub fn planned() -> Planned {
    use mongokeep::domain::namespace::Namespace;
    use mongokeep::domain::restore::{
        CollectionKind, LeftOut, PlannedAction, PlannedNamespace, RestorePlan, RestoreRequest,
    };
    let request = RestoreRequest {
        data_folder: None,
        mongod: None,
        no_check: false,
        replset_map: Vec::new(),
        identity_file: None,
        backup: "nightly-20261120".into(),
        point_in_time: None,
        to: "orders-rs".into(),
        include: Vec::new(),
        rename: Vec::new(),
        exact: false,
        no_ttl: false,
        users_and_roles: false,
        safety_backup: false,
    };
    let ns = |collection: &str, kind, action, replaces| PlannedNamespace {
        from: Namespace::new("shop", collection),
        to: Namespace::new("shop", collection),
        kind,
        action,
        documents: Some(900_000),
        uncounted: false,
        replaces_documents: replaces,
    };
    let plan = RestorePlan {
        files: None,
        backup: "nightly-20261120".into(),
        from_service: "orders-rs".into(),
        to_service: "orders-rs".into(),
        consistent_at_ts: Some(Timestamp::new(1_795_230_180, 3)),
        target_version: "6.0.5".into(),
        target_fcv: "6.0".into(),
        namespaces: vec![
            ns("orders", CollectionKind::Collection, PlannedAction::Replace, Some(900_012)),
            ns("events", CollectionKind::Timeseries, PlannedAction::Create, None),
            ns("totals", CollectionKind::View, PlannedAction::Create, None),
        ],
        dropped: Vec::new(),
        untouched: vec![Namespace::new("shop", "drafts")],
        left_out: vec![LeftOut { what: "users and roles".into(), why: "not asked for".into() }],
        users_and_roles: false,
        users_of: Vec::new(),
        safety_backup: None,
        point_in_time: None,
        warnings: vec!["shop.sessions has a TTL index: the target deletes what has expired".into()],
    };
    (Box::new(request), Ok(Box::new(plan)))
}

pub fn contents() -> mongokeep::client::Contents {
    use mongokeep::artifact::manifest::Envelope;
    use mongokeep::client::{Contents, HeldNamespace};
    use mongokeep::domain::namespace::{Namespace, Selection};
    use mongokeep::domain::restore::{CollectionKind, LeftOut};
    let held = |name: &str, documents, bytes| HeldNamespace {
        namespace: Namespace::new("shop", name),
        kind: CollectionKind::Collection,
        documents: Some(documents),
        bytes: Some(bytes),
    };
    Contents {
        files: None,
        envelope: Envelope {
            new_bytes: None,
            locked_millis: None,
            pbm_name: None,
            chain: None,
            encryption: None,
            format_version: 1,
            tool_version: "0.1.0".into(),
            name: "nightly-20261120".into(),
            attempt_id: "a".into(),
            service: "orders-rs".into(),
            cluster: Some("prod".into()),
            folder: "prod".into(),
            schedule: None,
            engine: EngineKind::Native,
            model: DataModel::Logical,
            backup_type: BackupType::Full,
            server_version: "6.0.5".into(),
            fcv: "6.0".into(),
            replica_set: "rs0".into(),
            replica_set_id: "0".repeat(24),
            member: "orders-rs-2.example.net:27017".into(),
            started_at: ago(720),
            finished_at: ago(719),
            consistent_at_ts: Timestamp::new(1_795_230_180, 3),
            selection: Selection::default(),
            compression: Compression::Zstd(1),
            left_out: vec![LeftOut { what: "local".into(), why: "belongs to the member".into() }],
            documents: 2_104_311,
            uncompressed_bytes: 1_449_000_000,
            size_bytes: 505_000_000,
            checksum: String::new(),
        },
        namespaces: vec![held("orders", 900_000, 600_000_000), held("ev\u{1b}[2Jents", 1_204_311, 849_000_000)],
        not_in_json: vec![],
        oplog_entries: 12_044,
        open_transactions: 0,
    }
}
