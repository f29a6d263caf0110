//! Physical backups to an encrypted storage: blocks are shared by backups for the same recipients, and by no others.

use super::{Identity, fill, home_of, identity, refused, stored};
use crate::support;
use crate::support::command::{Home, good, json_of, run};

fn blocks(home: &Home) -> Vec<String> {
    stored(home).into_iter().filter(|path| path.contains("/blocks/") && path.ends_with(".age")).collect()
}

fn make(home: &Home, name: &str) -> serde_json::Value {
    good(home, &format!("backup create --service src --storage safe --model physical --name {name} --wait"));
    json_of(home, &format!("backup show {name}"))
}

fn with(identity: &Identity) -> String {
    format!("--identity-file {}", identity.file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_back_with_the_identity_alone() {
    let set = support::replica_set().await;
    let keys = tempfile::tempdir().unwrap();
    let (old, new) = (identity(keys.path(), "old"), identity(keys.path(), "new"));
    fill(&set).await;
    let home = home_of(&set, &old);
    let first = make(&home, "first");
    let of_first = blocks(&home);
    assert!(of_first.iter().all(|path| path.ends_with(".zst.age")) && !of_first.is_empty(), "{of_first:?}");
    // No name is that of what somebody guesses. WiredTiger's file of that name is the same for everybody.
    let known = blake3::hash(b"WiredTiger\nWiredTiger").to_hex().to_string();
    assert!(!of_first.iter().any(|path| path.contains(&known)));
    // The second sends less than the first.
    let second = make(&home, "second");
    assert!(second["new_bytes"].as_u64() < first["new_bytes"].as_u64(), "{second}");

    for name in ["first", "second"] {
        refused(&run(&home, &format!("backup verify {name}")), &old.recipient);
        refused(&run(&home, &format!("backup verify {name} {}", with(&new))), &old.recipient);
        good(&home, &format!("backup verify {name} {}", with(&old)));
    }
    let (export, data) = (home.dir().join("export"), home.dir().join("data"));
    refused(&run(&home, &format!("backup export first --to {}", export.display())), &old.recipient);
    assert!(!export.exists());
    good(&home, &format!("backup export first --to {} {}", export.display(), with(&old)));
    assert!(export.join("WiredTiger.turtle").exists());
    let mongod = set.mongod().path.to_str().unwrap();
    let restore = format!("restore second --to-data-dir {} --mongod {mongod} --yes --wait", data.display());
    refused(&run(&home, &restore), &old.recipient);
    refused(&run(&home, &format!("{restore} {}", with(&new))), &old.recipient);
    assert!(!data.exists(), "nothing is written");
    good(&home, &format!("{restore} {}", with(&old)));
    assert!(data.join("WiredTiger.turtle").exists());

    // Others could not open the blocks that are there, so that all of them are sent again.
    let before = blocks(&home);
    good(&home, &format!("storage edit safe --encrypt-to {} {}", new.recipient, with(&new)));
    let third = make(&home, "third");
    assert_eq!(third["new_bytes"], third["size_bytes"]);
    good(&home, &format!("backup verify third {}", with(&new)));
    good(&home, &format!("backup verify first {}", with(&old)));

    // A block in the place of another is found, though it is encrypted as it should be.
    let of_third: Vec<String> = blocks(&home).into_iter().filter(|path| !before.contains(path)).collect();
    let path = |n: usize| home.dir().join("safe").join(&of_third[n]);
    let sizes: Vec<u64> = (0..of_third.len()).map(|n| std::fs::metadata(path(n)).unwrap().len()).collect();
    let same = (0..sizes.len()).flat_map(|a| (0..a).map(move |b| (a, b))).find(|(a, b)| sizes[*a] == sizes[*b]);
    if let Some((a, b)) = same {
        std::fs::copy(path(a), path(b)).unwrap();
    } else {
        std::fs::copy(path(0), path(1)).unwrap();
    }
    let damaged = run(&home, &format!("backup verify third {}", with(&new)));
    assert!(damaged.code == 1 && damaged.stderr.contains("damaged"), "{}", damaged.stderr);

    // Deleting needs no identity, and leaves no block behind.
    for name in ["first", "second", "third"] {
        good(&home, &format!("backup delete {name} --yes"));
    }
    assert_eq!(blocks(&home), Vec::<String>::new());
}
