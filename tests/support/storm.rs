//! Everything that can come from a terminal, at random but from a seed: keys, pastes, clicks, sizes, and answers.

use std::sync::Arc;

use chrono::TimeDelta;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use mongokeep::domain::backup::BackupState;
use mongokeep::tui::model::{Layer, Look, Model, Then};
use mongokeep::tui::msg::{Effect, Msg, Reply, Snapshot};
use mongokeep::tui::update::update;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use unicode_width::UnicodeWidthStr;

use super::screen::{self, *};

const NAMED: [KeyCode; 16] = [
    KeyCode::Enter,
    KeyCode::Esc,
    KeyCode::Tab,
    KeyCode::BackTab,
    KeyCode::Up,
    KeyCode::Down,
    KeyCode::Left,
    KeyCode::Right,
    KeyCode::Home,
    KeyCode::End,
    KeyCode::PageUp,
    KeyCode::PageDown,
    KeyCode::Backspace,
    KeyCode::Delete,
    KeyCode::F(1),
    KeyCode::Char(' '),
];
const TEXTS: [&str; 7] = [
    "orders-rs",
    "käse-レジ-東京 の バックアップ",
    "a\r\nb\tc\u{1b}[2J",
    "🦀👩‍👩‍👧‍👦e\u{301}",
    "0 2 * * *",
    "2026-11-21 14:41:06",
    "",
];

/// Sends so many events to a model, draws after every `draw`-th, and checks what must always hold.
///
/// Panics with the seed and the number of the event when something does not.
pub fn storm(seed: u64, events: usize, draw: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let look = Look {
        ascii: random.random_bool(0.2),
        no_color: random.random_bool(0.2),
        no_motion: random.random_bool(0.2),
        no_braille: random.random_bool(0.2),
        read_only: random.random_bool(0.1),
    };
    let mut model = screen::model(look, (80, 24));
    for n in 0..events {
        let msg = event(&mut random);
        let what = format!("seed {seed}, event {n}: {msg:?}");
        let guard = Named(what);
        let effects = update(&mut model, msg);
        answer(&mut model, &mut random, effects);
        if n % draw == 0 {
            check(&model);
        }
        if n % 500 == 499 {
            leave(&mut model);
        }
        drop(guard);
    }
}

/// Says which event it was when something panics.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

fn event(random: &mut StdRng) -> Msg {
    match random.random_range(0..100) {
        0..70 => Msg::Key(any_key(random)),
        70..76 => Msg::Rushed(any_key(random)),
        76..82 => Msg::Paste((*TEXTS.choose(random).unwrap()).to_owned()),
        82..90 => Msg::Resize(random.random_range(0..230), random.random_range(0..70)),
        90..94 => {
            let kinds = [
                MouseEventKind::Down(MouseButton::Left),
                MouseEventKind::Down(MouseButton::Right),
                MouseEventKind::ScrollDown,
                MouseEventKind::ScrollUp,
            ];
            Msg::Mouse(MouseEvent {
                kind: *kinds.choose(random).unwrap(),
                column: random.random_range(0..240),
                row: random.random_range(0..80),
                modifiers: KeyModifiers::NONE,
            })
        }
        94..97 => Msg::Clock(now() + TimeDelta::milliseconds(random.random_range(0..600_000))),
        97..99 => Msg::Snapshot(Box::new(snapshot(random))),
        _ => Msg::Daemon(daemon(random.random_bool(0.7))),
    }
}

fn any_key(random: &mut StdRng) -> KeyEvent {
    let modifiers = match random.random_range(0..12) {
        0 => KeyModifiers::CONTROL,
        1 => KeyModifiers::ALT,
        _ => KeyModifiers::NONE,
    };
    let code = match random.random_range(0..10) {
        0..4 => *NAMED.choose(random).unwrap(),
        4..9 => KeyCode::Char(char::from(random.random_range(b' '..=b'~'))),
        _ => KeyCode::Char(*['é', '東', '🦀', '\u{301}', 'ß'].choose(random).unwrap()),
    };
    KeyEvent::new(code, modifiers)
}

fn snapshot(random: &mut StdRng) -> Snapshot {
    match random.random_range(0..4) {
        0 => empty_snapshot(),
        1 => full_snapshot(),
        2 => pitr_snapshot(),
        _ => {
            let mut snapshot = pitr_snapshot();
            let name = |i: i64| format!("{}-{i}", TEXTS[i as usize % 4].replace(char::is_control, "_"));
            snapshot.services.extend((0..40).map(|i| service(&name(i), (i % 3 > 0).then_some(i * 100))));
            let states = [BackupState::Succeeded, BackupState::Failed, BackupState::Running];
            let backups = (0..60).map(|i| backup(&name(i), "orders-rs", i, states[i as usize % 3]));
            snapshot.backups = Arc::new(snapshot.backups.iter().cloned().chain(backups).collect());
            snapshot
        }
    }
}

/// Some questions are answered.
fn answer(model: &mut Model, random: &mut StdRng, effects: Vec<Effect>) {
    if random.random_bool(0.5) {
        return;
    }
    let effects = plain(effects);
    for effect in &effects {
        let found = match effect {
            Effect::ServiceInfo(name) => Reply::ServiceInfo { name: name.clone(), result: Ok(info()) },
            Effect::SetSetting(key, _) => Reply::SettingSaved { key: key.clone(), result: Ok(()) },
            Effect::PlanRestore(_) => {
                let (request, result) = planned_moment();
                Reply::RestorePlanned { request, result }
            }
            _ => continue,
        };
        reply(model, found);
    }
    look_ahead(model, effects.clone());
    count_operations(model, effects);
}

/// What is drawn is whole: no wide character lacks its second half.
pub fn check(model: &Model) {
    if model.size.0 == 0 || model.size.1 == 0 {
        return;
    }
    let terminal = frame(model);
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    for (y, row) in buffer.content.chunks(width).enumerate() {
        for (x, cell) in row.iter().enumerate() {
            if cell.symbol().width() > 1 {
                let next = row.get(x + 1).map(|cell| cell.symbol());
                assert_eq!(next, Some(" "), "{:?} at {x}, {y} is cut:\n{}", cell.symbol(), shown(model));
            }
        }
    }
}

/// Esc leads out of everything; what was typed is discarded when it is asked for.
fn leave(model: &mut Model) {
    update(model, Msg::Resize(80, 24));
    for _ in 0..60 {
        match model.layers.last() {
            None if !model.filtering => return,
            Some(Layer::Confirm(confirm)) => {
                let discards = confirm.buttons.iter().position(|b| matches!(b.then, Then::DiscardForm));
                match discards {
                    Some(at) if at != confirm.focus => drop(press(model, "Right")),
                    Some(_) => drop(press(model, "Enter")),
                    None => drop(press(model, "Esc")),
                }
            }
            _ => drop(press(model, "Esc")),
        }
    }
    panic!("Esc does not lead out of\n{}", shown(model));
}
