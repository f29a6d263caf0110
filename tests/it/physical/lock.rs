//! The lock: let go whatever happens, within ten seconds, and never taken from somebody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use rustix::process::{Pid, Signal, kill_process};

use super::{create, home_of, make};
use crate::support::program::{Home, fill, replica_set, until};
use crate::support::proxy::{Fault, Proxy, refusal};
use crate::support::s3::{BUCKET, S3Server, SECRET_KEY};
use crate::support::stopwatch::Stopwatch;

const LIMIT: Duration = Duration::from_secs(10);

async fn is_locked(client: &Client) -> bool {
    let reply = client.database("admin").run_command(doc! {"currentOp": 1, "$ownOps": true}).await.unwrap();
    reply.get_bool("fsyncLock").unwrap_or(false)
}

/// Something to read again under the lock: writes that go on until it is dropped.
struct Load(Arc<AtomicBool>);

impl Load {
    fn start(client: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (collection, stopped) = (client.database("load").collection::<Document>("x"), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let text = "x".repeat(200_000);
                let _ = collection.insert_many((0..20).map(|_| doc! {"text": &text})).await;
            }
        });
        Self(stop)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The process that keeps the lock of this home's daemon.
fn keeper_of(daemon: i32) -> Option<Pid> {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let parent = read("stat").rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(daemon) && read("cmdline").contains("lock-keeper") {
            return Pid::from_raw(pid);
        }
    }
    None
}

/// Waits until the server is locked by a backup, does `fault`, and returns for how long it was seen locked after that.
/// `None`: the backup was over before that.
async fn unlocked_after(home: &Home, client: &Client, name: &str, fault: &dyn Fn()) -> Option<Duration> {
    let id = home.ok(&create(name))["id"].as_i64().unwrap();
    loop {
        if is_locked(client).await {
            break;
        }
        if !["queued", "running"].contains(&home.job(id)["state"].as_str().unwrap()) {
            return None;
        }
    }
    fault();
    let began = Stopwatch::start();
    let mut seen = Duration::ZERO;
    loop {
        // What is locked when it is asked for was locked until then; how long the answer takes says nothing.
        let asked = began.elapsed();
        if !is_locked(client).await {
            return Some(seen);
        }
        assert!(asked < LIMIT, "{name}: the server is still locked after {asked:?}");
        seen = asked;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_let_go_whatever_happens() {
    let set = replica_set().await;
    fill(&set, "shop", 3_000).await;
    let home = home_of(&set);
    home.start_daemon();
    let client = set.client().await.unwrap();
    let load = Load::start(&client);
    let pid = |home: &Home| Pid::from_raw(home.daemon_pid().unwrap()).unwrap();

    let mut met = [0; 3];
    for round in 0..12 {
        // The daemon is killed.
        let name = format!("killed-{round}");
        if unlocked_after(&home, &client, &name, &|| home.kill_daemon()).await.is_some() {
            met[0] += 1;
            home.start_daemon();
            until("the attempt is ended", || home.ok(&["backup", "show", &name])["state"] != "running");
        }
        // It hangs.
        let name = format!("hung-{round}");
        let hang = || kill_process(pid(&home), Signal::STOP).unwrap();
        let hung = unlocked_after(&home, &client, &name, &hang).await;
        if hung.is_some() {
            kill_process(pid(&home), Signal::CONT).unwrap();
            until("the attempt is ended", || home.ok(&["backup", "show", &name])["state"] != "running");
            // It may have been unlocked in order before it was stopped.
            met[1] += u64::from(hung > Some(Duration::from_secs(2)));
            if hung > Some(Duration::from_secs(2)) {
                assert_eq!(home.ok(&["backup", "show", &name])["state"], "failed", "what was torn is called good");
            }
        }
        // The keeper itself is killed.
        let name = format!("keeper-{round}");
        let daemon = home.daemon_pid().unwrap();
        let strike = || {
            if let Some(keeper) = keeper_of(daemon) {
                let _ = kill_process(keeper, Signal::KILL);
            }
        };
        if unlocked_after(&home, &client, &name, &strike).await.is_some() {
            met[2] += 1;
            until("the attempt is ended", || home.ok(&["backup", "show", &name])["state"] != "running");
        }
        if met.iter().all(|n| *n > 0) {
            break;
        }
    }
    assert!(met.iter().all(|n| *n > 0), "the lock was never met: {met:?}");
    drop(load);
    // The server takes writes, and a backup can be made.
    client.database("after").collection("x").insert_one(doc! {"_id": 1}).await.unwrap();
    assert_eq!(make(&home, "last")["state"], "succeeded");
}

/// The storage hangs, fills up and is gone, and the connections to the server are cut, each while the server is locked.
/// What is read under the lock waits in memory, so that the lock does not wait for a storage.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_let_go_when_storage_or_network_fail() {
    let set = replica_set().await;
    fill(&set, "shop", 1_000).await;
    let (storage, address) = (S3Server::start().await, set.addresses()[0].clone());
    let to_storage = Proxy::start(storage.address, []).await;
    let to_server = Proxy::start(address.parse().unwrap(), []).await;
    let home = Home::new();
    home.add_service("src", &format!("mongodb://{}/?directConnection=true", to_server.address));
    home.add_s3("local", to_storage.address, BUCKET, SECRET_KEY);
    home.start_daemon();
    let client = set.client().await.unwrap();
    let load = Load::start(&client);
    let full = || Fault::Answer(refusal("507 Insufficient Storage", "XMinioStorageFull", ""));
    type Case<'a> = (&'static str, &'a dyn Fn(), bool);
    let cases: [Case<'_>; 4] = [
        ("hung", &|| to_storage.freeze(true), false),
        ("full", &|| to_storage.cut((0..10_000).map(|_| full())), true),
        ("gone", &|| to_storage.cut((0..10_000).map(|_| Fault::Refuse)), true),
        ("cut", &|| to_server.cut([]), false),
    ];
    for (name, fault, must_fail) in cases {
        let mut met = false;
        for round in 0..12 {
            let backup = format!("{name}-{round}");
            met = unlocked_after(&home, &client, &backup, fault).await.is_some();
            let state = || home.ok(&["backup", "show", &backup])["state"].as_str().unwrap().to_owned();
            if must_fail && met {
                if name == "gone" {
                    // It would be asked for a minute.
                    let id = home.ok(&["job", "list"])[0]["id"].as_i64().unwrap();
                    home.run(&["job", "cancel", &id.to_string()]);
                }
                until("the attempt is ended", || state() != "running");
                assert_ne!(state(), "succeeded", "{name}: what is not stored is called good");
            }
            to_storage.freeze(false);
            to_storage.heal();
            until("the attempt is ended", || state() != "running");
            if met {
                break;
            }
        }
        assert!(met, "{name}: the lock was never met");
    }
    drop(load);
    client.database("after").collection("x").insert_one(doc! {"_id": 1}).await.unwrap();
    assert_eq!(make(&home, "last")["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_somebody_else_is_left_alone_and_named() {
    let set = replica_set().await;
    let home = home_of(&set);
    let client = set.client().await.unwrap();
    let admin = client.database("admin");
    admin.run_command(doc! {"fsync": 1, "lock": true}).await.unwrap();
    let mut args = create("b");
    args.push("--wait");
    let ran = home.run(&args);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("fsyncLock") && ran.stderr.contains("fsyncUnlock"), "{}", ran.stderr);
    assert!(is_locked(&client).await, "it was taken away");
    let check = home.run(&["service", "check", "src", "--model", "physical"]);
    assert_eq!(check.code, 1, "{}", check.stderr);
    let report: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    let item = report["items"].as_array().unwrap().iter().find(|item| item["id"] == "server_lock").unwrap();
    assert!(item["state"] == "fail" && item["remedy"].as_str().unwrap().contains("fsyncUnlock"), "{item}");
    let reply = admin.run_command(doc! {"fsyncUnlock": 1}).await.unwrap();
    assert_eq!(reply.get_i64("lockCount").unwrap(), 0, "a lock was left");
    assert_eq!(make(&home, "c")["state"], "succeeded");
}
