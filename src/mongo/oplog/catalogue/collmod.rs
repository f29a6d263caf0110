//! `collMod`: changes of options and of single indexes.

use super::{Collection, normalise_options, timeseries};
use crate::artifact::bson::Element;
use crate::artifact::raw::Raw;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::unknown;

/// What a command carries beside its subject.
const GENERIC: [&str; 8] =
    ["collMod", "$db", "lsid", "writeConcern", "comment", "apiVersion", "isTimeseriesNamespace", "dryRun"];

/// Sets what the command says. An index that is gone by the time the backup recorded the collection is left alone.
pub(super) fn apply(collection: &mut Collection, o: &Raw) -> Result<()> {
    for value in o.iter() {
        let key = String::from_utf8_lossy(value.key);
        let key = key.as_ref();
        let options = &mut collection.options;
        match key {
            "validator"
            | "validationLevel"
            | "validationAction"
            | "changeStreamPreAndPostImages"
            | "recordPreImages" => {
                // The validator of buckets is the server's own.
                if !(collection.timeseries && key.starts_with("validat")) {
                    options.set_element(key, &value);
                }
            }
            "expireAfterSeconds" => match value.str() {
                Some("off") => options.remove(key),
                _ => options.set_element(key, &value),
            },
            "cappedSize" => options.set_element("size", &value),
            "cappedMax" => options.set_element("max", &value),
            "timeseries" => {
                let change = document(key, &value)?;
                let Some(mut current) = options.get_document("timeseries") else { continue };
                // Each of the two ways to say how long a bucket may be replaces the other.
                if change.contains_key("granularity") {
                    current.remove("bucketMaxSpanSeconds");
                    current.remove("bucketRoundingSeconds");
                } else if change.contains_key("bucketMaxSpanSeconds") {
                    current.remove("granularity");
                }
                for value in change.iter() {
                    current.set_element(&String::from_utf8_lossy(value.key), &value);
                }
                options.set_document(key, &current);
            }
            "index" => index(collection, &document(key, &value)?)?,
            key if GENERIC.contains(&key) => {}
            key => return Err(unknown(&format!("option {} of collMod", escape(key)))),
        }
    }
    let validation = ["validator", "validationLevel", "validationAction"];
    if !collection.timeseries && o.keys().any(|key| validation.contains(&key)) {
        // The server then stores both in full (seen on 6.0.5), though the entry names only what was asked for.
        for (key, default) in [("validationLevel", "strict"), ("validationAction", "error")] {
            if !collection.options.contains_key(key) {
                collection.options.insert(key, default);
            }
        }
    }
    normalise_options(&mut collection.options);
    Ok(())
}

const BESIDE: &str = "backwardsIncompatibleCollModParameters";

/// Sets what the command does not say itself: parameters that an older server would not have understood stand beside it
/// (seen on 6.0.27, which logs no more than `{collMod: "system.buckets.X"}`).
pub(super) fn apply_beside(collection: &mut Collection, o2: Option<&Raw>) -> Result<()> {
    let Some(beside) = o2.and_then(|o2| o2.get(BESIDE)) else { return Ok(()) };
    for value in document(BESIDE, &beside)?.iter() {
        match String::from_utf8_lossy(value.key).as_ref() {
            timeseries::MIXED => timeseries::set_mixed(&mut collection.options, value.truthy()),
            key => return Err(unknown(&format!("option {} of collMod", escape(key)))),
        }
    }
    Ok(())
}

fn document(key: &str, value: &Element<'_>) -> Result<Raw> {
    let found = value.document().and_then(|bytes| Raw::from_bytes(bytes.to_vec()).ok());
    let wrong = || Error::new(ErrorKind::Corrupt, format!("collMod with another {} than a document", escape(key)));
    found.ok_or_else(wrong)
}

fn index(collection: &mut Collection, change: &Raw) -> Result<()> {
    let name = change.get_text("name");
    let key = change.get_document("keyPattern");
    let found = collection.indexes.iter_mut().find(|i| match (name, &key) {
        (Some(name), _) => i.get_text("name") == Some(name),
        (None, Some(key)) => i.get_document("key").as_ref() == Some(key),
        (None, None) => false,
    });
    let Some(spec) = found else { return Ok(()) };
    for value in change.iter() {
        match String::from_utf8_lossy(value.key).as_ref() {
            "name" | "keyPattern" => {}
            key @ ("hidden" | "prepareUnique") if !value.truthy() => spec.remove(key),
            "unique" => {
                spec.set_element("unique", &value);
                // Preparing ends where uniqueness begins.
                spec.remove("prepareUnique");
            }
            key @ ("expireAfterSeconds" | "hidden" | "prepareUnique") => spec.set_element(key, &value),
            key => return Err(unknown(&format!("index option {} of collMod", escape(key)))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;
    use crate::domain::namespace::Namespace;

    /// As 6.0.27 listed it after each.
    #[test]
    fn mixed_buckets_are_an_option_of_the_storage_engine() {
        let listed = |text: &str| doc! {"wiredTiger": {"configString": text}};
        let change = |on: bool| Raw::from(doc! {BESIDE: {timeseries::MIXED: on}});
        let (yes, no) = (
            format!("app_metadata=({}=true)", timeseries::MIXED),
            format!("app_metadata=({}=false)", timeseries::MIXED),
        );
        let series = Namespace::new("d", "series");
        let mut collection = Collection::new(series, true, doc! {"timeseries": {"timeField": "t"}}, Vec::new(), None);
        for (on, expected) in [(true, &yes), (true, &yes), (false, &no)] {
            apply_beside(&mut collection, Some(&change(on))).unwrap();
            assert_eq!(collection.options.get_document("storageEngine").unwrap(), listed(expected));
        }
        collection.options.set_document("storageEngine", &listed("block_compressor=zlib").into());
        apply_beside(&mut collection, Some(&change(true))).unwrap();
        let both = format!("block_compressor=zlib,{yes}");
        assert_eq!(collection.options.get_document("storageEngine").unwrap(), listed(&both));
        let other = Raw::from(doc! {BESIDE: {"somethingNew": true}});
        assert_eq!(apply_beside(&mut collection, Some(&other)).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    /// What a real server stored after each entry.
    #[test]
    fn level_and_action_of_a_validation_are_stored_in_full() {
        let v = doc! {"n": {"$gte": 0}};
        let cases = [
            (
                doc! {},
                doc! {"validator": &v},
                doc! {"validationLevel": "strict", "validationAction": "error", "validator": &v},
            ),
            (
                doc! {"validator": &v, "validationAction": "warn"},
                doc! {"validator": {}},
                doc! {"validationLevel": "strict", "validationAction": "warn"},
            ),
            (
                doc! {},
                doc! {"validationLevel": "moderate"},
                doc! {"validationLevel": "moderate", "validationAction": "error"},
            ),
            (doc! {}, doc! {"changeStreamPreAndPostImages": {"enabled": false}}, doc! {}),
            (doc! {"validator": &v}, doc! {"index": {"name": "n", "hidden": true}}, doc! {"validator": &v}),
        ];
        for (before, change, after) in cases {
            let mut collection = Collection::new(Namespace::new("shop", "orders"), false, before, Vec::new(), None);
            apply(&mut collection, &change.clone().into()).unwrap();
            assert_eq!(collection.options, after, "{change}");
        }
    }
}
