//! Index specifications: raw documents, known by their name.

use mongodb::bson::doc;

use super::{Collection, timeseries};
use crate::artifact::bson::{Writer, tag};
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

/// The beginning of a `createIndexes` command: one command scans the collection once for all of `specs`.
pub fn create_indexes(collection: &str, specs: &[Raw]) -> Writer {
    let mut command = Writer::default();
    command.str("createIndexes", collection).open(tag::ARRAY, "indexes");
    for (n, spec) in specs.iter().enumerate() {
        command.document(&n.to_string(), spec.as_bytes());
    }
    command.close();
    command
}

/// A specification as `createIndexes` takes it. An index without a collation would inherit that of its collection.
pub fn as_built(spec: &Raw, options: &Raw) -> Raw {
    let mut spec = spec.clone();
    spec.remove("ns");
    // One of version 1 has none, and inherits none.
    let old = spec.get("v").and_then(|e| e.number()).is_some_and(|v| v < 2.0);
    if options.contains_key("collation") && !spec.contains_key("collation") && !old {
        spec.insert("collation", doc! {"locale": "simple"});
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_does_not_inherit_a_collation() {
        let plain = Raw::from(doc! {"v": 2, "key": {"a": 1}, "name": "a_1", "hidden": true, "ns": "x.y"});
        let collated = Raw::from(doc! {"collation": {"locale": "de"}});
        let built = as_built(&plain, &collated);
        assert_eq!(
            built,
            doc! {"v": 2, "key": {"a": 1}, "name": "a_1", "hidden": true, "collation": {"locale": "simple"}}
        );
        assert!(!as_built(&plain, &Raw::default()).contains_key("collation"));
        let old = Raw::from(doc! {"v": 1, "key": {"a": 1}, "name": "a_1"});
        assert_eq!(as_built(&old, &collated), old);
        let own = Raw::from(doc! {"v": 2, "key": {"a": 1}, "name": "a_1", "collation": {"locale": "fr"}});
        assert_eq!(as_built(&own, &collated), own);
    }
}
