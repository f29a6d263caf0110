//! The process that locks a server, and lets it go whatever happens.
//!
//! `fsyncLock` outlives the connection that took it, and the program: were it taken by the daemon, a `kill -9` would leave
//! a server that accepts no write for ever. So a process of its own holds it, and does nothing else. It lets the lock go
//! when it is asked to, when its input ends (the daemon is gone), and when it hears nothing for [`PATIENCE`] (the daemon
//! hangs, or the copy does not get on). Then it tries until the server says that it is not locked.
//!
//! It must never end while the server may still be locked by it. Its input and output are lines of JSON: the connection
//! string is a secret, which no list of processes shows.

use std::io::Write;
use std::time::Duration;

use mongodb::bson::{Document, doc, oid::ObjectId};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::domain::secret::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::mongo::Server;
use crate::mongo::connect::CHECK_TIMEOUT;

/// The hidden command that runs this.
pub const COMMAND: &str = "lock-keeper";

/// The longest silence while the server is locked.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may take to answer that it is unlocked, before it is asked again over a new connection.
const UNLOCK_LIMIT: Duration = Duration::from_secs(3);
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// What the keeper is asked. Anything it hears also says that whoever asks is alive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// First, once.
    Connect {
        service: String,
        uri: String,
        member: String,
    },
    Lock,
    Alive,
    Unlock,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    Connected,
    Locked,
    /// It was held to the end; `by_itself`: nobody asked for it to be let go.
    Unlocked {
        by_itself: bool,
    },
    /// Somebody else had let it go before: what was copied meanwhile may be torn.
    Lost {
        why: String,
    },
    /// Nothing is locked by the keeper.
    Failed {
        kind: Failure,
        message: String,
        hint: String,
    },
}

/// The kinds of failure that its reader tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    Conflict,
    Denied,
    Unreachable,
    Unsupported,
    Other,
}

impl Failure {
    fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Denied | ErrorKind::Unauthenticated => Self::Denied,
            ErrorKind::Unreachable | ErrorKind::Transient | ErrorKind::Interrupted => Self::Unreachable,
            ErrorKind::Unsupported => Self::Unsupported,
            _ => Self::Other,
        }
    }

    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Conflict => ErrorKind::Conflict,
            Self::Denied => ErrorKind::Denied,
            Self::Unreachable => ErrorKind::Unreachable,
            Self::Unsupported => ErrorKind::Unsupported,
            Self::Other => ErrorKind::Failed,
        }
    }
}

/// Runs the keeper until its work is done.
pub async fn keep() -> Result<()> {
    // Whoever ends this process politely wants the server unlocked; a terminal that closes does not end it.
    let failed = |e| crate::error::io("listening to signals", e);
    let mut ended = signal(SignalKind::terminate()).map_err(failed)?;
    let _ignored = [SignalKind::interrupt(), SignalKind::hangup(), SignalKind::pipe()].map(signal);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let Some(Ask::Connect { service, uri, member }) = next(&mut lines).await else { return Ok(()) };
    let never = CancellationToken::new();
    let connecting = async { Server::connect(&service, &Secret::new(uri), CHECK_TIMEOUT).await?.direct(&member).await };
    let server = match connecting.await {
        Ok(server) => server,
        Err(e) => return say_failed(&e),
    };
    say(&Answer::Connected);
    loop {
        let asked = tokio::select! {
            asked = next(&mut lines) => asked,
            _ = ended.recv() => None,
        };
        match asked {
            Some(Ask::Lock) => break,
            Some(_) => {}
            None => return Ok(()),
        }
    }
    if let Err(e) = must_be_free(&server, &never).await {
        return say_failed(&e);
    }
    let before = server.hello().process_id;
    // Without a limit: a lock that is granted after somebody gave up would be nobody's.
    let asked = tokio::spawn({
        let admin = server.client().database("admin");
        async move { admin.run_command(doc! {"fsync": 1, "lock": true}).await }
    });
    match asked.await {
        Ok(Ok(reply)) => {
            let count = reply.get_i64("lockCount").or_else(|_| reply.get_i32("lockCount").map(i64::from)).unwrap_or(1);
            if count > 1 {
                unlock(&server, before).await;
                return say_failed(&locked_by_another(&server));
            }
        }
        Ok(Err(e)) => {
            // Of a connection that broke nobody knows whether the server is locked.
            let error = server.error("locking it against writes", &e);
            if Failure::of(error.kind()) == Failure::Unreachable {
                unlock(&server, before).await;
            }
            return say_failed(&error);
        }
        Err(_) => {
            unlock(&server, before).await;
            return Err(Error::new(ErrorKind::Internal, "locking broke off"));
        }
    }
    say(&Answer::Locked);
    let by_itself = !wait(&mut lines, &mut ended).await;
    say(&match unlock(&server, before).await {
        Released::Held => Answer::Unlocked { by_itself },
        Released::Lost(why) => Answer::Lost { why: why.to_owned() },
    });
    Ok(())
}

/// True when it was asked for, false when nobody is there who could ask.
async fn wait(lines: &mut Lines<BufReader<Stdin>>, ended: &mut Signal) -> bool {
    loop {
        let heard = tokio::select! {
            heard = timeout(PATIENCE, next(lines)) => heard,
            _ = ended.recv() => return false,
        };
        match heard {
            Ok(Some(Ask::Unlock)) => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

/// How a lock ended.
pub(super) enum Released {
    Held,
    Lost(&'static str),
}

/// Tries until the server is not locked by us any more. `before`: the server process that was locked.
pub(super) async fn unlock(server: &Server, before: Option<ObjectId>) -> Released {
    let mut server = server.clone();
    let mut unsure = false;
    loop {
        let began = Instant::now();
        let admin = server.client().database("admin");
        let asked = tokio::spawn(async move { admin.run_command(doc! {"fsyncUnlock": 1}).await });
        match timeout(UNLOCK_LIMIT, asked).await {
            Ok(Ok(Ok(_))) => return Released::Held,
            // "fsyncUnlock called when not locked": code 20, on old versions without one.
            Ok(Ok(Err(e))) if is_not_locked(&e) => {
                return if unsure { Released::Held } else { Released::Lost("somebody else unlocked the server") };
            }
            // The command may have arrived.
            _ => unsure = true,
        }
        tokio::time::sleep(RETRY_INTERVAL.saturating_sub(began.elapsed())).await;
        if let Ok(Ok(again)) = timeout(UNLOCK_LIMIT, server.again()).await {
            if before.is_some() && again.hello().process_id.is_some() && again.hello().process_id != before {
                return Released::Lost("the server was restarted");
            }
            if is_locked(&again, &CancellationToken::new()).await.is_ok_and(|locked| !locked) {
                return Released::Held;
            }
            server = again;
        }
    }
}

fn is_not_locked(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, mongodb::error::ErrorKind::Command(e) if e.message.contains("not locked"))
}

/// Whether the server is locked against writes, by anybody.
pub async fn is_locked(server: &Server, cancel: &CancellationToken) -> Result<bool> {
    let mut ask = Document::new();
    ask.extend(doc! {"currentOp": 1, "$ownOps": true});
    Ok(server.command(cancel, "admin", ask).await?.get_bool("fsyncLock").unwrap_or(false))
}

/// Errors: `Conflict` when somebody else has locked the server.
pub async fn must_be_free(server: &Server, cancel: &CancellationToken) -> Result<()> {
    if is_locked(server, cancel).await? { Err(locked_by_another(server)) } else { Ok(()) }
}

fn locked_by_another(server: &Server) -> Error {
    let what = format!(
        "service {}: {} is locked against writes already (fsyncLock), by somebody else or by a program that ended",
        server.service(),
        crate::domain::text::escape(server.hosts())
    );
    Error::new(ErrorKind::Conflict, what)
        .hint("if nobody needs it: db.fsyncUnlock() on that member, as often as it was locked; db.currentOp().fsyncLock shows it")
}

async fn next(lines: &mut Lines<BufReader<Stdin>>) -> Option<Ask> {
    let line = lines.next_line().await.ok()??;
    serde_json::from_str(&line).ok()
}

fn say(answer: &Answer) {
    // Nobody may listen any more.
    if let Ok(line) = serde_json::to_string(answer) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

fn say_failed(error: &Error) -> Result<()> {
    say(&Answer::Failed {
        kind: Failure::of(error.kind()),
        message: error.full(),
        hint: error.hint_text().unwrap_or_default().to_owned(),
    });
    Ok(())
}
