//! The settings for what runs for hours: a file that a person is just editing must not change what was asked for.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use super::{Home, Settings};

/// Reads the settings again and again. While the file cannot be read, those that were read last stay in force.
#[derive(Debug, Clone)]
pub struct LastGood {
    home: Home,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// `None`: the file could never be read.
    settings: Option<Settings>,
    /// What was logged last, so that it is logged once.
    error: Option<String>,
}

impl LastGood {
    pub fn new(home: Home) -> Self {
        Self { home, kept: Arc::default() }
    }

    /// The settings of now, or the last ones that could be read; the defaults where there are none. A file that cannot be
    /// read is logged once for each thing that is wrong with it. Reads a file, so it belongs on a thread that may block.
    pub fn settings(&self) -> Settings {
        let read = Settings::load(&self.home);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(settings) => {
                if kept.error.take().is_some() {
                    info!("the settings can be read again");
                }
                kept.settings = Some(settings);
            }
            Err(e) => {
                let error = e.to_string();
                if kept.error.as_ref() != Some(&error) {
                    let instead = match kept.settings {
                        Some(_) => "the last ones that could be read stay in force",
                        None => "the defaults are in force, because they could not be read since the daemon started",
                    };
                    warn!("the settings cannot be read, {instead}: {error}");
                }
                kept.error = Some(error);
            }
        }
        kept.settings.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::below(dir.path());
        home.create().unwrap();
        let write = |text: &str| std::fs::write(home.settings_file(), text).unwrap();
        let last_good = LastGood::new(home.clone());
        assert_eq!(last_good.settings().bandwidth_limit().now(), None);
        write("[backup]\nbandwidth_limit = 6000000\n");
        assert_eq!(last_good.settings().bandwidth_limit().now(), Some(6_000_000));
        for broken in ["[backup\n", "[backup]\nbandwidth_limit = \"fast\"\n"] {
            write(broken);
            assert!(Settings::load(&home).is_err());
            assert_eq!(last_good.settings().bandwidth_limit().now(), Some(6_000_000), "{broken}");
        }
        write("[backup]\nbandwidth_limit = 0\n");
        assert_eq!(last_good.clone().settings().bandwidth_limit().now(), None);
    }
}
