//! How slices hang together.

use super::{Base, OpTime, Slice};
use crate::domain::timestamp::Timestamp;

/// A stretch of the oplog that is stored without a gap: every entry after `after` up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    pub after: OpTime,
    pub last: OpTime,
}

impl Coverage {
    /// Whether the state after position `ts` follows from a base at its beginning, or can be the moment of one.
    pub fn holds(&self, ts: Timestamp) -> bool {
        self.after.ts <= ts && ts <= self.last.ts
    }
}

/// Moments that can be restored: every position between the two, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Where the oldest base of the range is consistent.
    pub from_ts: Timestamp,
    pub to_ts: Timestamp,
}

/// The slices do not reach from a base to the moment asked for: nothing is stored after this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    pub at: Timestamp,
}

/// What `slices` cover, oldest first. Slices may overlap (two daemons wrote them); whether overlapping ones agree is
/// seen when they are read.
pub fn coverage<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> Vec<Coverage> {
    join(slices.into_iter().map(|s| Coverage { after: s.after, last: s.last }))
}

/// The same of pieces, which may themselves be joined ones.
pub fn join(pieces: impl IntoIterator<Item = Coverage>) -> Vec<Coverage> {
    let mut pieces: Vec<Coverage> = pieces.into_iter().filter(|c| c.after < c.last).collect();
    pieces.sort_by_key(|c| (c.after, c.last));
    let mut found: Vec<Coverage> = Vec::new();
    for piece in pieces {
        match found.last_mut() {
            // The same position in another term is another history.
            Some(last) if continues(last.last, piece.after) => last.last = last.last.max(piece.last),
            _ => found.push(piece),
        }
    }
    found
}

fn continues(last: OpTime, after: OpTime) -> bool {
    after.ts < last.ts || after == last
}

/// The ranges that bases and coverage make together, oldest first. A base whose moment is not covered makes none.
pub fn ranges(covered: &[Coverage], bases: &[Base]) -> Vec<Range> {
    covered
        .iter()
        .filter_map(|c| {
            let from_ts = bases.iter().map(|b| b.consistent_at_ts).filter(|ts| c.holds(*ts)).min()?;
            Some(Range { from_ts, to_ts: c.last.ts })
        })
        .collect()
}

/// The slices that lead from `from` (the moment of a base) to `until`, in the order in which they are read. Where
/// several cover a position, the one that reaches farthest is taken.
///
/// Errors: where nothing goes on.
pub fn path(slices: &[Slice], from: Timestamp, until: Timestamp) -> Result<Vec<&Slice>, Broken> {
    let mut waiting: Vec<&Slice> = slices.iter().filter(|s| s.after < s.last).collect();
    waiting.sort_by_key(|s| s.after);
    let mut waiting = waiting.into_iter().peekable();
    let mut chosen: Vec<&Slice> = Vec::new();
    let (mut at, mut best) = (from, None::<&Slice>);
    while at < until {
        while let Some(slice) = waiting.next_if(|s| s.after.ts <= at) {
            // The same position in another term is another history.
            let follows = chosen.last().is_none_or(|c| continues(c.last, slice.after));
            if follows && best.is_none_or(|b| slice.last.ts > b.last.ts) {
                best = Some(slice);
            }
        }
        match best.filter(|b| b.last.ts > at) {
            Some(slice) => {
                at = slice.last.ts;
                chosen.push(slice);
            }
            None => return Err(Broken { at }),
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;
    use proptest::prelude::*;

    fn slice(after: u32, last: u32) -> Slice {
        in_term(after, last, 1)
    }

    fn in_term(after: u32, last: u32, term: i64) -> Slice {
        let at = |t| OpTime { ts: Timestamp::new(t, 1), term };
        Slice {
            key: format!("{after}_{last}"),
            after: at(after),
            last: at(last),
            entries: 1,
            operations: 1,
            size: 1,
            uncompressed: 1,
            data_offset: 0,
            blake3: String::new(),
            recipients: Vec::new(),
            written_at: Utc::now(),
            gap: None,
            marks: Vec::new(),
            counts: Vec::new(),
        }
    }

    fn ts(t: u32) -> Timestamp {
        Timestamp::new(t, 1)
    }

    fn base(t: u32) -> Base {
        Base { backup: format!("b{t}"), consistent_at_ts: ts(t), model: crate::domain::backup::Model::Logical }
    }

    fn spans(slices: &[Slice]) -> Vec<(u32, u32)> {
        coverage(slices).iter().map(|c| (c.after.ts.t, c.last.ts.t)).collect()
    }

    #[test]
    fn a_gap_is_seen_and_an_overlap_is_none() {
        assert_eq!(spans(&[slice(30, 40), slice(10, 20), slice(20, 30)]), [(10, 40)]);
        assert_eq!(spans(&[slice(10, 20), slice(21, 30)]), [(10, 20), (21, 30)]);
        assert_eq!(spans(&[slice(10, 25), slice(20, 22), slice(22, 30)]), [(10, 30)]);
        // The next slice follows an entry that was never stored: the same position of another term.
        assert_eq!(spans(&[slice(10, 20), in_term(20, 30, 2)]), [(10, 20), (20, 30)]);
        assert_eq!(spans(&[]), []);
    }

    #[test]
    fn a_range_begins_at_its_oldest_base() {
        let covered = coverage(&[slice(10, 20), slice(30, 40)]);
        let found = ranges(&covered, &[base(35), base(12), base(18), base(25), base(45)]);
        let found: Vec<_> = found.iter().map(|r| (r.from_ts.t, r.to_ts.t)).collect();
        assert_eq!(found, [(12, 20), (35, 40)]);
        assert!(ranges(&covered, &[base(5), base(25)]).is_empty());
        assert_eq!(ranges(&covered, &[base(10)]).len(), 1, "a base at the very beginning of the slices");
    }

    #[test]
    fn the_way_from_a_base_to_a_moment() {
        let slices = [slice(10, 20), slice(20, 30), slice(15, 28), slice(40, 50)];
        let names =
            |from, until| path(&slices, ts(from), until).map(|p| p.iter().map(|s| s.key.as_str()).collect::<Vec<_>>());
        assert_eq!(names(12, ts(25)).unwrap(), ["10_20", "20_30"]);
        assert_eq!(names(16, ts(27)).unwrap(), ["15_28"]);
        assert_eq!(names(20, ts(20)).unwrap(), Vec::<&str>::new());
        assert_eq!(names(12, ts(35)).unwrap_err(), Broken { at: ts(30) });
        assert_eq!(names(12, Timestamp::new(29, u32::MAX)).unwrap(), ["10_20", "20_30"]);
        assert_eq!(names(5, ts(25)).unwrap_err(), Broken { at: ts(5) });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the slices are, a moment lies in a covered stretch exactly when a way leads there.
        #[test]
        fn a_way_is_found_where_it_is_covered(
            cuts in proptest::collection::vec((0u32..60, 1u32..15), 0..12),
            from in 0u32..60,
            length in 1u32..40,
        ) {
            let slices: Vec<Slice> = cuts.iter().map(|(after, length)| slice(*after, after + length)).collect();
            let until = from + length;
            let covered = coverage(&slices);
            let inside = covered.iter().any(|c| c.after.ts.t <= from && until <= c.last.ts.t);
            let way = path(&slices, ts(from), ts(until));
            prop_assert_eq!(way.is_ok(), inside);
            let mut at = ts(from);
            for slice in way.unwrap_or_default() {
                prop_assert!(slice.after.ts <= at && at < slice.last.ts);
                at = slice.last.ts;
            }
        }
    }
}
