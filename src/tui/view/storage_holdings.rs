//! What a storage holds, for its page and its form: since when, until when, and how it grew, as a line of bars.

use chrono::{DateTime, TimeDelta, Utc};
use ratatui::text::Line;
use unicode_width::UnicodeWidthStr;

use super::text::{when, wrap};
use crate::client::Holdings;
use crate::domain::backup::BackupState;
use crate::domain::text::{bytes, counted};
use crate::tui::model::Model;

/// Bars of the chart, at most and at least.
const BARS: usize = 32;
const LEAST_BARS: usize = 4;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// What was added in this time is said in words.
const RECENT: TimeDelta = TimeDelta::days(30);

/// Complete backups by the time that they are of, and those of which nothing says it.
struct Held {
    /// In the order of time.
    dated: Vec<(DateTime<Utc>, u64)>,
    undated: Vec<u64>,
}

impl Held {
    fn of(backups: impl Iterator<Item = (Option<DateTime<Utc>>, u64)>) -> Self {
        let mut held = Self { dated: Vec::new(), undated: Vec::new() };
        for (at, size) in backups {
            match at {
                Some(at) => held.dated.push((at, size)),
                // What has no time has no place in an order of times.
                None => held.undated.push(size),
            }
        }
        held.dated.sort();
        held
    }

    fn in_catalogue(model: &Model, storage: &str) -> Self {
        let held = model.data.backups.iter().filter(|b| b.storage == storage && b.state == BackupState::Succeeded);
        Self::of(held.map(|b| (b.consistent_at.or(b.begun_at()), b.size_bytes.unwrap_or(0))))
    }

    fn backups(&self) -> u64 {
        (self.dated.len() + self.undated.len()) as u64
    }

    fn bytes(&self) -> u64 {
        self.dated.iter().map(|(_, size)| *size).chain(self.undated.iter().copied()).fold(0, u64::saturating_add)
    }

    /// Oldest and newest.
    fn span(&self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        Some((self.dated.first()?.0, self.dated.last()?.0))
    }

    /// The bars and the sentence behind them, on one line of `width` columns; `None`: there is nothing to see in it, or no
    /// room.
    fn growth(&self, now: DateTime<Utc>, width: usize) -> Option<String> {
        let since = now - RECENT;
        let recent = self.dated.iter().filter(|(at, _)| *at >= since);
        let added = recent.map(|(_, size)| *size).fold(0, u64::saturating_add);
        let words = format!("  {} in the last {} days", bytes(added), RECENT.num_days());
        let bars = BARS.min(width.saturating_sub(words.width()));
        if self.dated.len() < 2 || bars < LEAST_BARS {
            return None;
        }
        let chart: String = levels(&self.dated, now, bars).into_iter().map(|level| LEVELS[level]).collect();
        Some(chart + &words)
    }

    /// What is said of those without a time.
    fn undated(&self) -> Option<String> {
        let many = self.undated.len() as u64;
        let size = bytes(self.undated.iter().copied().fold(0, u64::saturating_add));
        let them = if many == 1 { "it was" } else { "they were" };
        (many > 0).then(|| format!("{}, {size}: nothing says when {them} made", counted(many, "backup")))
    }
}

/// Label and text of each fact, made for values of `width` columns. Empty while it holds nothing.
pub fn facts(model: &Model, storage: &str, width: usize) -> Vec<(&'static str, String)> {
    let held = Held::in_catalogue(model, storage);
    let mut facts = Vec::new();
    if let Some((oldest, newest)) = held.span() {
        facts.extend([("Oldest", when(model, oldest)), ("Newest", when(model, newest))]);
    }
    facts.extend(held.growth(model.now, width).map(|growth| ("Growth", growth)));
    facts.extend(held.undated().map(|undated| ("Undated", undated)));
    facts
}

/// What the catalogue knows of a storage, below its form.
pub fn of_catalogue(model: &Model, storage: &str, width: usize) -> Vec<Line<'static>> {
    let held = Held::in_catalogue(model, storage);
    let what = match held.backups() {
        0 => return Vec::new(),
        n => format!("It holds {}", counted(n, "backup")),
    };
    lines(model, &held, &what, "", width)
}

/// What was found in a location, below its form.
pub fn of_location(model: &Model, found: &Holdings, width: usize) -> Vec<Line<'static>> {
    let held = Held::of(found.backups.iter().copied());
    let many = match (held.backups(), found.is_part) {
        (0, false) => "It holds no backup yet".to_owned(),
        (0, true) => "It holds more than could be looked at in 20 s".to_owned(),
        (n, false) => format!("It holds {}", counted(n, "backup")),
        (n, true) => format!("It holds more than {}", counted(n, "backup")),
    };
    let others = [
        (found.incomplete, format!("{} incomplete", found.incomplete)),
        (found.unreadable, format!("{} with a manifest of no use", found.unreadable)),
    ];
    let others = others.into_iter().filter(|(many, _)| *many > 0);
    let others: String = others.map(|(_, words)| format!("; {words}")).collect();
    lines(model, &held, &many, &others, width)
}

fn lines(model: &Model, held: &Held, what: &str, others: &str, width: usize) -> Vec<Line<'static>> {
    let size = if held.backups() > 0 { format!(", {}", bytes(held.bytes())) } else { String::new() };
    let span = match held.span() {
        Some((oldest, newest)) if oldest == newest => format!(", of {}", when(model, oldest)),
        Some((oldest, newest)) => format!(", from {} to {}", when(model, oldest), when(model, newest)),
        None => String::new(),
    };
    let mut lines: Vec<Line> = wrap(&format!("{what}{size}{span}{others}"), width).into_iter().map(Line::raw).collect();
    let more = held.growth(model.now, width).into_iter().chain(held.undated());
    lines.extend(more.map(|text| Line::styled(text, model.theme.dim)));
    lines
}

/// How high each of `bars` bars is, from 0 to 7: what was held at its end of that which is held now. `sizes` in the order of
/// time, at least one; the first bar begins with it, and the last ends now.
fn levels(sizes: &[(DateTime<Utc>, u64)], now: DateTime<Utc>, bars: usize) -> Vec<usize> {
    let from = sizes.first().map_or(now, |(at, _)| *at);
    let last = sizes.last().map_or(now, |(at, _)| (*at).max(now));
    let span = (last - from).num_milliseconds().max(1);
    let total = sizes.iter().map(|(_, size)| u128::from(*size)).sum::<u128>().max(1);
    let level = |bar: usize| {
        let end = from + TimeDelta::milliseconds((i128::from(span) * (bar as i128 + 1) / bars as i128) as i64);
        let held: u128 = sizes.iter().take_while(|(at, _)| *at <= end).map(|(_, size)| u128::from(*size)).sum();
        // What is there is seen, however little it is.
        ((held * LEVELS.len() as u128).div_ceil(total) as usize).clamp(1, LEVELS.len()) - 1
    };
    (0..bars).map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + hours * 3600, 0).unwrap()
    }

    #[test]
    fn the_chart_rises_as_backups_come() {
        let even: Vec<_> = (0..8).map(|n| (at(n), 100)).collect();
        assert_eq!(levels(&even, at(8), 8), [1, 2, 3, 4, 5, 6, 7, 7]);
        // Long ago, and nothing since.
        assert_eq!(levels(&[(at(0), 10), (at(1), 90)], at(1000), 4), [7, 7, 7, 7]);
        assert_eq!(levels(&[(at(0), 1), (at(999), 1_000_000)], at(1000), 4), [0, 0, 0, 7]);
    }

    #[test]
    fn odd_times_and_sizes_draw_something() {
        // A clock that was set back, sizes that are not known, more bytes than fit.
        assert_eq!(levels(&[(at(5), 7)], at(0), 4), [7; 4]);
        assert_eq!(levels(&[(at(0), 0), (at(1), 0)], at(2), 4), [0; 4]);
        assert_eq!(levels(&[(at(0), u64::MAX), (at(1), u64::MAX)], at(2), 2), [7, 7]);
    }

    #[test]
    fn growth_is_one_line_and_counts_what_has_a_time() {
        let dated = [(Some(at(0)), 1_000_000), (Some(at(24)), 2_000_000)];
        let held = Held::of(dated.into_iter().chain([(None, 5_000_000)]));
        assert_eq!((held.backups(), held.bytes()), (3, 8_000_000));
        for width in [40, 61, 80, 120] {
            let growth = held.growth(at(25), width).unwrap();
            assert!(growth.width() <= width && growth.ends_with("  3.0 MB in the last 30 days"), "{width}: {growth}");
        }
        assert_eq!(held.growth(at(25), 30), None, "no bars");
        assert_eq!(held.undated().unwrap(), "1 backup, 5.0 MB: nothing says when it was made");
        let none = Held::of([(None, 1), (None, 2)].into_iter());
        assert_eq!((none.span(), none.growth(at(0), 80)), (None, None));
        assert_eq!(none.undated().unwrap(), "2 backups, 3 B: nothing says when they were made");
        assert_eq!(Held::of(dated.into_iter()).undated(), None);
    }
}
