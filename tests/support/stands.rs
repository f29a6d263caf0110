//! The places the conformance suite runs at.

use std::sync::Arc;

use mongokeep::domain::storage::StorageConfig;
use mongokeep::storage::Storage;
use tempfile::TempDir;

/// A storage that is empty, and what keeps it alive.
pub struct Stand {
    storage: Arc<dyn Storage>,
    folder: Option<TempDir>,
    exclusive: bool,
}

impl Stand {
    pub async fn filesystem() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StorageConfig::Filesystem { path: folder.path().to_str().unwrap().into() };
        let storage = mongokeep::storage::open(&config).await.unwrap();
        Self { storage, folder: Some(folder), exclusive: true }
    }

    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub fn shared(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Whether this storage can tell which of two writers was first.
    pub fn creates_exclusively(&self) -> bool {
        self.exclusive
    }

    /// Nothing at all is there, not even what the storage itself would hide.
    pub fn assert_untouched(&self) {
        if let Some(folder) = &self.folder {
            let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    pub async fn close(self) {
        drop(self.folder);
    }
}
