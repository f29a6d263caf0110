//! Recorded changes, put into the oplog of a copy, from where its server replays them.

use std::ops::ControlFlow;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{RawArrayBuf, RawDocument, RawDocumentBuf, cstr, rawdoc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::domain::pitr::OpTime;
use crate::engine::contract::OplogTail;
use crate::engine::oplog_stream::{Source, read_all};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::oplog::entry::op_time;
use crate::mongo::topology::number;

/// Entries that are put into the oplog with one command.
const BATCH_ENTRIES: usize = 2_000;
const BATCH_BYTES: usize = 8 << 20;
/// The largest document that a server takes with an insert. An entry may be a little larger than the document that it
/// inserts.
const LARGEST: usize = 16 << 20;
/// The largest of a server's own documents, a command included: no entry is larger.
const LARGEST_COMMAND: usize = LARGEST + (16 << 10);

/// Recorded entries after a position, as they come from the storage.
pub struct Recorded {
    incoming: mpsc::Receiver<(OpTime, RawDocumentBuf)>,
    reading: tokio::task::JoinHandle<Result<()>>,
}

impl Recorded {
    /// Entries after `after`, up to the position of `tail`.
    pub fn read(tail: &OplogTail, after: OpTime, cancel: &CancellationToken) -> Result<Self> {
        let sources = Source::slices(tail)?;
        let until = tail.until;
        let (outgoing, incoming) = mpsc::channel(BATCH_ENTRIES);
        let cancel = cancel.clone();
        let reading = tokio::task::spawn_blocking(move || {
            read_all(sources, Some(after), &cancel, |entry| {
                let corrupt = || Error::new(ErrorKind::Corrupt, "a recorded entry has no position");
                let at = op_time(entry).ok_or_else(corrupt)?;
                if at.ts > until {
                    return Ok(ControlFlow::Break(()));
                }
                let entry = RawDocumentBuf::from_bytes(entry.to_vec()).map_err(|e| corrupt().source(e))?;
                // Whoever reads them may have failed, and says why.
                Ok(match outgoing.blocking_send((at, entry)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            })
        });
        Ok(Self { incoming, reading })
    }

    /// Puts all of them into the oplog of `server`, each as `change` makes it. Returns the last, and how many there were.
    ///
    /// Errors: `Unsupported` for one that no server takes; what was wrong with what was recorded; `Cancelled`.
    pub async fn put(
        mut self,
        server: &Server,
        cancel: &CancellationToken,
        mut change: impl FnMut(RawDocumentBuf) -> Result<RawDocumentBuf>,
    ) -> Result<(Option<OpTime>, u64)> {
        let (mut last, mut taken) = (None, 0);
        let (mut batch, mut entries, mut size) = (RawArrayBuf::new(), 0, 0);
        loop {
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::cancelled()),
                next = self.incoming.recv() => next,
            };
            let next = match next {
                None => None,
                Some((at, entry)) => Some((at, change(entry)?)),
            };
            let is_full = |more: usize| entries >= BATCH_ENTRIES || size + more > BATCH_BYTES;
            if next.as_ref().is_none_or(|(_, entry)| is_full(entry.as_bytes().len())) {
                insert(server, cancel, std::mem::take(&mut batch)).await?;
                (entries, size) = (0, 0);
            }
            let Some((at, entry)) = next else { break };
            (last, taken) = (Some(at), taken + 1);
            // Nothing waits before it: it is more than any batch.
            if entry.as_bytes().len() > LARGEST {
                insert_large(server, cancel, at, &entry).await?;
                continue;
            }
            (entries, size) = (entries + 1, size + entry.as_bytes().len());
            batch.push(entry);
        }
        // Why there are no more: an error in what was recorded must not look like its end.
        self.reading
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "reading recorded changes broke off").source(e))??;
        Ok((last, taken))
    }
}

/// As a command: the driver's own insert would add an `_id` to each.
async fn insert(server: &Server, cancel: &CancellationToken, batch: RawArrayBuf) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let local = server.client().database("local");
    let command = rawdoc! {"insert": "oplog.rs", "documents": batch, "ordered": true};
    let asked = async move { local.run_raw_command(command).await };
    let reply = server.call(cancel, None, "putting recorded changes into the oplog", asked).await?;
    match reply.get_array("writeErrors") {
        Err(_) => Ok(()),
        Ok(errors) => {
            let first = errors.first().and_then(|e| e.as_document()?.get_str("errmsg").ok()).unwrap_or("no reason");
            let what = format!("the server refused a recorded change: {}", crate::domain::text::escape(first));
            Err(Error::new(ErrorKind::Failed, what))
        }
    }
}

/// An entry that is larger than what an insert takes. `applyOps` looks only for an `_id`, which the fields of an entry may
/// have (they have one in a migration), and which the server ignores when it replays it (found on 4.4.2, 5.0.4, 6.0.5,
/// 6.0.27 and 7.0.11).
///
/// Errors: `Unsupported` for one that is larger than the server's own entries are.
async fn insert_large(server: &Server, cancel: &CancellationToken, at: OpTime, entry: &RawDocument) -> Result<()> {
    let mut named = RawDocumentBuf::new();
    for element in entry.iter() {
        let (name, value) =
            element.map_err(|e| Error::new(ErrorKind::Corrupt, "a recorded entry is not BSON").source(e))?;
        named.append(name, value);
    }
    if named.get("_id").ok().flatten().is_none() {
        named.append(cstr!("_id"), ObjectId::new());
    }
    let command = rawdoc! {"applyOps": [{"op": "i", "ns": "local.oplog.rs", "o": named}], "allowAtomic": false};
    let length = command.as_bytes().len();
    if length > LARGEST_COMMAND {
        let what =
            format!("the recorded change at position {} is too large for a server's oplog ({length} bytes)", at.ts);
        return Err(Error::new(ErrorKind::Unsupported, what)
            .hint("restore to a moment before it, or use a logical backup as the base"));
    }
    let admin = server.client().database("admin");
    let asked = async move { admin.run_raw_command(command).await };
    let doing = format!("putting the recorded change at position {} into the oplog", at.ts);
    let reply = server.call(cancel, None, &doing, asked).await?;
    let applied = reply.get_array("results").is_ok_and(|all| all.iter().all(|one| one.as_bool() == Some(true)));
    if reply.get("applied").and_then(number) == Some(1.0) && applied {
        return Ok(());
    }
    let what = format!("the server refused the recorded change at position {}", at.ts);
    Err(Error::new(ErrorKind::Failed, what).hint("restore to a moment before it, or use a logical backup as the base"))
}
