//! `mongokeep storage sync`: what a storage holds, found again; with `--state` the store that a copy was made of, too.

use clap::{Arg, ArgMatches, Command};

use super::args::{flags, needed, one, positional, switch};
use super::context::Context;
use crate::client::{StateReport, SyncReport, SyncedSlices};
use crate::domain::fields::IDENTITY_FIELD;
use crate::domain::text::{count, counted, escape};
use crate::error::{Error, Result};

pub fn command() -> Command {
    Command::new("sync")
        .about(
            "Find the backups that are in it; with --state also bring back services, storages, schedules and settings",
        )
        .arg(positional("name", "NAME", "name of the storage"))
        .arg(switch("dry-run", "print what would change in the catalogue, change nothing, exit 0"))
        .arg(switch(
            "state",
            "first bring back the copy of the store that it keeps (see the setting state.backup_storage)",
        ))
        .args(flags(&[IDENTITY_FIELD]))
        .arg(Arg::new("installation").long("installation").value_name("ID").help("whose copy, where there are several"))
}

pub async fn sync(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let name = needed(matches, "name")?;
    let (identity, installation) = (one(matches, IDENTITY_FIELD.key), one(matches, "installation"));
    let client = context.client()?;
    let dry = super::args::given(matches, "dry-run");
    let state = if super::args::given(matches, "state") {
        if dry {
            return Err(Error::invalid("dry-run", "is of the backups only; leave it out together with --state"));
        }
        Some(Box::new(client.bring_back_state(&name, identity.as_deref(), installation.as_deref()).await?))
    } else if let Some(key) =
        [("identity-file", &identity), ("installation", &installation)].iter().find(|(_, v)| v.is_some())
    {
        return Err(Error::invalid(key.0, "belongs to --state"));
    } else {
        None
    };
    let report = match dry {
        true => client.plan_sync(&name).await?.report,
        false => SyncReport { state, ..client.sync_storage(&name).await? },
    };
    context.out.result(&report, || {
        let state = report.state.as_ref().map_or_else(String::new, |state| state_text(context, state));
        format!("{state}{}", sync_text(&report))
    })?;
    for warning in &report.warnings {
        context.out.warn(warning);
    }
    Ok(u8::from(!dry && !report.is_ok()))
}

fn state_text(context: &Context, state: &StateReport) -> String {
    let mut text = String::new();
    let mut group = |title: &str, lines: &mut dyn Iterator<Item = String>| {
        let lines: Vec<String> = lines.map(|line| format!("  {line}\n")).collect();
        if !lines.is_empty() {
            text.push_str(&format!("{title}:\n{}", lines.concat()));
        }
    };
    let shown = |names: &[String]| names.iter().map(|name| escape(name)).collect::<Vec<_>>();
    for (title, names) in [
        ("services brought back", &state.services),
        ("storages brought back", &state.storages),
        ("schedules brought back", &state.schedules),
        ("settings brought back", &state.settings),
        ("here already and left as it is", &state.kept),
        ("schedules that are off until the missing secrets are given", &state.switched_off),
    ] {
        group(title, &mut shown(names).into_iter());
    }
    let typed = |command: &String| escape(&context.out.commands(command));
    let missing = state.missing_secrets.iter();
    let missing =
        missing.map(|m| format!("{} {}: {}: {}", m.kind, escape(&m.name), escape(&m.what), typed(&m.command)));
    group("secrets that the copy does not hold", &mut missing.into_iter());
    group("notes", &mut state.notes.iter().map(typed));
    group("next", &mut state.next.iter().map(typed));
    let of = if state.encrypted { "encrypted copy" } else { "copy without secrets" };
    format!("{of} of the store of {}, written {}\n{text}", escape(&state.host), context.out.minute(state.written_at))
}

fn sync_text(report: &SyncReport) -> String {
    let mut text = String::new();
    for group in report.groups().iter().filter(|group| !group.lines.is_empty()) {
        text.push_str(&format!("{}:\n", group.title));
        for line in group.lines {
            text.push_str(&format!("  {}\n", escape(line)));
        }
    }
    text.push_str(&format!("{} unchanged\n", counted(report.unchanged, "backup")));
    let slices = &report.slices;
    if *slices != SyncedSlices::default() {
        let (added, missing, unchanged) = (count(slices.added), count(slices.missing), count(slices.unchanged));
        let added_words = if report.planned { "to be added" } else { "added" };
        text.push_str(&format!(
            "slices of the oplog: {added} {added_words}, {missing} no longer in the storage, {unchanged} unchanged\n"
        ));
    }
    if report.planned {
        text.push_str("nothing was changed\n");
    }
    text
}
