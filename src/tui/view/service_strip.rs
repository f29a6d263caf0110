//! The strip above the backups: of each service the last good backup, what can be restored to any moment, and sizes.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::chrome::rule;
use super::recoverable;
use super::text::{age, ago, cell, fit, put, when};
use crate::domain::text::{bytes, counted, escape};
use crate::tui::model::{Layer, Model, Screen, Tab};
use crate::tui::recording::{Trouble, trouble};
use crate::tui::service_strip::{SPARKS, Standing, StripLine, StripRow, lines, spark};

/// How many lines of the strip there is room for.
pub fn rows(model: &Model, height: u16) -> u16 {
    if model.screen != Screen::Backups || model.layers.iter().any(Layer::is_page) {
        return 0;
    }
    let room = if height < 20 {
        2
    } else if height < 30 {
        3
    } else {
        // All of them where that leaves the list its room.
        5.max((height - 20) / 3)
    };
    room.max(blank_below(model, height)).min(lines(&model.strip).len() as u16)
}

/// How many lines there are room for besides a short list, which leaves the rest of the screen blank otherwise.
fn blank_below(model: &Model, height: u16) -> u16 {
    /// Screens and their rule, the rule of the strip, tabs, heading, message, state and keys.
    const AROUND: u16 = 8;
    /// What stands in the place of a list without rows.
    const STEPS: usize = 11;
    let banner = u16::from(super::chrome::has_banner(model));
    /// Rows that the list of jobs keeps: the strip is as high above it as above the backups.
    const JOBS: usize = 6;
    // Without a filter, so that the strip does not move while one is typed.
    let rows = match model.list(Tab::Backups).total {
        0 => STEPS,
        // A new one has room, too.
        rows => rows.saturating_add(1).max(model.list(Tab::Jobs).total.min(JOBS)),
    };
    height.saturating_sub(u16::try_from(rows).unwrap_or(u16::MAX)).saturating_sub(AROUND + banner)
}

/// From this width on the strip shows everything it knows.
const WIDE_STRIP: u16 = 120;
/// From this width on it shows more runs, and the next one.
const ALL_STRIP: usize = 158;
/// Runs that are shown where there is less room.
const FEW_SPARKS: usize = 10;
/// Columns for what can be restored to any moment, there.
const MOMENTS: usize = 51;
/// Columns of a name: at least, where there is little room, and at most.
const SHORT_NAME: usize = 15;
const NAME: usize = 18;
const LONG_NAME: usize = 32;
/// Columns for how the last backups went: where there is room, where there is little, and on the narrowest screens.
const LAST: usize = 26;
const SHORT_LAST: usize = 23;
const SHORTEST_LAST: usize = 18;

pub fn draw(frame: &mut Frame, model: &Model, area: Rect) {
    if area.height == 0 {
        return;
    }
    let room = usize::from(area.height - 1);
    let all = lines(&model.strip);
    let hidden: usize = all.iter().skip(room).map(StripLine::services).sum();
    for (i, line) in all.iter().take(room).enumerate() {
        let width = usize::from(area.width);
        let spans = match line {
            StripLine::Counts(counts) => count_spans(model, counts),
            StripLine::Service(row) => service_spans(model, row, width),
            StripLine::Unprotected(rows) => unprotected_spans(model, rows, width),
        };
        put(frame, Line::from(spans), Rect { y: area.y + i as u16, height: 1, ..area });
    }
    rule(frame, model, area.bottom() - 1, area.width);
    if hidden > 0 {
        // On the rule, where it belongs to no service.
        let text = format!(" {} ", counted(hidden as u64, "more service"));
        let width = (text.width() as u16).min(area.width);
        let place = Rect { x: area.right().saturating_sub(width + 2), y: area.bottom() - 1, width, height: 1 };
        put(frame, Span::styled(text, model.theme.dim), place);
    }
}

fn sign(model: &Model, standing: Standing) -> (&'static str, Style) {
    let theme = &model.theme;
    match standing {
        Standing::Failing => ("✗ ", theme.error),
        Standing::Late | Standing::Unprotected => ("! ", theme.warn),
        Standing::Well => ("✓ ", theme.ok),
    }
}

/// `✗ 1 failing   ! 10 unprotected   ✓ 9 ok`.
fn count_spans(model: &Model, counts: &[(Standing, usize)]) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    for (standing, count) in counts {
        let (sign, style) = sign(model, *standing);
        spans.push(Span::raw(if spans.is_empty() { " " } else { "   " }));
        spans.push(Span::styled(format!("{sign}{count} {}", standing.word()), style));
    }
    spans
}

fn unprotected_spans(model: &Model, rows: &[&StripRow], width: usize) -> Vec<Span<'static>> {
    let names: Vec<String> = rows.iter().map(|row| escape(&row.service)).collect();
    let text = format!("{} services have no good backup: {}", rows.len(), names.join(", "));
    let (sign, style) = sign(model, Standing::Unprotected);
    vec![Span::raw(" "), Span::styled(sign, style), Span::styled(fit(&text, width.saturating_sub(3)), style)]
}

/// What is known of its last backups, the bad news first, in `room` columns. `short`: there is no room for why nothing is
/// recorded.
fn last_words(model: &Model, row: &StripRow, short: bool, room: usize) -> (String, Style) {
    let theme = &model.theme;
    let fitting = |forms: &[String]| {
        let last = forms.last().map_or_else(String::new, |form| fit(form, room));
        forms.iter().find(|form| form.width() <= room).cloned().unwrap_or(last)
    };
    let good = row.last_good.map(|at| age(model, at));
    if let Some(lost) = model.lost_service(&row.service) {
        // Since when it is away, and how old the last good backup is: the second is what a restore would come to.
        let since = age(model, lost.since);
        let words = match good {
            Some(good) => {
                let short = format!("lost, good {good}");
                fitting(&[format!("unreachable {since}, good {good}"), format!("unreachable, good {good}"), short])
            }
            None => fitting(&[format!("unreachable {since}")]),
        };
        return (words, theme.error);
    }
    let trouble = model.pitr(&row.service).and_then(|status| trouble(model, status));
    if short && !row.last_failed && trouble == Some(Trouble::Stopped) {
        return ("recording stopped".to_owned(), theme.error);
    }
    if row.retrying {
        return (fitting(&["failed, tried again".to_owned(), "failed, retrying".to_owned()]), theme.error);
    }
    let with_age = |at, word: &str| [format!("{word} {}", ago(model, at)), format!("{word} {}", age(model, at))];
    if let Some(schedule) = row.failed_schedule.as_ref().filter(|_| row.last_failed && row.last_good.is_some()) {
        // When the last good backup was is said in the list below; here, whose failure that is.
        let name = fit(&escape(schedule), room.saturating_sub(" failed".len()));
        return (format!("{name} failed"), theme.error);
    }
    match (row.last_good, row.last_failed) {
        (Some(at), true) => {
            let age = age(model, at);
            (fitting(&[format!("failed; last good {age}"), format!("failed; good {age}")]), theme.error)
        }
        (None, true) => (fitting(&["failed, none is good".to_owned(), "failed, none good".to_owned()]), theme.error),
        (Some(at), false) => (fitting(&with_age(at, "last good")), theme.ok),
        (None, false) => ("no good backup yet".to_owned(), theme.warn),
    }
}

/// Columns of the names: of the longest, as far as there is room for it.
fn name_columns(model: &Model, most: usize) -> usize {
    let longest = model.strip.iter().map(|row| row.service.width()).max().unwrap_or(0);
    longest.clamp(SHORT_NAME.min(most), most)
}

/// A text in its column, with two blank ones to the next.
fn column(text: &str, width: usize) -> String {
    format!("{}  ", cell(text, width))
}

fn service_spans(model: &Model, row: &StripRow, width: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let (sign, sign_style) = sign(model, row.standing);
    let status = model.pitr(&row.service);
    // Where there is room for one of the two, what can be restored is worth more than how large the backups were.
    let both = width >= usize::from(WIDE_STRIP);
    let has_moments = !model.data.pitr.is_empty();
    let (moments, sizes) = (status.is_some() || (both && has_moments), both || status.is_none());
    let last_columns = match both {
        true => LAST,
        false if width < 80 => SHORTEST_LAST,
        false => SHORT_LAST,
    };
    // What the others need, and what is left over for the name and for more sizes.
    let next_columns = if width >= ALL_STRIP { 19 } else { 0 };
    let others = 3 + 2 + last_columns + 2 + if has_moments { MOMENTS } else { 0 } + FEW_SPARKS + 1 + 10 + next_columns;
    let name = match both {
        true => name_columns(model, SHORT_NAME.max(width.saturating_sub(others)).min(LONG_NAME)),
        false if width < 80 => name_columns(model, 14),
        false => name_columns(model, NAME),
    };
    let mut spans = vec![
        Span::raw(" "),
        Span::styled(sign, sign_style),
        Span::styled(column(&escape(&row.service), name), theme.text),
    ];
    let (last, style) = last_words(model, row, !both, last_columns);
    spans.push(Span::styled(column(&last, last_columns), style));
    if moments {
        let used: usize = spans.iter().map(|s| s.content.width()).sum();
        let room = if both { MOMENTS - 2 } else { width.saturating_sub(used) };
        let (text, style) = recoverable::line(model, status, room);
        spans.push(Span::styled(if both { column(&text, room) } else { text }, style));
    }
    if sizes {
        let size = row.sizes.iter().rev().flatten().next().map(|n| bytes(*n)).unwrap_or_default();
        let most = match width.saturating_sub(others + name) {
            spare if width >= ALL_STRIP => (FEW_SPARKS + spare).min(SPARKS),
            _ => FEW_SPARKS,
        };
        let sizes = row.sizes.get(row.sizes.len().saturating_sub(most)..).unwrap_or_default();
        spans.push(Span::styled(format!("{:<1$} ", spark(sizes), most), theme.accent));
        spans.push(Span::styled(format!("{size:>8}  "), theme.dim));
        if width >= ALL_STRIP {
            let next = row.next.map_or("no schedule".to_owned(), |at| format!("next {}", when(model, at)));
            spans.push(Span::styled(format!("{next:<17}  "), if row.next.is_some() { theme.text } else { theme.warn }));
        }
        // Said in the words before already, unless those say that it is unreachable.
        if row.last_failed && model.lost_service(&row.service).is_some() {
            spans.push(Span::styled("last failed", theme.error));
        }
    }
    spans
}
