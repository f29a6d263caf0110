//! Logical backups as an engine: from the orders of the outside to what this room does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::manifest::LogicalManifest;
use super::open_backup::OpenBackup;
use super::{DumpRequest, dump, export, plan, probe, restore, validate, verify};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::domain::restore::{RestorePlan, RestoreRequest};
use crate::domain::service::{CheckItem, Service};
use crate::domain::text::{counted, escape};
use crate::engine::contract::{
    BackupOrder, BeforeWriting, Confirmed, Contents, Engine, ExportReport, HeldNamespace, RestoreReport, RestoreSource,
    RestoreTarget, VerifyReport,
};
use crate::engine::unlock::unlock_source;
use crate::engine::{CONNECT_LIMIT, Context};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::connect::CHECK_TIMEOUT;
use crate::storage::Storage;

/// Documents of one member, with the oplog of the same time.
pub struct LogicalEngine;

#[async_trait]
impl Engine for LogicalEngine {
    async fn check(&self, ctx: &Context, service: &Service) -> Vec<CheckItem> {
        probe::check(&service.name, &service.uri, &ctx.cancel).await
    }

    async fn backup(&self, ctx: &Context, storage: Arc<dyn Storage>, order: &BackupOrder) -> Result<Envelope> {
        let server = connect(ctx, &order.service, CONNECT_LIMIT).await?;
        let request = DumpRequest {
            name: order.name.clone(),
            attempt_id: order.attempt_id.clone(),
            home_id: order.home_id.clone(),
            service: order.service.name.clone(),
            cluster: order.service.cluster.clone(),
            folder: order.folder.clone(),
            selection: order.selection.clone(),
            compression: order.compression,
            encryption: order.encryption.clone(),
            schedule: order.schedule.clone(),
            backup_type: order.backup_type,
        };
        Ok(dump(ctx, storage, &server, &request).await?.envelope)
    }

    async fn plan_restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        request: &RestoreRequest,
    ) -> Result<RestorePlan> {
        target.service()?;
        plan_of(&ctx.cancel, &open(ctx, source).await?, target, request).await
    }

    async fn restore(
        &self,
        ctx: &Context,
        source: RestoreSource,
        target: RestoreTarget<'_>,
        confirmed: Confirmed<'_>,
        writes: &(dyn BeforeWriting + '_),
    ) -> Result<RestoreReport> {
        restore_of(ctx, &open(ctx, source).await?, target, confirmed, writes).await
    }

    async fn verify(&self, ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
        verify::verify(ctx, storage, root).await
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

    fn objects(&self, manifest: &Manifest) -> Result<Vec<ObjectEntry>> {
        Ok(manifest.body::<LogicalManifest>()?.objects().cloned().collect())
    }

    fn implausible(&self, manifest: &Manifest) -> Result<Vec<String>> {
        Ok(validate::impossible(&manifest.body()?))
    }

    fn contents(&self, manifest: &Manifest) -> Result<Contents> {
        contents_of(manifest)
    }
}

/// [`Engine::plan_restore`] for a backup that is open, whoever made it.
pub async fn plan_of(
    cancel: &CancellationToken,
    opened: &OpenBackup,
    target: RestoreTarget<'_>,
    request: &RestoreRequest,
) -> Result<RestorePlan> {
    let target = target.service()?;
    for (given, field) in [(request.mongod.is_some(), "mongod"), (request.no_check, "no-check")] {
        if given {
            let name = escape(&opened.manifest.name);
            return Err(Error::invalid(field, format!("is for physical backups; {name} is a logical one")));
        }
    }
    let server = Server::connect(&target.name, &target.uri, CHECK_TIMEOUT).await?;
    plan::plan(cancel, opened, &server, request).await
}

/// [`Engine::restore`] for a backup that is open, whoever made it.
pub async fn restore_of(
    ctx: &Context,
    opened: &OpenBackup,
    target: RestoreTarget<'_>,
    confirmed: Confirmed<'_>,
    writes: &(dyn BeforeWriting + '_),
) -> Result<RestoreReport> {
    let target = target.service()?;
    let server = connect(ctx, target, CONNECT_LIMIT).await.map_err(|e| match e.kind() == ErrorKind::Cancelled {
        true => e.hint("nothing was written to the target"),
        false => e,
    })?;
    writes.before_writing().await?;
    let report = restore::restore(ctx, opened, &server, confirmed.request, confirmed.plan).await?;
    ctx.meter.info(format!(
        "restored {}: {} loaded, {} of the oplog applied",
        counted(report.namespaces as u64, "namespace"),
        counted(report.documents, "document"),
        counted(report.operations, "operation")
    ));
    Ok(report)
}

/// [`Engine::contents`] of whatever is presented as a logical backup.
pub fn contents_of(manifest: &Manifest) -> Result<Contents> {
    let LogicalManifest { envelope, collections, oplog_entries, open_transactions, not_in_json, .. } =
        manifest.body()?;
    let held = collections.into_iter().map(|c| HeldNamespace {
        namespace: c.namespace,
        kind: c.kind,
        documents: c.counted.then_some(c.documents),
        bytes: c.counted.then_some(c.bytes),
    });
    let mut namespaces: Vec<HeldNamespace> = held.collect();
    namespaces.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    let open_transactions = open_transactions.len() as u64;
    Ok(Contents { envelope, namespaces, not_in_json, oplog_entries, open_transactions, files: None })
}

async fn open(ctx: &Context, mut source: RestoreSource) -> Result<OpenBackup> {
    unlock_source(ctx, &mut source).await?;
    let opened = OpenBackup::new(source.storage, source.manifest.body()?)?.with_keys(source.keys);
    match source.tail {
        Some(tail) => opened.followed_by(tail),
        None => Ok(opened),
    }
}

async fn connect(ctx: &Context, service: &Service, limit: Duration) -> Result<Server> {
    ctx.meter.set_phase(format!("connecting to {}", service.name));
    let connecting = Server::connect(&service.name, &service.uri, limit);
    ctx.cancel.run_until_cancelled(connecting).await.unwrap_or_else(|| Err(Error::cancelled()))
}
