//! What a demo needs around it: a replica set with data and a writer, and a home of its own that knows both.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use super::sample;
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
    pub database: mongodb::Client,

    pub set: ReplicaSet,
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

        // Apart from the servers' folder: the home and the backups are what a user would have.
        let scratch = Scratch::new()?;
        let home = Home::below(&scratch.path().join("home"));
        let client = Client::open(&home, false)?;
        client.add_service(&values([("name", SERVICE), ("uri", &set.uri()), ("cluster", "demo")]))?;
        let folder = scratch.path().join("backups").display().to_string();
        client.add_storage(&values([("name", STORAGE), ("type", "filesystem"), ("path", &folder)]))?;
        Ok(Self { client, database, set, scratch })
    }

    pub fn start_writer(&self, errors: Errors) -> Writer {
        Writer::start(&self.database, errors)
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
        let set = self.set.stop().await;
        let scratch = self.scratch.remove().await;
        stopped.and(set).and(scratch)
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
