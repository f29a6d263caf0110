//! What a person chooses, and what is refused because it would lose what nobody chose to lose.

use serde_json::{Value, json};

use crate::support::program::{Home, count, fill, replica_set};

/// A home with the service `src` and the storage `local`.
fn home(uri: &str) -> Home {
    let home = Home::new();
    home.add_service("src", uri);
    home.add_storage("local");
    home
}

fn create<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["backup", "create", "--service", "src", "--storage", "local", "--name", name, "--wait"];
    args.extend(more);
    args
}

/// Turns a byte of the first part of `collection` in the backup `name`.
fn damage(home: &Home, name: &str, collection: &str) {
    let of = |file: &&String| file.contains(&format!("/{name}/")) && file.contains(&format!("/{collection}/00000"));
    let path = home.storage().join(home.files().iter().find(of).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_found_damaged_replaces_nothing() {
    let set = replica_set().await;
    fill(&set, "shop", 50).await;
    let home = home(&set.uri());
    home.ok(&create("one", &[]));
    damage(&home, "one", "items");
    assert_eq!(home.run(&["backup", "verify", "one"]).code, 1);
    let status = home.ok(&["daemon", "status"]);
    assert_eq!(status["services"][0]["last_good_backup_at"], Value::Null, "{status}");
    let warned = status["warnings"].as_array().unwrap().iter().any(|w| w["kind"] == "damaged" && w["backup"] == "one");
    assert!(warned, "{status}");

    let onto = ["restore", "one", "--to", "src", "--include", "shop"];
    let with = |more: &[&'static str]| [&onto[..], more].concat();
    let plan = home.ok(&with(&["--dry-run"]));
    assert!(plan["warnings"][0].as_str().unwrap().contains("backup one is DAMAGED"), "{plan}");
    for args in [with(&[]), with(&["--yes", "--wait"])] {
        let ran = home.run(&args);
        assert_eq!(ran.code, 4, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("DAMAGED") && !ran.stderr.contains("--yes"), "{}", ran.stderr);
    }
    assert_eq!(count(&set, "shop").await, 50);
    let beside = home.run(&with(&["--rename", "shop=copy"]));
    assert!(beside.code == 4 && beside.stderr.contains("--rename shop=copy --yes"), "{}", beside.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_what_was_chosen_and_says_so() {
    let set = replica_set().await;
    fill(&set, "shop", 20).await;
    fill(&set, "logs", 3).await;
    let home = home(&set.uri());
    let typo = home.run(&create("typo", &["--include", "shpo"]));
    assert_eq!(typo.code, 1, "{}", typo.stdout);
    assert!(typo.stderr.contains("nothing that --include shpo chooses"), "{}", typo.stderr);
    assert_eq!(home.ok(&["backup", "show", "typo"])["state"], "failed");
    assert_eq!(home.run(&create("unset", &["--include", ""])).code, 2);
    let add = ["schedule", "add", "s", "--service", "src", "--storage", "local", "--cron", "@daily", "--disabled"];
    assert_eq!(home.run(&[&add[..], &["--include", ""]].concat()).code, 2);

    let some = home.run(&create("some", &["--include", "shop", "--include", "shpo"]));
    assert_eq!(some.code, 0, "{}", some.stderr);
    assert!(some.stderr.contains("--include shpo: nothing is called so"), "{}", some.stderr);
    let shown = home.ok(&["backup", "show", "some"]);
    assert_eq!((&shown["whole"], &shown["selection"]), (&json!(false), &json!({"include": ["shop", "shpo"]})));
    let held = shown["namespaces"].as_array().unwrap();
    assert_eq!(held.len(), 1, "{shown}");
    assert_eq!(held[0]["namespace"], json!({"db": "shop", "collection": "items"}));
    assert_eq!((&held[0]["documents"], &held[0]["kind"]), (&json!(20), &json!("collection")));
    assert!(held[0]["bytes"].as_u64().unwrap() > 1_000, "{shown}");
    let left: Vec<&str> = shown["left_out"].as_array().unwrap().iter().map(|l| l["what"].as_str().unwrap()).collect();
    assert_eq!(left, ["shpo", "everything but shop, shpo"]);
    let text = |args: &[&str]| {
        let output = home.command(&[args, &["-o", "table"]].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&["backup", "list"]).contains("done, partial"));
    let page = text(&["backup", "show", "some"]);
    assert!(page.contains("only shop\n") && page.contains("shop.items"), "{page}");

    // Without its storage, the catalogue still tells what it knows.
    std::fs::rename(home.storage(), home.path().join("away")).unwrap();
    let ran = home.run(&["backup", "show", "some"]);
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &shown["namespaces"], &shown["documents"]), (0, &Value::Null, &json!(20)), "{}", ran.stderr);
}

/// Thousands of collections that nobody asked for are no thousands of warnings.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_does_not_include_is_counted() {
    let set = replica_set().await;
    for db in ["shop", "a", "b", "c"] {
        fill(&set, db, 3).await;
    }
    let home = home(&set.uri());
    home.ok(&create("one", &[]));
    let onto = ["restore", "one", "--to", "src", "--include", "shop", "--rename", "shop=copy"];
    let plan = home.ok(&[&onto[..], &["--dry-run"]].concat());
    let named = plan["left_out"].as_array().unwrap().iter().filter(|l| l["why"] == "not included").count();
    assert!(named >= 3, "{plan}");
    let output = home.command(&[&onto[..], &["--dry-run", "-o", "table"]].concat()).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.lines().filter(|line| line.contains("not included")).count(), 1, "{table}");
    let ran = home.run(&[&onto[..], &["--yes", "--wait"]].concat());
    assert!(ran.code == 0 && !ran.stderr.contains("not included"), "{}", ran.stderr);
    let job: Value = serde_json::from_str(&ran.stdout).unwrap();
    let log = home.ok(&["job", "log", &job["id"].to_string()]);
    let counted = format!("not included: {named} collections of the backup");
    assert!(log.as_array().unwrap().iter().any(|l| l["message"] == counted.as_str()), "{log}");
}
