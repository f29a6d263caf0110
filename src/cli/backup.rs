//! `mongokeep backup`: made, listed, verified, exported, deleted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use super::args::{flags, given, group, needed, one, positional, switch, values};
use super::contents::{Listed, Shown};
use super::context::Context;
use super::plan;
use super::table::{Column, Pairs, Table};
use super::wait::{self, Daemon, Line};
use super::{job, output};
use crate::client::{Removes, words_with};
use crate::domain::backup::{Backup, BackupState};
use crate::domain::fields::{BACKUP_FIELDS, IDENTITY_FIELDS};
use crate::domain::job::LogLevel;
use crate::domain::service::EngineKind;
use crate::domain::text::{bytes, count, duration, escape};
use crate::engine::Meter;
use crate::error::{Error, ErrorKind, Result, io};

/// Messages of an export that wait to be shown; more are dropped rather than kept.
const MESSAGES: usize = 256;

pub fn command() -> Command {
    let name = || positional("name", "NAME", "name of the backup");
    let only =
        |id: &'static str, shown: &'static str, help: &'static str| Arg::new(id).long(id).value_name(shown).help(help);
    group("backup", "Backups: create, list, verify, export, delete")
        .subcommand(
            Command::new("create")
                .about("Queue a backup")
                .args(flags(BACKUP_FIELDS))
                .arg(switch("wait", "until it is made; exit 1 if it fails")),
        )
        .subcommand(
            Command::new("list")
                .about("List the backups, the newest first")
                .arg(only("service", "SERVICE", "of this service only"))
                .arg(only("storage", "STORAGE", "in this storage only")),
        )
        .subcommand(Command::new("show").about("Show a backup and what it holds").arg(name()))
        .subcommand(Command::new("pin").about("Keep a backup from being deleted").arg(name()))
        .subcommand(Command::new("unpin").about("Let a backup be deleted again").arg(name()))
        .subcommand(
            Command::new("delete")
                .about("Delete a backup; without --yes the plan is printed")
                .arg(name())
                .arg(switch("keep-files", "remove the record alone, and leave the files in the storage"))
                .arg(switch("foreign", "also what another installation made; the plan says which"))
                .arg(switch("dry-run", "print the plan, change nothing, exit 0"))
                .arg(switch("yes", "do what the plan says")),
        )
        .subcommand(
            Command::new("verify")
                .about("Read a backup back and check every byte")
                .arg(name())
                .args(flags(IDENTITY_FIELDS)),
        )
        .subcommand(
            Command::new("export")
                .about("Write the layout of mongodump, for mongorestore --oplogReplay")
                .arg(name())
                .arg(only("to", "DIR", "an empty or new folder").required(true))
                .args(flags(IDENTITY_FIELDS)),
        )
}

pub async fn run_backup(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let out = &context.out;
    let Some((verb, sub)) = matches.subcommand() else { return Ok(2) };
    match verb {
        "create" => {
            let values = values(sub, BACKUP_FIELDS, true, out)?;
            let client = context.client()?;
            let job = client.call(move |c| c.create_backup(&values)).await?;
            if given(sub, "wait") {
                return wait::ended(context, &client, job, Daemon::Started).await;
            }
            return job::queued(context, job);
        }
        "list" => list(context, sub)?,
        "show" => {
            let client = context.client()?;
            let backup = client.backup(&needed(sub, "name")?)?;
            let shown = Shown::read(context, &client, Listed::one(&client, &backup)?).await;
            out.result(&shown, || pairs(context, &shown.listed).render() + &shown.text(context))?;
        }
        "pin" | "unpin" => {
            let client = context.client()?;
            let backup = client.pin_backup(&needed(sub, "name")?, verb == "pin")?;
            let listed = Listed::one(&client, &backup)?;
            out.object(&listed, || pairs(context, &listed))?;
        }
        "verify" => {
            let (client, name, identity) = (context.client()?, needed(sub, "name")?, one(sub, "identity_file"));
            let job = client.call(move |c| c.verify_backup(&name, identity.as_deref())).await?;
            return wait::ended(context, &client, job, Daemon::Started).await;
        }
        "delete" => return delete(context, sub).await,
        _ => {
            let identity = one(sub, "identity_file");
            return export(context, &needed(sub, "name")?, &needed(sub, "to")?, identity.as_deref()).await;
        }
    }
    Ok(0)
}

fn list(context: &Context, sub: &ArgMatches) -> Result<()> {
    let client = context.client()?;
    let (service, storage) = (one(sub, "service"), one(sub, "storage"));
    let mut backups = client.backups()?;
    backups.retain(|b| {
        service.as_ref().is_none_or(|s| b.service == *s) && storage.as_ref().is_none_or(|s| b.storage == *s)
    });
    if backups.is_empty() {
        // Backups of a service that was removed are still listed, so a name is only wrong when nothing has it.
        if let Some(name) =
            service.filter(|name| client.services().is_ok_and(|all| all.iter().all(|s| s.name != *name)))
        {
            return Err(Error::not_found("service", name).hint("mongokeep service list shows which there are"));
        }
        if let Some(name) =
            storage.filter(|name| client.storages().is_ok_and(|all| all.iter().all(|s| s.name != *name)))
        {
            return Err(Error::not_found("storage", name).hint("mongokeep storage list shows which there are"));
        }
    }
    let empty = "no backup yet; make one: mongokeep backup create --service SERVICE --storage STORAGE --wait";
    let listed = Listed::all(&client, &backups)?;
    context.out.list(&listed, || table(context, &listed), empty)
}

async fn delete(context: &Context, sub: &ArgMatches) -> Result<u8> {
    let (client, name, keep) = (context.client()?, needed(sub, "name")?, given(sub, "keep-files"));
    let foreign = given(sub, "foreign");
    let plan = client.plan_delete(&name, keep, foreign).await?;
    let (yes, dry) = (given(sub, "yes"), given(sub, "dry-run"));
    let stopped = match plan.removes {
        Removes::RecordAndFiles | Removes::Record => None,
        Removes::NothingYet => Some("--foreign deletes what another installation made"),
        Removes::Nothing => Some("the installation that makes it finishes or removes it"),
        Removes::NothingAlone => Some("delete the base of its chain: its increments go with it"),
    };
    if yes && !dry && stopped.is_none() {
        let attempt = plan.foreign.filter(|_| plan.removes == Removes::RecordAndFiles).map(|owner| owner.attempt_id);
        let increments = plan.increments;
        let job = client.call(move |c| c.delete_backup(&name, keep, attempt.as_deref(), &increments)).await?;
        return wait::ended(context, &client, job, Daemon::Started).await;
    }
    context.out.result(&plan, || plan::delete(&plan))?;
    if dry {
        return Ok(0);
    }
    match stopped {
        None => Err(plan::not_confirmed(&context.typed, "nothing was deleted")),
        Some(hint) => {
            let what = match &plan.base {
                Some(base) => format!("backup {name} is an increment of the chain of {base}, nothing was deleted"),
                None => format!("backup {name} is of another installation, nothing was deleted"),
            };
            Err(Error::new(ErrorKind::Conflict, what).hint(hint))
        }
    }
}

async fn export(context: &Context, name: &str, to: &str, identity_file: Option<&str>) -> Result<u8> {
    let to = PathBuf::from(to);
    let to = std::path::absolute(&to).map_err(|e| io(format!("to: {}", to.display()), e))?;
    let client = context.client()?;
    context
        .interrupted()
        .leaves(format!("the export in {} is not complete", to.display()), "remove that folder and start again");
    let (sender, messages) = sync_channel(MESSAGES);
    let meter = Arc::new(Meter::new(move |level, text| {
        if level != LogLevel::Info {
            let _ = sender.try_send(text);
        }
    }));
    let work = client.export_backup(name, &to, identity_file, meter.clone(), context.interrupted().token());
    tokio::pin!(work);
    let mut line = Line::new(&context.out);
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = tick.tick() => {
                for text in messages.try_iter() {
                    line.message(&format!("warning: {}", escape(&text)));
                }
                let mut progress = meter.snapshot();
                progress.bytes_per_second = (progress.bytes_done as f64 / began.elapsed().as_secs_f64().max(0.1)) as u64;
                let mut parts = vec![format!("export {name}")];
                parts.extend(wait::progress(&progress));
                parts.push(meter.phase());
                parts.retain(|part| !part.is_empty());
                line.show("running", &escape(&parts.join(", ")));
            }
        }
    };
    line.end();
    for text in messages.try_iter() {
        output::stderr(&format!("warning: {}", escape(&text)));
    }
    let report = result?;
    let value = json!({
        "backup": name,
        "to": to.to_string_lossy(),
        "bytes": report.bytes,
        "documents": report.documents,
        "objects": report.collections + report.views,
        "oplog_entries": report.oplog_entries,
        "left_out": report.left_out,
        "warnings": report.warnings,
        "command": report.command,
        "seconds": began.elapsed().as_secs_f64(),
    });
    context.out.result(&value, || {
        let mut text = format!("exported to {}\n", escape(&to.display().to_string()));
        for left in &report.left_out {
            text.push_str(&format!("left out: {}: {}\n", escape(&left.what), escape(&left.why)));
        }
        text + &format!("restore it with {}\n", escape(&report.command))
    })?;
    Ok(0)
}

fn state(b: &Backup) -> &'static str {
    match b.state {
        BackupState::Running => "running",
        BackupState::Succeeded if b.verify_error.is_some() => "DAMAGED",
        BackupState::Succeeded if b.verified_at.is_some() => "verified",
        BackupState::Succeeded => "done",
        BackupState::Failed => "failed",
        BackupState::Incomplete => "incomplete",
        BackupState::Deleting => "deleting",
    }
}

/// The backups as a table; also on the page of a service.
pub fn table(context: &Context, backups: &[Listed<'_>]) -> Table {
    // A column of its own, where there is something to tell.
    let has_chains = backups.iter().any(|listed| listed.chain_words.is_some());
    let mut columns = vec![
        Column::new("NAME"),
        Column::long("SERVICE"),
        Column::long("STORAGE"),
        Column::new("STATE"),
        Column::new("CONSISTENT AT"),
        Column::right("SIZE"),
        Column::right("DOCUMENTS"),
        Column::new("PINNED"),
    ];
    columns.extend(has_chains.then(|| Column::long("CHAIN")));
    let mut table = Table::new(columns);
    for Listed { backup: b, whole, chain_words, .. } in backups {
        let mut row = vec![
            b.name.clone(),
            b.service.clone(),
            b.storage.clone(),
            if *whole == Some(false) { format!("{}, partial", state(b)) } else { state(b).into() },
            context.out.minute(b.consistent_at),
            b.size_bytes.map_or_else(String::new, bytes),
            b.documents.map_or_else(String::new, count),
            if b.pinned { "pinned".into() } else { String::new() },
        ];
        row.extend(has_chains.then(|| chain_words.clone().unwrap_or_default()));
        table.row(row);
    }
    table
}

/// Whether something was left out by choice, in words.
fn holds(backup: &Backup, whole: Option<bool>) -> Option<String> {
    let words = match (whole, backup.engine) {
        (Some(true), _) => "everything",
        (Some(false), _) => "only what was chosen",
        (None, EngineKind::Mongodump) => "not known whether everything: mongodump writes it down only with --oplog",
        (None, EngineKind::Native | EngineKind::Pbm) => return None,
    };
    Some(words.to_owned())
}

fn pairs(context: &Context, listed: &Listed<'_>) -> Pairs {
    let (out, b) = (&context.out, listed.backup);
    let begun = b.begun_at();
    let finished = b.finished_at.filter(|_| begun.is_some());
    let took =
        begun.zip(finished).map(|(begun, end)| duration(u64::try_from((end - begun).num_seconds()).unwrap_or(0)));
    let position = b.consistent_at_ts.map(|ts| ts.to_string());
    Pairs::new()
        .add("name", &b.name)
        .add("state", state(b))
        .add("service", &b.service)
        .add("cluster", b.cluster.clone().unwrap_or_default())
        .add("storage", &b.storage)
        .add("folder", &b.folder)
        .add("model", b.model.word())
        .add("type", b.backup_type.word())
        .some("chain", listed.chain_words.clone())
        .some("made by", b.made_by())
        .some("schedule", b.schedule.clone())
        .some("holds", holds(b, listed.whole))
        .add("pinned", if b.pinned { "yes" } else { "no" })
        .add("consistent at", b.consistent_at.map_or_else(String::new, |at| out.time(at)))
        .some("oplog position", position)
        .add("size", b.size_bytes.map_or_else(String::new, bytes))
        .add("uncompressed", b.uncompressed_bytes.map_or_else(String::new, bytes))
        .add("compression", b.compression.to_string())
        .some("encrypted to", b.encryption.as_ref().map(|e| words_with(&e.recipients, listed.of_passphrase.as_ref())))
        .add("documents", b.documents.map_or_else(String::new, count))
        .add("started", begun.map_or_else(|| "nothing in it says when".to_owned(), |at| out.time(at)))
        .some("finished", finished.map(|at| out.time(at)))
        .some("took", took)
        .some("server", b.server_version.clone())
        .some("FCV", b.fcv.clone())
        .some("verified", b.verified_at.map(|at| out.time(at)))
        .some("damage", b.verify_error.clone())
        .some("error", b.error.clone())
}
