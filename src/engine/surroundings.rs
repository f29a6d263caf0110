//! What an engine that works through another program finds around it: that program, and what it noted itself.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::artifact::identity::IdentityFile;
use crate::error::Result;

/// What stands around every run of an engine.
#[derive(Clone)]
pub struct Surroundings {
    /// The program `pbm`; `None`: the one on the search path.
    pub pbm: Option<PathBuf>,
    /// What opens encrypted backups, where a person said where it is.
    pub identity_file: IdentityFile,
    pub notes: Arc<dyn Notes>,
}

/// What engines remember of a service from one run to the next. It can be lost: then a person is asked again.
#[async_trait]
pub trait Notes: Send + Sync {
    /// What was noted last of `service`.
    async fn read(&self, service: &str) -> Result<Option<String>>;

    async fn write(&self, service: &str, note: String) -> Result<()>;

    /// A secret of this installation, always the same, to tell secrets apart without keeping them.
    async fn key(&self) -> Result<[u8; 32]>;
}

impl Default for Surroundings {
    /// Nothing is known, and nothing is remembered.
    fn default() -> Self {
        Self { pbm: None, identity_file: IdentityFile::default(), notes: Arc::new(Forgetful) }
    }
}

struct Forgetful;

#[async_trait]
impl Notes for Forgetful {
    async fn read(&self, _: &str) -> Result<Option<String>> {
        Ok(None)
    }

    async fn write(&self, _: &str, _: String) -> Result<()> {
        Ok(())
    }

    async fn key(&self) -> Result<[u8; 32]> {
        Ok([0; 32])
    }
}
