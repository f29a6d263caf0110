//! Recorded changes that are encrypted: for one recipient first, and later for another.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::json;

use super::{fill, home_of, identity, refused, stored};
use crate::support;
use crate::support::command::{Home, good, json_of, run};
use crate::support::compare;
use crate::support::recording::newest;
use mongokeep::artifact::slice::Header;
use mongokeep::domain::timestamp::Timestamp;

fn recorded_up_to(home: &Home, ts: Timestamp) {
    let began = Instant::now();
    loop {
        let status = json_of(home, "pitr status")[0].clone();
        let covers = |range: &serde_json::Value| {
            serde_json::from_value::<Timestamp>(range["to_ts"].clone()).is_ok_and(|to| to >= ts)
        };
        if status["ranges"].as_array().is_some_and(|ranges| ranges.iter().any(covers)) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "it is not recorded: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whom the slices are for, as each of them says to everybody.
fn recipients(home: &Home) -> Vec<String> {
    let slices = stored(home).into_iter().filter(|path| path.ends_with(".bson.zst.age") && path.contains("/oplog/rs"));
    let mut all = Vec::new();
    for path in slices {
        let bytes = std::fs::read(home.dir().join("safe").join(&path)).unwrap();
        let encryption = Header::from_frame(&path, &bytes).unwrap().encryption.unwrap();
        all.extend(encryption.recipients.iter().map(ToString::to_string));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_is_reached_with_the_identities_of_all_that_lead_to_it() {
    let (set, other) = tokio::join!(support::replica_set(), support::replica_set());
    let keys = tempfile::tempdir().unwrap();
    let (old, new) = (identity(keys.path(), "old"), identity(keys.path(), "new"));
    let client = fill(&set).await;
    let home = home_of(&set, &old);
    assert_eq!(home.run_with(&["service", "add", "other", "--uri-file", "-"], &other.uri()).code, 0);
    good(&home, "settings set pitr.slice_seconds 5");
    good(&home, "schedule add line --service src --storage safe --cron @yearly --type pitr");
    let began = Instant::now();
    while json_of(&home, "daemon status")["services_sliced"] != 1 {
        assert!(began.elapsed() < Duration::from_secs(180), "the slicer does not run");
        std::thread::sleep(Duration::from_millis(100));
    }
    good(&home, "schedule run line --wait");
    let orders = client.database("shop").collection::<Document>("orders");
    orders.insert_one(doc! {"_id": "first", "who": "a customer of ours"}).await.unwrap();
    let first = newest(&client).await;
    let at_first = compare::database(&client, "shop").await;
    recorded_up_to(&home, first);
    good(&home, &format!("storage edit safe --encrypt-to {} --identity-file {}", new.recipient, new.file.display()));
    // What was recorded when the storage changed is still stored for the old one.
    let began = Instant::now();
    while !recipients(&home).contains(&new.recipient) {
        assert!(began.elapsed() < Duration::from_secs(180), "nothing is recorded for the new recipient");
        orders.insert_one(doc! {"who": "a customer of ours"}).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    orders.insert_one(doc! {"_id": "second", "who": "a customer of ours"}).await.unwrap();
    let second = newest(&client).await;
    let at_second = compare::database(&client, "shop").await;
    recorded_up_to(&home, second);
    // Slices for both, each an age file.
    let slices: Vec<String> = stored(&home).into_iter().filter(|path| path.contains("/oplog/rs")).collect();
    for slice in slices.iter().filter(|path| !path.ends_with(".json")) {
        let bytes = std::fs::read(home.dir().join("safe").join(slice)).unwrap();
        assert!(slice.ends_with(".bson.zst.age") && bytes.starts_with(b"age-encryption.org/v1\n-> mongokeep-slice"));
    }

    let restore = |ts: Timestamp, identity: &str| {
        run(&home, &format!("restore --service src --time {ts} --to other --exact --yes --wait {identity}"))
    };
    let with = |path: &std::path::Path| format!("--identity-file {}", path.display());
    refused(&restore(first, ""), &old.recipient);
    refused(&restore(first, &with(&new.file)), &old.recipient);
    let ran = restore(first, &with(&old.file));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let target = other.client().await.unwrap();
    compare::assert_same(&at_first, &compare::database(&target, "shop").await, "the first moment");

    // The plan finds it, too, and says which slice.
    let plan = run(&home, &format!("restore --service src --time {second} --to other --dry-run {}", with(&old.file)));
    refused(&plan, &new.recipient);
    assert!(plan.stderr.contains("slice "), "{}", plan.stderr);
    refused(&restore(second, &with(&old.file)), &new.recipient);
    compare::assert_same(&at_first, &compare::database(&target, "shop").await, "nothing was written");
    let both = keys.path().join("both");
    let text = [&old.file, &new.file].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(&both, text).unwrap();
    let ran = restore(second, &with(&both));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!super::shows_a_secret(&ran.stderr));
    compare::assert_same(&at_second, &compare::database(&target, "shop").await, "the second moment");

    // Elsewhere the timeline is there without any identity.
    let elsewhere = Home::new();
    good(&elsewhere, &format!("storage add t --type filesystem --path {}", home.dir().join("safe").display()));
    good(&elsewhere, "service add src --uri mongodb://127.0.0.1:1");
    good(&elsewhere, "storage sync t");
    let found = &json_of(&elsewhere, "pitr status --service src")[0];
    let to = serde_json::from_value::<Timestamp>(found["ranges"][0]["to_ts"].clone()).unwrap();
    assert!(to >= second, "{found}");
    assert_eq!(found["gaps"], json!([]));
}
