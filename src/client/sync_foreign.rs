//! `storage sync` of what other tools left: their backups and the oplog that they recorded.

use std::collections::BTreeSet;

use super::sync_plan::Planner;
use super::{Client, SyncReport};
use crate::control::catalogue_entry::catalogue_entry;
use crate::domain::backup::place_of;
use crate::domain::key::Key;
use crate::domain::text::escape;
use crate::engine::foreign::{self, Discovered, ForeignArchive, ForeignBackup, ForeignFolder};
use crate::error::{ErrorKind, Result};

/// Slices that are read from the catalogue in one go.
const BATCH: usize = 1000;

impl Planner<'_> {
    /// The backups in `folders`. Returns what was recorded there.
    pub(super) async fn foreign(&mut self, folders: &[ForeignFolder]) -> Result<Vec<ForeignArchive>> {
        let mut found = Vec::new();
        for folder in folders {
            let known = &self.known;
            let is_known = |name: &str, bytes: u64| {
                let known = known.get(&(folder.folder.clone(), name.to_owned()));
                known.is_some_and(|known| known.is_good() && known.size_bytes == Some(bytes))
            };
            let Discovered { backups, unchanged, archives } =
                folder.discover(self.storage, self.name, &is_known).await?;
            self.report.unchanged += unchanged.len() as u64;
            self.seen.extend(unchanged.into_iter().map(|name| (folder.folder.clone(), name)));
            for backup in backups {
                if self.driven.contains(&(folder.folder.clone(), backup.name.clone())) {
                    continue;
                }
                self.seen.insert((folder.folder.clone(), backup.name.clone()));
                self.foreign_backup(folder, backup).await?;
            }
            found.extend(archives);
        }
        Ok(found)
    }

    async fn foreign_backup(&mut self, folder: &ForeignFolder, backup: ForeignBackup) -> Result<()> {
        let place = place_of(&folder.folder, &backup.name);
        let ForeignBackup { name, read } = backup;
        let manifest = match read {
            Ok(manifest) => manifest,
            Err(e) => {
                let why = e.full();
                let hint = e.hint_text().map_or_else(String::new, |hint| format!(" ({hint})"));
                let shown = format!("{}: {why}{hint}", escape(&place));
                match e.kind() {
                    ErrorKind::Unsupported => self.report.refused.push(shown),
                    _ => self.report.unreadable.push(shown),
                }
                // What cannot be read now may be sound.
                if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::NotFound) {
                    self.not_good(&folder.folder, &name, why);
                }
                return Ok(());
            }
        };
        self.import(catalogue_entry(&manifest.envelope), &place, None).await
    }
}

impl Client {
    /// Counts what [`Client::sync_chunks`] would do.
    pub(super) async fn compare_chunks(
        &self,
        name: &str,
        archives: &[ForeignArchive],
        report: &mut SyncReport,
    ) -> Result<()> {
        for ForeignArchive { key, slices, .. } in archives {
            let there: BTreeSet<String> = slices.iter().map(|slice| slice.key.clone()).collect();
            let known = self.known_slices(name, key.as_str().to_owned()).await?;
            report.slices.added += there.difference(&known).count() as u64;
            report.slices.unchanged += there.intersection(&known).count() as u64;
            report.slices.missing += known.difference(&there).count() as u64;
        }
        for folder in self.chunk_folders_without(name, archives).await? {
            report.slices.missing += self.known_slices(name, folder).await?.len() as u64;
        }
        Ok(())
    }

    /// The keys of the slices that the catalogue has in a folder, of which a tool lists every one anyway.
    async fn known_slices(&self, storage: &str, folder: String) -> Result<BTreeSet<String>> {
        let place = storage.to_owned();
        self.call(move |client| {
            let mut known = BTreeSet::new();
            loop {
                let after = known.last().cloned();
                let keys = client.store.slice_keys(&place, &folder, after.as_deref(), BATCH)?;
                if keys.is_empty() {
                    return Ok(known);
                }
                known.extend(keys);
            }
        })
        .await
    }

    /// The folders of oplog that other tools recorded, as far as the catalogue has them and `archives` do not.
    async fn chunk_folders_without(&self, storage: &str, archives: &[ForeignArchive]) -> Result<Vec<String>> {
        let place = storage.to_owned();
        let mut folders = self.call(move |client| client.store.archive_folders(&place)).await?;
        folders.retain(|folder| !archives.iter().any(|archive| archive.key.as_str() == folder));
        let keyed = folders.into_iter().map(|folder| Ok((Key::new(folder.as_str())?, folder)));
        let keyed: Vec<(Key, String)> = keyed.collect::<Result<_>>()?;
        Ok(keyed.into_iter().filter(|(key, _)| foreign::is_archive(key)).map(|(_, folder)| folder).collect())
    }

    /// Brings the catalogue of slices up to date with `archives`, and forgets those that are no longer there.
    pub(super) async fn sync_chunks(
        &self,
        name: &str,
        archives: Vec<ForeignArchive>,
        report: &mut SyncReport,
    ) -> Result<()> {
        let gone = self.chunk_folders_without(name, &archives).await?;
        for ForeignArchive { service, archive, key, slices } in archives {
            let keys: BTreeSet<String> = slices.iter().map(|slice| slice.key.clone()).collect();
            let all = slices.len() as u64;
            let added = self.call(move |client| client.store.add_slices(&service, &archive, &slices)).await?;
            report.slices.added += added;
            report.slices.unchanged += all - added;
            report.slices.missing += self.forget_all_but(name, key.as_str().to_owned(), keys).await?;
        }
        for folder in gone {
            report.slices.missing += self.forget_all_but(name, folder, BTreeSet::new()).await?;
        }
        Ok(())
    }

    async fn forget_all_but(&self, storage: &str, folder: String, there: BTreeSet<String>) -> Result<u64> {
        let place = storage.to_owned();
        self.call(move |client| {
            let (mut after, mut missing) = (None::<String>, 0);
            loop {
                let keys = client.store.slice_keys(&place, &folder, after.as_deref(), BATCH)?;
                let Some(last) = keys.last().cloned() else { return Ok(missing) };
                let gone: Vec<String> = keys.into_iter().filter(|key| !there.contains(key)).collect();
                if !gone.is_empty() {
                    missing += gone.len() as u64;
                    client.store.forget_slices(&place, &gone)?;
                }
                after = Some(last);
            }
        })
        .await
    }
}
