//! What is done with backups of PBM without its program: they are restored, checked and exported as logical backups of ours.

use std::path::Path;
use std::sync::Arc;

use super::manifest::PbmManifest;
use super::only_pbm::OnlyPbm;
use super::open::{open, open_stored, read_manifest};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Manifest, ObjectEntry};
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::engine::Context;
use crate::engine::contract::{BeforeWriting, Confirmed, ExportReport, RestoreReport, RestoreSource, RestoreTarget};
use crate::engine::logical;
use crate::error::Result;
use crate::storage::Storage;

/// As [`crate::engine::Engine::plan_restore`].
pub async fn plan_restore(
    ctx: &Context,
    source: RestoreSource,
    target: RestoreTarget<'_>,
    request: &RestoreRequest,
) -> Result<RestorePlan> {
    // Said before anything is read.
    target.service()?;
    logical::plan_of(&ctx.cancel, &open(source).await?, target, request).await
}

/// As [`crate::engine::Engine::restore`].
pub async fn restore(
    ctx: &Context,
    source: RestoreSource,
    target: RestoreTarget<'_>,
    confirmed: Confirmed<'_>,
    writes: &(dyn BeforeWriting + '_),
) -> Result<RestoreReport> {
    logical::restore_of(ctx, &open(source).await?, target, confirmed, writes).await
}

/// As [`crate::engine::Engine::export`].
pub async fn export(ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot, to: &Path) -> Result<ExportReport> {
    let manifest = read_manifest(storage.as_ref(), root).await?;
    let opened = open_stored(storage, manifest, None).await?;
    logical::export::export_of(ctx, opened, to).await
}

/// As [`crate::engine::Engine::objects`].
pub fn objects(manifest: &Manifest) -> Result<Vec<ObjectEntry>> {
    match OnlyPbm::of(manifest) {
        Some(only_pbm) => Ok(only_pbm.files),
        None => Ok(manifest.body::<PbmManifest>()?.files),
    }
}
