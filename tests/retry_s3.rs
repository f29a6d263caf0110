//! The automatic retry of a job, against real parts: an S3 server behind a proxy that cuts the line, wrong keys, a bucket
//! that is not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod daemon;
mod support {
    // Only a part of what it can do to a line is done here.
    #[allow(dead_code)]
    pub mod proxy;
    pub mod s3;
}

use daemon::{Home, fill, replica_set, until};
use serde_json::Value;
use support::proxy::{Fault, Proxy};
use support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

fn add_s3(home: &Home, name: &str, address: std::net::SocketAddr, bucket: &str, secret: &str) {
    let file = home.path().join("secret");
    std::fs::write(&file, secret).unwrap();
    let endpoint = format!("http://{address}");
    let of = ["--type", "s3", "--bucket", bucket, "--region", "eu-west-1", "--endpoint", &endpoint, "--path-style"];
    let keys = ["--access-key-id", ACCESS_KEY, "--secret-access-key-file", file.to_str().unwrap()];
    home.ok(&[&["storage", "add", name], &of[..], &keys[..]].concat());
}

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
    add_s3(&home, "cloud", proxy.address, BUCKET, SECRET_KEY);
    let id = create(&home, "cloud", "one");
    // The storage is asked twelve times, for about a minute, which outlasts a restart, before the attempt gives up. What
    // comes then is its cleaning up.
    let began = std::time::Instant::now();
    while proxy.connections() <= 12 {
        assert!(began.elapsed().as_secs() < 120, "{}", home.job(id));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    proxy.heal();
    until("the attempt has failed", || home.job(id)["state"] == "waiting_retry");
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
    add_s3(&home, "keys", server.address, BUCKET, "not the secret");
    add_s3(&home, "bucket", server.address, "nobodys-bucket", SECRET_KEY);
    for storage in ["keys", "bucket"] {
        let id = create(&home, storage, storage);
        until("it has ended", || ["failed", "waiting_retry"].contains(&home.job(id)["state"].as_str().unwrap()));
        let job = home.job(id);
        assert_eq!((&job["state"], &job["attempt"]), (&"failed".into(), &1.into()), "{job}");
        assert_eq!(job["next_attempt_at"], Value::Null);
        assert_eq!(attempts_with_errors(&home, id), [1]);
    }
}
