//! A real sharded cluster: config servers and one shard of one member each, and a mongos. Of MongoDB 7.0.11, the one version
//! whose mongos can be had; elsewhere than on arm64 it is emulated.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongokeep::sandbox::{ReplicaSet, ReplicaSetOptions};

/// Ends when it is dropped.
pub struct Cluster {
    pub config: ReplicaSet,
    pub shard: ReplicaSet,
    mongos: Child,
    port: u16,
}

/// How long a mongos may take to find its cluster, emulated on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(180);

impl Cluster {
    /// `None` without the programs, after a line that says so.
    pub async fn start() -> Option<Self> {
        let mongod = super::versions::mongod_of("7.0.11").await?;
        let options = |name: &str, arg: &str| ReplicaSetOptions {
            name: name.into(),
            args: vec![arg.into()],
            oplog_mb: 100,
            ..ReplicaSetOptions::default()
        };
        let (config, shard) = (options("cfg", "--configsvr"), options("sh1", "--shardsvr"));
        let (config, shard) = tokio::join!(ReplicaSet::start(&mongod, config), ReplicaSet::start(&mongod, shard));
        let (config, shard) = (config.unwrap(), shard.unwrap());
        let port = mongokeep::sandbox::free_port().unwrap();
        let mongos = Command::new(mongod.path.with_file_name("mongos"))
            .args(["--configdb", &format!("cfg/{}", config.addresses()[0]), "--bind_ip", "127.0.0.1", "--nounixsocket"])
            .args(["--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let cluster = Self { config, shard, mongos, port };
        let add = doc! {"addShard": format!("sh1/{}", cluster.shard.addresses()[0])};
        let began = Instant::now();
        loop {
            match cluster.client().await.database("admin").run_command(add.clone()).await {
                Ok(_) => return Some(cluster),
                Err(e) => assert!(began.elapsed() < START_LIMIT, "the mongos adds no shard: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Of the mongos.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/", self.port)
    }

    pub async fn client(&self) -> mongodb::Client {
        mongodb::Client::with_uri_str(format!("{}?serverSelectionTimeoutMS=5000", self.uri())).await.unwrap()
    }

    /// Puts `n` documents into a sharded collection `shop.orders`.
    pub async fn fill(&self, n: i32) {
        let client = self.client().await;
        let admin = client.database("admin");
        admin.run_command(doc! {"shardCollection": "shop.orders", "key": {"_id": "hashed"}}).await.unwrap();
        let orders = client.database("shop").collection::<Document>("orders");
        orders.insert_many((0..n).map(|i| doc! {"_id": i, "text": "x".repeat(100)})).await.unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.mongos.kill();
        let _ = self.mongos.wait();
    }
}
