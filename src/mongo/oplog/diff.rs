//! Update entries, applied to a document in memory: for definitions and users, of which there are few.
//!
//! Documents of collections are never changed here: they go to the server, which applies its own entries.

use mongodb::bson::{Bson, Document};

use super::entry::unknown;
use super::modifiers::{self, Form};
use crate::artifact::bson;
use crate::artifact::raw::Raw;
use crate::error::{Error, ErrorKind, Result};

/// Applies the object of an update entry: a difference (`$v: 2`), modifiers (`$v: 1`) or a whole new document.
///
/// As on the server, a difference that no longer fits a newer form of the document changes nothing there.
/// Errors: `Unsupported` for a form nobody knows.
pub fn apply(target: &mut Document, change: &Document) -> Result<()> {
    let encode = |document: &Document| document.to_vec().map_err(|e| damaged("cannot be written").source(e));
    let bytes = encode(change)?;
    match modifiers::form(&bytes)? {
        Form::Difference => document(target, change.get_document("diff").map_err(|_| odd())?),
        Form::Whole => {
            let id = target.get("_id").cloned();
            *target = change.clone();
            if let (false, Some(id)) = (target.contains_key("_id"), id) {
                target.insert("_id", id);
            }
            Ok(())
        }
        Form::Modifiers => {
            let changed = modifiers::apply(&encode(target)?, &bytes)?;
            *target = Document::from_reader(changed.as_slice()).map_err(|e| damaged("cannot be read").source(e))?;
            Ok(())
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a definition or user that the oplog changes {what}"))
}

/// The same on bytes: fields that the change does not name stay exactly as they are.
pub fn apply_raw(target: &mut Raw, change: &Raw) -> Result<()> {
    let broken = |e| Error::new(ErrorKind::Corrupt, "a definition in the oplog cannot be read").source(e);
    let diff = change.get_document("diff");
    let whole_fields = |diff: &Raw| diff.iter().all(|e| matches!(e.key, b"d" | b"u" | b"i") && e.document().is_some());
    if let Some(diff) = diff.filter(whole_fields) {
        for section in diff.iter() {
            let Some(fields) = section.document() else { continue };
            for field in bson::elements(fields).into_iter().flatten().map_while(|e| e.ok()) {
                let Ok(name) = std::str::from_utf8(field.key) else { return Err(odd()) };
                match section.key {
                    b"d" => target.remove(name),
                    _ => target.set_element(name, &field),
                }
            }
        }
        return Ok(());
    }
    if modifiers::form(change.as_bytes())? == Form::Modifiers {
        let changed = modifiers::apply(target.as_bytes(), change.as_bytes())?;
        *target = Raw::from_bytes(changed).map_err(|e| damaged("cannot be read").source(e))?;
        return Ok(());
    }
    let mut decoded = bson::decode(target.as_bytes()).map_err(broken)?;
    // What lies deeper can only be changed in a form that decoding keeps.
    if *target.as_bytes() != *Raw::from(&decoded).as_bytes() {
        return Err(odd());
    }
    apply(&mut decoded, &bson::decode(change.as_bytes()).map_err(broken)?)?;
    *target = decoded.into();
    Ok(())
}

fn odd() -> Error {
    unknown("update in a form this version does not know")
}

fn set(target: &mut Document, fields: &Document) {
    for (key, value) in fields {
        target.insert(key.clone(), value.clone());
    }
}

fn remove(target: &mut Document, fields: &Document) {
    for key in fields.keys() {
        target.remove(key);
    }
}

fn document(target: &mut Document, diff: &Document) -> Result<()> {
    for (section, value) in diff {
        match (section.as_str(), value.as_document()) {
            ("d", Some(fields)) => remove(target, fields),
            ("u" | "i", Some(fields)) => set(target, fields),
            (name, Some(inner)) if name.starts_with('s') => {
                let Some(field) = target.get_mut(&name[1..]) else { continue };
                value_of(field, inner)?;
            }
            _ => return Err(odd()),
        }
    }
    Ok(())
}

fn value_of(field: &mut Bson, diff: &Document) -> Result<()> {
    let for_array = diff.contains_key("a");
    match field {
        Bson::Document(inner) if !for_array => document(inner, diff),
        Bson::Array(items) if for_array => array(items, diff),
        _ => Ok(()),
    }
}

fn array(items: &mut Vec<Bson>, diff: &Document) -> Result<()> {
    if let Some(length) = diff.get("l") {
        let length = length.as_i32().map(i64::from).or_else(|| length.as_i64()).and_then(|n| usize::try_from(n).ok());
        let length = length.ok_or_else(odd)?;
        if length < items.len() {
            items.truncate(length);
        }
    }
    for (name, value) in diff {
        if name == "a" || name == "l" {
            continue;
        }
        let (kind, index) = name.split_at_checked(1).ok_or_else(odd)?;
        let index: usize = index.parse().map_err(|_| odd())?;
        match (kind, value) {
            // The server's own bound on what it pads.
            ("u", value) if index < 1_500_000 => {
                while items.len() <= index {
                    items.push(Bson::Null);
                }
                items[index] = value.clone();
            }
            ("s", Bson::Document(inner)) => {
                if let Some(item) = items.get_mut(index) {
                    value_of(item, inner)?;
                }
            }
            _ => return Err(odd()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    fn changed(mut target: Document, change: Document) -> Document {
        apply(&mut target, &change).unwrap();
        target
    }

    #[test]
    fn differences() {
        let before = doc! {"_id": 1, "a": 1, "b": {"c": 1, "d": [1, {"x": 1}, 3]}, "e": 5};
        let diff = doc! {"$v": 2, "diff": {
            "d": {"e": false}, "u": {"a": 2}, "i": {"n": {"m": 1}},
            "sb": {"i": {"z": 1}, "sd": {"a": true, "l": 2, "s1": {"u": {"x": 9}}}},
            "snothing": {"u": {"x": 1}},
        }};
        assert_eq!(
            changed(before, diff),
            doc! {"_id": 1, "a": 2, "b": {"c": 1, "d": [1, {"x": 9}], "z": 1}, "n": {"m": 1}}
        );
        let padded = doc! {"$v": 2, "diff": {"sl": {"a": true, "u3": 4}}};
        assert_eq!(changed(doc! {"l": [1, 2]}, padded.clone()), doc! {"l": [1, 2, Bson::Null, 4]});
        assert_eq!(changed(doc! {"l": 7}, padded), doc! {"l": 7}, "an older difference over a newer form");
    }

    #[test]
    fn other_forms() {
        assert_eq!(changed(doc! {"_id": 1, "a": 1}, doc! {"b": 2}), doc! {"b": 2, "_id": 1});
        let modifiers = doc! {"$v": 1, "$set": {"a": 2}, "$unset": {"b": true}};
        assert_eq!(changed(doc! {"a": 1, "b": 1}, modifiers), doc! {"a": 2});
        let user = doc! {"_id": "d.u", "credentials": {"SCRAM-SHA-1": {"salt": 1}, "SCRAM-SHA-256": {"salt": 2}}};
        let mechanisms =
            doc! {"$v": 1, "$unset": {"credentials.SCRAM-SHA-1": true}, "$set": {"roles": [], "data.x": 1}};
        let expected =
            doc! {"_id": "d.u", "credentials": {"SCRAM-SHA-256": {"salt": 2}}, "roles": [], "data": {"x": 1}};
        assert_eq!(changed(user, mechanisms), expected);
        assert!(apply(&mut doc! {}, &doc! {"$v": 2, "diff": {"q": {}}}).is_err());
    }
}
