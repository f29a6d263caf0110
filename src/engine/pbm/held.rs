//! A backup that PBM made for us, as it lies in a storage: looked at without asking PBM.

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::driven::DrivenManifest;
use crate::artifact::layout::BackupRoot;
use crate::domain::backup::Model;
use crate::domain::namespace::Namespace;
use crate::domain::restore::CollectionKind;
use crate::domain::service::{EngineKind, Service};
use crate::domain::text::{bytes, escape};
use crate::engine::contract::{
    Contents, HeldNamespace, Problem, RestoreSource, RestoreTarget, VerifyReport, about_the_backup,
};
use crate::engine::pbm_layout;
use crate::engine::{Context, backup_reader};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Where PBM's own objects of it are.
pub fn root(manifest: &DrivenManifest) -> Result<BackupRoot> {
    BackupRoot::pbm(&manifest.pbm_folder, manifest.pbm_name())
}

/// The service that PBM restores into; `None`: mongokeep writes into it by itself.
///
/// Errors: `Unsupported` for a backup that only PBM restores, where the target has no PBM.
pub fn driver_of<'a>(source: &RestoreSource, target: RestoreTarget<'a>) -> Result<Option<&'a Service>> {
    let is_driven = source.manifest.envelope.pbm_name.is_some();
    let service = target.service()?;
    match (is_driven, service.engine) {
        (true, EngineKind::Pbm) => Ok(Some(service)),
        (false, EngineKind::Pbm) => {
            let what = format!("service {} is PBM's, and this backup was not made through mongokeep", service.name);
            Err(Error::new(ErrorKind::Unsupported, what)
                .hint("restore it with pbm restore, or into a service with the engine native"))
        }
        (_, EngineKind::Native | EngineKind::Mongodump) => Ok(None),
    }
}

/// `source` as a backup in PBM's layout, and the name that it has here.
pub async fn as_its_layout(source: RestoreSource) -> Result<(String, RestoreSource)> {
    let name = source.manifest.envelope.name.clone();
    if source.manifest.envelope.pbm_name.is_none() {
        return Ok((name, source));
    }
    let driven: DrivenManifest = source.manifest.body()?;
    let manifest = pbm_layout::read_manifest(source.storage.as_ref(), &root(&driven)?).await?;
    Ok((name, RestoreSource { manifest, ..source }))
}

/// What becomes of a restore whose daemon was killed.
pub fn goes_on(target: RestoreTarget<'_>) -> Option<String> {
    let service = target.service().ok().filter(|service| service.engine == EngineKind::Pbm)?;
    Some(format!(
        "if PBM had begun, it goes on by itself; mongokeep service check {} says whether it is at work",
        service.name
    ))
}

/// Reads a backup back. A logical one of one replica set is read as a restore reads it; of others it is looked whether all
/// objects are there that PBM says it wrote.
///
/// Errors: what keeps it from looking at all.
pub async fn verify(ctx: &Context, storage: Arc<dyn Storage>, own: &BackupRoot) -> Result<VerifyReport> {
    let manifest = match backup_reader::read_manifest(storage.as_ref(), own).await {
        Ok(manifest) => manifest,
        Err(e) => {
            let problems = vec![Problem::new(&own.manifest()?, about_the_backup(e)?)];
            return Ok(VerifyReport { problems, ..VerifyReport::default() });
        }
    };
    let manifest: DrivenManifest = manifest.body()?;
    let of_pbm = root(&manifest)?;
    if manifest.envelope.model == Model::Logical && manifest.replica_sets.len() == 1 {
        return pbm_layout::verify(ctx, storage, &of_pbm).await;
    }
    ctx.meter.set_phase("looking for PBM's objects");
    let mut report = VerifyReport { objects: 2, ..VerifyReport::default() };
    let key = of_pbm.manifest()?;
    if let Err(e) = pbm_layout::describe(storage.as_ref(), &of_pbm).await {
        report.problems.push(Problem::new(&key, about_the_backup(e)?));
        return Ok(report);
    }
    let mut sizes: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let mut listing = storage.list(Some(of_pbm.key())).await?;
    while let Some(object) = listing.try_next().await? {
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let Some((set, _)) = object.key.below(of_pbm.key()).and_then(|path| path.split_once('/')) else { continue };
        *sizes.entry(set.to_owned()).or_default() += object.size;
        report.objects += 1;
        report.bytes += object.size;
    }
    for set in &manifest.replica_sets {
        let there = sizes.get(&set.name).copied().unwrap_or(0);
        if there == 0 || there < set.size {
            let what =
                format!("of replica set {} {} are there of {}", escape(&set.name), bytes(there), bytes(set.size));
            report.problems.push(Problem::new(of_pbm.key(), what));
        }
    }
    let note = "PBM writes down no checksums that could be compared for it: only sizes were";
    report.notes.push(Problem::new(of_pbm.key(), note));
    Ok(report)
}

/// What it holds, for people.
pub fn contents(manifest: &DrivenManifest) -> Result<Contents> {
    let mut namespaces: Vec<HeldNamespace> = manifest
        .replica_sets
        .iter()
        .filter(|set| !set.is_config_server)
        .flat_map(|set| &set.collections)
        .filter_map(|name| Namespace::parse(name))
        // The books of the servers, and of PBM itself.
        .filter(|namespace| !matches!(namespace.db.as_str(), "admin" | "config" | "local"))
        .map(|namespace| HeldNamespace { namespace, kind: CollectionKind::Collection, documents: None, bytes: None })
        .collect();
    namespaces.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    namespaces.dedup_by(|a, b| a.namespace == b.namespace);
    Ok(Contents {
        envelope: manifest.envelope.clone(),
        namespaces,
        not_in_json: Vec::new(),
        oplog_entries: 0,
        open_transactions: 0,
        files: None,
    })
}
