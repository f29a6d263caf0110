//! Notifications with the real program: a web server in this process, a real script, a daemon that is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::support::program::{Home, until};

const SECRET: &str = "s3cret-of-the-test";

/// A web server that keeps what is posted to it. Ends with the process.
struct Hook {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Headers (in lower case) and body of each request.
    requests: Vec<(String, Value)>,
    /// What the next requests are answered with; 204 after these.
    answers: Vec<&'static str>,
}

impl Hook {
    fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            Arc::new(Mutex::new(State { answers: answers.iter().rev().copied().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let _ = serve(stream, &shared);
            }
        });
        Self { address, state }
    }

    fn url(&self) -> String {
        format!("http://{}/hook/T0KEN", self.address)
    }

    fn requests(&self) -> Vec<(String, Value)> {
        self.state.lock().unwrap().requests.clone()
    }

    fn events(&self) -> Vec<String> {
        self.requests().iter().map(|(_, body)| body["event"].as_str().unwrap().to_owned()).collect()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = {
        let mut state = state.lock().unwrap();
        state.requests.push((head, serde_json::from_slice(&body).unwrap()));
        state.answers.pop().unwrap_or("204 No Content")
    };
    write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A home whose backups fail at once: nobody listens where its service should be.
fn home() -> Home {
    let home = Home::new();
    home.add_service("gone", "mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=200");
    home.add_storage("local");
    // How full the disk of this machine is must not matter.
    set(&home, "notify.storage_full_percent", "0");
    home
}

fn set(home: &Home, key: &str, value: &str) {
    home.ok(&["settings", "set", key, value]);
}

fn fail(home: &Home, name: &str) -> i64 {
    let job = home.ok(&["backup", "create", "--service", "gone", "--storage", "local", "--name", name]);
    let id = job["id"].as_i64().unwrap();
    until("it has failed", || home.job(id)["state"] == "failed");
    id
}

fn secret_file(home: &Home) -> PathBuf {
    let file = home.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// A script that appends what it reads to a file.
fn script(home: &Home, rest: &str) -> (String, PathBuf) {
    let (file, got) = (home.path().join("a script.sh"), home.path().join("got"));
    std::fs::write(&file, format!("#!/bin/sh\ncat >> {}\n{rest}\n", got.display())).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
    (format!("'{}' --team ops", file.display()), got)
}

fn lines(file: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn log(home: &Home) -> String {
    std::fs::read_to_string(home.home().log_file()).unwrap()
}

#[test]
fn a_failure_is_told_once_by_each_channel_and_the_secret_stays_one() {
    let (home, hook) = (home(), Hook::start(&[]));
    let (command, got) = script(&home, "");
    set(&home, "notify.command", &command);
    set(&home, "notify.webhook_url", &hook.url());
    set(&home, "notify.webhook_secret_file", secret_file(&home).to_str().unwrap());
    let id = fail(&home, "one");
    until("both were told", || hook.requests().len() == 1 && lines(&got).len() == 1);
    let (head, body) = hook.requests().remove(0);
    assert!(head.starts_with("POST /hook/T0KEN HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains(&format!("x-mongokeep-secret: {SECRET}")), "{head}");
    assert_eq!((&body["event"], &body["job"], &body["backup"]), (&"failure".into(), &id.into(), &"one".into()));
    assert_eq!((&body["kind"], &body["state"], &body["service"]), (&"backup".into(), &"failed".into(), &"gone".into()));
    assert!(body["text"].as_str().unwrap().starts_with("backup one of gone failed: "), "{body}");
    assert_eq!(lines(&got).remove(0), body, "both read the same");

    // A second failure is another notice; the first is not told again, also not by another daemon.
    home.ok(&["daemon", "stop"]);
    fail(&home, "two");
    until("both were told", || hook.requests().len() == 2 && lines(&got).len() == 2);
    let ids: Vec<_> = hook.requests().iter().map(|(_, body)| body["id"].as_i64().unwrap()).collect();
    assert_ne!(ids[0], ids[1]);
    home.ok(&["daemon", "stop"]);
    assert_eq!((hook.requests().len(), lines(&got).len()), (2, 2));

    let log = log(&home);
    assert!(!log.contains(SECRET) && !log.contains("T0KEN"), "{log}");
    assert!(!home.ok(&["settings", "get"]).to_string().contains(SECRET));
}

#[test]
fn what_could_not_be_told_is_told_by_the_next_daemon() {
    let home = home();
    // Until the second daemon, however often the first one tries.
    let hook = Hook::start(&["503 Service Unavailable"; 1_000]);
    set(&home, "notify.webhook_url", &hook.url());
    fail(&home, "one");
    until("it was refused", || !hook.requests().is_empty());
    until("somebody who looks is told", || {
        let warnings = home.ok(&["daemon", "status"])["warnings"].to_string();
        warnings.contains("notification_failed") && warnings.contains("answered 50")
    });
    home.kill_daemon();
    hook.state.lock().unwrap().answers.clear();
    let refused = hook.requests().len();
    home.start_daemon();
    until("it was told", || hook.requests().len() > refused);
    // What is wrong now is the failure itself, and nothing about telling it.
    until("nobody is left untold", || {
        let warnings = home.ok(&["daemon", "status"])["warnings"].clone();
        let kinds: Vec<&str> = warnings.as_array().unwrap().iter().filter_map(|w| w["kind"].as_str()).collect();
        kinds == ["backup_failed"]
    });
    fail(&home, "two");
    until("the next was told", || hook.requests().iter().any(|(_, body)| body["backup"] == "two"));
    let told: Vec<_> = hook.requests().iter().map(|(_, body)| body["backup"].as_str().unwrap().to_owned()).collect();
    let (of_one, rest) = told.split_at(refused + 1);
    assert!(of_one.iter().all(|backup| backup == "one") && rest == ["two"], "refused, then taken once: {told:?}");
}

#[test]
fn only_what_is_wanted_is_told_and_a_channel_that_hangs_holds_nobody_up() {
    let (home, hook) = (home(), Hook::start(&[]));
    let (command, got) = script(&home, "sleep 600");
    set(&home, "notify.command", &command);
    set(&home, "notify.webhook_url", &hook.url());
    set(&home, "notify.on", "failure, missed");
    // One of these disks is fuller than 1 %, and nobody wants to know.
    set(&home, "notify.storage_full_percent", "1");
    std::fs::create_dir_all(home.storage()).unwrap();
    fail(&home, "one");
    until("the script hangs", || lines(&got).len() == 1);
    let began = std::time::Instant::now();
    fail(&home, "two");
    until("the webhook was told", || hook.requests().len() == 2);
    // The script is given half a minute.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(hook.events(), ["failure", "failure"]);
    assert_eq!(lines(&got).len(), 1, "one after the other");
}

#[test]
fn what_is_wrong_is_told_once_and_said_in_words() {
    let (home, hook) = (home(), Hook::start(&[]));
    set(&home, "notify.webhook_url", &hook.url());
    set(&home, "notify.storage_full_percent", "1");
    set(&home, "notify.stale_hours", "1");
    // A disk that surely holds something.
    home.ok(&["storage", "add", "disk", "--type", "filesystem", "--path", env!("CARGO_TARGET_TMPDIR")]);
    home.client();
    // As if the service had been added yesterday.
    let store = rusqlite::Connection::open(home.home().store_file()).unwrap();
    store.execute("UPDATE services SET created_at = created_at - 86400000", []).unwrap();
    drop(store);
    home.start_daemon();
    until("both were told", || hook.requests().len() == 2);
    let mut events = hook.events();
    events.sort();
    assert_eq!(events, ["stale", "storage_full"]);
    let status = home.ok(&["daemon", "status"]);
    let kinds: Vec<_> =
        status["warnings"].as_array().unwrap().iter().map(|w| w["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["stale", "storage_full"], "{status}");
    assert_eq!(status["services"][0]["service"], "gone");
    assert_eq!(status["services"][0]["age_seconds"], Value::Null);
    let words = std::process::Command::new(env!("CARGO_BIN_EXE_mongokeep"))
        .arg("--home")
        .arg(home.path())
        .args(["daemon", "status"])
        .output()
        .unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    for said in ["gone: none", "gone: no good backup yet, after 24 h 00", "storage disk: its disk is"] {
        assert!(words.contains(said), "{said}: {words}");
    }
    // Another daemon finds the same things wrong, and nobody is told again.
    home.ok(&["daemon", "stop"]);
    set(&home, "notify.stale_services", "gone=0");
    home.start_daemon();
    until("it is stale no more", || !home.ok(&["daemon", "status"])["warnings"].to_string().contains("stale"));
    fail(&home, "one");
    until("a failure was told", || hook.events().len() == 3);
    assert_eq!(hook.events()[2], "failure");
}

#[test]
fn each_channel_can_be_tried() {
    let (home, hook) = (home(), Hook::start(&["204 No Content", "404 Not Found", "302 Found"]));
    let try_it = |channel: &str| home.run(&["settings", "test-notification", channel]);
    for channel in ["command", "webhook"] {
        let ran = try_it(channel);
        assert_eq!(ran.code, 3, "{}", ran.stderr);
        assert!(ran.stderr.contains("is empty"), "{}", ran.stderr);
    }
    set(&home, "notify.webhook_url", &hook.url());
    let told = home.ok(&["settings", "test-notification", "webhook"]);
    assert!(told["detail"].as_str().unwrap().contains("answered 204"), "{told}");
    assert_eq!(hook.events(), ["test"]);
    for args in [&["settings", "get"][..], &["settings", "get", "notify.webhook_url"]] {
        let shown = home.run(args).stdout;
        assert!(shown.contains("http://127.0.0.1") && !shown.contains("T0KEN"), "{shown}");
    }
    for answer in ["404 Not Found", "302 Found"] {
        let ran = try_it("webhook");
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(&format!("answered {answer}")) && !ran.stderr.contains("T0KEN"), "{}", ran.stderr);
    }
    let file = secret_file(&home);
    set(&home, "notify.webhook_secret_file", file.to_str().unwrap());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let ran = try_it("webhook");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("can be read by others") && ran.stderr.contains("chmod 600"), "{}", ran.stderr);
    // A proxy of the environment would read the secret of what is not sent over TLS; this one is not there to be asked.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let nobody = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let mut proxied = home.command(&["settings", "test-notification", "webhook"]);
    proxied.env("HTTP_PROXY", &nobody).env("http_proxy", &nobody).env("ALL_PROXY", &nobody).env_remove("NO_PROXY");
    let ran = proxied.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(hook.requests().last().unwrap().1["event"], "test");
    // A secret is not sent in the open to another machine; nothing is contacted.
    set(&home, "notify.webhook_url", "http://192.0.2.1/hook");
    let ran = try_it("webhook");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("without TLS"), "{}", ran.stderr);

    let (command, got) = script(&home, "echo 'no way' >&2; exit 3");
    set(&home, "notify.command", &command);
    let ran = try_it("command");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("ended with 3: no way"), "{}", ran.stderr);
    assert_eq!(lines(&got)[0]["event"], "test");
    assert_eq!(home.daemon_pid(), None, "trying needs no daemon");
}
