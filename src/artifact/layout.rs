//! Where the objects of a backup lie.
//!
//! ```text
//! <folder>/backups/<name>/attempt.json                                     first, created conditionally
//!                         data/<db>/<collection>/00000.bson.zst ...        parts
//!                         data/<db>/<collection>.metadata.json
//!                         oplog/00001.bson.zst ...                         begin to end of the dump
//!                         manifest.json                                    last; nothing without it is a backup
//! ```
//!
//! Databases and collections are escaped as mongo-tools does it (`util.EscapeCollectionName`), so that names from a
//! server can never leave their folder.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha1::{Digest, Sha1};

use super::codec::Codec;
use crate::domain::key::Key;
use crate::domain::namespace::Namespace;
use crate::error::Result;

/// The version of the format this program writes.
pub const FORMAT_VERSION: u32 = 1;

/// The root of one backup's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRoot(Key);

impl BackupRoot {
    /// `folder` may be empty: the storage's own root.
    pub fn new(folder: &str, name: &str) -> Result<Self> {
        crate::domain::name::check_folder("folder", folder)?;
        crate::domain::name::check("name", name)?;
        let below = format!("backups/{name}");
        Ok(Self(if folder.is_empty() { Key::new(below)? } else { Key::new(format!("{folder}/{below}"))? }))
    }

    pub fn key(&self) -> &Key {
        &self.0
    }

    pub fn manifest(&self) -> Result<Key> {
        self.0.join("manifest.json")
    }

    pub fn attempt(&self) -> Result<Key> {
        self.0.join("attempt.json")
    }

    /// Part `number` of a collection.
    pub fn part(&self, ns: &Namespace, number: u32, codec: Codec) -> Result<Key> {
        self.0.join(&format!("data/{}/{}/{number:05}.bson{}", escape(&ns.db), escape(&ns.collection), codec.suffix()))
    }

    pub fn metadata(&self, ns: &Namespace) -> Result<Key> {
        self.0.join(&format!("data/{}/{}.metadata.json", escape(&ns.db), escape(&ns.collection)))
    }

    pub fn oplog_part(&self, number: u32, codec: Codec) -> Result<Key> {
        self.0.join(&format!("oplog/{number:05}.bson{}", codec.suffix()))
    }
}

/// A name as mongo-tools writes it in a file name: query-escaped (space becomes `+`; letters, digits and `-_.~` stay);
/// above 238 bytes the first 208, `%24`, and the base64url SHA-1 of the raw name.
pub fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    if out.len() > 238 {
        let digest = Sha1::digest(name.as_bytes());
        out = format!("{}%24{}", &out[..208], URL_SAFE_NO_PAD.encode(digest));
    }
    // Only these two would be read as the folder itself or its parent; no server accepts them as a database.
    match out.as_str() {
        "." => "%2E".into(),
        ".." => "%2E%2E".into(),
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::backup::Compression;

    #[test]
    fn names_are_escaped_as_mongo_tools_does() {
        assert_eq!(escape("orders.2026-x_~"), "orders.2026-x_~");
        assert_eq!(escape("a b/c%é\u{1b}"), "a+b%2Fc%25%C3%A9%1B");
        assert_eq!(escape(".."), "%2E%2E");
        let long = escape(&"x".repeat(239));
        assert_eq!(long.len(), 208 + 3 + 27);
        assert!(long.starts_with(&format!("{}%24", "x".repeat(208))));
    }

    #[test]
    fn a_backup_may_be_called_oplog() {
        let root = BackupRoot::new("prod", "oplog").unwrap();
        assert_eq!(root.manifest().unwrap().as_str(), "prod/backups/oplog/manifest.json");
        let ns = Namespace::new("..", "../x");
        assert_eq!(
            root.part(&ns, 3, Codec::new(Compression::Zstd(1))).unwrap().as_str(),
            "prod/backups/oplog/data/%2E%2E/..%2Fx/00003.bson.zst"
        );
        assert!(BackupRoot::new("../a", "b").is_err());
    }
}
