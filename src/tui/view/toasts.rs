//! The latest messages, in the corner above the status line.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::Areas;
use super::text::wrap;
use crate::domain::text::escape;
use crate::tui::model::{Layer, Level, Model};

/// Draws those that are still fresh, as many as there is room for.
pub fn draw(frame: &mut Frame, model: &Model, areas: &Areas) {
    if matches!(model.layers.last(), Some(Layer::Messages { .. })) {
        return;
    }
    let theme = &model.theme;
    let width = 56.min(areas.status.width.saturating_sub(4));
    let mut bottom = areas.status.y.saturating_sub(1);
    for message in model.toasts().collect::<Vec<_>>().into_iter().rev() {
        let (sign, style) = match message.level {
            Level::Info => ("•", theme.accent),
            Level::Good => ("✓", theme.ok),
            Level::Warn => ("!", theme.warn),
            Level::Error => ("✗", theme.error),
        };
        let inner = usize::from(width).saturating_sub(6);
        let mut lines: Vec<Line> = Vec::new();
        for (i, part) in wrap(&escape(&message.text), inner).into_iter().take(4).enumerate() {
            let sign = if i == 0 { Span::styled(sign, style) } else { Span::raw(" ") };
            lines.push(Line::from(vec![sign, Span::raw(" "), Span::raw(part)]));
        }
        if let Some(hint) = &message.hint {
            for part in wrap(&escape(hint), inner).into_iter().take(3) {
                lines.push(Line::from(vec![Span::raw("  "), Span::styled(part, theme.command)]));
            }
        }
        let height = lines.len() as u16 + 2;
        if bottom < areas.tabs.bottom() + height {
            return;
        }
        let place = Rect { x: areas.status.right() - width - 2, y: bottom - height, width, height };
        frame.render_widget(Clear, place);
        let block = Block::bordered().border_style(style).padding(ratatui::widgets::Padding::horizontal(1));
        frame.render_widget(Paragraph::new(lines).block(block), place);
        bottom -= height;
    }
}
