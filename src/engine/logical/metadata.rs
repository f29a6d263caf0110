//! The metadata file of a collection, as `mongodump` writes it, so that `mongorestore` reads it.

use crate::artifact::bson::Malformed;
use crate::artifact::extjson;
use crate::domain::restore::CollectionKind;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};

use super::select::Source;

/// `indexes` as `listIndexes` gave them.
pub fn to_json(source: &Source, indexes: &[Vec<u8>]) -> Result<Vec<u8>> {
    let damaged = |e: Malformed| {
        let ns = escape(&source.ns.to_string());
        Error::new(ErrorKind::Failed, format!("the server's description of {ns} is damaged")).source(e)
    };
    let mut out = String::from("{\"options\":");
    out.push_str(&extjson::from_document(&source.options).map_err(damaged)?);
    // Readers of the stock tools expect a list, never null.
    out.push_str(",\"indexes\":[");
    for (i, index) in indexes.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&extjson::from_document(index).map_err(damaged)?);
    }
    out.push(']');
    // Stock tools write none for a time series either: the identity of its buckets is in our manifest.
    if let (Some(uuid), CollectionKind::Collection) = (source.uuid, source.kind) {
        out.push_str(",\"uuid\":");
        extjson::string(&mut out, &hex(uuid));
    }
    out.push_str(",\"collectionName\":");
    extjson::string(&mut out, &source.ns.collection);
    out.push_str(",\"type\":");
    extjson::string(
        &mut out,
        match source.kind {
            CollectionKind::Collection => "collection",
            CollectionKind::Timeseries => "timeseries",
            CollectionKind::View => "view",
        },
    );
    out.push('}');
    Ok(out.into_bytes())
}

/// 32 hex digits.
pub fn hex(uuid: [u8; 16]) -> String {
    uuid.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::namespace::Namespace;
    use mongodb::bson::doc;

    #[test]
    fn it_is_what_mongodump_writes() {
        let source = Source {
            ns: Namespace::new("shop", "o\"rders"),
            kind: CollectionKind::Collection,
            uuid: Some([0xab; 16]),
            options: doc! {"capped": true, "size": 4096_i64}.to_vec().unwrap(),
            capped: true,
            clustered: false,
        };
        let index = doc! {"v": 2_i32, "key": {"a": 1.0}, "name": "a_1"}.to_vec().unwrap();
        let json = String::from_utf8(to_json(&source, &[index]).unwrap()).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"options":{"capped":true,"size":{"$numberLong":"4096"}},"#,
                r#""indexes":[{"v":{"$numberInt":"2"},"key":{"a":{"$numberDouble":"1.0"}},"name":"a_1"}],"#,
                r#""uuid":"abababababababababababababababab","collectionName":"o\"rders","type":"collection"}"#
            )
        );
        let view = Source { kind: CollectionKind::View, uuid: None, options: vec![5, 0, 0, 0, 0], ..source };
        let json = String::from_utf8(to_json(&view, &[]).unwrap()).unwrap();
        assert_eq!(json, r#"{"options":{},"indexes":[],"collectionName":"o\"rders","type":"view"}"#);
    }
}
