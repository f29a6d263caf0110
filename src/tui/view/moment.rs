//! The timeline of a restore: everything that can be restored in one line, the time around the cursor as bars of
//! operations, and what the cursor stands at.
//!
//! Cursor, gaps, bases and restores are signs of their own, so that they are seen without colours and in seven bits.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::recoverable;
use super::text::{fit, wrap};
use crate::domain::pitr::{MarkKind, RecoverableRange, Status, When};
use crate::domain::text::{count, duration, escape};
use crate::domain::timestamp::Timestamp;
use crate::tui::form::{ADD, Form};
use crate::tui::model::Model;
use crate::tui::moment::{self, MomentPane, Note, Odd, View};

/// Columns in front of everything below the first line.
const INDENT: usize = 7;

/// How wide the form is that holds it, on a terminal of some size.
pub fn form_width(size: (u16, u16)) -> u16 {
    if super::is_small(size) { size.0 } else { 140.min(size.0.saturating_sub(4)) }
}

/// How many columns of time there are, on a terminal of some size.
pub fn columns(size: (u16, u16)) -> u32 {
    u32::from(form_width(size).saturating_sub(4)).saturating_sub(INDENT as u32).max(1)
}

/// Columns below which a line of everything shows nothing.
const LEAST_LANE: usize = 16;

/// Whether the screen is so low that the timeline leaves out what can be read elsewhere: the time has its row below it.
pub fn is_low(model: &Model) -> bool {
    model.size.1 < 20
}

/// Rows of the bars.
fn bar_rows(model: &Model) -> usize {
    match model.size.1 {
        ..20 => 1,
        20..30 => 4,
        30..44 => 5,
        _ => 7,
    }
}

/// What a column of a lane shows, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Outside,
    Covered,
    Base,
    Restore,
    Gap,
    /// The ends of what is drawn below.
    Begin,
    End,
    Cursor,
}

impl Cell {
    fn sign(self) -> char {
        match self {
            Self::Outside => ' ',
            Self::Covered => '─',
            Self::Base => '●',
            Self::Restore => '↺',
            Self::Gap => '▒',
            Self::Begin => '[',
            Self::End => ']',
            Self::Cursor => '▲',
        }
    }

    fn style(self, model: &Model) -> Style {
        match self {
            Self::Outside | Self::Covered => model.theme.dim,
            Self::Base => model.theme.ok,
            Self::Restore => model.theme.running,
            Self::Gap => model.theme.error,
            Self::Begin | Self::End | Self::Cursor => model.theme.accent,
        }
    }
}

/// A stretch of time on some columns: `at` gives the first second of a column, and of the one after the last.
fn lane(status: &Status, width: usize, at: impl Fn(usize) -> u32) -> Vec<Cell> {
    let inside = |from: u32, until: u32, first: u32, last: u32| from <= last && first < until;
    (0..width)
        .map(|column| {
            let (from, until) = (at(column), at(column + 1).max(at(column).saturating_add(1)));
            let has = |t: u32| (from..until).contains(&t);
            let lost = |pair: &[RecoverableRange]| {
                let (after, before) = (pair[0].to_ts.t, pair[1].from_ts.t);
                after < before && inside(from, until, after, before - 1)
            };
            if status.ranges.windows(2).any(lost) {
                Cell::Gap
            } else if status.marks.iter().any(|m| has(m.ts.t)) {
                Cell::Restore
            } else if status.bases.iter().any(|b| has(b.consistent_at_ts.t)) {
                Cell::Base
            } else if status.ranges.iter().any(|r| inside(from, until, r.from_ts.t, r.to_ts.t)) {
                Cell::Covered
            } else {
                Cell::Outside
            }
        })
        .collect()
}

fn spans(model: &Model, cells: &[Cell]) -> Vec<Span<'static>> {
    cells
        .chunk_by(|a, b| a == b)
        .map(|group| Span::styled(group.iter().map(|c| c.sign()).collect::<String>(), group[0].style(model)))
        .collect()
}

/// What stands in the row of the timeline (`room` columns), and the lines below it (`width` columns).
pub fn lines(model: &Model, pane: &MomentPane, room: usize, width: usize) -> (Vec<Span<'static>>, Vec<Line<'static>>) {
    let theme = &model.theme;
    let status = model.pitr(&pane.service);
    let Some((status, ends)) = status.and_then(|s| Some((s, moment::ends(&s.ranges)?))) else {
        let why = match status {
            Some(status) => recoverable::nothing_yet(model, status),
            None => "nothing keeps the changes of this service".into(),
        };
        let mut parts = wrap(&format!("! {why}"), room).into_iter().map(|part| Span::styled(part, theme.warn));
        let first = parts.next().into_iter().collect();
        let pad = " ".repeat(width.saturating_sub(room));
        return (first, parts.map(|part| Line::from(vec![Span::raw(pad.clone()), part])).collect());
    };
    let zone = pane.zone(model.zone, model.local_zone);
    let t = moment::second(&status.ranges, pane.at);
    let indent = || Span::raw(" ".repeat(INDENT));
    let mut out: Vec<Line> = bars(model, pane, t).into_iter().map(|row| line(indent(), row)).collect();
    let view = pane.view;
    let label = Span::styled(format!("{:<INDENT$}", "zoomed"), theme.dim);
    out.push(line(label, spans(model, &lane(status, view.columns as usize, |c| view.at(c)))));
    out.push(line(indent(), pointer(model, pane, status, zone, view.column(t).unwrap_or(0))));
    out.push(line(indent(), axis(model, pane, zone)));
    for (text, style) in facts(model, pane, status, zone).into_iter().filter(|(_, style)| {
        // What kept the cursor from going further is said on the lowest screens, too.
        !is_low(model) || ![theme.text, theme.dim].contains(style)
    }) {
        out.extend(
            wrap(&text, width.saturating_sub(INDENT))
                .into_iter()
                .map(|part| Line::from(vec![indent(), Span::styled(part, style)])),
        );
    }
    (overview(model, status, ends, (t, view), zone, room), out)
}

fn line(first: Span<'static>, rest: Vec<Span<'static>>) -> Line<'static> {
    Line::from(std::iter::once(first).chain(rest).collect::<Vec<_>>())
}

/// Everything that can be restored, with the part that is drawn below in brackets: `all 20 Nov 02:00 ●──▒▒●─[─▲] 21 Nov 14:01`.
fn overview(
    model: &Model,
    status: &Status,
    (first, last): (u32, u32),
    (t, view): (u32, View),
    zone: Tz,
    room: usize,
) -> Vec<Span<'static>> {
    // Within hours, the day says little and the second much.
    let form = if last - first < 7_200 { "%H:%M:%S" } else { "%d %b %H:%M" };
    let label = |t: u32, form: &str| time(t).with_timezone(&zone).format(form).to_string();
    let ends = |form: &str| (label(first, form), label(last, form));
    // One column more on both sides, for the brackets.
    let left = |(from, to): &(String, String)| room.saturating_sub(from.width() + to.width() + 8);
    // Where the times leave no room for the line itself, the days do.
    let days = match last - first {
        ..86_400 => "%H:%M",
        86_400..2_419_200 => "%a %d",
        _ => "%d %b",
    };
    let whole = ends(form);
    let (from, to) = if left(&whole) < LEAST_LANE { ends(days) } else { whole };
    let width = left(&(from.clone(), to.clone()));
    let span = u64::from(last - first) + 1;
    let at = |c: usize| first.saturating_add((u64::from(c as u32) * span / width.max(1) as u64) as u32);
    let column = |t: u32| {
        let column = (u64::from(t.saturating_sub(first)) * width as u64 / span) as usize;
        column.min(width.saturating_sub(1))
    };
    let mut cells = vec![Cell::Outside];
    cells.extend(lane(status, width, at));
    cells.push(Cell::Outside);
    let mut set = |at: usize, cell: Cell| cells.get_mut(at).into_iter().for_each(|known| *known = cell);
    // Where all of it is drawn below there is no part to show.
    if view.from > first || view.until() <= last {
        set(column(view.from), Cell::Begin);
        set(column(view.until().saturating_sub(1)) + 2, Cell::End);
    }
    set(column(t) + 1, Cell::Cursor);
    let mut out = vec![Span::styled("all ", model.theme.text), Span::styled(format!("{from} "), model.theme.dim)];
    out.extend(spans(model, &cells));
    out.push(Span::styled(format!(" {to}"), model.theme.dim));
    out
}

fn time(t: u32) -> DateTime<Utc> {
    Timestamp::new(t, 0).to_datetime()
}

/// The operations of each column; the column of the cursor goes through.
fn bars(model: &Model, pane: &MomentPane, t: u32) -> Vec<Vec<Span<'static>>> {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let theme = &model.theme;
    let rows = bar_rows(model);
    let counts = pane.bars().and_then(Result::ok).unwrap_or_default();
    let cursor = pane.view.column(t);
    let sign = |column: usize, below: usize| {
        let sign = EIGHTHS[height(counts, column, rows * 8).saturating_sub(below * 8).min(8)];
        if sign == ' ' && cursor == Some(column) { '│' } else { sign }
    };
    (0..rows)
        .rev()
        .map(|below| {
            let cells: Vec<(char, bool)> =
                (0..pane.view.columns as usize).map(|c| (sign(c, below), cursor == Some(c))).collect();
            let style = |is_cursor| if is_cursor { theme.accent } else { theme.bar_done };
            let groups = cells.chunk_by(|a, b| a.1 == b.1);
            groups.map(|g| Span::styled(g.iter().map(|c| c.0).collect::<String>(), style(g[0].1))).collect()
        })
        .collect()
}

/// How high the bar of a column is, of `most` steps: what is there is seen, however little it is.
fn height(counts: &[u64], column: usize, most: usize) -> usize {
    let highest = counts.iter().copied().max().unwrap_or(0);
    let n = counts.get(column).copied().unwrap_or(0);
    if n == 0 { 0 } else { ((u128::from(n) * most as u128).div_ceil(u128::from(highest.max(1)))) as usize }
}

/// The cursor, with the moment beside it where there is room for it.
fn pointer(model: &Model, pane: &MomentPane, status: &Status, zone: Tz, column: usize) -> Vec<Span<'static>> {
    let text = moment::exactly(time(moment::second(&status.ranges, pane.at)), zone);
    let (sign, words) = (model.theme.accent, model.theme.title);
    let after = (pane.view.columns as usize).saturating_sub(column + 2);
    if text.width() <= after || after >= column {
        let text = fit(&text, after);
        vec![Span::raw(" ".repeat(column)), Span::styled("▲ ", sign), Span::styled(text, words)]
    } else {
        let text = fit(&text, column.saturating_sub(1));
        let pad = column.saturating_sub(text.width() + 1);
        vec![Span::raw(" ".repeat(pad)), Span::styled(text, words), Span::styled(" ▲", sign)]
    }
}

/// Begin and end of what is drawn, and what a column stands for.
fn axis(model: &Model, pane: &MomentPane, zone: Tz) -> Vec<Span<'static>> {
    let theme = &model.theme;
    let View { from, step, columns } = pane.view;
    let form = match step {
        ..60 => "%H:%M:%S",
        60..86_400 => "%d %b %H:%M",
        _ => "%d %b %Y",
    };
    let label = |t: u32| time(t).with_timezone(&zone).format(form).to_string();
    let (left, right) = (label(from), label(pane.view.at(columns.saturating_sub(1) as usize)));
    let room = (columns as usize).saturating_sub(left.width() + right.width());
    let each = moment::step_words(step);
    let most = match pane.bars() {
        Some(Ok(counts)) => {
            let (long, short) = match counts.iter().copied().max().unwrap_or(0) {
                0 => (format!("a column is {each}, no operation in any"), format!("{each} a column, all empty")),
                n => {
                    let highest = count(n);
                    let long = format!("a column is {each}, the highest {highest} operations");
                    (long, format!("{each} a column, at most {highest}"))
                }
            };
            // What has no room is left out: half a number is none.
            let forms = [long, short, format!("{each} a column"), each.to_owned()];
            forms.into_iter().find(|form| form.width() + 2 <= room).unwrap_or_default()
        }
        Some(Err(problem)) => format!("not counted: {}", model.say(&problem.message)),
        None => format!("a column is {each}"),
    };
    let most = fit(&most, room.saturating_sub(2));
    let free = room.saturating_sub(most.width());
    let (before, after) = (" ".repeat(free / 2), " ".repeat(free - free / 2));
    vec![Span::styled(format!("{left}{before}{most}{after}{right}"), theme.dim)]
}

/// What the cursor stands at, and what kept it from going further.
fn facts(model: &Model, pane: &MomentPane, status: &Status, zone: Tz) -> Vec<(String, Style)> {
    let theme = &model.theme;
    let t = moment::second(&status.ranges, pane.at);
    let here = match pane.operations(&status.ranges) {
        Some(Ok(0)) => "no operation in this second".to_owned(),
        Some(Ok(1)) => "1 operation in this second".to_owned(),
        Some(Ok(n)) => format!("{} operations in this second", count(n)),
        Some(Err(problem)) => format!("operations in this second: not counted: {}", model.say(&problem.message)),
        None => "operations in this second: not counted yet".to_owned(),
    };
    let here = match pane.at {
        When::Second(_) => here,
        When::Position(ts) => format!("up to the position {ts}, {here}"),
        When::Latest => format!("the newest change, {here}"),
    };
    let mut out = vec![(here, theme.text)];
    if let Some(base) = pane.base(status) {
        let at = base.consistent_at_ts;
        let before = match t.saturating_sub(at.t) {
            0 => "in this second".to_owned(),
            seconds => {
                let before = duration(u64::from(seconds));
                // `2 h 05` alone is read as a time of day here.
                let unit = if before.contains(" h ") { " min" } else { "" };
                format!("{before}{unit} earlier")
            }
        };
        let of = to_the_second(at.t, zone);
        // A long name must not push out the rest.
        let name = fit(&escape(&base.backup), 32);
        out.push((format!("base {name} of {of}, {before}"), theme.dim));
    }
    for mark in status.marks.iter().filter(|m| m.ts.t.abs_diff(t) <= pane.view.step).take(2) {
        let what = match mark.kind {
            MarkKind::RestoreBegan => "a restore began",
            MarkKind::RestoreEnded => "a restore ended",
        };
        out.push((format!("↺ {what} {}: {}", to_the_second(mark.ts.t, zone), escape(&mark.text)), theme.running));
    }
    let notes = [awaited(pane, status, zone), note(pane, status, zone)];
    out.extend(notes.into_iter().flatten().map(|text| (format!("! {text}"), theme.warn)));
    match pane.odd {
        Some(Odd::Twice { first, second }) => {
            let (first, second) = (offset(first), offset(second));
            let text = format!(
                "! the clock showed that time twice; this is the first, {first}: with {second} behind it, it is the second"
            );
            out.push((text, theme.warn));
        }
        Some(Odd::Never) => {
            out.push(("! the clock was set forward over that time; it goes on here".into(), theme.warn));
        }
        None => {}
    }
    out
}

/// `+01:00`, from seconds east of UTC.
fn offset(seconds: i32) -> String {
    chrono::FixedOffset::east_opt(seconds).map_or_else(String::new, |offset| offset.to_string())
}

/// `21 Nov 14:02:03`: the year and the zone stand at the cursor.
fn to_the_second(t: u32, zone: Tz) -> String {
    time(t).with_timezone(&zone).format("%d %b %H:%M:%S").to_string()
}

/// What was asked for and is not stored yet: the cursor goes there by itself.
fn awaited(pane: &MomentPane, status: &Status, zone: Tz) -> Option<String> {
    let wanted = match pane.awaited(&status.ranges)? {
        When::Position(ts) => format!("position {ts}"),
        wanted => moment::exactly(time(moment::second(&status.ranges, wanted)), zone),
    };
    Some(format!("{wanted} is not stored yet: the cursor stands at the last change that is, and follows up to there"))
}

fn note(pane: &MomentPane, status: &Status, zone: Tz) -> Option<String> {
    let exact = |t: u32| to_the_second(t, zone);
    let (first, last) = moment::ends(&status.ranges)?;
    let touched = moment::touched(&status.ranges, pane.at).map(|(before, after)| Note::Gap { before, after });
    Some(match pane.note.or(touched)? {
        Note::Oldest => format!("nothing before {} can be restored: no older base", exact(first)),
        // It says more than that.
        Note::Newest if pane.awaited(&status.ranges).is_some() => return None,
        Note::Newest => format!("nothing after {} is stored yet", exact(last)),
        Note::Quiet => "no operation in what is drawn here; - shows more of the time".into(),
        Note::Gap { before, after } => {
            let why = moment::gap(status, before, after)
                .map_or_else(|| "no base lies in what is stored of it".to_owned(), |gap| escape(&gap.reason));
            format!("nothing between {} and {} can be restored: {why}", exact(before), exact(after))
        }
    })
}

/// What a restore to the moment does, in one sentence; `None` where nothing can be restored.
pub fn sentence(model: &Model, form: &Form) -> Option<String> {
    let pane = form.moment.as_ref()?;
    let status = model.pitr(&pane.service).filter(|s| !s.ranges.is_empty())?;
    let exact = moment::exactly(time(moment::second(&status.ranges, pane.at)), pane.zone(model.zone, model.local_zone));
    let moment = match pane.at {
        When::Second(_) => format!("the end of {exact}"),
        When::Position(ts) => format!("{ts}, {exact}"),
        When::Latest => format!("the newest change, {exact}"),
    };
    let (service, to, include) = (&pane.service, form.text("to"), form.text("include").trim());
    let what = if include.is_empty() { escape(service) } else { format!("{} of {}", escape(include), escape(service)) };
    let into = if [service.as_str(), "", ADD].contains(&to) { String::new() } else { format!(", into {}", escape(to)) };
    Some(format!("Restores {what} as it was at {moment}{into}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_seen_beside_much() {
        let counts = [0, 1, 500, 1_000, u64::MAX];
        assert_eq!(height(&counts, 0, 16), 0);
        assert_eq!(height(&counts, 1, 16), 1);
        assert_eq!(height(&counts, 4, 16), 16);
        assert_eq!(height(&[10, 5], 1, 16), 8);
        assert_eq!(height(&[], 3, 16), 0);
    }
}
