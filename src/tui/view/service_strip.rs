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
const WIDE_STRIP: usize = 120;
/// From this width on it shows more runs, and the next one.
const ALL_STRIP: usize = 158;
/// Runs that are shown where there is less room.
const FEW_SPARKS: usize = 10;
/// Columns for what can be restored to any moment: all of it, with why it is not recorded; less than that, beside the
/// sizes; and the least, where it stands alone.
const MOMENTS: usize = 49;
const FEW_MOMENTS: usize = 28;
const FEWEST_MOMENTS: usize = 24;
/// From this many on they have room for why nothing is recorded.
const WITH_REASON: usize = 44;
/// Columns of the shortest name.
const SHORT_NAME: usize = 15;
/// Columns for how the last backups went: where there is room, where there is little, and on the narrowest screens.
const LAST: usize = 26;
const SHORT_LAST: usize = 23;
const SHORTEST_LAST: usize = 18;
/// Columns of the size of the last backup, and of when the next one is due.
const SIZE: usize = 8;
const NEXT: usize = 17;
/// Blank columns between two columns, and those of the sign in front of a name.
const GAP: usize = 2;
const SIGN: usize = 3;

/// The columns of the services, which are the same in each of their lines.
struct Columns {
    name: usize,
    last: usize,
    /// Of what can be restored to any moment.
    moments: usize,
    /// Runs whose sizes are drawn.
    sparks: usize,
    /// Moments and sizes are both shown; else what can be restored is worth more than how large the backups were.
    has_both: bool,
    has_next: bool,
}

impl Columns {
    /// For the services in `lines`: everything that is known of them, as far as their whole names leave room. A name
    /// is what tells two services apart, so it is cut only where even the least about them would have no room.
    fn new(model: &Model, lines: &[StripLine], width: usize) -> Self {
        let rows: Vec<&StripRow> = lines
            .iter()
            .filter_map(|line| if let StripLine::Service(row) = line { Some(*row) } else { None })
            .collect();
        let longest = rows.iter().map(|row| escape(&row.service).width()).max().unwrap_or(0).max(SHORT_NAME);
        let has_moments = !model.data.pitr.is_empty();
        let sizes = FEW_SPARKS + 1 + SIZE;
        let next = NEXT + GAP;
        // Columns behind the name: of how the last backups went, and of the rest at least.
        let all = LAST + GAP + sizes + GAP + if has_moments { FEW_MOMENTS + GAP } else { 0 };
        let needs = |row: &&StripRow| if model.pitr(&row.service).is_some() { FEWEST_MOMENTS } else { sizes };
        let short_last = if width < 80 { SHORTEST_LAST } else { SHORT_LAST };
        let one = short_last + GAP + rows.iter().map(needs).max().unwrap_or(0);
        let for_name = |others: usize| width.saturating_sub(SIGN + GAP + others);
        let has_next = width >= ALL_STRIP && longest <= for_name(all + next);
        let has_both = has_next || (width >= WIDE_STRIP && longest <= for_name(all));
        if !has_both {
            let name = longest.min(for_name(one).max(SHORT_NAME));
            let moments = for_name(short_last + GAP + name);
            return Self { name, last: short_last, moments, sparks: FEW_SPARKS, has_both, has_next };
        }
        // What the others leave goes to the moments first, then to more runs.
        let mut spare = for_name(longest + all + if has_next { next } else { 0 });
        let mut moments = 0;
        if has_moments {
            let more = spare.min(MOMENTS - FEW_MOMENTS);
            (moments, spare) = (FEW_MOMENTS + more, spare - more);
        }
        let sparks = if has_next { (FEW_SPARKS + spare).min(SPARKS) } else { FEW_SPARKS };
        Self { name: longest, last: LAST, moments, sparks, has_both, has_next }
    }
}

pub fn draw(frame: &mut Frame, model: &Model, area: Rect) {
    if area.height == 0 {
        return;
    }
    let room = usize::from(area.height - 1);
    let all = lines(&model.strip);
    let (shown, hidden) = all.split_at(room.min(all.len()));
    let hidden: usize = hidden.iter().map(StripLine::services).sum();
    let width = usize::from(area.width);
    let columns = Columns::new(model, shown, width);
    for (i, line) in shown.iter().enumerate() {
        let spans = match line {
            StripLine::Counts(counts) => count_spans(model, counts),
            StripLine::Service(row) => service_spans(model, row, &columns),
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
    let have = if rows.len() == 1 { "has" } else { "have" };
    let text = format!("{} {have} no good backup: {}", counted(rows.len() as u64, "service"), names.join(", "));
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

/// A text in its column, with two blank ones to the next.
fn column(text: &str, width: usize) -> String {
    format!("{}  ", cell(text, width))
}

fn service_spans(model: &Model, row: &StripRow, columns: &Columns) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let (sign, sign_style) = sign(model, row.standing);
    let status = model.pitr(&row.service);
    let both = columns.has_both;
    let mut spans = vec![
        Span::raw(" "),
        Span::styled(sign, sign_style),
        Span::styled(column(&escape(&row.service), columns.name), theme.text),
    ];
    let is_short = !both || columns.moments < WITH_REASON;
    let (last, style) = last_words(model, row, is_short, columns.last);
    spans.push(Span::styled(column(&last, columns.last), style));
    if columns.moments > 0 && (both || status.is_some()) {
        let (text, style) = recoverable::line(model, status, columns.moments);
        spans.push(Span::styled(if both { column(&text, columns.moments) } else { text }, style));
    }
    if both || status.is_none() {
        let size = row.sizes.iter().rev().flatten().next().map(|n| bytes(*n)).unwrap_or_default();
        let sizes = row.sizes.get(row.sizes.len().saturating_sub(columns.sparks)..).unwrap_or_default();
        spans.push(Span::styled(format!("{:<1$} ", spark(sizes), columns.sparks), theme.accent));
        spans.push(Span::styled(format!("{size:>SIZE$}  "), theme.dim));
        if columns.has_next {
            let next = row.next.map_or("no schedule".to_owned(), |at| format!("next {}", when(model, at)));
            let style = if row.next.is_some() { theme.text } else { theme.warn };
            spans.push(Span::styled(column(&next, NEXT), style));
        }
        // Said in the words before already, unless those say that it is unreachable.
        if row.last_failed && model.lost_service(&row.service).is_some() {
            spans.push(Span::styled("last failed", theme.error));
        }
    }
    spans
}
