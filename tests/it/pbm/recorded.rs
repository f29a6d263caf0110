//! Point-in-time recovery through PBM: recorded, restored to a second, and recorded again.

use chrono::{DateTime, SecondsFormat, Utc};
use mongodb::bson::{Document, doc};
use serde_json::Value;

use super::line::{LINE, base, is_on, status};
use crate::support::agents::Agents;
use crate::support::program::{Home, fill, until};

fn seconds(text: &Value) -> i64 {
    DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap().timestamp()
}

/// The last second that can be restored.
fn end(home: &Home) -> Option<i64> {
    status(home)["ranges"].as_array().unwrap().last().map(|range| seconds(&range["to"]))
}

async fn insert(agents: &Agents, id: &str) -> i64 {
    let notes = agents.set.client().await.unwrap().database("shop").collection::<Document>("notes");
    notes.insert_one(doc! {"_id": id}).await.unwrap();
    Utc::now().timestamp()
}

async fn notes(agents: &Agents) -> Vec<String> {
    let notes = agents.set.client().await.unwrap().database("shop").collection::<Document>("notes");
    let mut found: Vec<String> =
        notes.distinct("_id", doc! {}).await.unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_goes_back_to_a_second_and_is_recorded_again() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 200).await;
    let home = agents.home();
    home.ok(&["settings", "set", "pitr.slice_seconds", "5"]);
    home.ok(&["service", "configure", "src", "--storage", "local", "--yes"]);
    agents.are_seen();
    home.ok(&LINE);
    let mut second = LINE;
    second[2] = "second";
    let ran = home.run(&second);
    assert!(ran.code == 4 && ran.stderr.contains("schedule line already records the oplog of src"), "{}", ran.stderr);

    // Switched on, with the length of a slice in minutes; without a base PBM records nothing, and that is said.
    // PBM takes one setting after the other.
    until("PBM is switched on", || is_on(&agents) && agents.pbm(&["config"])["pitr"]["oplogSpanMin"] == 0.0833);
    until("the base is missed", || status(&home)["error"].as_str().is_some_and(|e| e.contains("with the first base")));
    let first = base(&home);
    insert(&agents, "a").await;
    // PBM looks every 15 seconds whether there is one: what is about to begin is nothing that is wrong. That the base is missed
    // may be said until it is noticed here.
    until("a window begins at the base", || {
        let now = status(&home);
        let error = now["error"].as_str().unwrap_or_default();
        assert!(error.is_empty() || error.contains("with the first base"), "{now}");
        assert!(now["beginning"] == false || (now["running"] == false && error.is_empty()), "{now}");
        end(&home).is_some()
    });
    until("it is recorded", || status(&home)["running"] == true);
    assert_eq!(status(&home)["beginning"], false);
    assert_eq!(status(&home)["bases"][0]["backup"], first.as_str());
    let kept = insert(&agents, "b").await;
    // The second of the change is over before the next one.
    until("the next second", || Utc::now().timestamp() > kept);
    let lost = insert(&agents, "c").await;
    until("both are recorded", || end(&home).is_some_and(|end| end >= lost));
    let now = status(&home);
    assert!(now["running"] == true && now["error"].is_null() && now["archive"]["storage"] == "local", "{now}");
    let check = home.run(&["service", "check", "src"]);
    assert!(check.stdout.contains("PBM records the oplog; oplogSpanMin is 0.0833"), "{}", check.stdout);

    let at = |second: i64| DateTime::from_timestamp(second, 0).unwrap().to_rfc3339_opts(SecondsFormat::Secs, true);
    let restore = |time: &str, more: &[&str]| {
        home.run(&[&["restore", "--service", "src", "--time", time, "--to", "src"][..], more].concat())
    };
    for outside in [at(kept - 86_400), at(lost + 86_400)] {
        let ran = restore(&outside, &[]);
        assert!(ran.code == 3 && ran.stderr.contains("cannot be restored to"), "{outside} {} {}", ran.code, ran.stderr);
    }
    let plan = restore(&at(kept), &["--base", &first]);
    assert!(plan.code == 4 && plan.stdout.contains("\"items\""), "{} {}", plan.stdout, plan.stderr);
    assert!(plan.stdout.contains("PBM stops recording the oplog"), "{}", plan.stdout);
    let refused = restore(&at(kept), &["--rename", "shop.notes=shop.other"]);
    assert!(refused.code == 2 && refused.stderr.contains("not with --time"), "{} {}", refused.code, refused.stderr);

    let restored = restore(&at(kept), &["--base", &first, "--yes", "--wait"]);
    assert_eq!(restored.code, 0, "{} {}", restored.stdout, restored.stderr);
    assert_eq!(notes(&agents).await, ["a", "b"]);
    let jobs = home.ok(&["job", "list"]);
    let job = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "restore").unwrap()["id"].to_string();
    let log = home.run(&["job", "log", &job]).stdout;
    assert!(log.contains("makes a new base by schedule line") && log.contains("switched on again"), "{log}");

    // It is off until the new base is there, and records again after it, with what was recorded before still at hand.
    until("the new base is there", || {
        home.ok(&["backup", "list"]).as_array().unwrap().iter().filter(|b| b["state"] == "succeeded").count() == 2
    });
    until("PBM is switched on again", || is_on(&agents));
    until("it is recorded again", || {
        let now = status(&home);
        now["running"] == true && now["ranges"].as_array().unwrap().len() == 2
    });
    let after = status(&home);
    assert_eq!(after["bases"].as_array().unwrap().len(), 2, "{after}");
    let reason = after["gaps"][0]["reason"].as_str().unwrap();
    assert_eq!(reason, format!("the engine stopped recording for a restore, job {job}"));
    let ran = restore(&at(kept), &[]);
    assert_eq!(ran.code, 4, "the moment is still in the window: {}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changed_is_named_and_off_is_off() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 50).await;
    let home = agents.ready_home();
    home.ok(&[
        "schedule",
        "add",
        "line",
        "--service",
        "src",
        "--storage",
        "local",
        "--cron",
        "@yearly",
        "--type",
        "pitr",
        "--disabled",
    ]);
    assert!(!is_on(&agents));
    home.ok(&["schedule", "enable", "line"]);
    until("PBM is switched on", || is_on(&agents));
    let says = |words: &str| status(&home)["error"].as_str().is_some_and(|error| error.contains(words));

    // Another span: it stays, and is the reason why nothing is said to be recorded.
    agents.pbm(&["config", "--set", "pitr.oplogSpanMin=3"]);
    until("the change is named", || says("pitr.oplogSpanMin is 3"));
    assert_eq!(agents.pbm(&["config"])["pitr"]["oplogSpanMin"], 3);
    home.ok(&["service", "configure", "src", "--storage", "local", "--yes"]);
    until("what is asked for is written", || agents.pbm(&["config"])["pitr"]["oplogSpanMin"] == 1);

    // Who looks after it has seen it too: what it writes later than a person stays.
    until("the change is gone", || !says("pitr.oplogSpanMin"));

    // Switched off by hand.
    agents.pbm(&["config", "--set", "pitr.enabled=false"]);
    until("that is named, too", || says("somebody else switched PBM's recording off"));
    assert!(!is_on(&agents));
    agents.pbm(&["config", "--set", "pitr.enabled=true"]);
    until("it is on again", || !says("somebody else"));

    // Another storage would take the recording with it.
    base(&home);
    let elsewhere = tempfile::tempdir().unwrap();
    home.ok(&["storage", "add", "other", "--type", "filesystem", "--path", elsewhere.path().to_str().unwrap()]);
    let ran = home.run(&["backup", "create", "--service", "src", "--storage", "other", "--wait"]);
    assert!(ran.code != 0 && ran.stderr.contains("PBM records the oplog, and has one storage"), "{}", ran.stderr);

    home.ok(&["schedule", "disable", "line"]);
    until("PBM is switched off", || !is_on(&agents));
}
