//! Namespaces (`database.collection`), patterns over them, and renames.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A database and a collection. The database has no dot; the collection may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Namespace {
    pub db: String,
    pub collection: String,
}

/// A collection, view or time series of a server, and how much is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceSize {
    pub namespace: Namespace,
    /// `None`: a view, or the user may not ask.
    pub documents: Option<u64>,
    /// Bytes of BSON.
    pub bytes: Option<u64>,
}

impl Namespace {
    pub fn new(db: impl Into<String>, collection: impl Into<String>) -> Self {
        Self { db: db.into(), collection: collection.into() }
    }

    /// Splits at the first dot. `None` when a part is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let (db, collection) = text.split_once('.')?;
        (!db.is_empty() && !collection.is_empty()).then(|| Self::new(db, collection))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.db, self.collection)
    }
}

/// `shop`, `shop.*`, `shop.orders`, `*.events`, `sh*.ord*`: `*` matches any run of characters (dots too in a
/// collection), `\*` a star itself. A pattern without a dot means the whole database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    db: Vec<Glob>,
    collection: Option<Vec<Glob>>,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Glob {
    Any,
    One(char),
}

impl Pattern {
    pub fn matches(&self, ns: &Namespace) -> bool {
        glob(&self.db, &ns.db) && self.collection.as_ref().is_none_or(|c| glob(c, &ns.collection))
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (db, collection) = match text.split_once('.') {
            Some((db, collection)) => (db, Some(collection)),
            None => (text, None),
        };
        if db.is_empty() || collection.is_some_and(str::is_empty) {
            return Err(format!("{} is not DATABASE or DATABASE.COLLECTION", super::text::quoted(text)));
        }
        Ok(Self { db: compile(db), collection: collection.map(compile), text: text.to_owned() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

fn compile(pattern: &str) -> Vec<Glob> {
    let mut out = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '*' => Glob::Any,
            '\\' => Glob::One(chars.next().unwrap_or('\\')),
            c => Glob::One(c),
        });
    }
    out
}

/// Linear in `text` for each star (backtracks to the last star only).
fn glob(pattern: &[Glob], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Glob::One(c)) if *c == text[t] => (p, t) = (p + 1, t + 1),
            Some(Glob::Any) => {
                star = Some((p, t));
                p += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    star = Some((star_p, star_t + 1));
                    (p, t) = (star_p + 1, star_t + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|g| *g == Glob::Any)
}

/// Which namespaces are meant: those that match `include` (all, when it is empty) and do not match `exclude`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Pattern>,
}

impl Selection {
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    pub fn selects(&self, ns: &Namespace) -> bool {
        (self.include.is_empty() || self.include.iter().any(|p| p.matches(ns)))
            && !self.exclude.iter().any(|p| p.matches(ns))
    }
}

/// `FROM=TO`: two databases (`a=b`) or two namespaces (`a.x=b.y`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rename {
    Database { from: String, to: String },
    Collection { from: Namespace, to: Namespace },
}

impl FromStr for Rename {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('=').ok_or("a rename is written FROM=TO")?;
        let rename = match (Namespace::parse(from), Namespace::parse(to)) {
            (Some(from), Some(to)) => {
                check_target(&to.db, Some(&to.collection))?;
                Self::Collection { from, to }
            }
            (None, None) if !from.contains('.') && !to.contains('.') && !from.is_empty() && !to.is_empty() => {
                check_target(to, None)?;
                Self::Database { from: from.into(), to: to.into() }
            }
            _ => return Err("a rename maps two databases (a=b) or two namespaces (a.x=b.y)".into()),
        };
        Ok(rename)
    }
}

/// What a MongoDB server accepts as the name of a database or collection to create
/// (<https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions>).
fn check_target(db: &str, collection: Option<&str>) -> Result<(), String> {
    if db.len() > 63 || db.chars().any(|c| "/\\. \"$*<>:|?\0".contains(c)) {
        return Err(format!("{} cannot be the name of a database", super::text::quoted(db)));
    }
    if ["admin", "local", "config"].contains(&db) {
        return Err(format!("nothing is renamed into {db}"));
    }
    if collection.is_some_and(|c| c.starts_with("system.") || c.contains(['$', '\0'])) {
        return Err("that cannot be the name of a collection".into());
    }
    Ok(())
}

impl fmt::Display for Rename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database { from, to } => write!(f, "{from}={to}"),
            Self::Collection { from, to } => write!(f, "{from}={to}"),
        }
    }
}

impl Serialize for Rename {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rename {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Two renames of one source: the second of them would be dropped in silence.
pub fn contradicting(renames: &[Rename]) -> Option<(&Rename, &Rename)> {
    let same_source = |a: &Rename, b: &Rename| match (a, b) {
        (Rename::Database { from: a, .. }, Rename::Database { from: b, .. }) => a == b,
        (Rename::Collection { from: a, .. }, Rename::Collection { from: b, .. }) => a == b,
        _ => false,
    };
    renames.iter().enumerate().find_map(|(i, rename)| {
        let other = renames[..i].iter().find(|other| same_source(other, rename) && *other != rename)?;
        Some((other, rename))
    })
}

/// Where `ns` goes under `renames`: a rename of the namespace wins over one of its database; else unchanged.
pub fn renamed(renames: &[Rename], ns: &Namespace) -> Namespace {
    let exact = renames.iter().find_map(|r| match r {
        Rename::Collection { from, to } if from == ns => Some(to.clone()),
        _ => None,
    });
    let database = || {
        renames.iter().find_map(|r| match r {
            Rename::Database { from, to } if *from == ns.db => Some(Namespace::new(to, &ns.collection)),
            _ => None,
        })
    };
    exact.or_else(database).unwrap_or_else(|| ns.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> Namespace {
        Namespace::parse(text).unwrap()
    }

    #[test]
    fn patterns() {
        let cases = [
            ("shop", "shop.orders", true),
            ("shop", "shopping.orders", false),
            ("shop.*", "shop.a.b", true),
            ("*.events", "shop.events", true),
            ("sh*.ord*s", "shop.orders", true),
            ("sh*.ord*s", "shop.order", false),
            ("a.x\\*", "a.x*", true),
            ("a.x\\*", "a.xy", false),
            ("a.*b*c", "a.xbxbxc", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(&ns(name)), expected, "{pattern} {name}");
        }
        assert!(".x".parse::<Pattern>().is_err() && "x.".parse::<Pattern>().is_err() && "".parse::<Pattern>().is_err());
    }

    #[test]
    fn renames() {
        let renames = ["a=b".parse().unwrap(), "a.x=c.y".parse().unwrap()];
        assert_eq!(renamed(&renames, &ns("a.z")), ns("b.z"));
        assert_eq!(renamed(&renames, &ns("a.x")), ns("c.y"));
        assert_eq!(renamed(&renames, &ns("q.x")), ns("q.x"));
        assert_eq!(contradicting(&renames), None, "one of a database and one of a collection");
        let twice = ["q=r", "a=b", "a=c"].map(|text| text.parse().unwrap());
        assert_eq!(contradicting(&twice), Some((&twice[1], &twice[2])));
        assert_eq!(contradicting(&["a.x=b.x", "a.x=b.x", "a.y=b.x"].map(|text| text.parse().unwrap())), None);
        for bad in ["a", "a=b.c", "a.b=c", "a=b c", "a=admin", "=b", "a.b=c.system.users"] {
            assert!(bad.parse::<Rename>().is_err(), "{bad}");
        }
    }
}
