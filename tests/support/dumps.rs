//! Making backups in tests, and reading back what they hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::bson::{RawDocumentBuf, doc};
use mongokeep::artifact::manifest::{CollectionEntry, Manifest, ObjectEntry};
use mongokeep::artifact::read::ReadOptions;
use mongokeep::domain::backup::{BackupType, Compression};
use mongokeep::domain::job::LogLevel;
use mongokeep::domain::key::Key;
use mongokeep::domain::namespace::Selection;
use mongokeep::domain::secret::Secret;
use mongokeep::engine::logical::{DumpRequest, Stored, dump, verify};
use mongokeep::engine::{Context, Limits, Meter};
use mongokeep::error::Result;
use mongokeep::mongo::Server;
use mongokeep::sandbox::ReplicaSet;
use mongokeep::storage::filesystem::Filesystem;
use mongokeep::storage::{ObjectInfo, PutMode, Storage, Upload};
use tokio_util::sync::CancellationToken;

/// A folder as a storage, gone when dropped.
pub struct Folder {
    pub dir: tempfile::TempDir,
    pub storage: Arc<dyn Storage>,
}

impl Folder {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(Filesystem::new(dir.path()));
        Self { dir, storage }
    }

    /// Paths of all files below the folder, whatever the storage makes of them.
    pub fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push(entry.path().strip_prefix(self.dir.path()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }
}

pub fn request(name: &str) -> DumpRequest {
    DumpRequest {
        name: name.into(),
        attempt_id: format!("attempt-{name}"),
        home_id: "home".into(),
        service: "prod".into(),
        cluster: None,
        folder: "prod".into(),
        selection: Selection::default(),
        compression: Compression::default(),
        schedule: None,
        backup_type: BackupType::Full,
    }
}

/// A context whose log can be read.
pub fn context(limits: Limits) -> (Context, Arc<Mutex<Vec<String>>>) {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = Arc::clone(&log);
    let meter = Meter::new(move |level, line| {
        let warning = if level == LogLevel::Info { "" } else { "warning: " };
        lines.lock().unwrap().push(format!("{warning}{line}"));
    });
    (Context { cancel: CancellationToken::new(), meter: Arc::new(meter), limits }, log)
}

pub async fn server(set: &ReplicaSet) -> Server {
    Server::connect("prod", &Secret::new(set.uri()), Duration::from_secs(10)).await.unwrap()
}

/// Backs up with default limits, and has the result verified.
pub async fn dump_ok(set: &ReplicaSet, folder: &Folder, request: &DumpRequest, limits: Limits) -> Manifest {
    let (ctx, log) = context(limits);
    let manifest = match dump(&ctx, Arc::clone(&folder.storage), &server(set).await, request).await {
        Ok(manifest) => manifest,
        Err(e) => panic!("{e:?}\n{:#?}", log.lock().unwrap()),
    };
    verify_ok(folder, &manifest).await;
    manifest
}

pub async fn verify_ok(folder: &Folder, manifest: &Manifest) {
    let root = mongokeep::artifact::layout::BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let (ctx, _) = context(Limits::default());
    let report = verify(&ctx, Arc::clone(&folder.storage), &root).await.unwrap();
    assert!(report.is_good(), "{:?}", report.problems);
}

pub fn entry<'a>(manifest: &'a Manifest, ns: &str) -> &'a CollectionEntry {
    let found = manifest.collections.iter().find(|c| c.namespace.to_string() == ns);
    found.unwrap_or_else(|| panic!("{ns} is not among {:?}", names(manifest)))
}

pub fn names(manifest: &Manifest) -> Vec<String> {
    manifest.collections.iter().map(|c| c.namespace.to_string()).collect()
}

/// The documents of objects, in order.
pub async fn documents(folder: &Folder, manifest: &Manifest, objects: &[ObjectEntry]) -> Vec<Vec<u8>> {
    let stored = Stored::new(Arc::clone(&folder.storage), manifest.clone()).unwrap();
    let mut all = Vec::new();
    for object in objects {
        let mut batches = stored.documents(object, ReadOptions::default()).unwrap();
        while let Some(batch) = batches.next().await {
            all.extend(batch.unwrap().documents().map(<[u8]>::to_vec));
        }
    }
    all
}

/// The documents of a collection as the server has them, in natural order.
pub async fn live(client: &mongodb::Client, db: &str, collection: &str) -> Vec<Vec<u8>> {
    let mut cursor = client.database(db).collection::<RawDocumentBuf>(collection).find(doc! {}).await.unwrap();
    let mut all = Vec::new();
    while cursor.advance().await.unwrap() {
        all.push(cursor.current().as_bytes().to_vec());
    }
    all
}

/// How often each document stands in `documents`.
pub fn counted(documents: Vec<Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    for document in documents {
        *counts.entry(document).or_default() += 1;
    }
    counts
}

/// A storage that holds back the objects of chosen collections until it is told to let them through.
pub struct Gate {
    inner: Arc<dyn Storage>,
    /// Keys that contain one of these are held.
    held: Vec<String>,
    open: tokio::sync::watch::Sender<bool>,
    arrived: tokio::sync::watch::Sender<std::collections::BTreeSet<String>>,
}

impl Gate {
    pub fn new(inner: &Arc<dyn Storage>, held: &[&str]) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            held: held.iter().map(|h| (*h).to_owned()).collect(),
            open: tokio::sync::watch::Sender::new(false),
            arrived: tokio::sync::watch::Sender::default(),
        })
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns when something of each was held back.
    pub async fn all_held(&self) {
        let mut arrived = self.arrived.subscribe();
        let all = arrived.wait_for(|arrived| arrived.len() == self.held.len());
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("nothing is written").unwrap();
    }

    async fn pass(&self, key: &Key) {
        if let Some(held) = self.held.iter().find(|h| key.as_str().contains(h.as_str())) {
            self.arrived.send_modify(|arrived| {
                arrived.insert(held.clone());
            });
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
        }
    }
}

#[async_trait::async_trait]
impl Storage for Gate {
    fn place(&self) -> String {
        self.inner.place()
    }
    fn part_size(&self) -> usize {
        self.inner.part_size()
    }
    async fn put(&self, key: &Key, body: bytes::Bytes, mode: PutMode) -> Result<()> {
        self.pass(key).await;
        self.inner.put(key, body, mode).await
    }
    async fn upload(&self, key: &Key) -> Result<Box<dyn Upload>> {
        self.pass(key).await;
        self.inner.upload(key).await
    }
    async fn get(
        &self,
        key: &Key,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<futures_util::stream::BoxStream<'static, Result<bytes::Bytes>>> {
        self.inner.get(key, range).await
    }
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>> {
        self.inner.stat(key).await
    }
    async fn list(&self, prefix: Option<&Key>) -> Result<futures_util::stream::BoxStream<'static, Result<ObjectInfo>>> {
        self.inner.list(prefix).await
    }
    async fn list_folders(&self, prefix: Option<&Key>) -> Result<Vec<String>> {
        self.inner.list_folders(prefix).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
    async fn sweep(&self, prefix: &Key) -> Result<u64> {
        self.inner.sweep(prefix).await
    }
    async fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space().await
    }
}

/// A backup running on a task of its own.
pub struct Running {
    pub ctx: Context,
    pub log: Arc<Mutex<Vec<String>>>,
    pub task: tokio::task::JoinHandle<Result<Manifest>>,
}

impl Running {
    pub async fn done(self) -> (Result<Manifest>, Vec<String>) {
        let outcome = self.task.await.unwrap();
        let log = self.log.lock().unwrap().clone();
        (outcome, log)
    }
}

/// Starts a backup of what `uri` leads to.
pub async fn start(uri: &str, storage: Arc<dyn Storage>, request: DumpRequest, limits: Limits) -> Running {
    let server = Server::connect("prod", &Secret::new(uri), Duration::from_secs(10)).await.unwrap();
    let (ctx, log) = context(limits);
    let running = ctx.clone();
    let task = tokio::spawn(async move { dump(&running, storage, &server, &request).await });
    Running { ctx, log, task }
}

/// Fills a collection with documents that do not compress, more than a dump reads ahead of its storage.
pub async fn fill(client: &mongodb::Client, db: &str, collection: &str, megabytes: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for batch in 0..megabytes {
        let documents = (0..10).map(|n| {
            let mut noise = vec![0_u8; 100_000];
            for chunk in noise.chunks_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
            }
            let noise = mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: noise };
            doc! {"_id": (batch * 10 + n) as i32, "noise": noise}
        });
        client.database(db).collection(collection).insert_many(documents.collect::<Vec<_>>()).await.unwrap();
    }
}
