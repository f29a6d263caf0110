//! Encrypted storages, as scripts use them: proven, written to, read back with an identity and refused without one.

mod by_hand;
mod files;
mod moments;
mod storages;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use mongodb::bson::{Document, doc};
use mongokeep::sandbox::ReplicaSet;
use serde_json::json;

use crate::support;
use crate::support::command::{Home, Run, good, json_of, run};
use crate::support::compare;

/// An identity in a file, as `age-keygen` writes it.
struct Identity {
    file: PathBuf,
    recipient: String,
}

fn identity(dir: &Path, name: &str) -> Identity {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let file = dir.join(name);
    let secret = identity.to_string();
    fs::write(&file, format!("# created: today\n# public key: {recipient}\n{}\n", secret.expose_secret())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    Identity { file, recipient }
}

/// A home with the service `src` and the storage `safe`, whose objects go to `identity`.
fn home_of(set: &ReplicaSet, identity: &Identity) -> Home {
    let home = Home::new();
    assert_eq!(home.run_with(&["service", "add", "src", "--uri-file", "-"], &set.uri()).code, 0);
    add_storage(&home, &format!("--encrypt-to {} --identity-file {}", identity.recipient, identity.file.display()));
    home
}

fn add_storage(home: &Home, encryption: &str) {
    let folder = home.dir().join("safe");
    fs::create_dir_all(&folder).unwrap();
    good(home, &format!("storage add safe --type filesystem --path {} {encryption}", folder.display()));
}

/// The files of the storage, relative to it.
fn stored(home: &Home) -> Vec<String> {
    let root = home.dir().join("safe");
    let found = std::process::Command::new("find").arg(&root).args(["-type", "f"]).output().unwrap();
    let all = String::from_utf8(found.stdout).unwrap();
    let mut all: Vec<String> = all.lines().map(|path| path[root.to_str().unwrap().len() + 1..].to_owned()).collect();
    all.retain(|path| path != mongokeep::storage::filesystem::mark::MARK);
    all.sort();
    all
}

/// That a command says whose identity is needed and ends with 1.
fn refused(run: &Run, recipient: &str) {
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains(recipient), "{}", run.stderr);
    assert!(!shows_a_secret(&run.stderr), "{}", run.stderr);
}

/// A secret key, and not the words that say how one begins.
fn shows_a_secret(text: &str) -> bool {
    let begun = text.split("AGE-SECRET-KEY-1").skip(1);
    begun.into_iter().any(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

async fn fill(set: &ReplicaSet) -> mongodb::Client {
    let client = set.client().await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    orders.insert_many((0..500).map(|i| doc! {"_id": i, "who": "a customer of ours"})).await.unwrap();
    orders.create_index(mongodb::IndexModel::builder().keys(doc! {"who": 1}).build()).await.unwrap();
    client.database("shop").create_collection("empty").await.unwrap();
    client
}

/// Backed up, looked at, verified, restored, exported, found again elsewhere and deleted: with the identity, and never without.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_identity_opens_a_backup() {
    let (set, other) = tokio::join!(support::replica_set(), support::replica_set());
    let keys = tempfile::tempdir().unwrap();
    let (ours, theirs) = (identity(keys.path(), "ours"), identity(keys.path(), "theirs"));
    let client = fill(&set).await;
    let wanted = compare::database(&client, "shop").await;
    let home = home_of(&set, &ours);
    good(&home, "settings set backup.read_back true");
    good(&home, "backup create --service src --storage safe --name b --wait");
    let shown = json_of(&home, "backup show b");
    assert_eq!(shown["encryption"], json!({"recipients": [ours.recipient]}));

    // All but what says that it is a backup is encrypted, and says nothing of what it holds.
    for path in stored(&home) {
        let bytes = fs::read(home.dir().join("safe").join(&path)).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if ["manifest.json", "attempt.json"].iter().any(|name| path.ends_with(name)) {
            assert!(!has("AGE-SECRET"), "{path}");
            continue;
        }
        assert!(path.ends_with(".age") && bytes.starts_with(b"age-encryption.org/v1\n"), "{path}");
        assert!(!has("customer") && !has("indexes"), "{path}");
    }

    // Without, and with another one: nothing is written, and nothing is called damaged.
    let export = home.dir().join("export");
    let commands = [
        "backup verify b".to_owned(),
        "restore b --to src --yes --wait".to_owned(),
        "restore b --to src --dry-run".to_owned(),
        format!("backup export b --to {}", export.display()),
    ];
    for command in &commands {
        refused(&run(&home, command), &ours.recipient);
        let with = run(&home, &format!("{command} --identity-file {}", theirs.file.display()));
        refused(&with, &ours.recipient);
        assert!(with.stderr.contains(&theirs.recipient), "{}", with.stderr);
        refused(&run(&home, &format!("{command} --identity-file /nowhere/key")), &ours.recipient);
    }
    assert!(!export.exists());
    let shown = json_of(&home, "backup show b");
    assert_eq!(json!([shown["state"], shown["verify_error"]]), json!(["succeeded", null]));
    compare::assert_same(&wanted, &compare::database(&client, "shop").await, "a restore that was refused");

    // With it, by flag.
    let with = format!("--identity-file {}", ours.file.display());
    let job = json_of(&home, &format!("backup verify b {with}"));
    assert_eq!(job["state"], "succeeded");
    assert_eq!(home.run_with(&["service", "add", "other", "--uri-file", "-"], &other.uri()).code, 0);
    good(&home, &format!("restore b --to other --yes --wait {with}"));
    let target = other.client().await.unwrap();
    compare::assert_same(&wanted, &compare::database(&target, "shop").await, "restored");
    good(&home, &format!("backup export b --to {} {with}", export.display()));
    let exported = fs::read(export.join("shop/orders.bson")).unwrap();
    assert!(exported.windows(8).any(|window| window == b"customer"));
    assert!(export.join("shop/orders.metadata.json").exists());

    // On a machine that never saw it, by setting.
    let elsewhere = Home::new();
    good(&elsewhere, &format!("storage add t --type filesystem --path {}", home.dir().join("safe").display()));
    // The storage was added without its recipients: the next backup would be readable by everybody.
    let go_on = format!("mongokeep storage edit t --encrypt-to {} --identity-file FILE", ours.recipient);
    for sync in ["storage sync t --dry-run", "storage sync t"] {
        let said = good(&elsewhere, sync).stderr;
        assert!(said.contains("stored in plain text") && said.contains(&go_on), "{said}");
    }
    let shown = good(&elsewhere, "storage show t").stderr;
    assert!(shown.contains("mongokeep storage sync t --dry-run"), "{shown}");
    let found = json_of(&elsewhere, "backup show b");
    assert_eq!(json!([found["encryption"]["recipients"], found["documents"]]), json!([[ours.recipient], 500]));
    refused(&run(&elsewhere, "backup verify b"), &ours.recipient);
    good(&elsewhere, &format!("settings set encryption.identity_file {}", ours.file.display()));
    good(&elsewhere, "backup verify b");
    good(&elsewhere, &format!("storage edit t --encrypt-to {}", ours.recipient));
    for line in ["storage sync t", "storage show t"] {
        let said = good(&elsewhere, line).stderr;
        assert!(!said.contains("plain text"), "{line}: {said}");
    }
    assert_eq!(
        json_of(&elsewhere, "storage show t")["encryption"]["proof"],
        "given",
        "by the identity of the settings"
    );
    // A log names the file at most.
    let log = good(&home, &format!("job log {}", job["id"])).stdout;
    assert!(!shows_a_secret(&log), "{log}");

    // Damage is found, and is no question of the key.
    let part = stored(&home).into_iter().find(|path| path.contains("orders/0")).unwrap();
    let path = home.dir().join("safe").join(part);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let damaged = run(&home, &format!("backup verify b {with}"));
    assert!(damaged.code == 1 && damaged.stderr.contains("damaged"), "{}", damaged.stderr);

    // Deleting needs no identity.
    fs::remove_file(&ours.file).unwrap();
    good(&home, "backup delete b --yes");
    assert_eq!(stored(&home), Vec::<String>::new());
}

/// New backups go to new recipients; old ones still say whose identity they need.
#[tokio::test(flavor = "multi_thread")]
async fn recipients_can_be_changed() {
    let set = support::replica_set().await;
    let keys = tempfile::tempdir().unwrap();
    let (old, new) = (identity(keys.path(), "old"), identity(keys.path(), "new"));
    fill(&set).await;
    let home = home_of(&set, &old);
    good(&home, "backup create --service src --storage safe --name first --wait");
    good(&home, &format!("storage edit safe --encrypt-to {}", new.recipient));
    // Nobody has shown the new one yet: refused before anything is queued, by the check, and by a schedule.
    let early = run(&home, "backup create --service src --storage safe --name second");
    assert!(early.code == 4 && early.stderr.contains(&new.recipient), "{}", early.stderr);
    let check = run(&home, "service check src -o json");
    let item = check.json()["items"].as_array().unwrap().iter().find(|item| item["id"] == "storage").unwrap().clone();
    assert_eq!((check.code, &item["state"]), (1, &json!("fail")), "{item}");
    assert!(item["remedy"].as_str().unwrap().contains("--identity-file"), "{item}");
    let schedule = run(&home, "schedule add s --service src --storage safe --cron @daily");
    assert_eq!(schedule.code, 4, "{}", schedule.stderr);
    refused(&run(&home, &format!("storage edit safe --identity-file {}", old.file.display())), &new.recipient);
    good(&home, &format!("storage edit safe --identity-file {}", new.file.display()));
    good(&home, "backup create --service src --storage safe --name second --wait");
    for (name, right, wrong) in [("first", &old, &new), ("second", &new, &old)] {
        good(&home, &format!("backup verify {name} --identity-file {}", right.file.display()));
        refused(
            &run(&home, &format!("backup verify {name} --identity-file {}", wrong.file.display())),
            &right.recipient,
        );
    }
    // Retention needs no identity.
    good(&home, "schedule add s --service src --storage safe --cron @yearly --retention 1 --disabled");
    good(&home, "schedule run s --wait");
    good(&home, "schedule run s --wait");
    let of_it = |backups: &serde_json::Value| {
        backups.as_array().unwrap().iter().filter(|backup| backup["schedule"] == "s").count()
    };
    let began = std::time::Instant::now();
    while of_it(&json_of(&home, "backup list")) > 1 {
        assert!(began.elapsed() < std::time::Duration::from_secs(180), "retention has not run");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
