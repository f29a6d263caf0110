//! The strip above the backups: of each service the last good backup, what can be restored to any moment, and sizes.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::chrome::rule;
use super::recoverable;
use super::text::{age, ago, cell, fit, put, when};
use crate::domain::text::{bytes, escape};
use crate::tui::model::{Layer, Model, Screen};
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
    room.min(lines(&model.strip).len() as u16)
}

/// From this width on the strip shows everything it knows.
const WIDE_STRIP: u16 = 120;
/// From this width on it shows more runs, and the next one.
const ALL_STRIP: usize = 156;
/// Runs that are shown where there is less room.
const FEW_SPARKS: usize = 10;
/// Columns for what is known of the last backups.
const LONG_WORDS: usize = 24;
const SHORT_WORDS: usize = 20;
/// Columns for what can be restored to any moment, there.
const MOMENTS: usize = 47;

pub fn draw(frame: &mut Frame, model: &Model, area: Rect) {
    if area.height == 0 {
        return;
    }
    let room = usize::from(area.height - 1);
    let all = lines(&model.strip);
    let hidden: usize = all.iter().skip(room).map(StripLine::services).sum();
    for (i, line) in all.iter().take(room).enumerate() {
        let more = if hidden > 0 && i + 1 == room { format!(" and {hidden} more") } else { String::new() };
        let width = usize::from(area.width).saturating_sub(more.width());
        let mut spans = match line {
            StripLine::Counts(counts) => count_spans(model, counts),
            StripLine::Service(row) => service_spans(model, row, width),
            StripLine::Unprotected(rows) => unprotected_spans(model, rows, width),
        };
        spans.push(Span::styled(more, model.theme.dim));
        put(frame, Line::from(spans), Rect { y: area.y + i as u16, height: 1, ..area });
    }
    rule(frame, model, area.bottom() - 1, area.width);
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

/// What is known of its last backups, the bad news first. `short`: there is no room for why nothing is recorded.
fn last_words(model: &Model, row: &StripRow, short: bool) -> (String, Style) {
    let theme = &model.theme;
    if let Some(lost) = model.lost_service(&row.service) {
        return (format!("unreachable {}", age(model, lost.since)), theme.error);
    }
    let trouble = model.pitr(&row.service).and_then(|status| trouble(model, status));
    if short && !row.last_failed && trouble == Some(Trouble::Stopped) {
        return ("recording stopped".to_owned(), theme.error);
    }
    if row.retrying {
        return ("failed, tried again".to_owned(), theme.error);
    }
    if let Some(schedule) = row.failed_schedule.as_ref().filter(|_| row.last_failed && row.last_good.is_some()) {
        // When the last good backup was is said in the list below; here, whose failure that is.
        let room = if short { SHORT_WORDS } else { LONG_WORDS } - " failed".len();
        return (format!("{} failed", fit(&escape(schedule), room)), theme.error);
    }
    match (row.last_good, row.last_failed) {
        (Some(at), true) => (format!("failed; last good {}", age(model, at)), theme.error),
        (None, true) => ("failed, none is good".to_owned(), theme.error),
        (Some(at), false) => (format!("last good {}", ago(model, at)), theme.ok),
        (None, false) => ("no good backup yet".to_owned(), theme.warn),
    }
}

fn service_spans(model: &Model, row: &StripRow, width: usize) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let (sign, sign_style) = sign(model, row.standing);
    let mut spans = vec![
        Span::raw(" "),
        Span::styled(sign, sign_style),
        Span::styled(format!("{} ", cell(&escape(&row.service), 18)), theme.text),
    ];
    let status = model.pitr(&row.service);
    // Where there is room for one of the two, what can be restored is worth more than how large the backups were.
    let both = model.size.0 >= WIDE_STRIP;
    let (last, style) = last_words(model, row, !both);
    let (moments, sizes) = (status.is_some() || (both && !model.data.pitr.is_empty()), both || status.is_none());
    let columns = if sizes { LONG_WORDS } else { SHORT_WORDS };
    spans.push(Span::styled(format!("{last:<columns$} "), style));
    if moments {
        let used: usize = spans.iter().map(|s| s.content.width()).sum();
        let room = if both { MOMENTS } else { width.saturating_sub(used) };
        let (text, style) = recoverable::line(model, status, room);
        spans.push(Span::styled(cell(&text, room), style));
    }
    if sizes {
        let size = row.sizes.iter().rev().flatten().next().map(|n| bytes(*n)).unwrap_or_default();
        let most = if width >= ALL_STRIP { SPARKS } else { FEW_SPARKS };
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
