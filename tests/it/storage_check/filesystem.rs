//! On a disk: everything that may lie there, what is said of it, and what a repair takes and leaves.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{check, foreign_attempt, found, json, make, of_kind};
use crate::support::program::{Home, fill, replica_set, until};

fn part_of(home: &Home, backup: &str) -> PathBuf {
    let is_part = |f: &&String| f.starts_with(&format!("{backup}/data/shop/items/")) && f.contains(".bson");
    home.storage().join(home.files().iter().find(is_part).unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = {
            let e = entry.unwrap();
            (e.path(), to.join(e.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_what_is_left_over_goes_and_nothing_else_is_touched() {
    let set = replica_set().await;
    fill(&set, "shop", 400).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    for (name, folder) in
        [("good", "prod"), ("short", "prod"), ("holey", "prod/eu"), ("left", "prod"), ("lost", "prod")]
    {
        make(&home, "local", name, folder);
    }
    let clean = check(&home, "local", 0);
    assert_eq!((&clean["ok"], &clean["backups"], &clean["findings"]), (&json!(true), &json!(5), &json!([])), "{clean}");
    assert_eq!(clean["unfinished_uploads"], 0);
    assert_eq!(clean["objects"].as_u64().unwrap(), home.files().len() as u64);
    assert_eq!(home.run(&["storage", "check", "local", "--repair"]).code, 0, "there is nothing to confirm");

    let at = |path: &str| home.storage().join(path);
    // An attempt of this home without a manifest, as a restored disk brings it back.
    copy(&at("prod/backups/left"), &at("aside"));
    home.ok(&["backup", "delete", "left", "--yes"]);
    fs::remove_file(at("aside/manifest.json")).unwrap();
    fs::create_dir_all(at("prod/backups")).unwrap();
    fs::rename(at("aside"), at("prod/backups/left")).unwrap();
    fs::write(at("prod/backups/left/notes.txt"), "mine").unwrap();
    foreign_attempt(&at("prod/backups/theirs"), "theirs");
    fs::create_dir_all(at("prod/backups/silent")).unwrap();
    fs::write(at("prod/backups/silent/attempt.json"), "{\"cut off").unwrap();
    // Orphans, one called as a part is and one that is not.
    fs::write(at("prod/backups/good/data/shop/items/99999.bson.zst"), vec![7; 1234]).unwrap();
    fs::write(at("prod/backups/good/README"), "by hand").unwrap();
    fs::write(at("prod/list.txt"), "by hand").unwrap();
    fs::write(at("top.txt"), "by hand").unwrap();
    // Uploads that a power cut left: beside a good backup, and beside the attempt of another.
    fs::write(at("prod/backups/good/data/shop/.mongokeep-tmp-aa"), vec![1; 500]).unwrap();
    fs::write(at("prod/backups/theirs/.mongokeep-tmp-bb"), vec![1; 600]).unwrap();
    // Damage.
    let part = part_of(&home, "prod/backups/short");
    let bytes = fs::read(&part).unwrap();
    fs::write(&part, &bytes[..bytes.len() - 3]).unwrap();
    fs::remove_file(part_of(&home, "prod/eu/backups/holey")).unwrap();
    fs::remove_file(at("prod/backups/lost/manifest.json")).unwrap();
    let before = home.files();

    // Looking changes nothing, and a client that may not write notes nothing.
    let ran = home.run(&["--read-only", "storage", "check", "local"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(home.ok(&["backup", "show", "holey"])["state"], "succeeded");
    let report = check(&home, "local", 1);
    assert_eq!(report["findings"], json(&ran)["findings"]);
    let kinds = found(&report);
    let has = |kind: &str, about: &str| {
        let is = |(k, a): &(String, String)| k == kind && a.contains(about);
        assert!(kinds.iter().any(is), "no {kind} about {about}: {kinds:?}");
    };
    has("wrong_size", "prod/backups/short/data/shop/items/00000.bson");
    has("missing_object", "prod/eu/backups/holey/data/shop/items/00000.bson");
    has("missing_backup", "prod/backups/lost");
    has("abandoned_attempt", "prod/backups/left");
    has("other_attempt", "prod/backups/theirs");
    has("unreadable_attempt", "prod/backups/silent");
    has("orphan", "prod/backups/good/data/shop/items/99999.bson.zst");
    for stranger in ["prod/backups/good/README", "prod/backups/left/notes.txt", "prod/list.txt", "top.txt"] {
        has("foreign_object", stranger);
    }
    has("unfinished_upload", ".mongokeep-tmp-aa");
    has("unfinished_upload", ".mongokeep-tmp-bb");
    assert_eq!(kinds.len(), 13, "{kinds:?}");
    let theirs = &of_kind(&report, "other_attempt")[0];
    assert_eq!((&theirs["host"], &theirs["removable"]), (&json!("db7.example.com"), &json!(false)), "{theirs}");
    assert!(theirs["started_at"].is_string() && theirs["remedy"].is_string(), "{theirs}");
    let removable: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().filter(|f| f["removable"] == true).collect();
    assert_eq!(removable.len(), 3, "{removable:?}");
    assert_eq!((&report["ok"], &report["incomplete"]), (&json!(false), &json!(3)), "{report}");
    assert!(report["orphans"].as_array().unwrap().iter().any(|o| o["size_bytes"] == 1234 && o["key"].is_string()));
    assert_eq!((&report["unfinished_uploads"], &report["bytes_to_free"]), (&json!(2), &report["removable"]["bytes"]));
    assert!(report["bytes_to_free"].as_u64().unwrap() > 1234 + 500);

    // What is not whole is no longer called good, and a sync does not make it good again.
    for name in ["short", "holey", "lost"] {
        assert_eq!(home.ok(&["backup", "show", name])["state"], "incomplete", "{name}");
    }
    assert_eq!(home.ok(&["backup", "show", "good"])["state"], "succeeded");
    home.run(&["storage", "sync", "local"]);
    assert!(home.ok(&["backup", "show", "holey"])["verify_error"].as_str().unwrap().contains("missing"));

    // The plan first.
    let dry = home.run(&["storage", "check", "local", "--repair", "--dry-run", "--yes"]);
    assert_eq!((dry.code, &json(&dry)["plan"]["attempts"][0]["backup"]), (0, &json!("left")), "{}", dry.stderr);
    let asked = home.run(&["storage", "check", "local", "--repair"]);
    assert_eq!(asked.code, 4, "{}", asked.stderr);
    assert!(asked.stderr.contains("--repair --yes") || asked.stderr.contains("--yes"), "{}", asked.stderr);
    assert_eq!(home.run(&["--read-only", "storage", "check", "local", "--repair", "--yes"]).code, 1);
    assert_eq!(home.files(), before, "something went or came before anybody said yes");

    let repaired = home.run(&["storage", "check", "local", "--repair", "--yes"]);
    assert_eq!(repaired.code, 1, "the damage stays: {}", repaired.stderr);
    let left = json(&repaired);
    assert_eq!((&left["job"]["state"], &left["job"]["kind"]), (&json!("succeeded"), &json!("repair")), "{left}");
    assert_eq!(left["removable"], json!({"objects": 0, "bytes": 0}), "{left}");
    assert!(left["removed"]["bytes"].as_u64().unwrap() > 1234 + 500, "{left}");
    let gone: Vec<String> = before.iter().filter(|f| !home.files().contains(f)).cloned().collect();
    let may_go = |f: &String| {
        (f.starts_with("prod/backups/left/") && !f.ends_with("notes.txt"))
            || f == "prod/backups/good/data/shop/items/99999.bson.zst"
            || f == "prod/backups/good/data/shop/.mongokeep-tmp-aa"
    };
    assert!(gone.iter().all(may_go) && gone.len() == before.iter().filter(|f| may_go(f)).count(), "{gone:?}");
    assert_eq!(home.ok(&["backup", "verify", "good"])["state"], "succeeded");
    for kind in ["other_attempt", "unreadable_attempt", "foreign_object"] {
        assert!(!of_kind(&left, kind).is_empty(), "{kind}: {left}");
    }

    // A part that is put back makes it whole; that is said only by who reads it.
    fs::write(&part, &bytes).unwrap();
    home.run(&["storage", "sync", "local"]);
    assert!(home.ok(&["backup", "show", "short"])["verify_error"].is_string());
    assert_eq!(home.ok(&["backup", "verify", "short"])["state"], "succeeded");
    assert_eq!(home.ok(&["backup", "show", "short"])["verify_error"], json!(null));
    // A home that knows none of them names them, and takes none for its own.
    let other = Home::new();
    let path = home.storage();
    other.ok(&["storage", "add", "found", "--type", "filesystem", "--path", path.to_str().unwrap()]);
    fs::write(at("prod/backups/good/data/shop/items/99998.bson.zst"), "x").unwrap();
    let report = check(&other, "found", 1);
    assert_eq!(of_kind(&report, "unknown_backup").len(), 3, "{report}");
    assert_eq!((&report["removable"]["objects"], of_kind(&report, "orphan").len()), (&json!(0), 1), "{report}");
}

/// A daemon that is killed in the middle of a backup: its attempt belongs to its job, whatever a repair is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn the_attempt_of_a_job_is_left_to_its_job() {
    let set = replica_set().await;
    fill(&set, "shop", 6_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    // It is not over before somebody looks, and kills.
    home.ok(&["settings", "set", "backup.bandwidth_limit", "20000"]);
    let id = home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "one"])["id"].as_i64();
    let begun = || home.files().iter().any(|f| f.ends_with("backups/one/attempt.json"));
    until("it has begun", begun);
    // While it runs, too.
    let report = check(&home, "local", 0);
    home.kill_daemon();
    if home.files().iter().any(|f| f.ends_with("manifest.json")) {
        panic!("the backup was faster than the kill: make it slower");
    }
    for report in [report, check(&home, "local", 0)] {
        let at_work = of_kind(&report, "attempt_at_work");
        assert_eq!((at_work.len(), &at_work[0]["removable"]), (1, &json!(false)), "{report}");
        assert_eq!(report["removable"]["objects"], 0, "{report}");
    }
    // The next daemon cleans up behind it, as ever.
    home.start_daemon();
    until("the job is over", || home.job(id.unwrap())["state"] == "failed");
    assert_eq!(check(&home, "local", 0)["findings"], json!([]));
}

/// A plan that is older than what is there: what came since stays, and what went is no error.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_removes_what_its_plan_names_and_nothing_that_came_since() {
    let set = replica_set().await;
    fill(&set, "shop", 200).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    make(&home, "local", "good", "prod");
    let at = |n: &str| home.storage().join("prod/backups/good/oplog").join(n);
    fs::create_dir_all(at("").parent().unwrap()).unwrap();
    for name in ["90001.bson.zst", "90002.bson.zst", "90003.bson.zst"] {
        fs::create_dir_all(home.storage().join("prod/backups/good/oplog")).unwrap();
        fs::write(at(name), name).unwrap();
    }
    let client = home.client();
    let silent = || std::sync::Arc::new(mongokeep::engine::Meter::silent());
    let plan = client.check_storage("local", silent(), Default::default()).await.unwrap().plan;
    assert_eq!(plan.amount().objects, 3);
    fs::remove_file(at("90001.bson.zst")).unwrap();
    fs::write(at("90002.bson.zst"), "written anew, and longer").unwrap();
    fs::write(at("90004.bson.zst"), "new").unwrap();
    let job = client.repair_storage("local", &plan).unwrap();
    until("it is repaired", || home.job(job.id)["state"] == "succeeded");
    let left: Vec<bool> = (1..5).map(|n| at(&format!("9000{n}.bson.zst")).exists()).collect();
    assert_eq!(left, [false, true, false, true]);
    assert_eq!(home.job(job.id)["progress"]["objects_done"], 1);

    // Recorded oplog: an upload that may be going on stays, an old one goes.
    let archive = home.storage().join("prod/oplog/rs0-0123456789abcdef01234567");
    fs::create_dir_all(&archive).unwrap();
    let (young, old) = (archive.join(".mongokeep-tmp-young"), archive.join(".mongokeep-tmp-old"));
    fs::write(&young, "1").unwrap();
    fs::write(&old, "22").unwrap();
    let day_before = SystemTime::now() - Duration::from_secs(25 * 3600);
    fs::File::options().write(true).open(&old).unwrap().set_modified(day_before).unwrap();
    let report = home.ok(&["storage", "check", "local", "--repair", "--yes"]);
    assert!(young.exists() && !old.exists(), "{report}");
    assert_eq!(of_kind(&report, "unfinished_upload").len(), 1, "{report}");
}
