//! The life of jobs, with the real program, a real daemon and a real replica set.

use serde_json::json;

use crate::support::program::{self, Home, fill, replica_set, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_verified_restored_and_deleted() {
    let set = replica_set().await;
    fill(&set, "shop", 3_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");

    let job = home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one", "--wait"]);
    assert_eq!(
        (job["state"].clone(), job["backup"].clone(), job["attempt"].clone()),
        (json!("succeeded"), json!("one"), json!(1))
    );
    let backup = home.ok(&["backup", "show", "one"]);
    assert_eq!((backup["state"].clone(), backup["folder"].clone()), (json!("succeeded"), json!("src")));
    assert!(backup["documents"].as_u64().unwrap() >= 3_000, "{backup}");
    assert!(backup["consistent_at_ts"]["t"].as_u64().unwrap() > 0 && backup["size_bytes"].as_u64().unwrap() > 0);
    assert!(home.storage().join("src/backups/one/manifest.json").exists());

    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
    assert!(home.ok(&["backup", "show", "one"])["verified_at"].is_string());

    let to = home.path().join("export");
    home.ok(&["backup", "export", "one", "--to", to.to_str().unwrap()]);
    assert!(to.join("shop/items.bson").metadata().unwrap().len() > 3_000 && to.join("oplog.bson").exists());
    assert_eq!(home.run(&["backup", "export", "one", "--to", to.to_str().unwrap()]).code, 4);

    let into = ["restore", "one", "--to", "src", "--rename", "shop=copy"];
    let plan = home.run(&into);
    assert_eq!(plan.code, 4, "{}", plan.stderr);
    let mut yes = into.to_vec();
    yes.extend(["--yes", "--wait"]);
    assert_eq!(home.ok(&yes)["state"], "succeeded");
    assert_eq!(program::count(&set, "copy").await, 3_000);

    assert_eq!(home.run(&["backup", "delete", "one"]).code, 4);
    assert_eq!(home.ok(&["backup", "delete", "one", "--yes"])["state"], "succeeded");
    assert_eq!(home.run(&["backup", "show", "one"]).code, 3);
    assert_eq!(home.files(), Vec::<String>::new());
    assert_eq!(home.ok(&["job", "list"]).as_array().unwrap().len(), 4);
    let status = home.ok(&["daemon", "status"]);
    assert_eq!(status["running"], true);
    assert_eq!(home.ok(&["daemon", "stop"]), json!({"running": false}));
}

#[test]
fn a_server_that_does_not_answer_is_tried_again_by_the_policy() {
    let home = Home::new();
    home.add_service("gone", "mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=300");
    home.add_storage("local");
    let create = ["backup", "create", "--service", "gone", "--storage", "local"];
    let mut manual = create.to_vec();
    manual.extend(["--name", "manual", "--wait"]);
    let ran = home.run(&manual);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let job: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(job["state"], "failed");
    assert_eq!(home.ok(&["backup", "show", "manual"])["state"], "failed");

    let mut auto = create.to_vec();
    auto.extend(["--name", "auto", "--retry", "auto", "--retries", "1", "--retry-interval", "1s"]);
    let id = home.ok(&auto)["id"].as_i64().unwrap();
    until("the first attempt failed", || home.job(id)["state"] == "waiting_retry");
    assert!(home.job(id)["next_attempt_at"].is_string());
    assert_eq!(home.ok(&["backup", "show", "auto"])["state"], "failed");
    until("all attempts failed", || home.job(id)["state"] == "failed");
    assert_eq!(home.job(id)["attempt"], 2);
    let attempts: Vec<u64> = home
        .ok(&["job", "log", &id.to_string()])
        .as_array()
        .unwrap()
        .iter()
        .filter(|l| l["level"] == "error")
        .map(|l| l["attempt"].as_u64().unwrap())
        .collect();
    assert_eq!(attempts, [1, 2]);

    // Tried again by hand, and cancelled: the name is free again.
    home.ok(&["job", "retry", &id.to_string()]);
    home.run(&["job", "cancel", &id.to_string()]);
    until("it has ended", || ["cancelled", "failed"].contains(&home.job(id)["state"].as_str().unwrap()));
    assert_eq!(home.files(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_at_a_time_for_a_service_and_cancel_leaves_nothing() {
    let set = replica_set().await;
    fill(&set, "shop", 6_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["settings", "set", "backup.bandwidth_limit", "20000"]);
    let create = |name: &str| {
        home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", name])["id"].as_i64().unwrap()
    };
    let first = create("first");
    let second = create("second");
    until("the first moves", || home.job(first)["progress"]["bytes_done"].as_u64().unwrap() > 0);
    until("the second says what it waits for", || home.job(second)["phase"] == format!("waiting for job {first}"));
    assert_eq!(home.job(second)["state"], "queued");
    // A taken name, a service and a storage in use, a backup that a job makes.
    for args in [
        vec!["backup", "create", "--service", "src", "--storage", "local", "--name", "first"],
        vec!["service", "remove", "src"],
        vec!["storage", "remove", "local"],
        vec!["backup", "delete", "first", "--yes"],
        vec!["backup", "verify", "first"],
        vec!["job", "retry", &first.to_string()],
    ] {
        let ran = home.run(&args);
        assert_eq!(ran.code, 4, "{args:?}: {}", ran.stderr);
    }
    home.ok(&["job", "cancel", &second.to_string()]);
    assert_eq!(home.job(second)["state"], "cancelled");
    let began = std::time::Instant::now();
    home.ok(&["job", "cancel", &first.to_string()]);
    until("the first is cancelled", || home.job(first)["state"] == "cancelled");
    let took = began.elapsed();
    assert_eq!(home.files(), Vec::<String>::new());
    // By its limit it would go on for minutes. The two seconds of the promise pass without commands, in
    // `dump::failures`.
    assert!(took < std::time::Duration::from_secs(30), "cancelling took {took:?}");
    for name in ["first", "second"] {
        assert_eq!(home.run(&["backup", "show", name]).code, 3);
    }
    assert_eq!(home.run(&["job", "cancel", &first.to_string()]).code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_stopped_hands_its_job_back() {
    let set = replica_set().await;
    fill(&set, "shop", 6_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["settings", "set", "backup.bandwidth_limit", "20000"]);
    let args = ["backup", "create", "--service", "src", "--storage", "local", "--name", "one"];
    let id = home.ok(&args)["id"].as_i64().unwrap();
    until("it moves", || home.job(id)["progress"]["bytes_done"].as_u64().unwrap() > 0);
    home.ok(&["daemon", "stop"]);
    assert_eq!(home.daemon_pid(), None);
    let shown = home.run(&["job", "show", &id.to_string()]);
    assert!(shown.stderr.contains("no daemon runs"), "{}", shown.stderr);
    let job = home.job(id);
    // Nobody cancelled it, and nothing failed: the next daemon goes on at once.
    assert_eq!((&job["state"], &job["error"]), (&json!("queued"), &json!(null)), "{job}");
    let log = home.ok(&["job", "log", &id.to_string()]).to_string();
    assert!(log.contains("the daemon was stopped") && log.contains("handed back"), "{log}");
    assert_eq!(home.files(), Vec::<String>::new());
    home.ok(&["settings", "set", "backup.bandwidth_limit", "0"]);
    home.start_daemon();
    until("another attempt makes it", || home.job(id)["state"] == "succeeded");
    assert_eq!(home.job(id)["attempt"], 2);
}

#[test]
fn one_daemon_for_a_home() {
    let home = Home::new();
    home.start_daemon();
    let pid = home.daemon_pid().unwrap();
    let second = home.run(&["daemon", "run"]);
    assert_eq!(second.code, 4, "{}", second.stderr);
    assert!(second.stderr.contains(&format!("pid {pid}")), "{}", second.stderr);
    // Many at once want one: one comes, and all see it.
    home.kill_daemon();
    let pids: Vec<u32> = std::thread::scope(|scope| {
        let starters: Vec<_> =
            (0..6).map(|_| scope.spawn(|| home.client().ensure_daemon().unwrap().pid.unwrap())).collect();
        starters.into_iter().map(|s| s.join().unwrap()).collect()
    });
    assert!(pids.iter().all(|p| *p == pids[0]), "{pids:?}");
    home.ok(&["daemon", "stop"]);
    assert_eq!(home.ok(&["daemon", "status"]), json!({"running": false}));
    // Stopping what does not run is no error.
    assert_eq!(home.run(&["daemon", "stop"]).code, 0);
}

#[test]
fn with_backup_management_off_nothing_starts() {
    let home = Home::new();
    home.add_service("src", "mongodb://127.0.0.1:1");
    home.add_storage("local");
    home.ok(&["settings", "set", "backup.enabled", "false"]);
    let ran = home.run(&["backup", "create", "--service", "src", "--storage", "local"]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("mongokeep settings set backup.enabled true"), "{}", ran.stderr);
    assert_eq!(home.ok(&["job", "list"]), json!([]));
    assert_eq!(home.daemon_pid(), None);
}

/// CPU time a process has used, in seconds (proc(5), fields utime and stime in ticks of 1/100 s).
fn cpu_seconds(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|t| t.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// How often the threads of a process waited for something so far (proc(5), voluntary_ctxt_switches).
fn wakes(pid: i32) -> u64 {
    let of_thread = |entry: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(entry.ok()?.path().join("status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    };
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(of_thread).sum()
}

#[test]
fn an_idle_daemon_costs_nothing_and_takes_a_job_at_once() {
    let home = Home::new();
    home.add_service("src", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100");
    home.add_storage("local");
    home.start_daemon();
    let pid = home.daemon_pid().unwrap();
    // What its start costs, and a machine that has to read the program back from its disk, is not idleness: one quiet
    // window out of a few shows it, which a daemon that is never idle does not have.
    let window = || {
        let (before, began) = (cpu_seconds(pid), std::time::Instant::now());
        std::thread::sleep(std::time::Duration::from_secs(4));
        (cpu_seconds(pid) - before) / began.elapsed().as_secs_f64()
    };
    let shares: Vec<f64> = std::iter::repeat_with(window)
        .take(4)
        .scan(false, |done, share| {
            let go_on = !*done;
            *done = share < 0.02;
            go_on.then_some(share)
        })
        .collect();
    // How much of a processor that is depends on the processor; how often it wakes does not.
    let (before, began) = (wakes(pid), std::time::Instant::now());
    std::thread::sleep(std::time::Duration::from_secs(2));
    let wakes = (wakes(pid) - before) as f64 / began.elapsed().as_secs_f64();
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(
        least < 0.02 || (least < 0.25 && wakes < 150.0),
        "idle: {shares:.3?} of a processor, {wakes:.0} wakes a second"
    );

    let client = home.client();
    // One of a few, for the same reason: a daemon that looks more seldom is never so fast.
    let mut taken = Vec::new();
    let at_once = |took: &std::time::Duration| *took < std::time::Duration::from_secs(1);
    while taken.len() < 5 && !taken.iter().any(at_once) {
        let name = format!("taken-{}", taken.len());
        let values = [("service", "src"), ("storage", "local"), ("name", &*name)];
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect();
        let job = client.create_backup(&values).unwrap();
        let queued = std::time::Instant::now();
        until("it is taken", || client.job(job.id).unwrap().started_at.is_some());
        taken.push(queued.elapsed());
        until("it has failed", || client.job(job.id).unwrap().finished_at.is_some());
    }
    eprintln!("idle {shares:.3?} of a processor; taken after {taken:?}");
    assert!(taken.iter().any(at_once), "{taken:?}");
}

/// The form and the flags refuse it before it is queued. What is queued all the same (a newer client, a store of a newer
/// version) is never made as something else.
#[test]
fn a_program_that_is_not_there_fails_by_name_and_nothing_else_makes_the_backup() {
    let home = Home::new();
    home.add_service("src", "mongodb://127.0.0.1:1/?replicaSet=rs");
    home.add_storage("local");
    home.ok(&["service", "edit", "src", "--engine", "pbm"]);
    home.ok(&["settings", "set", "pbm.path", "/nowhere/pbm"]);
    for model in ["logical", "physical"] {
        let create = ["backup", "create", "--service", "src", "--storage", "local", "--name", model, "--model", model];
        let id = home.ok(&create)["id"].as_i64().unwrap();
        until("it has ended", || home.job(id)["state"] == "failed");
        let job = home.job(id);
        let (error, hint) = (job["error"].as_str().unwrap(), job["hint"].as_str().unwrap());
        assert!(error.contains("/nowhere/pbm") && hint.contains("settings set pbm.path"), "{error} {hint}");
    }
    assert_eq!(home.files(), [""; 0], "nothing was written");
    let ran = home.run(&["service", "check", "src"]);
    assert!(ran.code == 1 && ran.stdout.contains("/nowhere/pbm"), "{}", ran.stdout);
    // What PBM cannot do is refused before anything is queued.
    for (more, says) in [
        (&["backup", "create", "--service", "src", "--storage", "local", "--exclude", "a"][..], "leaves nothing out"),
        (&["backup", "create", "--service", "src", "--storage", "local", "--include", "a.b*"], "whole databases"),
        (
            &["schedule", "add", "s", "--service", "src", "--storage", "local", "--cron", "@daily", "--exclude", "a"],
            "leaves nothing out",
        ),
    ] {
        let ran = home.run(more);
        assert!(ran.code == 2 && ran.stderr.contains(says), "{more:?}: {} {}", ran.code, ran.stderr);
    }
    // An engine that cannot make what a schedule asks for is not given to its service.
    home.add_service("other", "mongodb://127.0.0.1:1/?replicaSet=rs");
    let line =
        ["schedule", "add", "line", "--service", "other", "--storage", "local", "--cron", "@daily", "--exclude", "a"];
    home.ok(&[&line[..], &["--disabled"]].concat());
    let ran = home.run(&["service", "edit", "other", "--engine", "pbm"]);
    assert!(ran.code == 2 && ran.stderr.contains("schedule line"), "{} {}", ran.code, ran.stderr);
    let ran = home.run(&["service", "configure", "other", "--storage", "local"]);
    assert!(ran.code == 2 && ran.stderr.contains("needs no configuration"), "{} {}", ran.code, ran.stderr);
}
