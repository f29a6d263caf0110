//! The sync of a storage on the screen: what it would change comes first.

use std::fs;
use std::path::Path;

use mongokeep::client::{Client, SyncPlan};
use mongokeep::tui::model::{Layer, Look, Model};
use mongokeep::tui::msg::{Effect, Reply};

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

/// The page of the sync of the first storage, with the answer.
fn planned(plan: SyncPlan, size: (u16, u16)) -> Model {
    let mut model = full(Look::default(), size);
    let effects = keys(&mut model, "3 s");
    assert_eq!(effects, [Effect::PlanSync("archive".into())], "nothing is changed before somebody has seen it");
    assert!(reply(&mut model, Reply::SyncPlanned { name: "archive".into(), result: Ok(Box::new(plan)) }).is_empty());
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
async fn a_plan_that_comes_late_opens_no_box_elsewhere() {
    let plan = plan(&["a"]).await;
    let mut model = full(Look::default(), (80, 24));
    keys(&mut model, "3 s Esc 1");
    reply(&mut model, Reply::SyncPlanned { name: "archive".into(), result: Ok(Box::new(plan)) });
    assert!(model.layers.is_empty(), "{:?}", model.layers);
    assert!(shown(&model).contains("the catalogue of archive is not changed"), "{}", shown(&model));
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
