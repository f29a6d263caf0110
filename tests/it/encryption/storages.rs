//! What is said of the encryption of a storage when it is added and changed. Nothing is contacted.

use std::fs;

use serde_json::{Value, json};

use super::{add_storage, identity, refused, shows_a_secret};
use crate::support::command::{Home, good, json_of, run};

fn encryption(home: &Home) -> Value {
    json_of(home, "storage show safe")["encryption"].clone()
}

#[test]
fn a_storage_says_whom_it_encrypts_to_and_whether_that_was_proven() {
    let home = Home::new();
    let keys = tempfile::tempdir().unwrap();
    let (one, two) = (identity(keys.path(), "one"), identity(keys.path(), "two"));
    let folder = home.dir().join("safe");
    let add =
        |rest: &str| run(&home, &format!("storage add safe --type filesystem --path {} {rest}", folder.display()));
    for (rest, field) in [
        ("--encrypt-to age1x".to_owned(), "encrypt-to: "),
        (format!("--encrypt-to {}", fs::read_to_string(&one.file).unwrap().lines().last().unwrap()), "encrypt-to: "),
        ("--no-proof".to_owned(), "no-proof: belongs to"),
        (format!("--identity-file {}", one.file.display()), "identity-file: belongs to"),
        (
            format!("--encrypt-to {} --no-proof --identity-file {}", one.recipient, one.file.display()),
            "no-proof: is given besides",
        ),
    ] {
        let ran = add(&rest);
        assert!(ran.code == 2 && ran.stderr.contains(field), "{rest}: {}", ran.stderr);
        // A secret that was given in the wrong place is not shown again.
        assert!(!shows_a_secret(&ran.stderr), "{}", ran.stderr);
    }
    refused(&add(&format!("--encrypt-to {} --identity-file {}", one.recipient, two.file.display())), &one.recipient);
    assert_eq!(json_of(&home, "storage list"), json!([]), "nothing was added");

    let added = add(&format!("--encrypt-to {} --encrypt-to {}", one.recipient, two.recipient));
    assert!(added.stdout.contains(&one.recipient) && added.stdout.contains(&two.recipient), "{}", added.stdout);
    assert!(added.stderr.contains("loses the backups") && added.stderr.contains("--identity-file"), "{}", added.stderr);
    let both = json!([one.recipient, two.recipient]);
    assert_eq!(encryption(&home), json!({"recipients": both, "passphrase": false, "proof": null}));
    let unproven = run(&home, "backup create --service a --storage safe");
    assert_eq!(unproven.code, 3, "the service is missing: {}", unproven.stderr);

    // One of them is enough. What is about something else changes nothing of it, and another recipient wants a new proof.
    good(&home, &format!("storage edit safe --identity-file {}", two.file.display()));
    assert_eq!(encryption(&home)["proof"], "given");
    good(&home, &format!("storage edit safe --path {}", home.dir().join("elsewhere").display()));
    assert_eq!(encryption(&home)["proof"], "given");
    good(&home, &format!("storage edit safe --encrypt-to {}", one.recipient));
    assert_eq!(encryption(&home), json!({"recipients": [one.recipient], "passphrase": false, "proof": null}));
    good(&home, "storage edit safe --no-proof");
    assert_eq!(encryption(&home)["proof"], "waived");
    let ended = home.run(&["storage", "edit", "safe", "--encrypt-to", ""]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("encrypts nothing from now on"), "{}", ended.stderr);
    assert_eq!(encryption(&home), Value::Null);
}

/// The identity file of the settings is a proof like any other, and one that opens something else is none.
#[test]
fn the_identity_of_the_settings_proves_a_storage() {
    let home = Home::new();
    let keys = tempfile::tempdir().unwrap();
    let (one, two) = (identity(keys.path(), "one"), identity(keys.path(), "two"));
    good(&home, &format!("settings set encryption.identity_file {}", one.file.display()));
    add_storage(&home, &format!("--encrypt-to {}", one.recipient));
    assert_eq!(encryption(&home)["proof"], "given");
    let edited = run(&home, &format!("storage edit safe --encrypt-to {}", two.recipient));
    assert_eq!(edited.code, 0, "{}", edited.stderr);
    assert_eq!(encryption(&home)["proof"], Value::Null);
    assert!(edited.stderr.contains("mongokeep storage edit safe --identity-file FILE"), "{}", edited.stderr);
    // What a person gives is not replaced by it, and no remedy is named that does not help.
    let wrong = run(&home, &format!("storage edit safe --identity-file {}", one.file.display()));
    assert!(wrong.code == 1 && !wrong.stderr.contains("settings set"), "{}", wrong.stderr);
}

/// A passphrase is not kept; what it seals is, and opens with it alone.
#[test]
fn a_passphrase_is_proven_by_itself_and_not_kept() {
    let home = Home::new();
    let passphrase = home.dir().join("passphrase");
    fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    add_storage(&home, &format!("--encrypt-passphrase-file {}", passphrase.display()));
    let first = encryption(&home);
    assert_eq!(json!([first["passphrase"], first["proof"]]), json!([true, "given"]));
    assert!(first["recipients"][0].as_str().unwrap().starts_with("age1"), "{first}");
    let shown = run(&home, "storage show safe").stdout;
    assert!(shown.contains("a passphrase (its recipient is age1"), "{shown}");
    let kept = std::process::Command::new("grep").arg("-rc").arg("battery staple").arg(home.path()).output().unwrap();
    assert!(!String::from_utf8(kept.stdout).unwrap().lines().any(|line| !line.ends_with(":0")), "it was kept");
    // Another one is another recipient.
    fs::write(&passphrase, "another one\n").unwrap();
    good(&home, &format!("storage edit safe --encrypt-passphrase-file {}", passphrase.display()));
    assert_ne!(encryption(&home)["recipients"], first["recipients"]);
    fs::write(&passphrase, "").unwrap();
    good(&home, &format!("storage edit safe --encrypt-passphrase-file {}", passphrase.display()));
    assert_eq!(encryption(&home), Value::Null);
}
