//! What a location holds that is still in a form: read from the manifests that are found there, and kept nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::sync_plan::{Place, driven};
use super::{Client, Values};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::Manifest;
use crate::domain::storage::StorageConfig;
use crate::domain::timestamp::Timestamp;
use crate::engine::backup_reader::read_manifest;
use crate::engine::find::{Found, InStorage, find};
use crate::engine::foreign::{Discovered, ForeignFolder};
use crate::error::Result;
use crate::storage::{self, Storage, backends};

/// How long a person waits for it: what was not read by then is not shown.
const LIMIT: Duration = Duration::from_secs(20);
/// Manifests that are read at once. Each of them is held in memory as a whole.
const AT_ONCE: usize = 4;

/// The backups of a location, whoever made them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Of each complete backup: the moment that it is of, where something in it says that, and its bytes as stored.
    pub backups: Vec<(Option<DateTime<Utc>>, u64)>,
    /// Backups without a manifest: interrupted, or still being written.
    pub incomplete: u64,
    /// Backups whose manifest is of no use here.
    pub unreadable: u64,
    /// There was more than was read in the time that there is for it.
    pub is_part: bool,
}

impl Holdings {
    fn add(&mut self, manifest: Result<Manifest>) {
        match manifest {
            Ok(Manifest { envelope, .. }) => {
                let at = Some(envelope.consistent_at_ts).filter(|ts| *ts > Timestamp::MIN).map(Timestamp::to_datetime);
                // Of a dump without an oplog nothing says it.
                let begun = Some(envelope.started_at).filter(|at| *at > DateTime::UNIX_EPOCH);
                self.backups.push((at.or(begun), envelope.size_bytes));
            }
            Err(_) => self.unreadable += 1,
        }
    }
}

impl Client {
    /// What the location holds that a person typed and did not save. `edited`: as for a test of it. Reads the manifests, and
    /// within 20 s only as many as there is time for.
    ///
    /// Errors: `Invalid`, naming the field; what the storage reports.
    pub async fn draft_holdings(&self, edited: Option<&str>, values: &Values) -> Result<Holdings> {
        // A disk or a server that hangs may do so before anything of it is open.
        let mut held = Holdings::default();
        let read = timeout(LIMIT, self.read_holdings(edited, values, &mut held)).await;
        match read {
            Ok(read) => read?,
            Err(_) => held.is_part = true,
        }
        Ok(held)
    }

    async fn read_holdings(&self, edited: Option<&str>, values: &Values, held: &mut Holdings) -> Result<()> {
        let location = self.draft(edited, values).await?;
        let config = location.config.clone();
        // A disk may take its time to say so.
        if self.call(move |_| Ok(is_missing_folder(&config))).await? {
            return Ok(());
        }
        let storage = storage::open(&location.config).await?;
        let InStorage { backups, foreign, .. } = find(storage.as_ref()).await?;
        let (complete, unfinished): (Vec<Found>, Vec<Found>) =
            backups.into_iter().partition(|found| found.has_manifest);
        held.incomplete = unfinished.len() as u64;
        let driven = own(storage.as_ref(), complete, held).await?;
        others(storage.as_ref(), &location.name, &foreign, &driven, held).await
    }
}

/// Whether the folder that the location is would be made for it.
fn is_missing_folder(config: &StorageConfig) -> bool {
    matches!(backends::local_folder(config), Ok(Some(folder)) if !folder.exists())
}

/// Returns those among them that PBM made for us: they lie there a second time, as what PBM knows of them.
async fn own(storage: &dyn Storage, found: Vec<Found>, held: &mut Holdings) -> Result<BTreeSet<Place>> {
    let reads = found.into_iter().map(|found| async move {
        let manifest = match BackupRoot::new(&found.folder, &found.name) {
            Ok(root) => read_manifest(storage, &root).await,
            Err(e) => Err(e),
        };
        (found.folder, manifest)
    });
    let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
    let mut driven_by_us = BTreeSet::new();
    while let Some((folder, manifest)) = reads.next().await {
        match manifest {
            Err(e) if e.is_retryable() => return Err(e),
            manifest => {
                let of_pbm = manifest.as_ref().ok().and_then(|manifest| manifest.envelope.pbm_name.as_deref());
                driven_by_us.extend(driven(&folder, of_pbm));
                held.add(manifest);
            }
        }
    }
    Ok(driven_by_us)
}

/// Those of other tools, without what is `driven` by us.
async fn others(
    storage: &dyn Storage,
    name: &str,
    folders: &[ForeignFolder],
    driven: &BTreeSet<Place>,
    held: &mut Holdings,
) -> Result<()> {
    for folder in folders {
        let Discovered { backups, .. } = folder.discover(storage, name, &|_, _| false).await?;
        let theirs = backups.into_iter().filter(|b| !driven.contains(&(folder.folder.clone(), b.name.clone())));
        theirs.for_each(|backup| held.add(backup.read));
    }
    Ok(())
}
