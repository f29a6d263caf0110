//! Storage folders that are mounts: not mounted, unmounted under the work, read-only, of a share that tells no cases apart. Each
//! is a real mount, in a process of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongokeep::error::ErrorKind;
use mongokeep::sandbox::ReplicaSet;
use mongokeep::storage::filesystem::mark::MARK;
use mongokeep::storage::filesystem::{Filesystem, write_mark};
use mongokeep::storage::{ObjectWriter, PutMode, Storage, read_all};

use crate::support::mounts::{carry, disk, inside, mount};
use crate::support::objects::key;
use crate::support::program::{Home, fill, replica_set, until};

fn text(body: &'static str) -> Bytes {
    Bytes::from_static(body.as_bytes())
}

fn names(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn home_with(service: &str, path: &Path) -> Home {
    let home = Home::new();
    home.add_service("src", service);
    home.ok(&["storage", "add", "disk", "--type", "filesystem", "--path", path.to_str().unwrap()]);
    home
}

fn backup(home: &Home, name: &str) -> crate::support::program::Ran {
    home.run(&["backup", "create", "--service", "src", "--storage", "disk", "--name", name, "--wait"])
}

/// A replica set of which a disk below `folder` holds the backup `one`, the disk, and the home that made it.
async fn backed_up(folder: &Path) -> (ReplicaSet, PathBuf, Home) {
    let set = replica_set().await;
    fill(&set, "shop", 50).await;
    let at = folder.join("disk");
    disk(&at);
    let home = home_with(&set.uri(), &at);
    assert_eq!(backup(&home, "one").code, 0);
    (set, at, home)
}

/// What a job that failed says, and its hint.
fn said(home: &Home, ran: &crate::support::program::Ran) -> String {
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    let jobs = home.ok(&["job", "list"]);
    format!("{}{}{jobs}", ran.stdout, ran.stderr)
}

/// The empty folder that a disk is mounted at is not that disk, and nothing that was in it is given up for lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_not_mounted_is_not_written_to() {
    let Some(folder) = inside("storage::mounts::a_disk_that_is_not_mounted_is_not_written_to") else { return };
    let (set, at, home) = backed_up(&folder).await;
    let elsewhere = folder.join("elsewhere");
    assert!(at.join(MARK).exists());

    carry(&at, &elsewhere);
    let told = said(&home, &backup(&home, "two"));
    assert!(told.contains("is its disk mounted?"), "{told}");
    for args in [&["storage", "sync", "disk"][..], &["storage", "check", "disk"], &["storage", "test", "disk"]] {
        let ran = home.run(args);
        assert!(ran.code != 0, "{args:?}: {}", ran.stdout);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(told.contains("is its disk mounted?"), "{args:?}: {told}");
    }
    let told = said(&home, &home.run(&["backup", "verify", "one"]));
    assert!(told.contains("is its disk mounted?"), "{told}");
    assert_ne!(home.run(&["backup", "delete", "one", "--yes"]).code, 0, "it cannot be deleted now");
    assert_eq!(names(&at), [] as [PathBuf; 0], "nothing is written below the mount point");

    carry(&elsewhere, &at);
    assert_eq!(home.ok(&["storage", "sync", "disk"])["missing"], serde_json::json!([]));
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
    assert_eq!(backup(&home, "three").code, 0);

    // Another disk is none either, until a person says so.
    carry(&at, &elsewhere);
    disk(&at);
    let told = said(&home, &backup(&home, "four"));
    assert!(told.contains("is its disk mounted?") && told.contains(MARK), "{told}");
    std::fs::write(at.join(MARK), "").unwrap();
    assert_eq!(backup(&home, "five").code, 0);
    assert_eq!(
        std::fs::read_to_string(at.join(MARK)).unwrap(),
        std::fs::read_to_string(elsewhere.join(MARK)).unwrap(),
        "both are this storage now, in turn"
    );
    set.stop().await.unwrap();
}

/// A job goes on where it began, and what never ends looks each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_unmounted_under_the_work_stays_the_place_of_it() {
    let name = "storage::mounts::a_disk_that_is_unmounted_under_the_work_stays_the_place_of_it";
    let Some(folder) = inside(name) else { return };
    let set = replica_set().await;
    fill(&set, "shop", 3_000).await;
    let (at, elsewhere) = (folder.join("disk"), folder.join("elsewhere"));
    disk(&at);
    let home = home_with(&set.uri(), &at);
    home.ok(&["settings", "set", "backup.bandwidth_limit", "10000"]);
    let args = ["backup", "create", "--service", "src", "--storage", "disk", "--name", "one"];
    let id = home.ok(&args)["id"].as_i64().unwrap();
    until("the backup writes", || at.join("src/backups/one/attempt.json").exists());
    carry(&at, &elsewhere);
    assert!(!elsewhere.join("src/backups/one/manifest.json").exists(), "the backup ended before the disk went");
    home.ok(&["settings", "set", "backup.bandwidth_limit", "0"]);
    until("the backup has ended", || home.job(id)["state"] == "succeeded");
    assert_eq!(names(&at), [] as [PathBuf; 0], "nothing is written below the mount point");
    assert!(elsewhere.join("src/backups/one/manifest.json").exists());
    set.stop().await.unwrap();

    // Of what is recorded for ever, each call goes to what is mounted then.
    let (at, elsewhere) = (folder.join("other"), folder.join("other, elsewhere"));
    disk(&at);
    write_mark(&at, None).unwrap();
    let storage = Filesystem::unheld(&at);
    storage.put(&key("slices/1"), text("x"), PutMode::CreateNew).await.unwrap();
    carry(&at, &elsewhere);
    for error in [
        storage.put(&key("slices/2"), text("x"), PutMode::CreateNew).await.err(),
        storage.upload(&key("slices/2")).await.err(),
        storage.list(None).await.err(),
        storage.stat(&key("slices/1")).await.err(),
    ] {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    }
    assert_eq!(names(&at), [] as [PathBuf; 0]);
    carry(&elsewhere, &at);
    storage.put(&key("slices/2"), text("x"), PutMode::CreateNew).await.unwrap();
    let listed: Vec<_> = storage.list(None).await.unwrap().try_collect().await.unwrap();
    assert_eq!(listed.len(), 2, "the mark is no object: {listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_read_only_is_told_and_read() {
    let Some(at) = inside("storage::mounts::a_disk_that_is_read_only_is_told_and_read") else { return };
    let (set, at, home) = backed_up(&at).await;
    mount(&["-o", "remount,ro", at.to_str().unwrap()]);
    let told = said(&home, &backup(&home, "two"));
    assert!(told.contains("mounted read-only"), "{told}");
    let ran = home.run(&["storage", "test", "disk"]);
    assert!(ran.code != 0 && ran.stdout.contains("mounted read-only"), "{}", ran.stdout);
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
    assert_ne!(home.run(&["backup", "delete", "one", "--yes"]).code, 0);
    assert_eq!(home.ok(&["storage", "sync", "disk"])["unchanged"], 1);
    mount(&["-o", "remount,rw", at.to_str().unwrap()]);
    assert_eq!(backup(&home, "three").code, 0);
    set.stop().await.unwrap();
}

/// A disk that fills up while a backup is written to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_fails_the_backup_and_keeps_the_others() {
    let Some(at) = inside("storage::mounts::a_disk_that_fills_up_fails_the_backup_and_keeps_the_others") else {
        return;
    };
    let (set, at, home) = backed_up(&at).await;
    let before = names(&at.join("src/backups")).len();
    // More than is left, whether that is found before or while it is written.
    mount(&["-o", "remount,size=8m", at.to_str().unwrap()]);
    let client = set.client().await.unwrap();
    let mut noise = vec![0; 1 << 20];
    for n in 0..12 {
        blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut noise);
        let data = mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: noise.clone() };
        client.database("shop").collection::<Document>("noise").insert_one(doc! {"data": data}).await.unwrap();
    }
    let told = said(&home, &backup(&home, "two"));
    assert!(told.contains("the disk is full") || told.contains("is free for"), "{told}");
    assert_eq!(names(&at.join("src/backups")).len(), before, "nothing is left of it");
    assert_eq!(home.ok(&["backup", "verify", "one"])["state"], "succeeded");
    set.stop().await.unwrap();
}

#[cfg(target_os = "linux")]
mod of_a_share {
    use super::*;
    use crate::support::share::Share;

    /// Mounts one, or says why not.
    fn share(name: &str, at: &Path) -> Option<Share> {
        match Share::mount(at) {
            Ok(share) => Some(share),
            Err(e) => {
                let why = format!("SKIPPED {name}: no share can be mounted through FUSE: {e}");
                let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("\n{why}\n"));
                None
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_differs_only_in_case_is_refused_by_name() {
        let name = "storage::mounts::of_a_share::what_differs_only_in_case_is_refused_by_name";
        let Some(folder) = inside(name) else { return };
        let at = folder.join("share");
        let Some(_share) = share(name, &at) else { return };
        let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(&at));
        let steps = mongokeep::storage::test(&*storage, &|_| {}).await;
        assert!(steps.iter().all(|step| step.ok), "{steps:?}");
        let find = steps.iter().find(|step| step.id == "find").unwrap();
        assert!(find.detail.contains("differ only in case"), "{find:?}");

        assert!(!storage.tells_cases_apart().await.unwrap());
        storage.put(&key("a/Orders"), text("first"), PutMode::Overwrite).await.unwrap();
        storage.put(&key("a/Orders"), text("other"), PutMode::Overwrite).await.unwrap();
        storage.put(&key("b/Folder/x"), text("first"), PutMode::CreateNew).await.unwrap();
        let big = async |at: &str| {
            let mut writer = ObjectWriter::new(Arc::clone(&storage), key(at));
            writer.write(vec![7; 3 << 20].into()).await?;
            writer.finish().await.map(drop)
        };
        for error in [
            storage.put(&key("a/orders"), text("x"), PutMode::Overwrite).await.err(),
            storage.put(&key("a/ORDERS"), text("x"), PutMode::CreateNew).await.err(),
            storage.put(&key("A/other"), text("x"), PutMode::Overwrite).await.err(),
            storage.put(&key("b/folder/y"), text("x"), PutMode::Overwrite).await.err(),
            big("a/orderS").await.err(),
        ] {
            let error = error.unwrap();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
            assert!(error.to_string().contains("differ only in case"), "{error:?}");
        }
        let error = storage.put(&key("a/Orders"), text("x"), PutMode::CreateNew).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
        assert_eq!(read_all(&*storage, &key("a/Orders"), 10).await.unwrap(), "other");
        big("a/Large").await.unwrap();
        big("a/Large").await.unwrap();
        // Both at the same moment: one of them.
        for round in 0..10 {
            let (one, two) = (key(&format!("race/{round}/Name")), key(&format!("race/{round}/name")));
            let (one, two) = tokio::join!(
                storage.put(&one, text("one"), PutMode::Overwrite),
                storage.put(&two, text("two"), PutMode::Overwrite),
            );
            assert!(one.is_ok() != two.is_ok() || (one.is_err() && two.is_err()), "{one:?} {two:?}");
        }
        let listed: Vec<_> = storage.list(Some(&key("a"))).await.unwrap().try_collect().await.unwrap();
        let listed: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(listed, ["a/Large", "a/Orders"], "no temporary file is left");
    }

    /// Two collections that would be one are refused before anything is written, and without one of them all works.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_backup_of_names_that_differ_only_in_case_is_refused_beforehand() {
        let name = "storage::mounts::of_a_share::a_backup_of_names_that_differ_only_in_case_is_refused_beforehand";
        let Some(folder) = inside(name) else { return };
        let at = folder.join("share");
        let Some(_share) = share(name, &at) else { return };
        let set = replica_set().await;
        fill(&set, "shop", 50).await;
        let client = set.client().await.unwrap();
        for collection in ["Orders", "orders"] {
            let collection = client.database("shop").collection::<Document>(collection);
            collection.insert_one(doc! {"name": collection.name()}).await.unwrap();
        }
        let home = home_with(&set.uri(), &at);
        assert_eq!(home.ok(&["storage", "test", "disk"])["ok"], true);
        let told = said(&home, &backup(&home, "one"));
        assert!(told.contains("differ only in case") && told.contains("shop.Orders"), "{told}");
        assert!(!at.join("src/backups/one/data").exists(), "nothing was written");
        let create =
            ["backup", "create", "--service", "src", "--storage", "disk", "--exclude", "shop.orders", "--wait"];
        home.ok(&[&create[..], &["--name", "A"]].concat());
        assert_eq!(home.ok(&["backup", "verify", "A"])["state"], "succeeded");
        // Of the backups themselves, too.
        let ran = home.run(&[&create[..], &["--name", "a"]].concat());
        assert_ne!(ran.code, 0, "{}", ran.stdout);
        assert_eq!(home.ok(&["backup", "verify", "A"])["state"], "succeeded");
        let restored = ["restore", "A", "--to", "src", "--rename", "shop=back", "--yes", "--wait"];
        home.ok(&restored);
        let back = client.database("back").collection::<Document>("Orders");
        assert_eq!(back.count_documents(doc! {}).await.unwrap(), 1);
        home.ok(&["backup", "delete", "A", "--yes"]);
        set.stop().await.unwrap();
    }
}
