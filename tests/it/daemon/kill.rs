//! `kill -9` of the daemon at random moments: nothing half-made is ever called good, and nothing is left behind.

use std::time::Duration;

use mongodb::bson::doc;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::program::{self, Home, fill, replica_set, until};

const MOMENTS: usize = 20;

fn is_finished(job: &Value) -> bool {
    ["succeeded", "failed", "cancelled"].contains(&job["state"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_killed_at_any_moment_is_never_good_and_leaves_nothing() {
    let set = replica_set().await;
    fill(&set, "shop", 6_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    // Slow enough to be met in the middle.
    home.ok(&["settings", "set", "backup.bandwidth_limit", "4000000"]);
    home.ok(&["settings", "set", "backup.parallel_collections", "1"]);
    home.start_daemon();
    let mut random = rand::rngs::StdRng::seed_from_u64(20_261_121);
    let (mut interrupted, mut retried) = (0, 0);
    let mut moment = 0;
    // On a machine that is slow, more of them lie before the beginning.
    while moment < MOMENTS || moment < 3 * MOMENTS && (interrupted < 3 || retried < 3) {
        let name = format!("kill-{moment}");
        let auto = moment % 2 == 1;
        let mut args = vec!["backup", "create", "--service", "src", "--storage", "local", "--name", &name];
        if auto {
            args.extend(["--retry", "auto", "--retries", "10", "--retry-interval", "1s"]);
        }
        let id = home.ok(&args)["id"].as_i64().unwrap();
        // The moment is what is random here; nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.random_range(0..1_800)));
        home.kill_daemon();

        let complete = home.storage().join(format!("src/backups/{name}/manifest.json")).exists();
        let shown = home.ok(&["backup", "show", &name])["state"].clone();
        assert!(shown != "succeeded" || complete, "{name} is called good without a manifest");

        home.start_daemon();
        if auto {
            until("the backup is made by another attempt", || is_finished(&home.job(id)));
            let job = home.job(id);
            assert_eq!(job["state"], "succeeded", "{job}");
            retried += usize::from(job["attempt"].as_u64().unwrap() > 1);
        } else {
            until("the attempt is ended", || is_finished(&home.job(id)));
        }
        let (job, backup) = (home.job(id), home.ok(&["backup", "show", &name]));
        let files = home.files().into_iter().filter(|f| f.contains(&format!("/{name}/"))).count();
        if job["state"] == "succeeded" {
            assert_eq!(backup["state"], "succeeded");
            assert_eq!(home.ok(&["backup", "verify", &name])["state"], "succeeded");
        } else {
            interrupted += 1;
            assert!(job["error"].as_str().unwrap().contains("the daemon stopped unexpectedly"), "{job}");
            assert_eq!(backup["state"], "failed");
            assert_eq!(files, 0, "left behind: {:?}", home.files());
        }
        assert_eq!(home.ok(&["backup", "delete", &name, "--yes"])["state"], "succeeded");
        assert_eq!(home.files(), Vec::<String>::new());
        moment += 1;
    }
    // A test that always came too late would prove nothing.
    assert!(interrupted >= 3 && retried >= 3, "interrupted {interrupted}, retried {retried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_killed_at_any_moment_is_not_tried_again_by_itself() {
    let set = replica_set().await;
    fill(&set, "shop", 20_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one", "--wait"]);
    // How long one takes here, so that the moments lie within it whatever else the machine does.
    let began = std::time::Instant::now();
    let id = home.ok(&["restore", "one", "--to", "src", "--rename", "shop=whole", "--yes"])["id"].as_i64().unwrap();
    let queued = std::time::Instant::now();
    until("one restore is done", || is_finished(&home.job(id)));
    let length = u64::try_from(queued.elapsed().as_millis()).unwrap().max(100);
    eprintln!("a restore takes {length} ms, planned {:?} before", queued - began);
    let mut random = rand::rngs::StdRng::seed_from_u64(42);
    let (mut interrupted, mut moment) = (0, 0);
    while moment < MOMENTS || moment < 3 * MOMENTS && interrupted < 3 {
        let rename = format!("shop=copy{moment}");
        let id = home.ok(&["restore", "one", "--to", "src", "--rename", &rename, "--yes"])["id"].as_i64().unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(0..length)));
        home.kill_daemon();
        home.start_daemon();
        until("the attempt is ended", || is_finished(&home.job(id)));
        let job = home.job(id);
        assert_eq!(job["attempt"], 1, "{job}");
        if job["state"] == "succeeded" {
            assert_eq!(program::count(&set, &format!("copy{moment}")).await, 20_000);
        } else {
            interrupted += 1;
            let error = job["error"].as_str().unwrap();
            let told = error.contains("the target src is incomplete") || error.contains("before this restore wrote");
            assert!(told, "{job}");
            let hint = job["hint"].as_str().unwrap();
            let again = format!("mongokeep restore one --to src --rename {rename}");
            assert!(hint.contains(&again), "{job}");
            let refused = home.run(&["job", "retry", &id.to_string()]);
            assert_eq!(refused.code, 4, "its plan is to be confirmed anew");
            assert!(refused.stderr.contains(&again), "{}", refused.stderr);
        }
        // The backup and its source are as they were.
        assert_eq!(home.ok(&["backup", "show", "one"])["state"], "succeeded");
        set.client().await.unwrap().database(&format!("copy{moment}")).drop().await.unwrap();
        moment += 1;
    }
    assert_eq!(program::count(&set, "shop").await, 20_000);
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
    assert!(interrupted >= 3, "interrupted {interrupted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_was_written_before_the_kill_is_adopted() {
    let set = replica_set().await;
    fill(&set, "shop", 500).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    let job = home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one", "--wait"]);
    home.kill_daemon();
    // As if the kill had come between the manifest and the store.
    let store = rusqlite::Connection::open(home.home().store_file()).unwrap();
    store
        .execute_batch(
            "UPDATE jobs SET state = 'running', finished_at = NULL; UPDATE attempts SET clean = 0, finished_at = NULL;
         UPDATE backups SET state = 'running', documents = NULL, size_bytes = NULL",
        )
        .unwrap();
    drop(store);
    home.start_daemon();
    let id = job["id"].as_i64().unwrap();
    until("the backup is adopted", || is_finished(&home.job(id)));
    assert_eq!(home.job(id)["state"], "succeeded");
    let backup = home.ok(&["backup", "show", "one"]);
    assert_eq!(backup["state"], "succeeded");
    assert!(backup["documents"].as_u64().unwrap() >= 500);
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
}

/// Users and roles on their way into the target hold password hashes: a restore that was killed in the middle of it leaves
/// none for longer than until the next one.
#[tokio::test(flavor = "multi_thread")]
async fn users_that_a_killed_restore_staged_are_removed_by_the_next() {
    let mongod = mongokeep::sandbox::Mongod::find(&|_| {}).await.unwrap();
    let options = mongokeep::sandbox::ReplicaSetOptions::default().test_commands();
    let set = mongokeep::sandbox::ReplicaSet::start(&mongod, options).await.unwrap();
    fill(&set, "shop", 100).await;
    let client = set.client().await.unwrap();
    let roles: Vec<&str> = vec!["read"];
    client.database("shop").run_command(doc! {"createUser": "ann", "pwd": "x", "roles": roles}).await.unwrap();
    let admin = client.database("admin");
    let staged = async || {
        let names = admin.list_collection_names().await.unwrap();
        names.into_iter().filter(|name| name.contains("staged") || name.starts_with("temp")).count()
    };
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one", "--wait"]);
    // Not for ever: turning the fail point off waits for the command that it holds.
    let blocked = doc! {"failCommands": ["_mergeAuthzCollections"], "blockConnection": true, "blockTimeMS": 20_000};
    let fail =
        |mode: mongodb::bson::Bson| doc! {"configureFailPoint": "failCommand", "mode": mode, "data": blocked.clone()};
    admin.run_command(fail("alwaysOn".into())).await.unwrap();
    let args = ["restore", "one", "--to", "src", "--users-and-roles", "--yes"];
    home.ok(&args);
    let began = std::time::Instant::now();
    while staged().await < 2 {
        assert!(began.elapsed() < Duration::from_secs(120), "nothing was staged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    home.kill_daemon();
    admin.run_command(fail("off".into())).await.unwrap();
    assert_eq!(staged().await, 2);
    home.start_daemon();
    let again: Vec<&str> = args.into_iter().chain(["--wait"]).collect();
    assert_eq!(home.ok(&again)["state"], "succeeded");
    assert_eq!(staged().await, 0);
}
