//! What was told: a list that keeps it, and toasts that show it for a while.

use chrono::{DateTime, TimeDelta, Utc};

use super::model::Model;
use super::msg::Problem;

/// How long a toast stays.
pub const TOAST_SECONDS: i64 = 6;
/// How many messages the message list keeps.
const MESSAGES: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Good,
    Warn,
    Error,
}

/// One entry of the message list; the newest is a toast for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub at: DateTime<Utc>,
    pub level: Level,
    pub text: String,
    pub hint: Option<String>,
    /// Shown in the corner for a while; what stands elsewhere on the screen is for the list alone.
    pub toast: bool,
}

impl Model {
    /// Puts a message into the list and on the screen for a while.
    pub fn emit(&mut self, level: Level, text: impl Into<String>, hint: Option<String>) {
        self.keep(Message { at: self.now, level, text: text.into(), hint, toast: true });
    }

    pub fn emit_problem(&mut self, what: &str, problem: &Problem) {
        self.emit(Level::Error, format!("{what}: {}", problem.message), problem.hint.clone());
    }

    /// Puts what stands in a form or box into the list, which keeps it when that is closed.
    pub fn keep_problem(&mut self, what: &str, problem: &Problem) {
        let text = format!("{what}: {}", problem.message);
        self.keep(Message { at: self.now, level: Level::Error, text, hint: problem.hint.clone(), toast: false });
    }

    fn keep(&mut self, message: Message) {
        if message.level == Level::Error {
            self.unread_errors += 1;
        }
        self.messages.push_back(message);
        if self.messages.len() > MESSAGES {
            self.messages.pop_front();
        }
    }

    /// Messages that are still shown as toasts, oldest first.
    pub fn toasts(&self) -> impl Iterator<Item = &Message> {
        let since = self.now - TimeDelta::seconds(TOAST_SECONDS);
        let fresh = self.messages.iter().rev().take_while(move |m| m.at > since);
        let mut newest: Vec<&Message> = fresh.filter(|m| m.toast).take(3).collect();
        newest.reverse();
        newest.into_iter()
    }
}
