//! The screen on slow lines, with a large catalogue, and under whatever a terminal sends.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use mongokeep::client::Client;
use mongokeep::domain::backup::BackupState;
use mongokeep::error::ErrorKind;
use mongokeep::tui::model::{Look, Model};
use mongokeep::tui::msg::{Msg, Problem, Snapshot};
use mongokeep::tui::service_strip;
use mongokeep::tui::update::update;
use mongokeep::tui::view;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::terminal::Tty;
use crate::support::command::Home;
use crate::support::screen::{self, *};
use crate::support::stopwatch::OwnTime;
use crate::support::storm::storm;

/// A million of them are in `alone`.
#[test]
fn nothing_that_a_terminal_sends_breaks_the_screen() {
    for seed in 1..=4 {
        storm(seed, 2_000, 7);
    }
}

/// 100,000 backups, 1,000 services and 5,000 schedules.
fn large() -> Snapshot {
    let mut snapshot = full_snapshot();
    let name = |i: usize| format!("service-{i:04}");
    snapshot.services = (0..1_000).map(|i| service(&name(i), Some(i as i64 % 5_000))).collect();
    snapshot.schedules =
        (0..5_000).map(|i| schedule(&format!("schedule-{i:04}"), &name(i % 1_000), "0 2 * * *")).collect();
    snapshot.backups = Arc::new(
        (0..100_000)
            .map(|i| {
                let state = if i % 97 == 0 { BackupState::Failed } else { BackupState::Succeeded };
                backup(&format!("backup-{i:06}"), &name(i % 1_000), i as i64, state)
            })
            .collect(),
    );
    snapshot
}

#[test]
fn a_thousand_services_that_are_lost_at_once_hold_nobody_up() {
    let slow = if cfg!(debug_assertions) { 100 } else { 1 };
    let mut model = screen::model(Look::default(), (160, 50));
    update(&mut model, Msg::Snapshot(Box::new(large())));
    let names: Vec<String> = model.data.services.iter().map(|service| service.name.clone()).collect();
    let problem = Problem { kind: ErrorKind::Unreachable, field: None, message: "refused".into(), hint: None };
    for heard in [Err(problem), Ok(())] {
        let began = OwnTime::start();
        for service in &names {
            update(&mut model, Msg::Heard { service: service.clone(), edition: 0, heard: heard.clone() });
        }
        let took = began.elapsed();
        println!("{} services in {took:?}", names.len());
        assert!(took < Duration::from_millis(500) * slow, "{took:?}");
        assert_eq!(model.strip, service_strip::rows(&model));
    }
}

#[test]
fn a_large_installation_is_shown_at_once() {
    // Code without optimisation is more than ten times slower, and tests run beside each other.
    let slow = if cfg!(debug_assertions) { 100 } else { 1 };
    let mut model = screen::model(Look::default(), (160, 50));
    let snapshot = large();
    let began = OwnTime::start();
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    let first = began.elapsed();
    println!("the first look at it took {first:?}");
    assert!(first < Duration::from_millis(100) * slow, "{first:?}");
    let mut terminal = frame(&model);
    let mut worst = ("", Duration::ZERO);
    for chord in ["j", "G", "k", "g", "2", "j", "G", "t", "w", "t", "4", "G", "Enter", "Esc", "l", "1", "/", "9", "Esc"]
    {
        let began = OwnTime::start();
        press(&mut model, chord);
        let pressed = began.elapsed();
        // The test terminal compares all cells in debug code; what is drawn is measured alone.
        terminal.draw(|f| view::draw(f, &model)).unwrap();
        let drawing = OwnTime::start();
        terminal.draw(|f| view::draw(f, &model)).unwrap();
        let took = pressed + drawing.elapsed();
        if took > worst.1 {
            worst = (chord, took);
        }
    }
    println!("the slowest key was {} with {:?}", worst.0, worst.1);
    assert!(worst.1 < Duration::from_millis(50) * slow, "{worst:?}");
}

/// Counts what would be sent to a terminal.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<usize>>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        *self.0.lock().unwrap() += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes that are sent for what `act` does to the model, once it is drawn.
fn sent(model: &mut Model, act: impl Fn(&mut Model)) -> usize {
    // Whatever the environment of the test says about colours.
    crossterm::style::force_color_output(true);
    let line = Line::default();
    let viewport = Viewport::Fixed(Rect::new(0, 0, model.size.0, model.size.1));
    let mut terminal =
        Terminal::with_options(CrosstermBackend::new(line.clone()), TerminalOptions { viewport }).unwrap();
    terminal.draw(|f| view::draw(f, model)).unwrap();
    let before = *line.0.lock().unwrap();
    act(model);
    terminal.draw(|f| view::draw(f, model)).unwrap();
    let after = *line.0.lock().unwrap();
    after - before
}

#[test]
fn a_slow_line_carries_it() {
    for size in [(80, 24), (160, 50)] {
        let mut model = full(Look::default(), size);
        let nothing = sent(&mut model, |_| {});
        // The sequences that hide and reset the cursor, which the driver spares: it does not draw.
        assert!(nothing < 40, "{nothing}");
        let mut second = 0;
        for tenth in 1..=8 {
            second += sent(&mut model, |m| {
                drop(update(m, Msg::Clock(now() + TimeDelta::milliseconds(tenth * 120))));
            });
        }
        println!("{size:?}: a running job sends {second} bytes a second");
        assert!(second < 1_024, "{second}");
    }
    let mut model = screen::model(Look::default(), (80, 24));
    let snapshot = Snapshot { jobs: Arc::default(), ..large() };
    update(&mut model, Msg::Snapshot(Box::new(snapshot)));
    keys(&mut model, "G g PgDn");
    let row = sent(&mut model, |m| drop(press(m, "j")));
    let page = sent(&mut model, |m| drop(press(m, "PgDn")));
    println!("80x24: a row sends {row} bytes, a page {page}");
    // Over a network no more than nine frames are sent in a second.
    assert!(row * 9 < 8_192 && page < 4_096, "{row} {page}");
}

/// Fills the store of `home`: 1,000 services that nobody answers for, 5,000 schedules, 100,000 backups.
fn fill(home: &Home) {
    let client = Client::open(&mongokeep::config::Home::below(home.path()), false).unwrap();
    let values = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), vec![v.to_string()])).collect();
    for i in 0..1_000 {
        let uri = "mongodb://127.0.0.1:1/?replicaSet=rs";
        client.add_service(&values(&[("name", &format!("service-{i:04}")), ("uri", uri)])).unwrap();
    }
    let schedule =
        [("name", "s"), ("service", "service-0000"), ("storage", "t"), ("cron", "0 2 * * *"), ("disabled", "true")];
    client.add_schedule(&values(&schedule)).unwrap();
    drop(client);
    let file = rusqlite::Connection::open(home.path().join("data/mongokeep.db")).unwrap();
    let columns: Vec<String> = file
        .prepare("SELECT name FROM pragma_table_info('schedules') WHERE name NOT IN ('name', 'service')")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let columns = columns.join(", ");
    file.execute_batch(&format!(
        "BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4998)
         INSERT INTO schedules (name, service, {columns})
         SELECT printf('schedule-%04d', i), printf('service-%04d', i % 1000), {columns} FROM n, schedules WHERE name = 's';
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
         INSERT INTO backups (name, service, storage, folder, engine, model, type, state, consistent_t, consistent_i,
             size_bytes, uncompressed_bytes, documents, started_at, finished_at, server_version, fcv, compression)
         SELECT printf('service-%04d-%06d', i % 1000, i), printf('service-%04d', i % 1000), 't', 'prod', 'native', 'logical',
             'full', 'succeeded', 1790000000 - i * 60, 1, 505000000, 1449000000, 2104311, (1790000000 - i * 60) * 1000,
             (1790000060 - i * 60) * 1000, '6.0.5', '6.0', 'zstd:2' FROM n;
         COMMIT;"
    ))
    .unwrap();
}

#[test]
fn a_large_installation_needs_little_memory_and_answers_at_once() {
    // Code without optimisation asks a thousand servers with all that a busy machine has left: there it only has to answer.
    let within = |ms| if cfg!(debug_assertions) { Duration::from_secs(60) } else { Duration::from_millis(ms) };
    let home = Home::ready();
    fill(&home);
    let began = Instant::now();
    // One that may write would start a daemon.
    let mut tty = Tty::start(home.path(), &[], &["--read-only"]);
    tty.wait("mongokeep");
    let first = began.elapsed();
    tty.wait("All backups (100,000)");
    let read = began.elapsed();
    let mut keys = Vec::new();
    for (key, shown) in [
        ("G", "service-0999-099999"),
        ("g", "service-0000-000000"),
        ("2", "Schedules (5,000)"),
        ("4", "Services (1,001)"),
    ] {
        let pressed = Instant::now();
        tty.send(key);
        tty.wait(shown);
        keys.push(pressed.elapsed());
    }
    let pid = tty.child.process_id().unwrap();
    let memory = memory(pid);
    tty.send("q");
    tty.ended();
    println!("first frame {first:?}, all read {read:?}, keys {keys:?}, {memory} kB");
    assert!(first < within(100), "{first:?}");
    // Of each, 60 ms are a pause before the key, and 15 between two looks.
    assert!(keys.iter().all(|took| *took < within(125)), "{keys:?}");
    assert!(memory < 150 * 1024, "{memory} kB");
    // A list that is scrolled as fast as keys come, over a network.
    let mut tty = Tty::start(home.path(), &[("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")], &["--read-only"]);
    tty.wait("All backups (100,000)");
    tty.send("1g");
    tty.wait("▸ service-0000-000000");
    for _ in 0..25 {
        tty.send("j");
    }
    let (before, began) = (tty.bytes().len(), Instant::now());
    while began.elapsed() < Duration::from_secs(3) {
        tty.send("j");
    }
    let rate = (tty.bytes().len() - before) as f64 / began.elapsed().as_secs_f64();
    println!("scrolling sends {rate:.0} bytes a second");
    assert!(rate < 8_192.0, "{rate}");
    tty.send("q");
    tty.ended();
}

/// Kilobytes of memory that a process has for itself; pages of its program's file are the system's.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_terminal_that_does_not_read_stops_neither_the_daemon_nor_grows_memory() {
    let home = Home::ready();
    home.good("settings set ui.timezone UTC");
    let pty = native_pty_system().openpty(PtySize { rows: 50, cols: 160, pixel_width: 0, pixel_height: 0 }).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_mongokeep"));
    command.arg("--home");
    command.arg(home.path());
    for (name, value) in [("TERM", "xterm-256color"), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC")] {
        command.env(name, value);
    }
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let pid = child.process_id().unwrap();
    // Read until it runs, and then no more.
    let mut output = pty.master.try_clone_reader().unwrap();
    let mut parser = vt100::Parser::new(50, 160, 0);
    let mut buffer = [0; 4096];
    while !parser.screen().contents().contains("daemon ok") {
        let n = output.read(&mut buffer).unwrap();
        parser.process(&buffer[..n]);
    }
    // Each of these keys draws everything anew.
    let mut keys = pty.master.take_writer().unwrap();
    let typing = std::thread::spawn(move || {
        for _ in 0..2_000 {
            keys.write_all(b"\x0c").unwrap();
            keys.flush().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        keys
    });
    std::thread::sleep(Duration::from_secs(1));
    let before = memory(pid);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        let now = memory(pid);
        assert!(now < before + 16_000, "{before} kB have become {now} kB");
        std::thread::sleep(Duration::from_millis(100));
    }
    // A machine that stands still lets no daemon show that it goes on.
    crate::support::program::until("the daemon goes on", || {
        let status = home.json("daemon status");
        status["running"] == true && status["silent_since"].is_null()
    });
    // Whoever reads again sees it, and can leave.
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = [0; 65_536];
        while let Ok(n @ 1..) = output.read(&mut buffer) {
            all.extend_from_slice(&buffer[..n]);
        }
        all
    });
    let mut keys = typing.join().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    keys.write_all(b"q").unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
        std::thread::sleep(Duration::from_millis(15));
    }
    let all = reading.join().unwrap();
    assert!(all.windows(8).any(|part| part == b"\x1b[?1049l"), "the terminal is given back");
}
