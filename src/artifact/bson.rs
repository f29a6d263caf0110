//! BSON as bytes: walking the elements of a document, checking its structure, and writing small documents around
//! values that are copied as they are.
//!
//! Documents are never decoded into values and encoded again: duplicate and empty field names, invalid UTF-8,
//! deprecated types and NaN payloads must come back exactly as they went in.

use std::fmt;

use mongodb::bson::{Document, RawDocument};

/// The largest document read from a part or an oplog. The server's own limit is 16 MiB for a document and a little
/// more for an oplog entry around one; anything larger than this is damage, not data.
pub const MAX_DOCUMENT: usize = 48 << 20;

/// The server refuses more than 200 levels; a reader must not recurse deeper than that for damaged bytes either.
const MAX_DEPTH: usize = 220;

pub mod tag {
    pub const DOUBLE: u8 = 0x01;
    pub const STRING: u8 = 0x02;
    pub const DOCUMENT: u8 = 0x03;
    pub const ARRAY: u8 = 0x04;
    pub const BINARY: u8 = 0x05;
    pub const OBJECT_ID: u8 = 0x07;
    pub const BOOLEAN: u8 = 0x08;
    pub const DATE: u8 = 0x09;
    pub const REGEX: u8 = 0x0b;
    pub const DB_POINTER: u8 = 0x0c;
    pub const CODE: u8 = 0x0d;
    pub const SYMBOL: u8 = 0x0e;
    pub const CODE_WITH_SCOPE: u8 = 0x0f;
    pub const INT32: u8 = 0x10;
    pub const TIMESTAMP: u8 = 0x11;
    pub const INT64: u8 = 0x12;
    pub const DECIMAL: u8 = 0x13;
}

/// What is wrong with some bytes that should be a document, and how far in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    pub why: &'static str,
    pub offset: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not BSON: {} at byte {}", self.why, self.offset)
    }
}

impl std::error::Error for Malformed {}

/// One field of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    /// Without the closing zero; any bytes, not always UTF-8.
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Element<'a> {
    /// The text of a string (or symbol, or code) value.
    pub fn str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.text()?).ok()
    }

    /// The bytes of a string: a server takes others than UTF-8 too.
    pub fn text(&self) -> Option<&'a [u8]> {
        match self.tag {
            tag::STRING => self.value.get(4..self.value.len().checked_sub(1)?),
            _ => None,
        }
    }

    /// The same with replacement characters for what is not UTF-8: to be shown, not to be used as a name.
    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(self.text().unwrap_or_default()).into_owned()
    }

    /// The bytes of an embedded document.
    pub fn document(&self) -> Option<&'a [u8]> {
        (self.tag == tag::DOCUMENT).then_some(self.value)
    }

    pub fn array(&self) -> Option<&'a [u8]> {
        (self.tag == tag::ARRAY).then_some(self.value)
    }

    /// A whole number of any numeric type; a fraction is cut off.
    pub fn i64(&self) -> Option<i64> {
        match self.tag {
            tag::INT32 => Some(i64::from(i32::from_le_bytes(self.value.try_into().ok()?))),
            tag::INT64 => Some(i64::from_le_bytes(self.value.try_into().ok()?)),
            tag::DOUBLE => Some(f64::from_le_bytes(self.value.try_into().ok()?) as i64),
            _ => None,
        }
    }

    /// A number of any numeric type but decimal.
    pub fn number(&self) -> Option<f64> {
        match self.tag {
            tag::DOUBLE => Some(f64::from_le_bytes(self.value.try_into().ok()?)),
            _ => self.i64().map(|n| n as f64),
        }
    }

    /// Booleans and numbers, as the server reads a flag.
    pub fn truthy(&self) -> bool {
        match self.tag {
            tag::BOOLEAN => self.value == [1],
            _ => self.i64().is_some_and(|n| n != 0),
        }
    }

    pub fn timestamp(&self) -> Option<crate::domain::timestamp::Timestamp> {
        if self.tag != tag::TIMESTAMP {
            return None;
        }
        let (i, t) = self.value.split_at_checked(4)?;
        Some(crate::domain::timestamp::Timestamp::new(
            u32::from_le_bytes(t.try_into().ok()?),
            u32::from_le_bytes(i.try_into().ok()?),
        ))
    }

    /// The 16 bytes of a UUID (binary subtype 4).
    pub fn uuid(&self) -> Option<[u8; 16]> {
        if self.tag != tag::BINARY || self.value.get(4) != Some(&4) {
            return None;
        }
        self.value.get(5..)?.try_into().ok()
    }
}

/// The fields of a document, in order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    doc: &'a [u8],
    at: usize,
}

/// Walks the fields of `doc`, which must be exactly one document. Embedded documents are measured, not walked.
pub fn elements(doc: &[u8]) -> Result<Elements<'_>, Malformed> {
    if doc.len() < 5 || frame_length(doc)? != doc.len() {
        return Err(Malformed { why: "its length is not that of its bytes", offset: 0 });
    }
    if doc[doc.len() - 1] != 0 {
        return Err(Malformed { why: "no closing zero", offset: doc.len() - 1 });
    }
    Ok(Elements { doc, at: 4 })
}

/// The length a document states in its first four bytes.
pub fn frame_length(bytes: &[u8]) -> Result<usize, Malformed> {
    let head = bytes.first_chunk::<4>().ok_or(Malformed { why: "ends within a length", offset: 0 })?;
    let length = i32::from_le_bytes(*head);
    match usize::try_from(length) {
        Ok(n) if (5..=MAX_DOCUMENT).contains(&n) => Ok(n),
        _ => Err(Malformed { why: "impossible length", offset: 0 }),
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let last = self.doc.len() - 1;
        if self.at >= last {
            return None;
        }
        let start = self.at;
        // A second call after an error finds the end.
        self.at = last;
        let fail = |why| Some(Err(Malformed { why, offset: start }));
        let tag = self.doc[start];
        let body = &self.doc[..last];
        let Some(zero) = body[start + 1..].iter().position(|b| *b == 0) else {
            return fail("a field name without an end");
        };
        let value_at = start + 1 + zero + 1;
        let rest = &body[value_at..];
        let Some(length) = value_length(tag, rest) else {
            return fail("a value that cannot be");
        };
        if length > rest.len() {
            return fail("a value longer than its document");
        }
        self.at = value_at + length;
        Some(Ok(Element { tag, key: &self.doc[start + 1..value_at - 1], value: &rest[..length] }))
    }
}

/// How long the value of type `tag` at the start of `rest` is; `None` when it cannot be one.
fn value_length(tag: u8, rest: &[u8]) -> Option<usize> {
    let stated = || Some(i32::from_le_bytes(*rest.first_chunk::<4>()?)).and_then(|n| usize::try_from(n).ok());
    let text = |rest: &[u8]| {
        let n = usize::try_from(i32::from_le_bytes(*rest.first_chunk::<4>()?)).ok()?;
        (n >= 1 && *rest.get(4..)?.get(n - 1)? == 0).then_some(4 + n)
    };
    match tag {
        tag::DOUBLE | tag::DATE | tag::TIMESTAMP | tag::INT64 => Some(8),
        tag::STRING | tag::CODE | tag::SYMBOL => text(rest),
        tag::DOCUMENT | tag::ARRAY => stated().filter(|n| *n >= 5),
        tag::BINARY => stated().map(|n| n + 5),
        // Undefined, null, MinKey, MaxKey.
        0x06 | 0x0a | 0xff | 0x7f => Some(0),
        tag::OBJECT_ID => Some(12),
        tag::BOOLEAN => rest.first().filter(|b| **b <= 1).map(|_| 1),
        tag::REGEX => {
            let pattern = rest.iter().position(|b| *b == 0)? + 1;
            Some(pattern + rest[pattern..].iter().position(|b| *b == 0)? + 1)
        }
        tag::DB_POINTER => text(rest).map(|n| n + 12),
        tag::CODE_WITH_SCOPE => stated().filter(|n| *n >= 14),
        tag::INT32 => Some(4),
        tag::DECIMAL => Some(16),
        _ => None,
    }
}

/// Checks the structure of `doc` and of everything in it. Text is not required to be UTF-8: servers store what they
/// are given.
pub fn check(doc: &[u8]) -> Result<(), Malformed> {
    check_at(doc, 0, 0)
}

fn check_at(doc: &[u8], base: usize, depth: usize) -> Result<(), Malformed> {
    let shift = |e: Malformed| Malformed { offset: e.offset + base, ..e };
    if depth > MAX_DEPTH {
        return Err(Malformed { why: "nested too deeply", offset: base });
    }
    for element in elements(doc).map_err(shift)? {
        let element = element.map_err(shift)?;
        // Where the value lies within the whole: both slices are of one allocation.
        let at = base + (element.value.as_ptr() as usize - doc.as_ptr() as usize);
        match element.tag {
            tag::DOCUMENT | tag::ARRAY => check_at(element.value, at, depth + 1)?,
            tag::CODE_WITH_SCOPE => {
                let inner = &element.value[4..];
                let code = value_length(tag::CODE, inner)
                    .filter(|n| *n <= inner.len())
                    .ok_or(Malformed { why: "code that cannot be", offset: at })?;
                check_at(&inner[code..], at + 4 + code, depth + 1)?;
            }
            // The old binary subtype repeats its length inside.
            tag::BINARY if element.value[4] == 2 => {
                let inner = element.value.len() - 5;
                let stated = element.value[5..].first_chunk::<4>().map(|b| i32::from_le_bytes(*b));
                if inner < 4 || stated.and_then(|n| usize::try_from(n).ok()) != Some(inner - 4) {
                    return Err(Malformed { why: "binary data of another length", offset: at });
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Decodes a document that anybody may have made: the decoder itself would follow any depth, to the end of the stack.
pub fn decode(doc: &[u8]) -> Result<Document, Undecodable> {
    check(doc).map_err(Undecodable::Malformed)?;
    RawDocument::from_bytes(doc).and_then(Document::try_from).map_err(|e| Undecodable::Value(Box::new(e)))
}

/// Why a document cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    #[error("{0}")]
    Malformed(Malformed),
    #[error("{0}")]
    Value(Box<mongodb::bson::error::Error>),
}

/// The first field called `key`, as the server reads one. Damage before it ends the search with `None`.
pub fn get<'a>(doc: &'a [u8], key: &str) -> Option<Element<'a>> {
    elements(doc).ok()?.map_while(Result::ok).find(|e| e.key == key.as_bytes())
}

/// Writes one document, field by field, into a buffer.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    open: Vec<usize>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::with_capacity(128)
    }
}

impl Writer {
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&[0; 4]);
        Self { bytes, open: vec![0] }
    }

    fn key(&mut self, tag: u8, key: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(key);
        self.bytes.push(0);
    }

    /// A field whose value is copied as it is. `key` must not hold a zero byte.
    pub fn raw(&mut self, tag: u8, key: &[u8], value: &[u8]) -> &mut Self {
        self.key(tag, key);
        self.bytes.extend_from_slice(value);
        self
    }

    pub fn element(&mut self, element: &Element<'_>) -> &mut Self {
        self.raw(element.tag, element.key, element.value)
    }

    pub fn str(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(tag::STRING, key.as_bytes());
        self.bytes.extend_from_slice(&(value.len() as i32 + 1).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self
    }

    pub fn i32(&mut self, key: &str, value: i32) -> &mut Self {
        self.raw(tag::INT32, key.as_bytes(), &value.to_le_bytes())
    }

    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.raw(tag::BOOLEAN, key.as_bytes(), &[u8::from(value)])
    }

    pub fn document(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.raw(tag::DOCUMENT, key.as_bytes(), value)
    }

    /// Begins an embedded document (or array, with `tag`), closed by [`Writer::close`].
    pub fn open(&mut self, tag: u8, key: &str) -> &mut Self {
        self.key(tag, key.as_bytes());
        self.open.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self
    }

    /// Ends the innermost open document; the outermost is ended by [`Writer::finish`].
    pub fn close(&mut self) -> &mut Self {
        if let Some(start) = self.open.pop() {
            self.bytes.push(0);
            let length = (self.bytes.len() - start) as i32;
            self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        }
        self
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= 4
    }

    /// Ends everything that is open and gives the document.
    pub fn finish(mut self) -> Vec<u8> {
        while !self.open.is_empty() {
            self.close();
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every type, with what servers accept and libraries do not: duplicate, empty and non-UTF-8 names.
    fn sample() -> Vec<u8> {
        let mut w = Writer::default();
        w.i32("_id", 1).str("a", "x").str("a", "y").raw(tag::INT64, b"", &7i64.to_le_bytes());
        w.raw(tag::STRING, b"\xff", b"\x02\0\0\0\xfe\0").bool("b", true).raw(0x06, b"u", b"").raw(0x7f, b"max", b"");
        w.raw(tag::BINARY, b"old", b"\x05\0\0\0\x02\x01\0\0\0z").raw(tag::REGEX, b"re", b"a\0i\0");
        w.raw(tag::CODE_WITH_SCOPE, b"cs", b"\x10\0\0\0\x03\0\0\0f(\0\x05\0\0\0\0");
        w.raw(tag::DB_POINTER, b"p", b"\x02\0\0\0q\x00123456789012").raw(
            tag::TIMESTAMP,
            b"t",
            &[2, 0, 0, 0, 1, 0, 0, 0],
        );
        w.open(tag::DOCUMENT, "d").open(tag::ARRAY, "arr").i32("0", 5).close().close();
        w.finish()
    }

    #[test]
    fn walks_every_type() {
        let doc = sample();
        check(&doc).unwrap();
        let all: Vec<_> = elements(&doc).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), 14);
        assert_eq!(get(&doc, "a").unwrap().str(), Some("x"), "the first of two fields of one name");
        assert_eq!(get(&doc, "").unwrap().i64(), Some(7));
        assert_eq!(get(&doc, "t").unwrap().timestamp(), Some(crate::domain::timestamp::Timestamp::new(1, 2)));
        let mut again = Writer::default();
        for element in &all {
            again.element(element);
        }
        assert_eq!(again.finish(), doc);
    }

    /// Deep enough for the decoder to leave the stack.
    #[test]
    fn what_is_too_deep_is_not_decoded() {
        let mut doc = Writer::default().finish();
        for _ in 0..20_000 {
            let mut above = Vec::with_capacity(doc.len() + 8);
            above.extend(((doc.len() + 8) as i32).to_le_bytes());
            above.extend([tag::DOCUMENT, b'a', 0]);
            above.extend(&doc);
            above.push(0);
            doc = above;
        }
        assert!(matches!(decode(&doc), Err(Undecodable::Malformed(_))));
        assert_eq!(
            decode(&mongodb::bson::doc! {"a": {"b": 1}}.to_vec().unwrap()).unwrap(),
            mongodb::bson::doc! {"a": {"b": 1}}
        );
    }

    #[test]
    fn depth_is_bounded() {
        let mut w = Writer::default();
        for _ in 0..MAX_DEPTH + 1 {
            w.open(tag::DOCUMENT, "a");
        }
        assert_eq!(check(&w.finish()).unwrap_err().why, "nested too deeply");
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..4096, value: u8, cut in 0usize..4096) {
            let mut doc = sample();
            let at = at % doc.len();
            doc[at] = value;
            let _ = check(&doc);
            doc.truncate(cut % (doc.len() + 1));
            let _ = check(&doc);
            let _ = get(&doc, "nothing");
        }

        #[test]
        fn a_changed_length_is_found(delta in 1i32..1000) {
            let mut doc = sample();
            let length = doc.len() as i32 + delta;
            doc[..4].copy_from_slice(&length.to_le_bytes());
            prop_assert!(check(&doc).is_err());
        }
    }
}
