//! Index builds that a server before 6.0 cannot recover from its oplog: as a standalone it ends by an invariant (`!isMaster`
//! in 4.4.2, `!isPrimary` in 5.0.4). A copy must not have one behind its last checkpoint. In the checkpoint it harms nobody,
//! finished or not ([`super::recorded_indexes`]).

use std::time::Duration;

use mongodb::bson::{Timestamp, doc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;

/// A checkpoint follows a majority, and a majority follows within moments.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The commands of the oplog that have to do with the making of an index.
pub const COMMANDS: [&str; 4] = ["createIndexes", "startIndexBuild", "commitIndexBuild", "abortIndexBuild"];

/// Whether a server of this version recovers them: 6.0.5, 6.0.27 and 7.0.11 do.
pub fn are_recovered(numbers: [u32; 3]) -> bool {
    numbers[0] >= 6
}

/// Whether a copy of `checkpoint` (`None`: the last one) that is made now can be recovered; asked while nothing can be
/// written, or the checkpoint is kept.
pub async fn allow_a_copy(
    server: &Server,
    numbers: [u32; 3],
    checkpoint: Option<Timestamp>,
    cancel: &CancellationToken,
) -> Result<bool> {
    Ok(are_recovered(numbers) || !are_after(server, checkpoint, cancel).await?)
}

/// Waits until nothing speaks against locking the server now.
///
/// Errors: `Interrupted` when it takes too long.
pub async fn wait_for_moment(server: &Server, numbers: [u32; 3], cancel: &CancellationToken) -> Result<()> {
    let began = Instant::now();
    while !allow_a_copy(server, numbers, None, cancel).await? {
        if began.elapsed() > WAIT_LIMIT {
            return Err(one_after_another(server));
        }
        server.command(cancel, "admin", doc! {"fsync": 1}).await?;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// The failure of a backup that finds no moment to copy the files.
pub fn one_after_another(server: &Server) -> Error {
    let what = format!(
        "service {}: an index is being built, or one after another, and a copy could not be recovered",
        server.service()
    );
    Error::new(ErrorKind::Interrupted, what).hint("make the backup again when the index is there, or fewer are built")
}

/// Whether the oplog behind `checkpoint` (`None`: the last one of the member) has to do with the making of an index.
async fn are_after(server: &Server, checkpoint: Option<Timestamp>, cancel: &CancellationToken) -> Result<bool> {
    let checkpoint = match checkpoint {
        Some(checkpoint) => checkpoint,
        None => {
            let status = server.command(cancel, "admin", doc! {"replSetGetStatus": 1}).await?;
            let Ok(stable) = status.get_timestamp("lastStableRecoveryTimestamp") else { return Ok(false) };
            stable
        }
    };
    let kinds: Vec<_> = COMMANDS.iter().map(|name| doc! {format!("o.{name}"): {"$exists": true}}).collect();
    let ask = doc! {
        "find": "oplog.rs", "filter": {"ts": {"$gt": checkpoint}, "op": "c", "$or": kinds}, "limit": 1, "singleBatch": true,
        "projection": {"ts": 1},
    };
    Ok(!server.collect(cancel, "local", ask).await?.is_empty())
}
