//! Physical backups as an engine: from the orders of the outside to what this room does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::manifest::PhysicalManifest;
use super::{backup, check, export, over_plan, over_service, plan, restore, verify};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::domain::backup::BackupType;
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::service::{CheckItem, Service};
use crate::engine::Context;
use crate::engine::blocks::BlockEntry;
use crate::engine::contract::{
    BackupOrder, BeforeWriting, Confirmed, Contents, Engine, ExportReport, HeldFiles, RestoreReport, RestoreSource,
    RestoreTarget, VerifyReport,
};
use crate::engine::unlock::unlock_source;
use crate::error::Result;
use crate::storage::Storage;

/// The files of a member on this host.
pub struct PhysicalEngine;

#[async_trait]
impl Engine for PhysicalEngine {
    async fn check(&self, ctx: &Context, service: &Service) -> Vec<CheckItem> {
        check::check(service, &ctx.cancel).await
    }

    fn backup_types(&self) -> &'static [BackupType] {
        &[BackupType::Full]
    }

    async fn backup(&self, ctx: &Context, storage: Arc<dyn Storage>, order: &BackupOrder) -> Result<Envelope> {
        Ok(backup::backup(ctx, storage, order).await?.envelope)
    }

    async fn plan_restore(
        &self,
        ctx: &Context,
        mut source: RestoreSource,
        target: RestoreTarget<'_>,
        request: &RestoreRequest,
    ) -> Result<RestorePlan> {
        unlock_source(ctx, &mut source).await?;
        match target {
            RestoreTarget::DataFolder(folder) => plan::plan(&source, folder, request).await,
            RestoreTarget::Service(service) => over_plan::plan(&ctx.cancel, &source, service, request).await,
        }
    }

    async fn restore(
        &self,
        ctx: &Context,
        mut source: RestoreSource,
        target: RestoreTarget<'_>,
        confirmed: Confirmed<'_>,
        writes: &(dyn BeforeWriting + '_),
    ) -> Result<RestoreReport> {
        unlock_source(ctx, &mut source).await?;
        // With the program that the plan names: a daemon may find another one, or none, in its environment.
        let mongod = confirmed.plan.files.as_ref().map(|files| files.mongod.clone());
        let request = RestoreRequest { mongod, ..confirmed.request.clone() };
        let confirmed = Confirmed { request: &request, ..confirmed };
        match target {
            RestoreTarget::DataFolder(folder) => restore::into_folder(ctx, source, folder, confirmed, writes).await,
            RestoreTarget::Service(service) => over_service::restore(ctx, source, service, confirmed, writes).await,
        }
    }

    async fn abandoned_restore(
        &self,
        target: RestoreTarget<'_>,
        attempt_id: &str,
        plan: &RestorePlan,
    ) -> Result<Option<String>> {
        match target {
            RestoreTarget::DataFolder(folder) => restore::abandoned(folder, attempt_id).await,
            RestoreTarget::Service(service) => over_service::abandoned(service, attempt_id, plan).await,
        }
    }

    async fn verify(&self, ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
        verify::verify(ctx, &storage, root).await
    }

    async fn export(
        &self,
        ctx: &Context,
        storage: Arc<dyn Storage>,
        root: &BackupRoot,
        to: &Path,
    ) -> Result<ExportReport> {
        export::export(ctx, storage, root, to).await
    }

    fn objects(&self, _: &Manifest) -> Result<Vec<ObjectEntry>> {
        // All but the manifest is shared.
        Ok(Vec::new())
    }

    fn blocks(&self, manifest: &Manifest) -> Result<Vec<BlockEntry>> {
        Ok(manifest.body::<PhysicalManifest>()?.blocks)
    }

    fn files_of(&self, manifest: &Manifest, blocks: &HashSet<String>) -> Result<BTreeMap<String, Vec<String>>> {
        let manifest = manifest.body::<PhysicalManifest>()?;
        let named = manifest.blocks.iter().zip(0_u32..).filter(|(block, _)| blocks.contains(&block.name));
        let names: HashMap<u32, &str> = named.map(|(block, index)| (index, block.name.as_str())).collect();
        let files = manifest.files_with(names.keys().copied());
        let of = |index| files.get(index).into_iter().flatten().map(|path| (*path).to_owned()).collect();
        Ok(names.iter().map(|(index, name)| ((*name).to_owned(), of(index))).collect())
    }

    fn implausible(&self, manifest: &Manifest) -> Result<Vec<String>> {
        Ok(manifest.body::<PhysicalManifest>()?.impossible())
    }

    fn contents(&self, manifest: &Manifest) -> Result<Contents> {
        let manifest = manifest.body::<PhysicalManifest>()?;
        let files = HeldFiles {
            files: manifest.files.len() as u64,
            bytes: manifest.uncompressed_bytes,
            blocks: manifest.blocks.len() as u64,
            new_blocks: manifest.new_blocks,
            new_bytes: manifest.new_bytes.unwrap_or(0),
            copied: manifest.copy_method.in_words().to_owned(),
            locked_millis: manifest.locked_millis,
            data_folder: manifest.folder_options.db_path.clone(),
        };
        Ok(Contents {
            envelope: manifest.envelope,
            files: Some(files),
            namespaces: Vec::new(),
            not_in_json: Vec::new(),
            oplog_entries: 0,
            open_transactions: 0,
        })
    }
}
