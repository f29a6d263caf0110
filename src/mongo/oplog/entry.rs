//! One oplog entry, borrowed from its bytes.

use crate::artifact::bson::{self, Element, tag};
use crate::domain::namespace::Namespace;
use crate::domain::pitr::OpTime;
use crate::domain::text::quoted;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// Identifies a collection for as long as it lives, whatever it is called.
pub type Uuid = [u8; 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    Insert,
    Update,
    Delete,
    Command,
    /// Nothing happens (`n`), or only to structures of the server's own that a restore builds anew.
    Noop,
}

/// An operation: of an entry itself, or nested in `applyOps`.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> {
    pub kind: OpKind,
    /// Empty where it is not UTF-8; see [`Op::odd_target`].
    pub ns: &'a str,
    /// The bytes of a namespace that is not UTF-8.
    pub odd_ns: Option<&'a [u8]>,
    pub ui: Option<Uuid>,
    pub o: &'a [u8],
    pub o2: Option<&'a [u8]>,
}

#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub ts: Timestamp,
    /// The election term; absent in very old entries.
    pub term: Option<i64>,
    pub op: Op<'a>,
    /// The whole document that identifies the session.
    pub lsid: Option<&'a [u8]>,
    pub txn_number: Option<i64>,
    /// Where the previous entry of the same transaction is; `None` for the first.
    pub previous: Option<Timestamp>,
    /// 1: a vectored insert, which looks like a transaction and is none.
    pub multi_op_type: i64,
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("an oplog entry {what}"))
}

impl<'a> Entry<'a> {
    pub fn parse(doc: &'a [u8]) -> Result<Self> {
        let mut ts = None;
        let mut entry = Fields::default();
        let (mut term, mut lsid, mut txn_number, mut previous, mut multi_op_type) = (None, None, None, None, 0);
        for element in bson::elements(doc).map_err(|e| damaged("is not BSON").source(e))? {
            let e = element.map_err(|e| damaged("is not BSON").source(e))?;
            match e.key {
                b"ts" => ts = e.timestamp(),
                b"t" => term = e.i64(),
                b"lsid" => lsid = e.document(),
                b"txnNumber" => txn_number = e.i64(),
                b"prevOpTime" => {
                    let at = e.document().and_then(|d| bson::get(d, "ts")).and_then(|e| e.timestamp());
                    previous = at.filter(|at| *at != Timestamp::MIN);
                }
                b"multiOpType" => multi_op_type = e.i64().unwrap_or(0),
                _ => entry.take(&e),
            }
        }
        let ts = ts.ok_or_else(|| damaged("has no position"))?;
        let op = entry.finish().map_err(|e| e.context(format!("oplog position {ts}")))?;
        Ok(Self { ts, term, op, lsid, txn_number, previous, multi_op_type })
    }
}

/// The fields that make an operation, as they are met.
#[derive(Default)]
struct Fields<'a> {
    op: Option<&'a str>,
    ns: Option<&'a [u8]>,
    ui: Option<Uuid>,
    o: Option<&'a [u8]>,
    o2: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, e: &Element<'a>) {
        match e.key {
            b"op" => self.op = e.str(),
            b"ns" => self.ns = e.text(),
            b"ui" => self.ui = e.uuid(),
            b"o" => self.o = e.document(),
            b"o2" => self.o2 = e.document(),
            _ => {}
        }
    }

    fn finish(self) -> Result<Op<'a>> {
        let kind = match self.op {
            Some("i") => OpKind::Insert,
            Some("u") => OpKind::Update,
            Some("d") => OpKind::Delete,
            Some("c") => OpKind::Command,
            // Keys of the server's own containers and global indexes, which it builds again by itself.
            Some("n" | "ci" | "cd" | "cu" | "xi" | "xd" | "km") => OpKind::Noop,
            other => return Err(unknown(&format!("operation of type {}", quoted(other.unwrap_or(""))))),
        };
        let bytes = self.ns.unwrap_or_default();
        let (ns, odd_ns) = std::str::from_utf8(bytes).map_or(("", Some(bytes)), |ns| (ns, None));
        let o = match (self.o, kind) {
            (Some(o), _) => o,
            (None, OpKind::Noop) => EMPTY,
            (None, _) => return Err(damaged("has no object")),
        };
        if kind == OpKind::Update && self.o2.is_none() {
            return Err(damaged("updates nothing in particular"));
        }
        Ok(Op { kind, ns, odd_ns, ui: self.ui, o, o2: self.o2 })
    }
}

const EMPTY: &[u8] = &[5, 0, 0, 0, 0];

/// The error for an operation this program does not understand. It stops a restore before anything is written.
pub fn unknown(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the stored oplog holds an {what}, which cannot be replayed"))
        .hint("a newer mongokeep may know it; nothing was written")
}

impl<'a> Op<'a> {
    /// An operation nested in `applyOps`.
    pub fn parse(doc: &'a [u8]) -> Result<Self> {
        let mut fields = Fields::default();
        for element in bson::elements(doc).map_err(|e| damaged("holds an operation that is not BSON").source(e))? {
            fields.take(&element.map_err(|e| damaged("holds an operation that is not BSON").source(e))?);
        }
        fields.finish()
    }

    pub fn namespace(&self) -> Option<Namespace> {
        Namespace::parse(self.ns)
    }

    /// Name and argument of a command: its first field.
    pub fn command(&self) -> Option<(&'a str, Element<'a>)> {
        let first = bson::elements(self.o).ok()?.next()?.ok()?;
        Some((std::str::from_utf8(first.key).ok()?, first))
    }

    /// The namespace a command is about: its database, with the collection its first field names.
    pub fn command_target(&self) -> Option<Namespace> {
        let db = self.ns.split_once('.')?.0;
        let (_, argument) = self.command()?;
        Some(Namespace::new(db, argument.str()?))
    }

    /// The namespace that a document change or a command is about, when it is one that is not UTF-8.
    pub fn odd_target(&self) -> Option<Vec<u8>> {
        if self.kind != OpKind::Command {
            return self.odd_ns.map(<[u8]>::to_vec);
        }
        let (name, argument) = self.command()?;
        let argument = argument.text()?;
        let whole = match name {
            "renameCollection" => argument.to_vec(),
            _ => {
                let ns = self.odd_ns.unwrap_or(self.ns.as_bytes());
                let db = ns.split(|b| *b == b'.').next()?;
                [db, b".", argument].concat()
            }
        };
        std::str::from_utf8(&whole).is_err().then_some(whole)
    }

    /// The `_id` an insert, update or delete is about.
    pub fn id(&self) -> Option<Element<'a>> {
        match self.kind {
            OpKind::Insert | OpKind::Delete => bson::get(self.o, "_id"),
            OpKind::Update => bson::get(self.o2?, "_id"),
            OpKind::Command | OpKind::Noop => None,
        }
    }

    /// The operations nested in an `applyOps` command.
    pub fn nested(&self) -> Result<impl Iterator<Item = Result<&'a [u8]>> + use<'a>> {
        let (name, list) = self.command().ok_or_else(|| damaged("has an empty command"))?;
        let list = list.array().filter(|_| name == "applyOps").ok_or_else(|| damaged("has applyOps without a list"))?;
        let items = bson::elements(list).map_err(|e| damaged("is not BSON").source(e))?;
        Ok(items.map(|item| {
            let item = item.map_err(|e| damaged("is not BSON").source(e))?;
            if item.tag != tag::DOCUMENT {
                return Err(damaged("nests something that is no operation"));
            }
            Ok(item.value)
        }))
    }
}

/// Databases and collections that are the server's own: their operations are never replayed, by anybody.
/// Users and roles (`admin.system.users`, `admin.system.roles`) are among them; they are merged separately.
pub fn is_bookkeeping(ns: &Namespace) -> bool {
    match ns.db.as_str() {
        "local" | "config" => true,
        "admin" if ns.collection.starts_with("system.") => true,
        _ => matches!(ns.collection.as_str(), "system.profile" | "system.change_collection" | "system.preimages"),
    }
}

/// Commands that change nothing a restore has to follow: two-phase index builds count when they commit, `dbCheck` compares
/// members (<https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/db/commands/dbcheck.cpp>), and the rest concerns storage
/// files.
pub fn is_ignored_command(name: &str) -> bool {
    matches!(
        name,
        "startIndexBuild" | "abortIndexBuild" | "setMultikeyMetadata" | "dropIdent" | "createIdent" | "dbCheck"
    )
}

/// Position and term of an entry.
pub fn op_time(entry: &[u8]) -> Option<OpTime> {
    let ts = bson::get(entry, "ts")?.timestamp()?;
    // Absent only in entries of protocol version 0.
    let term = bson::get(entry, "t").and_then(|e| e.i64()).unwrap_or(-1);
    Some(OpTime { ts, term })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Timestamp as T, doc};

    fn bytes(d: &mongodb::bson::Document) -> Vec<u8> {
        d.to_vec().unwrap()
    }

    #[test]
    fn entries_are_parsed() {
        let uuid = mongodb::bson::Uuid::from_bytes([7; 16]);
        let d = bytes(&doc! {
            "lsid": {"id": 1}, "txnNumber": 5i64, "op": "u", "ns": "a.b.c", "ui": uuid, "o": {"$v": 2},
            "o2": {"_id": 9}, "ts": T{time: 3, increment: 4}, "t": 8i64,
            "prevOpTime": {"ts": T{time: 0, increment: 0}, "t": -1i64}
        });
        let entry = Entry::parse(&d).unwrap();
        assert_eq!((entry.ts, entry.term, entry.txn_number), (Timestamp::new(3, 4), Some(8), Some(5)));
        assert_eq!((entry.op.kind, entry.op.ui, entry.previous), (OpKind::Update, Some([7; 16]), None));
        assert_eq!(entry.op.namespace(), Some(Namespace::new("a", "b.c")));
        assert_eq!(entry.op.id().unwrap().i64(), Some(9));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let ts = T { time: 1, increment: 1 };
        let error = Entry::parse(&bytes(&doc! {"op": "zz", "ns": "a.b", "o": {}, "ts": ts})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        for broken in
            [doc! {"op": "i", "ns": "a.b", "ts": ts}, doc! {"op": "i", "o": {}}, doc! {"op": "u", "o": {}, "ts": ts}]
        {
            assert_eq!(Entry::parse(&bytes(&broken)).unwrap_err().kind(), ErrorKind::Corrupt, "{broken}");
        }
    }

    #[test]
    fn nested_operations() {
        let d = bytes(&doc! {
            "op": "c", "ns": "admin.$cmd", "ts": T{time: 1, increment: 1},
            "o": {"applyOps": [{"op": "i", "ns": "a.b", "o": {"_id": 1}}, {"op": "c", "ns": "a.$cmd", "o": {"create": "x.y"}}]}
        });
        let entry = Entry::parse(&d).unwrap();
        let ops: Vec<_> = entry.op.nested().unwrap().map(|d| Op::parse(d.unwrap()).unwrap()).collect();
        assert_eq!(ops.len(), 2);
        assert_eq!(ops[1].command_target(), Some(Namespace::new("a", "x.y")));
    }
}
