//! The terminal itself: entered, left, left in a hurry.

use std::io::{self, Stdout, Write};
use std::mem::ManuallyDrop;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::clipboard::CopyToClipboard;
use crossterm::cursor::Show;
use crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{Command, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use crate::error::{Error, ErrorKind, Result, io as io_error};

static ENTERED: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// The terminal in raw mode on the alternate screen. Dropping it gives the terminal back.
pub struct Screen {
    /// Never dropped: it would report on a terminal that is gone that it is gone, which is a panic. What it would do is
    /// done by [`give_back`].
    pub terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    mouse: bool,
}

impl Screen {
    /// Takes the terminal. From here on a panic gives it back before it is reported.
    pub fn enter() -> Result<Self> {
        HOOK.call_once(|| {
            let report = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                give_back();
                // A report that finds no terminal is a panic of its own, and the end without any order.
                if !super::input::stderr_is_gone() {
                    report(info);
                }
            }));
        });
        take().map_err(|e| {
            io_error("this terminal cannot be used", e).hint("every command of mongokeep --help works without one")
        })?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).map_err(|e| io_error("the terminal", e))?;
        Ok(Self { terminal: ManuallyDrop::new(terminal), mouse: false })
    }

    /// Columns and rows.
    pub fn size(&self) -> Result<(u16, u16)> {
        let size = self.terminal.size().map_err(|e| io_error("the size of the terminal", e))?;
        Ok((size.width, size.height))
    }

    /// Turns reports of clicks on or off.
    pub fn set_mouse(&mut self, on: bool) -> Result<()> {
        if on == self.mouse {
            return Ok(());
        }
        self.mouse = on;
        let out = self.terminal.backend_mut();
        if on { execute!(out, EnableMouseCapture) } else { execute!(out, DisableMouseCapture) }
            .map_err(|e| io_error("the terminal", e))
    }

    /// Hands the terminal to the shell until `fg`.
    pub fn suspend(&mut self) -> Result<()> {
        let mouse = self.mouse;
        self.set_mouse(false)?;
        give_back();
        // The whole process group, as the terminal itself would stop it: a shell waits for all of it.
        rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)
            .map_err(|e| io_error("stopping for the shell", e.into()))?;
        take().map_err(|e| io_error("the terminal", e))?;
        self.set_mouse(mouse)?;
        self.redraw()
    }

    /// Sends every cell again with the next frame.
    pub fn redraw(&mut self) -> Result<()> {
        // Not `clear`: it asks the terminal where the cursor is, and the reader of the keys takes the answer.
        let size = self.terminal.size().map_err(|e| io_error("the size of the terminal", e))?;
        self.terminal.resize(size.into()).map_err(|e| io_error("the terminal", e))
    }

    /// Puts `text` into the clipboard of the terminal, also through tmux.
    ///
    /// Errors: why it cannot be done, as far as that can be known: a terminal does not answer to this.
    pub fn copy(&mut self, text: &str) -> std::result::Result<(), String> {
        match std::env::var("TERM").as_deref() {
            Ok("linux") => return Err("the Linux console has no clipboard".into()),
            Ok("dumb") | Err(_) => return Err("this terminal has no clipboard".into()),
            Ok(_) => {}
        }
        // Terminals drop what is longer than they like; 74,994 bytes is the least of those known.
        if text.len() > 50_000 {
            return Err("it is too long for a terminal's clipboard".into());
        }
        let mut sequence = String::new();
        let written = CopyToClipboard::to_clipboard_from(text).write_ansi(&mut sequence);
        written.map_err(|e| e.to_string())?;
        if std::env::var_os("TMUX").is_some() {
            // To tmux itself, and through it to the terminal around it where that is allowed.
            sequence = format!("{sequence}\u{1b}Ptmux;{}\u{1b}\\", sequence.replace('\u{1b}', "\u{1b}\u{1b}"));
        }
        let out = self.terminal.backend_mut();
        out.write_all(sequence.as_bytes()).and_then(|()| Write::flush(out)).map_err(|e| e.to_string())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = self.set_mouse(false);
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    ENTERED.store(true, Ordering::SeqCst);
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)
}

/// Leaves everything `take` entered; harmless when nothing was entered.
fn give_back() {
    if ENTERED.swap(false, Ordering::SeqCst) {
        // Each on its own: when one fails, the others still matter.
        let _ = execute!(io::stdout(), DisableMouseCapture, DisableBracketedPaste);
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// Whether a write failed because the terminal was closed.
pub fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::IO, Errno::PIPE, Errno::NXIO, Errno::BADF];
    error.raw_os_error().is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

/// Refuses what is not a terminal before anything is sent to it.
pub fn require() -> Result<()> {
    use std::io::IsTerminal;
    let terminal = std::env::var("TERM").unwrap_or_default();
    if terminal == "dumb" {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the interface needs a terminal that can place its cursor, and TERM is dumb",
        )
        .hint("mongokeep --help lists commands that do the same; or set TERM to what the terminal is"));
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, "the interface needs a terminal")
        .hint("scripts use the commands: mongokeep --help"))
}
