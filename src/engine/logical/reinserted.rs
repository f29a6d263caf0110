//! Which collections may have been read wrong in natural order.
//!
//! A scan in natural order gives a document twice when it is deleted and inserted again under the same `_id` behind the
//! cursor (tried on 4.4.2, 5.0.4 and 6.0.5; a scan by `_id` cannot). Both changes are in the oplog that is captured
//! meanwhile: a collection in which a document came back while it was read is read once more, by `_id`. Reading every
//! collection by `_id` in the first place costs up to ten times as much of the server's processor where `_id` is random.
//!
//! What is watched is a superset: ids are compared by a hash, whole collections are taken for one document under a
//! collation, and where memory ends every insert counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::artifact::bson;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::oplog::entry::{Entry, Op, OpKind, Uuid};
use crate::mongo::oplog::key::{collection_hash, document_hash};

/// Deletes, and changes of open transactions, that are remembered: some 50 MB.
const MEMORY: usize = 1_000_000;

/// How deep `applyOps` may nest; the server itself allows only a few levels.
const MAX_NESTING: usize = 10;

/// A position may be told this many seconds after what it stands for could be read.
const SLACK: u32 = 2;

/// Fed with the oplog, and told which collections are being read.
pub struct Reinserted {
    state: Mutex<State>,
}

struct State {
    windows: HashMap<Uuid, Window>,
    /// By session and number: changes that take effect at a commit of their own.
    open: BTreeMap<(Vec<u8>, i64), Vec<Change>>,
    room: usize,
    /// Changes of a transaction could not be kept: they may be of any collection.
    blind: bool,
}

/// A collection that is, or was, read in natural order.
#[derive(Default)]
struct Window {
    collated: bool,
    /// Nothing later was read.
    until: Option<Timestamp>,
    deleted: HashSet<u64>,
    /// Not every delete could be remembered.
    full: bool,
    again: bool,
}

#[derive(Clone, Copy)]
struct Change {
    uuid: Uuid,
    inserts: bool,
    /// `None`: any document of it.
    key: Option<u64>,
}

impl Default for Reinserted {
    fn default() -> Self {
        Self::with_room_for(MEMORY)
    }
}

impl Reinserted {
    fn with_room_for(room: usize) -> Self {
        Self { state: Mutex::new(State { windows: HashMap::new(), open: BTreeMap::new(), room, blind: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reading of a collection in natural order is about to begin.
    pub fn begin(&self, uuid: Uuid, collated: bool) {
        self.state().windows.insert(uuid, Window { collated, ..Window::default() });
    }

    /// It has ended; the member had then applied everything up to `applied`.
    pub fn end(&self, uuid: &Uuid, applied: Timestamp) {
        if let Some(window) = self.state().windows.get_mut(uuid) {
            window.until = Some(Timestamp::new(applied.t.saturating_add(SLACK), u32::MAX));
        }
    }

    /// It was read by `_id` after all, or is gone.
    pub fn forget(&self, uuid: &Uuid) {
        let mut state = self.state();
        if let Some(window) = state.windows.remove(uuid) {
            state.room += window.deleted.len();
        }
    }

    /// The collections to be read again.
    pub fn found(&self) -> HashSet<Uuid> {
        let state = self.state();
        state.windows.iter().filter(|(_, w)| w.again || state.blind).map(|(uuid, _)| *uuid).collect()
    }

    /// Takes the next entry of the oplog.
    ///
    /// Errors: `Corrupt`, `Unsupported` for an entry that could not be restored either.
    pub fn feed(&self, entry: &[u8]) -> Result<()> {
        let mut state = self.state();
        // Of most entries that is all there is to know.
        if !bson::get(entry, "op").is_some_and(|e| matches!(e.str(), Some("i" | "d" | "c"))) {
            return Ok(());
        }
        let entry = Entry::parse(entry)?;
        state.take(&entry)
    }
}

impl State {
    fn take(&mut self, entry: &Entry<'_>) -> Result<()> {
        let op = &entry.op;
        if op.kind != OpKind::Command {
            self.change(entry.ts, op);
            return Ok(());
        }
        let key = match (entry.lsid, entry.txn_number) {
            (Some(lsid), Some(number)) if entry.multi_op_type != 1 => Some((lsid.to_vec(), number)),
            _ => None,
        };
        match (op.command().map(|(name, _)| name), key) {
            (Some("applyOps"), None) => self.nested(entry.ts, op, None, 0),
            (Some("applyOps"), Some(key)) => {
                let flag = |name| bson::get(op.o, name).is_some_and(|e| e.truthy());
                let waits = flag("partialTxn") || flag("prepare");
                if entry.previous.is_none() {
                    self.forget(&key);
                }
                // What came before in the same transaction takes effect first.
                if !waits {
                    self.commit(entry.ts, &key);
                }
                self.nested(entry.ts, op, waits.then_some(&key), 0)
            }
            (Some("commitTransaction"), Some(key)) => {
                self.commit(entry.ts, &key);
                Ok(())
            }
            (Some("abortTransaction"), Some(key)) => {
                self.forget(&key);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The operations of an `applyOps`, at once or when the transaction `waits` commits.
    fn nested(&mut self, ts: Timestamp, op: &Op<'_>, waits: Option<&(Vec<u8>, i64)>, depth: usize) -> Result<()> {
        if depth > MAX_NESTING {
            return Err(Error::new(ErrorKind::Corrupt, format!("the oplog entry at {ts} nests too deeply")));
        }
        for operation in op.nested()? {
            let op = Op::parse(operation?)?;
            match (op.kind, waits) {
                (OpKind::Command, _) if op.command().is_some_and(|(name, _)| name == "applyOps") => {
                    self.nested(ts, &op, waits, depth + 1)?;
                }
                (_, None) => self.change(ts, &op),
                (_, Some(key)) => self.wait(key, &op),
            }
        }
        Ok(())
    }

    fn change(&mut self, ts: Timestamp, op: &Op<'_>) {
        if let Some(change) = Change::of(op) {
            self.apply(ts, change);
        }
    }

    fn wait(&mut self, key: &(Vec<u8>, i64), op: &Op<'_>) {
        let Some(change) = Change::of(op) else { return };
        if self.room > 0 {
            self.room -= 1;
            self.open.entry(key.clone()).or_default().push(change);
        } else {
            self.blind = true;
        }
    }

    fn forget(&mut self, key: &(Vec<u8>, i64)) {
        self.room += self.open.remove(key).map_or(0, |changes| changes.len());
    }

    fn commit(&mut self, ts: Timestamp, key: &(Vec<u8>, i64)) {
        let changes = self.open.remove(key).unwrap_or_default();
        self.room += changes.len();
        for change in changes {
            self.apply(ts, change);
        }
    }

    fn apply(&mut self, ts: Timestamp, change: Change) {
        let Some(window) = self.windows.get_mut(&change.uuid) else { return };
        if window.again || window.until.is_some_and(|until| ts > until) {
            self.room += std::mem::take(&mut window.deleted).len();
            return;
        }
        let key = change.key.filter(|_| !window.collated).unwrap_or_else(|| collection_hash(&change.uuid));
        if change.inserts {
            window.again = window.full || window.deleted.contains(&key);
        } else if self.room == 0 {
            window.full = true;
        } else if window.deleted.insert(key) {
            self.room -= 1;
        }
    }
}

impl Change {
    fn of(op: &Op<'_>) -> Option<Self> {
        let inserts = match op.kind {
            OpKind::Insert => true,
            OpKind::Delete => false,
            OpKind::Update | OpKind::Command | OpKind::Noop => return None,
        };
        let uuid = op.ui?;
        Some(Self { uuid, inserts, key: op.id().map(|id| document_hash(&uuid, &id)) })
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, Document, Timestamp as T, doc};

    use super::*;

    const UUID: Uuid = [7; 16];

    fn at(t: u32) -> T {
        T { time: t, increment: 1 }
    }

    fn op(word: &str, id: impl Into<Bson>) -> Document {
        doc! {"op": word, "ns": "d.c", "ui": mongodb::bson::Uuid::from_bytes(UUID), "o": {"_id": id.into()}}
    }

    fn plain(t: u32, word: &str, id: impl Into<Bson>) -> Document {
        let mut entry = op(word, id);
        entry.insert("ts", at(t));
        entry
    }

    fn transaction(t: u32, o: Document, previous: u32) -> Document {
        let previous = T { time: previous, increment: u32::from(previous > 0) };
        doc! {
            "op": "c", "ns": "admin.$cmd", "o": o, "ts": at(t), "lsid": {"id": 1}, "txnNumber": 3_i64,
            "prevOpTime": {"ts": previous, "t": 1_i64},
        }
    }

    fn feed(watch: &Reinserted, entries: &[Document]) {
        for entry in entries {
            watch.feed(&entry.to_vec().unwrap()).unwrap();
        }
    }

    fn is_found(collated: bool, room: usize, entries: &[Document]) -> bool {
        let watch = Reinserted::with_room_for(room);
        watch.begin(UUID, collated);
        feed(&watch, entries);
        watch.found().contains(&UUID)
    }

    #[test]
    fn what_comes_back_while_it_is_read() {
        let decimal = || Bson::Decimal128("1.00".parse().unwrap());
        assert!(is_found(false, 9, &[plain(1, "d", 1), plain(2, "i", 1)]));
        assert!(is_found(false, 9, &[plain(1, "d", 1), plain(2, "i", decimal())]));
        assert!(!is_found(false, 9, &[plain(1, "d", 1), plain(2, "i", 2)]));
        assert!(!is_found(false, 9, &[plain(1, "i", 1), plain(2, "d", 1)]));
        assert!(!is_found(false, 9, &[plain(1, "d", "été"), plain(2, "i", "Ete")]));
        assert!(is_found(true, 9, &[plain(1, "d", "été"), plain(2, "i", "Ete")]));
        // Memory ends: then any insert counts.
        assert!(is_found(false, 1, &[plain(1, "d", 1), plain(1, "d", 2), plain(2, "i", 2)]));
        assert!(!is_found(false, 1, &[plain(1, "d", 1), plain(1, "d", 2)]));
    }

    #[test]
    fn only_what_happens_while_it_is_read_counts() {
        let watch = Reinserted::default();
        feed(&watch, &[plain(1, "d", 1)]);
        watch.begin(UUID, false);
        feed(&watch, &[plain(2, "i", 1), plain(3, "d", 1)]);
        watch.end(&UUID, Timestamp::new(4, 1));
        feed(&watch, &[plain(9, "i", 1)]);
        assert!(watch.found().is_empty());
        watch.begin(UUID, false);
        feed(&watch, &[plain(10, "d", 1), plain(11, "i", 1)]);
        assert!(watch.found().contains(&UUID));
        watch.forget(&UUID);
        assert!(watch.found().is_empty());
    }

    #[test]
    fn transactions_count_when_they_commit() {
        let both = || doc! {"applyOps": [op("d", 1), op("i", 1)]};
        let with = |mut o: Document, key: &str| {
            o.insert(key, true);
            o
        };
        assert!(is_found(false, 9, &[transaction(1, both(), 0)]));
        let prepared = transaction(1, with(both(), "prepare"), 0);
        let commit = transaction(2, doc! {"commitTransaction": 1}, 1);
        let abort = transaction(2, doc! {"abortTransaction": 1}, 1);
        assert!(is_found(false, 9, &[prepared.clone(), commit.clone()]));
        assert!(!is_found(false, 9, std::slice::from_ref(&prepared)));
        assert!(!is_found(false, 9, &[prepared.clone(), abort, commit.clone()]));
        // Prepared before the reading began, committed during it.
        let watch = Reinserted::default();
        feed(&watch, &[prepared]);
        watch.begin(UUID, false);
        feed(&watch, &[commit]);
        assert!(watch.found().contains(&UUID));
        // One of several entries, deleted in the first and inserted in the last.
        let first = transaction(1, with(doc! {"applyOps": [op("d", 1)]}, "partialTxn"), 0);
        let last = transaction(2, doc! {"applyOps": [op("i", 1)]}, 1);
        assert!(is_found(false, 9, &[first.clone(), last.clone()]));
        assert!(is_found(false, 0, &[first, last]));
    }
}
