//! `mongokeep storage check`: what a storage holds, compared with its manifests; and the repair, after a plan.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use super::args::{given, needed, positional, switch};
use super::context::Context;
use super::job_result::failure;
use super::output::Out;
use super::wait::{self, Daemon, Line};
use super::{output, plan};
use crate::client::Client;
use crate::domain::command_line::quoted;
use crate::domain::job::{Job, LogLevel};
use crate::domain::storage_check::{Finding, FindingKind, RepairPlan, StorageReport};
use crate::domain::text::{bytes, count, counted, escape};
use crate::engine::Meter;
use crate::error::{Error, ErrorKind, Result};

/// Findings of one kind that are shown to people; JSON has them all.
const SHOWN: usize = 20;
/// Messages that wait for the screen; more are dropped.
const MESSAGES: usize = 256;

pub fn command() -> Command {
    Command::new("check")
        .about("Compare every manifest with the objects, and find what can be cleaned up; reads no data")
        .arg(positional("name", "NAME", "name of the storage"))
        .arg(switch("repair", "remove what belongs to nothing; without --yes the plan is printed"))
        .arg(switch("dry-run", "with --repair: print the plan, change nothing, exit 0").requires("repair"))
        .arg(switch("yes", "with --repair: do what the plan says").requires("repair"))
}

pub async fn check(context: &Context, sub: &ArgMatches) -> Result<u8> {
    let (client, name) = (context.client()?, needed(sub, "name")?);
    let (repair, yes, dry) = (given(sub, "repair"), given(sub, "yes"), given(sub, "dry-run"));
    if repair && yes && !dry && client.is_read_only() {
        return Err(Error::new(ErrorKind::Denied, "nothing can be changed: --read-only")
            .hint("run it again without --read-only, or without --repair"));
    }
    let report = look(context, &client, &name).await?;
    if !repair {
        context.out.result(&report, || text(&context.out, &report))?;
        if report.removable.objects > 0 {
            let command = format!("mongokeep storage check {} --repair", quoted(&name));
            context.out.note(&format!("{command} prints what would be removed, and {command} --yes removes it"));
        }
        return Ok(u8::from(!report.ok));
    }
    if dry || !yes || report.plan.is_empty() {
        let value = with(&report, json!({"plan": report.plan}))?;
        context.out.result(&value, || text(&context.out, &report) + "\n" + &planned(&name, &report.plan))?;
        // With nothing to remove there is nothing to confirm.
        return match dry || report.plan.is_empty() {
            true => Ok(if dry { 0 } else { u8::from(!report.ok) }),
            false => Err(plan::not_confirmed(&context.typed, "nothing was removed")),
        };
    }
    let (of, plan) = (name.clone(), report.plan.clone());
    let job = client.call(move |c| c.repair_storage(&of, &plan)).await?;
    let job = wait::finished(context, &client, job, Daemon::Started).await?;
    let failed = failure(&job);
    let left = look(context, &client, &name).await?;
    done(context, &name, &left, &job)?;
    if let Some(error) = failed {
        // Its own exit code is that of a failed operation, whatever the job ended by.
        output::error(&error, &context.redactor, context.out.home.as_deref());
        return Ok(1);
    }
    Ok(u8::from(!left.ok))
}

/// Prints what is left, and what went.
fn done(context: &Context, name: &str, left: &StorageReport, job: &Job) -> Result<()> {
    let (objects, size) = (job.progress.objects_done, job.progress.bytes_done);
    let removed = json!({"objects": objects, "bytes": size});
    let value = with(left, json!({"removed": removed, "job": job}))?;
    context.out.result(&value, || {
        format!("removed {} from {name}, which frees {}\n\nleft:\n", counted(objects, "object"), bytes(size))
            + &text(&context.out, left)
    })
}

/// The report as JSON, with more in it.
fn with(report: &StorageReport, more: Value) -> Result<Value> {
    let failed = |e| Error::new(ErrorKind::Internal, "writing JSON").source(e);
    let mut value = serde_json::to_value(report).map_err(failed)?;
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    Ok(value)
}

/// Checks, with a line that says how far it is.
async fn look(context: &Context, client: &Client, name: &str) -> Result<StorageReport> {
    context.interrupted().leaves(format!("the check of storage {name} read only"), "nothing was changed");
    let (sender, messages) = sync_channel(MESSAGES);
    let meter = Arc::new(Meter::new(move |level, text| {
        if level != LogLevel::Info {
            let _ = sender.try_send(text);
        }
    }));
    let work = client.check_storage(name, meter.clone(), context.interrupted().token());
    tokio::pin!(work);
    let mut line = Line::new(&context.out);
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let report = loop {
        tokio::select! {
            report = &mut work => break report,
            _ = tick.tick() => {
                let seen = meter.snapshot().objects_done;
                let seen = if seen > 0 { counted(seen, "object") } else { String::new() };
                let parts = [format!("check {name}"), meter.phase(), seen];
                let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                line.show("running", &escape(&parts.join(", ")));
            }
        }
    };
    line.end();
    for text in messages.try_iter() {
        output::stderr(&format!("warning: {}", escape(&text)));
    }
    report
}

/// The findings by kind, what is wrong first.
pub fn text(out: &Out, report: &StorageReport) -> String {
    let mut text = String::new();
    for group in report.groups() {
        text.push_str(&format!("{}:\n", group.title()));
        for (finding, remedy) in group.with_remedies(SHOWN) {
            text.push_str(&format!("  {}\n", sentence(finding)));
            if let Some(remedy) = remedy {
                text.push_str(&format!("  -> {}\n", escape(&out.commands(remedy))));
            }
        }
        if let Some(more) = group.findings.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            text.push_str(&format!("  and {} more (all of them with -o json)\n", count(more as u64)));
        }
    }
    if report.omitted > 0 {
        let findings = counted(report.omitted, "more finding");
        text.push_str(&format!("not listed here: {findings}; repair, and check again\n"));
    }
    text.push_str(&format!("{}\n", report.size_words()));
    text.push_str(match (report.ok, report.removable.objects) {
        (true, 0) => "nothing is wrong\n",
        (true, _) => "nothing is wrong with a backup\n",
        (false, _) => "SOMETHING IS WRONG with what is named above\n",
    });
    if report.removable.objects > 0 {
        let (objects, size) = (counted(report.removable.objects, "object"), bytes(report.removable.bytes));
        text.push_str(&format!("{objects} can be removed, which frees {size}\n"));
    }
    text
}

fn sentence(finding: &Finding) -> String {
    let place = finding.about();
    let many = if finding.objects > 1 { format!("{} objects, ", count(finding.objects)) } else { String::new() };
    let is_missing =
        matches!(finding.kind, FindingKind::MissingObject | FindingKind::MissingBlock | FindingKind::WrongSize);
    let size = match finding.bytes {
        0 => String::new(),
        size if is_missing => format!(" (should be {})", bytes(size)),
        size => format!(" ({many}{})", bytes(size)),
    };
    let mark = if finding.removable { " [removable]" } else { "" };
    format!("{place}{size}{mark}: {}", finding.detail)
}

/// What a repair removes.
fn planned(name: &str, plan: &RepairPlan) -> String {
    if plan.is_empty() {
        return "the repair has nothing to remove\n".to_owned();
    }
    let mut text = format!("the repair of {} removes:\n", escape(name));
    for line in plan.lines().concat() {
        text.push_str(&format!("  {line}\n"));
    }
    let amount = plan.amount();
    text.push_str(&format!("{}, which frees {}\n", counted(amount.objects, "object"), bytes(amount.bytes)));
    text
}
