//! A storage on a disk with a backup that was made by hand, and a client that knows the storage.

use std::path::{Path, PathBuf};

use mongodb::bson::doc;
use mongokeep::artifact::layout::BackupRoot;
use mongokeep::client::{Client, Values};
use mongokeep::config::Home;
use mongokeep::domain::backup::Compression;
use mongokeep::domain::restore::CollectionKind;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::storage::PutMode;

use crate::support::artifact::{Artifact, change, noop};

const ORDERS: [u8; 16] = [1; 16];

pub struct Stand {
    _dir: tempfile::TempDir,
    pub home: Home,
    pub client: Client,
    pub artifact: Artifact,
}

/// A storage that holds one good backup, `shop/made`, and that no catalogue has read.
pub async fn stand() -> Stand {
    let mut artifact = Artifact::new(Compression::Zstd(1)).await;
    let definition = doc! {"options": {}};
    let parts = [vec![doc! {"_id": 1}]];
    artifact.collection("shop.orders", CollectionKind::Collection, Some(ORDERS), definition, &parts).await;
    artifact.oplog(&[vec![noop(1), change(2, "i", "shop.orders", ORDERS, doc! {"_id": -1})]]).await;
    artifact.finish().await;
    let dir = tempfile::tempdir().unwrap();
    let home = Home::below(&dir.path().join("home"));
    let client = Client::open(&home, false).unwrap();
    let stand = Stand { _dir: dir, home, client, artifact };
    add_disk(&stand.client, "disk", &stand.path());
    stand
}

/// Adds a folder as a storage.
pub fn add_disk(client: &Client, name: &str, path: &Path) {
    let values = [("name", name), ("type", "filesystem"), ("path", path.to_str().unwrap())];
    client.add_storage(&Values::from(values.map(|(k, v)| (k.to_owned(), vec![v.to_owned()])))).unwrap();
}

impl Stand {
    /// The folder of the storage.
    pub fn path(&self) -> PathBuf {
        self.artifact.path(self.artifact.root.key()).ancestors().nth(3).unwrap().to_owned()
    }

    /// Puts a manifest beside the good one, sealed as if it had been written so.
    pub async fn altered(&self, name: &str, change: impl FnOnce(&mut LogicalManifest)) {
        let mut manifest = self.artifact.manifest.clone();
        manifest.name = name.into();
        change(&mut manifest);
        let root = BackupRoot::new("shop", name).unwrap();
        let bytes = manifest.to_bytes().unwrap();
        self.artifact.storage.put(&root.manifest().unwrap(), bytes.into(), PutMode::Overwrite).await.unwrap();
    }
}
