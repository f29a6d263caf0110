//! What PBM says of the collections of a backup: `meta.pbm`, which is BSON, and before 2.8 `metadata.json` alone.

use mongodb::bson::Bson;
use serde::Deserialize;

use crate::artifact::bson::{Element, elements, get};
use crate::artifact::raw::Raw;
use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::engine::logical::{Definition, parse_uuid};
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::Uuid;

/// A collection, time series, its buckets, or a view, as PBM found it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub ns: Namespace,
    pub kind: SpecKind,
    pub uuid: Option<Uuid>,
    pub definition: Definition,
    /// CRC-64 and bytes of its documents. Of a time series in `metadata.json` those of its buckets.
    pub crc64: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecKind {
    Collection,
    Timeseries,
    View,
}

impl SpecKind {
    fn of(word: &str) -> Option<Self> {
        match word {
            // Servers before 3.4 knew no other.
            "collection" | "" => Some(Self::Collection),
            "timeseries" => Some(Self::Timeseries),
            "view" => Some(Self::View),
            _ => None,
        }
    }
}

fn corrupt(place: &str, why: impl std::fmt::Display) -> Error {
    let (place, why) = (escape(place), escape(&why.to_string()));
    Error::new(ErrorKind::Corrupt, format!("{place} is damaged: {why}")).hint("use another backup")
}

/// Reads `meta.pbm`.
pub fn from_bson(place: &str, bytes: &[u8]) -> Result<Vec<Spec>> {
    let document = Raw::from_bytes(bytes.to_vec()).map_err(|e| corrupt(place, e))?;
    let list = document.get("specifications").ok_or_else(|| corrupt(place, "it names no collections"))?;
    let list = list.array().ok_or_else(|| corrupt(place, "its collections are no list"))?;
    let each = elements(list).map_err(|e| corrupt(place, e))?.map(|element| {
        let element = element.map_err(|e| corrupt(place, e))?;
        let spec = element.document().ok_or_else(|| corrupt(place, "a collection is no document"))?;
        one(spec).map_err(|why| corrupt(place, why))
    });
    each.collect()
}

fn one(spec: &[u8]) -> std::result::Result<Spec, String> {
    let text = |key: &str| get(spec, key).and_then(|e| e.str()).ok_or_else(|| format!("a collection lacks its {key}"));
    let ns = Namespace::new(text("db")?, text("name")?);
    let kind = text("type")?;
    let kind = SpecKind::of(kind).ok_or_else(|| format!("{ns} is of the unknown kind {kind}"))?;
    let raw = |e: Element<'_>| match e.document() {
        Some(bytes) => Raw::from_bytes(bytes.to_vec()).map_err(|e| e.to_string()),
        None => Err(format!("the definition of {ns} is no document")),
    };
    let given = |key: &str| get(spec, key).filter(|e| e.document().is_some() || e.array().is_some() || e.truthy());
    let options = given("options").map(raw).transpose()?.unwrap_or_default();
    let mut indexes = Vec::new();
    if let Some(list) = given("indexes") {
        let list = list.array().ok_or_else(|| format!("the indexes of {ns} are no list"))?;
        for index in elements(list).map_err(|e| e.to_string())? {
            indexes.push(raw(index.map_err(|e| e.to_string())?)?);
        }
    }
    let uuid = match get(spec, "uuid").and_then(|e| e.str()).filter(|uuid| !uuid.is_empty()) {
        Some(uuid) => Some(parse_uuid(uuid).ok_or_else(|| format!("{ns} has a UUID that is none"))?),
        None => None,
    };
    let number = |key: &str| get(spec, key).and_then(|e| e.i64()).ok_or_else(|| format!("{ns} lacks its {key}"));
    let bytes = u64::try_from(number("size")?).map_err(|_| format!("{ns} has a negative size"))?;
    let crc64 = number("crc")?.cast_unsigned();
    let definition = Definition { options, indexes };
    Ok(Spec { definition: finished(definition), ns, kind, uuid, crc64, bytes })
}

/// Reads `metadata.json`.
pub fn from_json(place: &str, bytes: &[u8]) -> Result<Vec<Spec>> {
    #[derive(Deserialize)]
    struct File {
        namespaces: Option<Vec<Stored>>,
    }
    #[derive(Deserialize)]
    struct Stored {
        db: String,
        collection: String,
        metadata: String,
        #[serde(default, rename = "type")]
        kind: String,
        crc: serde_json::Value,
        size: serde_json::Value,
    }
    #[derive(Deserialize)]
    struct Identity {
        uuid: Option<String>,
    }
    let file: File = serde_json::from_slice(bytes).map_err(|e| corrupt(place, e))?;
    let each = file.namespaces.unwrap_or_default().into_iter().map(|stored| {
        let ns = Namespace::new(stored.db, stored.collection);
        let wrong = |why: String| corrupt(place, format!("{ns}: {why}"));
        let kind = SpecKind::of(&stored.kind).ok_or_else(|| wrong(format!("the unknown kind {}", stored.kind)))?;
        let definition = Definition::parse(stored.metadata.as_bytes()).map_err(&wrong)?;
        let said: Identity = serde_json::from_str(&stored.metadata).map_err(|e| wrong(e.to_string()))?;
        let uuid = match said.uuid.filter(|uuid| !uuid.is_empty()) {
            Some(uuid) => Some(parse_uuid(&uuid).ok_or_else(|| wrong("a UUID that is none".into()))?),
            None => None,
        };
        let number = |value: serde_json::Value| match Bson::try_from(value) {
            Ok(Bson::Int64(n)) => Ok(n),
            Ok(Bson::Int32(n)) => Ok(i64::from(n)),
            _ => Err(wrong("a checksum or size that is no number".into())),
        };
        let crc64 = number(stored.crc)?.cast_unsigned();
        let bytes = u64::try_from(number(stored.size)?).map_err(|_| wrong("a negative size".into()))?;
        Ok(Spec { definition: finished(definition), kind, uuid, crc64, bytes, ns: ns.clone() })
    });
    each.collect()
}

/// PBM leaves out that an index is the clustered one, which comes with the collection itself.
fn finished(mut definition: Definition) -> Definition {
    let clustered =
        definition.options.get_document("clusteredIndex").and_then(|c| c.get_str("name").map(str::to_owned));
    for index in &mut definition.indexes {
        index.remove("ns");
        if clustered.is_some() && index.get_str("name") == clustered.as_deref() {
            index.insert("clustered", true);
        }
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    #[test]
    fn both_forms_say_the_same() {
        let indexes =
            vec![doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}, doc! {"v": 2, "key": {"a": 1.5}, "name": "a_1"}];
        let uuid = "ab".repeat(16);
        let bson = doc! {"version": "2.15.0", "specifications": [
            {"db": "shop", "name": "o", "type": "collection", "uuid": &uuid, "options": {"capped": true, "size": 4096_i64},
             "indexes": indexes, "crc": -5_i64, "size": 70_i64},
            {"db": "shop", "name": "v", "type": "view", "options": {"viewOn": "o"}, "indexes": [], "crc": 0_i64, "size": 0_i64},
        ]};
        let json = r#"{"version": "0.1", "namespaces": [
            {"db": "shop", "collection": "o", "type": "collection", "crc": {"$numberLong": "-5"}, "size": {"$numberLong": "70"},
             "metadata": "{\"options\":{\"capped\":true,\"size\":{\"$numberLong\":\"4096\"}},\"indexes\":[{\"v\":{\"$numberInt\":\"2\"},\"key\":{\"_id\":{\"$numberInt\":\"1\"}},\"name\":\"_id_\"},{\"v\":{\"$numberInt\":\"2\"},\"key\":{\"a\":{\"$numberDouble\":\"1.5\"}},\"name\":\"a_1\",\"ns\":\"shop.o\"}],\"uuid\":\"abababababababababababababababab\",\"collectionName\":\"o\",\"type\":\"collection\"}"},
            {"db": "shop", "collection": "v", "type": "view", "crc": {"$numberLong": "0"}, "size": {"$numberInt": "0"},
             "metadata": "{\"options\":{\"viewOn\":\"o\"},\"indexes\":[],\"collectionName\":\"v\",\"type\":\"view\"}"}
        ]}"#;
        let from_bson = from_bson("x", &bson.to_vec().unwrap()).unwrap();
        assert_eq!(from_bson, from_json("x", json.as_bytes()).unwrap());
        let first = &from_bson[0];
        assert_eq!((first.crc64, first.bytes, first.uuid), ((-5_i64).cast_unsigned(), 70, Some([0xab; 16])));
        assert_eq!((from_bson[1].kind, from_bson[1].uuid), (SpecKind::View, None));
    }

    #[test]
    fn damage_is_named() {
        for spec in [
            doc! {"db": "a", "name": "b", "type": "unheard of", "crc": 0_i64, "size": 0_i64},
            doc! {"db": "a", "name": "b", "type": "collection", "crc": 0_i64},
            doc! {"db": "a", "name": "b", "type": "collection", "crc": 0_i64, "size": -1_i64},
            doc! {"db": "a", "name": "b", "type": "collection", "crc": 0_i64, "size": 1_i64, "uuid": "x"},
            doc! {"db": "a", "name": "b", "type": "collection", "crc": 0_i64, "size": 1_i64, "options": 5},
        ] {
            let bytes = doc! {"specifications": [spec]}.to_vec().unwrap();
            assert_eq!(from_bson("x", &bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        for bytes in [&b"{}"[..], b"{\"namespaces\": [{}]}", b"x"] {
            assert!(from_json("x", bytes).map_or(true, |found| found.is_empty()));
        }
        assert!(from_bson("x", b"\x05\0\0\0\0").is_err());
    }
}
