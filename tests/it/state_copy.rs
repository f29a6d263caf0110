//! The store itself kept safe: everything is lost but the storage, and comes back from there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::command::{Home, good, json_of, run};
use crate::support::program::{count, fill, replica_set};

const SECRET: &str = "hunter2";

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(180), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The copies below the storage in `folder`, oldest first.
fn copies(folder: &Path) -> Vec<PathBuf> {
    let below = |dir: PathBuf| fs::read_dir(dir).map(|entries| entries.map(|e| e.unwrap().path()).collect::<Vec<_>>());
    let homes = below(folder.join(".mongokeep-state")).unwrap_or_default();
    let mut all: Vec<PathBuf> = homes.into_iter().flat_map(|home| below(home).unwrap()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "json"));
    all.sort();
    all
}

fn newest(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(copies(folder).pop()?).ok()?).ok()
}

/// Waits for a copy with so many services, storages, schedules and settings.
fn copied(folder: &Path, wanted: [u64; 4]) -> Value {
    let keys = ["services", "storages", "schedules", "settings"];
    let is_it = |copy: &Value| keys.iter().zip(wanted).all(|(key, n)| copy[key] == n);
    until(&format!("a copy has {wanted:?}"), || newest(folder).is_some_and(|copy| is_it(&copy)));
    newest(folder).unwrap()
}

fn secret_file(home: &Home) -> PathBuf {
    let file = home.dir().join("secret");
    fs::write(&file, SECRET).unwrap();
    file
}

fn names(report: &Value, key: &str) -> Vec<String> {
    report["state"][key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// A service `src` at `uri`, one with a password, the storage `safe` in `folder` and one with a secret, and their schedules.
fn decide(home: &Home, uri: &str, folder: &Path, encryption: &str) {
    assert_eq!(home.run_with(&["service", "add", "src", "--uri-file", "-", "--cluster", "shop"], uri).code, 0);
    let locked = format!("mongodb://app:{SECRET}@127.0.0.1:1/?replicaSet=rs");
    assert_eq!(home.run_with(&["service", "add", "locked", "--uri-file", "-"], &locked).code, 0);
    good(home, &format!("storage add safe --type filesystem --path {} {encryption}", folder.display()));
    let keys = format!("--access-key-id key --secret-access-key-file {}", secret_file(home).display());
    good(
        home,
        &format!("storage add cloud --type s3 --bucket b-1 --region eu-west-1 --endpoint http://127.0.0.1:1 {keys}"),
    );
    good(home, "schedule add nightly --service src --storage safe --cron 0~2~*~*~* --retention 1 --keep-within 30d");
    good(home, "schedule add of-locked --service locked --storage safe --cron @daily");
    good(home, "settings set pitr.slice_seconds 30");
    good(home, &format!("settings set notify.webhook_url https://hooks.example.com/{SECRET}"));
    good(home, "settings set state.backup_storage safe");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_but_the_storage_is_lost_and_comes_back() {
    let set = replica_set().await;
    fill(&set, "shop", 300).await;
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path().join("safe");
    fs::create_dir(&folder).unwrap();
    let lost = Home::new();
    decide(&lost, &set.uri(), &folder, "");
    let made = json_of(&lost, "schedule run nightly --wait");
    assert_eq!(made["state"], "succeeded", "{made}");
    let backup = made["backup"].as_str().unwrap().to_owned();
    let copy = copied(&folder, [2, 2, 2, 3]);
    for path in copies(&folder) {
        assert!(!fs::read_to_string(&path).unwrap().contains(SECRET), "{}", path.display());
    }
    assert_eq!(copy["encryption"], Value::Null);
    // A change is copied too, by whoever is there: nobody was, before.
    good(&lost, "daemon stop");
    good(&lost, "schedule add weekly --service src --storage safe --cron @weekly --disabled");
    copied(&folder, [2, 2, 3, 3]);
    let wanted = json_of(&lost, "schedule show nightly");
    // It is ours, and no stranger to a check.
    let checked = json_of(&lost, "storage check safe");
    assert_eq!(json!([checked["ok"], checked["findings"]]), json!([true, []]), "{checked}");
    assert_eq!(run(&lost, "storage remove safe").code, 4);
    good(&lost, "daemon stop");
    drop(lost);

    let home = Home::new();
    good(&home, &format!("storage add safe --type filesystem --path {}", folder.display()));
    let report = json_of(&home, "storage sync safe --state");
    assert_eq!(names(&report, "services"), ["locked", "src"], "{report}");
    assert_eq!(names(&report, "storages"), ["cloud"], "{report}");
    assert_eq!(names(&report, "schedules"), ["nightly", "of-locked", "weekly"], "{report}");
    assert_eq!(names(&report, "settings"), ["pitr.slice_seconds", "state.backup_storage"], "{report}");
    assert_eq!(names(&report, "kept"), ["storage safe"], "{report}");
    assert_eq!(names(&report, "switched_off"), ["of-locked"], "{report}");
    assert_eq!(report["added"], json!([backup]), "{report}");
    let missing: Vec<(&str, &str, &str)> = report["state"]["missing_secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["kind"].as_str().unwrap(), m["name"].as_str().unwrap(), m["command"].as_str().unwrap()))
        .collect();
    let commands = [
        ("service", "locked", "mongokeep service edit locked --uri-file F"),
        ("storage", "cloud", "mongokeep storage edit cloud --secret-access-key-file F"),
        ("setting", "notify.webhook_url", "mongokeep settings set notify.webhook_url VALUE"),
    ];
    assert_eq!(missing, commands);

    // What is missing says so where it is needed, and is given by the command that was named.
    for command in ["service check locked", "storage test cloud"] {
        let ran = run(&home, command);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code != 0 && told.contains("the copy of the store held"), "{command}: {told}");
    }
    let locked = format!("mongodb://app:{SECRET}@127.0.0.1:1/?replicaSet=rs");
    assert_eq!(home.run_with(&["service", "edit", "locked", "--uri-file", "-"], &locked).code, 0);
    good(&home, &format!("storage edit cloud --secret-access-key-file {}", secret_file(&home).display()));
    for command in ["service check locked", "storage test cloud"] {
        let ran = run(&home, command);
        assert!(ran.code != 0 && !format!("{}{}", ran.stdout, ran.stderr).contains("held"), "{command}");
    }

    // The schedule is what it was, and goes on with its own backups.
    let present = json_of(&home, "schedule show nightly");
    for key in ["service", "storage", "folder", "cron", "timezone", "retention", "retry", "enabled", "type", "model"] {
        assert_eq!(present[key], wanted[key], "{key}");
    }
    assert_eq!(json_of(&home, "settings get pitr.slice_seconds")["value"], 30);
    set.client().await.unwrap().database("shop").drop().await.unwrap();
    let restored = json_of(&home, &format!("restore {backup} --to src --yes --wait"));
    assert_eq!((&restored["state"], count(&set, "shop").await), (&json!("succeeded"), 300), "{restored}");
    let made = json_of(&home, "schedule run nightly --wait");
    assert_eq!(made["state"], "succeeded", "{made}");
    // Nobody knows here what was pinned there: retention leaves it alone, and a person says that it goes.
    let plan = json_of(&home, "schedule retention nightly --dry-run");
    let goes = |b: &Value| b["name"] == backup.as_str() && b["keep"] == false;
    assert!(!plan["backups"].as_array().unwrap().iter().any(goes), "{plan}");
    assert_eq!(run(&home, &format!("backup delete {backup} --yes")).code, 4);
    // It is copied on, beside what the lost one left.
    let homes = folder.join(".mongokeep-state");
    until("the new installation has its copy", || fs::read_dir(&homes).unwrap().count() == 2);
}

#[test]
fn an_encrypted_copy_holds_the_secrets_and_opens_with_the_identity_alone() {
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path().join("safe");
    fs::create_dir(&folder).unwrap();
    let identity = age::x25519::Identity::generate();
    let (recipient, file) = (identity.to_public().to_string(), kept.path().join("identity"));
    fs::write(&file, format!("{}\n", identity.to_string().expose_secret())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let lost = Home::new();
    let encryption = format!("--encrypt-to {recipient} --identity-file {}", file.display());
    decide(&lost, "mongodb://127.0.0.1:1/?replicaSet=rs", &folder, &encryption);
    let copy = copied(&folder, [2, 2, 2, 3]);
    assert_eq!(copy["encryption"]["recipients"], json!([recipient]));
    for path in copies(&folder) {
        let text = fs::read_to_string(&path).unwrap();
        for open in [SECRET, "127.0.0.1", "nightly", "AGE-SECRET"] {
            assert!(!text.contains(open), "{open}");
        }
    }
    good(&lost, "daemon stop");
    drop(lost);
    let of_lost = copies(&folder)[0].parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();

    // The storage is added in the clear: it goes on as it was.
    let home = Home::new();
    good(&home, &format!("storage add safe --type filesystem --path {}", folder.display()));
    let refused = run(&home, "storage sync safe --state");
    assert!(refused.code == 1 && refused.stderr.contains(&recipient), "{}", refused.stderr);
    assert_eq!(json_of(&home, "service list"), json!([]), "nothing was brought back");
    let report = json_of(&home, &format!("storage sync safe --state --identity-file {}", file.display()));
    assert_eq!(report["state"]["missing_secrets"], json!([]), "{report}");
    assert_eq!(names(&report, "schedules"), ["nightly", "of-locked"]);
    assert_eq!(names(&report, "switched_off"), [""; 0]);
    let shown = json_of(&home, "storage show safe");
    assert_eq!(shown["encryption"], json!({"recipients": [recipient], "passphrase": false, "proof": "given"}));
    assert_eq!(json_of(&home, "schedule show of-locked")["enabled"], true);
    for command in ["service check locked", "storage test cloud"] {
        let ran = run(&home, command);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("held"), "{command}");
    }
    let url = fs::read_to_string(home.path().join("config/config.toml")).unwrap();
    assert!(url.contains(SECRET), "the webhook came back: {url}");
    // Once more changes nothing. By now this installation may have a copy of its own there.
    let again = format!("storage sync safe --state --installation {of_lost} --identity-file {}", file.display());
    let report = json_of(&home, &again);
    assert_eq!(names(&report, "kept").len(), 6, "{report}");
    assert_eq!(json!([report["state"]["services"], report["state"]["settings"]]), json!([[], []]));
}

/// A disk that is not mounted: it is shown, nothing is written below the mount point, and it heals by itself.
#[test]
fn a_copy_that_cannot_be_written_is_shown_until_it_can() {
    let home = Home::new();
    let folder = home.dir().join("safe");
    fs::create_dir(&folder).unwrap();
    good(&home, &format!("storage add safe --type filesystem --path {}", folder.display()));
    let refused = run(&home, "settings set state.backup_storage nowhere");
    assert!(refused.code == 2 && refused.stderr.contains("state.backup_storage"), "{}", refused.stderr);
    good(&home, "settings set state.backup_storage safe");
    copied(&folder, [0, 1, 0, 1]);
    let warnings = || {
        let status = json_of(&home, "daemon status");
        let all = status["warnings"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|w| w["kind"] == "state_copy").collect::<Vec<_>>()
    };
    until("nobody is warned", || warnings().is_empty());
    let away = home.dir().join("away");
    fs::rename(&folder, &away).unwrap();
    good(&home, "service add a --uri mongodb://127.0.0.1:1/?replicaSet=rs");
    until("it is shown that the copy is not written", || warnings().len() == 1);
    let shown = warnings().remove(0);
    assert!(shown["text"].as_str().unwrap().contains("not in the copy of the store in storage safe"), "{shown}");
    assert_eq!(shown["storage"], "safe");
    assert!(!folder.exists(), "nothing is written below the mount point");
    fs::rename(&away, &folder).unwrap();
    // Whatever is decided is tried at once.
    good(&home, "service add b --uri mongodb://127.0.0.1:1/?replicaSet=rs");
    copied(&folder, [2, 1, 0, 1]);
    until("it is no longer shown", || warnings().is_empty());

    // Without a daemon nobody writes it: that is shown as well.
    good(&home, "daemon stop");
    let config = home.path().join("config/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[jobs]\nconcurrency = 3\n")).unwrap();
    let status = good(&home, "daemon status").stdout;
    assert!(status.contains("no daemon runs that would write it"), "{status}");
}

#[test]
fn of_several_copies_a_person_says_which_and_ten_of_each_are_kept() {
    let shared = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for service in ["one", "two"] {
        let home = Home::new();
        good(&home, &format!("storage add safe --type filesystem --path {}", shared.path().display()));
        good(&home, &format!("service add {service} --uri mongodb://127.0.0.1:1/?replicaSet=rs"));
        good(&home, "settings set state.backup_storage safe");
        let own = |id: &mut Vec<String>| {
            let all = fs::read_dir(shared.path().join(".mongokeep-state")).map(|d| d.map(|e| e.unwrap().file_name()));
            let all = all.map(|names| names.map(|n| n.into_string().unwrap()).collect::<Vec<_>>()).unwrap_or_default();
            let new = all.into_iter().find(|name| !id.contains(name));
            new.map(|name| id.push(name)).is_some()
        };
        until("its copy is there", || own(&mut ids));
        if service == "two" {
            let folder = shared.path().join(".mongokeep-state").join(&ids[1]);
            let count =
                || fs::read_dir(&folder).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some()).count();
            let mut last = String::new();
            for n in 0..12 {
                good(&home, &format!("settings set pitr.slice_seconds {}", 10 + n));
                until("the change is copied", || {
                    let mut names: Vec<String> =
                        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
                    names.sort();
                    let newest = names.pop().unwrap();
                    let is_new = newest > last && newest.ends_with(".json");
                    let has_it = is_new
                        && fs::read_to_string(folder.join(&newest))
                            .is_ok_and(|t| t.contains(&format!("\"{}\"", 10 + n)));
                    if has_it {
                        last = newest;
                    }
                    has_it
                });
            }
            until("ten are kept", || count() == 10);
        }
        good(&home, "daemon stop");
    }
    let home = Home::new();
    good(&home, &format!("storage add safe --type filesystem --path {}", shared.path().display()));
    let asked = run(&home, "storage sync safe --state");
    assert!(asked.code == 4 && ids.iter().all(|id| asked.stderr.contains(id)), "{}", asked.stderr);
    let report = json_of(&home, &format!("storage sync safe --state --installation {}", &ids[0][..8]));
    assert_eq!(names(&report, "services"), ["one"]);
    assert_eq!(report["state"]["home_id"], ids[0].as_str());
    // A storage that is called otherwise here would not be found by the schedules.
    let other = Home::new();
    good(&other, &format!("storage add mine --type filesystem --path {}", shared.path().display()));
    let refused = run(&other, &format!("storage sync mine --state --installation {}", ids[1]));
    assert!(refused.code == 4 && refused.stderr.contains("add it under that name"), "{}", refused.stderr);
    // A copy that was cut off is not taken for one; the one before it is.
    let folder = shared.path().join(".mongokeep-state").join(&ids[1]);
    let last = copies(shared.path()).into_iter().rfind(|p| p.starts_with(&folder)).unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    let third = Home::new();
    good(&third, &format!("storage add safe --type filesystem --path {}", shared.path().display()));
    let report = json_of(&third, &format!("storage sync safe --state --installation {}", ids[1]));
    assert!(report["state"]["notes"].to_string().contains("a newer copy cannot be read"), "{report}");
    assert_eq!(json_of(&third, "settings get pitr.slice_seconds")["value"], 20);
    let empty = Home::ready();
    assert_eq!(run(&empty, "storage sync t --state").code, 3);
    assert_eq!(run(&empty, "storage sync t --installation x").code, 2);
}
