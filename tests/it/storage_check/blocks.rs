//! The blocks of physical backups.

use std::fs;

use serde_json::json;

use super::{check, json, of_kind};
use crate::support::program::{Home, fill, replica_set};

#[tokio::test(flavor = "multi_thread")]
async fn missing_blocks_are_named_with_their_files_and_unneeded_ones_go() {
    let set = replica_set().await;
    fill(&set, "shop", 2_000).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_storage("local");
    for name in ["one", "two"] {
        let of = ["backup", "create", "--service", "src", "--storage", "local", "--model", "physical", "--name", name];
        home.ok(&[&of[..], &["--wait"]].concat());
    }
    // Blocks that were read, and then changed before the copy was consistent, are left until somebody collects them.
    home.ok(&["storage", "check", "local", "--repair", "--yes"]);
    assert_eq!(check(&home, "local", 0)["findings"], json!([]));

    let name = blake3::hash(b"nobody needs it").to_hex();
    let unneeded = home.storage().join(format!("src/blocks/{}/{name}.zst", &name[..2]));
    fs::create_dir_all(unneeded.parent().unwrap()).unwrap();
    fs::write(&unneeded, vec![3; 777]).unwrap();
    let report = check(&home, "local", 0);
    let blocks = of_kind(&report, "unneeded_blocks");
    assert_eq!(
        (&blocks[0]["objects"], &blocks[0]["bytes"], &blocks[0]["removable"]),
        (&json!(1), &json!(777), &json!(true))
    );
    assert_eq!(home.run(&["storage", "check", "local", "--repair"]).code, 4);
    assert!(unneeded.exists());
    let report = home.ok(&["storage", "check", "local", "--repair", "--yes"]);
    assert!(!unneeded.exists() && report["findings"] == json!([]), "{report}");

    // A backup that may be being made elsewhere keeps every block from being removed.
    fs::create_dir_all(unneeded.parent().unwrap()).unwrap();
    fs::write(&unneeded, vec![3; 777]).unwrap();
    let theirs = home.storage().join("src/backups/theirs");
    super::foreign_attempt(&theirs, "theirs");
    let mut attempt: serde_json::Value =
        serde_json::from_slice(&fs::read(theirs.join("attempt.json")).unwrap()).unwrap();
    attempt["renewed_at"] = chrono::Utc::now().to_rfc3339().into();
    fs::write(theirs.join("attempt.json"), attempt.to_string()).unwrap();
    let report = check(&home, "local", 0);
    assert_eq!(of_kind(&report, "unneeded_blocks")[0]["removable"], false, "{report}");
    home.ok(&["storage", "check", "local", "--repair", "--yes"]);
    assert!(unneeded.exists());
    fs::remove_dir_all(&theirs).unwrap();

    // The largest block is one of both, and of a file of data.
    let is_block = |f: &&String| f.contains("/blocks/") && !f.contains(&name.to_string());
    let files = home.files();
    let largest = files.iter().filter(is_block).max_by_key(|f| fs::metadata(home.storage().join(f)).unwrap().len());
    let largest = largest.unwrap().clone();
    let path = home.storage().join(&largest);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[1..]).unwrap();
    let short = check(&home, "local", 1);
    assert!(of_kind(&short, "missing_block")[0]["detail"].as_str().unwrap().contains("bytes"), "{short}");
    fs::remove_file(&path).unwrap();
    let ran = home.run(&["storage", "check", "local", "--repair", "--yes"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let report = json(&ran);
    let missing = of_kind(&report, "missing_block");
    assert!(!missing.is_empty() && missing.iter().all(|f| f["object"] == json!(largest)), "{report}");
    assert!(missing[0]["detail"].as_str().unwrap().contains("it is a block of "), "{report}");
    let named = missing[0]["backup"].as_str().unwrap();
    assert_eq!(home.ok(&["backup", "show", named])["state"], "incomplete");
    // A sync finds no other truth, whatever its machine knew.
    let other = Home::new();
    other.ok(&["storage", "add", "local", "--type", "filesystem", "--path", home.storage().to_str().unwrap()]);
    for home in [&home, &other] {
        let ran = home.run(&["storage", "sync", "local"]);
        let report = json(&ran);
        assert_eq!((ran.code, report["not_whole"].as_array().unwrap().len()), (1, missing.len()), "{report}");
        assert!(report["not_whole"][0].as_str().unwrap().contains("it is a block of "), "{report}");
        assert_eq!(home.ok(&["backup", "show", named])["state"], "incomplete");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(check(&home, "local", 0)["incomplete"], 0);
}
