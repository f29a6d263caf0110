//! Archives that `mongodump` left in a storage (`--archive`): all collections in one object, in between each other.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mongodb::Client;
use mongodb::bson::{Binary, doc, spec::BinarySubtype};
use mongokeep::sandbox::ReplicaSet;
use serde_json::{Value, json};

use super::{Stand, emptied, home_with, ran, restored, stand};
use crate::support::compare::{self, State, assert_same};
use crate::support::program::{Home, replica_set};
use crate::support::s3::{BUCKET, S3Server, SECRET_KEY};
use crate::support::tools::Tools;

/// A dump of `source` into one file below the storage of `home`.
fn dump(tools: &Tools, source: &ReplicaSet, to: &Path, args: &[&str]) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let archive = format!("--archive={}", to.display());
    ran(tools.mongodump().arg("--uri").arg(source.uri()).arg(archive).args(args));
}

/// What `mongorestore` makes of an archive.
async fn of_mongorestore(tools: &Tools, target: &ReplicaSet, client: &Client, from: &Path, args: &[&str]) -> State {
    emptied(client).await;
    let archive = format!("--archive={}", from.display());
    ran(tools.mongorestore().arg("--uri").arg(target.uri()).arg(archive).args(args));
    compare::state(client).await
}

fn added(report: &Value) -> Vec<&str> {
    let mut added: Vec<&str> = report["added"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    added.sort_unstable();
    added
}

/// Large documents, so that blocks of several collections lie in between each other: mongodump writes them in 16 MiB.
async fn large_data(client: &Client) {
    for n in 0..4_i32 {
        let collection = client.database("large").collection(&format!("c{n}"));
        for chunk in 0..10_i32 {
            let documents = (0..64).map(|i| {
                let seed = (n << 20) + (chunk << 10) + i;
                let bytes: Vec<u8> =
                    (0..65_536_u32).map(|b| (b.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed as u8).collect();
                doc! {"_id": seed, "b": Binary { subtype: BinarySubtype::Generic, bytes }}
            });
            collection.insert_many(documents).await.unwrap();
        }
    }
}

/// How many times blocks of another collection follow in an archive that is not compressed.
fn switches(archive: &Path) -> usize {
    let bytes = std::fs::read(archive).unwrap();
    bytes.windows(14).filter(|w| w.ends_with(b"\x08EOF\0\0") || w.ends_with(b"\x08EOF\0\x01")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_restored_as_mongorestore_does_it() {
    let Some(Stand { tools, source, target, from, client, home }) = stand().await else { return };
    large_data(&from).await;
    let path = |name: &str| home.storage().join(name);
    dump(&tools, &source, &path("all.archive"), &["-j", "4"]);
    dump(&tools, &source, &path("of/yesterday 12:00.gz"), &["--gzip", "-j", "4"]);
    dump(&tools, &source, &path("of/backups/no-name"), &["--db", "shop", "--dumpDbUsersAndRoles"]);
    std::fs::write(path("of/notes.txt"), "no archive, and longer than the shortest of them is; really".repeat(3))
        .unwrap();
    assert!(switches(&path("all.archive")) > 30, "nothing lies in between each other");

    let report = home.ok(&["storage", "sync", "dumps"]);
    assert_eq!(added(&report), ["all.archive", "of/backups/no-name", "of/yesterday 12:00.gz"], "{report}");
    assert_eq!((&report["unreadable"], &report["refused"]), (&json!([]), &json!([])), "{report}");
    assert_eq!(home.ok(&["storage", "sync", "dumps"])["unchanged"], 3);
    let shown = home.ok(&["backup", "show", "of/yesterday 12:00.gz"]);
    for (key, value) in [("engine", "mongodump"), ("state", "succeeded"), ("fcv", "6.0"), ("folder", "of")] {
        assert_eq!(shown[key], value, "{key}: {shown}");
    }
    let size = std::fs::metadata(path("of/yesterday 12:00.gz")).unwrap().len();
    assert_eq!(shown["size_bytes"], size, "{shown}");
    let found = home.ok(&["storage", "check", "dumps"]);
    let findings = found["findings"].as_array().unwrap();
    assert_eq!((found["backups"].as_u64(), findings.len()), (Some(3), 1), "{found}");
    assert_eq!(findings[0]["object"], "of/notes.txt");

    let source_state = compare::state(&from).await;
    let without_users = ["--nsExclude", "admin.*", "--nsExclude", "config.*"];
    for (name, args) in [
        ("all.archive", &without_users[..]),
        ("of/yesterday 12:00.gz", &[&without_users[..], &["--gzip"]].concat()),
        ("of/backups/no-name", &["--nsInclude", "shop.*"]),
    ] {
        let expected = of_mongorestore(&tools, &target, &client, &path(name), args).await;
        assert!(expected.len() >= 7, "{name}: {:?}", expected.keys());
        let verified = home.ok(&["backup", "verify", name]);
        assert_eq!(verified["state"], "succeeded", "{name}: {verified}");
        let restored = restored(&home, &client, name, &[]).await;
        assert_same(&expected, &restored, name);
        let of_source = source_state.iter().filter(|(ns, _)| expected.contains_key(*ns));
        assert_same(&of_source.map(|(ns, c)| (ns.clone(), c.clone())).collect(), &restored, name);
    }
    // Users of one database are named; those of the whole deployment come along where they are wanted.
    let plan = home.ok(&["restore", "of/backups/no-name", "--to", "copy", "--dry-run"]);
    assert!(plan["left_out"].to_string().contains("--dumpDbUsersAndRoles"), "{plan}");
    restored(&home, &client, "all.archive", &["--users-and-roles"]).await;
    let users =
        client.database("admin").run_command(doc! {"usersInfo": {"user": "clerk", "db": "admin"}}).await.unwrap();
    assert_eq!(users.get_array("users").unwrap().len(), 1, "{users}");
    // A part, under another name.
    let part =
        ["--include", "large.c2", "--include", "shop.recent", "--include", "shop.orders", "--rename", "large.c2=x.y"];
    let part = restored(&home, &client, "of/yesterday 12:00.gz", &part).await;
    assert_eq!(part.keys().map(String::as_str).collect::<Vec<_>>(), ["shop.orders", "shop.recent", "x.y"]);
    assert_same(
        &[("c".to_owned(), source_state["large.c2"].clone())].into(),
        &[("c".to_owned(), part["x.y"].clone())].into(),
        "x.y",
    );

    // An export is what mongorestore takes, as a folder.
    let out = home.path().join("exported");
    home.ok(&["backup", "export", "of/yesterday 12:00.gz", "--to", out.to_str().unwrap()]);
    emptied(&client).await;
    let restore = ["--oplogReplay", "--bypassDocumentValidation", "--drop"];
    ran(tools.mongorestore().arg("--uri").arg(target.uri()).args(restore).arg(&out));
    assert_same(&source_state, &compare::state(&client).await, "exported");

    // Nothing is removed unless it is meant, and then nothing else.
    assert_eq!(home.run(&["backup", "delete", "of/backups/no-name", "--yes"]).code, 4);
    home.ok(&["backup", "delete", "of/backups/no-name", "--foreign", "--yes"]);
    assert_eq!(home.files(), ["all.archive", "of/notes.txt", "of/yesterday 12:00.gz"]);
}

/// Writes until it is told to stop: what mongodump reads belongs to no single moment but for its oplog.
fn writing(client: Client, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let db = client.database("busy");
        let (log, counters) = (db.collection("log"), db.collection::<mongodb::bson::Document>("counters"));
        for n in 0_i32.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            log.insert_one(doc! {"_id": n, "text": "x".repeat(200)}).await.unwrap();
            counters.update_one(doc! {"_id": n % 10}, doc! {"$inc": {"n": 1}}).upsert(true).await.unwrap();
            if n % 7 == 0 {
                log.delete_one(doc! {"_id": n / 2}).await.unwrap();
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oplog_in_an_archive_leads_to_one_moment() {
    let Some(Stand { tools, source, target, from, client, home }) = stand().await else { return };
    large_data(&from).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = writing(from.clone(), Arc::clone(&stop));
    for (name, args) in [("plain.archive", &["--oplog"][..]), ("zipped.archive", &["--oplog", "--gzip"])] {
        dump(&tools, &source, &home.storage().join("with").join(name), args);
    }
    stop.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    let report = home.ok(&["storage", "sync", "dumps"]);
    assert_eq!(added(&report), ["with/plain.archive", "with/zipped.archive"], "{report}");
    for (name, args) in
        [("with/plain.archive", &["--oplogReplay"][..]), ("with/zipped.archive", &["--oplogReplay", "--gzip"])]
    {
        let shown = home.ok(&["backup", "show", name]);
        assert!(shown["consistent_at_ts"]["t"].as_u64().unwrap() > 1_600_000_000, "{shown}");
        let expected = of_mongorestore(&tools, &target, &client, &home.storage().join(name), args).await;
        client.database("admin").run_command(doc! {"dropUser": "clerk"}).await.unwrap();
        assert!(expected["busy.log"].documents > 10, "{name}");
        let verified = home.ok(&["backup", "verify", name]);
        assert_eq!(verified["state"], "succeeded", "{name}: {verified}");
        assert_same(&expected, &restored(&home, &client, name, &[]).await, name);
        let out = home.path().join(format!("exported-{}", expected["busy.log"].documents));
        home.ok(&["backup", "export", name, "--to", out.to_str().unwrap()]);
        emptied(&client).await;
        ran(tools.mongorestore().arg("--uri").arg(target.uri()).args(["--oplogReplay", "--drop"]).arg(&out));
        assert_same(&expected, &compare::state(&client).await, &format!("{name}, exported"));
        client.database("admin").run_command(doc! {"dropUser": "clerk"}).await.unwrap();
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mongodump")
}

/// Needs no tools: recorded archives.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_archive_is_never_listed_as_good() {
    let target = replica_set().await;
    let client = target.client().await.unwrap();
    let home = home_with(&target);
    for name in ["plain.archive", "oplog.archive.gz"] {
        std::fs::copy(fixture().join(name), home.storage().join(name)).unwrap();
    }
    let report = home.ok(&["storage", "sync", "dumps"]);
    assert_eq!(added(&report), ["oplog.archive.gz", "plain.archive"], "{report}");
    for name in ["oplog.archive.gz", "plain.archive"] {
        let found = restored(&home, &client, name, &[]).await;
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["shop.a b/c", "shop.items", "shop.system.buckets.weather", "shop.v", "shop.weather"],
            "{name}"
        );
        assert_eq!((found["shop.items"].documents, &*found["shop.v"].kind), (40, "view"));
    }

    // A bit of a document.
    let file = home.storage().join("plain.archive");
    let whole = std::fs::read(&file).unwrap();
    let at = whole.windows(4).rposition(|w| w == b"text").unwrap() + 12;
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    let job = home.said(&["backup", "verify", "plain.archive"]);
    assert_eq!(job["state"], "failed", "{job}");
    let log = home.ok(&["backup", "show", "plain.archive"]).to_string();
    assert!(log.contains("the checksum of shop."), "{log}");
    let refused = home.run(&["restore", "plain.archive", "--to", "copy", "--dry-run"]);
    assert!(refused.code == 1 && refused.stderr.contains("the checksum of shop."), "{}", refused.stderr);

    // Cut off.
    for (cut, what) in
        [(whole.len() - 1, "it ends at byte"), (whole.len() / 2, "before the end of"), (70, "it ends at byte")]
    {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let ran = home.run(&["storage", "sync", "dumps"]);
        assert!(
            ran.code == 1 && ran.stdout.contains(what) && ran.stdout.contains("not complete"),
            "{cut}: {}",
            ran.stdout
        );
        assert_eq!(home.ok(&["backup", "show", "plain.archive"])["state"], "incomplete", "{cut}");
        assert_eq!(home.run(&["restore", "plain.archive", "--to", "copy", "--yes", "--wait"]).code, 4, "{cut}");
    }
    // Two of them in one file, and one of another version.
    std::fs::write(&file, [&whole[..], &whole[..]].concat()).unwrap();
    let report = home.said(&["storage", "sync", "dumps"]);
    assert!(report["refused"].to_string().contains("a second archive begins at byte"), "{report}");
    let version = whole.windows(3).position(|w| w == b"0.1").unwrap();
    let mut other = whole.clone();
    other[version + 2] = b'7';
    std::fs::write(&file, &other).unwrap();
    let report = home.said(&["storage", "sync", "dumps"]);
    assert!(report["refused"].to_string().contains("format version 0.7"), "{report}");
    // As it was.
    std::fs::write(&file, &whole).unwrap();
    home.ok(&["storage", "sync", "dumps"]);
    assert_eq!(home.ok(&["backup", "verify", "plain.archive"])["state"], "succeeded");

    // Damage to what is compressed.
    let file = home.storage().join("oplog.archive.gz");
    let mut zipped = std::fs::read(&file).unwrap();
    let at = zipped.len() / 2;
    zipped[at] ^= 0x10;
    std::fs::write(&file, &zipped).unwrap();
    assert_eq!(home.said(&["backup", "verify", "oplog.archive.gz"])["state"], "failed");
    assert_eq!(home.run(&["restore", "oplog.archive.gz", "--to", "copy", "--yes", "--wait"]).code, 1);
    // What is gone is no longer good.
    std::fs::remove_file(&file).unwrap();
    let report = home.said(&["storage", "sync", "dumps"]);
    assert_eq!(report["missing"], json!(["oplog.archive.gz"]), "{report}");
}

/// Most of what is killed has not ended all its collections.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_was_interrupted_is_not_good() {
    let Some(tools) = Tools::find() else { return };
    let (source, target) = (replica_set().await, replica_set().await);
    large_data(&source.client().await.unwrap()).await;
    let home = home_with(&target);
    let mut child = tools
        .mongodump()
        .arg("--uri")
        .arg(source.uri())
        .arg("--archive")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // As `mongodump --archive > file`, of which the disk is full.
    let mut some = std::io::Read::take(child.stdout.take().unwrap(), 20_000_000);
    let mut file = std::fs::File::create(home.storage().join("cut.archive")).unwrap();
    std::io::copy(&mut some, &mut file).unwrap();
    drop(some);
    let _ = child.wait();
    let report = home.said(&["storage", "sync", "dumps"]);
    let unreadable = report["unreadable"].to_string();
    assert!(unreadable.contains("cut.archive") && unreadable.contains("before the end of"), "{report}");
    assert_eq!(home.ok(&["backup", "list"]), json!([]));
}

/// What lies in a bucket, read in ranges of it.
#[tokio::test(flavor = "multi_thread")]
async fn archives_in_a_bucket() {
    let (server, target) = (S3Server::start().await, replica_set().await);
    let client = target.client().await.unwrap();
    let home = Home::new();
    home.add_service("copy", &target.uri());
    home.add_s3("bucket", server.address, BUCKET, SECRET_KEY);
    std::fs::create_dir_all(server.objects().join("dumps")).unwrap();
    for name in ["plain.archive", "oplog.archive.gz"] {
        std::fs::copy(fixture().join(name), server.objects().join("dumps").join(name)).unwrap();
    }
    let report = home.ok(&["storage", "sync", "bucket"]);
    assert_eq!(added(&report), ["dumps/oplog.archive.gz", "dumps/plain.archive"], "{report}");
    for name in ["dumps/oplog.archive.gz", "dumps/plain.archive"] {
        assert_eq!(home.ok(&["backup", "verify", name])["state"], "succeeded");
        let found = restored(&home, &client, name, &[]).await;
        assert_eq!((found.len(), found["shop.items"].documents), (5, 40), "{name}");
    }
    home.ok(&["backup", "delete", "dumps/plain.archive", "--foreign", "--yes"]);
    assert!(!server.objects().join("dumps/plain.archive").exists());
    assert_eq!(home.ok(&["storage", "check", "bucket"])["backups"], 1);
}
