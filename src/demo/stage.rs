//! What a demo needs around it: a replica set with data and a writer, and a home of its own that knows both.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use super::sample::{self, Part};
use super::writer::{Errors, Writer};
use crate::client::{Client, Values};
use crate::config::Home;
use crate::domain::text;
use crate::error::{Error, ErrorKind, Result};
use crate::sandbox::{Mongod, ReplicaSet, ReplicaSetOptions, Scratch, Step};

pub const SERVICE: &str = "demo";
pub const STORAGE: &str = "local";

/// Everything a demo started. [`Stage::strike`] ends it in order; a crash ends it too.
pub struct Stage {
    pub client: Client,
    /// A client of each of the replica sets.
    pub databases: Vec<mongodb::Client>,
    pub sets: Vec<ReplicaSet>,
    scratch: Scratch,
}

impl Stage {
    /// Fetches what is missing, starts and fills a replica set, and registers it. Says on standard error what takes long.
    pub async fn build() -> Result<Self> {
        let mongod = Mongod::find(&show_step).await?;
        end_line();
        say(&format!("MongoDB {} ({})", mongod.version, mongod.path.display()));
        let start = Instant::now();
        let set = ReplicaSet::start(&mongod, ReplicaSetOptions::default()).await?;
        let database = set.client().await?;
        sample::fill(&database, &mongod.version).await?;
        say(&format!("a replica set with sample data, ready in {:.1} s", start.elapsed().as_secs_f64()));

        let stage = Self::around(vec![set], vec![database])?;
        let client = &stage.client;
        client.add_service(&values([("name", SERVICE), ("uri", &stage.sets[0].uri()), ("cluster", "demo")]))?;
        let folder = stage.folder("backups").display().to_string();
        client.add_storage(&values([("name", STORAGE), ("type", "filesystem"), ("path", &folder)]))?;
        Ok(stage)
    }

    /// The same with three replica sets, of which nothing is registered yet. The first one has an oplog that soon rolls
    /// over.
    pub async fn build_three() -> Result<Self> {
        let mongod = Mongod::find(&show_step).await?;
        end_line();
        say(&format!("MongoDB {} ({})", mongod.version, mongod.path.display()));
        let start = Instant::now();
        let options = |name: &str| ReplicaSetOptions { name: name.to_owned(), ..ReplicaSetOptions::default() };
        let small = ReplicaSetOptions {
            oplog_mb: 1,
            // Nothing is cut off an oplog before a checkpoint no longer needs it.
            args: vec!["--syncdelay".into(), "1".into()],
            ..options("orders")
        };
        let started = async |options: ReplicaSetOptions, part: Part| {
            let set = ReplicaSet::start(&mongod, options).await?;
            let database = set.client().await?;
            sample::fill_part(&database, &mongod.version, part).await?;
            Ok::<_, Error>((set, database))
        };
        let (orders, media, reports) = tokio::try_join!(
            started(small, Part::Shop),
            started(options("media"), Part::Files),
            started(options("reports"), Part::Metrics)
        )?;
        say(&format!("three replica sets with sample data, ready in {:.1} s", start.elapsed().as_secs_f64()));
        let (sets, databases) = [orders, media, reports].into_iter().unzip();
        Self::around(sets, databases)
    }

    /// A home of its own, which knows nothing yet.
    fn around(sets: Vec<ReplicaSet>, databases: Vec<mongodb::Client>) -> Result<Self> {
        // Apart from the servers' folder: the home and the backups are what a user would have.
        let scratch = Scratch::new()?;
        let home = Home::below(&scratch.path().join("home"));
        Ok(Self { client: Client::open(&home, false)?, databases, sets, scratch })
    }

    /// A folder of this demo, which goes with it.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn start_writer(&self, errors: Errors) -> Writer {
        Writer::start(&self.databases[0], errors)
    }

    /// Starts the daemon of this home, which ends with us, however we end.
    pub async fn start_daemon(&self) -> Result<()> {
        let client = self.client.clone();
        let status = tokio::task::spawn_blocking(move || client.ensure_daemon())
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "starting the daemon of the demo").source(e))??;
        status.pid.map_or(Ok(()), |pid| self.scratch.register(pid))
    }

    /// Stops and removes everything, and returns when it is gone.
    pub async fn strike(self) -> Result<()> {
        let client = self.client.clone();
        let stopped = tokio::task::spawn_blocking(move || client.stop_daemon())
            .await
            .map_err(|e| Error::new(ErrorKind::Internal, "stopping the daemon of the demo").source(e))?;
        let mut outcome = stopped;
        for set in self.sets {
            outcome = outcome.and(set.stop().await);
        }
        outcome.and(self.scratch.remove().await)
    }
}

/// The texts of a form.
pub fn values<const N: usize>(pairs: [(&str, &str); N]) -> Values {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), vec![v.to_owned()])).collect::<BTreeMap<_, _>>()
}

/// A line for whoever waits.
pub fn say(line: &str) {
    eprintln!("{line}");
}

fn show_step(step: Step) {
    match step {
        Step::Waiting => say("waiting for another process that fetches mongod"),
        Step::Unpacking => {
            end_line();
            say("unpacking mongod");
        }
        Step::Fetching { done, total } if std::io::stderr().is_terminal() => {
            eprint!("\rfetching mongod, once: {} of about {}  ", text::bytes(done), text::bytes(total));
            let _ = std::io::stderr().flush();
        }
        Step::Fetching { done: 0, total } => say(&format!("fetching mongod, once: about {}", text::bytes(total))),
        Step::Fetching { .. } => {}
    }
}

fn end_line() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
