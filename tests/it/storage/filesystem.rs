//! What only a folder of a disk can do wrong: links, missing mounts, full disks, calls that are given up.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use mongokeep::error::ErrorKind;
use mongokeep::storage::filesystem::Filesystem;
use mongokeep::storage::{Key, ObjectWriter, PutMode, Storage, read_all};

use crate::support::objects::key;

fn text(body: &'static str) -> Bytes {
    Bytes::from_static(body.as_bytes())
}

/// Every path below `folder`, folders too.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(tree(&path));
        }
        found.push(path);
    }
    found
}

#[tokio::test]
async fn only_the_owner_can_read() {
    let root = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(root.path()));
    storage.put(&key("a/b/put"), text("x"), PutMode::Overwrite).await.unwrap();
    storage.put(&key("a/b/new"), text("x"), PutMode::CreateNew).await.unwrap();
    let mut writer = ObjectWriter::new(Arc::clone(&storage), key("a/b/big"));
    writer.write(vec![7; 3 << 20].into()).await.unwrap();
    writer.finish().await.unwrap();
    let found = tree(root.path());
    assert_eq!(found.len(), 5, "{found:?}");
    for path in found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, expected, "{path:?}");
    }
}

#[tokio::test]
async fn a_missing_root_is_refused_and_not_created() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("mnt/backups");
    let storage = Filesystem::new(&root);
    let a = key("a");
    let errors = [
        storage.put(&a, text("x"), PutMode::Overwrite).await.err(),
        storage.upload(&a).await.err(),
        storage.get(&a, None).await.err(),
        storage.list(None).await.err(),
        storage.list_folders(None).await.err(),
        storage.stat(&a).await.err(),
        storage.delete(&a).await.err(),
        storage.free_space().await.err(),
    ];
    for error in errors {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert!(error.to_string().contains(root.to_str().unwrap()), "{error:?}");
        let hint = error.hint_text().unwrap();
        assert!(hint.contains("mkdir") && hint.contains("mount"), "{hint}");
    }
    assert!(tree(above.path()).is_empty());

    let steps = mongokeep::storage::test(&storage, &|_| {}).await;
    assert!(steps.len() == 1 && !steps[0].ok && steps[0].detail.contains("mkdir"), "{steps:?}");

    std::fs::write(above.path().join("file"), "x").unwrap();
    let error = Filesystem::new(&above.path().join("file")).stat(&a).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}

#[tokio::test]
async fn a_root_that_is_replaced_is_not_filled_instead() {
    let above = tempfile::tempdir().unwrap();
    let (root, moved) = (above.path().join("root"), above.path().join("moved"));
    std::fs::create_dir(&root).unwrap();
    let storage = Filesystem::new(&root);
    storage.put(&key("a/first"), text("x"), PutMode::Overwrite).await.unwrap();
    // As an unmounted disk does: another, empty folder shows under the same path.
    std::fs::rename(&root, &moved).unwrap();
    std::fs::create_dir(&root).unwrap();
    storage.put(&key("a/second"), text("x"), PutMode::Overwrite).await.unwrap();
    assert!(tree(&root).is_empty());
    assert!(moved.join("a/first").exists() && moved.join("a/second").exists());
}

#[tokio::test]
async fn links_are_not_followed_out_of_the_root() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("precious"), "precious").unwrap();
    symlink(outside.path(), root.path().join("folder")).unwrap();
    symlink(outside.path().join("precious"), root.path().join("file")).unwrap();
    let storage = Filesystem::new(root.path());

    for at in ["folder/precious", "folder/new/x"] {
        let error = storage.put(&key(at), text("x"), PutMode::Overwrite).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(error.to_string().contains("symbolic link"), "{error:?}");
        assert!(storage.upload(&key(at)).await.is_err());
        assert!(storage.delete(&key(at)).await.is_err());
        assert!(storage.get(&key(at), None).await.is_err());
    }
    assert!(storage.sweep(&key("folder")).await.is_err());
    // A link where an object should be is no object: it is replaced by one, not written through.
    assert!(storage.stat(&key("file")).await.unwrap().is_none());
    assert_eq!(storage.get(&key("file"), None).await.err().unwrap().kind(), ErrorKind::NotFound);
    storage.delete(&key("file")).await.unwrap();
    let error = storage.put(&key("file"), text("x"), PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(storage.list(None).await.unwrap().try_collect::<Vec<_>>().await.unwrap().is_empty());
    storage.put(&key("file"), text("x"), PutMode::Overwrite).await.unwrap();

    assert_eq!(std::fs::read(outside.path().join("precious")).unwrap(), b"precious");
    assert_eq!(tree(outside.path()).len(), 1);
    assert_eq!(read_all(&storage, &key("file"), 10).await.unwrap(), "x");

    // The root itself may be a link: a person chose it.
    let link = outside.path().join("link");
    symlink(root.path(), &link).unwrap();
    assert_eq!(read_all(&Filesystem::new(&link), &key("file"), 10).await.unwrap(), "x");
}

#[tokio::test]
async fn files_that_are_not_ours_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let storage = Filesystem::new(root.path());
    storage.put(&key("a/x"), text("x"), PutMode::Overwrite).await.unwrap();
    std::fs::write(root.path().join("a/line\nbreak"), "x").unwrap();
    assert!(Command::new("mkfifo").arg(root.path().join("a/pipe")).status().unwrap().success());
    std::fs::create_dir(root.path().join("empty")).unwrap();
    let found: Vec<_> = storage.list(None).await.unwrap().try_collect().await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(storage.list_folders(None).await.unwrap(), ["a"]);
    // Reading a pipe must not wait for its writer.
    assert_eq!(storage.get(&key("a/pipe"), None).await.err().unwrap().kind(), ErrorKind::NotFound);
    storage.delete(&key("a/pipe")).await.unwrap();
    storage.delete(&key("a/x")).await.unwrap();
    assert_eq!(tree(&root.path().join("a")).len(), 2);
}

#[tokio::test]
async fn a_key_is_not_a_file_and_a_folder() {
    let root = tempfile::tempdir().unwrap();
    let storage = Filesystem::new(root.path());
    storage.put(&key("a"), text("x"), PutMode::Overwrite).await.unwrap();
    storage.put(&key("b/c"), text("x"), PutMode::Overwrite).await.unwrap();
    for (at, mode) in [
        ("a/b", PutMode::Overwrite),
        ("b", PutMode::Overwrite),
        ("b", PutMode::CreateNew),
        ("a/b/c", PutMode::CreateNew),
    ] {
        let error = storage.put(&key(at), text("y"), mode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{at}: {error:?}");
    }
    assert_eq!(tree(root.path()).len(), 3, "no temporary file is left");
    let reserved = key("x/.mongokeep-tmp-x");
    assert_eq!(storage.put(&reserved, text("x"), PutMode::Overwrite).await.unwrap_err().kind(), ErrorKind::Invalid);
    // As long a name as a disk takes.
    let long = key(&format!("long/{}", "x".repeat(255)));
    storage.put(&long, text("x"), PutMode::CreateNew).await.unwrap();
    assert_eq!(read_all(&storage, &long, 10).await.unwrap(), "x");
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let storage = Filesystem::new(root.path());
    let mut writer = ObjectWriter::new(Arc::new(Filesystem::new(root.path())), key("a"));
    writer.write(vec![7; 20 << 20].into()).await.unwrap();
    writer.finish().await.unwrap();
    let stream = storage.get(&key("a"), None).await.unwrap();
    std::fs::OpenOptions::new().write(true).open(root.path().join("a")).unwrap().set_len(15 << 20).unwrap();
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_makes_nothing_visible() {
    let root = tempfile::tempdir().unwrap();
    let storage = Filesystem::new(root.path());
    for round in 0..100 {
        let at = key(&format!("folder-{round}/object"));
        let body = Bytes::from(vec![7; 200_000]);
        let mut put = storage.put(&at, body, PutMode::Overwrite);
        // Polled once, the call is on its way in a thread; some are then dropped early, some late.
        drop((&mut put).now_or_never());
        for _ in 0..round % 20 {
            tokio::task::yield_now().await;
        }
        drop(put);
        let mut upload = storage.upload(&at);
        drop((&mut upload).now_or_never());
        for _ in 0..round % 10 {
            tokio::task::yield_now().await;
        }
        drop(upload);
        let mut writer = ObjectWriter::new(Arc::new(Filesystem::new(root.path())), at.clone());
        writer.write(vec![7; 3 << 20].into()).await.unwrap();
        drop(writer);
        let seen = storage.stat(&at).await.unwrap().is_some();
        storage.delete(&at).await.unwrap();
        let after = storage.stat(&at).await.unwrap().is_some();
        assert!(!after, "round {round}: it came back after it was deleted (seen before: {seen})");
    }
    // The threads remove what they began; they are not waited for by anybody else.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::fs::read_dir(root.path()).unwrap().next().is_some() {
        assert!(std::time::Instant::now() < deadline, "something is left");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn deletes_and_writes_of_one_folder_do_not_collide() {
    let root = tempfile::tempdir().unwrap();
    let storage = Arc::new(Filesystem::new(root.path()));
    let tasks = (0..4).map(|n| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            for _ in 0..100 {
                // The folders are shared, and empty again and again.
                let at = key(&format!("shared/folder/{n}"));
                storage.put(&at, text("x"), PutMode::Overwrite).await.unwrap();
                storage.delete(&at).await.unwrap();
            }
        })
    });
    for result in futures_util::future::join_all(tasks).await {
        result.unwrap();
    }
    assert!(tree(root.path()).is_empty());
}

#[tokio::test]
async fn free_space_is_told() {
    let root = tempfile::tempdir().unwrap();
    let free = Filesystem::new(root.path()).free_space().await.unwrap().unwrap();
    assert!(free > 0);
}

#[tokio::test]
async fn a_folder_without_write_access_is_told() {
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let outcome = Filesystem::new(root.path()).put(&key("a/b"), text("x"), PutMode::Overwrite).await;
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    if root.path().metadata().unwrap().uid() == 0 && outcome.is_ok() {
        // Nothing is forbidden to root.
        return;
    }
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.hint_text().unwrap().contains("read and write"), "{error:?}");
}

/// What a disk of another system, or a share of one, makes of names: no mount that a test could make does it everywhere.
struct Caseless(Filesystem);

fn lower(key: &Key) -> Key {
    Key::new(key.as_str().to_ascii_lowercase()).unwrap()
}

#[async_trait::async_trait]
impl Storage for Caseless {
    fn place(&self) -> String {
        self.0.place()
    }

    fn part_size(&self) -> usize {
        self.0.part_size()
    }

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> mongokeep::error::Result<()> {
        self.0.put(&lower(key), body, mode).await
    }

    async fn upload(&self, key: &Key) -> mongokeep::error::Result<Box<dyn mongokeep::storage::Upload>> {
        self.0.upload(&lower(key)).await
    }

    async fn get(
        &self,
        key: &Key,
        range: Option<std::ops::Range<u64>>,
    ) -> mongokeep::error::Result<futures_util::stream::BoxStream<'static, mongokeep::error::Result<Bytes>>> {
        self.0.get(&lower(key), range).await
    }

    async fn stat(&self, key: &Key) -> mongokeep::error::Result<Option<mongokeep::storage::ObjectInfo>> {
        self.0.stat(&lower(key)).await
    }

    async fn list(
        &self,
        prefix: Option<&Key>,
    ) -> mongokeep::error::Result<
        futures_util::stream::BoxStream<'static, mongokeep::error::Result<mongokeep::storage::ObjectInfo>>,
    > {
        self.0.list(prefix).await
    }

    async fn list_level(&self, prefix: Option<&Key>) -> mongokeep::error::Result<mongokeep::storage::Level> {
        self.0.list_level(prefix).await
    }

    async fn delete(&self, key: &Key) -> mongokeep::error::Result<()> {
        self.0.delete(&lower(key)).await
    }

    async fn sweep_older(&self, prefix: &Key, age: std::time::Duration) -> mongokeep::error::Result<u64> {
        self.0.sweep_older(prefix, age).await
    }

    async fn free_space(&self) -> mongokeep::error::Result<Option<u64>> {
        self.0.free_space().await
    }
}

#[tokio::test]
async fn a_disk_that_does_not_tell_cases_apart_fails_the_test() {
    let folder = tempfile::tempdir().unwrap();
    let steps = mongokeep::storage::test(&Filesystem::new(folder.path()), &|_| {}).await;
    assert!(steps.iter().all(|step| step.ok), "{steps:?}");
    let steps = mongokeep::storage::test(&Caseless(Filesystem::new(folder.path())), &|_| {}).await;
    let last = steps.last().unwrap();
    assert!(!last.ok && last.id == "find" && last.detail.contains("differ only in case"), "{steps:?}");
    assert_eq!(tree(folder.path()), [] as [PathBuf; 0], "the probes are gone");
}

/// The test below starts this one in a mount namespace of its own, where this folder is a disk of 4 MiB.
const SMALL_DISK: &str = "MONGOKEEP_TEST_SMALL_DISK";

#[tokio::test]
async fn a_full_disk_is_told_and_left_clean() {
    if let Ok(folder) = std::env::var(SMALL_DISK) {
        return fill(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let mut run = Command::new("unshare");
    // A user namespace lets anybody mount, where the system allows it; root needs none.
    let namespaces: &[&str] = if rustix::process::geteuid().is_root() { &["-m"] } else { &["-U", "-r", "-m"] };
    run.args(namespaces).args(["sh", "-c", script]).arg(folder.path()).arg(std::env::current_exe().unwrap());
    run.args(["--exact", "storage::filesystem::a_full_disk_is_told_and_left_clean", "--nocapture"])
        .env(SMALL_DISK, folder.path());
    let output = run.output();
    let told = match &output {
        Ok(output) => {
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        Err(e) => e.to_string(),
    };
    if !told.contains("running 1 test") {
        let why = format!("SKIPPED a_full_disk_is_told_and_left_clean: no small disk could be mounted: {told}");
        assert!(std::env::var("CI").is_err(), "{why}");
        eprintln!("{why}");
        return;
    }
    assert!(output.unwrap().status.success(), "{told}");
    assert!(told.contains("the small disk was full"), "{told}");
}

async fn fill(folder: &Path) {
    let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(folder));
    storage.put(&key("kept"), text("kept"), PutMode::Overwrite).await.unwrap();

    let mut writer = ObjectWriter::new(Arc::clone(&storage), key("a/big"));
    let mut outcome = Ok(());
    for _ in 0..20 {
        outcome = writer.write(vec![7; 1 << 20].into()).await;
        if outcome.is_err() {
            break;
        }
    }
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    assert!(error.to_string().contains("the disk is full, 0 B free"), "{error:?}");
    assert!(error.hint_text().unwrap().contains("delete old backups"), "{error:?}");
    writer.abort().await.unwrap();

    let error = storage.put(&key("a/whole"), vec![7; 8 << 20].into(), PutMode::Overwrite).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    assert_eq!(tree(folder), [folder.join("kept")], "nothing is left of what did not fit");
    assert_eq!(storage.free_space().await.unwrap().unwrap(), (4 << 20) - 4096);
    println!("the small disk was full");
}
