//! Time series, between what people define and what the server keeps.
//!
//! A time series `X` is a collection `system.buckets.X` and a view `X` over it. The oplog speaks of the buckets; people,
//! `create`, `createIndexes` and `mongodump`'s metadata speak of `X`.

use mongodb::bson::{Bson, Document};

use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

pub const BUCKETS_PREFIX: &str = "system.buckets.";

/// Options of `create system.buckets.X`, as `create X` takes them: the server adds validator and clustering itself.
pub(super) fn from_bucket_options(options: &mut Document) {
    options.remove("validator");
    options.remove("clusteredIndex");
}

/// An index on buckets, in terms of the time series' own fields.
pub(super) fn from_bucket_index(options: &Document, mut spec: Document) -> Result<Document> {
    // Where the translation is not one to one the server keeps what was asked for.
    if let Ok(original) = spec.get_document("originalSpec") {
        let mut original = original.clone();
        if let Some(name) = spec.get("name") {
            original.insert("name", name.clone());
        }
        for key in ["hidden", "expireAfterSeconds"] {
            match spec.get(key) {
                Some(value) => original.insert(key, value.clone()),
                None => original.remove(key),
            };
        }
        return Ok(original);
    }
    let key = spec.get_document("key").map_err(|_| untranslatable(&spec))?;
    let series = options.get_document("timeseries").map_err(|_| untranslatable(&spec))?;
    let meta = series.get_str("metaField").unwrap_or("");
    let mut translated = Document::new();
    let mut fields = key.iter().peekable();
    while let Some((field, direction)) = fields.next() {
        if field == "meta" {
            translated.insert(meta, direction.clone());
        } else if let Some(below) = field.strip_prefix("meta.") {
            translated.insert(format!("{meta}.{below}"), direction.clone());
        } else if let Some(name) = field.strip_prefix("control.min.") {
            // Ascending: smallest first.
            expect(&mut fields, &format!("control.max.{name}"), &spec)?;
            translated.insert(name, direction.clone());
        } else if let Some(name) = field.strip_prefix("control.max.") {
            expect(&mut fields, &format!("control.min.{name}"), &spec)?;
            translated.insert(name, direction.clone());
        } else if field.starts_with("data.") && direction == &Bson::String("2dsphere_bucket".into()) {
            translated.insert(&field["data.".len()..], "2dsphere");
        } else {
            return Err(untranslatable(&spec));
        }
    }
    spec.insert("key", translated);
    Ok(spec)
}

fn expect<'a>(fields: &mut impl Iterator<Item = (&'a String, &'a Bson)>, name: &str, spec: &Document) -> Result<()> {
    match fields.next() {
        Some((field, _)) if field == name => Ok(()),
        _ => Err(untranslatable(spec)),
    }
}

fn untranslatable(spec: &Document) -> Error {
    let name = escape(spec.get_str("name").unwrap_or("?"));
    Error::new(
        ErrorKind::Unsupported,
        format!("the index {name} of a time series has a form this version does not know"),
    )
    .hint("a newer mongokeep may know it")
}
