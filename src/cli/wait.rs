//! Waiting for a job: one line of progress on a terminal, a few plain lines elsewhere, then the finished job.
//!
//! Waiting never owns the job. Ctrl-C ends the waiting and says that the job goes on.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthStr;

use super::context::Context;
use super::job_result::{attempts_from_one, failure};
use super::output::{self, Out, columns};
use super::table::cut;
use crate::client::Client;
use crate::domain::job::{Job, JobState, LogLevel, Progress};
use crate::domain::text::{bytes, duration, escape};
use crate::error::{Error, ErrorKind, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How often the daemon itself is looked at, so that a job without one is not waited for in vain.
const DAEMON: Duration = Duration::from_secs(2);
/// A daemon that is restarted by systemd is back within this time.
const GONE: Duration = Duration::from_secs(10);
/// Between two plain lines while nothing changes.
const PLAIN: Duration = Duration::from_secs(10);

/// What waiting does when the daemon is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// Starts it again: the command queued the job.
    Started,
    /// Gives up after a while: the command only looks.
    LeftAlone,
}

/// Waits, prints the finished job, and returns the exit code: 1 unless it succeeded.
pub async fn ended(context: &Context, client: &Client, job: Job, daemon: Daemon) -> Result<u8> {
    let job = finished(context, client, job, daemon).await?;
    let failure = failure(&job);
    super::job::print(context, job)?;
    let Some(error) = failure else { return Ok(0) };
    // Its own exit code is that of a failed operation, whatever the job died of.
    output::error(&error, &context.redactor, context.out.home.as_deref());
    Ok(1)
}

/// Waits until `job` is finished, showing how far it is.
pub async fn finished(context: &Context, client: &Client, job: Job, daemon: Daemon) -> Result<Job> {
    let id = job.id;
    context.interrupted().leaves(
        format!("the {} (job {id}) goes on", job.kind.word()),
        format!("mongokeep job wait {id} follows it, mongokeep job cancel {id} ends it"),
    );
    let mut line = Line::new(&context.out);
    let mut watch = Watch { daemon, looked: Instant::now(), seen: Instant::now() };
    let mut after = i64::MIN;
    loop {
        let job = client.job(id)?;
        let done = job.state.is_finished();
        for entry in client.job_log(id, after, 200)? {
            after = entry.seq;
            if entry.level == LogLevel::Warn {
                line.message(&format!("warning: {}", escape(&entry.message)));
            }
        }
        if done {
            line.end();
            return Ok(attempts_from_one(job));
        }
        line.show(job.state.word(), &text(&job));
        if let Err(error) = watch.look(client, id).await {
            line.end();
            return Err(error);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

struct Watch {
    daemon: Daemon,
    looked: Instant,
    seen: Instant,
}

impl Watch {
    async fn look(&mut self, client: &Client, id: i64) -> Result<()> {
        if self.looked.elapsed() < DAEMON {
            return Ok(());
        }
        self.looked = Instant::now();
        if client.call(Client::daemon_status).await?.running {
            self.seen = Instant::now();
            return Ok(());
        }
        match self.daemon {
            Daemon::Started => {
                client.call(Client::ensure_daemon).await.map_err(|e| e.context(format!("job {id} waits")))?;
            }
            Daemon::LeftAlone if self.seen.elapsed() > GONE => {
                return Err(Error::new(ErrorKind::Unreachable, format!("no daemon runs, so job {id} does not go on"))
                    .hint("mongokeep daemon run starts one"));
            }
            Daemon::LeftAlone => {}
        }
        Ok(())
    }
}

/// What a person wants to know of a running job, in one line.
fn text(job: &Job) -> String {
    let name = job.backup.clone().unwrap_or_default();
    let mut parts = vec![format!("{} {name}", job.kind.word()).trim_end().to_owned()];
    if job.cancel_requested {
        parts.push("being cancelled".into());
    } else if job.state != JobState::Running {
        parts.push(job.state.word().into());
    }
    if job.attempt > 1 {
        parts.push(format!("attempt {}", job.attempt));
    }
    parts.extend(progress(&job.progress));
    if !job.phase.is_empty() {
        parts.push(job.phase.clone());
    }
    escape(&parts.join(", "))
}

/// `42 %`, `120 MB of 290 MB`, `35 MB/s`, `5 s left`: as much of it as is known.
pub fn progress(p: &Progress) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(part) = p.fraction() {
        parts.push(format!("{:.0} %", (part * 100.0).floor()));
        parts.push(format!("{} of {}", bytes(p.bytes_done), bytes(p.bytes_total)));
    } else if p.bytes_done > 0 {
        parts.push(bytes(p.bytes_done));
    }
    if p.bytes_per_second > 0 {
        parts.push(format!("{}/s", bytes(p.bytes_per_second)));
    }
    if let Some(left) = p.remaining_seconds().filter(|left| *left > 0) {
        parts.push(format!("{} left", duration(left)));
    }
    parts
}

/// The line that is redrawn. It is overwritten with spaces rather than cleared by an escape code, so that it is right
/// on every terminal.
pub struct Line {
    mode: Mode,
    drawn: usize,
    state: String,
    last: Option<Instant>,
}

#[derive(PartialEq)]
enum Mode {
    Silent,
    Plain,
    Redrawn,
}

impl Line {
    pub fn new(out: &Out) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mode = match (out.quiet, io::stderr().is_terminal() && !dumb) {
            (true, _) => Mode::Silent,
            (false, true) => Mode::Redrawn,
            (false, false) => Mode::Plain,
        };
        Self { mode, drawn: 0, state: String::new(), last: None }
    }

    /// Shows `text`; a plain line only when `state` changed, or once in a while.
    pub fn show(&mut self, state: &str, text: &str) {
        match self.mode {
            Mode::Silent => {}
            Mode::Redrawn => self.draw(text),
            Mode::Plain => {
                if self.state != state || self.last.is_none_or(|last| last.elapsed() > PLAIN) {
                    self.state = state.to_owned();
                    self.last = Some(Instant::now());
                    output::stderr(text);
                }
            }
        }
    }

    /// A line of its own, above the one that is redrawn.
    pub fn message(&mut self, text: &str) {
        self.end();
        output::stderr(text);
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if self.drawn > 0 {
            self.draw("");
        }
    }

    fn draw(&mut self, text: &str) {
        // Asked each time: terminals are resized. One column is left free, or the cursor would go to the next line.
        let width = columns(io::stderr()).unwrap_or(80).saturating_sub(1);
        let text = cut(text, width);
        let now = text.width();
        let pad = " ".repeat(self.drawn.min(width).saturating_sub(now));
        let mut stderr = io::stderr().lock();
        let end = if text.is_empty() { "\r" } else { "" };
        let _ = write!(stderr, "\r{text}{pad}{end}");
        let _ = stderr.flush();
        self.drawn = now;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // An error is printed on a line of its own, also when waiting broke off.
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::JobKind;

    #[test]
    fn the_line_says_what_is_known() {
        let mut job = Job {
            id: 7,
            kind: JobKind::Backup,
            state: JobState::Running,
            attempt: 2,
            service: None,
            storage: None,
            backup: Some("nightly".into()),
            schedule: None,
            progress: Progress {
                bytes_done: 120_000_000,
                bytes_total: 290_000_000,
                bytes_per_second: 34_000_000,
                ..Progress::default()
            },
            phase: "dump shop.\u{1b}[2J".into(),
            created_at: chrono::Utc::now(),
            started_at: None,
            finished_at: None,
            next_attempt_at: None,
            error: None,
            hint: None,
            cancel_requested: false,
            retry: Default::default(),
            due_at: None,
            point_in_time: None,
        };
        assert_eq!(
            text(&job),
            "backup nightly, attempt 2, 41 %, 120 MB of 290 MB, 34.0 MB/s, 5 s left, dump shop.\\u{1b}[2J"
        );
        job.state = JobState::Queued;
        job.progress = Progress::default();
        job.phase = "waiting for job 6".into();
        job.attempt = 0;
        assert_eq!(text(&job), "backup nightly, queued, waiting for job 6");
    }
}
