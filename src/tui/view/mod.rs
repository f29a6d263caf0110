//! Drawing. Views read the model and nothing else; what they draw is decided by the model alone.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear};
use unicode_width::UnicodeWidthStr;

use self::text::put;
use super::model::{Layer, Model, Screen, Tab};

mod areas;
mod ascii;
mod boxes;
mod check;
mod chrome;
mod cluster;
mod details;
mod empty;
mod form;
mod help;
mod job_page;
mod lists;
mod message;
mod moment;
mod pages;
mod picker;
mod preview;
mod recoverable;
mod schedules;
mod service;
mod service_strip;
mod storage_holdings;
mod storage_report;
mod storage_steps;
mod storage_sync;
mod table;
mod text;
mod timeline;

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
        put(frame, lines, area);
    } else {
        let areas = Areas::at(model, at_size);
        chrome::draw(frame, model, &areas);
        layers(frame, model, &areas, Rect { height: areas.message.y, ..area });
        message::draw(frame, model, areas.message);
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

/// Whether a form takes the whole screen.
pub fn is_small((width, height): (u16, u16)) -> bool {
    width <= 80 || height <= 24
}

/// The page that is open, else the list, and above it the topmost box. A page that was opened above a box hides it.
fn layers(frame: &mut Frame, model: &Model, areas: &Areas, area: Rect) {
    match model.layers.iter().rev().find(|l| l.is_page()) {
        Some(layer) => pages::draw(frame, model, layer, areas.page),
        None => lists::draw(frame, model, areas),
    }
    let Some(top) = model.layers.last().filter(|l| !l.is_page()) else { return };
    // Boxes leave the lines with message, state and keys alone.
    dim(frame, model, area);
    // A form that takes the whole screen is a page: what is asked about it lies above it, and pieces of its rows beside a box
    // would be taken for a part of that.
    if is_small(model.size)
        && let [.., Layer::Form(_), _] = &model.layers[..]
    {
        frame.render_widget(Clear, area);
    }
    let area = below_banner(frame, model, areas, area);
    match top {
        Layer::Form(form) => form::draw(frame, model, form, area),
        Layer::Review(review) => boxes::review(frame, model, review, area),
        Layer::Confirm(confirm) => boxes::confirm(frame, model, confirm, area),
        Layer::Palette(palette) => boxes::palette(frame, model, palette, area),
        Layer::Picker(open) => {
            if let [.., Layer::Form(form), _] = &model.layers[..] {
                picker::draw(frame, model, open, form, area);
            }
        }
        Layer::Details { .. } | Layer::Report { .. } | Layer::Messages { .. } | Layer::Help { .. } => {}
    }
}

/// What is left for a box below the line that says what is wrong with store or daemon: what a form shows may be old, too.
fn below_banner(frame: &mut Frame, model: &Model, areas: &Areas, area: Rect) -> Rect {
    let Some(text) = chrome::banner_text(model) else { return area };
    let line = if is_small(model.size) { Rect { height: 1, ..area } } else { areas.banner };
    chrome::banner(frame, model, &text, line);
    let below = line.bottom().min(area.bottom());
    Rect { y: below, height: area.bottom() - below, ..area }
}

/// Takes the colours of what lies below a box.
fn dim(frame: &mut Frame, model: &Model, area: Rect) {
    let style = model.theme.dim;
    let buffer = frame.buffer_mut();
    for y in area.top()..area.bottom() {
        for x in area.left()..area.right() {
            let cell = &mut buffer[(x, y)];
            cell.fg = style.fg.unwrap_or(Color::Reset);
            cell.bg = style.bg.unwrap_or(Color::Reset);
            cell.modifier = style.add_modifier | Modifier::DIM;
        }
    }
}

/// The lines of the open page that hold what is looked for.
pub fn hits(model: &Model) -> Vec<usize> {
    let areas = Areas::of(model);
    let Some(layer @ Layer::Details { .. }) = model.layers.last() else { return Vec::new() };
    let texts: Vec<String> = pages::lines(model, layer, areas.page.width).iter().map(text_of).collect();
    model.search.hits(texts.iter().map(String::as_str))
}

fn text_of(line: &Line) -> String {
    line.spans.iter().map(|s| s.content.as_ref()).collect()
}

/// How many lines the open page has, for scrolling.
pub fn page_length(model: &Model, areas: &Areas) -> usize {
    match model.layers.iter().rev().find(|l| l.is_page()) {
        Some(layer) => pages::lines(model, layer, areas.page.width).len(),
        None => 0,
    }
}

/// A box of at most `width` x `height` in the middle of `area`, with a border, a title and one clear cell around it.
fn popup(frame: &mut Frame, model: &Model, area: Rect, width: u16, height: u16, title: &str) -> Rect {
    let width = width.min(area.width.saturating_sub(2));
    let height = height.min(area.height);
    let outer = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    boxed(frame, model, area, outer, title)
}

/// The same for a form: the whole of a small screen. Where there is more room its top stays, however its foot grows.
fn form_box(frame: &mut Frame, model: &Model, area: Rect, width: u16, height: u16, title: &str) -> Rect {
    if is_small(model.size) {
        return boxed(frame, model, area, area, title);
    }
    let width = width.min(area.width.saturating_sub(4));
    let height = height.min(area.height.saturating_sub(2));
    let y = (area.height / 8).max(1).min(area.height.saturating_sub(height + 1));
    let outer = Rect { x: area.x + (area.width - width) / 2, y: area.y + y, width, height };
    boxed(frame, model, area, outer, title)
}

fn boxed(frame: &mut Frame, model: &Model, area: Rect, outer: Rect, title: &str) -> Rect {
    let x = outer.x.saturating_sub(1).max(area.x);
    let y = outer.y.saturating_sub(1).max(area.y);
    let right = (outer.right() + 1).min(area.right());
    let bottom = (outer.bottom() + 1).min(area.bottom());
    frame.render_widget(Clear, Rect { x, y, width: right - x, height: bottom - y });
    let title = text::fit(title, usize::from(outer.width).saturating_sub(6));
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
    // Help is about the form it was opened from.
    let of_form = matches!(model.layers.last(), Some(Layer::Help { .. }));
    for layer in model.layers.iter().filter(|l| l.is_page() || (of_form && matches!(l, Layer::Form(_)))) {
        crumbs.push(match layer {
            Layer::Form(form) => form::title(form),
            Layer::Details { target, .. } => match target {
                Target::Backup(name) | Target::Storage(name) | Target::Service(name) | Target::Schedule(name) => {
                    name.clone()
                }
                Target::Job(id) => model.job(*id).map_or_else(|| format!("job {id}"), |job| job.title()),
            },
            Layer::Report { report: Report::Check(name), .. } => format!("check of {name}"),
            Layer::Report { report: Report::Test(name), .. } => format!("test of {name}"),
            Layer::Report { report: Report::Sync { storage, .. }, .. } => format!("sync of {storage}"),
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
