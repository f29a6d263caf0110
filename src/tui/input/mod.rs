//! What comes in from the terminal: read by a thread of its own, decoded, and told apart from what no person typed.
//!
//! The reader of crossterm takes what a terminal answers unasked for keys, and reads for ever on one that is gone; it also
//! does not say what came together. Its types are used all the same.

mod decode;

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyEvent};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc::Sender;

use crate::error::{Result, io as io_error};
use decode::Decoder;

/// Keys that follow each other faster than this were not pressed one after the other: a paste, or a script. A key that is
/// held comes every 30 ms; the fastest typists need 60 ms for one.
const RUSH: Duration = Duration::from_millis(25);

/// Something that came in.
#[derive(Debug)]
pub enum Input {
    /// A key, and whether it came faster than a person types.
    Key {
        key: KeyEvent,
        rushed: bool,
    },
    Other(Event),
    /// The terminal is gone: nobody can see or type anything any more.
    Gone,
}

/// Reads the terminal until it is dropped.
pub struct Reader {
    /// The thread ends when this end of a pipe is closed.
    _wake: OwnedFd,
}

impl Reader {
    /// Errors: no thread or pipe can be had.
    pub fn start(inputs: Sender<Input>) -> Result<Self> {
        let (ended, wake) = rustix::pipe::pipe().map_err(|e| io_error("a pipe for the keyboard", e.into()))?;
        std::thread::Builder::new()
            .name("keyboard".into())
            .spawn(move || read(&ended, &inputs))
            .map_err(|e| io_error("the thread of the keyboard", e))?;
        Ok(Self { _wake: wake })
    }
}

fn read(ended: &OwnedFd, inputs: &Sender<Input>) {
    let stdin = io::stdin();
    let mut decoder = Decoder::default();
    let mut pace = Pace::default();
    let mut buffer = [0; 4096];
    loop {
        let limit = decoder.patience().and_then(|d| Timespec::try_from(d).ok());
        let mut fds = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(ended, PollFlags::empty())];
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) => {
                let events = decoder.expire();
                if !pace.pass_on(events, inputs) {
                    return;
                }
                continue;
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
        }
        let (keys, end) = (fds[0].revents(), fds[1].revents());
        if !end.is_empty() {
            return;
        }
        if keys.is_empty() {
            continue;
        }
        match rustix::io::read(&stdin, &mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                let events = decoder.feed(&buffer[..n]);
                if !pace.pass_on(events, inputs) {
                    return;
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => break,
        }
    }
    let _ = inputs.blocking_send(Input::Gone);
}

/// Tells what comes faster than a person types.
#[derive(Default)]
struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// Whether what was read together now is a rush: several at once, or right after something else.
    fn is_rush(&mut self, together: usize, now: Instant) -> bool {
        let soon = self.last.is_some_and(|last| now.saturating_duration_since(last) < RUSH);
        self.last = Some(now);
        together > 1 || soon
    }

    /// Whether anybody still listens.
    fn pass_on(&mut self, events: Vec<Event>, inputs: &Sender<Input>) -> bool {
        if events.is_empty() {
            return true;
        }
        let rushed = self.is_rush(events.len(), Instant::now());
        events.into_iter().all(|event| {
            let input = match event {
                Event::Key(key) => Input::Key { key, rushed },
                other => Input::Other(other),
            };
            inputs.blocking_send(input).is_ok()
        })
    }
}

/// Whether the terminal that messages go to has hung up: a write to it fails.
pub fn stderr_is_gone() -> bool {
    let stderr = io::stderr();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
    let hung = poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR);
    hung || (!stderr.is_terminal() && rustix::io::fcntl_getfd(&stderr).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_together_or_at_once_is_a_rush() {
        let mut pace = Pace::default();
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        assert!(!pace.is_rush(1, at(0)));
        assert!(!pace.is_rush(1, at(30)), "a key that is held");
        assert!(pace.is_rush(1, at(40)));
        assert!(pace.is_rush(2, at(500)));
        assert!(!pace.is_rush(1, at(1_000)));
    }
}
