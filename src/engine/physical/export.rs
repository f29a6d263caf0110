//! The files of a backup as they were copied, for people who recover them themselves.

use std::path::Path;
use std::sync::Arc;

use super::lay_out::lay_out;
use super::manifest::PhysicalManifest;
use super::target_folder::{self, TargetFolder};
use crate::artifact::layout::BackupRoot;
use crate::domain::command_line::quoted;
use crate::domain::text::bytes;
use crate::engine::blocking::blocking;
use crate::engine::contract::ExportReport;
use crate::engine::unlock::keys_of;
use crate::engine::{Context, backup_reader};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Writes the files below `to`. Errors: as [`crate::engine::contract::Engine::export`].
pub(super) async fn export(
    ctx: &Context,
    storage: Arc<dyn Storage>,
    root: &BackupRoot,
    to: &Path,
) -> Result<ExportReport> {
    ctx.meter.set_phase("reading the manifest");
    let manifest: PhysicalManifest = backup_reader::read_manifest(&*storage, root).await?.body()?;
    let opening = manifest.opening(keys_of(ctx, &manifest.envelope).await?)?;
    target_folder::must_be_empty(to)?;
    let free = target_folder::free_bytes(to)?;
    if free < manifest.uncompressed_bytes {
        let what = format!("{} are free there, the files need {}", bytes(free), bytes(manifest.uncompressed_bytes));
        return Err(Error::new(ErrorKind::StorageFull, what).hint("nothing was written"));
    }
    let target = TargetFolder::claim(to, &manifest.attempt_id, &manifest.name)?;
    ctx.meter.set_totals(manifest.uncompressed_bytes, manifest.files.len() as u64, 0);
    let blocks = root.blocks()?;
    let written = async {
        ctx.meter.set_phase("fetching files");
        let to_disk = lay_out(ctx, &storage, &blocks, &manifest, &opening, to).await?;
        ctx.meter.set_phase("writing files to disk");
        to_disk.wait().await
    };
    if let Err(error) = written.await {
        return Err(match blocking("removing what was written", move || target.abandon()).await {
            Ok(()) => error,
            Err(left) => error.hint(format!("remove what is left in the folder by hand ({left})")),
        });
    }
    target.finish()?;
    let warnings = vec![
        "these are the files as they were copied: a server that is started on them as they are loses acknowledged writes"
            .to_owned(),
    ];
    Ok(ExportReport {
        to: to.display().to_string(),
        bytes: manifest.uncompressed_bytes,
        warnings,
        command: format!("mongokeep restore {} --to-data-dir DIR", quoted(&manifest.name)),
        ..ExportReport::default()
    })
}
