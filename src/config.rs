//! Where things are kept.

use std::path::PathBuf;

/// The folders of one installation. With `--home DIR` all lie below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// `config.toml`.
    pub config: PathBuf,
    /// The store (`mongokeep.db`) and the local key.
    pub data: PathBuf,
    /// The daemon's lock and its logs.
    pub state: PathBuf,
}
