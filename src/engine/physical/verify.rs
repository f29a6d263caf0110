//! Reading every block of a physical backup back: whether it is there, of its size, and holds what its name says.

use std::io::Read;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::manifest::PhysicalManifest;
use crate::artifact::codec::Decoder;
use crate::artifact::layout::{BackupRoot, BlocksRoot};
use crate::domain::text::escape;
use crate::engine::blocks::BlockEntry;
use crate::engine::blocks::naming::Opening;
use crate::engine::contract::{Problem, VerifyReport, about_the_backup};
use crate::engine::unlock::keys_of;
use crate::engine::{Context, backup_reader};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Storage, read_all};

/// Files named for a damaged block; the rest is counted.
const FILES_NAMED: usize = 3;

/// Reads everything back. Errors: as [`crate::engine::contract::Engine::verify`].
pub async fn verify(ctx: &Context, storage: &Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
    let work = async {
        let mut report = VerifyReport::default();
        ctx.meter.set_phase("read the manifest");
        let key = root.manifest()?;
        // Whatever fails here, a disk that is not mounted for one, is about the storage and not about the backup.
        let Some(found) = storage.stat(&key).await? else {
            report.problems.push(Problem::new(&key, "it is missing: nothing without a manifest is a backup"));
            return Ok(report);
        };
        report.objects += 1;
        report.bytes += found.size;
        let read = backup_reader::read_manifest(&**storage, root).await.and_then(|m| m.body::<PhysicalManifest>());
        let manifest = match read {
            Ok(manifest) => manifest,
            Err(e) => {
                report.problems.push(Problem::new(&key, about_the_backup(e)?));
                return Ok(report);
            }
        };
        report.problems.extend(manifest.impossible().iter().map(|what| Problem::new(&key, what)));
        match backup_reader::read_attempt(&**storage, root).await? {
            Some(attempt) if attempt.attempt_id == manifest.attempt_id => {}
            Some(_) => {
                let what = "it belongs to another attempt than the manifest; a restore does not need it";
                report.notes.push(Problem::new(&root.attempt()?, what));
            }
            None => {
                let what = "it is missing or cannot be understood; a restore does not need it";
                report.notes.push(Problem::new(&root.attempt()?, what));
            }
        }
        let blocks = root.blocks()?;
        // Without its identity nothing can be said of a backup.
        let opening = match manifest.opening(keys_of(ctx, &manifest.envelope).await?) {
            Ok(opening) => opening,
            Err(e) => {
                report.problems.push(Problem::new(&key, about_the_backup(e)?));
                return Ok(report);
            }
        };
        let read = read_back(ctx, storage, &blocks, &manifest, &opening).await?;
        report.objects += read.objects;
        report.bytes += read.bytes;
        report.problems.extend(read.problems);
        report.problems.sort();
        Ok(report)
    };
    // Nothing is written, so that the work may be dropped at any point.
    ctx.cancel.run_until_cancelled(work).await.unwrap_or_else(|| Err(Error::cancelled()))
}

/// Reads the blocks that `manifest` names.
pub(super) async fn read_back(
    ctx: &Context,
    storage: &Arc<dyn Storage>,
    root: &BlocksRoot,
    manifest: &PhysicalManifest,
    opening: &Opening,
) -> Result<VerifyReport> {
    ctx.meter.set_phase("read blocks");
    ctx.meter.set_totals(manifest.size_bytes, manifest.blocks.len() as u64, 0);
    let most = usize::try_from(manifest.block_bytes).unwrap_or(usize::MAX);
    let at_once = ctx.limits.parallel_collections.clamp(1, 16);
    let (mut next, mut running) = (manifest.blocks.iter().zip(0_u32..), FuturesUnordered::new());
    let mut damaged: Vec<(u32, Error)> = Vec::new();
    loop {
        while running.len() < at_once
            && let Some((entry, index)) = next.next()
        {
            running.push(looked_at(storage, root, entry, opening, index, most));
        }
        let Some((index, size, read)) = running.next().await else { break };
        ctx.meter.add_bytes(size);
        ctx.meter.object_done();
        if let Err(e) = read {
            damaged.push((index, about_the_backup(e)?));
        }
    }
    let mut report =
        VerifyReport { objects: manifest.blocks.len() as u64, bytes: manifest.size_bytes, ..VerifyReport::default() };
    if damaged.is_empty() {
        return Ok(report);
    }
    let mut files = manifest.files_with(damaged.iter().map(|(index, _)| *index));
    for (index, error) in damaged {
        let Some(entry) = manifest.blocks.get(index as usize) else { continue };
        let of = files.remove(&index).unwrap_or_default();
        let shown: Vec<String> = of.iter().take(FILES_NAMED).map(|path| escape(path)).collect();
        let more = of.len().saturating_sub(FILES_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = format!("{error}; it is a block of {}{more}", shown.join(", "));
        // A name that is none is what the problem is about.
        let key = root.block(&entry.name).or_else(|_| root.collector())?;
        report.problems.push(Problem::new(&key, what));
    }
    Ok(report)
}

/// Boxed: otherwise the compiler does not see that the whole may go to another thread.
fn looked_at<'a>(
    storage: &'a Arc<dyn Storage>,
    root: &'a BlocksRoot,
    entry: &'a BlockEntry,
    opening: &'a Opening,
    index: u32,
    most: usize,
) -> BoxFuture<'a, (u32, u64, Result<()>)> {
    async move { (index, entry.size, read_block(storage, root, entry, opening, most).await.map(drop)) }.boxed()
}

/// The plain contents of a block.
///
/// Errors: `Corrupt` when it is not what its name says; `NotFound`.
pub(super) async fn read_block(
    storage: &Arc<dyn Storage>,
    root: &BlocksRoot,
    entry: &BlockEntry,
    opening: &Opening,
    most: usize,
) -> Result<Vec<u8>> {
    let hash = entry.hash()?;
    let key = root.block(&entry.name)?;
    let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
    if size > most.saturating_mul(2).saturating_add(1 << 20) {
        return Err(damaged(&format!("{} bytes are too many for a block", entry.size)));
    }
    // One more, so that an object that is too long is seen.
    let stored = match read_all(&**storage, &key, size.saturating_add(1)).await {
        Ok(stored) => stored,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::new(ErrorKind::NotFound, "it is missing").hint("use another backup"));
        }
        Err(e) => return Err(e),
    };
    if stored.len() != size {
        return Err(damaged(&format!("it has {} of {size} bytes", stored.len())));
    }
    let (name, opening) = (entry.name.clone(), opening.clone());
    let decoded = tokio::task::spawn_blocking(move || {
        let broken = |e: std::io::Error| damaged(&format!("it cannot be decoded ({e})"));
        let mut plain = Vec::with_capacity(most);
        // No more than a block: what was tampered with could be endless.
        let mut decoder = Decoder::of(&name, &stored[..], &opening.keys).map_err(broken)?.take(most as u64 + 1);
        decoder.read_to_end(&mut plain).map_err(broken)?;
        if opening.naming.hash(&plain) != hash {
            return Err(damaged("its contents are not those that were stored"));
        }
        Ok(plain)
    });
    decoded.await.map_err(|e| Error::new(ErrorKind::Internal, "reading a block broke off").source(e))?
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("it is damaged: {why}")).hint(
        "use another backup; once this object is removed by hand, the next backup that needs the block stores it again",
    )
}
