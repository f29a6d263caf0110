//! Where the reading of a capped collection ends.
//!
//! It is read in natural order, which is the order in which it is restored, and in which a document may come twice: the
//! oldest go, and their `_id` may come again at the other end while the cursor is on its way (evictions are not in the
//! oplog before 5.0). Record ids of a capped collection only ever grow, so that what was there when the reading began is
//! there once: the reading ends with the document that was then the newest. What came after it is in the oplog.

use super::{Reading, Stop};
use crate::artifact::bson::{self, tag};
use crate::domain::text::escape;
use crate::engine::logical::select::Source;
use crate::engine::logical::split::Id;
use crate::error::{Error, ErrorKind};
use crate::mongo::batches::{Batches, ReadError, ReadRequest};
use crate::mongo::namespaces::Uuid;

/// A document of a capped collection.
pub(super) struct Mark {
    pub id: Id,
    record: i64,
}

/// What a reading up to a mark is worth.
pub(super) enum Verdict {
    /// What was there when it began was read, and nothing twice.
    Complete,
    /// Nothing of that is left in the collection: the oplog alone makes what there is now.
    RolledOut,
    Again,
}

/// The newest document; `None` when there is none.
pub(super) async fn newest(reading: &Reading, source: &Source, uuid: Uuid) -> Result<Option<Mark>, Stop> {
    find_one(reading, source, uuid, Which::Newest).await
}

/// Judges a reading that came to its end or, if it was `met`, to a document with the `_id` of `mark`.
pub(super) async fn judge(
    reading: &Reading,
    source: &Source,
    uuid: Uuid,
    mark: &Mark,
    met: bool,
) -> Result<Verdict, Stop> {
    let oldest = find_one(reading, source, uuid, Which::Oldest).await?;
    if oldest.is_none_or(|oldest| oldest.record > mark.record) {
        return Ok(Verdict::RolledOut);
    }
    if !met {
        return Ok(Verdict::Again);
    }
    // It may have been deleted and inserted again (6.0 and later): then what was met was not the mark.
    let now = find_one(reading, source, uuid, Which::This(&mark.id)).await?;
    Ok(if now.is_some_and(|now| now.record == mark.record) { Verdict::Complete } else { Verdict::Again })
}

/// How many documents of a reply (the bytes of an array) end with the one that has this `_id`; `None` if it is not there.
pub(super) fn documents_until(array: &[u8], mark: &Mark) -> crate::error::Result<Option<u64>> {
    let mut count = 0;
    for document in bson::elements(array).map_err(super::damaged)? {
        count += 1;
        if mark.id.is_of(document.map_err(super::damaged)?.value) {
            return Ok(Some(count));
        }
    }
    Ok(None)
}

enum Which<'a> {
    Oldest,
    Newest,
    This(&'a Id),
}

async fn find_one(reading: &Reading, source: &Source, uuid: Uuid, which: Which<'_>) -> Result<Option<Mark>, Stop> {
    let mut command = super::find_by_uuid(uuid);
    match which {
        Which::Oldest => command.open(tag::DOCUMENT, "hint").i32("$natural", 1).close(),
        Which::Newest => command.open(tag::DOCUMENT, "hint").i32("$natural", -1).close(),
        Which::This(id) => {
            let filter = command.open(tag::DOCUMENT, "filter").open(tag::DOCUMENT, "_id");
            id.write(filter, "$eq").close().close()
        }
    };
    command.open(tag::DOCUMENT, "projection").i32("_id", 1).close();
    command.bool("showRecordId", true).i32("limit", 1).bool("singleBatch", true);
    command.open(tag::DOCUMENT, "readConcern").str("level", "local").close();
    let request = ReadRequest {
        db: source.ns.db.clone(),
        command: super::command(command)?,
        batch_size: None,
        await_time: None,
        doing: format!("reading {}", escape(&source.ns.to_string())),
    };
    let mut batches = Batches::open(&reading.server, &reading.budget, request);
    while let Some(reply) = super::next(reading, &mut batches).await? {
        let Some(found) = bson::elements(reply.array()?).map_err(super::damaged)?.next() else { continue };
        let found = found.map_err(super::damaged)?.value;
        let record = bson::get(found, "$recordId").and_then(|e| e.i64());
        return match (Id::of(found), record) {
            (Some(id), Some(record)) => Ok(Some(Mark { id, record })),
            _ => {
                let what = format!("the server numbers the documents of {} otherwise", escape(&source.ns.to_string()));
                Err(ReadError { code: None, error: Error::new(ErrorKind::Unsupported, what) }.into())
            }
        };
    }
    Ok(None)
}
