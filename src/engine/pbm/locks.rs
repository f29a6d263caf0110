//! PBM's own locks, read where they are kept.
//!
//! Agents hold a lock for each replica set as long as an operation runs, and write a heartbeat into it every five seconds. `pbm
//! status` names an operation as long as there is a lock, however old that heartbeat is; PBM itself goes by the heartbeat. A
//! lock without one for [`STALE_SECONDS`] keeps nobody from anything: `pbm` begins the next operation all the same, and the
//! agent that takes part in it removes the lock and notes that the old operation failed (sources of PBM 2.15:
//! `pbm/lock/lock.go`, `cmd/pbm/common.go`, `cmd/pbm-agent/agent.go`). Nothing else removes it, `pbm cancel-backup` neither.

use std::fmt;
use std::sync::Arc;

use mongodb::bson::{Bson, Document, doc};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::domain::secret::Secret;
use crate::error::Result;
use crate::mongo::Server;
use crate::mongo::connect::CHECK_TIMEOUT;

/// Without a heartbeat for longer an operation is dead for PBM (`defs.StaleFrameSec`).
pub const STALE_SECONDS: u32 = 30;
/// One for each replica set; more are not read.
const MANY: i32 = 1_000;

/// A lock of one replica set. Its texts are from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// `backup`, `restore`, `delete`, ... in PBM's word.
    pub kind: String,
    pub op_id: String,
    pub set: String,
    /// `host:port` of the agent that holds it.
    pub node: String,
    /// Seconds since its last heartbeat, by the clock of the cluster.
    pub silent_seconds: u32,
}

impl Lock {
    pub fn is_stale(&self) -> bool {
        self.silent_seconds > STALE_SECONDS
    }
}

/// The locks of the PBM of one service. Clones share one connection.
#[derive(Clone)]
pub struct Locks {
    service: String,
    uri: Secret,
    server: Arc<Mutex<Option<Server>>>,
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locks({})", self.service)
    }
}

impl Locks {
    pub fn new(service: &str, uri: &Secret) -> Self {
        Self { service: service.to_owned(), uri: uri.clone(), server: Arc::default() }
    }

    /// The locks that there are, of live operations and of dead ones.
    ///
    /// Errors: what keeps the server from answering, such as the lack of rights to read PBM's collections in `admin`.
    pub async fn read(&self, cancel: &CancellationToken) -> Result<Vec<Lock>> {
        let mut kept = self.server.lock().await;
        let server = match kept.take() {
            Some(server) => server,
            None => Server::connect(&self.service, &self.uri, CHECK_TIMEOUT).await?,
        };
        let find = doc! {"find": "pbmLock", "limit": MANY, "batchSize": MANY, "singleBatch": true};
        let reply = server.command(cancel, "admin", find).await?;
        *kept = Some(server);
        Ok(parsed(&reply))
    }
}

fn parsed(reply: &Document) -> Vec<Lock> {
    let cluster_time = reply.get_document("$clusterTime").ok().and_then(|time| time.get_timestamp("clusterTime").ok());
    let now = cluster_time.or_else(|| reply.get_timestamp("operationTime").ok());
    let batch = reply.get_document("cursor").ok().and_then(|cursor| cursor.get_array("firstBatch").ok());
    let documents = batch.into_iter().flatten().filter_map(Bson::as_document);
    let lock = |document: &Document| {
        let text = |key: &str| document.get_str(key).unwrap_or_default().to_owned();
        // What is not known counts as alive.
        let silent = match (now, document.get_timestamp("hb")) {
            (Some(now), Ok(beat)) => now.time.saturating_sub(beat.time),
            _ => 0,
        };
        Lock {
            kind: text("type"),
            op_id: text("opid"),
            set: text("replset"),
            node: text("node"),
            silent_seconds: silent,
        }
    };
    documents.map(lock).collect()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Timestamp;

    use super::*;

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 1 }
    }

    #[test]
    fn a_lock_is_stale_by_the_clock_of_the_cluster() {
        let lock = |node: &str, beat: u32| {
            doc! {"type": "backup", "replset": "sh1", "node": node, "opid": "6b0b", "hb": at(beat), "epoch": at(1)}
        };
        let reply = doc! {
            "cursor": {"firstBatch": [lock("h:1", 1_000), lock("h:2", 1_070), {"type": "resync"}]},
            "$clusterTime": {"clusterTime": at(1_100)},
            "operationTime": at(2_000),
        };
        let locks = parsed(&reply);
        let seen: Vec<(u32, bool)> = locks.iter().map(|lock| (lock.silent_seconds, lock.is_stale())).collect();
        assert_eq!(seen, [(100, true), (30, false), (0, false)]);
        assert_eq!((locks[0].kind.as_str(), locks[0].set.as_str(), locks[0].node.as_str()), ("backup", "sh1", "h:1"));
        assert_eq!(parsed(&doc! {"ok": 1}), []);
    }
}
