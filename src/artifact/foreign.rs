//! Objects that another tool wrote: how they are read, and what is known of them.
//!
//! Their metadata is not ours, so that less is known: the number of documents never, size and checksum of the contents
//! only for some. What is known is compared, and nothing is made up for what is not.

use serde::{Deserialize, Serialize};

use super::codec::Encoded;
use crate::domain::key::Key;
use crate::error::Result;

/// One object, which may lie in several pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignObject {
    /// Relative to where the backup lies, or to the storage.
    pub path: String,
    /// Bytes as stored, of all pieces. Where the first object has fewer, the rest follows in `<path>.pbmpart.1` and so on.
    pub size: u64,
    pub encoded: Encoded,
    /// Bytes of BSON, and the CRC-64 (ECMA, as XZ has it) of them.
    pub uncompressed: Option<u64>,
    pub crc64: Option<u64>,
}

/// Where piece `number` of the object at `key` lies; 0 is the first.
pub fn piece(key: &Key, number: u32) -> Result<Key> {
    if number == 0 { Ok(key.clone()) } else { Key::new(format!("{key}.pbmpart.{number}")) }
}

/// The first piece of the object that a piece at `path` belongs to, and its place among them.
pub fn piece_of(path: &str) -> (&str, u32) {
    let piece = path.rsplit_once(".pbmpart.").and_then(|(first, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        Some((first, number.parse::<u32>().ok().filter(|n| is_number && *n > 0 && !first.is_empty())?))
    });
    piece.unwrap_or((path, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_told_apart_by_their_names() {
        assert_eq!(piece_of("b/rs0/a.x.s2.pbmpart.12"), ("b/rs0/a.x.s2", 12));
        for whole in ["b/a.x.s2", "a.pbmpart.", "a.pbmpart.x", "a.pbmpart.0", "a.pbmpart.+1", ".pbmpart.1"] {
            assert_eq!(piece_of(whole), (whole, 0));
        }
        let key = Key::new("x/a").unwrap();
        assert_eq!(piece(&key, 0).unwrap(), key);
        assert_eq!(piece(&key, 12).unwrap().as_str(), "x/a.pbmpart.12");
    }
}
