//! Time series, between what people define and what the server keeps.
//!
//! A time series `X` is a collection `system.buckets.X` and a view `X` over it. The oplog speaks of the buckets; people,
//! `create`, `createIndexes` and `mongodump`'s metadata speak of `X`.

use crate::artifact::bson::{Element, Writer, tag};
use crate::artifact::raw::Raw;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

pub const BUCKETS_PREFIX: &str = "system.buckets.";

/// Lets values of several types into one bucket, which 6.0.27 refuses otherwise (code 408). It is no option of `create`:
/// it is listed, and taken, among those of the storage engine (tried on 6.0.27; 5.0.4, 6.0.5 and 7.0.11 need none, and take
/// it all the same).
pub const MIXED: &str = "timeseriesBucketsMayHaveMixedSchemaData";

/// Sets [`MIXED`] as it is listed.
pub(super) fn set_mixed(options: &mut Raw, on: bool) {
    let mut engine = options.get_document("storageEngine").unwrap_or_default();
    let mut tiger = engine.get_document("wiredTiger").unwrap_or_default();
    let before = tiger.get_str("configString").unwrap_or_default();
    let (yes, no) = (format!("app_metadata=({MIXED}=true)"), format!("app_metadata=({MIXED}=false)"));
    let wanted = if on { &yes } else { &no };
    let after = match before.replace(&yes, wanted).replace(&no, wanted) {
        set if set.contains(wanted.as_str()) => set,
        empty if empty.is_empty() => wanted.clone(),
        other => format!("{other},{wanted}"),
    };
    tiger.insert("configString", after.as_str());
    engine.set_document("wiredTiger", &tiger);
    options.set_document("storageEngine", &engine);
}

/// Options of `create system.buckets.X`, as `create X` takes them: the server adds validator and clustering itself.
pub(super) fn from_bucket_options(options: &mut Raw) {
    options.remove("validator");
    options.remove("clusteredIndex");
}

/// An index on buckets, in terms of the time series' own fields.
pub(super) fn from_bucket_index(options: &Raw, mut spec: Raw) -> Result<Raw> {
    // Where the translation is not one to one the server keeps what was asked for.
    if let Some(mut original) = spec.get_document("originalSpec") {
        if let Some(name) = spec.get("name") {
            original.set_element("name", &name);
        }
        for key in ["hidden", "expireAfterSeconds"] {
            match spec.get(key) {
                Some(value) => original.set_element(key, &value),
                None => original.remove(key),
            }
        }
        return Ok(original);
    }
    let key = spec.get_document("key").ok_or_else(|| untranslatable(&spec))?;
    let series = options.get_document("timeseries").ok_or_else(|| untranslatable(&spec))?;
    let meta = series.get_str("metaField").unwrap_or("");
    let mut translated = Writer::default();
    let mut fields = key.iter().map(|e| (e.key, e));
    while let Some((field, direction)) = fields.next() {
        let mut put = |name: &[u8]| {
            translated.raw(direction.tag, name, direction.value);
        };
        if field == b"meta" {
            put(meta.as_bytes());
        } else if let Some(below) = field.strip_prefix(b"meta.") {
            put(&[meta.as_bytes(), b".", below].concat());
        } else if let Some(name) = field.strip_prefix(b"control.min.") {
            // Ascending: smallest first.
            expect(&mut fields, &[b"control.max.", name].concat(), &spec)?;
            put(name);
        } else if let Some(name) = field.strip_prefix(b"control.max.") {
            expect(&mut fields, &[b"control.min.", name].concat(), &spec)?;
            put(name);
        } else if let (Some(name), Some("2dsphere_bucket")) = (field.strip_prefix(b"data."), direction.str()) {
            translated.raw(tag::STRING, name, b"\x09\0\0\x002dsphere\0");
        } else {
            return Err(untranslatable(&spec));
        }
    }
    spec.set_element("key", &Element { tag: tag::DOCUMENT, key: b"key", value: &translated.finish() });
    Ok(spec)
}

fn expect<'a>(fields: &mut impl Iterator<Item = (&'a [u8], Element<'a>)>, name: &[u8], spec: &Raw) -> Result<()> {
    match fields.next() {
        Some((field, _)) if field == name => Ok(()),
        _ => Err(untranslatable(spec)),
    }
}

fn untranslatable(spec: &Raw) -> Error {
    let name = escape(spec.get_str("name").unwrap_or("?"));
    Error::new(
        ErrorKind::Unsupported,
        format!("the index {name} of a time series has a form this version does not know"),
    )
    .hint("a newer mongokeep may know it")
}
