//! Backups that only PBM can restore: of sharded clusters, and copies of the files of servers.
//!
//! They are listed with what PBM says of them, so that a service with the engine `pbm` can restore them; whoever reads PBM's
//! objects by itself refuses them, with the reason.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::description::{Description, describe, suffix};
use crate::artifact::foreign::piece_of;
use crate::artifact::layout::{BackupRoot, FORMAT_VERSION};
use crate::artifact::manifest::{Envelope, Manifest, ObjectEntry};
use crate::domain::backup::{BackupType, ChainLink, Compression, Model};
use crate::domain::namespace::{Pattern, Selection};
use crate::domain::service::EngineKind;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// PBM's word for the base of a chain of increments, and for the increments.
pub const INCREMENTAL: &str = "incremental";

/// An envelope with more in it: it is read as one, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnlyPbm {
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Why nobody else restores it, as a sentence.
    only_pbm: String,
    pub pbm_version: String,
    /// `logical`, `physical`, `incremental`.
    pub pbm_type: String,
    pub replica_sets: Vec<OnlyPbmSet>,
    /// Everything below the folder of the backup.
    pub files: Vec<ObjectEntry>,
}

/// What one replica set put into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyPbmSet {
    pub name: String,
    pub node: String,
    pub is_config_server: bool,
    /// Bytes as stored, as PBM wrote them down; 0: it did not.
    pub size: u64,
    /// Of a logical one: those that have documents.
    pub collections: Vec<String>,
}

impl OnlyPbm {
    /// `None` for a manifest that presents something else.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        manifest.body().ok()
    }

    /// Why nobody but PBM restores it.
    pub fn refused(&self) -> Error {
        Error::new(ErrorKind::Unsupported, self.only_pbm.clone())
            .hint("restore it into a service with the engine pbm: mongokeep restore BACKUP --to SERVICE")
    }
}

/// Presents the backup at `root`, which only PBM restores, for the reason `why`.
///
/// Errors: `Corrupt` for what cannot be; what the storage reports.
pub async fn present(
    storage: &dyn Storage,
    root: &BackupRoot,
    description: &Description,
    why: &Error,
) -> Result<Manifest> {
    let folder = root.key().as_str().strip_suffix(root.key().file_name()).unwrap_or_default().trim_end_matches('/');
    let mut files = Vec::new();
    let mut listing = storage.list(Some(root.key())).await?;
    while let Some(object) = listing.try_next().await? {
        if let Some(path) = object.key.below(root.key()) {
            let (path, size) = (path.to_owned(), object.size);
            files.push(ObjectEntry { path, size, blake3: String::new(), uncompressed: 0, documents: 0 });
        }
    }
    drop(listing);
    let replica_sets = sets(description, &files);
    let link = chain_link(storage, folder, description).await?;
    let found = OnlyPbm {
        envelope: envelope(description, folder, &replica_sets, link)?,
        only_pbm: why.full(),
        pbm_version: description.pbm_version.clone(),
        pbm_type: description.kind.clone(),
        replica_sets,
        files,
    };
    Manifest::of_other_tool(found.envelope.clone(), &found)
}

fn sets(description: &Description, files: &[ObjectEntry]) -> Vec<OnlyPbmSet> {
    let ending = description.encoded().map(suffix).unwrap_or_default();
    let is_logical = description.kind == "logical";
    let collections = |set: &str| {
        let names = files.iter().filter(|_| is_logical).filter_map(|file| {
            let path = file.path.strip_prefix(set)?.strip_prefix('/')?;
            let name = piece_of(path).0.strip_suffix(ending)?;
            (!name.contains('/') && !["metadata.json", "meta.pbm"].contains(&path)).then(|| name.to_owned())
        });
        names.collect::<BTreeSet<String>>().into_iter().collect()
    };
    let mut sets: Vec<OnlyPbmSet> = description
        .sets()
        .iter()
        .map(|set| OnlyPbmSet {
            name: set.name.clone(),
            node: set.node.clone(),
            is_config_server: set.is_config_server(),
            size: u64::try_from(set.size).unwrap_or(0),
            collections: collections(&set.name),
        })
        .collect();
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    sets
}

fn envelope(d: &Description, folder: &str, sets: &[OnlyPbmSet], chain: Option<ChainLink>) -> Result<Envelope> {
    let wrong = |why: &str| {
        Error::new(ErrorKind::Corrupt, format!("the PBM backup {} {why}", escape(&d.name))).hint("use another backup")
    };
    let at = |seconds: i64| {
        let at = u32::try_from(seconds).ok().and_then(|s| DateTime::<Utc>::from_timestamp(i64::from(s), 0));
        at.ok_or_else(|| wrong("was made at a time that cannot be"))
    };
    let joined = |of: &dyn Fn(&OnlyPbmSet) -> &str| sets.iter().map(of).collect::<Vec<_>>().join(",");
    let patterns = d
        .namespaces()
        .iter()
        .map(|ns| ns.parse::<Pattern>().map_err(|why| wrong(&format!("is of the namespace {}: {why}", escape(ns)))));
    let compression = d.compression_word().ok_or_else(|| wrong("is compressed in an unknown way"))?;
    let names = joined(&|set| set.name.as_str());
    Ok(Envelope {
        format_version: FORMAT_VERSION,
        tool_version: format!("PBM {}", d.pbm_version),
        name: d.name.clone(),
        attempt_id: format!("pbm-{}", d.opid),
        service: names.clone(),
        cluster: None,
        folder: folder.to_owned(),
        schedule: None,
        engine: EngineKind::Pbm,
        model: if d.kind == "logical" { Model::Logical } else { Model::Physical },
        backup_type: match &chain {
            Some(link) if link.source.is_none() => BackupType::IncrementalBase,
            Some(_) => BackupType::Incremental,
            None => BackupType::Full,
        },
        server_version: d.mongodb_version.clone(),
        fcv: d.fcv.clone(),
        replica_set: names,
        replica_set_id: String::new(),
        member: joined(&|set| set.node.as_str()),
        started_at: at(d.start_ts)?,
        finished_at: at(d.last_transition_ts)?,
        consistent_at_ts: d.last_write().ok_or_else(|| wrong("does not say which moment it holds"))?,
        selection: Selection { include: patterns.collect::<Result<_>>()?, exclude: Vec::new() },
        compression: compression.map_or(Compression::None, Compression::Foreign),
        encryption: None,
        left_out: Vec::new(),
        documents: 0,
        uncompressed_bytes: u64::try_from(d.size_uncompressed).unwrap_or(0),
        size_bytes: u64::try_from(d.size).unwrap_or(0),
        new_bytes: None,
        locked_millis: None,
        pbm_name: None,
        chain,
        checksum: String::new(),
    })
}

/// The place of a backup in its chain of increments, from what PBM wrote into the storage; `None`: it is of none.
///
/// Errors: `Corrupt` for an increment of something that is not there.
pub async fn chain_link(storage: &dyn Storage, folder: &str, description: &Description) -> Result<Option<ChainLink>> {
    if description.kind != INCREMENTAL {
        return Ok(None);
    }
    let (mut base, mut source) = (description.name.clone(), description.source().map(str::to_owned));
    let direct = source.clone();
    let mut seen = BTreeSet::from([base.clone()]);
    let broken = |what: String| Error::new(ErrorKind::Corrupt, what).hint("restore a backup of another chain");
    while let Some(name) = source {
        if !seen.insert(name.clone()) {
            return Err(broken(format!("PBM's backup {} is an increment of itself", escape(&name))));
        }
        let found = describe(storage, &BackupRoot::pbm(folder, &name)?).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                let (of, place) = (escape(&description.name), storage.place());
                broken(format!("PBM's backup {of} is an increment of {}, which is not in {place}", escape(&name)))
            }
            _ => e,
        })?;
        source = found.source().map(str::to_owned);
        base = name;
    }
    Ok(Some(ChainLink { base, source: direct }))
}
