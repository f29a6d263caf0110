//! Canonical Extended JSON straight from BSON bytes, for metadata that stock tools read
//! (<https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/>, format v2).
//!
//! Index specifications and collection options go through here as they came from the server: the kind of every
//! number, the order of fields and even a field that stands twice survive. A library that decodes into a map first
//! would lose the last.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::bson::{self, Element, Malformed, tag};

/// The names by which Extended JSON marks a value's type: a field of that name is taken for one.
const MARKS: [&str; 17] = [
    "$numberInt",
    "$numberLong",
    "$numberDouble",
    "$numberDecimal",
    "$oid",
    "$symbol",
    "$binary",
    "$uuid",
    "$code",
    "$scope",
    "$timestamp",
    "$regularExpression",
    "$dbPointer",
    "$date",
    "$minKey",
    "$maxKey",
    "$undefined",
];

/// Why whoever reads `document` as Extended JSON does not get it back as it is; `None`: they do.
///
/// A field that stands twice is kept by `mongorestore`, and by whoever else does not decode into a map.
pub fn unfaithful(document: &[u8]) -> Option<String> {
    let mut twice = false;
    if let Some(why) = unsayable(document, false, &mut twice) {
        return Some(why);
    }
    let again = from_document(document).ok().and_then(|json| {
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json).ok()?;
        mongodb::bson::Document::try_from(map).ok()?.to_vec().ok()
    });
    // The reader that is tried here decodes into a map.
    match again {
        Some(again) if twice || normal(&again, false) == normal(document, false) => None,
        Some(_) => Some("it reads otherwise than it was written".into()),
        None => Some("it cannot be read again".into()),
    }
}

fn unsayable(document: &[u8], is_array: bool, twice: &mut bool) -> Option<String> {
    let mut names = std::collections::HashSet::new();
    for element in bson::elements(document).into_iter().flatten().map_while(Result::ok) {
        let Ok(key) = std::str::from_utf8(element.key) else { return Some("the name of a field is not UTF-8".into()) };
        if !is_array && MARKS.contains(&key) {
            return Some(format!("a field is called {key}, like a type of Extended JSON"));
        }
        *twice |= !is_array && !names.insert(key);
        let bytes = element.value;
        let text = match element.tag {
            tag::DOCUMENT | tag::ARRAY => {
                if let Some(why) = unsayable(bytes, element.tag == tag::ARRAY, twice) {
                    return Some(why);
                }
                continue;
            }
            tag::CODE_WITH_SCOPE => {
                let code_length = bytes.get(4..).and_then(|b| first(b).ok()).map_or(0, u32::from_le_bytes) as usize;
                let (code, scope) = bytes.split_at_checked(8 + code_length)?;
                if let Some(why) = unsayable(scope, false, twice) {
                    return Some(why);
                }
                code.get(8..)?
            }
            tag::STRING | tag::CODE | tag::SYMBOL => bytes.get(4..)?,
            tag::DB_POINTER => bytes.get(4..bytes.len().checked_sub(12)?)?,
            tag::REGEX => bytes,
            _ => continue,
        };
        if std::str::from_utf8(text).is_err() {
            return Some("a text is not UTF-8".into());
        }
    }
    None
}

/// What is equal to a server: items of lists by their place, and one kind of "not a number".
fn normal(document: &[u8], is_array: bool) -> Vec<u8> {
    let mut out = bson::Writer::with_capacity(document.len());
    for (n, e) in bson::elements(document).into_iter().flatten().map_while(Result::ok).enumerate() {
        let place = n.to_string();
        let key = if is_array { place.as_bytes() } else { e.key };
        match e.tag {
            tag::DOCUMENT | tag::ARRAY => out.raw(e.tag, key, &normal(e.value, e.tag == tag::ARRAY)),
            tag::DOUBLE if e.number().is_some_and(f64::is_nan) => out.raw(e.tag, key, &f64::NAN.to_le_bytes()),
            _ => out.raw(e.tag, key, e.value),
        };
    }
    out.finish()
}

/// `document` as one JSON object.
///
/// Text that is not UTF-8 is written with replacement characters: JSON cannot hold it.
pub fn from_document(document: &[u8]) -> Result<String, Malformed> {
    let mut out = String::with_capacity(document.len() * 2);
    object(&mut out, document)?;
    Ok(out)
}

/// Appends `text` as a JSON string.
pub fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn object(out: &mut String, document: &[u8]) -> Result<(), Malformed> {
    out.push('{');
    for (i, element) in bson::elements(document)?.enumerate() {
        let element = element?;
        if i > 0 {
            out.push(',');
        }
        string(out, &String::from_utf8_lossy(element.key));
        out.push(':');
        value(out, &element)?;
    }
    out.push('}');
    Ok(())
}

fn array(out: &mut String, items: &[u8]) -> Result<(), Malformed> {
    out.push('[');
    for (i, element) in bson::elements(items)?.enumerate() {
        if i > 0 {
            out.push(',');
        }
        value(out, &element?)?;
    }
    out.push(']');
    Ok(())
}

fn value(out: &mut String, element: &Element<'_>) -> Result<(), Malformed> {
    let bytes = element.value;
    match element.tag {
        tag::DOUBLE => {
            let number = f64::from_le_bytes(first(bytes)?);
            let _ = match number {
                n if n.is_nan() => write!(out, r#"{{"$numberDouble":"NaN"}}"#),
                n if n == f64::INFINITY => write!(out, r#"{{"$numberDouble":"Infinity"}}"#),
                n if n == f64::NEG_INFINITY => write!(out, r#"{{"$numberDouble":"-Infinity"}}"#),
                n if n == n.trunc() && n.abs() < 1e15 => write!(out, r#"{{"$numberDouble":"{n:.1}"}}"#),
                n => write!(out, r#"{{"$numberDouble":"{n:?}"}}"#),
            };
        }
        tag::STRING => string(out, &text(bytes)),
        tag::DOCUMENT => object(out, bytes)?,
        tag::ARRAY => array(out, bytes)?,
        tag::BINARY => {
            let subtype = *bytes.get(4).ok_or(SHORT)?;
            // The old subtype repeats its length inside; Extended JSON shows the data alone.
            let data = bytes.get(if subtype == 2 { 9 } else { 5 }..).ok_or(SHORT)?;
            let data = STANDARD.encode(data);
            let _ = write!(out, r#"{{"$binary":{{"base64":"{data}","subType":"{subtype:02x}"}}}}"#);
        }
        0x06 => out.push_str(r#"{"$undefined":true}"#),
        tag::OBJECT_ID => {
            let _ = write!(out, r#"{{"$oid":"{}"}}"#, hex(bytes));
        }
        tag::BOOLEAN => out.push_str(if bytes == [1] { "true" } else { "false" }),
        tag::DATE => {
            let _ = write!(out, r#"{{"$date":{{"$numberLong":"{}"}}}}"#, i64::from_le_bytes(first(bytes)?));
        }
        0x0a => out.push_str("null"),
        tag::REGEX => {
            let mut parts = bytes.split(|b| *b == 0).map(String::from_utf8_lossy);
            out.push_str(r#"{"$regularExpression":{"pattern":"#);
            string(out, &parts.next().unwrap_or_default());
            out.push_str(r#","options":"#);
            string(out, &parts.next().unwrap_or_default());
            out.push_str("}}");
        }
        tag::DB_POINTER => {
            let at = bytes.len().checked_sub(12).ok_or(SHORT)?;
            out.push_str(r#"{"$dbPointer":{"$ref":"#);
            string(out, &text(&bytes[..at]));
            let _ = write!(out, r#","$id":{{"$oid":"{}"}}}}}}"#, hex(&bytes[at..]));
        }
        tag::CODE => {
            out.push_str(r#"{"$code":"#);
            string(out, &text(bytes));
            out.push('}');
        }
        tag::SYMBOL => {
            out.push_str(r#"{"$symbol":"#);
            string(out, &text(bytes));
            out.push('}');
        }
        tag::CODE_WITH_SCOPE => {
            let code_length = u32::from_le_bytes(first(bytes.get(4..).ok_or(SHORT)?)?) as usize;
            let scope = bytes.get(8 + code_length..).ok_or(SHORT)?;
            out.push_str(r#"{"$code":"#);
            string(out, &text(&bytes[4..8 + code_length]));
            out.push_str(r#","$scope":"#);
            object(out, scope)?;
            out.push('}');
        }
        tag::INT32 => {
            let _ = write!(out, r#"{{"$numberInt":"{}"}}"#, i32::from_le_bytes(first(bytes)?));
        }
        tag::TIMESTAMP => {
            let (i, t) = (u32::from_le_bytes(first(bytes)?), u32::from_le_bytes(first(bytes.get(4..).ok_or(SHORT)?)?));
            let _ = write!(out, r#"{{"$timestamp":{{"t":{t},"i":{i}}}}}"#);
        }
        tag::INT64 => {
            let _ = write!(out, r#"{{"$numberLong":"{}"}}"#, i64::from_le_bytes(first(bytes)?));
        }
        tag::DECIMAL => {
            let decimal = mongodb::bson::Decimal128::from_bytes(first(bytes)?);
            let _ = write!(out, r#"{{"$numberDecimal":"{decimal}"}}"#);
        }
        0xff => out.push_str(r#"{"$minKey":1}"#),
        0x7f => out.push_str(r#"{"$maxKey":1}"#),
        _ => return Err(Malformed { why: "a type that cannot be", offset: 0 }),
    }
    Ok(())
}

const SHORT: Malformed = Malformed { why: "a value shorter than its type", offset: 0 };

fn first<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.first_chunk::<N>().copied().ok_or(SHORT)
}

/// The text behind a length, without the closing zero.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let body = bytes.get(4..).unwrap_or_default();
    String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(body))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{
        Bson, Decimal128, JavaScriptCodeWithScope, Regex, Timestamp, doc, oid::ObjectId, spec::BinarySubtype,
    };

    #[test]
    fn every_type_is_written_as_the_specification_says() {
        let original = doc! {
            "d": 1.0, "big": 1e300, "frac": 0.1, "neg0": -0.0, "inf": f64::INFINITY, "nan": f64::NAN,
            "s": "a\"\\\n\u{1b}é", "o": {"x": 1_i32}, "a": [1_i64, "b"],
            "bin": mongodb::bson::Binary { subtype: BinarySubtype::Uuid, bytes: vec![0, 1, 255] },
            "old": mongodb::bson::Binary { subtype: BinarySubtype::BinaryOld, bytes: vec![1, 2, 3] },
            "u": Bson::Undefined, "oid": ObjectId::from_bytes([7; 12]), "b": true,
            "date": mongodb::bson::DateTime::from_millis(-1), "n": Bson::Null,
            "re": Regex { pattern: "a/b".try_into().unwrap(), options: "i".try_into().unwrap() },
            "code": Bson::JavaScriptCode("f()".into()), "sym": Bson::Symbol("s".into()),
            "cs": JavaScriptCodeWithScope { code: "g()".into(), scope: doc! {"x": 1_i32} },
            "ts": Timestamp { time: 5, increment: 6 }, "l": i64::MAX,
            "dec": "1.50E+3".parse::<Decimal128>().unwrap(), "min": Bson::MinKey, "max": Bson::MaxKey,
        };
        let expected = concat!(
            r#"{"d":{"$numberDouble":"1.0"},"big":{"$numberDouble":"1e300"},"frac":{"$numberDouble":"0.1"},"#,
            r#""neg0":{"$numberDouble":"-0.0"},"inf":{"$numberDouble":"Infinity"},"nan":{"$numberDouble":"NaN"},"#,
            r#""s":"a\"\\\n\u001bé","o":{"x":{"$numberInt":"1"}},"a":[{"$numberLong":"1"},"b"],"#,
            r#""bin":{"$binary":{"base64":"AAH/","subType":"04"}},"old":{"$binary":{"base64":"AQID","subType":"02"}},"#,
            r#""u":{"$undefined":true},"oid":{"$oid":"070707070707070707070707"},"b":true,"#,
            r#""date":{"$date":{"$numberLong":"-1"}},"n":null,"#,
            r#""re":{"$regularExpression":{"pattern":"a/b","options":"i"}},"code":{"$code":"f()"},"#,
            r#""sym":{"$symbol":"s"},"cs":{"$code":"g()","$scope":{"x":{"$numberInt":"1"}}},"#,
            r#""ts":{"$timestamp":{"t":5,"i":6}},"l":{"$numberLong":"9223372036854775807"},"#,
            r#""dec":{"$numberDecimal":"1.50E+3"},"min":{"$minKey":1},"max":{"$maxKey":1}}"#,
        );
        let json = from_document(&original.to_vec().unwrap()).unwrap();
        assert_eq!(json, expected);
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
    }

    #[test]
    fn what_json_cannot_say_is_known() {
        let mut words = bson::Writer::default();
        words.raw(tag::STRING, b"a", b"\x02\0\0\0\xfe\0");
        let mut twice = bson::Writer::default();
        twice.i32("a", 1).i32("a", 2);
        assert_eq!(unfaithful(&twice.finish()), None);
        assert!(unfaithful(&words.finish()).unwrap().contains("UTF-8"));
        for odd in [
            doc! {"pipeline": [{"$project": {"x": {"$literal": {"$numberLong": "5"}}}}]},
            doc! {"a": {"$gt": {"$numberInt": "5"}}},
            doc! {"d": {"$date": "yesterday"}},
            doc! {"$jsonSchema": {"properties": {"$oid": {"bsonType": "string"}}}},
            doc! {"u": {"$uuid": "00112233-4455-6677-8899-aabbccddeeff"}},
            doc! {"c": JavaScriptCodeWithScope { code: "g()".into(), scope: doc! {"$scope": 1_i32} }},
        ] {
            assert!(unfaithful(&odd.to_vec().unwrap()).is_some(), "{odd}");
        }
        for plain in [
            doc! {"a": {"$regex": "^x", "$options": "i"}, "b": {"$type": "string"}, "n": -f64::NAN},
            doc! {"$expr": {"$eq": ["$a", {"$literal": {"x": Decimal128::from_bytes([1; 16])}}]}, "-0": -0.0},
        ] {
            assert_eq!(unfaithful(&plain.to_vec().unwrap()), None, "{plain}");
        }
    }

    #[test]
    fn a_field_that_stands_twice_stays_twice() {
        let mut writer = bson::Writer::default();
        writer.i32("a", 1).i32("a", 2);
        assert_eq!(from_document(&writer.finish()).unwrap(), r#"{"a":{"$numberInt":"1"},"a":{"$numberInt":"2"}}"#);
    }
}
