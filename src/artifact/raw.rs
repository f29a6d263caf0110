//! A document that is kept as the bytes it came in.
//!
//! Options and index specifications are BSON of any kind: a field may stand twice, a text need not be UTF-8. A decoded
//! document would lose both, so that whoever changes a definition changes its bytes.

use mongodb::bson::{Bson, Document};

use super::bson::{self, Element, Malformed, Writer, tag};

/// One BSON document whose structure was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw(Vec<u8>);

const EMPTY: [u8; 5] = [5, 0, 0, 0, 0];

impl Default for Raw {
    fn default() -> Self {
        Self(EMPTY.to_vec())
    }
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::extjson::from_document(&self.0).map_err(|_| std::fmt::Error)?)
    }
}

impl Raw {
    /// Errors: what is wrong with `bytes`, which must be one document and nothing else.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Malformed> {
        bson::check(&bytes)?;
        Ok(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        bson::elements(&self.0).into_iter().flatten().map_while(Result::ok)
    }

    /// The names of the fields; one that is not UTF-8 is no name that anybody asks for.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().filter_map(|e| std::str::from_utf8(e.key).ok())
    }

    pub fn is_empty(&self) -> bool {
        self.0.len() <= EMPTY.len()
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// The first field called `key`, as the server reads one.
    pub fn get(&self, key: &str) -> Option<Element<'_>> {
        bson::get(&self.0, key)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.str()
    }

    /// The bytes of a text, such as the name of an index, which need not be UTF-8.
    pub fn get_text(&self, key: &str) -> Option<&[u8]> {
        self.get(key)?.text()
    }

    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key).filter(|e| e.tag == tag::BOOLEAN).map(|e| e.value == [1])
    }

    pub fn get_document(&self, key: &str) -> Option<Self> {
        self.get(key)?.document().map(|bytes| Self(bytes.to_vec()))
    }

    /// A value of a kind that decoding cannot change, such as a number.
    pub fn value(&self, key: &str) -> Option<Bson> {
        let mut writer = Writer::default();
        writer.element(&self.get(key)?);
        bson::decode(&writer.finish()).ok()?.remove(key)
    }

    /// Takes out every field called `key`.
    pub fn remove(&mut self, key: &str) {
        self.rewrite(key, None);
    }

    /// Puts the value of `element` in the place of the field called `key`, or at the end.
    pub fn set_element(&mut self, key: &str, element: &Element<'_>) {
        self.rewrite(key, Some((element.tag, element.value)));
    }

    pub fn set_document(&mut self, key: &str, value: &Self) {
        self.rewrite(key, Some((tag::DOCUMENT, &value.0)));
    }

    /// The same for a value of our own.
    pub fn insert(&mut self, key: &str, value: impl Into<Bson>) {
        let mut document = Document::new();
        document.insert(key, value);
        let made = Self::from(&document);
        if let Some(element) = made.get(key) {
            self.set_element(key, &element);
        }
    }

    /// Adds a field at the end, whatever its name.
    pub fn push(&mut self, element: &Element<'_>) {
        let mut writer = Writer::with_capacity(self.0.len() + element.value.len() + 32);
        for old in self.iter() {
            writer.element(&old);
        }
        writer.element(element);
        self.0 = writer.finish();
    }

    fn rewrite(&mut self, key: &str, to: Option<(u8, &[u8])>) {
        let mut writer = Writer::with_capacity(self.0.len() + to.map_or(0, |(_, value)| value.len()) + 32);
        let mut missing = to;
        for element in self.iter() {
            if element.key != key.as_bytes() {
                writer.element(&element);
            } else if let Some((tag, value)) = missing.take() {
                writer.raw(tag, element.key, value);
            }
        }
        if let Some((tag, value)) = missing {
            writer.raw(tag, key.as_bytes(), value);
        }
        self.0 = writer.finish();
    }
}

impl From<&Document> for Raw {
    /// Of a document made in this program: only a zero byte in a name keeps one from being BSON.
    fn from(document: &Document) -> Self {
        document.to_vec().map_or_else(|_| Self::default(), Self)
    }
}

impl From<Document> for Raw {
    fn from(document: Document) -> Self {
        Self::from(&document)
    }
}

/// The same fields with the same values, in any order.
impl PartialEq<Document> for Raw {
    fn eq(&self, other: &Document) -> bool {
        bson::decode(&self.0).is_ok_and(|own| own == *other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    #[test]
    fn fields_are_changed_and_all_others_stay_as_they_are() {
        let mut w = Writer::default();
        w.i32("a", 1).i32("a", 2).raw(tag::STRING, b"\xff", b"\x02\0\0\0\xfe\0").str("s", "x");
        let mut raw = Raw::from_bytes(w.finish()).unwrap();
        raw.insert("s", 7_i64);
        raw.insert("n", doc! {"m": true});
        let mut w = Writer::default();
        w.i32("a", 1).i32("a", 2).raw(tag::STRING, b"\xff", b"\x02\0\0\0\xfe\0");
        w.raw(tag::INT64, b"s", &7_i64.to_le_bytes()).document("n", Raw::from(doc! {"m": true}).as_bytes());
        assert_eq!(raw.as_bytes(), w.finish());
        raw.remove("a");
        assert_eq!(raw.len(), 3);
        assert_eq!(raw.get_document("n").unwrap().get_bool("m"), Some(true));
        assert_eq!(raw.value("s"), Some(Bson::Int64(7)));
        assert!(Raw::from_bytes(vec![5, 0, 0, 0]).is_err());
    }
}
