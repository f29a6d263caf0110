//! A verify job: every object read back.

use super::blocking;
use super::env::Env;
use super::progress::Log;
use super::task::open_storage;
use crate::artifact::layout::BackupRoot;
use crate::engine::{Context, engine};
use crate::error::{Error, ErrorKind, Result};

/// Problems named in the job's error; all of them are in its log.
const NAMED: usize = 3;

pub async fn run(env: &Env, ctx: &Context, log: &Log, name: &str) -> Result<()> {
    let (store, wanted) = (env.store.clone(), name.to_owned());
    let backup = blocking(move || store.backup(&wanted)).await?;
    let (_, storage) = open_storage(env, ctx, &backup.storage).await?;
    let root = BackupRoot::new(&backup.folder, &backup.name)?;
    // A storage that is not there at all says nothing about the backup.
    storage.stat(&root.manifest()?).await?;
    let report = engine(backup.engine, backup.model)?.verify(ctx, storage, &root).await?;
    ctx.meter.info(format!("read {} objects, {} bytes, {} documents", report.objects, report.bytes, report.documents));
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
    let (store, wanted, found) = (env.store.clone(), name.to_owned(), error.clone());
    blocking(move || store.backup_verified(&wanted, found.as_deref())).await?;
    match error {
        None => Ok(()),
        Some(what) => Err(Error::new(ErrorKind::Corrupt, format!("backup {name} is damaged: {what}"))
            .hint("make a new backup now; the job's log names every damaged object")),
    }
}
