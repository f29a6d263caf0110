//! What other tools leave in a storage: each of them has its own order of things, and one line in a list.

use async_trait::async_trait;

use super::{mongodump_layout, pbm_layout};
use crate::artifact::manifest::Manifest;
use crate::domain::key::Key;
use crate::domain::pitr::{Archive, Slice};
use crate::error::{Error, Result};
use crate::storage::Storage;

/// A tool that backs up into folders of a storage.
#[async_trait]
pub trait ForeignTool: Send + Sync {
    /// Whether this folder (empty: the storage's root) is one of those. Cheap: it is asked of every folder.
    async fn is_here(&self, storage: &dyn Storage, folder: &str) -> Result<bool>;

    /// Whether the folder `name` in one of those is the tool's own.
    fn has(&self, name: &str) -> bool;

    /// Whether an object is the tool's own. `path`: below `folder`, which is one of those.
    fn owns(&self, folder: &str, path: &str) -> bool;

    /// Whether the oplog that it recorded for one replica set is below `folder`.
    fn is_archive(&self, folder: &Key) -> bool;

    /// Its backups, and the oplog that it recorded.
    ///
    /// Errors: what the storage reports. What is wrong with one of them is in the result.
    async fn discover(&self, storage: &dyn Storage, storage_name: &str, folder: &str) -> Result<Discovered>;
}

/// Every tool whose backups are found: one line for each.
static TOOLS: &[&dyn ForeignTool] = &[&pbm_layout::Pbm, &mongodump_layout::Mongodump];

/// A folder that a tool backs up into.
pub struct ForeignFolder {
    pub folder: String,
    tool: &'static dyn ForeignTool,
}

impl ForeignFolder {
    /// See [`ForeignTool::has`].
    pub fn has(&self, name: &str) -> bool {
        self.tool.has(name)
    }

    /// Whether an object is the tool's own. `path`: below this folder.
    pub fn owns(&self, path: &str) -> bool {
        self.tool.owns(&self.folder, path)
    }

    /// See [`ForeignTool::discover`].
    pub async fn discover(&self, storage: &dyn Storage, storage_name: &str) -> Result<Discovered> {
        self.tool.discover(storage, storage_name, &self.folder).await
    }
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub struct Discovered {
    pub backups: Vec<ForeignBackup>,
    pub archives: Vec<ForeignArchive>,
}

/// A backup, or why it cannot be read or restored.
#[derive(Debug)]
pub struct ForeignBackup {
    pub name: String,
    pub read: std::result::Result<Manifest, Error>,
}

/// The recorded oplog of one replica set.
#[derive(Debug)]
pub struct ForeignArchive {
    /// The service that it is listed under.
    pub service: String,
    pub archive: Archive,
    /// Where its slices are.
    pub key: Key,
    pub slices: Vec<Slice>,
}

/// The tools that back up into `folder`.
pub async fn in_folder(storage: &dyn Storage, folder: &str) -> Result<Vec<ForeignFolder>> {
    let mut found = Vec::new();
    for tool in TOOLS {
        if tool.is_here(storage, folder).await? {
            found.push(ForeignFolder { folder: folder.to_owned(), tool: *tool });
        }
    }
    Ok(found)
}

/// See [`ForeignTool::is_archive`].
pub fn is_archive(folder: &Key) -> bool {
    TOOLS.iter().any(|tool| tool.is_archive(folder))
}
