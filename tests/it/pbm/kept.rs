//! What PBM keeps, what goes with the backups that led to it, and what is left after a restore that failed.

use chrono::{DateTime, Utc};
use mongodb::bson::{Document, doc};
use serde_json::Value;

use super::line::{LINE, base, is_on, status};
use crate::support::agents::Agents;
use crate::support::program::{Home, fill, until};

/// A home that records `src` in slices of some seconds.
fn recording(agents: &Agents) -> Home {
    let home = agents.home();
    home.ok(&["settings", "set", "pitr.slice_seconds", "5"]);
    home.ok(&["service", "configure", "src", "--storage", "local", "--yes"]);
    agents.are_seen();
    home.ok(&LINE);
    until("PBM is switched on", || is_on(agents));
    home
}

/// Writes, and waits until that is recorded.
async fn write(agents: &Agents, home: &Home, id: &str) {
    let notes = agents.set.client().await.unwrap().database("shop").collection::<Document>("notes");
    notes.insert_one(doc! {"_id": id}).await.unwrap();
    let at = Utc::now().timestamp();
    until("it is recorded", || {
        let status = status(home);
        let end = status["ranges"].as_array().unwrap().last().and_then(|range| range["to"].as_str().map(str::to_owned));
        end.is_some_and(|end| DateTime::parse_from_rfc3339(&end).unwrap().timestamp() >= at)
    });
}

/// Where the recorded oplog begins, in seconds, as PBM says it.
fn oldest_chunk(agents: &Agents) -> i64 {
    let list = agents.pbm(&["list", "--full"]);
    let ranges = list["pitr"]["rsRanges"][agents.set.name()].as_array().unwrap().clone();
    ranges.iter().map(|range| range["range"]["start"].as_i64().unwrap()).min().unwrap()
}

fn last_job(home: &Home, kind: &str) -> Option<Value> {
    let jobs = home.ok(&["job", "list"]);
    let of_kind = jobs.as_array().unwrap().iter().filter(|job| job["kind"] == kind).cloned();
    of_kind.max_by_key(|job| job["id"].as_i64())
}

fn pbm_name(home: &Home, backup: &str) -> String {
    home.ok(&["backup", "show", backup])["pbm_name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_deletes_the_recorded_oplog_that_no_base_needs() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 100).await;
    let home = recording(&agents);
    home.ok(&["schedule", "edit", "line", "--retention", "1"]);
    let first = base(&home);
    write(&agents, &home, "a").await;
    let begins = oldest_chunk(&agents);
    let second = base(&home);
    assert_ne!(first, second);
    until("retention is over", || last_job(&home, "retention").is_some_and(|job| job["state"] == "succeeded"));

    let job = last_job(&home, "retention").unwrap()["id"].to_string();
    let log = home.run(&["job", "log", &job]).stdout;
    assert!(log.contains("PBM deletes the recorded oplog of") && log.contains("no base needs it"), "{log}");
    let backups = home.ok(&["backup", "list"]);
    assert_eq!(backups.as_array().unwrap().len(), 1, "{backups}");
    // The window begins at the base that is left, and goes on.
    write(&agents, &home, "b").await;
    let at = home.ok(&["backup", "show", &second])["consistent_at_ts"]["t"].as_i64().unwrap();
    let left = oldest_chunk(&agents);
    assert!(begins < left && left <= at, "{begins} {left} {at}");
    let status = status(&home);
    assert_eq!(status["ranges"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(status["bases"][0]["backup"], second.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_base_that_pbm_keeps_is_named_with_its_reason_and_counted() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 100).await;
    let home = recording(&agents);
    let first = base(&home);
    write(&agents, &home, "a").await;

    // By hand: it is a good backup afterwards as before.
    let reason = "cannot delete the last PITR base snapshot";
    let ran = home.run(&["backup", "delete", &first, "--yes"]);
    assert!(ran.code == 4 || ran.code == 1, "{} {} {}", ran.code, ran.stdout, ran.stderr);
    assert!(ran.stderr.contains(reason), "{}", ran.stderr);
    let kept = home.ok(&["backup", "show", &first]);
    assert!(kept["state"] == "succeeded" && kept["error"].as_str().unwrap().contains(reason), "{kept}");
    home.ok(&["backup", "verify", &first]);

    // By retention: the newest is gone, as somebody else deleted it in PBM, so that PBM has no other base than the one that
    // goes here.
    let second = base(&home);
    agents.pbm(&["delete-backup", &pbm_name(&home, &second), "--yes"]);
    home.ok(&["schedule", "edit", "line", "--retention", "1"]);
    home.ok(&["daemon", "stop"]);
    home.start_daemon();
    until("retention was tried", || {
        last_job(&home, "retention")
            .is_some_and(|job| ["failed", "waiting_retry"].contains(&job["state"].as_str().unwrap()))
    });
    let job = last_job(&home, "retention").unwrap();
    let error = job["error"].as_str().unwrap();
    assert!(error.contains(&format!("backup {first} could not be deleted")) && error.contains(reason), "{job}");
    let log = home.run(&["job", "log", &job["id"].to_string()]).stdout;
    assert!(log.contains("deleted 0 backups of line"), "{log}");
    let plan = home.ok(&["schedule", "retention", "line", "--dry-run"]);
    let planned = plan["backups"].as_array().unwrap().iter().find(|backup| backup["name"] == first.as_str()).unwrap();
    assert!(planned["error"].as_str().unwrap().contains(reason), "{plan}");
    let warnings = home.ok(&["daemon", "status"])["warnings"].clone();
    assert!(warnings.to_string().contains(reason), "{warnings}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_that_failed_nothing_is_recorded_and_that_is_said() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 2_000).await;
    let home = recording(&agents);
    let first = base(&home);
    write(&agents, &home, "a").await;

    // What it holds cannot be read: PBM begins, and fails.
    let name = pbm_name(&home, &first);
    let data = home.files().into_iter().find(|file| file.contains(&name) && file.contains("/shop.items")).unwrap();
    std::fs::write(home.storage().join(&data), b"no such data").unwrap();
    let ran = home.run(&["restore", &first, "--to", "src", "--yes", "--wait"]);
    assert_eq!(ran.code, 1, "{} {}", ran.stdout, ran.stderr);
    let restore = last_job(&home, "restore").unwrap();
    let log = home.run(&["job", "log", &restore["id"].to_string()]).stdout;
    assert!(log.contains("stopped recording the oplog for this restore") && log.contains("schedule run line"), "{log}");

    // PBM leaves its recording off, and so does mongokeep: nobody would want a base of what is there now.
    let named = format!("the last restore into it, job {}, did not succeed", restore["id"]);
    until("it is said", || status(&home)["error"].as_str().is_some_and(|error| error.contains(&named)));
    assert!(!is_on(&agents));
    let now = status(&home);
    assert!(now["running"] == false && now["ranges"].as_array().unwrap().len() == 1, "{now}");
    let text = home.run(&["pitr", "status", "--service", "src", "-o", "table"]).stdout;
    assert!(text.contains("mongokeep schedule run line"), "{text}");
    let warned = home.ok(&["daemon", "status"])["warnings"].clone();
    let stopped = warned.as_array().unwrap().iter().find(|warning| warning["kind"] == "pitr_stopped");
    assert!(stopped.is_some_and(|warning| warning["text"].as_str().unwrap().contains(&named)), "{warned}");
    let backups = home.ok(&["backup", "list"]);
    assert_eq!(backups.as_array().unwrap().len(), 1, "no base was made: {backups}");

    // The remedy: a base of what it holds now.
    let second = base(&home);
    until("PBM is switched on again", || is_on(&agents));
    write(&agents, &home, "b").await;
    let after = status(&home);
    assert!(after["running"] == true && after["error"].is_null(), "{after}");
    assert!(after["bases"].as_array().unwrap().iter().any(|base| base["backup"] == second.as_str()), "{after}");
}
