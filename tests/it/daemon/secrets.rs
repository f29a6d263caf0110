//! A password is in no output, no log, no file and no process list, whatever goes wrong.

use std::path::Path;

use mongokeep::sandbox::{Mongod, ReplicaSet, ReplicaSetOptions};

use crate::support::program::{Home, until};

const WRONG: &str = "hunter2-is-not-it";

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_found_nowhere() {
    let mongod = Mongod::find(&|_| {}).await.unwrap();
    let set = ReplicaSet::start(&mongod, ReplicaSetOptions::default().auth()).await.unwrap();
    let right = set.uri();
    let password = right.split_once("://").unwrap().1.split_once('@').unwrap().0.split_once(':').unwrap().1.to_owned();
    // The password of the sandbox is also this program's name, which is everywhere: another user gets one of its own.
    let secret = "s3cr3t-Zx81-of-the-test";
    let client = set.client().await.unwrap();
    client
        .database("admin")
        .run_command(mongodb::bson::doc! {"createUser": "keeper", "pwd": secret, "roles": ["backup", "restore", "readWriteAnyDatabase"]})
        .await
        .unwrap();
    assert_ne!(password, secret);
    let home = Home::new();
    let wrong_uri = set.uri_as("keeper", WRONG);
    home.add_service("right", &set.uri_as("keeper", secret));
    home.add_service("wrong", &wrong_uri);
    home.add_storage("local");
    // The files the test itself wrote for --uri-file are the person's own.
    for name in ["right", "wrong"] {
        std::fs::remove_file(home.path().parent().unwrap().join(format!("{name}.uri"))).unwrap();
    }
    let mut said = String::new();
    let mut run = |args: &[&str], code: i32| {
        let mut all = vec!["-v"];
        all.extend(args);
        let ran = home.run(&all);
        assert_eq!(ran.code, code, "{args:?}: {}\n{}", ran.stdout, ran.stderr);
        said.push_str(&ran.stdout);
        said.push_str(&ran.stderr);
    };
    run(&["backup", "create", "--service", "right", "--storage", "local", "--name", "one", "--wait"], 0);
    run(&["service", "check", "wrong"], 1);
    run(&["backup", "create", "--service", "wrong", "--storage", "local", "--name", "two", "--wait"], 1);
    run(&["restore", "one", "--to", "wrong", "--dry-run"], 1);
    run(&["service", "list"], 0);
    run(&["service", "show", "right"], 0);
    run(&["job", "log", "2"], 0);
    run(&["service", "add", "bad", "--uri", &format!("mongodb://keeper:{WRONG}@@h:x")], 2);
    until("the daemon is there", || home.daemon_pid().is_some());
    for secret in [secret, WRONG] {
        assert!(!said.contains(secret), "in an output");
        no_file(home.path().parent().unwrap(), secret.as_bytes());
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            assert!(!holds(&line, secret.as_bytes()), "in a process list: {}", String::from_utf8_lossy(&line));
        }
    }
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

fn no_file(at: &Path, what: &[u8]) {
    for entry in std::fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_file(&path, what);
            continue;
        }
        match std::fs::read(&path) {
            Ok(bytes) => assert!(!holds(&bytes, what), "in {}", path.display()),
            // The daemon is at work: it has just renamed or removed it. A socket is no file.
            Err(_) if !path.is_file() => {}
            Err(e) => panic!("{}: {e}", path.display()),
        }
    }
}
