//! What every part of the daemon is given.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::config::{Home, LastGood};
use crate::error::Result;
use crate::store::{AsyncStore, Store};

#[derive(Clone)]
pub struct Env {
    pub home: Home,
    pub store: AsyncStore,
    pub home_id: String,
    /// For what must go on with a settings file that cannot be read. A job that begins reads the file itself, and fails.
    pub settings: LastGood,
    /// The daemon is ending: a cancel is then not what a person asked for.
    pub stopping: Arc<AtomicBool>,
}

impl Env {
    pub fn new(home: Home, store: Store) -> Result<Self> {
        let home_id = store.home_id()?;
        let settings = LastGood::new(home.clone());
        Ok(Self { home, store: AsyncStore::new(store), home_id, settings, stopping: Arc::default() })
    }
}
