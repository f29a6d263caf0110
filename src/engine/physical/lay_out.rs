//! From blocks to files: fetched side by side, each checked against its name before it is written.
//!
//! Whatever is complete is brought to disk at once, beside everything else: a disk is slow, and what comes next need not
//! wait for it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

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

/// Files that are brought to disk at once.
const SYNCED_AT_ONCE: usize = 4;

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
    all: Vec<ToWrite>,
}

struct ToWrite {
    /// Below the folder.
    path: String,
    mode: u32,
    size: u64,
    /// Places of it that are not written yet.
    left: AtomicU64,
}

impl ToWrite {
    fn mode(&self) -> Permissions {
        Permissions::from_mode(self.mode & 0o777)
    }
}

/// Files that are on their way to disk. Dropped, they may never come there.
pub struct ToDisk {
    files: JoinSet<Result<()>>,
    folders: Vec<PathBuf>,
}

impl ToDisk {
    /// Returns when all of it is on disk.
    ///
    /// Errors: name the file that is not.
    pub async fn wait(mut self) -> Result<()> {
        while let Some(done) = self.files.join_next().await {
            done.map_err(|e| Error::new(ErrorKind::Internal, "writing files to disk broke off").source(e))??;
        }
        let folders = self.folders;
        blocking("writing folders to disk", move || folders.iter().try_for_each(|folder| sync(folder))).await
    }
}

/// A server that works on the folder meanwhile removes what it does not need.
fn sync(path: &Path) -> Result<()> {
    match File::open(path).and_then(|file| file.sync_all()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(writing(path, e)),
        _ => Ok(()),
    }
}

impl Files {
    fn path(&self, n: usize) -> Result<PathBuf> {
        inside(&self.folder, &self.get(n)?.path)
    }

    fn get(&self, n: usize) -> Result<&ToWrite> {
        self.all.get(n).ok_or_else(|| Error::new(ErrorKind::Internal, "a file is missing"))
    }

    fn open(&self, n: usize) -> Result<File> {
        let path = self.path(n)?;
        OpenOptions::new().write(true).open(&path).map_err(|e| writing(&path, e))
    }
}

fn writing(path: &Path, error: std::io::Error) -> Error {
    io(format_args!("writing {}", escape(&path.to_string_lossy())), error)
}

/// Writes all files of `manifest` below `folder`, and counts their bytes and files as work. What it has written can be read
/// when this returns, and is on disk after [`ToDisk::wait`].
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
) -> Result<ToDisk> {
    manifest.must_be_possible()?;
    let mut places: HashMap<u32, Vec<Place>> = HashMap::new();
    let mut zeros = 0;
    let mut all = Vec::with_capacity(manifest.files.len());
    for (n, file) in manifest.files.iter().enumerate() {
        let mut left = 0;
        for (block, index) in file.blocks.iter().enumerate() {
            let offset = block as u64 * manifest.block_bytes;
            let length = manifest.block_bytes.min(file.size - offset);
            match index {
                Some(index) => {
                    places.entry(*index).or_default().push(Place { file: n, offset, length });
                    left += 1;
                }
                // The file has them already.
                None => zeros += length,
            }
        }
        all.push(ToWrite { path: file.path.clone(), mode: file.mode, size: file.size, left: AtomicU64::new(left) });
    }
    let files = Arc::new(Files { folder: folder.to_owned(), all });
    let (to_make, folders) = (Arc::clone(&files), manifest.folders.clone());
    blocking("writing files", move || make_files(&to_make, &folders)).await?;
    let slots = Arc::new(Semaphore::new(SYNCED_AT_ONCE));
    let folders =
        manifest.folders.keys().map(|path| Ok(if path.is_empty() { folder.to_owned() } else { inside(folder, path)? }));
    let mut to_disk = ToDisk { files: JoinSet::new(), folders: folders.collect::<Result<_>>()? };
    let mut complete = |n: usize| {
        let (path, slots) = (files.path(n)?, Arc::clone(&slots));
        ctx.meter.object_done();
        to_disk.files.spawn(async move {
            let closed = |e| Error::new(ErrorKind::Internal, "writing files to disk broke off").source(e);
            let _slot = slots.acquire().await.map_err(closed)?;
            blocking("writing files to disk", move || sync(&path)).await
        });
        Ok::<(), Error>(())
    };
    ctx.meter.add_bytes(zeros);
    for (n, _) in files.all.iter().enumerate().filter(|(_, file)| file.left.load(Ordering::Acquire) == 0) {
        complete(n)?;
    }
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
        let (bytes, completed) = done?;
        ctx.meter.add_bytes(bytes);
        completed.into_iter().try_for_each(&mut complete)?;
    }
    Ok(to_disk)
}

/// Makes folders and files of their size, without contents. Blocks.
fn make_files(files: &Files, folders: &BTreeMap<String, u32>) -> Result<()> {
    for (path, mode) in folders.iter().filter(|(path, _)| !path.is_empty()) {
        let at = inside(&files.folder, path)?;
        // Its owner must be able to write into it, whatever it was.
        let made = DirBuilder::new().mode(mode & 0o777 | 0o700).recursive(true).create(&at);
        made.map_err(|e| writing(&at, e))?;
    }
    for (n, to_write) in files.all.iter().enumerate() {
        let at = files.path(n)?;
        if let Some(parent) = at.parent() {
            DirBuilder::new().mode(0o700).recursive(true).create(parent).map_err(|e| writing(parent, e))?;
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at);
        let made = made.and_then(|file| {
            file.set_len(to_write.size)?;
            // Others are written to first, whatever their mode allows.
            if to_write.left.load(Ordering::Acquire) == 0 { file.set_permissions(to_write.mode()) } else { Ok(()) }
        });
        made.map_err(|e| writing(&at, e))?;
    }
    Ok(())
}

/// Fetches a block and writes it to all its places. Returns how many bytes that were, and the files that are complete. Boxed: otherwise the compiler does
/// not see that the whole may go to another thread.
fn put<'a>(
    storage: &'a Arc<dyn Storage>,
    root: &'a BlocksRoot,
    entry: &'a BlockEntry,
    opening: &'a Opening,
    most: usize,
    files: Arc<Files>,
    places: Vec<Place>,
) -> BoxFuture<'a, Result<(u64, Vec<usize>)>> {
    async move {
        let plain = read_block(storage, root, entry, opening, most).await.map_err(|e| {
            let key = root.block(&entry.name).map_or_else(|_| String::new(), |key| key.to_string());
            e.context(format!("{}/{key}", storage.place()))
        })?;
        blocking("writing files", move || {
            let mut complete = Vec::new();
            for place in &places {
                if plain.len() as u64 != place.length {
                    let what = format!("a block of {} bytes stands where {} belong", plain.len(), place.length);
                    return Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup"));
                }
                let (to_write, file) = (files.get(place.file)?, files.open(place.file)?);
                let failed = |e| files.path(place.file).map_or_else(|e| e, |path| writing(&path, e));
                file.write_all_at(&plain, place.offset).map_err(failed)?;
                if to_write.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    file.set_permissions(to_write.mode()).map_err(failed)?;
                    complete.push(place.file);
                }
            }
            Ok((plain.len() as u64 * places.len() as u64, complete))
        })
        .await
    }
    .boxed()
}
