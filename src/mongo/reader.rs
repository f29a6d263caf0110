//! Which member of a replica set is read, and the connection to it.

use mongodb::bson::doc;
use tokio_util::sync::CancellationToken;

use super::connect::{Hello, Server};
use super::topology::{Member, MemberState, NEAR_SECONDS, ReplicaSet, lag, replica_set};
use crate::domain::text::{duration, escape};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// The member that a backup reads, over a connection of its own.
pub struct Reader {
    pub server: Server,
    pub member: Member,
    pub set: ReplicaSet,
    /// The newest change that the set had when the member was chosen.
    pub newest: Timestamp,
    /// How many seconds the member was behind that.
    pub lag_seconds: u32,
}

impl Reader {
    /// Farther behind than a member that gets on ever is.
    pub fn is_far_behind(&self) -> bool {
        self.lag_seconds > NEAR_SECONDS
    }

    /// `h:27017 (hidden secondary of rs0, 3 s behind)`.
    pub fn in_words(&self) -> String {
        let Member { host, hidden, state, .. } = &self.member;
        let hidden = if *hidden { "hidden " } else { "" };
        let state = match state {
            MemberState::Primary => "primary",
            MemberState::Secondary => "secondary",
            MemberState::Other => "member",
        };
        let behind = match self.lag_seconds {
            0 => String::new(),
            seconds => format!(", {} behind", duration(seconds.into())),
        };
        format!("{} ({hidden}{state} of {}{behind})", escape(host), escape(&self.set.name))
    }
}

/// Connects to the member to read: the one that the connection string names alone (`directConnection=true`), else the
/// best of [`ReplicaSet::candidates`] that answers. `warn` gets a sentence about each that is passed over, and about one
/// that is read although it is far behind.
pub async fn reader(server: &Server, cancel: &CancellationToken, warn: &(dyn Fn(String) + Sync)) -> Result<Reader> {
    let set = replica_set(server, cancel).await?;
    reader_of(server, cancel, set, Timestamp::MIN, warn).await
}

/// The same for one who goes on from `position`: a member that is behind it is read only when no other can be.
pub async fn reader_of(
    server: &Server,
    cancel: &CancellationToken,
    set: ReplicaSet,
    position: Timestamp,
    warn: &(dyn Fn(String) + Sync),
) -> Result<Reader> {
    if set.limited {
        warn("hidden and delayed members cannot be told apart without the role clusterMonitor".into());
    }
    if server.is_direct() {
        let reader = read_named(server, cancel, set).await?;
        if reader.is_far_behind() {
            let (who, behind) = (reader.in_words(), duration(reader.lag_seconds.into()));
            warn(format!(
                "{who} is read because the connection string names it alone: what changed in the last {behind} is \
                 not there yet"
            ));
        }
        return Ok(reader);
    }
    let mut failed = None;
    let mut far: Option<Reader> = None;
    for candidate in set.candidates(position) {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        match read_from(server, &set, candidate).await {
            Ok(reader) if !reader.is_far_behind() => {
                warn_of_far(&set, &reader, warn);
                return Ok(reader);
            }
            Ok(reader) => far = far.filter(|far| far.lag_seconds <= reader.lag_seconds).or(Some(reader)),
            Err(e) => {
                warn(format!("{} is not read: {e}", escape(&candidate.host)));
                failed = Some(e);
            }
        }
    }
    if let Some(reader) = far {
        warn(format!("{} is read, far behind as it is: no other member can be read", reader.in_words()));
        return Ok(reader);
    }
    Err(failed.unwrap_or_else(|| {
        Error::new(ErrorKind::Unreachable, format!("service {}: no member can be read", server.service()))
            .hint("rs.status() on the server shows the state of each member")
    }))
}

/// Says which members would be read before the one of `reader`, if they were not so far behind.
fn warn_of_far(set: &ReplicaSet, reader: &Reader, warn: &(dyn Fn(String) + Sync)) {
    let order = |m: &Member| (m.state == MemberState::Primary, !m.hidden);
    for member in set.candidates(Timestamp::MIN) {
        let behind = set.lag_seconds(member);
        if behind > NEAR_SECONDS && order(member) <= order(&reader.member) {
            let (host, behind) = (escape(&member.host), duration(behind.into()));
            let hidden = if member.hidden { "hidden " } else { "" };
            warn(format!("{host} ({hidden}secondary) is not read: it is {behind} behind"));
        }
    }
}

/// The member that `server` leads to alone.
async fn read_named(server: &Server, cancel: &CancellationToken, set: ReplicaSet) -> Result<Reader> {
    let hello = Hello::read(&server.command(cancel, "admin", doc! {"hello": 1}).await?);
    let host = hello.me.clone().unwrap_or_else(|| server.hosts().to_owned());
    let known = set.members.iter().find(|m| m.host == host).cloned();
    let member = known.unwrap_or(Member {
        host,
        state: if hello.is_writable_primary { MemberState::Primary } else { MemberState::Secondary },
        hidden: hello.is_hidden,
        arbiter: false,
        votes: true,
        delay_seconds: 0,
        applied: Timestamp::MIN,
    });
    if !hello.is_writable_primary && !hello.is_secondary {
        return Err(not_readable(server, &member.host));
    }
    Ok(chosen(server.clone(), &hello, member, set))
}

/// `hello`: what the member said when it was chosen.
fn chosen(server: Server, hello: &Hello, member: Member, set: ReplicaSet) -> Reader {
    let applied = hello.last_write.unwrap_or(member.applied);
    let newest = set.newest().max(applied);
    let lag_seconds = if applied == Timestamp::MIN { 0 } else { lag(newest, applied) };
    Reader { server, member, set, newest, lag_seconds }
}

/// Connects to one of the members of `set`, to which `server` leads.
///
/// Errors: what the connection says; `Conflict` for a member of another replica set, `Transient` for one that holds no data
/// that can be read now.
pub async fn read_from(server: &Server, set: &ReplicaSet, member: &Member) -> Result<Reader> {
    let direct = server.direct(&member.host).await?;
    if direct.hello().set_name.as_ref() != Some(&set.name) {
        let (host, name) = (escape(&member.host), escape(&set.name));
        return Err(Error::new(ErrorKind::Conflict, format!("{host} does not belong to replica set {name}")));
    }
    if !direct.hello().is_secondary && !direct.hello().is_writable_primary {
        return Err(not_readable(server, &member.host));
    }
    let hello = direct.hello().clone();
    Ok(chosen(direct, &hello, member.clone(), set.clone()))
}

fn not_readable(server: &Server, host: &str) -> Error {
    let host = escape(host);
    Error::new(
        ErrorKind::Transient,
        format!("service {}: {host} is neither primary nor secondary now", server.service()),
    )
    .hint("rs.status() on the server shows its state")
}
