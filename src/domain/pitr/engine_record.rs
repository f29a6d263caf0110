//! What an engine that records the oplog by itself says it has of each replica set, and what all of them have together.
//!
//! A cluster can be restored to a moment only if every replica set of it can: the window is the intersection of what each of
//! them has. One that has nothing leaves no window, however much the others have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Coverage, Gap, OpTime, join};
use crate::domain::text::escape;
use crate::domain::timestamp::Timestamp;

/// The recorded oplog of a cluster, as its engine tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineRecord {
    /// By replica set: every one of the cluster, also those of which nothing is recorded.
    pub replica_sets: BTreeMap<String, Vec<Piece>>,
}

/// A stretch without a gap: every change after `from`, up to and including `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl EngineRecord {
    /// What every replica set has, oldest first.
    pub fn covered(&self) -> Vec<Coverage> {
        let mut sets = self.replica_sets.values().map(|pieces| joined(pieces));
        let Some(first) = sets.next() else { return Vec::new() };
        sets.fold(first, |common, set| intersection(&common, &set))
    }

    /// What is missing between the stretches that every replica set has, and of which of them.
    pub fn gaps(&self) -> Vec<Gap> {
        let covered = self.covered();
        let between = covered.iter().zip(covered.iter().skip(1));
        between
            .map(|(before, after)| {
                let (from_ts, to_ts) = (before.last.ts, after.after.ts);
                let holds = |c: &Coverage| c.after.ts <= from_ts && to_ts <= c.last.ts;
                let lacking = self.replica_sets.iter().filter(|(_, pieces)| !joined(pieces).iter().any(holds));
                let names: Vec<String> = lacking.map(|(name, _)| escape(name)).collect();
                Gap { from_ts, to_ts, reason: format!("nothing is recorded in between of {}", names.join(", ")) }
            })
            .collect()
    }

    /// The replica sets of which nothing is recorded at all.
    pub fn without_any(&self) -> Vec<&str> {
        self.replica_sets
            .iter()
            .filter(|(_, pieces)| joined(pieces).is_empty())
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Where the oldest stretch of any replica set begins.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.replica_sets.values().flatten().map(|piece| piece.from).min()
    }

    /// The last position that every replica set has.
    pub fn newest(&self) -> Option<Timestamp> {
        self.covered().last().map(|c| c.last.ts)
    }
}

fn joined(pieces: &[Piece]) -> Vec<Coverage> {
    let at = |ts| OpTime { ts, term: OpTime::UNKNOWN_TERM };
    join(pieces.iter().map(|piece| Coverage { after: at(piece.from), last: at(piece.to) }))
}

/// Both are in order, and neither overlaps itself.
fn intersection(a: &[Coverage], b: &[Coverage]) -> Vec<Coverage> {
    let common = |x: &Coverage, y: &Coverage| Coverage { after: x.after.max(y.after), last: x.last.min(y.last) };
    let all = a.iter().flat_map(|x| b.iter().map(move |y| common(x, y)));
    let mut found: Vec<Coverage> = all.filter(|c| c.after < c.last).collect();
    found.sort_by_key(|c| (c.after, c.last));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(sets: &[(&str, &[(u32, u32)])]) -> EngineRecord {
        let piece = |(from, to): &(u32, u32)| Piece { from: Timestamp::new(*from, 0), to: Timestamp::new(*to, 0) };
        let sets = sets.iter().map(|(name, pieces)| ((*name).to_owned(), pieces.iter().map(piece).collect()));
        EngineRecord { replica_sets: sets.collect() }
    }

    fn spans(record: &EngineRecord) -> Vec<(u32, u32)> {
        record.covered().iter().map(|c| (c.after.ts.t, c.last.ts.t)).collect()
    }

    #[test]
    fn the_window_is_what_every_replica_set_has() {
        assert_eq!(spans(&record(&[("a", &[(10, 40)])])), [(10, 40)]);
        assert_eq!(spans(&record(&[("a", &[(10, 40)]), ("b", &[(15, 30)]), ("c", &[(5, 35)])])), [(15, 30)]);
        // The example in PBM's own source.
        let three =
            record(&[("a", &[(1, 4), (7, 11), (16, 20)]), ("b", &[(3, 12), (15, 17)]), ("c", &[(1, 12), (16, 18)])]);
        assert_eq!(spans(&three), [(3, 4), (7, 11), (16, 17)]);
        // PBM leaves a replica set without any chunk out, and so calls restorable what is not.
        let none = record(&[("a", &[(10, 40)]), ("b", &[])]);
        assert_eq!((spans(&none), none.without_any()), (vec![], vec!["b"]));
        assert_eq!(none.newest(), None);
        assert_eq!(spans(&EngineRecord::default()), []);
        // Pieces that follow each other are one.
        assert_eq!(spans(&record(&[("a", &[(10, 20), (20, 30)]), ("b", &[(12, 28)])])), [(12, 28)]);
    }

    #[test]
    fn a_gap_names_the_replica_sets_that_lack_it() {
        let of = |sets: &[(&str, &[(u32, u32)])]| {
            let gaps = record(sets).gaps();
            gaps.into_iter().map(|g| (g.from_ts.t, g.to_ts.t, g.reason)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("a", &[(10, 40)]), ("b", &[(10, 40)])]), []);
        let one = of(&[("a", &[(10, 40)]), ("b", &[(10, 20), (25, 40)])]);
        assert_eq!(one, [(20, 25, "nothing is recorded in between of b".to_owned())]);
        let both = of(&[("a", &[(10, 18), (26, 40)]), ("b", &[(10, 20), (25, 40)])]);
        assert_eq!(both, [(18, 26, "nothing is recorded in between of a, b".to_owned())]);
        // What lies before the first that all have is no gap.
        assert_eq!(of(&[("a", &[(1, 5), (10, 40)]), ("b", &[(10, 40)])]), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A moment lies in the window exactly when it lies within a stretch of every replica set.
        #[test]
        fn a_moment_is_covered_where_all_have_it(
            a in proptest::collection::vec((0u32..40, 1u32..10), 0..6),
            b in proptest::collection::vec((0u32..40, 1u32..10), 0..6),
            from in 0u32..40,
            length in 1u32..8,
        ) {
            let ends = |pieces: Vec<(u32, u32)>| pieces.into_iter().map(|(f, l)| (f, f + l)).collect::<Vec<_>>();
            let (a, b) = (ends(a), ends(b));
            let both = record(&[("a", &a), ("b", &b)]);
            let holds = |r: &EngineRecord| r.covered().iter().any(|c| c.after.ts.t <= from && from + length <= c.last.ts.t);
            prop_assert_eq!(holds(&both), holds(&record(&[("a", &a)])) && holds(&record(&[("b", &b)])));
        }
    }
}
