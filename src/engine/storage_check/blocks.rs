//! The blocks of a folder: what the manifests of its backups name, compared with what goes by in the listing.
//!
//! `<folder>/backups/` comes before `<folder>/blocks/` in the order of keys, so that all names are known by then.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use blake3::Hash;

use super::known::{Place, confirmed, missing_words, more_wrong};
use crate::artifact::layout::BlocksRoot;
use crate::domain::storage_check::{Amount, Finding, FindingKind, Findings, PlannedBlocks, RepairPlan};
use crate::domain::text::{count, escape};
use crate::engine::blocks::{BlockEntry, parse_name};
use crate::engine::{backup_reader, engine};
use crate::error::{ErrorKind, Result};
use crate::storage::{Key, ObjectInfo, Storage};

/// Files named for a missing block; the rest is counted.
const FILES_NAMED: usize = 3;

/// The folders whose blocks have not all gone by, by the first key after them.
#[derive(Default)]
pub struct Blocks(BTreeMap<String, (String, FolderBlocks)>);

/// What is named and what is there.
#[derive(Default)]
pub struct FolderBlocks {
    needed: HashMap<Hash, Needed>,
    /// Named otherwise by another manifest: asked for one by one.
    others: Vec<BlockEntry>,
    unneeded: Amount,
    /// Why no block can be removed now.
    held_up: Option<String>,
    /// The backups that name blocks.
    backups: BTreeSet<String>,
}

struct Needed {
    size: u64,
    suffix: &'static str,
    there: bool,
}

impl Blocks {
    fn folder(&mut self, folder: &str) -> Result<&mut FolderBlocks> {
        // The slash is followed by `0`.
        let end = format!("{}0", BlocksRoot::new(folder)?.key());
        Ok(&mut self.0.entry(end).or_insert_with(|| (folder.to_owned(), FolderBlocks::default())).1)
    }

    /// Whether no backup names a block, and nothing holds any up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a backup names. `held_up`: why nothing may be removed for its sake.
    pub fn backup(&mut self, (folder, name): &Place, named: Vec<BlockEntry>, held_up: Option<String>) -> Result<()> {
        if named.is_empty() && held_up.is_none() {
            return Ok(());
        }
        let blocks = self.folder(folder)?;
        if blocks.held_up.is_none() {
            blocks.held_up = held_up;
        }
        if !named.is_empty() {
            blocks.backups.insert(name.clone());
        }
        for entry in named {
            let Some((hash, suffix)) = parse_name(&entry.name) else { continue };
            let needed = blocks.needed.entry(hash).or_insert(Needed { size: entry.size, suffix, there: false });
            if needed.size != entry.size || needed.suffix != suffix {
                blocks.others.push(entry);
            }
        }
        Ok(())
    }

    /// Whether an object is a block, or what keeps those who remove blocks apart.
    pub fn object(&mut self, object: &ObjectInfo) -> bool {
        let mut parts = object.key.as_str().rsplitn(3, '/');
        let (Some(last), Some(above)) = (parts.next(), parts.next()) else { return false };
        if above == "blocks" && (last == "collector.json" || last == "left.json") {
            return true;
        }
        let Some(root) = parts.next() else { return false };
        let Some(folder) = root.strip_suffix("blocks") else { return false };
        let folder = match folder.strip_suffix('/') {
            Some(folder) => folder,
            None if folder.is_empty() => folder,
            None => return false,
        };
        let Ok(root) = BlocksRoot::new(folder) else { return false };
        let Some((hash, suffix)) = root.block_name(&object.key).and_then(parse_name) else { return false };
        let Ok(blocks) = self.folder(folder) else { return false };
        match blocks.needed.get_mut(&hash) {
            Some(needed) => needed.there |= needed.size == object.size && needed.suffix == suffix,
            None => blocks.unneeded.add(1, object.size),
        }
        true
    }

    /// The next folder whose blocks all come before `key`; without one, the next of all.
    pub fn done_before(&mut self, key: Option<&Key>) -> Option<(String, FolderBlocks)> {
        let first = self.0.first_entry()?;
        (key.is_none_or(|key| first.key().as_str() <= key.as_str())).then(|| first.remove())
    }
}

impl FolderBlocks {
    /// Says what is missing and what nobody needs. Returns the backups that lack blocks, and why.
    ///
    /// Errors: what the storage reports.
    pub async fn close(
        self,
        storage: &dyn Storage,
        folder: &str,
        findings: &mut Findings,
        plan: &mut RepairPlan,
    ) -> Result<Vec<(String, String)>> {
        let root = BlocksRoot::new(folder)?;
        let Amount { objects, bytes } = self.unneeded;
        if objects > 0 {
            let finding =
                Finding::new(FindingKind::UnneededBlocks, folder, None, "no manifest of the folder names them");
            let finding = finding.object(root.key(), 0).of(objects, bytes);
            let finding = match &self.held_up {
                None => finding.removable(),
                Some(why) => finding.remedy(format!("they stay for now: {why}")),
            };
            if findings.push(finding) && self.held_up.is_none() {
                plan.blocks.push(PlannedBlocks { folder: folder.to_owned(), blocks: objects, bytes });
            }
        }
        let mut asked: Vec<(Key, u64, String)> = Vec::new();
        for (hash, needed) in self.needed.into_iter().filter(|(_, needed)| !needed.there) {
            let name = format!("{}{}", hash.to_hex(), needed.suffix);
            asked.push((root.block(&name)?, needed.size, name));
        }
        for entry in self.others {
            asked.push((root.block(&entry.name)?, entry.size, entry.name));
        }
        asked.sort();
        let wrong = confirmed(storage, asked).await?;
        if wrong.is_empty() {
            return Ok(Vec::new());
        }
        let mut damaged = Vec::new();
        for name in &self.backups {
            let of_backup = files_of(storage, &root, name, &wrong).await?;
            let mut first = None;
            let mut lacking = 0_u64;
            for (key, size, block, there) in &wrong {
                let Some(files) = of_backup.get(block) else { continue };
                lacking += 1;
                let shown: Vec<String> = files.iter().take(FILES_NAMED).map(|path| escape(path)).collect();
                let more = files.len().saturating_sub(FILES_NAMED);
                let more = if more > 0 { format!(" and {} more", count(more as u64)) } else { String::new() };
                let what = format!("{}; it is a block of {}{more}", missing_words(*there, *size), shown.join(", "));
                first.get_or_insert_with(|| format!("{key}: {what}"));
                let remedy =
                    "use another backup for these files; the next backup stores the block again if it still needs it";
                let finding = Finding::new(FindingKind::MissingBlock, folder, Some(name), what);
                findings.push(finding.object(key, *size).remedy(remedy));
            }
            if let Some(first) = first {
                damaged.push((name.clone(), first + &more_wrong(lacking.saturating_sub(1), "block")));
            }
        }
        Ok(damaged)
    }
}

/// The files of a backup that each of `wrong` belongs to. Its manifest is read again: files are many, and needed only now.
async fn files_of(
    storage: &dyn Storage,
    root: &BlocksRoot,
    name: &str,
    wrong: &[(Key, u64, String, Option<u64>)],
) -> Result<BTreeMap<String, Vec<String>>> {
    let manifest = match backup_reader::read_manifest(storage, &root.backup(name)?).await {
        Ok(manifest) => manifest,
        // It was sound a moment ago: somebody deletes it.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(BTreeMap::new()),
        Err(e) => return Err(e),
    };
    let names: HashSet<String> = wrong.iter().map(|(_, _, name, _)| name.clone()).collect();
    engine(manifest.envelope.engine, manifest.envelope.model)?.files_of(&manifest, &names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_known_wherever_their_folder_is() {
        let mut blocks = Blocks::default();
        let name = blake3::hash(b"x").to_hex();
        let at = |folder: &str| format!("{folder}blocks/{}/{name}.zst", &name[..2]);
        let mut is = |key: String| blocks.object(&ObjectInfo { key: Key::new(key).unwrap(), size: 5 });
        assert!(is(at("")) && is(at("prod/eu/")) && is("prod/blocks/collector.json".into()));
        assert!(!is(at("x")) && !is("prod/blocks/ab/notes.txt".into()) && !is("blocks/ab".into()));
        let (folder, first) = blocks.done_before(None).unwrap();
        assert_eq!((folder.as_str(), first.unneeded), ("", Amount { objects: 1, bytes: 5 }));
        let after = |key: &str| Some(Key::new(key).unwrap());
        assert!(blocks.done_before(after("prod/eu/blocks/ff/x").as_ref()).is_none(), "more may come");
        assert_eq!(blocks.done_before(after("prod/eu/oplog").as_ref()).unwrap().0, "prod/eu");
    }
}
