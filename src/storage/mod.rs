//! Object stores behind one trait.
//!
//! A backend is one file and one line in [`backends`]. Everything that is written goes through [`Storage`];
//! every call is idempotent, so that the retry decorator may repeat it: a part of an upload is named by its number
//! and offset, an object becomes visible at `finish` as a whole or not at all.
//!
//! Dropping the future of a call gives it up: what it would have made visible does not appear afterwards, as far as
//! the storage is in our hands (an S3 server may still complete a request whose last byte it has received).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;

use crate::domain::text::quoted;
use crate::error::{Error, ErrorKind, Result};

mod ahead;
pub mod backend;
pub mod backends;
pub mod hinted;
mod http;
pub mod in_flight;
mod line;
pub mod opener;
mod paged;
pub mod probe;
pub mod retry;
pub mod throttle;
pub mod writer;

pub use crate::domain::key::Key;
pub use ahead::read_ahead;
pub use backends::{azure, filesystem, gcs, s3};
pub use in_flight::InFlight;
pub use opener::{Opener, open};
pub use probe::{reach, test, test_and_judge};
pub use writer::{ObjectWriter, Written, read_all};

/// Folders below one that are listed. More are no backups but what somebody else keeps there, and would fill memory.
pub const MOST_FOLDERS: usize = 200_000;

/// Objects directly in one folder that are listed with it, for the same reason.
pub const MOST_OBJECTS: usize = 100_000;

/// What lies directly in one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// The names of the folders that hold an object, in order.
    pub folders: Vec<String>,
    /// At most [`MOST_OBJECTS`], in the order of their keys.
    pub objects: Vec<ObjectInfo>,
    /// There are more objects than those.
    pub has_more: bool,
}

/// One object of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: Key,
    /// Bytes.
    pub size: u64,
}

/// A write that was begun and neither finished nor given up, or that is going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Of the object that it was to become, or of the file that holds it until then.
    pub key: Key,
    /// Bytes that it holds, where the storage tells.
    pub size: Option<u64>,
    /// When it was last written to, or where the storage knows only that: when it began.
    pub since: Option<SystemTime>,
}

/// What deleting an object does, as far as the storage says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freeing {
    /// What is deleted stays as an old version, until a rule of the bucket removes it.
    pub versions: bool,
    /// Nobody can remove the object for good before.
    pub locked_until: Option<DateTime<Utc>>,
    /// The same, for as long as somebody holds it.
    pub legal_hold: bool,
}

impl Freeing {
    /// What a person has to know before something is deleted, as sentences. Empty: it frees what it deletes.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(until) = self.locked_until {
            let until = until.format("%Y-%m-%d %H:%M UTC");
            warnings
                .push(format!("its objects are locked until {until} (Object Lock): nothing of it becomes free before"));
        }
        if self.legal_hold {
            warnings.push(
                "its objects are under a legal hold: nothing of it becomes free before that is taken away".into(),
            );
        }
        if self.versions {
            warnings.push(
                "the bucket keeps old versions: nothing becomes free before a lifecycle rule of the bucket removes them"
                    .into(),
            );
        }
        warnings
    }

    /// Whether a deletion frees bytes now.
    pub fn is_now(&self) -> bool {
        !self.versions && self.locked_until.is_none() && !self.legal_hold
    }
}

/// What a storage keeps of what was deleted or replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OldVersions {
    pub versions: u64,
    pub bytes: u64,
    /// Markers of deletions.
    pub markers: u64,
}

/// Whether `put` may replace an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    Overwrite,
    /// Fails with `Conflict` when the object exists; two writers cannot both succeed where the storage can tell.
    CreateNew,
}

/// An object store below one root. Keys are relative to it and cannot leave it. A key is not also the folder of
/// another key: a folder of a disk could not hold both `a` and `a/b`.
///
/// Errors: `Unreachable` and `Transient` may pass by themselves; `StorageFull`, `Denied`, `Unauthenticated` and
/// `NotFound` are told apart, because a person does something else about each.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Where this is, for messages: `s3://bucket/prefix` or a path. Never a secret.
    fn place(&self) -> String;

    /// How many bytes every part of an upload but the last has.
    fn part_size(&self) -> usize;

    /// How much may be on its way at once, shared by everybody who uses this; `None`: each decides alone, because nothing
    /// is waited for but a disk.
    fn in_flight(&self) -> Option<&InFlight> {
        None
    }

    /// Writes a small object (5 MiB at most, or [`Storage::part_size`] if that is more) as a whole, durably: when it returns, the object
    /// survives a power loss.
    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()>;

    /// Begins a large object. Nothing is visible under `key` until [`Upload::finish`]; it then replaces what was there.
    /// Most callers want an [`ObjectWriter`], which spares small objects the upload.
    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>>;

    /// Streams an object, or the bytes `range` of it. A missing object is `NotFound`. The stream yields an error
    /// when it ends before the last byte; `Corrupt` when the object itself is shorter than `range.end`.
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// Size of an object, or `None` when there is none.
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>>;

    /// All objects whose key begins with `prefix` followed by a slash (or all, when it is `None`), in the order of
    /// the keys' bytes. Temporary files of unfinished uploads are not objects, nor are names that are no [`Key`].
    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>>;

    /// What lies directly below `prefix`, without recursion. For finding backups without listing their parts. Errors: there
    /// are more folders than [`MOST_FOLDERS`].
    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level>;

    /// The names of the folders of [`Storage::list_level`].
    async fn list_folders(&self, prefix: Option<&Key>) -> Result<Vec<String>> {
        Ok(self.list_level(prefix).await?.folders)
    }

    /// Removes an object, durably; one that does not exist is no error.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Ends what unfinished uploads below `prefix` left behind (multipart uploads, temporary files). Returns how many.
    async fn sweep(&self, prefix: &Key) -> Result<u64> {
        self.sweep_older(prefix, Duration::ZERO).await
    }

    /// The same of uploads that nothing was written to for `age` (where the storage knows only when one began: that
    /// began so long ago). For a place where somebody else may be writing.
    async fn sweep_older(&self, prefix: &Key, age: Duration) -> Result<u64>;

    /// What [`Storage::sweep_older`] would end, in all of the storage: at most `most` of them. `None`: this storage does not
    /// say, which is no reason to believe that there are none.
    async fn unfinished(&self, most: usize) -> Result<Option<Vec<Unfinished>>> {
        let _ = most;
        Ok(None)
    }

    /// What deleting the object would do; `None`: the storage does not say.
    async fn freeing(&self, key: &Key) -> Result<Option<Freeing>> {
        let _ = key;
        Ok(None)
    }

    /// What is kept of what was deleted or replaced; `None`: nothing is, or the storage does not say.
    async fn old_versions(&self) -> Result<Option<OldVersions>> {
        Ok(None)
    }

    /// Whether names that differ only in case are two names. Where they are one, this refuses the second of them.
    async fn tells_cases_apart(&self) -> Result<bool> {
        Ok(true)
    }

    /// Bytes that can still be written, where the storage can tell.
    async fn free_space(&self) -> Result<Option<u64>>;
}

/// An object being written in parts. Dropping it without `finish` or `abort` leaves what `sweep` removes.
#[async_trait]
pub trait Upload: Send + Sync {
    /// Writes part `number` (from 0), whose first byte is at `number` times [`Storage::part_size`]. May be called
    /// again with the same number and bytes, and for several numbers at once.
    async fn part(&self, number: u32, body: Bytes) -> Result<()>;

    /// Makes the object of parts `0..parts` visible, durably. May be called again after a retryable error.
    async fn finish(&self, parts: u32) -> Result<()>;

    /// Removes what was written. May be called again.
    async fn abort(&self) -> Result<()>;
}

fn too_many_folders(place: &str) -> Error {
    Error::new(ErrorKind::Failed, format!("{place} holds more than {MOST_FOLDERS} folders"))
        .hint("give the storage a prefix or folder of its own")
}

/// A path of this machine as it is kept: the daemon works in another folder, so it means what it means where it was typed.
/// `~/` is the user's own folder. The error does not name the field.
pub fn local_path(path: &str) -> std::result::Result<String, String> {
    let expanded = match path.strip_prefix("~/") {
        Some(rest) => directories::BaseDirs::new().map_or_else(|| PathBuf::from(path), |d| d.home_dir().join(rest)),
        None => PathBuf::from(path),
    };
    let absolute = std::path::absolute(&expanded).map_err(|e| format!("{} is no path: {e}", quoted(path)))?;
    if absolute.components().any(|part| part == std::path::Component::ParentDir) {
        return Err("cannot contain ..".into());
    }
    match absolute.to_str() {
        Some(text) if absolute != Path::new("/") => Ok(text.to_owned()),
        Some(_) => Err("cannot be the root of the machine".into()),
        None => Err("is not UTF-8".into()),
    }
}

/// A name nobody else has chosen: 128 random bits in hex.
pub fn random_name() -> Result<String> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Failed, "the operating system gave no random bytes"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
