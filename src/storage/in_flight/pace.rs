//! How many parts at once a line is worth, seen from how long each of them takes.
//!
//! Parts share the line: above what it has room for, one more only makes all of them wait. That does no harm as long as each
//! arrives soon, and fills the line whatever its delay is; so more are allowed while they arrive soon, and fewer where they take
//! long: there each only takes memory, and is lost when the line breaks. Where nobody waits for a place the number stays: it is
//! not the line that is waited for.

use std::time::Duration;

/// One is sent while the answer to the other is awaited.
const LEAST: usize = 2;
const FIRST: usize = 4;
/// A part that takes no longer leaves room for more.
const SOON: Duration = Duration::from_secs(1);
/// On a line with a long delay a part may take twice what the fastest took, which is when the line is full; but no longer than
/// this, since the fastest of a slow line was slow, too.
const LATEST: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Pace {
    limit: usize,
    most: usize,
    /// What the fastest part took.
    fastest: Option<Duration>,
    /// Somebody waited for a place since the number changed.
    is_wanted: bool,
    /// Parts in a row that arrived soon.
    soon: usize,
    /// Parts in a row that took more than twice as long.
    late: usize,
}

impl Pace {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        let limit = FIRST.min(most);
        Self { limit, most, fastest: None, is_wanted: false, soon: 0, late: 0 }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn allow(&mut self, most: usize) {
        self.most = most.max(1);
        if self.limit > self.most {
            self.set(self.most);
        }
    }

    /// Somebody waits for a place.
    pub(super) fn wanted(&mut self) {
        self.is_wanted = true;
    }

    /// A part arrived, so long after it had got its place.
    pub(super) fn arrived(&mut self, took: Duration) {
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        let enough = (fastest * 2).clamp(SOON, LATEST);
        self.soon = if took <= enough { self.soon + 1 } else { 0 };
        self.late = if took > enough * 2 { self.late + 1 } else { 0 };
        // Where there is much room, one more for each that arrives; near the end of it, for each round of them, since what is on
        // its way takes longer than what has arrived.
        let round = if took * 4 <= enough * 3 { 1 } else { self.limit };
        if self.soon >= round && self.is_wanted && self.limit < self.most {
            self.set(self.limit + 1);
        } else if self.late >= self.limit && self.limit > LEAST {
            self.set((self.limit - self.limit / 3).max(LEAST));
        }
    }

    fn set(&mut self, limit: usize) {
        (self.limit, self.is_wanted, self.soon, self.late) = (limit, false, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const PART: f64 = 5.0 * 1048576.0;

    /// A line that sends parts one after the other, and answers each after a round trip. Whoever writes makes `made` bytes a
    /// second. Returns the number of places at the end, and the bytes a second that arrived in the last third.
    fn after(parts: usize, rate: f64, round_trip: f64, made: f64) -> (usize, f64) {
        let micros = |seconds: f64| (seconds * 1e6) as u64;
        let mut pace = Pace::new(MOST);
        let (mut line_free, mut ready, mut now) = (0.0_f64, 0.0_f64, 0.0_f64);
        // When each arrives, and when it got its place.
        let mut under_way: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let mut arrivals = Vec::new();
        while arrivals.len() < parts {
            while under_way.len() < pace.limit() && ready <= now {
                line_free = line_free.max(now) + PART / rate;
                under_way.push(Reverse((micros(line_free + round_trip), micros(now))));
                ready = ready.max(now - PART / made) + PART / made;
            }
            let next = under_way.peek().map(|n| n.0.0 as f64 / 1e6);
            if under_way.len() < pace.limit() && next.is_none_or(|next| ready < next) {
                now = ready;
                continue;
            }
            if ready <= now {
                pace.wanted();
            }
            let Some(next) = next else { continue };
            now = next;
            let placed = under_way.pop().unwrap().0.1;
            pace.arrived(Duration::from_micros(micros(now) - placed));
            arrivals.push(now);
        }
        let from = parts * 2 / 3;
        (pace.limit(), (parts - 1 - from) as f64 * PART / (arrivals[parts - 1] - arrivals[from]))
    }

    const MOST: usize = 16;
    const GIGABIT: f64 = 125e6;

    #[test]
    fn a_long_line_gets_as_many_as_fill_it() {
        for (rate, round_trip, least) in [
            (GIGABIT, 0.05, 16),
            (GIGABIT, 0.2, 16),
            (GIGABIT, 0.5, 16),
            (GIGABIT / 5.0, 0.05, 4),
            (GIGABIT / 5.0, 0.2, 4),
            (GIGABIT / 5.0, 1.0, 6),
            (GIGABIT * 10.0, 0.05, 16),
        ] {
            let (limit, reached) = after(1_000, rate, round_trip, 1e12);
            assert!(limit >= least, "{rate} {round_trip}: {limit}");
            assert!(reached >= rate * 0.9, "{rate} {round_trip}: {limit} at once reach {reached}");
        }
        // A small backup gains, too.
        let (limit, _) = after(30, GIGABIT, 0.2, 1e12);
        assert!(limit >= 12, "{limit}");
    }

    #[test]
    fn a_slow_line_gets_few() {
        for round_trip in [0.001, 0.05] {
            let (limit, reached) = after(200, 1.25e6, round_trip, 1e12);
            assert!(limit <= 3, "{round_trip}: {limit}");
            assert!(reached >= 1.25e6 * 0.95, "{reached}");
        }
    }

    #[test]
    fn whoever_writes_slowly_changes_nothing() {
        let (limit, reached) = after(300, GIGABIT, 0.05, 20e6);
        assert_eq!(limit, FIRST);
        assert!(reached >= 19e6, "{reached}");
    }

    #[test]
    fn a_line_that_becomes_slow_gets_fewer_and_more_again_when_it_is_fast() {
        let mut pace = Pace::new(MOST);
        let mut arrive = |took: f64, parts: usize| {
            for _ in 0..parts {
                pace.wanted();
                pace.arrived(Duration::from_secs_f64(took));
            }
            pace.limit()
        };
        assert_eq!(arrive(0.1, 12), MOST);
        assert_eq!(arrive(30.0, 15), MOST, "those of one round may have waited for the same");
        assert!(arrive(30.0, 1) < MOST);
        assert_eq!(arrive(30.0, 60), LEAST);
        assert_eq!(arrive(1.5, 100), LEAST, "neither soon nor late");
        assert_eq!(arrive(0.5, 200), MOST);
    }

    #[test]
    fn what_a_person_allows_is_the_most() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.limit(), 1);
        for took in [Duration::from_millis(1), Duration::from_secs(60)].repeat(500) {
            pace.wanted();
            pace.arrived(took);
        }
        assert_eq!(pace.limit(), 1);
        let mut pace = Pace::new(64);
        pace.limit = 40;
        pace.allow(5);
        assert_eq!(pace.limit(), 5);
    }
}
