//! Restores into a folder: planned, confirmed, carried out, cancelled, killed.

use std::path::Path;
use std::time::Duration;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, doc};
use mongokeep::sandbox::{Scratch, Server, ServerOptions};

use super::{free_ports, home_of, make, restore};
use crate::support::program::{fill, replica_set, until};

/// Bytes of the largest document that a server takes, and of what is in it beside its field of bytes.
const LARGEST: usize = 16 << 20;
const LARGE_BESIDE: usize = 22;

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_are_made_of_one_backup_without_copying_from_each_other() {
    let set = replica_set().await;
    fill(&set, "shop", 1_000).await;
    let home = home_of(&set);
    make(&home, "b");
    let (scratch, ports) = (Scratch::new().unwrap(), free_ports(3));
    let members: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut more = vec!["--replica-set", "new", "--yes", "--wait"];
    members.iter().for_each(|member| more.extend(["--member", member]));
    for n in 0..3 {
        let ran = restore(&home, &set, "b", &scratch.path().join(format!("m{n}")), &more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let mut servers = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let args = ["--replSet", "new"].map(str::to_owned).to_vec();
        let options = ServerOptions { name: format!("m{n}"), port: Some(*port), args, ..ServerOptions::default() };
        servers.push(Server::start(set.mongod(), &scratch, &options).await.unwrap());
    }
    let uri = format!("mongodb://{}/?replicaSet=new", members.join(","));
    let client = mongodb::Client::with_uri_str(&uri).await.unwrap();
    let items = client.database("shop").collection::<mongodb::bson::Document>("items");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 1_000);
    let concern = doc! {"insert": "x", "documents": [{"_id": 1}], "writeConcern": {"w": 3, "wtimeout": 60_000}};
    let reply = client.database("after").run_command(concern).await.unwrap();
    assert!(!reply.contains_key("writeConcernError"), "{reply}");
    for server in servers {
        let log = std::fs::read_to_string(server.log_path()).unwrap();
        assert!(!log.contains("Initial sync started") && !log.contains("\"id\":21164"), "a member copied from another");
        server.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_filled_only_when_it_is_empty_and_confirmed() {
    let set = replica_set().await;
    let home = home_of(&set);
    make(&home, "b");
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("db");
    let plan = restore(&home, &set, "b", &target, &["--dry-run"]);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    let value: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(value["files"]["replica_set"], set.name());
    assert!(value["files"]["steps"].as_array().unwrap().len() >= 4, "{value}");
    assert_eq!(restore(&home, &set, "b", &target, &[]).code, 4);
    assert!(!target.exists(), "a plan wrote something");
    // Taken, impossible, unknown.
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("x"), "x").unwrap();
    let ran = restore(&home, &set, "b", &target, &["--yes"]);
    assert!(ran.code == 4 && ran.stderr.contains("not empty"), "{}", ran.stderr);
    assert_eq!(restore(&home, &set, "b", &dir.path().join("a/b"), &["--yes"]).code, 3);
    let dir_text = target.to_str().unwrap();
    for (args, says) in [
        (vec!["restore", "b", "--to-data-dir", dir_text, "--to", "src"], "to: belongs to a restore into a service"),
        (vec!["restore", "b", "--to", "src", "--member", "h:1"], "member: belongs to --to-data-dir"),
        (vec!["restore", "b", "--to-data-dir", dir_text, "--member", "nohost"], "member: "),
        (vec!["restore", "b", "--to-data-dir", dir_text, "--include", "shop"], "include: "),
        (vec!["restore", "b", "--to-data-dir", "/tmp/x", "--mongod", "/bin/true"], "is no mongod"),
    ] {
        let ran = home.run(&args);
        assert!(ran.code == 2 && ran.stderr.contains(says), "{args:?}: {} {}", ran.code, ran.stderr);
    }
    // Documents become no data folder.
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "documents", "--wait"]);
    let ran = restore(&home, &set, "documents", &dir.path().join("new"), &["--dry-run"]);
    assert!(ran.code == 2 && ran.stderr.contains("--to SERVICE"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cancel_or_a_kill_the_folder_is_as_empty_as_before() {
    let set = replica_set().await;
    fill(&set, "shop", 3_000).await;
    let home = home_of(&set);
    make(&home, "b");
    home.start_daemon();
    let dir = tempfile::tempdir().unwrap();
    let began = |name: &str| {
        let target = dir.path().join(name);
        let ran = restore(&home, &set, "b", &target, &["--yes"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let id = serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()["id"].as_i64().unwrap();
        until("it writes", || !is_empty(&target));
        (id, target)
    };
    let over =
        |id: i64| until("it is over", || !["queued", "running"].contains(&home.job(id)["state"].as_str().unwrap()));
    for wait in [0, 700, 1_800] {
        let (id, target) = began(&format!("cancelled-{wait}"));
        // Which step it has come to is what differs here.
        std::thread::sleep(Duration::from_millis(wait));
        home.run(&["job", "cancel", &id.to_string()]);
        over(id);
        let state = home.job(id)["state"].clone();
        assert!(state == "succeeded" || is_empty(&target), "{state}: something is left");

        let (id, target) = began(&format!("killed-{wait}"));
        std::thread::sleep(Duration::from_millis(wait));
        home.kill_daemon();
        home.start_daemon();
        over(id);
        let job = home.job(id);
        assert!(job["state"] == "succeeded" || is_empty(&target), "{job}: something is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_files_as_they_were() {
    let set = replica_set().await;
    let home = home_of(&set);
    let backup = make(&home, "b");
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("files");
    home.ok(&["backup", "export", "b", "--to", target.to_str().unwrap()]);
    assert!(target.join("WiredTiger.turtle").exists() && target.join("journal").is_dir());
    let files = std::process::Command::new("find").arg(&target).args(["-type", "f"]).output().unwrap();
    let count = String::from_utf8(files.stdout).unwrap().lines().count() as u64;
    assert_eq!(backup["files"]["files"].as_u64().unwrap(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_followed_to_a_later_moment() {
    let set = replica_set().await;
    fill(&set, "shop", 500).await;
    let home = home_of(&set);
    home.ok(&["settings", "set", "pitr.slice_seconds", "10"]);
    let line = ["schedule", "add", "line", "--service", "src", "--storage", "local", "--type", "pitr", "--cron"];
    home.ok(&[&line[..], &["@yearly"]].concat());
    let recording = || home.ok(&["pitr", "status"])[0]["running"] == true;
    until("the oplog is recorded", recording);
    make(&home, "b");
    let client = set.client().await.unwrap();
    let database = client.database("shop");
    let insert =
        doc! {"insert": "items", "documents": (0..100).map(|n| doc! {"_id": -1 - n, "n": n}).collect::<Vec<_>>()};
    database.run_command(insert).await.unwrap();
    database
        .run_command(doc! {"createIndexes": "items", "indexes": [{"key": {"n": 1}, "name": "later"}]})
        .await
        .unwrap();
    // The largest document that there can be, whose entry in the oplog is larger than a document may be.
    let large = Binary { subtype: BinarySubtype::Generic, bytes: vec![7; LARGEST - LARGE_BESIDE] };
    let large = doc! {"_id": 1, "x": large};
    assert_eq!(mongodb::bson::serialize_to_vec(&large).unwrap().len(), LARGEST);
    database.run_command(doc! {"insert": "large", "documents": [large.clone()]}).await.unwrap();
    let wanted = database.run_command(doc! {"insert": "marks", "documents": [{"_id": 1}]}).await.unwrap();
    let wanted = wanted.get_timestamp("operationTime").unwrap();
    database.collection::<mongodb::bson::Document>("items").drop().await.unwrap();
    let moment = format!("{},{}", wanted.time, wanted.increment);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("db");
    let plan = || restore(&home, &set, "b", &target, &["--time", &moment, "--dry-run"]);
    until("the moment is recorded", || plan().code == 0);
    // The base is found as well: files for a folder, never documents.
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "documents", "--wait"]);
    let target_text = target.to_str().unwrap();
    let found = home.ok(&["restore", "--service", "src", "--time", &moment, "--to-data-dir", target_text, "--dry-run"]);
    assert_eq!(found["backup"], "b", "{found}");
    let later = home.run(&["restore", "--service", "src", "--time", &moment, "--to", "src", "--dry-run"]);
    assert!(later.code == 3 && later.stderr.contains("no base is so old"), "{} {}", later.code, later.stderr);
    let status = home.ok(&["pitr", "status"]);
    assert!(status[0]["bases"].to_string().contains("physical"), "{status}");

    let port = free_ports(1)[0];
    let member = format!("127.0.0.1:{port}");
    let ran = restore(&home, &set, "b", &target, &["--time", &moment, "--member", &member, "--yes", "--wait"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let scratch = Scratch::new().unwrap();
    std::fs::rename(&target, scratch.path().join("db")).unwrap();
    let args = ["--replSet", set.name()].map(str::to_owned).to_vec();
    let options = ServerOptions { name: "db".into(), port: Some(port), args, ..ServerOptions::default() };
    let server = Server::start(set.mongod(), &scratch, &options).await.unwrap();
    let database = server.client().unwrap().database("shop");
    let items = database.collection::<mongodb::bson::Document>("items");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 600);
    assert!(items.list_index_names().await.unwrap().contains(&"later".to_owned()));
    assert_eq!(database.collection::<mongodb::bson::Document>("marks").count_documents(doc! {}).await.unwrap(), 1);
    assert_eq!(database.collection("large").find_one(doc! {}).await.unwrap(), Some(large));
    server.stop().await.unwrap();
}
