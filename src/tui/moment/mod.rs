//! The point in time of a restore: the cursor, the stretch around it that is drawn, and what was counted there.
//!
//! It must never ask for the same twice, nor for more than one picture at a time: held down, a key moves the cursor
//! faster than a store can count.

mod jump;
mod typed;
mod walk;
mod zoom;

pub use typed::{Odd, check, exact_text, exactly, is_local, parse, write};
pub use walk::{Note, gap, joined, second, touched};
pub use zoom::{View, words as step_words};

use chrono_tz::Tz;

use super::action::Action;
use super::msg::{Effect, Problem};
use crate::domain::pitr::{Base, RecoverableRange, Status, When};

/// Seconds of one column at the beginning: an hour or two around the cursor.
const FIRST_STEP: u32 = 60;

/// Something that is counted by the store, and whether the answer is on its way.
#[derive(Debug, Clone, Default)]
struct Asked<K, V> {
    /// What the answer that is known is about.
    known: Option<(K, Result<V, Problem>)>,
    under_way: Option<K>,
}

impl<K: Copy + PartialEq, V> Asked<K, V> {
    /// What to ask for, when `wanted` is neither known nor anything under way.
    fn ask(&mut self, wanted: K) -> Option<K> {
        if self.under_way.is_some() || self.known.as_ref().is_some_and(|(k, _)| *k == wanted) {
            return None;
        }
        self.under_way = Some(wanted);
        self.under_way
    }

    fn answered(&mut self, result: Result<V, Problem>) {
        self.known = self.under_way.take().map(|key| (key, result));
    }
}

/// The part of the form of a restore that chooses the moment.
#[derive(Debug, Clone)]
pub struct MomentPane {
    /// The service whose past it is.
    pub service: String,
    /// Where the cursor stands.
    pub at: When,
    /// Where it was sent: kept while nothing of it is stored, since more may be stored by and by.
    wanted: When,
    pub note: Option<Note>,
    /// What is odd about the time that was typed.
    pub odd: Option<Odd>,
    /// The other zone than that of the screen: UTC, or where the screen shows UTC, that of this machine.
    pub other_zone: bool,
    pub view: View,
    /// The cursor was moved by a person.
    pub moved: bool,
    /// The moment of a restore that is repeated, and the base that its plan led from. They belong together: any other
    /// moment begins with the newest base before it.
    pub planned: Option<(When, String)>,
    /// Changes with what is stored: what was counted before may be more by now.
    stored: u64,
    bars: Asked<(View, u64), Vec<u64>>,
    here: Asked<(u32, u64), u64>,
}

impl MomentPane {
    pub fn new(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            at: When::Latest,
            wanted: When::Latest,
            note: None,
            odd: None,
            other_zone: false,
            view: View { step: FIRST_STEP, ..View::default() },
            moved: false,
            planned: None,
            stored: 0,
            bars: Asked { known: None, under_way: None },
            here: Asked { known: None, under_way: None },
        }
    }

    /// The zone in which times are shown and read.
    pub fn zone(&self, screen: Tz, local: Tz) -> Tz {
        match (self.other_zone, screen) {
            (false, zone) => zone,
            (true, Tz::UTC) => local,
            (true, _) => Tz::UTC,
        }
    }

    /// Takes in what can be restored by now and how much room there is, and asks for what is missing.
    pub fn settle(&mut self, status: Option<&Status>, columns: u32) -> Vec<Effect> {
        let Some((status, (first, last))) = status.and_then(|s| Some((s, ends(&s.ranges)?))) else { return Vec::new() };
        if let Some((at, note)) = walk::clamp(&status.ranges, self.wanted)
            && at != self.at
        {
            (self.at, self.note) = (at, note);
        }
        self.stored = status.slices;
        let t = second(&status.ranges, self.at);
        let step = self.view.step.min(zoom::widest(first, last, columns));
        self.view = View { step, columns, ..self.view }.showing(t, first, last);
        let operations = |from, to, buckets| Effect::Operations { service: self.service.clone(), from, to, buckets };
        let bars = self.bars.ask((self.view, self.stored));
        let here = self.here.ask((t, self.stored));
        bars.map(|(v, _)| operations(v.from, v.until(), v.columns as usize))
            .into_iter()
            .chain(here.map(|(t, _)| operations(t, t.saturating_add(1), 1)))
            .collect()
    }

    /// Takes in operations that were counted in the seconds from `from` to `to`.
    pub fn counted(&mut self, from: u32, to: u32, buckets: usize, result: Result<Vec<u64>, Problem>) {
        let is_bars = |(v, _): (View, u64)| (v.from, v.until(), v.columns as usize) == (from, to, buckets);
        if self.here.under_way.is_some_and(|(t, _)| buckets == 1 && t == from && to == t.saturating_add(1)) {
            self.here.answered(result.map(|counts| counts.iter().sum()));
        } else if self.bars.under_way.is_some_and(is_bars) {
            self.bars.answered(result);
        }
    }

    /// Operations by column, as far as they are known for what is drawn.
    pub fn bars(&self) -> Option<Result<&[u64], &Problem>> {
        let (key, result) = self.bars.known.as_ref()?;
        // What was stored since changes the newest columns only; the picture stays until the next one is there.
        (key.0 == self.view).then(|| result.as_ref().map(Vec::as_slice))
    }

    /// How many operations lie in the second of the cursor.
    pub fn operations(&self, ranges: &[RecoverableRange]) -> Option<Result<u64, &Problem>> {
        let (key, result) = self.here.known.as_ref()?;
        (key.0 == second(ranges, self.at)).then(|| result.as_ref().copied())
    }

    /// Does what a key of the timeline asks for.
    pub fn act(&mut self, action: Action, status: &Status) {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 60 * MINUTE;
        const DAY: i64 = 24 * HOUR;
        let ranges = &status.ranges;
        let by = match action {
            Action::SecondBack => -1,
            Action::SecondOn => 1,
            Action::MinuteBack => -MINUTE,
            Action::MinuteOn => MINUTE,
            Action::HourBack => -HOUR,
            Action::HourOn => HOUR,
            Action::DayBack => -DAY,
            Action::DayOn => DAY,
            Action::OldestMoment => return self.go(walk::oldest(ranges)),
            Action::NewestMoment => return self.go(ends(ranges).map(|_| When::Latest)),
            Action::LandmarkBack | Action::LandmarkOn => {
                let (to, note) = jump::landmark(status, self.at, action == Action::LandmarkOn);
                return self.stand(to, note);
            }
            Action::Peak => return self.go_before_peak(status),
            Action::ZoomIn => return self.zoom(true, ranges),
            Action::ZoomOut => return self.zoom(false, ranges),
            Action::OtherZone => {
                self.other_zone = !self.other_zone;
                return;
            }
            _ => return,
        };
        let (to, note) = walk::step(ranges, self.at, by);
        let moved = self.moved;
        self.stand(to, note);
        // A second more or less is soon found again.
        if by.abs() == 1 {
            self.moved = moved;
        }
    }

    /// Goes to what was typed, or as near as possible.
    pub fn go_near(&mut self, wanted: When, odd: Option<Odd>, ranges: &[RecoverableRange]) {
        // Where nothing is stored it stands nowhere, and must not stand for the newest change once something is.
        let (at, note) = walk::clamp(ranges, wanted).unwrap_or((wanted, None));
        self.stand(at, note);
        (self.wanted, self.odd) = (wanted, odd);
    }

    /// The base that a restore to where the cursor stands has to begin with; `None`: the newest before it.
    pub fn planned_base(&self) -> Option<&str> {
        self.planned.as_ref().filter(|(at, _)| *at == self.at).map(|(_, base)| base.as_str())
    }

    /// The base that a restore to where the cursor stands begins with.
    pub fn base<'a>(&self, status: &'a Status) -> Option<&'a Base> {
        match self.planned_base() {
            Some(name) => status.bases.iter().find(|b| b.backup == name),
            None => walk::base(status, self.at),
        }
    }

    /// What was asked for and is not stored yet; until it is, the cursor stands at the last position that is.
    pub fn awaited(&self, ranges: &[RecoverableRange]) -> Option<When> {
        let is_ahead = matches!(walk::clamp(ranges, self.wanted), Some((_, Some(Note::Newest))));
        (is_ahead && self.at != self.wanted).then_some(self.wanted)
    }

    fn go(&mut self, to: Option<When>) {
        if let Some(to) = to {
            self.stand(to, None);
        }
    }

    /// A person has moved the cursor here; what was wanted before is not meant any more.
    fn stand(&mut self, at: When, note: Option<Note>) {
        (self.at, self.wanted, self.note) = (at, at, note);
        (self.moved, self.odd) = (true, None);
    }

    /// Goes to the last second before the highest peak that is drawn; from there, looks nearer.
    fn go_before_peak(&mut self, status: &Status) {
        let Some(Ok(counts)) = self.bars() else { return };
        let Some(column) = jump::peak(self.view, counts, &status.marks) else {
            self.note = Some(Note::Quiet);
            return;
        };
        let Some(before) = self.view.at(column).checked_sub(1) else { return };
        if let Some((at, note)) = walk::clamp(&status.ranges, When::Second(before)) {
            if at == self.at {
                self.zoom(true, &status.ranges);
            }
            self.stand(at, note);
        }
    }

    fn zoom(&mut self, nearer: bool, ranges: &[RecoverableRange]) {
        let Some((first, last)) = ends(ranges) else { return };
        let step = zoom::other(self.view.step, nearer, zoom::widest(first, last, self.view.columns));
        self.view = self.view.zoomed(step, second(ranges, self.at), first, last);
    }
}

/// The first and the last second with something to restore.
pub fn ends(ranges: &[RecoverableRange]) -> Option<(u32, u32)> {
    Some((ranges.first()?.from_ts.t, ranges.last()?.to_ts.t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::timestamp::Timestamp;

    fn status(slices: u64) -> Status {
        let ranges = vec![walk::tests::range((1_000, 1), (9_000, 1)), walk::tests::range((9_500, 1), (20_000, 1))];
        Status { slices, size_bytes: 0, ..walk::tests::status(ranges) }
    }

    fn asked(effects: &[Effect]) -> Vec<(u32, u32, usize)> {
        let of = |e: &Effect| match e {
            Effect::Operations { from, to, buckets, .. } => (*from, *to, *buckets),
            other => panic!("{other:?}"),
        };
        effects.iter().map(of).collect()
    }

    #[test]
    fn one_question_at_a_time_and_none_twice() {
        let mut pane = MomentPane::new("s");
        let first = asked(&pane.settle(Some(&status(1)), 40));
        assert_eq!(first.len(), 2, "the bars, and the second of the cursor");
        assert!(first.contains(&(20_000, 20_001, 1)));
        // A key that is held down.
        for _ in 0..50 {
            pane.act(Action::SecondBack, &status(1));
            assert_eq!(pane.settle(Some(&status(1)), 40), []);
        }
        assert_eq!(pane.operations(&status(1).ranges), None);
        pane.counted(20_000, 20_001, 1, Ok(vec![7]));
        assert_eq!(pane.operations(&status(1).ranges), None, "that was about another second");
        assert_eq!(asked(&pane.settle(Some(&status(1)), 40)), [(19_950, 19_951, 1)]);
        pane.counted(19_950, 19_951, 1, Ok(vec![3]));
        assert_eq!(pane.operations(&status(1).ranges), Some(Ok(3)));
        assert_eq!(pane.settle(Some(&status(1)), 40), []);
        let (from, to, buckets) = first[0];
        pane.counted(from, to, buckets, Ok(vec![1; 40]));
        assert_eq!(pane.bars().unwrap().unwrap().len(), 40);
        // More is stored by now: asked again, and the old picture stays meanwhile.
        assert_eq!(asked(&pane.settle(Some(&status(2)), 40)).len(), 2);
        assert!(pane.bars().is_some());
    }

    #[test]
    fn what_can_no_longer_be_restored_moves_the_cursor() {
        let mut pane = MomentPane::new("s");
        pane.go_near(When::Second(2_000), None, &status(1).ranges);
        pane.settle(Some(&status(1)), 40);
        assert_eq!((pane.at, pane.note), (When::Second(2_000), None));
        let mut less = status(1);
        less.ranges.remove(0);
        pane.settle(Some(&less), 40);
        assert_eq!((pane.at, pane.note), (When::Second(9_500), Some(Note::Oldest)));
        // Nothing at all is no reason to panic.
        less.ranges.clear();
        assert_eq!(pane.settle(Some(&less), 40), []);
        assert_eq!(pane.settle(None, 0), []);
        pane.act(Action::DayBack, &less);
        pane.act(Action::ZoomOut, &less);
        let at = Timestamp::new(1, 1);
        pane.go_near(When::Position(at), None, &less.ranges);
        assert_eq!(pane.at, When::Position(at));
        // It comes back: so does the cursor, to what was asked for and not to the newest change.
        pane.go_near(When::Second(2_000), None, &less.ranges);
        pane.settle(Some(&status(1)), 40);
        assert_eq!((pane.at, pane.note), (When::Second(2_000), None));
    }

    #[test]
    fn what_is_not_stored_yet_is_waited_for_and_never_passed() {
        let stored_to = |t, i| {
            let mut status = status(1);
            status.ranges[1] = walk::tests::range((9_500, 1), (t, i));
            status
        };
        let last = |t, i| When::Position(Timestamp::new(t, i));
        for wanted in [When::Second(20_100), last(20_100, 7)] {
            let mut pane = MomentPane::new("s");
            pane.go_near(wanted, None, &status(1).ranges);
            for (t, i) in [(20_000, 1), (20_060, 9), (20_100, 5)] {
                pane.settle(Some(&stored_to(t, i)), 40);
                assert_eq!((pane.at, pane.note), (last(t, i), Some(Note::Newest)));
                let ranges = &stored_to(t, i).ranges;
                assert_eq!(pane.awaited(ranges), Some(wanted));
                // Another note says nothing about that.
                pane.note = Some(Note::Quiet);
                assert_eq!(pane.awaited(ranges), Some(wanted));
            }
            for t in [20_101, 20_160, 30_000] {
                pane.settle(Some(&stored_to(t, 1)), 40);
                let ranges = &stored_to(t, 1).ranges;
                assert_eq!((pane.at, pane.note, pane.awaited(ranges)), (wanted, None, None));
            }
        }
        // A key is a new wish; the newest change is followed by those only who asked for it.
        let mut pane = MomentPane::new("s");
        pane.go_near(When::Second(20_100), None, &status(1).ranges);
        pane.act(Action::SecondBack, &status(1));
        pane.settle(Some(&stored_to(30_000, 1)), 40);
        assert_eq!((pane.at, pane.awaited(&stored_to(30_000, 1).ranges)), (When::Second(19_999), None));
        pane.act(Action::NewestMoment, &status(1));
        pane.settle(Some(&stored_to(40_000, 1)), 40);
        assert_eq!((pane.at, pane.awaited(&stored_to(40_000, 1).ranges)), (When::Latest, None));
    }

    #[test]
    fn zones_change_places() {
        let paris: Tz = "Europe/Paris".parse().unwrap();
        let mut pane = MomentPane::new("s");
        assert_eq!(pane.zone(paris, paris), paris);
        pane.act(Action::OtherZone, &status(1));
        assert_eq!(pane.zone(paris, paris), Tz::UTC);
        assert_eq!(pane.zone(Tz::UTC, paris), paris);
    }
}
