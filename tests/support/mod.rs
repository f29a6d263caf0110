//! What the integration tests share: real servers, stock tools, comparing databases.

pub mod agents;
pub mod artifact;
pub mod changes;
pub mod cloud_servers;
pub mod cluster;
pub mod command;
pub mod compare;
pub mod cursor_server;
pub mod dumps;
pub mod fetched;
pub mod gcs_sessions;
pub mod hooked;
pub mod indexes;
pub mod line;
pub mod mounts;
pub mod objects;
pub mod pair;
pub mod program;
pub mod proxy;
pub mod recording;
pub mod s3;
pub mod s3_servers;
pub mod schedule;
pub mod screen;
#[cfg(target_os = "linux")]
pub mod share;
pub mod slicing;
pub mod stands;
pub mod stopwatch;
pub mod stores;
pub mod storm;
pub mod sts;
pub mod svg;
pub mod tools;
pub mod versions;
pub mod writers;

use mongokeep::sandbox::{Mongod, ReplicaSet, ReplicaSetOptions, Step};

/// The mongod of all tests; fetched at first use.
pub async fn mongod() -> Mongod {
    Mongod::find(&|step| {
        if step == Step::Unpacking || matches!(step, Step::Fetching { done: 0, .. }) {
            eprintln!("mongod: {step:?}");
        }
    })
    .await
    .unwrap()
}

/// A replica set of one member, gone when dropped.
pub async fn replica_set() -> ReplicaSet {
    ReplicaSet::start(&mongod().await, ReplicaSetOptions::default()).await.unwrap()
}

/// The release of a server, such as (6, 0).
pub async fn release_of(client: &mongodb::Client) -> (u32, u32) {
    let info = client.database("admin").run_command(mongodb::bson::doc! {"buildInfo": 1}).await.unwrap();
    let mut numbers = info.get_str("version").unwrap().split('.').map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
