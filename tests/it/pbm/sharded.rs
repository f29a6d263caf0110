//! A sharded cluster: told apart when it is added, and backed up through its config servers.

use crate::support::agents::RunningAgents;
use crate::support::cluster::Cluster;
use crate::support::program::{Home, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_mongos_is_told_apart_and_its_cluster_is_backed_up() {
    let Some(agents) = RunningAgents::new().await else { return };
    let Some(cluster) = Cluster::start().await else { return };
    cluster.fill(300).await;
    let home = Home::new();
    let add = |name: &'static str, uri: &str, more: &[&str]| {
        home.run(&[&["service", "add", name, "--uri", uri][..], more].concat())
    };
    let config_servers = format!("mongodb://{}/?replicaSet=cfg", cluster.config.addresses()[0]);
    // As it is, and with the name of a replica set, which a mongos does not have.
    for (name, uri) in [("a", cluster.uri()), ("b", format!("{}?replicaSet=sh1", cluster.uri()))] {
        let ran = add(name, &uri, &[]);
        assert!(ran.code == 0 && ran.stderr.contains("a mongos of a sharded cluster"), "{}", ran.stderr);
        assert!(ran.stderr.contains(&config_servers), "{}", ran.stderr);
        let added: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(added["proposal"]["uri"], config_servers.as_str());
        let ran = home.run(&["service", "check", name]);
        assert!(ran.stdout.contains("its connection string leads to a mongos"), "{}", ran.stdout);
        let ran = home.run(&["service", "edit", name, "--engine", "pbm"]);
        assert!(ran.code == 2 && ran.stderr.contains(&config_servers), "{}", ran.stderr);
    }
    let ran = add("c", &cluster.config.uri(), &["--engine", "native"]);
    assert!(ran.code == 0 && ran.stderr.contains("the config servers of a sharded cluster"), "{}", ran.stderr);
    for uri in [cluster.uri(), cluster.shard.uri()] {
        let ran = add("d", &uri, &["--engine", "pbm"]);
        assert!(ran.code == 2 && ran.stderr.contains(&config_servers), "{}", ran.stderr);
    }
    let ran = add("src", &cluster.config.uri(), &["--engine", "pbm"]);
    assert!(ran.code == 0 && !ran.stderr.contains("sharded"), "{}", ran.stderr);

    let _running = agents.start([&cluster.config, &cluster.shard].map(|set| set.addresses()[0].clone()));
    home.ok(&["settings", "set", "pbm.path", &agents.program()]);
    std::fs::create_dir_all(home.storage()).unwrap();
    home.add_storage("local");
    home.ok(&["service", "configure", "src", "--storage", "local", "--yes"]);
    let nodes = || {
        let page = home.ok(&["service", "show", "src", "--cluster"]);
        let sets = page["cluster"]["sets"].as_array().unwrap().clone();
        let of = |set: &serde_json::Value| format!("{} {}", set["name"].as_str().unwrap(), set["nodes"][0]["state"]);
        sets.iter().map(of).collect::<Vec<_>>()
    };
    until("both agents are seen", || nodes() == ["cfg \"ready\"", "sh1 \"ready\""]);
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "full", "--wait"]);
    home.ok(&["backup", "verify", "full"]);
    assert_eq!(home.ok(&["backup", "show", "full"])["state"], "succeeded");

    // What somebody else has PBM make is listed as theirs, and restored by PBM alone.
    let mut by_hand = std::process::Command::new(agents.program());
    by_hand.args(["backup", "--wait", "-o", "json"]).env("PBM_MONGODB_URI", cluster.config.uri());
    let made = by_hand.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    home.ok(&["storage", "sync", "local"]);
    let listed = home.ok(&["backup", "list"]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let theirs = listed.iter().find(|backup| backup["pbm_name"].is_null()).unwrap();
    assert!(theirs["service"] == "cfg,sh1" && theirs["engine"] == "pbm" && theirs["state"] == "succeeded", "{theirs}");
    let name = theirs["name"].as_str().unwrap();
    let shown = home.run(&["backup", "show", name, "-o", "table"]).stdout;
    assert!(shown.contains("PBM, for somebody else") && shown.contains("shop.orders"), "{shown}");
    home.ok(&["backup", "verify", name]);
    let empty = tempfile::tempdir().unwrap();
    let to = empty.path().join("out");
    let ran = home.run(&["backup", "export", name, "--to", to.to_str().unwrap()]);
    assert!(
        ran.code == 2 && ran.stderr.contains("of a sharded cluster (2 replica sets)"),
        "{} {}",
        ran.code,
        ran.stderr
    );
    let ran = home.run(&["restore", name, "--to", "c", "--dry-run"]);
    assert!(ran.code == 2 && ran.stderr.contains("a service with the engine pbm"), "{} {}", ran.code, ran.stderr);
    let plan = home.run(&["restore", name, "--to", "src", "--dry-run"]);
    assert!(plan.code == 0 && plan.stdout.contains("\"orders\""), "{} {}", plan.stdout, plan.stderr);
    let orders = cluster.client().await.database("shop").collection::<mongodb::bson::Document>("orders");
    orders.delete_many(mongodb::bson::doc! {}).await.unwrap();
    home.ok(&["restore", name, "--to", "src", "--yes", "--wait"]);
    assert_eq!(orders.count_documents(mongodb::bson::doc! {}).await.unwrap(), 300);
}
