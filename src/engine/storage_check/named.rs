//! What the manifest of a backup names, compared with what a listing shows: for a check, and for a sync.

use std::collections::HashMap;

use super::known::{confirmed, missing_words, more_wrong};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Envelope, Manifest};
use crate::domain::storage_check::{Finding, FindingKind, Findings};
use crate::domain::text::escape;
use crate::engine::blocks::BlockEntry;
use crate::engine::find::Found;
use crate::engine::{backup_reader, engine};
use crate::error::{ErrorKind, Result};
use crate::storage::{Key, Storage};

/// A manifest, or why there is none to count with.
pub enum Read {
    /// It went while it was looked for.
    Gone,
    /// It is of no use, and why.
    Unreadable(String),
    Backup(Box<Envelope>, Named),
}

/// What a manifest names.
pub struct Named {
    /// By path: what the listing has not shown yet.
    wanted: HashMap<String, u64>,
    /// Path and size of what the listing shows otherwise.
    wrong: Vec<(String, u64)>,
    /// Shared with the other backups of the folder.
    pub blocks: Vec<BlockEntry>,
}

/// Reads the manifest of `found`, which has one.
///
/// Errors: what keeps it from being read now: it may be sound, and nothing is concluded.
pub async fn read(storage: &dyn Storage, root: &BackupRoot, found: &Found) -> Result<Read> {
    let manifest = match backup_reader::read_manifest(storage, root).await {
        Ok(manifest) => manifest,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Read::Gone),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
            return Ok(Read::Unreadable(e.full()));
        }
        Err(e) => return Err(e),
    };
    let envelope = &manifest.envelope;
    if envelope.name != found.name || envelope.folder != found.folder {
        let (name, folder) = (escape(&envelope.name), escape(&envelope.folder));
        return Ok(Read::Unreadable(format!(
            "its manifest is that of backup {name} in folder {folder:?}; move it back to where it was made"
        )));
    }
    Ok(match named(&manifest) {
        Ok(Ok(named)) => Read::Backup(Box::new(manifest.envelope), named),
        Ok(Err(why)) => Read::Unreadable(why),
        Err(e) => Read::Unreadable(e.full()),
    })
}

/// What it names, or why it cannot be true: whoever counts with such a manifest takes others with it.
fn named(manifest: &Manifest) -> Result<std::result::Result<Named, String>> {
    let engine = engine(manifest.envelope.engine, manifest.envelope.model)?;
    if let Some(what) = engine.implausible(manifest)?.into_iter().next() {
        return Ok(Err(format!("its manifest cannot be true: {}", escape(&what))));
    }
    let wanted = engine.objects(manifest)?.into_iter().map(|object| (object.path, object.size)).collect();
    Ok(Ok(Named { wanted, wrong: Vec::new(), blocks: engine.blocks(manifest)? }))
}

impl Named {
    /// An object of the listing, by its path below the root of the backup. Returns whether the manifest names it.
    pub fn object(&mut self, path: &str, size: u64) -> bool {
        match self.wanted.remove(path) {
            Some(expected) if expected == size => true,
            Some(expected) => {
                self.wrong.push((path.to_owned(), expected));
                true
            }
            None => false,
        }
    }

    /// What is missing or of another size, as each object says when it is asked: a listing may be late. Returns why the
    /// backup is not whole.
    ///
    /// Errors: what the storage reports.
    pub async fn missing(
        &self,
        storage: &dyn Storage,
        root: &BackupRoot,
        found: &Found,
        findings: &mut Findings,
    ) -> Result<Option<String>> {
        let unconfirmed = self.wanted.iter().map(|(path, size)| (path, *size));
        let unconfirmed = unconfirmed.chain(self.wrong.iter().map(|(path, size)| (path, *size)));
        let mut asked: Vec<(Key, u64, ())> =
            unconfirmed.map(|(path, size)| Ok((root.key().join(path)?, size, ()))).collect::<Result<_>>()?;
        asked.sort_by(|a, b| a.0.cmp(&b.0));
        let wrong = confirmed(storage, asked).await?;
        let first = wrong.first().map(|(key, size, (), there)| (key.clone(), missing_words(*there, *size)));
        let more = wrong.len().saturating_sub(1) as u64;
        for (key, size, (), there) in wrong {
            let kind = if there.is_some() { FindingKind::WrongSize } else { FindingKind::MissingObject };
            let finding = Finding::new(kind, &found.folder, Some(&found.name), missing_words(there, size));
            findings
                .push(finding.object(&key, size).remedy("use another backup for what it holds, and make a new one"));
        }
        let Some((key, what)) = first else { return Ok(None) };
        Ok(Some(format!("{}: {what}{}", escape(key.as_str()), more_wrong(more, "object"))))
    }
}
