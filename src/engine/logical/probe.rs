//! Whether a backup could read what it must: the same commands, with little data.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::select::{self, Source};
use crate::domain::namespace::Selection;
use crate::domain::restore::CollectionKind;
use crate::domain::secret::Secret;
use crate::domain::service::CheckItem;
use crate::domain::text::{count, counted, escape};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::check::{Tries, Try};
use crate::mongo::namespaces::{self, by_uuid};
use crate::mongo::reader::Reader;
use crate::mongo::topology;
use crate::mongo::{Server, check, oplog_source};

/// A person waits for a check. What is not tried within this is said.
const LIMIT: Duration = Duration::from_secs(8);

/// Runs the checks that need the server.
pub async fn check(service: &str, uri: &Secret, cancel: &CancellationToken) -> Vec<CheckItem> {
    let tries = Tries {
        commands: COMMANDS,
        roles: "backup clusterMonitor",
        then: |reader, cancel| Box::pin(try_reading(reader, cancel)),
    };
    check::check_service(service, uri, cancel, tries).await
}

/// What names the rights that are missing.
const COMMANDS: &[Try] = &[
    ("list all databases", "admin", || doc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": false}),
    (
        "read the oplog",
        "local",
        || doc! {"find": "oplog.rs", "limit": 1, "projection": {"ts": 1}, "readConcern": {"level": "majority"}},
    ),
    ("read config.transactions", "config", || doc! {"find": "transactions", "limit": 1, "projection": {"_id": 1}}),
    ("list collections", "admin", || doc! {"listCollections": 1}),
    ("list indexes", "admin", || doc! {"listIndexes": "system.version"}),
    ("read users", "admin", || doc! {"find": "system.users", "limit": 1, "projection": {"_id": 1}}),
    ("read roles", "admin", || doc! {"find": "system.roles", "limit": 1, "projection": {"_id": 1}}),
    ("read the rollback id", "admin", || doc! {"serverStatus": 1, "metrics": 0, "wiredTiger": 0, "locks": 0}),
];

/// Reads from the member what a backup of everything reads: of each collection its indexes and one document.
///
/// Errors: name the collection that cannot be read.
async fn try_reading(reader: &Reader, cancel: &CancellationToken) -> Result<String> {
    let (server, began) = (&reader.server, Instant::now());
    topology::continuity(server, cancel).await?;
    oplog_source::begin(server, cancel).await?;
    let (mut sources, _) = select::select(namespaces::list(server, cancel).await?, &Selection::default())?;
    // Rights may be given for a database or a system collection alone: one of each kind comes first.
    let mut seen = std::collections::BTreeSet::new();
    sources.sort_by_cached_key(|source| {
        let system =
            if source.ns.collection.starts_with("system.") { source.ns.collection.clone() } else { String::new() };
        !seen.insert((source.ns.db.clone(), system))
    });
    let all = sources.len() as u64;
    for (n, source) in sources.iter().enumerate() {
        if began.elapsed() > LIMIT {
            let limit = LIMIT.as_secs();
            return Ok(format!(
                "what a backup reads was read of {} of {} collections within {limit} s",
                count(n as u64),
                count(all)
            ));
        }
        indexes_of(server, cancel, source).await?;
        document_of(server, cancel, source).await?;
    }
    Ok(format!("everything a backup reads was read, a document of each of {}", counted(all, "collection")))
}

/// The specifications of the indexes of `source`; `None` when it no longer exists.
///
/// Errors: name the collection.
pub(super) async fn indexes_of(
    server: &Server,
    cancel: &CancellationToken,
    source: &Source,
) -> Result<Option<Vec<Vec<u8>>>> {
    let db = source.ns.db.as_str();
    let found = match (source.kind, source.uuid) {
        (CollectionKind::View, _) => return Ok(Some(Vec::new())),
        // Under its own name a time series shows its indexes as people made them.
        (CollectionKind::Timeseries, _) => {
            namespaces::indexes(server, cancel, db, source.ns.collection.as_str().into()).await
        }
        (CollectionKind::Collection, Some(uuid)) => namespaces::indexes(server, cancel, db, by_uuid(uuid)).await,
        (CollectionKind::Collection, None) => return Ok(Some(Vec::new())),
    };
    found.map_err(|e| {
        let ns = escape(&source.ns.to_string());
        let is_old_option = e.full().contains(OLD_OPTION);
        let e = e.context(format!("reading the indexes of {ns}"));
        match is_old_option {
            true => e.hint(format!(
                "an index of {ns} has an option, or the value of one, that this MongoDB does not take and older ones let in; \
                 db.getCollection(NAME).aggregate([{{$indexStats: {{}}}}]) shows it: drop that index and make it anew without it"
            )),
            false => e,
        }
    })
}

/// `listIndexes` for an index with an option of a type that its reply cannot have, such as `default_language: 5` (made on
/// 4.4.2; seen on 5.0.4, 6.0.5, 6.0.27 and 7.0.11, each for fewer options).
const OLD_OPTION: &str = "(code 5254501)";

async fn document_of(server: &Server, cancel: &CancellationToken, source: &Source) -> Result<()> {
    let Some(uuid) = source.uuid else { return Ok(()) };
    let mut ask = Document::new();
    ask.insert("find", by_uuid(uuid));
    ask.extend(doc! {"limit": 1, "singleBatch": true, "projection": {"_id": 1}});
    match server.collect(cancel, &source.ns.db, ask).await {
        Ok(_) => Ok(()),
        // Dropped or renamed meanwhile.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Interrupted) => Ok(()),
        Err(e) => Err(reading(e, source)),
    }
}

fn reading(error: Error, source: &Source) -> Error {
    error.context(format!("reading {}", escape(&source.ns.to_string())))
}
