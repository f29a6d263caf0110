//! The main job by command line, against a real server: what a script does, and what it is told when things go wrong.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use mongodb::bson::{Document, doc};
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};
use serde_json::Value;

use crate::support;
use crate::support::command::{Home, Run};

/// A name that would clear the screen of whoever prints it as it is.
const NASTY: &str = "a\u{1b}[2Jb";
const DOCUMENTS: u64 = 500;

/// A home with the service `live` (a running server that holds something) and the storage `t`.
async fn stage() -> (Home, ReplicaSet) {
    let set = ReplicaSet::start(&support::mongod().await, ReplicaSetOptions::default().auth()).await.unwrap();
    let shop = set.client().await.unwrap().database("shop");
    let orders = (0..DOCUMENTS).map(|i| doc! {"_id": i as i64, "text": "x".repeat(100)});
    shop.collection::<Document>("orders").insert_many(orders).await.unwrap();
    shop.collection::<Document>(NASTY).insert_one(doc! {"_id": 1}).await.unwrap();
    shop.run_command(doc! {"create": "recent", "viewOn": "orders", "pipeline": []}).await.unwrap();
    let home = Home::ready();
    let run = home.run_with(&["service", "add", "live", "--uri-file", "-", "--cluster", "prod"], &set.uri());
    assert_eq!(run.code, 0, "{}", run.stderr);
    (home, set)
}

fn run(home: &Home, line: &str) -> Run {
    home.run(&line.split_whitespace().collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn back_up_verify_restore_export_delete() {
    let (home, set) = stage().await;
    let check = run(&home, "service check live -o json");
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
    assert_eq!(check.json()["ok"], true);

    let made = run(&home, "backup create --service live --storage t --name first --wait -o json");
    assert_eq!(made.code, 0, "{}{}", made.stdout, made.stderr);
    let job = made.json();
    for (key, value) in [("kind", "backup"), ("state", "succeeded"), ("backup", "first"), ("service", "live")] {
        assert_eq!(job[key], value, "{job}");
    }
    assert_eq!((&job["attempt"], &job["error"]), (&1.into(), &Value::Null));
    for key in ["id", "storage", "schedule", "created_at", "started_at", "finished_at"] {
        assert!(job.get(key).is_some(), "{key}: {job}");
    }
    for key in ["bytes_done", "bytes_total", "objects_done", "objects_total"] {
        assert!(job["progress"][key].is_u64(), "{key}: {job}");
    }
    assert_eq!(run(&home, "backup create --service live --storage t --name first").code, 4, "the name is taken");

    let mut backup = home.json("backup show first");
    for key in
        "name service cluster storage folder engine model type schedule state pinned consistent_at consistent_at_ts \
                size_bytes uncompressed_bytes documents started_at finished_at server_version fcv compression error"
            .split_whitespace()
    {
        assert!(backup.get(key).is_some(), "{key}: {backup}");
    }
    assert_eq!((&backup["state"], &backup["folder"]), (&"succeeded".into(), &"prod".into()));
    assert!(backup["documents"].as_u64().unwrap() > DOCUMENTS, "{backup}");
    assert!(backup["consistent_at_ts"]["t"].is_u64() && backup["consistent_at"].as_str().unwrap().ends_with('Z'));
    // What it holds is in its manifest, which a list does not read.
    let held = backup.as_object_mut().unwrap();
    assert_eq!(held.remove("selection"), Some(serde_json::json!({})));
    assert_eq!(held.remove("left_out"), Some(serde_json::json!([])));
    assert_eq!(held.remove("not_in_json"), Some(serde_json::json!([])));
    let namespaces = held.remove("namespaces").unwrap();
    let orders =
        namespaces.as_array().unwrap().iter().find(|n| n["namespace"]["collection"] == "orders").unwrap().clone();
    assert_eq!((&orders["documents"], &orders["kind"]), (&DOCUMENTS.into(), &"collection".into()), "{namespaces}");
    assert_eq!(backup["whole"], true);
    assert_eq!(home.json("backup list --service live --storage t"), Value::Array(vec![backup]));
    assert_eq!(home.json("backup list --service a"), Value::Array(vec![]));
    assert!(home.good("backup list").contains("first"));

    assert_eq!(home.json("backup pin first")["pinned"], true);
    assert_eq!(run(&home, "backup delete first --yes").code, 4, "a pinned backup was deleted");
    assert_eq!(home.json("backup unpin first")["pinned"], false);
    let verified = home.json("backup verify first");
    assert_eq!((&verified["kind"], &verified["state"]), (&"verify".into(), &"succeeded".into()));

    let read = &verified["progress"];
    assert_eq!(read["documents_done"], read["documents_total"], "{verified}");

    restore(&home, &set).await;

    let folder = home.dir().join("exported");
    let exported = home.json(&format!("backup export first --to {}", folder.display()));
    assert_eq!((&exported["backup"], &exported["to"]), (&"first".into(), &folder.to_str().unwrap().into()));
    assert!(folder.join("shop/orders.bson").metadata().unwrap().len() > 100 * DOCUMENTS);
    assert_eq!(run(&home, &format!("backup export first --to {}", folder.display())).code, 4, "into a full folder");

    jobs(&home, &job);

    let plan = run(&home, "backup delete first -o json");
    assert_eq!((plan.code, &plan.json()["backup"]), (4, &"first".into()));
    assert!(plan.stderr.contains("backup delete first -o json --yes"), "{}", plan.stderr);
    assert_eq!(home.json("backup delete first --dry-run")["keep_files"], false);
    assert_eq!(home.json("backup show first")["state"], "succeeded");
    assert_eq!(home.json("backup delete first --yes")["state"], "succeeded");
    assert_eq!(run(&home, "backup show first").code, 3);
    assert_eq!(home.json("backup list"), Value::Array(vec![]));
    assert_eq!(objects(&home.dir().join("storage")), Vec::<String>::new());
}

async fn restore(home: &Home, set: &ReplicaSet) {
    let client = set.client().await.unwrap();
    let copies = || async { client.list_database_names().await.unwrap().contains(&"copy".to_owned()) };
    let line = "restore first --to live --include shop --rename shop=copy";
    let plan = run(home, &format!("{line} -o json"));
    assert_eq!(plan.code, 4, "{}", plan.stderr);
    assert!(plan.stderr.contains(&format!("{line} -o json --yes")), "{}", plan.stderr);
    let plan = plan.json();
    let planned = plan["namespaces"].as_array().unwrap();
    assert!(planned.iter().all(|n| n["action"] == "create" && n["to"]["db"] == "copy"), "{plan}");
    assert_eq!(planned.len(), 3, "{plan}");
    let text = home.good(&format!("{line} --dry-run"));
    assert!(text.contains("copy.a\\u{1b}[2Jb") && !text.contains('\u{1b}'), "{text:?}");
    assert!(!copies().await, "a plan wrote something");

    let job = home.json(&format!("{line} --yes --wait"));
    let expected = ("restore", "succeeded", "first");
    let got = (job["kind"].as_str().unwrap(), job["state"].as_str().unwrap(), job["backup"].as_str().unwrap());
    assert_eq!(got, expected, "{job}");
    assert_eq!(job["progress"]["objects_done"], job["progress"]["objects_total"], "{job}");
    let copy = client.database("copy");
    assert_eq!(copy.collection::<Document>("orders").count_documents(doc! {}).await.unwrap(), DOCUMENTS);
    assert_eq!(copy.collection::<Document>(NASTY).count_documents(doc! {}).await.unwrap(), 1);

    // What is there already is named as replaced, and stays without a yes.
    let run = run(home, "restore first --to live --include shop.orders");
    assert_eq!(run.code, 4);
    let replaced = |line: &str| line.starts_with("REPLACE ") && line.contains(" shop.orders ");
    assert!(run.stdout.lines().any(replaced), "{}", run.stdout);
    assert!(run.stdout.contains("REPLACES 1 (500 documents there now)"), "{}", run.stdout);
}

fn jobs(home: &Home, backup: &Value) {
    let all = home.json("job list");
    let kinds: Vec<&str> = all.as_array().unwrap().iter().map(|j| j["kind"].as_str().unwrap()).collect();
    for kind in ["backup", "verify", "restore"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let id = &backup["id"];
    assert_eq!(home.json(&format!("job show {id}"))["id"], *id);
    assert_eq!(home.json(&format!("job wait {id}"))["state"], "succeeded");
    let log = home.json(&format!("job log {id}"));
    let log = log.as_array().unwrap();
    assert!(!log.is_empty());
    let followed = home.good(&format!("job log {id} --follow -o json"));
    let followed: Vec<Value> = followed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(followed, *log, "one JSON value on each line, the same lines");
    assert_eq!(home.good(&format!("job log {id}")).lines().count(), log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_said_and_exits_as_agreed() {
    let (home, set) = stage().await;
    // `a` is a server that does not exist.
    let failed = run(&home, "backup create --service a --storage t --name gone --wait -o json");
    assert_eq!(failed.code, 1, "{}{}", failed.stdout, failed.stderr);
    let job = failed.json();
    assert_eq!((&job["state"], &job["backup"]), (&"failed".into(), &"gone".into()));
    assert!(job["error"].as_str().unwrap().contains("127.0.0.1:1"), "{job}");
    assert!(failed.stderr.contains("error: backup (job "), "{}", failed.stderr);
    assert_eq!(run(&home, &format!("job wait {}", job["id"])).code, 1);

    let wrong = set.uri_as("root", "hunter2");
    assert_eq!(home.run_with(&["service", "add", "wrong", "--uri-file", "-"], &wrong).code, 0);
    let check = run(&home, "service check wrong -o json");
    assert_eq!(check.code, 1, "{}", check.stderr);
    let report = check.json();
    let item = report["items"].as_array().unwrap().iter().find(|i| i["id"] == "authenticated").unwrap().clone();
    assert_eq!(item["state"], "fail", "{report}");
    let refused = run(&home, "backup create --service wrong --storage t --wait");
    assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
    let log = home.good("job log 2");
    for text in [&check.stdout, &check.stderr, &refused.stdout, &refused.stderr, &log] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let daemon = std::fs::read_to_string(home.path().join("state/daemon.log")).unwrap();
    assert!(!daemon.contains("hunter2"), "{daemon}");

    // So slow that it does not end before it is cancelled.
    home.good("settings set backup.bandwidth_limit 1");
    assert_eq!(home.json("backup create --service live --storage t --name later")["attempt"], 1);
    interrupted_waiting_leaves_the_job(&home);
    assert_eq!(objects(&home.dir().join("storage")), Vec::<String>::new(), "a failed backup left something");
}

fn interrupted_waiting_leaves_the_job(home: &Home) {
    let id = home.json("job list")[0]["id"].clone();
    let mut child =
        home.command(&["job", "wait", &id.to_string()]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Its first line of progress: it waits, and listens to signals.
    let mut stderr = child.stderr.take().unwrap();
    let mut first = [0; 1];
    stderr.read_exact(&mut first).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let began = Instant::now();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    assert!(began.elapsed() < support::stopwatch::at_once());
    assert!(said.contains("goes on") && said.contains(&format!("mongokeep job cancel {id}")), "{said}");
    let job = home.json(&format!("job cancel {id}"));
    assert!(job["state"] == "cancelled" || job["cancel_requested"] == true, "{job}");
    let run = run(home, &format!("job wait {id} -o json"));
    assert_eq!((run.code, &run.json()["state"]), (1, &"cancelled".into()), "{}", run.stderr);
}

/// Everything that is in a storage folder, for a person who asks what was left.
fn objects(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(objects(&path));
        } else if !path.ends_with(mongokeep::storage::filesystem::mark::MARK) {
            found.push(path.display().to_string());
        }
    }
    found
}
