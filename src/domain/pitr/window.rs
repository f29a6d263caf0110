//! Which slices are of no use any more.
//!
//! A slice is of use to the bases before its end. A schedule that records says which bases its rules keep, and the window
//! that can be recovered begins at the oldest of them. The plan is a value; what is carried out is made anew each time.

use super::{Base, Coverage, Range, ranges};
use crate::domain::timestamp::Timestamp;

/// A schedule that records into an archive, on or off, as far as its window is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeps {
    /// Nothing is ever deleted.
    pub all: bool,
    /// So many bases the rules want at least.
    pub wanted: usize,
    /// The moments of its bases that the rules keep; not those that are only pinned or in use.
    pub kept: Vec<Timestamp>,
}

/// Slices that begin at or after `from` and end at or before `to` are of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Useless {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// The moment where the window of an archive begins; `None`: nothing goes.
///
/// `bases`: the moments of all bases of its replica set; `in_use`: those of the bases that a restore is going to read.
pub fn window(
    covered: &[Coverage],
    bases: &[Timestamp],
    in_use: &[Timestamp],
    schedules: &[Keeps],
) -> Option<Timestamp> {
    let inside = |ts: &&Timestamp| covered.iter().any(|c| c.holds(**ts));
    let mut begin: Option<Timestamp> = None;
    for schedule in schedules {
        if schedule.all {
            return None;
        }
        let mut own = schedule.kept.iter().min().copied();
        if schedule.kept.len() < schedule.wanted.max(1) {
            // As long as it has few of its own, those of others and those made by hand count.
            own = own.into_iter().chain(bases.iter().filter(inside).min().copied()).min();
        }
        // A schedule without any base loses nothing: its first may still be found, or be on its way.
        let own = own?;
        begin = Some(begin.map_or(own, |begin| begin.min(own)));
    }
    Some(in_use.iter().copied().chain([begin?]).min().unwrap_or(begin?))
}

/// What is of no use in an archive. Without a schedule that records into it, that is what no base leads to.
pub fn useless(covered: &[Coverage], bases: &[Timestamp], in_use: &[Timestamp], schedules: &[Keeps]) -> Vec<Useless> {
    if !schedules.is_empty() {
        // The newest slice stays in any case: recording goes on from it.
        let newest = covered.iter().map(|c| c.last.ts).max();
        let begin = window(covered, bases, in_use, schedules).zip(newest);
        return begin
            .map(|(to, newest)| Useless { from: Timestamp::MIN, to: to.min(before(newest)) })
            .into_iter()
            .collect();
    }
    let each = covered.iter().map(|c| {
        let oldest = bases.iter().filter(|ts| c.holds(**ts)).min();
        Useless { from: c.after.ts, to: oldest.copied().unwrap_or(c.last.ts) }
    });
    each.collect()
}

/// The position just before `ts`.
fn before(ts: Timestamp) -> Timestamp {
    match ts.i.checked_sub(1) {
        Some(i) => Timestamp::new(ts.t, i),
        None => Timestamp::new(ts.t.saturating_sub(1), u32::MAX),
    }
}

/// The moments that can no longer be restored when `base` is gone: from the first up to, and without, the last. Those
/// of a stretch that no other base leads to go to its end.
pub fn lost(covered: &[Coverage], bases: &[Base], base: &str) -> Vec<Range> {
    let others: Vec<Base> = bases.iter().filter(|b| b.backup != base).cloned().collect();
    let after = ranges(covered, &others);
    let gone = ranges(covered, bases).into_iter().filter_map(|before| {
        let left = after.iter().find(|r| before.from_ts <= r.from_ts && r.from_ts <= before.to_ts);
        let to_ts = left.map_or(before.to_ts, |r| r.from_ts);
        (before.from_ts < to_ts || left.is_none()).then_some(Range { from_ts: before.from_ts, to_ts })
    });
    gone.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::OpTime;
    use super::*;

    fn ts(t: u32) -> Timestamp {
        Timestamp::new(t, 1)
    }

    fn piece(after: u32, last: u32) -> Coverage {
        let at = |t| OpTime { ts: ts(t), term: 1 };
        Coverage { after: at(after), last: at(last) }
    }

    fn all(moments: &[u32]) -> Vec<Timestamp> {
        moments.iter().map(|t| ts(*t)).collect()
    }

    fn keeps(wanted: usize, kept: &[u32]) -> Keeps {
        Keeps { all: false, wanted, kept: all(kept) }
    }

    #[test]
    fn the_window_begins_at_the_oldest_base_that_the_rules_keep() {
        let covered = [piece(10, 50), piece(60, 99)];
        let bases = all(&[5, 15, 20, 70, 80]);
        let begin =
            |schedules: &[Keeps], in_use: &[u32]| window(&covered, &bases, &all(in_use), schedules).map(|ts| ts.t);
        assert_eq!(begin(&[keeps(2, &[80, 70])], &[]), Some(70));
        // Fewer than wanted: the oldest of any kind that is covered.
        assert_eq!(begin(&[keeps(3, &[80, 70])], &[]), Some(15));
        assert_eq!(begin(&[keeps(0, &[])], &[]), Some(15));
        // The schedule with the longest memory decides, and a restore that waits holds what it needs.
        assert_eq!(begin(&[keeps(1, &[80]), keeps(1, &[20])], &[]), Some(20));
        assert_eq!(begin(&[keeps(1, &[80])], &[15]), Some(15));
        assert_eq!(begin(&[keeps(1, &[80]), Keeps { all: true, ..keeps(0, &[]) }], &[]), None);
        assert_eq!(window(&covered, &[], &[], &[keeps(1, &[])]), None, "no base, nothing goes");
    }

    #[test]
    fn without_a_schedule_what_no_base_leads_to_is_of_no_use() {
        let covered = [piece(10, 50), piece(60, 99)];
        let spans = |bases: &[u32]| {
            useless(&covered, &all(bases), &[], &[]).iter().map(|u| (u.from.t, u.to.t)).collect::<Vec<_>>()
        };
        assert_eq!(spans(&[5, 70]), [(10, 50), (60, 70)]);
        assert_eq!(spans(&[20, 30, 60]), [(10, 20), (60, 60)]);
        // Nothing follows a base at the very end of a stretch.
        assert_eq!(spans(&[50, 80]), [(10, 50), (60, 80)]);
        assert_eq!(spans(&[]), [(10, 50), (60, 99)]);
    }

    #[test]
    fn what_goes_with_a_base() {
        let covered = [piece(10, 50), piece(60, 99)];
        let bases: Vec<Base> = [("a", 15), ("b", 30), ("c", 70)]
            .map(|(name, t)| Base {
                backup: name.into(),
                consistent_at_ts: ts(t),
                model: crate::domain::backup::Model::Logical,
            })
            .into();
        let spans = |name| lost(&covered, &bases, name).iter().map(|r| (r.from_ts.t, r.to_ts.t)).collect::<Vec<_>>();
        assert_eq!(spans("a"), [(15, 30)]);
        assert_eq!(spans("b"), []);
        assert_eq!(spans("c"), [(70, 99)]);
        assert_eq!(spans("other"), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever goes: every moment from the beginning of the window on can be restored as before.
        #[test]
        fn no_moment_of_the_window_is_lost(
            cuts in proptest::collection::vec((0u32..80, 1u32..20), 1..14),
            bases in proptest::collection::btree_set(0u32..100, 0..8),
            rules in proptest::collection::vec((0usize..5, any::<bool>(), 0usize..8), 0..3),
        ) {
            let slices: Vec<Coverage> = cuts.iter().map(|(after, length)| piece(*after, after + length)).collect();
            let covered = super::super::join(slices.iter().copied());
            let bases: Vec<Timestamp> = bases.into_iter().map(ts).collect();
            // The newest of the bases, as the rules of a schedule keep them.
            let schedules: Vec<Keeps> = rules.iter().map(|(wanted, all, own)| {
                Keeps { all: *all, wanted: *wanted, kept: bases.iter().rev().take((*wanted).min(*own)).copied().collect() }
            }).collect();
            let gone = useless(&covered, &bases, &[], &schedules);
            let goes = |s: &Coverage| gone.iter().any(|u| u.from <= s.after.ts && s.last.ts <= u.to);
            let left = super::super::join(slices.iter().copied().filter(|s| !goes(s)));
            let named: Vec<Base> =
                bases.iter().map(|ts| Base { backup: ts.to_string(), consistent_at_ts: *ts, model: crate::domain::backup::Model::Logical }).collect();
            let begin = if schedules.is_empty() { Timestamp::MIN } else {
                window(&covered, &bases, &[], &schedules).unwrap_or(Timestamp::MIN)
            };
            let reaches = |covered: &[Coverage], at: Timestamp| {
                ranges(covered, &named).iter().any(|r| r.from_ts <= at && at <= r.to_ts)
            };
            for at in (0..120).map(ts).filter(|at| *at >= begin) {
                // From a base within the window: one before it may lose its way, that is what the window is for.
                let direct = bases.iter().any(|b| {
                    *b >= begin && *b < at && covered.iter().any(|c| c.after.ts <= *b && at <= c.last.ts)
                });
                if direct {
                    prop_assert!(reaches(&left, at), "{at} {gone:?} {left:?}");
                }
            }
            // Nothing that is of no use is left when no schedule records: every slice has a base before its end.
            if schedules.is_empty() {
                for slice in slices.iter().filter(|s| !goes(s)) {
                    let leads = |b: &Timestamp| {
                        *b < slice.last.ts && covered.iter().any(|c| c.after.ts <= *b && slice.last.ts <= c.last.ts)
                    };
                    prop_assert!(bases.iter().any(leads), "{slice:?}");
                }
            }
            if schedules.iter().any(|s| s.all) {
                prop_assert!(gone.is_empty());
            }
        }
    }
}
