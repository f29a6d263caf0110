//! What other tools leave in a storage: each of them has its own order of things, and one line in a list.

use async_trait::async_trait;

use super::{mongodump_layout, pbm_layout};
use crate::artifact::manifest::Manifest;
use crate::domain::key::Key;
use crate::domain::pitr::{Archive, Slice};
use crate::error::{Error, Result};
use crate::storage::{ObjectInfo, Storage};

/// A tool that backs up into folders of a storage.
#[async_trait]
pub trait ForeignTool: Send + Sync {
    /// Whether this folder (empty: the storage's root) is one of those. Cheap: it is asked of every folder.
    async fn is_here(&self, storage: &dyn Storage, folder: &str) -> Result<bool>;

    /// Which of the objects that lie directly in a folder are backups of the tool, each by itself.
    async fn among(&self, storage: &dyn Storage, objects: &[ObjectInfo]) -> Result<Among> {
        let _ = (storage, objects);
        Ok(Among::default())
    }

    /// Whether the folder `name` in one of those is the tool's own.
    fn has(&self, name: &str) -> bool;

    /// Whether an object is the tool's own. `path`: below `folder`, which is one of those.
    fn owns(&self, folder: &str, path: &str) -> bool;

    /// Whether the oplog that it recorded for one replica set is below `folder`.
    fn is_archive(&self, folder: &Key) -> bool;

    /// Its backups, and the oplog that it recorded. `objects`: what [`ForeignTool::among`] found.
    ///
    /// Errors: what the storage reports. What is wrong with one of them is in the result.
    async fn discover(
        &self,
        storage: &dyn Storage,
        storage_name: &str,
        folder: &str,
        objects: &[ObjectInfo],
    ) -> Result<Discovered>;
}

/// Every tool whose backups are found: one line for each.
static TOOLS: &[&dyn ForeignTool] =
    &[&pbm_layout::Pbm, &mongodump_layout::Mongodump, &mongodump_layout::MongodumpArchives];

/// A folder that a tool backs up into.
pub struct ForeignFolder {
    pub folder: String,
    tool: &'static dyn ForeignTool,
    /// In the folder, and each a backup by itself.
    objects: Vec<ObjectInfo>,
}

impl ForeignFolder {
    /// See [`ForeignTool::has`].
    pub fn has(&self, name: &str) -> bool {
        self.tool.has(name)
    }

    /// Whether an object is the tool's own.
    pub fn owns(&self, key: &Key) -> bool {
        let path = match self.folder.as_str() {
            "" => Some(key.as_str()),
            folder => key.as_str().strip_prefix(folder).and_then(|path| path.strip_prefix('/')),
        };
        let is_below = path.is_some_and(|path| self.tool.owns(&self.folder, path));
        is_below || self.objects.iter().any(|object| object.key == *key)
    }

    /// See [`ForeignTool::discover`]. What `is_known` in this size, good and under its key as its name, is not read again.
    pub async fn discover(
        &self,
        storage: &dyn Storage,
        storage_name: &str,
        is_known: &(dyn Fn(&str, u64) -> bool + Sync),
    ) -> Result<Discovered> {
        let (known, unknown): (Vec<ObjectInfo>, Vec<ObjectInfo>) =
            self.objects.iter().cloned().partition(|object| is_known(object.key.as_str(), object.size));
        let found = self.tool.discover(storage, storage_name, &self.folder, &unknown).await?;
        Ok(Discovered { unchanged: known.into_iter().map(|object| object.key.as_str().to_owned()).collect(), ..found })
    }
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub struct Discovered {
    pub backups: Vec<ForeignBackup>,
    /// The names of those that were not read again.
    pub unchanged: Vec<String>,
    pub archives: Vec<ForeignArchive>,
}

/// A backup, or why it cannot be read or restored.
#[derive(Debug)]
pub struct ForeignBackup {
    pub name: String,
    pub read: std::result::Result<Manifest, Error>,
}

/// The recorded oplog of one replica set.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignArchive {
    /// The service that it is listed under.
    pub service: String,
    pub archive: Archive,
    /// Where its slices are.
    pub key: Key,
    pub slices: Vec<Slice>,
}

/// What [`ForeignTool::among`] finds.
#[derive(Debug, Default)]
pub struct Among {
    pub backups: Vec<ObjectInfo>,
    /// There were so many objects that not all of them were looked into.
    pub are_more: bool,
}

/// The tools that back up into `folder`, in which `objects` lie directly; and whether these are so many that not all of
/// them were looked into.
pub async fn in_folder(
    storage: &dyn Storage,
    folder: &str,
    objects: &[ObjectInfo],
) -> Result<(Vec<ForeignFolder>, bool)> {
    let mut found = Vec::new();
    for tool in TOOLS {
        if tool.is_here(storage, folder).await? {
            found.push(ForeignFolder { folder: folder.to_owned(), tool: *tool, objects: Vec::new() });
        }
    }
    let unknown: Vec<ObjectInfo> =
        objects.iter().filter(|object| !found.iter().any(|f| f.owns(&object.key))).cloned().collect();
    let (among, are_more) = among(storage, folder, &unknown).await?;
    found.extend(among);
    Ok((found, are_more))
}

/// The same of `objects` alone, each of which may be a backup by itself.
pub async fn among(storage: &dyn Storage, folder: &str, objects: &[ObjectInfo]) -> Result<(Vec<ForeignFolder>, bool)> {
    let (mut found, mut are_more) = (Vec::new(), false);
    for tool in TOOLS {
        let Among { backups: objects, are_more: more } = tool.among(storage, objects).await?;
        are_more |= more;
        if !objects.is_empty() {
            found.push(ForeignFolder { folder: folder.to_owned(), tool: *tool, objects });
        }
    }
    Ok((found, are_more))
}

/// See [`ForeignTool::is_archive`].
pub fn is_archive(folder: &Key) -> bool {
    TOOLS.iter().any(|tool| tool.is_archive(folder))
}
