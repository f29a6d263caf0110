//! How many parts at once a line is worth, seen from how long each of them takes.
//!
//! Where parts share a line, one more than it has room for only makes all of them wait. That does no harm as long as each
//! arrives soon, and fills the line whatever its delay is: so there are quickly more of them as long as they arrive soon. Where
//! they do not, more of them, and fewer where all are late, are tried: a line that they share makes each slower by as many as
//! there are more; connections that are slow by themselves (a proxy, a small window over a long line) do not. Where nobody waits
//! for a place there are no more: it is not the line that is waited for.

use std::time::Duration;

/// One is sent while the answer to the other is awaited.
const LEAST: usize = 2;
const FIRST: usize = 4;
/// A part that takes no longer leaves room for more.
const SOON: Duration = Duration::from_secs(1);
/// On a line with a long delay a part may take twice what the fastest took, which is when the line is full; but no longer than
/// this, since the fastest of a slow line was slow, too.
const LATEST: Duration = Duration::from_secs(4);
/// Half as many parts again that take no more than this much longer are worth it: the line is not what holds them up.
const WORTH: f64 = 1.25;
/// A third fewer are as good where each takes at most this much of its time: the line carries as much as before.
const AS_GOOD: f64 = 0.85;
/// Rounds that nothing is tried after more of them were not worth it.
const HELD: u32 = 12;

#[derive(Debug)]
pub(super) struct Pace {
    limit: usize,
    most: usize,
    /// Bytes of the largest part so far. Much smaller ones say nothing about the others.
    largest: usize,
    /// What the fastest part took. That of the last parts says less: they waited for each other.
    fastest: Option<Duration>,
    /// Somebody waited for a place since the number changed.
    is_wanted: bool,
    /// Parts in a row that arrived soon.
    soon: usize,
    round: Round,
    trial: Option<Trial>,
    /// Rounds until something is tried again.
    rest: u32,
    /// Fewer were tried, and were slower together.
    more_next: bool,
}

/// As many parts as there are places, all of which had got theirs after the number changed.
#[derive(Debug, Default)]
struct Round {
    /// Parts that got their place before.
    skip: usize,
    parts: usize,
    sum: Duration,
}

/// Another number than `before`, when a part took `mean` seconds.
#[derive(Debug, Clone, Copy)]
struct Trial {
    before: usize,
    mean: f64,
}

impl Pace {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            limit: FIRST.min(most),
            most,
            largest: 0,
            fastest: None,
            is_wanted: false,
            soon: 0,
            round: Round::default(),
            trial: None,
            rest: 0,
            more_next: false,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn allow(&mut self, most: usize) {
        self.most = most.max(1);
        if self.limit > self.most {
            self.trial = None;
            self.set(self.most);
        }
    }

    /// Somebody waits for a place.
    pub(super) fn wanted(&mut self) {
        self.is_wanted = true;
    }

    /// A part of `bytes` arrived, so long after it had got its place.
    pub(super) fn arrived(&mut self, bytes: usize, took: Duration) {
        self.largest = self.largest.max(bytes);
        if bytes < self.largest / 2 {
            return;
        }
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        let enough = (fastest * 2).clamp(SOON, LATEST);
        self.soon = if took <= enough { self.soon + 1 } else { 0 };
        // Where there is much room, one more for each that arrives; near the end of it, for each round of them, since what is on
        // its way takes longer than what has arrived.
        let needed = if took * 4 <= enough * 3 { 1 } else { self.limit };
        if self.trial.is_none() && self.soon >= needed && self.may_grow() {
            self.set(self.limit + 1);
            return;
        }
        if self.round.skip > 0 {
            self.round.skip -= 1;
            return;
        }
        self.round.parts += 1;
        self.round.sum += took;
        if self.round.parts < self.limit {
            return;
        }
        let mean = self.round.sum.as_secs_f64() / self.round.parts as f64;
        self.round = Round::default();
        self.decide(mean, enough.as_secs_f64());
    }

    fn may_grow(&self) -> bool {
        self.is_wanted && self.limit < self.most
    }

    /// After a round whose parts took `mean` seconds each.
    fn decide(&mut self, mean: f64, enough: f64) {
        match self.trial.take() {
            Some(trial) if self.limit > trial.before => {
                if mean > trial.mean * WORTH {
                    self.set(trial.before);
                    (self.rest, self.more_next) = (HELD, false);
                }
            }
            Some(trial) => {
                if mean > trial.mean * AS_GOOD {
                    self.set(trial.before);
                    self.more_next = true;
                }
            }
            None if mean <= enough => self.more_next = false,
            None if self.rest > 0 => self.rest -= 1,
            None => {
                let is_late = mean > enough * 2.0 && !self.more_next && self.limit > LEAST;
                let next = match is_late {
                    true => (self.limit - (self.limit / 3).max(1)).max(LEAST),
                    false if self.may_grow() => (self.limit + (self.limit / 2).max(1)).min(self.most),
                    false => {
                        (self.rest, self.more_next) = (HELD, false);
                        return;
                    }
                };
                self.trial = Some(Trial { before: self.limit, mean });
                self.set(next);
            }
        }
    }

    fn set(&mut self, limit: usize) {
        self.round = Round { skip: self.limit.max(limit), ..Round::default() };
        (self.limit, self.is_wanted, self.soon) = (limit, false, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const PART: f64 = 5.0 * 1048576.0;
    const MOST: usize = 16;
    const GIGABIT: f64 = 125e6;
    const AT_ONCE: f64 = 1e12;

    #[derive(Clone, Copy)]
    enum Line {
        /// Parts are sent one after the other, so many bytes a second.
        Shared(f64),
        /// Each connection sends so many bytes a second, whatever the others do.
        EachAlone(f64),
    }

    /// Sends `parts` over a line that answers each after a round trip. Whoever writes makes `made` bytes a second. Returns the
    /// number of places at the end, and the bytes a second that arrived in the last third.
    fn send(pace: &mut Pace, parts: usize, line: Line, round_trip: f64, made: f64) -> (usize, f64) {
        let micros = |seconds: f64| (seconds * 1e6) as u64;
        let (mut line_free, mut ready, mut now) = (0.0_f64, 0.0_f64, 0.0_f64);
        // When each arrives, and when it got its place.
        let mut under_way: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
        let mut arrivals = Vec::new();
        while arrivals.len() < parts {
            while under_way.len() < pace.limit() && ready <= now {
                let sent = match line {
                    Line::Shared(rate) => {
                        line_free = line_free.max(now) + PART / rate;
                        line_free
                    }
                    Line::EachAlone(rate) => now + PART / rate,
                };
                under_way.push(Reverse((micros(sent + round_trip), micros(now))));
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
            pace.arrived(PART as usize, Duration::from_micros(micros(now) - placed));
            arrivals.push(now);
        }
        let from = parts * 2 / 3;
        (pace.limit(), (parts - 1 - from) as f64 * PART / (arrivals[parts - 1] - arrivals[from]))
    }

    fn after(parts: usize, rate: f64, round_trip: f64, made: f64) -> (usize, f64) {
        send(&mut Pace::new(MOST), parts, Line::Shared(rate), round_trip, made)
    }

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
            let (limit, reached) = after(1_000, rate, round_trip, AT_ONCE);
            assert!(limit >= least, "{rate} {round_trip}: {limit}");
            assert!(reached >= rate * 0.9, "{rate} {round_trip}: {limit} at once reach {reached}");
        }
        // A small backup gains, too.
        let (limit, _) = after(30, GIGABIT, 0.2, AT_ONCE);
        assert!(limit >= 12, "{limit}");
    }

    #[test]
    fn a_slow_line_gets_few() {
        for (rate, most) in [(1.25e6, 3), (5e6, 6), (GIGABIT / 5.0, 8)] {
            for round_trip in [0.001, 0.05] {
                let (limit, reached) = after(200, rate, round_trip, AT_ONCE);
                assert!(limit <= most, "{rate} {round_trip}: {limit}");
                assert!(reached >= rate * 0.95, "{rate} {round_trip}: {reached}");
            }
        }
    }

    #[test]
    fn slow_connections_get_as_many_as_help() {
        for rate in [0.3e6, 1e6, 3e6, 20e6] {
            let (limit, reached) = send(&mut Pace::new(MOST), 600, Line::EachAlone(rate), 0.05, AT_ONCE);
            assert!(limit >= 11, "{rate}: {limit}");
            assert!(reached >= rate * 10.0, "{rate}: {limit} at once reach {reached}");
        }
    }

    #[test]
    fn a_short_part_says_nothing_about_the_others() {
        let mut pace = Pace::new(MOST);
        send(&mut pace, 20, Line::EachAlone(2e6), 0.6, AT_ONCE);
        let before = pace.limit();
        for _ in 0..100 {
            pace.wanted();
            pace.arrived(1_000, Duration::from_millis(1));
            pace.arrived(1_000, Duration::from_secs(100));
        }
        assert_eq!(pace.limit(), before);
        let (limit, reached) = send(&mut pace, 600, Line::EachAlone(2e6), 0.6, AT_ONCE);
        assert!(limit >= 11 && reached >= 16e6, "{limit} at once reach {reached}");
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
        assert_eq!(send(&mut pace, 100, Line::Shared(GIGABIT), 0.05, AT_ONCE).0, MOST);
        let (limit, reached) = send(&mut pace, 400, Line::Shared(1e6), 0.05, AT_ONCE);
        assert!(limit <= 3 && reached >= 0.95e6, "{limit} at once reach {reached}");
        assert_eq!(send(&mut pace, 100, Line::Shared(GIGABIT), 0.05, AT_ONCE).0, MOST);
    }

    #[test]
    fn what_a_person_allows_is_the_most() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.limit(), 1);
        for took in [Duration::from_millis(1), Duration::from_secs(60)].repeat(500) {
            pace.wanted();
            pace.arrived(1, took);
        }
        assert_eq!(pace.limit(), 1);
        let mut pace = Pace::new(64);
        pace.limit = 40;
        pace.allow(5);
        assert_eq!(pace.limit(), 5);
    }
}
