//! From a copy to the data of a server, with the server's own recovery.
//!
//! A copy made under a lock holds its last checkpoint, the log, and the oplog up to the lock; some of what was acknowledged
//! is in the oplog alone. Started as it is, it loses that: the mark up to which the oplog is whole does not move under the
//! lock, so that the server cuts off what lies behind. So the marks are replaced first, and the server is told to recover up
//! to the position that was noted (found by experiment on 4.4.2, 5.0.4, 6.0.5, 6.0.27 and 7.0.11).

use std::path::Path;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, Timestamp as BsonTimestamp, doc};
use tokio_util::sync::CancellationToken;

use super::index_builds::are_recovered;
use super::local_member::FolderOptions;
use super::mongod::Mongod;
use super::recorded::Recorded;
use super::recorded_indexes::RecordedIndexes;
use super::recovery_server::RecoveryServer;
use super::validate;
use crate::domain::pitr::OpTime;
use crate::domain::text::{count, escape};
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::contract::OplogTail;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::topology::{self, number};
use crate::mongo::{Server, oplog_source};

/// The smallest oplog that a server takes, in megabytes.
const SMALLEST_OPLOG: f64 = 990.0;
/// Of a set, no more members vote.
const VOTING_MEMBERS: usize = 7;

/// What is recovered, and where.
pub struct Recovery<'a> {
    pub ctx: &'a Context,
    pub mongod: &'a Mongod,
    pub folder: &'a Path,
    pub options: &'a FolderOptions,
    /// The newest entry that the copy holds.
    pub top: OpTime,
}

/// A copy that was recovered.
pub struct Recovered {
    /// The position that it is at.
    pub until: Timestamp,
    /// What is still missing of it.
    indexes: RecordedIndexes,
    /// Megabytes that its oplog had before it took more.
    oplog: Option<f64>,
}

impl Recovery<'_> {
    /// Makes the copy what the server was at `top`, or, with `tail`, at its later position, and a member of `wanted`.
    ///
    /// In one go: a server that has recovered and written its checkpoint does not recover once more (it says so, and
    /// succeeds). So everything that is to be replayed is in the oplog before.
    ///
    /// Errors: `Failed` with what the server says; `Corrupt` when it does not come to the position; `Cancelled`.
    pub async fn recover(&self, tail: Option<&OplogTail>, wanted: &Configuration<'_>) -> Result<Recovered> {
        let (cancel, meter) = (&self.ctx.cancel, &self.ctx.meter);
        let mut recovered = Recovered { until: self.top.ts, indexes: RecordedIndexes::default(), oplog: None };
        let running = meter.step("starting the copy", self.open(&[])).await?;
        // Cheap: it shares the connections.
        let server = &running.server().clone();
        if let Some(tail) = tail.filter(|tail| tail.until > self.top.ts) {
            let what = "putting recorded changes into the oplog";
            meter.step(what, self.append(server, tail, &mut recovered)).await?;
        }
        let until = recovered.until;
        let marking = async {
            self.mark(server, until).await?;
            // Replaced, never missing: a standalone without one drops temporary collections when it starts, and one that
            // `$out` filled before the checkpoint and renamed after it would be lost (seen on 6.0.5).
            run(server, cancel, doc! {"delete": "system.replset", "deletes": [{"q": {}, "limit": 0}]}).await?;
            run(server, cancel, doc! {"insert": "system.replset", "documents": [wanted.document(until)]}).await?;
            running.stop(self.mongod, cancel).await
        };
        meter.step("marking where it is recovered to", marking).await?;
        let recovering = async {
            let parameters = ["recoverFromOplogAsStandalone=true", "takeUnstableCheckpointOnShutdown=true"];
            let running = self.open(&parameters).await?;
            let reached = newest(running.server(), cancel).await?;
            running.stop(self.mongod, cancel).await?;
            Ok(reached)
        };
        let reached = meter.step("recovering with the server's own oplog", recovering).await?;
        if reached != until {
            let what = format!("the copy was recovered to position {reached} instead of {until}");
            return Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup, and keep this one for a report"));
        }
        Ok(recovered)
    }

    /// Puts what was recorded into the oplog, which is made large enough to hold all of it.
    async fn append(&self, server: &Server, tail: &OplogTail, recovered: &mut Recovered) -> Result<()> {
        let cancel = &self.ctx.cancel;
        let stats = server.command(cancel, "local", doc! {"collStats": "oplog.rs"}).await?;
        let bytes_of = |key: &str| stats.get(key).and_then(number).unwrap_or(0.0);
        let more = tail.slices.iter().map(|slice| slice.uncompressed).fold(0, u64::saturating_add) as f64;
        let wanted = ((bytes_of("size") + more) * 1.1 / f64::from(1 << 20)).ceil().max(SMALLEST_OPLOG);
        let present = bytes_of("maxSize") / f64::from(1 << 20);
        if wanted > present {
            server.command(cancel, "admin", doc! {"replSetResizeOplog": 1, "size": wanted}).await?;
            recovered.oplog = Some(present);
        }
        let makes_indexes = are_recovered(topology::facts(server, cancel).await?.numbers);
        let entries = Recorded::read(tail, self.top, cancel)?;
        let indexes = &mut recovered.indexes;
        let change = |entry| if makes_indexes { Ok(entry) } else { indexes.take(entry) };
        let (last, taken) = entries.put(server, cancel, change).await?;
        let until = last.map_or(self.top.ts, |last| last.ts);
        if until > tail.until {
            return Err(Error::new(ErrorKind::Internal, "a recovery would go too far"));
        }
        self.ctx.meter.info(format!("{} recorded changes are in the oplog, to position {until}", count(taken)));
        recovered.until = until;
        Ok(())
    }

    async fn open(&self, parameters: &[&str]) -> Result<RecoveryServer> {
        RecoveryServer::start(self.mongod, self.folder, self.options, parameters, &self.ctx.cancel).await
    }

    /// Has the next recovery go to `until`.
    async fn mark(&self, server: &Server, until: Timestamp) -> Result<()> {
        let cancel = &self.ctx.cancel;
        for collection in ["replset.minvalid", "replset.oplogTruncateAfterPoint", "replset.election"] {
            run(server, cancel, doc! {"delete": collection, "deletes": [{"q": {}, "limit": 0}]}).await?;
        }
        let position = BsonTimestamp { time: until.t, increment: until.i };
        let begin = BsonTimestamp { time: 0, increment: 1 };
        let valid = doc! {"_id": ObjectId::new(), "t": -1_i64, "ts": begin};
        run(server, cancel, doc! {"insert": "replset.minvalid", "documents": [valid]}).await?;
        let mark = doc! {"_id": "oplogTruncateAfterPoint", "oplogTruncateAfterPoint": position};
        run(server, cancel, doc! {"insert": "replset.oplogTruncateAfterPoint", "documents": [mark]}).await?;
        Ok(())
    }

    /// Starts what was recovered as any server is started, and looks whether it is whole. `check`: every collection is
    /// validated, which counts as so many bytes of work.
    ///
    /// Errors: `Corrupt` when it is at another position, or naming a collection that does not validate.
    pub async fn prove(&self, recovered: &Recovered, check: Option<u64>) -> Result<()> {
        let (cancel, meter, until) = (&self.ctx.cancel, &self.ctx.meter, recovered.until);
        let running = meter.step("starting the recovered copy", self.open(&[])).await?;
        let server = running.server();
        let reached = newest(server, cancel).await?;
        if reached != until {
            let what = format!("the recovered copy is at position {reached} instead of {until}");
            return Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup, and keep this one for a report"));
        }
        // A server that recovers the making of indexes finishes those that were under way, as after any restart.
        let numbers = topology::facts(server, cancel).await?.numbers;
        let built = if are_recovered(numbers) { 0 } else { recovered.indexes.build(self.ctx, server).await? };
        if built > 0 {
            meter.info(format!(
                "built {} that the server cannot recover by itself",
                if built == 1 { "1 index".to_owned() } else { format!("{} indexes", count(built)) }
            ));
        }
        if let Some(size) = recovered.oplog {
            let size = size.max(SMALLEST_OPLOG);
            server.command(cancel, "admin", doc! {"replSetResizeOplog": 1, "size": size}).await?;
        }
        if let Some(work) = check {
            validate::every_collection(self.ctx, server, work).await?;
        }
        meter.step("stopping the recovered copy", running.stop(self.mongod, cancel)).await
    }
}

/// Runs a command on `local` that writes.
///
/// Errors: also a write that the reply says was refused.
async fn run(server: &Server, cancel: &CancellationToken, command: Document) -> Result<()> {
    let name = command.keys().next().cloned().unwrap_or_default();
    let reply = server.command(cancel, "local", command).await?;
    let Ok(errors) = reply.get_array("writeErrors") else { return Ok(()) };
    let first = errors.first().and_then(|e| e.as_document()?.get_str("errmsg").ok()).unwrap_or("no reason");
    Err(Error::new(ErrorKind::Failed, format!("the server refused to {name} in its copy: {}", escape(first))))
}

/// The position of the newest entry of the oplog.
async fn newest(server: &Server, cancel: &CancellationToken) -> Result<Timestamp> {
    let newest = oplog_source::newest(server, cancel).await?.map(|newest| newest.ts);
    newest.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the oplog of the copy is empty").hint("use another backup"))
}

/// The replica set that a copy becomes a member of.
pub struct Configuration<'a> {
    pub name: &'a str,
    /// `host:port` each.
    pub members: &'a [String],
    /// Of the backup that the set is made of.
    pub attempt_id: &'a str,
}

/// The identity of the set that is made of a backup. It is another than that of the set which was copied, so that its members
/// never meet; and the same on every host where the same is restored for the same members, so that these become one set.
fn set_identity(attempt_id: &str, until: Timestamp, name: &str, members: &[String]) -> ObjectId {
    let mut hasher = blake3::Hasher::new();
    let position = until.to_string();
    let parts = [attempt_id, &position, name].into_iter().chain(members.iter().map(String::as_str));
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut identity = [0; 12];
    identity.copy_from_slice(&hasher.finalize().as_bytes()[..12]);
    ObjectId::from_bytes(identity)
}

impl Configuration<'_> {
    /// As the server keeps it, of the set that is made of the backup at the position `until`.
    fn document(&self, until: Timestamp) -> Document {
        let identity = set_identity(self.attempt_id, until, self.name, self.members);
        let members: Vec<Document> = self
            .members
            .iter()
            .enumerate()
            .map(|(n, host)| {
                let mut member = doc! {"_id": n as i32, "host": host};
                if n >= VOTING_MEMBERS {
                    member.extend(doc! {"votes": 0, "priority": 0});
                }
                member
            })
            .collect();
        doc! {
            "_id": self.name, "version": 1, "protocolVersion": 1_i64, "writeConcernMajorityJournalDefault": true,
            "members": members, "settings": {"replicaSetId": identity},
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Bson;

    use super::*;

    #[test]
    fn the_same_restore_makes_members_of_the_same_set() {
        let members: Vec<String> = (0..9).map(|n| format!("h{n}:1")).collect();
        let identity = |attempt: &str, i, name: &str, n: usize| {
            set_identity(attempt, Timestamp::new(7, i), name, &members[..n]).to_hex()
        };
        let one = identity("a", 1, "rs", 9);
        assert_eq!(one, identity("a", 1, "rs", 9));
        for other in
            [identity("b", 1, "rs", 9), identity("a", 2, "rs", 9), identity("a", 1, "rt", 9), identity("a", 1, "rs", 8)]
        {
            assert_ne!(one, other);
        }
        let whole = Configuration { name: "rs", members: &members, attempt_id: "a" }.document(Timestamp::new(7, 1));
        assert_eq!(
            whole.get_document("settings").unwrap().get_object_id("replicaSetId").unwrap().to_hex(),
            identity("a", 1, "rs", 9)
        );
        let votes: Vec<_> =
            whole.get_array("members").unwrap().iter().map(|m| m.as_document().unwrap().get("votes")).collect();
        assert!(votes[..7].iter().all(Option::is_none) && votes[7..].iter().all(|v| *v == Some(&Bson::Int32(0))));
    }
}
