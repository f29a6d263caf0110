//! Whether the member that is recorded gets on. One that stands still sends no error: its oplog just has nothing new.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::event::{Event, emit};
use crate::domain::text::{duration, escape};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::reader::{self, Reader};
use crate::mongo::topology::{self, MemberState, NEAR_SECONDS, ReplicaSet};

/// How often it is looked.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// A member that does not answer so long says nothing; the cursor on its oplog does.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// Looks for as long as the member is recorded: what holds it up is told, and that it gets on again.
///
/// Returns when another member is to be read: this one is far behind, and another one is not.
pub async fn watch(
    cancel: &CancellationToken,
    service: &Server,
    reader: &Reader,
    events: &mpsc::Sender<Event>,
) -> Error {
    let mut stalled = false;
    let mut without_primary: Option<Instant> = None;
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let look = tokio::time::timeout(LOOK_LIMIT, look(cancel, service, reader, &mut without_primary));
        let Ok(Ok(found)) = look.await else { continue };
        let event = match found {
            Found::Another(error) => return error,
            Found::Stalled(error) => {
                stalled = true;
                Event::Stalled(error)
            }
            Found::Moving if std::mem::take(&mut stalled) => Event::Moving,
            Found::Moving => continue,
        };
        if let Err(e) = emit(events, event).await {
            return e;
        }
    }
}

enum Found {
    Moving,
    /// Nothing new can be recorded now, and no other member helps.
    Stalled(Error),
    /// Another member has what this one lacks.
    Another(Error),
}

async fn look(
    cancel: &CancellationToken,
    service: &Server,
    reader: &Reader,
    without_primary: &mut Option<Instant>,
) -> Result<Found> {
    let member = &reader.server;
    let times = topology::op_times(member, cancel).await?;
    let set = topology::replica_set(member, cancel).await?;
    let host = escape(&reader.member.host);
    let behind = set.newest().t.saturating_sub(times.applied.t);
    if behind > NEAR_SECONDS {
        let behind = duration(behind.into());
        if let Some(other) = nearer(service, cancel, reader, &set).await {
            let other = escape(&other.member.host);
            let what = format!("{host} stands still or is slow: it is {behind} behind; {other} is read from now on");
            return Ok(Found::Another(Error::new(ErrorKind::Transient, what)));
        }
        let what = format!("{host}, which is recorded, is {behind} behind, and no other member can be read");
        let hint = match service.is_direct() {
            true => {
                "its connection string names this member alone (directConnection=true); without that another one is read"
            }
            false => "rs.status() on the server shows how far each member is",
        };
        return Ok(Found::Stalled(Error::new(ErrorKind::Transient, what).hint(hint)));
    }
    let unconfirmed = times.applied.t.saturating_sub(times.majority.t);
    if unconfirmed > NEAR_SECONDS {
        let why = set.lacks_majority().map_or_else(String::new, |why| format!(" ({why})"));
        let what = format!(
            "no majority of the members confirms what changed in the last {}{why}: only confirmed changes are recorded",
            duration(unconfirmed.into())
        );
        return Ok(Found::Stalled(
            Error::new(ErrorKind::Transient, what).hint("start the members that are down; rs.status() shows them"),
        ));
    }
    if set.limited || set.members.iter().any(|m| m.state == MemberState::Primary) {
        *without_primary = None;
        return Ok(Found::Moving);
    }
    let since = without_primary.get_or_insert_with(Instant::now).elapsed().as_secs();
    if since <= u64::from(NEAR_SECONDS) {
        return Ok(Found::Moving);
    }
    let what = format!("the replica set has had no primary for {}: nothing can change there", duration(since));
    Ok(Found::Stalled(
        Error::new(ErrorKind::Transient, what).hint("rs.status() on the server shows the state of each member"),
    ))
}

/// Another member that can be read and is not far behind.
async fn nearer(service: &Server, cancel: &CancellationToken, reader: &Reader, set: &ReplicaSet) -> Option<Reader> {
    if service.is_direct() {
        return None;
    }
    for member in set.candidates(Timestamp::MIN).into_iter().filter(|m| m.host != reader.member.host) {
        if cancel.is_cancelled() {
            return None;
        }
        // One that cannot be asked cannot be read.
        if let Ok(other) = reader::read_from(service, set, member).await
            && !other.is_far_behind()
        {
            return Some(other);
        }
    }
    None
}
