//! The automatic retry of a job, against real parts: an S3 server behind a proxy that cuts the line, wrong keys, a bucket
//! that is not there.

use serde_json::Value;

use crate::support::program::{Home, fill, replica_set, until};
use crate::support::proxy::{Fault, Proxy};
use crate::support::s3::{BUCKET, Conditions, Headers, S3Server, SECRET_KEY};
use crate::support::stopwatch::Stopwatch;

fn create(home: &Home, storage: &str, name: &str) -> i64 {
    let auto = ["--retry", "auto", "--retries", "10", "--retry-interval", "8h"];
    let args = ["backup", "create", "--service", "src", "--storage", storage, "--name", name];
    home.ok(&[&args[..], &auto[..]].concat())["id"].as_i64().unwrap()
}

fn attempts_with_errors(home: &Home, id: i64) -> Vec<u64> {
    let log = home.ok(&["job", "log", &id.to_string()]);
    let errors = log.as_array().unwrap().iter().filter(|line| line["level"] == "error");
    errors.map(|line| line["attempt"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_comes_back_is_written_by_a_later_attempt() {
    let set = replica_set().await;
    fill(&set, "shop", 200).await;
    let server = S3Server::start().await;
    let proxy = Proxy::start(server.address, std::iter::repeat_n(Fault::Refuse, 100_000)).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_s3("cloud", proxy.address, BUCKET, SECRET_KEY);
    home.ok(&["settings", "set", "backup.storage_wait", "15s"]);
    let id = create(&home, "cloud", "one");
    until("the attempt has failed", || home.job(id)["state"] == "waiting_retry");
    assert!(proxy.connections() > 2, "it was tried again: {}", proxy.connections());
    proxy.heal();
    let job = home.job(id);
    assert_eq!((job["attempt"].as_u64(), job["retry"]["retries"].as_u64()), (Some(1), Some(10)));
    let next: chrono::DateTime<chrono::Utc> = job["next_attempt_at"].as_str().unwrap().parse().unwrap();
    let left = (next - chrono::Utc::now()).num_minutes();
    assert!((478..=480).contains(&left), "eight hours, counting down: {left} min");
    assert!(job["error"].as_str().is_some_and(|e| e.contains("s3://")), "{job}");

    // A person ends the wait.
    home.ok(&["job", "retry", &id.to_string()]);
    until("another attempt makes it", || home.job(id)["state"] == "succeeded");
    assert_eq!(home.job(id)["attempt"], 2);
    assert_eq!(attempts_with_errors(&home, id), [1], "the log of the first attempt is kept");
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waiting_does_not_mend_is_not_tried_again() {
    let set = replica_set().await;
    fill(&set, "shop", 20).await;
    let server = S3Server::start().await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_s3("keys", server.address, BUCKET, "not the secret");
    home.add_s3("bucket", server.address, "nobodys-bucket", SECRET_KEY);
    for storage in ["keys", "bucket"] {
        let id = create(&home, storage, storage);
        until("it has ended", || ["failed", "waiting_retry"].contains(&home.job(id)["state"].as_str().unwrap()));
        let job = home.job(id);
        assert_eq!((&job["state"], &job["attempt"]), (&"failed".into(), &1.into()), "{job}");
        assert_eq!(job["next_attempt_at"], Value::Null);
        assert_eq!(attempts_with_errors(&home, id), [1]);
    }
}

/// One round of tries, in which a person sees what is waited for. What was never written is not looked for in another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_storage_is_waited_for_once_and_by_name() {
    let set = replica_set().await;
    fill(&set, "shop", 20).await;
    let server = S3Server::start().await;
    let proxy = Proxy::start(server.address, std::iter::repeat_n(Fault::Refuse, 100_000)).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_s3("cloud", proxy.address, BUCKET, SECRET_KEY);
    let began = Stopwatch::start();
    let ran = home.run(&["storage", "test", "cloud"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());

    home.ok(&["settings", "set", "backup.storage_wait", "15s"]);
    let before = proxy.connections();
    let args = ["backup", "create", "--service", "src", "--storage", "cloud", "--name", "dead"];
    let id = home.ok(&args)["id"].as_i64().unwrap();
    until("the phase says what is waited for", || {
        home.job(id)["phase"].as_str().is_some_and(|phase| phase.contains("waiting for storage cloud"))
    });
    let began = std::time::Instant::now();
    while home.job(id)["state"] != "failed" {
        assert!(began.elapsed().as_secs() < 150, "{}", home.job(id));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    // After a quarter of a second, and then after twice as long each time; and one look at what was left. A machine
    // that stands still in between leaves time for fewer.
    let tries = proxy.connections() - before;
    assert!((4..=9).contains(&tries), "{tries} connections");
    let job = home.job(id);
    assert!(job["error"].as_str().is_some_and(|e| e.contains("tried ") && e.contains(" times")), "{job}");
    let log = home.ok(&["job", "log", &id.to_string()]);
    let lines: Vec<&str> = log.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect();
    let waits = lines.iter().filter(|line| line.contains("waiting for storage cloud: ")).count();
    assert_eq!(waits, 1, "once, however often it is tried: {lines:#?}");
}

/// A listing that is late, or empty, is no proof: the manifest of a backup that is known is looked at itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_listing_takes_no_backup_away() {
    let set = replica_set().await;
    fill(&set, "shop", 20).await;
    let server = S3Server::start().await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_s3("cloud", server.address, BUCKET, SECRET_KEY);
    for name in ["one", "two"] {
        home.ok(&["backup", "create", "--service", "src", "--storage", "cloud", "--name", name, "--wait"]);
    }
    server.hide_listings();
    let report = home.ok(&["storage", "sync", "cloud"]);
    assert_eq!((&report["missing"], &report["unchanged"]), (&serde_json::json!([]), &2.into()), "{report}");
    assert_eq!(home.ok(&["backup", "show", "one"])["state"], "succeeded");
    // One that is really gone is.
    std::fs::remove_file(server.objects().join("src/backups/two/manifest.json")).unwrap();
    let ran = home.run(&["storage", "sync", "cloud"]);
    assert!(ran.code == 1 && ran.stdout.contains("\"missing\"") && ran.stdout.contains("two"), "{}", ran.stdout);
    assert_eq!(home.ok(&["backup", "show", "one"])["state"], "succeeded");
    assert_ne!(home.ok(&["backup", "show", "two"])["state"], "succeeded");
}

/// Found by the test of the storage, proposed there as a command, and then it works.
#[tokio::test(flavor = "multi_thread")]
async fn the_checksums_that_a_server_takes_are_found_and_proposed() {
    let set = replica_set().await;
    fill(&set, "shop", 20).await;
    for (headers, word) in [(Headers::Refused, "md5"), (Headers::Md5, "md5")] {
        let server = S3Server::answering(Conditions::Kept, headers, false).await;
        let home = Home::new();
        home.add_service("src", &set.uri());
        home.add_s3("cloud", server.address, BUCKET, SECRET_KEY);
        let ran = home.run(&["storage", "test", "cloud"]);
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        let steps = told["steps"].as_array().unwrap();
        let remedy = steps.last().unwrap()["remedy"].as_str().unwrap_or_else(|| panic!("{told}"));
        assert_eq!(remedy, format!("mongokeep storage edit cloud --checksums {word}"));
        assert!(home.ok(&["storage", "show", "cloud"])["last_test_error"].as_str().unwrap().contains(remedy));
        let args: Vec<&str> = remedy.split(' ').skip(1).collect();
        assert_eq!(home.ok(&args)["config"]["checksums"], word);
        assert_eq!(home.ok(&["storage", "test", "cloud"])["ok"], true);
        home.ok(&["backup", "create", "--service", "src", "--storage", "cloud", "--name", "one", "--wait"]);
        home.ok(&["backup", "verify", "one"]);
    }
    let home = Home::new();
    for (flag, value, says) in [
        ("--checksums", "sha9", "checksums: must be one of auto, crc32, md5, none"),
        ("--prefix", &"p/".repeat(151)[..301], "prefix: is longer than 300 bytes"),
        ("--prefix", &"p".repeat(256), "prefix: has a part of more than 255 bytes"),
    ] {
        let ran = home.run(&["storage", "add", "x", "--type", "s3", "--bucket", "backups", flag, value]);
        assert!(ran.code == 2 && ran.stderr.contains(says), "{}", ran.stderr);
    }
}
