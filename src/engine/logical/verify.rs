//! Reading a whole backup back, to know that it can be restored.
//!
//! Every object is read to its end and compared with what was written: size, checksum, compression, the structure of
//! every document, counts. The oplog must be one ascending run from the first position to the last, and the catalogue
//! must come out of it. Nothing is changed, and the first problem does not hide the next.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use serde::Serialize;

use super::stored::{Go, Stored};
use crate::artifact::layout::BackupRoot;
use crate::artifact::manifest::{Attempt, Manifest, ObjectEntry};
use crate::artifact::read::{ReadOptions, read_whole};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::Entry;
use crate::storage::Storage;

/// What `verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Objects read, the manifest included.
    pub objects: u64,
    /// Bytes as stored.
    pub bytes: u64,
    pub documents: u64,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The key of the object, relative to the storage.
    pub object: String,
    pub what: String,
}

impl VerifyReport {
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, object: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.problems.push(Problem { object: escape(&object.to_string()), what: escape(&what.to_string()) });
    }
}

/// Reads everything below `root` back.
///
/// Errors: what keeps it from looking at all (storage unreachable, no rights, cancelled). What is wrong with the backup
/// is in the report.
pub async fn verify(ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let Some(manifest) = manifest(storage.as_ref(), root, &mut report).await? else { return Ok(report) };
    attempt(storage.as_ref(), root, &manifest, &mut report).await?;
    let stored = Stored { storage, root: root.clone(), manifest: Arc::new(manifest) };
    let manifest = &stored.manifest;
    let objects = manifest.collections.iter().flat_map(|c| &c.parts).chain(&manifest.oplog);
    let (count, bytes) = objects.clone().fold((0, 0), |(n, bytes), o| (n + 1, bytes + o.size));
    ctx.meter.set_totals(bytes, count + manifest.collections.len() as u64, manifest.documents);

    definitions(ctx, &stored, &mut report).await?;
    ctx.meter.set_phase("read data");
    let readers = ctx.limits.parallel_collections.clamp(1, 8);
    let mut outcomes = stream::iter(objects.map(|object| data(ctx, &stored, object))).buffer_unordered(readers);
    while let Some(outcome) = outcomes.next().await {
        let (object, documents, problem) = outcome?;
        report.objects += 1;
        report.bytes += object.size;
        report.documents += documents;
        if let Some(problem) = problem {
            report.problem(format!("{}/{}", root.key(), object.path), problem);
        }
    }
    drop(outcomes);
    sums(&stored, &mut report)?;
    ctx.meter.set_phase("follow the oplog");
    if report.is_good() {
        oplog(ctx, &stored, &mut report).await?;
    }
    report.problems.sort_by(|a, b| a.object.cmp(&b.object));
    Ok(report)
}

/// A failure that says something about the backup becomes a problem; one that says nothing ends the check.
fn about_the_backup(error: Error) -> Result<Error> {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::NotFound | ErrorKind::Invalid => Ok(error),
        _ => Err(error),
    }
}

async fn manifest(storage: &dyn Storage, root: &BackupRoot, report: &mut VerifyReport) -> Result<Option<Manifest>> {
    let key = root.manifest()?;
    let read = match read_whole(storage, &key, 1 << 30).await {
        Ok(bytes) => {
            report.objects += 1;
            report.bytes += bytes.len() as u64;
            Manifest::from_bytes(key.as_str(), &bytes)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Error::new(ErrorKind::Corrupt, "it is missing: nothing without a manifest is a backup"))
        }
        Err(e) => Err(e),
    };
    match read {
        Ok(manifest) => Ok(Some(manifest)),
        Err(e) => {
            report.problem(&key, about_the_backup(e)?);
            Ok(None)
        }
    }
}

async fn attempt(
    storage: &dyn Storage,
    root: &BackupRoot,
    manifest: &Manifest,
    report: &mut VerifyReport,
) -> Result<()> {
    let key = root.attempt()?;
    let bytes = match read_whole(storage, &key, 1 << 20).await {
        Ok(bytes) => bytes,
        Err(e) => {
            let e = about_the_backup(e)?;
            report.problem(&key, if e.kind() == ErrorKind::NotFound { "it is missing".to_owned() } else { e.full() });
            return Ok(());
        }
    };
    report.objects += 1;
    report.bytes += bytes.len() as u64;
    match serde_json::from_slice::<Attempt>(&bytes) {
        Ok(attempt) if attempt.attempt_id == manifest.attempt_id && attempt.name == manifest.name => {}
        Ok(_) => report.problem(&key, "it belongs to another attempt"),
        Err(e) => report.problem(&key, format!("it cannot be understood: {e}")),
    }
    Ok(())
}

async fn definitions(ctx: &Context, stored: &Stored, report: &mut VerifyReport) -> Result<()> {
    for entry in &stored.manifest.collections {
        if ctx.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        report.objects += 1;
        report.bytes += entry.metadata.size;
        if let Err(e) = stored.definition(entry).await {
            report.problem(format!("{}/{}", stored.root.key(), entry.metadata.path), about_the_backup(e)?);
        }
        ctx.meter.object_done();
    }
    Ok(())
}

/// Reads one object to its end: how many documents came, and what is wrong with it.
async fn data<'a>(
    ctx: &Context,
    stored: &Stored,
    object: &'a ObjectEntry,
) -> Result<(&'a ObjectEntry, u64, Option<Error>)> {
    let options = ReadOptions { check_structure: true, ..ReadOptions::default() };
    let mut documents = match stored.documents(object, options) {
        Ok(documents) => documents,
        Err(e) => return Ok((object, 0, Some(about_the_backup(e)?))),
    };
    let mut count = 0;
    loop {
        let next = tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
            next = documents.next() => next,
        };
        match next {
            Some(Ok(batch)) => {
                count += batch.len() as u64;
                ctx.meter.add_documents(batch.len() as u64);
            }
            Some(Err(e)) => return Ok((object, count, Some(about_the_backup(e)?))),
            None => break,
        }
    }
    ctx.meter.add_bytes(object.size);
    ctx.meter.object_done();
    Ok((object, count, None))
}

/// The manifest's own figures must agree with each other.
fn sums(stored: &Stored, report: &mut VerifyReport) -> Result<()> {
    let manifest = &stored.manifest;
    let key = stored.root.manifest()?;
    for entry in &manifest.collections {
        let (documents, bytes) =
            entry.parts.iter().fold((0, 0), |(d, b), part| (d + part.documents, b + part.uncompressed));
        if documents != entry.documents || bytes != entry.bytes {
            let what = format!(
                "{} has {} documents of {} bytes, its parts have {documents} of {bytes}",
                entry.namespace, entry.documents, entry.bytes
            );
            report.problem(&key, what);
        }
    }
    let entries: u64 = manifest.oplog.iter().map(|o| o.documents).sum();
    if entries != manifest.oplog_entries {
        report.problem(&key, format!("it has {} oplog entries, the parts have {entries}", manifest.oplog_entries));
    }
    Ok(())
}

async fn oplog(ctx: &Context, stored: &Stored, report: &mut VerifyReport) -> Result<()> {
    let manifest = &stored.manifest;
    let place = format!("{}/oplog", stored.root.key());
    let walked = stored
        .for_each_entry(&ctx.cancel, (None, None), |(first, last): &mut (Option<Timestamp>, Option<Timestamp>), doc| {
            let ts = Entry::parse(doc)?.ts;
            if let Some(last) = *last
                && ts <= last
            {
                return Err(Error::new(ErrorKind::Corrupt, format!("position {ts} comes after {last}")));
            }
            first.get_or_insert(ts);
            *last = Some(ts);
            Ok(Go::On)
        })
        .await;
    match walked {
        Ok((first, last)) => {
            if first.is_some_and(|ts| ts != manifest.oplog_from_ts) || last != Some(manifest.consistent_at_ts) {
                let show = |ts: Option<Timestamp>| ts.map_or("nothing".to_owned(), |ts| ts.to_string());
                let what = format!(
                    "it reaches from {} to {}, the manifest says {} to {}",
                    show(first),
                    show(last),
                    manifest.oplog_from_ts,
                    manifest.consistent_at_ts
                );
                report.problem(&place, what);
            }
        }
        Err(e) => report.problem(&place, about_the_backup(e)?),
    }
    if let Err(e) = stored.survey(&ctx.cancel, manifest.consistent_at_ts).await {
        report.problem(&place, about_the_backup(e)?);
    }
    Ok(())
}
