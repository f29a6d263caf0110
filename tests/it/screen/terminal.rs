//! The interface in a real pseudo-terminal of 80x24, with the real program: by keys only.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mongodb::bson::{Binary, Document, doc, spec::BinarySubtype};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::fs::OFlags;

use crate::support;
use crate::support::command::Home;
use crate::support::stopwatch::Stopwatch;

/// How long anything may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program in a terminal of its own.
pub(super) struct Tty {
    pub(super) child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Mutex<Shown>>,
    /// Ends when nobody has the terminal any more, and all that was sent to it is taken.
    taking: std::thread::JoinHandle<()>,
    master: Box<dyn MasterPty + Send>,
}

/// What the terminal shows, and got.
struct Shown {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    /// What it showed since the last key, frame by frame: a message goes after some seconds, in which nobody may have
    /// looked.
    frames: Vec<String>,
}

impl Shown {
    fn take(&mut self, mut bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while !bytes.is_empty() {
            // Each frame ends with the cursor: several may come at once.
            let end =
                bytes.windows(CURSOR.len()).position(|part| part == CURSOR).map_or(bytes.len(), |at| at + CURSOR.len());
            self.parser.process(&bytes[..end]);
            bytes = &bytes[end..];
            let frame = self.parser.screen().contents();
            if self.frames.last() != Some(&frame) {
                self.frames.push(frame);
            }
        }
    }
}

/// How the sequences begin that show and hide the cursor.
const CURSOR: &[u8] = b"\x1b[?25";

impl Tty {
    pub(super) fn start(home: &Path, env: &[(&str, &str)], args: &[&str]) -> Self {
        let home = ["--home", home.to_str().unwrap()];
        Self::program((80, 24), env, &[&home[..], args].concat())
    }

    /// The program with these arguments alone, in a terminal that says that it has so many columns and rows.
    pub(super) fn program(size: (u16, u16), env: &[(&str, &str)], args: &[&str]) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_mongokeep"));
        command.args(args);
        for (name, value) in [("TERM", "xterm-256color"), ("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC")] {
            command.env(name, value);
        }
        for name in ["MONGOKEEP_HOME", "NO_COLOR", "NO_MOTION", "TMUX"] {
            command.env_remove(name);
        }
        for (name, value) in env {
            command.env(name, value);
        }
        Self::spawn(command, size)
    }

    /// A shell with job control.
    fn shell() -> Self {
        let mut command = CommandBuilder::new("sh");
        command.arg("-i");
        for (name, value) in [("TERM", "xterm-256color"), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC"), ("PS1", "prompt> ")] {
            command.env(name, value);
        }
        command.env_remove("ENV");
        Self::spawn(command, (80, 24))
    }

    fn spawn(command: CommandBuilder, (cols, rows): (u16, u16)) -> Self {
        let pty = native_pty_system().openpty(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
        let child = pty.slave.spawn_command(command).unwrap();
        drop(pty.slave);
        // A terminal that does not know its size yet is shown in the usual one.
        let (rows, cols) = if rows == 0 { (24, 80) } else { (rows, cols) };
        let parser = vt100::Parser::new(rows, cols, 0);
        let screen = Arc::new(Mutex::new(Shown { parser, bytes: Vec::new(), frames: Vec::new() }));
        let mut output = pty.master.try_clone_reader().unwrap();
        let keys = pty.master.take_writer().unwrap();
        let shown = screen.clone();
        let taking = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().take(&buffer[..n]);
            }
        });
        Self { child, keys, screen, taking, master: pty.master }
    }

    fn resize(&self, rows: u16, cols: u16) {
        self.screen.lock().unwrap().parser.screen_mut().set_size(rows, cols);
        self.master.resize(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
    }

    pub(super) fn text(&self) -> String {
        self.screen.lock().unwrap().parser.screen().contents()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.screen.lock().unwrap().bytes.clone()
    }

    /// Whether the program has read everything that was typed.
    fn has_read(&self) -> bool {
        let Some(name) = self.master.tty_name() else { return true };
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK).bits() as i32;
        let Ok(terminal) = OpenOptions::new().read(true).custom_flags(flags).open(name) else { return true };
        rustix::io::ioctl_fionread(&terminal).is_ok_and(|unread| unread == 0)
    }

    /// Waits until each thread of the program has been seen waiting for something: the one that read the keys has noted
    /// by then when that was. Where the system does not tell, that is not waited for.
    fn has_noted(&self, began: Instant) {
        let Some(pid) = self.master.process_group_leader() else { return };
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
        for thread in threads.flatten() {
            let works = || {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['R', 'D']))
            };
            while works() && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Presses keys: together, and apart from those before. A busy machine may leave the program no time to read those
    /// meanwhile, and what it reads together was not typed by a person.
    pub(super) fn send(&mut self, keys: &str) {
        let began = Instant::now();
        while !self.has_read() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.has_noted(began);
        std::thread::sleep(Duration::from_millis(60));
        self.screen.lock().unwrap().frames.clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the screen holds `text`.
    pub(super) fn wait(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let shown = self.text();
            if shown.contains(text) {
                return shown;
            }
            assert!(began.elapsed() < PATIENCE, "no {text:?} on\n{shown}");
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Waits until the screen held `text` since the last key: it may have gone again by itself.
    fn wait_for_news(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(frame) = self.screen.lock().unwrap().frames.iter().find(|frame| frame.contains(text)) {
                return frame.clone();
            }
            assert!(began.elapsed() < PATIENCE, "no {text:?} since the last key, on\n{}", self.text());
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Waits until the screen holds `text` no more.
    fn wait_without(&self, text: &str) {
        let began = Instant::now();
        while self.text().contains(text) {
            assert!(began.elapsed() < PATIENCE, "still {text:?} on\n{}", self.text());
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Waits until a shell asks for the next command, below whatever it has shown before.
    fn wait_for_prompt(&self) -> String {
        let began = Instant::now();
        loop {
            let shown = self.text();
            if shown.trim_end().ends_with("prompt>") {
                return shown;
            }
            assert!(began.elapsed() < PATIENCE, "no prompt on\n{shown}");
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Waits until the program has ended, and returns everything it sent.
    pub(super) fn ended(&mut self) -> Vec<u8> {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end\n{}", self.text());
            std::thread::sleep(Duration::from_millis(15));
        }
        // What it sent last may still be on its way through the terminal.
        while !self.taking.is_finished() && !is_sane(&self.bytes()) && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(15));
        }
        self.bytes()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ENTER: &str = "\r";
const SUBMIT: &str = "\u{13}";

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|w| w == part.as_bytes())
}

/// The alternate screen was left, the cursor shown, mouse and paste reports turned off.
fn is_sane(bytes: &[u8]) -> bool {
    ["\u{1b}[?1049l", "\u{1b}[?25h", "\u{1b}[?2004l", "\u{1b}[?1006l"].iter().all(|part| contains(bytes, part))
}

/// Bytes that do not compress, so that a limit on stored bytes is a limit on time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect()
}

async fn documents(client: &mongodb::Client) -> Vec<Document> {
    use futures_util::TryStreamExt;
    let orders = client.database("shop").collection::<Document>("orders");
    orders.find(doc! {}).sort(doc! {"_id": 1}).await.unwrap().try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_start_to_a_restore_by_keys_only() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    for i in 0..64i32 {
        let bytes = noise(i as u64 + 1, 64 * 1024);
        let blob = Binary { subtype: BinarySubtype::Generic, bytes };
        orders.insert_one(doc! {"_id": i, "name": format!("order {i}"), "blob": blob}).await.unwrap();
    }
    let before = documents(&client).await;

    let home = Home::new();
    // Slow enough to be looked at, until it was.
    home.good("settings set backup.bandwidth_limit 20000");
    let folder = home.dir().join("storage");
    let uri = set.uri();
    let home = Arc::new(home);
    let of_tty = Arc::clone(&home);
    let mut tty = tokio::task::spawn_blocking(move || {
        let mut tty = Tty::start(of_tty.path(), &[], &[]);
        tty.wait("Three steps to the first backup");
        tty.send(ENTER);
        // The form itself: the page behind it has the same words.
        tty.wait("┌ Add a service");
        tty.send("orders\t");
        tty.send(&uri);
        tty.send(SUBMIT);
        tty.wait("✓ 1  Add a service");
        tty.send(ENTER);
        tty.wait("┌ Add a storage");
        tty.send("local\t\t");
        tty.send(folder.to_str().unwrap());
        tty.send(SUBMIT);
        tty.wait("✓ 2  Add a storage");
        tty.send(ENTER);
        tty.wait("┌ Create a backup");
        tty.wait("orders-20");
        tty.send(SUBMIT);
        tty.wait("All backups (1)");
        // The spinner in the row is seen in several of its pictures, beside the word.
        let began = Instant::now();
        let mut pictures = BTreeSet::new();
        while pictures.len() < 3 {
            let text = tty.text();
            assert!(began.elapsed() < PATIENCE && !text.contains("✓ done"), "{pictures:?}\n{text}");
            let row = text.lines().find(|l| l.contains("▸ orders-20") && l.contains("running"));
            pictures.extend(row.and_then(|l| l.chars().find(|c| ('\u{2801}'..='\u{28ff}').contains(c))));
            std::thread::sleep(Duration::from_millis(15));
        }
        of_tty.good("settings set backup.bandwidth_limit 0");
        tty.wait("✓ done");
        tty
    })
    .await
    .unwrap();

    orders.delete_many(doc! {"_id": {"$gte": 10}}).await.unwrap();
    orders.update_one(doc! {"_id": 3}, doc! {"$set": {"name": "changed since"}}).await.unwrap();
    assert_ne!(documents(&client).await, before);

    tokio::task::spawn_blocking(move || {
        tty.send("r");
        tty.wait("Show the plan");
        tty.send(SUBMIT);
        tty.wait("Type orders to confirm");
        tty.wait("shop.orders");
        tty.send(ENTER);
        tty.wait_for_news("type the name first");
        tty.send("orders");
        tty.wait("starts the restore");
        tty.send(ENTER);
        tty.wait("Restores (1)");
        tty.send("l");
        // The heading of jobs: what is done from here on is the restore, not the backup.
        tty.wait("KIND");
        tty.wait("✓ done");
        tty.send("q");
        assert!(is_sane(&tty.ended()));
    })
    .await
    .unwrap();
    assert!(documents(&client).await == before, "the data is not what it was");
}

#[test]
fn e17_the_first_frame_waits_for_no_server() {
    // Accepts connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::new();
    home.good(&format!("service add mute --uri mongodb://{}/?replicaSet=rs0", silent.local_addr().unwrap()));
    let (began, stopwatch) = (Instant::now(), Stopwatch::start());
    let mut tty = Tty::start(home.path(), &[], &[]);
    while !tty.text().contains("mongokeep") {
        std::thread::sleep(Duration::from_millis(2));
        assert!(began.elapsed() < PATIENCE);
    }
    let took = stopwatch.elapsed();
    println!("first frame after {took:?}");
    // Debug code on a machine that runs other tests too; a server would be given up after 10 s at the earliest.
    assert!(took < Duration::from_millis(if cfg!(debug_assertions) { 9_000 } else { 100 }), "{took:?}");
    tty.send("4");
    // Until it is given up, which may come soon.
    tty.wait_for_news("asking");
    tty.send("q");
    tty.ended();
}

#[test]
fn e16_idle_sends_nothing() {
    let home = Home::new();
    home.good("settings set ui.timezone UTC");
    let mut tty = Tty::start(home.path(), &[], &[]);
    tty.wait("daemon ok");
    // Three quiet seconds within one minute of the clock; one that the minute cuts in two does not count.
    let quiet = || {
        let minute = chrono::Utc::now().timestamp() / 60;
        let before = tty.bytes().len();
        std::thread::sleep(Duration::from_secs(3));
        (chrono::Utc::now().timestamp() / 60 == minute).then(|| tty.bytes().len() - before)
    };
    let mut sent = Vec::new();
    while !sent.contains(&0) && sent.len() < 10 {
        sent.extend(quiet());
    }
    assert!(sent.contains(&0), "{sent:?}");
    tty.send("q");
    tty.ended();
}

#[test]
fn e18_signals_and_a_lost_terminal_leave_it_sane() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        let home = Home::new();
        let mut tty = Tty::start(home.path(), &[], &[]);
        tty.wait("Three steps");
        let pid = tty.child.process_id().and_then(|p| rustix::process::Pid::from_raw(p as i32)).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        assert!(is_sane(&tty.ended()), "{signal:?}");
    }
}

#[test]
fn e18_the_shell_gets_the_terminal_and_gives_it_back() {
    let home = Home::new();
    let mut tty = Tty::shell();
    tty.wait_for_prompt();
    tty.send(&format!("{} --home '{}'\r", env!("CARGO_BIN_EXE_mongokeep"), home.path().display()));
    tty.wait("Three steps");
    // The last line is drawn last.
    let before = tty.wait("daemon ok");
    for _ in 0..2 {
        tty.send("\u{1a}");
        let shown = tty.wait_for_prompt();
        assert!(!shown.contains("Three steps"), "{shown}");
        tty.send("fg\r");
        tty.wait("Three steps");
        let began = Instant::now();
        // The minute of the clock may have changed.
        while tty.text().lines().take(20).ne(before.lines().take(20)) {
            assert!(began.elapsed() < PATIENCE, "not whole:\n{}", tty.text());
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    tty.send("q");
    tty.wait_for_prompt();
    tty.send("exit\r");
    tty.ended();
}

#[test]
fn e18_what_a_terminal_that_grew_meanwhile_has_room_for_is_read() {
    let home = Home::ready();
    home.good("settings set ui.timezone UTC");
    home.good("schedule add nightly --service a --storage t --cron 0~*~*~*~*");
    let mut tty = Tty::shell();
    tty.wait_for_prompt();
    tty.send(&format!("{} --home '{}'\r", env!("CARGO_BIN_EXE_mongokeep"), home.path().display()));
    tty.wait("No backup yet");
    tty.send("2");
    tty.wait("Schedules (1)");
    tty.send("\u{1a}");
    tty.wait_for_prompt();
    tty.resize(50, 160);
    tty.send("fg\r");
    // The pane of the coming runs, with what it asked for.
    // 23 or 24, as the hour is.
    tty.wait("nightly: 2");
    tty.send("q");
    tty.wait_for_prompt();
    tty.send("exit\r");
    tty.ended();
}

#[test]
fn e12_a_daemon_that_is_killed_is_seen_by_what_it_recorded() {
    let home = Home::ready();
    home.good("schedule add live --service a --storage t --cron @yearly --type pitr");
    let daemon = || home.json("daemon status")["pid"].as_i64();
    // One that may not write starts no other.
    let mut tty = Tty::start(home.path(), &[], &["--read-only"]);
    tty.wait("daemon ok");
    tty.wait("not recorded");
    assert!(!tty.text().contains("no daemon"), "{}", tty.text());
    let kill = |pid: i64| signal(pid, rustix::process::Signal::KILL);
    kill(daemon().unwrap());
    tty.wait("no daemon runs, a is not recorded");
    tty.wait("not recorded: no daemon runs");
    tty.send("q");
    tty.ended();
    // One that may, does.
    let mut tty = Tty::start(home.path(), &[], &[]);
    tty.wait("daemon ok");
    kill(daemon().unwrap());
    // Another one may be there at once.
    tty.wait_for_news("no daemon runs, a is not recorded");
    tty.wait_without("no daemon runs");
    tty.wait("daemon ok");
    assert!(daemon().is_some());
    tty.send("q");
    tty.ended();
}

#[test]
fn e14_no_color_and_a_plain_locale_are_kept_on_the_wire() {
    let home = Home::new();
    let plain = [("LC_ALL", "C"), ("NO_COLOR", "1")];
    let mut tty = Tty::start(home.path(), &plain, &[]);
    tty.wait("Three steps");
    tty.send("4");
    tty.wait("No service yet");
    tty.send("l");
    tty.wait("Backup management");
    tty.send("q");
    let bytes = tty.ended();
    assert!(bytes.is_ascii());
    // Attributes are there, colours are not: 30-37, 38;5 and their like never appear.
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("\u{1b}[7m") && !text.contains("38;5") && !text.contains("48;5"));
}

/// Stops or wakes a process.
fn signal(pid: i64, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn e12_a_daemon_that_hangs_is_said_to_be_silent_until_it_goes_on() {
    let home = Home::ready();
    let mut tty = Tty::start(home.path(), &[], &[]);
    tty.wait("daemon ok");
    let pid = home.json("daemon status")["pid"].as_i64().unwrap();
    signal(pid, rustix::process::Signal::STOP);
    tty.wait("has not answered for");
    tty.wait("daemon silent");
    assert!(home.json("daemon status")["silent_since"].is_string());
    signal(pid, rustix::process::Signal::CONT);
    tty.wait("daemon ok");
    tty.wait_without("not answered");
    tty.send("q");
    tty.ended();
}

#[tokio::test(flavor = "multi_thread")]
async fn e12_a_server_that_is_killed_is_missed_within_seconds() {
    let mongod = support::mongod().await;
    let mut set = mongokeep::sandbox::ReplicaSet::start(&mongod, Default::default()).await.unwrap();
    let home = Home::new();
    home.good(&format!("service add orders --uri {}", set.uri()));
    let path = home.path().to_owned();
    let tty = tokio::task::spawn_blocking(move || {
        let mut tty = Tty::start(&path, &[], &["--read-only"]);
        tty.wait("1 reachable");
        tty.send("4");
        tty.wait("✓ answers");
        tty
    });
    let tty = tty.await.unwrap();
    set.kill_member(0).await.unwrap();
    let tty = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        tty.wait("orders is unreachable since");
        tty.wait("✗ unreachable");
        // Debug code on a machine that runs other tests too; a probe comes once a minute.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        tty
    });
    let tty = tty.await.unwrap();
    set.start_member(0).await.unwrap();
    let gone = tokio::task::spawn_blocking(move || {
        let began = Stopwatch::start();
        tty.wait("✓ answers");
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
        tty.wait_without("is unreachable since");
    });
    gone.await.unwrap();
}

#[test]
fn what_a_terminal_answers_unasked_is_no_key() {
    let home = Home::ready();
    let mut tty = Tty::start(home.path(), &[], &[]);
    tty.wait("No backup yet");
    // In a list its letters would leave, open help and filter.
    let answer = "\u{1b}]11;rgb:1e1e/1e1e/1e1e\u{1b}\\";
    tty.send(answer);
    tty.send("\u{1b}[?62;22c\u{1b}[>0;276;0c");
    tty.send("\u{1b}P>|q4?/(370)\u{1b}\\");
    tty.send("4");
    tty.wait("Services (1)");
    tty.send("n");
    tty.wait("┌ Add a service");
    tty.send("one");
    for piece in ["\u{1b}]11;", "rgb:1e1e/", "1e1e/1e1e", "\u{1b}\\"] {
        tty.send(piece);
    }
    tty.send(answer);
    tty.send("two");
    let shown = tty.wait("onetwo");
    assert!(!shown.contains("1e1e") && !shown.contains("rgb"), "{shown}");
    tty.send("\u{1b}");
    tty.wait("Discard changes?");
    tty.send("\u{1b}[C");
    tty.send(ENTER);
    tty.send("q");
    tty.ended();
}

#[test]
fn e18_a_terminal_that_is_gone_ends_it_although_hangups_are_ignored() {
    let home = Home::ready();
    let mut command = CommandBuilder::new("sh");
    command.arg("-c");
    command.arg(format!("trap '' HUP; exec {} --home '{}'", env!("CARGO_BIN_EXE_mongokeep"), home.path().display()));
    for (name, value) in [("TERM", "xterm-256color"), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC")] {
        command.env(name, value);
    }
    // Its reader in the test would keep the terminal open.
    let pty = native_pty_system().openpty(PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 }).unwrap();
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let mut output = pty.master.try_clone_reader().unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 8192];
    while !contains(&seen, "daemon ok") {
        let n = output.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..n]);
    }
    drop(output);
    drop(pty.master);
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it goes on without a terminal");
        }
        std::thread::sleep(Duration::from_millis(15));
    };
    assert!(status.success(), "in order: {status:?}");
}

#[test]
fn a_terminal_that_cannot_place_its_cursor_is_refused() {
    let home = Home::ready();
    let mut tty = Tty::start(home.path(), &[("TERM", "dumb")], &[]);
    let sent = String::from_utf8_lossy(&tty.ended()).into_owned();
    assert!(sent.contains("TERM is dumb") && sent.contains("mongokeep --help"), "{sent}");
    assert!(!sent.contains('\u{1b}'), "{sent}");
}

#[test]
fn the_linux_console_gets_no_braille() {
    let home = Home::ready();
    let mut tty = Tty::start(home.path(), &[("TERM", "linux")], &[]);
    tty.wait("No backup yet");
    tty.send("3");
    tty.wait("Storage");
    // Something that turns: the test of a storage.
    tty.send("t");
    tty.wait("The storage can be used");
    tty.send("\u{1b}");
    tty.wait("Storage locations");
    tty.send("q");
    let sent = String::from_utf8_lossy(&tty.ended()).into_owned();
    assert!(!sent.chars().any(|c| ('\u{2800}'..='\u{28ff}').contains(&c)), "{sent}");
}

#[test]
fn a_terminal_without_a_size_is_waited_for() {
    let home = Home::ready();
    let mut tty = Tty::program((0, 0), &[], &["--home", home.path().to_str().unwrap()]);
    let began = Instant::now();
    while !contains(&tty.bytes(), "\u{1b}[?1049h") {
        assert!(began.elapsed() < PATIENCE, "the screen was not entered");
        std::thread::sleep(Duration::from_millis(15));
    }
    tty.resize(24, 80);
    tty.wait("No backup yet");
    tty.send("q");
    tty.ended();
}

#[test]
fn e19_copying_goes_through_osc_52() {
    let home = Home::ready();
    let mut tty = Tty::start(home.path(), &[], &[]);
    tty.wait("No backup yet");
    tty.send("3");
    tty.wait("filesystem");
    tty.send("y");
    tty.wait_for_news("sent to the terminal");
    let place = home.dir().join("storage");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, place.to_str().unwrap());
    tty.send("q");
    assert!(contains(&tty.ended(), &format!("\u{1b}]52;c;{encoded}")));
}

#[test]
fn schedules_by_keys_only() {
    // Half a day away: the timeline begins with the present hour and shows no run of it that is over.
    let hour = (chrono::Timelike::hour(&chrono::Utc::now()) + 12) % 24;
    let (cron, words) = (format!("30 {hour} * * *"), format!("every day at {hour:02}:30"));
    let home = Home::ready();
    home.good("settings set ui.timezone UTC");
    let schedule = |name: &str| home.json(&format!("schedule show {name}"));
    let mut tty = Tty::start(home.path(), &[], &[]);
    tty.wait("No backup yet");
    tty.send("2");
    tty.wait("No schedule yet");
    tty.send(ENTER);
    tty.wait("┌ Create a schedule");
    // From the name over service, model, storage, folder, type and frequency to the crontab line.
    tty.send("\u{15}nightly");
    tty.send(&format!("\t\t\t\t\t\t\t\u{15}{cron}"));
    tty.wait(&words);
    tty.wait("overlaps nothing");
    tty.send(SUBMIT);
    tty.wait_for_news("schedule nightly is created: next");
    tty.wait("Schedules (1)");
    let made = schedule("nightly");
    assert_eq!((&made["cron"], &made["enabled"]), (&cron.as_str().into(), &true.into()));
    assert_eq!((&made["service"], &made["storage"]), (&"a".into(), &"t".into()));

    tty.send("e");
    tty.wait("Edit the schedule nightly");
    // From the service down to the retention.
    tty.send("\t\t\t\t\t\t\t\t\t\u{15}5");
    tty.wait("Retention      5");
    tty.send(SUBMIT);
    tty.wait_for_news("schedule nightly is saved");
    assert_eq!(schedule("nightly")["retention"]["count"], 5);

    tty.send("C");
    tty.wait_for_news("is copied as nightly-copy");
    let copy = schedule("nightly-copy");
    assert_eq!((&copy["enabled"], &copy["retention"]["count"]), (&false.into(), &5.into()));
    // The copy is selected.
    tty.send(" ");
    tty.wait_for_news("schedule nightly-copy is on");
    assert_eq!(schedule("nightly-copy")["enabled"], true);
    tty.send("t");
    tty.wait("overlaps nightly");
    tty.send("t");
    tty.send(" ");
    tty.wait_for_news("schedule nightly-copy is off");
    assert_eq!(schedule("nightly-copy")["enabled"], false);

    tty.send("d");
    tty.wait("Delete the schedule nightly-copy?");
    tty.send("\u{1b}[C");
    tty.send(ENTER);
    tty.wait_for_news("schedule nightly-copy is deleted");
    tty.wait("Schedules (1)");
    assert_eq!(home.json("schedule list").as_array().unwrap().len(), 1);
    tty.send("q");
    assert!(is_sane(&tty.ended()));
}

/// The second of the server's clock, as its oplog has it.
async fn server_second(client: &mongodb::Client) -> i64 {
    let hello = client.database("admin").run_command(doc! {"hello": 1}).await.unwrap();
    let last = hello.get_document("lastWrite").unwrap().get_document("opTime").unwrap();
    i64::from(last.get_timestamp("ts").unwrap().time)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accident_is_undone_to_the_second_before_it_by_keys_only() {
    let set = support::replica_set().await;
    let client = set.client().await.unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    let insert = async |ids: std::ops::Range<i32>| {
        orders.insert_many(ids.map(|i| doc! {"_id": i, "name": format!("order {i}")})).await.unwrap();
    };
    insert(0..50).await;
    let home = Home::new();
    std::fs::create_dir(home.dir().join("storage")).unwrap();
    home.good("settings set pitr.slice_seconds 5");
    home.good("settings set ui.timezone UTC");
    home.good(&format!("service add orders --uri {}", set.uri()));
    home.good(&format!("storage add local --type filesystem --path {}", home.dir().join("storage").display()));
    let path = home.path().to_owned();
    let mut tty = tokio::task::spawn_blocking(move || {
        let mut tty = Tty::start(&path, &[], &[]);
        tty.wait("No backup yet");
        tty.send("2");
        tty.wait("No schedule yet");
        tty.send(ENTER);
        tty.wait("┌ Create a schedule");
        // Over name, service, model, storage and folder to the type.
        tty.send("\t\t\t\t\t\u{1b}[C");
        tty.wait("each change");
        tty.send(SUBMIT);
        tty.wait_for_news("schedule orders-daily is created");
        tty.send("x");
        tty.wait("✓ done");
        tty.send("4");
        // The next slice makes a base of it.
        tty.wait("lag < 1 min");
        tty
    })
    .await
    .unwrap();

    insert(50..80).await;
    let before = documents(&client).await;
    let good = server_second(&client).await;
    // The accident lies in a later second.
    while server_second(&client).await <= good {
        client.database("elsewhere").collection("ticks").insert_one(doc! {}).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    orders.delete_many(doc! {"_id": {"$gte": 7}}).await.unwrap();
    orders.update_one(doc! {"_id": 3}, doc! {"$set": {"name": "wrong"}}).await.unwrap();

    let moment = chrono::DateTime::from_timestamp(good, 0).unwrap();
    tokio::task::spawn_blocking(move || {
        let shown = moment.format("%d %b %Y %H:%M:%S UTC").to_string();
        let typed = moment.format("%Y-%m-%d %H:%M:%S").to_string();
        tty.send("r");
        tty.wait("Restore orders to a point in time");
        // From the timeline to the time; the cursor goes there once that second is stored, and says so until then.
        tty.send("\t\u{15}");
        tty.send(&typed);
        tty.wait(&format!("Time*                 {typed}"));
        let began = Instant::now();
        let is_there = |text: &str| text.contains(&format!("▲ {shown}")) || text.contains(&format!("{shown} ▲"));
        while !is_there(&tty.text()) || tty.text().contains("not stored yet") {
            assert!(began.elapsed() < PATIENCE, "it is never stored:\n{}", tty.text());
            std::thread::sleep(Duration::from_millis(15));
        }
        // A key at a time leads to the same moment.
        tty.send("\u{1b}[Z");
        tty.wait("zoom");
        tty.send("\u{1b}[D\u{1b}[C");
        tty.wait("base orders-daily");
        tty.wait(&shown);
        tty.send(SUBMIT);
        tty.wait("Type orders to confirm");
        let plan = tty.wait("shop.orders");
        assert!(plan.contains(&format!("As of         {shown}")) && plan.contains("slice"), "{plan}");
        tty.send("orders");
        tty.wait("starts the restore");
        tty.send(ENTER);
        tty.wait_for_news("is queued as job");
        tty.send("1l");
        tty.wait("Restores (1)");
        tty.wait("✓ done");
        tty.send("q");
        assert!(is_sane(&tty.ended()));
    })
    .await
    .unwrap();
    assert_eq!(documents(&client).await, before);
}
