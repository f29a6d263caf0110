//! The loop around the pure update: takes events in, draws when something changed, has effects performed.
//!
//! The store is read by one task that polls a number which changes with the data: often while jobs run, seldom
//! otherwise. Nothing is sent to the terminal while nothing changes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use crossterm::event::Event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::customs;
use super::effects::{self, Planning, in_background};
use super::input::{Input, Reader};
use super::model::{LOG_LINES, Look, Model, SHOWN_SECONDS};
use super::msg::{Effect, Msg, Snapshot};
use super::terminal::{self, Screen};
use super::watches::Watches;
use super::{Options, view};
use crate::client::Client;
use crate::domain::clock;
use crate::domain::job::LogLine;
use crate::error::{Result, io as io_error};

/// How often the store is looked at while jobs run, and while none does.
const BUSY: Duration = Duration::from_millis(200);
const IDLE: Duration = Duration::from_millis(1_000);
/// How often the daemon is looked for.
const DAEMON: Duration = Duration::from_secs(2);
/// How long to wait before a daemon is started anew.
const RESTART: Duration = Duration::from_secs(10);
/// How often each service is asked whether it is there.
const SERVICES: Duration = Duration::from_secs(60);
/// How often the nodes on the screen are looked at, and while something is being done on them.
const NODES: Duration = Duration::from_secs(10);
const NODES_BUSY: Duration = Duration::from_secs(3);
/// How often it is looked for what time alone makes wrong.
const WARNINGS: Duration = Duration::from_secs(60);
/// One picture of a spinner.
const FRAME: Duration = Duration::from_millis(120);
/// Between two frames over a line that may be slow: a key that is held down there costs no more than this many frames.
const SLOW_FRAME: Duration = Duration::from_millis(110);
/// How many lines of a log are read at a time.
const LOG_PAGE: usize = 1_000;
/// Messages that wait for the screen; a worker that finds no room waits.
const QUEUE: usize = 256;

/// What the reader of the store has to know about the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Wanted {
    busy: bool,
    /// The job whose log is shown, and the last line the screen has.
    log: Option<(i64, i64)>,
    /// Raised to have the store read at once.
    nudge: u64,
}

pub async fn drive(client: Client, options: Options) -> Result<()> {
    terminal::require()?;
    let mut interrupt = Signals::new()?;
    let mut window = signal(SignalKind::window_change()).map_err(|e| io_error("listening for signals", e))?;
    let mut screen = Screen::enter()?;
    let size = screen.size()?;
    let mut model = Model::new(look(&client, &options), options.theme, size, clock::now(), zone());
    model.about = about(&client);
    let ends_daemon = options.ends_daemon;
    let home = client.home().clone();
    let customs = in_background(move || Ok(customs::read_customs(&home))).await;
    model.take_customs(customs.map_err(|e| e.message));
    model.tip = options.tip;
    model.home = options.home;
    draw(&mut screen, &mut model).map_err(|e| io_error("drawing", e))?;

    let (messages, mut inbox) = mpsc::channel(QUEUE);
    let (want, wanted) = watch::channel(Wanted::default());
    let reader = tokio::spawn(read_store(client.clone(), messages.clone(), wanted));
    let daemons = tokio::spawn(watch_daemon(client.clone(), messages.clone()));
    let (mut tried_daemon, mut try_daemon) = (false, Instant::now());
    let mut watches = Watches::default();
    let mut ask_services = Instant::now();
    let mut ask_warnings = Instant::now();
    let mut asked_for = 0;
    let mut nodes = Nodes::default();
    let mut plans: Vec<Planning> = Vec::new();
    let (typed, mut inputs) = mpsc::channel(QUEUE);
    let _keyboard = Reader::start(typed)?;
    let pace = if is_remote() { SLOW_FRAME } else { Duration::ZERO };
    let mut drawn: Option<Instant> = None;
    'screen: loop {
        let rest = drawn.map_or(Duration::ZERO, |at| pace.saturating_sub(at.elapsed()));
        let wake = next_wake(&model).min(nodes.due_in(&model));
        let wake = if model.dirty { wake.min(rest) } else { wake };
        let msg = tokio::select! {
            input = inputs.recv() => match input.and_then(message) {
                Some(msg) => msg,
                None => break,
            },
            Some(msg) = inbox.recv() => msg,
            Some(()) = window.recv() => match screen.size() {
                Ok((width, height)) => Msg::Resize(width, height),
                Err(_) => continue,
            },
            () = tokio::time::sleep(wake) => Msg::Clock(clock::now()),
            () = interrupt.recv() => break,
        };
        // The clock goes first, so that ages and messages are stamped with the present.
        let mut todo = super::update::update(&mut model, Msg::Clock(clock::now()));
        if !matches!(msg, Msg::Clock(_)) {
            todo.extend(super::update::update(&mut model, msg));
        }
        // What has piled up meanwhile costs one frame, not one each.
        for _ in 0..QUEUE {
            let msg = match inputs.try_recv() {
                Ok(input) => match message(input) {
                    Some(msg) => msg,
                    None => break 'screen,
                },
                Err(_) => match inbox.try_recv() {
                    Ok(msg) => msg,
                    Err(_) => break,
                },
            };
            todo.extend(super::update::update(&mut model, msg));
        }
        // What follows from an effect of the terminal itself is done as well.
        let mut todo = VecDeque::from(todo);
        while let Some(effect) = todo.pop_front() {
            match effect {
                Effect::Quit => model.quitting = true,
                Effect::Suspend => {
                    screen.suspend()?;
                    let (width, height) = screen.size()?;
                    todo.extend(super::update::update(&mut model, Msg::Resize(width, height)));
                }
                Effect::Redraw => {
                    screen.redraw()?;
                    model.dirty = true;
                }
                Effect::Copy(text) => {
                    let result = screen.copy(&text);
                    let reply = super::msg::Reply::Copied { text, result };
                    todo.extend(super::update::update(&mut model, Msg::Reply(Box::new(reply))));
                }
                effect => {
                    let edition = edition_of(&model, &effect);
                    plans.extend(Planning::start(client.clone(), effect, edition, messages.clone()));
                }
            }
        }
        plans.retain(|plan| plan.is_wanted(&model));
        if model.quitting {
            break;
        }
        watches.follow(&model, &client, &messages);
        let services = model.data.services.len();
        if model.loaded && services > 0 && (ask_services <= Instant::now() || services > asked_for) {
            ask_services = Instant::now() + SERVICES;
            asked_for = services;
            for service in &model.data.services {
                let edition = model.edition(&service.name);
                effects::start(client.clone(), Effect::ServiceInfo(service.name.clone()), edition, messages.clone());
            }
        }
        if let Some(effect) = nodes.ask(&mut model) {
            let edition = edition_of(&model, &effect);
            nodes.task = Some(effects::start(client.clone(), effect, edition, messages.clone()));
        }
        if model.loaded && ask_warnings <= Instant::now() {
            ask_warnings = Instant::now() + WARNINGS;
            effects::start(client.clone(), Effect::Warnings, 0, messages.clone());
        }
        // At the start, and again whenever it is missed.
        if !model.look.read_only && (!tried_daemon || model.misses_daemon()) && try_daemon <= Instant::now() {
            tried_daemon = true;
            try_daemon = Instant::now() + RESTART;
            effects::start(client.clone(), Effect::EnsureDaemon, 0, messages.clone());
        }
        screen.set_mouse(model.mouse())?;
        tell_reader(&model, &want);
        if model.dirty && drawn.is_none_or(|at| at.elapsed() >= pace) {
            drawn = Some(Instant::now());
            match draw(&mut screen, &mut model) {
                // It was closed, and nobody is left to read why.
                Err(e) if terminal::is_gone(&e) => break,
                drawn => drawn.map_err(|e| io_error("drawing", e))?,
            }
        }
    }
    reader.abort();
    daemons.abort();
    drop(screen);
    let left = model.unfinished().count();
    if model.quitting && left > 0 && !ends_daemon {
        let (what, them) =
            if left == 1 { ("1 job goes".to_owned(), "it") } else { (format!("{left} jobs go"), "them") };
        let list = model.commands("mongokeep job list");
        // The terminal may be gone by now.
        let _ = writeln!(io::stdout(), "{what} on in the background; {list} shows {them}");
    }
    Ok(())
}

/// Which edition of its service `effect` asks about; zero for what asks about none.
fn edition_of(model: &Model, effect: &Effect) -> u64 {
    effects::about(effect).map_or(0, |service| model.edition(service))
}

/// The look at the nodes of the service whose page is open. Nobody looks at others, and at these one at a time.
#[derive(Default)]
struct Nodes {
    of: Option<String>,
    last: Option<Instant>,
    task: Option<tokio::task::AbortHandle>,
}

impl Nodes {
    /// How long until the next look.
    fn due_in(&self, model: &Model) -> Duration {
        let Some(wanted) = model.watched_cluster() else { return Duration::MAX };
        let every = if model.cluster_works() { NODES_BUSY } else { NODES };
        match self.last {
            Some(last) if self.of.as_deref() == Some(wanted) => every.saturating_sub(last.elapsed()),
            _ => Duration::ZERO,
        }
    }

    /// The next look, once it is time for it and the one before has ended.
    fn ask(&mut self, model: &mut Model) -> Option<Effect> {
        let is_asking = self.task.as_ref().is_some_and(|task| !task.is_finished());
        let wanted = model.watched_cluster()?.to_owned();
        if !self.due_in(model).is_zero() || (is_asking && self.of.as_deref() == Some(&wanted)) {
            return None;
        }
        self.last = Some(Instant::now());
        self.of = Some(wanted.clone());
        super::update::look_at_nodes(model, wanted)
    }
}

fn draw(screen: &mut Screen, model: &mut Model) -> io::Result<()> {
    screen.terminal.draw(|frame| view::draw(frame, model))?;
    model.dirty = false;
    Ok(())
}

/// `None`: the terminal is gone.
fn message(input: Input) -> Option<Msg> {
    Some(match input {
        Input::Key { key, rushed: false } => Msg::Key(key),
        Input::Key { key, rushed: true } => Msg::Rushed(key),
        Input::Other(Event::Paste(text)) => Msg::Paste(text),
        Input::Other(Event::Mouse(event)) => Msg::Mouse(event),
        Input::Other(Event::Resize(width, height)) => Msg::Resize(width, height),
        Input::Other(Event::Key(key)) => Msg::Key(key),
        Input::Other(Event::FocusGained | Event::FocusLost) => Msg::Clock(clock::now()),
        Input::Gone => return None,
    })
}

/// Where everything is, for the About page.
fn about(client: &Client) -> Vec<(String, String)> {
    let home = client.home();
    let path = |label: &str, path: std::path::PathBuf| (label.to_owned(), path.display().to_string());
    vec![
        path("Settings", home.settings_file()),
        path("Keys", home.keymap_file()),
        path("Themes", home.themes_folder()),
        path("Store", home.store_file()),
        path("Daemon's log", home.log_file()),
    ]
}

/// What environment and command line say about looks.
fn look(client: &Client, options: &Options) -> Look {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    Look {
        ascii: options.ascii || !locale_is_utf8(|name| std::env::var(name).ok()),
        no_color: set("NO_COLOR"),
        no_motion: options.no_motion || set("NO_MOTION"),
        // The font of its console has no braille.
        no_braille: std::env::var("TERM").is_ok_and(|term| term == "linux"),
        read_only: options.read_only || client.is_read_only(),
    }
}

/// Whether the terminal is at the other end of a network.
fn is_remote() -> bool {
    std::env::var_os("SSH_CONNECTION").is_some_and(|v| !v.is_empty())
}

/// The first of these that is set decides, as in every other program; none set is the plain C locale.
fn locale_is_utf8(get: impl Fn(&str) -> Option<String>) -> bool {
    let value = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| get(name).filter(|v| !v.is_empty()));
    value.is_some_and(|v| {
        let v = v.to_ascii_lowercase();
        v.contains("utf-8") || v.contains("utf8")
    })
}

/// The zone of this machine; UTC when it cannot be told.
fn zone() -> chrono_tz::Tz {
    let name = iana_time_zone::get_timezone().unwrap_or_default();
    name.parse().unwrap_or(chrono_tz::UTC)
}

/// How long nothing on the screen will change by itself.
fn next_wake(model: &Model) -> Duration {
    if model.is_animated() {
        return FRAME;
    }
    let now = clock::now();
    let minute = 60_000 - now.timestamp_millis().rem_euclid(60_000);
    let second = if model.counts_down() { 1_000 - now.timestamp_millis().rem_euclid(1_000) } else { i64::MAX };
    let retry = if model.misses_daemon() { RESTART.as_millis() as i64 } else { i64::MAX };
    let message = model.line_message().map(|m| m.at + TimeDelta::seconds(SHOWN_SECONDS));
    let message = message.map_or(i64::MAX, |at: DateTime<Utc>| (at - now).num_milliseconds().max(0));
    Duration::from_millis(minute.min(second).min(message).min(retry).clamp(1, 60_000) as u64 + 5)
}

fn tell_reader(model: &Model, want: &watch::Sender<Wanted>) {
    let log = model.watched_job().map(|id| {
        let last = model.logs.get(&id).and_then(|l| l.back()).map_or(0, |l| l.seq);
        (id, last)
    });
    let busy = model.unfinished().next().is_some();
    want.send_if_modified(|w| {
        // Another job on the screen is a reason to look at once; a longer log is not.
        let other = w.log.map(|l| l.0) != log.map(|l| l.0);
        let next = Wanted { busy, log, nudge: w.nudge + u64::from(other) };
        let wake = other || busy != w.busy;
        *w = next;
        wake
    });
}

/// Reads the store whenever its number changes, and the log that is shown. What records the oplog is the daemon, and one
/// that is killed writes nothing: whether it runs counts as well.
async fn read_store(client: Client, messages: mpsc::Sender<Msg>, mut wanted: watch::Receiver<Wanted>) {
    let mut version = None;
    let mut log_of: Option<(i64, i64)> = None;
    loop {
        let want = *wanted.borrow_and_update();
        let of = client.clone();
        let seen = version;
        let looked = Instant::now();
        let result = in_background(move || {
            let now = (of.data_version()?, settings_stamp(&of), of.daemon_runs().ok());
            if seen == Some(now) {
                return Ok(None);
            }
            let (settings, settings_problem) = match of.settings() {
                Ok(settings) => (settings, None),
                Err(e) => (Vec::new(), Some(e.into())),
            };
            let snapshot = Snapshot {
                services: of.services()?,
                storages: of.storages()?,
                schedules: of.schedules()?,
                pitr: of.pitr_status(None)?,
                // Settings that cannot be read are told of below; the rest is worth showing all the same.
                warnings: of.warnings().unwrap_or_default(),
                backups: Arc::new(of.backups()?),
                jobs: Arc::new(of.jobs()?),
                settings,
                settings_problem,
                read_at: clock::now(),
            };
            Ok(Some((now, snapshot)))
        })
        .await;
        let pause;
        let mut changed = false;
        match result {
            Ok(Some((now, snapshot))) => {
                version = Some(now);
                changed = true;
                // A large catalogue is read less often: no more than a tenth of the time goes into reading.
                pause = (looked.elapsed() * 10).min(Duration::from_secs(5));
                if messages.send(Msg::Snapshot(Box::new(snapshot))).await.is_err() {
                    return;
                }
            }
            Ok(None) => pause = Duration::ZERO,
            Err(problem) => {
                version = None;
                pause = Duration::from_secs(2);
                if messages.send(Msg::StoreLost(problem)).await.is_err() {
                    return;
                }
            }
        }
        if let Some((id, shown)) = want.log {
            let after = log_of.filter(|l| l.0 == id).map_or(shown, |l| l.1.max(shown));
            if changed || log_of.map(|l| l.0) != Some(id) {
                let of = client.clone();
                let read = move || last_lines(after, |after| of.job_log(id, after, LOG_PAGE));
                if let Ok(lines) = in_background(read).await {
                    log_of = Some((id, lines.last().map_or(after, |l| l.seq)));
                    if !lines.is_empty() && messages.send(Msg::Log { job: id, lines }).await.is_err() {
                        return;
                    }
                }
            }
        }
        let interval = if want.busy { BUSY } else { IDLE };
        tokio::select! {
            () = tokio::time::sleep(interval.max(pause)) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// What follows line `after` of a log, as far as the screen keeps it: the end of a long one is what matters, and of one
/// that has ended nothing more is ever read.
fn last_lines(after: i64, mut page: impl FnMut(i64) -> Result<Vec<LogLine>>) -> Result<Vec<LogLine>> {
    let mut lines = VecDeque::new();
    let mut after = after;
    loop {
        let next = page(after)?;
        let is_last = next.len() < LOG_PAGE;
        after = next.last().map_or(after, |line| line.seq);
        lines.extend(next);
        while lines.len() > LOG_LINES {
            lines.pop_front();
        }
        if is_last {
            return Ok(lines.into());
        }
    }
}

/// Changes when the settings file does; they are not part of the store.
fn settings_stamp(client: &Client) -> Option<(SystemTime, u64)> {
    let facts = std::fs::metadata(client.home().settings_file()).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

/// Tells the screen how the daemon is, also when that is what this task said before: the screen may have been told
/// otherwise since, by the one that started it.
async fn watch_daemon(client: Client, messages: mpsc::Sender<Msg>) {
    loop {
        let of = client.clone();
        let msg = match in_background(move || of.daemon_status()).await {
            Ok(status) => Msg::Daemon(status),
            Err(problem) => Msg::DaemonLost(problem),
        };
        if messages.send(msg).await.is_err() {
            return;
        }
        tokio::time::sleep(DAEMON).await;
    }
}

/// Signals that end the interface as quitting does, with the terminal given back.
struct Signals {
    term: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let open = |kind| signal(kind).map_err(|e| io_error("listening for signals", e));
        Ok(Self {
            term: open(SignalKind::terminate())?,
            hup: open(SignalKind::hangup())?,
            int: open(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.hup.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::LogLevel;

    #[test]
    fn a_long_log_is_read_to_its_end() {
        let line = |seq: i64| LogLine {
            seq,
            at: DateTime::UNIX_EPOCH,
            attempt: 1,
            level: LogLevel::Info,
            message: String::new(),
        };
        for (length, after, first) in [
            (0, 0, None),
            (7, 0, Some(1)),
            (7, 3, Some(4)),
            (1_000, 0, Some(1)),
            (1_500, 0, Some(1)),
            (9_000, 10, Some(7_001)),
        ] {
            let page = |after: i64| Ok((after + 1..=length).take(LOG_PAGE).map(line).collect());
            let lines = last_lines(after, page).unwrap();
            assert_eq!(lines.first().map(|l| l.seq), first, "{length} after {after}");
            assert_eq!(lines.last().map(|l| l.seq), first.map(|_| length), "{length} after {after}");
        }
        let broken = |_| Err(crate::error::Error::new(crate::error::ErrorKind::Internal, "no"));
        assert!(last_lines(0, broken).is_err());
    }

    #[test]
    fn the_locale_decides_about_signs() {
        let is = |pairs: &[(&str, &str)]| {
            locale_is_utf8(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert!(is(&[("LANG", "de_DE.UTF-8")]));
        assert!(is(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!is(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!is(&[]));
    }
}
