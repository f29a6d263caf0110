//! The main job on a throw-away replica set: to look at, or as one command that proves it.
//!
//! It uses the client and the daemon as a user does, in a home of its own, and removes everything it started. It must
//! never touch the user's own home, services or storages.

mod compare;
mod driver_error;
mod headless;
mod sample;
mod stage;
mod writer;

use std::time::Duration;

use crate::client::Client;
use crate::domain::job::JobKind;
use crate::error::{Error, ErrorKind, Result};
use stage::Stage;
use writer::Errors;

/// What `mongokeep demo` was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Without a terminal: do the main job, print a summary, and say with the exit code whether all agreed.
    pub headless: bool,
    /// The summary as JSON.
    pub json: bool,
}

/// Runs the demo; `Ok` holds the exit code.
pub async fn run_demo(options: Options) -> Result<u8> {
    let work = async {
        let stage = Stage::build().await?;
        let result = if options.headless { headless(&stage, options.json).await } else { screen(&stage).await };
        let struck = stage.strike().await;
        result.and_then(|code| struck.map(|()| code))
    };
    if !options.headless {
        // The screen reads Ctrl-C as a key.
        return work.await;
    }
    tokio::select! {
        result = work => result,
        // Dropping the stage kills and removes everything that was started.
        _ = tokio::signal::ctrl_c() => Err(Error::cancelled()),
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

async fn screen(stage: &Stage) -> Result<u8> {
    // Whoever tries things out may well restore over what the writer writes to.
    let writer = stage.start_writer(Errors::GoOn);
    let aside = tokio::spawn(stand_aside(stage.client.clone(), writer.pause()));
    stage.start_daemon().await?;
    let shown = crate::tui::run_screen(stage.client.clone(), crate::tui::Options::default()).await;
    aside.abort();
    shown?;
    stage::say("removing the servers, the backups and the home of the demo");
    writer.stop().await?;
    Ok(0)
}
