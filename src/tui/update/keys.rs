//! What a key, a paste or a click means where the cursor is.

use chrono::TimeDelta;
use crossterm::event::{KeyCode, MouseButton, MouseEvent, MouseEventKind};
use tui_input::{Input, InputRequest};

use super::act::{act, back, go, open, push_form};
use super::submission::{self, Submission};
use super::submit::submit_below;
use super::{asked, picker, storage_test};
use crate::tui::action::{Action, Group};
use crate::tui::form::{self, Outcome, Purpose, Trial};
use crate::tui::forms;
use crate::tui::keymap::Chord;
use crate::tui::model::{Button, Confirm, Layer, Level, Load, Model, Tab, Then};
use crate::tui::msg::Effect;
use crate::tui::{moment, offers, palette, view};

/// Two clicks on a row within this time open it; one alone only selects.
const DOUBLE_CLICK: TimeDelta = TimeDelta::milliseconds(500);

/// Gives the key to the nearest thing that takes it: a text field, a dialog, the page, the list, everything.
pub(super) fn key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    // Leaving must work from everywhere; q and its friends come further down.
    if chord.ctrl && chord.code == KeyCode::Char('z') {
        return act(model, Action::Suspend);
    }
    if view::is_too_small(model.size) {
        // Nothing typed blindly may change anything.
        return match model.keymap.resolve(chord, &[Group::Global]) {
            Some(Action::Quit) if model.layers.is_empty() => act(model, Action::Quit),
            _ => Vec::new(),
        };
    }
    match model.layers.last() {
        Some(Layer::Form(_)) => return form_key(model, chord),
        Some(Layer::Review(_)) => return review_key(model, chord),
        Some(Layer::Confirm(_)) => return confirm_key(model, chord),
        Some(Layer::Palette(_)) => return palette_key(model, chord),
        Some(Layer::Picker(_)) => return picker::key(model, chord),
        Some(Layer::Help { filtering: true, .. }) => return help_key(model, chord),
        _ => {}
    }
    if model.search.typing && matches!(model.layers.last(), Some(Layer::Details { .. })) {
        return super::search::key(model, chord);
    }
    if model.filtering {
        return filter_key(model, chord);
    }
    if model.has_box() {
        return key_above_a_box(model, chord);
    }
    match model.keymap.resolve(chord, &model.groups()) {
        Some(action) if model.is_hidden(action) && model.look.read_only => {
            model.emit(Level::Warn, "this session is read-only", None);
            Vec::new()
        }
        Some(action) => act(model, action),
        None => Vec::new(),
    }
}

/// What a key does to a page that was opened above a form or box: it scrolls and closes the page. No other key may take
/// away what lies below.
fn key_above_a_box(model: &mut Model, chord: Chord) -> Vec<Effect> {
    match model.keymap.resolve(chord, &[Group::List, Group::Global]) {
        Some(
            action @ (Action::Up
            | Action::Down
            | Action::Top
            | Action::Bottom
            | Action::PageUp
            | Action::PageDown
            | Action::HalfUp
            | Action::HalfDown
            | Action::Filter
            | Action::Redraw
            | Action::Back),
        ) => act(model, action),
        // What has opened the help closes it.
        Some(Action::Help) => back(model),
        _ => Vec::new(),
    }
}

/// A paste is text for the field with the cursor, and nothing anywhere else; nor where no field can be seen.
pub(super) fn paste(model: &mut Model, text: &str) -> Vec<Effect> {
    if view::is_too_small(model.size) {
        return Vec::new();
    }
    let insert = |input: &mut Input| {
        for c in text.trim_end_matches(['\r', '\n']).chars().filter(|c| !c.is_control()) {
            input.handle(InputRequest::InsertChar(c));
        }
    };
    let mut layers = std::mem::take(&mut model.layers);
    let mut effects = Vec::new();
    match layers.last_mut() {
        Some(Layer::Form(form)) => {
            if let Outcome::Changed(key) = form.paste(text) {
                effects = forms::changed(model, form, key);
            }
        }
        Some(Layer::Review(review)) => insert(&mut review.typed),
        Some(Layer::Confirm(confirm)) if confirm.asks_for_name() => {
            let text = text.trim_end_matches(['\r', '\n']).chars().filter(|c| !c.is_control());
            confirm.typed.iter_mut().for_each(|typed| typed.text.extend(text.clone()));
        }
        Some(Layer::Palette(palette)) => {
            insert(&mut palette.input);
            palette.selected = 0;
        }
        Some(Layer::Picker(picker)) => {
            insert(&mut picker.input);
            picker.selected = 0;
        }
        Some(Layer::Help { filter, filtering: true, .. }) => insert(filter),
        Some(Layer::Details { .. }) if model.search.typing => insert(&mut model.search.input),
        None if model.filtering => {
            let tab = model.tab();
            insert(&mut model.list_mut(tab).filter.input);
            model.refresh_tab(tab);
        }
        _ => {}
    }
    model.layers = layers;
    asked(model, effects)
}

fn form_key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    if chord.code == KeyCode::F(1) {
        return act(model, Action::Help);
    }
    let mut layers = std::mem::take(&mut model.layers);
    let Some(Layer::Form(form)) = layers.last_mut() else {
        model.layers = layers;
        return Vec::new();
    };
    if let Some(effects) = moment_key(model, form, chord) {
        model.layers = layers;
        return asked(model, effects);
    }
    let outcome = form.key(chord);
    let mut effects = Vec::new();
    let mut close = false;
    let mut add: Option<&'static str> = None;
    let mut question = None;
    match outcome {
        Outcome::Nothing => {}
        Outcome::Changed(key) => {
            form.waits_for_check = false;
            effects = forms::changed(model, form, key);
        }
        Outcome::Submit => match submission::of(model, form) {
            Submission::Sent(sent) => effects = sent,
            Submission::Asked(asked) => question = Some(asked),
        },
        Outcome::Close => close = true,
        Outcome::AddOne(key) => add = Some(key),
        Outcome::List(key) => {
            let open = offers::open(model, form, key);
            effects.extend(open.as_ref().and_then(|picker| offers::asks(picker, model, form)));
            layers.extend(open.map(|picker| Layer::Picker(Box::new(picker))));
            model.layers = layers;
            return asked(model, effects);
        }
        Outcome::Try if form.can_be_tested() => effects = storage_test::test(model, form, false),
        Outcome::Try => {
            let ticket = model.next_ticket();
            form.trial = Some(Box::new(Trial { ticket, outcome: Load::Waiting }));
            let edited = match &form.purpose {
                Purpose::EditService(name) => Some(name.clone()),
                _ => None,
            };
            let effect = Box::new(Effect::TryService { edited, values: form.values() });
            effects.push(Effect::Submitted { ticket, effect });
        }
        Outcome::TakeEngine => forms::take_engine(form),
        Outcome::TakeFreeSlot => effects = forms::take_free_slot(model, form),
    }
    let dirty = form.is_dirty() && !form.submitting;
    if close && !dirty {
        layers.pop();
    }
    model.layers = layers;
    if close && dirty {
        model.layers.push(Layer::Confirm(Confirm {
            title: "Discard changes?".into(),
            lines: Vec::new(),
            buttons: vec![
                Button { label: "Keep editing".into(), then: Then::Nothing },
                Button { label: "Discard".into(), then: Then::DiscardForm },
            ],
            // Whoever pressed Esc means to leave.
            focus: 1,
            typed: None,
        }));
    }
    model.layers.extend(question.map(Layer::Confirm));
    let Some(key) = add else { return asked(model, effects) };
    picker::add_one(model, key)
}

/// What a key does on a timeline; `None`: it is none of its keys.
fn moment_key(model: &Model, form: &mut form::Form, chord: Chord) -> Option<Vec<Effect>> {
    if !forms::on_timeline(form) || form.submitting {
        return None;
    }
    let pane = form.moment.as_mut()?;
    let action = model.keymap.resolve(chord, &[Group::Moment]);
    let status = model.pitr(&pane.service);
    let Some(status) = status.filter(|s| !s.ranges.is_empty()) else {
        // Nothing to move in: what can be done about that is a base.
        let wanted = model.keymap.resolve(chord, &[Group::Services]) == Some(Action::TakeBase);
        let run = model.base_schedule(&pane.service).filter(|_| wanted && model.may_run_base(&pane.service).is_ok());
        let run = run.map(|name| vec![Effect::RunSchedule(name.to_owned())]);
        return run.or(action.map(|_| Vec::new()));
    };
    let action = action?;
    if action == Action::CopyMoment {
        return Some(vec![Effect::Copy(moment::exact_text(&status.ranges, pane.at))]);
    }
    pane.act(action, status);
    // What was typed is no longer meant.
    if let Some(row) = form.row_mut(forms::TIME) {
        row.error = None;
    }
    forms::write_time(model, form);
    Some(Vec::new())
}

/// Keeps the moment of an open restore inside what there is, and asks for what its timeline lacks.
pub(super) fn settle_moment(model: &mut Model) -> Vec<Effect> {
    let mut layers = std::mem::take(&mut model.layers);
    let columns = view::moment_columns(model.size);
    let mut effects = Vec::new();
    for layer in &mut layers {
        if let Layer::Form(form) = layer
            && forms::is_to_a_moment(form)
            && let Some(pane) = &mut form.moment
        {
            let status = model.data.pitr.iter().find(|s| s.service == pane.service);
            effects.extend(pane.settle(status, columns));
            forms::write_time(model, form);
        }
    }
    model.layers = layers;
    effects
}

fn review_key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    let page = usize::from(model.size.1 / 2).max(1);
    let ticket = model.next_ticket();
    let Some(Layer::Review(review)) = model.layers.last_mut() else { return Vec::new() };
    match (chord.code, chord.ctrl) {
        (KeyCode::Esc, _) => return back(model),
        _ if review.submitting => {}
        (KeyCode::Up, _) => review.scroll = review.scroll.saturating_sub(1),
        (KeyCode::Down, _) => review.scroll += 1,
        (KeyCode::PageUp, _) => review.scroll = review.scroll.saturating_sub(page),
        (KeyCode::PageDown, _) => review.scroll += page,
        (KeyCode::Enter, _) if review.is_confirmed() => {
            (review.submitting, review.ticket, review.error) = (true, ticket, None);
            let effect = Effect::Restore(Box::new(review.request.clone()), Box::new(review.plan.clone()));
            return vec![Effect::Submitted { ticket, effect: Box::new(effect) }];
        }
        (KeyCode::Enter, _) => review.wrong = !review.plan.is_by_hand(),
        _ => {
            if let Some(request) = form::edit(chord) {
                review.typed.handle(request);
                review.wrong = false;
            }
        }
    }
    Vec::new()
}

fn confirm_key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    let Some(Layer::Confirm(confirm)) = model.layers.last_mut() else { return Vec::new() };
    let last = confirm.buttons.len().saturating_sub(1);
    let named = confirm.asks_for_name();
    match chord.code {
        // Ctrl-L asks for another picture, not for another button.
        _ if chord.ctrl || chord.alt => {}
        KeyCode::Char(c) if named => {
            if let Some(typed) = &mut confirm.typed {
                typed.text.push(c);
                typed.wrong = false;
            }
        }
        KeyCode::Backspace if named => {
            if let Some(typed) = &mut confirm.typed {
                typed.text.pop();
                typed.wrong = false;
            }
        }
        KeyCode::Enter if named && confirm.typed.as_ref().is_some_and(|typed| typed.text != typed.name) => {
            confirm.typed.iter_mut().for_each(|typed| typed.wrong = true);
        }
        // It does not go round: a step too many must not lead from the harmless button to the worst one.
        KeyCode::Left | KeyCode::BackTab | KeyCode::Up | KeyCode::Char('h' | 'k') => {
            confirm.focus = confirm.focus.saturating_sub(1);
        }
        KeyCode::Right | KeyCode::Tab | KeyCode::Down | KeyCode::Char('l' | 'j') => {
            confirm.focus = (confirm.focus + 1).min(last);
        }
        KeyCode::Esc => return back(model),
        KeyCode::Char('d') if confirm.discards() => {
            model.layers.pop();
            model.layers.pop();
        }
        KeyCode::Enter => {
            let then = confirm.buttons.get(confirm.focus).map(|b| b.then.clone());
            model.layers.pop();
            match then {
                Some(Then::Do(effect) | Then::Named(effect)) => return asked(model, vec![effect]),
                Some(Then::DiscardForm) => {
                    model.layers.pop();
                }
                Some(Then::SubmitForm) => return submit_below(model),
                Some(Then::Prove(storage)) => {
                    let form = forms::prove_storage(model, &storage);
                    return push_form(model, form);
                }
                Some(Then::Nothing) | None => {}
            }
        }
        _ => {}
    }
    Vec::new()
}

fn palette_key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    let found = palette::matches(model);
    let Some(Layer::Palette(palette)) = model.layers.last_mut() else { return Vec::new() };
    match (chord.code, chord.ctrl) {
        (KeyCode::Esc, _) => return back(model),
        (KeyCode::Up, _) | (KeyCode::Char('p'), true) => palette.selected = palette.selected.saturating_sub(1),
        (KeyCode::Down, _) | (KeyCode::Char('n'), true) => {
            palette.selected = (palette.selected + 1).min(found.len().saturating_sub(1));
        }
        (KeyCode::Enter, _) => {
            let action = found.get(palette.selected).copied();
            model.layers.pop();
            if let Some(action) = action {
                return palette::run(model, action);
            }
        }
        _ => {
            if let Some(request) = form::edit(chord) {
                palette.input.handle(request);
                palette.selected = 0;
            }
        }
    }
    Vec::new()
}

fn help_key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    let Some(Layer::Help { filter, filtering, scroll }) = model.layers.last_mut() else { return Vec::new() };
    match chord.code {
        KeyCode::Esc if filter.value().is_empty() => *filtering = false,
        KeyCode::Esc => {
            *filter = Input::default();
            *filtering = false;
        }
        KeyCode::Enter => *filtering = false,
        _ => {
            if let Some(request) = form::edit(chord) {
                filter.handle(request);
                *scroll = 0;
            }
        }
    }
    Vec::new()
}

fn filter_key(model: &mut Model, chord: Chord) -> Vec<Effect> {
    let tab = model.tab();
    match chord.code {
        KeyCode::Esc => {
            model.filtering = false;
            model.list_mut(tab).filter = Default::default();
        }
        KeyCode::Enter => {
            model.filtering = false;
            return Vec::new();
        }
        KeyCode::Up => return go(model, Action::Up),
        KeyCode::Down => return go(model, Action::Down),
        _ => match form::edit(chord) {
            Some(request) => {
                model.list_mut(tab).filter.input.handle(request);
            }
            None => return Vec::new(),
        },
    }
    model.refresh_tab(tab);
    Vec::new()
}

/// Clicks choose screens, tabs and rows; the wheel moves the selection. Dialogs are for the keyboard.
pub(super) fn mouse(model: &mut Model, event: MouseEvent) -> Vec<Effect> {
    let boxed = model.layers.last().is_some_and(|l| !l.is_page());
    if boxed || view::is_too_small(model.size) {
        return Vec::new();
    }
    match event.kind {
        MouseEventKind::Down(_) if model.has_box() => Vec::new(),
        MouseEventKind::ScrollUp => go(model, Action::Up),
        MouseEventKind::ScrollDown => go(model, Action::Down),
        MouseEventKind::Down(MouseButton::Left) => {
            let areas = view::Areas::of(model);
            match view::hit(model, &areas, event.column, event.row) {
                Some(view::Hit::Screen(screen)) => {
                    model.layers.clear();
                    model.filtering = false;
                    model.screen = screen;
                }
                Some(view::Hit::Tab(tab)) => model.tabs[model.screen as usize] = tab,
                Some(view::Hit::Row(row)) => {
                    let tab: Tab = model.tab();
                    let before = model.clicked.replace((tab, row, model.now));
                    let again = before.is_some_and(|(t, r, at)| (t, r) == (tab, row) && model.now - at <= DOUBLE_CLICK);
                    model.list_mut(tab).moved = true;
                    model.select(row);
                    if again {
                        model.clicked = None;
                        return open(model);
                    }
                }
                None => {}
            }
            Vec::new()
        }
        _ => Vec::new(),
    }
}
