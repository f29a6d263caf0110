//! The demo as a person sees it: an installation that has been working for days, all of which was really done.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::terminal::Tty;
use crate::support::stopwatch::Stopwatch;

/// Runs a command on the demo's own home.
fn run(home: &str, args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mongokeep"));
    command.args(["--home", home, "-o", "json"]).args(args).stdin(Stdio::null());
    let output = command.output().unwrap();
    let (text, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{args:?}\n{text}\n{error}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
}

/// Where the demo keeps its store, as its page About says.
fn home(tty: &mut Tty) -> String {
    tty.send("4");
    tty.wait("Services (3)");
    tty.send("h");
    let about = tty.wait("mongokeep.db");
    let path = about.lines().find_map(|line| line.trim().strip_prefix("Store")).unwrap().trim();
    path.strip_suffix("/data/mongokeep.db").unwrap_or_else(|| panic!("{path}")).to_owned()
}

#[test]
fn the_demo_opens_alive_and_everything_in_it_can_be_restored() {
    let mut tty = Tty::program((160, 50), &[], &["demo"]);
    tty.wait("1 Backups");
    let first_frame = Stopwatch::start();
    // Three services, one of which failed; recording with a gap in it; a job that runs; and what to try.
    for text in
        ["✗ reports", "✓ media", "✓ orders", "1 gap", "running", "✗ failed", "✓ verified", "Try: r on a done backup"]
    {
        tty.wait(text);
    }
    let took = first_frame.elapsed();
    println!("all of it after {took:?}");
    // Debug code on a machine that runs other tests too.
    assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 10 }), "{took:?}");
    tty.send("2");
    let schedules = tty.wait("reports-every-5-min");
    assert!(schedules.contains("orders-live") && schedules.contains("media-nightly"), "{schedules}");

    let home = home(&mut tty);
    let jobs = run(&home, &["job", "list"]);
    let restore = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "restore").expect("a restore in its past");
    assert_eq!(restore["state"], "succeeded");
    // The failure says what to do.
    let failed = jobs.as_array().unwrap().iter().find(|job| job["state"] == "failed").expect("one failure");
    assert!(failed["hint"].as_str().unwrap().contains("mount the disk"), "{failed}");

    // Days of moments, in their order, none of them in the future.
    let at = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let status = run(&home, &["pitr", "status"]);
    let status = status.as_array().unwrap().iter().find(|status| status["service"] == "orders").unwrap();
    let ranges: Vec<_> = status["ranges"].as_array().unwrap().iter().map(|r| (at(&r["from"]), at(&r["to"]))).collect();
    let (oldest, newest) = (ranges.iter().map(|r| r.0).min().unwrap(), ranges.iter().map(|r| r.1).max().unwrap());
    assert!(newest - oldest > chrono::TimeDelta::days(2) && newest <= chrono::Utc::now(), "{ranges:?}");
    assert_eq!(status["gaps"].as_array().unwrap().len(), 1);

    // The first backup, a moment of the first day, and one after the restore.
    let backups = run(&home, &["backup", "list"]);
    let of_orders = |backup: &&Value| backup["service"] == "orders" && backup["state"] == "succeeded";
    let backups: Vec<&Value> = backups.as_array().unwrap().iter().filter(of_orders).collect();
    let first = backups.iter().min_by_key(|backup| at(&backup["started_at"])).unwrap();
    assert!(chrono::Utc::now() - at(&first["started_at"]) > chrono::TimeDelta::days(2), "{first}");
    let name = first["name"].as_str().unwrap();
    let into = ["--to", "orders", "--yes", "--wait"];
    let done = run(&home, &[&["restore", name, "--rename", "shop=shop_first"], &into[..]].concat());
    assert_eq!(done["state"], "succeeded", "{done}");
    for (i, moment) in
        [oldest + chrono::TimeDelta::hours(9), newest - chrono::TimeDelta::minutes(90)].iter().enumerate()
    {
        let (moment, rename) = (moment.to_rfc3339(), format!("shop=shop_at_{i}"));
        let of = ["restore", "--service", "orders", "--time", &moment, "--rename", &rename];
        let done = run(&home, &[&of, &into[..]].concat());
        assert_eq!(done["state"], "succeeded", "{done}");
    }
    tty.send("q");
    tty.wait("removing the servers");
    tty.ended();
    assert!(!std::path::Path::new(&home).exists(), "nothing of it is left");
}

#[test]
fn the_empty_demo_leads_to_the_first_backup() {
    let mut tty = Tty::program((80, 24), &[], &["demo", "--empty"]);
    tty.wait("✓ 1  Add a service");
    let text = tty.wait("✓ 2  Add a storage");
    assert!(!text.contains("Try:"), "{text}");
    tty.send("q");
    tty.ended();
}
