//! A server that works on a copied folder: started on a socket that only this user reaches, stopped in order.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mongodb::bson::doc;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::local_member::FolderOptions;
use super::mongod::Mongod;
use crate::domain::secret::Secret;
use crate::domain::text::escape;
use crate::error::{Error, ErrorKind, Result, io};
use crate::mongo::Server;

/// A checkpoint of everything may take its time.
const STOP_LIMIT: Duration = Duration::from_secs(1800);
/// How long an answer may take. The driver gives up all connections of a server that does not answer its own questions in this
/// time, and one that puts megabytes into its oplog on a busy machine takes some seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A server that is asked too early costs nothing but the question.
const START_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Of a cache in gigabytes: other servers run on this host.
const CACHE_GB: &str = "1";
/// The longest path of a socket, less what the system adds.
const LONGEST_SOCKET: usize = 100;

/// A running server. Dropping it kills it.
pub struct RecoveryServer {
    child: Child,
    server: Server,
    log: PathBuf,
    /// Its socket and log go with it.
    _folder: TempDir,
}

impl RecoveryServer {
    /// Starts `mongod` on `data`, with `parameters` (`name=value`), and returns when it answers: when it has recovered.
    ///
    /// Errors: `Failed` with the last errors of its log; `Cancelled`, after which it is gone.
    pub async fn start(
        mongod: &Mongod,
        data: &Path,
        options: &FolderOptions,
        parameters: &[&str],
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let folder = socket_folder()?;
        let (socket, log) = (folder.path().join("mongod.sock"), folder.path().join("mongod.log"));
        let mut command = Command::new(&mongod.path);
        command.arg("--dbpath").arg(data).arg("--logpath").arg(&log).arg("--bind_ip").arg(&socket);
        command.arg("--unixSocketPrefix").arg(folder.path());
        command.args(["--wiredTigerCacheSizeGB", CACHE_GB]);
        // Nothing of the data may change by itself meanwhile.
        let quiet = ["disableLogicalSessionCacheRefresh=true", "ttlMonitorEnabled=false"];
        for parameter in quiet.iter().chain(parameters) {
            command.args(["--setParameter", parameter]);
        }
        if options.directory_per_db {
            command.arg("--directoryperdb");
        }
        if options.directory_for_indexes {
            command.arg("--wiredTigerDirectoryForIndexes");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
        let shown = escape(&mongod.path.to_string_lossy());
        let mut child = command.spawn().map_err(|e| io(format_args!("starting {shown}"), e))?;
        let uri = Secret::new(format!("mongodb://{}/?directConnection=true", encoded(&socket.to_string_lossy())));
        let server = loop {
            if let Some(status) = child.try_wait().map_err(|e| io(format_args!("waiting for {shown}"), e))? {
                return Err(ended(mongod, status, &log));
            }
            if cancel.is_cancelled() {
                let _ = child.kill().await;
                return Err(Error::cancelled());
            }
            // A bare connection first: the driver waits half a second before it asks a server again that was not there yet.
            if UnixStream::connect(&socket).await.is_ok() {
                let connected = tokio::select! {
                    connected = Server::connect("the recovered copy", &uri, ANSWER_LIMIT) => connected,
                    // The next round says what became of it.
                    _ = child.wait() => continue,
                    () = cancel.cancelled() => continue,
                };
                if let Ok(server) = connected {
                    break server;
                }
            }
            tokio::time::sleep(START_POLL_INTERVAL).await;
        };
        Ok(Self { child, server, log, _folder: folder })
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Stops it in order, so that everything is in its files.
    ///
    /// Errors: `Failed` when it ends with anything but success.
    pub async fn stop(mut self, mongod: &Mongod, cancel: &CancellationToken) -> Result<()> {
        let admin = self.server.client().database("admin");
        // By force: an index whose build was not finished in the copy is being built, and goes on being built when the copy
        // is a primary. The connection ends with the server, which is no error.
        let asked = tokio::spawn(async move { admin.run_command(doc! {"shutdown": 1, "force": true}).await });
        let began = Instant::now();
        let status = loop {
            let waited = timeout(POLL_INTERVAL, self.child.wait()).await;
            if let Ok(status) = waited {
                break status.map_err(|e| io("waiting for the server to end", e))?;
            }
            if cancel.is_cancelled() || began.elapsed() > STOP_LIMIT {
                let _ = self.child.kill().await;
                let slow = Error::new(ErrorKind::Failed, "the server that recovers the copy does not end");
                return Err(if cancel.is_cancelled() { Error::cancelled() } else { slow });
            }
        };
        asked.abort();
        if status.success() { Ok(()) } else { Err(ended(mongod, status, &self.log)) }
    }
}

/// A folder that nobody else can look into, with a short name.
fn socket_folder() -> Result<TempDir> {
    let make = |below: &Path| tempfile::Builder::new().prefix("mongokeep-").tempdir_in(below);
    let temporary = std::env::temp_dir();
    let short = temporary.as_os_str().len() + "/mongokeep-123456/mongodb-27017.sock".len() < LONGEST_SOCKET;
    let folder = if short { make(&temporary) } else { make(Path::new("/tmp")) };
    folder.map_err(|e| io("making a folder for a socket", e))
}

/// A path as the host of a connection string.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    path.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

fn ended(mongod: &Mongod, status: ExitStatus, log: &Path) -> Error {
    let shown = escape(&mongod.path.to_string_lossy());
    let why = last_errors(log);
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Error::new(ErrorKind::Failed, format!("{shown} (MongoDB {}) ended with {status}{why}", mongod.version))
        .hint("is it of the version that the backup was made with, and is there room on the disk?")
}

/// What the log says was wrong, the last first; since 4.4 each of its lines is JSON.
fn last_errors(log: &Path) -> String {
    const MOST: usize = 3;
    const LAST_BYTES: u64 = 256 << 10;
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(LAST_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let said = text.lines().rev().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        if !["E", "F"].contains(&line.get("s")?.as_str()?) {
            return None;
        }
        let attr = line.get("attr").map(ToString::to_string).unwrap_or_default();
        let attr: String = attr.chars().take(300).collect();
        Some(escape(&format!("{} {attr}", line.get("msg")?.as_str()?)))
    });
    said.take(MOST).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_host() {
        assert_eq!(encoded("/tmp/mongokeep-a b/m.sock"), "%2Ftmp%2Fmongokeep-a%20b%2Fm.sock");
        assert!(socket_folder().unwrap().path().as_os_str().len() < LONGEST_SOCKET);
    }

    #[test]
    fn the_log_says_what_was_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let line = |s: &str, msg: &str| format!("{{\"s\":\"{s}\",\"msg\":\"{msg}\",\"attr\":{{\"error\":28}}}}\n");
        std::fs::write(&log, format!("{}{}not json\n", line("I", "fine"), line("F", "Fatal \\u001b[31m"))).unwrap();
        let said = last_errors(&log);
        assert!(said.starts_with("Fatal") && said.contains("28") && !said.contains('\u{1b}') && !said.contains("fine"));
        assert_eq!(last_errors(&dir.path().join("none")), "");
    }
}
