//! Pages that take the place of the list: details, reports, messages, and where they are scrolled to.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::text::{put, spinner, wrap};
use super::{check, details, help};
use super::{storage_report, storage_sync};
use crate::domain::backup::Model as BackupModel;
use crate::domain::text::escape;
use crate::tui::model::{Layer, Load, Model, Report};
use crate::tui::msg::Problem;
use crate::tui::search::places;

/// Draws the window of a page that its scroll position asks for.
pub fn draw(frame: &mut Frame, model: &Model, layer: &Layer, area: Rect) {
    let lines = lines(model, layer, area.width);
    let scroll = match layer {
        Layer::Details { scroll, .. }
        | Layer::Report { scroll, .. }
        | Layer::Messages { scroll }
        | Layer::Help { scroll, .. } => *scroll,
        _ => 0,
    };
    let total = lines.len();
    let height = usize::from(area.height);
    let from = scroll.min(total.saturating_sub(height));
    let mut shown: Vec<Line> = lines.into_iter().skip(from).take(height).collect();
    if matches!(layer, Layer::Details { .. }) && !model.search.is_empty() {
        let selected = super::hits(model).get(model.search.at).copied();
        for (i, line) in shown.iter_mut().enumerate() {
            mark_hits(model, line, selected == Some(from + i));
        }
    }
    let text = Rect { width: area.width.saturating_sub(2), ..area };
    put(frame, shown, text);
    if total > height && height > 2 {
        // A bar at the right edge says where the window is.
        let thumb = (height * height / total).max(1);
        let top = (height - thumb) * from / (total - height);
        let bar: Vec<Line> = (0..height)
            .map(|y| {
                let inside = (top..top + thumb).contains(&y);
                Line::styled(if inside { "█" } else { "│" }, model.theme.border)
            })
            .collect();
        put(frame, bar, Rect { x: area.right().saturating_sub(1), width: 1, ..area });
    }
    if let Layer::Help { filter, filtering: true, .. } = layer {
        super::place_cursor(frame, area.x + 8 + filter.visual_cursor() as u16, area.y);
    }
}

/// Gives what is looked for a style of its own.
fn mark_hits(model: &Model, line: &mut Line<'static>, selected: bool) {
    let needle = model.search.input.value();
    let style = if selected { model.theme.button_focused } else { model.theme.selected };
    let mut spans = Vec::new();
    for span in line.spans.drain(..) {
        let mut from = 0;
        for (begin, end) in places(&span.content, needle) {
            spans.push(Span::styled(span.content[from..begin].to_owned(), span.style));
            spans.push(Span::styled(span.content[begin..end].to_owned(), style));
            from = end;
        }
        spans.push(Span::styled(span.content[from..].to_owned(), span.style));
    }
    line.spans = spans;
}

/// The lines of a page, made for `width` columns.
pub fn lines(model: &Model, layer: &Layer, width: u16) -> Vec<Line<'static>> {
    let width = width.saturating_sub(2);
    match layer {
        Layer::Details { target, .. } => details::lines(model, target, width),
        Layer::Report { report, .. } => report_lines(model, report, usize::from(width)),
        Layer::Messages { .. } => messages(model, usize::from(width)),
        Layer::Help { filter, filtering, .. } => help::lines(model, filter.value(), *filtering, usize::from(width)),
        _ => Vec::new(),
    }
}

fn problem_lines(model: &Model, problem: &Problem, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line> = wrap(&format!("✗ {}", model.say(&problem.message)), width)
        .into_iter()
        .map(|part| Line::styled(part, model.theme.error))
        .collect();
    if let Some(hint) = &problem.hint {
        lines.push(Line::raw(""));
        lines.extend(wrap(&model.say(hint), width).into_iter().map(|part| Line::styled(part, model.theme.command)));
    }
    lines
}

fn report_lines(model: &Model, report: &Report, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let waiting = |text: &str| vec![Line::styled(format!("{} {text}", spinner(model)), theme.running)];
    match report {
        Report::Check(name) => match model.check(name, BackupModel::default()) {
            None | Some(Load::Waiting) => waiting("Checking the prerequisites, 10 s at most for each connection"),
            Some(Load::Failed(problem)) => problem_lines(model, problem, width),
            Some(Load::Ready(report)) => check::report_lines(model, report, width).0,
        },
        Report::Test(name) => {
            let Some(run) = model.tests.get(name) else { return waiting("Starting the test") };
            let mut lines = Vec::new();
            for step in &run.steps {
                let (sign, style) = if step.ok { ("✓", theme.ok) } else { ("✗", theme.error) };
                lines.push(Line::from(vec![
                    Span::styled(format!("{sign} "), style),
                    Span::raw(format!("{:<10}", escape(&step.id))),
                    Span::styled(format!("{:>8.0} ms  ", step.seconds * 1000.0), theme.dim),
                ]));
                let style = if step.ok { theme.dim } else { theme.error };
                let hint = step.hint.as_deref().filter(|_| !step.ok).unwrap_or_default();
                for (text, style) in [(step.reason(), style), (hint, theme.command)] {
                    let parts = wrap(&model.say(text), width.saturating_sub(4)).into_iter().filter(|p| !p.is_empty());
                    lines.extend(parts.map(|part| Line::styled(format!("    {part}"), style)));
                }
            }
            match &run.result {
                None => lines.extend(waiting("Writing, reading, listing and deleting a probe")),
                Some(Ok(())) if run.steps.iter().all(|s| s.ok) => {
                    lines.push(Line::raw(""));
                    lines.push(Line::styled("✓ The storage can be used.", theme.ok));
                }
                Some(Ok(())) => {
                    lines.push(Line::raw(""));
                    lines.push(Line::styled("✗ The storage cannot be used as it is.", theme.error));
                }
                Some(Err(problem)) => {
                    lines.push(Line::raw(""));
                    lines.extend(problem_lines(model, problem, width));
                }
            }
            lines
        }
        Report::Notification(channel) => match model.told.get(channel.word()) {
            None | Some(Load::Waiting) => waiting("Sending it"),
            Some(Load::Failed(problem)) => problem_lines(model, problem, width),
            Some(Load::Ready(told)) => {
                let mut lines = vec![Line::styled(
                    format!("✓ The {channel} took the notification in {:.1} s.", told.seconds),
                    theme.ok,
                )];
                let parts = wrap(&model.say(&told.detail), width.saturating_sub(2));
                lines.extend(parts.into_iter().map(|part| Line::styled(format!("  {part}"), theme.dim)));
                lines
            }
        },
        Report::Storage(name) => {
            let mut lines = storage_report::repair(model, name, width);
            lines.extend(match model.storage_checks.get(name) {
                None | Some(Load::Waiting) => waiting("Comparing the manifests with the objects"),
                Some(Load::Failed(problem)) => problem_lines(model, problem, width),
                Some(Load::Ready(report)) => storage_report::lines(model, report, width).0,
            });
            lines
        }
        Report::Sync { storage, .. } => match model.syncs.get(storage) {
            None | Some(Load::Waiting) => waiting("Reading the manifests in the storage"),
            Some(Load::Failed(problem)) => problem_lines(model, problem, width),
            Some(Load::Ready(synced)) => storage_sync::lines(model, synced, width),
        },
    }
}

fn messages(model: &Model, width: usize) -> Vec<Line<'static>> {
    let theme = &model.theme;
    let mut lines = Vec::new();
    let needs = model.needs();
    if !needs.is_empty() {
        lines.push(Line::styled("What needs somebody now", theme.accent));
        for text in needs {
            for (i, part) in wrap(&model.say(&text), width.saturating_sub(2)).into_iter().enumerate() {
                let sign = if i == 0 { "! " } else { "  " };
                lines.push(Line::from(vec![Span::styled(sign, theme.warn), Span::raw(part)]));
            }
        }
        lines.push(Line::raw(""));
        lines.push(Line::styled("Messages so far", theme.accent));
    }
    let listed = model.listed_messages();
    if listed.is_empty() {
        lines.push(Line::styled("No messages so far.", theme.dim));
        return lines;
    }
    for message in &listed {
        let (sign, style) = super::message::sign(model, message.level);
        let time = message.at.with_timezone(&model.zone).format("%H:%M:%S").to_string();
        for (i, part) in wrap(&model.say(&message.text), width.saturating_sub(12)).into_iter().enumerate() {
            let (time, sign) = if i == 0 { (time.as_str(), sign) } else { ("", " ") };
            lines.push(Line::from(vec![
                Span::styled(format!("{time:<9} "), theme.dim),
                Span::styled(format!("{sign} "), style),
                Span::raw(part),
            ]));
        }
        if let Some(hint) = &message.hint {
            for part in wrap(&model.say(hint), width.saturating_sub(12)) {
                lines.push(Line::styled(format!("{:12}{part}", ""), theme.command));
            }
        }
    }
    lines
}
