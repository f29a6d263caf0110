//! A form: its box, one column of rows in it, what the row with the cursor is for, the buttons at the end.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use self::body::Body;
use super::text::{put, spinner};
use super::{form_box, is_small, moment, place_cursor};
use crate::domain::fields::SETTING_FIELDS;
use crate::domain::text::escape;
use crate::tui::form::{Form, Item, Purpose, Source};
use crate::tui::forms::{BACKUP, is_schedule, is_to_a_moment, submit_label};
use crate::tui::model::Model;
use crate::tui::prerequisites;

mod body;
mod choice;
mod field;
mod foot;
mod hint;
mod label;
mod note;

pub fn draw(frame: &mut Frame, model: &Model, form: &Form, area: Rect) {
    let theme = &model.theme;
    let width = match is_to_a_moment(form) {
        true => moment::form_width(model.size),
        false => form_width(model.size),
    };
    let inner_width = usize::from(width).saturating_sub(4);
    let Body { lines, focus_line, focus_height, cursor } = body::rows(model, form, inner_width);
    let hint_width = inner_width.saturating_sub(hint::INDENT);
    let hints = hint::height(model, form, hint_width);
    let hints = if is_to_a_moment(form) && moment::is_low(model) { 1 } else { hints };
    // The rows have at least half of it; below them stand the hint and the buttons.
    let most_of = |high: usize| high.saturating_sub(high / 2 + hints + 1);
    let mut foot = foot::lines(model, form, inner_width, most_of(usize::from(area.height).saturating_sub(2)));
    let height = (lines.len() + hints + foot.len() + 3) as u16;
    let inner = form_box(frame, model, area, width, height, &title(form));
    let high = usize::from(inner.height);
    let most = most_of(high);
    // A sentence that grows while something is typed must not move the rows: it has its place from the beginning.
    let grows = matches!(form.purpose, Purpose::Create | Purpose::EditSchedule(_));
    if grows && is_small(model.size) && lines.len() + hints + 1 + most > high {
        while foot.len() < most {
            foot.push(Line::raw(""));
        }
    }
    let is_low = is_to_a_moment(form) && moment::is_low(model);
    if (is_low || foot.len() > most) && foot.first().is_some_and(|line| line.width() == 0) {
        foot.remove(0);
    }
    if foot.len() > most {
        foot.truncate(most);
        if let Some(last) = foot.last_mut() {
            last.spans.push(Span::raw(" …"));
        }
    }
    let room = high.saturating_sub(foot.len() + hints + 1);
    // The row with the cursor is always in the window.
    let last = (focus_line + focus_height).min(lines.len());
    let from = last.saturating_sub(room).min(focus_line);
    let cut = lines.len().saturating_sub(from + room);
    let shown: Vec<Line> = lines.into_iter().skip(from).take(room).collect();
    let hint_y = inner.y + shown.len() as u16;
    put(frame, shown, Rect { height: room as u16, ..inner });
    if from > 0 || cut > 0 {
        let text = if cut > 0 { " more below ↓ " } else { " more above ↑ " };
        let width = text.width() as u16;
        let x = inner.right().saturating_sub(width + 1);
        let place = Rect { x, y: inner.bottom(), width, height: 1 };
        if place.bottom() <= frame.area().bottom() && place.right() <= frame.area().right() {
            put(frame, Span::styled(text, theme.dim), place);
        }
    }
    let place = Rect { x: inner.x + hint::INDENT as u16, y: hint_y, width: hint_width as u16, height: hints as u16 };
    put(frame, hint::lines(model, form, hint_width, hints), place);
    let mut foot_lines = foot;
    foot_lines.push(buttons(model, form, inner_width));
    let y = inner.bottom().saturating_sub(foot_lines.len() as u16);
    put(frame, foot_lines, Rect { y, height: inner.bottom().saturating_sub(y), ..inner });
    if let Some(x) = cursor
        && focus_line >= from
        && focus_line - from < room
    {
        place_cursor(frame, inner.x + x, inner.y + (focus_line - from) as u16);
    }
}

/// How wide a form is on a terminal of some size.
fn form_width(size: (u16, u16)) -> u16 {
    if is_small(size) { size.0 } else { 92.min(size.0.saturating_sub(4)) }
}

pub(super) fn title(form: &Form) -> String {
    match &form.purpose {
        Purpose::AddService => "Add a service".into(),
        Purpose::EditService(name) => format!("Edit the service {}", escape(name)),
        Purpose::AddStorage => "Add a storage".into(),
        Purpose::EditStorage(name) => format!("Edit the storage {}", escape(name)),
        Purpose::Create if is_schedule(form) => "Create a schedule".into(),
        Purpose::Create => "Create a backup".into(),
        Purpose::EditSchedule(name) => format!("Edit the schedule {}", escape(name)),
        Purpose::Restore(Source::Service(service)) => format!("Restore {} to a point in time", escape(service)),
        Purpose::Restore(Source::Backup(_)) => format!("Restore {}", escape(form.text(BACKUP))),
        Purpose::Verify(backup) => format!("Verify {}", escape(backup)),
        Purpose::Setting(key) => {
            let label = SETTING_FIELDS.iter().find(|f| f.key == key).map_or("", |f| f.label);
            format!("{label} ({})", escape(key))
        }
    }
}

fn buttons(model: &Model, form: &Form, width: usize) -> Line<'static> {
    let theme = &model.theme;
    let style = |item| if form.focus == item { theme.button_focused } else { theme.button };
    let mark = |item| if form.focus == item { "▌" } else { " " };
    let cancel = format!("{}[ Cancel ]", mark(Item::Cancel));
    // What is refused whatever a person says is not offered.
    let is_refused = prerequisites::refused(model, form).is_some();
    let stopped = !is_refused && !prerequisites::stoppers(model, form).is_empty();
    let anyway = if stopped { " anyway" } else { "" };
    let submit = format!("{}[ {}{anyway} ]", mark(Item::Submit), submit_label(form));
    let wait = if form.submitting { format!("{} one moment ", spinner(model)) } else { String::new() };
    let test = if form.has_try() { format!("{}[ Test ] ", mark(Item::Try)) } else { String::new() };
    let pad = width.saturating_sub(cancel.width() + test.width() + submit.width() + wait.width() + 1);
    Line::from(vec![
        Span::styled(wait, theme.running),
        Span::raw(" ".repeat(pad)),
        Span::styled(cancel, style(Item::Cancel)),
        Span::raw(" "),
        Span::styled(test, style(Item::Try)),
        Span::styled(submit, style(Item::Submit)),
    ])
}
