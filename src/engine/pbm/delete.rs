//! Deleting a backup that PBM made: PBM does it, and what it refuses stays.

use super::answers::{DescribedBackup, Snapshot};
use super::chain;
use super::console::{Console, Recording};
use super::driven::DrivenManifest;
use super::failure::Reason;
use super::held;
use super::program::{ASK_LIMIT, Reply, START_LIMIT};
use crate::domain::key::Key;
use crate::domain::service::Service;
use crate::domain::storage::StorageConfig;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::engine::contract::NotDeleted;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Has PBM delete its objects of a backup, and with the base of a chain all that is based on it. `goes_with`: PBM's names of
/// what may go with it.
///
/// Errors: `Conflict` for one that PBM keeps, with its reason; what keeps PBM from deleting. It is whole when PBM was not asked
/// yet, or is done with what it was asked for and has left everything where it was.
pub async fn delete(
    ctx: &Context,
    location: &StorageConfig,
    storage: &dyn Storage,
    manifest: &DrivenManifest,
    service: Option<&Service>,
    goes_with: &[String],
) -> Result<(), NotDeleted> {
    let description = Key::new(format!("{}/{}.pbm.json", manifest.pbm_folder, manifest.pbm_name()))?;
    if storage.stat(&description).await?.is_none() {
        ctx.meter.warn(format!("PBM's backup {} is gone already", escape(manifest.pbm_name())));
        return Ok(());
    }
    if let Some(link) = manifest.chain.as_ref().filter(|link| link.source.is_some()) {
        let what = format!(
            "PBM deletes a chain of increments as a whole, and {} is an increment of {}",
            escape(manifest.pbm_name()),
            escape(&link.base)
        );
        return Err(Error::new(ErrorKind::Conflict, what)
            .hint("delete the base of the chain: its increments go with it")
            .into());
    }
    let Some(service) = service else {
        let what = format!(
            "PBM deletes what it made, and the service {} of backup {} cannot be asked here",
            escape(&manifest.service),
            escape(&manifest.name)
        );
        return Err(Error::new(ErrorKind::Conflict, what)
            .hint("add the service again, or give it its connection string, and delete the backup then")
            .into());
    };
    let console = Console::open(ctx, service).await?;
    console.configure(location, &manifest.folder, &Recording::Kept).await?;
    // What nobody carries out now, somebody may carry out when nobody expects it any more.
    console.status(&["cluster"]).await.and_then(|status| console.must_have_agents(&status))?;
    console.wait_until_free().await?;
    if manifest.chain.is_some() {
        let status = console.status(&["backups"]).await?;
        let snapshots = status.backups.map(|storage| storage.snapshot).unwrap_or_default();
        must_be_known(&chain::dependents(&snapshots, manifest.pbm_name()), &snapshots, goes_with)?;
    }
    ctx.meter.set_phase("PBM deletes");
    let arguments = ["delete-backup", manifest.pbm_name(), "--yes"];
    // What has begun is not cancelled half way: PBM goes on anyway.
    let never = tokio_util::sync::CancellationToken::new();
    let asked = console.program.ask(&arguments, START_LIMIT, &never).await;
    // Without an answer PBM may still begin, or be at it.
    let going = |error: Error| NotDeleted { error, is_whole: false };
    let refused = match asked.map_err(going)? {
        Reply::Answer(_) => None,
        Reply::Refused(refusal) if refusal.reason == Reason::Unknown => None,
        Reply::Refused(refusal) => Some(console.program.refused(&arguments, &refusal)),
    };
    console.wait_until_free().await.map_err(going)?;
    let kept = match refused {
        Some(error) => error,
        None if storage.stat(&description).await.map_err(going)?.is_none() => return Ok(()),
        None => still_there(&console, manifest, service).await,
    };
    let is_whole = held::is_whole(storage, manifest).await.unwrap_or(false);
    Err(NotDeleted { error: kept, is_whole })
}

/// Errors: `Conflict` for a good backup that PBM would delete with a base, and that nobody let go.
fn must_be_known(dependents: &[String], snapshots: &[Snapshot], goes_with: &[String]) -> Result<()> {
    let is_good = |name: &String| snapshots.iter().any(|s| s.name == *name && s.status.is_good());
    let unknown: Vec<String> =
        dependents.iter().filter(|name| is_good(name) && !goes_with.contains(name)).map(|name| escape(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let what = format!("PBM would delete with it what somebody else based on it: {}", unknown.join(", "));
    Err(Error::new(ErrorKind::Conflict, what).hint("nothing was deleted; pbm delete-backup deletes the whole chain"))
}

/// PBM says why in its description, if at all.
async fn still_there(console: &Console<'_>, manifest: &DrivenManifest, service: &Service) -> Error {
    let (name, never) = (manifest.pbm_name(), tokio_util::sync::CancellationToken::new());
    let says = console.program.call(&["describe-backup", name], ASK_LIMIT, &never).await;
    let says = says.and_then(|answer| answer.parse::<DescribedBackup>("backup"));
    let status = says.map_or_else(|e| e.full(), |described| format!("it is {}", described.status));
    let what = format!("PBM was asked to delete its backup {}, and it is still there: {status}", escape(name));
    Error::new(ErrorKind::Failed, what)
        .hint(format!("pbm logs -e delete says more; mongokeep service check {}", service.name))
}
