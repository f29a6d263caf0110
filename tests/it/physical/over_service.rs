//! A physical backup in the place of a service's data: stopped, exchanged, started, and given back when that fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongokeep::sandbox::ReplicaSet;
use serde_json::Value;

use super::{home_of, make};
use crate::support::program::{Home, fill, replica_set, until};

/// A service that scripts stop and start, with a backup of 1,000 documents of `shop.items` and 1,500 there now.
pub struct Scene {
    pub home: Home,
    pub set: ReplicaSet,
    pub scripts: tempfile::TempDir,
}

impl Scene {
    pub async fn new() -> Self {
        let set = replica_set().await;
        let home = home_of(&set);
        Self::of(set, home).await
    }

    /// Of a replica set without data, and a home that knows it.
    pub async fn of(set: ReplicaSet, home: Home) -> Self {
        fill(&set, "shop", 1_000).await;
        make(&home, "b");
        let items = set.client().await.unwrap().database("shop").collection::<Document>("items");
        items.insert_many((0..500).map(|n| doc! {"_id": format!("later-{n}")})).await.unwrap();
        let later = set.client().await.unwrap().database("later").collection::<Document>("x");
        later.insert_one(doc! {"_id": 1}).await.unwrap();
        let scene = Self { home, set, scripts: tempfile::tempdir().unwrap() };
        let folder = scene.folder();
        // What people keep in such a folder.
        std::fs::write(folder.join("keyfile"), "secret").unwrap();
        scene.script("stop", &scene.stopping());
        scene.script("start", &format!("{} --fork", scene.starting()));
        let (stop, start) = (scene.path("stop"), scene.path("start"));
        scene.home.ok(&["service", "edit", "src", "--stop-command", &stop, "--start-command", &start]);
        scene
    }

    /// Ends the server, and returns when it has ended.
    pub fn stopping(&self) -> String {
        let lock = self.folder().join("mongod.lock");
        let lock = lock.display();
        format!("kill $(cat {lock})\nwhile [ -e /proc/$(cat {lock})/exe ]; do sleep 0.05; done")
    }

    /// What starts the server.
    pub fn starting(&self) -> String {
        let (server, keyfile) = (self.set.server(0).unwrap(), self.set.scratch().path().join("keyfile"));
        format!(
            "{} --dbpath {} --port {} --replSet {} --bind_ip 127.0.0.1 --nounixsocket --wiredTigerCacheSizeGB 0.25 --logappend \
             --logpath {}/started.log{}",
            self.set.mongod().path.display(),
            server.dbpath().display(),
            server.port(),
            self.set.name(),
            self.set.scratch().path().display(),
            if keyfile.exists() { format!(" --keyFile {}", keyfile.display()) } else { String::new() }
        )
    }

    pub fn folder(&self) -> PathBuf {
        self.set.server(0).unwrap().dbpath().to_owned()
    }

    pub fn path(&self, name: &str) -> String {
        format!("sh {}", self.scripts.path().join(name).display())
    }

    /// Each script notes that it was called.
    pub fn script(&self, name: &str, does: &str) {
        let at = self.scripts.path().join(name);
        std::fs::write(&at, format!("echo called >> {}.called\n{does}\n", at.display())).unwrap();
    }

    pub fn was_called(&self, name: &str) -> bool {
        self.scripts.path().join(format!("{name}.called")).exists()
    }

    fn restore(&self, more: &[&str]) -> crate::support::program::Ran {
        let mongod = self.set.mongod().path.to_str().unwrap();
        let mut args = vec!["restore", "b", "--to", "src", "--mongod", mongod];
        args.extend(more);
        self.home.run(&args)
    }

    pub fn queue(&self) -> i64 {
        let ran = self.restore(&["--yes"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["id"].as_i64().unwrap()
    }

    pub fn ended(&self, id: i64) -> Value {
        let over = || !["queued", "running"].contains(&self.home.job(id)["state"].as_str().unwrap());
        until("it is over", over);
        self.home.job(id)
    }

    /// How many documents there are, and whether the later collection is there. Waits for a primary.
    pub async fn now(&self) -> (u64, bool) {
        let client = mongodb::Client::with_uri_str(&self.set.uri()).await.unwrap();
        let count = client.database("shop").collection::<Document>("items").count_documents(doc! {}).await.unwrap();
        let later = client.database("later").collection::<Document>("x").find_one(doc! {}).await.unwrap();
        (count, later.is_some())
    }

    /// Nothing is left of a restore, and what was not the server's is as it was.
    pub fn is_tidy(&self) {
        let left = own_folder(&self.folder());
        assert!(!left.exists(), "{} is left", left.display());
        assert_eq!(std::fs::read_to_string(self.folder().join("keyfile")).unwrap(), "secret");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // The last server was started by a script, and is nobody's child.
        let pid = std::fs::read_to_string(self.folder().join("mongod.lock")).unwrap_or_default();
        if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn own_folder(folder: &Path) -> PathBuf {
    folder.join(".mongokeep-restore")
}

pub const OLD: (u64, bool) = (1_500, true);
pub const RESTORED: (u64, bool) = (1_000, false);

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_service_is_replaced_by_that_of_the_backup() {
    let scene = Scene::new().await;
    let ran = scene.restore(&[]);
    assert!(ran.code == 4 && ran.stderr.contains("--yes"), "{}", ran.stderr);
    let ran = scene.restore(&["--dry-run"]);
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    let steps = plan["files"]["steps"].to_string();
    assert!(steps.contains(&format!("stop src: {}", scene.path("stop"))) && steps.contains("put them back"), "{steps}");
    assert!(plan["files"]["replaces"].as_str().unwrap().ends_with(".mongokeep-restore/old"), "{plan}");
    assert_eq!((scene.now().await, scene.was_called("stop")), (OLD, false), "a plan did something");
    for (flag, says) in [("--exact", "exact: is for logical backups"), ("--users-and-roles", "users-and-roles: ")] {
        let ran = scene.restore(&[flag, "--dry-run"]);
        assert!(ran.code == 2 && ran.stderr.contains(says), "{flag}: {}", ran.stderr);
    }

    let job = scene.ended(scene.queue());
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(scene.now().await, RESTORED);
    scene.is_tidy();
    // It is a service like any other: backed up, and restored over once more.
    make(&scene.home, "again");
    let job = scene.ended(scene.queue());
    assert_eq!((job["state"].as_str().unwrap(), scene.now().await), ("succeeded", RESTORED));
    scene.is_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_gets_its_own_data_back_when_the_restored_does_not_serve() {
    let scene = Scene::new().await;
    let start = format!("{} --fork", scene.starting());
    // The first start fails.
    let once = |then: &str| format!("[ -e {0}/once ] || {{ touch {0}/once; {then}; }}", scene.scripts.path().display());
    scene.script("start", &format!("{}\n{}", once("echo no disk >&2; exit 7"), start));
    let job = scene.ended(scene.queue());
    let error = job["error"].to_string();
    assert!(job["state"] == "failed" && error.contains("no disk") && error.contains("7"), "{job}");
    assert_eq!(scene.now().await, OLD);
    scene.is_tidy();

    // It says that it started, and nothing serves: a person cancels.
    std::fs::remove_file(scene.scripts.path().join("once")).unwrap();
    std::fs::remove_file(scene.scripts.path().join("start.called")).unwrap();
    scene.script("start", &format!("{}\n{}", once("exit 0"), start));
    let id = scene.queue();
    until("it is to be started", || scene.was_called("start"));
    scene.home.run(&["job", "cancel", &id.to_string()]);
    assert_eq!(scene.ended(id)["state"], "cancelled");
    assert_eq!(scene.now().await, OLD);
    scene.is_tidy();

    // The stop fails: nothing is touched.
    scene.script("stop", "echo not permitted >&2; exit 5");
    let job = scene.ended(scene.queue());
    assert!(job["error"].to_string().contains("not permitted"), "{job}");
    assert_eq!(scene.now().await, OLD);
    scene.is_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_leaves_no_service_without_its_data() {
    let scene = Scene::new().await;
    scene.home.start_daemon();
    let stop = std::fs::read_to_string(scene.scripts.path().join("stop")).unwrap();
    let slow_stop = format!("sleep 1\n{stop}\nsleep 1");
    // While files are fetched and recovered; while the server is stopped; while it is started.
    for (stage, wait) in
        [("fetching", 0), ("fetching", 1_500), ("stop", 0), ("stop", 1_300), ("start", 0), ("start", 400)]
    {
        for name in ["stop", "start"] {
            let _ = std::fs::remove_file(scene.scripts.path().join(format!("{name}.called")));
        }
        scene.script("stop", &slow_stop);
        let id = scene.queue();
        until("it has come so far", || match stage {
            "fetching" => own_folder(&scene.folder()).exists(),
            name => scene.was_called(name),
        });
        std::thread::sleep(Duration::from_millis(wait));
        scene.home.kill_daemon();
        scene.script("stop", &stop);
        scene.home.start_daemon();
        let job = scene.ended(id);
        let now = scene.now().await;
        assert!(now == OLD || now == RESTORED, "{stage} after {wait} ms: {now:?}, {job}");
        if job["state"] == "succeeded" || job["error"].to_string().contains("has the restored data") {
            assert_eq!(now, RESTORED, "{job}");
            let _ = std::fs::remove_dir_all(own_folder(&scene.folder()));
            break;
        }
        assert_eq!(now, OLD, "{stage} after {wait} ms: {job}");
        assert!(!own_folder(&scene.folder()).exists(), "{stage} after {wait} ms left something: {job}");
        scene.is_tidy();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_mongokeep_cannot_do_itself_is_a_list_of_steps() {
    let scene = Scene::new().await;
    scene.home.ok(&["service", "edit", "src", "--stop-command", "", "--start-command", ""]);
    std::fs::write(scene.folder().join("keyfile"), "secret").unwrap();
    let ran = scene.restore(&["--dry-run"]);
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(plan["files"]["only_by_hand"].as_str().unwrap().contains("no stop and start command"), "{plan}");
    let steps = plan["files"]["steps"].to_string();
    let folder = scene.folder().display().to_string();
    assert!(steps.contains(&format!("--to-data-dir {folder}.restored")) && steps.contains("mv "), "{steps}");
    assert!(steps.contains(&format!("cp -a {folder}.old/keyfile")), "{steps}");
    let ran = scene.restore(&["--yes"]);
    assert!(ran.code == 2 && ran.stderr.contains("by itself"), "{} {}", ran.code, ran.stderr);
    assert_eq!(scene.now().await, OLD);
}
