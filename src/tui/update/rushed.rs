//! Keys that came faster than a person types: a paste that the terminal does not mark, or what a program sends.
//!
//! They are text and move the cursor. They neither confirm nor submit, and change nothing in a list: nobody has seen what
//! they would do.

use crossterm::event::KeyCode;

use super::keys;
use crate::tui::action::Action;
use crate::tui::form::Item;
use crate::tui::forms;
use crate::tui::keymap::Chord;
use crate::tui::model::{Layer, Level, Model, Screen, Tab};
use crate::tui::msg::Effect;

/// Does what the key does, unless that decides something.
pub(super) fn key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    if !decides(model, chord) {
        return keys::key(model, chord);
    }
    let text = format!("{chord} came faster than a person types, and was not taken: press it again by itself");
    // A paste may hold many.
    if model.messages.back().is_none_or(|last| last.text != text) {
        model.emit(Level::Warn, text, None);
    }
    Vec::new()
}

fn decides(model: &Model, chord: Chord) -> bool {
    let enter = chord.code == KeyCode::Enter;
    match model.layers.last() {
        Some(Layer::Form(form)) => {
            let submits = enter && form.focus == Item::Submit || chord.ctrl && chord.code == KeyCode::Char('s');
            submits || (forms::on_timeline(form) && changes(model, chord))
        }
        Some(Layer::Confirm(confirm)) => enter || confirm.discards() && chord.code == KeyCode::Char('d'),
        Some(Layer::Review(_) | Layer::Palette(_) | Layer::Picker(_)) => enter,
        _ if model.filtering || model.search.typing || model.has_box() => false,
        _ => changes(model, chord),
    }
}

/// Whether the key stands for an action that changes something.
fn changes(model: &Model, chord: Chord) -> bool {
    let action = model.keymap.resolve(chord, &model.groups_below());
    // Enter begins a first step, and turns a setting.
    let open =
        model.next_step().is_some() || (Tab::of(Screen::Settings).contains(&model.tab()) && model.layers.is_empty());
    action.is_some_and(|action| action.changes() || (action == Action::Open && open))
}
