//! A folder as a backend: its one field.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::Filesystem;
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::rules::path_rule;
use crate::domain::typed::{Typed, first, some_text};
use crate::error::Result;
use crate::storage::backend::{Backend, Hold};
use crate::storage::{Storage, local_path};

/// A folder of the machine the daemon runs on.
pub struct FilesystemBackend;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesystemConfig {
    /// Absolute.
    pub path: String,
}

#[async_trait]
impl Backend for FilesystemBackend {
    type Config = FilesystemConfig;

    const WORD: &'static str = "filesystem";
    const FIELDS: &'static [Typed<FilesystemConfig>] = &[Typed::new(
        Field::new(
            "path",
            "Path",
            FieldKind::Path,
            "a folder on the machine of the daemon; created when it is missing",
        )
        .required()
        .check(path_rule),
        |folder| some_text(Some(&folder.path)),
        |folder, texts| {
            folder.path = first(texts).map_or_else(|| Ok(String::new()), local_path)?;
            Ok(())
        },
    )];

    fn place(folder: &FilesystemConfig) -> String {
        folder.path.clone()
    }

    fn local_folder(folder: &FilesystemConfig) -> Option<PathBuf> {
        Some(PathBuf::from(&folder.path))
    }

    async fn open(folder: &FilesystemConfig, hold: Hold) -> Result<Arc<dyn Storage>> {
        let path = Path::new(&folder.path);
        Ok(Arc::new(match hold {
            Hold::Open => Filesystem::new(path),
            Hold::Nothing => Filesystem::unheld(path),
        }))
    }
}
