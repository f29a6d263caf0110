//! Unfinished uploads, each beside the backup, blocks or recorded oplog that it was to be a part of.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use super::backups::Standing;
use super::pass::Pass;
use crate::domain::storage_check::{Finding, FindingKind, LISTED, PlannedBlocks, PlannedUploads};
use crate::domain::text::utc;
use crate::engine::find::is_archive;
use crate::error::{ErrorKind, Result};
use crate::storage::{Key, Storage, Unfinished};

/// Where several may be writing, what was not written to for so long is nobody's any more.
pub const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Says which there are. Returns how many; `None`: this storage does not say.
pub async fn check(storage: &dyn Storage, pass: &mut Pass<'_>) -> Result<Option<u64>> {
    let not_checked =
        |why: &str| Finding::new(FindingKind::NotChecked, "", None, format!("unfinished uploads: {why}")).of(0, 0);
    let found = match storage.unfinished(usize::try_from(LISTED).unwrap_or(usize::MAX)).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            pass.findings.push(not_checked("this storage does not list them"));
            return Ok(None);
        }
        // The rest of the check says enough.
        Err(e) if e.kind() == ErrorKind::Denied => {
            let remedy = "give the key of the storage the right to list unfinished uploads, or let the bucket end them by itself";
            pass.findings.push(not_checked("the storage refused to list them").remedy(remedy));
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let count = found.len() as u64;
    for upload in found {
        one(pass, upload)?;
    }
    Ok(Some(count))
}

fn one(pass: &mut Pass<'_>, upload: Unfinished) -> Result<()> {
    let Unfinished { key, size, since } = upload;
    let bytes = size.unwrap_or(0);
    let age = since.and_then(|since| SystemTime::now().duration_since(since).ok());
    let is_old = age.is_some_and(|age| age >= ABANDONED);
    let last = since.map(|since| utc(since.into()));
    let aged = last.map_or_else(|| "nobody knows since when".to_owned(), |last| format!("since {last}"));
    let unknown = if size.is_none() { ", of unknown size" } else { "" };
    let (folder, backup) = place(pass, &key);
    let finding = |why: &str| {
        let what = format!("{aged}{unknown}; {why}");
        let mut finding =
            Finding::new(FindingKind::UnfinishedUpload, &folder, backup.as_deref(), what).object(&key, bytes);
        finding.started_at = since.map(DateTime::<Utc>::from);
        finding
    };
    let standing =
        root_of(pass, &key).map(|(prefix, standing)| (prefix.trim_end_matches('/').to_owned(), standing.clone()));
    match standing {
        Some((prefix, Standing::Ours)) => {
            if pass.findings.push(finding("nobody writes to this backup any more").removable()) {
                planned(&mut pass.plan.uploads, &prefix, backup.map(|backup| (folder.clone(), backup)), bytes);
            }
        }
        Some((_, Standing::Abandoned(at))) => {
            pass.findings.push(finding("it goes with the attempt that left it").removable());
            if let Some(attempt) = pass.plan.attempts.get_mut(at) {
                attempt.objects += 1;
                attempt.bytes = attempt.bytes.saturating_add(bytes);
            }
        }
        Some((_, Standing::LeftAlone(why))) => {
            pass.findings.push(finding(&why));
        }
        None => in_between(pass, &key, bytes, is_old, &finding)?,
    }
    Ok(())
}

/// One that is below no backup.
fn in_between(
    pass: &mut Pass<'_>,
    key: &Key,
    bytes: u64,
    is_old: bool,
    finding: &(dyn Fn(&str) -> Finding + Sync),
) -> Result<()> {
    let path = key.as_str();
    let above: Vec<&str> = path.rsplitn(3, '/').collect();
    let in_archive = path.rsplit_once('/').and_then(|(folder, _)| Key::new(folder).ok()).filter(is_archive);
    if let Some(folder) = in_archive {
        if !is_old {
            pass.findings.push(
                finding("recorded oplog may be being written there").remedy("it is removed once it is a day old"),
            );
        } else if pass.findings.push(finding("nobody writes it any more").removable()) {
            planned(&mut pass.plan.uploads, folder.as_str(), None, bytes);
        }
        return Ok(());
    }
    let blocks = match above[..] {
        [_, shard, root] if shard.len() == 2 && (root == "blocks" || root.ends_with("/blocks")) => {
            Some(root.trim_end_matches("blocks").trim_end_matches('/').to_owned())
        }
        _ => None,
    };
    match blocks {
        Some(folder) => {
            // Whoever collects the blocks of the folder ends them.
            let planned = pass.plan.blocks.iter_mut().find(|blocks| blocks.folder == folder);
            match planned {
                Some(blocks) => {
                    if pass.findings.push(finding("it goes with the blocks that no backup needs").removable()) {
                        blocks.blocks += 1;
                        blocks.bytes = blocks.bytes.saturating_add(bytes);
                    }
                }
                None if is_old && !pass.held_up.contains(&folder) => {
                    if pass.findings.push(finding("nobody writes it any more").removable()) {
                        pass.plan.blocks.push(PlannedBlocks { folder, blocks: 1, bytes });
                    }
                }
                None => {
                    pass.findings.push(finding("a block may be being written there"));
                }
            }
        }
        None => {
            pass.findings.push(finding("it is not mongokeep's, or nothing says whose it is; it is never touched"));
        }
    }
    Ok(())
}

fn planned(uploads: &mut Vec<PlannedUploads>, prefix: &str, backup: Option<(String, String)>, bytes: u64) {
    match uploads.iter_mut().find(|uploads| uploads.prefix == prefix) {
        Some(uploads) => {
            uploads.uploads += 1;
            uploads.bytes = uploads.bytes.saturating_add(bytes);
        }
        None => uploads.push(PlannedUploads { prefix: prefix.to_owned(), backup, uploads: 1, bytes }),
    }
}

/// The backup whose root `key` lies below.
fn root_of<'p>(pass: &'p Pass<'_>, key: &Key) -> Option<(&'p String, &'p Standing)> {
    pass.standing.range(..=key.as_str().to_owned()).next_back().filter(|(prefix, _)| key.as_str().starts_with(*prefix))
}

fn place(pass: &Pass<'_>, key: &Key) -> (String, Option<String>) {
    let path = root_of(pass, key).map(|(prefix, _)| prefix.trim_end_matches('/'));
    match path.and_then(|path| path.rsplit_once('/')) {
        Some((folder, name)) => {
            (folder.trim_end_matches("backups").trim_end_matches('/').to_owned(), Some(name.to_owned()))
        }
        None => (key.as_str().rsplit_once('/').map_or("", |(folder, _)| folder).to_owned(), None),
    }
}
