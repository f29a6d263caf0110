//! Chains of increments. Physical copies need Percona Server, which is not to be had: what its agents would leave in the
//! storage is put there by a stand-in for `pbm backup --type incremental` alone. Everything else is asked of the real program
//! and done by real agents, which read the storage again: lists, descriptions, what may be deleted, and deletion.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::agents::Agents;
use crate::support::program::{Home, fill, until};

/// `pbm`, and what it would leave of an incremental backup.
fn stand_in(agents: &Agents, home: &Home) -> std::path::PathBuf {
    let path = home.path().join("pbm");
    let script = format!(
        r#"#!/bin/bash
set -e
case " $* " in *" --type incremental "*) ;; *) exec {real} "$@" ;; esac
store={store}
echo "$@" >>{calls}
now=$(date +%s)
[ ! -e "$store.last" ] || [ "$now" -gt "$(cat "$store.second")" ] || now=$(($(cat "$store.second") + 1))
echo "$now" >"$store.second"
name=$(date -u -d "@$now" +%Y-%m-%dT%H:%M:%SZ)
source=
case " $* " in *" --base "*) ;; *) source='"src_backup": "'$(cat "$store.last")'",' ;; esac
mkdir -p "$store/$name/{set}"
echo "the files of $name" >"$store/$name/{set}/collection-0.wt"
size=$(stat -c %s "$store/$name/{set}/collection-0.wt")
cat >"$store/$name.pbm.json" <<END
{{"type": "incremental", "opid": "6b0c9f78eda8c034421eea0e", "name": "$name", $source "replsets": [{{"name": "{set}",
"files": [{{"filename": "collection-0.wt", "offset": 0, "length": 0, "fileSize": $size, "stgSize": $size, "fmode": 384}}],
"start_ts": $now, "status": "done", "size": $size, "size_uncompressed": $size, "last_transition_ts": $now,
"first_write_ts": {{"T": $now, "I": 1}}, "last_write_ts": {{"T": $now, "I": 2}}, "node": "{node}", "conditions": []}}],
"compression": "none", "store": {{"type": "filesystem", "filesystem": {{"path": "$store"}}}}, "size": $size,
"size_uncompressed": $size, "mongodb_version": "6.0.5", "fcv": "6.0", "start_ts": $now, "last_transition_ts": $now,
"first_write_ts": {{"T": $now, "I": 1}}, "last_write_ts": {{"T": $now, "I": 2}}, "hb": {{"T": $now, "I": 1}},
"status": "done", "conditions": [], "n": [], "pbm_version": "2.4.0", "balancer": "off"}}
END
echo "$name" >"$store.last"
{real} config --force-resync --wait -o json >/dev/null
echo '{{"name": "'"$name"'", "storage": "'"$store"'"}}'
"#,
        real = agents.program(),
        store = home.storage().join("src/pbm").display(),
        calls = home.path().join("calls").display(),
        set = agents.set.name(),
        node = agents.set.addresses()[0],
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    home.ok(&["settings", "set", "pbm.path", path.to_str().unwrap()]);
    path
}

fn create<'a>(name: &'a str, kind: &'a str) -> [&'a str; 12] {
    [
        "backup",
        "create",
        "--service",
        "src",
        "--storage",
        "local",
        "--model",
        "physical",
        "--type",
        kind,
        "--name",
        name,
    ]
}

fn make(home: &Home, name: &str, kind: &str) -> Value {
    home.ok(&[&create(name, kind)[..], &["--wait"]].concat());
    home.ok(&["backup", "show", name])
}

fn listed(home: &Home) -> Vec<String> {
    let all = home.ok(&["backup", "list"]);
    all.as_array().unwrap().iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
}

fn in_pbm(agents: &Agents) -> Vec<String> {
    let status = agents.pbm(&["status", "-s", "backups"]);
    let all = status["backups"]["snapshot"].as_array().cloned().unwrap_or_default();
    all.iter().map(|snapshot| snapshot["name"].as_str().unwrap().to_owned()).collect()
}

async fn ready(agents: &Agents) -> Home {
    fill(&agents.set, "shop", 50).await;
    let home = agents.ready_home();
    stand_in(agents, &home);
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_made_shown_verified_and_deleted_as_a_whole() {
    let Some(agents) = Agents::start(1).await else { return };
    let home = ready(&agents).await;
    for (model, kind, why) in [("logical", "incremental", "needs the physical model"), ("physical", "pitr", "type")] {
        let mut args = create("x", kind);
        args[7] = model;
        let ran = home.run(&args);
        assert!(ran.code == 2 && ran.stderr.contains(why), "{model} {kind}: {} {}", ran.code, ran.stderr);
    }

    // The first of all is the base, whatever it was asked to be.
    let a = make(&home, "a", "incremental");
    assert!(a["type"] == "incremental-base" && a["chain"]["base"] == a["pbm_name"], "{a}");
    assert!(a["chain"]["source"].is_null() && a["chain_backups"] == serde_json::json!(["a"]), "{a}");
    let b = make(&home, "b", "incremental");
    assert!(b["type"] == "incremental" && b["chain"]["source"] == a["pbm_name"], "{b}");
    let c = make(&home, "c", "incremental");
    assert!(c["chain"]["source"] == b["pbm_name"] && c["chain"]["base"] == a["pbm_name"], "{c}");
    assert_eq!(c["chain_backups"], serde_json::json!(["a", "b", "c"]));
    let d = make(&home, "d", "incremental-base");
    assert!(d["type"] == "incremental-base" && d["chain"]["base"] == d["pbm_name"], "{d}");
    let calls = std::fs::read_to_string(home.path().join("calls")).unwrap();
    let with_base = calls.lines().map(|call| call.contains("--base")).collect::<Vec<_>>();
    assert_eq!(with_base, [true, false, false, true], "{calls}");
    let shown = home.run(&["backup", "show", "c", "-o", "table"]).stdout;
    assert!(shown.contains("increment of b, in the chain of the base a"), "{shown}");
    let list = home.run(&["backup", "list", "-o", "table"]).stdout;
    assert!(list.contains("CHAIN") && list.contains("base of 2 increments: b, c"), "{list}");

    // Restored as any physical backup: PBM finds what it is based on.
    let plan = home.run(&["restore", "c", "--to", "src", "--dry-run"]);
    assert!(
        plan.code == 0 && plan.stdout.contains("PBM stops mongod at every node"),
        "{} {}",
        plan.stdout,
        plan.stderr
    );

    home.ok(&["backup", "verify", "c"]);
    let description = home.storage().join(format!("src/pbm/{}.pbm.json", b["pbm_name"].as_str().unwrap()));
    let aside = description.with_extension("aside");
    std::fs::rename(&description, &aside).unwrap();
    let ran = home.run(&["backup", "verify", "c"]);
    assert!(
        ran.code == 1 && format!("{}{}", ran.stdout, ran.stderr).contains("the chain needs it"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    std::fs::rename(&aside, &description).unwrap();

    // A part of a chain does not go, whoever asks. PBM itself says the same.
    let ran = home.run(&["backup", "delete", "b", "--yes"]);
    assert!(ran.code == 4 && ran.stderr.contains("increment of the chain of a"), "{} {}", ran.code, ran.stderr);
    let refused = agents.refused(&["delete-backup", b["pbm_name"].as_str().unwrap(), "--yes"]);
    assert!(refused.contains("Removing a single incremental backup is not allowed"), "{refused}");
    home.ok(&["backup", "pin", "c"]);
    let ran = home.run(&["backup", "delete", "a", "--yes"]);
    assert!(ran.code == 4 && ran.stderr.contains("c is pinned"), "{} {}", ran.code, ran.stderr);
    home.ok(&["backup", "unpin", "c"]);

    // The base goes with all that is based on it; another chain stays.
    let plan = home.ok(&["backup", "delete", "a", "--dry-run"]);
    assert_eq!(plan["increments"], serde_json::json!(["b", "c"]));
    home.ok(&["backup", "delete", "a", "--yes"]);
    assert_eq!(listed(&home), ["d"]);
    assert_eq!(in_pbm(&agents), [d["pbm_name"].as_str().unwrap()]);
    let left = home.files();
    for gone in [&a, &b, &c] {
        let names = [gone["name"].as_str().unwrap(), gone["pbm_name"].as_str().unwrap()];
        assert!(
            !left.iter().any(|file| file.contains(&format!("/{}/", names[0])) || file.contains(names[1])),
            "{left:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_based_on_a_chain_keeps_it() {
    let Some(agents) = Agents::start(1).await else { return };
    let home = ready(&agents).await;
    make(&home, "a", "incremental");
    // By hand.
    let mut by_hand = std::process::Command::new(home.path().join("pbm"));
    by_hand.args(["backup", "--type", "incremental", "-o", "json"]).env("PBM_MONGODB_URI", agents.set.uri());
    assert!(by_hand.output().unwrap().status.success());
    assert_eq!(in_pbm(&agents).len(), 2);
    let ran = home.run(&["backup", "delete", "a", "--yes"]);
    assert!(ran.code != 0 && ran.stderr.contains("somebody else based on it"), "{} {}", ran.code, ran.stderr);
    assert_eq!(home.ok(&["backup", "show", "a"])["state"], "succeeded");
    assert_eq!(in_pbm(&agents).len(), 2);
    // It is listed as theirs, and shown in the chain.
    home.ok(&["storage", "sync", "local"]);
    let a = home.ok(&["backup", "show", "a"]);
    let theirs = in_pbm(&agents).into_iter().find(|name| *name != a["pbm_name"].as_str().unwrap()).unwrap();
    let theirs = home.ok(&["backup", "show", &theirs]);
    assert!(theirs["type"] == "incremental" && theirs["pbm_name"].is_null(), "{theirs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_deletes_whole_chains() {
    let Some(agents) = Agents::start(1).await else { return };
    let home = ready(&agents).await;
    let add = |name: &'static str, kind: &'static str, retention: &'static str| {
        home.ok(&[
            "schedule",
            "add",
            name,
            "--service",
            "src",
            "--storage",
            "local",
            "--cron",
            "@yearly",
            "--model",
            "physical",
            "--type",
            kind,
            "--retention",
            retention,
        ]);
    };
    let run = |schedule: &str| {
        let job = home.ok(&["schedule", "run", schedule])["id"].as_i64().unwrap();
        home.ok(&["job", "wait", &job.to_string()]);
        home.job(job)["backup"].as_str().unwrap().to_owned()
    };
    let settled = || {
        until("retention is over", || {
            let jobs = home.ok(&["job", "list"]);
            let of_kind = jobs.as_array().unwrap().iter().filter(|job| job["kind"] == "retention");
            of_kind.clone().count() > 0 && of_kind.clone().all(|job| job["state"] == "succeeded")
        });
    };
    // A chain that one schedule begins, and another goes on with, is kept.
    add("bases", "incremental-base", "1");
    add("more", "incremental", "1");
    let first = run("bases");
    let increment = run("more");
    let second = run("bases");
    let plan = home.ok(&["schedule", "retention", "bases", "--dry-run"]);
    let why = |name: &str| {
        let all = plan["backups"].as_array().unwrap();
        all.iter().find(|backup| backup["name"] == name).unwrap()["reasons"].to_string()
    };
    assert!(why(&first).contains(&format!("{increment} is of its chain of increments")), "{plan}");
    assert_eq!(listed(&home).len(), 3);

    // One that is this schedule's alone goes with its base.
    let third = run("bases");
    settled();
    assert_eq!(listed(&home), [third.clone(), increment.clone(), first.clone()], "{second} went");
    let left = in_pbm(&agents);
    assert_eq!(left.len(), 3, "{left:?}");
}
