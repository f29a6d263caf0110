//! Restores over services as they are in use: with users and a key file, and with stop and start commands that behave as
//! service managers do.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mongodb::bson::doc;
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};

use super::over_service::{OLD, RESTORED, Scene};
use crate::support;
use crate::support::program::{Home, replica_set, until};

/// A user with the rights that a physical backup needs, and no more.
async fn add_keeper(set: &ReplicaSet) {
    let create = doc! {"createUser": "keeper", "pwd": "first", "roles": ["backup", "clusterMonitor", "hostManager"]};
    set.client().await.unwrap().database("admin").run_command(create).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_passwords_become_those_of_the_backup() {
    let set = ReplicaSet::start(&support::mongod().await, ReplicaSetOptions::default().auth()).await.unwrap();
    add_keeper(&set).await;
    let home = Home::new();
    home.add_service("src", &set.uri_as("keeper", "first"));
    home.add_storage("local");
    let scene = Scene::of(set, home).await;
    let job = scene.ended(scene.queue());
    assert_eq!((job["state"].as_str().unwrap(), scene.now().await), ("succeeded", RESTORED), "{job}");
    scene.is_tidy();
    let log = |id: &serde_json::Value| scene.home.run(&["job", "log", &id.to_string()]).stdout;
    assert!(!log(&job["id"]).contains("cannot log in"), "{}", log(&job["id"]));
    scene.home.ok(&["service", "check", "src", "--model", "physical"]);

    // The password was another one then than it is now.
    let client = mongodb::Client::with_uri_str(&scene.set.uri()).await.unwrap();
    client.database("admin").run_command(doc! {"updateUser": "keeper", "pwd": "second"}).await.unwrap();
    let edit = |password: &str| {
        let file = scene.scripts.path().join("uri");
        std::fs::write(&file, scene.set.uri_as("keeper", password)).unwrap();
        scene.home.ok(&["service", "edit", "src", "--uri-file", file.to_str().unwrap()]);
    };
    edit("second");
    let job = scene.ended(scene.queue());
    assert_eq!((job["state"].as_str().unwrap(), scene.now().await), ("succeeded", RESTORED), "{job}");
    let said = log(&job["id"]);
    assert!(said.contains("cannot log in") && said.contains("service edit src --uri-file"), "{said}");
    assert!(!said.contains("first") && !said.contains("second"), "a password is in the log: {said}");
    scene.is_tidy();
    edit("first");
    scene.home.ok(&["service", "check", "src", "--model", "physical"]);
}

/// Starts the server again whenever it ends, until a file says that it is to be stopped.
struct Supervisor(Child);

impl Supervisor {
    fn start(scene: &Scene) -> Self {
        let (line, stopped) = (scene.starting(), scene.scripts.path().join("stopped"));
        let script = format!("while :; do if [ -e {} ]; then sleep 0.05; else {line}; fi; done", stopped.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A scene whose server is started by a supervisor.
async fn supervised() -> (Scene, Supervisor) {
    let set = replica_set().await;
    let home = super::home_of(&set);
    let scene = Scene::of(set, home).await;
    assert!(Command::new("sh").args(["-c", &scene.stopping()]).status().unwrap().success());
    let supervisor = Supervisor::start(&scene);
    assert_eq!(scene.now().await, OLD);
    (scene, supervisor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_started_again_by_others_is_not_fought_with() {
    let (scene, _supervisor) = supervised().await;
    // The server ends, which is not how a service is stopped that somebody looks after: it is there again at once.
    let lock = scene.folder().join("mongod.lock");
    let stop = "first=$(cat LOCK)\nkill $first\nwhile now=$(cat LOCK); [ -z \"$now\" ] || [ \"$now\" = \"$first\" ]; do sleep 0.05; done";
    scene.script("stop", &stop.replace("LOCK", &lock.display().to_string()));
    let began = std::time::Instant::now();
    let job = scene.ended(scene.queue());
    let error = job["error"].to_string();
    assert!(job["state"] == "failed" && error.contains("was started again"), "{job}");
    assert!(job["hint"].to_string().contains("service manager"), "{job}");
    assert!(began.elapsed() < Duration::from_secs(120), "it waited for what cannot come");
    assert_eq!(scene.now().await, OLD);
    scene.is_tidy();

    // As systemctl does it: who stops it says so to the supervisor, and its start returns before the server answers.
    let stopped = scene.scripts.path().join("stopped");
    scene.script("stop", &format!("touch {}\n{}", stopped.display(), scene.stopping()));
    scene.script("start", &format!("rm {}", stopped.display()));
    let job = scene.ended(scene.queue());
    assert_eq!((job["state"].as_str().unwrap(), scene.now().await), ("succeeded", RESTORED), "{job}");
    scene.is_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_command_that_fails_is_no_failure_when_the_server_serves() {
    let (scene, _supervisor) = supervised().await;
    let stopped = scene.scripts.path().join("stopped");
    scene.script("stop", &format!("touch {}\n{}", stopped.display(), scene.stopping()));
    // Somebody else was faster, or a unit is slower than its manager allows.
    scene.script("start", &format!("rm {}\necho Job for mongod timed out >&2\nexit 1", stopped.display()));
    let job = scene.ended(scene.queue());
    assert_eq!((job["state"].as_str().unwrap(), scene.now().await), ("succeeded", RESTORED), "{job}");
    let log = scene.home.run(&["job", "log", &job["id"].to_string()]).stdout;
    assert!(log.contains("Job for mongod timed out") && log.contains("but the server serves"), "{log}");
    scene.is_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_command_that_hangs_is_waited_for_after_a_cancel() {
    let scene = Scene::new().await;
    let go_on = scene.scripts.path().join("go-on");
    scene.script("stop", &format!("while [ ! -e {} ]; do sleep 0.05; done\n{}", go_on.display(), scene.stopping()));
    let id = scene.queue();
    until("it is being stopped", || scene.was_called("stop"));
    scene.home.run(&["job", "cancel", &id.to_string()]);
    until("it undoes what it did", || scene.home.job(id)["phase"].to_string().contains("undoing"));
    // It stops the server after all, when nobody waits for that any more.
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(scene.ended(id)["state"], "cancelled");
    assert_eq!(scene.now().await, OLD);
    scene.is_tidy();
}
