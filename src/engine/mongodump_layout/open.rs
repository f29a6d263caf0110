//! From a folder of `mongodump` to something that is restored.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::archive::{self, ArchivedFolder};
use super::files::{self, Stored, What};
use super::manifest::{DataFile, Described, DumpManifest, Found, InArchive};
use crate::artifact::codec::{Decoder, Encoded};
use crate::artifact::layout::{self, BackupRoot, Layout};
use crate::artifact::manifest::Manifest;
use crate::domain::backup::Compression;
use crate::domain::namespace::Namespace;
use crate::domain::restore::CollectionKind;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::logical::{Definition, OpenBackup, parse_uuid};
use crate::engine::pbm_layout::identify;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::op_time;
use crate::storage::{self, Key, Storage};

/// The definitions of one collection are smaller than this, compressed and not.
const METADATA_LIMIT: usize = 64 << 20;
/// Metadata files that are read at once.
const AT_ONCE: usize = 16;

/// Reads what `mongodump` says of its dump at `root`, and presents it as a manifest. An oplog is read to its end: only its
/// entries say which moment the dump holds.
///
/// Errors: `NotFound` when there is none; `Unsupported` when it cannot be restored here, with the reason; `Corrupt`.
pub async fn read_manifest(storage: &dyn Storage, root: &BackupRoot) -> Result<Manifest> {
    #[derive(Deserialize)]
    struct Prelude {
        #[serde(rename = "ServerVersion")]
        server_version: String,
        #[serde(rename = "ToolVersion")]
        tool_version: String,
    }
    if root.layout() == Layout::MongodumpArchive {
        return read_archive(storage, root).await;
    }
    let prelude = root.manifest()?;
    let gzipped = prelude.as_str().ends_with(".gz");
    let Prelude { server_version, tool_version } = read_json(storage, &prelude).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => e.hint("mongokeep storage sync STORAGE says which backups are still there"),
        _ => e,
    })?;
    let mut listed = Vec::new();
    let mut listing = storage.list(Some(root.key())).await?;
    while let Some(object) = listing.try_next().await? {
        if let Some(path) = object.key.below(root.key()) {
            listed.push((path.to_owned(), object.size));
        }
    }
    // Of one database alone: its files lie beside the prelude.
    let is_alone = listed.iter().any(|(path, _)| !path.contains('/') && path.contains(".metadata.json"));
    let db = is_alone.then(|| root.key().file_name());
    let (mut metadata, mut documents, mut oplog) = (Vec::new(), BTreeMap::new(), None);
    let mut kept = Vec::new();
    for (path, size) in listed {
        let Some(file) = files::read(&path, db) else { continue };
        let is_prelude = file.what == What::Prelude;
        // mongodump calls the oplog the same whether it is compressed or not (100.18).
        if file.gzipped != gzipped && file.what != What::Oplog {
            let what = format!("{}/{} is compressed otherwise than the rest of its dump", root.key(), escape(&path));
            return Err(Error::new(ErrorKind::Unsupported, what).hint("were two dumps written into one folder?"));
        }
        match file.what {
            What::Prelude => {}
            What::Oplog => oplog = Some((path.clone(), size)),
            What::Documents(of) => drop(documents.insert(of, (path.clone(), size))),
            What::Metadata(of) => metadata.push((of, path.clone(), size)),
        }
        if !is_prelude {
            kept.push((path, size));
        }
    }
    let reads = metadata.into_iter().map(|(of, path, size)| async move {
        let described = describe(storage, root, &of, (path, size)).await?;
        Ok::<_, Error>((of, described))
    });
    let described: Vec<(Stored, Described)> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
    // A long name is whole only in the metadata.
    let names: BTreeMap<Stored, Namespace> = described.iter().map(|(of, d)| (of.clone(), d.ns.clone())).collect();
    let mut by_name = BTreeMap::new();
    for (of, file) in documents {
        let ns = of.namespace().or_else(|| names.get(&of).cloned()).ok_or_else(|| {
            let what = format!("nothing says of which collection {}/{} is", root.key(), escape(&file.0));
            Error::new(ErrorKind::Corrupt, what).hint("use another backup")
        })?;
        let (path, size) = file;
        by_name.insert(ns, DataFile { path, size, crc64: None });
    }
    let oplog = match oplog {
        Some((path, size)) if size > 0 => span(storage, root, &path, gzipped)
            .await?
            .map(|(from, to)| (DataFile { path, size, crc64: None }, from, to)),
        Some(_) | None => None,
    };
    let mut described: Vec<Described> = described.into_iter().map(|(_, described)| described).collect();
    described.sort_by(|a, b| a.ns.cmp(&b.ns));
    let found = Found {
        name: root.key().as_str().to_owned(),
        archive: None,
        server_version,
        tool_version,
        gzipped,
        described,
        documents: by_name,
        oplog,
        files: kept,
    };
    let found = found.into_manifest()?;
    Manifest::of_other_tool(found.logical.envelope.clone(), &found)
}

/// The same of an archive, which is read to its end.
async fn read_archive(storage: &dyn Storage, root: &BackupRoot) -> Result<Manifest> {
    let found = archive::find(storage, root.key()).await?;
    let index = archive::index(storage, &found).await?;
    let mut described = Vec::new();
    for listed in index.listed.iter().filter(|listed| !listed.metadata.is_empty()) {
        let of = Stored { db: listed.ns.db.clone(), file: layout::escape(&listed.ns.collection) };
        let path = path_of(&listed.ns);
        let what = format!("the metadata of {} in {}/{}", escape(&listed.ns.to_string()), storage.place(), root.key());
        let bytes = listed.metadata.as_bytes();
        let found = described_by(&of, (path, bytes.len() as u64), bytes, &what)?;
        if found.ns != listed.ns {
            let what = format!("{what} is damaged: it is that of {}", escape(&found.ns.to_string()));
            return Err(Error::new(ErrorKind::Corrupt, what).hint("use another backup"));
        }
        described.push(found);
    }
    described.sort_by(|a, b| a.ns.cmp(&b.ns));
    let mut documents: BTreeMap<Namespace, DataFile> = BTreeMap::new();
    let mut oplog = None;
    for (ns, contents) in &index.contents {
        let file = DataFile { path: path_of(ns), size: contents.bytes, crc64: Some(contents.crc64) };
        if *ns == archive::oplog() {
            oplog = index.oplog.map(|(from, to)| (file, from, to));
        } else {
            documents.insert(ns.clone(), file);
        }
    }
    let manifest = Found {
        name: root.key().as_str().to_owned(),
        archive: Some(InArchive { size: found.size, identity: found.identity.to_hex().to_string() }),
        server_version: index.server_version.clone(),
        tool_version: index.tool_version.clone(),
        gzipped: found.gzipped,
        described,
        documents,
        oplog,
        files: Vec::new(),
    };
    let manifest = manifest.into_manifest()?;
    Manifest::of_other_tool(manifest.logical.envelope.clone(), &manifest)
}

/// Where the documents of a collection would lie in a folder.
fn path_of(ns: &Namespace) -> String {
    let name = layout::escape(&ns.collection);
    if ns.db.is_empty() { format!("{name}.bson") } else { format!("{}/{name}.bson", layout::escape(&ns.db)) }
}

/// A dump as the logical engine takes it.
///
/// Errors: `Corrupt`, `Unsupported` for what cannot be restored.
pub async fn open(storage: Arc<dyn Storage>, manifest: &Manifest) -> Result<OpenBackup> {
    let found: DumpManifest = manifest.body()?;
    let (storage, root) = if found.is_archive {
        let root = BackupRoot::mongodump_archive(&found.logical.name)?;
        let archive = archive::find(storage.as_ref(), root.key()).await?;
        let index = archive::index(storage.as_ref(), &archive).await?;
        let folder = ArchivedFolder::new(storage, archive, index, path_of);
        (Arc::new(folder) as Arc<dyn Storage>, root)
    } else {
        let gzipped = found.logical.compression != Compression::None;
        (storage, BackupRoot::mongodump(&found.logical.folder, gzipped)?)
    };
    let (foreign, unknown) = (found.foreign()?, found.without_uuid());
    let opened = OpenBackup::of_other_tool(storage, root, found.logical, foreign);
    if unknown.is_empty() { Ok(opened) } else { identify(opened, unknown).await }
}

async fn describe(storage: &dyn Storage, root: &BackupRoot, of: &Stored, file: (String, u64)) -> Result<Described> {
    let key = root.key().join(&file.0)?;
    let bytes = read_plain(storage, &key).await?;
    described_by(of, file, &bytes, &format!("{}/{key}", storage.place()))
}

/// What a metadata file says. `what`: it, in words.
fn described_by(of: &Stored, file: (String, u64), bytes: &[u8], what: &str) -> Result<Described> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(rename = "collectionName")]
        name: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        uuid: Option<String>,
    }
    let corrupt = |why: String| {
        Error::new(ErrorKind::Corrupt, format!("{what} is damaged: {}", escape(&why))).hint("use another backup")
    };
    let said: Said = serde_json::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
    let mut definition = Definition::parse(bytes).map_err(&corrupt)?;
    let has = |definition: &Definition, option: &str| definition.options.get(option).is_some();
    let kind = match said.kind.as_deref() {
        Some("collection") => CollectionKind::Collection,
        Some("view") => CollectionKind::View,
        Some("timeseries") => CollectionKind::Timeseries,
        // Earlier versions wrote no kind.
        Some("") | None if has(&definition, "timeseries") => CollectionKind::Timeseries,
        Some("") | None if has(&definition, "viewOn") => CollectionKind::View,
        Some("") | None => CollectionKind::Collection,
        Some(other) => return Err(corrupt(format!("it is of the unknown kind {other}"))),
    };
    let ns = match said.name.filter(|name| !name.is_empty()) {
        Some(name) => Namespace::new(&of.db, name),
        None => of.namespace().ok_or_else(|| corrupt("it does not say which collection it is of".into()))?,
    };
    let uuid = match (kind, said.uuid.filter(|uuid| !uuid.is_empty())) {
        (CollectionKind::Collection, Some(uuid)) => {
            parse_uuid(&uuid).ok_or_else(|| corrupt("its UUID is none".into()))?;
            Some(uuid)
        }
        // That of a time series is its buckets', which is not written down.
        _ => None,
    };
    if kind == CollectionKind::View {
        definition.indexes.clear();
    }
    Ok(Described { ns, kind, uuid, definition, metadata: file })
}

async fn read_plain(storage: &dyn Storage, key: &Key) -> Result<Vec<u8>> {
    let bytes = storage::read_all(storage, key, METADATA_LIMIT).await?;
    if !key.as_str().ends_with(".gz") {
        return Ok(bytes.to_vec());
    }
    let place = format!("{}/{key}", storage.place());
    let broken = move |why: String| {
        Error::new(ErrorKind::Corrupt, format!("{place} is damaged: {why}")).hint("use another backup")
    };
    let read = tokio::task::spawn_blocking(move || {
        let mut plain = Vec::new();
        let most = METADATA_LIMIT as u64;
        // No more than that: what was tampered with could be endless.
        let read = Decoder::new(Encoded::Gzip, &bytes[..]).and_then(|d| d.take(most + 1).read_to_end(&mut plain));
        match read {
            Ok(_) if plain.len() as u64 > most => Err(broken("it is too long for a definition".into())),
            Ok(_) => Ok(plain),
            Err(e) => Err(broken(e.to_string())),
        }
    });
    read.await.map_err(|e| Error::new(ErrorKind::Internal, "reading a definition stopped unexpectedly").source(e))?
}

async fn read_json<T: DeserializeOwned>(storage: &dyn Storage, key: &Key) -> Result<T> {
    let bytes = read_plain(storage, key).await?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(ErrorKind::Corrupt, format!("{}/{key} is not what mongodump writes", storage.place()))
            .source(e)
            .hint("use another backup")
    })
}

/// The first and the last position of an oplog; `None` for one without entries.
async fn span(
    storage: &dyn Storage,
    root: &BackupRoot,
    path: &str,
    gzipped: bool,
) -> Result<Option<(Timestamp, Timestamp)>> {
    let key = root.key().join(path)?;
    let corrupt = |why: &str| {
        Error::new(ErrorKind::Corrupt, format!("{}/{key} is damaged: {why}", storage.place()))
            .hint("use another backup")
    };
    let mut chunks = storage.get(&key, None).await?;
    let (sender, receiver) = std::sync::mpsc::sync_channel::<bytes::Bytes>(4);
    let reading = tokio::task::spawn_blocking(move || positions(Chunks::new(receiver), gzipped));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        let sender = sender.clone();
        // A reader that has failed says so itself.
        let sent = tokio::task::spawn_blocking(move || sender.send(chunk)).await;
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
    drop(sender);
    let read = reading
        .await
        .map_err(|e| Error::new(ErrorKind::Internal, "reading an oplog stopped unexpectedly").source(e))?;
    read.map_err(|why| corrupt(&why))
}

/// What comes through a channel, as a stream of bytes.
struct Chunks {
    chunks: std::sync::mpsc::Receiver<bytes::Bytes>,
    present: bytes::Bytes,
}

impl Chunks {
    fn new(chunks: std::sync::mpsc::Receiver<bytes::Bytes>) -> Self {
        Self { chunks, present: bytes::Bytes::new() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.present.is_empty() {
            match self.chunks.recv() {
                Ok(chunk) => self.present = chunk,
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.present.len());
        buffer[..n].copy_from_slice(&self.present.split_to(n));
        Ok(n)
    }
}

/// A document of the oplog is at most this long (16 MiB and what surrounds it).
const DOCUMENT_LIMIT: usize = 48 << 20;

fn positions(source: Chunks, gzipped: bool) -> std::result::Result<Option<(Timestamp, Timestamp)>, String> {
    let encoded = if gzipped { Encoded::Gzip } else { Encoded::Plain };
    let decoder = Decoder::new(encoded, source).map_err(|e| e.to_string())?;
    let mut reader = std::io::BufReader::with_capacity(1 << 20, decoder);
    let mut span: Option<(Timestamp, Timestamp)> = None;
    let mut document = Vec::new();
    loop {
        let mut length = [0; 4];
        match reader.read(&mut length[..1]).map_err(|e| e.to_string())? {
            0 => return Ok(span),
            _ => reader.read_exact(&mut length[1..]).map_err(|e| e.to_string())?,
        }
        let size = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0);
        if !(5..=DOCUMENT_LIMIT).contains(&size) {
            return Err(format!("it holds a document of {size} bytes"));
        }
        document.resize(size, 0);
        document[..4].copy_from_slice(&length);
        reader.read_exact(&mut document[4..]).map_err(|e| e.to_string())?;
        let at = op_time(&document).ok_or("it holds an entry without a position")?.ts;
        span = Some(match span {
            Some((first, last)) if at >= last => (first, at),
            Some((_, last)) => return Err(format!("it goes back from {last} to {at}")),
            None => (at, at),
        });
    }
}
