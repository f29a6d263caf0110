//! Where the cursor jumps: to what stands out on the timeline, and to just before what may have been the accident.

use super::View;
use super::walk::{Note, holds, second, seconds};
use crate::domain::pitr::{Mark, MarkKind, Status, When};

/// Seconds worth a stop, oldest first: both ends, bases, both sides of gaps, and the last second before a restore into
/// the service began, from which that restore can be undone.
fn landmarks(status: &Status) -> Vec<u32> {
    let edges = status.ranges.iter().map(seconds).flat_map(|(first, last)| [first, last]);
    let bases = status.bases.iter().map(|b| b.consistent_at_ts.t);
    let began = status.marks.iter().filter(|m| m.kind == MarkKind::RestoreBegan);
    let mut found: Vec<u32> = edges.chain(bases).chain(began.map(|m| m.ts.t.saturating_sub(1))).collect();
    found.retain(|t| holds(&status.ranges, When::Second(*t)));
    found.sort_unstable();
    found.dedup();
    found
}

/// The landmark next to `at`; beyond the last one lies the newest change.
pub fn landmark(status: &Status, at: When, on: bool) -> (When, Option<Note>) {
    let here = second(&status.ranges, at);
    let found = landmarks(status);
    match (found.first(), on) {
        (None, _) => (at, None),
        (Some(_), true) if at == When::Latest => (at, Some(Note::Newest)),
        (Some(_), true) => found.iter().find(|t| **t > here).map_or((When::Latest, None), |t| (When::Second(*t), None)),
        (Some(first), false) => {
            let before = found.iter().rev().find(|t| **t < here);
            before.map_or((When::Second(*first), Some(Note::Oldest)), |t| (When::Second(*t), None))
        }
    }
}

/// The column with most operations, but for those that a restore made: the first of several.
pub fn peak(view: View, counts: &[u64], marks: &[Mark]) -> Option<usize> {
    let restored = restores(marks);
    let by_restore = |column: usize| {
        let (from, until) = (view.at(column), view.at(column + 1));
        restored.iter().any(|(began, ended)| *began < until && from <= *ended)
    };
    let columns = counts.iter().enumerate().filter(|(column, n)| **n > 0 && !by_restore(*column));
    // Of equal ones the last is taken by `max_by_key`; the accident is rather the first.
    columns.rev().max_by_key(|(_, n)| **n).map(|(column, _)| column)
}

/// When restores went on, to the second. One that left no end counts as its first second.
fn restores(marks: &[Mark]) -> Vec<(u32, u32)> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for mark in marks {
        match (mark.kind, found.last_mut()) {
            (MarkKind::RestoreEnded, Some(last)) => last.1 = mark.ts.t,
            (MarkKind::RestoreEnded, None) => found.push((0, mark.ts.t)),
            (MarkKind::RestoreBegan, _) => found.push((mark.ts.t, mark.ts.t)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::walk;
    use super::super::walk::tests::range;
    use super::*;
    use crate::domain::pitr::Base;
    use crate::domain::timestamp::Timestamp;

    fn mark(kind: MarkKind, t: u32) -> Mark {
        Mark { ts: Timestamp::new(t, 1), kind, text: String::new() }
    }

    fn status() -> Status {
        let base = |t| Base {
            backup: format!("b{t}"),
            consistent_at_ts: Timestamp::new(t, 3),
            model: crate::domain::backup::Model::Logical,
        };
        Status {
            bases: vec![base(10), base(20), base(50), base(90)],
            marks: vec![mark(MarkKind::RestoreBegan, 60), mark(MarkKind::RestoreEnded, 63)],
            ..walk::tests::status(vec![range((10, 3), (30, 1)), range((50, 3), (90, 1))])
        }
    }

    #[test]
    fn each_landmark_is_a_stop_in_both_directions() {
        let status = status();
        let walk = |mut at: When, on: bool| {
            let mut seen = Vec::new();
            loop {
                let (to, note) = landmark(&status, at, on);
                seen.push(to.to_string().replace("1970-01-01T00:00:", "").replace("1970-01-01T00:01:", "1:"));
                if note.is_some() {
                    return seen.join(" ");
                }
                at = to;
            }
        };
        // The base in the second that is not complete yet is reached as the newest change.
        assert_eq!(walk(When::Second(10), true), "20Z 29Z 50Z 59Z 1:29Z latest latest");
        assert_eq!(walk(When::Latest, false), "1:29Z 59Z 50Z 29Z 20Z 10Z 10Z");
        assert_eq!(landmark(&status, When::Second(25), false).0, When::Second(20));
        let mut nothing = status.clone();
        nothing.ranges.clear();
        assert_eq!(landmark(&nothing, When::Latest, true), (When::Latest, None));
    }

    #[test]
    fn the_peak_is_the_first_of_the_highest_and_not_a_restore() {
        let view = View { from: 100, step: 5, columns: 6 };
        let none: &[Mark] = &[];
        assert_eq!(peak(view, &[0, 4, 9, 0, 9, 1], none), Some(2));
        assert_eq!(peak(view, &[0; 6], none), None);
        assert_eq!(peak(view, &[], none), None);
        let restore = [mark(MarkKind::RestoreBegan, 112), mark(MarkKind::RestoreEnded, 121)];
        assert_eq!(peak(view, &[0, 4, 9, 9, 9, 1], &restore), Some(1));
        // Where the begin lies before what is kept, and where the end is missing.
        assert_eq!(peak(view, &[9, 4, 1, 0, 0, 2], &restore[1..]), Some(5));
        assert_eq!(peak(view, &[0, 4, 9, 8, 0, 1], &restore[..1]), Some(3));
    }
}
