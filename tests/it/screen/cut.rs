//! Every screen, form and dialog at each width from 60 to 220: no text may be cut without an ellipsis.
//!
//! What a frame shows is compared with what the same moment shows where there is room for all of it: a word at an edge that
//! is only the beginning of one there, or a sentence that stops at an edge and goes on there, was cut.

use std::collections::{BTreeSet, HashMap, HashSet};

use mongokeep::domain::backup::Model as DataModel;
use mongokeep::domain::job::{JobKind, JobState};
use mongokeep::domain::namespace::{Namespace, NamespaceSize};
use mongokeep::domain::storage_check::{Amount, Finding, FindingKind, Findings, PlannedBlocks, RepairPlan};
use mongokeep::domain::warning::{Warning, WarningKind};
use mongokeep::error::ErrorKind;
use mongokeep::tui::model::{Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply, Snapshot};
use mongokeep::tui::update::update;

use ratatui::buffer::Cell;
use ratatui::style::Modifier;

use crate::support::screen::*;

/// Wide enough for everything.
const ROOM: (u16, u16) = (400, 160);
const LONG: &str = "customer-relations-and-billing-eu-central-production-replica-set";

/// The full data with long names, and with what goes wrong.
fn long_snapshot() -> Snapshot {
    let mut snapshot = pitr_snapshot();
    snapshot.services.push(service(LONG, Some(700)));
    snapshot.services.push(service("unprotected-service-without-any-backup", None));
    let mut storage = storage("object-storage-of-the-second-region", "s3", "s3://acme-backups-eu-central-2/production");
    storage.last_test_error = Some("the bucket does not exist, or this key may not see it".into());
    snapshot.storages.push(storage);
    let mut schedule = schedule(&format!("nightly-{LONG}"), LONG, "15 3 1,15 * 1-5");
    schedule.timezone = "America/Argentina/Buenos_Aires".into();
    schedule.last = Some(last(51, JobState::Failed, 700));
    snapshot.schedules.push(schedule);
    let backups = std::sync::Arc::make_mut(&mut snapshot.backups);
    let mut long =
        backup(&format!("{LONG}-20261121-1402"), LONG, 700, mongokeep::domain::backup::BackupState::Succeeded);
    long.verify_error = Some("the object data/shop/orders/00003.bson.zst is missing from the storage".into());
    long.verified_at = Some(ago(90));
    backups.insert(1, long);
    let jobs = std::sync::Arc::make_mut(&mut snapshot.jobs);
    let mut waiting = job(55, JobKind::Backup, &format!("{LONG}-20261121-1403"), JobState::WaitingRetry, 3);
    waiting.service = Some(LONG.into());
    waiting.error = Some("cannot reach the primary of the replica set: connection refused (10.0.0.4:27017)".into());
    waiting.hint = Some(format!("mongokeep service check {LONG}"));
    waiting.next_attempt_at = Some(now() + chrono::TimeDelta::minutes(14));
    jobs.insert(0, waiting);
    snapshot.warnings = vec![Warning {
        kind: WarningKind::Stale,
        service: Some(LONG.into()),
        text: format!("{LONG} has had no good backup for 3 days, and its schedule promises one each day"),
        ..Warning::new(WarningKind::Stale, "")
    }];
    snapshot
}

fn long(size: (u16, u16)) -> Model {
    let mut model = full(Look::default(), size);
    update(&mut model, Msg::Snapshot(Box::new(long_snapshot())));
    model
}

fn problem(message: &str) -> Problem {
    let hint = Some("look at the log of the daemon, and try it again when the storage answers".into());
    Problem { kind: ErrorKind::Failed, field: None, message: message.into(), hint }
}

fn checked(model: &mut Model, service: &str) {
    let result = Ok(check_report(false));
    reply(model, Reply::ServiceChecked { name: service.into(), model: DataModel::Logical, result });
}

/// The page of the check of a storage that holds what can be removed.
fn checked_storage(model: &mut Model) {
    let effects = keys(model, "3 v");
    let Some(Effect::CheckStorage(name)) = effects.last() else { panic!("{effects:?}") };
    let mut findings = Findings::default();
    let blocks = Finding::new(FindingKind::UnneededBlocks, LONG, None, "no manifest of the folder names them");
    findings.push(blocks.object(format!("{LONG}/blocks"), 0).of(3, 3_000).removable());
    let other = Finding::new(FindingKind::OtherAttempt, LONG, Some("nightly"), "begun by host-b; it may be at work");
    findings.push(other.remedy("look whether host-b makes this backup now"));
    let planned = PlannedBlocks { folder: LONG.into(), blocks: 3, bytes: 3_000 };
    let plan = RepairPlan { blocks: vec![planned], ..RepairPlan::default() };
    let result = Ok(findings.report(name, 12, Amount { objects: 1_234, bytes: 5_000_000 }, Some(0), plan));
    reply(model, Reply::StorageChecked { name: name.clone(), result });
}

fn listed() -> Vec<NamespaceSize> {
    let one = |db: &str, collection: &str, n| NamespaceSize {
        namespace: Namespace::new(db, collection),
        documents: Some(n),
        bytes: Some(n * 512),
    };
    vec![one("shop", "orders", 900_000), one("shop", "events", 1_204_311), one(LONG, "a_collection_of_some_length", 12)]
}

type Scene = (&'static str, fn(&mut Model));

/// What a person can have on the screen.
fn scenes() -> Vec<Scene> {
    vec![
        ("backups", |_| {}),
        ("restores", |m| drop(keys(m, "l"))),
        ("jobs", |m| drop(keys(m, "l l j j"))),
        ("schedules", |m| {
            let effects = keys(m, "2 j");
            look_ahead(m, effects);
        }),
        ("timeline", |m| {
            let effects = keys(m, "2 j t w");
            look_ahead(m, effects);
        }),
        ("storage", |m| drop(keys(m, "3"))),
        ("services", |m| drop(keys(m, "4"))),
        ("general", |m| drop(keys(m, "4 l"))),
        ("notifications", |m| drop(keys(m, "4 l l"))),
        ("appearance", |m| drop(keys(m, "4 l l l"))),
        ("keys", |m| drop(keys(m, "4 l l l l"))),
        ("about", |m| drop(keys(m, "4 h"))),
        ("filter", |m| {
            keys(m, "/");
            type_text(m, "nightly");
        }),
        ("message", |m| {
            let what = "the backup of the day was not queued".to_owned();
            reply(
                m,
                Reply::Queued { what, result: Err(problem("the storage object-storage-of-the-second-region is full")) },
            );
        }),
        ("lost", |m| drop(update(m, Msg::StoreLost(problem("mongokeep.db: disk I/O error"))))),
        ("no_daemon", |m| drop(update(m, Msg::Daemon(daemon(false))))),
        ("details_of_a_backup", |m| {
            keys(m, "j j Enter");
            reply(m, Reply::Manifest { backup: "nightly-20261120".into(), result: Ok(Box::new(contents())) });
        }),
        ("details_of_a_failure", |m| drop(keys(m, "l l Enter"))),
        ("details_of_a_running_job", |m| drop(keys(m, "l l j Enter"))),
        ("details_of_a_schedule", |m| {
            keys(m, "2 G Enter");
            let schedule = m.target_schedule().unwrap().name.clone();
            reply(m, Reply::RetentionPlanned { schedule, result: Ok(Box::new(retention_plan())) });
        }),
        ("details_of_a_storage", |m| drop(keys(m, "3 G Enter"))),
        ("details_of_a_service", |m| drop(keys(m, "4 G Enter"))),
        ("search", |m| {
            keys(m, "l l j Enter /");
            type_text(m, "shop");
        }),
        ("check", |m| {
            keys(m, "4 t");
            checked(m, "orders-rs");
        }),
        ("messages", |m| drop(keys(m, "m"))),
        ("help", |m| drop(keys(m, "?"))),
        ("palette", |m| drop(keys(m, "Ctrl-P"))),
        ("create", |m| {
            keys(m, "j n");
            checked(m, "orders-rs");
        }),
        ("create_of_a_long_name", |m| {
            keys(m, "n Tab");
            let row = form_row(m, "service");
            row.set(LONG);
        }),
        ("create_advanced", |m| {
            keys(m, "j n Tab Tab Tab Tab Tab Enter");
            checked(m, "orders-rs");
        }),
        ("create_a_schedule", |m| {
            let effects = keys(m, "2 j j n");
            look_ahead(m, effects);
        }),
        ("edit_a_schedule", |m| {
            let effects = keys(m, "2 G e");
            look_ahead(m, effects);
        }),
        ("a_line_that_is_typed", |m| {
            let effects = keys(m, "2 j j n Tab Tab Tab Tab Tab Tab Tab");
            look_ahead(m, effects);
            keys(m, "Backspace");
        }),
        ("list_of_services", |m| {
            keys(m, "j n Tab Tab Enter");
        }),
        ("list_of_storages", |m| {
            keys(m, "j n Tab Tab Tab Tab Enter");
        }),
        ("list_of_namespaces", |m| {
            keys(m, "j n Tab Tab Tab Tab Tab Tab Enter");
            to_row(m, "include");
            keys(m, "Enter");
            reply(m, Reply::NamespacesListed { service: "orders-rs".into(), result: Ok(listed()) });
        }),
        ("list_of_zones", |m| {
            keys(m, "2 n");
            to_row(m, "timezone");
            keys(m, "Enter");
        }),
        ("add_a_service", |m| drop(keys(m, "4 n"))),
        ("add_a_service_advanced", |m| {
            keys(m, "4 n Tab Tab Tab Enter Tab");
        }),
        ("add_a_service_with_errors", |m| {
            keys(m, "4 n");
            type_text(m, "no good");
            keys(m, "Tab");
            type_text(m, "http://x");
            keys(m, "Tab");
        }),
        ("edit_a_service", |m| drop(keys(m, "4 G e"))),
        ("add_a_storage", |m| drop(keys(m, "3 n"))),
        ("add_s3", |m| drop(keys(m, "3 n Tab Right Tab"))),
        ("add_azure", |m| drop(keys(m, "3 n Tab Right Right Tab"))),
        ("add_gcs", |m| drop(keys(m, "3 n Tab Right Right Right Tab"))),
        ("edit_a_storage", |m| drop(keys(m, "3 G e"))),
        ("add_a_storage_that_encrypts", |m| {
            keys(m, "3 n");
            put(m, "encrypt_to", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p");
            to_row(m, "identity_file");
        }),
        ("check_of_a_storage", checked_storage),
        ("repair_of_a_storage", |m| {
            checked_storage(m);
            keys(m, "x");
        }),
        ("setting", |m| drop(keys(m, "4 l j Enter"))),
        ("restore", |m| drop(keys(m, "j j r"))),
        ("restore_a_moment", |m| {
            let effects = keys(m, "4 r");
            count_operations(m, effects);
        }),
        ("discard", |m| {
            keys(m, "4 n");
            type_text(m, "prod");
            keys(m, "Esc");
        }),
        ("delete", |m| {
            keys(m, "j j d");
            let result = Ok(delete_plans("nightly-20261120"));
            reply(m, Reply::DeletePlanned { backup: "nightly-20261120".into(), result });
        }),
        ("cancel", |m| drop(keys(m, "l l j c"))),
        ("plan", |m| {
            keys(m, "j j r Ctrl-S");
            let (request, result) = planned();
            reply(m, Reply::RestorePlanned { request, result });
            keys(m, "Enter");
        }),
    ]
}

fn form_row<'a>(model: &'a mut Model, key: &str) -> &'a mut mongokeep::tui::form::Row {
    use mongokeep::tui::model::Layer;
    let form = model.layers.iter_mut().rev().find_map(|layer| match layer {
        Layer::Form(form) => Some(form),
        _ => None,
    });
    form.and_then(|form| form.row_mut(key)).unwrap_or_else(|| panic!("no row {key}"))
}

const BORDERS: [char; 14] = ['│', '┌', '┐', '└', '┘', '─', '█', '░', '▏', '▌', '▸', '▾', '▒', '▲'];

/// The pieces of a row between borders, each with whether its text reaches the border.
fn pieces(row: &str) -> Vec<(String, bool)> {
    let chars: Vec<char> = row.chars().collect();
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for (at, c) in chars.iter().enumerate() {
        let border = BORDERS.contains(c);
        if !border {
            piece.push(*c);
        }
        if border || at + 1 == chars.len() {
            let text = std::mem::take(&mut piece);
            let free = text.len() - text.trim_end().len();
            if !text.trim().is_empty() {
                pieces.push((text.trim().to_owned(), free <= 1));
            }
        }
    }
    pieces
}

/// The rows of a frame. What lies below a box is taken for blank: the box covers it, and it is dimmed for that.
fn rows(model: &Model) -> Vec<String> {
    let terminal = frame(model);
    let buffer = terminal.backend().buffer();
    let sign =
        |cell: &Cell| if cell.modifier.contains(Modifier::DIM) { " ".to_owned() } else { cell.symbol().to_owned() };
    buffer.content.chunks(usize::from(buffer.area.width)).map(|row| row.iter().map(sign).collect()).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// What the same moments show where there is room.
#[derive(Default)]
struct Whole {
    words: HashSet<String>,
    /// Words by their beginnings.
    starts: HashMap<String, BTreeSet<String>>,
    /// What follows three words of a sentence.
    following: HashMap<[String; 3], BTreeSet<String>>,
    /// The three words at the end of a text.
    ends: HashSet<[String; 3]>,
}

/// The last three words of a text, each one space from the next.
fn tail(text: &str) -> Option<[String; 3]> {
    let mut words = text.rsplit(' ').map(str::to_owned);
    let (c, b, a) = (words.next()?, words.next()?, words.next()?);
    [&a, &b, &c].iter().all(|w| !w.is_empty()).then_some([a, b, c])
}

impl Whole {
    fn of(frames: &[Vec<String>]) -> Self {
        let mut whole = Self::default();
        for (line, _) in frames.iter().flatten().flat_map(|row| pieces(row)) {
            whole.words.extend(words(&line).map(str::to_owned));
            let parts: Vec<String> = line.split(' ').map(str::to_owned).collect();
            for four in parts.windows(4).filter(|four| four.iter().all(|w| !w.is_empty())) {
                let [a, b, c, next] = four else { continue };
                whole.following.entry([a.clone(), b.clone(), c.clone()]).or_default().insert(next.clone());
            }
            whole.ends.extend(tail(&line));
        }
        for word in &whole.words {
            for (at, _) in word.char_indices().skip(2) {
                whole.starts.entry(word[..at].to_owned()).or_default().insert(word.clone());
            }
        }
        whole
    }

    /// What was cut in a frame.
    fn cut(&self, rows: &[String]) -> Vec<String> {
        let all: Vec<Vec<(String, bool)>> = rows.iter().map(|row| pieces(row)).collect();
        let mut found = Vec::new();
        for (y, row) in all.iter().enumerate() {
            let below = || all.iter().skip(y + 1).take(2).flatten().flat_map(|(text, _)| words(text));
            for (text, _) in row.iter().filter(|(text, at_edge)| *at_edge && !text.ends_with('…')) {
                let Some(last) = words(text).last() else { continue };
                if let Some(longer) = self.starts.get(last).filter(|_| !self.words.contains(last)) {
                    // A word that is longer than a line goes on in the next one.
                    let goes_on = |word: &String| {
                        let rest = &word[last.len()..];
                        below().any(|w| rest.starts_with(w) || w.starts_with(rest))
                    };
                    // The line after the last one of a page lies outside of its window.
                    let is_last = y + 4 >= all.len();
                    if !is_last && !longer.iter().any(goes_on) {
                        found.push(format!("the word {last:?} in {text:?}"));
                        continue;
                    }
                }
                let Some(end) = tail(text).filter(|end| !self.ends.contains(end)) else { continue };
                let Some(next) = self.following.get(&end) else { continue };
                if !next.iter().any(|next| below().any(|w| next.starts_with(w) || w.starts_with(next.as_str()))) {
                    found.push(format!("{next:?} is missing after {text:?}"));
                }
            }
        }
        found
    }
}

#[test]
fn no_text_is_cut_without_an_ellipsis() {
    let mut wrong: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    // What has room there: the words of all moments, since one frame may show what another one cuts.
    let at = |prepare: &fn(&mut Model), size| {
        let mut model = long(size);
        prepare(&mut model);
        model
    };
    let frames: Vec<Vec<String>> = scenes().iter().map(|(_, prepare)| rows(&at(prepare, ROOM))).collect();
    let whole = Whole::of(&frames);
    for (name, prepare) in scenes() {
        let mut model = at(&prepare, (220, 50));
        for width in (60..=220u16).rev() {
            let height = if width < 100 { 24 } else { 50 };
            update(&mut model, Msg::Resize(width, height));
            for cut in whole.cut(&rows(&model)) {
                if seen.insert((name, cut.clone())) {
                    wrong.push(format!("{name} at {width}x{height}: {cut}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} texts are cut:\n{}", wrong.len(), wrong.join("\n"));
}
