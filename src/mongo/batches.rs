//! Reading a cursor by raw batches, with the memory of all cursors of a job bounded together.
//!
//! The cursor lives on a task of its own, so that nobody drops a request half way: when the reader goes away, the
//! task ends after the reply it waits for, and closes the cursor on the server.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mongodb::bson::RawDocumentBuf;
use mongodb::error::Error as DriverError;
use mongodb::raw_batch_cursor::RawBatch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::connect::Server;
use super::error::server_code;
use crate::error::{Error, ErrorKind, Result};

/// A reply that takes longer is not coming: even a scan of a cold disk fills a batch in this time.
const REPLY_LIMIT: Duration = Duration::from_secs(300);

/// What a reply is expected to take before one was seen. Batch sizes are chosen to stay near it.
pub const TARGET_BYTES: usize = 4 << 20;

/// Bytes of replies that may be in memory at once, over all cursors that share it.
#[derive(Clone)]
pub struct Budget {
    /// One permit is a KiB.
    permits: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes >> 10).unwrap_or(u32::MAX >> 4).max(1);
        Self { permits: Arc::new(Semaphore::new(total as usize)), total }
    }

    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, self.total);
        Arc::clone(&self.permits).acquire_many_owned(wanted).await.ok()
    }
}

/// One reply of the server.
pub struct Reply {
    batch: RawBatch,
    _memory: OwnedSemaphorePermit,
}

impl Reply {
    /// The batch as the bytes of one BSON array of documents.
    pub fn array(&self) -> Result<&[u8]> {
        let slices = self.batch.doc_slices();
        Ok(slices.map_err(|e| Error::new(ErrorKind::Failed, "the server's reply holds no batch").source(e))?.as_bytes())
    }
}

/// Why a cursor ended early.
#[derive(Debug)]
pub struct ReadError {
    /// The server's code, where it gave one.
    pub code: Option<i32>,
    pub error: Error,
}

/// The replies of one cursor.
pub struct Batches {
    replies: mpsc::Receiver<std::result::Result<Reply, ReadError>>,
}

/// What to read.
pub struct ReadRequest {
    pub db: String,
    /// A command that returns a cursor.
    pub command: RawDocumentBuf,
    /// Documents in a reply; `None`: as many as fit into 16 MiB.
    pub batch_size: Option<u32>,
    /// How long the server waits for more at the end of a tailable cursor.
    pub await_time: Option<Duration>,
    /// For errors: `reading shop.orders`.
    pub doing: String,
}

impl Batches {
    /// Opens the cursor; its first error comes from [`Batches::next`] like any other.
    pub fn open(server: &Server, budget: &Budget, request: ReadRequest) -> Self {
        let (sender, replies) = mpsc::channel(1);
        let (server, budget) = (server.clone(), budget.clone());
        tokio::spawn(async move { fetch(server, budget, request, sender).await });
        Self { replies }
    }

    /// The next reply (possibly an empty one), or `None` when the cursor is exhausted.
    pub async fn next(&mut self) -> std::result::Result<Option<Reply>, ReadError> {
        self.replies.recv().await.transpose()
    }
}

async fn fetch(
    server: Server,
    budget: Budget,
    request: ReadRequest,
    sender: mpsc::Sender<std::result::Result<Reply, ReadError>>,
) {
    let db = server.client().database(&request.db);
    let failed = |error: Option<DriverError>| match error {
        Some(e) => ReadError { code: server_code(&e), error: server.error(&request.doing, &e) },
        None => {
            let text = format!(
                "service {}: {}: no answer within {} s",
                server.service(),
                request.doing,
                REPLY_LIMIT.as_secs()
            );
            ReadError { code: None, error: Error::new(ErrorKind::Unreachable, crate::domain::text::escape(&text)) }
        }
    };
    let mut expected = TARGET_BYTES;
    let mut cursor = None;
    loop {
        // A place for the reply comes first: a cursor never reads ahead of its reader by more than one batch.
        let Ok(place) = sender.reserve().await else { return };
        let Some(memory) = budget.take(expected).await else { return };
        let reply = tokio::time::timeout(REPLY_LIMIT, async {
            let open = match &mut cursor {
                Some(open) => open,
                None => {
                    let mut find = db.run_raw_cursor_command(request.command.clone());
                    if let Some(size) = request.batch_size {
                        find = find.batch_size(size);
                    }
                    if let Some(time) = request.await_time {
                        find = find.max_time(time);
                    }
                    cursor.insert(find.batch().await?)
                }
            };
            open.next().await.transpose()
        });
        match reply.await {
            Ok(Ok(Some(batch))) => {
                expected = batch.as_raw_document().as_bytes().len().max(TARGET_BYTES);
                place.send(Ok(Reply { batch, _memory: memory }));
            }
            Ok(Ok(None)) => return,
            Ok(Err(e)) => {
                place.send(Err(failed(Some(e))));
                return;
            }
            Err(_) => {
                place.send(Err(failed(None)));
                return;
            }
        }
    }
}
