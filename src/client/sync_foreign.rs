//! `storage sync` of what other tools left: their backups and the oplog that they recorded.

use std::collections::{BTreeMap, BTreeSet};

use super::{Client, SyncReport};
use crate::control::catalogue_entry::catalogue_entry;
use crate::domain::text::escape;
use crate::engine::foreign::{Discovered, ForeignArchive, ForeignBackup, ForeignFolder};
use crate::engine::pbm::pbm_folder;
use crate::error::{ErrorKind, Result};
use crate::storage::Storage;

/// Slices that are read from the catalogue in one go.
const BATCH: usize = 1000;

impl Client {
    /// Lists the backups in `folders`. Those that are there are added to `seen`.
    pub(super) async fn sync_foreign(
        &self,
        storage: &dyn Storage,
        name: &str,
        folders: &[ForeignFolder],
        seen: &mut BTreeSet<(String, String)>,
        report: &mut SyncReport,
    ) -> Result<Vec<ForeignArchive>> {
        let mut found = Vec::new();
        let place = name.to_owned();
        // What PBM made for us is listed under the name that it has here.
        let known = self.call(move |client| {
            let ours = client.store.backups()?.into_iter().filter(|backup| backup.storage == place);
            Ok(ours.filter_map(|backup| Some((pbm_folder(&backup.folder), backup.pbm_name?))).collect())
        });
        let driven: BTreeSet<(String, String)> = known.await?;
        let place = name.to_owned();
        let good = self.call(move |client| {
            let good = client.store.backups()?.into_iter().filter(|backup| backup.storage == place && backup.is_good());
            Ok(good.map(|backup| ((backup.folder, backup.name), backup.size_bytes)).collect())
        });
        let good: BTreeMap<(String, String), Option<u64>> = good.await?;
        for folder in folders {
            let is_known = |name: &str, bytes: u64| {
                good.get(&(folder.folder.clone(), name.to_owned())).is_some_and(|known| *known == Some(bytes))
            };
            let Discovered { backups, unchanged, archives } = folder.discover(storage, name, &is_known).await?;
            report.unchanged += unchanged.len() as u64;
            seen.extend(unchanged.into_iter().map(|name| (folder.folder.clone(), name)));
            for backup in backups.into_iter().filter(|b| !driven.contains(&(folder.folder.clone(), b.name.clone()))) {
                seen.insert((folder.folder.clone(), backup.name.clone()));
                self.sync_foreign_backup(name, folder, backup, report).await?;
            }
            found.extend(archives);
        }
        Ok(found)
    }

    async fn sync_foreign_backup(
        &self,
        storage_name: &str,
        folder: &ForeignFolder,
        backup: ForeignBackup,
        report: &mut SyncReport,
    ) -> Result<()> {
        let ForeignBackup { name, read } = backup;
        // What is a folder or an object as a whole has its path for a name.
        let is_path = name == folder.folder || name.starts_with(&format!("{}/", folder.folder));
        let is_named = !folder.folder.is_empty() && !is_path;
        let place = if is_named { format!("{}/{name}", folder.folder) } else { name.clone() };
        let manifest = match read {
            Ok(manifest) => manifest,
            Err(e) => {
                let why = e.full();
                let hint = e.hint_text().map_or_else(String::new, |hint| format!(" ({hint})"));
                let shown = format!("{}: {why}{hint}", escape(&place));
                match e.kind() {
                    ErrorKind::Unsupported => report.refused.push(shown),
                    _ => report.unreadable.push(shown),
                }
                return self.no_longer_good(storage_name, &folder.folder, &name, why).await;
            }
        };
        let (place_name, facts) = (storage_name.to_owned(), catalogue_entry(&manifest.envelope));
        match self.call(move |client| client.store.import_backup(&place_name, &facts)).await {
            Ok(true) => report.added.push(name),
            Ok(false) => report.unchanged += 1,
            Err(e) if e.kind() == ErrorKind::Conflict => report.unreadable.push(format!("{place}: {}", e.full())),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Notes that a backup which the catalogue knows cannot be read any more.
    async fn no_longer_good(&self, storage: &str, folder: &str, name: &str, why: String) -> Result<()> {
        let (storage, folder, name) = (storage.to_owned(), folder.to_owned(), name.to_owned());
        self.call(move |client| match client.store.backup(&name) {
            Ok(known) if known.storage == storage && known.folder == folder => client.store.backup_missing(&name, &why),
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        })
        .await
    }

    /// Brings the catalogue of slices up to date with `archives`, and forgets those that are no longer there.
    pub(super) async fn sync_chunks(
        &self,
        name: &str,
        archives: Vec<ForeignArchive>,
        report: &mut SyncReport,
    ) -> Result<()> {
        let mut there = BTreeSet::new();
        for ForeignArchive { service, archive, key, slices } in archives {
            there.insert(key.as_str().to_owned());
            let keys: BTreeSet<String> = slices.iter().map(|slice| slice.key.clone()).collect();
            let all = slices.len() as u64;
            let added = self.call(move |client| client.store.add_slices(&service, &archive, &slices)).await?;
            report.slices.added += added;
            report.slices.unchanged += all - added;
            report.slices.missing += self.forget_all_but(name, key.as_str().to_owned(), keys).await?;
        }
        let place = name.to_owned();
        let known = self.call(move |client| client.store.archive_folders(&place)).await?;
        for folder in known {
            let key = crate::domain::key::Key::new(folder.as_str())?;
            if crate::engine::foreign::is_archive(&key) && !there.contains(&folder) {
                report.slices.missing += self.forget_all_but(name, folder, BTreeSet::new()).await?;
            }
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
