//! A slice being made: entries are counted and compressed as they come, and bounded in memory.

use std::io::Write;

use bytes::Bytes;

use crate::artifact::bson;
use crate::domain::pitr::{Gap, Mark, OpTime};
use crate::error::{Error, ErrorKind, Result, io};
use crate::mongo::oplog::note;

/// The oplog compresses well; more effort saves little.
const LEVEL: i32 = 3;
/// A slice ends when it has so many bytes compressed, or so many before that. One entry may go over.
const STORED_LIMIT: usize = 8 << 20;
const PLAIN_LIMIT: u64 = 64 << 20;
/// Or when it counts the operations of so many seconds: they stand in its description, which has a limit of its own.
const SECONDS: usize = 50_000;
/// Marks are rare; a server that is full of them is not believed.
const MARKS: usize = 1_000;

/// What a slice holds.
pub struct Contents {
    /// The entry before the first.
    pub after: OpTime,
    /// As `after` while there is none.
    pub first: OpTime,
    pub last: OpTime,
    /// Why what lies before it is missing.
    pub gap: Option<Gap>,
    pub entries: u64,
    pub operations: u64,
    /// Bytes of BSON.
    pub uncompressed: u64,
    pub marks: Vec<Mark>,
    pub counts: Vec<(u32, u32)>,
}

/// A slice that is growing.
pub struct Builder {
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    contents: Contents,
}

impl Builder {
    /// For the entries after `after`; `gap` says why what lies before them is missing.
    pub fn new(after: OpTime, gap: Option<Gap>) -> Result<Self> {
        let failed = |e| io("starting a compressor", e);
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).map_err(failed)?;
        encoder.include_checksum(true).map_err(failed)?;
        let contents = Contents {
            after,
            first: after,
            last: after,
            gap,
            entries: 0,
            operations: 0,
            uncompressed: 0,
            marks: Vec::new(),
            counts: Vec::new(),
        };
        Ok(Self { encoder, contents })
    }

    pub fn is_empty(&self) -> bool {
        self.contents.entries == 0
    }

    pub fn is_full(&self) -> bool {
        let Contents { uncompressed, counts, .. } = &self.contents;
        *uncompressed >= PLAIN_LIMIT || self.encoder.get_ref().len() >= STORED_LIMIT || counts.len() >= SECONDS
    }

    /// The entry that the next one must follow.
    pub fn last(&self) -> OpTime {
        self.contents.last
    }

    /// Takes the entry at `at`, which must come after the last one.
    pub fn push(&mut self, at: OpTime, entry: &[u8]) -> Result<()> {
        let contents = &mut self.contents;
        if at.ts <= contents.last.ts {
            let (last, ts) = (contents.last.ts, at.ts);
            return Err(Error::new(ErrorKind::Interrupted, format!("the oplog went back from {last} to {ts}")));
        }
        self.encoder.write_all(entry).map_err(|e| io("compressing the oplog", e))?;
        if contents.entries == 0 {
            contents.first = at;
        }
        contents.last = at;
        contents.entries += 1;
        contents.uncompressed += entry.len() as u64;
        match operations(entry) {
            0 => {
                if let Some(mark) = note::read(at.ts, entry).filter(|_| contents.marks.len() < MARKS) {
                    contents.marks.push(mark);
                }
            }
            n => {
                contents.operations += u64::from(n);
                match contents.counts.last_mut() {
                    Some((second, count)) if *second == at.ts.t => *count = count.saturating_add(n),
                    _ => contents.counts.push((at.ts.t, n)),
                }
            }
        }
        Ok(())
    }

    /// What it holds, and the compressed entries.
    pub fn finish(self) -> Result<(Contents, Bytes)> {
        let data = self.encoder.finish().map_err(|e| io("compressing the oplog", e))?;
        Ok((self.contents, data.into()))
    }
}

/// How many operations an entry stands for: 0 for one that changes nothing, those of a transaction one by one.
fn operations(entry: &[u8]) -> u32 {
    match bson::get(entry, "op").and_then(|e| e.str()) {
        Some("n") => 0,
        Some("c") => {
            let list = bson::get(entry, "o").and_then(|o| bson::get(o.document()?, "applyOps")?.array());
            let nested = list.and_then(|l| bson::elements(l).ok()).map_or(1, Iterator::count);
            u32::try_from(nested).unwrap_or(u32::MAX).max(1)
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::timestamp::Timestamp;
    use mongodb::bson::{Document, doc};

    fn at(t: u32, i: u32) -> OpTime {
        OpTime { ts: Timestamp::new(t, i), term: 1 }
    }

    fn entry(d: Document) -> Vec<u8> {
        d.to_vec().unwrap()
    }

    #[test]
    fn what_changes_something_is_counted_by_second() {
        let mut builder = Builder::new(at(1, 1), None).unwrap();
        let entries = [
            (at(2, 1), entry(doc! {"op": "i", "o": {"_id": 1}})),
            (at(2, 2), entry(doc! {"op": "c", "o": {"applyOps": [{"op": "i"}, {"op": "u"}, {"op": "d"}]}})),
            (at(3, 1), entry(doc! {"op": "n", "o": {"msg": "periodic noop"}})),
            (at(9, 1), entry(doc! {"op": "c", "o": {"drop": "x"}})),
            (at(9, 2), entry(doc! {"op": "n", "o": note::of(crate::domain::pitr::MarkKind::RestoreEnded, "b")})),
        ];
        for (at, entry) in &entries {
            builder.push(*at, entry).unwrap();
        }
        assert!(builder.push(at(9, 2), &entries[0].1).is_err());
        let (made, data) = builder.finish().unwrap();
        assert_eq!((made.after, made.first, made.last), (at(1, 1), at(2, 1), at(9, 2)));
        assert_eq!((made.entries, made.operations), (5, 5));
        assert_eq!(made.counts, [(2, 4), (9, 1)]);
        assert_eq!(made.marks.len(), 1);
        assert_eq!(zstd::decode_all(&data[..]).unwrap(), entries.map(|(_, e)| e).concat());
    }

    /// Days of a server with one small operation a second are far below the other limits.
    #[test]
    fn a_slice_of_many_seconds_is_full() {
        let entry = entry(doc! {"op": "i", "o": {"_id": 1}});
        let mut builder = Builder::new(at(1, 1), None).unwrap();
        let seconds = (2..).take_while(|t| {
            builder.push(at(*t, 1), &entry).unwrap();
            !builder.is_full()
        });
        assert_eq!(seconds.take(2 * SECONDS).count() + 1, SECONDS);
    }
}
