//! The manifest of a physical backup: the envelope, and beside it the files and the blocks they are made of.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::local_member::FolderOptions;
use crate::artifact::checksummed_json;
use crate::artifact::keys::Keys;
use crate::artifact::manifest::Envelope;
use crate::engine::blocks::BlockEntry;
use crate::engine::blocks::naming::{Naming, Opening};
use crate::error::{Error, ErrorKind, Result};

/// How a consistent copy was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyMethod {
    /// The server was locked while what had changed was read.
    LockedRead,
    /// The server was locked while its files were cloned.
    LockedClone,
    /// The server keeps the files of a checkpoint (`$backupCursor`).
    BackupCursor,
}

impl CopyMethod {
    pub fn in_words(self) -> &'static str {
        match self {
            Self::LockedRead => "read, the last changes while the server was locked",
            Self::LockedClone => "cloned while the server was locked",
            Self::BackupCursor => "from a backup cursor, without a lock",
        }
    }
}

/// An envelope with more in it: it is read as one, too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhysicalManifest {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub copy_method: CopyMethod,
    /// The term of `consistent_at_ts`.
    pub consistent_at_term: i64,
    pub folder_options: FolderOptions,
    /// The replica set's configuration, as canonical Extended JSON.
    pub replica_set_config: serde_json::Value,
    /// Bytes of a block before compression.
    pub block_bytes: u64,
    /// In the order of their names.
    pub blocks: Vec<BlockEntry>,
    /// Relative paths and modes; the data folder itself is the empty path.
    pub folders: BTreeMap<String, u32>,
    /// In the order of their paths.
    pub files: Vec<FileEntry>,
    /// Blocks that were sent for this backup.
    pub new_blocks: u64,
    /// Of an encrypted one: the key to the names of its blocks, itself encrypted as an armored file of age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_key: Option<String>,
}

/// One file of the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the data folder.
    pub path: String,
    pub mode: u32,
    pub size: u64,
    /// One for each `block_bytes` of the file: the index in `blocks`; `null` where the file holds nothing but zeros.
    pub blocks: Vec<Option<u32>>,
}

impl PhysicalManifest {
    /// What opens its blocks. `keys`: what opens the backup.
    ///
    /// Errors: `Corrupt` where it does not say how its blocks are named.
    pub fn opening(&self, keys: Keys) -> Result<Opening> {
        let naming = match (&self.envelope.encryption, &self.block_key) {
            (None, _) => Naming::PLAIN,
            (Some(_), Some(sealed)) => Naming::opened(sealed, &keys)?,
            (Some(_), None) => {
                let name = crate::domain::text::escape(&self.envelope.name);
                let what = format!("the manifest of backup {name} lacks the key to the names of its blocks");
                return Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup"));
            }
        };
        Ok(Opening { keys, naming })
    }

    /// The manifest as it is stored, with its checksum (see [`checksummed_json`]).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        checksummed_json::to_bytes(self)
    }

    /// The paths of the files that each of `blocks` (indices) is a part of.
    pub fn files_with(&self, blocks: impl Iterator<Item = u32>) -> HashMap<u32, Vec<&str>> {
        let mut files: HashMap<u32, Vec<&str>> = blocks.map(|index| (index, Vec::new())).collect();
        for file in &self.files {
            let mut named: Vec<u32> = file.blocks.iter().flatten().copied().filter(|n| files.contains_key(n)).collect();
            named.sort_unstable();
            named.dedup();
            for index in named {
                files.entry(index).or_default().push(&file.path);
            }
        }
        files
    }

    /// What cannot be, as sentences; empty when all is well.
    pub fn impossible(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.block_bytes == 0 || self.block_bytes > 1 << 30 {
            return vec![format!("blocks of {} bytes", self.block_bytes)];
        }
        for pair in self.blocks.windows(2) {
            if pair[0].name >= pair[1].name {
                found.push(format!("block {} is named twice or out of order", pair[1].name));
            }
        }
        found.extend(self.blocks.iter().filter_map(|block| block.hash().err()).map(|e| e.full()));
        for pair in self.files.windows(2) {
            if pair[0].path >= pair[1].path {
                found.push(format!("file {} is named twice or out of order", pair[1].path));
            }
        }
        let mut used = vec![false; self.blocks.len()];
        for file in &self.files {
            if file.blocks.len() as u64 != file.size.div_ceil(self.block_bytes) {
                found.push(format!("file {} of {} bytes has {} blocks", file.path, file.size, file.blocks.len()));
            }
            for index in file.blocks.iter().flatten() {
                match used.get_mut(*index as usize) {
                    Some(used) => *used = true,
                    None => found.push(format!("file {} names a block that is not listed", file.path)),
                }
            }
            if super::data_folder::inside(std::path::Path::new("/"), &file.path).is_err() || file.path.is_empty() {
                found.push(format!("{} is no path of a file", file.path));
            }
        }
        found.extend(
            self.folders
                .keys()
                .filter(|path| super::data_folder::inside(std::path::Path::new("/"), path).is_err())
                .map(|path| format!("{path} is no path of a folder")),
        );
        if let Some(unused) = used.iter().position(|used| !used) {
            found.push(format!("block {} belongs to no file", self.blocks[unused].name));
        }
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        if sum(&mut self.files.iter().map(|file| file.size)) != self.envelope.uncompressed_bytes {
            found.push("the sizes of the files do not add up to what the backup says".into());
        }
        if sum(&mut self.blocks.iter().map(|block| block.size)) != self.envelope.size_bytes {
            found.push("the sizes of the blocks do not add up to what the backup says".into());
        }
        found
    }

    /// Errors: `Corrupt` for a manifest that contradicts itself.
    pub fn must_be_possible(&self) -> Result<()> {
        let Some(first) = self.impossible().into_iter().next() else { return Ok(()) };
        let name = crate::domain::text::escape(&self.envelope.name);
        let first = crate::domain::text::escape(&first);
        Err(Error::new(ErrorKind::Corrupt, format!("the manifest of backup {name} contradicts itself: {first}"))
            .hint("use another backup"))
    }
}

impl Deref for PhysicalManifest {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.envelope
    }
}
