//! Where text goes: results to stdout, messages to stderr, nothing into a pipe that nobody reads.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, Local, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::redact::Redactor;
use super::table::{Pairs, Table};
use crate::domain::command_line::in_home;
use crate::domain::text::{escape, is_unsafe};
use crate::error::{Error, ErrorKind, Result};

/// How this run prints.
#[derive(Debug, Clone)]
pub struct Out {
    pub json: bool,
    pub quiet: bool,
    /// The time zone of times for people; none: the machine's.
    pub zone: Option<Tz>,
    /// The folder that `--home` gave: commands that a person is shown to type carry it.
    pub home: Option<String>,
    /// Columns of the terminal that stdout is, if it is one.
    width: Option<usize>,
}

impl Out {
    pub fn new(json: bool, quiet: bool, zone: Option<Tz>) -> Self {
        Self { json, quiet, zone, home: None, width: columns(io::stdout()) }
    }

    #[must_use]
    pub fn with_home(self, home: Option<String>) -> Self {
        Self { home, ..self }
    }

    #[cfg(test)]
    pub fn silent() -> Self {
        Self { json: false, quiet: true, zone: Some(Tz::UTC), home: None, width: None }
    }

    /// The result of a command: as one JSON value, or as the text that `text` makes.
    pub fn result<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        if self.json { self.json_value(value, true) } else { stdout(&text()) }
    }

    /// A list; an empty one says on stderr what to do next.
    pub fn list<T: Serialize>(&self, values: &[T], table: impl FnOnce() -> Table, empty: &str) -> Result<()> {
        if self.json {
            return self.json_value(values, true);
        }
        let table = table();
        if table.is_empty() {
            self.note(empty);
            return Ok(());
        }
        stdout(&table.render(self.width))
    }

    /// One object, as pairs.
    pub fn object<T: Serialize>(&self, value: &T, pairs: impl FnOnce() -> Pairs) -> Result<()> {
        self.result(value, || pairs().render())
    }

    pub fn table(&self, table: &Table) -> String {
        table.render(self.width)
    }

    pub fn json_value<T: Serialize + ?Sized>(&self, value: &T, pretty: bool) -> Result<()> {
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        let text = text.map_err(|e| Error::new(ErrorKind::Internal, "writing JSON").source(e))?;
        stdout(&(plain_json(&text) + "\n"))
    }

    /// `text` with its commands as they are typed for this home.
    pub fn commands(&self, text: &str) -> String {
        in_home(text, self.home.as_deref())
    }

    /// Something to know; silent with `-q`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            stderr(&escape(&self.commands(text)));
        }
    }

    /// Something to heed.
    pub fn warn(&self, text: &str) {
        stderr(&format!("warning: {}", escape(&self.commands(text))));
    }

    /// `2026-11-21 14:02:11 +01:00`, for one object.
    pub fn time(&self, at: DateTime<Utc>) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S %:z")
    }

    /// `2026-11-21 14:02`, for a row.
    pub fn minute(&self, at: Option<DateTime<Utc>>) -> String {
        at.map_or_else(String::new, |at| self.format(at, "%Y-%m-%d %H:%M"))
    }

    /// `2026-11-21T14:02:11+01:00`, to be typed again.
    pub fn exact(&self, at: DateTime<Utc>) -> String {
        self.format(at, "%Y-%m-%dT%H:%M:%S%:z")
    }

    pub fn second(&self, at: DateTime<Utc>) -> String {
        self.format(at, "%Y-%m-%d %H:%M:%S")
    }

    fn format(&self, at: DateTime<Utc>, form: &str) -> String {
        match self.zone {
            Some(zone) => at.with_timezone(&zone).format(form).to_string(),
            None => at.with_timezone(&Local).format(form).to_string(),
        }
    }
}

/// Columns of the terminal behind `stream`, if there is one.
pub fn columns(stream: impl IsTerminal + std::os::fd::AsFd) -> Option<usize> {
    let size = stream.is_terminal().then(|| rustix::termios::tcgetwinsize(&stream).ok()).flatten()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// The same JSON value, without a character that a terminal would act on: JSON itself only escapes some.
fn plain_json(text: &str) -> String {
    if !text.chars().any(|c| c != '\n' && is_unsafe(c)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // The only raw control character in serialised JSON is the line end between its lines.
        if c == '\n' || !is_unsafe(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

/// Writes to stdout. A reader that has closed its end has seen enough, which is no failure; a full disk is one.
pub fn stdout(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(crate::error::io("writing the output", e)),
        _ => Ok(()),
    }
}

/// Writes a line to stderr, if anybody reads it.
pub fn stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The last lines of a command that failed: what, and what can be done. `home`: the folder that `--home` gave.
pub fn error(error: &Error, redactor: &Redactor, home: Option<&str>) {
    stderr(&format!("error: {}", redactor.clean(&error.full())));
    if let Some(hint) = error.hint_text() {
        stderr(&format!("hint: {}", escape(&redactor.clean(&in_home(hint, home)))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_value_and_loses_what_a_terminal_acts_on() {
        let value = serde_json::json!({"name": "a\u{9b}2J\u{7f}\u{202e}\u{e0041}é\u{1b}"});
        let text = plain_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !is_unsafe(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn times_are_shown_in_the_chosen_zone() {
        let out = Out { zone: Some(Tz::Europe__Paris), ..Out::silent() };
        let at = "2026-11-21T13:02:11.5Z".parse().unwrap();
        assert_eq!(out.time(at), "2026-11-21 14:02:11 +01:00");
        assert_eq!(out.minute(Some(at)), "2026-11-21 14:02");
        assert_eq!(out.minute(None), "");
        assert_eq!(out.exact(at), "2026-11-21T14:02:11+01:00");
    }
}
