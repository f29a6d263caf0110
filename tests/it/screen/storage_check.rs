//! The check of a storage on the screen.

use mongokeep::domain::storage_check::{Amount, Finding, FindingKind, Findings, PlannedBlocks, RepairPlan};
use mongokeep::tui::model::Look;
use mongokeep::tui::msg::{Effect, Reply};

use crate::support::screen::{full, keys, reply, shown};

#[test]
fn a_check_names_what_is_wrong_first_and_how_the_rest_is_removed() {
    let mut model = full(Look::default(), (100, 40));
    let effects = keys(&mut model, "3 v");
    let Some(Effect::CheckStorage(name)) = effects.last().cloned() else { panic!("{effects:?}") };
    assert!(shown(&model).contains("Comparing the manifests"), "{}", shown(&model));

    let mut findings = Findings::default();
    let blocks = Finding::new(FindingKind::UnneededBlocks, "prod", None, "no manifest of the folder names them");
    findings.push(blocks.object("prod/blocks", 0).of(3, 3_000).removable());
    let missing = Finding::new(FindingKind::MissingObject, "prod", Some("nightly"), "it is missing");
    findings.push(missing.object("prod/backups/nightly/data/a\u{1b}/x", 7).remedy("use another backup"));
    let planned = PlannedBlocks { folder: "prod".into(), blocks: 3, bytes: 3_000 };
    let plan = RepairPlan { blocks: vec![planned], ..RepairPlan::default() };
    let seen = Amount { objects: 1_234, bytes: 5_000_000 };
    let report = findings.report(&name, 12, seen, Some(0), plan);
    reply(&mut model, Reply::StorageChecked { name: name.clone(), result: Ok(report) });
    let text = shown(&model);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what}: {text}"));
    assert!(at("something is wrong") < at("1,234 objects"), "{text}");
    assert!(at("1 missing object of a backup") < at("3 blocks that no backup needs"), "{text}");
    assert!(at("data/a\\u{1b}/x") < at("use another backup"), "{text}");
    at(&format!("mongokeep storage check {name} --repair"));
}
