//! Small texts: ages, times, sizes that line up, bars, signs with their words.

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;
use tui_input::Input;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::domain::backup::{Backup, BackupState};
use crate::domain::job::{Job, JobState, Progress};
use crate::domain::text::{bytes, duration, escape};
use crate::tui::list_rows::backup_word;
use crate::tui::model::{BackupRow, Model};

/// `text` cut to `width` columns, with an ellipsis when something is missing.
pub fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > width {
            break;
        }
        out.push(c);
        used += w;
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// Draws a text. A line that is wider than its place ends with an ellipsis, and so does the last line that has room.
pub fn put<'a>(frame: &mut Frame, text: impl Into<Text<'a>>, area: Rect) {
    let mut text = text.into();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let cut = text.lines.len() > height;
    text.lines.truncate(height);
    for line in &mut text.lines {
        shorten(line, width);
    }
    if let Some(last) = text.lines.last_mut().filter(|_| cut) {
        last.spans.push(Span::raw(" …"));
        shorten(last, width);
    }
    frame.render_widget(Paragraph::new(text), area);
}

/// Cuts a line to `width` columns, with an ellipsis when more than spaces is missing.
pub fn shorten(line: &mut Line<'_>, width: usize) {
    let is_wider = {
        let text: String = line.spans.iter().map(|s| s.content.as_ref()).collect();
        text.trim_end().width() > width
    };
    if !is_wider {
        return;
    }
    let mut room = width;
    let mut kept = Vec::new();
    for span in line.spans.drain(..) {
        let wide = span.content.width();
        if wide < room {
            room -= wide;
            kept.push(span);
        } else {
            let text = fit(&format!("{} ", span.content), room);
            kept.push(Span::styled(text, span.style));
            break;
        }
    }
    line.spans = kept;
}

/// The first `most` of some lines; the last one ends with an ellipsis when there are more.
pub fn first_lines(mut parts: Vec<String>, most: usize) -> Vec<String> {
    if parts.len() > most {
        parts.truncate(most);
        if let Some(last) = parts.last_mut() {
            last.push_str(" …");
        }
    }
    parts
}

/// What went wrong, and what to do about it, in at most `most` lines: of both something can be read, and of what to do all
/// that has room.
pub fn reason_and_hint(
    model: &Model,
    reason: &str,
    hint: Option<String>,
    width: usize,
    most: usize,
) -> Vec<Line<'static>> {
    /// Of a reason so many lines stay.
    const LEAST: usize = 2;
    let theme = &model.theme;
    let width = width.saturating_sub(2);
    let reason = if reason.is_empty() { Vec::new() } else { wrap(&format!("✗ {reason}"), width) };
    let hint = hint.map_or_else(Vec::new, |hint| wrap(&hint, width));
    let hint = first_lines(hint, most.saturating_sub(reason.len().min(LEAST)).max(1));
    let reason = first_lines(reason, most.saturating_sub(hint.len()).max(1));
    let reason = reason.into_iter().map(|part| Line::styled(part, theme.error));
    reason.chain(hint.into_iter().map(|part| Line::styled(part, theme.command))).collect()
}

/// `text` in exactly `width` columns: cut, or padded at its end.
pub fn cell(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let pad = " ".repeat(width.saturating_sub(text.width()));
    text + &pad
}

/// `text` without its first columns.
pub fn skip_columns(text: &str, columns: usize) -> String {
    let mut used = 0;
    text.chars()
        .skip_while(|c| {
            let skip = used < columns;
            used += c.width().unwrap_or(0);
            skip
        })
        .collect()
}

/// `text` from a column on; what is left out in front of it is an ellipsis.
pub fn from_column(text: &str, column: usize) -> String {
    if column == 0 { text.to_owned() } else { format!("…{}", skip_columns(text, column + 1)) }
}

/// The first columns of `text`, without a sign for what is missing.
pub fn take_columns(text: &str, columns: usize) -> String {
    let mut used = 0;
    text.chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

/// The part of a typed text around its cursor that fits into a field, padded, and the column of the cursor in it.
pub fn typed(input: &Input, width: usize) -> (String, u16) {
    let scroll = input.visual_scroll(width.saturating_sub(1));
    let text = take_columns(&from_column(&escape(input.value()), scroll), width);
    let pad = " ".repeat(width.saturating_sub(text.width()));
    let cursor = input.visual_cursor().saturating_sub(scroll).min(width.saturating_sub(1));
    (text + &pad, cursor as u16)
}

/// `text` in lines of at most `width` columns, broken between words where that is possible.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word = word;
        loop {
            let gap = usize::from(!line.is_empty());
            if line.width() + gap + word.width() <= width {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(word);
                break;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
                continue;
            }
            // One word wider than the line.
            let mut cut = 0;
            let mut used = 0;
            for (i, c) in word.char_indices() {
                used += c.width().unwrap_or(0);
                if used > width && i > 0 {
                    break;
                }
                cut = i + c.len_utf8();
            }
            lines.push(word[..cut].to_owned());
            word = &word[cut..];
            if word.is_empty() {
                break;
            }
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// How long ago: `now`, `12 min`, `3 h`, `9 d`.
pub fn age(model: &Model, at: DateTime<Utc>) -> String {
    match (model.now - at).num_seconds() {
        ..60 => "now".into(),
        s @ 60..3_600 => format!("{} min", s / 60),
        s @ 3_600..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

/// `2 h ago`, `just now`.
pub fn ago(model: &Model, at: DateTime<Utc>) -> String {
    match age(model, at).as_str() {
        "now" => "just now".into(),
        age => format!("{age} ago"),
    }
}

/// A point in time in the zone of the screen: `21 Nov 14:02`, with the year when it is another one.
pub fn when(model: &Model, at: DateTime<Utc>) -> String {
    use chrono::Datelike;
    let (at, now) = (at.with_timezone(&model.zone), model.now.with_timezone(&model.zone));
    at.format(if at.year() == now.year() { "%d %b %H:%M" } else { "%d %b %Y" }).to_string()
}

/// The same with seconds and the zone, for details.
pub fn when_exactly(model: &Model, at: DateTime<Utc>) -> String {
    crate::tui::moment::exactly(at, model.zone)
}

/// The present picture of the spinner; a still sign without motion.
pub fn spinner(model: &Model) -> &'static str {
    use throbber_widgets_tui::symbols::throbber::{ASCII, BRAILLE_SIX};
    let set = if model.look.ascii || model.look.no_braille { ASCII } else { BRAILLE_SIX };
    if !model.motion() {
        return if model.look.ascii { "*" } else { "●" };
    }
    set.symbols[model.frame % set.symbols.len()]
}

/// Dots that come and go, always three columns wide.
pub fn ellipsis(model: &Model) -> &'static str {
    if model.motion() { ["   ", ".  ", ".. ", "..."][(model.frame / 3) % 4] } else { "..." }
}

/// `63 %`; empty while no total is known.
pub fn percent(progress: &Progress) -> String {
    progress.fraction().map(|f| format!("{:.0} %", (f * 100.0).floor())).unwrap_or_default()
}

/// A bar `width` columns wide.
pub fn bar(model: &Model, progress: &Progress, width: usize) -> Vec<Span<'static>> {
    let done = progress.fraction().map_or(0, |f| (f * width as f64) as usize).min(width);
    vec![
        Span::styled("█".repeat(done), model.theme.bar_done),
        Span::styled("░".repeat(width - done), model.theme.bar_todo),
    ]
}

/// `318 MB of 505 MB  142 MB/s  2 s left`.
pub fn progress_words(progress: &Progress) -> String {
    let mut text = match progress.bytes_total {
        0 => bytes(progress.bytes_done),
        total => format!("{} of {}", bytes(progress.bytes_done), bytes(total)),
    };
    if progress.bytes_per_second > 0 {
        text.push_str(&format!("  {}/s", bytes(progress.bytes_per_second)));
    }
    if let Some(seconds) = progress.remaining_seconds().filter(|s| *s > 0) {
        text.push_str(&format!("  {} left", duration(seconds)));
    }
    text
}

/// Sign and word of a job's state; the sign of a running job moves.
pub fn job_state(model: &Model, job: &Job) -> (String, Style) {
    let theme = &model.theme;
    if job.cancel_requested && !job.state.is_finished() {
        return (format!("{} stopping", spinner(model)), theme.warn);
    }
    match job.state {
        JobState::Running => {
            let word = job.kind.entry().doing;
            let percent = percent(&job.progress);
            let rest = if percent.is_empty() { ellipsis(model).to_owned() } else { format!(" {percent}") };
            (format!("{} {word}{rest}", spinner(model)), theme.running)
        }
        JobState::Queued => ("◌ queued".into(), theme.dim),
        JobState::WaitingRetry => (format!("◌ {}", retry_words(model, job)), theme.warn),
        JobState::Succeeded => ("✓ done".into(), theme.ok),
        JobState::Failed => ("✗ failed".into(), theme.error),
        JobState::Cancelled => ("○ cancelled".into(), theme.dim),
        JobState::Skipped => ("- skipped".into(), theme.dim),
        JobState::Missed => ("! missed".into(), theme.warn),
    }
}

/// `retry 2 of 3 in 14:32`: which retry comes next, and when.
pub fn retry_words(model: &Model, job: &Job) -> String {
    let retries = job.retry.retries.max(job.attempt);
    match job.next_attempt_at {
        Some(at) => format!("retry {} of {retries} {}", job.attempt, countdown(model, at)),
        None => format!("retry {} of {retries}", job.attempt),
    }
}

/// `in 14:32`, `in 7:59:10`, `now`.
pub fn countdown(model: &Model, at: DateTime<Utc>) -> String {
    // Rounded up, so that it reaches zero when the moment comes, not a second before.
    let left = (at - model.now).num_milliseconds();
    let seconds = (left + 999) / 1_000;
    match seconds {
        ..=0 => "now".into(),
        s @ 1..3_600 => format!("in {}:{:02}", s / 60, s % 60),
        s => format!("in {}:{:02}:{:02}", s / 3_600, s % 3_600 / 60, s % 60),
    }
}

/// Sign and word of a backup's state.
pub fn backup_state(model: &Model, backup: &Backup) -> (String, Style) {
    let theme = &model.theme;
    let word = backup_word(backup.state, backup);
    let (sign, style) = match backup.state {
        BackupState::Succeeded if backup.verify_error.is_some() => ("✗", theme.error),
        BackupState::Succeeded => ("✓", theme.ok),
        BackupState::Running => (spinner(model), theme.running),
        BackupState::Deleting => ("◌", theme.dim),
        BackupState::Failed => ("✗", theme.error),
        BackupState::Incomplete => ("!", theme.warn),
    };
    (format!("{sign} {word}"), style)
}

/// The state of a row: of the job that works on it, else of the backup.
pub fn row_state(model: &Model, row: BackupRow) -> (String, Style) {
    match row {
        BackupRow::Backup(_, Some(job)) | BackupRow::Pending(job) => job_state(model, job),
        BackupRow::Backup(backup, None) => backup_state(model, backup),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit() {
        assert_eq!(fit("orders", 6), "orders");
        assert_eq!(fit("orders", 4), "ord…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("abc", 0), "");
        assert_eq!(fit("abc", 1), "…");
    }

    #[test]
    fn texts_wrap() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("日本語", 1), ["日", "本", "語"]);
    }
}
