//! Where things stand. Used for drawing, and by `update` for page keys and clicks.

use ratatui::layout::Rect;

use super::{chrome, has_side, lists, schedules, service_strip, timeline};
use crate::tui::model::{Layer, Model, Screen, Tab};

/// From this width on, details may stand beside the list: where all of its columns have room first.
const WIDE: u16 = 120;
/// Columns that details need beside a list.
const SIDE: u16 = 31;

/// The parts of the screen; a part that is not drawn has no height.
#[derive(Debug, Clone, Copy, Default)]
pub struct Areas {
    pub header: Rect,
    pub banner: Rect,
    /// One row for each service, with a line below.
    pub strip: Rect,
    /// Tabs, or the breadcrumb of a page.
    pub tabs: Rect,
    /// Everything between the tabs and the last line.
    pub page: Rect,
    /// The heading of the list.
    pub heading: Rect,
    pub rows: Rect,
    /// Details beside the list.
    pub side: Option<Rect>,
    /// The coming runs below the list; where there is no room for both, the words below the lanes.
    pub timeline: Option<Rect>,
    /// Below a narrow list: the selected row in full.
    pub foot: Option<Rect>,
    /// The rule above the footer, where the newest message stands.
    pub message: Rect,
    pub status: Rect,
    pub keys: Rect,
}

/// Below this the screen says that it is too small.
pub fn is_too_small((width, height): (u16, u16)) -> bool {
    width < 60 || height < 15
}

impl Areas {
    pub fn of(model: &Model) -> Self {
        Self::at(model, model.size)
    }

    /// The areas at a size of the terminal.
    pub fn at(model: &Model, (width, height): (u16, u16)) -> Self {
        if is_too_small((width, height)) {
            return Self::default();
        }
        let row = |y: u16, rows: u16| Rect { x: 0, y, width, height: rows };
        let mut y = 2;
        let mut take = |rows: u16| {
            let area = row(y, rows);
            y += rows;
            area
        };
        let banner = take(u16::from(chrome::has_banner(model)));
        let strip_rows = service_strip::rows(model, height);
        let strip = take(if strip_rows == 0 { 0 } else { strip_rows + 1 });
        let tabs = take(1);
        let top = y;
        let bottom = height.saturating_sub(3);
        let page = Rect { x: 1, y: top, width: width - 2, height: bottom.saturating_sub(top) };
        let timeline_rows = match (model.shows_timeline(), model.has_room_for_both()) {
            (false, _) => 0,
            (true, true) => timeline::height(model, page.height),
            // At least one lane must stay.
            (true, false) => timeline::FOOT.min(page.height.saturating_sub(2)),
        };
        let page_open = model.layers.iter().any(Layer::is_page);
        let tab = model.tab();
        let has_rows = !page_open && !model.list(tab).rows.is_empty();
        let cramped = tab == Tab::Schedules && has_rows && timeline_rows == 0 && width < WIDE && page.height > 9;
        let of_settings = matches!(tab, Tab::General | Tab::Notifications | Tab::Appearance) && has_rows;
        let foot_rows = match (cramped, of_settings && page.height > 9) {
            (true, _) => schedules::FOOT,
            (false, true) => lists::SETTING_FOOT,
            (false, false) => 0,
        };
        let full = Rect { height: page.height - timeline_rows - foot_rows, ..page };
        let foot = (foot_rows > 0).then_some(Rect { y: full.bottom(), height: foot_rows, ..page });
        let timeline = (timeline_rows > 0).then_some(Rect { y: full.bottom(), height: timeline_rows, ..page });
        let instead = timeline.is_some() && !model.has_room_for_both();
        let columns = lists::needed(model, tab);
        let split = !instead && width >= WIDE && full.width >= columns + 2 + SIDE && has_side(tab) && has_rows;
        let (left, side) = if split {
            let list = (full.width * 3 / 5).max(columns);
            let side = Rect { x: full.x + list + 2, width: full.width - list - 2, ..full };
            (Rect { width: list, ..full }, Some(side))
        } else {
            (full, None)
        };
        Self {
            header: row(0, 2),
            banner,
            strip,
            tabs,
            page,
            heading: Rect { height: left.height.min(1), ..left },
            rows: Rect { y: left.y + left.height.min(1), height: left.height.saturating_sub(1), ..left },
            side,
            timeline,
            foot,
            message: row(height - 3, 1),
            status: row(height - 2, 1),
            keys: row(height - 1, 1),
        }
    }
}

/// What lies under a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    Screen(Screen),
    Tab(Tab),
    /// A row of the open list.
    Row(usize),
}

/// What a click at a place means.
pub fn hit(model: &Model, areas: &Areas, column: u16, row: u16) -> Option<Hit> {
    if row == areas.header.y {
        return chrome::screen_at(model, column).map(Hit::Screen);
    }
    if model.layers.iter().any(Layer::is_page) {
        return None;
    }
    if row == areas.tabs.y {
        return chrome::tab_at(model, column).map(Hit::Tab);
    }
    let inside = areas.rows.contains((column, row).into());
    let at = model.list(model.tab()).offset + usize::from(row.saturating_sub(areas.rows.y));
    (inside && at < model.list(model.tab()).rows.len()).then_some(Hit::Row(at))
}
