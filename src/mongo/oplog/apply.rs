//! Operations on documents as `applyOps` commands.
//!
//! Each operation is cut down to the fields the command takes (it rejects any other), under the name its collection
//! has now. Neither the UUID nor anything of the original entry is passed on.

use std::borrow::Cow;
use std::sync::Arc;

use super::entry::{Op, OpKind};
use super::modifiers::{self, Form, UpdateForms};
use crate::artifact::bson::{self, Element, Writer, tag};
use crate::domain::text::{escape, quoted};
use crate::domain::timestamp::Timestamp;
use crate::error::Result;

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
    takes: UpdateForms,
    needs_documents: bool,
}

impl Batch {
    /// For a server that takes these forms of updates.
    pub fn new(takes: UpdateForms) -> Self {
        let mut writer = Writer::with_capacity(64 << 10);
        writer.open(tag::ARRAY, "applyOps");
        Self { writer, sent: Vec::new(), one_by_one: false, takes, needs_documents: false }
    }

    pub fn takes(&self) -> UpdateForms {
        self.takes
    }

    /// Whether it holds updates of paths that the server does not take: their documents decide what they become.
    pub fn needs_documents(&self) -> bool {
        self.needs_documents
    }

    /// Whether an operation of `bytes` should go into the next command.
    pub fn is_full_for(&self, bytes: usize) -> bool {
        !self.sent.is_empty() && (self.sent.len() >= BATCH_OPERATIONS || self.writer.len() + bytes > BATCH_BYTES)
    }

    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Adds an operation on documents, in a form that the server takes where that can be said without the document.
    ///
    /// Errors: `Unsupported` for an update in a form nobody knows.
    pub fn push(&mut self, op: &Op<'_>, sent: Sent) -> Result<()> {
        let word = match op.kind {
            OpKind::Insert => "i",
            OpKind::Update => "u",
            _ => "d",
        };
        let Objects { objects, needs_document } = objects(op, self.takes)?;
        self.needs_documents |= needs_document;
        for o in &objects {
            self.put(word, o, op.o2.filter(|_| op.kind == OpKind::Update), sent.clone());
        }
        if let (Some(o), Some(id)) = (mending(op, self.takes)?, op.id()) {
            self.put("u", &o, Some(&only_id(&id)), Sent { kind: OpKind::Update, ..sent });
        }
        Ok(())
    }

    fn put(&mut self, word: &str, o: &[u8], o2: Option<&[u8]>, sent: Sent) {
        self.open();
        self.writer.str("op", word).str("ns", &sent.ns).document("o", o);
        if let Some(o2) = o2 {
            self.writer.document("o2", o2);
        }
        self.writer.close();
        self.sent.push(sent);
    }

    /// Sets fields of a document to the zero timestamp that storing it has replaced by the present time. Those that
    /// [`cannot_be_mended`] stay as they are.
    pub fn push_repair(&mut self, id: &Element<'_>, fields: &[Vec<u8>], sent: Sent) {
        let Some(repair) = zeros_set(fields, self.takes) else { return };
        self.put("u", &repair, Some(&only_id(id)), sent);
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

/// What an operation is sent as.
pub struct Objects<'a> {
    /// Several, where an order must be kept.
    pub objects: Vec<Cow<'a, [u8]>>,
    /// An update of a path for a server that takes none: its document decides what it becomes.
    pub needs_document: bool,
}

/// The objects of an operation on a document, in forms that a server takes where that can be said without the document.
///
/// Errors: `Unsupported` for an update in a form nobody knows.
pub fn objects<'a>(op: &Op<'a>, takes: UpdateForms) -> Result<Objects<'a>> {
    let mut needs_document = false;
    let form = if op.kind == OpKind::Update { Some(modifiers::form(op.o)?) } else { None };
    let objects = match form {
        // Servers up to 5.0 take a whole document without its `_id`.
        Some(Form::Whole) => match op.id().filter(|_| bson::get(op.o, "_id").is_none()) {
            Some(id) => vec![Cow::Owned(with_id(&id, op.o))],
            None => vec![Cow::Borrowed(op.o)],
        },
        Some(Form::Modifiers) => {
            let changes = modifiers::changes(op.o)?;
            match modifiers::plain_difference(&changes).filter(|_| takes == UpdateForms::Differences) {
                Some(difference) => vec![Cow::Owned(difference)],
                None if takes != UpdateForms::Differences && modifiers::order_matters(&changes) => {
                    changes.iter().map(|change| Cow::Owned(modifiers::single(change))).collect()
                }
                None => {
                    needs_document = takes == UpdateForms::Differences;
                    vec![Cow::Borrowed(op.o)]
                }
            }
        }
        Some(Form::Difference) | None => vec![Cow::Borrowed(op.o)],
    };
    Ok(Objects { objects, needs_document })
}

/// The update that sets what storing the whole document of an operation has changed; None where nothing was.
pub fn mending(op: &Op<'_>, takes: UpdateForms) -> Result<Option<Vec<u8>>> {
    let whole = match op.kind {
        OpKind::Insert => true,
        OpKind::Update => modifiers::form(op.o)? == Form::Whole,
        _ => false,
    };
    Ok(if whole { zeros_set(&zero_timestamps(op.o), takes) } else { None })
}

fn only_id(id: &Element<'_>) -> Vec<u8> {
    let mut w = Writer::default();
    w.raw(id.tag, b"_id", id.value);
    w.finish()
}

fn with_id(id: &Element<'_>, o: &[u8]) -> Vec<u8> {
    let mut w = Writer::with_capacity(o.len() + id.value.len() + 8);
    w.raw(id.tag, b"_id", id.value);
    for element in bson::elements(o).into_iter().flatten().map_while(std::result::Result::ok) {
        w.element(&element);
    }
    w.finish()
}

/// The update that sets `fields` to the zero timestamp, for a server that takes these forms. None when none of them can be
/// set there.
pub fn zeros_set(fields: &[Vec<u8>], takes: UpdateForms) -> Option<Vec<u8>> {
    let by_path = takes == UpdateForms::Modifiers;
    let mut fields = fields.iter().filter(|field| !(by_path && is_no_path(field))).peekable();
    fields.peek()?;
    let mut w = Writer::default();
    if by_path {
        w.i32("$v", 1).open(tag::DOCUMENT, "$set");
    } else {
        w.i32("$v", 2).open(tag::DOCUMENT, "diff").open(tag::DOCUMENT, "u");
    }
    for field in fields {
        w.raw(tag::TIMESTAMP, field, &[0; 8]);
    }
    Some(w.finish())
}

/// Of fields that hold the zero timestamp, one that no update of such a server can set: its name is no path.
pub fn cannot_be_mended(fields: &[Vec<u8>], takes: UpdateForms) -> Option<&[u8]> {
    let by_path = takes == UpdateForms::Modifiers;
    fields.iter().find(|field| by_path && is_no_path(field)).map(Vec::as_slice)
}

/// What a person is told of such a field.
pub fn not_mended(ns: &str, field: &[u8]) -> String {
    format!(
        "the field {} of a document of {} holds the timestamp zero, which this version of MongoDB replaces by the present \
         time and takes no update of",
        quoted(&String::from_utf8_lossy(field)),
        escape(ns)
    )
}

fn is_no_path(field: &[u8]) -> bool {
    field.is_empty() || field.contains(&b'.')
}

/// The top-level fields, `_id` aside, that hold `Timestamp(0, 0)`: a server that stores the document as a whole
/// replaces them by the present time.
pub fn zero_timestamps(document: &[u8]) -> Vec<Vec<u8>> {
    bson::elements(document)
        .into_iter()
        .flatten()
        .map_while(std::result::Result::ok)
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
        batch.push(&op, sent(op.kind)).unwrap();
    }

    fn command(batch: Batch) -> (Document, usize) {
        let (bytes, sent) = batch.into_command(Atomic::Yes);
        bson::check(&bytes).unwrap();
        (Document::from_reader(bytes.as_slice()).unwrap(), sent.len())
    }

    #[test]
    fn only_what_the_command_takes_is_sent() {
        let mut batch = Batch::new(UpdateForms::Both);
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

    /// An update of whole fields and one of a path, for each kind of server.
    #[test]
    fn updates_of_paths_are_sent_in_the_form_that_the_server_takes() {
        let plain =
            doc! {"op": "u", "ns": "d.old", "o": {"$v": 1, "$set": {"a": 1}, "$unset": {"b": true}}, "o2": {"_id": 1}};
        let path = doc! {"op": "u", "ns": "d.old", "o": {"$v": 1, "$set": {"l.0": 1, "z": 2}}, "o2": {"_id": 1}};
        let order = doc! {"op": "u", "ns": "d.old", "o": {"$v": 1, "$set": {"l.10": 1, "l.9": 2}}, "o2": {"_id": 1}};
        let objects = |takes: UpdateForms| {
            let mut batch = Batch::new(takes);
            [&plain, &path, &order].into_iter().for_each(|d| push(&mut batch, d));
            let needs = batch.needs_documents();
            let (command, _) = command(batch);
            let list = command.get_array("applyOps").unwrap().iter();
            let objects = list.map(|op| op.as_document().unwrap().get_document("o").unwrap().clone());
            (objects.collect::<Vec<_>>(), needs)
        };
        for takes in [UpdateForms::Modifiers, UpdateForms::Both] {
            let (found, needs) = objects(takes);
            assert!(!needs);
            assert_eq!(found[..2], [plain.get_document("o").unwrap().clone(), path.get_document("o").unwrap().clone()]);
            // Each by itself, in the order in which the source made the fields.
            assert_eq!(found[2..], [doc! {"$v": 1, "$set": {"l.10": 1}}, doc! {"$v": 1, "$set": {"l.9": 2}}]);
        }
        let (found, needs) = objects(UpdateForms::Differences);
        assert!(needs);
        assert_eq!(found[0], doc! {"$v": 2, "diff": {"d": {"b": false}, "u": {"a": 1}}});
        assert_eq!(found[1], path.get_document("o").unwrap().clone());
    }

    #[test]
    fn zero_timestamps_are_set_in_the_form_that_the_server_takes() {
        let zero = T { time: 0, increment: 0 };
        let fields: Vec<Vec<u8>> = ["a", "b.c", ""].map(|f| f.as_bytes().to_vec()).into();
        let set = |takes| Document::from_reader(zeros_set(&fields, takes).unwrap().as_slice()).unwrap();
        assert_eq!(set(UpdateForms::Both), doc! {"$v": 2, "diff": {"u": {"a": zero, "b.c": zero, "": zero}}});
        assert_eq!(set(UpdateForms::Modifiers), doc! {"$v": 1, "$set": {"a": zero}});
        assert_eq!(cannot_be_mended(&fields, UpdateForms::Modifiers), Some(b"b.c".as_slice()));
        assert_eq!(cannot_be_mended(&fields, UpdateForms::Differences), None);
        assert!(zeros_set(&fields[1..], UpdateForms::Modifiers).is_none());
    }

    #[test]
    fn a_whole_document_gets_its_id() {
        let mut batch = Batch::new(UpdateForms::Both);
        push(&mut batch, &doc! {"op": "u", "ns": "d.old", "o": {"b": 1}, "o2": {"_id": 7}});
        let (command, _) = command(batch);
        let op = command.get_array("applyOps").unwrap()[0].as_document().unwrap();
        assert_eq!(op.get_document("o").unwrap(), &doc! {"_id": 7, "b": 1});
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut batch = Batch::new(UpdateForms::Both);
        assert!(!batch.is_full_for(20 << 20), "a large operation goes alone");
        push(&mut batch, &doc! {"op": "d", "ns": "d.old", "o": {"_id": 1}});
        assert!(batch.is_full_for(8 << 20) && !batch.is_full_for(100));
        for _ in 1..BATCH_OPERATIONS {
            push(&mut batch, &doc! {"op": "d", "ns": "d.old", "o": {"_id": 1}});
        }
        assert!(batch.is_full_for(0));
    }
}
