//! `mongokeep schedule retention`: what would be deleted, and why each other backup stays.

use clap::ArgMatches;

use super::args::needed;
use super::context::Context;
use super::table::{Column, Table};
use crate::domain::retention::{PlannedOplog, RetentionPlan};
use crate::domain::text::{bytes, count};
use crate::error::Result;

pub fn run_retention(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let plan = context.client()?.retention_plan(&needed(matches, "name")?)?;
    context.out.result(&plan, || text(context, &plan))?;
    Ok(0)
}

fn text(context: &Context, plan: &RetentionPlan) -> String {
    let oplog = plan.oplog.as_ref().map_or_else(String::new, |oplog| window(context, oplog));
    if plan.backups.is_empty() && plan.deleting.is_empty() {
        return format!("{} has made no backup yet\n{oplog}", plan.schedule);
    }
    let mut table = Table::new([
        Column::new("BACKUP"),
        Column::new("STORAGE"),
        Column::long("FOLDER"),
        Column::new("CONSISTENT AT"),
        Column::right("SIZE"),
        Column::new(""),
        Column::long("WHY"),
    ]);
    for backup in &plan.backups {
        table.row([
            backup.name.clone(),
            backup.storage.clone(),
            backup.folder.clone(),
            context.out.minute(Some(backup.at)),
            backup.size_bytes.map_or_else(String::new, bytes),
            if backup.keep { "stays" } else { "goes" }.to_owned(),
            backup.reasons.iter().chain(&backup.error).cloned().collect::<Vec<_>>().join(", "),
        ]);
    }
    for backup in &plan.deleting {
        table.row([
            backup.name.clone(),
            backup.storage.clone(),
            backup.folder.clone(),
            String::new(),
            backup.size_bytes.map_or_else(String::new, bytes),
            "deleting".to_owned(),
            backup.error.clone().unwrap_or_default(),
        ]);
    }
    let freed = plan.going().filter_map(|b| b.size_bytes).fold(0, u64::saturating_add);
    let end = match plan.going().count() {
        0 => "nothing is deleted\n".to_owned(),
        count => format!("the next run deletes {count} of them and frees {}\n", bytes(freed)),
    };
    let width = super::output::columns(std::io::stdout());
    format!("{}{end}{oplog}", table.render(width))
}

/// Which oplog slices are deleted, and where the recoverable window begins then.
fn window(context: &Context, oplog: &PlannedOplog) -> String {
    let Some(from) = oplog.from else { return "no oplog slice is deleted\n".to_owned() };
    let from = context.out.time(from);
    match oplog.slices {
        0 => format!("no oplog slice is deleted; the recoverable window begins at {from}\n"),
        1 => format!(
            "1 oplog slice is deleted, which frees {}; the recoverable window begins at {from}\n",
            bytes(oplog.size_bytes)
        ),
        n => format!(
            "{} oplog slices are deleted, which frees {}; the recoverable window begins at {from}\n",
            count(n),
            bytes(oplog.size_bytes)
        ),
    }
}
