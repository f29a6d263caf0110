//! Index specifications: raw documents, known by their name.

use mongodb::bson::{Bson, Document};

use super::{Collection, timeseries};
use crate::error::{Error, ErrorKind, Result};

/// The index on `_id` that every collection has, and the pseudo-index of a clustered collection: both come with the
/// collection itself. Another index on `_id`, such as a hashed one, is not implied.
pub fn is_implied(spec: &Document) -> bool {
    let plain_id = spec.get_document("key").is_ok_and(|key| {
        key.len() == 1
            && key.get("_id").is_some_and(|d| !matches!(d, Bson::String(_)) && number(d).is_some_and(|n| n > 0.0))
    });
    spec.get_bool("clustered").unwrap_or(false) || (plain_id && spec.get_str("name").is_ok_and(|n| n == "_id_"))
}

/// Whether documents expire through this index.
pub fn is_ttl(spec: &Document) -> bool {
    spec.contains_key("expireAfterSeconds")
}

fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Int64(n) => Some(*n as f64),
        Bson::Double(n) => Some(*n),
        _ => None,
    }
}

/// Adds an index, in the place of one of the same name.
pub(super) fn set(collection: &mut Collection, mut spec: Document) -> Result<()> {
    spec.remove("ns");
    if collection.timeseries {
        spec = timeseries::from_bucket_index(&collection.options, spec)?;
    }
    if is_implied(&spec) {
        return Ok(());
    }
    let name = spec.get_str("name").map_err(|_| Error::new(ErrorKind::Corrupt, "an index without a name"))?;
    match collection.indexes.iter_mut().find(|i| i.get_str("name").is_ok_and(|n| n == name)) {
        Some(old) => *old = spec,
        None => collection.indexes.push(spec),
    }
    Ok(())
}

/// `dropIndexes` and its older names; in an oplog it always names one index.
pub(super) fn remove(collection: &mut Collection, o: &Document) -> Result<()> {
    let name =
        o.get_str("index").map_err(|_| Error::new(ErrorKind::Corrupt, "an index is dropped that has no name"))?;
    collection.indexes.retain(|i| !i.get_str("name").is_ok_and(|n| n == name));
    Ok(())
}
