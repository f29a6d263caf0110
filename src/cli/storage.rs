//! `mongokeep storage`: where backups are kept.

use clap::{ArgMatches, Command};
use serde_json::json;

use super::args::{edit_flags, flags, given, group, needed, nothing_to_change, positional, switch, values};
use super::context::Context;
use super::table::{Column, Pairs, Table};
use super::{storage_check, storage_sync};
use crate::client::{STORAGE_FIELDS, StorageView, storage_fields, storage_types};
use crate::domain::command_line::quoted;
use crate::domain::encryption::Proof;
use crate::domain::field::{Field, FieldKind};
use crate::domain::fields::ENCRYPTION_FIELDS;
use crate::domain::storage::TestStep;
use crate::domain::text::{bytes, count, escape};
use crate::error::{Error, ErrorKind, Result};

pub fn command() -> Command {
    let name = || positional("name", "NAME", "name of the storage");
    let fields = fields();
    group("storage", "Where backups are kept")
        .subcommand(
            Command::new("add")
                .about("Add a storage; contacts nothing without --test")
                .arg(name())
                .args(flags(&fields))
                .arg(switch("test", "try it first, and add it only when it works")),
        )
        .subcommand(Command::new("list").about("List the storages"))
        .subcommand(Command::new("show").about("Show a storage, without its secrets").arg(name()))
        .subcommand(
            Command::new("edit").about("Change what is given, keep the rest").arg(name()).args(edit_flags(&fields)),
        )
        .subcommand(Command::new("remove").about("Forget a storage; what it holds stays").arg(name()))
        .subcommand(
            Command::new("test")
                .about("Find the server, list, write, read and delete a probe, and upload one in parts")
                .arg(name()),
        )
        .subcommand(storage_sync::command())
        .subcommand(storage_check::command())
}

/// The flags of all types; which of them apply is decided when the type is known.
fn fields() -> Vec<Field> {
    let mut all: Vec<Field> = Vec::new();
    let own = storage_types().flat_map(storage_fields);
    for field in
        STORAGE_FIELDS.iter().copied().chain(own).chain(ENCRYPTION_FIELDS.iter().copied()).filter(|f| f.key != "name")
    {
        if !all.iter().any(|known| known.key == field.key) {
            all.push(field);
        }
    }
    all
}

pub async fn run_storage(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let out = &context.out;
    let Some((verb, sub)) = matches.subcommand() else { return Ok(2) };
    match verb {
        "list" => {
            let storages = context.client()?.storages()?;
            let empty = "no storage yet; add one: mongokeep storage add NAME --type filesystem --path DIR";
            out.list(&storages, || table(context, &storages), empty)?;
        }
        "add" => {
            let name = needed(sub, "name")?;
            let mut values = values(sub, &fields(), true, out)?;
            values.insert("name".into(), vec![name.clone()]);
            let client = context.client()?;
            let mut passed = None;
            if given(sub, "test") {
                let steps = client.test_draft(None, &values, &on_step(context)).await?;
                if let Some(failed) = steps.iter().find(|s| !s.ok) {
                    let what = format!("storage {name} was not added: {} failed: {}", failed.id, failed.detail);
                    return Err(Error::new(ErrorKind::Failed, what));
                }
                passed = Some(steps);
            }
            let is_tested = passed.is_some();
            let view = client.call(move |c| {
                let view = c.add_storage(&values)?;
                let Some(steps) = passed else { return Ok(view) };
                c.keep_test(&view.name, &steps)?;
                c.storage(&view.name)
            });
            let view = view.await?;
            out.object(&view, || pairs(context, &view))?;
            for advice in view.encryption.iter().flat_map(|encryption| encryption.advice(&name)) {
                out.note(&advice);
            }
            if is_tested {
                out.note("added");
            } else {
                out.note(&format!("added; try it with mongokeep storage test {}", quoted(&name)));
            }
        }
        "edit" => {
            let values = values(sub, &fields(), false, out)?;
            if values.is_empty() {
                return Err(nothing_to_change());
            }
            let (client, name) = (context.client()?, needed(sub, "name")?);
            let edited = client.call(move |c| {
                let before = c.storage(&name)?;
                Ok((before, c.edit_storage(&name, &values)?))
            });
            let (before, view) = edited.await?;
            out.object(&view, || pairs(context, &view))?;
            if before.encryption.is_some() && view.encryption.is_none() {
                out.warn(&format!(
                    "storage {} encrypts nothing from now on: the next backup is stored in plain text; what is there stays as it is",
                    view.name
                ));
            }
            for advice in view.encryption.iter().flat_map(|encryption| encryption.advice(&view.name)) {
                out.note(&advice);
            }
        }
        "show" => {
            let client = context.client()?;
            let view = client.storage(&needed(sub, "name")?)?;
            out.object(&view, || pairs(context, &view))?;
            if let Some(warning) = client.encryption_warning(&view)? {
                out.warn(&warning);
            }
        }
        "remove" => {
            let name = needed(sub, "name")?;
            context.client()?.remove_storage(&name)?;
            out.result(&json!({"removed": name}), || format!("storage {name} removed; what it holds stays\n"))?;
        }
        "test" => return test(context, &needed(sub, "name")?).await,
        "check" => return storage_check::check(context, sub).await,
        _ => return storage_sync::sync(context, sub).await,
    }
    Ok(0)
}

async fn test(context: &Context, name: &str) -> Result<u8> {
    let out = &context.out;
    let steps = context.client()?.test_storage(name, &on_step(context)).await?;
    let failed = steps.iter().find(|s| !s.ok);
    let ok = failed.is_none() && !steps.is_empty();
    out.result(&json!({"storage": name, "ok": ok, "steps": steps}), || {
        if ok { format!("storage {name} works\n") } else { format!("storage {name} does not work\n") }
    })?;
    if out.json || out.quiet {
        for step in steps.iter().filter(|s| !s.ok) {
            out.warn(&format!("{}: {}", step.id, step.detail));
        }
    }
    Ok(u8::from(!ok))
}

/// Shows the steps as they end: a storage that does not answer takes its time.
fn on_step(context: &Context) -> impl Fn(&TestStep) + Send + Sync + use<> {
    let out = context.out.clone();
    move |step: &TestStep| {
        if !out.json && !out.quiet {
            super::output::stderr(&out.commands(&step_line(step)));
        }
    }
}

fn step_line(step: &TestStep) -> String {
    let detail = if step.detail.is_empty() { String::new() } else { format!("  {}", escape(&step.detail)) };
    format!("{:10}{}  {:.1} s{detail}", escape(&step.id), if step.ok { "ok    " } else { "FAILED" }, step.seconds)
}

fn last_test(context: &Context, s: &StorageView) -> String {
    match (s.last_test_at, &s.last_test_error) {
        (None, _) => "never".into(),
        (at, None) => format!("passed {}", context.out.minute(at)),
        (at, Some(_)) => format!("FAILED {}", context.out.minute(at)),
    }
}

fn table(context: &Context, storages: &[StorageView]) -> Table {
    let mut table = Table::new([
        Column::new("NAME"),
        Column::new("TYPE"),
        Column::right("BACKUPS"),
        Column::right("SIZE"),
        Column::new("LAST TEST"),
        Column::long("WHERE"),
    ]);
    for s in storages {
        let cells =
            [s.name.clone(), s.kind.clone(), count(s.backups), bytes(s.bytes), last_test(context, s), s.place.clone()];
        table.row(cells);
    }
    table
}

fn pairs(context: &Context, s: &StorageView) -> Pairs {
    let mut pairs = Pairs::new().add("name", &s.name).add("type", &s.kind).add("where", &s.place);
    for field in storage_fields(&s.kind).iter().filter(|f| f.kind != FieldKind::Secret) {
        pairs = pairs.some(field.key, s.config.get(field.key).cloned());
    }
    if let Some(encryption) = &s.encryption {
        let proof = encryption.proof.map_or("missing: no backup begins", Proof::word);
        pairs = pairs.add("encrypted to", encryption.words()).add("proof", proof);
    }
    pairs
        .add("schedules", count(s.schedules))
        .add("backups", count(s.backups))
        .add("size", bytes(s.bytes))
        .add("last test", last_test(context, s))
        .some("failure", s.last_test_error.clone())
}
