//! The sync of a storage on the screen: what it would change comes first.

use std::fs;
use std::path::Path;

use mongokeep::client::{Client, SyncPlan};
use mongokeep::tui::model::{Layer, Look, Model};
use mongokeep::tui::msg::{Effect, Reply};
use mongokeep::tui::update::waits_for_plan;

use super::terminal::Tty;
use crate::support::command::Home;
use crate::support::screen::*;

fn add_disk(client: &Client, path: &Path) {
    let values = [("name", "archive"), ("type", "filesystem"), ("path", path.to_str().unwrap())];
    client.add_storage(&values.map(|(key, text)| (key.to_owned(), vec![text.to_owned()])).into()).unwrap();
}

/// A folder in which somebody began backups of these names.
fn began(path: &Path, names: &[&str]) {
    for name in names {
        let folder = path.join("prod/backups").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("attempt.json"), "{").unwrap();
    }
}

/// The plan of the sync of a folder like that.
async fn plan(names: &[&str]) -> SyncPlan {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("archive");
    fs::create_dir_all(&path).unwrap();
    began(&path, names);
    let client = Client::open(&mongokeep::config::Home::below(&dir.path().join("home")), false).unwrap();
    add_disk(&client, &path);
    client.plan_sync("archive").await.unwrap()
}

/// Presses keys that ask for the plan of the first storage; gives its number.
fn ask(model: &mut Model, chords: &str) -> u64 {
    let effects = keys(model, chords);
    let [Effect::PlanSync { ticket, storage }] = &effects[..] else {
        panic!("nothing is changed before somebody has seen it: {effects:?}")
    };
    assert_eq!(storage, "archive");
    *ticket
}

fn answer(model: &mut Model, ticket: u64, plan: SyncPlan) -> Vec<Effect> {
    reply(model, Reply::SyncPlanned { ticket, name: "archive".into(), result: Ok(Box::new(plan)) })
}

/// The page of the sync of the first storage, with the answer.
fn planned(plan: SyncPlan, size: (u16, u16)) -> Model {
    let mut model = full(Look::default(), size);
    let ticket = ask(&mut model, "3 s");
    assert!(answer(&mut model, ticket, plan).is_empty());
    model
}

#[tokio::test]
async fn what_a_sync_changes_is_shown_and_confirmed() {
    let plan = plan(&["a", "b", "c", "d"]).await;
    for size in [(80, 24), (160, 50)] {
        let mut model = planned(plan.clone(), size);
        let text = shown(&model);
        for part in ["Sync the storage archive?", "4 without a manifest", "- prod/a: no manifest", "and 1 more"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("This changes the catalogue of this machine"), "{text}");
        let Some(Layer::Confirm(question)) = model.layers.last() else { panic!("{:?}", model.layers) };
        assert!(question.lines[0].starts_with("This changes"), "a small window cuts the rest: {:?}", question.lines);
        // The harmless button comes first, and leads back to all that was found.
        assert!(press(&mut model, "Enter").is_empty());
        let text = shown(&model);
        assert!(text.contains("nothing was changed yet") && text.contains("prod/d: no manifest"), "{text}");

        let mut model = planned(plan.clone(), size);
        let effects = keys(&mut model, "Right Enter");
        assert_eq!(effects, [Effect::CarryOutSync("archive".into(), Box::new(plan.clone()))]);
        assert!(shown(&model).contains("Reading the manifests"), "{}", shown(&model));
        let report = mongokeep::client::SyncReport { planned: false, ..plan.report.clone() };
        reply(&mut model, Reply::StorageSynced { name: "archive".into(), result: Ok(report) });
        assert!(shown(&model).contains("✓ the catalogue was changed"), "{}", shown(&model));
    }
}

#[tokio::test]
async fn where_nothing_changes_nothing_is_asked() {
    let model = planned(plan(&[]).await, (80, 24));
    assert!(matches!(model.layers[..], [Layer::Report { .. }]), "{:?}", model.layers);
    assert!(shown(&model).contains("there is nothing to change"), "{}", shown(&model));
}

#[tokio::test]
async fn what_is_wrong_is_said_first_whatever_a_sync_changes() {
    for size in [(80, 24), (160, 50)] {
        let mut nothing = plan(&[]).await;
        nothing.report.unreadable.push("prod/broken: it is no manifest".into());
        let model = planned(nothing, size);
        let text = shown(&model);
        assert!(text.contains("✗ the catalogue agrees with the storage, and something is wrong"), "{text}");
        assert!(text.contains("below") && !text.contains("there is nothing to change"), "{text}");

        let mut some = plan(&["a"]).await;
        some.report.missing.push("prod/gone".into());
        let mut model = planned(some.clone(), size);
        press(&mut model, "Enter");
        let text = shown(&model);
        assert!(text.contains("✗ nothing was changed yet, and something is wrong"), "{text}");

        let mut model = planned(some.clone(), size);
        keys(&mut model, "Right Enter");
        let report = mongokeep::client::SyncReport { planned: false, ..some.report };
        reply(&mut model, Reply::StorageSynced { name: "archive".into(), result: Ok(report) });
        let text = shown(&model);
        assert!(text.contains("✗ the catalogue was changed, and something is wrong"), "{text}");
    }
}

#[tokio::test]
async fn a_plan_whose_page_is_gone_is_given_up() {
    let plan = plan(&["a"]).await;
    let mut model = full(Look::default(), (80, 24));
    let ticket = ask(&mut model, "3 s");
    assert!(waits_for_plan(&model, ticket));
    keys(&mut model, "Esc 1");
    assert!(!waits_for_plan(&model, ticket), "nobody wants it any more");
    answer(&mut model, ticket, plan);
    assert!(model.layers.is_empty(), "{:?}", model.layers);
}

#[tokio::test]
async fn only_the_latest_plan_is_shown_and_asked_about() {
    let (old, new) = (plan(&["old"]).await, plan(&["new"]).await);
    for is_first in [true, false] {
        let mut model = full(Look::default(), (80, 24));
        let first = ask(&mut model, "3 s");
        let second = ask(&mut model, "Esc s");
        assert!(!waits_for_plan(&model, first) && waits_for_plan(&model, second), "only one of them goes on");
        if is_first {
            answer(&mut model, first, old.clone());
            assert!(shown(&model).contains("Reading the manifests"), "{}", shown(&model));
            answer(&mut model, second, new.clone());
        } else {
            answer(&mut model, second, new.clone());
            answer(&mut model, first, old.clone());
        }
        assert!(matches!(model.layers[..], [Layer::Report { .. }, Layer::Confirm(_)]), "{:?}", model.layers);
        let text = shown(&model);
        assert!(text.contains("prod/new") && !text.contains("prod/old"), "{text}");
    }
}

#[tokio::test]
async fn a_plan_asks_nothing_above_another_page() {
    let plan = plan(&["a"]).await;
    let mut model = full(Look::default(), (80, 24));
    let ticket = ask(&mut model, "3 s");
    model.layers.push(Layer::Messages { scroll: 0 });
    answer(&mut model, ticket, plan);
    assert!(matches!(model.layers[..], [Layer::Report { .. }, Layer::Messages { .. }]), "{:?}", model.layers);
    let said = &model.messages.back().unwrap().text;
    assert!(said.contains("the catalogue of archive is not changed"), "{said}");
}

#[test]
fn a_sync_by_keys_only() {
    let home = Home::new();
    let dir = tempfile::tempdir().unwrap();
    began(dir.path(), &["left-behind"]);
    home.good(&format!("storage add archive --type filesystem --path {}", dir.path().display()));
    let mut tty = Tty::start(home.path(), &[], &[]);
    tty.wait("daemon ok");
    tty.send("3");
    tty.wait("archive");
    tty.send("s");
    tty.wait("Sync the storage archive?");
    assert!(!home.good("backup list").contains("left-behind"), "it was changed before somebody said so");
    tty.send("l");
    tty.send("\r");
    tty.wait("the catalogue was changed");
    assert!(home.good("backup list").contains("left-behind"));
    tty.send("\x1b");
    tty.wait("Storage locations");
    tty.send("s");
    tty.wait("there is nothing to change");
    tty.send("q");
    tty.ended();
}
