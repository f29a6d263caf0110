//! Stopping and starting the server of a service with the commands that its owner gave for that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::data_folder::lock_holder;
use super::exchange::FolderLock;
use crate::domain::command_line;
use crate::domain::service::Service;
use crate::domain::text::escape;
use crate::engine::blocking::blocking;
use crate::error::{Error, ErrorKind, Result, io};
use crate::mongo::connect;

/// How long a command, and the server after it, may take to stop: a checkpoint of everything may be part of it.
const STOP_LIMIT: Duration = Duration::from_secs(600);
/// How long a server may take until it is a primary.
pub const START_LIMIT: Duration = Duration::from_secs(300);
/// How long a server may take to serve after its start command failed: another was faster, or its manager impatient.
const FAILED_START_LIMIT: Duration = Duration::from_secs(10);
/// How long a start command may go on when its server serves already, before nobody waits for what it says any more.
const ENDING_LIMIT: Duration = Duration::from_secs(3);
const GREETING_LIMIT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Of what a command says.
const SAID_BYTES: u64 = 500;

/// In the environment of a stop command, and of what it starts: which attempt at a restore it belongs to.
const STOPS_FOR: &str = "MONGOKEEP_STOPS_FOR";

/// The commands of a service that has both.
#[derive(Debug, Clone)]
pub struct ServiceCommands {
    pub stop: String,
    pub start: String,
}

impl ServiceCommands {
    pub fn of(service: &Service) -> Option<Self> {
        Some(Self { stop: service.stop_command.clone()?, start: service.start_command.clone()? })
    }

    /// Waits for the stop command that a killed daemon left at work for the attempt `attempt_id`: it would stop a server that is started
    /// meanwhile.
    ///
    /// Errors: `Failed` when it does not end.
    pub async fn wait_for_left(&self, attempt_id: &str) -> Result<()> {
        let began = Instant::now();
        let mark = format!("{STOPS_FOR}={attempt_id}");
        loop {
            let mark = mark.clone();
            let at_work = blocking("looking for a command", move || Ok(is_in_an_environment(mark.as_bytes()))).await?;
            if !at_work {
                return Ok(());
            }
            if began.elapsed() > STOP_LIMIT {
                let what = format!("the stop command ({}) is still at work", escape(&self.stop));
                return Err(Error::new(ErrorKind::Failed, what).hint("end it, and look whether the server runs"));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Stops the server that is at work on `folder`, if there is one, for the attempt `attempt_id`, and returns when nobody is.
    ///
    /// Errors: `Failed` with what the command says, when the server goes on, or when somebody has started it again;
    /// `Cancelled`, after which nobody waits for it.
    pub async fn stop(&self, folder: &Path, attempt_id: &str, cancel: &CancellationToken) -> Result<FolderLock> {
        if let Some(lock) = take(folder).await? {
            return Ok(lock);
        }
        let (began, at_work) = (Instant::now(), holder(folder).await?);
        let mut running = Running::start(&self.stop, "stop command", Some((STOPS_FOR, attempt_id)))?;
        let mut ended = false;
        loop {
            if !ended && let Some(status) = running.ended()? {
                running.must_be_good(status)?;
                ended = true;
            }
            if ended {
                if let Some(lock) = take(folder).await? {
                    return Ok(lock);
                }
                let now = holder(folder).await?;
                if at_work.is_some() && now.is_some() && now != at_work {
                    let what = format!(
                        "the server was started again after the stop command ({}) ended it",
                        escape(&self.stop)
                    );
                    return Err(Error::new(ErrorKind::Failed, what)
                        .hint("stop it with the service manager that starts it (systemctl stop mongod, for example)"));
                }
            }
            if began.elapsed() > STOP_LIMIT {
                let (command, seconds) = (escape(&self.stop), STOP_LIMIT.as_secs());
                let what = format!("{seconds} s after the stop command began ({command}) the server is still at work");
                return Err(Error::new(ErrorKind::Failed, what).hint("does the command stop this server?"));
            }
            pause(cancel).await?;
        }
    }

    /// Starts the server, and returns when it is a primary of the replica set `set`; a start command that failed although it
    /// is one is passed to `warn`.
    ///
    /// Errors: `Failed` with what the command says, or when the server does not become one in time; `Cancelled`.
    pub async fn start(
        &self,
        service: &Service,
        address: &str,
        set: &str,
        cancel: &CancellationToken,
        warn: &(dyn Fn(String) + Sync),
    ) -> Result<()> {
        let began = Instant::now();
        let mut running = Running::start(&self.start, "start command", None)?;
        let mut ended = None;
        loop {
            if ended.is_none()
                && let Some(status) = running.ended()?
            {
                ended = Some((Instant::now(), running.must_be_good(status)));
            }
            let why = match connect::greet(&service.name, &service.uri, address, GREETING_LIMIT).await {
                Ok(hello) if hello.set_name.as_deref() == Some(set) && hello.is_writable_primary => {
                    // A server may be faster than the command that started it.
                    let ended = match ended {
                        Some((_, ended)) => ended,
                        None => running.ended_soon().await?,
                    };
                    if let Err(e) = ended {
                        warn(format!("{}, but the server serves", e.full()));
                    }
                    return Ok(());
                }
                Ok(hello) => match &hello.set_name {
                    Some(other) if other != set => format!("it is a member of {}", escape(other)),
                    _ => "it is no primary".to_owned(),
                },
                Err(e) => e.full(),
            };
            match ended {
                Some((at, Err(e))) if at.elapsed() > FAILED_START_LIMIT => return Err(e),
                _ => {}
            }
            if began.elapsed() > START_LIMIT {
                let (command, seconds) = (escape(&self.start), START_LIMIT.as_secs());
                let what =
                    format!("{seconds} s after the start command began ({command}) the server does not serve: {why}");
                return Err(Error::new(ErrorKind::Failed, what).hint("the server's own log says why"));
            }
            pause(cancel).await?;
        }
    }
}

/// Whether a process of this user was started with `entry` (`NAME=value`) in its environment. Blocks.
fn is_in_an_environment(entry: &[u8]) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.into_iter().any(|process| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == entry)
    })
}

/// The process that is at work on a folder, as far as the system says.
async fn holder(folder: &Path) -> Result<Option<i32>> {
    let folder = folder.to_owned();
    let asked = move || Ok(lock_holder(&folder).and_then(|lock| lock.pid).map(|pid| pid.as_raw_nonzero().get()));
    blocking("looking at a data folder", asked).await
}

/// The lock of a folder that no server is at work on; `None`: one is.
pub async fn take(folder: &Path) -> Result<Option<FolderLock>> {
    let folder = folder.to_owned();
    blocking("looking at a data folder", move || FolderLock::take(&folder)).await
}

async fn pause(cancel: &CancellationToken) -> Result<()> {
    tokio::select! {
        () = cancel.cancelled() => Err(Error::cancelled()),
        () = sleep(POLL_INTERVAL) => Ok(()),
    }
}

/// A command at work. It is let go on when this is dropped: what it does must not be left half done.
struct Running {
    child: Child,
    said: File,
    what: String,
}

impl Running {
    /// No shell comes between. What the command says goes into a file: a server that it leaves in the background would keep
    /// a pipe open.
    fn start(text: &str, what: &str, mark: Option<(&str, &str)>) -> Result<Self> {
        let what = format!("the {what} ({})", escape(text));
        let words =
            command_line::words(text).map_err(|why| Error::new(ErrorKind::Invalid, format!("{what}: {why}")))?;
        let Some((program, arguments)) = words.split_first() else {
            return Err(Error::new(ErrorKind::Invalid, format!("{what} names no program")));
        };
        let said = tempfile::tempfile().map_err(|e| io("making a file for what a command says", e))?;
        let (out, err) = (said.try_clone(), said.try_clone());
        let (out, err) = out.and_then(|out| err.map(|err| (out, err))).map_err(|e| io(&what, e))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        for of_the_daemon in command_line::OF_THE_SERVICE_MANAGER {
            command.env_remove(of_the_daemon);
        }
        command.envs(mark);
        let child = command.spawn().map_err(|e| io(&what, e))?;
        Ok(Self { child, said, what })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(|e| io(&self.what, e))
    }

    /// Errors: as [`Self::must_be_good`], when it ends within moments; one that goes on, such as a server that stays in the
    /// foreground, is left alone.
    async fn ended_soon(&mut self) -> Result<Result<()>> {
        match tokio::time::timeout(ENDING_LIMIT, self.child.wait()).await {
            Ok(status) => {
                let status = status.map_err(|e| io(&self.what, e))?;
                Ok(self.must_be_good(status))
            }
            Err(_) => Ok(Ok(())),
        }
    }

    /// Errors: `Failed` with the end of what it said, for any end but a good one.
    fn must_be_good(&mut self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let mut said = Vec::new();
        let size = self.said.metadata().map_or(0, |metadata| metadata.len());
        let _ = self.said.seek(SeekFrom::Start(size.saturating_sub(SAID_BYTES)));
        let _ = (&self.said).take(SAID_BYTES).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let said = if said.trim().is_empty() { String::new() } else { format!(": {}", escape(said.trim())) };
        Err(Error::new(ErrorKind::Failed, format!("{} ended with {status}{said}", self.what)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(stop: &str) -> ServiceCommands {
        ServiceCommands { stop: stop.into(), start: String::new() }
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why_and_a_folder_that_is_free_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        assert!(commands("/no/such/program").stop(dir.path(), "a1", &cancel).await.is_ok(), "nobody is at work there");
        std::fs::write(dir.path().join("mongod.lock"), "").unwrap();
        let _held = FolderLock::take(dir.path()).unwrap().unwrap();
        let error = commands("sh -c 'echo no\\ \u{1b}[31mrights >&2; exit 3'")
            .stop(dir.path(), "a1", &cancel)
            .await
            .unwrap_err();
        let text = error.full();
        assert!(text.contains("exit status: 3") && text.contains("rights") && !text.contains('\u{1b}'), "{text}");
        assert!(
            commands("/no/such/program").stop(dir.path(), "a1", &cancel).await.unwrap_err().full().contains("/no/such")
        );
        // It ends well, and the server goes on.
        cancel.cancel();
        let error = commands("true").stop(dir.path(), "a1", &cancel).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        // One that nobody waits for any more. Its mark is that of this run alone.
        let done = dir.path().join("done");
        let slow = commands(&format!("sh -c 'until test -e {}; do sleep 0.05; done'", done.display()));
        let attempt = dir.path().display().to_string();
        let _ = slow.stop(dir.path(), &attempt, &cancel).await.unwrap_err();
        // The system shows the environment of a program a moment after it was started.
        let (mark, began) = (format!("{STOPS_FOR}={attempt}"), Instant::now());
        while !is_in_an_environment(mark.as_bytes()) && began.elapsed() < Duration::from_secs(60) {
            sleep(Duration::from_millis(5)).await;
        }
        let waited = tokio::time::timeout(Duration::from_millis(300), slow.wait_for_left(&attempt)).await;
        std::fs::write(done, "").unwrap();
        assert!(waited.is_err(), "it is still at work");
        slow.wait_for_left(&attempt).await.unwrap();
    }
}
