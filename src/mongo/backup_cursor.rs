//! `$backupCursor`: where a server has it, it keeps the files of a checkpoint as they are for as long as the cursor is open, and
//! takes writes meanwhile.
//!
//! Percona Server and MongoDB Enterprise have it, Community has not. What is done here follows their documents
//! (<https://docs.percona.com/percona-server-for-mongodb/6.0/hot-backup.html>,
//! <https://www.percona.com/blog/experimental-feature-backupcursorextend-in-percona-server-for-mongodb/>).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, Timestamp as BsonTimestamp, doc};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::connect::Server;
use super::error::{code, server_code};
use super::topology::number;
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// A server closes a cursor that nobody asks for ten minutes.
pub const ALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// How long a server may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// `$backupCursorExtend` waits until the server has written its log up to the position.
const EXTEND_LIMIT: Duration = Duration::from_secs(300);
/// While a checkpoint is taken, or the oplog rolls over, no cursor can be opened.
const TRIES: u32 = 10;
/// A data folder has a few files for each collection and index. More than this is no such list.
const MOST_FILES: usize = 10_000_000;

/// A cursor that is open. Closed by [`BackupCursor::close`] or when dropped; after a kill of this process the server closes it
/// ten minutes later.
pub struct BackupCursor {
    server: Server,
    session: Arc<Mutex<ClientSession>>,
    id: i64,
    collection: String,
    is_open: AtomicBool,
    backup: Bson,
    /// What is written after it is in the log alone.
    pub checkpoint: BsonTimestamp,
    /// The data folder, as the server names it.
    pub db_path: String,
    pub files: Vec<CursorFile>,
}

/// A file that belongs to the checkpoint, or to the log after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorFile {
    /// As the server names it.
    pub path: String,
    /// Bytes of it that belong to the backup, if the server says so.
    pub size: Option<u64>,
}

impl BackupCursor {
    /// Opens a cursor at the server that `server` speaks to directly; `None` when it has none to open.
    ///
    /// Errors: `Denied`; `Conflict` when somebody else holds the one cursor that a server has; what the server says.
    pub async fn open(server: &Server, cancel: &CancellationToken) -> Result<Option<Self>> {
        let starting = server.client().clone();
        let doing = "opening a backup cursor";
        let session =
            server.call(cancel, Some(ANSWER_LIMIT), doing, async move { starting.start_session().await }).await?;
        let session = Arc::new(Mutex::new(session));
        let ask = doc! {"aggregate": 1, "pipeline": [{"$backupCursor": {}}], "cursor": {}};
        let mut tried = 0;
        let reply = loop {
            match run(server, cancel, &session, ANSWER_LIMIT, ask.clone()).await? {
                Ok(reply) => break reply,
                Err(e) if is_unknown(&e) => return Ok(None),
                Err(e) => {
                    tried += 1;
                    let passes = matches!(
                        server_code(&e),
                        Some(code::BACKUP_CURSOR_CHECKPOINT | code::BACKUP_CURSOR_OPLOG_ROLLED_OVER)
                    );
                    if !passes || tried == TRIES {
                        return Err(refused(server, doing, &e));
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return Err(Error::cancelled()),
                () = tokio::time::sleep(Duration::from_millis(500) * tried) => {}
            }
        };
        let (id, collection) = cursor_of(&reply).ok_or_else(|| nonsense(server, "without a cursor"))?;
        let mut open = Self {
            server: server.clone(),
            session,
            id,
            collection,
            is_open: AtomicBool::new(true),
            backup: Bson::Null,
            checkpoint: BsonTimestamp { time: 0, increment: 0 },
            db_path: String::new(),
            files: Vec::new(),
        };
        match open.read(batch_of(&reply, "firstBatch"), cancel).await {
            Ok(()) => Ok(Some(open)),
            Err(e) => {
                open.close().await;
                Err(e)
            }
        }
    }

    async fn read(&mut self, first: Vec<Document>, cancel: &CancellationToken) -> Result<()> {
        if self.id == 0 {
            return Err(nonsense(&self.server, "that closed at once"));
        }
        let mut batch = first;
        while !batch.is_empty() {
            for document in batch {
                if let Ok(metadata) = document.get_document("metadata") {
                    self.backup = metadata.get("backupId").cloned().unwrap_or(Bson::Null);
                    self.checkpoint = metadata.get_timestamp("checkpointTimestamp").unwrap_or(self.checkpoint);
                    self.db_path = metadata.get_str("dbpath").unwrap_or_default().to_owned();
                } else {
                    self.files.push(file(&document).ok_or_else(|| nonsense(&self.server, "of files without names"))?);
                }
            }
            if self.files.len() > MOST_FILES {
                return Err(nonsense(&self.server, "that does not end"));
            }
            batch = self.next(cancel).await?;
        }
        if self.backup == Bson::Null || self.db_path.is_empty() || self.files.is_empty() {
            return Err(nonsense(&self.server, "that does not say what it holds"));
        }
        Ok(())
    }

    async fn next(&self, cancel: &CancellationToken) -> Result<Vec<Document>> {
        let ask = doc! {"getMore": self.id, "collection": &self.collection};
        let reply = run(&self.server, cancel, &self.session, ANSWER_LIMIT, ask).await?;
        let reply = reply.map_err(|e| self.server.error("asking a backup cursor", &e))?;
        match cursor_of(&reply) {
            Some((id, _)) if id == self.id => Ok(batch_of(&reply, "nextBatch")),
            _ => Err(lost(&self.server)),
        }
    }

    /// Tells the server that the cursor is still needed.
    ///
    /// Errors: `Interrupted` when the server has closed it: what was copied since may be torn.
    pub async fn keep(&self, cancel: &CancellationToken) -> Result<()> {
        match self.next(cancel).await {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
            Err(e) => Err(lost(&self.server).source(e)),
        }
    }

    /// The files that hold the server's log up to `position`, which from now on belong to the backup.
    ///
    /// Errors: what the server says.
    pub async fn extend(&self, position: Timestamp, cancel: &CancellationToken) -> Result<Vec<CursorFile>> {
        let timestamp = BsonTimestamp { time: position.t, increment: position.i };
        let stage = doc! {"$backupCursorExtend": {"backupId": &self.backup, "timestamp": timestamp}};
        let ask = doc! {"aggregate": 1, "pipeline": [stage], "cursor": {"batchSize": 10_000}};
        let reply = run(&self.server, cancel, &self.session, EXTEND_LIMIT, ask).await?;
        let reply = reply.map_err(|e| self.server.error("extending a backup cursor", &e))?;
        match cursor_of(&reply) {
            Some((0, _)) => {}
            _ => return Err(nonsense(&self.server, "with more files of its log than there can be")),
        }
        let files: Option<Vec<_>> = batch_of(&reply, "firstBatch").iter().map(file).collect();
        files.ok_or_else(|| nonsense(&self.server, "of files without names"))
    }

    /// Lets the server remove what only the backup needed. A server that does not answer does so by itself.
    pub async fn close(&self) {
        if let Some(closing) = self.closing() {
            closing.await;
        }
    }

    /// `None` when it was closed before.
    fn closing(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        if !self.is_open.swap(false, Ordering::Relaxed) {
            return None;
        }
        let ask = doc! {"killCursors": &self.collection, "cursors": [self.id]};
        let server = self.server.clone();
        // Cursors are killed without the session that they belong to: the driver takes none for this command.
        Some(async move {
            if let Err(e) = server.command(&CancellationToken::new(), "admin", ask).await {
                tracing::warn!("a backup cursor stays open for ten minutes: {}", e.full());
            }
        })
    }
}

impl Drop for BackupCursor {
    fn drop(&mut self) {
        if let (Some(closing), Ok(runtime)) = (self.closing(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(closing);
        }
    }
}

type Replied = std::result::Result<Document, mongodb::error::Error>;

/// The outer error is ours, the inner what the server answered.
async fn run(
    server: &Server,
    cancel: &CancellationToken,
    session: &Arc<Mutex<ClientSession>>,
    limit: Duration,
    command: Document,
) -> Result<Replied> {
    let (admin, session) = (server.client().database("admin"), Arc::clone(session));
    let asked = async move { admin.run_command(command).session(&mut *session.lock().await).await };
    super::run::run(cancel, Some(limit), asked)
        .await
        .map_err(|e| e.context(format!("service {}: a backup cursor", server.service())))
}

/// Servers without the stage say so before they look at rights (6.0.5).
fn is_unknown(error: &mongodb::error::Error) -> bool {
    server_code(error) == Some(code::UNKNOWN_STAGE)
}

fn refused(server: &Server, doing: &str, error: &mongodb::error::Error) -> Error {
    let mapped = server.error(doing, error);
    match server_code(error) {
        Some(code::BACKUP_CURSOR_IN_USE) => Error::new(ErrorKind::Conflict, mapped.full())
            .hint("another backup tool copies this member now, or one was killed a moment ago: the server lets go after ten minutes"),
        Some(code::UNAUTHORIZED) => mapped.hint("the role hostManager on admin gives the right (fsync)"),
        _ => mapped,
    }
}

fn lost(server: &Server) -> Error {
    let what =
        format!("service {}: the server closed the backup cursor before everything was copied", server.service());
    Error::new(ErrorKind::Interrupted, what).hint("another attempt copies a consistent state again")
}

fn nonsense(server: &Server, what: &str) -> Error {
    let what = format!("service {}: {} answered with a backup cursor {what}", server.service(), escape(server.hosts()));
    Error::new(ErrorKind::Unsupported, what).hint("this server's backup cursor is not one that this version knows")
}

fn cursor_of(reply: &Document) -> Option<(i64, String)> {
    let cursor = reply.get_document("cursor").ok()?;
    let (_, collection) = cursor.get_str("ns").ok()?.split_once('.')?;
    Some((cursor.get_i64("id").ok()?, collection.to_owned()))
}

fn batch_of(reply: &Document, key: &str) -> Vec<Document> {
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array(key));
    batch.map(|batch| batch.iter().filter_map(|d| d.as_document().cloned()).collect()).unwrap_or_default()
}

fn file(document: &Document) -> Option<CursorFile> {
    let size = document.get("fileSize").and_then(number).filter(|size| *size >= 0.0).map(|size| size as u64);
    Some(CursorFile { path: document.get_str("filename").ok()?.to_owned(), size })
}
