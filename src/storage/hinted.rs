//! A storage whose failures all say what to do about them.
//!
//! A backend gives its own hint where it knows more. This one is the last: a failure of a storage that reaches a person
//! never comes without one.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};

use super::{Freeing, InFlight, Key, Level, ObjectInfo, OldVersions, PutMode, Storage, Unfinished, Upload};
use crate::error::{Error, ErrorKind, Result};

/// Gives the failures of `inner` a hint where they have none.
pub struct Hinted(Arc<dyn Storage>);

impl Hinted {
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self(inner)
    }
}

fn hinted(error: Error) -> Error {
    if error.hint_text().is_some() {
        return error;
    }
    let hint = match error.kind() {
        // A person stopped it.
        ErrorKind::Cancelled | ErrorKind::LeftRunning => return error,
        ErrorKind::Unreachable => "check that the storage is up, and the way between here and it",
        ErrorKind::Transient | ErrorKind::Interrupted => {
            "this may pass; if it stays, mongokeep storage test STORAGE shows which step fails"
        }
        ErrorKind::Denied => {
            "give the user that the daemon runs as, or the key of the storage, the right to read, write, list and delete there"
        }
        ErrorKind::Unauthenticated => "check the credentials of the storage",
        ErrorKind::StorageFull => "delete old backups, or give the storage more room",
        ErrorKind::NotFound => "it was deleted or never written; mongokeep storage sync STORAGE shows what is there",
        ErrorKind::Conflict => "something else is there; mongokeep storage sync STORAGE shows what",
        ErrorKind::Corrupt => {
            "what is stored is not what was written; use another backup, and look for who changes objects there"
        }
        ErrorKind::Invalid => "correct the storage: mongokeep storage edit STORAGE",
        ErrorKind::Unsupported => "use another storage, or a newer version of its server",
        ErrorKind::Failed => "mongokeep storage test STORAGE shows which step fails",
        ErrorKind::Internal => "this is a bug in mongokeep; its log says more",
    };
    error.hint(hint)
}

#[async_trait]
impl Storage for Hinted {
    fn place(&self) -> String {
        self.0.place()
    }

    fn part_size(&self) -> usize {
        self.0.part_size()
    }

    fn in_flight(&self) -> Option<&InFlight> {
        self.0.in_flight()
    }

    async fn put(&self, key: &Key, body: Bytes, mode: PutMode) -> Result<()> {
        self.0.put(key, body, mode).await.map_err(hinted)
    }

    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        let inner = self.0.upload(key).await.map_err(hinted)?;
        Ok(Box::new(HintedUpload(inner)))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let stream = self.0.get(key, range).await.map_err(hinted)?;
        Ok(stream.map(|chunk| chunk.map_err(hinted)).boxed())
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.0.stat(key).await.map_err(hinted)
    }

    async fn list(&self, prefix: Option<&Key>) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
        let stream = self.0.list(prefix).await.map_err(hinted)?;
        Ok(stream.map(|object| object.map_err(hinted)).boxed())
    }

    async fn list_level(&self, prefix: Option<&Key>) -> Result<Level> {
        self.0.list_level(prefix).await.map_err(hinted)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.0.delete(key).await.map_err(hinted)
    }

    async fn sweep_older(&self, prefix: &Key, age: Duration) -> Result<u64> {
        self.0.sweep_older(prefix, age).await.map_err(hinted)
    }

    async fn unfinished(&self, most: usize) -> Result<Option<Vec<Unfinished>>> {
        self.0.unfinished(most).await.map_err(hinted)
    }

    async fn freeing(&self, key: &Key) -> Result<Option<Freeing>> {
        self.0.freeing(key).await.map_err(hinted)
    }

    async fn old_versions(&self) -> Result<Option<OldVersions>> {
        self.0.old_versions().await.map_err(hinted)
    }

    async fn tells_cases_apart(&self) -> Result<bool> {
        self.0.tells_cases_apart().await.map_err(hinted)
    }

    async fn free_space(&self) -> Result<Option<u64>> {
        self.0.free_space().await.map_err(hinted)
    }
}

struct HintedUpload(Box<dyn Upload>);

#[async_trait]
impl Upload for HintedUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<()> {
        self.0.part(number, body).await.map_err(hinted)
    }

    async fn finish(&self, parts: u32) -> Result<()> {
        self.0.finish(parts).await.map_err(hinted)
    }

    async fn abort(&self) -> Result<()> {
        self.0.abort().await.map_err(hinted)
    }
}
