//! The check of a storage on the screen, and the repair of what it found.

use mongokeep::domain::job::{JobKind, JobState};
use mongokeep::domain::storage_check::{
    Amount, Finding, FindingKind, Findings, PlannedBlocks, RepairPlan, StorageReport,
};
use mongokeep::error::ErrorKind;
use mongokeep::tui::model::{Look, Model};
use mongokeep::tui::msg::{Effect, Msg, Problem, Reply};
use mongokeep::tui::update::update;

use super::terminal::Tty;
use crate::support::command::Home;
use crate::support::screen::*;

/// The page of the check of the first storage, before its answer; and the name of the storage.
fn checking(look: Look, size: (u16, u16)) -> (Model, String) {
    let mut model = full(look, size);
    let effects = keys(&mut model, "3 v");
    let Some(Effect::CheckStorage(name)) = effects.last().cloned() else { panic!("{effects:?}") };
    (model, name)
}

/// Something that is wrong, something that can be removed, and something that stays.
fn report(storage: &str) -> StorageReport {
    let mut findings = Findings::default();
    let blocks = Finding::new(FindingKind::UnneededBlocks, "prod", None, "no manifest of the folder names them");
    findings.push(blocks.object("prod/blocks", 0).of(3, 3_000).removable());
    let missing = Finding::new(FindingKind::MissingObject, "prod", Some("nightly"), "it is missing");
    findings.push(missing.object("prod/backups/nightly/data/a\u{1b}/x", 7).remedy("use another backup"));
    let other = Finding::new(FindingKind::OtherAttempt, "prod", Some("foreign"), "begun by host-b; it may be at work");
    findings.push(other.remedy(format!("mongokeep storage check {storage}")));
    let planned = PlannedBlocks { folder: "prod".into(), blocks: 3, bytes: 3_000 };
    let plan = RepairPlan { blocks: vec![planned], ..RepairPlan::default() };
    findings.report(storage, 1, Amount { objects: 1_234, bytes: 5_000_000 }, Some(0), plan)
}

fn checked(look: Look, size: (u16, u16)) -> (Model, String) {
    let (mut model, name) = checking(look, size);
    let result = Ok(report(&name));
    reply(&mut model, Reply::StorageChecked { name: name.clone(), result });
    (model, name)
}

#[test]
fn a_check_names_what_is_wrong_first_and_how_the_rest_is_removed() {
    let (model, _) = checking(Look::default(), (100, 40));
    assert!(shown(&model).contains("Comparing the manifests"), "{}", shown(&model));
    let (model, _) = checked(Look::default(), (100, 40));
    let text = shown(&model);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what}: {text}"));
    assert!(at("something is wrong") < at("1,234 objects"), "{text}");
    assert!(at("1 missing object of a backup") < at("3 blocks that no backup needs"), "{text}");
    assert!(at("data/a\\u{1b}/x") < at("use another backup"), "{text}");
    assert!(text.contains("prod/blocks (3.0 kB) [removable]: no manifest"), "{text}");
    assert!(text.contains("3 objects can be removed, which frees 3.0 kB: x shows what goes"), "{text}");
    assert!(text.contains("x repair"), "the line of keys has it: {text}");
}

#[test]
fn a_repair_shows_its_plan_is_confirmed_and_shows_what_is_left() {
    for size in [(80, 24), (160, 50)] {
        let (mut model, name) = checked(Look::default(), size);
        let plan = report(&name).plan;
        assert!(press(&mut model, "x").is_empty());
        let text = shown(&model);
        for part in [
            format!("Repair the storage {name}?").as_str(),
            "It removes 3 objects, which frees 3.0 kB:",
            "- prod/blocks: 3 blocks that no backup needs, 3.0 kB",
            "It leaves alone:",
            "- foreign: begun by host-b; it may be at work",
            "that a backup needs is removed.",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(press(&mut model, "Enter").is_empty(), "the harmless button comes first");
        let effects = keys(&mut model, "x Right Enter");
        assert_eq!(effects, [Effect::RepairStorage(name.clone(), Box::new(plan))]);

        let running = job(71, JobKind::Repair, "", JobState::Running, 0);
        reply_to_key(&mut model, Reply::RepairQueued { storage: name.clone(), result: Ok(running.clone()) });
        assert!(shown(&model).contains("job 71"), "{}", shown(&model));
        press(&mut model, "x");
        assert!(shown(&model).contains("job 71 removes it already"), "{}", shown(&model));
        let look = |model: &mut Model, job: mongokeep::domain::job::Job| {
            let mut snapshot = full_snapshot();
            std::sync::Arc::make_mut(&mut snapshot.jobs).insert(0, job);
            plain(update(model, Msg::Snapshot(Box::new(snapshot))))
        };
        assert!(look(&mut model, running.clone()).is_empty());
        let mut ended = mongokeep::domain::job::Job { state: JobState::Succeeded, finished_at: Some(now()), ..running };
        (ended.progress.objects_done, ended.progress.bytes_done) = (3, 3_000);
        assert_eq!(look(&mut model, ended.clone()), [Effect::CheckStorage(name.clone())]);
        assert!(look(&mut model, ended).is_empty(), "it is checked once");
        let left = Findings::default().report(&name, 1, Amount::default(), Some(0), RepairPlan::default());
        reply(&mut model, Reply::StorageChecked { name, result: Ok(left) });
        let text = shown(&model);
        assert!(text.contains("✓ job 71 has removed 3 objects, which frees 3.0 kB; what is left:"), "{text}");
        assert!(text.contains("nothing is wrong with a backup") && !text.contains("x repair"), "{text}");
    }
}

#[test]
fn a_repair_that_was_cancelled_has_not_failed() {
    let (mut model, name) = checked(Look::default(), (80, 24));
    let running = job(71, JobKind::Repair, "", JobState::Running, 0);
    reply_to_key(&mut model, Reply::RepairQueued { storage: name, result: Ok(running.clone()) });
    let mut ended = mongokeep::domain::job::Job {
        state: JobState::Cancelled,
        error: Some("cancelled".into()),
        finished_at: Some(now()),
        ..running
    };
    ended.progress.objects_done = 2;
    let mut snapshot = full_snapshot();
    std::sync::Arc::make_mut(&mut snapshot.jobs).insert(0, ended);
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    let text = shown(&model);
    assert!(text.contains("job 71 was cancelled after it had removed 2 objects"), "{text}");
    assert!(!text.contains("then failed"), "{text}");
}

#[test]
fn there_is_a_repair_only_where_a_check_found_something() {
    let (mut model, name) = checking(Look::default(), (80, 24));
    press(&mut model, "x");
    assert!(shown(&model).contains("the check goes on"), "{}", shown(&model));
    let left = Findings::default().report(&name, 1, Amount::default(), Some(0), RepairPlan::default());
    reply(&mut model, Reply::StorageChecked { name, result: Ok(left) });
    press(&mut model, "x");
    assert!(shown(&model).contains("there is nothing to remove"), "{}", shown(&model));
    // The palette finds it from anywhere, and says where it works.
    let mut model = full(Look::default(), (80, 24));
    press(&mut model, "Ctrl-P");
    type_text(&mut model, "repair");
    assert!(shown(&model).contains("Repair the checked storage"), "{}", shown(&model));
    press(&mut model, "Enter");
    let said = &model.messages.back().unwrap().text;
    assert!(said.contains("check a storage first (3, then v)"), "{said}");

    let (mut model, _) = checked(Look { read_only: true, ..Look::default() }, (80, 24));
    let text = shown(&model);
    assert!(text.contains("3 objects can be removed") && !text.contains("x shows"), "{text}");
    assert!(press(&mut model, "x").is_empty());
    assert!(shown(&model).contains("read-only"));
}

#[test]
fn what_a_page_of_a_storage_says_to_do_is_copied() {
    let home = "/srv/keep";
    let (mut model, name) = checked(Look::default(), (160, 50));
    model.home = Some(home.into());
    assert_eq!(press(&mut model, "y"), [Effect::Copy("use another backup".into())]);
    let command = format!("mongokeep --home {home} storage check {name}");
    assert!(shown(&model).contains(&command), "{}", shown(&model));
    assert_eq!(keys(&mut model, "j y"), [Effect::Copy(command)]);

    // Of what could not be found out: what helps.
    let hint = "make it with mkdir -m 700 -p /srv/backups";
    let problem = || Problem {
        kind: ErrorKind::NotFound,
        field: None,
        message: "the storage folder /srv/backups does not exist".into(),
        hint: Some(hint.into()),
    };
    let (mut model, name) = checking(Look::default(), (80, 24));
    reply(&mut model, Reply::StorageChecked { name, result: Err(problem()) });
    assert_eq!(press(&mut model, "y"), [Effect::Copy(hint.into())]);

    let mut model = full(Look::default(), (80, 24));
    let effects = keys(&mut model, "3 s");
    let [Effect::PlanSync { ticket, storage }] = &effects[..] else { panic!("{effects:?}") };
    reply(&mut model, Reply::SyncPlanned { ticket: *ticket, name: storage.clone(), result: Err(problem()) });
    assert_eq!(press(&mut model, "y"), [Effect::Copy(hint.into())]);

    let mut model = full(Look::default(), (80, 24));
    let effects = keys(&mut model, "3 t");
    let [Effect::TestStorage(name)] = &effects[..] else { panic!("{effects:?}") };
    let failed = mongokeep::domain::storage::TestStep {
        id: "open".into(),
        ok: false,
        detail: format!("the storage folder /srv/backups does not exist ({hint})"),
        seconds: 0.0,
        remedy: None,
        hint: Some(hint.into()),
    };
    reply(&mut model, Reply::StorageTested { name: name.clone(), result: Ok(vec![failed]) });
    let text = shown(&model);
    assert!(text.contains(&format!("    {hint}")) && !text.contains(&format!("({hint}")), "{text}");
    assert_eq!(press(&mut model, "y"), [Effect::Copy(hint.into())]);
}

#[test]
fn a_repair_by_keys_only() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    let blocks = dir.path().join("prod/blocks/ab");
    let block = blocks.join(format!("ab{}", "0".repeat(62)));
    std::fs::create_dir_all(&blocks).unwrap();
    std::fs::write(&block, "nobody needs it").unwrap();
    home.good(&format!("storage add archive --type filesystem --path {}", dir.path().display()));
    let mut tty = Tty::start(home.path(), &[], &[]);
    tty.wait("daemon ok");
    tty.send("3");
    tty.wait("archive");
    tty.send("v");
    tty.wait("[removable]");
    tty.send("x");
    tty.wait("- prod/blocks: 1 block that no backup needs, 15 B");
    assert!(block.exists(), "it went before somebody said so");
    tty.send("l");
    tty.send("\r");
    tty.wait("has removed 1 object, which frees 15 B");
    tty.wait("nothing is wrong with a backup");
    assert!(!block.exists());
    tty.send("q");
    tty.ended();
}
