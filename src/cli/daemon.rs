//! `mongokeep daemon`: the process that runs jobs.

use clap::{ArgMatches, Command};
use serde_json::json;

use super::args::{given, group, switch};
use super::context::Context;
use super::table::Pairs;
use crate::client::{Client, DaemonStatus, ServiceView};
use crate::domain::clock;
use crate::domain::job::JobState;
use crate::domain::schedule::Schedule;
use crate::domain::text::{duration, escape};
use crate::domain::warning::WarningKind;
use crate::error::{Error, ErrorKind, Result};

pub fn command() -> Command {
    group("daemon", "The process that runs jobs; it is started when needed")
        .subcommand(
            Command::new("run")
                .about("Run in the foreground, for systemd")
                .arg(switch("background", "as it is started when needed: ends when idle").hide(true)),
        )
        .subcommand(
            Command::new("status").about("Say whether it runs, how old the last good backups are, and what is wrong"),
        )
        .subcommand(Command::new("stop").about("End it; returns when it is gone"))
}

/// Runs the daemon until it is told to end.
pub async fn foreground(context: &Context, matches: &ArgMatches) -> Result<u8> {
    if context.read_only {
        return Err(Error::invalid("read-only", "a daemon writes to the store"));
    }
    let background = matches.subcommand_matches("run").is_some_and(|run| given(run, "background"));
    crate::daemon::run_daemon(&context.home, background).await?;
    if context.out.json {
        context.out.json_value(&DaemonStatus::default(), true)?;
    }
    Ok(0)
}

pub async fn run_daemon(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let client = context.client()?;
    let stops = matches.subcommand_name() == Some("stop");
    if stops {
        client.call(Client::stop_daemon).await?;
    }
    let status = client.call(Client::daemon_status).await?;
    let mut schedules = client.schedules()?;
    schedules.retain(|s| s.enabled);
    let off = client.setting("backup.enabled").is_ok_and(|value| value == "false");
    if stops {
        // Of an engine whose work others do: nobody follows it before a daemon runs again.
        for job in client.jobs()?.iter().filter(|job| job.state == JobState::Running && !status.running) {
            context.out.warn(&format!("job {} is left to the next daemon: {}", job.id, job.phase));
        }
        context.out.result(&status, || {
            if status.running { text(context, &status, &schedules, off) } else { stopped(&schedules) }
        })?;
        return Ok(0);
    }
    let (services, warnings, recorded) = (client.services()?, client.warnings()?, client.pitr_status(None)?);
    let mut value =
        serde_json::to_value(&status).map_err(|e| Error::new(ErrorKind::Internal, "writing the status").source(e))?;
    // Without a daemon, scripts are promised this one key and no other.
    if let Some(object) = value.as_object_mut().filter(|_| status.running) {
        object.insert("services".into(), services.iter().map(last_good).collect());
        object.insert("warnings".into(), json!(warnings));
    }
    context.out.result(&value, || {
        let mut shown = text(context, &status, &schedules, off);
        let words: Vec<String> = services.iter().map(|s| format!("{}: {}", s.name, age(s))).collect();
        section(&mut shown, "last good backups", &words);
        // Of those that are no longer to be recorded, `pitr status` tells.
        let recorded = recorded.iter().filter(|s| !s.schedules.is_empty());
        let words: Vec<String> = recorded.map(|s| format!("{}: {}", s.service, super::pitr::line(s))).collect();
        section(&mut shown, "recorded oplogs", &words);
        // That no daemon runs is said above.
        let others = warnings.into_iter().filter(|w| w.kind != WarningKind::NoDaemon);
        let words: Vec<String> = others.map(|w| w.text).collect();
        section(&mut shown, "warnings", &words);
        shown
    })?;
    Ok(0)
}

fn section(shown: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    shown.push_str(&format!("\n{title}\n"));
    for line in lines {
        shown.push_str(&format!("  {}\n", escape(line)));
    }
}

fn seconds_ago(service: &ServiceView) -> Option<u64> {
    let at = service.last_good_backup_at?;
    Some(u64::try_from((clock::now() - at).num_seconds()).unwrap_or(0))
}

fn last_good(service: &ServiceView) -> serde_json::Value {
    json!({
        "service": service.name,
        "last_good_backup_at": service.last_good_backup_at,
        "age_seconds": seconds_ago(service),
    })
}

fn age(service: &ServiceView) -> String {
    seconds_ago(service).map_or_else(|| "none".to_owned(), |seconds| format!("{} ago", duration(seconds)))
}

/// After a stop: what does not happen until a daemon runs again.
fn stopped(on: &[Schedule]) -> String {
    let which = match on {
        [] => return "no daemon runs\n".into(),
        [one] => format!("schedule {} does nothing", one.name),
        many => format!("{} schedules do nothing", many.len()),
    };
    format!("no daemon runs: {which} until it runs again (mongokeep daemon run)\n")
}

fn text(context: &Context, status: &DaemonStatus, on: &[Schedule], off: bool) -> String {
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
        None if off => "none: backup management is off (backup.enabled = false)".to_owned(),
        None => "none".to_owned(),
    };
    Pairs::new()
        .add("daemon", "running")
        .some("pid", status.pid.map(|pid| pid.to_string()))
        .some("version", status.version.clone())
        .some("started", status.started_at.map(|at| context.out.time(at)))
        .some(
            "answers",
            status.silent_since.map(|at| format!("no, since {}: mongokeep daemon stop ends it", context.out.time(at))),
        )
        .some("jobs running", status.jobs_running.map(|n| n.to_string()))
        .add("schedules on", on.len().to_string())
        .add("next run", next)
        .render()
}
