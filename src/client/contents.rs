//! What a backup holds, as its manifest says: the catalogue does not know.

use super::Client;
use crate::engine::contract::Contents;
use crate::engine::engine;
use crate::error::Result;

impl Client {
    /// Reads the manifest of `backup` from its storage.
    pub async fn contents(&self, backup: &str) -> Result<Contents> {
        let name = backup.to_owned();
        let backup = self.call(move |client| client.readable(&name)).await?;
        let (_, manifest) = self.opened(&backup).await.map_err(|e| e.of_storage(&backup.storage))?;
        engine(backup.engine, backup.model)?.contents(&manifest)
    }
}
