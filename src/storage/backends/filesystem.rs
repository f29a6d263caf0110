//! A folder of this machine as a storage: a local disk, or a network filesystem that is mounted.
//!
//! An object is written under a temporary name in its own folder, synced, renamed, and its folder synced: what is
//! visible is whole and survives a power loss. Files are readable by their owner only. Nothing here follows a
//! symbolic link below the root, creates the root, or blocks the async runtime.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;

use crate::error::{self, Error, ErrorKind, Result};
use crate::storage::{Key, Level, ObjectInfo, PutMode, Storage, Unfinished, Upload, random_name, too_many_folders};

mod backend;
mod cases;
pub mod mark;
mod root;
mod upload;
mod walk;

pub use backend::FilesystemBackend;

/// The mark of the folder at `path`. Errors: `NotFound` where there is no folder; what the disk says.
pub fn read_mark(path: &Path) -> std::io::Result<mark::Mark> {
    mark::read_in(&root::open_root(path)?)
}

/// Marks the folder at `path`, as `id` or with a new one, unless it is marked. Returns its mark.
///
/// Errors: a folder that is not there, or cannot be written to.
pub fn write_mark(path: &Path, id: Option<String>) -> Result<mark::Mark> {
    let root = Root::new(path);
    let id = id.map_or_else(random_name, Ok)?;
    let marked = root::open_root(path).map_err(Into::into).and_then(|folder| mark::write_in(&folder, &id));
    marked.map_err(|e| root.failure(format!("marking the storage folder {}", root.shown()), e))
}

/// The folder at `path` is not the one that was marked, and says `found` of itself.
pub fn not_mounted(path: &Path, found: &mark::Mark) -> Error {
    root::not_mounted(&crate::domain::text::escape(&path.to_string_lossy()), found)
}

use root::{Root, TEMPORARY};
use upload::FilesystemUpload;
use walk::Step;

/// Small enough that several writers at once cost little memory, large enough that the disk sees long writes.
const PART_SIZE: usize = 1 << 20;
const READ_SIZE: usize = 1 << 20;
/// Chunks read before they are asked for.
const READ_AHEAD: usize = 2;

/// A folder as a storage. Opening it touches nothing; the first call does.
#[derive(Debug)]
pub struct Filesystem {
    root: Arc<Root>,
}

impl Filesystem {
    pub fn new(path: &Path) -> Self {
        Self { root: Arc::new(Root::new(path)) }
    }

    /// One for what goes on for ever: each call goes to what is at `path` then, and nothing is held open in between.
    pub fn unheld(path: &Path) -> Self {
        Self { root: Arc::new(Root::unheld(path)) }
    }
}

#[async_trait]
impl Storage for Filesystem {
    fn place(&self) -> String {
        self.root.shown()
    }

    fn part_size(&self) -> usize {
        PART_SIZE
    }

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        let wanted = Wanted::default();
        let handle = wanted.handle();
        blocking(move || {
            let draft = Draft::create(root, key)?;
            let put = draft
                .file
                .write_all_at(&body, 0)
                .map_err(|e| draft.failure("writing", e))
                .and_then(|()| draft.sync())
                .and_then(|()| draft.publish(&handle, mode));
            put.inspect_err(|_| {
                let _ = draft.discard();
            })
        })
        .await
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        let draft = blocking(move || Draft::create(root, key)).await?;
        Ok(Box::new(FilesystemUpload::new(draft)))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        let what = format!("reading {}/{key}", self.root.shown());
        let (file, range) = blocking({
            let what = what.clone();
            move || {
                let found = match root.parent(&key)? {
                    Some(folder) => root::open_file(&folder, key.file_name()).map_err(|e| error::io(&what, e))?,
                    None => None,
                };
                let Some((file, size)) = found else {
                    return Err(Error::not_found("object", format!("{}/{key}", root.shown())));
                };
                let range = range.unwrap_or(0..size);
                if range.end > size || range.start > range.end {
                    return Err(short(&what, range.end, size));
                }
                advise_sequential(&file);
                Ok((file, range))
            }
        })
        .await?;
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        tokio::task::spawn_blocking(move || read_range(&file, range, &what, &sender));
        Ok(receive(receiver))
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        blocking(move || {
            let Some(folder) = root.parent(&key)? else { return Ok(None) };
            let size = root::size_of(&folder, key.file_name())
                .map_err(|e| error::io(format!("looking at {}/{key}", root.shown()), e))?;
            Ok(size.map(|size| ObjectInfo { key, size }))
        })
        .await
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.cloned());
        let Some((folder, path)) = blocking(move || open_prefix(&root, prefix.as_ref())).await? else {
            return Ok(stream::empty().boxed());
        };
        let what = format!("listing {}", self.root.shown());
        let (sender, receiver) = mpsc::channel(256);
        tokio::task::spawn_blocking(move || {
            let mut emit = |object| match sender.blocking_send(Ok(object)) {
                Ok(()) => Step::Go,
                Err(_) => Step::Stop,
            };
            if let Err(e) = walk::objects(&folder, &path, &mut emit) {
                let _ = sender.blocking_send(Err(error::io(what, e)));
            }
        });
        Ok(receive(receiver))
    }

    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.cloned());
        blocking(move || {
            let Some((folder, path)) = open_prefix(&root, prefix.as_ref())? else { return Ok(Level::default()) };
            walk::level(&folder, &path)
                .map_err(|e| error::io(format!("listing {}", root.shown()), e))?
                .ok_or_else(|| too_many_folders(&format!("{}/{path}", root.shown())))
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let (root, key) = (Arc::clone(&self.root), key.clone());
        blocking(move || remove(&root, &key).map(drop)).await
    }

    async fn sweep_older(&self, prefix: &Key, age: Duration) -> Result<u64> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.clone());
        blocking(move || {
            let Some((folder, path)) = open_prefix(&root, Some(&prefix))? else { return Ok(0) };
            let mut found = Vec::new();
            walk::temporaries(&folder, &path, age, usize::MAX, &mut found)
                .map_err(|e| error::io(format!("listing {}", root.shown()), e))?;
            let mut removed = 0;
            for Unfinished { key, .. } in &found {
                removed += u64::from(remove(&root, key)?);
            }
            Ok(removed)
        })
        .await
    }

    async fn unfinished(&self, most: usize) -> Result<Option<Vec<Unfinished>>> {
        let root = Arc::clone(&self.root);
        blocking(move || {
            let mut found = Vec::new();
            if let Some((folder, path)) = open_prefix(&root, None)? {
                walk::temporaries(&folder, &path, Duration::ZERO, most, &mut found)
                    .map_err(|e| error::io(format!("listing {}", root.shown()), e))?;
            }
            Ok(Some(found))
        })
        .await
    }

    async fn tells_cases_apart(&self) -> Result<bool> {
        let root = Arc::clone(&self.root);
        blocking(move || Ok(!cases::are_folded(&root)?)).await
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        let root = Arc::clone(&self.root);
        blocking(move || root.free().map(Some)).await
    }
}

/// A file on its way to become an object. Dropped before that, it removes itself: a call may be given up at any moment,
/// also while its thread creates the file that nobody else knows of.
#[derive(Debug)]
struct Draft {
    root: Arc<Root>,
    key: Key,
    folder: Arc<OwnedFd>,
    temporary: String,
    file: File,
    /// It has become an object, or is removed.
    settled: AtomicBool,
}

impl Draft {
    fn create(root: Arc<Root>, key: Key) -> Result<Self> {
        if key.as_str().split('/').any(|name| name.starts_with(TEMPORARY)) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{key}: names beginning with {TEMPORARY} are reserved"),
            ));
        }
        let temporary = format!("{TEMPORARY}{}", random_name()?);
        // A delete may remove the folder, empty until now, before the file is in it.
        for _ in 0..100 {
            let created = root.create_parent(&key).and_then(|folder| match root::create_file(&folder, &temporary) {
                Ok(file) => Ok(Some((folder, file))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(root.failure(format!("writing {}/{key}", root.shown()), e)),
            });
            match created {
                Ok(Some((folder, file))) => {
                    let settled = AtomicBool::new(false);
                    let draft = Self { root, key, folder: Arc::new(folder), temporary, file, settled };
                    // Dropped, it removes itself.
                    cases::require_own_name(&draft.root, &draft.key, &draft.folder, &draft.temporary)?;
                    return Ok(draft);
                }
                Ok(None) => {}
                Err(e) => {
                    root.remove_empty_parents(&key);
                    return Err(e);
                }
            }
        }
        Err(Error::new(ErrorKind::Transient, format!("writing {}/{key}: its folder keeps vanishing", root.shown())))
    }

    fn failure(&self, doing: &str, e: std::io::Error) -> Error {
        self.root.failure(format!("{doing} {}/{}", self.root.shown(), self.key), e)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.failure("syncing", e))
    }

    /// Gives the file its name, unless nobody waits for it any more.
    fn publish(&self, wanted: &WantedHandle, mode: PutMode) -> Result<()> {
        wanted
            .while_wanted(|| match mode {
                // What is there in other letters would be replaced.
                PutMode::Overwrite if self.is_new_where_cases_are_folded()? => self.create_new(),
                PutMode::Overwrite => {
                    Ok(rustix::fs::renameat(&self.folder, &self.temporary, &self.folder, self.name())?)
                }
                PutMode::CreateNew => self.create_new(),
            })
            .ok_or_else(Error::cancelled)?
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::AlreadyExists if mode == PutMode::CreateNew => {
                    Error::new(ErrorKind::Conflict, format!("{}/{} exists already", self.root.shown(), self.key))
                }
                std::io::ErrorKind::AlreadyExists if self.root.folds_cases.get() == Some(&true) => {
                    cases::taken(&format!("writing {}/{}", self.root.shown(), self.key), self.name())
                }
                std::io::ErrorKind::IsADirectory | std::io::ErrorKind::AlreadyExists => Error::new(
                    ErrorKind::Conflict,
                    format!("{}/{} is a folder where a file is needed", self.root.shown(), self.key),
                ),
                _ => self.failure("naming", e),
            })?;
        self.settled.store(true, Ordering::Relaxed);
        rustix::fs::fsync(&self.folder).map_err(|e| self.failure("syncing the folder of", e.into()))
    }

    /// A link fails when the name is taken. Filesystems without links can often rename without replacing. On the
    /// others the name is taken by an empty file first: that is as exclusive, but a crash leaves the empty file.
    fn create_new(&self) -> std::io::Result<()> {
        match rustix::fs::linkat(&self.folder, &self.temporary, &self.folder, self.name(), AtFlags::empty()) {
            Ok(()) => return Ok(rustix::fs::unlinkat(&self.folder, &self.temporary, AtFlags::empty())?),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            Err(errno) => return Err(errno.into()),
        }
        #[cfg(target_os = "linux")]
        match rustix::fs::renameat_with(
            &self.folder,
            &self.temporary,
            &self.folder,
            self.name(),
            rustix::fs::RenameFlags::NOREPLACE,
        ) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            other => return Ok(other?),
        }
        root::create_file(&self.folder, self.name())?;
        Ok(rustix::fs::renameat(&self.folder, &self.temporary, &self.folder, self.name())?)
    }

    fn is_new_where_cases_are_folded(&self) -> std::io::Result<bool> {
        Ok(self.root.folds_cases.get() == Some(&true) && !cases::is_there_as_written(&self.folder, self.name())?)
    }

    fn name(&self) -> &str {
        self.key.file_name()
    }

    fn discard(&self) -> Result<()> {
        unlink(&self.folder, &self.temporary).map_err(|e| self.failure("removing", e))?;
        self.settled.store(true, Ordering::Relaxed);
        self.root.remove_empty_parents(&self.key);
        Ok(())
    }
}

fn unlink(folder: &OwnedFd, name: &str) -> std::io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl Drop for Draft {
    /// Never waits for the disk: where it is dropped, others wait for the thread.
    fn drop(&mut self) {
        if self.settled.load(Ordering::Relaxed) {
            return;
        }
        let (root, key) = (Arc::clone(&self.root), self.key.clone());
        let (folder, temporary) = (Arc::clone(&self.folder), std::mem::take(&mut self.temporary));
        // What cannot be removed now is left to `sweep`.
        let discard = move || {
            if unlink(&folder, &temporary).is_ok() {
                root.remove_empty_parents(&key);
            }
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(discard)),
            Err(_) => discard(),
        }
    }
}

/// Whether somebody still waits for a blocking call: dropping the future gives it up, and after the drop it makes
/// nothing visible any more.
#[derive(Default)]
struct Wanted(WantedHandle);

#[derive(Clone)]
struct WantedHandle(Arc<Mutex<bool>>);

impl Default for WantedHandle {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(true)))
    }
}

impl Wanted {
    fn handle(&self) -> WantedHandle {
        self.0.clone()
    }
}

impl Drop for Wanted {
    /// Waits for a file that is being given its name right now: it must not appear after whoever gave up the call has
    /// removed all there was. Only the one who gives up waits; the thread's other work goes on elsewhere.
    fn drop(&mut self) {
        if let Ok(mut wanted) = self.0.0.try_lock() {
            *wanted = false;
            return;
        }
        let give_up = || *lock(&self.0.0) = false;
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(give_up),
            _ => give_up(),
        }
    }
}

impl WantedHandle {
    /// Runs `f`, which must be short, unless the call was given up; giving up waits for `f`.
    fn while_wanted<T>(&self, f: impl FnOnce() -> T) -> Option<T> {
        let wanted = lock(&self.0);
        wanted.then(f)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` on a thread that may block.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(e) if e.is_cancelled() => Err(Error::cancelled()),
        Err(e) => Err(Error::new(ErrorKind::Internal, "a thread of the storage ended early").source(e)),
    }
}

fn receive<T: Send + 'static>(mut receiver: mpsc::Receiver<T>) -> BoxStream<'static, T> {
    stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed()
}

fn open_prefix(root: &Root, prefix: Option<&Key>) -> Result<Option<(OwnedFd, String)>> {
    let folder = match prefix {
        Some(prefix) => root.folder(prefix.as_str()),
        // A root without a name of its own: `.` is the root itself.
        None => root.folder("."),
    };
    let path = prefix.map(|p| p.as_str().to_owned()).unwrap_or_default();
    match folder {
        Ok(folder) => Ok(folder.map(|folder| (folder, path))),
        // A key that is an object has nothing below it.
        Err(e) if e.kind() == ErrorKind::Conflict => Ok(None),
        Err(e) => Err(e),
    }
}

/// The folder that holds `key`; `None`: there is none, or a file stands where it would be, so that there is no such object.
fn parent(root: &Root, key: &Key) -> Result<Option<OwnedFd>> {
    match root.parent(key) {
        Err(e) if e.kind() == ErrorKind::Conflict => Ok(None),
        found => found,
    }
}

/// Removes a file and the folders it leaves empty; false when there was none.
fn remove(root: &Root, key: &Key) -> Result<bool> {
    let what = || format!("deleting {}/{key}", root.shown());
    let Some(folder) = parent(root, key)? else { return Ok(false) };
    // A folder or a link of that name is not an object.
    if root::size_of(&folder, key.file_name()).map_err(|e| root.failure(what(), e))?.is_none() {
        return Ok(false);
    }
    match rustix::fs::unlinkat(&folder, key.file_name(), AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(root.failure(what(), errno.into())),
    }
    // A manifest that came back after a power loss would vouch for parts that are gone.
    rustix::fs::fsync(&folder).map_err(|errno| root.failure(what(), errno.into()))?;
    root.remove_empty_parents(key);
    Ok(true)
}

fn short(what: &str, expected: u64, found: u64) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{what}: {expected} bytes are expected, it has {found}"))
}

fn read_range(file: &File, range: Range<u64>, what: &str, sender: &mpsc::Sender<Result<Bytes>>) {
    let mut at = range.start;
    while at < range.end {
        let length = READ_SIZE.min(usize::try_from(range.end - at).unwrap_or(READ_SIZE));
        let chunk = match read_chunk(file, at, length) {
            Ok(chunk) if chunk.is_empty() => Err(short(what, range.end, at)),
            Ok(chunk) => Ok(chunk),
            Err(e) => Err(error::io(what, e)),
        };
        let end = chunk.is_err();
        at += chunk.as_ref().map_or(0, |c| c.len() as u64);
        // The other side may have lost interest.
        if sender.blocking_send(chunk).is_err() || end {
            return;
        }
    }
}

/// Up to `length` bytes; fewer only at the end of the file.
fn read_chunk(file: &File, at: u64, length: usize) -> std::io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(length);
    ReadAt { file, at }.take(length as u64).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}

struct ReadAt<'a> {
    file: &'a File,
    at: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Tells the kernel to begin writing this range to the disk now, without waiting for it, so that the sync of a large
/// object at its end finds little left to do. On Linux the advice "not needed" does that for dirty pages (mm/fadvise.c),
/// and it keeps the backup from pushing the database out of the page cache.
fn begin_writeback(file: &File, range: Range<u64>) {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    if let Some(length) = std::num::NonZeroU64::new(range.end - range.start) {
        let _ = rustix::fs::fadvise(file, range.start, Some(length), rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let _ = (file, range);
}

fn advise_sequential(file: &File) {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let _ = file;
}
