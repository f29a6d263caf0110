//! Where the cursor of a point in time may stand, and where a step takes it.
//!
//! It must never stand where nothing can be restored: every way to move it ends here, and what kept it from where it
//! was sent comes back as a [`Note`].

use crate::domain::pitr::{Base, RecoverableRange, ShownGap, Status, When};
use crate::domain::timestamp::Timestamp;

/// Why the cursor is not where it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Nothing older can be restored.
    Oldest,
    /// Nothing newer is stored.
    Newest,
    /// Between these two seconds nothing can be restored. The cursor stands at one of them.
    Gap { before: u32, after: u32 },
    /// There is no operation in what is drawn to go to.
    Quiet,
}

/// The ranges with those joined that overlap: the same oplog may be kept in two places.
pub fn joined(mut ranges: Vec<RecoverableRange>) -> Vec<RecoverableRange> {
    ranges.sort_by_key(|r| (r.from_ts, r.to_ts));
    let mut out: Vec<RecoverableRange> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.from_ts <= last.to_ts => {
                if range.to_ts > last.to_ts {
                    (last.to, last.to_ts) = (range.to, range.to_ts);
                }
            }
            _ => out.push(range),
        }
    }
    out
}

/// The first and the last second of a range, both complete.
pub(super) fn seconds(range: &RecoverableRange) -> (u32, u32) {
    (range.from_ts.t, range.to_ts.t.saturating_sub(1).max(range.from_ts.t))
}

fn outermost(ranges: &[RecoverableRange]) -> Option<(&RecoverableRange, &RecoverableRange)> {
    Some((ranges.first()?, ranges.last()?))
}

/// The second that a moment lies in; for the newest one that of the newest change.
pub fn second(ranges: &[RecoverableRange], at: When) -> u32 {
    match at {
        When::Second(t) => t,
        When::Position(ts) => ts.t,
        When::Latest => ranges.last().map_or(0, |r| r.to_ts.t),
    }
}

/// The position up to which a moment restores.
pub fn position(ranges: &[RecoverableRange], at: When) -> Timestamp {
    match at {
        When::Second(t) => Timestamp::new(t, u32::MAX),
        When::Position(ts) => ts,
        When::Latest => ranges.last().map_or(Timestamp::MIN, |r| r.to_ts),
    }
}

/// Whether exactly this moment can be restored.
pub fn holds(ranges: &[RecoverableRange], at: When) -> bool {
    ranges.iter().any(|range| match at {
        When::Second(t) => (seconds(range).0..=seconds(range).1).contains(&t),
        When::Position(ts) => (range.from_ts..=range.to_ts).contains(&ts),
        When::Latest => true,
    })
}

/// The nearest moment to `wanted` that can be restored; `None` when there is none at all.
///
/// What is not stored yet becomes the last position that is, never the newest change: that moves on, and would lead
/// past what was wanted.
pub fn clamp(ranges: &[RecoverableRange], wanted: When) -> Option<(When, Option<Note>)> {
    let (first, last) = outermost(ranges)?;
    if holds(ranges, wanted) {
        return Some((wanted, None));
    }
    let t = second(ranges, wanted);
    if t < first.from_ts.t || position(ranges, wanted) < first.from_ts {
        return Some((When::Second(first.from_ts.t), Some(Note::Oldest)));
    }
    if t > seconds(last).1 {
        return Some((When::Position(last.to_ts), Some(Note::Newest)));
    }
    let (before, after) = around(ranges, t)?;
    // At equal distance the earlier one: what was lost later is still there.
    let nearest = if t.abs_diff(before) <= t.abs_diff(after) { before } else { after };
    Some((When::Second(nearest), Some(Note::Gap { before, after })))
}

/// The last second before and the first one after the gap that `t` lies in.
fn around(ranges: &[RecoverableRange], t: u32) -> Option<(u32, u32)> {
    let before = ranges.iter().map(|r| seconds(r).1).filter(|end| *end <= t).max()?;
    let after = ranges.iter().map(|r| seconds(r).0).filter(|begin| *begin >= t).min()?;
    Some((before, after))
}

/// Where `by` seconds from `at` lead. A step into a gap stops before it; the next one crosses it.
pub fn step(ranges: &[RecoverableRange], at: When, by: i64) -> (When, Option<Note>) {
    let (to, note) = stepped(ranges, at, by);
    // The end of a second may lie after a position within it: a step back must not lead forward.
    let (was, is) = (position(ranges, at), position(ranges, to));
    if (by > 0 && is < was) || (by < 0 && is > was) { (at, note) } else { (to, note) }
}

fn stepped(ranges: &[RecoverableRange], at: When, by: i64) -> (When, Option<Note>) {
    let Some((first, last)) = outermost(ranges) else { return (at, None) };
    let here = second(ranges, at);
    let there = i64::from(here).saturating_add(by).clamp(0, i64::from(u32::MAX)) as u32;
    if by == 0 || (by > 0 && at == When::Latest) {
        return (at, (by > 0).then_some(Note::Newest));
    }
    if there < seconds(first).0 {
        return (When::Second(seconds(first).0), Some(Note::Oldest));
    }
    if there > seconds(last).1 {
        return (When::Latest, Some(Note::Newest));
    }
    if holds(ranges, When::Second(there)) {
        return (When::Second(there), None);
    }
    let Some((before, after)) = around(ranges, there) else { return (at, None) };
    let crosses = if by > 0 { here >= before } else { here <= after };
    let to = if crosses == (by > 0) { after } else { before };
    (When::Second(to), Some(Note::Gap { before, after }))
}

/// The first moment, and the last.
pub fn oldest(ranges: &[RecoverableRange]) -> Option<When> {
    ranges.first().map(|r| When::Second(seconds(r).0))
}

/// The base that a restore to `at` begins with: the newest one before it in the same range.
pub fn base(status: &Status, at: When) -> Option<&Base> {
    let until = position(&status.ranges, at);
    let range = status.ranges.iter().find(|r| r.from_ts <= until && second(&status.ranges, at) <= r.to_ts.t)?;
    let usable = |b: &&Base| range.from_ts <= b.consistent_at_ts && b.consistent_at_ts <= until;
    status.bases.iter().filter(usable).max_by_key(|b| b.consistent_at_ts)
}

/// What is known of why nothing can be restored between two seconds; the gap between two ranges may also be one that
/// only lacks a base.
pub fn gap(status: &Status, before: u32, after: u32) -> Option<&ShownGap> {
    status.gaps.iter().find(|g| g.from_ts.t <= after && before <= g.to_ts.t)
}

/// The gap that begins or ends at the second in which the cursor stands.
pub fn touched(ranges: &[RecoverableRange], at: When) -> Option<(u32, u32)> {
    let t = second(ranges, at);
    ranges.windows(2).map(|pair| (seconds(&pair[0]).1, seconds(&pair[1]).0)).find(|(b, a)| t == *b || t == *a)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn range(from: (u32, u32), to: (u32, u32)) -> RecoverableRange {
        let (from_ts, to_ts) = (Timestamp::new(from.0, from.1), Timestamp::new(to.0, to.1));
        let second = |t| Timestamp::new(t, 0).to_datetime();
        RecoverableRange { from: second(from.0), to: second(to.0 - 1), from_ts, to_ts }
    }

    /// A service of which these can be restored, and nothing else is known.
    pub fn status(ranges: Vec<RecoverableRange>) -> Status {
        Status {
            service: "s".into(),
            ranges,
            gaps: Vec::new(),
            lag_seconds: Some(1),
            running: true,
            beginning: false,
            error: None,
            hint: None,
            schedules: Vec::new(),
            archive: None,
            bases: Vec::new(),
            waiting_base: None,
            marks: Vec::new(),
            slices: 1,
            size_bytes: 1,
        }
    }

    /// Up to four ranges that do not touch each other.
    pub fn ranges() -> impl Strategy<Value = Vec<RecoverableRange>> {
        proptest::collection::vec((1u32..40, 1u32..60, 0u32..5, 0u32..5), 0..4).prop_map(|parts| {
            let mut at = 1_000;
            let mut out = Vec::new();
            for (pause, length, i, j) in parts {
                let from = at + pause;
                at = from + length;
                out.push(range((from, i), (at, j)));
            }
            out
        })
    }

    fn moment() -> impl Strategy<Value = When> {
        prop_oneof![
            (900u32..1_500).prop_map(When::Second),
            (900u32..1_500, 0u32..6).prop_map(|(t, i)| When::Position(Timestamp::new(t, i))),
            Just(When::Latest),
        ]
    }

    #[test]
    fn a_step_stops_before_a_gap_and_the_next_one_crosses_it() {
        let ranges = [range((10, 1), (20, 1)), range((30, 1), (40, 1))];
        let gap = Some(Note::Gap { before: 19, after: 30 });
        assert_eq!(step(&ranges, When::Second(15), 10), (When::Second(19), gap));
        assert_eq!(step(&ranges, When::Second(19), 1), (When::Second(30), gap));
        assert_eq!(step(&ranges, When::Second(30), -1), (When::Second(19), gap));
        assert_eq!(step(&ranges, When::Second(35), -10), (When::Second(30), gap));
        assert_eq!(step(&ranges, When::Second(15), 20), (When::Second(35), None), "a long step leaps over it");
        assert_eq!(step(&ranges, When::Second(39), 1), (When::Latest, Some(Note::Newest)));
        assert_eq!(step(&ranges, When::Latest, -1), (When::Second(39), None));
        assert_eq!(step(&ranges, When::Latest, 1), (When::Latest, Some(Note::Newest)));
        assert_eq!(step(&ranges, When::Second(12), -60), (When::Second(10), Some(Note::Oldest)));
        let inside = When::Position(Timestamp::new(10, 2));
        assert_eq!(step(&ranges, inside, -1), (inside, Some(Note::Oldest)), "the end of that second comes later");
        assert_eq!(touched(&ranges, When::Second(19)), Some((19, 30)));
        assert_eq!(touched(&ranges, When::Second(18)), None);
    }

    #[test]
    fn what_was_typed_comes_to_the_nearest_moment() {
        let ranges = [range((10, 5), (20, 3)), range((30, 1), (40, 1))];
        let to = |wanted| clamp(&ranges, wanted).unwrap();
        assert_eq!(to(When::Second(12)), (When::Second(12), None));
        assert_eq!(to(When::Second(3)), (When::Second(10), Some(Note::Oldest)));
        assert_eq!(to(When::Position(Timestamp::new(10, 4))), (When::Second(10), Some(Note::Oldest)));
        assert_eq!(to(When::Position(Timestamp::new(20, 3))), (When::Position(Timestamp::new(20, 3)), None));
        assert_eq!(to(When::Second(23)).0, When::Second(19));
        assert_eq!(to(When::Second(27)).0, When::Second(30));
        let last = (When::Position(Timestamp::new(40, 1)), Some(Note::Newest));
        assert_eq!(to(When::Second(40)), last);
        assert_eq!(to(When::Position(Timestamp::new(40, 2))), last);
        assert_eq!(to(When::Second(u32::MAX)), last);
        assert_eq!(to(When::Latest), (When::Latest, None));
        assert_eq!(clamp(&[], When::Latest), None);
    }

    #[test]
    fn what_two_places_hold_is_one_range() {
        let joined = joined(vec![
            range((30, 1), (50, 1)),
            range((10, 1), (40, 1)),
            range((12, 1), (20, 1)),
            range((60, 1), (70, 1)),
        ]);
        assert_eq!(joined, [range((10, 1), (50, 1)), range((60, 1), (70, 1))]);
    }

    proptest! {
        #[test]
        fn the_cursor_never_stands_where_nothing_can_be_restored(
            ranges in ranges(),
            wanted in moment(),
            steps in proptest::collection::vec(-200i64..200, 0..40),
        ) {
            let Some((mut at, note)) = clamp(&ranges, wanted) else {
                prop_assert!(ranges.is_empty());
                return Ok(());
            };
            prop_assert!(holds(&ranges, at));
            prop_assert_eq!(note.is_some(), at != wanted);
            prop_assert_eq!(at == When::Latest, wanted == When::Latest);
            for by in steps {
                let (to, _) = step(&ranges, at, by);
                prop_assert!(holds(&ranges, to), "{at} {by} -> {to}");
                let (was, is) = (position(&ranges, at), position(&ranges, to));
                prop_assert!(if by >= 0 { is >= was } else { is <= was }, "{at} {by} -> {to}");
                at = to;
            }
        }

        /// Every moment can be reached by seconds, and the ends are where walking ends.
        #[test]
        fn walking_on_reaches_both_ends(ranges in ranges()) {
            let Some(first) = oldest(&ranges) else { return Ok(()) };
            let mut at = first;
            let mut seen = 1;
            while at != When::Latest {
                let next = step(&ranges, at, 1).0;
                prop_assert!(position(&ranges, next) > position(&ranges, at) || next == When::Latest);
                at = next;
                seen += 1;
            }
            let complete: u32 = ranges.iter().map(|r| seconds(r).1 - seconds(r).0 + 1).sum();
            prop_assert_eq!(seen, complete + 1);
            for _ in 0..seen {
                at = step(&ranges, at, -1).0;
            }
            prop_assert_eq!(at, first);
        }

        #[test]
        fn what_the_cursor_shows_can_be_resolved(ranges in ranges(), wanted in moment()) {
            use crate::domain::pitr::{Range, resolve};
            let known: Vec<Range> = ranges.iter().map(|r| Range { from_ts: r.from_ts, to_ts: r.to_ts }).collect();
            if let Some((at, _)) = clamp(&ranges, wanted) {
                prop_assert_eq!(resolve(at, &known), Ok(position(&ranges, at)));
            }
        }
    }
}
