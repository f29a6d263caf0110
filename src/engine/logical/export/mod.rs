//! A backup as the stock layout, for whoever has `mongorestore` and not this program.
//!
//! What is written is the backup as it is at its end: collections under their last names, with their last options and
//! indexes, and an `oplog.bson` that holds nothing but changes of documents. `mongorestore --oplogReplay` makes of it
//! what our own restore makes of the backup. Names come from a storage that is not trusted: nothing here may write
//! outside the folder it was given, or leave half an export behind without saying so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::stream;
use futures_util::{FutureExt, StreamExt};
use tokio::io::AsyncWriteExt;

use super::compatibility;
use super::doubles::Doubles;
use super::metadata::Description;
use super::open_backup::{OpenBackup, Survey, is_restorable};
use super::replay::{self, CappedRules, Destination, Destinations, Loaded};
use super::user_collections::{ROLES, USERS};
use super::users::Users;
use crate::artifact::bson;
use crate::artifact::layout::{self, BackupRoot};
use crate::artifact::manifest::ObjectEntry;
use crate::artifact::raw::Raw;
use crate::artifact::read::ReadOptions;
use crate::domain::namespace::Namespace;
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::text::{escape, escape_bytes};
use crate::domain::timestamp::Timestamp;
use crate::engine::Context;
use crate::engine::contract::ExportReport;
use crate::engine::unlock::keys_of;
use crate::error::{self, Error, ErrorKind, Result};
use crate::mongo::namespaces::NOT_UTF8;
use crate::mongo::oplog::catalogue::{self, Bounds, Collection};
use crate::mongo::oplog::entry::Uuid;
use crate::mongo::oplog::key::document_key;
use crate::storage::Storage;

mod changes;
mod target;

use target::Target;

/// Writes the backup below `root` to the folder `to`, which is new or empty.
///
/// Errors: `Conflict` for a folder that is not empty, `StorageFull`, `NotFound` without a backup, `Corrupt` and
/// `Unsupported` for one that cannot be resolved. After an error or a cancel nothing is left of what was written, or
/// the hint says what is.
pub async fn export(ctx: &Context, storage: Arc<dyn Storage>, root: &BackupRoot, to: &Path) -> Result<ExportReport> {
    let opened = tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
        opened = OpenBackup::open(storage, root) => opened?,
    };
    let keys = keys_of(ctx, &opened.manifest).await?;
    export_of(ctx, opened.with_keys(keys), to).await
}

/// The same of a backup that is open, whoever made it.
pub async fn export_of(ctx: &Context, stored: OpenBackup, to: &Path) -> Result<ExportReport> {
    ctx.meter.set_phase("read the definitions");
    let opened = tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
        opened = resolve(ctx, stored) => opened,
    };
    let (stored, items, mut report) = opened?;
    let parts = items.iter().flat_map(|item| &item.parts).chain(&stored.manifest.oplog);
    let bytes = parts.fold(0_u64, |sum, part| sum.saturating_add(part.uncompressed));
    // A few KB of metadata for each collection.
    let needed = bytes.saturating_add(8192 * (items.len() as u64 + 2));
    ctx.meter.set_totals(bytes, items.len() as u64, stored.manifest.documents);
    let target = Target::prepare(to, needed).await?;
    match write(ctx, &stored, &items, &target, &mut report).await {
        Ok(()) => {
            report.to = target::shown(to);
            report.command = command(to);
            Ok(report)
        }
        Err(e) => Err(target.give_up(e).await),
    }
}

fn command(to: &Path) -> String {
    let path = to.to_string_lossy();
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b));
    let quoted = if plain { path.into_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) };
    format!("mongorestore --oplogReplay --bypassDocumentValidation --uri URI {quoted}")
}

/// One thing to write.
struct Item {
    /// Its last name; for a time series the one people use.
    ns: Namespace,
    /// None for a view.
    collection: Option<(Uuid, Collection)>,
    metadata: Vec<u8>,
    parts: Vec<ObjectEntry>,
    /// Instead of parts, documents with the oplog's changes already in them.
    resolved: Option<Vec<u8>>,
    read_from: Timestamp,
}

impl Item {
    /// The file of the documents, without its suffix.
    fn stored_in(&self) -> Option<Namespace> {
        self.collection.as_ref().map(|(_, collection)| collection.storage_namespace())
    }

    fn is_capped(&self) -> bool {
        self.collection.as_ref().is_some_and(|(_, collection)| collection.is_capped())
    }
}

/// Reads the definitions, and resolves what everything is at the end.
async fn resolve(ctx: &Context, stored: OpenBackup) -> Result<(OpenBackup, Vec<Item>, ExportReport)> {
    let manifest = &stored.manifest;
    if !stored.is_logical() {
        let name = escape(&manifest.name);
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{name} is not a logical backup that can be read here"),
        ));
    }
    stored.check_manifest()?;
    let survey = stored.survey(&ctx.cancel, manifest.consistent_at_ts).await?;
    let mut report = ExportReport { left_out: manifest.left_out.clone(), ..ExportReport::default() };
    let mut items = items(&stored, &survey, &mut report)?;
    items.extend(authorization(ctx, &stored, &mut report).await?);
    report.warnings.iter().for_each(|warning| ctx.meter.warn(warning.clone()));
    Ok((stored, items, report))
}

fn items(stored: &OpenBackup, survey: &Survey, report: &mut ExportReport) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let whoever = compatibility::Target::export(&stored.manifest.server_version);
    for (uuid, collection) in survey.catalogue.collections() {
        let (ns, mut collection) = (collection.namespace.clone(), collection.clone());
        if is_authorization(&ns) {
            continue;
        }
        if !is_restorable(&ns) {
            let why = "belongs to the server itself".into();
            report.left_out.push(LeftOut { what: escape(&ns.to_string()), why });
            continue;
        }
        report.left_out.extend(whoever.fit(&ns, &ns, &mut collection)?);
        report.warnings.extend(whoever.later(&ns, &collection));
        let entry = collection.source.and_then(|n| stored.manifest.collections.get(n));
        report.collections += 1;
        report.documents += entry.filter(|e| e.counted).map_or(0, |e| e.documents);
        let kind = if collection.timeseries { CollectionKind::Timeseries } else { CollectionKind::Collection };
        let (options, lost) = collection.for_create();
        if lost.is_some() {
            let what = format!("the size of {}", escape(&ns.to_string()));
            report
                .left_out
                .push(LeftOut { what, why: "mongorestore cannot create a clustered collection with one".into() });
        }
        let (documents, bytes) = entry.map_or((0, 0), |e| (e.documents, e.parts.iter().map(|p| p.uncompressed).sum()));
        let held = collection.bounds_to_load(documents, bytes, stored.manifest.consistent_at_ts);
        if collection.is_capped() && collection.resized.is_empty() && held != Bounds::of(&options) {
            let what = format!("the oldest documents of {}", escape(&ns.to_string()));
            let why =
                "its bounds were made narrower, and mongorestore pushes out at once what the next insert would have";
            report.left_out.push(LeftOut { what, why: why.into() });
        }
        let description = Description {
            ns: &ns,
            kind,
            uuid: Some(*uuid),
            options: options.as_bytes(),
            indexes: collection.indexes.iter().map(Raw::as_bytes).collect(),
        };
        let metadata = description.plain()?;
        report.left_out.extend(metadata.lacks);
        items.push(Item {
            metadata: metadata.json,
            ns,
            parts: entry.map(|e| e.parts.clone()).unwrap_or_default(),
            resolved: None,
            read_from: entry.map_or(Timestamp::MIN, |e| e.read_from_ts),
            collection: Some((*uuid, collection)),
        });
    }
    for (ns, view) in survey.catalogue.views() {
        let description = Description { kind: CollectionKind::View, ..plain(ns, view.options.as_bytes()) };
        let metadata = description.plain()?;
        if !metadata.lacks.is_empty() {
            report.left_out.extend(metadata.lacks);
            continue;
        }
        report.views += 1;
        items.push(Item {
            metadata: metadata.json,
            ns: ns.clone(),
            collection: None,
            parts: Vec::new(),
            resolved: None,
            read_from: Timestamp::MIN,
        });
    }
    for unnamed in survey.catalogue.unnamed() {
        let left = LeftOut { what: escape_bytes(unnamed), why: NOT_UTF8.into() };
        if !report.left_out.contains(&left) && stored.manifest.selection.selects(&catalogue::like(unnamed)) {
            report.left_out.push(left);
        }
    }
    for open in &survey.open {
        report.left_out.push(LeftOut {
            what: format!("transaction {} that began at oplog position {}", open.txn_number, open.first_ts),
            why: "not committed by the end of the backup".into(),
        });
    }
    // Large ones first: the last one to end decides when all end.
    items.sort_by_key(|item| std::cmp::Reverse(item.parts.iter().map(|p| p.uncompressed).sum::<u64>()));
    Ok(items)
}

/// Users and roles as they are at the end: whoever may restore may not replay operations on them.
async fn authorization(ctx: &Context, stored: &OpenBackup, report: &mut ExportReport) -> Result<Vec<Item>> {
    let users = Users::read(ctx, stored, stored.manifest.consistent_at_ts).await?;
    let mut items = Vec::new();
    for name in [USERS, ROLES] {
        let ns = Namespace::new("admin", name);
        let mut documents = Vec::new();
        let mut count = 0;
        for document in users.of_collection(name) {
            let failed = |e| Error::new(ErrorKind::Internal, "writing users and roles").source(e);
            documents.extend(document.to_vec().map_err(failed)?);
            count += 1;
        }
        // Without the collection itself only what happened to change is known of it.
        if count == 0 || !stored.manifest.selection.selects(&ns) {
            continue;
        }
        report.collections += 1;
        report.documents += count;
        let collection = Collection::new(ns.clone(), false, Raw::default(), Vec::new(), None);
        items.push(Item {
            metadata: plain(&ns, Raw::default().as_bytes()).plain()?.json,
            ns,
            collection: Some((Uuid::default(), collection)),
            parts: Vec::new(),
            resolved: Some(documents),
            read_from: Timestamp::MIN,
        });
    }
    Ok(items)
}

fn is_authorization(ns: &Namespace) -> bool {
    ns.db == "admin" && (ns.collection == USERS || ns.collection == ROLES)
}

/// Of a collection without indexes.
fn plain<'a>(ns: &'a Namespace, options: &'a [u8]) -> Description<'a> {
    Description { ns, kind: CollectionKind::Collection, uuid: None, options, indexes: Vec::new() }
}

async fn write(
    ctx: &Context,
    stored: &OpenBackup,
    items: &[Item],
    target: &Target,
    report: &mut ExportReport,
) -> Result<()> {
    ctx.meter.set_phase("write the collections");
    let mut folders = BTreeMap::new();
    for item in items {
        if !folders.contains_key(&item.ns.db) {
            folders.insert(item.ns.db.clone(), target.database(&item.ns.db).await?);
        }
    }
    let destinations = destinations(stored, items)?;
    let doubles = Doubles::find(ctx, stored, &destinations).await?;
    if doubles.are_uncounted() {
        let what = "too many documents were deleted and inserted again while they were read";
        return Err(Error::new(ErrorKind::Unsupported, format!("{what}: they cannot be told apart in an export"))
            .hint("restore the backup with mongokeep, or make a new one; newer backups hold no document twice"));
    }
    ctx.meter.set_phase("write the collections");
    // The first failure stops the others between two batches: no file may appear after the clean-up.
    let stop = ctx.cancel.child_token();
    let run = Context { cancel: stop.clone(), ..ctx.clone() };
    let writers = ctx.limits.parallel_collections.clamp(1, 4);
    // Boxed, so that the whole can be spawned: the compiler does not see that the closure works for every lifetime.
    let work: Vec<_> =
        items.iter().map(|item| write_item(&run, stored, item, target, &folders, &doubles).boxed()).collect();
    let mut running = stream::iter(work).buffer_unordered(writers);
    let (mut last, mut failed) = (BTreeMap::new(), None);
    while let Some(outcome) = running.next().await {
        match outcome {
            Ok(written) => {
                report.bytes += written.bytes;
                report.documents = report.documents.saturating_sub(written.left_to_oplog);
                last.extend(written.last);
            }
            Err(e) => {
                stop.cancel();
                failed = failed.or(Some(e));
            }
        }
    }
    drop(running);
    if let Some(e) = failed {
        return Err(e);
    }
    if let Some(folder) = folders.get("admin").filter(|_| items.iter().any(|item| is_authorization(&item.ns))) {
        auth_schema(target, folder).await?;
    }
    let changes = write_changes(ctx, stored, destinations, last, target).await?;
    report.oplog_entries = changes.entries;
    report.bytes += changes.bytes;
    if changes.by_path {
        ctx.meter.warn(format!(
            "its oplog holds updates in the form of MongoDB {}, which mongorestore replays into 6.0 at most: into a newer server \
             restore the backup with mongokeep",
            escape(&stored.manifest.server_version)
        ));
    }
    if let Some(warning) = changes.not_mended {
        ctx.meter.warn(warning);
    }
    let prelude = serde_json::json!({
        "ServerVersion": stored.manifest.server_version,
        "ToolVersion": format!("mongokeep {}", env!("CARGO_PKG_VERSION")),
    });
    target.write(None, "prelude.json", prelude.to_string().as_bytes()).await
}

#[derive(Default)]
struct WrittenItem {
    bytes: u64,
    /// Documents that only the oplog holds.
    left_to_oplog: u64,
    /// Of a capped collection: which document was read last.
    last: Option<(Uuid, Loaded)>,
}

async fn write_item(
    ctx: &Context,
    stored: &OpenBackup,
    item: &Item,
    target: &Target,
    folders: &BTreeMap<String, std::path::PathBuf>,
    doubles: &Doubles,
) -> Result<WrittenItem> {
    if ctx.cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    let folder = folders.get(&item.ns.db).map(std::path::PathBuf::as_path);
    let name = layout::escape(&item.ns.collection);
    target.write(folder, &format!("{name}.metadata.json"), &item.metadata).await?;
    let mut written = WrittenItem { bytes: item.metadata.len() as u64, ..WrittenItem::default() };
    let twice = item.collection.as_ref().and_then(|(uuid, _)| doubles.of(uuid));
    if let Some(stored_in) = item.stored_in() {
        let name = format!("{}.bson", layout::escape(&stored_in.collection));
        let mut file = target.file(folder, &name).await?;
        let failed = |e| error::io(format!("writing {name}"), e);
        if let Some(documents) = &item.resolved {
            file.write_all(documents).await.map_err(failed)?;
            written.bytes += documents.len() as u64;
        }
        let mut last = None;
        for part in &item.parts {
            let options = ReadOptions { batch_bytes: 1 << 20, ..ReadOptions::default() };
            let mut documents = stored.documents(part, options)?;
            loop {
                let next = tokio::select! {
                    biased;
                    () = ctx.cancel.cancelled() => return Err(Error::cancelled()),
                    next = documents.next() => next,
                };
                let Some(batch) = next.transpose()? else { break };
                match twice {
                    None => {
                        file.write_all(batch.bytes()).await.map_err(failed)?;
                        written.bytes += batch.bytes().len() as u64;
                    }
                    // The oplog deletes it, whichever copy this is, and inserts it again as a whole.
                    Some(keys) => {
                        let mut kept = Vec::with_capacity(batch.bytes().len());
                        for document in batch.documents() {
                            let key = bson::get(document, "_id").map(|id| document_key(&id));
                            if key.is_some_and(|key| keys.contains(&key)) {
                                written.left_to_oplog += 1;
                            } else {
                                kept.extend_from_slice(document);
                            }
                        }
                        file.write_all(&kept).await.map_err(failed)?;
                        written.bytes += kept.len() as u64;
                    }
                }
                ctx.meter.add_bytes(batch.bytes().len() as u64);
                ctx.meter.add_documents(batch.len() as u64);
                if item.is_capped() {
                    last = batch.documents().last().map(<[u8]>::to_vec).or(last);
                }
            }
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        written.last =
            item.collection.as_ref().zip(last).and_then(|((uuid, _), d)| Some((*uuid, Loaded::new(uuid, d)?)));
    }
    ctx.meter.object_done();
    Ok(written)
}

/// `mongorestore` asks for the version of users' credentials before it restores any. Every server since 3.0 has 5.
async fn auth_schema(target: &Target, folder: &Path) -> Result<()> {
    let mut schema = bson::Writer::default();
    schema.str("_id", "authSchema").i32("currentVersion", 5);
    target.write(Some(folder), "system.version.bson", &schema.finish()).await?;
    let metadata = plain(&Namespace::new("admin", "system.version"), Raw::default().as_bytes()).plain()?.json;
    target.write(Some(folder), "system.version.metadata.json", &metadata).await
}

fn destinations(stored: &OpenBackup, items: &[Item]) -> Result<Destinations> {
    // Whatever it is restored into is not older.
    let capped = CappedRules::of(&stored.manifest.server_version)?;
    let mut destinations = Destinations { capped, ..Destinations::default() };
    for item in items {
        let (Some((uuid, collection)), Some(stored_in)) = (&item.collection, item.stored_in()) else { continue };
        if item.resolved.is_some() {
            continue;
        }
        let mut destination = Destination::new(&stored_in, item.read_from);
        destination.capped = collection.is_capped();
        destination.collated = collection.options.contains_key("collation");
        destinations.by_uuid.insert(*uuid, destination);
    }
    Ok(destinations)
}

async fn write_changes(
    ctx: &Context,
    stored: &OpenBackup,
    destinations: Destinations,
    last: BTreeMap<Uuid, Loaded>,
    target: &Target,
) -> Result<changes::Written> {
    ctx.meter.set_phase("write the oplog");
    let until = stored.manifest.consistent_at_ts;
    let destinations = replay::inserted_until(ctx, stored, destinations, last).await?;
    let gone = changes::rolled_out(ctx, stored, &destinations, until).await?;
    let file = target.file(None, "oplog.bson").await?.into_std().await;
    let recast = changes::recast(ctx, stored, &destinations, until).await?;
    changes::write(ctx, stored, destinations, gone, recast, until, file).await
}
