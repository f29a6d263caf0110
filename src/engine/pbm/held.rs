//! A backup that PBM made for us, as it lies in a storage: looked at without asking PBM.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use super::chain;
use super::driven::{DrivenManifest, DrivenSet};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Envelope, Manifest};
use crate::domain::backup::Model;
use crate::domain::namespace::Namespace;
use crate::domain::restore::CollectionKind;
use crate::domain::service::{EngineKind, Service};
use crate::domain::text::{bytes, escape};
use crate::engine::contract::{
    Contents, HeldNamespace, Problem, RestoreSource, RestoreTarget, VerifyReport, about_the_backup,
};
use crate::engine::pbm_layout::{self, OnlyPbm};
use crate::engine::{Context, backup_reader, logical};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Where PBM's own objects of it are.
pub fn root(manifest: &DrivenManifest) -> Result<BackupRoot> {
    BackupRoot::pbm(&manifest.pbm_folder, manifest.pbm_name())
}

/// The service that PBM restores into; `None`: mongokeep writes into it by itself.
///
/// Errors: `Unsupported` for a backup that only PBM restores, where the target has no PBM.
pub fn driver_of(target: RestoreTarget<'_>) -> Result<Option<&Service>> {
    let service = target.service()?;
    Ok(match service.engine {
        EngineKind::Pbm => Some(service),
        EngineKind::Native | EngineKind::Mongodump => None,
    })
}

/// `manifest` as PBM knows the backup, which it made for us or for somebody else.
///
/// Errors: `Corrupt` for a manifest that is none.
pub fn as_driven(manifest: &Manifest) -> Result<DrivenManifest> {
    if manifest.envelope.pbm_name.is_some() {
        return manifest.body();
    }
    let name = manifest.envelope.name.clone();
    let envelope = Envelope { pbm_name: Some(name), ..manifest.envelope.clone() };
    let pbm_folder = envelope.folder.clone();
    if let Some(found) = OnlyPbm::of(manifest) {
        let sets = found.replica_sets.into_iter().map(|set| DrivenSet {
            name: set.name,
            node: set.node,
            is_config_server: set.is_config_server,
            size: set.size,
            collections: set.collections,
        });
        return Ok(DrivenManifest {
            pbm_version: found.pbm_version,
            pbm_type: found.pbm_type,
            pbm_folder,
            replica_sets: sets.collect(),
            users_and_roles: false,
            envelope,
        });
    }
    let collections =
        logical::contents_of(manifest)?.namespaces.iter().map(|held| held.namespace.to_string()).collect();
    let set = DrivenSet {
        name: envelope.replica_set.clone(),
        node: envelope.member.clone(),
        is_config_server: false,
        size: 0,
        collections,
    };
    Ok(DrivenManifest {
        pbm_version: envelope.tool_version.trim_start_matches("PBM ").to_owned(),
        pbm_type: envelope.model.word().to_owned(),
        pbm_folder,
        replica_sets: vec![set],
        users_and_roles: false,
        envelope,
    })
}

/// Errors: `Unsupported` for a moment that only PBM leads to.
pub fn must_be_read_here(source: &RestoreSource) -> Result<()> {
    if !source.tail.as_ref().is_some_and(|tail| tail.archive.is_by_engine()) {
        return Ok(());
    }
    let what = "the oplog that leads to this moment was recorded by PBM, which restores it into a service with the engine pbm only";
    Err(Error::new(ErrorKind::Unsupported, what)
        .hint("choose such a service, or restore the base alone: mongokeep restore BACKUP --to SERVICE"))
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
pub async fn verify(ctx: &Context, storage: Arc<dyn Storage>, at: &BackupRoot) -> Result<VerifyReport> {
    let manifest = match backup_reader::read_manifest(storage.as_ref(), at).await {
        Ok(manifest) => manifest,
        Err(e) => {
            let problems = vec![Problem::new(&at.manifest()?, about_the_backup(e)?)];
            return Ok(VerifyReport { problems, ..VerifyReport::default() });
        }
    };
    let only_pbm = OnlyPbm::of(&manifest).is_some();
    let manifest = as_driven(&manifest)?;
    let of_pbm = root(&manifest)?;
    if !only_pbm && manifest.envelope.model == Model::Logical && manifest.replica_sets.len() == 1 {
        return pbm_layout::verify(ctx, storage, &of_pbm).await;
    }
    ctx.meter.set_phase("looking for PBM's objects");
    let mut report = VerifyReport { objects: 2, ..VerifyReport::default() };
    let key = of_pbm.manifest()?;
    if let Err(e) = pbm_layout::describe(storage.as_ref(), &of_pbm).await {
        report.problems.push(Problem::new(&key, about_the_backup(e)?));
        return Ok(report);
    }
    let there = stored(storage.as_ref(), &of_pbm, &ctx.cancel).await?;
    (report.objects, report.bytes) = (report.objects + there.objects, there.bytes);
    for (set, there) in there.lacking(&manifest) {
        let what = format!("of replica set {} {} are there of {}", escape(&set.name), bytes(there), bytes(set.size));
        report.problems.push(Problem::new(of_pbm.key(), what));
    }
    if let Some(link) = &manifest.envelope.chain {
        report.problems.extend(chain::missing(storage.as_ref(), &manifest.pbm_folder, link).await?);
    }
    let note = "PBM writes down no checksums that could be compared for it: only sizes were";
    report.notes.push(Problem::new(of_pbm.key(), note));
    Ok(report)
}

/// What of a backup lies in a storage.
struct Stored {
    objects: u64,
    bytes: u64,
    /// By replica set.
    sizes: BTreeMap<String, u64>,
}

impl Stored {
    /// The replica sets of which less is there than PBM wrote, and how much that is, in bytes.
    fn lacking<'a>(&self, manifest: &'a DrivenManifest) -> Vec<(&'a DrivenSet, u64)> {
        let sets = manifest.replica_sets.iter().map(|set| (set, self.sizes.get(&set.name).copied().unwrap_or(0)));
        sets.filter(|(set, there)| *there == 0 || *there < set.size).collect()
    }
}

async fn stored(storage: &dyn Storage, of_pbm: &BackupRoot, cancel: &CancellationToken) -> Result<Stored> {
    let mut stored = Stored { objects: 0, bytes: 0, sizes: BTreeMap::new() };
    let mut listing = storage.list(Some(of_pbm.key())).await?;
    while let Some(object) = listing.try_next().await? {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let Some((set, _)) = object.key.below(of_pbm.key()).and_then(|path| path.split_once('/')) else { continue };
        *stored.sizes.entry(set.to_owned()).or_default() += object.size;
        stored.objects += 1;
        stored.bytes += object.size;
    }
    Ok(stored)
}

/// Whether nothing of it is missing, as far as sizes tell. PBM deletes what it describes before the description, so that
/// this alone says nothing.
///
/// Errors: what keeps it from looking.
pub async fn is_whole(storage: &dyn Storage, manifest: &DrivenManifest) -> Result<bool> {
    let of_pbm = root(manifest)?;
    // A person who ended the deletion wants to know all the same.
    let there = stored(storage, &of_pbm, &CancellationToken::new()).await?;
    Ok(there.lacking(manifest).is_empty() && storage.stat(&of_pbm.manifest()?).await?.is_some())
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
