//! Making backups in tests, and reading back what they hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::bson::{RawDocumentBuf, doc};
use mongokeep::artifact::manifest::ObjectEntry;
use mongokeep::artifact::read::ReadOptions;
use mongokeep::domain::backup::{BackupType, Compression};
use mongokeep::domain::job::LogLevel;
use mongokeep::domain::namespace::Selection;
use mongokeep::domain::secret::Secret;
use mongokeep::engine::logical::LogicalManifest;
use mongokeep::engine::logical::manifest::CollectionEntry;
use mongokeep::engine::logical::{DumpRequest, OpenBackup, dump, verify};
use mongokeep::engine::{Context, Limits, Meter};
use mongokeep::error::Result;
use mongokeep::mongo::Server;
use mongokeep::sandbox::ReplicaSet;
use mongokeep::storage::Storage;
use mongokeep::storage::filesystem::Filesystem;

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
        encryption: None,
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
    (Context { meter: Arc::new(meter), limits, ..Context::default() }, log)
}

pub async fn server(set: &ReplicaSet) -> Server {
    Server::connect("prod", &Secret::new(set.uri()), Duration::from_secs(20)).await.unwrap()
}

/// Backs up with default limits, and has the result verified.
pub async fn dump_ok(set: &ReplicaSet, folder: &Folder, request: &DumpRequest, limits: Limits) -> LogicalManifest {
    let (ctx, log) = context(limits);
    let manifest = match dump(&ctx, Arc::clone(&folder.storage), &server(set).await, request).await {
        Ok(manifest) => manifest,
        Err(e) => panic!("{e:?}\n{:#?}", log.lock().unwrap()),
    };
    verify_ok(folder, &manifest).await;
    manifest
}

pub async fn verify_ok(folder: &Folder, manifest: &LogicalManifest) {
    let root = mongokeep::artifact::layout::BackupRoot::new(&manifest.folder, &manifest.name).unwrap();
    let (ctx, _) = context(Limits::default());
    let report = verify(&ctx, Arc::clone(&folder.storage), &root).await.unwrap();
    assert!(report.is_good(), "{:?}", report.problems);
}

pub fn entry<'a>(manifest: &'a LogicalManifest, ns: &str) -> &'a CollectionEntry {
    let found = manifest.collections.iter().find(|c| c.namespace.to_string() == ns);
    found.unwrap_or_else(|| panic!("{ns} is not among {:?}", names(manifest)))
}

pub fn names(manifest: &LogicalManifest) -> Vec<String> {
    manifest.collections.iter().map(|c| c.namespace.to_string()).collect()
}

/// The documents of objects, in order.
pub async fn documents(folder: &Folder, manifest: &LogicalManifest, objects: &[ObjectEntry]) -> Vec<Vec<u8>> {
    let stored = OpenBackup::new(Arc::clone(&folder.storage), manifest.clone()).unwrap();
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

/// A backup running on a task of its own.
pub struct Running {
    pub ctx: Context,
    pub log: Arc<Mutex<Vec<String>>>,
    pub task: tokio::task::JoinHandle<Result<LogicalManifest>>,
}

impl Running {
    pub async fn done(self) -> (Result<LogicalManifest>, Vec<String>) {
        let outcome = self.task.await.unwrap();
        let log = self.log.lock().unwrap().clone();
        (outcome, log)
    }
}

/// Starts a backup of what `uri` leads to.
pub async fn start(uri: &str, storage: Arc<dyn Storage>, request: DumpRequest, limits: Limits) -> Running {
    let server = Server::connect("prod", &Secret::new(uri), Duration::from_secs(20)).await.unwrap();
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
