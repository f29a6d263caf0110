//! Bytes of a terminal as keys, pastes and clicks.
//!
//! What a terminal answers (OSC, DCS and APC strings, device attributes, reports of modes, cursor and size), whether it was
//! asked or not, is recognised and dropped, also when it comes in pieces. The sequences are those of xterm
//! (<https://invisible-island.net/xterm/ctlseqs/ctlseqs.html>).

use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

/// After an Esc with nothing behind it: it was the key.
const ESCAPE: Duration = Duration::from_millis(50);
/// The rest of a sequence that has begun may come late; then it will not come any more.
const REST: Duration = Duration::from_secs(1);
/// Longer than any sequence that means something; the rest is read and not kept.
const LONGEST: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ground,
    Escape,
    /// After `ESC [`, with what came since.
    Csi(Vec<u8>),
    /// After `ESC O`.
    Ss3,
    /// After `ESC [ [`, as the Linux console begins its function keys.
    Console,
    /// After `ESC` and this letter: a string, or Alt with the letter.
    Opens(u8),
    /// Inside a string that ends with `BEL` or `ESC \`; the flag: an `ESC` was seen.
    Text(bool),
    /// Bytes of a report of a click in the oldest form.
    Skip(u8),
}

#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    /// The bytes of a letter of which not all have come.
    letter: Vec<u8>,
    alt: bool,
    /// Inside a bracketed paste.
    paste: Option<Vec<u8>>,
    /// When an Esc was taken for the key, with nothing since.
    escaped: Option<Instant>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Ground, letter: Vec::new(), alt: false, paste: None, escaped: None }
    }
}

impl Decoder {
    /// What has come in, as events.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut out = Vec::new();
        // An answer whose Esc came alone and was taken for the key: no person types its beginning at once.
        if self.escaped.take().is_some_and(|at| at.elapsed() < REST) && begins_answer(bytes) {
            self.state = State::Escape;
        }
        for byte in bytes {
            self.take(*byte, &mut out);
        }
        out
    }

    /// How long to wait for the rest of what has begun; `None`: nothing has.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self.state {
            State::Escape if self.paste.is_none() => Some(ESCAPE),
            State::Ground if self.letter.is_empty() && self.paste.is_none() => None,
            _ => Some(REST),
        }
    }

    /// Nothing more came in time: what has begun is what it is.
    pub(super) fn expire(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        if self.state == State::Escape && self.paste.is_none() {
            out.push(plain(KeyCode::Esc));
            self.escaped = Some(Instant::now());
        }
        self.state = State::Ground;
        self.letter.clear();
        self.alt = false;
        self.end_paste(&mut out);
        out
    }

    fn take(&mut self, byte: u8, out: &mut Vec<Event>) {
        match std::mem::replace(&mut self.state, State::Ground) {
            State::Ground => self.ground(byte, out),
            State::Escape => self.escape(byte, out),
            State::Csi(mut seen) => match byte {
                0x1b => self.state = State::Escape,
                b'[' if seen.is_empty() => self.state = State::Console,
                0x40..=0x7e => self.csi(&seen, byte, out),
                _ => {
                    if seen.len() < LONGEST && byte >= 0x20 {
                        seen.push(byte);
                    }
                    self.state = State::Csi(seen);
                }
            },
            State::Ss3 => self.key(out, letter_key(byte), KeyModifiers::NONE),
            State::Console => {
                let key = (b'A'..=b'E').contains(&byte).then(|| KeyCode::F(byte - b'A' + 1));
                self.key(out, key, KeyModifiers::NONE);
            }
            State::Opens(letter) => {
                if opens(letter, byte) {
                    self.state = State::Text(false);
                } else {
                    self.key(out, Some(KeyCode::Char(letter.into())), KeyModifiers::ALT);
                    self.take(byte, out);
                }
            }
            State::Text(escaped) => match (escaped, byte) {
                // CAN and SUB break off whatever it was.
                (true, b'\\') | (false, 0x07 | 0x18 | 0x1a) => {}
                (true, other) => {
                    self.state = State::Escape;
                    self.take(other, out);
                }
                (false, 0x1b) => self.state = State::Text(true),
                (false, _) => self.state = State::Text(false),
            },
            State::Skip(left) => {
                if left > 1 {
                    self.state = State::Skip(left - 1);
                }
            }
        }
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<Event>) {
        match byte {
            b'[' => self.state = State::Csi(Vec::new()),
            b'O' => self.state = State::Ss3,
            b']' | b'P' | b'_' => self.state = State::Opens(byte),
            0x1b => {
                self.key(out, Some(KeyCode::Esc), KeyModifiers::NONE);
                self.state = State::Escape;
            }
            _ if self.paste.is_some() => {}
            _ => {
                self.alt = true;
                self.ground(byte, out);
            }
        }
    }

    fn ground(&mut self, byte: u8, out: &mut Vec<Event>) {
        if byte == 0x1b {
            self.letter.clear();
            self.state = State::Escape;
            return;
        }
        if let Some(paste) = &mut self.paste {
            return paste.push(byte);
        }
        self.letter.push(byte);
        match std::str::from_utf8(&self.letter) {
            Ok(text) => {
                let letter = text.chars().next();
                self.letter.clear();
                let alt = if std::mem::take(&mut self.alt) { KeyModifiers::ALT } else { KeyModifiers::NONE };
                if let Some((code, modifiers)) = letter.map(typed) {
                    self.key(out, Some(code), modifiers | alt);
                }
            }
            // More of it has to come; what can never be a letter is dropped.
            Err(e) if e.error_len().is_none() && self.letter.len() < 4 => {}
            Err(_) => {
                self.letter.clear();
                self.alt = false;
            }
        }
    }

    /// A control sequence with its last byte.
    fn csi(&mut self, seen: &[u8], last: u8, out: &mut Vec<Event>) {
        if let Some(report) = seen.strip_prefix(b"<") {
            if self.paste.is_none() {
                out.extend(click(&numbers(report), last));
            }
            return;
        }
        // Marks of answers, or bytes that no key has.
        if seen.iter().any(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':')) {
            return;
        }
        let numbers = numbers(seen);
        let number = |at: usize| numbers.get(at).copied().filter(|n| *n > 0);
        // The third kind of a key is its release.
        if seen.rsplit(|b| *b == b':').next() == Some(b"3") && seen.contains(&b':') {
            return;
        }
        let modifiers = modifiers(number(1).unwrap_or(1));
        match (last, number(0)) {
            (b'~', Some(200)) => self.paste = Some(Vec::new()),
            (b'~', Some(201)) => self.end_paste(out),
            (b'~', Some(27)) => self.key(out, number(2).and_then(code_key), modifiers),
            (b'~', Some(n)) => self.key(out, numbered_key(n), modifiers),
            (b'u', Some(n)) => self.key(out, code_key(n), modifiers),
            (b'M', None) => self.state = State::Skip(3),
            // Where the cursor is; Shift-F3 looks the same, and means nothing here.
            (b'R', _) => {}
            (b'Z', _) => self.key(out, Some(KeyCode::BackTab), KeyModifiers::SHIFT),
            (b'A'..=b'D' | b'F' | b'H' | b'P' | b'Q' | b'S', None | Some(1)) => {
                self.key(out, letter_key(last), modifiers);
            }
            _ => {}
        }
    }

    fn key(&self, out: &mut Vec<Event>, code: Option<KeyCode>, modifiers: KeyModifiers) {
        if self.paste.is_none() {
            out.extend(code.map(|code| Event::Key(KeyEvent::new(code, modifiers))));
        }
    }

    fn end_paste(&mut self, out: &mut Vec<Event>) {
        if let Some(bytes) = self.paste.take() {
            out.push(Event::Paste(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

fn plain(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Whether a string of the kind that `letter` opens begins so: answers do, and a person who pressed Alt does not go on so.
fn opens(letter: u8, first: u8) -> bool {
    match letter {
        b']' => first.is_ascii_digit(),
        b'P' => first.is_ascii_digit() || matches!(first, b'>' | b'!' | b'$' | b'+' | b'='),
        _ => first == b'G',
    }
}

/// Whether bytes that came together are the beginning of an answer without its Esc.
fn begins_answer(bytes: &[u8]) -> bool {
    match bytes {
        [b'[', b'?' | b'>' | b'=' | b'<' | b'0'..=b'9', ..] => true,
        [b'[', b'A'..=b'D' | b'F' | b'H' | b'Z'] => true,
        [letter @ (b']' | b'P' | b'_'), first, ..] => opens(*letter, *first),
        _ => false,
    }
}

/// The numbers of a sequence; what stands behind a colon is a detail of its number.
fn numbers(text: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(text);
    text.split(';').map(|part| part.split(':').next().unwrap_or_default().parse().unwrap_or(0)).collect()
}

fn modifiers(number: u32) -> KeyModifiers {
    let bits = number.saturating_sub(1);
    let mut out = KeyModifiers::NONE;
    for (bit, modifier) in [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)] {
        if bits & bit != 0 {
            out |= modifier;
        }
    }
    out
}

/// A letter as it is typed, with the control keys among them.
fn typed(letter: char) -> (KeyCode, KeyModifiers) {
    let control = |c: u32| (KeyCode::Char(char::from_u32(c).unwrap_or(' ')), KeyModifiers::CONTROL);
    match letter {
        '\r' => (KeyCode::Enter, KeyModifiers::NONE),
        '\t' => (KeyCode::Tab, KeyModifiers::NONE),
        '\u{7f}' => (KeyCode::Backspace, KeyModifiers::NONE),
        '\0' => (KeyCode::Char(' '), KeyModifiers::CONTROL),
        c @ '\u{1}'..='\u{1a}' => control(c as u32 + 0x60),
        c @ '\u{1c}'..='\u{1f}' => control(c as u32 + 0x18),
        c if c.is_uppercase() => (KeyCode::Char(c), KeyModifiers::SHIFT),
        c => (KeyCode::Char(c), KeyModifiers::NONE),
    }
}

/// A key by the number of its letter, as terminals with extended keys report it.
fn code_key(code: u32) -> Option<KeyCode> {
    match char::from_u32(code)? {
        '\u{1b}' => Some(KeyCode::Esc),
        letter => Some(typed(letter).0),
    }
}

fn letter_key(letter: u8) -> Option<KeyCode> {
    Some(match letter {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'M' => KeyCode::Enter,
        b'P'..=b'S' => KeyCode::F(letter - b'P' + 1),
        _ => return None,
    })
}

fn numbered_key(number: u32) -> Option<KeyCode> {
    let function = |n: u32| Some(KeyCode::F(u8::try_from(n).ok()?));
    match number {
        1 | 7 => Some(KeyCode::Home),
        2 => Some(KeyCode::Insert),
        3 => Some(KeyCode::Delete),
        4 | 8 => Some(KeyCode::End),
        5 => Some(KeyCode::PageUp),
        6 => Some(KeyCode::PageDown),
        n @ 11..=15 => function(n - 10),
        n @ 17..=21 => function(n - 11),
        n @ 23..=24 => function(n - 12),
        _ => None,
    }
}

/// A report of the mouse in the form that every terminal of today has (SGR).
fn click(numbers: &[u32], last: u8) -> Option<Event> {
    let [button, column, row] = numbers else { return None };
    let pressed = match last {
        b'M' => true,
        b'm' => false,
        _ => return None,
    };
    let which = match button & 3 {
        0 => MouseButton::Left,
        1 => MouseButton::Middle,
        _ => MouseButton::Right,
    };
    let kind = match (button & 0b1110_0000, button & 3) {
        (64, 0) => MouseEventKind::ScrollUp,
        (64, 1) => MouseEventKind::ScrollDown,
        (64, _) => return None,
        (32, 3) => MouseEventKind::Moved,
        (32, _) => MouseEventKind::Drag(which),
        (0, _) if pressed => MouseEventKind::Down(which),
        (0, _) => MouseEventKind::Up(which),
        _ => return None,
    };
    let place = |n: u32| u16::try_from(n.saturating_sub(1)).ok();
    Some(Event::Mouse(MouseEvent { kind, column: place(*column)?, row: place(*row)?, modifiers: KeyModifiers::NONE }))
}

#[cfg(test)]
mod tests;
