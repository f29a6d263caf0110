//! The strip above the backups: of each service the last good backup, what can be restored to any moment, and sizes.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthStr;

use super::chrome::rule;
use super::recoverable;
use super::text::{ago, cell};
use crate::domain::text::{bytes, escape};
use crate::tui::model::{Layer, Model, Screen};
use crate::tui::service_strip::spark;

/// How many services the strip has room for.
pub fn rows(model: &Model, height: u16) -> u16 {
    if model.screen != Screen::Backups || model.layers.iter().any(Layer::is_page) {
        return 0;
    }
    let room = if height < 20 {
        1
    } else if height < 30 {
        2
    } else {
        4
    };
    room.min(model.strip.len() as u16)
}

/// From this width on the strip shows everything it knows.
const WIDE_STRIP: u16 = 120;
/// Columns for what can be restored to any moment, there.
const MOMENTS: usize = 47;

pub fn draw(frame: &mut Frame, model: &Model, area: Rect) {
    if area.height == 0 {
        return;
    }
    let theme = &model.theme;
    let rows = usize::from(area.height - 1);
    let hidden = model.strip.len().saturating_sub(rows);
    for (i, row) in model.strip.iter().take(rows).enumerate() {
        let (last, style) = match row.last_good {
            Some(at) => (format!("last good {}", ago(model, at)), if row.last_failed { theme.warn } else { theme.ok }),
            None => ("no good backup yet".to_owned(), theme.warn),
        };
        let sign = if row.needs_somebody() { ("! ", theme.warn) } else { ("✓ ", theme.ok) };
        let more = if hidden > 0 && i + 1 == rows { format!("and {hidden} more") } else { String::new() };
        let mut spans = vec![
            Span::raw(" "),
            Span::styled(sign.0, sign.1),
            Span::styled(format!("{} ", cell(&escape(&row.service), 18)), theme.text),
        ];
        let status = model.pitr(&row.service);
        // Where there is room for one of the two, what can be restored is worth more than how large the backups were.
        let both = area.width >= WIDE_STRIP;
        let (moments, sizes) = (status.is_some() || (both && !model.data.pitr.is_empty()), both || status.is_none());
        let columns = if sizes { 24 } else { 20 };
        spans.push(Span::styled(format!("{last:<columns$} "), style));
        if moments {
            let used: usize = spans.iter().map(|s| s.content.width()).sum();
            let room = if both { MOMENTS } else { usize::from(area.width).saturating_sub(used + more.width()) };
            let (text, style) = recoverable::line(model, status, room.saturating_sub(usize::from(!more.is_empty())));
            spans.push(Span::styled(cell(&text, room), style));
        }
        if sizes {
            let size = row.sizes.iter().rev().flatten().next().map(|n| bytes(*n)).unwrap_or_default();
            let failed = if row.last_failed { "last failed" } else { "" };
            spans.push(Span::styled(format!("{:<11}", spark(&row.sizes)), theme.accent));
            spans.push(Span::styled(format!("{size:>8}  "), theme.dim));
            spans.push(Span::styled(format!("{failed}  "), theme.warn));
        }
        spans.push(Span::styled(more, theme.dim));
        let line = Line::from(spans);
        frame.render_widget(Paragraph::new(line), Rect { y: area.y + i as u16, height: 1, ..area });
    }
    rule(frame, model, area.bottom() - 1, area.width);
}
