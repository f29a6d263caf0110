//! The metadata file of a collection: what `mongodump` writes, so that `mongorestore` reads it, and beside it the
//! definitions as the bytes they are.
//!
//! Extended JSON cannot say every definition: a field that is called `$oid` reads as an ObjectId, or as an error for the
//! whole file. What it cannot say is left out of it and named; we ourselves read the bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::Document;
use serde::{Deserialize, Serialize};

use crate::artifact::bson::{Malformed, Writer, elements};
use crate::artifact::extjson;
use crate::artifact::raw::Raw;
use crate::domain::namespace::Namespace;
use crate::domain::restore::{CollectionKind, LeftOut};
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::namespaces::Uuid;

/// What a metadata file says.
pub struct Description<'a> {
    pub ns: &'a Namespace,
    pub kind: CollectionKind,
    /// Stock tools write none for a view, nor for a time series: the identity of its buckets is in our manifest.
    pub uuid: Option<Uuid>,
    /// BSON.
    pub options: &'a [u8],
    /// As `listIndexes` gave them.
    pub indexes: Vec<&'a [u8]>,
}

/// Our own field of the file, which `mongorestore` does not look at: base64 of the BSON.
#[derive(Serialize, Deserialize)]
struct Bytes {
    options: String,
    indexes: Vec<String>,
}

/// A metadata file.
pub struct Written {
    pub json: Vec<u8>,
    /// What other tools do not find in it.
    pub lacks: Vec<LeftOut>,
}

impl Description<'_> {
    /// The file of a backup, with the bytes.
    pub fn with_bytes(&self) -> Result<Written> {
        let bytes = Bytes {
            options: STANDARD.encode(self.options),
            indexes: self.indexes.iter().map(|index| STANDARD.encode(index)).collect(),
        };
        let bytes = serde_json::to_string(&bytes)
            .map_err(|e| Error::new(ErrorKind::Internal, "writing a definition").source(e))?;
        self.write(&format!(",\"mongokeep\":{bytes}"))
    }

    /// The file of an export, for other tools alone.
    pub fn plain(&self) -> Result<Written> {
        self.write("")
    }

    fn write(&self, bytes: &str) -> Result<Written> {
        let shown = escape(&self.ns.to_string());
        let damaged = |e: Malformed| {
            Error::new(ErrorKind::Failed, format!("the server's description of {shown} is damaged")).source(e)
        };
        let mut lacks = Vec::new();
        let mut out = String::from("{\"options\":");
        out.push_str(&extjson::from_document(&self.sayable_options(&mut lacks).map_err(damaged)?).map_err(damaged)?);
        // Readers of the stock tools expect a list, never null.
        out.push_str(",\"indexes\":[");
        let mut first = true;
        for index in &self.indexes {
            if let Some(why) = extjson::unfaithful(index) {
                let name = crate::artifact::bson::get(index, "name").map(|e| e.lossy()).unwrap_or_default();
                lacks.push(LeftOut { what: format!("index {} of {shown}", escape(&name)), why: not_said(&why) });
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            out.push_str(&extjson::from_document(index).map_err(damaged)?);
        }
        out.push(']');
        if let (Some(uuid), CollectionKind::Collection) = (self.uuid, self.kind) {
            out.push_str(",\"uuid\":");
            extjson::string(&mut out, &hex(uuid));
        }
        out.push_str(",\"collectionName\":");
        extjson::string(&mut out, &self.ns.collection);
        out.push_str(",\"type\":");
        extjson::string(
            &mut out,
            match self.kind {
                CollectionKind::Collection => "collection",
                CollectionKind::Timeseries => "timeseries",
                CollectionKind::View => "view",
            },
        );
        out.push_str(bytes);
        out.push('}');
        Ok(Written { json: out.into_bytes(), lacks })
    }

    /// The options that Extended JSON can say. A view with half of its definition would show what it should not: it has all
    /// of them or none.
    fn sayable_options(&self, lacks: &mut Vec<LeftOut>) -> std::result::Result<Vec<u8>, Malformed> {
        let shown = escape(&self.ns.to_string());
        let Some(whole) = extjson::unfaithful(self.options) else { return Ok(self.options.to_vec()) };
        if self.kind == CollectionKind::View {
            lacks.push(LeftOut { what: format!("view {shown}"), why: not_said(&whole) });
            return Ok(Writer::default().finish());
        }
        let mut kept = Writer::default();
        for element in elements(self.options)? {
            let element = element?;
            let mut alone = Writer::default();
            alone.element(&element);
            match extjson::unfaithful(&alone.finish()) {
                None => {
                    kept.element(&element);
                }
                Some(why) => {
                    let key = escape(&String::from_utf8_lossy(element.key));
                    lacks.push(LeftOut { what: format!("{key} of {shown}"), why: not_said(&why) });
                }
            }
        }
        Ok(kept.finish())
    }
}

fn not_said(why: &str) -> String {
    format!("Extended JSON, which other tools read, cannot say it: {why}")
}

/// Options and indexes of a collection, as they were recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub options: Raw,
    pub indexes: Vec<Raw>,
}

impl Definition {
    /// Reads a `.metadata.json`: the bytes, or the Extended JSON of a backup that was made before there were any.
    pub fn parse(file: &[u8]) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct File {
            mongokeep: Option<Bytes>,
        }
        let found: File = serde_json::from_slice(file).map_err(|e| e.to_string())?;
        let mut definition = match found.mongokeep {
            Some(bytes) => Self::from_base64(&bytes)?,
            None => Self::from_json(file)?,
        };
        for index in &mut definition.indexes {
            index.remove("ns");
        }
        Ok(definition)
    }

    fn from_base64(bytes: &Bytes) -> std::result::Result<Self, String> {
        let raw = |text: &String| {
            let bytes = STANDARD.decode(text).map_err(|e| e.to_string())?;
            Raw::from_bytes(bytes).map_err(|e| e.to_string())
        };
        Ok(Self { options: raw(&bytes.options)?, indexes: bytes.indexes.iter().map(raw).collect::<Result<_, _>>()? })
    }

    fn from_json(file: &[u8]) -> std::result::Result<Self, String> {
        use mongodb::bson::Bson;
        let json: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(file).map_err(|e| e.to_string())?;
        let mut document = Document::try_from(json).map_err(|e| e.to_string())?;
        let options = match document.remove("options") {
            Some(Bson::Document(options)) => options,
            None | Some(Bson::Null) => Document::new(),
            Some(_) => return Err("its options are no document".into()),
        };
        let indexes = match document.remove("indexes") {
            Some(Bson::Array(indexes)) => indexes,
            None | Some(Bson::Null) => Vec::new(),
            Some(_) => return Err("its indexes are no list".into()),
        };
        let specs = indexes.into_iter().map(|spec| match spec {
            Bson::Document(spec) => Ok(spec.into()),
            _ => Err("an index is no document".to_owned()),
        });
        Ok(Self { options: options.into(), indexes: specs.collect::<Result<_, _>>()? })
    }
}

/// 32 hex digits.
pub fn hex(uuid: Uuid) -> String {
    uuid.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;
    use proptest::prelude::*;

    fn described<'a>(ns: &'a Namespace, kind: CollectionKind, options: &'a [u8], index: &'a [u8]) -> Description<'a> {
        Description { ns, kind, uuid: Some([0xab; 16]), options, indexes: vec![index] }
    }

    #[test]
    fn it_is_what_mongodump_writes() {
        let ns = Namespace::new("shop", "o\"rders");
        let options = doc! {"capped": true, "size": 4096_i64}.to_vec().unwrap();
        let index = doc! {"v": 2_i32, "key": {"a": 1.0}, "name": "a_1"}.to_vec().unwrap();
        let file = described(&ns, CollectionKind::Collection, &options, &index);
        let json = String::from_utf8(file.plain().unwrap().json).unwrap();
        let expected = concat!(
            r#"{"options":{"capped":true,"size":{"$numberLong":"4096"}},"#,
            r#""indexes":[{"v":{"$numberInt":"2"},"key":{"a":{"$numberDouble":"1.0"}},"name":"a_1"}],"#,
            r#""uuid":"abababababababababababababababab","collectionName":"o\"rders","type":"collection"}"#
        );
        assert_eq!(json, expected);
        let with_bytes = String::from_utf8(file.with_bytes().unwrap().json).unwrap();
        assert!(with_bytes.starts_with(expected.strip_suffix('}').unwrap()), "{with_bytes}");
        let empty = doc! {}.to_vec().unwrap();
        let view = Description { kind: CollectionKind::View, uuid: None, indexes: vec![], options: &empty, ns: &ns };
        let json = String::from_utf8(view.plain().unwrap().json).unwrap();
        assert_eq!(json, r#"{"options":{},"indexes":[],"collectionName":"o\"rders","type":"view"}"#);
    }

    #[test]
    fn a_file_without_bytes_is_read_as_json() {
        let text = r#"{"options":{"capped":true,"size":{"$numberLong":"4096"}},
            "indexes":[{"v":{"$numberInt":"2"},"key":{"a":{"$numberDouble":"1.0"}},"name":"a_1","ns":"x.y"}],
            "uuid":"00112233445566778899aabbccddeeff","collectionName":"y","type":"collection"}"#;
        let definition = Definition::parse(text.as_bytes()).unwrap();
        assert_eq!(definition.options, doc! {"capped": true, "size": 4096i64});
        assert_eq!(definition.indexes, [doc! {"v": 2, "key": {"a": 1.0}, "name": "a_1"}]);
        for broken in ["{\"indexes\": 3}", "{", r#"{"mongokeep":{"options":"AA==","indexes":[]}}"#] {
            assert!(Definition::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_json_cannot_say_is_left_out_of_it_and_named() {
        let ns = Namespace::new("shop", "c");
        let options = doc! {"capped": true, "validator": {"d": {"$date": "yesterday"}}}.to_vec().unwrap();
        let index =
            doc! {"name": "n", "partialFilterExpression": {"a": {"$gt": {"$numberInt": "5"}}}}.to_vec().unwrap();
        let file = described(&ns, CollectionKind::Collection, &options, &index).with_bytes().unwrap();
        let lacks: Vec<&str> = file.lacks.iter().map(|l| l.what.as_str()).collect();
        assert_eq!(lacks, ["validator of shop.c", "index n of shop.c"]);
        let json: serde_json::Value = serde_json::from_slice(&file.json).unwrap();
        assert_eq!(
            (&json["options"], &json["indexes"]),
            (&serde_json::json!({"capped": true}), &serde_json::json!([]))
        );
        let definition = Definition::parse(&file.json).unwrap();
        assert_eq!((definition.options.as_bytes(), definition.indexes[0].as_bytes()), (&*options, &*index));
        let view = described(&ns, CollectionKind::View, &options, &index).with_bytes().unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&view.json).unwrap()["options"], serde_json::json!({}));
    }

    /// Any value of any type, with names and texts that are any bytes.
    fn value() -> impl Strategy<Value = (u8, Vec<u8>)> {
        use crate::artifact::bson::tag;
        let text = prop_oneof![
            3 => "[a-z$.é]{0,6}".prop_map(String::into_bytes),
            1 => prop::collection::vec(1u8..=255, 0..6)
        ];
        let string = text.prop_map(|t| {
            let mut bytes = (t.len() as u32 + 1).to_le_bytes().to_vec();
            bytes.extend(t);
            bytes.push(0);
            bytes
        });
        let leaf = prop_oneof![
            string.clone().prop_map(|s| (tag::STRING, s)),
            string.clone().prop_map(|s| (tag::CODE, s)),
            string.clone().prop_map(|s| (tag::SYMBOL, s)),
            (string, any::<[u8; 12]>()).prop_map(|(mut s, id)| {
                s.extend(id);
                (tag::DB_POINTER, s)
            }),
            any::<[u8; 8]>().prop_map(|b| (tag::DOUBLE, b.to_vec())),
            any::<f64>().prop_map(|n| (tag::DOUBLE, n.to_le_bytes().to_vec())),
            any::<i32>().prop_map(|n| (tag::INT32, n.to_le_bytes().to_vec())),
            any::<i64>().prop_map(|n| (tag::INT64, n.to_le_bytes().to_vec())),
            any::<i64>().prop_map(|n| (tag::DATE, n.to_le_bytes().to_vec())),
            any::<[u8; 8]>().prop_map(|b| (tag::TIMESTAMP, b.to_vec())),
            any::<[u8; 16]>().prop_map(|b| (tag::DECIMAL, b.to_vec())),
            any::<[u8; 12]>().prop_map(|b| (tag::OBJECT_ID, b.to_vec())),
            any::<bool>().prop_map(|b| (tag::BOOLEAN, vec![u8::from(b)])),
            (prop_oneof![Just(0u8), 3u8..=9, 128u8..=255], prop::collection::vec(any::<u8>(), 0..20)).prop_map(
                |(subtype, data)| {
                    let mut bytes = (data.len() as u32).to_le_bytes().to_vec();
                    bytes.push(subtype);
                    bytes.extend(data);
                    (tag::BINARY, bytes)
                }
            ),
            prop::collection::vec(1u8..=255, 0..4).prop_map(|p| (tag::REGEX, [p, vec![0, b'i', 0]].concat())),
            prop_oneof![Just(0x06), Just(0x0a), Just(0xff), Just(0x7f)].prop_map(|tag| (tag, vec![])),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            (any::<bool>(), fields(inner))
                .prop_map(|(list, document)| (if list { tag::ARRAY } else { tag::DOCUMENT }, document))
        })
    }

    fn fields(value: impl Strategy<Value = (u8, Vec<u8>)>) -> impl Strategy<Value = Vec<u8>> {
        let name = prop_oneof![
            4 => "[a-c]{0,2}".prop_map(String::into_bytes),
            1 => prop::sample::select(vec!["$oid", "$date", "$numberLong", "$regex", "$uuid"]).prop_map(|s| s.into()),
            1 => prop::collection::vec(1u8..=255, 0..4),
        ];
        prop::collection::vec((name, value), 0..4).prop_map(|all| {
            let mut w = Writer::default();
            for (name, (tag, value)) in &all {
                w.raw(*tag, name, value);
            }
            w.finish()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever is in a definition, it comes back to the byte; and the file is JSON in which nothing is another thing.
        #[test]
        fn any_definition_survives(options in fields(value()), index in fields(value())) {
            let ns = Namespace::new("d", "c");
            let file = described(&ns, CollectionKind::Collection, &options, &index).with_bytes().unwrap();
            let definition = Definition::parse(&file.json).unwrap();
            prop_assert_eq!(definition.options.as_bytes(), &*options);
            let mut without_ns = Raw::from_bytes(index).unwrap();
            without_ns.remove("ns");
            prop_assert_eq!(&definition.indexes, &[without_ns]);
            // Other tools read the whole file.
            Definition::from_json(&file.json).unwrap();
        }
    }
}
