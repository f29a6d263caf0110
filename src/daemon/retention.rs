//! A retention job: deletes what the retention of a schedule no longer keeps.
//!
//! Each backup is chosen in the store by a plan made right then, and deleted by the same code as one that a person
//! deletes. The job may be begun again at any point: what was half deleted is known by its record and finished first.

use std::collections::BTreeSet;

use super::blocking;
use super::delete::{self, Owner};
use super::prune;
use super::runner::Env;
use crate::domain::text;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};

pub async fn run(env: &Env, ctx: &Context, job: i64, schedule: &str) -> Result<()> {
    let mut tried = BTreeSet::new();
    let mut failures: Vec<(String, Error)> = Vec::new();
    let mut deleted = 0_u64;
    loop {
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        ctx.meter.set_phase("looking for what goes");
        let (store, of, skip) = (env.store.clone(), schedule.to_owned(), tried.clone());
        let Some(next) = blocking(move || store.retire_next(&of, job, &skip)).await? else { break };
        let name = next.backup.name.clone();
        let size = next.backup.size_bytes.map_or_else(String::new, |n| format!(", {}", text::bytes(n)));
        ctx.meter.info(format!("deleting {name}{size}: {}", next.reasons.join(", ")));
        tried.insert(name.clone());
        match delete::files(env, ctx, &next.backup, &Owner::Attempts(&next.attempts)).await {
            Ok(()) => {
                let (store, gone) = (env.store.clone(), name.clone());
                blocking(move || store.retired(&gone)).await?;
                deleted += 1;
            }
            Err(e) => {
                let (store, left, why) = (env.store.clone(), name.clone(), e.full());
                blocking(move || store.retire_failed(&left, &why)).await?;
                if e.kind() == ErrorKind::Cancelled {
                    return Err(e.hint(format!("what is left of {name} is deleted after the next run of {schedule}")));
                }
                ctx.meter.warn(format!("{name}: {e}"));
                let others_too = e.kind().is_retryable()
                    || matches!(e.kind(), ErrorKind::Denied | ErrorKind::Unauthenticated | ErrorKind::Failed);
                failures.push((name, e));
                if others_too {
                    // The storage is what is wrong; the others stay listed as good as long as they are.
                    break;
                }
            }
        }
    }
    ctx.meter.info(format!("deleted {deleted} backups of {schedule}"));
    // What led to them, and to nothing else, goes too. A backup that could not be deleted is no good one any more.
    let store = env.store.clone();
    if let Some(service) = blocking(move || store.job(job)).await?.service {
        prune::run(env, ctx, &service).await?;
    }
    // The failure that may pass by itself decides whether the job is tried again by itself.
    let count = failures.len();
    let first = failures.iter().position(|(_, e)| e.is_retryable()).unwrap_or(0);
    let Some((name, error)) = failures.into_iter().nth(first) else { return Ok(()) };
    let others = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    Err(error.context(format!("backup {name}{others} could not be deleted")))
}
