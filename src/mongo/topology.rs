//! What deployment this is: its members, how far each is, and its version.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc, oid::ObjectId};
use tokio_util::sync::CancellationToken;

use super::connect::{Hello, Server, ts};
use crate::domain::service::ServiceInfo;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// How many seconds a member may be behind the newest of its set to be read like any other. An idle set writes a note every
/// ten seconds, and members hear of each other every two: one that gets on is never so far behind.
pub const NEAR_SECONDS: u32 = 30;

/// How long a member may take to learn its first majority-committed position.
const MAJORITY_LIMIT: Duration = Duration::from_secs(10);

/// A replica set as its configuration and status show it. A user who may not read those gets what `hello` tells
/// everybody: no hidden members, no delays, no identity ([`ReplicaSet::limited`]).
#[derive(Debug, Clone)]
pub struct ReplicaSet {
    pub name: String,
    /// ObjectId of the configuration in hex; empty when it may not be read.
    pub id: String,
    pub members: Vec<Member>,
    /// The configuration or status could not be read, because the user lacks `clusterMonitor`.
    pub limited: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `host:port` as the configuration names it.
    pub host: String,
    pub state: MemberState,
    pub hidden: bool,
    pub arbiter: bool,
    /// It counts for a majority.
    pub votes: bool,
    /// The member applies every change this much later on purpose.
    pub delay_seconds: u64,
    /// Its last applied position, as the member asked knows it; [`Timestamp::MIN`]: not known.
    pub applied: Timestamp,
}

impl Member {
    fn holds_data(&self) -> bool {
        !self.arbiter && self.state != MemberState::Other
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    Primary,
    Secondary,
    /// Anything that cannot be read: starting, recovering, rolling back, down, arbiter.
    Other,
}

/// What a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `6.0.5`.
    pub version: String,
    /// Its first three numbers.
    pub numbers: [u32; 3],
    /// `6.0`; none when the user may not ask.
    pub fcv: Option<String>,
}

/// Where a member's oplog stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpTimes {
    /// The last change it applied.
    pub applied: Timestamp,
    /// The last change that no rollback can undo.
    pub majority: Timestamp,
}

/// Refuses what cannot be backed up: a standalone server, a router, a set that was never initiated, an arbiter.
pub fn require_replica_set(service: &str, hello: &Hello) -> Result<String> {
    if hello.is_mongos {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("service {service} is a sharded cluster (its connection string leads to a mongos)"),
        )
        .hint(format!("{}; a shard alone can be added as a service, with what it holds", super::sharding::USE_PBM)));
    }
    if hello.is_uninitiated {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("service {service} is a replica set that was never initiated"),
        )
        .hint("on the server: mongosh --eval 'rs.initiate()'"));
    }
    if hello.is_arbiter {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("service {service} leads to an arbiter, which holds no data"),
        )
        .hint("give the connection string of a member that holds data"));
    }
    hello.set_name.clone().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("service {service} is a standalone server: without an oplog there is no consistent backup"),
        )
        .hint(
            "make it a replica set of one member: add replication.replSetName: rs0 to mongod.conf, restart mongod, \
             then mongosh --eval 'rs.initiate()'",
        )
    })
}

/// The replica set that `server` belongs to.
///
/// Errors: as [`require_replica_set`], and what the server reports.
pub async fn replica_set(server: &Server, cancel: &CancellationToken) -> Result<ReplicaSet> {
    let hello = server.hello();
    let name = require_replica_set(server.service(), hello)?;
    let config = allowed(server.command(cancel, "admin", doc! {"replSetGetConfig": 1}).await)?;
    let status = allowed(server.command(cancel, "admin", doc! {"replSetGetStatus": 1}).await)?;
    Ok(match (config, status) {
        (Some(config), Some(status)) => from_config(name, &config, &status),
        // Asked once more, because the first answer may be another member's: this one knows the newest change.
        _ => from_hello(name, &Hello::read(&server.command(cancel, "admin", doc! {"hello": 1}).await?)),
    })
}

/// `None` where the user lacks the right.
fn allowed(result: Result<Document>) -> Result<Option<Document>> {
    match result {
        Ok(reply) => Ok(Some(reply)),
        Err(e) if e.kind() == ErrorKind::Denied => Ok(None),
        Err(e) => Err(e),
    }
}

fn from_config(name: String, config: &Document, status: &Document) -> ReplicaSet {
    let documents = |value: Option<&Bson>| -> Vec<Document> {
        let items = value.and_then(Bson::as_array);
        items.map(|a| a.iter().filter_map(|b| b.as_document().cloned()).collect()).unwrap_or_default()
    };
    let empty = Document::new();
    let config = config.get_document("config").unwrap_or(&empty);
    let states = documents(status.get("members"));
    let members = documents(config.get("members"))
        .iter()
        .filter_map(|member| {
            let host = member.get_str("host").ok()?.to_owned();
            let state = states.iter().find(|s| s.get("_id") == member.get("_id"));
            let healthy = state.is_some_and(|s| s.get("health").and_then(number) == Some(1.0));
            let code = state.and_then(|s| s.get("state")).and_then(number);
            // Before 5.0 the field had another name.
            let delay = member.get("secondaryDelaySecs").or_else(|| member.get("slaveDelay"));
            Some(Member {
                host,
                state: match code {
                    Some(1.0) if healthy => MemberState::Primary,
                    Some(2.0) if healthy => MemberState::Secondary,
                    _ => MemberState::Other,
                },
                hidden: member.get_bool("hidden").unwrap_or(false),
                arbiter: member.get_bool("arbiterOnly").unwrap_or(false),
                votes: member.get("votes").and_then(number) != Some(0.0),
                delay_seconds: delay.and_then(number).map_or(0, |d| d as u64),
                applied: state.and_then(|s| s.get_document("optime").ok()).and_then(ts).unwrap_or_default(),
            })
        })
        .collect();
    let id = config.get_document("settings").ok().and_then(|s| s.get_object_id("replicaSetId").ok());
    ReplicaSet { name, id: id.map(|i| i.to_hex()).unwrap_or_default(), members, limited: false }
}

fn from_hello(name: String, hello: &Hello) -> ReplicaSet {
    let member = |host: &String| Member {
        host: host.clone(),
        state: if hello.primary.as_ref() == Some(host) { MemberState::Primary } else { MemberState::Secondary },
        hidden: false,
        arbiter: false,
        votes: true,
        delay_seconds: 0,
        applied: hello.last_write.filter(|_| hello.me.as_ref() == Some(host)).unwrap_or(Timestamp::MIN),
    };
    let members = hello.hosts.iter().chain(&hello.passives).map(member).collect();
    ReplicaSet { name, id: String::new(), members, limited: true }
}

impl ReplicaSet {
    /// The newest change that a member has, as far as is known; [`Timestamp::MIN`] when nothing is.
    pub fn newest(&self) -> Timestamp {
        self.members.iter().filter(|m| m.holds_data()).map(|m| m.applied).max().unwrap_or(Timestamp::MIN)
    }

    /// How many seconds `member` is behind the newest, as far as is known.
    pub(super) fn lag_seconds(&self, member: &Member) -> u32 {
        if member.applied == Timestamp::MIN { 0 } else { lag(self.newest(), member.applied) }
    }

    /// Members that can be read, the best first: hidden secondaries, other secondaries (the least behind first), the
    /// primary; after them those that are farther behind than [`NEAR_SECONDS`], and in the same order last those that have
    /// not reached `position`. Never an arbiter or a delayed member.
    pub fn candidates(&self, position: Timestamp) -> Vec<&Member> {
        let readable = |m: &&Member| m.holds_data() && m.delay_seconds == 0;
        let mut found: Vec<&Member> = self.members.iter().filter(readable).collect();
        found.sort_by_key(|m| {
            let far = self.lag_seconds(m);
            let far = if far > NEAR_SECONDS { far } else { 0 };
            (m.applied < position, far, m.state == MemberState::Primary, !m.hidden, std::cmp::Reverse(m.applied))
        });
        found
    }

    /// Why no majority can confirm anything now, if none can: members that vote and hold data are missing. Of a set that
    /// does not tell (`limited`) nothing is known.
    pub fn lacks_majority(&self) -> Option<String> {
        let voting: Vec<&Member> = self.members.iter().filter(|m| m.votes).collect();
        let (up, down): (Vec<&Member>, Vec<&Member>) =
            voting.iter().filter(|m| !m.arbiter).partition(|m| m.state != MemberState::Other);
        let needed = (voting.len() / 2 + 1).min(up.len() + down.len());
        if self.limited || up.len() >= needed {
            return None;
        }
        let down: Vec<String> = down.iter().map(|m| escape(&m.host)).collect();
        let up = up.len();
        Some(format!("{needed} members that vote and hold data must be up, {up} is; down: {}", down.join(", ")))
    }
}

pub(super) fn lag(newest: Timestamp, applied: Timestamp) -> u32 {
    newest.t.saturating_sub(applied.t)
}

/// Version and feature compatibility version.
pub async fn facts(server: &Server, cancel: &CancellationToken) -> Result<Facts> {
    let build = server.command(cancel, "admin", doc! {"buildInfo": 1}).await?;
    let version = build.get_str("version").unwrap_or("unknown").to_owned();
    // A router has none of its own, and says that it knows no such option.
    let fcv = match server.hello().is_mongos {
        true => None,
        false => {
            let ask = doc! {"getParameter": 1, "featureCompatibilityVersion": 1};
            allowed(server.command(cancel, "admin", ask).await)?
        }
    };
    let fcv = fcv.and_then(|reply| {
        let value = reply.get_document("featureCompatibilityVersion").ok()?;
        value.get_str("version").ok().map(str::to_owned)
    });
    Ok(Facts { numbers: numbers(&version), version, fcv })
}

fn numbers(version: &str) -> [u32; 3] {
    let mut out = [0; 3];
    for (slot, part) in out.iter_mut().zip(version.split(['.', '-'])) {
        *slot = part.parse().unwrap_or(0);
    }
    out
}

/// What the list and the form show about a service.
///
/// Errors: `Denied` where the server says what it is to everybody, and does not let us in.
pub async fn info(server: &Server, cancel: &CancellationToken) -> Result<ServiceInfo> {
    // Of any user this names what it may see; whoever did not log in is refused.
    server.command(cancel, "admin", doc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": true}).await?;
    let facts = facts(server, cancel).await?;
    let set = match server.hello().set_name {
        Some(_) => Some(replica_set(server, cancel).await?),
        None => None,
    };
    Ok(ServiceInfo {
        server_version: facts.version,
        fcv: facts.fcv,
        role: server.hello().role(),
        members: set.as_ref().map_or(1, |s| s.members.len()),
        replica_set: set.map(|s| s.name),
    })
}

/// Where the oplog of the member behind `server` (a direct connection) stands. `hello` says it to everybody. A member
/// that has just started knows no majority-committed position yet; that is waited for, `MAJORITY_LIMIT` at most.
pub async fn op_times(server: &Server, cancel: &CancellationToken) -> Result<OpTimes> {
    let began = tokio::time::Instant::now();
    loop {
        let hello = server.command(cancel, "admin", doc! {"hello": 1}).await?;
        let last = hello.get_document("lastWrite").ok();
        let time = |key: &str| last.and_then(|l| l.get_document(key).ok()).and_then(ts);
        if let (Some(applied), Some(majority)) = (time("opTime"), time("majorityOpTime")) {
            return Ok(OpTimes { applied, majority });
        }
        if began.elapsed() > MAJORITY_LIMIT {
            return Err(Error::new(
                ErrorKind::Transient,
                format!("service {}: {} has no majority-committed position", server.service(), server.hosts()),
            )
            .hint("is a majority of the replica set's members up? rs.status() shows it"));
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::cancelled()),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}

/// What must not change while a member is read: its process and its rollback id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuity {
    process: Option<ObjectId>,
    rollback_id: i64,
}

/// See [`Continuity`]; compared before the first and after the last read.
pub async fn continuity(server: &Server, cancel: &CancellationToken) -> Result<Continuity> {
    let hello = Hello::read(&server.command(cancel, "admin", doc! {"hello": 1}).await?);
    Ok(Continuity { process: hello.process_id, rollback_id: rollback_id(server, cancel).await? })
}

/// The rollback id of the member behind `server`: it changes when the member takes back changes it had applied.
/// `replSetGetRBID` is for the server's own use (the role `backup` may not run it), `serverStatus` tells the same.
pub async fn rollback_id(server: &Server, cancel: &CancellationToken) -> Result<i64> {
    let ask = doc! {
        "serverStatus": 1, "repl": 1, "metrics": 0, "wiredTiger": 0, "locks": 0, "tcmalloc": 0, "transactions": 0,
        "opLatencies": 0, "mirroredReads": 0, "electionMetrics": 0, "flowControl": 0, "globalLock": 0,
    };
    let status = server.command(cancel, "admin", ask).await?;
    let id = status.get_document("repl").ok().and_then(|r| r.get("rbid")).and_then(number);
    if let Some(id) = id {
        return Ok(id as i64);
    }
    let reply = server.command(cancel, "admin", doc! {"replSetGetRBID": 1}).await?;
    let id = reply.get("rbid").and_then(number);
    id.map(|id| id as i64).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("service {}: the server does not tell its rollback id", server.service()),
        )
    })
}

/// Any of BSON's numbers.
pub(crate) fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Int64(n) => Some(*n as f64),
        Bson::Double(n) => Some(*n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(host: &str, state: MemberState, hidden: bool, delay_seconds: u64, second: u32) -> Member {
        let applied = Timestamp::new(second, 1);
        Member { host: host.into(), state, hidden, arbiter: false, votes: true, delay_seconds, applied }
    }

    #[test]
    fn a_hidden_secondary_is_read_first_and_a_delayed_one_never() {
        let set = ReplicaSet {
            name: "rs".into(),
            id: String::new(),
            limited: false,
            members: vec![
                member("primary", MemberState::Primary, false, 0, 100),
                member("behind", MemberState::Secondary, false, 0, 90),
                member("near", MemberState::Secondary, false, 0, 99),
                member("hidden", MemberState::Secondary, true, 0, 80),
                member("delayed", MemberState::Secondary, true, 3600, 70),
                member("down", MemberState::Other, true, 0, 100),
                Member { arbiter: true, ..member("arbiter", MemberState::Secondary, false, 0, 100) },
            ],
        };
        let order = |second| -> Vec<&str> {
            set.candidates(Timestamp::new(second, 1)).iter().map(|m| m.host.as_str()).collect()
        };
        assert_eq!(order(0), ["hidden", "near", "behind", "primary"]);
        // Of those that go on from there, any that has it comes before one that has not.
        assert_eq!(order(80), ["hidden", "near", "behind", "primary"]);
        assert_eq!(order(90), ["near", "behind", "primary", "hidden"]);
        assert_eq!(order(100), ["primary", "hidden", "near", "behind"]);
        assert_eq!(order(101), ["hidden", "near", "behind", "primary"]);
    }

    #[test]
    fn a_member_far_behind_is_read_last_whatever_it_is() {
        let set = ReplicaSet {
            name: "rs".into(),
            id: String::new(),
            limited: false,
            members: vec![
                member("primary", MemberState::Primary, false, 0, 1000),
                member("farther", MemberState::Secondary, true, 0, 100),
                member("far", MemberState::Secondary, false, 0, 969),
                member("near", MemberState::Secondary, false, 0, 970),
                Member { applied: Timestamp::MIN, ..member("unknown", MemberState::Secondary, false, 0, 0) },
            ],
        };
        let order: Vec<&str> = set.candidates(Timestamp::MIN).iter().map(|m| m.host.as_str()).collect();
        assert_eq!(order, ["near", "unknown", "primary", "far", "farther"]);
    }

    #[test]
    fn a_majority_that_cannot_be_is_named() {
        let up = |host| member(host, MemberState::Secondary, false, 0, 1);
        let down = |host| member(host, MemberState::Other, false, 0, 1);
        let arbiter = |host| Member { arbiter: true, ..member(host, MemberState::Other, false, 0, 0) };
        let lacks = |members: Vec<Member>| {
            ReplicaSet { name: "rs".into(), id: String::new(), limited: false, members }.lacks_majority()
        };
        assert_eq!(lacks(vec![up("a"), up("b"), down("c")]), None);
        assert_eq!(lacks(vec![up("a"), arbiter("b")]), None, "one member that holds data is all there is");
        let text = lacks(vec![up("a"), down("b:1"), arbiter("c")]).unwrap();
        assert!(text.starts_with("2 members") && text.contains("down: b:1"), "{text}");
        assert_eq!(lacks(vec![up("a"), Member { votes: false, ..down("b") }]), None);
    }

    #[test]
    fn what_cannot_be_backed_up_is_refused_with_a_way_out() {
        let standalone = require_replica_set("s", &Hello::default()).unwrap_err();
        assert!(standalone.hint_text().unwrap().contains("rs.initiate()"));
        let mongos = require_replica_set("s", &Hello { is_mongos: true, ..Hello::default() }).unwrap_err();
        assert_eq!(mongos.kind(), ErrorKind::Unsupported);
        assert!(mongos.hint_text().unwrap().contains("PBM"));
    }

    #[test]
    fn versions_are_read_as_numbers() {
        assert_eq!(numbers("6.0.5"), [6, 0, 5]);
        assert_eq!(numbers("7.0.0-rc1"), [7, 0, 0]);
        assert_eq!(numbers("unknown"), [0, 0, 0]);
    }
}
