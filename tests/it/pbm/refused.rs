//! What PBM can never do is said before anything is queued. None of this needs its programs, nor a server.

use crate::support::program::Home;

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
const WHY: &str = "PBM writes nothing that age encrypts";

/// A home with a service of PBM, a storage `plain` and a storage `vault` that takes only what is encrypted.
fn home() -> Home {
    let home = Home::new();
    home.ok(&["service", "add", "src", "--uri", "mongodb://127.0.0.1:1/?replicaSet=rs0"]);
    home.ok(&["service", "edit", "src", "--engine", "pbm"]);
    for (name, encrypts) in [("plain", &[][..]), ("vault", &["--encrypt-to", RECIPIENT, "--no-proof"])] {
        let path = home.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let add = ["storage", "add", name, "--type", "filesystem", "--path", path.to_str().unwrap()];
        home.ok(&[&add[..], encrypts].concat());
    }
    home
}

#[test]
fn a_storage_that_encrypts_is_no_storage_for_pbm() {
    let home = home();
    let schedule = ["schedule", "add", "n", "--service", "src", "--storage", "vault", "--cron", "@daily"];
    let pitr = [&schedule[..], &["--type", "pitr"]].concat();
    let create = ["backup", "create", "--service", "src", "--storage", "vault"];
    let configure = ["service", "configure", "src", "--storage", "vault"];
    for args in [&create[..], &schedule, &pitr, &configure] {
        let ran = home.run(args);
        assert!(ran.code == 2 && ran.stderr.contains(WHY), "{args:?}: {} {}", ran.code, ran.stderr);
        assert!(ran.stderr.contains("without --encrypt-to"), "{args:?}: {}", ran.stderr);
    }
    assert!(home.ok(&["job", "list"]).as_array().unwrap().is_empty());

    // The check names it, which is what the form shows at the storage, and does not call the storage broken.
    let check = home.said(&["service", "check", "src"]);
    let storage = check["items"].as_array().unwrap().iter().find(|item| item["id"] == "storage").unwrap().clone();
    let detail = storage["detail"].as_str().unwrap();
    assert!(storage["state"] == "pass" && detail.contains("writable: plain"), "{storage}");
    assert!(detail.contains(&format!("not vault: {WHY}")), "{storage}");
    home.ok(&["storage", "remove", "plain"]);
    let check = home.said(&["service", "check", "src"]);
    let storage = check["items"].as_array().unwrap().iter().find(|item| item["id"] == "storage").unwrap().clone();
    assert!(storage["state"] == "fail" && storage["remedy"].as_str().unwrap().contains("--encrypt-to"), "{storage}");
}

/// The kinds of credentials that PBM does not know, of clouds that nobody has to reach for that.
#[test]
fn credentials_that_pbm_does_not_know_are_refused_by_name() {
    let home = home();
    home.ok(&["storage", "remove", "vault"]);
    let sas = home.path().join("sas");
    std::fs::write(&sas, "sv=2024-01-01&sig=hunter2").unwrap();
    let azure = ["--type", "azure", "--account", "acmebackups", "--container", "backups"];
    let sas = ["--sas-token-file", sas.to_str().unwrap()];
    let gcs = ["--type", "gcs", "--bucket", "backups", "--anonymous"];
    for (name, flags, why) in [
        ("token", [&azure[..], &sas[..]].concat(), "the SAS token of --sas-token-file"),
        ("identity", azure.to_vec(), "a managed identity"),
        ("nobody", gcs.to_vec(), "this storage is --anonymous"),
    ] {
        home.ok(&[&["storage", "add", name][..], &flags].concat());
        let schedule = ["schedule", "add", "n", "--service", "src", "--storage", name, "--cron", "@daily"];
        let pitr = [&schedule[..], &["--type", "pitr"]].concat();
        let create = ["backup", "create", "--service", "src", "--storage", name];
        let configure = ["service", "configure", "src", "--storage", name];
        for args in [&create[..], &schedule, &pitr, &configure] {
            let ran = home.run(args);
            assert!(ran.code == 2 && ran.stderr.contains(why), "{args:?}: {} {}", ran.code, ran.stderr);
            assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        }
        let check = home.said(&["service", "check", "src"]);
        let item = check["items"].as_array().unwrap().iter().find(|item| item["id"] == "storage").unwrap().clone();
        let detail = item["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("not {name}: ")) && detail.contains(why), "{item}");
    }
    assert!(home.ok(&["job", "list"]).as_array().unwrap().is_empty());
}

#[test]
fn a_storage_that_a_schedule_of_pbm_uses_is_not_made_to_encrypt() {
    let home = home();
    home.ok(&["schedule", "add", "n", "--service", "src", "--storage", "plain", "--cron", "@daily", "--disabled"]);
    let ran = home.run(&["storage", "edit", "plain", "--encrypt-to", RECIPIENT, "--no-proof"]);
    assert!(
        ran.code == 2 && ran.stderr.contains("schedule n") && ran.stderr.contains(WHY),
        "{} {}",
        ran.code,
        ran.stderr
    );
    home.ok(&["schedule", "remove", "n"]);
    home.ok(&["storage", "edit", "plain", "--encrypt-to", RECIPIENT, "--no-proof"]);
}

#[test]
fn only_pbm_makes_increments() {
    let home = home();
    let create = |more: &[&str]| {
        home.run(
            &[&["backup", "create", "--service", "src", "--storage", "plain", "--type", "incremental"][..], more]
                .concat(),
        )
    };
    let ran = create(&[]);
    assert!(ran.code == 2 && ran.stderr.contains("needs the physical model"), "{} {}", ran.code, ran.stderr);
    home.ok(&["service", "edit", "src", "--engine", "native"]);
    let ran = create(&["--model", "physical"]);
    assert!(ran.code == 2 && ran.stderr.contains("a service with the engine pbm"), "{} {}", ran.code, ran.stderr);
    let add =
        ["schedule", "add", "n", "--service", "src", "--storage", "plain", "--cron", "@daily", "--model", "physical"];
    let ran = home.run(&[&add[..], &["--type", "incremental-base"]].concat());
    assert!(ran.code == 2 && ran.stderr.contains("incremental-base"), "{} {}", ran.code, ran.stderr);
}
