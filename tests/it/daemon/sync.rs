//! The catalogue and a storage that do not agree: the storage is the truth, and a storage that is not there says nothing.

use std::fs;

use serde_json::{Value, json};

use crate::support::program::{self, Home, count, fill, replica_set, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_is_found_again_and_what_is_wrong_with_it_is_named() {
    let set = replica_set().await;
    fill(&set, "shop", 300).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    for (name, folder) in [("one", "prod"), ("two", "prod/eu"), ("backups", "backups"), ("four", "prod")] {
        home.ok(&[
            "backup",
            "create",
            "--service",
            "src",
            "--storage",
            "local",
            "--name",
            name,
            "--folder",
            folder,
            "--wait",
        ]);
    }
    // A machine that never saw these jobs.
    let other = Home::new();
    let path = home.storage();
    let path = path.to_str().unwrap();
    other.ok(&["storage", "add", "found", "--type", "filesystem", "--path", path]);
    let report = other.ok(&["storage", "sync", "found"]);
    let mut added: Vec<&str> = report["added"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    added.sort_unstable();
    assert_eq!(added, ["backups", "four", "one", "two"], "{report}");
    let (ours, theirs) = (home.ok(&["backup", "show", "two"]), other.ok(&["backup", "show", "two"]));
    for key in
        ["service", "folder", "documents", "size_bytes", "consistent_at_ts", "server_version", "compression", "state"]
    {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    assert_eq!(other.ok(&["backup", "verify", "two"])["state"], "succeeded");
    assert_eq!(other.ok(&["storage", "sync", "found"])["unchanged"], 4);

    // One loses its manifest, one has a byte flipped in it, and somebody else's attempt stands beside them.
    let manifest = |at: &str| home.storage().join(at).join("manifest.json");
    fs::remove_file(manifest("prod/backups/one")).unwrap();
    let mut bytes = fs::read(manifest("prod/backups/four")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(manifest("prod/backups/four"), &bytes).unwrap();
    let foreign = home.storage().join("prod/backups/foreign");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("attempt.json"), "{\"cut off").unwrap();
    let ran = other.run(&["storage", "sync", "found"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["unreadable"][0].as_str().unwrap().contains("prod/four"), "{report}");
    let incomplete = report["incomplete"].to_string();
    assert!(incomplete.contains("prod/foreign") && incomplete.contains("prod/one"), "{report}");
    for name in ["one", "four", "foreign"] {
        assert_eq!(other.ok(&["backup", "show", name])["state"], "incomplete", "{name}");
        assert_eq!(other.run(&["backup", "verify", name]).code, 4, "{name}");
    }
    assert_eq!(other.ok(&["backup", "show", "two"])["state"], "succeeded");

    // What an attempt left is removed when a person asks for it by name; what nothing names is left alone.
    // The installation that wrote it may still be at it: no other removes it, whatever is asked for.
    for args in [&["backup", "delete", "one", "--yes"][..], &["backup", "delete", "one", "--foreign", "--yes"]] {
        let refused = other.run(args);
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        let plan: Value = serde_json::from_str(&refused.stdout).unwrap();
        assert_eq!(plan["removes"], "nothing", "{plan}");
    }
    assert_eq!(other.ok(&["backup", "show", "one"])["state"], "incomplete");
    assert_eq!(home.ok(&["backup", "delete", "one", "--yes"])["state"], "succeeded");
    assert!(!home.files().iter().any(|f| f.starts_with("prod/backups/one/")), "{:?}", home.files());
    assert_eq!(other.run(&["backup", "delete", "foreign", "--yes"]).code, 1);
    assert_eq!(other.ok(&["backup", "delete", "foreign", "--keep-files", "--yes"])["state"], "succeeded");
    assert!(foreign.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_not_mounted_changes_nothing() {
    let set = replica_set().await;
    fill(&set, "shop", 300).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    let create = ["backup", "create", "--service", "src", "--storage", "local", "--wait", "--name"];
    let named = |name: &'static str| create.iter().copied().chain([name]).collect::<Vec<_>>();
    home.ok(&named("one"));
    let away = home.storage().with_extension("away");
    fs::rename(home.storage(), &away).unwrap();
    assert_ne!(home.run(&["storage", "sync", "local"]).code, 0);
    assert_eq!(home.run(&["storage", "test", "local"]).code, 1);
    assert_eq!(home.run(&["backup", "verify", "one"]).code, 1);
    assert_eq!(home.ok(&["backup", "show", "one"])["verify_error"], json!(null));
    assert_eq!(home.run(&named("two")).code, 1, "a backup went to the disk below the mount point");
    assert_eq!(home.ok(&["backup", "show", "one"])["state"], "succeeded");
    assert_eq!(home.run(&["backup", "delete", "one", "--yes"]).code, 1);
    assert!(!home.storage().exists());
    fs::rename(&away, home.storage()).unwrap();
    // The delete had not begun; looking at the storage says that the backup is good.
    home.ok(&["storage", "sync", "local"]);
    assert_eq!(home.ok(&["backup", "show", "one"])["state"], "succeeded");
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");

    // Also when every backup was deleted before: the folder has been there.
    home.ok(&["backup", "delete", "one", "--yes"]);
    fs::rename(home.storage(), &away).unwrap();
    assert_eq!(home.run(&named("three")).code, 1);
    assert!(!home.storage().exists());

    // A disk that was gone for a moment is what trying again is for.
    let auto = ["--retry", "auto", "--retries", "10", "--retry-interval", "1s"];
    let create = ["backup", "create", "--service", "src", "--storage", "local", "--name", "four"];
    let id = home.ok(&[&create[..], &auto[..]].concat())["id"].as_i64().unwrap();
    until("it waits for the disk", || home.job(id)["state"] == "waiting_retry");
    fs::rename(&away, home.storage()).unwrap();
    until("it is made", || home.job(id)["state"] == "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_restore_says_what_the_target_is_like() {
    let set = replica_set().await;
    fill(&set, "shop", 30_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one", "--wait"]);
    // None is over before its cancel comes.
    home.ok(&["settings", "set", "backup.bandwidth_limit", "500000"]);
    let mut cancelled = 0;
    for round in 0..6 {
        let rename = format!("shop=copy{round}");
        let id = home.ok(&["restore", "one", "--to", "src", "--rename", &rename, "--yes"])["id"].as_i64().unwrap();
        program::until("it writes, or is done", || {
            let job = home.job(id);
            job["progress"]["bytes_done"].as_u64().unwrap() > 0 || job["state"] == "succeeded"
        });
        home.run(&["job", "cancel", &id.to_string()]);
        program::until("it has ended", || {
            ["cancelled", "succeeded"].contains(&home.job(id)["state"].as_str().unwrap())
        });
        let job = home.job(id);
        if job["state"] == "cancelled" {
            cancelled += 1;
            assert!(job["hint"].as_str().is_some_and(|h| h.contains("incomplete") || h.contains("copy")), "{job}");
        }
    }
    assert!(cancelled > 0, "every restore was faster than its cancel");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_is_backed_up_first_or_stays_as_it_is() {
    let set = replica_set().await;
    fill(&set, "shop", 500).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one", "--wait"]);
    let items = set.client().await.unwrap().database("shop").collection::<mongodb::bson::Document>("items");
    items.delete_many(mongodb::bson::doc! {"_id": {"$gte": 100}}).await.unwrap();

    let restore = ["restore", "one", "--to", "src", "--safety-backup"];
    let plan = home.ok(&[&restore[..], &["--dry-run"]].concat());
    assert_eq!(plan["safety_backup"]["service"], "src", "{plan}");
    home.ok(&[&restore[..], &["--yes", "--wait"]].concat());
    assert_eq!(count(&set, "shop").await, 500);
    let backups = home.ok(&["backup", "list"]);
    let safety = backups.as_array().unwrap().iter().find(|b| b["name"] != "one").unwrap();
    assert_eq!((&safety["state"], &safety["documents"]), (&"succeeded".into(), &100.into()), "{safety}");
    let name = safety["name"].as_str().unwrap();
    assert!(name.starts_with("src-before-restore-"), "{name}");

    // A safety backup that ends otherwise: nothing is written.
    items.delete_many(mongodb::bson::doc! {"_id": {"$gte": 50}}).await.unwrap();
    home.ok(&["settings", "set", "backup.bandwidth_limit", "1"]);
    let id = home.ok(&[&restore[..], &["--yes"]].concat())["id"].as_i64().unwrap();
    until("the restore waits", || home.job(id)["phase"] == format!("waiting for job {}", id - 1));
    home.ok(&["job", "cancel", &(id - 1).to_string()]);
    until("the restore has ended", || home.job(id)["state"] == "failed");
    let error = home.job(id)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("there is no safety backup src-before-restore-"), "{error}");
    assert_eq!(count(&set, "shop").await, 50);

    home.ok(&["settings", "set", "backup.enabled", "false"]);
    assert_eq!(home.run(&[&restore[..], &["--yes"]].concat()).code, 4);
}

/// Two homes, one storage, one name: whoever comes second owns nothing of what is there, whatever its record says.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_home_made_goes_only_when_a_person_says_so() {
    let set = replica_set().await;
    fill(&set, "shop", 6_000).await;
    let (winner, loser) = (Home::new(), Home::new());
    winner.add_storage("local");
    loser.ok(&["storage", "add", "local", "--type", "filesystem", "--path", winner.storage().to_str().unwrap()]);
    for home in [&winner, &loser] {
        home.add_service("src", &set.uri());
    }
    let create = ["backup", "create", "--service", "src", "--storage", "local", "--name", "same"];
    let wait = [&create[..], &["--wait"]].concat();
    winner.ok(&["settings", "set", "backup.bandwidth_limit", "20000"]);
    let running = winner.ok(&create)["id"].as_i64().unwrap();
    until("the first moves", || winner.job(running)["progress"]["bytes_done"].as_u64().unwrap() > 0);

    // While the other one is at work.
    let ran = loser.run(&wait);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let job: Value = serde_json::from_str(&ran.stdout).unwrap();
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("taken") && error.contains("another installation"), "{job}");
    assert!(!job["hint"].as_str().unwrap().contains("delete"), "no hint destroys: {job}");
    let plan = loser.ok(&["backup", "delete", "same", "--dry-run"]);
    assert_eq!((&plan["removes"], &plan["foreign"]["service"]), (&json!("record"), &json!("src")), "{plan}");
    let forced = loser.ok(&["backup", "delete", "same", "--foreign", "--dry-run"]);
    assert_eq!(forced["removes"], "record", "it may still be written: {forced}");
    assert_eq!(loser.ok(&["backup", "delete", "same", "--foreign", "--yes"])["state"], "succeeded");
    assert_eq!(loser.run(&["backup", "show", "same"]).code, 3, "the record is gone");
    winner.ok(&["settings", "set", "backup.bandwidth_limit", "0"]);
    until("it is made", || winner.job(running)["state"] == "succeeded");
    assert_eq!(winner.ok(&["backup", "verify", "same"])["state"], "succeeded");

    // And after it is done: a try again takes nothing away either.
    let files = winner.files();
    assert_eq!(loser.run(&wait).code, 1);
    let id = loser.ok(&["job", "list"])[0]["id"].as_i64().unwrap();
    loser.ok(&["job", "retry", &id.to_string()]);
    until("it has failed again", || loser.job(id)["state"] == "failed" && loser.job(id)["attempt"] == 2);
    assert_eq!(loser.ok(&["backup", "delete", "same", "--yes"])["state"], "succeeded");
    assert_eq!(winner.files(), files);

    // Found by a sync, its record lists what the other made: nothing goes without its own flag.
    loser.ok(&["storage", "sync", "local"]);
    let refused = loser.run(&["backup", "delete", "same", "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let plan: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(plan["removes"], "nothing_yet", "{plan}");
    assert_eq!(loser.ok(&["backup", "show", "same"])["state"], "succeeded");
    // Nor does a job that was queued without it.
    let queued = loser.client().delete_backup("same", false, None, &[]).unwrap();
    until("it is refused", || loser.job(queued.id)["state"] == "failed");
    assert_eq!(loser.ok(&["backup", "show", "same"])["state"], "succeeded");
    assert_eq!(winner.files(), files);
    assert_eq!(winner.ok(&["backup", "verify", "same"])["state"], "succeeded");
    assert_eq!(loser.ok(&["backup", "delete", "same", "--foreign", "--yes"])["state"], "succeeded");
    assert_eq!(winner.files(), Vec::<String>::new());
}
