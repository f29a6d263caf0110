//! What keys do in the list of a row, and how one is added that it does not have.

use crossterm::event::KeyCode;

use super::act::{back, push_form};
use super::asked;
use crate::tui::form::{self, ADD};
use crate::tui::forms;
use crate::tui::keymap::Chord;
use crate::tui::model::{Layer, Model};
use crate::tui::msg::Effect;
use crate::tui::offers;

/// How far a page goes.
const PAGE: usize = 12;

/// What a key does in the list of a row.
pub(super) fn key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    let mut layers = std::mem::take(&mut model.layers);
    let [.., Layer::Form(form), Layer::Picker(picker)] = &mut layers[..] else {
        model.layers = layers;
        return back(model);
    };
    let entries = offers::entries(picker, model, form).unwrap_or_default();
    let last = entries.len().saturating_sub(1);
    picker.selected = picker.selected.min(last);
    let mut effects = Vec::new();
    let (mut close, mut add) = (chord.code == KeyCode::Esc, None);
    match (chord.code, chord.ctrl) {
        (KeyCode::Esc, _) => {}
        (KeyCode::Up, _) | (KeyCode::Char('p'), true) => picker.selected = picker.selected.saturating_sub(1),
        (KeyCode::Down, _) | (KeyCode::Char('n'), true) => picker.selected = (picker.selected + 1).min(last),
        (KeyCode::PageUp, _) => picker.selected = picker.selected.saturating_sub(PAGE),
        (KeyCode::PageDown, _) => picker.selected = (picker.selected + PAGE).min(last),
        (KeyCode::Char(' '), false) if picker.takes_several() => {
            if let Some(entry) = entries.get(picker.selected) {
                picker.mark(entry);
            }
            picker.selected = (picker.selected + 1).min(last);
        }
        (KeyCode::Enter, _) => {
            let key = picker.key;
            match picker.taken(entries.get(picker.selected)) {
                Some(value) if value == ADD => (close, add) = (true, Some(key)),
                Some(value) => {
                    close = true;
                    if let Some(row) = form.row_mut(key).filter(|row| row.value() != value) {
                        row.touch();
                        row.set(value);
                        row.error = None;
                        effects = forms::changed(model, form, key);
                    }
                }
                None => {}
            }
        }
        _ => {
            if let Some(request) = form::edit(chord) {
                picker.input.handle(request);
                picker.selected = 0;
            }
        }
    }
    if close {
        layers.pop();
    }
    model.layers = layers;
    let mut effects = asked(model, effects);
    if let Some(key) = add {
        effects.extend(add_one(model, key));
    }
    effects
}

/// Opens the form that adds what the row `key` of the form on top is to hold.
pub(super) fn add_one(model: &mut Model, key: &'static str) -> Vec<Effect> {
    let form = if key == "storage" { forms::add_storage() } else { forms::add_service() };
    push_form(model, Some(form::Form { asked_by: Some(key), ..form }))
}
