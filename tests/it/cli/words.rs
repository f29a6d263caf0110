//! The command line as scripts see it: exit codes, JSON keys, refusals, and what is never printed.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support;
use crate::support::command::{Home, run};

const SECRET: &str = "hunter2";

#[test]
fn help_and_version_are_results_and_wrong_usage_is_not() {
    let home = Home::new();
    for args in [&["--help"][..], &["--version"], &["help", "backup"], &["backup", "create", "--help"]] {
        let run = home.run(args);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
        assert!(!run.stdout.is_empty());
    }
    for group in ["service", "storage", "backup", "restore", "schedule", "job", "daemon", "settings", "demo"] {
        let run = home.run(&["help"]);
        assert!(run.stdout.lines().any(|l| l.trim_start().starts_with(group)), "{group}: {}", run.stdout);
    }
    for args in [
        &["backup"][..],
        &["bogus"],
        &["service", "list", "--bogus"],
        &["job", "show", "x"],
        &["job", "show", "0"],
        &["-o", "xml", "service", "list"],
        &["backup", "export", "a"],
    ] {
        let run = home.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(!run.stderr.is_empty(), "{args:?}");
    }
    assert!(!home.path().exists(), "usage alone made a store");
}

#[test]
fn without_a_terminal_the_screen_is_refused() {
    let home = Home::new();
    let run = home.run(&[]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("terminal") && run.stderr.contains("hint: "), "{}", run.stderr);
}

#[test]
fn what_a_type_of_storage_needs_or_does_not_have_is_named() {
    let home = Home::ready();
    for (args, says) in [
        ("storage add b --type azure --container c-1", "account: is needed"),
        ("storage add b --type gcs", "bucket: is needed"),
        ("storage add b --type gcs --bucket b-1 --path-style", "path-style: does not apply here"),
        ("storage add b --type tape", "must be one of filesystem, s3, azure, gcs"),
    ] {
        let run = home.run(&words(args));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args}: {}", run.stderr);
        assert!(run.stderr.contains(says), "{args}: {}", run.stderr);
    }
}

#[test]
fn values_that_can_never_be_accepted_name_their_flag() {
    let home = Home::ready();
    let create = "backup create --service a --storage t";
    for (args, flag) in [
        (format!("{create} --retries 11"), "retries"),
        (format!("{create} --retry-interval 9h"), "retry-interval"),
        (format!("{create} --retry-interval 5"), "retry-interval"),
        (format!("{create} --retry sometimes"), "retry"),
        (format!("{create} --folder /etc"), "folder"),
        (format!("{create} --folder a/../b"), "folder"),
        (format!("{create} --name .a"), "name"),
        (format!("{create} --name a/b"), "name"),
        (format!("{create} --compression lz4"), "compression"),
        (format!("{create} --include .x"), "include"),
        ("backup create --storage t".into(), "service"),
        ("backup create --service a".into(), "storage"),
        ("restore b --to a --rename a=b.c".into(), "rename"),
        ("restore b --exact".into(), "to"),
        ("restore --to a".into(), "backup"),
        ("service add _x --uri mongodb://h".into(), "name"),
        ("service add x".into(), "uri"),
        ("service add x --uri localhost:27017".into(), "uri"),
        ("service add x --uri mongodb://h --cluster ../x".into(), "cluster"),
        ("service add x --uri-file /nonexistent/f".into(), "uri-file"),
        ("service edit a".into(), "nothing to change"),
        ("service edit a --production-hours 8-18".into(), "production-hours"),
        ("storage add x --type filesystem".into(), "path"),
        ("storage add x --type filesystem --path /x --bucket bbb".into(), "bucket"),
        ("storage add x --type s3".into(), "bucket"),
        ("storage add x --type s3 --bucket bbb --endpoint ftp://h".into(), "endpoint"),
        ("storage add x --type s3 --bucket bbb --access-key-id k".into(), "secret-access-key-file"),
        ("storage add x --type tape".into(), "type"),
        ("settings set jobs.concurrency 0".into(), "jobs.concurrency"),
        ("settings set backup.compression lz4".into(), "backup.compression"),
        ("settings set notify.command alert".into(), "notify.command"),
        ("settings set notify.webhook_url example.com/x".into(), "notify.webhook_url"),
        ("settings set notify.webhook_secret_file secret".into(), "notify.webhook_secret_file"),
        ("settings set notify.on sometimes".into(), "notify.on"),
        ("settings set notify.stale_services a".into(), "notify.stale_services"),
        ("settings set notify.storage_full_percent 101".into(), "notify.storage_full_percent"),
        ("settings set pitr.slice_seconds 4".into(), "pitr.slice_seconds"),
        ("settings set pitr.slice_seconds 3601".into(), "pitr.slice_seconds"),
        ("settings set metrics.file /srv/metrics.txt".into(), "metrics.file"),
    ] {
        let run = home.run(&words(&args));
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args}: {}", run.stderr);
        assert!(run.stderr.lines().any(|l| l.starts_with(&format!("error: {flag}"))), "{args}: {}", run.stderr);
    }
    assert_eq!(home.json("job list"), Value::Array(vec![]), "something was queued");
}

#[test]
fn what_is_not_there_exits_3_and_what_is_taken_4() {
    let home = Home::ready();
    for args in [
        "service show x",
        "service edit x --cluster c",
        "service remove x",
        "service check x",
        "storage show x",
        "storage remove x",
        "storage test x",
        "storage sync x",
        "storage check x",
        "backup create --service x --storage t",
        "backup create --service a --storage x",
        "backup show x",
        "backup pin x",
        "backup unpin x",
        "backup verify x",
        "backup delete x",
        "backup delete x --yes",
        "backup delete x --dry-run",
        "backup export x --to /nonexistent/dir",
        "backup list --service x",
        "backup list --storage x",
        "restore x --to a",
        "job show 9",
        "job log 9",
        "job log 9 --follow",
        "job cancel 9",
        "job retry 9",
        "job wait 9",
        "settings get bogus",
        "settings set bogus 1",
    ] {
        let run = home.run(&words(args));
        assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{args}: {}", run.stderr);
    }
    for args in ["service add a --uri mongodb://h", "storage add t --type filesystem --path /tmp/x"] {
        let run = home.run(&words(args));
        assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{args}: {}", run.stderr);
    }
}

#[test]
fn with_backup_management_off_nothing_starts_a_backup() {
    let home = Home::ready();
    home.good("settings set backup.enabled false");
    let run = home.run(&words("backup create --service a --storage t"));
    assert_eq!(run.code, 4);
    assert!(run.stderr.contains("hint: mongokeep settings set backup.enabled true"), "{}", run.stderr);
    assert_eq!(home.json("job list"), Value::Array(vec![]));
}

#[test]
fn objects_have_the_keys_of_the_contract() {
    let home = Home::ready();
    let keys = |value: &Value, wanted: &str| {
        for key in wanted.split(' ') {
            assert!(value.get(key).is_some(), "{key} is not in {value}");
        }
    };
    let service = home.json("service show a");
    keys(&service, "name uri cluster engine created_at");
    let list = home.json("service list");
    for (key, value) in list[0].as_object().unwrap() {
        assert_eq!(service[key], *value);
    }
    assert_eq!((list.as_array().unwrap().len(), &service["schedules"]), (1, &Value::Array(vec![])));
    keys(&home.json("service edit a --cluster prod"), "name cluster");
    assert_eq!(home.json("service show a")["cluster"], "prod");
    home.good("service edit a --cluster= --production-hours 08:00-18:00");
    assert_eq!(home.json("service show a")["production_hours"], "08:00-18:00");
    home.good("service edit a --production-hours=");
    assert_eq!(home.json("service show a")["production_hours"], Value::Null);
    assert_eq!(home.json("service show a")["cluster"], Value::Null);
    let storage = home.json("storage show t");
    keys(&storage, "name type place");
    assert_eq!(home.json("storage list"), Value::Array(vec![storage]));
    let s3 = home.json("storage add z --type s3 --bucket bbb --path-style --endpoint http://127.0.0.1:1");
    assert_eq!(s3["config"]["path_style"], "true");
    assert_eq!(home.json("storage edit z --path-style=false")["config"]["path_style"], "false");
    assert_eq!(home.json("storage remove z")["removed"], "z");
    assert_eq!(home.json("backup list"), Value::Array(vec![]));
    assert_eq!(home.json("job list"), Value::Array(vec![]));
    assert_eq!(home.json("daemon status"), serde_json::json!({"running": false}));
    assert_eq!(home.json("daemon stop"), serde_json::json!({"running": false}));
    assert_eq!(
        home.json("settings set jobs.concurrency 3"),
        serde_json::json!({"key": "jobs.concurrency", "value": 3})
    );
    assert_eq!(home.json("settings get scheduler.missed_run_grace")["value"], 21600);
    let all = home.json("settings get");
    assert!(all.as_array().unwrap().iter().any(|s| s["key"] == "jobs.concurrency" && s["value"] == 3), "{all}");
    let path = home.json("settings path");
    assert!(Path::new(path["path"].as_str().unwrap()).exists(), "{path}");
    assert!(home.good("settings get jobs.concurrency") == "3\n");
    let test = home.json("storage test t");
    assert_eq!((&test["storage"], &test["ok"]), (&"t".into(), &true.into()), "{test}");
    keys(&test["steps"][0], "id ok detail seconds");
}

#[test]
fn a_service_that_does_not_answer_fails_its_check_in_time() {
    let home = Home::ready();
    let began = std::time::Instant::now();
    let run = home.run(&words("service check a -o json"));
    assert!(began.elapsed().as_secs() < 25);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&report["service"], &report["ok"]), (&"a".into(), &false.into()));
    let item = report["items"].as_array().unwrap().iter().find(|i| i["id"] == "reachable").unwrap().clone();
    assert_eq!(item["state"], "fail");
    for key in ["id", "title", "state", "detail", "remedy"] {
        assert!(item[key].is_string(), "{key}: {item}");
    }
}

#[test]
fn empty_lists_say_what_to_do_next_on_stderr_alone() {
    let home = Home::new();
    for (list, next) in [
        ("service list", "mongokeep service add"),
        ("storage list", "mongokeep storage add"),
        ("backup list", "mongokeep backup create"),
        ("job list", "mongokeep backup create"),
        ("schedule list", "mongokeep schedule add"),
    ] {
        let run = home.run(&words(list));
        assert_eq!((run.code, run.stdout.as_str()), (0, ""));
        assert!(run.stderr.contains(next), "{list}: {}", run.stderr);
        assert_eq!(home.run(&words(&format!("-q {list}"))).stderr, "");
        let run = home.run(&words(&format!("{list} -o json")));
        assert_eq!((run.stdout.trim(), run.stderr.as_str()), ("[]", ""));
    }
}

#[test]
fn read_only_changes_nothing() {
    let home = Home::ready();
    let before = home.json("service list").to_string() + &home.json("storage list").to_string();
    for args in [
        "service add b --uri mongodb://h",
        "service edit a --cluster c",
        "service remove a",
        "storage add b --type filesystem --path /tmp/x",
        "storage remove t",
        "backup create --service a --storage t",
        "settings set jobs.concurrency 3",
        "daemon run",
    ] {
        for args in [format!("--read-only {args}"), format!("{args} --read-only")] {
            let run = home.run(&words(&args));
            assert!(run.code != 0 && run.stdout.is_empty(), "{args}: {}", run.code);
            assert!(run.stderr.contains("read-only"), "{args}: {}", run.stderr);
        }
    }
    let after = home.json("--read-only service list").to_string() + &home.json("storage list --read-only").to_string();
    assert_eq!(before, after);
    assert_eq!(home.good("settings get jobs.concurrency"), "2\n");
    assert_eq!(home.json("job list"), Value::Array(vec![]));
}

#[test]
fn secrets_are_never_shown_nor_stored_in_the_clear() {
    let home = Home::new();
    let uri = format!("mongodb://keeper:{SECRET}@127.0.0.1:1/?serverSelectionTimeoutMS=300");
    let mut said = String::new();
    let mut note = |run: support::command::Run| {
        said.push_str(&run.stdout);
        said.push_str(&run.stderr);
        run
    };
    let run = note(home.run(&["service", "add", "open", "--uri", &uri]));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("process list") && run.stderr.contains("--uri-file"), "{}", run.stderr);
    let file = home.dir().join("uri");
    std::fs::write(&file, format!("{uri}\n")).unwrap();
    let run = note(home.run(&["service", "add", "file", "--uri-file", file.to_str().unwrap()]));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(!run.stderr.contains("process list"), "{}", run.stderr);
    let run = note(home.run_with(&["service", "add", "stdin", "--uri-file", "-"], &uri));
    assert_eq!(run.code, 0, "{}", run.stderr);
    std::fs::write(&file, SECRET).unwrap();
    let key = file.to_str().unwrap();
    for args in [
        &[
            "storage",
            "add",
            "s",
            "--type",
            "s3",
            "--bucket",
            "bbb",
            "--access-key-id",
            "k",
            "--secret-access-key-file",
            key,
        ][..],
        &["service", "list"],
        &["service", "list", "-o", "json"],
        &["service", "show", "open", "-vv"],
        &["service", "check", "open"],
        &["storage", "list"],
        &["storage", "show", "s", "-o", "json"],
        &["storage", "edit", "s", "--region", "eu-west-1"],
    ] {
        let run = note(home.run(args));
        assert!(run.code == 0 || args[1] == "check", "{args:?}: {}", run.stderr);
    }
    // Typed in the wrong place.
    let bad = uri.replace("?", "%zz?");
    for args in [
        &["service", "show", &uri][..],
        &["service", "add", &uri],
        &["service", "add", "x", &uri],
        &["service", "add", &uri, "--uri-file", "/nonexistent"],
        &["service", "add", "x", "--uri", &bad, "--uri-file", "/nonexistent"],
        &["service", "add", "x", "--uri", &uri, "--cluster", &uri],
        &["service", "add", "x", "--url", &uri],
        &["service", "add", "x", &format!("--url={uri}")],
        &["service", &uri],
        &[&uri],
        &["restore", "b", "--to", &uri],
        &["backup", "create", "--service", &uri, "--storage", "s"],
        &["service", "add", "x", "--uri", &uri.replace("mongodb", "http")],
        &["service", "add", "x", "--uri", &uri.replace(SECRET, &format!("{SECRET}/x"))],
        &["service", "add", "x", "--uri", &format!("keeper:{SECRET}@127.0.0.1")],
        &["service", "show", &format!("keeper:{SECRET}@127.0.0.1")],
        &["service", "add", "x", "--uri-file", &uri],
    ] {
        let run = note(home.run(args));
        assert_ne!(run.code, 0, "{args:?}");
    }
    assert!(!said.contains(SECRET), "{said}");
    std::fs::remove_file(&file).unwrap();
    for (path, bytes) in files(home.path()) {
        assert!(!bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()), "{} holds it", path.display());
    }
}

#[test]
fn a_closed_output_is_no_panic() {
    let home = Home::ready();
    for args in ["settings get", "--help", "service list -o json", "service show x"] {
        let mut child = home.command(&words(args)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(if args.ends_with(" x") { 3 } else { 0 }), "{args}: {stderr}");
        assert!(!stderr.contains("panic"), "{stderr}");
        // Nobody listens to the messages either.
        let mut child = home.command(&words(args)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), code, "{args}");
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = home.command(&words("settings get")).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stderr).starts_with("error: writing the output"));
}

#[test]
fn the_home_comes_from_the_flag_then_the_environment() {
    let home = Home::ready();
    let other = Home::new();
    let flag = other.path().to_str().unwrap().to_owned();
    let run = other.command(&["--home", &flag, "service", "list"]).env("MONGOKEEP_HOME", home.path()).output().unwrap();
    assert!(run.stdout.is_empty(), "--home did not win");
    let bare = |home: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mongokeep"));
        let run = command.args(["service", "list"]).env("MONGOKEEP_HOME", home).output().unwrap();
        String::from_utf8(run.stdout).unwrap()
    };
    assert!(bare(home.path()).contains("mongodb://"), "the environment was not looked at");
}

#[test]
fn a_damaged_settings_file_is_named_and_no_store_is_needed_to_see_it() {
    let home = Home::ready();
    let path = home.json("settings path")["path"].as_str().unwrap().to_owned();
    std::fs::write(&path, "[backup]\ncolour = 1\n").unwrap();
    let run = home.run(&words("settings get backup.enabled"));
    assert_eq!((run.code, run.stdout.as_str()), (0, "true\n"));
    assert!(run.stderr.contains("config.toml:2: unknown setting backup.colour"), "{}", run.stderr);
    std::fs::write(&path, "[jobs]\nconcurrency = 0\n").unwrap();
    let run = home.run(&words("settings get backup.enabled"));
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("config.toml:2: jobs.concurrency"), "{}", run.stderr);
    home.good("service list");
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()))
        }
    }
    found
}

#[test]
fn a_test_that_a_storage_has_passed_before_it_was_added_is_kept() {
    let home = Home::ready();
    let folder = home.dir().join("tried");
    home.good(&format!("storage add tried --type filesystem --path {} --test", folder.display()));
    home.good(&format!("storage add untried --type filesystem --path {}", folder.display()));
    let tested = |name: &str| home.json(&format!("storage show {name}"))["last_test_at"].is_string();
    assert!(tested("tried") && !tested("untried"));
    assert!(home.good("storage list").contains("passed"));
}

#[test]
fn a_limit_that_nobody_means_is_remarked() {
    let home = Home::ready();
    let said = run(&home, "settings set backup.bandwidth_limit 20").stderr;
    assert!(said.contains("was 20MB meant?"), "{said}");
    assert!(!run(&home, "settings set backup.bandwidth_limit 20MB").stderr.contains("warning"));
}

#[test]
fn a_storage_that_is_away_is_no_wrong_name() {
    let home = Home::ready();
    let add = |name: &str, path: &str| home.good(&format!("storage add {name} --type filesystem --path {path}"));
    add("nowhere", "/proc/nothing");
    let tested = run(&home, "storage test nowhere -o json");
    assert_eq!(tested.code, 1, "{}", tested.stderr);
    let steps = tested.json()["steps"].clone();
    assert_eq!((&steps[0]["id"], &steps[0]["ok"]), (&"open".into(), &false.into()), "{steps}");
    home.good("storage add plain --path /proc/nothing");
    let away = home.dir().join("away");
    add("gone", away.to_str().unwrap());
    let sync = run(&home, "storage sync gone");
    assert_eq!(sync.code, 5, "{}", sync.stderr);
    assert_eq!(run(&home, "storage sync nothing").code, 3);
    let service = run(&home, "service show nothing");
    assert!(service.stderr.contains("mongokeep service add nothing --uri-file F"), "{}", service.stderr);
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_mongokeep"))
        .args(["--home", "/proc/nothing", "backup", "list"])
        .output()
        .unwrap();
    assert_eq!(program.status.code(), Some(1), "{program:?}");
}
