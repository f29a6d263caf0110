//! `mongokeep schedule`: backups by the clock.

use std::collections::BTreeSet;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;

use super::args::{edit_flags, flags, given, group, needed, nothing_to_change, one, positional, switch, values};
use super::context::Context;
use super::job;
use super::table::{Column, Pairs, Table};
use super::wait::{self, Daemon};
use crate::client::{Client, Values};
use crate::domain::cron::Cron;
use crate::domain::field::Field;
use crate::domain::fields::{SCHEDULE_DISABLED, SCHEDULE_FIELDS};
use crate::domain::job::JobState;
use crate::domain::retry::{RetryMode, RetryPolicy, format_duration};
use crate::domain::schedule::{LastRun, Schedule};
use crate::error::Result;

/// So many coming runs are looked at for overlaps.
const LOOK_AHEAD: usize = 40;

pub fn command() -> Command {
    let name = || positional("name", "NAME", "name of the schedule");
    let fields: Vec<Field> = fields();
    let new = Arg::new("new").value_name("NEW").help("its name [default: NAME-copy]");
    group("schedule", "Backups by the clock: add, list, switch, run, look ahead")
        .subcommand(
            Command::new("add")
                .about("Add a schedule; contacts neither server nor storage")
                .arg(name())
                .args(flags(&fields))
                .args(flags(SCHEDULE_DISABLED)),
        )
        .subcommand(Command::new("list").about("List the schedules"))
        .subcommand(Command::new("show").about("Show a schedule").arg(name()))
        .subcommand(
            Command::new("edit").about("Change what is given, keep the rest").arg(name()).args(edit_flags(&fields)),
        )
        .subcommand(Command::new("remove").about("Forget a schedule; its backups stay").arg(name()))
        .subcommand(Command::new("enable").about("Switch a schedule on; runs of the past are not made").arg(name()))
        .subcommand(Command::new("disable").about("Switch a schedule off").arg(name()))
        .subcommand(
            Command::new("copy")
                .about("Make a copy that is off")
                .arg(name())
                .arg(new.value_parser(NonEmptyStringValueParser::new())),
        )
        .subcommand(
            Command::new("run")
                .about("Queue a run now, whether the schedule is on or off")
                .arg(name())
                .arg(switch("wait", "until it is made; exit 1 if it fails")),
        )
        .subcommand(
            Command::new("next")
                .about("Print the next runs, also of a schedule that is off: overlaps, production hours")
                .arg(name())
                .arg(
                    Arg::new("count")
                        .long("count")
                        .value_name("N")
                        .help("how many")
                        .default_value("5")
                        .value_parser(value_parser!(u64).range(1..=10_000)),
                ),
        )
        .subcommand(
            Command::new("retention")
                .about("Show what retention would delete, and why each other backup stays; it runs after each run")
                .arg(name())
                .arg(switch("dry-run", "delete nothing").required(true)),
        )
}

/// The fields that are flags; the name is the argument.
fn fields() -> Vec<Field> {
    SCHEDULE_FIELDS.iter().filter(|f| f.key != "name").copied().collect()
}

pub async fn run_schedule(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let out = &context.out;
    let Some((verb, sub)) = matches.subcommand() else { return Ok(2) };
    let client = context.client()?;
    match verb {
        "next" => next(context, &client, sub)?,
        "retention" => return super::retention::run_retention(context, sub).await,
        "list" => {
            let schedules = client.schedules()?;
            let empty = "no schedule yet; add one: mongokeep schedule add NAME --service SERVICE --storage STORAGE \
                         --cron \"0 2 * * *\"";
            out.list(&schedules, || table(context, &schedules), empty)?;
            note_if_off(context, &client, &schedules)?;
        }
        "add" => {
            let mut values = values(sub, SCHEDULE_FIELDS, true, out)?;
            values.extend(super::args::values(sub, SCHEDULE_DISABLED, true, out)?);
            let schedule = client.call(move |c| c.add_schedule(&values)).await?;
            out.object(&schedule, || pairs(context, &schedule))?;
            if !schedule.enabled {
                out.note(&format!("added, switched off; mongokeep schedule enable {} switches it on", schedule.name));
            }
            note_if_off(context, &client, std::slice::from_ref(&schedule))?;
            warn_of_meetings(context, &client, &schedule)?;
        }
        "edit" => {
            let name = needed(sub, "name")?;
            let values = values(sub, &fields(), false, out)?;
            if values.is_empty() {
                return Err(nothing_to_change());
            }
            let schedule = client.edit_schedule(&name, &values)?;
            out.object(&schedule, || pairs(context, &schedule))?;
            note_if_off(context, &client, std::slice::from_ref(&schedule))?;
            warn_of_meetings(context, &client, &schedule)?;
        }
        "show" => {
            let schedule = client.schedule(&needed(sub, "name")?)?;
            out.object(&schedule, || pairs(context, &schedule))?;
            note_if_off(context, &client, std::slice::from_ref(&schedule))?;
        }
        "remove" => {
            let name = needed(sub, "name")?;
            client.remove_schedule(&name)?;
            out.result(&json!({"removed": name}), || format!("schedule {name} removed; its backups and jobs stay\n"))?;
        }
        "enable" | "disable" => {
            let (name, on) = (needed(sub, "name")?, verb == "enable");
            let schedule = client.call(move |c| c.enable_schedule(&name, on)).await?;
            out.object(&schedule, || pairs(context, &schedule))?;
            note_if_off(context, &client, std::slice::from_ref(&schedule))?;
            if on {
                warn_of_meetings(context, &client, &schedule)?;
            }
        }
        "copy" => {
            let schedule = client.copy_schedule(&needed(sub, "name")?, one(sub, "new").as_deref())?;
            out.object(&schedule, || pairs(context, &schedule))?;
            out.note(&format!("the copy is off; mongokeep schedule enable {} switches it on", schedule.name));
        }
        _ => {
            let name = needed(sub, "name")?;
            let job = client.call(move |c| c.run_schedule(&name)).await?;
            if given(sub, "wait") {
                return wait::ended(context, &client, job, Daemon::Started).await;
            }
            return job::queued(context, job);
        }
    }
    Ok(0)
}

fn next(context: &Context, client: &Client, sub: &ArgMatches) -> Result<()> {
    let name = needed(sub, "name")?;
    let count = sub.get_one::<u64>("count").copied().unwrap_or(5);
    let runs = client.schedule_next(&name, usize::try_from(count).unwrap_or(usize::MAX))?;
    let schedule = client.schedule(&name)?;
    context.out.list(
        &runs,
        || {
            let mut table = Table::new([
                Column::new("AT"),
                Column::new("THERE"),
                Column::long("OVERLAPS"),
                Column::new("PRODUCTION HOURS"),
            ]);
            for run in &runs {
                table.row([
                    context.out.time(run.at),
                    run.local.clone(),
                    run.overlaps.join(", "),
                    if run.in_production_hours { "inside".into() } else { String::new() },
                ]);
            }
            table
        },
        &format!("schedule {name} has no run before the year 2100"),
    )?;
    if !schedule.enabled {
        context.out.note(&format!("it is off; mongokeep schedule enable {name} switches it on"));
    }
    note_if_off(context, client, std::slice::from_ref(&schedule))
}

/// Warns of coming runs that meet others of the service or lie in its production hours, with the nearest free time.
fn warn_of_meetings(context: &Context, client: &Client, schedule: &Schedule) -> Result<()> {
    let runs = client.schedule_next(&schedule.name, LOOK_AHEAD)?;
    let others: BTreeSet<&String> = runs.iter().flat_map(|run| &run.overlaps).collect();
    let meeting = runs.iter().filter(|run| !run.overlaps.is_empty()).count();
    let inside = runs.iter().filter(|run| run.in_production_hours).count();
    let of = |some: usize, all: usize| {
        if some == all { format!("all of the next {all} runs") } else { format!("{some} of the next {all} runs") }
    };
    let mut found = Vec::new();
    if meeting > 0 {
        let names: Vec<&str> = others.into_iter().map(String::as_str).collect();
        found.push(format!("{} overlap {}", of(meeting, runs.len()), names.join(", ")));
    }
    if inside > 0 {
        found.push(format!("{} lie in production hours", of(inside, runs.len())));
    }
    if found.is_empty() {
        return Ok(());
    }
    let draft = Values::from([("name".to_owned(), vec![schedule.name.clone()])]);
    if let Some(slot) = client.nearest_free_slot(&draft)?.filter(|slot| slot.moved_minutes != 0) {
        found.push(format!("the nearest free time is {:?} ({})", slot.cron, slot.words));
    }
    context.out.warn(&found.join("; "));
    Ok(())
}

/// Says why nothing will run although a schedule is on.
fn note_if_off(context: &Context, client: &Client, schedules: &[Schedule]) -> Result<()> {
    if schedules.iter().all(|s| !s.enabled) {
        return Ok(());
    }
    if client.setting("backup.enabled")? == "false" {
        context.out.warn("backup management is off, so no schedule runs; mongokeep settings set backup.enabled true");
    } else if !client.daemon_status()?.running {
        context.out.warn("no daemon runs, so no schedule does; start it with mongokeep daemon run, or as a service");
    }
    Ok(())
}

fn state(s: &Schedule) -> String {
    match s.paused_by {
        Some(_) if s.enabled => "paused".into(),
        _ if s.enabled => "on".into(),
        _ => "off".into(),
    }
}

/// `every day at 02:00, Europe/Paris`.
fn when(s: &Schedule) -> String {
    let words = Cron::parse(&s.cron).map_or_else(|_| s.cron.clone(), |cron| cron.words());
    format!("{words}, {}", s.timezone)
}

fn last(context: &Context, last: &LastRun) -> String {
    let at = context.out.minute(Some(last.at));
    match last.state {
        JobState::Queued | JobState::Running | JobState::WaitingRetry => format!("{} since {at}", last.state.word()),
        _ => format!("{} {at}", last.state.word()),
    }
}

/// The schedules as a table; also on the page of a service.
pub fn table(context: &Context, schedules: &[Schedule]) -> Table {
    let mut table = Table::new([
        Column::new("NAME"),
        Column::new("STATE"),
        Column::long("SERVICE"),
        Column::long("STORAGE"),
        Column::long("WHEN"),
        Column::new("NEXT RUN"),
        Column::new("LAST RUN"),
        Column::long("KEEPS"),
    ]);
    for s in schedules {
        table.row([
            s.name.clone(),
            state(s),
            s.service.clone(),
            s.storage.clone(),
            when(s),
            context.out.minute(s.next_at),
            s.last.as_ref().map_or_else(String::new, |run| last(context, run)),
            s.retention.words(),
        ]);
    }
    table
}

fn pairs(context: &Context, s: &Schedule) -> Pairs {
    let out = &context.out;
    let namespaces = |patterns: &[crate::domain::namespace::Pattern]| {
        let texts: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        Some(texts.join(", ")).filter(|text| !text.is_empty())
    };
    let state = match s.paused_by {
        Some(job) if s.enabled => format!("paused while job {job} restores into {}", s.service),
        _ => state(s),
    };
    Pairs::new()
        .add("name", &s.name)
        .add("state", state)
        .add("service", &s.service)
        .add("storage", &s.storage)
        .add("folder", &s.folder)
        .add("model", s.model.word())
        .add("type", s.backup_type.word())
        .add("when", when(s))
        .add("cron", &s.cron)
        .add("starts", out.time(s.start))
        .add("next run", s.next_at.map_or_else(String::new, |at| out.time(at)))
        .add("last run", s.last.as_ref().map_or_else(String::new, |run| last(context, run)))
        .some("last backup", s.last.as_ref().and_then(|run| run.backup.clone()))
        .some("last error", s.last.as_ref().and_then(|run| run.error.clone()))
        .add("keeps", s.retention.words())
        .add("retry", retry(&s.retry))
        .add("compression", s.compression.map_or_else(|| "the setting backup.compression".into(), |c| c.to_string()))
        .some("include", namespaces(&s.selection.include))
        .some("exclude", namespaces(&s.selection.exclude))
        .add("added", out.time(s.created_at))
}

fn retry(policy: &RetryPolicy) -> String {
    match policy.mode {
        RetryMode::Manual => "manual".into(),
        RetryMode::Auto => format!("up to {} times, every {}", policy.retries, format_duration(policy.interval)),
    }
}
