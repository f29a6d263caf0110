//! A restore into replica sets of other names.

use mongodb::bson::{Document, doc};
use mongokeep::sandbox::ReplicaSetOptions;

use crate::support::agents::Agents;
use crate::support::program::fill;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_into_a_replica_set_of_another_name() {
    let Some(agents) = Agents::start(1).await else { return };
    let options = ReplicaSetOptions { name: "rs7".into(), ..ReplicaSetOptions::default() };
    let Some(other) = Agents::at(options).await else { return };
    fill(&agents.set, "shop", 500).await;
    let home = agents.ready_home();
    home.ok(&["backup", "create", "--service", "src", "--storage", "local", "--name", "b", "--wait"]);
    home.ok(&["service", "add", "other", "--uri", &other.set.uri(), "--engine", "pbm"]);
    home.ok(&["service", "configure", "other", "--storage", "local", "--folder", "src", "--yes"]);
    other.are_seen();

    let restore = |more: &[&str]| home.run(&[&["restore", "b", "--to", "other"][..], more].concat());
    let ran = restore(&[]);
    assert!(ran.code == 2 && ran.stderr.contains("--replset-map"), "{}", ran.stderr);
    for (map, why) in [("rs1=rs7", "no replica set rs1, but rs0"), ("rs0=rs1", "no replica set rs1, but rs7")] {
        let ran = restore(&["--replset-map", map]);
        assert!(ran.code == 2 && ran.stderr.contains(why), "{map}: {}", ran.stderr);
    }
    let plan = restore(&["--replset-map", "rs0=rs7", "--dry-run"]);
    assert!(plan.code == 0 && plan.stdout.contains("replica set rs0 of the backup goes into rs7"), "{}", plan.stdout);
    let ran = restore(&["--replset-map", "rs0=rs7", "--yes", "--wait"]);
    assert_eq!(ran.code, 0, "{} {}", ran.stdout, ran.stderr);
    let items = other.set.client().await.unwrap().database("shop").collection::<Document>("items");
    assert_eq!(items.count_documents(doc! {}).await.unwrap(), 500);

    // Whoever writes by itself looks at no names.
    home.ok(&["service", "edit", "other", "--engine", "native"]);
    let ran = restore(&["--replset-map", "rs0=rs7"]);
    assert!(ran.code == 2 && ran.stderr.contains("only PBM"), "{}", ran.stderr);
}
