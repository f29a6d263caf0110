//! What was reported: a list that keeps it, and one line above the footer that shows the newest for a while.
//!
//! An error counts as unread until a person has opened the list, or until what caused it has gone.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::model::Model;
use super::msg::Problem;
use crate::domain::job::{Job, JobKind, JobState};
use crate::domain::text::duration;
use crate::domain::warning::{Warning, WarningKind};

/// How long a message stays on its line.
pub const SHOWN_SECONDS: i64 = 6;
/// How many messages the message list keeps.
const MESSAGES: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Good,
    Warn,
    Error,
}

/// What a message is about, as far as that may end or go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    Nothing,
    Store,
    Daemon,
    Service(String),
    Job(i64),
    /// What was submitted under this number.
    Submission(u64),
    /// A key that does nothing here and now: said on the line, and no news for the list.
    Key,
}

/// One entry of the message list; the newest is on the line for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub at: DateTime<Utc>,
    pub level: Level,
    pub text: String,
    pub hint: Option<String>,
    /// Shown on the line for a while; what stands elsewhere on the screen is for the list alone.
    pub on_line: bool,
    pub about: About,
    /// An error that nobody has seen in the list, and whose cause has not gone.
    pub unread: bool,
}

impl Model {
    /// Puts a message into the list and on the line for a while.
    pub fn emit(&mut self, level: Level, text: impl Into<String>, hint: Option<String>) {
        self.emit_about(About::Nothing, level, text, hint);
    }

    /// The same, of something that may go on: what was said before of the same job gives way.
    pub fn emit_about(&mut self, about: About, level: Level, text: impl Into<String>, hint: Option<String>) {
        let unread = level == Level::Error;
        self.keep(Message { at: self.now, level, text: text.into(), hint, on_line: true, about, unread });
    }

    pub fn emit_problem(&mut self, what: &str, problem: &Problem) {
        self.emit_problem_about(About::Nothing, what, problem);
    }

    pub fn emit_problem_about(&mut self, about: About, what: &str, problem: &Problem) {
        self.emit_about(about, Level::Error, format!("{what}: {}", problem.message), problem.hint.clone());
    }

    /// Puts what stands in a form or box into the list, which keeps it when that is closed.
    pub fn keep_problem(&mut self, about: About, what: &str, problem: &Problem) {
        let (text, hint) = (format!("{what}: {}", problem.message), problem.hint.clone());
        self.keep(Message { at: self.now, level: Level::Error, text, hint, on_line: false, about, unread: true });
    }

    fn keep(&mut self, message: Message) {
        // "Queued" is no news beside "done".
        if message.about == About::Key {
            self.messages.retain(|m| m.about != About::Key);
        }
        if let About::Job(_) = message.about {
            self.messages.retain(|m| m.about != message.about || m.level == Level::Error);
        }
        self.messages.push_back(message);
        if self.messages.len() > MESSAGES {
            self.messages.pop_front();
        }
    }

    /// What needs somebody now, a sentence each: what is unreachable or silent first, then what the store knows of.
    pub fn needs(&self) -> Vec<String> {
        let mut needs = Vec::new();
        if let Some(problem) = &self.lost {
            needs.push(format!("the store cannot be read: {}", problem.message));
        }
        if let Some(problem) = &self.daemon_problem {
            needs.push(format!("the daemon is unreachable: {}", problem.message));
        }
        needs.extend(self.silence(true));
        let warned = |kind| self.data.warnings.iter().any(|warning| warning.kind == kind);
        let daemon_off = self.daemon.as_ref().is_some_and(|daemon| !daemon.running);
        if let Some(undone) = self.undone().filter(|_| daemon_off && !warned(WarningKind::NoDaemon)) {
            needs.push(format!("no daemon runs, {undone}"));
        }
        if let Some((lost, why)) = self.lost_words() {
            needs.push(format!("{lost}: {why}"));
        }
        // Of an unreachable service nobody has to be told that its oplog is not recorded either.
        let follows = |warning: &&Warning| {
            let of_recording = [WarningKind::PitrStopped, WarningKind::PitrLag].contains(&warning.kind);
            of_recording && warning.service.as_ref().is_some_and(|service| self.lost_service(service).is_some())
        };
        let warnings = self.data.warnings.iter().filter(|warning| !follows(warning));
        needs.extend(warnings.map(|warning| warning.text.clone()));
        needs
    }

    /// `the daemon (process 77) has not answered for 12 s`; `None`: it answers, or does not run.
    pub fn silence(&self, with_pid: bool) -> Option<String> {
        let seconds = self.daemon_silence()?;
        let pid = self.daemon.as_ref().and_then(|daemon| daemon.pid).filter(|_| with_pid);
        let process = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
        Some(format!("the daemon{process} has not answered for {}", duration(seconds)))
    }

    /// What the list shows, the newest first: keys that did nothing are left out, and what was said of several services one
    /// after the other is one message with their number.
    pub fn listed_messages(&self) -> Vec<Message> {
        let mut out: Vec<Message> = Vec::new();
        let mut services: Vec<&str> = Vec::new();
        for message in self.messages.iter().rev().filter(|message| message.about != About::Key) {
            let About::Service(service) = &message.about else {
                services.clear();
                out.push(message.clone());
                continue;
            };
            match out.last_mut().filter(|last| !services.is_empty() && last.level == message.level) {
                Some(last) => {
                    if !services.contains(&service.as_str()) {
                        services.push(service);
                    }
                    if services.len() > 1 {
                        last.text = of_services(message.level, &services);
                        last.hint = None;
                    }
                }
                None => {
                    services = vec![service];
                    out.push(message.clone());
                }
            }
        }
        out
    }

    /// How many errors nobody has seen whose cause has not gone.
    pub fn unread_errors(&self) -> usize {
        self.messages.iter().filter(|m| m.unread).count()
    }

    /// Somebody has opened the list.
    pub(super) fn messages_seen(&mut self) {
        self.messages.iter_mut().for_each(|m| m.unread = false);
    }

    /// What caused an error has gone: it stays in the list, and no longer counts.
    pub(super) fn cause_gone(&mut self, about: &About) {
        self.messages.iter_mut().filter(|m| m.about == *about).for_each(|m| m.unread = false);
    }

    /// A job went well: the failures of the same thing before it no longer count.
    pub(super) fn failures_gone(&mut self, good: &Job) {
        let jobs = self.data.jobs.clone();
        let same = |id: i64| jobs.iter().any(|j| j.id == id && is_made_good_by(j, good));
        for message in self.messages.iter_mut().filter(|m| m.unread) {
            if matches!(message.about, About::Job(id) if id == good.id || same(id)) {
                message.unread = false;
            }
        }
    }

    /// The message of the line: an error whose cause has not gone for its whole time, else the newest.
    pub fn line_message(&self) -> Option<&Message> {
        let since = self.now - TimeDelta::seconds(SHOWN_SECONDS);
        let fresh = || self.messages.iter().rev().take_while(move |m| m.at > since).filter(|m| m.on_line);
        fresh().find(|m| m.unread).or_else(|| fresh().next())
    }

    /// Jobs that failed within a day, and that nothing has made good since.
    pub fn failed_jobs(&self) -> usize {
        let recent = self.now - TimeDelta::hours(24);
        let mut good: HashSet<(JobKind, Option<&str>, Option<&str>)> = HashSet::new();
        let mut failed = 0;
        // The newest come first.
        for job in self.data.jobs.iter().filter(|j| j.finished_at.is_some_and(|t| t > recent)) {
            let (service, schedule) = (job.service.as_deref(), job.schedule.as_deref());
            match job.state {
                JobState::Succeeded => good.extend([(job.kind, service, None), (job.kind, service, schedule)]),
                JobState::Failed if !good.contains(&(job.kind, service, schedule)) => failed += 1,
                _ => {}
            }
        }
        failed
    }
}

/// `20 services are unreachable: a, b, c and 17 more`.
fn of_services(level: Level, services: &[&str]) -> String {
    const NAMED: usize = 5;
    let names: Vec<&str> = services.iter().take(NAMED).copied().collect();
    let more = services.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = if level == Level::Good { "answer again" } else { "are unreachable" };
    format!("{} services {what}: {}{more}", services.len(), names.join(", "))
}

/// Whether a later job did what the failed one was to do.
fn is_made_good_by(failed: &Job, good: &Job) -> bool {
    good.id > failed.id
        && (good.kind, &good.service) == (failed.kind, &failed.service)
        && (failed.schedule.is_none() || good.schedule == failed.schedule)
}
