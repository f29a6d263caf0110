//! The store file when it is new, newer, damaged, read-only, or opened by many at once: nothing is lost or recreated.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mongokeep::client::{Client, Values};
use mongokeep::config::Home;
use mongokeep::domain::secret::Secret;
use mongokeep::domain::service::ServiceSpec;
use mongokeep::domain::storage::TestStep;
use mongokeep::error::ErrorKind;
use mongokeep::store::{Access, Store};

const PASSWORD: &str = "hunter2-is-secret";

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::below(&dir.path().join("home"));
    (dir, home)
}

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect()
}

fn service(client: &Client) {
    let uri = format!("mongodb://user:{PASSWORD}@127.0.0.1:1/?replicaSet=rs0");
    client.add_service(&values(&[("name", "a"), ("uri", &uri)])).unwrap();
}

fn open_error(home: &Home, read_only: bool) -> mongokeep::error::Error {
    Client::open(home, read_only).err().expect("it must not open")
}

#[test]
fn a_fresh_store_is_private_and_whole() {
    let (_dir, home) = home();
    let client = Client::open(&home, false).unwrap();
    service(&client);
    for entry in fs::read_dir(&home.data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
    assert_eq!(fs::metadata(&home.data).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(client.services().unwrap()[0].uri, "mongodb://user:***@127.0.0.1:1/?replicaSet=rs0");
}

#[test]
fn no_file_holds_the_password() {
    let (dir, home) = home();
    let client = Client::open(&home, false).unwrap();
    service(&client);
    client
        .add_storage(&values(&[
            ("name", "s"),
            ("type", "s3"),
            ("bucket", "bucket"),
            ("access_key_id", "AKIA"),
            ("secret_access_key", PASSWORD),
        ]))
        .unwrap();
    client.edit_service("a", &values(&[("uri", &format!("mongodb://user:{PASSWORD}@127.0.0.1:2/"))])).unwrap();
    let mut seen = 0;
    each_file(dir.path(), &mut |path, bytes| {
        seen += 1;
        assert!(!bytes.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes()), "{}", path.display());
    });
    assert!(seen >= 2);
    // It is kept all the same.
    let store = Store::open(&home.store_file(), &home.key_file(), Access::Read).unwrap();
    assert!(store.service("a").unwrap().uri.expose().contains(PASSWORD));
}

fn each_file(at: &Path, look: &mut dyn FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, look) } else { look(&path, &fs::read(&path).unwrap()) }
    }
}

#[test]
fn many_processes_make_one_store() {
    let (_dir, home) = home();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let openers: Vec<_> = (0..8)
            .map(|i| {
                let home = &home;
                scope.spawn(move || {
                    home.create().unwrap();
                    let store = Store::open(&home.store_file(), &home.key_file(), Access::Write).unwrap();
                    let uri = Secret::new("mongodb://h");
                    store.add_service(&ServiceSpec::at(&format!("s{i}"), uri.expose())).unwrap();
                    store.home_id().unwrap()
                })
            })
            .collect();
        openers.into_iter().map(|o| o.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 32));
    assert_eq!(Client::open(&home, false).unwrap().services().unwrap().len(), 8);
}

#[test]
fn a_newer_store_is_left_alone() {
    let (_dir, home) = home();
    service(&Client::open(&home, false).unwrap());
    let file = rusqlite::Connection::open(home.store_file()).unwrap();
    let version: i64 = file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    file.pragma_update(None, "user_version", version + 1).unwrap();
    for read_only in [false, true] {
        let error = open_error(&home, read_only);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.full().contains("newer mongokeep"), "{error}");
    }
    file.pragma_update(None, "user_version", version).unwrap();
    assert_eq!(Client::open(&home, false).unwrap().services().unwrap().len(), 1);
}

#[test]
fn a_damaged_store_is_named_and_never_replaced() {
    for damage in ["head", "empty", "foreign", "middle"] {
        let (_dir, home) = home();
        let client = Client::open(&home, false).unwrap();
        service(&client);
        drop(client);
        let file = home.store_file();
        let mut bytes = fs::read(&file).unwrap();
        match damage {
            "head" => bytes[..64].fill(b'x'),
            "empty" => bytes.clear(),
            // The root page of the tables' list.
            "middle" => bytes[100..400].fill(0xff),
            _ => {
                fs::remove_file(&file).unwrap();
                rusqlite::Connection::open(&file)
                    .unwrap()
                    .execute_batch("CREATE TABLE x (y); INSERT INTO x VALUES (1)")
                    .unwrap();
                bytes = fs::read(&file).unwrap();
            }
        }
        fs::write(&file, &bytes).unwrap();
        for read_only in [false, true] {
            let error = open_error(&home, read_only);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}: {error}");
            assert!(error.hint_text().unwrap().contains("storage sync"), "{damage}: {error:?}");
        }
        let now = fs::read(&file).unwrap();
        assert_eq!(now.len(), bytes.len(), "{damage}");
        // WAL mode is noted in two bytes of a sound header; nothing else may change.
        let changed = now.iter().zip(&bytes).filter(|(a, b)| a != b).count();
        assert!(damage == "foreign" || changed == 0, "{damage}: {changed} bytes changed");
    }
}

#[test]
fn a_lost_log_is_not_covered_by_a_new_store() {
    let (_dir, home) = home();
    service(&Client::open(&home, false).unwrap());
    fs::remove_file(home.store_file()).unwrap();
    fs::write(home.data.join("mongokeep.db-wal"), "x").unwrap();
    let error = open_error(&home, false);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!home.store_file().exists());
}

#[test]
fn read_only_reads_and_the_store_itself_refuses_the_rest() {
    let (_dir, home) = home();
    assert_eq!(open_error(&home, true).kind(), ErrorKind::NotFound);
    assert!(!home.data.exists(), "looking created something");
    service(&Client::open(&home, false).unwrap());
    let client = Client::open(&home, true).unwrap();
    assert_eq!(client.services().unwrap().len(), 1);
    assert_eq!(client.remove_service("a").unwrap_err().kind(), ErrorKind::Denied);
    let store = Store::open(&home.store_file(), &home.key_file(), Access::Read).unwrap();
    assert_eq!(store.remove_service("a").unwrap_err().kind(), ErrorKind::Denied);
    // Light writes too, which only SQLite stands in the way of.
    assert!(store.append_log(1, 1, &[(mongokeep::domain::job::LogLevel::Info, "x".into())]).is_err());
    assert_eq!(Client::open(&home, false).unwrap().services().unwrap().len(), 1);
}

#[test]
fn a_lost_key_costs_secrets_only() {
    let (_dir, home) = home();
    let client = Client::open(&home, false).unwrap();
    service(&client);
    fs::remove_file(home.key_file()).unwrap();
    assert_eq!(client.services().unwrap().len(), 1, "lists need no key");
    let store = Store::open(&home.store_file(), &home.key_file(), Access::Write).unwrap();
    let error = store.service("a").unwrap_err();
    assert!(
        error.full().contains("missing") && error.hint_text().unwrap().contains("mongokeep service edit a"),
        "{error:?}"
    );
    client.edit_service("a", &values(&[("uri", "mongodb://h")])).unwrap();
    assert_eq!(store.service("a").unwrap().uri.expose(), "mongodb://h");
}

#[test]
fn everybody_sees_that_something_changed() {
    let (_dir, home) = home();
    let (one, two) = (Client::open(&home, false).unwrap(), Client::open(&home, false).unwrap());
    let (a, b) = (one.data_version().unwrap(), two.data_version().unwrap());
    assert_eq!((one.data_version().unwrap(), two.data_version().unwrap()), (a, b));
    service(&one);
    assert_ne!(one.data_version().unwrap(), a);
    assert_ne!(two.data_version().unwrap(), b);
}

/// The store is busy until something else on the same thread lets go of it.
#[tokio::test]
async fn a_busy_store_holds_up_nothing_else() {
    let (dir, home) = home();
    let client = Client::open(&home, false).unwrap();
    let path = dir.path().join("storage");
    client.add_storage(&values(&[("name", "t"), ("type", "filesystem"), ("path", path.to_str().unwrap())])).unwrap();
    let file = rusqlite::Connection::open(home.store_file()).unwrap();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (told, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let step = |step: &TestStep| told.send(step.id.clone()).unwrap();
    let released = async {
        while steps.recv().await.unwrap() != "delete" {}
        file.execute_batch("COMMIT").unwrap();
    };
    let (tested, ()) = tokio::join!(client.test_storage("t", &step), released);
    assert!(tested.unwrap().iter().all(|step| step.ok));
    assert!(client.storage("t").unwrap().last_test_at.is_some());
}

#[test]
fn two_edits_of_a_service_at_once_keep_what_both_changed() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::below(dir.path());
    home.create().unwrap();
    let open = || Store::open(&home.store_file(), &home.key_file(), Access::Write).unwrap();
    let store = open();
    store.add_service(&ServiceSpec::at("a", "mongodb://h")).unwrap();
    for round in 0..20 {
        let (label, hours) = (format!("c{round}"), format!("0{}:00-18:00", round % 10));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let change = |spec: &mut ServiceSpec| {
                    spec.cluster = Some(label.clone());
                    Ok(())
                };
                open().edit_service("a", change).unwrap();
            });
            scope.spawn(|| {
                let change = |spec: &mut ServiceSpec| {
                    spec.production_hours = Some(hours.clone());
                    Ok(())
                };
                open().edit_service("a", change).unwrap();
            });
        });
        let row = store.service_row("a").unwrap();
        assert_eq!((row.cluster, row.production_hours), (Some(label), Some(hours)));
    }
    assert_eq!(store.service("a").unwrap().uri.expose(), "mongodb://h", "nobody changed it");
}
