//! Schedules run by themselves: the real program, a real daemon, a real replica set and the real clock.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::support::program::{Home, fill, replica_set, until};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

/// The jobs of a schedule, oldest first.
fn jobs(home: &Home, schedule: &str) -> Vec<Value> {
    let mut all = home.ok(&["job", "list"]).as_array().unwrap().clone();
    all.retain(|j| j["schedule"] == schedule);
    all.reverse();
    all
}

fn count(jobs: &[Value], state: &str) -> usize {
    jobs.iter().filter(|j| j["state"] == state).count()
}

fn add(home: &Home, name: &str, cron: &str, more: &[&str]) {
    let mut args = vec!["schedule", "add", name, "--service", "src", "--storage", "local", "--cron", cron];
    args.extend(more);
    home.ok(&args);
}

/// How many runs a record stands for, by its words.
fn stands_for(job: &Value) -> i64 {
    let error = job["error"].as_str().unwrap_or("");
    let number = |before: &str| -> Option<i64> { error.split_once(before)?.1.split_whitespace().next()?.parse().ok() };
    match job["state"].as_str().unwrap() {
        "missed" => number("; of ").map_or(1, |n| n - 1),
        "skipped" => 1 + number("nor for ").unwrap_or(0),
        _ => 1,
    }
}

/// Every time from the first run to the last, so many seconds apart, has one record, or is counted by one.
fn nothing_twice_and_nothing_lost(jobs: &[Value], seconds: i64) {
    let mut by_time: BTreeMap<DateTime<Utc>, &Value> = BTreeMap::new();
    for job in jobs {
        let due = time(&job["due_at"]);
        assert_eq!(due.timestamp() % seconds, 0, "{job}");
        assert!(due.timestamp_subsec_millis() == 0 && time(&job["created_at"]) >= due, "{job}");
        if let Some(other) = by_time.insert(due, job) {
            panic!("{due} has two records: {other} {job}");
        }
    }
    let (first, last) = (by_time.keys().next().unwrap(), by_time.keys().last().unwrap());
    let times = (*last - *first).num_seconds() / seconds + 1;
    // What the first record stands for lies before it.
    let told: i64 = by_time.values().skip(1).map(|j| stands_for(j)).sum::<i64>() + 1;
    assert_eq!(
        told,
        times,
        "{:#?}",
        by_time.values().map(|j| (&j["due_at"], &j["state"], &j["error"])).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_of_seconds_makes_each_run_once_also_when_the_daemon_is_killed() {
    let set = replica_set().await;
    fill(&set, "shop", 2_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    let retry = ["--retry", "auto", "--retries", "5", "--retry-interval", "1s"];
    add(&home, "often", "*/2 * * * * *", &retry);
    // Adding it started the daemon.
    assert!(home.daemon_pid().is_some());
    until("three runs succeeded", || count(&jobs(&home, "often"), "succeeded") >= 3);
    let first = jobs(&home, "often").iter().find(|j| j["state"] == "succeeded").unwrap().clone();
    let backup = home.ok(&["backup", "show", first["backup"].as_str().unwrap()]);
    assert_eq!((backup["state"].as_str(), backup["schedule"].as_str()), (Some("succeeded"), Some("often")));
    let expected = time(&first["due_at"]).format("often-%Y%m%d-%H%M").to_string();
    assert!(backup["name"].as_str().unwrap().starts_with(&expected), "{backup}");

    // From now on a run takes a while.
    home.ok(&["settings", "set", "backup.bandwidth_limit", "10000"]);
    let moving = |j: &Value| j["state"] == "running" && j["progress"]["bytes_done"].as_u64().unwrap() > 100_000;
    let mut slow = None;
    until("a slow run moves", || {
        slow = jobs(&home, "often").into_iter().find(moving);
        slow.is_some()
    });
    let id = slow.unwrap()["id"].as_i64().unwrap();
    home.kill_daemon();
    let killed = Utc::now();
    std::thread::sleep(Duration::from_secs(5));
    home.ok(&["settings", "set", "backup.bandwidth_limit", "0"]);
    home.start_daemon();
    until("the killed run is made by another attempt", || home.job(id)["state"] == "succeeded");
    assert_eq!(home.job(id)["attempt"], 2);
    until("runs go on", || {
        jobs(&home, "often").iter().filter(|j| j["state"] == "succeeded" && time(&j["due_at"]) > killed).count() >= 2
    });
    home.ok(&["schedule", "disable", "often"]);
    let all = jobs(&home, "often");
    nothing_twice_and_nothing_lost(&all, 2);
    // One was due while there was no daemon, or while the killed one was not finished yet.
    assert!(count(&all, "skipped") + count(&all, "missed") > 0);
    let told: Vec<&str> = all.iter().filter_map(|j| j["error"].as_str()).collect();
    assert!(told.iter().any(|e| e.contains(&format!("the previous run, job {id}, was not finished"))), "{told:?}");
    // Switched off, nothing more is due.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(jobs(&home, "often").len(), all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schedules_of_one_service_wait_for_each_other_and_both_can_be_stopped() {
    let set = replica_set().await;
    fill(&set, "shop", 500).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["settings", "set", "jobs.concurrency", "4"]);
    for name in ["one", "two"] {
        add(&home, name, "*/4 * * * * *", &[]);
    }
    let done = |name: &str| count(&jobs(&home, name), "succeeded");
    until("both ran twice", || done("one") >= 2 && done("two") >= 2);
    home.ok(&["settings", "set", "backup.enabled", "false"]);
    for name in ["one", "two"] {
        until("a record says that backup management is off", || {
            let off = |j: &Value| j["error"].as_str().is_some_and(|e| e.contains("backup management is off"));
            jobs(&home, name).iter().any(off)
        });
    }
    let before: Vec<_> = ["one", "two"].map(|name| jobs(&home, name).len()).into();
    std::thread::sleep(Duration::from_secs(5));
    // One record is enough, however many runs it is off for.
    assert_eq!(["one", "two"].map(|name| jobs(&home, name).len()).to_vec(), before);
    home.ok(&["settings", "set", "backup.enabled", "true"]);
    let was = done("one");
    until("runs come back by themselves", || done("one") > was);

    let (one, two) = (jobs(&home, "one"), jobs(&home, "two"));
    let spans: Vec<_> = one
        .iter()
        .chain(&two)
        .filter(|j| j["state"] == "succeeded")
        .map(|j| (time(&j["started_at"]), time(&j["finished_at"])))
        .collect();
    for (i, a) in spans.iter().enumerate() {
        assert!(spans.iter().skip(i + 1).all(|b| a.1 <= b.0 || b.1 <= a.0), "two at once: {spans:?}");
    }
    let due = |jobs: &[Value]| jobs.iter().map(|j| time(&j["due_at"])).collect::<Vec<_>>();
    assert!(due(&one).iter().any(|at| due(&two).contains(at)), "never due at once: {one:?} {two:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_holds_the_runs_back_and_they_come_back_also_after_a_kill() {
    let set = replica_set().await;
    fill(&set, "shop", 2_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "base", "--wait"]);
    // A restore that cannot begin before a slow backup has ended.
    home.ok(&["settings", "set", "backup.bandwidth_limit", "10000"]);
    let slow = ["backup", "create", "--service", "src", "--storage", "local", "--name", "slow"];
    let slow: Vec<&str> = slow.into_iter().chain(["--retry", "auto", "--retry-interval", "1s"]).collect();
    let slow = home.ok(&slow)["id"].as_i64().unwrap();
    until("the slow backup moves", || home.job(slow)["progress"]["bytes_done"].as_u64().unwrap() > 20_000);
    let restore =
        home.ok(&["restore", "base", "--to", "src", "--rename", "shop=copy", "--yes"])["id"].as_i64().unwrap();
    add(&home, "held", "*/2 * * * * *", &[]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(jobs(&home, "held"), Vec::<Value>::new());
    assert_eq!(home.ok(&["schedule", "show", "held"])["paused_by"], restore);
    home.kill_daemon();
    home.ok(&["settings", "set", "backup.bandwidth_limit", "0"]);
    home.start_daemon();
    until("the restore is done", || home.job(restore)["state"] == "succeeded");
    until("runs come back by themselves", || count(&jobs(&home, "held"), "succeeded") > 0);
    home.ok(&["schedule", "disable", "held"]);
    let (held, restored) = (jobs(&home, "held"), time(&home.job(restore)["finished_at"]));
    assert!(held.iter().all(|j| time(&j["created_at"]) >= restored), "{held:?}");
    // The newest of those that were held back was made, and the others are told of.
    let late = held.iter().find(|j| j["state"] != "missed").unwrap();
    assert!(time(&late["due_at"]) <= restored + TimeDelta::seconds(20) && late["backup"].is_string(), "{held:?}");
    let missed = held.iter().find(|j| j["state"] == "missed").unwrap();
    assert!(missed["error"].as_str().unwrap().starts_with(&format!("restore job {restore} held it back")), "{missed}");
    nothing_twice_and_nothing_lost(&held, 2);
    assert_eq!(home.ok(&["schedule", "show", "held"])["paused_by"], Value::Null);
}
