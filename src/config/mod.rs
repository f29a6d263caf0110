//! Where things are kept, and the settings a person chose.
//!
//! Nothing else in the program knows a platform's folders. Secrets never go into `config.toml`: they are in the store,
//! encrypted.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result, own_io};

mod filesystem;
mod last_good;
mod settings;

pub use last_good::LastGood;
pub use settings::{Notify, STATE_STORAGE, Settings};

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

impl Home {
    /// All folders below `dir`.
    pub fn below(dir: &Path) -> Self {
        Self { config: dir.join("config"), data: dir.join("data"), state: dir.join("state") }
    }

    /// `dir` (from `--home` or `MONGOKEEP_HOME`) made absolute, or the platform's own folders.
    pub fn resolve(dir: Option<&Path>) -> Result<Self> {
        if let Some(dir) = dir {
            if dir.as_os_str().is_empty() {
                return Err(Error::invalid("home", "is empty"));
            }
            let dir = std::path::absolute(dir).map_err(|e| own_io(format!("home {}", dir.display()), e))?;
            return Ok(Self::below(&dir));
        }
        let dirs = directories::ProjectDirs::from("", "", "mongokeep").ok_or_else(|| {
            Error::new(ErrorKind::Failed, "this user has no home folder").hint("give one with --home DIR")
        })?;
        Ok(Self {
            config: dirs.config_dir().to_owned(),
            data: dirs.data_dir().to_owned(),
            state: dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned(),
        })
    }

    /// The folder given with `--home`, when this home came from one.
    pub fn root(&self) -> Option<&Path> {
        let root = self.config.parent()?;
        (*self == Self::below(root)).then_some(root)
    }

    /// Creates the folders, readable by this user alone, and refuses filesystems on which the store cannot live.
    pub fn create(&self) -> Result<()> {
        for dir in [&self.config, &self.data, &self.state] {
            create_private(dir).map_err(|e| {
                own_io(format!("creating {}", dir.display()), e).hint("give a folder you may write to with --home DIR")
            })?;
        }
        self.check_filesystem()?;
        for dir in [&self.config, &self.data, &self.state] {
            let metadata = fs::metadata(dir).map_err(|e| own_io(dir.display(), e))?;
            if metadata.permissions().mode() & 0o077 != 0 {
                // A folder that somebody else made, or that an old umask left open. Not ours to change: only warn-worthy
                // when it cannot be closed, because the files inside are closed on their own.
                let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
            }
        }
        Ok(())
    }

    /// Several processes share the store through memory-mapped files, which no network filesystem keeps coherent.
    pub fn check_filesystem(&self) -> Result<()> {
        for dir in [&self.data, &self.state] {
            if let Some(kind) = filesystem::network_kind(dir) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "home: {} is on a network filesystem ({kind}), where the store would be damaged",
                        dir.display()
                    ),
                )
                .hint("give a folder on a local disk with --home DIR; backups themselves may be kept on the network"));
            }
        }
        Ok(())
    }

    pub fn settings_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Keys that a person chose, over those that come with the program.
    pub fn keymap_file(&self) -> PathBuf {
        self.config.join("keymap.toml")
    }

    /// A person's own themes, `NAME.toml` each.
    pub fn themes_folder(&self) -> PathBuf {
        self.config.join("themes")
    }

    pub fn store_file(&self) -> PathBuf {
        self.data.join("mongokeep.db")
    }

    /// The local key that encrypts stored secrets.
    pub fn key_file(&self) -> PathBuf {
        self.data.join("key")
    }

    pub fn lock_file(&self) -> PathBuf {
        self.state.join("daemon.lock")
    }

    /// What the daemon measures, unless the settings name another file.
    pub fn metrics_file(&self) -> PathBuf {
        self.state.join("metrics.prom")
    }

    pub fn log_file(&self) -> PathBuf {
        self.state.join("daemon.log")
    }
}

/// The zone of this machine; UTC when it cannot be told.
pub fn machine_zone() -> chrono_tz::Tz {
    iana_time_zone::get_timezone().unwrap_or_default().parse().unwrap_or(chrono_tz::UTC)
}

/// Creates a folder, and those above it that are missing, for this user alone.
pub fn create_private(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_private_and_below_the_home() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(&dir.path().join("a/b"))).unwrap();
        home.create().unwrap();
        assert_eq!(home.root(), Some(dir.path().join("a/b").as_path()));
        for path in [&home.config, &home.data, &home.state] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(Home::resolve(Some(Path::new(""))).is_err());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "").unwrap();
        let error = Home::below(&dir.path().join("x")).create().unwrap_err();
        assert!(error.full().contains("x/config"), "{error}");
    }
}
