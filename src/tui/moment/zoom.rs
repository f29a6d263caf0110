//! The stretch of time that is drawn: so many columns, each of so many seconds.

/// Seconds of one column, from the nearest look to the widest.
pub const STEPS: [u32; 14] = [1, 2, 5, 15, 60, 300, 900, 1_800, 3_600, 7_200, 21_600, 86_400, 604_800, 2_592_000];

/// Columns that stay free beyond either end of what can be restored.
const AIR: u32 = 3;

/// So many seconds from `from` on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// A multiple of `step`, so that columns stay the same while the view moves.
    pub from: u32,
    pub step: u32,
    pub columns: u32,
}

impl View {
    /// The first second after it.
    pub fn until(&self) -> u32 {
        self.from.saturating_add(self.step.saturating_mul(self.columns))
    }

    /// The column of a second; outside of the view there is none.
    pub fn column(&self, t: u32) -> Option<usize> {
        (self.from..self.until()).contains(&t).then(|| ((t - self.from) / self.step.max(1)) as usize)
    }

    /// The first second of a column.
    pub fn at(&self, column: usize) -> u32 {
        self.from.saturating_add(self.step.saturating_mul(column as u32))
    }

    /// This view, moved only as far as it must be to show `t` with room on both sides, within `first..=last`.
    #[must_use]
    pub fn showing(&self, t: u32, first: u32, last: u32) -> Self {
        let room = self.columns / 8;
        let inside = self.column(t).is_some_and(|c| (c as u32) >= room && (c as u32) + room < self.columns);
        let from = if inside { self.from } else { t.saturating_sub(self.step.saturating_mul(self.columns / 2)) };
        self.beginning(from, first, last)
    }

    /// A view of another step in which `t` stands in the same part of the width.
    #[must_use]
    pub fn zoomed(&self, step: u32, t: u32, first: u32, last: u32) -> Self {
        let column = self.column(t).map_or(self.columns / 2, |c| c as u32);
        let other = Self { step, ..*self };
        other.beginning(t.saturating_sub(step.saturating_mul(column)), first, last).showing_plainly(t, first, last)
    }

    /// Rounding may have moved the second out.
    fn showing_plainly(self, t: u32, first: u32, last: u32) -> Self {
        if self.column(t).is_some() { self } else { self.showing(t, first, last) }
    }

    fn beginning(&self, from: u32, first: u32, last: u32) -> Self {
        let step = self.step.max(1);
        let air = step.saturating_mul(AIR.min(self.columns / 4));
        let length = step.saturating_mul(self.columns);
        let least = first.saturating_sub(air);
        // The last column that is shown begins here or before.
        let most = last.saturating_add(air).saturating_add(step).saturating_sub(length).max(least);
        let from = from.clamp(least, most);
        // Rounded up at the newer end, so that the last second stays inside.
        let from =
            if from == most && most > least { from.div_ceil(step).saturating_mul(step) } else { from / step * step };
        Self { from, ..*self }
    }
}

/// The step that shows everything from `first` to `last` in `columns`.
pub fn widest(first: u32, last: u32, columns: u32) -> u32 {
    let span = last.saturating_sub(first).saturating_add(1);
    let free = columns.saturating_sub(2).max(1);
    STEPS
        .into_iter()
        .find(|step| u64::from(*step) * u64::from(free) >= u64::from(span))
        .unwrap_or(STEPS[STEPS.len() - 1])
}

/// One step nearer or wider, no wider than `most`.
pub fn other(step: u32, nearer: bool, most: u32) -> u32 {
    let at = STEPS.iter().position(|s| *s >= step).unwrap_or(STEPS.len() - 1);
    let to = if nearer { at.saturating_sub(1) } else { (at + 1).min(STEPS.len() - 1) };
    STEPS[to].min(most.max(1))
}

/// What a column stands for, in words.
pub fn words(step: u32) -> &'static str {
    match step {
        1 => "1 s",
        2 => "2 s",
        5 => "5 s",
        15 => "15 s",
        60 => "1 min",
        300 => "5 min",
        900 => "15 min",
        1_800 => "30 min",
        3_600 => "1 h",
        7_200 => "2 h",
        21_600 => "6 h",
        86_400 => "1 d",
        604_800 => "7 d",
        _ => "30 d",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is zoomed and moved, the second under the cursor is in the view, on a column of its own step.
        #[test]
        fn the_cursor_is_always_in_the_view(
            first in 1_600_000_000u32..1_700_000_000,
            length in 0u32..400_000_000,
            columns in 1u32..200,
            moves in proptest::collection::vec((0.0f64..=1.0, any::<bool>(), any::<bool>()), 1..30),
        ) {
            let last = first + length;
            let most = widest(first, last, columns);
            let mut view = View { from: 0, step: 60u32.min(most), columns };
            for (part, zooms, nearer) in moves {
                let t = first + (f64::from(length) * part) as u32;
                view = view.showing(t, first, last);
                prop_assert!(view.column(t).is_some(), "{view:?} {t}");
                if zooms {
                    view = view.zoomed(other(view.step, nearer, most), t, first, last);
                    prop_assert!(view.column(t).is_some(), "{view:?} {t} zoomed");
                }
                prop_assert!(STEPS.contains(&view.step) && view.step <= most);
                prop_assert_eq!(view.from % view.step, 0);
                let column = view.column(t).unwrap();
                prop_assert!(view.at(column) <= t && t - view.at(column) < view.step);
            }
        }

        #[test]
        fn the_widest_view_shows_everything(first in 1_600_000_000u32..1_700_000_000, length in 0u32..100_000_000) {
            let view = View { from: 0, step: widest(first, first + length, 60), columns: 60 };
            let view = view.showing(first + length / 2, first, first + length);
            prop_assert!(view.column(first).is_some() && view.column(first + length).is_some(), "{view:?}");
        }
    }

    #[test]
    fn a_view_stays_while_the_cursor_has_room_in_it() {
        let view = View { from: 0, step: 1, columns: 40 }.showing(1_000, 0, 10_000);
        assert_eq!(view, view.showing(1_010, 0, 10_000));
        assert_ne!(view, view.showing(1_018, 0, 10_000));
        assert_eq!(other(1, true, 60), 1);
        assert_eq!(other(60, false, 60), 60);
        assert_eq!(other(15, false, 3_600), 60);
    }
}
