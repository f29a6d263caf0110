//! How many parts at once a line is worth, found out by trying.
//!
//! What counts is bytes that arrived, over a few rounds of all places. More places are kept where they brought clearly more
//! bytes, fewer where they brought hardly fewer; in between the number holds, and is tried again now and then, because lines
//! change. Rounds in which nobody waited for a place say nothing: there it is not the line that is waited for.

use std::time::{Duration, Instant};

/// One is sent while the answer to the other is awaited.
const LEAST: usize = 2;
const FIRST: usize = 4;
/// Of what would be expected of more places if the line had room for all of them. Above it they are kept.
const WORTH: f64 = 0.4;
/// Of the rate before: with fewer places, so much must be left.
const AS_GOOD: f64 = 0.95;
/// Parts that are counted, at least: in whole rounds, since those of one round arrive in a bunch.
const COUNTED: usize = 8;
/// Rounds that hold between two tries.
const HELD: u32 = 12;
/// A try takes at least so long, whatever arrives in it.
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Pace {
    limit: usize,
    most: usize,
    stage: Stage,
    round: Round,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// As many as before; so many rounds are left until the next try, which is one with more or with fewer.
    Holding {
        rounds: u32,
        more_next: bool,
    },
    /// More than before, when so many brought so much.
    More {
        before: usize,
        rate: f64,
    },
    Fewer {
        before: usize,
        rate: f64,
    },
}

/// What arrives between two decisions.
#[derive(Debug, Default)]
struct Round {
    /// Arrivals that belong to the number of places before.
    skipped: usize,
    began: Option<Instant>,
    parts: usize,
    bytes: u64,
    /// While so many of them arrived, somebody waited for a place.
    wanted: usize,
}

impl Pace {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        // The first decision is whether more are worth it.
        let stage = Stage::Holding { rounds: 0, more_next: true };
        Self { limit: FIRST.min(most), most, stage, round: Round::default() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn allow(&mut self, most: usize) {
        self.most = most.max(1);
        if self.limit > self.most {
            self.set(self.most, Stage::Holding { rounds: HELD, more_next: false });
        }
    }

    /// While so many parts arrived, somebody waited for a place.
    pub(super) fn wanted(&mut self, parts: usize) {
        self.round.wanted += parts;
    }

    /// A part of `bytes` arrived.
    pub(super) fn arrived(&mut self, bytes: u64, now: Instant) {
        let round = &mut self.round;
        if round.skipped < self.limit {
            round.skipped += 1;
            if round.skipped == self.limit {
                (round.began, round.wanted) = (Some(now), 0);
            }
            return;
        }
        round.parts += 1;
        round.bytes += bytes;
        let took = round.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let rounds = COUNTED.div_ceil(self.limit).max(2);
        if round.parts < rounds * self.limit || took < SHORTEST || !round.parts.is_multiple_of(self.limit) {
            return;
        }
        let is_full = round.wanted * 2 >= round.parts;
        let rate = round.bytes as f64 / took.as_secs_f64();
        self.decide(rate, is_full, now);
    }

    fn decide(&mut self, rate: f64, is_full: bool, now: Instant) {
        let settled = |more_next| Stage::Holding { rounds: HELD, more_next };
        match self.stage {
            // Who writes is what is waited for.
            Stage::Holding { .. } if !is_full => {
                self.round = Round { skipped: self.limit, began: Some(now), ..Round::default() };
            }
            Stage::Holding { rounds: 0, more_next } => self.step(rate, more_next),
            Stage::Holding { rounds, more_next } => {
                self.stage = Stage::Holding { rounds: rounds - 1, more_next };
                self.round = Round::default();
            }
            Stage::More { before, rate: old } => {
                let grown = self.limit as f64 / before as f64 - 1.0;
                if is_full && rate >= old * (1.0 + WORTH * grown) {
                    self.step(rate, true);
                } else {
                    self.set(before, settled(false));
                }
            }
            Stage::Fewer { before, rate: old } => {
                if rate >= old * AS_GOOD {
                    self.step(rate, false);
                } else {
                    self.set(before, settled(true));
                }
            }
        }
    }

    /// Tries half as many again, or a third fewer.
    fn step(&mut self, rate: f64, more: bool) {
        let before = self.limit;
        let next = if more { before + before.div_ceil(2) } else { before - before / 3 };
        let next = next.clamp(LEAST.min(self.most), self.most);
        match (next == before, more) {
            (true, _) => self.set(before, Stage::Holding { rounds: HELD, more_next: !more }),
            (false, true) => self.set(next, Stage::More { before, rate }),
            (false, false) => self.set(next, Stage::Fewer { before, rate }),
        }
    }

    fn set(&mut self, limit: usize, stage: Stage) {
        (self.limit, self.stage, self.round) = (limit, stage, Round::default());
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
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let micros = |seconds: f64| (seconds * 1e6) as u64;
        let mut pace = Pace::new(MOST);
        let (mut line_free, mut ready, mut now) = (0.0_f64, 0.0_f64, 0.0_f64);
        let mut under_way: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
        let mut arrivals = Vec::new();
        while arrivals.len() < parts {
            while under_way.len() < pace.limit() && ready <= now {
                line_free = line_free.max(now) + PART / rate;
                under_way.push(Reverse(micros(line_free + round_trip)));
                ready = ready.max(now - PART / made) + PART / made;
            }
            let next = under_way.peek().map(|n| n.0 as f64 / 1e6);
            if under_way.len() < pace.limit() && next.is_none_or(|next| ready < next) {
                now = ready;
                continue;
            }
            if ready <= now {
                pace.wanted(1);
            }
            let Some(next) = next else { continue };
            now = next;
            under_way.pop();
            pace.arrived(PART as u64, at(now));
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
            (GIGABIT, 0.05, 3),
            (GIGABIT, 0.2, 6),
            (GIGABIT, 0.5, 13),
            (GIGABIT / 5.0, 0.05, 2),
            (GIGABIT / 5.0, 0.2, 2),
            (GIGABIT * 10.0, 0.05, 12),
        ] {
            let (limit, reached) = after(1_000, rate, round_trip, 1e12);
            assert!(limit >= least, "{rate} {round_trip}: {limit}");
            assert!(reached >= rate * 0.9, "{rate} {round_trip}: {limit} at once reach {reached}");
        }
        // A backup of half a gigabyte still gains.
        let (limit, _) = after(100, GIGABIT, 0.2, 1e12);
        assert!(limit >= 6, "{limit}");
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
    fn what_a_person_allows_is_the_most() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.limit(), 1);
        let start = Instant::now();
        for n in 0..1_000 {
            pace.wanted(1);
            pace.arrived(1, start + Duration::from_millis(n));
        }
        assert_eq!(pace.limit(), 1);
        let mut pace = Pace::new(64);
        pace.limit = 40;
        pace.allow(5);
        assert_eq!(pace.limit(), 5);
    }
}
