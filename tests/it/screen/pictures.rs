//! The pictures of README and guide, made from a pseudo-terminal: at a fixed time, so that they are the same each time.
//!
//! `INSTA_UPDATE=always cargo test --test it screen::pictures` makes them anew; without it they must be as they are in
//! `assets`, and the pages must show each of them.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mongokeep::domain::warning::{Warning, WarningKind};
use mongokeep::tui::keymap::Keymap;
use mongokeep::tui::model::{Look, Model};
use mongokeep::tui::msg::{Msg, Reply, Snapshot};
use mongokeep::tui::update::update;
use mongokeep::tui::view;
use portable_pty::{MasterPty, PtySize, SlavePty, native_pty_system};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use crate::support::screen::*;
use crate::support::svg::{self, DARK, LIGHT};

const SIZE: (u16, u16) = (110, 30);
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal that this process draws on, and reads.
struct Tty {
    terminal: Terminal<CrosstermBackend<File>>,
    bytes: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    frames: usize,
    _pair: (Box<dyn MasterPty + Send>, Box<dyn SlavePty + Send>),
}

impl Tty {
    fn new((columns, rows): (u16, u16)) -> Self {
        // Whatever the environment of the test says about colours.
        crossterm::style::force_color_output(true);
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let path = pair.master.tty_name().unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        let viewport = Viewport::Fixed(Rect::new(0, 0, columns, rows));
        let terminal = Terminal::with_options(CrosstermBackend::new(file), TerminalOptions { viewport }).unwrap();
        let mut output = pair.master.try_clone_reader().unwrap();
        let (sender, bytes) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let parser = vt100::Parser::new(rows, columns, 0);
        Self { terminal, bytes, parser, frames: 0, _pair: (pair.master, pair.slave) }
    }

    /// What the terminal shows when the model is drawn.
    fn shown(&mut self, model: &Model) -> vt100::Screen {
        self.terminal.draw(|frame| view::draw(frame, model)).unwrap();
        self.frames += 1;
        // A title marks the end of the frame.
        let end = format!("\u{1b}]2;frame {}\u{7}", self.frames).into_bytes();
        let out = self.terminal.backend_mut();
        out.write_all(&end).unwrap();
        Write::flush(out).unwrap();
        let mut seen = Vec::new();
        while !seen.windows(end.len()).any(|part| part == end) {
            seen.extend(self.bytes.recv_timeout(PATIENCE).expect("the frame comes out of the terminal"));
        }
        self.parser.process(&seen);
        self.parser.screen().clone()
    }
}

fn assets(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/screens").join(name)
}

fn is_renewed() -> bool {
    std::env::var("INSTA_UPDATE").is_ok_and(|mode| mode == "always")
}

/// The file must hold `text`, or is made anew.
fn keep(path: &Path, text: &str) {
    if is_renewed() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    let how = "INSTA_UPDATE=always cargo test --test it screen::pictures";
    assert!(kept == text, "{} is not what the program shows; {how} makes it anew", path.display());
}

fn with_setting(snapshot: &mut Snapshot, key: &str, value: &str) {
    snapshot.settings.iter_mut().find(|(k, _)| k == key).unwrap().1 = value.into();
}

fn opened(theme: &str) -> Model {
    let mut model = with_pitr(Look::default(), SIZE);
    let mut snapshot = pitr_snapshot();
    with_setting(&mut snapshot, "ui.theme", theme);
    // As the store reports of the schedules of the fixture.
    let of_users = |kind, schedule: &str, text: &str| Warning {
        service: Some("users-rs".into()),
        schedule: Some(schedule.into()),
        ..Warning::new(kind, text)
    };
    let failed = "the last run of schedule hourly-users failed: the storage s3-eu did not answer within 10 s";
    snapshot.warnings = vec![
        of_users(WarningKind::RunFailed, "hourly-users", failed),
        of_users(WarningKind::RunMissed, "weekly-users", "the last run of schedule weekly-users was missed"),
    ];
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    model
}

fn look(model: &mut Model, chords: &str) {
    let effects = keys(model, chords);
    look_ahead(model, effects);
}

/// On the second before the accident.
fn at_the_accident(model: &mut Model) {
    keys_counted(model, "4 r");
    // Each answer of the counts says where the next one leads.
    for _ in 0..4 {
        keys_counted(model, "p");
    }
}

fn plan(model: &mut Model) {
    keys_counted(model, "Ctrl-S");
    let (request, result) = planned_moment();
    reply(model, Reply::RestorePlanned { request, result });
}

type Scene = (&'static str, &'static str, fn(&mut Model));

const SCENES: &[Scene] = &[
    ("backups", "dark", |_| {}),
    ("backup", "dark", |m| drop(keys(m, "Enter"))),
    ("failed", "dark", |m| drop(keys(m, "l l j j j Enter"))),
    ("schedules", "dark", |m| look(m, "2 j j t w")),
    ("create", "dark", |m| look(m, "2 n")),
    ("storage", "dark", |m| drop(keys(m, "3"))),
    ("services", "dark", |m| drop(keys(m, "4"))),
    ("service", "dark", |m| drop(keys(m, "4 Enter"))),
    ("moment", "dark", at_the_accident),
    ("plan", "dark", |m| {
        at_the_accident(m);
        plan(m);
    }),
    ("settings", "dark", |m| drop(keys(m, "4 l j Enter"))),
    ("themes", "dark", |m| drop(keys(m, "4 l l l Enter Down"))),
    ("light", "light", |_| {}),
    ("colour-blind", "colour-blind", |_| {}),
    ("help", "dark", |m| drop(keys(m, "?"))),
];

#[test]
fn each_picture_is_what_the_screen_shows() {
    for (name, theme, prepare) in SCENES {
        let mut model = opened(theme);
        prepare(&mut model);
        let mut tty = Tty::new(SIZE);
        let screen = tty.shown(&model);
        // The line of keys is on every one.
        assert!(screen.contents().lines().last().is_some_and(|l| l.contains("Esc") || l.contains("q quit")), "{name}");
        // A theme that is only looked at is seen as well.
        let ground = if *theme == "light" || *name == "themes" { LIGHT } else { DARK };
        keep(&assets(&format!("{name}.svg")), &svg::still(&screen, ground));
    }
}

#[test]
fn the_session_is_what_the_screen_shows() {
    let mut model = opened("dark");
    let mut tty = Tty::new(SIZE);
    let mut frames = vec![(tty.shown(&model), 2.5)];
    let mut step = |model: &mut Model, seconds: f64, act: &dyn Fn(&mut Model)| {
        act(model);
        frames.push((tty.shown(model), seconds));
    };
    step(&mut model, 1.2, &|m| drop(keys(m, "j")));
    step(&mut model, 2.0, &|m| look(m, "2 j j t"));
    step(&mut model, 1.5, &|m| drop(keys(m, "t 4")));
    step(&mut model, 2.5, &|m| keys_counted(m, "r"));
    step(&mut model, 1.5, &|m| keys_counted(m, "p"));
    step(&mut model, 1.2, &|m| keys_counted(m, "p"));
    step(&mut model, 1.2, &|m| keys_counted(m, "p"));
    step(&mut model, 2.0, &|m| keys_counted(m, "p"));
    step(&mut model, 3.5, &plan);
    step(&mut model, 1.0, &|m| drop(type_text(m, "orders")));
    step(&mut model, 3.0, &|m| drop(type_text(m, "-rs")));
    keep(&assets("session.svg"), &svg::moving(&frames, DARK));
}

#[test]
fn every_picture_is_shown_somewhere_and_every_shown_one_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let (readme, guide) = (page("README.md"), page("docs/screens.md"));
    for entry in std::fs::read_dir(assets("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = SCENES.iter().any(|(scene, ..)| name == format!("{scene}.svg")) || name == "session.svg";
        assert!(known, "assets/screens/{name} is made by nothing");
        let is_shown =
            readme.contains(&format!("assets/screens/{name}")) || guide.contains(&format!("../assets/screens/{name}"));
        assert!(is_shown, "{name} is shown nowhere");
    }
    for part in readme.split("](").chain(guide.split("](")).chain(readme.split("src=\"")) {
        let end = part.find([')', '"']).unwrap_or(0);
        if let Some((_, name)) = part[..end].split_once("assets/screens/") {
            assert!(assets(name).is_file(), "there is no picture {name}");
        }
    }
    let (first, features) = (readme.find("assets/screens/").unwrap(), readme.find("## What you get").unwrap());
    assert!(first < features, "the pictures come before the list of features");
}

const BEGIN: &str = "<!-- made from assets/keymap.toml by the test screen::pictures -->\n";

#[test]
fn the_page_of_keys_is_made_from_the_keymap() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keys.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (words, _) = page.split_once(BEGIN).expect("the mark where the tables begin");
    let made = format!("{words}{BEGIN}\n{}", Keymap::builtin().to_markdown());
    keep(&path, &format!("{}\n", made.trim_end()));
}
