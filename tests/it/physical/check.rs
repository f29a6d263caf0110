//! `service check --model physical`: what it proves, and what it refuses.

use serde_json::Value;

use super::{create, home_of};
use crate::support::program::{Home, replica_set};

fn items(home: &Home) -> (i32, Vec<Value>) {
    let ran = home.run(&["service", "check", "src", "--model", "physical"]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    (ran.code, report["items"].as_array().unwrap().clone())
}

fn state<'a>(items: &'a [Value], id: &str) -> (&'a str, &'a str) {
    let item = items.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("no {id} in {items:?}"));
    (item["state"].as_str().unwrap(), item["detail"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_is_proved_and_an_old_copy_is_none() {
    let set = replica_set().await;
    let home = home_of(&set);
    let (code, found) = items(&home);
    assert_eq!(code, 0, "{found:?}");
    let folder = set.server(0).unwrap().dbpath().to_str().unwrap().to_owned();
    let (of, detail) = state(&found, "data_folder");
    assert!(of == "pass" && detail.contains(&folder), "{detail}");
    let (of, detail) = state(&found, "locking");
    assert!(of == "warn" && detail.contains("primary") && detail.contains("code 24"), "{detail}");
    assert_eq!(state(&found, "server_lock").0, "pass");

    // A copy has the same files, and belongs to no server.
    let other = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(&folder).arg(other.path().join("db")).status().unwrap();
    assert!(copied.success());
    let copy = other.path().join("db");
    home.ok(&["service", "edit", "src", "--data-dir", copy.to_str().unwrap()]);
    let (code, found) = items(&home);
    let (of, detail) = state(&found, "data_folder");
    assert!(code == 1 && of == "fail" && detail.contains("old copy"), "{detail}");
    let mut args = create("b");
    args.push("--wait");
    assert_eq!(home.run(&args).code, 1, "a copy of the wrong folder was made");

    // The right folder under another name is found by what the server writes.
    let link = other.path().join("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    home.ok(&["service", "edit", "src", "--data-dir", link.to_str().unwrap()]);
    assert_eq!(items(&home).0, 0);
    home.ok(&["service", "edit", "src", "--data-dir", "/nowhere"]);
    assert!(state(&items(&home).1, "data_folder").1.contains("not on this machine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_physical_backup_is_refused_before_it_is_queued() {
    let set = replica_set().await;
    let home = home_of(&set);
    for (more, field) in [(["--include", "shop"], "include"), (["--exclude", "shop.x"], "exclude")] {
        let mut args = create("b");
        args.extend(more);
        let ran = home.run(&args);
        assert!(ran.code == 2 && ran.stderr.contains(field), "{}", ran.stderr);
    }
    let schedule = ["schedule", "add", "s", "--service", "src", "--storage", "local", "--cron", "@daily"];
    let mut args = schedule.to_vec();
    args.extend(["--model", "physical", "--type", "pitr"]);
    let ran = home.run(&args);
    assert!(ran.code == 2 && ran.stderr.contains("logical model"), "{}", ran.stderr);
}
