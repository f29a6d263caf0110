//! What backups share, and that deleting one never breaks another.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions, Scratch, Server, ServerOptions};

use super::{create, home_of, make, restore, stored_blocks};
use crate::support::program::{fill, replica_set, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_next_backup_sends_what_is_new_and_each_stands_alone() {
    let set = replica_set().await;
    fill(&set, "shop", 6_000).await;
    let home = home_of(&set);
    let first = make(&home, "first");
    assert_eq!((&first["model"], &first["documents"]), (&"physical".into(), &serde_json::Value::Null));
    assert!(first["locked_millis"].as_u64().unwrap() < 60_000);
    assert!(first["files"]["files"].as_u64().unwrap() > 20, "{first}");
    fill(&set, "more", 200).await;
    let second = make(&home, "second");
    let (sent, size) = (second["new_bytes"].as_u64().unwrap(), second["size_bytes"].as_u64().unwrap());
    assert!(sent > 0 && sent < size, "{sent} of {size} bytes were sent again");

    // Whichever goes, the other can be read back.
    home.ok(&["backup", "delete", "first", "--yes"]);
    assert_eq!(home.ok(&["backup", "verify", "second"])["state"], "succeeded");
    let third = make(&home, "third");
    home.ok(&["backup", "delete", "second", "--yes"]);
    assert_eq!(home.ok(&["backup", "verify", "third"])["state"], "succeeded");
    let named = third["files"]["blocks"].as_u64().unwrap();
    assert_eq!(stored_blocks(&home).len() as u64, named, "blocks stay that nobody needs, or are missing");
    home.ok(&["backup", "delete", "third", "--yes"]);
    assert_eq!(home.files(), Vec::<String>::new(), "something is left");
}

/// What was sent before the lock, and changed by then, nobody needs: it goes with the backup that sent it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_in_vain_goes_at_once() {
    let set = replica_set().await;
    fill(&set, "shop", 10_000).await;
    let home = home_of(&set);
    home.ok(&["settings", "set", "backup.bandwidth_limit", "500000"]);
    let id = home.ok(&create("b"))["id"].as_i64().unwrap();
    until("some of it is sent", || !stored_blocks(&home).is_empty());
    let client = set.client().await.unwrap();
    let change = doc! {"$set": {"changed": "since then"}};
    client.database("shop").collection::<Document>("items").update_many(doc! {}, change).await.unwrap();
    client.database("admin").run_command(doc! {"fsync": 1}).await.unwrap();
    home.ok(&["settings", "set", "backup.bandwidth_limit", "0"]);
    until("it is over", || home.job(id)["finished_at"].is_string());
    assert_eq!(home.job(id)["state"], "succeeded");
    let named = home.ok(&["backup", "show", "b"])["files"]["blocks"].as_u64().unwrap();
    assert_eq!(stored_blocks(&home).len() as u64, named, "blocks stay that nobody needs");
    let log = home.run(&["job", "log", &id.to_string()]).stdout;
    assert!(log.contains("that no backup needs any more"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_named_and_never_restored() {
    let set = replica_set().await;
    fill(&set, "shop", 2_000).await;
    let home = home_of(&set);
    make(&home, "b");
    let blocks = stored_blocks(&home);
    let largest =
        blocks.iter().max_by_key(|block| std::fs::metadata(home.storage().join(block)).unwrap().len()).unwrap();
    let path = home.storage().join(largest);
    let whole = std::fs::read(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    for bytes in [flipped(whole.len() / 2), flipped(whole.len() - 1), whole[..whole.len() - 1].to_vec(), Vec::new()] {
        std::fs::write(&path, bytes).unwrap();
        let ran = home.run(&["backup", "verify", "b"]);
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        assert!(
            ran.stderr.contains(largest.rsplit('/').next().unwrap()) && ran.stderr.contains("it is a block of"),
            "{}",
            ran.stderr
        );
        let target = dir.path().join("db");
        let ran = restore(&home, &set, "b", &target, &["--yes", "--wait"]);
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        assert!(!target.exists(), "something is left: {}", ran.stderr);
    }
    std::fs::remove_file(&path).unwrap();
    assert!(home.run(&["backup", "verify", "b"]).stderr.contains("missing"));
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(home.ok(&["backup", "verify", "b"])["state"], "succeeded");
    // The manifest, too.
    let manifest = home.storage().join("src/backups/b/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("\"size\": ", "\"size\": 1", 1)).unwrap();
    assert_eq!(home.run(&["backup", "verify", "b"]).code, 1);
    // Of a manifest that cannot be read nobody knows which blocks it needs.
    let before = stored_blocks(&home).len();
    make(&home, "c");
    home.ok(&["backup", "delete", "c", "--yes"]);
    assert!(stored_blocks(&home).len() >= before, "blocks went that may be needed");
}

/// Backups and deletions of one folder, each killed at another moment: what is called good is good, and nothing is left that
/// nobody needs.
#[tokio::test(flavor = "multi_thread")]
async fn killed_backups_and_deletions_lose_no_block_that_a_good_backup_needs() {
    let set = replica_set().await;
    fill(&set, "shop", 3_000).await;
    let home = home_of(&set);
    home.start_daemon();
    let strike = |wait: u64| {
        std::thread::sleep(Duration::from_millis(wait));
        home.kill_daemon();
        home.start_daemon();
    };
    let idle = || {
        let jobs = home.ok(&["job", "list"]);
        let is_over = |job: &serde_json::Value| !["queued", "running"].contains(&job["state"].as_str().unwrap());
        jobs.as_array().unwrap().iter().all(is_over)
    };
    let good = || -> Vec<String> {
        let listed = home.ok(&["backup", "list"]);
        let good = listed.as_array().unwrap().iter().filter(|backup| backup["state"] == "succeeded");
        good.map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
    };
    for (round, wait) in [(0, 900), (1, 150), (2, 2_000), (3, 400), (4, 1_300), (5, 650)] {
        fill(&set, &format!("db{round}"), 300).await;
        home.ok(&create(&format!("b{round}")));
        strike(wait);
        until("the backup is over", idle);
        make(&home, &format!("whole{round}"));
        // Of what is good, the oldest goes, and is killed on its way.
        let oldest = good().pop().unwrap();
        let mut deleting = home.command(&["backup", "delete", &oldest, "--yes"]).spawn().unwrap();
        strike(wait / 4);
        deleting.wait().unwrap();
        until("the deletion is over", idle);
        for name in good() {
            let verified = home.run(&["backup", "verify", &name]);
            assert_eq!(verified.code, 0, "round {round}: {name} is called good: {}", verified.stderr);
        }
    }
    for backup in home.ok(&["backup", "list"]).as_array().unwrap() {
        home.run(&["backup", "delete", backup["name"].as_str().unwrap(), "--yes"]);
    }
    assert_eq!(home.files(), Vec::<String>::new(), "something is left");
}

/// A daemon that was killed while it removed blocks keeps nobody waiting, and what it left goes.
#[tokio::test(flavor = "multi_thread")]
async fn the_claim_of_a_killed_collector_is_over_at_once() {
    let set = replica_set().await;
    let home = home_of(&set);
    make(&home, "b");
    let of_root = |end: &str| home.files().into_iter().find(|file| file.ends_with(end)).unwrap();
    let attempt: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.storage().join(of_root("attempt.json"))).unwrap()).unwrap();
    let claim = home.storage().join("src/blocks/collector.json");
    let leave = |home_id: &serde_json::Value| {
        let until = chrono::Utc::now() + chrono::TimeDelta::hours(1);
        let left = serde_json::json!({
            "token": "t", "home_id": home_id, "host": attempt["host"], "process": "gone", "until": until,
        });
        std::fs::write(&claim, left.to_string()).unwrap();
    };
    leave(&attempt["home_id"]);
    make(&home, "c");
    leave(&attempt["home_id"]);
    home.ok(&["backup", "delete", "b", "--yes"]);
    // That of another installation is respected.
    leave(&"somebody".into());
    let before = stored_blocks(&home).len();
    home.ok(&["backup", "delete", "c", "--yes"]);
    assert_eq!(stored_blocks(&home).len(), before, "somebody else removes blocks now");
    leave(&attempt["home_id"]);
    make(&home, "d");
    home.ok(&["backup", "delete", "d", "--yes"]);
    assert_eq!(home.files(), Vec::<String>::new(), "something is left");
}

/// Where the server keeps each database, and the indexes, in folders of their own.
#[tokio::test(flavor = "multi_thread")]
async fn files_in_folders_of_databases_and_indexes_come_back() {
    let mongod = mongokeep::sandbox::Mongod::find(&|_| {}).await.unwrap();
    let folders = ["--directoryperdb", "--wiredTigerDirectoryForIndexes"].map(str::to_owned).to_vec();
    let options = ReplicaSetOptions { args: folders.clone(), ..ReplicaSetOptions::default() };
    let set = ReplicaSet::start(&mongod, options).await.unwrap();
    fill(&set, "shop", 500).await;
    let database = set.client().await.unwrap().database("shop");
    let index = doc! {"createIndexes": "items", "indexes": [{"key": {"n": 1}, "name": "n"}]};
    database.run_command(index).await.unwrap();
    let home = home_of(&set);
    make(&home, "b");
    let (scratch, port) = (Scratch::new().unwrap(), super::free_ports(1)[0]);
    let (target, member) = (scratch.path().join("db"), format!("127.0.0.1:{port}"));
    let ran = restore(&home, &set, "b", &target, &["--member", &member, "--yes", "--wait"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(target.join("shop/collection").is_dir() && target.join("shop/index").is_dir());
    let args = [&["--replSet".to_owned(), set.name().to_owned()][..], &folders].concat();
    let options = ServerOptions { name: "db".into(), port: Some(port), args, ..ServerOptions::default() };
    let server = Server::start(set.mongod(), &scratch, &options).await.unwrap();
    let items = server.client().unwrap().database("shop").collection::<Document>("items");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 500);
    assert!(items.list_index_names().await.unwrap().contains(&"n".to_owned()));
    server.stop().await.unwrap();
}
