//! S3 for real life: a role that is assumed, the token of a pod, credentials that expire, a key of the customer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::storage::StorageConfig;
use mongokeep::error::ErrorKind;
use mongokeep::storage::s3::S3Config;
use mongokeep::storage::{OldVersions, PutMode, Storage, read_all};

use crate::support::objects::key;
use crate::support::program::Home;
use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::s3_servers::{Keeps, Server};
use crate::support::sts::{EXTERNAL_ID, IDENTITY_TOKEN, ROLE, Sts};

const HOUR: Duration = Duration::from_secs(3600);

async fn open(config: &S3Config) -> std::sync::Arc<dyn Storage> {
    mongokeep::storage::open(&StorageConfig::from(config)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_and_its_credentials_are_renewed() {
    // The SDK renews ten seconds before the end: a role of eleven seconds is assumed again after one.
    let sts = Sts::start(ACCESS_KEY, SECRET_KEY, Duration::from_secs(12)).await;
    let server = S3Server::for_sessions(sts.sessions.clone()).await;
    let of_role = S3Config {
        role_arn: Some(ROLE.into()),
        external_id: Some(EXTERNAL_ID.into()),
        role_session_name: Some("nightly@db-1".into()),
        sts_endpoint: Some(sts.endpoint()),
        ..server.config()
    };
    let plain = server.config();
    let refused = open(&plain).await.list(None).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "the keys themselves open nothing: {refused}");

    let storage = open(&of_role).await;
    let began = Instant::now();
    let mut number = 0;
    while sts.sessions.count() < 3 {
        assert!(began.elapsed() < Duration::from_secs(180), "the role was assumed {} times", sts.sessions.count());
        number += 1;
        let name = key(&format!("a/{number:05}"));
        storage.put(&name, Bytes::from_static(b"x"), PutMode::CreateNew).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let listed: Vec<_> = storage.list(None).await.unwrap().try_collect().await.unwrap();
    assert_eq!(listed.len(), number);
    assert_eq!(sts.sessions.names(), ["nightly@db-1"; 3]);

    // What is wrong is said in the words of whoever refused.
    for (config, says) in [
        (S3Config { external_id: None, ..of_role.clone() }, "the role wants its external id"),
        (S3Config { role_arn: Some(format!("{ROLE}-x")), ..of_role.clone() }, "no such role"),
        (S3Config { secret_access_key: Some(Secret::new("wrong")), ..of_role.clone() }, "the signature is wrong"),
    ] {
        let error = open(&config).await.list(None).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(
            error.full().contains("the role could not be assumed") && error.full().contains(says),
            "{}",
            error.full()
        );
        assert!(error.hint_text().unwrap().contains("--external-id"), "{error}");
        assert!(!error.full().contains(SECRET_KEY), "{error}");
    }
}

/// As a pod of Kubernetes has it: a file with a token, whom to be, and no keys at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_a_pod_is_enough() {
    let sts = Sts::start(ACCESS_KEY, SECRET_KEY, HOUR).await;
    let server = S3Server::for_sessions(sts.sessions.clone()).await;
    let home = Home::new();
    let endpoint = format!("http://{}", server.address);
    let of = ["--type", "s3", "--bucket", BUCKET, "--region", "eu-west-1", "--endpoint", &endpoint, "--path-style"];
    home.ok(&[&["storage", "add", "cloud"], &of[..]].concat());
    let token = home.path().join("token");
    let test = |text: &'static str| {
        std::fs::write(&token, text).unwrap();
        let mut command = home.command(&["storage", "test", "cloud"]);
        command.env_remove("AWS_ACCESS_KEY_ID").env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", ROLE);
        command.env("AWS_ROLE_SESSION_NAME", "pod").env("AWS_ENDPOINT_URL_STS", sts.endpoint());
        command.env("HOME", "/nonexistent").output()
    };
    let ran = test(IDENTITY_TOKEN).unwrap();
    let told = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{told}");
    assert_eq!(sts.sessions.names(), ["pod"]);
    let ran = test("the-token-of-another").unwrap();
    let told = String::from_utf8(ran.stdout).unwrap();
    assert!(!ran.status.success() && told.contains("the token is not of our provider"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_customer_goes_with_every_request() {
    let server = S3Server::start().await;
    let text = |byte: u8| {
        use base64::Engine as _;
        Secret::new(base64::engine::general_purpose::STANDARD.encode([byte; 32]))
    };
    let with = |byte| S3Config { sse_c_key: Some(text(byte)), ..server.config() };
    let storage = open(&with(1)).await;
    let steps = mongokeep::storage::test(&*storage, &|_| {}).await;
    assert!(steps.iter().all(|step| step.ok), "{steps:?}");
    storage.put(&key("small"), Bytes::from_static(b"small"), PutMode::CreateNew).await.unwrap();
    let upload = storage.upload(&key("large")).await.unwrap();
    upload.part(0, Bytes::from(vec![7; storage.part_size()])).await.unwrap();
    upload.part(1, Bytes::from_static(b"end")).await.unwrap();
    upload.finish(2).await.unwrap();
    for name in ["small", "large"] {
        assert!(storage.stat(&key(name)).await.unwrap().is_some());
        read_all(&*storage, &key(name), 10 << 20).await.unwrap();
        for other in [server.config(), with(2)] {
            let other = open(&other).await;
            let read = read_all(&*other, &key(name), 10 << 20).await.unwrap_err();
            let looked = other.stat(&key(name)).await.unwrap_err();
            for error in [read, looked] {
                assert!(matches!(error.kind(), ErrorKind::Failed | ErrorKind::Denied), "{error:?}");
                assert!(error.hint_text().unwrap().contains("--sse-c-key-file"), "{error}: {:?}", error.hint_text());
            }
        }
    }
    assert_eq!(storage.stat(&key("never")).await.unwrap(), None);
}

/// What a server says of its region is passed on, in whatever words it says it.
#[tokio::test(flavor = "multi_thread")]
async fn the_region_of_a_bucket_is_proposed() {
    let Some(server) = Server::versitygw(Keeps::Nothing).await else { return };
    let elsewhere = S3Config { region: Some("eu-west-9".into()), ..server.config.clone() };
    let error = open(&elsewhere).await.list(None).await.err().unwrap();
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains("give --region us-east-1, not eu-west-9"), "{error} ({hint})");
}

/// A profile that is nowhere is named, with the files that were read.
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_is_missing_is_named() {
    let home = Home::new();
    let of = ["--type", "s3", "--bucket", BUCKET, "--region", "eu-west-1", "--endpoint", "http://127.0.0.1:9"];
    std::fs::create_dir_all(home.path()).unwrap();
    let config = home.path().join("aws-config");
    std::fs::write(&config, "[profile empty]\nregion = eu-west-1\n[profile other]\nregion = eu-west-1\n").unwrap();
    for (profile, says) in [("nosuch", "is missing"), ("empty", "holds no credentials")] {
        home.ok(&[&["storage", "add", profile, "--profile", profile], &of[..]].concat());
        let mut command = home.command(&["storage", "sync", profile]);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_CONFIG_FILE", &config);
        let ran = command.env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials").output().unwrap();
        let told = String::from_utf8(ran.stderr).unwrap();
        let named = format!("the profile \"{profile}\" {says}");
        let files = format!("(read: {} and /nonexistent/credentials)", config.display());
        assert!(
            told.contains(says) && told.contains(&format!("\"{profile}\"")) && told.contains(&files),
            "{named}: {told}"
        );
        assert!(told.contains("correct --profile"), "{told}");
    }
}

/// In a bucket with versions nothing becomes free, and a locked one says until when.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_deletion_frees_is_said() {
    for keeps in [Keeps::Nothing, Keeps::Versions, Keeps::Locked] {
        let Some(server) = Server::versitygw(keeps).await else { return };
        let storage = open(&server.config).await;
        let name = key("a/manifest.json");
        for body in ["first", "the second"] {
            storage.put(&name, Bytes::from(body), PutMode::Overwrite).await.unwrap();
        }
        let freeing = storage.freeing(&name).await.unwrap().unwrap();
        assert_eq!(freeing.versions, keeps != Keeps::Nothing, "{keeps:?}");
        assert_eq!((freeing.locked_until.is_some(), freeing.legal_hold), (keeps == Keeps::Locked, false), "{keeps:?}");
        if let Some(until) = freeing.locked_until {
            let hours = (until - chrono::Utc::now()).num_minutes() as f64 / 60.0;
            assert!((23.0..=24.1).contains(&hours), "{until}");
            let day = until.format("%Y-%m-%d").to_string();
            assert!(freeing.warnings().iter().any(|warning| warning.contains(&day)), "{:?}", freeing.warnings());
        }
        assert_eq!(freeing.is_now(), keeps == Keeps::Nothing);
        storage.delete(&name).await.unwrap();
        assert_eq!(storage.stat(&name).await.unwrap(), None);
        let old = storage.old_versions().await.unwrap();
        let wanted = OldVersions { versions: 2, bytes: 15, markers: 1 };
        assert_eq!(old, (keeps != Keeps::Nothing).then_some(wanted), "{keeps:?}");
    }
}
