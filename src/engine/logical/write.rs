//! Commands of a restore that write to the target.

use std::collections::HashSet;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use tokio_util::sync::CancellationToken;

use crate::artifact::bson;
use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::apply::{Batch, Sent};
use crate::mongo::oplog::entry::OpKind;
use crate::mongo::{Server, run};

/// The target, and the token that stops the restore. None of its commands is bounded in time: building an index takes
/// as long as it takes.
#[derive(Clone)]
pub(super) struct Writes {
    pub server: Server,
    pub cancel: CancellationToken,
}

/// One operation of a batch.
pub(super) struct Applied {
    pub sent: Sent,
    /// False: an update that found no document.
    pub ok: bool,
}

/// Stored functions: a collection that can be neither dropped nor made otherwise than it is.
pub(super) const SCRIPTS: &str = "system.js";

const NAMESPACE_NOT_FOUND: i32 = 26;
/// An update found nothing.
const UPDATE_OPERATION_FAILED: i32 = 218;

impl Writes {
    /// Runs a command, `doing` something for a person.
    pub async fn command(&self, db: &str, doing: &str, command: Document) -> Result<Document> {
        let database = self.server.client().database(db);
        self.server.call(&self.cancel, None, doing, async move { database.run_command(command).await }).await
    }

    /// Runs a command that is already BSON.
    pub async fn raw(&self, db: &str, doing: &str, command: Vec<u8>) -> Result<RawDocumentBuf> {
        let command = RawDocumentBuf::from_bytes(command)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("{doing}: the command is no BSON")).source(e))?;
        let database = self.server.client().database(db);
        let reply = self.server.call(&self.cancel, None, doing, async move { database.run_raw_command(command).await });
        RawDocumentBuf::try_from(&reply.await?)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("{doing}: the reply is no BSON")).source(e))
    }

    /// Drops a collection, view or time series. One that is gone already is no error.
    /// `system.js`, which no server lets go, is emptied.
    pub async fn drop(&self, ns: &Namespace) -> Result<()> {
        if ns.collection == SCRIPTS {
            let everything = vec![doc! {"q": {}, "limit": 0}];
            let command = doc! {"delete": SCRIPTS, "deletes": everything, "writeConcern": {"w": 1}};
            return self.command(&ns.db, &format!("emptying {ns}"), command).await.map(drop);
        }
        let database = self.server.client().database(&ns.db);
        let command = doc! {"drop": ns.collection.as_str(), "writeConcern": {"w": 1}};
        let outcome = run(&self.cancel, None, async move { database.run_command(command).await }).await?;
        match outcome {
            Ok(_) => Ok(()),
            Err(e) if crate::mongo::error::server_code(&e) == Some(NAMESPACE_NOT_FOUND) => Ok(()),
            Err(e) => Err(self.server.error(&format!("dropping {}", escape(&ns.to_string())), &e)),
        }
    }

    /// Runs a batch of operations. An update that found no document is told apart from a failure: the caller knows
    /// whether that may be.
    ///
    /// Errors: name the operation that failed, its position and namespace.
    pub async fn apply_ops(&self, mut batch: Batch) -> Result<Vec<Applied>> {
        let mut done = Vec::new();
        // Documents that are missing: updating them again would only fail again.
        let mut missing = HashSet::new();
        loop {
            let (command, sent) = batch.into_command();
            let (results, error) = self.try_ops(&command).await?;
            let found_nothing = error.as_ref().is_some_and(|(_, code)| *code == Some(UPDATE_OPERATION_FAILED));
            let failed = results.iter().zip(&sent).position(|(ok, sent)| !ok && sent.kind != OpKind::Update);
            let complete = results.len() == sent.len() && (error.is_none() || found_nothing);
            if failed.is_some() || results.is_empty() || !(complete || found_nothing) {
                let at = failed.unwrap_or(results.len().saturating_sub(1));
                let error = error.map(|(e, _)| e);
                return Err(failure(sent.get(at), error));
            }
            let tried = results.len();
            // The server stops at the first failure, with what is before it applied.
            batch = Batch::default();
            for (sent, ok) in sent.iter().zip(results) {
                note(&mut missing, sent, ok);
                done.push(Applied { sent: sent.clone(), ok });
            }
            for (operation, sent) in operations(&command)?.skip(tried).zip(sent.into_iter().skip(tried)) {
                if sent.kind == OpKind::Update && missing.contains(&sent.key) {
                    done.push(Applied { sent, ok: false });
                    continue;
                }
                // What comes after an insert may find its document again.
                note(&mut missing, &sent, true);
                batch.push_encoded(operation?, sent);
            }
            if batch.is_empty() {
                return Ok(done);
            }
        }
    }

    /// The result of each operation that was tried, and why the server stopped.
    async fn try_ops(&self, command: &[u8]) -> Result<(Vec<bool>, Option<(Error, Option<i32>)>)> {
        let command = RawDocumentBuf::from_bytes(command.to_vec())
            .map_err(|e| Error::new(ErrorKind::Internal, "applyOps: the command is no BSON").source(e))?;
        let database = self.server.client().database("admin");
        let outcome = run(&self.cancel, None, async move { database.run_raw_command(command).await }).await?;
        let (reply, error) = match outcome {
            Ok(reply) => (Some(reply), None),
            Err(e) => {
                let reply = e.server_response().and_then(|r| Document::try_from(r).ok());
                let code = crate::mongo::error::server_code(&e);
                (reply, Some((self.server.error("replaying the oplog", &e), code)))
            }
        };
        let results = reply.as_ref().and_then(|r| r.get_array("results").ok());
        let ok = results.map(|r| r.iter().map(|b| b.as_bool().unwrap_or(false)).collect()).unwrap_or_default();
        Ok((ok, error))
    }
}

fn note(missing: &mut HashSet<u64>, sent: &Sent, ok: bool) {
    if sent.kind != OpKind::Update {
        missing.remove(&sent.key);
    } else if !ok {
        missing.insert(sent.key);
    }
}

/// The operations of an `applyOps` command.
fn operations(command: &[u8]) -> Result<impl Iterator<Item = Result<&[u8]>>> {
    let broken = |e| Error::new(ErrorKind::Internal, "applyOps: the command is no BSON").source(e);
    let list = bson::get(command, "applyOps").and_then(|e| e.array()).unwrap_or_default();
    Ok(bson::elements(list).map_err(broken)?.map(move |e| e.map(|e| e.value).map_err(broken)))
}

fn failure(sent: Option<&Sent>, error: Option<Error>) -> Error {
    let place = sent.map_or_else(String::new, |s| {
        let word = match s.kind {
            OpKind::Insert => "insert",
            OpKind::Update => "update",
            _ => "delete",
        };
        format!("the {word} at oplog position {} in {}", s.ts, escape(&s.ns))
    });
    let error = error.unwrap_or_else(|| Error::new(ErrorKind::Failed, "applyOps did not try every operation"));
    error.context(format!("{place} failed"))
}
