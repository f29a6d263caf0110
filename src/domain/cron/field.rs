//! One field of a crontab line, as the set of its values.

use crate::domain::text::escape;

/// Which field, and what may stand in it.
pub(super) struct Unit {
    pub name: &'static str,
    pub low: u32,
    pub high: u32,
    /// Words for the values from `low` on.
    words: &'static [&'static str],
}

pub(super) const SECOND: Unit = Unit { name: "second", low: 0, high: 59, words: &[] };
pub(super) const MINUTE: Unit = Unit { name: "minute", low: 0, high: 59, words: &[] };
pub(super) const HOUR: Unit = Unit { name: "hour", low: 0, high: 23, words: &[] };
pub(super) const DAY: Unit = Unit { name: "day", low: 1, high: 31, words: &[] };
pub(super) const MONTH: Unit = Unit {
    name: "month",
    low: 1,
    high: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 0 and 7 are both Sunday.
pub(super) const WEEKDAY: Unit =
    Unit { name: "weekday", low: 0, high: 7, words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The values of a field, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Values(u64);

impl Values {
    pub fn new(values: impl IntoIterator<Item = u32>) -> Self {
        Self(values.into_iter().fold(0, |bits: u64, value| bits | 1 << value))
    }

    /// Every value that a field of this unit can have.
    pub fn all(unit: &Unit) -> Self {
        // A Sunday is counted once, as 0.
        let high = if unit.name == WEEKDAY.name { 6 } else { unit.high };
        Self::new(unit.low..=high)
    }

    pub fn iter(self) -> impl Iterator<Item = u32> + Clone {
        (0..64).filter(move |value| self.0 & (1 << value) != 0)
    }

    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub fn first(self) -> u32 {
        self.0.trailing_zeros()
    }

    pub fn last(self) -> u32 {
        63 - self.0.leading_zeros()
    }

    pub fn is_only(self, value: u32) -> bool {
        self == Self::new([value])
    }
}

/// Reads a field: `*`, values, ranges and steps, separated by commas.
///
/// Errors: a sentence that names the field.
pub(super) fn parse(unit: &Unit, text: &str) -> Result<Values, String> {
    let mut bits = 0;
    for part in text.split(',') {
        bits |= parse_part(unit, part).map_err(|why| format!("{}: {why}", unit.name))?.0;
    }
    if unit.name == WEEKDAY.name && bits & 1 << 7 != 0 {
        bits = (bits | 1) & !(1 << 7);
    }
    Ok(Values(bits))
}

fn parse_part(unit: &Unit, text: &str) -> Result<Values, String> {
    let shown = || escape(text);
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let (low, high) = if range == "*" {
        (unit.low, unit.high)
    } else if let Some((low, high)) = range.split_once('-') {
        let (from, mut to) = (value(unit, low)?, value(unit, high)?);
        if unit.name == WEEKDAY.name && high.eq_ignore_ascii_case("sun") && from > 0 {
            // fri-sun: the Sunday at the end of the week.
            to = 7;
        }
        if from > to {
            return Err(format!("{} goes backwards; write two ranges", escape(range)));
        }
        (from, to)
    } else if step.is_some() {
        let first = value(unit, range)?;
        return Err(format!("{} has a step without a range; write {first}-{}/...", shown(), unit.high));
    } else {
        let only = value(unit, range)?;
        (only, only)
    };
    let step = match step {
        None => 1,
        Some(text) => match number(text) {
            Some(step) if step > 0 && step <= unit.high => step,
            _ => return Err(format!("{} is no step from 1 to {}", escape(text), unit.high)),
        },
    };
    Ok(Values::new((low..=high).step_by(step as usize)))
}

fn value(unit: &Unit, text: &str) -> Result<u32, String> {
    if let Some(at) = unit.words.iter().position(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(unit.low + at as u32);
    }
    match number(text) {
        Some(value) if (unit.low..=unit.high).contains(&value) => Ok(value),
        Some(value) => Err(format!("{value} is not from {} to {}", unit.low, unit.high)),
        None if text.is_empty() => Err("a value is missing".into()),
        None if text.contains(['?', 'L', 'W', '#', 'H']) => {
            Err(format!("{} is not crontab's; * , - and / are", escape(text)))
        }
        None => Err(format!("{} is not a value", escape(text))),
    }
}

/// Up to four digits: more is never a value, and must not overflow.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
