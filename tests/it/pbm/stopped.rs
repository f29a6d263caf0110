//! A daemon that is stopped in order while PBM is at work: PBM goes on, and the next daemon follows it.

use mongodb::bson::{Document, doc};
use serde_json::Value;

use crate::support::agents::Agents;
use crate::support::program::{Home, fill, until};

/// Stops the daemon, which says what it leaves running.
fn stop(home: &Home, job: i64) {
    let ran = home.run(&["daemon", "stop"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains(&format!("job {job} is left to the next daemon: PBM goes on with its")),
        "{}",
        ran.stderr
    );
    assert_eq!(home.job(job)["state"], "running");
}

/// Starts the next daemon, and returns the job when it is over, with its log.
fn followed(home: &Home, job: i64) -> (Value, String) {
    home.start_daemon();
    until("it is over", || !["queued", "running"].contains(&home.job(job)["state"].as_str().unwrap()));
    (home.job(job), home.run(&["job", "log", &job.to_string()]).stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_on_and_is_followed_by_the_next_daemon() {
    let Some(agents) = Agents::start(1).await else { return };
    let (home, id) = agents.backup_under_way().await;
    stop(&home, id);
    // Not cancelled: it is done, or PBM is at it.
    let status = agents.pbm(&["status", "-s", "backups", "-s", "running"]);
    let snapshots = status["backups"]["snapshot"].as_array().cloned().unwrap_or_default();
    let is_running = status["running"]["type"] == "backup";
    assert!(is_running || snapshots.iter().any(|snapshot| snapshot["status"] == "done"), "{status}");

    let (job, log) = followed(&home, id);
    assert!(job["state"] == "succeeded" && job["attempt"] == 1, "{job}");
    assert!(log.contains("is followed to its end") && !log.contains("stopped unexpectedly"), "{log}");
    let status = agents.pbm(&["status", "-s", "backups"]);
    let snapshots = status["backups"]["snapshot"].as_array().unwrap();
    assert!(snapshots.len() == 1 && snapshots[0]["status"] == "done", "PBM made one: {status}");
    assert_eq!(home.ok(&["backup", "show", "b"])["pbm_name"], snapshots[0]["name"]);
    home.ok(&["backup", "verify", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_on_and_is_followed_by_the_next_daemon() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 60_000).await;
    let home = agents.ready_home();
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "b", "--wait"]);
    let items = agents.set.client().await.unwrap().database("shop").collection::<Document>("items");
    items.delete_many(doc! {"_id": {"$lt": 30_000}}).await.unwrap();

    let id = home.ok(&["restore", "b", "--to", "src", "--yes"])["id"].as_i64().unwrap();
    until("PBM has begun", || home.run(&["job", "log", &id.to_string()]).stdout.contains("PBM calls this restore"));
    stop(&home, id);
    let (job, log) = followed(&home, id);
    assert_eq!(job["state"], "succeeded", "{job} {log}");
    assert!(log.contains("is followed to its end") && !log.contains("stopped unexpectedly"), "{log}");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 60_000);
    let restores = agents.pbm(&["list", "--restore"]);
    assert_eq!(restores.as_array().unwrap().len(), 1, "PBM restored once: {restores}");

    // One whose daemon was killed is followed, too.
    items.delete_many(doc! {"_id": {"$lt": 30_000}}).await.unwrap();
    let id = home.ok(&["restore", "b", "--to", "src", "--yes"])["id"].as_i64().unwrap();
    until("PBM has begun", || home.run(&["job", "log", &id.to_string()]).stdout.contains("PBM calls this restore"));
    home.kill_daemon();
    let (job, log) = followed(&home, id);
    assert_eq!(job["state"], "succeeded", "{job} {log}");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 60_000);
}
