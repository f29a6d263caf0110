//! Archives (`mongodump --archive`): one object with the documents of all collections in between each other.
//!
//! An archive is read to its end once, which says whether it is whole and where everything lies (`index.rs`); after that it
//! is read like a folder (`folder.rs`).

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::TryStreamExt;
use tokio::sync::mpsc;

use crate::artifact::gunzip::Gunzip;
use crate::domain::text::escape;
use crate::engine::Meter;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Key, ObjectInfo, Storage};

mod folder;
mod index;
mod input;

pub use folder::ArchivedFolder;
pub use index::{Index, oplog};
use input::{Stored, Wrong};

/// What every archive begins with: 0x8199e26d.
const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
/// What is read of an object to see what it is: the first block of gzip, with its header, needs less.
const FIRST_BYTES: u64 = 4096;
/// The smallest archive is larger.
const SMALLEST: u64 = 64;
/// What says whether an archive is still the one that was read: bytes at its beginning and at its end.
const EDGE: u64 = 64 << 10;
/// Archives whose indexes are kept: of each at most some 20 MiB.
const MOST_KEPT: usize = 2;
const CHUNKS_AHEAD: usize = 8;

/// An archive in a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    pub key: Key,
    /// Bytes as stored.
    pub size: u64,
    pub gzipped: bool,
    /// Of its edges: another archive has another one.
    pub identity: blake3::Hash,
}

/// Whether an object is an archive, and then whether it is gzipped. Reads its first bytes alone.
pub async fn look(storage: &dyn Storage, object: &ObjectInfo) -> Result<Option<bool>> {
    if object.size < SMALLEST {
        return Ok(None);
    }
    let first = match part(storage, &object.key, 0..object.size.min(FIRST_BYTES)).await {
        Ok(first) => first,
        // It went, or became smaller, while it was looked at.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(kind(&first))
}

fn kind(first: &[u8]) -> Option<bool> {
    if first.starts_with(&MAGIC) {
        return Some(false);
    }
    let mut magic = [0; 4];
    let is_gzipped = first.starts_with(&[0x1f, 0x8b]) && Gunzip::new(first).read_exact(&mut magic).is_ok();
    (is_gzipped && magic == MAGIC).then_some(true)
}

async fn part(storage: &dyn Storage, key: &Key, range: Range<u64>) -> Result<Vec<u8>> {
    let most = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    let mut chunks = storage.get(key, Some(range)).await?;
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
    }
    Ok(bytes)
}

/// The archive at `key`.
///
/// Errors: `NotFound`; `Corrupt` for what is none.
pub async fn find(storage: &dyn Storage, key: &Key) -> Result<Archive> {
    let Some(ObjectInfo { size, .. }) = storage.stat(key).await? else {
        return Err(Error::not_found("archive", format!("{}/{key}", storage.place()))
            .hint("mongokeep storage sync STORAGE says which backups are still there"));
    };
    let first = part(storage, key, 0..size.min(EDGE)).await?;
    let last = part(storage, key, size.saturating_sub(EDGE)..size).await?;
    let gzipped = kind(&first).ok_or_else(|| corrupt(storage, key, "it is no archive of mongodump"))?;
    let mut identity = blake3::Hasher::new();
    identity.update(&size.to_le_bytes()).update(&first).update(&last);
    Ok(Archive { key: key.clone(), size, gzipped, identity: identity.finalize() })
}

fn corrupt(storage: &dyn Storage, key: &Key, why: &str) -> Error {
    let what = format!("{key} in {} cannot be restored: {why}", escape(&storage.place()));
    Error::new(ErrorKind::Corrupt, what).hint("use another backup")
}

/// By place and archive.
type Kept = VecDeque<(String, Archive, Arc<Index>)>;

/// Planning, restoring and listing one archive need the same index.
static KEPT: Mutex<Kept> = Mutex::new(VecDeque::new());

/// What an archive holds: it is read to its end, if that was not done before.
///
/// Errors: `Corrupt` and `Unsupported` for what cannot be restored.
pub async fn index(storage: &dyn Storage, archive: &Archive) -> Result<Arc<Index>> {
    let place = storage.place();
    {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., index)) = kept.iter().find(|(at, known, _)| *at == place && known == archive) {
            return Ok(Arc::clone(index));
        }
    }
    let index = examine(storage, archive, None).await?.map_err(|wrong| all_of(storage, &archive.key, &wrong))?;
    Ok(keep(place, archive, index))
}

fn keep(place: String, archive: &Archive, index: Index) -> Arc<Index> {
    let index = Arc::new(index);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|(at, known, _)| *at != place || known.key != archive.key);
    kept.truncate(MOST_KEPT - 1);
    kept.push_front((place, archive.clone(), Arc::clone(&index)));
    index
}

/// All that is wrong, as one error.
fn all_of(storage: &dyn Storage, key: &Key, wrong: &[Wrong]) -> Error {
    let is_unsupported = wrong.iter().all(|wrong| matches!(wrong, Wrong::Unsupported(_)));
    let why: Vec<String> = wrong.iter().map(words).collect();
    let error = corrupt(storage, key, &why.join("; "));
    match is_unsupported {
        true => Error::new(ErrorKind::Unsupported, error.to_string()).hint("use another backup, or try mongorestore"),
        false => error,
    }
}

fn words(wrong: &Wrong) -> String {
    match wrong {
        Wrong::Ends(at) => {
            format!("it is not complete: it ends at byte {at}; was mongodump interrupted, or the file cut off?")
        }
        Wrong::Damaged(why) | Wrong::Unsupported(why) => why.clone(),
    }
}

/// Reads an archive to its end, into every document, and says all that is wrong with it.
///
/// Errors: what the storage reports.
pub async fn verify(
    storage: &dyn Storage,
    archive: &Archive,
    meter: &Arc<Meter>,
) -> Result<std::result::Result<Arc<Index>, Vec<String>>> {
    let examined = examine(storage, archive, Some(meter)).await?;
    Ok(match examined {
        Ok(index) => Ok(keep(storage.place(), archive, index)),
        Err(wrong) => Err(wrong.iter().map(words).collect()),
    })
}

/// With a meter: into every document.
async fn examine(
    storage: &dyn Storage,
    archive: &Archive,
    meter: Option<&Arc<Meter>>,
) -> Result<std::result::Result<Index, Vec<Wrong>>> {
    let mut stored = storage.get(&archive.key, None).await?;
    let (chunks, source) = mpsc::channel(CHUNKS_AHEAD);
    let (gzipped, counts) = (archive.gzipped, meter.cloned());
    let reading = tokio::task::spawn_blocking(move || {
        let mut source = Stored::new(source);
        let read = index::read(&mut source, gzipped, counts.is_some(), |_, documents| {
            if let Some(meter) = &counts {
                meter.add_documents(documents);
            }
        });
        match source.error {
            Some(error) => Err(error),
            None => Ok(read),
        }
    });
    loop {
        // What the storage reports is what the reading ends with.
        let chunk = match stored.try_next().await {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) => break,
            Err(e) => Err(e),
        };
        let (is_end, bytes) = (chunk.is_err(), chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        // Whoever found damage reads no further.
        if chunks.send(chunk).await.is_err() || is_end {
            break;
        }
        if let Some(meter) = meter {
            meter.add_bytes(bytes);
        }
    }
    drop(chunks);
    reading.await.map_err(|e| Error::new(ErrorKind::Internal, "reading an archive stopped unexpectedly").source(e))?
}

#[cfg(test)]
mod tests;
