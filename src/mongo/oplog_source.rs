//! Reading the oplog of one member: where to begin, and following it.
//!
//! What is stored is read with read concern majority: a tail without it has been seen to store entries that a rollback then
//! erased.

use std::time::Duration;

use mongodb::bson::{RawDocumentBuf, Timestamp as BsonTimestamp, doc, rawdoc};
use tokio_util::sync::CancellationToken;

use super::batches::{Batches, Budget, ReadRequest};
use super::connect::Server;
use super::topology;
use crate::artifact::bson;
use crate::domain::pitr::OpTime;
use crate::domain::timestamp::Timestamp;
use crate::error::{ErrorKind, Result};
use crate::mongo::oplog::entry::op_time;

/// Entries in one reply; an entry may be 16 MiB, but most are a few hundred bytes.
const BATCH: u32 = 8_192;

/// How long the server waits for a new entry before it sends an empty reply to a backup, whose end depends on it.
pub const AWAIT: Duration = Duration::from_millis(500);

/// How often a server is asked for an entry that it may be removing.
const MOST_ASKED: u32 = 10;

pub fn to_bson(ts: Timestamp) -> BsonTimestamp {
    BsonTimestamp { time: ts.t, increment: ts.i }
}

/// Where a backup's oplog must begin: at the last majority-committed position, or earlier, where the oldest
/// transaction began that is prepared or in progress. One that was prepared before the backup and commits during it
/// would otherwise lack its operations. `config.transactions` is read before and after the position is taken, so that
/// a transaction that changes state between the two is seen.
pub async fn begin(server: &Server, cancel: &CancellationToken) -> Result<Timestamp> {
    let before = oldest_open(server, cancel).await?;
    let majority = topology::op_times(server, cancel).await?.majority;
    let after = oldest_open(server, cancel).await?;
    Ok([before, after].into_iter().flatten().fold(majority, Timestamp::min))
}

async fn oldest_open(server: &Server, cancel: &CancellationToken) -> Result<Option<Timestamp>> {
    let ask = doc! {
        "find": "transactions", "filter": {"state": {"$in": ["prepared", "inProgress"]}},
        "projection": {"startOpTime": 1},
    };
    let open = server.collect(cancel, "config", ask).await?;
    let start = |d: &RawDocumentBuf| {
        let start = bson::get(d.as_bytes(), "startOpTime")?;
        bson::get(start.document()?, "ts")?.timestamp()
    };
    Ok(open.iter().filter_map(start).min())
}

/// Every entry from `begin` on (the first must be exactly there, which the reader checks: after a roll-over the server
/// silently returns a later one), and on and on as more are committed.
/// `wait`: how long the server waits for a new one before it sends an empty reply.
pub fn follow(server: &Server, budget: &Budget, begin: Timestamp, wait: Duration) -> Batches {
    let command = rawdoc! {
        "find": "oplog.rs", "filter": {"ts": {"$gte": to_bson(begin)}}, "tailable": true, "awaitData": true,
        "batchSize": BATCH as i32, "readConcern": {"level": "majority"},
    };
    let doing = "following the oplog".to_owned();
    let request = ReadRequest { db: "local".into(), command, batch_size: Some(BATCH), await_time: Some(wait), doing };
    Batches::open(server, budget, request)
}

/// The entries of `[from, to)`.
pub fn range(server: &Server, budget: &Budget, from: Timestamp, to: Timestamp) -> Batches {
    let command = rawdoc! {
        "find": "oplog.rs", "filter": {"ts": {"$gte": to_bson(from), "$lt": to_bson(to)}},
        "batchSize": BATCH as i32, "readConcern": {"level": "majority"},
    };
    let doing = "reading the oplog".to_owned();
    Batches::open(
        server,
        budget,
        ReadRequest { db: "local".into(), command, batch_size: Some(BATCH), await_time: None, doing },
    )
}

/// The entry at exactly `ts`, if the oplog still holds it.
pub async fn entry_at(server: &Server, cancel: &CancellationToken, ts: Timestamp) -> Result<Option<RawDocumentBuf>> {
    // Both bounds, or the server would scan the whole oplog for one position.
    let at = to_bson(ts);
    let ask = doc! {"find": "oplog.rs", "filter": {"ts": {"$gte": at, "$lte": at}}, "limit": 1, "singleBatch": true};
    Ok(server.collect(cancel, "local", ask).await?.into_iter().next())
}

/// Where the oplog of the member ends, committed or not; `None`: it has no entry.
pub async fn newest(server: &Server, cancel: &CancellationToken) -> Result<Option<OpTime>> {
    let ask = doc! {
        "find": "oplog.rs", "sort": {"$natural": -1}, "limit": 1, "singleBatch": true, "projection": {"ts": 1, "t": 1},
    };
    let found = server.collect(cancel, "local", ask).await?;
    Ok(found.first().and_then(|entry| op_time(entry.as_bytes())))
}

/// The oldest entry of the oplog. A server that removes that entry just then answers `CappedPositionLost`, and is asked again.
pub async fn oldest(server: &Server, cancel: &CancellationToken) -> Result<Option<RawDocumentBuf>> {
    let ask = doc! {"find": "oplog.rs", "sort": {"$natural": 1}, "limit": 1, "singleBatch": true};
    let mut asked = 1;
    loop {
        match server.collect(cancel, "local", ask.clone()).await {
            Err(e) if e.kind() == ErrorKind::Interrupted && asked < MOST_ASKED => asked += 1,
            answer => return Ok(answer?.into_iter().next()),
        }
    }
}
