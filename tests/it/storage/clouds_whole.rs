//! The whole life of a backup in a cloud: taken, verified, found by another home, restored, deleted.

use std::path::Path;

use serde_json::json;

use crate::support::cloud_servers::{ACCOUNT, ACCOUNT_KEY, Azurite, BUCKET, CONTAINER, FakeGcs};
use crate::support::program::{Home, count, fill, replica_set};

#[tokio::test(flavor = "multi_thread")]
async fn azure_keeps_a_backup() {
    let Some(azurite) = Azurite::start().await else { return };
    let endpoint = format!("http://{}/{ACCOUNT}", azurite.address());
    lives_in(|home, secret| {
        std::fs::create_dir_all(secret.parent().unwrap()).unwrap();
        std::fs::write(secret, ACCOUNT_KEY).unwrap();
        let of = ["--type", "azure", "--account", ACCOUNT, "--container", CONTAINER, "--endpoint", &endpoint];
        let rest = ["--prefix", "our/backups", "--account-key-file", secret.to_str().unwrap()];
        let added = home.ok(&[&["storage", "add", "cloud"], &of[..], &rest[..]].concat());
        assert!(!added.to_string().contains(ACCOUNT_KEY), "{added}");
        let shown = home.ok(&["storage", "show", "cloud"]);
        assert_eq!(shown["config"]["account"], ACCOUNT);
        assert!(!shown.to_string().contains(ACCOUNT_KEY), "{shown}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_keeps_a_backup() {
    let Some(fake) = FakeGcs::start().await else { return };
    let endpoint = format!("http://{}", fake.address());
    lives_in(|home, _| {
        let of = ["--type", "gcs", "--bucket", BUCKET, "--endpoint", &endpoint];
        home.ok(&[&["storage", "add", "cloud"], &of[..], &["--prefix", "our/backups", "--anonymous"]].concat());
    })
    .await;
}

async fn lives_in(add: impl Fn(&Home, &Path)) {
    let set = replica_set().await;
    // More than a part, so that an object is uploaded in several.
    fill(&set, "shop", 12_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    let secret = home.path().join("secret");
    add(&home, &secret);
    let tested = home.ok(&["storage", "test", "cloud"]);
    assert_eq!((&tested["ok"], tested["steps"].as_array().unwrap().len()), (&json!(true), 9), "{tested}");
    let create = ["backup", "create", "--service", "src", "--storage", "cloud", "--compression", "none", "--wait"];
    for name in ["one", "two"] {
        let made = home.ok(&[&create[..], &["--name", name]].concat());
        assert_eq!(made["state"], "succeeded", "{made}");
    }
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");

    // Another machine finds both, and restores one of them.
    let other = Home::new();
    other.add_service("src", &set.uri());
    add(&other, &other.path().join("secret"));
    let report = other.ok(&["storage", "sync", "cloud"]);
    assert_eq!(report["added"], json!(["one", "two"]), "{report}");
    set.client().await.unwrap().database("shop").drop().await.unwrap();
    let restored = other.ok(&["restore", "two", "--to", "src", "--yes", "--wait"]);
    assert_eq!(restored["state"], "succeeded", "{restored}");
    assert_eq!(count(&set, "shop").await, 12_000);

    // It is of another installation there, which a person has to say.
    assert_eq!(other.run(&["backup", "delete", "one", "--yes"]).code, 4);
    other.ok(&["backup", "delete", "one", "--foreign", "--yes"]);
    let ran = home.run(&["storage", "sync", "cloud"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let told = (ran.code, &report["unchanged"], &report["missing"]);
    assert_eq!(told, (1, &json!(1), &json!(["one"])), "the other home's deletion is seen: {report}");
    home.ok(&["backup", "delete", "two", "--yes"]);
    let last = Home::new();
    add(&last, &last.path().join("secret"));
    let report = last.ok(&["storage", "sync", "cloud"]);
    assert_eq!(report["added"], json!([]), "nothing is left of either: {report}");
}
