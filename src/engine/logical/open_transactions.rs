//! Which transactions a captured oplog leaves open, and which began before it.
//!
//! Looks only at what connects the entries of a transaction. What they do is the restore's business; an entry of an
//! unknown kind is stored like any other and never stops a backup.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::manifest::OpenTransaction;
use crate::artifact::bson;
use crate::domain::timestamp::Timestamp;

/// `lsid` as BSON, and `txnNumber`.
type Id = (Vec<u8>, i64);

#[derive(Debug, Clone, Copy)]
struct State {
    first_ts: Timestamp,
    prepared: bool,
}

/// Fed with every entry, in order.
#[derive(Debug, Default)]
pub struct Tracker {
    open: BTreeMap<Id, State>,
    /// Where the chain of a transaction leads that began before the first entry fed: to be followed to its root.
    reach_back: BTreeMap<Id, Timestamp>,
}

/// What connects one entry of a transaction with the others.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    id: Id,
    ts: Timestamp,
    /// None: this is its first entry.
    previous: Option<Timestamp>,
    step: Step,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Partial,
    Prepare,
    /// Committed or aborted.
    End,
}

impl Tracker {
    /// Takes the next entry; `begin` is the first position that is captured.
    pub fn feed(&mut self, entry: &[u8], begin: Timestamp) {
        let Some(link) = link(entry) else { return };
        if let Some(previous) = link.previous
            && previous < begin
        {
            self.reach_back.entry(link.id.clone()).or_insert(previous);
        }
        match link.step {
            Step::End => {
                self.open.remove(&link.id);
            }
            step => {
                let first_ts = link.previous.unwrap_or(link.ts);
                let state = self.open.entry(link.id).or_insert(State { first_ts, prepared: false });
                state.prepared |= step == Step::Prepare;
            }
        }
    }

    /// Positions before the capture that are part of transactions in it.
    pub fn reach_back(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.reach_back.values().copied()
    }

    /// The transactions open after the last entry.
    pub fn open(&self) -> Vec<OpenTransaction> {
        let open = self.open.iter().map(|((lsid, txn_number), state)| OpenTransaction {
            lsid: STANDARD.encode(lsid),
            txn_number: *txn_number,
            first_ts: state.first_ts,
            prepared: state.prepared,
        });
        open.collect()
    }
}

/// The position of the entry before `entry` in its transaction; `None` for the first entry, and for one that is part of
/// no transaction.
pub fn previous(entry: &[u8]) -> Option<Timestamp> {
    link(entry)?.previous
}

fn link(entry: &[u8]) -> Option<Link> {
    // Most entries are no commands, and this is called for each: look at that first.
    if bson::get(entry, "op")?.str() != Some("c") {
        return None;
    }
    let o = bson::get(entry, "o")?.document()?;
    let command = bson::elements(o).ok()?.next()?.ok()?;
    let flag = |key| bson::get(o, key).is_some_and(|e| e.truthy());
    let step = match command.key {
        // 1: a vectored insert, which looks like a transaction and is none.
        b"applyOps" if bson::get(entry, "multiOpType").and_then(|e| e.i64()) == Some(1) => return None,
        b"applyOps" if flag("partialTxn") => Step::Partial,
        b"applyOps" if flag("prepare") => Step::Prepare,
        b"applyOps" | b"commitTransaction" | b"abortTransaction" => Step::End,
        _ => return None,
    };
    let id = (bson::get(entry, "lsid")?.document()?.to_vec(), bson::get(entry, "txnNumber")?.i64()?);
    let previous = bson::get(entry, "prevOpTime").and_then(|e| bson::get(e.document()?, "ts")?.timestamp());
    let previous = previous.filter(|ts| *ts != Timestamp::MIN);
    Some(Link { id, ts: bson::get(entry, "ts")?.timestamp()?, previous, step })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Bson, Document, Timestamp as T, doc};

    fn entry(second: u32, previous: u32, txn: i64, o: Document) -> Vec<u8> {
        let prev = if previous == 0 { T { time: 0, increment: 0 } } else { T { time: previous, increment: 1 } };
        doc! {
            "lsid": {"id": txn}, "txnNumber": txn, "op": "c", "ns": "admin.$cmd", "o": o,
            "ts": T { time: second, increment: 1 }, "prevOpTime": {"ts": prev, "t": 1_i64}
        }
        .to_vec()
        .unwrap()
    }

    fn apply(flag: Option<&str>) -> Document {
        let mut o = doc! {"applyOps": Bson::Array(vec![])};
        if let Some(flag) = flag {
            o.insert(flag, true);
        }
        o
    }

    #[test]
    fn what_is_open_at_the_end_and_what_began_before() {
        let begin = Timestamp::new(10, 1);
        let mut tracker = Tracker::default();
        tracker.feed(&entry(10, 0, 1, apply(Some("partialTxn"))), begin);
        tracker.feed(&entry(11, 0, 2, apply(Some("prepare"))), begin);
        tracker.feed(&entry(12, 0, 3, apply(None)), begin);
        tracker.feed(&entry(13, 5, 4, doc! {"commitTransaction": 1}), begin);
        tracker.feed(&entry(14, 10, 1, apply(None)), begin);
        tracker.feed(&entry(15, 7, 5, doc! {"abortTransaction": 1}), begin);
        let open = tracker.open();
        assert_eq!(open.len(), 1);
        assert_eq!((open[0].txn_number, open[0].prepared, open[0].first_ts), (2, true, Timestamp::new(11, 1)));
        let back: Vec<_> = tracker.reach_back().collect();
        assert_eq!(back, [Timestamp::new(5, 1), Timestamp::new(7, 1)]);
    }

    #[test]
    fn a_vectored_insert_is_no_transaction() {
        let mut document = Document::from_reader(&mut &entry(10, 5, 1, apply(None))[..]).unwrap();
        document.insert("multiOpType", 1);
        assert_eq!(link(&document.to_vec().unwrap()), None);
        let mut tracker = Tracker::default();
        tracker.feed(&document.to_vec().unwrap(), Timestamp::new(10, 1));
        assert_eq!(tracker.reach_back().count(), 0);
    }
}
