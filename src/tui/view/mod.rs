//! Drawing. Views read the model and nothing else; what they draw is decided by the model alone.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};
use unicode_width::UnicodeWidthStr;

use super::model::{Layer, Model, Screen, Tab};

mod areas;
mod ascii;
mod boxes;
mod check;
mod chrome;
mod cluster;
mod details;
mod form;
mod lists;
mod moment;
mod pages;
mod preview;
mod recoverable;
mod schedules;
mod service;
mod service_strip;
mod storage_holdings;
mod storage_report;
mod storage_steps;
mod table;
mod text;
mod timeline;
mod toasts;

pub use areas::{Areas, Hit, hit, is_too_small};
pub use boxes::review_overflow;
pub use check::remedy_lines;
pub use moment::columns as moment_columns;
pub use text::when;

/// Draws one frame.
pub fn draw(frame: &mut Frame, model: &Model) {
    let area = frame.area();
    // The size of the model may lag behind the terminal for one frame; drawing outside of the buffer would panic.
    if area.is_empty() {
        return;
    }
    let at_size = (area.width, area.height);
    if is_too_small(at_size) {
        let lines = vec![
            Line::styled("mongokeep", model.theme.title),
            Line::raw(format!("needs 60 x 15, this is {} x {}", area.width, area.height)),
            Line::raw("make the window larger; jobs go on"),
        ];
        frame.render_widget(Paragraph::new(lines), area);
    } else {
        let areas = Areas::at(model, at_size);
        chrome::draw(frame, model, &areas);
        layers(frame, model, &areas, Rect { height: area.height - 2, ..area });
        toasts::draw(frame, model, &areas);
    }
    mend_cut(frame.buffer_mut());
    if model.look.ascii {
        ascii::reduce(frame.buffer_mut(), model.frame);
    }
}

/// Takes away wide characters of which something that was drawn later left only the first half: a terminal would show them
/// whole, and lose the cell beside them.
fn mend_cut(buffer: &mut Buffer) {
    let width = usize::from(buffer.area.width);
    for row in buffer.content.chunks_mut(width.max(1)) {
        for x in 0..row.len() {
            let is_wide = !row[x].symbol().is_ascii() && row[x].symbol().width() > 1;
            if is_wide && row.get(x + 1).is_none_or(|next| next.symbol() != " ") {
                row[x].set_symbol(" ");
            }
        }
    }
}

/// The page that is open, else the list, and the boxes; a page that was opened above a box lies above it.
fn layers(frame: &mut Frame, model: &Model, areas: &Areas, area: Rect) {
    let page = model.layers.iter().rposition(Layer::is_page);
    let draw_page = |frame: &mut Frame| match page.and_then(|at| model.layers.get(at)) {
        Some(layer) => pages::draw(frame, model, layer, areas.page),
        None => lists::draw(frame, model, areas),
    };
    draw_page(frame);
    // Boxes leave the lines with state and keys alone.
    for (at, layer) in model.layers.iter().enumerate() {
        match layer {
            Layer::Form(form) => form::draw(frame, model, form, area),
            Layer::Review(review) => boxes::review(frame, model, review, area),
            Layer::Confirm(confirm) => boxes::confirm(frame, model, confirm, area),
            Layer::Palette(palette) => boxes::palette(frame, model, palette, area),
            _ if Some(at) == page && model.layers.iter().take(at).any(|l| !l.is_page()) => {
                frame.render_widget(Clear, areas.page);
                draw_page(frame);
            }
            _ => {}
        }
    }
}

/// How many lines the open page has, for scrolling.
pub fn page_length(model: &Model, areas: &Areas) -> usize {
    match model.layers.iter().rev().find(|l| l.is_page()) {
        Some(layer) => pages::lines(model, layer, areas.page.width).len(),
        None => 0,
    }
}

/// A box of at most `width` x `height` in the middle of `area`, cleared, with a border and a title.
fn popup(frame: &mut Frame, model: &Model, area: Rect, width: u16, height: u16, title: &str) -> Rect {
    let width = width.min(area.width.saturating_sub(2));
    let height = height.min(area.height);
    let outer = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, outer);
    let title = text::fit(title, usize::from(width).saturating_sub(6));
    let block =
        Block::bordered().border_style(model.theme.accent).title(Line::styled(format!(" {title} "), model.theme.title));
    let inner = block.inner(outer);
    frame.render_widget(block, outer);
    // One column of air on both sides.
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

/// Puts the terminal's cursor into a text field, if it lies on the screen.
fn place_cursor(frame: &mut Frame, x: u16, y: u16) {
    let area = frame.area();
    if x < area.right() && y < area.bottom() {
        frame.set_cursor_position(Position { x, y });
    }
}

/// `Backups › nightly-20261121`.
fn breadcrumb(model: &Model) -> Vec<String> {
    use super::model::{Report, Target};
    let mut crumbs = vec![model.screen.title().to_owned()];
    if model.screen != Screen::Schedules && model.screen != Screen::Storage {
        crumbs.push(model.tab().title().to_owned());
    }
    for layer in model.layers.iter().filter(|l| l.is_page()) {
        crumbs.push(match layer {
            Layer::Details { target, .. } => match target {
                Target::Backup(name) | Target::Storage(name) | Target::Service(name) | Target::Schedule(name) => {
                    name.clone()
                }
                Target::Job(id) => model.job(*id).map_or_else(|| format!("job {id}"), |job| job.title()),
            },
            Layer::Report { report: Report::Check(name), .. } => format!("check of {name}"),
            Layer::Report { report: Report::Test(name), .. } => format!("test of {name}"),
            Layer::Report { report: Report::Sync(name), .. } => format!("sync of {name}"),
            Layer::Report { report: Report::Storage(name), .. } => format!("check of {name}"),
            Layer::Report { report: Report::Notification(channel), .. } => format!("test of the {channel}"),
            Layer::Messages { .. } => "messages".into(),
            Layer::Help { .. } => "help".into(),
            _ => continue,
        });
    }
    // Where one is stands at the end; what is on the way there gives room for it.
    let last = crumbs.len() - 1;
    for crumb in crumbs.iter_mut().take(last).skip(1) {
        *crumb = text::fit(crumb, 28);
    }
    crumbs
}

/// Tabs whose rows have details beside the list when there is room.
fn has_side(tab: Tab) -> bool {
    matches!(tab, Tab::Backups | Tab::Restores | Tab::Jobs | Tab::Schedules | Tab::Storages | Tab::Services)
}
