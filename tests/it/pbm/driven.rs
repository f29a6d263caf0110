//! From a configuration to a deletion.

use mongodb::bson::{Document, doc};

use crate::support::agents::Agents;
use crate::support::program::{Home, fill, replica_set, until};

async fn count(client: &mongodb::Client, collection: &str) -> u64 {
    client.database("shop").collection::<Document>(collection).count_documents(doc! {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_checked_restored_and_deleted() {
    let Some(agents) = Agents::start(3).await else { return };
    fill(&agents.set, "shop", 2_000).await;
    let home = agents.home();
    let check = home.run(&["service", "check", "src"]);
    assert!(check.stdout.contains("no configuration yet"), "{}", check.stdout);
    home.ok(&["service", "configure", "src", "--storage", "local", "--yes"]);
    agents.are_seen();
    let check = home.run(&["service", "check", "src"]);
    assert!(check.code == 0 && check.stdout.contains("3 nodes in 1 replica sets"), "{}", check.stdout);

    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "b", "--wait"]);
    let backup = home.ok(&["backup", "show", "b"]);
    let name = backup["pbm_name"].as_str().unwrap().to_owned();
    assert!(home.files().contains(&format!("src/pbm/{name}.pbm.json")), "{:?}", home.files());
    assert_eq!(backup["state"], "succeeded");
    assert!(backup["consistent_at_ts"]["t"].as_u64().unwrap() > 0 && backup["documents"].is_null(), "{backup}");
    // It is listed once, under the name that it has here.
    home.ok(&["storage", "sync", "local"]);
    assert_eq!(home.ok(&["backup", "list"]).as_array().unwrap().len(), 1);
    // Also where nobody has seen it before, and again there.
    let fresh = Home::new();
    let path = home.storage();
    fresh.ok(&["storage", "add", "local", "--type", "filesystem", "--path", path.to_str().unwrap()]);
    for _ in 0..2 {
        fresh.ok(&["storage", "sync", "local"]);
        let listed = fresh.ok(&["backup", "list"]);
        assert!(listed.as_array().unwrap().len() == 1 && listed[0]["name"] == "b", "{listed}");
    }
    home.ok(&["backup", "verify", "b"]);

    let client = agents.set.client().await.unwrap();
    client.database("shop").collection::<Document>("items").delete_many(doc! {"_id": {"$lt": 1_000}}).await.unwrap();
    let plan = home.run(&["restore", "b", "--to", "src"]);
    assert!(plan.code == 4 && plan.stdout.contains("\"items\""), "{} {}", plan.stdout, plan.stderr);
    home.ok(&["restore", "b", "--to", "src", "--yes", "--wait"]);
    assert_eq!(count(&client, "items").await, 2_000);

    let taken = ["restore", "b", "--to", "src", "--rename", "shop.items=shop.taken"];
    client.database("shop").create_collection("taken").await.unwrap();
    let ran = home.run(&taken);
    assert!(ran.code == 4 && ran.stderr.contains("shop.taken already"), "{}", ran.stderr);
    client.database("shop").collection::<Document>("taken").drop().await.unwrap();
    home.ok(&[&taken[..], &["--yes", "--wait"]].concat());
    assert_eq!(count(&client, "taken").await, 2_000);

    // The same by this program, into a server that has no PBM.
    let other = replica_set().await;
    home.add_service("other", &other.uri());
    home.ok(&["restore", "b", "--to", "other", "--yes", "--wait"]);
    assert_eq!(count(&other.client().await.unwrap(), "items").await, 2_000);

    home.ok(&["backup", "delete", "b", "--yes"]);
    until("it is gone", || home.ok(&["backup", "list"]).as_array().unwrap().is_empty());
    let left = home.files();
    assert!(left.iter().all(|file| file.ends_with(".pbm.init")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_configured_is_shown_and_not_overwritten() {
    let Some(agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 100).await;
    let (home, elsewhere) = (agents.home(), tempfile::tempdir().unwrap());
    let config = elsewhere.path().join("theirs.yaml");
    let path = elsewhere.path().join("theirs");
    std::fs::create_dir(&path).unwrap();
    let theirs = format!(
        "storage: {{type: filesystem, filesystem: {{path: {}}}}}\nrestore: {{batchSize: 300}}\n",
        path.display()
    );
    std::fs::write(&config, theirs).unwrap();
    agents.pbm(&["config", "--file", config.to_str().unwrap(), "--wait"]);
    agents.are_seen();
    let create =
        |name: &'static str| ["backup", "create", "--service", "src", "--storage", "local", "--name", name, "--wait"];
    let ran = home.run(&create("a"));
    assert!(ran.code == 1 && ran.stderr.contains("somebody else configured PBM"), "{}", ran.stderr);
    assert!(ran.stderr.contains("storage.filesystem.path"), "{}", ran.stderr);
    assert_eq!(home.files(), [""; 0], "nothing is left");

    let plan = home.run(&["service", "configure", "src", "--storage", "local"]);
    assert!(plan.code == 4 && plan.stdout.contains("storage.filesystem.path"), "{} {}", plan.stdout, plan.stderr);
    home.ok(&["service", "configure", "src", "--storage", "local", "--yes"]);
    // What is not ours stays.
    assert_eq!(agents.pbm(&["config"])["restore"]["batchSize"], 300);
    home.ok(&create("b"));
    // Changed once more: it is noticed before the next backup.
    agents.pbm(&["config", "--file", config.to_str().unwrap(), "--wait"]);
    let check = home.run(&["service", "check", "src"]);
    let changed = format!("storage.filesystem.path is {} instead of", path.display());
    assert!(check.stdout.contains("somebody else changed it: "), "{}", check.stdout);
    assert!(check.stdout.contains(&changed), "{}", check.stdout);
    let page = home.ok(&["service", "show", "src", "--cluster"]);
    let problem = &page["cluster"]["problems"][0];
    assert!(problem["text"].as_str().unwrap().contains(&changed), "{page}");
    assert!(problem["remedy"].as_str().unwrap().contains("service configure src"), "{page}");
    assert_eq!(home.run(&create("c")).code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_agents_nothing_is_begun_and_nothing_is_left() {
    let Some(mut agents) = Agents::start(1).await else { return };
    fill(&agents.set, "shop", 100).await;
    let home = agents.ready_home();
    agents.kill_agents();
    until("the agent is lost", || !home.run(&["service", "check", "src"]).stdout.contains("each with its agent"));
    let page = home.ok(&["service", "show", "src", "--cluster"]);
    let node = &page["cluster"]["sets"][0]["nodes"][0];
    assert!(["lost", "missing"].contains(&node["state"].as_str().unwrap()), "{page}");
    assert!(node["remedy"].as_str().unwrap().contains("pbm-agent"), "{page}");
    let ran = home.run(&["backup", "create", "--service", "src", "--storage", "local", "--name", "b", "--wait"]);
    assert!(ran.code != 0 && ran.stderr.contains("no pbm-agent is alive"), "{}", ran.stderr);
    let left = home.files();
    assert!(left.iter().all(|file| file.ends_with(".pbm.init")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_the_backup_in_pbm_too() {
    let Some(agents) = Agents::start(1).await else { return };
    let (home, id) = agents.backup_under_way().await;
    home.ok(&["job", "cancel", &id.to_string()]);
    until("it is over", || !["queued", "running"].contains(&home.job(id)["state"].as_str().unwrap()));
    let state = home.job(id)["state"].clone();
    // It may have been done before the cancel arrived.
    if state == "cancelled" {
        assert!(home.files().iter().all(|file| file.contains("/pbm/")), "{:?}", home.files());
        let status = agents.pbm(&["status", "-s", "backups", "-s", "running"]);
        let snapshots = status["backups"]["snapshot"].as_array().cloned().unwrap_or_default();
        assert!(snapshots.iter().all(|snapshot| snapshot["status"] != "done"), "{status}");
        assert_eq!(status["running"], serde_json::json!({}), "{status}");
    } else {
        assert_eq!(state, "succeeded", "{}", home.job(id));
    }
}
