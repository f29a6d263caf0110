//! Blocks: pieces of files, stored once for all the backups of a folder.
//!
//! A block is named by a hash of its plain contents. Whoever makes a backup sends only the blocks that the folder does
//! not have, and its manifest names all that it needs. So no backup depends on another one, and a block may be removed
//! only when no manifest names it: that is [`collector`]'s work, and nobody else removes one.

use std::collections::HashMap;
use std::str::FromStr;

use blake3::Hash;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use crate::artifact::codec::suffix_of;
use crate::artifact::layout::BlocksRoot;
use crate::domain::text::{count, escape};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

pub mod collector;
pub mod left;
pub mod naming;
pub mod sender;

/// Bytes of a block before compression; the last one of a file may be shorter.
pub const BLOCK_BYTES: usize = 4 << 20;

/// A stored block, as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEntry {
    /// The hash of its plain contents in hex (see [`naming`]), and the suffix of its codec: the last part of its key.
    pub name: String,
    /// Bytes as stored.
    pub size: u64,
}

impl BlockEntry {
    /// The hash of its plain contents.
    ///
    /// Errors: `Corrupt` for a name that is none.
    pub fn hash(&self) -> Result<Hash> {
        parse_name(&self.name).map(|(hash, _)| hash).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, format!("{} is not the name of a block", escape(&self.name)))
                .hint("use another backup")
        })
    }
}

/// Hash and suffix of a block's file name.
pub(super) fn parse_name(name: &str) -> Option<(Hash, &'static str)> {
    let suffix = suffix_of(name);
    let hex = name.strip_suffix(suffix)?;
    Some((Hash::from_str(hex).ok()?, suffix))
}

/// What a storage has of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub size: u64,
    pub suffix: &'static str,
}

impl Stored {
    pub fn entry(&self, hash: &Hash) -> BlockEntry {
        BlockEntry { name: format!("{}{}", hash.to_hex(), self.suffix), size: self.size }
    }
}

/// The blocks that a folder has: about 100 bytes of memory for each, 25 MB for each terabyte that is stored.
pub async fn list(storage: &dyn Storage, root: &BlocksRoot) -> Result<HashMap<Hash, Stored>> {
    let mut found = HashMap::new();
    let mut listing = storage.list(Some(root.key())).await?;
    while let Some(object) = listing.next().await {
        let object = object?;
        let Some((hash, suffix)) = root.block_name(&object.key).and_then(parse_name) else { continue };
        // An empty object is what a full disk behind a gateway leaves.
        if object.size > 0 {
            found.insert(hash, Stored { size: object.size, suffix });
        }
    }
    Ok(found)
}

/// Compares the blocks that a manifest is about to name with those that are there.
///
/// Errors: `Interrupted` when one is missing or of another size: somebody removed it meanwhile, and another attempt sends
/// it again.
pub async fn must_be_there(storage: &dyn Storage, root: &BlocksRoot, named: &[BlockEntry]) -> Result<()> {
    let present = list(storage, root).await?;
    let mut wrong = 0_u64;
    let mut first = None;
    for entry in named {
        if present.get(&entry.hash()?).is_none_or(|stored| stored.entry_differs(entry)) {
            wrong += 1;
            first = first.or(Some(entry));
        }
    }
    let Some(first) = first else { return Ok(()) };
    let key = root.block(&first.name)?;
    let more = if wrong > 1 { format!(" (and {} more)", count(wrong - 1)) } else { String::new() };
    let what =
        format!("{} does not hold what this backup needs: {key} is missing or of another size{more}", storage.place());
    Err(Error::new(ErrorKind::Interrupted, what).hint("another attempt sends again what is missing"))
}

impl Stored {
    fn entry_differs(&self, entry: &BlockEntry) -> bool {
        self.size != entry.size || suffix_of(&entry.name) != self.suffix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_known_by_its_name_alone() {
        let root = BlocksRoot::new("prod").unwrap();
        let hash = blake3::hash(b"x");
        for suffix in ["", ".zst", ".gz", ".age", ".zst.age", ".gz.age"] {
            let entry = Stored { size: 3, suffix: suffix_of(suffix) }.entry(&hash);
            let key = root.block(&entry.name).unwrap();
            assert_eq!(key.as_str(), format!("prod/blocks/{}/{}{suffix}", &hash.to_hex()[..2], hash.to_hex()));
            assert_eq!(root.block_name(&key), Some(entry.name.as_str()));
            assert_eq!(parse_name(&entry.name), Some((hash, suffix_of(suffix))));
            assert_eq!(entry.hash().unwrap(), hash);
        }
        assert_eq!(root.block_name(&root.collector().unwrap()), None);
        for bad in ["", "ab", "../../x", &"z".repeat(64), &format!("{}.lz4", hash.to_hex())] {
            assert!(BlockEntry { name: bad.to_owned(), size: 1 }.hash().is_err(), "{bad}");
        }
        assert!(root.block("../../x").is_err());
    }
}
