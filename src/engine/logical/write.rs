//! Commands of a restore that write to the target.

use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use tokio_util::sync::CancellationToken;

use crate::artifact::bson::{self, Writer, tag};
use crate::artifact::raw::Raw;
use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::error::server_code;
use crate::mongo::oplog::apply::{Atomic, Batch, Sent};
use crate::mongo::oplog::catalogue::MIXED;
use crate::mongo::oplog::entry::OpKind;
use crate::mongo::oplog::modifiers::UpdateForms;
use crate::mongo::{Server, run};

/// The target, and the token that stops the restore. None of its commands is bounded in time: building an index takes
/// as long as it takes.
#[derive(Clone)]
pub(super) struct Writes {
    pub server: Server,
    pub cancel: CancellationToken,
    /// The forms of updates the target takes.
    pub takes: UpdateForms,
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
const NAMESPACE_EXISTS: i32 = 48;
/// How often a collection is created before it is given up.
const CREATES: usize = 10;
/// Every operation was tried, and some failed: updates that found nothing
/// (<https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/db/repl/apply_ops.cpp>).
const SOME_FAILED: i32 = 8;
/// A whole document cannot replace one whose `_id` is equal, but written otherwise.
const ID_MISMATCH: i32 = 13596;

/// A bucket of a time series holds values of several types
/// (<https://github.com/mongodb/mongo/blob/r6.0.27/src/mongo/base/error_codes.yml>).
pub(super) const MIXED_BUCKET: i32 = 408;

const LOCK_FAILED: i32 = 107;
const NOTE_PAUSE: Duration = Duration::from_millis(200);
const NOTE_LIMIT: Duration = Duration::from_secs(120);

impl Writes {
    /// Runs a command that writes, `doing` something for a person. Unless it says otherwise it waits for no other member: what a
    /// server does by itself differs (5.0 and later wait for a majority), and whether a majority has all of it is asked once,
    /// at the end.
    pub async fn command(&self, db: &str, doing: &str, mut command: Document) -> Result<Document> {
        command.entry("writeConcern".to_owned()).or_insert(doc! {"w": 1}.into());
        let database = self.server.client().database(db);
        self.server.call(&self.cancel, None, doing, async move { database.run_command(command).await }).await
    }

    /// Writes a note into the oplog. The server tries for its lock a moment only, so that any other command may be in the
    /// way (seen on 6.0.5 beside a `dropDatabase`): then again.
    pub async fn note(&self, note: Document) -> Result<Document> {
        let began = tokio::time::Instant::now();
        loop {
            let (database, command) = (self.server.client().database("admin"), note.clone());
            match run(&self.cancel, None, async move { database.run_command(command).await }).await? {
                Ok(reply) => return Ok(reply),
                Err(e) if server_code(&e) == Some(LOCK_FAILED) && began.elapsed() < NOTE_LIMIT => {}
                Err(e) => return Err(self.server.error("noting the restore in the oplog", &e)),
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::cancelled()),
                () = tokio::time::sleep(NOTE_PAUSE) => {}
            }
        }
    }

    /// Runs a command that is already BSON.
    pub async fn raw(&self, db: &str, doing: &str, command: Vec<u8>) -> Result<RawDocumentBuf> {
        let command = raw_command(doing, command)?;
        let database = self.server.client().database(db);
        let reply = self.server.call(&self.cancel, None, doing, async move { database.run_raw_command(command).await });
        RawDocumentBuf::try_from(&reply.await?)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("{doing}: the reply is no BSON")).source(e))
    }

    /// Creates `ns`, once what it replaces is dropped. An application that goes on writing makes a dropped collection anew at
    /// once: where one is to be replaced (`replaces`) that goes, too.
    ///
    /// Errors: `Conflict` when it is made again and again, or where nothing was to be replaced.
    pub async fn create(&self, ns: &Namespace, options: &Raw, replaces: bool) -> Result<()> {
        let mut command = Writer::with_capacity(options.as_bytes().len() + ns.collection.len() + 32);
        command.str("create", &ns.collection);
        for option in options.iter() {
            command.element(&option);
        }
        command.open(tag::DOCUMENT, "writeConcern").i32("w", 1).close();
        let command = raw_command("creating a collection", command.finish())?;
        for _ in 0..CREATES {
            let (database, command) = (self.server.client().database(&ns.db), command.clone());
            match run(&self.cancel, None, async move { database.run_raw_command(command).await }).await? {
                Ok(_) => return Ok(()),
                Err(e) if server_code(&e) == Some(NAMESPACE_EXISTS) => {}
                Err(e) => return Err(self.server.error(&format!("creating {}", escape(&ns.to_string())), &e)),
            }
            if !replaces {
                break;
            }
            self.drop(ns).await?;
        }
        let (ns, service) = (escape(&ns.to_string()), escape(self.server.service()));
        Err(Error::new(
            ErrorKind::Conflict,
            format!("something else writes to {service} and made {ns} while it was restored; stop it first"),
        ))
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
            Err(e) if server_code(&e) == Some(NAMESPACE_NOT_FOUND) => Ok(()),
            Err(e) => Err(self.server.error(&format!("dropping {}", escape(&ns.to_string())), &e)),
        }
    }

    /// Lets buckets of several types into the time series whose buckets these are: what servers before 6.0.27 stored as a
    /// matter of course, that one takes only where it is told so.
    pub async fn allow_mixed(&self, buckets: &Namespace) -> Result<()> {
        let mut command = doc! {"collMod": buckets.collection.as_str()};
        command.insert(MIXED, true);
        self.command(&buckets.db, &format!("allowing mixed buckets in {buckets}"), command).await.map(drop)
    }

    /// The same for whatever the operation `sent` writes to.
    async fn allow_mixed_for(&self, sent: Option<&Sent>) -> Result<()> {
        match sent.and_then(|sent| Namespace::parse(&sent.ns)) {
            Some(buckets) => self.allow_mixed(&buckets).await,
            None => Ok(()),
        }
    }

    /// Runs a batch of operations. An update that found no document is told apart from a failure: the caller knows
    /// whether that may be.
    ///
    /// A server applies a command that only changes documents as one transaction, which is fast, but says little of one
    /// that fails: nothing of it is applied then, and every operation before the failure is called a failure too. Such
    /// a batch is run again operation by operation, within one command still.
    ///
    /// Errors: name the operation that failed, its position and namespace.
    pub async fn apply_ops(&self, batch: Batch) -> Result<Vec<Applied>> {
        if batch.one_by_one {
            return self.apply_each(batch).await;
        }
        let takes = batch.takes();
        let (command, sent) = batch.into_command(Atomic::Yes);
        let (mut results, mut error) = self.try_ops(command.clone()).await?;
        if error.as_ref().is_some_and(|(_, code)| *code == Some(MIXED_BUCKET)) {
            // The last that was tried; there may be others of other collections.
            self.allow_mixed_for(results.len().checked_sub(1).and_then(|last| sent.get(last))).await?;
            (results, error) = self.try_ops(command.clone()).await?;
        }
        match error {
            None if results.len() == sent.len() && results.iter().all(|ok| *ok) => {
                Ok(sent.into_iter().map(|sent| Applied { sent, ok: true }).collect())
            }
            // Nothing was tried: it is the connection or the command that is wrong.
            Some((error, _)) if results.is_empty() => Err(failure(sent.first(), Some(error))),
            _ => self.apply_each(again(takes, &command, sent, 0, false)?).await,
        }
    }

    async fn apply_each(&self, mut batch: Batch) -> Result<Vec<Applied>> {
        let mut done = Vec::new();
        // How many operations at the head of the batch stand for one that found its `_id` taken.
        let mut mended = 0;
        let mut allowed = None;
        let takes = batch.takes();
        loop {
            let (command, sent) = batch.into_command(Atomic::No);
            let (results, error) = self.try_ops(command.clone()).await?;
            let stopped = error.filter(|(_, code)| *code != Some(SOME_FAILED));
            let tried = results.len();
            let failed = results.iter().zip(&sent).position(|(ok, sent)| !ok && sent.kind != OpKind::Update);
            let last = tried.checked_sub(1).and_then(|last| sent.get(last));
            // Once for each operation that is refused.
            if let (Some(sent_last), Some((_, Some(MIXED_BUCKET)))) = (last, &stopped)
                && failed.is_none_or(|at| at + 1 == tried)
                && allowed != Some((sent_last.ts, done.len() + tried))
            {
                allowed = Some((sent_last.ts, done.len() + tried));
                self.allow_mixed_for(last).await?;
                let mut sent = sent;
                let rest = sent.split_off(tried - 1);
                done.extend(sent.into_iter().zip(results).map(|(sent, ok)| Applied { sent, ok }));
                batch = again(takes, &command, rest, tried - 1, false)?;
                continue;
            }
            let is_insert = last.is_some_and(|sent| sent.kind == OpKind::Insert);
            let may_be_taken = stopped.as_ref().is_some_and(|(_, code)| is_insert || *code == Some(ID_MISMATCH));
            // The server stops at an operation that it cannot even try, which is then the last of the results.
            let makes_room = may_be_taken && tried > mended && failed.is_none_or(|at| at + 1 == tried);
            if !makes_room && (failed.is_some() || stopped.is_some() || tried != sent.len()) {
                let at = failed.unwrap_or(tried.saturating_sub(1));
                return Err(failure(sent.get(at), stopped.map(|(e, _)| e)));
            }
            let applied = if makes_room { tried - 1 } else { tried };
            let mut sent = sent;
            let rest = sent.split_off(applied);
            done.extend(sent.into_iter().zip(results).map(|(sent, ok)| Applied { sent, ok }));
            if !makes_room {
                return Ok(done);
            }
            mended = 2;
            batch = again(takes, &command, rest, applied, true)?;
        }
    }

    /// The result of each operation that was tried, and why the server stopped.
    async fn try_ops(&self, command: Vec<u8>) -> Result<(Vec<bool>, Option<(Error, Option<i32>)>)> {
        let command = raw_command("applyOps", command)?;
        let database = self.server.client().database("admin");
        let outcome = run(&self.cancel, None, async move { database.run_raw_command(command).await }).await?;
        let (reply, error) = match outcome {
            Ok(reply) => (Some(reply), None),
            Err(e) => {
                let reply = e.server_response().and_then(|r| Document::try_from(r).ok());
                let code = server_code(&e);
                (reply, Some((self.server.error("replaying the oplog", &e), code)))
            }
        };
        let results = reply.as_ref().and_then(|r| r.get_array("results").ok());
        let ok = results.map(|r| r.iter().map(|b| b.as_bool().unwrap_or(false)).collect()).unwrap_or_default();
        Ok((ok, error))
    }
}

fn raw_command(doing: &str, command: Vec<u8>) -> Result<RawDocumentBuf> {
    RawDocumentBuf::from_bytes(command)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("{doing}: the command is no BSON")).source(e))
}

/// A batch of the operations of a command from number `from` on, of which `sent` is the record.
///
/// `makes_room`: the first of them found its `_id` taken in a way that the server cannot get over by itself, by another form
/// of it (`1.0` for `1`, or a text that the collation of the collection holds equal) or in a clustered collection, which has
/// to decode its key to say so and cannot: that of a fraction, of a text with a NUL and of others (tried on 6.0.5: codes 15,
/// 50810, 50818, 50819, 50823, 50825, 50826 and 50830). Codes of no subject are no list to go by: every insert that is
/// refused is tried once more like this, and fails again where it was something else. What is there is from a later time,
/// read after the one of this operation was deleted: it makes room, and comes back in its turn.
fn again(takes: UpdateForms, command: &[u8], sent: Vec<Sent>, from: usize, makes_room: bool) -> Result<Batch> {
    let mut batch = Batch::new(takes);
    for (i, (operation, sent)) in operations(command)?.skip(from).zip(sent).enumerate() {
        let operation = operation?;
        if i == 0 && makes_room {
            batch.push_over(operation, sent);
        } else {
            batch.push_encoded(operation, sent);
        }
    }
    Ok(batch)
}

/// The operations of an `applyOps` command.
pub(super) fn operations(command: &[u8]) -> Result<impl Iterator<Item = Result<&[u8]>>> {
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
