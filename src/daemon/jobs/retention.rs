//! A retention job: deletes what the retention of a schedule no longer keeps.
//!
//! Each backup is chosen in the store by a plan made right then, and deleted by the same code as one that a person
//! deletes. The job may be begun again at any point: what was half deleted is known by its record and finished first.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::super::env::Env;
use super::delete::{End, delete_files};
use super::{Done, JobRunner, Work, block_gc, slice_gc, stopped_unexpectedly};
use crate::domain::text;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};

/// After so many backups in a row that failed in a way that may pass, a storage is left alone for the rest of a job.
const IN_A_ROW: u32 = 3;

/// Deletes what the retention of the schedule of this name no longer keeps.
pub struct RetentionRunner<'a>(pub &'a str);

#[async_trait]
impl JobRunner for RetentionRunner<'_> {
    async fn attempt(&self, work: &Work) -> Result<Done> {
        run_retention(&work.env, &work.ctx, work.claimed.job.id, self.0).await.map(|()| None)
    }

    /// What was half deleted is finished at once: until then it is in the way of its own record.
    async fn recover(&self, work: &Work) -> Result<Done> {
        if work.claimed.job.cancel_requested {
            return Err(stopped_unexpectedly(work.claimed.job.id));
        }
        self.attempt(work).await
    }
}

async fn run_retention(env: &Env, ctx: &Context, job: i64, schedule: &str) -> Result<()> {
    let (mut tried, mut away) = (BTreeSet::new(), BTreeSet::new());
    // How often in a row a storage failed in a way that may pass.
    let mut failing: BTreeMap<String, u32> = BTreeMap::new();
    let mut failures: Vec<(String, Error)> = Vec::new();
    let mut deleted = 0_u64;
    // Where something went that may have shared blocks with others.
    let mut folders: BTreeSet<(String, String)> = BTreeSet::new();
    loop {
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        ctx.meter.set_phase("looking for what goes");
        let (of, skip, but) = (schedule.to_owned(), tried.clone(), away.clone());
        let next = env.store.with(move |store| store.retire_next(&of, job, &skip, &but));
        let Some(next) = next.await? else { break };
        let storage = next.deletion.backup.storage.clone();
        let name = next.deletion.backup.name.clone();
        let size = next.deletion.backup.size_bytes.map_or_else(String::new, |n| format!(", {}", text::bytes(n)));
        ctx.meter.info(format!("deleting {name}{size}: {}", next.reasons.join(", ")));
        tried.insert(name.clone());
        match delete_files(env, ctx, &next.deletion, None).await {
            Ok(End::Gone) => {
                env.store.retired(&name).await?;
                folders.insert((storage.clone(), next.deletion.backup.folder.clone()));
                deleted += 1;
                failing.remove(&storage);
            }
            Ok(End::Foreign(owner)) => {
                let why =
                    format!("the storage holds a backup of another installation of this name ({})", owner.words());
                ctx.meter.warn(format!("{name}: {why}, which is left alone"));
                env.store.retire_replaced(&name, &why).await?;
            }
            Err(e) => {
                if e.kind() == ErrorKind::Cancelled {
                    env.store.retire_cancelled(&name, &e.full()).await?;
                    return Err(e.hint(format!("what is left of {name} is deleted after the next run of {schedule}")));
                }
                env.store.retire_failed(&name, &e.full()).await?;
                ctx.meter.warn(format!("{name}: {e}"));
                let in_a_row = failing.entry(storage.clone()).or_default();
                *in_a_row = if e.is_retryable() { *in_a_row + 1 } else { 0 };
                // It is the storage that is wrong: what else is there stays good, and is not asked for in this job.
                if slice_gc::is_away(&e) || *in_a_row >= IN_A_ROW {
                    let waiting = env.store.retire_postponed(schedule, &storage, &e.full()).await?;
                    let waiting = match waiting {
                        1 => "1 backup waits".to_owned(),
                        n => format!("{n} backups wait"),
                    };
                    ctx.meter.warn(format!("storage {storage} is left out for now: {waiting} there"));
                    away.insert(storage);
                }
                failures.push((name, e));
            }
        }
    }
    for (storage, folder) in &folders {
        block_gc::collect_after(env, ctx, storage, folder).await?;
    }
    ctx.meter.info(format!("deleted {} of {schedule}", text::counted(deleted, "backup")));
    // What led to them, and to nothing else, goes too. A backup that could not be deleted is kept by no rule.
    let pruned = match env.store.job(job).await?.service {
        Some(service) => match slice_gc::delete_useless(env, ctx, &service).await {
            Ok(()) => slice_gc::delete_by_engine(env, ctx, schedule).await,
            Err(e) => Err(e),
        },
        None => Ok(()),
    };
    if matches!(&pruned, Err(e) if e.kind() == ErrorKind::Cancelled) {
        return pruned;
    }
    // The failure that may pass by itself decides whether the job is tried again by itself.
    let count = failures.len();
    let first = failures.iter().position(|(_, e)| e.is_retryable()).unwrap_or(0);
    let Some((name, error)) = failures.into_iter().nth(first) else { return pruned };
    if let Err(e) = pruned {
        ctx.meter.warn(format!("the recorded oplog: {e}"));
    }
    let others = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    Err(error.context(format!("backup {name}{others} could not be deleted")))
}
