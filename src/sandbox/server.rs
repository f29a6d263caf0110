//! One `mongod` process.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mongodb::bson::doc;
use mongodb::options::{ClientOptions, ServerAddress};
use tokio::process::{Child, Command};

use super::{Mongod, Scratch, driver};
use crate::error::{self, Error, ErrorKind, Result};

/// How long a server may take until it answers. Generous: a test machine may be busy.
const START_LIMIT: Duration = Duration::from_secs(240);
/// mongod's exit code when its port is taken.
const EXIT_NET: i32 = 48;
/// What mongod writes into its log once it has its port.
const HAS_ITS_PORT: &str = "Waiting for connections";
/// Ports that Linux, unless told otherwise, hands out neither to who asks for any nor to who connects: what is free among
/// them stays so while a server starts, and while one is stopped that comes back.
const PORTS: std::ops::Range<u16> = 10_240..32_768;
/// Those of a server that a person may have stopped for a while.
const OF_OTHERS: std::ops::RangeInclusive<u16> = 27_017..=27_020;

/// How to start a `mongod`; the default is a standalone with a small cache on a free port.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerOptions {
    /// Folder name below the scratch folder; an existing one is started from what it holds.
    pub name: String,
    /// `None`: a free one.
    pub port: Option<u16>,
    pub cache_gb: f64,
    /// Failpoints and commands that only tests use, such as `prepareTransaction`.
    pub test_commands: bool,
    /// Passed on as they are: `--replSet`, `--setParameter x=y`, ...
    pub args: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { name: "mongod".into(), port: None, cache_gb: 0.25, test_commands: false, args: Vec::new() }
    }
}

/// A running `mongod`. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
    dbpath: PathBuf,
    log: PathBuf,
    /// Bytes of the log that were there before this start.
    log_before: u64,
}

impl Server {
    /// Starts a server in `scratch` and returns when it answers.
    pub async fn start(mongod: &Mongod, scratch: &Scratch, options: &ServerOptions) -> Result<Self> {
        let mut attempt = 0;
        loop {
            let port = match options.port {
                Some(port) => port,
                None => free_port()?,
            };
            let mut server = Self::spawn(mongod, scratch, options, port)?;
            match server.wait_until_it_answers().await? {
                None => return Ok(server),
                // Somebody took the free port between our looking and mongod's binding.
                Some(status) if status.code() == Some(EXIT_NET) && options.port.is_none() && attempt < 5 => {
                    attempt += 1;
                }
                Some(status) => return Err(server.ended(status)),
            }
        }
    }

    fn spawn(mongod: &Mongod, scratch: &Scratch, options: &ServerOptions, port: u16) -> Result<Self> {
        let dbpath = scratch.path().join(&options.name);
        std::fs::create_dir_all(&dbpath).map_err(|e| error::io(format_args!("creating {}", dbpath.display()), e))?;
        let log = scratch.path().join(format!("{}.log", options.name));
        let log_before = log.metadata().map_or(0, |metadata| metadata.len());
        let mut command = Command::new(&mongod.path);
        command
            .args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet", "--logappend"])
            .arg("--port")
            .arg(port.to_string())
            .arg("--dbpath")
            .arg(&dbpath)
            .arg("--logpath")
            .arg(&log)
            .arg("--wiredTigerCacheSizeGB")
            .arg(options.cache_gb.to_string())
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
        if options.test_commands {
            command.args(["--setParameter", "enableTestCommands=1"]);
        }
        let child = command
            .args(&options.args)
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            // Its own group: a Ctrl-C in the terminal is for us, and we end it in order.
            .process_group(0)
            .spawn()
            .map_err(|e| error::io(format_args!("starting {}", mongod.path.display()), e))?;
        if let Some(pid) = child.id() {
            scratch.register(pid)?;
        }
        Ok(Self { child, port, dbpath, log, log_before })
    }

    /// `None` when it answers, its exit status when it ended instead.
    async fn wait_until_it_answers(&mut self) -> Result<Option<ExitStatus>> {
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().map_err(|e| error::io("waiting for mongod", e))? {
                return Ok(Some(status));
            }
            // Who answers before that is somebody else, on the same port: ours has not tried to take it yet.
            if self.has_its_port() {
                let client = self.client()?;
                let ping = tokio::spawn(async move { client.database("admin").run_command(doc! {"ping": 1}).await });
                if matches!(ping.await, Ok(Ok(_))) {
                    return self.child.try_wait().map_err(|e| error::io("waiting for mongod", e));
                }
            }
            if tokio::time::Instant::now() > deadline {
                return Err(Error::new(
                    ErrorKind::Failed,
                    format!("mongod did not answer within {} s: {}", START_LIMIT.as_secs(), self.log_end()),
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn has_its_port(&self) -> bool {
        let mut text = Vec::new();
        let read = std::fs::File::open(&self.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.log_before))?;
            log.read_to_end(&mut text)
        });
        read.is_ok() && text.windows(HAS_ITS_PORT.len()).any(|part| part == HAS_ITS_PORT.as_bytes())
    }

    fn ended(&self, status: ExitStatus) -> Error {
        Error::new(ErrorKind::Failed, format!("mongod ended at its start ({status}): {}", self.log_end()))
    }

    /// The last errors of its log, for messages.
    fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> =
            text.lines().filter(|l| l.contains("\"s\":\"E\"") || l.contains("\"s\":\"F\"")).collect();
        lines[lines.len().saturating_sub(3)..].join(" ")
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connects to this server and no other, without credentials.
    pub fn uri(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address())
    }

    /// A client of this server and no other, without credentials.
    pub fn client(&self) -> Result<mongodb::Client> {
        let mut options = ClientOptions::default();
        options.hosts = vec![ServerAddress::Tcp { host: "127.0.0.1".into(), port: Some(self.port) }];
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(Duration::from_secs(30));
        mongodb::Client::with_options(options).map_err(|e| driver("making a client", e))
    }

    pub fn dbpath(&self) -> &Path {
        &self.dbpath
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to shut down in order (`SIGTERM`) and returns when it has ended.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(|e| error::io("stopping mongod", e.into()))?;
        }
        match tokio::time::timeout(START_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(Error::new(ErrorKind::Failed, format!("mongod ended with {status}: {}", self.log_end())))
            }
            Ok(Err(e)) => Err(error::io("stopping mongod", e)),
            Err(_) => {
                Err(Error::new(ErrorKind::Failed, format!("mongod did not stop within {} s", START_LIMIT.as_secs())))
            }
        }
    }

    /// Kills it (`SIGKILL`) and returns when it has ended.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.map_err(|e| error::io("killing mongod", e))
    }
}

/// A port of 127.0.0.1 that nobody listens on now, and that the system gives to nobody.
///
/// Errors: `Failed` where none of many is free.
pub fn free_port() -> Result<u16> {
    let mut last = None;
    for _ in 0..100 {
        let mut random = [0; 2];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::new(ErrorKind::Failed, "no random bytes"))?;
        let port = PORTS.start + u16::from_ne_bytes(random) % (PORTS.end - PORTS.start);
        if OF_OTHERS.contains(&port) {
            continue;
        }
        match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(e) => last = Some(e),
        }
    }
    Err(last.map_or_else(|| Error::new(ErrorKind::Failed, "no free port"), |e| error::io("looking for a free port", e)))
}
