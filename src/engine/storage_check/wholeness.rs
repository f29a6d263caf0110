//! Which backups of a storage are whole: what a sync asks before it lists them as good.
//!
//! As in a check, keys and sizes come from listings, and what these do not show is looked at itself. But only the folders of
//! the backups and of their blocks are listed, and their order does not matter.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::blocks::Blocks;
use super::named::{self, Read};
use crate::artifact::layout::{BackupRoot, BlocksRoot};
use crate::artifact::manifest::Envelope;
use crate::domain::storage_check::{Findings, RepairPlan};
use crate::engine::blocks::BlockEntry;
use crate::engine::find::Found;
use crate::error::Result;
use crate::storage::Storage;

/// Backups that are looked at at once: a manifest may be large, and is held whole.
const AT_ONCE: usize = 3;

/// A backup with a manifest, as the storage holds it now.
#[derive(Debug)]
pub enum Held {
    /// It went while it was looked at.
    Gone,
    /// Its manifest is of no use, and why.
    Unreadable(String),
    /// Its manifest cannot be read now, and why: nothing is concluded from that.
    Unknown(String),
    /// `lacks`: what is missing or of another size; `None`: it is whole.
    Backup { envelope: Box<Envelope>, lacks: Option<String> },
}

/// Compares backups, each with a manifest, with what the storage has of them. In the order of folder and name.
///
/// Errors: what the storage reports and what may pass; nothing is concluded then.
pub async fn compare(storage: &dyn Storage, mut found: Vec<Found>) -> Result<Vec<(Found, Held)>> {
    found.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    let mut all = Vec::with_capacity(found.len());
    // The blocks that one folder names are held at a time.
    for of_folder in found.chunk_by(|a, b| a.folder == b.folder) {
        let mut blocks = Blocks::default();
        let mut held = Vec::with_capacity(of_folder.len());
        let mut looks = stream::iter(of_folder.iter().cloned()).map(|found| look(storage, found)).buffered(AT_ONCE);
        while let Some((found, of_it, named)) = looks.try_next().await? {
            blocks.backup(&(found.folder.clone(), found.name.clone()), named, None)?;
            held.push((found, of_it));
        }
        drop(looks);
        compare_blocks(storage, blocks, &mut held).await?;
        all.append(&mut held);
    }
    Ok(all)
}

async fn look(storage: &dyn Storage, found: Found) -> Result<(Found, Held, Vec<BlockEntry>)> {
    let root = BackupRoot::new(&found.folder, &found.name)?;
    let (envelope, mut named) = match named::read(storage, &root, &found).await {
        Ok(Read::Backup(envelope, named)) => (envelope, named),
        Ok(Read::Gone) => return Ok((found, Held::Gone, Vec::new())),
        Ok(Read::Unreadable(why)) => return Ok((found, Held::Unreadable(why), Vec::new())),
        Err(e) if e.is_retryable() => return Err(e),
        Err(e) => return Ok((found, Held::Unknown(e.full()), Vec::new())),
    };
    let mut listing = storage.list(Some(root.key())).await?;
    while let Some(object) = listing.try_next().await? {
        if let Some(path) = object.key.below(root.key()) {
            named.object(path, object.size);
        }
    }
    let lacks = named.missing(storage, &root, &found, &mut Findings::default()).await?;
    if lacks.is_some() && is_gone(storage, &root).await? {
        return Ok((found, Held::Gone, Vec::new()));
    }
    Ok((found, Held::Backup { envelope, lacks }, named.blocks))
}

/// Whether somebody deletes the backup, of which the manifest goes first.
async fn is_gone(storage: &dyn Storage, root: &BackupRoot) -> Result<bool> {
    Ok(storage.stat(&root.manifest()?).await?.is_none())
}

/// Notes what of the blocks is missing with the backups of a folder that name them.
async fn compare_blocks(storage: &dyn Storage, mut blocks: Blocks, held: &mut [(Found, Held)]) -> Result<()> {
    let Some(folder) = held.first().map(|(found, _)| found.folder.clone()).filter(|_| !blocks.is_empty()) else {
        return Ok(());
    };
    let mut listing = storage.list(Some(BlocksRoot::new(&folder)?.key())).await?;
    while let Some(object) = listing.try_next().await? {
        blocks.object(&object);
    }
    drop(listing);
    while let Some((folder, done)) = blocks.done_before(None) {
        let damaged = done.close(storage, &folder, &mut Findings::default(), &mut RepairPlan::default()).await?;
        for (name, why) in damaged {
            let Some((_, held)) = held.iter_mut().find(|(found, _)| found.name == name) else { continue };
            if is_gone(storage, &BackupRoot::new(&folder, &name)?).await? {
                *held = Held::Gone;
            } else if let Held::Backup { lacks, .. } = held {
                lacks.get_or_insert(why);
            }
        }
    }
    Ok(())
}
