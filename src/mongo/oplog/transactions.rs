//! Transactions, put together from their entries.
//!
//! What a transaction did takes effect at its commit: a small one is a single `applyOps` entry; one over 16 MiB is a
//! chain of entries with `partialTxn`; a prepared one waits for `commitTransaction` or `abortTransaction`. Until then
//! its operations are kept, in memory up to a limit over all transactions and in an unlinked temporary file above it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use super::entry::{Entry, Op, OpKind};
use crate::artifact::bson::{self, frame_length};
use crate::domain::timestamp::Timestamp;
use crate::error::{self, Error, ErrorKind, Result};

/// Bytes of open transactions that are kept in memory.
const MEMORY_LIMIT: usize = 32 << 20;

/// How deep `applyOps` may nest; the server itself allows only a few levels.
const MAX_NESTING: usize = 10;

/// A transaction that has neither committed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The BSON of `lsid`.
    pub lsid: Vec<u8>,
    pub txn_number: i64,
    pub first_ts: Timestamp,
    pub prepared: bool,
}

#[derive(Debug)]
struct Buffer {
    first_ts: Timestamp,
    prepared: bool,
    operations: Spill,
}

/// Concatenated documents, first in memory, then in a file.
#[derive(Debug, Default)]
struct Spill {
    memory: Vec<u8>,
    file: Option<File>,
}

impl Spill {
    fn push(&mut self, document: &[u8], to_file: bool) -> Result<()> {
        if to_file || self.file.is_some() {
            let failed = |e| error::io("keeping an open transaction in a temporary file", e);
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(tempfile::tempfile().map_err(failed)?),
            };
            if !self.memory.is_empty() {
                file.write_all(&self.memory).map_err(failed)?;
                self.memory = Vec::new();
            }
            return file.write_all(document).map_err(failed);
        }
        self.memory.extend_from_slice(document);
        Ok(())
    }

    fn for_each(self, mut apply: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if let Some(mut file) = self.file {
            let failed = |e| error::io("reading an open transaction back from its temporary file", e);
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            let mut reader = BufReader::with_capacity(1 << 20, file);
            let mut document = Vec::new();
            loop {
                let mut head = [0u8; 4];
                match reader.read_exact(&mut head) {
                    Ok(()) => {}
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
                    Err(e) => return Err(failed(e)),
                }
                let length =
                    frame_length(&head).map_err(|e| Error::new(ErrorKind::Internal, "a temporary file").source(e))?;
                document.clear();
                document.extend_from_slice(&head);
                document.resize(length, 0);
                reader.read_exact(&mut document[4..]).map_err(failed)?;
                apply(&document)?;
            }
        }
        let mut rest = self.memory.as_slice();
        while !rest.is_empty() {
            let length = frame_length(rest).map_err(|e| Error::new(ErrorKind::Internal, "a buffer").source(e))?;
            let (document, after) = rest.split_at(length);
            apply(document)?;
            rest = after;
        }
        Ok(())
    }
}

/// What is done with each operation, at the position where it takes effect.
pub type Apply<'f> = dyn FnMut(Timestamp, &Op<'_>) -> Result<()> + 'f;

/// Turns entries into the operations that take effect, in order.
#[derive(Debug)]
pub struct Transactions {
    open: BTreeMap<(Vec<u8>, i64), Buffer>,
    memory: usize,
    limit: usize,
    settled: Timestamp,
}

impl Default for Transactions {
    fn default() -> Self {
        Self::with_memory_limit(MEMORY_LIMIT)
    }
}

impl Transactions {
    /// Keeps at most about `limit` bytes of open transactions in memory.
    pub fn with_memory_limit(limit: usize) -> Self {
        Self { open: BTreeMap::new(), memory: 0, limit, settled: Timestamp::MIN }
    }

    /// What took effect before `settled` is in the documents that were read: a transaction that ended before it may lack its
    /// beginning. (The oplog reaches back to where the oldest one began that was open then; others ended in between.)
    pub fn settled_before(self, settled: Timestamp) -> Self {
        Self { settled, ..self }
    }

    /// Takes the next entry and gives `apply` what takes effect with it.
    ///
    /// Errors: `Corrupt` when the oplog lacks the beginning of a transaction; what `apply` returns.
    pub fn feed(&mut self, entry: &Entry<'_>, apply: &mut Apply<'_>) -> Result<()> {
        let ts = entry.ts;
        let op = &entry.op;
        match op.kind {
            OpKind::Noop => return Ok(()),
            OpKind::Insert | OpKind::Update | OpKind::Delete => return apply(ts, op),
            OpKind::Command => {}
        }
        let command = op.command().map(|(name, _)| name).unwrap_or_default();
        let transaction = match (entry.lsid, entry.txn_number) {
            (Some(lsid), Some(number)) if entry.multi_op_type != 1 => Some((lsid.to_vec(), number)),
            _ => None,
        };
        match (command, transaction) {
            ("applyOps", None) => flatten(ts, op, 0, apply),
            ("applyOps", Some(key)) => {
                let flag = |name| bson::get(op.o, name).is_some_and(|e| e.truthy());
                let (partial, prepare) = (flag("partialTxn"), flag("prepare"));
                if entry.previous.is_none() {
                    self.forget(&key);
                } else if !self.open.contains_key(&key) {
                    return self.without_beginning(ts);
                }
                if !partial && !prepare && !self.open.contains_key(&key) {
                    return flatten(ts, op, 0, apply);
                }
                self.keep(&key, entry, prepare)?;
                if partial || prepare { Ok(()) } else { self.commit(ts, &key, apply) }
            }
            ("commitTransaction", Some(key)) => {
                if !self.open.contains_key(&key) {
                    return self.without_beginning(ts);
                }
                self.commit(ts, &key, apply)
            }
            // One whose operations were never written is aborted without a beginning.
            ("abortTransaction", Some(key)) => {
                self.forget(&key);
                Ok(())
            }
            _ => apply(ts, op),
        }
    }

    fn without_beginning(&self, ts: Timestamp) -> Result<()> {
        if ts < self.settled { Ok(()) } else { Err(lacks_beginning(ts)) }
    }

    fn keep(&mut self, key: &(Vec<u8>, i64), entry: &Entry<'_>, prepare: bool) -> Result<()> {
        let buffer = self.open.entry(key.clone()).or_insert_with(|| Buffer {
            first_ts: entry.ts,
            prepared: false,
            operations: Spill::default(),
        });
        buffer.prepared |= prepare;
        for document in entry.op.nested()? {
            let document = document?;
            let before = buffer.operations.memory.len();
            buffer.operations.push(document, self.memory + document.len() > self.limit)?;
            self.memory = self.memory + buffer.operations.memory.len() - before;
        }
        Ok(())
    }

    fn take(&mut self, key: &(Vec<u8>, i64)) -> Option<Buffer> {
        let buffer = self.open.remove(key)?;
        self.memory -= buffer.operations.memory.len();
        Some(buffer)
    }

    fn forget(&mut self, key: &(Vec<u8>, i64)) {
        self.take(key);
    }

    fn commit(&mut self, ts: Timestamp, key: &(Vec<u8>, i64), apply: &mut Apply<'_>) -> Result<()> {
        let Some(buffer) = self.take(key) else { return Ok(()) };
        buffer.operations.for_each(|document| nested(ts, document, 0, apply))
    }

    /// The transactions that are open now, oldest first.
    pub fn open(&self) -> Vec<Open> {
        let mut all: Vec<Open> = self
            .open
            .iter()
            .map(|((lsid, txn_number), b)| Open {
                lsid: lsid.clone(),
                txn_number: *txn_number,
                first_ts: b.first_ts,
                prepared: b.prepared,
            })
            .collect();
        all.sort_by_key(|o| o.first_ts);
        all
    }
}

fn lacks_beginning(ts: Timestamp) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the stored oplog lacks the beginning of a transaction that ends at {ts}"))
}

fn flatten(ts: Timestamp, op: &Op<'_>, depth: usize, apply: &mut Apply<'_>) -> Result<()> {
    if depth > MAX_NESTING {
        return Err(Error::new(ErrorKind::Corrupt, format!("the oplog entry at {ts} nests too deeply")));
    }
    for document in op.nested()? {
        nested(ts, document?, depth, apply)?;
    }
    Ok(())
}

fn nested(ts: Timestamp, document: &[u8], depth: usize, apply: &mut Apply<'_>) -> Result<()> {
    let op = Op::parse(document)?;
    match op.kind {
        OpKind::Noop => Ok(()),
        OpKind::Command if op.command().is_some_and(|(name, _)| name == "applyOps") => {
            flatten(ts, &op, depth + 1, apply)
        }
        _ => apply(ts, &op),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Document, Timestamp as T, doc};

    fn insert(id: i32) -> Document {
        doc! {"op": "i", "ns": "a.b", "o": {"_id": id, "pad": "x".repeat(100)}}
    }

    /// A command of session `s`, transaction `n`; `first` begins a chain.
    fn entry(ts: u32, s: i32, n: i64, first: bool, o: Document) -> Document {
        let previous = T { time: if first { 0 } else { ts - 1 }, increment: 0 };
        doc! {
            "op": "c", "ns": "admin.$cmd", "lsid": {"id": s}, "txnNumber": n, "ts": T{time: ts, increment: 0},
            "o": o, "prevOpTime": {"ts": previous, "t": 1i64}
        }
    }

    type Seen = (Vec<(u32, i64)>, Vec<Open>);

    fn run(limit: usize, entries: &[Document]) -> Result<Seen> {
        let mut transactions = Transactions::with_memory_limit(limit);
        let mut seen = Vec::new();
        for entry in entries {
            let bytes = entry.to_vec().unwrap();
            transactions.feed(&Entry::parse(&bytes)?, &mut |ts, op| {
                seen.push((ts.t, op.id().and_then(|e| e.i64()).unwrap_or(-1)));
                Ok(())
            })?;
        }
        assert!(transactions.memory <= limit);
        Ok((seen, transactions.open()))
    }

    #[test]
    fn effects_come_at_the_commit() {
        let entries = [
            entry(1, 1, 1, true, doc! {"applyOps": [insert(1), insert(2)], "partialTxn": true}),
            entry(2, 2, 1, true, doc! {"applyOps": [insert(10)]}),
            entry(3, 3, 7, true, doc! {"applyOps": [insert(20)], "prepare": true}),
            entry(4, 1, 1, false, doc! {"applyOps": [insert(3)], "count": 3i64}),
            entry(5, 4, 1, true, doc! {"applyOps": [insert(30)], "prepare": true}),
            entry(6, 4, 1, false, doc! {"abortTransaction": 1}),
            entry(7, 3, 7, false, doc! {"commitTransaction": 1}),
            entry(8, 5, 2, true, doc! {"applyOps": [insert(40)], "partialTxn": true}),
        ];
        let expected = vec![(2, 10), (4, 1), (4, 2), (4, 3), (7, 20)];
        // In memory, in files, and on the edge between.
        for limit in [1 << 20, 0, 200] {
            let (seen, open) = run(limit, &entries).unwrap();
            assert_eq!(seen, expected, "limit {limit}");
            assert_eq!(open.len(), 1);
            assert_eq!((open[0].txn_number, open[0].first_ts.t, open[0].prepared), (2, 8, false));
        }
    }

    #[test]
    fn a_vectored_insert_is_no_transaction() {
        let mut vectored = entry(1, 1, 1, true, doc! {"applyOps": [insert(1), insert(2)], "partialTxn": true});
        vectored.insert("multiOpType", 1);
        assert_eq!(run(0, &[vectored]).unwrap(), (vec![(1, 1), (1, 2)], vec![]));
    }

    #[test]
    fn nested_apply_ops_are_flattened() {
        let inner = doc! {"op": "c", "ns": "a.$cmd", "o": {"applyOps": [insert(1), {"op": "n", "ns": "", "o": {}}]}};
        let outer =
            doc! {"op": "c", "ns": "a.$cmd", "ts": T{time: 1, increment: 0}, "o": {"applyOps": [inner, insert(2)]}};
        assert_eq!(run(0, &[outer]).unwrap().0, [(1, 1), (1, 2)]);
    }

    #[test]
    fn a_lost_beginning_is_an_error() {
        for o in [doc! {"commitTransaction": 1}, doc! {"applyOps": [insert(1)]}] {
            assert_eq!(run(0, &[entry(5, 1, 1, false, o)]).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert!(run(0, &[entry(5, 1, 1, false, doc! {"abortTransaction": 1})]).is_ok());
    }

    /// Prepared transactions that overlap: P4 P3 C4 P1 (the capture begins here) C3 ... The stored oplog begins at P3.
    #[test]
    fn what_ended_before_anything_was_read_may_lack_its_beginning() {
        let entries = [
            entry(2, 3, 1, true, doc! {"applyOps": [insert(3)], "prepare": true}),
            entry(3, 4, 1, false, doc! {"applyOps": [insert(4)], "prepare": true}),
            entry(4, 4, 1, false, doc! {"commitTransaction": 1}),
            entry(6, 3, 1, false, doc! {"commitTransaction": 1}),
        ];
        let feed = |settled: u32| {
            let mut transactions = Transactions::default().settled_before(Timestamp::new(settled, 0));
            let mut seen = Vec::new();
            for entry in &entries {
                let bytes = entry.to_vec().unwrap();
                transactions.feed(&Entry::parse(&bytes)?, &mut |ts, op| {
                    seen.push((ts.t, op.id().and_then(|e| e.i64()).unwrap_or(-1)));
                    Ok(())
                })?;
            }
            Ok::<_, Error>(seen)
        };
        assert_eq!(feed(5).unwrap(), [(6, 3)]);
        assert_eq!(feed(4).unwrap_err().kind(), ErrorKind::Corrupt, "it ended when documents were read");
    }

    #[test]
    fn a_chain_that_begins_again_replaces_the_old_one() {
        let entries = [
            entry(1, 1, 1, true, doc! {"applyOps": [insert(1)], "partialTxn": true}),
            entry(2, 1, 1, true, doc! {"applyOps": [insert(2)], "partialTxn": true}),
            entry(3, 1, 1, false, doc! {"applyOps": [insert(3)]}),
        ];
        assert_eq!(run(0, &entries).unwrap().0, [(3, 2), (3, 3)]);
    }
}
