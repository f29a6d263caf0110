//! Retention with the real program, a real replica set, a folder and an S3 server.

use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use chrono::Utc;
use mongodb::bson::doc;
use mongokeep::domain::backup::Compression;
use mongokeep::domain::retention::Retention;
use mongokeep::domain::schedule::Schedule;
use mongokeep::store::{Access, Store};
use serde_json::Value;

use crate::support::program::{Home, fill, replica_set, until};
use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::s3_servers::{Keeps, Server};
use crate::support::schedule::daily;

fn store(home: &Home) -> Store {
    Store::open(&home.home().store_file(), &home.home().key_file(), Access::Write).unwrap()
}

/// A schedule `nightly` of `src` that never fires by itself.
fn add_schedule(home: &Home, storage: &str, retention: Retention) {
    let never = "0 0 29 2 *".into();
    let schedule = Schedule { storage: storage.into(), cron: never, retention, ..daily("nightly", "src") };
    store(home).add_schedule(&schedule).unwrap();
}

fn state(home: &Home, id: i64) -> String {
    home.job(id)["state"].as_str().unwrap().to_owned()
}

/// Makes a backup through the schedule, and returns its name. No two in one second, of which the name is made.
fn run(home: &Home) -> String {
    static LAST: AtomicI64 = AtomicI64::new(0);
    until("another second begins", || {
        let second = Utc::now().timestamp();
        LAST.fetch_max(second, SeqCst) < second
    });
    let job = store(home).run_schedule("nightly", Compression::Zstd(1)).unwrap();
    until("the run is done", || !["queued", "running"].contains(&state(home, job.id).as_str()));
    assert_eq!(state(home, job.id), "succeeded", "{}", home.job(job.id));
    job.backup.unwrap()
}

fn retention_jobs(home: &Home) -> Vec<Value> {
    let all = home.ok(&["job", "list"]);
    all.as_array().unwrap().iter().filter(|j| j["kind"] == "retention").cloned().collect()
}

/// Waits until retention has nothing to do any more.
fn settled(home: &Home) {
    until("retention has settled", || {
        retention_jobs(home).iter().all(|j| !["queued", "running"].contains(&j["state"].as_str().unwrap()))
    });
}

fn names(home: &Home) -> Vec<String> {
    named(home, |_| true)
}

fn named(home: &Home, filter: impl Fn(&Value) -> bool) -> Vec<String> {
    let all = home.ok(&["backup", "list"]);
    let all = all.as_array().unwrap().iter().filter(|b| filter(b));
    let mut names: Vec<String> = all.map(|b| b["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The folders of backups below `root` that hold any file at all.
fn folders(root: &Path) -> Vec<String> {
    let mut out: Vec<String> = std::fs::read_dir(root.join("prod/backups"))
        .map(|entries| {
            let holds = |p: &Path| walkdir(p) > 0;
            let entries = entries.map(|e| e.unwrap().path()).filter(|p| holds(p));
            entries.map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        })
        .unwrap_or_default();
    out.sort();
    out
}

fn walkdir(at: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(at) else { return usize::from(at.is_file()) };
    entries.map(|e| e.unwrap().path()).map(|p| if p.is_dir() { walkdir(&p) } else { 1 }).sum()
}

fn add_s3(home: &Home, server: &S3Server) {
    let file = home.path().join("secret");
    std::fs::write(&file, SECRET_KEY).unwrap();
    let endpoint = format!("http://{}", server.address);
    home.ok(&[
        "storage",
        "add",
        "cloud",
        "--type",
        "s3",
        "--bucket",
        BUCKET,
        "--region",
        "eu-west-1",
        "--endpoint",
        &endpoint,
        "--path-style",
        "--access-key-id",
        ACCESS_KEY,
        "--secret-access-key-file",
        file.to_str().unwrap(),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_so_many_stay_in_a_folder() {
    let set = replica_set().await;
    fill(&set, "shop", 100).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    add_schedule(&home, "local", Retention { count: 2, ..Retention::default() });
    home.start_daemon();
    home.ok(&[
        "backup",
        "create",
        "--service",
        "src",
        "--storage",
        "local",
        "--name",
        "by-hand",
        "--folder",
        "prod",
        "--wait",
    ]);
    let first = run(&home);
    home.ok(&["backup", "pin", &first]);
    let runs: Vec<String> = (0..4).map(|_| run(&home)).collect();
    settled(&home);
    let mut expected = vec!["by-hand".to_owned(), first.clone(), runs[2].clone(), runs[3].clone()];
    expected.sort();
    assert_eq!(names(&home), expected);
    assert_eq!(folders(&home.storage()), expected);
    for name in &expected {
        assert_eq!(home.ok(&["backup", "verify", name])["state"], "succeeded");
    }
    let plan = home.ok(&["schedule", "retention", "nightly", "--dry-run"]);
    let of = |b: &Value| (b["name"].as_str().unwrap().to_owned(), b["keep"].as_bool().unwrap());
    let planned: Vec<_> = plan["backups"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(planned, [runs[3].clone(), runs[2].clone(), first].map(|name| (name, true)));
    assert_eq!(plan["backups"][1]["reasons"][0], "newest 2 of 2");
    assert_eq!(home.run(&["schedule", "retention", "nightly"]).code, 2, "it is only shown");
    assert_eq!(home.run(&["schedule", "retention", "none", "--dry-run"]).code, 3);

    let jobs = retention_jobs(&home);
    assert!(!jobs.is_empty() && jobs.iter().all(|j| j["state"] == "succeeded"), "{jobs:?}");
    let log = home.ok(&["job", "log", &jobs[0]["id"].to_string()]).to_string();
    assert!(log.contains("older than the newest 2"), "{log}");
}

/// What a bucket keeps is not promised to become free: not before, and not in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_bucket_frees_nothing_and_that_is_said() {
    let Some(server) = Server::versitygw(Keeps::Locked).await else { return };
    let set = replica_set().await;
    fill(&set, "shop", 50).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    let (file, config) = (home.path().join("secret"), &server.config);
    std::fs::write(&file, config.secret_access_key.as_ref().unwrap().expose()).unwrap();
    let of = ["--type", "s3", "--bucket", &config.bucket, "--region", "us-east-1", "--path-style"];
    let at =
        ["--endpoint", config.endpoint.as_ref().unwrap(), "--access-key-id", config.access_key_id.as_ref().unwrap()];
    let secret = ["--secret-access-key-file", file.to_str().unwrap()];
    home.ok(&[&["storage", "add", "cloud"], &of[..], &at, &secret].concat());
    add_schedule(&home, "cloud", Retention { count: 2, ..Retention::default() });
    home.start_daemon();
    let oldest = run(&home);
    run(&home);
    settled(&home);
    home.ok(&["schedule", "edit", "nightly", "--retention", "1"]);
    let plan = home.ok(&["schedule", "retention", "nightly", "--dry-run"]);
    let of = |plan: &Value| (plan["frees_bytes"].clone(), plan["warnings"].to_string());
    let (frees, warnings) = of(&plan);
    assert_eq!(frees, 0, "{plan}");
    assert!(warnings.contains(&format!("{oldest}: its objects are locked until ")), "{plan}");
    let deletion = home.ok(&["backup", "delete", &oldest, "--dry-run"]);
    assert_eq!(deletion["bytes"], 0, "the same as of a deletion by hand: {deletion}");
    run(&home);
    settled(&home);
    let jobs = retention_jobs(&home);
    let logs: String = jobs.iter().map(|job| home.ok(&["job", "log", &job["id"].to_string()]).to_string()).collect();
    assert!(logs.contains(&format!("{oldest}: its objects are locked until ")), "{logs}");

    // A folder keeps nothing.
    home.add_storage("local");
    home.ok(&["schedule", "edit", "nightly", "--storage", "local", "--retention", "2"]);
    let oldest = run(&home);
    run(&home);
    settled(&home);
    home.ok(&["schedule", "edit", "nightly", "--retention", "1"]);
    let (frees, warnings) = of(&home.ok(&["schedule", "retention", "nightly", "--dry-run"]));
    let size = home.ok(&["backup", "show", &oldest])["size_bytes"].clone();
    assert!(frees.as_u64() >= size.as_u64() && !warnings.contains(&oldest), "{frees}, {size}, {warnings}");
}

/// Two homes, one bucket, one folder, schedules of the same name; each knows of the other's backups.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_so_many_stay_in_a_bucket_and_another_homes_are_left_alone() {
    let set = replica_set().await;
    fill(&set, "shop", 50).await;
    let server = S3Server::start().await;
    let bucket = server.objects();
    let homes = [Home::new(), Home::new()];
    for home in &homes {
        home.add_service("src", &set.uri());
        add_s3(home, &server);
        add_schedule(home, "cloud", Retention { count: 1, ..Retention::default() });
        home.start_daemon();
    }
    let [mine, theirs] = &homes;
    let (mut last, mut foreign) = (Vec::new(), String::new());
    for _ in 0..2 {
        foreign = run(theirs);
        last = vec![foreign.clone(), run(mine)];
        homes.iter().for_each(settled);
        for home in &homes {
            // Ends with 1 when the other home has deleted what was found before.
            home.run(&["storage", "sync", "cloud"]);
        }
    }
    assert_eq!(folders(&bucket), last);
    assert_eq!(named(mine, |b| b["state"] == "succeeded" && b["schedule"] == "nightly"), last);
    // A run of one more: the other's backup stays whole, though the catalogue here says that `nightly` made it.
    let newest = run(mine);
    settled(mine);
    assert_eq!(folders(&bucket), [foreign.clone(), newest]);
    assert_eq!(theirs.ok(&["backup", "verify", &foreign])["state"], "succeeded");
    assert_eq!(server.unfinished(), 0);
}

/// The daemon is killed while it deletes: the next one finishes it, and nobody ever sees half a backup as a good one.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_killed_is_finished_by_the_next_daemon() {
    let set = replica_set().await;
    let shop = set.client().await.unwrap().database("shop");
    for i in 0..60 {
        shop.collection(&format!("c{i}")).insert_one(doc! {"_id": 1}).await.unwrap();
    }
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    add_schedule(&home, "local", Retention { count: 1, ..Retention::default() });
    home.start_daemon();
    let mut interrupted = 0;
    let mut present = run(&home);
    for _ in 0..4 {
        let before = retention_jobs(&home).len();
        let manifest = home.storage().join(format!("prod/backups/{present}/manifest.json"));
        let pid = rustix::process::Pid::from_raw(home.daemon_pid().unwrap()).unwrap();
        let job = store(&home).run_schedule("nightly", Compression::Zstd(1)).unwrap();
        let began = Instant::now();
        while manifest.exists() {
            assert!(began.elapsed() < Duration::from_secs(180), "the old one never went: {}", home.job(job.id));
            std::thread::sleep(Duration::from_micros(100));
        }
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        until("the daemon is gone", || home.daemon_pid() != Some(pid.as_raw_nonzero().get()));
        let listed = home.ok(&["backup", "list"]);
        let old = listed.as_array().unwrap().iter().find(|b| b["name"] == present.as_str());
        assert!(old.is_none_or(|b| b["state"] == "deleting"), "{old:?}");
        let left = walkdir(manifest.parent().unwrap());
        interrupted += usize::from(left > 0);

        home.start_daemon();
        until("retention has begun", || retention_jobs(&home).len() > before);
        settled(&home);
        present = job.backup.unwrap();
        assert_eq!(names(&home), [present.clone()]);
        assert_eq!(folders(&home.storage()), [present.clone()]);
    }
    assert!(interrupted > 0, "no deletion was met in the middle");
}

/// What cannot be deleted is shown, tried again, and goes in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_deletion_is_shown_and_tried_again() {
    let set = replica_set().await;
    fill(&set, "shop", 20).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    add_schedule(&home, "local", Retention { count: 1, ..Retention::default() });
    home.start_daemon();
    let old = run(&home);
    // Nothing says any more which objects belong to it.
    let manifest = home.storage().join(format!("prod/backups/{old}/manifest.json"));
    let good = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &good[..good.len() / 2]).unwrap();
    run(&home);
    settled(&home);
    let backup = home.ok(&["backup", "show", &old]);
    assert_eq!(backup["state"], "deleting", "{backup}");
    assert!(backup["error"].as_str().is_some_and(|e| !e.is_empty()), "{backup}");
    let job = &retention_jobs(&home)[0];
    assert_eq!(job["state"], "failed", "waiting does not mend a manifest: {job}");
    assert!(job["error"].as_str().unwrap().contains(&format!("backup {old} could not be deleted")), "{job}");

    std::fs::write(&manifest, &good).unwrap();
    let newest = run(&home);
    settled(&home);
    assert_eq!(folders(&home.storage()), names(&home));
    assert_eq!(names(&home), [newest]);
}

/// A schedule was moved to another storage, and the old one is away: what goes from the new one goes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_away_holds_up_no_other() {
    let set = replica_set().await;
    fill(&set, "shop", 20).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    let second = home.path().join("second");
    home.ok(&["storage", "add", "second", "--type", "filesystem", "--path", second.to_str().unwrap()]);
    add_schedule(&home, "local", Retention { count: 2, ..Retention::default() });
    home.start_daemon();
    let old: Vec<String> = (0..2).map(|_| run(&home)).collect();
    home.ok(&["schedule", "edit", "nightly", "--storage", "second"]);
    let away = home.storage().with_extension("away");
    std::fs::rename(home.storage(), &away).unwrap();
    let new: Vec<String> = (0..4).map(|_| run(&home)).collect();
    settled(&home);
    assert_eq!(folders(&second), new[2..]);
    // What waits is as good as before, says why, and where it is.
    for name in &old {
        let backup = home.ok(&["backup", "show", name]);
        assert_eq!(backup["state"], "succeeded", "{backup}");
        assert!(backup["error"].as_str().unwrap().starts_with("could not be deleted: "), "{backup}");
    }
    let plan = home.ok(&["schedule", "retention", "nightly", "--dry-run"]);
    let going: Vec<_> = plan["backups"].as_array().unwrap().iter().filter(|b| b["keep"] == false).collect();
    assert_eq!(going.len(), 2, "{plan}");
    assert!(going.iter().all(|b| b["storage"] == "local" && b["folder"] == "prod" && b["error"].is_string()), "{plan}");
    let status = home.ok(&["daemon", "status"]);
    let warned = status["warnings"].as_array().unwrap().iter().filter(|w| w["kind"] == "deletion_failed");
    assert_eq!(warned.map(|w| w["storage"].clone()).collect::<Vec<_>>(), ["local"], "{status}");

    std::fs::rename(&away, home.storage()).unwrap();
    run(&home);
    settled(&home);
    assert_eq!((folders(&home.storage()), folders(&second).len()), (Vec::new(), 2));
    let status = home.ok(&["daemon", "status"]);
    assert!(!status.to_string().contains("deletion_failed"), "{status}");
}

/// Between a client and an S3 server: refuses to delete one manifest, as a lock on it does. One request a connection.
async fn locking(
    server: std::net::SocketAddr,
    locked: std::sync::Arc<std::sync::Mutex<String>>,
) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let locked = std::sync::Arc::clone(&locked);
            tokio::spawn(async move {
                let (mut head, mut buffer) = (Vec::new(), [0; 1 << 14]);
                let end = loop {
                    if let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") {
                        break at;
                    }
                    match client.read(&mut buffer).await {
                        Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                };
                let first = String::from_utf8_lossy(&head[..end]).lines().next().unwrap_or_default().to_owned();
                let name = locked.lock().unwrap().clone();
                if first.starts_with("DELETE") && !name.is_empty() && first.contains(&format!("{name}/manifest.json")) {
                    let body = "<Error><Code>AccessDenied</Code><Message>locked by a test</Message></Error>";
                    let head = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-type: application/xml";
                    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    let _ = client.write_all(answer.as_bytes()).await;
                    return;
                }
                let Ok(mut server) = tokio::net::TcpStream::connect(server).await else { return };
                let rest = head.split_off(end);
                head.extend_from_slice(b"\r\nConnection: close");
                head.extend_from_slice(&rest);
                if server.write_all(&head).await.is_ok() {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}

/// One backup is locked: it stays a good one and says why, and no other waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_locked_stays_good_and_holds_up_no_other() {
    let set = replica_set().await;
    fill(&set, "shop", 20).await;
    let mut server = S3Server::start().await;
    let bucket = server.objects();
    let locked = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    server.address = locking(server.address, std::sync::Arc::clone(&locked)).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    add_s3(&home, &server);
    add_schedule(&home, "cloud", Retention { count: 1, ..Retention::default() });
    home.start_daemon();
    let first = run(&home);
    locked.lock().unwrap().clone_from(&first);
    let runs: Vec<String> = (0..3).map(|_| run(&home)).collect();
    settled(&home);
    assert_eq!(folders(&bucket), [first.clone(), runs[2].clone()]);
    let backup = home.ok(&["backup", "show", &first]);
    assert_eq!(backup["state"], "succeeded", "{backup}");
    assert!(backup["error"].as_str().unwrap().starts_with("could not be deleted: "), "{backup}");
    let status = home.ok(&["daemon", "status"]).to_string();
    assert!(status.contains("deletion_failed") && status.contains(&first), "{status}");
    assert_eq!(home.ok(&["backup", "verify", &first])["state"], "succeeded");
    // A person meets the same lock, and leaves the same behind.
    assert_eq!(home.run(&["backup", "delete", &first, "--yes"]).code, 1);
    assert_eq!(home.ok(&["backup", "show", &first])["state"], "succeeded");

    locked.lock().unwrap().clear();
    let last = run(&home);
    settled(&home);
    assert_eq!(folders(&bucket), [last]);
}
