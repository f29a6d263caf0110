//! Updates of paths for a server that takes none (7.0): what they change depends on their documents, which are read, and
//! changed here in the same order, so that each can be said as a difference.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::write::{Applied, Writes, operations};
use crate::artifact::bson::{self, Element, Writer, tag};
use crate::domain::namespace::Namespace;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::apply::{Atomic, Batch, Sent};
use crate::mongo::oplog::entry::{Op, OpKind};
use crate::mongo::oplog::key::document_hash;
use crate::mongo::oplog::modifiers::{self, Form};

/// Documents asked for at once. What comes back is bounded by the server: 16 MB.
const AHEAD: usize = 500;
/// An `_id` in an `_id` in an `_id`.
const MAX_DEPTH: usize = 100;

/// A document: its collection, and a number that is the same for equal `_id`s.
type Key = (Arc<str>, u64);

/// Applies a batch, in which updates of paths become what the server takes.
///
/// Errors: as [`Writes::apply_ops`].
pub(super) async fn apply(writes: &Writes, batch: Batch) -> Result<Vec<Applied>> {
    if !batch.needs_documents() {
        return writes.apply_ops(batch).await;
    }
    let (command, sent) = batch.into_command(Atomic::Yes);
    let mut steps = Vec::with_capacity(sent.len());
    for (encoded, sent) in operations(&command)?.zip(sent) {
        let encoded = encoded?;
        steps.push(Step::new(encoded, sent)?);
    }
    let mut translation = Translation::new(writes, &steps);
    for n in 0..steps.len() {
        translation.step(&steps, n).await?;
    }
    translation.flush().await?;
    Ok(translation.done)
}

/// One operation of the batch.
struct Step<'a> {
    encoded: &'a [u8],
    op: Op<'a>,
    sent: Sent,
    form: Option<Form>,
    /// None where the number of its `_id` does not tell it from others: it is read when its turn comes.
    key: Option<Key>,
}

impl<'a> Step<'a> {
    fn new(encoded: &'a [u8], sent: Sent) -> Result<Self> {
        let op = Op::parse(encoded)?;
        let form = if op.kind == OpKind::Update { Some(modifiers::form(op.o)?) } else { None };
        // Under a collation other texts may be the same `_id`.
        let id = op.id().filter(|id| !sent.may_be_missing && is_told_apart(id, 0));
        let key = id.map(|id| (sent.ns.clone(), document_hash(&[0; 16], &id)));
        Ok(Self { encoded, op, sent, form, key })
    }

    fn is_of_path(&self) -> bool {
        self.form == Some(Form::Modifiers)
    }
}

/// Whether [`document_hash`] looks at all of an `_id`.
fn is_told_apart(id: &Element<'_>, depth: usize) -> bool {
    match id.tag {
        tag::CODE_WITH_SCOPE => false,
        tag::DOCUMENT | tag::ARRAY => {
            let inner = bson::elements(id.value).into_iter().flatten();
            depth < MAX_DEPTH && inner.map_while(std::result::Result::ok).all(|e| is_told_apart(&e, depth + 1))
        }
        _ => true,
    }
}

struct Translation<'a> {
    writes: &'a Writes,
    /// What is to be sent next.
    out: Batch,
    done: Vec<Applied>,
    /// Documents that updates of paths change, as they are after what is in `out`; None: there is none.
    known: HashMap<Key, Option<Vec<u8>>>,
    wanted: HashSet<Key>,
}

impl<'a> Translation<'a> {
    fn new(writes: &'a Writes, steps: &[Step<'_>]) -> Self {
        let wanted = steps.iter().filter(|step| step.is_of_path()).filter_map(|step| step.key.clone()).collect();
        let out = Batch::new(writes.takes);
        Self { writes, out, done: Vec::new(), known: HashMap::new(), wanted }
    }

    async fn step(&mut self, steps: &[Step<'_>], n: usize) -> Result<()> {
        let Some(step) = steps.get(n) else { return Ok(()) };
        if step.is_of_path() {
            return self.change_paths(steps, n, step).await;
        }
        self.add(step.encoded, step.sent.clone()).await?;
        let Some(key) = step.key.clone().filter(|key| self.wanted.contains(key)) else { return Ok(()) };
        match (step.op.kind, step.form) {
            (OpKind::Insert, _) => drop(self.known.insert(key, Some(step.op.o.to_vec()))),
            (OpKind::Delete, _) => drop(self.known.insert(key, None)),
            (_, Some(Form::Whole)) => {
                if let Some(Some(document)) = self.known.get_mut(&key) {
                    *document = step.op.o.to_vec();
                }
            }
            (_, Some(Form::Difference)) => {
                match (self.known.get_mut(&key), modifiers::of_plain_difference(step.op.o)) {
                    (Some(Some(document)), Some(changes)) => {
                        for change in &changes {
                            if let Some(edited) = modifiers::edit(document, change)? {
                                *document = edited.document;
                            }
                        }
                    }
                    (Some(Some(_)), None) => {
                        // The server's own difference, which it applies better: read it again when it is wanted.
                        self.known.remove(&key);
                    }
                    _ => {}
                }
            }
            (OpKind::Update | OpKind::Command | OpKind::Noop, _) => {}
        }
        Ok(())
    }

    async fn change_paths(&mut self, steps: &[Step<'_>], n: usize, step: &Step<'_>) -> Result<()> {
        let mut document = match &step.key {
            Some(key) => {
                if !self.known.contains_key(key) {
                    self.read_ahead(steps, n, key).await?;
                }
                self.known.remove(key).flatten()
            }
            None => {
                self.flush().await?;
                self.read(&step.sent.ns, &[step.op.id().ok_or_else(no_id)?]).await?.0.pop()
            }
        };
        let Some(found) = &mut document else {
            self.flush().await?;
            self.done.push(Applied { sent: step.sent.clone(), ok: false });
            self.keep(step, None);
            return Ok(());
        };
        for change in modifiers::changes(step.op.o)? {
            let Some(edited) = modifiers::edit(found, &change)? else { continue };
            let o = edited.difference.as_deref().unwrap_or(&edited.document);
            let encoded = update(&step.sent.ns, o, step.op.o2.unwrap_or_default());
            self.add(&encoded, step.sent.clone()).await?;
            *found = edited.document;
        }
        if step.key.is_none() {
            self.flush().await?;
        }
        self.keep(step, document);
        Ok(())
    }

    fn keep(&mut self, step: &Step<'_>, document: Option<Vec<u8>>) {
        if let Some(key) = &step.key {
            self.known.insert(key.clone(), document);
        }
    }

    /// Reads the document of step `n`, and with it those that follow.
    async fn read_ahead(&mut self, steps: &[Step<'_>], n: usize, key: &Key) -> Result<()> {
        self.flush().await?;
        // What else is known may be large.
        self.known.clear();
        let (mut ids, mut keys) = (Vec::new(), HashSet::new());
        for step in steps.iter().skip(n).filter(|step| step.is_of_path() && step.sent.ns == key.0) {
            if let (Some(key), Some(id)) = (&step.key, step.op.id())
                && ids.len() < AHEAD
                && keys.insert(key.clone())
            {
                ids.push(id);
            }
        }
        let (mut documents, mut all) = self.read(&key.0, &ids).await?;
        if !all && !documents.iter().any(|d| has_key(d, key)) {
            // More than one reply takes: alone it fits.
            (documents, all) = self.read(&key.0, ids.get(..1).unwrap_or_default()).await?;
            keys = HashSet::from([key.clone()]);
        }
        for document in documents {
            if let Some(id) = bson::get(&document, "_id") {
                let number = document_hash(&[0; 16], &id);
                self.known.insert((key.0.clone(), number), Some(document));
            }
        }
        if all {
            for key in keys {
                self.known.entry(key).or_insert(None);
            }
        }
        Ok(())
    }

    /// The documents with these `_id`s that fit into one reply, and whether these are all there are.
    async fn read(&self, ns: &str, ids: &[Element<'_>]) -> Result<(Vec<Vec<u8>>, bool)> {
        let unreadable = || Error::new(ErrorKind::Failed, format!("the documents of {} cannot be read", escape(ns)));
        let ns = Namespace::parse(ns).ok_or_else(unreadable)?;
        let mut w = Writer::default();
        w.str("find", &ns.collection).open(tag::DOCUMENT, "filter").open(tag::DOCUMENT, "_id").open(tag::ARRAY, "$in");
        for (n, id) in ids.iter().enumerate() {
            w.raw(id.tag, n.to_string().as_bytes(), id.value);
        }
        w.close().close().close();
        let limit = i32::try_from(ids.len()).unwrap_or(i32::MAX);
        w.i32("limit", limit).i32("batchSize", limit);
        let doing = format!("reading the documents of {} that the oplog changes", escape(&ns.to_string()));
        let reply = self.writes.raw(&ns.db, &doing, w.finish()).await?;
        let cursor = bson::get(reply.as_bytes(), "cursor").and_then(|e| e.document()).ok_or_else(unreadable)?;
        let batch = bson::get(cursor, "firstBatch").and_then(|e| e.array()).ok_or_else(unreadable)?;
        let id = bson::get(cursor, "id").and_then(|e| e.i64()).ok_or_else(unreadable)?;
        let mut documents = Vec::new();
        for element in bson::elements(batch).map_err(|e| unreadable().source(e))? {
            let element = element.map_err(|e| unreadable().source(e))?;
            documents.push(element.document().ok_or_else(unreadable)?.to_vec());
        }
        if id != 0 {
            let command = mongodb::bson::doc! {"killCursors": ns.collection.as_str(), "cursors": [id]};
            self.writes.command(&ns.db, &doing, command).await?;
        }
        Ok((documents, id == 0))
    }

    async fn add(&mut self, encoded: &[u8], sent: Sent) -> Result<()> {
        if self.out.is_full_for(encoded.len()) {
            self.flush().await?;
        }
        self.out.push_encoded(encoded, sent);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let out = std::mem::replace(&mut self.out, Batch::new(self.writes.takes));
        if !out.is_empty() {
            self.done.extend(self.writes.apply_ops(out).await?);
        }
        Ok(())
    }
}

fn has_key(document: &[u8], key: &Key) -> bool {
    bson::get(document, "_id").is_some_and(|id| document_hash(&[0; 16], &id) == key.1)
}

fn no_id() -> Error {
    Error::new(ErrorKind::Corrupt, "an update in the stored oplog names no document")
}

fn update(ns: &str, o: &[u8], o2: &[u8]) -> Vec<u8> {
    let mut w = Writer::with_capacity(o.len() + o2.len() + ns.len() + 64);
    w.str("op", "u").str("ns", ns).document("o", o).document("o2", o2);
    w.finish()
}
