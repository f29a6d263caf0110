//! Names and contents of objects in a storage.

use bytes::Bytes;
use mongokeep::storage::Key;

pub fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes that repeat nowhere near a part boundary.
pub fn noise(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes.into()
}
