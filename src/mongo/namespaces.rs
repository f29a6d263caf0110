//! What collections, views and indexes there are.
//!
//! Answers are kept as bytes: options and index specifications must come back as they are, whatever a future server
//! puts into them.

use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use tokio_util::sync::CancellationToken;

use super::connect::Server;
use super::topology::number;
use crate::artifact::bson;
use crate::domain::namespace::Namespace;
use crate::error::{ErrorKind, Result};

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

/// Everything in every database, the server's own included.
pub async fn list(server: &Server, cancel: &CancellationToken) -> Result<Vec<Listed>> {
    let reply = server.command(cancel, "admin", doc! {"listDatabases": 1, "nameOnly": true}).await?;
    let databases = reply.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> =
        databases.iter().filter_map(|d| d.as_document().and_then(|d| d.get_str("name").ok())).collect();
    let mut all = Vec::new();
    for db in names {
        all.extend(list_database(server, cancel, db, Document::new()).await?);
    }
    Ok(all)
}

async fn list_database(server: &Server, cancel: &CancellationToken, db: &str, filter: Document) -> Result<Vec<Listed>> {
    let entries = server.collect(cancel, db, doc! {"listCollections": 1, "filter": filter}).await?;
    Ok(entries.iter().filter_map(|entry| parse(db, entry.as_bytes())).collect())
}

fn parse(db: &str, entry: &[u8]) -> Option<Listed> {
    let name = bson::get(entry, "name")?.str()?;
    let kind = bson::get(entry, "type").and_then(|e| e.str()).unwrap_or("collection");
    let uuid = bson::get(entry, "info").and_then(|e| e.document()).and_then(|info| bson::get(info, "uuid")?.uuid());
    let options = bson::get(entry, "options").and_then(|e| e.document()).unwrap_or(&[5, 0, 0, 0, 0]);
    Some(Listed { ns: Namespace::new(db, name), kind: kind.to_owned(), uuid, options: options.to_vec() })
}

/// What the collection is called now, or `None` when it no longer exists.
pub async fn name_of(server: &Server, cancel: &CancellationToken, db: &str, uuid: Uuid) -> Result<Option<String>> {
    let found = list_database(server, cancel, db, doc! {"info.uuid": by_uuid(uuid)}).await?;
    Ok(found.into_iter().next().map(|listed| listed.ns.collection))
}

/// The specifications of all indexes that are ready; those still being built are left out, because a build may yet
/// fail (one that succeeds is in the oplog). `None` when the collection no longer exists.
pub async fn indexes(
    server: &Server,
    cancel: &CancellationToken,
    db: &str,
    collection: Bson,
) -> Result<Option<Vec<Vec<u8>>>> {
    let ask = doc! {"listIndexes": collection, "includeBuildUUIDs": true};
    match server.collect(cancel, db, ask).await {
        Ok(found) => {
            let ready =
                found.into_iter().map(|d| d.as_bytes().to_vec()).filter(|d| bson::get(d, "buildUUID").is_none());
            Ok(Some(ready.collect()))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Zero for what does not exist (any more).
pub async fn size(server: &Server, cancel: &CancellationToken, ns: &Namespace) -> Result<Size> {
    match server.command(cancel, &ns.db, doc! {"collStats": &ns.collection}).await {
        Ok(stats) => {
            let get = |key: &str| stats.get(key).and_then(number).map_or(0, |n| n.max(0.0) as u64);
            Ok(Size { documents: get("count"), bytes: get("size") })
        }
        // A size is only an estimate for progress and splitting; nothing depends on it.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Failed | ErrorKind::Denied) => {
            Ok(Size::default())
        }
        Err(e) => Err(e),
    }
}
