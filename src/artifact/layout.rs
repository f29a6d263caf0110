//! Where the objects of a backup lie.
//!
//! ```text
//! <folder>/backups/<name>/attempt.json                                     first, created conditionally
//!                         data/<db>/<collection>/00000.bson.zst ...        parts
//!                         data/<db>/<collection>.metadata.json
//!                         oplog/00001.bson.zst ...                         begin to end of the dump
//!                         manifest.json                                    last; nothing without it is a backup
//! <folder>/blocks/<2 hex digits>/<64 hex digits>.zst ...                   blocks of files, shared by physical backups
//!                 collector.json                                           who removes blocks now
//! ```
//!
//! Databases and collections are escaped as mongo-tools does it (`util.EscapeCollectionName`), so that names from a
//! server can never leave their folder.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha1::{Digest, Sha1};

use super::codec::Codec;
use crate::domain::backup::{Backup, Compression};
use crate::domain::key::Key;
use crate::domain::namespace::Namespace;
use crate::domain::service::EngineKind;
use crate::error::Result;

/// The version of the format this program writes.
pub const FORMAT_VERSION: u32 = 1;

/// The root of one backup's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupRoot {
    key: Key,
    layout: Layout,
}

/// Whose order the objects of a backup are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// That of the module's documentation.
    Own,
    /// Percona Backup for MongoDB: `<folder>/<name>/` and `<folder>/<name>.pbm.json`, which says that it is a backup.
    Pbm,
    /// `mongodump`: a folder of databases, and a `prelude.json`, gzipped or not.
    Mongodump { gzipped: bool },
    /// `mongodump --archive`: the root is the one object that there is.
    MongodumpArchive,
}

impl BackupRoot {
    /// `folder` may be empty: the storage's own root.
    pub fn new(folder: &str, name: &str) -> Result<Self> {
        crate::domain::name::check_folder("folder", folder)?;
        crate::domain::name::check("name", name)?;
        let below = format!("backups/{name}");
        let key = if folder.is_empty() { Key::new(below)? } else { Key::new(format!("{folder}/{below}"))? };
        Ok(Self { key, layout: Layout::Own })
    }

    /// That of a backup of PBM in its storage, which is `folder`.
    pub fn pbm(folder: &str, name: &str) -> Result<Self> {
        crate::domain::name::check_folder("folder", folder)?;
        crate::domain::name::check("name", &name.replace(':', "-"))?;
        let key = if folder.is_empty() { Key::new(name)? } else { Key::new(format!("{folder}/{name}"))? };
        Ok(Self { key, layout: Layout::Pbm })
    }

    /// That of a dump: `folder` itself.
    pub fn mongodump(folder: &str, gzipped: bool) -> Result<Self> {
        crate::domain::name::check_folder("folder", folder)?;
        Ok(Self { key: Key::new(folder)?, layout: Layout::Mongodump { gzipped } })
    }

    /// That of a dump in one object, which is called `name`.
    pub fn mongodump_archive(name: &str) -> Result<Self> {
        crate::domain::name::check_backup("name", name)?;
        Ok(Self { key: Key::new(name)?, layout: Layout::MongodumpArchive })
    }

    /// That of a backup in the catalogue.
    pub fn of(backup: &Backup) -> Result<Self> {
        match backup.engine {
            // What PBM made for us has a manifest of ours.
            EngineKind::Pbm if backup.pbm_name.is_none() => Self::pbm(&backup.folder, &backup.name),
            // A folder has its own path for a name, an archive lies in its folder.
            EngineKind::Mongodump if backup.folder != backup.name => Self::mongodump_archive(&backup.name),
            EngineKind::Mongodump => Self::mongodump(&backup.folder, backup.compression != Compression::None),
            EngineKind::Native | EngineKind::Pbm => Self::new(&backup.folder, &backup.name),
        }
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The blocks that the backups of the same folder share.
    pub fn blocks(&self) -> Result<BlocksRoot> {
        let path = self.key.as_str();
        let folder = path.rsplit_once("backups/").map_or("", |(folder, _)| folder);
        BlocksRoot::new(folder.trim_end_matches('/'))
    }

    /// The object without which there is no backup.
    pub fn manifest(&self) -> Result<Key> {
        match self.layout {
            Layout::Own => self.key.join("manifest.json"),
            Layout::Pbm => Key::new(format!("{}.pbm.json", self.key)),
            Layout::Mongodump { gzipped: false } => self.key.join("prelude.json"),
            Layout::Mongodump { gzipped: true } => self.key.join("prelude.json.gz"),
            Layout::MongodumpArchive => Ok(self.key.clone()),
        }
    }

    /// Whether something can lie below the root: some servers do not even want to be asked for what is below an object.
    pub fn is_folder(&self) -> bool {
        self.layout != Layout::MongodumpArchive
    }

    pub fn attempt(&self) -> Result<Key> {
        self.key.join("attempt.json")
    }

    /// Part `number` of a collection.
    pub fn part(&self, ns: &Namespace, number: u32, codec: &Codec) -> Result<Key> {
        self.key.join(&format!("data/{}/{}/{number:05}.bson{}", escape(&ns.db), escape(&ns.collection), codec.suffix()))
    }

    /// `codec`: that of the parts. Metadata is small, and not compressed.
    pub fn metadata(&self, ns: &Namespace, codec: &Codec) -> Result<Key> {
        let (db, collection, suffix) = (escape(&ns.db), escape(&ns.collection), codec.uncompressed().suffix());
        self.key.join(&format!("data/{db}/{collection}.metadata.json{suffix}"))
    }

    pub fn oplog_part(&self, number: u32, codec: &Codec) -> Result<Key> {
        self.key.join(&format!("oplog/{number:05}.bson{}", codec.suffix()))
    }
}

/// The folder at the root of a storage in which installations keep copies of their stores: one folder for each of them,
/// one object for each copy, whose names are in the order of their times.
pub const STATE_FOLDER: &str = ".mongokeep-state";

/// Where the copies of the store of an installation lie.
pub fn state_folder(home_id: &str) -> Result<Key> {
    Key::new(STATE_FOLDER)?.join(home_id)
}

/// Where the blocks of the physical backups of one folder lie. A block is named by the BLAKE3 of its plain contents, so
/// that every backup of the folder that needs it can use the same object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlocksRoot {
    folder: String,
    key: Key,
}

impl BlocksRoot {
    /// `folder` may be empty: the storage's own root.
    pub fn new(folder: &str) -> Result<Self> {
        crate::domain::name::check_folder("folder", folder)?;
        let key = if folder.is_empty() { Key::new("blocks")? } else { Key::new(format!("{folder}/blocks"))? };
        Ok(Self { folder: folder.to_owned(), key })
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Below which the backups lie that share these blocks.
    pub fn backups(&self) -> Result<Key> {
        if self.folder.is_empty() { Key::new("backups") } else { Key::new(format!("{}/backups", self.folder)) }
    }

    /// The backup `name` of the same folder.
    pub fn backup(&self, name: &str) -> Result<BackupRoot> {
        BackupRoot::new(&self.folder, name)
    }

    /// The object of a block. `name`: 64 hex digits and the suffix of a codec; anything else leads nowhere else.
    pub fn block(&self, name: &str) -> Result<Key> {
        let shard = name.get(..2).filter(|shard| shard.bytes().all(|b| b.is_ascii_hexdigit())).unwrap_or("xx");
        self.key.join(&format!("{shard}/{name}"))
    }

    /// The file name of the block at `key`, if it is one.
    pub fn block_name<'a>(&self, key: &'a Key) -> Option<&'a str> {
        let (shard, name) = key.below(&self.key)?.split_once('/')?;
        let is_block = name.len() >= 64 && name.starts_with(shard) && shard.len() == 2 && !name.contains('/');
        is_block.then_some(name)
    }

    /// The claim of who removes blocks.
    pub fn collector(&self) -> Result<Key> {
        self.key.join("collector.json")
    }

    /// The note that blocks were left which perhaps nobody needs.
    pub fn left(&self) -> Result<Key> {
        self.key.join("left.json")
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
            root.part(&ns, 3, &Codec::new(Compression::Zstd(1))).unwrap().as_str(),
            "prod/backups/oplog/data/%2E%2E/..%2Fx/00003.bson.zst"
        );
        assert!(BackupRoot::new("../a", "b").is_err());
    }
}
