//! An archive as the folder that `mongodump` would have written instead of it, so that whoever reads the one reads the
//! other: every collection is an object of its own, whose bytes are gathered from the blocks of the archive.
//!
//! One collection is read without the others, and several at once, each at its own pace: nothing waits for a reader that is
//! slow, and what one of them holds in memory does not depend on the archive.

use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use super::Archive;
use super::index::{Contents, Index};
use super::input::Stored;
use crate::artifact::gunzip::{Gunzip, Point};
use crate::domain::key::Key;
use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Level, ObjectInfo, PutMode, Storage, Upload};

/// Chunks between the storage and whoever decompresses, and from there to the reader.
const CHUNKS_AHEAD: usize = 4;
const CHUNK: usize = 256 << 10;

/// See the module's documentation.
pub struct ArchivedFolder {
    inner: Arc<dyn Storage>,
    archive: Archive,
    index: Arc<Index>,
    /// By the paths below the archive.
    names: HashMap<String, Namespace>,
}

impl ArchivedFolder {
    /// `path_of`: where a folder would have the documents of a collection.
    pub fn new(
        inner: Arc<dyn Storage>,
        archive: Archive,
        index: Arc<Index>,
        path_of: impl Fn(&Namespace) -> String,
    ) -> Self {
        let names = index.contents.keys().map(|ns| (path_of(ns), ns.clone())).collect();
        Self { inner, archive, index, names }
    }

    fn contents(&self, key: &Key) -> Option<&Contents> {
        self.index.contents.get(self.names.get(key.below(&self.archive.key)?)?)
    }

    /// What is read from one point on.
    fn run(&self, run: Run) -> impl Future<Output = Result<BoxStream<'static, Result<Bytes>>>> + Send + 'static {
        let inner = Arc::clone(&self.inner);
        let Archive { key: archive, size, gzipped, .. } = self.archive.clone();
        async move {
            if !gzipped {
                let gets = stream::iter(run.ranges.into_iter().map(Ok)).and_then(move |range| {
                    let (inner, archive) = (Arc::clone(&inner), archive.clone());
                    async move { inner.get(&archive, Some(range)).await }
                });
                return Ok(gets.try_flatten().boxed());
            }
            let from = run.point.as_ref().map_or(0, |point| point.stored);
            let source = inner.get(&archive, Some(from..size)).await?;
            let (chunks, stored) = mpsc::channel(CHUNKS_AHEAD);
            tokio::spawn(feed(source, chunks));
            let (sink, found) = mpsc::channel(CHUNKS_AHEAD);
            tokio::task::spawn_blocking(move || {
                let mut stored = Stored::new(stored);
                let read = gunzip(&mut stored, &run, &sink);
                if let Err(e) = read {
                    let what = format!("{archive} in {} is damaged: {e}", escape(&inner.place()));
                    let error = stored.error.take().unwrap_or_else(|| Error::new(ErrorKind::Corrupt, what));
                    let _ = sink.blocking_send(Err(error));
                }
            });
            Ok(stream::unfold(found, |mut found| async { Some((found.recv().await?, found)) }).boxed())
        }
    }
}

/// Ranges of the decompressed archive that are read one after another, from a point on.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    point: Option<Point>,
    ranges: Vec<Range<u64>>,
}

/// What of the blocks is `wanted`, in ranges of the archive.
fn ranges(contents: &Contents, wanted: &Range<u64>) -> Vec<Range<u64>> {
    let (mut begin, mut ranges) = (0, Vec::new());
    for (at, length) in &contents.blocks {
        let (from, to) = (wanted.start.max(begin), wanted.end.min(begin + length));
        if from < to {
            ranges.push(at + (from - begin)..at + (to - begin));
        }
        begin += length;
    }
    ranges
}

/// A new run begins where a point spares decompressing what nobody wants.
fn runs(index: &Index, ranges: Vec<Range<u64>>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for range in ranges {
        let point = index.points.before(range.start);
        let is_behind = |run: &Run| {
            let end = run.ranges.last().map_or(0, |last| last.end);
            point.is_some_and(|point| point.plain > end)
        };
        match runs.last_mut() {
            Some(run) if !is_behind(run) => run.ranges.push(range),
            _ => runs.push(Run { point: point.cloned(), ranges: vec![range] }),
        }
    }
    runs
}

pub async fn feed(mut source: BoxStream<'static, Result<Bytes>>, chunks: mpsc::Sender<Result<Bytes>>) {
    while let Some(chunk) = source.next().await {
        let is_end = chunk.is_err();
        if chunks.send(chunk).await.is_err() || is_end {
            return;
        }
    }
}

fn gunzip(stored: &mut Stored, run: &Run, sink: &mpsc::Sender<Result<Bytes>>) -> io::Result<()> {
    let (mut at, mut source) = match &run.point {
        Some(point) => (point.plain, Gunzip::from_point(stored, point)),
        None => (0, Gunzip::new(stored)),
    };
    for range in &run.ranges {
        let skip = range.start - at;
        if io::copy(&mut (&mut source).take(skip), &mut io::sink())? < skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut left = range.end - range.start;
        while left > 0 {
            let mut chunk = vec![0; usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))];
            source.read_exact(&mut chunk)?;
            left -= chunk.len() as u64;
            // Nobody reads any more.
            if sink.blocking_send(Ok(chunk.into())).is_err() {
                return Ok(());
            }
        }
        at = range.end;
    }
    Ok(())
}

fn only_read() -> Error {
    Error::new(ErrorKind::Internal, "nothing is written into an archive of mongodump")
}

#[async_trait]
impl Storage for ArchivedFolder {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn part_size(&self) -> usize {
        self.inner.part_size()
    }

    async fn put(&self, _: &Key, _: Bytes, _: PutMode) -> Result<()> {
        Err(only_read())
    }

    async fn upload(&self, _: &Key) -> Result<Box<dyn Upload>> {
        Err(only_read())
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let Some(contents) = self.contents(key) else {
            if key.below(&self.archive.key).is_some() {
                return Err(Error::not_found("object", format!("{}/{key}", escape(&self.place()))));
            }
            return self.inner.get(key, range).await;
        };
        let wanted = range.unwrap_or(0..contents.bytes);
        if wanted.end > contents.bytes {
            let what = format!("{key} in {} has {} bytes", escape(&self.place()), contents.bytes);
            return Err(Error::new(ErrorKind::Corrupt, what));
        }
        let runs: Vec<_> = runs(&self.index, ranges(contents, &wanted)).into_iter().map(|run| self.run(run)).collect();
        Ok(stream::iter(runs).then(|run| run).try_flatten().boxed())
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        match self.contents(key) {
            Some(contents) => Ok(Some(ObjectInfo { key: key.clone(), size: contents.bytes })),
            // Below an archive there is nothing else, whatever a storage makes of such a name.
            None if key.below(&self.archive.key).is_some() => Ok(None),
            None => self.inner.stat(key).await,
        }
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        self.inner.list(prefix).await
    }

    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level> {
        self.inner.list_level(prefix).await
    }

    async fn delete(&self, _: &Key) -> Result<()> {
        Err(only_read())
    }

    async fn sweep_older(&self, _: &Key, _: Duration) -> Result<u64> {
        Err(only_read())
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space().await
    }
}
