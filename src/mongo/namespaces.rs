//! What collections, views and indexes there are.
//!
//! Answers are kept as bytes: options and index specifications must come back as they are, whatever a future server
//! puts into them.

use std::collections::BTreeSet;
use std::time::Duration;

use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use tokio_util::sync::CancellationToken;

use super::connect::Server;
use super::oplog::catalogue::BUCKETS_PREFIX;
use super::topology::number;
use crate::artifact::bson;
use crate::domain::namespace::Namespace;
use crate::domain::text::{escape, escape_bytes};
use crate::error::{Error, ErrorKind, Result};

/// A collection's identity for as long as it lives, whatever it is called.
pub type Uuid = [u8; 16];

/// An entry of `listCollections`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub ns: Namespace,
    /// `collection`, `view` or `timeseries`.
    pub kind: String,
    /// None for a view.
    pub uuid: Option<Uuid>,
    /// A BSON document.
    pub options: Vec<u8>,
}

/// Everything that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<Listed>,
    /// What has a name that no program can write as text.
    pub unnamed: Vec<Unnamed>,
}

impl Listing {
    /// The names of time series without buckets, and of buckets without a time series.
    fn halves(&self) -> BTreeSet<(&str, &str)> {
        let (mut series, mut buckets) = (BTreeSet::new(), BTreeSet::new());
        for Listed { ns, kind, .. } in &self.entries {
            match ns.collection.strip_prefix(BUCKETS_PREFIX) {
                Some(name) => buckets.insert((ns.db.as_str(), name)),
                None => kind == "timeseries" && series.insert((ns.db.as_str(), ns.collection.as_str())),
            };
        }
        series.symmetric_difference(&buckets).copied().collect()
    }
}

/// A database or collection whose name is not UTF-8: servers take any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unnamed {
    /// Safe to show: `shop.a\\xff`.
    pub shown: String,
    /// The same with replacement characters, for patterns to look at.
    pub like: Namespace,
}

/// Why something whose name is not UTF-8 is in no backup.
pub const NOT_UTF8: &str = "its name is not UTF-8, or was not when it was read, and mongokeep keeps no such names; rename it before the backup";

/// How much there is, as far as the server knows without counting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
}

/// Names a collection in a command.
pub fn by_uuid(uuid: Uuid) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: uuid.to_vec() })
}

/// The names of all databases, and those that are no text. Without the right to list them all a server answers with those
/// that the user may read, as if there were no others, unless it is asked so (seen on 4.4.2, 5.0.4, 6.0.5 and 6.0.27).
///
/// Errors: `Denied` for a user who may not list all.
pub async fn databases(server: &Server, cancel: &CancellationToken) -> Result<(Vec<String>, Vec<Unnamed>)> {
    match list_databases(server, cancel, Some(false)).await {
        Err(e) if e.kind() == ErrorKind::Denied => {
            let what = "the user may not list all databases, so that one could be missing without a trace";
            Err(Error::new(ErrorKind::Denied, format!("service {}: {what}", server.service()))
                .hint("grant it the role backup (or clusterMonitor) on admin: both may run listDatabases")
                .source(e))
        }
        other => other,
    }
}

/// The databases that the user may read; whether these are all is not known.
pub async fn readable_databases(server: &Server, cancel: &CancellationToken) -> Result<(Vec<String>, Vec<Unnamed>)> {
    list_databases(server, cancel, None).await
}

async fn list_databases(
    server: &Server,
    cancel: &CancellationToken,
    authorized: Option<bool>,
) -> Result<(Vec<String>, Vec<Unnamed>)> {
    let ask = |filter: Document| {
        let mut command = doc! {"listDatabases": 1, "nameOnly": true, "filter": filter};
        if let Some(authorized) = authorized {
            command.insert("authorizedDatabases", authorized);
        }
        server.command(cancel, "admin", command)
    };
    let unreadable = || Error::new(ErrorKind::Failed, "the list of databases cannot be read");
    let names = |reply: &Document| -> Result<Vec<String>> {
        let name = |d: &Bson| d.as_document().and_then(|d| d.get_str("name").ok()).map(str::to_owned);
        let listed = reply.get_array("databases").map_err(|e| unreadable().source(e))?;
        listed.iter().map(|d| name(d).ok_or_else(unreadable)).collect()
    };
    let failed = match ask(Document::new()).await {
        Ok(reply) => return Ok((names(&reply)?, Vec::new())),
        Err(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Denied) => return Err(e),
        Err(e) => e,
    };
    // A reply with a name that is not UTF-8 cannot be read at all. No pattern matches such a name, so that it is not among
    // those that any pattern matches (4.4.2, 5.0.4, 6.0.5).
    let Ok(reply) = ask(doc! {"name": {"$regex": "(?s)."}}).await else { return Err(failed) };
    let unnamed = Unnamed { shown: "a database".into(), like: Namespace::new("\u{fffd}", "\u{fffd}") };
    Ok((names(&reply)?, vec![unnamed]))
}

/// Everything in every database, the server's own included.
///
/// Errors: `Denied` for a user who may not list all of it.
pub async fn list(server: &Server, cancel: &CancellationToken) -> Result<Listing> {
    let (names, unnamed) = databases(server, cancel).await?;
    let mut all = Listing { entries: Vec::new(), unnamed };
    for db in names {
        let found = list_in_pairs(server, cancel, &db).await;
        let listing = found.map_err(|e| e.context(format!("listing the collections of {}", escape(&db))))?;
        all.entries.extend(listing.entries);
        all.unnamed.extend(listing.unnamed);
    }
    Ok(all)
}

/// How long to wait before a database is listed again that showed half of a time series.
const HALVES_SETTLE: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];

/// What a database holds, each time series together with its buckets. A server lists collections before it lists views and
/// makes the two halves of a time series one after the other, so that one that is being made or dropped may show by half
/// (seen on 6.0.5). What still is a half after a second stays one.
async fn list_in_pairs(server: &Server, cancel: &CancellationToken, db: &str) -> Result<Listing> {
    let mut listing = list_database(server, cancel, db, Document::new()).await?;
    for pause in HALVES_SETTLE {
        if listing.halves().is_empty() {
            break;
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::cancelled()),
            () = tokio::time::sleep(pause) => {}
        }
        listing = list_database(server, cancel, db, Document::new()).await?;
    }
    Ok(listing)
}

/// What a database holds that `filter` takes.
pub async fn list_database(server: &Server, cancel: &CancellationToken, db: &str, filter: Document) -> Result<Listing> {
    let mut listing = Listing::default();
    for entry in server.collect(cancel, db, doc! {"listCollections": 1, "filter": filter}).await? {
        let Some(name) = bson::get(entry.as_bytes(), "name").and_then(|e| e.text()) else { continue };
        match std::str::from_utf8(name) {
            Ok(name) => listing.entries.push(parse(Namespace::new(db, name), entry.as_bytes())),
            Err(_) => listing.unnamed.push(Unnamed {
                shown: format!("{}.{}", escape(db), escape_bytes(name)),
                like: Namespace::new(db, String::from_utf8_lossy(name)),
            }),
        }
    }
    Ok(listing)
}

fn parse(ns: Namespace, entry: &[u8]) -> Listed {
    let kind = bson::get(entry, "type").and_then(|e| e.str()).unwrap_or("collection");
    let uuid = bson::get(entry, "info").and_then(|e| e.document()).and_then(|info| bson::get(info, "uuid")?.uuid());
    let options = bson::get(entry, "options").and_then(|e| e.document()).unwrap_or(&[5, 0, 0, 0, 0]);
    Listed { ns, kind: kind.to_owned(), uuid, options: options.to_vec() }
}

/// What the collection is called now, or `None` when it no longer exists.
pub async fn name_of(server: &Server, cancel: &CancellationToken, db: &str, uuid: Uuid) -> Result<Option<String>> {
    let found = list_database(server, cancel, db, doc! {"info.uuid": by_uuid(uuid)}).await?;
    let unnamed = found.unnamed.into_iter().map(|unnamed| unnamed.like.collection);
    Ok(found.entries.into_iter().map(|listed| listed.ns.collection).chain(unnamed).next())
}

/// The specifications of all indexes that are ready; those still being built are left out, because a build may yet
/// fail (one that succeeds is in the oplog). `None` when the collection no longer exists.
pub async fn indexes(
    server: &Server,
    cancel: &CancellationToken,
    db: &str,
    collection: Bson,
) -> Result<Option<Vec<Vec<u8>>>> {
    match all_indexes(server, cancel, db, collection).await {
        Ok(found) => Ok(Some(found.into_iter().filter(|d| bson::get(d, "buildUUID").is_none()).collect())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The specifications of the indexes of `ns` that are not ready. None of a view.
pub async fn unfinished_indexes(server: &Server, cancel: &CancellationToken, ns: &Namespace) -> Result<Vec<Vec<u8>>> {
    let found = all_indexes(server, cancel, &ns.db, ns.collection.as_str().into()).await?;
    let unfinished = found.iter().filter(|d| bson::get(d, "buildUUID").is_some());
    Ok(unfinished.filter_map(|d| Some(bson::get(d, "spec")?.document()?.to_vec())).collect())
}

/// Those that are being built with a `buildUUID`, and their specification in `spec`.
async fn all_indexes(server: &Server, cancel: &CancellationToken, db: &str, collection: Bson) -> Result<Vec<Vec<u8>>> {
    let ask = doc! {"listIndexes": collection, "includeBuildUUIDs": true};
    let found = server.collect(cancel, db, ask).await?;
    Ok(found.into_iter().map(|d| d.as_bytes().to_vec()).collect())
}

/// Zero for what does not exist (any more).
pub async fn size(server: &Server, cancel: &CancellationToken, ns: &Namespace) -> Result<Size> {
    match server.command(cancel, &ns.db, doc! {"collStats": &ns.collection}).await {
        Ok(stats) => {
            let get = |key: &str| stats.get(key).and_then(number).map_or(0, |n| n.max(0.0) as u64);
            Ok(Size { documents: get("count"), bytes: get("size") })
        }
        // A size is only an estimate for progress and splitting; nothing else depends on it.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Failed | ErrorKind::Denied) => {
            Ok(Size::default())
        }
        Err(e) => Err(e),
    }
}
