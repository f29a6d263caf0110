//! The life of jobs, with the real program, a real daemon and a real replica set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon;

use daemon::{Home, fill, replica_set};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_verified_restored_and_deleted() {
    let set = replica_set().await;
    fill(&set, "shop", 3_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");

    let job = home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one", "--wait"]);
    assert_eq!(
        (job["state"].clone(), job["backup"].clone(), job["attempt"].clone()),
        (json!("succeeded"), json!("one"), json!(1))
    );
    let backup = home.ok(&["backup", "show", "one"]);
    assert_eq!((backup["state"].clone(), backup["folder"].clone()), (json!("succeeded"), json!("src")));
    assert!(backup["documents"].as_u64().unwrap() >= 3_000, "{backup}");
    assert!(backup["consistent_at_ts"]["t"].as_u64().unwrap() > 0 && backup["size_bytes"].as_u64().unwrap() > 0);
    assert!(home.storage().join("src/backups/one/manifest.json").exists());

    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
    assert!(home.ok(&["backup", "show", "one"])["verified_at"].is_string());

    let into = ["restore", "one", "--to", "src", "--rename", "shop=copy"];
    let plan = home.run(&into);
    assert_eq!(plan.code, 4, "{}", plan.stderr);
    let mut yes = into.to_vec();
    yes.extend(["--yes", "--wait"]);
    assert_eq!(home.ok(&yes)["state"], "succeeded");
    assert_eq!(daemon::count(&set, "copy").await, 3_000);

    assert_eq!(home.run(&["backup", "delete", "one"]).code, 4);
    assert_eq!(home.ok(&["backup", "delete", "one", "--yes"])["state"], "succeeded");
    assert_eq!(home.run(&["backup", "show", "one"]).code, 3);
    assert_eq!(home.files(), Vec::<String>::new());
    assert_eq!(home.ok(&["job", "list"]).as_array().unwrap().len(), 4);
    let status = home.ok(&["daemon", "status"]);
    assert_eq!(status["running"], true);
    assert_eq!(home.ok(&["daemon", "stop"]), json!({"running": false}));
}
