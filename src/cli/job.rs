//! `mongokeep job`: what was asked of the daemon, and how far it is.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::args::{given, group, switch};
use super::context::Context;
use super::job_result::attempts_from_one;
use super::table::{Column, Pairs, Table};
use super::wait::{self, Daemon};
use crate::client::Client;
use crate::domain::clock;
use crate::domain::job::{Job, JobState, LogLevel, LogLine};
use crate::domain::text::{bytes, count, duration, escape};
use crate::error::{Error, Result};

/// Lines read from a log at once.
const PAGE: usize = 500;
/// How often a log that is followed is looked at.
const FOLLOW: Duration = Duration::from_millis(250);

pub fn command() -> Command {
    let id = || {
        let parser = value_parser!(i64).range(1..);
        Arg::new("id").value_name("ID").help("number of the job").required(true).value_parser(parser)
    };
    group("job", "What was asked of the daemon, and how far it is")
        .subcommand(Command::new("list").about("List all jobs, the newest first"))
        .subcommand(Command::new("show").about("Show a job").arg(id()))
        .subcommand(
            Command::new("log").about("Print the log of a job").arg(id()).arg(switch("follow", "until the job ends")),
        )
        .subcommand(Command::new("cancel").about("End a job; what it wrote is removed").arg(id()))
        .subcommand(Command::new("retry").about("Queue a failed or cancelled job again").arg(id()))
        .subcommand(Command::new("wait").about("Wait until a job ends; exit 1 unless it succeeded").arg(id()))
}

pub async fn run_job(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let out = &context.out;
    let Some((verb, sub)) = matches.subcommand() else { return Ok(2) };
    let client = context.client()?;
    let id = || sub.get_one::<i64>("id").copied().ok_or_else(|| Error::invalid("id", "is needed"));
    match verb {
        "list" => {
            let jobs: Vec<Job> = client.jobs()?.into_iter().map(attempts_from_one).collect();
            out.list(&jobs, || table(context, &jobs), "no job yet; mongokeep backup create queues one")?;
        }
        "show" => {
            let job = client.job(id()?)?;
            let stands_still = !job.state.is_finished() && !client.daemon_runs()?;
            print(context, job)?;
            if stands_still {
                out.warn("no daemon runs, so it does not go on; mongokeep daemon run starts one");
            }
        }
        "log" => return log(context, &client, id()?, given(sub, "follow")).await,
        "cancel" => {
            let job = client.cancel_job(id()?)?;
            if !job.state.is_finished() {
                out.note(&format!("job {} ends within seconds", job.id));
            }
            print(context, job)?;
        }
        "retry" => {
            let id = id()?;
            print(context, client.call(move |c| c.retry_job(id)).await?)?;
        }
        _ => {
            let job = client.job(id()?)?;
            return wait::ended(context, &client, job, Daemon::LeftAlone).await;
        }
    }
    Ok(0)
}

/// Prints a job that goes on, or whose end is known already.
pub fn print(context: &Context, job: Job) -> Result<()> {
    let job = attempts_from_one(job);
    context.out.object(&job, || pairs(context, &job))
}

/// Prints a job that was just queued, and how to go on.
pub fn queued(context: &Context, job: Job) -> Result<u8> {
    let id = job.id;
    print(context, job)?;
    context.out.note(&format!("queued; mongokeep job wait {id} follows it"));
    Ok(0)
}

fn took(job: &Job) -> Option<String> {
    let began = job.started_at?;
    let seconds = (job.finished_at.unwrap_or_else(clock::now) - began).num_seconds();
    Some(duration(u64::try_from(seconds).unwrap_or(0)))
}

fn done(job: &Job) -> String {
    match job.progress.fraction() {
        Some(part) if job.state == JobState::Running => format!("{:.0} %", (part * 100.0).floor()),
        _ if job.progress.bytes_done > 0 => bytes(job.progress.bytes_done),
        _ => String::new(),
    }
}

fn table(context: &Context, jobs: &[Job]) -> Table {
    let mut table = Table::new([
        Column::right("ID"),
        Column::new("KIND"),
        Column::new("STATE"),
        Column::new("SERVICE"),
        Column::long("BACKUP"),
        Column::right("PROGRESS"),
        Column::new("CREATED"),
        Column::right("TOOK"),
        Column::long("MESSAGE"),
    ]);
    for job in jobs {
        let says = job
            .error
            .clone()
            .unwrap_or_else(|| if job.state.is_finished() { String::new() } else { job.phase.clone() });
        table.row([
            job.id.to_string(),
            job.kind.word().into(),
            job.state.word().into(),
            job.service.clone().unwrap_or_default(),
            // A run that was not made has no backup, and retention deletes several.
            job.backup
                .clone()
                .map(|base| match job.point_in_time {
                    Some(ts) => format!("as of {}, from {base}", context.out.second(ts.to_datetime())),
                    None => base,
                })
                .or_else(|| job.schedule.as_ref().map(|s| format!("schedule {s}")))
                .unwrap_or_default(),
            done(job),
            context.out.minute(Some(job.created_at)),
            took(job).unwrap_or_default(),
            says,
        ]);
    }
    table
}

fn pairs(context: &Context, job: &Job) -> Pairs {
    let out = &context.out;
    let p = &job.progress;
    let of = |done: u64, total: u64, text: fn(u64) -> String| match (done, total) {
        (0, 0) => None,
        (done, 0) => Some(text(done)),
        (done, total) => Some(format!("{} of {}", text(done), text(total))),
    };
    let state = if job.cancel_requested && !job.state.is_finished() {
        format!("{}, being cancelled", job.state.word())
    } else {
        job.state.word().to_owned()
    };
    Pairs::new()
        .add("job", job.id.to_string())
        .add("kind", job.kind.word())
        .add("state", state)
        .add("attempt", job.attempt.to_string())
        .some("service", job.service.clone())
        .some("storage", job.storage.clone())
        .some("backup", job.backup.clone())
        .some("as of", job.point_in_time.map(|ts| format!("{}, {}", out.time(ts.to_datetime()), ts.within_second())))
        .some("schedule", job.schedule.clone())
        .some("due", job.due_at.map(|at| out.time(at)))
        .some("phase", Some(job.phase.clone()).filter(|p| !p.is_empty() && !job.state.is_finished()))
        .some("bytes", of(p.bytes_done, p.bytes_total, bytes))
        .some("objects", of(p.objects_done, p.objects_total, count))
        .some("documents", of(p.documents_done, p.documents_total, count))
        .add("created", out.time(job.created_at))
        .some("started", job.started_at.map(|at| out.time(at)))
        .some("finished", job.finished_at.map(|at| out.time(at)))
        .some("next attempt", job.next_attempt_at.map(|at| out.time(at)))
        .some("took", took(job))
        .some("error", job.error.clone())
        .some("hint", job.hint.as_deref().map(|hint| out.commands(hint)))
}

async fn log(context: &Context, client: &Client, id: i64, follow: bool) -> Result<u8> {
    let out = &context.out;
    // Says that there is no such job before an empty log could be taken for an answer.
    client.job(id)?;
    let mut after = i64::MIN;
    let mut all = Vec::new();
    loop {
        // Asked before the lines: whatever is written before the end is then read below.
        let ended = client.job(id)?.state.is_finished();
        let lines = client.job_log(id, after, PAGE)?;
        let more = lines.len() == PAGE;
        after = lines.last().map_or(after, |line| line.seq);
        if follow || !out.json {
            for line in &lines {
                if out.json { out.json_value(line, false)? } else { super::output::stdout(&log_line(context, line))? }
            }
        } else {
            all.extend(lines);
        }
        if !more && (ended || !follow) {
            break;
        }
        if !more {
            tokio::time::sleep(FOLLOW).await;
        }
    }
    if out.json && !follow {
        out.json_value(&all, true)?;
    }
    Ok(0)
}

fn log_line(context: &Context, line: &LogLine) -> String {
    let level = match line.level {
        LogLevel::Info => "info ",
        LogLevel::Warn => "warn ",
        LogLevel::Error => "error",
    };
    let at = context.out.second(line.at);
    format!("{at}  attempt {}  {level}  {}\n", line.attempt.max(1), escape(&context.out.commands(&line.message)))
}
