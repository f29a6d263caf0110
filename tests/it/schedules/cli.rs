//! The `schedule` commands as scripts see them: exit codes, JSON keys, refusals before anything is queued.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::command::{Home, good, json_of, run};

const ADD: &str = "schedule add nightly --service a --storage t --cron 0~2~*~*~* --disabled";

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

#[test]
fn a_schedule_has_the_keys_of_the_contract_and_its_defaults() {
    let home = Home::ready();
    good(&home, "service edit a --cluster prod");
    good(&home, "settings set ui.timezone Europe/Paris");
    let schedule = json_of(&home, ADD);
    for key in
        "name service storage folder type model cron timezone start retention retry enabled next_at last".split(' ')
    {
        assert!(schedule.get(key).is_some(), "{key} is not in {schedule}");
    }
    let fixed = |key: &str| schedule[key].clone();
    assert_eq!(
        json!([fixed("folder"), fixed("type"), fixed("model"), fixed("timezone"), fixed("enabled"), fixed("next_at")]),
        json!(["prod", "full", "logical", "Europe/Paris", false, null])
    );
    assert_eq!(schedule["retention"]["count"], 0);
    assert!((Utc::now() - time(&schedule["start"])).abs() < TimeDelta::minutes(5));
    assert_eq!(json_of(&home, "schedule show nightly"), schedule);
    assert_eq!(json_of(&home, "schedule list"), json!([schedule]));
    let service = json_of(&home, "service show a");
    assert_eq!(service["schedules"], json!([schedule]));
    assert_eq!(json_of(&home, "storage show t")["schedules"], 1);
    // Nothing of this needs a daemon.
    assert_eq!(json_of(&home, "daemon status"), json!({"running": false}));
    assert_eq!(json_of(&home, "job list"), json!([]));
}

#[test]
fn every_flag_is_kept_and_an_edit_changes_only_what_is_given() {
    let home = Home::ready();
    let all = json_of(
        &home,
        "schedule add n --service a --storage t --cron 15~30~4~*~*~mon-fri --timezone Asia/Tokyo \
         --start 2030-01-01T00:00:00Z --type full --model logical --folder f/g --include shop --include *.events \
         --exclude shop.tmp --compression gzip:4 --retention 7 --keep-daily 1 --keep-weekly 2 --keep-monthly 3 \
         --keep-yearly 4 --keep-within 30d --retry auto --retries 2 --retry-interval 5m --disabled",
    );
    let wanted = json!({
        "folder": "f/g", "cron": "15 30 4 * * mon-fri", "timezone": "Asia/Tokyo", "start": "2030-01-01T00:00:00Z",
        "retention": {"count": 7, "keep_daily": 1, "keep_weekly": 2, "keep_monthly": 3, "keep_yearly": 4,
            "keep_within": 2_592_000},
        "retry": {"mode": "auto", "retries": 2, "interval": 300}, "compression": "gzip:4",
        "selection": {"include": ["shop", "*.events"], "exclude": ["shop.tmp"]},
    });
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&all[key], value, "{key}");
    }
    let edited = json_of(&home, "schedule edit n --keep-within= --retention 3 --exclude=");
    let mut expected = all.clone();
    expected["retention"]["keep_within"] = json!(0);
    expected["retention"]["count"] = json!(3);
    expected["selection"] = json!({"include": ["shop", "*.events"]});
    assert_eq!(edited, expected);
    let back = json_of(&home, "schedule edit n --folder= --compression= --retry manual --timezone UTC --cron @weekly");
    assert_eq!(
        json!([back["folder"], back["compression"], back["retry"]["mode"], back["timezone"], back["cron"]]),
        json!(["a", null, "manual", "UTC", "@weekly"])
    );
    // The default folder follows the service, one that was chosen stays.
    good(&home, "service add b --uri mongodb://127.0.0.1:1 --cluster other");
    assert_eq!(json_of(&home, "schedule edit n --service b")["folder"], "other");
    good(&home, "schedule edit n --folder mine");
    assert_eq!(json_of(&home, "schedule edit n --service a")["folder"], "mine");
}

#[test]
fn values_that_can_never_be_accepted_name_their_flag() {
    let home = Home::ready();
    good(&home, ADD);
    let add = "schedule add n --service a --storage t";
    for (args, flag) in [
        (format!("{add} --cron @daily --type continuous"), "type"),
        (format!("{add} --cron @daily --type pitr --include shop"), "include"),
        (format!("{add} --cron @daily --type pitr --exclude shop"), "exclude"),
        (format!("{add} --cron @daily --type pitr --model physical"), "model"),
        (format!("{add} --cron @daily --model physical --include shop"), "include"),
        (add.to_owned(), "cron"),
        (format!("{add} --cron 0~0~30~2~*"), "cron"),
        (format!("{add} --cron 61~*~*~*~*"), "cron"),
        (format!("{add} --cron *~*~*"), "cron"),
        (format!("{add} --cron @reboot"), "cron"),
        (format!("{add} --cron @daily --timezone Mars/Base"), "timezone"),
        (format!("{add} --cron @daily --start tomorrow"), "start"),
        (format!("{add} --cron @daily --retention -1"), "retention"),
        (format!("{add} --cron @daily --retention many"), "retention"),
        (format!("{add} --cron @daily --keep-daily x"), "keep-daily"),
        (format!("{add} --cron @daily --keep-within 30"), "keep-within"),
        (format!("{add} --cron @daily --retries 11"), "retries"),
        (format!("{add} --cron @daily --retry-interval 9h"), "retry-interval"),
        (format!("{add} --cron @daily --folder ../x"), "folder"),
        (format!("{add} --cron @daily --folder /x"), "folder"),
        (format!("{add} --cron @daily --compression lz4"), "compression"),
        (format!("{add} --cron @daily --include .x"), "include"),
        ("schedule add n --storage t --cron @daily".into(), "service"),
        ("schedule add n --service a --cron @daily".into(), "storage"),
        ("schedule add .n --service a --storage t --cron @daily".into(), "name"),
        ("schedule edit nightly".into(), "nothing to change"),
        ("schedule edit nightly --cron 0~0~31~4~*".into(), "cron"),
        ("schedule edit nightly --folder a/../b".into(), "folder"),
        ("schedule copy nightly a/b".into(), "new"),
    ] {
        let run = run(&home, &args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args}: {}", run.stderr);
        // A value with a leading dash is refused by the parser of the command line, in its own words.
        let named = run.stderr.lines().any(|l| l.starts_with(&format!("error: {flag}")));
        assert!(named || args.contains("-1"), "{args}: {}", run.stderr);
    }
    for args in ["schedule", "schedule bogus", "schedule show", "schedule next nightly --count 0"] {
        assert_eq!(run(&home, args).code, 2, "{args}");
    }
    assert_eq!(json_of(&home, "schedule list").as_array().unwrap().len(), 1);
    assert_eq!(json_of(&home, "job list"), json!([]));
    assert_eq!(json_of(&home, "daemon status"), json!({"running": false}));
}

#[test]
fn what_is_not_there_exits_3_and_what_is_taken_or_in_use_4() {
    let home = Home::ready();
    for args in [
        "schedule show x",
        "schedule edit x --retention 1",
        "schedule remove x",
        "schedule enable x",
        "schedule disable x",
        "schedule copy x",
        "schedule run x",
        "schedule run x --wait",
        "schedule next x",
        "schedule retention x --dry-run",
        "schedule add n --service x --storage t --cron @daily",
        "schedule add n --service a --storage x --cron @daily",
    ] {
        let run = run(&home, args);
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{args}: {}", run.stderr);
    }
    assert_eq!(json_of(&home, "daemon status"), json!({"running": false}));
    good(&home, ADD);
    good(&home, "schedule copy nightly other");
    for (args, what) in [
        (ADD, "schedule nightly"),
        ("schedule add nightly --service a --storage t --cron @daily", "schedule nightly"),
        ("schedule copy nightly other", "schedule other"),
        ("service remove a", "schedule nightly and 1 more"),
        ("storage remove t", "schedule nightly and 1 more"),
    ] {
        let run = run(&home, args);
        assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{args}: {}", run.stderr);
        assert!(run.stderr.contains(what) && run.stderr.contains("hint: "), "{args}: {}", run.stderr);
    }
    assert_eq!(json_of(&home, "daemon status"), json!({"running": false}));
    assert_eq!(json_of(&home, "schedule remove nightly"), json!({"removed": "nightly"}));
    assert!(good(&home, "schedule remove other").stdout.contains("its backups and jobs stay"));
    good(&home, "service remove a");
}

#[test]
fn a_copy_is_off_and_has_a_free_name() {
    let home = Home::ready();
    good(&home, ADD);
    let names: Vec<Value> = (0..3).map(|_| json_of(&home, "schedule copy nightly")["name"].clone()).collect();
    assert_eq!(names, ["nightly-copy", "nightly-copy-2", "nightly-copy-3"]);
    let copy = json_of(&home, "schedule copy nightly mine");
    assert_eq!(json!([copy["name"], copy["enabled"], copy["cron"]]), json!(["mine", false, "0 2 * * *"]));
}

#[test]
fn only_what_makes_something_run_starts_the_daemon() {
    let home = Home::ready();
    good(&home, ADD);
    good(&home, "schedule disable nightly");
    assert_eq!(json_of(&home, "daemon status"), json!({"running": false}));
    let on = json_of(&home, "schedule enable nightly");
    assert_eq!(on["enabled"], true);
    let next = time(&on["next_at"]);
    assert!(next > Utc::now() && next < Utc::now() + TimeDelta::days(2), "{next}");
    assert_eq!(json_of(&home, "daemon status")["running"], true);
    good(&home, "daemon stop");
    assert_eq!(json_of(&home, "schedule disable nightly")["next_at"], Value::Null);
    assert_eq!(json_of(&home, "daemon status"), json!({"running": false}));
    let added = json_of(
        &home,
        "schedule add other --service a --storage t --cron @yearly --timezone UTC --start 2040-06-01T00:00:00Z",
    );
    assert_eq!((time(&added["next_at"]).timestamp(), &added["enabled"]), (2_240_611_200, &json!(true)), "{added}");
    assert_eq!(json_of(&home, "daemon status")["running"], true);
}

#[test]
fn a_run_by_hand_makes_a_backup_of_the_schedule_once_at_a_time() {
    let home = Home::ready();
    good(&home, ADD);
    // The server does not exist, so the run waits for its retry until it is cancelled.
    good(&home, "schedule edit nightly --retry auto --retries 9 --retry-interval 1h");
    let job = json_of(&home, "schedule run nightly");
    assert_eq!(json!([job["kind"], job["schedule"], job["service"]]), json!(["backup", "nightly", "a"]));
    let name = job["backup"].as_str().unwrap().to_owned();
    assert!(name.starts_with("nightly-2"), "{name}");
    assert!(time(&job["due_at"]) <= Utc::now());
    let again = run(&home, "schedule run nightly");
    assert_eq!(again.code, 4, "{}", again.stderr);
    assert!(again.stderr.contains(&format!("job {}", job["id"])), "{}", again.stderr);
    let last = json_of(&home, "schedule show nightly")["last"].clone();
    assert_eq!(json!([last["job"], last["backup"]]), json!([job["id"], name]));
    good(&home, &format!("job cancel {}", job["id"]));
    assert_eq!(run(&home, &format!("job wait {}", job["id"])).code, 1);
    good(&home, "schedule edit nightly --retry manual");
    let failed = run(&home, "schedule run nightly --wait -o json");
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert_eq!(failed.json()["state"], "failed");
    let backup = failed.json()["backup"].as_str().unwrap().to_owned();
    good(&home, "schedule remove nightly");
    // What it made keeps its name, and can be tried again.
    assert_eq!(json_of(&home, &format!("backup show {backup}"))["schedule"], "nightly");
    assert_eq!(json_of(&home, &format!("job retry {}", failed.json()["id"]))["schedule"], "nightly");
}

#[test]
fn with_backup_management_off_a_schedule_can_be_kept_but_nothing_runs() {
    let home = Home::ready();
    good(&home, "settings set backup.enabled false");
    let added = good(&home, "schedule add n --service a --storage t --cron @daily");
    assert!(added.stderr.contains("mongokeep settings set backup.enabled true"), "{}", added.stderr);
    assert_eq!(json_of(&home, "schedule show n")["next_at"], Value::Null);
    let refused = run(&home, "schedule run n");
    assert_eq!(refused.code, 4);
    assert!(refused.stderr.contains("hint: mongokeep settings set backup.enabled true"), "{}", refused.stderr);
    assert_eq!(json_of(&home, "job list"), json!([]));
    good(&home, "settings set backup.enabled true");
    assert!(json_of(&home, "schedule show n")["next_at"].is_string());
}

#[test]
fn read_only_changes_no_schedule() {
    let home = Home::ready();
    good(&home, ADD);
    let before = json_of(&home, "schedule list");
    for args in [
        "schedule add n --service a --storage t --cron @daily",
        "schedule edit nightly --retention 1",
        "schedule remove nightly",
        "schedule enable nightly",
        "schedule disable nightly",
        "schedule copy nightly",
        "schedule run nightly",
    ] {
        let run = run(&home, &format!("--read-only {args}"));
        assert!(run.code != 0 && run.stdout.is_empty() && run.stderr.contains("read-only"), "{args}: {run:?}");
    }
    assert_eq!(json_of(&home, "--read-only schedule list"), before);
}

#[test]
fn the_next_runs_name_what_they_meet() {
    let home = Home::ready();
    good(&home, "settings set production_hours 08:00-18:00");
    let add = "schedule add";
    let rest = "--service a --storage t --timezone Europe/Paris --start 2030-03-30T00:00:00Z";
    good(&home, &format!("{add} nightly {rest} --cron 30~2~*~*~*"));
    let alone = json_of(&home, "schedule next nightly --count 3");
    assert_eq!(
        alone,
        json!([
            {"at": "2030-03-30T01:30:00Z", "local": "2030-03-30T02:30:00+01:00", "overlaps": [],
                "in_production_hours": false},
            // Clocks are set forward from 02:00 to 03:00.
            {"at": "2030-03-31T01:00:00Z", "local": "2030-03-31T03:00:00+02:00", "overlaps": [],
                "in_production_hours": false},
            {"at": "2030-04-01T00:30:00Z", "local": "2030-04-01T02:30:00+02:00", "overlaps": [],
                "in_production_hours": false},
        ])
    );
    assert_eq!(json_of(&home, "schedule next nightly").as_array().unwrap().len(), 5);
    // One that is off is told about those that are on, and not the other way round.
    let off = good(&home, &format!("{add} weekly {rest} --cron 35~2~*~*~sun --disabled"));
    assert!(off.stderr.contains("overlap nightly") && off.stderr.contains("nearest free time"), "{}", off.stderr);
    assert_eq!(json_of(&home, "schedule next weekly --count 2")[1]["overlaps"], json!(["nightly"]));
    let met = |name: &str| {
        let runs = json_of(&home, &format!("schedule next {name} --count 10"));
        runs.as_array().unwrap().iter().filter(|run| run["overlaps"] != json!([])).count()
    };
    assert_eq!(met("nightly"), 0);
    good(&home, "schedule enable weekly");
    assert!(met("nightly") > 0);
    // Another service is not met; its own production hours come before the setting.
    good(&home, "service add b --uri mongodb://127.0.0.1:1 --production-hours 02:00-03:00");
    let rest = rest.replace("--service a", "--service b");
    let inside = good(&home, &format!("{add} other {rest} --cron 0~2~*~*~*"));
    assert!(inside.stderr.contains("production hours") && !inside.stderr.contains("overlap"), "{}", inside.stderr);
    assert_eq!(json_of(&home, "schedule next other --count 1")[0]["in_production_hours"], true);
    good(&home, "service edit b --production-hours=");
    assert_eq!(json_of(&home, "schedule next other --count 1")[0]["in_production_hours"], false);
}

#[test]
fn the_daemon_status_says_what_runs_next() {
    let home = Home::ready();
    good(&home, "settings set ui.timezone UTC");
    assert!(!good(&home, "daemon status").stdout.contains("schedules"));
    good(
        &home,
        "schedule add nightly --service a --storage t --cron @yearly --timezone UTC --start 2040-06-01T00:00:00Z",
    );
    let status = good(&home, "daemon status").stdout;
    assert!(status.contains("2041-01-01 00:00:00 +00:00 (nightly)"), "{status}");
    let keys = json_of(&home, "daemon status");
    let keys: Vec<_> = keys.as_object().unwrap().keys().cloned().collect();
    let told = ["running", "pid", "version", "started_at", "jobs_running", "services_sliced", "services", "warnings"];
    assert_eq!(keys, told);
    good(&home, "daemon stop");
    let status = good(&home, "daemon status").stdout;
    assert!(status.contains("although schedule nightly is on"), "{status}");
    assert_eq!(json_of(&home, "daemon status"), json!({"running": false}));
    for args in
        ["schedule list", "schedule show nightly", "schedule next nightly", "schedule edit nightly --retention 2"]
    {
        assert!(good(&home, args).stderr.contains("no daemon runs"), "{args}");
    }
    good(&home, "schedule disable nightly");
    assert_eq!(good(&home, "schedule list").stderr, "");
}
