//! Deleting a backup that PBM made: PBM does it, and what it refuses stays.

use super::answers::DescribedBackup;
use super::console::{Console, Recording};
use super::driven::DrivenManifest;
use super::failure::Reason;
use super::program::{ASK_LIMIT, Reply, START_LIMIT};
use crate::domain::key::Key;
use crate::domain::service::Service;
use crate::domain::storage::StorageConfig;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Has PBM delete its objects of a backup.
///
/// Errors: `Conflict` for one that PBM keeps, with its reason; what keeps PBM from deleting.
pub async fn delete(
    ctx: &Context,
    location: &StorageConfig,
    storage: &dyn Storage,
    manifest: &DrivenManifest,
    service: Option<&Service>,
) -> Result<()> {
    let description = Key::new(format!("{}/{}.pbm.json", manifest.pbm_folder, manifest.pbm_name()))?;
    if storage.stat(&description).await?.is_none() {
        ctx.meter.warn(format!("PBM's backup {} is gone already", escape(manifest.pbm_name())));
        return Ok(());
    }
    let Some(service) = service else {
        let what = format!(
            "PBM deletes what it made, and the service {} of backup {} cannot be asked here",
            escape(&manifest.service),
            escape(&manifest.name)
        );
        return Err(Error::new(ErrorKind::Conflict, what)
            .hint("add the service again, or give it its connection string, and delete the backup then"));
    };
    let console = Console::open(ctx, service).await?;
    console.configure(location, &manifest.folder, &Recording::Kept).await?;
    console.wait_until_free().await?;
    ctx.meter.set_phase("PBM deletes");
    let arguments = ["delete-backup", manifest.pbm_name(), "--yes"];
    // What has begun is not cancelled half way: PBM goes on anyway.
    let never = tokio_util::sync::CancellationToken::new();
    match console.program.ask(&arguments, START_LIMIT, &never).await? {
        Reply::Answer(_) => {}
        Reply::Refused(refusal) if refusal.reason == Reason::Unknown => {}
        Reply::Refused(refusal) => return Err(console.program.refused(&arguments, &refusal)),
    }
    console.wait_until_free().await?;
    if storage.stat(&description).await?.is_none() {
        return Ok(());
    }
    // PBM says why in its description, if at all.
    let says = console.program.call(&["describe-backup", manifest.pbm_name()], ASK_LIMIT, &never).await;
    let says = says.and_then(|answer| answer.parse::<DescribedBackup>("backup"));
    let status = says.map_or_else(|e| e.full(), |described| format!("it is {}", described.status));
    let what =
        format!("PBM was asked to delete its backup {}, and it is still there: {status}", escape(manifest.pbm_name()));
    Err(Error::new(ErrorKind::Failed, what)
        .hint(format!("pbm logs -e delete says more; mongokeep service check {}", service.name)))
}
