//! What the storage keeps, compared with what it was given.
//!
//! A storage that answers "stored" and keeps less, or nothing, has been seen: gateways, and full disks behind them. So
//! nothing counts that was not seen there. Before the manifest is written, the sizes of all objects are compared with a
//! listing, and one that does not agree is looked at itself; the manifest is read back after it is written. With the
//! setting `backup.read_back` all objects are read and compared, byte by byte.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::ObjectEntry;
use crate::domain::key::Key;
use crate::domain::text::{self, escape};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectWriter, Storage, read_all};

/// Objects that are looked at at once.
const LOOKS_AT_ONCE: usize = 16;
/// Objects that are read at once.
const READS_AT_ONCE: usize = 4;

const HINT: &str = "the storage, or something in front of it, said that it was stored: look for a full disk behind it, and \
                    try it with mongokeep storage test STORAGE; nothing of this attempt is kept";

/// Compares the sizes of all `objects` of a manifest with those the storage has.
///
/// Errors: `Corrupt` when one is missing or of another size; what the storage reports.
pub async fn check_sizes(
    storage: &dyn Storage,
    root: &BackupRoot,
    objects: impl Iterator<Item = &ObjectEntry>,
) -> Result<()> {
    let mut expected: HashMap<&str, u64> = objects.map(|o| (o.path.as_str(), o.size)).collect();
    match list(storage, root, &mut expected).await {
        Ok(()) => {}
        // A key that may not list can still look at each.
        Err(e) if matches!(e.kind(), ErrorKind::Denied | ErrorKind::Unsupported) => {}
        Err(e) => return Err(e),
    }
    // A listing may be late, so that what it does not confirm is looked at itself.
    let unconfirmed = expected.into_iter().map(|(path, size)| Ok((root.key().join(path)?, size)));
    let unconfirmed: Vec<(Key, u64)> = unconfirmed.collect::<Result<_>>()?;
    let looks = stream::iter(unconfirmed).map(|(key, size)| look(storage, key, size));
    let mut looks = looks.buffer_unordered(LOOKS_AT_ONCE);
    let mut wrong = Vec::new();
    while let Some(look) = looks.try_next().await? {
        wrong.extend(look);
    }
    drop(looks);
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort();
    let more = wrong.len() - 1;
    let more = match more {
        0 => String::new(),
        1 => " (and 1 more of its objects is wrong)".to_owned(),
        more => format!(" (and {more} more of its objects are wrong)"),
    };
    let (place, first) = (storage.place(), wrong.swap_remove(0));
    Err(Error::new(ErrorKind::Corrupt, format!("{place} does not hold what was written: {first}{more}")).hint(HINT))
}

/// Takes out of `expected` what the listing confirms.
async fn list(storage: &dyn Storage, root: &BackupRoot, expected: &mut HashMap<&str, u64>) -> Result<()> {
    let mut listing = storage.list(Some(root.key())).await?;
    while let Some(object) = listing.next().await {
        let object = object?;
        let Some(path) = object.key.below(root.key()) else { continue };
        if expected.get(path) == Some(&object.size) {
            expected.remove(path);
        }
    }
    Ok(())
}

/// What is wrong with the object at `key`, which should have `size` bytes.
async fn look(storage: &dyn Storage, key: Key, size: u64) -> Result<Option<String>> {
    let shown = escape(key.as_str());
    Ok(match storage.stat(&key).await? {
        Some(found) if found.size == size => None,
        Some(found) => Some(format!("{shown} has {} of {} bytes", text::count(found.size), text::count(size))),
        None => Some(format!("{shown} is not there")),
    })
}

/// Writes an object, a manifest for one, and reads it back.
///
/// Errors: those of `check_bytes`; what the storage reports.
pub async fn put_checked(storage: &Arc<dyn Storage>, key: Key, bytes: Bytes) -> Result<()> {
    let mut writer = ObjectWriter::new(Arc::clone(storage), key.clone());
    writer.write(bytes.clone()).await?;
    writer.finish().await?;
    check_bytes(&**storage, &key, &bytes).await
}

/// Reads all `objects` of a manifest and compares them, as they are stored, with what was written. Returns their bytes.
///
/// Errors: `Corrupt` when one is missing or another; what the storage reports.
pub async fn check_bytes_of(
    storage: &dyn Storage,
    root: &BackupRoot,
    objects: impl Iterator<Item = &ObjectEntry>,
) -> Result<u64> {
    let wanted = objects.map(|object| Ok((root.key().join(&object.path)?, object.size, object.blake3.clone())));
    let wanted: Vec<(Key, u64, String)> = wanted.collect::<Result<_>>()?;
    let checks = stream::iter(wanted).map(|(key, size, blake3)| same_bytes(storage, key, size, blake3));
    let mut checks = checks.buffer_unordered(READS_AT_ONCE);
    let mut sum = 0;
    while let Some(size) = checks.try_next().await? {
        sum += size;
    }
    Ok(sum)
}

async fn same_bytes(storage: &dyn Storage, key: Key, size: u64, blake3: String) -> Result<u64> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = storage.get(&key, None).await?;
    while let Some(chunk) = bytes.try_next().await? {
        hasher.update(&chunk);
    }
    if hasher.finalize().to_hex().as_str() == blake3 {
        return Ok(size);
    }
    let what = format!("{}/{key} was written, and now it holds other bytes", storage.place());
    Err(Error::new(ErrorKind::Corrupt, what).hint(HINT))
}

/// Compares an object with the bytes that were written, by reading it back.
///
/// Errors: `Corrupt` when it is missing or another; what the storage reports.
async fn check_bytes(storage: &dyn Storage, key: &Key, written: &[u8]) -> Result<()> {
    // One more, so that an object that is too long is not taken for a damaged storage call.
    let what = match read_all(storage, key, written.len().saturating_add(1)).await {
        Ok(found) if found == written => return Ok(()),
        Ok(found) if found.len() != written.len() => {
            format!("has {} of {} bytes", text::count(found.len() as u64), text::count(written.len() as u64))
        }
        Ok(_) => "holds other bytes than were written".to_owned(),
        Err(e) if e.kind() == ErrorKind::NotFound => "is not there".to_owned(),
        Err(e) if e.kind() == ErrorKind::Corrupt => format!("is not what was written ({e})"),
        Err(e) => return Err(e),
    };
    Err(Error::new(ErrorKind::Corrupt, format!("{}/{key} was written, and now it {what}", storage.place())).hint(HINT))
}

/// The failure of a backup that was read back before its manifest was written.
pub fn damaged(place: &str, problems: &[crate::engine::contract::Problem]) -> Error {
    let first = problems.first().map(|p| format!("{}: {}", p.object, p.what)).unwrap_or_default();
    let more = problems.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {})", text::counted(more as u64, "more problem")) } else { String::new() };
    Error::new(ErrorKind::Corrupt, format!("{place} does not hold what was written: {first}{more}")).hint(HINT)
}
