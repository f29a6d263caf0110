//! The loop around the pure update: takes events in, draws when something changed, has effects performed.
//!
//! Nothing is sent to the terminal while nothing changes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use crossterm::event::Event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::effects::{self, Planning, in_background};
use super::input::{Input, Reader};
use super::model::{Model, SHOWN_SECONDS};
use super::msg::{Effect, Msg};
use super::terminal::{self, Screen};
use super::watches::Watches;
use super::{Options, customs, environment, store_reader, view};
use crate::client::Client;
use crate::domain::clock;
use crate::error::{Result, io as io_error};

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
/// Messages that wait for the screen; a worker that finds no room waits.
const QUEUE: usize = 256;

pub async fn drive(client: Client, options: Options) -> Result<()> {
    terminal::require()?;
    let mut interrupt = Signals::new()?;
    let mut window = signal(SignalKind::window_change()).map_err(|e| io_error("listening for signals", e))?;
    let mut screen = Screen::enter()?;
    let size = screen.size()?;
    let look = environment::look(&client, &options);
    let mut model = Model::new(look, options.theme, size, clock::now(), environment::zone());
    model.about = environment::about(&client);
    let ends_daemon = options.ends_daemon;
    let home = client.home().clone();
    let customs = in_background(move || Ok(customs::read_customs(&home))).await;
    model.take_customs(customs.map_err(|e| e.message));
    model.tip = options.tip;
    model.home = options.home;
    draw(&mut screen, &mut model).map_err(|e| io_error("drawing", e))?;

    let (messages, mut inbox) = mpsc::channel(QUEUE);
    let (want, wanted) = watch::channel(store_reader::Wanted::default());
    let reader = tokio::spawn(store_reader::poll_store(client.clone(), messages.clone(), wanted));
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
    let pace = if environment::is_remote() { SLOW_FRAME } else { Duration::ZERO };
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
        store_reader::send_wanted(&model, &want);
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
