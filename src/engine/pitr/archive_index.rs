//! What an archive holds already, found by its names: slices that nobody knows yet are told, and the newest one says where
//! to go on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::event::{Event, emit};
use crate::artifact::slice::{self, FIRST_READ, Header};
use crate::domain::key::Key;
use crate::domain::pitr::{Archive, OpTime, Slice};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// Names that are held at once: an archive may have hundreds of thousands. It is listed again for more.
pub const LISTING_LIMIT: usize = 10_000;

/// A slice as a listing shows it. Their order is that of their last entries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    last: Timestamp,
    key: Key,
    size: u64,
}

/// What one listing showed; of each no more than was asked for.
struct Look {
    /// The oldest of them, oldest first.
    newer: Vec<Listed>,
    /// The newest of them, newest first.
    others: Vec<Listed>,
}

/// The newest entry that is stored. The storage is the truth: slices it has and nobody knows yet are told, ones that
/// are known and gone do not count. `names`: how many are held at once.
pub async fn newest(
    storage: &dyn Storage,
    archive: &Archive,
    known: Option<&Slice>,
    names: usize,
    events: &mpsc::Sender<Event>,
) -> Result<Option<OpTime>> {
    let is_newer = |listed: &Listed| known.is_some_and(|k| listed.last > k.last.ts);
    let mut newest = None;
    let mut told: Option<Listed> = None;
    let mut others = loop {
        let untold = |listed: &Listed| is_newer(listed) && told.as_ref().is_none_or(|told| listed > told);
        let Look { newer, others } = look(storage, archive, names, untold, |listed| !is_newer(listed)).await?;
        // Oldest first. The next start goes on from the newest that was told: whatever ends this half way leaves only
        // such as come after it.
        for listed in &newer {
            newest = newest.max(use_found(storage, archive, listed, events).await?);
        }
        if newer.len() < names {
            break others;
        }
        told = newer.into_iter().next_back();
    };
    // Of the others only where to go on is needed; `storage sync` finds them all.
    while newest.is_none() {
        for listed in &others {
            // One that was cut off since is read again, and is found to be damaged.
            newest = match known.filter(|k| k.key == listed.key.as_str() && k.size == listed.size) {
                Some(known) => Some(known.last),
                None => use_found(storage, archive, listed, events).await?,
            };
            if newest.is_some() {
                break;
            }
        }
        let Some(tried) = others.pop().filter(|_| others.len() + 1 == names) else { break };
        let untried = |listed: &Listed| !is_newer(listed) && *listed < tried;
        others = look(storage, archive, names, |_| false, untried).await?.others;
    }
    Ok(newest)
}

/// Lists an archive, holding `names` of each kind at most.
async fn look(
    storage: &dyn Storage,
    archive: &Archive,
    names: usize,
    is_newer: impl Fn(&Listed) -> bool,
    is_other: impl Fn(&Listed) -> bool,
) -> Result<Look> {
    let folder = slice::folder(archive)?;
    let (mut newer, mut others) = (BinaryHeap::new(), BinaryHeap::new());
    let mut listing = storage.list(Some(&folder)).await?;
    while let Some(object) = listing.try_next().await? {
        // What somebody put aside in a folder within is no part of it.
        let Some((_, last)) = slice::positions(object.key.file_name()).filter(|_| object.key.is_directly_in(&folder))
        else {
            continue;
        };
        let listed = Listed { last, key: object.key, size: object.size };
        if is_newer(&listed) {
            newer.push(listed);
            if newer.len() > names {
                newer.pop();
            }
        } else if is_other(&listed) {
            others.push(Reverse(listed));
            if others.len() > names {
                others.pop();
            }
        }
    }
    let others = others.into_sorted_vec().into_iter().map(|Reverse(listed)| listed).collect();
    Ok(Look { newer: newer.into_sorted_vec(), others })
}

/// Tells a slice that was found, and returns its last entry; `None` for one that cannot be used, which is said.
async fn use_found(
    storage: &dyn Storage,
    archive: &Archive,
    listed: &Listed,
    events: &mpsc::Sender<Event>,
) -> Result<Option<OpTime>> {
    let key = &listed.key;
    let why = match read_header(storage, key, listed.size).await {
        Ok((header, slice)) if header.replica_set_id == archive.replica_set_id => {
            let last = slice.last;
            emit(events, Event::Stored { archive: archive.clone(), slice: Box::new(slice) }).await?;
            return Ok(Some(last));
        }
        Ok(_) => format!("{key} is of another replica set"),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => format!("{key} is not used: {e}"),
        Err(e) => return Err(e),
    };
    emit(events, Event::Warning(why)).await?;
    Ok(None)
}

/// Reads the description of the slice `key`, an object of `size` bytes.
///
/// Errors: `Corrupt` when it is not what was written, `Unsupported` for a newer format.
pub async fn read_header(storage: &dyn Storage, key: &Key, size: u64) -> Result<(Header, Slice)> {
    let mut head = read(storage, key, 0..size.min(FIRST_READ)).await?;
    let frame = loop {
        let frame = Header::frame_size(key.as_str(), &head, size)? as u64;
        if frame > size {
            return Err(Error::new(ErrorKind::Corrupt, format!("{key} is damaged: it is cut off")));
        }
        if frame <= head.len() as u64 {
            break frame;
        }
        let more = read(storage, key, head.len() as u64..frame).await?;
        if more.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt, format!("{key} is damaged: it is cut off")));
        }
        head.extend(more);
    };
    let header = Header::from_frame(key.as_str(), &head)?;
    let slice = header.slice(key, frame);
    if slice.size != size {
        let stored = slice.size;
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("{key} is damaged: it has {size} bytes, {stored} were written"),
        ));
    }
    Ok((header, slice))
}

async fn read(storage: &dyn Storage, key: &Key, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let mut stream = storage.get(key, Some(range)).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::DateTime;

    use super::*;
    use crate::artifact::layout::FORMAT_VERSION;
    use crate::storage::PutMode;
    use crate::storage::filesystem::Filesystem;

    fn archive() -> Archive {
        Archive {
            storage: "t".into(),
            folder: "prod".into(),
            replica_set: "rs0".into(),
            replica_set_id: "0123456789abcdef01234567".into(),
        }
    }

    fn at(t: u32) -> OpTime {
        OpTime { ts: Timestamp::new(t, 1), term: 1 }
    }

    /// Stores a slice of the entries after second `after` up to `last`.
    async fn put(storage: &dyn Storage, after: u32, last: u32) -> Slice {
        let data = b"entries";
        let header = Header {
            format_version: FORMAT_VERSION,
            tool_version: "1".into(),
            service: "s".into(),
            replica_set: archive().replica_set,
            replica_set_id: archive().replica_set_id,
            member: "h:1".into(),
            server_version: "6.0.5".into(),
            home_id: "home".into(),
            written_at: DateTime::UNIX_EPOCH,
            after: at(after),
            first_ts: Timestamp::new(after + 1, 1),
            last: at(last),
            entries: 1,
            operations: 1,
            uncompressed: 1,
            data_size: data.len() as u64,
            blake3: String::new(),
            encryption: None,
            gap: None,
            marks: Vec::new(),
            counts: Vec::new(),
        };
        let key = slice::key(&archive(), header.first_ts, header.last.ts, false).unwrap();
        let frame = header.to_frame().unwrap();
        let body: Bytes = [&frame[..], data].concat().into();
        storage.put(&key, body, PutMode::Overwrite).await.unwrap();
        header.slice(&key, frame.len() as u64)
    }

    async fn damage(storage: &dyn Storage, slice: &Slice) {
        let key = Key::new(&*slice.key).unwrap();
        storage.put(&key, "damaged".into(), PutMode::Overwrite).await.unwrap();
    }

    /// The newest entry that is found, and the seconds at which the slices end that are told, in their order.
    async fn look_at(storage: &dyn Storage, known: Option<&Slice>, names: usize) -> (Option<OpTime>, Vec<u32>) {
        let (events, mut heard) = mpsc::channel(100);
        let found = newest(storage, &archive(), known, names, &events).await.unwrap();
        drop(events);
        let mut told = Vec::new();
        while let Some(event) = heard.recv().await {
            if let Event::Stored { slice, .. } = event {
                told.push(slice.last.ts.t);
            }
        }
        (found, told)
    }

    /// Of few names at a time, all that are newer are told, the oldest first.
    #[tokio::test]
    async fn what_nobody_knows_is_told_oldest_first_however_much_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Filesystem::new(folder.path());
        let mut slices = Vec::new();
        for n in 1..=7 {
            slices.push(put(&storage, n * 10, n * 10 + 10).await);
        }
        // Put aside by somebody: no part of the archive.
        let key = put(&storage, 90, 100).await.key;
        let (from, name) = (folder.path().join(&key), key.rsplit('/').next().unwrap());
        let aside = from.with_file_name("aside");
        std::fs::create_dir(&aside).unwrap();
        std::fs::rename(&from, aside.join(name)).unwrap();
        // Of another daemon: it ends where another one ends.
        put(&storage, 55, 60).await;
        for names in [1, 2, 3, 8, 100] {
            let (found, told) = look_at(&storage, Some(&slices[1]), names).await;
            assert_eq!(found, Some(at(80)));
            assert_eq!(told, [40, 50, 60, 60, 70, 80], "{names} at once");
            assert_eq!(look_at(&storage, Some(&slices[6]), names).await, (Some(at(80)), vec![]));
            assert_eq!(look_at(&storage, None, names).await, (Some(at(80)), vec![80]));
        }
        // One in the middle of what is newer, and later all of it and the newest known one.
        damage(&storage, &slices[3]).await;
        assert_eq!(look_at(&storage, Some(&slices[1]), 2).await.1, [40, 60, 60, 70, 80]);
        for damaged in &slices[4..] {
            damage(&storage, damaged).await;
        }
        let other = slice::key(&archive(), Timestamp::new(56, 1), Timestamp::new(60, 1), false).unwrap();
        storage.delete(&other).await.unwrap();
        for names in [1, 2, 3, 100] {
            assert_eq!(look_at(&storage, Some(&slices[6]), names).await, (Some(at(40)), vec![40]), "{names} at once");
        }
        for damaged in &slices {
            damage(&storage, damaged).await;
        }
        assert_eq!(look_at(&storage, Some(&slices[6]), 2).await, (None, vec![]));
    }

    /// Whoever is stopped after some of them goes on after those the next time.
    #[tokio::test]
    async fn what_was_not_told_is_told_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Filesystem::new(folder.path());
        let mut slices = Vec::new();
        for n in 1..=5 {
            slices.push(put(&storage, n * 10, n * 10 + 10).await);
        }
        let (events, mut heard) = mpsc::channel(1);
        let archive = archive();
        let mut told = Vec::new();
        {
            let telling = newest(&storage, &archive, Some(&slices[0]), LISTING_LIMIT, &events);
            let hearing = async {
                while told.len() < 2 {
                    match heard.recv().await {
                        Some(Event::Stored { slice, .. }) => told.push(*slice),
                        other => panic!("{other:?}"),
                    }
                }
            };
            tokio::select! {
                found = telling => panic!("{found:?}"),
                () = hearing => {}
            }
        }
        assert_eq!(told, slices[1..3]);
        assert_eq!(look_at(&storage, told.last(), LISTING_LIMIT).await, (Some(at(60)), vec![50, 60]));
    }
}
