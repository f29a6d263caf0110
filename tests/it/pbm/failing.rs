//! What fails while PBM is at work: an agent, a node, the storage.

use mongodb::bson::{Document, doc};

use crate::support::agents::Agents;
use crate::support::program::{Home, fill, until};
use crate::support::proxy::{Fault, Proxy};
use crate::support::s3_servers::{BUCKET, Keeps, Server};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_in_the_middle_fails_the_backup_and_keeps_no_other_from_being_made() {
    let Some(mut agents) = Agents::start(1).await else { return };
    let (home, id) = agents.backup_under_way().await;
    agents.kill_agents();
    until("it is over", || home.job(id)["state"] != "running");
    let job = home.job(id);
    // It may have been done before the agent was killed.
    if job["state"] != "succeeded" {
        let error = job["error"].as_str().unwrap();
        assert!(error.contains("no agent is alive") || error.contains("sign of life"), "{job}");
        assert!(home.files().iter().all(|file| !file.contains("src/backups/")), "{:?}", home.files());
    }
    agents.start_agent(&agents.set.addresses()[0]);
    agents.are_seen();
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "c", "--wait"]);
    home.ok(&["backup", "verify", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_down_is_named_and_the_others_do_the_work() {
    let Some(mut agents) = Agents::start(3).await else { return };
    fill(&agents.set, "shop", 500).await;
    let home = agents.ready_home();
    let primary = agents.set.primary().await.unwrap();
    let down = (primary + 1) % 3;
    let address = agents.set.addresses()[down].clone();
    agents.set.kill_member(down).await.unwrap();
    let node = || {
        let page = home.ok(&["service", "show", "src", "--cluster"]);
        let nodes = page["cluster"]["sets"][0]["nodes"].as_array().unwrap().clone();
        nodes.into_iter().find(|node| node["host"] == address.as_str()).unwrap_or_else(|| panic!("{page}"))
    };
    until("its agent is missed", || ["lost", "missing"].contains(&node()["state"].as_str().unwrap()));
    assert!(node()["remedy"].as_str().unwrap().contains("pbm-agent"), "{}", node());
    let check = home.said(&["service", "check", "src"]);
    let items = check["items"].as_array().unwrap();
    assert!(
        items.iter().any(|item| item["state"] == "warn" && item["detail"].as_str().unwrap().contains(&address)),
        "{check}"
    );
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "b", "--wait"]);
    home.ok(&["backup", "verify", "b"]);
}

/// Bytes that are a small part of the data.
const IN_THE_MIDDLE: u64 = 1 << 20;

/// A home whose storage `bucket` is reached through a proxy that can fail.
async fn behind_a_proxy(agents: &Agents, server: &Server, proxy: &Proxy) -> Home {
    let home = agents.home();
    let file = home.path().join("secret");
    std::fs::write(&file, server.config.secret_access_key.as_ref().unwrap().expose()).unwrap();
    let endpoint = format!("http://{}", proxy.address);
    let of = ["--type", "s3", "--bucket", BUCKET, "--region", "us-east-1", "--endpoint", &endpoint, "--path-style"];
    let keys = ["--access-key-id", server.config.access_key_id.as_deref().unwrap()];
    let keys = [&keys[..], &["--secret-access-key-file", file.to_str().unwrap()]].concat();
    home.ok(&[&["storage", "add", "bucket"], &of[..], &keys].concat());
    home.ok(&["service", "configure", "src", "--storage", "bucket", "--yes"]);
    agents.are_seen();
    home
}

/// Holds the storage up when a part of the data has gone through, and lets it fail then for everybody.
fn fails_in_the_middle(agents: &Agents, proxy: &Proxy) {
    proxy.freeze_after(IN_THE_MIDDLE);
    until("PBM is in the middle", || proxy.is_frozen());
    let running = agents.pbm(&["status", "-s", "running"])["running"].clone();
    assert_eq!(running["type"], "backup", "{running}");
    proxy.cut(std::iter::repeat_n(Fault::Refuse, 100_000));
    proxy.freeze(false);
}

/// The job when it is over, with its log.
fn over(home: &Home, id: i64) -> (serde_json::Value, String) {
    home.run(&["job", "wait", &id.to_string()]);
    (home.job(id), home.run(&["job", "log", &id.to_string()]).stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_fails_in_the_middle_fails_the_job_in_pbms_words_and_no_other() {
    let Some(agents) = Agents::start(1).await else { return };
    let Some(server) = Server::versitygw(Keeps::Nothing).await else { return };
    fill(&agents.set, "shop", 40_000).await;
    let proxy = Proxy::start(server.address, []).await;
    let home = behind_a_proxy(&agents, &server, &proxy).await;
    let create = |name: &'static str, storage: &'static str| {
        ["backup", "create", "--service", "src", "--storage", storage, "--name", name]
    };
    // Slow enough that there is a middle.
    proxy.slow_down(200);
    let begin = |args: &[&str], words: &str| {
        let id = home.ok(args)["id"].as_i64().unwrap();
        until("PBM has begun", || home.run(&["job", "log", &id.to_string()]).stdout.contains(words));
        id
    };

    let id = begin(&create("b", "bucket"), "PBM calls it");
    fails_in_the_middle(&agents, &proxy);
    let (job, log) = over(&home, id);
    let error = job["error"].as_str().unwrap();
    assert!(job["state"] == "failed" && error.contains("upload to S3"), "{job}\n{log}");
    // It is no good one, and keeps no other from being made: in another storage at once, in this one when it is back.
    let backups = home.ok(&["backup", "list"]);
    assert!(backups.as_array().unwrap().iter().all(|b| b["name"] == "b" && b["state"] == "failed"), "{backups}");
    home.ok(&[&create("elsewhere", "local")[..], &["--wait"]].concat());
    proxy.heal();
    proxy.slow_down(0);
    home.ok(&[&create("c", "bucket")[..], &["--wait"]].concat());
    home.ok(&["backup", "verify", "c"]);

    // A folder that is gone in the middle of a restore, as one that is not mounted any more.
    let items = agents.set.client().await.unwrap().database("shop").collection::<Document>("items");
    items.delete_many(doc! {"_id": {"$lt": 20_000}}).await.unwrap();
    let id = begin(&["restore", "elsewhere", "--to", "src", "--yes"], "PBM calls this restore");
    let (folder, away) = (home.storage().join("src/pbm"), home.storage().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    let (job, log) = over(&home, id);
    let error = job["error"].as_str().unwrap();
    assert!(job["state"] == "failed" && error.contains("PBM's restore"), "{job}\n{log}");
    assert!(error.contains("no such file"), "{job}\n{log}");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(&away, &folder).unwrap();
    home.ok(&["restore", "elsewhere", "--to", "src", "--yes", "--wait"]);
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 40_000);
}
