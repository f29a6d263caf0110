//! `backup export` as a person runs it, on a storage that this machine has never written to.

use std::process::Stdio;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongokeep::domain::backup::Compression;
use mongokeep::domain::restore::CollectionKind;

use crate::support::artifact::{Artifact, change, noop};
use crate::support::command::Home;
use crate::support::stopwatch::at_once;

const ORDERS: [u8; 16] = [1; 16];

/// A backup of `parts` parts, in a storage that `home` has read.
async fn known(home: &Home, parts: usize) -> Artifact {
    let mut artifact = Artifact::new(Compression::Zstd(1)).await;
    let documents: Vec<Document> = (0..40_000).map(|i| doc! {"_id": i, "text": format!("number {i}")}).collect();
    let parts = vec![documents; parts];
    let definition = doc! {"options": {}};
    artifact.collection("shop.orders", CollectionKind::Collection, Some(ORDERS), definition, &parts).await;
    artifact.oplog(&[vec![noop(1), change(2, "i", "shop.orders", ORDERS, doc! {"_id": -1})]]).await;
    artifact.finish().await;
    let folder = artifact.path(artifact.root.key());
    let storage = folder.ancestors().nth(3).unwrap();
    home.good(&format!("storage add disk --type filesystem --path {}", storage.display()));
    home.good("storage sync disk");
    artifact
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_what_it_wrote_and_how_to_restore_it() {
    let home = Home::new();
    let _artifact = known(&home, 1).await;
    let to = home.dir().join("dump");
    let value = home.json(&format!("backup export made --to {}", to.display()));
    assert_eq!((value["documents"].as_u64(), value["oplog_entries"].as_u64()), (Some(40_000), Some(1)), "{value}");
    let command = value["command"].as_str().unwrap();
    assert!(command.starts_with("mongorestore --oplogReplay") && command.ends_with(to.to_str().unwrap()), "{command}");
    assert!(to.join("shop/orders.bson").is_file() && to.join("oplog.bson").is_file());
    // A second time there is something in the way.
    let again = home.run(&["backup", "export", "made", "--to", to.to_str().unwrap()]);
    assert_eq!((again.code, again.stdout.as_str()), (4, ""), "{again:?}");
    assert!(again.stderr.contains("is not empty") && again.stderr.contains("hint: "), "{again:?}");
    let other = home.dir().join("other");
    let text = home.good(&format!("backup export made --to {}", other.display()));
    assert!(text.contains("restore it with mongorestore --oplogReplay"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_it_takes_back_what_it_wrote() {
    let home = Home::new();
    let _artifact = known(&home, 60).await;
    let to = home.dir().join("dump");
    let mut command = home.command(&["backup", "export", "made", "--to", to.to_str().unwrap()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(180);
    while !to.join("shop/orders.bson").exists() {
        assert!(Instant::now() < limit, "nothing was written");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let told = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(told.elapsed() < at_once(), "{:?}", told.elapsed());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("was removed"), "{stderr}");
    assert!(!to.exists());
}
