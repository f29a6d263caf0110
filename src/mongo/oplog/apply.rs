//! Operations on documents as `applyOps` commands.
//!
//! Each operation is cut down to the fields the command takes (it rejects any other), under the name its collection
//! has now. Neither the UUID nor anything of the original entry is passed on.

use std::sync::Arc;

use super::entry::{Op, OpKind};
use crate::artifact::bson::{self, Element, Writer, tag};
use crate::domain::timestamp::Timestamp;

/// A command takes about as many operations ...
const BATCH_OPERATIONS: usize = 1000;
/// ... or as many bytes; a single larger one goes alone.
const BATCH_BYTES: usize = 8 << 20;

/// What is remembered of an operation, to say what failed.
#[derive(Debug, Clone)]
pub struct Sent {
    pub ts: Timestamp,
    pub ns: Arc<str>,
    pub kind: OpKind,
    /// See [`super::key`].
    pub key: u64,
    /// Rolled out documents of a capped collection may be missing.
    pub may_be_missing: bool,
}

/// Whether a batch takes effect as a whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomic {
    Yes,
    /// Each operation by itself, in order; an update that finds nothing stops none of the others.
    No,
}

/// Operations that go to the server in one command, in order.
pub struct Batch {
    writer: Writer,
    pub sent: Vec<Sent>,
    /// Its operations must not be one transaction.
    pub one_by_one: bool,
}

impl Default for Batch {
    fn default() -> Self {
        let mut writer = Writer::with_capacity(64 << 10);
        writer.open(tag::ARRAY, "applyOps");
        Self { writer, sent: Vec::new(), one_by_one: false }
    }
}

impl Batch {
    /// Whether an operation of `bytes` should go into the next command.
    pub fn is_full_for(&self, bytes: usize) -> bool {
        !self.sent.is_empty() && (self.sent.len() >= BATCH_OPERATIONS || self.writer.len() + bytes > BATCH_BYTES)
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Adds an operation on documents.
    pub fn push(&mut self, op: &Op<'_>, sent: Sent) {
        let zeros = match op.kind {
            OpKind::Insert => zero_timestamps(op.o),
            OpKind::Update if bson::get(op.o, "$v").is_none() => zero_timestamps(op.o),
            _ => Vec::new(),
        };
        let word = match op.kind {
            OpKind::Insert => "i",
            OpKind::Update => "u",
            _ => "d",
        };
        self.open();
        self.writer.str("op", word).str("ns", &sent.ns).document("o", op.o);
        if let (OpKind::Update, Some(o2)) = (op.kind, op.o2) {
            self.writer.document("o2", o2);
        }
        self.writer.close();
        let repair = op.id().filter(|_| !zeros.is_empty()).map(|id| (id, sent.clone()));
        self.sent.push(sent);
        if let Some((id, sent)) = repair {
            self.push_repair(&id, &zeros, Sent { kind: OpKind::Update, ..sent });
        }
    }

    /// Sets fields of a document to the zero timestamp that storing it has replaced by the present time.
    pub fn push_repair(&mut self, id: &Element<'_>, fields: &[Vec<u8>], sent: Sent) {
        self.open();
        let w = &mut self.writer;
        w.str("op", "u").str("ns", &sent.ns).open(tag::DOCUMENT, "o").i32("$v", 2);
        w.open(tag::DOCUMENT, "diff").open(tag::DOCUMENT, "u");
        for field in fields {
            w.raw(tag::TIMESTAMP, field, &[0; 8]);
        }
        w.close().close().close().open(tag::DOCUMENT, "o2").raw(id.tag, b"_id", id.value).close().close();
        self.sent.push(sent);
    }

    /// Adds an operation of another batch as it is.
    pub fn push_encoded(&mut self, operation: &[u8], sent: Sent) {
        let key = self.sent.len().to_string();
        self.writer.document(&key, operation);
        self.sent.push(sent);
    }

    /// Adds an operation of another batch that stores a whole document, in the place of whatever has its `_id`.
    pub fn push_over(&mut self, operation: &[u8], sent: Sent) {
        let Some(document) = bson::get(operation, "o").and_then(|e| e.document()) else {
            return self.push_encoded(operation, sent);
        };
        let Some(id) = bson::get(document, "_id") else { return self.push_encoded(operation, sent) };
        self.open();
        let w = &mut self.writer;
        w.str("op", "d").str("ns", &sent.ns).open(tag::DOCUMENT, "o").raw(id.tag, b"_id", id.value).close().close();
        self.sent.push(Sent { kind: OpKind::Delete, ..sent.clone() });
        self.open();
        self.writer.str("op", "i").str("ns", &sent.ns).document("o", document).close();
        self.sent.push(Sent { kind: OpKind::Insert, ..sent });
    }

    fn open(&mut self) {
        let key = self.sent.len().to_string();
        self.writer.open(tag::DOCUMENT, &key);
    }

    /// The command, and what it does.
    pub fn into_command(mut self, atomic: Atomic) -> (Vec<u8>, Vec<Sent>) {
        let w = &mut self.writer;
        // A document that is not there must not come into being by an update of a part of it.
        w.close().bool("alwaysUpsert", false).bool("bypassDocumentValidation", true);
        if atomic == Atomic::No {
            w.bool("allowAtomic", false);
        }
        w.open(tag::DOCUMENT, "writeConcern").i32("w", 1).close();
        (self.writer.finish(), self.sent)
    }
}

/// The top-level fields, `_id` aside, that hold `Timestamp(0, 0)`: a server that stores the document as a whole
/// replaces them by the present time.
pub fn zero_timestamps(document: &[u8]) -> Vec<Vec<u8>> {
    bson::elements(document)
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .filter(|e| e.tag == tag::TIMESTAMP && e.value == [0; 8] && e.key != b"_id")
        .map(|e| e.key.to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Document, Timestamp as T, doc};

    fn sent(kind: OpKind) -> Sent {
        Sent { ts: Timestamp::new(1, 1), ns: "d.new".into(), kind, key: 0, may_be_missing: false }
    }

    fn push(batch: &mut Batch, d: &Document) {
        let bytes = d.to_vec().unwrap();
        let op = Op::parse(&bytes).unwrap();
        batch.push(&op, sent(op.kind));
    }

    fn command(batch: Batch) -> (Document, usize) {
        let (bytes, sent) = batch.into_command(Atomic::Yes);
        bson::check(&bytes).unwrap();
        (Document::from_reader(bytes.as_slice()).unwrap(), sent.len())
    }

    #[test]
    fn only_what_the_command_takes_is_sent() {
        let mut batch = Batch::default();
        let zero = T { time: 0, increment: 0 };
        push(
            &mut batch,
            &doc! {"op": "i", "ns": "d.old", "ui": 1, "lsid": {"id": 1}, "o": {"_id": 1}, "o2": {"_id": 1}},
        );
        push(&mut batch, &doc! {"op": "u", "ns": "d.old", "o": {"$v": 2, "diff": {}}, "o2": {"_id": 1}, "stmtId": 3});
        push(&mut batch, &doc! {"op": "d", "ns": "d.old", "o": {"_id": 1}, "prevOpTime": {}});
        push(&mut batch, &doc! {"op": "i", "ns": "d.old", "o": {"_id": zero, "a": zero, "b": {"c": zero}}});
        push(&mut batch, &doc! {"op": "u", "ns": "d.old", "o": {"_id": 5, "z": zero}, "o2": {"_id": 5}});
        let (command, sent) = command(batch);
        assert_eq!(
            command,
            doc! {
                "applyOps": [
                    {"op": "i", "ns": "d.new", "o": {"_id": 1}},
                    {"op": "u", "ns": "d.new", "o": {"$v": 2, "diff": {}}, "o2": {"_id": 1}},
                    {"op": "d", "ns": "d.new", "o": {"_id": 1}},
                    {"op": "i", "ns": "d.new", "o": {"_id": zero, "a": zero, "b": {"c": zero}}},
                    {"op": "u", "ns": "d.new", "o": {"$v": 2, "diff": {"u": {"a": zero}}}, "o2": {"_id": zero}},
                    {"op": "u", "ns": "d.new", "o": {"_id": 5, "z": zero}, "o2": {"_id": 5}},
                    {"op": "u", "ns": "d.new", "o": {"$v": 2, "diff": {"u": {"z": zero}}}, "o2": {"_id": 5}},
                ],
                "alwaysUpsert": false, "bypassDocumentValidation": true, "writeConcern": {"w": 1},
            }
        );
        assert_eq!(sent, 7);
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut batch = Batch::default();
        assert!(!batch.is_full_for(20 << 20), "a large operation goes alone");
        push(&mut batch, &doc! {"op": "d", "ns": "d.old", "o": {"_id": 1}});
        assert!(batch.is_full_for(8 << 20) && !batch.is_full_for(100));
        for _ in 1..BATCH_OPERATIONS {
            push(&mut batch, &doc! {"op": "d", "ns": "d.old", "o": {"_id": 1}});
        }
        assert!(batch.is_full_for(0));
    }
}
