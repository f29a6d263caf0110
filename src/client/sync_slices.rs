//! `storage sync` of the recorded oplog: what the names and the first bytes of slices tell is put into the catalogue.
//!
//! Listing and catalogue are walked side by side, both in the order of the names, so that memory does not grow with the
//! number of slices. Slices that are known are not read again.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::vec::IntoIter;

use futures_util::{StreamExt, TryStreamExt};

use super::{Client, SyncReport};
use crate::artifact::slice;
use crate::domain::key::Key;
use crate::domain::pitr::{Archive, Slice};
use crate::domain::text::escape;
use crate::engine::pitr::read_header;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectInfo, Storage};

/// Slices whose descriptions are read at once.
const AT_ONCE: usize = 16;
/// Slices that are put into the catalogue, or read from it, in one go.
const BATCH: usize = 1000;

/// Whether `folder` is called as the folder of an archive is: `.../oplog/<replica set>-<its id>`.
pub(super) fn is_archive(folder: &Key) -> bool {
    let mut parts = folder.as_str().rsplit('/');
    let id = parts.next().and_then(|name| name.rsplit_once('-')).map(|(_, id)| id);
    id.is_some_and(|id| id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit())) && parts.next() == Some("oplog")
}

/// What a slice says of itself, or why it cannot be read.
enum Read {
    Slice(String, Archive, Box<Slice>),
    Unreadable(String),
    /// Deleted between the listing and now.
    Gone,
}

impl Client {
    /// Brings the catalogue of slices of a storage up to date with the archives that were found in it.
    pub(super) async fn sync_slices(
        &self,
        storage: &dyn Storage,
        name: &str,
        archives: &[Key],
        report: &mut SyncReport,
    ) -> Result<()> {
        for folder in archives {
            self.sync_archive(storage, name, folder, report).await?;
        }
        let place = name.to_owned();
        for folder in self.beside(move |client| client.store.archive_folders(&place)).await? {
            if archives.iter().all(|found| found.as_str() != folder) {
                let mut known = Known::new(self, name, &folder);
                while let Some(key) = known.next().await? {
                    known.missing(storage, key).await?;
                }
                report.slices.missing += known.end(storage).await?;
            }
        }
        Ok(())
    }

    async fn sync_archive(
        &self,
        storage: &dyn Storage,
        name: &str,
        folder: &Key,
        report: &mut SyncReport,
    ) -> Result<()> {
        let mut known = Known::new(self, name, folder.as_str());
        let mut waiting = known.next().await?;
        let mut new = Vec::new();
        let mut listing = storage.list(Some(folder)).await?;
        while let Some(object) = listing.try_next().await? {
            if !object.key.is_directly_in(folder) || slice::positions(object.key.file_name()).is_none() {
                continue;
            }
            while let Some(key) = waiting.take_if(|key| key.as_str() < object.key.as_str()) {
                known.missing(storage, key).await?;
                waiting = known.next().await?;
            }
            if waiting.as_deref() == Some(object.key.as_str()) {
                report.slices.unchanged += 1;
                waiting = known.next().await?;
                continue;
            }
            new.push(object);
            if new.len() >= BATCH {
                self.read_slices(storage, name, std::mem::take(&mut new), report).await?;
            }
        }
        while let Some(key) = waiting {
            known.missing(storage, key).await?;
            waiting = known.next().await?;
        }
        report.slices.missing += known.end(storage).await?;
        self.read_slices(storage, name, new, report).await
    }

    /// Reads the descriptions of new slices and notes them.
    async fn read_slices(
        &self,
        storage: &dyn Storage,
        name: &str,
        objects: Vec<ObjectInfo>,
        report: &mut SyncReport,
    ) -> Result<()> {
        let mut reads = futures_util::stream::iter(objects).map(|object| read(storage, name, object)).buffered(AT_ONCE);
        let mut found: BTreeMap<(String, Archive), Vec<Slice>> = BTreeMap::new();
        while let Some(read) = reads.try_next().await? {
            match read {
                Read::Slice(service, archive, slice) => found.entry((service, archive)).or_default().push(*slice),
                Read::Unreadable(why) => report.unreadable.push(why),
                Read::Gone => {}
            }
        }
        let noted = self.beside(move |client| {
            let mut added = 0;
            for ((service, archive), slices) in found {
                added += client.store.add_slices(&service, &archive, &slices)?;
            }
            Ok(added)
        });
        report.slices.added += noted.await?;
        Ok(())
    }
}

/// Errors: those that may pass, from which nothing is concluded.
async fn read(storage: &dyn Storage, name: &str, object: ObjectInfo) -> Result<Read> {
    let ObjectInfo { key, size } = object;
    let (header, slice) = match read_header(storage, &key, size).await {
        Ok(read) => read,
        Err(e) if e.is_retryable() => return Err(e),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Read::Gone),
        Err(e) => return Ok(Read::Unreadable(e.full())),
    };
    let folder = below(&key).to_owned();
    let archive = Archive {
        storage: name.to_owned(),
        folder,
        replica_set: header.replica_set,
        replica_set_id: header.replica_set_id,
    };
    let place = slice::key(&archive, header.first_ts, header.last.ts).map_err(|e: Error| e.to_string());
    if place.as_ref().map(Key::as_str) != Ok(key.as_str()) {
        return Ok(Read::Unreadable(format!(
            "{key}: it is not what its name says; move it back to where it was made, or remove it"
        )));
    }
    Ok(Read::Slice(escape(&header.service), archive, Box::new(slice)))
}

/// The folder that the `oplog` of a slice lies in.
fn below(key: &Key) -> &str {
    let mut above = key.as_str().rsplitn(4, '/').skip(3);
    above.next().unwrap_or("")
}

/// The slices of one folder as the catalogue knows them, in order, a batch at a time.
struct Known<'a> {
    client: &'a Client,
    place: &'a str,
    folder: &'a str,
    batch: Peekable<IntoIter<String>>,
    last: Option<String>,
    gone: Vec<String>,
    missing: u64,
}

impl<'a> Known<'a> {
    fn new(client: &'a Client, place: &'a str, folder: &'a str) -> Self {
        Self {
            client,
            place,
            folder,
            batch: Vec::new().into_iter().peekable(),
            last: None,
            gone: Vec::new(),
            missing: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<String>> {
        if self.batch.peek().is_none() {
            let (place, folder, last) = (self.place.to_owned(), self.folder.to_owned(), self.last.clone());
            let more = self.client.beside(move |c| c.store.slice_keys(&place, &folder, last.as_deref(), BATCH)).await?;
            self.batch = more.into_iter().peekable();
        }
        let next = self.batch.next();
        self.last.clone_from(&next);
        Ok(next)
    }

    /// It is not in the listing.
    async fn missing(&mut self, storage: &dyn Storage, key: String) -> Result<()> {
        self.gone.push(key);
        if self.gone.len() >= BATCH { self.forget(storage).await } else { Ok(()) }
    }

    /// Forgets what the storage has no longer. A slice that was stored and noted after the listing began is there.
    async fn forget(&mut self, storage: &dyn Storage) -> Result<()> {
        let looks = std::mem::take(&mut self.gone).into_iter().map(|key| async move {
            let there = storage.stat(&Key::new(&*key)?).await?.is_some();
            Ok::<_, Error>((!there).then_some(key))
        });
        let mut looks = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE);
        let mut gone = Vec::new();
        while let Some(key) = looks.try_next().await? {
            gone.extend(key);
        }
        self.missing += gone.len() as u64;
        let place = self.place.to_owned();
        self.client.beside(move |client| client.store.forget_slices(&place, &gone)).await
    }

    /// How many were missing.
    async fn end(mut self, storage: &dyn Storage) -> Result<u64> {
        self.forget(storage).await?;
        Ok(self.missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_their_names() {
        let id = "0123456789abcdef01234567";
        let is = |text: String| is_archive(&Key::new(text).unwrap());
        assert!(is(format!("prod/eu/oplog/rs-0-{id}")) && is(format!("oplog/rs-{id}")));
        for other in
            [format!("prod/rs-{id}"), "prod/oplog/rs".into(), format!("oplog/rs-{id}/x"), format!("oplog/{id}")]
        {
            assert!(!is(other.clone()), "{other}");
        }
        let folder = |text: &str| below(&Key::new(text).unwrap()).to_owned();
        assert_eq!(
            [folder("a/b/oplog/rs-1/x"), folder("oplog/rs-1/x"), folder("oplog/oplog/rs-1/x")],
            ["a/b", "", "oplog"]
        );
    }
}
