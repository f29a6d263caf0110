//! The names of the files in a folder of `mongodump`.

use crate::domain::namespace::Namespace;

/// What one file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpFile {
    pub what: What,
    pub gzipped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Prelude,
    /// The oplog of `--oplog`, beside the folders of the databases.
    Oplog,
    Documents(Stored),
    Metadata(Stored),
}

/// A database, and the name of a file in it as a collection's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    pub db: String,
    /// Escaped, and cut where it was too long.
    pub file: String,
}

impl Stored {
    /// `None`: the name was cut, and only the metadata says what it is.
    pub fn namespace(&self) -> Option<Namespace> {
        // What stands for the rest of a long name.
        let is_cut = self.file.len() > 208 && self.file.get(208..211) == Some("%24");
        if is_cut { None } else { Some(Namespace::new(&self.db, unescaped(&self.file)?)) }
    }
}

/// Reads a path below the folder of a dump; `None` for what `mongodump` does not write. `db`: of a folder that is the dump
/// of this database alone, which has its files directly in it.
pub fn read(path: &str, db: Option<&str>) -> Option<DumpFile> {
    let (plain, gzipped) = match path.strip_suffix(".gz") {
        Some(plain) => (plain, true),
        None => (path, false),
    };
    let file = |what| Some(DumpFile { what, gzipped });
    let stored = |db: &str, name: &str| {
        let of = |file: &str| Stored { db: db.to_owned(), file: file.to_owned() };
        if let Some(name) = name.strip_suffix(".metadata.json").filter(|name| !name.is_empty()) {
            return file(What::Metadata(of(name)));
        }
        file(What::Documents(of(name.strip_suffix(".bson").filter(|name| !name.is_empty())?)))
    };
    match (plain.split_once('/'), db) {
        (None, _) if plain == "prelude.json" => file(What::Prelude),
        (None, None) if plain == "oplog.bson" => file(What::Oplog),
        (None, Some(db)) => stored(db, plain),
        (None, None) => None,
        (Some((db, name)), None) if !name.contains('/') => stored(db, name),
        (Some(_), _) => None,
    }
}

/// `util.UnescapeCollectionName` of mongo-tools: `+` is a space, `%XX` a byte.
fn unescaped(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(rest.next()?)? * 16 + digit(rest.next()?)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::layout::escape;

    #[test]
    fn names_are_read_as_mongo_tools_writes_them() {
        let of = |db: &str, file: &str| Stored { db: db.into(), file: file.into() };
        let is = |path: &str, db, what, gzipped| assert_eq!(read(path, db), Some(DumpFile { what, gzipped }), "{path}");
        is("prelude.json.gz", None, What::Prelude, true);
        is("oplog.bson", None, What::Oplog, false);
        is("shop/a%2Fb.bson.gz", None, What::Documents(of("shop", "a%2Fb")), true);
        is("shop/oplog.bson", None, What::Documents(of("shop", "oplog")), false);
        is("oplog.bson", Some("shop"), What::Documents(of("shop", "oplog")), false);
        is("x.y.metadata.json", Some("shop"), What::Metadata(of("shop", "x.y")), false);
        for other in ["a.bson", "shop/notes.txt", "shop/x/a.bson", "shop/.bson", "archive.gz"] {
            assert_eq!(read(other, None), None, "{other}");
        }
        for name in ["a b/c%é", "system.buckets.x", "$cmd", "a+b"] {
            assert_eq!(of("d", &escape(name)).namespace().unwrap(), Namespace::new("d", name), "{name}");
        }
        assert_eq!(of("d", &escape(&"x".repeat(239))).namespace(), None);
        assert_eq!(of("d", "a%2").namespace(), None);
    }
}
