//! Index specifications: raw documents, known by their name.

use super::{Collection, timeseries};
use crate::artifact::raw::Raw;
use crate::error::{Error, ErrorKind, Result};

/// The index on `_id` that every collection has, and the pseudo-index of a clustered collection: both come with the
/// collection itself. Another index on `_id`, such as a hashed one, is not implied.
pub fn is_implied(spec: &Raw) -> bool {
    let plain_id = spec
        .get_document("key")
        .is_some_and(|key| key.len() == 1 && key.get("_id").and_then(|d| d.number()).is_some_and(|n| n > 0.0));
    spec.get_bool("clustered").unwrap_or(false) || (plain_id && spec.get_str("name").is_some_and(|n| n == "_id_"))
}

/// Whether documents expire through this index.
pub fn is_ttl(spec: &Raw) -> bool {
    spec.contains_key("expireAfterSeconds")
}

/// Adds an index, in the place of one of the same name.
pub(super) fn set(collection: &mut Collection, mut spec: Raw) -> Result<()> {
    spec.remove("ns");
    if collection.timeseries {
        spec = timeseries::from_bucket_index(&collection.options, spec)?;
    }
    if is_implied(&spec) {
        return Ok(());
    }
    let name = spec.get_text("name").ok_or_else(|| Error::new(ErrorKind::Corrupt, "an index without a name"))?;
    match collection.indexes.iter_mut().find(|i| i.get_text("name") == Some(name)) {
        Some(old) => *old = spec,
        None => collection.indexes.push(spec),
    }
    Ok(())
}

/// `dropIndexes` and its older names; in an oplog it always names one index.
pub(super) fn remove(collection: &mut Collection, o: &Raw) -> Result<()> {
    let name =
        o.get_text("index").ok_or_else(|| Error::new(ErrorKind::Corrupt, "an index is dropped that has no name"))?;
    collection.indexes.retain(|i| i.get_text("name") != Some(name));
    Ok(())
}
