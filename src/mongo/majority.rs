//! Waiting for a majority of the members: said while it lasts, and bounded.

use std::future::Future;
use std::time::Duration;

use mongodb::bson::Document;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::Server;
use super::topology;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

/// How long a majority may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How often the members are looked at meanwhile.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// A look that takes longer says nothing.
const LOOK_LIMIT: Duration = Duration::from_secs(4);

/// Runs `work`, which a majority of the members has to follow (`what`: `building the indexes of shop.orders`). When none
/// can, `say` gets a sentence that names who is missing, once; when that lasts for `limit`, the wait is given up.
///
/// Errors: `Transient` after `limit`; whatever `work` returns.
pub async fn watched<T>(
    server: &Server,
    cancel: &CancellationToken,
    limit: Duration,
    what: &str,
    say: &(dyn Fn(String) + Sync),
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let watch = async {
        let mut since: Option<Instant> = None;
        loop {
            tokio::time::sleep(POLL_INTERVAL.min(limit / 2)).await;
            let Some(why) = missing(server, cancel).await else {
                since = None;
                continue;
            };
            if since.is_none() {
                say(format!("{what} waits for a majority of the members: {why}"));
            }
            if since.get_or_insert_with(Instant::now).elapsed() >= limit {
                return no_majority(server, what, limit, Some(why));
            }
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        error = watch => Err(error),
    }
}

/// Who is missing for a majority, as far as the server knows.
pub async fn missing(server: &Server, cancel: &CancellationToken) -> Option<String> {
    let set = tokio::time::timeout(LOOK_LIMIT, topology::replica_set(server, cancel)).await.ok()?.ok()?;
    set.lacks_majority()
}

/// No majority within `limit`. `why`: see [`missing`].
pub fn no_majority(server: &Server, what: &str, limit: Duration, why: Option<String>) -> Error {
    let (service, seconds) = (escape(server.service()), limit.as_secs());
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
    let text = format!("service {service}: {what}: no majority of the members confirmed it within {seconds} s{why}");
    Error::new(ErrorKind::Transient, text)
        .hint("start the members that are down, or take them out with rs.remove(); rs.status() shows them")
}

/// Why a write that was to be on a majority of the members is not, if the reply says so.
pub fn not_confirmed(reply: &Document) -> Option<String> {
    let error = reply.get_document("writeConcernError").ok()?;
    Some(error.get_str("errmsg").unwrap_or("no reason").to_owned())
}
