//! The stored oplog as one stream: that of a backup itself, if it has one, and the slices that follow it.
//!
//! The two overlap, and slices of two daemons may overlap too. Each entry is given once. Where one object follows
//! another, either it begins exactly where the other ended, or it holds that very entry (position and term): anything
//! else would be another history, or a gap.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::contract::OplogTail;
use super::pbm_layout;
use crate::artifact::foreign::ForeignObject;
use crate::artifact::keys::Keys;
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::read::{Documents, ReadOptions};
use crate::domain::key::Key;
use crate::domain::pitr::{OpTime, Slice};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::op_time;
use crate::storage::Storage;

/// Objects whose bytes are already on their way while one is read: slices are small, and a distant storage answers
/// slowly.
const AHEAD: usize = 4;

const READ: ReadOptions = ReadOptions { batch_bytes: 2 << 20, batch_documents: 10_000, check_structure: false };

/// One object to read.
pub struct Source {
    storage: Arc<dyn Storage>,
    key: Key,
    object: Object,
    /// `None`: the next part of the same capture.
    follows: Option<Follows>,
}

enum Object {
    /// The entries begin at `offset`.
    Written { offset: u64, entry: ObjectEntry, keys: Keys },
    /// Of another tool: every change from one position to the other, both included, but not the entries that change nothing.
    Foreign { object: ForeignObject, from: Timestamp, to: Timestamp },
}

#[derive(Clone, Copy)]
struct Follows {
    after: OpTime,
    last: OpTime,
}

impl Source {
    /// A part of the oplog that a backup captured itself.
    pub fn part(storage: Arc<dyn Storage>, key: Key, entry: ObjectEntry, keys: Keys) -> Self {
        Self { storage, key, object: Object::Written { offset: 0, entry, keys }, follows: None }
    }

    /// A piece that another tool stored, with every change from `from` to `to`.
    pub fn foreign(storage: Arc<dyn Storage>, key: Key, object: ForeignObject, from: Timestamp, to: Timestamp) -> Self {
        Self { storage, key, object: Object::Foreign { object, from, to }, follows: None }
    }

    fn open(&self) -> Documents {
        let (storage, key) = (self.storage.clone(), self.key.clone());
        match &self.object {
            Object::Written { offset, entry, keys } => Documents::open_at(storage, key, *offset, entry, keys, READ),
            Object::Foreign { object, .. } => Documents::open_foreign(storage, key, object, READ),
        }
    }

    /// The slices of `tail`, in their order.
    pub fn slices(tail: &OplogTail) -> Result<Vec<Self>> {
        if tail.archive.is_foreign() {
            return tail.slices.iter().map(|slice| pbm_layout::chunk(&tail.storage, slice)).collect();
        }
        let source = |slice: &Slice| {
            let entry = ObjectEntry {
                path: slice.key.clone(),
                size: slice.size.saturating_sub(slice.data_offset),
                blake3: slice.blake3.clone(),
                uncompressed: slice.uncompressed,
                documents: slice.entries,
            };
            let follows = Some(Follows { after: slice.after, last: slice.last });
            let (storage, key) = (tail.storage.clone(), Key::new(&*slice.key)?);
            let object = Object::Written { offset: slice.data_offset, entry, keys: tail.keys.clone() };
            Ok(Self { storage, key, object, follows })
        };
        tail.slices.iter().map(source).collect()
    }
}

/// Gives every entry of `sources` to `visit` until it says to stop. `at`: where the stream before them ended, if there is
/// one. The object in which it stops is read to its end all the same: only then is it known to be what was written. For a
/// thread that may block.
///
/// Errors: `Corrupt`, naming the object; what `visit` returns; what the storage reports.
pub fn read_all(
    sources: Vec<Source>,
    at: Option<OpTime>,
    cancel: &CancellationToken,
    mut visit: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let runtime = Handle::current();
    let mut waiting = sources.into_iter();
    let mut opened: VecDeque<(Source, Documents)> = VecDeque::new();
    let mut go = ControlFlow::Continue(());
    // How far the stream was read.
    let mut at = at;
    while go == ControlFlow::Continue(()) {
        while opened.len() < AHEAD
            && let Some(source) = waiting.next()
        {
            let documents = source.open();
            opened.push_back((source, documents));
        }
        let Some((source, mut documents)) = opened.pop_front() else { break };
        let mut joint = Joint::new(&source, at)?;
        let next = async |documents: &mut Documents| {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Some(Err(Error::cancelled())),
                batch = documents.next() => batch,
            }
        };
        while let Some(batch) = runtime.block_on(next(&mut documents)) {
            for entry in batch.map_err(|e| unusable(e, &source, at))?.documents() {
                if go == ControlFlow::Continue(()) && joint.is_new(entry)? {
                    go = visit(entry)?;
                }
            }
        }
        at = if go == ControlFlow::Continue(()) { joint.end()? } else { joint.at };
    }
    Ok(())
}

/// Says how far can be gone without the object that cannot be used, where it is a slice: up to `at`, and from a later base.
fn unusable(error: Error, source: &Source, at: Option<OpTime>) -> Error {
    match at.filter(|_| source.follows.is_some() && error.kind() == ErrorKind::Corrupt) {
        Some(OpTime { ts, .. }) => error.hint(format!(
            "what was recorded before it can be restored: --time {ts} (of {}). Moments after it need a base that is newer",
            ts.to_datetime().format("%Y-%m-%d %H:%M:%S UTC")
        )),
        None => error,
    }
}

/// The seam between two objects.
struct Joint<'a> {
    source: &'a Source,
    at: Option<OpTime>,
    /// The entry at which the object before ended was seen, or is where this one begins.
    joined: bool,
    /// The last entry of a source of another tool.
    last: Option<OpTime>,
}

impl<'a> Joint<'a> {
    fn new(source: &'a Source, at: Option<OpTime>) -> Result<Self> {
        let joined = match (source.follows, at) {
            (None, _) => true,
            (Some(follows), Some(at)) => follows.after == at,
            (Some(_), None) => false,
        };
        let joint = Self { source, at, joined, last: None };
        if let Object::Foreign { from, .. } = source.object {
            return match at {
                Some(at) if from > at.ts => {
                    Err(joint.wrong(&format!("begins at {from}, which does not follow {}", at.ts)))
                }
                _ => Ok(joint),
            };
        }
        match (source.follows, at) {
            (Some(_), None) => Err(joint.wrong("follows a backup without an oplog")),
            (Some(f), Some(at)) if !joined && f.after.ts >= at.ts => {
                Err(joint.wrong(&format!("begins after {}, which does not follow {}", f.after.ts, at.ts)))
            }
            _ => Ok(joint),
        }
    }

    /// Whether `entry` comes after everything that was read before.
    fn is_new(&mut self, entry: &[u8]) -> Result<bool> {
        let here = op_time(entry).ok_or_else(|| self.wrong("holds an entry without a position"))?;
        if let Object::Foreign { from, to, .. } = self.source.object {
            return self.is_new_of_other_tool(here, from, to);
        }
        match self.at {
            Some(at) if here.ts < at.ts => {
                if self.joined && self.source.follows.is_none_or(|f| f.after.ts >= at.ts) {
                    return Err(self.wrong(&format!("goes back from {} to {}", at.ts, here.ts)));
                }
                Ok(false)
            }
            Some(at) if here.ts == at.ts => {
                if here.term != at.term {
                    let (a, b) = (at.term, here.term);
                    return Err(self.wrong(&format!("has position {} in term {b}, what was before in {a}", at.ts)));
                }
                self.joined = true;
                Ok(false)
            }
            Some(at) if !self.joined => Err(self.wrong(&format!("lacks the entry {} that it should follow", at.ts))),
            _ => {
                self.at = Some(here);
                Ok(true)
            }
        }
    }

    /// The same where the positions of the source, and not those of its entries, say what it holds.
    fn is_new_of_other_tool(&mut self, here: OpTime, from: Timestamp, to: Timestamp) -> Result<bool> {
        if !(from..=to).contains(&here.ts) {
            return Err(self.wrong(&format!("holds {}, which is not from {from} to {to}", here.ts)));
        }
        if let Some(last) = self.last.filter(|last| here.ts <= last.ts) {
            return Err(self.wrong(&format!("goes back from {} to {}", last.ts, here.ts)));
        }
        self.last = Some(here);
        match self.at {
            Some(at) if here.ts == at.ts && at.term != OpTime::UNKNOWN_TERM && here.term != at.term => {
                let (a, b) = (at.term, here.term);
                Err(self.wrong(&format!("has position {} in term {b}, what was before in {a}", at.ts)))
            }
            Some(at) => Ok(here.ts > at.ts),
            None => Ok(true),
        }
    }

    /// Where the object ended.
    fn end(&self) -> Result<Option<OpTime>> {
        if let Object::Foreign { to, .. } = self.source.object {
            // PBM itself writes all the time, so that even of a server at rest there is something. Some streams have no end
            // mark: one that was cut off before its first entry looks like an empty one.
            if self.last.is_none() {
                return Err(self.wrong("holds no entry at all, so that it was cut off"));
            }
            let reached = self.last.filter(|last| last.ts == to);
            return Ok(Some(reached.unwrap_or(OpTime { ts: to, term: OpTime::UNKNOWN_TERM })).max(self.at));
        }
        match self.source.follows {
            Some(follows) if self.at != Some(follows.last) => {
                Err(self.wrong(&format!("does not end at {}, as its description says", follows.last.ts)))
            }
            _ => Ok(self.at),
        }
    }

    fn wrong(&self, why: &str) -> Error {
        let (key, place) = (&self.source.key, escape(&self.source.storage.place()));
        Error::new(ErrorKind::Corrupt, format!("{key} in {place} {why}"))
            .hint("the stored oplog cannot be trusted here; restore to a moment before, or from a later backup")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{PutMode, filesystem::Filesystem};
    use mongodb::bson::{Timestamp as T, doc};

    fn entry(t: u32, term: i64) -> Vec<u8> {
        doc! {"op": "n", "ts": T { time: t, increment: 1 }, "t": term, "o": {}}.to_vec().unwrap()
    }

    fn at(t: u32, term: i64) -> OpTime {
        OpTime { ts: Timestamp::new(t, 1), term }
    }

    struct Fixture {
        folder: tempfile::TempDir,
        sources: Vec<Source>,
    }

    impl Fixture {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), sources: Vec::new() }
        }

        async fn add(&mut self, entries: &[(u32, i64)], follows: Option<(OpTime, OpTime)>) {
            let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(self.folder.path()));
            let key = Key::new(format!("{:03}.bson", self.sources.len())).unwrap();
            let bytes: Vec<u8> = entries.iter().flat_map(|(t, term)| entry(*t, *term)).collect();
            let described = ObjectEntry {
                path: key.as_str().into(),
                size: bytes.len() as u64,
                blake3: blake3::hash(&bytes).to_hex().to_string(),
                uncompressed: bytes.len() as u64,
                documents: entries.len() as u64,
            };
            let mut object = b"head".to_vec();
            object.extend(bytes);
            storage.put(&key, object.into(), PutMode::Overwrite).await.unwrap();
            let follows = follows.map(|(after, last)| Follows { after, last });
            self.sources.push(Source {
                storage,
                key,
                object: Object::Written { offset: 4, entry: described, keys: Keys::default() },
                follows,
            });
        }

        async fn read(self, stop_at: u32) -> Result<Vec<u32>> {
            let sources = self.sources;
            tokio::task::spawn_blocking(move || {
                let mut seen = Vec::new();
                read_all(sources, None, &CancellationToken::new(), |entry| {
                    let t = op_time(entry).unwrap().ts.t;
                    if t > stop_at {
                        return Ok(ControlFlow::Break(()));
                    }
                    seen.push(t);
                    Ok(ControlFlow::Continue(()))
                })?;
                Ok(seen)
            })
            .await
            .unwrap()
        }
    }

    #[tokio::test]
    async fn each_entry_is_given_once() {
        let mut fixture = Fixture::new();
        fixture.add(&[(1, 1), (2, 1)], None).await;
        fixture.add(&[(3, 1), (5, 1)], None).await;
        // Began before the backup ended.
        fixture.add(&[(4, 1), (5, 1), (6, 1), (7, 2)], Some((at(3, 1), at(7, 2)))).await;
        fixture.add(&[(8, 2), (9, 2)], Some((at(7, 2), at(9, 2)))).await;
        // Of another daemon.
        fixture.add(&[(7, 2), (8, 2), (9, 2), (12, 3)], Some((at(6, 1), at(12, 3)))).await;
        assert_eq!(fixture.read(100).await.unwrap(), [1, 2, 3, 5, 6, 7, 8, 9, 12]);
    }

    #[tokio::test]
    async fn a_gap_or_another_history_is_found() {
        let own = [(1, 1), (5, 1)];
        let cases = [
            ([(7u32, 1i64)].as_slice(), at(6, 1), at(7, 1)),
            (&[(4, 1), (6, 1)], at(3, 1), at(6, 1)),
            (&[(4, 1), (5, 2), (6, 2)], at(3, 1), at(6, 2)),
            (&[(6, 2)], at(5, 2), at(6, 2)),
            (&[(6, 1)], at(5, 1), at(8, 1)),
        ];
        for (entries, after, last) in cases {
            let mut fixture = Fixture::new();
            fixture.add(&own, None).await;
            fixture.add(entries, Some((after, last))).await;
            assert_eq!(fixture.read(100).await.unwrap_err().kind(), ErrorKind::Corrupt, "{entries:?}");
        }
    }

    #[tokio::test]
    async fn the_object_it_stops_in_is_checked_to_its_end() {
        let mut fixture = Fixture::new();
        fixture.add(&[(1, 1), (2, 1)], None).await;
        fixture.add(&[(3, 1), (4, 1), (5, 1)], Some((at(2, 1), at(5, 1)))).await;
        fixture.add(&[(6, 1)], Some((at(5, 1), at(6, 1)))).await;
        let Object::Written { entry, .. } = &mut fixture.sources[1].object else { unreachable!() };
        entry.blake3 = "00".into();
        assert_eq!(fixture.read(3).await.unwrap_err().kind(), ErrorKind::Corrupt);
        let mut fixture = Fixture::new();
        fixture.add(&[(1, 1), (2, 1)], None).await;
        fixture.add(&[(3, 1), (4, 1), (5, 1)], Some((at(2, 1), at(5, 1)))).await;
        assert_eq!(fixture.read(3).await.unwrap(), [1, 2, 3]);
    }
}
