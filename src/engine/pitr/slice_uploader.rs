//! Storing finished slices, one after another, for as long as it takes.
//!
//! Each begins where the one before it ends. A slice is no use where that one is not: another disk is mounted over the
//! folder, or somebody emptied it. So it is looked at first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::build::{Builder, Contents};
use super::event::Event;
use crate::artifact::layout::FORMAT_VERSION;
use crate::artifact::slice::{self, Header};
use crate::domain::clock;
use crate::domain::encryption::Encryption;
use crate::domain::key::Key;
use crate::domain::pitr::Archive;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectInfo, ObjectWriter, Storage, Written};

/// Pauses between tries while the storage is away.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A slice that has stopped growing.
pub struct Cut(pub Builder);

/// Where slices come from: the same for all of them.
#[derive(Clone)]
pub struct Origin {
    pub archive: Archive,
    pub service: String,
    pub member: String,
    pub server_version: String,
    pub home_id: String,
    pub encryption: Option<Encryption>,
}

impl Origin {
    /// `data`: the compressed entries.
    fn header(self, contents: Contents, data: &[u8]) -> Header {
        let Self { archive, service, member, server_version, home_id, encryption } = self;
        let blake3 = match encryption {
            None => blake3::hash(data).to_hex().to_string(),
            Some(_) => String::new(),
        };
        Header {
            format_version: FORMAT_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").into(),
            service,
            replica_set: archive.replica_set,
            replica_set_id: archive.replica_set_id,
            member,
            server_version,
            home_id,
            written_at: clock::now(),
            after: contents.after,
            first_ts: contents.first.ts,
            last: contents.last,
            entries: contents.entries,
            operations: contents.operations,
            uncompressed: contents.uncompressed,
            data_size: data.len() as u64,
            blake3,
            encryption,
            gap: contents.gap,
            marks: contents.marks,
            counts: contents.counts,
        }
    }
}

pub struct Keeper {
    pub storage: Arc<dyn Storage>,
    pub origin: Origin,
    pub events: mpsc::Sender<Event>,
    /// Each slice is read back before it counts as stored.
    pub read_back: watch::Receiver<bool>,
}

impl Keeper {
    /// Stores what comes until nothing more does, or `give_up`. In their order: a slice is never stored before the one
    /// that it follows.
    ///
    /// Errors: `Cancelled` when nobody listens to the events any more; `Interrupted` when the slice before the next one is
    /// gone from the storage; anything else is a bug, for a storage that is away is waited for. What is not stored is read
    /// again the next time.
    pub async fn run(self, mut cuts: mpsc::Receiver<Cut>, give_up: CancellationToken) -> Result<()> {
        let mut before = None;
        while let Some(cut) = cuts.recv().await {
            tokio::select! {
                biased;
                () = give_up.cancelled() => break,
                stored = self.keep(cut, before.as_ref()) => before = Some(stored?),
            }
        }
        Ok(())
    }

    /// Stores the slice that follows `before`.
    async fn keep(&self, cut: Cut, before: Option<&ObjectInfo>) -> Result<ObjectInfo> {
        let origin = self.origin.clone();
        let finished = tokio::task::spawn_blocking(move || {
            let (contents, data) = cut.0.finish()?;
            let header = origin.header(contents, &data);
            let object = header.object(data)?;
            Ok::<_, Error>((header, object))
        });
        let (header, object) = finished
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "ending a slice stopped unexpectedly").source(e))??;
        let (archive, is_encrypted) = (&self.origin.archive, header.encryption.is_some());
        let key = slice::key(archive, header.first_ts, header.last.ts, is_encrypted)?;
        let slice = header.slice(&key, object.frame);
        let size = slice.size;
        self.put(&key, &object.pieces, before).await?;
        self.emit(Event::Stored { archive: self.origin.archive.clone(), slice: Box::new(slice) }).await?;
        Ok(ObjectInfo { key, size })
    }

    /// Tries until it is stored.
    async fn put(&self, key: &Key, pieces: &[Bytes], before: Option<&ObjectInfo>) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        let mut away = false;
        loop {
            let tried = match self.is_there(before).await {
                Ok(true) => self.try_put(key, pieces).await,
                Ok(false) => {
                    let storage = escape(&self.origin.archive.storage);
                    let what = format!("what was recorded a moment ago is no longer in storage {storage}");
                    return Err(Error::new(ErrorKind::Interrupted, what)
                        .hint("was its folder emptied, or another disk mounted there? Recording begins again with what is there"));
                }
                Err(e) => Err(e),
            };
            match tried {
                Ok(()) if away => return self.emit(Event::StorageBack).await,
                Ok(()) => return Ok(()),
                Err(e) => {
                    away = true;
                    self.emit(Event::StorageAway(e)).await?;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn is_there(&self, before: Option<&ObjectInfo>) -> Result<bool> {
        let Some(before) = before else { return Ok(true) };
        Ok(self.storage.stat(&before.key).await?.as_ref() == Some(before))
    }

    async fn try_put(&self, key: &Key, pieces: &[Bytes]) -> Result<()> {
        let mut object = ObjectWriter::new(Arc::clone(&self.storage), key.clone());
        for bytes in pieces {
            if let Err(e) = object.write(bytes.clone()).await {
                let _ = object.abort().await;
                return Err(e);
            }
        }
        let written = object.finish().await?;
        self.check_stored(key, &written).await
    }

    /// Looks at what the storage has of it: one that says "stored" and keeps less, or nothing, has not stored it.
    async fn check_stored(&self, key: &Key, written: &Written) -> Result<()> {
        let place = self.storage.place();
        let wrong = |what: String| {
            Error::new(ErrorKind::Corrupt, format!("{place}/{key} was stored, and now it {what}")).hint(
                "the storage, or something in front of it, does not keep what it takes: look for a full disk behind it; \
                 the slice is stored again until it stays",
            )
        };
        match self.storage.stat(key).await? {
            None => return Err(wrong("is not there".into())),
            Some(found) if found.size != written.size => {
                return Err(wrong(format!("has {} of {} bytes", found.size, written.size)));
            }
            Some(_) => {}
        }
        if !*self.read_back.borrow() {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        let mut stream = self.storage.get(key, None).await?;
        while let Some(chunk) = stream.try_next().await? {
            hasher.update(&chunk);
        }
        if hasher.finalize().to_hex().as_str() != written.blake3 {
            return Err(wrong("holds other bytes".into()));
        }
        Ok(())
    }

    async fn emit(&self, event: Event) -> Result<()> {
        self.events.send(event).await.map_err(|_| Error::cancelled())
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;
    use crate::domain::pitr::OpTime;
    use crate::domain::timestamp::Timestamp;
    use crate::storage::filesystem::Filesystem;

    fn at(t: u32) -> OpTime {
        OpTime { ts: Timestamp::new(t, 1), term: 1 }
    }

    /// Keeps one slice of the entries of `seconds` seconds, in an archive below `folder`.
    async fn keep(folder: &str, seconds: u32) -> (Result<()>, Vec<Event>) {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive {
            storage: "t".into(),
            folder: folder.into(),
            replica_set: "rs0".into(),
            replica_set_id: "0123456789abcdef01234567".into(),
        };
        let origin = Origin {
            archive,
            service: "s".into(),
            member: "h:1".into(),
            server_version: "6.0.5".into(),
            home_id: "home".into(),
            encryption: None,
        };
        let (events, mut heard) = mpsc::channel(10);
        let keeper = Keeper {
            storage: Arc::new(Filesystem::new(dir.path())),
            origin,
            events,
            read_back: watch::channel(true).1,
        };
        let mut builder = Builder::new(at(1_790_000_000), None).unwrap();
        let entry = doc! {"op": "i"}.to_vec().unwrap();
        for n in 1..=seconds {
            builder.push(at(1_790_000_000 + n), &entry).unwrap();
        }
        let (cuts, waiting) = mpsc::channel(1);
        cuts.send(Cut(builder)).await.unwrap();
        drop(cuts);
        let outcome = keeper.run(waiting, CancellationToken::new()).await;
        let mut told = Vec::new();
        while let Some(event) = heard.recv().await {
            told.push(event);
        }
        (outcome, told)
    }

    /// The longest description that a slice can come to have: full, and a whole reply of the server more.
    #[tokio::test]
    async fn what_fills_a_slice_fits_into_its_description() {
        let (outcome, told) = keep("prod", 60_000).await;
        outcome.unwrap();
        assert!(matches!(&told[..], [Event::Stored { slice, .. }] if slice.counts.len() == 60_000), "{}", told.len());
    }

    #[tokio::test]
    async fn what_cannot_be_kept_says_why() {
        let (outcome, told) = keep("no/../folder", 1).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
        assert!(told.is_empty());
    }
}
