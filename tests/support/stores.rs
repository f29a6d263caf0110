//! A store without a daemon: what the tests of the store begin with.

use mongokeep::config::Home;
use mongokeep::domain::backup::{BackupType, Compression, Model};
use mongokeep::domain::service::{EngineKind, ServiceSpec};
use mongokeep::domain::storage::StorageConfig;
use mongokeep::domain::timestamp::Timestamp;
use mongokeep::store::{Access, CatalogueEntry, Store};

pub const SET: &str = "0123456789abcdef01234567";

/// A store in a home of its own, which goes with it.
pub struct OpenStore {
    _dir: tempfile::TempDir,
    pub home: Home,
    pub store: Store,
}

/// With these services and storages, of which none can be reached.
pub fn open(services: &[&str], storages: &[&str]) -> OpenStore {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::below(dir.path());
    home.create().unwrap();
    let store = Store::open(&home.store_file(), &home.key_file(), Access::Write).unwrap();
    for service in services {
        let spec = ServiceSpec::at(service, "mongodb://127.0.0.1:1");
        store.add_service(&ServiceSpec { cluster: Some("prod".into()), ..spec }).unwrap();
    }
    for storage in storages {
        store.add_storage(storage, &StorageConfig::of("filesystem", [("path", "/nonexistent")])).unwrap();
    }
    OpenStore { _dir: dir, home, store }
}

/// What the catalogue keeps of a whole backup of service `a`, consistent at `ts`.
pub fn entry(name: &str, ts: Timestamp) -> CatalogueEntry {
    CatalogueEntry {
        name: name.into(),
        service: "a".into(),
        cluster: None,
        folder: "prod".into(),
        schedule: None,
        engine: EngineKind::Native,
        model: Model::Logical,
        backup_type: BackupType::Full,
        compression: Compression::None,
        consistent_at_ts: ts,
        size_bytes: 1,
        uncompressed_bytes: 1,
        documents: Some(1),
        new_bytes: None,
        locked_millis: None,
        pbm_name: None,
        chain: None,
        recipients: None,
        started_at: ts.to_datetime(),
        finished_at: ts.to_datetime(),
        server_version: "6.0.5".into(),
        fcv: "6.0".into(),
        replica_set_id: SET.into(),
        whole: Some(true),
    }
}
