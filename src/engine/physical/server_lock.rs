//! A server locked against writes, for as long as this value is held and its copy gets on.
//!
//! The lock itself is held by a process of its own (see [`super::lock_keeper`]). Here it is kept informed: every second
//! that the copy read something. When nothing was read for [`STALL_LIMIT`], it is not, and lets the server go.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::lock_keeper::{self, Answer, Ask, COMMAND};
use crate::domain::service::Service;
use crate::error::{Error, ErrorKind, Result, io};
use crate::mongo::Server;

/// With the keeper's patience, less than the ten seconds that a server is locked in vain at most.
pub const STALL_LIMIT: Duration = Duration::from_secs(4);
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
const START_LIMIT: Duration = Duration::from_secs(30);
/// The keeper goes on trying when this is over; we do not wait for it any longer.
const UNLOCK_LIMIT: Duration = Duration::from_secs(15);
/// Whose output has ended, ends within moments.
const GONE_LIMIT: Duration = Duration::from_secs(1);
/// A lock is granted when the operations that run have come to a pause.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

/// A keeper that is connected and has locked nothing yet.
pub struct Keeper {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    service: String,
    member: String,
}

/// How far the copy is, for the question whether it gets on.
#[derive(Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Something was read.
    pub fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// The server is locked. Dropping this lets it go, at the latest when the keeper hears nothing any more.
pub struct Locked {
    /// Fires when the lock was lost before its end.
    pub lost: CancellationToken,
    since: Instant,
    /// Sending or dropping it asks for the end.
    unlock: oneshot::Sender<()>,
    outcome: oneshot::Receiver<Result<()>>,
}

impl Keeper {
    /// Starts the process and connects it to `member`, so that locking needs nothing but one command.
    pub async fn start(service: &Service, member: &str) -> Result<Self> {
        let failed = |e| io("starting the process that keeps the lock", e);
        let mut command = Command::new(own_program()?);
        command
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What ends the daemon's terminal or its group does not end the keeper.
            .process_group(0)
            .kill_on_drop(false);
        let mut child = command.spawn().map_err(failed)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new(ErrorKind::Internal, "the process that keeps the lock has no input"));
        };
        let output = BufReader::new(output).lines();
        let mut keeper = Self { child, input, output, service: service.name.clone(), member: member.to_owned() };
        let ask = Ask::Connect {
            service: service.name.clone(),
            uri: service.uri.expose().to_owned(),
            member: member.to_owned(),
        };
        keeper.say(&ask).await?;
        match keeper.hear(START_LIMIT).await? {
            Answer::Connected => Ok(keeper),
            other => Err(keeper.unexpected(other)),
        }
    }

    /// Locks the server. `server`: a connection to the same member, which unlocks it if the keeper is killed. `pulse`: what
    /// says that the copy gets on.
    ///
    /// Errors: `Conflict` when somebody else has locked it, which is left alone.
    pub async fn lock(mut self, server: Server, pulse: Pulse) -> Result<Locked> {
        self.say(&Ask::Lock).await?;
        match self.hear(LOCK_LIMIT).await {
            Ok(Answer::Locked) => {}
            Ok(other) => return Err(self.unexpected(other)),
            // A keeper that lives unlocks what it locks too late. One that was killed may have locked the server before.
            Err(e) => match timeout(GONE_LIMIT, self.child.wait()).await {
                Ok(_) => return Err(keeper_killed(&mut self, server).await),
                Err(_) => return Err(e),
            },
        }
        let (unlock, asked) = oneshot::channel();
        let (says, outcome) = oneshot::channel();
        let lost = CancellationToken::new();
        let locked = Locked { lost: lost.clone(), since: Instant::now(), unlock, outcome };
        tokio::spawn(async move {
            let result = attend(&mut self, server, pulse, asked).await;
            if result.is_err() {
                lost.cancel();
            }
            let _ = says.send(result);
            let _ = self.child.wait().await;
        });
        Ok(locked)
    }

    async fn say(&mut self, ask: &Ask) -> Result<()> {
        let mut line = serde_json::to_string(ask)
            .map_err(|e| Error::new(ErrorKind::Internal, "asking the process that keeps the lock").source(e))?;
        line.push('\n');
        let written = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.flush().await
        };
        written.await.map_err(|e| io("asking the process that keeps the lock", e))
    }

    async fn hear(&mut self, limit: Duration) -> Result<Answer> {
        let gone = |why: String| {
            let what = format!("service {}: the process that keeps the lock of {} {why}", self.service, self.member);
            Error::new(ErrorKind::Interrupted, what)
        };
        match timeout(limit, self.output.next_line()).await {
            Ok(Ok(Some(line))) => {
                serde_json::from_str(&line).map_err(|_| gone("says what nobody understands".to_owned()))
            }
            Ok(_) => Err(gone("stopped unexpectedly".to_owned())),
            Err(_) => Err(gone(format!("did not answer within {} s", limit.as_secs()))),
        }
    }

    fn unexpected(&self, answer: Answer) -> Error {
        match answer {
            Answer::Failed { kind, message, hint } => {
                let error = Error::new(kind.kind(), message);
                if hint.is_empty() { error } else { error.hint(hint) }
            }
            Answer::Unlocked { .. } => stalled(&self.service, &self.member),
            Answer::Lost { why } => lost(&self.service, &self.member, &why),
            Answer::Connected | Answer::Locked => {
                Error::new(ErrorKind::Internal, "the process that keeps the lock answers out of turn")
            }
        }
    }
}

fn stalled(service: &str, member: &str) -> Error {
    let what = format!("service {service}: nothing could be read of {member} for some seconds while it was locked");
    Error::new(ErrorKind::Interrupted, what)
        .hint("the server was unlocked, so that writes go on; another attempt copies it again")
}

fn lost(service: &str, member: &str, why: &str) -> Error {
    let what = format!("service {service}: {member} did not stay locked while it was copied: {why}");
    Error::new(ErrorKind::Interrupted, what).hint("another attempt copies it again")
}

/// The program that runs now, also when its file was replaced meanwhile.
fn own_program() -> Result<std::path::PathBuf> {
    let of_process = std::path::PathBuf::from("/proc/self/exe");
    if of_process.exists() {
        return Ok(of_process);
    }
    std::env::current_exe().map_err(|e| io("looking for the program itself", e))
}

/// Keeps the keeper informed until the server is to be unlocked, and listens to it.
async fn attend(keeper: &mut Keeper, server: Server, pulse: Pulse, mut asked: oneshot::Receiver<()>) -> Result<()> {
    let (mut seen, mut at) = (pulse.0.load(Relaxed), Instant::now());
    let mut beats = tokio::time::interval(BEAT_INTERVAL);
    loop {
        tokio::select! {
            biased;
            _ = &mut asked => break,
            line = keeper.output.next_line() => {
                // Before it was asked it only says that the lock is over.
                let answer = line.ok().flatten().and_then(|line| serde_json::from_str(&line).ok());
                return Err(match answer {
                    Some(answer) => keeper.unexpected(answer),
                    None => keeper_killed(keeper, server).await,
                });
            }
            _ = beats.tick() => {
                let now = pulse.0.load(Relaxed);
                if now != seen {
                    (seen, at) = (now, Instant::now());
                }
                if at.elapsed() < STALL_LIMIT {
                    // One that is gone is seen above.
                    let _ = keeper.say(&Ask::Alive).await;
                }
            }
        }
    }
    let answer = async {
        keeper.say(&Ask::Unlock).await?;
        keeper.hear(UNLOCK_LIMIT).await
    };
    match answer.await {
        Ok(Answer::Unlocked { by_itself: false }) => Ok(()),
        Ok(other) => Err(keeper.unexpected(other)),
        Err(_) => Err(keeper_killed(keeper, server).await),
    }
}

/// Does what the keeper can do no more.
async fn keeper_killed(keeper: &mut Keeper, server: Server) -> Error {
    let _ = keeper.child.start_kill();
    let before = server.hello().process_id;
    lock_keeper::unlock(&server, before).await;
    let (service, member) = (&keeper.service, &keeper.member);
    let what = format!("service {service}: the process that kept the lock of {member} stopped unexpectedly");
    Error::new(ErrorKind::Interrupted, what)
        .hint("the server was unlocked at once, so that writes go on; another attempt copies it again")
}

impl Locked {
    /// How long it has been locked.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Lets the server go, and returns how long it was locked.
    ///
    /// Errors: `Interrupted` when it was not locked all the time, so that what was read meanwhile cannot be trusted.
    pub async fn unlock(self) -> Result<Duration> {
        let Self { since, unlock, outcome, .. } = self;
        drop(unlock);
        let done = outcome.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "unlocking broke off")));
        done.map(|()| since.elapsed())
    }
}
