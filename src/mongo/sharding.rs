//! Whether a replica set is a part of a sharded cluster.
//!
//! A part looks like any other replica set to whoever connects to it directly, and lets everything be done to it. But what it
//! holds is its own share, at a moment of its own, and what is written to it past the routers breaks the cluster: tried with
//! 7.0.11, a restore straight into a shard reported success and left `checkMetadataConsistency` with a
//! `CollectionUUIDMismatch`.

use mongodb::bson::{Document, doc};
use tokio_util::sync::CancellationToken;

use super::connect::Server;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

/// What a replica set is in a sharded cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterPart {
    ConfigServers,
    /// By its name in the cluster.
    Shard(String),
}

impl ClusterPart {
    /// What a service is that leads to it: `is shard sh1 of a sharded cluster`.
    pub fn words(&self) -> String {
        match self {
            Self::ConfigServers => "leads to the config servers of a sharded cluster".into(),
            Self::Shard(name) => format!("is shard {} of a sharded cluster", escape(name)),
        }
    }
}

/// What backs up a cluster as a whole.
pub const USE_PBM: &str = "a sharded cluster is backed up by Percona Backup for MongoDB (PBM): a service with the engine pbm, whose connection \
     string leads to the config servers' replica set";

/// Which part of a cluster the member behind `server` is; `None` when it is none, or may not be asked.
///
/// Config servers say so in `hello`. A shard keeps its identity in `admin.system.version` (`_id: "shardIdentity"`); the
/// roles `backup` and `restore` may read it.
pub async fn cluster_part(server: &Server, cancel: &CancellationToken) -> Result<Option<ClusterPart>> {
    if server.hello().is_config_server {
        return Ok(Some(ClusterPart::ConfigServers));
    }
    let identity = shard_identity(server, cancel).await?;
    Ok(identity
        .map(|identity| ClusterPart::Shard(identity.get_str("shardName").unwrap_or("without a name").to_owned())))
}

/// What a shard knows about itself: `shardName`, `configsvrConnectionString`. `None` elsewhere, and where it may not be read.
pub async fn shard_identity(server: &Server, cancel: &CancellationToken) -> Result<Option<Document>> {
    let ask = doc! {"find": "system.version", "filter": {"_id": "shardIdentity"}, "limit": 1, "singleBatch": true};
    let reply = match server.command(cancel, "admin", ask).await {
        Ok(reply) => reply,
        Err(e) if matches!(e.kind(), ErrorKind::Denied | ErrorKind::NotFound) => return Ok(None),
        Err(e) => return Err(e),
    };
    let first = reply.get_document("cursor").ok().and_then(|c| c.get_array("firstBatch").ok()?.first()?.as_document());
    Ok(first.cloned())
}

/// Refuses to write into a part of a cluster.
///
/// Errors: `Unsupported`, with the way there is.
pub async fn require_no_part(server: &Server, cancel: &CancellationToken) -> Result<()> {
    let Some(part) = cluster_part(server, cancel).await? else { return Ok(()) };
    let what = format!(
        "service {} {}: what is restored into it past its mongos breaks the cluster",
        server.service(),
        part.words()
    );
    Err(Error::new(ErrorKind::Unsupported, what).hint(INTO_A_CLUSTER))
}

/// What the config servers hold is of no use without the shards, and no server takes it back by itself.
pub fn no_backup_of(service: &str, part: &ClusterPart) -> Error {
    let what = format!("service {service} {}: what they hold cannot be restored by itself", part.words());
    Error::new(ErrorKind::Unsupported, what).hint(USE_PBM)
}

/// How documents get into a cluster all the same.
pub const INTO_A_CLUSTER: &str = "restore into a replica set, or export the backup (mongokeep backup export BACKUP --to DIR) and load it with \
     mongorestore through the mongos";
