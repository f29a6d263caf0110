//! The newest message, on the rule above the footer: it covers nothing, and no row moves for it.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::text::{fit, put};
use crate::tui::action::Action;
use crate::tui::model::{Layer, Level, Model};

/// The sign of a level, and its style.
pub fn sign(model: &Model, level: Level) -> (&'static str, Style) {
    match level {
        Level::Info => ("•", model.theme.accent),
        Level::Good => ("✓", model.theme.ok),
        Level::Warn => ("!", model.theme.warn),
        Level::Error => ("✗", model.theme.error),
    }
}

/// Draws it over the rule, if there is one; what has no room stands in the list of messages.
pub fn draw(frame: &mut Frame, model: &Model, area: Rect) {
    let Some(message) = model.line_message().filter(|_| !matches!(model.layers.last(), Some(Layer::Messages { .. })))
    else {
        return;
    };
    let (sign, style) = sign(model, message.level);
    let hint = message.hint.as_ref().map_or_else(String::new, |hint| format!("  {}", model.say(hint)));
    let (text, room) = (model.say(&message.text), usize::from(area.width).saturating_sub(6));
    let whole = format!("{text}{hint}");
    let spans = if whole.width() <= room {
        vec![Span::styled(text, style), Span::styled(hint, model.theme.dim)]
    } else {
        // The key is of no use where keys are text.
        let more = format!(" ({})", model.keymap.first(Action::Messages));
        let more = if model.has_box() { String::new() } else { more };
        vec![Span::styled(fit(&whole, room.saturating_sub(more.width())), style), Span::styled(more, model.theme.key)]
    };
    let mut line = vec![Span::styled("─ ", model.theme.border), Span::styled(format!("{sign} "), style)];
    line.extend(spans);
    line.push(Span::raw(" "));
    let width = line.iter().map(|s| s.content.width()).sum::<usize>().min(usize::from(area.width)) as u16;
    put(frame, Line::from(line), Rect { width, ..area });
}
