//! A server with a backup cursor: a real one, with a proxy before it that answers `$backupCursor` and `$backupCursorExtend` in
//! the documents of Percona Server. No server that has them is to be had freely, so that nothing else is tested.
//!
//! While the cursor is open the real server is locked: the files stand still, as those of a checkpoint do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use mongodb::Client;
use mongodb::bson::{Binary, Bson, Document, Timestamp, doc, spec::BinarySubtype};
use mongokeep::sandbox::ReplicaSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const ID: i64 = 4_711;
const OP_MSG: i32 = 2013;

/// What happened, and what is to happen.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// So many attempts to open it meet a checkpoint.
    pub checkpoints: usize,
    /// The user may not.
    pub denied: bool,
    /// After the files were named, the cursor is gone.
    pub lost: bool,
    /// A file is named that lies elsewhere.
    pub outside: bool,
    pub opened: usize,
    pub closed: usize,
    pub extended: Vec<Timestamp>,
    /// What is not named yet, while it is open.
    pub left: Option<Vec<Document>>,
    /// The end of the list was seen.
    pub listed: bool,
}

/// Stops when dropped.
pub struct CursorServer {
    pub uri: String,
    pub script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for CursorServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Real {
    address: SocketAddr,
    client: Client,
    db_path: PathBuf,
    script: Arc<Mutex<Script>>,
}

impl CursorServer {
    /// Before the first member of `set`.
    pub async fn start(set: &ReplicaSet, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("mongodb://{}/?directConnection=true", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(script));
        let real = Arc::new(Real {
            address: set.addresses()[0].parse().unwrap(),
            client: set.direct_client(0).await.unwrap(),
            db_path: set.server(0).unwrap().dbpath().to_owned(),
            script: Arc::clone(&script),
        });
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let real = Arc::clone(&real);
                tokio::spawn(async move { real.serve(client).await });
            }
        });
        Self { uri, script, task }
    }
}

type Writer = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

impl Real {
    async fn serve(&self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.address).await else { return };
        let (mut from_client, to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let to_client: Writer = Arc::new(tokio::sync::Mutex::new(to_client));
        let answers = Arc::clone(&to_client);
        let back = tokio::spawn(async move {
            while let Some(message) = read(&mut from_server).await {
                if answers.lock().await.write_all(&message).await.is_err() {
                    return;
                }
            }
        });
        while let Some(message) = read(&mut from_client).await {
            let answer = match command(&message) {
                Some(command) => self.answer(&command).await,
                None => None,
            };
            let written = match answer {
                Some(answer) => to_client.lock().await.write_all(&reply(&message, &answer)).await,
                None => to_server.write_all(&message).await,
            };
            if written.is_err() {
                break;
            }
        }
        back.abort();
    }

    /// `None`: the real server answers.
    async fn answer(&self, command: &Document) -> Option<Document> {
        let stage = command.get_array("pipeline").ok().and_then(|stages| stages.first()?.as_document().cloned());
        if stage.as_ref().is_some_and(|stage| stage.contains_key("$backupCursor")) {
            return Some(self.open().await);
        }
        if let Some(extend) = stage.and_then(|stage| stage.get_document("$backupCursorExtend").cloned().ok()) {
            self.script.lock().unwrap().extended.push(extend.get_timestamp("timestamp").unwrap());
            assert_eq!(extend.get("backupId"), Some(&backup_id()));
            let journals = self.files().into_iter().filter(|d| d.get_str("filename").unwrap().contains("/journal/"));
            let batch: Vec<_> = journals.map(Bson::Document).collect();
            return Some(doc! {"cursor": {"firstBatch": batch, "id": 0_i64, "ns": "admin.$cmd.aggregate"}, "ok": 1.0});
        }
        if command.get_i64("getMore").is_ok_and(|id| id == ID) {
            return Some(self.more());
        }
        let killed = command.get_array("cursors").is_ok_and(|ids| ids.contains(&Bson::Int64(ID)));
        if command.contains_key("killCursors") && killed {
            self.close().await;
            return Some(doc! {"cursorsKilled": [ID], "cursorsNotFound": [], "cursorsAlive": [], "ok": 1.0});
        }
        None
    }

    async fn open(&self) -> Document {
        {
            let mut script = self.script.lock().unwrap();
            if script.denied {
                return failed(13, "Unauthorized", "not authorized on admin to execute command");
            }
            if script.left.is_some() {
                return failed(
                    50886,
                    "Location50886",
                    "The existing backup cursor must be closed before $backupCursor",
                );
            }
            if script.checkpoints > 0 {
                script.checkpoints -= 1;
                return failed(50915, "BackupCursorOpenConflictWithCheckpoint", "A checkpoint took place");
            }
        }
        self.client.database("admin").run_command(doc! {"fsync": 1, "lock": true}).await.unwrap();
        let oplog = self.client.database("local").collection::<Document>("oplog.rs");
        let newest = oplog.find_one(doc! {}).sort(doc! {"$natural": -1}).await.unwrap().unwrap();
        let (ts, t) = (newest.get_timestamp("ts").unwrap(), newest.get_i64("t").unwrap());
        let db_path = self.db_path.to_str().unwrap();
        let metadata = doc! {
            "backupId": backup_id(), "dbpath": db_path, "oplogStart": {"ts": ts, "t": t}, "oplogEnd": {"ts": ts, "t": t},
            "checkpointTimestamp": ts, "disableIncrementalBackup": false, "incrementalBackup": false, "blockSize": 16_i64,
        };
        let mut script = self.script.lock().unwrap();
        let mut files = self.files();
        if script.outside {
            files.push(doc! {"filename": "/etc/hostname", "fileSize": 1_i64});
        }
        let rest = files.split_off(2.min(files.len()));
        (script.left, script.listed) = (Some(rest), false);
        script.opened += 1;
        let first = [vec![doc! {"metadata": metadata}], files].concat();
        let first: Vec<_> = first.into_iter().map(Bson::Document).collect();
        doc! {"cursor": {"firstBatch": first, "id": ID, "ns": "admin.$cmd.aggregate"}, "ok": 1.0}
    }

    fn more(&self) -> Document {
        let mut script = self.script.lock().unwrap();
        let gone = script.lost && script.listed;
        let Some(left) = script.left.as_mut().filter(|_| !gone) else {
            return failed(43, "CursorNotFound", "cursor id 4711 not found");
        };
        let batch: Vec<_> = left.drain(..left.len().min(5)).map(Bson::Document).collect();
        script.listed = batch.is_empty();
        doc! {"cursor": {"nextBatch": batch, "id": ID, "ns": "admin.$cmd.aggregate"}, "ok": 1.0}
    }

    async fn close(&self) {
        let was_open = self.script.lock().unwrap().left.take().is_some();
        if was_open {
            self.client.database("admin").run_command(doc! {"fsyncUnlock": 1}).await.unwrap();
            self.script.lock().unwrap().closed += 1;
        }
    }

    /// As a backup cursor names them: without the options of the storage engine, and what is no data.
    fn files(&self) -> Vec<Document> {
        let mut found = Vec::new();
        walk(&self.db_path, &mut found);
        found.sort();
        let all = found.into_iter().map(|path| {
            let size = i64::try_from(path.metadata().unwrap().len()).unwrap();
            doc! {"filename": path.to_str().unwrap(), "fileSize": size}
        });
        all.collect()
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    const NOT: [&str; 5] = ["mongod.lock", "WiredTiger.lock", "diagnostic.data", "storage.bson", "_tmp"];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if NOT.contains(&name.as_str()) || name.starts_with("WiredTigerPreplog") || name.starts_with("WiredTigerTmplog")
        {
            continue;
        }
        match entry.path().is_dir() {
            true => walk(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

fn backup_id() -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] })
}

fn failed(code: i32, name: &str, message: &str) -> Document {
    doc! {"ok": 0.0, "errmsg": message, "code": code, "codeName": name}
}

/// One whole message, header included.
async fn read(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut message = vec![0; 16];
    from.read_exact(&mut message).await.ok()?;
    let length = u32::from_le_bytes(message[..4].try_into().unwrap()) as usize;
    message.resize(length, 0);
    from.read_exact(&mut message[16..]).await.ok()?;
    Some(message)
}

/// The body of an `OP_MSG`.
fn command(message: &[u8]) -> Option<Document> {
    let is_message = i32::from_le_bytes(message[12..16].try_into().unwrap()) == OP_MSG;
    (is_message && message.get(20) == Some(&0)).then(|| Document::from_reader(&message[21..]).ok())?
}

fn reply(to: &[u8], body: &Document) -> Vec<u8> {
    let body = body.to_vec().unwrap();
    let mut message = Vec::new();
    message.extend((21 + body.len() as u32).to_le_bytes());
    message.extend(1_i32.to_le_bytes());
    message.extend(&to[4..8]);
    message.extend(OP_MSG.to_le_bytes());
    message.extend(0_u32.to_le_bytes());
    message.push(0);
    message.extend(body);
    message
}
