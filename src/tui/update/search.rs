//! To look for something in the page that is open: typed after the key of the filter, gone through with two keys.

use crossterm::event::KeyCode;

use crate::tui::form;
use crate::tui::keymap::Chord;
use crate::tui::model::{Layer, Model};
use crate::tui::msg::Effect;
use crate::tui::search::Search;
use crate::tui::view;

/// Another page is opened: nothing is looked for in it.
pub(super) fn leave(model: &mut Model) {
    model.search = Search::default();
    model.follows = false;
}

/// What a key does while it is typed.
pub(super) fn key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    match chord.code {
        KeyCode::Esc => model.search = Search::default(),
        KeyCode::Enter => model.search.typing = false,
        _ => {
            if let Some(request) = form::edit(chord) {
                model.search.input.handle(request);
                model.search.at = 0;
                show(model);
            }
        }
    }
    Vec::new()
}

/// Goes to the next hit or the one before; round at the ends.
pub(super) fn step(model: &mut Model, forward: bool) {
    let count = view::hits(model).len();
    if count > 0 {
        model.search.at = (model.search.at + if forward { 1 } else { count - 1 }) % count;
        show(model);
    }
}

/// Scrolls the page so that the selected hit is in the window.
fn show(model: &mut Model) {
    let hits = view::hits(model);
    let height = usize::from(view::Areas::of(model).page.height);
    let Some(line) = hits.get(model.search.at.min(hits.len().saturating_sub(1))).copied() else { return };
    model.follows = false;
    if let Some(Layer::Details { scroll, .. }) = model.layers.last_mut()
        && !(*scroll..*scroll + height).contains(&line)
    {
        *scroll = line.saturating_sub(height / 2);
    }
}
