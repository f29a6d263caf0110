//! What the tests of several parts of the daemon begin with.

use crate::config::Home;
use crate::domain::service::ServiceSpec;
use crate::domain::storage::StorageConfig;
use crate::store::{Access, Store};

/// A store, in a folder that goes with the first of the two, with a service `a` and a storage `t`. Neither can be reached.
pub fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::below(dir.path());
    home.create().unwrap();
    let store = Store::open(&home.store_file(), &home.key_file(), Access::Write).unwrap();
    store.add_service(&ServiceSpec::at("a", "mongodb://127.0.0.1:1")).unwrap();
    store.add_storage("t", &StorageConfig::of("filesystem", [("path", "/nonexistent")])).unwrap();
    (dir, store)
}
