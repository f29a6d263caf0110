//! From a configuration to a storage: one line for each backend.

use std::path::Path;
use std::sync::Arc;

use super::Storage;
use super::filesystem::Filesystem;
use super::hinted::Hinted;
use super::s3::S3;
use crate::domain::storage::StorageConfig;
use crate::error::Result;

/// Opens the storage of `config`. Contacts nothing: what cannot be reached fails at the first call.
pub async fn open(config: &StorageConfig) -> Result<Arc<dyn Storage>> {
    let storage: Arc<dyn Storage> = match config {
        StorageConfig::Filesystem { path } => Arc::new(Filesystem::new(Path::new(path))),
        StorageConfig::S3(s3) => Arc::new(S3::new(s3).await?),
    };
    Ok(Arc::new(Hinted::new(storage)))
}

/// The same for what goes on for ever: nothing is held open between calls, so that a disk may be unmounted, and each goes
/// to what is there then.
pub async fn open_unheld(config: &StorageConfig) -> Result<Arc<dyn Storage>> {
    match config {
        StorageConfig::Filesystem { path } => Ok(Arc::new(Hinted::new(Arc::new(Filesystem::unheld(Path::new(path)))))),
        StorageConfig::S3(_) => open(config).await,
    }
}
