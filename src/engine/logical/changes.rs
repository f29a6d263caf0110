//! The stored oplog as one stream: that of a backup itself, and the slices that follow it.
//!
//! The two overlap, and slices of two daemons may overlap too. Each entry is given once. Where one object follows
//! another, either it begins exactly where the other ended, or it holds that very entry (position and term): anything
//! else would be another history, or a gap.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::open_backup::OpenBackup;
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::read::{Documents, ReadOptions};
use crate::domain::key::Key;
use crate::domain::pitr::OpTime;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::op_time;
use crate::storage::Storage;

/// Objects whose bytes are already on their way while one is read: slices are small, and a distant storage answers
/// slowly.
const AHEAD: usize = 4;

const READ: ReadOptions = ReadOptions { batch_bytes: 2 << 20, batch_documents: 10_000, check_structure: false };

/// One object to read.
struct Source {
    storage: Arc<dyn Storage>,
    key: Key,
    offset: u64,
    entry: ObjectEntry,
    /// `None`: the next part of the same capture.
    follows: Option<Follows>,
}

#[derive(Clone, Copy)]
struct Follows {
    after: OpTime,
    last: OpTime,
}

impl OpenBackup {
    /// Gives every entry of the stored oplog to `visit`, on a thread that may block, until it says to stop. The object
    /// in which it stops is read to its end all the same: only then is it known to be what was written.
    ///
    /// Errors: `Corrupt`, naming the object; what `visit` returns; what the storage reports.
    pub async fn for_each_entry<T, F>(&self, cancel: &CancellationToken, state: T, mut visit: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut T, &[u8]) -> Result<ControlFlow<()>> + Send + 'static,
    {
        let sources = self.sources()?;
        let cancel = cancel.clone();
        let work = move || {
            let mut state = state;
            read_all(sources, &cancel, |entry| visit(&mut state, entry))?;
            Ok(state)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "reading the stored oplog stopped unexpectedly").source(e))?
    }

    /// Bytes of BSON in the stored oplog.
    pub fn oplog_bytes(&self) -> u64 {
        let own: u64 = self.manifest.oplog.iter().map(|o| o.uncompressed).sum();
        own + self.later.iter().flat_map(|l| &l.slices).map(|s| s.uncompressed).sum::<u64>()
    }

    fn sources(&self) -> Result<Vec<Source>> {
        let own = self.manifest.oplog.iter().map(|object| {
            let key = self.root.key().join(&object.path)?;
            Ok(Source { storage: self.storage.clone(), key, offset: 0, entry: object.clone(), follows: None })
        });
        let later = self.later.iter().flat_map(|later| later.slices.iter().map(move |slice| (later, slice)));
        let later = later.map(|(later, slice)| {
            let entry = ObjectEntry {
                path: slice.key.clone(),
                size: slice.size.saturating_sub(slice.data_offset),
                blake3: slice.blake3.clone(),
                uncompressed: slice.uncompressed,
                documents: slice.entries,
            };
            let follows = Some(Follows { after: slice.after, last: slice.last });
            let (storage, key) = (later.storage.clone(), Key::new(&*slice.key)?);
            Ok(Source { storage, key, offset: slice.data_offset, entry, follows })
        });
        own.chain(later).collect()
    }
}

fn read_all(
    sources: Vec<Source>,
    cancel: &CancellationToken,
    mut visit: impl FnMut(&[u8]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let runtime = Handle::current();
    let mut waiting = sources.into_iter();
    let mut opened: VecDeque<(Source, Documents)> = VecDeque::new();
    let mut go = ControlFlow::Continue(());
    // How far the stream was read.
    let mut at = None;
    while go == ControlFlow::Continue(()) {
        while opened.len() < AHEAD
            && let Some(source) = waiting.next()
        {
            let Source { storage, key, offset, entry, .. } = &source;
            let documents = Documents::open_at(storage.clone(), key.clone(), *offset, entry, READ);
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
}

impl<'a> Joint<'a> {
    fn new(source: &'a Source, at: Option<OpTime>) -> Result<Self> {
        let joined = match (source.follows, at) {
            (None, _) => true,
            (Some(follows), Some(at)) => follows.after == at,
            (Some(_), None) => false,
        };
        let joint = Self { source, at, joined };
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

    /// Where the object ended.
    fn end(&self) -> Result<Option<OpTime>> {
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
    use crate::domain::timestamp::Timestamp;
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
            self.sources.push(Source { storage, key, offset: 4, entry: described, follows });
        }

        async fn read(self, stop_at: u32) -> Result<Vec<u32>> {
            let sources = self.sources;
            tokio::task::spawn_blocking(move || {
                let mut seen = Vec::new();
                read_all(sources, &CancellationToken::new(), |entry| {
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
        fixture.sources[1].entry.blake3 = "00".into();
        assert_eq!(fixture.read(3).await.unwrap_err().kind(), ErrorKind::Corrupt);
        let mut fixture = Fixture::new();
        fixture.add(&[(1, 1), (2, 1)], None).await;
        fixture.add(&[(3, 1), (4, 1), (5, 1)], Some((at(2, 1), at(5, 1)))).await;
        assert_eq!(fixture.read(3).await.unwrap(), [1, 2, 3]);
    }
}
