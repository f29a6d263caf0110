//! What is done with the dumps of `mongodump`: they are restored, checked and exported as logical backups of ours.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::archive;
use super::manifest::DumpManifest;
use super::open::{open, read_manifest};
use crate::artifact::layout::{BackupRoot, Layout};
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::service::{CheckItem, CheckState, Service};
use crate::domain::text::escape;
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
        logical::plan_of(&ctx.cancel, &opened(ctx, source).await?, target, request).await
    }

    async fn restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        confirmed: Confirmed<'_>,
        writes: &(dyn BeforeWriting + '_),
    ) -> Result<RestoreReport> {
        logical::restore_of(ctx, &opened(ctx, source).await?, target, confirmed, writes).await
    }

    async fn verify(&self, ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
        let work = async {
            if root.layout() == Layout::MongodumpArchive {
                return verify_archive(ctx, storage, root).await;
            }
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
        ctx.meter.set_phase("read the metadata");
        let opening = async {
            let manifest = read_manifest(storage.as_ref(), root).await?;
            open(storage, &manifest).await
        };
        // Nothing is written before, and an archive is read to its end.
        let opened = ctx.cancel.run_until_cancelled(opening).await.unwrap_or_else(|| Err(Error::cancelled()))?;
        logical::export::export_of(ctx, opened, to).await
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

/// All of an archive is looked at while it is read once; then its oplog must lead to definitions that can be restored.
async fn verify_archive(ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
    ctx.meter.set_phase("read data");
    let mut report = VerifyReport { objects: 1, ..VerifyReport::default() };
    let problem = |what: String| Problem { object: escape(root.key().as_str()), what };
    let archive = match archive::find(storage.as_ref(), root.key()).await {
        Ok(archive) => archive,
        Err(e) => {
            report.problems.push(problem(about_the_backup(e)?.full()));
            return Ok(report);
        }
    };
    ctx.meter.set_totals(archive.size, 1, 0);
    report.bytes = archive.size;
    match archive::verify(storage.as_ref(), &archive, &ctx.meter).await? {
        Ok(index) => report.documents = index.documents(),
        Err(wrong) => {
            report.problems = wrong.into_iter().map(problem).collect();
            return Ok(report);
        }
    }
    ctx.meter.object_done();
    let opened = match read_manifest(storage.as_ref(), root).await {
        Ok(manifest) => open(storage, &manifest).await,
        Err(e) => Err(e),
    };
    match opened {
        Ok(opened) => pbm_layout::verify_oplog(ctx, root, &opened, &mut report).await?,
        Err(e) => report.problems.push(problem(about_the_backup(e)?.full())),
    }
    Ok(report)
}

async fn opened(ctx: &Context, source: RestoreSource) -> Result<logical::OpenBackup> {
    let opening = ctx.cancel.run_until_cancelled(open(source.storage, &source.manifest)).await;
    let opened = opening.unwrap_or_else(|| Err(Error::cancelled()))?;
    match source.tail {
        Some(tail) => opened.followed_by(tail),
        None => Ok(opened),
    }
}
