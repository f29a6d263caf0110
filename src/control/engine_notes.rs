//! What engines are given of the store and the settings, from which they know nothing.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::artifact::identity::IdentityFile;
use crate::config::Settings;
use crate::engine::surroundings::{Notes, Surroundings};
use crate::error::Result;
use crate::store::AsyncStore;

/// The surroundings of engines that run for the installation of `store`.
///
/// `identity_file`: the one that a person named for this run, instead of that of the settings.
pub fn surroundings(store: &AsyncStore, settings: &Settings, identity_file: Option<&str>) -> Surroundings {
    let identity_file = identity_file.map(PathBuf::from).or_else(|| settings.identity_file());
    Surroundings {
        pbm: settings.pbm(),
        identity_file: IdentityFile::at(identity_file),
        notes: Arc::new(Kept(store.clone())),
    }
}

struct Kept(AsyncStore);

#[async_trait]
impl Notes for Kept {
    async fn read(&self, service: &str) -> Result<Option<String>> {
        self.0.engine_note(service).await
    }

    async fn write(&self, service: &str, note: String) -> Result<()> {
        self.0.set_engine_note(service, &note).await
    }

    async fn key(&self) -> Result<[u8; 32]> {
        self.0.derived_key("notes of engines").await
    }
}
