//! `storage sync` of the recorded oplog: what the names and the first bytes of slices tell is put into the catalogue.
//!
//! Slices that are known are not read again.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};

use super::{Client, SyncReport};
use crate::artifact::slice;
use crate::domain::key::Key;
use crate::domain::pitr::{Archive, Slice};
use crate::domain::text::escape;
use crate::engine::foreign;
use crate::engine::pitr::read_header;
use crate::engine::pitr::reconcile::{Catalogue, Compared, reconcile};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ObjectInfo, Storage};

/// Slices whose descriptions are read at once.
const AT_ONCE: usize = 16;
/// Slices that are read from the catalogue in one go.
const BATCH: usize = 1000;

/// What a slice says of itself, or why it cannot be read.
enum Read {
    Slice(String, Archive, Box<Slice>),
    Unreadable(String),
    /// Deleted between the listing and now.
    Gone,
}

/// Counts, where nothing is to be changed.
struct Counted<'a> {
    client: &'a Client,
    place: &'a str,
    folder: &'a str,
    new: u64,
}

impl Client {
    /// Counts what [`Client::sync_slices`] would do. Slices that are new are not read.
    pub(super) async fn compare_slices(
        &self,
        storage: &dyn Storage,
        name: &str,
        archives: &[Key],
        report: &mut SyncReport,
    ) -> Result<()> {
        for folder in self.slice_folders(name, archives).await? {
            let mut counted = Counted { client: self, place: name, folder: folder.as_str(), new: 0 };
            let Compared { unchanged, missing } = reconcile(storage, &folder, &mut counted).await?;
            report.slices.unchanged += unchanged;
            report.slices.missing += missing;
            report.slices.added += counted.new;
        }
        Ok(())
    }

    /// The folders of recorded oplog in a storage that are there, and those that the catalogue has.
    async fn slice_folders(&self, name: &str, archives: &[Key]) -> Result<Vec<Key>> {
        let place = name.to_owned();
        let known = self.call(move |client| client.store.archive_folders(&place)).await?;
        let known = known.iter().map(|folder| Key::new(folder.as_str())).collect::<Result<Vec<_>>>()?;
        let own = known.into_iter().filter(|folder| !foreign::is_archive(folder) && !archives.contains(folder));
        Ok(archives.iter().cloned().chain(own).collect())
    }

    async fn slice_keys(&self, place: &str, folder: &str, after: Option<&str>) -> Result<Vec<String>> {
        let (place, folder, after) = (place.to_owned(), folder.to_owned(), after.map(str::to_owned));
        self.call(move |client| client.store.slice_keys(&place, &folder, after.as_deref(), BATCH)).await
    }

    /// Brings the catalogue of slices of a storage up to date with the archives that were found in it.
    pub(super) async fn sync_slices(
        &self,
        storage: &dyn Storage,
        name: &str,
        archives: &[Key],
        report: &mut SyncReport,
    ) -> Result<()> {
        for folder in self.slice_folders(name, archives).await? {
            let mut catalogue =
                Known { client: self, storage, place: name, folder: folder.as_str(), report: &mut *report };
            let Compared { unchanged, missing } = reconcile(storage, &folder, &mut catalogue).await?;
            report.slices.unchanged += unchanged;
            report.slices.missing += missing;
        }
        Ok(())
    }
}

#[async_trait]
impl Catalogue for Counted<'_> {
    async fn keys(&mut self, after: Option<&str>) -> Result<Vec<String>> {
        self.client.slice_keys(self.place, self.folder, after).await
    }

    async fn missing(&mut self, _: Vec<String>) -> Result<()> {
        Ok(())
    }

    async fn found(&mut self, objects: Vec<ObjectInfo>) -> Result<()> {
        self.new += objects.len() as u64;
        Ok(())
    }
}

/// The slices of one folder as the catalogue knows them.
struct Known<'a> {
    client: &'a Client,
    storage: &'a dyn Storage,
    place: &'a str,
    folder: &'a str,
    report: &'a mut SyncReport,
}

#[async_trait]
impl Catalogue for Known<'_> {
    async fn keys(&mut self, after: Option<&str>) -> Result<Vec<String>> {
        self.client.slice_keys(self.place, self.folder, after).await
    }

    async fn missing(&mut self, keys: Vec<String>) -> Result<()> {
        let place = self.place.to_owned();
        self.client.call(move |client| client.store.forget_slices(&place, &keys)).await
    }

    /// Reads their descriptions and notes them.
    async fn found(&mut self, objects: Vec<ObjectInfo>) -> Result<()> {
        let (storage, place) = (self.storage, self.place);
        let mut reads =
            futures_util::stream::iter(objects).map(|object| read(storage, place, object)).buffered(AT_ONCE);
        let mut found: BTreeMap<(String, Archive), Vec<Slice>> = BTreeMap::new();
        while let Some(read) = reads.try_next().await? {
            match read {
                Read::Slice(service, archive, slice) => found.entry((service, archive)).or_default().push(*slice),
                Read::Unreadable(why) => self.report.unreadable.push(why),
                Read::Gone => {}
            }
        }
        drop(reads);
        let noted = self.client.call(move |client| {
            let mut added = 0;
            for ((service, archive), slices) in found {
                added += client.store.add_slices(&service, &archive, &slices)?;
            }
            Ok(added)
        });
        self.report.slices.added += noted.await?;
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
    let is_encrypted = header.encryption.is_some();
    let place = slice::key(&archive, header.first_ts, header.last.ts, is_encrypted).map_err(|e: Error| e.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_slice_is_three_names_above_it() {
        let folder = |text: &str| below(&Key::new(text).unwrap()).to_owned();
        assert_eq!(
            [folder("a/b/oplog/rs-1/x"), folder("oplog/rs-1/x"), folder("oplog/oplog/rs-1/x")],
            ["a/b", "", "oplog"]
        );
    }
}
