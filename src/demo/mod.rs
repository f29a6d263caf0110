//! The main job on a throw-away replica set: to look at, or as one command that proves it.
//!
//! It uses the client and the daemon as a user does, in a home of its own, and removes everything it started. It must
//! never touch the user's own home, services or storages.

mod compare;
mod driver_error;
mod headless;
mod living;
mod past;
mod sample;
mod stage;
mod time_machine;
mod writer;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;
use crate::domain::job::JobKind;
use crate::error::{Error, ErrorKind, Result};
use stage::Stage;
use writer::{Errors, Writer};

/// What `mongokeep demo` was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Without a terminal: do the main job, print a summary, and say with the exit code whether all agreed.
    pub headless: bool,
    /// The summary as JSON.
    pub json: bool,
    /// One service of which nothing was ever backed up, instead of a working installation.
    pub empty: bool,
}

/// Runs the demo; `Ok` holds the exit code.
pub async fn run_demo(options: Options) -> Result<u8> {
    let work = async {
        let is_living = !options.headless && !options.empty;
        let stage = if is_living { Stage::build_three().await? } else { Stage::build().await? };
        let result = match options {
            Options { headless: true, json, .. } => headless(&stage, json).await,
            Options { empty: true, .. } => empty_screen(&stage).await,
            _ => living::living_screen(&stage).await,
        };
        let struck = stage.strike().await;
        result.and_then(|code| struck.map(|()| code))
    };
    if !options.headless {
        // The screen reads Ctrl-C as a key.
        return work.await;
    }
    // Listens before anything is started.
    let mut ctrl_c = signal(SignalKind::interrupt()).map_err(|e| crate::error::io("listening for signals", e))?;
    tokio::select! {
        result = work => result,
        // Dropping the stage kills and removes everything that was started.
        _ = ctrl_c.recv() => Err(Error::cancelled()),
    }
}

async fn headless(stage: &Stage, json: bool) -> Result<u8> {
    let summary = headless::prove(stage).await?;
    if json {
        let text = serde_json::to_string_pretty(&summary)
            .map_err(|e| Error::new(ErrorKind::Internal, "writing the summary").source(e))?;
        println!("{text}");
    } else {
        print!("{}", summary.to_text());
    }
    Ok(u8::from(!summary.agreed))
}

/// Applications are stopped before a restore goes over what they write to: so is the writer.
async fn stand_aside(client: Client, pause: impl Fn(bool)) {
    let mut seen = None;
    loop {
        let (of, before) = (client.clone(), seen);
        let looked = tokio::task::spawn_blocking(move || {
            let now = of.data_version()?;
            let jobs = if before == Some(now) { None } else { Some(of.jobs()?) };
            Ok::<_, Error>((now, jobs))
        });
        if let Ok(Ok((now, jobs))) = looked.await {
            seen = Some(now);
            if let Some(jobs) = jobs {
                pause(jobs.iter().any(|job| job.kind == JobKind::Restore && !job.state.is_finished()));
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn empty_screen(stage: &Stage) -> Result<u8> {
    // Whoever tries things out may well restore over what the writer writes to.
    let writer = stage.start_writer(Errors::GoOn);
    stage.start_daemon().await?;
    show(stage, writer, crate::tui::Options::default()).await
}

/// Opens the screen, and has the writer end after it.
async fn show(stage: &Stage, writer: Writer, options: crate::tui::Options) -> Result<u8> {
    let aside = tokio::spawn(stand_aside(stage.client.clone(), writer.pause()));
    let options = crate::tui::Options { ends_daemon: true, ..options };
    let shown = crate::tui::run_screen(stage.client.clone(), options).await;
    aside.abort();
    shown?;
    stage::say("removing the servers, the backups and the home of the demo");
    writer.stop().await?;
    Ok(0)
}
