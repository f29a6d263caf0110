//! Runs the program `pbm` for one service.
//!
//! The connection string goes to it by its environment, never by its arguments, which every user of the host can read. What
//! it answers is bounded in time and in size. That it ended well is never concluded from its exit code.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::failure::Refusal;
use super::locks::{Lock, Locks};
use super::output::{Answer, Output};
use super::redact::Redactor;
use super::version::PbmVersion;
use crate::domain::command_line;
use crate::domain::secret::Secret;
use crate::domain::text::escape;
use crate::engine::blocking::blocking;
use crate::error::{Error, ErrorKind, Result, io};

/// How long a question may take: PBM waits 30 s for a server, and asks every replica set.
pub const ASK_LIMIT: Duration = Duration::from_secs(120);
/// How long PBM may take to begin an operation, for which it waits until every replica set takes part.
pub const START_LIMIT: Duration = Duration::from_secs(300);
/// The largest answer that is read, in bytes.
pub const OUTPUT_LIMIT: u64 = 64 << 20;
/// Of what it writes to its standard error.
const ERROR_LIMIT: u64 = 64 << 10;
/// Above this an answer is parsed beside the runtime.
const PARSED_AT_ONCE: usize = 256 << 10;
const PROGRAM: &str = "pbm";
const URI_VARIABLE: &str = "PBM_MONGODB_URI";

/// The program, and the service that it is asked about.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    service: String,
    uri: Secret,
    redactor: Redactor,
    output_limit: u64,
    locks: Option<Locks>,
}

/// What `pbm` answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Answer(Answer),
    Refused(Refusal),
}

impl Program {
    pub fn new(path: &Path, service: &str, uri: &Secret) -> Self {
        Self {
            path: path.to_owned(),
            service: service.to_owned(),
            uri: uri.clone(),
            redactor: Redactor::new(uri),
            output_limit: OUTPUT_LIMIT,
            locks: None,
        }
    }

    /// The same, which also reads PBM's locks from the servers of the service.
    #[must_use]
    pub fn reading_locks(mut self) -> Self {
        self.locks = Some(Locks::new(&self.service, &self.uri));
        self
    }

    /// The locks that there are; `None` when they cannot be read: then only `pbm` says what it is at.
    pub async fn locks(&self, cancel: &CancellationToken) -> Option<Vec<Lock>> {
        match &self.locks {
            None => None,
            Some(locks) => locks.read(cancel).await.ok(),
        }
    }

    /// The same, which also hides `secret` in what `pbm` says.
    #[must_use]
    pub fn hiding(mut self, secret: Secret) -> Self {
        self.redactor.add(secret);
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn service(&self) -> &str {
        &self.service
    }

    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Asks `pbm ARGUMENTS -o json`.
    ///
    /// Errors: what kept it from answering (no such program, time limit, too much output, an answer that is damaged), and
    /// `Cancelled`, after which the program is ended. What PBM refuses is a reply.
    pub async fn ask(&self, arguments: &[&str], limit: Duration, cancel: &CancellationToken) -> Result<Reply> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        let ended = self.run(&all, limit, cancel).await?;
        let output = match ended.stdout.len() {
            0..=PARSED_AT_ONCE => Output::of(&ended.stdout),
            _ => blocking("reading an answer of pbm", move || Ok(Output::of(&ended.stdout))).await?,
        };
        let said = self.redactor.shown(&String::from_utf8_lossy(&ended.stderr));
        match output {
            Output::Refusal(text) => Ok(Reply::Refused(Refusal::of(&self.redactor.shown(&text)))),
            // Warnings stand on the standard error too; an answer that is there counts, unless PBM itself says it failed.
            Output::Answer(answer) if ended.success || said.is_empty() => Ok(Reply::Answer(answer)),
            Output::Answer(_) => Ok(Reply::Refused(Refusal::of(&said))),
            Output::Damaged => {
                let what = format!("{}: its answer is cut off or damaged", self.named(arguments));
                Err(Error::new(ErrorKind::Transient, with_end(what, &said)))
            }
            Output::Text(_) if !said.is_empty() => Ok(Reply::Refused(Refusal::of(&said))),
            Output::Text(text) => {
                let what = format!("{}: it gave no JSON", self.named(arguments));
                Err(Error::new(ErrorKind::Failed, with_end(what, &self.redactor.shown(&text))))
            }
        }
    }

    /// The same, with what PBM refuses as an error.
    pub async fn call(&self, arguments: &[&str], limit: Duration, cancel: &CancellationToken) -> Result<Answer> {
        match self.ask(arguments, limit, cancel).await? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Refused(refusal) => Err(self.refused(arguments, &refusal)),
        }
    }

    /// The error of a refusal of `pbm ARGUMENTS`.
    pub fn refused(&self, arguments: &[&str], refusal: &Refusal) -> Error {
        refusal.error(&self.service, arguments.first().copied().unwrap_or_default())
    }

    /// Its version. Connects to nothing.
    ///
    /// Errors: `Unsupported` for one that is too old, naming both; `NotFound` without the program.
    pub async fn version(&self, cancel: &CancellationToken) -> Result<PbmVersion> {
        let ended = self.run(&["version", "-o", "json"], ASK_LIMIT, cancel).await?;
        let path = escape(&self.path.to_string_lossy());
        PbmVersion::of_output(&Output::of(&ended.stdout)).map_err(|e| e.context(path))
    }

    /// Whether `pbm COMMAND` takes `flag` (`--num-parallel-collections`): its own help says so. Connects to nothing.
    pub async fn offers(&self, command: &str, flag: &str, cancel: &CancellationToken) -> Result<bool> {
        let ended = self.run(&[command, "--help"], ASK_LIMIT, cancel).await?;
        let help = String::from_utf8_lossy(&ended.stdout);
        Ok(help.split(|c: char| c.is_whitespace() || ",=[]".contains(c)).any(|word| word == flag))
    }

    fn named(&self, arguments: &[&str]) -> String {
        format!("pbm {} of service {}", arguments.first().copied().unwrap_or_default(), self.service)
    }

    async fn run(&self, arguments: &[&str], limit: Duration, cancel: &CancellationToken) -> Result<Ended> {
        let mut child = self.spawn(arguments).await?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new(ErrorKind::Internal, "pbm was started without pipes"));
        };
        let work = async {
            let all = (read_to(stdout, self.output_limit), read_to(stderr, ERROR_LIMIT), child.wait());
            let (stdout, stderr, status) = tokio::join!(all.0, all.1, all.2);
            Ok::<_, std::io::Error>((stdout?, stderr?, status?))
        };
        let ended = tokio::select! {
            ended = timeout(limit, work) => ended,
            () = cancel.cancelled() => return Err(Error::cancelled()),
        };
        let Ok(ended) = ended else {
            let what = format!("{} did not end within {} s", self.named(arguments), limit.as_secs());
            return Err(Error::new(ErrorKind::Unreachable, what));
        };
        let ((stdout, too_much), (stderr, _), status) = ended.map_err(|e| io(self.named(arguments), e))?;
        if too_much {
            let what = format!("{} answered with more than {} MiB", self.named(arguments), self.output_limit >> 20);
            return Err(Error::new(ErrorKind::Failed, what));
        }
        Ok(Ended { stdout, stderr, success: status.success() })
    }

    /// Starts it in a process group of its own: a Ctrl-C in the terminal of the daemon is none for PBM.
    async fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = Command::new(&self.path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).process_group(0).current_dir("/");
        for of_the_daemon in command_line::OF_THE_SERVICE_MANAGER {
            command.env_remove(of_the_daemon);
        }
        // Settings of PBM that somebody exported would change what it does.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PBM_")) {
            command.env_remove(name);
        }
        // With it PBM cannot open any S3 storage: it gives the SDK a client that takes no certificates (seen with 2.15.0).
        command.env_remove("AWS_CA_BUNDLE");
        command.env(URI_VARIABLE, self.uri.expose());
        let mut attempts = 0;
        loop {
            match command.spawn() {
                Ok(child) => return Ok(child),
                // It is being replaced by another version.
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy && attempts < 20 => {
                    attempts += 1;
                    sleep(Duration::from_millis(100)).await;
                }
                Err(e) => return Err(cannot_run(&self.path, e)),
            }
        }
    }
}

struct Ended {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    success: bool,
}

/// The first `limit` bytes, and whether there were more; the rest is read and dropped, so that the program can end.
async fn read_to(mut pipe: impl AsyncRead + Unpin, limit: u64) -> std::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    (&mut pipe).take(limit).read_to_end(&mut bytes).await?;
    let more = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok((bytes, more > 0))
}

fn with_end(what: String, said: &str) -> String {
    if said.is_empty() { what } else { format!("{what}: {said}") }
}

fn cannot_run(path: &Path, error: std::io::Error) -> Error {
    let shown = escape(&path.to_string_lossy());
    io(format!("running {shown}"), error).hint(WHERE_IT_IS)
}

const WHERE_IT_IS: &str = "install Percona Backup for MongoDB on the host of the daemon, and if pbm is not on its PATH: \
                           mongokeep settings set pbm.path /path/to/pbm";

/// The program: `given`, or what is called `pbm` in the folder `given`; without one the first `pbm` on the PATH.
///
/// Errors: `NotFound`, with how it is set.
pub async fn find(given: Option<&Path>) -> Result<PathBuf> {
    let given = given.map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    blocking("looking for pbm", move || {
        let missing = |what: String| Err(Error::new(ErrorKind::NotFound, what).hint(WHERE_IT_IS));
        match given {
            Some(given) => {
                let program = if given.is_dir() { given.join(PROGRAM) } else { given };
                let program = std::path::absolute(&program).map_err(|e| io("looking for pbm", e))?;
                match program.is_file() {
                    true => Ok(program),
                    false => missing(format!("there is no program {}", escape(&program.to_string_lossy()))),
                }
            }
            None => {
                let mut on_path = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
                let found = on_path.find_map(|folder| Some(folder.join(PROGRAM)).filter(|program| program.is_file()));
                found.map_or_else(|| missing("the program pbm is not on the PATH".to_owned()), Ok)
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests;
