//! `kill -9` of the daemon while it records: whatever it held is recorded again, and nothing is recorded twice.

use std::time::Duration;

use mongokeep::domain::timestamp::Timestamp;
use mongokeep::sandbox::ReplicaSet;
use rand::{Rng, SeedableRng};

use crate::support::compare;
use crate::support::program::{Home, fill, replica_set, until};
use crate::support::recording::newest;

const MOMENTS: usize = 4;

/// Waits until everything up to `ts` can be restored, and returns the status.
fn recorded(home: &Home, ts: Timestamp) -> serde_json::Value {
    let status = || home.ok(&["pitr", "status"])[0].clone();
    until("it is recorded", || {
        let to = status()["ranges"].as_array().unwrap().last().map(|r| r["to_ts"].clone());
        to.is_some_and(|to| serde_json::from_value::<Timestamp>(to).unwrap() >= ts)
    });
    status()
}

async fn write(set: &ReplicaSet, round: usize) {
    fill(set, &format!("shop{round}"), 3_000).await;
    let items = set.client().await.unwrap().database("shop").collection::<mongodb::bson::Document>("items");
    let change = mongodb::bson::doc! {"$inc": {"round": 1}};
    items.update_many(mongodb::bson::doc! {"_id": {"$mod": [7, round as i64]}}, change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_daemon_held_when_it_was_killed_is_recorded_by_the_next() {
    let (set, target) = tokio::join!(replica_set(), replica_set());
    fill(&set, "shop", 500).await;
    let home = Home::new();
    home.add_service("src", &set.uri());
    home.add_service("copy", &target.uri());
    home.add_storage("local");
    home.ok(&["settings", "set", "pitr.slice_seconds", "5"]);
    let schedule = ["schedule", "add", "line", "--service", "src", "--storage", "local", "--cron", "@yearly"];
    home.ok(&[&schedule[..], &["--type", "pitr"]].concat());
    home.start_daemon();
    until("it records", || home.ok(&["daemon", "status"])["services_sliced"] == 1);
    home.ok(&["schedule", "run", "line", "--wait"]);
    let client = set.client().await.unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(20_261_121);
    let mut truths = Vec::new();
    for round in 0..MOMENTS {
        write(&set, round).await;
        truths.push((newest(&client).await, compare::state(&client).await));
        // The moment is what is random here: the slice grows for five seconds.
        std::thread::sleep(Duration::from_millis(random.random_range(0..3_000)));
        home.kill_daemon();
        // In the oplog only, of which nobody reads.
        write(&set, MOMENTS + round).await;
        truths.push((newest(&client).await, compare::state(&client).await));
        home.start_daemon();
    }
    let status = recorded(&home, newest(&client).await);
    assert_eq!(status["gaps"], serde_json::json!([]), "{status}");
    assert_eq!(status["ranges"].as_array().unwrap().len(), 1, "{status}");
    let to = target.client().await.unwrap();
    // Forward: what a later moment holds more would be left of an earlier one.
    for (ts, truth) in &truths {
        let time = ts.to_string();
        let restore = ["restore", "--service", "src", "--to", "copy", "--time", &time, "--exact", "--yes", "--wait"];
        assert_eq!(home.ok(&restore)["state"], "succeeded");
        compare::assert_same(truth, &compare::state(&to).await, &time);
    }
}
