//! What is done with the folders of `mongodump`: they are restored, checked and exported as logical backups of ours.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::manifest::DumpManifest;
use super::open::{open, read_manifest};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::service::{CheckItem, CheckState, Service};
use crate::engine::contract::{
    BackupOrder, BeforeWriting, Confirmed, Contents, Engine, ExportReport, Problem, RestoreReport, RestoreSource,
    RestoreTarget, VerifyReport, Wanted, about_the_backup,
};
use crate::engine::{Context, logical, pbm_layout};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Reads what `mongodump` made, and makes nothing.
pub struct MongodumpEngine;

fn makes_nothing() -> Error {
    Error::new(ErrorKind::Unsupported, "mongokeep reads what mongodump made, and does not run it")
        .hint("make the backup with the engine native")
}

#[async_trait]
impl Engine for MongodumpEngine {
    async fn check(&self, _: &Context, _: &Service) -> Vec<CheckItem> {
        let error = makes_nothing();
        vec![CheckItem {
            id: "engine".into(),
            title: "Engine".into(),
            state: CheckState::Fail,
            detail: error.full(),
            remedy: error.hint_text().unwrap_or_default().to_owned(),
        }]
    }

    fn may_make(&self, _: &Wanted<'_>) -> Result<()> {
        Err(makes_nothing())
    }

    async fn backup(&self, _: &Context, _: Arc<dyn Storage>, _: &BackupOrder) -> Result<Envelope> {
        Err(makes_nothing())
    }

    async fn plan_restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        request: &RestoreRequest,
    ) -> Result<RestorePlan> {
        // Said before anything is read.
        target.service()?;
        logical::plan_of(&ctx.cancel, &opened(source).await?, target, request).await
    }

    async fn restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        confirmed: Confirmed<'_>,
        writes: &(dyn BeforeWriting + '_),
    ) -> Result<RestoreReport> {
        logical::restore_of(ctx, &opened(source).await?, target, confirmed, writes).await
    }

    async fn verify(&self, ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
        let work = async {
            ctx.meter.set_phase("read the metadata");
            let opened = match read_manifest(storage.as_ref(), root).await {
                Ok(manifest) => open(storage, &manifest).await,
                Err(e) => Err(e),
            };
            match opened {
                Ok(opened) => pbm_layout::verify_open(ctx, root, &opened).await,
                Err(e) => {
                    let problems = vec![Problem::new(&root.manifest()?, about_the_backup(e)?)];
                    Ok(VerifyReport { problems, ..VerifyReport::default() })
                }
            }
        };
        // Nothing is written, so that the work may be dropped at any point.
        ctx.cancel.run_until_cancelled(work).await.unwrap_or_else(|| Err(Error::cancelled()))
    }

    async fn export(
        &self,
        ctx: &Context,
        storage: Arc<dyn Storage>,
        root: &BackupRoot,
        to: &Path,
    ) -> Result<ExportReport> {
        let manifest = read_manifest(storage.as_ref(), root).await?;
        logical::export::export_of(ctx, open(storage, &manifest).await?, to).await
    }

    fn objects(&self, manifest: &Manifest) -> Result<Vec<ObjectEntry>> {
        Ok(manifest.body::<DumpManifest>()?.files)
    }

    fn implausible(&self, _: &Manifest) -> Result<Vec<String>> {
        // Whoever presented it has looked.
        Ok(Vec::new())
    }

    fn contents(&self, manifest: &Manifest) -> Result<Contents> {
        logical::contents_of(manifest)
    }
}

async fn opened(source: RestoreSource) -> Result<logical::OpenBackup> {
    let opened = open(source.storage, &source.manifest).await?;
    match source.tail {
        Some(tail) => opened.followed_by(tail),
        None => Ok(opened),
    }
}
