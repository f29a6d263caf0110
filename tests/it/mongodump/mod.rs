//! Folders that `mongodump` left in a storage: found on a home that never saw them, restored, and compared with what
//! `mongorestore` makes of them. Its archives are in `archive.rs`.

use std::path::Path;
use std::process::Command;

use mongodb::bson::{Bson, doc};
use mongodb::{Client, IndexModel};
use mongokeep::sandbox::ReplicaSet;
use serde_json::{Value, json};

use crate::support::compare::{self, State, assert_same};
use crate::support::program::{Home, replica_set};
use crate::support::tools::Tools;

mod archive;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

fn ran(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn emptied(client: &Client) {
    for db in client.list_database_names().await.unwrap() {
        if !["admin", "config", "local"].contains(&db.as_str()) {
            client.database(&db).drop().await.unwrap();
        }
    }
}

/// Restores a dump with this program, all of it, and says what the target holds then.
async fn restored(home: &Home, target: &Client, name: &str, more: &[&str]) -> State {
    emptied(target).await;
    let args = ["restore", name, "--to", "copy", "--yes", "--wait"];
    let job = home.ok(&[&args[..], more].concat());
    assert_eq!(job["state"], "succeeded", "{job}");
    compare::state(target).await
}

fn home_with(target: &ReplicaSet) -> Home {
    let home = Home::new();
    home.add_service("copy", &target.uri());
    std::fs::create_dir_all(home.storage()).unwrap();
    home.add_storage("dumps");
    home
}

/// The tools, what is dumped, and a home that restores it into `target`.
struct Stand {
    tools: Tools,
    source: ReplicaSet,
    target: ReplicaSet,
    /// Of the source.
    from: Client,
    /// Of the target.
    client: Client,
    home: Home,
}

/// `None`: the tools are missing, which was said.
async fn stand() -> Option<Stand> {
    let tools = Tools::find()?;
    let (source, target) = (replica_set().await, replica_set().await);
    let (from, client) = (source.client().await.unwrap(), target.client().await.unwrap());
    odd_data(&from).await;
    let home = home_with(&target);
    Some(Stand { tools, source, target, from, client, home })
}

/// Needs no tools: a recorded dump.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_dump_is_listed_checked_restored_and_deleted_only_when_it_is_meant() {
    let target = replica_set().await;
    let client = target.client().await.unwrap();
    let home = home_with(&target);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mongodump/all");
    copy(&fixture, &home.storage().join("old/2026-11-30"));
    std::fs::write(home.storage().join("old/2026-11-30/shop/notes.txt"), "by hand").unwrap();
    let name = "old/2026-11-30";
    let report = home.ok(&["storage", "sync", "dumps"]);
    assert_eq!((&report["added"], &report["unreadable"]), (&json!([name]), &json!([])), "{report}");
    let shown = home.ok(&["backup", "show", name]);
    for (key, value) in [("engine", "mongodump"), ("state", "succeeded"), ("server_version", "6.0.5"), ("fcv", "6.0")] {
        assert_eq!(shown[key], value, "{key}: {shown}");
    }
    assert_eq!((&shown["consistent_at"], &shown["documents"]), (&Value::Null, &Value::Null), "nobody wrote it down");
    let mut show = Command::new(env!("CARGO_BIN_EXE_mongokeep"));
    let page = show.arg("--home").arg(home.path()).args(["backup", "show", name]).output().unwrap();
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("nothing in it says when") && page.contains("not known whether"), "{page}");
    let text = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mongokeep"));
        let output = command.arg("--home").arg(home.path()).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    // No time, no position and no host that nobody wrote down is shown anywhere.
    let plan = text(&["restore", name, "--to", "copy", "--dry-run"]);
    assert!(plan.contains("restore old/2026-11-30 (of mongodump) into copy"), "{plan}");
    let deletion = text(&["backup", "delete", name, "--dry-run"]);
    assert!(deletion.contains("was made by mongodump\n"), "{deletion}");
    let listed = text(&["backup", "list"]);
    assert!(listed.contains("done") && !listed.contains("partial"), "{listed}");
    let in_json = ["restore", name, "--to", "copy", "--dry-run", "-o", "json"];
    let delete_json = ["backup", "delete", name, "--foreign", "--dry-run", "-o", "json"];
    let jsons =
        [&in_json[..], &delete_json, &["backup", "list", "-o", "json"], &["backup", "show", name, "-o", "json"]];
    for shown in jsons.map(text).into_iter().chain([page, plan, deletion, listed]) {
        assert!(!shown.contains("1970") && !shown.contains("unknown host"), "{shown}");
    }
    assert_eq!(
        (&shown["started_at"], &shown["finished_at"], &shown["whole"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(home.ok(&["storage", "sync", "dumps"])["unchanged"], 1);

    let plan = home.ok(&["restore", name, "--to", "copy", "--dry-run"]);
    assert!(plan["warnings"].to_string().contains("--oplog"), "{plan}");
    let found = restored(&home, &client, name, &[]).await;
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["shop.a b/c", "shop.items", "shop.v"]);
    assert_eq!((found["shop.items"].documents, &*found["shop.v"].kind), (40, "view"));
    assert!(found["shop.a b/c"].options.get_bool("capped").unwrap());
    assert_eq!(found["shop.items"].indexes["text_-1"].get("hidden"), Some(&Bson::Boolean(true)));
    // A part, under another name.
    let renamed = restored(&home, &client, name, &["--include", "shop.items", "--rename", "shop.items=x.y"]).await;
    assert_eq!((renamed.len(), renamed["x.y"].documents), (1, 40));

    // A check finds nothing wrong, and takes nothing of it for a stranger but what mongodump does not write.
    let report = home.ok(&["storage", "check", "dumps"]);
    let findings = report["findings"].as_array().unwrap();
    assert_eq!((report["backups"].as_u64(), findings.len()), (Some(1), 1), "{report}");
    assert_eq!(findings[0]["object"], "old/2026-11-30/shop/notes.txt");

    // Damage.
    assert_eq!(home.ok(&["backup", "verify", name])["state"], "succeeded");
    let file = home.storage().join("old/2026-11-30/shop/items.bson.gz");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 20]).unwrap();
    assert_eq!(home.run(&["backup", "verify", name]).code, 1);
    std::fs::remove_file(&file).unwrap();
    let ran = home.run(&["storage", "sync", "dumps"]);
    assert!(ran.code == 1 && ran.stdout.contains("lacks the documents of shop.items"), "{}", ran.stdout);
    // Its path stands once.
    let checked = text(&["storage", "check", "dumps"]);
    assert!(checked.contains("\n  old/2026-11-30: ") && checked.contains("1 manifest that is of no use"), "{checked}");
    assert_eq!(home.ok(&["backup", "show", name])["state"], "incomplete");
    std::fs::write(&file, &whole).unwrap();
    home.ok(&["storage", "sync", "dumps"]);
    assert_eq!(home.ok(&["backup", "verify", name])["state"], "succeeded");

    let refused = home.run(&["backup", "delete", name, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(file.exists());
    home.ok(&["backup", "delete", name, "--foreign", "--yes"]);
    assert_eq!(home.files(), ["old/2026-11-30/shop/notes.txt"], "what is not mongodump's stays");

    // No service is backed up with it.
    let add = home.run(&["service", "edit", "copy", "--engine", "mongodump"]);
    assert_eq!(add.code, 2, "{}", add.stderr);
    // A dump at the root has no name.
    copy(&fixture, &home.storage());
    let report = home.ok(&["storage", "sync", "dumps"]);
    assert!(report["refused"].to_string().contains("root of the storage"), "{report}");
}

async fn odd_data(client: &Client) {
    let db = client.database("shop");
    let items = db.collection("orders");
    items.insert_many((0..300).map(|i| doc! {"_id": i, "n": i % 7, "at": [1.5, f64::from(i)]})).await.unwrap();
    let options = doc! {"partialFilterExpression": {"n": {"$gt": 2}}, "expireAfterSeconds": 86_400_000};
    let index = IndexModel::builder().keys(doc! {"n": -1, "at": 1});
    items.create_index(index.build()).await.unwrap();
    db.run_command(doc! {"createIndexes": "orders", "indexes": [
        {"key": {"when": 1}, "name": "ttl", "expireAfterSeconds": options.get_i32("expireAfterSeconds").unwrap(),
         "partialFilterExpression": {"n": {"$gt": 2}}},
        {"key": {"$**": 1}, "name": "wild", "hidden": true},
    ]})
    .await
    .unwrap();
    db.run_command(doc! {"create": "log", "capped": true, "size": 65_536, "max": 50}).await.unwrap();
    db.collection("log").insert_many((0..80).map(|i| doc! {"_id": i})).await.unwrap();
    db.run_command(doc! {"create": "recent", "viewOn": "orders", "pipeline": [{"$match": {"n": {"$gt": 3}}}]})
        .await
        .unwrap();
    db.run_command(doc! {"create": "weather", "timeseries": {"timeField": "t", "metaField": "m"}}).await.unwrap();
    let at = |i: i64| mongodb::bson::DateTime::from_millis(1_700_000_000_000 + i * 60_000);
    let points = (0..90_i64).map(|i| doc! {"t": at(i), "m": i % 3, "v": i});
    db.collection("weather").insert_many(points).await.unwrap();
    db.run_command(doc! {"create": "typed", "collation": {"locale": "fr"}, "validator": {"a": {"$type": "int"}}})
        .await
        .unwrap();
    db.run_command(doc! {"create": "empty"}).await.unwrap();
    let other = client.database("other-db");
    for name in ["a b/c%é", "with.dots", &*"x".repeat(200)] {
        other.collection(name).insert_one(doc! {"_id": name}).await.unwrap();
    }
    let user = doc! {"createUser": "clerk", "pwd": "not-secret", "roles": [{"role": "read", "db": "shop"}]};
    client.database("admin").run_command(user).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_data_is_restored_as_mongorestore_does_it() {
    let Some(Stand { tools, source, target, from, client, home }) = stand().await else { return };
    let dump = |folder: &str, args: &[&str]| {
        let out = home.storage().join(folder);
        ran(tools.mongodump().arg("--uri").arg(source.uri()).arg("--out").arg(out).args(args));
    };
    dump("plain", &[]);
    dump("with/oplog", &["--oplog", "--gzip"]);
    dump("alone", &["--db", "shop", "--dumpDbUsersAndRoles"]);
    let report = home.ok(&["storage", "sync", "dumps"]);
    let mut added: Vec<&str> = report["added"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    added.sort_unstable();
    assert_eq!(added, ["alone/shop", "plain", "with/oplog"], "{report}");
    assert_eq!(home.ok(&["storage", "sync", "dumps"])["unchanged"], 3);
    let of_oplog = home.ok(&["backup", "show", "with/oplog"]);
    assert!(of_oplog["consistent_at_ts"]["t"].as_u64().unwrap() > 1_600_000_000, "{of_oplog}");

    for (name, args) in [("plain", &[][..]), ("with/oplog", &["--oplogReplay", "--gzip"]), ("alone/shop", &[])] {
        emptied(&client).await;
        // mongorestore takes the folder above a database's own.
        let dir = home.storage().join(name.strip_suffix("/shop").unwrap_or(name));
        // With an oplog it takes all of it: users come along, and go again.
        let without_users = ["--nsExclude", "admin.*", "--nsExclude", "config.*"];
        let restore = if name == "with/oplog" { &[][..] } else { &without_users };
        ran(tools.mongorestore().arg("--uri").arg(target.uri()).args(args).args(restore).arg(dir));
        let expected = compare::state(&client).await;
        if name == "with/oplog" {
            client.database("admin").run_command(doc! {"dropUser": "clerk"}).await.unwrap();
        }
        assert!(expected.len() >= 7, "{name}: {:?}", expected.keys());
        assert_eq!(home.ok(&["backup", "verify", name])["state"], "succeeded", "{name}");
        let found = restored(&home, &client, name, &[]).await;
        assert_same(&expected, &found, name);
        assert_same(
            &compare::state(&from).await.into_iter().filter(|(ns, _)| expected.contains_key(ns)).collect(),
            &found,
            name,
        );
    }
    let plan = home.ok(&["restore", "alone/shop", "--to", "copy", "--dry-run"]);
    assert!(plan["left_out"].to_string().contains("--dumpDbUsersAndRoles"), "{plan}");
    // Users and roles come along where they are wanted.
    restored(&home, &client, "plain", &["--users-and-roles"]).await;
    let users =
        client.database("admin").run_command(doc! {"usersInfo": {"user": "clerk", "db": "admin"}}).await.unwrap();
    assert_eq!(users.get_array("users").unwrap().len(), 1, "{users}");

    // An export is what mongorestore takes, again.
    let out = home.path().join("exported");
    home.ok(&["backup", "export", "plain", "--to", out.to_str().unwrap()]);
    emptied(&client).await;
    let restore = ["--oplogReplay", "--bypassDocumentValidation", "--drop"];
    ran(tools.mongorestore().arg("--uri").arg(target.uri()).args(restore).arg(&out));
    assert_same(&compare::state(&from).await, &compare::state(&client).await, "exported");
}
