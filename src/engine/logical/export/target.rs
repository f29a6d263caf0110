//! The folder an export goes to.
//!
//! It is new or empty, readable by its owner only, and what was created in it is known one by one: a failed export
//! takes back exactly that, and never removes a folder with what somebody else put there.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::fs::File;

use crate::domain::text::{self, escape, quoted};
use crate::error::{self, Error, ErrorKind, Result};

pub(super) struct Target {
    root: PathBuf,
    /// In the order of their creation, so that the reverse order empties folders before they go.
    created: Mutex<Vec<Created>>,
}

enum Created {
    Folder(PathBuf),
    File(PathBuf),
}

/// The path, safe to show.
pub(super) fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

impl Target {
    /// Creates the folder `root` if it is not there.
    ///
    /// Errors: `Conflict` when something is in it or it is no folder, `StorageFull` when `needed` bytes have no room.
    pub async fn prepare(root: &Path, needed: u64) -> Result<Self> {
        let target = Self { root: root.to_owned(), created: Mutex::default() };
        let looking = |e| error::io(format!("looking at {}", shown(root)), e);
        match tokio::fs::metadata(root).await {
            Ok(found) if !found.is_dir() => {
                return Err(Error::new(ErrorKind::Conflict, format!("{} is not a folder", shown(root))));
            }
            Ok(_) => {
                let mut entries = tokio::fs::read_dir(root).await.map_err(looking)?;
                if entries.next_entry().await.map_err(looking)?.is_some() {
                    return Err(Error::new(ErrorKind::Conflict, format!("{} is not empty", shown(root)))
                        .hint("give a folder that is empty or does not exist yet"));
                }
                room(root, needed).await?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let mut above = None;
                for ancestor in root.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty()) {
                    if tokio::fs::try_exists(ancestor).await.map_err(looking)? {
                        above = Some(ancestor);
                        break;
                    }
                }
                room(above.unwrap_or(Path::new(".")), needed).await?;
                let missing: Vec<&Path> = root.ancestors().take_while(|a| Some(*a) != above).collect();
                let missing = missing.into_iter().rev().filter(|a| !a.as_os_str().is_empty());
                for folder in missing {
                    if let Err(e) = target.create_folder(folder.to_owned()).await {
                        return Err(target.give_up(e).await);
                    }
                }
            }
            Err(e) => return Err(looking(e)),
        }
        Ok(target)
    }

    /// The folder of a database, under its plain name, as the stock tools have it.
    ///
    /// Errors: `Invalid` for a name that no server takes and that could lead out of the target.
    pub async fn database(&self, db: &str) -> Result<PathBuf> {
        if db.is_empty() || db.len() > 64 || db.contains(['/', '\\', '.', '\0']) {
            return Err(Error::new(ErrorKind::Invalid, format!("{} cannot be a database", quoted(db))));
        }
        let folder = self.root.join(db);
        let known = self.list().iter().any(|c| matches!(c, Created::Folder(f) if *f == folder));
        if !known {
            self.create_folder(folder.clone()).await?;
        }
        Ok(folder)
    }

    /// A new file `name` in the target itself, or in a folder that [`Target::database`] gave.
    pub async fn file(&self, folder: Option<&Path>, name: &str) -> Result<File> {
        let path = folder.unwrap_or(&self.root).join(name);
        // Known before it exists: a failure in between leaves nothing behind.
        self.list().push(Created::File(path.clone()));
        let created = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await;
        created.map_err(|e| {
            // Not ours to remove.
            self.list().retain(|c| !matches!(c, Created::File(f) if *f == path));
            error::io(format!("creating {}", shown(&path)), e)
        })
    }

    /// Writes a small file.
    pub async fn write(&self, folder: Option<&Path>, name: &str, contents: &[u8]) -> Result<()> {
        use tokio::io::AsyncWriteExt;
        let mut file = self.file(folder, name).await?;
        let written = async {
            file.write_all(contents).await?;
            file.flush().await?;
            file.sync_all().await
        };
        written.await.map_err(|e| error::io(format!("writing {name}"), e))
    }

    /// Removes what was created. Gives `error` back, with what could not be removed.
    pub async fn give_up(self, error: Error) -> Error {
        let created = self.created.into_inner().unwrap_or_else(PoisonError::into_inner);
        let root = self.root;
        let left = tokio::task::spawn_blocking(move || {
            let mut left = Vec::new();
            for created in created.into_iter().rev() {
                let (path, removed) = match created {
                    Created::File(path) => (path.clone(), std::fs::remove_file(path)),
                    Created::Folder(path) => (path.clone(), std::fs::remove_dir(path)),
                };
                if removed.is_err_and(|e| e.kind() != std::io::ErrorKind::NotFound) {
                    left.push(path);
                }
            }
            left
        })
        .await
        .unwrap_or_default();
        let kept = error.hint_text().map(|hint| format!("{hint}; ")).unwrap_or_default();
        match left.first() {
            None => error.hint(format!("{kept}what was written to {} was removed", shown(&root))),
            Some(first) => {
                error.hint(format!("{kept}{} of what was written is left, {} first", left.len(), shown(first)))
            }
        }
    }

    async fn create_folder(&self, path: PathBuf) -> Result<()> {
        let mut builder = tokio::fs::DirBuilder::new();
        builder.mode(0o700);
        builder.create(&path).await.map_err(|e| error::io(format!("creating the folder {}", shown(&path)), e))?;
        self.list().push(Created::Folder(path));
        Ok(())
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Created>> {
        self.created.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fails when `needed` bytes do not fit where `folder` is.
async fn room(folder: &Path, needed: u64) -> Result<()> {
    let path = folder.to_owned();
    let stat = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&path))
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, "asking for the free space").source(e))?
        .map_err(|e| error::io(format!("asking for the free space at {}", shown(folder)), e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        return Err(Error::new(
            ErrorKind::StorageFull,
            format!("{} has {} free, the export takes about {}", shown(folder), text::bytes(free), text::bytes(needed)),
        )
        .hint("give a folder on a larger disk"));
    }
    Ok(())
}
