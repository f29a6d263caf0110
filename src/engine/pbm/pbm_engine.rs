//! PBM as one of the engines: what it is asked for goes to PBM, what is in a storage is read by whoever reads PBM's layout.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::configuration::Difference;
use super::console::{Console, Recording};
use super::driven::DrivenManifest;
use super::{backup, check, delete, held, nodes, recording, restore};
use crate::artifact::layout::{BackupRoot, Layout};
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::domain::backup::{BackupType, Model};
use crate::domain::cluster::Cluster;
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::service::{CheckItem, ConfigurationChange, ConfigurationPlan, Service};
use crate::domain::storage::StorageConfig;
use crate::domain::text::escape;
use crate::engine::contract::{
    BackupOrder, BeforeWriting, Confirmed, Contents, Elsewhere, Engine, ExportReport, NotDeleted, RestoreReport,
    RestoreSource, RestoreTarget, VerifyReport, Wanted,
};
use crate::engine::logical;
use crate::engine::pbm_layout::{OnlyPbm, reader};
use crate::engine::recording::{OwnRecording, RecordingOrder, RecordingState};
use crate::engine::{Context, backup_reader};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Drives PBM for services with this engine. What others had PBM make, and what is restored into a service that mongokeep
/// writes to by itself, is read by [`reader`].
pub struct PbmEngine(pub Model);

/// Whether PBM made it for us.
fn is_driven(manifest: &Manifest) -> bool {
    manifest.envelope.pbm_name.is_some()
}

#[async_trait]
impl Engine for PbmEngine {
    async fn check(&self, ctx: &Context, service: &Service) -> Vec<CheckItem> {
        check::check(ctx, service, self.0).await
    }

    fn backup_types(&self) -> &'static [BackupType] {
        match self.0 {
            Model::Logical => &[BackupType::Full, BackupType::Pitr],
            Model::Physical => &[BackupType::Full, BackupType::Incremental, BackupType::IncrementalBase],
        }
    }

    fn may_make(&self, wanted: &Wanted<'_>) -> Result<()> {
        backup::may_make(wanted)
    }

    async fn cluster(&self, ctx: &Context, service: &Service) -> Result<Option<Cluster>> {
        nodes::cluster(ctx, service).await.map(Some)
    }

    fn recording(&self) -> Option<&dyn OwnRecording> {
        Some(self)
    }

    async fn plan_configuration(
        &self,
        ctx: &Context,
        service: &Service,
        location: &StorageConfig,
        folder: &str,
    ) -> Result<ConfigurationPlan> {
        let planned = Console::open(ctx, service).await?.plan(location, folder, &Recording::Kept).await?;
        let change = |d: Difference| ConfigurationChange { key: d.key, from: d.theirs, to: d.ours };
        Ok(ConfigurationPlan {
            service: service.name.clone(),
            is_new: !planned.is_configured,
            is_there: planned.is_there && planned.is_noted,
            notes: planned.ours.notes().to_vec(),
            changes: planned.differences.into_iter().map(change).collect(),
        })
    }

    async fn configure(&self, ctx: &Context, service: &Service, location: &StorageConfig, folder: &str) -> Result<()> {
        let console = Console::open(ctx, service).await?;
        let planned = console.plan(location, folder, &Recording::Kept).await?;
        console.write(planned).await.map(drop)
    }

    async fn backup(&self, ctx: &Context, storage: Arc<dyn Storage>, order: &BackupOrder) -> Result<Envelope> {
        Ok(backup::backup(ctx, storage, order, self.0).await?.envelope)
    }

    async fn abandoned_backup(
        &self,
        ctx: &Context,
        storage: Arc<dyn Storage>,
        order: &BackupOrder,
    ) -> Result<Option<Envelope>> {
        Ok(backup::adopt(ctx, storage, order, self.0).await?.map(|manifest| manifest.envelope))
    }

    async fn plan_restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        request: &RestoreRequest,
    ) -> Result<RestorePlan> {
        match held::driver_of(target)? {
            Some(service) => restore::plan(ctx, &source, service, request).await,
            None => {
                held::must_be_read_here(&source)?;
                let service = source.manifest.envelope.service.clone();
                let (backup, source) = held::as_its_layout(source).await?;
                let plan = reader::plan_restore(ctx, source, target, request).await?;
                // Under the names that they have here.
                Ok(RestorePlan { backup, from_service: service, ..plan })
            }
        }
    }

    async fn restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        confirmed: Confirmed<'_>,
        writes: &(dyn BeforeWriting + '_),
    ) -> Result<RestoreReport> {
        match held::driver_of(target)? {
            Some(service) => restore::restore(ctx, &source, service, confirmed, writes).await,
            None => {
                held::must_be_read_here(&source)?;
                let (_, source) = held::as_its_layout(source).await?;
                // The plan has the name that it has here.
                let backup = source.manifest.envelope.name.clone();
                let plan = RestorePlan { backup: backup.clone(), ..confirmed.plan.clone() };
                let request = RestoreRequest { backup, ..confirmed.request.clone() };
                let confirmed = Confirmed { plan: &plan, request: &request, ..confirmed };
                reader::restore(ctx, source, target, confirmed, writes).await
            }
        }
    }

    async fn follow_restore(
        &self,
        ctx: &Context,
        source: &RestoreSource,
        target: RestoreTarget<'_>,
        plan: &RestorePlan,
        began: &str,
    ) -> Result<Option<RestoreReport>> {
        match held::driver_of(target)? {
            Some(service) => restore::follow(ctx, source, service, plan, began).await.map(Some),
            None => Ok(None),
        }
    }

    /// PBM goes on by itself.
    async fn abandoned_restore(
        &self,
        target: RestoreTarget<'_>,
        _attempt_id: &str,
        _: &RestorePlan,
    ) -> Result<Option<String>> {
        Ok(held::goes_on(target))
    }

    async fn verify(&self, ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
        match root.layout() {
            Layout::Pbm | Layout::Own => held::verify(ctx, storage, root).await,
            Layout::Mongodump { .. } | Layout::MongodumpArchive => {
                Err(Error::new(ErrorKind::Internal, "a dump was taken for a backup of PBM"))
            }
        }
    }

    async fn export(
        &self,
        ctx: &Context,
        storage: Arc<dyn Storage>,
        root: &BackupRoot,
        to: &Path,
    ) -> Result<ExportReport> {
        let manifest = backup_reader::read_manifest(storage.as_ref(), root).await?;
        match is_driven(&manifest) {
            true => reader::export(ctx, storage, &held::root(&manifest.body()?)?, to).await,
            false => reader::export(ctx, storage, root, to).await,
        }
    }

    async fn delete_elsewhere(
        &self,
        ctx: &Context,
        location: &StorageConfig,
        storage: &dyn Storage,
        manifest: &Manifest,
        service: Option<&Service>,
        goes_with: &[String],
    ) -> Result<Elsewhere, NotDeleted> {
        match is_driven(manifest) {
            true => {
                delete::delete(ctx, location, storage, &manifest.body()?, service, goes_with).await?;
                Ok(Elsewhere::Gone)
            }
            // A chain is of use as a whole only.
            false if manifest.envelope.chain.is_some() => {
                let what =
                    format!("backup {} is of a chain of increments of somebody else", escape(&manifest.envelope.name));
                Err(Error::new(ErrorKind::Conflict, what).hint("pbm delete-backup BASE deletes the whole chain").into())
            }
            false => Ok(Elsewhere::Nothing),
        }
    }

    fn objects(&self, manifest: &Manifest) -> Result<Vec<ObjectEntry>> {
        match is_driven(manifest) {
            true => manifest.body::<DrivenManifest>().map(|_| Vec::new()),
            false => reader::objects(manifest),
        }
    }

    fn implausible(&self, manifest: &Manifest) -> Result<Vec<String>> {
        match is_driven(manifest) {
            true => Ok(manifest.body::<DrivenManifest>()?.impossible()),
            // Whoever presented it has looked.
            false => Ok(Vec::new()),
        }
    }

    fn contents(&self, manifest: &Manifest) -> Result<Contents> {
        match is_driven(manifest) {
            true => held::contents(&manifest.body()?),
            false if OnlyPbm::of(manifest).is_some() => held::contents(&held::as_driven(manifest)?),
            false => logical::contents_of(manifest),
        }
    }
}

#[async_trait]
impl OwnRecording for PbmEngine {
    async fn switch_on(&self, ctx: &Context, order: &RecordingOrder<'_>) -> Result<()> {
        recording::switch_on(ctx, order).await
    }

    async fn switch_off(&self, ctx: &Context, service: &Service) -> Result<bool> {
        recording::switch_off(ctx, service).await
    }

    async fn look(&self, ctx: &Context, service: &Service) -> Result<RecordingState> {
        recording::look(ctx, service).await
    }

    async fn delete_useless(&self, ctx: &Context, order: &RecordingOrder<'_>) -> Result<()> {
        recording::delete_useless(ctx, order).await
    }
}
