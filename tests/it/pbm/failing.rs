//! What fails while PBM is at work: an agent, a node, the storage.

use crate::support::agents::Agents;
use crate::support::program::{fill, until};

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
