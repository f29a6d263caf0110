//! What PBM is at when mongokeep is not there, and what it cannot be asked for.

use mongodb::bson::{Document, Timestamp, doc};

use crate::support::agents::Agents;
use crate::support::program::{fill, until};

/// Seconds without a heartbeat after which a lock is one of a dead operation, and more.
const LONG_SILENT: u32 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_pbm_cannot_be_asked_for_leaves_a_good_backup() {
    let Some(mut agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 100).await;
    let home = agents.ready_home();
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "b", "--wait"]);
    let whole = home.files();

    // Its program is away, its agent is away: both pass.
    let program = home.ok(&["settings", "get", "pbm.path"])["value"].as_str().unwrap().to_owned();
    home.ok(&["settings", "set", "pbm.path", "/nowhere/pbm"]);
    let ran = home.run(&["backup", "delete", "b", "--yes"]);
    assert!(ran.code != 0, "{} {}", ran.stdout, ran.stderr);
    let backup = home.ok(&["backup", "show", "b"]);
    assert!(
        backup["state"] == "succeeded" && backup["error"].as_str().unwrap().contains("could not be deleted"),
        "{backup}"
    );
    home.ok(&["settings", "set", "pbm.path", &program]);
    agents.kill_agents();
    until("the agent is lost", || !home.run(&["service", "check", "src"]).stdout.contains("each with its agent"));
    let ran = home.run(&["backup", "delete", "b", "--yes"]);
    assert!(ran.code != 0 && ran.stderr.contains("no pbm-agent is alive"), "{} {}", ran.stdout, ran.stderr);
    assert_eq!(home.ok(&["backup", "show", "b"])["state"], "succeeded");
    assert_eq!(home.files(), whole);

    agents.start_agent(&agents.set.addresses()[0]);
    agents.are_seen();
    home.ok(&["backup", "delete", "b", "--yes"]);
    assert!(home.ok(&["backup", "list"]).as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_pbm_is_at_is_adopted_by_the_next_daemon() {
    let Some(agents) = Agents::start(1).await else { return };
    let (home, id) = agents.backup_under_way().await;
    home.kill_daemon();
    assert!(home.files().iter().all(|file| !file.ends_with("/manifest.json")), "{:?}", home.files());
    let attempt = std::fs::read_to_string(home.storage().join("src/backups/b/attempt.json")).unwrap();
    let noted: serde_json::Value = serde_json::from_str(&attempt).unwrap();
    home.start_daemon();
    until("it is over", || !["queued", "running"].contains(&home.job(id)["state"].as_str().unwrap()));
    let job = home.job(id);
    assert!(job["state"] == "succeeded" && job["attempt"] == 1, "{job}");
    let backup = home.ok(&["backup", "show", "b"]);
    assert_eq!(backup["pbm_name"], noted["pbm_name"]);
    let log = home.run(&["job", "log", &id.to_string()]).stdout;
    assert!(log.contains("is followed to its end"), "{log}");
    let status = agents.pbm(&["status", "-s", "backups"]);
    let snapshots = status["backups"]["snapshot"].as_array().unwrap();
    assert!(snapshots.len() == 1 && snapshots[0]["status"] == "done", "PBM made one: {status}");
    home.ok(&["backup", "verify", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_a_dead_operation_is_named_and_keeps_nothing_from_being_done() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 100).await;
    let home = agents.ready_home();
    let admin = agents.set.client().await.unwrap().database("admin");
    let now = admin.run_command(doc! {"hello": 1}).await.unwrap().get_timestamp("operationTime").unwrap();
    let lock = doc! {
        "type": "backup", "replset": agents.set.name(), "node": "gone:27017", "opid": "6b0bee333165509810c1475b",
        "epoch": Timestamp { time: 1, increment: 1 }, "hb": Timestamp { time: now.time - LONG_SILENT, increment: 1 },
    };
    admin.collection::<Document>("pbmLock").insert_one(lock).await.unwrap();
    let check = home.run(&["service", "check", "src"]);
    assert!(check.stdout.contains("backup at gone:27017 of rs0, silent for"), "{}", check.stdout);
    let operation = home.ok(&["service", "show", "src", "--cluster"])["cluster"]["operation"].clone();
    assert!(operation["silent_seconds"].as_u64().unwrap() >= u64::from(LONG_SILENT), "{operation}");

    // Whoever waited for it would wait for a quarter of an hour.
    let began = std::time::Instant::now();
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "b", "--wait"]);
    assert!(began.elapsed().as_secs() < 300, "{:?}", began.elapsed());
    let left = admin.collection::<Document>("pbmLock").count_documents(doc! {"node": "gone:27017"}).await.unwrap();
    assert_eq!(left, 0, "PBM removed it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_with_pbm_is_listed_once_and_as_theirs() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 100).await;
    let home = agents.ready_home();
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "b", "--wait"]);
    let theirs = agents.pbm(&["backup", "--wait"])["name"].as_str().unwrap().to_owned();
    home.ok(&["storage", "sync", "local"]);
    let listed = home.ok(&["backup", "list"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let of = |name: &str| listed.iter().find(|backup| backup["name"] == name).unwrap();
    // Ours has a name of its own beside that of PBM.
    assert!(of("b")["pbm_name"].is_string() && of("b")["engine"] == "pbm");
    assert!(of(&theirs)["pbm_name"].is_null() && of(&theirs)["engine"] == "pbm", "{listed:?}");
    home.ok(&["storage", "sync", "local"]);
    assert_eq!(home.ok(&["backup", "list"]).as_array().unwrap().len(), 2);

    // PBM restores it, as it is asked to for its own service.
    let items = agents.set.client().await.unwrap().database("shop").collection::<Document>("items");
    items.delete_many(doc! {}).await.unwrap();
    let plan = home.run(&["restore", &theirs, "--to", "src"]);
    assert!(plan.code == 4 && plan.stdout.contains("\"items\""), "{} {}", plan.stdout, plan.stderr);
    let id = home.ok(&["restore", &theirs, "--to", "src", "--yes", "--wait"])["id"].to_string();
    let log = home.run(&["job", "log", &id]).stdout;
    assert!(log.contains("PBM calls this restore"), "{log}");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 100);
}
