//! What a storage holds, for its page: since when, until when, and how it grew, as a line of bars.

use chrono::{DateTime, TimeDelta, Utc};

use super::text::when;
use crate::domain::backup::{Backup, BackupState};
use crate::domain::text::bytes;
use crate::tui::model::Model;

/// Bars of the chart, at most.
const BARS: usize = 32;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// What was added in this time is said in words.
const RECENT: TimeDelta = TimeDelta::days(30);

/// Label and text of each fact. Empty while it holds nothing.
pub fn facts(model: &Model, storage: &str, width: usize) -> Vec<(&'static str, String)> {
    let held = |backup: &&Backup| backup.storage == storage && backup.state == BackupState::Succeeded;
    // What has no time has no place in an order of times.
    let at = |backup: &Backup| backup.consistent_at.or(backup.begun_at());
    let sized = |backup: &Backup| Some((at(backup)?, backup.size_bytes.unwrap_or(0)));
    let mut sizes: Vec<(DateTime<Utc>, u64)> = model.data.backups.iter().filter(held).filter_map(sized).collect();
    sizes.sort();
    let (Some((oldest, _)), Some((newest, _))) = (sizes.first().copied(), sizes.last().copied()) else {
        return Vec::new();
    };
    let mut facts = vec![("Oldest", when(model, oldest)), ("Newest", when(model, newest))];
    let bars = BARS.min(width.saturating_sub(40));
    if sizes.len() < 2 || bars < 4 {
        return facts;
    }
    let chart: String = levels(&sizes, model.now, bars).into_iter().map(|level| LEVELS[level]).collect();
    let since = model.now - RECENT;
    let added = sizes.iter().filter(|(at, _)| *at >= since).map(|(_, size)| *size).fold(0, u64::saturating_add);
    facts.push(("Growth", format!("{chart}  {} of it in the last {} days", bytes(added), RECENT.num_days())));
    facts
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
}
