//! A verify job: every object read back.

use async_trait::async_trait;

use super::storages::open_storage;
use super::{Done, JobRunner, Work};
use crate::artifact::layout::BackupRoot;
use crate::domain::text::{bytes, counted};
use crate::engine::engine;
use crate::error::{Error, ErrorKind, Result};

/// Problems named in the job's error; all of them are in its log.
const NAMED: usize = 3;

/// Reads the backup of this name back.
pub struct VerifyRunner<'a>(pub &'a str);

#[async_trait]
impl JobRunner for VerifyRunner<'_> {
    async fn attempt(&self, work: &Work) -> Result<Done> {
        run_verify(work, self.0).await.map(|()| None)
    }
}

async fn run_verify(work: &Work, name: &str) -> Result<()> {
    let Work { env, ctx, log, .. } = work;
    let backup = env.store.backup(name).await?;
    let (_, storage) = open_storage(env, ctx, &backup.storage).await?;
    let root = BackupRoot::of(&backup)?;
    // A storage that is not there at all says nothing about the backup.
    storage.stat(&root.manifest()?).await?;
    let report = engine(backup.engine, backup.model)?.verify(ctx, storage, &root).await?;
    ctx.meter.info(format!(
        "read {}, {}, {}",
        counted(report.objects, "object"),
        bytes(report.bytes),
        counted(report.documents, "document")
    ));
    let error = if report.is_good() {
        None
    } else {
        for problem in &report.problems {
            log.warn(format!("{}: {}", problem.object, problem.what)).await;
        }
        let named: Vec<String> =
            report.problems.iter().take(NAMED).map(|p| format!("{}: {}", p.object, p.what)).collect();
        let more = report.problems.len().saturating_sub(NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Some(format!("{}{more}", named.join("; ")))
    };
    let (wanted, found) = (name.to_owned(), error.clone());
    env.store.with(move |store| store.backup_verified(&wanted, found.as_deref())).await?;
    match error {
        None => Ok(()),
        Some(what) => Err(Error::new(ErrorKind::Corrupt, format!("backup {name} is damaged: {what}"))
            .hint("make a new backup now; the job's log names every damaged object")),
    }
}
