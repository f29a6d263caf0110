//! What is missing between the pieces that are stored.

use super::{Coverage, Gap};

/// Said of a gap that no slice tells of.
const UNTOLD: &str = "the slices in between are not in the storage";

/// The gaps between pieces of coverage (oldest first), with the reasons that slices told. What a slice told is no gap
/// when other slices cover it, and what is missing is one whether a slice told or not.
pub fn gaps(covered: &[Coverage], told: &[Gap]) -> Vec<Gap> {
    let between = covered.iter().zip(covered.iter().skip(1));
    between
        .map(|(before, after)| {
            let (from_ts, to_ts) = (before.last.ts, after.after.ts);
            let mut reasons: Vec<&str> = Vec::new();
            for gap in told.iter().filter(|gap| gap.from_ts <= to_ts && from_ts <= gap.to_ts) {
                if !reasons.contains(&gap.reason.as_str()) {
                    reasons.push(&gap.reason);
                }
            }
            let reason = if reasons.is_empty() { UNTOLD.to_owned() } else { reasons.join("; ") };
            Gap { from_ts, to_ts, reason }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::OpTime;
    use super::*;
    use crate::domain::timestamp::Timestamp;

    fn piece(after: u32, last: u32) -> Coverage {
        let at = |t| OpTime { ts: Timestamp::new(t, 1), term: 1 };
        Coverage { after: at(after), last: at(last) }
    }

    fn told(from: u32, to: u32, reason: &str) -> Gap {
        Gap { from_ts: Timestamp::new(from, 1), to_ts: Timestamp::new(to, 1), reason: reason.into() }
    }

    #[test]
    fn a_gap_is_what_is_not_covered() {
        assert_eq!(gaps(&[], &[told(1, 2, "x")]), []);
        let covered = [piece(10, 20), piece(30, 40), piece(50, 60)];
        // The first was covered by another daemon, the second is told twice, and nobody told of the third.
        let found = gaps(&covered, &[told(12, 15, "a"), told(20, 30, "rolled over"), told(19, 30, "rolled over")]);
        assert_eq!(found, [told(20, 30, "rolled over"), told(40, 50, UNTOLD)]);
        let found = gaps(&covered[..2], &[told(20, 25, "one"), told(25, 30, "two")]);
        assert_eq!(found, [told(20, 30, "one; two")]);
    }
}
