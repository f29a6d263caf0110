//! What each kind of job does. A kind is one file and one line in [`runner_of`].

use async_trait::async_trait;

use super::env::Env;
use super::progress::Log;
use crate::domain::job::JobRequest;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{CatalogueEntry, Claimed};

pub mod attempt;
mod backup;
mod block_gc;
mod delete;
mod repair;
mod restore;
mod retention;
mod slice_gc;
mod storages;
mod verify;

/// What an attempt at a job is given.
struct Work {
    env: Env,
    ctx: Context,
    log: Log,
    claimed: Claimed,
}

/// What a job that succeeded has to say: a backup, what the catalogue keeps of it.
type Done = Option<Box<CatalogueEntry>>;

/// One kind of job.
#[async_trait]
trait JobRunner: Send + Sync {
    /// Makes one attempt. It may be called again after a failure, if the kind says so (see `domain::job_kind`).
    async fn attempt(&self, work: &Work) -> Result<Done>;

    /// Ends the attempt of a daemon that stopped unexpectedly: cleans up behind it, and says how it ended.
    async fn recover(&self, work: &Work) -> Result<Done> {
        Err(stopped_unexpectedly(work.claimed.job.id))
    }
}

/// What carries out a request: one line for each kind.
fn runner_of(request: &JobRequest) -> Box<dyn JobRunner + '_> {
    match request {
        JobRequest::Backup(request) => Box::new(backup::BackupRunner(request)),
        JobRequest::Restore { request, plan } => Box::new(restore::RestoreRunner { request, plan }),
        JobRequest::Delete { backup, keep_files, foreign, increments } => {
            let foreign = foreign.as_deref();
            Box::new(delete::DeleteRunner { backup, keep_files: *keep_files, foreign, increments })
        }
        JobRequest::Verify { backup, .. } => Box::new(verify::VerifyRunner(backup)),
        JobRequest::Repair { storage, plan } => Box::new(repair::RepairRunner { storage, plan }),
        JobRequest::Retention { schedule } => Box::new(retention::RetentionRunner(schedule)),
    }
}

fn stopped_unexpectedly(id: i64) -> Error {
    Error::new(ErrorKind::Interrupted, "the daemon stopped unexpectedly during this attempt")
        .hint(format!("mongokeep job retry {id} tries again"))
}
