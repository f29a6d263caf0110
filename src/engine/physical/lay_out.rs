//! From blocks to files: fetched side by side, each checked against its name before it is written.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::data_folder::inside;
use super::manifest::PhysicalManifest;
use super::verify::read_block;
use crate::artifact::layout::BlocksRoot;
use crate::domain::text::escape;
use crate::engine::Context;
use crate::engine::blocking::blocking;
use crate::engine::blocks::BlockEntry;
use crate::engine::blocks::naming::Opening;
use crate::error::{Error, ErrorKind, Result, io};
use crate::storage::Storage;

/// Where the contents of a block belong.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    offset: u64,
    /// Bytes.
    length: u64,
}

/// The files to be written. They are not held open: a server may have tens of thousands.
struct Files {
    folder: PathBuf,
    /// Path below the folder, mode, size.
    all: Vec<(String, u32, u64)>,
}

impl Files {
    fn path(&self, n: usize) -> Result<PathBuf> {
        let (path, ..) = self.all.get(n).ok_or_else(|| Error::new(ErrorKind::Internal, "a file is missing"))?;
        inside(&self.folder, path)
    }

    fn open(&self, n: usize) -> Result<File> {
        let path = self.path(n)?;
        OpenOptions::new().write(true).open(&path).map_err(|e| writing(&path, e))
    }
}

fn writing(path: &Path, error: std::io::Error) -> Error {
    io(format_args!("writing {}", escape(&path.to_string_lossy())), error)
}

/// Writes all files of `manifest` below `folder`. What it writes is on disk when this returns.
///
/// Errors: `Corrupt` for a damaged backup, naming the block; `StorageFull` for a full disk; `Cancelled`. What was written
/// stays: it is the caller's to remove.
pub async fn lay_out(
    ctx: &Context,
    storage: &Arc<dyn Storage>,
    root: &BlocksRoot,
    manifest: &PhysicalManifest,
    opening: &Opening,
    folder: &Path,
) -> Result<()> {
    manifest.must_be_possible()?;
    ctx.meter.set_totals(manifest.uncompressed_bytes, manifest.files.len() as u64, 0);
    ctx.meter.set_phase("fetching files");
    let mut places: HashMap<u32, Vec<Place>> = HashMap::new();
    for (n, file) in manifest.files.iter().enumerate() {
        for (block, index) in file.blocks.iter().enumerate() {
            let offset = block as u64 * manifest.block_bytes;
            match index {
                Some(index) => {
                    let length = manifest.block_bytes.min(file.size - offset);
                    places.entry(*index).or_default().push(Place { file: n, offset, length });
                }
                // Nothing but zeros: the file has them already.
                None => ctx.meter.add_bytes(manifest.block_bytes.min(file.size - offset)),
            }
        }
    }
    let files = Arc::new(Files {
        folder: folder.to_owned(),
        all: manifest.files.iter().map(|f| (f.path.clone(), f.mode, f.size)).collect(),
    });
    let (to_make, folders) = (Arc::clone(&files), manifest.folders.clone());
    blocking("writing files", move || make_files(&to_make, &folders)).await?;
    let most = usize::try_from(manifest.block_bytes).unwrap_or(usize::MAX);
    let at_once = ctx.limits.parallel_collections.clamp(1, 16) * 2;
    // In the order of the files, so that a disk writes in order.
    let mut order: Vec<(u32, Vec<Place>)> = places.into_iter().collect();
    order.sort_by_key(|(_, places)| places.first().map(|place| (place.file, place.offset)));
    let (mut next, mut running) = (order.into_iter(), FuturesUnordered::new());
    loop {
        while running.len() < at_once
            && let Some((index, places)) = next.next()
        {
            let Some(entry) = manifest.blocks.get(index as usize) else {
                return Err(Error::new(ErrorKind::Corrupt, "a file names a block that is not listed"));
            };
            running.push(put(storage, root, entry, opening, most, Arc::clone(&files), places));
        }
        let done = tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
            done = running.next() => done,
        };
        let Some(done) = done else { break };
        ctx.meter.add_bytes(done?);
    }
    ctx.meter.set_phase("writing files to disk");
    blocking("writing files", move || {
        for (n, (_, mode, _)) in files.all.iter().enumerate() {
            let (path, file) = (files.path(n)?, files.open(n)?);
            let done = file.set_permissions(Permissions::from_mode(mode & 0o777)).and_then(|()| file.sync_all());
            done.map_err(|e| writing(&path, e))?;
        }
        Ok(())
    })
    .await
}

/// Makes folders and files of their size, without contents. Blocks.
fn make_files(files: &Files, folders: &BTreeMap<String, u32>) -> Result<()> {
    for (path, mode) in folders.iter().filter(|(path, _)| !path.is_empty()) {
        let at = inside(&files.folder, path)?;
        // Its owner must be able to write into it, whatever it was.
        let made = DirBuilder::new().mode(mode & 0o777 | 0o700).recursive(true).create(&at);
        made.map_err(|e| writing(&at, e))?;
    }
    for (n, (_, _, size)) in files.all.iter().enumerate() {
        let at = files.path(n)?;
        if let Some(parent) = at.parent() {
            DirBuilder::new().mode(0o700).recursive(true).create(parent).map_err(|e| writing(parent, e))?;
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at);
        made.and_then(|file| file.set_len(*size)).map_err(|e| writing(&at, e))?;
    }
    Ok(())
}

/// Fetches a block, writes it to all its places, and returns how many bytes that were. Boxed: otherwise the compiler does
/// not see that the whole may go to another thread.
fn put<'a>(
    storage: &'a Arc<dyn Storage>,
    root: &'a BlocksRoot,
    entry: &'a BlockEntry,
    opening: &'a Opening,
    most: usize,
    files: Arc<Files>,
    places: Vec<Place>,
) -> BoxFuture<'a, Result<u64>> {
    async move {
        let plain = read_block(storage, root, entry, opening, most).await.map_err(|e| {
            let key = root.block(&entry.name).map_or_else(|_| String::new(), |key| key.to_string());
            e.context(format!("{}/{key}", storage.place()))
        })?;
        blocking("writing files", move || {
            for place in &places {
                if plain.len() as u64 != place.length {
                    let what = format!("a block of {} bytes stands where {} belong", plain.len(), place.length);
                    return Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup"));
                }
                let written = files.open(place.file)?.write_all_at(&plain, place.offset);
                written.map_err(|e| files.path(place.file).map_or_else(|e| e, |path| writing(&path, e)))?;
            }
            Ok(plain.len() as u64 * places.len() as u64)
        })
        .await
    }
    .boxed()
}
