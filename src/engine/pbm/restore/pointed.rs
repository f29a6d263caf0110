//! That PBM has the storage of the backup: ours, or one that somebody else had it write to.

use crate::domain::backup::Model;
use crate::domain::service::Service;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::engine::contract::RestoreSource;
use crate::engine::pbm::configuration::{Configuration, PitrWishes, Wishes};
use crate::engine::pbm::console::{Console, Recording};
use crate::engine::pbm::driven::DrivenManifest;
use crate::engine::pbm::failure::Reason;
use crate::engine::pbm::program::{ASK_LIMIT, Reply};
use crate::error::{Error, ErrorKind, Result};

/// Whether PBM has to be pointed at the storage of the backup first.
///
/// Errors: `Conflict` where somebody else configured PBM; `Unsupported` for a backup in a place that no configuration of ours
/// leads to.
pub async fn pointed_at(
    ctx: &Context,
    console: &Console<'_>,
    source: &RestoreSource,
    service: &Service,
    manifest: &DrivenManifest,
) -> Result<bool> {
    // A physical one is followed with a configuration of ours.
    let may_stay = manifest.envelope.model == Model::Logical || manifest.configured_folder().is_some();
    if may_stay && is_of_others(source) && is_known(ctx, console, manifest).await? {
        return Ok(false);
    }
    let folder = folder_of(manifest, service)?;
    let planned = console.plan(&source.location, folder, &Recording::Kept).await?;
    if !planned.is_configured || planned.is_there {
        return Ok(false);
    }
    if planned.is_ours {
        return Ok(true);
    }
    let what = format!(
        "service {}: somebody else configured PBM, which would have to be pointed at the storage of this backup",
        service.name
    );
    Err(Error::new(ErrorKind::Conflict, what).hint(format!(
        "mongokeep service configure {} --storage NAME shows the differences and writes the configuration",
        service.name
    )))
}

/// The folder whose configuration leads to the backup.
pub fn folder_of<'a>(manifest: &'a DrivenManifest, service: &Service) -> Result<&'a str> {
    manifest.configured_folder().ok_or_else(|| {
        let what = format!(
            "PBM of service {} does not know the backup {}: it lies in {}, and mongokeep configures a folder pbm",
            service.name,
            escape(&manifest.name),
            if manifest.pbm_folder.is_empty() {
                "the root of the storage".to_owned()
            } else {
                escape(&manifest.pbm_folder)
            }
        );
        Error::new(ErrorKind::Unsupported, what).hint("point PBM at its place (pbm config --file), and restore it then")
    })
}

/// Whether it was made for somebody else.
fn is_of_others(source: &RestoreSource) -> bool {
    source.manifest.envelope.pbm_name.is_none()
}

/// Whether PBM finds it in the storage that it has.
async fn is_known(ctx: &Context, console: &Console<'_>, manifest: &DrivenManifest) -> Result<bool> {
    let arguments = ["describe-backup", manifest.pbm_name()];
    match console.program.ask(&arguments, ASK_LIMIT, &ctx.cancel).await? {
        Reply::Answer(_) => Ok(true),
        Reply::Refused(refusal) if [Reason::Unknown, Reason::Unconfigured].contains(&refusal.reason) => Ok(false),
        Reply::Refused(refusal) => Err(console.program.refused(&arguments, &refusal)),
    }
}

/// Gives PBM the configuration that leads to the backup, and switches its recording off. Returns the configuration.
pub async fn configured(
    ctx: &Context,
    console: &Console<'_>,
    source: &RestoreSource,
    manifest: &DrivenManifest,
) -> Result<Configuration> {
    let off = Recording::Set(PitrWishes::default());
    // What others wrote leads to what others made: it stays as it is.
    if is_of_others(source) && is_known(ctx, console, manifest).await? {
        console.stop_recording().await?;
        let folder = manifest.configured_folder().unwrap_or_default();
        return Configuration::new(&source.location, folder, &Wishes::default());
    }
    console.configure(&source.location, manifest.configured_folder().unwrap_or(&manifest.folder), &off).await
}
