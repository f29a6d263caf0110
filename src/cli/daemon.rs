//! `mongokeep daemon`: the process that runs jobs.

use clap::{ArgMatches, Command};

use super::args::{given, switch};
use super::context::{Context, blocking};
use super::table::Pairs;
use super::tree::group;
use crate::client::{Client, DaemonStatus};
use crate::domain::schedule::Schedule;
use crate::error::{Error, Result};

pub fn command() -> Command {
    group("daemon", "The process that runs jobs; it is started when needed")
        .subcommand(
            Command::new("run")
                .about("Run in the foreground, for systemd")
                .arg(switch("background", "as it is started when needed: ends when idle").hide(true)),
        )
        .subcommand(Command::new("status").about("Say whether it runs"))
        .subcommand(Command::new("stop").about("End it; returns when it is gone"))
}

/// Runs the daemon until it is told to end.
pub async fn foreground(context: &Context, matches: &ArgMatches) -> Result<u8> {
    if context.read_only {
        return Err(Error::invalid("read-only", "a daemon writes to the store"));
    }
    let background = matches.subcommand_matches("run").is_some_and(|run| given(run, "background"));
    crate::daemon::run(&context.home, background).await?;
    if context.out.json {
        context.out.json_value(&DaemonStatus::default(), true)?;
    }
    Ok(0)
}

pub async fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let client = context.client()?;
    if matches.subcommand_name() == Some("stop") {
        blocking(&client, Client::stop_daemon).await?;
    }
    let status = blocking(&client, Client::daemon_status).await?;
    let mut schedules = client.schedules()?;
    schedules.retain(|s| s.enabled);
    context.out.result(&status, || text(context, &status, &schedules))?;
    Ok(0)
}

fn text(context: &Context, status: &DaemonStatus, on: &[Schedule]) -> String {
    if !status.running {
        return match on.len() {
            0 => "no daemon runs; it is started when there is something to do\n".into(),
            1 => format!("no daemon runs, although schedule {} is on; start it: mongokeep daemon run\n", on[0].name),
            n => format!("no daemon runs, although {n} schedules are on; start it: mongokeep daemon run\n"),
        };
    }
    let next = on.iter().filter_map(|s| Some((s.next_at?, &s.name))).min();
    let next = match next {
        Some((at, name)) => format!("{} ({name})", context.out.time(at)),
        None => "none".to_owned(),
    };
    Pairs::new()
        .add("daemon", "running")
        .some("pid", status.pid.map(|pid| pid.to_string()))
        .some("version", status.version.clone())
        .some("started", status.started_at.map(|at| context.out.time(at)))
        .some("jobs running", status.jobs_running.map(|n| n.to_string()))
        .add("schedules on", on.len().to_string())
        .add("next run", next)
        .render()
}
