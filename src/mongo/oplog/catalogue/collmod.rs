//! `collMod`: changes of options and of single indexes.

use mongodb::bson::{Bson, Document};

use super::{Collection, normalise_options};
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::unknown;

/// What a command carries beside its subject.
const GENERIC: [&str; 8] =
    ["collMod", "$db", "lsid", "writeConcern", "comment", "apiVersion", "isTimeseriesNamespace", "dryRun"];

/// Sets what the command says. An index that is gone by the time the backup recorded the collection is left alone.
pub(super) fn apply(collection: &mut Collection, o: &Document) -> Result<()> {
    for (key, value) in o {
        let options = &mut collection.options;
        match key.as_str() {
            "validator"
            | "validationLevel"
            | "validationAction"
            | "changeStreamPreAndPostImages"
            | "recordPreImages" => {
                // The validator of buckets is the server's own.
                if !(collection.timeseries && key.starts_with("validat")) {
                    options.insert(key.clone(), value.clone());
                }
            }
            "expireAfterSeconds" => match value {
                Bson::String(off) if off == "off" => {
                    options.remove(key);
                }
                _ => {
                    options.insert(key.clone(), value.clone());
                }
            },
            "cappedSize" => {
                options.insert("size", value.clone());
            }
            "cappedMax" => {
                options.insert("max", value.clone());
            }
            "timeseries" => {
                let change = value.as_document().ok_or_else(|| wrong(key))?;
                let Ok(current) = options.get_document_mut("timeseries") else { continue };
                // Each of the two ways to say how long a bucket may be replaces the other.
                if change.contains_key("granularity") {
                    current.remove("bucketMaxSpanSeconds");
                    current.remove("bucketRoundingSeconds");
                } else if change.contains_key("bucketMaxSpanSeconds") {
                    current.remove("granularity");
                }
                for (name, value) in change {
                    current.insert(name.clone(), value.clone());
                }
            }
            "index" => index(collection, value.as_document().ok_or_else(|| wrong(key))?)?,
            key if GENERIC.contains(&key) => {}
            key => return Err(unknown(&format!("option {} of collMod", escape(key)))),
        }
    }
    let validation = ["validator", "validationLevel", "validationAction"];
    if !collection.timeseries && o.keys().any(|key| validation.contains(&key.as_str())) {
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

fn wrong(key: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("collMod with another {} than a document", escape(key)))
}

fn index(collection: &mut Collection, change: &Document) -> Result<()> {
    let name = change.get_str("name").ok();
    let key = change.get_document("keyPattern").ok();
    let found = collection.indexes.iter_mut().find(|i| match (name, key) {
        (Some(name), _) => i.get_str("name").is_ok_and(|n| n == name),
        (None, Some(key)) => i.get_document("key").is_ok_and(|k| k == key),
        (None, None) => false,
    });
    let Some(spec) = found else { return Ok(()) };
    for (key, value) in change {
        match key.as_str() {
            "name" | "keyPattern" => {}
            "expireAfterSeconds" => {
                spec.insert(key.clone(), value.clone());
            }
            "hidden" | "prepareUnique" if value.as_bool() == Some(false) => {
                spec.remove(key);
            }
            "unique" => {
                spec.insert(key.clone(), value.clone());
                // Preparing ends where uniqueness begins.
                spec.remove("prepareUnique");
            }
            "hidden" | "prepareUnique" => {
                spec.insert(key.clone(), value.clone());
            }
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
            apply(&mut collection, &change).unwrap();
            let sorted = |d: &Document| {
                d.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<std::collections::BTreeMap<_, _>>()
            };
            assert_eq!(sorted(&collection.options), sorted(&after), "{change}");
        }
    }
}
